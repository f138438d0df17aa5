//! CPUs that several jobs may hold (OverSubscribe): of which nodes, and until when jobs of each sort run there.
//!
//! Jobs that share their CPUs and jobs that do not are never on one node.

use std::collections::BTreeMap;

use super::Cluster;
use crate::allocation::NodeShare;
use crate::state::State;
use crate::state::partition::{OverSubscribe, Partition};

/// Until when jobs of each sort run on a node whose CPUs may be shared.
#[derive(Debug, Default)]
pub(super) struct Sorts {
    sharing: BTreeMap<i64, u32>,
    alone: BTreeMap<i64, u32>,
}

impl Sorts {
    fn of(&mut self, shared: bool) -> &mut BTreeMap<i64, u32> {
        if shared { &mut self.sharing } else { &mut self.alone }
    }

    fn add(&mut self, shared: bool, end: i64) {
        *self.of(shared).entry(end).or_default() += 1;
    }

    fn remove(&mut self, shared: bool, end: i64) {
        let sort = self.of(shared);
        if let Some(count) = sort.get_mut(&end) {
            *count -= 1;
            if *count == 0 {
                sort.remove(&end);
            }
        }
    }
}

impl Cluster {
    /// Whether CPUs of some node may be shared.
    pub(in crate::plan) fn has_layers(&self) -> bool {
        !self.layered.is_empty()
    }

    /// Whether no running job keeps a job of so many layers off a node from an instant on: jobs that share their
    /// CPUs and jobs that do not are never on one node.
    pub(in crate::plan) fn lets_in(&self, node: u32, layers: u32, from: i64) -> bool {
        self.layered.get(&node).is_none_or(|sorts| {
            let others = if layers > 1 { &sorts.alone } else { &sorts.sharing };
            others.last_key_value().is_none_or(|(end, _)| *end <= from)
        })
    }

    /// Notes until when a running job keeps jobs of the other sort off its nodes; `before`: what was noted.
    pub(super) fn sort(&mut self, shares: &[NodeShare], before: Option<i64>, end: Option<i64>) {
        if self.layered.is_empty() {
            return;
        }
        for share in shares {
            let Some(sorts) = self.layered.get_mut(&share.node.0) else { continue };
            if let Some(before) = before {
                sorts.remove(share.shared, before);
            }
            if let Some(end) = end {
                sorts.add(share.shared, end);
            }
        }
    }
}

/// The most jobs that may hold one CPU of a partition's nodes.
pub(super) fn partition_layers(partition: &Partition) -> u32 {
    match partition.definition.oversubscribe {
        OverSubscribe::Yes(jobs) | OverSubscribe::Force(jobs) => jobs.max(1),
        OverSubscribe::No | OverSubscribe::Exclusive => 1,
    }
}

/// Nodes whose CPUs several jobs may hold in some partition, with the most of them.
pub(super) fn layers_of(state: &State) -> BTreeMap<u32, u32> {
    let mut layers = BTreeMap::new();
    for partition in state.partitions.iter().flatten() {
        let jobs = partition_layers(partition);
        for node in partition.nodes.iter().filter(|_| jobs > 1) {
            let most = layers.entry(node.0).or_insert(jobs);
            *most = jobs.max(*most);
        }
    }
    layers
}
