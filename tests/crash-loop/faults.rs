//! What is done to the daemons: each kind of fault, carried out once, and the daemon running again afterwards.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::{Cluster, Random, send, wait_for, wait_for_some};

use crate::disk::SmallDisk;
use crate::submit::Submitter;
use crate::{NODES, Outcome};

/// A named point where a daemon can be told to end itself, and the last passage that is tried (the first, or a random
/// later one).
pub(crate) struct Point {
    pub(crate) name: &'static str,
    daemon: Kind,
    passages: u64,
}

enum Kind {
    Scheduler,
    Executor,
}

const fn scheduler_point(name: &'static str, passages: u64) -> Point {
    Point { name, daemon: Kind::Scheduler, passages }
}

const fn executor_point(name: &'static str, passages: u64) -> Point {
    Point { name, daemon: Kind::Executor, passages }
}

/// All of them (scheduler/src/crash.rs, executor/src/crash.rs).
pub(crate) const POINTS: [Point; 14] = [
    scheduler_point("before-sync", 12),
    executor_point("after-intent", 3),
    scheduler_point("after-sync", 12),
    executor_point("after-spawn", 3),
    scheduler_point("after-views", 12),
    executor_point("after-outcome", 3),
    scheduler_point("before-effect", 12),
    executor_point("before-report", 3),
    scheduler_point("recovered", 1),
    executor_point("before-sync", 6),
    scheduler_point("index-open", 2),
    scheduler_point("history-write", 1),
    scheduler_point("snapshot-begun", 1),
    scheduler_point("snapshot-made", 1),
];

/// How long a point may take to be reached: a snapshot is due after a few hundred jobs.
const POINT_WITHIN: Duration = Duration::from_secs(180);

pub(crate) fn scheduler(cluster: &mut Cluster) -> Result<()> {
    cluster.scheduler().context("a scheduler runs")?.kill();
    cluster.start_scheduler(&[])
}

pub(crate) fn executor(cluster: &mut Cluster, node: &str) -> Result<()> {
    cluster.executor(node).with_context(|| format!("an executor of {node} runs"))?.kill();
    cluster.start_executor(node, &[])
}

pub(crate) fn both(cluster: &mut Cluster) -> Result<()> {
    cluster.scheduler().context("a scheduler runs")?.kill();
    for node in NODES {
        executor(cluster, node)?;
    }
    cluster.start_scheduler(&[])
}

/// Kills one of the supervisors that run now; none may be there for a moment.
pub(crate) fn supervisor(cluster: &Cluster, random: &mut Random) -> Result<()> {
    let found = wait_for_some("a supervisor to kill", Duration::from_secs(30), || {
        Some(cluster.supervisors()).filter(|pids| !pids.is_empty())
    })
    .with_context(|| cluster.last_words())?;
    let count = u64::try_from(found.len()).expect("a count");
    let at = usize::try_from(random.below(count)).expect("below a count");
    send(found[at], Signal::SIGKILL);
    Ok(())
}

/// Restarts a daemon that will end itself at `point`, waits until it has, and starts it again as usual.
pub(crate) fn at_point(cluster: &mut Cluster, point: &Point, random: &mut Random) -> Result<String> {
    let at = format!("{}:{}", point.name, 1 + random.below(point.passages));
    let environment = [("SLUICE_CRASH_AT", at.as_str())];
    let node = NODES[0];
    let what = format!("the crash point {at} to be reached");
    match point.daemon {
        Kind::Executor => {
            cluster.executor(node).context("an executor runs")?.kill();
            cluster.start_executor(node, &environment)?;
            wait_for(&what, POINT_WITHIN, || {
                cluster.executor(node).is_some_and(|daemon| daemon.ended().is_some())
            })
            .with_context(|| cluster.last_words())?;
            cluster.start_executor(node, &[])?;
            Ok(format!("executor {}", point.name))
        }
        Kind::Scheduler => {
            cluster.scheduler().context("a scheduler runs")?.kill();
            cluster.launch_scheduler(&environment)?;
            wait_for(&what, POINT_WITHIN, || {
                cluster.scheduler().is_some_and(|daemon| daemon.ended().is_some())
            })
            .with_context(|| cluster.last_words())?;
            cluster.start_scheduler(&[])?;
            Ok(format!("scheduler {}", point.name))
        }
    }
}

/// An executor loses its spool while it is down. What the run folders tell is found again; for what they do not tell
/// the administrator confirms that it is gone, once nothing of it has been heard for longer than any job takes.
pub(crate) fn lost_spool(cluster: &mut Cluster, node: &str, outcome: &mut Outcome) -> Result<()> {
    let on_node = |cluster: &Cluster| -> Vec<String> {
        let jobs = cluster.run("squeue", &["-h", "-t", "R,CG", "-w", node, "-o", "%i"]);
        jobs.map(|ran| ran.stdout.lines().map(str::to_owned).collect()).unwrap_or_default()
    };
    cluster.executor(node).with_context(|| format!("an executor of {node} runs"))?.kill();
    cluster.lose_spool(node)?;
    let mut before = on_node(cluster);
    cluster.start_executor(node, &[])?;
    let mut told = Ok(());
    // Twice: until the new one registers, jobs may be sent to the one that is gone.
    for _ in 0..2 {
        told = told.and(wait_for(
            "the runs of the lost spool to be accounted for",
            Duration::from_secs(8),
            || {
                let now = on_node(cluster);
                !before.iter().any(|job| now.contains(job))
            },
        ));
        before = on_node(cluster);
    }
    if told.is_err() {
        outcome.may_be_lost += on_node(cluster).len() as u64;
        cluster
            .ok("scontrol", &["update", &format!("NodeName={node}"), "State=DOWN", "Reason=spool-lost"])?;
        cluster.ok("scontrol", &["update", &format!("NodeName={node}"), "State=RESUME"])?;
        outcome.confirmed += 1;
    }
    Ok(())
}

/// Acknowledged submits that an executor's full disk lasts for: enough that the node is given several of them.
const WHILE_FULL: u64 = 20;

/// An executor's disk is full while jobs are sent to it, and half of the time it is killed and started on it; then there is
/// space again. What runs goes on to its end, what could not be begun is begun later, here or elsewhere.
pub(crate) fn full_executor(
    cluster: &mut Cluster,
    disk: &SmallDisk,
    node: &str,
    submitter: &Submitter,
    random: &mut Random,
) -> Result<()> {
    let wanted = submitter.acknowledged() + WHILE_FULL;
    let filler = disk.fill()?;
    wait_for("submits while an executor's disk is full", Duration::from_secs(120), || {
        submitter.acknowledged() >= wanted
    })
    .with_context(|| cluster.last_words())?;
    if random.below(2) == 0 {
        cluster.executor(node).with_context(|| format!("an executor of {node} runs"))?.kill();
        cluster.start_executor(node, &[])?;
        // A random instant of its start.
        thread::sleep(Duration::from_millis(random.below(400)));
    }
    drop(filler);
    // It may have given up for want of space.
    if cluster.executor(node).is_some_and(|daemon| daemon.ended().is_some()) {
        cluster.start_executor(node, &[])?;
    }
    // What could not be begun there has drained it; as long as reports of that come in, it is drained again.
    let ready = || {
        let ran = cluster.run("sinfo", &["-h", "-n", node, "-o", "%T"]);
        let state = ran.map(|ran| ran.stdout).unwrap_or_default();
        if state.starts_with("drain") {
            let name = format!("NodeName={node}");
            return cluster.run("scontrol", &["update", &name, "State=RESUME"]).is_err();
        }
        ["idle", "mixed", "allocated", "completing"].contains(&state.as_str())
    };
    wait_for("the node to take jobs again", Duration::from_secs(60), ready)
        .with_context(|| format!("{:?}\n{}", cluster.run("sinfo", &["-R"]), cluster.last_words()))
}

/// The scheduler's disk is full until a submit is refused, and half of the time the scheduler is killed and started
/// on it; then there is space again.
pub(crate) fn full_disk(
    cluster: &mut Cluster,
    disk: &SmallDisk,
    submitter: &Submitter,
    random: &mut Random,
) -> Result<()> {
    let before = submitter.refused_full();
    let filler = disk.fill()?;
    wait_for("a submit to be refused because the disk is full", Duration::from_secs(120), || {
        submitter.refused_full() > before
    })
    .with_context(|| cluster.last_words())?;
    if random.below(2) == 0 {
        cluster.scheduler().context("a scheduler runs")?.kill();
        cluster.launch_scheduler(&[])?;
        // A random instant of its start.
        thread::sleep(Duration::from_millis(random.below(400)));
        drop(filler);
        // It may have given up for want of space.
        if cluster.scheduler().is_some_and(|daemon| daemon.ended().is_some()) {
            return cluster.start_scheduler(&[]);
        }
    }
    wait_for("the scheduler to answer", Duration::from_secs(60), || cluster.answers())
        .with_context(|| cluster.last_words())
}
