//! Predictions of run times: what is learnt, when a job gets its own, what the plan makes of it.

mod world;

use std::sync::Arc;

use model::id::{JobId, Uid};
use model::job::JobState;
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use scheduler_core::apply::apply;
use scheduler_core::input::{Command, Input};
use scheduler_core::plan::policy::Prediction;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::prediction::LastRuns;
use scheduler_core::state::promise::Cause;
use world::{ALICE, BOB, World, array, job, whole};

/// One node of two CPUs.
fn settings(prediction: Prediction) -> Settings {
    let mut settings = world::settings(&[world::node("n1", 2, 4000)]);
    settings.policy.prediction = prediction;
    settings
}

fn predicting() -> World {
    let mut world = World::with(settings(Prediction::Avg2));
    world.keeps = true;
    world
}

/// Both CPUs, up to so many seconds.
fn whole_node(limit_s: i64) -> JobRequest {
    JobRequest { ntasks: Some(2), time_limit: Some(Some(Span::from_secs(limit_s))), ..job() }
}

/// Runs a job of the whole node for so many seconds.
fn run(world: &mut World, seconds: i64) {
    let id = world.submit(whole_node(3600));
    world.wait(Span::from_secs(seconds));
    world.exit(id, 0);
}

fn predicted(world: &World, id: JobId) -> Option<u32> {
    world.machine.state().job(id).unwrap().predicted.as_secs()
}

fn runs_of(world: &World, user: Uid) -> Option<LastRuns> {
    world.machine.state().predictions.runs.get(&user).copied()
}

fn planned(world: &World, id: JobId) -> Option<Timestamp> {
    world.machine.state().promises.of(id).map(|promise| promise.start)
}

#[test]
fn the_last_two_runs_count_from_the_submission_on() {
    let mut world = predicting();
    run(&mut world, 100);
    let early = world.submit(JobRequest { hold: true, ..job() });
    assert_eq!(predicted(&world, early), None, "one run is no mean");
    run(&mut world, 61);
    assert_eq!(runs_of(&world, ALICE), Some(LastRuns { earlier_s: Some(100), last_s: 61 }));
    let held = world.submit(JobRequest { hold: true, ..job() });
    let ran = world.submit(whole_node(3600));
    assert_eq!((predicted(&world, held), predicted(&world, ran)), (Some(80), Some(80)), "rounded down");
    world.try_submit(BOB, job());
    let bobs = world.machine.state().jobs.values().last().unwrap();
    assert_eq!((bobs.owner.uid, bobs.predicted.as_secs()), (BOB, None), "others learn for themselves");
    world.wait(Span::from_secs(7));
    world.exit(ran, 1);
    assert_eq!(
        runs_of(&world, ALICE),
        Some(LastRuns { earlier_s: Some(61), last_s: 7 }),
        "failed ones count"
    );
    // What was believed of a job stays, also where it never starts, and that teaches nothing.
    assert_eq!((predicted(&world, early), predicted(&world, held)), (None, Some(80)));
    world.cancel(ALICE, held);
    assert_eq!(world.state_of(held), JobState::Cancelled);
    assert_eq!(runs_of(&world, ALICE), Some(LastRuns { earlier_s: Some(61), last_s: 7 }));
    let elements = world.submit(array("0-1"));
    let believed: Vec<Option<u32>> = world
        .machine
        .state()
        .jobs
        .values()
        .filter(|job| job.array_id() == Some(elements))
        .map(|job| job.predicted.as_secs())
        .collect();
    assert!(believed.len() > 1 && believed.iter().all(|one| *one == Some(34)), "{believed:?}");
}

#[test]
fn time_suspended_is_no_run_time() {
    let mut world = predicting();
    let id = world.submit(whole_node(3600));
    world.wait(Span::from_secs(10));
    world.outcomes(world::ROOT, Command::Suspend(vec![whole(id)]));
    world.wait(Span::from_secs(500));
    world.outcomes(world::ROOT, Command::Resume(vec![whole(id)]));
    world.wait(Span::from_secs(5));
    world.exit(id, 0);
    assert_eq!(runs_of(&world, ALICE), Some(LastRuns { earlier_s: None, last_s: 15 }));
}

#[test]
fn records_and_a_snapshot_have_all_of_it() {
    let mut world = predicting();
    run(&mut world, 30);
    run(&mut world, 50);
    let id = world.submit(whole_node(3600));
    let state = world.machine.state();
    assert_eq!(world.replayed().digest(), state.digest());
    let mut again = State::default();
    state.to_records(|record| apply(&mut again, &record));
    assert_eq!(again.predictions, state.predictions);
    assert_eq!(again.job(id).map(|job| job.predicted.as_secs()), Some(Some(40)));
    // A snapshot's ended jobs teach nothing a second time.
    assert_eq!(again.digest(), state.digest());
}

#[test]
fn nothing_is_learnt_where_none_are_made() {
    let mut world = World::with(settings(Prediction::None));
    run(&mut world, 30);
    run(&mut world, 50);
    let id = world.submit(job());
    assert_eq!((predicted(&world, id), world.machine.state().predictions.runs.len()), (None, 0));
    let said = |world: &World| world.records.iter().any(|record| matches!(record, Record::Predicting(_)));
    assert!(!said(&world), "a journal without predictions is as it was");
    world.input(Input::Configure(Arc::new(settings(Prediction::Avg2))));
    assert!(said(&world));
    world.exit(id, 0);
    assert!(runs_of(&world, ALICE).is_some());
    world.input(Input::Configure(Arc::new(settings(Prediction::None))));
    assert_eq!(world.machine.state().predictions, Default::default(), "what was learnt goes");
}

#[test]
fn a_promise_builds_on_it_and_moves_when_it_is_outlived() {
    let mut world = predicting();
    run(&mut world, 30);
    run(&mut world, 50);
    let running = world.submit(whole_node(600));
    let start = world.now;
    let waits = world.submit(whole_node(600));
    assert_eq!(planned(&world, waits), Some(start.saturating_add(Span::from_secs(40))));
    world.wait(Span::from_secs(41));
    // A pass sees it.
    world.input(Input::Configure(Arc::new(settings(Prediction::Avg2))));
    assert_eq!(world.state_of(running), JobState::Running);
    assert_eq!(planned(&world, waits), Some(start.saturating_add(Span::from_secs(600))));
    let causes = world.records.iter().filter_map(|record| match record {
        Record::Promises { changes, .. } => changes.iter().find(|change| change.job == waits),
        _ => None,
    });
    assert_eq!(causes.map(|change| change.cause).next_back(), Some(Cause::Outlived));
}
