//! What `sacct -o` can print of a job and of a step.

use model::job::JobState;
use model::time::{Span, limit};
use model::tres::{Tres, mib_text};
use proto::v1::{ExitStatus, Figure, Figures, Job, Step};

use super::super::job;
use crate::local;
use crate::table::units::clock;

/// One line: a job, or a step of it.
pub(super) struct Row<'a> {
    pub job: &'a Job,
    pub step: Option<&'a Step>,
    pub now_ms: i64,
    /// Whether file patterns are expanded (`--expand-patterns`).
    pub expand: bool,
    /// The unit that amounts of memory are shown in; otherwise each as it fits.
    pub unit: Option<char>,
}

/// One field, with the width of its column; a negative one is left-justified.
pub(super) struct Field {
    pub name: &'static str,
    pub width: i32,
    pub value: fn(&Row) -> String,
}

const fn field(name: &'static str, width: i32, value: fn(&Row) -> String) -> Field {
    Field { name, width, value }
}

/// A value that only the job's own line shows.
fn of_job(row: &Row, value: impl FnOnce(&Job) -> String) -> String {
    if row.step.is_some() { String::new() } else { value(row.job) }
}

/// A value that only steps have.
fn of_step(row: &Row, value: impl FnOnce(&Step) -> String) -> String {
    row.step.map(value).unwrap_or_default()
}

fn job_id(row: &Row) -> String {
    let id = job::id(row.job);
    row.step.map_or_else(|| id.clone(), |step| format!("{id}.{}", step.step_id))
}

fn raw_id(row: &Row) -> String {
    let id = row.job.job_id;
    row.step.map_or_else(|| id.to_string(), |step| format!("{id}.{}", step.step_id))
}

fn state(row: &Row) -> String {
    let (state, by) = match row.step {
        Some(step) => (JobState::parse(&step.state).unwrap_or(JobState::Running), step.ended_by_uid),
        None => (job::state(row.job), row.job.ended_by_uid),
    };
    match by {
        Some(uid) if state == JobState::Cancelled => format!("{} by {uid}", state.long()),
        _ => state.long().to_owned(),
    }
}

/// Of a job that was stopped from outside, the signal stands with its step alone.
fn job_exit(job: &Job) -> String {
    let stopped = matches!(
        job::state(job),
        JobState::Cancelled
            | JobState::Timeout
            | JobState::Preempted
            | JobState::Deadline
            | JobState::NodeFail
    );
    match job.exit {
        Some(ExitStatus { signal: 1.., .. }) if stopped => "0:0".to_owned(),
        exit => job::exit(exit),
    }
}

fn exit(row: &Row) -> String {
    match row.step {
        Some(step) => job::exit(step.exit),
        None => job_exit(row.job),
    }
}

fn start_ms(row: &Row) -> Option<i64> {
    match row.step {
        Some(step) => Some(step.start_ms),
        None if job::state(row.job) == JobState::Pending => None,
        None => row.job.start_ms,
    }
}

fn end_ms(row: &Row) -> Option<i64> {
    match row.step {
        Some(step) => step.end_ms,
        None if job::is_active(row.job) || job::state(row.job) == JobState::Pending => None,
        None => row.job.end_ms,
    }
}

fn elapsed_s(row: &Row) -> i64 {
    let Some(start) = start_ms(row) else { return 0 };
    let end = end_ms(row).unwrap_or(row.now_ms);
    // Whole seconds of both moments, as accounting keeps them.
    let suspended = if row.step.is_some() { 0 } else { row.job.suspended_total_ms };
    (end.div_euclid(1000) - start.div_euclid(1000) - suspended / 1000).max(0)
}

fn start(row: &Row) -> String {
    match (start_ms(row), end_ms(row)) {
        (Some(ms), _) => local::date(ms),
        (None, Some(_)) => "None".to_owned(),
        (None, None) => "Unknown".to_owned(),
    }
}

fn cpus(row: &Row) -> u32 {
    match row.step {
        Some(step) => step.num_cpus,
        None if start_ms(row).is_none() => 0,
        None => row.job.num_cpus,
    }
}

fn nodes(row: &Row) -> u32 {
    match row.step {
        Some(step) => step.num_nodes,
        None if start_ms(row).is_none() => 0,
        None => row.job.num_nodes,
    }
}

fn node_list(row: &Row) -> String {
    let list = row.step.map_or(&row.job.node_list, |step| &step.node_list);
    if list.is_empty() { "None assigned".to_owned() } else { list.clone() }
}

fn sorted(tres: &str) -> String {
    Tres::parse(tres).map_or_else(|_| tres.to_owned(), |tres| tres.sorted_text())
}

/// What was allocated; a step is billed with its job.
fn alloc_tres(row: &Row) -> String {
    let Some(step) = row.step else { return sorted(&row.job.alloc_tres) };
    let all = sorted(&step.alloc_tres);
    let own: Vec<&str> = all.split(',').filter(|item| !item.starts_with("billing=")).collect();
    own.join(",")
}

fn time_limit(job: &Job) -> String {
    match job.time_limit_ms {
        None => "Partition_Limit".to_owned(),
        Some(ms) => limit::long((ms >= 0).then_some(Span::from_millis(ms))),
    }
}

fn time_limit_raw(job: &Job) -> String {
    match job.time_limit_ms {
        None => "Partition_Limit".to_owned(),
        Some(ms) if ms < 0 => "UNLIMITED".to_owned(),
        Some(ms) => (ms / 60_000).to_string(),
    }
}

fn cpu_us(row: &Row, of: fn(&Step) -> u64) -> Span {
    let us: u64 = match row.step {
        Some(step) => of(step),
        None => row.job.steps.iter().map(of).sum(),
    };
    Span::from_millis(i64::try_from(us / 1000).unwrap_or(i64::MAX))
}

/// Largest memory of a task. Accounting samples its processes: a step that was over before the first sample
/// shows none, as with Slurm.
fn max_rss(step: &Step) -> u64 {
    const FIRST_SAMPLE_MS: i64 = 1000;
    let ran = step.end_ms.is_none_or(|end| end - step.start_ms >= FIRST_SAMPLE_MS);
    if ran || step.figures.is_some() { step.max_rss_bytes } else { 0 }
}

/// Bytes in the unit asked for, else in KiB or MiB; nothing for nothing.
fn bytes(row: &Row, bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ if row.unit.is_some() => in_unit(bytes, row.unit.unwrap_or('K')),
        _ if bytes < 10 << 20 => format!("{}K", bytes / 1024),
        _ => format!("{}M", bytes >> 20),
    }
}

/// Of a step that somebody looked at while it ran.
fn figure(
    row: &Row,
    of: fn(&Figures) -> Option<&Figure>,
    text: fn(&Row, &Figure, &Step) -> String,
) -> String {
    of_step(row, |step| {
        let figure = step.figures.as_ref().and_then(of);
        figure.map_or_else(String::new, |figure| text(row, figure, step))
    })
}

fn most(row: &Row, figure: &Figure, _: &Step) -> String {
    amount(row, figure.most)
}

fn average(row: &Row, figure: &Figure, step: &Step) -> String {
    amount(row, figure.total / u64::from(step.num_tasks.max(1)))
}

fn node_of(_: &Row, figure: &Figure, _: &Step) -> String {
    figure.node.clone()
}

fn task_of(_: &Row, figure: &Figure, _: &Step) -> String {
    figure.task.to_string()
}

/// Bytes, where none is a figure too.
fn amount(row: &Row, amount: u64) -> String {
    if amount == 0 { "0".to_owned() } else { bytes(row, amount) }
}

/// Largest memory over all tasks: what was seen, else what the kernel kept of the largest process.
fn rss(row: &Row, text: fn(&Row, &Figure, &Step) -> String, otherwise: fn(&Row, &Step) -> String) -> String {
    of_step(row, |step| match step.figures.as_ref().and_then(|figures| figures.rss.as_ref()) {
        Some(figure) if max_rss(step) > 0 => text(row, figure, step),
        _ => otherwise(row, step),
    })
}

fn rare(row: &Row, value: fn(&proto::v1::RareRequest) -> &Option<String>) -> String {
    of_job(row, |job| value(job::rare(job)).clone().unwrap_or_default())
}

fn requested_memory(row: &Row) -> String {
    of_job(row, |job| {
        let mib = job.req_tres.split(',').find_map(|item| item.strip_prefix("mem=")).unwrap_or_default();
        let text = if mib.is_empty() { mib_text(job.memory_mib) } else { mib.to_owned() };
        match row.unit.zip(model::tres::parse_mib(&text)) {
            Some((unit, mib)) => in_unit(mib.saturating_mul(1 << 20), unit),
            None => text,
        }
    })
}

/// Bytes in a unit: whole where they are, else with two decimals. Source: Slurm 26.05 beside ours (`1.46G`).
fn in_unit(bytes: u64, unit: char) -> String {
    let power = "KMGTP".find(unit).map_or(1, |at| at + 1);
    let size = 1_u64 << (10 * power);
    match bytes % size {
        0 => format!("{}{unit}", bytes / size),
        _ => format!("{:.2}{unit}", bytes as f64 / size as f64),
    }
}

fn planned_s(row: &Row) -> i64 {
    let until = start_ms(row).or(end_ms(row)).unwrap_or(row.now_ms);
    ((until - row.job.eligible_ms.unwrap_or(row.job.submit_ms)) / 1000).max(0)
}

/// Why a job waits, or what kept it until it started; not how it ended.
pub(super) fn reason(job: &Job) -> String {
    let waits = job::state(job) == JobState::Pending || job.start_ms.is_none();
    if job.reason.is_empty() || !waits { "None".to_owned() } else { job.reason.clone() }
}

/// What `--flags` knows of a job: who started it, and that its record is complete.
pub(super) fn flags(job: &Job) -> &'static [&'static str] {
    if job.start_ms.is_some() { &["SchedMain", "StartReceived"] } else { &["StartReceived"] }
}

/// A batch job's file: its pattern, in the folder that it was meant in where one was named, or what that stands for.
fn file(row: &Row, named: fn(&Job) -> Option<&str>, otherwise: fn(&Job) -> String) -> String {
    of_job(row, |job| {
        // 0: a batch job.
        if job::request(job).kind != 0 {
            return String::new();
        }
        let pattern = match named(job) {
            Some("none") => "/dev/null".to_owned(),
            Some(text) if !text.starts_with('/') => format!("{}/{text}", job::request(job).work_dir),
            Some(text) => text.to_owned(),
            None => otherwise(job),
        };
        if row.expand && !pattern.is_empty() { job::expand(job, &pattern) } else { pattern }
    })
}

fn nothing(_: &Row) -> String {
    String::new()
}

/// Every field, in Slurm's order; an abbreviation names the first that begins so.
pub(super) static FIELDS: [Field; 123] = [
    field("Account", 10, |row| row.job.account.clone()),
    field("AdminComment", 15, |row| of_job(row, |job| job.admin_comment.clone())),
    field("AllocCPUS", 10, |row| cpus(row).to_string()),
    field("AllocNodes", 10, |row| nodes(row).to_string()),
    field("AllocTRES", 10, alloc_tres),
    field("AssocID", 7, |row| row.job.association_id.to_string()),
    field("AveCPU", 10, |row| {
        of_step(row, |step| {
            let tasks = u64::from(step.num_tasks.max(1));
            clock(i64::try_from((step.user_us + step.system_us) / tasks / 1_000_000).unwrap_or(0))
        })
    }),
    field("AveCPUFreq", 10, nothing),
    field("AveDiskRead", 14, |row| figure(row, |figures| figures.read.as_ref(), average)),
    field("AveDiskWrite", 14, |row| figure(row, |figures| figures.written.as_ref(), average)),
    field("AvePages", 10, |row| {
        figure(
            row,
            |figures| figures.pages.as_ref(),
            |_, pages, step| (pages.total / u64::from(step.num_tasks.max(1))).to_string(),
        )
    }),
    field("AveRSS", 10, |row| {
        rss(row, average, |row, step| bytes(row, max_rss(step) / u64::from(step.num_tasks.max(1))))
    }),
    field("AveVMSize", 10, |row| figure(row, |figures| figures.virtual_memory.as_ref(), average)),
    field("BlockID", 16, nothing),
    field("Cluster", 10, |row| row.job.cluster.clone()),
    field("Comment", 14, |row| rare(row, |rare| &rare.comment)),
    field("Constraints", 19, |row| {
        of_job(row, |job| job::request(job).constraint.clone().unwrap_or_default())
    }),
    field("ConsumedEnergy", 14, nothing),
    field("ConsumedEnergyRaw", 17, nothing),
    field("Container", 19, |row| match row.step {
        Some(step) => step.container.clone(),
        None => job::rare(row.job).container.clone().unwrap_or_default(),
    }),
    field("CPUTime", 10, |row| clock(elapsed_s(row) * i64::from(cpus(row)))),
    field("CPUTimeRAW", 10, |row| (elapsed_s(row) * i64::from(cpus(row))).to_string()),
    field("DBIndex", 21, |row| row.job.job_id.to_string()),
    field("DerivedExitCode", 15, |row| of_job(row, |job| job::exit(job.derived_exit))),
    field("Elapsed", 10, |row| clock(elapsed_s(row))),
    field("ElapsedRaw", 10, |row| elapsed_s(row).to_string()),
    field("Eligible", 19, |row| of_job(row, |job| job::date_or(job.eligible_ms, "Unknown"))),
    field("End", 19, |row| job::date_or(end_ms(row), "Unknown")),
    field("Exclusive", 14, |row| of_job(row, |job| job::exclusive(job).to_owned())),
    field("ExitCode", 8, exit),
    field("Extra", 14, |row| rare(row, |rare| &rare.extra)),
    field("FailedNode", 8, nothing),
    field("Flags", 19, |row| of_job(row, |job| flags(job).join(","))),
    field("GID", 6, |row| of_job(row, |job| job.gid.to_string())),
    field("Group", 9, |row| {
        of_job(row, |job| if job.group.is_empty() { local::group_name(job.gid) } else { job.group.clone() })
    }),
    field("JobID", -12, job_id),
    field("JobIDRaw", -12, raw_id),
    field("JobName", 10, |row| match row.step {
        Some(step) => step.name.clone(),
        None => job::request(row.job).name.clone(),
    }),
    field("Layout", 9, |row| {
        of_step(row, |step| match step.step_id.as_str() {
            "batch" | "interactive" => "Unknown".to_owned(),
            _ => job::distribution(step).to_owned(),
        })
    }),
    field("Licenses", 10, |row| rare(row, |rare| &rare.licenses)),
    field("MaxDiskRead", 12, |row| figure(row, |figures| figures.read.as_ref(), most)),
    field("MaxDiskReadNode", 15, |row| figure(row, |figures| figures.read.as_ref(), node_of)),
    field("MaxDiskReadTask", 15, |row| figure(row, |figures| figures.read.as_ref(), task_of)),
    field("MaxDiskWrite", 12, |row| figure(row, |figures| figures.written.as_ref(), most)),
    field("MaxDiskWriteNode", 16, |row| figure(row, |figures| figures.written.as_ref(), node_of)),
    field("MaxDiskWriteTask", 16, |row| figure(row, |figures| figures.written.as_ref(), task_of)),
    field("MaxPages", 8, |row| {
        figure(row, |figures| figures.pages.as_ref(), |_, pages, _| pages.most.to_string())
    }),
    field("MaxPagesNode", 12, |row| figure(row, |figures| figures.pages.as_ref(), node_of)),
    field("MaxPagesTask", 14, |row| figure(row, |figures| figures.pages.as_ref(), task_of)),
    field("MaxRSS", 10, |row| of_step(row, |step| bytes(row, max_rss(step)))),
    field("MaxRSSNode", 10, |row| {
        rss(row, node_of, |_, step| {
            let first = step.allocation.first().filter(|_| max_rss(step) > 0);
            first.map_or_else(String::new, |node| node.node.clone())
        })
    }),
    field("MaxRSSTask", 10, |row| {
        rss(row, task_of, |_, step| if max_rss(step) > 0 { "0" } else { "" }.to_owned())
    }),
    field("MaxVMSize", 10, |row| figure(row, |figures| figures.virtual_memory.as_ref(), most)),
    field("MaxVMSizeNode", 14, |row| figure(row, |figures| figures.virtual_memory.as_ref(), node_of)),
    field("MaxVMSizeTask", 14, |row| figure(row, |figures| figures.virtual_memory.as_ref(), task_of)),
    field("McsLabel", 12, |row| rare(row, |rare| &rare.mcs_label)),
    field("MinCPU", 10, |row| {
        figure(
            row,
            |figures| figures.cpu_least.as_ref(),
            |_, least, _| clock(i64::try_from(least.most / 1_000_000).unwrap_or(0)),
        )
    }),
    field("MinCPUNode", 10, |row| figure(row, |figures| figures.cpu_least.as_ref(), node_of)),
    field("MinCPUTask", 10, |row| figure(row, |figures| figures.cpu_least.as_ref(), task_of)),
    field("NCPUS", 10, |row| cpus(row).to_string()),
    field("NNodes", 8, |row| match row.step {
        Some(step) => step.num_nodes.to_string(),
        None => row.job.num_nodes.to_string(),
    }),
    field("NodeList", 15, node_list),
    field("NTasks", 8, |row| of_step(row, |step| step.num_tasks.to_string())),
    field("OriginalSLUID", 14, |row| job::sluid(row.job)),
    field("OverSubscribe", 14, |row| of_job(row, |job| job::oversubscribe(job).to_owned())),
    field("Partition", 10, |row| of_job(row, |job| job.partition.clone())),
    field("Planned", 10, |row| of_job(row, |_| clock(planned_s(row)))),
    field("PlannedCPU", 10, |row| of_job(row, |job| clock(planned_s(row) * i64::from(job.num_cpus)))),
    field("PlannedCPURAW", 13, |row| {
        of_job(row, |job| (planned_s(row) * i64::from(job.num_cpus)).to_string())
    }),
    field("Priority", 10, |row| of_job(row, |job| job.priority.to_string())),
    field("QOS", 10, |row| of_job(row, |job| job.qos.clone())),
    field("QOSRAW", 6, nothing),
    field("QOSREQ", 10, |row| of_job(row, |job| job::request(job).qos.clone().unwrap_or_default())),
    field("Reason", 22, |row| of_job(row, reason)),
    field("ReqCPUFreq", 10, |_| "Unknown".to_owned()),
    field("ReqCPUFreqGov", 13, |_| "Unknown".to_owned()),
    field("ReqCPUFreqMax", 13, |_| "Unknown".to_owned()),
    field("ReqCPUFreqMin", 13, |_| "Unknown".to_owned()),
    field("ReqCPUS", 8, |row| row.step.map_or(row.job.num_cpus, |step| step.num_cpus).to_string()),
    field("ReqMem", 10, requested_memory),
    field("ReqNodes", 8, |row| of_job(row, |job| job.num_nodes.to_string())),
    field("ReqTRES", 10, |row| of_job(row, |job| sorted(&job.req_tres))),
    field("Reservation", 20, |row| rare(row, |rare| &rare.reservation)),
    field("ReservationId", 8, nothing),
    field("ReqReservation", 20, |row| rare(row, |rare| &rare.reservation)),
    field("Restarts", 8, |row| of_job(row, |job| job.restarts.to_string())),
    field("SegmentSize", 11, nothing),
    field("SLUID", 14, |row| job::sluid(row.job)),
    field("Start", 19, start),
    field("State", 10, state),
    field("StdErr", 20, |row| file(row, |job| job::request(job).stderr.as_deref(), |_| String::new())),
    field("StdIn", 20, |row| file(row, |job| job::request(job).stdin.as_deref(), |_| "/dev/null".to_owned())),
    field("StdOut", 20, |row| file(row, |job| job::request(job).stdout.as_deref(), job::stdout_pattern)),
    field("Submit", 19, |row| match row.step {
        Some(step) => local::date(step.start_ms),
        None => local::date(row.job.submit_ms),
    }),
    field("SubmitLine", 20, |row| match row.step {
        Some(step) => step.submit_line.clone(),
        None => job::request(row.job).submit_line.clone(),
    }),
    field("Suspended", 10, |row| clock(row.job.suspended_total_ms / 1000)),
    field("SystemComment", 15, nothing),
    field("SystemCPU", 10, |row| limit::cpu(cpu_us(row, |step| step.system_us))),
    field("Timelimit", 10, |row| of_job(row, time_limit)),
    field("TimelimitRaw", 10, |row| of_job(row, time_limit_raw)),
    field("TotalCPU", 10, |row| limit::cpu(cpu_us(row, |step| step.user_us + step.system_us))),
    field("TRESUsageInAve", 14, nothing),
    field("TRESUsageInMax", 14, nothing),
    field("TRESUsageInMaxNode", 18, nothing),
    field("TRESUsageInMaxTask", 18, nothing),
    field("TRESUsageInMin", 14, nothing),
    field("TRESUsageInMinNode", 18, nothing),
    field("TRESUsageInMinTask", 18, nothing),
    field("TRESUsageInTot", 14, nothing),
    field("TRESUsageOutAve", 15, nothing),
    field("TRESUsageOutMax", 15, nothing),
    field("TRESUsageOutMaxNode", 19, nothing),
    field("TRESUsageOutMaxTask", 19, nothing),
    field("TRESUsageOutMin", 15, nothing),
    field("TRESUsageOutMinNode", 19, nothing),
    field("TRESUsageOutMinTask", 19, nothing),
    field("TRESUsageOutTot", 15, nothing),
    field("UID", 6, |row| of_job(row, |job| job.uid.to_string())),
    field("User", 9, |row| {
        of_job(row, |job| if job.user.is_empty() { local::user_name(job.uid) } else { job.user.clone() })
    }),
    field("UserCPU", 10, |row| limit::cpu(cpu_us(row, |step| step.user_us))),
    field("WCKey", 10, |row| rare(row, |rare| &rare.wckey)),
    field("WCKeyID", 10, nothing),
    field("WorkDir", 20, |row| of_job(row, |job| job::request(job).work_dir.clone())),
];

/// The first field whose name begins with the text, in any case.
pub(super) fn find(text: &str) -> Option<&'static Field> {
    let begins = |name: &str| name.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text));
    FIELDS.iter().find(|field| !text.is_empty() && begins(field.name))
}
