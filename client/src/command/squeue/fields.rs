//! What `squeue -o` and `-O` can print of a job.
//!
//! One flat table in Slurm's alphabetical order; the words for "none" differ by column, as they do there.

use model::job::JobState;
use proto::v1::Job;

use super::super::job;
use crate::local;
use crate::table::units::{elapsed, memory};
use crate::table::{Field, field};

/// A job with what its cells also depend on.
pub(super) struct Row {
    pub job: Job,
    /// The scheduler's time of the answer.
    pub now_ms: i64,
    /// Whether memory is shown in the largest whole unit.
    pub convert: bool,
    /// Whether file patterns are expanded (`--expand-patterns`).
    pub expand: bool,
}

fn or_null(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("(null)").to_owned()
}

fn or(text: Option<String>, none: &str) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| none.to_owned())
}

fn star(number: Option<u32>) -> String {
    or(number.map(|number| number.to_string()), "*")
}

fn na(number: Option<u32>) -> String {
    or(number.map(|number| number.to_string()), "N/A")
}

fn array_id(row: &Row) -> u32 {
    row.job.array_job_id.unwrap_or(row.job.job_id)
}

fn time_limit(row: &Row) -> String {
    match row.job.time_limit_ms {
        None => "NOT_SET".to_owned(),
        Some(limit) if limit < 0 => "UNLIMITED".to_owned(),
        Some(limit) => elapsed(limit / 1000),
    }
}

fn time_left(row: &Row) -> String {
    match row.job.time_limit_ms {
        None => "NOT_SET".to_owned(),
        Some(limit) if limit < 0 => "UNLIMITED".to_owned(),
        Some(limit) => {
            let left = limit / 1000 - job::run_ms(&row.job, row.now_ms) / 1000;
            if left < 0 { "INVALID".to_owned() } else { elapsed(left) }
        }
    }
}

fn priority(row: &Row) -> String {
    format!("{:.14}", f64::from(row.job.priority) / 4_294_967_296.0)
}

fn nodes_or_reason(row: &Row) -> String {
    let state = job::state(&row.job);
    use JobState::{Deadline, Failed, OutOfMemory, Pending, Timeout};
    match state {
        Pending | Timeout | Deadline | OutOfMemory | Failed => format!("({})", job::reason(&row.job)),
        _ => row.job.node_list.clone(),
    }
}

fn features(row: &Row) -> String {
    or_null(job::request(&row.job).constraint.as_deref())
}

fn s_c_t(row: &Row) -> String {
    let rare = job::rare(&row.job);
    [rare.sockets_per_node, rare.cores_per_socket, rare.threads_per_core].map(star).join(":")
}

/// A file as it was asked for, in the job's folder; the name that Slurm chooses stays bare.
fn file(row: &Row, pattern: String) -> String {
    if pattern == "none" {
        return "/dev/null".to_owned();
    }
    let request = job::request(&row.job);
    let own =
        [&request.stdout, &request.stderr, &request.stdin].into_iter().flatten().any(|one| *one == pattern);
    let pattern = match own && !pattern.starts_with('/') {
        true => format!("{}/{pattern}", request.work_dir),
        false => pattern,
    };
    if row.expand { job::expand(&row.job, &pattern) } else { pattern }
}

fn stderr(row: &Row) -> String {
    match &job::request(&row.job).stderr {
        Some(pattern) => file(row, pattern.clone()),
        None => "(null)".to_owned(),
    }
}

fn stdin(row: &Row) -> String {
    match &job::request(&row.job).stdin {
        Some(pattern) => file(row, pattern.clone()),
        None => "/dev/null".to_owned(),
    }
}

fn pending_time(row: &Row) -> String {
    let until = row.job.start_ms.filter(|_| job::state(&row.job) != JobState::Pending).unwrap_or(row.now_ms);
    (until.saturating_sub(row.job.submit_ms) / 1000).to_string()
}

/// Every column, in the order of Slurm's list; the first without a letter is what a bare `%` prints.
pub(super) static FIELDS: [Field<Row>; 123] = [
    field('a', "account", "ACCOUNT", |row, _| or_null(Some(&row.job.account))),
    field('\0', "accruetime", "ACCRUE_TIME", |row, _| job::date_or(row.job.accrue_ms, "N/A")),
    field('\0', "admin_comment", "ADMIN_COMMENT", |row, _| or_null(Some(&row.job.admin_comment))),
    field('\0', "allocnodes", "ALLOC_NODES", |row, _| job::request(&row.job).submit_host.clone()),
    field('\0', "allocsid", "ALLOC_SID", |row, _| row.job.alloc_sid.to_string()),
    field('F', "arrayjobid", "ARRAY_JOB_ID", |row, _| array_id(row).to_string()),
    field('K', "arraytaskid", "ARRAY_TASK_ID", |row, _| job::task_id(&row.job)),
    field('\0', "associd", "ASSOC_ID", |row, _| row.job.association_id.to_string()),
    field('\0', "batchflag", "BATCH_FLAG", |row, _| u8::from(job::request(&row.job).kind == 0).to_string()),
    field('B', "batchhost", "EXEC_HOST", |row, _| or(Some(row.job.batch_host.clone()), "n/a")),
    field('\0', "boardspernode", "BOARDS_PER_NODE", |_, _| "N/A".to_owned()),
    field('\0', "burstbuffer", "BURST_BUFFER", |row, _| or_null(job::rare(&row.job).burst_buffer.as_deref())),
    field('\0', "burstbufferstate", "BURST_BUFFER_STATE", |_, _| "(null)".to_owned()),
    field('\0', "cluster", "CLUSTER", |row, _| or(Some(row.job.cluster.clone()), "N/A")),
    field('\0', "clusterfeature", "CLUSTER_FEATURES", |row, _| {
        or_null(job::rare(&row.job).cluster_constraint.as_deref())
    }),
    field('o', "command", "COMMAND", |row, _| or_null(job::command(&row.job).as_deref())),
    field('k', "comment", "COMMENT", |row, _| or_null(job::rare(&row.job).comment.as_deref())),
    field('O', "contiguous", "CONTIGUOUS", |row, _| u8::from(job::rare(&row.job).contiguous).to_string()),
    field('\0', "container", "CONTAINER", |row, _| or_null(job::rare(&row.job).container.as_deref())),
    field('\0', "containerid", "CONTAINER_ID", |row, _| or_null(job::rare(&row.job).container_id.as_deref())),
    // No container has a type here, no job is a line of a crontab, none is a federation's.
    field('\0', "containertype", "CONTAINERTYPE", |_, _| "(null)".to_owned()),
    field('I', "cores", "CORES_PER_SOCKET", |row, _| star(job::rare(&row.job).cores_per_socket)),
    field('X', "corespec", "CORE_SPEC", |row, _| na(job::rare(&row.job).core_spec)),
    field('\0', "cpufreq", "CPU_FREQ", |_, _| "N/A".to_owned()),
    field('\0', "cpus-per-task", "CPUS_PER_TASK", |row, _| cpus_per_task(row)),
    field('\0', "cpuspertask", "CPUS_PER_TASK", |row, _| cpus_per_task(row)),
    field('\0', "cronjob", "CRON_JOB", |_, _| "No".to_owned()),
    field('\0', "cpus-per-tres", "CPUS_PER_TRES", |row, _| {
        or(job::rare(&row.job).cpus_per_gpu.map(|cpus| format!("gres/gpu:{cpus}")), "N/A")
    }),
    field('\0', "deadline", "DEADLINE", |row, _| job::date_or(job::rare(&row.job).deadline_ms, "N/A")),
    field('\0', "delayboot", "DELAY_BOOT", |row, _| {
        elapsed(job::rare(&row.job).delay_boot_ms.unwrap_or(0) / 1000)
    }),
    field('E', "dependency", "DEPENDENCY", |row, _| or_null(Some(&row.job.dependency))),
    field('\0', "derivedec", "DERIVED_EC", |row, _| job::exit(row.job.derived_exit)),
    field('\0', "eligibletime", "ELIGIBLE_TIME", |row, _| job::date_or(row.job.eligible_ms, "N/A")),
    field('e', "endtime", "END_TIME", |row, _| job::date_or(job::end_ms(&row.job), "N/A")),
    field('x', "excnodes", "EXC_NODES", |row, _| job::rare(&row.job).exclude.clone().unwrap_or_default()),
    field('\0', "exclusive", "EXCLUSIVE", |row, _| job::exclusive(&row.job).to_owned()),
    field('\0', "exit_code", "EXIT_CODE", |row, _| job::exit(row.job.exit)),
    field('f', "feature", "FEATURES", |row, _| features(row)),
    field('G', "groupid", "GROUP", |row, _| row.job.gid.to_string()),
    field('g', "groupname", "GROUP", |row, _| or(Some(row.job.group.clone()), &row.job.gid.to_string())),
    field('\0', "gres", "TRES_PER_NODE", |row, _| or(job::tres_per_node(&row.job), "N/A")),
    field('\0', "hetjobid", "HET_JOB_ID", |row, _| na(row.job.het_job_id)),
    field('\0', "hetjobidset", "HET_JOB_ID_SET", |row, _| na(row.job.het_job_id)),
    field('\0', "hetjoboffset", "HET_JOB_OFFSET", |row, _| na(row.job.het_offset)),
    field('i', "jobarrayid", "JOBID", |row, _| job::id(&row.job)),
    field('A', "jobid", "JOBID", |row, _| row.job.job_id.to_string()),
    field('\0', "lastschedeval", "LAST_SCHED_EVAL", |row, _| job::date_or(row.job.last_sched_eval_ms, "N/A")),
    field('W', "licenses", "LICENSES", |row, _| or_null(job::rare(&row.job).licenses.as_deref())),
    field('\0', "licensesalloc", "LICENSES_ALLOC", |row, _| or_null(Some(&row.job.licenses))),
    field('\0', "maxcpus", "MAX_CPUS", |row, _| {
        if job::is_active(&row.job) { row.job.num_cpus } else { 0 }.to_string()
    }),
    field('\0', "maxnodes", "MAX_NODES", |row, _| match job::is_active(&row.job) {
        true => row.job.num_nodes.to_string(),
        false => row.job.num_nodes_max.unwrap_or(0).to_string(),
    }),
    field('\0', "mcslabel", "MCSLABEL", |row, _| or(job::rare(&row.job).mcs_label.clone(), "N/A")),
    field('\0', "mem-per-tres", "MEM_PER_TRES", |_, _| "N/A".to_owned()),
    field('c', "mincpus", "MIN_CPUS", |row, _| job::min_cpus(&row.job).to_string()),
    field('m', "minmemory", "MIN_MEMORY", |row, _| job::min_memory_text(&row.job, row.convert)),
    field('\0', "mintime", "MIN_TIME", |row, _| {
        or(job::rare(&row.job).time_min_ms.map(|ms| elapsed(ms / 1000)), "N/A")
    }),
    field('d', "mintmpdisk", "MIN_TMP_DISK", |row, _| {
        memory(job::rare(&row.job).tmp_mib.unwrap_or(0), row.convert)
    }),
    field('j', "name", "NAME", |row, _| job::request(&row.job).name.clone()),
    field('\0', "network", "NETWORK", |row, _| or_null(job::rare(&row.job).network.as_deref())),
    field('y', "nice", "NICE", |row, _| job::request(&row.job).nice.to_string()),
    field('N', "nodelist", "NODELIST", |row, _| row.job.node_list.clone()),
    field('\0', "ntperboard", "NTASKS_PER_BOARD", |_, _| "0".to_owned()),
    field('\0', "ntpercore", "NTASKS_PER_CORE", |row, _| na(job::rare(&row.job).ntasks_per_core)),
    field('\0', "ntpernode", "NTASKS_PER_NODE", |row, _| {
        job::request(&row.job).ntasks_per_node.unwrap_or(0).to_string()
    }),
    field('\0', "ntpersocket", "NTASKS_PER_SOCKET", |row, _| na(job::rare(&row.job).ntasks_per_socket)),
    field('C', "numcpus", "CPUS", |row, _| row.job.num_cpus.to_string()),
    field('D', "numnodes", "NODES", |row, _| row.job.num_nodes.to_string()),
    field('\0', "numtasks", "TASKS", |row, _| row.job.num_tasks.to_string()),
    field('\0', "origin", "ORIGIN", |_, _| "N/A".to_owned()),
    field('\0', "originraw", "ORIGIN_RAW", |_, _| "N/A".to_owned()),
    field('h', "oversubscribe", "OVER_SUBSCRIBE", |row, _| job::oversubscribe(&row.job).to_owned()),
    field('P', "partition", "PARTITION", |row, _| row.job.partition.clone()),
    field('\0', "pendingtime", "PENDING_TIME", |row, _| pending_time(row)),
    field('\0', "preempttime", "PREEMPT_TIME", |_, _| "N/A".to_owned()),
    field('\0', "prefer", "PREFER", |row, _| or_null(job::rare(&row.job).prefer.as_deref())),
    field('p', "priority", "PRIORITY", |row, _| priority(row)),
    field('Q', "prioritylong", "PRIORITY", |row, _| row.job.priority.to_string()),
    field('\0', "profile", "PROFILE", |row, _| or(job::rare(&row.job).profile.clone(), "NotSet")),
    field('q', "qos", "QOS", |row, _| or_null(Some(&row.job.qos))),
    field('r', "reason", "REASON", |row, _| job::reason(&row.job)),
    field('R', "reasonlist", "NODELIST(REASON)", |row, _| nodes_or_reason(row)),
    field('\0', "reboot", "REBOOT", |row, _| u8::from(job::rare(&row.job).reboot).to_string()),
    field('n', "reqnodes", "REQ_NODES", |row, _| job::rare(&row.job).nodelist.clone().unwrap_or_default()),
    field('\0', "reqswitch", "REQ_SWITCH", |row, _| job::rare(&row.job).switches.unwrap_or(0).to_string()),
    field('\0', "requeue", "REQUEUE", |row, _| u8::from(row.job.requeue).to_string()),
    field('v', "reservation", "RESERVATION", |row, _| or_null(job::rare(&row.job).reservation.as_deref())),
    field('\0', "resizetime", "RESIZE_TIME", |_, _| "0:00".to_owned()),
    field('\0', "restartcnt", "RESTART_COUNT", |row, _| row.job.restarts.to_string()),
    field('\0', "resvport", "RESV_PORT", |row, _| {
        or_null(job::rare(&row.job).resv_ports.map(|n| n.to_string()).as_deref())
    }),
    field('Y', "schednodes", "SCHEDNODES", |row, _| or_null(row.job.planned_nodes.as_deref())),
    field('z', "sct", "S:C:T", |row, _| s_c_t(row)),
    field('\0', "segmentsize", "SEGMENT_SIZE", |row, _| na(job::rare(&row.job).segment)),
    field('\0', "siblingsactive", "ACTIVE_SIBLINGS", |_, _| "NA".to_owned()),
    field('\0', "siblingsactiveraw", "ACTIVE_SIBLINGS_RAW", |_, _| "NA".to_owned()),
    field('\0', "siblingsviable", "VIABLE_SIBLINGS", |_, _| "NA".to_owned()),
    field('\0', "siblingsviableraw", "VIALBLE_SIBLINGS_RAW", |_, _| "NA".to_owned()),
    field('s', "sluid", "SLUID", |row, _| job::sluid(&row.job)),
    field('H', "sockets", "SOCKETS_PER_NODE", |row, _| star(job::rare(&row.job).sockets_per_node)),
    field('\0', "sperboard", "SOCKETS_PER_BOARD", |_, _| "*".to_owned()),
    field('S', "starttime", "START_TIME", |row, _| job::date_or(job::start_ms(&row.job), "N/A")),
    field('T', "state", "STATE", |row, _| job::state_texts(&row.job).0.to_owned()),
    field('t', "statecompact", "ST", |row, _| job::state_texts(&row.job).1.to_owned()),
    field('\0', "stderr", "STDERR", |row, _| stderr(row)),
    field('\0', "stdin", "STDIN", |row, _| stdin(row)),
    field('\0', "stdout", "STDOUT", |row, _| file(row, job::stdout_pattern(&row.job))),
    field('V', "submittime", "SUBMIT_TIME", |row, _| job::date_or(Some(row.job.submit_ms), "N/A")),
    field('\0', "system_comment", "SYSTEM_COMMENT", |_, _| "(null)".to_owned()),
    field('J', "threads", "THREADS_PER_CORE", |row, _| star(job::rare(&row.job).threads_per_core)),
    field('L', "timeleft", "TIME_LEFT", |row, _| time_left(row)),
    field('l', "timelimit", "TIME_LIMIT", |row, _| time_limit(row)),
    field('M', "timeused", "TIME", |row, _| elapsed(job::run_ms(&row.job, row.now_ms) / 1000)),
    field('\0', "tres-alloc", "TRES_ALLOC", |row, _| {
        or(Some(row.job.alloc_tres.clone()), &or(Some(row.job.req_tres.clone()), "N/A"))
    }),
    field('\0', "tres-bind", "TRES_BIND", |row, _| or(job::tres_bind(job::rare(&row.job)), "N/A")),
    field('\0', "tres-freq", "TRES_FREQ", |_, _| "N/A".to_owned()),
    field('\0', "tres-per-job", "TRES_PER_JOB", |row, _| {
        or(job::tres(&[&job::request(&row.job).gpus_per_job]), "N/A")
    }),
    field('b', "tres-per-node", "TRES_PER_NODE", |row, _| or(job::tres_per_node(&row.job), "N/A")),
    field('\0', "tres-per-socket", "TRES_PER_SOCKET", |row, _| {
        or(job::tres(&[&job::request(&row.job).gpus_per_socket]), "N/A")
    }),
    field('\0', "tres-per-task", "TRES_PER_TASK", |row, _| or(job::tres_per_task(&row.job), "N/A")),
    field('U', "userid", "UID", |row, _| row.job.uid.to_string()),
    field('u', "username", "USER", |row, _| user(row)),
    field('\0', "wait4switch", "WAIT4SWITCH", |row, _| {
        elapsed(job::rare(&row.job).switches_wait_ms.unwrap_or(0) / 1000)
    }),
    field('w', "wckey", "WCKEY", |row, _| or_null(job::rare(&row.job).wckey.as_deref())),
    field('Z', "workdir", "WORK_DIR", |row, _| job::request(&row.job).work_dir.clone()),
];

fn cpus_per_task(row: &Row) -> String {
    job::request(&row.job).cpus_per_task.unwrap_or(1).to_string()
}

/// The job's user by name.
pub(super) fn user(row: &Row) -> String {
    if row.job.user.is_empty() { local::user_name(row.job.uid) } else { row.job.user.clone() }
}
