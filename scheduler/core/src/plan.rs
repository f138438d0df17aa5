//! Planning: who starts now and where, who waits, why, and until when.
//!
//! ```text
//!  records ──► observe ──► ledger: queue in order, running jobs, profiles   (or all read anew)
//!                              │
//!                pass ─────────┴──► protected jobs: earliest start, reserved
//!                                   the others: tested for starting now ──► starts, verdicts
//! ```
//! Owns derived state only: a [`Planner`] may be dropped and made anew at any time with the same
//! results. A pass reads [`State`] and proposes; `Input::Plan` checks each proposal again. It knows no
//! clock: a pass is bounded by the candidates that the policy's depth lets it examine.
//!
//! Backfill is one algorithm for all policies (Mu'alem and Feitelson, IEEE TPDS 12(6), 2001): the
//! first `depth` jobs that cannot start are given their earliest start in the profile of the future;
//! every other job starts if it fits the profile from now on. Depth 1 is EASY, all is conservative.

pub mod explain;
pub mod policy;

mod cluster;
mod defragment;
mod eligible;
mod family;
mod head;
mod holds;
mod ledger;
mod license;
mod limited;
mod news;
mod profile;
mod remains;
mod rest;
mod search;
mod shape;
mod shorten;
mod sketch;
mod table;
mod verdict;
mod waiting;
mod walk;
pub mod whatif;
mod zone;

use model::id::{JobId, PartitionIdx};
use model::reason::Reason;
use model::time::Timestamp;

use crate::input::Plan;
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use defragment::Scene;
pub use defragment::{Fixed, Moves};
use ledger::Ledger;

/// What is planned for a job that does not start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it will start at the latest, as far as is known.
    pub start: Timestamp,
    /// Where, as a hostlist.
    pub nodes: Box<str>,
    /// In which partition.
    pub partition: PartitionIdx,
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The job.
    pub job: JobId,
    /// Slurm's reason.
    pub reason: Reason,
    /// Its planned start, if it has one.
    pub planned: Option<Planned>,
}

/// What a pass did, in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that were given a planned start.
    pub protected: u32,
    /// Jobs (and elements) that start.
    pub started: u32,
    /// Jobs that were tested for starting now.
    pub tested: u32,
    /// Distinct requests known.
    pub requests: u32,
    /// Steps of all profiles.
    pub steps: u64,
}

/// Outcome of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The starts that are proposed, in order.
    pub plan: Plan,
    /// Verdicts on waiting jobs that do not start whole, in no particular order; empty where the planner
    /// was made without. A planner that follows records leaves out the jobs of which it would say what
    /// it said last.
    pub verdicts: Vec<Verdict>,
    /// A pass is wanted at this instant even if nothing happens before.
    pub wake: Option<Timestamp>,
    /// The budget ended before the pass: what it proposes stands, and the rest is for the next pass, which
    /// is wanted at once.
    pub more: bool,
    /// What was done.
    pub counts: Counts,
}

/// Plans. Holds nothing that cannot be rebuilt from `State`.
///
/// Without [`Planner::observe`] each pass reads the whole state anew. A shell that shows every record
/// to `observe`, from the first pass on, gets passes whose cost grows with what changed.
#[derive(Debug, Default)]
pub struct Planner {
    ledger: Ledger,
    follows: bool,
    silent: bool,
    budget: Option<u32>,
}

impl Planner {
    /// A planner that knows nothing yet and reads the state at each pass.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A planner that is shown every record by [`Planner::observe`].
    #[must_use]
    pub fn following() -> Self {
        Self { follows: true, ..Self::default() }
    }

    /// Leaves verdicts out: a simulator does not read them.
    #[must_use]
    pub fn without_verdicts(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Examines candidates in a pass until so many nodes were looked at for them (16 more for each
    /// candidate). For a planner that follows records and keeps promises: another goes through with every
    /// pass.
    #[must_use]
    pub fn in_slices_of(mut self, nodes: u32) -> Self {
        self.budget = Some(nodes);
        self
    }

    /// Reads so many jobs again in a slice, at least one, whatever the budget: histories of few jobs reach with that what
    /// else takes hundreds.
    #[must_use]
    pub fn reading(mut self, jobs: u32) -> Self {
        self.ledger.at_once = Some(jobs.max(1));
        self
    }

    /// Notes a record that was applied to the state. Cost: O(1).
    pub fn observe(&mut self, record: &Record) {
        if self.follows {
            self.ledger.observe(record);
        }
    }

    /// Walks the queue and proposes what can start now.
    ///
    /// `now` never decreases. Cost of a pass from nothing: O(jobs + protected jobs × nodes × steps of a
    /// profile + distinct requests × nodes); of one after a few records: the queue once, and less where
    /// only new jobs arrived behind the protected ones.
    pub fn pass(&mut self, state: &State, settings: &Settings, now: Timestamp) -> Pass {
        if !self.follows {
            self.ledger.forget();
        }
        let budget = self.budget.filter(|_| self.follows).unwrap_or(u32::MAX);
        let mut pass = self.ledger.pass(state, settings, now, !self.silent, budget);
        pass.counts.requests = self.ledger.requests();
        pass
    }

    /// What is judged of moving jobs for one that waits for a slice, after a pass on the same state; `None`: it does
    /// not wait for one slice that would be made for it. Cost: O(running jobs + GPUs).
    pub(crate) fn moves_for(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        job: JobId,
    ) -> Option<Moves> {
        self.ledger.moves_for(Scene { state, settings, now: now.0 }, job)
    }
}
