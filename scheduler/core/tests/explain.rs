//! Why a job waits, and what would be if something were otherwise.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::gres::GresRequest;
use model::id::JobId;
use model::job::JobState;
use model::quantity::MemoryMib;
use model::reason::Reason;
use model::request::{JobRequest, MemoryRequest, Rare, Sharing};
use model::time::{Span, Timestamp};

use scheduler_core::effect::Refused;
use scheduler_core::input::Command;
use scheduler_core::plan::explain::{Binding, Cause, Change, Explanation, Outlook, Role, explain};
use scheduler_core::plan::whatif::{Assumption, Comparison, compare};
use scheduler_core::settings::Settings;
use scheduler_core::state::node::GresDefinition;
use scheduler_core::state::partition::PartitionDefinition;

use world::{ALICE, BOB, ROOT, World, after, array, asker, job, node, settings, whole};

fn minutes(minutes: i64) -> Option<Option<Span>> {
    Some(Some(Span::from_mins(minutes)))
}

fn cpus(count: u32, limit: i64) -> JobRequest {
    JobRequest { cpus_per_task: Some(count), time_limit: minutes(limit), ..job() }
}

fn why(world: &World, job: JobId) -> Explanation {
    let state = world.machine.state().clone();
    let before = state.digest();
    let settings = world.machine.configuration().expect("the world is configured").clone();
    let told = explain(state, &settings, job, world.now).expect("the job waits");
    // A second time gives the same, and nothing of the machine was touched.
    let again = explain(world.machine.state().clone(), &settings, job, world.now);
    assert_eq!(Some(&told), again.as_ref());
    assert_eq!(world.machine.state().digest(), before);
    told
}

fn change<'a>(told: &'a Explanation, option: &str) -> &'a Change {
    told.changes
        .iter()
        .find(|change| change.option == option)
        .unwrap_or_else(|| panic!("{:#?}", told.changes))
}

fn causes(told: &Explanation) -> Vec<(Cause, usize)> {
    told.partitions[0].causes.iter().map(|count| (count.cause.clone(), count.nodes.len())).collect()
}

#[test]
fn a_job_that_runs_or_is_not_there_has_no_explanation() {
    let mut world = World::new(1, 4);
    let runs = world.submit(cpus(1, 5));
    let settings = world.machine.configuration().unwrap().clone();
    let ask = |id| explain(world.machine.state().clone(), &settings, id, world.now);
    assert_eq!(ask(runs), None);
    assert_eq!(ask(JobId(99)), None);
}

#[test]
fn resources_name_the_holders_and_the_plan() {
    let mut world = World::new(2, 4);
    let first = world.submit(cpus(3, 10));
    let second = world.submit(cpus(3, 20));
    let waits = world.submit(cpus(2, 5));
    let told = why(&world, waits);
    assert_eq!(told.reason, Reason::Resources);
    assert_eq!(told.binding, Binding::Nodes);
    assert_eq!(causes(&told), [(Cause::Cpus, 2)]);
    let start = world.now.saturating_add(Span::from_mins(10));
    let partition = world.machine.state().jobs[&waits].partitions[0];
    assert_eq!(told.outlook, Outlook::Planned { start, nodes: "n1".into(), partition });
    // Only the job that ends by then is a witness.
    assert_eq!(told.witnesses.len(), 1, "{:#?}", told.witnesses);
    let witness = &told.witnesses[0];
    assert_eq!((witness.job, witness.role, witness.cpus), (first, Role::Runs, 3));
    assert_eq!(witness.until, Some(start));
    assert_eq!(&*witness.nodes, "n1");
    let fewer = change(&told, "--cpus-per-task");
    assert_eq!((&*fewer.from, &*fewer.to, fewer.loss), ("2", "1", 500));
    assert_eq!(fewer.update.as_deref(), Some("CPUs/Task=1"));
    assert_eq!(world.state_of(second), JobState::Running);
    // A job behind it follows the holder and the promise on its planned node.
    let follows = world.submit(cpus(4, 5));
    let told = why(&world, follows);
    let chain: Vec<_> = told.witnesses.iter().map(|one| (one.job, one.role)).collect();
    assert_eq!(chain, [(first, Role::Runs), (waits, Role::Promised)]);
    let until = start.saturating_add(Span::from_mins(5));
    assert_eq!(told.witnesses[1].until, Some(until));
    assert_eq!(told.outlook, Outlook::Planned { start: until, nodes: "n1".into(), partition });
}

/// A job that may be shortened is spoken of as it is planned.
#[test]
fn a_job_that_may_be_shorter_is_promised_and_hindered_for_its_least_run() {
    let flexible = |count, limit, least| {
        let mut request = cpus(count, limit);
        request.rare_mut().time_min = Some(Span::from_mins(least));
        request
    };
    let mut world = World::new(1, 4);
    world.submit(cpus(2, 20));
    let all = world.submit(flexible(4, 60, 30));
    let waits = world.submit(flexible(1, 90, 25));
    let told = why(&world, waits);
    let start = world.now.saturating_add(Span::from_mins(50));
    assert!(matches!(told.outlook, Outlook::Planned { start: at, .. } if at == start), "{:?}", told.outlook);
    assert_eq!(causes(&told), [(Cause::Promised, 1)]);
    let promised = told.witnesses.iter().find(|one| one.job == all).expect("it is ahead");
    assert_eq!((promised.role, promised.until), (Role::Promised, Some(start)));
    // It would start now for twenty minutes, and its least run has to give way to that.
    let shorter = change(&told, "--time");
    assert_eq!((&*shorter.from, &*shorter.to), ("01:30:00", "00:20:00"));
    assert_eq!(shorter.update.as_deref(), Some("TimeMin=0 TimeLimit=00:20:00"));
}

/// What a change says is true: made by the machine, it starts the job.
#[test]
fn a_proposed_change_starts_the_job() {
    let mut world = World::new(2, 4);
    world.submit(cpus(4, 30));
    let wide = world.submit(JobRequest {
        nodes: Some((2, Some(2))),
        sharing: Sharing::Exclusive,
        time_limit: minutes(30),
        ..job()
    });
    let small = world.submit(cpus(1, 60));
    assert_eq!(world.state_of(small), JobState::Pending);
    let told = why(&world, small);
    assert_eq!(told.binding, Binding::Order, "{told:#?}");
    assert_eq!(told.reason, Reason::Priority);
    assert_eq!(told.ahead, 1);
    assert_eq!(causes(&told), [(Cause::Cpus, 1), (Cause::Promised, 1)]);
    assert_eq!(
        told.witnesses.iter().map(|one| (one.job, one.role)).collect::<Vec<_>>(),
        [(wide, Role::Promised)]
    );
    // It fits before the start that the wide job was promised.
    let shorter = change(&told, "--time");
    assert_eq!((&*shorter.from, &*shorter.to), ("01:00:00", "00:30:00"));
    assert_eq!(shorter.update.as_deref(), Some("TimeLimit=00:30:00"));
    let changes = vec![("timelimit".into(), "00:30:00".into())];
    world.outcomes(ALICE, Command::UpdateJob { job: whole(small), changes });
    assert_eq!(world.state_of(small), JobState::Running);
}

#[test]
fn own_reasons_bind_first() {
    let mut world = World::new(1, 4);
    let runs = world.submit(cpus(1, 60));
    let held = world.submit(JobRequest { hold: true, ..cpus(1, 5) });
    let told = why(&world, held);
    assert!(matches!(told.binding, Binding::Held(_)), "{told:#?}");
    assert!(matches!(told.lifted, Some(Outlook::Now { .. })));
    let later = world.now.saturating_add(Span::from_mins(7));
    let begins = world.submit(JobRequest { begin: Some(later), ..cpus(1, 5) });
    assert_eq!(why(&world, begins).binding, Binding::BeginTime(later));
    let depends = world.submit(JobRequest { cpus_per_task: Some(4), ..after(&format!("afterok:{runs}")) });
    let told = why(&world, depends);
    let Binding::Dependency { never: false, any: false, terms } = &told.binding else { panic!("{told:#?}") };
    assert_eq!(terms.len(), 1);
    // Without the dependency it would wait for the CPUs of the job it depends on.
    assert!(matches!(told.lifted, Some(Outlook::Planned { .. })), "{told:#?}");
    assert!(told.changes.is_empty(), "{told:#?}");
}

#[test]
fn throttles_and_licenses() {
    let mut world = World::new(1, 4);
    let throttled = world.submit(JobRequest { time_limit: minutes(5), ..array("0-3%1") });
    let told = why(&world, throttled);
    assert_eq!(told.binding, Binding::Throttle { running: 1, most: 1 });
    assert_eq!(&*change(&told, "--array=…%").to, "2");
    assert_eq!(told.witnesses.len(), 1, "the element that runs");

    let licensed = |count: &str| {
        let rare = Rare { licenses: Some(format!("matlab:{count}").into()), ..Rare::default() };
        JobRequest { rare: Some(Box::new(rare)), ..cpus(1, 9) }
    };
    let holder = world.submit(licensed("2"));
    let waits = world.submit(licensed("1"));
    let told = why(&world, waits);
    assert_eq!(told.binding, Binding::Licenses);
    let need = &told.licenses[0];
    assert_eq!((&*need.name, need.wanted, need.used, need.total), ("matlab", 1, 2, 2));
    assert_eq!((told.witnesses[0].job, told.witnesses[0].role), (holder, Role::Licenses));
    assert_eq!(&*change(&told, "--licenses").to, "");
}

/// A cluster of nodes of many kinds, in two partitions.
fn mixed() -> Settings {
    let mut nodes: Vec<_> = (1..=7).map(|n| node(&format!("n{n}"), 4, 4000)).collect();
    nodes[2].features = vec!["amd".into()];
    for place in [3, 4, 5, 6] {
        nodes[place].features = vec!["amd".into(), "ib".into()];
    }
    nodes[6].memory = MemoryMib(500);
    nodes[5].gres = vec![GresDefinition { name: "gpu".into(), kind: "a100".into(), count: 2, indexed: true }];
    let mut settings = settings(&nodes);
    let mut short = PartitionDefinition::named("short");
    short.nodes = vec!["n1".into()];
    short.nodes_text = "n1".into();
    short.max_time = Some(Span::from_mins(10));
    settings.partitions.push(short);
    settings
}

#[test]
fn each_node_has_one_cause() {
    let mut world = World::with(mixed());
    let changes = || vec![("state".into(), "drain".into()), ("reason".into(), "x".into())];
    world.command(ROOT, Command::UpdateNodes { nodes: "n1,n2".into(), changes: changes() });
    for name in ["n4", "n5", "n6"] {
        let rare = Rare { nodelist: Some(name.into()), ..Rare::default() };
        let memory = Some(MemoryRequest::PerNode(MemoryMib(100)));
        world.submit(JobRequest { rare: Some(Box::new(rare)), memory, ..cpus(3, 30) });
    }
    let waits = world.submit(JobRequest {
        constraint: Some("amd&ib".into()),
        memory: Some(MemoryRequest::PerNode(MemoryMib(1000))),
        ..cpus(2, 5)
    });
    let told = why(&world, waits);
    let expected = [
        (Cause::Drained, 2),
        (Cause::Feature("feature ib".into()), 1),
        (Cause::SmallMemory, 1),
        (Cause::Cpus, 3),
    ];
    assert_eq!(causes(&told), expected);
    assert_eq!((told.partitions[0].total, told.partitions[0].wanted), (7, 1));
    let words: Vec<String> =
        told.partitions[0].causes.iter().map(|one| one.cause.words(one.nodes.len())).collect();
    assert_eq!(
        words,
        ["are drained", "lacks feature ib", "has too little memory in all", "have too few free CPUs"]
    );
    // One feature less, or less memory, would do; the smaller loss comes first.
    assert_eq!(&*change(&told, "--constraint").to, "amd");
    assert_eq!(&*change(&told, "--mem").to, "500M");
    assert!(told.changes.windows(2).all(|pair| pair[0].loss <= pair[1].loss), "{:#?}", told.changes);
}

#[test]
fn devices_partitions_and_lists() {
    let mut world = World::with(mixed());
    let gpu =
        |kind: Option<&str>, count| GresRequest { name: "gpu".into(), kind: kind.map(Into::into), count };
    let first = world.submit(JobRequest { gres_per_node: vec![gpu(None, 1)], ..cpus(1, 30) });
    assert_eq!(world.nodes_of(first), "n6");
    let waits = world.submit(JobRequest { gres_per_node: vec![gpu(Some("a100"), 2)], ..cpus(1, 30) });
    let told = why(&world, waits);
    assert_eq!(
        causes(&told),
        [(Cause::SmallGres("gpu:a100".into()), 6), (Cause::Gres("gpu:a100".into()), 1)]
    );
    let fewer = change(&told, "--gres");
    assert_eq!((&*fewer.from, &*fewer.to), ("gpu:a100:2", "gpu:a100:1"));
    assert_eq!(told.witnesses[0].others, [("gpu:a100".into(), 1)]);

    let long = world.submit(JobRequest { partition: Some("short".into()), ..cpus(1, 20) });
    let told = why(&world, long);
    assert_eq!((told.reason, &told.binding), (Reason::PartitionTimeLimit, &Binding::Partition));
    let (reason, words) = told.partitions[0].forbids.clone().expect("the partition forbids it");
    assert_eq!(reason, Reason::PartitionTimeLimit);
    assert_eq!(&*words, "the job's time limit is 00:20:00, the partition's largest is 00:10:00");
    assert_eq!(&*change(&told, "--time").to, "00:10:00");
    assert_eq!(&*change(&told, "--partition").to, "main");
}

#[test]
fn nodes_tasks_and_exclusive_nodes() {
    let mut world = World::new(3, 4);
    let hog = world.submit(JobRequest { ntasks: Some(1), ..cpus(2, 30) });
    assert_eq!(world.nodes_of(hog), "n1");
    let waits = world.submit(JobRequest {
        nodes: Some((3, Some(3))),
        ntasks_per_node: Some(4),
        time_limit: minutes(10),
        ..job()
    });
    let told = why(&world, waits);
    assert_eq!((told.binding.clone(), told.partitions[0].wanted), (Binding::Nodes, 3));
    assert_eq!(causes(&told), [(Cause::Cpus, 1), (Cause::Usable, 2)]);
    assert_eq!(&*change(&told, "--nodes").to, "2");
    assert_eq!(&*change(&told, "--ntasks-per-node").to, "2");

    let changes = vec![("priority".into(), "0".into())];
    world.outcomes(ALICE, Command::UpdateJob { job: whole(waits), changes });
    let alone = world.submit(JobRequest {
        nodes: Some((3, Some(3))),
        sharing: Sharing::Exclusive,
        time_limit: minutes(10),
        ..job()
    });
    let told = why(&world, alone);
    assert_eq!(causes(&told), [(Cause::NotIdle, 1), (Cause::Usable, 2)]);
    assert_eq!(&*change(&told, "--exclusive").to, "");
    assert_eq!(&*change(&told, "--nodes").to, "2");
}

#[test]
fn silent_and_removed_nodes_are_told_apart() {
    let mut world = World::new(2, 4);
    let gone = world.node("n1");
    world.input(scheduler_core::input::Input::Disconnected { node: gone });
    world.submit(cpus(4, 30));
    let waits = world.submit(cpus(1, 30));
    let told = why(&world, waits);
    assert_eq!(causes(&told), [(Cause::NotResponding, 1), (Cause::Cpus, 1)]);
}

fn what_if(world: &World, assumption: &Assumption) -> Result<Comparison, Refused> {
    let settings = world.machine.configuration().expect("the world is configured");
    compare(world.machine.state().clone(), settings, world.now, assumption)
}

/// Minutes from now of each move: before, after; -1: in the next pass.
fn moves(world: &World, comparison: &Comparison) -> Vec<(u32, Option<i64>, Option<i64>)> {
    let from_now = |outlook: &Outlook| match outlook {
        Outlook::Now { .. } => Some(-1),
        Outlook::Planned { start, .. } => Some(start.since(world.now).as_mins()),
        Outlook::Unknown => None,
    };
    comparison.moves.iter().map(|one| (one.job.0, from_now(&one.before), from_now(&one.after))).collect()
}

#[test]
fn what_if_a_node_drains_or_a_job_ends() {
    let mut world = World::new(2, 4);
    let first = world.submit(cpus(4, 10));
    world.submit(cpus(4, 20));
    let waits = world.submit(cpus(4, 5));
    let last = world.submit(cpus(4, 5));
    let digest = world.machine.state().digest();

    let comparison = what_if(&world, &Assumption::Drain("n1".into())).expect("a node may be drained");
    let expected = [(waits.0, Some(10), Some(20)), (last.0, Some(15), Some(25))];
    assert_eq!(moves(&world, &comparison), expected);

    let comparison = what_if(&world, &Assumption::End(first)).expect("a job may end");
    assert_eq!(moves(&world, &comparison), [(waits.0, Some(10), Some(-1)), (last.0, Some(15), Some(5))]);
    assert!(comparison.notes[0].contains("gives back 4 CPUs on n1"), "{:?}", comparison.notes);
    assert_eq!(world.machine.state().digest(), digest);

    assert!(what_if(&world, &Assumption::Drain("nope".into())).is_err());
    assert!(what_if(&world, &Assumption::End(JobId(999))).is_err());
}

#[test]
fn what_if_priorities_change() {
    let mut base = settings(&[node("n1", 4, 4000)]);
    base.multifactor = true;
    let mut world = World::with(base);
    world.submit(cpus(4, 10));
    let small = world.submit(cpus(3, 5));
    let large = world.submit(cpus(4, 5));

    let assumption = Assumption::Priority { job: large, priority: 1000 };
    let comparison = what_if(&world, &assumption).expect("a priority may be set");
    let expected = [(large.0, Some(15), Some(10)), (small.0, Some(10), Some(15))];
    assert_eq!(moves(&world, &comparison), expected);

    let weight = |key: &str| Assumption::Weight { key: key.into(), weight: 1000 };
    let comparison = what_if(&world, &weight("PriorityWeightJobSize")).expect("the weight exists");
    assert_eq!(moves(&world, &comparison), expected);
    let comparison = what_if(&world, &weight("qos")).expect("the weight exists");
    assert_eq!((comparison.moves.len(), comparison.unmoved), (0, 2));
    assert!(what_if(&world, &weight("luck")).is_err());
}

#[test]
fn what_if_jobs_are_added() {
    let mut world = World::new(1, 4);
    world.submit(cpus(4, 10));
    let low = world.submit(JobRequest { nice: 5, ..cpus(4, 5) });
    let add =
        |count, request: JobRequest| Assumption::Add { request: Arc::new(request), count, asker: asker(BOB) };
    let comparison = what_if(&world, &add(2, cpus(4, 7))).expect("jobs may be added");
    let new: BTreeMap<JobId, bool> = comparison.moves.iter().map(|one| (one.job, one.added)).collect();
    assert_eq!(new.values().filter(|added| **added).count(), 2);
    assert_eq!(comparison.unmoved + u32::from(new.contains_key(&low)), 1, "{comparison:#?}");
    // What can never run is refused as the submission would be.
    assert!(what_if(&world, &add(1, cpus(99, 7))).is_err());
    assert!(what_if(&world, &add(0, cpus(1, 7))).is_err());
    assert!(!world.machine.state().jobs.keys().any(|id| *id > low));
    assert!(world.now > Timestamp(0));
}
