//! From a launch that leaves for the executor to the job's first instruction: the node's part of a start.
//!
//! This program is the scheduler: it holds the executor's session, sends one launch at a time and notes when. The job says
//! by the same monotonic clock when it runs (`latency`). What the session itself takes, half a turn over a Unix socket, is
//! part of the figure.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use benches::{Report, Spread};
use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::end_to_end::Hold;
use crate::latency::{Stamps, now};

/// Launches before those that are counted: folders and accounts are there afterwards.
const WARM: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Result<v1::AgentDown, Status>;

/// Both ways of the one session that is waited for.
struct Ends {
    up: Streaming<v1::AgentUp>,
    down: mpsc::Sender<Answer>,
}

struct Service(Mutex<Option<oneshot::Sender<Ends>>>);

#[tonic::async_trait]
impl v1::agent_server::Agent for Service {
    type SessionStream = ReceiverStream<Answer>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, stream) = mpsc::channel(64);
        let taker = self.0.lock().ok().and_then(|mut taker| taker.take());
        let taker = taker.ok_or_else(|| Status::unavailable("one session only"))?;
        taker.send(Ends { up: request.into_inner(), down }).map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Launches `count` jobs one after the other, each when the last one was acknowledged.
pub(crate) fn measure(report: &mut Report, count: u32, hold: Hold) -> Result<()> {
    let place = hold.workplace()?;
    let stamps = Stamps::new(&place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    let (latencies, lacks) = runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(place.socket()).context("listen for the executor")?;
        let (sender, ends) = oneshot::channel();
        let service = v1::agent_server::AgentServer::new(Service(Mutex::new(Some(sender))));
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener));
        let server = tokio::spawn(server);
        let mut executor = place.executor("n1")?;
        let mut ends = tokio::time::timeout(PATIENCE, ends).await.context("no executor came")??;
        let Some(Up::Register(register)) = next(&mut ends.up).await? else {
            bail!("the executor does not register");
        };
        send(
            &ends.down,
            Down::Welcome(v1::Welcome { epoch: 1, heartbeat_s: 0, cluster: "effect".to_owned() }),
        )
        .await?;
        let mut latencies = Vec::new();
        for job_id in 1..=WARM + count {
            let begin = now()?;
            send(&ends.down, Down::Launch(job(job_id, &stamps.script))).await?;
            let at = tokio::task::block_in_place(|| stamps.next())?;
            if job_id > WARM {
                latencies.push(at.saturating_sub(begin));
            }
            let key = ended(&mut ends.up, job_id).await?;
            send(&ends.down, Down::Acknowledge(v1::Acknowledge { key: Some(key) })).await?;
        }
        // Its cgroups go with it.
        executor.stop();
        server.abort();
        anyhow::Ok((latencies, register.facts.unwrap_or_default().lacks))
    })?;
    let what = match hold {
        Hold::Tracked => "launch to exec on the node, cgroup2 for tracking",
        Hold::Nothing => "launch to exec on the node, no cgroup",
        Hold::Limits => "launch to exec on the node, cgroup limits",
    };
    if hold == Hold::Limits {
        lacks.iter().for_each(|lack| println!("this node lacks: {lack}"));
    }
    report.spread(what, Spread::of(latencies));
    Ok(())
}

async fn send(down: &mpsc::Sender<Answer>, message: Down) -> Result<()> {
    let message = v1::AgentDown { message: Some(message) };
    down.send(Ok(message)).await.map_err(|_| anyhow!("the executor's session has ended"))
}

async fn next(up: &mut Streaming<v1::AgentUp>) -> Result<Option<Up>> {
    let message = tokio::time::timeout(PATIENCE, up.message()).await.context("the executor is silent")?;
    Ok(message.context("the executor's session")?.context("the executor's session has ended")?.message)
}

/// Waits for the end of this run.
async fn ended(up: &mut Streaming<v1::AgentUp>, job_id: u32) -> Result<v1::RunKey> {
    loop {
        let Some(Up::Report(told)) = next(up).await? else { continue };
        if let (Some(key), Some(outcome)) = (told.key, told.outcome)
            && key.job_id == job_id
        {
            if outcome.exit != Some(v1::ExitStatus::default()) {
                bail!("job {job_id} ended as {:?} ({})", outcome.exit, outcome.detail);
            }
            return Ok(key);
        }
    }
}

fn job(job_id: u32, script: &str) -> v1::Launch {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let request = v1::JobRequest {
        name: "stamp".to_owned(),
        work_dir: "/tmp".to_owned(),
        stdout: Some("/dev/null".to_owned()),
        umask: 0o22,
        ..Default::default()
    };
    let environment: String = (0..40).map(|i| format!("VARIABLE_{i}={}\0", "x".repeat(60))).collect();
    let allocation = v1::NodeAllocation {
        node: "n1".to_owned(),
        cpus: 1,
        tasks: 1,
        cpu_ranges: vec![0, 0],
        memory_mib: 64,
        ..Default::default()
    };
    v1::Launch {
        key: Some(v1::RunKey { job_id, step_id: "batch".to_owned(), run: 1 }),
        epoch: 1,
        uid,
        gid,
        request: Some(request),
        allocation: vec![allocation],
        node_list: "n1".to_owned(),
        script: script.as_bytes().to_vec().into(),
        environment: environment.into_bytes().into(),
        time_limit_ms: 60_000,
        kill_wait_ms: 1000,
        ..Default::default()
    }
}
