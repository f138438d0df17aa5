//! Steps of `srun` in a running job: which part of the allocation, which rank where.
//!
//! Steps do not share CPUs, memory or devices unless they ask to (`--overlap`); the batch step shares
//! with all. Without room the caller is told to wait, without ever having had room it is refused.

use std::sync::Arc;

use model::id::{Hook, JobId, NodeIdx, StepId};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::refusal::Refusal;
use model::request::MemoryRequest;

use crate::allocation::{Allocation, CpuIds, GresShare, NodeShare};
use crate::authorise::{self, Act};
use crate::effect::{Answer, Asker, Effect, ReplyTo, RunKey};
use crate::input::StepRequest;
use crate::machine::Call;
use crate::record::Record;
use crate::state::State;
use crate::state::job::{Active, Job, Phase, RunStage, Step, StepNode, StepSpec, Usage};

mod devices;

/// What is left on one node of the allocation.
struct Room {
    share: NodeShare,
    cpus: Vec<u32>,
    free_cpus: u32,
    memory: MemoryMib,
    gres: Vec<GresShare>,
}

enum Why {
    Wait,
    Never(Refusal),
}

impl Call<'_> {
    /// Makes a step, or says why not.
    pub(crate) fn create_step(&mut self, reply: ReplyTo, id: JobId, request: &StepRequest, asker: &Asker) {
        let (state, settings) = (self.state(), self.settings());
        let Some(job) = state.jobs.get(&id) else { return self.refuse(reply, Refusal::InvalidJobId) };
        if let Err(refusal) = authorise::may(state, settings, asker, Act::UseAllocation, Some(job)) {
            return self.refuse(reply, refusal);
        }
        let active = match &job.phase {
            Phase::Pending(_) => return self.refuse(reply, Refusal::JobPending),
            Phase::Ended(_) => return self.refuse(reply, Refusal::AlreadyDone),
            Phase::Active(active) if active.finish.is_some() => {
                return self.refuse(reply, Refusal::AlreadyDone);
            }
            Phase::Active(active) => active,
        };
        if active.step(StepId::Hook(Hook::ControllerProlog)).is_some_and(|step| !step.is_over()) {
            return self.answer(reply, Answer::StepMustWait);
        }
        let run = job.run;
        if let Some(step) = repeated(active, request) {
            let spec = step.spec.as_ref().expect("a step with a key has a spec");
            let (step, allocation, ranks) = (step.id, Arc::clone(&step.allocation), spec.ranks.clone());
            return self.answer(reply, Answer::StepCreated { step, allocation, ranks, run });
        }
        let (allocation, spec) = match lay_out(state, job, active, request, self.settings().pack_nodes) {
            Ok(found) => found,
            Err(Why::Wait) => return self.answer(reply, Answer::StepMustWait),
            Err(Why::Never(refusal)) => return self.refuse(reply, refusal),
        };
        let step = StepId::Number(active.next_step);
        let ranks = spec.ranks.clone();
        let nodes: Vec<NodeIdx> = allocation.iter().map(|share| share.node).collect();
        let record = Step {
            id: step,
            spec: Some(Arc::new(spec)),
            start: self.now,
            allocation: Arc::clone(&allocation),
            nodes: nodes.iter().map(|&node| StepNode { node, stage: RunStage::Ordered }).collect(),
            end: None,
            state: JobState::Running,
            exit: model::exit::ExitStatus::SUCCESS,
            by: None,
            stop: None,
            usage: Usage::default(),
            held: Vec::new(),
        };
        self.emit(Record::StepCreated { job: id, step: Arc::new(record) });
        for node in nodes {
            self.effect(Effect::Launch { node, run: RunKey { job: id, step, run } });
        }
        self.answer(reply, Answer::StepCreated { step, allocation, ranks, run });
    }
}

fn repeated<'a>(active: &'a Active, request: &StepRequest) -> Option<&'a Step> {
    let key = request.key?;
    let mut steps = active.steps.iter().map(Arc::as_ref);
    steps.find(|step: &&Step| step.spec.as_ref().is_some_and(|spec| spec.key == Some(key)))
}

fn lay_out(
    state: &State,
    job: &Job,
    active: &Active,
    request: &StepRequest,
    pack_by_default: bool,
) -> Result<(Allocation, StepSpec), Why> {
    let named = eligible_nodes(state, active, request)?;
    let cpus_per_task = request.cpus_per_task.unwrap_or(1).max(1);
    let wanted =
        request.ntasks.or_else(|| request.ntasks_per_node.map(|each| each * node_count(request, &named)));
    let tasks = wanted.unwrap_or_else(|| node_count(request, &named)).max(1);
    let overlap = request.overlap;
    let whole: Vec<Room> = named.iter().map(|share| room(share, None)).collect();
    let free: Vec<Room> =
        named.iter().map(|share| room(share, (!overlap).then_some(&active.steps))).collect();
    let order = arbitrary(state, &named, request, tasks);
    let place = |rooms: &[Room]| match &order {
        Some(order) => counts_of(rooms, request, order, cpus_per_task),
        None => choose(rooms, request, tasks, cpus_per_task, pack_by_default),
    };
    let Some(counts) = place(&free) else {
        return match place(&whole) {
            Some(_) => Err(Why::Wait),
            None => Err(Why::Never(Refusal::TooManyCpus)),
        };
    };
    // Without a word for less, a step has all CPUs and memory of the job on its nodes, so that a second one waits.
    // Source: `man srun` (--exact), and Slurm 26.05 beside ours.
    let counted = request.exact || request.exclusive || request.cpus_per_task.is_some();
    let exact = counted && !request.whole;
    let used: Vec<(&Room, u32)> =
        free.iter().zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
    let devices = devices::of_step(state, request, &used)?;
    let mut shares = Vec::new();
    for (&(room, count), gres) in used.iter().zip(devices) {
        let share = take(job, room, request, count, cpus_per_task, exact)?;
        shares.push(NodeShare { gres, ..share });
    }
    let ranks = match &order {
        Some(order) => ranks_of(&counts, order),
        None => {
            let counts: Vec<u32> = counts.into_iter().filter(|count| *count > 0).collect();
            rank_layout(&counts, request.distribution.as_deref())
        }
    };
    let spec = StepSpec {
        name: request.name.clone(),
        tasks,
        cpus_per_task,
        overlap,
        limit: request.limit,
        distribution: request.distribution.clone(),
        work_dir: request.work_dir.clone(),
        submit_line: request.submit_line.clone(),
        launch: request.launch,
        key: request.key,
        ranks,
    };
    Ok((shares.into(), spec))
}

fn node_count(request: &StepRequest, named: &[NodeShare]) -> u32 {
    let all = u32::try_from(named.len()).expect("an allocation's nodes are counted in 32 bits");
    request.nodes.map_or(all, |(least, _)| least.max(1))
}

fn eligible_nodes(state: &State, active: &Active, request: &StepRequest) -> Result<Vec<NodeShare>, Why> {
    let names = |list: &Option<Box<str>>| -> Result<Vec<String>, Why> {
        let Some(text) = list else { return Ok(Vec::new()) };
        model::hostlist::expand(text).map_err(|_| Why::Never(Refusal::InvalidNodeName))
    };
    let (only, without) = (names(&request.nodelist)?, names(&request.exclude)?);
    let shares = active.allocation.iter().skip(request.relative.unwrap_or(0) as usize);
    let chosen: Vec<NodeShare> = shares
        .filter(|share| {
            let name = &*state.node(share.node).definition.name;
            (only.is_empty() || only.iter().any(|one| one == name)) && !without.iter().any(|one| one == name)
        })
        .cloned()
        .collect();
    let least = request.nodes.map_or(1, |(least, _)| least.max(1)) as usize;
    if chosen.len() < least {
        return Err(Why::Never(Refusal::NodeConfigUnavailable));
    }
    Ok(chosen)
}

/// What is left of a share beside the given steps.
fn room(share: &NodeShare, steps: Option<&Vec<Arc<Step>>>) -> Room {
    let mut cpus: Vec<u32> = share.cpu_ids.iter().collect();
    let mut free_cpus = share.cpus.0;
    let mut memory = share.memory;
    let mut gres = share.gres.clone();
    let holding = steps
        .into_iter()
        .flatten()
        .filter(|step| !step.is_over() && step.spec.as_ref().is_some_and(|spec| !spec.overlap));
    for held in holding.flat_map(|step| step.allocation.iter()).filter(|held| held.node == share.node) {
        cpus.retain(|cpu| !held.cpu_ids.iter().any(|other| other == *cpu));
        free_cpus = free_cpus.saturating_sub(held.cpus.0);
        memory = memory.saturating_sub(held.memory);
        devices::without(&mut gres, &held.gres);
    }
    Room { share: share.clone(), cpus, free_cpus, memory, gres }
}

/// How many tasks on each node; `None` if they do not fit.
///
/// In blocks the numbers are those of dealing the tasks out in turn, as Slurm's; packed, one node is filled after the
/// other. Source: `man srun` (distribution), task_layout.
fn choose(
    rooms: &[Room],
    request: &StepRequest,
    tasks: u32,
    cpus_per_task: u32,
    pack_by_default: bool,
) -> Option<Vec<u32>> {
    let capacity = |room: &Room| {
        let by_cpu = if request.overcommit { tasks } else { room.free_cpus / cpus_per_task };
        by_cpu.min(request.ntasks_per_node.unwrap_or(u32::MAX)).min(tasks)
    };
    let fits: Vec<u32> = rooms.iter().map(capacity).collect();
    let usable = fits.iter().filter(|count| **count > 0).count();
    let explicit = request.nodes.map(|(least, _)| least.max(1) as usize);
    let most = match request.nodes {
        Some((_, Some(most))) => most as usize,
        Some((least, None)) => least.max(1) as usize,
        None => usable.min(tasks as usize),
    };
    let spread = explicit.unwrap_or(most).min(tasks as usize);
    let mut counts = vec![0; rooms.len()];
    let mut left = tasks;
    let chosen: Vec<usize> = (0..rooms.len()).filter(|&place| fits[place] > 0).take(spread.max(1)).collect();
    if chosen.len() < spread.max(1) {
        return None;
    }
    let distribution = request.distribution.as_deref();
    let pack = packs(distribution).unwrap_or(pack_by_default);
    let turn = turn_size(distribution).or((!pack).then_some(1));
    // Every chosen node gets a task, unless planes are dealt out whole.
    if turn.is_none_or(|size| size == 1) {
        for &place in &chosen {
            counts[place] = 1;
            left = left.checked_sub(1)?;
        }
    }
    while left > 0 {
        let mut moved = false;
        for &place in &chosen {
            let more = fits[place] - counts[place];
            let add = more.min(turn.unwrap_or(u32::MAX)).min(left);
            counts[place] += add;
            left -= add;
            moved |= add > 0;
            if left == 0 {
                break;
            }
        }
        if !moved {
            return None;
        }
    }
    Some(counts)
}

/// CPUs and memory of the step on one node.
fn take(
    job: &Job,
    room: &Room,
    request: &StepRequest,
    tasks: u32,
    cpus_per_task: u32,
    exact: bool,
) -> Result<NodeShare, Why> {
    let needed = tasks.saturating_mul(cpus_per_task);
    let cpus = if exact { needed.min(room.free_cpus) } else { room.free_cpus };
    let mut ids: Vec<u32> = room.cpus.iter().copied().take(cpus as usize).collect();
    ids.sort_unstable();
    let cpu_ids = CpuIds::from_ranges(ids.into_iter().map(|id| (id, id)).collect());
    let wanted = match (request.memory_per_node, request.memory_per_cpu, job.memory) {
        (Some(memory), _, _) => Some(memory),
        (None, Some(each), _) | (None, None, Some(MemoryRequest::PerCpu(each))) => {
            Some(each.saturating_mul(u64::from(cpus)))
        }
        (None, None, Some(MemoryRequest::PerNode(_) | MemoryRequest::PerGpu(_)) | None) => None,
    };
    let memory = wanted.unwrap_or(room.share.memory).min(room.share.memory);
    if wanted.is_some_and(|memory| memory > room.share.memory) {
        return Err(Why::Never(Refusal::MemoryUnavailable));
    }
    if memory > room.memory {
        return Err(Why::Wait);
    }
    Ok(NodeShare {
        node: room.share.node,
        cpus: Cpus(cpus),
        cpu_ids,
        memory,
        gres: Vec::new(),
        tasks,
        shared: room.share.shared,
    })
}

/// How many ranks a node gets in its turn; `None`: as many as fit.
fn turn_size(distribution: Option<&str>) -> Option<u32> {
    let word = distribution.unwrap_or("block").split([':', ',']).next().unwrap_or("block");
    match word.split_once('=') {
        Some(("plane", size)) => Some(size.parse().unwrap_or(1).max(1)),
        _ if word == "cyclic" => Some(1),
        _ => None,
    }
}

/// `Pack` or `NoPack` at the end of a distribution; `None`: neither.
fn packs(distribution: Option<&str>) -> Option<bool> {
    distribution?.split(',').skip(1).find_map(|word| match word.trim().to_ascii_lowercase().as_str() {
        "pack" => Some(true),
        "nopack" => Some(false),
        _ => None,
    })
}

/// The node of each rank (its place among `named`) where `-m arbitrary` names one for every task.
fn arbitrary(state: &State, named: &[NodeShare], request: &StepRequest, tasks: u32) -> Option<Vec<usize>> {
    if !request.distribution.as_deref()?.to_ascii_lowercase().starts_with("arbitrary") {
        return None;
    }
    let names = model::hostlist::expand(request.nodelist.as_deref()?).ok()?;
    if names.len() != tasks as usize {
        return None;
    }
    let place =
        |name: &String| named.iter().position(|share| *state.node(share.node).definition.name == **name);
    names.iter().map(place).collect()
}

/// Tasks on each node of an arbitrary order; `None` if they do not fit.
///
/// All CPUs together have to do: the allocation may have spread them otherwise than the order asks, and then
/// tasks of a node share its CPUs.
fn counts_of(rooms: &[Room], request: &StepRequest, order: &[usize], cpus_per_task: u32) -> Option<Vec<u32>> {
    let mut counts = vec![0_u32; rooms.len()];
    order.iter().for_each(|&place| counts[place] += 1);
    let free: u64 = rooms.iter().map(|room| u64::from(room.free_cpus)).sum();
    let needed = u64::from(cpus_per_task) * order.len() as u64;
    (request.overcommit || needed <= free).then_some(counts)
}

/// The ranks of each node that has some, in an arbitrary order.
fn ranks_of(counts: &[u32], order: &[usize]) -> Vec<Vec<u32>> {
    let used = (0..counts.len()).filter(|&place| counts[place] > 0);
    let ranks =
        |place: usize| (0_u32..).zip(order).filter(|(_, at)| **at == place).map(|(rank, _)| rank).collect();
    used.map(ranks).collect()
}

/// Which ranks run on which node.
fn rank_layout(counts: &[u32], distribution: Option<&str>) -> Vec<Vec<u32>> {
    let size = turn_size(distribution).unwrap_or(u32::MAX);
    let mut ranks: Vec<Vec<u32>> = vec![Vec::new(); counts.len()];
    let total: u32 = counts.iter().sum();
    let mut next = 0;
    while next < total {
        for (list, &count) in ranks.iter_mut().zip(counts) {
            let held = u32::try_from(list.len()).expect("ranks are counted in 32 bits");
            let more = (count - held).min(size);
            list.extend(next..next + more);
            next += more;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_where_the_distribution_says() {
        assert_eq!(rank_layout(&[3, 1], None), [vec![0, 1, 2], vec![3]]);
        assert_eq!(rank_layout(&[3, 1], Some("cyclic")), [vec![0, 2, 3], vec![1]]);
        assert_eq!(rank_layout(&[5, 3], Some("plane=3")), [vec![0, 1, 2, 6, 7], vec![3, 4, 5]]);
        assert_eq!(ranks_of(&[1, 2], &[1, 0, 1]), [vec![1], vec![0, 2]]);
    }
}
