//! The virtual machine: a Debian kernel, an initramfs of busybox and one static program, a disk with a write log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::guest::{Root, one_below, ran};
use tests::workspace_root;

const DISK_MIB: u64 = 96;
/// From qemu's start to the first number; emulated without KVM on a loaded machine this is most of a minute.
const BOOT: Duration = Duration::from_secs(180);
/// From the first number to the last that is waited for.
const APPENDING: Duration = Duration::from_secs(60);

/// Modules between the kernel and a virtio disk, in the order of their dependencies.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
];

/// Whether the guest's file system flushes the disk.
#[derive(Clone, Copy)]
pub(crate) enum Barriers {
    On,
    /// `nobarrier`: the control.
    Off,
}

/// What was built for a run.
pub(crate) struct Tools {
    pub(crate) verify: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// A number seen on the console, and how long the write log was when it was seen (that is: at least as long as when
/// the number was printed).
pub(crate) struct Ack {
    pub(crate) number: u64,
    pub(crate) log_bytes: u64,
}

/// A finished run of the guest.
pub(crate) struct Recording {
    pub(crate) base: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) acks: Vec<Ack>,
}

impl Recording {
    /// The highest number known to be acknowledged when the log was `bytes` long; 0 if none.
    pub(crate) fn acknowledged_before(&self, bytes: u64) -> u64 {
        let before = self.acks.iter().take_while(|ack| ack.log_bytes <= bytes);
        before.last().map_or(0, |ack| ack.number)
    }
}

/// Builds the guest's program (static), the verifier, and the initramfs.
pub(crate) fn build(folder: &Path, kernel: &Path) -> Result<Tools> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = || {
        let mut command = Command::new(&cargo);
        command.current_dir(workspace_root());
        command
    };
    ran(cargo().args(["build", "--quiet", "--package", "journal", "--example", "verify"]))?;
    ran(cargo()
        .args([
            "rustc",
            "--quiet",
            "--package",
            "journal",
            "--example",
            "append_forever",
            "--target",
            &triple,
        ])
        .args(["--", "-C", "target-feature=+crt-static"]))?;
    let verify = target.join("debug/examples/verify");
    let append = target.join(&triple).join("debug/examples/append_forever");
    let vmlinuz = one_below(&kernel.join("boot"), "vmlinuz-")?;
    let modules = one_below(&kernel.join("lib/modules"), "")?.join("kernel");
    let initramfs = initramfs(folder, &append, &modules)?;
    Ok(Tools { verify, kernel: vmlinuz, initramfs })
}

fn initramfs(folder: &Path, append: &Path, modules: &Path) -> Result<PathBuf> {
    let root = Root::new(&folder.join("root"), &["proc", "dev", "mnt"])?;
    root.put(append, Path::new("/bin/append_forever"))?;
    let mut insert = String::new();
    for module in MODULES {
        let name = Path::new(module).file_name().expect("a module's path ends with a name");
        root.put(&modules.join(module), &Path::new("/").join(name))?;
        insert.push_str(&format!("$b insmod /{}\n", name.to_string_lossy()));
    }
    let init = format!(
        "#!/bin/busybox sh\nb=/bin/busybox\n$b mount -t proc proc /proc\n$b mount -t devtmpfs dev /dev\n{insert}\
         barriers=$($b grep -o 'barriers=[a-z]*' /proc/cmdline)\n\
         $b mount -t ext4 -o ${{barriers#barriers=}} /dev/vda /mnt || echo 'guest: cannot mount'\n\
         echo 'guest: appending'\n/bin/append_forever /mnt/j 1048576\necho \"guest: ended with $?\"\n$b poweroff -f\n"
    );
    let out = folder.join("initramfs");
    root.pack(&init, &out)?;
    Ok(out)
}

/// Boots the guest on an empty disk, waits for `wanted` numbers, and kills qemu.
pub(crate) fn record(tools: &Tools, folder: &Path, barriers: Barriers, wanted: u64) -> Result<Recording> {
    let base = folder.join("base.img");
    let disk = folder.join("disk.img");
    let log = folder.join("writes.log");
    File::create(&base).and_then(|file| file.set_len(DISK_MIB << 20)).context("make a disk")?;
    ran(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&base))?;
    fs::copy(&base, &disk).context("copy the disk")?;
    File::create(&log).context("make the write log")?;
    let mount = match barriers {
        Barriers::On => "barrier",
        Barriers::Off => "nobarrier",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-nic", "none", "-display", "none"]);
    command.args(["-no-reboot", "-serial", "stdio", "-monitor", "none"]);
    command.arg("-kernel").arg(&tools.kernel).arg("-initrd").arg(&tools.initramfs);
    command.args([
        "-append",
        &format!("console=ttyS0 rdinit=/init quiet panic=-1 mitigations=off no_timer_check barriers={mount}"),
    ]);
    command.args(["-blockdev", &format!("driver=file,node-name=file,filename={}", disk.display())]);
    command.args(["-blockdev", &format!("driver=file,node-name=log,filename={}", log.display())]);
    command.args(["-blockdev", "driver=blklogwrites,node-name=logged,file=file,log=log,log-sector-size=512"]);
    command.args(["-device", "virtio-blk-pci,drive=logged,write-cache=on"]);
    let mut qemu = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let console = qemu.stdout.take().expect("stdout was piped");
    let acks = watch(console, &log, wanted);
    let _ = qemu.kill();
    let out = qemu.wait_with_output().context("wait for qemu")?;
    let acks = acks.with_context(|| format!("qemu said: {}", String::from_utf8_lossy(&out.stderr).trim()))?;
    Ok(Recording { base, log, acks })
}

/// Reads numbers from the console until there are enough.
fn watch(console: impl std::io::Read + Send + 'static, log: &Path, wanted: u64) -> Result<Vec<Ack>> {
    let (send, lines) = mpsc::channel();
    // Ends with the console, which ends with qemu.
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut acks = Vec::new();
    let mut other = Vec::new();
    let mut deadline = Instant::now() + BOOT;
    while (acks.len() as u64) < wanted {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            if acks.is_empty() {
                bail!("the guest printed no number; its console:\n{}", other.join("\n"));
            }
            break;
        };
        match line.parse::<u64>() {
            Ok(number) => {
                if acks.is_empty() {
                    deadline = Instant::now() + APPENDING;
                }
                let log_bytes = fs::metadata(log).context("look at the write log")?.len();
                acks.push(Ack { number, log_bytes });
            }
            Err(_) => other.push(line),
        }
    }
    if other.iter().any(|line| line.starts_with("guest: ended") || line.starts_with("guest: cannot")) {
        bail!("the guest's console:\n{}", other.join("\n"));
    }
    Ok(acks)
}
