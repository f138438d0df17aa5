//! Submissions on a stream: answers in the order of the requests, each durable.

use proto::v1;
use tokio_stream::StreamExt;

use crate::cluster::{Cluster, batch};

const JOBS: u32 = 2000;

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_and_are_durable() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client().await;
    let requests = (0..JOBS).map(|number| {
        let mut key = [9_u8; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let script = if number == 1000 { String::new() } else { format!("#!/bin/sh\n# {number}\n") };
        v1::SubmitRequest { key: key.to_vec().into(), ..batch(0, &script) }
    });
    let requests: Vec<v1::SubmitRequest> = requests.collect();
    let replies = client.submit_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let replies: Vec<v1::SubmitReply> = replies.map(Result::unwrap).collect().await;
    assert_eq!(replies.len(), JOBS as usize);
    let ids: Vec<u32> =
        replies.iter().filter(|reply| reply.refused.is_none()).map(|reply| reply.job_id).collect();
    assert!(ids.is_sorted() && ids.len() == JOBS as usize - 1, "one refusal, ids in order");
    assert!(replies[1000].refused.is_some());
    cluster.stop().await;
    cluster.start();
    let mut client = cluster.client().await;
    let pages = client.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner();
    let pages: Vec<v1::JobPage> = pages.map(Result::unwrap).collect().await;
    let found: Vec<u32> = pages.iter().flat_map(|page| &page.jobs).map(|job| job.job_id).collect();
    assert_eq!(found, ids);
    let script = client.get_body(v1::GetBodyRequest { job_id: ids[7], environment: false }).await.unwrap();
    assert_eq!(&script.into_inner().body[..], b"#!/bin/sh\n# 7\n");
    cluster.stop().await;
}
