//! Why a waiting job may not be considered at all, before any node is looked at.
//!
//! Source: `man squeue` (JOB REASON CODES) and the goldens. Order of the questions is Slurm's: holds,
//! dependencies, begin time, then what each partition forbids.

use model::reason::Reason;

use crate::job::start::limit_of_run;
use crate::place::demand::Demand;
use crate::state::State;
use crate::state::job::{ArrayRole, Hold, Job, Pending};
use crate::state::partition::{Partition, PartitionState};

/// What of the job itself keeps it from being considered; `None`: nothing.
pub(crate) fn own_reason(job: &Job, pending: &Pending) -> Option<Reason> {
    match job.hold {
        Hold::None => {}
        Hold::User => return Some(pending.kept_reason.unwrap_or(Reason::JobHeldUser)),
        Hold::Admin => return Some(pending.kept_reason.unwrap_or(Reason::JobHeldAdmin)),
    }
    if let Some(reason) = pending.kept_reason.filter(|reason| *reason != Reason::None) {
        return Some(reason);
    }
    if pending.dependency_failed {
        return Some(Reason::DependencyNeverSatisfied);
    }
    if !pending.dependency.terms.is_empty() {
        return Some(Reason::Dependency);
    }
    // The machine clears it when its time has come.
    if pending.not_before.is_some() {
        return Some(Reason::BeginTime);
    }
    None
}

/// How many elements of the job may start now besides those that hold resources; 1 for single jobs.
pub(crate) fn elements_left(state: &State, job: &Job) -> u32 {
    match &job.array {
        ArrayRole::Single | ArrayRole::Element { .. } => 1,
        ArrayRole::Waiting(waiting) => {
            let running = state.arrays.get(&job.id).map_or(0, |summary| summary.running);
            let allowed = waiting.throttle.map_or(u32::MAX, |most| most.saturating_sub(running));
            waiting.tasks.len().min(allowed)
        }
    }
}

/// What the partition, with so many CPUs in all, forbids the job, whatever is free; `None`: nothing.
pub(crate) fn partition_reason(
    job: &Job,
    partition: &Partition,
    demand: &Demand,
    cpus: u64,
) -> Option<Reason> {
    let definition = &*partition.definition;
    match definition.state {
        PartitionState::Up | PartitionState::Drain => {}
        PartitionState::Down => return Some(Reason::PartitionDown),
        PartitionState::Inactive => return Some(Reason::PartitionInactive),
    }
    let listed = |list: &[Box<str>], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
    let allowed = |allow: &[Box<str>], deny: &[Box<str>], name: &str| {
        (allow.is_empty() || listed(allow, name)) && !listed(deny, name)
    };
    if !allowed(&definition.allow_accounts, &definition.deny_accounts, &job.account)
        || !allowed(&definition.allow_qos, &definition.deny_qos, &job.qos)
    {
        return Some(Reason::PartitionConfig);
    }
    let nodes = u32::try_from(partition.nodes.len()).unwrap_or(u32::MAX);
    // Slurm says PartitionConfig for the first second or two (golden `limits/reason-partition-node-limit`), then this.
    let most = definition.max_nodes.unwrap_or(u32::MAX).min(nodes);
    if demand.min_nodes > most || demand.max_nodes < definition.min_nodes {
        return Some(Reason::PartitionNodeLimit);
    }
    if let Some(most) = definition.max_time
        && limit_of_run(job, partition).is_none_or(|limit| limit > most)
    {
        return Some(Reason::PartitionTimeLimit);
    }
    if !demand.overcommit && u64::from(demand.tasks) * u64::from(demand.cpus_per_task) > cpus {
        return Some(Reason::PartitionConfig);
    }
    None
}
