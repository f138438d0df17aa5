//! Runs with a shorter limit than asked for (`--time-min`): when, how long, and what is left as it was.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::{JobId, PartitionIdx};
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use model::time::Span;
use scheduler_core::apply::apply;
use scheduler_core::effect::Answer;
use scheduler_core::input::{AccountChange, Command, Input, Plan, PlannedStart};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::place;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::accounts::Qos;
use scheduler_core::state::job::{Hold, Limit};
use world::{ALICE, ROOT, World, job, node};

/// One task of so many CPUs, for so many minutes.
fn ask(cpus: u32, minutes: i64) -> JobRequest {
    JobRequest {
        ntasks: Some(1),
        cpus_per_task: Some(cpus),
        time_limit: Some(Some(Span::from_mins(minutes))),
        ..job()
    }
}

/// The same, for so many minutes at least.
fn at_least(least: i64, mut request: JobRequest) -> JobRequest {
    request.rare_mut().time_min = Some(Span::from_mins(least));
    request
}

/// One node of four CPUs on which two are taken for half an hour and the next job has all of them after that.
fn before_a_large_job(settings: Settings) -> (World, JobId) {
    let mut world = World::with(settings);
    let first = world.submit(ask(2, 30));
    assert!(world.machine.state().jobs[&first].active().is_some());
    let large = world.submit(ask(4, 60));
    assert_eq!(world.state_of(large), JobState::Pending);
    (world, first)
}

fn settings() -> Settings {
    world::settings(&[node("n1", 4, 4000)])
}

/// The limit of a running job, minutes; `None`: it does not run.
fn limit(world: &World, id: JobId) -> Option<i64> {
    let limit = world.machine.state().jobs[&id].active()?.limit.expect("these jobs have limits");
    assert_eq!(limit, Span::from_mins(limit.as_mins()), "whole minutes");
    Some(limit.as_mins())
}

/// Minutes from now to the planned start of a waiting job.
fn planned(world: &World, id: JobId) -> Option<i64> {
    let settings = world.machine.configuration().cloned().expect("the world is configured");
    let pass = Planner::new().pass(world.machine.state(), &settings, world.now);
    let found = pass.verdicts.iter().find(|verdict| verdict.job == id)?;
    found.planned.as_ref().map(|planned| planned.start.since(world.now).as_secs() / 60)
}

fn update(world: &mut World, job: JobId, words: &str) -> Option<Refusal> {
    let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
    let changes = words.split_whitespace().map(|word| pair(word).expect("the test writes pairs")).collect();
    let outcome = world.outcomes(ALICE, Command::UpdateJob { job: world::whole(job), changes }).remove(0);
    outcome.refused.map(|refused| refused.refusal)
}

#[test]
fn a_run_is_as_long_as_leaves_who_is_ahead_alone() {
    let (mut world, _) = before_a_large_job(settings());
    let rigid = world.submit(ask(1, 40));
    let choosy = world.submit(at_least(31, ask(1, 40)));
    let short = world.submit(at_least(10, ask(1, 20)));
    let cut = world.submit(at_least(10, ask(1, 40)));
    assert_eq!(limit(&world, rigid), None);
    assert_eq!(limit(&world, choosy), None, "half an hour is too short");
    assert_eq!(limit(&world, short), Some(20), "what has room whole is not cut");
    assert_eq!(limit(&world, cut), Some(30));
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn seconds_are_left_over() {
    let (mut world, _) = before_a_large_job(settings());
    world.wait(Span::from_secs(119));
    let cut = world.submit(at_least(10, ask(1, 40)));
    assert_eq!(limit(&world, cut), Some(28), "28 minutes and a second are left");
    world.wait(Span::from_mins(18));
    let last = world.submit(at_least(10, ask(1, 40)));
    assert_eq!(limit(&world, last), Some(10), "its least, whole");
}

#[test]
fn the_planned_start_is_that_of_the_least_run() {
    let mut world = World::with(world::settings(&[node("n1", 4, 4000), node("n2", 4, 4000)]));
    world.submit(ask(4, 10));
    world.submit(ask(4, 30));
    let both = world.submit(JobRequest { nodes: Some((2, Some(2))), ntasks: Some(8), ..ask(1, 60) });
    let rigid = world.submit(ask(4, 60));
    let flexible = world.submit(at_least(20, ask(4, 60)));
    assert_eq!(planned(&world, both), Some(30));
    assert_eq!(planned(&world, rigid), Some(90));
    assert_eq!(planned(&world, flexible), Some(10), "twenty minutes are free before all nodes are promised");
}

/// What a shortened run leaves as it was: the job's own limit, for its next run.
#[test]
fn a_requeued_job_asks_for_its_whole_limit_again() {
    let (mut world, first) = before_a_large_job(settings());
    let cut = world.submit(at_least(10, JobRequest { requeue: Some(true), ..ask(1, 40) }));
    assert_eq!(limit(&world, cut), Some(30));
    world.outcomes(ROOT, Command::Requeue { jobs: vec![world::whole(cut)], hold: true, special_exit: false });
    world.settle();
    let job = &world.machine.state().jobs[&cut];
    assert_eq!((job.limit, job.pending().is_some()), (Limit::After(Span::from_mins(40)), true));
    world.exit(first, 0);
    let large = JobId(first.0 + 1);
    assert_eq!(limit(&world, large), Some(60));
    world.exit(large, 0);
    world.outcomes(ROOT, Command::Release(vec![world::whole(cut)]));
    world.wait(Span::from_mins(3));
    world.submit(JobRequest { hold: true, ..ask(1, 1) });
    assert_eq!(limit(&world, cut), Some(40));
}

/// The node is somebody else's in 45 minutes.
fn reserved_ahead(settings: Settings) -> World {
    let mut world = World::with(settings);
    let start = format!("@{}", world.now.saturating_add(Span::from_mins(45)).0);
    let words = [("starttime", &*start), ("duration", "30"), ("nodes", "n1"), ("users", "bob:2002")];
    let changes = words.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    let made = world.outcomes(ROOT, Command::UpdateReservation { name: "r".into(), changes, create: true });
    assert!(made[0].refused.is_none(), "{made:?}");
    world
}

/// Elements of an array are jobs like others.
#[test]
fn elements_of_an_array_are_shortened_each() {
    let (mut world, _) = before_a_large_job(settings());
    let spec = model::array::ArraySpec::parse("0-4", 10).expect("an array");
    world.submit(at_least(10, JobRequest { array: Some(spec), ..ask(1, 40) }));
    let state = world.machine.state();
    let limits: Vec<_> = state.index.running.iter().filter_map(|id| limit(&world, *id)).collect();
    assert_eq!(limits, [30, 30, 30], "the first job, and two elements");
}

#[test]
fn licenses_and_reservations_that_are_ahead_shorten_a_run_too() {
    let mut world = World::with(world::settings(&[node("n1", 4, 4000), node("n2", 4, 4000)]));
    let licensed = |count: u32, mut request: JobRequest| {
        request.rare_mut().licenses = Some(format!("matlab:{count}").into());
        request
    };
    world.submit(licensed(1, ask(1, 15)));
    world.submit(licensed(2, ask(1, 60)));
    let cut = world.submit(at_least(5, licensed(1, ask(1, 40))));
    assert_eq!(limit(&world, cut), Some(15));

    let mut world = reserved_ahead(settings());
    let rigid = world.submit(ask(1, 60));
    let cut = world.submit(at_least(5, ask(1, 60)));
    let late = world.submit(at_least(46, ask(1, 60)));
    assert_eq!((limit(&world, rigid), limit(&world, cut), limit(&world, late)), (None, Some(45), None));
}

/// Only backfill shortens; and a deadline says itself how long a run may be.
#[test]
fn without_backfill_and_with_a_deadline_only_the_whole_limit_will_do() {
    let mut in_order = settings();
    in_order.policy.depth = Some(0);
    let mut world = reserved_ahead(in_order);
    let other = world.submit(at_least(10, ask(1, 60)));
    assert_eq!(limit(&world, other), None);

    let (mut world, _) = before_a_large_job(settings());
    let mut request = at_least(10, ask(1, 40));
    request.rare_mut().deadline = Some(world.now.saturating_add(Span::from_mins(35)));
    let bound = world.submit(request);
    assert_eq!(limit(&world, bound), None);
}

/// The state in which held jobs are let go and nobody has planned since.
fn released(world: &World, jobs: &[JobId]) -> State {
    let mut state = world.machine.state().clone();
    for &job in jobs {
        apply(&mut state, &Record::JobPriority { job, priority: 100 - job.0, hold: Hold::None });
    }
    state
}

/// A machine that carries out a plan in a state.
fn carried_out(world: &World, state: State, plan: Plan) -> Machine {
    let mut machine = Machine::new(state);
    let configuration = world.machine.configuration().cloned().expect("the world is configured");
    machine.handle(world.now, Input::Configure(Arc::new((*configuration).clone())), &mut Outbox::default());
    machine.handle(world.now, Input::Plan(plan), &mut Outbox::default());
    machine
}

fn held(request: JobRequest) -> JobRequest {
    JobRequest { hold: true, ..request }
}

/// The machine believes no planner: a limit that the job does not let itself in for starts nothing.
#[test]
fn a_limit_that_the_job_does_not_allow_is_not_carried_out() {
    let mut world = World::with(settings());
    let rigid = world.submit(held(ask(1, 40)));
    let flexible = world.submit(held(at_least(10, ask(1, 40))));
    let configuration = world.machine.configuration().cloned().expect("the world is configured");
    for (job, minutes, starts) in [
        (rigid, 20, false),
        (flexible, 9, false),
        (flexible, 40, false),
        (flexible, 10, true),
        (flexible, 39, true),
    ] {
        let state = released(&world, &[job]);
        let partition = PartitionIdx(0);
        let allocation =
            place::place(&state, &configuration, &state.jobs[&job], partition).expect("it is free");
        let shortened = Some(Span::from_mins(minutes));
        let start = PlannedStart { job, partition, allocation, shortened };
        let machine = carried_out(&world, state, Plan { starts: vec![start], ..Plan::default() });
        let limit = machine.state().jobs[&job].active().and_then(|active| active.limit);
        assert_eq!(limit, shortened.filter(|_| starts), "{minutes} minutes");
    }
}

/// What may still be used is counted by the limits that runs have, in a plan and where it is carried out.
#[test]
fn a_shortened_run_counts_for_its_own_minutes() {
    let mut limited = world::settings(&[node("n1", 8, 4000)]);
    limited.enforce.limits = true;
    let mut world = World::with(limited);
    let attributes = BTreeMap::from([("grptresrunmins".into(), "cpu=100".into())]);
    let most = AccountChange::Qos("q".into(), Some(Qos { attributes, ..Qos::default() }));
    assert_eq!(world.command(ROOT, Command::ChangeAccounts(vec![most])), Answer::Done);
    world.submit(ask(2, 30));
    world.submit(ask(8, 60));
    let one = held(at_least(10, JobRequest { qos: Some("q".into()), ..ask(1, 40) }));
    let jobs: Vec<JobId> = (0..4).map(|_| world.submit(one.clone())).collect();
    let state = released(&world, &jobs);
    let settings = world.machine.configuration().cloned().expect("the world is configured");
    let plan = Planner::new().pass(&state, &settings, world.now).plan;
    // Each asks for 40 minutes beside the 30 of those before it: 100 for the third, 130 for the fourth.
    let starts: Vec<_> = plan.starts.iter().map(|start| (start.job, start.shortened)).collect();
    let half = Some(Span::from_mins(30));
    assert_eq!(starts, [(jobs[0], half), (jobs[1], half), (jobs[2], half)]);
    let machine = carried_out(&world, state, plan);
    assert!(jobs[..3].iter().all(|job| machine.state().jobs[job].active().is_some()));
}

#[test]
fn the_least_limit_of_a_waiting_job_is_changed() {
    let (mut world, first) = before_a_large_job(settings());
    let waits = world.submit(ask(1, 40));
    assert_eq!(limit(&world, waits), None);
    assert_eq!(world.reasons.get(&waits), Some(&Reason::Priority));
    for (words, refused) in [
        ("TimeMin=41", Some(Refusal::InvalidTimeMin)),
        ("TimeMin=soon", Some(Refusal::InvalidTimeMin)),
        ("TimeMin=35", None),
        ("TimeLimit=34", Some(Refusal::InvalidTimeMin)),
        ("TimeLimit=39 TimeMin=36", None),
        ("TimeMin=0", None),
        ("TimeMin=0:20:00", None),
    ] {
        assert_eq!(update(&mut world, waits, words), refused, "{words}");
    }
    assert_eq!(limit(&world, waits), Some(30), "it may be shorter now");
    // Of a running job the least is history, but its limit is not set below it.
    assert_eq!(update(&mut world, waits, "TimeMin=5"), None);
    assert_eq!(world.machine.state().jobs[&waits].request.rare().time_min, Some(Span::from_mins(20)));
    assert_eq!(update(&mut world, waits, "TimeLimit=19"), Some(Refusal::InvalidTimeMin));
    assert_eq!(update(&mut world, first, "TimeLimit=19"), None);
    assert!(matches!(world.try_submit(ALICE, at_least(50, ask(1, 40))), Answer::Refused(_)));
}
