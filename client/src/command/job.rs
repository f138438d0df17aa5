//! What `squeue`, `scontrol` and `sacct` say of a job, as texts that they share.
//!
//! Reads the job as the scheduler sent it; decides nothing.

use model::array::{ArraySpec, TaskSet};
use model::id::JobId;
use model::job::JobState;
use model::time::Timestamp;
use proto::v1::{Gres, Job, JobRequest, RareRequest};

use crate::table::units::memory;
use crate::{local, say};

/// Largest array index that the client reads in texts of the scheduler.
const TASK_MAX: u32 = 4_000_000;
/// Cut of a list of array indices where `SLURM_BITSTR_LEN` does not say otherwise.
const TASKS_TEXT_MAX: usize = 64;

/// The request, empty where none was sent.
pub(crate) fn request(job: &Job) -> &JobRequest {
    static NONE: std::sync::LazyLock<JobRequest> = std::sync::LazyLock::new(JobRequest::default);
    job.request.as_ref().unwrap_or(&NONE)
}

/// The rare parts of the request, empty where there are none.
pub(crate) fn rare(job: &Job) -> &RareRequest {
    static NONE: std::sync::LazyLock<RareRequest> = std::sync::LazyLock::new(RareRequest::default);
    request(job).rare.as_ref().unwrap_or(&NONE)
}

/// The state; a text that this client does not know counts as pending.
pub(crate) fn state(job: &Job) -> JobState {
    JobState::parse(&job.state).unwrap_or(JobState::Pending)
}

/// Whether the job holds resources now.
pub(crate) fn is_active(job: &Job) -> bool {
    use JobState::{Completing, Configuring, Running, Suspended};
    matches!(state(job), Running | Suspended | Completing | Configuring)
}

/// The waiting elements of an array's record, where it is one.
pub(crate) fn tasks(job: &Job) -> Option<TaskSet> {
    let text = job.array_tasks.as_deref().filter(|_| job.array_task_id.is_none())?;
    let text = text.split('%').next().unwrap_or_default();
    ArraySpec::parse(text, TASK_MAX).ok().map(|spec| spec.tasks)
}

/// The waiting elements as shown: `3-6%2`.
pub(crate) fn tasks_text(job: &Job) -> Option<String> {
    let cut =
        std::env::var("SLURM_BITSTR_LEN").ok().and_then(|text| text.parse().ok()).unwrap_or(TASKS_TEXT_MAX);
    let cut = Some(cut).filter(|&cut| cut > 0);
    let text = tasks(job)?.text_with_throttle(job.array_throttle.unwrap_or(0), cut);
    Some(text)
}

/// The id as users see it: `7`, `7_3`, `7_[4-6%2]`, `7+1`.
pub(crate) fn id(job: &Job) -> String {
    if let (Some(leader), Some(offset)) = (job.het_job_id, job.het_offset) {
        return format!("{leader}+{offset}");
    }
    let array = job.array_job_id.unwrap_or(job.job_id);
    match (job.array_task_id, tasks_text(job)) {
        (Some(task), _) => format!("{array}_{task}"),
        (None, Some(tasks)) => format!("{array}_[{tasks}]"),
        (None, None) => job.job_id.to_string(),
    }
}

/// The index, or the waiting indices, of an array; `N/A` for another job.
pub(crate) fn task_id(job: &Job) -> String {
    match (job.array_task_id, tasks_text(job)) {
        (Some(task), _) => task.to_string(),
        (None, Some(tasks)) => tasks,
        (None, None) => "N/A".to_owned(),
    }
}

/// The reason with what there is more to say: `RaisedSignal:9(Killed)`, `ReqNodeNotAvail, May be …`.
pub(crate) fn reason(job: &Job) -> String {
    let (code, detail) = (job.reason.as_str(), job.reason_detail.as_str());
    match (code, detail) {
        // A hold of a running job is for its next run, and shown already.
        ("" | "None", "") if job.hold && state(job) == JobState::Running => "JobHeldUser".to_owned(),
        ("", "") => "None".to_owned(),
        (_, "") => code.to_owned(),
        ("", _) | ("None", _) => detail.to_owned(),
        ("RaisedSignal", _) if detail.starts_with(|c: char| c.is_ascii_digit()) => format!("{code}:{detail}"),
        _ if detail.starts_with([',', ':', ' ']) => format!("{code}{detail}"),
        _ if detail.starts_with(code) => detail.to_owned(),
        _ => format!("{code}, {detail}"),
    }
}

/// Milliseconds that the job has run, suspensions left out.
pub(crate) fn run_ms(job: &Job, now_ms: i64) -> i64 {
    let Some(start) = job.start_ms.filter(|_| state(job) != JobState::Pending) else { return 0 };
    let until = match (state(job), job.suspend_ms) {
        (JobState::Suspended, Some(suspended)) => suspended,
        _ => job.end_ms.filter(|_| !is_active(job) || state(job) == JobState::Completing).unwrap_or(now_ms),
    };
    (until - start - job.suspended_total_ms).max(0)
}

/// When it began, or is to begin as far as that is known; of a job that ended without beginning, when it ended.
pub(crate) fn start_ms(job: &Job) -> Option<i64> {
    if state(job) != JobState::Pending {
        return job.start_ms.or(job.end_ms);
    }
    job.start_ms.or(job.planned_start_ms).or(request(job).begin_ms.filter(|_| job.reason == "BeginTime"))
}

/// When it ended, or has to end by its limit.
pub(crate) fn end_ms(job: &Job) -> Option<i64> {
    if state(job) == JobState::Pending {
        return None;
    }
    if !is_active(job) || state(job) == JobState::Completing {
        return job.end_ms;
    }
    job.end_ms.or_else(|| {
        let limit = job.time_limit_ms.filter(|&limit| limit >= 0)?;
        Some(job.start_ms? + limit + job.suspended_total_ms)
    })
}

/// A moment, or Slurm's word for none.
pub(crate) fn date_or(ms: Option<i64>, none: &str) -> String {
    ms.filter(|&ms| ms > 0).map_or_else(|| none.to_owned(), local::date)
}

/// Nodes asked for (least number, and most where that is more), or held.
pub(crate) fn nodes_text(job: &Job) -> String {
    match job.num_nodes_max.filter(|_| state(job) == JobState::Pending) {
        Some(most) if most > job.num_nodes => format!("{}-{most}", job.num_nodes),
        _ => job.num_nodes.to_string(),
    }
}

/// The least number of CPUs on each node.
pub(crate) fn min_cpus(job: &Job) -> u32 {
    let request = request(job);
    let per_task = request.cpus_per_task.unwrap_or(1).max(1);
    let tasks = request.ntasks_per_node.unwrap_or(1).max(1);
    rare(job).min_cpus_per_node.unwrap_or(1).max(per_task.saturating_mul(tasks))
}

/// Memory per CPU or per node as given or by default: whether it is per CPU, and MiB.
pub(crate) fn min_memory(job: &Job) -> (bool, u64) {
    match (job.min_memory_mib_per_cpu, job.min_memory_mib_per_node) {
        (Some(mib), _) => (true, mib),
        (None, mib) => (false, mib.unwrap_or(0)),
    }
}

/// `%m` of squeue.
pub(crate) fn min_memory_text(job: &Job, convert: bool) -> String {
    memory(min_memory(job).1, convert)
}

/// A list of generic resources as Slurm 26.05 prints a request: `gres/gpu:a100:2`.
pub(crate) fn tres(lists: &[&[Gres]]) -> Option<String> {
    let texts: Vec<String> = lists
        .iter()
        .flat_map(|list| list.iter())
        .map(|gres| match gres.r#type.as_str() {
            "" => format!("gres/{}:{}", gres.name, gres.count),
            kind => format!("gres/{}:{kind}:{}", gres.name, gres.count),
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// What is asked of each node.
pub(crate) fn tres_per_node(job: &Job) -> Option<String> {
    tres(&[&request(job).gres_per_node, &request(job).gpus_per_node])
}

/// How tasks are bound to GPUs, as `--tres-bind` spells it; `--gpu-bind` is shown so too.
pub(crate) fn tres_bind(rare: &proto::v1::RareRequest) -> Option<String> {
    let of_gpus = || rare.gpu_bind.as_ref().map(|how| format!("gres/gpu:{how}"));
    rare.tres_bind.clone().or_else(of_gpus)
}

/// What is asked for each task: CPUs where they were given, then GPUs and what `--tres-per-task` says.
pub(crate) fn tres_per_task(job: &Job) -> Option<String> {
    let request = request(job);
    let parts: Vec<String> = [
        request.cpus_per_task.map(|cpus| format!("cpu={cpus}")),
        tres(&[&request.gpus_per_task]).map(|text| last_colon_equals(&text)),
        rare(job).tres_per_task.clone(),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// `gres/gpu:a100:1` as what each task is given is written: `gres/gpu:a100=1`.
fn last_colon_equals(list: &str) -> String {
    let one = |item: &str| match item.rsplit_once(':') {
        Some((name, count)) => format!("{name}={count}"),
        None => item.to_owned(),
    };
    list.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// How a step's tasks are spread over its nodes, in Slurm's word: as asked, else in turn where each node has one.
pub(crate) fn distribution(step: &proto::v1::Step) -> &str {
    match step.distribution.as_str() {
        "" if step.num_tasks <= step.num_nodes => "Cyclic",
        "" => "Block",
        given => given,
    }
}

/// Whether this names a step: a number, or one of Slurm's words.
pub(crate) fn is_step(step: &str) -> bool {
    matches!(step, "batch" | "extern" | "interactive" | "TBD") || step.parse::<u32>().is_ok()
}

/// A job, element or step that accounting is asked for; `Err` with the exit status, and why is said.
pub(crate) fn selector(program: &str, item: &str) -> Result<Selector, u8> {
    let why = match Selector::parse(item) {
        Some(selector) if selector.step.as_deref().is_none_or(is_step) => return Ok(selector),
        Some(_) => ": StepID includes unexpected non-numeric characters",
        None if item.starts_with(|c: char| c.is_ascii_digit()) && item.contains('_') => {
            ": Job Array ID includes unexpected non-numeric characters"
        }
        None => "",
    };
    say::fatal(program, format!("Bad job/step specified: {item}{why}"));
    Err(1)
}

/// The state's long and short text: a running job that was sent SIGSTOP is stopped.
pub(crate) fn state_texts(job: &Job) -> (&'static str, &'static str) {
    match state(job) {
        JobState::Running if job.stopped => ("STOPPED", "ST"),
        state => (state.long(), state.short()),
    }
}

/// Script and arguments as one text.
pub(crate) fn command(job: &Job) -> Option<String> {
    let request = request(job);
    let mut text = request.command.clone()?;
    for argument in &request.arguments {
        text.push(' ');
        text.push_str(argument);
    }
    Some(text)
}

/// Whether the job's resources are shared, in squeue's and scontrol's word.
pub(crate) fn oversubscribe(job: &Job) -> &'static str {
    let asked = request(job).sharing == proto::v1::Sharing::Oversubscribe as i32;
    if asked || job.oversubscribed { "YES" } else { "NO" }
}

/// `Exclusive=`: whose jobs alone run on its nodes.
pub(crate) fn exclusive(job: &Job) -> &'static str {
    match proto::v1::Sharing::try_from(request(job).sharing) {
        Ok(proto::v1::Sharing::Exclusive) => "NODE",
        Ok(proto::v1::Sharing::User) => "USER",
        Ok(proto::v1::Sharing::Mcs) => "MCS",
        Ok(proto::v1::Sharing::Topo) => "TOPO",
        _ if job.exclusive => "NODE",
        _ => "NO",
    }
}

/// The lasting identifier.
pub(crate) fn sluid(job: &Job) -> String {
    model::sluid::text(JobId(job.job_id), Timestamp(job.submit_ms))
}

/// An exit status as `code:signal`.
pub(crate) fn exit(status: Option<proto::v1::ExitStatus>) -> String {
    let status = status.unwrap_or_default();
    format!("{}:{}", status.code, status.signal)
}

/// Where a file's name stands for a folder, an absolute one; `%` patterns as far as a waiting job knows them.
pub(crate) fn expand(job: &Job, pattern: &str) -> String {
    let mut out = String::new();
    if !pattern.starts_with('/') {
        out.push_str(&request(job).work_dir);
        out.push('/');
    }
    let mut rest = pattern.chars().peekable();
    let literal = pattern.contains('\\');
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend(rest.next()),
            '%' if !literal => expand_one(job, &mut rest, &mut out),
            _ => out.push(c),
        }
    }
    out
}

fn expand_one(job: &Job, rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut width = String::new();
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        width.push(digit);
    }
    let pad = width.parse::<usize>().unwrap_or(0).min(10);
    let array = job.array_job_id.unwrap_or(job.job_id);
    let task = job.array_task_id.unwrap_or(u32::MAX - 1);
    let Some(letter) = rest.next() else {
        out.push('%');
        out.push_str(&width);
        return;
    };
    match letter {
        '%' => out.push('%'),
        'A' => out.push_str(&format!("{array:0pad$}")),
        'a' => out.push_str(&format!("{task:0pad$}")),
        'b' => out.push_str(&format!("{:0pad$}", task % 10)),
        'j' | 'J' => out.push_str(&format!("{:0pad$}", job.job_id)),
        's' => out.push_str("batch"),
        'n' | 't' => out.push_str(&format!("{:0pad$}", 0)),
        'N' => out.push_str("(null)"),
        'u' => out.push_str(&job.user),
        'x' => out.push_str(&request(job).name),
        _ => {
            out.push('%');
            out.push_str(&width);
            out.push(letter);
        }
    }
}

/// The output file's pattern: as given, or Slurm's own.
pub(crate) fn stdout_pattern(job: &Job) -> String {
    match &request(job).stdout {
        Some(pattern) => pattern.clone(),
        None if job.array_job_id.is_some() => "slurm-%A_%a.out".to_owned(),
        None => "slurm-%j.out".to_owned(),
    }
}

/// Elements of an array's record as records of their own, other jobs as they are.
pub(crate) fn split_tasks(job: Job) -> Vec<Job> {
    let Some(tasks) = tasks(&job) else { return vec![job] };
    tasks.iter().map(|task| Job { array_task_id: Some(task), array_tasks: None, ..job.clone() }).collect()
}

/// One item of a job list as typed: `7`, `7_3`, `7_[2-4,7]`, `7+1`, `7.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub job_id: u32,
    pub tasks: Option<TaskSet>,
    pub het_offset: Option<u32>,
    /// Text behind the dot.
    pub step: Option<String>,
}

impl Selector {
    /// Reads one item; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (head, step) = match text.split_once('.') {
            Some((head, step)) => (head, Some(step.to_owned())),
            None => (text, None),
        };
        let digits = head.find(|c: char| !c.is_ascii_digit()).unwrap_or(head.len());
        let job_id = head[..digits].parse().ok().filter(|&id| id > 0)?;
        let (tasks, het_offset) = match head[digits..].split_at_checked(1) {
            None => (None, None),
            Some(("_", "*")) => (None, None),
            Some(("_", tasks)) => {
                let tasks = tasks.strip_prefix('[').map_or(Some(tasks), |tasks| tasks.strip_suffix(']'))?;
                (Some(ArraySpec::parse(tasks.split('%').next()?, TASK_MAX).ok()?.tasks), None)
            }
            Some(("+", offset)) => (None, Some(offset.parse().ok()?)),
            Some(_) => return None,
        };
        Some(Self { job_id, tasks, het_offset, step })
    }

    /// What is left of the job where this selects it: all, or only some of an array's elements.
    pub(crate) fn select(&self, job: &Job) -> Option<Job> {
        let ids = [Some(job.job_id), job.array_job_id, job.het_job_id];
        if !ids.contains(&Some(self.job_id)) {
            return None;
        }
        if let Some(offset) = self.het_offset {
            let is_it = job.het_job_id == Some(self.job_id) && job.het_offset == Some(offset);
            return is_it.then(|| job.clone());
        }
        let Some(wanted) = &self.tasks else {
            // An element that has run is found by its own id only where that is not the array's.
            return Some(job.clone());
        };
        if job.array_job_id != Some(self.job_id) && job.job_id != self.job_id {
            return None;
        }
        if let Some(task) = job.array_task_id {
            return wanted.contains(task).then(|| job.clone());
        }
        let left: Vec<u32> = tasks(job)?.iter().filter(|&task| wanted.contains(task)).collect();
        match left.as_slice() {
            [] => None,
            [task] => Some(Job { array_task_id: Some(*task), array_tasks: None, ..job.clone() }),
            _ => {
                let left = TaskSet::from_ids(left).text(None);
                Some(Job { array_tasks: Some(left), array_throttle: None, ..job.clone() })
            }
        }
    }
}

/// Splits a list of job ids at the commas outside of brackets.
pub(crate) fn split_ids(text: &str) -> Vec<&str> {
    let (mut depth, mut items, mut start) = (0_u32, Vec::new(), 0);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items.retain(|item| !item.is_empty());
    items
}

/// The items of a comma list, empty ones left out.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The names of a filter. An empty text is one empty name, which nothing has: it must not mean "all", or "this cluster".
pub(crate) fn names(text: &str) -> Vec<String> {
    match list(text) {
        names if names.is_empty() => vec![String::new()],
        names => names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array() -> Job {
        Job {
            job_id: 7,
            array_job_id: Some(7),
            array_tasks: Some("1-5".to_owned()),
            array_throttle: Some(2),
            state: "PENDING".to_owned(),
            ..Job::default()
        }
    }

    #[test]
    fn ids_as_users_see_them() {
        assert_eq!(id(&Job { job_id: 7, ..Job::default() }), "7");
        assert_eq!(id(&array()), "7_[1-5%2]");
        assert_eq!(id(&Job { array_task_id: Some(3), ..array() }), "7_3");
        assert_eq!(id(&Job { job_id: 8, het_job_id: Some(7), het_offset: Some(1), ..Job::default() }), "7+1");
    }

    #[test]
    fn selects_elements_of_arrays() {
        let selected = |text: &str| Selector::parse(text).unwrap().select(&array()).map(|job| id(&job));
        assert_eq!(selected("7").as_deref(), Some("7_[1-5%2]"));
        assert_eq!(selected("7_3").as_deref(), Some("7_3"));
        assert_eq!(selected("7_[3,5]").as_deref(), Some("7_[3,5]"));
        assert_eq!(selected("7_9"), None);
        assert_eq!(selected("8"), None);
        assert_eq!(Selector::parse("abc"), None);
        assert_eq!(split_ids("1,2_[3,4],5"), ["1", "2_[3,4]", "5"]);
    }

    #[test]
    fn expands_output_patterns() {
        let request = JobRequest { work_dir: "/w".into(), name: "wrap".into(), ..JobRequest::default() };
        let job = Job { request: Some(request), ..array() };
        assert_eq!(expand(&job, "d/%x-%j-%A-%a.out"), "/w/d/wrap-7-7-4294967294.out");
        assert_eq!(expand(&job, "/%4j%q"), "/0007%q");
        assert_eq!(expand(&job, "my\\ file"), "/w/my file");
    }
}
