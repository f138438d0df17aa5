//! From the submit call to the job's first instruction, on an idle cluster, one job at a time.
//!
//! The job's interpreter is this very program: it sends the time at which it runs, by the monotonic clock, over a datagram
//! socket whose path is the script's second line.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benches::{Arguments, Report, Spread, Workplace};
use client::{Client, Key, Submission};
use nix::time::{ClockId, clock_gettime};

use crate::end_to_end::{Hold, warm};

/// As the job: says when it runs.
pub(crate) fn stamp(script: &str) -> Result<()> {
    let now = now()?;
    let text = fs::read_to_string(script).context("read the script")?;
    let socket = text.lines().nth(1).context("the script's second line")?;
    let sender = UnixDatagram::unbound().context("make a socket")?;
    sender.send_to(&now.as_nanos().to_le_bytes(), socket).context("say when")?;
    Ok(())
}

/// The machine's monotonic clock: one for all its processes.
pub(crate) fn now() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).context("the clock")?))
}

/// What jobs say when they run. Its socket goes with it.
pub(crate) struct Stamps {
    socket: UnixDatagram,
    path: String,
    /// A script that says it.
    pub(crate) script: String,
}

impl Stamps {
    /// Listens beside a workplace's own socket.
    pub(crate) fn new(place: &Workplace) -> Result<Self> {
        let path = format!("{}.stamp", place.socket());
        let socket = UnixDatagram::bind(&path).context("make the stamps' socket")?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).context("limit the wait")?;
        let this = std::env::current_exe().context("find this program")?;
        let script = format!("#!{} --stamp\n{path}\n", this.display());
        Ok(Self { socket, path, script })
    }

    /// The next one. Blocking.
    pub(crate) fn next(&self) -> Result<Duration> {
        let mut stamp = [0; 16];
        let length = self.socket.recv(&mut stamp).context("the job to say when it runs")?;
        if length != stamp.len() {
            bail!("a stamp of {length} bytes");
        }
        Ok(Duration::from_nanos(u64::try_from(u128::from_le_bytes(stamp)).context("a time")?))
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Submits `count` jobs one after the other, each when the last one has ended.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report, count: u32, hold: Hold) -> Result<()> {
    let place = hold.workplace()?;
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    let mut executor = place.executor("n1")?;
    let stamps = Stamps::new(&place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    let measured = runtime.block_on(async {
        let client = Client::connect_to(vec![place.socket()]).await.context("connect")?;
        warm(&client, arguments.seed).await?;
        let mut latencies = Vec::new();
        for _ in 0..count {
            let mut submission = Submission::script("stamp", stamps.script.clone());
            submission.key = Key::random();
            submission.request.work_dir = "/tmp".to_owned();
            submission.request.stdout = Some("/dev/null".to_owned());
            let begin = now()?;
            let id = client.submit(&submission).await.context("submit")?;
            let at = stamps.next()?;
            latencies.push(at.saturating_sub(begin));
            client.wait(id).await.context("wait for the job")?;
        }
        anyhow::Ok(latencies)
    });
    // Its cgroups go with it.
    executor.stop();
    let what = match hold {
        Hold::Tracked => "submit to exec, idle cluster",
        Hold::Nothing => "submit to exec, idle cluster, no cgroup",
        Hold::Limits => "submit to exec, idle cluster, cgroup limits",
    };
    report.spread(what, Spread::of(measured?));
    Ok(())
}
