//! A disk that fails or is full, under the whole daemon.

use std::sync::Arc;
use std::time::Instant;

use journal::memory::{Fault, MemoryDisk};
use model::refusal::Refusal;
use proto::v1;

use crate::cluster::{Cluster, Executor, PATIENCE, batch};

fn on_memory() -> (MemoryDisk, Cluster) {
    let disk = MemoryDisk::new();
    let cluster = Cluster::on(Some(Arc::new(disk.handle())));
    (disk, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_an_unknown_outcome_and_the_state_recovers_in_process() {
    let (disk, mut cluster) = on_memory();
    let mut client = cluster.client().await;
    let first = client.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner();
    let executor = Executor::register(&cluster, Vec::new()).await;
    for ahead in 0..40 {
        disk.inject(disk.operations() + ahead, Fault::Eio, ahead);
    }
    let lost = client.submit(batch(2, "#!/bin/sh\n# second\n")).await.unwrap_err();
    assert_eq!(lost.code(), tonic::Code::Unavailable, "{lost:?}");
    disk.clear_faults();
    // The retry with the same key finds the daemon again, and makes exactly one job.
    let begun = Instant::now();
    let second = loop {
        match client.submit(batch(2, "#!/bin/sh\n# second\n")).await {
            Ok(reply) => break reply.into_inner(),
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}"),
        }
        assert!(begun.elapsed() < PATIENCE, "the daemon recovers");
    };
    assert!(second.job_id > first.job_id);
    let again = client.submit(batch(2, "#!/bin/sh\n# second\n")).await.unwrap().into_inner();
    assert_eq!(again.job_id, second.job_id);
    // Its sessions were ended: an executor registers again, under a higher epoch, and gets the launches.
    let before = executor.welcome.epoch;
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    assert!(executor.welcome.epoch > before);
    let launched = executor.launch().await;
    assert_eq!(launched.script.slice(..9), &b"#!/bin/sh"[..]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_work_and_lets_running_jobs_end() {
    let (disk, mut cluster) = on_memory();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let running = client.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner().job_id;
    let key = executor.launch().await.key.unwrap();
    executor.begun(&key).await;
    cluster.job_when(running, |job| job.state == "RUNNING").await;
    disk.set_capacity(Some(disk.used()));
    let script = format!("#!/bin/sh\n{}", "#".repeat(60_000));
    let mut refused = None;
    for number in 2_u8..250 {
        // Distinct scripts: each needs space of its own.
        let script = format!("{script}{number}");
        if let Some(word) = client.submit(batch(number, &script)).await.unwrap().into_inner().refused {
            refused = Some(word);
            break;
        }
    }
    assert_eq!(refused.expect("the space is used up").number, Refusal::DiskFull.number());
    executor.ended(&key, 0).await;
    executor.acknowledged(&key).await;
    cluster.job_when(running, |job| job.state == "COMPLETED").await;
    disk.set_capacity(None);
    let begun = Instant::now();
    loop {
        let reply: v1::SubmitReply =
            client.submit(batch(251, &format!("{script}last"))).await.unwrap().into_inner();
        if reply.refused.is_none() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it recovers by itself");
    }
    cluster.stop().await;
}
