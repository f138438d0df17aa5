//! Predictions of run times: what the last runs of each user took, and what is believed of a job from its submission on.
//!
//! Owns the last two runs of each user, whole seconds, where predictions are made; a job's own prediction stands in its
//! record ([`super::job::Job::predicted`]). Invariant: where none are made, nothing is known of any user.
//! Source: D. Tsafrir and others, IEEE TPDS 18(6), 2007 (the mean of the last two).

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use model::id::Uid;
use model::time::Span;

use super::job::Ended;
use crate::plan::policy::Prediction;

/// How long a job is believed to run, whole seconds; or nothing is. As large as a number: every job has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predicted(
    /// One more than the seconds.
    Option<NonZeroU32>,
);

impl Predicted {
    /// So many seconds; more than 136 years are as many.
    #[must_use]
    pub fn seconds(seconds: u32) -> Self {
        Self(NonZeroU32::new(seconds.saturating_add(1)))
    }

    /// The seconds, if any are believed.
    #[must_use]
    pub fn as_secs(self) -> Option<u32> {
        self.0.map(|number| number.get() - 1)
    }

    /// The time, if one is believed.
    #[must_use]
    pub fn span(self) -> Option<Span> {
        self.as_secs().map(|seconds| Span::from_secs(i64::from(seconds)))
    }
}

/// What the runs of a user that ended last took, whole seconds without the time suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRuns {
    /// The one before the last.
    pub earlier_s: Option<u32>,
    /// The last.
    pub last_s: u32,
}

impl LastRuns {
    /// Their mean, rounded down; of one run alone nothing is believed.
    fn mean(self) -> Predicted {
        let mean = |earlier: u32| Predicted::seconds(earlier.midpoint(self.last_s));
        self.earlier_s.map_or_else(Predicted::default, mean)
    }
}

/// All that predictions are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    /// Which are made.
    pub made: Prediction,
    /// By user.
    pub runs: BTreeMap<Uid, LastRuns>,
}

impl Predictions {
    /// What is believed of a job that this user submits now. Cost: O(log users).
    #[must_use]
    pub fn of(&self, user: Uid) -> Predicted {
        match self.made {
            Prediction::None => Predicted::default(),
            Prediction::Avg2 => self.runs.get(&user).map_or_else(Predicted::default, |runs| runs.mean()),
        }
    }

    /// Others are made from now on; what was learnt for those before goes.
    pub(crate) fn make(&mut self, made: Prediction) {
        if self.made != made {
            *self = Self { made, ..Self::default() };
        }
    }

    /// A job of this user has ended for good; one that never started teaches nothing.
    pub(crate) fn learn(&mut self, user: Uid, ended: &Ended) {
        if self.made == Prediction::None {
            return;
        }
        let Some(start) = ended.start else { return };
        let ran = ended.end.since(start).saturating_sub(ended.suspended_total).as_secs();
        let last_s = u32::try_from(ran.max(0)).unwrap_or(u32::MAX);
        let earlier_s = self.runs.get(&user).map(|runs| runs.last_s);
        self.runs.insert(user, LastRuns { earlier_s, last_s });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_takes_four_bytes_and_may_be_zero() {
        assert_eq!(size_of::<Predicted>(), 4);
        assert_eq!(Predicted::default().as_secs(), None);
        for seconds in [0, 1, u32::MAX - 1] {
            assert_eq!(Predicted::seconds(seconds).as_secs(), Some(seconds));
        }
        assert_eq!(Predicted::seconds(u32::MAX).as_secs(), Some(u32::MAX - 1));
        assert_eq!(Predicted::seconds(90).span(), Some(Span::from_secs(90)));
    }
}
