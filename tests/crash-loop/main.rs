//! The crash loop: daemons and supervisors are killed under running jobs, again and again, and nothing may be lost.
//!
//! It trusts no record of ours: every job appends its number, id, run and boot to a file before and after its work,
//! and a submit counts as acknowledged when `sbatch` printed an id. At the end accounting must agree with both:
//! every acknowledged id is there, no run happened twice, every outcome is right, no id was issued twice, no job was
//! invented.
//!
//! Killed with SIGKILL at random instants: the scheduler, an executor, a supervisor, scheduler and executors at once;
//! and at named points, where a daemon ends itself when it gets there (`SLUICE_CRASH_AT`).
//!
//! usage: crash-loop [--kills N] [--seed N]

mod check;
mod submit;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tests::{Cluster, Conf, Random, send, wait_for, wait_for_some};

use crate::submit::Submitter;

const NODES: [&str; 2] = ["n1", "n2"];
/// Longest pause between two kills.
const PAUSE_MS: u64 = 400;

/// Where an executor can be told to end itself (executor/src/crash.rs).
const POINTS: [&str; 4] = ["after-intent", "after-spawn", "after-outcome", "before-report"];

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
    let conf = Conf::declared(2, 32, "AuthInfo=cred_expire=1");
    let mut cluster = Cluster::start(&conf, &NODES)?;
    let mut submitter = Submitter::start(&cluster, seed)?;
    let mut random = Random::new(seed);
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let begin = Instant::now();
    let mut points = POINTS.iter().cycle();
    for count in 1..=kills {
        // A random instant is the point here; nothing is waited for.
        thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
        let choice = random.below(100);
        let what = match choice {
            0..35 => scheduler(&mut cluster)?,
            35..60 => executor(&mut cluster, NODES[usize::from(choice.is_multiple_of(2))])?,
            60..75 => supervisor(&cluster, &mut random)?,
            75..85 => both(&mut cluster)?,
            _ => at_point(&mut cluster, points.next().expect("a cycle never ends"))?,
        };
        *done.entry(what).or_default() += 1;
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
    let killed = done.get("supervisor").copied().unwrap_or(0);
    let found = check::check(&cluster, &submitted, killed)?;
    let by_kind: Vec<String> = done.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("{}", found.line());
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

fn scheduler(cluster: &mut Cluster) -> Result<&'static str> {
    cluster.scheduler().context("a scheduler runs")?.kill();
    cluster.start_scheduler(&[])?;
    Ok("scheduler")
}

fn executor(cluster: &mut Cluster, node: &str) -> Result<&'static str> {
    cluster.executor(node).with_context(|| format!("an executor of {node} runs"))?.kill();
    cluster.start_executor(node, &[])?;
    Ok("executor")
}

fn both(cluster: &mut Cluster) -> Result<&'static str> {
    cluster.scheduler().context("a scheduler runs")?.kill();
    for node in NODES {
        executor(cluster, node)?;
    }
    cluster.start_scheduler(&[])?;
    Ok("both")
}

/// Kills one of the supervisors that run now; none may be there for a moment.
fn supervisor(cluster: &Cluster, random: &mut Random) -> Result<&'static str> {
    let found = wait_for_some("a supervisor to kill", Duration::from_secs(30), || {
        Some(cluster.supervisors()).filter(|pids| !pids.is_empty())
    })
    .with_context(|| cluster.last_words())?;
    let count = u64::try_from(found.len()).expect("a count");
    let at = usize::try_from(random.below(count)).expect("below a count");
    send(found[at], Signal::SIGKILL);
    Ok("supervisor")
}

/// Restarts an executor that will end itself at `point`, waits until it has, and starts it again as usual.
fn at_point(cluster: &mut Cluster, point: &'static str) -> Result<&'static str> {
    let node = NODES[0];
    cluster.executor(node).context("an executor runs")?.kill();
    cluster.start_executor(node, &[("SLUICE_CRASH_AT", point)])?;
    wait_for(&format!("the crash point {point} to be reached"), Duration::from_secs(60), || {
        cluster.executor(node).is_some_and(|daemon| daemon.ended().is_some())
    })
    .with_context(|| cluster.last_words())?;
    cluster.start_executor(node, &[])?;
    Ok(point)
}
