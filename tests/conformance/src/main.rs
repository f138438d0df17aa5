//! `cargo xtask conformance`: the shell scenarios against a seven-node cluster, compared with recordings of real Slurm.
//!
//! The cluster is the one the recordings assume: `reference/slurm.conf` is read as it stands, all seven executors run
//! on this host. Several clusters run side by side, each in namespaces of its own (mounts, processes, cgroups), so that
//! nothing on the machine but the four users is touched and everything ends with the run. Needs root.
//!
//! Without `--all`, the scenarios of `expected-passes.txt` run, and one that does not pass fails the run. One that
//! fails is tried once more, alone, before it counts: a minute's limit can be missed on a loaded machine. The second
//! try is reported by name.

mod arguments;
mod passes;
mod scenario;
mod shard;
mod users;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tests::{Binaries, workspace_root};

use crate::arguments::{Arguments, Task};
use crate::scenario::Verdict;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("conformance: error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match arguments::parse(&words) {
        Ok(Task::Help) => {
            println!("{}", arguments::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Task::Suite(arguments)) => suite(&arguments),
        Ok(Task::Shard(inside)) => shard::inside(&inside),
        Err(said) => {
            eprintln!("conformance: error: {said}\n{}", arguments::USAGE);
            Ok(ExitCode::from(2))
        }
    }
}

/// The folder of scenarios, goldens and the runner.
fn folder() -> PathBuf {
    workspace_root().join("tests/conformance")
}

fn suite(arguments: &Arguments) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("needs root: the scenarios run as several users");
    }
    users::ensure()?;
    let binaries = Binaries::get()?;
    let known = scenario::all(&folder(), arguments.only.as_deref())?;
    let whole = scenario::all(&folder(), None)?;
    let ours = whole.iter().filter(|one| scenario::is_ours(&one.name)).count();
    let whole = (whole.len() - ours, ours);
    let list = passes::read(&folder())?;
    let names: BTreeSet<&str> = known.iter().map(|scenario| scenario.name.as_str()).collect();
    if arguments.only.is_none()
        && let Some(gone) = list.iter().find(|name| !names.contains(name.as_str()))
    {
        bail!("expected-passes.txt names {gone}, which is no scenario");
    }
    let chosen: Vec<_> = known.into_iter().filter(|s| arguments.all || list.contains(&s.name)).collect();
    if chosen.is_empty() {
        bail!("no scenario to run: neither the list of expected passes nor --only names one");
    }
    println!("{} scenarios on {} clusters of seven nodes", chosen.len(), arguments.shards.min(chosen.len()));
    let mut verdicts = shard::run(&binaries, &chosen, arguments.shards, arguments.diff)?;
    let failed: Vec<_> =
        chosen.iter().filter(|s| !passed(&verdicts, &s.name) && list.contains(&s.name)).cloned().collect();
    if !failed.is_empty() && failed.len() <= 20 {
        println!("trying {} again, alone: {}", failed.len(), join(failed.iter().map(|s| s.name.as_str())));
        let again = shard::run(&binaries, &failed, 1, arguments.diff)?;
        verdicts.retain(|verdict| !again.iter().any(|new| new.name == verdict.name));
        verdicts.extend(again);
    }
    report(arguments, &list, &verdicts, chosen.len(), whole)
}

fn report(
    arguments: &Arguments,
    list: &BTreeSet<String>,
    verdicts: &[Verdict],
    chosen: usize,
    (recorded, ours): (usize, usize),
) -> Result<ExitCode> {
    let won: BTreeSet<&str> = verdicts.iter().filter(|v| v.passed).map(|v| v.name.as_str()).collect();
    let regressed: Vec<&str> =
        verdicts.iter().filter(|v| !v.passed && list.contains(&v.name)).map(|v| v.name.as_str()).collect();
    let new: Vec<&str> = won.iter().copied().filter(|name| !list.contains(*name)).collect();
    for verdict in verdicts.iter().filter(|verdict| !verdict.passed) {
        println!("FAIL {} ({})", verdict.name, verdict.why);
    }
    if !new.is_empty() {
        println!("pass and are not in the list of expected passes ({}):", new.len());
        new.iter().for_each(|name| println!("  {name}"));
        if arguments.bless {
            passes::add(&folder(), &new)?;
            println!("added to expected-passes.txt");
        } else {
            println!("(--bless adds them)");
        }
    }
    if !regressed.is_empty() {
        println!("regressed: {}", join(regressed.iter().copied()));
    }
    let missing = chosen - verdicts.len();
    if missing > 0 {
        println!("{missing} scenarios gave no verdict: a cluster or its runner ended early");
    }
    let own = won.iter().filter(|name| scenario::is_ours(name)).count();
    println!("{} of {recorded} pass, and {own} of {ours} of our own", won.len() - own);
    let failed = if arguments.all { regressed.len() } else { verdicts.len() - won.len() } + missing;
    println!("{} passed, {failed} failed", won.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn passed(verdicts: &[Verdict], name: &str) -> bool {
    verdicts.iter().any(|verdict| verdict.passed && verdict.name == name)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}
