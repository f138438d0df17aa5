//! A bench behind each number: every part of docs/PERFORMANCE.md that gives figures names the file that measures them.
//!
//! A *part* is what stands under one heading, a *figure* a table row with a digit in it. The part must name, in
//! backticks, at least one path below `benches/` that exists.

use super::Source;

const DOCUMENT: &str = "docs/PERFORMANCE.md";

/// Findings for the document; none where it does not exist.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let Some(document) = sources.iter().find(|source| source.path == DOCUMENT) else { return Vec::new() };
    let exists = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.starts_with("benches/") && sources.iter().any(|s| s.path == path || s.path.starts_with(&folder))
    };
    let mut findings = Vec::new();
    for part in parts(&document.text) {
        let has_figures =
            part.body.iter().any(|line| line.starts_with('|') && line.contains(|c: char| c.is_ascii_digit()));
        let has_bench = part.body.iter().any(|line| line.split('`').skip(1).step_by(2).any(exists));
        if has_figures && !has_bench {
            findings.push(format!(
                "{DOCUMENT}: part {:?} gives figures and names no bench that exists",
                part.heading
            ));
        }
    }
    findings
}

struct Part<'a> {
    heading: &'a str,
    body: Vec<&'a str>,
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = vec![Part { heading: "(top)", body: Vec::new() }];
    for line in text.lines() {
        if line.starts_with('#') {
            parts.push(Part { heading: line.trim_start_matches('#').trim(), body: Vec::new() });
        } else {
            parts.last_mut().expect("begins with one part").body.push(line);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_needs_a_bench() {
        let found = |text: &str| {
            let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
            check(&[source(DOCUMENT, text), source("benches/submit/main.rs", "")]).len()
        };
        assert_eq!(found("## Submit\nBy `benches/submit`.\n| x | 12 |"), 0);
        assert_eq!(found("## Words\nNo table, 12 words."), 0);
        assert_eq!(found("## Submit\n| x | 12 |"), 1);
        assert_eq!(found("## Submit\n`benches/gone`\n| x | 12 |"), 1);
        assert_eq!(
            found("`benches/submit`\n## Submit\n| x | 12 |"),
            1,
            "a bench named in another part does not count"
        );
    }
}
