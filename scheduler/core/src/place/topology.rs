//! Nodes of one job near each other: under one switch of a tree, or in blocks.
//!
//! A job of several nodes gets the lowest switch under which it fits, of those the one with the fewest nodes
//! left over (best fit), and within it as few leaf switches as can be: the smallest leaf that holds the
//! rest, else the largest. Blocks: the smallest aggregate of blocks that the job fits in, and of those the
//! one with the fewest nodes left over. Source: the topology guide; topology/tree and topology/block.

use std::collections::BTreeMap;

use model::config::topology::{Plugin, Topology};

use super::choose::{self, Candidate, Chosen};
use super::demand::Demand;
use crate::settings::Settings;
use crate::state::State;

/// Chooses among candidates in order of preference, by the topology where there is one.
///
/// Cost: that of [`choose::choose`] times the number of switches or aggregates tried.
pub(crate) fn choose(
    state: &State,
    settings: &Settings,
    demand: &Demand,
    candidates: &[Candidate],
) -> Option<Vec<Chosen>> {
    let Some(topology) = settings.topology.as_deref().filter(|one| concerns(one, demand)) else {
        return choose::choose(demand, candidates);
    };
    if demand.min_nodes <= 1 {
        // One node that holds it all is nearest to itself.
        let single = demand.with(|rest| rest.max_nodes = 1);
        let found = choose::choose(&single, candidates);
        if found.is_some() || demand.max_nodes == 1 {
            return found;
        }
    }
    let ways: Vec<&str> = candidates
        .iter()
        .map(|one| topology.ways.get(&state.node(one.node).definition.name).map_or("", |way| way))
        .collect();
    match topology.plugin {
        Plugin::Tree => tree(demand, candidates, &ways),
        Plugin::Block => blocks(topology, demand, candidates, &ways),
    }
}

/// Whether the topology places such a demand.
fn concerns(topology: &Topology, demand: &Demand) -> bool {
    !topology.optional || demand.switches.is_some()
}

/// Whether the choice of nodes for a demand depends on more than one node at a time.
pub(crate) fn binds(settings: &Settings, demand: &Demand) -> bool {
    demand.max_nodes > 1 && settings.topology.as_deref().is_some_and(|topology| concerns(topology, demand))
}

fn tree(demand: &Demand, candidates: &[Candidate], ways: &[&str]) -> Option<Vec<Chosen>> {
    // Every switch on the way to a candidate, with the candidates below it in order of preference.
    let mut switches: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, way) in ways.iter().enumerate().filter(|(_, way)| !way.is_empty()) {
        for (at, _) in way.match_indices('.').chain([(way.len(), "")]) {
            switches.entry(&way[..at]).or_default().push(place);
        }
    }
    let mut order: Vec<(&str, Vec<usize>)> = switches.into_iter().collect();
    let depth = |name: &str| name.matches('.').count();
    order.sort_by_key(|(name, members)| (std::cmp::Reverse(depth(name)), members.len(), members[0]));
    for (_, members) in order {
        let sorted = by_leaf(demand, &members, ways);
        let found = choose::choose(demand, &pick(candidates, &sorted)).filter(|found| {
            let leaf = |one: &Chosen| {
                let place = candidates.iter().position(|candidate| candidate.node == one.node);
                place.map_or("", |place| ways[place])
            };
            let mut leaves: Vec<&str> = found.iter().map(leaf).collect();
            leaves.sort_unstable();
            leaves.dedup();
            demand.switches.is_none_or(|most| leaves.len() <= most as usize)
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

fn pick(candidates: &[Candidate], places: &[usize]) -> Vec<Candidate> {
    let all_required = candidates.iter().filter(|candidate| candidate.required).count();
    let picked: Vec<Candidate> = places.iter().map(|&place| candidates[place].clone()).collect();
    if picked.iter().filter(|candidate| candidate.required).count() < all_required {
        // A required node is elsewhere: nothing here will do.
        return Vec::new();
    }
    picked
}

/// Members by leaf: the smallest leaf that holds what is still wanted, else the largest, and so on.
fn by_leaf(demand: &Demand, members: &[usize], ways: &[&str]) -> Vec<usize> {
    let mut leaves: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &place in members {
        leaves.entry(ways[place]).or_default().push(place);
    }
    let mut leaves: Vec<Vec<usize>> = leaves.into_values().collect();
    let mut wanted = demand.min_nodes as usize;
    let mut sorted = Vec::with_capacity(members.len());
    while !leaves.is_empty() {
        let holds = |leaf: &&Vec<usize>| wanted > 0 && leaf.len() >= wanted;
        let best = match leaves.iter().filter(holds).map(Vec::len).min() {
            Some(least) => leaves.iter().position(|leaf| leaf.len() == least),
            None => {
                let most = leaves.iter().map(Vec::len).max();
                leaves.iter().position(|leaf| Some(leaf.len()) == most)
            }
        };
        let leaf = leaves.remove(best.expect("some leaf is left"));
        wanted = wanted.saturating_sub(leaf.len());
        sorted.extend(leaf);
    }
    sorted
}

fn blocks(
    topology: &Topology,
    demand: &Demand,
    candidates: &[Candidate],
    ways: &[&str],
) -> Option<Vec<Chosen>> {
    let number: BTreeMap<&str, u32> = topology.units.iter().map(|unit| &*unit.name).zip(0..).collect();
    if let Some(size) = demand.segment {
        return segments(demand, candidates, ways, &number, size);
    }
    let base = topology.block_sizes.first().copied().unwrap_or(1).max(1);
    for &size in &topology.block_sizes {
        if demand.min_nodes > size {
            continue;
        }
        // So many blocks that follow each other in the file make an aggregate.
        let mut aggregates: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, way) in ways.iter().enumerate() {
            if let Some(block) = number.get(way) {
                aggregates.entry(block / (size / base)).or_default().push(place);
            }
        }
        let mut order: Vec<Vec<usize>> = aggregates.into_values().collect();
        order.sort_by_key(|members| (members.len(), members[0]));
        for members in order {
            let sorted = by_leaf(demand, &members, ways);
            let found = choose::choose(demand, &pick(candidates, &sorted));
            if found.is_some() {
                return found;
            }
        }
    }
    // More nodes than the largest aggregate: whole blocks one after the other.
    let largest = topology.block_sizes.last().copied().unwrap_or(1);
    let named: Vec<usize> = (0..ways.len()).filter(|&place| number.contains_key(ways[place])).collect();
    let spans = demand.max_nodes > largest;
    spans.then(|| choose::choose(demand, &pick(candidates, &by_leaf(demand, &named, ways)))).flatten()
}

/// `--segment`: whole segments of `size` nodes, each within one block; blocks that are filled best come first.
///
/// The number of nodes must be a multiple of the segment. Source: `man sbatch`, the topology guide.
fn segments(
    demand: &Demand,
    candidates: &[Candidate],
    ways: &[&str],
    number: &BTreeMap<&str, u32>,
    size: u32,
) -> Option<Vec<Chosen>> {
    if !demand.min_nodes.is_multiple_of(size) {
        return None;
    }
    let size = size as usize;
    let mut blocks: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, way) in ways.iter().enumerate() {
        if let Some(block) = number.get(way) {
            blocks.entry(*block).or_default().push(place);
        }
    }
    let mut order: Vec<Vec<usize>> = blocks.into_values().filter(|members| members.len() >= size).collect();
    order.sort_by_key(|members| (members.len() % size, members.len(), members[0]));
    let mut picked = Vec::new();
    let mut wanted = demand.min_nodes as usize / size;
    for members in &order {
        let whole = (members.len() / size).min(wanted);
        picked.extend(&members[..whole * size]);
        wanted -= whole;
    }
    if wanted > 0 {
        return None;
    }
    let exact = demand.with(|rest| rest.max_nodes = rest.min_nodes);
    choose::choose(&exact, &pick(candidates, &picked)).filter(|found| found.len() == picked.len())
}
