//! Which nodes a job gets, and how many of its tasks go to each.
//!
//! Source: measured behaviour of select/cons_tres. Nodes come in order of weight, then of the
//! configuration; one node that holds the whole job is taken before several; else each node takes as
//! many tasks as it can while one is kept for each node that must follow. If that fails at the most
//! nodes, nodes with little room are left aside.

use model::id::NodeIdx;

use super::demand::{Across, Demand, Share};
use crate::gpu::geometry::{Occupancy, Profile};
use crate::gpu::slice_set::SliceSet;

/// A node that can take at least one task.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The node.
    pub(crate) node: NodeIdx,
    /// The most tasks that it can take.
    pub(crate) tasks: u32,
    /// Devices it has for each of the job's whole-job needs, beyond those for nodes and tasks.
    pub(crate) spare: Vec<u64>,
    /// It must be part of the answer.
    pub(crate) required: bool,
    /// Where one slice is asked for: what that is to the rule, and what is taken of the GPU that would be cut here.
    pub(crate) state: Option<(Profile, Occupancy)>,
    /// How much of its CPUs is in use, in thousandths.
    pub(crate) load: u32,
}

/// A chosen node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The node.
    pub(crate) node: NodeIdx,
    /// Tasks that go there.
    pub(crate) tasks: u32,
    /// Devices taken there for each of the job's whole-job needs.
    pub(crate) devices: Vec<u64>,
    /// The memory slices that it may be given there: those that were chosen with the node, or all.
    pub(crate) within: SliceSet,
}

impl Chosen {
    /// A node that was chosen by amounts alone.
    pub(crate) const fn of_amounts(node: NodeIdx, tasks: u32) -> Self {
        Self { node, tasks, devices: Vec::new(), within: SliceSet::ALL }
    }
}

/// Chooses among candidates in order of preference. `None`: they do not suffice.
///
/// Cost: O(candidates) where the first try succeeds, at worst times the number of distinct rooms.
pub(crate) fn choose(demand: &Demand, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
    let mut chosen = take(demand, candidates)?;
    each_has_one(candidates, &mut chosen);
    deal(demand, candidates, chosen)
}

/// Gives every node one of the devices that are asked for of the whole job (`--gpus`), while there are some: as Slurm does, which
/// refuses fewer of them than nodes. The node that has most gives one away.
fn each_has_one(candidates: &[Candidate], chosen: &mut [Chosen]) {
    let held = |one: &Chosen| one.devices.iter().sum::<u64>();
    if chosen.iter().all(|one| one.devices.is_empty()) {
        return;
    }
    for place in 0..chosen.len() {
        let spare = candidates.iter().find(|one| one.node == chosen[place].node).map(|one| &one.spare);
        let Some(spare) = spare.filter(|_| held(&chosen[place]) == 0) else { continue };
        let usable = (0..spare.len()).filter(|&need| spare[need] > 0);
        let most = usable
            .flat_map(|need| (0..chosen.len()).map(move |giver| (need, giver)))
            .filter(|&(need, giver)| held(&chosen[giver]) > 1 && chosen[giver].devices[need] > 0)
            .max_by_key(|&(need, giver)| (chosen[giver].devices[need], std::cmp::Reverse((need, giver))));
        if let Some((need, giver)) = most {
            chosen[giver].devices[need] -= 1;
            chosen[place].devices[need] += 1;
        }
    }
}

/// Deals the tasks out again as `--distribution` asks; `None`: a node cannot take what is named for it.
fn deal(demand: &Demand, candidates: &[Candidate], mut chosen: Vec<Chosen>) -> Option<Vec<Chosen>> {
    let at_once = match &demand.across {
        Across::Block => return Some(chosen),
        Across::Cyclic => 1,
        Across::Plane(size) => *size,
        Across::Arbitrary(list) => {
            for one in &mut chosen {
                let wanted = list.iter().find(|(node, _)| *node == one.node).map(|(_, count)| *count)?;
                let room = candidates.iter().find(|candidate| candidate.node == one.node)?.tasks;
                if wanted > room {
                    return None;
                }
                one.tasks = wanted;
            }
            return Some(chosen);
        }
    };
    // Of shared nodes a job holds the CPUs that filling node by node gave it, and its tasks stay where those are:
    // Slurm deals four tasks of `-N2 -m cyclic` out as three and one (golden `srun/distribution-cyclic`).
    if demand.share != Share::Whole || !demand.tasks_given || chosen.len() < 2 {
        return Some(chosen);
    }
    chosen.sort_by_key(|one| one.node);
    let room = |node: NodeIdx| candidates.iter().find(|one| one.node == node).map_or(0, |one| one.tasks);
    let rooms: Vec<u32> = chosen.iter().map(|one| room(one.node)).collect();
    let mut left: u32 = chosen.iter().map(|one| one.tasks).sum();
    // No node stays without a task.
    left -= u32::try_from(chosen.len()).expect("nodes are counted in 32 bits").min(left);
    chosen.iter_mut().for_each(|one| one.tasks = 1);
    let mut turn = 1;
    while left > 0 {
        let full = turn * at_once;
        for (one, room) in chosen.iter_mut().zip(&rooms) {
            let more = full.min(*room).saturating_sub(one.tasks).min(left);
            one.tasks += more;
            left -= more;
        }
        turn += 1;
    }
    Some(chosen)
}

fn take(demand: &Demand, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
    if demand.contiguous {
        return contiguous(demand, candidates);
    }
    let order = preferred(candidates);
    if demand.spread {
        return spread(demand, &order);
    }
    if let Some(found) = wide(demand, &order) {
        return Some(found);
    }
    let no_required = order.first().is_none_or(|first| !first.required);
    if demand.min_nodes <= 1 && no_required {
        // One node that holds it all.
        let whole = order.iter().find_map(|&one| greedy(demand, std::iter::once(one)));
        if whole.is_some() || demand.max_nodes == 1 {
            return whole;
        }
    }
    if let Some(found) = greedy(demand, order.iter().copied()) {
        return Some(found);
    }
    let mut rooms: Vec<u32> = order.iter().map(|candidate| candidate.tasks).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let largest = rooms.pop()?;
    for room in rooms {
        let large = order.iter().copied().filter(|candidate| candidate.required || candidate.tasks > room);
        if let Some(found) = greedy(demand, large) {
            return Some(found);
        }
    }
    // Mixed sizes: the largest first.
    let mut by_room = order;
    by_room.sort_by_key(|candidate| (!candidate.required, largest - candidate.tasks));
    greedy(demand, by_room.into_iter())
}

/// As many nodes of the range asked for as can be had, each with a task at least.
fn wide(demand: &Demand, order: &[&Candidate]) -> Option<Vec<Chosen>> {
    let nodes = demand.wide.min(u32::try_from(order.len()).unwrap_or(u32::MAX));
    let nodes = if demand.tasks_given { nodes.min(demand.tasks) } else { nodes };
    if nodes <= demand.min_nodes {
        return None;
    }
    let exact = demand.with(|rest| {
        (rest.min_nodes, rest.max_nodes) = (nodes, nodes);
        rest.tasks = rest.tasks.max(nodes);
    });
    greedy(&exact, order.iter().copied())
}

/// Required nodes first; then the others in the order given, or, beside required nodes, outwards from
/// the first of them: those after it, then those before it.
fn preferred(candidates: &[Candidate]) -> Vec<&Candidate> {
    let (mut order, mut others): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| candidate.required);
    if let Some(first) = order.iter().map(|candidate| candidate.node).min() {
        let distance = |candidate: &&Candidate| {
            let (node, first) = (candidate.node.0, first.0);
            if node >= first { (false, node - first) } else { (true, first - node) }
        };
        others.sort_by_key(distance);
    }
    order.append(&mut others);
    order
}

fn greedy<'a>(demand: &Demand, order: impl Iterator<Item = &'a Candidate>) -> Option<Vec<Chosen>> {
    let mut tasks_left = demand.tasks;
    let mut devices_left: Vec<u64> = demand.gres_per_job.iter().map(|need| need.count).collect();
    let mut chosen: Vec<Chosen> = Vec::new();
    for candidate in order {
        let count = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let enough =
            count >= demand.min_nodes && tasks_left == 0 && devices_left.iter().all(|&left| left == 0);
        if enough && !candidate.required {
            break;
        }
        if count >= demand.max_nodes {
            break;
        }
        let nodes_after = demand.min_nodes.saturating_sub(count + 1);
        let tasks = candidate.tasks.min(tasks_left.saturating_sub(nodes_after)).max(1);
        if demand.tasks_given
            && tasks_left == 0
            && !candidate.required
            && devices_left.iter().all(|&left| left == 0)
        {
            // A node without a task would be of no use, and there are too few tasks for the nodes.
            return None;
        }
        let devices: Vec<u64> =
            devices_left.iter().zip(&candidate.spare).map(|(&left, &spare)| left.min(spare)).collect();
        if tasks_left == 0
            && count >= demand.min_nodes
            && !candidate.required
            && devices.iter().all(|&one| one == 0)
        {
            continue;
        }
        tasks_left = tasks_left.saturating_sub(tasks);
        for (left, taken) in devices_left.iter_mut().zip(&devices) {
            *left -= taken;
        }
        chosen.push(Chosen { devices, ..Chosen::of_amounts(candidate.node, tasks) });
    }
    let count = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
    let enough = count >= demand.min_nodes && tasks_left == 0 && devices_left.iter().all(|&left| left == 0);
    enough.then_some(chosen)
}

/// `--spread-job`: as many nodes as may be, tasks dealt out in turn.
fn spread(demand: &Demand, order: &[&Candidate]) -> Option<Vec<Chosen>> {
    let most = demand.max_nodes.min(demand.tasks.max(demand.min_nodes)) as usize;
    let nodes = &order[..order.len().min(most)];
    let mut chosen: Vec<Chosen> = nodes
        .iter()
        .map(|candidate| Chosen {
            devices: vec![0; candidate.spare.len()],
            ..Chosen::of_amounts(candidate.node, 0)
        })
        .collect();
    let mut left = demand.tasks;
    while left > 0 {
        let before = left;
        for (one, candidate) in chosen.iter_mut().zip(nodes) {
            if left > 0 && one.tasks < candidate.tasks {
                one.tasks += 1;
                left -= 1;
            }
        }
        if left == before {
            return None;
        }
    }
    for (place, need) in demand.gres_per_job.iter().enumerate() {
        let mut left = need.count;
        for (one, candidate) in chosen.iter_mut().zip(nodes) {
            one.devices[place] = left.min(candidate.spare[place]);
            left -= one.devices[place];
        }
        if left > 0 {
            return None;
        }
    }
    (chosen.len() >= demand.min_nodes as usize).then_some(chosen)
}

/// `--contiguous`: a run of nodes that follow each other in the configuration.
fn contiguous(demand: &Demand, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by_key(|candidate| candidate.node);
    let free = demand.with(|rest| rest.contiguous = false);
    for start in 0..sorted.len() {
        let mut run = Vec::new();
        for candidate in &sorted[start..] {
            let next = run.last().is_none_or(|last: &Candidate| candidate.node.0 == last.node.0 + 1);
            if !next || run.len() >= demand.max_nodes as usize {
                break;
            }
            run.push(candidate.clone());
            let whole =
                sorted.iter().all(|one| !one.required || run.iter().any(|other| other.node == one.node));
            if whole
                && let Some(found) = take(&free, &run)
                && found.len() == run.len()
            {
                return Some(found);
            }
        }
    }
    None
}
