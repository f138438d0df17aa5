//! Licenses in the plan of the future: planned starts, what is promised, and reasons.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::JobId;
use model::reason::Reason;
use model::request::JobRequest;
use model::time::Span;
use scheduler_core::input::Input;
use scheduler_core::plan::{Planner, Verdict};
use scheduler_core::settings::Settings;
use world::{World, job};

/// Two nodes of four CPUs, and two of `matlab`.
fn settings() -> Settings {
    world::settings(&[world::node("n1", 4, 4000), world::node("n2", 4, 4000)])
}

fn ask(cpus: u32, licenses: u32, minutes: i64) -> JobRequest {
    let mut request = JobRequest {
        ntasks: Some(1),
        cpus_per_task: Some(cpus),
        time_limit: Some(Some(Span::from_mins(minutes))),
        ..job()
    };
    if licenses > 0 {
        request.rare_mut().licenses = Some(format!("matlab:{licenses}").into());
    }
    request
}

/// What a planner made anew says of all that waits, once its plan has been recorded.
fn verdicts(world: &mut World) -> BTreeMap<JobId, Verdict> {
    let settings = world.machine.configuration().cloned().expect("the world is configured");
    let mut out = BTreeMap::new();
    for _ in 0..2 {
        let pass = Planner::new().pass(world.machine.state(), &settings, world.now);
        out = pass.verdicts.into_iter().map(|verdict| (verdict.job, verdict)).collect();
        world.input(Input::Plan(pass.plan));
    }
    out
}

/// Minutes from now to the planned start of a waiting job.
#[track_caller]
fn planned(world: &mut World, id: JobId) -> Option<i64> {
    let now = world.now;
    let verdict = verdicts(world).remove(&id).expect("the job waits");
    verdict.planned.map(|planned| planned.start.since(now).as_secs() / 60)
}

#[test]
fn a_job_that_waits_for_a_license_has_a_planned_start() {
    let mut world = World::with(settings());
    world.submit(ask(1, 2, 10));
    let waits = world.submit(ask(1, 1, 5));
    let behind = world.submit(ask(1, 2, 5));
    assert_eq!(world.reasons.get(&waits), Some(&Reason::Licenses));
    assert_eq!(planned(&mut world, waits), Some(10));
    assert_eq!(planned(&mut world, behind), Some(15));
    assert_eq!(verdicts(&mut world)[&behind].reason, Reason::Licenses);
    // Who asks for none starts beside them.
    let other = world.submit(ask(4, 0, 60));
    assert!(world.machine.state().jobs[&other].active().is_some());
}

#[test]
fn a_license_that_is_promised_is_not_given_to_a_long_job_behind() {
    let mut world = World::with(settings());
    world.submit(ask(1, 1, 10));
    let both = world.submit(ask(1, 2, 5));
    assert_eq!(planned(&mut world, both), Some(10));
    let long = world.submit(ask(1, 1, 11));
    assert_eq!(world.reasons.get(&long), Some(&Reason::Licenses));
    let short = world.submit(ask(1, 1, 10));
    assert!(world.machine.state().jobs[&short].active().is_some());
    assert_eq!(planned(&mut world, both), Some(10), "nobody behind delays it");
}

#[test]
fn a_license_that_comes_back_early_starts_who_waits_for_it() {
    let mut world = World::with(settings());
    let holder = world.submit(ask(1, 2, 60));
    let waits = world.submit(ask(1, 2, 5));
    assert_eq!(planned(&mut world, waits), Some(60));
    world.exit(holder, 0);
    assert!(world.machine.state().jobs[&waits].active().is_some());
}

#[test]
fn nodes_and_licenses_are_free_at_once() {
    let mut world = World::with(settings());
    // All CPUs until minute 20, the licenses until minute 10; another takes one again from 20 on.
    world.submit(ask(4, 2, 10));
    world.submit(ask(4, 0, 20));
    let first = world.submit(ask(4, 0, 15));
    let second = world.submit(ask(4, 1, 5));
    assert_eq!(planned(&mut world, first), Some(10));
    assert_eq!(planned(&mut world, second), Some(20));
}

#[test]
fn fewer_licenses_than_are_in_use() {
    let mut world = World::with(settings());
    let holder = world.submit(ask(1, 2, 60));
    let waits = world.submit(ask(1, 1, 5));
    let fewer = Settings { licenses: BTreeMap::from([("matlab".into(), 1)]), ..settings() };
    world.input(Input::Configure(Arc::new(fewer)));
    assert_eq!(planned(&mut world, waits), Some(60));
    world.exit(holder, 0);
    assert!(world.machine.state().jobs[&waits].active().is_some());
    let again = world.submit(ask(1, 1, 5));
    assert_eq!(world.reasons.get(&again), Some(&Reason::Licenses), "one in all, and it is in use");
}

/// A planner that follows records says and proposes what one made anew does, whatever comes and goes.
#[test]
fn following_is_as_good_as_planning_anew() {
    let mut seed = 3_u64;
    let mut below = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..25 {
        let mut world = World::with(settings());
        let mut follower = Planner::following();
        let mut seen = 0;
        for _ in 0..40 {
            match below(4) {
                0 => {
                    let running: Vec<JobId> = world.machine.state().index.running.iter().copied().collect();
                    if !running.is_empty() {
                        world.exit(running[below(running.len() as u64) as usize], 0);
                    }
                }
                1 => world.wait(Span::from_secs(30)),
                _ => {
                    world.submit(ask(1 + below(4) as u32, below(3) as u32, 1 + below(9) as i64));
                }
            }
            for record in &world.records[seen..] {
                follower.observe(record);
            }
            seen = world.records.len();
            let settings = world.machine.configuration().cloned().expect("the world is configured");
            let mine = follower.pass(world.machine.state(), &settings, world.now);
            let anew = Planner::new().pass(world.machine.state(), &settings, world.now);
            assert_eq!(mine.plan.starts, anew.plan.starts);
            world.input(Input::Plan(mine.plan));
            let used = &world.machine.state().index.licenses_used;
            assert!(used.values().all(|count| *count <= 2), "{used:?}");
        }
    }
}
