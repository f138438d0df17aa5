//! Another user's jobs. The other user is a child of the test, so this needs root; as an ordinary user the
//! conformance suite alone checks it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use model::refusal::Refusal;
use proto::v1;
use proto::v1::controller_client::ControllerClient;

use crate::cluster::{Cluster, batch, channel};

const CHILD: &str = "SLUICE_TEST_FOREIGN";
const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread")]
async fn others_jobs_are_neither_touched_nor_read() {
    if let Some(socket) = std::env::var_os(CHILD) {
        return as_nobody(socket.into()).await;
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut cluster = Cluster::new();
    let job = cluster.client().await.submit(batch(1, "#!/bin/sh\n# secret\n")).await.unwrap().into_inner();
    assert_eq!(job.job_id, 1);
    // A copy that the other user may execute, wherever this one stands.
    let program = cluster.folder.join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(&program);
    child.args(["foreign::others_jobs_are_neither_touched_nor_read", "--exact", "--nocapture"]);
    child.env(CHILD, cluster.socket()).uid(NOBODY).gid(NOBODY).current_dir("/");
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job = cluster.job_when(1, |_| true).await;
    assert_eq!(job.state, "PENDING", "it is still there");
    cluster.stop().await;
}

async fn as_nobody(socket: PathBuf) {
    let mut client = ControllerClient::new(channel(&socket).await);
    for environment in [false, true] {
        let body = client.get_body(v1::GetBodyRequest { job_id: 1, environment }).await.unwrap().into_inner();
        assert_eq!(body.refused.unwrap().number, Refusal::AccessDenied.number());
        assert!(body.body.is_empty());
    }
    let selector = v1::JobSelector { job_id: 1, ..v1::JobSelector::default() };
    let cancel = v1::CancelJobs { jobs: vec![selector], ..v1::CancelJobs::default() };
    let acts = [
        v1::control_request::Act::Cancel(cancel),
        v1::control_request::Act::Shutdown(v1::Shutdown { kill_jobs: true }),
        v1::control_request::Act::Reconfigure(v1::Reconfigure { dry_run: false }),
    ];
    for act in acts {
        let reply = client.control(v1::ControlRequest { act: Some(act) }).await.unwrap().into_inner();
        assert!(reply.outcomes.iter().all(|outcome| outcome.refused.is_some()), "{reply:?}");
        assert!(!reply.outcomes.is_empty());
    }
    let registering = proto::v1::agent_client::AgentClient::new(channel(&socket).await)
        .session(tokio_stream::empty())
        .await;
    assert_eq!(registering.unwrap_err().code(), tonic::Code::PermissionDenied);
    let held = v1::HoldAllocationRequest { job_id: 1 };
    let mut pages = client.hold_allocation(held).await.unwrap().into_inner();
    assert!(pages.message().await.unwrap().unwrap().refused.is_some());
}
