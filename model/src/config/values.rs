//! The values of slurm.conf's keys, each with Slurm's default where it is absent.

use super::Notice;
use super::keys;
use super::node::NodeConf;
use super::partition::{NodeSetConf, PartitionConf};
use super::settings::{Scope, comma_list};
use super::slurm::SlurmConf;
use super::terms::{
    ControllerHost, Enforce, EnforcePartLimits, HealthCheck, JobDefaults, MemoryLimit, PreemptType, Priority,
    ProgramConf, SelectResource, SelectType, UsageReset, parse_preempt_mode,
};
use crate::time::{Span, limit};
use std::collections::BTreeMap;

pub(super) fn build(
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
        mpi_default: s.text("MpiDefault").unwrap_or("none").into(),
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
    let pair = |word: &str| {
        let (name, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
        (name.to_ascii_lowercase().into_boxed_str(), value.into())
    };
    words.iter().map(|word| pair(word)).collect()
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
        health_check: boxed("HealthCheckProgram").map(|program| HealthCheck {
            program,
            interval: s.seconds("HealthCheckInterval", 0),
            timeout: s.seconds("HealthCheckTimeout", 60),
            states: s.text("HealthCheckNodeState").unwrap_or("ANY").to_ascii_lowercase().into(),
        }),
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
