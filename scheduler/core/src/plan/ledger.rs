//! What the planner keeps between passes: the queue in the policy's order, running jobs by their
//! planned end, profiles, promises, distinct requests. All of it follows from `State`.
//!
//! Records name the jobs that changed; at the next pass those jobs are read again ([`super::news`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use model::config::topology::Topology;
use model::id::{JobId, NodeIdx, PartitionIdx};
use model::time::{Span, Timestamp};

use super::cluster::Cluster;
use super::eligible;
use super::family::Candidate;
use super::head::Attempts;
use super::holds::Holds;
use super::license::{self, Licenses};
use super::limited::Limited;
use super::policy::{Candidates, OrderKey, Policy};
use super::profile::Amount;
use super::remains::Remains;
use super::search::Scratch;
use super::shape::Shapes;
use crate::allocation::{Allocation, GresShare};
use crate::job::start::least_limit;
use crate::place::Board;
use crate::settings::Settings;
use crate::state::State;
use crate::state::by_id::ById;
use crate::state::job::{Active, ArrayRole, Job, Phase};
use crate::state::promise::{self, Cause, Held};

/// A job of the queue that nothing but resources and order holds back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) shape: u32,
    /// Rank among candidates.
    pub(super) rank: u64,
    /// How long a run of it takes at least for the plan, milliseconds: its own limit, or what is predicted, or the least
    /// that it may be shortened to; `i64::MAX`: its class's limit counts.
    pub(super) span: i64,
    /// An array: several may start.
    pub(super) array: bool,
    /// Licenses, or limits of its QOS or account, may hold it back too.
    pub(super) bound: bool,
    /// It asks for licenses.
    pub(super) licensed: bool,
    /// No partition of it has the nodes, whatever is free.
    pub(super) hopeless: bool,
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
        licenses: license::Held,
        owner: bool,
    },
}

/// A planned start of a protected job; in State too where promises are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) class: u32,
    pub(super) holds: Holds,
    pub(super) licenses: license::Held,
}

/// A set of keys that comes in order for the most part, and uses its memory again.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<OrderKey>);

impl Keys {
    pub(super) fn insert(&mut self, key: OrderKey) {
        if self.0.last().is_none_or(|last| *last < key) {
            self.0.push(key);
        } else if let Err(place) = self.0.binary_search(&key) {
            self.0.insert(place, key);
        }
    }

    pub(super) fn remove(&mut self, key: &OrderKey) {
        if let Ok(place) = self.0.binary_search(key) {
            self.0.remove(place);
        }
    }

    pub(super) fn contains(&self, key: &OrderKey) -> bool {
        self.0.binary_search(key).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Leaves only what is not before a key.
    pub(super) fn drop_before(&mut self, key: &OrderKey) {
        let place = self.0.partition_point(|one| one < key);
        self.0.drain(..place);
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&OrderKey) -> bool) {
        self.0.retain(wanted);
    }
}

/// A start that the last pass proposed.
#[derive(Clone, Debug)]
pub(super) struct Proposed {
    pub(super) end: i64,
    pub(super) holds: Holds,
    pub(super) licenses: license::Held,
}

/// The starts that the last pass proposed of one job: of an array there may be more.
#[derive(Clone, Debug)]
pub(super) struct Proposals {
    pub(super) first: Proposed,
    pub(super) more: VecDeque<Proposed>,
}

/// What changed since the last pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Something else than arrivals and the starts of the last plan.
    pub(super) full: bool,
    /// Everything was read anew.
    pub(super) anew: bool,
    /// Some job was read again.
    pub(super) read: bool,
    /// New entries of the queue.
    pub(super) arrived: Vec<OrderKey>,
    /// Waiting jobs that something of their own holds back, of those that changed.
    pub(super) idle: Vec<JobId>,
}

impl Changes {
    /// Takes over the memory of changes that were dealt with, if there is none yet.
    pub(super) fn reuse(&mut self, mut old: Self) {
        if self.arrived.capacity() == 0 {
            old.arrived.clear();
            self.arrived = old.arrived;
        }
        if self.idle.capacity() == 0 {
            old.idle.clear();
            self.idle = old.idle;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) ready: bool,
    /// Some request cannot be counted in a pool of nodes.
    pub(super) unpooled: bool,
    pub(super) policy: Policy,
    /// The topology that requests were sorted by.
    topology: Option<Arc<Topology>>,
    pub(super) dirty: Vec<JobId>,
    /// Jobs that are still to be read again, the next one last.
    pub(super) backlog: Vec<JobId>,
    /// So many jobs are read in a slice, whatever the budget; of tests alone.
    pub(super) at_once: Option<u32>,
    /// What the slices of reading brought so far.
    pub(super) news: Changes,
    /// When the head of the queue was tried while everything is read anew.
    pub(super) attempts: Attempts,
    /// Nodes and partitions that records named.
    pub(super) changed_nodes: Vec<NodeIdx>,
    pub(super) changed_partitions: Vec<PartitionIdx>,
    /// Jobs may stand elsewhere in the queue.
    pub(super) aged: bool,
    /// Limits of a QOS or an association changed.
    pub(super) limits_changed: bool,
    known: ById<Known>,
    /// Running jobs by planned end.
    ends: BTreeSet<(i64, JobId)>,
    /// Running jobs that keep their nodes from other users.
    pub(super) owners: u32,
    pub(super) queue: BTreeMap<OrderKey, Entry>,
    pub(super) shapes: Shapes,
    pub(super) cluster: Cluster,
    pub(super) licenses: Licenses,
    /// Kept promises by the place of their jobs in the queue, in order of start; as in the state.
    pub(super) promises: BTreeMap<OrderKey, VecDeque<Promise>>,
    /// Promises of the job that is being read again.
    moving: Option<VecDeque<Promise>>,
    /// Jobs whose promise had to be given up; they get another.
    pub(super) displaced: BTreeMap<JobId, Cause>,
    /// Changes of promises were proposed, and no record said them yet.
    pub(super) unconfirmed: bool,
    /// Promises up to there were moved earlier, in a sweep that goes on.
    pub(super) swept_to: Option<OrderKey>,
    /// What the slices of this pass have worked off already; empty between passes. Without it a slice would begin
    /// with the same jobs that no node suits as the one before, and never reach what is behind them.
    pub(super) worked_off: Keys,
    /// Those for whom something became free, before it is for who is behind them, and whose turn is still to come: of this
    /// slice, and of the one before. Empty between passes.
    pub(super) owed: Keys,
    pub(super) owed_before: Keys,
    /// Something changed since the first slice of this pass: what was worked off is looked at once more.
    pub(super) again: bool,
    /// Starts that were proposed, by job or array.
    pub(super) proposed: BTreeMap<JobId, Proposals>,
    /// Arrays of elements that got a record of their own lately.
    pub(super) splits: BTreeMap<JobId, JobId>,
    /// Candidates that are still to be tested.
    pub(super) candidates: BinaryHeap<Reverse<(Candidate, u32)>>,
    /// Planned starts where they are made anew at each pass, and those of the pass before; with verdicts.
    pub(super) planned: BTreeMap<OrderKey, Promise>,
    pub(super) formerly: BTreeMap<OrderKey, Promise>,
    /// The last entry in order that was handled as a protected one.
    pub(super) zone_end: Option<OrderKey>,
    /// Memory that is used again; each pass has them, and gives them back.
    pub(super) scratch: Option<Box<Scratch>>,
    pub(super) board: Option<Box<Board>>,
    /// Lists whose memory is used again.
    pub(super) collected: Vec<(OrderKey, Entry)>,
    pub(super) todo: Vec<(OrderKey, u32)>,
    /// Entries behind the protected ones that something beside nodes held back when they were tested.
    pub(super) held_back: BTreeSet<OrderKey>,
    /// What limits may hold back, and those that do.
    pub(super) limited: Limited,
    /// Entries that wait for resources, by partition; where verdicts are asked for.
    pub(super) waiting_in: Vec<BTreeSet<OrderKey>>,
    /// The first of each when verdicts were last given.
    pub(super) first_in: Vec<Option<OrderKey>>,
    /// Number of the pass; classes remember by it what failed.
    pub(super) pass: u64,
    /// Last entry in order that has a planned start.
    pub(super) last_protected: Option<OrderKey>,
    pub(super) protected: u32,
    /// When jobs are looked at again that a limit holds back which gives way with time; `i64::MAX`: there are none.
    pub(super) retry_at: i64,
    /// Earliest planned start of a protected job.
    pub(super) next_due: i64,
    /// Nothing was left to do with kept promises after the last pass, at this depth.
    pub(super) settled: Option<u32>,
    /// Where the next verdicts begin; `None`: all that wait were told theirs since everything was read anew.
    pub(super) telling: Option<Bound<OrderKey>>,
    /// What was known before everything was read anew.
    pub(super) remains: Remains,
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

    pub(super) fn same_topology(&self, settings: &Settings) -> bool {
        match (&self.topology, &settings.topology) {
            (None, None) => true,
            (Some(mine), Some(new)) => Arc::ptr_eq(mine, new) || mine == new,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    pub(super) fn rebuild(&mut self, state: &State, settings: &Settings, bulk: bool) {
        self.begin(state, settings);
        self.attempts = Attempts::default();
        if !bulk {
            self.backlog.extend(state.index.queue.iter().rev().map(|key| key.job));
            return;
        }
        let mut entries = Vec::with_capacity(state.index.queue.len());
        for key in &state.index.queue {
            entries.extend(self.waiting(state, settings, &state.jobs[&key.job]));
        }
        entries.sort_unstable_by_key(|(key, _)| *key);
        for (key, entry) in &entries {
            self.join(*key, entry);
        }
        self.queue = entries.into_iter().collect();
    }

    /// Everything but the queue, anew.
    pub(super) fn begin(&mut self, state: &State, settings: &Settings) {
        self.retry_at = i64::MAX;
        self.policy = settings.policy;
        self.topology = settings.topology.clone();
        self.cluster = Cluster::of(state, !self.unpooled);
        if let Some(scratch) = &mut self.scratch {
            scratch.forget();
        }
        self.licenses = Licenses::of(&settings.licenses);
        let (shapes, queue) = (std::mem::take(&mut self.shapes), std::mem::take(&mut self.queue));
        self.remains.take(shapes, queue, std::mem::take(&mut self.waiting_in));
        self.telling = None;
        self.dirty.clear();
        self.backlog.clear();
        self.changed_nodes.clear();
        self.changed_partitions.clear();
        self.aged = false;
        self.limits_changed = false;
        self.news = Changes::default();
        self.known.clear();
        self.ends.clear();
        self.proposed.clear();
        self.splits.clear();
        self.promises.clear();
        self.displaced.clear();
        self.unconfirmed = false;
        self.swept_to = None;
        self.worked_off.clear();
        self.owed.clear();
        self.owed_before.clear();
        self.again = false;
        self.settled = None;
        self.candidates.clear();
        self.held_back.clear();
        self.limited = Limited::default();
        self.waiting_in = vec![BTreeSet::new(); state.partitions.len()];
        self.first_in = vec![None; state.partitions.len()];
        self.owners = 0;
        self.last_protected = None;
        self.zone_end = None;
        self.planned.clear();
        // Promises of the state are laid by the pass.
        self.cluster.doubt();
        for id in &state.index.running {
            let job = &state.jobs[id];
            self.add_running(settings, job, job.active().expect("the index holds running jobs"), None);
        }
        self.ready = true;
    }

    pub(super) fn refresh(&mut self, state: &State, settings: &Settings, id: JobId, changes: &mut Changes) {
        let before = self.known.remove(&id);
        let job = state.jobs.get(&id);
        match before {
            Some(Known::Waiting(key)) => {
                let starts = job.is_some_and(|job| job.active().is_some()) && self.proposed.contains_key(&id);
                changes.full |= !starts;
                if let Some(entry) = self.queue.remove(&key) {
                    self.leave(key, &entry);
                    // What it holds of a limit may hold back who has a planned start; and where that is not for a fixed
                    // number of nodes, other nodes may suit it better now.
                    let other = entry.bound || self.shapes.has_loose;
                    changes.full |= other && !self.policy.keep;
                }
                self.move_promises(state, id, key, starts);
            }
            Some(Known::Running { end, allocation, licenses, owner }) => {
                self.ends.remove(&(end, id));
                self.owners -= u32::from(owner);
                self.cluster.release(&allocation, end);
                self.licenses.release(&licenses, end);
                changes.full = true;
                // Its array may run another element.
                if let Some(array) = job.and_then(|job| job.array_id())
                    && let Some(Known::Waiting(key)) = self.known.get(&array)
                {
                    changes.arrived.push(*key);
                }
            }
            Some(Known::Idle) | None => {}
        }
        let Some(job) = job else {
            self.splits.remove(&id);
            return;
        };
        match &job.phase {
            Phase::Pending(_) => {
                self.splits.remove(&id);
                if let Some((key, entry)) = self.waiting(state, settings, job) {
                    self.join(key, &entry);
                    self.queue.insert(key, entry);
                    if let Some(promises) = self.moving.take() {
                        self.promises.insert(key, promises);
                    }
                    changes.arrived.push(key);
                } else {
                    self.drop_moving();
                    changes.idle.push(id);
                }
            }
            Phase::Active(active) => {
                let planned = self.take_proposal(id);
                // What a plan starts is counted by the pass that plans it.
                self.limited.changed |= planned.is_none();
                let as_planned = self.add_running(settings, job, active, planned.as_ref());
                changes.full |= !as_planned;
            }
            Phase::Ended(_) => {}
        }
    }

    /// A job runs. `planned`: what the plan has of it already. Whether the plan stands with that.
    fn add_running(
        &mut self,
        settings: &Settings,
        job: &Job,
        active: &Active,
        planned: Option<&Proposed>,
    ) -> bool {
        let limit = active.limit.map_or(i64::MAX, Span::as_millis);
        let span = self.policy.prediction.within(limit, job);
        let cut = active.allocation.iter().flat_map(|share| &share.gres).any(GresShare::is_cut);
        let span = if cut { span.saturating_add(settings.slice_time().0) } else { span };
        let end = active.start.0.saturating_add(active.suspended_total.0).saturating_add(span);
        let stands = planned
            .is_some_and(|planned| planned.end == end || self.correct(&active.allocation, planned, end));
        let planned = planned.is_some();
        let owner =
            matches!(job.request.sharing, model::request::Sharing::User | model::request::Sharing::Mcs);
        self.cluster.hold(&active.allocation, end, planned);
        let licenses = self.licenses.of_running(job);
        self.licenses.hold(&licenses, end, planned);
        self.owners += u32::from(owner);
        self.ends.insert((end, job.id));
        let allocation = Allocation::clone(&active.allocation);
        self.known.insert(job.id, Known::Running { end, allocation, licenses, owner });
        stands
    }

    /// A start that was carried out as proposed, but for its end: programs before the job ran on meanwhile, or its limit is
    /// another one. `false`: something else is planned there.
    fn correct(&mut self, allocation: &Allocation, planned: &Proposed, end: i64) -> bool {
        // Elements of an array may have started in another order.
        let same = self.cluster.holds(allocation) == planned.holds;
        let free = same && self.cluster.correct(allocation, planned.end, end);
        let licensed = self.licenses.correct(&planned.licenses, planned.end, end);
        if !free || !licensed {
            self.cluster.doubt();
        }
        free && licensed
    }

    /// Takes a proposal that was carried out for this job from the list; `None`: nobody planned its start.
    fn take_proposal(&mut self, id: JobId) -> Option<Proposed> {
        let origin = self.splits.remove(&id).unwrap_or(id);
        let proposed = self.proposed.get_mut(&origin)?;
        match proposed.more.pop_front() {
            Some(next) => Some(std::mem::replace(&mut proposed.first, next)),
            None => self.proposed.remove(&origin).map(|last| last.first),
        }
    }

    /// Proposals that were not carried out: their plans go, and their jobs wait as before.
    pub(super) fn give_up_proposals(&mut self, changes: &mut Changes) {
        if self.proposed.is_empty() {
            // The rule; its memory stays.
            return;
        }
        for (id, lost) in std::mem::take(&mut self.proposed) {
            for one in std::iter::once(lost.first).chain(lost.more) {
                for &(node, amount) in &one.holds {
                    self.cluster.unreserve(node, amount, i64::MIN, one.end);
                }
                self.licenses.lift(&one.licenses, i64::MIN, one.end);
            }
            if let Some(&Known::Waiting(key)) = self.known.get(&id)
                && let Some(entry) = self.queue.get(&key).copied()
            {
                self.join(key, &entry);
                changes.arrived.push(key);
            }
            changes.full = true;
            // What was promised to it before was given up for the start.
            self.cluster.doubt();
        }
    }

    /// A waiting job changed: its promises go where it goes, as far as the state keeps them.
    fn move_promises(&mut self, state: &State, id: JobId, key: OrderKey, starts: bool) {
        self.moving = self.promises.remove(&key);
        if starts || !state.promises.by_job.contains_key(&id) {
            self.drop_moving();
        }
    }

    fn drop_moving(&mut self) {
        for promise in self.moving.take().into_iter().flatten() {
            self.unreserve(&promise);
        }
    }

    /// Takes a planned start out of the profile.
    pub(super) fn reserve(&mut self, promise: &Promise, passing: bool) {
        for &(node, amount) in &promise.holds {
            self.cluster.reserve(node, amount, (promise.start, promise.end), passing);
        }
        self.licenses.reserve(&promise.licenses, promise.start, promise.end);
    }

    /// Gives a planned start back to the profile.
    pub(super) fn unreserve(&mut self, promise: &Promise) {
        for &(node, amount) in &promise.holds {
            self.cluster.unreserve(node, amount, promise.start, promise.end);
        }
        self.licenses.lift(&promise.licenses, promise.start, promise.end);
    }

    /// An entry waits in its classes.
    pub(super) fn join(&mut self, key: OrderKey, entry: &Entry) {
        if entry.bound {
            self.limited.blamed.insert(key, None);
        }
        if entry.hopeless {
            return;
        }
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let known = &self.shapes.classes[class as usize];
            if !known.hopeless {
                let span = self.span(entry, class);
                self.shapes.families.join(class, span, (entry.rank, key));
            }
        }
    }

    /// An entry waits no more.
    pub(super) fn leave(&mut self, key: OrderKey, entry: &Entry) {
        if entry.bound {
            self.limited.forget(&key);
        }
        self.held_back.remove(&key);
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            self.shapes.families.leave(class, &(entry.rank, key));
            let partition = self.shapes.classes[class as usize].partition;
            self.waiting_in[partition.0 as usize].remove(&key);
        }
    }

    /// The key of a job that waits in the queue.
    pub(super) fn key_of(&self, id: JobId) -> Option<OrderKey> {
        match self.known.get(&id) {
            Some(Known::Waiting(key)) => Some(*key),
            Some(Known::Idle | Known::Running { .. }) | None => None,
        }
    }

    /// The class of an entry in a partition.
    pub(super) fn class_in(&self, entry: &Entry, partition: PartitionIdx) -> Option<u32> {
        let mut classes = self.shapes.shapes[entry.shape as usize].classes.clone();
        classes.find(|&class| self.shapes.classes[class as usize].partition == partition)
    }

    /// How long a run of an entry is planned to take in a class: that of the least limit, where it has one.
    pub(super) fn span(&self, entry: &Entry, class: u32) -> i64 {
        self.shapes.span(class, entry.span)
    }

    /// How long a run of an entry with its whole limit is believed to take in a class.
    pub(super) fn whole_span(&self, job: &Job, entry: &Entry, class: u32) -> i64 {
        let own_limit = self.shapes.shapes[entry.shape as usize].own_limit(job);
        self.shapes.span(class, self.policy.prediction.within(own_limit, job))
    }

    /// Makes the entry of a waiting job; `None`: something of its own holds it back.
    fn waiting(&mut self, state: &State, settings: &Settings, job: &Job) -> Option<(OrderKey, Entry)> {
        let pending = job.pending()?;
        if eligible::own_reason(job, pending).is_some() {
            self.known.insert(job.id, Known::Idle);
            return None;
        }
        let shape = self.shapes.of(state, settings, &mut self.cluster, job);
        let classes = &self.shapes.shapes[shape as usize];
        let limit = self.shapes.limit(shape, job);
        let limit_span = (limit < i64::MAX).then_some(Span(limit));
        let key = self.policy.order.key(state.queue_key(job), limit_span, classes.cpus);
        let range = classes.classes.clone();
        let cpus = classes.cpus;
        let (own_limit, shortens) = (classes.own_limit(job), classes.shortens);
        let hopeless = range.clone().all(|class| self.shapes.classes[class as usize].hopeless);
        let believed = self.policy.prediction.within(limit, job).max(0).cast_unsigned();
        let rank = match self.policy.candidates {
            Candidates::Queue => 0,
            Candidates::Limit => believed,
            Candidates::Area => believed.saturating_mul(u64::from(cpus)),
        };
        let array = matches!(job.array, ArrayRole::Waiting(_));
        let licensed = job.request.rare().licenses.is_some();
        let bound = licensed || crate::limits::concern(state, settings, job);
        self.known.insert(job.id, Known::Waiting(key));
        let least = if shortens { least_limit(job.request.rare()) } else { None };
        let planned = least.map_or(own_limit, |least| own_limit.min(least.as_millis()));
        let span = self.policy.prediction.within(planned, job);
        Some((key, Entry { shape, rank, span, array, bound, licensed, hopeless }))
    }

    /// Jobs that run although they were planned to have ended get a later planned end: their limit
    /// where a prediction was outlived, else a little while.
    pub(super) fn outlive(
        &mut self,
        state: &State,
        settings: &Settings,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        while let Some(&(end, id)) = self.ends.first()
            && end <= now.0
        {
            self.ends.pop_first();
            let Some(Known::Running { end: known_end, allocation, licenses, .. }) = self.known.get_mut(&id)
            else {
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
            self.licenses.prolong(licenses, end, later);
            *known_end = later;
            self.ends.insert((later, id));
            changes.full = true;
        }
    }

    /// Whether a waiting job stands at another place of the queue now. Cost: O(log jobs).
    pub(super) fn stands_elsewhere(&self, state: &State, key: OrderKey, entry: &Entry) -> bool {
        let Some(job) = state.jobs.get(&key.job) else { return true };
        let cpus = self.shapes.shapes[entry.shape as usize].cpus;
        let limit = self.shapes.limit(entry.shape, job);
        let limit_span = (limit < i64::MAX).then_some(Span(limit));
        self.policy.order.key(state.queue_key(job), limit_span, cpus) != key
    }

    /// Waiting jobs that something of their own holds back.
    pub(super) fn idle(&self) -> impl Iterator<Item = JobId> + '_ {
        self.known.iter().filter(|(_, known)| matches!(known, Known::Idle)).map(|(id, _)| *id)
    }
}

impl Promise {
    /// As the state keeps it.
    pub(super) fn as_kept(&self, partition: PartitionIdx) -> promise::Promise {
        let held = |&(node, amount): &(u32, Amount)| Held {
            node: model::id::NodeIdx(node),
            cpus: model::quantity::Cpus(amount.cpus),
            memory: model::quantity::MemoryMib(amount.memory),
            gres: amount.gres,
            slices: amount.slices,
            shards: amount.shards,
        };
        promise::Promise {
            start: Timestamp(self.start),
            end: Timestamp(self.end),
            partition,
            holds: self.holds.iter().map(held).collect(),
        }
    }

    /// As the planner works with it.
    pub(super) fn from_kept(kept: &promise::Promise, class: u32, licenses: license::Held) -> Self {
        let hold = |held: &Held| {
            let Held { node, cpus, memory, gres, slices, shards } = *held;
            (node.0, Amount { cpus: cpus.0, gres, memory: memory.0, slices, shards })
        };
        let holds = kept.holds.iter().map(hold).collect();
        Self { start: kept.start.0, end: kept.end.0, class, holds, licenses }
    }
}
