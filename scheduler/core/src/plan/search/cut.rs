//! Where and when one slice of a GPU fits the plan.
//!
//! The same answers as the search of any demand gives, by the index over GPUs and by bounds instead of a look at each
//! node at each instant. Owns no state.

use model::id::NodeIdx;

use super::taken;
use crate::gpu::geometry::Occupancy;
use crate::gpu::outlook::Outlook;
use crate::gpu::policy::Rule;
use crate::gpu::slice_set::SliceSet;
use crate::place::choose::Chosen;
use crate::plan::cluster::{COMPARED, Cluster, Slot};
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
    let ahead = |node: u32| cluster.plan(node).slices_ahead(now, end);
    let slot = cut.ranks.iter().find_map(|rank| cuts.choose(cut.profile, rank, suits, ahead))?;
    Some(vec![chosen_at(class, cut, slot)])
}

/// The same by a look at each node.
pub(super) fn now_by_each(
    cluster: &Cluster,
    state: &State,
    class: &Class,
    cut: &Cut,
    (now, end): (i64, i64),
    may_share: impl Fn(u32) -> bool,
) -> Option<Vec<Chosen>> {
    let rule = state.slices.rule()?;
    let weight = |node: &u32| cluster.kinds[cluster.kind(*node)].definition.weight;
    let alike = cluster.nodes(class.list).chunk_by(|one, other| weight(one) == weight(other));
    let best = |nodes: &[u32]| {
        let (mut outlooks, mut slots, mut steady) = (Vec::new(), Vec::new(), Vec::new());
        // GPUs have numbers by the order of nodes.
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        for node in nodes {
            let Some((need, gpus)) = &cut.needs[cluster.make(node)] else { continue };
            if !cluster.plan(node).covers(need, now, end) || !may_share(node) {
                continue;
            }
            let plan = cluster.plan(node);
            let (ahead, free) = (plan.slices_ahead(now, end), cluster.floor(node).slices);
            let ever = plan.slices_ever_free(cluster.now());
            for gpu in gpus.gpus() {
                outlooks.push(ahead.of(gpu));
                slots.push(Slot { node, gpu, start: 0 });
                steady.push((free.on(gpu) == ever.on(gpu)).then_some(Occupancy(!free.on(gpu))));
            }
        }
        let (at, start) = match most_preferred(rule, cut, &steady) {
            None => rule.choose_over_time(&outlooks, cut.profile)?,
            Some(mut compared) => {
                compared.extend((0..steady.len()).filter(|&at| steady[at].is_none()));
                compared.sort_unstable();
                let outlooks: Vec<Outlook> = compared.iter().map(|&at| outlooks[at]).collect();
                let (place, start) = rule.choose_of_many_over_time(&outlooks, cut.profile)?;
                (compared[place], start)
            }
        };
        Some(Slot { start, ..slots[at] })
    };
    let slot = alike.into_iter().find_map(best)?;
    Some(vec![chosen_at(class, cut, slot)])
}

/// The [`COMPARED`] that the rule prefers by what is taken now, where more than these have room; `steady` has `None` for
/// GPUs that are promised to somebody later, which are always compared.
fn most_preferred(rule: &Rule, cut: &Cut, steady: &[Option<Occupancy>]) -> Option<Vec<usize>> {
    let full = Occupancy(u8::MAX);
    let mut states: Vec<Occupancy> = steady.iter().map(|state| state.unwrap_or(full)).collect();
    let mut best = Vec::new();
    while let Some((at, _)) = rule.choose_of_many(&states, cut.profile) {
        if best.len() == COMPARED {
            return Some(best);
        }
        states[at] = full;
        best.push(at);
    }
    None
}

fn chosen(class: &Class, node: u32) -> Chosen {
    let devices = class.demand.gres_per_job.iter().map(|need| need.count).collect();
    Chosen { node: NodeIdx(node), tasks: 1, devices, within: SliceSet::ALL }
}

fn chosen_at(class: &Class, cut: &Cut, slot: Slot) -> Chosen {
    Chosen { within: SliceSet::of(slot.gpu, cut.profile.mask(slot.start)), ..chosen(class, slot.node) }
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
