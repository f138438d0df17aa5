//! Everything that is true of the cluster, and nothing that can be derived from it except the indexes
//! that [`crate::apply`] keeps beside the facts.
//!
//! Owns: jobs, nodes, partitions, accounts, ids. Invariants are written down, and recomputed from
//! scratch, in [`check`]. Equality of two states is equality of their [`digest`].

pub mod accounts;
pub mod aging;
pub mod by_id;
pub mod check;
pub mod digest;
pub mod job;
pub mod node;
pub mod partition;
pub mod prediction;
pub mod promise;
pub mod reservation;
pub mod slices;
pub mod snapshot;
pub mod spent;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::id::{Epoch, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, TaskIndex, Uid};
use model::time::{Span, Timestamp};

use crate::effect::RunKey;
use accounts::Accounts;
use aging::Aging;
use by_id::ById;
use job::Job;
use node::Node;
use partition::Partition;
use prediction::Predictions;
use promise::Promises;
use reservation::Reservations;
use slices::Slices;
use spent::Spending;

/// The whole state.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Number of the present owner of the journal.
    pub epoch: Epoch,
    /// The latest time that a record was made at; never decreases.
    pub now: Timestamp,
    /// How far wall time is ahead of the times in here (behind, if negative): the wall clock was set, or the machine
    /// slept. Times in `State` go on evenly whatever the wall clock does; what users name (begin times, deadlines) and
    /// what they are shown is wall time.
    pub wall_ahead: Span,
    /// The id that is tried first for the next job.
    pub next_job_id: u32,
    /// How often that has gone back to the first one: ids are used again since then.
    pub id_wraps: u32,
    /// Set by a restore: ids below were, or may have been, issued before it.
    pub restored: Option<u32>,
    /// Runs that executors show and that the restored state does not know: left alone until an administrator ends them.
    pub strangers: BTreeSet<(RunKey, NodeIdx)>,
    /// Jobs that wait, run, or ended less than MinJobAge ago. Shared with other states (the views') until one of them
    /// changes.
    pub jobs: ById<Arc<Job>>,
    /// Arrays with the outcome of their elements so far, until the last of them is purged.
    pub arrays: BTreeMap<JobId, ArraySummary>,
    /// Nodes by place; a place is never used for another name.
    pub nodes: Vec<Node>,
    /// Partitions by place; a removed partition leaves `None`.
    pub partitions: Vec<Option<Partition>>,
    /// Accounting data.
    pub accounts: Accounts,
    /// What ended runs have used, by association and QOS.
    pub spending: Spending,
    /// How priorities grow with age.
    pub aging: Aging,
    /// Promised starts of waiting jobs.
    pub promises: Promises,
    /// What users' last runs took, where run times are predicted.
    pub predictions: Predictions,
    /// What is asked of GPUs that are cut.
    pub slices: Slices,
    /// Nodes that belong to some users or accounts for a time.
    pub reservations: Reservations,
    /// Indexes over the above.
    pub index: Index,
}

/// What is known of an array as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArraySummary {
    /// Elements it was submitted with.
    pub total: u32,
    /// Elements that have ended.
    pub ended: u32,
    /// Elements that ended other than COMPLETED with code zero.
    pub failed: u32,
    /// Elements that ended without ever having started.
    pub unstarted: u32,
    /// Elements that hold resources now.
    pub running: u32,
    /// Records (the waiting one and elements) still in `State`.
    pub records: u32,
}

/// Starts that one job can have before its run numbers would meet those of the id's next job.
const RUNS_MAX: u32 = 1 << 20;

/// Derived from the facts by `apply`; `check` recomputes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Node by name.
    pub node_by_name: BTreeMap<Box<str>, NodeIdx>,
    /// Partition by name.
    pub partition_by_name: BTreeMap<Box<str>, PartitionIdx>,
    /// Jobs that wait, most urgent first: see [`QueueKey`].
    pub queue: BTreeSet<QueueKey>,
    /// Jobs that hold resources.
    pub running: BTreeSet<JobId>,
    /// Ended jobs by the time they ended.
    pub ended: BTreeSet<(Timestamp, JobId)>,
    /// Jobs that wait for others: (the other, the dependent).
    pub dependents: BTreeSet<(JobId, JobId)>,
    /// Elements of arrays that have a record of their own.
    pub elements: BTreeMap<(JobId, TaskIndex), JobId>,
    /// Jobs by request key, per user.
    pub keys: BTreeMap<(Uid, RequestKey), JobId>,
    /// Jobs of a user that have not ended, by [`Index::hash`] of their names (for `singleton`): [`Index::name_key`].
    pub named: BTreeSet<u128>,
    /// Jobs (and elements of arrays) that have not ended, by who submitted them.
    pub submitted: BTreeMap<Submitter, u32>,
    /// Licenses in use by name.
    pub licenses_used: BTreeMap<Box<str>, u32>,
}

/// User, association and QOS of jobs.
#[derive(Clone, Debug)]
pub struct Submitter {
    /// User.
    pub user: Uid,
    /// Number of the association; 0: none.
    pub association: u32,
    /// QOS; empty where there is none.
    pub qos: Arc<str>,
}

// Numbers first, and a text that two share is not read.
impl Ord for Submitter {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = |one: &Self| u64::from(one.user.0) << 32 | u64::from(one.association);
        numbers(self).cmp(&numbers(other)).then_with(|| {
            if Arc::ptr_eq(&self.qos, &other.qos) { Ordering::Equal } else { self.qos.cmp(&other.qos) }
        })
    }
}

impl PartialOrd for Submitter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Submitter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Submitter {}

/// Order of the queue: partition tier, then priority, then submission; smallest first.
///
/// Nothing in it changes with time alone: see [`Aging`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueKey {
    /// `u32::MAX - tier`.
    pub tier_rank: u32,
    /// Falls as the priority grows.
    pub priority_rank: u64,
    /// Time of submission (of the requeue, for a requeued job: its eligible time does not count).
    pub submit: Timestamp,
    /// The last tie.
    pub job: JobId,
}

impl Index {
    /// A number for a name, the same on every machine; few names share one.
    ///
    /// Source: Fowler, Noll and Vo's hash, FNV-1a, 64 bits.
    #[must_use]
    pub fn hash(name: &str) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The place of a job among those of its user, by the hash of its name, then by number; one number, since it is
    /// searched for twice in the life of every job.
    #[must_use]
    pub fn name_key(user: Uid, hash: u64, job: JobId) -> u128 {
        u128::from(user.0) << 96 | u128::from(hash) << 32 | u128::from(job.0)
    }

    /// The job of such a place.
    #[must_use]
    pub fn job_of(name_key: u128) -> JobId {
        JobId(u32::try_from(name_key & u128::from(u32::MAX)).expect("32 bits are left"))
    }
}

impl State {
    /// Ids that a restore passes over: more were hardly issued since the backup.
    pub const IDS_SKIPPED_BY_RESTORE: u32 = 10_000;
    /// Run numbers that a restore passes over for each waiting job: it may have been started since the backup.
    pub const RUNS_SKIPPED_BY_RESTORE: u32 = 1_000;

    /// The run number before the first start of a new job: runs of one id are told apart for ever, also those of the job
    /// that had the id before the ids came round.
    #[must_use]
    pub fn first_run(&self) -> RunNumber {
        RunNumber(Self::runs_from(self.id_wraps))
    }

    /// The same when ids have come round so often.
    pub(crate) fn runs_from(wraps: u32) -> u32 {
        wraps.saturating_mul(RUNS_MAX)
    }

    /// The time in here at which the wall clock shows `wall`, as it is set now.
    #[must_use]
    pub fn own_time(&self, wall: Timestamp) -> Timestamp {
        wall.saturating_sub(self.wall_ahead)
    }

    /// What the wall clock shows at a time in here, as it is set now.
    #[must_use]
    pub fn wall_time(&self, own: Timestamp) -> Timestamp {
        own.saturating_add(self.wall_ahead)
    }

    /// The job, if it is in `State`.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).map(|job| &**job)
    }

    /// The node at a place.
    ///
    /// # Panics
    /// If there is none: places come from this state only.
    #[must_use]
    pub fn node(&self, idx: NodeIdx) -> &Node {
        &self.nodes[idx.0 as usize]
    }

    /// The node of that name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<NodeIdx> {
        self.index.node_by_name.get(name).copied()
    }

    /// The partition at a place, unless it was removed.
    #[must_use]
    pub fn partition(&self, idx: PartitionIdx) -> Option<&Partition> {
        self.partitions.get(idx.0 as usize)?.as_ref()
    }

    /// The partition of that name.
    #[must_use]
    pub fn partition_named(&self, name: &str) -> Option<PartitionIdx> {
        self.index.partition_by_name.get(name).copied()
    }

    /// Names of the nodes of an allocation, compressed: `c[1-3]`.
    #[must_use]
    pub fn node_names(&self, allocation: &[crate::allocation::NodeShare]) -> String {
        let names: Vec<&str> =
            allocation.iter().map(|share| &*self.node(share.node).definition.name).collect();
        model::hostlist::compress_sorted(&names)
    }

    /// The same nodes and partitions without any job, every node in service: what could ever run?
    #[must_use]
    pub fn idle_cluster(&self) -> Self {
        let mut idle = Self {
            epoch: self.epoch,
            now: self.now,
            nodes: self.nodes.clone(),
            partitions: self.partitions.clone(),
            accounts: self.accounts.clone(),
            aging: self.aging,
            ..Self::default()
        };
        idle.index.node_by_name = self.index.node_by_name.clone();
        idle.index.partition_by_name = self.index.partition_by_name.clone();
        for node in &mut idle.nodes {
            node.used.clear();
            node.link = node::Link::Up;
            node.admin = node::Admin::default();
        }
        idle
    }

    /// Where the job stands in the queue.
    #[must_use]
    pub fn queue_key(&self, job: &Job) -> QueueKey {
        QueueKey::of(job, &self.partitions, &self.aging)
    }
}

impl QueueKey {
    /// The key of a job among these partitions.
    #[must_use]
    pub fn of(job: &Job, partitions: &[Option<Partition>], aging: &Aging) -> Self {
        let places = job.partitions.iter().filter_map(|idx| partitions.get(idx.0 as usize)?.as_ref());
        let tier = places.map(|partition| partition.definition.priority_tier).max().unwrap_or(0);
        Self { tier_rank: u32::MAX - tier, priority_rank: aging.rank(job), submit: job.submit, job: job.id }
    }
}
