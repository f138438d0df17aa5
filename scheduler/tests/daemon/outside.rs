//! What comes from outside and is none of ours.

use proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::cluster::{Cluster, PATIENCE, batch};

/// Sends bytes, ends its side of the connection if `hang_up`, and reads what comes.
async fn says(cluster: &Cluster, bytes: &[u8], hang_up: bool) -> Vec<u8> {
    let mut stream = UnixStream::connect(cluster.socket()).await.unwrap();
    // The daemon may end the connection before all is written.
    let _ = stream.write_all(bytes).await;
    if hang_up {
        let _ = stream.shutdown().await;
    }
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _ = read.expect("the connection ends");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_thrown_at_the_socket_end_their_connection_only() {
    let mut cluster = Cluster::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |length: usize| -> Vec<u8> {
        let mut byte = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        (0..length).map(|_| byte()).collect()
    };
    for length in [0, 1, 24, 1000, 100_000] {
        says(&cluster, &random(length), true).await;
    }
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend(random(5000));
    says(&cluster, &preface, true).await;
    says(&cluster, b"GET /metrics HTTP/1.1\r\nbroken", true).await;
    let job = cluster.client().await.submit(batch(1, "#!/bin/sh\n")).await.unwrap().into_inner();
    assert!(job.job_id > 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_plain_http() {
    let mut cluster = Cluster::new();
    cluster.client().await.submit(batch(1, "#!/bin/sh\n")).await.unwrap();
    let said = says(&cluster, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(said.contains("\nsluice_jobs_submitted_total 1\n"), "{said}");
    let said = says(&cluster, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false).await;
    assert!(said.starts_with(b"HTTP/1.1 404"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_and_nothing_is_stored() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client().await;
    let no_key = v1::SubmitRequest { key: Vec::new().into(), ..batch(1, "#!/bin/sh\n") };
    assert_eq!(client.submit(no_key).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let no_request = v1::SubmitRequest { request: None, ..batch(1, "#!/bin/sh\n") };
    assert_eq!(client.submit(no_request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let large = v1::SubmitRequest { script: vec![b'x'; 5 << 20].into(), ..batch(1, "") };
    let refused = client.submit(large).await.unwrap().into_inner().refused.unwrap();
    assert_eq!(refused.number, model::refusal::Refusal::TooLong.number());
    let larger = v1::SubmitRequest { script: vec![b'x'; 100 << 20].into(), ..batch(1, "") };
    assert!(client.submit(larger).await.is_err());
    let no_script = client.submit(batch(1, "")).await.unwrap().into_inner();
    assert!(no_script.refused.is_some());
    let act = v1::ControlRequest { act: None };
    assert_eq!(client.control(act).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let list = v1::ListJobsRequest { include_ended: true, ..v1::ListJobsRequest::default() };
    let mut pages = client.list_jobs(list).await.unwrap().into_inner();
    assert!(pages.message().await.unwrap().unwrap().jobs.is_empty());
    cluster.stop().await;
}
