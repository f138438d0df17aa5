//! A daemon, its clients, and an executor that does what the test says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use journal::Disk;
use proto::v1;
use proto::v1::agent_client::AgentClient;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use proto::v1::controller_client::ControllerClient;
use scheduler::daemon::{Daemon, Error, Options};
use scheduler::settings::Configuration;
use scheduler_core::settings::Settings;
use scheduler_core::state::partition::PartitionDefinition;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static LAST: AtomicU32 = AtomicU32::new(0);

/// A folder of its own with a daemon in it.
pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    daemon: Option<Daemon>,
    disk: Option<Arc<dyn Disk>>,
    settings: Settings,
    skew: Option<&'static AtomicI64>,
    /// Configured by this file instead.
    slurm_conf: Option<PathBuf>,
    /// Inputs of the next start are recorded here.
    recording: Option<PathBuf>,
}

impl Cluster {
    /// An empty cluster with a partition `main`.
    pub(crate) fn new() -> Self {
        Self::on(None)
    }

    /// The same on a modelled disk.
    pub(crate) fn on(disk: Option<Arc<dyn Disk>>) -> Self {
        Self::made(disk, settings(), None)
    }

    /// A cluster that forgets ended jobs at once.
    pub(crate) fn forgetful() -> Self {
        let mut settings = settings();
        settings.min_job_age = model::time::Span::from_millis(1);
        Self::made(None, settings, None)
    }

    /// The same, with these ids; they count from the next start on.
    pub(crate) fn with_ids(first: u32, most: u32) -> Self {
        let mut settings = settings();
        settings.min_job_age = model::time::Span::from_millis(1);
        (settings.first_job_id, settings.max_job_id) = (first, most);
        Self::made(None, settings, None)
    }

    /// Ids begin here from the next start on.
    pub(crate) fn set_first_id(&mut self, first: u32) {
        self.settings.first_job_id = first;
    }

    /// A cluster whose wall clock the test sets.
    pub(crate) fn with_clock(skew: &'static AtomicI64) -> Self {
        Self::made(None, settings(), Some(skew))
    }

    fn made(disk: Option<Arc<dyn Disk>>, settings: Settings, skew: Option<&'static AtomicI64>) -> Self {
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sluice-daemon-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut cluster =
            Self { folder, daemon: None, disk, settings, skew, slurm_conf: None, recording: None };
        cluster.start();
        cluster
    }

    /// From the next start on these are its slurm.conf and sluice.conf.
    pub(crate) fn configure(&mut self, slurm_conf: &str, sluice_conf: &str) {
        let path = self.folder.join("slurm.conf");
        std::fs::write(&path, slurm_conf).unwrap();
        std::fs::write(self.folder.join("sluice.conf"), sluice_conf).unwrap();
        self.slurm_conf = Some(path);
    }

    /// From the next start on its inputs are recorded there.
    pub(crate) fn record(&mut self) -> PathBuf {
        let path = self.folder.join("inputs");
        self.recording = Some(path.clone());
        path
    }

    pub(crate) fn start(&mut self) {
        self.daemon = Some(self.try_start(self.folder.join("state")).unwrap());
    }

    /// A daemon whose state is in that folder, or why it does not start.
    pub(crate) fn try_start(&self, state: PathBuf) -> Result<Daemon, Error> {
        let options = Options {
            snapshot_after: None,
            log: service::log::Log::none(),
            clock_skew: self.skew,
            configuration: match &self.slurm_conf {
                Some(path) => Configuration::load(Some(path.clone())).unwrap(),
                None => Configuration::fixed(self.settings.clone()),
            },
            state,
            socket: self.socket(),
            compactor: None,
            disk: self.disk.clone(),
            record_inputs: self.recording.clone(),
        };
        Daemon::start(options)
    }

    pub(crate) async fn stop(&mut self) {
        self.daemon.take().unwrap().stop().await;
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("s.sock")
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(&self.socket()).await
    }

    pub(crate) async fn client(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel().await)
    }

    /// The job's row, once `wanted` holds of it.
    pub(crate) async fn job_when(&self, id: u32, wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let mut client = self.client().await;
        let filter = Some(v1::JobFilter { job_ids: vec![id], ..v1::JobFilter::default() });
        let mut pages = client.watch_jobs(v1::WatchJobsRequest { filter }).await.unwrap().into_inner();
        let look = async {
            loop {
                let page = pages.next().await.expect("a watch does not end").unwrap();
                if let Some(job) = page.jobs.into_iter().find(|job| job.job_id == id && wanted(job)) {
                    return job;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("the job comes into the wanted state")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed leaves its folder to be looked at.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

pub(crate) async fn channel(socket: &std::path::Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap()
}

fn settings() -> Settings {
    let mut settings = Settings::named("test");
    settings.dynamic_nodes = true;
    settings.partitions = vec![PartitionDefinition {
        name: "main".into(),
        nodes_text: "ALL".into(),
        is_default: true,
        ..partition()
    }];
    settings.def_mem_per_cpu = Some(model::quantity::MemoryMib(10));
    settings.requeue_delay = model::time::Span::ZERO;
    settings
}

fn partition() -> PartitionDefinition {
    let conf = model::config::PartitionConf::with_defaults(
        "main",
        Vec::new(),
        model::config::Place { file: std::sync::Arc::from(std::path::Path::new("test")), line: 1 },
    );
    let slurm = model::config::SlurmConf::without_files(
        "n1",
        model::quantity::Cpus(1),
        model::quantity::MemoryMib(1),
    );
    scheduler_core::settings::conf::partition_definition(&slurm, &conf)
}

/// A batch job of one task with this script.
pub(crate) fn batch(key: u8, script: &str) -> v1::SubmitRequest {
    v1::SubmitRequest {
        key: vec![key; 16].into(),
        request: Some(v1::JobRequest {
            name: "test".into(),
            work_dir: "/tmp".into(),
            ..v1::JobRequest::default()
        }),
        script: script.as_bytes().to_vec().into(),
        environment: b"A=1\nx\0B=\xff\0"[..].to_vec().into(),
        ..v1::SubmitRequest::default()
    }
}

/// The executor of one node.
pub(crate) struct Executor {
    up: mpsc::Sender<v1::AgentUp>,
    down: tonic::Streaming<v1::AgentDown>,
    pub(crate) welcome: v1::Welcome,
}

impl Executor {
    /// Registers a node with four CPUs that shows these runs.
    pub(crate) async fn register(cluster: &Cluster, runs: Vec<v1::RunEntry>) -> Self {
        let mut client = AgentClient::new(cluster.channel().await);
        let (up, queue) = mpsc::channel(16);
        let register = v1::Register {
            node: "n1".into(),
            boot_id: vec![1; 16].into(),
            spool_id: vec![2; 16].into(),
            runs,
            facts: Some(v1::NodeFacts {
                cpus: 4,
                sockets: 1,
                cores_per_socket: 4,
                threads_per_core: 1,
                memory_mib: 1000,
                ..v1::NodeFacts::default()
            }),
            run_folder: "/runs".into(),
            ..v1::Register::default()
        };
        up.send(v1::AgentUp { message: Some(Up::Register(register)) }).await.unwrap();
        let down = client.session(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut executor = Self { up, down, welcome: v1::Welcome::default() };
        match executor.next().await {
            Down::Welcome(welcome) => executor.welcome = welcome,
            other => panic!("no welcome but {other:?}"),
        }
        executor
    }

    /// The next command.
    pub(crate) async fn next(&mut self) -> Down {
        let next = tokio::time::timeout(PATIENCE, self.down.next()).await.expect("a command comes");
        next.expect("the session goes on").unwrap().message.unwrap()
    }

    /// The next launch.
    pub(crate) async fn launch(&mut self) -> v1::Launch {
        loop {
            if let Down::Launch(launch) = self.next().await {
                return launch;
            }
        }
    }

    pub(crate) async fn report(&self, report: v1::RunReport) {
        self.up.send(v1::AgentUp { message: Some(Up::Report(report)) }).await.unwrap();
    }

    /// Says that a run has begun.
    pub(crate) async fn begun(&self, key: &v1::RunKey) {
        self.report(begun(key)).await;
    }

    /// Says that a run has ended by itself.
    pub(crate) async fn ended(&self, key: &v1::RunKey, code: u32) {
        let outcome = v1::RunOutcome {
            exit: Some(v1::ExitStatus { code, signal: 0 }),
            ended_ms: scheduler::clock::wall().0,
            ..v1::RunOutcome::default()
        };
        let stage = v1::RunStage::RunEnded.into();
        let report = v1::RunReport {
            key: Some(key.clone()),
            stage,
            outcome: Some(outcome),
            begun_ms: None,
            progress: String::new(),
        };
        self.report(report).await;
    }

    /// Waits for the word that an outcome may be collected.
    pub(crate) async fn acknowledged(&mut self, key: &v1::RunKey) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Down::Acknowledge(acknowledge) = self.next().await
                && acknowledge.key.as_ref() == Some(key)
            {
                return;
            }
        }
        panic!("no acknowledgement came");
    }
}

/// What an executor says of a run that it has started.
pub(crate) fn begun(key: &v1::RunKey) -> v1::RunReport {
    let stage = v1::RunStage::RunBegun.into();
    v1::RunReport {
        key: Some(key.clone()),
        stage,
        outcome: None,
        begun_ms: Some(scheduler::clock::wall().0),
        progress: String::new(),
    }
}
