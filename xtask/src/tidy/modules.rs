//! Every Rust file is some module: one that a merge cut off compiles nowhere, and its tests run nowhere.
//!
//! Walks from the targets of each package (cargo's places and the manifest's `path`) along `mod name;` and
//! `#[path = "…"]`. Modules declared inside of inline modules are not followed: there are none.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// Rust files that no target reaches.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let texts: BTreeMap<&str, &str> = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs"))
        .map(|source| (source.path.as_str(), source.text.as_str()))
        .collect();
    let mut open = roots(sources, &texts);
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    let targets = reached.clone();
    while let Some(file) = open.pop() {
        for name in declared(texts[file.as_str()]) {
            let places = places(&file, targets.contains(&file), &name);
            let found = places.into_iter().filter(|place| texts.contains_key(place.as_str()));
            open.extend(found.filter(|place| reached.insert(place.clone())));
        }
    }
    // A bench may hand a file to rustc by itself: then it names the whole path.
    let named = |path: &str| texts.iter().any(|(other, text)| *other != path && text.contains(path));
    let lost = texts.keys().filter(|path| !reached.contains(**path) && !named(path));
    lost.map(|path| format!("{path}: is no module of any target (its `mod` line is missing)")).collect()
}

/// Files that cargo compiles by themselves: where it looks, and what a manifest's `path` names.
fn roots(sources: &[Source], texts: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut roots = Vec::new();
    for manifest in sources.iter().filter(|source| source.path.rsplit('/').next() == Some("Cargo.toml")) {
        let folder = manifest.path.strip_suffix("Cargo.toml").unwrap_or_default();
        let named =
            manifest.text.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.strip_suffix('"'));
        roots.extend(named.map(|path| format!("{folder}{path}")));
        let inside = texts.keys().filter_map(|path| Some((*path, path.strip_prefix(folder)?)));
        roots.extend(inside.filter(|(_, below)| is_target(below)).map(|(path, _)| path.to_owned()));
    }
    roots.retain(|path| texts.contains_key(path.as_str()));
    roots
}

/// Whether cargo takes the file, named from its package's folder, for a target by its place alone.
fn is_target(below: &str) -> bool {
    let words: Vec<&str> = below.split('/').collect();
    let below = match words.as_slice() {
        ["src", "bin", rest @ ..] | ["tests" | "benches" | "examples", rest @ ..] => rest,
        rest => return matches!(rest, ["build.rs"] | ["src", "lib.rs" | "main.rs"]),
    };
    matches!(below, [_] | [_, "main.rs"])
}

/// What a file declares: a module's name, or the path (with `.rs`) that its attribute gives.
fn declared(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(str::to_owned);
        } else if let Some(name) = line.strip_suffix(';').and_then(module_name) {
            found.push(path.take().unwrap_or_else(|| name.to_owned()));
        } else if !line.starts_with("#[") {
            path = None;
        }
    }
    found
}

fn module_name(line: &str) -> Option<&str> {
    let (before, name) = match line.strip_prefix("mod ") {
        Some(name) => ("pub", name),
        None => line.split_once(" mod ")?,
    };
    let word = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    (before.starts_with("pub") && !before.contains(' ') && word).then_some(name)
}

/// Where the file of a module that `file` declares may lie.
fn places(file: &str, target: bool, name: &str) -> Vec<String> {
    let (folder, own) = file.rsplit_once('/').map_or(("", file), |(folder, own)| (folder, own));
    let below = |path: &str| if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    if name.ends_with(".rs") {
        return vec![below(name)];
    }
    let inside = match own.strip_suffix(".rs") {
        Some(stem) if !target && stem != "mod" => format!("{stem}/"),
        _ => String::new(),
    };
    vec![below(&format!("{inside}{name}.rs")), below(&format!("{inside}{name}/mod.rs"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<Source> {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
        files.iter().map(source).collect()
    }

    #[test]
    fn a_file_without_its_mod_line_is_found() {
        let files = tree(&[
            ("a/Cargo.toml", "[[test]]\nname = \"t\"\npath = \"other/main.rs\"\n"),
            ("a/src/lib.rs", "pub mod one;\n#[cfg(test)]\n#[path = \"far_tests.rs\"]\nmod tests;\n"),
            ("a/src/one.rs", "mod two;\npub(crate) mod three;\n"),
            ("a/src/one/two.rs", ""),
            ("a/src/one/three/mod.rs", "mod four;"),
            ("a/src/one/three/four.rs", "// mod lost;\n"),
            ("a/src/far_tests.rs", ""),
            ("a/src/one/lost.rs", ""),
            ("a/other/main.rs", "mod helper;"),
            ("a/other/helper.rs", ""),
            ("a/other/forgotten.rs", ""),
        ]);
        let lost = check(&files);
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(lost[0].starts_with("a/other/forgotten.rs: "), "{lost:?}");
        assert!(lost[1].starts_with("a/src/one/lost.rs: "), "{lost:?}");
    }
}
