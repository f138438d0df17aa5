//! Chores and checks of the repository: `cargo xtask CHORE`.
//!
//! A chore is listed here when it does something; nothing is announced that is not built. Exit status: 0 when all is
//! well, 1 when a check found something, 2 when the command was not understood.

mod manifest;
mod repo;
mod runs;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask CHORE

  conformance [...]     the shell scenarios against recordings of real Slurm (--help: its options)
  tidy                  dependency arrows, lints, module comments, figures, words, copies of shared files";

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
        ["conformance", rest @ ..] => runs::in_tests("conformance", rest),
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
