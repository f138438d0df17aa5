//! What a job or step holds: its share of each node, down to CPU ids and device indices.

use std::sync::Arc;

use model::id::NodeIdx;
use model::quantity::{Cpus, MemoryMib};

use crate::gpu::slice_set::SliceSet;
use crate::planted::{self, Bug};

/// Ids of CPUs of one node, as sorted disjoint inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuIds(Vec<(u32, u32)>);

impl CpuIds {
    /// No CPU.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the set from ranges in any order; ranges that touch are joined.
    #[must_use]
    pub fn from_ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// The inclusive ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Adds an id that is larger than every id in the set.
    ///
    /// # Panics
    /// If the id is not larger.
    pub fn push(&mut self, id: u32) {
        match self.0.last_mut() {
            Some(end) => {
                assert!(id > end.1, "ids are pushed in ascending order");
                if id == end.1 + 1 {
                    end.1 = id;
                } else {
                    self.0.push((id, id));
                }
            }
            None => self.0.push((id, id)),
        }
    }

    /// Whether an id is in the set. Cost: O(ranges).
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// Those that another set has not got. Cost: O(ids of both).
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::new();
        let rest = |id: &u32| !other.0.iter().any(|(first, last)| (first..=last).contains(&id));
        self.iter().filter(rest).for_each(|id| left.push(id));
        left
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Slurm's text: `0-3,8`.
    #[must_use]
    pub fn text(&self) -> String {
        let one = |&(first, last): &(u32, u32)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

/// A slice of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Index of the GPU on its node.
    pub gpu: u32,
    /// Name of its profile; empty: the whole GPU.
    pub profile: Box<str>,
    /// First memory slice.
    pub start: u8,
    /// Memory slices; 0 of a whole GPU. Of a GPU that is shared (its profile is empty too): how many shards.
    pub size: u8,
}

impl Slice {
    /// The most GPUs of a node that can be dynamic: those of the lowest indices.
    pub const GPUS_MAX: u32 = model::gpu::DYNAMIC_GPUS_MAX;

    /// Its memory slices among those of all GPUs of the node. None of a whole GPU, and none of a GPU that cannot be
    /// dynamic.
    #[must_use]
    pub fn bits(&self) -> SliceSet {
        let less = u8::from(planted::is(Bug::CountSliceLess) && self.size > 1);
        let run = (1_u16 << (self.size - less).min(8)) - 1;
        #[allow(clippy::cast_possible_truncation, reason = "a run ends within its GPU")]
        SliceSet::of(self.gpu, (run << self.start.min(7)) as u8)
    }
}

/// Devices of one kind on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GresShare {
    /// Place in the node's list of generic resources.
    pub kind: u32,
    /// How many.
    pub count: u64,
    /// Which ones; empty where the resource is only counted.
    pub indices: CpuIds,
    /// Where each one lies, where GPUs are observed. Of a kind whose GPUs are dynamic these are instances made for
    /// the job: they have no index and are not part of the count.
    pub slices: Vec<Slice>,
}

impl GresShare {
    /// Whether it is of slices that were made for the job.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.count == 0 && !self.slices.is_empty()
    }

    /// Whether it is of shards: parts of whole GPUs.
    #[must_use]
    pub fn is_shards(&self) -> bool {
        self.count > 0 && self.slices.iter().any(|slice| slice.profile.is_empty() && slice.size > 0)
    }

    /// How many devices or slices.
    #[must_use]
    pub fn amount(&self) -> u64 {
        if self.is_cut() { self.slices.len() as u64 } else { self.count }
    }

    /// The memory slices that were made for the job.
    #[must_use]
    pub fn cut_bits(&self) -> SliceSet {
        if self.is_cut() { SliceSet::union(self.slices.iter().map(Slice::bits)) } else { SliceSet::EMPTY }
    }
}

/// What is held on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeShare {
    /// The node.
    pub node: NodeIdx,
    /// How many CPUs.
    pub cpus: Cpus,
    /// Which CPUs; empty where CPUs are only counted (trace machines of 80,640 processors).
    pub cpu_ids: CpuIds,
    /// Memory.
    pub memory: MemoryMib,
    /// Devices, by kind.
    pub gres: Vec<GresShare>,
    /// Tasks that belong on this node.
    pub tasks: u32,
    /// Other jobs may hold the same CPUs (OverSubscribe).
    pub shared: bool,
}

/// Shares of all nodes of a job or step, in node order. Shared, since queries hold it too.
pub type Allocation = Arc<[NodeShare]>;
