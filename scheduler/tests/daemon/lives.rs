//! Lives of jobs, from submission to history, across restarts.

use model::refusal::Refusal;
use proto::v1;
use proto::v1::agent_down::Message as Down;
use tokio_stream::StreamExt;

use crate::cluster::{Cluster, Executor, batch, begun};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_end_to_end() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let submitted = client.submit(batch(1, "#!/bin/sh\ntrue\n")).await.unwrap().into_inner();
    assert_eq!(submitted.refused, None);
    let launch = executor.launch().await;
    let key = launch.key.clone().unwrap();
    assert_eq!((key.job_id, key.step_id.as_str(), key.run), (submitted.job_id, "batch", 1));
    assert_eq!(&launch.script[..], b"#!/bin/sh\ntrue\n");
    assert_eq!(&launch.environment[..], b"A=1\nx\0B=\xff\0");
    assert_eq!((launch.node_list.as_str(), launch.partition.as_str()), ("n1", "main"));
    executor.begun(&key).await;
    let running = cluster.job_when(submitted.job_id, |job| job.state == "RUNNING").await;
    assert_eq!(running.alloc_tres, "cpu=1,mem=10M,node=1,billing=1");
    executor.ended(&key, 3).await;
    executor.acknowledged(&key).await;
    let ended = cluster.job_when(submitted.job_id, |job| job.state == "FAILED").await;
    assert_eq!(ended.exit, Some(v1::ExitStatus { code: 3, signal: 0 }));
    let history = client.list_history(v1::ListHistoryRequest::default()).await.unwrap().into_inner();
    let pages: Vec<v1::JobPage> = history.map(Result::unwrap).collect().await;
    let rows: Vec<(u32, &str)> =
        pages.iter().flat_map(|page| &page.jobs).map(|job| (job.job_id, job.state.as_str())).collect();
    assert_eq!(rows, [(submitted.job_id, "FAILED")]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_running_jobs_back() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let first = cluster.client().await.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner();
    let key = executor.launch().await.key.unwrap();
    executor.begun(&key).await;
    cluster.job_when(first.job_id, |job| job.state == "RUNNING").await;
    // Its step is known to have begun only once that report is durable.
    let begun_known = |job: &v1::Job| job.steps.iter().any(|step| step.state == "RUNNING");
    cluster.job_when(first.job_id, begun_known).await;
    let epoch = executor.welcome.epoch;
    cluster.stop().await;
    cluster.start();
    let second = cluster.client().await.submit(batch(2, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert!(second.job_id > first.job_id, "ids are not issued twice");
    let shown = begun(&key);
    let entry = v1::RunEntry { key: shown.key, stage: shown.stage, outcome: None, begun_ms: shown.begun_ms };
    let mut executor = Executor::register(&cluster, vec![entry]).await;
    assert!(executor.welcome.epoch > epoch);
    // The known run is not launched again; the new job is.
    let launch = executor.launch().await;
    assert_eq!(launch.key.unwrap().job_id, second.job_id);
    executor.ended(&key, 0).await;
    executor.acknowledged(&key).await;
    cluster.job_when(first.job_id, |job| job.state == "COMPLETED").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_lost_is_derived_again() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    cluster.client().await.submit(batch(1, "#!/bin/sh\n")).await.unwrap();
    let launched = executor.launch().await.key;
    // The connection breaks before the executor has done anything.
    drop(executor);
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    assert_eq!(executor.launch().await.key, launched, "the same run again, not another one");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_job() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client().await;
    let first = client.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
    let again = client.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert_eq!(again, first);
    let other = client.submit(batch(7, "#!/bin/bash\n")).await.unwrap().into_inner();
    assert_eq!(other.refused.unwrap().number, Refusal::KeyReused.number());
    cluster.stop().await;
    cluster.start();
    let after = cluster.client().await.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert_eq!(after.job_id, first.job_id);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_after_its_job_has_left_the_memory() {
    let mut cluster = Cluster::forgetful();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let first = client.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
    let key = executor.launch().await.key.unwrap();
    executor.ended(&key, 0).await;
    executor.acknowledged(&key).await;
    // The next job's coming lets the machine look at its timers.
    for restart in [false, true] {
        if restart {
            cluster.stop().await;
            cluster.start();
            client = cluster.client().await;
        }
        let other = client.submit(batch(8 + u8::from(restart), "#!/bin/sh\n")).await.unwrap().into_inner();
        assert!(other.job_id > first.job_id);
        let filter = Some(v1::JobFilter { job_ids: vec![first.job_id], ..v1::JobFilter::default() });
        let list = v1::ListJobsRequest { filter, include_ended: true, ..v1::ListJobsRequest::default() };
        let mut pages = client.list_jobs(list).await.unwrap().into_inner();
        assert!(pages.message().await.unwrap().unwrap().jobs.is_empty(), "it has left");
        let again = client.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
        assert_eq!(again.job_id, first.job_id);
        let changed = client.submit(batch(7, "#!/bin/bash\n")).await.unwrap().into_inner();
        assert_eq!(changed.refused.unwrap().number, Refusal::KeyReused.number());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_put_back_after_its_end_has_a_row_for_each_run() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let job = client.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner().job_id;
    let run = executor.launch().await.key.unwrap();
    executor.ended(&run, 0).await;
    executor.acknowledged(&run).await;
    cluster.job_when(job, |job| job.state == "COMPLETED").await;
    let selector = v1::JobSelector { job_id: job, ..v1::JobSelector::default() };
    let requeue = v1::RequeueJobs { jobs: vec![selector], hold: true, ..v1::RequeueJobs::default() };
    let act = Some(v1::control_request::Act::Requeue(requeue));
    let reply = client.control(v1::ControlRequest { act }).await.unwrap().into_inner();
    assert!(reply.outcomes.iter().all(|outcome| outcome.refused.is_none()), "{reply:?}");
    for (duplicates, expected) in [(true, vec!["COMPLETED", "PENDING"]), (false, vec!["PENDING"])] {
        let list = v1::ListHistoryRequest { duplicates, ..v1::ListHistoryRequest::default() };
        let mut pages = client.list_history(list).await.unwrap().into_inner();
        let jobs = pages.message().await.unwrap().unwrap().jobs;
        let states: Vec<&str> = jobs.iter().map(|job| job.state.as_str()).collect();
        assert_eq!(states, expected, "with duplicates: {duplicates}");
    }
    cluster.stop().await;
}

/// PROTOCOL §2: after MaxJobId come ids that neither the state nor history holds, and no run number comes again.
#[tokio::test(flavor = "multi_thread")]
async fn ids_come_round_to_those_that_nothing_holds() {
    let mut cluster = Cluster::with_ids(3, 6);
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let mut ids = Vec::new();
    for key in 1..=4 {
        let job = client.submit(batch(key, "#!/bin/sh\n")).await.unwrap().into_inner();
        assert_eq!(job.refused, None);
        ids.push(job.job_id);
        if key <= 2 {
            // These end and leave the memory: only history has them.
            let run = executor.launch().await.key.unwrap();
            assert_eq!(run.run, 1);
            executor.ended(&run, 0).await;
            executor.acknowledged(&run).await;
        }
    }
    assert_eq!(ids, [3, 4, 5, 6]);
    let full = client.submit(batch(5, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert_eq!(full.refused.unwrap().number, Refusal::TooManyJobs.number(), "all four are held");
    for restart in [false, true] {
        cluster.stop().await;
        cluster.set_first_id(if restart { 2 } else { 1 });
        cluster.start();
        client = cluster.client().await;
        if !restart {
            let free = client.submit(batch(6, "#!/bin/sh\n")).await.unwrap().into_inner();
            assert_eq!((free.job_id, free.refused), (1, None), "the one that nothing holds");
            let row = cluster.job_when(1, |_| true).await;
            assert!(row.run >= 1 << 20, "its runs are told from those of another round: {}", row.run);
        } else {
            let free = client.submit(batch(7, "#!/bin/sh\n")).await.unwrap().into_inner();
            assert_eq!((free.job_id, free.refused), (2, None));
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_running_job() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let job = client.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner().job_id;
    let key = executor.launch().await.key.unwrap();
    executor.begun(&key).await;
    let selector = v1::JobSelector { job_id: job, ..v1::JobSelector::default() };
    let cancel = v1::CancelJobs { jobs: vec![selector], ..v1::CancelJobs::default() };
    let act = Some(v1::control_request::Act::Cancel(cancel));
    let reply = client.control(v1::ControlRequest { act }).await.unwrap().into_inner();
    assert!(reply.outcomes.iter().all(|outcome| outcome.refused.is_none()), "{reply:?}");
    loop {
        match executor.next().await {
            Down::Terminate(terminate) => {
                assert_eq!(terminate.key.as_ref(), Some(&key));
                assert_eq!(terminate.epoch, executor.welcome.epoch);
                break;
            }
            other => assert!(!matches!(other, Down::Launch(_)), "{other:?}"),
        }
    }
    executor.ended(&key, 0).await;
    cluster.job_when(job, |job| job.state == "CANCELLED").await;
    cluster.stop().await;
}
