//! The GPUs of steps in jobs of several nodes and of several kinds of GPUs.

mod world;

use model::gres::parse_gpus;
use model::id::JobId;
use model::request::JobRequest;
use scheduler_core::effect::Answer;
use scheduler_core::input::{Command, StepRequest};
use world::gpus::world_with;
use world::{ALICE, World, job};

/// `a1: 0-3, a2: 0`, or what the scheduler said instead.
fn step(world: &mut World, id: JobId, request: StepRequest) -> String {
    let request = StepRequest { exact: true, ..request };
    match world.command(ALICE, Command::CreateStep { job: id, step: Box::new(request) }) {
        Answer::StepCreated { allocation, .. } => {
            let state = world.machine.state();
            let node = |share: &scheduler_core::allocation::NodeShare| {
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
        Answer::StepMustWait => "wait".to_owned(),
        other => format!("{other:?}"),
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
