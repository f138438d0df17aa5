//! OverSubscribe: which jobs hold the same CPUs, and which are never on one node. Source: `man slurm.conf`
//! (OverSubscribe), the guide to sharing consumable resources, behaviour of select/cons_tres.

mod world;

use std::collections::BTreeMap;

use model::id::JobId;
use model::reason::Reason;
use model::request::{JobRequest, Sharing};
use model::time::Span;
use scheduler_core::settings::Settings;
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition};
use world::{World, job};

/// Partitions over the same `nodes` of four CPUs, one of each way to share.
fn settings(nodes: u32, bind: bool) -> Settings {
    let nodes: Vec<_> = (1..=nodes)
        .map(|n| scheduler_core::state::node::NodeDefinition {
            bind,
            ..world::node(&format!("n{n}"), 4, 4000)
        })
        .collect();
    let base = world::settings(&nodes);
    let partition = |name: &str, oversubscribe| PartitionDefinition {
        name: name.into(),
        oversubscribe,
        is_default: name == "no",
        ..base.partitions[0].clone()
    };
    let partitions = vec![
        partition("no", OverSubscribe::No),
        partition("yes", OverSubscribe::Yes(2)),
        partition("force", OverSubscribe::Force(3)),
        partition("whole", OverSubscribe::Exclusive),
    ];
    Settings { partitions, ..base }
}

fn ask(partition: &str, tasks: u32, sharing: Sharing, minutes: i64) -> JobRequest {
    JobRequest {
        partition: Some(partition.into()),
        ntasks: Some(tasks),
        sharing,
        time_limit: Some(Some(Span::from_mins(minutes))),
        ..job()
    }
}

/// `n1:0-1` for a running job, its reason for another.
fn held(world: &World, id: JobId) -> String {
    let state = world.machine.state();
    let Some(active) = state.jobs[&id].active() else {
        return format!("{:?}", world.reasons.get(&id).copied().unwrap_or_default());
    };
    let one = |share: &scheduler_core::allocation::NodeShare| {
        format!("{}:{}", state.node(share.node).definition.name, share.cpu_ids.text())
    };
    active.allocation.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Submits `partition tasks [s]` pieces to a machine of one node, and compares what each job gets.
#[track_caller]
fn check(pieces: &str, expected: &str) {
    let mut world = World::with(settings(1, true));
    let mut ids = Vec::new();
    for piece in pieces.split(';') {
        let words: Vec<&str> = piece.split_whitespace().collect();
        let sharing = match words.get(2) {
            Some(&"s") => Sharing::Oversubscribe,
            Some(&"x") => Sharing::Exclusive,
            _ => Sharing::Default,
        };
        ids.push(world.submit(ask(words[0], words[1].parse().unwrap(), sharing, 5)));
    }
    let all: Vec<String> = ids.iter().map(|id| held(&world, *id)).collect();
    assert_eq!(all.join("; "), expected, "{pieces}");
}

#[test]
fn cpus_without_a_holder_come_first_then_those_with_the_fewest() {
    check("force 2;force 2", "n1:0-1; n1:2-3");
    check("force 3;force 2", "n1:0-2; n1:0-1");
    check("force 4;force 4;force 4;force 1", "n1:0-3; n1:0-3; n1:0-3; Resources");
    check("force 3;force 3;force 3;force 3", "n1:0-2; n1:0-2; n1:0-2; Resources");
    check("force 4;force 2 x", "n1:0-3; n1:0-1");
}

#[test]
fn yes_shares_only_where_it_is_asked_for() {
    check("yes 4 s;yes 4 s;yes 1 s", "n1:0-3; n1:0-3; Resources");
    check("yes 2;yes 2;yes 1", "n1:0-1; n1:2-3; Resources");
    check("no 4 s;no 1 s", "n1:0-3; Resources");
}

#[test]
fn jobs_that_share_and_jobs_that_do_not_are_never_on_one_node() {
    check("force 1;no 1", "n1:0; Resources");
    check("no 1;force 1", "n1:0; Resources");
    check("yes 1 s;yes 1", "n1:0; Resources");
    check("force 1;whole 1", "n1:0; Resources");
    // A node that two partitions share has as many layers as the job's own partition says.
    check("force 4;force 4;yes 4 s", "n1:0-3; n1:0-3; Resources");
    check("yes 4 s;yes 4 s;force 4", "n1:0-3; n1:0-3; n1:0-3");
}

#[test]
fn the_end_of_one_holder_makes_room_for_the_next() {
    let mut world = World::with(settings(1, true));
    let jobs: Vec<JobId> = (0..4).map(|_| world.submit(ask("force", 4, Sharing::Default, 5))).collect();
    assert_eq!(held(&world, jobs[3]), "Resources");
    world.exit(jobs[1], 0);
    assert_eq!(held(&world, jobs[3]), "n1:0-3");
    let alone = world.submit(ask("no", 1, Sharing::Default, 5));
    for id in [jobs[0], jobs[2], jobs[3]] {
        assert_eq!(world.reasons.get(&alone), Some(&Reason::Resources));
        world.exit(id, 0);
    }
    assert_eq!(held(&world, alone), "n1:0");
    assert_eq!(world.replayed().nodes, world.machine.state().nodes);
}

#[test]
fn counted_cpus_are_shared_too() {
    let mut world = World::with(settings(1, false));
    let jobs: Vec<JobId> = (0..7).map(|_| world.submit(ask("force", 2, Sharing::Default, 5))).collect();
    let running = |id: &&JobId| world.machine.state().jobs[id].active().is_some();
    assert_eq!(jobs.iter().filter(running).count(), 6);
    assert_eq!(world.machine.state().nodes[0].busy_cpus().0, 4);
}

/// Whatever comes and goes: no CPU has more holders than allowed, no node has jobs of both sorts, and nothing
/// waits on an empty machine.
#[test]
fn any_mixture_keeps_the_rules() {
    let mut seed = 11_u64;
    let mut below = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..40 {
        let mut world = World::with(settings(2, true));
        let mut alive: Vec<JobId> = Vec::new();
        for _ in 0..30 {
            if below(3) > 0 {
                let partition = ["no", "yes", "force", "whole"][below(4) as usize];
                let sharing = if below(2) == 0 { Sharing::Default } else { Sharing::Oversubscribe };
                alive.push(world.submit(ask(partition, 1 + below(5) as u32, sharing, 1 + below(9) as i64)));
            } else {
                let running: Vec<JobId> = world.machine.state().index.running.iter().copied().collect();
                if !running.is_empty() {
                    world.exit(running[below(running.len() as u64) as usize], 0);
                }
            }
            rules(&world);
        }
        while let Some(&id) = world.machine.state().index.running.iter().next() {
            world.exit(id, 0);
            rules(&world);
        }
        let waiting = world.machine.state().index.queue.len();
        assert_eq!(waiting, 0, "nothing runs, and {waiting} jobs wait");
        let used = &world.machine.state().nodes[0].used;
        assert!(used.cpu_layers.is_empty() && used.sharing == 0, "{used:?}");
    }
}

fn rules(world: &World) {
    let state = world.machine.state();
    let mut holders: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut sorts: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
    for id in &state.index.running {
        for share in state.jobs[id].active().unwrap().allocation.iter() {
            sorts.entry(share.node.0).or_default().push(share.shared);
            for cpu in share.cpu_ids.iter() {
                *holders.entry((share.node.0, cpu)).or_default() += 1;
            }
        }
    }
    assert!(holders.values().all(|count| *count <= 3), "{holders:?}");
    for (node, sorts) in &sorts {
        assert!(sorts.iter().all(|shared| *shared == sorts[0]), "both sorts on node {node}");
        if !sorts[0] {
            assert!(holders.iter().all(|((on, _), count)| on != node || *count == 1), "{holders:?}");
        }
    }
}
