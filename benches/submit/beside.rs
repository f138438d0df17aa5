//! Submissions beside planning: a long queue of which a pass is made from nothing, again and again, and the same
//! clients on an idle queue.
//!
//! One node is up and all of it is held by a first job, so that every other waits and the first thousand have promises.
//! A reservation of next month is changed four times a second: after each change the planner reads the whole state anew.
//! Sketch: such a pass costs 0.3 s and more for 100,000 jobs, so that the planner is never done; it plans in slices of about a
//! millisecond, and a submission waits for one slice at most.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::{Arguments, Report, Spread, Workplace};
use client::Client;

use crate::clients::{Load, job, run};
use crate::queue::fill;

/// Unary, so that each waits for its own answer.
const SUBMITTERS: u64 = 8;
/// Between two changes; less than a pass from nothing takes.
const BETWEEN: Duration = Duration::from_millis(250);
/// The node is up and its job runs within this time.
const READY: Duration = Duration::from_secs(60);

/// Median and p99 of both, and how they compare.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report, jobs: u64) -> Result<()> {
    let span = if arguments.tiny { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let load = Load { seed: arguments.seed + 1, clients: SUBMITTERS, pipelined: false, span };
    let idle = {
        let place = Workplace::new(1, 64, "")?;
        let mut scheduler = place.scheduler()?;
        place.wait_socket(&mut scheduler)?;
        run(&place.socket(), &load)?.spread()
    };
    report.spread(&format!("idle queue, {SUBMITTERS} unary clients"), idle);

    let place = Workplace::new(1, 64, "")?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let _executor = place.executor("n1")?;
    hold_the_node(&place)?;
    fill(&place, arguments.seed, jobs)?;
    let (over, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        let changer = scope.spawn(|| change_a_reservation(&place, &over, &changes));
        let done = run(&place.socket(), &load);
        over.store(true, Ordering::SeqCst);
        changer.join().expect("a thread of the bench").and(done)
    })?;
    let what = format!("{jobs} pending jobs planned from nothing, {SUBMITTERS} unary clients");
    report.row(&format!("{what}: changes of a reservation"), changes.load(Ordering::SeqCst) as f64, "");
    let beside = done.spread();
    report.spread(&what, beside);
    let times = |with: Duration, without: Duration| with.as_secs_f64() / without.as_secs_f64();
    let Spread { median, p99, .. } = idle;
    report.row(&format!("{what}, median beside / idle"), times(beside.median, median), "times");
    report.row(&format!("{what}, p99 beside / idle"), times(beside.p99, p99), "times");
    Ok(())
}

/// A job on all of the node, until the bench ends.
fn hold_the_node(place: &Workplace) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    runtime.block_on(async {
        let client = Client::connect_to(vec![place.socket()]).await.context("connect")?;
        let mut submission = job(u64::MAX, 0, 64, 3072);
        // It ends with the bench's folder, whoever ends the bench.
        let folder = place.folder().display().to_string();
        submission.script = format!("#!/bin/sh\nwhile [ -e '{folder}' ]; do sleep 1; done\n").into();
        submission.request.ntasks = Some(64);
        client.submit(&submission).await.context("submit").map(drop)
    })?;
    let begin = Instant::now();
    loop {
        let out = place.command("squeue").args(["-h", "-t", "RUNNING"]).output().context("run squeue")?;
        if !out.stdout.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < READY, "the first job does not run within {READY:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Lets the planner read everything anew before it is done with that.
fn change_a_reservation(place: &Workplace, over: &AtomicBool, changes: &AtomicU64) -> Result<()> {
    let scontrol = |words: &[&str]| {
        let out = place.command("scontrol").args(words).output().context("run scontrol")?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.success(), "scontrol {words:?}: {said}");
        Ok(())
    };
    let of = "ReservationName=bench";
    scontrol(&["create", of, "StartTime=now+30days", "Duration=60", "Nodes=n1", "Users=root"])?;
    while !over.load(Ordering::SeqCst) {
        let number = changes.fetch_add(1, Ordering::SeqCst);
        scontrol(&["update", of, &format!("Duration={}", 61 + number % 2)])?;
        thread::sleep(BETWEEN);
    }
    Ok(())
}
