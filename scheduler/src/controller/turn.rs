//! One turn of the controller: whether the batch at hand may leave, and what is waited for if nothing is left to do.
//!
//! Pure: time is an argument. Its promise is that a wait ends by time only when something can be done then. A pass that
//! has to wait for the batch before it, or a batch that waits for a sync, is woken by that, never by an instant that is
//! past: the controller would turn round and round until the disk is done.

use std::time::Instant;

use crate::inbox;

/// What a turn finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub now: Instant,
    /// An item waits for the next batch.
    pub held_back: bool,
    /// The owner ends when everything has left.
    pub ending: bool,
    /// The batch before is being synced, or too many are not released.
    pub blocked: bool,
    /// Until when a batch that nobody waits for is held back for company.
    pub pace: Option<Instant>,
    /// The batch has nothing in it.
    pub empty: bool,
    /// Nobody waits for what is in it.
    pub patient: bool,
}

/// A pass that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// When it may run.
    pub at: Instant,
    /// It runs only when what it brings can leave at once, in one frame with what it follows from.
    pub brief: bool,
}

impl Turn {
    /// Until when the batch is held back for company.
    fn company(&self) -> Option<Instant> {
        let wanted = self.patient && !self.held_back && !self.ending;
        self.pace.filter(|until| wanted && *until > self.now)
    }

    /// Whether a batch may be given away now.
    pub(super) fn may_leave(&self) -> bool {
        !self.blocked && self.company().is_none()
    }

    /// What to wait for, when what could be done is done; `others` are instants that have nothing to do with batches.
    pub(super) fn wait(
        &self,
        pass: Option<Wish>,
        others: impl IntoIterator<Item = Option<Instant>>,
    ) -> inbox::Wait {
        let company = self.company();
        let leaves = company.filter(|_| !self.empty && !self.blocked);
        let runs = pass.and_then(|wish| match wish.brief {
            true if self.blocked => None,
            true => Some(company.map_or(wish.at, |until| until.max(wish.at))),
            false => Some(wish.at),
        });
        let until = others.into_iter().flatten().chain(leaves).chain(runs).min();
        let stuck = self.blocked && (!self.empty || pass.is_some_and(|wish| wish.brief));
        inbox::Wait { until, patience: self.pace, for_progress: stuck || self.held_back || self.ending }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turn(now: Instant) -> Turn {
        Turn { now, held_back: false, ending: false, blocked: false, pace: None, empty: false, patient: true }
    }

    #[test]
    fn a_batch_leaves_when_it_has_had_its_company_and_the_one_before_is_stored() {
        let now = Instant::now();
        let plain = turn(now);
        assert!(plain.may_leave());
        let early = Turn { pace: Some(now + MS), ..plain };
        assert!(!early.may_leave());
        for now in [
            Turn { patient: false, ..early },
            Turn { held_back: true, ..early },
            Turn { ending: true, ..early },
            Turn { pace: Some(now), ..early },
        ] {
            assert!(now.may_leave(), "{now:?}");
            assert!(!Turn { blocked: true, ..now }.may_leave(), "{now:?}");
        }
        assert_eq!(early.wait(None, []).until, Some(now + MS));
    }

    /// Every combination: what ends a wait by time is an instant to come, or one at which something can be done.
    #[test]
    fn no_wait_ends_at_an_instant_at_which_nothing_can_be_done() {
        let now = Instant::now();
        let (past, coming) = (now.checked_sub(5 * MS).unwrap(), now + 5 * MS);
        let mut seen = 0;
        for bits in 0..32_u32 {
            let [held_back, ending, blocked, empty, patient] = [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
            for pace in [None, Some(past), Some(coming)] {
                for pass in [None, Some(past), Some(coming)] {
                    for brief in [false, true] {
                        let turn = Turn { now, held_back, ending, blocked, pace, empty, patient };
                        let wait = turn.wait(pass.map(|at| Wish { at, brief }), []);
                        let runs = pass == Some(past) && (!brief || turn.may_leave());
                        if wait.until.is_some_and(|at| at <= now) {
                            assert!(runs, "{turn:?} {pass:?} {brief}: {wait:?}");
                        } else {
                            assert!(!runs, "{turn:?} {pass:?} {brief}: {wait:?}");
                        }
                        // Nothing is forgotten: what cannot leave now is woken by time or by progress.
                        let waits = !empty || (pass.is_some() && brief);
                        if waits && !turn.may_leave() {
                            assert!(wait.for_progress || wait.until.is_some(), "{turn:?} {pass:?}: {wait:?}");
                        }
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 32 * 3 * 3 * 2);
    }
}
