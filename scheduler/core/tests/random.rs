//! Random histories: after every input the state agrees with itself; replaying its records, or a
//! snapshot of it, gives the same digest; the same seed gives the same records.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test reads its seed and prints it"
)]

mod world;

use model::exit::ExitStatus;
use model::id::{JobId, NodeIdx};
use model::request::{JobRequest, Kind};
use model::time::Span;

use scheduler_core::apply::apply;
use scheduler_core::effect::RunKey;
use scheduler_core::input::{Command, Input, OutcomeKind, Report, StepRequest};
use scheduler_core::state::State;
use world::{ALICE, BOB, Life, ROOT, World, job, whole};

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| list[self.below(list.len() as u64) as usize])
    }
}

fn request(random: &mut SplitMix64, jobs: &[JobId]) -> JobRequest {
    let mut request = job();
    request.ntasks = Some(1 + random.below(6) as u32);
    request.nodes = (random.below(4) == 0).then(|| (1 + random.below(2) as u32, None));
    request.hold = random.below(12) == 0;
    request.time_limit = (random.below(2) == 0).then(|| Some(Span::from_mins(1 + random.below(9) as i64)));
    request.kind = if random.below(6) == 0 { Kind::Allocation } else { Kind::Batch };
    if random.below(5) == 0 {
        let last = 1 + random.below(7);
        request.array = world::array(&format!("1-{last}%{}", 1 + random.below(3))).array;
        request.kind = Kind::Batch;
    }
    if let (0, Some(other)) = (random.below(4), random.pick(jobs)) {
        let kind =
            random.pick(&["after", "afterok", "afterany", "afternotok", "aftercorr"]).expect("five kinds");
        request.dependency = world::after(&format!("{kind}:{other}")).dependency;
    }
    if random.below(9) == 0 {
        request.rare_mut().licenses = Some("matlab:1".into());
    }
    request
}

fn step(world: &mut World, random: &mut SplitMix64) {
    let jobs: Vec<JobId> = world.machine.state().jobs.keys().copied().collect();
    let alive: Vec<(NodeIdx, RunKey)> = world.alive.keys().copied().collect();
    let user = random.pick(&[ALICE, ALICE, BOB, ROOT]).expect("four users");
    match random.below(14) {
        0..=3 => {
            let request = request(random, &jobs);
            world.try_submit(user, request);
        }
        4..=6 => {
            if let Some((node, run)) = random.pick(&alive) {
                let kind = random
                    .pick(&[
                        OutcomeKind::Exited,
                        OutcomeKind::Exited,
                        OutcomeKind::TimeLimit,
                        OutcomeKind::Lost,
                    ])
                    .expect("four kinds");
                world.report(node, run, kind, ExitStatus::from_code(random.below(2) as i32));
            }
        }
        7 => world.wait(Span::from_secs(random.below(200) as i64)),
        8 => {
            if let Some(id) = random.pick(&jobs) {
                world.cancel(user, id);
            }
        }
        9 => {
            if let Some(id) = random.pick(&jobs) {
                let jobs = vec![whole(id)];
                let (hold, special_exit) = (random.below(2) == 0, random.below(5) == 0);
                world.command(user, Command::Requeue { jobs, hold, special_exit });
            }
        }
        10 => {
            if let Some(id) = random.pick(&jobs) {
                let command = match random.below(4) {
                    0 => Command::Hold { jobs: vec![whole(id)], as_user: false },
                    1 => Command::Release(vec![whole(id)]),
                    2 => Command::Suspend(vec![whole(id)]),
                    _ => Command::Resume(vec![whole(id)]),
                };
                world.command(user, command);
            }
        }
        11 => reconnect(world, random),
        12 => {
            if let Some(id) = random.pick(&jobs) {
                let ntasks = Some(1 + random.below(3) as u32);
                let overlap = random.below(2) == 0;
                let step = Box::new(StepRequest { ntasks, overlap, ..StepRequest::default() });
                world.command(ALICE, Command::CreateStep { job: id, step });
            }
        }
        _ => {
            if let Some(id) = random.pick(&jobs) {
                world.command(ALICE, Command::EndAllocation { job: id, exit: ExitStatus::SUCCESS });
            }
        }
    }
}

fn reconnect(world: &mut World, random: &mut SplitMix64) {
    let name = random.pick(&["n1", "n2", "n3"]).expect("three nodes");
    let node = world.node(name);
    world.input(Input::Disconnected { node });
    let before = world.machine.state().node(node).incarnation.expect("it registered before");
    let (boot, spool) = (before.boot.0[0], before.spool.0[0]);
    let (boot, spool) = match random.below(4) {
        0 => (boot.wrapping_add(1), spool),
        _ => (boot, spool),
    };
    if boot != before.boot.0[0] {
        world.alive.retain(|(place, _), _| *place != node);
    }
    let runs: Vec<(RunKey, Report)> = world
        .alive
        .iter()
        .filter(|((place, _), _)| *place == node)
        .map(|((_, run), _)| (*run, Report::Begun { at: world.now }))
        .collect();
    world.register(name, boot, spool, runs);
}

fn history(seed: u64, steps: u64) -> World {
    let mut random = SplitMix64(seed);
    let mut world = World::new(3, 4);
    for _ in 0..steps {
        step(&mut world, &mut random);
    }
    world
}

/// Cancels everything and lets it end: nothing may be left behind.
fn wind_down(world: &mut World) {
    for _ in 0..3 {
        let ids: Vec<JobId> = world.machine.state().jobs.keys().copied().collect();
        for id in ids {
            world.cancel(ROOT, id);
        }
        for life in world.alive.values_mut() {
            *life = Life::Stopping;
        }
        world.settle();
    }
    let state = world.machine.state();
    let left: Vec<_> = state.jobs.values().filter(|job| job.ended().is_none()).collect();
    assert!(left.is_empty(), "still there: {left:#?}");
    assert!(state.nodes.iter().all(|node| node.used.jobs == 0));
    world.wait(Span::from_secs(400));
    assert!(world.machine.state().jobs.is_empty());
    assert!(world.machine.state().arrays.is_empty());
}

#[test]
fn random_histories_agree_with_themselves() {
    let seeds: u64 = std::env::var("SLUICE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut world = history(seed, 120);
        let digest = world.machine.state().digest();
        assert_eq!(world.replayed().digest(), digest, "replaying the records");
        let mut again = State::default();
        world.machine.state().to_records(|record| apply(&mut again, &record));
        assert_eq!(again.digest(), digest, "rebuilding from a snapshot");
        wind_down(&mut world);
    }
}

#[test]
fn the_same_seed_gives_the_same_records() {
    assert_eq!(history(7, 100).records, history(7, 100).records);
}
