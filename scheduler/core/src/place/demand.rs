//! What a job needs of nodes, after Slurm's defaults: the form that placement and planning work on.
//!
//! Owns the step from a request (options as typed) to numbers. Two jobs with equal demands are placed
//! alike, so the planner examines them once. Knows nothing of what is free.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use model::gres::GresRequest;
use model::id::{NodeIdx, PartitionIdx, Uid};
use model::request::{MemoryRequest, Sharing};
use model::time::Span;

use super::feature::Constraint;
use crate::gpu::shards::Dealing;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;
use crate::state::partition::{OverSubscribe, Partition};

/// How much memory, and per what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemoryNeed {
    /// Memory is not counted.
    Uncounted,
    /// All of each node's.
    Whole,
    /// So many MiB on each node.
    PerNode(u64),
    /// So many MiB for each allocated CPU.
    PerCpu(u64),
    /// So many MiB for each allocated GPU.
    PerGpu(u64),
}

/// How a node is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Share {
    /// With any job.
    Any,
    /// With any job that shares too: so many jobs may hold one CPU.
    Layers(u32),
    /// With jobs of this user only.
    User(Uid),
    /// With none: all CPUs are taken.
    Whole,
}

/// What CPUs near devices are to a job (`--gres-flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Binding {
    /// They are preferred.
    #[default]
    Preferred,
    /// No others will do.
    Enforced,
    /// They are as good as others.
    Disabled,
}

/// Whether `--gres-flags` has that word.
fn has_flag(flags: Option<&str>, wanted: &str) -> bool {
    flags.is_some_and(|list| list.split(',').any(|word| word.trim().eq_ignore_ascii_case(wanted)))
}

/// Which GPUs shards come from. Only tasks that ask for their own shards are kept apart. Source: `man sbatch`
/// (one-task-per-sharing), `man slurm.conf` (ONE_TASK_PER_SHARING_GRES).
fn dealing(settings: &Settings, flags: Option<&str>, per_task: &[GresNeed]) -> Dealing {
    let apart = has_flag(flags, "one-task-per-sharing")
        || settings.one_task_per_sharing && !has_flag(flags, "multiple-tasks-per-sharing");
    let own = per_task.iter().find(|need| apart && &*need.name == "shard");
    Dealing { several: settings.shards_of_several, each_task: own.map_or(0, |need| need.count) }
}

impl Binding {
    fn of(settings: &Settings, flags: Option<&str>) -> Self {
        let has = |wanted: &str| has_flag(flags, wanted);
        match () {
            () if has("disable-binding") => Self::Disabled,
            () if has("enforce-binding") || settings.enforce_binding => Self::Enforced,
            () => Self::Preferred,
        }
    }
}

/// How tasks are dealt out to nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Across {
    /// As many as fit on each node, one kept for each that follows.
    Block,
    /// One on each node in turn.
    Cyclic,
    /// So many on each node in turn.
    Plane(u32),
    /// As the list of nodes repeats them.
    Arbitrary(Vec<(NodeIdx, u32)>),
}

/// Devices of one name, of one type or of any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GresNeed {
    /// `gpu`.
    pub(crate) name: Box<str>,
    /// `a100`; `None`: any.
    pub(crate) kind: Option<Box<str>>,
    /// How many.
    pub(crate) count: u64,
}

/// What a job needs. Demands that differ in memory alone share the rest ([`Demand::share`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    /// Memory.
    pub(crate) memory: MemoryNeed,
    rest: Arc<Rest>,
}

/// What a job needs beside memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rest {
    /// Fewest nodes.
    pub(crate) min_nodes: u32,
    /// Most nodes.
    pub(crate) max_nodes: u32,
    /// So many nodes rather than the fewest, where they are free: the most of a range of nodes. 0: the fewest.
    pub(crate) wide: u32,
    /// Tasks in all.
    pub(crate) tasks: u32,
    /// Whether `tasks` was asked for (else one on each node, or as many as CPUs on whole nodes).
    pub(crate) tasks_given: bool,
    /// CPUs of each task.
    pub(crate) cpus_per_task: u32,
    /// CPUs that must be free on each node, taken or not (`--mincpus`).
    pub(crate) min_cpus: u32,
    /// Most tasks on a node.
    pub(crate) tasks_per_node: u32,
    /// Most tasks on a socket.
    pub(crate) tasks_per_socket: u32,
    /// Most tasks on a core.
    pub(crate) tasks_per_core: u32,
    /// All tasks of a node share its CPUs.
    pub(crate) overcommit: bool,
    /// Each CPU is a whole core (`--hint=nomultithread`, `--threads-per-core=1`).
    pub(crate) one_thread: bool,
    /// Devices on each node.
    pub(crate) gres_per_node: Vec<GresNeed>,
    /// Devices for each task.
    pub(crate) gres_per_task: Vec<GresNeed>,
    /// Devices for the whole job.
    pub(crate) gres_per_job: Vec<GresNeed>,
    /// What CPUs near them are to it.
    pub(crate) binding: Binding,
    /// Which GPUs of a node its shards come from.
    pub(crate) dealing: Dealing,
    /// Some nodes keep cores for jobs with GPUs.
    pub(crate) keeps: bool,
    /// Least sockets, cores a socket, threads a core, scratch space of a node.
    pub(crate) shape: [u32; 3],
    /// Scratch space, MiB.
    pub(crate) tmp_mib: u64,
    /// Features.
    pub(crate) constraint: Option<Constraint>,
    /// Nodes that must be in it, ascending.
    pub(crate) required: Vec<NodeIdx>,
    /// Nodes that must not, ascending.
    pub(crate) excluded: Vec<NodeIdx>,
    /// Sharing of nodes.
    pub(crate) share: Share,
    /// Nodes beside each other only.
    pub(crate) contiguous: bool,
    /// As many nodes as may be.
    pub(crate) spread: bool,
    /// Sockets give their cores as they fit best, instead of in turn.
    pub(crate) block: bool,
    /// How tasks are dealt out to the chosen nodes.
    pub(crate) across: Across,
    /// Most leaf switches; `None`: any number, or it has waited long enough for them.
    pub(crate) switches: Option<u32>,
    /// So many nodes at a time are in one block; the rest of the job may be anywhere (topology/block).
    pub(crate) segment: Option<u32>,
    /// CPUs that come with each GPU.
    pub(crate) cpus_per_gpu: u32,
    /// Most CPUs on one node, by the partition.
    pub(crate) max_cpus_per_node: u32,
    /// The reservation whose nodes it takes, while that is in force.
    pub(crate) reservation: Option<Box<str>>,
}

impl Deref for Demand {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl Demand {
    /// A demand that differs.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Rest)) -> Self {
        let mut rest = Rest::clone(&self.rest);
        change(&mut rest);
        Self { memory: self.memory, rest: Arc::new(rest) }
    }

    /// Keeps what does not tell the demand from one of the known ones only once. Cost: O(log known).
    pub(crate) fn share(&mut self, known: &mut BTreeSet<Arc<Rest>>) {
        if let Some(same) = known.get(&self.rest) {
            self.rest = Arc::clone(same);
        } else {
            known.insert(Arc::clone(&self.rest));
        }
    }

    /// How many jobs may hold a CPU that this one holds; 1: it alone.
    pub(crate) fn layers(&self) -> u32 {
        match self.share {
            Share::Layers(jobs) => jobs,
            Share::Any | Share::User(_) | Share::Whole => 1,
        }
    }

    /// Whether more must be known of a node than amounts before the job can start on it: on which sockets cores
    /// are free, or which CPUs have a holder less than may be.
    pub(crate) fn looks_at_ids(&self) -> bool {
        self.is_by_socket() || self.layers() > 1 || self.insists_on_cpus()
    }

    /// Whether only certain CPUs of a node will do: those near its devices, or those that are not kept for others.
    pub(crate) fn insists_on_cpus(&self) -> bool {
        self.keeps || (self.binding == Binding::Enforced && self.has_devices())
    }

    /// So many tasks a node holds CPUs for where `tasks` of them run: with `--ntasks-per-node` that many on every
    /// node, also where the last one has fewer left to run (Slurm, recordings `beside-cores`).
    pub(crate) fn held_for(&self, tasks: u32) -> u32 {
        if self.tasks_per_node < u32::MAX && !self.overcommit { self.tasks_per_node } else { tasks }
    }

    /// Whether it asks for devices.
    pub(crate) fn has_devices(&self) -> bool {
        !(self.gres_per_node.is_empty() && self.gres_per_task.is_empty() && self.gres_per_job.is_empty())
    }

    /// Whether it matters on which sockets CPUs are free.
    pub(crate) fn is_by_socket(&self) -> bool {
        self.shape[0] > 0 || self.shape[1] > 1 || self.tasks_per_socket < u32::MAX
    }

    /// The one slice that it asks for, on one node; `None`: it asks for more, or for none.
    pub(crate) fn single_slice(&self) -> Option<&GresNeed> {
        let lists = || self.gres_per_node.iter().chain(&self.gres_per_task).chain(&self.gres_per_job);
        let need = lists().next().filter(|need| need.count == 1 && lists().count() == 1)?;
        (self.min_nodes == 1 && self.tasks == 1 && super::fit::is_cut(need)).then_some(need)
    }

    /// What `job` needs in `partition`. `None`: its constraint text or node lists make no sense.
    ///
    /// Cost: O(the request's texts).
    pub(crate) fn of(state: &State, settings: &Settings, job: &Job, partition: &Partition) -> Option<Self> {
        let request = &*job.request;
        let rare = request.rare();
        let names = |text: &Option<Box<str>>| match text {
            Some(text) => node_places(state, text),
            None => Some(Vec::new()),
        };
        let (required, excluded) = (names(&rare.nodelist)?, names(&rare.exclude)?);
        let constraint = match rare_text(request.constraint.as_deref()) {
            Some(text) => Some(Constraint::parse(text)?),
            None => None,
        };
        let mut gres_per_node: Vec<GresNeed> = needs(&request.gres_per_node);
        gres_per_node.extend(needs(&request.gpus_per_node));
        for per_socket in &request.gpus_per_socket {
            let sockets = u64::from(rare.sockets_per_node.unwrap_or(1).max(1));
            gres_per_node.extend(need(per_socket, sockets));
        }
        let mut gres_per_task = needs(&request.gpus_per_task);
        gres_per_task.extend(tres_per_task(rare.tres_per_task.as_deref()));
        let gres_per_job = needs(&request.gpus_per_job);

        let cpus_per_task = cpus_per_task(job);
        let (min_nodes, max_given) = match request.nodes {
            Some((0, None)) | None => (1, None),
            Some((min, None)) => (min.max(1), Some(min.max(1))),
            Some((min, Some(max))) => (min.max(1), Some(max.max(min).max(1))),
        };
        let min_nodes = min_nodes.max(u32::try_from(required.len()).unwrap_or(u32::MAX));
        let gpus =
            |list: &[GresNeed]| list.iter().filter(|need| &*need.name == "gpu").map(|need| need.count).sum();
        let per_gpu = u64::from(rare.ntasks_per_gpu.unwrap_or(0));
        let asked_gpus: u64 = match gpus(&gres_per_job) {
            0 => u64::saturating_mul(gpus(&gres_per_node), u64::from(min_nodes)),
            all => all,
        };
        let tasks_given = request.ntasks.or(match (request.ntasks_per_node, per_gpu * asked_gpus) {
            (_, of_gpus @ 1..) => u32::try_from(of_gpus).ok(),
            (Some(per_node), 0) => Some(per_node.saturating_mul(min_nodes)),
            (None, 0) => None,
        });
        let tasks = tasks_given.unwrap_or(min_nodes).max(1);
        let min_nodes = if tasks_given.is_some() { min_nodes.min(tasks).max(1) } else { min_nodes };
        let max_nodes = match max_given {
            Some(max) => max.max(min_nodes),
            // More nodes than tasks help nobody, except to find devices.
            None if tasks_given.is_some() => tasks.max(min_nodes),
            None if gres_per_job.is_empty() => min_nodes,
            None => u32::MAX,
        };
        // Slurm spreads a job over as many nodes of its range as it can have; not so where devices lead.
        let ranged = max_nodes > min_nodes && max_given.is_some() && !rare.use_min_nodes;
        let wide = if ranged && gres_per_job.is_empty() && gres_per_task.is_empty() { max_nodes } else { 0 };
        let distribution = rare.distribution.as_deref().unwrap_or_default().to_ascii_lowercase();
        let hint = rare.hint.as_deref().unwrap_or_default();
        // Slurm makes each of these hints one thread of a core.
        let one_thread = matches!(hint, "nomultithread" | "compute_bound" | "memory_bound")
            || rare.threads_per_core == Some(1);
        let by_default = (settings.one_task_per_core && hint != "multithread").then_some(1);
        let binding = match gres_per_node.is_empty() && gres_per_task.is_empty() && gres_per_job.is_empty() {
            true => Binding::default(),
            false => Binding::of(settings, rare.gres_flags.as_deref()),
        };
        let dealing = dealing(settings, rare.gres_flags.as_deref(), &gres_per_task);
        let rest = Rest {
            min_nodes,
            max_nodes,
            wide,
            tasks,
            tasks_given: tasks_given.is_some(),
            cpus_per_task,
            min_cpus: rare.min_cpus_per_node.unwrap_or(1).max(cpus_per_task),
            tasks_per_node: request.ntasks_per_node.filter(|&count| count > 0).unwrap_or(u32::MAX),
            tasks_per_socket: rare.ntasks_per_socket.filter(|&count| count > 0).unwrap_or(u32::MAX),
            tasks_per_core: rare
                .ntasks_per_core
                .filter(|&count| count > 0)
                .or(by_default)
                .unwrap_or(u32::MAX),
            overcommit: rare.overcommit,
            one_thread,
            gres_per_node,
            gres_per_task,
            gres_per_job,
            binding,
            dealing,
            keeps: !settings.kept_cores.is_empty(),
            shape: [
                rare.sockets_per_node.unwrap_or(0),
                rare.cores_per_socket.unwrap_or(0),
                rare.threads_per_core.unwrap_or(0),
            ],
            tmp_mib: rare.tmp_mib.map_or(0, |tmp| tmp.0),
            constraint,
            required,
            excluded,
            share: share(job, partition),
            contiguous: rare.contiguous,
            spread: rare.spread_job,
            block: match distribution.split([':', ',']).nth(1) {
                _ if distribution.starts_with("plane") => true,
                Some("block") => true,
                Some("cyclic" | "fcyclic") => false,
                _ => settings.block_cores,
            },
            across: across(state, &distribution, rare.nodelist.as_deref(), tasks),
            switches: rare.switches.filter(|(_, wait)| *wait != Some(Span::ZERO)).map(|(count, _)| count),
            segment: rare.segment,
            cpus_per_gpu: rare.cpus_per_gpu.unwrap_or(0),
            max_cpus_per_node: partition.definition.max_cpus_per_node.unwrap_or(u32::MAX),
            reservation: rare.reservation.clone(),
        };
        Some(Self { memory: memory_need(settings, job), rest: Arc::new(rest) })
    }
}

fn rare_text(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Places of the nodes of a hostlist, ascending; `None` if one is unknown.
fn node_places(state: &State, text: &str) -> Option<Vec<NodeIdx>> {
    let names = model::hostlist::expand(text).ok()?;
    let mut places = names.iter().map(|name| state.node_named(name)).collect::<Option<Vec<_>>>()?;
    places.sort_unstable();
    places.dedup();
    Some(places)
}

fn need(request: &GresRequest, times: u64) -> Option<GresNeed> {
    let count = request.count.saturating_mul(times);
    (count > 0).then(|| GresNeed { name: request.name.clone(), kind: request.kind.clone(), count })
}

fn needs(requests: &[GresRequest]) -> Vec<GresNeed> {
    requests.iter().filter_map(|request| need(request, 1)).collect()
}

/// The devices of `--tres-per-task=cpu=2,gres/gpu:a100=1`.
fn tres_per_task(text: Option<&str>) -> Vec<GresNeed> {
    let pieces = text.unwrap_or_default().split(',').filter_map(|piece| piece.trim().strip_prefix("gres"));
    let read = |piece: &str| {
        let (name, count) = piece.trim_start_matches(['/', ':']).rsplit_once(['=', ':'])?;
        let (name, kind) = match name.split_once(':') {
            Some((name, kind)) => (name, Some(kind.into())),
            None => (name, None),
        };
        Some(GresNeed { name: name.to_ascii_lowercase().into(), kind, count: count.parse().ok()? })
    };
    pieces.filter_map(read).filter(|need| need.count > 0).collect()
}

/// `-c`, or what `--tres-per-task=cpu=N` makes of it.
fn cpus_per_task(job: &Job) -> u32 {
    let request = &*job.request;
    let of_tres = || {
        let text = request.rare().tres_per_task.as_deref().unwrap_or_default();
        text.split(',')
            .find_map(|piece| piece.trim().strip_prefix("cpu")?.strip_prefix(['=', ':'])?.parse().ok())
    };
    request.cpus_per_task.or_else(of_tres).unwrap_or(1).max(1)
}

/// The first level of `--distribution`, in lower case.
fn across(state: &State, distribution: &str, nodelist: Option<&str>, tasks: u32) -> Across {
    let first = distribution.split([':', ',']).next().unwrap_or_default();
    match first.split_once('=').unwrap_or((first, "")) {
        ("cyclic", _) => Across::Cyclic,
        ("plane", size) => Across::Plane(size.parse().ok().filter(|&size| size > 0).unwrap_or(1)),
        ("arbitrary", _) => {
            let names = nodelist.and_then(|list| model::hostlist::expand(list).ok()).unwrap_or_default();
            let mut counts: Vec<(NodeIdx, u32)> = Vec::new();
            for node in names.iter().filter_map(|name| state.node_named(name)) {
                match counts.iter_mut().find(|(known, _)| *known == node) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((node, 1)),
                }
            }
            // A list that does not say where each task goes only names the nodes.
            let all: u32 = counts.iter().map(|(_, count)| count).sum();
            if all == tasks { Across::Arbitrary(counts) } else { Across::Block }
        }
        _ => Across::Block,
    }
}

fn memory_need(settings: &Settings, job: &Job) -> MemoryNeed {
    if !settings.track_memory {
        return MemoryNeed::Uncounted;
    }
    match job.memory {
        None => MemoryNeed::Whole,
        Some(MemoryRequest::PerNode(mib)) if mib.0 == 0 => MemoryNeed::Whole,
        Some(MemoryRequest::PerNode(mib)) => MemoryNeed::PerNode(mib.0),
        Some(MemoryRequest::PerCpu(mib)) if mib.0 == 0 => MemoryNeed::Whole,
        Some(MemoryRequest::PerCpu(mib)) => MemoryNeed::PerCpu(mib.0),
        Some(MemoryRequest::PerGpu(mib)) => MemoryNeed::PerGpu(mib.0),
    }
}

/// Source: OverSubscribe in `man slurm.conf`; FORCE leaves users no way out of it.
fn share(job: &Job, partition: &Partition) -> Share {
    match (job.request.sharing, partition.definition.oversubscribe) {
        (_, OverSubscribe::Force(jobs)) | (Sharing::Oversubscribe, OverSubscribe::Yes(jobs)) if jobs > 1 => {
            Share::Layers(jobs)
        }
        (_, OverSubscribe::Exclusive) | (Sharing::Exclusive | Sharing::Topo, _) => Share::Whole,
        (Sharing::User | Sharing::Mcs, _) => Share::User(job.owner.uid),
        (Sharing::Default | Sharing::Oversubscribe, _) => Share::Any,
    }
}

/// A partition that the job names, with its place.
pub(crate) fn partitions<'a>(
    state: &'a State,
    job: &'a Job,
) -> impl Iterator<Item = (PartitionIdx, &'a Partition)> {
    job.partitions.iter().filter_map(|&idx| Some((idx, state.partition(idx)?)))
}

/// Whether the job takes its nodes whole in this partition.
pub(crate) fn is_whole(job: &Job, partition: &Partition) -> bool {
    share(job, partition) == Share::Whole
}

/// How many jobs may hold a CPU that the job holds in this partition; 1: it alone.
pub(crate) fn layers(job: &Job, partition: &Partition) -> u32 {
    match share(job, partition) {
        Share::Layers(jobs) => jobs,
        Share::Any | Share::User(_) | Share::Whole => 1,
    }
}
