//! Which limits of QOS and associations keep jobs waiting, as others begin and end.
//!
//! A limit is reached, or gives way, by what other jobs hold: nothing of the waiting job itself changes. Owns what every
//! entry that a limit may hold back was last told of that, and asks again when what jobs hold has changed, as many as a
//! slice may say something of. Where very many wait that is a second after the last time at the soonest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::reason::Reason;

use super::ledger::Ledger;
use super::policy::OrderKey;
use super::walk::{Outcome, Walk};

/// More than these are not asked again at each change.
const MANY: usize = 4096;
/// How long after the last time they are, milliseconds.
const PAUSE: i64 = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// Waiting entries with limits or licenses, and which of them keeps each.
    pub(super) blamed: BTreeMap<OrderKey, Option<Reason>>,
    /// Those that only the nodes they would have keep from starting, by what these make of their requests: others that
    /// start take these nodes, and then they wait for room.
    pub(super) by_nodes: BTreeSet<OrderKey>,
    /// Jobs hold more than when all were asked last, or limits are others. Where they hold less, all that was held back is
    /// looked at anyway.
    pub(super) changed: bool,
    /// Where asking goes on; `None`: all were asked.
    from: Option<Bound<OrderKey>>,
    /// When it last began; `None`: never.
    began: Option<i64>,
}

impl Limited {
    /// Whether some are still to be asked.
    pub(super) fn is_under_way(&self) -> bool {
        self.from.is_some()
    }

    /// When a change is looked at that was put off; `None`: there is none.
    pub(super) fn due(&self, now: i64) -> Option<i64> {
        let put_off = self.changed && self.from.is_none() && !self.blamed.is_empty();
        self.began.filter(|_| put_off).map(|began| began.saturating_add(PAUSE).max(now.saturating_add(1)))
    }

    /// Notes which limit an entry breaks, whatever nodes it would have.
    pub(super) fn blame(&mut self, key: &OrderKey, limit: Option<Reason>) {
        if let Some(blamed) = self.blamed.get_mut(key) {
            *blamed = limit;
        }
    }

    /// Notes what came of a test for starting now: which limit the nodes broke that it would have had.
    pub(super) fn tested(&mut self, key: OrderKey, limit: Option<Reason>) {
        if limit.is_some_and(|limit| limit != Reason::Licenses) {
            self.by_nodes.insert(key);
        } else if !self.by_nodes.is_empty() {
            self.by_nodes.remove(&key);
        }
    }

    /// An entry waits no more.
    pub(super) fn forget(&mut self, key: &OrderKey) {
        self.blamed.remove(key);
        self.by_nodes.remove(key);
    }

    /// Begins to ask, where there is a reason to and it is time.
    fn begin(&mut self, now: i64) {
        let soon = self.began.is_some_and(|began| now < began.saturating_add(PAUSE));
        if self.changed && self.from.is_none() && !(soon && self.blamed.len() > MANY) {
            self.changed = false;
            self.from = Some(Bound::Unbounded);
            self.began = Some(now);
        }
    }
}

impl Ledger {
    /// Adds what limits do to entries that nothing else was said of, up to so many of them.
    pub(super) fn ask_limits(
        &mut self,
        walk: &mut Walk<'_>,
        said: &mut BTreeMap<OrderKey, Outcome>,
        mut left: u32,
    ) {
        self.limited.changed |= !walk.out.plan.starts.is_empty();
        if self.limited.blamed.is_empty() {
            self.limited.changed = false;
        }
        self.limited.begin(walk.now);
        let Some(mut from) = self.limited.from.take() else { return };
        let after = |from| (from, Bound::Unbounded);
        while let Some((&key, &known)) = self.limited.blamed.range(after(from)).next() {
            if left == 0 {
                self.limited.from = Some(from);
                return;
            }
            left -= 1;
            from = Bound::Excluded(key);
            let Some(entry) = self.queue.get(&key).copied() else { continue };
            if said.contains_key(&key)
                || self.proposed.contains_key(&key.job)
                || self.elements_left(walk, key, &entry) == 0
            {
                continue;
            }
            let limit = walk.held_back(key, &entry);
            if limit != known {
                said.insert(key, limit.map_or(Outcome::Waits, Outcome::Kept));
            }
        }
    }
}
