//! Figures under the names that Slurm 26.05's own metrics have: `/metrics/jobs`, `/metrics/nodes`, `/metrics/partitions`.
//!
//! Counted at the moment of the question from what queries see. No figure of a user or an account is among them.
//! Source: Slurm's guide to metrics; what it counts and Sluice has no such state for is left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use proto::v1;
use scheduler_core::state::job::Hold;

use super::{Api, query};

/// Slurm's words for states of jobs in metrics, and ours.
const JOB_STATES: [(&str, &str); 15] = [
    ("bootfail", "BOOT_FAIL"),
    ("cancelled", "CANCELLED"),
    ("completed", "COMPLETED"),
    ("completing", "COMPLETING"),
    ("configuring", "CONFIGURING"),
    ("deadline", "DEADLINE"),
    ("failed", "FAILED"),
    ("node_failed", "NODE_FAIL"),
    ("outofmemory", "OUT_OF_MEMORY"),
    ("pending", "PENDING"),
    ("preempted", "PREEMPTED"),
    ("requeued", "REQUEUED"),
    ("running", "RUNNING"),
    ("suspended", "SUSPENDED"),
    ("timeout", "TIMEOUT"),
];

/// The text of one path below `/metrics/`; `None` where there is no such path.
#[must_use]
pub fn text(api: &Api, path: &str) -> Option<String> {
    let mut out = String::with_capacity(4096);
    match path {
        "jobs" => jobs(api, &mut out),
        "nodes" => nodes(&rows(api), &mut out),
        "partitions" => partitions(api, &rows(api), &mut out),
        _ => return None,
    }
    Some(out)
}

/// All of them.
#[must_use]
pub fn all(api: &Api) -> String {
    let mut out = String::with_capacity(8192);
    let rows = rows(api);
    jobs(api, &mut out);
    nodes(&rows, &mut out);
    partitions(api, &rows, &mut out);
    out
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, help);
    let _ = writeln!(out, "{name} {value}");
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn rows(api: &Api) -> Vec<v1::Node> {
    let pages = query::nodes(api, v1::ListNodesRequest::default());
    pages.into_iter().flat_map(|page| page.nodes).collect()
}

/// Cost: O(jobs in memory) under one read lock.
fn jobs(api: &Api, out: &mut String) {
    let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut held, mut cpus, mut nodes, mut memory_mib) = (0, 0, 0, 0);
    let total = {
        let view = api.views.read();
        for job in view.state.jobs.values() {
            *by_state.entry(job.state().long()).or_insert(0) += 1;
            held += u64::from(job.pending().is_some() && job.hold != Hold::None);
            let Some(active) = job.active() else { continue };
            nodes += active.allocation.len() as u64;
            cpus += active.allocation.iter().map(|share| u64::from(share.cpus.0)).sum::<u64>();
            memory_mib += active.allocation.iter().map(|share| share.memory.0).sum::<u64>();
        }
        view.state.jobs.len() as u64
    };
    gauge(out, "slurm_jobs", "Jobs in memory.", total);
    for (word, state) in JOB_STATES {
        let count = by_state.get(state).copied().unwrap_or(0);
        gauge(out, &format!("slurm_jobs_{word}"), &format!("Jobs in state {state}."), count);
    }
    gauge(out, "slurm_jobs_hold", "Jobs that are held.", held);
    gauge(out, "slurm_jobs_cpus_alloc", "CPUs that jobs hold.", cpus);
    gauge(out, "slurm_jobs_nodes_alloc", "Nodes that jobs hold, counted for each job.", nodes);
    gauge(out, "slurm_jobs_memory_alloc", "Memory that jobs hold, MiB.", memory_mib);
}

fn nodes(rows: &[v1::Node], out: &mut String) {
    let count = |wanted: &dyn Fn(&v1::Node) -> bool| rows.iter().filter(|row| wanted(row)).count() as u64;
    let busy = |row: &v1::Node| row.cpus_allocated > 0 || row.completing;
    gauge(out, "slurm_nodes", "Nodes.", rows.len() as u64);
    for (word, state) in [
        ("alloc", "ALLOCATED"),
        ("down", "DOWN"),
        ("future", "FUTURE"),
        ("idle", "IDLE"),
        ("mixed", "MIXED"),
        ("unknown", "UNKNOWN"),
    ] {
        let number = count(&|row| row.state == state);
        gauge(out, &format!("slurm_nodes_{word}"), &format!("Nodes in state {state}."), number);
    }
    let number = count(&|row| row.completing);
    gauge(out, "slurm_nodes_completing", "Nodes with jobs that are ending.", number);
    gauge(out, "slurm_nodes_drain", "Nodes that take no new jobs.", count(&|row| row.drain));
    let number = count(&|row| row.drain && !busy(row));
    gauge(out, "slurm_nodes_drained", "Nodes that take no new jobs and have none.", number);
    let number = count(&|row| row.drain && busy(row));
    gauge(out, "slurm_nodes_draining", "Nodes that take no new jobs and still have some.", number);
    gauge(out, "slurm_nodes_fail", "Nodes marked as failing.", count(&|row| row.fail));
    gauge(out, "slurm_nodes_maint", "Nodes in maintenance.", count(&|row| row.maintenance));
    gauge(out, "slurm_nodes_noresp", "Nodes that do not answer.", count(&|row| row.not_responding));
    gauge(out, "slurm_nodes_planned", "Nodes kept for a planned start.", count(&|row| row.planned));
    gauge(out, "slurm_nodes_resv", "Nodes in a reservation.", count(&|row| row.reserved));
    for (name, help, value) in [
        (
            "slurm_node_cpus",
            "CPUs of the node.",
            &(|row: &v1::Node| u64::from(row.cpus)) as &dyn Fn(&v1::Node) -> u64,
        ),
        ("slurm_node_cpus_alloc", "CPUs of the node that jobs hold.", &|row| u64::from(row.cpus_allocated)),
        ("slurm_node_memory_bytes", "Memory of the node.", &|row| row.memory_mib << 20),
        ("slurm_node_memory_alloc_bytes", "Memory of the node that jobs hold.", &|row| {
            row.memory_allocated_mib << 20
        }),
    ] {
        head(out, name, help);
        for row in rows {
            let _ = writeln!(out, "{name}{{node=\"{}\"}} {}", escaped(&row.name), value(row));
        }
    }
}

fn partitions(api: &Api, rows: &[v1::Node], out: &mut String) {
    // Waiting and running jobs by partition: a job that waits for several counts in each.
    let mut jobs: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut names = Vec::new();
    {
        let view = api.views.read();
        let name = |idx: &model::id::PartitionIdx| {
            view.state.partition(*idx).map(|partition| partition.definition.name.to_string())
        };
        names.extend(
            view.state.partitions.iter().flatten().map(|partition| partition.definition.name.to_string()),
        );
        for key in &view.state.index.queue {
            let waiting = view.state.job(key.job).map(|job| job.partitions.clone()).unwrap_or_default();
            waiting.iter().filter_map(name).for_each(|name| jobs.entry(name).or_default().0 += 1);
        }
        for id in &view.state.index.running {
            let active = view.state.job(*id).and_then(|job| job.active());
            if let Some(name) = active.and_then(|active| name(&active.partition)) {
                jobs.entry(name).or_default().1 += 1;
            }
        }
    }
    gauge(out, "slurm_partitions", "Partitions.", names.len() as u64);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&str) -> u64| {
        head(out, name, help);
        for partition in &names {
            let _ = writeln!(out, "{name}{{partition=\"{}\"}} {}", escaped(partition), value(partition));
        }
    };
    each("slurm_partition_nodes", "Nodes of the partition.", &|name| members(rows, name).len() as u64);
    each("slurm_partition_cpus", "CPUs of the partition's nodes.", &|name| {
        members(rows, name).iter().map(|row| u64::from(row.cpus)).sum()
    });
    each("slurm_partition_nodes_cpus_alloc", "CPUs of the partition's nodes that jobs hold.", &|name| {
        members(rows, name).iter().map(|row| u64::from(row.cpus_allocated)).sum()
    });
    let of = |name: &str| jobs.get(name).copied().unwrap_or_default();
    each("slurm_partition_jobs_pending", "Jobs that wait for the partition.", &|name| of(name).0);
    each("slurm_partition_jobs_running", "Jobs that hold nodes of the partition.", &|name| of(name).1);
}

/// The nodes of a partition.
fn members<'a>(rows: &'a [v1::Node], partition: &str) -> Vec<&'a v1::Node> {
    rows.iter().filter(|row| row.partitions.iter().any(|name| name == partition)).collect()
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
