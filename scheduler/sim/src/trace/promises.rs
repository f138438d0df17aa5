//! How good promised starts are: the first start that a job was promised beside the one it got.

use model::id::JobId;

use super::replay::{Scene, Watch};
use scheduler_core::plan::Pass;

/// Watches promises.
#[derive(Debug, Default)]
pub struct Promises {
    /// First promise of each job by its place, seconds of the replay; `None`: never promised.
    first: Vec<Option<i64>>,
    /// How much later than promised it started, seconds; of jobs that were promised a start.
    late: Vec<i64>,
}

/// What came of the promises. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accuracy {
    /// Jobs that were promised a start before they got one.
    pub promised: usize,
    /// Of them, those that started exactly then.
    pub exact: usize,
    /// Those that started earlier.
    pub earlier: usize,
    /// Those that started later.
    pub later: usize,
    /// Mean of how much earlier or later.
    pub mean_off_s: f64,
    /// What 50 % and 95 % of them were off by at most.
    pub off_s: [i64; 2],
    /// The most that one was late.
    pub latest_s: i64,
}

impl Promises {
    /// Sums up.
    #[must_use]
    pub fn accuracy(&self) -> Accuracy {
        let mut off: Vec<i64> = self.late.iter().map(|late| late.abs()).collect();
        off.sort_unstable();
        let rank =
            |percent: usize| off.get((off.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0);
        Accuracy {
            promised: off.len(),
            exact: off.iter().filter(|off| **off == 0).count(),
            earlier: self.late.iter().filter(|late| **late < 0).count(),
            later: self.late.iter().filter(|late| **late > 0).count(),
            mean_off_s: off.iter().sum::<i64>() as f64 / off.len().max(1) as f64,
            off_s: [rank(50), rank(95)],
            latest_s: self.late.iter().copied().max().unwrap_or(0).max(0),
        }
    }

    fn note(&mut self, place: usize, promise: i64) {
        if self.first.len() <= place {
            self.first.resize(place + 1, None);
        }
        self.first[place].get_or_insert(promise);
    }
}

impl Watch for Promises {
    fn wants_verdicts(&self) -> bool {
        true
    }

    fn planned(&mut self, scene: &Scene<'_>, pass: &Pass) {
        for verdict in &pass.verdicts {
            if let (Some(planned), Some(place)) = (&verdict.planned, scene.place(verdict.job)) {
                self.note(place, planned.start.as_secs());
            }
        }
    }

    fn started(&mut self, scene: &Scene<'_>, job: JobId) {
        let place = scene.place(job);
        if let Some(promise) = place.and_then(|place| self.first.get(place).copied().flatten()) {
            self.late.push(scene.now.as_secs() - promise);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up() {
        let promises = Promises { first: Vec::new(), late: vec![0, -10, 4, 0] };
        let accuracy = promises.accuracy();
        assert_eq!((accuracy.promised, accuracy.exact, accuracy.earlier, accuracy.later), (4, 2, 1, 1));
        assert_eq!((accuracy.mean_off_s, accuracy.off_s, accuracy.latest_s), (3.5, [0, 10], 4));
    }
}
