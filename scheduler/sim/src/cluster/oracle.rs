//! What must always hold, checked against what executors and clients saw, not against the scheduler's
//! own word.
//!
//! * Every acknowledged job exists, through every crash, and no id is acknowledged twice.
//! * Processes that are alive were not given more CPUs than their node has.
//! * A run starts at most once; two runs of a job are never alive at the same time.
//! * No resource is held twice and every index agrees ([`State::check`]).
//! * A job that waits for another starts only when its dependency was met.
//! * A job starts only when the wall clock has shown its begin time, and times out only after its limit by a clock that
//!   goes evenly.
//! * A repeated call makes no second job.
//! * A promised start moves later only with a record that says why, and a job starts when it was promised
//!   at the latest, unless such a record came before.
//! * A reopened scheduler knows exactly what was durable, or one batch more.

use std::collections::{BTreeMap, BTreeSet};

use model::depend::{Kind, Tasks};
use model::id::{JobId, RequestKey};
use model::job::JobState;
use model::time::Timestamp;

use scheduler_core::apply::apply;
use scheduler_core::effect::RunKey;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Ended, Finish, Job};
use scheduler_core::state::promise::{Cause, PromiseChange};

/// Elements of an array that have not left it.
fn waiting(job: &Job) -> usize {
    if matches!(job.array, ArrayRole::Waiting(_)) { job.elements() as usize } else { 0 }
}

/// Watches a history.
#[derive(Debug, Default)]
pub struct Oracle {
    state: State,
    acknowledged: BTreeSet<JobId>,
    ended: BTreeMap<JobId, bool>,
    begun: BTreeSet<(usize, RunKey)>,
    /// Each with its node.
    alive: BTreeMap<JobId, BTreeSet<(usize, RunKey)>>,
    /// How many CPUs a run whose processes are on a node was given there.
    held: BTreeMap<(usize, RunKey), u32>,
    arrays: BTreeSet<JobId>,
    /// Elements that left an array since its promises changed.
    left: BTreeMap<JobId, usize>,
    by_key: BTreeMap<RequestKey, JobId>,
    records: usize,
    /// The latest wall time that was shown.
    latest_wall: Timestamp,
}

impl Oracle {
    /// The last durable state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A batch is on disk.
    ///
    /// # Errors
    /// What does not hold.
    pub fn durable(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            if let Record::JobStarted { job, .. } = record {
                self.may_start(*job)?;
            }
            if let Record::JobEnded { job, ended } | Record::JobRequeued { job, ended, .. } = record {
                self.note_end(*job, ended, matches!(record, Record::JobEnded { .. }));
            }
            if let Record::Job(job) = record {
                self.same_call_same_job(job)?;
                self.arrays.extend(job.array_id());
            }
            if let Record::ElementSplit { array, .. } = record {
                *self.left.entry(*array).or_default() += 1;
            }
            if let Record::Promises { changes, .. } = record {
                changes.iter().try_for_each(|change| self.may_move(change))?;
            }
            if let Record::JobFinishing { job, finish } = record {
                self.had_its_time(*job, finish)?;
            }
            apply(&mut self.state, record);
            self.latest_wall = self.latest_wall.max(self.state.wall_time(self.state.now));
        }
        self.records += records.len();
        let faults = self.state.check();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    /// A promise that moves later, or goes, has a cause.
    fn may_move(&mut self, change: &PromiseChange) -> Result<(), String> {
        let Some(before) = self.state.promises.by_job.get(&change.job) else { return Ok(()) };
        // Of an array as many of the first promises may be gone as elements left it, and others may follow.
        let left = self.left.remove(&change.job).unwrap_or(0).min(before.len());
        let moved = |gone: usize| {
            before[gone..].iter().zip(&change.promises).any(|(before, after)| after.start > before.start)
        };
        let later = (0..=left).all(moved);
        let gone = change.promises.is_empty() && !self.arrays.contains(&change.job);
        if (later || gone) && matches!(change.cause, Cause::Made | Cause::GivenBack) {
            return Err(format!("{change:?} moves {before:?} later without a cause"));
        }
        Ok(())
    }

    fn same_call_same_job(&mut self, job: &Job) -> Result<(), String> {
        let own = job.array_id().unwrap_or(job.id);
        let first = *self.by_key.entry(job.key).or_insert(own);
        if first == own { Ok(()) } else { Err(format!("one call made jobs {first} and {own}")) }
    }

    fn note_end(&mut self, job: JobId, ended: &Ended, for_good: bool) {
        if for_good {
            let ok = ended.state == JobState::Completed && ended.exit.is_success();
            self.ended.insert(job, ok);
        } else {
            self.ended.remove(&job);
        }
    }

    /// A job that is ended for its time had it.
    fn had_its_time(&self, id: JobId, finish: &Finish) -> Result<(), String> {
        if finish.state != JobState::Timeout {
            return Ok(());
        }
        let Some(active) = self.state.jobs.get(&id).and_then(|job| job.active()) else {
            return Err(format!("job {id} times out and does not run"));
        };
        let had = finish.at.since(active.start);
        match active.limit {
            Some(limit) if had >= limit => Ok(()),
            limit => Err(format!("job {id} times out after {had:?} of {limit:?}")),
        }
    }

    fn may_start(&self, id: JobId) -> Result<(), String> {
        let Some(job) = self.state.jobs.get(&id) else {
            return Err(format!("job {id} starts and is not there"));
        };
        if job.request.begin.is_some_and(|begin| begin > self.latest_wall) {
            let (begin, latest) = (job.request.begin, self.latest_wall);
            return Err(format!(
                "job {id} starts before {begin:?}: the wall clock has shown {latest:?} at most"
            ));
        }
        for term in &job.request.dependency.terms {
            let array = self.arrays.contains(&term.job);
            let known = self.ended.get(&term.job);
            let met = match (term.kind, known) {
                _ if array || term.tasks != Tasks::Unsaid => true,
                (Kind::AfterOk, ended) => ended == Some(&true),
                (Kind::AfterNotOk, ended) => ended == Some(&false),
                (Kind::AfterAny, ended) => ended.is_some(),
                _ => true,
            };
            if !met && job.restarts == 0 {
                let other = self.state.jobs.get(&term.job).map(|other| &other.phase);
                return Err(format!("job {id} starts before {term:?} is met: {known:?}, {other:?}"));
            }
        }
        Ok(())
    }

    /// A scheduler was opened on what is on disk.
    ///
    /// # Errors
    /// If it knows less than was durable.
    pub fn reopened(&mut self, state: &State) -> Result<(), String> {
        for id in &self.acknowledged {
            if !state.jobs.contains_key(id)
                && !self.state.jobs.contains_key(id)
                && !self.ended.contains_key(id)
            {
                return Err(format!("job {id} was acknowledged and is gone"));
            }
            if !state.jobs.contains_key(id) && !self.ended.contains_key(id) {
                return Err(format!("job {id} was not recovered"));
            }
        }
        // The batch that was under way may have made it: what it said is durable without having been seen.
        for job in state.jobs.values() {
            let before = self.state.jobs.get(&job.id).map_or(0, |before| waiting(before));
            *self.left.entry(job.id).or_default() += before.saturating_sub(waiting(job));
            self.arrays.extend(job.array_id());
            self.by_key.entry(job.key).or_insert(job.array_id().unwrap_or(job.id));
            if let Some(ended) = job.ended() {
                self.note_end(job.id, ended, true);
            }
        }
        self.state = state.clone();
        self.latest_wall = self.latest_wall.max(state.wall_time(state.now));
        Ok(())
    }

    /// A client was told that its job exists.
    ///
    /// # Errors
    /// If it does not, or the id was given to another.
    pub fn acknowledged(&mut self, id: JobId) -> Result<(), String> {
        if !self.acknowledged.insert(id) {
            return Err(format!("job id {id} was given twice"));
        }
        let known = self.state.jobs.contains_key(&id) || self.ended.contains_key(&id);
        if known { Ok(()) } else { Err(format!("job {id} was acknowledged before it was durable")) }
    }

    /// A run's processes started.
    ///
    /// # Errors
    /// If the run started before, or another run of the job is alive.
    pub fn began(&mut self, place: usize, run: RunKey) -> Result<(), String> {
        if !self.begun.insert((place, run)) {
            return Err(format!("{run:?} began twice, now on n{place}"));
        }
        let alive = self.alive.entry(run.job).or_default();
        if let Some(other) = alive.iter().find(|(_, other)| other.run != run.run) {
            return Err(format!("{run:?} began while {other:?} is alive"));
        }
        alive.insert((place, run));
        self.held_twice(place, run)
    }

    /// The processes that are alive on a node were never given more CPUs than it has, whatever the
    /// scheduler thinks has ended.
    fn held_twice(&mut self, place: usize, run: RunKey) -> Result<(), String> {
        let Some(node) = self.state.nodes.get(place) else { return Err(format!("n{place} is no node")) };
        let active = self.state.job(run.job).and_then(Job::active);
        let shares = active.into_iter().flat_map(|active| active.allocation.iter());
        let own = shares.filter(|share| share.node.0 as usize == place).map(|share| share.cpus.0).sum();
        self.held.insert((place, run), own);
        // Runs of one job share what it was given.
        let here = self.held.iter().filter(|((at, _), _)| *at == place);
        let by_job: BTreeMap<JobId, u32> = here.map(|((_, run), cpus)| (run.job, *cpus)).collect();
        let all: u32 = by_job.values().sum();
        let has = node.definition.cpus.0;
        if all <= has {
            Ok(())
        } else {
            Err(format!("{run:?} began: {all} of {has} CPUs of n{place} in use"))
        }
    }

    /// A run's processes are gone.
    pub fn process_ended(&mut self, place: usize, run: RunKey) {
        self.held.remove(&(place, run));
        if let Some(alive) = self.alive.get_mut(&run.job) {
            alive.remove(&(place, run));
        }
    }

    /// An executor forgot a run because the scheduler has its outcome.
    pub fn collected(&mut self, place: usize, run: RunKey) {
        self.process_ended(place, run);
    }

    /// Whether every job has ended for good.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.state.jobs.values().all(|job| job.ended().is_some())
    }

    /// The jobs that have not, for a message.
    #[must_use]
    pub fn unfinished(&self) -> String {
        let left = self.state.jobs.values().filter(|job| job.ended().is_none());
        left.map(|job| format!("job {} {:?}", job.id, job.phase)).collect::<Vec<_>>().join("\n")
    }
}
