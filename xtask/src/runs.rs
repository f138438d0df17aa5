//! Chores that are programs of another package: built and run through cargo, with the user's arguments.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::repo;

/// Runs `program` of the package `tests`; its exit status becomes ours.
pub(crate) fn in_tests(program: &str, arguments: &[&str]) -> Result<ExitCode> {
    cargo(&[&["run", "--quiet", "--package", "tests", "--bin", program, "--"], arguments].concat())
}

/// Builds the product's release and runs a bench against it.
pub(crate) fn bench(name: &str, arguments: &[&str]) -> Result<ExitCode> {
    let built = cargo(&["build", "--quiet", "--release"])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    cargo(&[&["bench", "--quiet", "--package", "benches", "--bench", name, "--"], arguments].concat())
}

/// Runs the gates on counts so that they record what they count.
pub(crate) fn gates() -> Result<ExitCode> {
    let mut command = cargo_command(&["test", "--quiet", "--package", "benches", "--test", "gates"]);
    // Both tests write the same file.
    command.args(["--", "--test-threads=1"]).env("SLUICE_GATE_BLESS", "1");
    ended(command)
}

/// The whole-cluster simulation; in the release profile, since a seed costs twenty times as much without.
pub(crate) fn simulated(arguments: &[&str]) -> Result<ExitCode> {
    let package = ["run", "--quiet", "--release", "--package", "scheduler-sim", "--bin", "sluice-soak"];
    let planted: &[&str] = if arguments.contains(&"--bugs") { &["--features", "planted-bugs"] } else { &[] };
    cargo(&[&package, planted, &["--"], arguments].concat())
}

fn cargo(arguments: &[&str]) -> Result<ExitCode> {
    ended(cargo_command(arguments))
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(repo::root());
    command
}

fn ended(mut command: Command) -> Result<ExitCode> {
    let status = command.status().context("run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
