//! What jobs hold of nodes and licenses: added when an allocation begins, taken away when it ends.

use std::collections::BTreeMap;

use model::quantity::{Cpus, MemoryMib};

use crate::allocation::{CpuIds, GresShare, NodeShare};
use crate::planted::{self, Bug};
use crate::state::Index;
use crate::state::node::{Node, Used};

const BITS: u32 = u64::BITS;

/// Makes the tables of a node as large as its definition asks; never smaller, since jobs may hold more.
pub(super) fn resize(node: &mut Node) {
    let definition = &node.definition;
    let words = if definition.bind { definition.cpus.0.div_ceil(BITS) as usize } else { 0 };
    let used = &mut node.used;
    if used.cpu_bits.len() < words {
        used.cpu_bits.resize(words, 0);
    }
    if used.gres.len() < definition.gres.len() {
        used.gres.resize(definition.gres.len(), 0);
        used.gres_bits.resize(definition.gres.len(), Vec::new());
    }
    for (bits, gres) in used.gres_bits.iter_mut().zip(&definition.gres) {
        let words = if gres.indexed { gres.count.div_ceil(u64::from(BITS)) as usize } else { 0 };
        if bits.len() < words {
            bits.resize(words, 0);
        }
        trim(bits, words);
    }
    trim(&mut used.cpu_bits, words);
}

/// Drops what a node that has become smaller needs no more, as a node that was made so has it; what jobs hold stays.
fn trim(bits: &mut Vec<u64>, words: usize) {
    while bits.len() > words && bits.last() == Some(&0) {
        bits.pop();
    }
}

fn set(bits: &mut Vec<u64>, ids: &CpuIds, on: bool) {
    for id in ids.iter() {
        let (word, bit) = ((id / BITS) as usize, 1_u64 << (id % BITS));
        if word >= bits.len() {
            bits.resize(word + 1, 0);
        }
        assert_eq!(bits[word] & bit == 0, on, "a CPU or device has one holder");
        bits[word] ^= bit;
    }
}

/// Adds a holder to CPUs that several may hold, or takes one away: a CPU's holders fill the layers from below.
fn set_layered(used: &mut Used, ids: &CpuIds, add: bool) {
    let has = |bits: &Vec<u64>, word: usize, bit: u64| bits.get(word).is_some_and(|word| word & bit != 0);
    for id in ids.iter() {
        let (word, bit) = ((id / BITS) as usize, 1_u64 << (id % BITS));
        let above = used.cpu_layers.iter().filter(|bits| has(bits, word, bit)).count();
        let bits = match (has(&used.cpu_bits, word, bit), above, add) {
            (false, _, true) | (true, 0, false) => &mut used.cpu_bits,
            (true, above, true) => {
                if above == used.cpu_layers.len() {
                    used.cpu_layers.push(Vec::new());
                }
                &mut used.cpu_layers[above]
            }
            (true, above, false) => &mut used.cpu_layers[above - 1],
            (false, _, false) => panic!("a CPU that is given back has a holder"),
        };
        if word >= bits.len() {
            bits.resize(word + 1, 0);
        }
        bits[word] ^= bit;
    }
    // The same holders make the same layers, in whatever order they came.
    for bits in &mut used.cpu_layers {
        while bits.last() == Some(&0) {
            bits.pop();
        }
    }
    while used.cpu_layers.last().is_some_and(Vec::is_empty) {
        used.cpu_layers.pop();
    }
}

/// Notes slices that were made for a job, or forgets them.
fn cut(used: &mut Used, gres: &GresShare, add: bool) {
    for slice in &gres.slices {
        let key = (slice.gpu, slice.start);
        if add {
            let overlaps = used.cuts.values().any(|other| other.bits().meets(slice.bits()));
            assert!(!overlaps && !slice.bits().is_empty(), "a memory slice of a GPU has one holder");
            used.cuts.insert(key, slice.clone());
        } else {
            assert_eq!(used.cuts.remove(&key).as_ref(), Some(slice), "a slice is given back by its holder");
        }
    }
}

/// Counts the shards that a job has of each GPU, or gives them back.
fn share_gpu(held: &mut BTreeMap<u32, u64>, gres: &GresShare, add: bool) {
    for slice in &gres.slices {
        let count = held.entry(slice.gpu).or_default();
        let size = u64::from(slice.size);
        *count = if add { *count + size } else { *count - size };
        if *count == 0 {
            held.remove(&slice.gpu);
        }
    }
}

/// The share as a planted bug counts it; `None`: as it is.
fn counted(share: &NodeShare) -> Option<NodeShare> {
    if !planted::is(Bug::CountCpuLess) || share.cpus.0 < 2 {
        return None;
    }
    let ids: Vec<(u32, u32)> = share.cpu_ids.iter().skip(1).map(|id| (id, id)).collect();
    let cpu_ids = CpuIds::from_ranges(ids);
    Some(NodeShare { cpus: Cpus(share.cpus.0 - 1), cpu_ids, ..share.clone() })
}

/// Adds one share to what is held of its node, or takes it away.
pub(super) fn change(used: &mut Used, share: &NodeShare, add: bool) {
    let count = |used: &mut Cpus, amount| if add { *used += amount } else { *used -= amount };
    let memory = |used: &mut MemoryMib, amount| if add { *used += amount } else { *used -= amount };
    let counted = counted(share);
    let share = counted.as_ref().unwrap_or(share);
    count(&mut used.cpus, share.cpus);
    memory(&mut used.memory, share.memory);
    if share.shared {
        set_layered(used, &share.cpu_ids, add);
        used.sharing = if add { used.sharing + 1 } else { used.sharing - 1 };
    } else {
        set(&mut used.cpu_bits, &share.cpu_ids, add);
    }
    for gres in &share.gres {
        let kind = gres.kind as usize;
        let held = &mut used.gres[kind];
        *held = if add { *held + gres.count } else { *held - gres.count };
        if !add && planted::is(Bug::FreeGresTwice) {
            *held = held.saturating_sub(gres.count);
        }
        set(&mut used.gres_bits[kind], &gres.indices, add);
        if gres.is_cut() {
            cut(used, gres, add);
        }
        if gres.is_shards() {
            share_gpu(&mut used.shards, gres, add);
        }
    }
    used.jobs = if add { used.jobs + 1 } else { used.jobs - 1 };
}

/// Adds licenses in use, or takes them away.
pub(super) fn change_licenses(index: &mut Index, text: Option<&str>, add: bool) {
    for (name, amount) in crate::licenses::parse(text.unwrap_or_default()) {
        let used = index.licenses_used.entry(name.into()).or_default();
        *used = if add { *used + amount } else { *used - amount };
        if *used == 0 {
            index.licenses_used.remove(name);
        }
    }
}
