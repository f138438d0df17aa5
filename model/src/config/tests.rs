//! Whole files, as they are found at sites.

use super::*;
use crate::quantity::{Cpus, MemoryMib};
use crate::time::Span;
use std::path::Path;

/// The configuration of the cluster that the conformance goldens were recorded on.
const REFERENCE: &str = include_str!("reference.conf");

fn parse(text: &str) -> Result<SlurmConf, Vec<String>> {
    let mut read = |_: &Path| Err("no includes here".to_owned());
    SlurmConf::parse(text, Path::new("slurm.conf"), &mut read)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_reference_cluster() {
    let conf = parse(REFERENCE).unwrap();
    assert_eq!(&*conf.cluster_name, "conf");
    assert_eq!(&*conf.slurmctld_hosts[0].name, "ctl");
    assert_eq!(conf.slurmctld_ports, (17817, 17817));
    assert_eq!(conf.requeue_delay, Span::from_secs(10));
    assert_eq!(conf.kill_wait, Span::from_secs(2));
    assert_eq!((conf.first_job_id, conf.max_array_size), (100_001, 1001));
    assert_eq!(conf.default_memory, Some(MemoryLimit::PerCpu(MemoryMib(500))));
    assert_eq!(conf.licenses, [("matlab".into(), 4), ("ansys".into(), 2)]);
    assert_eq!((conf.preempt_type, conf.preempt_mode), (PreemptType::Partition, PreemptMode::Requeue));
    assert_eq!((conf.select_resource, conf.select_memory), (SelectResource::Core, true));
    assert_eq!(conf.scheduler_number("bf_interval"), Some(1));
    assert!(conf.enforce.associations && conf.enforce.limits && conf.enforce.qos && !conf.enforce.safe);
    assert!(conf.config_overrides && conf.over_memory_kill && conf.backfill && conf.accounting);
    assert_eq!(conf.priority.weight_qos, 10_000);
    assert_eq!(conf.priority.max_age, Span::from_mins(7 * 1440));

    let names: Vec<&str> = conf.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["c1", "c2", "c3", "c4", "g1", "g2", "h1"]);
    assert_eq!((conf.nodes[0].cpus, conf.nodes[0].sockets, conf.nodes[0].port), (Cpus(8), 2, Some(17821)));
    assert_eq!(conf.nodes[4].gres[0].to_string(), "gpu:a100:4");
    assert_eq!(conf.nodes[6].threads_per_core, 2);
    assert_eq!(conf.nodes[0].features, ["intel".into(), "ib".into()]);
    assert_eq!(conf.spool_dir_of(&conf.nodes[0]), "/var/spool/slurmd/c1");

    let names: Vec<&str> = conf.partitions.iter().map(|partition| &*partition.name).collect();
    let expected = "debug batch gpu smt low kill small excl chem closed inact drain secret";
    assert_eq!(names.join(" "), expected);
    let find = |name: &str| conf.partitions.iter().find(|partition| &*partition.name == name).unwrap();
    assert!(find("debug").default && find("debug").max_time == Some(Span::from_mins(10)));
    assert_eq!(find("batch").default_time, Some(Some(Span::from_mins(60))));
    assert_eq!(find("gpu").max_time, None);
    assert_eq!(find("low").preempt_mode, Some(PreemptMode::Requeue));
    assert_eq!(find("kill").preempt_mode, Some(PreemptMode::Cancel));
    assert_eq!(find("small").max_nodes, Some(1));
    assert_eq!(find("excl").oversubscribe, Oversubscribe::Exclusive);
    assert_eq!(find("chem").allow_accounts, Some(vec!["chem".into()]));
    assert_eq!(find("closed").state, PartitionState::Down);
    assert_eq!(find("drain").state, PartitionState::Drain);
    assert!(find("secret").hidden);
    assert_eq!(find("debug").nodes.len(), 4);
    // What its jobs do without; each goes when it is built (keys.rs).
    let told: Vec<String> = conf.notices.iter().map(ToString::to_string).collect();
    let without = ["PreemptType=", "JobAcctGatherParams=", "bf_interval", "sched_interval"];
    assert_eq!(told.len(), without.len(), "{told:?}");
    for word in without {
        let is_told = |line: &&String| {
            line.contains(word) && (line.contains("is not supported") || line.contains("no meaning here"))
        };
        assert!(told.iter().any(|line| is_told(&line)), "{word}: {told:?}");
    }
}

#[test]
fn shown_as_scontrol_does() {
    let conf = parse(REFERENCE).unwrap();
    let shown = conf.shown();
    let find = |name: &str| shown.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    for (key, value) in [
        ("AccountingStorageEnforce", "associations,limits,qos"),
        ("ClusterName", "conf"),
        ("DefMemPerCPU", "500"),
        ("FirstJobId", "100001"),
        ("GresTypes", "gpu"),
        ("JobRequeue", "1"),
        ("KillWait", "2 sec"),
        ("Licenses", "matlab:4,ansys:2"),
        ("MaxArraySize", "1001"),
        ("MinJobAge", "300 sec"),
        ("PreemptMode", "REQUEUE"),
        ("PreemptType", "preempt/partition_prio"),
        ("PriorityType", "priority/multifactor"),
        ("ReturnToService", "2"),
        ("SchedulerType", "sched/backfill"),
        ("SelectType", "select/cons_tres"),
        ("SelectTypeParameters", "CR_CORE_MEMORY"),
        ("TaskPlugin", "(null)"),
        ("TaskPluginParam", "(null type)"),
        ("PriorityMaxAge", "7-00:00:00"),
        ("SlurmctldHost[0]", "ctl"),
    ] {
        assert_eq!(find(key), Some(value), "{key}");
    }
}

#[test]
fn defaults_and_parallel_lists() {
    let conf = parse(
        "ClusterName=Big SlurmctldHost=a(10.0.0.1)\nSlurmctldHost=b\n\
         NodeName=DEFAULT CPUs=16 RealMemory=64000 State=UNKNOWN\n\
         nodename=n[01-03] NodeAddr=10.0.0.[1-3] NodeHostname=host[1-3] Port=[7001-7003]\n\
         NodeName=m[1-2] Feature=big Weight=9 State=DRAIN Reason=\"bad fan\"\n\
         NodeSet=bigs Feature=big\nDownNodes=n02 Reason=gone\n\
         PartitionName=DEFAULT MaxTime=2-0 State=UP\n\
         PartitionName=all Nodes=ALL Default=YES OverSubscribe=FORCE:2\n\
         PartitionName=big Nodes=bigs,n01 MaxTime=60 Shared=YES\n",
    )
    .unwrap();
    assert_eq!((&*conf.cluster_name, conf.slurmctld_hosts.len()), ("big", 2));
    assert_eq!(&*conf.slurmctld_hosts[0].addr, "10.0.0.1");
    assert_eq!(conf.nodes.len(), 5);
    let third = &conf.nodes[2];
    assert_eq!((&*third.addr, &*third.hostname, third.port), ("10.0.0.3", "host3", Some(7003)));
    assert_eq!((third.cpus, third.sockets, third.real_memory), (Cpus(16), 16, MemoryMib(64000)));
    assert_eq!((conf.nodes[1].state, conf.nodes[1].reason.as_deref()), (NodeStateConf::Down, Some("gone")));
    assert_eq!((conf.nodes[4].state, conf.nodes[4].weight), (NodeStateConf::Drain, 9));
    assert_eq!(conf.partitions[0].nodes.len(), 5);
    assert_eq!(conf.partitions[0].oversubscribe, Oversubscribe::Force(2));
    assert_eq!(conf.partitions[0].max_time, Some(Span::from_mins(2880)));
    assert_eq!(conf.partitions[1].nodes, ["m1".into(), "m2".into(), "n01".into()]);
    assert_eq!(conf.partitions[1].oversubscribe, Oversubscribe::Yes(4));
}

#[test]
fn errors_name_their_line() {
    let head = "ClusterName=x\nNodeName=n1\n";
    for (text, message) in [
        ("Foo=1", "slurm.conf:3: unrecognized key: Foo"),
        ("KillWait=abc", "slurm.conf:3: invalid value \"abc\" for KillWait: it takes a number of seconds"),
        (
            "KillWait=99999999999",
            "slurm.conf:3: invalid value \"99999999999\" for KillWait: not a number of seconds",
        ),
        (
            "ReturnToService=3",
            "slurm.conf:3: invalid value \"3\" for ReturnToService: it takes one of 0, 1, 2",
        ),
        ("NodeName=n1", "slurm.conf:3: node n1 is given twice"),
        ("NodeName=n2 Foo=1", "slurm.conf:3: unrecognized key: Foo"),
        (
            "NodeName=n[2-1]",
            "slurm.conf:3: invalid value \"n[2-1]\" for NodeName: _parse_single_range: Invalid range: `2-1'",
        ),
        ("NodeName=n[2-4] NodeAddr=a[1-2]", "slurm.conf:3: NodeAddr names 2 for 3 nodes"),
        ("NodeName=n2 State=NICE", "slurm.conf:3: invalid value \"NICE\" for State"),
        ("PartitionName=p Nodes=n9", "slurm.conf:3: partition p: there is no node n9"),
        (
            "PartitionName=p State=SIDEWAYS",
            "slurm.conf:3: invalid value \"SIDEWAYS\" for State: not UP, DOWN, DRAIN or INACTIVE",
        ),
        ("PartitionName=p Nodes=n1\nPartitionName=p", "slurm.conf:4: partition p is given twice"),
        (
            "DefMemPerCPU=1\nDefMemPerNode=2",
            "slurm.conf:4: invalid value \"2\" for DefMemPerNode: DefMemPerCPU is given too, and they are mutually exclusive",
        ),
        (
            "MaxArraySize=5000000",
            "slurm.conf:3: invalid value \"5000000\" for MaxArraySize: more than 4000001",
        ),
        (
            "AuthInfo=cred_expire=x",
            "slurm.conf:3: invalid value \"cred_expire=x\" for AuthInfo: cred_expire is not a number of seconds",
        ),
        ("Licenses=a:b", "slurm.conf:3: invalid value \"a:b\" for Licenses: not a list of name:count"),
    ] {
        assert_eq!(parse(&format!("{head}{text}\n")).err(), Some(vec![message.to_owned()]), "{text}");
    }
    assert_eq!(
        parse("NodeName=n1").err(),
        Some(vec!["slurm.conf:1: ClusterName needs to be specified".to_owned()])
    );
}

#[test]
fn what_is_not_supported_is_reported() {
    let conf = parse(
        "ClusterName=x\nNodeName=n1\nJobSubmitPlugins=lua\nJobCompType=jobcomp/none\nSwitchType=switch/hpe_slingshot\n\
         KillWait=1\nKillWait=5\nPartitionName=p Nodes=n1 Alternate=q\n",
    )
    .unwrap();
    let notices: Vec<String> = conf.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [
            "slurm.conf:3: JobSubmitPlugins=lua is not supported; it would have given site plugins that rewrite or refuse submissions",
            "slurm.conf:5: SwitchType=switch/hpe_slingshot is not supported; it would have given set-up of a special network",
            "slurm.conf:7: KillWait is given more than once; this value is used",
            "slurm.conf:8: Alternate=q is not supported; it would have given another partition for jobs when this one is down",
        ]
    );
    assert_eq!(conf.kill_wait, Span::from_secs(5));
}

#[test]
fn without_files() {
    let conf = SlurmConf::without_files("box", Cpus(4), MemoryMib(8000));
    assert_eq!((&*conf.cluster_name, conf.return_to_service), ("sluice", 2));
    assert_eq!(conf.default_memory, Some(MemoryLimit::PerCpu(MemoryMib(2000))));
    let partition = &conf.partitions[0];
    assert_eq!((&*partition.name, partition.default, partition.max_time), ("main", true, None));
    assert_eq!(partition.default_time, Some(Some(Span::from_mins(60))));
    assert_eq!(partition.nodes, ["box".into()]);
    assert_eq!(conf.nodes[0].cpus, Cpus(4));
    fn is_send<T: Send + Sync>(_: &T) {}
    is_send(&conf);
}

#[test]
fn node_shapes() {
    let shape = |text: &str| match parse(&format!("ClusterName=x\nNodeName=n {text}\n")) {
        Ok(conf) => {
            let node = &conf.nodes[0];
            format!("{}:{}:{}:{}", node.cpus, node.sockets, node.cores_per_socket, node.threads_per_core)
        }
        Err(_) => "refused".to_owned(),
    };
    for (text, expected) in [
        ("", "1:1:1:1"),
        ("CPUs=8", "8:8:1:1"),
        ("Procs=8", "8:8:1:1"),
        ("Sockets=2 CoresPerSocket=4 ThreadsPerCore=2", "16:2:4:2"),
        ("CPUs=8 Sockets=2 CoresPerSocket=4 ThreadsPerCore=2", "8:2:4:2"),
        ("CPUs=16 CoresPerSocket=4 ThreadsPerCore=2", "16:2:4:2"),
        ("Boards=2 SocketsPerBoard=2 CoresPerSocket=4", "16:4:4:1"),
        ("CPUs=7 Sockets=2 CoresPerSocket=4", "refused"),
        ("CPUs=x", "refused"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

/// The table against slurm.conf(5): a real key never stops the start.
#[test]
fn every_key_of_the_manual_is_known() {
    let mut seen = 0;
    for line in include_str!("manual-keys.txt").lines().filter(|line| !line.starts_with('#')) {
        let (version, names) = line.split_once(' ').unwrap();
        for name in names.split(' ') {
            assert!(keys::find(name).is_some(), "{version}: {name}");
            seen += 1;
        }
    }
    assert!(seen > 400, "only {seen} keys were read");
    parse("ClusterName=c\nSlurmctldHost=h\nPowerAction=p Program=/bin/true\nFrontendName=f\nNodeName=n1 SuspendTime=5\nPartitionName=p Nodes=n1\n").unwrap();
}

/// cons_res is gone from Slurm; its files mean cons_tres, and are told so.
#[test]
fn cons_res_is_read_as_cons_tres() {
    let conf = parse(
        "ClusterName=c\nSlurmctldHost=h\nSelectType=select/cons_res\nNodeName=n1\nPartitionName=p Nodes=n1\n",
    )
    .unwrap();
    let notices: Vec<String> = conf.notices.iter().map(ToString::to_string).collect();
    assert!(notices.iter().any(|line| line.contains("is read as select/cons_tres")), "{notices:?}");
}
