//! The first jobs of a long queue, started before the rest of it is read.
//!
//! Reading a queue of a hundred thousand jobs anew takes hundreds of slices, and nothing is planned before the last
//! of them. Meanwhile the head of the queue is looked at on its own, by a ledger that knows the running jobs, the
//! promises and the first of the queue, and is dropped again. Owns what such a ledger may start: a job that has room
//! right now beside every promise, if all ahead of it start too or wait for nothing that is planned. So no job that is
//! behind is passed over unfairly, no promise moves, and whoever reads the whole queue later finds nothing to undo.

use std::collections::{BTreeSet, VecDeque};

use model::id::JobId;
use model::reason::Reason;
use model::time::Timestamp;

use super::ledger::{Changes, Ledger};
use super::policy::Order;
use super::walk::Outcome;
use crate::input::PlannedStart;
use crate::settings::Settings;
use crate::state::State;

/// A look at the head may cost so many slices: it comes seldom, and then somebody waits for it.
const SLICES: u32 = 8;

/// When the head was tried since everything is read anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    /// Slices of reading so far.
    slices: u32,
    /// Nodes that took jobs at the last attempt.
    nodes: usize,
}

impl Attempts {
    /// One more slice was read, and so many nodes take jobs now. Whether the head is tried: where there are twice the
    /// nodes of the last time, and each time that the reading has taken twice as long.
    fn due(&mut self, nodes: usize) -> bool {
        self.slices = self.slices.saturating_add(1);
        let more = nodes > self.nodes && nodes >= self.nodes.saturating_mul(2);
        let due = nodes > 0 && (more || self.slices.is_power_of_two());
        if due {
            self.nodes = nodes;
        }
        due
    }
}

impl Ledger {
    /// What the head of the queue can start, while everything is read anew; nothing where something else is read.
    ///
    /// Cost: O(nodes) in each slice, and that of reading all running jobs about as often as the logarithm of the slices.
    pub(super) fn head_starts(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        budget: u32,
    ) -> Vec<PlannedStart> {
        // In another order the head of the state's queue is not the planner's. Without a budget nobody waits for slices.
        let idle = !self.news.anew || budget == u32::MAX;
        if idle || self.policy.order != Order::Multifactor {
            return Vec::new();
        }
        let nodes = state.nodes.iter().filter(|node| node.is_available()).count();
        if !self.attempts.due(nodes) {
            return Vec::new();
        }
        let jobs = self.reads(budget) as usize;
        let heads: BTreeSet<JobId> = state.index.queue.iter().take(jobs).map(|key| key.job).collect();
        let mut head = Self::default();
        head.begin(state, settings);
        if head.cluster.is_pool() {
            // Whether the queue can be planned in a pool is known when all of it is read.
            return Vec::new();
        }
        let mut changes = Changes::default();
        let promised = state.promises.by_job.keys().filter(|job| !heads.contains(job));
        for job in heads.iter().chain(promised) {
            head.refresh(state, settings, *job, &mut changes);
        }
        head.outlive(state, settings, now, &mut changes);
        head.start_in_order(&heads, (state, settings, now), budget.saturating_mul(SLICES))
    }

    /// Starts what of these, the first of the queue, can start beside all promises, up to the first that cannot.
    fn start_in_order(
        &mut self,
        heads: &BTreeSet<JobId>,
        situation: (&State, &Settings, Timestamp),
        budget: u32,
    ) -> Vec<PlannedStart> {
        let mut walk = self.walk(situation, false, budget);
        if walk.keep {
            self.relay(&mut walk);
            if !self.displaced.is_empty() {
                // What became of a promise is for the whole plan to say.
                return Vec::new();
            }
        }
        let queue = std::mem::take(&mut self.queue);
        for (&key, entry) in &queue {
            if walk.budget == 0 || !heads.contains(&key.job) {
                break;
            }
            // The whole plan, too, looks again at a promise that is not due only where time was given back since.
            let early = |start: i64| start > walk.now && walk.given_back.is_none();
            if self.promises.get(&key).and_then(VecDeque::front).is_some_and(|first| early(first.start)) {
                break;
            }
            let promises = self.promises.remove(&key);
            promises.iter().flatten().for_each(|promise| self.lift(promise));
            let (outcome, _) = self.start_all(&mut walk, key, entry, false);
            let passed = match outcome {
                Outcome::Started => true,
                // Without backfill a partition stops at a job that no node suits as well.
                Outcome::Waits => entry.hopeless && walk.depth > 0 && promises.is_none(),
                Outcome::Kept(reason) => reason != Reason::Licenses && promises.is_none(),
            };
            if !passed {
                break;
            }
        }
        walk.out.plan.starts
    }
}
