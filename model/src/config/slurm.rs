//! slurm.conf as typed values, and the configuration of a machine that has no file.

use super::entities::{build_node_sets, build_nodes, build_partitions};
use super::lex::{self, Place, Reader};
use super::node::NodeConf;
use super::partition::{NodeSetConf, PartitionConf};
use super::settings::Scope;
use super::sort::sort;
use super::terms::{
    ControllerHost, Enforce, EnforcePartLimits, JobDefaults, MemoryLimit, PreemptMode, PreemptType, Priority,
    ProgramConf, SelectResource, SelectType,
};
use super::values::build;
use super::{Error, Notice};
use crate::quantity::{Cpus, MemoryMib};
use crate::time::Span;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// All of slurm.conf.
#[derive(Clone, Debug)]
pub struct SlurmConf {
    /// ClusterName.
    pub cluster_name: Box<str>,
    /// Name or number of the user the scheduler runs as.
    pub slurm_user: Box<str>,
    /// Controllers, the primary first.
    pub slurmctld_hosts: Vec<ControllerHost>,
    /// First and last port of the scheduler.
    pub slurmctld_ports: (u16, u16),
    /// Port of the node daemons.
    pub slurmd_port: u16,
    /// Where the scheduler keeps its state.
    pub state_save_location: Box<str>,
    /// Where node daemons keep theirs, with `%n` and `%h` not yet replaced.
    pub slurmd_spool_dir: Box<str>,
    /// Time between a job's TERM and its KILL.
    pub kill_wait: Span,
    /// How long ended jobs are remembered by the scheduler.
    pub min_job_age: Span,
    /// Silence of a salloc or srun after which its job ends; zero: never.
    pub inactive_limit: Span,
    /// Time that a step's other tasks get after the first has ended; zero: no limit.
    pub wait_time: Span,
    /// Time for a batch script to start.
    pub batch_start_timeout: Span,
    /// Time for an answer.
    pub message_timeout: Span,
    /// Silence after which a node is down; zero: never.
    pub slurmd_timeout: Span,
    /// Time after which processes that do not die drain their node.
    pub unkillable_step_timeout: Span,
    /// How far jobs may run over their limit; `None`: for ever.
    pub over_time_limit: Option<Span>,
    /// Time from a requeue to the next start (cred_expire of AuthInfo).
    pub requeue_delay: Span,
    /// First job id.
    pub first_job_id: u32,
    /// Last job id; then they begin again.
    pub max_job_id: u32,
    /// Most jobs held at once.
    pub max_job_count: u32,
    /// One more than the highest array task id.
    pub max_array_size: u32,
    /// Most steps of a job.
    pub max_step_count: u32,
    /// Most tasks of a step on a node.
    pub max_tasks_per_node: u32,
    /// Most requeues after failed launches.
    pub max_batch_requeue: u32,
    /// Memory of a job that gives none; `None`: all of a node's.
    pub default_memory: Option<MemoryLimit>,
    /// Most memory.
    pub max_memory: Option<MemoryLimit>,
    /// Defaults per GPU.
    pub job_defaults: JobDefaults,
    /// Batch jobs may be requeued where they do not say.
    pub job_requeue: bool,
    /// Output files are continued.
    pub job_file_append: bool,
    /// A task's failure ends its step.
    pub kill_on_bad_exit: bool,
    /// What serves MPI tasks where srun was asked for nothing (MpiDefault).
    pub mpi_default: Box<str>,
    /// Exit codes that put a job back into the queue.
    pub requeue_exit: Vec<u8>,
    /// Exit codes that put a job back, held.
    pub requeue_exit_hold: Vec<u8>,
    /// Licenses and their totals.
    pub licenses: Vec<(Box<str>, u32)>,
    /// Generic resources that exist.
    pub gres_types: Vec<Box<str>>,
    /// Priority.
    pub priority: Priority,
    /// False: strictly in the order of priority (sched/builtin).
    pub backfill: bool,
    /// SchedulerParameters: names in lower case, and their values.
    pub scheduler_parameters: BTreeMap<Box<str>, Box<str>>,
    /// How resources are given out.
    pub select_type: SelectType,
    /// The unit of processors.
    pub select_resource: SelectResource,
    /// Memory is a resource that is counted.
    pub select_memory: bool,
    /// The other SelectTypeParameters, in capitals (CR_LLN, CR_PACK_NODES, CR_ONE_TASK_PER_CORE, …).
    pub select_options: Vec<Box<str>>,
    /// Who preempts whom.
    pub preempt_type: PreemptType,
    /// What happens to the preempted.
    pub preempt_mode: PreemptMode,
    /// GANG: jobs that share resources take turns.
    pub gang: bool,
    /// PreemptParameters, names in lower case.
    pub preempt_parameters: BTreeMap<Box<str>, Box<str>>,
    /// How long a job runs before it may be preempted.
    pub preempt_exempt_time: Span,
    /// Jobs beyond their partition's limits.
    pub enforce_part_limits: EnforcePartLimits,
    /// True where accounting is stored.
    pub accounting: bool,
    /// What associations are used for.
    pub enforce: Enforce,
    /// AccountingStorageTRES: resources accounted beside the standard ones.
    pub accounting_tres: Vec<Box<str>>,
    /// AccountingStoreFlags, in lower case.
    pub accounting_store_flags: Vec<Box<str>>,
    /// 0: a node that came back stays down; 1: unless it was down for silence; 2: it is used again.
    pub return_to_service: u8,
    /// AuthType.
    pub auth_type: Box<str>,
    /// Programs around jobs.
    pub programs: ProgramConf,
    /// MailProg.
    pub mail_prog: Box<str>,
    /// MailDomain.
    pub mail_domain: Option<Box<str>>,
    /// PrivateData, in lower case.
    pub private_data: Vec<Box<str>>,
    /// Limits of the shell that jobs inherit, in capitals; `ALL`, `NONE` or names.
    pub propagate_limits: Vec<Box<str>>,
    /// Those that they do not inherit.
    pub propagate_limits_except: Vec<Box<str>>,
    /// root may not run jobs.
    pub disable_root_jobs: bool,
    /// SlurmdParameters=config_overrides: what the file says of a node counts, whatever it has.
    pub config_overrides: bool,
    /// JobAcctGatherParams=OverMemoryKill: jobs over their memory are killed by sampling.
    pub over_memory_kill: bool,
    /// Time between two samples of a job's use; zero: only at its end.
    pub acct_gather_frequency: Span,
    /// DependencyParameters=kill_invalid_depend.
    pub kill_invalid_depend: bool,
    /// SallocDefaultCommand.
    pub salloc_default_command: Option<Box<str>>,
    /// TmpFS.
    pub tmp_fs: Box<str>,
    /// Nodes, in the order of the file.
    pub nodes: Vec<NodeConf>,
    /// Partitions, in the order of the file.
    pub partitions: Vec<PartitionConf>,
    /// Node sets.
    pub node_sets: Vec<NodeSetConf>,
    /// Every key as written, by its lower-case name: for `scontrol show config`.
    pub settings: super::Settings,
    /// What the administrator should know.
    pub notices: Vec<Notice>,
}

impl SlurmConf {
    /// Reads slurm.conf. `path` names `text` in errors and is what `Include` is relative to.
    ///
    /// All errors of the files are returned, in the order of discovery. Cost: O(text + nodes).
    pub fn parse(text: &str, path: &Path, read: Reader<'_>) -> Result<SlurmConf, Vec<Error>> {
        let errors = Rc::new(RefCell::new(Vec::new()));
        let mut lexical = Vec::new();
        let lines = lex::lines(text, path, read, &mut lexical);
        if lines.is_empty() && !lexical.is_empty() {
            // That this and that is missing would only hide why.
            return Err(lexical);
        }
        errors.borrow_mut().append(&mut lexical);
        let mut sorted = sort(lines, &errors);
        let nodes = build_nodes(&sorted, &errors);
        let node_sets = build_node_sets(&sorted.node_sets, &errors);
        let partitions = build_partitions(&mut sorted, &nodes, &node_sets, &errors);
        let notices = std::mem::take(&mut sorted.notices);
        let hosts = std::mem::take(&mut sorted.hosts);
        if sorted.settings.text("ClusterName").is_none() {
            let place = Place { file: Arc::from(path), line: 1 };
            errors.borrow_mut().push(place.error("ClusterName needs to be specified"));
        }
        let conf = build(sorted.settings, hosts, nodes, partitions, node_sets, notices);
        let mut found = errors.take();
        let mut seen = BTreeSet::new();
        found.retain(|error| seen.insert(error.to_string()));
        if found.is_empty() { Ok(conf) } else { Err(found) }
    }

    /// The configuration of this one machine, where there is no file.
    ///
    /// One partition `main` with this node; memory is shared out by CPU; jobs run an hour where they do not
    /// say; a node that comes back is used again.
    #[must_use]
    pub fn without_files(node: &str, cpus: Cpus, memory: MemoryMib) -> SlurmConf {
        let place = Place { file: Arc::from(Path::new("(no configuration file)")), line: 0 };
        let errors = Rc::new(RefCell::new(Vec::new()));
        let mut settings = Scope::new(&errors);
        let cpus = Cpus(cpus.0.max(1));
        let share = (memory.0 / u64::from(cpus.0)).max(1).to_string();
        for (key, value) in [
            ("ClusterName", "sluice"),
            ("SlurmctldHost", node),
            ("DefMemPerCPU", &share),
            ("ReturnToService", "2"),
        ] {
            settings.set(key, value, &place);
        }
        let host = ControllerHost { name: node.into(), addr: node.into() };
        let node_conf = NodeConf {
            name: node.into(),
            hostname: node.into(),
            addr: node.into(),
            port: None,
            cpus,
            boards: 1,
            sockets: 1,
            cores_per_socket: cpus.0,
            threads_per_core: 1,
            real_memory: memory,
            tmp_disk: MemoryMib::ZERO,
            features: Vec::new(),
            gres: Vec::new(),
            weight: 1,
            state: super::NodeStateConf::Unknown,
            reason: None,
            core_spec_count: 0,
            cpu_spec_list: None,
            mem_spec_limit: MemoryMib::ZERO,
            restricted_cores_per_gpu: 0,
            cpu_bind: None,
            topology: None,
            place: place.clone(),
        };
        let partition = PartitionConf {
            default: true,
            default_time: Some(Some(Span::from_mins(60))),
            ..PartitionConf::with_defaults("main", vec![node.into()], place)
        };
        build(settings, vec![host], vec![node_conf], vec![partition], Vec::new(), Vec::new())
    }

    /// The spool folder of one node: `%n` is its name, `%h` its host's, `%%` a percent sign.
    #[must_use]
    pub fn spool_dir_of(&self, node: &NodeConf) -> String {
        replace_patterns(&self.slurmd_spool_dir, &node.name, &node.hostname)
    }

    /// A number among SchedulerParameters; `None` where it is absent or no number.
    #[must_use]
    pub fn scheduler_number(&self, name: &str) -> Option<u64> {
        self.scheduler_parameters.get(name)?.parse().ok()
    }
}

fn replace_patterns(text: &str, name: &str, hostname: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '%') {
            (_, true) => match letters.next() {
                Some('n') => out.push_str(name),
                Some('h') => out.push_str(hostname),
                Some('%') | None => out.push('%'),
                Some(other) => out.extend(['%', other]),
            },
            _ => out.push(letter),
        }
    }
    out
}
