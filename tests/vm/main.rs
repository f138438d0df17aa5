//! The executor's cgroup tests on a real version 2 kernel: a virtual machine without version 1, booted for them.
//!
//! The guest is Debian's cloud kernel with an initramfs of busybox, the test program of `executor/tests/cgroups.rs`, the
//! executor and its supervisor, at the paths that they have here. qemu emulates: neither KVM nor root is needed. The guest
//! runs the tests and says how they ended on its console, from which this program takes the counts. A test that would
//! pass over what a kernel lacks fails there (`SLUICE_TEST_ALL`): that kernel lacks nothing. First it prints what a launch costs
//! there, with all limits and without any: figures of an emulated machine, for comparing with each other only.
//!
//! usage: vm --kernel FOLDER [--filter NAME]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::guest::{Guest, Root, one_below, ran};
use tests::workspace_root;

/// From qemu's start to the verdict. Emulated on a loaded machine it can be minutes.
const PATIENCE: Duration = Duration::from_secs(400);
/// The test that prints figures of a launch (`figure: …`).
const FIGURES: &str = "figures_of_a_launch";
/// What the tests' scripts use.
const COMMANDS: &[&str] = &[
    "sh", "cat", "echo", "grep", "head", "id", "ls", "mkdir", "nproc", "seq", "setsid", "sleep", "tail",
    "taskset", "test", "touch", "true", "wc", "[",
];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    kernel: PathBuf,
    filter: String,
}

fn parse() -> Result<Arguments> {
    let mut arguments = Arguments { kernel: PathBuf::new(), filter: String::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--kernel" => arguments.kernel = PathBuf::from(value),
            "--filter" => arguments.filter = value,
            other => bail!("unknown argument {other:?}"),
        }
    }
    if arguments.kernel.as_os_str().is_empty() {
        bail!("--kernel FOLDER: an unpacked Debian kernel package (tests/kernel prints one)");
    }
    Ok(arguments)
}

fn run() -> Result<bool> {
    let arguments = parse()?;
    let programs = build()?;
    let folder = nix::unistd::mkdtemp("/tmp/sluice-vm-XXXXXX").context("make a temporary folder")?;
    let result = boot(&arguments, &programs, &folder);
    fs::remove_dir_all(&folder).context("remove the temporary folder")?;
    result
}

/// The test program first.
fn build() -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = |words: &[&str]| {
        let mut command = Command::new(&cargo);
        command.current_dir(workspace_root()).args(words).arg("--locked");
        ran(&mut command)
    };
    build(&["build", "--quiet", "--package", "executor", "--package", "executor-supervisor", "--bins"])?;
    let told = build(&[
        "test",
        "--quiet",
        "--package",
        "executor",
        "--test",
        "cgroups",
        "--no-run",
        "--message-format=json",
    ])?;
    let mut programs = Vec::new();
    // One message a line; the test's own names its file.
    for line in told.lines().filter(|line| line.contains("\"name\":\"cgroups\"")) {
        let file = line.split_once("\"executable\":\"").and_then(|(_, rest)| rest.split('"').next());
        programs.extend(file.map(PathBuf::from));
    }
    if programs.len() != 1 {
        bail!("cargo named {} programs of the test", programs.len());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from);
    programs.extend(["sluice-executor", "sluice-supervisor"].map(|name| target.join("debug").join(name)));
    Ok(programs)
}

fn initramfs(programs: &[PathBuf], filter: &str, folder: &Path) -> Result<PathBuf> {
    let root = Root::new(&folder.join("root"), &["proc", "sys", "dev", "tmp"])?;
    root.commands(COMMANDS)?;
    for program in programs {
        root.program(program)?;
    }
    let test = programs.first().context("the test program")?.display();
    // The tests look there for sources newer than the supervisor: none are.
    let sources = workspace_root().join("executor/supervisor/src").display().to_string();
    // Alone, before the others: what a launch costs there.
    let figures = match filter.is_empty() || FIGURES.contains(filter) {
        true => format!("{test} --ignored --exact {FIGURES} --nocapture 2>&1\n"),
        false => String::new(),
    };
    // Nothing is mounted on /tmp: the programs may lie below it, as in a clone that was made there.
    let init = format!(
        "#!/bin/busybox sh\nb=/bin/busybox\n$b mount -t proc proc /proc\n$b mount -t sysfs sys /sys\n\
         $b mount -t devtmpfs dev /dev\n$b mount -t cgroup2 cgroup2 /sys/fs/cgroup\n$b chmod 1777 /tmp\n\
         $b mkdir -p {sources}\n$b ip link set lo up\n$b cat /sys/fs/cgroup/cgroup.controllers\n\
         export PATH=/bin SLUICE_TEST_ALL=1 RUST_BACKTRACE=0\ncd /tmp\n\
         {figures}{test} --test-threads 2 {filter} 2>&1\necho \"guest: ended with $?\"\n$b poweroff -f\n"
    );
    let out = folder.join("initramfs");
    root.pack(&init, &out)?;
    Ok(out)
}

/// Boots, shows the console, and says whether every test passed.
fn boot(arguments: &Arguments, programs: &[PathBuf], folder: &Path) -> Result<bool> {
    let initramfs = initramfs(programs, &arguments.filter, folder)?;
    let kernel = one_below(&arguments.kernel.join("boot"), "vmlinuz-")?;
    let guest = Guest::boot(&kernel, &initramfs, 768, "")?;
    let (passed, failed) = watch(&guest)?;
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}

/// The counts of the tests, from the console.
fn watch(guest: &Guest) -> Result<(u64, u64)> {
    let mut counts: Option<(u64, u64)> = None;
    loop {
        let line = guest.line(PATIENCE)?;
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| -> Option<u64> {
                result.split(what).next()?.split_whitespace().last()?.parse().ok()
            };
            // The figures are a run of their own; one that does not say its counts is none.
            let (passed, failed) = number(" passed").zip(number(" failed")).context("counts of the tests")?;
            let before = counts.unwrap_or_default();
            counts = Some((before.0 + passed, before.1 + failed));
        }
        if line.starts_with("guest: ended with") {
            return counts.with_context(|| format!("the tests did not say how they ended ({line})"));
        }
    }
}
