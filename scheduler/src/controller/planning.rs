//! When the planner runs, and what becomes of what it says.
//!
//! Owns the planner and its pace: a pass runs when something changed and no input is left, takes at most
//! half of the controller's time, and is not put off for ever by a storm of inputs. A pass that asserts
//! changes nothing; after the second in a row planning stops and says so.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use model::id::JobId;
use model::reason::Reason;
use model::time::Timestamp;
use scheduler_core::input::Plan;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;

use crate::metrics::Metrics;
use crate::rows::job::Verdict;
use crate::views::changed_jobs;

/// A pass that is this cheap may run before its inputs are stored, so that both are one frame.
const CHEAP: Duration = Duration::from_micros(500);
/// The same where nobody waits for these inputs.
const BEARABLE: Duration = Duration::from_millis(4);
/// Nodes that are looked at for candidates between two batches: about half a millisecond of work.
const SLICE: u32 = 10_000;
/// Longest time that the first pass of an owner waits for an executor: without one nothing starts, and a pass over a long
/// queue would keep the first that comes back waiting.
const GRACE: Duration = Duration::from_millis(250);
/// Longest time that inputs put a wanted pass off.
const PUT_OFF_MAX: Duration = Duration::from_millis(50);

/// What the planner last said of a job, as a hash: enough for telling what is new.
type Said = u64;

fn said(reason: Reason, planned: Option<&(Timestamp, Box<str>)>) -> Said {
    let Some(planned) = planned else { return reason as u64 };
    let mut hasher = DefaultHasher::new();
    planned.hash(&mut hasher);
    // Apart from all reasons alone.
    (hasher.finish() ^ reason as u64) | 1 << 63
}

/// The planner with its pace.
pub(super) struct Planning {
    planner: Planner,
    wanted_since: Option<Instant>,
    not_before: Instant,
    /// Until when the first pass waits for an executor.
    grace: Option<Instant>,
    last: Duration,
    /// The last pass was a slice: the next one goes on.
    sliced: bool,
    wake: Option<Timestamp>,
    said: HashMap<JobId, Said>,
    faults: u32,
}

/// What a pass brings.
pub(super) struct Proposal {
    /// Starts.
    pub plan: Plan,
    /// Verdicts that are new.
    pub verdicts: Vec<(JobId, Verdict)>,
}

fn planner() -> Planner {
    Planner::following().in_slices_of(SLICE)
}

impl Planning {
    /// Nothing is planned yet. `company`: executors are expected, and the first pass waits for one, for a moment.
    pub(super) fn new(company: bool) -> Self {
        Self::waiting(company.then_some(GRACE))
    }

    fn waiting(grace: Option<Duration>) -> Self {
        Self {
            planner: planner(),
            wanted_since: Some(Instant::now()),
            not_before: Instant::now(),
            grace: grace.map(|grace| Instant::now() + grace),
            last: Duration::ZERO,
            sliced: false,
            wake: None,
            said: HashMap::new(),
            faults: 0,
        }
    }

    /// Notes a record that was applied.
    pub(super) fn observe(&mut self, record: &Record) {
        self.planner.observe(record);
        // The views forget what was said of a job that changes: then it is news again.
        changed_jobs(record, |id| {
            self.said.remove(&id);
        });
    }

    /// Something changed that may let a job start.
    pub(super) fn want(&mut self) {
        self.wanted_since.get_or_insert_with(Instant::now);
    }

    /// An executor is there.
    pub(super) fn met(&mut self) {
        self.grace = None;
    }

    /// The proposal could not be carried out: a pass is wanted again, not before `pause` is over.
    pub(super) fn again(&mut self, pause: Duration) {
        self.want();
        self.not_before = Instant::now() + pause;
    }

    /// Whether a pass is due. `quiet`: no input is left.
    #[must_use]
    pub(super) fn is_due(&self, quiet: bool, now: Timestamp) -> bool {
        let woken = self.wake.is_some_and(|at| at <= now);
        if self.faults > 1 || (self.wanted_since.is_none() && !woken) {
            return false;
        }
        let waited = self.wanted_since.is_some_and(|since| since.elapsed() >= PUT_OFF_MAX);
        (quiet || waited) && Instant::now() >= self.earliest()
    }

    /// Whether a pass is short enough to run before the batch at hand is stored. `patient`: nobody waits for that.
    #[must_use]
    pub(super) fn is_brief(&self, patient: bool) -> bool {
        !self.sliced && self.last <= if patient { BEARABLE } else { CHEAP }
    }

    /// When a pass may run without further inputs. `quiet`: no input is left; `instant` tells a time of the machine's
    /// clock.
    #[must_use]
    pub(super) fn next(&self, quiet: bool, instant: impl Fn(Timestamp) -> Instant) -> Option<Instant> {
        if self.faults > 1 {
            return None;
        }
        let put_off = if quiet { Duration::ZERO } else { PUT_OFF_MAX };
        let wanted = self.wanted_since.map(|since| since + put_off);
        let woken = self.wake.filter(|_| quiet).map(instant);
        wanted.into_iter().chain(woken).min().map(|at| at.max(self.earliest()))
    }

    fn earliest(&self) -> Instant {
        self.grace.map_or(self.not_before, |grace| grace.max(self.not_before))
    }

    /// Plans.
    pub(super) fn pass(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        metrics: &Metrics,
    ) -> Option<Proposal> {
        let begun = Instant::now();
        self.wanted_since = None;
        let planner = &mut self.planner;
        let pass = match catch_unwind(AssertUnwindSafe(|| planner.pass(state, settings, now))) {
            Ok(pass) => pass,
            Err(_) => {
                self.fault();
                return None;
            }
        };
        self.faults = 0;
        self.last = begun.elapsed();
        self.not_before = Instant::now() + self.last;
        self.wake = pass.wake;
        self.sliced = pass.more;
        if pass.more {
            // The next slice comes when the inputs of the meantime are handled.
            self.want();
        }
        metrics.pass.note(self.last);
        let mut verdicts = Vec::new();
        for verdict in pass.verdicts {
            let planned = verdict.planned.map(|planned| (planned.start, planned.nodes));
            let now_said = said(verdict.reason, planned.as_ref());
            if self.said.insert(verdict.job, now_said) != Some(now_said) {
                let planned = planned.map(Box::new);
                let news = Verdict { reason: verdict.reason, planned, at: now };
                verdicts.push((verdict.job, news));
            }
        }
        Some(Proposal { plan: pass.plan, verdicts })
    }

    /// What the planner holds is derived: it is made anew, once.
    fn fault(&mut self) {
        self.faults += 1;
        self.planner = planner();
        self.said.clear();
        if self.faults > 1 {
            tracing::error!("planning asserted twice: it is stopped until the daemon is started again");
        } else {
            tracing::error!("planning asserted: its tables are made anew");
            self.want();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Planning;
    use model::time::Timestamp;
    use std::time::{Duration, Instant};

    #[test]
    fn the_first_pass_waits_for_an_executor_and_no_longer() {
        let now = Timestamp(0);
        let hour = Duration::from_secs(3600);
        let mut planning = Planning::waiting(Some(hour));
        assert!(!planning.is_due(true, now), "nobody can take a job yet");
        let instant = |_| Instant::now();
        let next = planning.next(true, instant);
        assert!(next.is_some_and(|at| at > Instant::now()), "it is tried again by itself");
        planning.met();
        assert!(planning.is_due(true, now));
        // A pause for another reason stays.
        planning.again(hour);
        assert!(!planning.is_due(true, now));
        assert!(Planning::waiting(None).is_due(true, now), "nobody is expected");
        assert!(Planning::waiting(Some(Duration::ZERO)).is_due(true, now), "it was waited for in vain");
    }
}
