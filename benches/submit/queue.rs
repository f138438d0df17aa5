//! A long queue: memory with many pending jobs of distinct bodies, and the restart with them.

use std::collections::VecDeque;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::{Arguments, Report, Workplace};
use client::Client;

use crate::clients::job;

const STREAMS: u64 = 8;

/// Submits `jobs` with bodies of 4 KiB (script 1 KiB, environment 3 KiB), looks at memory, kills the scheduler, drops
/// the page cache, and measures the restart.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report, jobs: u64) -> Result<()> {
    let place = Workplace::new(1, 64, "")?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    fill(&place, arguments.seed, jobs)?;
    let what = format!("{jobs} pending jobs");
    report.row(&format!("{what}, resident memory"), scheduler.resident()? as f64 / 1e6, "MB");
    scheduler.kill();
    if !drop_page_cache() {
        println!("  (the page cache could not be dropped: not root)");
    }
    let begin = Instant::now();
    let mut scheduler = place.scheduler()?;
    // The real command, as a user would type it, until it answers.
    let last = (1u64..).find_map(|_| answered(&place, begin)).context("squeue answers")?;
    report.row(&format!("{what}, exec of the scheduler to the first squeue"), last.as_secs_f64() * 1e3, "ms");
    let _executor = place.executor("n1")?;
    let running = wait_running(&place, begin)?;
    report.row(
        &format!("{what}, exec of the scheduler to the first start"),
        running.as_secs_f64() * 1e3,
        "ms",
    );
    report.row(
        &format!("{what}, resident memory after the restart"),
        scheduler.resident()? as f64 / 1e6,
        "MB",
    );
    scheduler.kill();
    Ok(())
}

fn fill(place: &Workplace, seed: u64, jobs: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for stream in 0..STREAMS {
            let socket = place.socket();
            tasks.push(tokio::spawn(async move {
                let client = Client::connect_to(vec![socket]).await.context("connect")?;
                let mut submissions = client.submissions().await.context("open a stream")?;
                let mut numbers: VecDeque<u64> =
                    (stream..jobs).step_by(usize::try_from(STREAMS).expect("a few")).collect();
                let mut unanswered = 0;
                while unanswered > 0 || !numbers.is_empty() {
                    while let Some(number) = numbers.pop_front() {
                        submissions.send(&job(seed, number, 1024, 3072)).await.context("send")?;
                        unanswered += 1;
                        if unanswered >= 256 {
                            break;
                        }
                    }
                    submissions.answer().await.context("the stream ended early")?.context("an answer")?;
                    unanswered -= 1;
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await.context("a client")??;
        }
        Ok(())
    })
}

fn drop_page_cache() -> bool {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// `squeue` of one job: the time since `begin` once it prints it.
fn answered(place: &Workplace, begin: Instant) -> Option<Duration> {
    let out = place
        .command("squeue")
        .args(["-h", "-o", "%i", "-t", "PENDING", "-n", "bench", "-j", "1"])
        .stderr(Stdio::null())
        .output();
    let printed = out.is_ok_and(|out| out.status.success() && out.stdout.starts_with(b"1\n"));
    (printed || begin.elapsed() > Duration::from_secs(120)).then(|| begin.elapsed())
}

fn wait_running(place: &Workplace, begin: Instant) -> Result<Duration> {
    while begin.elapsed() < Duration::from_secs(120) {
        let out = place
            .command("squeue")
            .args(["-h", "-a", "-o", "%i", "-t", "RUNNING,COMPLETING,COMPLETED"])
            .output()
            .context("run squeue")?;
        if !out.stdout.is_empty() {
            return Ok(begin.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("no job started within two minutes of the restart")
}
