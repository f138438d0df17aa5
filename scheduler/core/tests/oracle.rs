//! The planner against brute force: small clusters, a few running jobs, one waiting job.
//!
//! For the first job of the queue the planner must name the earliest instant at which any choice of
//! nodes and any distribution of tasks works, and must start it now exactly if that instant is now. The
//! slow side knows nothing of the planner's structures: it tries every set of nodes at every instant at
//! which a job ends. Whatever a pass starts is carried out and every invariant of the state checked.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::gres::GresRequest;
use model::id::{BodyHash, BootId, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, SpoolId, Uid};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::{Span, Timestamp};
use proptest::prelude::*;
use scheduler_core::allocation::Allocation;
use scheduler_core::apply::apply;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Bodies, Ended, Hold, Job, Limit, Owner, Pending, Phase};
use scheduler_core::state::node::{GresDefinition, Incarnation, Link, NodeDefinition, Observed};
use scheduler_core::state::partition::PartitionDefinition;
use scheduler_core::state::promise::{Cause, PromiseChange};

const NOW: Timestamp = Timestamp::from_secs(10_000);

#[derive(Clone, Debug)]
struct SmallNode {
    cpus: u32,
    memory: u64,
    gpus: [u64; 2],
    big: bool,
    weight: u32,
}

#[derive(Clone, Debug)]
struct Ask {
    nodes: u32,
    more_nodes: u32,
    tasks: Option<u32>,
    cpus: u32,
    memory: Option<(bool, u64)>,
    gres: Option<(Option<usize>, u64)>,
    big: bool,
    exclusive: bool,
    limit: i64,
}

fn small_node() -> impl Strategy<Value = SmallNode> {
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

fn ask() -> impl Strategy<Value = Ask> {
    let shape = (1..=3_u32, 0..=1_u32, proptest::option::of(1..=5_u32), 1..=2_u32);
    let memory = proptest::option::of((any::<bool>(), 1..=3_u64));
    let gres = proptest::option::weighted(0.4, (proptest::option::of(0..2_usize), 1..=2_u64));
    (shape, memory, gres, proptest::bool::weighted(0.2), proptest::bool::weighted(0.2), 1..=9_i64).prop_map(
        |((nodes, more_nodes, tasks, cpus), memory, gres, big, exclusive, limit)| Ask {
            nodes,
            more_nodes,
            tasks: tasks.map(|tasks| tasks.max(nodes)),
            cpus,
            memory: memory.map(|(per_cpu, amount)| (per_cpu, amount * 50)),
            gres,
            big,
            exclusive,
            limit,
        },
    )
}

const KINDS: [&str; 2] = ["a", "b"];

fn definition(place: usize, node: &SmallNode) -> NodeDefinition {
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

fn waiting(id: u32, ask: &Ask) -> Job {
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
    let request = JobRequest {
        nodes: Some((ask.nodes, Some(ask.nodes + ask.more_nodes))),
        ntasks: ask.tasks,
        cpus_per_task: Some(ask.cpus),
        gres_per_node: ask.gres.iter().map(gres).collect(),
        constraint: ask.big.then(|| "big".into()),
        sharing: if ask.exclusive { Sharing::Exclusive } else { Sharing::Default },
        ..world::job()
    };
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
        priority: 1000 - id,
        hold: Hold::None,
        nice: 0,
        site_factor: 0,
        requeue: true,
        alloc_sid: 0,
        array: ArrayRole::Single,
        run: RunNumber(0),
        restarts: 0,
        phase: Phase::Pending(Pending::default()),
    }
}

fn cluster(nodes: &[SmallNode]) -> State {
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

fn started(job: JobId, allocation: Allocation, start: Timestamp, limit: i64) -> Record {
    let limit = Some(Span::from_secs(limit * 60));
    Record::JobStarted { job, run: RunNumber(1), partition: PartitionIdx(0), allocation, start, limit }
}

/// Free cpus, memory and devices of a node at an instant, counted from the running jobs.
fn free(state: &State, node: usize, at: Timestamp) -> (u32, u64, [u64; 2]) {
    let definition = &state.nodes[node].definition;
    let mut left =
        (definition.cpus.0, definition.memory.0, [definition.gres[0].count, definition.gres[1].count]);
    for id in &state.index.running {
        let active = state.jobs[id].active().unwrap();
        if active.limit_end().unwrap() <= at {
            continue;
        }
        for share in active.allocation.iter().filter(|share| share.node.0 as usize == node) {
            left.0 -= share.cpus.0;
            left.1 -= share.memory.0;
            share.gres.iter().for_each(|gres| left.2[gres.kind as usize] -= gres.count);
        }
    }
    left
}

/// The most tasks that a node could take at an instant, one by one.
fn slow_room(state: &State, ask: &Ask, node: usize, at: Timestamp) -> u32 {
    let definition = &state.nodes[node].definition;
    let (cpus, memory, gpus) = free(state, node, at);
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

/// Whether any set of nodes takes the job at an instant.
fn slow_fits(state: &State, ask: &Ask, at: Timestamp) -> bool {
    let rooms: Vec<u32> = (0..state.nodes.len()).map(|node| slow_room(state, ask, node, at)).collect();
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

fn check(nodes: &[SmallNode], running: &[(Ask, i64)], first: &Ask) -> Result<(), TestCaseError> {
    let mut state = cluster(nodes);
    let settings = Settings { track_memory: true, ..Settings::named("oracle") };
    apply(&mut state, &Record::Time(NOW));
    for (id, (ask, elapsed)) in (1..).zip(running) {
        let job = waiting(id, ask);
        apply(&mut state, &Record::Job(Arc::new(job.clone())));
        match scheduler_core::place::place(&state, &settings, &job, PartitionIdx(0)) {
            Some(allocation) => {
                prop_assert!(slow_fits(&state, ask, NOW) || *elapsed > 0, "{ask:?} was placed and cannot be");
                let start = NOW - Span::from_secs(elapsed % (ask.limit * 60));
                apply(&mut state, &started(job.id, allocation, start, ask.limit));
            }
            None => {
                prop_assert!(!slow_fits(&state, ask, NOW), "{ask:?} has room and was not placed");
                let key = state.queue_key(&job);
                prop_assert!(state.index.queue.contains(&key));
                // It is in the way of nobody: it leaves.
                let held = Job { hold: Hold::User, ..job };
                apply(&mut state, &Record::Job(Arc::new(held)));
            }
        }
    }
    prop_assert_eq!(state.check(), Vec::<String>::new());

    let job = waiting(99, first);
    apply(&mut state, &Record::Job(Arc::new(job.clone())));
    let mut instants: Vec<Timestamp> =
        state.index.running.iter().map(|id| state.jobs[id].active().unwrap().limit_end().unwrap()).collect();
    instants.push(NOW);
    instants.sort_unstable();
    let expected = instants.into_iter().filter(|at| *at >= NOW).find(|at| slow_fits(&state, first, *at));

    let pass = Planner::new().pass(&state, &settings, NOW);
    let start = pass.plan.starts.iter().find(|start| start.job == job.id);
    let verdict = pass.verdicts.iter().find(|verdict| verdict.job == job.id);
    let planned = verdict.and_then(|verdict| verdict.planned.as_ref()).map(|planned| planned.start);
    prop_assert_eq!(start.map(|_| NOW).or(planned), expected);
    if let Some(start) = start {
        prop_assert!(scheduler_core::place::recheck(&state, &settings, &job, start));
        apply(&mut state, &started(job.id, Arc::clone(&start.allocation), NOW, first.limit));
        prop_assert_eq!(state.check(), Vec::<String>::new());
        let cpus: Cpus = start.allocation.iter().map(|share| share.cpus).sum();
        prop_assert!(cpus.0 >= first.tasks.unwrap_or(first.nodes) * first.cpus);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_job_starts_as_early_as_can_be(
        nodes in proptest::collection::vec(small_node(), 2..=5),
        running in proptest::collection::vec((ask(), 0..600_i64), 0..=6),
        first in ask(),
    ) {
        check(&nodes, &running, &first)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_planner_that_follows_plans_as_one_made_anew(
        nodes in proptest::collection::vec(small_node(), 2..=5),
        events in proptest::collection::vec(event(), 1..=40),
        depth in prop_oneof![Just(0), Just(1), Just(2), Just(u32::MAX)],
        keep in prop_oneof![Just(None), Just(Some(0)), Just(Some(60))],
    ) {
        follow(&nodes, &events, depth, keep)?;
    }
}

/// Something that happens, some seconds after what came before.
#[derive(Clone, Debug)]
enum Event {
    Submit(Ask),
    /// The job at this place among the running ones ends.
    End(usize),
    /// The job at this place of the queue is held.
    Hold(usize),
    /// The job at this place of all of them is released, if it was held.
    Release(usize),
    /// A node goes, or comes back.
    Link(usize),
    /// Nothing: time passes.
    Pass,
}

fn event() -> impl Strategy<Value = (i64, Event)> {
    let what = prop_oneof![
        5 => ask().prop_map(Event::Submit),
        4 => (0..8_usize).prop_map(Event::End),
        1 => (0..8_usize).prop_map(Event::Hold),
        1 => (0..8_usize).prop_map(Event::Release),
        1 => (0..5_usize).prop_map(Event::Link),
        1 => Just(Event::Pass),
    ];
    (0..200_i64, what)
}

fn ended(state: &State, id: JobId, now: Timestamp) -> Ended {
    let active = state.jobs[&id].active().unwrap();
    Ended {
        state: JobState::Completed,
        exit: ExitStatus::SUCCESS,
        derived_exit: ExitStatus::SUCCESS,
        reason: Reason::None,
        detail: "".into(),
        by: None,
        eligible: None,
        start: Some(active.start),
        end: now,
        limit: active.limit,
        partition: Some(active.partition),
        allocation: Arc::clone(&active.allocation),
        suspended_total: Span::ZERO,
        steps: Vec::new(),
    }
}

fn follow(
    nodes: &[SmallNode],
    events: &[(i64, Event)],
    depth: u32,
    keep: Option<i64>,
) -> Result<(), TestCaseError> {
    let mut state = cluster(nodes);
    let mut settings = Settings { track_memory: true, ..Settings::named("oracle") };
    settings.policy.depth = Some(depth);
    settings.policy.keep = keep.is_some();
    settings.policy.sweep_after = Span::from_secs(keep.unwrap_or(0));
    let mut follower = Planner::following();
    let mut said = BTreeMap::new();
    let mut now = NOW;
    let put = |state: &mut State, follower: &mut Planner, record: Record| {
        apply(state, &record);
        follower.observe(&record);
    };
    for (id, (later, event)) in (1..).zip(events) {
        now = now.saturating_add(Span::from_secs(*later));
        put(&mut state, &mut follower, Record::Time(now));
        match event {
            Event::Submit(ask) => {
                // Some jobs come before others that wait already.
                let priority = 1 + u32::try_from(ask.limit).unwrap() % 3;
                let job = Job { submit: now, priority, ..waiting(id, ask) };
                put(&mut state, &mut follower, Record::Job(Arc::new(job)));
            }
            Event::End(place) => {
                if let Some(&job) = state.index.running.iter().nth(*place) {
                    let ended = Box::new(ended(&state, job, now));
                    put(&mut state, &mut follower, Record::JobEnded { job, ended });
                }
            }
            Event::Hold(place) => {
                if let Some(key) = state.index.queue.iter().nth(*place) {
                    let record = Record::JobPriority { job: key.job, priority: 0, hold: Hold::User };
                    put(&mut state, &mut follower, record);
                }
            }
            Event::Release(place) => {
                let held = state.jobs.values().filter(|job| job.hold != Hold::None);
                if let Some(job) = held.map(|job| job.id).nth(*place) {
                    let record = Record::JobPriority { job, priority: 2, hold: Hold::None };
                    put(&mut state, &mut follower, record);
                }
            }
            Event::Link(place) => {
                let place = place % state.nodes.len();
                let (node, now) = (NodeIdx(u32::try_from(place).unwrap()), state.now);
                let link = match state.nodes[place].link {
                    Link::Up => Link::Silent { since: now, timed_out: false },
                    Link::Never | Link::Silent { .. } => Link::Up,
                };
                put(&mut state, &mut follower, Record::NodeLink { node, link });
            }
            Event::Pass => {}
        }
        let pass = follower.pass(&state, &settings, now);
        let anew = Planner::new().pass(&state, &settings, now);
        prop_assert_eq!(&pass.plan, &anew.plan, "event {}: {:?}", id, event);
        prop_assert_eq!(pass.wake, anew.wake, "event {}: {:?}", id, event);
        said.extend(pass.verdicts.into_iter().map(|verdict| (verdict.job, verdict)));
        for verdict in &anew.verdicts {
            prop_assert_eq!(said.get(&verdict.job), Some(verdict), "event {}: {:?}", id, event);
        }
        for start in pass.plan.starts {
            let job = &state.jobs[&start.job];
            prop_assert!(scheduler_core::place::recheck(&state, &settings, job, &start));
            let Limit::After(limit) = job.limit else { unreachable!("these jobs have limits") };
            put(&mut state, &mut follower, started(start.job, start.allocation, now, limit.as_mins()));
        }
        if let Some(promised) = pass.plan.promises {
            for change in &promised.changes {
                not_later(&state, change)?;
            }
            let (changes, given_back) = (promised.changes, promised.given_back);
            put(&mut state, &mut follower, Record::Promises { changes, given_back });
        }
        prop_assert_eq!(state.check(), Vec::<String>::new());
    }
    Ok(())
}

/// A promise moves later, or goes, only for a cause that says so.
fn not_later(state: &State, change: &PromiseChange) -> Result<(), TestCaseError> {
    let Some(before) = state.promises.of(change.job) else { return Ok(()) };
    let later = change.promises.first().is_none_or(|after| after.start > before.start);
    let harmless = matches!(change.cause, Cause::Made | Cause::GivenBack);
    prop_assert!(!(later && harmless), "{:?} after {:?}", change, before);
    Ok(())
}
