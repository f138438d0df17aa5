//! Effects → messages to executors. What a launch says is read from the view, which holds the decision.

use model::id::{BodyHash, NodeIdx, StepId};
use model::request::{MemoryRequest, Sharing};
use prost::Message;
use prost::bytes::Bytes;
use proto::convert::exit;
use proto::convert::request::{limit_outwards, outwards};
use proto::v1;
use scheduler_core::effect::{Effect, RunKey};
use scheduler_core::state::job::{Active, ArrayRole, Job, Step, StepSpec, StopCause};

use crate::rows;
use crate::views::{View, Views};
use crate::wire::agent::run_key_outwards;

/// What the shell knows and a launch must say.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where this scheduler listens.
    pub socket: Box<str>,
    /// The configuration file; empty where there is none.
    pub conf: Box<str>,
}

/// A launch without its bodies.
pub struct Draft {
    /// Everything else.
    pub launch: v1::Launch,
    /// The script.
    pub script: Option<BodyHash>,
    /// The job's environment.
    pub environment: Option<BodyHash>,
    /// The encoded TaskLaunch.
    pub tasks: Option<BodyHash>,
}

/// What an effect becomes.
pub enum Composed {
    /// Sent as it is.
    Ready(Box<v1::agent_down::Message>),
    /// Bodies are wanted.
    Launch(Box<Draft>),
}

/// The message of an effect; `None` where what it is about has changed meanwhile and nothing is to be sent.
#[must_use]
pub fn compose(views: &Views, site: &Site, effect: Effect) -> Option<Composed> {
    let key = |run: RunKey| Some(run_key_outwards(run));
    let epoch = views.read().state.epoch.0;
    let ready = match effect {
        Effect::Answer(..) | Effect::Session { .. } | Effect::Hook { .. } => return None,
        Effect::Launch { node, run } => {
            return draft(views, site, node, run).map(|draft| Composed::Launch(Box::new(draft)));
        }
        Effect::Terminate { run, cause, kill_wait, note, .. } => {
            v1::agent_down::Message::Terminate(v1::Terminate {
                key: key(run),
                epoch,
                kill_wait_ms: u32::try_from(kill_wait.0).unwrap_or(u32::MAX),
                cause: cause_outwards(cause).into(),
                note: note.into(),
                hurry: false,
            })
        }
        Effect::Signal { run, signal, batch_only, full, .. } => {
            v1::agent_down::Message::Signal(v1::SendSignal {
                key: key(run),
                epoch,
                signal: u32::from(signal),
                batch_only,
                full,
            })
        }
        Effect::Suspend { run, suspend: true, .. } => {
            v1::agent_down::Message::Suspend(v1::Suspend { key: key(run), epoch })
        }
        Effect::Suspend { run, suspend: false, .. } => {
            v1::agent_down::Message::Resume(v1::Resume { key: key(run), epoch })
        }
        Effect::ChangeLimit { run, limit, .. } => v1::agent_down::Message::ChangeLimit(v1::ChangeLimit {
            key: key(run),
            epoch,
            time_limit_ms: limit_outwards(limit),
        }),
        Effect::Acknowledge { run, .. } => {
            v1::agent_down::Message::Acknowledge(v1::Acknowledge { key: key(run) })
        }
        Effect::Announce { run, text, .. } => {
            v1::agent_down::Message::Announce(v1::Announce { key: key(run), text: text.into() })
        }
    };
    Some(Composed::Ready(Box::new(ready)))
}

fn cause_outwards(cause: StopCause) -> v1::StopCause {
    match cause {
        StopCause::Cancel | StopCause::JobEnd => v1::StopCause::StopCancel,
        StopCause::TimeLimit => v1::StopCause::StopTimeLimit,
        StopCause::Requeue => v1::StopCause::StopRequeue,
        StopCause::Preemption => v1::StopCause::StopPreemption,
        StopCause::NodeFail => v1::StopCause::StopNodeFail,
    }
}

/// Name of a run's folder below the node's run folder.
#[must_use]
pub fn run_folder_name(run: RunKey) -> String {
    format!("{}.{}.{}", run.job, run.step, run.run)
}

/// Where the supervisor of a step listens on its node.
#[must_use]
pub fn step_socket(view: &View, node: NodeIdx, run: RunKey) -> String {
    let folder = &view.state.node(node).observed.run_folder;
    format!("{folder}/{}/socket", run_folder_name(run))
}

/// The nodes of a step with their ranks, in rank order.
#[must_use]
pub fn step_nodes(
    view: &View,
    allocation: &[scheduler_core::allocation::NodeShare],
    ranks: &[Vec<u32>],
    run: RunKey,
) -> Vec<v1::StepNode> {
    let no_ranks = Vec::new();
    allocation
        .iter()
        .enumerate()
        .map(|(at, share)| v1::StepNode {
            allocation: Some(rows::node_allocation(&view.state, share)),
            ranks: ranks.get(at).unwrap_or(&no_ranks).clone(),
            socket: step_socket(view, share.node, run),
        })
        .collect()
}

/// What a program beside the scheduler is told of its job; `None`: the run is over.
#[must_use]
pub fn of_job(views: &Views, site: &Site, run: RunKey) -> Option<v1::Launch> {
    let view = views.read();
    let job = view.state.job(run.job).filter(|job| job.run == run.run)?;
    let mut launch = job_part(views, &view, site, job, job.active()?);
    launch.key = Some(run_key_outwards(run));
    Some(launch)
}

/// `None`: the run is not to be started any more.
fn draft(views: &Views, site: &Site, node: NodeIdx, run: RunKey) -> Option<Draft> {
    let view = views.read();
    let job = view.state.job(run.job).filter(|job| job.run == run.run)?;
    let active = job.active()?;
    let step = active.step(run.step)?;
    let mut launch = job_part(views, &view, site, job, active);
    launch.key = Some(run_key_outwards(run));
    if let Some(topology) = &view.settings.topology {
        (launch.topology_addr, launch.topology_pattern) =
            topology.address(rows::node_name(&view.state, node));
    }
    launch.node_index = place(active.allocation.iter().map(|share| share.node), node)?;
    let batch_ranks = [vec![0]];
    let ranks = step.spec.as_ref().map_or(&batch_ranks[..], |spec| &spec.ranks);
    launch.step_nodes = step_nodes(&view, &step.allocation, ranks, run);
    launch.step_node_index = place(step.allocation.iter().map(|share| share.node), node)?;
    launch.time_limit_ms = time_limit(active, step);
    launch.step = step.spec.as_deref().map(step_request);
    let batch = run.step == StepId::Batch;
    Some(Draft {
        launch,
        script: job.bodies.script.filter(|_| batch),
        environment: batch.then_some(job.bodies.environment),
        tasks: step.spec.as_ref().and_then(|spec| spec.launch),
    })
}

fn place(mut nodes: impl Iterator<Item = NodeIdx>, node: NodeIdx) -> Option<u32> {
    nodes.position(|known| known == node).and_then(|at| u32::try_from(at).ok())
}

/// The batch step has the job's limit; a step of `srun` its own, and the scheduler ends it with the job.
fn time_limit(active: &Active, step: &Step) -> i64 {
    match &step.spec {
        None if step.id == StepId::Batch => limit_outwards(active.limit),
        None => limit_outwards(None),
        Some(spec) => limit_outwards(spec.limit),
    }
}

/// All that does not depend on the step.
fn job_part(views: &Views, view: &View, site: &Site, job: &Job, active: &Active) -> v1::Launch {
    let state = &view.state;
    let counts = rows::shape::of(&job.request);
    let (per_cpu, per_node) = match job.memory {
        Some(MemoryRequest::PerCpu(mib)) => (Some(mib.0), None),
        Some(MemoryRequest::PerNode(mib)) => (None, Some(mib.0)),
        Some(MemoryRequest::PerGpu(_)) | None => (None, None),
    };
    let end = active.limit_end().map(|end| state.wall_time(end).0);
    let partition = state.partition(active.partition);
    let mut launch = v1::Launch {
        epoch: state.epoch.0,
        uid: job.owner.uid.0,
        gid: job.owner.gid.0,
        user: views.directory().user(job.owner.uid).to_string(),
        group: views.directory().group(job.owner.gid).to_string(),
        request: Some(outwards(&job.request)),
        allocation: rows::allocation(state, &active.allocation),
        node_list: rows::node_list(state, &active.allocation),
        start_ms: state.wall_time(active.start).0,
        submit_ms: state.wall_time(job.submit).0,
        end_ms: end,
        account: job.account.to_string(),
        qos: job.qos.to_string(),
        partition: partition.map_or_else(String::new, |partition| partition.definition.name.to_string()),
        restarts: job.restarts,
        kill_wait_ms: u32::try_from(view.settings.kill_wait.0).unwrap_or(u32::MAX),
        cluster: view.settings.cluster.to_string(),
        slurm_conf: site.conf.to_string(),
        batch_host: active
            .allocation
            .first()
            .map_or_else(String::new, |share| rows::node_name(state, share.node).to_owned()),
        num_tasks: counts.tasks,
        association_id: job.association,
        memory_mib_per_cpu: per_cpu,
        memory_mib_per_node: per_node.filter(|mib| *mib > 0),
        exclusive: job.request.sharing == Sharing::Exclusive,
        licenses: job.request.rare().licenses.as_deref().unwrap_or_default().to_owned(),
        scheduler_socket: site.socket.to_string(),
        priority: job.priority,
        reservation: job.request.rare().reservation.as_deref().unwrap_or_default().to_owned(),
        ..v1::Launch::default()
    };
    if let Some(finish) = &active.finish {
        launch.job_exit = Some(exit::outwards(finish.exit.unwrap_or_default()));
        launch.derived_exit = Some(exit::outwards(active.derived_exit));
    }
    if let ArrayRole::Element { array, index } = job.array {
        launch.array_job_id = Some(array.0);
        launch.array_task_id = Some(index.0);
        if let Some(spec) = &job.request.array {
            launch.array_task_min = spec.tasks.first();
            launch.array_task_max = spec.tasks.last();
            launch.array_task_step = Some(spec.step);
            launch.array_task_count = Some(spec.tasks.len());
        }
    }
    launch
}

fn step_request(spec: &StepSpec) -> v1::StepRequest {
    v1::StepRequest {
        name: spec.name.to_string(),
        ntasks: Some(spec.tasks),
        cpus_per_task: Some(spec.cpus_per_task),
        overlap: spec.overlap,
        time_limit_ms: spec.limit.map(|limit| limit.0),
        distribution: spec.distribution.as_deref().map(str::to_owned),
        work_dir: spec.work_dir.to_string(),
        submit_line: spec.submit_line.to_string(),
        ..v1::StepRequest::default()
    }
}

/// The message of a draft with its bodies, read by `body`.
///
/// # Errors
/// What `body` says, and a TaskLaunch that does not decode.
pub fn finish<E: std::fmt::Display>(
    draft: Draft,
    body: impl Fn(&BodyHash) -> Result<Bytes, E>,
) -> Result<v1::agent_down::Message, String> {
    let read = |what: &str, hash: Option<BodyHash>| match hash {
        None => Ok(Bytes::new()),
        Some(hash) => body(&hash).map_err(|error| format!("the {what} cannot be read: {error}")),
    };
    let mut launch = draft.launch;
    launch.script = read("script", draft.script)?;
    launch.environment = read("environment", draft.environment)?;
    if draft.tasks.is_some() {
        let bytes = read("task description", draft.tasks)?;
        let tasks =
            v1::TaskLaunch::decode(bytes).map_err(|error| format!("the task description: {error}"))?;
        launch.tasks = Some(tasks);
    }
    Ok(v1::agent_down::Message::Launch(launch))
}
