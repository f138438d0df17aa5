//! Whether what a job waits for has come, and when it becomes eligible.
//!
//! A met term leaves the job's list (with a record), so that what was true once is not asked again. A
//! term that can never be met stays and marks the job.

use std::ops::Bound;

use model::depend::{Kind, Standing, Tasks, Term};
use model::id::{JobId, TaskIndex};
use model::job::JobState;
use model::reason::Reason;
use model::time::{Span, Timestamp};

use crate::machine::Call;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::state::job::{ArrayRole, Hold, Job, Phase};
use crate::state::{Index, State};

/// How a target stands: a job, an element, or a whole array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Not in `State` any more (or never was).
    Gone,
    /// Has not started.
    Waiting,
    /// Started then and has not ended. A whole array has begun when every element has.
    Begun(Timestamp),
    /// Ended.
    Ended {
        /// With exit code zero.
        ok: bool,
        /// Start, or the end where it never started.
        begun: Timestamp,
    },
}

fn target_of(job: &Job) -> Target {
    match &job.phase {
        Phase::Pending(_) => Target::Waiting,
        Phase::Active(active) => Target::Begun(active.start),
        Phase::Ended(ended) => Target::Ended {
            ok: ended.state == JobState::Completed && ended.exit.is_success(),
            begun: ended.start.unwrap_or(ended.end),
        },
    }
}

fn element(state: &State, array: JobId, index: u32) -> Target {
    if let Some(id) = state.index.elements.get(&(array, TaskIndex(index))) {
        return target_of(&state.jobs[id]);
    }
    match state.jobs.get(&array).map(|job| (&job.array, job)) {
        Some((ArrayRole::Waiting(waiting), job)) if waiting.tasks.contains(index) => target_of(job),
        _ => Target::Gone,
    }
}

fn whole(state: &State, id: JobId) -> Target {
    let Some(summary) = state.arrays.get(&id) else {
        return state.job(id).map_or(Target::Gone, target_of);
    };
    if summary.ended >= summary.total {
        return Target::Ended { ok: summary.failed == 0, begun: state.now };
    }
    let waits = state
        .jobs
        .get(&id)
        .is_some_and(|job| matches!(job.array, ArrayRole::Waiting(_)) && job.pending().is_some());
    let started = summary.running + summary.ended;
    if waits || started < summary.total { Target::Waiting } else { Target::Begun(state.now) }
}

/// How a term of `job` stands now.
#[must_use]
pub fn standing(state: &State, job: &Job, term: &Term) -> Standing {
    if term.kind == Kind::Singleton {
        return singleton(state, job);
    }
    if term.kind == Kind::AfterCorr {
        return match job.array {
            ArrayRole::Element { index, .. } => met(state, term, element(state, term.job, index.0)),
            ArrayRole::Waiting(_) => Standing::Unfulfilled,
            ArrayRole::Single => met(state, term, whole(state, term.job)),
        };
    }
    let target = match term.tasks {
        Tasks::Unsaid | Tasks::All => whole(state, term.job),
        Tasks::One(index) => element(state, term.job, index),
    };
    met(state, term, target)
}

fn met(state: &State, term: &Term, target: Target) -> Standing {
    let when = |fulfilled: bool| if fulfilled { Standing::Fulfilled } else { Standing::Unfulfilled };
    let either = |good: bool| if good { Standing::Fulfilled } else { Standing::Failed };
    match (term.kind, target) {
        (Kind::After, Target::Begun(begun) | Target::Ended { begun, .. }) => {
            when(begun.saturating_add(delay(term)) <= state.now)
        }
        (Kind::Expand, Target::Begun(_)) => Standing::Fulfilled,
        (Kind::AfterAny | Kind::AfterBurstBuffer, Target::Ended { .. }) => Standing::Fulfilled,
        (Kind::After | Kind::AfterAny | Kind::AfterBurstBuffer, Target::Gone) => Standing::Fulfilled,
        (Kind::AfterOk | Kind::AfterCorr, Target::Ended { ok, .. }) => either(ok),
        (Kind::AfterNotOk, Target::Ended { ok, .. }) => either(!ok),
        (Kind::AfterOk | Kind::AfterCorr | Kind::AfterNotOk | Kind::Expand, Target::Gone)
        | (Kind::Expand, Target::Ended { .. }) => Standing::Failed,
        (_, Target::Waiting | Target::Begun(_)) => Standing::Unfulfilled,
        (Kind::Singleton, _) => unreachable!("a singleton has no target"),
    }
}

fn delay(term: &Term) -> Span {
    Span::from_mins(i64::from(term.delay_minutes))
}

/// No job of the same user and name, submitted before this one, is left.
fn singleton(state: &State, job: &Job) -> Standing {
    let (uid, hash) = (job.owner.uid, Index::hash(&job.request.name));
    let earlier = state
        .index
        .named
        .range(Index::name_key(uid, hash, JobId(0))..Index::name_key(uid, hash, job.id))
        .map(|key| &state.jobs[&Index::job_of(*key)])
        .any(|other| {
            let same_array = job.array_id().is_some() && job.array_id() == other.array_id();
            other.request.name == job.request.name && !same_array
        });
    if earlier { Standing::Unfulfilled } else { Standing::Fulfilled }
}

/// When the delay of an `after:ID+MINUTES` term will be over, if that is known.
#[must_use]
pub fn next_delay(state: &State, job: &Job) -> Option<Timestamp> {
    let terms = &job.pending()?.dependency.terms;
    let delayed = terms.iter().filter(|term| term.kind == Kind::After && term.delay_minutes > 0);
    delayed
        .filter_map(|term| match whole(state, term.job) {
            Target::Begun(begun) | Target::Ended { begun, .. } => Some(begun.saturating_add(delay(term))),
            Target::Waiting | Target::Gone => None,
        })
        .min()
}

impl Call<'_> {
    /// Looks at a waiting job anew: its begin time, its dependencies, whether it is eligible.
    pub(crate) fn refresh(&mut self, id: JobId) {
        self.split_corresponding(id);
        let Some(job) = self.state().jobs.get(&id) else { return };
        let Some(pending) = job.pending() else { return };
        let mut new = pending.clone();
        let mut failed = false;
        let mut any_met = false;
        let mut any_open = false;
        new.dependency.terms.retain(|term| match standing_at(self.state(), self.now, job, term) {
            Standing::Fulfilled => {
                any_met = true;
                false
            }
            Standing::Failed => {
                failed = true;
                !planted::is(Bug::MeetFailed)
            }
            Standing::Unfulfilled => {
                any_open = true;
                true
            }
        });
        if new.dependency.any {
            if any_met {
                new.dependency.terms.clear();
            }
            failed = failed && !any_open;
        }
        new.dependency_failed = failed && !new.dependency.terms.is_empty();
        new.not_before = new.not_before.filter(|at| *at > self.now);
        let free = new.dependency.terms.is_empty() && new.not_before.is_none() && job.hold == Hold::None;
        new.eligible = if free { new.eligible.or(Some(self.now)) } else { None };
        let settings = self.settings();
        let kill = job.request.rare().kill_on_invalid_dep.unwrap_or(settings.kill_invalid_dependency);
        let ends = new.dependency_failed && kill;
        if new != *pending {
            let became_eligible = new.eligible.is_some() && pending.eligible.is_none();
            self.emit(Record::JobWaits { job: id, pending: new });
            self.out.pass_wanted |= became_eligible;
        }
        if ends {
            self.end_waiting(id, JobState::Cancelled, Reason::DependencyNeverSatisfied, None);
        }
    }

    /// Elements of an array that waits with `aftercorr` get a record of their own when the same element
    /// of the other array has ended.
    fn split_corresponding(&mut self, id: JobId) {
        let Some(job) = self.state().jobs.get(&id) else { return };
        let (ArrayRole::Waiting(waiting), Some(pending)) = (&job.array, job.pending()) else { return };
        let terms = pending.dependency.terms.iter().filter(|term| term.kind == Kind::AfterCorr);
        let others: Vec<JobId> = terms.map(|term| term.job).collect();
        if others.is_empty() {
            return;
        }
        let decided = |index: &u32| {
            others.iter().all(|other| matches!(element(self.state(), *other, *index), Target::Ended { .. }))
        };
        let ready: Vec<u32> = waiting.tasks.iter().filter(decided).collect();
        for index in ready {
            let element = self.split(id, TaskIndex(index));
            self.refresh(element);
        }
    }

    /// Jobs that waited for this one (or its array) are looked at anew.
    pub(crate) fn wake_dependents(&mut self, id: JobId) {
        let Some(job) = self.state().jobs.get(&id) else { return };
        let targets = [Some(id), job.array_id().filter(|array| *array != id)];
        let mut wake: Vec<JobId> = Vec::new();
        for target in targets.into_iter().flatten() {
            let range = (Bound::Included((target, JobId(0))), Bound::Included((target, JobId(u32::MAX))));
            wake.extend(self.state().index.dependents.range(range).map(|(_, dependent)| *dependent));
        }
        if job.ended().is_some() {
            wake.extend(self.waiting_singletons(job));
        }
        for dependent in wake {
            self.refresh(dependent);
            self.machine.arm(dependent);
        }
    }

    fn waiting_singletons(&self, ended: &Job) -> Vec<JobId> {
        // A singleton waits for no job by number, so it stands under 0. Few jobs are singletons, and a hundred thousand
        // may have one name.
        let all = (JobId(0), JobId(0))..=(JobId(0), JobId(u32::MAX));
        let waiting = self.state().index.dependents.range(all).map(|(_, dependent)| *dependent);
        waiting
            .filter(|id| {
                let job = self.job(*id);
                job.owner.uid == ended.owner.uid && job.request.name == ended.request.name
            })
            .collect()
    }
}

/// Like [`standing`], at the time of the call: `state.now` is only as late as the last record.
fn standing_at(state: &State, now: Timestamp, job: &Job, term: &Term) -> Standing {
    if term.kind == Kind::After && term.delay_minutes > 0 {
        let target = match term.tasks {
            Tasks::Unsaid | Tasks::All => whole(state, term.job),
            Tasks::One(index) => element(state, term.job, index),
        };
        return match target {
            Target::Begun(begun) | Target::Ended { begun, .. }
                if begun.saturating_add(delay(term)) <= now =>
            {
                Standing::Fulfilled
            }
            Target::Gone => Standing::Fulfilled,
            Target::Begun(_) | Target::Ended { .. } | Target::Waiting => Standing::Unfulfilled,
        };
    }
    standing(state, job, term)
}
