//! `sluice` without words: what runs, what is the asker's own, and what to do next.
//!
//! Asks the scheduler three questions and prints a screen at most; changes nothing.

use std::collections::BTreeMap;

use model::job::JobState;
use proto::v1::{Job, JobFilter, Node};

use super::{block_on, job, node};
use crate::api::{Client, Error};
use crate::table::units::{elapsed, memory};
use crate::{local, say};

/// Own jobs that are shown.
const OWN_SHOWN: usize = 8;

/// What the scheduler answered.
struct Seen {
    socket: String,
    nodes: Vec<Node>,
    jobs: Vec<Job>,
    uid: u32,
    now_ms: i64,
}

/// Runs it: 0, 1 where nobody answers.
pub(crate) fn run() -> u8 {
    match block_on(ask()) {
        Ok(seen) => {
            say::out(text(&seen));
            0
        }
        Err(error) => {
            say::error("sluice", say::reason(&error));
            say::explain("sluice", &error);
            say::err("sluice: \"sluice help\" lists the verbs");
            1
        }
    }
}

async fn ask() -> Result<Seen, Error> {
    let client: Client = super::connect_to_ask().await?;
    let nodes = client.list_nodes(Vec::new()).await?;
    let jobs = client.jobs(JobFilter::default(), false).await?;
    Ok(Seen {
        socket: client.sockets().first().cloned().unwrap_or_default(),
        nodes,
        jobs,
        uid: nix::unistd::getuid().as_raw(),
        now_ms: local::now_ms(),
    })
}

fn text(seen: &Seen) -> String {
    let mut out = format!("scheduler  answers at {}\n", seen.socket);
    out.push_str(&format!("nodes      {}\n", nodes(&seen.nodes)));
    for one in seen.nodes.iter().filter(|node| !node.reason.is_empty()).take(4) {
        out.push_str(&format!("           {} is {}: {}\n", one.name, node::long(one), one.reason));
    }
    let sum = |of: fn(&Node) -> u64| seen.nodes.iter().map(of).sum::<u64>();
    out.push_str(&format!(
        "in use     {} of {} CPUs, {} of {} memory\n",
        sum(|node| u64::from(node.cpus_allocated)),
        sum(|node| u64::from(node.cpus)),
        memory(sum(|node| node.memory_allocated_mib), true),
        memory(sum(|node| node.memory_mib), true)
    ));
    let own: Vec<&Job> = seen.jobs.iter().filter(|job| job.uid == seen.uid).collect();
    out.push_str(&format!(
        "jobs       {}; yours: {}\n",
        counts(seen.jobs.iter()),
        counts(own.iter().copied())
    ));
    for job in own.iter().take(OWN_SHOWN) {
        out.push_str(&format!("           {}\n", line(job, seen.now_ms)));
    }
    if own.len() > OWN_SHOWN {
        out.push_str(&format!("           … and {} more: squeue --me\n", own.len() - OWN_SHOWN));
    }
    let waiting = own.iter().find(|job| job::state(job) == JobState::Pending);
    out.push_str("next       ");
    match (waiting, own.is_empty()) {
        (Some(job), _) => out.push_str(&format!(
            "sluice why {}: why it waits, and until when\n",
            job.array_job_id.unwrap_or(job.job_id)
        )),
        (None, false) => out.push_str("squeue --me, sacct: your jobs now and of today\n"),
        (None, true) => out.push_str("sbatch --wrap=hostname: a first job; squeue and sacct show it\n"),
    }
    out.push_str("           sluice help: all verbs\n");
    out
}

/// `4: 2 idle, 1 mixed, 1 down`.
fn nodes(nodes: &[Node]) -> String {
    let mut by_state: BTreeMap<String, u32> = BTreeMap::new();
    for one in nodes {
        *by_state.entry(node::long(one)).or_default() += 1;
    }
    let parts: Vec<String> = by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{}: {}", nodes.len(), parts.join(", "))
}

/// `3 run, 5 wait`; an array's record counts for its waiting elements.
fn counts<'a>(jobs: impl Iterator<Item = &'a Job>) -> String {
    let (mut run, mut wait) = (0, 0);
    for job in jobs {
        match job::state(job) {
            JobState::Pending => wait += job::tasks(job).map_or(1, |tasks| tasks.len()),
            _ => run += 1,
        }
    }
    format!("{run} run, {wait} wait")
}

fn line(job: &Job, now_ms: i64) -> String {
    let head = format!("{} \"{}\"", job::id(job), job::request(job).name);
    match job::state(job) {
        JobState::Pending => {
            let planned = job.planned_start_ms.map_or_else(String::new, |at| {
                format!(", planned to start in {}", elapsed((at - now_ms).max(0) / 1000))
            });
            format!("{head} waits ({}){planned}", job::reason(job))
        }
        state => {
            format!(
                "{head} {} for {} on {}",
                state.long(),
                elapsed(job::run_ms(job, now_ms) / 1000),
                job.node_list
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::JobRequest;

    use super::*;

    #[test]
    fn names_the_next_step() {
        let job = |id, uid, state: &str| Job {
            job_id: id,
            uid,
            state: state.to_owned(),
            reason: "Resources".to_owned(),
            node_list: "n1".to_owned(),
            start_ms: (state == "RUNNING").then_some(1_000),
            planned_start_ms: (state == "PENDING").then_some(91_000),
            request: Some(JobRequest { name: "train".to_owned(), ..JobRequest::default() }),
            ..Job::default()
        };
        let node = Node {
            name: "n1".to_owned(),
            state: "MIXED".to_owned(),
            cpus: 8,
            cpus_allocated: 2,
            ..Node::default()
        };
        let mut seen = Seen {
            socket: "/run/s".to_owned(),
            nodes: vec![node],
            jobs: vec![job(1, 7, "RUNNING"), job(2, 7, "PENDING"), job(3, 8, "PENDING")],
            uid: 7,
            now_ms: 31_000,
        };
        let shown = text(&seen);
        assert!(shown.contains("1: 1 mixed"), "{shown}");
        assert!(shown.contains("2 of 8 CPUs"), "{shown}");
        assert!(shown.contains("1 run, 2 wait; yours: 1 run, 1 wait"), "{shown}");
        assert!(shown.contains("1 \"train\" RUNNING for 0:30 on n1"), "{shown}");
        assert!(shown.contains("waits (Resources), planned to start in 1:00"), "{shown}");
        assert!(shown.contains("sluice why 2"), "{shown}");
        seen.jobs.clear();
        assert!(text(&seen).contains("sbatch --wrap=hostname"));
    }
}
