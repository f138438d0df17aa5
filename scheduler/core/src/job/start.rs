//! Carrying out a plan: each placement is checked again, then recorded, then launched.

use std::sync::Arc;

use model::id::{JobId, RunNumber, TaskIndex};
use model::job::JobState;
use model::reason::Reason;
use model::request::{Kind, Rare};
use model::time::{Span, Timestamp};

use crate::input::{Defragment, Plan, PlannedPromises, PlannedStart};
use crate::limits::{self, Candidate, Charged};
use crate::machine::Call;
use crate::place;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::reservation::limit_within;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{ArrayRole, Finish, Hold, Job, Limit, RequeueHow, StopCause};
use crate::state::partition::{Partition, PartitionState};
use crate::state::promise::{Cause, Promise};
use crate::tally::Tally;

impl Job {
    /// Whether a script runs on its first node.
    #[must_use]
    pub fn has_batch_step(&self) -> bool {
        self.request.kind == Kind::Batch
    }

    /// How many elements the record stands for: 1, or those that wait.
    #[must_use]
    pub fn elements(&self) -> u32 {
        match &self.array {
            ArrayRole::Single | ArrayRole::Element { .. } => 1,
            ArrayRole::Waiting(waiting) => waiting.tasks.len(),
        }
    }
}

/// Whether nothing but resources keeps the job from starting in the partition.
#[must_use]
pub fn may_start(state: &State, settings: &Settings, job: &Job, partition: &Partition) -> bool {
    let Some(pending) = job.pending() else { return false };
    let throttled = match &job.array {
        ArrayRole::Waiting(waiting) => waiting
            .throttle
            .is_some_and(|most| state.arrays.get(&job.id).is_some_and(|summary| summary.running >= most)),
        ArrayRole::Single | ArrayRole::Element { .. } => false,
    };
    let licensed = crate::licenses::parse(job.request.rare().licenses.as_deref().unwrap_or_default()).all(
        |(name, amount)| {
            let used = state.index.licenses_used.get(name).copied().unwrap_or(0);
            settings.licenses.get(name).is_some_and(|total| used + amount <= *total)
        },
    );
    job.hold == Hold::None
        && pending.not_before.is_none()
        && pending.dependency.terms.is_empty()
        && !throttled
        && licensed
        && matches!(partition.definition.state, PartitionState::Up | PartitionState::Drain)
}

/// The limit of a run that starts in a partition; `None`: unlimited.
#[must_use]
pub fn limit_of_run(job: &Job, partition: &Partition) -> Option<Span> {
    match job.limit {
        Limit::Partition => partition.definition.default_time.or(partition.definition.max_time),
        Limit::Unlimited => None,
        Limit::After(limit) => Some(limit),
    }
}

/// The least limit that a run may have for want of room (`--time-min`); `None`: only its whole limit will do. What is to
/// be done by a deadline is cut to that alone.
pub(crate) fn least_limit(rare: &Rare) -> Option<Span> {
    rare.time_min.filter(|least| rare.deadline.is_none() && *least > Span::ZERO)
}

/// The limit of a run that is proposed; `None`: unlimited.
fn limit_of_start(start: &PlannedStart, job: &Job, partition: &Partition) -> Option<Span> {
    start.shortened.or_else(|| limit_of_run(job, partition))
}

/// Whether the job lets its run have this limit instead of its own.
fn may_be_shortened(job: &Job, partition: &Partition, limit: Span) -> bool {
    least_limit(job.request.rare()).is_some_and(|least| least <= limit)
        && limit_of_run(job, partition).is_none_or(|own| limit < own)
}

/// A limit that ends before the job's deadline: whole minutes, as limits are given.
fn limit_before_deadline(state: &State, job: &Job, limit: Option<Span>, now: Timestamp) -> Option<Span> {
    let Some(deadline) = job.request.rare().deadline else { return limit };
    let left = state.own_time(deadline).since(now);
    // The second that has begun counts whole, as both are given in seconds.
    let left = Span::from_mins(((left.as_millis() + 999) / 60_000).max(1));
    Some(limit.map_or(left, |limit| limit.min(left)))
}

impl Call<'_> {
    /// Starts what the planner proposed, as far as it still holds.
    pub(crate) fn carry_out(&mut self, plan: Plan) {
        let mut charged = None;
        for start in plan.starts {
            if self.still_holds(&start) && self.within_limits(&start, &mut charged) {
                self.start(&start);
            }
        }
        if let Some(planned) = plan.promises {
            self.keep_promises(planned);
        }
        if let Some(moves) = plan.defragment {
            self.make_room(&moves);
        }
    }

    /// Requeues the jobs that are in the way of a larger slice, if all of them still may be and it still waits.
    fn make_room(&mut self, moves: &Defragment) {
        let state = self.state();
        let waits = state.jobs.get(&moves.room_for).is_some_and(|job| job.pending().is_some());
        let may = |id: &JobId| state.jobs.get(id).is_some_and(|job| job.may_be_moved());
        if !self.settings().defragment || !waits || !moves.moved.iter().all(may) {
            return;
        }
        let Defragment { room_for, gain, cost, .. } = moves;
        let detail = format!(
            "moved to make room for job {room_for}: {gain} slice-seconds of waiting saved for {cost} lost"
        );
        for &id in &moves.moved {
            let finish = Finish {
                state: JobState::Requeued,
                exit: None,
                reason: Reason::None,
                detail: detail.as_str().into(),
                by: None,
                at: self.now,
                requeue: Some(RequeueHow::Eligible),
            };
            self.emit(Record::JobFinishing { job: id, finish });
            self.stop_steps(id, StopCause::Requeue, None);
            self.end_if_over(id);
        }
    }

    /// Records what became of promises, as far as their jobs still wait on nodes that exist.
    fn keep_promises(&mut self, planned: PlannedPromises) {
        let PlannedPromises { mut changes, given_back } = planned;
        if planted::is(Bug::ForgetPromise)
            && changes.len() > 1
            && let Some(last) = changes.last_mut()
        {
            last.promises.clear();
        }
        if planted::is(Bug::MoveSilently) {
            changes.iter_mut().for_each(|change| change.cause = Cause::GivenBack);
        }
        let state = self.state();
        let sound = |promise: &Promise| {
            let known = promise.holds.iter().all(|held| (held.node.0 as usize) < state.nodes.len());
            !promise.holds.is_empty() && promise.start <= promise.end && known
        };
        changes.retain(|change| {
            let waits = state.jobs.get(&change.job).is_some_and(|job| job.pending().is_some());
            let ordered = change.promises.windows(2).all(|pair| pair[0].start <= pair[1].start);
            waits && ordered && change.promises.iter().all(sound)
        });
        if !changes.is_empty() || given_back != state.promises.given_back {
            self.emit(Record::Promises { changes, given_back });
        }
    }

    fn still_holds(&self, start: &PlannedStart) -> bool {
        let (state, settings) = (self.state(), self.settings());
        let Some(job) = state.jobs.get(&start.job) else { return false };
        let Some(partition) = state.partition(start.partition) else { return false };
        job.partitions.contains(&start.partition)
            && start.shortened.is_none_or(|limit| may_be_shortened(job, partition, limit))
            && may_start(state, settings, job, partition)
            && self.lets_start(
                job,
                start.allocation.iter().map(|share| share.node),
                limit_within(state, job, limit_of_start(start, job, partition), self.now),
            )
            && place::recheck(state, settings, job, start)
    }

    /// Whether no limit of QOS or associations forbids the start; if not, it is counted in `charged`, which
    /// is made when the first job with limits is met.
    fn within_limits(&self, start: &PlannedStart, charged: &mut Option<Charged>) -> bool {
        let (state, settings) = (self.state(), self.settings());
        let job = self.job(start.job);
        let partition = state.partition(start.partition).expect("the proposal was checked");
        let concerned = limits::concern(state, settings, job);
        if !concerned && charged.is_none() {
            return true;
        }
        let charged = charged.get_or_insert_with(|| Charged::of(state, settings));
        let tally = Tally::of_allocation(state, &start.allocation);
        let limit = limit_of_start(start, job, partition);
        let candidate = Candidate { job, partition, tally: &tally, limit };
        if concerned && charged.broken(state, settings, &candidate).is_some() {
            return false;
        }
        charged.add(state, settings, &candidate);
        true
    }

    fn start(&mut self, start: &PlannedStart) {
        let id = match &self.job(start.job).array {
            ArrayRole::Waiting(waiting) => {
                let first = waiting.tasks.first().expect("a waiting array has elements");
                self.split(start.job, TaskIndex(first))
            }
            ArrayRole::Single | ArrayRole::Element { .. } => start.job,
        };
        let job = self.job(id);
        let partition = self.state().partition(start.partition).expect("the proposal was checked");
        let run =
            RunNumber(job.run.0.checked_add(1).expect("a job is not started four thousand million times"));
        let limit = limit_within(self.state(), job, limit_of_start(start, job, partition), self.now);
        let limit = limit_before_deadline(self.state(), job, limit, self.now);
        self.emit(Record::JobStarted {
            job: id,
            run,
            partition: start.partition,
            allocation: Arc::clone(&start.allocation),
            start: self.now,
            limit,
        });
        self.begin(id);
        self.machine.arm(id);
        self.wake_dependents(id);
    }

    /// Gives an element of a waiting array a record of its own and says its id.
    pub(crate) fn split(&mut self, array: JobId, index: TaskIndex) -> JobId {
        let last = self.job(array).elements() == 1;
        let id = if last {
            array
        } else {
            let id = self.free_id().expect("admission leaves ids free");
            self.emit(Record::NextJobId(crate::admit::next_id(self.settings(), id)));
            id
        };
        self.emit(Record::ElementSplit { array, index, id });
        id
    }
}
