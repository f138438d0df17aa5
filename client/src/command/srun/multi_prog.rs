//! `srun --multi-prog`: which rank runs what.
//!
//! A line is a list of ranks and a command: `0 echo zero`, `1-2 echo %t %o`, `* sleep 1`. Words are split at
//! blanks and quotes mean nothing, as in Slurm. `%t` is the rank, `%o` its place in the line's ranks.

use proto::v1::RankProgram;

/// The programs of ranks 0 to `tasks` - 1. `Err` is a sentence that names the file.
pub(super) fn read(text: &str, file: &str, tasks: u32) -> Result<Vec<RankProgram>, String> {
    let mut lines: Vec<(Ranks, Vec<&str>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(ranks) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let ranks = Ranks::parse(ranks).ok_or_else(|| {
            format!("Invalid task range specification ({ranks}) in {file}, line {}", at + 1)
        })?;
        let words: Vec<&str> = words.collect();
        if words.is_empty() {
            return Err(format!("Program not specified in {file}, line {}", at + 1));
        }
        lines.push((ranks, words));
    }
    let program = |rank: u32| {
        let own = lines.iter().find(|(ranks, _)| ranks.place(rank).is_some());
        let (ranks, words) =
            own.ok_or_else(|| format!("Configuration file {file} invalid, no record for task id {rank}"))?;
        let place = ranks.place(rank).unwrap_or(0);
        let arguments = words.iter().map(|word| expand(word, rank, place).into_bytes().into()).collect();
        Ok(RankProgram { rank, arguments })
    };
    (0..tasks).map(program).collect()
}

fn expand(word: &str, rank: u32, place: u32) -> String {
    word.replace("%t", &rank.to_string()).replace("%o", &place.to_string())
}

enum Ranks {
    All,
    Some(Vec<(u32, u32)>),
}

impl Ranks {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let range = |piece: &str| match piece.split_once('-') {
            Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
            None => piece.parse().ok().map(|rank| (rank, rank)),
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self::Some)
    }

    /// Where the rank stands among these; `None` where it does not.
    fn place(&self, rank: u32) -> Option<u32> {
        let Self::Some(ranges) = self else { return Some(rank) };
        let mut before = 0;
        for &(first, last) in ranges {
            if (first..=last).contains(&rank) {
                return Some(before + rank - first);
            }
            before += (last + 1).saturating_sub(first);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, tasks: u32, expected: &str) {
        let got = match read(text, "mp", tasks) {
            Err(line) => line,
            Ok(programs) => {
                let one = |program: &RankProgram| {
                    let words: Vec<_> =
                        program.arguments.iter().map(|word| String::from_utf8_lossy(word)).collect();
                    format!("{}:{}", program.rank, words.join(" "))
                };
                programs.iter().map(one).collect::<Vec<_>>().join(" | ")
            }
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn ranks_and_words() {
        check("0 echo zero %t\n1-2 echo mid %t %o\n", 3, "0:echo zero 0 | 1:echo mid 1 0 | 2:echo mid 2 1");
        check("# all\n0 a\n* b %t\n", 2, "0:a | 1:b 1");
        check("0 a\n", 2, "Configuration file mp invalid, no record for task id 1");
        check("x a\n", 1, "Invalid task range specification (x) in mp, line 1");
    }
}
