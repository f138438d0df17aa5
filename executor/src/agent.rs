//! The one task that owns the runs of this node.
//!
//! It takes events one by one (from the scheduler, from supervisors, from the journal), asks the pure table in
//! `step::lifecycle` what follows, and carries that out: log, start, send, report, collect. What blocks runs
//! beside it. Nothing is started before its intent is on disk; nothing is reported as ended before its outcome
//! is. Effects that a lost session swallowed are not kept: registration carries the whole table.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use executor_supervisor::frame::{Cause, Frame, Scope};
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use proto::v1;
use proto::v1::agent_down::Message as Down;
use proto::v1::agent_up::Message as Up;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::cgroup;
use crate::control::{self, Delivery};
use crate::crash::{self, Point};
use crate::host;
use crate::key::Key;
use crate::launch::spares::Spares;
use crate::launch::user::Accounts;
use crate::launch::{self, start};
use crate::logbook::{Committed, Logbook};
use crate::orphans;
use crate::record::{Mark, Record};
use crate::step::lifecycle::{self, Action, Event, State};
use crate::step::table;
use crate::uplink::Signal;

/// Supervisors that are being started at one time: more only fight for the processors.
const STARTS_AT_ONCE: usize = 4;
/// Run folders that are being removed at one time.
const COLLECTS_AT_ONCE: usize = 2;
/// Events taken before the journal's next batch is sent off.
const EVENTS_IN_A_ROW: usize = 512;
/// Time between heartbeats until the scheduler names one.
const HEARTBEAT_FIRST: Duration = Duration::from_secs(10);
/// Commands for one run that may wait for its supervisor.
const COMMANDS_MAX: usize = 64;

/// What does not change while the executor runs.
pub struct Fixed {
    /// The node's name.
    pub node: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// Folder of srun and the other commands; empty: not known.
    pub commands: String,
    /// `SLUICE_SOCKET` of this process, where it alone says where the scheduler is.
    pub socket: Option<String>,
    /// Where run folders are.
    pub run_root: PathBuf,
    /// The supervisor's program.
    pub supervisor: PathBuf,
    /// Own effective uid.
    pub uid: u32,
    /// Below which each run gets a cgroup.
    pub cgroups: Option<cgroup::Base>,
    /// The site's task prolog and epilog.
    pub task_prolog: Option<String>,
    /// See `task_prolog`.
    pub task_epilog: Option<String>,
    /// JobFileAppend.
    pub append: bool,
    /// How long a step lives without its client, ms.
    pub client_grace_ms: u64,
    /// This kernel.
    pub boot_id: [u8; 16],
    /// This spool.
    pub spool_id: [u8; 16],
    /// What the node is.
    pub facts: v1::NodeFacts,
    /// Look-ups of users.
    pub accounts: Accounts,
    /// Run folders to use again.
    pub spares: Spares,
}

impl Fixed {
    fn folder(&self, key: Key) -> PathBuf {
        self.run_root.join(key.folder())
    }

    fn context(&self) -> launch::Context<'_> {
        launch::Context {
            node: &self.node,
            hostname: &self.hostname,
            commands: &self.commands,
            socket: self.socket.as_deref(),
            task_prolog: self.task_prolog.as_deref(),
            task_epilog: self.task_epilog.as_deref(),
            append: self.append,
            client_grace_ms: self.client_grace_ms,
        }
    }
}

/// What happens beside the scheduler's messages.
enum Beside {
    /// To a run.
    Run(Key, Event),
    /// A command reached its supervisor, or did not.
    Delivered(Key, Delivery),
}

struct Session {
    number: u64,
    up: mpsc::Sender<v1::AgentUp>,
    close: Option<oneshot::Sender<()>>,
    /// Of its welcome; commands before it are refused.
    epoch: Option<u64>,
}

/// Commands on their way to one supervisor, in order.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Frame>,
    busy: bool,
}

/// See the module comment.
pub struct Agent {
    fixed: Arc<Fixed>,
    runs: table::Table,
    launches: HashMap<Key, Box<v1::Launch>>,
    outboxes: BTreeMap<Key, Outbox>,
    /// User and group of runs that this process started.
    owners: HashMap<Key, (u32, u32)>,
    logbook: Logbook,
    epoch_seen: u64,
    session: Option<Session>,
    beside: mpsc::Sender<Beside>,
    starts: Arc<Semaphore>,
    collects: Arc<Semaphore>,
    heartbeat: tokio::time::Interval,
    fatal: Option<String>,
}

/// Where the agent hears things from.
pub struct Ears {
    /// The scheduler.
    pub signals: mpsc::Receiver<Signal>,
    /// The journal.
    pub committed: mpsc::Receiver<Committed>,
    beside: mpsc::Receiver<Beside>,
}

/// What a recovered executor begins with.
pub struct Beginning {
    /// Its runs, from journal and folders.
    pub runs: BTreeMap<Key, State>,
    /// Records that follow from what was found: to be logged, and what waits for each.
    pub log: Vec<(Key, Mark, Option<Event>)>,
    /// Runs whose supervisors live.
    pub held: Vec<Key>,
    /// Highest epoch seen.
    pub epoch_seen: u64,
}

impl Agent {
    /// Takes over what was found. Must be called within the runtime.
    #[must_use]
    pub fn new(
        fixed: Arc<Fixed>,
        beginning: Beginning,
        logbook: Logbook,
        committed: mpsc::Receiver<Committed>,
        signals: mpsc::Receiver<Signal>,
    ) -> (Self, Ears) {
        let (beside, beside_events) = mpsc::channel(1024);
        let mut agent = Self {
            fixed,
            runs: table::Table::new(beginning.runs),
            launches: HashMap::new(),
            outboxes: BTreeMap::new(),
            owners: HashMap::new(),
            logbook,
            epoch_seen: beginning.epoch_seen,
            session: None,
            beside,
            starts: Arc::new(Semaphore::new(STARTS_AT_ONCE)),
            collects: Arc::new(Semaphore::new(COLLECTS_AT_ONCE)),
            heartbeat: tokio::time::interval(HEARTBEAT_FIRST),
            fatal: None,
        };
        agent.logbook.add(&Record::Boot(agent.fixed.boot_id), None);
        for (key, mark, then) in beginning.log {
            agent.logbook.add(&Record::Run(key, mark), then.map(|event| (key, event)));
        }
        for key in beginning.held {
            agent.watch(key);
        }
        (agent, Ears { signals, committed, beside: beside_events })
    }

    /// Runs until `stop` is told or the journal fails.
    ///
    /// # Errors
    /// A sentence: the journal cannot be written any more. Jobs go on; the next start reads what is on disk.
    pub async fn run(mut self, mut ears: Ears, mut stop: oneshot::Receiver<()>) -> Result<(), String> {
        let mut again = tokio::time::interval(Duration::from_secs(1));
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut disk_full = false;
        loop {
            tokio::select! {
                Some(committed) = ears.committed.recv() => self.committed(committed),
                Some(beside) = ears.beside.recv() => self.heard(beside),
                Some(signal) = ears.signals.recv() => self.signal(signal),
                _ = self.heartbeat.tick() => self.send(Up::Heartbeat(host::heartbeat())),
                _ = again.tick(), if disk_full => {}
                _ = &mut stop => break,
            }
            for _ in 0..EVENTS_IN_A_ROW {
                if let Ok(beside) = ears.beside.try_recv() {
                    self.heard(beside);
                } else if let Ok(signal) = ears.signals.try_recv() {
                    self.signal(signal);
                } else {
                    break;
                }
            }
            if let Some(fatal) = self.fatal.take() {
                return Err(fatal);
            }
            disk_full = self.flush();
        }
        self.finish(&mut ears).await
    }

    /// Lets what was handed to the journal reach the disk, for a short while.
    async fn finish(mut self, ears: &mut Ears) -> Result<(), String> {
        let patience = tokio::time::sleep(Duration::from_secs(2));
        tokio::pin!(patience);
        while !self.logbook.is_idle() {
            self.flush();
            tokio::select! {
                Some(committed) = ears.committed.recv() => {
                    self.logbook.committed(committed)?;
                }
                () = &mut patience => break,
            }
        }
        if let Some(cgroups) = &self.fixed.cgroups {
            cgroups.remove_if_empty();
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        if self.logbook.wants_checkpoint() {
            let identity = [Record::Epoch(self.epoch_seen), Record::Boot(self.fixed.boot_id)];
            self.logbook.checkpoint(identity.into_iter().chain(self.runs.records()));
        }
        self.logbook.flush()
    }

    // ---- events ---------------------------------------------------------------------------------

    fn committed(&mut self, committed: Committed) {
        match self.logbook.committed(committed) {
            Ok(events) => {
                for (key, event) in events {
                    self.happen(key, event);
                }
            }
            Err(why) => self.fatal = Some(format!("the journal cannot be written: {why}")),
        }
    }

    fn heard(&mut self, beside: Beside) {
        match beside {
            Beside::Run(key, event) => {
                if matches!(event, Event::Gone(_)) {
                    crash::point(Point::AfterOutcome);
                    self.outboxes.remove(&key);
                }
                self.happen(key, event);
            }
            Beside::Delivered(key, delivery) => {
                match delivery {
                    Delivery::Done | Delivery::Gone => {}
                    Delivery::Refused(reason) => {
                        tracing::warn!(run = %key, reason, "a supervisor refused a command")
                    }
                    Delivery::Silent => tracing::error!(run = %key, "a supervisor does not answer"),
                }
                if let Some(outbox) = self.outboxes.get_mut(&key) {
                    outbox.busy = false;
                }
                self.deliver(key);
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Connected { session, up, close } => {
                let registration = self.registration();
                self.session = Some(Session { number: session, up, close: Some(close), epoch: None });
                self.send(Up::Register(registration));
            }
            Signal::Disconnected { session } => {
                if self.session.as_ref().is_some_and(|current| current.number == session) {
                    tracing::info!("the scheduler is gone; jobs go on");
                    self.session = None;
                }
            }
            Signal::Down { session, message } => {
                let current = self.session.as_ref().is_some_and(|current| current.number == session);
                if let (true, Some(message)) = (current, message.message) {
                    self.obey(message);
                }
            }
        }
    }

    /// Asks the table and does what it says.
    fn happen(&mut self, key: Key, event: Event) {
        for action in self.runs.happen(key, event, host::now_ms()) {
            match action {
                Action::Log(mark, then) => {
                    self.logbook.add(&Record::Run(key, mark), then.map(|event| (key, event)));
                }
                Action::Start => self.start(key),
                Action::Report => self.report(key),
                Action::Send(frame) => self.queue(key, frame),
                Action::Collect => self.collect(key),
            }
        }
    }

    // ---- the scheduler --------------------------------------------------------------------------

    fn registration(&self) -> v1::Register {
        v1::Register {
            node: self.fixed.node.clone(),
            boot_id: self.fixed.boot_id.to_vec().into(),
            spool_id: self.fixed.spool_id.to_vec().into(),
            epoch_seen: self.epoch_seen,
            runs: self.runs.entries(),
            facts: Some(self.fixed.facts.clone()),
            run_folder: self.fixed.run_root.display().to_string(),
            uid: self.fixed.uid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A message for a scheduler that does not take it ends the session: registration says it all again.
    fn send(&mut self, message: Up) {
        let Some(session) = &self.session else { return };
        if session.up.try_send(v1::AgentUp { message: Some(message) }).is_err() {
            tracing::warn!("the scheduler does not take reports; registering again");
            self.leave();
        }
    }

    fn leave(&mut self) {
        if let Some(close) = self.session.take().and_then(|session| session.close) {
            // It may have ended by itself.
            let _ = close.send(());
        }
    }

    fn report(&mut self, key: Key) {
        if let Some(report) = self.runs.report(key) {
            if report.outcome.is_some() {
                crash::point(Point::BeforeReport);
            }
            self.send(Up::Report(report));
        }
    }

    fn obey(&mut self, message: Down) {
        match message {
            Down::Welcome(welcome) => return self.welcome(&welcome),
            Down::Goodbye(goodbye) => {
                tracing::warn!(reason = goodbye.reason, "the scheduler ends the session");
                return self.leave();
            }
            _ => {}
        }
        let Some(epoch) = self.session.as_ref().and_then(|session| session.epoch) else {
            tracing::warn!("a command before the welcome is refused");
            return;
        };
        match message {
            Down::Launch(launch) => {
                if let Some(key) = self.admitted(launch.key.as_ref(), launch.epoch, epoch) {
                    self.launch(key, launch);
                }
            }
            Down::Terminate(stop) => {
                if let Some(key) = self.admitted(stop.key.as_ref(), stop.epoch, epoch) {
                    let frame = terminate_frame(&stop);
                    self.happen(key, Event::Stop(frame));
                }
            }
            Down::Signal(signal) => {
                let scope = match (signal.batch_only, signal.full) {
                    (true, _) => Scope::First,
                    (false, true) => Scope::Full,
                    (false, false) => Scope::Steps,
                };
                let frame = Frame::Signal { signal: signal.signal, scope };
                self.command(signal.key.as_ref(), signal.epoch, epoch, frame);
            }
            Down::Suspend(suspend) => {
                self.command(suspend.key.as_ref(), suspend.epoch, epoch, Frame::Suspend)
            }
            Down::Resume(resume) => self.command(resume.key.as_ref(), resume.epoch, epoch, Frame::Resume),
            Down::ChangeLimit(change) => {
                let frame = Frame::Limit { limit_ms: u64::try_from(change.time_limit_ms).ok() };
                self.command(change.key.as_ref(), change.epoch, epoch, frame);
            }
            Down::Announce(announce) => {
                self.command(announce.key.as_ref(), epoch, epoch, Frame::Announce { text: announce.text });
            }
            Down::Acknowledge(acknowledge) => {
                if let Some(key) = self.admitted(acknowledge.key.as_ref(), epoch, epoch) {
                    self.happen(key, Event::Acknowledge);
                }
            }
            Down::Forget(forget) => {
                if let Some(key) = self.admitted(forget.key.as_ref(), epoch, epoch) {
                    self.happen(key, Event::Forget);
                }
            }
            Down::Welcome(_) | Down::Goodbye(_) => {}
        }
    }

    fn welcome(&mut self, welcome: &v1::Welcome) {
        if welcome.epoch < self.epoch_seen {
            tracing::error!(
                theirs = welcome.epoch,
                seen = self.epoch_seen,
                "a scheduler of an older epoch is refused"
            );
            return self.leave();
        }
        if welcome.epoch > self.epoch_seen {
            self.epoch_seen = welcome.epoch;
            // In the journal before anything that its commands cause: batches are in order.
            self.logbook.add(&Record::Epoch(welcome.epoch), None);
        }
        if let Some(session) = &mut self.session {
            session.epoch = Some(welcome.epoch);
        }
        let every = Duration::from_secs(u64::from(welcome.heartbeat_s.max(1)));
        if welcome.heartbeat_s > 0 && every != self.heartbeat.period() {
            self.heartbeat = tokio::time::interval(every);
        }
        tracing::info!(epoch = welcome.epoch, cluster = welcome.cluster, "registered");
    }

    /// The run of a command, if the command may be obeyed.
    fn admitted(&self, key: Option<&v1::RunKey>, epoch: u64, session: u64) -> Option<Key> {
        let key = key.and_then(Key::read);
        match key {
            None => tracing::warn!("a command without a run is refused"),
            Some(key) if epoch < session.max(self.epoch_seen) => {
                tracing::warn!(run = %key, epoch, "a command of an older epoch is refused");
                return None;
            }
            Some(_) => {}
        }
        key
    }

    fn command(&mut self, key: Option<&v1::RunKey>, epoch: u64, session: u64, frame: Frame) {
        if let Some(key) = self.admitted(key, epoch, session) {
            self.happen(key, Event::Command(frame));
        }
    }

    fn launch(&mut self, key: Key, launch: v1::Launch) {
        let refusal = if self.runs.is_stale(key) {
            Some("a later run of this job is known here".to_owned())
        } else if self.runs.is_known(key) {
            None
        } else if self.fixed.uid != 0 && launch.uid != self.fixed.uid {
            Some(format!(
                "the executor of node {} runs as user {} and cannot run jobs of user {}",
                self.fixed.node, self.fixed.uid, launch.uid
            ))
        } else if !self.logbook.has_room() {
            Some(format!("node {} has no disk space left to log a start", self.fixed.node))
        } else {
            self.launches.insert(key, Box::new(launch));
            None
        };
        match refusal {
            None => self.happen(key, Event::Launch),
            Some(detail) => {
                tracing::warn!(run = %key, detail, "a launch is refused");
                let outcome = lifecycle::never_begun(Kind::LaunchFailed, &detail, host::now_ms());
                self.send(Up::Report(table::report_of(key, &State::Ended(outcome))));
            }
        }
    }

    // ---- what runs beside -----------------------------------------------------------------------

    fn start(&mut self, key: Key) {
        crash::point(Point::AfterIntent);
        let Some(launch) = self.launches.remove(&key) else {
            // Cannot be: an intent is logged only with its launch at hand.
            let outcome =
                lifecycle::never_begun(Kind::LaunchFailed, "the launch is not at hand", host::now_ms());
            return self.happen(key, Event::Gone(outcome));
        };
        self.owners.insert(key, (launch.uid, launch.gid));
        let (fixed, beside, starts) =
            (Arc::clone(&self.fixed), self.beside.clone(), Arc::clone(&self.starts));
        tokio::spawn(async move {
            let permit = starts.acquire_owned().await;
            let place = Arc::clone(&fixed);
            let started = tokio::task::spawn_blocking(move || start_supervisor(&place, key, &launch)).await;
            drop(permit);
            let event = match started {
                Ok(Ok(mut child)) => {
                    crash::point(Point::AfterSpawn);
                    let begun = Event::Started { begun_ms: host::now_ms() };
                    if beside.send(Beside::Run(key, begun)).await.is_err() {
                        return;
                    }
                    let status = child.wait().await;
                    let text = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    Event::Gone(conclude(fixed, key, text).await)
                }
                Ok(Err(detail)) => failed(detail),
                Err(_) => failed("the start panicked".to_owned()),
            };
            // The agent is gone only when the process ends.
            let _ = beside.send(Beside::Run(key, event)).await;
        });
    }

    /// Waits for the end of a supervisor that is not a child of this process.
    fn watch(&self, key: Key) {
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            control::gone(&fixed.folder(key)).await;
            let outcome = conclude(fixed, key, "it went away".to_owned()).await;
            let _ = beside.send(Beside::Run(key, Event::Gone(outcome))).await;
        });
    }

    fn queue(&mut self, key: Key, frame: Frame) {
        let outbox = self.outboxes.entry(key).or_default();
        if outbox.waiting.len() >= COMMANDS_MAX {
            tracing::error!(run = %key, "too many commands wait for this supervisor; one is dropped");
            return;
        }
        outbox.waiting.push_back(frame);
        self.deliver(key);
    }

    fn deliver(&mut self, key: Key) {
        let Some(outbox) = self.outboxes.get_mut(&key) else { return };
        if outbox.busy {
            return;
        }
        let Some(frame) = outbox.waiting.pop_front() else {
            self.outboxes.remove(&key);
            return;
        };
        outbox.busy = true;
        let (folder, beside) = (self.fixed.folder(key), self.beside.clone());
        tokio::spawn(async move {
            let delivery = control::command(&folder, &frame).await;
            let _ = beside.send(Beside::Delivered(key, delivery)).await;
        });
    }

    fn collect(&mut self, key: Key) {
        let (fixed, collects) = (Arc::clone(&self.fixed), Arc::clone(&self.collects));
        let owner = self.owners.remove(&key);
        tokio::spawn(async move {
            let _permit = collects.acquire_owned().await;
            let collect = move || fixed.spares.collect(&fixed.folder(key), owner);
            let removed = tokio::task::spawn_blocking(collect).await;
            match removed {
                Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(run = %key, %error, "a run folder could not be removed");
                }
                _ => {}
            }
        });
    }
}

fn terminate_frame(stop: &v1::Terminate) -> Frame {
    let cause = match stop.cause() {
        v1::StopCause::StopCancel => Cause::Cancel,
        v1::StopCause::StopTimeLimit => Cause::TimeLimit,
        v1::StopCause::StopRequeue => Cause::Requeue,
        v1::StopCause::StopPreemption => Cause::Preemption,
        v1::StopCause::StopNodeFail => Cause::NodeFail,
    };
    let kill_wait_ms = if stop.hurry { 0 } else { u64::from(stop.kill_wait_ms) };
    Frame::Terminate { cause, kill_wait_ms, note: stop.note.clone() }
}

fn failed(detail: String) -> Event {
    Event::Gone(lifecycle::never_begun(Kind::LaunchFailed, &detail, host::now_ms()))
}

/// Blocking: the folder, and the process. The error is a sentence for the user.
fn start_supervisor(fixed: &Fixed, key: Key, launch: &v1::Launch) -> Result<tokio::process::Child, String> {
    let folder = fixed.folder(key);
    let account = fixed.accounts.look_up(launch.uid, launch.gid, &launch.user);
    let cgroup = fixed.cgroups.as_ref().map_or_else(Vec::new, |base| base.of_run(&key.folder()));
    let script_path = folder.join(executor_supervisor::SCRIPT_FILE);
    let spec = launch::compose(&fixed.context(), key, launch, &account, &script_path, cgroup, host::now_ms())
        .map_err(|error| error.to_string())?;
    let script = (key.step == model::id::StepId::Batch).then_some(&launch.script[..]);
    let lock = start::prepare(&fixed.run_root, key, &spec, script, fixed.uid == 0, &fixed.spares)
        .map_err(|error| format!("cannot make the run folder {}: {error}", folder.display()))?;
    start::spawn(&fixed.supervisor, &folder, lock)
        .map_err(|error| format!("cannot start {}: {error}", fixed.supervisor.display()))
}

/// How a run that nobody holds any more ended. What a lost supervisor left is killed first.
async fn conclude(fixed: Arc<Fixed>, key: Key, status: String) -> Outcome {
    // The usual case is one small file, read from memory: not worth another thread.
    if let start::Found::Outcome(outcome) = start::examine(&fixed.folder(key), key) {
        return outcome;
    }
    let found = tokio::task::spawn_blocking(move || conclude_now(&fixed, key, &status)).await;
    found.unwrap_or_else(|_| lifecycle::never_begun(Kind::Lost, "its end could not be read", host::now_ms()))
}

/// The same, blocking.
pub(crate) fn conclude_now(fixed: &Fixed, key: Key, status: &str) -> Outcome {
    let folder = fixed.folder(key);
    match start::examine(&folder, key) {
        start::Found::Outcome(outcome) => outcome,
        start::Found::Begun { begun_ms } => {
            tracing::warn!(run = %key, status, "a supervisor was lost");
            if let Some(spec) = start::read_spec(&folder) {
                orphans::kill_remains(key, &spec);
            }
            start::lost(begun_ms, host::now_ms())
        }
        start::Found::Nothing => {
            let detail = format!("the supervisor ended before it began: {status}");
            let outcome = lifecycle::never_begun(Kind::LaunchFailed, &detail, host::now_ms());
            Outcome { exit: Exit::default(), ..outcome }
        }
    }
}
