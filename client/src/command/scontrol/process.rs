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
    let Ok(pid) = word.parse::<u32>() else { return session.fail(format!("invalid process id: {word}")) };
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

/// The job that an environment tells of, as the system keeps it: entries between NUL bytes.
fn named(environment: &[u8]) -> Option<Found> {
    let value = |name: &str| {
        let entries =
            environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        entries
            .filter_map(|entry| entry.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let job_id = value("SLURM_JOB_ID")?.parse().ok()?;
    let step = match value("SLURM_STEP_ID") {
        Some("-5") => "batch".to_owned(),
        Some("-6") => "interactive".to_owned(),
        Some(step) => step.to_owned(),
        None => String::new(),
    };
    Some((job_id, step))
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
