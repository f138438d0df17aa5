//! A scheduler made of a script, and real executors that dial it.
//!
//! The test is the scheduler: it takes sessions, sends what it likes and sees every message up. Executors and
//! supervisors are the real programs, with state in a folder of the test's own.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Longest time that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `ready` gives something.
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Newer than each of its sources: another build, which waits for cargo's lock, is not needed.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("supervisor/src");
    let newest = fs::read_dir(sources).unwrap().filter_map(|entry| modified(&entry.unwrap().path())).max();
    modified(program) > newest
}

/// The supervisor's program: built here where a build of the executor alone has not made it.
fn supervisor() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let path = Path::new(env!("CARGO_BIN_EXE_sluice-executor")).with_file_name("sluice-supervisor");
            if is_current(&path) {
                return path;
            }
            let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "executor-supervisor", "--bin", "sluice-supervisor"])
                .args(release)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(built.success() && path.exists(), "no supervisor at {}", path.display());
            path
        })
        .clone()
}

struct Service {
    sessions: Mutex<Sender<Session>>,
}

/// One session of an executor.
pub(crate) struct Session {
    pub(crate) register: v1::Register,
    down: mpsc::UnboundedSender<Result<v1::AgentDown, Status>>,
    up: Receiver<Up>,
    pub(crate) epoch: u64,
}

#[tonic::async_trait]
impl v1::agent_server::Agent for Service {
    type SessionStream = UnboundedReceiverStream<Result<v1::AgentDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let (down, stream) = mpsc::unbounded_channel();
        let Some(Up::Register(register)) = inbound.message().await?.and_then(|up| up.message) else {
            return Err(Status::invalid_argument("the first message must be a registration"));
        };
        let (sender, up) = channel();
        let session = Session { register, down, up, epoch: 0 };
        let _ = self.sessions.lock().unwrap().send(session);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                if message.message.is_some_and(|message| sender.send(message).is_err()) {
                    break;
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

impl Session {
    pub(crate) fn send(&self, message: Down) {
        // A session that has ended takes nothing; the test sees that by what does not come.
        let _ = self.down.send(Ok(v1::AgentDown { message: Some(message) }));
    }

    pub(crate) fn welcome(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.send(Down::Welcome(v1::Welcome { epoch, heartbeat_s: 10, cluster: "test".to_owned() }));
    }

    pub(crate) fn launch(&self, mut launch: v1::Launch) {
        launch.epoch = self.epoch;
        self.send(Down::Launch(launch));
    }

    pub(crate) fn acknowledge(&self, key: &v1::RunKey) {
        self.send(Down::Acknowledge(v1::Acknowledge { key: Some(key.clone()) }));
    }

    pub(crate) fn terminate(&self, key: &v1::RunKey) {
        self.send(Down::Terminate(v1::Terminate {
            key: Some(key.clone()),
            epoch: self.epoch,
            kill_wait_ms: 500,
            ..v1::Terminate::default()
        }));
    }

    /// The next report; `None` when the session is over.
    pub(crate) fn report(&self) -> Option<v1::RunReport> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Heartbeats do not count.
            match self.up.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Up::Report(report)) => return Some(report),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no report came"),
            }
        }
    }

    /// Reports until one of this run at this stage.
    pub(crate) fn await_stage(&self, key: &v1::RunKey, stage: v1::RunStage) -> v1::RunReport {
        loop {
            let report = self.report().unwrap_or_else(|| panic!("the session ended before {stage:?}"));
            if report.key.as_ref() == Some(key) && report.stage() == stage {
                return report;
            }
        }
    }

    pub(crate) fn await_end(&self, key: &v1::RunKey) -> v1::RunOutcome {
        self.await_stage(key, v1::RunStage::RunEnded).outcome.expect("an end has an outcome")
    }

    /// The end of a run of before: told with the registration, or reported since.
    pub(crate) fn await_earlier_end(&self, key: &v1::RunKey) -> v1::RunOutcome {
        let told = self.entry(key).and_then(|entry| entry.outcome.clone());
        told.unwrap_or_else(|| self.await_end(key))
    }

    /// The session ends without any report.
    pub(crate) fn await_close(&self) {
        assert_eq!(self.report(), None);
    }

    pub(crate) fn entry(&self, key: &v1::RunKey) -> Option<&v1::RunEntry> {
        self.register.runs.iter().find(|entry| entry.key.as_ref() == Some(key))
    }
}

/// A folder, a scheduler's socket, and executors that dial it.
pub(crate) struct Cluster {
    pub(crate) path: PathBuf,
    socket: PathBuf,
    sessions: Receiver<Session>,
    submit_ms: i64,
    /// Spools that were seen: each left a folder among the cgroups.
    spools: RefCell<Vec<Vec<u8>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-executor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("work")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(path.join("work"), fs::Permissions::from_mode(0o777)).unwrap();
        let socket = path.join("scheduler.sock");
        let (sender, sessions) = channel();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let service = v1::agent_server::AgentServer::new(Service { sessions: Mutex::new(sender) });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        static CLUSTERS: AtomicI64 = AtomicI64::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::SeqCst);
        let submit_ms = i64::from(std::process::id()) * 1_000_000 + number * 1000;
        Self { path, socket, sessions, submit_ms, spools: RefCell::default(), runtime: Some(runtime) }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn node_state(&self) -> PathBuf {
        self.state().join("executor-n1")
    }

    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path.join("work").join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.work(name)).unwrap_or_default()
    }

    pub(crate) fn run_folder(&self, key: &v1::RunKey) -> PathBuf {
        let root = fs::read_to_string(self.node_state().join("runs-at"))
            .map_or_else(|_| self.node_state().join("run"), |text| PathBuf::from(text.trim_end()));
        root.join(format!("{}.{}.{}", key.job_id, key.step_id, key.run))
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-executor"));
        command
            .args(["-N", "n1", "--state"])
            .arg(self.state())
            .arg("--supervisor")
            .arg(supervisor())
            .env("SLUICE_SOCKET", &self.socket)
            .env_remove("SLURM_CONF")
            .env_remove("SLUICE_CRASH_AT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::OpenOptions::new().create(true).append(true).open(self.path.join("log")).unwrap());
        command
    }

    pub(crate) fn start(&self) -> Executor {
        Executor(self.command().spawn().unwrap())
    }

    pub(crate) fn start_crashing_at(&self, point: &str) -> Executor {
        Executor(self.command().env("SLUICE_CRASH_AT", point).spawn().unwrap())
    }

    pub(crate) fn start_as(&self, uid: u32) -> Executor {
        fs::create_dir_all(self.state()).unwrap();
        std::os::unix::fs::chown(self.state(), Some(uid), Some(uid)).unwrap();
        let mut command = self.command();
        Executor(command.uid(uid).gid(uid).spawn().unwrap())
    }

    /// The next session, not yet welcomed.
    pub(crate) fn session(&self) -> Session {
        let log = || fs::read_to_string(self.path.join("log")).unwrap_or_default();
        let session = self.sessions.recv_timeout(PATIENCE);
        let session = session.unwrap_or_else(|_| panic!("no session came\n{}", log()));
        self.spools.borrow_mut().push(session.register.spool_id.to_vec());
        session
    }

    /// The next session, welcomed with epoch 5.
    pub(crate) fn welcomed(&self) -> Session {
        let mut session = self.session();
        session.welcome(5);
        session
    }

    /// A batch job of this text.
    pub(crate) fn batch(&self, job_id: u32, text: &str) -> v1::Launch {
        let root = nix::unistd::geteuid().is_root();
        let uid = if root { 12_345 } else { nix::unistd::getuid().as_raw() };
        let gid = if root { 12_345 } else { nix::unistd::getgid().as_raw() };
        let request = v1::JobRequest {
            name: "job".to_owned(),
            work_dir: self.path.join("work").display().to_string(),
            submit_host: "here".to_owned(),
            umask: 0o022,
            stdout: Some("out-%j".to_owned()),
            ..v1::JobRequest::default()
        };
        let allocation =
            v1::NodeAllocation { node: "n1".to_owned(), cpus: 1, tasks: 1, ..Default::default() };
        v1::Launch {
            key: Some(key(job_id)),
            uid,
            gid,
            user: "somebody".to_owned(),
            request: Some(request),
            allocation: vec![allocation],
            node_list: "n1".to_owned(),
            script: format!("#!/bin/sh\n{text}\n").into_bytes().into(),
            environment: b"PATH=/usr/bin:/bin\0HOME=/\0".to_vec().into(),
            time_limit_ms: -1,
            start_ms: 1_700_000_000_000,
            // No two jobs of this machine are submitted at one time: what a lost one left is known by it.
            submit_ms: self.submit_ms + i64::from(job_id),
            end_ms: Some(1_700_000_060_000),
            cluster: "test".to_owned(),
            partition: "main".to_owned(),
            num_tasks: 1,
            kill_wait_ms: 500,
            ..v1::Launch::default()
        }
    }

    /// A job that counts its starts in `count-ID` and then waits for the file `stop-ID`.
    pub(crate) fn counting(&self, job_id: u32) -> v1::Launch {
        self.batch(
            job_id,
            &format!("echo ran >> count-{job_id}; while [ ! -e stop-{job_id} ]; do sleep 0.02; done; exit 7"),
        )
    }

    pub(crate) fn let_end(&self, job_id: u32) {
        fs::write(self.work(&format!("stop-{job_id}")), "").unwrap();
    }

    pub(crate) fn await_count(&self, job_id: u32) {
        eventually("the job's own mark", || {
            (!self.text(&format!("count-{job_id}")).is_empty()).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Ok(elsewhere) = fs::read_to_string(self.node_state().join("runs-at")) {
            let _ = fs::remove_dir_all(elsewhere.trim_end());
        }
        for id in self.spools.borrow().iter() {
            // Processes of a test that failed may still be in them.
            let _left = executor::cgroup::remove_named(&executor::cgroup::name_of("n1", id));
        }
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn key(job_id: u32) -> v1::RunKey {
    v1::RunKey { job_id, step_id: "batch".to_owned(), run: 1 }
}

/// A running executor; killed if the test forgets it.
pub(crate) struct Executor(pub(crate) Child);

impl Executor {
    /// Whether it has this file open.
    pub(crate) fn has_open(&self, path: &Path) -> bool {
        let open = fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap();
        open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target == path)
    }

    /// As a power cut to the daemon alone.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends by itself (at a crash point).
    pub(crate) fn await_death(mut self) {
        eventually("the executor's crash", || self.0.try_wait().unwrap());
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        eventually("the executor's end", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
