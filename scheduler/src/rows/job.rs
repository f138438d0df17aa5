//! Rows of jobs: waiting, active and ended ones have the same shape.

use std::sync::Arc;

use model::depend::{Dependency, Kind as DependKind, Standing, Tasks, Term};
use model::hostlist;
use model::id::{Hook, PartitionIdx, StepId};
use model::job::JobState;
use model::reason::Reason;
use model::request::{MemoryRequest, Sharing};
use model::time::{Span, Timestamp};
use proto::convert::{exit, request};
use proto::v1;
use scheduler_core::allocation::NodeShare;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::{
    Active, ArrayRole, Ended, Hold, Job, Limit, Pending, Phase, RunStage, Step, StepNode,
};
use scheduler_core::state::node::Link;
use scheduler_core::state::partition::OverSubscribe;

use super::{allocation, node_list, shape, step, tres};

/// What the planner last said of a waiting job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it did not start.
    pub reason: Reason,
    /// When it is expected to, and on which nodes. Few jobs have that.
    pub planned: Option<Box<(Timestamp, Box<str>)>>,
    /// When that was examined.
    pub at: Timestamp,
}

/// What a row needs to know beside the job.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The state that the job is in.
    pub state: &'a State,
    /// The configuration.
    pub settings: &'a Settings,
    /// The planner's last word on the job.
    pub verdict: Option<&'a Verdict>,
    /// Counts what happened to the job.
    pub change: u64,
    /// Login name of the owner.
    pub user: &'a str,
    /// Name of the owner's group.
    pub group: &'a str,
    /// Whether the row carries the steps.
    pub with_steps: bool,
    /// The present.
    pub now: Timestamp,
}

/// The row of a job. Cost: O(size of the request and of the allocation).
#[must_use]
pub fn row(job: &Job, context: &Context<'_>) -> v1::Job {
    let mut row = identity(job, context);
    match &job.phase {
        Phase::Pending(pending) => fill_pending(&mut row, job, pending, context),
        Phase::Active(active) => fill_active(&mut row, job, active, context),
        Phase::Ended(ended) => fill_ended(&mut row, job, ended, context),
    }
    to_wall(&mut row, context.state.wall_ahead);
    row
}

/// Turns the job's own times, which came from the state, into wall time. Steps have theirs already, and what the
/// request names is wall time.
fn to_wall(row: &mut v1::Job, ahead: Span) {
    row.submit_ms += ahead.0;
    let times = [
        &mut row.eligible_ms,
        &mut row.accrue_ms,
        &mut row.planned_start_ms,
        &mut row.last_sched_eval_ms,
        &mut row.start_ms,
        &mut row.end_ms,
        &mut row.suspend_ms,
    ];
    times.into_iter().flatten().for_each(|ms| *ms += ahead.0);
}

/// What does not depend on where the job is in its life.
fn identity(job: &Job, context: &Context<'_>) -> v1::Job {
    let asked = &job.request;
    let counts = shape::of(asked);
    let (per_cpu, per_node) = match job.memory {
        Some(MemoryRequest::PerCpu(mib)) => (Some(mib.0), None),
        Some(MemoryRequest::PerNode(mib)) => (None, Some(mib.0)),
        Some(MemoryRequest::PerGpu(_)) | None => (None, Some(0)),
    };
    let (array_job_id, array_task_id, array_tasks, array_throttle) = match &job.array {
        ArrayRole::Single => (None, None, None, None),
        ArrayRole::Waiting(waiting) => {
            (Some(job.id.0), None, Some(waiting.tasks.text(None)), waiting.throttle)
        }
        ArrayRole::Element { array, index } => (Some(array.0), Some(index.0), None, None),
    };
    v1::Job {
        job_id: job.id.0,
        array_job_id,
        array_task_id,
        array_tasks,
        array_throttle,
        uid: job.owner.uid.0,
        gid: job.owner.gid.0,
        user: context.user.to_owned(),
        group: context.group.to_owned(),
        request: Some(request::outwards(asked)),
        state: job.state().long().to_owned(),
        reason: Reason::None.text().to_owned(),
        run: job.run.0,
        restarts: job.restarts,
        priority: context.state.aging.shown(job, context.now),
        account: job.account.to_string(),
        qos: job.qos.to_string(),
        partition: partition_names(context.state, &job.partitions),
        submit_ms: job.submit.0,
        num_nodes: counts.nodes_min,
        num_nodes_max: counts.nodes_max,
        num_cpus: counts.cpus,
        num_tasks: counts.tasks,
        req_tres: tres::of_request(asked, job.memory, counts, context.settings),
        requeue: job.requeue,
        exclusive: asked.sharing == Sharing::Exclusive
            || in_partition(job, context.state, |sharing| sharing == OverSubscribe::Exclusive),
        oversubscribed: in_partition(
            job,
            context.state,
            |sharing| matches!(sharing, OverSubscribe::Force(jobs) if jobs > 1),
        ),
        alloc_sid: job.alloc_sid,
        association_id: job.association,
        features: asked.constraint.as_deref().unwrap_or_default().to_owned(),
        licenses: asked.rare().licenses.as_deref().unwrap_or_default().to_owned(),
        change: context.change,
        min_memory_mib_per_cpu: per_cpu,
        min_memory_mib_per_node: per_node,
        hold: job.hold != Hold::None,
        cluster: context.settings.cluster.to_string(),
        exit: Some(v1::ExitStatus::default()),
        derived_exit: Some(v1::ExitStatus::default()),
        time_limit_ms: Some(request::limit_outwards(limit(job, context.state))),
        ..v1::Job::default()
    }
}

fn fill_pending(row: &mut v1::Job, job: &Job, pending: &Pending, context: &Context<'_>) {
    let (reason, detail) = waiting_reason(job, pending, context);
    row.reason = reason.text().to_owned();
    row.reason_detail = detail;
    row.eligible_ms = pending.eligible.or(pending.not_before).map(|at| at.0);
    row.accrue_ms = pending.eligible.map(|at| at.0);
    row.dependency = shown_dependency(context.state, &pending.dependency);
    let planned = context.verdict.and_then(|verdict| verdict.planned.as_ref());
    let begin = pending.not_before.filter(|at| *at > context.now);
    row.planned_start_ms = planned.map(|planned| planned.0).or(begin).map(|at| at.0);
    row.planned_nodes = planned.map(|planned| planned.1.to_string());
    row.last_sched_eval_ms = context.verdict.map(|verdict| verdict.at.0);
    row.memory_mib = 0;
    let least = nodes_for_cpus(job, context.state);
    if least > row.num_nodes {
        row.num_nodes = least;
        row.num_nodes_max = row.num_nodes_max.filter(|&most| most > least);
    }
}

/// Nodes of a partition that are looked at for the largest: all of a small one, of a large one so many, evenly spread.
const LOOKED_AT: usize = 64;

/// The least number of nodes that have the CPUs of a waiting job, as Slurm reckons it: by the largest node of its first
/// partition, in whole tasks where a task has several CPUs. Cost: O([`LOOKED_AT`]).
fn nodes_for_cpus(job: &Job, state: &State) -> u32 {
    let counts = shape::of(&job.request);
    let per_task = job.request.cpus_per_task.unwrap_or(1).max(1);
    let partition = job.partitions.first().and_then(|&idx| state.partition(idx));
    let Some(nodes) = partition.map(|partition| &partition.nodes).filter(|_| counts.tasks > 1) else {
        return 1;
    };
    let step = nodes.len().div_ceil(LOOKED_AT).max(1);
    let cpus = nodes.iter().step_by(step).map(|&node| state.node(node).definition.cpus.0).max().unwrap_or(0);
    match per_task {
        _ if cpus < per_task => 1,
        1 => counts.tasks.div_ceil(cpus),
        _ => (counts.tasks / (cpus / per_task)).max(1),
    }
}

fn fill_active(row: &mut v1::Job, job: &Job, active: &Active, context: &Context<'_>) {
    fill_held(row, &active.allocation, active.partition, context);
    row.start_ms = Some(active.start.0);
    row.eligible_ms = active.eligible.map(|at| at.0);
    row.accrue_ms = row.eligible_ms;
    row.last_sched_eval_ms = row.start_ms;
    row.time_limit_ms = Some(request::limit_outwards(active.limit));
    row.end_ms =
        active.limit.map(|limit| active.start.saturating_add(limit).saturating_add(active.suspended_total).0);
    row.suspended_total_ms = active.suspended_total.0;
    row.stopped = active.stopped && active.finish.is_none() && active.suspended_since.is_none();
    row.derived_exit = Some(exit::outwards(active.derived_exit));
    // A hold is for its next run, and shown already. Source: golden `scontrol/hold-running`.
    let reason = match job.hold {
        Hold::None => active.reason,
        Hold::User => Reason::JobHeldUser,
        Hold::Admin => Reason::JobHeldAdmin,
    };
    let reason = if reason == Reason::None && prologs_run(active) { Reason::Prolog } else { reason };
    row.reason = reason.text().to_owned();
    if let Some(what) = &active.configuring {
        row.reason_detail = what.to_string();
    }
    if let Some(detail) = without_evidence(active, context.state) {
        row.reason = Reason::NodeDown.text().to_owned();
        row.reason_detail = detail;
    }
    if let Some(since) = active.suspended_since {
        row.suspend_ms = Some(since.0);
        let before: Span = since.since(active.start).saturating_sub(active.suspended_total);
        row.pre_suspend_ms = Some(before.0.max(0));
    }
    if let Some(finish) = &active.finish {
        row.final_state = finish.state.long().to_owned();
        row.reason = finish.reason.text().to_owned();
        row.reason_detail = finish.detail.to_string();
        row.ended_by_uid = finish.by.map(|by| by.0);
        row.end_ms = Some(finish.at.0);
        if let Some(status) = finish.exit {
            row.exit = Some(exit::outwards(status));
        }
    }
    fill_steps(row, job, &active.steps, context);
}

/// On which nodes it is not known what became of the job's run, or nobody answers for it: nothing of it is started again
/// or given up without evidence (PROTOCOL §3.7). `NodeDown` is Slurm's word for it.
fn without_evidence(active: &Active, state: &State) -> Option<String> {
    let parts =
        || active.steps.iter().flat_map(|step| &step.nodes).filter(|part| part.stage != RunStage::Ended);
    let named = |wanted: &dyn Fn(&StepNode) -> bool| {
        let mut names: Vec<String> = parts()
            .filter(|part| wanted(part))
            .map(|part| super::node_name(state, part.node).to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let unknown = named(&|part| part.stage == RunStage::Unknown);
    let silent = named(&|part| matches!(state.node(part.node).link, Link::Silent { timed_out: true, .. }));
    let (word, names) = match (unknown.is_empty(), silent.is_empty()) {
        (false, _) => ("RunUnknownOn", unknown),
        (true, false) => ("NotResponding", silent),
        (true, true) => return None,
    };
    Some(format!("{word}:{}", hostlist::compress(&names)))
}

/// Whether a node's prolog has yet to end (PrologFlags=Alloc).
fn prologs_run(active: &Active) -> bool {
    let waited_for = |step: &Arc<Step>| match step.id {
        StepId::Hook(Hook::Prolog) => !step.is_over(),
        StepId::Extern => step.nodes.iter().any(|part| part.stage == RunStage::Ordered),
        _ => false,
    };
    active.steps.iter().any(waited_for)
}

fn fill_ended(row: &mut v1::Job, job: &Job, ended: &Ended, context: &Context<'_>) {
    if let Some(partition) = ended.partition {
        fill_held(row, &ended.allocation, partition, context);
    }
    row.reason = ended.reason.text().to_owned();
    row.reason_detail = ended.detail.to_string();
    row.ended_by_uid = ended.by.map(|by| by.0);
    row.exit = Some(exit::outwards(ended.exit));
    row.derived_exit = Some(exit::outwards(ended.derived_exit));
    row.eligible_ms = ended.eligible.map(|at| at.0);
    row.accrue_ms = row.eligible_ms;
    row.start_ms = ended.start.map(|at| at.0);
    row.end_ms = Some(ended.end.0);
    row.last_sched_eval_ms = row.start_ms;
    row.suspended_total_ms = ended.suspended_total.0;
    if ended.start.is_some() {
        row.time_limit_ms = Some(request::limit_outwards(ended.limit));
    }
    row.final_state = ended.state.long().to_owned();
    fill_steps(row, job, &ended.steps, context);
}

/// What a started job holds, or held.
fn fill_held(row: &mut v1::Job, shares: &Arc<[NodeShare]>, partition: PartitionIdx, context: &Context<'_>) {
    let state = context.state;
    if let Some(name) = partition_name(state, partition) {
        row.partition = name.to_owned();
    }
    if shares.is_empty() {
        return;
    }
    row.allocation = allocation(state, shares);
    row.node_list = node_list(state, shares);
    row.batch_host = super::node_name(state, shares[0].node).to_owned();
    row.num_nodes = shares.len() as u32;
    row.num_nodes_max = None;
    // One on each node, where their number was left open.
    row.num_tasks = row.num_tasks.max(row.num_nodes);
    row.num_cpus = shares.iter().map(|share| share.cpus.0).sum();
    row.memory_mib = shares.iter().map(|share| share.memory.0).sum();
    row.alloc_tres = tres::of_allocation(state, shares, context.settings);
}

fn fill_steps(row: &mut v1::Job, job: &Job, steps: &[Arc<Step>], context: &Context<'_>) {
    if !context.with_steps {
        return;
    }
    let partition = row.partition.clone();
    // A site's programs are no steps to Slurm.
    let shown = |step: &&Arc<Step>| !matches!(step.id, StepId::Hook(_));
    row.steps = steps
        .iter()
        .filter(shown)
        .map(|one| step::row(context.state, context.settings, job, one, &partition))
        .collect();
}

/// Why a waiting job waits: what its own record says, then what the planner said.
fn waiting_reason(job: &Job, pending: &Pending, context: &Context<'_>) -> (Reason, String) {
    let plain = |reason| (reason, String::new());
    if let Some(kept) = pending.kept_reason.filter(|kept| *kept != Reason::None) {
        return plain(kept);
    }
    match job.hold {
        Hold::User => return plain(Reason::JobHeldUser),
        Hold::Admin => return plain(Reason::JobHeldAdmin),
        Hold::None => {}
    }
    if pending.dependency_failed {
        return plain(Reason::DependencyNeverSatisfied);
    }
    if !pending.dependency.is_empty() {
        return plain(Reason::Dependency);
    }
    if pending.not_before.is_some_and(|at| at > context.now) {
        return plain(Reason::BeginTime);
    }
    let reason = context.verdict.map_or(Reason::None, |verdict| verdict.reason);
    let detail =
        if reason == Reason::ReqNodeNotAvail { unavailable(job, context.state) } else { String::new() };
    (reason, detail)
}

/// More words on nodes that the job names and cannot have. Source: golden `squeue/reason-nodes-unavailable`.
fn unavailable(job: &Job, state: &State) -> String {
    let named = job.request.rare().nodelist.as_deref().and_then(|text| hostlist::expand(text).ok());
    let down = |name: &String| {
        let node = state.node_named(name).map(|idx| state.node(idx));
        node.is_some_and(|node| node.admin.down || node.link != Link::Up)
    };
    let names: Vec<String> = named.unwrap_or_default().into_iter().filter(down).collect();
    if names.is_empty() {
        return "May be reserved for other job".to_owned();
    }
    format!("UnavailableNodes:{}", hostlist::compress_sorted(&names))
}

/// What it still waits for; an array as a whole is named `ID_*`. Source: golden `array/aftercorr-display`.
fn shown_dependency(state: &State, dependency: &Dependency) -> String {
    let mut shown = dependency.clone();
    for term in &mut shown.terms {
        if term.tasks == Tasks::Unsaid && state.arrays.contains_key(&term.job) {
            term.tasks = Tasks::All;
        }
    }
    shown.display(|term| standing(state, term))
}

/// How a dependency stands, for display. `State` keeps only what is not met.
fn standing(state: &State, term: &Term) -> Standing {
    let Some(other) = state.job(term.job) else { return Standing::Unfulfilled };
    let Some(ended) = other.ended() else { return Standing::Unfulfilled };
    let succeeded = ended.state == JobState::Completed;
    match term.kind {
        DependKind::AfterOk | DependKind::AfterCorr if !succeeded => Standing::Failed,
        DependKind::AfterNotOk if succeeded => Standing::Failed,
        _ => Standing::Unfulfilled,
    }
}

/// The limit of a job that has not started.
fn limit(job: &Job, state: &State) -> Option<Span> {
    match job.limit {
        Limit::Unlimited => None,
        Limit::After(span) => Some(span),
        Limit::Partition => {
            job.partitions.first().and_then(|idx| state.partition(*idx)).and_then(|p| p.definition.max_time)
        }
    }
}

/// Whether the job's partition, or the first it may run in, shares its nodes so.
fn in_partition(job: &Job, state: &State, is: impl Fn(OverSubscribe) -> bool) -> bool {
    let idx = job.active().map(|active| active.partition).or_else(|| job.partitions.first().copied());
    idx.and_then(|idx| state.partition(idx)).is_some_and(|partition| is(partition.definition.oversubscribe))
}

fn partition_name(state: &State, idx: PartitionIdx) -> Option<&str> {
    state.partition(idx).map(|partition| &*partition.definition.name)
}

/// The names, as a comma list.
fn partition_names(state: &State, list: &[PartitionIdx]) -> String {
    let names: Vec<&str> = list.iter().filter_map(|idx| partition_name(state, *idx)).collect();
    names.join(",")
}
