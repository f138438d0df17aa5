//! What is now true: the only things that change `State`, and the only things that are stored.
//!
//! A record carries facts, never inputs to a formula, so that a newer version replays a journal to the
//! same state. A snapshot is a list of records too ([`crate::state::State::to_records`]).

use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{Epoch, JobId, NodeIdx, PartitionIdx, RunNumber, StepId, TaskIndex, Uid};
use model::job::JobState;
use model::time::{Span, Timestamp};

use crate::allocation::Allocation;
use crate::effect::RunKey;
use crate::gpu;
use crate::plan::policy::Prediction;
use crate::state::ArraySummary;
use crate::state::accounts::{Account, Association, AssociationKey, Attributes, Qos, User};
use crate::state::aging::Aging;
use crate::state::job::{Ended, Finish, Hold, Job, Limit, Pending, Step, StopCause, Usage};
use crate::state::node::{Admin, Incarnation, Link, NodeDefinition, Observed};
use crate::state::partition::PartitionDefinition;
use crate::state::prediction::LastRuns;
use crate::state::promise::PromiseChange;
use crate::state::reservation::Reservation;
use crate::state::spent::Charge;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Time of the records that follow; never decreases.
    Time(Timestamp),
    /// What was asked of GPUs that are cut, and the weights by which their starts are chosen from now on.
    SlicesAsked {
        /// All of it.
        asked: gpu::mix::Observed,
        /// By profile, in table order.
        told: [u32; 6],
    },
    /// How priorities grow with age, and when full-grown jobs were compared: the queue is sorted by it.
    Aging(Aging),
    /// Which predictions of run times are made from now on; what was learnt for others is forgotten.
    Predicting(Prediction),
    /// What the last runs of a user took (snapshots; else `JobEnded` says it).
    LastRuns(Uid, LastRuns),
    /// A new owner of the journal.
    Owner(Epoch),
    /// The id that is tried first for the next job.
    NextJobId(u32),
    /// The state was restored from a backup; ids below this one may have been issued since that was made, and runs of
    /// them that the state does not know are left alone.
    Restored(u32),
    /// An executor shows a run that the restored state does not know, or shows it no more.
    Stranger {
        /// Where.
        node: NodeIdx,
        /// Which.
        run: RunKey,
        /// Whether it is there.
        there: bool,
    },
    /// The wall clock was set, or the machine slept: wall time is so far ahead of the times in these records (behind,
    /// if negative), from now on.
    WallAhead(Span),

    /// This is the node at this place now: new, or redefined. What jobs hold of it stays.
    NodeDefined {
        /// Its place.
        node: NodeIdx,
        /// What it has.
        definition: Arc<NodeDefinition>,
        /// The configuration no longer names it.
        removed: bool,
    },
    /// The administrator's (or the health check's) word on a node.
    NodeAdmin {
        /// The node.
        node: NodeIdx,
        /// All of it.
        admin: Admin,
    },
    /// Whether the executor is there.
    NodeLink {
        /// The node.
        node: NodeIdx,
        /// How.
        link: Link,
    },
    /// An executor registered.
    NodeRegistered {
        /// The node.
        node: NodeIdx,
        /// Who it is.
        incarnation: Incarnation,
        /// What it observed.
        observed: Arc<Observed>,
    },
    /// When the last job on the node ended (snapshots; else `JobEnded` says it).
    NodeBusy {
        /// The node.
        node: NodeIdx,
        /// When.
        at: Timestamp,
    },

    /// This is the partition at this place now.
    PartitionDefined {
        /// Its place.
        partition: PartitionIdx,
        /// Its rules.
        definition: Arc<PartitionDefinition>,
        /// Not from the configuration file.
        changed_at_run_time: bool,
    },
    /// The partition is gone.
    PartitionRemoved(PartitionIdx),

    /// A run has ended that used so much (in snapshots: all runs so far).
    Charged(Box<Charge>),

    /// This is the reservation of that name now; `None`: it is gone.
    Reservation(Box<str>, Option<Arc<Reservation>>),

    /// How often ids have come round (snapshots; else `NextJobId` says it).
    IdWraps(u32),

    /// This is the job now, all of it: a new one, a changed one, one of a snapshot.
    Job(Arc<Job>),
    /// An array as a whole (snapshots).
    Array {
        /// Its id.
        array: JobId,
        /// What is known of it.
        summary: ArraySummary,
    },
    /// An element leaves the waiting record and has a record of its own from now on.
    ///
    /// If `id` is the array's own id, it is the last one and the record itself becomes the element.
    ElementSplit {
        /// The array.
        array: JobId,
        /// Which element.
        index: TaskIndex,
        /// Its job id.
        id: JobId,
    },
    /// Priority and hold of a waiting job (or of a running one, for its next run).
    JobPriority {
        /// The job.
        job: JobId,
        /// New priority.
        priority: u32,
        /// New hold.
        hold: Hold,
    },
    /// What a waiting job waits for.
    JobWaits {
        /// The job.
        job: JobId,
        /// All of it.
        pending: Pending,
    },
    /// A job starts: decided, durable before the launch leaves.
    JobStarted {
        /// The job.
        job: JobId,
        /// Number of this run.
        run: RunNumber,
        /// Where.
        partition: PartitionIdx,
        /// What it holds.
        allocation: Allocation,
        /// When.
        start: Timestamp,
        /// Limit of this run.
        limit: Option<Span>,
    },
    /// The limit of a running job was changed.
    JobLimit {
        /// The job.
        job: JobId,
        /// For the next run.
        limit: Limit,
        /// Of this run.
        running: Option<Span>,
    },
    /// Something is done for it before its batch script begins (an image is converted), or that is over.
    JobConfiguring {
        /// The job.
        job: JobId,
        /// What, for its users; `None`: it begins.
        what: Option<Box<str>>,
        /// When; the start of the run where it begins.
        at: Timestamp,
    },
    /// Its processes are stopped (`true`) or go on.
    JobSuspended {
        /// The job.
        job: JobId,
        /// Stopped.
        suspended: bool,
        /// When.
        at: Timestamp,
    },
    /// How a running job will end is decided.
    JobFinishing {
        /// The job.
        job: JobId,
        /// How.
        finish: Finish,
    },
    /// All its processes are gone; its resources are free.
    JobEnded {
        /// The job.
        job: JobId,
        /// How it ended; the state shares it.
        ended: Arc<Ended>,
    },
    /// It goes back to the queue; its resources are free. The run that ended is in `ended`.
    JobRequeued {
        /// The job.
        job: JobId,
        /// The run that ended; the state says why (REQUEUED, PREEMPTED, NODE_FAIL).
        ended: Arc<Ended>,
        /// What it waits for now.
        pending: Pending,
        /// Priority from now on.
        priority: u32,
        /// Hold from now on.
        hold: Hold,
    },
    /// MinJobAge has passed: it leaves `State`.
    JobPurged(JobId),
    /// What a pass promised, moved or dropped; jobs that it does not name keep their promises.
    Promises {
        /// By job.
        changes: Vec<PromiseChange>,
        /// Since when time is given back that no promise was moved to yet.
        given_back: Option<Timestamp>,
    },

    /// A step was made in a running job.
    StepCreated {
        /// The job.
        job: JobId,
        /// The step; its parts are `Ordered`. The state shares it.
        step: Arc<Step>,
    },
    /// A part of a step has begun on its node.
    StepBegun {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// The node.
        node: NodeIdx,
    },
    /// What became of a part is not known.
    StepUnknown {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// The node.
        node: NodeIdx,
    },
    /// A part of a step has ended.
    StepNodeEnded {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// The node.
        node: NodeIdx,
        /// Highest status of its tasks there.
        exit: ExitStatus,
        /// What it used there.
        usage: Usage,
        /// What it was held to there, in words.
        held: Box<str>,
    },
    /// A stop of the step was ordered.
    StepStopping {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// Why.
        cause: StopCause,
        /// Who.
        by: Option<Uid>,
    },
    /// All parts have ended.
    StepEnded {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// Shown state.
        state: JobState,
        /// Highest status.
        exit: ExitStatus,
        /// When.
        at: Timestamp,
    },

    /// Accounting data: this is the row now (`None`: it is gone).
    Cluster(Box<str>, Option<Attributes>),
    /// An account.
    Account(Box<str>, Option<Box<Account>>),
    /// A user.
    User(Box<str>, Option<Box<User>>),
    /// An association.
    Association(Box<AssociationKey>, Option<Box<Association>>),
    /// A QOS.
    Qos(Box<str>, Option<Box<Qos>>),
    /// Numbers of the next association and QOS (snapshots: a deleted row's number is not given again).
    AccountNumbers {
        /// Of the next association.
        association: u32,
        /// Of the next QOS.
        qos: u32,
    },
}
