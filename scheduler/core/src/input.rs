//! What happened: the only way into the machine.

use std::sync::Arc;

use model::array::TaskSet;
use model::exit::ExitStatus;
use model::gpu::Gpu;
use model::gres::GresRequest;
use model::id::{BodyHash, BootId, Epoch, JobId, NodeIdx, PartitionIdx, RequestKey, SpoolId, Uid};
use model::request::JobRequest;
use model::time::{Span, Timestamp};

use crate::allocation::Allocation;
use crate::effect::{Asker, ReplyTo, RunKey, Selector};
use crate::settings::Settings;
use crate::state::accounts::{Account, Association, AssociationKey, Attributes, Qos, User};
use crate::state::node::{NodeDefinition, Observed};
use crate::state::promise::PromiseChange;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first after every opening of the journal: this process owns it under this epoch.
    Owned(Epoch),
    /// This is the configuration now. The first comes before any other input but `Owned`.
    Configure(Arc<Settings>),
    /// A job is to be made. Its bodies are stored by the shell with the records of this call.
    Submit(Box<Submit>),
    /// Something is to be done to jobs, nodes, partitions or accounts.
    Command {
        /// Who waits for the answer.
        reply: ReplyTo,
        /// Who asks.
        asker: Asker,
        /// What.
        command: Box<Command>,
    },
    /// An executor connected and showed what it has.
    Registered(Box<Registration>),
    /// An executor looked at its GPUs again: one has a fault, or has none any more.
    GpusObserved {
        /// The node.
        node: NodeIdx,
        /// All of them.
        gpus: Vec<Gpu>,
    },
    /// A session ended.
    Disconnected {
        /// The node.
        node: NodeIdx,
    },
    /// What became of a run.
    Report {
        /// The node it ran on.
        node: NodeIdx,
        /// Which.
        run: RunKey,
        /// What.
        report: Report,
    },
    /// A program that [`Effect::Hook`](crate::effect::Effect::Hook) asked for has ended.
    HookEnded {
        /// The run that it was for.
        run: RunKey,
        /// Its status; not success also where it could not be run or took too long.
        exit: ExitStatus,
        /// Why it failed, where its status does not say.
        detail: Box<str>,
    },
    /// Ids that history holds, before ids come round: no new job gets one of them.
    IdsHeld(Box<TaskSet>),
    /// The wall clock was set, or the machine slept: wall time is so far ahead of `now` from now on.
    ClockSet {
        /// Behind, if negative.
        wall_ahead: Span,
    },
    /// A deadline of the machine may have passed.
    Deadline,
    /// The planner proposes. Each placement is checked again.
    Plan(Plan),
}

/// A submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// Who waits for the answer.
    pub reply: ReplyTo,
    /// Who asks.
    pub asker: Asker,
    /// The call's key.
    pub key: RequestKey,
    /// What is asked.
    pub request: Arc<JobRequest>,
    /// The script, if there is one.
    pub script: Option<BodyHash>,
    /// The environment.
    pub environment: BodyHash,
    /// Session of the submitting shell.
    pub alloc_sid: u32,
    /// Nothing is stored: when and where would it start?
    pub test_only: bool,
}

/// What a user or administrator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// End jobs or steps, or send them a signal.
    Cancel {
        /// Which; if empty, all that the filter matches.
        jobs: Vec<Selector>,
        /// Further conditions (scancel's options).
        filter: JobFilter,
        /// `None`: end them.
        signal: Option<u8>,
        /// To the batch shell alone.
        batch_only: bool,
        /// To the batch shell too.
        full: bool,
    },
    /// Hold waiting jobs.
    Hold {
        /// Which.
        jobs: Vec<Selector>,
        /// As their user, even if an administrator asks (`uhold`).
        as_user: bool,
    },
    /// Release held jobs.
    Release(Vec<Selector>),
    /// Put running or ended jobs back.
    Requeue {
        /// Which.
        jobs: Vec<Selector>,
        /// Held.
        hold: bool,
        /// Shown as SPECIAL_EXIT.
        special_exit: bool,
    },
    /// Stop the processes of running jobs.
    Suspend(Vec<Selector>),
    /// Let them go on.
    Resume(Vec<Selector>),
    /// `scontrol update job`: keys and values as typed.
    UpdateJob {
        /// Which.
        job: Selector,
        /// What.
        changes: Vec<(Box<str>, Box<str>)>,
    },
    /// `scontrol update node`.
    UpdateNodes {
        /// A hostlist.
        nodes: Box<str>,
        /// What.
        changes: Vec<(Box<str>, Box<str>)>,
    },
    /// `scontrol update partition`.
    UpdatePartition {
        /// Its name.
        name: Box<str>,
        /// What.
        changes: Vec<(Box<str>, Box<str>)>,
        /// It is made by this call.
        create: bool,
    },
    /// `scontrol delete partition`.
    DeletePartition(Box<str>),
    /// Make or change a reservation.
    UpdateReservation {
        /// Its name; empty for a new one: one is found.
        name: Box<str>,
        /// scontrol's keys (full) and values; moments as `@` and milliseconds of wall time, users as `name:uid`.
        changes: Vec<(Box<str>, Box<str>)>,
        /// It must not be there yet.
        create: bool,
    },
    /// Delete a reservation.
    DeleteReservation(Box<str>),
    /// The command of an allocation has ended.
    EndAllocation {
        /// The job.
        job: JobId,
        /// Its status.
        exit: ExitStatus,
    },
    /// Print a line to the job.
    Notify {
        /// Which.
        job: Selector,
        /// The line.
        text: Box<str>,
    },
    /// Make a step.
    CreateStep {
        /// The job.
        job: JobId,
        /// What is asked.
        step: Box<StepRequest>,
    },
    /// Change accounting data.
    ChangeAccounts(Vec<AccountChange>),
}

/// Conditions of `scancel`. Empty lists mean "any".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Owners.
    pub uids: Vec<Uid>,
    /// Shown states.
    pub states: Vec<model::job::JobState>,
    /// Partitions by name.
    pub partitions: Vec<Box<str>>,
    /// Job names.
    pub names: Vec<Box<str>>,
    /// Accounts.
    pub accounts: Vec<Box<str>>,
    /// QOS.
    pub qos: Vec<Box<str>>,
}

/// What `srun` asks for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepRequest {
    /// The call's key.
    pub key: Option<RequestKey>,
    /// Shown name.
    pub name: Box<str>,
    /// `-n`.
    pub ntasks: Option<u32>,
    /// `-N`, least and most.
    pub nodes: Option<(u32, Option<u32>)>,
    /// `-c`.
    pub cpus_per_task: Option<u32>,
    /// `--ntasks-per-node`.
    pub ntasks_per_node: Option<u32>,
    /// `--mem`.
    pub memory_per_node: Option<model::quantity::MemoryMib>,
    /// `--mem-per-cpu`.
    pub memory_per_cpu: Option<model::quantity::MemoryMib>,
    /// `--nodelist`.
    pub nodelist: Option<Box<str>>,
    /// `--exclude`.
    pub exclude: Option<Box<str>>,
    /// `--gres`, `--gpus-per-node`.
    pub gres_per_node: Vec<GresRequest>,
    /// `--gres=none`.
    pub gres_none: bool,
    /// `--gpus`.
    pub gpus_per_job: Vec<GresRequest>,
    /// `--gpus-per-task`.
    pub gpus_per_task: Vec<GresRequest>,
    /// `--exclusive`.
    pub exclusive: bool,
    /// `--exact`.
    pub exact: bool,
    /// `--overlap`.
    pub overlap: bool,
    /// `--overcommit`.
    pub overcommit: bool,
    /// `--whole`.
    pub whole: bool,
    /// `-r`.
    pub relative: Option<u32>,
    /// `--time`.
    pub limit: Option<Span>,
    /// `--distribution`.
    pub distribution: Option<Box<str>>,
    /// Directory.
    pub work_dir: Box<str>,
    /// Command line.
    pub submit_line: Box<str>,
    /// The encoded TaskLaunch, stored as a body by the shell.
    pub launch: Option<BodyHash>,
}

/// A change of accounting data: the row as it shall be, or `None` to delete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// A cluster.
    Cluster(Box<str>, Option<Attributes>),
    /// An account.
    Account(Box<str>, Option<Account>),
    /// A user.
    User(Box<str>, Option<User>),
    /// An association.
    Association(AssociationKey, Option<Association>),
    /// A QOS.
    Qos(Box<str>, Option<Qos>),
}

/// An executor's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The shell's number for the session; answered by `Effect::Session`.
    pub session: u64,
    /// Node name.
    pub name: Box<str>,
    /// Boot id.
    pub boot: BootId,
    /// Spool id.
    pub spool: SpoolId,
    /// All runs that it knows.
    pub runs: Vec<(RunKey, Report)>,
    /// What it observed.
    pub observed: Arc<Observed>,
    /// What it has, for a node that no configuration names.
    pub definition: Arc<NodeDefinition>,
}

/// How far a run is, as its executor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Logged, not begun.
    Intended,
    /// The same, and what is done for it meanwhile.
    Preparing(Box<str>),
    /// Its processes were started.
    Begun {
        /// When.
        at: Timestamp,
    },
    /// It is over.
    Ended(Box<RunOutcome>),
    /// The executor cannot tell (a new spool under the same boot).
    Unknown,
}

/// How a run on one node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// By what.
    pub kind: OutcomeKind,
    /// Status of the batch script, or the highest of the tasks.
    pub exit: ExitStatus,
    /// When it ended.
    pub ended: Timestamp,
    /// Path and error of a failed launch, and the like.
    pub detail: Box<str>,
    /// What it used.
    pub usage: crate::state::job::Usage,
    /// A stop had been asked for before it ended.
    pub stop_requested: bool,
    /// What the kernel held it to, in words; empty: nothing was limited.
    pub held: Box<str>,
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Its processes ended by themselves.
    Exited,
    /// Its time was over.
    TimeLimit,
    /// It was cancelled.
    Cancelled,
    /// It could not be started.
    LaunchFailed,
    /// Its supervisor was lost.
    Lost,
    /// It used more memory than it had.
    OutOfMemory,
    /// It was not started, as the node's prolog failed.
    PrologFailed,
    /// It was not started, as the node's disk takes nothing.
    NodeUnable,
}

/// What the planner proposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs to start now, in order.
    pub starts: Vec<PlannedStart>,
    /// Promises that are made, moved or dropped; `None`: all stand.
    pub promises: Option<PlannedPromises>,
    /// Jobs that make room by being requeued.
    pub defragment: Option<Defragment>,
}

impl Plan {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.promises.is_none() && self.defragment.is_none()
    }
}

/// Slices that are moved so that a large one finds room; all of it is done or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defragment {
    /// Who waits for the room.
    pub room_for: JobId,
    /// Who is requeued.
    pub moved: Vec<JobId>,
    /// What that one gains: seconds of waiting times its memory slices.
    pub gain: i64,
    /// What is lost: seconds of run time times memory slices, making and removing slices included.
    pub cost: i64,
}

/// What becomes of promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedPromises {
    /// By job, in the order of the queue.
    pub changes: Vec<PromiseChange>,
    /// Since when time is given back that was not looked at yet.
    pub given_back: Option<Timestamp>,
}

/// A job to start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStart {
    /// The job, or the array whose next element starts.
    pub job: JobId,
    /// Where.
    pub partition: PartitionIdx,
    /// With what.
    pub allocation: Allocation,
    /// A limit below the job's own, which `--time-min` lets it have where it cannot start otherwise; `None`: its own.
    pub shortened: Option<Span>,
}
