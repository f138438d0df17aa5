//! A partition: a named set of nodes with its rules.

use std::sync::Arc;

use model::id::NodeIdx;
use model::quantity::MemoryMib;
use model::time::Span;

/// Whether jobs may be submitted to it and started in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionState {
    /// Both.
    #[default]
    Up,
    /// Submitted, not started.
    Down,
    /// Started, not submitted.
    Drain,
    /// Neither.
    Inactive,
}

/// `OverSubscribe=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverSubscribe {
    /// CPUs belong to one job.
    #[default]
    No,
    /// Whole nodes only.
    Exclusive,
    /// Jobs may ask to share, so many on one resource.
    Yes(u32),
    /// All jobs share.
    Force(u32),
}

/// `PreemptMode=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreemptMode {
    /// Its jobs are not preempted.
    #[default]
    Off,
    /// Put back into the queue.
    Requeue,
    /// Cancelled.
    Cancel,
    /// Suspended.
    Suspend,
}

/// Rules of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDefinition {
    /// PartitionName.
    pub name: Box<str>,
    /// Nodes by name, in configuration order.
    pub nodes: Vec<Box<str>>,
    /// `Nodes=` as configured.
    pub nodes_text: Box<str>,
    /// Taken when no partition is asked for.
    pub is_default: bool,
    /// Not shown to all.
    pub hidden: bool,
    /// State.
    pub state: PartitionState,
    /// Longest time limit; `None`: unlimited.
    pub max_time: Option<Span>,
    /// Limit of jobs that give none; `None`: the maximum.
    pub default_time: Option<Span>,
    /// Fewest nodes.
    pub min_nodes: u32,
    /// Most nodes; `None`: any number.
    pub max_nodes: Option<u32>,
    /// Most CPUs on one node.
    pub max_cpus_per_node: Option<u32>,
    /// Jobs of higher tiers come first.
    pub priority_tier: u32,
    /// Factor of the priority formula.
    pub priority_job_factor: u32,
    /// Sharing.
    pub oversubscribe: OverSubscribe,
    /// Preemption of its jobs.
    pub preempt_mode: PreemptMode,
    /// Time between the notice and the end of a preempted job.
    pub grace: Span,
    /// Accounts that may use it; empty: all.
    pub allow_accounts: Vec<Box<str>>,
    /// Accounts that may not.
    pub deny_accounts: Vec<Box<str>>,
    /// Groups that may use it; empty: all.
    pub allow_groups: Vec<Box<str>>,
    /// QOS that may be used in it; empty: all.
    pub allow_qos: Vec<Box<str>>,
    /// QOS that may not.
    pub deny_qos: Vec<Box<str>>,
    /// Only root submits to it.
    pub root_only: bool,
    /// Root does not.
    pub disable_root_jobs: bool,
    /// Default memory for each CPU.
    pub def_mem_per_cpu: Option<MemoryMib>,
    /// Default memory on each node.
    pub def_mem_per_node: Option<MemoryMib>,
    /// Most memory for each CPU.
    pub max_mem_per_cpu: Option<MemoryMib>,
    /// Most memory on each node.
    pub max_mem_per_node: Option<MemoryMib>,
    /// Every attribute as `scontrol show partition` names it, as configured.
    pub shown: Vec<(Box<str>, Box<str>)>,
}

/// A partition of the present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its rules.
    pub definition: Arc<PartitionDefinition>,
    /// Its nodes by place, ascending. Derived from the names.
    pub nodes: Arc<[NodeIdx]>,
    /// Made or changed at run time: the configuration file does not overrule it until reconfigured.
    pub changed_at_run_time: bool,
}

impl PartitionDefinition {
    /// A partition of that name with Slurm's defaults and no nodes.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            nodes: Vec::new(),
            nodes_text: "".into(),
            is_default: false,
            hidden: false,
            state: PartitionState::Up,
            max_time: None,
            default_time: None,
            min_nodes: 0,
            max_nodes: None,
            max_cpus_per_node: None,
            priority_tier: 1,
            priority_job_factor: 1,
            oversubscribe: OverSubscribe::No,
            preempt_mode: PreemptMode::Off,
            grace: Span::ZERO,
            allow_accounts: Vec::new(),
            deny_accounts: Vec::new(),
            allow_groups: Vec::new(),
            allow_qos: Vec::new(),
            deny_qos: Vec::new(),
            root_only: false,
            disable_root_jobs: false,
            def_mem_per_cpu: None,
            def_mem_per_node: None,
            max_mem_per_cpu: None,
            max_mem_per_node: None,
            shown: Vec::new(),
        }
    }
}

impl Partition {
    /// `LLN=YES`: nodes with the largest share of idle CPUs come first for its jobs.
    #[must_use]
    pub fn is_least_loaded(&self) -> bool {
        let mut shown = self.definition.shown.iter();
        shown.any(|(key, value)| key.eq_ignore_ascii_case("LLN") && value.eq_ignore_ascii_case("YES"))
    }
}
