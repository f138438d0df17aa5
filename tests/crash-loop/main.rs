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
//! usage: crash-loop [--kills N] [--seed N]

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
    let (kills, seed) = parse()?;
    println!("seed {seed}");
    disk::own_mounts()?;
    let disk = SmallDisk::mount(disk::FOR_SCHEDULER)?;
    let node_disk = SmallDisk::mount(disk::FOR_EXECUTOR)?;
    let conf = Conf::declared(2, 32, "AuthInfo=cred_expire=1\nMinJobAge=10");
    let mut cluster = Cluster::prepare(&conf)?;
    disk.give_to(&cluster, "scheduler")?;
    node_disk.give_to(&cluster, NODES[1])?;
    cluster.set_scheduler_arguments(&["--snapshot-after", SNAPSHOT_AFTER]);
    cluster.start_all(&NODES)?;
    let mut submitter = Submitter::start(&cluster, seed)?;
    let mut random = Random::new(seed);
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let mut points = POINTS.iter().cycle();
    for count in 1..=kills {
        // A random instant is the point here; nothing is waited for.
        thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
        let choice = random.below(100);
        let what = match choice {
            0..30 => faults::scheduler(&mut cluster).map(|()| "scheduler".to_owned()),
            30..52 => faults::executor(&mut cluster, NODES[usize::from(choice.is_multiple_of(2))])
                .map(|()| "executor".to_owned()),
            52..65 => faults::supervisor(&cluster, &mut random).map(|()| "supervisor".to_owned()),
            65..74 => faults::both(&mut cluster).map(|()| "both".to_owned()),
            74..77 => {
                faults::lost_spool(&mut cluster, NODES[1], &mut outcome).map(|()| "lost spool".to_owned())
            }
            77..79 => faults::full_executor(&mut cluster, &node_disk, NODES[1], &submitter, &mut random)
                .map(|()| "full executor disk".to_owned()),
            79..81 => faults::full_disk(&mut cluster, &disk, &submitter, &mut random)
                .map(|()| "full disk".to_owned()),
            _ => faults::at_point(&mut cluster, points.next().expect("a cycle never ends"), &mut random),
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
    let found = check::check(&cluster, &submitted, outcome.may_be_lost)?;
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

fn parse() -> Result<(u64, u64)> {
    let (mut kills, mut seed) = (60, u64::from(std::process::id()));
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        let number = value.parse().with_context(|| format!("{word} {value}: not a number"))?;
        match word.as_str() {
            "--kills" => kills = number,
            "--seed" => seed = number,
            other => bail!("unknown argument {other:?}"),
        }
    }
    Ok((kills, seed))
}
