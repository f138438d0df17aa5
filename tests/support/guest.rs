//! What virtual machines of the tests share: a Debian kernel, an initramfs made here, nothing of the host but files that
//! are named.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
        self.libraries(path)
    }

    /// Copies the libraries and the loader that a program names.
    ///
    /// # Errors
    /// `ldd` failed, or a file cannot be copied.
    pub fn libraries(&self, path: &Path) -> Result<()> {
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

/// A machine that was booted; dropping it ends it.
pub struct Guest {
    qemu: Child,
    console: mpsc::Receiver<String>,
    begin: Instant,
}

impl Guest {
    /// Boots a kernel with an initramfs. `words` go to its command line.
    ///
    /// # Errors
    /// qemu cannot be started.
    pub fn boot(kernel: &Path, initramfs: &Path, memory_mib: u32, words: &str) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            &memory_mib.to_string(),
        ]);
        command.args([
            "-nic",
            "none",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-monitor",
            "none",
        ]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).arg("-append");
        command.arg(format!(
            "console=ttyS0 rdinit=/init quiet panic=-1 mitigations=off no_timer_check cgroup_no_v1=all {words}"
        ));
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let out = qemu.stdout.take().expect("stdout was piped");
        let (send, console) = mpsc::channel();
        // Ends with the console, which ends with qemu.
        thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { qemu, console, begin: Instant::now() })
    }

    /// The console's next line, which is also shown with its time. `patience` counts from the boot.
    ///
    /// # Errors
    /// The guest has ended, or says nothing.
    pub fn line(&self, patience: Duration) -> Result<String> {
        let left = patience.saturating_sub(self.begin.elapsed());
        let line = self.console.recv_timeout(left).context("the guest ended, or hung, without a verdict")?;
        println!("guest {:6.1} s | {line}", self.begin.elapsed().as_secs_f64());
        Ok(line)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
