//! The command line of the harness.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: cargo xtask conformance [--all] [--only REGEX] [--diff] [--bless] [--shards N]

  --all           every scenario, not only the expected passes; proposes additions
  --only REGEX    only scenarios whose area/name matches
  --diff          print expected and got for every failure
  --bless         with --all: add what passes to tests/conformance/expected-passes.txt
  --shards N      clusters side by side (default 4)";

/// What is to be done.
pub(crate) enum Task {
    Help,
    Suite(Arguments),
    /// One cluster, started by the suite inside its namespaces.
    Shard(Inside),
}

pub(crate) struct Arguments {
    pub(crate) all: bool,
    pub(crate) only: Option<String>,
    pub(crate) diff: bool,
    pub(crate) bless: bool,
    pub(crate) shards: usize,
}

/// What a shard is told.
pub(crate) struct Inside {
    /// Folder with the built binaries.
    pub(crate) binaries: PathBuf,
    /// Where logs go (outside the shard's own mounts).
    pub(crate) logs: PathBuf,
    /// Names of the scenarios.
    pub(crate) scenarios: Vec<String>,
    pub(crate) diff: bool,
}

pub(crate) fn parse(words: &[String]) -> Result<Task, String> {
    if words.first().is_some_and(|word| word == "shard") {
        return shard(&words[1..]);
    }
    let mut arguments = Arguments { all: false, only: None, diff: false, bless: false, shards: 4 };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--all" => arguments.all = true,
            "--diff" => arguments.diff = true,
            "--bless" => arguments.bless = true,
            "--only" => {
                arguments.only = Some(words.next().ok_or("--only needs a regular expression")?.clone())
            }
            "--shards" => {
                let count = words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=16).contains(n));
                arguments.shards = count.ok_or("--shards needs a number from 1 to 16")?;
            }
            "-h" | "--help" => return Ok(Task::Help),
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    if arguments.bless && !arguments.all {
        return Err("--bless goes with --all: without it only expected passes run".to_owned());
    }
    Ok(Task::Suite(arguments))
}

fn shard(words: &[String]) -> Result<Task, String> {
    let [binaries, logs, diff, scenarios @ ..] = words else { return Err("shard is internal".to_owned()) };
    Ok(Task::Shard(Inside {
        binaries: binaries.into(),
        logs: logs.into(),
        diff: diff == "diff",
        scenarios: scenarios.to_vec(),
    }))
}
