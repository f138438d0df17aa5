//! Nodes that come back smaller or larger than they are declared, or than they were.

mod world;

use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use scheduler_core::input::{Command, Input, Report};
use scheduler_core::settings::Settings;
use scheduler_core::state::node::{Node, NodeDefinition};

use world::{ROOT, World, job, node, settings};

/// Sets the state of `n1`; says why that is refused.
fn update(world: &mut World, state: &str) -> Option<Refusal> {
    let mut changes = vec![("State".into(), state.into())];
    if state == "DOWN" {
        changes.push(("Reason".into(), "broken".into()));
    }
    let outcomes = world.outcomes(ROOT, Command::UpdateNodes { nodes: "n1".into(), changes });
    outcomes[0].refused.as_ref().map(|refused| refused.refusal)
}

fn n1(world: &World) -> &Node {
    world.machine.state().node(world.node("n1"))
}

/// `n1` registers again, of the same boot and spool, with what runs there.
fn registers(world: &mut World, definition: NodeDefinition) {
    let at = world.node("n1");
    let alive = world.alive.keys().filter(|(node, _)| *node == at);
    let runs = alive.map(|(_, run)| (*run, Report::Begun { at: world.now })).collect();
    world.input(Input::Disconnected { node: at });
    world.register_as(definition, 1, 1, runs);
}

#[test]
fn a_node_with_less_than_declared_runs_on_and_takes_no_new_jobs() {
    let mut world = World::new(1, 4);
    let running = world.submit(JobRequest { ntasks: Some(3), ..job() });
    registers(&mut world, node("n1", 2, 3000));
    let admin = &n1(&world).admin;
    assert!(admin.drain && admin.invalid);
    assert_eq!(
        &*admin.reason,
        "Low socket*core*thread count, Low CPUs, Low RealMemory (reported:3000 < 100.00% of configured:4000)"
    );
    assert_eq!(n1(&world).definition.cpus, Cpus(4), "it stays as it is declared");
    let waiting = world.submit(job());
    assert_eq!(world.state_of(running), JobState::Running);
    assert_eq!(world.state_of(waiting), JobState::Pending);
    world.exit(running, 0);
    assert_eq!(world.state_of(waiting), JobState::Pending);

    // RESUME does not help, nor do a restart and DOWN.
    for state in ["RESUME", "IDLE", "UNDRAIN"] {
        assert_eq!(update(&mut world, state), Some(Refusal::InvalidNodeStateTransition), "{state}");
    }
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
    registers(&mut world, node("n1", 4, 3999));
    assert_eq!(&*n1(&world).admin.reason, "Low RealMemory (reported:3999 < 100.00% of configured:4000)");

    // With enough it is drained until somebody looks after it.
    registers(&mut world, node("n1", 4, 4000));
    let admin = &n1(&world).admin;
    assert_eq!((admin.drain, admin.invalid), (true, false));
    assert_eq!(world.state_of(waiting), JobState::Pending);
    assert_eq!(update(&mut world, "RESUME"), None);
    assert_eq!(world.state_of(waiting), JobState::Running);
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn a_node_whose_device_files_are_missing_is_drained() {
    let with = |gpus: &str| NodeDefinition { gres: world::gpus::kinds(gpus), ..node("n1", 4, 4000) };
    // GPUs are compared with config_overrides too.
    let mut world = World::with(Settings { config_overrides: true, ..settings(&[with("gpu:a100:2,nic:3")]) });
    registers(&mut world, with("gpu:a100:1,nic:1"));
    let admin = &n1(&world).admin;
    assert!(admin.drain && admin.invalid);
    assert_eq!(&*admin.reason, "gres/gpu count reported lower than configured (1 < 2)");
    registers(&mut world, with("gpu:a100:2,nic:1"));
    assert_eq!(update(&mut world, "RESUME"), None);
    assert!(n1(&world).is_available());
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn a_node_that_is_down_stays_down() {
    let mut world = World::new(1, 4);
    update(&mut world, "DOWN");
    registers(&mut world, node("n1", 1, 4000));
    let admin = &n1(&world).admin;
    assert_eq!((admin.down, admin.drain, admin.invalid), (true, false, true));
    assert!(update(&mut world, "RESUME").is_some());
    registers(&mut world, node("n1", 4, 4000));
    assert_eq!(update(&mut world, "RESUME"), None);
    assert!(n1(&world).is_available());
}

#[test]
fn a_node_with_more_is_used_as_declared() {
    let mut world = World::new(1, 4);
    registers(&mut world, node("n1", 64, 64_000));
    assert!(n1(&world).is_available());
    let jobs = [3, 1, 1].map(|tasks| world.submit(JobRequest { ntasks: Some(tasks), ..job() }));
    let states = jobs.map(|id| world.state_of(id));
    assert_eq!(states, [JobState::Running, JobState::Running, JobState::Pending]);
    assert_eq!(world.reasons[&jobs[2]], Reason::Resources);
}

#[test]
fn with_config_overrides_a_node_is_as_declared() {
    let nodes = [node("n1", 4, 4000)];
    let mut world = World::with(Settings { config_overrides: true, ..settings(&nodes) });
    registers(&mut world, node("n1", 1, 10));
    assert!(n1(&world).is_available());
    let id = world.submit(JobRequest { ntasks: Some(4), ..job() });
    assert_eq!(world.state_of(id), JobState::Running);
}

#[test]
fn a_node_of_no_configuration_becomes_smaller_when_its_jobs_have_left() {
    let nodes = [node("n1", 4, 4000)];
    let mut world = World::with(Settings { dynamic_nodes: true, ..settings(&nodes) });
    let running = world.submit(JobRequest { ntasks: Some(3), ..job() });
    registers(&mut world, node("n1", 2, 2000));
    assert_eq!((n1(&world).definition.cpus, n1(&world).admin.invalid), (Cpus(4), true));
    let waiting = world.submit(job());
    assert_eq!((world.state_of(running), world.state_of(waiting)), (JobState::Running, JobState::Pending));
    world.exit(running, 0);
    let known = n1(&world);
    assert_eq!((known.definition.cpus, known.definition.memory), (Cpus(2), MemoryMib(2000)));
    assert!(known.is_available() && known.admin.reason.is_empty());
    assert_eq!(world.state_of(waiting), JobState::Running);
    // Larger it becomes at once.
    registers(&mut world, node("n1", 8, 8000));
    assert_eq!((n1(&world).definition.cpus, n1(&world).is_available()), (Cpus(8), true));
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}
