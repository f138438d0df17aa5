//! GPUs in slices: what is offered, what a request gets, who waits until when, and what never overlaps.
//!
//! The world's checks after every input include that slices of a GPU never overlap and that the state which records
//! rebuild is the same.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::gpu::{Gpu, GpuMode, MigInstance, MigProfile};
use model::gres::{parse_gpus, parse_list};
use model::id::JobId;
use model::job::JobState;
use model::quantity::MemoryMib;
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::{JobRequest, MemoryRequest};
use model::time::Span;
use proptest::prelude::*;
use scheduler_core::allocation::{GresShare, Slice};
use scheduler_core::effect::Answer;
use scheduler_core::gpu::fleet::Fleet;
use scheduler_core::gpu::geometry::{Occupancy, Profile};
use scheduler_core::gpu::model::Model;
use scheduler_core::gpu::outlook::{Outlook, instants};
use scheduler_core::gpu::policy::Rule;
use scheduler_core::gpu::slice_set::SliceSet;
use scheduler_core::input::{Input, Plan, PlannedStart};
use scheduler_core::plan::explain::explain;
use scheduler_core::plan::{Fixed, Moves};
use scheduler_core::settings::Settings;
use scheduler_core::state::node::Node;
use scheduler_core::state::promise::Promise;
use scheduler_core::tally::Tally;
use world::gpus::{shares, wants, world_with};
use world::{ALICE, World, job};

/// An A100 with 40 GB as the driver shows it.
fn a100(index: u32, mode: GpuMode) -> Gpu {
    let profile = |(id, profile): (u32, Profile)| MigProfile {
        id,
        name: Model::A100With40.name(profile).into(),
        compute_slices: profile.compute_slices(),
        memory_slices: profile.memory_slices(),
        memory_mib: u64::from(profile.memory_slices()) * 4864,
        starts: profile.starts().iter().copied().map(u32::from).collect(),
    };
    let profiles = (0..).zip(Profile::ALL).map(profile).collect();
    Gpu { index, kind: "a100".into(), mode, profiles, ..Gpu::default() }
}

fn instance(profile: &str, start: u32, size: u32) -> MigInstance {
    MigInstance { profile: profile.into(), start, size, ..MigInstance::default() }
}

fn world(nodes: &[(&str, &str, Vec<Gpu>)]) -> World {
    world_with(nodes, |settings| settings)
}

fn dynamic(gpus: u32) -> World {
    let list = (0..gpus).map(|index| a100(index, GpuMode::Dynamic)).collect();
    world(&[("g1", &format!("gpu:a100:{gpus}"), list)])
}

/// `0:3g.20gb@4 …` of a running job; `wait` of one that waits.
fn slices(world: &World, id: JobId) -> String {
    if world.state_of(id) == JobState::Pending {
        return "wait".to_owned();
    }
    let text = |slice: &Slice| match slice.size {
        0 => format!("{}", slice.gpu),
        _ => format!("{}:{}@{}", slice.gpu, slice.profile, slice.start),
    };
    let shares = shares(world, id);
    shares.iter().flat_map(|share| &share.slices).map(text).collect::<Vec<_>>().join(" ")
}

fn promise(world: &World, id: JobId) -> Promise {
    world.machine.state().promises.of(id).expect("the test asks of a promised job").clone()
}

fn minutes_until(world: &World, id: JobId) -> f64 {
    promise(world, id).start.since(world.now).as_millis() as f64 / 60_000.0
}

#[test]
fn two_large_slices_share_a_gpu_and_the_third_waits() {
    let mut world = dynamic(1);
    let jobs: Vec<JobId> = (0..3).map(|_| world.submit(wants("gpu:3g.20gb:1", 10))).collect();
    let mut places = [slices(&world, jobs[0]), slices(&world, jobs[1])];
    places.sort_unstable();
    assert_eq!(places, ["0:3g.20gb@0", "0:3g.20gb@4"]);
    assert_eq!(world.reasons[&jobs[2]], Reason::Resources);
    world.exit(jobs[0], 0);
    assert_eq!(slices(&world, jobs[2]), places[usize::from(slices(&world, jobs[1]) == places[0])]);
    let state = world.machine.state();
    assert_eq!(world.replayed().digest(), state.digest());
    let tally = Tally::of_allocation(state, &state.jobs[&jobs[2]].active().unwrap().allocation);
    for name in ["gres/gpu", "gres/gpu:3g.20gb", "gres/gpu:a100_3g.20gb"] {
        assert_eq!(tally.amount(name), 1, "{name}");
    }
    assert_eq!(tally.amount("gres/gpu:a100"), 0, "no whole GPU is held");
}

#[test]
fn spellings_of_one_request() {
    let gpus = |text: &str| JobRequest { gpus_per_job: parse_gpus(text).unwrap(), ..job() };
    let per_node = |text: &str| JobRequest { gpus_per_node: parse_gpus(text).unwrap(), ..job() };
    let per_task =
        |text: &str| JobRequest { gpus_per_task: parse_gpus(text).unwrap(), ntasks: Some(1), ..job() };
    let socket = |text: &str| JobRequest { gpus_per_socket: parse_gpus(text).unwrap(), ..job() };
    for request in [
        wants("gpu:3g.20gb:1", 1),
        wants("gpu:3g.20gb", 1),
        wants("gpu:a100_3g.20gb:1", 1),
        wants("gpu:20gb+:1", 1),
        wants("gpu:11gb+", 1),
        gpus("3g.20gb:1"),
        gpus("20gb+:1"),
        per_node("a100_3g.20gb"),
        per_task("3g.20gb"),
        socket("3g.20gb"),
    ] {
        let mut world = dynamic(1);
        let text = format!("{request:?}");
        let id = world.submit(request);
        assert!(slices(&world, id).starts_with("0:3g.20gb@"), "{text}: {}", slices(&world, id));
    }
    for impossible in [
        "gpu:3g.21gb:1",
        "gpu:h100_3g.20gb:1",
        "gpu:41gb+:1",
        "gpu:7g.40gb:2",
        "gpu:3g.20gb:3",
        "gpu:1",
        "gpu:a100:1",
    ] {
        match dynamic(1).try_submit(ALICE, wants(impossible, 1)) {
            Answer::Refused(refused) => assert_eq!(refused.refusal, Refusal::NodeConfigUnavailable),
            other => panic!("{impossible}: {other:?}"),
        }
    }
}

#[test]
fn a_mixed_request_finds_room_if_there_is_any() {
    let mut world = dynamic(2);
    let first = world.submit(wants("gpu:4g.20gb:1,gpu:2g.10gb:1,gpu:1g.5gb:1", 10));
    assert_eq!(world.state_of(first), JobState::Running);
    assert_eq!(slices(&world, first).split(' ').count(), 3);
    let second = world.submit(wants("gpu:7g.40gb:1", 10));
    assert_eq!(world.state_of(second), JobState::Running, "the first keeps to one GPU");
}

#[test]
fn cpus_and_memory_come_with_each_slice() {
    let mut world = dynamic(1);
    let mut request =
        JobRequest { memory: Some(MemoryRequest::PerGpu(MemoryMib(1000))), ..wants("gpu:1g.5gb:3", 10) };
    request.rare_mut().cpus_per_gpu = Some(2);
    let id = world.submit(request);
    let active = world.machine.state().jobs[&id].active().unwrap();
    assert_eq!((active.allocation[0].cpus.0, active.allocation[0].memory.0), (6, 3000));
    let mut request = wants("", 10);
    request.gpus_per_job = parse_gpus("1g.5gb:2").unwrap();
    request.rare_mut().ntasks_per_gpu = Some(2);
    let id = world.submit(request);
    let active = world.machine.state().jobs[&id].active().unwrap();
    assert_eq!((active.allocation[0].tasks, slices(&world, id).split(' ').count()), (4, 2));
}

#[test]
fn whole_fixed_and_dynamic_gpus_of_one_node() {
    let fixed = Gpu {
        instances: vec![instance("3g.20gb", 0, 4), instance("2g.10gb", 4, 2)],
        ..a100(1, GpuMode::Fixed)
    };
    let gpus = vec![a100(0, GpuMode::Whole), fixed, a100(2, GpuMode::Dynamic)];
    let mut world = world(&[("g1", "gpu:a100:2,gpu:3g.20gb:1,gpu:a100_2g.10gb:1", gpus)]);
    let whole = world.submit(wants("gpu:a100:1", 10));
    assert_eq!(slices(&world, whole), "0");
    let refused = world.try_submit(ALICE, wants("gpu:a100:2", 10));
    assert!(matches!(refused, Answer::Refused(_)), "a dynamic GPU is no whole one: {refused:?}");
    let existing = world.submit(wants("gpu:3g.20gb:1", 10));
    assert_eq!(slices(&world, existing), "1:3g.20gb@0", "what exists is taken first");
    let named = world.submit(wants("gpu:a100_3g.20gb:1", 10));
    assert!(slices(&world, named).starts_with("2:3g.20gb"), "{}", slices(&world, named));
    let both = world.submit(wants("gpu:2g.10gb:2", 10));
    let both = slices(&world, both);
    assert!(both.starts_with("1:2g.10gb@4 2:2g.10gb@"), "fixed and dynamic in one request: {both}");
    let any = world.submit(wants("gpu:1", 10));
    assert_eq!(slices(&world, any), "wait", "without a type: what units are left, and none is");
    world.cancel(ALICE, any);
    for id in [whole, existing, named] {
        world.exit(id, 0);
    }
    let mixed = world.submit(wants("gpu:a100:1,gpu:3g.20gb:2", 10));
    let mixed = slices(&world, mixed);
    assert!(
        mixed.starts_with("0 1:3g.20gb@0 2:3g.20gb@"),
        "a whole GPU, a fixed slice, one that is made: {mixed}"
    );
}

#[test]
fn a_fault_takes_its_gpu_out_of_service_and_nothing_else() {
    let mut world = dynamic(2);
    let node = world.node("g1");
    let lost = Gpu { fault: "it fell off the bus".into(), ..a100(0, GpuMode::Dynamic) };
    world.input(Input::GpusObserved { node, gpus: vec![lost, a100(1, GpuMode::Dynamic)] });
    assert!(!world.machine.state().node(node).admin.drain);
    let jobs: Vec<JobId> = (0..2).map(|_| world.submit(wants("gpu:4g.20gb:1", 10))).collect();
    assert_eq!((slices(&world, jobs[0]), slices(&world, jobs[1])), ("1:4g.20gb@0".into(), "wait".into()));
    // One that never answered since the executor started has no kind, and is there all the same.
    let never = Gpu { index: 0, fault: "it does not answer".into(), ..Gpu::default() };
    world.input(Input::GpusObserved { node, gpus: vec![never, a100(1, GpuMode::Dynamic)] });
    assert!(!world.machine.state().node(node).admin.drain);
    // It comes back, and what waits for it starts.
    world.input(Input::GpusObserved {
        node,
        gpus: vec![a100(0, GpuMode::Dynamic), a100(1, GpuMode::Dynamic)],
    });
    assert_eq!(slices(&world, jobs[1]), "0:4g.20gb@0");
    // Fewer than declared: the node takes no new jobs, as in Slurm.
    world.input(Input::GpusObserved { node, gpus: vec![a100(0, GpuMode::Dynamic)] });
    let admin = &world.machine.state().node(node).admin;
    assert_eq!(
        (admin.drain, &*admin.reason),
        (true, "gres/gpu count reported lower than configured (1 < 2)")
    );
    world.exit(jobs[1], 0);
    world.exit(jobs[0], 0);
}

#[test]
fn a_fixed_gpu_with_a_fault_bars_its_units() {
    let fixed = |index, fault: &str| Gpu {
        instances: vec![instance("3g.20gb", 0, 4), instance("3g.20gb", 4, 4)],
        fault: fault.into(),
        ..a100(index, GpuMode::Fixed)
    };
    let gpus = vec![fixed(0, "xid 79"), fixed(1, "")];
    let mut world = world(&[("g1", "gpu:3g.20gb:4", gpus)]);
    let jobs: Vec<JobId> = (0..3).map(|_| world.submit(wants("gpu:3g.20gb:1", 10))).collect();
    let places: Vec<String> = jobs.iter().map(|id| slices(&world, *id)).collect();
    assert_eq!(places, ["1:3g.20gb@0", "1:3g.20gb@4", "wait"]);
}

#[test]
fn a_proposal_that_overlaps_is_not_carried_out() {
    let mut world = dynamic(1);
    let holder = world.submit(wants("gpu:3g.20gb:1", 10));
    let start: u8 = slices(&world, holder).rsplit('@').next().unwrap().parse().unwrap();
    let waiting = world.submit(JobRequest { hold: true, ..wants("gpu:1g.5gb:1", 10) });
    world.outcomes(world::ROOT, scheduler_core::input::Command::Release(vec![world::whole(waiting)]));
    assert_eq!(world.state_of(waiting), JobState::Running, "it has room beside the first");
    world.exit(waiting, 0);
    let late = world.submit(JobRequest { hold: true, ..wants("gpu:1g.5gb:1", 10) });
    let partition = world.machine.state().jobs[&late].partitions[0];
    for (profile, start, size) in [("1g.5gb", start, 1), ("1g.5gb", 7, 1), ("2g.10gb", 3, 2), ("9g", 0, 8)] {
        let slice = Slice { gpu: 0, profile: profile.into(), start, size };
        let gres = vec![GresShare { kind: 0, slices: vec![slice], ..GresShare::default() }];
        let share = scheduler_core::place::single(world.node("g1"), 1)[0].clone();
        let allocation = Arc::from([scheduler_core::allocation::NodeShare { gres, ..share }]);
        let start = PlannedStart { job: late, partition, allocation, shortened: None };
        let settings = world.machine.configuration().cloned().unwrap();
        let state = world.machine.state();
        assert!(
            !scheduler_core::place::recheck(state, &settings, &state.jobs[&late], &start),
            "{profile} is taken, or no start of it"
        );
        world.input(Input::Plan(Plan { starts: vec![start], ..Plan::default() }));
        assert_eq!(world.state_of(late), JobState::Pending);
    }
}

#[test]
fn a_large_slice_is_promised_its_window_and_small_ones_run_around_it() {
    let mut world = dynamic(1);
    let small = world.submit(wants("gpu:1g.5gb:1", 60));
    let large = world.submit(wants("gpu:7g.40gb:1", 30));
    // An hour, and the three seconds that making and removing the small one's slice take.
    assert!((minutes_until(&world, large) - 60.05).abs() < 1e-9, "{}", minutes_until(&world, large));
    assert_eq!(promise(&world, large).holds[0].slices, SliceSet::of(0, 0xff));
    let long = world.submit(wants("gpu:1g.5gb:1", 61));
    let short = world.submit(wants("gpu:2g.10gb:1", 59));
    assert_eq!(slices(&world, long), "wait", "it would delay the large one");
    assert!(slices(&world, short).starts_with("0:2g.10gb@"), "it ends before");
    assert!((minutes_until(&world, long) - 90.1).abs() < 1e-9, "after the large one");
    world.exit(small, 0);
    world.exit(short, 0);
    assert_eq!(slices(&world, large), "0:7g.40gb@0", "time was given back");
}

#[test]
fn the_window_is_found_on_the_gpu_that_is_free_first() {
    let mut world = dynamic(2);
    let first = world.submit(wants("gpu:4g.20gb:1", 60));
    let second = world.submit(wants("gpu:4g.20gb:1", 20));
    let third = world.submit(wants("gpu:4g.20gb:1", 10));
    assert_eq!(world.state_of(first), JobState::Running);
    assert!((minutes_until(&world, third) - 20.05).abs() < 1e-9);
    let gpu: u32 = slices(&world, second).split(':').next().unwrap().parse().unwrap();
    assert_eq!(promise(&world, third).holds[0].slices, SliceSet::of(gpu, 0x0f));
    // Beside it there is room for a 3g all the time.
    let beside = world.submit(wants("gpu:3g.20gb:1", 600));
    assert!(slices(&world, beside).ends_with("@4"), "{}", slices(&world, beside));
}

#[test]
fn steps_share_the_slices_of_their_job() {
    use scheduler_core::input::{Command, StepRequest};
    let mut world = dynamic(1);
    let id = world.submit(JobRequest { ntasks: Some(4), ..wants("gpu:1g.5gb:2,gpu:3g.20gb:1", 10) });
    let mut step = |gres: &str| {
        let request = StepRequest {
            ntasks: Some(1),
            exact: true,
            gres_per_node: parse_list(gres).unwrap(),
            ..StepRequest::default()
        };
        match world.command(ALICE, Command::CreateStep { job: id, step: Box::new(request) }) {
            Answer::StepCreated { allocation, .. } => allocation[0]
                .gres
                .iter()
                .flat_map(|share| &share.slices)
                .map(|slice| slice.profile.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            Answer::StepMustWait => "wait".to_owned(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(step("gpu:3g.20gb:1"), "3g.20gb");
    assert_eq!(step("gpu:a100_1g.5gb:1"), "1g.5gb");
    assert_eq!(step("gpu:3g.20gb:1"), "wait");
    assert_eq!(step("gpu:1g.5gb:1"), "1g.5gb");
    assert_eq!(step("gpu:1"), "wait");
}

#[test]
fn why_names_the_slices_that_are_in_the_way() {
    let mut world = dynamic(1);
    let small = world.submit(wants("gpu:1g.5gb:1", 60));
    let large = world.submit(wants("gpu:7g.40gb:1", 30));
    // It ends first, and holds nothing that the large one lacks.
    world.submit(wants("", 5));
    let settings = world.machine.configuration().cloned().unwrap();
    let why =
        scheduler_core::plan::explain::explain(world.machine.state().clone(), &settings, large, world.now);
    let text = format!("{why:?}");
    let place = slices(&world, small);
    let start = place.rsplit('@').next().unwrap();
    assert!(text.contains(&format!("GPU 0 slice {start} gpu:1g.5gb")), "{text}");
    assert!(text.contains("gpu:7g.40gb"), "{text}");
    assert_eq!(why.unwrap().witnesses.iter().map(|one| one.job).collect::<Vec<_>>(), [small]);
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[test]
fn the_index_answers_as_a_look_at_each_node_does() {
    let gpus = |number| match number % 6 {
        0 if number % 4 == 0 => 2,
        0 => 1,
        _ => 0,
    };
    // A few more GPUs than are compared over time.
    let counts: Vec<u32> = (0..66).map(gpus).collect();
    index_and_search_agree(&counts, 70, 12);
    // More GPUs than a word has bytes.
    index_and_search_agree(&[0, 16, 9], 220, 1);
}

/// The index over GPUs and the bounds of their windows beside the search that looks at every node at every instant:
/// `--spread-job` says nothing to a job of one task, but the index leaves such a request alone.
///
/// `gpus`: how many each node has.
fn index_and_search_agree(gpus: &[u32], rounds: u32, cpus: u64) {
    let names: Vec<String> = (0..gpus.len()).map(|number| format!("g{number}")).collect();
    let texts: Vec<String> = gpus
        .iter()
        .map(|count| if *count > 0 { format!("gpu:a100:{count}") } else { String::new() })
        .collect();
    let nodes: Vec<(&str, &str, Vec<Gpu>)> = (names.iter().zip(&texts).zip(gpus))
        .map(|((name, text), count)| {
            let gpus = (0..*count).map(|index| a100(index, GpuMode::Dynamic)).collect();
            (name.as_str(), text.as_str(), gpus)
        })
        .collect();
    for seed in [1] {
        let mut numbers = Numbers(seed);
        let (mut indexed, mut slow) = (world(&nodes), world(&nodes));
        let mut jobs: Vec<JobId> = Vec::new();
        let mut waited = 0;
        for _ in 0..rounds {
            if numbers.below(6) > 0 {
                let profile = Profile::ALL[5 - (numbers.below(6) * numbers.below(6) / 6) as usize];
                let gres = format!("gpu:{}:1", Model::A100With40.name(profile));
                let request = JobRequest {
                    cpus_per_task: Some(1 + numbers.below(cpus) as u32),
                    ..wants(&gres, 1 + numbers.below(90) as i64)
                };
                let mut spread = request.clone();
                spread.rare_mut().spread_job = true;
                jobs.push(indexed.submit(request));
                assert_eq!(Some(&slow.submit(spread)), jobs.last());
            } else {
                let span = Span::from_mins(numbers.below(20) as i64);
                // Those beyond their limit, too, hold what they have until they end.
                let started: Vec<JobId> =
                    jobs.iter().copied().filter(|id| indexed.state_of(*id) != JobState::Pending).collect();
                let ends = started[numbers.below(started.len() as u64) as usize];
                for world in [&mut indexed, &mut slow] {
                    world.wait(span);
                    world.exit(ends, 0);
                }
                jobs.retain(|id| *id != ends);
            }
            for &id in &jobs {
                let (one, other) = (indexed.state_of(id), slow.state_of(id));
                assert_eq!(one, other, "job {id} with seed {seed}");
                if one == JobState::Pending {
                    waited += 1;
                    let starts =
                        [&indexed, &slow].map(|world| world.machine.state().promises.of(id).cloned());
                    assert_eq!(starts[0], starts[1], "job {id} with seed {seed}");
                } else if one == JobState::Running {
                    assert_eq!(slices(&indexed, id), slices(&slow, id), "job {id} with seed {seed}");
                }
            }
        }
        assert!(waited > 200, "jobs wait, so that windows are searched: {waited}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// The rule that the benchmark measures is the one that the planner goes by, to the start: where nothing ends while
    /// a request runs, its place is that of `Rule::choose` among the GPUs as they are.
    #[test]
    fn the_planner_chooses_as_the_rule_does(
        gpus in proptest::collection::vec(1_u32..4, 1..4),
        steps in proptest::collection::vec((0_usize..6, 0_u32..4, any::<proptest::sample::Index>()), 30..60),
    ) {
        let names: Vec<String> = (0..gpus.len()).map(|number| format!("g{number}")).collect();
        let offers: Vec<String> = gpus.iter().map(|count| format!("gpu:a100:{count}")).collect();
        let list = |count: u32| (0..count).map(|index| a100(index, GpuMode::Dynamic)).collect::<Vec<_>>();
        let nodes: Vec<(&str, &str, Vec<Gpu>)> = names
            .iter()
            .zip(&offers)
            .zip(&gpus)
            .map(|((name, offer), &count)| (name.as_str(), offer.as_str(), list(count)))
            .collect();
        let mut world = world(&nodes);
        let mut running: Vec<JobId> = Vec::new();
        let mut chosen = 0;
        for (step, (profile, ends, which)) in steps.into_iter().enumerate() {
            if ends == 0 && !running.is_empty() {
                let id = running.swap_remove(which.index(running.len()));
                world.exit(id, 0);
            }
            let before = occupancies(&world);
            let profile = Profile::ALL[profile];
            // Whoever comes later ends sooner.
            let minutes = 100_000 - 100 * i64::try_from(step).unwrap();
            let id = world.submit(wants(&format!("gpu:{}:1", Model::A100With40.name(profile)), minutes));
            let rule = world.machine.state().slices.rule().expect("a slice was asked for");
            let states: Vec<Occupancy> = before.iter().map(|(_, state)| *state).collect();
            let expected = rule.choose(&states, profile).map(|(at, start)| (before[at].0, start));
            let place = (world.state_of(id) == JobState::Running).then(|| {
                let active = world.machine.state().jobs[&id].active().unwrap();
                let slice = &active.allocation[0].gres[0].slices[0];
                ((active.allocation[0].node.0, slice.gpu), slice.start)
            });
            prop_assert_eq!(place, expected, "{:?} among {:?}", profile, before);
            if place.is_some() {
                chosen += 1;
                running.push(id);
            } else {
                world.cancel(ALICE, id);
            }
        }
        prop_assert!(chosen > 0, "something was placed");
    }
}

/// Where more GPUs have room than are compared over time, the sixteen that the rule prefers by what is taken now are.
#[test]
fn sixteen_of_many_gpus_are_compared() {
    let names = ["g1", "g2", "g3", "g4"];
    let list = || (0..6).map(|index| a100(index, GpuMode::Dynamic)).collect::<Vec<_>>();
    let mut world = world(&names.map(|name| (name, "gpu:a100:6", list())));
    let (mut numbers, mut told) = (Numbers(7), 0);
    // What lies on each GPU, and until when, ms.
    let mut ends: BTreeMap<(u32, u32), Vec<(u8, i64)>> = BTreeMap::new();
    let start = world.now.0;
    for job in 0..48 {
        // A large one on each GPU first, those of the last GPUs for long: they look alike now and not later.
        let profile = if job < 24 { Profile::FourG } else { Profile::ALL[numbers.below(3) as usize] };
        // An odd number, so that no quarter of it is a whole minute, at which others end.
        let minutes = match job {
            0..16 => 11 + 2 * job,
            16..24 => 1001,
            _ => 201 + 2 * numbers.below(60) as i64,
        };
        let before = occupancies(&world);
        let id = world.submit(wants(&format!("gpu:{}:1", Model::A100With40.name(profile)), minutes));
        let rule = Rule::clone(world.machine.state().slices.rule().expect("a slice was asked for"));
        let outlook = |&(place, taken): &((u32, u32), Occupancy)| {
            let at = |instant: i64| {
                let there = ends.get(&place).into_iter().flatten().filter(|(_, end)| *end > instant);
                Occupancy(there.fold(0, |all, (mask, _)| all | mask))
            };
            Outlook { taken, later: instants(start, start + 60_000 * minutes).map(at) }
        };
        let mut fleet = Fleet::new(before.len(), rule.clone());
        before.iter().enumerate().for_each(|(at, (_, taken))| fleet.set(at, *taken));
        let mut best = fleet.best_among(profile, &[u64::MAX], 16, |_| true);
        best.sort_unstable();
        let of = |places: &[usize]| {
            let outlooks: Vec<Outlook> = places.iter().map(|at| outlook(&before[*at])).collect();
            let (at, start) = rule.choose_of_many_over_time(&outlooks, profile).expect("there is room");
            (before[places[at]].0, start)
        };
        let all: Vec<usize> = (0..before.len()).collect();
        let (expected, of_all) = (of(&best), of(&all));
        let active = world.machine.state().jobs[&id].active().expect("there is room");
        let slice = &active.allocation[0].gres[0].slices[0];
        let place = (active.allocation[0].node.0, slice.gpu);
        assert_eq!((place, slice.start), expected, "{profile:?} for {minutes} minutes among {before:?}");
        told += u32::from(expected != of_all);
        ends.entry(place).or_default().push((profile.mask(slice.start), start + 60_000 * minutes));
    }
    assert!(told > 0, "it is seen that no more are compared");
}

/// What is taken of each GPU, by node and index.
fn occupancies(world: &World) -> Vec<((u32, u32), Occupancy)> {
    let nodes = (0..).zip(&world.machine.state().nodes);
    let of_node = |(place, node): (u32, &Node)| {
        let inventory = node.inventory.as_ref().expect("its GPUs are observed");
        let free = node.free_slices();
        inventory.dynamic.iter().map(|gpu| ((place, gpu.index), gpu.taken(free))).collect::<Vec<_>>()
    };
    nodes.flat_map(of_node).collect()
}

/// Two GPUs, a 3g on each for ten hours, and a 7g that is kept waiting by where they lie. Answers the world, the 3g's,
/// and the 7g.
fn fragmented(defragment: bool, requeue: Option<bool>, after: Span) -> (World, [JobId; 2], JobId) {
    let mut world = dynamic(2);
    let settings = world.machine.configuration().cloned().unwrap();
    world.input(Input::Configure(Arc::new(Settings { defragment, ..(*settings).clone() })));
    let fillers: Vec<JobId> = (0..2).map(|_| world.submit(wants("gpu:4g.20gb:1", 20))).collect();
    let small = [(); 2].map(|()| world.submit(JobRequest { requeue, ..wants("gpu:3g.20gb:1", 600) }));
    for id in fillers {
        world.exit(id, 0);
    }
    world.wait(after);
    let large = world.submit(wants("gpu:7g.40gb:1", 30));
    (world, small, large)
}

#[test]
fn a_small_slice_is_moved_where_a_large_one_gains_more_than_is_lost() {
    let (mut world, small, large) = fragmented(true, None, Span::from_mins(60));
    // An hour of one 3g is lost; the 7g would wait for nine more, on twice the slices.
    let moved: Vec<JobId> = small
        .into_iter()
        .filter(|id| world.machine.state().jobs[id].active().is_some_and(|active| active.finish.is_some()))
        .collect();
    assert_eq!(moved.len(), 1, "one of them has to go, and only one");
    let finish = world.machine.state().jobs[&moved[0]].active().unwrap().finish.clone().unwrap();
    assert!(
        finish.detail.starts_with(&format!("moved to make room for job {large}: ")),
        "it is said why: {}",
        finish.detail
    );
    world.settle();
    assert!(slices(&world, large).ends_with("7g.40gb@0"), "{}", slices(&world, large));
    assert_eq!(world.state_of(moved[0]), JobState::Pending);
    world.wait(Span::from_mins(3));
    let (stays, comes) = (small[usize::from(small[0] == moved[0])], moved[0]);
    let place = |id| slices(&world, id).split('@').next().map(str::to_owned);
    assert_eq!(place(comes), place(stays), "it has room elsewhere: beside the other");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn nothing_is_moved_where_it_is_not_worth_it_or_not_allowed() {
    let hour = Span::from_mins(60);
    for (defragment, requeue, after, why) in [
        (false, None, hour, "nobody asked for it"),
        (true, Some(false), hour, "the jobs may not be requeued"),
        (true, None, Span::from_mins(599), "more is lost than is gained"),
    ] {
        let (world, small, large) = fragmented(defragment, requeue, after);
        assert_eq!(world.state_of(large), JobState::Pending, "{why}");
        let slices = 4 * 60;
        match moves(&world, large) {
            Some(Moves::Worth(one)) => {
                assert!(!defragment && one.moved.len() == 1, "{why}: {one:?}");
                // An hour of a 3g, and making and removing it; nine hours of a 7g, less what ending a job takes.
                assert_eq!(one.cost, 60 * slices + 4 * 3, "{why}");
                let saved = 8 * 60 * 540 - one.gain;
                assert!((0..8 * 60).contains(&saved), "{why}: {one:?}");
            }
            Some(Moves::Fixed(fixed)) => {
                assert_eq!(fixed, small.map(|id| (id, Fixed::NoRequeue)), "{why}");
                assert_eq!(requeue, Some(false), "{why}");
            }
            Some(Moves::Costs(one)) => {
                assert!(after > hour && one.cost >= one.gain, "{why}: {one:?}");
            }
            other => panic!("{why}: {other:?}"),
        }
        for id in small {
            let job = &world.machine.state().jobs[&id];
            assert!(job.active().is_some_and(|active| active.finish.is_none()), "{why}");
        }
    }
    // No room elsewhere: both GPUs are full but for the window.
    let mut world = dynamic(1);
    let settings = world.machine.configuration().cloned().unwrap();
    world.input(Input::Configure(Arc::new(Settings { defragment: true, ..(*settings).clone() })));
    let small = world.submit(wants("gpu:1g.5gb:1", 600));
    let large = world.submit(wants("gpu:7g.40gb:1", 30));
    assert_eq!(world.state_of(large), JobState::Pending);
    assert!(world.machine.state().jobs[&small].active().is_some_and(|active| active.finish.is_none()));
    assert_eq!(moves(&world, large), Some(Moves::NoRoom(vec![small])));
    // Another one behind it, one that no slice would be made for, and one that is moved.
    let behind = world.submit(wants("gpu:7g.40gb:1", 30));
    assert_eq!(moves(&world, behind), Some(Moves::Behind(large)));
    let cpus = world.submit(JobRequest { nodes: Some((2, None)), ..job() });
    assert_eq!(moves(&world, cpus), None);
    let (world, small, large) = fragmented(true, None, hour);
    let underway = |id: &JobId| world.machine.state().jobs[id].active().unwrap().finish.is_some();
    let moved = small.into_iter().find(underway).unwrap();
    assert_eq!(moves(&world, large), Some(Moves::Underway(moved)));
}

/// What somebody who asks why it waits is told of moving slices.
fn moves(world: &World, job: JobId) -> Option<Moves> {
    let settings = world.machine.configuration().cloned().unwrap();
    let told = explain(world.machine.state().clone(), &settings, job, world.now);
    told.expect("it waits").moves
}
