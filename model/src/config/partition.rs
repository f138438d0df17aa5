//! PartitionName and NodeSet lines.

use super::keys::parse_flag;
use super::lex::{Line, Place};
use super::settings::{Scope, comma_list};
use super::terms::{JobDefaults, MemoryLimit, PreemptMode, parse_preempt_mode};
use crate::time::Span;

/// Every attribute of a PartitionName line.
pub(super) const KEYS: &[&str] = &[
    "AllocNodes",
    "AllowAccounts",
    "AllowGroups",
    "AllowQos",
    "Alternate",
    "CpuBind",
    "Default",
    "DefaultTime",
    "DefCpuPerGPU",
    "DefMemPerCPU",
    "DefMemPerGPU",
    "DefMemPerNode",
    "DenyAccounts",
    "DenyQos",
    "DisableRootJobs",
    "Exclusive",
    "ExclusiveTopo",
    "ExclusiveUser",
    "GraceTime",
    "Hidden",
    "JobDefaults",
    "LLN",
    "MaxCPUsPerNode",
    "MaxCPUsPerSocket",
    "MaxMemPerCPU",
    "MaxMemPerNode",
    "MaxNodes",
    "MaxTime",
    "MinNodes",
    "Nodes",
    "OverSubscribe",
    "OverTimeLimit",
    "PartitionName",
    "PowerDownOnIdle",
    "PreemptMode",
    "Priority",
    "PriorityJobFactor",
    "PriorityTier",
    "QOS",
    "ReqResv",
    "ResumeTimeout",
    "RootOnly",
    "SelectTypeParameters",
    "Shared",
    "State",
    "SuspendTime",
    "SuspendTimeout",
    "Topology",
    "TRESBillingWeights",
];

/// Attributes that are not honoured, with what they would have done.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("Alternate", "another partition for jobs when this one is down"),
    ("PowerDownOnIdle", "nodes that are switched off when idle"),
    ("ResumeTimeout", "nodes that are started on demand"),
    ("SuspendTime", "nodes that are switched off when idle"),
    ("SuspendTimeout", "nodes that are switched off when idle"),
    ("SelectTypeParameters", "another unit of allocation for this partition"),
    ("CpuBind", "the default binding of tasks"),
    ("Topology", "another view of the network's topology"),
    ("Exclusive", "whole nodes or topology blocks for a job, or a user"),
    ("ExclusiveTopo", "whole topology blocks for a job"),
];

/// A partition's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionState {
    /// Takes jobs and starts them.
    #[default]
    Up,
    /// Takes jobs, starts none.
    Down,
    /// Takes none, starts those it has.
    Drain,
    /// Takes none, starts none.
    Inactive,
}

impl PartitionState {
    /// Slurm's word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            PartitionState::Up => "UP",
            PartitionState::Down => "DOWN",
            PartitionState::Drain => "DRAIN",
            PartitionState::Inactive => "INACTIVE",
        }
    }

    /// Reads the word, without regard to case.
    #[must_use]
    pub fn parse(text: &str) -> Option<PartitionState> {
        [PartitionState::Up, PartitionState::Down, PartitionState::Drain, PartitionState::Inactive]
            .into_iter()
            .find(|state| state.text().eq_ignore_ascii_case(text))
    }
}

/// Whether jobs of a partition may share resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversubscribe {
    /// Resources belong to one job.
    #[default]
    No,
    /// Shared by up to so many jobs that ask for it.
    Yes(u16),
    /// Always shared by up to so many jobs.
    Force(u16),
    /// Whole nodes belong to one job.
    Exclusive,
}

impl Oversubscribe {
    /// Reads `NO`, `YES[:N]`, `FORCE[:N]`, `EXCLUSIVE`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Oversubscribe> {
        let upper = text.to_ascii_uppercase();
        let (word, count) = match upper.split_once(':') {
            Some((word, count)) => (word, count.parse().ok().filter(|&count| count > 0)?),
            None => (upper.as_str(), 4),
        };
        match word {
            "NO" => Some(Oversubscribe::No),
            "YES" => Some(Oversubscribe::Yes(count)),
            "FORCE" => Some(Oversubscribe::Force(count)),
            "EXCLUSIVE" => Some(Oversubscribe::Exclusive),
            _ => None,
        }
    }
}

/// `NO`, `YES:4`, `FORCE:4`, `EXCLUSIVE`.
impl std::fmt::Display for Oversubscribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Oversubscribe::No => f.write_str("NO"),
            Oversubscribe::Yes(count) => write!(f, "YES:{count}"),
            Oversubscribe::Force(count) => write!(f, "FORCE:{count}"),
            Oversubscribe::Exclusive => f.write_str("EXCLUSIVE"),
        }
    }
}

/// One partition. Lists that are `None` do not restrict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConf {
    /// Name.
    pub name: Box<str>,
    /// The nodes, expanded, in order, without repeats.
    pub nodes: Vec<Box<str>>,
    /// Nodes as written (`ALL`, a hostlist, node sets); empty where none were given.
    pub nodes_text: Box<str>,
    /// Takes jobs that name no partition.
    pub default: bool,
    /// State.
    pub state: PartitionState,
    /// Limit of a job that gives none; `None`: MaxTime, `Some(None)`: UNLIMITED.
    pub default_time: Option<Option<Span>>,
    /// Longest limit; `None`: UNLIMITED.
    pub max_time: Option<Span>,
    /// Most nodes; `None`: UNLIMITED.
    pub max_nodes: Option<u32>,
    /// Least nodes.
    pub min_nodes: u32,
    /// Most CPUs on a node.
    pub max_cpus_per_node: Option<u32>,
    /// Most CPUs on a socket.
    pub max_cpus_per_socket: Option<u32>,
    /// Memory of a job that gives none.
    pub default_memory: Option<MemoryLimit>,
    /// Most memory.
    pub max_memory: Option<MemoryLimit>,
    /// Defaults per GPU.
    pub job_defaults: JobDefaults,
    /// Sharing.
    pub oversubscribe: Oversubscribe,
    /// Nodes belong to one user at a time.
    pub exclusive_user: bool,
    /// Its jobs are considered before those of lower tiers, and may preempt them.
    pub priority_tier: u16,
    /// Part of a job's priority.
    pub priority_job_factor: u16,
    /// How its jobs are preempted; `None`: the cluster's PreemptMode.
    pub preempt_mode: Option<PreemptMode>,
    /// Time between the warning of a preempted job and its end.
    pub grace_time: Span,
    /// How far jobs may run over their limit; `None`: the cluster's; `Some(None)`: UNLIMITED.
    pub over_time_limit: Option<Option<Span>>,
    /// Accounts that may use it.
    pub allow_accounts: Option<Vec<Box<str>>>,
    /// Accounts that may not.
    pub deny_accounts: Option<Vec<Box<str>>>,
    /// QOS that may use it.
    pub allow_qos: Option<Vec<Box<str>>>,
    /// QOS that may not.
    pub deny_qos: Option<Vec<Box<str>>>,
    /// Groups whose users may use it.
    pub allow_groups: Option<Vec<Box<str>>>,
    /// Hosts from which jobs may be submitted, a hostlist.
    pub alloc_nodes: Option<Box<str>>,
    /// The partition's own QOS.
    pub qos: Option<Box<str>>,
    /// Seen only by those who may use it.
    pub hidden: bool,
    /// Only root may use it.
    pub root_only: bool,
    /// root may not use it; `None`: the cluster's DisableRootJobs.
    pub disable_root_jobs: Option<bool>,
    /// Only within a reservation.
    pub req_resv: bool,
    /// The least loaded nodes are taken first.
    pub lln: bool,
    /// `CPU=1.0,Mem=0.25G`, as written.
    pub tres_billing_weights: Option<Box<str>>,
    /// Where the line stands.
    pub place: Place,
}

/// Names a group of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSetConf {
    /// Name.
    pub name: Box<str>,
    /// All nodes with this feature.
    pub feature: Option<Box<str>>,
    /// A hostlist, or ALL.
    pub nodes: Option<Box<str>>,
    /// Where the line stands.
    pub place: Place,
}

/// The partition of one line; its nodes are resolved later.
pub(super) fn build(line: &Line, settings: &Scope) -> PartitionConf {
    let boxed = |key: &str| settings.text(key).map(Box::<str>::from);
    let sharing_key = if settings.text("OverSubscribe").is_some() { "OverSubscribe" } else { "Shared" };
    let both: u16 = settings.number("Priority", 1);
    PartitionConf {
        name: boxed("PartitionName").unwrap_or_default(),
        nodes: Vec::new(),
        nodes_text: boxed("Nodes").unwrap_or_default(),
        default: settings.flag("Default", false),
        state: settings
            .read("State", "not UP, DOWN, DRAIN or INACTIVE", PartitionState::parse)
            .unwrap_or_default(),
        default_time: settings.time("DefaultTime"),
        max_time: settings.time("MaxTime").flatten(),
        max_nodes: settings.number_or_unlimited("MaxNodes").flatten(),
        min_nodes: settings.number("MinNodes", 0),
        max_cpus_per_node: settings.number_or_unlimited("MaxCPUsPerNode").flatten(),
        max_cpus_per_socket: settings.number_or_unlimited("MaxCPUsPerSocket").flatten(),
        default_memory: MemoryLimit::of(settings, "DefMemPerCPU", "DefMemPerNode"),
        max_memory: MemoryLimit::of(settings, "MaxMemPerCPU", "MaxMemPerNode"),
        job_defaults: JobDefaults::of(settings),
        oversubscribe: settings
            .read(sharing_key, "not NO, YES[:N], FORCE[:N] or EXCLUSIVE", Oversubscribe::parse)
            .unwrap_or_default(),
        exclusive_user: settings.flag("ExclusiveUser", false),
        priority_tier: settings.number("PriorityTier", both),
        priority_job_factor: settings.number("PriorityJobFactor", both),
        preempt_mode: settings.read("PreemptMode", "not a preemption mode", |text| {
            parse_preempt_mode(text).map(|(mode, _)| mode)
        }),
        grace_time: settings.seconds("GraceTime", 0),
        over_time_limit: settings.time("OverTimeLimit"),
        allow_accounts: settings.list_or_all("AllowAccounts"),
        deny_accounts: settings.text("DenyAccounts").map(comma_list),
        allow_qos: settings.list_or_all("AllowQos"),
        deny_qos: settings.text("DenyQos").map(comma_list),
        allow_groups: settings.list_or_all("AllowGroups"),
        alloc_nodes: boxed("AllocNodes").filter(|text| !text.eq_ignore_ascii_case("ALL")),
        qos: boxed("QOS").filter(|text| !text.eq_ignore_ascii_case("N/A")),
        hidden: settings.flag("Hidden", false),
        root_only: settings.flag("RootOnly", false),
        disable_root_jobs: settings.read("DisableRootJobs", "not yes or no", parse_flag),
        req_resv: settings.flag("ReqResv", false),
        lln: settings.flag("LLN", false),
        tres_billing_weights: boxed("TRESBillingWeights"),
        place: line.place.clone(),
    }
}

impl PartitionConf {
    /// A partition of these nodes with every attribute at Slurm's default.
    #[must_use]
    pub fn with_defaults(name: &str, nodes: Vec<Box<str>>, place: Place) -> PartitionConf {
        PartitionConf {
            name: name.into(),
            nodes,
            nodes_text: "ALL".into(),
            default: false,
            state: PartitionState::Up,
            default_time: None,
            max_time: None,
            max_nodes: None,
            min_nodes: 0,
            max_cpus_per_node: None,
            max_cpus_per_socket: None,
            default_memory: None,
            max_memory: None,
            job_defaults: JobDefaults::default(),
            oversubscribe: Oversubscribe::No,
            exclusive_user: false,
            priority_tier: 1,
            priority_job_factor: 1,
            preempt_mode: None,
            grace_time: Span::ZERO,
            over_time_limit: None,
            allow_accounts: None,
            deny_accounts: None,
            allow_qos: None,
            deny_qos: None,
            allow_groups: None,
            alloc_nodes: None,
            qos: None,
            hidden: false,
            root_only: false,
            disable_root_jobs: None,
            req_resv: false,
            lln: false,
            tres_billing_weights: None,
            place,
        }
    }
}
