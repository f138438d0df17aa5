//! A cluster in a temporary folder: one scheduler and its executors, with a socket and a configuration of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::poll::wait_for;
use crate::process::{Daemon, is_nursery, is_waiting, runs, sweep, users_of};
use crate::traces::Traces;

/// How long daemons may take to answer or register, also on a loaded machine.
const START: Duration = Duration::from_secs(60);

/// The configuration that a cluster is started with.
#[derive(Clone, Debug)]
pub enum Conf {
    /// No file at all: a cluster of this machine.
    None,
    /// This text as `slurm.conf`.
    Text(String),
}

impl Conf {
    /// `nodes` nodes n1 … of `cpus` declared processors in one partition `main`, and these further lines.
    #[must_use]
    pub fn declared(nodes: u32, cpus: u32, more: &str) -> Self {
        let names = if nodes == 1 { "n1".to_owned() } else { format!("n[1-{nodes}]") };
        Self::Text(format!(
            "ClusterName=@CLUSTER@\nSlurmctldHost=localhost\nSlurmdParameters=config_overrides\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=10\nKillWait=2\nReturnToService=2\n{more}\n\
             NodeName={names} CPUs={cpus} RealMemory={}\nPartitionName=main Nodes={names} Default=YES MaxTime=UNLIMITED DefaultTime=60\n",
            cpus * 10
        ))
    }
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, without the last newline.
    pub stdout: String,
    /// Standard error, without the last newline.
    pub stderr: String,
}

/// A scheduler and executors of their own. Dropping it ends every process that it started, jobs included, and removes
/// the folder; after a panic the folder stays and its logs are printed.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    binaries: Binaries,
    conf: Option<PathBuf>,
    scheduler: Option<Daemon>,
    executors: BTreeMap<String, Daemon>,
    traces: Traces,
    scheduler_arguments: Vec<String>,
}

impl Cluster {
    /// Prepares the folder; starts nothing.
    ///
    /// # Errors
    /// The binaries cannot be built, the folder not be made.
    pub fn prepare(conf: &Conf) -> Result<Self> {
        let binaries = Binaries::get()?;
        // Short: a socket's path has at most 107 letters.
        let folder = nix::unistd::mkdtemp("/tmp/sluice-test-XXXXXX").context("make a temporary folder")?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
            .context("open the temporary folder")?;
        binaries.install(&folder.join("bin"))?;
        let jobs = folder.join("jobs");
        fs::create_dir(&jobs).context("make the jobs' folder")?;
        fs::set_permissions(&jobs, fs::Permissions::from_mode(0o1777)).context("open the jobs' folder")?;
        let conf = match conf {
            Conf::None => None,
            Conf::Text(text) => {
                let path = folder.join("slurm.conf");
                fs::write(&path, text.replace("@CLUSTER@", &name(&folder))).context("write slurm.conf")?;
                Some(path)
            }
        };
        Ok(Self {
            folder,
            binaries,
            conf,
            scheduler: None,
            executors: BTreeMap::new(),
            traces: Traces::default(),
            scheduler_arguments: Vec::new(),
        })
    }

    /// Further arguments of every scheduler that is started from now on.
    pub fn set_scheduler_arguments(&mut self, arguments: &[&str]) {
        self.scheduler_arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    }

    /// Prepares and starts a scheduler and one executor for each of `nodes`, and waits until all are idle.
    ///
    /// # Errors
    /// Something did not start; the daemons' last words are in the message.
    pub fn start(conf: &Conf, nodes: &[&str]) -> Result<Self> {
        let mut cluster = Self::prepare(conf)?;
        cluster.start_all(nodes)?;
        Ok(cluster)
    }

    /// Starts what [`prepare`](Self::prepare) prepared, and waits until all nodes are idle.
    ///
    /// # Errors
    /// Something did not start; the daemons' last words are in the message.
    pub fn start_all(&mut self, nodes: &[&str]) -> Result<()> {
        self.start_scheduler(&[])?;
        for node in nodes {
            self.start_executor(node, &[])?;
        }
        self.wait_idle(nodes.len())
    }

    /// The state folder of the scheduler or of a node's executor: `name` is `scheduler` or the node.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state").join(name)
    }

    /// The temporary folder. Jobs may write below `jobs`, which every user may write to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where jobs of any user may write.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.folder.join("jobs")
    }

    /// A client command or daemon of this cluster, with the environment that finds it and nothing of the caller's
    /// Slurm variables.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join("bin").join(program));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["SLURM_", "SBATCH_", "SLUICE_", "SQUEUE_", "SINFO_", "SACCT_", "SALLOC_"]
                .iter()
                .any(|p| text.starts_with(p))
            {
                command.env_remove(&name);
            }
        }
        command.env("SLUICE_SOCKET", self.folder.join("s.sock")).env("LC_ALL", "C.UTF-8");
        // Most clusters here run no container: a probe at each start would only cost.
        command.env("SLUICE_CONTAINER_PROBE", "lazy");
        if let Some(conf) = &self.conf {
            command.env("SLURM_CONF", conf);
        }
        command.current_dir(self.jobs());
        command
    }

    /// Starts the scheduler with these variables besides, and waits until it answers.
    ///
    /// # Errors
    /// It did not answer in time, or ended.
    pub fn start_scheduler(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.launch_scheduler(environment)?;
        let mut ended = false;
        let answers = wait_for("the scheduler to answer", START, || {
            ended = self.scheduler.as_mut().is_some_and(|daemon| daemon.ended().is_some());
            ended || self.answers()
        });
        if answers.is_err() || ended {
            bail!("the scheduler does not answer\n{}", self.last_words());
        }
        Ok(())
    }

    /// Starts the scheduler and does not wait.
    ///
    /// # Errors
    /// It could not be started.
    pub fn launch_scheduler(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command("sluice-scheduler");
        command.arg("--state").arg(self.state("scheduler")).args(&self.scheduler_arguments);
        command.envs(environment.iter().copied());
        if let Some(conf) = &self.conf {
            command.arg("--conf").arg(conf);
        }
        self.scheduler = Some(Daemon::start("scheduler", command, &self.folder.join("scheduler.log"))?);
        Ok(())
    }

    /// Starts the executor of `node` with these variables besides; does not wait.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_executor(&mut self, node: &str, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command("sluice-executor");
        command.arg("--state").arg(self.state(node)).envs(environment.iter().copied());
        if let Some(conf) = &self.conf {
            command.args(["-N", node]).arg("--conf").arg(conf);
        }
        let log = self.folder.join(format!("executor-{node}.log"));
        self.executors.insert(node.to_owned(), Daemon::start(&format!("executor {node}"), command, &log)?);
        Ok(())
    }

    /// Removes the spool of a node whose executor does not run, as if its disk had been lost.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn lose_spool(&mut self, node: &str) -> Result<()> {
        let state = self.state(node);
        self.traces.note(node, &state);
        let spool = state.join(format!("executor-{node}/spool"));
        fs::remove_dir_all(&spool).with_context(|| format!("remove {}", spool.display()))
    }

    /// Whether a client gets an answer.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.run("squeue", &["-h"]).is_ok_and(|ran| ran.code == Some(0))
    }

    /// Waits until `count` nodes are idle.
    ///
    /// # Errors
    /// After a minute; with the daemons' last words.
    pub fn wait_idle(&self, count: usize) -> Result<()> {
        let idle = || {
            let ran = self.run("sinfo", &["-h", "-N", "-o", "%N %T"]);
            ran.is_ok_and(|ran| {
                let mut lines: Vec<&str> =
                    ran.stdout.lines().filter(|line| line.ends_with(" idle")).collect();
                lines.sort_unstable();
                lines.dedup();
                lines.len() >= count
            })
        };
        wait_for(&format!("{count} idle nodes"), START, idle).with_context(|| self.last_words())
    }

    /// The scheduler, while one was started.
    pub fn scheduler(&mut self) -> Option<&mut Daemon> {
        self.scheduler.as_mut()
    }

    /// The executor of `node`, while one was started.
    pub fn executor(&mut self, node: &str) -> Option<&mut Daemon> {
        self.executors.get_mut(node)
    }

    /// Process ids of the supervisors that have a run now.
    #[must_use]
    pub fn supervisors(&self) -> Vec<u32> {
        self.of_supervisors_program().filter(|pid| !is_nursery(*pid) && !is_waiting(*pid)).collect()
    }

    /// Process ids of the executors' nurseries, which make the supervisors.
    #[must_use]
    pub fn nurseries(&self) -> Vec<u32> {
        self.of_supervisors_program().filter(|pid| is_nursery(*pid)).collect()
    }

    fn of_supervisors_program(&self) -> impl Iterator<Item = u32> {
        let program = self.folder.join("bin/sluice-supervisor");
        users_of(&self.folder).into_iter().filter(move |pid| runs(*pid, &program))
    }

    /// Runs a client command to its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Ran> {
        let out = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {program}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
        Ok(Ran { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) })
    }

    /// Runs a client command that has to succeed; answers its standard output.
    ///
    /// # Errors
    /// It failed: its words are in the message.
    pub fn ok(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let ran = self.run(program, arguments)?;
        if ran.code != Some(0) {
            bail!("{program} {arguments:?}: exit {:?}: {}\n{}", ran.code, ran.stderr, self.last_words());
        }
        Ok(ran.stdout)
    }

    /// Submits `script` with these options; answers the job id.
    ///
    /// # Errors
    /// It was refused.
    pub fn submit(&self, script: &str, options: &[&str]) -> Result<String> {
        let path = nix::unistd::mkstemp(&self.folder.join("script-XXXXXX")).context("make a script")?.1;
        fs::write(&path, script).context("write a script")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).context("open a script")?;
        let name = path.to_str().context("a script's name")?;
        let out = self.ok("sbatch", &[&["--parsable"], options, &[name]].concat());
        let _ = fs::remove_file(&path);
        Ok(out?.split(';').next().unwrap_or_default().to_owned())
    }

    /// Waits until accounting shows only ended rows of the job and none of it is completing; answers them
    /// (`sacct -nP -X` in this format).
    ///
    /// # Errors
    /// After `within`.
    pub fn wait_ended(&self, job: &str, format: &str, within: Duration) -> Result<String> {
        let live = ["PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "SUSPENDED"];
        let completing = || self.run("squeue", &["-h", "-t", "completing", "-j", job, "-o", "%i"]);
        wait_for(&format!("job {job} to end"), within, || {
            let ran = self.run("sacct", &["-nPX", "-j", job, "-o", "State"]);
            ran.is_ok_and(|r| {
                !r.stdout.is_empty()
                    && !r.stdout.lines().any(|line| live.iter().any(|state| line.starts_with(state)))
            }) && completing().is_ok_and(|r| r.stdout.is_empty())
        })
        .with_context(|| self.last_words())?;
        self.ok("sacct", &["-nPX", "-j", job, "-o", format])
    }

    /// The ends of all logs, for a failure's report.
    #[must_use]
    pub fn last_words(&self) -> String {
        let daemons = self.scheduler.iter().chain(self.executors.values());
        daemons.map(|daemon| daemon.last_words(15)).collect::<Vec<_>>().join("\n")
    }

    /// The binaries that this cluster runs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}

/// A cluster's name that no other test has: what a daemon kills by name is its own.
fn name(folder: &Path) -> String {
    let last = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    last.chars().filter(char::is_ascii_alphanumeric).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\nthe folder {} is kept", self.last_words(), self.folder.display());
        }
        self.scheduler = None;
        for node in std::mem::take(&mut self.executors).into_keys() {
            self.traces.note(&node, &self.state(&node));
        }
        if let Err(error) = sweep(&self.folder) {
            eprintln!("{error:#}");
        }
        let left = self.traces.remove();
        assert!(left.is_empty() || std::thread::panicking(), "the executors leave {left:?}");
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
