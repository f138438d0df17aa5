//! The dependency arrows between our packages, and the short lists of those that must stay small.
//!
//! The table below is the drawing of docs/STYLE.md: an arrow that is not in it is forbidden, in every dependency
//! table, tests included. Nothing depends on benches, tests or xtask.

use crate::manifest::{Kind, Manifest};

/// (package, which of ours it may use).
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("journal", &[]),
    ("service", &["model"]),
    ("scheduler-core", &["model"]),
    ("scheduler-codec", &["scheduler-core", "proto", "model"]),
    ("scheduler-sim", &["scheduler-core", "scheduler-codec", "executor-claims", "journal", "model"]),
    ("scheduler", &["model", "proto", "journal", "service", "scheduler-core", "scheduler-codec"]),
    ("executor-supervisor", &[]),
    ("executor-claims", &[]),
    ("executor-fake-nvml", &[]),
    ("executor-pmix", &["executor-supervisor"]),
    ("executor", &["model", "proto", "journal", "service", "executor-supervisor", "executor-claims"]),
    ("client", &["model", "proto", "executor-supervisor"]),
    ("xtask", &[]),
];

/// May use all of the above.
const ON_TOP: &[&str] = &["benches", "tests"];

/// Everything from outside that a package may link: the core is pure, the supervisor is small enough to be read.
const OUTSIDE: &[(&str, &[&str])] =
    &[("model", &[]), ("scheduler-core", &[]), ("executor-claims", &[]), ("executor-supervisor", &["nix"])];

/// Findings over all manifests: `(path, manifest)`.
pub(crate) fn check(manifests: &[(String, Manifest)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, manifest) in manifests.iter().filter(|(_, manifest)| !manifest.name.is_empty()) {
        let name = manifest.name.as_str();
        if !manifest.takes_workspace_lints {
            findings.push(format!("{path}: does not take the workspace's lints ([lints] workspace = true)"));
        }
        let allowed = ARROWS.iter().find(|(package, _)| *package == name).map(|(_, to)| *to);
        if allowed.is_none() && !ON_TOP.contains(&name) {
            findings.push(format!(
                "{path}: package {name} is not in the drawing of arrows (xtask/src/tidy/arrows.rs)"
            ));
        }
        for dependency in &manifest.dependencies {
            let to = dependency.package.as_str();
            if ON_TOP.contains(&to) {
                findings.push(format!("{path}: {name} uses {to}, which nothing may use"));
            } else if ours(to) {
                if !ON_TOP.contains(&name) && !allowed.is_some_and(|allowed| allowed.contains(&to)) {
                    findings.push(format!("{path}: the arrow {name} -> {to} is not drawn"));
                }
            } else if let Some((_, outside)) = OUTSIDE.iter().find(|(package, _)| *package == name)
                && dependency.kind != Kind::Dev
                && !outside.contains(&to)
            {
                findings.push(format!("{path}: {name} links {to}; it may link only {outside:?}"));
            }
        }
    }
    findings
}

fn ours(package: &str) -> bool {
    ARROWS.iter().any(|(name, _)| *name == package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    fn found(name: &str, tables: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{tables}");
        check(&[("Cargo.toml".to_owned(), parse(&text))])
    }

    #[test]
    fn drawn_arrows_pass() {
        for (name, tables) in [
            ("scheduler", "[dependencies]\nscheduler-core.workspace = true\ntokio = \"1\""),
            ("tests", "[dependencies]\nclient.workspace = true\nscheduler-core.workspace = true"),
            (
                "scheduler-core",
                "[dependencies]\nmodel.workspace = true\n[dev-dependencies]\nproptest = \"1\"",
            ),
        ] {
            assert_eq!(found(name, tables), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn what_is_not_drawn_is_found() {
        for (name, tables) in [
            ("scheduler-core", "[dependencies]\nproto.workspace = true"),
            ("scheduler-core", "[dependencies]\nserde = \"1\""),
            ("executor-supervisor", "[dependencies]\ntokio = \"1\""),
            ("client", "[dev-dependencies]\nscheduler-core.workspace = true"),
            ("executor", "[dependencies]\ntests.workspace = true"),
            ("newcomer", ""),
        ] {
            assert_eq!(found(name, tables).len(), 1, "{name}: {tables}");
        }
        let bare = parse("[package]\nname = \"model\"");
        assert_eq!(check(&[("Cargo.toml".to_owned(), bare)]).len(), 1);
    }
}
