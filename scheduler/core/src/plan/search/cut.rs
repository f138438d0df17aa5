//! Where and when one slice of a GPU fits the plan.
//!
//! The same answers as the search of any demand gives, by the index over GPUs and by bounds instead of a look at each
//! node at each instant. Owns no state.

use model::id::NodeIdx;

use super::taken;
use crate::gpu::geometry::Occupancy;
use crate::place::choose::Chosen;
use crate::plan::cluster::Cluster;
use crate::plan::holds::Holds;
use crate::plan::profile::{Amount, Earliest};
use crate::plan::shape::{Class, Cut};
use crate::settings::Settings;
use crate::state::State;

/// The node that takes the slice for `[now, end)`; `None`: none does.
pub(super) fn now(
    cluster: &Cluster,
    class: &Class,
    cut: &Cut,
    (now, end): (i64, i64),
    may_share: impl Fn(u32) -> bool,
) -> Option<Vec<Chosen>> {
    let cuts = cluster.cuts()?;
    let suits = |node: u32| {
        cut.needs[cluster.make(node)].as_ref().is_some_and(|(need, _)| {
            cluster.floor(node).covers(need) && cluster.plan(node).covers(need, now, end) && may_share(node)
        })
    };
    let window = |node: u32| cluster.plan(node).over(now, end).slices;
    let node = cut.ranks.iter().find_map(|rank| cuts.choose(cut.profile, rank, suits, window))?;
    Some(vec![chosen(class, node)])
}

fn chosen(class: &Class, node: u32) -> Chosen {
    let devices = class.demand.gres_per_job.iter().map(|need| need.count).collect();
    Chosen { node: NodeIdx(node), tasks: 1, devices }
}

/// The earliest start at or after `from`, on the node that the rule prefers of those that have it then.
///
/// Cost: a few instructions for each node, and the steps of those that could be first.
pub(super) fn earliest(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    (class, cut): (&Class, &Cut),
    span: i64,
    from: i64,
) -> Option<(i64, Holds)> {
    let (bounds, slices) = (cluster.bounds(&cut.least, span), cluster.slice_bounds(cut.profile, span));
    let mut best = i64::MAX;
    let mut first: Vec<u32> = Vec::new();
    for &node in cluster.nodes(class.list) {
        if bounds.lower(node).max(slices.lower(node)) > best {
            continue;
        }
        let Some((need, gpus)) = &cut.needs[cluster.make(node)] else { continue };
        let part: (&Amount, _, _) = (need, cut.profile, *gpus);
        let Earliest { at, exact } = cluster.plan(node).earliest_cut(part, span, from, best);
        if !exact || at == i64::MAX {
            continue;
        }
        if at < best {
            best = at;
            first.clear();
        }
        first.push(node);
    }
    let window = (best, best.saturating_add(span));
    let one = chosen(class, preferred(cluster, state, cut, &first, window)?);
    Some((best, Holds::One((one.node.0, taken(cluster, state, settings, class, &one, window)))))
}

/// Of nodes in order of preference the one with the GPU that the rule would cut, among those of the first weight.
fn preferred(
    cluster: &Cluster,
    state: &State,
    cut: &Cut,
    nodes: &[u32],
    (from, to): (i64, i64),
) -> Option<u32> {
    let weight = |node: u32| cluster.kinds[cluster.kind(node)].definition.weight;
    let (&first, others) = nodes.split_first()?;
    if others.first().is_none_or(|second| weight(*second) != weight(first)) {
        return Some(first);
    }
    let mut states: Vec<Occupancy> = Vec::new();
    let mut owners: Vec<u32> = Vec::new();
    for &node in nodes.iter().take_while(|node| weight(**node) == weight(first)) {
        let (_, gpus) = cut.needs[cluster.make(node)].as_ref()?;
        let free = cluster.plan(node).over(from, to).slices & *gpus;
        states.extend(gpus.gpus().map(|gpu| Occupancy(!free.on(gpu))));
        owners.resize(states.len(), node);
    }
    let rule = state.slices.rule()?;
    rule.choose_of_many(&states, cut.profile).map(|(place, _)| owners[place])
}
