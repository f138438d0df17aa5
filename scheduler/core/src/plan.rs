//! Planning: who starts now and where, who waits and why.
//!
//! Owns derived state only: a [`Planner`] may be dropped and made anew at any time with the same
//! results. A pass reads [`State`] and proposes; `Input::Plan` checks each proposal again.

mod eligible;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use model::id::{JobId, PartitionIdx};
use model::reason::Reason;
use model::time::Timestamp;

use crate::input::{Plan, PlannedStart};
use crate::place::demand::{self, Demand};
use crate::place::{Board, place_demand};
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;

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

/// Outcome of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The starts that are proposed, in order.
    pub plan: Plan,
    /// One verdict for each waiting job that does not start whole, in queue order.
    pub verdicts: Vec<Verdict>,
    /// A pass is wanted at this instant even if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// Plans. Holds nothing that cannot be rebuilt from `State`.
#[derive(Debug, Default)]
pub struct Planner {}

/// What one pass knows beside the state.
struct Working<'a> {
    state: &'a State,
    settings: &'a Settings,
    board: Board,
    licenses: BTreeMap<Box<str>, u32>,
    /// Partitions in which a job waits for resources already.
    blocked: Vec<PartitionIdx>,
    out: Pass,
}

impl Planner {
    /// A planner that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Walks the queue and proposes what can start now.
    ///
    /// Cost: O(waiting jobs × nodes of their partitions) at worst.
    pub fn pass(&mut self, state: &State, settings: &Settings, _now: Timestamp) -> Pass {
        let mut working = Working {
            state,
            settings,
            board: Board::of(state),
            licenses: state.index.licenses_used.clone(),
            blocked: Vec::new(),
            out: Pass::default(),
        };
        for key in &state.index.queue {
            working.consider(&state.jobs[&key.job]);
        }
        working.out
    }
}

impl Working<'_> {
    fn consider(&mut self, job: &Job) {
        let pending = job.pending().expect("the queue holds waiting jobs");
        if let Some(reason) = eligible::own_reason(job, pending) {
            self.say(job, reason);
            return;
        }
        let mut left = eligible::elements_left(self.state, job);
        let total = match &job.array {
            crate::state::job::ArrayRole::Waiting(waiting) => waiting.tasks.len(),
            _ => 1,
        };
        let mut started = 0;
        while left > 0 {
            if !self.licenses_free(job) {
                self.say(job, Reason::Licenses);
                return;
            }
            match self.try_start(job) {
                Ok(start) => {
                    self.take(job, start);
                    left -= 1;
                    started += 1;
                }
                Err(reason) => {
                    self.say(job, reason);
                    return;
                }
            }
        }
        if started < total {
            self.say(job, Reason::JobArrayTaskLimit);
        }
    }

    fn try_start(&mut self, job: &Job) -> Result<PlannedStart, Reason> {
        let (state, settings) = (self.state, self.settings);
        let mut reason = None;
        let mut waits_in = Vec::new();
        for (idx, partition) in demand::partitions(state, job) {
            let Some(demand) = Demand::of(state, settings, job, partition) else {
                reason = reason.or(Some(Reason::BadConstraints));
                continue;
            };
            if let Some(forbidden) = eligible::partition_reason(state, settings, job, partition, &demand) {
                reason = reason.or(Some(forbidden));
                continue;
            }
            if let Some(allocation) = place_demand(&self.board, state, settings, partition, &demand) {
                return Ok(PlannedStart { job: job.id, partition: idx, allocation });
            }
            if demand.required.iter().any(|&node| !state.node(node).is_available()) {
                reason = reason.or(Some(Reason::ReqNodeNotAvail));
                continue;
            }
            waits_in.push(idx);
        }
        if waits_in.is_empty() {
            return Err(reason.unwrap_or(Reason::PartitionConfig));
        }
        let behind = waits_in.iter().any(|idx| self.blocked.contains(idx));
        self.blocked.extend(waits_in);
        Err(if behind { Reason::Priority } else { Reason::Resources })
    }

    fn take(&mut self, job: &Job, start: PlannedStart) {
        self.board.take(self.state, job, &start.allocation);
        for (name, amount) in
            crate::licenses::parse(job.request.rare().licenses.as_deref().unwrap_or_default())
        {
            match self.licenses.entry(name.into()) {
                Entry::Occupied(mut used) => *used.get_mut() += amount,
                Entry::Vacant(none) => {
                    none.insert(amount);
                }
            }
        }
        self.out.plan.starts.push(start);
    }

    fn licenses_free(&self, job: &Job) -> bool {
        let text = job.request.rare().licenses.as_deref().unwrap_or_default();
        crate::licenses::parse(text).all(|(name, amount)| {
            let total = self.settings.licenses.get(name).copied().unwrap_or(0);
            let used = self.licenses.get(name).copied().unwrap_or(0);
            used.saturating_add(amount) <= total
        })
    }

    fn say(&mut self, job: &Job, reason: Reason) {
        self.out.verdicts.push(Verdict { job: job.id, reason, planned: None });
    }
}
