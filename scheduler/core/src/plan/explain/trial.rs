//! Trying a changed request: the production planner on a copy of the state.
//!
//! Owns the copy and the count of passes. Each trial replaces the job by a changed one, with a record, and
//! runs a pass from nothing, so that no trial sees another.

use std::sync::Arc;

use model::id::JobId;
use model::time::Timestamp;

use super::{Outlook, outlook_of};
use crate::apply::apply;
use crate::place;
use crate::plan::Planner;
use crate::plan::policy::Candidates;
use crate::priority;
use crate::record::Record;
use crate::settings::Settings;
use crate::state::job::{Hold, Job};
use crate::state::{QueueKey, State};

/// Most passes for one explanation.
const PASSES_MAX: u32 = 200;
/// Candidates that all passes of one explanation may look at, roughly.
const CANDIDATES_MAX: usize = 1_000_000;
/// Jobs behind the explained one that are not worth leaving out.
const BEHIND_MIN: usize = 64;

/// See the module.
pub(super) struct Trials<'a> {
    state: State,
    settings: &'a Settings,
    now: Timestamp,
    /// Place of the job as it is.
    key: QueueKey,
    /// Jobs behind that place were left out.
    trimmed: bool,
    tried: u32,
    left: u32,
}

impl<'a> Trials<'a> {
    /// Takes the copy over.
    ///
    /// Jobs behind the explained one cannot keep it from starting where candidates are tested in the
    /// order of the queue, so that many of them are left out.
    pub(super) fn new(mut state: State, settings: &'a Settings, now: Timestamp, job: &Job) -> Self {
        let key = state.queue_key(job);
        let behind: Vec<QueueKey> =
            state.index.queue.range(key..).copied().filter(|other| other.job != job.id).collect();
        let trimmed = settings.policy.candidates == Candidates::Queue && behind.len() > BEHIND_MIN;
        if trimmed {
            behind.iter().for_each(|key| leave_out(&mut state, key));
        }
        let affordable = CANDIDATES_MAX / (state.index.queue.len() + state.nodes.len()).max(1);
        let left = u32::try_from(affordable).unwrap_or(u32::MAX).clamp(12, PASSES_MAX);
        Self { state, settings, now, key, trimmed, tried: 0, left }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn settings(&self) -> &Settings {
        self.settings
    }

    pub(super) fn tried(&self) -> u32 {
        self.tried
    }

    /// Whether passes were refused because there were too many.
    pub(super) fn gave_up(&self) -> bool {
        self.left == 0
    }

    /// When and where the job would start as it is given.
    pub(super) fn outlook(&mut self, job: &Job) -> Outlook {
        if self.left == 0 {
            return Outlook::Unknown;
        }
        let mut job = job.clone();
        if job.hold == Hold::None && job.request.rare().priority.is_none() {
            job.priority = priority::priority(&self.state, self.settings, &job);
        }
        // It would fall behind jobs that were left out: nothing can be said.
        if self.trimmed && self.state.queue_key(&job) > self.key {
            return Outlook::Unknown;
        }
        if place::could_ever_run(&self.state, self.settings, &job).is_err() {
            return Outlook::Unknown;
        }
        self.left -= 1;
        self.tried += 1;
        let id = job.id;
        apply(&mut self.state, &Record::Job(Arc::new(job)));
        self.pass(id)
    }

    /// Whether and where it would start now.
    pub(super) fn starts(&mut self, job: &Job) -> Option<(Box<str>, model::id::PartitionIdx)> {
        match self.outlook(job) {
            Outlook::Now { nodes, partition } => Some((nodes, partition)),
            Outlook::Planned { .. } | Outlook::Unknown => None,
        }
    }

    /// When and where it would start if no other job waited. The last trial: the others are gone after it.
    pub(super) fn alone(&mut self, job: &Job) -> Outlook {
        let others: Vec<QueueKey> =
            self.state.index.queue.iter().copied().filter(|other| other.job != job.id).collect();
        others.iter().for_each(|key| leave_out(&mut self.state, key));
        apply(&mut self.state, &Record::Job(Arc::new(job.clone())));
        self.pass(job.id)
    }

    fn pass(&self, id: JobId) -> Outlook {
        let pass = Planner::new().pass(&self.state, self.settings, self.now);
        let start = pass.plan.starts.iter().find(|start| start.job == id);
        let verdict = pass.verdicts.iter().find(|verdict| verdict.job == id);
        outlook_of(&self.state, start, verdict.and_then(|verdict| verdict.planned.as_ref()))
    }
}

/// Takes a waiting job out of a copy, as far as the planner looks at it.
fn leave_out(state: &mut State, key: &QueueKey) {
    state.index.queue.remove(key);
    state.jobs.remove(&key.job);
    state.promises.by_job.remove(&key.job);
}
