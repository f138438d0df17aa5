//! `expected-passes.txt`: the scenarios that must pass, one name a line, sorted; `#` begins a comment.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const FILE: &str = "expected-passes.txt";
const HEAD: &str = "# Scenarios that pass; one that stops passing fails the tests. `cargo xtask conformance --all --bless` adds.\n";

/// The list; empty where there is no file.
pub(crate) fn read(folder: &Path) -> Result<BTreeSet<String>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Adds names and writes the whole list again.
pub(crate) fn add(folder: &Path, names: &[&str]) -> Result<()> {
    let mut all = read(folder)?;
    all.extend(names.iter().map(|name| (*name).to_owned()));
    let mut text = HEAD.to_owned();
    for name in all {
        text.push_str(&name);
        text.push('\n');
    }
    let path = folder.join(FILE);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
