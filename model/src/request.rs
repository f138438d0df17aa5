//! What a submitter asked, parsed, before any default is applied.
//!
//! An absent option is `None`: only admission decides what stands in its place. Strings are as typed.
//! Fields that few jobs use stand in [`Rare`], so that a hundred thousand waiting jobs stay small.

use crate::array::ArraySpec;
use crate::depend::Dependency;
use crate::gres::GresRequest;
use crate::quantity::MemoryMib;
use crate::time::{Span, Timestamp};

/// What kind of job is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A script that is run once, on the first node (`sbatch`).
    #[default]
    Batch,
    /// An allocation that a waiting client uses (`salloc`).
    Allocation,
    /// An allocation for the one step that the client starts at once (`srun`).
    Step,
}

/// How much memory, and per what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryRequest {
    /// `--mem`: on each node. Zero asks for all of the node's.
    PerNode(MemoryMib),
    /// `--mem-per-cpu`: for each allocated CPU.
    PerCpu(MemoryMib),
    /// `--mem-per-gpu`: for each allocated GPU.
    PerGpu(MemoryMib),
}

/// Whether nodes are shared with other jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// The partition decides.
    #[default]
    Default,
    /// `--exclusive`: no other job on the nodes.
    Exclusive,
    /// `--exclusive=user`: only jobs of the same user.
    User,
    /// `--exclusive=mcs`: only jobs of the same group label.
    Mcs,
    /// `--exclusive=topo`.
    Topo,
    /// `--oversubscribe`: resources may be shared where the partition allows it.
    Oversubscribe,
}

/// Whether output files are emptied or continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Emptied when the job starts.
    Truncate,
    /// Continued.
    Append,
}

/// Where a job's streams go; patterns (`%j`) are not yet expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// `--input`.
    pub stdin: Option<Box<str>>,
    /// `--output`.
    pub stdout: Option<Box<str>>,
    /// `--error`.
    pub stderr: Option<Box<str>>,
    /// `--open-mode`.
    pub open_mode: Option<OpenMode>,
}

/// `--signal=[R][B:]NUMBER[@SECONDS]`: a warning before the time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarnSignal {
    /// The signal's number.
    pub signal: u8,
    /// How long before the end.
    pub before: Span,
    /// `B:`: to the batch shell alone.
    pub batch_only: bool,
    /// `R:`: also where a reservation overlaps.
    pub reservation: bool,
}

/// What few jobs ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// `--comment`.
    pub comment: Option<Box<str>>,
    /// `--wckey`.
    pub wckey: Option<Box<str>>,
    /// `--reservation`.
    pub reservation: Option<Box<str>>,
    /// `--licenses`, as typed.
    pub licenses: Option<Box<str>>,
    /// `--prefer`: features that are wished for.
    pub prefer: Option<Box<str>>,
    /// `--cluster-constraint`.
    pub cluster_constraint: Option<Box<str>>,
    /// `--nodelist`, a hostlist.
    pub nodelist: Option<Box<str>>,
    /// `--exclude`, a hostlist.
    pub exclude: Option<Box<str>>,
    /// `--gpu-bind`.
    pub gpu_bind: Option<Box<str>>,
    /// `--tres-per-task`, as typed.
    pub tres_per_task: Option<Box<str>>,
    /// `--tres-bind`.
    pub tres_bind: Option<Box<str>>,
    /// `--gres-flags`.
    pub gres_flags: Option<Box<str>>,
    /// `--distribution`, as typed.
    pub distribution: Option<Box<str>>,
    /// `--hint`.
    pub hint: Option<Box<str>>,
    /// `--network`.
    pub network: Option<Box<str>>,
    /// `--bb` or `--bbf`.
    pub burst_buffer: Option<Box<str>>,
    /// `--mcs-label`.
    pub mcs_label: Option<Box<str>>,
    /// `--mail-type`, a comma list in Slurm's order.
    pub mail_type: Option<Box<str>>,
    /// `--mail-user`.
    pub mail_user: Option<Box<str>>,
    /// `--container`.
    pub container: Option<Box<str>>,
    /// `--container-id`.
    pub container_id: Option<Box<str>>,
    /// `--container-mounts` and the like, where one was given.
    pub container_options: Option<Box<crate::container::Options>>,
    /// `--extra`.
    pub extra: Option<Box<str>>,
    /// `--profile`.
    pub profile: Option<Box<str>>,
    /// `--acctg-freq`.
    pub acctg_freq: Option<Box<str>>,
    /// `--resv-ports`.
    pub resv_ports: Option<u32>,
    /// `--switches=COUNT[@MAX]`.
    pub switches: Option<(u32, Option<Span>)>,
    /// `--core-spec`.
    pub core_spec: Option<u32>,
    /// `--thread-spec`.
    pub thread_spec: Option<u32>,
    /// `--tmp`.
    pub tmp_mib: Option<MemoryMib>,
    /// `--sockets-per-node` (also the first part of `-B`).
    pub sockets_per_node: Option<u32>,
    /// `--cores-per-socket`.
    pub cores_per_socket: Option<u32>,
    /// `--threads-per-core`.
    pub threads_per_core: Option<u32>,
    /// `--ntasks-per-socket`.
    pub ntasks_per_socket: Option<u32>,
    /// `--ntasks-per-core`.
    pub ntasks_per_core: Option<u32>,
    /// `--ntasks-per-gpu`.
    pub ntasks_per_gpu: Option<u32>,
    /// `--mincpus`.
    pub min_cpus_per_node: Option<u32>,
    /// `--cpus-per-gpu`.
    pub cpus_per_gpu: Option<u32>,
    /// `--deadline`.
    pub deadline: Option<Timestamp>,
    /// `--delay-boot`.
    pub delay_boot: Option<Span>,
    /// `--time-min`.
    pub time_min: Option<Span>,
    /// `--signal`.
    pub warn_signal: Option<WarnSignal>,
    /// `--priority` (`None`: computed). Zero holds the job.
    pub priority: Option<u32>,
    /// `--contiguous`.
    pub contiguous: bool,
    /// `--spread-job`.
    pub spread_job: bool,
    /// `--use-min-nodes`.
    pub use_min_nodes: bool,
    /// `--segment`: so many nodes at a time are in one block.
    pub segment: Option<u32>,
    /// `--overcommit`.
    pub overcommit: bool,
    /// `--no-kill`.
    pub no_kill: bool,
    /// `--reboot`.
    pub reboot: bool,
    /// `--kill-on-invalid-dep` (`None`: the site decides).
    pub kill_on_invalid_dep: Option<bool>,
    /// `--get-user-env`.
    pub get_user_env: bool,
    /// `--immediate`: seconds to wait for resources before the request is given up.
    pub immediate: Option<u32>,
    /// Soft limits of the submitting shell that are carried to the job (`--propagate`): name, value.
    pub rlimits: Vec<(Box<str>, u64)>,
}

/// All that a submitter asked for in one job or array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRequest {
    /// Batch, allocation or one step.
    pub kind: Kind,
    /// `--job-name`, or the script's name.
    pub name: Box<str>,
    /// `--account`.
    pub account: Option<Box<str>>,
    /// `--qos`.
    pub qos: Option<Box<str>>,
    /// `--partition`, a comma list.
    pub partition: Option<Box<str>>,
    /// Absolute working directory.
    pub work_dir: Box<str>,
    /// Short name of the host of submission.
    pub submit_host: Box<str>,
    /// The command line as typed, for accounting.
    pub submit_line: Box<str>,
    /// Absolute path of the script; `None` for `--wrap` and standard input.
    pub command: Option<Box<str>>,
    /// The script's arguments.
    pub arguments: Vec<Box<str>>,
    /// Streams.
    pub files: Files,
    /// `--nodes`: least number, and most (`None`: as many as the least unless tasks need more).
    pub nodes: Option<(u32, Option<u32>)>,
    /// `--ntasks`.
    pub ntasks: Option<u32>,
    /// `--cpus-per-task`.
    pub cpus_per_task: Option<u32>,
    /// `--ntasks-per-node`.
    pub ntasks_per_node: Option<u32>,
    /// Memory.
    pub memory: Option<MemoryRequest>,
    /// `--gres`: on each node.
    pub gres_per_node: Vec<GresRequest>,
    /// `--gpus`: for the whole job.
    pub gpus_per_job: Vec<GresRequest>,
    /// `--gpus-per-node`.
    pub gpus_per_node: Vec<GresRequest>,
    /// `--gpus-per-task`.
    pub gpus_per_task: Vec<GresRequest>,
    /// `--gpus-per-socket`.
    pub gpus_per_socket: Vec<GresRequest>,
    /// `--constraint`, as typed.
    pub constraint: Option<Box<str>>,
    /// `--exclusive`, `--oversubscribe`.
    pub sharing: Sharing,
    /// `--time` in whole minutes, already rounded up. `Some(None)` is UNLIMITED.
    pub time_limit: Option<Option<Span>>,
    /// `--begin`.
    pub begin: Option<Timestamp>,
    /// `--nice`.
    pub nice: i32,
    /// `--hold`.
    pub hold: bool,
    /// `--requeue` (yes) or `--no-requeue` (no).
    pub requeue: Option<bool>,
    /// The submitter's file creation mask.
    pub umask: u16,
    /// `--dependency`.
    pub dependency: Dependency,
    /// `--array`.
    pub array: Option<ArraySpec>,
    /// What few jobs ask for.
    pub rare: Option<Box<Rare>>,
}

static NOTHING_RARE: Rare = Rare {
    comment: None,
    wckey: None,
    reservation: None,
    licenses: None,
    prefer: None,
    cluster_constraint: None,
    nodelist: None,
    exclude: None,
    gpu_bind: None,
    tres_per_task: None,
    tres_bind: None,
    gres_flags: None,
    distribution: None,
    hint: None,
    network: None,
    burst_buffer: None,
    mcs_label: None,
    mail_type: None,
    mail_user: None,
    container: None,
    container_id: None,
    container_options: None,
    extra: None,
    profile: None,
    acctg_freq: None,
    resv_ports: None,
    switches: None,
    core_spec: None,
    thread_spec: None,
    tmp_mib: None,
    sockets_per_node: None,
    cores_per_socket: None,
    threads_per_core: None,
    ntasks_per_socket: None,
    ntasks_per_core: None,
    ntasks_per_gpu: None,
    min_cpus_per_node: None,
    cpus_per_gpu: None,
    deadline: None,
    delay_boot: None,
    time_min: None,
    warn_signal: None,
    priority: None,
    contiguous: false,
    spread_job: false,
    use_min_nodes: false,
    segment: None,
    overcommit: false,
    no_kill: false,
    reboot: false,
    kill_on_invalid_dep: None,
    get_user_env: false,
    immediate: None,
    rlimits: Vec::new(),
};

impl JobRequest {
    /// The rare fields, all absent where none was given.
    #[must_use]
    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// The rare fields, to be filled in.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }
}
