//! Generic resources: the grammar `name[[:type]:count]` of `--gres`, `--gpus` and node lines.
//!
//! Only what the text means; whether a name or a type exists is the scheduler's to say. Texts that
//! Slurm accepts and lets wait for ever (`gpu:x`, `gpu:-1`) are accepted here too.

use std::fmt;

/// One asked or offered resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GresRequest {
    /// `gpu`.
    pub name: Box<str>,
    /// `a100`, a MIG profile as `3g.20gb`; `None`: any type.
    pub kind: Option<Box<str>>,
    /// How many.
    pub count: u64,
}

/// The text is no resource list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The piece at fault.
    pub piece: String,
    /// Not even the form is right: an empty or a further count. Else the words name nothing that could exist.
    pub malformed: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalid generic resource (gres) specification")
    }
}

impl std::error::Error for Error {}

impl GresRequest {
    /// True for `gpu`.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        &*self.name == "gpu"
    }
}

/// `gpu`, `gpu:2` or `gpu:a100:2`, as in node lines and sinfo.
impl fmt::Display for GresRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(kind) = &self.kind {
            write!(f, ":{kind}")?;
        }
        write!(f, ":{}", self.count)
    }
}

/// What each task is given, as `SLURM_TRES_PER_TASK` names it: `cpu=2,gres/gpu:a100=1`. `None`: nothing is said.
#[must_use]
pub fn per_task_text(cpus: Option<u32>, devices: &[GresRequest]) -> Option<String> {
    let device = |gres: &GresRequest| match &gres.kind {
        Some(kind) => format!("gres/{}:{kind}={}", gres.name, gres.count),
        None => format!("gres/{}={}", gres.name, gres.count),
    };
    let cpus = cpus.map(|cpus| format!("cpu={cpus}"));
    let parts: Vec<String> = cpus.into_iter().chain(devices.iter().map(device)).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Reads `gpu:a100:2,shard,gres/gpu:1`. Empty pieces are skipped; `none` alone asks for nothing.
///
/// Names are lower-cased as Slurm compares them without case; types are kept. Cost: O(text).
pub fn parse_list(text: &str) -> Result<Vec<GresRequest>, Error> {
    let mut list = Vec::new();
    if text.eq_ignore_ascii_case("none") {
        return Ok(list);
    }
    for piece in split(text) {
        let bare = piece.strip_prefix("gres/").or_else(|| piece.strip_prefix("gres:")).unwrap_or(piece);
        list.push(parse_one(bare)?);
    }
    Ok(list)
}

/// Reads `--gpus` and its kin: `2`, `a100:2`, `a100:2,v100:1`.
pub fn parse_gpus(text: &str) -> Result<Vec<GresRequest>, Error> {
    split(text).map(|piece| parse_one(&format!("gpu:{piece}"))).collect()
}

/// `gres/gpu:a100:2,gres/shard:1`, the text of TresPerNode and its kin.
#[must_use]
pub fn tres_text(list: &[GresRequest]) -> String {
    list.iter().map(|item| format!("gres/{item}")).collect::<Vec<_>>().join(",")
}

/// `gpu:a100:4,shard:1`, the text of a node's Gres.
#[must_use]
pub fn node_text(list: &[GresRequest]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A count with an optional suffix K, M, G, T or P (powers of 1024); `None` if it is no count.
#[must_use]
pub fn parse_count(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        b't' => (&text[..text.len() - 1], 40),
        b'p' => (&text[..text.len() - 1], 50),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Pieces between commas; commas inside brackets or parentheses do not count.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |letter| {
        match letter {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .filter(|piece| !piece.is_empty())
}

fn parse_one(piece: &str) -> Result<GresRequest, Error> {
    // Socket lists, "gpu:2(S:0)", are output of scontrol that people paste back.
    let piece = piece.split('(').next().unwrap_or_default();
    let mut words = piece.splitn(3, ':');
    let name = words.next().unwrap_or_default();
    let valid = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter));
    if !valid {
        return Err(Error { piece: piece.to_owned(), malformed: false });
    }
    let counts: Vec<&str> = piece.split(':').skip(1).collect();
    let uncountable = |word: &&str| parse_count(word).is_none();
    if counts.iter().any(|word| word.is_empty()) || counts.len() > 1 && counts.last().is_some_and(uncountable)
    {
        return Err(Error { piece: piece.to_owned(), malformed: true });
    }
    let name = name.to_ascii_lowercase().into_boxed_str();
    let (kind, count) = match (words.next(), words.next()) {
        (None, _) => (None, 1),
        (Some(word), None) => match parse_count(word) {
            Some(count) => (None, count),
            None => (Some(word), 1),
        },
        // "gpu:no_consume:4" marks a node's resource as shared without counting.
        (Some("no_consume"), Some(rest)) => (None, leading_count(rest)),
        (Some(kind), Some(rest)) => (Some(kind), leading_count(rest)),
    };
    let kind = kind.filter(|kind| !kind.is_empty()).map(Box::from);
    Ok(GresRequest { name, kind, count })
}

/// The count that a text begins with, as `strtoull` would read it; 1 where there is none.
fn leading_count(text: &str) -> u64 {
    parse_count(text.split(':').next().unwrap_or_default()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match parse_list(text) {
            Ok(list) => tres_text(&list),
            Err(error) => format!("refused {}", error.piece),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn texts() {
        let table = "
            gpu                | gres/gpu:1
            gpu:2              | gres/gpu:2
            GPU:2              | gres/gpu:2
            gpu:a100:2         | gres/gpu:a100:2
            gres:gpu:2         | gres/gpu:2
            gres/gpu:a100:2    | gres/gpu:a100:2
            gpu:a100           | gres/gpu:a100:1
            gpu:3g.20gb:1      | gres/gpu:3g.20gb:1
            gpu:3g.20gb        | gres/gpu:3g.20gb:1
            mps:2k             | gres/mps:2048
            gpu:1,shard:4      | gres/gpu:1,gres/shard:4
            gpu:x              | gres/gpu:x:1
            gpu:-1             | gres/gpu:-1:1
            gpu:a100:1:2       | gres/gpu:a100:1
            gpu:4(S:0-1)       | gres/gpu:4
            9                  | refused 9
            :2                 | refused :2
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (text, expected) = line.split_once('|').unwrap();
            check(text.trim(), expected.trim());
        }
        check("", "");
        check("none", "");
    }

    #[test]
    fn gpus() {
        let text = |text| tres_text(&parse_gpus(text).unwrap());
        assert_eq!(text("3"), "gres/gpu:3");
        assert_eq!(text("a100:3,v100:1"), "gres/gpu:a100:3,gres/gpu:v100:1");
        assert_eq!(text("0"), "gres/gpu:0");
        assert_eq!(node_text(&parse_list("gpu:a100:4").unwrap()), "gpu:a100:4");
    }
}
