//! One executor's session: its messages in, its commands out.
//!
//! ```text
//!  Register ─► machine ─► Accepted ─► Welcome, commands …    (Goodbye where it is refused or over)
//! ```
//! The reader and the writer are tasks of their own, so that a slow stream in one direction does not hold
//! the other. Whichever ends first ends the session, and the machine is told once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::id::{BodyHash, Epoch, NodeIdx};
use model::time::Timestamp;
use prost::bytes::Bytes;
use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use scheduler_core::effect::{Effect, RunKey};
use scheduler_core::input::{OutcomeKind, Report, RunOutcome};
use scheduler_core::state::job::Usage;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::launch::{Composed, Site, compose, finish};
use super::{Dispatch, Order, Orders};
use crate::clock;
use crate::inbox::{Inbox, Item};
use crate::metrics::Metrics;
use crate::rows::node::Vitals;
use crate::shelf::Shelf;
use crate::store::bodies::Bodies;
use crate::views::Views;
use crate::wire::agent;

/// Time for the first message.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// How often an executor is to send a heartbeat.
pub const HEARTBEAT_S: u32 = 5;
/// Silence after which a session is given up.
const SILENCE_MAX: Duration = Duration::from_secs(HEARTBEAT_S as u64 * 6);
/// Launches whose begin is waited for.
const LAUNCHES_MAX: usize = 16_384;
/// Commands that are taken from the queue at a time.
const ORDERS_AT_ONCE: usize = 16;
/// Messages that wait for the connection.
const MESSAGES_MAX: usize = 64;

/// What a session works with.
pub struct Parts {
    /// The sessions' table.
    pub dispatch: Arc<Dispatch>,
    /// To the machine.
    pub inbox: Inbox,
    /// The state.
    pub views: Arc<Views>,
    /// Scripts and environments.
    pub shelf: Arc<Shelf>,
    /// What launches say of the site.
    pub site: Arc<Site>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Launches that are on their way, and since when.
    pub launches: Launches,
}

/// Launches that were handed to a stream and whose begin was not told yet. Those of an executor that never tells are
/// forgotten with its session, and beyond a number none is noted.
#[derive(Default)]
pub struct Launches(Mutex<HashMap<RunKey, Timestamp>>);

impl Launches {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunKey, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, run: RunKey) {
        let mut launches = self.lock();
        if launches.len() < LAUNCHES_MAX {
            launches.insert(run, clock::wall());
        }
    }

    /// How long the launch took, by the executor's word on when it began; it may be told late.
    fn told(&self, run: RunKey, begun_ms: i64) -> Option<Duration> {
        let sent = self.lock().remove(&run)?;
        Some(Duration::from_millis(u64::try_from(begun_ms - sent.0).unwrap_or(0)))
    }
}

/// What the executor gets.
pub type Outgoing = mpsc::Receiver<Result<v1::AgentDown, Status>>;
type Sender = mpsc::Sender<Result<v1::AgentDown, Status>>;

/// Starts a session. `uid` is the executor's, as the kernel says.
#[must_use]
pub fn start(parts: Parts, uid: u32, incoming: Streaming<v1::AgentUp>) -> Outgoing {
    let (out, receiver) = mpsc::channel(MESSAGES_MAX);
    tokio::spawn(async move {
        if let Err(status) = run(parts, uid, incoming, &out).await {
            // The executor has gone if it cannot be told.
            let _ = out.send(Err(status)).await;
        }
    });
    receiver
}

async fn run(
    parts: Parts,
    uid: u32,
    mut incoming: Streaming<v1::AgentUp>,
    out: &Sender,
) -> Result<(), Status> {
    let first = tokio::time::timeout(REGISTER_WITHIN, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no registration came"))??;
    let Some(v1::AgentUp { message: Some(Up::Register(register)) }) = first else {
        return Err(Status::failed_precondition("a session begins with a registration"));
    };
    let epoch_seen = Epoch(register.epoch_seen);
    if epoch_seen > parts.views.read().state.epoch {
        // Another owner has been here, or this state was restored: the journal must be opened above it.
        let _ = parts.inbox.send_now(Item::EpochSeen(epoch_seen));
        return Err(Status::unavailable("this scheduler takes a higher epoch first; register again"));
    }
    let (session, orders) = parts.dispatch.open();
    let _closing = Closing { parts: &parts, session };
    let mut registration = agent::registration(register, session)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    // The kernel's word on who the executor is, not its own.
    Arc::make_mut(&mut registration.observed).uid = Some(model::id::Uid(uid));
    parts.inbox.send(Item::Registered(Box::new(registration))).await.map_err(|_| stopping())?;
    let (node, accepted) = watch::channel(None);
    tokio::select! {
        () = write(&parts, session, orders, out, node) => Ok(()),
        read = listen(&parts, session, &mut incoming, accepted) => read,
    }
}

fn stopping() -> Status {
    Status::unavailable("the scheduler is stopping")
}

/// Tells the machine and the table when the session is over, however it ended.
struct Closing<'a> {
    parts: &'a Parts,
    session: u64,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.parts.dispatch.close(self.session);
        // Refused only when the daemon is stopping.
        let _ = self.parts.inbox.send_now(Item::SessionEnded { session: self.session });
    }
}

/// Takes the executor's messages until it goes or is silent for too long.
async fn listen(
    parts: &Parts,
    session: u64,
    incoming: &mut Streaming<v1::AgentUp>,
    accepted: watch::Receiver<Option<NodeIdx>>,
) -> Result<(), Status> {
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, incoming.message()).await;
        let Ok(next) = next else { return Err(Status::deadline_exceeded("the executor was silent")) };
        let Some(up) = next? else { return Ok(()) };
        match up.message {
            Some(Up::Heartbeat(heartbeat)) => {
                if let Some(node) = *accepted.borrow() {
                    let vitals = Vitals {
                        load: Some(heartbeat.load),
                        memory_free_mib: Some(heartbeat.memory_free_mib),
                        containers: agent::sentence(heartbeat.containers),
                        gpus: agent::gpu_vitals(heartbeat.gpus),
                    };
                    parts.views.set_vitals(node, vitals);
                }
            }
            Some(Up::Report(report)) => {
                let run = agent::run_key(report.key)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?;
                let begun = report.begun_ms.or(report.outcome.as_ref().map(|outcome| outcome.begun_ms));
                if let Some(length) = begun.and_then(|at| parts.launches.told(run, at)) {
                    parts.metrics.launch.note(length);
                }
                let report = agent::report(report.stage, report.outcome, report.begun_ms, report.progress);
                let item = Item::Report { session, run, report };
                parts.inbox.send(item).await.map_err(|_| stopping())?;
            }
            Some(Up::Register(_)) => {
                return Err(Status::failed_precondition("a session registers once"));
            }
            // What else a node has is taken from its registration.
            Some(Up::Node(v1::NodeReport { facts: Some(facts) })) => {
                let gpus =
                    agent::gpus(facts.gpus).map_err(|error| Status::invalid_argument(error.to_string()))?;
                parts.inbox.send(Item::Gpus { session, gpus }).await.map_err(|_| stopping())?;
            }
            Some(Up::Node(v1::NodeReport { facts: None })) | None => {}
        }
    }
}

/// Sends the commands until the session is over. What waits at once is taken at once, so that the bodies of several
/// launches are read in one go.
async fn write(
    parts: &Parts,
    session: u64,
    mut orders: Orders,
    out: &Sender,
    accepted: watch::Sender<Option<NodeIdx>>,
) {
    let mut taken = Vec::with_capacity(ORDERS_AT_ONCE);
    while orders.recv_many(&mut taken, ORDERS_AT_ONCE).await > 0 {
        let mut ready = Vec::with_capacity(taken.len());
        let mut over = None;
        for order in taken.drain(..) {
            match order {
                Order::Accepted(node) => {
                    accepted.send_replace(Some(node));
                    ready.push(Due::of(Down::Welcome(welcome(&parts.views))));
                }
                Order::End(reason) => {
                    over = Some(reason);
                    break;
                }
                Order::Do(effect, released) => ready.extend(due(parts, effect, released)),
                Order::CheckHealth => ready.push(Due::of(Down::CheckHealth(v1::CheckHealth {}))),
                Order::LogLevel(level) => {
                    ready.push(Due::of(Down::LogLevel(v1::LogLevel { level: level.to_owned() })));
                }
            }
        }
        if send_all(parts, session, ready, out).await.is_err() {
            return;
        }
        if let Some(reason) = over {
            let _ = send(out, Down::Goodbye(v1::Goodbye { reason: reason.into() })).await;
            return;
        }
    }
}

/// A command on its way to the stream.
struct Due {
    what: Composed,
    /// When its effect was released.
    released: Option<Instant>,
    /// What it launches.
    run: Option<RunKey>,
}

impl Due {
    fn of(down: Down) -> Self {
        Self { what: Composed::Ready(Box::new(down)), released: None, run: None }
    }
}

/// The command of an effect, without the bodies of a launch.
fn due(parts: &Parts, effect: Effect, released: Instant) -> Option<Due> {
    let run = match &effect {
        Effect::Launch { run, .. } => Some(*run),
        _ => None,
    };
    let what = compose(&parts.views, &parts.site, effect)?;
    Some(Due { what, released: Some(released), run })
}

/// Sends commands in their order. An error: the connection is gone.
async fn send_all(parts: &Parts, session: u64, ready: Vec<Due>, out: &Sender) -> Result<(), ()> {
    for Sent { what, released, run } in with_bodies(parts, ready).await {
        let down = match what {
            Ok(down) => down,
            Err(detail) => {
                let run = run.expect("only a launch has a draft");
                launch_failed(parts, session, run, detail).await;
                continue;
            }
        };
        if let Some(released) = released {
            parts.metrics.dispatch.note(released.elapsed());
        }
        run.into_iter().for_each(|run| parts.launches.sent(run));
        send(out, down).await?;
    }
    Ok(())
}

async fn send(out: &Sender, down: Down) -> Result<(), ()> {
    out.send(Ok(v1::AgentDown { message: Some(down) })).await.map_err(|_| ())
}

fn welcome(views: &Views) -> v1::Welcome {
    let view = views.read();
    v1::Welcome {
        epoch: view.state.epoch.0,
        heartbeat_s: HEARTBEAT_S,
        cluster: view.settings.cluster.to_string(),
    }
}

/// A command with its bodies.
struct Sent {
    /// Or why a launch's bodies cannot be had.
    what: Result<Down, String>,
    released: Option<Instant>,
    run: Option<RunKey>,
}

/// Adds the bodies. Those that were not used lately are read away from the runtime's threads, since that may touch the
/// disk: once for all of them.
async fn with_bodies(parts: &Parts, ready: Vec<Due>) -> Vec<Sent> {
    let recent = parts.dispatch.recent();
    let wanted = ready.iter().filter_map(|due| match &due.what {
        Composed::Launch(draft) => Some(draft),
        Composed::Ready(_) => None,
    });
    let hashes = wanted.flat_map(|draft| [draft.script, draft.environment, draft.tasks]).flatten();
    let mut known: HashMap<BodyHash, Result<Bytes, String>> = HashMap::new();
    let mut unread: Vec<BodyHash> = Vec::new();
    for hash in hashes {
        if known.contains_key(&hash) || unread.contains(&hash) {
            continue;
        }
        match recent.get(&hash) {
            Some(bytes) => drop(known.insert(hash, Ok(bytes))),
            None => unread.push(hash),
        }
    }
    if !unread.is_empty() {
        let bodies = parts.shelf.bodies();
        let read = move || unread.into_iter().map(|hash| (hash, read(&bodies, &hash))).collect::<Vec<_>>();
        // Lost with its thread: each that is missing is said to be so below.
        for (hash, body) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            if let Ok(bytes) = &body {
                recent.keep(hash, bytes);
            }
            known.insert(hash, body);
        }
    }
    let body =
        |hash: &BodyHash| known.get(hash).cloned().unwrap_or_else(|| Err("it was not read".to_owned()));
    ready
        .into_iter()
        .map(|Due { what, released, run }| {
            let what = match what {
                Composed::Ready(down) => Ok(*down),
                Composed::Launch(draft) => finish(*draft, body),
            };
            Sent { what, released, run }
        })
        .collect()
}

fn read(bodies: &Bodies, hash: &BodyHash) -> Result<Bytes, String> {
    bodies.get(hash).map_err(|error| error.to_string())?.ok_or_else(|| "it is not stored".to_owned())
}

/// A launch that cannot be composed has failed like one that the executor could not begin.
async fn launch_failed(parts: &Parts, session: u64, run: RunKey, detail: String) {
    tracing::error!(job = run.job.0, step = %run.step, detail, "a launch cannot be composed");
    let outcome = RunOutcome {
        kind: OutcomeKind::LaunchFailed,
        exit: model::exit::ExitStatus::from_code(1),
        ended: Timestamp::max(parts.views.now(), Timestamp::ZERO),
        detail: detail.into(),
        usage: Usage::default(),
        held: "".into(),
        stop_requested: false,
    };
    let report = Report::Ended(Box::new(outcome));
    // Refused only when the daemon is stopping; the launch is derived again at the next start.
    let _ = parts.inbox.send(Item::Report { session, run, report }).await;
}
