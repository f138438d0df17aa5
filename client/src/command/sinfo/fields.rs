//! What `sinfo -o` and `-O` can print of a group of nodes, and by which of it nodes are grouped.

use model::hostlist;
use proto::v1::{Node, Partition};

use super::super::node;
use crate::local;
use crate::table::units::elapsed;
use crate::table::{Field, field};

/// Nodes of one partition that the asked columns do not tell apart.
pub(super) struct Row {
    pub partition: Partition,
    /// Place of the partition in the configuration.
    pub partition_at: usize,
    pub nodes: Vec<Node>,
}

/// What a column does to the grouping of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// It sums up or lists: nodes that differ in it stand together.
    Sums,
    /// Nodes that differ in it stand apart.
    Splits,
    /// Nodes that differ in it stand apart only with `--exact`.
    SplitsExact,
}

/// How a letter groups.
pub(super) fn grouping(letter: char) -> Grouping {
    match letter {
        'A' | 'C' | 'D' | 'F' | 'N' | 'V' | 'i' | '\0' => Grouping::Sums,
        'c' | 'd' | 'm' | 'w' | 'X' | 'Y' | 'Z' | 'z' | 'e' | 'O' => Grouping::SplitsExact,
        _ => Grouping::Splits,
    }
}

/// Whether a letter is of the partition, so that empty partitions have a row of their own.
pub(super) fn names_partition(letter: char) -> bool {
    matches!(letter, 'P' | 'R')
}

fn first(row: &Row, value: fn(&Node) -> String, none: &str) -> String {
    row.nodes.first().map_or_else(|| none.to_owned(), value)
}

fn or(text: &str, none: &str) -> String {
    if text.is_empty() { none.to_owned() } else { text.to_owned() }
}

/// The least of a number, with `+` where some node has more.
fn least(row: &Row, number: fn(&Node) -> u64) -> String {
    let least = row.nodes.iter().map(number).min().unwrap_or(0);
    let more = row.nodes.iter().any(|node| number(node) > least);
    format!("{least}{}", if more { "+" } else { "" })
}

/// Least and most of something that not every node reports.
fn range(row: &Row, number: fn(&Node) -> Option<f64>, decimals: usize) -> String {
    let numbers: Vec<f64> = row.nodes.iter().filter_map(number).collect();
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match numbers.len() {
        0 => "N/A".to_owned(),
        _ if least < most => format!("{least:.decimals$}-{most:.decimals$}"),
        _ => format!("{least:.decimals$}"),
    }
}

/// Nodes in use, idle, neither, and all.
fn node_counts(row: &Row) -> [usize; 4] {
    let (mut used, mut idle) = (0, 0);
    for node in &row.nodes {
        match node.state.as_str() {
            _ if node.drain && !node::is_in_use(node) => {}
            _ if node::is_in_use(node) => used += 1,
            "IDLE" => idle += 1,
            _ => {}
        }
    }
    [used, idle, row.nodes.len() - used - idle, row.nodes.len()]
}

fn cpu_counts(row: &Row) -> [u32; 4] {
    let (mut used, mut idle, mut other) = (0, 0, 0);
    for node in &row.nodes {
        let free = node.cpus.saturating_sub(node.cpus_allocated);
        used += node.cpus_allocated;
        if node.drain || matches!(node.state.as_str(), "DOWN" | "UNKNOWN" | "FUTURE") {
            other += free;
        } else {
            idle += free;
        }
    }
    [used, idle, other, used + idle + other]
}

fn slashed<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join("/")
}

/// The name with `*` behind that of the default partition, which a narrow column does not cut off.
fn partition_name(row: &Row, width: usize) -> String {
    let name = &row.partition.name;
    if !row.partition.is_default {
        return name.clone();
    }
    let kept = if width > 0 && name.len() + 1 > width { width - 1 } else { name.len() };
    format!("{}*", name.get(..kept).unwrap_or(name))
}

fn minutes(ms: i64) -> String {
    if ms < 0 { "infinite".to_owned() } else { elapsed(ms / 1000) }
}

fn job_size(row: &Row) -> String {
    let least = row.partition.min_nodes.max(1);
    match row.partition.max_nodes {
        None => format!("{least}-infinite"),
        Some(most) if most > least => format!("{least}-{most}"),
        Some(most) => most.to_string(),
    }
}

fn availability(row: &Row) -> String {
    let word = match row.partition.state.as_str() {
        "UP" => "up",
        "DOWN" => "down",
        "DRAIN" => "drain",
        "INACTIVE" => "inactive",
        _ => "n/a",
    };
    word.to_owned()
}

fn all_or(text: &str) -> String {
    if text.is_empty() || text.eq_ignore_ascii_case("all") { "all".to_owned() } else { text.to_owned() }
}

fn shown(row: &Row, key: &str) -> Option<String> {
    let pair = row.partition.shown.iter().find(|pair| pair.key.eq_ignore_ascii_case(key))?;
    Some(pair.value.clone())
}

fn oversubscribe(row: &Row) -> String {
    match row.partition.oversubscribe.as_str() {
        "" | "EXCLUSIVE" => "NO".to_owned(),
        other => other.to_owned(),
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn node_list(row: &Row) -> String {
    let names: Vec<&str> = row.nodes.iter().map(|node| node.name.as_str()).collect();
    hostlist::compress_sorted(&names)
}

fn s_c_t(row: &Row) -> String {
    let parts: [fn(&Node) -> u64; 3] =
        [|n| n.sockets.into(), |n| n.cores_per_socket.into(), |n| n.threads_per_core.into()];
    parts.map(|part| least(row, part)).join(":")
}

fn reason_user(node: &Node, with_id: bool) -> String {
    match node.reason_uid.filter(|_| !node.reason.is_empty()) {
        None => "Unknown".to_owned(),
        Some(uid) if with_id => format!("{}({uid})", local::user_name(uid)),
        Some(uid) => local::user_name(uid),
    }
}

fn reason_time(node: &Node) -> String {
    match node.reason_ms.filter(|_| !node.reason.is_empty()) {
        None => "Unknown".to_owned(),
        Some(ms) => local::date(ms),
    }
}

fn node_gres(text: &str) -> String {
    or(text, "(null)")
}

/// Every column.
pub(super) static FIELDS: [Field<Row>; 50] = [
    field('\0', "allocmem", "ALLOCMEM", |row, _| least(row, |node| node.memory_allocated_mib)),
    field('S', "allocnodes", "ALLOCNODES", |row, _| all_or(&shown(row, "AllocNodes").unwrap_or_default())),
    field('a', "available", "AVAIL", |row, _| availability(row)),
    field('V', "cluster", "CLUSTER", |_, _| "N/A".to_owned()),
    field('\0', "comment", "COMMENT", |row, _| first(row, |node| or(&node.comment, "(null)"), "(null)")),
    field('Y', "cores", "CORES", |row, _| least(row, |node| node.cores_per_socket.into())),
    field('c', "cpus", "CPUS", |row, _| least(row, |node| node.cpus.into())),
    field('O', "cpusload", "CPU_LOAD", |row, _| range(row, |node| node.load, 2)),
    field('C', "cpusstate", "CPUS(A/I/O/T)", |row, _| slashed(&cpu_counts(row))),
    field('L', "defaulttime", "DEFAULTTIME", |row, _| {
        row.partition.default_time_ms.map_or_else(|| "n/a".to_owned(), minutes)
    }),
    field('d', "disk", "TMP_DISK", |row, _| least(row, |node| node.tmp_disk_mib)),
    field('\0', "extra", "EXTRA", |row, _| first(row, |node| or(&node.extra, "(null)"), "(null)")),
    field('f', "features", "AVAIL_FEATURES", |row, _| {
        first(row, |node| or(&node.features.join(","), "(null)"), "(null)")
    }),
    field('b', "features_act", "ACTIVE_FEATURES", |row, _| {
        first(row, |node| or(&node.features.join(","), "(null)"), "(null)")
    }),
    field('e', "freemem", "FREE_MEM", |row, _| {
        range(row, |node| node.memory_free_mib.map(|mib| mib as f64), 0)
    }),
    field('G', "gres", "GRES", |row, _| first(row, |node| node_gres(&node.gres), "(null)")),
    field('\0', "gresused", "GRES_USED", |row, _| first(row, |node| node_gres(&node.gres_used), "(null)")),
    field('g', "groups", "GROUPS", |row, _| all_or(&row.partition.allow_groups)),
    field('B', "maxcpuspernode", "MAX_CPUS_PER_NODE", |row, _| {
        row.partition.max_cpus_per_node.map_or_else(|| "UNLIMITED".to_owned(), |cpus| cpus.to_string())
    }),
    field('m', "memory", "MEMORY", |row, _| least(row, |node| node.memory_mib)),
    field('o', "nodeaddr", "NODE_ADDR", |row, _| first(row, |node| node.address.clone(), "n/a")),
    field('A', "nodeai", "NODES(A/I)", |row, _| slashed(&node_counts(row)[..2])),
    field('F', "nodeaiot", "NODES(A/I/O/T)", |row, _| slashed(&node_counts(row))),
    field('n', "nodehost", "HOSTNAMES", |row, _| first(row, |node| node.hostname.clone(), "n/a")),
    field('N', "nodelist", "NODELIST", |row, _| node_list(row)),
    field('D', "nodes", "NODES", |row, _| row.nodes.len().to_string()),
    field('h', "oversubscribe", "OVERSUBSCRIBE", |row, _| oversubscribe(row)),
    field('\0', "share", "OVERSUBSCRIBE", |row, _| oversubscribe(row)),
    field('P', "partition", "PARTITION", partition_name),
    field('R', "partitionname", "PARTITION", |row, _| row.partition.name.clone()),
    field('\0', "port", "PORT", |row, _| first(row, |node| node.port.to_string(), "n/a")),
    field('M', "preemptmode", "PREEMPT_MODE", |row, _| or(&row.partition.preempt_mode, "OFF")),
    field('I', "priorityjobfactor", "PRIO_JOB_FACTOR", |row, _| {
        row.partition.priority_job_factor.to_string()
    }),
    field('p', "prioritytier", "PRIO_TIER", |row, _| row.partition.priority_tier.to_string()),
    field('E', "reason", "REASON", |row, _| first(row, |node| or(&node.reason, "none"), "none")),
    field('i', "reservation", "RESERVATION", |_, _| String::new()),
    field('r', "root", "ROOT", |row, _| yes(row.partition.root_only)),
    field('s', "size", "JOB_SIZE", |row, _| job_size(row)),
    field('z', "socketcorethread", "S:C:T", |row, _| s_c_t(row)),
    field('X', "sockets", "SOCKETS", |row, _| least(row, |node| node.sockets.into())),
    field('t', "statecompact", "STATE", |row, _| first(row, node::compact, "n/a")),
    field('\0', "statecomplete", "STATECOMPLETE", |row, _| {
        first(row, |node| node::flags(node, "+").to_ascii_lowercase(), "n/a")
    }),
    field('T', "statelong", "STATE", |row, _| first(row, node::long, "n/a")),
    field('Z', "threads", "THREADS", |row, _| least(row, |node| node.threads_per_core.into())),
    field('l', "time", "TIMELIMIT", |row, _| minutes(row.partition.max_time_ms)),
    field('H', "timestamp", "TIMESTAMP", |row, _| first(row, reason_time, "Unknown")),
    field('u', "user", "USER", |row, _| first(row, |node| reason_user(node, false), "Unknown")),
    field('U', "userlong", "USER", |row, _| first(row, |node| reason_user(node, true), "Unknown")),
    field('v', "version", "VERSION", |row, _| first(row, |node| node.version.clone(), "n/a")),
    field('w', "weight", "WEIGHT", |row, _| least(row, |node| node.weight.into())),
];
