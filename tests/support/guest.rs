//! What virtual machines of the tests share: a Debian kernel, an initramfs made here, nothing of the host but files that
//! are named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a command to its end; its output if it succeeded.
///
/// # Errors
/// It could not be started or failed; what it said is in the error.
pub fn ran(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("{:?} failed: {}", command.get_program(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The entry of a folder whose name begins like this.
///
/// # Errors
/// There is none.
pub fn one_below(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("list {} (tests/kernel unpacks it)", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let found =
        paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.with_context(|| format!("no {prefix}* in {}", folder.display()))
}

/// The file system that a guest starts with.
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// An empty one with busybox and these folders.
    ///
    /// # Errors
    /// The disk, or busybox is not installed.
    pub fn new(folder: &Path, folders: &[&str]) -> Result<Self> {
        for name in folders.iter().chain(&["bin"]) {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("make {name}"))?;
        }
        let root = Self { folder: folder.to_owned() };
        let busybox =
            ["/usr/bin/busybox", "/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.context("busybox (Debian's busybox-static) is missing")?;
        fs::copy(busybox, folder.join("bin/busybox")).context("copy busybox")?;
        Ok(root)
    }

    /// Names for busybox's commands.
    ///
    /// # Errors
    /// The disk.
    pub fn commands(&self, names: &[&str]) -> Result<()> {
        for name in names {
            std::os::unix::fs::symlink("/bin/busybox", self.folder.join("bin").join(name))
                .with_context(|| format!("link {name}"))?;
        }
        Ok(())
    }

    /// Copies a file to `place`, an absolute path of the guest.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn put(&self, file: &Path, place: &Path) -> Result<()> {
        let target = self.folder.join(place.strip_prefix("/").unwrap_or(place));
        let above = target.parent().context("a place has a folder")?;
        fs::create_dir_all(above).with_context(|| format!("make {}", above.display()))?;
        fs::copy(file, &target).with_context(|| format!("copy {}", file.display()))?;
        Ok(())
    }

    /// Copies a program to the path that it has here, without its symbols, and the libraries and the loader that it
    /// names.
    ///
    /// # Errors
    /// `ldd` or `strip` failed, or a file cannot be copied.
    pub fn program(&self, path: &Path) -> Result<()> {
        self.put(path, path)?;
        let copy = self.folder.join(path.strip_prefix("/").unwrap_or(path));
        ran(Command::new("strip").arg(&copy))?;
        let libraries = ran(Command::new("ldd").arg(path))?;
        for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.put(Path::new(word), Path::new(word))?;
        }
        Ok(())
    }

    /// Writes the first program, a script for busybox's shell, and packs everything into `out`.
    ///
    /// # Errors
    /// The disk.
    pub fn pack(&self, init: &str, out: &Path) -> Result<()> {
        let path = self.folder.join("init");
        fs::write(&path, init).context("write init")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("open init")?;
        let pack = "cd \"$1\" && find . | busybox cpio --quiet -o -H newc > \"$2\"";
        ran(Command::new("sh").args(["-c", pack, "sh"]).arg(&self.folder).arg(out)).map(drop)
    }
}
