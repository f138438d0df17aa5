//! `sluice up`: a cluster in the foreground, from the binaries beside this one.
//!
//! Starts a scheduler and an executor for each node of this host, and stops them when it is told to. Jobs are
//! not its business: they go on, unless `--kill-jobs` asks for their end. Nothing is kept here; the daemons own
//! the state.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::config::SlurmConf;
use proto::v1::control_request::Act;
use proto::v1::{CancelJobs, JobFilter, JobSelector, PingRequest};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::{Call, block_on, job};
use crate::api::Client;
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{connect, local, say};

/// How long the scheduler may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long jobs may take to end with `--kill-jobs`.
const JOBS_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Conf,
    Help,
    KillJobs,
    State,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Conf, b'f', "conf", Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::KillJobs, "kill-jobs", Nothing),
    Spec::long(O::State, "state", Value),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// A started daemon.
struct Daemon {
    name: String,
    child: Child,
}

/// Runs until a signal or the end of a daemon: 0 after a signal, 1 where something failed.
pub(crate) fn run(call: &Call) -> u8 {
    let words = match call.split(OPTIONS) {
        Ok(words) => words,
        Err(_) => return 2,
    };
    let (mut kill_jobs, mut state) = (false, None);
    for given in &words.options {
        match given.id {
            O::Conf => connect::name_conf(Path::new(&given.text())),
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::KillJobs => kill_jobs = true,
            O::State => state = Some(PathBuf::from(given.text())),
        }
    }
    if let Some(stray) = words.operands.first() {
        say::error(&call.program, format!("unexpected word \"{}\"", stray.to_string_lossy()));
        return 2;
    }
    match block_on(cluster(&call.program, state.as_deref(), kill_jobs)) {
        Ok(()) => 0,
        Err(line) => {
            say::error(&call.program, line);
            1
        }
    }
}

async fn cluster(program: &str, state: Option<&Path>, kill_jobs: bool) -> Result<(), String> {
    let conf = connect::conf_path();
    let nodes = nodes(conf.as_deref())?;
    let signal_of = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut interrupt, mut terminate) =
        (signal_of(SignalKind::interrupt())?, signal_of(SignalKind::terminate())?);
    let mut hangup = signal_of(SignalKind::hangup())?;
    let told = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    tokio::pin!(told);
    if std::process::id() == 1 {
        tokio::spawn(wait_for_orphans(signal_of(SignalKind::child())?));
    }
    let mut daemons = vec![start("sluice-scheduler", &[], conf.as_deref(), state)?];
    let client = tokio::select! {
        answer = wait_for_scheduler(&mut daemons[0]) => answer,
        () = &mut told => Err("stopped before the scheduler answered".to_owned()),
    };
    let outcome = match client {
        Ok(client) => {
            run_executors(program, &client, &mut daemons, &nodes, conf.as_deref(), state, told).await
        }
        Err(line) => Err(line),
    };
    let left = match (kill_jobs, outcome.is_ok()) {
        (true, _) => end_jobs(program).await,
        (false, _) => live_jobs().await,
    };
    stop(program, &mut daemons).await;
    match left {
        Some(0) | None => say::err(format!("{program}: stopped")),
        Some(jobs) => say::err(format!(
            "{program}: stopped; {jobs} running job{} go{} on, and the next \"sluice up\" on the same state takes \
             them back",
            if jobs == 1 { "" } else { "s" },
            if jobs == 1 { "es" } else { "" },
        )),
    }
    outcome
}

/// The nodes whose executors run on this host; `None`: this machine, without a configuration.
fn nodes(conf: Option<&Path>) -> Result<Option<Vec<String>>, String> {
    let Some(path) = conf else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let conf = SlurmConf::parse(&text, path, &mut read).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\nsluice: error: ")
    })?;
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let short = local::host();
    let here = |name: &str| {
        name == host
            || name == short
            || matches!(name, "127.0.0.1" | "::1" | "localhost" | "localhost.localdomain")
    };
    let nodes: Vec<String> = conf
        .nodes
        .iter()
        .filter(|node| here(&node.addr) || here(&node.hostname))
        .map(|node| node.name.to_string())
        .collect();
    if nodes.is_empty() {
        return Err(format!("no node of {} is this host ({short})", path.display()));
    }
    Ok(Some(nodes))
}

/// Starts a binary that lies beside this one. It gets a process group of its own, so that Ctrl-C reaches only
/// this process, which stops the others in order.
fn start(
    binary: &str,
    arguments: &[&str],
    conf: Option<&Path>,
    state: Option<&Path>,
) -> Result<Daemon, String> {
    let own =
        std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let path = own.with_file_name(binary);
    let mut command = Command::new(&path);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    if let Some(conf) = conf {
        command.arg("--conf").arg(conf);
    }
    if let Some(state) = state {
        command.arg("--state").arg(state);
    }
    let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", path.display()))?;
    OWN.lock().unwrap_or_else(PoisonError::into_inner).extend(child.id());
    let name = arguments.last().map_or_else(|| binary.to_owned(), |node| format!("{binary} of node {node}"));
    Ok(Daemon { name, child })
}

/// Process ids of the daemons that were started, which are waited for where they are used.
static OWN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn is_own(pid: i32) -> bool {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    u32::try_from(pid).is_ok_and(|pid| own.contains(&pid))
}

/// The first process of a container is the parent of every process that has lost its own: what of them has ended is
/// waited for, or it would stay in the table of processes for ever.
async fn wait_for_orphans(mut ended: tokio::signal::unix::Signal) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while ended.recv().await.is_some() {
        while let Some(pid) = waitid(Id::All, peek).ok().and_then(|status| status.pid()) {
            if is_own(pid.as_raw()) {
                // Somebody is about to take its status, and no further signal tells of those behind it.
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

fn ended(daemon: &Daemon, status: ExitStatus) -> String {
    format!("{} ended unexpectedly ({status})", daemon.name)
}

async fn wait_for_scheduler(scheduler: &mut Daemon) -> Result<Client, String> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Ok(Some(status)) = scheduler.child.try_wait() {
            return Err(ended(scheduler, status));
        }
        if let Ok(client) = Client::connect().await {
            // An answer of an older scheduler does not count.
            let answer = client.raw().ping(PingRequest {}).await;
            if answer.is_ok_and(|reply| Some(reply.into_inner().pid) == scheduler.child.id()) {
                return Ok(client);
            }
        }
        if Instant::now() > deadline {
            return Err("the scheduler does not answer".to_owned());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn run_executors(
    program: &str,
    client: &Client,
    daemons: &mut Vec<Daemon>,
    nodes: &Option<Vec<String>>,
    conf: Option<&Path>,
    state: Option<&Path>,
    mut told: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<(), String> {
    match nodes {
        None => daemons.push(start("sluice-executor", &[], conf, state)?),
        Some(names) => {
            for name in names {
                daemons.push(start("sluice-executor", &["-N", name], conf, state)?);
            }
        }
    }
    let socket = client.sockets().first().cloned().unwrap_or_default();
    let what = nodes.as_ref().map_or_else(local::host, |names| model::hostlist::compress_sorted(names));
    say::err(format!("{program}: the cluster is up at {socket} with node {what}; Ctrl-C stops it"));
    loop {
        tokio::select! {
            () = &mut told => return Ok(()),
            () = sleep(Duration::from_millis(200)) => {}
        }
        for daemon in daemons.iter_mut() {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                return Err(ended(daemon, status));
            }
        }
    }
}

/// How many jobs hold resources; `None` where nobody answers.
async fn live_jobs() -> Option<usize> {
    let client = Client::connect().await.ok()?;
    let jobs = client.jobs(JobFilter::default(), false).await.ok()?;
    Some(jobs.iter().filter(|job| job::is_active(job)).count())
}

/// Ends all jobs and waits until none holds anything. Gives how many are left.
async fn end_jobs(program: &str) -> Option<usize> {
    let client = Client::connect().await.ok()?;
    let jobs = client.jobs(JobFilter::default(), false).await.ok()?;
    let live: Vec<JobSelector> = jobs
        .iter()
        .filter(|job| !job::state(job).is_terminal())
        .map(|job| JobSelector { job_id: job.job_id, ..JobSelector::default() })
        .collect();
    if live.is_empty() {
        return Some(0);
    }
    say::err(format!("{program}: ending {} job{}", live.len(), if live.len() == 1 { "" } else { "s" }));
    let cancel = CancelJobs { jobs: live, ..CancelJobs::default() };
    client.control(Act::Cancel(cancel)).await.ok()?;
    let deadline = Instant::now() + JOBS_PATIENCE;
    loop {
        match live_jobs().await {
            Some(0) | None => return Some(0),
            left if Instant::now() > deadline => return left,
            Some(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Stops executors, then the scheduler: SIGINT, which says that no other one is expected, and SIGKILL for one that
/// does not end.
async fn stop(program: &str, daemons: &mut [Daemon]) {
    let (scheduler, executors) = daemons.split_at_mut(1);
    for group in [executors, scheduler] {
        group.iter().for_each(|daemon| interrupt(&daemon.child));
        let deadline = Instant::now() + STOP_PATIENCE;
        for daemon in group.iter_mut() {
            if tokio::time::timeout_at(deadline, daemon.child.wait()).await.is_err() {
                say::err(format!("{program}: warning: {} does not stop and is killed", daemon.name));
                // It may have ended in this very moment.
                let _ = daemon.child.kill().await;
            }
        }
    }
}

fn interrupt(child: &Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended already.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT);
    }
}

const HELP: &str = "\
Usage: sluice up [--conf slurm.conf] [--state DIR] [--kill-jobs]

Runs a cluster in the foreground: a scheduler, and an executor for each node of this host that the configuration
names, or for this machine where there is no configuration. Ctrl-C stops the daemons; jobs go on, and the next
\"sluice up\" on the same state takes them back.

  -f, --conf FILE   configuration (default: SLURM_CONF, then /etc/slurm/slurm.conf)
      --state DIR   folder of the state
      --kill-jobs   end all jobs when stopping
";
