//! slurm.conf as typed values, and the configuration of a machine that has no file.

use super::lex::{self, Line, Place, Reader};
use super::node::{self, NodeConf};
use super::partition::{self, NodeSetConf, PartitionConf};
use super::settings::{Scope, comma_list};
use super::{Error, Notice, keys};
use crate::hostlist;
use crate::quantity::{Cpus, MemoryMib};
use crate::time::{Span, limit};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Memory for each CPU or on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// For each CPU.
    PerCpu(MemoryMib),
    /// On each node.
    PerNode(MemoryMib),
}

impl MemoryLimit {
    /// From the two keys, of which only one may be given; UNLIMITED and 0 are no limit.
    pub(super) fn of(settings: &Scope, per_cpu: &str, per_node: &str) -> Option<MemoryLimit> {
        let get = |key: &str| settings.mib(key).flatten().filter(|mib| mib.0 > 0);
        match (get(per_cpu), get(per_node)) {
            (Some(_), Some(_)) => {
                settings.fail(per_node, &format!("{per_cpu} is given too, and they are mutually exclusive"));
                None
            }
            (Some(mib), None) => Some(MemoryLimit::PerCpu(mib)),
            (None, Some(mib)) => Some(MemoryLimit::PerNode(mib)),
            (None, None) => None,
        }
    }
}

/// What a job with GPUs gets for each where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobDefaults {
    /// CPUs for each GPU.
    pub cpu_per_gpu: Option<u32>,
    /// Memory for each GPU.
    pub mem_per_gpu: Option<MemoryMib>,
}

impl JobDefaults {
    /// From `JobDefaults=DefCpuPerGPU=…,DefMemPerGPU=…` and the two keys of their own.
    pub(super) fn of(settings: &Scope) -> JobDefaults {
        let mut defaults = JobDefaults {
            cpu_per_gpu: settings.number_opt("DefCpuPerGPU"),
            mem_per_gpu: settings.mib("DefMemPerGPU").flatten(),
        };
        for word in settings.list("JobDefaults") {
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            match (name.to_ascii_lowercase().as_str(), value.parse::<u32>()) {
                ("defcpupergpu", Ok(count)) => defaults.cpu_per_gpu = Some(count),
                ("defmempergpu", Ok(mib)) => defaults.mem_per_gpu = Some(MemoryMib(u64::from(mib))),
                _ => settings.fail("JobDefaults", "not DefCpuPerGPU=N or DefMemPerGPU=N"),
            }
        }
        defaults
    }
}

/// A controller's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerHost {
    /// Short name.
    pub name: Box<str>,
    /// Where it is reached.
    pub addr: Box<str>,
}

/// What AccountingStorageEnforce asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforce {
    /// Only users with an association may submit.
    pub associations: bool,
    /// Limits of associations hold.
    pub limits: bool,
    /// A QOS must be valid, and its limits hold.
    pub qos: bool,
    /// Jobs start only where their limits let them end.
    pub safe: bool,
    /// A workload key must be valid.
    pub wckeys: bool,
    /// Jobs are not accounted.
    pub no_jobs: bool,
    /// Steps are not accounted.
    pub no_steps: bool,
}

impl Enforce {
    /// Reads the list; each word brings in what it rests on.
    fn parse(text: &str) -> Enforce {
        let mut enforce = Enforce::default();
        for word in text.split(',') {
            match word.trim().to_ascii_lowercase().as_str() {
                "1" | "associations" => enforce.associations = true,
                "2" | "limits" => (enforce.associations, enforce.limits) = (true, true),
                "safe" => (enforce.associations, enforce.limits, enforce.safe) = (true, true, true),
                "qos" => (enforce.associations, enforce.qos) = (true, true),
                "wckeys" => (enforce.associations, enforce.wckeys) = (true, true),
                "all" => {
                    enforce = Enforce {
                        associations: true,
                        limits: true,
                        qos: true,
                        safe: true,
                        wckeys: true,
                        ..enforce
                    }
                }
                "nojobs" => (enforce.no_jobs, enforce.no_steps) = (true, true),
                "nosteps" => enforce.no_steps = true,
                _ => {}
            }
        }
        enforce
    }
}

/// Whether jobs that break their partition's limits are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnforcePartLimits {
    /// They are accepted and wait.
    #[default]
    No,
    /// Refused if any of the named partitions refuses (YES, ALL).
    All,
    /// Refused if every named partition refuses.
    Any,
}

/// Which jobs may be preempted by which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreemptType {
    /// None.
    #[default]
    None,
    /// Those of lower partition tiers.
    Partition,
    /// Those of the QOS that a QOS names.
    Qos,
}

/// What happens to a preempted job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreemptMode {
    /// It is not preempted.
    #[default]
    Off,
    /// It is cancelled.
    Cancel,
    /// It is put back into the queue, or cancelled where it may not be.
    Requeue,
    /// It stops until the other one has ended.
    Suspend,
    /// Within one partition tier or QOS, by priority.
    Within,
}

impl PreemptMode {
    /// Slurm's word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            PreemptMode::Off => "OFF",
            PreemptMode::Cancel => "CANCEL",
            PreemptMode::Requeue => "REQUEUE",
            PreemptMode::Suspend => "SUSPEND",
            PreemptMode::Within => "WITHIN",
        }
    }
}

/// Reads `REQUEUE`, `SUSPEND,GANG`, …: the mode, and whether jobs take turns (GANG).
pub(super) fn parse_preempt_mode(text: &str) -> Option<(PreemptMode, bool)> {
    let (mut mode, mut gang) = (PreemptMode::Off, false);
    for word in text.split(',') {
        match word.trim().to_ascii_uppercase().as_str() {
            "OFF" | "NONE" => mode = PreemptMode::Off,
            "CANCEL" => mode = PreemptMode::Cancel,
            "REQUEUE" => mode = PreemptMode::Requeue,
            "SUSPEND" => mode = PreemptMode::Suspend,
            "WITHIN" => mode = PreemptMode::Within,
            "GANG" => gang = true,
            "PRIORITY" => {}
            _ => return None,
        }
    }
    Some((mode, gang))
}

/// When usage is forgotten whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageReset {
    /// Never.
    #[default]
    None,
    /// Once, at the next start.
    Now,
    /// Each midnight.
    Daily,
    /// Each Sunday.
    Weekly,
    /// On the first of each month.
    Monthly,
    /// Each quarter.
    Quarterly,
    /// Each January.
    Yearly,
}

/// The multifactor priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// False: first come, first served (`priority/basic`).
    pub multifactor: bool,
    /// Weight of the time a job has waited.
    pub weight_age: u32,
    /// Weight of the association's own factor.
    pub weight_assoc: u32,
    /// Weight of fair share.
    pub weight_fairshare: u32,
    /// Weight of a job's size.
    pub weight_job_size: u32,
    /// Weight of the partition's factor.
    pub weight_partition: u32,
    /// Weight of the QOS's priority.
    pub weight_qos: u32,
    /// Weights of single TRES: the name in lower case, and the weight.
    pub weight_tres: Vec<(Box<str>, u32)>,
    /// Waiting time at which the age factor is 1.
    pub max_age: Span,
    /// Time in which usage counts for half; zero: usage is kept.
    pub decay_half_life: Span,
    /// Time between two calculations.
    pub calc_period: Span,
    /// Small jobs are favoured instead of large ones.
    pub favor_small: bool,
    /// When usage is forgotten.
    pub usage_reset: UsageReset,
    /// PriorityFlags, in capitals.
    pub flags: Vec<Box<str>>,
}

/// How resources are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectType {
    /// Cores, memory and gres of a node go to several jobs.
    #[default]
    ConsTres,
    /// Whole nodes.
    Linear,
}

/// The smallest piece of processor that a job gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectResource {
    /// A hardware thread, or a core where CPUs says so.
    Cpu,
    /// A core.
    #[default]
    Core,
    /// A socket.
    Socket,
    /// Processors are not counted (CR_Memory).
    None,
}

/// The programs that a site runs around jobs; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramConf {
    /// On each node, as root, before a job's first step.
    pub prolog: Option<Box<str>>,
    /// On each node, as root, after a job.
    pub epilog: Option<Box<str>>,
    /// Beside the scheduler, before a job.
    pub prolog_slurmctld: Option<Box<str>>,
    /// Beside the scheduler, after a job.
    pub epilog_slurmctld: Option<Box<str>>,
    /// Before each task, as the user.
    pub task_prolog: Option<Box<str>>,
    /// After each task, as the user.
    pub task_epilog: Option<Box<str>>,
    /// Where srun runs, before a step.
    pub srun_prolog: Option<Box<str>>,
    /// Where srun runs, after a step.
    pub srun_epilog: Option<Box<str>>,
    /// Time after which a prolog is killed; `None`: never.
    pub prolog_timeout: Option<Span>,
    /// Time after which an epilog is killed; `None`: never.
    pub epilog_timeout: Option<Span>,
    /// PrologFlags as written, in lower case.
    pub prolog_flags: Vec<Box<str>>,
}

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

/// Lines of these keys describe an entity.
const ENTITIES: [&str; 5] = ["NodeName", "PartitionName", "NodeSet", "DownNodes", "FrontendName"];

/// What the file holds, sorted by kind of line.
#[derive(Default)]
struct Sorted {
    settings: Scope,
    hosts: Vec<ControllerHost>,
    nodes: Vec<Line>,
    partitions: Vec<Line>,
    node_sets: Vec<Line>,
    down: Vec<Line>,
    notices: Vec<Notice>,
}

impl SlurmConf {
    /// Reads slurm.conf. `path` names `text` in errors and is what `Include` is relative to.
    ///
    /// All errors of the files are returned, in the order of discovery. Cost: O(text + nodes).
    pub fn parse(text: &str, path: &Path, read: Reader<'_>) -> Result<SlurmConf, Vec<Error>> {
        let errors = Rc::new(RefCell::new(Vec::new()));
        let mut lexical = Vec::new();
        let lines = lex::lines(text, path, read, &mut lexical);
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

/// Sorts lines by kind, checks keys and values against the table.
fn sort(lines: Vec<Line>, errors: &Rc<RefCell<Vec<Error>>>) -> Sorted {
    let mut sorted = Sorted { settings: Scope::new(errors), ..Sorted::default() };
    for line in lines {
        let first = line.pairs.first().map(|(key, _)| key.clone()).unwrap_or_default();
        match ENTITIES.iter().position(|entity| entity.eq_ignore_ascii_case(&first)) {
            Some(0) => sorted.nodes.push(line),
            Some(1) => sorted.partitions.push(line),
            Some(2) => sorted.node_sets.push(line),
            Some(3) => sorted.down.push(line),
            Some(_) => sorted.notices.push(Notice {
                message: format!(
                    "{first} is not supported; it would have named a front end that runs batch scripts"
                ),
                place: line.place,
            }),
            None => line
                .pairs
                .iter()
                .for_each(|(key, value)| global(key, value, &line.place, &mut sorted, errors)),
        }
    }
    sorted
}

fn global(key: &str, value: &str, place: &Place, sorted: &mut Sorted, errors: &Rc<RefCell<Vec<Error>>>) {
    let Some(known) = keys::find(key) else {
        errors.borrow_mut().push(place.error(format!("unrecognized key: {key}")));
        return;
    };
    if let Err(wanted) = keys::check(known, value) {
        errors
            .borrow_mut()
            .push(place.error(format!("invalid value \"{value}\" for {}: it takes {wanted}", known.name)));
        return;
    }
    if let keys::Class::Unsupported(effect, harmless) = known.class
        && !harmless.iter().any(|word| word.eq_ignore_ascii_case(value))
        && !value.eq_ignore_ascii_case(known.default)
        && !value.is_empty()
    {
        let message = format!("{}={value} is not supported; it would have given {effect}", known.name);
        sorted.notices.push(Notice { place: place.clone(), message });
    }
    if known.name == "SlurmctldHost" {
        sorted.hosts.push(controller_host(value));
    } else if sorted.settings.set(known.name, value, place) {
        let message = format!("{} is given more than once; this value is used", known.name);
        sorted.notices.push(Notice { place: place.clone(), message });
    }
    if known.name == "SlurmctldHost" && sorted.settings.text("SlurmctldHost").is_none() {
        sorted.settings.set(known.name, value, place);
    }
}

/// `ctl` or `ctl(10.0.0.1)`.
fn controller_host(value: &str) -> ControllerHost {
    let (name, addr) = value.split_once('(').unwrap_or((value, value));
    ControllerHost { name: name.into(), addr: addr.trim_end_matches(')').into() }
}

/// Checks a line's keys, and lays its values over those of the DEFAULT lines before it.
fn overlay(defaults: &Scope, line: &Line, known: &[&str], errors: &Rc<RefCell<Vec<Error>>>) -> Scope {
    let mut settings = defaults.clone();
    for (key, value) in &line.pairs {
        if known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            settings.set(key, value, &line.place);
        } else {
            errors.borrow_mut().push(line.place.error(format!("unrecognized key: {key}")));
        }
    }
    settings
}

fn is_default(settings: &Scope, key: &str) -> bool {
    settings.text(key).is_some_and(|name| name.eq_ignore_ascii_case("DEFAULT"))
}

fn build_nodes(sorted: &Sorted, errors: &Rc<RefCell<Vec<Error>>>) -> Vec<NodeConf> {
    let mut defaults = Scope::new(errors);
    let mut nodes: Vec<NodeConf> = Vec::new();
    let mut names: BTreeSet<Box<str>> = BTreeSet::new();
    for line in &sorted.nodes {
        let mut settings = overlay(&defaults, line, node::KEYS, errors);
        if is_default(&settings, "NodeName") {
            settings.unset("NodeName");
            defaults = settings;
            continue;
        }
        match node::expand(line, &settings) {
            Ok(made) => {
                for node in made {
                    if !names.insert(node.name.clone()) {
                        errors
                            .borrow_mut()
                            .push(line.place.error(format!("node {} is given twice", node.name)));
                    }
                    nodes.push(node);
                }
            }
            Err(message) => errors.borrow_mut().push(line.place.error(message)),
        }
    }
    for line in &sorted.down {
        apply_down(line, &mut nodes, errors);
    }
    nodes
}

/// `DownNodes=n[1-2] State=DOWN Reason="broken fan"`.
fn apply_down(line: &Line, nodes: &mut [NodeConf], errors: &Rc<RefCell<Vec<Error>>>) {
    let settings = overlay(&Scope::new(errors), line, &["DownNodes", "State", "Reason"], errors);
    let names = match hostlist::expand(settings.text("DownNodes").unwrap_or_default()) {
        Ok(names) => names,
        Err(error) => {
            return errors.borrow_mut().push(line.place.error(format!("invalid DownNodes: {error}")));
        }
    };
    let state = match settings.text("State").map(str::to_ascii_uppercase).as_deref() {
        None | Some("DOWN") => super::NodeStateConf::Down,
        Some("DRAIN") => super::NodeStateConf::Drain,
        Some("FAIL") => super::NodeStateConf::Fail,
        Some("FAILING") => super::NodeStateConf::Failing,
        Some("FUTURE") => super::NodeStateConf::Future,
        Some("UNKNOWN") => super::NodeStateConf::Unknown,
        Some(_) => return settings.fail("State", "not a state for DownNodes"),
    };
    for name in names {
        match nodes.iter_mut().find(|node| *node.name == *name) {
            Some(node) => {
                node.state = state;
                node.reason = Some(settings.text("Reason").unwrap_or("Unknown").into());
            }
            None => errors.borrow_mut().push(line.place.error(format!("DownNodes: there is no node {name}"))),
        }
    }
}

fn build_node_sets(lines: &[Line], errors: &Rc<RefCell<Vec<Error>>>) -> Vec<NodeSetConf> {
    let mut sets = Vec::new();
    for line in lines {
        let settings = overlay(&Scope::new(errors), line, &["NodeSet", "Feature", "Nodes"], errors);
        let boxed = |key: &str| settings.text(key).map(Box::from);
        for name in settings.list("NodeSet") {
            let set = NodeSetConf {
                name,
                feature: boxed("Feature"),
                nodes: boxed("Nodes"),
                place: line.place.clone(),
            };
            if set.feature.is_none() && set.nodes.is_none() {
                errors
                    .borrow_mut()
                    .push(line.place.error(format!("NodeSet {} has neither Feature nor Nodes", set.name)));
            }
            sets.push(set);
        }
    }
    sets
}

fn build_partitions(
    sorted: &mut Sorted,
    nodes: &[NodeConf],
    sets: &[NodeSetConf],
    errors: &Rc<RefCell<Vec<Error>>>,
) -> Vec<PartitionConf> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| &*node.name).collect();
    let mut defaults = Scope::new(errors);
    let mut partitions: Vec<PartitionConf> = Vec::new();
    for line in &sorted.partitions {
        for (key, value) in &line.pairs {
            if let Some((name, effect)) =
                partition::UNSUPPORTED.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))
            {
                let message = format!("{name}={value} is not supported; it would have given {effect}");
                sorted.notices.push(Notice { place: line.place.clone(), message });
            }
        }
        let mut settings = overlay(&defaults, line, partition::KEYS, errors);
        if is_default(&settings, "PartitionName") {
            settings.unset("PartitionName");
            defaults = settings;
            continue;
        }
        let mut made = partition::build(line, &settings);
        match resolve_nodes(&made.nodes_text, nodes, &known, sets) {
            Ok(members) => made.nodes = members,
            Err(message) => {
                errors.borrow_mut().push(line.place.error(format!("partition {}: {message}", made.name)));
            }
        }
        for name in comma_list(&made.name.clone()) {
            if partitions.iter().any(|other| other.name == name) {
                errors.borrow_mut().push(line.place.error(format!("partition {name} is given twice")));
            }
            partitions.push(PartitionConf { name, ..made.clone() });
        }
    }
    // Of several defaults the last one counts, as in Slurm.
    if let Some(last) = partitions.iter().rposition(|partition| partition.default) {
        partitions.iter_mut().enumerate().for_each(|(at, partition)| partition.default = at == last);
    }
    partitions
}

/// The members of a partition: `ALL`, node sets and hostlists, in order, without repeats.
fn resolve_nodes(
    text: &str,
    nodes: &[NodeConf],
    known: &BTreeSet<&str>,
    sets: &[NodeSetConf],
) -> Result<Vec<Box<str>>, String> {
    let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
    let mut members: Vec<Box<str>> = Vec::new();
    let mut add = |name: &str| {
        if seen.insert(name.into()) {
            members.push(name.into());
        }
    };
    for name in hostlist::expand(text).map_err(|error| format!("invalid Nodes: {error}"))? {
        let matching: Vec<&NodeSetConf> = sets.iter().filter(|set| *set.name == *name).collect();
        if name.eq_ignore_ascii_case("ALL") {
            nodes.iter().for_each(|node| add(&node.name));
        } else if matching.is_empty() {
            if !known.contains(name.as_str()) {
                return Err(format!("there is no node {name}"));
            }
            add(&name);
        }
        for set in matching {
            if let Some(feature) = &set.feature {
                nodes.iter().filter(|node| node.features.contains(feature)).for_each(|node| add(&node.name));
            }
            match set.nodes.as_deref() {
                Some(all) if all.eq_ignore_ascii_case("ALL") => nodes.iter().for_each(|node| add(&node.name)),
                Some(list) => {
                    for name in
                        hostlist::expand(list).map_err(|error| format!("NodeSet {}: {error}", set.name))?
                    {
                        if !known.contains(name.as_str()) {
                            return Err(format!("NodeSet {}: there is no node {name}", set.name));
                        }
                        add(&name);
                    }
                }
                None => {}
            }
        }
    }
    Ok(members)
}

fn build(
    settings: Scope,
    mut hosts: Vec<ControllerHost>,
    nodes: Vec<NodeConf>,
    partitions: Vec<PartitionConf>,
    node_sets: Vec<NodeSetConf>,
    notices: Vec<Notice>,
) -> SlurmConf {
    let s = &settings;
    if hosts.is_empty()
        && let Some(name) = s.text("ControlMachine")
    {
        hosts.push(ControllerHost { name: name.into(), addr: s.text("ControlAddr").unwrap_or(name).into() });
    }
    if let (Some(addr), Some(first)) = (s.text("SlurmctldAddr"), hosts.first_mut()) {
        first.addr = addr.into();
    }
    let boxed = |key: &str| s.text(key).filter(|text| !text.is_empty()).map(Box::<str>::from);
    let text = |key: &str| s.text_or_default(key).into_boxed_str();
    let words = |key: &str| lower_list(s.text(key).unwrap_or_default());
    let select = SelectOptions::of(s.text("SelectTypeParameters").unwrap_or("CR_CORE_MEMORY"));
    let (preempt_mode, gang) = s.text("PreemptMode").and_then(parse_preempt_mode).unwrap_or_default();
    let slurmd_parameters = words("SlurmdParameters");
    let acct_params = words("JobAcctGatherParams");
    SlurmConf {
        cluster_name: s.text("ClusterName").unwrap_or_default().to_ascii_lowercase().into(),
        slurm_user: text("SlurmUser"),
        slurmctld_ports: s.text("SlurmctldPort").and_then(keys::parse_ports).unwrap_or((6817, 6817)),
        slurmctld_hosts: hosts,
        slurmd_port: s.number("SlurmdPort", 6818),
        state_save_location: text("StateSaveLocation"),
        slurmd_spool_dir: text("SlurmdSpoolDir"),
        kill_wait: s.seconds("KillWait", 30),
        min_job_age: s.seconds("MinJobAge", 300),
        inactive_limit: s.seconds("InactiveLimit", 0),
        wait_time: s.seconds("WaitTime", 0),
        batch_start_timeout: s.seconds("BatchStartTimeout", 10),
        message_timeout: s.seconds("MessageTimeout", 10),
        slurmd_timeout: s.seconds("SlurmdTimeout", 300),
        unkillable_step_timeout: s.seconds("UnkillableStepTimeout", 60),
        over_time_limit: s.time("OverTimeLimit").unwrap_or(Some(Span::ZERO)),
        requeue_delay: requeue_delay(s),
        first_job_id: s.number("FirstJobId", 1),
        max_job_id: s.number("MaxJobId", 67_043_328),
        max_job_count: s.number("MaxJobCount", 10_000),
        max_array_size: max_array_size(s),
        max_step_count: s.number("MaxStepCount", 40_000),
        max_tasks_per_node: s.number("MaxTasksPerNode", 512),
        max_batch_requeue: s.number("MaxBatchRequeue", 5),
        default_memory: MemoryLimit::of(s, "DefMemPerCPU", "DefMemPerNode"),
        max_memory: MemoryLimit::of(s, "MaxMemPerCPU", "MaxMemPerNode"),
        job_defaults: JobDefaults::of(s),
        job_requeue: s.flag("JobRequeue", true),
        job_file_append: s.flag("JobFileAppend", false),
        kill_on_bad_exit: s.flag("KillOnBadExit", false),
        requeue_exit: exit_codes(s, "RequeueExit"),
        requeue_exit_hold: exit_codes(s, "RequeueExitHold"),
        licenses: licenses(s),
        gres_types: words("GresTypes"),
        priority: priority(s),
        backfill: !s.text("SchedulerType").is_some_and(|kind| kind.eq_ignore_ascii_case("sched/builtin")),
        scheduler_parameters: parameters(s.text("SchedulerParameters").unwrap_or_default()),
        select_type: match s.text("SelectType").map(str::to_ascii_lowercase).as_deref() {
            Some("select/linear") => SelectType::Linear,
            _ => SelectType::ConsTres,
        },
        select_resource: select.resource,
        select_memory: select.memory,
        select_options: select.options,
        preempt_type: match s.text("PreemptType").map(str::to_ascii_lowercase).as_deref() {
            Some("preempt/partition_prio") => PreemptType::Partition,
            Some("preempt/qos") => PreemptType::Qos,
            _ => PreemptType::None,
        },
        preempt_mode,
        gang,
        preempt_parameters: parameters(s.text("PreemptParameters").unwrap_or_default()),
        preempt_exempt_time: exempt_time(s),
        enforce_part_limits: match s.text("EnforcePartLimits").map(str::to_ascii_uppercase).as_deref() {
            Some("YES" | "ALL" | "1") => EnforcePartLimits::All,
            Some("ANY") => EnforcePartLimits::Any,
            _ => EnforcePartLimits::No,
        },
        accounting: s
            .text("AccountingStorageType")
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("accounting_storage/none")),
        enforce: Enforce::parse(s.text("AccountingStorageEnforce").unwrap_or_default()),
        accounting_tres: words("AccountingStorageTRES"),
        accounting_store_flags: words("AccountingStoreFlags"),
        return_to_service: s.number("ReturnToService", 0),
        auth_type: text("AuthType"),
        programs: programs(s),
        mail_prog: text("MailProg"),
        mail_domain: boxed("MailDomain"),
        private_data: words("PrivateData").into_iter().filter(|word| &**word != "none").collect(),
        propagate_limits: upper_list(&s.text_or_default("PropagateResourceLimits")),
        propagate_limits_except: upper_list(&s.text_or_default("PropagateResourceLimitsExcept")),
        disable_root_jobs: s.flag("DisableRootJobs", false),
        config_overrides: slurmd_parameters.iter().any(|word| &**word == "config_overrides"),
        over_memory_kill: acct_params.iter().any(|word| &**word == "overmemorykill"),
        acct_gather_frequency: acct_gather_frequency(s),
        kill_invalid_depend: words("DependencyParameters")
            .iter()
            .any(|word| &**word == "kill_invalid_depend"),
        salloc_default_command: boxed("SallocDefaultCommand"),
        tmp_fs: text("TmpFS"),
        nodes,
        partitions,
        node_sets,
        notices,
        settings: settings.settings,
    }
}

fn lower_list(text: &str) -> Vec<Box<str>> {
    comma_list(&text.to_ascii_lowercase())
}

fn upper_list(text: &str) -> Vec<Box<str>> {
    comma_list(&text.to_ascii_uppercase())
}

/// `a=1,b,c=x` by lower-case name.
fn parameters(text: &str) -> BTreeMap<Box<str>, Box<str>> {
    let words = comma_list(text);
    let pair = |word: &Box<str>| {
        let (name, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
        (name.to_ascii_lowercase().into_boxed_str(), value.into())
    };
    words.iter().map(pair).collect()
}

/// cred_expire of AuthInfo: Slurm holds a requeued job until its old credentials are worthless.
fn requeue_delay(s: &Scope) -> Span {
    let info = parameters(s.text("AuthInfo").unwrap_or_default());
    match info.get("cred_expire").map(|value| value.parse::<u32>()) {
        Some(Ok(seconds)) => Span::from_secs(i64::from(seconds)),
        Some(Err(_)) => {
            s.fail("AuthInfo", "cred_expire is not a number of seconds");
            Span::from_secs(120)
        }
        None => Span::from_secs(120),
    }
}

fn max_array_size(s: &Scope) -> u32 {
    let size = s.number("MaxArraySize", 1001);
    if size > crate::array::MAX_TASK_ID + 1 {
        s.fail("MaxArraySize", "more than 4000001");
    }
    size
}

fn exempt_time(s: &Scope) -> Span {
    s.text("PreemptExemptTime").and_then(|text| limit::parse(text).ok()).flatten().unwrap_or_default()
}

/// `30` or `task=30,energy=5`.
fn acct_gather_frequency(s: &Scope) -> Span {
    let text = s.text("JobAcctGatherFrequency").unwrap_or("30");
    let number = text
        .parse::<u32>()
        .ok()
        .or_else(|| parameters(text).get("task").and_then(|value| value.parse().ok()));
    Span::from_secs(i64::from(number.unwrap_or(30)))
}

/// `1,3-5`.
fn exit_codes(s: &Scope, key: &str) -> Vec<u8> {
    let mut codes = Vec::new();
    for word in s.list(key) {
        let (first, last) = word.split_once('-').unwrap_or((&word, &word));
        match (first.parse::<u8>(), last.parse::<u8>()) {
            (Ok(first), Ok(last)) if first <= last => codes.extend(first..=last),
            _ => s.fail(key, "not a list of exit codes from 0 to 255"),
        }
    }
    codes
}

/// `matlab:4,ansys`: a license without a count is one.
fn licenses(s: &Scope) -> Vec<(Box<str>, u32)> {
    let mut licenses: Vec<(Box<str>, u32)> = Vec::new();
    for word in s.list("Licenses") {
        let (name, count) = word.split_once([':', '*', '=']).unwrap_or((&word, "1"));
        match count.parse() {
            Ok(count) if !name.is_empty() => licenses.push((name.into(), count)),
            _ => s.fail("Licenses", "not a list of name:count"),
        }
    }
    licenses
}

fn programs(s: &Scope) -> ProgramConf {
    let boxed = |key: &str| {
        s.text(key).filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("none")).map(Box::from)
    };
    let timeout = |key: &str| {
        let either = if s.text(key).is_some() { key } else { "PrologEpilogTimeout" };
        s.number_or_unlimited(either)
            .flatten()
            .filter(|&seconds| seconds < 65_534)
            .map(|seconds| Span::from_secs(i64::from(seconds)))
    };
    ProgramConf {
        prolog: boxed("Prolog"),
        epilog: boxed("Epilog"),
        prolog_slurmctld: boxed("PrologSlurmctld"),
        epilog_slurmctld: boxed("EpilogSlurmctld"),
        task_prolog: boxed("TaskProlog"),
        task_epilog: boxed("TaskEpilog"),
        srun_prolog: boxed("SrunProlog"),
        srun_epilog: boxed("SrunEpilog"),
        prolog_timeout: timeout("PrologTimeout"),
        epilog_timeout: timeout("EpilogTimeout"),
        prolog_flags: lower_list(s.text("PrologFlags").unwrap_or_default()),
    }
}

fn priority(s: &Scope) -> Priority {
    let time = |key: &str, default: Span| s.time(key).map_or(default, |time| time.unwrap_or(Span::MAX));
    let mut weight_tres = Vec::new();
    for word in s.list("PriorityWeightTRES") {
        match word.split_once('=').map(|(name, value)| (name, value.parse())) {
            Some((name, Ok(weight))) => weight_tres.push((name.to_ascii_lowercase().into(), weight)),
            _ => s.fail("PriorityWeightTRES", "not a list of TRES=weight"),
        }
    }
    Priority {
        multifactor: !s.text("PriorityType").is_some_and(|kind| kind.eq_ignore_ascii_case("priority/basic")),
        weight_age: s.number("PriorityWeightAge", 0),
        weight_assoc: s.number("PriorityWeightAssoc", 0),
        weight_fairshare: s.number("PriorityWeightFairshare", 0),
        weight_job_size: s.number("PriorityWeightJobSize", 0),
        weight_partition: s.number("PriorityWeightPartition", 0),
        weight_qos: s.number("PriorityWeightQOS", 0),
        weight_tres,
        max_age: time("PriorityMaxAge", Span::from_mins(7 * 24 * 60)),
        decay_half_life: time("PriorityDecayHalfLife", Span::from_mins(7 * 24 * 60)),
        calc_period: time("PriorityCalcPeriod", Span::from_mins(5)),
        favor_small: s.flag("PriorityFavorSmall", false),
        usage_reset: match s.text("PriorityUsageResetPeriod").map(str::to_ascii_uppercase).as_deref() {
            Some("NOW") => UsageReset::Now,
            Some("DAILY") => UsageReset::Daily,
            Some("WEEKLY") => UsageReset::Weekly,
            Some("MONTHLY") => UsageReset::Monthly,
            Some("QUARTERLY") => UsageReset::Quarterly,
            Some("YEARLY") => UsageReset::Yearly,
            _ => UsageReset::None,
        },
        flags: upper_list(s.text("PriorityFlags").unwrap_or_default()),
    }
}

/// SelectTypeParameters taken apart.
struct SelectOptions {
    resource: SelectResource,
    memory: bool,
    options: Vec<Box<str>>,
}

impl SelectOptions {
    fn of(text: &str) -> SelectOptions {
        let mut select = SelectOptions { resource: SelectResource::Core, memory: false, options: Vec::new() };
        for word in upper_list(text) {
            let (unit, memory) = match word.strip_suffix("_MEMORY") {
                Some(unit) => (unit, true),
                None => (&*word, false),
            };
            select.memory |= memory;
            match unit {
                "CR_CPU" => select.resource = SelectResource::Cpu,
                "CR_CORE" => select.resource = SelectResource::Core,
                "CR_SOCKET" | "CR_BOARD" => select.resource = SelectResource::Socket,
                "CR" => select.resource = SelectResource::None,
                "NONE" => {}
                _ => select.options.push(word),
            }
        }
        select
    }
}
