//! `scontrol show node` and `show partition`.

use model::time::Span;
use model::time::limit;
use proto::v1::{Node, Partition};

use super::super::{job::date_or, node};
use super::show_job::Style;
use crate::local;

fn null(text: &str) -> &str {
    if text.is_empty() { "(null)" } else { text }
}

/// One node as text, its final newline included.
pub(super) fn node_text(node: &Node, style: Style) -> String {
    let features = node.features.join(",");
    let load = node.load.map_or_else(|| "N/A".to_owned(), |load| format!("{load:.2}"));
    let free = node.memory_free_mib.map_or_else(|| "N/A".to_owned(), |mib| mib.to_string());
    let mut head = format!("NodeName={}", node.name);
    if !node.architecture.is_empty() {
        head += &format!(" Arch={}", node.architecture);
    }
    let mut lines = vec![
        head + &format!(" CoresPerSocket={} ", node.cores_per_socket),
        format!(
            "CPUAlloc={} CPUEfctv={} CPUTot={} CPULoad={load}",
            node.cpus_allocated, node.cpus, node.cpus
        ),
        format!("AvailableFeatures={}", null(&features)),
        format!("ActiveFeatures={}", null(&features)),
        format!("Gres={}", null(&node.gres)),
    ];
    if style.details {
        lines.push("GresDrain=N/A".to_owned());
        lines.push(format!("GresUsed={}", null(&node.gres_used)));
    }
    let version = if node.version.is_empty() { String::new() } else { format!(" Version={}", node.version) };
    lines.push(format!(
        "NodeAddr={} NodeHostName={} Port={}{version}",
        node.address, node.hostname, node.port
    ));
    if !node.os.is_empty() {
        lines.push(format!("OS={} ", node.os));
    }
    lines.push(format!(
        "RealMemory={} AllocMem={} FreeMem={free} Sockets={} Boards={}",
        node.memory_mib,
        node.memory_allocated_mib,
        node.sockets,
        node.boards.max(1)
    ));
    if node.core_spec > 0 {
        lines.push(format!("CoreSpecCount={} MemSpecLimit={}", node.core_spec, node.memory_spec_mib));
    } else if node.memory_spec_mib > 0 {
        lines.push(format!("MemSpecLimit={}", node.memory_spec_mib));
    }
    if !node.kept_cores.is_empty() {
        lines.push(format!("RestrictedCoresPerGPU={}", node.kept_cores));
    }
    lines.push(format!(
        "State={} ThreadsPerCore={} TmpDisk={} Weight={} Owner=N/A MCS_label=N/A",
        node::flags(node, "+"),
        node.threads_per_core,
        node.tmp_disk_mib,
        node.weight
    ));
    if !node.partitions.is_empty() {
        lines.push(format!("Partitions={} ", node.partitions.join(",")));
    }
    let (boot, start) = (date_or(node.boot_ms, "None"), date_or(node.executor_start_ms, "None"));
    lines.push(format!("BootTime={boot} SlurmdStartTime={start}"));
    let busy = date_or(node.last_busy_ms, "Unknown");
    lines.push(format!("LastBusyTime={busy} ResumeAfterTime=None SuspendTime=None"));
    lines.push(format!("CfgTRES={}", node.cfg_tres));
    lines.push(format!("AllocTRES={}", node.alloc_tres));
    lines.push("CurrentWatts=0 AveWatts=0".to_owned());
    if !node.reason.is_empty() {
        let by = local::user_name(node.reason_uid.unwrap_or(0));
        lines.push(format!("Reason={} [{by}@{}]", node.reason, date_or(node.reason_ms, "Unknown")));
    }
    if !node.comment.is_empty() {
        lines.push(format!("Comment={}", node.comment));
    }
    if !node.extra.is_empty() {
        lines.push(format!("Extra={}", node.extra));
    }
    style.join(&lines)
}

fn limit_text(ms: i64) -> String {
    limit::long((ms >= 0).then_some(Span::from_millis(ms)))
}

fn yes(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

fn or_unlimited(number: Option<u32>) -> String {
    number.map_or_else(|| "UNLIMITED".to_owned(), |number| number.to_string())
}

/// One partition as text, its final newline included.
pub(super) fn partition_text(partition: &Partition, style: Style) -> String {
    let shown = |key: &str, none: &str| {
        let pair = partition.shown.iter().find(|pair| pair.key.eq_ignore_ascii_case(key));
        pair.map_or_else(|| none.to_owned(), |pair| pair.value.clone())
    };
    let all = |text: &str| if text.is_empty() { "ALL".to_owned() } else { text.to_owned() };
    let default_time = partition.default_time_ms.map_or_else(|| "NONE".to_owned(), limit_text);
    let exclusive = match partition.oversubscribe.as_str() {
        "EXCLUSIVE" => "NODE",
        _ if partition.exclusive_user => "USER",
        _ => "NO",
    };
    let oversubscribe = match partition.oversubscribe.as_str() {
        "" | "EXCLUSIVE" => "NO",
        other => other,
    };
    let preempt = if partition.preempt_mode.is_empty() { "OFF" } else { partition.preempt_mode.as_str() };
    // Who may not use it is told where nobody is said to be allowed.
    let who = |deny: &str, allow: &str, allowed: &str| match shown(deny, "") {
        denied if denied.is_empty() => format!("{allow}={}", all(allowed)),
        denied => format!("{deny}={denied}"),
    };
    let mut lines = vec![
        format!("PartitionName={}", partition.name),
        format!(
            "AllowGroups={} {} {}",
            all(&partition.allow_groups),
            who("DenyAccounts", "AllowAccounts", &partition.allow_accounts),
            who("DenyQos", "AllowQos", &partition.allow_qos)
        ),
        format!(
            "AllocNodes={} Default={} QoS={}",
            shown("AllocNodes", "ALL"),
            yes(partition.is_default),
            shown("QoS", "N/A")
        ),
        format!(
            "DefaultTime={default_time} DisableRootJobs={} Exclusive={exclusive} GraceTime={} Hidden={}",
            yes(partition.disable_root_jobs),
            partition.grace_s,
            yes(partition.hidden)
        ),
        format!(
            "MaxNodes={} MaxTime={} MinNodes={} LLN={} MaxCPUsPerNode={} MaxCPUsPerSocket={}",
            or_unlimited(partition.max_nodes),
            limit_text(partition.max_time_ms),
            partition.min_nodes,
            shown("LLN", "NO"),
            or_unlimited(partition.max_cpus_per_node),
            shown("MaxCPUsPerSocket", "UNLIMITED")
        ),
        format!("Nodes={}", null(&partition.nodes)),
        format!(
            "PriorityJobFactor={} PriorityTier={} RootOnly={} ReqResv={} OverSubscribe={oversubscribe}",
            partition.priority_job_factor,
            partition.priority_tier,
            yes(partition.root_only),
            shown("ReqResv", "NO")
        ),
        format!("OverTimeLimit={} PreemptMode={preempt}", shown("OverTimeLimit", "NONE")),
        format!(
            "State={} TotalCPUs={} TotalNodes={} SelectTypeParameters={}",
            partition.state,
            partition.total_cpus,
            partition.total_nodes,
            shown("SelectTypeParameters", "NONE")
        ),
        format!("JobDefaults={}", shown("JobDefaults", "(null)")),
        memory_line(partition),
        format!("TRES={}", partition.tres),
    ];
    let weights = shown("TRESBillingWeights", "");
    if !weights.is_empty() {
        lines.push(format!("TRESBillingWeights={weights}"));
    }
    style.join(&lines)
}

fn memory_line(partition: &Partition) -> String {
    let default = match (partition.def_mem_per_cpu_mib, partition.def_mem_per_node_mib) {
        (Some(mib), _) => format!("DefMemPerCPU={mib}"),
        (None, Some(mib)) => format!("DefMemPerNode={mib}"),
        (None, None) => "DefMemPerNode=UNLIMITED".to_owned(),
    };
    let most = match (partition.max_mem_per_cpu_mib, partition.max_mem_per_node_mib) {
        (Some(mib), _) => format!("MaxMemPerCPU={mib}"),
        (None, Some(mib)) => format!("MaxMemPerNode={mib}"),
        (None, None) => "MaxMemPerNode=UNLIMITED".to_owned(),
    };
    format!("{default} {most}")
}

/// `KEY=VALUE` pairs as one line of a configuration; those without a value are left out.
fn setting(pairs: &[(&str, String)]) -> String {
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ") + "\n"
}

/// The line of a configuration that declares a node like this one.
pub(super) fn node_setting(node: &Node) -> String {
    let other = |name: &str| if name == node.name { String::new() } else { name.to_owned() };
    setting(&[
        ("NodeName", node.name.clone()),
        ("NodeAddr", other(&node.address)),
        ("NodeHostName", other(&node.hostname)),
        ("Boards", node.boards.max(1).to_string()),
        ("SocketsPerBoard", (node.sockets / node.boards.max(1)).max(1).to_string()),
        ("CoresPerSocket", node.cores_per_socket.to_string()),
        ("ThreadsPerCore", node.threads_per_core.to_string()),
        ("RealMemory", node.memory_mib.to_string()),
        ("TmpDisk", node.tmp_disk_mib.to_string()),
        ("Weight", node.weight.to_string()),
        ("Feature", node.features.join(",")),
        ("Gres", node.gres.clone()),
    ])
}

/// The line of a configuration that declares a partition like this one.
pub(super) fn partition_setting(partition: &Partition) -> String {
    let flag = |value: bool| if value { "YES".to_owned() } else { String::new() };
    let count = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    setting(&[
        ("PartitionName", partition.name.clone()),
        ("Nodes", partition.nodes.clone()),
        ("State", partition.state.clone()),
        ("Default", flag(partition.is_default)),
        ("Hidden", flag(partition.hidden)),
        ("RootOnly", flag(partition.root_only)),
        ("DisableRootJobs", flag(partition.disable_root_jobs)),
        ("ExclusiveUser", flag(partition.exclusive_user)),
        ("OverSubscribe", partition.oversubscribe.clone()),
        ("AllowGroups", partition.allow_groups.clone()),
        ("AllowAccounts", partition.allow_accounts.clone()),
        ("AllowQos", partition.allow_qos.clone()),
        ("MaxTime", limit_text(partition.max_time_ms)),
        ("DefaultTime", partition.default_time_ms.map_or_else(String::new, limit_text)),
        ("MinNodes", partition.min_nodes.to_string()),
        ("MaxNodes", count(partition.max_nodes.map(u64::from))),
        ("MaxCPUsPerNode", count(partition.max_cpus_per_node.map(u64::from))),
        ("DefMemPerCPU", count(partition.def_mem_per_cpu_mib)),
        ("DefMemPerNode", count(partition.def_mem_per_node_mib)),
        ("MaxMemPerCPU", count(partition.max_mem_per_cpu_mib)),
        ("MaxMemPerNode", count(partition.max_mem_per_node_mib)),
        ("PriorityTier", partition.priority_tier.to_string()),
        ("PriorityJobFactor", partition.priority_job_factor.to_string()),
        ("PreemptMode", partition.preempt_mode.clone()),
        ("GraceTime", if partition.grace_s == 0 { String::new() } else { partition.grace_s.to_string() }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_tells_who_is_denied_and_its_weights() {
        let pair = |key: &str, value: &str| proto::v1::KeyValue { key: key.into(), value: value.into() };
        let partition = Partition {
            shown: vec![
                pair("DenyAccounts", "chem"),
                pair("DenyQos", "long"),
                pair("TRESBillingWeights", "cpu=1,mem=0.5G"),
            ],
            allow_accounts: "ALL".into(),
            ..Partition::default()
        };
        let text = partition_text(&partition, Style::default());
        assert!(text.contains("AllowGroups=ALL DenyAccounts=chem DenyQos=long\n"), "{text}");
        assert!(text.ends_with("\n   TRESBillingWeights=cpu=1,mem=0.5G\n\n"), "{text}");
    }

    #[test]
    fn a_partition_in_full() {
        let debug = Partition {
            name: "debug".into(),
            state: "UP".into(),
            is_default: true,
            nodes: "c[1-4]".into(),
            total_nodes: 4,
            total_cpus: 32,
            max_time_ms: 600_000,
            priority_tier: 10,
            priority_job_factor: 10,
            tres: "cpu=32,mem=32000M,node=4,billing=32".into(),
            ..Partition::default()
        };
        let expected = "PartitionName=debug
   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL
   AllocNodes=ALL Default=YES QoS=N/A
   DefaultTime=NONE DisableRootJobs=NO Exclusive=NO GraceTime=0 Hidden=NO
   MaxNodes=UNLIMITED MaxTime=00:10:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED
   Nodes=c[1-4]
   PriorityJobFactor=10 PriorityTier=10 RootOnly=NO ReqResv=NO OverSubscribe=NO
   OverTimeLimit=NONE PreemptMode=OFF
   State=UP TotalCPUs=32 TotalNodes=4 SelectTypeParameters=NONE
   JobDefaults=(null)
   DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED
   TRES=cpu=32,mem=32000M,node=4,billing=32

";
        assert_eq!(partition_text(&debug, Style::default()), expected);
    }

    #[test]
    fn a_node_in_full() {
        let c1 = Node {
            name: "c1".into(),
            hostname: "c1".into(),
            address: "127.0.0.1".into(),
            port: 17821,
            state: "IDLE".into(),
            cpus: 8,
            sockets: 2,
            cores_per_socket: 4,
            threads_per_core: 1,
            memory_mib: 8000,
            weight: 1,
            architecture: "x86_64".into(),
            features: vec!["intel".into(), "ib".into()],
            partitions: vec!["debug".into(), "batch".into()],
            cfg_tres: "cpu=8,mem=8000M,billing=8".into(),
            ..Node::default()
        };
        let expected = "NodeName=c1 Arch=x86_64 CoresPerSocket=4 
   CPUAlloc=0 CPUEfctv=8 CPUTot=8 CPULoad=N/A
   AvailableFeatures=intel,ib
   ActiveFeatures=intel,ib
   Gres=(null)
   NodeAddr=127.0.0.1 NodeHostName=c1 Port=17821
   RealMemory=8000 AllocMem=0 FreeMem=N/A Sockets=2 Boards=1
   State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Partitions=debug,batch 
   BootTime=None SlurmdStartTime=None
   LastBusyTime=Unknown ResumeAfterTime=None SuspendTime=None
   CfgTRES=cpu=8,mem=8000M,billing=8
   AllocTRES=
   CurrentWatts=0 AveWatts=0

";
        assert_eq!(node_text(&c1, Style::default()), expected);
    }
}
