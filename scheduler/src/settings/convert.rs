//! `model::config` → the core's settings, and the configuration of a machine without files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::config::gres::GresConf;
use model::config::{
    self, EnforcePartLimits, MemoryLimit, NodeConf, NodeStateConf, Oversubscribe, PartitionConf,
    SelectResource, SelectType, SlurmConf,
};
use model::gres::GresRequest;
use model::id::Uid;
use model::quantity::MemoryMib;
use model::time::Span;
use nix::unistd::User;
use scheduler_core::settings::{Enforce, PriorityWeights, Settings};
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};

use super::Loaded;

/// The partition of a machine without files.
pub const MAIN: &str = "main";

/// What is in force where there is no file: nodes come as they register, one partition holds them all.
#[must_use]
pub fn without_files() -> Loaded {
    let conf = SlurmConf::without_files(
        &crate::rpc::diagnostics::host(),
        super::dynamic::cpus_here(),
        super::dynamic::memory_here(),
    );
    let mut settings = common(&conf);
    settings.dynamic_nodes = true;
    settings.track_memory = true;
    settings.whole_cores = false;
    settings.nodes = Vec::new();
    settings.partitions =
        conf.partitions.iter().map(|partition| partition_definition(&conf, partition)).collect();
    for partition in &mut settings.partitions {
        partition.nodes = Vec::new();
        partition.nodes_text = "ALL".into();
    }
    // Whoever starts the daemon for himself administrates it.
    settings.administrators.push(Uid(nix::unistd::geteuid().as_raw()));
    settings.administrators.dedup();
    Loaded {
        settings: Arc::new(settings),
        shown: conf.shown(),
        private_data: Vec::new(),
        state_save_location: None,
        notices: Vec::new(),
    }
}

/// What a file says.
///
/// # Errors
/// What cannot be honoured and must not be ignored.
pub fn loaded(conf: &SlurmConf, gres: &GresConf, path: &Path) -> Result<Loaded, Vec<String>> {
    let mut notices: Vec<String> =
        conf.notices.iter().chain(&gres.notices).map(ToString::to_string).collect();
    let mut settings = common(conf);
    settings.nodes = conf
        .nodes
        .iter()
        .filter(|node| node.state != NodeStateConf::Future)
        .map(|node| node_definition(conf, node, gres))
        .collect();
    settings.partitions =
        conf.partitions.iter().map(|partition| partition_definition(conf, partition)).collect();
    match User::from_name(&conf.slurm_user) {
        Ok(Some(user)) => settings.administrators.push(Uid(user.uid.as_raw())),
        Ok(None) | Err(_) => match conf.slurm_user.parse() {
            Ok(uid) => settings.administrators.push(Uid(uid)),
            Err(_) => notices.push(format!(
                "{}: SlurmUser={} is not a user of this machine; only root administrates",
                path.display(),
                conf.slurm_user
            )),
        },
    }
    settings.administrators.dedup();
    for node in &conf.nodes {
        if !matches!(node.state, NodeStateConf::Unknown | NodeStateConf::Future) {
            notices.push(format!(
                "{}: State= of node {} is not honoured; use scontrol update once it is up",
                node.place, node.name
            ));
        }
    }
    Ok(Loaded {
        settings: Arc::new(settings),
        shown: shown(conf),
        private_data: conf.private_data.clone(),
        state_save_location: Some(PathBuf::from(&*conf.state_save_location)),
        notices,
    })
}

/// SlurmUser is shown with its number.
fn shown(conf: &SlurmConf) -> Vec<(String, String)> {
    let mut pairs = conf.shown();
    for (key, value) in &mut pairs {
        if key == "SlurmUser"
            && let Ok(Some(user)) = User::from_name(value)
        {
            *value = format!("{value}({})", user.uid);
        }
    }
    pairs
}

/// Everything but nodes and partitions.
fn common(conf: &SlurmConf) -> Settings {
    let mut settings = Settings::named(&conf.cluster_name);
    settings.kill_wait = conf.kill_wait;
    // Zero keeps ended jobs for ever.
    settings.min_job_age = if conf.min_job_age == Span::ZERO { Span::MAX } else { conf.min_job_age };
    settings.first_job_id = conf.first_job_id;
    settings.max_job_id = conf.max_job_id;
    settings.max_job_count = conf.max_job_count;
    settings.max_array_size = conf.max_array_size;
    settings.requeue_default = conf.job_requeue;
    settings.requeue_delay = conf.requeue_delay;
    (settings.def_mem_per_cpu, settings.def_mem_per_node) = memory(conf.default_memory);
    settings.licenses = conf.licenses.iter().cloned().collect();
    settings.enforce = Enforce {
        associations: conf.enforce.associations,
        limits: conf.enforce.limits,
        qos: conf.enforce.qos,
    };
    let priority = &conf.priority;
    settings.weights = PriorityWeights {
        age: priority.weight_age,
        fairshare: priority.weight_fairshare,
        job_size: priority.weight_job_size,
        partition: priority.weight_partition,
        qos: priority.weight_qos,
        assoc: priority.weight_assoc,
    };
    settings.priority_max_age = priority.max_age;
    settings.multifactor = priority.multifactor;
    settings.node_timeout = if conf.slurmd_timeout == Span::ZERO { Span::MAX } else { conf.slurmd_timeout };
    settings.return_to_service = conf.return_to_service;
    settings.enforce_partition_limits = conf.enforce_part_limits != EnforcePartLimits::No;
    settings.kill_invalid_dependency = conf.kill_invalid_depend;
    settings.whole_cores = matches!(conf.select_resource, SelectResource::Core | SelectResource::Socket);
    settings.track_memory = conf.select_memory;
    settings.tres = conf.accounting_tres.clone();
    if let Some(depth) = conf.scheduler_number("bf_max_job_test") {
        settings.backfill_depth = u32::try_from(depth).unwrap_or(u32::MAX);
    }
    if !conf.backfill {
        settings.backfill_depth = 0;
    }
    settings
}

/// Per CPU, per node.
fn memory(limit: Option<MemoryLimit>) -> (Option<MemoryMib>, Option<MemoryMib>) {
    match limit {
        Some(MemoryLimit::PerCpu(mib)) => (Some(mib), None),
        Some(MemoryLimit::PerNode(mib)) => (None, Some(mib)),
        None => (None, None),
    }
}

fn node_definition(conf: &SlurmConf, node: &NodeConf, gres: &GresConf) -> NodeDefinition {
    NodeDefinition {
        name: node.name.clone(),
        hostname: node.hostname.clone(),
        address: node.addr.clone(),
        port: u32::from(node.port.unwrap_or(conf.slurmd_port)),
        cpus: node.cpus,
        boards: node.boards,
        sockets: node.sockets,
        cores_per_socket: node.cores_per_socket,
        threads_per_core: node.threads_per_core,
        memory: node.real_memory,
        tmp_disk: node.tmp_disk,
        features: node.features.clone(),
        gres: node.gres.iter().map(|request| gres_definition(&node.name, request, gres)).collect(),
        weight: node.weight,
        bind: true,
    }
}

/// A resource with device files has an index for each; GPUs always do.
fn gres_definition(node: &str, request: &GresRequest, gres: &GresConf) -> GresDefinition {
    let has_files = gres.lines.iter().any(|line| {
        line.name == request.name
            && line.concerns(node)
            && !(line.files.is_empty() && line.multiple_files.is_empty())
    });
    GresDefinition {
        name: request.name.clone(),
        kind: request.kind.clone().unwrap_or_default(),
        count: request.count,
        indexed: has_files || request.is_gpu(),
    }
}

/// The rules of a partition as the file gives them.
#[must_use]
pub fn partition_definition(conf: &SlurmConf, partition: &PartitionConf) -> PartitionDefinition {
    let whole_nodes = conf.select_type == SelectType::Linear;
    let oversubscribe = match partition.oversubscribe {
        Oversubscribe::No if whole_nodes => OverSubscribe::Exclusive,
        Oversubscribe::No => OverSubscribe::No,
        Oversubscribe::Yes(count) => OverSubscribe::Yes(u32::from(count)),
        Oversubscribe::Force(count) => OverSubscribe::Force(u32::from(count)),
        Oversubscribe::Exclusive => OverSubscribe::Exclusive,
    };
    let preempt_mode = match partition.preempt_mode.unwrap_or(conf.preempt_mode) {
        config::PreemptMode::Off | config::PreemptMode::Within => PreemptMode::Off,
        config::PreemptMode::Cancel => PreemptMode::Cancel,
        config::PreemptMode::Requeue => PreemptMode::Requeue,
        config::PreemptMode::Suspend => PreemptMode::Suspend,
    };
    let state = match partition.state {
        config::PartitionState::Up => PartitionState::Up,
        config::PartitionState::Down => PartitionState::Down,
        config::PartitionState::Drain => PartitionState::Drain,
        config::PartitionState::Inactive => PartitionState::Inactive,
    };
    let (def_mem_per_cpu, def_mem_per_node) = memory(partition.default_memory);
    let (max_mem_per_cpu, max_mem_per_node) = memory(partition.max_memory.or(conf.max_memory));
    let list = |list: &Option<Vec<Box<str>>>| list.clone().unwrap_or_default();
    PartitionDefinition {
        name: partition.name.clone(),
        nodes: partition.nodes.clone(),
        nodes_text: partition.nodes_text.clone(),
        is_default: partition.default,
        hidden: partition.hidden,
        state,
        max_time: partition.max_time,
        default_time: partition.default_time.flatten(),
        min_nodes: partition.min_nodes,
        max_nodes: partition.max_nodes,
        max_cpus_per_node: partition.max_cpus_per_node,
        priority_tier: u32::from(partition.priority_tier),
        priority_job_factor: u32::from(partition.priority_job_factor),
        oversubscribe,
        preempt_mode,
        grace: partition.grace_time,
        allow_accounts: list(&partition.allow_accounts),
        deny_accounts: list(&partition.deny_accounts),
        allow_groups: list(&partition.allow_groups),
        allow_qos: list(&partition.allow_qos),
        deny_qos: list(&partition.deny_qos),
        root_only: partition.root_only,
        disable_root_jobs: partition.disable_root_jobs.unwrap_or(conf.disable_root_jobs),
        def_mem_per_cpu,
        def_mem_per_node,
        max_mem_per_cpu,
        max_mem_per_node,
        shown: shown_attributes(partition),
    }
}

/// What is only shown: attributes that decide nothing here, as the file gives them.
fn shown_attributes(partition: &PartitionConf) -> Vec<(Box<str>, Box<str>)> {
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            pairs.push((key.into(), value.into()));
        }
    };
    let yes = |flag: bool| flag.then(|| "YES".to_owned());
    put("AllocNodes", partition.alloc_nodes.as_deref().map(str::to_owned));
    put("QOS", partition.qos.as_deref().map(str::to_owned));
    put("ExclusiveUser", yes(partition.exclusive_user));
    put("LLN", yes(partition.lln));
    put("ReqResv", yes(partition.req_resv));
    put("MaxCPUsPerSocket", partition.max_cpus_per_socket.map(|count| count.to_string()));
    put("OverTimeLimit", partition.over_time_limit.map(over_time_text));
    put("JobDefaults", job_defaults_text(partition));
    put("TRESBillingWeights", partition.tres_billing_weights.as_deref().map(str::to_owned));
    pairs
}

fn over_time_text(limit: Option<Span>) -> String {
    limit.map_or_else(|| "UNLIMITED".to_owned(), |span| span.as_mins().to_string())
}

fn job_defaults_text(partition: &PartitionConf) -> Option<String> {
    let defaults = &partition.job_defaults;
    let cpu = defaults.cpu_per_gpu.map(|count| format!("DefCpuPerGPU={count}"));
    let memory = defaults.mem_per_gpu.map(|mib| format!("DefMemPerGPU={mib}"));
    let texts: Vec<String> = cpu.into_iter().chain(memory).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Loaded {
        let path = Path::new("/x/slurm.conf");
        let conf = SlurmConf::parse(text, path, &mut |_| Err("no file".to_owned())).unwrap();
        loaded(&conf, &GresConf::default(), path).unwrap()
    }

    #[test]
    fn a_file_becomes_settings() {
        let loaded = read(
            "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nSelectTypeParameters=CR_Core_Memory\n\
             DefMemPerCPU=500\nKillWait=2\nPreemptMode=REQUEUE\nPreemptType=preempt/partition_prio\n\
             StateSaveLocation=/s\nGresTypes=gpu\nLicenses=matlab:4\n\
             NodeName=n[1-2] CPUs=4 RealMemory=100 Gres=gpu:a100:2\n\
             PartitionName=p Nodes=ALL Default=YES MaxTime=10 QOS=q\n\
             PartitionName=o Nodes=n1 State=DOWN PreemptMode=OFF DefaultTime=5\n",
        );
        let settings = &loaded.settings;
        assert_eq!((&*settings.cluster, settings.nodes.len()), ("c", 2));
        assert_eq!(settings.kill_wait, Span::from_secs(2));
        assert_eq!(settings.def_mem_per_cpu, Some(MemoryMib(500)));
        assert!(settings.whole_cores && settings.track_memory && !settings.dynamic_nodes);
        assert_eq!(settings.administrators, [Uid(0)]);
        let gres = &settings.nodes[0].gres[0];
        assert_eq!((&*gres.name, &*gres.kind, gres.count, gres.indexed), ("gpu", "a100", 2, true));
        let [p, o] = &settings.partitions[..] else { panic!("two partitions") };
        assert_eq!(
            (p.nodes.len(), p.preempt_mode, p.max_time),
            (2, PreemptMode::Requeue, Some(Span::from_mins(10)))
        );
        assert_eq!(p.shown, [("QOS".into(), "q".into())]);
        assert_eq!((o.state, o.preempt_mode), (PartitionState::Down, PreemptMode::Off));
        assert_eq!(loaded.state_save_location, Some(PathBuf::from("/s")));
    }

    #[test]
    fn without_files_there_is_a_main_partition() {
        let loaded = without_files();
        let [main] = &loaded.settings.partitions[..] else { panic!("one partition") };
        assert_eq!((&*main.name, main.is_default, main.max_time), (MAIN, true, None));
        assert_eq!(main.default_time, Some(Span::from_mins(60)));
        assert!(loaded.settings.dynamic_nodes && loaded.settings.def_mem_per_cpu.is_some());
    }
}
