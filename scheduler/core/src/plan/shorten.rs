//! Runs with a shorter limit than their jobs ask for (`--time-min`).
//!
//! A job that may run for less is planned with the least that it names: an earlier start counts more than a long run. It
//! starts with its whole limit where that has room right now, else for as long as the nodes that take the least stay
//! free, in whole minutes. Owns how long that is. Source: `man sbatch` (`--time-min`), and what Slurm's backfill does: the
//! planned start, too, is that of the least run.

use model::time::Span;

use super::ledger::{Entry, Ledger};
use super::license;
use super::policy::OrderKey;
use super::walk::Walk;
use crate::allocation::NodeShare;
use crate::job::start::least_limit;

/// How long a run would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// As long as its limit says; it has no other.
    Only,
    /// As long as its limit says, though it could be shorter.
    Whole,
    /// As short as may be.
    Least,
}

impl Ledger {
    /// How long a run of that length takes in a class; `None`: the least is no shorter than the whole there.
    #[inline]
    pub(super) fn span_of(
        &self,
        walk: &Walk<'_>,
        key: OrderKey,
        entry: &Entry,
        class: u32,
        length: Length,
    ) -> Option<i64> {
        let planned = self.span(entry, class);
        if length == Length::Only {
            return Some(planned);
        }
        let whole = self.whole_span(&walk.state.jobs[&key.job], entry, class);
        match length {
            Length::Only | Length::Least => (planned < whole).then_some(planned),
            Length::Whole => Some(whole),
        }
    }

    /// The end of a run that has room for its least length until `end`, and its limit where that is not the job's own:
    /// as long as its nodes and licenses are free.
    ///
    /// Cost: O(nodes of the run × (log steps + steps of the answer + reservations)).
    pub(super) fn lengthen(
        &self,
        walk: &Walk<'_>,
        (key, entry): (OrderKey, &Entry),
        (class, end): (u32, i64),
        shares: &[NodeShare],
        licenses: &license::Held,
    ) -> (i64, Option<Span>) {
        let (job, now) = (&walk.state.jobs[&key.job], walk.now);
        let rare = job.request.rare();
        let whole = self.end_of(class, now, self.whole_span(job, entry, class));
        let own = rare.reservation.as_deref();
        let holds = self.cluster.holds(shares);
        let free = holds.iter().map(|(node, amount)| self.cluster.plan(*node).free_until(amount, now));
        let open = shares.iter().map(|share| self.cluster.open_until(share.node.0, own, now));
        let until = free.chain(open).fold(self.licenses.free_until(licenses, now), i64::min).max(end);
        if until >= whole {
            return (whole, None);
        }
        let extra = self.shapes.classes[class as usize].extra;
        let minutes = Span(until.saturating_sub(now).saturating_sub(extra)).as_mins();
        let limit = Span::from_mins(minutes).max(least_limit(rare).unwrap_or(Span::ZERO));
        let taken = limit.as_millis().saturating_add(extra);
        (self.end_of(class, now, taken), Some(limit))
    }
}
