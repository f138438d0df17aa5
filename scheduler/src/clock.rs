//! The one clock of the daemon: wall time at the start, then monotonic time.
//!
//! What it answers never decreases, also across restarts (it starts at or after the last time in the
//! state), and does not jump when the wall clock is set: timers and limits keep their lengths. How far the
//! wall clock has moved away meanwhile can be asked, and is said in the log.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::time::{Span, Timestamp};

/// Wall time as the system has it now.
#[must_use]
pub fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        Err(_) => Timestamp::ZERO,
    }
}

/// A clock that only goes forward. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that shows wall time now, or `not_before` where that is later.
    #[must_use]
    pub fn start(not_before: Timestamp) -> Self {
        Self { base: wall().max(not_before), started: Instant::now() }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.base.saturating_add(elapsed(self.started))
    }

    /// The monotonic instant at which this clock shows `at`; now, where that is past.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = u64::try_from(at.since(self.base).0).unwrap_or(0);
        // A year ahead is as good as never: whoever waits looks again.
        let ahead = std::time::Duration::from_millis(ahead.min(366 * 24 * 3_600_000));
        self.started + ahead
    }

    /// How far the wall clock is ahead of this one; negative: behind.
    #[must_use]
    pub fn drift(&self) -> Span {
        wall().since(self.now())
    }
}

fn elapsed(since: Instant) -> Span {
    Span(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_no_earlier_than_the_state() {
        let future = wall().saturating_add(Span::from_secs(3600));
        let clock = Clock::start(future);
        assert!(clock.now() >= future);
        assert!(clock.drift().is_negative());
        assert!(clock.instant(future) <= Instant::now());
        assert!(clock.instant(future.saturating_add(Span::from_secs(60))) > Instant::now());
    }
}
