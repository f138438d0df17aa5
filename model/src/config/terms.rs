//! The terms in which slurm.conf speaks: closed choices and small groups of values.

use super::settings::Scope;
use crate::quantity::MemoryMib;
use crate::time::Span;

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
    pub(super) fn parse(text: &str) -> Enforce {
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
    /// On each node, as root, now and then.
    pub health_check: Option<HealthCheck>,
}

/// HealthCheckProgram and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The program.
    pub program: Box<str>,
    /// Time between two runs; zero: at the node daemon's start alone.
    pub interval: Span,
    /// How long it may take.
    pub timeout: Span,
    /// HealthCheckNodeState as written, in lower case.
    pub states: Box<str>,
}
