//! Records of jobs, arrays and steps.
//!
//! Every change of a job goes the same way: its entries leave the indexes, it changes, its entries come
//! back ([`change`]). Records that touch no index ([`touch`]) skip that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::id::{JobId, NodeIdx, StepId, TaskIndex};
use model::time::{Span, Timestamp};

use super::usage;
use crate::record::Record;
use crate::state::aging::Aging;
use crate::state::job::{Active, ArrayRole, Ended, Finish, Hold, Job, Pending, Phase, RunStage, Step};
use crate::state::node::Node;
use crate::state::partition::Partition;
use crate::state::{ArraySummary, Index, QueueKey, State, Submitter};

pub(super) fn apply_job(state: &mut State, record: &Record) {
    match record {
        Record::Job(job) => put(state, Arc::clone(job)),
        Record::Array { array, summary } => {
            state.arrays.insert(*array, *summary);
        }
        Record::ElementSplit { array, index, id } => split(state, *array, *index, *id),
        Record::JobPriority { job, priority, hold } => change(state, *job, |job| {
            job.priority = *priority;
            job.hold = *hold;
        }),
        Record::JobWaits { job, pending } => {
            change(state, *job, |job| job.phase = Phase::Pending(pending.clone()));
        }
        Record::JobStarted { .. } => start(state, record),
        Record::JobLimit { job, limit, running } => {
            touch(state, *job, |job| {
                job.limit = *limit;
                if let Phase::Active(active) = &mut job.phase {
                    active.limit = *running;
                }
            });
            state.promises.drop_of(*job, false, state.now);
            state.promises.give_back(state.now);
        }
        Record::JobConfiguring { job, what, at } => touch_active(state, *job, |active| {
            if what.is_none() {
                active.start = *at;
            }
            active.configuring.clone_from(what);
        }),
        Record::JobSuspended { job, suspended, at } => {
            touch_active(state, *job, |active| suspend(active, *suspended, *at));
        }
        Record::JobFinishing { job, finish } => finishing(state, *job, finish),
        Record::JobEnded { job, ended } => end(state, *job, ended),
        Record::JobRequeued { job, ended, pending, priority, hold } => {
            requeue(state, *job, ended, pending, *priority, *hold);
        }
        Record::JobPurged(job) => purge(state, *job),
        Record::StepCreated { job, step } => touch_active(state, *job, |active| {
            if let StepId::Number(number) = step.id {
                active.next_step = active.next_step.max(number + 1);
            }
            if active.steps.capacity() == 0 {
                // Most jobs have their batch step only.
                active.steps.reserve_exact(1);
            }
            // The same step once more: it has another limit now.
            match active.steps.iter_mut().find(|known| known.id == step.id) {
                Some(known) => *known = Arc::clone(step),
                None => active.steps.push(Arc::clone(step)),
            }
        }),
        Record::StepBegun { job, step, node } => {
            touch_step(state, *job, *step, |step| set_stage(step, *node, RunStage::Begun));
        }
        Record::StepUnknown { job, step, node } => {
            touch_step(state, *job, *step, |step| set_stage(step, *node, RunStage::Unknown));
        }
        Record::StepNodeEnded { job, step, node, exit, usage, held } => {
            touch_step(state, *job, *step, |step| {
                set_stage(step, *node, RunStage::Ended);
                step.exit = highest(step.exit, *exit);
                step.usage = std::mem::take(&mut step.usage).with(usage.clone());
                if !held.is_empty() && step.held.iter().all(|(_, known)| known != held) {
                    step.held.push((*node, held.clone()));
                }
            })
        }
        Record::StepStopping { job, step, cause, by } => touch_step(state, *job, *step, |step| {
            step.stop = Some(*cause);
            step.by = *by;
        }),
        Record::StepEnded { job, step, state: shown, exit, at } => touch_active(state, *job, |active| {
            if matches!(step, StepId::Number(_)) {
                active.derived_exit = highest(active.derived_exit, *exit);
            }
            let step = step_mut(active, *step);
            step.state = *shown;
            step.exit = *exit;
            step.end = Some(*at);
        }),
        _ => unreachable!("only job records come here"),
    }
}

/// The higher of two statuses: as Slurm keeps them, the larger wait status.
fn highest(one: model::exit::ExitStatus, other: model::exit::ExitStatus) -> model::exit::ExitStatus {
    if other.to_wait() > one.to_wait() { other } else { one }
}

fn active_of(job: &mut Job) -> &mut Active {
    match &mut job.phase {
        Phase::Active(active) => active,
        Phase::Pending(_) | Phase::Ended(_) => panic!("job {} holds no resources", job.id),
    }
}

/// Its end is decided: of the indexes only the nodes' counts of completing jobs change, and only the first time.
fn finishing(state: &mut State, id: JobId, finish: &Finish) {
    let State { jobs, nodes, promises, now, .. } = state;
    let active = active_of(Arc::make_mut(jobs.get_mut(&id).expect("a recorded job exists")));
    if active.finish.replace(finish.clone()).is_none() {
        for share in active.allocation.iter() {
            nodes[share.node.0 as usize].used.completing += 1;
        }
    }
    promises.drop_of(id, true, *now);
}

fn step_mut(active: &mut Active, id: StepId) -> &mut Step {
    let step = active.steps.iter_mut().rev().find(|step| step.id == id);
    Arc::make_mut(step.expect("a recorded step was created"))
}

fn set_stage(step: &mut Step, node: NodeIdx, stage: RunStage) {
    let part = step.nodes.iter_mut().find(|part| part.node == node).expect("the step has a part there");
    part.stage = stage;
}

fn suspend(active: &mut Active, suspended: bool, at: Timestamp) {
    match (active.suspended_since, suspended) {
        (None, true) => active.suspended_since = Some(at),
        (Some(since), false) => {
            let total = active.suspended_total.saturating_add(at.since(since));
            active.suspended_total = total;
            active.suspended_since = None;
        }
        (Some(_), true) | (None, false) => panic!("a job is suspended and resumed in turn"),
    }
}

/// Changes a job without touching what the indexes are made of.
fn touch(state: &mut State, id: JobId, change: impl FnOnce(&mut Job)) {
    change(Arc::make_mut(state.jobs.get_mut(&id).expect("a recorded job exists")));
}

fn touch_active(state: &mut State, id: JobId, change: impl FnOnce(&mut Active)) {
    touch(state, id, |job| change(active_of(job)));
}

fn touch_step(state: &mut State, id: JobId, step: StepId, change: impl FnOnce(&mut Step)) {
    touch_active(state, id, |active| change(step_mut(active, step)));
}

/// Changes a job and keeps the indexes in step.
///
/// The job stays where it is: it is hundreds of bytes, and this is the hottest function of a replay.
fn change(state: &mut State, id: JobId, change: impl FnOnce(&mut Job)) {
    let State { jobs, index, nodes, partitions, aging, promises, now, .. } = state;
    let mut beside = Beside { index, nodes, partitions, aging };
    let job = Arc::make_mut(jobs.get_mut(&id).expect("a recorded job exists"));
    let lived = job.ended().is_none();
    beside.phase(job, false);
    change(job);
    beside.phase(job, true);
    let lives = job.ended().is_none();
    if lived != lives {
        beside.name(job, lives);
    }
    if job.pending().is_none() {
        promises.drop_of(id, job.active().is_some(), *now);
    }
}

pub(super) fn put(state: &mut State, job: Arc<Job>) {
    let old = state.jobs.get(&job.id).map(Arc::clone);
    let mut stays = false;
    match old {
        Some(old) => {
            if job.pending().is_none() || !asks_as(&old, &job) {
                state.promises.drop_of(job.id, false, state.now);
            }
            stays = Beside::of(state).indexes_alike(&old, &job);
            if !stays {
                unindex(state, &old);
            }
        }
        None => {
            if let Some(array) = job.array_id() {
                let summary = state.arrays.entry(array).or_default();
                if let Some(spec) = &job.request.array {
                    summary.total = spec.tasks.len();
                }
                summary.records += 1;
                if job.active().is_some() {
                    summary.running += 1;
                }
            }
        }
    }
    if !stays {
        index(state, &job);
    }
    state.jobs.insert(job.id, job);
}

/// Whether a changed job still asks for what was promised to it.
fn asks_as(old: &Job, new: &Job) -> bool {
    let same_request = Arc::ptr_eq(&old.request, &new.request) || old.request == new.request;
    same_request
        && (old.limit, old.memory) == (new.limit, new.memory)
        && old.partitions == new.partitions
        && (&old.account, &old.qos) == (&new.account, &new.qos)
}

fn split(state: &mut State, array: JobId, index_of_task: TaskIndex, id: JobId) {
    let shared = state.jobs.remove(&array).expect("a split array exists");
    unindex(state, &shared);
    let mut waiting = Arc::unwrap_or_clone(shared);
    let ArrayRole::Waiting(elements) = &mut waiting.array else {
        panic!("array {array} has no waiting elements");
    };
    assert!(elements.tasks.remove(index_of_task.0), "an element is split off once");
    let role = ArrayRole::Element { array, index: index_of_task };
    if id == array {
        assert!(elements.tasks.is_empty(), "only the last element keeps the array's id");
        waiting.array = role;
        index(state, &waiting);
        state.jobs.insert(array, Arc::new(waiting));
        return;
    }
    // The id may have been another job's: an element goes on from there, as a new job does.
    let run = waiting.run.max(state.first_run());
    let element = Job { id, array: role, run, ..waiting.clone() };
    state.arrays.entry(array).or_default().records += 1;
    index(state, &waiting);
    state.jobs.insert(array, Arc::new(waiting));
    index(state, &element);
    state.jobs.insert(id, Arc::new(element));
}

fn start(state: &mut State, record: &Record) {
    let Record::JobStarted { job, run, partition, allocation, start, limit } = record else {
        unreachable!("the caller matched a start");
    };
    let mut array = None;
    change(state, *job, |job| {
        let Phase::Pending(pending) = &job.phase else {
            panic!("job {} is started while it waits", job.id);
        };
        assert!(*run > job.run, "run numbers grow");
        assert!(!matches!(job.array, ArrayRole::Waiting(_)), "an element is split off before it starts");
        job.run = *run;
        array = job.array_id();
        job.phase = Phase::Active(Box::new(Active {
            partition: *partition,
            allocation: Arc::clone(allocation),
            start: *start,
            eligible: pending.eligible,
            limit: *limit,
            suspended_since: None,
            suspended_total: Span::ZERO,
            stopped: false,
            steps: Vec::new(),
            next_step: 0,
            finish: None,
            derived_exit: model::exit::ExitStatus::SUCCESS,
            reason: model::reason::Reason::None,
            configuring: None,
        }));
    });
    if let Some(array) = array {
        state.arrays.get_mut(&array).expect("an element's array is known").running += 1;
    }
}

fn end(state: &mut State, id: JobId, ended: &Arc<Ended>) {
    let was_active = note_end_on_nodes(state, id, ended);
    let mut role = None;
    change(state, id, |job| {
        role = Some((job.array_id(), waiting_elements(job)));
        job.phase = Phase::Ended(Arc::clone(ended));
    });
    state.predictions.learn(state.jobs[&id].owner.uid, ended);
    if let Some((Some(array), elements)) = role {
        let summary = state.arrays.get_mut(&array).expect("an element's array is known");
        let ok = ended.state == model::job::JobState::Completed && ended.exit.is_success();
        summary.ended += elements;
        summary.failed += if ok { 0 } else { elements };
        summary.unstarted += if ended.start.is_none() { elements } else { 0 };
        summary.running -= u32::from(was_active);
    }
}

/// How many elements the record stands for.
fn waiting_elements(job: &Job) -> u32 {
    match &job.array {
        ArrayRole::Single | ArrayRole::Element { .. } => 1,
        ArrayRole::Waiting(elements) => elements.tasks.len(),
    }
}

fn note_end_on_nodes(state: &mut State, id: JobId, ended: &Ended) -> bool {
    let Some(active) = state.jobs[&id].active() else { return false };
    // At its limit it ends as every plan knew.
    if active.limit_end() != Some(state.now) {
        state.promises.give_back(state.now);
    }
    for share in active.allocation.clone().iter() {
        state.nodes[share.node.0 as usize].last_busy = Some(ended.end);
    }
    true
}

fn requeue(state: &mut State, id: JobId, ended: &Ended, pending: &Pending, priority: u32, hold: Hold) {
    let was_active = note_end_on_nodes(state, id, ended);
    let was_ended = state.jobs[&id].ended().cloned();
    let mut array = None;
    change(state, id, |job| {
        array = job.array_id();
        job.restarts += 1;
        job.submit = ended.end;
        job.priority = priority;
        job.hold = hold;
        job.phase = Phase::Pending(pending.clone());
    });
    let Some(summary) = array.and_then(|array| state.arrays.get_mut(&array)) else { return };
    summary.running -= u32::from(was_active);
    if let Some(earlier) = was_ended {
        let ok = earlier.state == model::job::JobState::Completed && earlier.exit.is_success();
        summary.ended -= 1;
        summary.failed -= u32::from(!ok);
        summary.unstarted -= u32::from(earlier.start.is_none());
    }
}

fn purge(state: &mut State, id: JobId) {
    let job = state.jobs.remove(&id).expect("a purged job exists");
    assert!(job.ended().is_some(), "only ended jobs are purged");
    unindex(state, &job);
    if let Some(array) = job.array_id() {
        let summary: &mut ArraySummary = state.arrays.get_mut(&array).expect("an element's array is known");
        summary.records -= 1;
        if summary.records == 0 {
            state.arrays.remove(&array);
        }
    }
}

fn index(state: &mut State, job: &Job) {
    Beside::of(state).reindex(job, true);
}

fn unindex(state: &mut State, job: &Job) {
    Beside::of(state).reindex(job, false);
}

/// What is kept in step with the jobs, apart from them: so that a job can change in its place.
struct Beside<'a> {
    index: &'a mut Index,
    nodes: &'a mut [Node],
    partitions: &'a [Option<Partition>],
    aging: &'a Aging,
}

impl<'a> Beside<'a> {
    fn of(state: &'a mut State) -> Self {
        let State { index, nodes, partitions, aging, .. } = state;
        Self { index, nodes, partitions, aging }
    }

    /// Adds the entries of a job, or takes them away.
    fn reindex(&mut self, job: &Job, add: bool) {
        if let ArrayRole::Element { array, index: task } = job.array {
            put_map(&mut self.index.elements, (array, task), job.id, add);
        }
        // The key of an array is found through the record that has the array's id.
        if job.array_id().is_none_or(|array| array == job.id) {
            put_map(&mut self.index.keys, (job.owner.uid, job.key), job.id, add);
        }
        if job.ended().is_none() {
            self.name(job, add);
        }
        self.phase(job, add);
    }

    /// Whether the entries of a waiting job stay what they are: as a rule when one is changed by its owner.
    fn indexes_alike(&self, old: &Job, new: &Job) -> bool {
        let (Phase::Pending(before), Phase::Pending(after)) = (&old.phase, &new.phase) else { return false };
        let facts = |job: &Job| (job.owner.uid, job.key, job.association);
        let place = |job: &Job| QueueKey::of(job, self.partitions, self.aging);
        facts(old) == facts(new)
            && old.array == new.array
            && old.request.name == new.request.name
            && old.qos == new.qos
            && before.dependency.terms == after.dependency.terms
            && place(old) == place(new)
    }

    /// The entry that `singleton` looks for: of jobs that have not ended.
    fn name(&mut self, job: &Job, add: bool) {
        put_set(
            &mut self.index.named,
            Index::name_key(job.owner.uid, Index::hash(&job.request.name), job.id),
            add,
        );
        let (user, association, qos) = (job.owner.uid, job.association, Arc::clone(&job.qos));
        let key = Submitter { user, association, qos };
        match self.index.submitted.get_mut(&key) {
            Some(count) if add => *count += job.elements(),
            Some(count) => {
                *count -= job.elements();
                if *count == 0 {
                    self.index.submitted.remove(&key);
                }
            }
            None => {
                assert!(add, "a job that is taken away was counted");
                self.index.submitted.insert(key, job.elements());
            }
        }
    }

    /// The entries that depend on where the job is in its life; no others change with [`change`].
    fn phase(&mut self, job: &Job, add: bool) {
        let index = &mut *self.index;
        match &job.phase {
            Phase::Pending(pending) => {
                put_set(&mut index.queue, QueueKey::of(job, self.partitions, self.aging), add);
                for term in &pending.dependency.terms {
                    put_set(&mut index.dependents, (term.job, job.id), add);
                }
            }
            Phase::Active(active) => {
                put_set(&mut index.running, job.id, add);
                for share in active.allocation.iter() {
                    let used = &mut self.nodes[share.node.0 as usize].used;
                    usage::change(used, share, add);
                    if active.finish.is_some() {
                        used.completing = if add { used.completing + 1 } else { used.completing - 1 };
                    }
                }
                usage::change_licenses(index, job.request.rare().licenses.as_deref(), add);
            }
            Phase::Ended(ended) => put_set(&mut index.ended, (ended.end, job.id), add),
        }
    }
}

fn put_set<K: Ord>(set: &mut BTreeSet<K>, key: K, add: bool) {
    if add {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}

fn put_map<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, add: bool) {
    if add {
        map.insert(key, value);
    } else {
        map.remove(&key);
    }
}
