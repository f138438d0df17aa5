//! What the planner keeps between passes: the queue in the policy's order, running jobs by their
//! planned end, profiles, distinct requests. All of it follows from `State`.
//!
//! Records name the jobs that changed; at the next pass those jobs are read again ([`Ledger::catch_up`]).
//! A change of nodes, partitions or policy makes everything new.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{JobId, PartitionIdx, Uid};
use model::time::{Span, Timestamp};

use super::cluster::Cluster;
use super::eligible;
use super::policy::{OrderKey, Policy, Prediction};
use super::search::Holds;
use super::shape::Shapes;
use crate::allocation::Allocation;
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{Active, ArrayRole, Job, Phase};

/// A job of the queue that nothing but resources and order holds back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: OrderKey,
    pub(super) shape: u32,
    /// Least CPUs in all: what cannot be there is skipped by one comparison.
    pub(super) cpus: u32,
    /// How long it is believed to run, milliseconds; `i64::MAX`: its class's limit counts.
    pub(super) span: i64,
    /// Licenses, an array or limits of its QOS or account: the job itself must be looked at.
    pub(super) special: bool,
}

/// What the planner knows of a job.
#[derive(Debug)]
enum Known {
    Waiting(OrderKey),
    /// Held back by something of its own.
    Idle,
    Running {
        end: i64,
        allocation: Allocation,
        owner: bool,
    },
}

/// A start that was promised and is kept.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) class: u32,
    pub(super) holds: Holds,
}

/// A start that the last pass proposed.
#[derive(Clone, Debug)]
pub(super) struct Proposed {
    pub(super) end: i64,
    pub(super) holds: Holds,
}

/// What changed since the last pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Something else than arrivals and the starts of the last plan.
    pub(super) full: bool,
    /// Resources became free before they were planned to.
    pub(super) freed: bool,
    /// New entries of the queue.
    pub(super) arrived: Vec<OrderKey>,
    /// Waiting jobs that something of their own holds back, of those that changed.
    pub(super) idle: Vec<JobId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    ready: bool,
    /// Some request cannot be counted in a pool of nodes.
    unpooled: bool,
    policy: Policy,
    dirty: Vec<JobId>,
    known: BTreeMap<JobId, Known>,
    /// Running jobs by planned end.
    ends: BTreeSet<(i64, JobId)>,
    /// Running jobs that keep their nodes from other users.
    pub(super) owners: u32,
    pub(super) queue: Vec<Entry>,
    pub(super) shapes: Shapes,
    pub(super) cluster: Cluster,
    pub(super) promises: BTreeMap<JobId, Promise>,
    pub(super) proposed: BTreeMap<JobId, Proposed>,
    /// The last two runs of each user, whole seconds; prediction alone.
    history: BTreeMap<Uid, (Option<i64>, i64)>,
    ended: Vec<(JobId, Option<i64>)>,
    /// Predictions of jobs that wait or run, with their users; fixed at submission.
    predicted: BTreeMap<JobId, (i64, Uid)>,
    /// Number of the pass; classes remember by it what failed.
    pub(super) pass: u64,
    /// The plan holds starts of array elements, which are met again as running jobs.
    pub(super) plan_doubtful: bool,
    /// Last entry in order that has a planned start.
    pub(super) last_protected: Option<OrderKey>,
    pub(super) protected: u32,
    /// Partitions in which a job waits for resources.
    pub(super) blocked: Vec<PartitionIdx>,
    /// Earliest planned start of a protected job.
    pub(super) next_due: i64,
}

impl Ledger {
    /// Reads everything anew at the next pass.
    pub(super) fn forget(&mut self) {
        self.ready = false;
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn requests(&self) -> u32 {
        u32::try_from(self.shapes.shapes.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn observe(&mut self, record: &Record) {
        match record {
            Record::Job(job) => self.dirty.push(job.id),
            Record::ElementSplit { array, id, .. } => self.dirty.extend([*array, *id]),
            Record::JobEnded { job, ended } => {
                let run = ended.start.map(|start| ended.end.since(start).as_secs());
                self.ended.push((*job, run));
                self.dirty.push(*job);
            }
            Record::JobPriority { job, .. }
            | Record::JobWaits { job, .. }
            | Record::JobStarted { job, .. }
            | Record::JobLimit { job, .. }
            | Record::JobSuspended { job, .. }
            | Record::JobRequeued { job, .. }
            | Record::JobPurged(job) => self.dirty.push(*job),
            // Full-grown jobs may stand elsewhere in the queue; other limits may concern other jobs.
            Record::Aging(_)
            | Record::Association(..)
            | Record::Qos(..)
            | Record::NodeDefined { .. }
            | Record::NodeAdmin { .. }
            | Record::NodeLink { .. }
            | Record::PartitionDefined { .. }
            | Record::PartitionRemoved(_) => self.ready = false,
            Record::Time(_)
            | Record::Owner(_)
            | Record::NextJobId(_)
            | Record::IdWraps(_)
            | Record::NodeRegistered { .. }
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

    /// Brings the ledger up to the state; says what changed since the last pass.
    pub(super) fn catch_up(&mut self, state: &State, settings: &Settings, now: Timestamp) -> Changes {
        let many = self.shapes.shapes.len() > 4096 + 4 * self.queue.len();
        let mut changes = Changes::default();
        if !self.ready || many || self.policy != settings.policy {
            self.rebuild(state, settings);
            changes.full = true;
            changes.freed = true;
        } else {
            self.learn();
            let mut dirty = std::mem::take(&mut self.dirty);
            dirty.sort_unstable();
            dirty.dedup();
            for id in dirty.drain(..) {
                self.refresh(state, settings, id, now, &mut changes);
            }
            self.dirty = dirty;
            for (_, lost) in std::mem::take(&mut self.proposed) {
                // A proposal that was not carried out: its plan goes.
                for (node, amount) in lost.holds {
                    self.cluster.unreserve(node, amount, i64::MIN, lost.end);
                }
                changes.full = true;
                changes.freed |= lost.end > now.0;
            }
        }
        if self.cluster.is_pool() && self.shapes.has_loose {
            // A request that a pool cannot count: the nodes are planned one by one from now on.
            self.unpooled = true;
            self.rebuild(state, settings);
            changes.full = true;
            changes.freed = true;
        }
        self.outlive(state, settings, now, &mut changes);
        changes
    }

    fn rebuild(&mut self, state: &State, settings: &Settings) {
        self.policy = settings.policy;
        self.cluster = Cluster::of(state, !self.unpooled);
        self.shapes = Shapes::default();
        self.dirty.clear();
        self.known.clear();
        self.ends.clear();
        self.queue.clear();
        self.proposed.clear();
        self.promises.clear();
        self.owners = 0;
        self.plan_doubtful = false;
        self.last_protected = None;
        self.learn();
        for id in &state.index.running {
            let job = &state.jobs[id];
            self.add_running(job, job.active().expect("the index holds running jobs"), false);
        }
        self.queue.reserve(state.index.queue.len());
        for key in &state.index.queue {
            let job = &state.jobs[&key.job];
            if let Some(entry) = self.waiting(state, settings, job) {
                self.queue.push(entry);
            }
        }
        self.queue.sort_unstable_by_key(|entry| entry.key);
        self.ready = true;
    }

    /// Notes how long the jobs ran that ended.
    fn learn(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        if self.policy.prediction == Prediction::None {
            return;
        }
        for (id, run) in ended {
            // A job that was never seen waiting had no prediction and teaches nothing.
            if let (Some((_, uid)), Some(run)) = (self.predicted.remove(&id), run) {
                let earlier = self.history.get(&uid).map(|(_, last)| *last);
                self.history.insert(uid, (earlier, run));
            }
        }
    }

    fn refresh(
        &mut self,
        state: &State,
        settings: &Settings,
        id: JobId,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let before = self.known.remove(&id);
        let job = state.jobs.get(&id);
        match before {
            Some(Known::Waiting(key)) => {
                if let Ok(place) = self.queue.binary_search_by_key(&key, |entry| entry.key) {
                    self.queue.remove(place);
                }
                let starts = job.is_some_and(|job| job.active().is_some()) && self.proposed.contains_key(&id);
                changes.full |= !starts;
                if !starts && let Some(promise) = self.promises.remove(&id) {
                    changes.freed = true;
                    for (node, amount) in promise.holds {
                        self.cluster.unreserve(node, amount, promise.start, promise.end);
                    }
                }
            }
            Some(Known::Running { end, allocation, owner, .. }) => {
                self.ends.remove(&(end, id));
                self.owners -= u32::from(owner);
                self.cluster.release(&allocation, end);
                changes.full = true;
                changes.freed |= end > now.0;
            }
            Some(Known::Idle) | None => {}
        }
        let Some(job) = job else { return };
        match &job.phase {
            Phase::Pending(_) => {
                if let Some(entry) = self.waiting(state, settings, job) {
                    let place = self.queue.partition_point(|other| other.key < entry.key);
                    self.queue.insert(place, entry);
                    changes.arrived.push(entry.key);
                } else {
                    changes.idle.push(id);
                }
            }
            Phase::Active(active) => {
                let planned = self.proposed.remove(&id);
                let as_planned = planned.is_some();
                if !as_planned {
                    changes.full = true;
                }
                self.promises.remove(&id);
                self.add_running(job, active, as_planned);
            }
            Phase::Ended(_) => {}
        }
    }

    fn add_running(&mut self, job: &Job, active: &Active, planned: bool) {
        let limit = active.limit.map_or(i64::MAX, Span::as_millis);
        let span = self.predicted.get(&job.id).map_or(limit, |predicted| limit.min(predicted.0));
        let end = active.start.0.saturating_add(active.suspended_total.0).saturating_add(span);
        let owner =
            matches!(job.request.sharing, model::request::Sharing::User | model::request::Sharing::Mcs);
        self.cluster.hold(&active.allocation, end, planned);
        self.owners += u32::from(owner);
        self.ends.insert((end, job.id));
        let allocation = Allocation::clone(&active.allocation);
        self.known.insert(job.id, Known::Running { end, allocation, owner });
    }

    /// Makes the entry of a waiting job; `None`: something of its own holds it back.
    fn waiting(&mut self, state: &State, settings: &Settings, job: &Job) -> Option<Entry> {
        let pending = job.pending()?;
        if eligible::own_reason(job, pending).is_some() {
            self.known.insert(job.id, Known::Idle);
            return None;
        }
        let shape = self.shapes.of(state, settings, &mut self.cluster, job);
        let classes = &self.shapes.shapes[shape as usize];
        let first = self.shapes.classes.get(classes.classes.start as usize);
        let limit = first.filter(|_| !classes.classes.is_empty()).map_or(i64::MAX, |class| class.span);
        let limit_span = (limit < i64::MAX).then_some(Span(limit));
        let key = self.policy.order.key(state.queue_key(job), limit_span, classes.cpus);
        let cpus = classes.cpus;
        let span = self.predict(job, limit);
        let special = matches!(job.array, ArrayRole::Waiting(_))
            || job.request.rare().licenses.is_some()
            || crate::limits::concern(state, settings, job);
        self.known.insert(job.id, Known::Waiting(key));
        Some(Entry { key, shape, cpus, span, special })
    }

    fn predict(&mut self, job: &Job, limit: i64) -> i64 {
        if self.policy.prediction == Prediction::None {
            return i64::MAX;
        }
        if let Some(&(predicted, _)) = self.predicted.get(&job.id) {
            return predicted;
        }
        let mean = match self.history.get(&job.owner.uid) {
            Some((Some(earlier), last)) => (earlier + last).div_euclid(2).saturating_mul(1000),
            Some((None, _)) | None => i64::MAX,
        };
        let predicted = mean.min(limit);
        self.predicted.insert(job.id, (predicted, job.owner.uid));
        predicted
    }

    /// Jobs that run although they were planned to have ended get a later planned end: their limit
    /// where a prediction was outlived, else a little while.
    fn outlive(&mut self, state: &State, settings: &Settings, now: Timestamp, changes: &mut Changes) {
        while let Some(&(end, id)) = self.ends.first()
            && end <= now.0
        {
            self.ends.pop_first();
            let Some(Known::Running { end: known_end, allocation, .. }) = self.known.get_mut(&id) else {
                unreachable!("running jobs are known");
            };
            let active = state.job(id).and_then(Job::active);
            let limit_end = active.and_then(Active::limit_end).map_or(i64::MAX, |end| end.0);
            let grace = settings.kill_wait.0.max(1000);
            // A function of the limit and of now alone, so that a planner made anew says the same.
            let later = if limit_end > now.0 {
                limit_end
            } else {
                let periods = (now.0 - limit_end) / grace + 1;
                limit_end.saturating_add(periods.saturating_mul(grace))
            };
            self.cluster.prolong(allocation, end, later);
            *known_end = later;
            self.ends.insert((later, id));
            changes.full = true;
            // What was promised on these resources does not hold any more.
            for promise in std::mem::take(&mut self.promises).into_values() {
                for (node, amount) in promise.holds {
                    self.cluster.unreserve(node, amount, promise.start, promise.end);
                }
            }
            changes.freed = true;
        }
    }

    /// Waiting jobs that something of their own holds back.
    pub(super) fn idle(&self) -> impl Iterator<Item = JobId> + '_ {
        self.known.iter().filter(|(_, known)| matches!(known, Known::Idle)).map(|(id, _)| *id)
    }
}
