//! Request keys of jobs that have left the memory: a repeated call finds its job for 24 hours after its end.
//!
//! `State` knows the keys of the jobs it holds. The others are remembered here, as a set; what became of
//! such a job is looked up in the history, which is rare. After a start the set is filled from the history:
//! submissions wait for that, for a stated time.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::{RequestKey, Uid};
use model::time::Timestamp;
use tokio::sync::watch;

use crate::store::Error;
use crate::store::history::{History, KEY_KEPT};

/// How long a submission waits for the keys of before this start.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

/// A call of a user.
pub type Call = (Uid, RequestKey);

#[derive(Default)]
struct Known {
    calls: HashSet<Call>,
    /// By the time they were noted; expires from the front.
    ages: VecDeque<(Timestamp, Call)>,
}

/// The keys.
pub struct Keys {
    known: Mutex<Known>,
    loaded: watch::Sender<bool>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { known: Mutex::default(), loaded: watch::Sender::new(false) }
    }
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the call of a job that ended then, and forgets those of too long ago.
    pub fn note(&self, call: Call, end: Timestamp, now: Timestamp) {
        let oldest = now.saturating_sub(KEY_KEPT);
        let mut known = self.lock();
        if known.calls.insert(call) {
            known.ages.push_back((end, call));
        }
        while let Some(&(end, call)) = known.ages.front()
            && end < oldest
        {
            known.ages.pop_front();
            known.calls.remove(&call);
        }
    }

    /// Whether a job of this call may have left the memory. Cost: one look-up.
    #[must_use]
    pub fn may_hold(&self, call: Call) -> bool {
        self.lock().calls.contains(&call)
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().calls.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the set from the history. Cost: a glance at every row of the last 24 hours.
    ///
    /// # Errors
    /// The history cannot be read; the keys that were read count.
    pub fn load(&self, history: &History, now: Timestamp) -> Result<(), Error> {
        let from = now.saturating_sub(KEY_KEPT);
        let read = history.calls_since(from, &mut |call| self.note((call.uid, call.key), call.end, now));
        self.loaded.send_replace(true);
        read
    }

    /// Waits until the set is filled. `false`: not within [`WAIT_MAX`].
    pub async fn ready(&self) -> bool {
        if *self.loaded.borrow() {
            return true;
        }
        let mut loaded = self.loaded.subscribe();
        matches!(tokio::time::timeout(WAIT_MAX, loaded.wait_for(|loaded| *loaded)).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::time::Span;

    #[test]
    fn remembers_for_a_day() {
        let keys = Keys::default();
        let call = |number| (Uid(1), RequestKey([number; 16]));
        let at = |hours: i64| Timestamp::ZERO.saturating_add(Span::from_secs(hours * 3600));
        keys.note(call(1), at(0), at(0));
        keys.note(call(2), at(20), at(20));
        keys.note(call(2), at(20), at(20));
        assert!(keys.may_hold(call(1)) && !keys.may_hold((Uid(2), RequestKey([1; 16]))));
        keys.note(call(3), at(25), at(25));
        assert!(!keys.may_hold(call(1)) && keys.may_hold(call(2)));
        assert_eq!(keys.len(), 2);
    }
}
