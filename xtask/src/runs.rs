//! Chores that are programs of another package: built and run through cargo, with the user's arguments.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::repo;

/// Runs `program` of the package `tests`; its exit status becomes ours.
pub(crate) fn in_tests(program: &str, arguments: &[&str]) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "tests", "--bin", program, "--"]).args(arguments);
    let status = command.current_dir(repo::root()).status().with_context(|| format!("run {program}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
