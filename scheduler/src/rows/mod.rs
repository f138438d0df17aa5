//! `State` → the rows that queries send. Pure: reads a state and what the planner last said, decides nothing.
//!
//! Rows carry facts in typed fields; how they are printed is the client's. What Slurm derives at display
//! time (node states, TRES texts, counts of a waiting job) is derived here, in one place.

pub mod accounts;
pub mod gpu;
pub mod job;
pub mod node;
pub mod partition;
pub mod reservation;
pub mod shape;
pub mod step;
pub mod tres;

use model::hostlist;
use model::id::NodeIdx;
use proto::v1;
use scheduler_core::allocation::{GresShare, NodeShare, Slice};
use scheduler_core::state::State;
use scheduler_core::state::node::{GresDefinition, Node};
use std::collections::BTreeMap;

/// Names of the nodes of an allocation, compressed. Cost: O(n log n).
#[must_use]
pub fn node_list(state: &State, allocation: &[NodeShare]) -> String {
    let names: Vec<&str> = allocation.iter().map(|share| node_name(state, share.node)).collect();
    hostlist::compress_sorted(&names)
}

/// Name of a node.
#[must_use]
pub fn node_name(state: &State, node: NodeIdx) -> &str {
    &state.node(node).definition.name
}

/// What is held on each node.
#[must_use]
pub fn allocation(state: &State, shares: &[NodeShare]) -> Vec<v1::NodeAllocation> {
    shares.iter().map(|share| node_allocation(state, share)).collect()
}

/// What is held on one node.
#[must_use]
pub fn node_allocation(state: &State, share: &NodeShare) -> v1::NodeAllocation {
    let node = state.node(share.node);
    v1::NodeAllocation {
        node: node.definition.name.to_string(),
        cpus: share.cpus.0,
        cpu_ranges: share.cpu_ids.ranges().iter().flat_map(|&(first, last)| [first, last]).collect(),
        memory_mib: share.memory.0,
        gres: share.gres.iter().flat_map(|held| gres_allocations(node, held)).collect(),
        tasks: share.tasks,
    }
}

fn slice(held: &Slice) -> v1::Slice {
    v1::Slice {
        gpu: held.gpu,
        profile: held.profile.to_string(),
        start: u32::from(held.start),
        size: u32::from(held.size),
    }
}

/// The number of a kind's first device: Slurm numbers the devices of a name over all its types.
pub(super) fn devices_before(kinds: &[GresDefinition], place: usize) -> u32 {
    let before = kinds[..place].iter().filter(|other| other.name == kinds[place].name && other.indexed);
    u32::try_from(before.map(|other| other.count).sum::<u64>()).unwrap_or(0)
}

/// One for a kind, and one for each profile of slices that were made; these have the indices of their GPUs.
fn gres_allocations(node: &Node, held: &GresShare) -> Vec<v1::GresAllocation> {
    let Some(kind) = node.definition.gres.get(held.kind as usize) else { return Vec::new() };
    if held.is_cut() {
        let mut profiles: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        held.slices.iter().for_each(|slice| profiles.entry(&slice.profile).or_default().push(slice));
        let of = |(profile, slices): (&str, Vec<&Slice>)| {
            let mut indices: Vec<u32> = slices.iter().map(|slice| slice.gpu).collect();
            indices.dedup();
            v1::GresAllocation {
                name: kind.name.to_string(),
                r#type: profile.to_owned(),
                count: slices.len() as u64,
                indices,
                slices: slices.into_iter().map(slice).collect(),
                spread: String::new(),
            }
        };
        return profiles.into_iter().map(of).collect();
    }
    if let Some(shards) = node.shards.as_ref().filter(|_| held.is_shards()) {
        return vec![v1::GresAllocation {
            name: kind.name.to_string(),
            r#type: kind.kind.to_string(),
            count: held.count,
            indices: held.slices.iter().map(|slice| slice.gpu).collect(),
            slices: held.slices.iter().map(slice).collect(),
            spread: tres::spread(shards, |gpu| {
                let of_gpu = held.slices.iter().filter(|slice| slice.gpu == gpu.index);
                Some(of_gpu.map(|slice| u64::from(slice.size)).sum())
            }),
        }];
    }
    let before = devices_before(&node.definition.gres, held.kind as usize);
    vec![v1::GresAllocation {
        name: kind.name.to_string(),
        r#type: kind.kind.to_string(),
        count: held.count,
        indices: held.indices.iter().map(|index| index.saturating_add(before)).collect(),
        slices: held.slices.iter().map(slice).collect(),
        spread: String::new(),
    }]
}
