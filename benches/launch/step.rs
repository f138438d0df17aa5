//! Steps: a wide one, output on its way to one `srun`, and what a supervisor takes of memory.
//!
//! Beside them what the machine does alone: as many programs started by two drivers, the same bytes through one pipe.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use benches::{Arguments, Daemon, Report, Spread, Workplace, children_of};
use client::{Client, Key, Submission};

use crate::end_to_end::warm;

/// Tasks of the wide step.
const TASKS: u32 = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// All rows of this file.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let place = Workplace::new(1, TASKS, "")?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let mut executor = place.executor("n1")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    runtime.block_on(async {
        let client = Client::connect_to(vec![place.socket()]).await.context("connect")?;
        warm(&client, arguments.seed).await?;
        memory(&client, &executor, report).await
    })?;
    wide(arguments, &place, report)?;
    stream(arguments, &place, report)?;
    // Its cgroups go with it.
    executor.stop();
    Ok(())
}

/// What the supervisor of a job that sleeps takes for itself, and what is resident of it in all.
async fn memory(client: &Client, executor: &Daemon, report: &mut Report) -> Result<()> {
    let mut submission = Submission::script("sleeper", "#!/bin/sh\nexec sleep 300\n");
    submission.key = Key::random();
    submission.request.work_dir = "/tmp".to_owned();
    submission.request.stdout = Some("/dev/null".to_owned());
    let id = client.submit(&submission).await.context("submit")?;
    let begin = Instant::now();
    // The nursery is the executor's child, the supervisor the nursery's, and the job the supervisor's.
    let supervisor = loop {
        let nurseries = children_of(executor.pid())?;
        let forks: Vec<u32> =
            nurseries.into_iter().flat_map(|pid| children_of(pid).unwrap_or_default()).collect();
        let busy = |pid: &&u32| children_of(**pid).is_ok_and(|jobs| !jobs.is_empty());
        if let Some(pid) = forks.iter().find(busy) {
            break *pid;
        }
        ensure!(begin.elapsed() < PATIENCE, "no supervisor of job {id} is to be seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let rollup = fs::read_to_string(format!("/proc/{supervisor}/smaps_rollup"))
        .context("read a supervisor's memory")?;
    let kib = |name: &str| -> f64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
    };
    let private = (kib("Private_Clean") + kib("Private_Dirty")) / 1024.0;
    report.row("supervisor of a running job, private memory", private, "MiB");
    report.row("supervisor of a running job, resident memory", kib("Rss") / 1024.0, "MiB");
    client.cancel(id).await.context("cancel the job")?;
    client.wait(id).await.context("wait for the job")?;
    Ok(())
}

/// `srun` of many tasks that do nothing, on one node.
fn wide(arguments: &Arguments, place: &Workplace, report: &mut Report) -> Result<()> {
    let (tasks, runs) = if arguments.tiny { (8, 1) } else { (TASKS, 7) };
    let mut spans = Vec::new();
    for _ in 0..runs {
        let begin = Instant::now();
        let out = place.command("srun").args(["-n", &tasks.to_string(), "true"]).output();
        let out = out.context("run srun")?;
        ensure!(out.status.success(), "srun: {}", String::from_utf8_lossy(&out.stderr));
        spans.push(begin.elapsed());
    }
    let median = Spread::of(spans).median.as_secs_f64() * 1e3;
    report.row(&format!("srun of {tasks} tasks on one node, median"), median, "ms");
    let begin = Instant::now();
    let drivers: Vec<_> = (0..2)
        .map(|driver| {
            thread::spawn(move || {
                (driver..tasks).step_by(2).try_for_each(|_| {
                    let status = Command::new("true").stdin(Stdio::null()).status().context("run true")?;
                    if status.success() { Ok(()) } else { bail!("true ended with {status}") }
                })
            })
        })
        .collect();
    for driver in drivers {
        driver.join().map_err(|_| anyhow::anyhow!("a driver panicked"))??;
    }
    let alone = begin.elapsed().as_secs_f64() * 1e3;
    report.row(&format!("limit: {tasks} programs started by two drivers"), alone, "ms");
    Ok(())
}

/// What one task writes, to one `srun` that throws it away.
fn stream(arguments: &Arguments, place: &Workplace, report: &mut Report) -> Result<()> {
    let bytes: u64 = if arguments.tiny { 16 << 20 } else { 2 << 30 };
    let count = bytes.to_string();
    let rate = |begin: Instant| bytes as f64 / 1e6 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let status = place
        .command("srun")
        .args(["-n", "1", "head", "-c", &count, "/dev/zero"])
        .stdout(Stdio::null())
        .status()
        .context("run srun")?;
    ensure!(status.success(), "srun ended with {status}");
    report.row("output of one task to one srun", rate(begin), "MB/s");
    let begin = Instant::now();
    let mut source = Command::new("head")
        .args(["-c", &count, "/dev/zero"])
        .stdout(Stdio::piped())
        .spawn()
        .context("run head")?;
    let pipe = source.stdout.take().context("head's output")?;
    let status = Command::new("cat").stdin(pipe).stdout(Stdio::null()).status().context("run cat")?;
    ensure!(status.success() && source.wait().context("wait for head")?.success(), "head | cat failed");
    report.row("limit: the same bytes through one pipe", rate(begin), "MB/s");
    Ok(())
}
