//! What nodes offer: nodes that differ in nothing but their names are of one kind, and what the amounts of a request
//! depend on is the same for all of one make.

use std::sync::Arc;

use super::super::profile::{Amount, KINDS};
use crate::gpu::inventory::Inventory;
use crate::gpu::shards::{Dealing, Lanes, Shards};
use crate::gpu::slice_set::SliceSet;
use crate::state::node::{Node, NodeDefinition};

/// Nodes that differ in nothing but their names.
#[derive(Debug)]
pub(in crate::plan) struct Kind {
    /// What such a node offers.
    pub(in crate::plan) definition: Arc<NodeDefinition>,
    /// Its GPUs, where they are observed.
    pub(in crate::plan) inventory: Option<Arc<Inventory>>,
    /// The GPUs of it that jobs may share.
    pub(in crate::plan) shards: Option<Arc<Shards>>,
    /// What is planned with: of CPUs as many as [`Self::layers`] jobs may hold at once.
    pub(in crate::plan) total: Amount,
    /// The most jobs that may hold one CPU of it, in any partition (OverSubscribe).
    pub(in crate::plan) layers: u32,
    /// Place among the makes.
    pub(super) make: u32,
}

impl Kind {
    pub(super) fn of(node: &Node, layers: u32, make: u32) -> Self {
        let inventory = node.inventory.clone();
        let definition = inventory.as_ref().map_or(&node.definition, |one| &one.offered);
        let slices = inventory.as_ref().map_or(SliceSet::EMPTY, |one| one.slices);
        let shards = node.shards.as_ref().map_or(Lanes::default(), |one| one.total());
        let mut total = Amount { slices, shards, ..total(definition) };
        total.cpus = total.cpus.saturating_mul(layers);
        Self {
            definition: Arc::clone(definition),
            inventory,
            shards: node.shards.clone(),
            total,
            layers,
            make,
        }
    }

    /// What is planned of CPUs that a job of so many layers holds: a job that does not share takes all layers.
    pub(in crate::plan) fn planned_cpus(&self, cpus: u32, layers: u32) -> u32 {
        if layers > 1 { cpus } else { cpus.saturating_mul(self.layers) }
    }

    /// The same with counts that know which GPUs are shared.
    pub(in crate::plan) fn without_shared(&self, mut free: Amount, dealing: Dealing) -> Amount {
        if let Some(shards) = &self.shards {
            let mut counts = free.gres.map(u64::from);
            shards.count(free.shards, dealing, &mut counts);
            free.gres = counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        }
        free
    }

    /// What so many whole GPUs and shards take of each GPU. `whole`: the job has the node for itself.
    pub(in crate::plan) fn shards_taken(
        &self,
        free: Lanes,
        gres: &[u32; KINDS],
        whole: bool,
        dealing: Dealing,
    ) -> Lanes {
        let Some(shards) = &self.shards else { return Lanes::default() };
        if whole {
            return shards.total();
        }
        let count = |kind: usize| u64::from(gres.get(kind).copied().unwrap_or(0));
        let parts = shards.choose(free, count(shards.kind), dealing).unwrap_or_default().lanes;
        let mut kinds: Vec<usize> = shards.gpus.iter().map(|gpu| gpu.kind).collect();
        kinds.dedup();
        kinds.into_iter().fold(parts, |all, kind| all.plus(shards.whole(free, kind, count(kind))))
    }

    /// What a job of so many layers could take where so much is planned to be free.
    pub(in crate::plan) fn free_for(&self, free: Amount, layers: u32) -> Amount {
        if self.layers == 1 {
            return free;
        }
        let all = self.definition.cpus.0;
        let cpus = if layers > 1 {
            let barred = self.layers.saturating_sub(layers);
            free.cpus.saturating_sub(all.saturating_mul(barred)).min(all)
        } else {
            free.cpus / self.layers
        };
        Amount { cpus, ..free }
    }
}

fn total(definition: &NodeDefinition) -> Amount {
    let mut gres = [0; KINDS];
    for (count, one) in gres.iter_mut().zip(&definition.gres) {
        *count = u32::try_from(one.count).unwrap_or(u32::MAX);
    }
    Amount { cpus: definition.cpus.0, gres, memory: definition.memory.0, ..Amount::default() }
}

pub(super) fn same_devices(one: &Option<Arc<Inventory>>, other: &Option<Arc<Inventory>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            Arc::ptr_eq(one, other)
                || (one.units == other.units && one.dynamic == other.dynamic && one.slices == other.slices)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

pub(super) fn alike(one: &NodeDefinition, other: &NodeDefinition) -> bool {
    one.weight == other.weight && same_make(one, other) && one.features == other.features
}

/// Whether all that the amounts of a request depend on is the same.
pub(super) fn same_make(one: &NodeDefinition, other: &NodeDefinition) -> bool {
    let make = |node: &NodeDefinition| {
        (node.cpus, node.sockets, node.cores_per_socket, node.threads_per_core, node.memory, node.tmp_disk)
    };
    make(one) == make(other) && one.bind == other.bind && one.gres == other.gres
}
