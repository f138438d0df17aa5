//! Many trivial jobs on one node, from the first submit to the last end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::{Arguments, Report, Workplace, cpu_of};
use client::{Client, Key, Submission};
use proto::v1::JobFilter;

const TRIVIAL: &str = "#!/bin/sh\n";
const PATIENCE: Duration = Duration::from_secs(300);

/// What holds the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A cgroup2 directory tracks them, where there is one.
    Tracked,
    /// No cgroup at all.
    Nothing,
    /// Limits of CPU time, memory and processes for each job.
    Limits,
}

impl Hold {
    /// A workplace whose configuration says so.
    pub(crate) fn workplace(self) -> Result<Workplace> {
        let (conf, cgroup) = match self {
            Self::Tracked => ("", ""),
            Self::Nothing => ("", "CgroupPlugin=disabled\n"),
            Self::Limits => ("TaskPlugin=task/cgroup", "ConstrainCores=yes\nConstrainRAMSpace=yes\n"),
        };
        let place = Workplace::new(1, 64, conf)?;
        if !cgroup.is_empty() {
            std::fs::write(place.folder().join("cgroup.conf"), cgroup).context("write cgroup.conf")?;
        }
        Ok(place)
    }
}

/// Runs `jobs` jobs, or one array of so many elements, and reports rate and CPU. Answers jobs/s.
pub(crate) fn measure(
    arguments: &Arguments,
    report: &mut Report,
    what: &str,
    jobs: u32,
    array: Option<String>,
    hold: Hold,
) -> Result<f64> {
    let place = hold.workplace()?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let mut executor = place.executor("n1")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    let (rate, cpu) = runtime.block_on(async {
        let client = Client::connect_to(vec![place.socket()]).await.context("connect")?;
        warm(&client, arguments.seed).await?;
        let cpu = || {
            let (own, below) = executor.cpu()?;
            anyhow::Ok([scheduler.cpu()?.0, own, below, cpu_of(std::process::id())?.0])
        };
        let before = cpu()?;
        let begin = Instant::now();
        let last = match &array {
            None => submit_all(&client, arguments.seed, jobs).await?,
            Some(array) => {
                let mut submission = trivial(arguments.seed, u32::MAX);
                submission.request.array.clone_from(array);
                client.submit(&submission).await.context("submit an array")?
            }
        };
        wait_all(&client, last).await?;
        let span = begin.elapsed();
        let after = cpu()?;
        let cpu: Vec<Duration> = after.iter().zip(before).map(|(after, before)| *after - before).collect();
        anyhow::Ok((f64::from(jobs) / span.as_secs_f64(), cpu))
    })?;
    // Its cgroups go with it.
    executor.stop();
    report.row(&format!("{what}, end to end"), rate, "jobs/s");
    let who = ["the scheduler", "the executor", "supervisors and jobs", "this client"];
    for (who, cpu) in who.iter().zip(cpu) {
        report.row(&format!("{what}, CPU of {who} per job"), cpu.as_secs_f64() * 1e3 / f64::from(jobs), "ms");
    }
    Ok(rate)
}

pub(crate) fn trivial(seed: u64, number: u32) -> Submission {
    let mut submission = Submission::script("trivial", TRIVIAL);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&number.to_le_bytes());
    submission.key = Key::from_bytes(key);
    submission.request.work_dir = "/tmp".to_owned();
    submission.request.stdout = Some("/dev/null".to_owned());
    submission
}

/// One job through the whole cluster: the node is up when it has ended.
pub(crate) async fn warm(client: &Client, seed: u64) -> Result<()> {
    let id = client.submit(&trivial(seed, u32::MAX - 1)).await.context("submit a first job")?;
    let job = tokio::time::timeout(PATIENCE, client.wait(id))
        .await
        .context("the first job did not end")?
        .context("wait")?;
    if job.state != "COMPLETED" {
        bail!("the first job ended as {} ({})", job.state, job.reason);
    }
    Ok(())
}

/// Answers the id of the last job.
async fn submit_all(client: &Client, seed: u64, jobs: u32) -> Result<u32> {
    let mut last = 0;
    let mut stream = client.submissions().await.context("open a stream")?;
    let mut unanswered = 0;
    for number in 0..jobs {
        stream.send(&trivial(seed, number)).await.context("send")?;
        unanswered += 1;
        if unanswered == 256 {
            let id = stream.answer().await.context("the stream ended early")?.context("an answer")?;
            last = last.max(id);
            unanswered -= 1;
        }
    }
    stream.finish();
    while let Some(answer) = stream.answer().await {
        last = last.max(answer.context("an answer")?);
    }
    Ok(last)
}

/// Until no job waits or runs. Looks at the last one until that has ended, since a listing of everything costs the
/// scheduler and this process as much as many jobs.
async fn wait_all(client: &Client, last: u32) -> Result<()> {
    let states = ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING"].map(str::to_owned).to_vec();
    let begin = Instant::now();
    let mut job_ids = vec![last];
    loop {
        let filter = JobFilter { states: states.clone(), job_ids: job_ids.clone(), ..Default::default() };
        let left = client.jobs(filter, false).await.context("list jobs")?.len();
        if left == 0 && job_ids.is_empty() {
            return Ok(());
        }
        if left == 0 {
            job_ids.clear();
            continue;
        }
        if begin.elapsed() > PATIENCE {
            bail!("jobs are left after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
