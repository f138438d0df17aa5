//! `scontrol pidinfo`: the job that a process of this machine belongs to.
//!
//! Owns how a process is traced to its job: by the environment that its step was started with, or that of the
//! nearest ancestor that has one, as the system keeps it. The scheduler is asked whether that job still runs, so
//! that an environment which somebody made up names at worst another job of the cluster.

use proto::v1::JobFilter;

use super::Session;
use crate::api::Error;
use crate::command::job;
use crate::{local, say};

/// A job and the name of one of its steps, empty where the environment tells of none.
type Found = (u32, String);

/// `pidinfo PID`.
pub(super) async fn info(session: &mut Session, word: &str) {
    let Ok(pid) = word.parse::<u32>() else { return unknown(session) };
    let Some((job_id, step)) = trace(pid) else { return unknown(session) };
    let filter = JobFilter { job_ids: vec![job_id], ..JobFilter::default() };
    let found = match session.client().await {
        Ok(client) => client.jobs(filter, false).await,
        Err(error) => Err(error),
    };
    let jobs = match found {
        Ok(jobs) => jobs,
        Err(Error::Refused { .. }) => Vec::new(),
        Err(error) => return session.fail_call("slurm_get_end_time", &error),
    };
    let running = jobs.iter().find(|one| one.job_id == job_id && job::is_active(one));
    let Some(running) = running else { return unknown(session) };
    let name = if step.is_empty() { job_id.to_string() } else { format!("{job_id}.{step}") };
    say::out(ending(&name, running.end_ms, local::now_ms()));
}

fn unknown(session: &mut Session) {
    session.fail("Failed to locate job for requested pid");
}

/// The answer for a job that ends then, or never.
fn ending(name: &str, end_ms: Option<i64>, now_ms: i64) -> String {
    match end_ms {
        Some(end_ms) => {
            let left = (end_ms - now_ms).max(0) / 1000;
            format!(
                "Slurm JobId={name} ends at {}\nJob remaining time is {left} seconds\n",
                local::ctime(end_ms)
            )
        }
        None => format!("Slurm JobId={name} ends at Unknown\nJob remaining time is UNLIMITED\n"),
    }
}

/// The job of a process or of its nearest ancestor that knows one.
fn trace(mut pid: u32) -> Option<Found> {
    while pid > 1 {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some(found) = named(&environment) {
            return Some(found);
        }
        pid = parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    }
    None
}

/// The parent in a line of `/proc/PID/stat`: the second field behind the program's name, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A variable of an environment as the system keeps it.
fn variable<'e>(environment: &'e [u8], name: &str) -> Option<&'e str> {
    let entries = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The job that an environment tells of, as the system keeps it: entries between NUL bytes.
fn named(environment: &[u8]) -> Option<Found> {
    let value = |name: &str| variable(environment, name);
    let job_id = value("SLURM_JOB_ID")?.parse().ok()?;
    let step = match value("SLURM_STEP_ID") {
        Some("-5") => "batch".to_owned(),
        Some("-6") => "interactive".to_owned(),
        Some(step) => step.to_owned(),
        None => String::new(),
    };
    Some((job_id, step))
}

/// A process of a step on this machine.
struct Process {
    pid: u32,
    job: u32,
    step: String,
    /// Of the node's tasks and of the step's, where this process is a task itself.
    task: Option<(String, String)>,
    node: String,
}

/// The processes of this machine that belong to steps, as far as the user may see them, in the order of their jobs.
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<(Process, Option<u32>)> = Vec::new();
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let Some((job, step)) = named(&environment).filter(|(_, step)| !step.is_empty()) else { continue };
        let value = |name: &str| variable(&environment, name).unwrap_or_default().to_owned();
        let task = Some((value("SLURM_LOCALID"), value("SLURM_PROCID")));
        let above = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| parent(&stat));
        found.push((Process { pid, job, step, task, node: value("SLURMD_NODENAME") }, above));
    }
    // A task's own children have its environment.
    let of: std::collections::BTreeMap<u32, (u32, String)> =
        found.iter().map(|(one, _)| (one.pid, (one.job, one.step.clone()))).collect();
    let mut processes: Vec<Process> = Vec::new();
    for (mut one, above) in found {
        if above.and_then(|above| of.get(&above)) == Some(&(one.job, one.step.clone())) {
            one.task = None;
        }
        processes.push(one);
    }
    processes.sort_by_key(|one| {
        (one.job, one.step.parse::<u32>().unwrap_or(u32::MAX), one.task.is_none(), one.pid)
    });
    processes
}

/// `listpids [JOB[.STEP] [NODE]]`: the processes of steps on this machine; where one daemon serves several nodes of
/// a machine, those of that node.
pub(super) fn list_pids(session: &mut Session, words: &[String]) {
    let (what, node) = (words.first().map(String::as_str), words.get(1).map(String::as_str));
    let asked = match what.filter(|what| *what != "*") {
        None => None,
        Some(text) => {
            let (job, step) = text.split_once('.').map_or((text, None), |(job, step)| (job, Some(step)));
            match job.parse::<u32>() {
                Ok(job) => Some((job, step)),
                Err(_) => return session.fail(format!("\"{text}\" does not look like a jobid")),
            }
        }
    };
    let on_node = |one: &Process| node.is_none_or(|node| node == one.node);
    let chosen: Vec<Process> = processes()
        .into_iter()
        .filter(|one| on_node(one))
        .filter(|one| {
            asked.is_none_or(|(job, step)| one.job == job && step.is_none_or(|step| step == one.step))
        })
        .collect();
    if chosen.is_empty() {
        let node = node.unwrap_or("(null)");
        return session.fail(match asked {
            None => "No job steps exist on this node.".to_owned(),
            Some((job, None)) => format!("JobId={job} does not exist on node {node}."),
            Some((job, Some(step))) => format!("StepId={job}.{step} does not exist on node {node}."),
        });
    }
    let mut out = "PID      JOBID    STEPID   LOCALID GLOBALID\n".to_owned();
    for Process { pid, job, step, task, .. } in &chosen {
        let (local, global) = task.as_ref().map_or(("-", "-"), |(local, global)| (local, global));
        out += &format!("{pid:<8} {job:<8} {step:<8} {local:<7} {global:<8}\n");
    }
    say::out(out);
}

/// `listjobs [NODE]` and `liststeps [NODE]`.
pub(super) fn list_jobs(session: &mut Session, with_steps: bool, node: Option<&str>) {
    let mut lines: Vec<String> = Vec::new();
    for one in processes().iter().filter(|one| node.is_none_or(|node| node == one.node)) {
        let line = match with_steps {
            true => format!("{:<8} {:<8}\n", one.job, one.step),
            false => format!("{:<8}\n", one.job),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return session.fail("No slurmstepd's found on this node");
    }
    let header = if with_steps { "JOBID    STEPID  \n" } else { "JOBID\n" };
    say::out(header.to_owned() + &lines.concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_names_its_job_and_step() {
        assert_eq!(named(b"A=1\0SLURM_JOB_ID=7\0SLURM_STEP_ID=2\0"), Some((7, "2".to_owned())));
        assert_eq!(named(b"SLURM_JOB_ID=7\0SLURM_STEP_ID=-5\0"), Some((7, "batch".to_owned())));
        assert_eq!(named(b"SLURM_JOB_ID=7\0"), Some((7, String::new())));
        assert_eq!(named(b"SLURM_JOB_ID=x\0B=2\0"), None);
    }

    #[test]
    fn the_parent_stands_behind_a_name_with_brackets() {
        assert_eq!(parent("9 (a) b (c)) S 41 9 9 0"), Some(41));
        assert_eq!(parent("9 none"), None);
    }

    #[test]
    fn what_is_left_is_never_less_than_nothing() {
        assert!(ending("7.batch", Some(60_000), 1_000).ends_with("\nJob remaining time is 59 seconds\n"));
        assert!(ending("7.0", Some(1_000), 9_000).ends_with("\nJob remaining time is 0 seconds\n"));
        assert_eq!(ending("7", None, 0), "Slurm JobId=7 ends at Unknown\nJob remaining time is UNLIMITED\n");
    }
}
