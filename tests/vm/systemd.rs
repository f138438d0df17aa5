//! Both daemons under a real systemd, as `scripts/install --units` sets them up, on a machine with cgroup v2 only.
//!
//! The guest is Debian's cloud kernel, this machine's systemd (its first process, `systemctl` and the targets that a boot
//! needs, nothing else), busybox and the product at `/usr/local`. `guest-check` is a service there: it restarts, reloads,
//! upgrades, kills and hangs the daemons around a running job, lets the clock jump and the machine sleep, and says on the
//! console what it found. Needs neither root
//! nor KVM.
//!
//! usage: vm-systemd --kernel FOLDER

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::guest::{Guest, Root, one_below, ran};
use tests::workspace_root;

/// From qemu's start to the verdict. Emulated on a loaded machine it can be minutes.
const PATIENCE: Duration = Duration::from_secs(580);
/// systemd's files, as Debian installs them.
const SYSTEMD: [&str; 3] = ["/lib/systemd/systemd", "/bin/systemctl", "/lib/systemd/systemd-shutdown"];
/// What a boot to `multi-user.target` needs, without the services that hang on it.
const TARGETS: [&str; 17] = [
    "basic.target",
    "final.target",
    "local-fs.target",
    "local-fs-pre.target",
    "multi-user.target",
    "network.target",
    "paths.target",
    "remote-fs.target",
    "remote-fs-pre.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
];
const COMMANDS: &[&str] = &[
    "sh", "awk", "cat", "cp", "cut", "date", "echo", "grep", "head", "kill", "ls", "mkdir", "mv", "rm",
    "sed", "sleep", "tail", "test", "touch", "tr", "true", "[",
];
const DAEMONS: [&str; 5] =
    ["sluice", "sluice-scheduler", "sluice-executor", "sluice-supervisor", "sluice-pmix"];
const NAMES: [&str; 5] = ["sbatch", "squeue", "sinfo", "sacct", "scontrol"];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm-systemd: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut words = std::env::args().skip(1);
    let (Some("--kernel"), Some(kernel)) = (words.next().as_deref(), words.next()) else {
        bail!("usage: vm-systemd --kernel FOLDER (tests/kernel prints one)");
    };
    for path in SYSTEMD {
        if !Path::new(path).exists() {
            bail!("{path} (Debian's package systemd) is missing");
        }
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    ran(Command::new(&cargo).args(["build", "--quiet", "--locked"]).current_dir(workspace_root()))?;
    let folder = nix::unistd::mkdtemp("/tmp/sluice-vm-XXXXXX").context("make a temporary folder")?;
    let result = boot(Path::new(&kernel), &folder);
    fs::remove_dir_all(&folder).context("remove the temporary folder")?;
    result
}

/// Boots, shows the console, and says whether every check passed.
fn boot(kernel: &Path, folder: &Path) -> Result<bool> {
    let initramfs = initramfs(folder)?;
    let kernel = one_below(&kernel.join("boot"), "vmlinuz-")?;
    let guest = Guest::boot(&kernel, &initramfs, 1536, "systemd.log_target=console systemd.show_status=0")?;
    let (mut passed, mut failed) = (0, 0);
    loop {
        let line = guest.line(PATIENCE)?;
        if line.contains("guest: ok ") {
            passed += 1;
        } else if line.contains("guest: FAILED ") {
            failed += 1;
        } else if line.contains("guest: ended") {
            println!("{passed} passed, {failed} failed");
            return Ok(failed == 0 && passed > 0);
        }
    }
}

fn initramfs(folder: &Path) -> Result<PathBuf> {
    let place = folder.join("root");
    let root = Root::new(&place, &["proc", "sys", "dev", "run", "tmp", "etc", "root", "var/lib", "var/tmp"])?;
    root.commands(COMMANDS)?;
    for program in SYSTEMD {
        root.program(Path::new(program))?;
    }
    let units = place.join("etc/systemd/system");
    fs::create_dir_all(&units)?;
    for target in TARGETS {
        root.put(
            &Path::new("/lib/systemd/system").join(target),
            &Path::new("/etc/systemd/system").join(target),
        )?;
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/hostname", "guest\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/os-release", "ID=guest\nNAME=guest\nVERSION_ID=1\n"),
    ] {
        fs::write(place.join(path), text).with_context(|| format!("write {path}"))?;
    }
    install(&root, &place, &units)?;
    let check = include_str!("guest-check");
    fs::write(place.join("guest-check"), check)?;
    fs::set_permissions(place.join("guest-check"), fs::Permissions::from_mode(0o755))?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    for unit in ["sluice-scheduler", "sluice-jobs", "sluice-executor", "guest-check"] {
        symlink(format!("../{unit}.service"), wants.join(format!("{unit}.service")))?;
    }
    symlink("multi-user.target", units.join("default.target"))?;
    let out = folder.join("initramfs");
    root.pack("#!/bin/busybox sh\nexec /lib/systemd/systemd\n", &out)?;
    Ok(out)
}

/// The product as `scripts/install --from … --units … /usr/local` leaves it, with its log on the console.
fn install(root: &Root, place: &Path, units: &Path) -> Result<()> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    let prefix = place.join("usr/local");
    let mut script = Command::new(workspace_root().join("scripts/install"));
    script.args(["--bin", "/usr/local/bin", "--units"]).arg(units).arg("--from").arg(target.join("debug"));
    ran(script.arg(&prefix))?;
    for name in DAEMONS {
        let file = prefix.join("bin").join(name);
        ran(Command::new("strip").arg(&file))?;
        root.libraries(&file)?;
    }
    for name in NAMES {
        anyhow::ensure!(prefix.join("bin").join(name).exists(), "scripts/install leaves no {name}");
    }
    fs::write(
        units.join("guest-check.service"),
        "[Unit]\nAfter=sluice-executor.service sluice-scheduler.service\n[Service]\nType=oneshot\n\
         ExecStart=/guest-check\nStandardOutput=append:/dev/console\nStandardError=append:/dev/console\n",
    )?;
    for unit in ["sluice-scheduler", "sluice-jobs", "sluice-executor"] {
        let more = units.join(format!("{unit}.service.d"));
        fs::create_dir_all(&more)?;
        let text = "[Service]\nStandardOutput=append:/dev/console\nStandardError=append:/dev/console\n\
                    Environment=SLUICE_CONTAINER_PROBE=lazy\n";
        fs::write(more.join("console.conf"), text)?;
    }
    Ok(())
}
