//! Promised starts: none goes, or moves later, without a record that says why, and what it says is so.
//!
//! Kept beside the state's own promises, from the records alone.

use std::collections::{BTreeMap, BTreeSet};

use model::id::JobId;

use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::Job;
use scheduler_core::state::promise::{Cause, Promise, PromiseChange};

/// Watches promises.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Elements that left an array since its promises changed.
    left: BTreeMap<JobId, usize>,
    arrays: BTreeSet<JobId>,
    /// When the promise of a job was last recorded, counted in records.
    recorded: BTreeMap<JobId, usize>,
    /// When a running job was last given another end.
    moved_ends: usize,
    /// When a node, a partition or a limit was last changed.
    configured: usize,
    records: usize,
}

impl Promises {
    /// A record is about to be applied to `state`.
    ///
    /// # Errors
    /// A promise changes without a cause.
    pub(super) fn before(&mut self, state: &State, record: &Record) -> Result<(), String> {
        self.records += 1;
        match record {
            Record::Job(job) => self.arrays.extend(job.array_id()),
            Record::ElementSplit { array, .. } => *self.left.entry(*array).or_default() += 1,
            Record::JobConfiguring { .. } | Record::JobLimit { .. } | Record::JobSuspended { .. } => {
                self.moved_ends = self.records;
            }
            Record::NodeDefined { .. } | Record::NodeRegistered { .. } | Record::PartitionDefined { .. } => {
                self.configured = self.records;
            }
            Record::Promises { changes, .. } => {
                last_words(changes).into_values().try_for_each(|change| self.may_change(state, change))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A record was applied: what was promised before, and is no more, is of a job that does not wait any more.
    ///
    /// # Errors
    /// A promise is forgotten.
    pub(super) fn after(&self, state: &State, record: &Record, had: &BTreeSet<JobId>) -> Result<(), String> {
        for job in had.iter().filter(|job| !state.promises.by_job.contains_key(job)) {
            let waits = state.jobs.get(job).is_some_and(|job| job.pending().is_some());
            let said = match record {
                Record::Promises { changes, .. } => changes.iter().any(|change| change.job == *job),
                Record::Job(changed) => changed.id == *job,
                Record::JobLimit { job: changed, .. } | Record::JobWaits { job: changed, .. } => {
                    changed == job
                }
                _ => false,
            };
            if waits && !said {
                return Err(format!("promises: that of job {job} is forgotten by {record:?}"));
            }
        }
        if let Record::Promises { changes, .. } = record {
            for PromiseChange { job, promises, .. } in last_words(changes).into_values() {
                let kept = state.promises.by_job.get(job).map_or(&[][..], |kept| &kept[..]);
                if kept != promises.as_slice() {
                    return Err(format!("promises: job {job} has {kept:?}, {promises:?} were recorded"));
                }
            }
        }
        Ok(())
    }

    fn may_change(&mut self, state: &State, change: &PromiseChange) -> Result<(), String> {
        let recorded = self.recorded.insert(change.job, self.records).unwrap_or(0);
        let left = self.left.remove(&change.job).unwrap_or(0);
        let Some(before) = state.promises.by_job.get(&change.job) else { return Ok(()) };
        // Of an array as many of the first promises may be gone as elements left it, and others may follow.
        let moved = |gone: usize| {
            before[gone..].iter().zip(&change.promises).any(|(before, after)| after.start > before.start)
        };
        let later = (0..=left.min(before.len())).all(moved);
        let gone = change.promises.is_empty() && !self.arrays.contains(&change.job);
        if (later || gone) && !self.holds(state, change, before, recorded) {
            return Err(format!("promises: {change:?} moves {before:?} later, and that is no cause"));
        }
        Ok(())
    }

    /// Whether the cause that a record names is there.
    fn holds(&self, state: &State, change: &PromiseChange, before: &[Promise], recorded: usize) -> bool {
        let nodes = || before.iter().flat_map(|promise| promise.holds.iter().map(|held| held.node));
        match change.cause {
            Cause::Made | Cause::GivenBack => false,
            Cause::NodeLost => nodes().any(|node| !state.node(node).is_available()),
            // A start that was proposed in one slice may be on disk without what it displaced, when the power goes: then
            // whoever has the place was ahead.
            Cause::LimitRaised => {
                // The end of a job whose programs still run before it is not known.
                let begins =
                    |id: &JobId| state.jobs[id].active().is_some_and(|active| active.configuring.is_some());
                // Promises count on the least that an element may run; one that got more puts off those behind it.
                let longer = |id: &JobId| {
                    let job = &state.jobs[id];
                    job.array_id() == Some(change.job) && job.request.rare().time_min.is_some()
                };
                self.moved_ends > recorded
                    || state.index.running.iter().any(begins)
                    || state.index.running.iter().any(longer)
                    || state.jobs.get(&change.job).is_some_and(|job| {
                        let own = state.queue_key(job);
                        let running = state.index.running.iter().map(|id| &state.jobs[id]);
                        let holds = |other: &Job| {
                            let shares =
                                other.active().into_iter().flat_map(|active| active.allocation.iter());
                            let licensed = |job: &Job| job.request.rare().licenses.is_some();
                            shares.map(|share| share.node).any(|node| nodes().any(|one| one == node))
                                || (licensed(job) && licensed(other))
                        };
                        running.filter(|other| state.queue_key(other) < own).any(|other| holds(other))
                    })
            }
            Cause::HigherPriority => state.jobs.get(&change.job).is_some_and(|job| {
                let own = state.queue_key(job);
                state.jobs.values().any(|other| other.ended().is_none() && state.queue_key(other) < own)
            }),
            Cause::Clock => before.first().is_some_and(|first| first.start < state.now),
            Cause::Outlived => state.index.running.iter().any(|id| {
                let job = &state.jobs[id];
                let active = job.active().expect("the index holds running jobs");
                let believed = active.believed_end(state.predictions.made.of(job));
                active.limit_end().into_iter().chain(believed).any(|end| end <= state.now)
            }),
            Cause::NotPlanned | Cause::JobChanged => true,
            Cause::Configuration => self.configured > recorded,
            // Nobody reserves nodes here.
            Cause::Reservation => false,
        }
    }
}

/// A promise may be made, moved and given up in one pass: the last word on a job counts.
fn last_words(changes: &[PromiseChange]) -> BTreeMap<JobId, &PromiseChange> {
    changes.iter().map(|one| (one.job, one)).collect()
}
