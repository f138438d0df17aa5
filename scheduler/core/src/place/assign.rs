//! Which CPUs and which devices of a chosen node: ids instead of counts.
//!
//! CPUs go to the sockets in turn (Slurm's default block:cyclic), lowest free core first, or socket by
//! socket where `--distribution` says so. Devices are the lowest free ones.

use std::sync::Arc;

use crate::allocation::{CpuIds, GresShare};
use crate::gpu::inventory::Inventory;
use crate::gpu::policy::Rule;
use crate::gpu::shards::Lanes;
use crate::gpu::slice_set::SliceSet;
use crate::state::node::{Node, NodeDefinition};
use crate::state::promise::PLANNED_KINDS;

use super::demand::{Demand, GresNeed, Share};
use super::fit::{answers, cpu_unit, is_cut, needs_of};
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

/// Ids of `count` free CPUs of the node; `None` if there are fewer whole free units.
///
/// Nodes whose CPUs are only counted answer the empty set. Cost: O(CPUs of the node).
pub(crate) fn cpu_ids(
    demand: &Demand,
    whole_cores: bool,
    node: &NodeDefinition,
    used: &Bits,
    count: u32,
) -> Option<CpuIds> {
    if !node.bind {
        return Some(CpuIds::new());
    }
    let unit = cpu_unit(whole_cores, node);
    let wanted = count.div_ceil(unit);
    let mut sockets = free_on_sockets(whole_cores, node, used);
    if demand.is_by_socket() && demand.share != Share::Whole {
        keep_to_sockets(demand, node, unit, &mut sockets);
    }
    let mut picked = if demand.block { in_blocks(sockets, wanted) } else { in_turn(sockets, wanted) };
    if picked.len() < wanted as usize {
        return None;
    }
    picked.sort_unstable();
    Some(CpuIds::from_ranges(picked.iter().map(|&core| (core * unit, core * unit + unit - 1)).collect()))
}

/// Free units of each socket, in descending order. Where CPUs are the unit, a socket has as many of them as
/// it has threads.
fn free_on_sockets(whole_cores: bool, node: &NodeDefinition, used: &Bits) -> Vec<Vec<u32>> {
    let unit = cpu_unit(whole_cores, node);
    let units = node.cpus.0 / unit;
    let is_free = |core: &u32| (0..unit).all(|thread| used.is_free(core * unit + thread));
    let per_socket = units.div_ceil(node.sockets.max(1)).max(1);
    let all: Vec<u32> = (0..units).collect();
    let sockets = all.chunks(per_socket as usize);
    sockets.map(|socket| socket.iter().copied().filter(is_free).rev().collect()).collect()
}

/// How many units of each socket are free; empty where CPUs are only counted.
pub(crate) fn free_units(whole_cores: bool, node: &NodeDefinition, used: &Bits) -> Vec<u32> {
    if !node.bind {
        return Vec::new();
    }
    let count = |units: &Vec<u32>| u32::try_from(units.len()).expect("a socket has few units");
    free_on_sockets(whole_cores, node, used).iter().map(count).collect()
}

/// Leaves of each socket what `--cores-per-socket` and `--ntasks-per-socket` allow to take.
fn keep_to_sockets(demand: &Demand, node: &NodeDefinition, unit: u32, sockets: &mut [Vec<u32>]) {
    let threads = node.threads_per_core.max(1);
    let least = demand.shape[1].max(1).saturating_mul(threads).div_ceil(unit);
    let each = demand.cpus_per_task.saturating_mul(if demand.one_thread { threads } else { 1 });
    let most = demand.tasks_per_socket.saturating_mul(each).div_ceil(unit);
    for socket in sockets {
        if socket.len() < least as usize {
            socket.clear();
        }
        // The lowest stand last and are taken first.
        let surplus = socket.len().saturating_sub(most as usize);
        socket.drain(..surplus);
    }
}

/// One unit of each socket after the other. Each socket's free units stand in descending order.
fn in_turn(mut sockets: Vec<Vec<u32>>, wanted: u32) -> Vec<u32> {
    let mut picked = Vec::with_capacity(wanted as usize);
    while picked.len() < wanted as usize && sockets.iter().any(|socket| !socket.is_empty()) {
        for socket in &mut sockets {
            if picked.len() < wanted as usize {
                picked.extend(socket.pop());
            }
        }
    }
    picked
}

fn in_blocks(sockets: Vec<Vec<u32>>, wanted: u32) -> Vec<u32> {
    sockets.into_iter().flat_map(|socket| socket.into_iter().rev()).take(wanted as usize).collect()
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
