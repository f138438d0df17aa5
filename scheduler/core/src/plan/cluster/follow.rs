//! Nodes that come and go, and partitions that change, without reading all nodes again.
//!
//! Owns which changes can be followed: a node that stays of its kind only enters or leaves lists. Where which node a
//! request may have is no matter of lists (pools, reservations, CPUs that several may hold), everything is read anew.

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};

use super::kind::{alike, same_devices};
use super::layer::partition_layers;
use super::{Cluster, List};
use crate::state::State;

/// What of a node is as the planner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Same {
    /// All of it.
    All,
    /// What it offers: it takes jobs now, or no more.
    Kind,
    /// Not even that, or that is not enough.
    Nothing,
}

impl Cluster {
    /// How a node of the state differs from what is known of it.
    pub(in crate::plan) fn same_node(&self, state: &State, node: NodeIdx) -> Same {
        let (place, now) = (node.0 as usize, state.node(node));
        if self.pool {
            let first = &self.kinds[0];
            let unit = now.inventory.is_none() && now.is_available();
            return if unit
                && alike(&first.definition, &now.definition)
                && self.pool_nodes == state.nodes.len()
            {
                Same::All
            } else {
                Same::Nothing
            };
        }
        let Some(&kind) = self.kind_of.get(place) else { return Same::Nothing };
        let kind = &self.kinds[kind as usize];
        if !alike(&kind.definition, now.offer()) || !same_devices(&kind.inventory, &now.inventory) {
            return Same::Nothing;
        }
        match (self.available[place] == now.is_available(), self.is_plain(state)) {
            (true, _) => Same::All,
            (false, true) => Same::Kind,
            (false, false) => Same::Nothing,
        }
    }

    /// Whether which nodes a request may have follows from lists alone.
    pub(in crate::plan) fn is_plain(&self, state: &State) -> bool {
        let alone = |partition: &crate::state::partition::Partition| partition_layers(partition) == 1;
        !self.pool
            && !self.is_reserved()
            && !self.has_layers()
            // What GPUs a class may cut is made of its list.
            && self.cuts.is_none()
            && state.partitions.iter().flatten().all(alone)
    }

    /// A node takes jobs now, or no more; answers the lists that it entered or left.
    pub(in crate::plan) fn set_available(&mut self, state: &State, node: NodeIdx) -> Vec<u32> {
        let (id, available) = (node.0, state.node(node).is_available());
        self.available[id as usize] = available;
        for (place, partition) in state.partitions.iter().enumerate() {
            let has = partition.as_ref().is_some_and(|one| one.nodes.binary_search(&node).is_ok());
            if has && let Some(preferred) = self.preferred.get_mut(place) {
                *preferred = None;
            }
        }
        let kind = self.kind_of[id as usize] as usize;
        let rank = |other: u32| (self.kinds[self.kind_of[other as usize] as usize].definition.weight, other);
        let mut changed = Vec::new();
        for (number, list) in (0..).zip(&mut self.lists) {
            let partition = state.partition(list.of.0);
            let wanted = partition.is_some_and(|one| one.nodes.binary_search(&node).is_ok())
                && list.of.1.get(kind).copied().unwrap_or(false)
                && list.excluded.binary_search(&node).is_err();
            if !wanted || list.has(id) == available {
                continue;
            }
            let mut nodes = list.nodes.to_vec();
            let place = nodes.partition_point(|other| rank(*other) < rank(id));
            if available {
                nodes.insert(place, id);
            } else {
                nodes.remove(place);
            }
            list.nodes = Arc::from(nodes);
            list.members[id as usize / 64] ^= 1 << (id % 64);
            list.made = (0, 0);
            changed.push(number);
        }
        self.gave += 1;
        self.raise();
        self.touch(id);
        changed
    }

    /// Partitions are others now: lists of them are made anew for whoever asks.
    pub(in crate::plan) fn forget_partitions(&mut self, partitions: &[PartitionIdx]) {
        for partition in partitions {
            self.preferred[partition.0 as usize] = None;
            self.partition_cpus[partition.0 as usize] = None;
        }
        self.list_by_kinds.retain(|(partition, _), _| !partitions.contains(partition));
    }
}

impl List {
    fn has(&self, node: u32) -> bool {
        self.members[node as usize / 64] >> (node % 64) & 1 == 1
    }
}
