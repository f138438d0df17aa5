//! Placement: which nodes, CPUs, memory and devices a job gets, now or on an empty machine.
//!
//! Owns the meaning of a request for nodes. Decides nothing about order or time: `plan` asks. Reads
//! [`State`] or a working copy of what is free ([`Board`]); changes nothing.

pub(crate) mod assign;
pub(crate) mod choose;
pub(crate) mod cores;
pub(crate) mod demand;
pub(crate) mod feature;
pub(crate) mod fit;
pub(crate) mod kept;
mod near;
pub(crate) mod topology;

pub(crate) mod pack;

pub(crate) mod alike;
mod board;
pub(crate) mod ever;

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx, Uid};
use model::quantity::{Cpus, MemoryMib};

use crate::allocation::{Allocation, NodeShare};
use crate::gpu::inventory::Offer;
use crate::input::PlannedStart;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;
use crate::state::node::Node;
use crate::state::partition::Partition;

pub(crate) use board::{Ahead, Board, candidate as candidate_on};
use choose::{Candidate, Chosen};
use demand::{Demand, GresNeed};
pub use ever::could_ever_run;
use feature::{Constraint, Expression};
pub use kept::kept_cores_text;
pub use near::sockets_near;

/// Where the job would start now, on what no job holds; `None`: nowhere in this partition.
///
/// Partition limits, holds and priorities are not looked at. Cost: O(nodes of the partition).
#[must_use]
pub fn place(state: &State, settings: &Settings, job: &Job, partition: PartitionIdx) -> Option<Allocation> {
    let definition = state.partition(partition)?;
    let demand = Demand::of(state, settings, job, definition)?;
    place_demand(&Board::of(state), state, settings, definition, &demand, job.owner.uid)
}

/// Where the job would start in the partition if no other job were there.
///
/// Cost: O(nodes of the partition).
#[must_use]
pub fn place_on_empty(
    state: &State,
    settings: &Settings,
    job: &Job,
    partition: PartitionIdx,
) -> Option<Allocation> {
    let definition = state.partition(partition)?;
    let demand = Demand::of(state, settings, job, definition)?;
    place_demand(&Board::empty(), state, settings, definition, &demand, job.owner.uid)
}

/// Whether a proposal still fits: its nodes are there and nothing of it is held by another job.
///
/// Cost: O(CPUs and devices of the proposal).
#[must_use]
pub fn recheck(state: &State, settings: &Settings, job: &Job, start: &PlannedStart) -> bool {
    let Some(partition) = state.partition(start.partition) else { return false };
    if !job.partitions.contains(&start.partition) || start.allocation.is_empty() {
        return false;
    }
    let whole = demand::is_whole(job, partition);
    let layers = demand::layers(job, partition);
    start.allocation.iter().all(|share| {
        let Some(node) = state.nodes.get(share.node.0 as usize) else { return false };
        let definition = &node.definition;
        let used = board::Layers::of(&node.used);
        let (cpus, alone) = (u64::from(definition.cpus.0), layers == 1);
        let held = u64::from(node.used.cpus.0) + u64::from(share.cpus.0);
        let cpus_free = held <= cpus * u64::from(layers)
            && share.cpus <= definition.cpus
            && share.shared != alone
            && (if alone { node.used.sharing == 0 } else { node.used.sharing == node.used.jobs });
        let gres_free = cuts_hold(node, share)
            && shards_hold(node, share)
            && share.gres.iter().all(|gres| {
                let kind = gres.kind as usize;
                let (Some(held), Some(has)) = (node.used.gres.get(kind), node.offer().gres.get(kind)) else {
                    return false;
                };
                let serves =
                    |index| node.inventory.as_ref().is_none_or(|inventory| inventory.in_service(kind, index));
                let bits =
                    node.used.gres_bits.get(kind).cloned().map_or_else(assign::Bits::default, assign::Bits);
                held + gres.count <= has.count
                    && gres.indices.iter().all(|index| bits.is_free(index) && serves(index))
            });
        node.is_available()
            && partition.nodes.binary_search(&share.node).is_ok()
            && cpus_free
            && (!settings.track_memory || share.memory <= node.free_memory())
            && (!whole || node.used.jobs == 0)
            && share.cpu_ids.iter().all(|id| used.below(layers).is_free(id))
            && gres_free
            && (whole || kept::Kept::of(settings, node).is_none_or(|kept| kept.leaves(share)))
    })
}

/// Whether the slices of a proposal can be made: legal on dynamic GPUs in service, free, apart from each other.
fn cuts_hold(node: &Node, share: &NodeShare) -> bool {
    let mut free = node.free_slices();
    share.gres.iter().filter(|gres| gres.is_cut()).all(|gres| {
        gres.slices.iter().all(|slice| {
            let gpus = node.inventory.iter().flat_map(|inventory| &inventory.dynamic);
            let offers = gpus
                .filter(|gpu| gpu.index == slice.gpu && gpu.kind == gres.kind)
                .flat_map(|gpu| &gpu.offers);
            let legal = |offer: &Offer| {
                offer.name == slice.profile
                    && offer.size == slice.size
                    && offer.starts >> slice.start & 1 == 1
            };
            let fits = slice.start < 8 && offers.into_iter().any(legal) && free.covers(slice.bits());
            free = free & !slice.bits();
            fits
        })
    })
}

/// Whether the shards of a proposal are free, and no GPU that it has whole is shared.
fn shards_hold(node: &Node, share: &NodeShare) -> bool {
    let named = |index: u32| {
        node.shards.iter().any(|one| one.gpus.iter().any(|gpu| gpu.index == index && gpu.shares))
    };
    share.gres.iter().filter(|gres| gres.is_shards()).all(|gres| {
        let sum: u64 = gres.slices.iter().map(|slice| u64::from(slice.size)).sum();
        sum == gres.count && gres.slices.iter().all(|slice| named(slice.gpu))
    }) && node.shards.as_ref().is_none_or(|one| node.free_shards().covers(one.held(&share.gres)))
}

/// Places a demand on a board.
pub(crate) fn place_demand(
    board: &Board,
    state: &State,
    settings: &Settings,
    partition: &Partition,
    demand: &Demand,
    owner: Uid,
) -> Option<Allocation> {
    let chosen = choose_nodes(state, settings, partition, demand, |node| {
        board.candidate(state, settings, demand, owner, node)
    })?;
    let shares = chosen.iter().map(|one| board.share(state, settings, demand, one, Ahead::ALL));
    let mut shares: Vec<NodeShare> = shares.collect::<Option<_>>()?;
    shares.sort_by_key(|share| share.node);
    Some(shares.into())
}

/// Chooses nodes of the partition for a demand; `room` says what a node can take (`None`: nothing).
pub(crate) fn choose_nodes(
    state: &State,
    settings: &Settings,
    partition: &Partition,
    demand: &Demand,
    room: impl Fn(NodeIdx) -> Option<Candidate>,
) -> Option<Vec<Chosen>> {
    choose_among(state, settings, partition, &partition.nodes, demand, room)
}

/// The same among some nodes of a partition, ascending.
fn choose_among(
    state: &State,
    settings: &Settings,
    partition: &Partition,
    nodes: &[NodeIdx],
    demand: &Demand,
    room: impl Fn(NodeIdx) -> Option<Candidate>,
) -> Option<Vec<Chosen>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for &node in nodes {
        if demand.excluded.binary_search(&node).is_err() {
            candidates.extend(room(node));
        }
    }
    let required = candidates.iter().filter(|candidate| candidate.required).count();
    if required < demand.required.len() {
        return None;
    }
    let least_loaded = settings.least_loaded || partition.is_least_loaded();
    // Stable: the order of the configuration stays within a weight.
    candidates.sort_by_key(|candidate| {
        let busy = if least_loaded { candidate.load } else { 0 };
        (state.node(candidate.node).definition.weight, busy)
    });
    prefer_by_rule(state, least_loaded, &mut candidates);
    let choose = |demand: &Demand, list: &[Candidate]| topology::choose(state, settings, demand, list);
    let having = |expression: &Expression| -> Vec<Candidate> {
        let has =
            |candidate: &&Candidate| expression.matches(&state.node(candidate.node).definition.features);
        candidates.iter().filter(has).cloned().collect()
    };
    let whole = |list: &[Candidate]| {
        let required = list.iter().filter(|candidate| candidate.required).count();
        if required < demand.required.len() { None } else { choose(demand, list) }
    };
    match &demand.constraint {
        None => choose(demand, &candidates),
        Some(Constraint::Each(expression)) => whole(&having(expression)),
        Some(Constraint::Same(alternatives)) => alternatives.iter().find_map(|one| whole(&having(one))),
        Some(Constraint::Counts(shares)) => {
            let mut wanted = 0;
            for share in shares {
                wanted += share.nodes;
                let mut left = share.nodes;
                for candidate in &mut candidates {
                    let features = &state.node(candidate.node).definition.features;
                    if left > 0 && !candidate.required && share.expression.matches(features) {
                        candidate.required = true;
                        left -= 1;
                    }
                }
                if left > 0 {
                    return None;
                }
            }
            let demand = demand.with(|rest| {
                rest.min_nodes = rest.min_nodes.max(wanted);
                rest.max_nodes = rest.max_nodes.max(wanted);
                rest.tasks = rest.tasks.max(if rest.tasks_given { 0 } else { wanted });
            });
            choose(&demand, &candidates)
        }
    }
}

/// Of the nodes that are preferred alike the one whose GPU the rule would cut comes first.
fn prefer_by_rule(state: &State, by_load: bool, candidates: &mut [Candidate]) {
    let Some(rule) = state.slices.rule() else { return };
    let rank = |candidate: &Candidate| {
        let node = state.node(candidate.node);
        (node.definition.weight, if by_load { candidate.load } else { 0 })
    };
    let Some(first) = candidates.first() else { return };
    let (Some((class, _)), best) = (first.state, rank(first)) else { return };
    let alike = candidates.iter().take_while(|one| rank(one) == best);
    let states: Vec<_> = alike
        .map_while(|one| one.state.filter(|(other, _)| *other == class))
        .map(|(_, taken)| taken)
        .collect();
    if let Some((winner, _)) = rule.choose_of_many(&states, class) {
        candidates[..=winner].rotate_right(1);
    }
}

/// The whole-job needs of a demand with what is taken of each on one node.
fn whole_job<'a>(demand: &'a Demand, chosen: &Chosen) -> Vec<(&'a GresNeed, u64)> {
    demand.gres_per_job.iter().zip(chosen.devices.iter().copied()).collect()
}

/// An allocation of one share, for tests and models.
#[must_use]
pub fn single(node: NodeIdx, cpus: u32) -> Allocation {
    Arc::new([NodeShare {
        node,
        cpus: Cpus(cpus),
        cpu_ids: crate::allocation::CpuIds::new(),
        memory: MemoryMib::ZERO,
        gres: Vec::new(),
        tasks: cpus,
        shared: false,
    }])
}
