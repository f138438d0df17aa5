//! Cores that are kept for jobs with GPUs (`RestrictedCoresPerGPU`): who has access to them, and who waits beside them.
//!
//! The numbers of CPUs are those that Slurm gives for the same node and requests.

mod world;

use model::gres::parse_list;
use model::id::JobId;
use model::job::JobState;
use model::refusal::Refusal;
use model::request::{JobRequest, Sharing};
use model::time::Span;
use scheduler_core::effect::Answer;
use scheduler_core::settings::{DeviceFacts, KeptCores, Settings};
use scheduler_core::state::node::NodeDefinition;
use world::gpus::kinds;
use world::{ALICE, World, job};

/// Nodes of two sockets with six cores each and four GPUs, two near each socket; each GPU keeps two cores: 0-3 and 6-9 are
/// kept, 4, 5, 10 and 11 are not.
fn world(nodes: &[&str], more: impl FnOnce(&mut Settings)) -> World {
    let gres = kinds("gpu:4,shard:40");
    let node = |name: &&str| NodeDefinition {
        sockets: 2,
        cores_per_socket: 6,
        gres: gres.clone(),
        ..world::node(name, 12, 64_000)
    };
    let definitions: Vec<NodeDefinition> = nodes.iter().map(node).collect();
    let mut settings = Settings { backfill_depth: 100, ..world::settings(&definitions) };
    for name in nodes {
        let facts = |unit: u32| DeviceFacts {
            node: (*name).into(),
            name: "gpu".into(),
            cores: if unit < 2 { vec![0, 5] } else { vec![6, 11] },
            ..DeviceFacts::default()
        };
        settings.devices.extend((0..4).map(facts));
        settings.kept_cores.push(KeptCores { node: (*name).into(), per_gpu: 2 });
    }
    more(&mut settings);
    let mut world = World::with(settings);
    world.keeps = true;
    world
}

/// `-n TASKS -c CPUS --gres=GRES -t 10`.
fn wants(tasks: u32, cpus: u32, gres: &str) -> JobRequest {
    JobRequest {
        ntasks: Some(tasks),
        cpus_per_task: Some(cpus),
        gres_per_node: parse_list(gres).unwrap(),
        time_limit: Some(Some(Span::from_mins(10))),
        ..job()
    }
}

fn per_task(tasks: u32, cpus: u32, gres: &str) -> JobRequest {
    let mut request = wants(tasks, cpus, "");
    request.rare_mut().tres_per_task = Some(gres.into());
    request
}

/// `0,1,4 | 0` of a job on two nodes; `waits`.
fn cpus(world: &World, id: JobId) -> String {
    if world.state_of(id) == JobState::Pending {
        return "waits".to_owned();
    }
    let active = world.machine.state().jobs[&id].active().expect("it runs");
    let one = |ids: Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    active.allocation.iter().map(|share| one(share.cpu_ids.iter().collect())).collect::<Vec<_>>().join(" | ")
}

#[track_caller]
fn check(nodes: &[&str], request: JobRequest, expected: &str) {
    let mut world = world(nodes, |_| {});
    let got = match world.try_submit(ALICE, request) {
        Answer::Submitted { job, .. } => cpus(&world, job),
        Answer::Refused(refused) => {
            assert_eq!(refused.refusal, Refusal::NodeConfigUnavailable);
            "refused".to_owned()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(got, expected);
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn only_jobs_with_gpus_have_access_to_what_they_keep() {
    let one = &["n1"];
    let shown = world(one, |_| {});
    let settings = shown.machine.configuration().unwrap();
    let text = scheduler_core::place::kept_cores_text(settings, &shown.machine.state().nodes[0]);
    assert_eq!(text, "2(0-3,6-9)");
    check(one, wants(1, 1, ""), "4");
    check(one, wants(4, 1, ""), "4,5,10,11");
    check(one, wants(5, 1, ""), "refused");
    check(one, wants(3, 2, ""), "refused");
    check(one, wants(1, 1, "gpu:1"), "0");
    check(one, wants(4, 1, "gpu:1"), "0,1,4,5");
    check(one, wants(6, 1, "gpu:1"), "0,1,4,5,10,11");
    check(one, wants(7, 1, "gpu:1"), "refused");
    check(one, wants(4, 2, "gpu:1"), "refused");
    check(one, wants(8, 1, "gpu:2"), "0,1,2,3,4,5,10,11");
    check(one, per_task(4, 1, "gres/gpu:1"), "0,1,6,7");
    check(one, per_task(1, 3, "gres/gpu:1"), "0,1,4");
    check(one, per_task(3, 4, "gres/gpu:1"), "refused");
    check(one, wants(3, 2, "shard:5"), "0,1,4,5,10,11");
    check(one, wants(7, 1, "shard:5"), "refused");
    let gpus = JobRequest { gpus_per_job: model::gres::parse_gpus("2").unwrap(), ..wants(8, 1, "") };
    check(one, gpus, "0,1,2,3,4,5,10,11");
    check(one, JobRequest { sharing: Sharing::Exclusive, ..wants(1, 1, "") }, "0,1,2,3,4,5,6,7,8,9,10,11");
}

#[test]
fn tasks_are_spread_over_nodes_by_what_is_open() {
    let two = &["n1", "n2"];
    check(two, wants(8, 1, ""), "4,5,10,11 | 4,5,10,11");
    check(two, wants(9, 1, ""), "refused");
    check(two, wants(5, 2, ""), "refused");
    check(two, per_task(5, 1, "gres/gpu:1"), "0,1,6,7 | 0");
}

#[test]
fn who_has_no_gpu_waits_beside_free_cores_and_others_start() {
    let mut world = world(&["n1"], |_| {});
    let open = world.submit(wants(4, 1, ""));
    let waits = world.submit(wants(2, 1, ""));
    assert_eq!((cpus(&world, open).as_str(), cpus(&world, waits).as_str()), ("4,5,10,11", "waits"));
    let first = world.submit(wants(2, 1, "gpu:1"));
    let second = world.submit(wants(1, 1, "gpu:1"));
    assert_eq!((cpus(&world, first).as_str(), cpus(&world, second).as_str()), ("0,1", "2"));
    let more = world.submit(wants(3, 1, "gpu:1"));
    assert_eq!(cpus(&world, more), "waits", "its GPU keeps two, and nothing else is free");
    world.exit(open, 0);
    assert_eq!(cpus(&world, waits), "4,10");
    assert_eq!(cpus(&world, more), "6,7,11");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

/// A node that keeps nothing, beside one that does: the promise is where the job can run.
#[test]
fn a_promise_is_on_a_node_with_enough_open_cores() {
    let mut world = world(&["n1", "n2"], |settings| {
        settings.kept_cores.retain(|one| &*one.node == "n1");
    });
    let holder = world.submit(JobRequest { nodes: Some((1, Some(1))), ..wants(12, 1, "") });
    assert_eq!(cpus(&world, holder), "0,1,2,3,4,5,6,7,8,9,10,11");
    let six = world.submit(JobRequest { nodes: Some((1, Some(1))), ..wants(6, 1, "") });
    assert_eq!(cpus(&world, six), "waits");
    let promise = world.machine.state().promises.of(six).expect("it is first in the queue").clone();
    assert_eq!(promise.start.since(world.now), Span::from_mins(10));
    assert_eq!(promise.holds[0].node, world.node("n2"));
}

/// Where nothing says where GPUs lie, they keep nothing.
#[test]
fn gpus_that_lie_nowhere_keep_nothing() {
    let mut world = world(&["n1"], |settings| settings.devices = Vec::new());
    let all = world.submit(wants(12, 1, ""));
    assert_eq!(cpus(&world, all), "0,1,2,3,4,5,6,7,8,9,10,11");
}
