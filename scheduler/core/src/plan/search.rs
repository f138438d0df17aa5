//! Where and when a request fits the plan: now, and as early as can be.
//!
//! Pure look-ups in profiles; nothing is taken. A fixed demand (the same amount on each of n nodes) is
//! searched by the earliest starts of single nodes ([`fixed`]); any other by trying the instants at which
//! something changes.

mod cut;
mod fixed;
mod fronts;

use model::id::NodeIdx;

pub(super) use self::fixed::Scratch;
use super::cluster::{Cluster, Cuts};
use super::holds::{Few, Holds};
use super::profile::{Amount, KINDS};
use super::shape::{Class, Cut, Fixed};
use crate::gpu::slice_set::SliceSet;
use crate::place::choose::{Candidate, Chosen};
use crate::place::demand::Share;
use crate::place::fit::{self, Free};
use crate::place::kept::Kept;
use crate::place::pack::{self, Devices};
use crate::place::{candidate_on, choose_nodes};
use crate::planted::{self, Bug};
use crate::settings::Settings;
use crate::state::State;

/// After so long, milliseconds, repeated reservations have been looked at in every way they can meet: two weeks.
const REPEATS: i64 = 14 * 24 * 3_600_000;

/// Nodes that take a request for `[now, end)`, in order of preference; `None`: too few.
///
/// `may_share` rules nodes out for reasons that are not amounts.
/// Cost: O(nodes × steps in the window), less where the first nodes do.
pub(super) fn now(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    (now, end): (i64, i64),
    may_share: impl Fn(u32) -> bool,
) -> Option<Few<Chosen>> {
    let end = if planted::is(Bug::OverlookPromises) { now + 1 } else { end };
    let Some(fixed) = &class.fixed else {
        if let Some(one) = indexed(cluster, class) {
            return cut::now(cluster, class, one, (now, end), may_share).map(Few::Many);
        }
        if let Some(one) = class.cut.as_deref().filter(|_| state.slices.rule().is_some()) {
            return cut::now_by_each(cluster, state, class, one, (now, end), may_share).map(Few::Many);
        }
        return at(cluster, state, settings, class, (now, end), may_share).map(Few::Many);
    };
    if cluster.is_pool() {
        let need = fixed.need(0).filter(|need| cluster.floor(0).covers(need))?;
        return cluster
            .plan(0)
            .covers(need, now, end)
            .then(|| pick(state, class, fixed, may_share).map(Few::Many))
            .flatten();
    }
    if class.demand.required.is_empty() && !fixed.may_fit(cluster.most(class.list)) {
        return None;
    }
    let open =
        if class.demand.required.is_empty() { cluster.open(class.list) } else { &required(cluster, class) };
    // Counted first, so that a failed search, which is the rule, needs no memory.
    let suits = |node: u32| {
        fixed.need(cluster.make(node)).is_some_and(|need| {
            cluster.floor(node).covers(need) && cluster.plan(node).covers(need, now, end) && may_share(node)
        })
    };
    let count = fixed.count as usize;
    let mut found = 0;
    for (place, &node) in open.iter().enumerate() {
        found += usize::from(suits(node));
        if found == count {
            let chosen = open[..=place].iter().filter(|node| suits(**node));
            let chosen = chosen.map(|&node| Chosen::of_amounts(NodeIdx(node), fixed.tasks));
            return Some(chosen.collect());
        }
        if found + (open.len() - place) <= count {
            // Even all of the rest would be too few.
            return None;
        }
    }
    None
}

/// The first of the nodes on which something became free that takes a request for one node.
pub(super) fn on_touched(
    cluster: &Cluster,
    list: u32,
    fixed: &Fixed,
    (now, end): (i64, i64),
    may_share: impl Fn(u32) -> bool,
) -> Option<Few<Chosen>> {
    let takes = |node: u32| {
        let Some(need) = fixed.need(cluster.make(node)) else { return false };
        cluster.is_member(list, node)
            && cluster.floor(node).covers(need)
            && cluster.plan(node).covers(need, now, end)
            && may_share(node)
    };
    let node = cluster.touched.nodes().iter().copied().find(|&node| takes(node))?;
    Some(Few::One(Chosen::of_amounts(NodeIdx(node), fixed.tasks)))
}

/// Any nodes of a pool that no job holds; the plan says that there are enough.
fn pick(state: &State, class: &Class, fixed: &Fixed, may_share: impl Fn(u32) -> bool) -> Option<Vec<Chosen>> {
    let count = class.demand.min_nodes as usize;
    let nodes = &state.partition(class.partition)?.nodes;
    let idle = nodes.iter().filter(|node| state.node(**node).used.jobs == 0 && may_share(node.0));
    let chosen: Vec<Chosen> = idle.take(count).map(|&node| Chosen::of_amounts(node, fixed.tasks)).collect();
    (chosen.len() == count).then_some(chosen)
}

/// The required nodes of a fixed demand (which are then all of its nodes) that may be taken.
fn required(cluster: &Cluster, class: &Class) -> Vec<u32> {
    let required = class.demand.required.iter().map(|node| node.0);
    required.filter(|node| cluster.nodes(class.list).contains(node)).collect()
}

/// The earliest start at or after `from` with what is taken of each node; `None`: never on these nodes.
pub(super) fn earliest(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    span: i64,
    from: i64,
    scratch: &mut Scratch,
) -> Option<(i64, Holds)> {
    match &class.fixed {
        Some(fixed) => fixed::earliest(cluster, class, fixed, span, from, scratch),
        None => match indexed(cluster, class) {
            Some(one) => cut::earliest(cluster, state, settings, (class, one), span, from),
            None => earliest_any(cluster, state, settings, class, span, from),
        },
    }
}

/// The one slice that a class asks for, where the index over GPUs can answer.
fn indexed<'a>(cluster: &Cluster, class: &'a Class) -> Option<&'a Cut> {
    class.cut.as_deref().filter(|cut| cut.indexed && cluster.cuts().is_some_and(Cuts::has_rule))
}

fn earliest_any(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    span: i64,
    from: i64,
) -> Option<(i64, Holds)> {
    let mut start = from;
    let mut quiet_since = None;
    // Where not every CPU will do, more is known of now than amounts: it was tried, and there is no room.
    let mut tried = class.demand.insists_on_cpus() && start <= cluster.now();
    loop {
        let window = (start, start.saturating_add(span));
        if std::mem::take(&mut tried) {
            // The next instant at which anything changes.
        } else if let Some(chosen) = at(cluster, state, settings, class, window, |_| true) {
            let holds =
                chosen.iter().map(|one| (one.node.0, taken(cluster, state, settings, class, one, window)));
            return Some((start, holds.collect()));
        }
        let nodes = cluster.nodes(class.list).iter();
        let change = nodes.filter_map(|&node| cluster.plan(node).next_change(start)).min();
        if change.is_none() && start > quiet_since.get_or_insert(start).saturating_add(REPEATS) {
            // Nothing but repeated reservations is ahead, and none of their times would do.
            return None;
        }
        start = [change, cluster.next_closure(start)].into_iter().flatten().min()?;
    }
}

/// Chooses nodes for a demand of any kind in a window.
fn at(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    window: (i64, i64),
    may_share: impl Fn(u32) -> bool,
) -> Option<Vec<Chosen>> {
    let partition = state.partition(class.partition)?;
    let room = |node: NodeIdx| {
        may_share(node.0).then(|| room(cluster, state, settings, class, window, node)).flatten()
    };
    choose_nodes(state, settings, partition, &class.demand, room)
}

/// The same where more is known of a node now than amounts: on which sockets it has free cores, and which CPUs
/// have few enough holders.
pub(super) fn now_on_sockets(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    window: (i64, i64),
    known: impl Fn(NodeIdx) -> Option<Candidate>,
) -> Option<Vec<Chosen>> {
    let partition = state.partition(class.partition)?;
    let room = |node: NodeIdx| {
        let (planned, now) = (room(cluster, state, settings, class, window, node)?, known(node)?);
        Some(Candidate { tasks: planned.tasks.min(now.tasks), ..planned })
    };
    choose_nodes(state, settings, partition, &class.demand, room)
}

/// What a node could take in a window.
fn room(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    (from, to): (i64, i64),
    node: NodeIdx,
) -> Option<Candidate> {
    if !state.node(node).is_available() {
        return None;
    }
    let kind = &cluster.kinds[cluster.kind(node.0)];
    let definition = &kind.definition;
    let layers = class.demand.layers();
    let own = class.demand.reservation.as_deref();
    let to = cluster.clip(own, from, to);
    if cluster.is_reserved() && !cluster.is_open(node.0, own, from, to) {
        return None;
    }
    if !fit::shape_fits(&class.demand, definition) || !cluster.lets_in(node.0, layers, from) {
        return None;
    }
    let mut scratch = [0; KINDS];
    let free = cluster.plan(node.0).over(from, to);
    let idle = free.cpus == kind.total.cpus;
    let free = kind.free_for(free, layers);
    let (inventory, rule) = (kind.inventory.as_deref(), state.slices.rule());
    let free = kind.without_shared(free, class.demand.dealing);
    let free = free.as_free(&mut scratch, definition.gres.len(), definition.cpus.0);
    let kept = Kept::from(settings, &class.demand, state.node(node));
    let reach = kept.map(|kept| kept.reach(definition.cpus.0));
    let free = Free { idle, inventory, rule, reach, ..free };
    candidate_on(settings, &class.demand, definition, node, free)
}

/// What a chosen node gives in a window of the future.
fn taken(
    cluster: &Cluster,
    state: &State,
    settings: &Settings,
    class: &Class,
    chosen: &Chosen,
    window: (i64, i64),
) -> Amount {
    let node = chosen.node.0;
    let kind = &cluster.kinds[cluster.kind(node)];
    let (definition, demand) = (&*kind.definition, &class.demand);
    let free = kind.without_shared(cluster.plan(node).over(window.0, window.1), demand.dealing);
    let mut gres = [0_u32; KINDS];
    let per_job = demand.gres_per_job.iter().zip(chosen.devices.iter().copied());
    let mut needs = fit::needs_of(demand, chosen.tasks);
    needs.extend(per_job);
    let mut slices = SliceSet::EMPTY;
    let mut cuts = 0;
    if needs.iter().any(|(need, _)| fit::is_cut(need)) {
        let counts = free.gres.map(u64::from);
        let devices = Devices {
            offered: definition,
            counts: &counts[..definition.gres.len().min(KINDS)],
            inventory: kind.inventory.as_deref(),
            slices: free.slices,
            rule: state.slices.rule(),
        };
        // The room was found with the same list: it is there.
        if let Some(picked) = pack::pick(&needs, &devices) {
            gres.iter_mut()
                .zip(&picked.counts)
                .for_each(|(to, from)| *to = u32::try_from(*from).unwrap_or(u32::MAX));
            slices = picked.bits();
            cuts = picked.slices.len() as u64;
        }
        needs.clear();
    }
    needs.sort_by_key(|(need, _)| need.kind.is_none());
    for (need, count) in needs {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        for (place, one) in definition.gres.iter().take(KINDS).enumerate() {
            if fit::answers(need, &one.name, &one.kind) {
                let part = left.min(free.gres[place].saturating_sub(gres[place]));
                gres[place] += part;
                left -= part;
            }
        }
    }
    let shards = kind.shards_taken(free.shards, &gres, demand.share == Share::Whole, demand.dealing);
    if demand.share == Share::Whole {
        gres = kind.total.gres;
    }
    let of_gpus = definition.gres.iter().zip(gres).filter(|(one, _)| &*one.name == "gpu");
    let gpus = of_gpus.map(|(_, count)| u64::from(count)).sum::<u64>() + cuts;
    let cost = fit::cost(demand, settings.whole_cores, definition, chosen.tasks, gpus);
    Amount { cpus: kind.planned_cpus(cost.cpus, demand.layers()), gres, memory: cost.memory, slices, shards }
}
