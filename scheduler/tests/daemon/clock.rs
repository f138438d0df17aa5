//! The wall clock is set under a running daemon, and while it is down: begin times follow it, limits do not.

use std::sync::atomic::{AtomicI64, Ordering};

use proto::v1;
use scheduler::clock::wall;

use crate::cluster::{Cluster, Executor, PATIENCE, batch};

const HOUR_MS: i64 = 3_600_000;

fn skew() -> &'static AtomicI64 {
    Box::leak(Box::new(AtomicI64::new(0)))
}

/// A job that may begin that much after now, as the wall clock shows it without any skew.
fn later(key: u8, ms: i64) -> v1::SubmitRequest {
    let mut submit = batch(key, "#!/bin/sh\n");
    submit.request.as_mut().unwrap().begin_ms = Some(wall().0 + ms);
    submit
}

/// The job's row once it is shown with a start after that time. A watch does not tell that the clock was set: it is
/// asked again.
async fn shown_later(cluster: &Cluster, id: u32, after_ms: i64) -> v1::Job {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let job = cluster.job_when(id, |_| true).await;
        if job.start_ms > Some(after_ms) {
            return job;
        }
        assert!(std::time::Instant::now() < until, "waited for a start after {after_ms}: {job:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn begin_times_follow_the_wall_clock_and_limits_do_not() {
    let skew = skew();
    let mut cluster = Cluster::with_clock(skew);
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let mut limited = batch(1, "#!/bin/sh\n");
    limited.request.as_mut().unwrap().time_limit_ms = Some(10 * 60 * 1000);
    let limited = client.submit(limited).await.unwrap().into_inner().job_id;
    let running = executor.launch().await.key.unwrap();
    executor.begun(&running).await;
    let waits = client.submit(later(2, 2 * HOUR_MS)).await.unwrap().into_inner().job_id;
    cluster.job_when(waits, |job| job.reason == "BeginTime").await;
    // An hour is not enough; a restart meanwhile, with the clock set once more, changes nothing.
    skew.store(HOUR_MS, Ordering::SeqCst);
    let seen = shown_later(&cluster, limited, wall().0 + HOUR_MS - 60_000).await;
    assert_eq!(seen.state, "RUNNING", "shown with the new wall time, and not ended by it");
    cluster.stop().await;
    skew.store(-5 * HOUR_MS, Ordering::SeqCst);
    cluster.start();
    let entry = v1::RunEntry {
        key: Some(running.clone()),
        stage: v1::RunStage::RunBegun.into(),
        outcome: None,
        begun_ms: Some(1),
    };
    let mut executor = Executor::register(&cluster, vec![entry]).await;
    let back = cluster.job_when(waits, |job| job.state == "PENDING").await;
    let begin = back.planned_start_ms.or(back.eligible_ms).unwrap();
    assert!((begin - wall().0 - 2 * HOUR_MS).abs() < 60_000, "its begin time is the same wall time: {begin}");
    let limited_now = cluster.job_when(limited, |job| job.state == "RUNNING").await;
    assert!(limited_now.end_ms.unwrap() - limited_now.start_ms.unwrap() == 600_000, "{limited_now:?}");
    // Now it comes, and with it the job that waits for it; the one with ten minutes still runs.
    skew.store(3 * HOUR_MS, Ordering::SeqCst);
    assert_eq!(executor.launch().await.key.unwrap().job_id, waits);
    cluster.job_when(limited, |job| job.state == "RUNNING").await;
    executor.ended(&running, 0).await;
    cluster.job_when(limited, |job| job.state == "COMPLETED").await;
    cluster.stop().await;
}

/// A clock that was never set stops the start before anything is made; a state that saw a later time than the clock shows
/// is used with its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_in_the_past_stops_the_start() {
    let skew = skew();
    let mut cluster = Cluster::with_clock(skew);
    cluster.stop().await;
    let other = cluster.folder.join("other");
    skew.store(-wall().0, Ordering::SeqCst);
    let refused = cluster.try_start(other.clone()).err().expect("a clock of 1970 is refused");
    let said = refused.to_string();
    assert!(said.contains("the clock of this machine is wrong") && said.contains("set it"), "{said}");
    assert!(!other.exists(), "nothing is made");
    skew.store(-10 * 24 * HOUR_MS, Ordering::SeqCst);
    cluster.start();
    cluster.stop().await;
}
