//! The states of a job as users see them, with Slurm's long and short texts.

use std::fmt;

/// State of a job or step as shown. Source: `man squeue`, JOB STATE CODES.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Waits for resources or for something else; see its reason.
    Pending,
    /// Has an allocation.
    Running,
    /// Has an allocation, its processes are stopped.
    Suspended,
    /// All processes ended with exit code zero.
    Completed,
    /// Ended by its user, an operator or an administrator.
    Cancelled,
    /// Ended with a code other than zero, or by a signal of its own.
    Failed,
    /// Ended at its time limit.
    Timeout,
    /// A node of it failed.
    NodeFail,
    /// Ended to make room.
    Preempted,
    /// Could not boot its nodes.
    BootFail,
    /// Would have ended after its deadline.
    Deadline,
    /// Ended for using more memory than it was given.
    OutOfMemory,
    /// Is ending: its processes or epilog are not done on every node.
    Completing,
    /// Has an allocation that is being made ready.
    Configuring,
    /// Was put back into the queue (history only).
    Requeued,
    /// Was put back into the queue and is held.
    RequeueHold,
    /// Held after a special exit code.
    SpecialExit,
    /// Its allocation was taken away by a resize (history only).
    Resizing,
}

impl JobState {
    /// Every state, in the order of Slurm's own numbering where it has one.
    pub const ALL: [Self; 18] = [
        Self::Pending,
        Self::Running,
        Self::Suspended,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Timeout,
        Self::NodeFail,
        Self::Preempted,
        Self::BootFail,
        Self::Deadline,
        Self::OutOfMemory,
        Self::Completing,
        Self::Configuring,
        Self::Requeued,
        Self::RequeueHold,
        Self::SpecialExit,
        Self::Resizing,
    ];

    /// The long text, as `squeue -o %T` prints it.
    #[must_use]
    pub fn long(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Suspended => "SUSPENDED",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::NodeFail => "NODE_FAIL",
            Self::Preempted => "PREEMPTED",
            Self::BootFail => "BOOT_FAIL",
            Self::Deadline => "DEADLINE",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::Completing => "COMPLETING",
            Self::Configuring => "CONFIGURING",
            Self::Requeued => "REQUEUED",
            Self::RequeueHold => "REQUEUE_HOLD",
            Self::SpecialExit => "SPECIAL_EXIT",
            Self::Resizing => "RESIZING",
        }
    }

    /// The short text, as `squeue -o %t` prints it.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Pending => "PD",
            Self::Running => "R",
            Self::Suspended => "S",
            Self::Completed => "CD",
            Self::Cancelled => "CA",
            Self::Failed => "F",
            Self::Timeout => "TO",
            Self::NodeFail => "NF",
            Self::Preempted => "PR",
            Self::BootFail => "BF",
            Self::Deadline => "DL",
            Self::OutOfMemory => "OOM",
            Self::Completing => "CG",
            Self::Configuring => "CF",
            Self::Requeued => "RQ",
            Self::RequeueHold => "RH",
            Self::SpecialExit => "SE",
            Self::Resizing => "RS",
        }
    }

    /// Whether the job has ended for good in this state.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Cancelled
                | Self::Failed
                | Self::Timeout
                | Self::NodeFail
                | Self::Preempted
                | Self::BootFail
                | Self::Deadline
                | Self::OutOfMemory
        )
    }

    /// Reads a long or short text, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.long().eq_ignore_ascii_case(text) || state.short().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.long())
    }
}
