//! Rows of nodes. The base state follows from what jobs hold; flags stand beside it, as in Slurm.

use std::collections::BTreeMap;

use model::id::NodeIdx;
use model::time::Span;
use proto::v1;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::node::{Link, Node};

use super::tres;

/// What executors report that is not part of the state: it changes with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Load average of one minute.
    pub load: Option<f64>,
    /// Free memory, MiB.
    pub memory_free_mib: Option<u64>,
    /// How containers are run there, or why not; empty: not known.
    pub containers: Box<str>,
    /// Of its GPUs.
    pub gpus: Vec<v1::GpuVitals>,
}

/// CPUs that suspended jobs hold, by node: Slurm counts them as free.
#[must_use]
pub fn suspended_cpus(state: &State) -> BTreeMap<NodeIdx, u32> {
    let mut held = BTreeMap::new();
    for id in &state.index.running {
        let Some(active) = state.job(*id).and_then(|job| job.active()) else { continue };
        if active.suspended_since.is_none() {
            continue;
        }
        for share in active.allocation.iter() {
            *held.entry(share.node).or_insert(0) += share.cpus.0;
        }
    }
    held
}

/// Sentences about runs on a node that a restored state does not know.
pub fn strangers(state: &State, node: NodeIdx) -> impl Iterator<Item = String> + '_ {
    let here = state.strangers.iter().filter(move |(_, at)| *at == node);
    here.map(|(run, _)| {
        format!(
            "run {} of job {}.{} was started after the backup that this state was restored from, and is left alone; \
             scancel {} ends it",
            run.run.0, run.job, run.step, run.job
        )
    })
}

/// Names of the partitions of each node, in the order of the partitions.
#[must_use]
pub fn partitions_by_node(state: &State) -> BTreeMap<NodeIdx, Vec<String>> {
    let mut names: BTreeMap<NodeIdx, Vec<String>> = BTreeMap::new();
    for partition in state.partitions.iter().flatten() {
        for node in partition.nodes.iter() {
            names.entry(*node).or_default().push(partition.definition.name.to_string());
        }
    }
    names
}

/// Slurm's word for the base state of a node of which running jobs hold `cpus`.
fn base_state(node: &Node, cpus: u32) -> &'static str {
    if node.admin.down || matches!(node.link, Link::Silent { timed_out: true, .. }) {
        return "DOWN";
    }
    // What ends is not counted: a node that only clears up is IDLE+COMPLETING. Seen in Slurm 22.05.
    let only_ends = node.used.completing > 0 && node.used.completing == node.used.jobs;
    match node.link {
        Link::Never => "UNKNOWN",
        Link::Up | Link::Silent { .. } if cpus == 0 || only_ends => "IDLE",
        Link::Up | Link::Silent { .. } if cpus >= node.definition.cpus.0 => "ALLOCATED",
        Link::Up | Link::Silent { .. } => "MIXED",
    }
}

/// The row of one node. `suspended` CPUs of it belong to suspended jobs; `resumed`: an administrator brought it
/// back and its executor has not said anything since. `wall_ahead`: the state's. Source: golden `sinfo/reasons`.
#[must_use]
pub fn row(
    node: &Node,
    settings: &Settings,
    suspended: u32,
    partitions: &[String],
    vitals: Vitals,
    resumed: bool,
    wall_ahead: Span,
) -> v1::Node {
    let definition = &node.definition;
    let observed = &node.observed;
    let cpus = node.busy_cpus().0.saturating_sub(suspended);
    v1::Node {
        name: definition.name.to_string(),
        hostname: definition.hostname.to_string(),
        address: definition.address.to_string(),
        port: definition.port,
        state: base_state(node, cpus).to_owned(),
        drain: node.admin.drain,
        not_responding: node.link != Link::Up || node.admin.resume_pending || resumed,
        completing: node.used.completing > 0,
        maintenance: false,
        reserved: false,
        planned: false,
        fail: false,
        power_down: false,
        cpus: definition.cpus.0,
        cpus_allocated: cpus,
        boards: definition.boards,
        sockets: definition.sockets,
        cores_per_socket: definition.cores_per_socket,
        threads_per_core: definition.threads_per_core,
        memory_mib: definition.memory.0,
        memory_allocated_mib: node.used.memory.0,
        memory_free_mib: vitals.memory_free_mib,
        tmp_disk_mib: definition.tmp_disk.0,
        weight: definition.weight,
        features: definition.features.iter().map(ToString::to_string).collect(),
        gres: tres::gres_text_of(node, settings),
        gres_used: tres::gres_used_text(node),
        partitions: partitions.to_vec(),
        reason: node.admin.reason.to_string(),
        reason_uid: node.admin.reason_uid.map(|uid| uid.0),
        reason_ms: node.admin.reason_at.map(|at| at.saturating_add(wall_ahead).0),
        boot_ms: observed.boot_at.map(|at| at.0),
        executor_start_ms: observed.start_at.map(|at| at.0),
        last_busy_ms: node.last_busy.map(|at| at.saturating_add(wall_ahead).0),
        load: vitals.load,
        containers: vitals.containers.into(),
        gpus: proto::convert::gpu::outwards(&observed.gpus),
        gpu_vitals: vitals.gpus,
        os: observed.os.to_string(),
        version: observed.version.to_string(),
        architecture: observed.architecture.to_string(),
        comment: String::new(),
        extra: String::new(),
        core_spec: 0,
        memory_spec_mib: 0,
        lacks: observed.lacks.iter().map(ToString::to_string).collect(),
        cgroups: observed.cgroups.to_string(),
        attested: observed.attested.iter().map(ToString::to_string).collect(),
        cfg_tres: tres::of_node(node, settings),
        alloc_tres: tres::in_use(node, u64::from(cpus), settings),
        resume_pending: node.admin.resume_pending || resumed,
        invalid: node.admin.invalid,
        kept_cores: scheduler_core::place::kept_cores_text(settings, node),
    }
}
