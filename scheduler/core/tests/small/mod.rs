//! Small clusters and what can be said of them by trying everything: nodes with cores, memory, two types of GPUs, a
//! feature; requests for them; and whether any set of nodes takes a request for a window of time.
//!
//! Knows nothing of the planner's structures.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use model::gres::GresRequest;
use model::id::{BodyHash, BootId, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, SpoolId, Uid};
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::{Span, Timestamp};
use proptest::prelude::*;
use scheduler_core::allocation::Allocation;
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Bodies, Hold, Job, Limit, Owner, Pending, Phase};
use scheduler_core::state::node::{GresDefinition, Incarnation, Link, NodeDefinition, Observed};
use scheduler_core::state::partition::PartitionDefinition;
use scheduler_core::state::prediction::Predicted;
use scheduler_core::state::promise::Promise;

use crate::world;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(10_000);

#[derive(Clone, Debug)]
pub(crate) struct SmallNode {
    pub(crate) cpus: u32,
    pub(crate) memory: u64,
    pub(crate) gpus: [u64; 2],
    pub(crate) big: bool,
    pub(crate) weight: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) nodes: u32,
    pub(crate) more_nodes: u32,
    pub(crate) tasks: Option<u32>,
    pub(crate) cpus: u32,
    pub(crate) memory: Option<(bool, u64)>,
    pub(crate) gres: Option<(Option<usize>, u64)>,
    pub(crate) big: bool,
    pub(crate) exclusive: bool,
    /// Minutes.
    pub(crate) limit: i64,
    /// A run may be as short as this, minutes; less than the limit.
    pub(crate) least: Option<i64>,
}

impl Ask {
    /// The same for so many minutes.
    pub(crate) fn lasting(&self, limit: i64) -> Self {
        Self { limit, ..self.clone() }
    }

    /// What is planned of it: the least run that it lets itself in for.
    pub(crate) fn shortest(&self) -> Self {
        self.lasting(self.least.unwrap_or(self.limit))
    }
}

pub(crate) fn small_node() -> impl Strategy<Value = SmallNode> {
    (1..=4_u32, 1..=4_u64, 0..=2_u64, 0..=2_u64, any::<bool>(), 1..=2_u32).prop_map(
        |(cpus, memory, a, b, big, weight)| SmallNode {
            cpus,
            memory: memory * 100,
            gpus: [a, b],
            big,
            weight,
        },
    )
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let shape = (1..=3_u32, 0..=1_u32, proptest::option::of(1..=5_u32), 1..=2_u32);
    let memory = proptest::option::of((any::<bool>(), 1..=3_u64));
    let gres = proptest::option::weighted(0.4, (proptest::option::of(0..2_usize), 1..=2_u64));
    let times = (1..=9_i64, proptest::option::weighted(0.4, 1..=8_i64));
    (shape, memory, gres, proptest::bool::weighted(0.2), proptest::bool::weighted(0.2), times).prop_map(
        |((nodes, more_nodes, tasks, cpus), memory, gres, big, exclusive, (limit, least))| Ask {
            nodes,
            more_nodes,
            tasks: tasks.map(|tasks| tasks.max(nodes)),
            cpus,
            memory: memory.map(|(per_cpu, amount)| (per_cpu, amount * 50)),
            gres,
            big,
            exclusive,
            limit,
            least: least.filter(|least| *least < limit),
        },
    )
}

pub(crate) const KINDS: [&str; 2] = ["a", "b"];

pub(crate) fn definition(place: usize, node: &SmallNode) -> NodeDefinition {
    let gres = |kind: usize| GresDefinition {
        name: "gpu".into(),
        kind: KINDS[kind].into(),
        count: node.gpus[kind],
        indexed: true,
    };
    NodeDefinition {
        features: if node.big { vec!["big".into()] } else { Vec::new() },
        gres: vec![gres(0), gres(1)],
        weight: node.weight,
        ..world::node(&format!("n{place}"), node.cpus, node.memory)
    }
}

pub(crate) fn waiting(id: u32, ask: &Ask) -> Job {
    let gres = |&(kind, count): &(Option<usize>, u64)| GresRequest {
        name: "gpu".into(),
        kind: kind.map(|kind| KINDS[kind].into()),
        count,
    };
    let memory = match ask.memory {
        Some((true, amount)) => MemoryRequest::PerCpu(MemoryMib(amount)),
        Some((false, amount)) => MemoryRequest::PerNode(MemoryMib(amount)),
        None => MemoryRequest::PerCpu(MemoryMib(10)),
    };
    let mut request = JobRequest {
        nodes: Some((ask.nodes, Some(ask.nodes + ask.more_nodes))),
        ntasks: ask.tasks,
        cpus_per_task: Some(ask.cpus),
        gres_per_node: ask.gres.iter().map(gres).collect(),
        constraint: ask.big.then(|| "big".into()),
        sharing: if ask.exclusive { Sharing::Exclusive } else { Sharing::Default },
        ..world::job()
    };
    if let Some(least) = ask.least {
        request.rare_mut().time_min = Some(Span::from_mins(least));
    }
    let mut key = [0; 16];
    key[..4].copy_from_slice(&id.to_le_bytes());
    Job {
        id: JobId(id),
        owner: Owner { uid: Uid(1), gid: Gid(1) },
        key: RequestKey(key),
        request: Arc::new(request),
        bodies: Bodies { script: None, environment: BodyHash([0; 32]) },
        account: Arc::from(""),
        qos: Arc::from(""),
        association: 0,
        partitions: Arc::from([PartitionIdx(0)]),
        submit: Timestamp::from_secs(i64::from(id)),
        limit: Limit::After(Span::from_secs(ask.limit * 60)),
        memory: Some(memory),
        priority: u32::MAX / 2 - id,
        hold: Hold::None,
        nice: 0,
        site_factor: 0,
        requeue: true,
        alloc_sid: 0,
        array: ArrayRole::Single,
        run: RunNumber(0),
        restarts: 0,
        predicted: Predicted::default(),
        phase: Phase::Pending(Pending::default()),
    }
}

pub(crate) fn cluster(nodes: &[SmallNode]) -> State {
    let mut state = State::default();
    for (place, node) in nodes.iter().enumerate() {
        let node_idx = NodeIdx(u32::try_from(place).unwrap());
        let definition = Arc::new(definition(place, node));
        apply(&mut state, &Record::NodeDefined { node: node_idx, definition, removed: false });
        let incarnation = Incarnation { boot: BootId([1; 16]), spool: SpoolId([1; 16]) };
        let observed = Arc::new(Observed::default());
        apply(&mut state, &Record::NodeRegistered { node: node_idx, incarnation, observed });
        apply(&mut state, &Record::NodeLink { node: node_idx, link: Link::Up });
    }
    let names = (0..nodes.len()).map(|place| format!("n{place}").into()).collect();
    let definition = Arc::new(PartitionDefinition { nodes: names, ..PartitionDefinition::named("main") });
    let partition = PartitionIdx(0);
    apply(&mut state, &Record::PartitionDefined { partition, definition, changed_at_run_time: false });
    state
}

pub(crate) fn started(job: JobId, allocation: Allocation, start: Timestamp, limit: i64) -> Record {
    let limit = Some(Span::from_secs(limit * 60));
    Record::JobStarted { job, run: RunNumber(1), partition: PartitionIdx(0), allocation, start, limit }
}

/// Something that takes a part of a node for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) node: usize,
    pub(crate) cpus: u32,
    pub(crate) memory: u64,
    pub(crate) gpus: [u64; 2],
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// What an allocation takes.
pub(crate) fn taken(allocation: &Allocation, from: Timestamp, to: Timestamp) -> Vec<Taken> {
    let one = |share: &scheduler_core::allocation::NodeShare| {
        let mut gpus = [0; 2];
        share.gres.iter().for_each(|gres| gpus[gres.kind as usize] += gres.count);
        let (node, cpus, memory) = (share.node.0 as usize, share.cpus.0, share.memory.0);
        Taken { node, cpus, memory, gpus, from, to }
    };
    allocation.iter().map(one).collect()
}

/// What the running jobs take, each until its limit, or a moment longer than `now` where that has passed.
pub(crate) fn running(state: &State, now: Timestamp) -> Vec<Taken> {
    let mut all = Vec::new();
    for id in &state.index.running {
        let active = state.jobs[id].active().unwrap();
        let end = active.limit_end().unwrap().max(now.saturating_add(Span::from_secs(1)));
        all.extend(taken(&active.allocation, active.start, end));
    }
    all
}

/// What a promise takes.
pub(crate) fn promised(promise: &Promise) -> Vec<Taken> {
    let one = |held: &scheduler_core::state::promise::Held| Taken {
        node: held.node.0 as usize,
        cpus: held.cpus.0,
        memory: held.memory.0,
        gpus: [u64::from(held.gres[0]), u64::from(held.gres[1])],
        from: promise.start,
        to: promise.end,
    };
    promise.holds.iter().map(one).collect()
}

/// Free CPUs, memory and GPUs of a node throughout `[from, to)`.
fn free(
    state: &State,
    all: &[Taken],
    node: usize,
    (from, to): (Timestamp, Timestamp),
) -> (u32, u64, [u64; 2]) {
    let definition = &state.nodes[node].definition;
    let has = (definition.cpus.0, definition.memory.0, [definition.gres[0].count, definition.gres[1].count]);
    let here: Vec<&Taken> =
        all.iter().filter(|one| one.node == node && one.from < to && one.to > from).collect();
    let mut instants: Vec<Timestamp> = here.iter().map(|one| one.from.max(from)).collect();
    instants.push(from);
    let mut least = has;
    for at in instants {
        let mut left = has;
        for one in here.iter().filter(|one| one.from <= at && one.to > at) {
            left.0 = left.0.saturating_sub(one.cpus);
            left.1 = left.1.saturating_sub(one.memory);
            (0..2).for_each(|kind| left.2[kind] = left.2[kind].saturating_sub(one.gpus[kind]));
        }
        least =
            (least.0.min(left.0), least.1.min(left.1), [0, 1].map(|kind| least.2[kind].min(left.2[kind])));
    }
    least
}

/// Whether nothing else takes what an allocation takes until then.
pub(crate) fn stays_free(
    state: &State,
    all: &[Taken],
    allocation: &Allocation,
    (from, to): (Timestamp, Timestamp),
) -> bool {
    taken(allocation, from, to).iter().all(|one| {
        let (cpus, memory, gpus) = free(state, all, one.node, (from, to));
        one.cpus <= cpus && one.memory <= memory && (0..2).all(|kind| one.gpus[kind] <= gpus[kind])
    })
}

/// The instants at which a request could first fit: now, and whenever something is given back.
pub(crate) fn instants(all: &[Taken], now: Timestamp) -> Vec<Timestamp> {
    let mut instants: Vec<Timestamp> = all.iter().map(|one| one.to).filter(|at| *at > now).collect();
    instants.push(now);
    instants.sort_unstable();
    instants
}

/// The most tasks that a node could take throughout a window, one by one.
fn room(state: &State, all: &[Taken], ask: &Ask, node: usize, window: (Timestamp, Timestamp)) -> u32 {
    let definition = &state.nodes[node].definition;
    let (cpus, memory, gpus) = free(state, all, node, window);
    if !state.nodes[node].is_available() {
        return 0;
    }
    if ask.big && definition.features.is_empty() {
        return 0;
    }
    if ask.exclusive && cpus < definition.cpus.0 {
        return 0;
    }
    let enough = match ask.gres {
        None => true,
        Some((Some(kind), count)) => gpus[kind] >= count,
        Some((None, count)) => gpus[0] + gpus[1] >= count,
    };
    let fits = |tasks: u32| {
        let used = if ask.exclusive { definition.cpus.0 } else { tasks * ask.cpus };
        let need = match ask.memory {
            Some((true, amount)) => u64::from(used) * amount,
            Some((false, amount)) => amount,
            None => u64::from(used) * 10,
        };
        let need = if ask.exclusive && ask.memory.is_none_or(|(per_cpu, _)| per_cpu) {
            need.min(definition.memory.0)
        } else {
            need
        };
        tasks * ask.cpus <= cpus && need <= memory
    };
    if enough { (1..=8).take_while(|&tasks| fits(tasks)).last().unwrap_or(0) } else { 0 }
}

/// Whether any set of nodes takes the job from an instant to its limit.
pub(crate) fn fits(state: &State, all: &[Taken], ask: &Ask, at: Timestamp) -> bool {
    let window = (at, at.saturating_add(Span::from_secs(ask.limit * 60)));
    let rooms: Vec<u32> = (0..state.nodes.len()).map(|node| room(state, all, ask, node, window)).collect();
    let tasks = ask.tasks.unwrap_or(ask.nodes);
    (0_u32..1 << rooms.len()).any(|set| {
        let chosen: Vec<u32> = rooms
            .iter()
            .enumerate()
            .filter(|(place, _)| set >> place & 1 == 1)
            .map(|(_, room)| *room)
            .collect();
        let count = set.count_ones();
        // Without a number of tasks there is one on each node, and no more nodes than asked for.
        let most = if ask.tasks.is_some() { ask.nodes + ask.more_nodes } else { ask.nodes };
        count >= ask.nodes
            && count <= most
            && count <= tasks
            && chosen.iter().all(|&room| room > 0)
            && chosen.iter().sum::<u32>() >= tasks
    })
}
