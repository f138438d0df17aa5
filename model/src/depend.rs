//! Dependencies between jobs: the grammar of `--dependency` and the text that shows it.
//!
//! A value here is what was asked. Whether a job exists, has begun or has failed is the scheduler's to
//! say: it passes each term's standing to the printer.

use crate::id::JobId;
use std::fmt;

/// What a term waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `after`: the job has begun or was cancelled.
    After,
    /// `afterany`: the job has ended.
    AfterAny,
    /// `afterok`: the job has ended with exit code zero.
    AfterOk,
    /// `afternotok`: the job has failed.
    AfterNotOk,
    /// `aftercorr`: the same task of the other array has ended with exit code zero.
    AfterCorr,
    /// `afterburstbuffer`: the job and its stage-out have ended.
    AfterBurstBuffer,
    /// `expand`: this allocation is meant to grow that job.
    Expand,
    /// `singleton`: no other job of this user and name is left.
    Singleton,
}

impl Kind {
    /// Slurm's word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Kind::After => "after",
            Kind::AfterAny => "afterany",
            Kind::AfterOk => "afterok",
            Kind::AfterNotOk => "afternotok",
            Kind::AfterCorr => "aftercorr",
            Kind::AfterBurstBuffer => "afterburstbuffer",
            Kind::Expand => "expand",
            Kind::Singleton => "singleton",
        }
    }

    fn parse(word: &str) -> Option<Kind> {
        const ALL: [Kind; 8] = [
            Kind::After,
            Kind::AfterAny,
            Kind::AfterOk,
            Kind::AfterNotOk,
            Kind::AfterCorr,
            Kind::AfterBurstBuffer,
            Kind::Expand,
            Kind::Singleton,
        ];
        ALL.into_iter().find(|kind| kind.text().eq_ignore_ascii_case(word))
    }
}

/// Which part of the other job is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tasks {
    /// `123`: the job, whatever it is.
    #[default]
    Unsaid,
    /// `123_*`: every task of the array.
    All,
    /// `123_4`: one task.
    One(u32),
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// What is waited for.
    pub kind: Kind,
    /// The job that is waited for; 0 for `singleton`.
    pub job: JobId,
    /// Which of its tasks.
    pub tasks: Tasks,
    /// `after:ID+MINUTES`: how long after its begin.
    pub delay_minutes: u32,
}

/// Whether a term is met, as the scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet decided.
    Unfulfilled,
    /// Met.
    Fulfilled,
    /// Can never be met.
    Failed,
}

/// All that a job waits for. The default waits for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// The conditions, in the order given.
    pub terms: Vec<Term>,
    /// True where one met condition is enough (`?`), false where all must be met (`,`).
    pub any: bool,
}

/// The text is no dependency. Slurm has one sentence for every cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job dependency problem")
    }
}

impl std::error::Error for Error {}

impl Dependency {
    /// Reads `afterok:1:2,after:3+5`, `afterany:4?afternotok:5`, `singleton`, and the old bare `123`.
    ///
    /// An empty text or `0` waits for nothing. Type names are case-insensitive. Mixing `,` and `?` is
    /// refused. Cost: O(text).
    pub fn parse(text: &str) -> Result<Dependency, Error> {
        let text = text.trim();
        if text.is_empty() || text == "0" {
            return Ok(Dependency::default());
        }
        let any = text.contains('?');
        if any && text.contains(',') {
            return Err(Error);
        }
        let mut terms = Vec::new();
        for piece in text.split(if any { '?' } else { ',' }) {
            parse_piece(piece, &mut terms)?;
        }
        Ok(Dependency { terms, any })
    }

    /// True where nothing is waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// What `squeue -o %E` shows: each term that is not met with its standing, each id with its type.
    ///
    /// `standing` is asked once for each term; met terms are left out. An empty text is to be shown as
    /// `(null)`. Source: goldens `depend/*`.
    #[must_use]
    pub fn display(&self, mut standing: impl FnMut(&Term) -> Standing) -> String {
        let mut out = String::new();
        for term in &self.terms {
            let word = match standing(term) {
                Standing::Fulfilled => continue,
                Standing::Unfulfilled => "unfulfilled",
                Standing::Failed => "failed",
            };
            if !out.is_empty() {
                out.push(if self.any { '?' } else { ',' });
            }
            out.push_str(&format!("{term}({word})"));
        }
        out
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        if self.kind == Kind::Singleton {
            return Ok(());
        }
        write!(f, ":{}", self.job)?;
        match self.tasks {
            Tasks::Unsaid => {}
            Tasks::All => f.write_str("_*")?,
            Tasks::One(task) => write!(f, "_{task}")?,
        }
        if self.delay_minutes > 0 {
            write!(f, "+{}", self.delay_minutes)?;
        }
        Ok(())
    }
}

/// The text that reads back as the same value.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            if at > 0 {
                f.write_str(if self.any { "?" } else { "," })?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

/// `afterok:1:2_3`, `singleton` or a bare id.
fn parse_piece(piece: &str, terms: &mut Vec<Term>) -> Result<(), Error> {
    let mut words = piece.split(':');
    let head = words.next().unwrap_or_default();
    if head.starts_with(|first: char| first.is_ascii_digit()) {
        let (job, tasks, delay_minutes) = parse_target(piece, false)?;
        terms.push(Term { kind: Kind::AfterAny, job, tasks, delay_minutes });
        return Ok(());
    }
    let kind = Kind::parse(head).ok_or(Error)?;
    if kind == Kind::Singleton {
        if words.next().is_some() {
            return Err(Error);
        }
        terms.push(Term { kind, job: JobId(0), tasks: Tasks::Unsaid, delay_minutes: 0 });
        return Ok(());
    }
    let before = terms.len();
    for word in words {
        let (job, tasks, delay_minutes) = parse_target(word, kind == Kind::After)?;
        if kind == Kind::Expand && tasks != Tasks::Unsaid {
            return Err(Error);
        }
        terms.push(Term { kind, job, tasks, delay_minutes });
    }
    let added = terms.len() - before;
    if added == 0 || (kind == Kind::Expand && added > 1) { Err(Error) } else { Ok(()) }
}

/// `12`, `12_3`, `12_*`, and `12+MINUTES` where a delay is allowed.
fn parse_target(word: &str, delay_allowed: bool) -> Result<(JobId, Tasks, u32), Error> {
    let (word, delay) = match word.split_once('+') {
        Some((word, delay)) if delay_allowed => (word, number(delay)?),
        Some(_) => return Err(Error),
        None => (word, 0),
    };
    let (job, tasks) = match word.split_once('_') {
        Some((job, "*")) => (job, Tasks::All),
        Some((job, task)) => (job, Tasks::One(number(task)?)),
        None => (word, Tasks::Unsaid),
    };
    match number(job)? {
        0 => Err(Error),
        job => Ok((JobId(job), tasks, delay)),
    }
}

fn number(text: &str) -> Result<u32, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error);
    }
    text.parse().map_err(|_| Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match Dependency::parse(text) {
            Ok(value) => {
                assert_eq!(Dependency::parse(&value.to_string()), Ok(value.clone()), "{text}");
                value.display(|_| Standing::Unfulfilled)
            }
            Err(Error) => "refused".to_owned(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn texts() {
        let table = "
            afterok:1            | afterok:1(unfulfilled)
            AfterOK:1            | afterok:1(unfulfilled)
            afterok:1:2          | afterok:1(unfulfilled),afterok:2(unfulfilled)
            afterok:1,afterany:2 | afterok:1(unfulfilled),afterany:2(unfulfilled)
            afterok:1?afterany:2 | afterok:1(unfulfilled)?afterany:2(unfulfilled)
            after:1+5            | after:1+5(unfulfilled)
            after:1+5:2          | after:1+5(unfulfilled),after:2(unfulfilled)
            aftercorr:7_*        | aftercorr:7_*(unfulfilled)
            afterok:7_2          | afterok:7_2(unfulfilled)
            afterburstbuffer:3   | afterburstbuffer:3(unfulfilled)
            singleton            | singleton(unfulfilled)
            expand:9             | expand:9(unfulfilled)
            12                   | afterany:12(unfulfilled)
            afterok:1?afterany:1,singleton | refused
            afterok              | refused
            afterok:             | refused
            afterok:x            | refused
            afterok:0            | refused
            afterok:1+5          | refused
            singleton:1          | refused
            expand:1:2           | refused
            nonsense:1           | refused
            afterok:1,           | refused
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (text, expected) = line.split_once('|').unwrap();
            check(text.trim(), expected.trim());
        }
        check("", "");
        check("0", "");
    }

    #[test]
    fn met_terms_vanish() {
        let value = Dependency::parse("afterok:1:2:3").unwrap();
        let text = value.display(|term| match term.job.0 {
            1 => Standing::Fulfilled,
            2 => Standing::Failed,
            _ => Standing::Unfulfilled,
        });
        assert_eq!(text, "afterok:2(failed),afterok:3(unfulfilled)");
    }
}
