//! As much of `Cargo.toml` as the checks need: the package's name, its lints table, its dependencies.
//!
//! Not a TOML parser: it reads the shapes that cargo documents for these tables (`name = …`, `name.workspace = true`,
//! `[dependencies.name]`, `package = "…"`), line by line, and skips the rest by counting brackets.

/// What one manifest says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// `package.name`; empty for a workspace without a package.
    pub(crate) name: String,
    /// Whether `[lints] workspace = true` stands in it.
    pub(crate) takes_workspace_lints: bool,
    /// Every dependency, in the order of the file.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package, after renaming is undone.
    pub(crate) package: String,
    /// Which of cargo's three tables it stands in.
    pub(crate) kind: Kind,
}

/// Cargo's dependency tables.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// Reads the text of a manifest. Never fails: a line that it does not understand is no dependency.
pub(crate) fn parse(text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    let mut section = String::new();
    let mut depth = 0;
    for line in text.lines() {
        let line = without_comment(line).trim();
        if depth > 0 {
            depth += nesting(line);
            continue;
        }
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = header.trim_matches(['[', ']']).to_owned();
            if let Some((table, package)) = section.rsplit_once('.')
                && let Some(kind) = dependency_table(table)
            {
                manifest
                    .dependencies
                    .push(Dependency { package: package.trim_matches('"').to_owned(), kind });
            }
            continue;
        }
        depth += nesting(line);
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match section.as_str() {
            "package" if key == "name" => manifest.name = value.trim_matches('"').to_owned(),
            "lints" if key == "workspace" => manifest.takes_workspace_lints = value == "true",
            table => {
                if let Some(kind) = dependency_table(table) {
                    let named = key.split('.').next().unwrap_or(key).trim_matches('"');
                    let package = renamed(value).unwrap_or(named).to_owned();
                    manifest.dependencies.push(Dependency { package, kind });
                }
            }
        }
    }
    manifest
}

fn dependency_table(section: &str) -> Option<Kind> {
    match section.rsplit('.').next()? {
        "dependencies" if section != "workspace.dependencies" => Some(Kind::Normal),
        "build-dependencies" => Some(Kind::Build),
        "dev-dependencies" => Some(Kind::Dev),
        _ => None,
    }
}

/// `foo = { package = "bar" }` depends on bar.
fn renamed(value: &str) -> Option<&str> {
    let (_, after) = value.split_once("package")?;
    after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()
}

/// A `#` outside quotes begins a comment.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, letter) in line.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

fn nesting(line: &str) -> i32 {
    line.chars().map(|letter| i32::from("[{".contains(letter)) - i32::from("]}".contains(letter))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_a_dependency_is_read() {
        let text = r#"
[package]
name = "x" # its name
[lints]
workspace = true
[workspace.dependencies]
not_one = "1"
[dependencies]
a = "1"
b.workspace = true
c = { version = "1", features = [
    "many",
    "lines",
] }
d = { package = "really", version = "1" }
[dev-dependencies]
e = "1"
[build-dependencies]
f = "1"
[target.'cfg(unix)'.dependencies]
g = "1"
[dependencies.h]
version = "1"
"#;
        let manifest = parse(text);
        let seen: Vec<(&str, Kind)> =
            manifest.dependencies.iter().map(|d| (d.package.as_str(), d.kind)).collect();
        let normal = Kind::Normal;
        let want = [("a", normal), ("b", normal), ("c", normal), ("really", normal), ("e", Kind::Dev)];
        let more = [("f", Kind::Build), ("g", normal), ("h", normal)];
        assert_eq!(seen, [want.as_slice(), more.as_slice()].concat());
        assert_eq!(manifest.name, "x");
        assert!(manifest.takes_workspace_lints);
    }
}
