//! Daemons under measurement: started in a temporary folder on the disk, ended with their [`Workplace`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Names of the client that benches use.
const CLIENTS: [&str; 4] = ["squeue", "srun", "sacct", "scontrol"];
/// The longest wait for a daemon to answer.
const START: Duration = Duration::from_secs(60);

/// A folder with a configuration and the binaries of the profile that this bench was built with.
#[derive(Debug)]
pub struct Workplace {
    folder: PathBuf,
    binaries: PathBuf,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Workplace {
    /// Makes the folder and writes `slurm.conf`: `nodes` nodes n1 … of `cpus` processors, and these lines.
    ///
    /// # Errors
    /// What the file system says; a binary that was not built.
    pub fn new(nodes: u32, cpus: u32, more: &str) -> Result<Self> {
        let exe = std::env::current_exe().context("find this program")?;
        let deps = exe.parent().context("this program's folder")?;
        let binaries =
            if deps.ends_with("deps") { deps.parent().context("the profile's folder")? } else { deps };
        for name in ["sluice", "sluice-scheduler", "sluice-executor", "sluice-supervisor"] {
            if !binaries.join(name).is_file() {
                bail!("no {name} in {}: build it with the same profile first", binaries.display());
            }
        }
        // Not below /tmp, which may be memory: the journal has to meet a real disk.
        let base = std::env::var_os("SLUICE_BENCH_DIR").map_or_else(|| binaries.to_owned(), PathBuf::from);
        let folder = nix::unistd::mkdtemp(&base.join("bench-XXXXXX")).context("make a folder")?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).context("open the folder")?;
        let names = if nodes == 1 { "n1".to_owned() } else { format!("n[1-{nodes}]") };
        let conf = format!(
            "ClusterName=bench{}\nSlurmctldHost=localhost\nSlurmdParameters=config_overrides\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=1\nMaxJobCount=10000000\nMinJobAge=300\n{more}\n\
             NodeName={names} CPUs={cpus} RealMemory={}\nPartitionName=main Nodes={names} Default=YES MaxTime=UNLIMITED DefaultTime=60\n",
            std::process::id(),
            cpus * 4
        );
        fs::write(folder.join("slurm.conf"), conf).context("write slurm.conf")?;
        for name in CLIENTS {
            symlink(binaries.join("sluice"), folder.join(name)).with_context(|| format!("link {name}"))?;
        }
        Ok(Self { folder, binaries: binaries.to_owned() })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The scheduler's own folder below the state's.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state").join("scheduler")
    }

    /// The scheduler's socket. Its name is short whatever the folder's is: a link in /tmp leads there.
    #[must_use]
    pub fn socket(&self) -> String {
        let name = self.folder.file_name().expect("a made folder has a name").to_string_lossy();
        format!("/tmp/sluice-{}-{name}.sock", std::process::id())
    }

    /// A command of this cluster.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let folder = if CLIENTS.contains(&program) { &self.folder } else { &self.binaries };
        let path = folder.join(program);
        let mut command = Command::new(path);
        command.env("SLURM_CONF", self.folder.join("slurm.conf")).env("SLUICE_SOCKET", self.socket());
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Starts the scheduler; does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn scheduler(&self) -> Result<Daemon> {
        self.wrapped_scheduler(&[])
    }

    /// The same behind another program's words (`strace -f …`).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn wrapped_scheduler(&self, by: &[&OsStr]) -> Result<Daemon> {
        let plain = self.command("sluice-scheduler");
        let mut command = match by {
            [] => plain,
            [program, arguments @ ..] => {
                let mut wrapped = Command::new(program);
                wrapped.args(arguments).arg(plain.get_program());
                wrapped.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
                wrapped.current_dir(&self.folder).stdin(Stdio::null());
                wrapped
            }
        };
        command
            .arg("--conf")
            .arg(self.folder.join("slurm.conf"))
            .arg("--state")
            .arg(self.folder.join("state"));
        self.start(command, "scheduler.log")
    }

    /// Starts the executor of a node; does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn executor(&self, node: &str) -> Result<Daemon> {
        let mut command = self.command("sluice-executor");
        command.args(["-N", node]).arg("--conf").arg(self.folder.join("slurm.conf"));
        command.arg("--state").arg(self.folder.join(node));
        self.start(command, "executor.log")
    }

    /// Starts any command with its output in a log of the folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, mut command: Command, log: &str) -> Result<Daemon> {
        let out =
            File::options().create(true).append(true).open(self.folder.join(log)).context("open a log")?;
        let err = out.try_clone().context("share a log")?;
        let child = command.stdout(out).stderr(err).spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Daemon { child })
    }

    /// Waits until the socket takes connections. Answers how long that took from the call.
    ///
    /// # Errors
    /// It did not within a minute, or the daemon ended.
    pub fn wait_socket(&self, daemon: &mut Daemon) -> Result<Duration> {
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if begin.elapsed() > START || daemon.child.try_wait().context("look at a daemon")?.is_some() {
                let said = fs::read_to_string(self.folder.join("scheduler.log")).unwrap_or_default();
                bail!("no daemon listens at {}: {said}", self.socket());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(begin.elapsed())
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(self.socket());
    }
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, user and system: its own, and that of the children it has or had and of theirs, with those
    /// that they have waited for.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<(Duration, Duration)> {
        let (own, mut children) = cpu_of(self.pid())?;
        for child in children_of(self.pid())? {
            // One that has ended meanwhile was waited for. A nursery's supervisors live as long as there are runs.
            for process in children_of(child).unwrap_or_default().into_iter().chain([child]) {
                if let Ok((its, below)) = cpu_of(process) {
                    children += its + below;
                }
            }
        }
        Ok((own, children))
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident(&self) -> Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).context("read a daemon's status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a daemon's VmRSS")?;
        let kib: u64 =
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).context("a number of kB")?;
        Ok(kib * 1024)
    }

    /// SIGTERM, and a second to tidy up; then SIGKILL.
    pub fn stop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }

    /// SIGTERM to its children where it has some (it is a wrapper), else to itself; and waits.
    ///
    /// # Errors
    /// It did not end within a minute.
    pub fn terminate(&mut self) -> Result<()> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut pids: Vec<i32> = children.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if pids.is_empty() {
            pids.push(i32::try_from(pid).context("a process id")?);
        }
        for pid in pids {
            // It may have ended already.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let begin = Instant::now();
        while self.child.try_wait().context("look at a daemon")?.is_none() {
            if begin.elapsed() > START {
                bail!("a daemon does not end");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// CPU time of a process, user and system: its own, and that of the children it has waited for.
///
/// # Errors
/// It is gone.
pub fn cpu_of(pid: u32) -> Result<(Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("a process's stat")?;
    let tick = |at: usize| fields.split(' ').nth(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Hundredths of a second, whatever the kernel's own clock is.
    Ok((Duration::from_millis((tick(11) + tick(12)) * 10), Duration::from_millis((tick(13) + tick(14)) * 10)))
}

/// The processes that any thread of a process has made and not waited for.
///
/// # Errors
/// It is gone.
pub fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("read a daemon's threads")? {
        let path = thread.context("read a daemon's threads")?.path().join("children");
        let text = fs::read_to_string(path).unwrap_or_default();
        children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}
