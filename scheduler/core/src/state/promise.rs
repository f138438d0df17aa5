//! Promised starts: when and where a protected job of the queue will start at the latest.
//!
//! Owns what was promised and since when time was given back that nobody looked at yet. Decides nothing:
//! the planner proposes, a record says, [`crate::apply`] keeps. Invariants: only waiting jobs have promises;
//! a promise goes with its job's wait; without promises nothing was given back.
//! Source of the idea: guarantees of conservative backfill, A. Mu'alem and D. Feitelson, IEEE TPDS 12(6), 2001.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::{JobId, NodeIdx, PartitionIdx};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;

use crate::gpu::shards::Lanes;
use crate::gpu::slice_set::SliceSet;

/// The most kinds of devices of a node that are planned with; further ones count as not there.
pub const PLANNED_KINDS: usize = 6;

/// What is taken of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The node. Where all nodes are alike and have one CPU each, the first of them stands for all.
    pub node: NodeIdx,
    /// CPUs (of such a cluster: nodes).
    pub cpus: Cpus,
    /// Memory.
    pub memory: MemoryMib,
    /// Devices by kind.
    pub gres: [u32; PLANNED_KINDS],
    /// Memory slices of dynamic GPUs.
    pub slices: SliceSet,
    /// Shards of the GPUs that are shared.
    pub shards: Lanes,
}

/// A start that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// It starts then at the latest.
    pub start: Timestamp,
    /// Until then its resources are held; `i64::MAX` ms: it has no limit.
    pub end: Timestamp,
    /// In which partition.
    pub partition: PartitionIdx,
    /// What is held, by node.
    pub holds: Arc<[Held]>,
}

/// Why a promise was made, moved or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is new, or one of a snapshot.
    Made,
    /// Time was given back: it starts earlier, or elsewhere at the same time.
    GivenBack,
    /// A node of it does not take jobs any more.
    NodeLost,
    /// A running job was given more time, or starts that no plan knew of took the place.
    LimitRaised,
    /// A job of higher priority takes the place, or as many as are protected are ahead.
    HigherPriority,
    /// A reservation takes the place.
    Reservation,
    /// Partitions or nodes were configured anew, or a node has other devices.
    Configuration,
    /// Its time passed while nobody could start it.
    Clock,
    /// A running job goes on after it was planned to end.
    Outlived,
    /// Something that is not planned ahead (a user's own node, sockets) kept it from starting.
    NotPlanned,
    /// The job itself was changed or held.
    JobChanged,
}

/// What becomes of the promises of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromiseChange {
    /// The job, or the array whose next elements start then.
    pub job: JobId,
    /// All that is promised from now on, in order of start; empty: nothing.
    pub promises: Vec<Promise>,
    /// Why.
    pub cause: Cause,
}

/// All promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// By job, in order of start.
    pub by_job: BTreeMap<JobId, Arc<[Promise]>>,
    /// Since when resources are free before they were planned to be, and promises may move earlier.
    pub given_back: Option<Timestamp>,
}

impl Promises {
    /// The next start that is promised to a job.
    #[must_use]
    pub fn of(&self, job: JobId) -> Option<&Promise> {
        self.by_job.get(&job)?.first()
    }

    /// Carries out the changes of a record.
    pub(crate) fn change(&mut self, changes: &[PromiseChange], given_back: Option<Timestamp>) {
        for change in changes {
            if change.promises.is_empty() {
                self.by_job.remove(&change.job);
            } else {
                self.by_job.insert(change.job, change.promises.as_slice().into());
            }
        }
        self.given_back = given_back.filter(|_| !self.by_job.is_empty());
    }

    /// The job does not wait any more, or is another one. `taken`: it starts, which gives nothing back.
    pub(crate) fn drop_of(&mut self, job: JobId, taken: bool, now: Timestamp) {
        if self.by_job.remove(&job).is_some() {
            if self.by_job.is_empty() {
                self.given_back = None;
            } else if !taken {
                self.give_back(now);
            }
        }
    }

    /// Resources became free that no plan counted on.
    pub(crate) fn give_back(&mut self, now: Timestamp) {
        if !self.by_job.is_empty() {
            self.given_back.get_or_insert(now);
        }
    }
}
