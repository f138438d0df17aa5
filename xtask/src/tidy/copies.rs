//! The copies under tests/ are still equal to what they were copied from, where the original is at hand.
//!
//! A clone stands alone: without the shared folder beside it there is nothing to compare. Both directions are
//! checked, so that a scenario that was added there is missed here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// (copy, original, the whole folder is copied). Relative to the repository and to the shared folder.
const COPIES: &[(&str, &str, bool)] = &[
    ("tests/conformance/scenarios", "conformance/scenarios", true),
    ("tests/conformance/goldens", "conformance/goldens", true),
    ("tests/conformance/reference", "conformance/reference", false),
    ("tests/conformance/conformance.py", "conformance/conformance.py", true),
    ("tests/conformance/prelude.sh", "conformance/prelude.sh", true),
    ("tests/traces", "traces", true),
];

/// Findings: files that differ, and files of a wholly copied folder that exist on one side only.
pub(crate) fn check(root: &Path, shared: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    if !shared.is_dir() {
        return Ok(findings);
    }
    for (copy, original, whole) in COPIES {
        let (copy, original) = (root.join(copy), shared.join(original));
        let copied = below(&copy)?;
        for name in &copied {
            let file = at(&copy, name);
            let ours = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            match fs::read(at(&original, name)) {
                Ok(theirs) if theirs == ours => {}
                Ok(_) => findings.push(format!("{}: differs from the shared original", file.display())),
                Err(_) => findings.push(format!("{}: the shared original is gone", file.display())),
            }
        }
        if *whole {
            let missing = below(&original)?.into_iter().filter(|name| !copied.contains(name));
            findings.extend(missing.map(|name| format!("{}: is not copied", at(&original, &name).display())));
        }
    }
    Ok(findings)
}

/// `name` below `base`; the empty name is `base` itself (joining it would add a slash, which a file does not bear).
fn at(base: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() { base.to_owned() } else { base.join(name) }
}

/// Files below `path`, relative to it; a file stands for itself (as the empty path); nothing where it does not exist.
fn below(path: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    if path.is_file() {
        found.insert(PathBuf::new());
    }
    let mut folders = if path.is_dir() { vec![PathBuf::new()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        let listed = at(path, &folder);
        for entry in fs::read_dir(&listed).with_context(|| format!("list {}", listed.display()))? {
            let entry = entry.with_context(|| format!("list {}", listed.display()))?;
            let name = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(name);
            } else {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_and_missing_files_are_found() {
        let base = std::env::temp_dir().join(format!("xtask-copies-{}", std::process::id()));
        let (root, shared) = (base.join("repo"), base.join("shared"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(root.join("tests/traces/a"), "same");
        write(shared.join("traces/a"), "same");
        assert_eq!(check(&root, &shared).unwrap(), Vec::<String>::new());
        write(shared.join("traces/deep/b"), "new");
        write(root.join("tests/conformance/prelude.sh"), "ours");
        write(shared.join("conformance/prelude.sh"), "theirs");
        write(root.join("tests/conformance/reference/gone"), "x");
        let found = check(&root, &shared).unwrap();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
