//! Placement within nodes and across the network: sockets, threads, distributions, GPUs with their CPUs,
//! trees of switches and blocks, against what cons_tres does and against brute force.

mod world;

use std::path::Path;
use std::sync::Arc;

use model::config::topology::{Plugin, Topology};
use model::gres::{parse_gpus, parse_list};
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::Span;
use proptest::prelude::*;
use scheduler_core::effect::Answer;
use scheduler_core::input::{Command, StepRequest};
use scheduler_core::settings::Settings;
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use world::{ALICE, World, job};

/// Nodes of two sockets with four cores of two threads, and four GPUs.
fn settings(count: u32) -> Settings {
    let node = |place: u32| NodeDefinition {
        sockets: 2,
        cores_per_socket: 4,
        threads_per_core: 2,
        gres: vec![GresDefinition { name: "gpu".into(), kind: "a".into(), count: 4, indexed: true }],
        ..world::node(&format!("n{place}"), 16, 16_000)
    };
    let nodes: Vec<NodeDefinition> = (0..count).map(node).collect();
    Settings { def_mem_per_cpu: Some(MemoryMib(10)), ..world::settings(&nodes) }
}

/// Reads a request as one would type it; only what these tests use.
fn request(text: &str) -> JobRequest {
    let mut request = job();
    for word in text.split_whitespace() {
        let (option, value) = word.split_once('=').unwrap();
        let number = || value.parse().unwrap();
        match option {
            "n" => request.ntasks = Some(number()),
            "c" => request.cpus_per_task = Some(number()),
            "N" => request.nodes = Some((number(), Some(number()))),
            "m" => request.rare_mut().distribution = Some(value.replace('/', "=").into()),
            "x" => request.sharing = Sharing::Exclusive,
            "w" => request.rare_mut().nodelist = Some(value.into()),
            "hint" => request.rare_mut().hint = Some(value.into()),
            "tasks-per-socket" => request.rare_mut().ntasks_per_socket = Some(number()),
            "tasks-per-core" => request.rare_mut().ntasks_per_core = Some(number()),
            "cores-per-socket" => request.rare_mut().cores_per_socket = Some(number()),
            "sockets" => request.rare_mut().sockets_per_node = Some(number()),
            "threads" => request.rare_mut().threads_per_core = Some(number()),
            "cpus-per-gpu" => request.rare_mut().cpus_per_gpu = Some(number()),
            "mem-per-gpu" => request.memory = Some(MemoryRequest::PerGpu(MemoryMib(number().into()))),
            "gpus" => request.gpus_per_job = parse_gpus(value).unwrap(),
            "gres" => request.gres_per_node = parse_list(value).unwrap(),
            "gpus-per-socket" => request.gpus_per_socket = parse_gpus(value).unwrap(),
            "per-task" => {
                request.rare_mut().tres_per_task = Some(value.replace('/', "=").replace('|', "/").into())
            }
            "segment" => request.rare_mut().segment = Some(number()),
            "min-nodes" => request.rare_mut().use_min_nodes = number() == 1,
            "switches" => request.rare_mut().switches = Some((number(), None)),
            _ => panic!("{word}"),
        }
    }
    request
}

/// Submits requests in turn and describes where the last runs: `n0:0-3/2t/1g`, or its reason.
fn place(settings: &Settings, requests: &str) -> String {
    let mut world = World::with(settings.clone());
    let mut last = String::new();
    for text in requests.split(';') {
        let job = match world.try_submit(ALICE, request(text)) {
            Answer::Submitted { job, .. } => job,
            Answer::Refused(refused) => return format!("refused {}", refused.lines.join(" ")),
            other => panic!("{other:?}"),
        };
        world.settle();
        let state = world.machine.state();
        last = match state.jobs[&job].active() {
            None => world.reasons[&job].text().to_owned(),
            Some(active) => {
                let share = |share: &scheduler_core::allocation::NodeShare| {
                    let name = &state.node(share.node).definition.name;
                    let gpus: u64 = share.gres.iter().map(|one| one.count).sum();
                    let gpus = if gpus > 0 { format!("/{gpus}g") } else { String::new() };
                    format!("{name}:{}/{}t{gpus}", share.cpu_ids.text(), share.tasks)
                };
                active.allocation.iter().map(share).collect::<Vec<_>>().join(" ")
            }
        };
        assert!(state.check().is_empty(), "{text}: {:?}", state.check());
    }
    last
}

#[track_caller]
fn check(requests: &str, expected: &str) {
    assert_eq!(place(&settings(3), requests), expected, "{requests}");
}

#[test]
fn threads_and_cores_are_taken_as_hinted() {
    // Cores of the sockets in turn: ids 0-7 are socket 0, 8-15 socket 1.
    check("n=4", "n0:0-1,8-9/4t");
    for hint in ["nomultithread", "compute_bound", "memory_bound"] {
        check(&format!("n=4 hint={hint}"), "n0:0-3,8-11/4t");
    }
    check("n=4 hint=multithread", "n0:0-1,8-9/4t");
    check("n=4 threads=1", "n0:0-3,8-11/4t");
    check("n=4 tasks-per-core=1", "n0:0-3,8-11/4t");
    check("n=1 threads=3", "refused Socket, core and/or thread specification can not be satisfied");
    let cores = Settings { one_task_per_core: true, ..settings(1) };
    assert_eq!(place(&cores, "n=4"), "n0:0-3,8-11/4t");
}

#[test]
fn sockets_are_filled_as_asked() {
    check("n=4 m=block:block", "n0:0-3/4t");
    check("n=8 m=block:cyclic", "n0:0-3,8-11/8t");
    let block = Settings { block_cores: true, ..settings(1) };
    assert_eq!(place(&block, "n=4"), "n0:0-3/4t");
    assert_eq!(place(&block, "n=4 m=block:cyclic"), "n0:0-1,8-9/4t");
    check("n=4 c=2 tasks-per-socket=1", "n0:0-1,8-9/2t n1:0-1,8-9/2t");
    // A socket of which too few cores are free is left aside.
    check("n=4 m=block:block w=n0;n=2 cores-per-socket=3 N=1 w=n0", "n0:8-9/2t");
    check("n=4 m=block:block w=n0;n=2 cores-per-socket=3 sockets=2 N=1 w=n0", "Resources");
    check("n=6 m=block:block w=n0;n=1 c=4 sockets=2 cores-per-socket=1 N=1 w=n0", "n0:8-11/1t");
}

#[test]
fn tasks_are_dealt_out_to_nodes_as_asked() {
    let tasks = |requests: &str| {
        let text = place(&settings(3), requests);
        let count = |share: &str| share.split('/').nth(1).map_or_else(|| share.to_owned(), str::to_owned);
        text.split(' ').map(count).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tasks("n=10 N=3 m=block"), "8t 1t 1t");
    // On shared nodes the tasks stay where the job's CPUs are.
    assert_eq!(tasks("n=10 N=3 m=cyclic"), "8t 1t 1t");
    assert_eq!(tasks("n=10 N=3 m=cyclic x=1"), "4t 3t 3t");
    assert_eq!(tasks("n=10 N=3 m=plane/4 x=1"), "4t 4t 2t");
    assert_eq!(tasks("n=20 N=2 m=cyclic:block x=1"), "10t 10t");
    assert_eq!(tasks("n=4 N=2 m=arbitrary w=n2,n0,n2,n2"), "1t 3t");
    assert_eq!(tasks("n=14 w=n0;n=12 N=3 m=cyclic"), "2t 9t 1t");
}

#[test]
fn cpus_and_memory_come_with_gpus() {
    check("gres=gpu:2 cpus-per-gpu=3", "n0:0-1,8-11/1t/2g");
    check("n=2 gpus=4 cpus-per-gpu=2 N=1", "n0:0-3,8-11/2t/4g");
    check("gpus=6 cpus-per-gpu=2", "n0:0-3,8-11/1t/4g n1:0-1,8-9/1t/2g");
    check("n=2 per-task=cpu/2,gres|gpu/1", "n0:0-1,8-9/2t/2g");
    // Six GPUs with 5 GB each: three on a node of 16 GB.
    check("gpus=6 mem-per-gpu=5000", "n0:0-1/1t/3g n1:0-1/1t/3g");
    check("sockets=2 gpus-per-socket=2", "n0:0-1/1t/4g");
    check("gres=gpu:5", "refused ");
}

fn with_topology(count: u32, text: &str, plugin: Plugin, optional: bool) -> Settings {
    let mut settings = settings(count);
    let known = settings.nodes.iter().map(|node| node.name.clone()).collect();
    let mut nothing = |_: &Path| Err("no file".to_owned());
    let topology = Topology::parse(text, Path::new("t"), plugin, optional, &known, &mut nothing).unwrap();
    settings.topology = Some(Arc::new(topology));
    settings
}

const TREE: &str = "SwitchName=a Nodes=n[0-1]\nSwitchName=b Nodes=n[2-4]\nSwitchName=c Nodes=n5\n\
                    SwitchName=t Switches=a,b\nSwitchName=u Switches=c\n";

/// Node names of the last of several requests.
fn nodes(settings: &Settings, requests: &str) -> String {
    let text = place(settings, requests);
    text.split(' ').map(|share| share.split(':').next().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_tree_keeps_jobs_below_the_lowest_switch() {
    let tree = with_topology(6, TREE, Plugin::Tree, false);
    assert_eq!(nodes(&tree, "N=2"), "n0 n1");
    assert_eq!(nodes(&tree, "N=3"), "n2 n3 n4");
    // The largest leaf and what is missing.
    assert_eq!(nodes(&tree, "N=4"), "n0 n2 n3 n4");
    assert_eq!(nodes(&tree, "N=5"), "n0 n1 n2 n3 n4");
    // Nothing connects c with the others.
    assert_eq!(nodes(&tree, "N=6"), "refused ");
    // Best fit: two nodes are left below b too, but a has no third.
    assert_eq!(nodes(&tree, "n=16 w=n2;N=2"), "n0 n1");
    assert_eq!(nodes(&tree, "n=16 w=n0;N=2"), "n2 n3");
    // One node suffices: the first.
    assert_eq!(nodes(&tree, "n=4"), "n0");
    assert_eq!(nodes(&tree, "N=2 w=n4"), "n3 n4");
}

#[test]
fn jobs_wait_for_their_switches_for_a_while() {
    let tree = Settings {
        switch_wait_max: Span::from_secs(60),
        ..with_topology(5, TREE_OF_TWO, Plugin::Tree, true)
    };
    let mut world = World::with(tree.clone());
    world.submit(request("n=16 w=n2"));
    let job = world.submit(request("N=3 switches=1"));
    assert!(world.machine.state().jobs[&job].pending().is_some());
    world.wait(Span::from_secs(59));
    assert!(world.machine.state().jobs[&job].pending().is_some());
    world.wait(Span::from_secs(2));
    assert_eq!(world.nodes_of(job), "n[0-1,3]");
    // More than the largest leaf has are no reason to refuse it: it waits as long.
    let mut world = World::with(tree.clone());
    let job = world.submit(request("N=4 switches=1"));
    assert!(world.machine.state().jobs[&job].pending().is_some());
    world.wait(Span::from_secs(61));
    assert_eq!(world.nodes_of(job), "n[0-3]");
    // Others do not care: TopoOptional.
    assert_eq!(nodes(&tree, "N=3"), "n0 n1 n2");
}

const TREE_OF_TWO: &str = "SwitchName=a Nodes=n[0-1]\nSwitchName=b Nodes=n[2-4]\nSwitchName=t Switches=a,b\n";

#[test]
fn blocks_are_filled_by_aggregates() {
    let text = "BlockName=a Nodes=n[0-1]\nBlockName=b Nodes=n[2-3]\nBlockName=c Nodes=n[4-5]\nBlockName=d Nodes=n[6-7]\nBlockSizes=2,4\n";
    let blocks = with_topology(8, text, Plugin::Block, false);
    assert_eq!(nodes(&blocks, "N=2"), "n0 n1");
    assert_eq!(nodes(&blocks, "n=16 w=n0;N=2"), "n2 n3");
    assert_eq!(nodes(&blocks, "n=16 w=n0;N=4"), "n4 n5 n6 n7");
    // Three nodes are free in the first aggregate: it fits best.
    assert_eq!(nodes(&blocks, "n=16 w=n0;N=3"), "n1 n2 n3");
    assert_eq!(nodes(&blocks, "n=16 w=n0;n=16 w=n4;N=4"), "Resources");
    assert_eq!(nodes(&blocks, "N=5"), "n0 n1 n2 n3 n4");
}

#[test]
fn segments_lie_in_one_block_each() {
    let text =
        "BlockName=a Nodes=n[0-3]\nBlockName=b Nodes=n[4-7]\nBlockName=c Nodes=n[8-11]\nBlockSizes=4\n";
    let blocks = with_topology(12, text, Plugin::Block, false);
    assert_eq!(nodes(&blocks, "N=4 segment=2"), "n0 n1 n2 n3");
    // Three nodes of a are free: one segment of two fits there, or two in b.
    assert_eq!(nodes(&blocks, "n=16 w=n0;N=6 segment=2"), "n4 n5 n6 n7 n8 n9");
    assert_eq!(nodes(&blocks, "n=16 w=n0;n=16 w=n4;n=16 w=n8;N=6 segment=2"), "n1 n2 n5 n6 n9 n10");
    assert_eq!(nodes(&blocks, "n=16 w=n0;n=16 w=n4;n=16 w=n8;N=8 segment=2"), "Resources");
    assert_eq!(nodes(&blocks, "n=16 w=n0;n=16 w=n4;n=16 w=n8;N=6 segment=3"), "n1 n2 n3 n5 n6 n7");
    assert_eq!(nodes(&blocks, "n=16 w=n0;n=16 w=n4;n=16 w=n8;N=9 segment=3"), "n1 n2 n3 n5 n6 n7 n9 n10 n11");
    assert_eq!(nodes(&blocks, "N=5 segment=2"), "refused ");
    assert_eq!(nodes(&blocks, "N=10 segment=5"), "refused ");
}

#[test]
fn the_least_loaded_nodes_come_first() {
    // By request of one node and of two, of a fixed shape and of a loose one; started in one pass and in several.
    let by_site = Settings { least_loaded: true, ..settings(3) };
    let mut by_partition = settings(3);
    by_partition.partitions[0].shown = vec![("LLN".into(), "YES".into())];
    for least in [&by_site, &by_partition] {
        assert_eq!(nodes(least, "n=4"), "n0");
        assert_eq!(nodes(least, "n=4;n=4"), "n1");
        assert_eq!(nodes(least, "n=4;n=2;n=4"), "n2");
        assert_eq!(nodes(least, "n=4;n=2;n=4;n=2"), "n1");
        assert_eq!(nodes(least, "n=4;n=2;N=2"), "n1 n2");
        assert_eq!(nodes(least, "n=4;n=2;gpus=1"), "n2");
    }
    assert_eq!(nodes(&settings(3), "n=4;n=4"), "n0");
    // What starts in one pass counts: three jobs come free at once.
    let mut world = World::with(by_site);
    let all = world.submit(request("N=3 x=1"));
    let waiting: Vec<_> = (0..3).map(|_| world.submit(request("n=4"))).collect();
    world.exit(all, 0);
    let places: Vec<String> = waiting.iter().map(|id| world.nodes_of(*id)).collect();
    assert_eq!(places, ["n0", "n1", "n2"]);
}

#[test]
fn few_or_many_nodes() {
    let mut few = request("n=4 min-nodes=1");
    few.nodes = Some((1, Some(3)));
    let mut world = World::with(settings(3));
    let id = world.submit(few);
    assert_eq!(world.nodes_of(id), "n0");
    let mut wide = request("n=4");
    wide.nodes = Some((1, Some(3)));
    let id = world.submit(wide);
    assert_eq!(world.nodes_of(id), "n[0-2]");
    world.exit(id, 0);
    let mut many = request("n=4");
    many.nodes = Some((1, Some(3)));
    many.rare_mut().spread_job = true;
    let id = world.submit(many);
    assert_eq!(world.nodes_of(id), "n[0-2]");
}

/// Tasks on each node of a step in a job that has three nodes whole.
#[track_caller]
fn step_tasks(pack_nodes: bool, tasks: u32, distribution: &str) -> Vec<u32> {
    let mut world = World::with(Settings { pack_nodes, ..settings(3) });
    let job = world.submit(request("N=3 x=1"));
    let step = StepRequest {
        ntasks: Some(tasks),
        nodes: Some((3, None)),
        distribution: (!distribution.is_empty()).then(|| distribution.into()),
        ..StepRequest::default()
    };
    match world.command(ALICE, Command::CreateStep { job, step: Box::new(step) }) {
        Answer::StepCreated { allocation, .. } => allocation.iter().map(|share| share.tasks).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tasks_of_a_step_are_spread_or_packed() {
    assert_eq!(step_tasks(false, 10, ""), [4, 3, 3]);
    assert_eq!(step_tasks(false, 10, "block"), [4, 3, 3]);
    assert_eq!(step_tasks(false, 10, "block,Pack"), [8, 1, 1]);
    assert_eq!(step_tasks(true, 10, "block:cyclic"), [8, 1, 1]);
    assert_eq!(step_tasks(true, 10, "block:cyclic:cyclic,NoPack"), [4, 3, 3]);
    assert_eq!(step_tasks(false, 10, "cyclic"), [4, 3, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A job of whole nodes below a tree: it starts exactly where some switch has enough free nodes, and
    /// then below a switch of the least possible level.
    #[test]
    fn the_tree_against_all_switches(busy in proptest::collection::vec(any::<bool>(), 8), wanted in 2..=7_u32) {
        let text = "SwitchName=a Nodes=n[0-1]\nSwitchName=b Nodes=n[2-4]\nSwitchName=c Nodes=n[5-7]\n\
                    SwitchName=p Switches=a,b\nSwitchName=t Switches=p,c\n";
        let tree = with_topology(8, text, Plugin::Tree, false);
        let topology = Arc::clone(tree.topology.as_ref().unwrap());
        let mut requests: Vec<String> =
            (0..8).filter(|at| busy[*at]).map(|at| format!("n=16 w=n{at}")).collect();
        requests.push(format!("N={wanted}"));
        let found = nodes(&tree, &requests.join(";"));
        let free = |unit: &model::config::topology::Unit| {
            let is_free = |name: &&str| !busy[name[1..].parse::<usize>().unwrap()];
            topology.nodes_below(unit).into_iter().filter(is_free).count()
        };
        let enough = topology.units.iter().filter(|unit| free(unit) >= wanted as usize);
        // Depth, not level: c hangs directly below the top.
        let depth = |name: &str| topology.ways.values().find_map(|way| way.split('.').position(|one| one == name)).unwrap();
        let deepest = enough.map(|unit| depth(&unit.name)).max();
        match deepest {
            None => prop_assert_eq!(found, "Resources"),
            Some(deepest) => {
                let chosen: Vec<&str> = found.split(' ').collect();
                prop_assert_eq!(chosen.len(), wanted as usize, "{}", found);
                let mut below = topology.units.iter().filter(|unit| {
                    let all = topology.nodes_below(unit);
                    depth(&unit.name) == deepest && chosen.iter().all(|name| all.contains(name))
                });
                prop_assert!(below.next().is_some(), "{} is below no switch of depth {}", found, deepest);
            }
        }
    }

    /// Cores, sockets and tasks on one node: what cons_tres's rules allow, found by trying every core.
    #[test]
    fn one_node_against_all_sets_of_cores(
        held in proptest::collection::vec(any::<bool>(), 8),
        tasks in 1..=6_u32,
        cpus in 1..=3_u32,
        least in proptest::option::of(2..=4_u32),
        most in proptest::option::of(1..=3_u32),
        one_thread in any::<bool>(),
    ) {
        let settings = settings(1);
        let mut world = World::with(settings.clone());
        // One job on each core, of which those that are not held end again.
        let jobs: Vec<_> = (0..8).map(|_| world.submit(request("n=2 tasks-per-core=2"))).collect();
        let mut is_free = [false; 8];
        for id in jobs {
            let core = world.machine.state().jobs[&id].active().unwrap().allocation[0].cpu_ids.iter().next().unwrap() / 2;
            if !held[core as usize] {
                is_free[core as usize] = true;
                world.exit(id, 0);
            }
        }
        let mut asked = request(&format!("n={tasks} c={cpus} N=1"));
        asked.rare_mut().cores_per_socket = least;
        asked.rare_mut().ntasks_per_socket = most;
        asked.rare_mut().hint = one_thread.then(|| "nomultithread".into());
        let each = cpus * if one_thread { 2 } else { 1 };
        // Every number of tasks on the first socket; cores are whole, and their sum over the node is what counts.
        let free = |socket: usize| is_free[socket * 4..][..4].iter().filter(|free| **free).count() as u32;
        let usable = |socket: usize| if free(socket) >= least.unwrap_or(1) { free(socket) } else { 0 };
        let cap = |socket: usize| most.map_or(u32::MAX, |most| most.min(usable(socket) * 2 / each));
        let by_socket = least.is_some() || most.is_some();
        let cores = if by_socket { usable(0) + usable(1) } else { free(0) + free(1) };
        let total = (tasks * each).div_ceil(2);
        let within = cores >= total && cap(0).saturating_add(cap(1)) >= tasks;
        match world.try_submit(ALICE, asked) {
            Answer::Submitted { job, .. } => {
                world.settle();
                let state = world.machine.state();
                prop_assert!(state.check().is_empty());
                let runs = state.jobs[&job].active();
                prop_assert_eq!(runs.is_some(), within, "free {:?}", is_free);
                if let Some(active) = runs {
                    let ids = &active.allocation[0].cpu_ids;
                    prop_assert_eq!(ids.len(), total * 2);
                    prop_assert!(ids.iter().all(|id| is_free[id as usize / 2]));
                }
            }
            Answer::Refused(_) => prop_assert!(!within),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
