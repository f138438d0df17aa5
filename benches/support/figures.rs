//! Numbers on their way to a reader: spread of a sample, a table, a result file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::machine::Machine;

/// Median and tail of a sample of durations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// Half are below.
    pub median: Duration,
    /// 99 of 100 are below.
    pub p99: Duration,
    /// The longest.
    pub most: Duration,
}

impl Spread {
    /// Of a sample in any order; zeros for an empty one.
    #[must_use]
    pub fn of(mut sample: Vec<Duration>) -> Self {
        sample.sort_unstable();
        let at = |part: usize| {
            sample.get((sample.len() * part / 100).min(sample.len().saturating_sub(1))).copied()
        };
        let (median, p99, most) = (at(50), at(99), sample.last().copied());
        Self {
            median: median.unwrap_or_default(),
            p99: p99.unwrap_or_default(),
            most: most.unwrap_or_default(),
        }
    }
}

/// Rows of one bench.
#[derive(Debug)]
pub struct Report {
    name: String,
    seed: u64,
    rows: Vec<(String, String, String)>,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> Self {
        Self { name: name.to_owned(), seed, rows: Vec::new() }
    }

    /// Adds a figure and prints it at once: what, how much, in which unit.
    pub fn row(&mut self, what: &str, value: f64, unit: &str) {
        let value = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        println!("  {what:<64} {value:>10} {unit}");
        self.rows.push((what.to_owned(), value, unit.to_owned()));
    }

    /// Adds the median and the 99th percentile of a spread, in milliseconds.
    pub fn spread(&mut self, what: &str, spread: Spread) {
        self.row(&format!("{what}, median"), spread.median.as_secs_f64() * 1e3, "ms");
        self.row(&format!("{what}, p99"), spread.p99.as_secs_f64() * 1e3, "ms");
    }

    /// Writes `results/DATE-NAME.json` beside the benches; says where.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, machine: &Machine) -> Result<()> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_secs();
        let date = said("date", &["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H%M%SZ"]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut json = String::from("{\n");
        let commit = said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
        let command: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let head = [("bench", self.name.clone()), ("date", date.clone()), ("commit", commit)];
        let tail = [("command", format!("cargo xtask bench {} {}", self.name, command.join(" ")))];
        for (key, value) in head.into_iter().chain(tail).chain(machine.facts()) {
            writeln!(json, "  \"{key}\": \"{}\",", escape(&value)).expect("writing to a string");
        }
        writeln!(json, "  \"seed\": {},\n  \"figures\": [", self.seed).expect("writing to a string");
        for (at, (what, value, unit)) in self.rows.iter().enumerate() {
            let comma = if at + 1 < self.rows.len() { "," } else { "" };
            let what = escape(what);
            writeln!(json, "    {{\"what\": \"{what}\", \"value\": {value}, \"unit\": \"{unit}\"}}{comma}")
                .expect("writing to a string");
        }
        json.push_str("  ]\n}\n");
        let path = folder.join(format!("{date}-{}.json", self.name));
        fs::create_dir_all(&folder).context("make the results' folder")?;
        fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
        println!("saved as {}", path.display());
        Ok(())
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .map(|c| if c == '"' || c == '\\' { format!("\\{c}") } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred_are_their_places() {
        let sample = (1..=100).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(sample);
        assert_eq!([spread.median, spread.p99, spread.most].map(|d| d.as_millis()), [51, 100, 100]);
        assert_eq!(Spread::of(Vec::new()).most, Duration::ZERO);
    }
}
