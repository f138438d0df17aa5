//! The job API: submit, query, watch, cancel, wait.
//!
//! Owns retries and deadlines of a call; decides nothing about jobs. Every call that creates something
//! carries a key, so that repeating it after a lost answer creates nothing twice.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use model::refusal::Refusal;
use prost::bytes::Bytes;
use proto::limits::{ENVIRONMENT_MAX, SCRIPT_MAX};
use proto::v1::controller_client::ControllerClient;
use proto::v1::{self, Job, JobPage, SubmitRequest};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::connect;

/// The largest answer that is read, bytes: a page of jobs with their requests.
const MESSAGE_MAX: usize = 64 << 20;
/// How long a call is repeated where the scheduler does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before the first repetition; doubled up to a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Submissions that may wait for their answers on one stream.
const PIPELINE_DEPTH: usize = 1024;

/// Why a call gave no answer, or a "no".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at any of the sockets.
    #[error("no scheduler answers at {}: {reason}", .tried.join(", "))]
    Unreachable {
        /// The sockets, in the order they were tried.
        tried: Vec<String>,
        /// What the last one said.
        reason: String,
    },
    /// The scheduler refuses; nothing was stored.
    #[error("{}", refusal_text(*.number))]
    Refused {
        /// Slurm's error number.
        number: u32,
        /// What Slurm prints before the error's own text.
        lines: Vec<String>,
    },
    /// The connection broke or the scheduler failed, and repeating did not help.
    #[error("the scheduler failed: {0}")]
    Failed(Status),
    /// The scheduler did not answer within the call's time.
    #[error("the scheduler did not answer in time")]
    TimedOut,
}

fn refusal_text(number: u32) -> String {
    match Refusal::from_number(number) {
        Some(refusal) => refusal.text().to_owned(),
        None => format!("error {number}"),
    }
}

impl From<v1::Refused> for Error {
    fn from(refused: v1::Refused) -> Self {
        Self::Refused { number: refused.number, lines: refused.lines }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Random key of a call that creates something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// A new one, from the kernel's randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        Self(bytes)
    }

    /// One that the caller made and can repeat after a restart of its own.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A job to be submitted: what is asked for, its script and its environment.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Sent with every repetition of the call; two submissions with one key are one job.
    pub key: Key,
    /// What is asked for; everything absent is decided by the scheduler.
    pub request: v1::JobRequest,
    /// The script, byte for byte; its first line names its interpreter.
    pub script: Bytes,
    /// `NAME=value` entries, each ended by a zero byte.
    pub environment: Bytes,
}

impl Submission {
    /// A script with this process's environment and working directory, its host's name, and the file mode mask
    /// that it had at the first call.
    #[must_use]
    pub fn script(name: &str, script: impl Into<Vec<u8>>) -> Self {
        // Both are read from the kernel and do not change in the life of most programs.
        static HOST: LazyLock<String> = LazyLock::new(crate::local::host);
        static UMASK: LazyLock<u16> = LazyLock::new(crate::option::umask);
        let work_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let request = v1::JobRequest {
            name: name.to_owned(),
            work_dir: work_dir.to_string_lossy().into_owned(),
            submit_host: HOST.clone(),
            umask: u32::from(*UMASK),
            ..Default::default()
        };
        Self {
            key: Key::random(),
            request,
            script: Bytes::from(script.into()),
            environment: process_environment(),
        }
    }

    /// This many CPUs for its one task.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.request.cpus_per_task = Some(cpus);
        self
    }

    /// Memory on each node, MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.request.memory = Some(v1::job_request::Memory::MemoryMibPerNode(memory_mib));
        self
    }

    /// In that partition.
    #[must_use]
    pub fn partition(mut self, name: &str) -> Self {
        self.request.partition = Some(name.to_owned());
        self
    }

    /// With that time limit.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.request.time_limit_ms = Some(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        self
    }

    pub(crate) fn message(&self) -> SubmitRequest {
        SubmitRequest {
            key: self.key.bytes(),
            request: Some(self.request.clone()),
            script: self.script.clone(),
            environment: self.environment.clone(),
            ..Default::default()
        }
    }
}

/// This process's environment as a submission carries it.
pub(crate) fn process_environment() -> Bytes {
    use std::os::unix::ffi::OsStrExt;
    let mut block = Vec::new();
    for (name, value) in std::env::vars_os() {
        block.extend_from_slice(name.as_bytes());
        block.push(b'=');
        block.extend_from_slice(value.as_bytes());
        block.push(0);
    }
    Bytes::from(block)
}

/// Whether a job as shown has ended for good.
#[must_use]
pub fn has_ended(job: &Job) -> bool {
    model::job::JobState::parse(&job.state).is_some_and(model::job::JobState::is_terminal)
}

/// A connection to the scheduler. Cloning is cheap; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    inner: ControllerClient<Channel>,
    sockets: Arc<[String]>,
    patience: Duration,
}

impl Client {
    /// Connects to the cluster that the environment names, see [`crate::candidates`].
    ///
    /// # Errors
    /// [`Error::Unreachable`] where nobody answers.
    pub async fn connect() -> Result<Self, Error> {
        Self::connect_to(connect::candidates()).await
    }

    /// Connects to the first of these sockets that answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where none does.
    pub async fn connect_to(sockets: Vec<String>) -> Result<Self, Error> {
        match connect::dial(&sockets).await {
            Ok(channel) => Ok(Self {
                inner: ControllerClient::new(channel).max_decoding_message_size(MESSAGE_MAX),
                sockets: sockets.into(),
                patience: PATIENCE,
            }),
            Err(reason) => Err(Error::Unreachable { tried: sockets, reason }),
        }
    }

    /// The same connection, whose calls are repeated for at most `patience` (60 s unless set).
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The typed gRPC client beneath, for what has no method here.
    #[must_use]
    pub fn raw(&self) -> ControllerClient<Channel> {
        self.inner.clone()
    }

    /// Submits one job or array and gives its id; the job is on disk when this returns.
    ///
    /// Where the connection breaks, the same call is repeated with the same key until the patience ends, so
    /// the job is there once or not at all.
    ///
    /// # Errors
    /// [`Error::Refused`] with Slurm's number, [`Error::TimedOut`] (the job may be there: repeat with the same
    /// submission), [`Error::Failed`].
    pub async fn submit(&self, submission: &Submission) -> Result<u32, Error> {
        let reply = self.submit_message(submission.message()).await?;
        match reply.refused {
            Some(refused) => Err(refused.into()),
            None => Ok(reply.job_id),
        }
    }

    pub(crate) async fn submit_message(&self, message: SubmitRequest) -> Result<v1::SubmitReply, Error> {
        // The scheduler would refuse it too, if the message reached it: it may be too large for that.
        if message.script.len() > SCRIPT_MAX || message.environment.len() > ENVIRONMENT_MAX {
            return Err(Error::Refused { number: Refusal::TooLong.number(), lines: Vec::new() });
        }
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE;
        loop {
            let mut inner = self.inner.clone();
            match timeout_at(deadline, inner.submit(message.clone())).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if !is_passing(&status) => return Err(status.into()),
                Ok(Err(status)) if Instant::now() + pause >= deadline => return Err(status.into()),
                Ok(Err(_)) => {}
                Err(_) => return Err(Error::TimedOut),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Opens a stream of submissions whose answers come in order, many in flight at once.
    ///
    /// # Errors
    /// [`Error::Failed`] where the stream cannot be opened.
    pub async fn submissions(&self) -> Result<Submissions, Error> {
        let (sender, receiver) = mpsc::channel(PIPELINE_DEPTH);
        let replies = self.inner.clone().submit_stream(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Submissions { sender: Some(sender), replies })
    }

    /// The jobs that match, ended ones that are still in memory included where asked for.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`].
    pub async fn jobs(&self, filter: v1::JobFilter, include_ended: bool) -> Result<Vec<Job>, Error> {
        let request =
            v1::ListJobsRequest { filter: Some(filter), include_ended, with_steps: false, all: true };
        Ok(self.list_jobs(request).await?.0)
    }

    /// Like [`Client::jobs`], with the scheduler's time of the answer (milliseconds since 1970).
    pub(crate) async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<(Vec<Job>, i64), Error> {
        gather(self.inner.clone().list_jobs(request).await?.into_inner()).await
    }

    pub(crate) async fn list_history(&self, request: v1::ListHistoryRequest) -> Result<Vec<Job>, Error> {
        Ok(gather(self.inner.clone().list_history(request).await?.into_inner()).await?.0)
    }

    pub(crate) async fn list_nodes(&self, names: Vec<String>) -> Result<Vec<v1::Node>, Error> {
        let mut pages = self.inner.clone().list_nodes(v1::ListNodesRequest { names }).await?.into_inner();
        let mut nodes = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page?;
            if let Some(refused) = page.refused {
                return Err(refused.into());
            }
            nodes.extend(page.nodes);
        }
        Ok(nodes)
    }

    pub(crate) async fn list_partitions(&self) -> Result<Vec<v1::Partition>, Error> {
        let reply = self.inner.clone().list_partitions(v1::ListPartitionsRequest {}).await?;
        Ok(reply.into_inner().partitions)
    }

    /// The one job of that id, where the scheduler still knows it.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`].
    pub async fn job(&self, job_id: u32) -> Result<Option<Job>, Error> {
        let filter = v1::JobFilter { job_ids: vec![job_id], ..Default::default() };
        Ok(self.jobs(filter, true).await?.into_iter().find(|job| job.job_id == job_id))
    }

    /// The jobs of these ids as they are, then every change of them, until the receiver is dropped.
    ///
    /// # Errors
    /// [`Error::Failed`] where the stream cannot be opened.
    pub async fn watch(&self, job_ids: &[u32]) -> Result<Changes, Error> {
        let filter = v1::JobFilter { job_ids: job_ids.to_vec(), ..Default::default() };
        let request = v1::WatchJobsRequest { filter: Some(filter) };
        let pages = self.inner.clone().watch_jobs(request).await?.into_inner();
        Ok(Changes { pages, ready: Vec::new() })
    }

    /// Ends a job, or a whole array. Ending one that has ended is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] (not one's own job), [`Error::Failed`].
    pub async fn cancel(&self, job_id: u32) -> Result<(), Error> {
        let selector = v1::JobSelector { job_id, ..Default::default() };
        let cancel = v1::CancelJobs { jobs: vec![selector], ..Default::default() };
        let outcomes = self.control(v1::control_request::Act::Cancel(cancel)).await?;
        let done = [Refusal::AlreadyDone.number(), Refusal::InvalidJobId.number()];
        match outcomes.into_iter().find_map(|outcome| outcome.refused) {
            Some(refused) if !done.contains(&refused.number) => Err(refused.into()),
            _ => Ok(()),
        }
    }

    pub(crate) async fn control(
        &self,
        act: v1::control_request::Act,
    ) -> Result<Vec<v1::ControlOutcome>, Error> {
        let reply = self.inner.clone().control(v1::ControlRequest { act: Some(act) }).await?;
        Ok(reply.into_inner().outcomes)
    }

    /// Waits until a job has ended and gives it as it ended. Survives restarts of the scheduler.
    ///
    /// # Errors
    /// [`Error::Refused`] with the number of "Invalid job id specified" where there is no such job.
    pub async fn wait(&self, job_id: u32) -> Result<Job, Error> {
        let mut pause = PAUSE;
        let mut failing_since: Option<Instant> = None;
        loop {
            match self.wait_once(job_id).await {
                Ok(Some(job)) => return Ok(job),
                Err(Error::Failed(status)) if is_passing(&status) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.patience {
                        return Err(status.into());
                    }
                }
                Err(error) => return Err(error),
                Ok(None) => failing_since = None,
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Follows one watch to its end. `None`: the stream ended before the job did.
    async fn wait_once(&self, job_id: u32) -> Result<Option<Job>, Error> {
        if let Some(job) = self.job(job_id).await? {
            if has_ended(&job) {
                return Ok(Some(job));
            }
        } else {
            return Err(Error::Refused { number: Refusal::InvalidJobId.number(), lines: Vec::new() });
        }
        let mut changes = self.watch(&[job_id]).await?;
        while let Some(job) = changes.next().await? {
            if job.job_id == job_id && has_ended(&job) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// The sockets that this client tried.
    #[must_use]
    pub fn sockets(&self) -> &[String] {
        &self.sockets
    }
}

async fn gather(mut pages: Streaming<JobPage>) -> Result<(Vec<Job>, i64), Error> {
    let (mut jobs, mut now_ms) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        let page = page?;
        if let Some(refused) = page.refused {
            return Err(refused.into());
        }
        now_ms = page.now_ms;
        jobs.extend(page.jobs);
    }
    Ok((jobs, now_ms))
}

/// Whether a fault may be over at the next try: the daemon is restarting, or the connection broke.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted | Code::Internal
    )
}

/// The changes of watched jobs.
#[derive(Debug)]
pub struct Changes {
    pages: Streaming<JobPage>,
    /// Jobs of the last page that are not handed out yet, last first.
    ready: Vec<Job>,
}

impl Changes {
    /// The next job as it now is; `None` when the scheduler ends the stream.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`]; watch again to go on.
    pub async fn next(&mut self) -> Result<Option<Job>, Error> {
        loop {
            if let Some(job) = self.ready.pop() {
                return Ok(Some(job));
            }
            let Some(page) = self.pages.next().await else { return Ok(None) };
            let page = page?;
            if let Some(refused) = page.refused {
                return Err(refused.into());
            }
            self.ready = page.jobs;
            self.ready.reverse();
        }
    }
}

/// A stream of submissions. Answers come in the order in which the submissions were sent.
#[derive(Debug)]
pub struct Submissions {
    sender: Option<mpsc::Sender<SubmitRequest>>,
    replies: Streaming<v1::SubmitReply>,
}

impl Submissions {
    /// Sends one; waits where as many as the stream holds are unanswered, so answers must be read too.
    ///
    /// # Errors
    /// [`Error::Failed`] where the stream has broken; unanswered submissions may be repeated on another.
    pub async fn send(&self, submission: &Submission) -> Result<(), Error> {
        let closed = || Error::Failed(Status::unavailable("the stream of submissions has ended"));
        let sender = self.sender.as_ref().ok_or_else(closed)?;
        sender.send(submission.message()).await.map_err(|_| closed())
    }

    /// Says that no more come; the answers that are due can still be read.
    pub fn finish(&mut self) {
        self.sender = None;
    }

    /// The answer to the oldest unanswered submission: its job id; `None` when all are answered and the
    /// stream is finished.
    ///
    /// # Errors
    /// [`Error::Refused`] for that one submission; [`Error::Failed`] where the stream broke.
    pub async fn answer(&mut self) -> Option<Result<u32, Error>> {
        match self.replies.next().await? {
            Err(status) => Some(Err(status.into())),
            Ok(v1::SubmitReply { refused: Some(refused), .. }) => Some(Err(refused.into())),
            Ok(reply) => Some(Ok(reply.job_id)),
        }
    }
}
