//! How much of a demand one node can take: counts only, no ids.
//!
//! The same functions judge what is free now, what will be free at some instant of the future, and an
//! empty machine: they see a node's definition and the amounts that are free on it.

use super::demand::{Demand, GresNeed, MemoryNeed, Share};
use super::kept::Reach;
use super::pack::{self, Devices};
use crate::gpu::inventory::{Inventory, is_slice, kind_answers};
use crate::gpu::policy::Rule;
use crate::gpu::slice_set::SliceSet;
use crate::state::node::NodeDefinition;

/// What is free on a node at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free<'a> {
    /// CPUs.
    pub(crate) cpus: u32,
    /// Memory, MiB.
    pub(crate) memory: u64,
    /// Devices by kind, in the order of the definition.
    pub(crate) gres: &'a [u64],
    /// No job holds any of it.
    pub(crate) idle: bool,
    /// Free units (cores, or CPUs where they are the unit) of each socket; empty: not known.
    pub(crate) sockets: &'a [u32],
    /// Memory slices of dynamic GPUs.
    pub(crate) slices: SliceSet,
    /// The GPUs of the node, where they are observed.
    pub(crate) inventory: Option<&'a Inventory>,
    /// How starts on dynamic GPUs are chosen.
    pub(crate) rule: Option<&'a Rule>,
    /// How many CPUs a job could have, where some are kept for jobs with GPUs.
    pub(crate) reach: Option<Reach>,
}

impl<'a> Free<'a> {
    /// Devices alone.
    pub(crate) fn devices(&self, offered: &'a NodeDefinition) -> Devices<'a> {
        let Self { gres: counts, slices, inventory, rule, .. } = *self;
        Devices { offered, counts, inventory, slices, rule }
    }
}

/// What a job takes of a node if so many of its tasks go there; devices for the whole job apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// CPUs.
    pub(crate) cpus: u32,
    /// Memory, MiB.
    pub(crate) memory: u64,
}

/// CPUs that are given together: the threads of a core where cores are allocated whole.
pub(crate) fn cpu_unit(whole_cores: bool, node: &NodeDefinition) -> u32 {
    let threads = node.threads_per_core.max(1);
    let all = node.sockets.saturating_mul(node.cores_per_socket).saturating_mul(threads);
    if whole_cores && all == node.cpus.0 { threads } else { 1 }
}

/// Whether the node's make alone allows the demand: sockets, scratch space, sizes. Features apart.
pub(crate) fn shape_fits(demand: &Demand, node: &NodeDefinition) -> bool {
    let [sockets, cores, threads] = demand.shape;
    node.sockets >= sockets
        && node.cores_per_socket >= cores
        && node.threads_per_core >= threads
        && (demand.tmp_mib == 0 || node.tmp_disk.0 >= demand.tmp_mib)
}

/// CPUs that `tasks` tasks take of the node.
pub(crate) fn cpus_for(demand: &Demand, whole_cores: bool, node: &NodeDefinition, tasks: u32) -> u32 {
    if demand.share == Share::Whole {
        return node.cpus.0;
    }
    let tasks = demand.held_for(tasks);
    let threads = node.threads_per_core.max(1);
    let mut cpus = if demand.overcommit { 1 } else { tasks.saturating_mul(demand.cpus_per_task) };
    if demand.one_thread {
        cpus = cpus.saturating_mul(threads);
    }
    if demand.tasks_per_core < threads {
        // A task that has its core for itself has all its cores so.
        let cores = if demand.tasks_per_core == 1 { demand.cpus_per_task.div_ceil(threads) } else { 1 };
        let of_tasks = tasks.div_ceil(demand.tasks_per_core).saturating_mul(cores);
        cpus = cpus.max(of_tasks.saturating_mul(threads));
    }
    let unit = cpu_unit(whole_cores, node);
    cpus.max(demand.cpus_per_task).div_ceil(unit).saturating_mul(unit)
}

/// CPUs that come with so many GPUs.
fn cpus_of_gpus(demand: &Demand, whole_cores: bool, node: &NodeDefinition, gpus: u64) -> u32 {
    if demand.cpus_per_gpu == 0 || demand.share == Share::Whole {
        return 0;
    }
    let unit = cpu_unit(whole_cores, node);
    let cpus = u64::from(demand.cpus_per_gpu).saturating_mul(gpus);
    u32::try_from(cpus).unwrap_or(u32::MAX / 2).div_ceil(unit).saturating_mul(unit)
}

/// Free CPUs on sockets that may be used, and the most tasks that they hold; all that is free where sockets
/// do not matter or are not known.
fn of_sockets(demand: &Demand, whole_cores: bool, node: &NodeDefinition, free: Free<'_>) -> (u32, u32) {
    if free.sockets.is_empty() || !demand.is_by_socket() {
        let all = demand.tasks_per_socket.saturating_mul(node.sockets.max(1));
        return (free.cpus, all);
    }
    let unit = cpu_unit(whole_cores, node);
    let threads = if demand.one_thread { node.threads_per_core.max(1) } else { 1 };
    let least = demand.shape[1].max(1).saturating_mul(node.threads_per_core.max(1));
    let usable = || free.sockets.iter().map(|units| units * unit).filter(|cpus| *cpus >= least);
    if usable().count() < demand.shape[0] as usize {
        return (0, 0);
    }
    let each = demand.cpus_per_task.saturating_mul(threads);
    let tasks = match demand.tasks_per_socket {
        // A task may lie on two sockets where nothing binds it to one.
        u32::MAX => u32::MAX,
        most => usable().map(|cpus| most.min(cpus / each)).fold(0, u32::saturating_add),
    };
    (usable().fold(0, u32::saturating_add).min(free.cpus), tasks)
}

/// CPUs and memory that `tasks` tasks with `gpus` GPUs take of the node.
pub(crate) fn cost(demand: &Demand, whole_cores: bool, node: &NodeDefinition, tasks: u32, gpus: u64) -> Cost {
    let cpus = cpus_for(demand, whole_cores, node, tasks).max(cpus_of_gpus(demand, whole_cores, node, gpus));
    // Threads that stay without a task come without memory.
    let threads = if demand.one_thread { node.threads_per_core.max(1) } else { 1 };
    let with_memory = u64::from(cpus / threads).max(1);
    let memory = match demand.memory {
        MemoryNeed::Uncounted => 0,
        MemoryNeed::Whole => node.memory.0,
        MemoryNeed::PerNode(mib) => mib,
        MemoryNeed::PerCpu(mib) if demand.share == Share::Whole => {
            mib.saturating_mul(with_memory).min(node.memory.0)
        }
        MemoryNeed::PerCpu(mib) => mib.saturating_mul(with_memory),
        MemoryNeed::PerGpu(mib) => mib.saturating_mul(gpus),
    };
    Cost { cpus, memory }
}

/// Whether a kind of a node answers a need.
pub(crate) fn answers(need: &GresNeed, name: &str, kind: &str) -> bool {
    *need.name == *name && need.kind.as_deref().is_none_or(|wanted| kind_answers(wanted, kind))
}

/// How many devices are free that answer a need.
pub(crate) fn free_gres(need: &GresNeed, node: &NodeDefinition, free: &[u64]) -> u64 {
    let kinds = node.gres.iter().zip(free);
    kinds.filter(|(gres, _)| answers(need, &gres.name, &gres.kind)).map(|(_, count)| *count).sum()
}

/// How many devices or slices a node could give for a need, at most as many as it asks for.
pub(crate) fn gres_room(need: &GresNeed, node: &NodeDefinition, free: Free<'_>) -> u64 {
    if is_cut(need) {
        pack::room(need, need.count, &[], &free.devices(node))
    } else {
        free_gres(need, node, free.gres).min(need.count)
    }
}

/// Whether slices may have to be made for a need: then counts do not decide.
pub(crate) fn is_cut(need: &GresNeed) -> bool {
    &*need.name == "gpu" && need.kind.as_deref().is_some_and(is_slice)
}

/// The devices for each node and for `tasks` tasks.
pub(crate) fn needs_of(demand: &Demand, tasks: u32) -> Vec<(&GresNeed, u64)> {
    let per_node = demand.gres_per_node.iter().map(|need| (need, need.count));
    let tasks = u64::from(tasks);
    per_node.chain(demand.gres_per_task.iter().map(|need| (need, need.count.saturating_mul(tasks)))).collect()
}

/// GPUs that come with `tasks` tasks on a node by the needs for each node and task.
pub(crate) fn gpus_of(demand: &Demand, tasks: u32) -> u64 {
    let sum = |needs: &[GresNeed]| -> u64 {
        needs.iter().filter(|need| &*need.name == "gpu").map(|need| need.count).sum()
    };
    sum(&demand.gres_per_node) + sum(&demand.gres_per_task).saturating_mul(u64::from(tasks))
}

/// GPUs, slices and shards that `tasks` tasks on a node could have at most, those for the whole job included.
fn parts_of(demand: &Demand, tasks: u32) -> u64 {
    let sum = |needs: &[GresNeed]| -> u64 {
        let of_gpus = |need: &&GresNeed| matches!(&*need.name, "gpu" | "shard");
        needs.iter().filter(of_gpus).map(|need| need.count).fold(0, u64::saturating_add)
    };
    let of_tasks = sum(&demand.gres_per_task).saturating_mul(u64::from(tasks));
    sum(&demand.gres_per_node).saturating_add(of_tasks).saturating_add(sum(&demand.gres_per_job))
}

/// Whether the devices for each node and for `tasks` tasks are free.
///
/// Exact: needs by type are disjoint, and those without a type contain them, so that comparing each
/// need and the sum by name decides.
fn gres_fit(demand: &Demand, node: &NodeDefinition, free: Free<'_>, tasks: u32) -> bool {
    if demand.gres_per_node.iter().chain(&demand.gres_per_task).any(is_cut) {
        return pack::pick(&needs_of(demand, tasks), &free.devices(node)).is_some();
    }
    let free = free.gres;
    let all = || {
        let per_node = demand.gres_per_node.iter().map(|need| (need, 1));
        per_node.chain(demand.gres_per_task.iter().map(|need| (need, u64::from(tasks))))
    };
    all().all(|(need, _)| {
        let of_kind: u64 = all()
            .filter(|(other, _)| other.name == need.name && other.kind == need.kind)
            .map(|(other, times)| other.count.saturating_mul(times))
            .sum();
        let of_name: u64 = all()
            .filter(|(other, _)| other.name == need.name)
            .map(|(other, times)| other.count.saturating_mul(times))
            .sum();
        let any = GresNeed { name: need.name.clone(), kind: None, count: 0 };
        free_gres(need, node, free) >= of_kind && free_gres(&any, node, free) >= of_name
    })
}

/// The most tasks of the job that the node can take; 0: not even one.
///
/// Features and node lists are not looked at. Cost: O(log tasks) cost computations.
pub(crate) fn room(demand: &Demand, whole_cores: bool, node: &NodeDefinition, free: Free<'_>) -> u32 {
    if demand.share == Share::Whole && !free.idle {
        return 0;
    }
    if demand.memory == MemoryNeed::Whole && free.memory < node.memory.0 {
        return 0;
    }
    let (free_cpus, tasks_on_sockets) = of_sockets(demand, whole_cores, node, free);
    if free_cpus.min(demand.max_cpus_per_node) < demand.min_cpus {
        return 0;
    }
    let fits = |tasks: u32| {
        let mut gpus = gpus_of(demand, tasks);
        if gpus == 0 && !demand.gres_per_job.is_empty() {
            gpus = 1;
        }
        let cost = cost(demand, whole_cores, node, tasks, gpus);
        let reach = free.reach.map_or(u32::MAX, |reach| reach.with(parts_of(demand, tasks)));
        cost.cpus <= free_cpus.min(demand.max_cpus_per_node).min(reach)
            && cost.memory <= free.memory
            && ((demand.gres_per_node.is_empty() && demand.gres_per_task.is_empty())
                || gres_fit(demand, node, free, tasks))
    };
    if !fits(1) {
        return 0;
    }
    let by_cpus = if demand.overcommit {
        demand.tasks
    } else if demand.share == Share::Whole {
        node.cpus.0 / demand.cpus_per_task
    } else {
        free_cpus / demand.cpus_per_task
    };
    let cores = node.cpus.0 / node.threads_per_core.max(1);
    let most = by_cpus.min(tasks_on_sockets).min(demand.tasks_per_core.saturating_mul(cores));
    if most < demand.held_for(1) {
        return 0;
    }
    let most = most.min(demand.tasks_per_node);
    let most = if demand.tasks_given { most.min(demand.tasks) } else { most };
    if most <= 1 || fits(most) {
        return most.min(1).max(most);
    }
    // The cost grows with the tasks: find the last number that fits.
    let (mut fitting, mut failing) = (1, most);
    while failing - fitting > 1 {
        let middle = fitting + (failing - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            failing = middle;
        }
    }
    fitting
}
