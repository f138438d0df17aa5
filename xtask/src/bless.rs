//! `cargo xtask bless`: renews what is recorded of ourselves, and shows what changed.
//!
//! Writes the reference pages, what tests record where SLUICE_BLESS is set (the store's golden folders and their digests,
//! the guide to scheduler parameters), and with `--all` the list of expected conformance passes; with `--gates` the
//! counts of the gates; nothing else.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{reference, repo, runs, tidy};

/// What is renewed, as git sees it.
const RENEWED: [&str; 4] = [
    "docs/reference",
    "docs/guides/scheduler-parameters.md",
    "scheduler/src/store/tests/golden",
    "tests/conformance/expected-passes.txt",
];

/// The tests that write what they compare with, where they are told to.
const TESTS: [&str; 3] = [
    "the_present_format_has_a_folder",
    "every_released_format_opens_to_its_digest",
    "the_guide_to_parameters_is_the_table",
];

/// Renews the references, and with `all` the conformance list too (every scenario is run for that).
pub(crate) fn run(all: bool) -> Result<ExitCode> {
    let root = repo::root();
    for (path, page) in reference::pages(&tidy::read(&root)?)? {
        let file = root.join(&path);
        fs::create_dir_all(root.join("docs/reference")).context("make docs/reference")?;
        if fs::read_to_string(&file).ok().as_deref() != Some(&page) {
            fs::write(&file, page).with_context(|| format!("write {path}"))?;
            println!("renewed {path}");
        }
    }
    // One at a time: a folder is made before its digest is looked at.
    for test in TESTS {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--quiet", "--package", "scheduler", "--lib", "--", test])
            .env("SLUICE_BLESS", "1")
            .stdout(std::process::Stdio::null())
            .current_dir(&root)
            .status()
            .context("run cargo")?;
        anyhow::ensure!(status.success(), "the test {test} fails with SLUICE_BLESS set");
    }
    let status = if all { runs::in_tests("conformance", &["--all", "--bless"])? } else { ExitCode::SUCCESS };
    show(&root, &RENEWED)?;
    Ok(status)
}

/// Renews the counts that `benches/gates` compares.
pub(crate) fn gates() -> Result<ExitCode> {
    let status = runs::gates()?;
    show(&repo::root(), &["benches/gates/expected.txt"])?;
    Ok(status)
}

/// Shows what changed; new files count as changes too.
fn show(root: &Path, paths: &[&str]) -> Result<()> {
    for words in [&["add", "--intent-to-add", "--"][..], &["--no-pager", "diff", "--"]] {
        Command::new("git").args(words).args(paths).current_dir(root).status().context("run git")?;
    }
    Ok(())
}
