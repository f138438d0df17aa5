//! What is wrong with lines of a trace: counted by line number, never silently used.
//!
//! A fault either leaves the line out or says how it is used all the same.

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Fewer or other fields than a job has.
    NotAJob,
    /// No processors are named.
    NoProcessors,
    /// More processors than the machine has.
    TooManyProcessors,
    /// No run time, or none that is positive.
    NoRunTime,
    /// No time of submission.
    NoSubmit,
    /// It never started.
    NeverStarted,
    /// It has not ended.
    Unfinished,
    /// It starts before it is submitted, or ends before it starts.
    Impossible,
    /// Another line has the same job number (used).
    SameNumber,
    /// Submitted before the line above (used, in order of submission).
    Unordered,
    /// It ran past its limit (used, and ends there).
    PastLimit,
}

const KINDS: usize = 11;

impl Fault {
    /// All, in the order of reports.
    pub const ALL: [Self; KINDS] = [
        Self::NotAJob,
        Self::NoProcessors,
        Self::TooManyProcessors,
        Self::NoRunTime,
        Self::NoSubmit,
        Self::NeverStarted,
        Self::Unfinished,
        Self::Impossible,
        Self::SameNumber,
        Self::Unordered,
        Self::PastLimit,
    ];

    /// Whether the job is simulated all the same.
    #[must_use]
    pub fn is_used(self) -> bool {
        matches!(self, Self::SameNumber | Self::Unordered | Self::PastLimit)
    }

    /// What the report says.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAJob => "left out: not the fields of a job",
            Self::NoProcessors => "left out: no processors",
            Self::TooManyProcessors => "left out: more processors than the machine has",
            Self::NoRunTime => "left out: no run time",
            Self::NoSubmit => "left out: no time of submission",
            Self::NeverStarted => "left out: never started",
            Self::Unfinished => "left out: has not ended",
            Self::Impossible => "left out: starts before its submission or ends before its start",
            Self::SameNumber => "used: a job number that an earlier line has",
            Self::Unordered => "used in order of submission: submitted before the line above",
            Self::PastLimit => "used: ran past the limit and ends there",
        }
    }
}

/// Faults of a trace by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    lines: [Vec<u64>; KINDS],
}

impl Faults {
    /// Notes a line, counted from 1.
    pub fn note(&mut self, fault: Fault, line: u64) {
        self.lines[fault as usize].push(line);
    }

    /// The lines with a fault, in the order of the file.
    #[must_use]
    pub fn lines(&self, fault: Fault) -> &[u64] {
        &self.lines[fault as usize]
    }

    /// A sentence for each kind that occurs: how many, what, and the first ten lines.
    pub fn sentences(&self) -> impl Iterator<Item = (Fault, String)> + '_ {
        Fault::ALL.into_iter().filter(|fault| !self.lines(*fault).is_empty()).map(|fault| {
            let lines = self.lines(fault);
            (fault, sentence("line", lines, fault.text()))
        })
    }
}

/// `2 lines left out (lines 3, 7)`: how many of something, what is said of them, and the first ten by number.
#[must_use]
pub fn sentence<N: ToString>(noun: &str, numbers: &[N], said: &str) -> String {
    let shown: Vec<String> = numbers.iter().take(10).map(ToString::to_string).collect();
    let more = if numbers.len() > shown.len() { ", …" } else { "" };
    let noun = if numbers.len() == 1 { noun.to_owned() } else { format!("{noun}s") };
    format!("{} {noun} {said} ({noun} {}{more})", numbers.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_many_and_where() {
        let mut faults = Faults::default();
        (1..=12).for_each(|line| faults.note(Fault::NoRunTime, line));
        faults.note(Fault::PastLimit, 3);
        let said: Vec<String> = faults.sentences().map(|(_, text)| text).collect();
        assert_eq!(
            said,
            [
                "12 lines left out: no run time (lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)",
                "1 line used: ran past the limit and ends there (line 3)"
            ]
        );
        assert!(Fault::ALL.iter().enumerate().all(|(place, fault)| *fault as usize == place));
    }
}
