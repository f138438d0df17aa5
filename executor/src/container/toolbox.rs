//! Our client inside any image: the program with its own loader and libraries, in one folder that is bound
//! read-only at `/.sluice`.
//!
//! ```text
//!  TOOLBOX/ bin/srun … (links to lib/sluice)   lib/sluice lib/loader lib/libc.so.6 …   slurm_script  run/  runs/
//! ```
//!
//! An image may have another C library, an older one, or none. So the program's copy names the loader beside it
//! (the name is shorter than any system's and is written over the old one in its ELF header), and it is linked
//! with a run path of `/.sluice/lib` (client/build.rs). The empty file and folders are places for mounts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the folder is seen inside.
pub const INSIDE: &str = "/.sluice";
const LOADER: &str = "/.sluice/lib/loader";
/// Every name of the client, as scripts/lib.sh links them.
const NAMES: [&str; 16] = [
    "sluice", "sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr",
    "sprio", "sshare", "sdiag", "sstat", "sattach", "sbcast",
];
/// Tells for which program the folder was made.
const MADE_FOR: &str = "made-for";

/// Makes the folder, or keeps the one that is there, where it was made for the same program. Blocking.
///
/// # Errors
/// A sentence.
pub fn make(commands: &Path, place: &Path) -> Result<PathBuf, String> {
    let folder = place.join("toolbox");
    let program = commands.join("sluice");
    let facts = fs::metadata(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    let made_for = format!("{} {} {} {}\n", program.display(), facts.ino(), facts.len(), facts.mtime_nsec());
    if fs::read_to_string(folder.join(MADE_FOR)).is_ok_and(|text| text == made_for) {
        return Ok(folder);
    }
    let new = place.join("toolbox.new");
    let fill = || -> io::Result<()> {
        let _ = fs::remove_dir_all(&new);
        for name in ["bin", "lib", "run", "runs"] {
            fs::create_dir_all(new.join(name))?;
        }
        fs::write(new.join("slurm_script"), "")?;
        let mut bytes = fs::read(&program)?;
        if let Some(loader) = name_loader(&mut bytes).map_err(io::Error::other)? {
            fs::copy(&loader, new.join("lib/loader"))?;
            for (name, path) in libraries(&loader, &program)? {
                fs::copy(path, new.join("lib").join(name))?;
            }
        }
        let copy = new.join("lib/sluice");
        fs::write(&copy, bytes)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        for name in NAMES {
            symlink("../lib/sluice", new.join("bin").join(name))?;
        }
        fs::write(new.join(MADE_FOR), &made_for)?;
        // Running containers keep the old folder, wherever it is called.
        let old = place.join("toolbox.old");
        let _ = fs::remove_dir_all(&old);
        match fs::rename(&folder, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &folder)
    };
    fill().map_err(|error| {
        format!("cannot prepare the client for containers in {}: {error}", folder.display())
    })?;
    Ok(folder)
}

/// Writes our loader's name over the program's own, and gives that; `None`: it needs none (linked statically).
fn name_loader(bytes: &mut [u8]) -> Result<Option<PathBuf>, &'static str> {
    const INTERPRETER: u32 = 3;
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF program");
    }
    let number = |bytes: &[u8], at: usize, size: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let value = field.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    let cut = "its ELF header is cut short";
    let table = number(bytes, 32, 8).ok_or(cut)?;
    let (size, count) = (number(bytes, 54, 2).ok_or(cut)?, number(bytes, 56, 2).ok_or(cut)?);
    for index in 0..count {
        let at = table + index * size;
        if number(bytes, at, 4) != Some(INTERPRETER as usize) {
            continue;
        }
        let (begin, length) = (number(bytes, at + 8, 8).ok_or(cut)?, number(bytes, at + 32, 8).ok_or(cut)?);
        let field = bytes.get_mut(begin..begin.saturating_add(length)).ok_or(cut)?;
        let old: Vec<u8> = field.iter().copied().take_while(|byte| *byte != 0).collect();
        if LOADER.len() >= length {
            return Err("the name of its loader is too short to be replaced");
        }
        field.fill(0);
        field[..LOADER.len()].copy_from_slice(LOADER.as_bytes());
        let old = String::from_utf8(old).map_err(|_| "the name of its loader is no text")?;
        return Ok(Some(PathBuf::from(old)));
    }
    Ok(None)
}

/// The libraries that the loader would give the program, by name.
fn libraries(loader: &Path, program: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let output = Command::new(loader).arg("--list").arg(program).env_clear().output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{} --list {} failed", loader.display(), program.display())));
    }
    Ok(parse_list(&String::from_utf8_lossy(&output.stdout)))
}

/// `  libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`
fn parse_list(text: &str) -> BTreeMap<String, PathBuf> {
    let read = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next()?;
        (!name.contains('/') && path.starts_with('/')).then(|| (name.to_owned(), PathBuf::from(path)))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_loader_is_replaced() {
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let loader = name_loader(&mut bytes).unwrap();
        assert!(loader.is_some_and(|path| path.exists()));
        assert_eq!(name_loader(&mut bytes).unwrap(), Some(PathBuf::from(LOADER)));
        assert!(name_loader(&mut b"#!/bin/sh".to_vec()).is_err());
        assert!(name_loader(&mut bytes[..60].to_vec()).is_ok_and(|found| found.is_none()));
    }

    #[test]
    fn the_list_of_libraries_is_read() {
        let text =
            "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7e)\n\t/lib64/ld.so => /x (0x1)\n";
        assert_eq!(
            parse_list(text),
            BTreeMap::from([("libc.so.6".to_owned(), PathBuf::from("/lib/libc.so.6"))])
        );
    }
}
