//! `cargo xtask bless`: renews what is recorded of ourselves, and shows what changed.
//!
//! Writes the reference pages and the list of expected conformance passes, nothing else.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{reference, repo, runs, tidy};

/// What is renewed, as git sees it.
const RENEWED: [&str; 2] = ["docs/reference", "tests/conformance/expected-passes.txt"];

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
    let status = if all { runs::in_tests("conformance", &["--all", "--bless"])? } else { ExitCode::SUCCESS };
    // New files count as changes too.
    Command::new("git")
        .args(["add", "--intent-to-add", "--"])
        .args(RENEWED)
        .current_dir(&root)
        .status()
        .context("run git")?;
    Command::new("git")
        .args(["--no-pager", "diff", "--"])
        .args(RENEWED)
        .current_dir(&root)
        .status()
        .context("run git")?;
    Ok(status)
}
