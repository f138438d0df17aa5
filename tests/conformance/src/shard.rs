//! One cluster in namespaces of its own, and the runner over its share of the scenarios.
//!
//! Outside: [`run`] starts a shard per share through `unshare` and collects what the runners print. Inside:
//! [`inside`] mounts private folders where the scenarios expect things (`/scratch`, `/srv/fakegpu`, `/run/sluice`),
//! starts the daemons, fills the accounting data and runs the suite. As first process of its namespace it takes
//! everything with it when it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::{Binaries, Daemon, wait_for};

use crate::arguments::Inside;
use crate::scenario::{Scenario, Verdict, share_out, verdicts};

/// The cluster's nodes, as `reference/slurm.conf` declares them.
const NODES: &[&str] = &["c1", "c2", "c3", "c4", "g1", "g2", "h1"];
const SCRATCH: &str = "/scratch";
const START: Duration = Duration::from_secs(90);

/// Runs `scenarios` on so many clusters side by side; the verdicts in no particular order.
///
/// A shard that breaks early leaves its scenarios without a verdict and its last words on standard error.
pub(crate) fn run(
    binaries: &Binaries,
    scenarios: &[Scenario],
    shards: usize,
    diff: bool,
) -> Result<Vec<Verdict>> {
    let logs = nix::unistd::mkdtemp("/tmp/sluice-conformance-XXXXXX").context("make a folder for logs")?;
    for point in [SCRATCH, "/run/sluice", "/srv"] {
        fs::create_dir_all(point).with_context(|| format!("make the mount point {point}"))?;
    }
    let bin = binaries.program("sluice").parent().context("the binaries' folder")?.to_owned();
    let mut running = Vec::new();
    for (at, names) in share_out(scenarios, shards).into_iter().enumerate() {
        let log = logs.join(format!("shard{at}"));
        fs::create_dir(&log).with_context(|| format!("make {}", log.display()))?;
        let cgroup = Cgroup::make(&format!("sluice-conformance-{}-{at}", std::process::id()));
        running.push((start(&bin, &log, &names, diff, &cgroup)?, log, cgroup));
    }
    let mut all = Vec::new();
    let mut broken = false;
    for (mut child, log, cgroup) in running {
        let status = child.wait().context("wait for a shard")?;
        let output = fs::read(log.join("suite.log")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        if diff {
            println!("{output}");
        }
        // The runner's own verdict is 0 or 1; anything else is a shard that could not work.
        if !matches!(status.code(), Some(0 | 1)) {
            broken = true;
            let said = fs::read(log.join("shard.log")).unwrap_or_default();
            eprintln!(
                "a shard ended with {status}; logs in {}:\n{}",
                log.display(),
                String::from_utf8_lossy(&said)
            );
        }
        all.extend(verdicts(&output));
        cgroup.remove();
        if let Some(left) = cgroup.folder.filter(|folder| folder.exists()) {
            broken = true;
            eprintln!("a shard leaves {}", left.display());
        }
    }
    if broken || all.iter().any(|verdict| !verdict.passed) {
        println!("logs are in {}", logs.display());
    } else {
        let _ = fs::remove_dir_all(&logs);
    }
    Ok(all)
}

fn start(bin: &Path, log: &Path, names: &[String], diff: bool, cgroup: &Cgroup) -> Result<Child> {
    let this = std::env::current_exe().context("find this program")?;
    let out = fs::File::create(log.join("shard.log")).context("make a shard's log")?;
    // The shell joins the group first, so that the namespace has it as its root.
    let join = if cgroup.folder.is_some() { "echo $$ > \"$0/cgroup.procs\" || exit 3; " } else { "" };
    let own = if cgroup.folder.is_some() { "--cgroup" } else { "" };
    let script = format!(
        "{join}exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc {own} -- \"$@\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(cgroup.folder.as_deref().unwrap_or(Path::new("sh")));
    command.arg(this).arg("shard").arg(bin).arg(log).arg(if diff { "diff" } else { "plain" }).args(names);
    command.env("SLUICE_SHARD_CGROUP", cgroup.folder.as_deref().unwrap_or(Path::new("")));
    let err = out.try_clone().context("share a shard's log")?;
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("start a shard")
}

/// A cgroup2 directory for one shard: node names repeat from shard to shard, their groups must not meet.
struct Cgroup {
    folder: Option<PathBuf>,
}

impl Cgroup {
    /// Made where a cgroup2 mount can be written to; else the shard does without.
    fn make(name: &str) -> Self {
        let folder = cgroup2_mount().map(|mount| mount.join(name));
        Self { folder: folder.filter(|folder| fs::create_dir(folder).is_ok()) }
    }

    /// Removes the directory with all below it; what is in use stays.
    fn remove(&self) {
        fn clear(folder: &Path) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    clear(&entry.path());
                }
            }
            let _ = fs::remove_dir(folder);
        }
        if let Some(folder) = &self.folder {
            // The last process of the namespace may still be on its way out.
            let _ = wait_for("a shard's cgroup to empty", Duration::from_secs(5), || {
                clear(folder);
                !folder.exists()
            });
        }
    }
}

fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.find(|field| field.get(2) == Some(&"cgroup2")).and_then(|field| field.get(1).map(PathBuf::from))
}

/// The shard itself. Exit status: the runner's; 3 when the cluster could not be made.
pub(crate) fn inside(told: &Inside) -> Result<ExitCode> {
    match cluster_and_suite(told) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            eprintln!("{error:#}");
            Ok(ExitCode::from(3))
        }
    }
}

fn cluster_and_suite(told: &Inside) -> Result<u8> {
    mounts()?;
    let scratch = Path::new(SCRATCH);
    Binaries::at(&told.binaries)?.install(&scratch.join("bin"))?;
    let suite = crate::folder();
    let conf = scratch.join("etc/slurm.conf");
    copy_readable(&suite.join("reference/slurm.conf"), &conf)?;
    copy_readable(&suite.join("reference/gres.conf"), &scratch.join("etc/gres.conf"))?;

    let daemon = |name: &str, program: &str, arguments: &[&str]| {
        let mut command = Command::new(scratch.join("bin").join(program));
        command
            .args(["--conf", "/scratch/etc/slurm.conf", "--state"])
            .arg(scratch.join("state").join(name))
            .args(arguments);
        command.env("SLURM_CONF", &conf).env("LANG", "C.UTF-8").env("TZ", "UTC").current_dir("/");
        Daemon::start(name, command, &told.logs.join(format!("{name}.log")))
    };
    let mut daemons = vec![daemon("scheduler", "sluice-scheduler", &[])?];
    for node in NODES {
        daemons.push(daemon(node, "sluice-executor", &["-N", node])?);
    }
    let client = |program: &str| {
        let mut command = Command::new(scratch.join("bin").join(program));
        command.env("SLURM_CONF", &conf);
        command
    };
    let idle = || {
        let out = client("sinfo").args(["-h", "-a", "-N", "-o", "%N %T"]).output();
        let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
        NODES.iter().all(|node| text.lines().any(|line| line == format!("{node} idle")))
    };
    wait_for("seven idle nodes", START, idle).map_err(|error| {
        let words: Vec<String> = daemons.iter().map(|daemon| daemon.last_words(10)).collect();
        error.context(words.join("\n"))
    })?;
    accounts(&suite, scratch, &conf)?;
    runner(told, &suite, &conf)
}

/// Private folders over the places that the scenarios name.
fn mounts() -> Result<()> {
    for point in [SCRATCH, "/srv", "/run/sluice"] {
        ran(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", point]))?;
    }
    fs::create_dir("/srv/fakegpu").context("make /srv/fakegpu")?;
    for gpu in 0..4 {
        fs::write(format!("/srv/fakegpu/gpu{gpu}"), "").context("make a fake device")?;
    }
    for folder in ["etc", "state", "conformance"] {
        fs::create_dir(Path::new(SCRATCH).join(folder)).with_context(|| format!("make {folder}"))?;
    }
    // The shard's cgroup becomes the whole tree that its executors see.
    if let (Some(cgroup), Some(mount)) =
        (std::env::var_os("SLUICE_SHARD_CGROUP").filter(|v| !v.is_empty()), cgroup2_mount())
    {
        ran(Command::new("mount").arg("--bind").arg(cgroup).arg(mount))?;
    }
    Ok(())
}

fn copy_readable(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("open {}", to.display()))
}

/// The accounting data that the recordings assume: plain sacctmgr commands.
fn accounts(suite: &Path, scratch: &Path, conf: &Path) -> Result<()> {
    let path = format!("{}:/usr/bin:/bin", scratch.join("bin").display());
    let script = suite.join("reference/accounts.sh");
    let out = Command::new("sh")
        .arg(script)
        .env("PATH", path)
        .env("SLURM_CONF", conf)
        .output()
        .context("run accounts.sh")?;
    println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn runner(told: &Inside, suite: &Path, conf: &Path) -> Result<u8> {
    let escaped: Vec<String> =
        told.scenarios.iter().map(|name| name.replace('.', "\\.").replace('+', "\\+")).collect();
    let mut command = Command::new("python3");
    command.arg(suite.join("conformance.py")).args(["--bin", "/scratch/bin", "--name", "sluice", "-v"]);
    command.args(["--only", &format!("^({})$", escaped.join("|"))]);
    for folder in crate::scenario::FOLDERS {
        command.arg("--scenarios").arg(suite.join(folder));
    }
    for golden in ["goldens/slurm-26.05.json", "goldens/slurm-22.05.json", "beside/slurm-26.05.json"] {
        command.arg("--check").arg(suite.join(golden));
    }
    if told.diff {
        command.arg("--diff");
    }
    let log = fs::File::create(told.logs.join("suite.log")).context("make the suite's log")?;
    let err = log.try_clone().context("share the suite's log")?;
    let status = command
        .env("SLURM_CONF", conf)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(err)
        .status()
        .context("run python3")?;
    match status.code() {
        Some(code @ (0 | 1)) => Ok(u8::try_from(code).expect("0 or 1")),
        _ => bail!("the runner ended with {status}: see suite.log"),
    }
}

fn ran(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("run {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
