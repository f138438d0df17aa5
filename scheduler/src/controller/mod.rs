//! The one thread that owns the machine: receive, handle, persist, release.
//!
//! ```text
//!  inbox ─► handle ─► batch ─► committer ─► releaser ─► views, answers, effects
//!    ▲        │  pass           (one frame in flight; the next batch is handled meanwhile)
//!    └────────┴── progress
//! ```
//! Nothing leaves before its records are durable. A failure of the journal ends this owner: its machine is
//! dropped, callers are told that the outcome is unknown, and the state is recovered from disk within the
//! process. Space is held before an input that admits work is handled; without it, that is refused.

mod batch;
mod handle;
pub mod keeper;
mod planning;
pub mod recorder;
mod release;
mod turn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use journal::Pace;
use model::id::{Epoch, NodeIdx};
use model::time::{Span, Timestamp};
use scheduler_core::effect::ReplyTo;
use scheduler_core::input::Input;
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::settings::Settings;
use scheduler_core::state::promise::PromiseChange;

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::hooks::Hooks;
use crate::inbox::{self, Inbox, Item, Reply};
use crate::keys::Keys;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use crate::settings::{Configuration, Loaded, dynamic};
use crate::shelf::Shelf;
use crate::store::{self, Class, Opened, Store};
use crate::views::Views;
use batch::{Batch, Release};
use keeper::{Keeping, Room, Suspects};
use planning::Planning;
use recorder::{Recorder, Recording};
use release::{Outlets, Progress, Releaser};
use turn::{Turn, Wish};

/// Items that are taken from the queue at a time.
const TAKEN_MAX: usize = 512;
/// Batches that are durable but not yet released.
const UNRELEASED_MAX: usize = 4;
/// Pause between two attempts to recover.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
/// What an input that admits no work brings, bytes of records, as a rule.
const ESSENTIAL_BYTES: u64 = 16 << 10;
/// How often it is looked whether the wall clock was set.
const CLOCK_PAUSE: Duration = Duration::from_secs(1);
/// A wall clock that has moved so far away from where the state has it was set, or the machine slept.
const CLOCK_SET: Span = Span::from_secs(1);
/// Pause between two looks at a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// What the controller works with.
pub struct Parts {
    /// Where the state is.
    pub keeping: Keeping,
    /// Where others find the store's parts.
    pub shelf: Arc<Shelf>,
    /// Keys of jobs that have left the memory.
    pub keys: Arc<Keys>,
    /// The queue.
    pub inbox: Inbox,
    /// What queries see.
    pub views: Arc<Views>,
    /// Sessions of executors.
    pub dispatch: Arc<Dispatch>,
    /// Mail about jobs.
    pub mailer: Arc<Mailer>,
    /// Programs around jobs.
    pub hooks: Arc<Hooks>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The configuration.
    pub configuration: Arc<Configuration>,
    /// The present.
    pub clock: Clock,
    /// Where inputs are recorded, if they are.
    pub recorder: Option<Recorder>,
}

/// Why an owner ended.
enum End {
    /// It was told to stop.
    Stopped,
    /// The journal failed.
    Fenced(String),
    /// An executor has seen a higher epoch.
    EpochSeen(Epoch),
}

/// Runs until it is told to stop. The views hold the state that the store was opened with.
///
/// # Errors
/// The system gives no thread.
pub fn run(parts: &Parts, store: Store) -> std::io::Result<()> {
    let mut store = store;
    loop {
        let end = Owner::new(parts, store)?.run();
        let at_least = match end {
            End::Stopped => {
                parts.inbox.close();
                return Ok(());
            }
            End::Fenced(reason) => {
                tracing::error!(reason, "the journal is fenced; the state is recovered from disk");
                Epoch(0)
            }
            End::EpochSeen(seen) => {
                tracing::warn!(seen = seen.0, "an executor has seen a higher epoch; one above it is taken");
                Epoch(seen.0 + 1)
            }
        };
        parts.metrics.recoveries.one();
        parts.dispatch.end_all("the scheduler recovers its state; register again");
        match recover(parts, at_least) {
            Some(next) => store = next,
            None => {
                parts.inbox.close();
                return Ok(());
            }
        }
    }
}

/// Opens the store again, as often as it takes. `None`: told to stop meanwhile.
fn recover(parts: &Parts, at_least: Epoch) -> Option<Store> {
    loop {
        let Loaded { settings, history, .. } = parts.configuration.current();
        match keeper::open(&parts.keeping, at_least, (&settings, history), parts.views.directory()) {
            Ok(Opened { state, store, .. }) => {
                let settings = dynamic::with_known(&settings, &state);
                parts.shelf.replace(&store);
                parts.views.replace(state, settings);
                return Some(store);
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!("the state cannot be recovered yet: {error:#}");
            }
        }
        if parts.inbox.wait_for_stop(RECOVERY_PAUSE) {
            return None;
        }
    }
}

/// One ownership of the journal.
struct Owner<'a> {
    parts: &'a Parts,
    store: Store,
    /// What of the batch goes to the disk.
    stored: store::Batch,
    suspects: Suspects,
    machine: Machine,
    settings: Arc<Settings>,
    planning: Planning,
    batch: Batch,
    out: Outbox,
    now: Timestamp,
    recording: Option<Recording>,
    replies: HashMap<ReplyTo, Reply>,
    last_reply: u64,
    /// Sessions that the machine accepted.
    sessions: HashMap<u64, NodeIdx>,
    /// The present session of each node.
    current: BTreeMap<NodeIdx, u64>,
    releaser: Releaser,
    progress: Arc<Progress>,
    /// For which round of ids the machine knows what history holds.
    held_told: Option<u32>,
    /// How long batches that nobody waits for are held back.
    pace: Pace,
    /// Since when there is no space for anything.
    full_since: Option<Instant>,
    /// When it is looked again whether there is.
    look_again: Option<Instant>,
    /// When the wall clock is looked at next.
    next_clock: Instant,
    end: Option<End>,
}

impl<'a> Owner<'a> {
    fn new(parts: &'a Parts, store: Store) -> std::io::Result<Self> {
        // Queries are answered meanwhile. Jobs share what is large with the views.
        let state = parts.views.read().state.clone();
        let epoch = store.epoch();
        let settings = dynamic::with_known(&parts.configuration.current().settings, &state);
        let progress = Arc::new(Progress::default());
        let outlets = Outlets {
            views: Arc::clone(&parts.views),
            history: Arc::clone(store.history()),
            dispatch: Arc::clone(&parts.dispatch),
            mailer: Arc::clone(&parts.mailer),
            hooks: Arc::clone(&parts.hooks),
            metrics: Arc::clone(&parts.metrics),
        };
        let releaser = Releaser::spawn(outlets, parts.inbox.clone(), Arc::clone(&progress))?;
        let now = state.now;
        let recording = parts.recorder.as_ref().map(|recorder| recorder.begin(&state));
        let mut owner = Self {
            parts,
            stored: store.batch(),
            store,
            suspects: Suspects::read(&parts.keeping.folder),
            machine: Machine::new(state),
            settings: Arc::clone(&settings),
            planning: Planning::new(!settings.nodes.is_empty()),
            batch: Batch::default(),
            out: Outbox::default(),
            now,
            recording,
            replies: HashMap::new(),
            last_reply: 0,
            sessions: HashMap::new(),
            current: BTreeMap::new(),
            releaser,
            progress,
            held_told: None,
            pace: Pace::default(),
            full_since: None,
            look_again: None,
            next_clock: Instant::now(),
            end: None,
        };
        if let Err(error) = owner.store.open_index() {
            tracing::warn!("the history is read without its index: {error}");
        }
        owner.handle(Input::Owned(epoch));
        owner.configure(settings);
        owner.mind_clock();
        Ok(owner)
    }

    fn run(mut self) -> End {
        let end = self.work();
        // Callers that still wait learn by their dropped handles that the outcome is unknown.
        let Self { store, releaser, recording, machine, .. } = self;
        drop(releaser);
        if let Some(recording) = recording {
            recording.end(machine.state());
        }
        store.close();
        end
    }

    fn work(&mut self) -> End {
        let mut items = VecDeque::with_capacity(TAKEN_MAX);
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        loop {
            if self.progress.fenced.load(Ordering::SeqCst) {
                let reason = self.releaser.stop().unwrap_or_else(|| "unknown".to_owned());
                let told_to_stop = items.iter().any(|item| matches!(item, Item::Stop));
                return if told_to_stop { End::Stopped } else { End::Fenced(reason) };
            }
            self.mind_clock();
            self.fire_deadline();
            let held_back = !items.is_empty();
            let quiet = !held_back && self.parts.inbox.is_empty();
            if self.is_brief() {
                // In one frame with what it follows from: not before that can leave, since more may come until then.
                if self.turn(held_back).may_leave() {
                    self.plan(quiet);
                }
                self.commit(held_back);
            } else {
                self.commit(held_back);
                self.plan(quiet);
                self.commit(held_back);
            }
            if self.is_drained()
                && let Some(end) = self.end.take()
            {
                return end;
            }
            // An item that waits for the next batch, or for space, holds all behind it back.
            if !held_back || !self.stored.is_empty() || self.look_again.is_some() {
                let room = if held_back || self.end.is_some() { 0 } else { TAKEN_MAX };
                self.parts.inbox.take(&mut taken, room, self.wait(held_back));
                items.extend(taken.drain(..));
            }
            self.look_again = None;
            while let Some(item) = items.pop_front() {
                if let Some(item) = self.item(item) {
                    items.push_front(item);
                    break;
                }
            }
        }
    }

    /// Whether everything has left.
    fn is_drained(&self) -> bool {
        self.batch.is_empty() && self.progress.unreleased.load(Ordering::SeqCst) == 0
    }

    /// Whether a pass may keep the batch at hand waiting.
    fn is_brief(&self) -> bool {
        self.planning.is_brief(self.batch.is_patient())
    }

    /// What this turn finds. `held_back`: an item waits for the next batch.
    fn turn(&self, held_back: bool) -> Turn {
        Turn {
            now: Instant::now(),
            held_back,
            ending: self.end.is_some(),
            blocked: self.progress.unsynced.load(Ordering::SeqCst) > 0
                || self.progress.unreleased.load(Ordering::SeqCst) >= UNRELEASED_MAX,
            pace: self.pace.until(),
            empty: self.batch.is_empty(),
            patient: self.batch.is_patient(),
        }
    }

    /// What to wait for. `held_back`: an item waits for the next batch.
    fn wait(&self, held_back: bool) -> inbox::Wait {
        let turn = self.turn(held_back);
        let clock = &self.parts.clock;
        let pass = self.planning.next(!held_back, |at| clock.instant(at));
        let pass = pass.filter(|_| self.end.is_none()).map(|at| Wish { at, brief: self.is_brief() });
        // One that is past could not be handled for want of space: when the batch has left, it can.
        let deadline = self.machine.next_deadline().map(|at| clock.instant(at));
        let deadline = deadline.filter(|at| turn.empty || *at > turn.now);
        turn.wait(pass, [deadline, self.look_again, Some(self.next_clock)])
    }

    /// Tells the machine when the wall clock was set or the machine has slept: by how much wall time is away from the
    /// clock that goes on evenly.
    fn mind_clock(&mut self) {
        if Instant::now() < self.next_clock || self.end.is_some() {
            return;
        }
        self.next_clock = Instant::now() + CLOCK_PAUSE;
        let wall_ahead = self.parts.clock.drift();
        let moved = wall_ahead.saturating_sub(self.machine.state().wall_ahead);
        if moved.0.abs() >= CLOCK_SET.0 && self.essential(ESSENTIAL_BYTES) {
            tracing::warn!(
                seconds = moved.as_secs(),
                "the wall clock was set or the machine slept; begin times follow it, limits and delays do not"
            );
            self.handle(Input::ClockSet { wall_ahead });
        }
    }

    fn fire_deadline(&mut self) {
        let now = self.tick();
        if self.machine.next_deadline().is_some_and(|at| at <= now) && self.essential(ESSENTIAL_BYTES) {
            self.handle(Input::Deadline);
        }
    }

    /// Runs a pass if one is due and carries its proposal to the machine.
    fn plan(&mut self, quiet: bool) {
        let now = self.tick();
        if self.end.is_some() || !self.planning.is_due(quiet, now) {
            return;
        }
        let proposal = self.planning.pass(self.machine.state(), &self.settings, now, &self.parts.metrics);
        let Some(proposal) = proposal else { return };
        self.batch.verdicts(proposal.verdicts.into_iter());
        if proposal.plan.is_empty() {
            return;
        }
        let nodes: usize = proposal.plan.starts.iter().map(|start| start.allocation.len()).sum();
        let promised = proposal.plan.promises.iter().flat_map(|promised| &promised.changes);
        let holds = |change: &PromiseChange| -> usize {
            change.promises.iter().map(|promise| 48 + promise.holds.len() * 32).sum::<usize>() + 32
        };
        let promised: usize = promised.map(holds).sum();
        let moved = proposal.plan.defragment.as_ref().map_or(0, |moves| moves.moved.len());
        let bytes = (proposal.plan.starts.len() * 512 + nodes * 256 + promised + moved * 512 + 64) as u64;
        if !self.tell_held_ids() {
            // Elements of arrays get ids when they start.
            return self.planning.again(FULL_PAUSE);
        }
        match keeper::admit(&self.store, &mut self.stored, Class::Admission, bytes, &[]) {
            Room::Yes => {
                if let Some(moves) = &proposal.plan.defragment {
                    self.parts.metrics.note_moves(moves);
                }
                // As of the instant that was planned for: what starts ends when the plan says that it does.
                let now = now.max(self.machine.state().now);
                self.handle_at(now, Input::Plan(proposal.plan));
            }
            // First the batch at hand has to leave.
            Room::NextBatch => self.planning.again(Duration::from_millis(1)),
            // Nothing new starts on a full disk.
            Room::Full => self.planning.again(FULL_PAUSE),
            Room::Fenced => self.fence(),
        }
    }

    /// The present; never before an earlier answer.
    fn tick(&mut self) -> Timestamp {
        self.now = self.now.max(self.parts.clock.now());
        self.now
    }

    /// Gives the batch away, unless the one before is still being synced.
    /// One that nobody waits for may be held back for company, unless an item waits for the next one.
    fn commit(&mut self, held_back: bool) {
        let turn = self.turn(held_back);
        if turn.empty || !turn.may_leave() {
            return;
        }
        self.pace.note(turn.now, self.batch.pieces());
        if let Some(recording) = &mut self.recording {
            recording.flush();
        }
        let batch = std::mem::take(&mut self.batch);
        self.progress.unreleased.fetch_add(1, Ordering::SeqCst);
        let release = self.releaser.sender();
        if self.stored.is_empty() {
            // Nothing to store, and all batches before it are durable.
            let _ = release.send((batch, Ok(None)));
            return;
        }
        let stored = std::mem::replace(&mut self.stored, self.store.batch());
        self.progress.unsynced.fetch_add(1, Ordering::SeqCst);
        self.parts.metrics.record_bytes.add(stored.bytes());
        let progress = Arc::clone(&self.progress);
        let metrics = Arc::clone(&self.parts.metrics);
        let inbox = self.parts.inbox.clone();
        let begun = Instant::now();
        let done = move |outcome: Result<store::Committed, store::Error>| {
            metrics.commit.note(begun.elapsed());
            if outcome.is_err() {
                progress.fenced.store(true, Ordering::SeqCst);
            }
            let outcome = outcome.map(Some).map_err(|error| format!("{:#}", anyhow::Error::from(error)));
            // The releaser lives as long as there are batches.
            let _ = release.send((batch, outcome));
            progress.unsynced.fetch_sub(1, Ordering::SeqCst);
            inbox.progress();
        };
        self.store.commit(stored, Box::new(done));
    }

    /// Holds space for an input that admits no work, of about `bytes` of records. `false`: not now.
    fn essential(&mut self, bytes: u64) -> bool {
        match keeper::admit(&self.store, &mut self.stored, Class::Essential, bytes, &[]) {
            Room::Yes => {
                self.full_since = None;
                true
            }
            Room::NextBatch => false,
            Room::Full => {
                if self.full_since.is_none() {
                    tracing::error!(
                        "not even the reserve of the journal is left: everything waits for space"
                    );
                }
                self.full_since.get_or_insert_with(Instant::now);
                self.look_again = Some(Instant::now() + FULL_PAUSE);
                false
            }
            Room::Fenced => {
                self.fence();
                false
            }
        }
    }

    fn fence(&mut self) {
        self.progress.fenced.store(true, Ordering::SeqCst);
    }

    fn configure(&mut self, settings: Arc<Settings>) {
        self.settings = Arc::clone(&settings);
        self.handle(Input::Configure(Arc::clone(&settings)));
        self.batch.settings(settings);
    }

    /// Handles an item of the queue; one for which there is no space now comes back.
    fn item(&mut self, item: Item) -> Option<Item> {
        match item {
            Item::Submit { submit, bodies, reply } => return self.submit(submit, bodies, reply),
            Item::Command { asker, command, body, reply } => {
                return self.command(asker, command, body, reply);
            }
            Item::Stop => self.end = Some(End::Stopped),
            Item::EpochSeen(seen) => {
                if seen > self.machine.state().epoch {
                    self.end.get_or_insert(End::EpochSeen(seen));
                }
            }
            other if !self.essential(essential_bytes(&other)) => return Some(other),
            Item::Registered(registration) => {
                if let Some(settings) = dynamic::with_node(&self.settings, &registration.definition) {
                    self.configure(settings);
                }
                self.planning.met();
                self.handle(Input::Registered(registration));
            }
            Item::Report { session, run, report } => {
                if let Some(node) = self.node_of(session) {
                    self.handle(Input::Report { node, run, report });
                }
            }
            Item::Gpus { session, gpus } => {
                if let Some(node) = self.node_of(session) {
                    self.handle(Input::GpusObserved { node, gpus });
                }
            }
            Item::HookEnded { run, exit, detail } => self.handle(Input::HookEnded { run, exit, detail }),
            Item::SessionEnded { session } => {
                if let Some(node) = self.node_of(session) {
                    self.current.remove(&node);
                    self.handle(Input::Disconnected { node });
                }
                self.sessions.remove(&session);
            }
            Item::Configure { settings, reply } => {
                let settings = dynamic::with_known(&settings, self.machine.state());
                self.configure(settings);
                self.batch.releases.push(Release::Configured(reply));
            }
        }
        None
    }

    /// The node of a session, if it is the node's present one.
    fn node_of(&self, session: u64) -> Option<NodeIdx> {
        let node = *self.sessions.get(&session)?;
        (self.current.get(&node) == Some(&session)).then_some(node)
    }
}

/// A bound of the records that an item brings, bytes.
fn essential_bytes(item: &Item) -> u64 {
    match item {
        Item::Registered(registration) => ESSENTIAL_BYTES + registration.runs.len() as u64 * 1024,
        Item::Configure { settings, .. } => {
            let shown = settings.nodes.len() + settings.partitions.len() * 16;
            ESSENTIAL_BYTES + shown as u64 * 1024
        }
        _ => ESSENTIAL_BYTES,
    }
}
