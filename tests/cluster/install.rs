//! `scripts/install`: an upgrade replaces what it put there, `--remove` takes exactly that away, nothing else's file is
//! touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::{Binaries, workspace_root};

/// Everything below a folder, sorted.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn install(arguments: &[&str]) -> (Output, String) {
    let out = Command::new(workspace_root().join("scripts/install")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned();
    (out, said)
}

/// Pages of every command and daemon, in which roff's own checkers find nothing; a checker that is not here is passed over.
fn manual_pages_are_sound(folder: &Path) {
    let pages: Vec<PathBuf> = tree(folder).into_iter().filter(|path| path.is_file()).collect();
    for name in ["man1/sbatch.1", "man1/squeue.1", "man8/sluice-scheduler.8", "man8/sluice-executor.8"] {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(text.lines().filter(|line| *line == ".TP").count() >= 3, "{name}: {text}");
    }
    assert!(pages.len() >= 18, "{pages:?}");
    for (checker, arguments) in
        [("groff", &["-man", "-Tutf8", "-ww", "-z"][..]), ("mandoc", &["-Tlint", "-W", "error"][..])]
    {
        let Ok(out) = Command::new(checker).args(arguments).args(&pages).output() else { continue };
        let said = String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned();
        assert!(out.status.success() && said.is_empty(), "{checker}: {said}");
    }
}

#[test]
fn what_is_installed_can_be_upgraded_and_removed_and_nothing_else_is_touched() {
    let folder = nix::unistd::mkdtemp("/tmp/sluice-install-XXXXXX").unwrap();
    let built = Binaries::get().unwrap().program("sluice").parent().unwrap().display().to_string();
    let prefix = folder.join("there/usr");
    fs::create_dir_all(prefix.join("bin")).unwrap();
    fs::write(prefix.join("bin/other"), "other's").unwrap();
    fs::create_dir_all(prefix.join("state")).unwrap();
    fs::write(prefix.join("state/journal"), "kept").unwrap();
    let before = tree(&folder);
    let place = prefix.display().to_string();

    let units = folder.join("etc/units");
    let at = units.display().to_string();
    for round in ["first", "upgrade", "with units", "upgrade with units"] {
        let with_units: &[&str] = if round.ends_with("units") { &["--units", &at] } else { &[] };
        let (out, said) = install(&[with_units, &["--from", &built, &place]].concat());
        assert!(out.status.success(), "{round}: {said}");
        let ran = Command::new(prefix.join("bin/sbatch")).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&ran.stdout).starts_with("slurm "), "{round}: {ran:?}");
        assert!(tree(&folder).iter().all(|path| !path.to_string_lossy().ends_with(".new")), "{round}");
    }
    for unit in ["sluice-scheduler", "sluice-jobs", "sluice-executor"] {
        let text = fs::read_to_string(units.join(format!("{unit}.service"))).unwrap();
        assert!(text.contains(&format!("ExecStart={place}/bin/sluice-")) && !text.contains('@'), "{text}");
    }
    manual_pages_are_sound(&prefix.join("share/man"));
    // An upgrade without units leaves them, and still knows them.
    let (out, said) = install(&["--from", &built, &place]);
    assert!(out.status.success() && units.join("sluice-jobs.service").exists(), "{said}");
    let (out, said) = install(&["--remove", &place]);
    assert!(out.status.success(), "{said}");
    assert_eq!(tree(&folder), before, "exactly what was put there has gone");
    let (out, said) = install(&["--remove", &place]);
    assert!(!out.status.success() && said.contains("nothing that this script installed is known"), "{said}");

    // Another package's sbatch, as a file or as a link to its own.
    let sbatch = prefix.join("bin/sbatch");
    fs::write(&sbatch, "#!/bin/sh\n").unwrap();
    let before = tree(&folder);
    for link in [false, true] {
        if link {
            fs::remove_file(&sbatch).unwrap();
            std::os::unix::fs::symlink("other", &sbatch).unwrap();
        }
        let (out, said) = install(&["--from", &built, &place]);
        assert!(!out.status.success() && said.contains("bin/sbatch belongs to something else"), "{said}");
        assert_eq!(tree(&folder), before, "nothing half done");
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// The scripts of `sluice completion` in the shells themselves; a shell that is not here is passed over.
#[test]
fn zsh_and_fish_complete_our_commands() {
    let bin = Binaries::get().unwrap().program("sluice").parent().unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // zsh's own functions for a line editor that is not there are stood in for.
    let zsh = "source <(sluice completion zsh)\ncompadd() { print -l -- \"${@[-1]}\" }\n_files() { print files }\n\
               words=(sbatch --parti); CURRENT=2; _sluice\nwords=(scontrol sh); _sluice\nwords=(sbatch no.zz); _sluice\n";
    let fish = "sluice completion fish | source; complete -C 'sbatch --parti'; complete -C 'scontrol sh'";
    for (shell, arguments, expected) in [
        ("zsh", ["-f", "-c", zsh], "--partition=\nshow\nfiles\n"),
        ("fish", ["--no-config", "-c", fish], "--partition=\nshow\n"),
    ] {
        let home = std::env::temp_dir();
        let mut command = Command::new(shell);
        command.args(arguments).env("PATH", &path).env("HOME", home).env("SLUICE_SOCKET", "/no/such/socket");
        let Ok(out) = command.output() else { continue };
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{shell}: {out:?}");
    }
}
