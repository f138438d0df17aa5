//! Which devices of a chosen node: ids instead of counts. They are the lowest free ones; its CPUs are chosen in
//! `cores`.

use std::sync::Arc;

use crate::allocation::{CpuIds, GresShare};
use crate::gpu::inventory::Inventory;
use crate::gpu::policy::Rule;
use crate::gpu::shards::Lanes;
use crate::gpu::slice_set::SliceSet;
use crate::state::node::Node;
use crate::state::promise::PLANNED_KINDS;

use super::demand::{Demand, GresNeed, Share};
use super::fit::{answers, is_cut, needs_of};
use super::pack::{Devices, pick};

/// Ids in use, as bits; what lies beyond the words is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(pub(crate) Vec<u64>);

impl Bits {
    pub(crate) fn is_free(&self, id: u32) -> bool {
        self.0.get((id / u64::BITS) as usize).is_none_or(|word| word & (1 << (id % u64::BITS)) == 0)
    }

    pub(crate) fn take(&mut self, id: u32) {
        let word = (id / u64::BITS) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % u64::BITS);
    }
}

/// What may be given of devices, beside what is held now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// The most of each kind: a type that somebody is promised is not taken where another one will do.
    pub(crate) gres: [u32; PLANNED_KINDS],
    /// Memory slices of dynamic GPUs.
    pub(crate) slices: SliceSet,
    /// How their starts are chosen.
    pub(crate) rule: Option<&'a Rule>,
    /// Shards of each GPU.
    pub(crate) shards: Lanes,
}

/// Devices of a node for `tasks` tasks and the job's own needs (`whole_job`: need and how many here).
/// `None`: they are not free.
pub(crate) fn devices(
    demand: &Demand,
    node: &Node,
    used: &[(u64, Bits)],
    tasks: u32,
    whole_job: &[(&GresNeed, u64)],
    parts: Parts<'_>,
) -> Option<Vec<GresShare>> {
    let definition = node.offer();
    let mut counts = vec![0_u64; definition.gres.len()];
    let mut left: Vec<u64> =
        definition.gres.iter().zip(used).map(|(gres, used)| gres.count.saturating_sub(used.0)).collect();
    left.iter_mut().zip(parts.gres).for_each(|(left, most)| *left = (*left).min(u64::from(most)));
    if let Some(shards) = &node.shards {
        shards.count(parts.shards, demand.dealing, &mut left);
    }
    let free =
        |kind: usize, counts: &[u64]| left[kind].saturating_sub(counts.get(kind).copied().unwrap_or(0));
    if demand.share == Share::Whole {
        counts.copy_from_slice(&left);
    }
    let mut needs: Vec<(&GresNeed, u64)> = needs_of(demand, tasks);
    needs.extend(whole_job.iter().copied());
    if let Some(shards) = node.shards.as_ref().filter(|_| demand.share == Share::Whole) {
        // All GPUs of the node, or its shards: not both.
        let wanted: u64 =
            needs.iter().filter(|(need, _)| &*need.name == "shard").map(|(_, count)| count).sum();
        let gpus = shards.gpus.iter().map(|gpu| gpu.kind);
        gpus.filter(|_| wanted > 0).for_each(|kind| counts[kind] = 0);
        counts[shards.kind] = wanted;
    }
    let mut cuts = Vec::new();
    if needs.iter().any(|(need, _)| is_cut(need)) {
        let inventory = node.inventory.as_deref();
        let Parts { slices, rule, .. } = parts;
        let devices = Devices { offered: definition, counts: &left, inventory, slices, rule };
        let picked = pick(&needs, &devices)?;
        cuts = picked.slices;
        if demand.share != Share::Whole {
            counts = picked.counts;
        }
        needs.clear();
    }
    // Needs with a type first: the others take what is left.
    needs.sort_by_key(|(need, _)| need.kind.is_none());
    if demand.share != Share::Whole {
        for (need, count) in needs {
            let mut left = count;
            for kind in 0..definition.gres.len() {
                let gres = &definition.gres[kind];
                if answers(need, &gres.name, &gres.kind) {
                    let taken = left.min(free(kind, &counts));
                    counts[kind] += taken;
                    left -= taken;
                }
            }
            if left > 0 {
                return None;
            }
        }
    }
    let mut shares = Vec::new();
    for (kind, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let gres = &definition.gres[kind];
        if let Some(shards) = node.shards.as_ref().filter(|shards| shards.kind == kind) {
            shares.push(shards.share(&shards.choose(parts.shards, count, demand.dealing)?));
            continue;
        }
        let mut indices = CpuIds::new();
        if gres.indexed {
            let most = u32::try_from(node.definition.gres[kind].count).unwrap_or(u32::MAX);
            let serves = |index| {
                node.inventory.as_ref().is_none_or(|inventory| inventory.in_service(kind, index))
                    && node.shards.as_ref().is_none_or(|one| one.is_whole(parts.shards, kind, index))
            };
            let lowest = (0..most).filter(|&index| used[kind].1.is_free(index) && serves(index));
            lowest.take(usize::try_from(count).unwrap_or(usize::MAX)).for_each(|index| indices.push(index));
            if u64::from(indices.len()) < count {
                return None;
            }
        }
        let places = |inventory: &Arc<Inventory>| inventory.places(kind, indices.iter());
        let slices = node.inventory.as_ref().map_or_else(Vec::new, places);
        let kind = u32::try_from(kind).expect("a node has few kinds");
        shares.push(GresShare { kind, count, indices, slices });
    }
    for (kind, slice) in cuts {
        match shares.iter_mut().find(|share| share.kind == kind && share.is_cut()) {
            Some(share) => share.slices.push(slice),
            None => shares.push(GresShare { kind, slices: vec![slice], ..GresShare::default() }),
        }
    }
    for share in shares.iter_mut().filter(|share| share.is_cut()) {
        share.slices.sort_by_key(|slice| (slice.gpu, slice.start));
    }
    Some(shares)
}
