//! Hostlists: `n[001-128],x7` ⇄ names.
//!
//! Owns expansion and compression of host names as texts; knows no node. Order and repeats are kept.
//! A text that would name more than [`MAX_NAMES`] hosts is refused before any of them is made.

use std::fmt;

/// The most names that one text may stand for.
pub const MAX_NAMES: u64 = 1_000_000;

/// Why a text is no hostlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A range between brackets is none: what stands there.
    Range(String),
    /// A bracket is opened and never closed, or closed and never opened.
    Bracket,
    /// More than [`MAX_NAMES`] names.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Range(range) => write!(f, "_parse_single_range: Invalid range: `{range}'"),
            Error::Bracket => f.write_str("unbalanced brackets in hostlist"),
            Error::TooMany => write!(f, "hostlist names more than {MAX_NAMES} hosts"),
        }
    }
}

impl std::error::Error for Error {}

/// Numbers between brackets: `08-11` with its width.
struct Range {
    first: u64,
    last: u64,
    width: usize,
}

/// A part of one hostlist piece.
enum Part<'a> {
    Text(&'a str),
    Ranges(Vec<Range>),
}

/// Every name that the text stands for, in order, repeats kept.
///
/// Pieces are separated by commas or blanks; empty pieces are skipped. With several brackets the last one
/// counts fastest, then the first, then the second, and so on: Slurm's order, and with it that of nodes in a
/// configuration. Cost: O(names).
///
/// ```
/// let names = model::hostlist::expand("r[0-1]c[2-3]b[4-5]").unwrap();
/// assert_eq!(names[..4], ["r0c2b4", "r0c2b5", "r1c2b4", "r1c2b5"]);
/// ```
pub fn expand(text: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for piece in split(text)? {
        let parts = parts(piece)?;
        if names.len() as u64 + count(&parts)? > MAX_NAMES {
            return Err(Error::TooMany);
        }
        let brackets = parts.iter().filter(|part| matches!(part, Part::Ranges(_))).count();
        append(&parts, &slowest_first(brackets), &mut vec![(0, 0); brackets], &mut names);
    }
    Ok(names)
}

/// How many names the text stands for, without making them.
pub fn size(text: &str) -> Result<u64, Error> {
    let mut total = 0;
    for piece in split(text)? {
        total += count(&parts(piece)?)?;
        if total > MAX_NAMES {
            return Err(Error::TooMany);
        }
    }
    Ok(total)
}

/// Pieces between commas and blanks outside brackets.
pub fn split(text: &str) -> Result<Vec<&str>, Error> {
    let mut pieces = Vec::new();
    let mut depth = 0_u32;
    let mut start = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' if depth == 1 => return Err(Error::Bracket),
            '[' => depth = 1,
            ']' if depth == 0 => return Err(Error::Bracket),
            ']' => depth = 0,
            ',' | ' ' | '\t' | '\n' if depth == 0 => {
                pieces.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(Error::Bracket);
    }
    pieces.push(&text[start..]);
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces)
}

fn parts(piece: &str) -> Result<Vec<Part<'_>>, Error> {
    let mut parts = Vec::new();
    let mut rest = piece;
    while let Some(open) = rest.find('[') {
        let close = rest.find(']').ok_or(Error::Bracket)?;
        if open > 0 {
            parts.push(Part::Text(&rest[..open]));
        }
        let ranges = rest[open + 1..close].split(',').map(range).collect::<Result<Vec<_>, _>>()?;
        parts.push(Part::Ranges(ranges));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

fn range(text: &str) -> Result<Range, Error> {
    let invalid = || Error::Range(text.to_owned());
    let number = |digits: &str| {
        let valid = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if valid { digits.parse::<u64>().map_err(|_| invalid()) } else { Err(invalid()) }
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(low)?, number(high)?);
    if first > last {
        return Err(invalid());
    }
    Ok(Range { first, last, width: low.len() })
}

fn count(parts: &[Part<'_>]) -> Result<u64, Error> {
    let mut product = 1_u64;
    for part in parts {
        if let Part::Ranges(ranges) = part {
            let here =
                ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.last - range.first + 1));
            product = product.saturating_mul(here);
        }
    }
    if product > MAX_NAMES { Err(Error::TooMany) } else { Ok(product) }
}

/// The brackets of a piece from the one that counts slowest to the one that counts fastest.
fn slowest_first(brackets: usize) -> Vec<usize> {
    let Some(last) = brackets.checked_sub(1) else { return Vec::new() };
    (0..last).rev().chain([last]).collect()
}

/// Counts through the brackets that `order` still names; `chosen` holds each bracket's number and its width.
fn append(parts: &[Part<'_>], order: &[usize], chosen: &mut Vec<(u64, usize)>, names: &mut Vec<String>) {
    let Some((&bracket, rest)) = order.split_first() else {
        names.push(name(parts, chosen));
        return;
    };
    let mut brackets = parts.iter().filter_map(|part| match part {
        Part::Ranges(ranges) => Some(ranges),
        Part::Text(_) => None,
    });
    let ranges = brackets.nth(bracket).expect("the order names brackets of this piece");
    for range in ranges {
        for number in range.first..=range.last {
            chosen[bracket] = (number, range.width);
            append(parts, rest, chosen, names);
        }
    }
}

fn name(parts: &[Part<'_>], chosen: &[(u64, usize)]) -> String {
    let mut numbers = chosen.iter();
    let mut name = String::new();
    for part in parts {
        match part {
            Part::Text(text) => name.push_str(text),
            Part::Ranges(_) => {
                let (number, width) = numbers.next().expect("every bracket has a number");
                name.push_str(&format!("{number:0width$}", width = *width));
            }
        }
    }
    name
}

/// A name cut into what stands before its last digits, and these.
struct Host<'a> {
    prefix: &'a str,
    digits: &'a str,
    number: u64,
}

fn host(name: &str) -> Host<'_> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(18);
    let (prefix, digits) = name.split_at(name.len() - digits);
    Host { prefix, digits, number: digits.parse().unwrap_or(0) }
}

/// The shortest text that keeps order and repeats: `n5,n1,n2` is `n[5,1-2]`.
///
/// Only the last number of a name is folded, and numbers padded to different widths stay apart.
/// Cost: O(names).
pub fn compress<S: AsRef<str>>(names: &[S]) -> String {
    let hosts: Vec<Host<'_>> = names.iter().map(|name| host(name.as_ref())).collect();
    compress_hosts(&hosts)
}

/// [`compress`] of the sorted names: by prefix, then by width where paddings differ, then by number.
pub fn compress_sorted<S: AsRef<str>>(names: &[S]) -> String {
    let mut hosts: Vec<Host<'_>> = names.iter().map(|name| host(name.as_ref())).collect();
    hosts.sort_by(|a, b| a.prefix.cmp(b.prefix));
    let mut start = 0;
    while start < hosts.len() {
        let end = start + hosts[start..].iter().take_while(|one| one.prefix == hosts[start].prefix).count();
        let group = &mut hosts[start..end];
        let mut widths: Vec<usize> =
            group.iter().filter(|one| one.digits.starts_with('0')).map(|one| one.digits.len()).collect();
        widths.sort_unstable();
        widths.dedup();
        // A number without padding belongs to the widest padding that prints it as it is.
        group.sort_by_key(|one| {
            let class = widths.iter().rev().find(|&&width| width <= one.digits.len()).copied();
            (!one.digits.is_empty(), class, one.number)
        });
        start = end;
    }
    compress_hosts(&hosts)
}

fn compress_hosts(hosts: &[Host<'_>]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < hosts.len() {
        let prefix = hosts[at].prefix;
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(prefix);
        if hosts[at].digits.is_empty() {
            at += 1;
            continue;
        }
        let group =
            hosts[at..].iter().take_while(|one| one.prefix == prefix && !one.digits.is_empty()).count();
        if group == 1 {
            out.push_str(hosts[at].digits);
        } else {
            out.push('[');
            push_ranges(&mut out, &hosts[at..at + group]);
            out.push(']');
        }
        at += group;
    }
    out
}

fn push_ranges(out: &mut String, group: &[Host<'_>]) {
    let mut at = 0;
    while at < group.len() {
        let width = group[at].digits.len();
        let mut end = at;
        while end + 1 < group.len()
            && group[end + 1].number == group[end].number + 1
            && printed_len(group[end + 1].number, width) == group[end + 1].digits.len()
        {
            end += 1;
        }
        if at > 0 {
            out.push(',');
        }
        out.push_str(group[at].digits);
        if end > at {
            out.push('-');
            out.push_str(group[end].digits);
        }
        at = end + 1;
    }
}

/// How many digits `number` has when padded to `width`.
fn printed_len(number: u64, width: usize) -> usize {
    (number.checked_ilog10().unwrap_or(0) as usize + 1).max(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expand(text: &str, expected: &str) {
        let got = match expand(text) {
            Ok(names) => {
                assert_eq!(size(text), Ok(names.len() as u64), "{text}");
                assert_eq!(expand(&compress(&names)).as_ref(), Ok(&names), "{text}");
                names.join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn expansion() {
        let table = "
            c[1-3,5],x7   | c1 c2 c3 c5 x7
            n[08-11]      | n08 n09 n10 n11
            a[1-2]b[1-2]  | a1b1 a1b2 a2b1 a2b2
            n[001-003]    | n001 n002 n003
            n[1-2]-ib     | n1-ib n2-ib
            a,a,b         | a a b
            x[9-11]       | x9 x10 x11
            r[1-2]n[1,3]  | r1n1 r1n3 r2n1 r2n3
            [1-2]         | 1 2
            n[3-1]        | _parse_single_range: Invalid range: `3-1'
            n[a-b]        | _parse_single_range: Invalid range: `a-b'
            n[]           | _parse_single_range: Invalid range: `'
            n[1           | unbalanced brackets in hostlist
            n1]           | unbalanced brackets in hostlist
            n[[1]]        | unbalanced brackets in hostlist
            n[0-1000000]  | hostlist names more than 1000000 hosts
            n[1-9999][1-9999] | hostlist names more than 1000000 hosts
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (text, expected) = line.split_once('|').unwrap();
            check_expand(text.trim(), expected.trim());
        }
        check_expand("", "");
    }

    #[test]
    fn compression() {
        let table = "
            n1,n2,n3,n5             | n[1-3,5]            | n[1-3,5]
            n5,n1,n3,n2             | n[5,1,3,2]          | n[1-3,5]
            n5,n1,n3,n2,n1          | n[5,1,3,2,1]        | n[1,1-3,5]
            a1,b1,a2                | a1,b1,a2            | a[1-2],b1
            n01,n02,n10,n1,n2       | n[01-02,10,1-2]     | n[1-2,01-02,10]
            r1n1,r1n2,r2n1,r2n2     | r1n[1-2],r2n[1-2]   | r1n[1-2],r2n[1-2]
            n1,n1,n2                | n[1,1-2]            | n[1,1-2]
            b2,a10,a9,a1            | b2,a[10,9,1]        | a[1,9-10],b2
            n[1-3],n[5-6]           | n[1-3,5-6]          | n[1-3,5-6]
            n[001-128]              | n[001-128]          | n[001-128]
            n9,n10                  | n[9-10]             | n[9-10]
            n099,n100               | n[099-100]          | n[099-100]
            node,node1              | node,node1          | node,node1
            x                       | x                   | x
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let names = expand(cells[0]).unwrap();
            assert_eq!(compress(&names), cells[1], "{}", cells[0]);
            assert_eq!(compress_sorted(&names), cells[2], "{} sorted", cells[0]);
        }
        assert_eq!(compress::<String>(&[]), "");
    }

    #[test]
    fn any_order_comes_back() {
        let mut seed = 11_u32;
        let mut next = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..300 {
            let names: Vec<String> = (0..next(12))
                .map(|_| {
                    format!(
                        "{}{:0width$}",
                        ["n", "m", "a-"][next(3) as usize],
                        next(12),
                        width = next(4) as usize
                    )
                })
                .collect();
            let text = compress(&names);
            assert_eq!(expand(&text).unwrap(), names, "{text}");
            let mut sorted = expand(&compress_sorted(&names)).unwrap();
            sorted.sort();
            let mut plain = names.clone();
            plain.sort();
            assert_eq!(sorted, plain);
        }
    }
}
