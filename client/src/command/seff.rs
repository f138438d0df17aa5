//! `seff JOB`: how much of its CPUs and memory a job used, in the form of Slurm's script of that name.
//!
//! What is measured is said in `past`; memory is the largest resident size of one of the job's steps on a node.

use model::job::JobState;
use proto::v1::Job;

use super::job::{self, Selector};
use super::{Call, block_on, past};
use crate::getopt::Takes::Nothing;
use crate::getopt::{self, Spec};
use crate::table::units::clock;
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Debug,
    Help,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Debug, b'd', "debug", Nothing),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

const USAGE: &str =
    "Usage: seff [Options] <Jobid>\n       Options:\n       -h    Help menu\n       -V    Version\n";

/// Runs the command: 0, 1 for a job that is not there or no answer, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let Ok(words) = call.split(OPTIONS) else { return 2 };
    if words.options.iter().any(|given| given.id == O::Help) {
        say::out(USAGE);
        return 0;
    }
    if words.options.iter().any(|given| given.id == O::Version) {
        say::out(super::version() + "\n");
        return 0;
    }
    let [word] = &words.operands[..] else {
        say::err(USAGE.trim_end());
        return 2;
    };
    let typed = word.to_string_lossy();
    let Some(selector) = Selector::parse(&typed).filter(|selector| selector.step.is_none()) else {
        say::error(&call.program, format!("Invalid job id: {typed}"));
        return 1;
    };
    let jobs = match block_on(past::find(&selector)) {
        Ok(jobs) => jobs,
        Err(error) => {
            say::error(&call.program, say::reason(&error));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    // An array's name means the element that bears its id, as it does to Slurm's script.
    let chosen = jobs.iter().find(|job| job.job_id == selector.job_id).or_else(|| jobs.first());
    let Some(job) = chosen else {
        say::err("Job not found.");
        return 1;
    };
    say::out(text(job, local::now_ms()));
    0
}

fn text(job: &Job, now_ms: i64) -> String {
    let mut out = format!("Job ID: {}\n", job.job_id);
    if let (Some(array), Some(task)) = (job.array_job_id, job.array_task_id) {
        out.push_str(&format!("Array Job ID: {array}_{task}\n"));
    }
    out.push_str(&format!("Cluster: {}\nUser/Group: {}/{}\n", job.cluster, job.user, job.group));
    let state = job::state(job);
    if state == JobState::Pending {
        out.push_str("State: PENDING\nEfficiency not available for jobs in the PENDING state.\n");
        return out;
    }
    if job::is_active(job) {
        out.push_str(&format!("State: {}\n", state.long()));
    } else {
        out.push_str(&format!("State: {} (exit code {})\n", state.long(), job.exit.unwrap_or_default().code));
    }
    let nodes = job.num_nodes.max(1);
    match (nodes, job.num_cpus) {
        (1, 1) => out.push_str("Cores: 1\n"),
        (nodes, cpus) => out.push_str(&format!("Nodes: {nodes}\nCores per node: {}\n", cpus / nodes)),
    }
    let used = past::used(job, now_ms);
    let seconds = |ms: u64| clock(i64::try_from(ms / 1000).unwrap_or(i64::MAX));
    out.push_str(&format!("CPU Utilized: {}\n", seconds(used.cpu_ms)));
    out.push_str(&format!(
        "CPU Efficiency: {:.2}% of {} core-walltime\n",
        past::percent(used.cpu_ms, used.held_ms),
        seconds(used.held_ms)
    ));
    out.push_str(&format!("Job Wall-clock time: {}\n", clock(job::run_ms(job, now_ms) / 1000)));
    out.push_str(&format!("Memory Utilized: {}\n", size(used.peak)));
    let held = used.memory_mib << 20;
    out.push_str(&format!(
        "Memory Efficiency: {:.2}% of {} ({}/node)\n",
        past::percent(used.peak, held),
        size(held),
        size(held)
    ));
    if job::is_active(job) {
        out.push_str("WARNING: Efficiency statistics can be misleading for RUNNING jobs.\n");
    }
    out
}

/// Bytes with two digits behind the point and a unit, from KB on.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, 0);
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.2} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use proto::v1::{ExitStatus, NodeAllocation, Step};

    use super::*;

    #[test]
    fn reads_as_the_script_of_that_name() {
        let job = Job {
            job_id: 12,
            array_job_id: Some(10),
            array_task_id: Some(2),
            cluster: "sluice".to_owned(),
            user: "ann".to_owned(),
            group: "lab".to_owned(),
            state: "COMPLETED".to_owned(),
            exit: Some(ExitStatus::default()),
            num_nodes: 2,
            num_cpus: 8,
            start_ms: Some(0),
            end_ms: Some(100_000),
            allocation: vec![NodeAllocation { memory_mib: 2048, ..NodeAllocation::default() }; 2],
            steps: vec![Step { user_us: 400_000_000, max_rss_bytes: 512 << 20, ..Step::default() }],
            ..Job::default()
        };
        let wanted = "Job ID: 12\nArray Job ID: 10_2\nCluster: sluice\nUser/Group: ann/lab\n\
            State: COMPLETED (exit code 0)\nNodes: 2\nCores per node: 4\nCPU Utilized: 00:06:40\n\
            CPU Efficiency: 50.00% of 00:13:20 core-walltime\nJob Wall-clock time: 00:01:40\n\
            Memory Utilized: 512.00 MB\nMemory Efficiency: 25.00% of 2.00 GB (2.00 GB/node)\n";
        assert_eq!(text(&job, 200_000), wanted);
    }
}
