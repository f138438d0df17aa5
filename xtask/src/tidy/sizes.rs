//! The longest files and functions: to be looked at, never a reason to fail.

use std::fmt::Write as _;

use super::Source;

const SHOWN: usize = 8;

/// A few lines for people: the longest Rust files and functions, longest first.
pub(crate) fn listing(sources: &[Source]) -> String {
    let rust: Vec<&Source> = sources.iter().filter(|source| source.path.ends_with(".rs")).collect();
    let mut files: Vec<(usize, String)> =
        rust.iter().map(|s| (s.text.lines().count(), s.path.clone())).collect();
    let mut functions: Vec<(usize, String)> = rust.iter().flat_map(|source| functions(source)).collect();
    let mut out = String::new();
    for (title, parts) in [("longest files", &mut files), ("longest functions", &mut functions)] {
        parts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        writeln!(out, "{title}:").expect("writing to a string");
        for (lines, name) in parts.iter().take(SHOWN) {
            writeln!(out, "{lines:6}  {name}").expect("writing to a string");
        }
    }
    out
}

/// Length and `file: name` of each function. Relies on rustfmt: a body ends at a `}` indented as its `fn` is.
fn functions(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let opens = lines[at..]
            .iter()
            .position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        let Some(opens) = opens.filter(|offset| lines[at + offset].ends_with('{')) else { continue };
        // In a macro's list a semicolon may follow.
        let is_close = |line: &&str| line.strip_suffix(';').unwrap_or(line) == close;
        if let Some(length) = lines[at + opens..].iter().position(is_close) {
            found.push((opens + length + 1, format!("{}:{} {name}", source.path, at + 1)));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let (before, after) =
        if let Some(after) = words.strip_prefix("fn ") { ("", after) } else { words.split_once(" fn ")? };
    let prefixes = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    if !before.split_whitespace().all(|word| prefixes.contains(&word)) {
        return None;
    }
    after.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let text = "//! x\npub(crate) fn long(\n    a: u8,\n) {\n    b();\n}\n\nfn one() {}\n    async fn inner() {\n        x;\n    }\n    fn listed() {\n        y\n    };\n// a fn in words {\n";
        let source = Source { path: "a.rs".to_owned(), text: text.to_owned() };
        let found = functions(&source);
        assert_eq!(
            found,
            [(5, "a.rs:2 long".to_owned()), (3, "a.rs:9 inner".to_owned()), (3, "a.rs:12 listed".to_owned())]
        );
    }
}
