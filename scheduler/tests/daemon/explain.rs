//! Explanations and what-ifs over the socket: what the planner finds reaches the asker, and nothing is stored.

use model::refusal::Refusal;
use proto::v1;
use proto::v1::what_if_request::Change;

use crate::cluster::{Cluster, Executor, batch};

const SECRET: &str = "#!/bin/sh\n# a secret of the script\n";

/// A job of four CPUs.
fn wide(key: u8) -> v1::SubmitRequest {
    let mut submit = batch(key, SECRET);
    let request = submit.request.as_mut().unwrap();
    request.cpus_per_task = Some(4);
    request.time_limit_ms = Some(600_000);
    submit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_explained_and_nothing_is_changed() {
    let mut cluster = Cluster::new();
    let mut executor = Executor::register(&cluster, Vec::new()).await;
    let mut client = cluster.client().await;
    let first = client.submit(wide(1)).await.unwrap().into_inner().job_id;
    let launch = executor.launch().await;
    executor.begun(&launch.key.unwrap()).await;
    let second = client.submit(wide(2)).await.unwrap().into_inner().job_id;
    cluster.job_when(second, |job| job.reason == "Resources").await;

    let ask = |job_id| v1::ExplainRequest { job_id, task: None };
    let reply = client.explain(ask(second)).await.unwrap().into_inner();
    assert!(!format!("{reply:?}").contains("a secret"), "scripts stay where they are");
    let told = reply.waiting.expect("the job waits");
    assert_eq!((told.reason.as_str(), told.binding.as_str()), ("Resources", "nodes"));
    assert_eq!((told.witnesses[0].job_id, told.witnesses[0].cpus), (first, 4));
    assert_eq!(told.outlook.unwrap().start_ms, told.witnesses[0].until_ms);
    let cause = &told.partitions[0].causes[0];
    assert_eq!((cause.words.as_str(), cause.nodes.as_str()), ("has too few free CPUs", "n1"));

    let reply = client.explain(ask(first)).await.unwrap().into_inner();
    assert_eq!((reply.job.unwrap().state.as_str(), reply.waiting), ("RUNNING", None));
    let refused = client.explain(ask(999)).await.unwrap().into_inner().refused;
    assert_eq!(refused.unwrap().number, Refusal::InvalidJobId.number());

    let change = Some(Change::End(first));
    let reply = client.what_if(v1::WhatIfRequest { change }).await.unwrap().into_inner();
    assert_eq!((reply.earlier, reply.moves[0].job_id), (1, second));
    assert!(reply.moves[0].after.as_ref().unwrap().now);
    let request = wide(3).request;
    let change = Some(Change::Add(v1::WhatIfAdd { count: 2, request }));
    let reply = client.what_if(v1::WhatIfRequest { change }).await.unwrap().into_inner();
    assert_eq!(reply.moves.iter().filter(|one| one.added).count(), 2);
    let nothing = client.what_if(v1::WhatIfRequest { change: None }).await;
    assert_eq!(nothing.unwrap_err().code(), tonic::Code::InvalidArgument);

    // It was all said of copies.
    let still = cluster.job_when(first, |_| true).await;
    assert_eq!(still.state, "RUNNING");
    let list = v1::ListJobsRequest { include_ended: true, ..v1::ListJobsRequest::default() };
    let mut pages = client.list_jobs(list).await.unwrap().into_inner();
    assert_eq!(pages.message().await.unwrap().unwrap().jobs.len(), 2);
    cluster.stop().await;
}
