//! `model::config` → [`Settings`]: what decisions need of slurm.conf, gres.conf and sluice.conf.
//!
//! The daemon and the simulator read the same files by this. Knows no user names and no machine: who
//! administrates is added by the caller.

use model::config::gres::{GresConf, GresLine};
use model::config::own::{OwnConf, RunTimes};
use model::config::{
    self, EnforcePartLimits, MemoryLimit, NodeConf, NodeStateConf, Oversubscribe, PartitionConf,
    SelectResource, SelectType, SlurmConf,
};
use model::gres::GresRequest;
use model::quantity::MemoryMib;
use model::time::Span;

use super::{DeviceFacts, Enforce, Hooks, KeptCores, PriorityRules, PriorityWeights, Settings};
use crate::plan::policy::Prediction;
use crate::state::node::{GresDefinition, NodeDefinition};
use crate::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};

/// So many devices of one line of gres.conf may lie somewhere.
const DEVICES_MAX: usize = 1024;

/// What the files say: the cluster, its nodes (without those of the future) and its partitions.
#[must_use]
pub fn settings(conf: &SlurmConf, gres: &GresConf) -> Settings {
    let mut settings = common(conf);
    let present = conf.nodes.iter().filter(|node| node.state != NodeStateConf::Future);
    settings.nodes = present.map(|node| node_definition(conf, node, gres)).collect();
    settings.devices = conf.nodes.iter().flat_map(|node| device_facts(node, gres)).collect();
    settings.devices.sort_by(|one, other| one.node.cmp(&other.node));
    settings.kept_cores = kept_cores(conf);
    settings.partitions =
        conf.partitions.iter().map(|partition| partition_definition(conf, partition)).collect();
    settings
}

/// Everything but nodes and partitions.
#[must_use]
pub fn common(conf: &SlurmConf) -> Settings {
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
    let flag = |name: &str| priority.flags.iter().any(|flag| **flag == *name);
    settings.priority_rules = PriorityRules {
        favor_small: priority.favor_small,
        relative_to_time: flag("SMALL_RELATIVE_TO_TIME"),
        accrue_always: flag("ACCRUE_ALWAYS"),
        increase_only: flag("INCR_ONLY"),
        raw_assoc: flag("NO_NORMAL_ALL") || flag("NO_NORMAL_ASSOC"),
        raw_partition: flag("NO_NORMAL_ALL") || flag("NO_NORMAL_PART"),
        raw_qos: flag("NO_NORMAL_ALL") || flag("NO_NORMAL_QOS"),
        raw_tres: flag("NO_NORMAL_ALL") || flag("NO_NORMAL_TRES"),
    };
    settings.tres_weights = priority.weight_tres.clone();
    settings.priority_calc_period = priority.calc_period;
    settings.priority_max_age = priority.max_age;
    settings.multifactor = priority.multifactor;
    settings.node_timeout = if conf.slurmd_timeout == Span::ZERO { Span::MAX } else { conf.slurmd_timeout };
    settings.return_to_service = conf.return_to_service;
    settings.config_overrides = conf.config_overrides;
    settings.enforce_partition_limits = conf.enforce_part_limits != EnforcePartLimits::No;
    settings.kill_invalid_dependency = conf.kill_invalid_depend;
    settings.whole_cores = matches!(conf.select_resource, SelectResource::Core | SelectResource::Socket);
    settings.track_memory = conf.select_memory;
    settings.tres = conf.accounting_tres.clone();
    if let Some(depth) = conf.scheduler_number("bf_max_job_test") {
        settings.backfill_depth = u32::try_from(depth).unwrap_or(u32::MAX);
    }
    if let Some(seconds) = conf.scheduler_number("max_switch_wait") {
        settings.switch_wait_max = Span::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 1000));
    }
    if let Some(most) = conf.scheduler_number("max_array_tasks") {
        settings.max_array_tasks = u32::try_from(most).unwrap_or(u32::MAX);
    }
    settings.kill_invalid_dependency |= conf.scheduler_parameters.contains_key("kill_invalid_depend");
    let option = |name: &str| conf.select_options.iter().any(|option| **option == *name);
    settings.block_cores = option("CR_CORE_DEFAULT_DIST_BLOCK");
    settings.shards_of_several = option("MULTIPLE_SHARING_GRES_PJ");
    settings.one_task_per_sharing = option("ONE_TASK_PER_SHARING_GRES");
    settings.enforce_binding = option("ENFORCE_BINDING_GRES");
    settings.one_task_per_core = option("CR_ONE_TASK_PER_CORE");
    settings.pack_nodes = option("CR_PACK_NODES");
    settings.least_loaded = option("CR_LLN");
    if !conf.backfill {
        settings.backfill_depth = 0;
    }
    settings.hooks = hooks(conf);
    settings
}

/// What sluice.conf says of run times.
#[must_use]
pub fn prediction(own: &OwnConf) -> Prediction {
    match own.run_times {
        RunTimes::Limits => Prediction::None,
        RunTimes::Avg2 => Prediction::Avg2,
    }
}

/// Contain implies Alloc. Source: `man slurm.conf`, PrologFlags.
fn hooks(conf: &SlurmConf) -> Hooks {
    let programs = &conf.programs;
    let flag = |name: &str| programs.prolog_flags.iter().any(|flag| **flag == *name);
    let contain = flag("contain");
    Hooks {
        controller_prolog: programs.prolog_slurmctld.is_some(),
        controller_epilog: programs.epilog_slurmctld.is_some(),
        nodes: programs.prolog.is_some() || programs.epilog.is_some(),
        allocation: programs.prolog.is_some() && (contain || flag("alloc") || flag("deferbatch")),
        contain,
        defer_batch: flag("deferbatch"),
        hold_failed: !conf.scheduler_parameters.contains_key("nohold_on_prolog_fail"),
    }
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

fn kept_cores(conf: &SlurmConf) -> Vec<KeptCores> {
    let some = conf.nodes.iter().filter(|node| node.restricted_cores_per_gpu > 0);
    let mut kept: Vec<KeptCores> = some
        .map(|node| KeptCores { node: node.name.clone(), per_gpu: node.restricted_cores_per_gpu })
        .collect();
    kept.sort_by(|one, other| one.node.cmp(&other.node));
    kept
}

/// Where the node's devices lie; empty where no line says it.
fn device_facts(node: &NodeConf, gres: &GresConf) -> Vec<DeviceFacts> {
    let lines = || gres.lines.iter().filter(|line| line.concerns(&node.name));
    if lines().all(|line| line.core_ranges.is_empty() && line.link_counts.is_empty()) {
        return Vec::new();
    }
    let facts = |line: &GresLine| DeviceFacts {
        node: node.name.clone(),
        name: line.name.clone(),
        kind: line.kind.clone().unwrap_or_default(),
        cores: line.core_ranges.clone(),
        links: line.link_counts.clone(),
    };
    let of = |line: &GresLine| {
        let count = usize::try_from(line.count).unwrap_or(usize::MAX).min(DEVICES_MAX);
        std::iter::repeat_n(facts(line), count)
    };
    lines().filter(|line| !line.name.is_empty() && &*line.name != "shard").flat_map(of).collect()
}

/// A resource with device files has an index for each; GPUs always do. Shards are parts of GPUs, and only counted.
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
        indexed: (has_files && &*request.name != "shard") || request.is_gpu(),
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
