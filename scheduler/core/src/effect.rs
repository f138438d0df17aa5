//! What the shell must do, after the records of the same call are on disk.
//!
//! Effects are never queued across a crash or a lost session: what executors must know is derived
//! from `State` again when they connect. Every effect may be repeated.

use std::sync::Arc;

use model::id::{JobId, NodeIdx, RunNumber, StepId, TaskIndex, Uid};
use model::refusal::Refusal;
use model::time::{Span, Timestamp};

use crate::allocation::Allocation;
use crate::state::job::StopCause;

/// Names a caller that waits for an answer; given by the shell, meaningless here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// One run of a step, on whatever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The job.
    pub job: JobId,
    /// Its step.
    pub step: StepId,
    /// Which run of the job.
    pub run: RunNumber,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the caller.
    Answer(ReplyTo, Answer),
    /// Have the executor start its part of a step. What it needs to know stands in `State`.
    Launch {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
    },
    /// End a run: TERM, the wait, KILL.
    Terminate {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
        /// Why.
        cause: StopCause,
        /// Time between TERM and KILL.
        kill_wait: Span,
        /// Said in the job's output.
        note: Box<str>,
    },
    /// Send one signal.
    Signal {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
        /// Its number.
        signal: u8,
        /// To the batch shell alone.
        batch_only: bool,
        /// To the batch shell too.
        full: bool,
    },
    /// Stop (`true`) or continue the processes.
    Suspend {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
        /// Stop.
        suspend: bool,
    },
    /// The limit is this now, counted from the run's begin.
    ChangeLimit {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
        /// `None`: unlimited.
        limit: Option<Span>,
    },
    /// The outcome is durable here: the executor may collect it.
    Acknowledge {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
    },
    /// Print a line to the job (`scontrol notify`).
    Announce {
        /// Where.
        node: NodeIdx,
        /// What.
        run: RunKey,
        /// The line.
        text: Box<str>,
    },
    /// Run one of the site's programs beside the scheduler (PrologSlurmctld, EpilogSlurmctld), or end it. Its end is
    /// [`Input::HookEnded`](crate::input::Input::HookEnded). One that runs already is not started again.
    Hook {
        /// The run that it is for; the step says which program.
        run: RunKey,
        /// It is not wanted any more.
        stop: bool,
    },
    /// The session of this node is accepted (`None`) or refused with a sentence.
    Session {
        /// The number that the shell gave the session.
        session: u64,
        /// Its node, if accepted.
        node: Option<NodeIdx>,
        /// Why not.
        refused: Option<Box<str>>,
    },
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The job exists.
    Submitted {
        /// Its id.
        job: JobId,
        /// To be printed, a line each.
        warnings: Vec<Box<str>>,
    },
    /// Nothing was stored.
    Refused(Refused),
    /// Each object of a control call with its own outcome.
    Outcomes(Vec<Outcome>),
    /// Where and when the job would start.
    WouldStart {
        /// When.
        start: Timestamp,
        /// CPUs.
        cpus: u32,
        /// Nodes, compressed.
        nodes: Box<str>,
        /// Partition.
        partition: Box<str>,
    },
    /// The step exists.
    StepCreated {
        /// Its id.
        step: StepId,
        /// What it holds, in rank order.
        allocation: Allocation,
        /// Ranks on each node.
        ranks: Vec<Vec<u32>>,
        /// Number of the run.
        run: RunNumber,
    },
    /// The allocation has no room for the step now.
    StepMustWait,
    /// Done.
    Done,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub refusal: Refusal,
    /// Printed before the code's text.
    pub lines: Vec<Box<str>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, lines: Vec::new() }
    }
}

/// Outcome for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// As Slurm names it.
    pub object: Box<str>,
    /// Why not, if not.
    pub refused: Option<Refused>,
}

/// Who asks, as the kernel or munge said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: model::id::Gid,
    /// Login name, looked up by the shell.
    pub name: Arc<str>,
    /// Names of the groups the user is in.
    pub groups: Arc<[Box<str>]>,
}

/// Which jobs a control call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Job or array.
    pub job: JobId,
    /// Elements of the array; `None`: all of it.
    pub tasks: Option<Vec<TaskIndex>>,
    /// A step; `None`: the job.
    pub step: Option<StepId>,
}
