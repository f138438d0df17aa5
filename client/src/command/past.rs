//! What became of a job that has ended: what ended it, where it ran, what it used of what it asked for, where its
//! output is, and its last lines.
//!
//! Shared by `sluice why` and `seff`. Reads the job as the scheduler sent it, and its output file with the asker's
//! own rights; a file that the asker may not read stays unread.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use model::job::JobState;
use model::signal;
use proto::v1::{Job, JobFilter, ListHistoryRequest, Step};

use super::job::{self, Selector};
use crate::api::Error;
use crate::local;
use crate::table::units::{clock, memory};

/// Lines of the output that are shown.
const TAIL_LINES: usize = 10;
/// Bytes of the output's end that are read for them.
const TAIL_BYTES: u64 = 8 << 10;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// The last runs of the jobs that a selector means, from history and the scheduler's memory, in order.
pub(super) async fn find(selector: &Selector) -> Result<Vec<Job>, Error> {
    let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
    let request = ListHistoryRequest { filter: Some(filter), ..ListHistoryRequest::default() };
    let jobs = super::connect_to_ask().await?.list_history(request).await?;
    Ok(last_runs(jobs).iter().filter_map(|job| selector.select(job)).collect())
}

/// Of each job only its last run, by id.
pub(super) fn last_runs(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by_key(|job| (job.job_id, job.run, job.end_ms.unwrap_or(i64::MAX)));
    let mut last: Vec<Job> = Vec::new();
    for job in jobs {
        match last.last_mut() {
            Some(before) if before.job_id == job.job_id && before.array_task_id == job.array_task_id => {
                *before = job;
            }
            _ => last.push(job),
        }
    }
    last
}

/// What a job used, summed over its steps.
pub(super) struct Used {
    /// CPU time, milliseconds.
    pub cpu_ms: u64,
    /// CPUs held, times run time, milliseconds.
    pub held_ms: u64,
    /// Largest resident memory of a step, bytes; 0 where nothing was measured.
    pub peak: u64,
    /// Memory held on one node, MiB; 0 where it had no share.
    pub memory_mib: u64,
}

/// What the job used of what it held.
pub(super) fn used(job: &Job, now_ms: i64) -> Used {
    let cpu_us: u64 = job.steps.iter().map(|step| step.user_us.saturating_add(step.system_us)).sum();
    let run_ms = u64::try_from(job::run_ms(job, now_ms)).unwrap_or(0);
    Used {
        cpu_ms: cpu_us / 1000,
        held_ms: run_ms.saturating_mul(u64::from(job.num_cpus)),
        peak: job.steps.iter().map(|step| step.max_rss_bytes).max().unwrap_or(0),
        memory_mib: job.allocation.iter().map(|node| node.memory_mib).max().unwrap_or(0),
    }
}

/// A part of a whole in percent; 0 where there is no whole.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Everything that `sluice why` says behind the first line of a job that has ended.
pub(super) fn text(job: &Job, now_ms: i64) -> String {
    let mut out = String::new();
    let mut line = |key: &str, text: String| out.push_str(&format!("  {key:<9} {text}\n"));
    line("cause", cause(job, now_ms));
    for step in job.steps.iter().filter(|step| step.step_id != "batch" && failed(step)) {
        line("step", format!("{}.{} \"{}\" {}", job::id(job), step.step_id, step.name, step_end(step)));
    }
    match job.start_ms {
        Some(start) => {
            let until = job.end_ms.map(local::date).unwrap_or_default();
            let ran = clock(job::run_ms(job, now_ms) / 1000);
            line("ran", format!("{ran} on {}, from {} to {until}", job.node_list, local::date(start)));
            usage(job, now_ms).into_iter().for_each(|text| line("used", text));
            held(job).into_iter().for_each(|text| line("held to", text));
        }
        None => line("ran", "never".to_owned()),
    }
    if let Some(path) = output(job) {
        match tail(&path) {
            Ok(lines) if lines.is_empty() => line("output", format!("{path} (empty)")),
            Ok(lines) => {
                line("output", format!("{path}, its last lines:"));
                lines.iter().for_each(|text| out.push_str(&format!("            | {text}\n")));
            }
            Err(why) => line("output", format!("{path} ({why})")),
        }
    }
    out
}

/// One sentence: what ended the job.
fn cause(job: &Job, now_ms: i64) -> String {
    let exit = job.exit.unwrap_or_default();
    let by = job.ended_by_uid.map(local::user_name);
    let detail = job.reason_detail.as_str();
    match job::state(job) {
        JobState::Completed => "its script ended with exit code 0".to_owned(),
        JobState::Timeout => match job.time_limit_ms {
            Some(limit) if limit >= 0 => {
                format!("it reached its time limit of {}; --time asks for more", clock(limit / 1000))
            }
            _ => "it reached its time limit".to_owned(),
        },
        JobState::Cancelled => match (by, job.start_ms) {
            (Some(user), None) => format!("cancelled by {user} before it started"),
            (Some(user), Some(_)) => format!("cancelled by {user}"),
            (None, _) => "cancelled".to_owned(),
        },
        JobState::OutOfMemory => out_of_memory(job, now_ms),
        JobState::NodeFail => format!("a node failed under it{}", behind(detail)),
        JobState::Failed if job.reason == "JobLaunchFailure" => {
            format!("it could not be launched{}", behind(detail))
        }
        JobState::Failed if exit.signal != 0 => {
            format!("its script was ended by {}", signal_text(exit.signal))
        }
        // A shell gives 128 + N where its last command was ended by signal N.
        JobState::Failed if (129..=192).contains(&exit.code) => format!(
            "its script ended with exit code {}: a command in it was ended by {}, as shells tell it",
            exit.code,
            signal_text(exit.code - 128)
        ),
        JobState::Failed if exit.code == 127 => {
            "its script ended with exit code 127: a command was not found, as shells tell it".to_owned()
        }
        JobState::Failed if exit.code == 126 => {
            "its script ended with exit code 126: a command could not be executed, as shells tell it"
                .to_owned()
        }
        JobState::Failed => format!("its script ended with exit code {}{}", exit.code, behind(detail)),
        JobState::Deadline => "its deadline passed before it could end".to_owned(),
        state => format!("{}{}", state.long(), behind(detail)),
    }
}

fn behind(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn out_of_memory(job: &Job, now_ms: i64) -> String {
    let used = used(job, now_ms);
    let limit = match used.memory_mib {
        0 => "the node's memory".to_owned(),
        mib => format!("its limit of {} a node", memory(mib, true)),
    };
    format!("the kernel ended it for memory: it came to {limit}; --mem asks for more")
}

fn signal_text(number: u32) -> String {
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    let name = signal::name(number);
    if name == number.to_string() {
        format!("signal {number}")
    } else {
        format!("signal {number} (SIG{name})")
    }
}

fn failed(step: &Step) -> bool {
    let exit = step.exit.unwrap_or_default();
    exit.code != 0 || exit.signal != 0
}

fn step_end(step: &Step) -> String {
    let exit = step.exit.unwrap_or_default();
    match exit.signal {
        0 => format!("ended with exit code {} ({})", exit.code, step.state),
        signal => format!("was ended by {} ({})", signal_text(signal), step.state),
    }
}

/// What was used of what was held; nothing is said of what nobody measured.
fn usage(job: &Job, now_ms: i64) -> Vec<String> {
    let used = used(job, now_ms);
    let mut lines = Vec::new();
    if used.held_ms > 0 {
        lines.push(format!(
            "{} of CPU time, {:.1} % of {} CPUs over its run",
            clock(i64::try_from(used.cpu_ms / 1000).unwrap_or(i64::MAX)),
            percent(used.cpu_ms, used.held_ms),
            job.num_cpus
        ));
    }
    if used.peak > 0 {
        let share = match used.memory_mib {
            0 => String::new(),
            mib => format!(", {:.1} % of {} a node", percent(used.peak, mib * MIB), memory(mib, true)),
        };
        lines.push(format!("{} of memory at most in a step{share}", memory(used.peak.div_ceil(MIB), true)));
    }
    lines
}

/// What the kernel said that the steps were held to; each text once, with the step that it was read in.
pub(super) fn held(job: &Job) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for step in &job.steps {
        for held in &step.held {
            if lines.iter().all(|(text, _)| *text != held.text) {
                lines.push((held.text.clone(), format!("{} on {}", step.step_id, held.node)));
            }
        }
    }
    lines.into_iter().map(|(text, place)| format!("{text} (read back in step {place})")).collect()
}

/// Where the job's output went, as far as the pattern is known; `None` where it had no file.
fn output(job: &Job) -> Option<String> {
    job.start_ms?;
    if !job.steps.iter().any(|step| step.step_id == "batch") {
        return None;
    }
    // Errors stand there where both have files of their own.
    let pattern = job::request(job).stderr.clone().unwrap_or_else(|| job::stdout_pattern(job));
    Some(job::expand(job, &pattern)).filter(|path| path != "/dev/null")
}

/// The last lines of a file; why it cannot be read, in a few words.
fn tail(path: &str) -> Result<Vec<String>, String> {
    let mut file = File::open(path).map_err(|error| format!("not read: {}", super::os_text(&error)))?;
    let facts = file.metadata().map_err(|error| super::os_text(&error))?;
    if !facts.is_file() {
        return Err("no plain file".to_owned());
    }
    let length = facts.len();
    let from = length.saturating_sub(TAIL_BYTES);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(TAIL_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("not read: {}", super::os_text(&error)))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(printable).collect();
    // The first one is a piece of a line, unless it is all there is.
    if from > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    Ok(lines.split_off(lines.len().saturating_sub(TAIL_LINES)))
}

/// A line that moves no cursor and sets no colour of the asker's terminal.
fn printable(line: &str) -> String {
    let shown = line.rsplit('\r').next().unwrap_or_default();
    shown.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proto::v1::{ExitStatus, JobRequest, NodeAllocation};

    use super::*;

    fn ended(state: &str, code: u32, signal: u32) -> Job {
        Job {
            job_id: 7,
            state: state.to_owned(),
            exit: Some(ExitStatus { code, signal }),
            start_ms: Some(1_000),
            end_ms: Some(11_000),
            num_cpus: 2,
            node_list: "n1".to_owned(),
            allocation: vec![NodeAllocation { memory_mib: 100, ..NodeAllocation::default() }],
            request: Some(JobRequest { work_dir: "/nowhere".to_owned(), ..JobRequest::default() }),
            steps: vec![Step {
                step_id: "batch".to_owned(),
                user_us: 4_000_000,
                system_us: 1_000_000,
                max_rss_bytes: 25 << 20,
                held: vec![proto::v1::HeldTo { node: "n1".to_owned(), text: "cpus 0-1".to_owned() }],
                ..Step::default()
            }],
            ..Job::default()
        }
    }

    #[test]
    fn says_what_ended_it() {
        let said = |job: &Job| cause(job, 20_000);
        assert_eq!(said(&ended("FAILED", 3, 0)), "its script ended with exit code 3");
        assert!(said(&ended("FAILED", 0, 11)).contains("signal 11 (SIGSEGV)"));
        assert!(said(&ended("FAILED", 137, 0)).contains("signal 9 (SIGKILL)"));
        assert!(said(&ended("FAILED", 127, 0)).contains("not found"));
        assert!(said(&ended("OUT_OF_MEMORY", 0, 125)).contains("its limit of 100M a node"));
        let launch = Job {
            reason: "JobLaunchFailure".to_owned(),
            reason_detail: "/x/run.out: Permission denied".to_owned(),
            ..ended("FAILED", 1, 0)
        };
        assert_eq!(said(&launch), "it could not be launched: /x/run.out: Permission denied");
        let limit = Job { time_limit_ms: Some(60_000), ..ended("TIMEOUT", 0, 15) };
        assert!(said(&limit).contains("time limit of 00:01:00"));
        let cancelled = Job { ended_by_uid: Some(0), start_ms: None, ..ended("CANCELLED", 0, 0) };
        assert_eq!(said(&cancelled), "cancelled by root before it started");
    }

    #[test]
    fn says_what_was_used_and_where_the_output_is() {
        let text = text(&ended("FAILED", 1, 0), 20_000);
        assert!(text.contains("00:00:05 of CPU time, 25.0 % of 2 CPUs over its run"), "{text}");
        assert!(text.contains("25M of memory at most in a step, 25.0 % of 100M a node"), "{text}");
        assert!(text.contains("held to   cpus 0-1 (read back in step batch on n1)"), "{text}");
        assert!(text.contains("/nowhere/slurm-7.out (not read: No such file or directory)"), "{text}");
    }

    #[test]
    fn shows_the_end_of_the_output() {
        let path = std::env::temp_dir().join(format!("sluice-past-{}", std::process::id()));
        let mut written: String = (1..=2000).map(|number| format!("line {number}\n")).collect();
        written.push_str("10 %\r100 %\n\u{1b}[31mred\n");
        std::fs::write(&path, written).unwrap();
        let lines = tail(path.to_str().unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines[0], "line 1993");
        assert_eq!(lines[8..], ["100 %", "?[31mred"]);
    }

    #[test]
    fn takes_the_last_run_of_a_job() {
        let runs =
            vec![Job { run: 2, ..ended("COMPLETED", 0, 0) }, Job { run: 1, ..ended("NODE_FAIL", 0, 0) }];
        let last = last_runs(runs);
        assert_eq!((last.len(), last[0].run), (1, 2));
    }
}
