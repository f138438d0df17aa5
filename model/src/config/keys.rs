//! Every key of slurm.conf that a release from 22.05 to 26.11 knows (and the obsolete ones that files
//! still carry): what its values look like, whether Sluice honours it, and what it prints when absent.
//!
//! A key that is not here stops the start. One that is [`Class::Unsupported`] is reported with what it
//! would have done. The table says what the product does: a feature that arrives changes its row.

/// What values of a key look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// A whole number from 0.
    Number,
    /// A whole number from 0, or UNLIMITED or INFINITE.
    NumberOrUnlimited,
    /// Seconds; printed with `sec`.
    Seconds,
    /// Minutes, or UNLIMITED; printed with `min`.
    Minutes,
    /// A length of time (`7-0`, `1:00:00`, minutes).
    Time,
    /// Megabytes.
    Mib,
    /// Yes or no, 1 or 0, true or false; printed as `1` or `0`.
    Flag01,
    /// The same, printed as `yes` or `no`.
    Flag,
    /// A port or `first-last`.
    Ports,
    /// One of these words, without regard to case.
    Word(&'static [&'static str]),
    /// A comma list of these words, without regard to case; each may carry `=value`.
    Words(&'static [&'static str]),
}

/// What Sluice makes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It does what Slurm's does.
    Done,
    /// It steers a mechanism that does not exist here, so nothing is lost: not reported.
    NoMeaning,
    /// It is not honoured: reported with what it would have done, unless the value is one of these.
    Unsupported(&'static str, &'static [&'static str]),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As the manual writes it.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What is made of it.
    pub class: Class,
    /// The value when absent, as written in a file; empty where there is none (`(null)`).
    pub default: &'static str,
}

/// The key of that name, without regard to case. Cost: O(keys).
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

const fn key(name: &'static str, kind: Kind, class: Class, default: &'static str) -> Key {
    Key { name, kind, class, default }
}

const fn lost(effect: &'static str) -> Class {
    Class::Unsupported(effect, &[])
}

const fn lost_but(effect: &'static str, harmless: &'static [&'static str]) -> Class {
    Class::Unsupported(effect, harmless)
}

use Class::{Done, NoMeaning};
use Kind::{Flag, Flag01, Mib, Minutes, Number, NumberOrUnlimited, Ports, Seconds, Text, Time, Word, Words};

const DEBUG_LEVELS: &[&str] = &[
    "quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5", "0", "1",
    "2", "3", "4", "5", "6", "7", "8", "9",
];
const PREEMPT_MODES: &[&str] = &["OFF", "CANCEL", "GANG", "REQUEUE", "SUSPEND", "WITHIN", "PRIORITY"];
const RLIMITS: &[&str] =
    &["ALL", "NONE", "AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK"];

/// The table, in alphabetical order, which is the order of `scontrol show config`.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("AccountingStorageBackupHost", Text, lost("a second slurmdbd to fall back to"), ""),
    key("AccountingStorageEnforce", Words(&["none", "associations", "limits", "nojobs", "nosteps", "qos", "safe", "wckeys", "all", "0", "1", "2"]), Done, "none"),
    key("AccountingStorageExternalHost", Text, lost("slurmdbd daemons of other sites"), ""),
    key("AccountingStorageHost", Text, NoMeaning, "localhost"),
    key("AccountingStorageLoc", Text, NoMeaning, ""),
    key("AccountingStorageParameters", Text, NoMeaning, ""),
    key("AccountingStoragePass", Text, NoMeaning, ""),
    key("AccountingStoragePort", Number, NoMeaning, "0"),
    key("AccountingStorageTRES", Text, Done, "cpu,mem,energy,node,billing,fs/disk,vmem,pages"),
    key("AccountingStorageType", Word(&["accounting_storage/none", "accounting_storage/slurmdbd", "accounting_storage/ctld_relay", "accounting_storage/filetxt", "accounting_storage/mysql"]), Done, ""),
    key("AccountingStorageUser", Text, NoMeaning, ""),
    key("AccountingStoreFlags", Words(&["job_comment", "job_env", "job_extra", "job_script", "no_stdio"]), Done, ""),
    key("AccountingStoreJobComment", Flag, lost("comments in accounting"), ""),
    key("AcctGatherEnergyType", Text, lost_but("energy readings of nodes and jobs", &["acct_gather_energy/none"]), ""),
    key("AcctGatherFilesystemType", Text, lost_but("file system counters of jobs", &["acct_gather_filesystem/none"]), ""),
    key("AcctGatherInfinibandType", Text, lost_but("network counters of jobs", &["acct_gather_infiniband/none"]), ""),
    key("AcctGatherInterconnectType", Text, lost_but("network counters of jobs", &["acct_gather_interconnect/none"]), ""),
    key("AcctGatherNodeFreq", Seconds, lost_but("how often energy is read", &["0"]), "0"),
    key("AcctGatherProfileType", Text, lost_but("time series of a job's use", &["acct_gather_profile/none"]), ""),
    key("AllowSpecResourcesUsage", Flag01, lost_but("--core-spec of jobs", &["0", "no"]), "no"),
    key("AuthAltParameters", Text, lost("token authentication beside munge"), ""),
    key("AuthAltTypes", Text, lost("token authentication beside munge"), ""),
    key("AuthInfo", Text, Done, ""),
    key("AuthType", Word(&["auth/munge", "auth/slurm", "auth/none"]), Done, "auth/munge"),
    key("BackupAddr", Text, lost("a second controller to fall back to"), ""),
    key("BackupController", Text, lost("a second controller to fall back to"), ""),
    key("BatchStartTimeout", Seconds, NoMeaning, "10"),
    key("BcastExclude", Text, lost_but("libraries that srun --bcast leaves out", &["none"]), "/lib,/usr/lib,/lib64,/usr/lib64"),
    key("BcastParameters", Text, lost("defaults of sbcast"), ""),
    key("BurstBufferParameters", Text, lost("burst buffers"), ""),
    key("BurstBufferType", Text, lost_but("burst buffers", &["burst_buffer/none"]), ""),
    key("CacheGroups", Number, NoMeaning, ""),
    key("CertgenParameters", Text, NoMeaning, ""),
    key("CertgenType", Text, NoMeaning, ""),
    key("CertmgrParameters", Text, NoMeaning, ""),
    key("CertmgrType", Text, NoMeaning, ""),
    key("CheckpointType", Text, lost_but("checkpoints, which Slurm gave up itself", &["checkpoint/none"]), ""),
    key("CliFilterParameters", Text, lost("site plugins that rewrite options before submission"), ""),
    key("CliFilterPlugins", Text, lost("site plugins that rewrite options before submission"), ""),
    key("ClusterName", Text, Done, ""),
    key("CommunicationParameters", Text, NoMeaning, ""),
    key("CompleteWait", Seconds, lost_but("a pause for ended jobs' nodes before the next one starts", &["0"]), "0"),
    key("ControlAddr", Text, Done, ""),
    key("ControlMachine", Text, Done, ""),
    key("CoreSpecPlugin", Text, lost_but("cores reserved to the system by a plugin", &["core_spec/none"]), ""),
    key("CpuFreqDef", Text, lost("a CPU frequency for steps"), ""),
    key("CpuFreqGovernors", Text, lost("the CPU frequency governors that jobs may choose"), "OnDemand,Performance,UserSpace"),
    key("CredType", Text, NoMeaning, "auth/munge"),
    key("CryptoType", Text, NoMeaning, ""),
    key("DataParserParameters", Text, NoMeaning, ""),
    key("DebugFlags", Text, NoMeaning, ""),
    key("DefCpuPerGPU", Number, lost("CPUs for each GPU of jobs that ask for none"), ""),
    key("DefMemPerCPU", Mib, Done, "UNLIMITED"),
    key("DefMemPerGPU", Mib, lost("memory for each GPU of jobs that ask for none"), ""),
    key("DefMemPerNode", Mib, Done, "UNLIMITED"),
    key("DefRuntimePlugin", Text, lost_but("a plugin that runs tasks in containers", &["runtime/oci"]), "runtime/oci"),
    key("DependencyParameters", Words(&["disable_remote_singleton", "kill_invalid_depend", "max_depend_depth"]), Done, ""),
    key("DisableRootJobs", Flag, Done, "no"),
    key("EioTimeout", Seconds, NoMeaning, "60"),
    key("EnforcePartLimits", Word(&["NO", "YES", "ALL", "ANY", "0", "1"]), Done, "NO"),
    key("Epilog", Text, Done, ""),
    key("EpilogMsgTime", Number, NoMeaning, "2000"),
    key("EpilogSlurmctld", Text, Done, ""),
    key("EpilogTimeout", Seconds, Done, ""),
    key("ExtSensorsFreq", Seconds, lost_but("readings of outside sensors", &["0"]), ""),
    key("ExtSensorsType", Text, lost_but("readings of outside sensors", &["ext_sensors/none"]), ""),
    key("FairShareDampeningFactor", Number, lost_but("the curve of classic fair share", &["1"]), "1"),
    key("FastSchedule", Number, NoMeaning, ""),
    key("FederationParameters", Text, lost("federations of clusters"), ""),
    key("FirstJobId", Number, Done, "1"),
    key("GetEnvTimeout", Seconds, NoMeaning, "2"),
    key("GpuFreqDef", Text, lost("a GPU frequency for steps"), ""),
    key("GresTypes", Text, Done, ""),
    key("GroupUpdateForce", Flag01, lost("how groups of users are read again"), "1"),
    key("GroupUpdateTime", Seconds, lost("how often groups of users are read again"), "600"),
    key("HashPlugin", Text, NoMeaning, "hash/sha3"),
    key("HealthCheckInterval", Seconds, Done, "0"),
    key("HealthCheckNodeState", Words(&["ALLOC", "ANY", "CYCLE", "IDLE", "NONDRAINED_IDLE", "MIXED"]), Done, "ANY"),
    key("HealthCheckProgram", Text, Done, ""),
    key("HealthCheckTimeout", Seconds, Done, ""),
    key("HttpParserType", Text, NoMeaning, ""),
    key("InactiveLimit", Seconds, lost("an end for allocations that nobody uses"), "0"),
    key("InteractiveStepOptions", Text, lost("the step that salloc starts a shell in"), "--interactive --preserve-env --pty $SHELL"),
    key("JobAcctGatherFrequency", Text, Done, "30"),
    key("JobAcctGatherParams", Words(&["NoShared", "UsePss", "OverMemoryKill", "NoOverMemoryKill", "DisableGPUAcct", "UseRSS", "no_file_cache"]), lost("how the use of steps is counted"), ""),
    key("JobAcctGatherType", Word(&["jobacct_gather/none", "jobacct_gather/linux", "jobacct_gather/cgroup"]), Done, ""),
    key("JobCheckpointDir", Text, lost("checkpoints, which Slurm gave up itself"), ""),
    key("JobCompHost", Text, lost("a second record of ended jobs"), "localhost"),
    key("JobCompLoc", Text, lost("a second record of ended jobs"), ""),
    key("JobCompParams", Text, lost("a second record of ended jobs"), ""),
    key("JobCompPass", Text, lost("a second record of ended jobs"), ""),
    key("JobCompPassScript", Text, lost("a second record of ended jobs"), ""),
    key("JobCompPort", Number, lost("a second record of ended jobs"), "0"),
    key("JobCompType", Text, lost_but("a second record of ended jobs", &["jobcomp/none"]), ""),
    key("JobCompUser", Text, lost("a second record of ended jobs"), "root"),
    key("JobContainerType", Text, lost_but("a private /tmp for each job", &["job_container/none"]), ""),
    key("JobCredentialPrivateKey", Text, NoMeaning, ""),
    key("JobCredentialPublicCertificate", Text, NoMeaning, ""),
    key("JobDefaults", Text, lost("memory and CPUs for each GPU of jobs that ask for none"), ""),
    key("JobFileAppend", Flag01, Done, "0"),
    key("JobRequeue", Flag01, Done, "1"),
    key("JobSubmitPlugins", Text, lost("site plugins that rewrite or refuse submissions"), ""),
    key("KeepAliveTime", Text, NoMeaning, ""),
    key("KillOnBadExit", Flag01, lost("an end for steps of which a task failed, without srun's own option"), "0"),
    key("KillWait", Seconds, Done, "30"),
    key("LaunchParameters", Text, lost("fine points of how steps are launched"), ""),
    key("LaunchType", Text, NoMeaning, ""),
    key("LicenseParameters", Text, lost("fine points of how licenses are named"), ""),
    key("Licenses", Text, Done, ""),
    key("LogTimeFormat", Text, Done, "iso8601_ms"),
    key("MailDomain", Text, Done, ""),
    key("MailProg", Text, Done, "/bin/mail"),
    key("MaxArraySize", Number, Done, "1001"),
    key("MaxBatchRequeue", Number, lost("a hold after so many failed launches"), "5"),
    key("MaxDBDMsgs", Number, NoMeaning, ""),
    key("MaxJobCount", Number, Done, "10000"),
    key("MaxJobId", Number, Done, "67043328"),
    key("MaxMemPerCPU", Mib, Done, "UNLIMITED"),
    key("MaxMemPerNode", Mib, Done, "UNLIMITED"),
    key("MaxNodeCount", Number, lost("room for nodes that register by themselves"), ""),
    key("MaxStepCount", Number, lost("a limit of steps for each job"), "40000"),
    key("MaxTasksPerNode", Number, lost("a limit of tasks for each node"), "512"),
    key("MCSParameters", Text, lost("labels that keep users' jobs apart"), ""),
    key("MCSPlugin", Text, lost_but("labels that keep users' jobs apart", &["mcs/none"]), ""),
    key("MemLimitEnforce", Flag, NoMeaning, ""),
    key("MessageTimeout", Seconds, Done, "10"),
    key("MetricsAuthUsers", Text, NoMeaning, ""),
    key("MetricsParameters", Text, NoMeaning, ""),
    key("MetricsType", Text, NoMeaning, ""),
    key("MinJobAge", Seconds, Done, "300"),
    key("MpiDefault", Text, lost_but("an MPI plugin that is neither pmi2 nor pmix", &["none", "mpi/none", "pmi2", "mpi/pmi2", "pmix", "mpi/pmix"]), "none"),
    key("MpiParams", Text, lost("fine points of the MPI plugins"), ""),
    key("MsgAggregationParams", Text, NoMeaning, ""),
    key("NamespaceType", Text, lost_but("a private /tmp for each job", &["namespace/none"]), ""),
    key("NodeFeaturesPlugins", Text, lost("features that a reboot changes"), ""),
    key("OverTimeLimit", Minutes, lost("minutes beyond the time limit"), "0"),
    key("PluginDir", Text, NoMeaning, ""),
    key("PlugStackConfig", Text, lost("SPANK plugins"), ""),
    key("PowerParameters", Text, lost("power capping"), ""),
    key("PowerPlugin", Text, lost_but("power capping", &["power/none"]), ""),
    key("PreemptExemptTime", Time, lost("preemption"), "00:00:00"),
    key("PreemptMode", Words(PREEMPT_MODES), Done, "OFF"),
    key("PreemptParameters", Words(&["min_exempt_priority", "reclaim_licenses", "reorder_count", "send_user_signal", "strict_order", "suspend_grace_time", "youngest_first", "preempt_send_user_signal"]), lost("preemption"), ""),
    key("PreemptType", Word(&["preempt/none", "preempt/partition_prio", "preempt/qos"]), lost_but("preemption", &["preempt/none"]), ""),
    key("PrEpParameters", Text, lost("prolog and epilog plugins"), ""),
    key("PrEpPlugins", Text, lost_but("prolog and epilog plugins", &["prep/script"]), "prep/script"),
    key("PriorityCalcPeriod", Time, Done, "5"),
    key("PriorityDecayHalfLife", Time, Done, "7-0"),
    key("PriorityFavorSmall", Flag, Done, "no"),
    key("PriorityFlags", Words(&["ACCRUE_ALWAYS", "CALCULATE_RUNNING", "DEPTH_OBLIVIOUS", "NO_FAIR_TREE", "FAIR_TREE", "INCR_ONLY", "MAX_TRES", "MAX_TRES_GRES", "NO_NORMAL_ALL", "NO_NORMAL_ASSOC", "NO_NORMAL_PART", "NO_NORMAL_QOS", "NO_NORMAL_TRES", "SMALL_RELATIVE_TO_TIME"]), Done, ""),
    key("PriorityMaxAge", Time, Done, "7-0"),
    key("PriorityParameters", Text, lost("parameters of a site's priority plugin"), ""),
    key("PrioritySiteFactorParameters", Text, lost("a site's plugin for its own priority factor"), ""),
    key("PrioritySiteFactorPlugin", Text, lost("a site's plugin for its own priority factor"), ""),
    key("PriorityType", Word(&["priority/basic", "priority/multifactor"]), Done, "priority/multifactor"),
    key("PriorityUsageResetPeriod", Word(&["NONE", "NOW", "DAILY", "WEEKLY", "MONTHLY", "QUARTERLY", "YEARLY"]), Done, "NONE"),
    key("PriorityWeightAge", Number, Done, "0"),
    key("PriorityWeightAssoc", Number, Done, "0"),
    key("PriorityWeightFairshare", Number, Done, "0"),
    key("PriorityWeightJobSize", Number, Done, "0"),
    key("PriorityWeightPartition", Number, Done, "0"),
    key("PriorityWeightQOS", Number, Done, "0"),
    key("PriorityWeightTRES", Text, Done, ""),
    key("PrivateData", Words(&["none", "accounts", "cloud", "events", "jobs", "nodes", "partitions", "reservations", "usage", "users", "all"]), Done, "none"),
    key("ProctrackType", Word(&["proctrack/cgroup", "proctrack/linuxproc", "proctrack/pgid", "proctrack/cray_aries"]), NoMeaning, "proctrack/cgroup"),
    key("Prolog", Text, Done, ""),
    key("PrologEpilogTimeout", NumberOrUnlimited, Done, "65534"),
    key("PrologFlags", Words(&["Alloc", "Contain", "DeferBatch", "ForceRequeueOnFail", "NoHold", "RunInJob", "Serial", "X11"]), Done, ""),
    key("PrologSlurmctld", Text, Done, ""),
    key("PrologTimeout", Seconds, Done, ""),
    key("PropagatePrioProcess", Number, lost("the nice value of the submitter for tasks"), "0"),
    key("PropagateResourceLimits", Words(RLIMITS), Done, "ALL"),
    key("PropagateResourceLimitsExcept", Words(RLIMITS), Done, ""),
    key("RebootProgram", Text, lost("reboots of nodes through scontrol and --reboot"), ""),
    key("ReconfigFlags", Text, NoMeaning, ""),
    key("RequeueExit", Text, lost("jobs that go back to the queue by their exit code"), ""),
    key("RequeueExitHold", Text, lost("jobs that go back to the queue, held, by their exit code"), ""),
    key("ResumeFailProgram", Text, lost("nodes that are started on demand"), ""),
    key("ResumeProgram", Text, lost("nodes that are started on demand"), ""),
    key("ResumeRate", Number, lost("nodes that are started on demand"), "300"),
    key("ResumeTimeout", Seconds, lost("nodes that are started on demand"), "60"),
    key("ResvEpilog", Text, lost("a program at the end of a reservation"), ""),
    key("ResvOverRun", Minutes, lost("minutes beyond the end of a reservation"), "0"),
    key("ResvProlog", Text, lost("a program at the start of a reservation"), ""),
    key("ReturnToService", Word(&["0", "1", "2"]), Done, "0"),
    key("RoutePlugin", Text, NoMeaning, ""),
    key("SallocDefaultCommand", Text, lost("the command that salloc runs when it is given none"), ""),
    key("SbcastParameters", Text, NoMeaning, ""),
    key("SchedulerParameters", Text, Done, ""),
    key("SchedulerPort", Number, NoMeaning, ""),
    key("SchedulerRootFilter", Flag01, NoMeaning, ""),
    key("SchedulerTimeSlice", Seconds, lost("time slices of jobs that share a node in turn"), "30"),
    key("SchedulerType", Word(&["sched/backfill", "sched/builtin", "sched/hold", "sched/wiki", "sched/wiki2"]), Done, "sched/backfill"),
    key("ScronParameters", Text, lost("scrontab"), ""),
    key("SelectType", Word(&["select/cons_tres", "select/cons_res", "select/linear", "select/serial", "select/cray_aries"]), Done, "select/cons_tres"),
    key("SelectTypeParameters", Words(&["CR_CPU", "CR_CPU_Memory", "CR_Core", "CR_Core_Memory", "CR_Socket", "CR_Socket_Memory", "CR_Board", "CR_Board_Memory", "CR_Memory", "CR_LLN", "CR_ONE_TASK_PER_CORE", "CR_CORE_DEFAULT_DIST_BLOCK", "CR_NO_DIST_TOPO_BLOCK", "CR_Pack_Nodes", "OTHER_CONS_RES", "OTHER_CONS_TRES", "NHC_NO", "NHC_NO_STEPS", "LL_SHARED_GRES", "ENFORCE_BINDING_GRES", "MULTIPLE_SHARING_GRES_PJ", "ONE_TASK_PER_SHARING_GRES", "NONE"]), Done, "CR_CORE_MEMORY"),
    key("SerializerParameters", Text, NoMeaning, ""),
    key("SerializerPlugins", Text, NoMeaning, ""),
    key("SlurmctldAddr", Text, Done, ""),
    key("SlurmctldDebug", Word(DEBUG_LEVELS), Done, "info"),
    key("SlurmctldHost", Text, Done, ""),
    key("SlurmctldHttpAuthParameters", Text, lost("tokens for the controller's HTTP listener"), ""),
    key("SlurmctldLogFile", Text, Done, ""),
    key("SlurmctldParameters", Text, lost("fine points of the controller"), ""),
    key("SlurmctldPidFile", Text, NoMeaning, "/var/run/slurmctld.pid"),
    key("SlurmctldPlugstack", Text, lost("plugins of the controller"), ""),
    key("SlurmctldPort", Ports, Done, "6817"),
    key("SlurmctldPrimaryOffProg", Text, lost("a program when the controller gives way to its backup"), ""),
    key("SlurmctldPrimaryOnProg", Text, lost("a program when the controller takes over"), ""),
    key("SlurmctldSyslogDebug", Word(DEBUG_LEVELS), NoMeaning, ""),
    key("SlurmctldTimeout", Seconds, NoMeaning, "120"),
    key("SlurmdDebug", Word(DEBUG_LEVELS), Done, "info"),
    key("SlurmdHttpAuthParameters", Text, lost("tokens for the node daemon's HTTP listener"), ""),
    key("SlurmdLogFile", Text, Done, ""),
    key("SlurmdParameters", Words(&["allow_ecores", "config_overrides", "contain_spank", "l3cache_as_socket", "numa_node_as_socket", "shutdown_on_reboot", "disable_gpu_acct", "conmgr_connect_timeout", "conmgr_max_connections", "conmgr_quiesce_timeout", "conmgr_read_timeout", "conmgr_threads", "conmgr_use_poll", "conmgr_wait_write_delay", "conmgr_write_timeout", "workerpool_threads"]), Done, ""),
    key("SlurmdPidFile", Text, NoMeaning, "/var/run/slurmd.pid"),
    key("SlurmdPort", Number, Done, "6818"),
    key("SlurmdSpoolDir", Text, Done, "/var/spool/slurmd"),
    key("SlurmdSyslogDebug", Word(DEBUG_LEVELS), NoMeaning, ""),
    key("SlurmdTimeout", Seconds, Done, "300"),
    key("SlurmdUser", Text, NoMeaning, "root"),
    key("SlurmrestdParameters", Text, NoMeaning, ""),
    key("SlurmSchedLogFile", Text, NoMeaning, ""),
    key("SlurmSchedLogLevel", Number, NoMeaning, "0"),
    key("SlurmstepdParameters", Text, NoMeaning, ""),
    key("SlurmUser", Text, Done, "root"),
    key("SrunEpilog", Text, Done, ""),
    key("SrunPortRange", Ports, NoMeaning, "0-0"),
    key("SrunProlog", Text, Done, ""),
    key("StateSaveLocation", Text, Done, "/var/spool"),
    key("SuspendExcNodes", Text, lost("nodes that are switched off when idle"), ""),
    key("SuspendExcParts", Text, lost("nodes that are switched off when idle"), ""),
    key("SuspendExcStates", Text, lost("nodes that are switched off when idle"), ""),
    key("SuspendProgram", Text, lost("nodes that are switched off when idle"), ""),
    key("SuspendRate", Number, lost("nodes that are switched off when idle"), "60"),
    key("SuspendTime", NumberOrUnlimited, lost_but("nodes that are switched off when idle", &["-1", "INFINITE"]), "INFINITE"),
    key("SuspendTimeout", Seconds, lost("nodes that are switched off when idle"), "30"),
    key("SwitchParameters", Text, lost("set-up of a special network"), ""),
    key("SwitchType", Text, lost_but("set-up of a special network", &["switch/none"]), ""),
    key("TaskEpilog", Text, Done, ""),
    key("TaskPlugin", Words(&["none", "affinity", "cgroup", "task/none", "task/affinity", "task/cgroup"]), Done, ""),
    key("TaskPluginParam", Text, lost("the default binding of tasks"), ""),
    key("TaskProlog", Text, Done, ""),
    key("TCPTimeout", Seconds, NoMeaning, "2"),
    key("TLSParameters", Text, NoMeaning, ""),
    key("TLSType", Text, NoMeaning, "tls/none"),
    key("TmpFS", Text, lost("the folder whose size is a node's TmpDisk"), "/tmp"),
    key("TopologyParam", Words(&["Dragonfly", "RoutePart", "RouteTree", "SwitchAsNodeRank", "BlockAsNodeRank", "SplitRoute", "TopoMaxSizeUnroll", "TopoOptional"]), Done, ""),
    key("TopologyPlugin", Word(&["topology/default", "topology/none", "topology/flat", "topology/tree", "topology/block", "topology/3d_torus"]), Done, "topology/flat"),
    key("TrackWCKey", Flag, lost_but("workload keys", &["no", "0"]), "no"),
    key("TreeWidth", Number, NoMeaning, "16"),
    key("UnkillableStepProgram", Text, lost("a program when a process cannot be killed"), ""),
    key("UnkillableStepTimeout", Seconds, lost("what is done about processes that cannot be killed"), "60"),
    key("UrlParserType", Text, NoMeaning, ""),
    key("UsePAM", Flag01, lost_but("PAM sessions of jobs", &["0", "no"]), "0"),
    key("VSizeFactor", Number, lost_but("a limit of virtual memory", &["0"]), "0"),
    key("WaitTime", Seconds, lost("an end for steps whose first task ended long ago, without srun's own option"), "0"),
    key("X11Parameters", Text, lost("X11 forwarding"), ""),
];

/// Whether `value` is one that the key takes; the error says what it takes.
pub fn check(key: &Key, value: &str) -> Result<(), String> {
    let number = |text: &str| text.parse::<u64>().is_ok();
    let unlimited = |text: &str| {
        text.eq_ignore_ascii_case("UNLIMITED") || text.eq_ignore_ascii_case("INFINITE") || text == "-1"
    };
    let (fits, wanted) = match key.kind {
        Text => (true, String::new()),
        Number => (number(value), "a whole number".to_owned()),
        Seconds => (number(value) || unlimited(value), "a number of seconds".to_owned()),
        NumberOrUnlimited => (number(value) || unlimited(value), "a whole number or UNLIMITED".to_owned()),
        Minutes => (number(value) || unlimited(value), "a number of minutes or UNLIMITED".to_owned()),
        Time => (crate::time::limit::parse(value).is_ok(), "a length of time".to_owned()),
        Mib => (
            crate::tres::parse_mib(value).is_some() || unlimited(value),
            "a size in megabytes or UNLIMITED".to_owned(),
        ),
        Flag01 | Flag => (parse_flag(value).is_some(), "yes or no".to_owned()),
        Ports => (parse_ports(value).is_some(), "a port or a range of ports".to_owned()),
        Word(words) => (words.iter().any(|word| word.eq_ignore_ascii_case(value)), one_of(words)),
        Words(words) => {
            let fits = value.split([',', ';']).filter(|word| !word.is_empty()).all(|word| {
                let bare = word.split(['=', ':']).next().unwrap_or_default().trim();
                words.iter().any(|known| known.eq_ignore_ascii_case(bare))
            });
            (fits, one_of(words))
        }
    };
    if fits { Ok(()) } else { Err(wanted) }
}

fn one_of(words: &[&str]) -> String {
    format!("one of {}", words.join(", "))
}

/// Yes or no in any of Slurm's spellings.
#[must_use]
pub fn parse_flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "t" | "up" | "1" => Some(true),
        "no" | "n" | "false" | "f" | "down" | "0" => Some(false),
        _ => None,
    }
}

/// `6817` or `6817-6820`.
#[must_use]
pub fn parse_ports(value: &str) -> Option<(u16, u16)> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_its_defaults_are_valid() {
        let lower = |key: &Key| key.name.to_ascii_lowercase();
        for pair in KEYS.windows(2) {
            assert!(lower(&pair[0]) < lower(&pair[1]), "{} before {}", pair[0].name, pair[1].name);
        }
        for key in KEYS {
            assert!(key.default.is_empty() || check(key, key.default).is_ok(), "{}", key.name);
        }
    }
}
