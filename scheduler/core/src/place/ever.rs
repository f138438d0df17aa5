//! Whether a request can ever run: asked at submission, on a machine without jobs.
//!
//! Source: measured behaviour of slurmctld (the goldens of errors and opts). What no node of the
//! partitions could do is refused; what is only too much for a partition (nodes or CPUs in all, time,
//! accounts) waits with a reason.

use std::sync::Arc;

use model::id::{PartitionIdx, Uid};
use model::refusal::Refusal;
use model::request::{JobRequest, MemoryRequest};

use super::alike::same_placement;
use super::demand::{self, Demand};
use super::feature::Constraint;
use super::fit;
use super::{Board, choose_among};
use crate::apply::take_stock;
use crate::effect::Refused;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{Hold, Job};
use crate::state::node::Node;
use crate::state::partition::Partition;

/// So many requests are kept in mind.
const REMEMBERED: usize = 256;

/// Requests of late that were found able to run on the nodes and partitions as they are.
///
/// Users submit alike again and again. Owns nothing but copies: it may be forgotten at any time.
#[derive(Debug, Default)]
pub(crate) struct Able(Vec<Option<Found>>);

/// What was found able to run: all that the test reads of a job.
#[derive(Clone, Debug)]
struct Found {
    request: Arc<JobRequest>,
    partitions: Arc<[PartitionIdx]>,
    memory: Option<MemoryRequest>,
}

impl Able {
    fn place(request: &JobRequest) -> usize {
        let nodes = u64::from(request.nodes.map_or(0, |(least, _)| least));
        let cpus = u64::from(request.cpus_per_task.unwrap_or(0));
        let word = cpus << 48 ^ nodes << 24 ^ u64::from(request.ntasks.unwrap_or(0));
        // The upper bits of a product depend on all bits of the factor.
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % REMEMBERED
    }

    /// Whether a job that asks for the same is among them.
    pub(crate) fn knows(&self, job: &Job) -> bool {
        self.0.get(Self::place(&job.request)).and_then(Option::as_ref).is_some_and(|found| {
            found.memory == job.memory
                && found.partitions == job.partitions
                && same_placement(&found.request, &job.request)
        })
    }

    /// The job can run.
    pub(crate) fn note(&mut self, job: &Job) {
        let (request, partitions) = (Arc::clone(&job.request), Arc::clone(&job.partitions));
        self.0.resize(REMEMBERED, None);
        self.0[Self::place(&job.request)] = Some(Found { request, partitions, memory: job.memory });
    }

    /// Nodes, partitions or their configuration changed.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// So many nodes of a partition are tried alone at first.
const FIRST_TRIED: usize = 32;

/// Whether some partition that the job names could run it if no other job were there.
///
/// A held job is not tested (Slurm tests it when it is released). Partition limits are not looked at.
///
/// # Errors
/// Slurm's refusal, of the last partition tried.
/// Cost: O(nodes that the job needs, and some), as long as such nodes are among the first of a partition; at most
/// O(nodes of the partitions).
pub fn could_ever_run(state: &State, settings: &Settings, job: &Job) -> Result<(), Refused> {
    check_features(state, job)?;
    if job.hold != Hold::None {
        return Ok(());
    }
    let board = Board::empty();
    let mut refused = None;
    for (_, partition) in demand::partitions(state, job) {
        let Some(demand) = Demand::of(state, settings, job, partition) else {
            refused = Some(Refused::from(Refusal::InvalidFeature));
            continue;
        };
        // A wish for few switches is given up after a while (`man sbatch`, --switches).
        let demand = match demand.switches {
            Some(_) => demand.with(|rest| rest.switches = None),
            None => demand,
        };
        match try_partition(&board, state, settings, partition, &demand, job.owner.uid) {
            Ok(()) => return Ok(()),
            Err(reason) => refused = Some(reason),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// A feature that no node has is refused, held or not.
fn check_features(state: &State, job: &Job) -> Result<(), Refused> {
    let Some(text) = job.request.constraint.as_deref().filter(|text| !text.is_empty()) else { return Ok(()) };
    let known =
        |name: &str| state.nodes.iter().any(|node| node.definition.features.iter().any(|one| **one == *name));
    match Constraint::parse(text) {
        Some(constraint) if constraint.names().into_iter().all(known) => Ok(()),
        Some(_) | None => Err(Refusal::InvalidFeature.into()),
    }
}

fn try_partition(
    board: &Board,
    state: &State,
    settings: &Settings,
    partition: &Partition,
    demand: &Demand,
    owner: Uid,
) -> Result<(), Refused> {
    if demand.required.iter().any(|node| partition.nodes.binary_search(node).is_err()) {
        return Err(Refused::from(Refusal::NodesNotInPartition));
    }
    if partition.nodes.is_empty() {
        // Its nodes may come: it waits.
        return Ok(());
    }
    let room = |node| board.candidate(state, settings, demand, owner, node);
    // What some of the nodes can do all can: mostly a few of them will do.
    let nodes = &partition.nodes;
    let mut tried = (demand.min_nodes as usize).saturating_mul(2).max(FIRST_TRIED);
    while tried < nodes.len() {
        if choose_among(state, settings, partition, &nodes[..tried], demand, room).is_some() {
            return Ok(());
        }
        tried = tried.saturating_mul(4);
    }
    if choose_among(state, settings, partition, nodes, demand, room).is_some() {
        return Ok(());
    }
    if demand.has_devices()
        && let Some(repaired) = repaired(state, partition)
        && choose_among(&repaired, settings, partition, nodes, demand, |node| {
            board.candidate(&repaired, settings, demand, owner, node)
        })
        .is_some()
    {
        // It waits for the GPUs that are out of service, as for nodes that are down.
        return Ok(());
    }
    // More than the whole partition has: it waits with the partition's reason.
    let nodes = u32::try_from(partition.nodes.len()).unwrap_or(u32::MAX);
    let cpus: u64 = partition.nodes.iter().map(|&node| u64::from(state.node(node).definition.cpus.0)).sum();
    let wanted = u64::from(demand.tasks) * u64::from(demand.cpus_per_task);
    let one_fits = partition.nodes.iter().any(|&node| room(node).is_some());
    if one_fits && (demand.min_nodes > nodes || (!demand.overcommit && wanted > cpus)) {
        return Ok(());
    }
    Err(Refused { refusal: Refusal::NodeConfigUnavailable, lines: line(state, settings, partition, demand) })
}

/// The nodes as they would be with every GPU in service; `None`: in this partition all are. No jobs, which nobody asks for here.
fn repaired(state: &State, partition: &Partition) -> Option<State> {
    let is_faulty = |node: &Node| node.observed.gpus.iter().any(|gpu| !gpu.is_healthy());
    if !partition.nodes.iter().any(|&node| is_faulty(state.node(node))) {
        return None;
    }
    let mut nodes = state.nodes.clone();
    for node in nodes.iter_mut().filter(|node| is_faulty(node)) {
        let observed = Arc::make_mut(&mut node.observed);
        observed.gpus.iter_mut().for_each(|gpu| gpu.fault = Box::default());
        take_stock(node);
    }
    let (partitions, slices) = (state.partitions.clone(), state.slices.clone());
    Some(State { nodes, partitions, slices, ..State::default() })
}

/// What no node of the partition has, in Slurm's words and order.
fn line(state: &State, settings: &Settings, partition: &Partition, demand: &Demand) -> Vec<Box<str>> {
    let definitions = || partition.nodes.iter().map(|&node| &*state.node(node).definition);
    let least = |node| fit::cost(demand, settings.whole_cores, node, 1, fit::gpus_of(demand, 1));
    let text = if !definitions().any(|node| least(node).cpus <= node.cpus.0) {
        "CPU count per node can not be satisfied"
    } else if !definitions().any(|node| least(node).memory <= node.memory.0) {
        "Memory specification can not be satisfied"
    } else if !definitions().any(|node| node.tmp_disk.0 >= demand.tmp_mib) {
        "Temporary disk specification can not be satisfied"
    } else if !definitions().any(|node| fit::shape_fits(demand, node)) {
        "Socket, core and/or thread specification can not be satisfied"
    } else {
        return Vec::new();
    };
    vec![text.into()]
}
