//! Why a request is refused: one closed list with Slurm's error number and exact text.
//!
//! A refusal is a normal answer, not a fault: nothing was stored. Numbers and texts are those of
//! `slurm_errno.h` and `scontrol errnumstr` (facts that clients print and exit with).

use std::fmt;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal { $($(#[$doc])* $name),* }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Slurm's error number; on the wire a refusal is this number.
            #[must_use]
            pub fn number(self) -> u32 {
                match self { $(Self::$name => $number),* }
            }

            /// Slurm's text.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

refusals! {
    /// Slurm says no more than this.
    Unspecified = 4_294_967_295, "Unspecified error";
    /// The partition does not exist.
    InvalidPartitionName = 2000, "Invalid partition name specified";
    /// No partition was named and there is no default one.
    DefaultPartitionNotSet = 2001, "No partition specified or system default partition";
    /// The asker may not do this.
    AccessDenied = 2002, "Access/permission denied";
    /// The user's groups may not use the partition.
    PartitionGroup = 2003, "User's group not permitted to use this partition";
    /// Named nodes are not in the partition.
    NodesNotInPartition = 2004, "Requested nodes not in this partition";
    /// More processors than permitted.
    TooManyCpus = 2005, "More processors requested than permitted";
    /// The node count makes no sense.
    InvalidNodeCount = 2006, "Node count specification invalid";
    /// There is no script.
    ScriptMissing = 2009, "Batch job script missing";
    /// The user id is not valid here.
    UserIdMissing = 2010, "Invalid user id";
    /// A path, the script or the environment is too long.
    TooLong = 2012, "Pathname of a file, directory or other parameter too long";
    /// Immediate start is impossible: others come first.
    NotTopPriority = 2013, "Immediate execution impossible, insufficient priority";
    /// No node, however idle, could run it.
    NodeConfigUnavailable = 2014, "Requested node configuration is not available";
    /// The partition cannot run it now.
    PartitionConfigUnavailable = 2015, "Requested partition configuration not available now";
    /// The nodes are in use.
    NodesBusy = 2016, "Requested nodes are busy";
    /// No such job.
    InvalidJobId = 2017, "Invalid job id specified";
    /// No such node.
    InvalidNodeName = 2018, "Invalid node name specified";
    /// The job is changing state.
    TransitionState = 2020, "Job can not be altered now, try again later";
    /// It has ended, or is ending.
    AlreadyDone = 2021, "Job/step already completing or completed";
    /// It has not started.
    JobPending = 2024, "Job is pending execution";
    /// The job's script cannot be had.
    JobScriptUnavailable = 9004, "Job script not available";
    /// It is running.
    JobNotPending = 2073, "Job is no longer pending execution";
    /// The time limit makes no sense or is too large.
    InvalidTimeLimit = 2051, "Requested time limit is invalid (missing or exceeds some limit)";
    /// It is not running.
    JobNotRunning = 2085, "Job is not running";
    /// It is not suspended.
    JobNotSuspended = 2087, "Job is not suspended";
    /// More memory than the allocation has.
    MemoryUnavailable = 2044, "Memory required by task is not available";
    /// The partition takes no submissions.
    PartitionNotAvailable = 2070, "Required partition not available (inactive or drain)";
    /// Jobs need the partition.
    PartitionInUse = 2075, "Partition is in use";
    /// A weight of a partition's billing is none, or of a resource of no known kind.
    InvalidTresBillingWeights = 2116, "Invalid TRESBillingWeights specification";
    /// The node state makes no sense, or its reason is missing.
    InvalidNodeState = 2028, "Invalid node state specified";
    /// The node is in service: there is nothing to resume.
    InvalidNodeStateTransition = 2180, "Invalid node state transition";
    /// A minimal time that the job's limit, or its deadline, does not leave.
    InvalidTimeMin = 2124, "Invalid time-min specification (exceeds job's time or other limits)";
    /// The job is not pending nor running.
    JobNotPendingNorRunning = 2086, "Job is not pending nor running";
    /// The account is not known for this user.
    InvalidAccount = 2045, "Invalid account or account/partition combination specified";
    /// The dependency makes no sense.
    InvalidDependency = 2038, "Job dependency problem";
    /// The licenses are not known.
    InvalidLicenses = 2048, "Invalid license specification";
    /// The job may not be requeued, or the request cannot be done.
    Disabled = 2037, "Requested operation is presently disabled";
    /// The features are not known.
    InvalidFeature = 2029, "Invalid feature specification";
    /// The QOS is not known for this user.
    InvalidQos = 2066, "Invalid qos specification";
    /// The generic resource is not known.
    InvalidGres = 2072, "Invalid generic resource (gres) specification";
    /// The user or account may not use the reservation.
    ReservationAccess = 2052, "Access denied to requested reservation";
    /// The reservation is not there.
    ReservationInvalid = 2053, "Requested reservation is invalid";
    /// A time that makes no sense.
    InvalidTimeValue = 2054, "Invalid time specified";
    /// Jobs use the reservation.
    ReservationBusy = 2055, "Requested reservation is in use";
    /// Another reservation has the nodes then.
    ReservationOverlap = 2058, "Requested reservation overlaps with another reservation";
    /// The array text makes no sense or an index is too large.
    InvalidArray = 2081, "Invalid job array specification";
    /// The scheduler has as many jobs as it may hold.
    TooManyJobs = 2007, "Slurm temporarily unable to accept job, sleeping and retrying";
    /// Only operators lower the nice value.
    InvalidNice = 2123, "Invalid --nice value";
    /// The job is held: its owner gives it no priority.
    JobHeld = 2042, "Job is in held state, pending scheduler release";
    /// A running job's priority is of no use.
    PriorityOfRunning = 2095, "Changes to job priority are not persistent, change nice instead";
    /// This system does not do it.
    NotHere = 2036, "Requested operation not supported on this system";
    /// A reservation of that name is there.
    DuplicateReservation = 2082, "Duplicate reservation name";
    /// The circular dependency is refused.
    CircularDependency = 2071, "Circular job dependency";
    /// A limit of the association or QOS.
    AccountingPolicy = 2050, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
    /// No step of that id.
    InvalidStepId = 9005, "Invalid job step specified";
    /// The scheduler's disk is full; nothing was stored.
    DiskFull = 9001, "The scheduler has no space left to store a job";
    /// The key was used for another request.
    KeyReused = 9002, "The request key was used for another request";
    /// This part of Slurm is not built here.
    NotSupported = 9003, "This is not supported by sluice";
}

impl Refusal {
    /// The refusal of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|refusal| refusal.number() == number)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_one_refusal_each() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_number(refusal.number()), Some(*refusal), "{refusal}");
        }
    }
}
