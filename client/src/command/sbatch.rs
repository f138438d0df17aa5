//! `sbatch`: submitting a script.

use std::time::Duration;

use proto::v1::{Job, JobFilter};

use super::{Call, block_on, job, submit};
use crate::api::{Client, Error, has_ended};
use crate::option::{Parsed, Program};
use crate::say;

const PROGRAM: Program = Program::Sbatch;

/// Runs the command: 0, 1 for a refusal, 255 for words that make no sense, the job's own code with `--wait`.
pub(crate) fn run(call: &Call) -> u8 {
    let parsed = match submit::read(PROGRAM, call) {
        Ok(parsed) => parsed,
        Err(status) => return status,
    };
    let cluster = match submit::cluster(call, &parsed) {
        Ok(cluster) => cluster,
        Err(status) => return status,
    };
    if parsed.first().manner.test_only {
        return block_on(submit::test_only(PROGRAM, &parsed));
    }
    block_on(submit_script(&parsed, cluster.as_deref()))
}

async fn submit_script(parsed: &Parsed, cluster: Option<&str>) -> u8 {
    let client = match super::connect().await {
        Ok(client) => client,
        Err(error) => return submit::refused(PROGRAM, &error),
    };
    let reply = match client.submit_message(submit::message(parsed)).await {
        Ok(reply) => reply,
        Err(error) => return submit::refused(PROGRAM, &error),
    };
    reply.warnings.iter().for_each(|line| say::err(format!("{}: {line}", PROGRAM.name())));
    if let Some(refused) = reply.refused {
        return submit::refused(PROGRAM, &refused.into());
    }
    let manner = &parsed.first().manner;
    if manner.parsable {
        say::out(
            cluster
                .map_or_else(|| format!("{}\n", reply.job_id), |name| format!("{};{name}\n", reply.job_id)),
        );
    } else if !manner.quiet {
        let on = cluster.map(|name| format!(" on cluster {name}")).unwrap_or_default();
        say::out(format!("Submitted batch job {}{on}\n", reply.job_id));
    }
    if manner.wait { wait(&client, reply.job_id).await } else { 0 }
}

/// Waits for the job, or all elements of the array, and gives the highest exit code; 1 for a signal.
async fn wait(client: &Client, job_id: u32) -> u8 {
    let mut pause = Duration::from_millis(50);
    loop {
        let filter = JobFilter { job_ids: vec![job_id], ..JobFilter::default() };
        match client.jobs(filter, true).await {
            Ok(jobs) => {
                let ours = |job: &&Job| {
                    job.job_id == job_id || job.array_job_id == Some(job_id) || job.het_job_id == Some(job_id)
                };
                let ours: Vec<&Job> = jobs.iter().filter(ours).collect();
                if ours.is_empty() {
                    // It ended while nobody answered, and has left the scheduler's memory.
                    let past = client.history_of(job_id).await.unwrap_or_default();
                    if past.is_empty() {
                        say::error(PROGRAM.name(), format!("job {job_id} is no longer known"));
                    }
                    return past.iter().map(code).max().unwrap_or(1);
                }
                if ours.iter().all(|job| has_ended(job)) {
                    return ours.iter().map(|job| code(job)).max().unwrap_or(0);
                }
            }
            Err(error @ Error::Refused { .. }) => {
                say::error(PROGRAM.name(), say::reason(&error));
                return 1;
            }
            // The scheduler may be restarting; the job goes on meanwhile.
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn code(job: &Job) -> u8 {
    let exit = job.exit.unwrap_or_default();
    match (exit.code, exit.signal) {
        (0, 0) if job::state(job) == model::job::JobState::Completed => 0,
        (0, _) => 1,
        (code, _) => (code % 256) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::ExitStatus;

    #[test]
    fn a_signal_or_another_end_is_one() {
        let ended = |state: &str, code, signal| Job {
            state: state.into(),
            exit: Some(ExitStatus { code, signal }),
            ..Job::default()
        };
        let codes = [("COMPLETED", 0, 0), ("FAILED", 7, 0), ("FAILED", 0, 9), ("CANCELLED", 0, 0)];
        assert_eq!(codes.map(|(state, exit, signal)| code(&ended(state, exit, signal))), [0, 7, 1, 1]);
    }
}
