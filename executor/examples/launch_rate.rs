//! Trivial jobs per second through one executor, with a scheduler that only launches and acknowledges. Build with
//! `--release`, with `executor-supervisor` beside it.
//!
//! `launch_rate [JOBS [AT_ONCE]]`: state in a new folder below TMPDIR, removed afterwards. Jobs run as the caller.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

struct Figures {
    wall: Duration,
    failed: u32,
    latencies: Vec<Duration>,
}

struct Scheduler {
    jobs: u32,
    at_once: u32,
    done: Mutex<Option<oneshot::Sender<Figures>>>,
    work_dir: String,
}

#[tonic::async_trait]
impl v1::agent_server::Agent for Scheduler {
    type SessionStream = ReceiverStream<Result<v1::AgentDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, stream) = mpsc::channel(4096);
        let done = self.done.lock().expect("nothing panics with it").take();
        let done = done.ok_or_else(|| Status::unavailable("one session only"))?;
        let work = drive(request.into_inner(), down, self.jobs, self.at_once, self.work_dir.clone());
        tokio::spawn(async move {
            let _ = done.send(work.await);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn drive(
    mut up: Streaming<v1::AgentUp>,
    down: mpsc::Sender<Result<v1::AgentDown, Status>>,
    jobs: u32,
    at_once: u32,
    work_dir: String,
) -> Figures {
    let send = async |message| {
        let _ = down.send(Ok(v1::AgentDown { message: Some(message) })).await;
    };
    send(Down::Welcome(v1::Welcome { epoch: 1, heartbeat_s: 10, cluster: "rate".to_owned() })).await;
    let (start, mut sent, mut ended, mut failed) = (Instant::now(), 0, 0, 0);
    let mut launched = HashMap::new();
    let mut latencies = Vec::new();
    while sent < at_once.min(jobs) {
        sent += 1;
        launched.insert(sent, Instant::now());
        send(Down::Launch(job(sent, &work_dir))).await;
    }
    while ended < jobs {
        let Ok(Some(message)) = up.message().await else { break };
        let Some(Up::Report(report)) = message.message else { continue };
        let (Some(outcome), Some(key)) = (report.outcome, report.key) else { continue };
        ended += 1;
        failed += u32::from(outcome.exit != Some(v1::ExitStatus::default()));
        if let Some(at) = launched.remove(&key.job_id) {
            latencies.push(at.elapsed());
        }
        send(Down::Acknowledge(v1::Acknowledge { key: Some(key) })).await;
        if sent < jobs {
            sent += 1;
            launched.insert(sent, Instant::now());
            send(Down::Launch(job(sent, &work_dir))).await;
        }
    }
    Figures { wall: start.elapsed(), failed, latencies }
}

fn job(job_id: u32, work_dir: &str) -> v1::Launch {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let request = v1::JobRequest {
        name: "trivial".to_owned(),
        work_dir: work_dir.to_owned(),
        stdout: Some("/dev/null".to_owned()),
        umask: 0o22,
        ..Default::default()
    };
    let environment: String = (0..40).map(|i| format!("VARIABLE_{i}={}\0", "x".repeat(60))).collect();
    v1::Launch {
        key: Some(v1::RunKey { job_id, step_id: "batch".to_owned(), run: 1 }),
        epoch: 1,
        uid,
        gid,
        request: Some(request),
        allocation: vec![v1::NodeAllocation {
            node: "rate".to_owned(),
            cpus: 1,
            tasks: 1,
            ..Default::default()
        }],
        node_list: "rate".to_owned(),
        script: b"#!/bin/sh\nexit 0\n".to_vec().into(),
        environment: environment.into_bytes().into(),
        time_limit_ms: 60_000,
        kill_wait_ms: 1000,
        ..Default::default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let (jobs, at_once) = (number(2000)?, number(16)?);
    let place = std::env::temp_dir().join(format!("sluice-rate-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let socket = place.join("scheduler.sock");
    let listener = tokio::net::UnixListener::bind(&socket)?;
    let (sender, figures) = oneshot::channel();
    let work_dir = place.display().to_string();
    let scheduler = Scheduler { jobs, at_once, done: Mutex::new(Some(sender)), work_dir };
    let service = v1::agent_server::AgentServer::new(scheduler);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let binaries: PathBuf =
        std::env::current_exe()?.parent().and_then(|p| p.parent()).ok_or("no folder")?.to_owned();
    let mut executor = Command::new(binaries.join("sluice-executor"))
        .args(["-N", "rate", "--state"])
        .arg(place.join("state"))
        .env("SLUICE_SOCKET", &socket)
        .env_remove("SLURM_CONF")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(place.join("log"))?)
        .spawn()?;
    let mut figures = figures.await?;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", executor.id()))?;
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .map(|rest| {
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
        })
        .unwrap_or(0);
    // It removes its cgroup folder on the way out.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(executor.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    executor.wait()?;
    std::fs::remove_dir_all(&place)?;
    figures.latencies.sort_unstable();
    let at = |part: usize| {
        figures.latencies.get(figures.latencies.len() * part / 100).copied().unwrap_or_default()
    };
    println!(
        "{jobs} jobs, {at_once} at once: {:.0}/s, {} failed; launch to end p50 {:?}, p99 {:?}; executor {:.2} ms of CPU a job",
        f64::from(jobs) / figures.wall.as_secs_f64(),
        figures.failed,
        at(50),
        at(99),
        ticks as f64 * 10.0 / f64::from(jobs)
    );
    Ok(())
}
