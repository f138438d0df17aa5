//! The letters of Slurm's configuration files: lines, comments, continuations, quotes, `Include`.
//!
//! Turns texts into lines of `Key=Value` pairs that remember file and line. Knows no key. Reading a file
//! is the caller's; this only asks for it. Included files may include others, sixteen deep; a file that includes itself is
//! the one error that is reported then, since all else would be said once for each round.

use super::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the text of a file, or why it cannot be had.
pub type Reader<'a> = &'a mut dyn FnMut(&Path) -> Result<String, String>;

const DEPTH_MAX: usize = 16;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1; of a continued line, its first.
    pub line: u32,
}

impl Place {
    /// An error at this place.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error { place: self.clone(), message: message.into() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One logical line with what it sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub place: Place,
    /// Keys as written, and values without their quotes, in order.
    pub pairs: Vec<(String, String)>,
}

/// Every line of `text` and of the files that it includes, in order, without empty ones.
///
/// `path` names the text in errors; included paths are relative to its folder. Errors are collected, so
/// that all of a file's are seen at once.
pub fn lines(text: &str, path: &Path, read: Reader<'_>, errors: &mut Vec<Error>) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Err(endless) = walk(text, path, read, errors, &mut lines, &mut vec![path.to_owned()]) {
        *errors = vec![endless];
        lines.clear();
    }
    lines
}

/// `open` are the files that are being read, from the first to this one.
///
/// # Errors
/// The files include each other without an end.
fn walk(
    text: &str,
    path: &Path,
    read: Reader<'_>,
    errors: &mut Vec<Error>,
    out: &mut Vec<Line>,
    open: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let file: Arc<Path> = Arc::from(path);
    for (line, logical) in logical_lines(text) {
        let place = Place { file: Arc::clone(&file), line };
        let bare = strip_comment(&logical);
        let bare = bare.trim();
        if bare.is_empty() {
            continue;
        }
        if let Some(target) = include_target(bare) {
            let target = resolve(path, target);
            if let Some(begin) = open.iter().position(|other| *other == target) {
                let round = open[begin..].iter().chain([&target]).map(|file| file.display().to_string());
                let round = round.collect::<Vec<_>>().join(" -> ");
                return Err(place.error(format!("the files include each other ({round}); remove this line")));
            }
            if open.len() >= DEPTH_MAX {
                return Err(place.error(format!("Include is nested more than {DEPTH_MAX} deep")));
            }
            match read(&target) {
                Ok(text) => {
                    open.push(target.clone());
                    walk(&text, &target, read, errors, out, open)?;
                    open.pop();
                }
                Err(cause) => errors.push(place.error(format!("Include {}: {cause}", target.display()))),
            }
            continue;
        }
        match pairs(bare) {
            Ok(pairs) => out.push(Line { place, pairs }),
            Err(rest) => errors.push(place.error(format!("cannot be read as Key=Value: {rest}"))),
        }
    }
    Ok(())
}

fn resolve(from: &Path, target: &str) -> PathBuf {
    from.parent().unwrap_or(Path::new("")).join(target)
}

/// Physical lines joined where one ends in an odd number of backslashes; with the number of the first.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(u32, String)> = None;
    for (at, physical) in text.lines().enumerate() {
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let (first, mut joined) = open.take().unwrap_or((number, String::new()));
        let trimmed = physical.trim_end();
        let backslashes = trimmed.bytes().rev().take_while(|&byte| byte == b'\\').count();
        if backslashes % 2 == 1 {
            joined.push_str(&trimmed[..trimmed.len() - 1]);
            open = Some((first, joined));
        } else {
            joined.push_str(trimmed);
            lines.push((first, joined));
        }
    }
    lines.extend(open);
    lines
}

/// The line up to its first `#` that no backslash protects; protected ones lose the backslash.
fn strip_comment(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut protected = false;
    for letter in line.chars() {
        match (letter, protected) {
            ('#', true) => {
                out.pop();
                out.push('#');
                protected = false;
            }
            ('#', false) => break,
            ('\\', false) => {
                out.push('\\');
                protected = true;
            }
            _ => {
                out.push(letter);
                protected = false;
            }
        }
    }
    out
}

fn include_target(line: &str) -> Option<&str> {
    let (word, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim();
    (word.eq_ignore_ascii_case("include") && !rest.starts_with('=')).then(|| rest.trim_matches('"'))
}

/// `Key=Value`, `Key = "a b"`, several on a line. The error is what could not be read.
fn pairs(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let fail = || rest.to_owned();
        let (key, after) = rest.split_once('=').ok_or_else(fail)?;
        let key = key.trim_end();
        let valid = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
        if key.is_empty() || !key.chars().all(valid) {
            return Err(fail());
        }
        let after = after.trim_start();
        let (value, left) = if let Some(quoted) = after.strip_prefix('"') {
            let (value, left) = quoted.split_once('"').ok_or_else(fail)?;
            if !left.is_empty() && !left.starts_with(char::is_whitespace) {
                return Err(fail());
            }
            (value, left)
        } else {
            after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()))
        };
        if value.is_empty() && !after.starts_with('"') {
            return Err(fail());
        }
        pairs.push((key.to_owned(), value.to_owned()));
        rest = left.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> (Vec<String>, Vec<String>) {
        let mut errors = Vec::new();
        let mut read = |path: &Path| match path.to_str() {
            Some("/etc/slurm/nodes.conf") => Ok("NodeName=n1\nInclude more.conf\n".to_owned()),
            Some("/etc/slurm/more.conf") => Ok("A=1".to_owned()),
            Some("/etc/slurm/loop.conf") => Ok("B=1\nInclude back.conf".to_owned()),
            Some("/etc/slurm/back.conf") => Ok("word\nInclude loop.conf".to_owned()),
            Some(path) if path.ends_with("deep.conf") => {
                Ok(format!("Include {}", path.replace("deep", "deep.deep")))
            }
            _ => Err("No such file or directory".to_owned()),
        };
        let lines = lines(text, Path::new("/etc/slurm/slurm.conf"), &mut read, &mut errors);
        let show = |line: &Line| {
            let pairs: Vec<String> =
                line.pairs.iter().map(|(key, value)| format!("{key}<{value}>")).collect();
            format!("{} {}", line.place, pairs.join(" "))
        };
        (lines.iter().map(show).collect(), errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_and_pairs() {
        let (lines, errors) = read_all(
            "# a comment\n\nA=1 b = \"x y\" # tail\nC=a\\#b\nD=1,\\\n  2\nD=1\\\n  E=2\nAuthInfo=cred_expire=10\nF=\"\"\n",
        );
        assert_eq!(
            lines,
            [
                "/etc/slurm/slurm.conf:3 A<1> b<x y>",
                "/etc/slurm/slurm.conf:4 C<a#b>",
                "/etc/slurm/slurm.conf:7 D<1> E<2>",
                "/etc/slurm/slurm.conf:9 AuthInfo<cred_expire=10>",
                "/etc/slurm/slurm.conf:10 F<>",
            ]
        );
        assert_eq!(errors, ["/etc/slurm/slurm.conf:5: cannot be read as Key=Value: 2"]);
    }

    #[test]
    fn includes() {
        let (lines, errors) = read_all("Include nodes.conf\ninclude gone.conf\nB=2");
        assert_eq!(
            lines,
            [
                "/etc/slurm/nodes.conf:1 NodeName<n1>",
                "/etc/slurm/more.conf:1 A<1>",
                "/etc/slurm/slurm.conf:3 B<2>"
            ]
        );
        assert_eq!(
            errors,
            ["/etc/slurm/slurm.conf:2: Include /etc/slurm/gone.conf: No such file or directory"]
        );
        let (lines, errors) = read_all("A=1\nInclude loop.conf");
        assert_eq!(
            errors,
            [
                "/etc/slurm/back.conf:2: the files include each other (/etc/slurm/loop.conf -> /etc/slurm/back.conf -> \
              /etc/slurm/loop.conf); remove this line"
            ]
        );
        assert_eq!(lines, [""; 0]);
        let (_, errors) = read_all("Include deep.conf");
        assert!(errors[0].ends_with(":1: Include is nested more than 16 deep"), "{errors:?}");
    }

    #[test]
    fn bad_lines() {
        for bad in ["word", "A=", "A=1 word", "A=\"x", "=1", "A=\"x\"y"] {
            let (_, errors) = read_all(bad);
            assert_eq!(errors.len(), 1, "{bad}: {errors:?}");
        }
    }
}
