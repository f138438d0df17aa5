//! The configuration as far as decisions need it: typed, complete, free of file formats.
//!
//! The shell makes it from `slurm.conf` and hands it in as an input; nothing here is stored, except
//! that nodes and partitions become records when they differ from what `State` holds.

pub mod conf;

use std::collections::BTreeMap;

use model::id::Uid;
use model::quantity::MemoryMib;
use model::time::Span;

use crate::state::node::NodeDefinition;
use crate::state::partition::PartitionDefinition;

/// What `AccountingStorageEnforce` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforce {
    /// A job needs an association.
    pub associations: bool,
    /// Limits of associations and QOS count.
    pub limits: bool,
    /// A job needs a QOS that its association allows.
    pub qos: bool,
}

/// Which of the site's programs run around jobs; the programs themselves are the shells' affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// PrologSlurmctld: a job is CONFIGURING until it has ended.
    pub controller_prolog: bool,
    /// EpilogSlurmctld: a job is COMPLETING until it has ended.
    pub controller_epilog: bool,
    /// Prolog or Epilog: nodes are told when a job is over, and are COMPLETING until they have said that they are done.
    pub nodes: bool,
    /// PrologFlags=Alloc: every node runs its prolog when the job starts.
    pub allocation: bool,
    /// PrologFlags=Contain: every node keeps a step for as long as the job lives.
    pub contain: bool,
    /// PrologFlags=DeferBatch: the batch script waits for the prologs of all nodes.
    pub defer_batch: bool,
    /// A batch job whose prolog failed is held (unless `nohold_on_prolog_fail`).
    pub hold_failed: bool,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            controller_prolog: false,
            controller_epilog: false,
            nodes: false,
            allocation: false,
            contain: false,
            defer_batch: false,
            hold_failed: true,
        }
    }
}

/// Weights of the additive priority. Source: `man slurm.conf`, PriorityWeight*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriorityWeights {
    /// Time in the queue.
    pub age: u32,
    /// Fair share.
    pub fairshare: u32,
    /// Size of the job.
    pub job_size: u32,
    /// The partition's factor.
    pub partition: u32,
    /// The QOS's priority.
    pub qos: u32,
    /// Association.
    pub assoc: u32,
}

/// How the factors of the priority are computed. Source: `man slurm.conf`, PriorityFlags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriorityRules {
    /// PriorityFavorSmall: small jobs get the larger size factor.
    pub favor_small: bool,
    /// SMALL_RELATIVE_TO_TIME: size is CPUs over the time limit.
    pub relative_to_time: bool,
    /// ACCRUE_ALWAYS: age counts from the submission, whatever held the job back.
    pub accrue_always: bool,
    /// INCR_ONLY: a priority that was given never falls.
    pub increase_only: bool,
    /// NO_NORMAL_ASSOC: the association's priority counts as it is.
    pub raw_assoc: bool,
    /// NO_NORMAL_PART: the partition's PriorityJobFactor counts as it is.
    pub raw_partition: bool,
    /// NO_NORMAL_QOS: the QOS's priority counts as it is.
    pub raw_qos: bool,
    /// NO_NORMAL_TRES: amounts of TRES count as they are.
    pub raw_tres: bool,
}

/// All that decisions need to know of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster.
    pub cluster: Box<str>,
    /// Nodes in configuration order.
    pub nodes: Vec<NodeDefinition>,
    /// Partitions in configuration order.
    pub partitions: Vec<PartitionDefinition>,
    /// Whether a node that no configuration names is taken in when it registers.
    pub dynamic_nodes: bool,
    /// SlurmdParameters=config_overrides: a node is as it is declared, whatever it registers with.
    pub config_overrides: bool,
    /// Users who may administrate: root and SlurmUser.
    pub administrators: Vec<Uid>,
    /// Time between SIGTERM and SIGKILL.
    pub kill_wait: Span,
    /// How long an ended job stays in `State`.
    pub min_job_age: Span,
    /// Smallest job id given.
    pub first_job_id: u32,
    /// Largest job id given, then ids wrap.
    pub max_job_id: u32,
    /// Most jobs in `State`.
    pub max_job_count: u32,
    /// Array indices are below this.
    pub max_array_size: u32,
    /// Whether jobs may be requeued when they do not say.
    pub requeue_default: bool,
    /// How long a requeued job waits before it may start again.
    pub requeue_delay: Span,
    /// Default memory for each CPU, unless the partition has its own; `None`: all of the node's.
    pub def_mem_per_cpu: Option<MemoryMib>,
    /// Default memory on each node.
    pub def_mem_per_node: Option<MemoryMib>,
    /// Licenses of the cluster.
    pub licenses: BTreeMap<Box<str>, u32>,
    /// Accounting.
    pub enforce: Enforce,
    /// Priority.
    pub weights: PriorityWeights,
    /// Weights of single TRES (`cpu`, `mem`, `gres/gpu`), in the order of the file.
    pub tres_weights: Vec<(Box<str>, u32)>,
    /// How factors are computed.
    pub priority_rules: PriorityRules,
    /// Age at which the age factor is full.
    pub priority_max_age: Span,
    /// How often jobs whose priority no longer grows are compared anew with those whose does.
    pub priority_calc_period: Span,
    /// Whether the multifactor formula is used; else submit order alone.
    pub multifactor: bool,
    /// A node that was silent for so long is shown as not responding, then DOWN.
    pub node_timeout: Span,
    /// Slurm's behaviour: a silent node's jobs are requeued after `node_timeout`, without evidence.
    pub requeue_without_evidence: bool,
    /// ReturnToService: 0, 1 or 2.
    pub return_to_service: u8,
    /// EnforcePartLimits: refuse at submission what the partition's limits forbid.
    pub enforce_partition_limits: bool,
    /// Jobs with a dependency that can never be met are cancelled (`kill_invalid_depend`).
    pub kill_invalid_dependency: bool,
    /// Whether cores are the unit of allocation (CR_Core*), so that threads of a core are not split.
    pub whole_cores: bool,
    /// Whether memory is a resource that is allocated (CR_*_Memory).
    pub track_memory: bool,
    /// Cores are filled socket by socket where `--distribution` does not say (CR_CORE_DEFAULT_DIST_BLOCK).
    pub block_cores: bool,
    /// At most one task on a core where `--ntasks-per-core` does not say (CR_ONE_TASK_PER_CORE).
    pub one_task_per_core: bool,
    /// Tasks of a step fill one node after the other where `--distribution` does not say (CR_Pack_Nodes).
    pub pack_nodes: bool,
    /// Nodes with the largest share of idle CPUs come first (CR_LLN).
    pub least_loaded: bool,
    /// How nodes are connected (topology.conf); `None`: all alike.
    pub topology: Option<std::sync::Arc<model::config::topology::Topology>>,
    /// The longest wait for switches (`max_switch_wait`).
    pub switch_wait_max: Span,
    /// Most elements of an array (`max_array_tasks`).
    pub max_array_tasks: u32,
    /// Depth of protection in backfill (`bf_max_job_test`).
    pub backfill_depth: u32,
    /// How passes plan.
    pub policy: crate::plan::policy::Policy,
    /// Names of the TRES of GRES that are accounted (`gres/gpu`, `gres/gpu:a100`), in order.
    pub tres: Vec<Box<str>>,
    /// Grace of a lost client before its allocation ends.
    pub lease_grace: Span,
    /// How long it takes to make an instance on a dynamic GPU, for planning.
    pub slice_create: Span,
    /// How long it takes to remove one.
    pub slice_destroy: Span,
    /// Jobs in small slices are requeued where that lets a large one start so much earlier that it is worth it.
    pub defragment: bool,
    /// A job may have shards of several GPUs of a node (`MULTIPLE_SHARING_GRES_PJ`).
    pub shards_of_several: bool,
    /// Tasks that ask for shards of their own have them of different GPUs (`ONE_TASK_PER_SHARING_GRES`).
    pub one_task_per_sharing: bool,
    /// What gres.conf says of where devices lie: by node, each node's in the order of their indices.
    pub devices: Vec<DeviceFacts>,
    /// Nodes that keep cores for jobs with GPUs, by name.
    pub kept_cores: Vec<KeptCores>,
    /// CPUs near its devices are all that a job gets (`ENFORCE_BINDING_GRES`).
    pub enforce_binding: bool,
    /// Programs around jobs.
    pub hooks: Hooks,
}

/// Cores of a node that are kept for jobs with GPUs (`RestrictedCoresPerGPU`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptCores {
    /// NodeName.
    pub node: Box<str>,
    /// How many for each GPU.
    pub per_gpu: u32,
}

/// Where a device lies (`Cores= and `Links=` of gres.conf).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// NodeName.
    pub node: Box<str>,
    /// `gpu`.
    pub name: Box<str>,
    /// `a100`; empty: of any type.
    pub kind: Box<str>,
    /// Cores near it, as first and last of each range; empty: all.
    pub cores: Vec<u32>,
    /// Links to each device of the kind, by its index; empty: not said.
    pub links: Vec<u32>,
}

impl Settings {
    /// What making and removing its slices adds to the time of a run.
    #[must_use]
    pub fn slice_time(&self) -> Span {
        self.slice_create.saturating_add(self.slice_destroy)
    }

    /// A cluster of that name without nodes or partitions, with the defaults of `man slurm.conf`.
    #[must_use]
    pub fn named(cluster: &str) -> Self {
        Self {
            cluster: cluster.into(),
            nodes: Vec::new(),
            partitions: Vec::new(),
            dynamic_nodes: false,
            config_overrides: false,
            administrators: vec![Uid(0)],
            kill_wait: Span::from_secs(30),
            min_job_age: Span::from_secs(300),
            first_job_id: 1,
            max_job_id: 0x03ff_0000,
            max_job_count: 10_000,
            max_array_size: 1001,
            requeue_default: true,
            requeue_delay: Span::from_secs(120),
            def_mem_per_cpu: None,
            def_mem_per_node: None,
            licenses: BTreeMap::new(),
            enforce: Enforce::default(),
            weights: PriorityWeights::default(),
            tres_weights: Vec::new(),
            priority_rules: PriorityRules::default(),
            priority_max_age: Span::from_mins(7 * 24 * 60),
            priority_calc_period: Span::from_mins(5),
            multifactor: true,
            node_timeout: Span::from_secs(300),
            requeue_without_evidence: false,
            return_to_service: 0,
            enforce_partition_limits: false,
            kill_invalid_dependency: false,
            whole_cores: true,
            track_memory: true,
            block_cores: false,
            shards_of_several: false,
            one_task_per_sharing: false,
            kept_cores: Vec::new(),
            one_task_per_core: false,
            pack_nodes: false,
            least_loaded: false,
            topology: None,
            switch_wait_max: Span::from_secs(300),
            max_array_tasks: u32::MAX,
            backfill_depth: 1000,
            policy: crate::plan::policy::Policy::default(),
            tres: Vec::new(),
            lease_grace: Span::from_secs(60),
            slice_create: Span::from_secs(2),
            slice_destroy: Span::from_secs(1),
            defragment: false,
            devices: Vec::new(),
            enforce_binding: false,
            hooks: Hooks::default(),
        }
    }
}
