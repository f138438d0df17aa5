//! `getopt_long` as glibc does it: short clusters, `--name=value`, abbreviations, permutation, and its
//! exact complaints.
//!
//! Owns how options are split from words; knows no option of any command. A complaint is returned as the
//! line that glibc would print, and reading stops at it, because every command of Slurm gives up there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Never: `--hold`.
    Nothing,
    /// Always, joined or as the next word: `-p NAME`, `--partition=NAME`.
    Value,
    /// Only where it is joined: `--nice`, `--nice=7`, `-I5`.
    Maybe,
}

/// One option of a command. `id` is what the caller matches on; several spellings may share one.
#[derive(Clone, Copy, Debug)]
pub struct Spec<I> {
    /// Caller's name of the option.
    pub id: I,
    /// Single letter, where it has one.
    pub short: Option<u8>,
    /// Long name without the dashes; empty where there is none.
    pub long: &'static str,
    /// Whether a value follows.
    pub takes: Takes,
    /// Only the whole name will do: no abbreviation means it, none is ambiguous because of it.
    pub whole: bool,
}

impl<I> Spec<I> {
    /// An option with both spellings.
    pub const fn new(id: I, short: u8, long: &'static str, takes: Takes) -> Self {
        Self { id, short: Some(short), long, takes, whole: false }
    }
    /// An option that has only a long name.
    pub const fn long(id: I, long: &'static str, takes: Takes) -> Self {
        Self { id, short: None, long, takes, whole: false }
    }
    /// An option that has only a letter.
    pub const fn short(id: I, short: u8, takes: Takes) -> Self {
        Self { id, short: Some(short), long: "", takes, whole: false }
    }
}

/// How an option is written, whatever its command makes of it: for help and completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Single letter, where it has one.
    pub short: Option<u8>,
    /// Long name without the dashes; empty where there is none.
    pub long: &'static str,
    /// Whether a value follows.
    pub takes: Takes,
}

/// The shapes of those options that a command offers, in its order.
pub fn shapes<I: Copy>(specs: &[Spec<I>], offered: impl Fn(I) -> bool) -> Vec<Shape> {
    let shown = specs.iter().filter(|spec| offered(spec.id));
    shown.map(|spec| Shape { short: spec.short, long: spec.long, takes: spec.takes }).collect()
}

/// One option as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<I> {
    /// Which option.
    pub id: I,
    /// Its value; `None` for options without one.
    pub value: Option<OsString>,
}

impl<I> Given<I> {
    /// The value as text; empty where there is none. Bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        self.value.as_deref().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What a command line holds.
#[derive(Clone, Debug)]
pub struct Words<I> {
    /// Options in the order of the line.
    pub options: Vec<Given<I>>,
    /// Words that are no options, in order.
    pub operands: Vec<OsString>,
}

/// Splits `argv` (without the program's name) into options and operands.
///
/// `program` stands before complaints. With `permute`, options may follow operands (as glibc does by
/// default); without it, the first operand ends the options (`+` before the letters, as `srun` asks).
/// A word `--` ends the options and is dropped. `Err` is the line that glibc prints, without newline.
pub fn split<I: Copy + PartialEq>(
    program: &str,
    specs: &[Spec<I>],
    permute: bool,
    argv: &[OsString],
) -> Result<Words<I>, String> {
    let mut words = Words { options: Vec::new(), operands: Vec::new() };
    let mut rest = argv.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            words.operands.extend(rest.cloned());
            break;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            words.options.push(read_long(program, specs, long, &mut rest)?);
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            read_cluster(program, specs, &bytes[1..], &mut rest, &mut words.options)?;
        } else if permute {
            words.operands.push(word.clone());
        } else {
            words.operands.push(word.clone());
            words.operands.extend(rest.cloned());
            break;
        }
    }
    Ok(words)
}

fn read_long<'a, I: Copy + PartialEq>(
    program: &str,
    specs: &[Spec<I>],
    word: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
) -> Result<Given<I>, String> {
    let (name, joined) = match word.iter().position(|&byte| byte == b'=') {
        Some(at) => (&word[..at], Some(OsStr::from_bytes(&word[at + 1..]).to_os_string())),
        None => (word, None),
    };
    let spec = find_long(specs, name).map_err(|candidates| {
        let typed = String::from_utf8_lossy(word);
        if candidates.is_empty() {
            return format!("{program}: unrecognized option '--{typed}'");
        }
        let named: Vec<String> = candidates.iter().map(|spec| format!("'--{}'", spec.long)).collect();
        format!("{program}: option '--{typed}' is ambiguous; possibilities: {}", named.join(" "))
    })?;
    let value = match (spec.takes, joined) {
        (Takes::Nothing, Some(_)) => {
            return Err(format!("{program}: option '--{}' doesn't allow an argument", spec.long));
        }
        (Takes::Nothing, None) | (Takes::Maybe, None) => None,
        (_, Some(value)) => Some(value),
        (Takes::Value, None) => match rest.next() {
            Some(value) => Some(value.clone()),
            None => return Err(format!("{program}: option '--{}' requires an argument", spec.long)),
        },
    };
    Ok(Given { id: spec.id, value })
}

/// The option of that long name: exact, or the only one that begins so. Else the candidates.
fn find_long<'s, I: Copy + PartialEq>(
    specs: &'s [Spec<I>],
    name: &[u8],
) -> Result<&'s Spec<I>, Vec<&'s Spec<I>>> {
    let named = || specs.iter().filter(|spec| !spec.long.is_empty());
    if let Some(spec) = named().find(|spec| spec.long.as_bytes() == name) {
        return Ok(spec);
    }
    let begins_so = |spec: &&Spec<I>| !spec.whole && spec.long.as_bytes().starts_with(name);
    let candidates: Vec<_> = named().filter(begins_so).collect();
    match candidates.split_first() {
        Some((first, others))
            if others.iter().all(|other| other.id == first.id && other.takes == first.takes) =>
        {
            Ok(first)
        }
        _ => Err(candidates),
    }
}

fn read_cluster<'a, I: Copy + PartialEq>(
    program: &str,
    specs: &[Spec<I>],
    letters: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Vec<Given<I>>,
) -> Result<(), String> {
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        at += 1;
        let shown = char::from(letter);
        let Some(spec) = specs.iter().find(|spec| spec.short == Some(letter)) else {
            return Err(format!("{program}: invalid option -- '{shown}'"));
        };
        let joined = &letters[at..];
        let value = match spec.takes {
            Takes::Nothing => {
                options.push(Given { id: spec.id, value: None });
                continue;
            }
            Takes::Maybe if joined.is_empty() => None,
            Takes::Value if joined.is_empty() => match rest.next() {
                Some(value) => Some(value.clone()),
                None => return Err(format!("{program}: option requires an argument -- '{shown}'")),
            },
            _ => Some(OsString::from_vec(joined.to_vec())),
        };
        options.push(Given { id: spec.id, value });
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[Spec<u8>] = &[
        Spec::new(b'H', b'H', "hold", Takes::Nothing),
        Spec::long(1, "nice", Takes::Maybe),
        Spec::new(b't', b't', "time", Takes::Value),
        Spec::long(2, "no-kill", Takes::Maybe),
        Spec::long(3, "no-requeue", Takes::Nothing),
        Spec::new(b'N', b'N', "nodes", Takes::Value),
    ];

    fn check(permute: bool, line: &str, expected: &str) {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let got = match split("sbatch", SPECS, permute, &argv) {
            Err(line) => line,
            Ok(words) => {
                let options: Vec<String> =
                    words.options.iter().map(|given| format!("{}:{}", given.id, given.text())).collect();
                let operands: Vec<_> = words.operands.iter().map(|word| word.to_string_lossy()).collect();
                format!("{} | {}", options.join(" "), operands.join(" "))
            }
        };
        assert_eq!(got, expected, "{line}");
    }

    #[test]
    fn splits_as_glibc_does() {
        check(true, "-Ht5 --nice=7 a --nodes 3 b", "72:  116:5 1:7 78:3 | a b".replace("  ", " ").as_str());
        check(false, "-H a --nodes 3", "72: | a --nodes 3");
        check(true, "a -- --hold", " | a --hold");
        check(true, "--nic -", "1: | -");
        check(true, "--no-r", "3: | ");
    }

    #[test]
    fn complains_as_glibc_does() {
        check(true, "--hold=1", "sbatch: option '--hold' doesn't allow an argument");
        check(true, "--time", "sbatch: option '--time' requires an argument");
        check(true, "-t", "sbatch: option requires an argument -- 't'");
        check(true, "-X", "sbatch: invalid option -- 'X'");
        check(true, "--foo=x", "sbatch: unrecognized option '--foo=x'");
        check(
            true,
            "--no=c1",
            "sbatch: option '--no=c1' is ambiguous; possibilities: '--no-kill' '--no-requeue' '--nodes'",
        );
    }
}
