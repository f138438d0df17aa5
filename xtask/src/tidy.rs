//! `cargo xtask tidy`: what is enforced, not advised (docs/STYLE.md).
//!
//! Each check is a function from the tree to a list of findings, `file: what is wrong`; a finding fails the run. The
//! longest files and functions are listed beside them and fail nothing. Tidy reads, and never changes a file.

mod arrows;
mod copies;
mod figures;
mod modules;
mod sizes;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{manifest, reference, repo};

/// A file of the tree with its text; files that are not UTF-8 are not read.
pub(crate) struct Source {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Runs every check, prints findings to standard error and the longest parts to standard output.
pub(crate) fn run() -> Result<ExitCode> {
    let root = repo::root();
    let sources = read(&root)?;
    print!("{}", sizes::listing(&sources));
    let findings = findings(&root, &sources)?;
    for finding in &findings {
        eprintln!("tidy: error: {finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing found", sources.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} findings", findings.len());
    Ok(ExitCode::FAILURE)
}

/// Every file that git knows or would add.
pub(crate) fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in repo::files(root)? {
        let bytes = fs::read(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        let path = file.to_str().context("a file name that is not UTF-8")?.to_owned();
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}

fn findings(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let manifests: Vec<(String, manifest::Manifest)> = sources
        .iter()
        .filter(|source| source.path == "Cargo.toml" || source.path.ends_with("/Cargo.toml"))
        .map(|source| (source.path.clone(), manifest::parse(&source.text)))
        .collect();
    let mut findings = arrows::check(&manifests);
    findings.extend(text::module_comments(sources));
    findings.extend(text::foreign_words(sources));
    findings.extend(figures::check(sources));
    findings.extend(modules::check(sources));
    findings.extend(reference::check(sources)?);
    findings.extend(copies::check(root, &shared(root))?);
    Ok(findings)
}

/// The folder beside the repository that some of the test data was copied from; need not exist.
fn shared(root: &Path) -> PathBuf {
    root.parent().unwrap_or(root).join("shared")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let root = repo::root();
        let sources = read(&root).unwrap();
        assert!(sources.len() > 50, "only {} files were read", sources.len());
        let findings = findings(&root, &sources).unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
