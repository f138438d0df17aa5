//! How long the owner of a log lets pieces that are not urgent wait for company before their batch leaves.
//!
//! A batch costs a sync and wakes several threads, however small it is. Under load two pieces that leave together
//! cost half; where nothing comes meanwhile, waiting is only late. So the wait is measured by what it brings: it is
//! doubled when a batch leaves with company and halved when not, between nothing and a few milliseconds. The first
//! piece after a pause never waits. Pure: time is an argument.

use std::time::{Duration, Instant};

/// The longest wait.
const LONGEST: Duration = Duration::from_millis(4);
/// What a wait begins with.
const SHORTEST: Duration = Duration::from_micros(500);

/// See the module comment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    wait: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Before this instant a batch should not leave; `None`: it may leave at once.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.last.map(|last| last + self.wait).filter(|_| !self.wait.is_zero())
    }

    /// Notes that a batch of so many pieces leaves.
    pub fn note(&mut self, now: Instant, pieces: usize) {
        self.last = Some(now);
        self.wait = match pieces {
            0 => self.wait,
            1 if self.wait <= SHORTEST => Duration::ZERO,
            1 => self.wait / 2,
            _ => (self.wait * 2).clamp(SHORTEST, LONGEST),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LONGEST, Pace};

    #[test]
    fn waits_as_long_as_it_brings_company() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.until(), None);
        pace.note(now, 1);
        assert_eq!(pace.until(), None, "alone: the next one leaves at once");
        for _ in 0..9 {
            now += Duration::from_millis(1);
            pace.note(now, 2);
        }
        assert_eq!(pace.until(), Some(now + LONGEST));
        // An hour later nothing waits any more.
        assert!(pace.until().is_some_and(|until| until < now + Duration::from_secs(3600)));
        for _ in 0..9 {
            pace.note(now, 1);
        }
        assert_eq!(pace.until(), None);
    }
}
