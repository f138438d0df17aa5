//! Rows of partitions, with every attribute that `scontrol show partition` prints, in its order.

use model::hostlist;
use model::quantity::MemoryMib;
use model::time::limit;
use proto::v1;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::partition::{
    OverSubscribe, Partition, PartitionDefinition, PartitionState, PreemptMode,
};

use super::tres;

/// Slurm's word for the state.
#[must_use]
pub fn state_text(state: PartitionState) -> &'static str {
    match state {
        PartitionState::Up => "UP",
        PartitionState::Down => "DOWN",
        PartitionState::Drain => "DRAIN",
        PartitionState::Inactive => "INACTIVE",
    }
}

fn oversubscribe_text(sharing: OverSubscribe) -> String {
    match sharing {
        OverSubscribe::No => "NO".to_owned(),
        OverSubscribe::Exclusive => "EXCLUSIVE".to_owned(),
        OverSubscribe::Yes(count) => format!("YES:{count}"),
        OverSubscribe::Force(count) => format!("FORCE:{count}"),
    }
}

fn preempt_text(mode: PreemptMode) -> &'static str {
    match mode {
        PreemptMode::Off => "OFF",
        PreemptMode::Requeue => "REQUEUE",
        PreemptMode::Cancel => "CANCEL",
        PreemptMode::Suspend => "SUSPEND",
    }
}

fn list_or(list: &[Box<str>], none: &str) -> String {
    if list.is_empty() { none.to_owned() } else { list.join(",") }
}

fn yes_no(flag: bool) -> &'static str {
    if flag { "YES" } else { "NO" }
}

/// The row of one partition.
#[must_use]
pub fn row(state: &State, settings: &Settings, partition: &Partition) -> v1::Partition {
    let definition = &partition.definition;
    let nodes = partition.nodes.iter().map(|idx| state.node(*idx)).filter(|node| !node.removed);
    let node_names: Vec<String> = nodes.clone().map(|node| node.definition.name.to_string()).collect();
    let total_cpus = nodes.clone().map(|node| node.definition.cpus.0).sum();
    let mut row = v1::Partition {
        name: definition.name.to_string(),
        state: state_text(definition.state).to_owned(),
        is_default: definition.is_default,
        hidden: definition.hidden,
        nodes: hostlist::compress_sorted(&node_names),
        total_nodes: node_names.len() as u32,
        node_names,
        total_cpus,
        max_time_ms: definition.max_time.map_or(-1, |time| time.0),
        default_time_ms: definition.default_time.map(|time| time.0),
        min_nodes: definition.min_nodes,
        max_nodes: definition.max_nodes,
        max_cpus_per_node: definition.max_cpus_per_node,
        priority_tier: definition.priority_tier,
        priority_job_factor: definition.priority_job_factor,
        preempt_mode: preempt_text(definition.preempt_mode).to_owned(),
        shown: Vec::new(),
        oversubscribe: oversubscribe_text(definition.oversubscribe),
        allow_groups: list_or(&definition.allow_groups, "ALL"),
        allow_accounts: list_or(&definition.allow_accounts, "ALL"),
        allow_qos: list_or(&definition.allow_qos, "ALL"),
        root_only: definition.root_only,
        disable_root_jobs: definition.disable_root_jobs,
        exclusive_user: configured(definition, "ExclusiveUser").is_some_and(|text| text == "YES"),
        grace_s: u32::try_from(definition.grace.as_secs()).unwrap_or(0),
        tres: tres::of_nodes(nodes, settings),
        def_mem_per_cpu_mib: definition.def_mem_per_cpu.map(|mib| mib.0),
        def_mem_per_node_mib: definition.def_mem_per_node.map(|mib| mib.0),
        max_mem_per_cpu_mib: definition.max_mem_per_cpu.map(|mib| mib.0),
        max_mem_per_node_mib: definition.max_mem_per_node.map(|mib| mib.0),
    };
    row.shown = shown(definition, &row);
    row
}

/// What the configuration file says of an attribute that decides nothing here.
fn configured<'a>(definition: &'a PartitionDefinition, key: &str) -> Option<&'a str> {
    definition.shown.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| &**value)
}

/// Key and value pairs in the order of `scontrol show partition`. Source: golden `scontrol/show-partition`.
fn shown(definition: &PartitionDefinition, row: &v1::Partition) -> Vec<v1::KeyValue> {
    let other = |key: &str, none: &str| configured(definition, key).unwrap_or(none).to_owned();
    let count = |value: Option<u32>| value.map_or("UNLIMITED".to_owned(), |value| value.to_string());
    let mut pairs: Vec<(&str, String)> = vec![("PartitionName", row.name.clone())];
    pairs.push(("AllowGroups", row.allow_groups.clone()));
    if definition.allow_accounts.is_empty() && !definition.deny_accounts.is_empty() {
        pairs.push(("DenyAccounts", definition.deny_accounts.join(",")));
    } else {
        pairs.push(("AllowAccounts", row.allow_accounts.clone()));
    }
    if definition.allow_qos.is_empty() && !definition.deny_qos.is_empty() {
        pairs.push(("DenyQos", definition.deny_qos.join(",")));
    } else {
        pairs.push(("AllowQos", row.allow_qos.clone()));
    }
    let time = |span| limit::long(span);
    pairs.extend([
        ("AllocNodes", other("AllocNodes", "ALL")),
        ("Default", yes_no(definition.is_default).to_owned()),
        ("QoS", other("QOS", "N/A")),
        ("DefaultTime", definition.default_time.map_or("NONE".to_owned(), |span| time(Some(span)))),
        ("DisableRootJobs", yes_no(definition.disable_root_jobs).to_owned()),
        ("Exclusive", if row.exclusive_user { "USER".to_owned() } else { "NO".to_owned() }),
        ("GraceTime", row.grace_s.to_string()),
        ("Hidden", yes_no(definition.hidden).to_owned()),
        ("MaxNodes", count(definition.max_nodes)),
        ("MaxTime", time(definition.max_time)),
        ("MinNodes", definition.min_nodes.to_string()),
        ("LLN", other("LLN", "NO")),
        ("MaxCPUsPerNode", count(definition.max_cpus_per_node)),
        ("MaxCPUsPerSocket", other("MaxCPUsPerSocket", "UNLIMITED")),
        ("Nodes", if row.nodes.is_empty() { "(null)".to_owned() } else { row.nodes.clone() }),
        ("PriorityJobFactor", definition.priority_job_factor.to_string()),
        ("PriorityTier", definition.priority_tier.to_string()),
        ("RootOnly", yes_no(definition.root_only).to_owned()),
        ("ReqResv", other("ReqResv", "NO")),
        ("OverSubscribe", row.oversubscribe.clone()),
        ("OverTimeLimit", other("OverTimeLimit", "NONE")),
        ("PreemptMode", row.preempt_mode.clone()),
        ("State", row.state.clone()),
        ("TotalCPUs", row.total_cpus.to_string()),
        ("TotalNodes", row.total_nodes.to_string()),
        ("SelectTypeParameters", other("SelectTypeParameters", "NONE")),
        ("JobDefaults", other("JobDefaults", "(null)")),
    ]);
    pairs.push(memory_pair(
        ["DefMemPerCPU", "DefMemPerNode"],
        definition.def_mem_per_cpu,
        definition.def_mem_per_node,
    ));
    pairs.push(memory_pair(
        ["MaxMemPerCPU", "MaxMemPerNode"],
        definition.max_mem_per_cpu,
        definition.max_mem_per_node,
    ));
    pairs.push(("TRES", row.tres.clone()));
    if let Some(weights) = configured(definition, "TRESBillingWeights") {
        pairs.push(("TRESBillingWeights", weights.to_owned()));
    }
    pairs.into_iter().map(|(key, value)| v1::KeyValue { key: key.to_owned(), value }).collect()
}

/// The value for each CPU where there is one, else that for each node.
fn memory_pair(
    keys: [&'static str; 2],
    per_cpu: Option<MemoryMib>,
    per_node: Option<MemoryMib>,
) -> (&'static str, String) {
    match (per_cpu, per_node) {
        (Some(mib), _) => (keys[0], mib.to_string()),
        (None, Some(mib)) => (keys[1], mib.to_string()),
        (None, None) => (keys[1], "UNLIMITED".to_owned()),
    }
}
