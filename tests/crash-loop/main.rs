//! The crash loop: daemons and supervisors are killed under running jobs, again and again, and nothing may be lost.
//!
//! It trusts no record of ours: every job appends its number, id, run and boot to a file before and after its work,
//! and a submit counts as acknowledged when `sbatch` printed an id. At the end accounting must agree with both:
//! every acknowledged id is there, no run happened twice, every outcome is right, no id was issued twice, no job was
//! invented.
//!
//! Killed with SIGKILL at random instants: the scheduler, an executor, a supervisor, scheduler and executors at once;
//! and at named points, where a daemon ends itself when it gets there (`SLUICE_CRASH_AT`), each of them in turn. An
//! executor loses its spool; the scheduler's disk, or an executor's, is full for a while. The scheduler makes snapshots and history
//! files every few hundred jobs and forgets finished jobs soon, so that all of that happens meanwhile.
//!
//! Every so often it looks whether a job runs for much longer than any can: one that does is forgotten by somebody.
//!
//! usage: crash-loop [--kills N] [--seed N] [--keep yes]
//!
//! With `--keep yes` a loop that fails leaves its folder and its daemons as they are.

mod check;
mod disk;
mod faults;
mod submit;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::{Cluster, Conf, Random, wait_for};

use crate::disk::SmallDisk;
use crate::faults::POINTS;
use crate::submit::Submitter;

const NODES: [&str; 2] = ["n1", "n2"];
/// Longest pause between two kills.
const PAUSE_MS: u64 = 400;
/// Faults between two looks at what runs.
const LOOK_EVERY: u64 = 25;
/// Seconds; a job works for one at most, and waits for daemons that are down.
const FAR_TOO_LONG: u64 = 60;
/// Journal behind a snapshot that makes another one due: the smallest that the scheduler takes.
const SNAPSHOT_AFTER: &str = "256K";

/// What was done, and what may have come of it.
#[derive(Default)]
struct Outcome {
    /// Faults by name.
    done: BTreeMap<String, u64>,
    /// At most so many jobs may have lost their outcome.
    may_be_lost: u64,
    /// How often an administrator had to confirm that the runs of a lost spool are gone.
    confirmed: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash-loop: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Arguments { kills, seed, keep } = parse()?;
    println!("seed {seed}");
    disk::own_mounts()?;
    let disk = SmallDisk::mount(disk::FOR_SCHEDULER)?;
    let node_disk = SmallDisk::mount(disk::FOR_EXECUTOR)?;
    let conf = Conf::declared(2, 32, "AuthInfo=cred_expire=1\nMinJobAge=10");
    let mut cluster = Cluster::prepare(&conf)?;
    disk.give_to(&cluster, "scheduler")?;
    node_disk.give_to(&cluster, NODES[1])?;
    let result = go(&mut cluster, (&disk, &node_disk), kills, seed);
    if result.is_err() && keep {
        eprintln!("crash-loop: {} and its daemons are kept", cluster.folder().display());
        std::mem::forget((cluster, disk, node_disk));
    }
    result
}

/// The loop itself, on a prepared cluster whose scheduler and second node keep their states on these disks.
fn go(
    cluster: &mut Cluster,
    (disk, node_disk): (&SmallDisk, &SmallDisk),
    kills: u64,
    seed: u64,
) -> Result<()> {
    cluster.set_scheduler_arguments(&["--snapshot-after", SNAPSHOT_AFTER]);
    cluster.start_all(&NODES)?;
    let mut submitter = Submitter::start(cluster, seed)?;
    let mut random = Random::new(seed);
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let mut points = POINTS.iter().cycle();
    for count in 1..=kills {
        // A random instant is the point here; nothing is waited for.
        thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
        let choice = random.below(100);
        let what = match choice {
            0..30 => faults::scheduler(cluster).map(|()| "scheduler".to_owned()),
            30..52 => faults::executor(cluster, NODES[usize::from(choice.is_multiple_of(2))])
                .map(|()| "executor".to_owned()),
            52..65 => faults::supervisor(cluster, &mut random).map(|()| "supervisor".to_owned()),
            65..74 => faults::both(cluster).map(|()| "both".to_owned()),
            74..77 => faults::lost_spool(cluster, NODES[1], &mut outcome).map(|()| "lost spool".to_owned()),
            77..79 => faults::full_executor(cluster, node_disk, NODES[1], &submitter, &mut random)
                .map(|()| "full executor disk".to_owned()),
            79..81 => {
                faults::full_disk(cluster, disk, &submitter, &mut random).map(|()| "full disk".to_owned())
            }
            _ => faults::at_point(cluster, points.next().expect("a cycle never ends"), &mut random),
        }
        .with_context(|| format!("fault {count}, seed {seed}"))?;
        outcome.may_be_lost += u64::from(what == "supervisor");
        *outcome.done.entry(what).or_default() += 1;
        if count % 50 == 0 {
            println!(
                "{count} kills, {} acknowledged, {} s",
                submitter.acknowledged(),
                begin.elapsed().as_secs()
            );
        }
        submitter.failed()?;
        if count.is_multiple_of(LOOK_EVERY) {
            none_forgotten(cluster).with_context(|| format!("after fault {count}, seed {seed}"))?;
        }
    }
    let submitted = submitter.stop()?;
    let rest = || cluster.run("squeue", &["-h", "-t", "all", "-o", "%T"]).ok();
    wait_for("the queue to empty", Duration::from_secs(180), || {
        rest().is_some_and(|ran| {
            let live = ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"];
            ran.code == Some(0) && !ran.stdout.lines().any(|state| live.contains(&state))
        })
    })
    .with_context(|| {
        format!(
            "{}\n{}",
            cluster.run("squeue", &[]).map(|ran| ran.stdout).unwrap_or_default(),
            cluster.last_words()
        )
    })?;
    let found = check::check(cluster, &submitted, outcome.may_be_lost)?;
    let by_kind: Vec<String> = outcome.done.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("{}", found.line());
    println!("an administrator confirmed {} times that the runs of a lost spool are gone", outcome.confirmed);
    println!(
        "crash loop: {kills} kills ({}) in {} s, seed {seed}",
        by_kind.join(", "),
        begin.elapsed().as_secs()
    );
    if !found.wrong.is_empty() {
        for wrong in found.wrong.iter().take(20) {
            eprintln!("wrong: {wrong}");
        }
        bail!("{} things are wrong; seed {seed}\n{}", found.wrong.len(), cluster.last_words());
    }
    Ok(())
}

/// Fails if a job runs for much longer than any can.
fn none_forgotten(cluster: &Cluster) -> Result<()> {
    let ran = cluster.run("squeue", &["-h", "-t", "R,CG,CF", "-O", "JobID,State,TimeUsed,NodeList"])?;
    // Minutes and seconds, or more in front of them.
    let long = |line: &&str| {
        let mut parts = line.split_whitespace().nth(2).unwrap_or_default().rsplit(':');
        let seconds = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let minutes: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        parts.next().is_some() || 60 * minutes + seconds > FAR_TOO_LONG
    };
    let found: Vec<&str> = ran.stdout.lines().filter(long).collect();
    if found.is_empty() {
        return Ok(());
    }
    bail!("these run far too long:\n{}\n{}", found.join("\n"), cluster.last_words())
}

struct Arguments {
    kills: u64,
    seed: u64,
    keep: bool,
}

fn parse() -> Result<Arguments> {
    let (mut kills, mut seed, mut keep) = (60, u64::from(std::process::id()), false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        if word == "--keep" {
            keep = value == "yes";
            continue;
        }
        let number = value.parse().with_context(|| format!("{word} {value}: not a number"))?;
        match word.as_str() {
            "--kills" => kills = number,
            "--seed" => seed = number,
            other => bail!("unknown argument {other:?}"),
        }
    }
    Ok(Arguments { kills, seed, keep })
}
