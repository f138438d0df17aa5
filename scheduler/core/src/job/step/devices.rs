//! The devices of a step, of those that its job has and other steps have not.

use model::gres::GresRequest;
use model::refusal::Refusal;

use super::{Room, Why};
use crate::allocation::{CpuIds, GresShare, Slice};
use crate::gpu::inventory::kind_answers;
use crate::input::StepRequest;
use crate::state::State;
use crate::state::node::NodeDefinition;

/// So many devices of one sort.
type Asked<'a> = (&'a GresRequest, u64);

/// The step's devices on each of its nodes, which have so many tasks: what it asks for, or all that are free where it does not
/// say.
pub(super) fn of_step(
    state: &State,
    request: &StepRequest,
    nodes: &[(&Room, u32)],
) -> Result<Vec<Vec<GresShare>>, Why> {
    if request.gres_none {
        return Ok(vec![Vec::new(); nodes.len()]);
    }
    let lists = [&request.gres_per_node, &request.gpus_per_job, &request.gpus_per_task];
    if lists.into_iter().all(Vec::is_empty) {
        return Ok(nodes.iter().map(|(room, _)| left_of(room)).collect());
    }
    let of_whole = dealt_out(state, request, nodes)?;
    let mut taken = Vec::new();
    for (&(room, tasks), of_whole) in nodes.iter().zip(of_whole) {
        let per_node = request.gres_per_node.iter().map(|gres| (gres, gres.count));
        let of_tasks = |gres: &GresRequest| gres.count.saturating_mul(u64::from(tasks));
        let per_task = request.gpus_per_task.iter().map(|gres| (gres, of_tasks(gres)));
        let mut asked: Vec<Asked<'_>> = per_node.chain(of_whole).chain(per_task).collect();
        // Who asks for a type can take nothing else.
        asked.sort_by_key(|(gres, _)| gres.kind.is_none());
        let definition = state.node(room.share.node).offer();
        if gather(&room.share.gres, definition, &asked).is_none() {
            return Err(Why::Never(Refusal::InvalidGres));
        }
        taken.push(gather(&room.gres, definition, &asked).ok_or(Why::Wait)?);
    }
    Ok(taken)
}

/// All that is free.
fn left_of(room: &Room) -> Vec<GresShare> {
    let pairs = room.share.gres.iter().zip(&room.gres);
    pairs.filter(|(held, left)| !held.is_cut() || left.is_cut()).map(|(_, left)| left.clone()).collect()
}

/// What is asked for of the whole step, by node: one for each while there are some, then as many as are free, in order.
fn dealt_out<'a>(
    state: &State,
    request: &'a StepRequest,
    nodes: &[(&Room, u32)],
) -> Result<Vec<Vec<Asked<'a>>>, Why> {
    let mut by_node = vec![Vec::new(); nodes.len()];
    for gres in &request.gpus_per_job {
        let amount = |room: &Room, shares: &[GresShare]| -> u64 {
            let definition = state.node(room.share.node).offer();
            shares
                .iter()
                .filter_map(|of| part(of, definition, gres, u64::MAX))
                .map(|part| part.amount())
                .sum()
        };
        let held: u64 = nodes.iter().map(|(room, _)| amount(room, &room.share.gres)).sum();
        if held < gres.count {
            return Err(Why::Never(Refusal::InvalidGres));
        }
        let free: Vec<u64> = nodes.iter().map(|(room, _)| amount(room, &room.gres)).collect();
        let mut left = gres.count;
        let mut counts = vec![0; nodes.len()];
        for most in [1, u64::MAX] {
            for (count, free) in counts.iter_mut().zip(&free) {
                let more = (*free).min(most).saturating_sub(*count).min(left);
                *count += more;
                left -= more;
            }
        }
        if left > 0 {
            return Err(Why::Wait);
        }
        let some = by_node.iter_mut().zip(counts).filter(|(_, count)| *count > 0);
        some.for_each(|(asked, count)| asked.push((gres, count)));
    }
    Ok(by_node)
}

/// All that is asked for, taken from shares; each device once. `None`: there is not enough.
fn gather(from: &[GresShare], offered: &NodeDefinition, asked: &[Asked<'_>]) -> Option<Vec<GresShare>> {
    let mut left = from.to_vec();
    let mut taken: Vec<GresShare> = Vec::new();
    for &(gres, count) in asked {
        let mut missing = count;
        // From one share where one has enough.
        let some = |of: &GresShare| part(of, offered, gres, count);
        let alone = left.iter().filter_map(some).find(|part| part.amount() >= count);
        let parts = match alone {
            Some(part) => vec![part],
            None => left.iter().filter_map(some).collect(),
        };
        for mut part in parts {
            if part.amount() > missing {
                part = self::part(&part, offered, gres, missing)?;
            }
            missing -= part.amount();
            without(&mut left, std::slice::from_ref(&part));
            add(&mut taken, part);
        }
        if missing > 0 {
            return None;
        }
    }
    Some(taken)
}

/// One more part: devices of a kind stand together.
fn add(taken: &mut Vec<GresShare>, part: GresShare) {
    if part.amount() == 0 {
        return;
    }
    match taken.iter_mut().find(|other| same_pool(other, &part) && !part.is_shards()) {
        Some(other) => {
            let mut indices: Vec<u32> = other.indices.iter().chain(part.indices.iter()).collect();
            indices.sort_unstable();
            other.indices = CpuIds::from_ranges(indices.into_iter().map(|index| (index, index)).collect());
            other.slices.extend(part.slices);
            other.count += part.count;
        }
        None => taken.push(part),
    }
}

/// What is left of shares beside others.
pub(super) fn without(shares: &mut [GresShare], others: &[GresShare]) {
    for left in shares {
        for other in others.iter().filter(|other| same_pool(other, left)).collect::<Vec<_>>() {
            left.indices = left.indices.without(&other.indices);
            if left.is_shards() {
                take_shards(left, other);
                continue;
            }
            left.slices.retain(|slice| !other.slices.contains(slice));
            left.count = left.count.saturating_sub(other.count);
        }
    }
}

/// Whether two shares are of the same devices: of one kind, and both of units or both of slices that were made.
fn same_pool(one: &GresShare, other: &GresShare) -> bool {
    one.kind == other.kind
        && (one.count == 0 && !one.slices.is_empty()) == (other.count == 0 && !other.slices.is_empty())
}

/// Takes the shards that another step has of each GPU.
fn take_shards(left: &mut GresShare, other: &GresShare) {
    for slice in &mut left.slices {
        let of_gpu = other.slices.iter().filter(|one| one.gpu == slice.gpu);
        slice.size = of_gpu.fold(slice.size, |size, one| size.saturating_sub(one.size));
    }
    left.slices.retain(|slice| slice.size > 0);
    left.count = left.slices.iter().map(|slice| u64::from(slice.size)).sum();
}

/// At most so many shards of a share, GPU by GPU.
fn some_shards(of: &GresShare, wanted: u64) -> GresShare {
    let mut part = GresShare { kind: of.kind, ..GresShare::default() };
    for slice in &of.slices {
        let size = u64::from(slice.size).min(wanted - part.count);
        if size > 0 {
            part.count += size;
            part.slices.push(Slice { size: u8::try_from(size).unwrap_or(slice.size), ..slice.clone() });
        }
    }
    part
}

/// As much of a share as answers a request, at most `wanted`; `None`: it is of something else.
fn part(of: &GresShare, offered: &NodeDefinition, asked: &GresRequest, wanted: u64) -> Option<GresShare> {
    let kind = offered.gres.get(of.kind as usize).filter(|kind| kind.name == asked.name)?;
    let answers = |kind: &str| asked.kind.as_deref().is_none_or(|asked| kind_answers(asked, kind));
    let most = usize::try_from(wanted).unwrap_or(usize::MAX);
    if of.is_cut() {
        let full =
            |slice: &&Slice| answers(&slice.profile) || answers(&format!("{}_{}", kind.kind, slice.profile));
        let slices: Vec<Slice> = of.slices.iter().filter(full).take(most).cloned().collect();
        return (!slices.is_empty()).then(|| GresShare { kind: of.kind, slices, ..GresShare::default() });
    }
    if !answers(&kind.kind) {
        return None;
    }
    if of.is_shards() {
        return Some(some_shards(of, wanted));
    }
    let mut part = GresShare { kind: of.kind, count: of.count.min(wanted), ..GresShare::default() };
    of.indices.iter().take(most).for_each(|index| part.indices.push(index));
    part.slices.extend(of.slices.iter().take(part.indices.len() as usize).cloned());
    Some(part)
}
