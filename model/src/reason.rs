//! Why a job waits, or how it ended, in Slurm's one-word codes.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A reason code as `squeue -o %r` prints it. Source: `man squeue`, JOB REASON CODES.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Slurm's text.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// Nothing to say.
    #[default]
    None = "None",
    /// Jobs of higher priority wait for the same partition.
    Priority = "Priority",
    /// The resources are in use.
    Resources = "Resources",
    /// A dependency is not met yet.
    Dependency = "Dependency",
    /// A dependency can never be met.
    DependencyNeverSatisfied = "DependencyNeverSatisfied",
    /// Its begin time is ahead.
    BeginTime = "BeginTime",
    /// Held by its user.
    JobHeldUser = "JobHeldUser",
    /// Held by an administrator.
    JobHeldAdmin = "JobHeldAdmin",
    /// Its array runs as many elements as it may.
    JobArrayTaskLimit = "JobArrayTaskLimit",
    /// Licenses are in use.
    Licenses = "Licenses",
    /// The partition is down.
    PartitionDown = "PartitionDown",
    /// The partition is inactive.
    PartitionInactive = "PartitionInactive",
    /// The partition allows fewer nodes.
    PartitionNodeLimit = "PartitionNodeLimit",
    /// The partition allows less time.
    PartitionTimeLimit = "PartitionTimeLimit",
    /// The partition does not take this request.
    PartitionConfig = "PartitionConfig",
    /// A needed node is down, drained or reserved.
    ReqNodeNotAvail = "ReqNodeNotAvail",
    /// A node of it failed.
    NodeDown = "NodeDown",
    /// The request cannot be placed on any node.
    BadConstraints = "BadConstraints",
    /// Its reservation is not there yet.
    Reservation = "Reservation",
    /// Its reservation was deleted.
    ReservationDeleted = "ReservationDeleted",
    /// Ended with a code other than zero.
    NonZeroExitCode = "NonZeroExitCode",
    /// Ended by a signal.
    RaisedSignal = "RaisedSignal",
    /// Ended at its time limit.
    TimeLimit = "TimeLimit",
    /// Ended at its deadline.
    DeadLine = "DeadLine",
    /// Its step could not be started.
    JobLaunchFailure = "JobLaunchFailure",
    /// Ended for its memory use.
    OutOfMemory = "OutOfMemory",
    /// Its nodes could not be made ready.
    Prolog = "Prolog",
    /// It is being ended.
    Cleaning = "Cleaning",
    /// Its account is unknown.
    InvalidAccount = "InvalidAccount",
    /// Its QOS is unknown.
    InvalidQOS = "InvalidQOS",
    /// The association's job limit is reached.
    AssocMaxJobsLimit = "AssocMaxJobsLimit",
    /// The QOS's job limit for one user is reached.
    QOSMaxJobsPerUserLimit = "QOSMaxJobsPerUserLimit",
    /// The QOS's CPU limit for one user is reached.
    QOSMaxCpuPerUserLimit = "QOSMaxCpuPerUserLimit",
    /// The QOS's GRES limit for one user is reached.
    QOSMaxGRESPerUser = "QOSMaxGRESPerUser",
    /// Running jobs: the QOS's limit for all its jobs.
    QOSGrpJobsLimit = "QOSGrpJobsLimit",
    /// Submitted jobs: the QOS's limit for all its jobs.
    QOSGrpSubmitJobsLimit = "QOSGrpSubmitJobsLimit",
    /// CPUs: the QOS's limit for all its jobs.
    QOSGrpCpuLimit = "QOSGrpCpuLimit",
    /// Memory: the QOS's limit for all its jobs.
    QOSGrpMemLimit = "QOSGrpMemLimit",
    /// Nodes: the QOS's limit for all its jobs.
    QOSGrpNodeLimit = "QOSGrpNodeLimit",
    /// Billing: the QOS's limit for all its jobs.
    QOSGrpBilling = "QOSGrpBilling",
    /// Generic resources: the QOS's limit for all its jobs.
    QOSGrpGRES = "QOSGrpGRES",
    /// CPUs of one job: the QOS's limit.
    QOSMaxCpuPerJobLimit = "QOSMaxCpuPerJobLimit",
    /// Memory of one job: the QOS's limit.
    QOSMaxMemoryPerJob = "QOSMaxMemoryPerJob",
    /// Nodes of one job: the QOS's limit.
    QOSMaxNodePerJobLimit = "QOSMaxNodePerJobLimit",
    /// Billing of one job: the QOS's limit.
    QOSMaxBillingPerJob = "QOSMaxBillingPerJob",
    /// Generic resources of one job: the QOS's limit.
    QOSMaxGRESPerJob = "QOSMaxGRESPerJob",
    /// CPUs on one node: the QOS's limit.
    QOSMaxCpuPerNode = "QOSMaxCpuPerNode",
    /// Memory on one node: the QOS's limit.
    QOSMaxMemoryPerNode = "QOSMaxMemoryPerNode",
    /// Billing on one node: the QOS's limit.
    QOSMaxBillingPerNode = "QOSMaxBillingPerNode",
    /// Generic resources on one node: the QOS's limit.
    QOSMaxGRESPerNode = "QOSMaxGRESPerNode",
    /// Running jobs of one account: the QOS's limit.
    MaxJobsPerAccount = "MaxJobsPerAccount",
    /// Submitted jobs of one account: the QOS's limit.
    MaxSubmitJobsPerAccount = "MaxSubmitJobsPerAccount",
    /// CPUs of one account: the QOS's limit.
    MaxCpuPerAccount = "MaxCpuPerAccount",
    /// Memory of one account: the QOS's limit.
    MaxMemoryPerAccount = "MaxMemoryPerAccount",
    /// Nodes of one account: the QOS's limit.
    MaxNodePerAccount = "MaxNodePerAccount",
    /// Billing of one account: the QOS's limit.
    MaxBillingPerAccount = "MaxBillingPerAccount",
    /// Generic resources of one account: the QOS's limit.
    MaxGRESPerAccount = "MaxGRESPerAccount",
    /// Memory of one user: the QOS's limit.
    QOSMaxMemoryPerUser = "QOSMaxMemoryPerUser",
    /// Nodes of one user: the QOS's limit.
    QOSMaxNodePerUserLimit = "QOSMaxNodePerUserLimit",
    /// Billing of one user: the QOS's limit.
    QOSMaxBillingPerUser = "QOSMaxBillingPerUser",
    /// Submitted jobs of one user: the QOS's limit.
    QOSMaxSubmitJobPerUserLimit = "QOSMaxSubmitJobPerUserLimit",
    /// CPUs: less than the QOS's least.
    QOSMinCpuNotSatisfied = "QOSMinCpuNotSatisfied",
    /// Memory: less than the QOS's least.
    QOSMinMemory = "QOSMinMemory",
    /// Nodes: less than the QOS's least.
    QOSMinNode = "QOSMinNode",
    /// Billing: less than the QOS's least.
    QOSMinBilling = "QOSMinBilling",
    /// Generic resources: less than the QOS's least.
    QOSMinGRES = "QOSMinGRES",
    /// Running jobs: the association's limit for all its jobs.
    AssocGrpJobsLimit = "AssocGrpJobsLimit",
    /// Submitted jobs: the association's limit for all its jobs.
    AssocGrpSubmitJobsLimit = "AssocGrpSubmitJobsLimit",
    /// CPUs: the association's limit for all its jobs.
    AssocGrpCpuLimit = "AssocGrpCpuLimit",
    /// Memory: the association's limit for all its jobs.
    AssocGrpMemLimit = "AssocGrpMemLimit",
    /// Nodes: the association's limit for all its jobs.
    AssocGrpNodeLimit = "AssocGrpNodeLimit",
    /// Billing: the association's limit for all its jobs.
    AssocGrpBilling = "AssocGrpBilling",
    /// Generic resources: the association's limit for all its jobs.
    AssocGrpGRES = "AssocGrpGRES",
    /// Submitted jobs: the association's limit.
    AssocMaxSubmitJobLimit = "AssocMaxSubmitJobLimit",
    /// Run time of one job: the association's limit.
    AssocMaxWallDurationPerJobLimit = "AssocMaxWallDurationPerJobLimit",
    /// CPUs of one job: the association's limit.
    AssocMaxCpuPerJobLimit = "AssocMaxCpuPerJobLimit",
    /// Memory of one job: the association's limit.
    AssocMaxMemPerJob = "AssocMaxMemPerJob",
    /// Nodes of one job: the association's limit.
    AssocMaxNodePerJobLimit = "AssocMaxNodePerJobLimit",
    /// Billing of one job: the association's limit.
    AssocMaxBillingPerJob = "AssocMaxBillingPerJob",
    /// Generic resources of one job: the association's limit.
    AssocMaxGRESPerJob = "AssocMaxGRESPerJob",
    /// CPUs on one node: the association's limit.
    AssocMaxCpuPerNode = "AssocMaxCpuPerNode",
    /// Memory on one node: the association's limit.
    AssocMaxMemPerNode = "AssocMaxMemPerNode",
    /// CPUs: the QOS's minutes for all its jobs are used up.
    QOSGrpCPUMinutesLimit = "QOSGrpCPUMinutesLimit",
    /// Memory: the QOS's minutes for all its jobs are used up.
    QOSGrpMemoryMinutes = "QOSGrpMemoryMinutes",
    /// Nodes: the QOS's minutes for all its jobs are used up.
    QOSGrpNodeMinutes = "QOSGrpNodeMinutes",
    /// Billing: the QOS's minutes for all its jobs are used up.
    QOSGrpBillingMinutes = "QOSGrpBillingMinutes",
    /// Generic resources: the QOS's minutes for all its jobs are used up.
    QOSGrpGRESMinutes = "QOSGrpGRESMinutes",
    /// CPUs: the minutes that the QOS's jobs may still run.
    QOSGrpCPURunMinutesLimit = "QOSGrpCPURunMinutesLimit",
    /// Memory: the minutes that the QOS's jobs may still run.
    QOSGrpMemoryRunMinutes = "QOSGrpMemoryRunMinutes",
    /// Nodes: the minutes that the QOS's jobs may still run.
    QOSGrpNodeRunMinutes = "QOSGrpNodeRunMinutes",
    /// Billing: the minutes that the QOS's jobs may still run.
    QOSGrpBillingRunMinutes = "QOSGrpBillingRunMinutes",
    /// Generic resources: the minutes that the QOS's jobs may still run.
    QOSGrpGRESRunMinutes = "QOSGrpGRESRunMinutes",
    /// CPUs: the QOS's minutes for one job.
    QOSMaxCpuMinutesPerJobLimit = "QOSMaxCpuMinutesPerJobLimit",
    /// Memory: the QOS's minutes for one job.
    QOSMaxMemoryMinutesPerJob = "QOSMaxMemoryMinutesPerJob",
    /// Nodes: the QOS's minutes for one job.
    QOSMaxNodeMinutesPerJob = "QOSMaxNodeMinutesPerJob",
    /// Billing: the QOS's minutes for one job.
    QOSMaxBillingMinutesPerJob = "QOSMaxBillingMinutesPerJob",
    /// Generic resources: the QOS's minutes for one job.
    QOSMaxGRESMinutesPerJob = "QOSMaxGRESMinutesPerJob",
    /// CPUs: the association's minutes for all its jobs are used up.
    AssocGrpCPUMinutesLimit = "AssocGrpCPUMinutesLimit",
    /// Memory: the association's minutes for all its jobs are used up.
    AssocGrpMemMinutes = "AssocGrpMemMinutes",
    /// Nodes: the association's minutes for all its jobs are used up.
    AssocGrpNodeMinutes = "AssocGrpNodeMinutes",
    /// Billing: the association's minutes for all its jobs are used up.
    AssocGrpBillingMinutes = "AssocGrpBillingMinutes",
    /// Generic resources: the association's minutes for all its jobs are used up.
    AssocGrpGRESMinutes = "AssocGrpGRESMinutes",
    /// CPUs: the minutes that the association's jobs may still run.
    AssocGrpCPURunMinutesLimit = "AssocGrpCPURunMinutesLimit",
    /// Memory: the minutes that the association's jobs may still run.
    AssocGrpMemRunMinutes = "AssocGrpMemRunMinutes",
    /// Nodes: the minutes that the association's jobs may still run.
    AssocGrpNodeRunMinutes = "AssocGrpNodeRunMinutes",
    /// Billing: the minutes that the association's jobs may still run.
    AssocGrpBillingRunMinutes = "AssocGrpBillingRunMinutes",
    /// Generic resources: the minutes that the association's jobs may still run.
    AssocGrpGRESRunMinutes = "AssocGrpGRESRunMinutes",
    /// CPUs: the association's minutes for one job.
    AssocMaxCpuMinutesPerJobLimit = "AssocMaxCpuMinutesPerJobLimit",
    /// Memory: the association's minutes for one job.
    AssocMaxMemMinutesPerJob = "AssocMaxMemMinutesPerJob",
    /// Nodes: the association's minutes for one job.
    AssocMaxNodeMinutesPerJob = "AssocMaxNodeMinutesPerJob",
    /// Billing: the association's minutes for one job.
    AssocMaxBillingMinutesPerJob = "AssocMaxBillingMinutesPerJob",
    /// Generic resources: the association's minutes for one job.
    AssocMaxGRESMinutesPerJob = "AssocMaxGRESMinutesPerJob",
    /// Wall time: the QOS's minutes for all its jobs are used up.
    QOSGrpWallLimit = "QOSGrpWallLimit",
    /// Wall time: the association's minutes for all its jobs are used up.
    AssocGrpWallLimit = "AssocGrpWallLimit",
    /// Billing on one node: the association's limit.
    AssocMaxBillingPerNode = "AssocMaxBillingPerNode",
    /// Generic resources on one node: the association's limit.
    AssocMaxGRESPerNode = "AssocMaxGRESPerNode",
    /// The QOS's limit of run time is exceeded.
    QOSMaxWallDurationPerJobLimit = "QOSMaxWallDurationPerJobLimit",
    /// The job was put back and held after its launch failed.
    LaunchFailedRequeuedHeld = "launch failed requeued held",
    /// The job was put back and held (`scontrol requeuehold`).
    RequeuedHeld = "job requeued in held state",
    /// The job was put back and held after a special exit code.
    SpecialExit = "SpecialExit",
    /// The job was requeued too often.
    JobHoldMaxRequeue = "JobHoldMaxRequeue",
    /// The scheduler stopped at this job and put it aside.
    SchedulerFault = "SchedulerFault",
}

impl Reason {
    /// Reads Slurm's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.text() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}
