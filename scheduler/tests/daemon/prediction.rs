//! Predictions of run times, from sluice.conf to the state of a scheduler that was restarted.

use std::path::Path;

use scheduler_codec::input::{FORMAT, Frame, decode_frame};
use scheduler_core::plan::policy::Prediction;
use scheduler_core::record::Record;

use crate::cluster::{Cluster, Executor, batch};

const SLURM_CONF: &str = "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nSelectType=select/cons_tres\n\
    SelectTypeParameters=CR_Core\nNodeName=n1 CPUs=4 CoresPerSocket=4 RealMemory=1000\n\
    PartitionName=main Nodes=n1 Default=YES MaxTime=60\n";

/// The records of the state with which the first owner of a recording began.
fn first_state(recording: &Path) -> Vec<Record> {
    let bytes = std::fs::read(recording).unwrap();
    let mut rest = bytes.strip_prefix(FORMAT).unwrap();
    let mut records = Vec::new();
    while let Some(frame) = decode_frame(&mut rest).unwrap() {
        match frame {
            Frame::Begin => {}
            Frame::Record(record) => records.push(record),
            Frame::Input(..) | Frame::End { .. } => break,
        }
    }
    records
}

/// Two jobs that run and end, a restart, one that is submitted, a restart: what is known then.
async fn lives(sluice_conf: &str) -> Vec<Record> {
    let mut cluster = Cluster::new();
    cluster.stop().await;
    cluster.configure(SLURM_CONF, sluice_conf);
    cluster.start();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    for key in [1, 2] {
        let submitted = client.submit(batch(key, "#!/bin/sh\n")).await.unwrap().into_inner();
        assert_eq!(submitted.refused, None);
        let run = executor.launch().await.key.unwrap();
        executor.begun(&run).await;
        executor.ended(&run, 0).await;
        executor.acknowledged(&run).await;
        cluster.job_when(submitted.job_id, |job| job.state == "COMPLETED").await;
    }
    cluster.stop().await;
    cluster.start();
    let third = cluster.client().await.submit(batch(3, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert_eq!((third.refused, third.job_id), (None, 3));
    cluster.stop().await;
    let recording = cluster.record();
    cluster.start();
    cluster.stop().await;
    first_state(&recording)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_predicted_survives_a_restart() {
    let records = lives("PredictRunTimes=avg2\n").await;
    assert!(records.contains(&Record::Predicting(Prediction::Avg2)));
    let learnt = records.iter().find_map(|record| match record {
        Record::LastRuns(_, runs) => Some(*runs),
        _ => None,
    });
    let learnt = learnt.expect("the user has run jobs");
    let jobs: Vec<(u32, Option<u32>)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Job(job) => Some((job.id.0, job.predicted.as_secs())),
            _ => None,
        })
        .collect();
    // However long they took here.
    let mean = learnt.earlier_s.map(|earlier| earlier.midpoint(learnt.last_s));
    assert!(mean.is_some());
    assert_eq!(jobs, [(1, None), (2, None), (3, mean)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_predicted_where_nobody_asks_for_it() {
    let records = lives("").await;
    let predicts = |record: &&Record| match record {
        Record::Predicting(_) | Record::LastRuns(..) => true,
        Record::Job(job) => job.predicted.as_secs().is_some(),
        _ => false,
    };
    assert_eq!(records.iter().find(predicts), None);
}
