//! Checks on the text of files: a module comment on top, and no word that only means something on one machine.

use super::Source;

/// Text that must not stand in a tracked file: folders of one machine, hosts of package registries (a mirror's
/// address is the machine's business). Put together here so that this file does not contain them.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("deb.", "debian.org"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
];

/// Each Rust file opens with a module comment (after inner attributes and blank lines).
pub(crate) fn module_comments(sources: &[Source]) -> Vec<String> {
    let opens = |text: &str| {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
        first.is_some_and(|line| line.starts_with("//!") && line.len() > "//! x.".len())
    };
    let without = sources.iter().filter(|source| source.path.ends_with(".rs") && !opens(&source.text));
    without.map(|source| format!("{}: no module comment (//!) at the top", source.path)).collect()
}

/// No file names a path of one machine or a registry's host. `Cargo.lock` is cargo's to write.
pub(crate) fn foreign_words(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.path.ends_with("Cargo.lock")) {
        for (at, line) in source.text.lines().enumerate() {
            if let Some(word) = FOREIGN.iter().find(|word| names(line, word)) {
                findings.push(format!("{}:{}: names {word}", source.path, at + 1));
            }
        }
    }
    findings
}

/// Whether `line` contains `word`, for a path only where it begins one (`~/a/b/` does not name `/b/`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || !before.is_some_and(|letter| letter.is_alphanumeric() || "._-~}$)".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Vec<Source> {
        vec![Source { path: path.to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn a_module_comment_comes_first() {
        assert!(module_comments(&source("a.rs", "#![no_std]\n\n//! Owns something.\n")).is_empty());
        assert!(module_comments(&source("a.txt", "nothing")).is_empty());
        for text in ["", "use x;\n//! Late.", "//!\nfn f() {}"] {
            assert_eq!(module_comments(&source("a.rs", text)).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn machine_paths_and_hosts_are_found() {
        let path = FOREIGN[0];
        for text in [format!("cd {path}main"), format!("\"{path}x\""), FOREIGN[1].to_owned()] {
            assert_eq!(foreign_words(&source("a.md", &text)).len(), 1, "{text}");
        }
        for text in [format!("$HOME{path}x"), format!("a{path}b"), "no path".to_owned()] {
            assert!(foreign_words(&source("a.md", &text)).is_empty(), "{text}");
        }
    }
}
