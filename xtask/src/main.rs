//! Chores and checks of the repository: `cargo xtask CHORE`.
//!
//! A chore is listed here when it does something; nothing is announced that is not built. Exit status: 0 when all is
//! well, 1 when a check found something, 2 when the command was not understood.

mod bless;
mod manifest;
mod reference;
mod repo;
mod runs;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask CHORE

  bench NAME [...]      benches/NAME in the release profile (submit, launch, store, grid; --tiny --save --seed N --only PART; grid: --cell CELL)
  bench micro [NAME]    by Criterion: scheduling and submission, what takes a second at most
  bench curves          what a pass costs over nodes and pending jobs, drawn into docs/curves
  conformance [...]     the shell scenarios against recordings of real Slurm (--help: its options)
  soak --seeds N [...]  simulated clusters in which everything goes wrong, on all cores (--from S --nodes N --jobs N)
  soak --bugs           the same with bugs planted in the core: the oracles must see each
  soak [--kills N ...]  the crash loop on real processes, a thousand kills (--seed N)
  bless --gates         renews the counts of instructions and allocations that benches/gates compares; prints the diff
  bless [--all]         renews the reference pages (--all: the list of expected conformance passes too); prints the diff
  tidy                  dependency arrows, lints, module comments, figures, words, references, copies of shared files";

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("xtask: error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["bench", name, rest @ ..] => runs::bench(name, rest),
        ["conformance", rest @ ..] => runs::in_tests("conformance", rest),
        ["soak", "--seeds" | "--bugs", ..] => runs::simulated(&words[1..]),
        ["soak", rest @ ..] => runs::in_tests("crash-loop", &[&["--kills", "1000"], rest].concat()),
        ["bless", "--gates"] => bless::gates(),
        ["bless"] => bless::run(false),
        ["bless", "--all"] => bless::run(true),
        ["tidy"] => tidy::run(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            let named =
                other.first().map_or_else(|| "no chore named".to_owned(), |w| format!("unknown chore {w:?}"));
            eprintln!("xtask: error: {named}\n{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
