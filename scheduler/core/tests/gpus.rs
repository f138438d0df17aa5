//! The GPUs of jobs of several nodes and of several kinds of GPUs, of their steps, and of jobs that must wait for one.

mod world;

use model::gpu::Gpu;
use model::gres::parse_gpus;
use model::id::JobId;
use model::request::JobRequest;
use scheduler_core::allocation::NodeShare;
use scheduler_core::effect::Answer;
use scheduler_core::input::{Command, Input, StepRequest};
use scheduler_core::plan::explain::{Cause, explain};
use world::gpus::world_with;
use world::{ALICE, World, job};

/// The step's devices, or what the scheduler said instead.
fn step(world: &mut World, id: JobId, request: StepRequest) -> String {
    let request = StepRequest { exact: true, ..request };
    match world.command(ALICE, Command::CreateStep { job: id, step: Box::new(request) }) {
        Answer::StepCreated { allocation, .. } => words(world, &allocation),
        Answer::StepMustWait => "wait".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `a1 a100=0+1 t4=0, a2`: each node's devices by kind.
fn words(world: &World, allocation: &[NodeShare]) -> String {
    let state = world.machine.state();
    let node = |share: &NodeShare| {
        let definition = &state.node(share.node).definition;
        let kinds = share.gres.iter().map(|held| {
            let indices: Vec<String> = held.indices.iter().map(|index| index.to_string()).collect();
            assert_eq!(held.count as usize, indices.len(), "{held:?}");
            format!(" {}={}", definition.gres[held.kind as usize].kind, indices.join("+"))
        });
        format!("{}{}", definition.name, kinds.collect::<String>())
    };
    allocation.iter().map(node).collect::<Vec<_>>().join(", ")
}

/// What a job got, or why it waits.
fn got(world: &World, id: JobId) -> String {
    match world.machine.state().jobs[&id].active() {
        Some(active) => words(world, &active.allocation),
        None => format!("{:?}", world.reasons.get(&id).copied().unwrap_or_default()),
    }
}

fn gpus(text: &str) -> Vec<model::gres::GresRequest> {
    parse_gpus(text).unwrap()
}

#[test]
fn what_a_step_asks_for_may_be_of_several_kinds_and_is_no_device_twice() {
    let mut world = world_with(&[("g1", "gpu:a100:2,gpu:t4:2", Vec::new())], |settings| settings);
    let id = world.submit(JobRequest { ntasks: Some(4), gpus_per_job: gpus("4"), ..job() });
    let of_all =
        |text: &str| StepRequest { ntasks: Some(1), gpus_per_job: gpus(text), ..StepRequest::default() };
    assert_eq!(step(&mut world, id, StepRequest { overlap: true, ..of_all("4") }), "g1 a100=0+1 t4=0+1");
    assert_eq!(step(&mut world, id, StepRequest { overlap: true, ..of_all("1") }), "g1 a100=0");
    assert!(step(&mut world, id, of_all("5")).contains("InvalidGres"));
    // Two words for GPUs are two sets, and who names a type is served first.
    let both =
        StepRequest { gres_per_node: gpus("2"), gpus_per_task: gpus("t4:1"), overlap: true, ..of_all("") };
    assert_eq!(step(&mut world, id, both.clone()), "g1 t4=0 a100=0+1");
    let too_many = StepRequest { gpus_per_job: gpus("2"), ..both };
    assert!(step(&mut world, id, too_many).contains("InvalidGres"));
    // What another step has is waited for.
    assert_eq!(step(&mut world, id, of_all("3")), "g1 a100=0+1 t4=0");
    assert_eq!(step(&mut world, id, of_all("2")), "wait");
    assert_eq!(step(&mut world, id, of_all("1")), "g1 t4=1");
}

#[test]
fn what_is_asked_for_of_a_whole_step_is_dealt_out_to_its_nodes() {
    let nodes = [("g1", "gpu:a100:4", Vec::new()), ("g2", "gpu:a100:4", Vec::new())];
    let mut world = world_with(&nodes, |settings| settings);
    let request =
        JobRequest { ntasks: Some(4), nodes: Some((2, Some(2))), gpus_per_node: gpus("3"), ..job() };
    let id = world.submit(request);
    let of_all = |text: &str| StepRequest {
        ntasks: Some(2),
        nodes: Some((2, Some(2))),
        gpus_per_job: gpus(text),
        overlap: true,
        ..StepRequest::default()
    };
    assert_eq!(step(&mut world, id, of_all("2")), "g1 a100=0, g2 a100=0");
    assert_eq!(step(&mut world, id, of_all("4")), "g1 a100=0+1+2, g2 a100=0");
    assert_eq!(step(&mut world, id, of_all("6")), "g1 a100=0+1+2, g2 a100=0+1+2");
    assert!(step(&mut world, id, of_all("7")).contains("InvalidGres"));
}

#[test]
fn every_node_of_a_job_has_one_of_the_gpus_that_it_asked_for_in_all() {
    let nodes = [
        ("c1", "", Vec::new()),
        ("g1", "gpu:a100:4", Vec::new()),
        ("g2", "gpu:a100:4", Vec::new()),
        ("g3", "gpu:t4:1", Vec::new()),
    ];
    let of = |tasks: u32, nodes: u32, text: &str| JobRequest {
        ntasks: Some(tasks),
        nodes: (nodes > 0).then_some((nodes, Some(nodes))),
        gpus_per_job: gpus(text),
        ..job()
    };
    let place = |request: JobRequest| {
        let mut world = world_with(&nodes, |settings| settings);
        match world.try_submit(ALICE, request) {
            Answer::Submitted { job, .. } => got(&world, job),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(place(of(4, 2, "4")), "g1 a100=0+1+2, g2 a100=0");
    assert_eq!(place(of(3, 3, "5")), "g1 a100=0+1+2, g2 a100=0, g3 t4=0");
    // The tasks need two nodes, whatever was said of nodes.
    assert_eq!(place(of(40, 0, "2")), "g1 a100=0, g2 a100=0");
    assert_eq!(place(of(1, 0, "2")), "g1 a100=0+1");
    assert!(place(of(3, 3, "a100:3")).contains("NodeConfigUnavailable"), "only two nodes have one");
}

#[test]
fn a_job_waits_for_a_gpu_that_is_out_of_service() {
    let gpu = |index: u32| Gpu { index, kind: "a100".into(), ..Gpu::default() };
    let mut world = world_with(&[("g1", "gpu:a100:2", vec![gpu(0), gpu(1)])], |settings| settings);
    let node = world.node("g1");
    let look = |world: &mut World, fault: &str| {
        let gpus = vec![gpu(0), Gpu { fault: fault.into(), ..gpu(1) }];
        world.input(Input::GpusObserved { node, gpus });
    };
    look(&mut world, "it fell off the bus");
    let both = JobRequest { gpus_per_node: gpus("a100:2"), ..job() };
    let id = world.submit(both.clone());
    assert_eq!(got(&world, id), "Resources");
    let settings = world.machine.configuration().cloned().unwrap();
    let told = explain(world.machine.state().clone(), &settings, id, world.now).unwrap();
    let causes: Vec<&Cause> = told.partitions[0].causes.iter().map(|one| &one.cause).collect();
    assert_eq!(causes, [&Cause::FaultyGres("gpu:a100".into())]);
    // What it never had is refused all the same.
    let three = world.try_submit(ALICE, JobRequest { gpus_per_node: gpus("a100:3"), ..job() });
    assert!(format!("{three:?}").contains("NodeConfigUnavailable"), "{three:?}");
    look(&mut world, "");
    assert_eq!(got(&world, id), "g1 a100=0+1");
}
