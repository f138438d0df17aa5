//! Placement on the conformance cluster: what real Slurm answered there (goldens of `opts`, `gres`,
//! `errors`, `limits` and `scontrol`), request by request.

mod world;

use model::gres::{parse_gpus, parse_list};
use model::id::JobId;
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::Span;
use scheduler_core::effect::Answer;
use scheduler_core::settings::Settings;
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition, PartitionState};
use world::{ALICE, World, job};

fn reference() -> Settings {
    let node = |name: &str, memory: u64, features: &[&str]| NodeDefinition {
        sockets: 2,
        cores_per_socket: 4,
        features: features.iter().map(|&name| name.into()).collect(),
        ..world::node(name, 8, memory)
    };
    let mut nodes = vec![
        node("c1", 8000, &["intel", "ib"]),
        node("c2", 8000, &["intel", "ib"]),
        node("c3", 8000, &["amd"]),
        node("c4", 8000, &["amd"]),
        node("g1", 16000, &["gpu"]),
        node("g2", 16000, &["gpu"]),
        NodeDefinition { sockets: 1, cores_per_socket: 4, threads_per_core: 2, ..node("h1", 8000, &["smt"]) },
    ];
    for gpu in &mut nodes[4..6] {
        gpu.gres = vec![GresDefinition { name: "gpu".into(), kind: "a100".into(), count: 4, indexed: true }];
    }
    let partition = |name: &str, nodes: &str, minutes: Option<i64>| PartitionDefinition {
        nodes: model::hostlist::expand(nodes).unwrap().into_iter().map(Into::into).collect(),
        max_time: minutes.map(Span::from_mins),
        ..PartitionDefinition::named(name)
    };
    let partitions = vec![
        PartitionDefinition { is_default: true, ..partition("debug", "c[1-4]", Some(10)) },
        partition("gpu", "g[1-2]", None),
        partition("smt", "h1", Some(60)),
        PartitionDefinition { max_nodes: Some(1), ..partition("small", "c[1-2]", Some(30)) },
        PartitionDefinition {
            oversubscribe: OverSubscribe::Exclusive,
            ..partition("excl", "c[1-4]", Some(60))
        },
        PartitionDefinition { state: PartitionState::Down, ..partition("closed", "c4", Some(60)) },
        PartitionDefinition { allow_accounts: vec!["chem".into()], ..partition("chem", "c[1-4]", Some(60)) },
    ];
    Settings { partitions, def_mem_per_cpu: Some(MemoryMib(500)), ..world::settings(&nodes) }
}

/// Reads a request as one would type it; only what these tests use.
fn request(text: &str) -> JobRequest {
    let mut request = job();
    for word in text.split_whitespace() {
        let (option, value) = word.split_at(2);
        let number = || value.parse().unwrap();
        match option {
            "-n" => request.ntasks = Some(number()),
            "-c" => request.cpus_per_task = Some(number()),
            "-N" => request.nodes = Some((number(), None)),
            "-p" => request.partition = Some(value.into()),
            "-C" => request.constraint = Some(value.into()),
            "-w" => request.rare_mut().nodelist = Some(value.into()),
            "-x" => request.rare_mut().exclude = Some(value.into()),
            "-L" => request.rare_mut().licenses = Some(value.into()),
            "-t" => request.time_limit = Some(Some(Span::from_mins(number().into()))),
            "-M" => request.memory = Some(MemoryRequest::PerNode(MemoryMib(number().into()))),
            "-m" => request.memory = Some(MemoryRequest::PerCpu(MemoryMib(number().into()))),
            "-g" => request.gres_per_node = parse_list(value).unwrap(),
            "-G" => request.gpus_per_job = parse_gpus(value).unwrap(),
            "-T" => request.rare_mut().ntasks_per_gpu = Some(number()),
            "-P" => request.ntasks_per_node = Some(number()),
            "-X" => request.sharing = Sharing::Exclusive,
            "-U" => request.sharing = Sharing::User,
            "-S" => request.rare_mut().spread_job = true,
            "-K" => request.rare_mut().contiguous = true,
            "-H" => request.hold = true,
            other => panic!("{other} in {text}"),
        }
    }
    request
}

/// What a running job holds: `c1:0,4/2t/1000` (node, CPU ids, tasks, memory, devices).
fn held(world: &World, id: JobId) -> String {
    let state = world.machine.state();
    let Some(active) = state.jobs[&id].active() else {
        return format!("{:?}", world.reasons.get(&id).copied().unwrap_or_default());
    };
    let share = |share: &scheduler_core::allocation::NodeShare| {
        let name = &state.node(share.node).definition.name;
        let devices: Vec<String> =
            share.gres.iter().map(|gres| format!("/{}", gres.indices.text())).collect();
        format!("{name}:{}/{}t/{}{}", share.cpu_ids.text(), share.tasks, share.memory, devices.concat())
    };
    active.allocation.iter().map(share).collect::<Vec<_>>().join(" ")
}

/// Requests one after the other on an empty cluster, with what the last one gets.
#[track_caller]
fn check(requests: &str, expected: &str) {
    let mut world = World::with(reference());
    let mut last = String::new();
    for text in requests.split(';') {
        last = match world.try_submit(ALICE, request(text)) {
            Answer::Submitted { job, .. } => held(&world, job),
            Answer::Refused(refused) => {
                let lines: Vec<&str> = refused.lines.iter().map(|line| &**line).collect();
                format!("refused {} {}", refused.refusal.number(), lines.join("; ")).trim_end().to_owned()
            }
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(last, expected, "{requests}");
}

#[test]
fn spreads_as_slurm_does() {
    check("-n1", "c1:0/1t/500");
    check("-n2", "c1:0,4/2t/1000");
    check("-n3", "c1:0-1,4/3t/1500");
    check("-N2 -n3", "c1:0,4/2t/1000 c2:0/1t/500");
    check("-N2 -n4", "c1:0-1,4/3t/1500 c2:0/1t/500");
    check("-N3 -n7", "c1:0-2,4-5/5t/2500 c2:0/1t/500 c3:0/1t/500");
    check("-N3", "c1:0/1t/500 c2:0/1t/500 c3:0/1t/500");
    check("-n9", "c1:0-7/8t/4000 c2:0/1t/500");
    check("-n2 -P1", "c1:0/1t/500 c2:0/1t/500");
    check("-N4 -S -n6", "c1:0,4/2t/1000 c2:0,4/2t/1000 c3:0/1t/500 c4:0/1t/500");
    check("-n3;-n3;-n3", "c2:0-1,4/3t/1500");
    check("-N1 -n6;-N2 -n4", "c1:3,7/2t/1000 c2:0,4/2t/1000");
    check("-M7000;-M7000", "c2:0/1t/7000");
    check("-M0", "c1:0/1t/8000");
    check("-m300 -c2", "c1:0-1/1t/600");
    // Whole tasks on one socket, of the lowest cores that tasks could use (recording `beside-cores`).
    check("-n2 -c3", "c1:0-5/2t/3000");
    check("-n3 -wc1;-N1 -n1 -c3 -wc1", "c1:2-3,5/1t/1500");
    check("-n8;-N1 -n4;-n10", "c2:2-3,6-7/4t/2000 c3:0-2,4-6/6t/3000");
}

#[test]
fn threads_and_whole_nodes() {
    check("-psmt -n1", "h1:0-1/1t/1000");
    check("-psmt -n3", "h1:0-3/3t/2000");
    check("-X ", "c1:0-7/8t/4000");
    check("-pexcl", "c1:0-7/8t/4000");
    check("-n1;-X ", "c2:0-7/8t/4000");
    check("-X ;-n1", "c2:0/1t/500");
    check("-U ;-n1", "c1:1/1t/500");
}

#[test]
fn named_nodes_and_features() {
    check("-wc3", "c3:0/1t/500");
    check("-wc4 -N2", "c3:0/1t/500 c4:0/1t/500");
    check("-xc[1-2]", "c3:0/1t/500");
    check("-Camd", "c3:0/1t/500");
    check("-Camd|ib -N4", "c1:0/1t/500 c2:0/1t/500 c3:0/1t/500 c4:0/1t/500");
    check("-C[intel|amd] -N2", "c1:0/1t/500 c2:0/1t/500");
    check("-n1;-n8 -wc1", "c1:1-7/7t/3500 c2:0/1t/500");
    check("-X ;-C[intel|amd] -N2", "c3:0/1t/500 c4:0/1t/500");
    check("-C[intel*1&amd*2] -N3", "c1:0/1t/500 c3:0/1t/500 c4:0/1t/500");
    check("-N3 -X -xc2;-K -N2", "Resources");
    check("-X -wc2;-K -N2", "c3:0/1t/500 c4:0/1t/500");
}

#[test]
fn devices() {
    check("-pgpu -ggpu:2", "g1:0/1t/500/0-1");
    check("-pgpu -ggpu:2;-pgpu -ggpu:1", "g1:1/1t/500/2");
    check("-pgpu -ggpu:a100:4;-pgpu -ggpu:1", "g2:0/1t/500/0");
    check("-pgpu -G6", "g1:0/1t/500/0-3 g2:0/1t/500/0-1");
    check("-pgpu -G2 -T2", "g1:0-1,4-5/4t/2000/0-1");
    check("-pgpu -N2 -ggpu:4;-pgpu -ggpu:1", "Resources");
    check("-pgpu -ggpu:9", "refused 2014");
    check("-pgpu -ggpu:9 -H ", "JobHeldUser");
    check("-pgpu -ggpu:v100:1", "refused 2014");
}

#[test]
fn what_can_never_run_is_refused_and_what_a_partition_forbids_waits() {
    check("-c9", "refused 2014 CPU count per node can not be satisfied");
    check("-M9000", "refused 2014 Memory specification can not be satisfied");
    check("-Cintel&amd", "refused 2014");
    check("-Cnosuch -H ", "refused 2029");
    check("-xc[1-4]", "refused 2014");
    check("-n33", "PartitionConfig");
    check("-N5", "PartitionNodeLimit");
    check("-psmall -N2", "PartitionNodeLimit");
    check("-t11", "PartitionTimeLimit");
    check("-pclosed", "PartitionDown");
    check("-pchem", "PartitionConfig");
    check("-Lmatlab:2;-Lmatlab:1", "Licenses");
    check("-psmall,debug", "c1:0/1t/500");
}

#[test]
fn a_short_job_backfills_and_a_long_one_does_not() {
    check("-N3 -X -t5;-N4 -X -t5", "Resources");
    check("-N3 -X -t5;-N4 -X -t5;-N1 -t1", "c4:0/1t/500");
    check("-N3 -X -t5;-N4 -X -t5;-N1 -t6", "Priority");
}
