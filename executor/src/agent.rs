//! The one task that owns the runs of this node.
//!
//! It takes events one by one (from the scheduler, from supervisors, from the journal), asks the pure table in
//! `step::lifecycle` what follows, and carries that out: log, start, send, report, collect. What blocks runs
//! beside it. Nothing is started before its intent is on disk; nothing is reported as ended before its outcome
//! is. Effects that a lost session swallowed are not kept: registration carries the whole table.

mod beside;
mod hands;
mod obey;
mod slices;

pub(crate) use beside::conclude_now;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use executor_supervisor::frame::Frame;
use executor_supervisor::spec::container::Container;
use proto::v1;
use proto::v1::agent_up::Message as Up;
use service::log::Log;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cgroup;
use crate::container::Containers;
use crate::control::Delivery;
use crate::crash::{self, Point};
use crate::figures::Figures;
use crate::gpu::bind::Visible;
use crate::gpu::dcgm::JobMapping;
use crate::gpu::node::Gpus;
use crate::gpu::slices::{Reconciled, Slices};
use crate::hooks::Hooks;
use crate::host;
use crate::key::Key;
use crate::launch;
use crate::launch::spares::Spares;
use crate::launch::user::Accounts;
use crate::logbook::{Committed, Logbook};
use crate::record::{Mark, Record};
use crate::step::lifecycle::{Action, Event, State};
use crate::step::table;
use crate::uplink::Signal;
use hands::{Hands, Work};

/// How long the word that a run has begun may wait: most short runs end in that time, and their end says it.
const SOON: Duration = Duration::from_millis(50);
/// Events taken before the journal's next batch is sent off.
const EVENTS_IN_A_ROW: usize = 512;
/// Time between looks at the GPUs.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time between heartbeats until the scheduler names one.
const HEARTBEAT_FIRST: Duration = Duration::from_secs(10);

/// What does not change while the executor runs.
pub struct Fixed {
    /// The node's name.
    pub node: String,
    /// What no other executor's things are named by.
    pub mark: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// Folder of srun and the other commands; empty: not known.
    pub commands: String,
    /// `SLUICE_SOCKET` of this process, where it alone says where the scheduler is.
    pub socket: Option<String>,
    /// Where run folders are.
    pub run_root: PathBuf,
    /// Where this process's lines go, and how much it says.
    pub log: Log,
    /// The supervisor's program.
    pub supervisor: PathBuf,
    /// Own effective uid.
    pub uid: u32,
    /// What holds runs to what they were given.
    pub cgroups: cgroup::Cgroups,
    /// The site's task prolog and epilog.
    pub task_prolog: Option<String>,
    /// See `task_prolog`.
    pub task_epilog: Option<String>,
    /// JobFileAppend.
    pub append: bool,
    /// The submitter's resource limits that jobs get.
    pub propagated: launch::rlimits::Propagated,
    /// How long a step lives without its client, ms.
    pub client_grace_ms: u64,
    /// Time between two looks at what tasks use, ms; 0: none.
    pub sample_ms: u64,
    /// MpiDefault.
    pub mpi_default: launch::mpi::Kind,
    /// The program that serves tasks by PMIx, where there is one.
    pub pmix: Option<PathBuf>,
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
    /// Images, and how they are run here.
    pub containers: Containers,
    /// GPUs that a driver shows.
    pub gpus: Gpus,
    /// Where dcgm-exporter is told of the jobs on each.
    pub job_mapping: Option<JobMapping>,
    /// The site's programs around jobs.
    pub hooks: Hooks,
    /// What is counted.
    pub figures: Arc<Figures>,
    /// The configuration file, for programs of the site; empty: there is none.
    pub conf: String,
}

impl Fixed {
    fn folder(&self, key: Key) -> PathBuf {
        self.run_root.join(key.folder())
    }

    fn context<'a>(&'a self, gpus: &'a Visible) -> launch::Context<'a> {
        launch::Context {
            node: &self.node,
            mark: &self.mark,
            hostname: &self.hostname,
            commands: &self.commands,
            socket: self.socket.as_deref(),
            task_prolog: self.task_prolog.as_deref(),
            task_epilog: self.task_epilog.as_deref(),
            append: self.append,
            propagated: self.propagated,
            client_grace_ms: self.client_grace_ms,
            sample_ms: self.sample_ms,
            gpus,
            mpi_default: self.mpi_default,
            pmix: self.pmix.as_deref(),
        }
    }
}

/// What happens beside the scheduler's messages.
enum Beside {
    /// To a run.
    Run(Key, Event),
    /// A command reached its supervisor, or did not.
    Delivered(Key, Delivery),
    /// A supervisor has ended without an outcome; how.
    Unclear(Key, String),
    /// The nursery has ended before a run's supervisor has, or before there was one; the attempts so far.
    Orphaned(Key, u32),
    /// Such a run never began.
    Unbegun(Key, u32),
    /// What is done for a run that has not begun.
    Progress(Key, String),
    /// A run's image is ready, or it is known why not.
    Ready(Key, Box<v1::Launch>, Option<Box<Container>>),
    /// Something of MIG instances is to be logged.
    Noted(Vec<Record>),
    /// A run's instances are destroyed: its end, what waits for it, and what else is to be logged.
    Released(Key, Mark, Option<Event>, Vec<Record>),
    /// The GPUs were looked at.
    Looked(slices::Looked),
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
    /// When runs were ordered that have no supervisor yet.
    ordered: HashMap<Key, Instant>,
    outboxes: BTreeMap<Key, Outbox>,
    /// User and group of runs that this process started.
    owners: HashMap<Key, (u32, u32)>,
    /// Runs whose images are being made ready: what ends that.
    preparing: HashMap<Key, oneshot::Sender<()>>,
    /// Runs that are being ended because they have lost a MIG instance, and what to say.
    doomed: HashMap<Key, String>,
    /// The GPUs are being looked at.
    looking: bool,
    /// Claims of instances on GPUs that are not there: kept for an executor that sees them.
    kept: Vec<Record>,
    logbook: Logbook,
    epoch_seen: u64,
    session: Option<Session>,
    beside: mpsc::Sender<Beside>,
    hands: Hands,
    /// Runs whose begin is to be told, and when to look whether they have: all that are unmarked, and some others.
    soon: VecDeque<(Instant, Key)>,
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
    /// What became of claims for MIG instances.
    pub slices: Reconciled,
    /// Claims that nobody could look after, as records.
    pub kept: Vec<Record>,
}

impl Agent {
    /// Takes over what was found. Must be called within the runtime.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(
        fixed: Arc<Fixed>,
        beginning: Beginning,
        logbook: Logbook,
        committed: mpsc::Receiver<Committed>,
        signals: mpsc::Receiver<Signal>,
    ) -> std::io::Result<(Self, Ears)> {
        let (beside, beside_events) = mpsc::channel(1024);
        let hands = beside::hands(&fixed, &beside)?;
        let mut agent = Self {
            fixed,
            runs: table::Table::new(beginning.runs),
            launches: HashMap::new(),
            ordered: HashMap::new(),
            outboxes: BTreeMap::new(),
            owners: HashMap::new(),
            preparing: HashMap::new(),
            doomed: HashMap::new(),
            looking: false,
            kept: beginning.kept,
            logbook,
            epoch_seen: beginning.epoch_seen,
            session: None,
            beside,
            hands,
            soon: VecDeque::new(),
            heartbeat: tokio::time::interval(HEARTBEAT_FIRST),
            fatal: None,
        };
        agent.logbook.add(&Record::Boot(agent.fixed.boot_id), None);
        for (key, mark, then) in beginning.log {
            agent.logbook.add(&Record::Run(key, mark), then.map(|event| (key, event)));
        }
        for record in beginning.slices.records {
            agent.logbook.add(&record, None);
        }
        for key in beginning.held {
            agent.watch(key);
            agent.look_soon(key);
        }
        for (key, why) in beginning.slices.lost {
            agent.doom(key, why);
        }
        Ok((agent, Ears { signals, committed, beside: beside_events }))
    }

    /// Runs until `stop` is told or the journal fails.
    ///
    /// # Errors
    /// A sentence: the journal cannot be written any more. Jobs go on; the next start reads what is on disk.
    pub async fn run(mut self, mut ears: Ears, mut stop: oneshot::Receiver<()>) -> Result<(), String> {
        let mut again = tokio::time::interval(Duration::from_secs(1));
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gpus = tokio::time::interval(LOOK_EVERY);
        gpus.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut waits = false;
        loop {
            let soon = self.soon.front().map(|(at, _)| *at);
            let held = self.logbook.held_until().map(Instant::from_std);
            tokio::select! {
                Some(committed) = ears.committed.recv() => self.committed(committed),
                Some(beside) = ears.beside.recv() => self.heard(beside),
                Some(signal) = ears.signals.recv() => self.signal(signal),
                _ = self.heartbeat.tick() => self.send(Up::Heartbeat(self.vitals())),
                _ = again.tick(), if waits => self.logbook.hurry(),
                _ = gpus.tick(), if self.fixed.gpus.is_observed() => self.look(),
                () = tokio::time::sleep_until(soon.unwrap_or_else(Instant::now)), if soon.is_some() => self.tell_begun(),
                () = tokio::time::sleep_until(held.unwrap_or_else(Instant::now)), if held.is_some() => {}
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
            self.fixed.figures.set_runs(self.runs.len());
            waits = self.flush();
        }
        self.finish(&mut ears).await
    }

    /// Lets what was handed to the journal reach the disk, for a short while.
    async fn finish(mut self, ears: &mut Ears) -> Result<(), String> {
        let patience = tokio::time::sleep(Duration::from_secs(2));
        tokio::pin!(patience);
        while !self.logbook.is_idle() {
            self.logbook.hurry();
            self.flush();
            let held = self.logbook.held_until().map(Instant::from_std);
            tokio::select! {
                () = tokio::time::sleep_until(held.unwrap_or_else(Instant::now)), if held.is_some() => {}
                Some(committed) = ears.committed.recv() => {
                    self.logbook.committed(committed)?;
                }
                () = &mut patience => break,
            }
        }
        self.fixed.cgroups.remove();
        self.fixed.containers.close();
        Ok(())
    }

    fn vitals(&self) -> v1::Heartbeat {
        let containers = self.fixed.containers.describe();
        v1::Heartbeat { containers, gpus: self.fixed.gpus.vitals(), ..host::heartbeat() }
    }

    fn flush(&mut self) -> bool {
        if self.logbook.wants_checkpoint() {
            let identity = [Record::Epoch(self.epoch_seen), Record::Boot(self.fixed.boot_id)];
            let slices = self.fixed.gpus.slices().map(Slices::records).unwrap_or_default();
            let slices = slices.into_iter().chain(self.kept.iter().cloned());
            self.logbook.checkpoint(identity.into_iter().chain(self.runs.records()).chain(slices));
        }
        self.logbook.flush()
    }

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
                    self.fixed.hooks.ended(key);
                    self.outboxes.remove(&key);
                }
                self.preparing.remove(&key);
                let event = self.judged(key, event);
                self.happen(key, event);
            }
            Beside::Noted(records) => {
                records.iter().for_each(|record| self.logbook.add(record, None));
            }
            Beside::Released(key, mark, then, records) => {
                records.iter().for_each(|record| self.logbook.add(record, None));
                self.logbook.add(&Record::Run(key, mark), then.map(|event| (key, event)));
            }
            Beside::Looked(looked) => self.looked(looked),
            Beside::Progress(key, text) => {
                if let Some(report) = self.runs.report(key).filter(|_| self.preparing.contains_key(&key)) {
                    self.send(Up::Report(v1::RunReport { progress: text, ..report }));
                }
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
            Beside::Ready(key, launch, container) => {
                // Stopped meanwhile: its end is on its way.
                if self.preparing.remove(&key).is_some() {
                    self.hands.push(Work::Start(key, launch, container));
                }
            }
            Beside::Unclear(key, status) => self.conclude(key, status),
            Beside::Orphaned(key, attempts) => self.adopt(key, attempts),
            Beside::Unbegun(key, attempts) => self.hands.push(Work::Again(key, attempts + 1)),
        }
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Connected { session, up, close } => {
                let registration = self.registration();
                self.fixed.figures.sessions.one();
                self.session = Some(Session { number: session, up, close: Some(close), epoch: None });
                self.send(Up::Register(registration));
            }
            Signal::Disconnected { session } => {
                if self.session.as_ref().is_some_and(|current| current.number == session) {
                    tracing::info!("the scheduler is gone; jobs go on");
                    self.fixed.figures.set_connected(false);
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

    /// What of an event is counted, and told in the log: one line for each run that could not be started.
    fn count(&mut self, key: Key, event: &Event) {
        let figures = &self.fixed.figures;
        match event {
            Event::Launch => {
                figures.launches.one();
                self.ordered.insert(key, Instant::now());
            }
            Event::Started { .. } => {
                if let Some(at) = self.ordered.remove(&key) {
                    figures.start.note(at.elapsed());
                }
            }
            Event::Gone(outcome) => {
                self.ordered.remove(&key);
                if figures.end(outcome) {
                    let (node, why) = (&self.fixed.node, &outcome.detail);
                    tracing::error!(job = key.job_id, run = %key, node, why, "a run could not be started");
                }
            }
            _ => {}
        }
    }

    /// Asks the table and does what it says.
    fn happen(&mut self, key: Key, event: Event) {
        self.count(key, &event);
        for action in self.runs.happen(key, event, host::now_ms()) {
            match action {
                Action::Log(mark @ Mark::Ended(_), then) if self.has_slices(key) => {
                    self.release(key, mark, then);
                }
                Action::Log(mark, then) => {
                    self.logbook.add(&Record::Run(key, mark), then.map(|event| (key, event)));
                }
                Action::Start => self.start(key),
                Action::Report => self.report(key),
                Action::ReportSoon => self.look_soon(key),
                Action::Send(frame) => self.queue(key, frame),
                Action::Collect => self.collect(key),
            }
        }
    }
}
