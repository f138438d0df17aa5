//! The job API: submit, query, watch, cancel, wait.
//!
//! Owns retries and deadlines of a call; decides nothing about jobs. Every call that creates something
//! carries a key, so that repeating it after a lost answer creates nothing twice.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use model::refusal::Refusal;
use prost::Message;
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
/// Shortest pause before a repetition; see [`pause_after`].
const PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two repetitions.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause before the next try of somebody who has waited so long: a restart seems an eighth longer than it is.
fn pause_after(waited: Duration) -> Duration {
    (waited / 8).clamp(PAUSE, PAUSE_MAX)
}
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

    /// Connects as [`connect`](Self::connect) does; where a scheduler was and does not answer now (it is being
    /// restarted), tries again for `patience`. The client's calls have the same patience.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: at once where there is no socket at all, else after `patience`.
    pub async fn connect_within(patience: Duration) -> Result<Self, Error> {
        let begun = Instant::now();
        let deadline = begun + patience;
        let mut was_there = false;
        loop {
            match Self::connect().await {
                Ok(client) => return Ok(client.with_patience(patience)),
                Err(error) => {
                    // Between two schedulers the socket is missing for an instant.
                    was_there |= connect::was_there(&connect::candidates());
                    if !was_there || Instant::now() + pause_after(begun.elapsed()) >= deadline {
                        return Err(error);
                    }
                }
            }
            sleep(pause_after(begun.elapsed())).await;
        }
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
        self.repeat(|mut inner| {
            let message = message.clone();
            async move { Ok(inner.submit(message).await?.into_inner()) }
        })
        .await
    }

    /// Makes a call that may be made twice, again and again while the scheduler does not answer, until the patience
    /// ends.
    pub(crate) async fn repeat<T, F>(
        &self,
        mut call: impl FnMut(ControllerClient<Channel>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let deadline = begun + self.patience;
        loop {
            match timeout_at(deadline, call(self.inner.clone())).await {
                Ok(Err(Error::Failed(status)))
                    if is_passing(&status) && Instant::now() + pause_after(begun.elapsed()) < deadline => {}
                Ok(answer) => return answer,
                Err(_) => return Err(Error::TimedOut),
            }
            sleep(pause_after(begun.elapsed())).await;
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
        self.repeat(|mut inner| {
            let request = request.clone();
            async move { gather(inner.list_jobs(request).await?.into_inner()).await }
        })
        .await
    }

    pub(crate) async fn list_history(&self, request: v1::ListHistoryRequest) -> Result<Vec<Job>, Error> {
        // As it is stored; what came from an older scheduler is built already.
        let request = v1::ListHistoryRequest { encoded: true, ..request };
        self.repeat(|mut inner| {
            let request = request.clone();
            async move { Ok(gather(inner.list_history(request).await?.into_inner()).await?.0) }
        })
        .await
    }

    pub(crate) async fn list_nodes(&self, names: Vec<String>) -> Result<Vec<v1::Node>, Error> {
        self.repeat(|mut inner| {
            let names = names.clone();
            async move {
                let mut pages = inner.list_nodes(v1::ListNodesRequest { names }).await?.into_inner();
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
        })
        .await
    }

    pub(crate) async fn list_partitions(&self) -> Result<Vec<v1::Partition>, Error> {
        self.repeat(|mut inner| async move {
            let reply = inner.list_partitions(v1::ListPartitionsRequest {}).await?;
            Ok(reply.into_inner().partitions)
        })
        .await
    }

    pub(crate) async fn list_reservations(&self) -> Result<Vec<v1::Reservation>, Error> {
        self.repeat(|mut inner| async move {
            let reply = inner.list_reservations(v1::ListReservationsRequest {}).await?;
            Ok(reply.into_inner().reservations)
        })
        .await
    }

    /// The one job of that id, where the scheduler still knows it.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`].
    pub async fn job(&self, job_id: u32) -> Result<Option<Job>, Error> {
        let filter = v1::JobFilter { job_ids: vec![job_id], ..Default::default() };
        Ok(self.jobs(filter, true).await?.into_iter().find(|job| job.job_id == job_id))
    }

    /// The jobs of these ids as they are, then every change of them, until the receiver is dropped. A stream that a
    /// restart of the scheduler ends is opened again, and tells first how the jobs are then.
    ///
    /// # Errors
    /// [`Error::Failed`] where the stream cannot be opened within the patience.
    pub async fn watch(&self, job_ids: &[u32]) -> Result<Changes, Error> {
        let pages = self.open_watch(job_ids).await?;
        Ok(Changes { client: self.clone(), job_ids: job_ids.to_vec(), pages, ready: Vec::new() })
    }

    async fn open_watch(&self, job_ids: &[u32]) -> Result<Streaming<JobPage>, Error> {
        self.repeat(|mut inner| {
            let filter = v1::JobFilter { job_ids: job_ids.to_vec(), ..Default::default() };
            let request = v1::WatchJobsRequest { filter: Some(filter) };
            async move { Ok(inner.watch_jobs(request).await?.into_inner()) }
        })
        .await
    }

    /// Ends a job, or a whole array. Ending one that has ended is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] (not one's own job), [`Error::Failed`].
    pub async fn cancel(&self, job_id: u32) -> Result<(), Error> {
        let selector = v1::JobSelector { job_id, ..Default::default() };
        let cancel = v1::CancelJobs { jobs: vec![selector], ..Default::default() };
        // Ending it twice is ending it once.
        let outcomes = self.control_again(v1::control_request::Act::Cancel(cancel)).await?;
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

    /// The same for an act that may be carried out twice: repeated where the answer was lost.
    pub(crate) async fn control_again(
        &self,
        act: v1::control_request::Act,
    ) -> Result<Vec<v1::ControlOutcome>, Error> {
        self.repeat(|mut inner| {
            let request = v1::ControlRequest { act: Some(act.clone()) };
            async move { Ok(inner.control(request).await?.into_inner().outcomes) }
        })
        .await
    }

    /// Waits until a job has ended and gives it as it ended. Survives restarts of the scheduler.
    ///
    /// # Errors
    /// [`Error::Refused`] with the number of "Invalid job id specified" where there is no such job.
    pub async fn wait(&self, job_id: u32) -> Result<Job, Error> {
        if let Some(job) = self.job(job_id).await? {
            if has_ended(&job) {
                return Ok(job);
            }
        } else {
            return self.ended_long_ago(job_id).await;
        }
        let mut changes = self.watch(&[job_id]).await?;
        loop {
            match changes.next().await? {
                Some(job) if job.job_id == job_id && has_ended(&job) => return Ok(job),
                Some(_) => {}
                // After a restart it may have left the scheduler's memory.
                None => return self.ended_long_ago(job_id).await,
            }
        }
    }

    /// The job as history has it: it ended, and the scheduler has forgotten it.
    async fn ended_long_ago(&self, job_id: u32) -> Result<Job, Error> {
        let found = self.history_of(job_id).await?.into_iter().rfind(|job| job.job_id == job_id);
        found.ok_or(Error::Refused { number: Refusal::InvalidJobId.number(), lines: Vec::new() })
    }

    /// What history has of a job or an array that ended: the last run of each element.
    pub(crate) async fn history_of(&self, job_id: u32) -> Result<Vec<Job>, Error> {
        let filter = v1::JobFilter { job_ids: vec![job_id], ..Default::default() };
        let request = v1::ListHistoryRequest { filter: Some(filter), ..Default::default() };
        Ok(self.list_history(request).await?.into_iter().filter(has_ended).collect())
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
        for job in page.encoded {
            let malformed = |error| Error::Failed(Status::internal(format!("a job that is none: {error}")));
            jobs.push(Job::decode(job).map_err(malformed)?);
        }
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
    client: Client,
    job_ids: Vec<u32>,
    pages: Streaming<JobPage>,
    /// Jobs of the last page that are not handed out yet, last first.
    ready: Vec<Job>,
}

impl Changes {
    /// The next job as it now is. After a restart of the scheduler the jobs come as they are then; `None` where it
    /// knows none of them any more: they ended, and history has them.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Failed`] and [`Error::TimedOut`] where it does not come back within the patience.
    pub async fn next(&mut self) -> Result<Option<Job>, Error> {
        loop {
            if let Some(job) = self.ready.pop() {
                return Ok(Some(job));
            }
            match self.pages.next().await {
                Some(Ok(page)) => match page.refused {
                    Some(refused) => return Err(refused.into()),
                    None => self.ready = page.jobs,
                },
                Some(Err(status)) if !is_passing(&status) => return Err(status.into()),
                // The scheduler has stopped, or the connection broke.
                Some(Err(_)) | None => {
                    sleep(PAUSE).await;
                    self.pages = self.client.open_watch(&self.job_ids).await?;
                    match self.pages.next().await {
                        Some(Ok(page)) if page.jobs.is_empty() && page.refused.is_none() => return Ok(None),
                        Some(Ok(page)) => match page.refused {
                            Some(refused) => return Err(refused.into()),
                            None => self.ready = page.jobs,
                        },
                        // It broke again: the next turn opens another.
                        Some(Err(_)) | None => {}
                    }
                }
            }
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
