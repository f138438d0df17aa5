//! The closed lists of policies: order of the queue, backfill, order of candidates, prediction.
//!
//! Owns their names and the key of each order. The daemon uses the default; the simulator names one.

use model::id::JobId;
use model::time::{Span, Timestamp};

use crate::planted::{self, Bug};
use crate::state::QueueKey;
use crate::state::job::Job;

/// In what order jobs are considered. The last tie is always submission, then the job's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Partition tier, then priority (Slurm's multifactor number, or what an administrator set).
    #[default]
    Multifactor,
    /// Submission alone.
    Fcfs,
    /// Smallest time limit first.
    Limit,
    /// Smallest limit × processors first.
    Area,
    /// Smallest `log10(limit) × processors + 870 × log10(submit)` first, in seconds since the start of
    /// the trace. Source: D. Carastan-Santos, R. de Camargo, SC 2017 (F1).
    F1,
}

/// In what order the jobs behind the protected ones are tested for starting now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidates {
    /// As in the queue.
    #[default]
    Queue,
    /// Shortest (predicted) limit first.
    Limit,
    /// Smallest (predicted) limit × processors first.
    Area,
}

/// How long a job is believed to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prediction {
    /// To its limit.
    #[default]
    None,
    /// As long as the mean of the last two jobs of its user that ended, at most its limit; fixed at
    /// submission. Source: D. Tsafrir and others, IEEE TPDS 18(6), 2007.
    Avg2,
}

impl Prediction {
    /// How long a job is believed to run, whatever its limit; `None`: to that.
    #[must_use]
    pub fn of(self, job: &Job) -> Option<Span> {
        match self {
            Self::None => None,
            Self::Avg2 => job.predicted.span(),
        }
    }

    /// The same where a job's time is a number of milliseconds: `limit`, or less.
    pub(super) fn within(self, limit: i64, job: &Job) -> i64 {
        self.of(job).map_or(limit, |believed| limit.min(believed.0))
    }
}

/// How a pass plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Order of the queue.
    pub order: Order,
    /// Most jobs whose planned start nothing behind them may delay; 0: no backfill, the queue stops at
    /// the first job that cannot start. 1 is EASY, `u32::MAX` is conservative. `None`: as
    /// `Settings::backfill_depth` says.
    pub depth: Option<u32>,
    /// A planned start that was given is kept: a promise is part of the state, and moves later only for
    /// a recorded cause.
    pub keep: bool,
    /// How long after time was given back promises are moved earlier; jobs that can start now do so at once.
    pub sweep_after: Span,
    /// Order of the candidates behind the protected jobs.
    pub candidates: Candidates,
    /// Prediction of run times.
    pub prediction: Prediction,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            order: Order::Multifactor,
            depth: None,
            keep: true,
            sweep_after: Span::from_secs(1),
            candidates: Candidates::Queue,
            prediction: Prediction::None,
        }
    }
}

impl Policy {
    /// The policies that have names, as the simulator's `--policy` takes them.
    pub const NAMES: [&'static str; 14] = [
        "fcfs",
        "sjf",
        "saf",
        "f1",
        "easy",
        "easy-sjbf",
        "easy-safbf",
        "sjf-easy",
        "saf-easy",
        "f1-easy",
        "cons",
        "cons-hold",
        "easy-avg2",
        "easy-sjbf-avg2",
    ];

    /// The policy of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let plain = Self {
            order: Order::Fcfs,
            depth: Some(0),
            keep: false,
            sweep_after: Span::ZERO,
            ..Self::default()
        };
        let easy = Self { depth: Some(1), ..plain };
        let conservative = Self { depth: Some(u32::MAX), ..plain };
        Some(match name {
            "fcfs" => plain,
            "sjf" => Self { order: Order::Limit, ..plain },
            "saf" => Self { order: Order::Area, ..plain },
            "f1" => Self { order: Order::F1, ..plain },
            "easy" => easy,
            "easy-sjbf" => Self { candidates: Candidates::Limit, ..easy },
            "easy-safbf" => Self { candidates: Candidates::Area, ..easy },
            "sjf-easy" => Self { order: Order::Limit, ..easy },
            "saf-easy" => Self { order: Order::Area, ..easy },
            "f1-easy" => Self { order: Order::F1, ..easy },
            "cons" => conservative,
            "cons-hold" => Self { keep: true, ..conservative },
            "easy-avg2" => Self { prediction: Prediction::Avg2, ..easy },
            "easy-sjbf-avg2" => Self { candidates: Candidates::Limit, prediction: Prediction::Avg2, ..easy },
            _ => return None,
        })
    }
}

/// Place of a job in the order of the queue; smallest first. Nothing in it changes with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    first: u64,
    submit: Timestamp,
    pub(crate) job: JobId,
}

impl OrderKey {
    /// Before every job.
    pub(crate) const FIRST: Self = Self { first: 0, submit: Timestamp(i64::MIN), job: JobId(0) };
}

impl Order {
    /// The key of a job with this limit (`None`: unlimited) and so many processors.
    #[must_use]
    pub fn key(self, queue: QueueKey, limit: Option<Span>, cpus: u32) -> OrderKey {
        let seconds = limit.map_or(i64::MAX >> 32, Span::as_secs).max(0).cast_unsigned();
        let first = match self {
            Self::Multifactor => tier(queue.tier_rank) << 48 | queue.priority_rank,
            Self::Fcfs => 0,
            Self::Limit => seconds,
            Self::Area => seconds.saturating_mul(u64::from(cpus)),
            Self::F1 => {
                let submit = queue.submit.as_secs().max(1);
                // Whole seconds below 2^53 are exact in a double.
                let score = (seconds as f64).log10() * f64::from(cpus) + 870.0 * (submit as f64).log10();
                ascending(score)
            }
        };
        let last_first = planted::is(Bug::LastComesFirst);
        let submit = if last_first { Timestamp(-queue.submit.0) } else { queue.submit };
        OrderKey { first, submit, job: queue.job }
    }
}

/// The tier's rank in 16 bits, as Slurm keeps tiers.
fn tier(rank: u32) -> u64 {
    u64::from(u16::MAX - u16::try_from(u32::MAX - rank).unwrap_or(u16::MAX))
}

/// The bits of a number, so that they order as the numbers do.
fn ascending(score: f64) -> u64 {
    let bits = score.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_orders() {
        for name in Policy::NAMES {
            assert!(Policy::named(name).is_some(), "{name}");
        }
        assert_eq!(Policy::named("best"), None);
        let numbers = [f64::NEG_INFINITY, -2.5, -1.0, 0.0, 1e-9, 3.0, f64::INFINITY];
        assert!(numbers.windows(2).all(|pair| ascending(pair[0]) < ascending(pair[1])));
    }
}
