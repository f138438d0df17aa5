//! Where GPUs lie: `Cores=` and `Links=` of gres.conf, `--gres-flags`. Which ones a job gets, with which CPUs, and who
//! waits for them.

mod world;

use model::gpu::{Gpu, GpuMode, MigProfile};
use model::gres::{parse_gpus, parse_list};
use model::id::JobId;
use model::job::JobState;
use model::request::JobRequest;
use model::time::Span;
use scheduler_core::effect::Answer;
use scheduler_core::input::Input;
use scheduler_core::settings::{DeviceFacts, Settings};
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use world::{ALICE, World, job};

/// One node of two sockets with eight cores each and eight GPUs, four near each socket.
fn world(more: impl FnOnce(&mut Settings)) -> World {
    let gres = vec![GresDefinition { name: "gpu".into(), kind: "".into(), count: 8, indexed: true }];
    let node =
        NodeDefinition { sockets: 2, cores_per_socket: 8, bind: true, gres, ..world::node("n1", 16, 64_000) };
    let facts = |unit: u32| DeviceFacts {
        node: "n1".into(),
        name: "gpu".into(),
        cores: if unit < 4 { vec![0, 7] } else { vec![8, 15] },
        ..DeviceFacts::default()
    };
    let mut settings = Settings { backfill_depth: 100, ..world::settings(&[node]) };
    settings.devices = (0..8).map(facts).collect();
    more(&mut settings);
    let mut world = World::with(settings);
    world.keeps = true;
    world
}

fn wants(gpus: u64, cpus: u32, flags: Option<&str>) -> JobRequest {
    let mut request = JobRequest {
        gres_per_node: parse_list(&format!("gpu:{gpus}")).unwrap(),
        cpus_per_task: Some(cpus),
        time_limit: Some(Some(Span::from_mins(10))),
        ..job()
    };
    if let Some(flags) = flags {
        request.rare_mut().gres_flags = Some(flags.into());
    }
    request
}

/// `gpus 0,1 cpus 0,1`; `waits`.
fn place(world: &World, id: JobId) -> String {
    if world.state_of(id) == JobState::Pending {
        return "waits".to_owned();
    }
    let job = &world.machine.state().jobs[&id];
    let share = &job.active().expect("it runs").allocation[0];
    let list = |ids: Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let gpus = share.gres.iter().flat_map(|gres| gres.indices.iter()).collect();
    format!("gpus {} cpus {}", list(gpus), list(share.cpu_ids.iter().collect()))
}

#[test]
fn cpus_near_the_gpus_come_first() {
    let mut world = world(|_| {});
    let one = world.submit(wants(1, 6, None));
    assert_eq!(place(&world, one), "gpus 0 cpus 0,1,2,3,4,5");
    // Two cores are left beside the lower GPUs: those beside the others have room for four.
    let other = world.submit(wants(2, 4, None));
    assert_eq!(place(&world, other), "gpus 4,5 cpus 8,9,10,11");
    // Nowhere are ten near: they are taken from anywhere. (Four are left beside the upper GPUs, two beside the lower.)
    let wide = world.submit(wants(1, 5, None));
    assert_eq!(place(&world, wide), "gpus 1 cpus 6,7,12,13,14");
}

#[test]
fn who_insists_waits_and_who_does_not_care_takes_any() {
    let mut world = world(|_| {});
    let holder = world.submit(wants(1, 6, None));
    let second = world.submit(wants(1, 6, None));
    assert_eq!(place(&world, holder), "gpus 0 cpus 0,1,2,3,4,5");
    assert_eq!(place(&world, second), "gpus 4 cpus 8,9,10,11,12,13");
    let strict = world.submit(wants(1, 3, Some("enforce-binding")));
    assert_eq!(place(&world, strict), "waits");
    let any = world.submit(wants(1, 3, Some("disable-binding")));
    assert_eq!(place(&world, any), "gpus 1 cpus 6,14,15");
    world.exit(second, 0);
    assert_eq!(place(&world, strict), "gpus 4 cpus 8,9,10");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn with_enforced_binding_each_gpu_has_a_cpu_near_it() {
    // Five GPUs are on two sockets: one CPU cannot be near all of them, two can.
    let mut world = world(|settings| settings.enforce_binding = true);
    match world.try_submit(ALICE, wants(5, 1, None)) {
        Answer::Refused(_) => {}
        other => panic!("no node ever has that: {other:?}"),
    }
    let two = world.submit(wants(5, 2, None));
    assert_eq!(place(&world, two), "gpus 0,1,2,3,4 cpus 0,8");
    // Nor can more CPUs than are near.
    match world.try_submit(ALICE, wants(1, 9, None)) {
        Answer::Refused(_) => {}
        other => panic!("no GPU has nine CPUs near it: {other:?}"),
    }
    let any = world.submit(wants(1, 9, Some("disable-binding")));
    assert!(place(&world, any).starts_with("gpus 5 cpus 1,"), "{}", place(&world, any));
}

#[test]
fn gpus_with_the_most_links_are_taken_together() {
    // Pairs 0-3, 1-2, 4-7, 5-6 are linked by four, each half by one.
    let pair = [3, 2, 1, 0, 7, 6, 5, 4];
    let linked = |from: u32| {
        let link = |to: u32| match to {
            to if to == from => 0,
            to if to == pair[from as usize] => 4,
            to => u32::from(to / 4 == from / 4),
        };
        (0..8).map(link).collect::<Vec<u32>>()
    };
    for cores in [true, false] {
        let mut world = world(|settings| {
            for (unit, facts) in (0..).zip(&mut settings.devices) {
                facts.links = linked(unit);
                if !cores {
                    facts.cores = Vec::new();
                }
            }
        });
        let gpus = |world: &World, id| place(world, id).split(' ').nth(1).unwrap().to_owned();
        let one = world.submit(wants(1, 1, None));
        assert_eq!(gpus(&world, one), "0", "one alone is the lowest");
        let pair = world.submit(wants(2, 1, None));
        assert_eq!(gpus(&world, pair), "1,2", "not 1 and 3, which one link joins");
        let four = world.submit(wants(4, 1, None));
        assert_eq!(gpus(&world, four), "4,5,6,7");
        let last = world.submit(wants(1, 1, None));
        assert_eq!(gpus(&world, last), "3");
    }
    // For the whole job, and with a type that no line names.
    let mut world = world(|settings| {
        for (unit, facts) in (0..).zip(&mut settings.devices) {
            facts.links = linked(unit);
        }
    });
    let held = world.submit(wants(2, 1, None));
    assert!(place(&world, held).starts_with("gpus 0,3 "));
    let job = JobRequest { gpus_per_job: parse_gpus("2").unwrap(), ..job() };
    let pair = world.submit(job);
    assert!(place(&world, pair).starts_with("gpus 1,2 "), "{}", place(&world, pair));
}

/// What a driver shows of eight GPUs: cores of both sockets, and links in pairs 0-3, 1-2, 4-7, 5-6.
fn shown() -> Vec<Gpu> {
    let pair = [3, 2, 1, 0, 7, 6, 5, 4];
    let gpu = |index: u32| Gpu {
        index,
        kind: "a100".into(),
        core_ranges: if index < 4 { vec![0, 7] } else { vec![8, 15] },
        links: (0..8).map(|to| if to == pair[index as usize] { 4 } else { 0 }).collect(),
        ..Gpu::default()
    };
    (0..8).map(gpu).collect()
}

#[test]
fn what_a_driver_shows_counts_where_gres_conf_says_nothing() {
    let mut world = world(|settings| settings.devices = Vec::new());
    let node = world.node("n1");
    world.input(Input::GpusObserved { node, gpus: shown() });
    let sockets = |world: &World| {
        let settings = world.machine.configuration().unwrap();
        scheduler_core::place::sockets_near(settings, &world.machine.state().nodes[0], 0)
    };
    assert_eq!(sockets(&world), [0, 1]);
    let one = world.submit(wants(1, 6, None));
    assert_eq!(place(&world, one), "gpus 0 cpus 0,1,2,3,4,5");
    let pair = world.submit(wants(2, 4, None));
    assert_eq!(place(&world, pair), "gpus 4,7 cpus 8,9,10,11", "linked, and with enough CPUs beside them");
    // Where they lie is told with what was chosen.
    let share = &world.machine.state().jobs[&pair].active().unwrap().allocation[0];
    assert_eq!(share.gres[0].slices.iter().map(|slice| slice.gpu).collect::<Vec<_>>(), [4, 7]);
    let strict = world.submit(wants(1, 5, Some("enforce-binding")));
    assert_eq!(place(&world, strict), "waits");
    let any = world.submit(wants(1, 2, Some("disable-binding")));
    assert_eq!(place(&world, any), "gpus 1 cpus 6,7");
    // One that is out of service is not chosen for its links.
    let mut gpus = shown();
    gpus[1].fault = "lost".into();
    world.exit(any, 0);
    world.input(Input::GpusObserved { node, gpus });
    let two = world.submit(wants(2, 1, Some("disable-binding")));
    assert_eq!(place(&world, two), "gpus 5,6 cpus 6");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn gres_conf_counts_before_a_driver() {
    let mut world = world(|settings| {
        settings.devices.iter_mut().for_each(|facts| facts.cores = vec![8, 15]);
    });
    let node = world.node("n1");
    world.input(Input::GpusObserved { node, gpus: shown() });
    let one = world.submit(wants(1, 3, Some("enforce-binding")));
    assert_eq!(place(&world, one), "gpus 0 cpus 8,9,10");
}

#[test]
fn a_slice_that_is_made_has_cpus_near_its_gpu() {
    let mut world = world(|settings| settings.devices = Vec::new());
    let node = world.node("n1");
    let profile = MigProfile {
        name: "7g.40gb".into(),
        compute_slices: 7,
        memory_slices: 8,
        starts: vec![0],
        ..MigProfile::default()
    };
    let dynamic = |gpu: Gpu| Gpu { mode: GpuMode::Dynamic, profiles: vec![profile.clone()], ..gpu };
    world.input(Input::GpusObserved { node, gpus: shown().into_iter().map(dynamic).collect() });
    let mut on = Vec::new();
    for _ in 0..8 {
        let mut request = wants(1, 2, Some("enforce-binding"));
        request.gres_per_node = parse_list("gpu:7g.40gb:1").unwrap();
        let id = world.submit(request);
        let share = &world.machine.state().jobs[&id].active().expect("there is room").allocation[0];
        let gpu = share.gres[0].slices[0].gpu;
        let near = if gpu < 4 { 0..8 } else { 8..16 };
        assert!(share.cpu_ids.iter().all(|cpu| near.contains(&cpu)), "{share:?}");
        on.push(gpu);
    }
    on.sort_unstable();
    assert_eq!(on, (0..8).collect::<Vec<_>>());
}
