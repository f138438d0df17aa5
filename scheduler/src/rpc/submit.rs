//! Submissions: one at a time, or pipelined on a stream with the answers in the order of the requests.
//!
//! Bodies are hashed here, not on the controller's thread. A request that cannot be read is refused where
//! Slurm has a refusal for it, else it is an invalid argument.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use model::id::PartitionIdx;
use model::refusal::Refusal;
use model::request::{JobRequest, Kind};
use proto::convert::id::request_key;
use proto::convert::request::inwards;
use proto::v1;
use scheduler_core::effect::{Answer, Asker, ReplyTo};
use scheduler_core::input::Submit;
use scheduler_core::plan::explain::Outlook;
use scheduler_core::plan::whatif::would_start;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{Api, ENVIRONMENT_MAX, SCRIPT_MAX, invalid, stopping, unknown_outcome};
use crate::inbox::{Body, Item};
use crate::views::Views;
use crate::wire;

/// Submissions of one stream that wait for their answers.
const PIPELINE_MAX: usize = 256;

/// A submission that was read.
enum Read {
    /// For the machine.
    Good(Box<Submit>, Vec<Body>),
    /// Refused before it.
    Bad(v1::Refused),
}

fn bad(refusal: Refusal) -> Read {
    Read::Bad(proto::convert::refusal::outwards(refusal, &[]))
}

fn read(from: v1::SubmitRequest, asker: &Asker, test_only: bool) -> Result<Read, Status> {
    // A test stores nothing and needs no key.
    let key = if test_only && from.key.is_empty() {
        model::id::RequestKey([0; 16])
    } else {
        request_key("key", &from.key).map_err(|error| invalid(&error))?
    };
    if from.script.len() > SCRIPT_MAX || from.environment.len() > ENVIRONMENT_MAX {
        return Ok(bad(Refusal::TooLong));
    }
    if !from.components.is_empty() {
        let line = Box::from("heterogeneous jobs are not supported yet");
        return Ok(Read::Bad(proto::convert::refusal::outwards(Refusal::NotSupported, &[line])));
    }
    let request = from.request.ok_or_else(|| Status::invalid_argument("field request is missing"))?;
    let request = match inwards(request) {
        Ok(request) => request,
        Err(error) => {
            return match error.field {
                "array" => Ok(bad(Refusal::InvalidArray)),
                "dependency" => Ok(bad(Refusal::InvalidDependency)),
                _ => Err(invalid(&error)),
            };
        }
    };
    if request.kind == Kind::Batch && from.script.is_empty() {
        return Ok(bad(Refusal::ScriptMissing));
    }
    let script = (!from.script.is_empty()).then(|| Body::new(from.script));
    let environment = Body::new(from.environment);
    let submit = Submit {
        reply: ReplyTo(0),
        asker: asker.clone(),
        key,
        request: Arc::new(request),
        script: script.as_ref().map(|body| body.hash),
        environment: environment.hash,
        alloc_sid: from.alloc_sid,
        test_only,
    };
    let bodies = if test_only { Vec::new() } else { script.into_iter().chain([environment]).collect() };
    Ok(Read::Good(Box::new(submit), bodies))
}

fn reply(answer: Answer) -> Result<v1::SubmitReply, Status> {
    match answer {
        Answer::Submitted { job, warnings } => Ok(v1::SubmitReply {
            job_id: job.0,
            refused: None,
            warnings: warnings.into_iter().map(String::from).collect(),
        }),
        Answer::Refused(refused) => Ok(refused_reply(wire::refused(&refused))),
        other => Err(Status::internal(format!("a submission was answered with {}", name(&other)))),
    }
}

fn refused_reply(refused: v1::Refused) -> v1::SubmitReply {
    v1::SubmitReply { job_id: 0, refused: Some(refused), warnings: Vec::new() }
}

/// Which kind of answer it is, for the message of a bug.
pub(super) fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Submitted { .. } => "Submitted",
        Answer::Refused(_) => "Refused",
        Answer::Outcomes(_) => "Outcomes",
        Answer::WouldStart { .. } => "WouldStart",
        Answer::StepCreated { .. } => "StepCreated",
        Answer::StepMustWait => "StepMustWait",
        Answer::Done => "Done",
    }
}

/// Submits one job.
///
/// # Errors
/// A message that is none, the daemon is stopping, the outcome is unknown.
pub async fn unary(api: &Api, asker: Asker, from: v1::SubmitRequest) -> Result<v1::SubmitReply, Status> {
    let begun = Instant::now();
    let (submit, bodies) = match read(from, &asker, false)? {
        Read::Good(submit, bodies) => (submit, bodies),
        Read::Bad(refused) => {
            api.metrics.refused.one();
            return Ok(refused_reply(refused));
        }
    };
    wait_for_keys(api).await?;
    let kind = submit.request.kind;
    let (sender, answer) = oneshot::channel();
    api.inbox.send(Item::Submit { submit, bodies, reply: sender }).await.map_err(|_| stopping())?;
    let answer = answer.await.map_err(|_| unknown_outcome())?;
    note(api, kind, &answer, begun);
    reply(answer)
}

/// Right after a start, calls of before it are not known yet.
async fn wait_for_keys(api: &Api) -> Result<(), Status> {
    if api.keys.ready().await {
        return Ok(());
    }
    Err(Status::unavailable("the calls of before the scheduler's start are still being read; try again"))
}

fn note(api: &Api, kind: Kind, answer: &Answer, begun: Instant) {
    api.metrics.submit.note(begun.elapsed());
    match answer {
        Answer::Submitted { job, .. } if kind != Kind::Batch => api.leases.expect(*job),
        Answer::Refused(_) => api.metrics.refused.one(),
        _ => {}
    }
}

/// Asks when and where a job would start.
///
/// # Errors
/// As [`unary`].
pub async fn test(api: &Api, asker: Asker, from: v1::SubmitRequest) -> Result<v1::TestSubmitReply, Status> {
    let (submit, bodies) = match read(from, &asker, true)? {
        Read::Good(submit, bodies) => (submit, bodies),
        Read::Bad(refused) => return Ok(refused_test(refused)),
    };
    let (sender, answer) = oneshot::channel();
    let (asker, request) = (submit.asker.clone(), Arc::clone(&submit.request));
    api.inbox.send(Item::Submit { submit, bodies, reply: sender }).await.map_err(|_| stopping())?;
    match answer.await.map_err(|_| unknown_outcome())? {
        Answer::WouldStart { start, cpus, nodes, partition } => {
            let alone = v1::TestSubmitReply {
                start_ms: api.views.wall_of(start).0,
                cpus,
                nodes: nodes.into(),
                partition: partition.into(),
                refused: None,
            };
            let views = Arc::clone(&api.views);
            super::explain::aside(move || behind_all(&views, &request, &asker, alone)).await
        }
        Answer::Refused(refused) => Ok(refused_test(wire::refused(&refused))),
        other => Err(Status::internal(format!("a test was answered with {}", name(&other)))),
    }
}

/// The start of a job that could start, behind all that wait: from the plan of all jobs where it goes so far.
fn behind_all(
    views: &Views,
    request: &Arc<JobRequest>,
    asker: &Asker,
    alone: v1::TestSubmitReply,
) -> v1::TestSubmitReply {
    let now = views.now();
    let (state, settings) = {
        let view = views.read();
        (view.state.clone(), Arc::clone(&view.settings))
    };
    let name = |partition: PartitionIdx| {
        let known = views.read().state.partition(partition).map(|one| one.definition.name.to_string());
        known.unwrap_or_default()
    };
    match would_start(state, &settings, now, request, asker) {
        Outlook::Unknown => alone,
        Outlook::Now { nodes, partition } => v1::TestSubmitReply {
            start_ms: views.wall_of(now).0,
            nodes: nodes.into(),
            partition: name(partition),
            ..alone
        },
        Outlook::Planned { start, nodes, partition } => v1::TestSubmitReply {
            start_ms: views.wall_of(start).0,
            nodes: nodes.into(),
            partition: name(partition),
            ..alone
        },
    }
}

fn refused_test(refused: v1::Refused) -> v1::TestSubmitReply {
    v1::TestSubmitReply { refused: Some(refused), ..v1::TestSubmitReply::default() }
}

/// One submission of a stream on its way.
enum Pending {
    /// Decided already.
    Ready(Result<v1::SubmitReply, Status>),
    /// The machine has it.
    Waiting { answer: oneshot::Receiver<Answer>, kind: Kind, begun: Instant },
}

/// The answers of one stream, in order.
pub struct Replies {
    api: Api,
    queue: mpsc::Receiver<Pending>,
    first: Option<Pending>,
    failed: bool,
}

/// Submits what comes on a stream.
#[must_use]
pub fn stream(api: &Api, asker: Asker, incoming: Streaming<v1::SubmitRequest>) -> Replies {
    let (sender, queue) = mpsc::channel(PIPELINE_MAX);
    tokio::spawn(take_all(api.clone(), asker, incoming, sender));
    Replies { api: api.clone(), queue, first: None, failed: false }
}

async fn take_all(
    api: Api,
    asker: Asker,
    mut incoming: Streaming<v1::SubmitRequest>,
    queue: mpsc::Sender<Pending>,
) {
    loop {
        let pending = match incoming.message().await {
            Ok(None) => return,
            Err(status) => Pending::Ready(Err(status)),
            Ok(Some(message)) => match read(message, &asker, false) {
                Err(status) => Pending::Ready(Err(status)),
                Ok(Read::Bad(refused)) => {
                    api.metrics.refused.one();
                    Pending::Ready(Ok(refused_reply(refused)))
                }
                Ok(Read::Good(submit, bodies)) => {
                    if let Err(status) = wait_for_keys(&api).await {
                        let _ = queue.send(Pending::Ready(Err(status))).await;
                        return;
                    }
                    let kind = submit.request.kind;
                    let begun = Instant::now();
                    let (reply, answer) = oneshot::channel();
                    match api.inbox.send(Item::Submit { submit, bodies, reply }).await {
                        Ok(()) => Pending::Waiting { answer, kind, begun },
                        Err(_) => Pending::Ready(Err(stopping())),
                    }
                }
            },
        };
        let last = matches!(&pending, Pending::Ready(Err(_)));
        if queue.send(pending).await.is_err() || last {
            return;
        }
    }
}

impl Stream for Replies {
    type Item = Result<v1::SubmitReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        if this.first.is_none() {
            match this.queue.poll_recv(context) {
                Poll::Ready(Some(pending)) => this.first = Some(pending),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let result = match this.first.take() {
            None => return Poll::Pending,
            Some(Pending::Ready(result)) => result,
            Some(Pending::Waiting { mut answer, kind, begun }) => match Pin::new(&mut answer).poll(context) {
                Poll::Pending => {
                    this.first = Some(Pending::Waiting { answer, kind, begun });
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => Err(unknown_outcome()),
                Poll::Ready(Ok(answer)) => {
                    note(&this.api, kind, &answer, begun);
                    reply(answer)
                }
            },
        };
        // Answers are told apart by their order only: after one that is lost, none can be given.
        this.failed = result.is_err();
        Poll::Ready(Some(result))
    }
}
