//! A job: what was asked, who asked, where it is in its life.
//!
//! ```text
//!                 start                     all runs ended
//!   Pending ───────────────► Active ─────────────────────────► Ended
//!      ▲                       │  (Finish says how it will end)   │
//!      └───── requeue ─────────┘◄──────────── requeue ────────────┘
//! ```
//! COMPLETING is an `Active` job whose [`Finish`] is set; SUSPENDED one whose `suspended_since` is, CONFIGURING one
//! whose `configuring` is.

use std::sync::Arc;

use model::array::TaskSet;
use model::depend::Dependency;
use model::exit::ExitStatus;
use model::id::{BodyHash, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, StepId, TaskIndex, Uid};
use model::job::JobState;
use model::reason::Reason;
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};

use super::prediction::Predicted;
use crate::allocation::Allocation;

/// Who submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: Uid,
    /// Primary group at submission.
    pub gid: Gid,
}

/// Where the job's bodies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies {
    /// The script; none for an allocation without one.
    pub script: Option<BodyHash>,
    /// The environment.
    pub environment: BodyHash,
}

/// Who holds a waiting job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Nobody.
    #[default]
    None,
    /// Its user.
    User,
    /// An administrator.
    Admin,
}

/// A time limit after defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None was given and none is set: the partition's maximum counts at the start.
    Partition,
    /// No limit.
    Unlimited,
    /// So long.
    After(Span),
}

/// A job or array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Who submitted it.
    pub owner: Owner,
    /// Key of the call that made it.
    pub key: RequestKey,
    /// What was asked. `scontrol update` replaces it.
    pub request: Arc<JobRequest>,
    /// Script and environment.
    pub bodies: Bodies,
    /// Account after defaults; empty where there is none.
    pub account: Arc<str>,
    /// QOS after defaults; empty where there is none.
    pub qos: Arc<str>,
    /// Number of the association it is charged to; 0: none.
    pub association: u32,
    /// Partitions it may run in, as asked; the first that lets it start is taken.
    pub partitions: Arc<[PartitionIdx]>,
    /// When it was submitted (or requeued).
    pub submit: Timestamp,
    /// Time limit after defaults.
    pub limit: Limit,
    /// Memory after defaults; `None`: memory is not counted or all of the node's.
    pub memory: Option<MemoryRequest>,
    /// Larger is more urgent; 0 while held.
    pub priority: u32,
    /// Whether it is held.
    pub hold: Hold,
    /// Added to the priority with the sign turned.
    pub nice: i32,
    /// Added to the priority by the site (`scontrol update SiteFactor=`).
    pub site_factor: i32,
    /// Whether it may be requeued.
    pub requeue: bool,
    /// Session of the submitting shell.
    pub alloc_sid: u32,
    /// Part in an array.
    pub array: ArrayRole,
    /// Number of the present or next run; 0 before the first start.
    pub run: RunNumber,
    /// How often it was put back.
    pub restarts: u32,
    /// How long it was believed to run when it was submitted; fixed from then on.
    pub predicted: Predicted,
    /// Where it is in its life.
    pub phase: Phase,
}

/// What a job is to an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArrayRole {
    /// Nothing.
    Single,
    /// The record of the elements that have not started. One record whatever the size.
    Waiting(Box<WaitingArray>),
    /// One element, with a record since it started (or was changed alone).
    Element {
        /// Id of the array.
        array: JobId,
        /// Its index.
        index: TaskIndex,
    },
}

/// Elements of an array that have no record of their own yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingArray {
    /// Their indices.
    pub tasks: TaskSet,
    /// Most elements that may hold resources at a time; `None`: any number.
    pub throttle: Option<u32>,
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits.
    Pending(Pending),
    /// Holds resources.
    Active(Box<Active>),
    /// Has ended; stays for MinJobAge.
    Ended(Arc<Ended>),
}

/// A waiting job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Not before: `--begin`, or the wait after a requeue.
    pub not_before: Option<Timestamp>,
    /// When nothing but resources and priority held it back; `None` while something does.
    pub eligible: Option<Timestamp>,
    /// What it still waits for.
    pub dependency: Dependency,
    /// One of its dependencies can never be met.
    pub dependency_failed: bool,
    /// A reason that stays until the job is released (`JobHeldUser` is derived and not kept here).
    pub kept_reason: Option<Reason>,
}

/// A job that holds resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Partition it runs in.
    pub partition: PartitionIdx,
    /// What it holds.
    pub allocation: Allocation,
    /// Start of this run.
    pub start: Timestamp,
    /// When nothing but resources and priority held it back.
    pub eligible: Option<Timestamp>,
    /// Limit of this run; `None`: unlimited.
    pub limit: Option<Span>,
    /// Since when its processes are stopped.
    pub suspended_since: Option<Timestamp>,
    /// Time spent suspended before.
    pub suspended_total: Span,
    /// Its user sent it SIGSTOP and no SIGCONT since; its time goes on.
    pub stopped: bool,
    /// Steps of this run, in the order of their start. Records and the ended job share them.
    pub steps: Vec<Arc<Step>>,
    /// Number of the next step.
    pub next_step: u32,
    /// How it will end, once that is decided.
    pub finish: Option<Finish>,
    /// Highest status of its numbered steps.
    pub derived_exit: ExitStatus,
    /// Shown while it runs (`scontrol hold` of a running job).
    pub reason: Reason,
    /// What is done for it before its batch script begins; its clock does not run yet.
    pub configuring: Option<Box<str>>,
}

/// How an active job will end, when its last process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The state it ends in.
    pub state: JobState,
    /// Its status; `None`: the batch step's, when it is known.
    pub exit: Option<ExitStatus>,
    /// Shown with the state.
    pub reason: Reason,
    /// More words for the reason.
    pub detail: Box<str>,
    /// Who ended it.
    pub by: Option<Uid>,
    /// When that was decided.
    pub at: Timestamp,
    /// It goes back to the queue instead of ending.
    pub requeue: Option<RequeueHow>,
}

/// How a requeued job comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequeueHow {
    /// Eligible again after the configured wait.
    Eligible,
    /// Held by its user.
    HeldUser,
    /// Held by an administrator.
    HeldAdmin,
    /// Held, shown as SPECIAL_EXIT.
    SpecialExit,
    /// Held: its prolog failed.
    LaunchFailed,
}

/// An ended job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Final state.
    pub state: JobState,
    /// Status of the batch script (or of the allocation's command).
    pub exit: ExitStatus,
    /// Highest status of its numbered steps.
    pub derived_exit: ExitStatus,
    /// Shown with the state.
    pub reason: Reason,
    /// More words for the reason.
    pub detail: Box<str>,
    /// Who ended it.
    pub by: Option<Uid>,
    /// When nothing but resources and priority held it back.
    pub eligible: Option<Timestamp>,
    /// Start of the last run; `None`: it never started.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Timestamp,
    /// Limit of the last run.
    pub limit: Option<Span>,
    /// Partition of the last run.
    pub partition: Option<PartitionIdx>,
    /// What it held; empty if it never started.
    pub allocation: Allocation,
    /// Time spent suspended.
    pub suspended_total: Span,
    /// Steps of the last run.
    pub steps: Vec<Arc<Step>>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the job.
    pub id: StepId,
    /// What was asked for it; `None` for the batch step.
    pub spec: Option<Arc<StepSpec>>,
    /// When it was created.
    pub start: Timestamp,
    /// What it holds of the job's allocation.
    pub allocation: Allocation,
    /// Its part on each node, in the order of `allocation`.
    pub nodes: Vec<StepNode>,
    /// When its last part ended.
    pub end: Option<Timestamp>,
    /// Shown state: RUNNING until it ended.
    pub state: JobState,
    /// Highest status of its tasks.
    pub exit: ExitStatus,
    /// Who ended it.
    pub by: Option<Uid>,
    /// Whether a stop was ordered, and why.
    pub stop: Option<StopCause>,
    /// What its ended parts used.
    pub usage: Usage,
    /// What kernels held its parts to: each text with the first node that said it.
    pub held: Vec<(NodeIdx, Box<str>)>,
}

/// What processes used. Sums over nodes, but for the largest resident set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of user code, microseconds.
    pub user_us: u64,
    /// CPU time of the kernel, microseconds.
    pub system_us: u64,
    /// Largest resident set of a task, bytes.
    pub max_rss: u64,
    /// Of what was seen while it ran; `None`: nobody looked.
    pub figures: Option<Box<Figures>>,
}

/// The most that one task used of something, which task on which node, and what all tasks came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    /// The most of one task.
    pub most: u64,
    /// Its rank.
    pub task: u32,
    /// Its node.
    pub node: NodeIdx,
    /// What each task came to, summed.
    pub total: u64,
}

impl Figure {
    /// Of two nodes: the larger one, and both together.
    fn with(self, other: Self) -> Self {
        let larger = if other.most > self.most { other } else { self };
        Self { total: self.total.saturating_add(other.total), ..larger }
    }
}

/// What tasks used of each thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Resident memory, bytes.
    pub rss: Figure,
    /// Address space, bytes.
    pub virtual_memory: Figure,
    /// Read from storage, bytes.
    pub read: Figure,
    /// Written to storage, bytes.
    pub written: Figure,
    /// Page faults that needed storage.
    pub pages: Figure,
    /// The least CPU time of a task, microseconds.
    pub cpu_least: Figure,
}

impl Figures {
    /// Of two nodes.
    fn with(self, other: Self) -> Self {
        let least = if other.cpu_least.most < self.cpu_least.most { other } else { self };
        Self {
            rss: self.rss.with(other.rss),
            virtual_memory: self.virtual_memory.with(other.virtual_memory),
            read: self.read.with(other.read),
            written: self.written.with(other.written),
            pages: self.pages.with(other.pages),
            cpu_least: least.cpu_least,
        }
    }

    /// The same, seen on `node`.
    #[must_use]
    pub fn on(self, node: NodeIdx) -> Self {
        let on = |figure: Figure| Figure { node, ..figure };
        Self {
            rss: on(self.rss),
            virtual_memory: on(self.virtual_memory),
            read: on(self.read),
            written: on(self.written),
            pages: on(self.pages),
            cpu_least: on(self.cpu_least),
        }
    }
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_add(other.user_us),
            system_us: self.system_us.saturating_add(other.system_us),
            max_rss: self.max_rss.max(other.max_rss),
            figures: match (self.figures, other.figures) {
                (Some(mine), Some(others)) => Some(Box::new(mine.with(*others))),
                (mine, others) => mine.or(others),
            },
        }
    }
}

/// What `srun` asked for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSpec {
    /// Shown name.
    pub name: Box<str>,
    /// Tasks in all.
    pub tasks: u32,
    /// CPUs of each task.
    pub cpus_per_task: u32,
    /// Whether it shares its CPUs and memory with other steps (`--overlap`).
    pub overlap: bool,
    /// Own time limit.
    pub limit: Option<Span>,
    /// `--distribution`.
    pub distribution: Option<Box<str>>,
    /// Directory its tasks start in.
    pub work_dir: Box<str>,
    /// Command line, for accounting.
    pub submit_line: Box<str>,
    /// The encoded TaskLaunch (arguments, environment), which only executors read.
    pub launch: Option<BodyHash>,
    /// Key of the call that made it.
    pub key: Option<RequestKey>,
    /// Ranks on each node, in the order of the allocation.
    pub ranks: Vec<Vec<u32>>,
}

/// One node's part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepNode {
    /// The node.
    pub node: NodeIdx,
    /// How far it is.
    pub stage: RunStage,
}

/// How far a run on one node is, as the scheduler knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStage {
    /// Decided and durable; whether the executor knows of it is not known.
    Ordered,
    /// The executor says that its processes were started.
    Begun,
    /// It ended, and its outcome is known.
    Ended,
    /// It is not known what became of it (the node is silent): see PROTOCOL §3.7.
    Unknown,
}

/// Why a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody cancelled it.
    Cancel,
    /// Its time is over.
    TimeLimit,
    /// It goes back to the queue.
    Requeue,
    /// It makes room for others.
    Preemption,
    /// A node of it failed.
    NodeFail,
    /// The job has ended: what is left of it goes.
    JobEnd,
}

impl Job {
    /// Whether it waits.
    #[must_use]
    pub fn pending(&self) -> Option<&Pending> {
        match &self.phase {
            Phase::Pending(pending) => Some(pending),
            Phase::Active(_) | Phase::Ended(_) => None,
        }
    }

    /// Whether it holds resources.
    #[must_use]
    pub fn active(&self) -> Option<&Active> {
        match &self.phase {
            Phase::Active(active) => Some(active),
            Phase::Pending(_) | Phase::Ended(_) => None,
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Ended(ended) => Some(ended),
            Phase::Pending(_) | Phase::Active(_) => None,
        }
    }

    /// The array it belongs to, if any.
    #[must_use]
    pub fn array_id(&self) -> Option<JobId> {
        match self.array {
            ArrayRole::Single => None,
            ArrayRole::Waiting(_) => Some(self.id),
            ArrayRole::Element { array, .. } => Some(array),
        }
    }

    /// The state as shown.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Pending(pending) => match pending.kept_reason {
                Some(Reason::SpecialExit) => JobState::SpecialExit,
                _ => JobState::Pending,
            },
            Phase::Active(active) => match (&active.finish, active.suspended_since) {
                (Some(_), _) => JobState::Completing,
                (None, Some(_)) => JobState::Suspended,
                (None, None) if active.configuring.is_some() => JobState::Configuring,
                (None, None) => JobState::Running,
            },
            Phase::Ended(ended) => ended.state,
        }
    }
}

impl Active {
    /// The step of that id in this run.
    #[must_use]
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.steps.iter().rev().map(Arc::as_ref).find(|step: &&Step| step.id == id)
    }

    /// When its time is over, not counting suspension; `None`: never, or its clock does not run.
    #[must_use]
    pub fn limit_end(&self) -> Option<Timestamp> {
        if self.suspended_since.is_some() || self.configuring.is_some() {
            return None;
        }
        Some(self.start.saturating_add(self.limit?).saturating_add(self.suspended_total))
    }

    /// When it is done, if it is believed to run for so long; `None`: nothing is believed.
    #[must_use]
    pub fn believed_end(&self, believed: Option<Span>) -> Option<Timestamp> {
        Some(self.start.saturating_add(believed?).saturating_add(self.suspended_total))
    }
}

impl Step {
    /// Whether all its parts have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }
}
