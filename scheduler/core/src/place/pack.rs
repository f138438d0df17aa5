//! Which devices and which slices of a node answer a list of needs.
//!
//! Owns the choice of starts on dynamic GPUs: by the rule that the queue's mix made where one is given, and, where
//! that choice leaves no room for the rest of the list, by one that always finds room if there is any. Knows nothing
//! of time: what is free is given as a set, and the set of some time to come serves as well.

use model::gpu::{least_gigabytes, profile_gigabytes};

use super::demand::GresNeed;
use super::fit::answers;
use crate::allocation::Slice;
use crate::gpu::geometry::{Occupancy, Profile};
use crate::gpu::inventory::{Inventory, Offer, is_slice, kind_answers};
use crate::gpu::policy::Rule;
use crate::gpu::slice_set::SliceSet;
use crate::state::node::NodeDefinition;

/// The most slices that one node could give.
const SLICES_MAX: u64 = 8 * SliceSet::GPUS as u64;

/// What is free of a node's devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Devices<'a> {
    /// What the node offers.
    pub(crate) offered: &'a NodeDefinition,
    /// How many by kind.
    pub(crate) counts: &'a [u64],
    /// Its GPUs, where they are observed.
    pub(crate) inventory: Option<&'a Inventory>,
    /// Memory slices of dynamic GPUs.
    pub(crate) slices: SliceSet,
    /// How starts are chosen.
    pub(crate) rule: Option<&'a Rule>,
}

/// What answers a list of needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    /// How many by kind.
    pub(crate) counts: Vec<u64>,
    /// Slices of dynamic GPUs, with the kind that their GPU is of.
    pub(crate) slices: Vec<(u32, Slice)>,
}

impl Picked {
    /// The memory slices, as a set.
    pub(crate) fn bits(&self) -> SliceSet {
        SliceSet::union(self.slices.iter().map(|(_, slice)| slice.bits()))
    }
}

/// One slice to be made: where it could be, the smallest kind first.
type Want<'a> = Vec<Vec<(usize, &'a Offer)>>;

/// Devices and slices for needs, each with how many; `None`: there are too few.
///
/// Needs by type come before those of at least so much memory, and these before those without a type. Slices that
/// exist are taken before slices are made. Cost: O(needs × kinds + slices made × GPUs × profiles).
pub(crate) fn pick(needs: &[(&GresNeed, u64)], devices: &Devices<'_>) -> Option<Picked> {
    let mut order: Vec<(&GresNeed, u64)> = needs.to_vec();
    order.sort_by_key(|(need, _)| match need.kind.as_deref() {
        None => 2,
        Some(kind) => u32::from(least_gigabytes(kind).is_some()),
    });
    let mut counts = vec![0_u64; devices.offered.gres.len()];
    let mut wants: Vec<Want<'_>> = Vec::new();
    for (need, count) in order {
        let mut left = count;
        for kind in kinds_for(need, devices.offered) {
            let free = devices.counts.get(kind).copied().unwrap_or(0).saturating_sub(counts[kind]);
            let taken = left.min(free);
            counts[kind] += taken;
            left -= taken;
        }
        if left > 0 {
            let want = want(need, devices.inventory?)?;
            if left > SLICES_MAX {
                return None;
            }
            wants.extend((0..left).map(|_| want.clone()));
        }
    }
    if wants.is_empty() {
        return Some(Picked { counts, slices: Vec::new() });
    }
    // Larger ones first, and of these the ones with fewer places.
    wants.sort_by_key(|want| {
        let smallest = &want[0][0].1;
        (u8::MAX - smallest.size, smallest.starts.count_ones())
    });
    let inventory = devices.inventory?;
    let by_rule = devices.rule.and_then(|rule| place_all(&wants, inventory, devices.slices, Some(rule)));
    let slices = by_rule.or_else(|| place_all(&wants, inventory, devices.slices, None))?;
    Some(Picked { counts, slices })
}

/// Kinds that answer a need, those with the least memory first where it asks for some.
fn kinds_for(need: &GresNeed, offered: &NodeDefinition) -> Vec<usize> {
    let all = 0..offered.gres.len();
    let mut kinds: Vec<usize> =
        all.filter(|&kind| answers(need, &offered.gres[kind].name, &offered.gres[kind].kind)).collect();
    if need.kind.as_deref().is_some_and(|kind| least_gigabytes(kind).is_some()) {
        kinds.sort_by_key(|&kind| profile_gigabytes(&offered.gres[kind].kind));
    }
    kinds
}

/// Where a slice could be made; `None`: the need is for none, or no GPU can be cut so.
fn want<'a>(need: &GresNeed, inventory: &'a Inventory) -> Option<Want<'a>> {
    let kind = need.kind.as_deref().filter(|kind| is_slice(kind) && &*need.name == "gpu")?;
    let mut all: Vec<(usize, &Offer)> = Vec::new();
    for (gpu, dynamic) in inventory.dynamic.iter().enumerate() {
        let offers = dynamic.offers.iter().filter(|offer| kind_answers(kind, &offer.label));
        all.extend(offers.map(|offer| (gpu, offer)));
    }
    // Alike: of one size and as many places. A profile of another GPU may have the same.
    let rank = |offer: &Offer| (offer.size, u32::MAX - offer.starts.count_ones(), offer.class);
    all.sort_by_key(|(gpu, offer)| (rank(offer), *gpu));
    let levels: Want<'_> = all.chunk_by(|a, b| rank(a.1) == rank(b.1)).map(<[_]>::to_vec).collect();
    (!levels.is_empty()).then_some(levels)
}

/// A place for each; `None`: not all have one.
///
/// Without a rule the highest start is taken. That finds room for all if there is any: runs are aligned, larger ones
/// are placed first, and a higher start is one that fewer of the others could use.
fn place_all(
    wants: &[Want<'_>],
    inventory: &Inventory,
    mut free: SliceSet,
    rule: Option<&Rule>,
) -> Option<Vec<(u32, Slice)>> {
    let mut placed = Vec::with_capacity(wants.len());
    for want in wants {
        let (gpu, offer, start) = want.iter().find_map(|level| place_one(level, inventory, free, rule))?;
        let dynamic = &inventory.dynamic[gpu];
        let slice = Slice { gpu: dynamic.index, profile: offer.name.clone(), start, size: offer.size };
        free = free & !slice.bits();
        placed.push((dynamic.kind, slice));
    }
    Some(placed)
}

fn place_one<'a>(
    level: &[(usize, &'a Offer)],
    inventory: &Inventory,
    free: SliceSet,
    rule: Option<&Rule>,
) -> Option<(usize, &'a Offer, u8)> {
    let taken = |gpu: usize| inventory.dynamic[gpu].taken(free);
    if let (Some(rule), Some(class)) = (rule, level[0].1.class) {
        let states: Vec<Occupancy> = level.iter().map(|(gpu, _)| taken(*gpu)).collect();
        if let Some((at, start)) = rule.choose_of_many(&states, class)
            && level[at].1.free_starts(states[at]) >> start & 1 == 1
        {
            return Some((level[at].0, level[at].1, start));
        }
    }
    let highest = |(gpu, offer): &(usize, &'a Offer)| {
        let starts = offer.free_starts(taken(*gpu));
        (starts > 0).then(|| (7 - starts.leading_zeros() as u8, *gpu, *offer))
    };
    let best = level.iter().filter_map(highest).max_by_key(|(start, gpu, _)| (*start, usize::MAX - *gpu));
    best.map(|(start, gpu, offer)| (gpu, offer, start))
}

/// How many of a need a node could give beside a list that comes first, at most `most`.
///
/// Cost: that of [`pick`] for each that is made.
pub(crate) fn room(need: &GresNeed, most: u64, before: &[(&GresNeed, u64)], devices: &Devices<'_>) -> u64 {
    let all: u64 = kinds_for(need, devices.offered)
        .into_iter()
        .map(|kind| devices.counts.get(kind).copied().unwrap_or(0))
        .sum();
    let limit = most.min(all.saturating_add(SLICES_MAX));
    let mut list = before.to_vec();
    list.push((need, 0));
    let last = list.len() - 1;
    let mut fits = |count: u64| {
        list[last].1 = count;
        pick(&list, devices).is_some()
    };
    let mut count = 0;
    while count < limit && fits(count + 1) {
        count += 1;
    }
    count
}

/// The best GPU of a node for one slice: what it is to the rule and what is taken of it. Serves the choice among nodes.
pub(crate) fn state_for(need: &GresNeed, devices: &Devices<'_>) -> Option<(Profile, Occupancy)> {
    let (inventory, rule) = (devices.inventory?, devices.rule?);
    let levels = want(need, inventory)?;
    let (level, (gpu, _, _)) = levels
        .iter()
        .find_map(|level| Some((level, place_one(level, inventory, devices.slices, Some(rule))?)))?;
    Some((level[0].1.class?, inventory.dynamic[gpu].taken(devices.slices)))
}
