//! The variables against what Slurm 26.05 set in the recorded scenarios (names and values from the goldens).

use super::{bind_gpus, of_batch, of_step, of_task, runs};
use crate::cgroup::StepGroups;
use crate::gpu::bind::Visible;
use crate::key::Key;
use crate::launch::user::Account;
use crate::launch::{Context, compose};
use model::id::StepId;
use proto::v1;

/// Without GPUs.
fn context() -> Context<'static> {
    static NONE: std::sync::LazyLock<Visible> = std::sync::LazyLock::new(Visible::default);
    with(&NONE)
}

fn with(gpus: &Visible) -> Context<'_> {
    Context {
        node: "c1",
        mark: "0a",
        hostname: "host",
        commands: "/opt/bin",
        socket: None,
        task_prolog: None,
        task_epilog: None,
        append: false,
        propagated: crate::launch::rlimits::Propagated::ALL,
        client_grace_ms: 0,
        sample_ms: 0,
        gpus,
        mpi_default: crate::launch::mpi::Kind::None,
        pmix: None,
    }
}

fn account() -> Account {
    Account {
        name: "alice".into(),
        groups: vec![2001],
        home: "/home/alice".into(),
        shell: "/bin/bash".into(),
    }
}

fn node(name: &str, cpus: u32, tasks: u32) -> v1::NodeAllocation {
    v1::NodeAllocation { node: name.to_owned(), cpus, tasks, ..Default::default() }
}

/// `sbatch -J nm --wrap …` as user alice of the reference cluster.
fn launch() -> v1::Launch {
    v1::Launch {
        key: Some(v1::RunKey { job_id: 100_001, step_id: "batch".to_owned(), run: 1 }),
        uid: 2001,
        gid: 2001,
        user: "alice".to_owned(),
        group: "alice".to_owned(),
        request: Some(v1::JobRequest {
            name: "nm".to_owned(),
            work_dir: "/w".to_owned(),
            submit_host: "ctl".to_owned(),
            ..Default::default()
        }),
        allocation: vec![node("c1", 1, 1)],
        node_list: "c1".to_owned(),
        environment:
            b"HOME=/home/alice\0SLURM_PRIO_PROCESS=0\0SLURM_FOO=bar\0SLURM_NTASKS=9\0SLURM_JOB_ID=7\0junk\0"
                .to_vec()
                .into(),
        start_ms: 1_000_000,
        end_ms: Some(1_180_000),
        account: "physics".to_owned(),
        qos: "normal".to_owned(),
        partition: "debug".to_owned(),
        cluster: "conf".to_owned(),
        slurm_conf: "/etc/slurm/slurm.conf".to_owned(),
        num_tasks: 1,
        memory_mib_per_cpu: Some(500),
        ..Default::default()
    }
}

fn texts(entries: Vec<Vec<u8>>) -> Vec<String> {
    let mut texts: Vec<String> = entries.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect();
    texts.sort();
    texts
}

fn names(entries: Vec<Vec<u8>>) -> Vec<String> {
    texts(entries).iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_plain_batch_script() {
    let mut entries = texts(of_batch(&context(), &launch(), &account()).into_entries());
    entries.retain(|entry| {
        entry.starts_with("SLURM")
            && !entry.contains("SLUID")
            && !entry.contains("SLURM_PRIO")
            && !entry.contains("_TIME=")
    });
    let expected = "SLURMD_NODENAME=c1 SLURM_CLUSTER_NAME=conf SLURM_CONF=/etc/slurm/slurm.conf SLURM_CPUS_ON_NODE=1 \
        SLURM_FOO=bar SLURM_GTIDS=0 SLURM_JOBID=100001 SLURM_JOB_ACCOUNT=physics SLURM_JOB_CPUS_PER_NODE=1 \
        SLURM_JOB_EXCLUSIVE=NO SLURM_JOB_GID=2001 SLURM_JOB_ID=100001 SLURM_JOB_NAME=nm SLURM_JOB_NODELIST=c1 \
        SLURM_JOB_NUM_NODES=1 SLURM_JOB_OVERSUBSCRIBE=NO SLURM_JOB_PARTITION=debug SLURM_JOB_QOS=normal \
        SLURM_JOB_UID=2001 SLURM_JOB_USER=alice SLURM_LOCALID=0 SLURM_MEM_PER_CPU=500 SLURM_NNODES=1 SLURM_NODEID=0 \
        SLURM_NODELIST=c1 SLURM_NTASKS=9 SLURM_OOM_KILL_STEP=0 SLURM_PROCID=0 SLURM_STEPID=-5 SLURM_STEP_ID=-5 \
        SLURM_SUBMIT_DIR=/w SLURM_SUBMIT_HOST=ctl SLURM_TASKS_PER_NODE=1 SLURM_TOPOLOGY_ADDR=c1 \
        SLURM_TOPOLOGY_ADDR_PATTERN=node";
    assert_eq!(entries, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn what_is_added_beside_slurms_own() {
    let names = names(of_batch(&context(), &launch(), &account()).into_entries());
    let other: Vec<&String> = names.iter().filter(|name| !name.starts_with("SLURM")).collect();
    let expected = [
        "ENVIRONMENT",
        "HOME",
        "HOSTNAME",
        "HYDRA_BOOTSTRAP",
        "HYDRA_LAUNCHER_EXTRA_ARGS",
        "I_MPI_HYDRA_BOOTSTRAP",
        "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS",
        "OMPI_MCA_plm_slurm_args",
        "PRTE_MCA_plm_slurm_args",
        "TMPDIR",
    ];
    assert_eq!(other, expected);
}

#[test]
fn options_bring_their_variables() {
    let mut launch = launch();
    let request = launch.request.as_mut().unwrap();
    request.ntasks = Some(4);
    request.cpus_per_task = Some(2);
    request.gpus_per_task = vec![v1::Gres { name: "gpu".to_owned(), r#type: "a100".to_owned(), count: 1 }];
    request.rare = Some(v1::RareRequest {
        distribution: Some("cyclic".to_owned()),
        tres_bind: Some("gres/gpu:closest".to_owned()),
        ..Default::default()
    });
    launch.num_tasks = 4;
    launch.allocation = vec![node("c1", 6, 3), node("c2", 2, 1)];
    launch.node_list = "c[1-2]".to_owned();
    launch.licenses = "matlab:1".to_owned();
    launch.restarts = 1;
    let entries = texts(of_batch(&context(), &launch, &account()).into_entries());
    for expected in [
        "SLURM_CPUS_ON_NODE=6",
        "SLURM_CPUS_PER_TASK=2",
        "SLURM_TRES_PER_TASK=cpu=2,gres/gpu:a100=1",
        "SLURM_GPUS_PER_TASK=a100:1",
        "SLURM_JOB_CPUS_PER_NODE=6,2",
        "SLURM_JOB_NODELIST=c[1-2]",
        "SLURM_NNODES=2",
        "SLURM_NPROCS=4",
        "SLURM_NTASKS=4",
        "SLURM_TASKS_PER_NODE=3,1",
        "SLURM_DISTRIBUTION=cyclic",
        "SLURM_TRES_BIND=gres/gpu:closest",
        "SLURM_JOB_LICENSES=matlab:1",
        "SLURM_RESTART_COUNT=1",
    ] {
        assert!(entries.iter().any(|entry| entry == expected), "{expected} in {entries:?}");
    }
}

#[test]
fn an_array_task_knows_its_array() {
    let mut launch = launch();
    launch.array_job_id = Some(9);
    launch.array_task_id = Some(4);
    launch.array_task_min = Some(2);
    launch.array_task_max = Some(6);
    launch.array_task_step = Some(2);
    launch.array_task_count = Some(3);
    let mut entries = texts(of_batch(&context(), &launch, &account()).into_entries());
    entries.retain(|entry| entry.starts_with("SLURM_ARRAY"));
    let expected = "SLURM_ARRAY_JOB_ID=9 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_ID=4 SLURM_ARRAY_TASK_MAX=6 \
        SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_STEP=2";
    assert_eq!(entries, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn devices_are_listed_for_those_who_have_some() {
    let mut launch = launch();
    launch.allocation[0].gres = vec![v1::GresAllocation {
        name: "gpu".to_owned(),
        r#type: "a100".to_owned(),
        count: 2,
        indices: vec![1, 0],
        ..v1::GresAllocation::default()
    }];
    let two = Visible::declared(&launch.allocation[0], false);
    let mut entries = texts(of_batch(&with(&two), &launch, &account()).into_entries());
    entries.retain(|entry| entry.contains("GPU") || entry.contains("VISIBLE") || entry.starts_with("ZE_"));
    let expected = "CUDA_VISIBLE_DEVICES=0,1 GPU_DEVICE_ORDINAL=0,1 ROCR_VISIBLE_DEVICES=0,1 SLURM_GPUS_ON_NODE=2 \
        SLURM_JOB_GPUS=0,1 ZE_AFFINITY_MASK=0,1";
    assert_eq!(entries, expected.split_whitespace().collect::<Vec<_>>());
    // A step without any loses what its environment brought.
    let tasks =
        v1::TaskLaunch { environment: b"CUDA_VISIBLE_DEVICES=0,1\0".to_vec().into(), ..Default::default() };
    launch.step_nodes =
        vec![v1::StepNode { allocation: Some(node("c1", 1, 1)), ranks: vec![0], ..Default::default() }];
    let names = names(of_step(&context(), &launch, &tasks, StepId::Number(0)).into_entries());
    assert!(!names.iter().any(|name| name.contains("VISIBLE")), "{names:?}");
}

#[test]
fn a_step_inside_a_batch_job() {
    let mut launch = launch();
    launch.step_nodes =
        vec![v1::StepNode { allocation: Some(node("c1", 1, 1)), ranks: vec![0], ..Default::default() }];
    launch.step = Some(v1::StepRequest::default());
    // What srun passes on: the batch script's own environment.
    let mut batch = launch.clone();
    batch.request.as_mut().unwrap().ntasks = Some(2);
    batch.environment = Vec::new().into();
    let inherited = of_batch(&context(), &batch, &account()).into_entries();
    let environment: Vec<u8> = inherited.into_iter().flat_map(|entry| [entry, vec![0]].concat()).collect();
    let tasks = v1::TaskLaunch { environment: environment.into(), umask: 0o22, ..Default::default() };
    let entries = of_step(&context(), &launch, &tasks, StepId::Number(0)).into_entries();
    let own = of_task(0, 0);
    let mut found = names(entries);
    found.extend(names(own));
    found.retain(|name| name.starts_with("SLURM"));
    found.sort();
    found.dedup();
    // SLURM_TASK_PID is the supervisor's to add.
    let expected = "SLURMD_DEBUG SLURMD_NODENAME SLURM_CLUSTER_NAME SLURM_CONF SLURM_CPUS_ON_NODE SLURM_DISTRIBUTION \
        SLURM_GTIDS SLURM_JOBID SLURM_JOB_ACCOUNT SLURM_JOB_CPUS_PER_NODE SLURM_JOB_END_TIME SLURM_JOB_EXCLUSIVE \
        SLURM_JOB_GID SLURM_JOB_GROUP SLURM_JOB_ID SLURM_JOB_NAME SLURM_JOB_NODELIST SLURM_JOB_NUM_NODES \
        SLURM_JOB_OVERSUBSCRIBE SLURM_JOB_PARTITION SLURM_JOB_QOS SLURM_JOB_SLUID SLURM_JOB_START_TIME SLURM_JOB_UID \
        SLURM_JOB_USER SLURM_LAUNCH_NODE_IPADDR SLURM_LOCALID SLURM_MEM_PER_CPU SLURM_NNODES SLURM_NODEID \
        SLURM_NODELIST SLURM_NPROCS SLURM_NTASKS SLURM_OOM_KILL_STEP SLURM_PRIO_PROCESS SLURM_PROCID \
        SLURM_SRUN_COMM_HOST SLURM_SRUN_COMM_PORT SLURM_STEPID SLURM_STEP_ID SLURM_STEP_LAUNCHER_PORT \
        SLURM_STEP_NODELIST SLURM_STEP_NUM_NODES SLURM_STEP_NUM_TASKS SLURM_STEP_TASKS_PER_NODE SLURM_SUBMIT_DIR \
        SLURM_SUBMIT_HOST SLURM_TASKS_PER_NODE SLURM_TOPOLOGY_ADDR SLURM_TOPOLOGY_ADDR_PATTERN SLURM_UMASK";
    assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_step_of_its_own_allocation_on_two_nodes() {
    let mut launch = launch();
    let request = launch.request.as_mut().unwrap();
    request.set_kind(v1::Kind::Step);
    request.name = "env".to_owned();
    launch.allocation = vec![node("c1", 4, 2), node("c2", 2, 1)];
    launch.node_list = "c[1-2]".to_owned();
    launch.step = Some(v1::StepRequest { cpus_per_task: Some(2), ..Default::default() });
    launch.step_nodes = vec![
        v1::StepNode { allocation: Some(node("c1", 4, 2)), ranks: vec![0, 1], ..Default::default() },
        v1::StepNode { allocation: Some(node("c2", 2, 1)), ranks: vec![2], ..Default::default() },
    ];
    launch.step_node_index = 1;
    let tasks = v1::TaskLaunch::default();
    let mut entries = texts(of_step(&context(), &launch, &tasks, StepId::Number(0)).into_entries());
    let wanted = [
        "NTASKS", "NPROCS", "TASKS", "CPUS", "JOB_CPUS", "NNODES", "JOB_NUM", "STEP_N", "STEP_T", "DISTR",
        "MEM", "JOB_NAME",
    ];
    entries.retain(|entry| wanted.iter().any(|name| entry.starts_with(&format!("SLURM_{name}"))));
    let expected = "SLURM_CPUS_ON_NODE=2 SLURM_CPUS_PER_TASK=2 SLURM_JOB_CPUS_PER_NODE=4,2 SLURM_JOB_NAME=env \
        SLURM_JOB_NUM_NODES=2 SLURM_NNODES=2 SLURM_NPROCS=3 SLURM_NTASKS=3 SLURM_STEP_NODELIST=c[1-2] \
        SLURM_STEP_NUM_NODES=2 SLURM_STEP_NUM_TASKS=3 SLURM_STEP_TASKS_PER_NODE=2,1 SLURM_TASKS_PER_NODE=2,1";
    assert_eq!(entries, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn each_task_gets_its_own_devices_where_that_was_asked() {
    let mut launch = launch();
    let gres = vec![v1::GresAllocation {
        name: "gpu".to_owned(),
        indices: vec![0, 1, 2, 3],
        count: 4,
        ..Default::default()
    }];
    let held = v1::NodeAllocation { gres, ..node("c1", 2, 2) };
    let four = Visible::declared(&held, false);
    launch.step_nodes =
        vec![v1::StepNode { allocation: Some(held), ranks: vec![0, 1], ..Default::default() }];
    let mut tasks = v1::TaskLaunch { arguments: vec![b"true".to_vec().into()], ..Default::default() };
    let second = |launch: &v1::Launch| {
        let key = Key { job_id: 1, step: StepId::Number(0), run: 1 };
        let script = std::path::Path::new("/s");
        let mut spec =
            compose(&with(&four), key, launch, &account(), script, StepGroups::default(), 0).unwrap();
        bind_gpus(&mut spec, launch, &four, false);
        texts(spec.tasks.remove(1).environment)
    };
    tasks.gpu_bind = Some("per_task:2".to_owned());
    launch.tasks = Some(tasks.clone());
    let own = second(&launch);
    assert!(own.contains(&"CUDA_VISIBLE_DEVICES=2,3".to_owned()), "{own:?}");
    tasks.gpu_bind = Some("map_gpu:3,1".to_owned());
    launch.tasks = Some(tasks.clone());
    assert!(second(&launch).contains(&"CUDA_VISIBLE_DEVICES=1".to_owned()));
    tasks.gpu_bind = Some("none".to_owned());
    launch.tasks = Some(tasks);
    assert!(!second(&launch).iter().any(|entry| entry.starts_with("CUDA")));
}

#[test]
fn a_login_gives_what_was_not_passed_on() {
    let mut launch = launch();
    launch.environment = b"SLURM_EXPORT_ENV=NONE\0".to_vec().into();
    let request = launch.request.as_mut().unwrap();
    request.rare = Some(v1::RareRequest { get_user_env: true, ..Default::default() });
    let entries = texts(of_batch(&context(), &launch, &account()).into_entries());
    for expected in ["HOME=/home/alice", "USER=alice", "SHELL=/bin/bash", "SLURM_EXPORT_ENV=NONE"] {
        assert!(entries.iter().any(|entry| entry == expected), "{expected}");
    }
    assert!(entries.iter().any(|entry| entry.starts_with("PATH=/usr") && entry.ends_with(":/opt/bin")));
}

#[test]
fn counts_are_folded() {
    assert_eq!(runs([8, 8, 4].into_iter()), "8(x2),4");
    assert_eq!(runs([1, 1, 1].into_iter()), "1(x3)");
    assert_eq!(runs(std::iter::empty()), "");
}

#[test]
fn shards_name_their_gpu_and_how_many_they_are() {
    let mut launch = launch();
    launch.allocation[0].gres = vec![v1::GresAllocation {
        name: "shard".to_owned(),
        count: 3,
        indices: vec![1],
        slices: vec![v1::Slice { gpu: 1, size: 3, ..v1::Slice::default() }],
        ..v1::GresAllocation::default()
    }];
    let part = Visible::declared(&launch.allocation[0], false);
    let mut entries = texts(of_batch(&with(&part), &launch, &account()).into_entries());
    entries.retain(|entry| entry.contains("GPU") || entry.contains("VISIBLE") || entry.contains("SHARD"));
    let expected = "CUDA_VISIBLE_DEVICES=1 GPU_DEVICE_ORDINAL=1 ROCR_VISIBLE_DEVICES=1 SLURM_GPUS_ON_NODE=1 \
        SLURM_JOB_GPUS=1 SLURM_SHARDS_ON_NODE=3";
    assert_eq!(entries, expected.split_whitespace().collect::<Vec<_>>());
}
