//! Trackable resources as texts: `cpu=4,mem=2G,node=1,gres/gpu:a100=2`, and sizes with suffixes.
//!
//! Owns reading and printing; what a TRES costs or who may use it is decided elsewhere.

use std::fmt;

/// What a trackable resource is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Processors.
    Cpu,
    /// Memory, counted in MiB.
    Mem,
    /// Energy, in joules.
    Energy,
    /// Nodes.
    Node,
    /// The billing weight.
    Billing,
    /// `fs/disk`.
    FsDisk,
    /// Virtual memory, in MiB.
    Vmem,
    /// Page faults.
    Pages,
    /// `gres/NAME[:TYPE]`: what stands behind the slash.
    Gres(Box<str>),
    /// `license/NAME`.
    License(Box<str>),
    /// `bb/NAME`.
    BurstBuffer(Box<str>),
    /// `fs/NAME` other than disk, `ic/NAME`: the whole word.
    Other(Box<str>),
}

impl Kind {
    /// Reads `cpu`, `gres/gpu:a100`, …; `None` for a word that is no TRES.
    #[must_use]
    pub fn parse(word: &str) -> Option<Kind> {
        Some(match word.to_ascii_lowercase().as_str() {
            "cpu" => Kind::Cpu,
            "mem" => Kind::Mem,
            "energy" => Kind::Energy,
            "node" => Kind::Node,
            "billing" => Kind::Billing,
            "fs/disk" => Kind::FsDisk,
            "vmem" => Kind::Vmem,
            "pages" => Kind::Pages,
            _ => match word.split_once('/')? {
                (_, "") => return None,
                ("gres", name) => Kind::Gres(name.into()),
                ("license", name) => Kind::License(name.into()),
                ("bb", name) => Kind::BurstBuffer(name.into()),
                ("fs" | "ic", _) => Kind::Other(word.into()),
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Cpu => f.write_str("cpu"),
            Kind::Mem => f.write_str("mem"),
            Kind::Energy => f.write_str("energy"),
            Kind::Node => f.write_str("node"),
            Kind::Billing => f.write_str("billing"),
            Kind::FsDisk => f.write_str("fs/disk"),
            Kind::Vmem => f.write_str("vmem"),
            Kind::Pages => f.write_str("pages"),
            Kind::Gres(name) => write!(f, "gres/{name}"),
            Kind::License(name) => write!(f, "license/{name}"),
            Kind::BurstBuffer(name) => write!(f, "bb/{name}"),
            Kind::Other(word) => f.write_str(word),
        }
    }
}

/// Amounts of trackable resources, in the order in which they are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tres {
    /// What and how much; memory in MiB.
    pub items: Vec<(Kind, u64)>,
}

/// The text is no TRES list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The piece at fault.
    pub piece: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid TRES specification '{}'", self.piece)
    }
}

impl std::error::Error for Error {}

impl Tres {
    /// Reads `cpu=4,mem=2G,gres/gpu:a100=2`. Of two amounts of one resource the last counts.
    pub fn parse(text: &str) -> Result<Tres, Error> {
        let mut tres = Tres::default();
        for piece in text.split(',').filter(|piece| !piece.is_empty()) {
            let fail = || Error { piece: piece.to_owned() };
            let (word, amount) = piece.split_once('=').ok_or_else(fail)?;
            let kind = Kind::parse(word).ok_or_else(fail)?;
            let amount = match kind {
                Kind::Mem | Kind::Vmem => parse_mib(amount),
                _ => crate::gres::parse_count(amount),
            };
            tres.set(kind, amount.ok_or_else(fail)?);
        }
        Ok(tres)
    }

    /// How much of one resource; 0 where it is not named.
    #[must_use]
    pub fn get(&self, kind: &Kind) -> u64 {
        self.items.iter().find(|(known, _)| known == kind).map_or(0, |(_, amount)| *amount)
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, kind: Kind, amount: u64) {
        match self.items.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, known)) => *known = amount,
            None => self.items.push((kind, amount)),
        }
    }

    /// The text with its items in the order of their letters, as sacct prints it.
    #[must_use]
    pub fn sorted_text(&self) -> String {
        let mut texts: Vec<String> =
            self.items.iter().map(|(kind, amount)| item_text(&kind.to_string(), *amount, kind)).collect();
        texts.sort();
        texts.join(",")
    }
}

fn item_text(word: &str, amount: u64, kind: &Kind) -> String {
    match kind {
        Kind::Mem | Kind::Vmem => format!("{word}={}", mib_text(amount)),
        _ => format!("{word}={amount}"),
    }
}

/// In the order held: `cpu=5,mem=2500M,node=1,billing=5,gres/gpu=2`.
impl fmt::Display for Tres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, amount)) in self.items.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(&item_text(&kind.to_string(), *amount, kind))?;
        }
        Ok(())
    }
}

/// Reads a size in MiB where nothing else is said: `100`, `1024K`, `2g`, `1T`, also `4GB` and `4GiB`.
///
/// Kilobytes are rounded up to whole MiB. `None` where it is no size. Cost: O(text).
#[must_use]
pub fn parse_mib(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let suffix = text[digits..].to_ascii_lowercase();
    let mut letters = suffix.chars();
    let unit = letters.next();
    if !matches!(letters.as_str(), "" | "b" | "ib") {
        return None;
    }
    match unit {
        Some('k') => Some(number.div_ceil(1024)),
        None | Some('m') => Some(number),
        Some('g') => number.checked_mul(1 << 10),
        Some('t') => number.checked_mul(1 << 20),
        Some('p') => number.checked_mul(1 << 30),
        _ => None,
    }
}

const SUFFIXES: [&str; 5] = ["M", "G", "T", "P", "E"];

/// A size in MiB with the largest unit that divides it: `500M`, `2G`, `2500M`; `0` has no unit.
///
/// The text of MinMemory, TRES and `squeue -o %m`. Source: goldens `opts/mem-units`.
#[must_use]
pub fn mib_text(mib: u64) -> String {
    if mib == 0 {
        return "0".to_owned();
    }
    let (mut amount, mut unit) = (mib, 0);
    while amount.is_multiple_of(1024) && unit + 1 < SUFFIXES.len() {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount}{}", SUFFIXES[unit])
}

/// A size in MiB in the largest unit, rounded to hundredths: `1.50G`, `2G`.
#[must_use]
pub fn mib_rounded(mib: u64) -> String {
    if mib == 0 {
        return "0".to_owned();
    }
    let mut unit = 0;
    let mut scale = 1_u64;
    while mib / scale >= 1024 && unit + 1 < SUFFIXES.len() {
        scale *= 1024;
        unit += 1;
    }
    if mib.is_multiple_of(scale) {
        return format!("{}{}", mib / scale, SUFFIXES[unit]);
    }
    let hundredths = (u128::from(mib) * 100 + u128::from(scale) / 2) / u128::from(scale);
    format!("{}.{:02}{}", hundredths / 100, hundredths % 100, SUFFIXES[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = "
            100   | 100M
            100M  | 100M
            100m  | 100M
            1G    | 1G
            2g    | 2G
            4GB   | 4G
            1024K | 1M
            1K    | 1M
            1T    | 1T
            0     | 0
            1536  | 1536M
            2500  | 2500M
            lots  | refused
            10X   | refused
            -5    | refused
            1.5G  | refused
            99999999999999999999 | refused
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (text, expected) = line.split_once('|').unwrap();
            let got = parse_mib(text.trim()).map_or("refused".to_owned(), mib_text);
            assert_eq!(got, expected.trim(), "{text}");
        }
        assert_eq!(parse_mib(""), None);
        assert_eq!(mib_rounded(1536), "1.50G");
        assert_eq!(mib_rounded(2048), "2G");
        assert_eq!(mib_rounded(500), "500M");
    }

    #[test]
    fn lists() {
        let tres = Tres::parse("cpu=4,mem=2G,node=1,billing=4,gres/gpu=2,gres/gpu:a100=2").unwrap();
        assert_eq!(tres.to_string(), "cpu=4,mem=2G,node=1,billing=4,gres/gpu=2,gres/gpu:a100=2");
        assert_eq!(tres.sorted_text(), "billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=2G,node=1");
        assert_eq!(tres.get(&Kind::Mem), 2048);
        assert_eq!(tres.get(&Kind::Vmem), 0);
        assert_eq!(Tres::parse("cpu=1,cpu=3").unwrap().to_string(), "cpu=3");
        for bad in ["cpu", "cpu=x", "foo=1", "gres/=1", "mem=1Q"] {
            assert_eq!(Tres::parse(bad), Err(Error { piece: bad.to_owned() }));
        }
    }
}
