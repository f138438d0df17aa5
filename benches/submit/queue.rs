//! A long queue: memory with many pending jobs of distinct bodies, the restart with them at the worst journal length that
//! the snapshot policy allows, and submissions while a snapshot of them is made.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use benches::{Arguments, Report, Spread, Workplace};
use client::Client;
use scheduler::store::{Class, FileDisk, Opened, Settings, Store};
use scheduler_core::record::Record;

use crate::clients::{Load, job, run};

const STREAMS: u64 = 8;
/// Records in a batch that makes the journal longer, as under load.
const BATCH: usize = 256;
/// Clients that submit while a snapshot is made; unary, so that each waits for its own answer.
const SUBMITTERS: u64 = 8;
/// A snapshot that was not begun, or not finished, after this long never will be.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(120);

/// Submits `jobs` with bodies of 4 KiB (script 1 KiB, environment 3 KiB), looks at memory, kills the scheduler, makes
/// the journal as long as it may become, drops the page cache, and measures the restart.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report, jobs: u64) -> Result<()> {
    let place = Workplace::new(1, 64, "")?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    fill(&place, arguments.seed, jobs)?;
    let what = format!("{jobs} pending jobs");
    report.row(&format!("{what}, resident memory"), scheduler.resident()? as f64 / 1e6, "MB");
    scheduler.kill();
    lengthen(&place, report, jobs)?;
    if !drop_page_cache() {
        println!("  (the page cache could not be dropped: not root)");
    }
    restart(&place, report, &what)?;
    lengthen(&place, report, jobs)?;
    during_a_snapshot(&place, arguments, report, &what)
}

fn restart(place: &Workplace, report: &mut Report, what: &str) -> Result<()> {
    let begin = Instant::now();
    let mut scheduler = place.scheduler()?;
    let (answers, starts) = thread::scope(|scope| {
        // The executor is there as soon as somebody listens.
        let starts = scope.spawn(|| {
            place.wait_socket(&mut scheduler)?;
            let executor = place.executor("n1")?;
            Ok::<_, anyhow::Error>((wait_running(place, begin)?, executor))
        });
        // The real command, as a user would type it, until it answers.
        let answers = (1u64..).find_map(|_| answered(place, begin)).context("squeue answers");
        Ok::<_, anyhow::Error>((answers?, starts.join().expect("a thread of the bench")?))
    })?;
    let (running, mut executor) = starts;
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    report.row(&format!("{what}, exec of the scheduler to the first squeue"), ms(answers), "ms");
    report.row(&format!("{what}, exec of the scheduler to the first start"), ms(running), "ms");
    report.row(
        &format!("{what}, resident memory after the restart"),
        scheduler.resident()? as f64 / 1e6,
        "MB",
    );
    executor.kill();
    scheduler.kill();
    let log = fs::read_to_string(place.folder().join("scheduler.log")).context("read the log")?;
    if let Some(line) = log.lines().rev().find(|line| line.contains("the state is recovered")) {
        println!("  ({line})");
    }
    Ok(())
}

/// Stores jobs as they are, once more, until the next frame would make a snapshot due: more journal than that is never
/// behind the newest snapshot but while one is being made. Through the store itself, which knows its policy.
fn lengthen(place: &Workplace, report: &mut Report, jobs: u64) -> Result<()> {
    let disk = Arc::new(FileDisk::open(place.state()).context("open the state")?);
    let mut settings = Settings::default();
    let policy = settings.compaction.clone();
    // Nobody makes a snapshot meanwhile.
    settings.compaction.after_bytes = 1 << 40;
    let Opened { state, store, .. } = Store::open(disk, settings, &mut |_, _| proto::v1::Job::default())?;
    ensure!(state.jobs.len() as u64 >= jobs, "{} of {jobs} jobs are there", state.jobs.len());
    // The worst is a snapshot of all jobs and as much journal as that allows, not the journal alone.
    ensure!(store.compact_now().context("make a snapshot")?, "there is something to put into a snapshot");
    let mut records = state.jobs.values().cycle().map(|job| Record::Job(Arc::clone(job)));
    let behind = loop {
        let behind = store.behind_snapshot()?;
        if behind.bytes + (BATCH as u64) * 1024 >= policy.due_bytes(behind.newest_bytes) {
            break behind;
        }
        let mut batch = store.batch();
        store.admit(&mut batch, Class::Admission, BATCH as u64 * 2048, &[])?;
        records.by_ref().take(BATCH).for_each(|record| batch.push(&record));
        let (done, wait) = sync_channel(1);
        store.commit(batch, Box::new(move |outcome| drop(done.send(outcome.map(|_| ())))));
        wait.recv().context("a batch")??;
    };
    store.close();
    report.row("journal behind the newest snapshot at the restart", behind.bytes as f64 / 1e6, "MB");
    report.row("the newest snapshot", behind.newest_bytes as f64 / 1e6, "MB");
    Ok(())
}

/// Submissions with and without a snapshot being made, by the same clients against the same scheduler.
fn during_a_snapshot(
    place: &Workplace,
    arguments: &Arguments,
    report: &mut Report,
    what: &str,
) -> Result<()> {
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let pid = scheduler.pid();
    let span = if arguments.tiny { Duration::from_millis(500) } else { Duration::from_secs(20) };
    let load = |clients| Load { seed: arguments.seed + 1, clients, pipelined: false, span };
    let over = AtomicBool::new(false);
    let (done, mut spans) = thread::scope(|scope| {
        let watch = scope.spawn(|| snapshots(pid, &over));
        let done = run(&place.socket(), &load(SUBMITTERS));
        over.store(true, Ordering::SeqCst);
        (done, watch.join().expect("a thread of the bench"))
    });
    let done = done?;
    if spans.is_empty() && !arguments.tiny {
        bail!("no snapshot was made within {span:?}");
    }
    // What was under way when it began or ended met it.
    let met =
        |at: &(Instant, Duration)| spans.iter().any(|(begin, end)| at.0 <= *end && at.0 + at.1 >= *begin);
    let (with, without): (Vec<_>, Vec<_>) = done.each().iter().copied().partition(met);
    let spread = |sample: &[(Instant, Duration)]| Spread::of(sample.iter().map(|at| at.1).collect());
    report.row(
        &format!("{what}, snapshots made meanwhile: time"),
        spans.drain(..).map(|(begin, end)| (end - begin).as_secs_f64() * 1e3).sum(),
        "ms",
    );
    let clients = format!("{what}, {SUBMITTERS} unary clients");
    report.spread(&format!("{clients}, without a snapshot"), spread(&without));
    if !with.is_empty() {
        report.spread(&format!("{clients}, during a snapshot"), spread(&with));
        let ratio = spread(&with).p99.as_secs_f64() / spread(&without).p99.as_secs_f64();
        report.row(&format!("{clients}, p99 during / without"), ratio, "times");
    }
    scheduler.kill();
    Ok(())
}

/// When the scheduler had a child that makes a snapshot, until `over`; one that is under way then is waited for.
fn snapshots(pid: u32, over: &AtomicBool) -> Vec<(Instant, Instant)> {
    let mut spans = Vec::new();
    let mut begun: Option<Instant> = None;
    let begin = Instant::now();
    loop {
        let there = has_child(pid);
        let now = Instant::now();
        match (begun, there) {
            (None, true) => begun = Some(now),
            (Some(at), false) => {
                spans.push((at, now));
                begun = None;
            }
            _ => {}
        }
        let late = begin.elapsed() > SNAPSHOT_WITHIN;
        if late || (over.load(Ordering::SeqCst) && begun.is_none()) {
            return spans;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether any thread of a process has a child.
fn has_child(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let children = |task: &OsStr| {
        let path = format!("/proc/{pid}/task/{}/children", task.to_string_lossy());
        fs::read_to_string(path).is_ok_and(|children| !children.trim().is_empty())
    };
    tasks.flatten().any(|task| children(&task.file_name()))
}

/// Submits so many jobs with bodies of their own.
pub(crate) fn fill(place: &Workplace, seed: u64, jobs: u64) -> Result<()> {
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

/// `squeue` of one job, which may have started by then: the time since `begin` once it prints it.
fn answered(place: &Workplace, begin: Instant) -> Option<Duration> {
    let out = place
        .command("squeue")
        .args(["-h", "-o", "%i", "-t", "all", "-n", "bench", "-j", "1"])
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
