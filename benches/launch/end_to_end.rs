//! Many trivial jobs on one node, from the first submit to the last end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::{Arguments, Report, Workplace};
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
        let before = (scheduler.cpu()?.0, executor.cpu()?);
        let begin = Instant::now();
        match &array {
            None => submit_all(&client, arguments.seed, jobs).await?,
            Some(array) => {
                let mut submission = trivial(arguments.seed, u32::MAX);
                submission.request.array.clone_from(array);
                client.submit(&submission).await.context("submit an array")?;
            }
        }
        wait_all(&client).await?;
        let span = begin.elapsed();
        let after = (scheduler.cpu()?.0, executor.cpu()?);
        let cpu = [after.0 - before.0, after.1.0 - before.1.0, after.1.1 - before.1.1];
        anyhow::Ok((f64::from(jobs) / span.as_secs_f64(), cpu))
    })?;
    // Its cgroups go with it.
    executor.stop();
    report.row(&format!("{what}, end to end"), rate, "jobs/s");
    for (who, cpu) in ["the scheduler", "the executor", "supervisors and jobs"].iter().zip(cpu) {
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

async fn submit_all(client: &Client, seed: u64, jobs: u32) -> Result<()> {
    let mut stream = client.submissions().await.context("open a stream")?;
    let mut unanswered = 0;
    for number in 0..jobs {
        stream.send(&trivial(seed, number)).await.context("send")?;
        unanswered += 1;
        if unanswered == 256 {
            stream.answer().await.context("the stream ended early")?.context("an answer")?;
            unanswered -= 1;
        }
    }
    stream.finish();
    while let Some(answer) = stream.answer().await {
        answer.context("an answer")?;
    }
    Ok(())
}

/// Until no job waits or runs. Looks rarely: a listing of everything costs the scheduler too.
async fn wait_all(client: &Client) -> Result<()> {
    let states = ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING"].map(str::to_owned).to_vec();
    let begin = Instant::now();
    loop {
        let filter = JobFilter { states: states.clone(), ..Default::default() };
        let left = client.jobs(filter, false).await.context("list jobs")?.len();
        if left == 0 {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("{left} jobs are left after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(if left > 500 { 200 } else { 20 })).await;
    }
}
