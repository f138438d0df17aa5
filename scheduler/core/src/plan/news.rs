//! Bringing the ledger up to the state: what records said since the last pass is read again, and nothing else.
//!
//! | record | what is read again |
//! |---|---|
//! | of a job | the job |
//! | of a node that stays of its kind | the lists that it enters or leaves, and the jobs for which that is all or nothing |
//! | of a partition that is there already | the jobs that name it |
//! | of ages | the jobs whose place in the queue changed |
//! | of a QOS or an association | the jobs that its limits concern now, or no more |
//! | another of nodes, partitions, reservations; a new policy | everything |
//!
//! Owns when reading is done: with a budget, only so many jobs are read in a slice, and nothing is planned before the
//! last of them (but see [`super::head`]). Invariant, which the tests of every pass keep: the same follows as from reading everything.

use std::collections::BTreeSet;

use model::id::JobId;
use model::time::Timestamp;

use super::cluster::Same;
use super::ledger::{Changes, Ledger};
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;

/// Reading a job again counts as much of a budget as looking at so many nodes.
const READING: u32 = 64;

/// How many jobs may be read in a slice of a budget.
pub(super) fn read_within(budget: u32) -> u32 {
    (budget / READING).max(AT_ONCE)
}

impl Ledger {
    /// Notes what a record changes. Cost: O(1).
    pub(super) fn observe(&mut self, record: &Record) {
        match record {
            Record::Job(job) => self.dirty.push(job.id),
            Record::ElementSplit { array, id, .. } => {
                self.dirty.extend([*array, *id]);
                if array != id {
                    self.splits.insert(*id, *array);
                }
            }
            Record::Promises { .. } => self.unconfirmed = false,
            Record::JobEnded { job, .. }
            | Record::JobPriority { job, .. }
            | Record::JobWaits { job, .. }
            | Record::JobStarted { job, .. }
            | Record::JobLimit { job, .. }
            | Record::JobConfiguring { job, .. }
            | Record::JobSuspended { job, .. }
            | Record::JobRequeued { job, .. }
            | Record::JobPurged(job) => self.dirty.push(*job),
            Record::Aging(_) => self.aged = true,
            Record::Association(..) | Record::Qos(..) => self.limits_changed = true,
            Record::NodeRegistered { node, .. }
            | Record::NodeDefined { node, .. }
            | Record::NodeAdmin { node, .. }
            | Record::NodeLink { node, .. } => self.changed_nodes.push(*node),
            Record::PartitionDefined { partition, .. } => self.changed_partitions.push(*partition),
            Record::PartitionRemoved(_) | Record::Reservation(..) => self.ready = false,
            // What is reserved is reserved by the wall clock.
            Record::WallAhead(_) => self.ready &= !self.cluster.is_reserved(),
            Record::Time(_)
            | Record::Charged(_)
            | Record::Owner(_)
            | Record::NextJobId(_)
            | Record::IdWraps(_)
            | Record::SlicesAsked { .. }
            | Record::Predicting(_)
            | Record::LastRuns(..)
            | Record::Restored(_)
            | Record::Stranger { .. }
            | Record::NodeBusy { .. }
            | Record::Array { .. }
            | Record::JobFinishing { .. }
            | Record::StepCreated { .. }
            | Record::StepBegun { .. }
            | Record::StepUnknown { .. }
            | Record::StepNodeEnded { .. }
            | Record::StepStopping { .. }
            | Record::StepEnded { .. }
            | Record::Cluster(..)
            | Record::Account(..)
            | Record::User(..)
            | Record::AccountNumbers { .. } => {}
        }
    }

    /// Brings the ledger up to the state; says what changed since the last pass. `None`: the budget ended before.
    pub(super) fn catch_up(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        budget: u32,
    ) -> Option<Changes> {
        let many = self.shapes.shapes.len() > 4096 + 4 * (self.queue.len() + self.backlog.len());
        let same = self.same_topology(settings) && self.licenses.are(&settings.licenses);
        let few = state.index.queue.len() <= self.reads(budget) as usize;
        if !self.ready || many || self.policy != settings.policy || !same || !self.follow_cluster(state) {
            self.rebuild(state, settings, few);
            self.news = Changes { full: true, anew: true, read: true, ..Changes::default() };
        } else {
            self.follow_limits(state, settings);
            self.read(state, settings);
        }
        if !self.work_backlog_off(state, settings, budget) {
            return None;
        }
        let mut changes = std::mem::take(&mut self.news);
        if changes.anew {
            // All of it did, and all is free that is free.
            changes.arrived.clear();
        } else {
            self.give_up_proposals(&mut changes);
            if std::mem::take(&mut self.unconfirmed) {
                self.cluster.doubt();
            }
        }
        if self.cluster.is_pool() && self.shapes.has_loose {
            // A request that a pool cannot count: the nodes are planned one by one from now on.
            self.unpooled = true;
            self.rebuild(state, settings, true);
            changes = Changes { full: true, anew: true, read: true, ..Changes::default() };
        }
        self.outlive(state, settings, now, &mut changes);
        Some(changes)
    }

    /// How many jobs are read in a slice of a budget.
    pub(super) fn reads(&self, budget: u32) -> u32 {
        self.at_once.unwrap_or_else(|| read_within(budget))
    }

    /// Puts the jobs that records named in the backlog, each once.
    fn read(&mut self, state: &State, settings: &Settings) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        self.news.read |= !dirty.is_empty() || !self.proposed.is_empty();
        if self.backlog.is_empty() && dirty.len() <= self.at_once.unwrap_or(AT_ONCE) as usize {
            // The rule: a few jobs. No budget is smaller.
            let mut news = std::mem::take(&mut self.news);
            for id in dirty.drain(..) {
                self.refresh(state, settings, id, &mut news);
            }
            self.news = news;
        } else {
            self.backlog.extend(dirty.drain(..).rev());
        }
        self.dirty = dirty;
    }

    /// Reads what is still to be read; `false`: the budget ended before.
    fn work_backlog_off(&mut self, state: &State, settings: &Settings, budget: u32) -> bool {
        if self.backlog.is_empty() {
            return true;
        }
        let mut left = self.reads(budget);
        let mut news = std::mem::take(&mut self.news);
        news.read = true;
        while let Some(id) = self.backlog.pop() {
            self.refresh(state, settings, id, &mut news);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        self.news = news;
        self.backlog.is_empty()
    }

    /// Follows changes of nodes and partitions; `false`: everything has to be read anew.
    fn follow_cluster(&mut self, state: &State) -> bool {
        if self.changed_nodes.is_empty() && self.changed_partitions.is_empty() {
            return true;
        }
        let mut nodes = std::mem::take(&mut self.changed_nodes);
        nodes.sort_unstable();
        nodes.dedup();
        let mut lists = BTreeSet::new();
        let mut followed = true;
        for node in nodes.drain(..) {
            match self.cluster.same_node(state, node) {
                Same::All => {}
                Same::Kind => lists.extend(self.cluster.set_available(state, node)),
                Same::Nothing => followed = false,
            }
        }
        self.changed_nodes = nodes;
        let mut partitions = std::mem::take(&mut self.changed_partitions);
        partitions.sort_unstable();
        partitions.dedup();
        let (known, plain) = (self.waiting_in.len(), self.cluster.is_plain(state));
        followed &= partitions.is_empty() || (known == state.partitions.len() && plain);
        if !followed {
            return false;
        }
        if !lists.is_empty() {
            self.news.full = true;
            self.news.read = true;
            // Promises on a node that went are given up where they are laid again.
            self.cluster.doubt();
            let flipped = self.shapes.weigh(state, &self.cluster, &lists);
            if !flipped.is_empty() {
                self.read_classes(|class| flipped.contains(&class));
            }
        }
        if !partitions.is_empty() {
            // They may name another QOS.
            self.limited.changed = true;
            self.news.full = true;
            self.news.read = true;
            self.cluster.doubt();
            self.cluster.forget_partitions(&partitions);
            self.shapes.forget_partitions(&partitions);
            let shapes = &self.shapes;
            let named = |shape: u32| shapes.names(shape, &partitions);
            let jobs = self.queue.iter().filter(|(_, entry)| named(entry.shape)).map(|(key, _)| key.job);
            self.backlog.extend(jobs);
        }
        true
    }

    /// Jobs with such a class are read again.
    fn read_classes(&mut self, wanted: impl Fn(u32) -> bool) {
        let shapes = &self.shapes.shapes;
        let with = |shape: u32| shapes[shape as usize].classes.clone().any(&wanted);
        let jobs = self.queue.iter().filter(|(_, entry)| with(entry.shape)).map(|(key, _)| key.job);
        self.backlog.extend(jobs);
    }

    /// Follows changes of ages and limits. Cost: O(waiting jobs) where there was one.
    fn follow_limits(&mut self, state: &State, settings: &Settings) {
        let aged = std::mem::take(&mut self.aged);
        let limits = std::mem::take(&mut self.limits_changed);
        if !aged && !limits {
            return;
        }
        if limits {
            self.limited.changed = true;
            // What held a job back may let it go.
            self.news.full = true;
            self.news.read = true;
        }
        let mut again: Vec<JobId> = Vec::new();
        for (key, entry) in &self.queue {
            let moved = aged && self.stands_elsewhere(state, *key, entry);
            let bound = || {
                let job = state.jobs.get(&key.job);
                let concerned = job.is_some_and(|job| crate::limits::concern(state, settings, job));
                entry.licensed || concerned
            };
            if moved || (limits && bound() != entry.bound) {
                again.push(key.job);
            }
        }
        self.backlog.extend(again.into_iter().rev());
    }
}

/// So many jobs that changed are read again at once, whatever the budget.
const AT_ONCE: u32 = 128;
