//! The read side: a second `State`, fed by durable records only, and what changes with time beside it.
//!
//! Owns the state that queries see, the planner's last verdicts, the executors' vitals, and the news of
//! which jobs changed. Queries never reach the controller and hold the read lock for a chunk at a time;
//! the writer is the releaser, once for each batch.

pub mod filter;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::id::{JobId, NodeIdx, TaskIndex};
use model::time::{Span, Timestamp};
use proto::v1;
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::Job;
use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::rows::job::{Context, Verdict, row};
use crate::rows::node::Vitals;
use filter::Filter;

/// Jobs examined under one read lock.
const CHUNK_EXAMINED: usize = 2048;
/// Rows made under one read lock.
const CHUNK_ROWS: usize = 256;
/// Batches of news that a slow watcher may be behind before it has to begin anew.
const NEWS_MAX: usize = 1024;

/// What queries see.
pub struct View {
    /// The durable state.
    pub state: State,
    /// The configuration in force.
    pub settings: Arc<Settings>,
    /// What the planner last said of waiting jobs.
    pub verdicts: HashMap<JobId, Verdict>,
    /// What executors report with their heartbeats.
    pub vitals: BTreeMap<NodeIdx, Vitals>,
    /// Nodes that an administrator brought back and that have not said anything since.
    pub resumed: BTreeSet<NodeIdx>,
    /// Counts the updates: a row that was read later shows a larger number.
    changes: u64,
}

/// Jobs that changed with one batch.
pub type News = Arc<[JobId]>;

/// The view with its lock, and the news.
pub struct Views {
    view: RwLock<View>,
    news: broadcast::Sender<News>,
    directory: Arc<Directory>,
    clock: Clock,
    /// The state's, to be had without a lock.
    wall_ahead: AtomicI64,
}

/// What a batch brings to the views.
#[derive(Default)]
pub struct Update {
    /// The durable records, in order.
    pub records: Vec<Record>,
    /// The planner's word after these records; jobs it does not name keep what they have.
    pub verdicts: Vec<(JobId, Verdict)>,
    /// A new configuration.
    pub settings: Option<Arc<Settings>>,
}

impl Views {
    /// A view of a recovered state.
    #[must_use]
    pub fn new(state: State, settings: Arc<Settings>, directory: Arc<Directory>, clock: Clock) -> Self {
        let wall_ahead = AtomicI64::new(state.wall_ahead.0);
        let view = View {
            state,
            settings,
            verdicts: HashMap::new(),
            vitals: BTreeMap::new(),
            resumed: BTreeSet::new(),
            changes: 0,
        };
        let (news, _) = broadcast::channel(NEWS_MAX);
        Self { view: RwLock::new(view), news, directory, clock, wall_ahead }
    }

    /// Replaces the state after a recovery within the process.
    pub fn replace(&self, state: State, settings: Arc<Settings>) {
        let mut view = self.write();
        let changed: Vec<JobId> = view.state.jobs.keys().chain(state.jobs.keys()).copied().collect();
        self.wall_ahead.store(state.wall_ahead.0, Ordering::Relaxed);
        view.state = state;
        view.settings = settings;
        view.verdicts.clear();
        view.changes += 1;
        drop(view);
        let _ = self.news.send(changed.into());
    }

    /// The present as the wall clock shows it: what users are told.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.wall_of(self.clock.now())
    }

    /// A time of the state as the wall clock shows it.
    #[must_use]
    pub fn wall_of(&self, own: Timestamp) -> Timestamp {
        own.saturating_add(Span(self.wall_ahead.load(Ordering::Relaxed)))
    }

    /// The present of the daemon's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Names of users and groups.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Read access; hold it for a chunk of work only, never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies what is durable now and spreads the news. Called in the order of the batches.
    ///
    /// `before` is shown each record, with its place, just before it is applied.
    pub fn update(&self, update: Update, mut before: impl FnMut(&View, &Record, u32)) {
        let mut changed = BTreeSet::new();
        let mut view = self.write();
        if let Some(settings) = update.settings {
            view.settings = settings;
        }
        for (place, record) in (0..).zip(&update.records) {
            before(&view, record, place);
            note_resume(&mut view, record);
            apply(&mut view.state, record);
            changed_jobs(record, |id| {
                changed.insert(id);
            });
        }
        for id in &changed {
            // What the planner said before a change of the job is no longer about this job.
            view.verdicts.remove(id);
        }
        for (id, verdict) in update.verdicts {
            let waits = view.state.job(id).is_some_and(|job| job.pending().is_some());
            if !waits {
                continue;
            }
            let news = view
                .verdicts
                .get(&id)
                .is_none_or(|before| (before.reason, &before.planned) != (verdict.reason, &verdict.planned));
            if news {
                changed.insert(id);
            }
            view.verdicts.insert(id, verdict);
        }
        view.changes += 1;
        self.wall_ahead.store(view.state.wall_ahead.0, Ordering::Relaxed);
        drop(view);
        if !changed.is_empty() && self.news.receiver_count() > 0 {
            // Fails only when the last watcher has just left.
            let _ = self.news.send(changed.into_iter().collect());
        }
    }

    /// Keeps what an executor said with its heartbeat.
    pub fn set_vitals(&self, node: NodeIdx, vitals: Vitals) {
        let mut view = self.write();
        view.resumed.remove(&node);
        view.vitals.insert(node, vitals);
    }

    /// News from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// The row of one job, if it is in the view.
    #[must_use]
    pub fn job_row(&self, id: JobId, with_steps: bool) -> Option<v1::Job> {
        let view = self.read();
        view.state.job(id).map(|job| self.row(&view, job, with_steps))
    }

    /// The row of a job of this view.
    #[must_use]
    pub fn row(&self, view: &View, job: &Job, with_steps: bool) -> v1::Job {
        let context = Context {
            state: &view.state,
            settings: &view.settings,
            verdict: view.verdicts.get(&job.id),
            change: view.changes,
            user: &self.directory.user(job.owner.uid),
            group: &self.directory.group(job.owner.gid),
            with_steps,
            now: self.now(),
        };
        row(job, &context)
    }

    /// The next rows that `filter` lets through, behind job `after`, and where to go on.
    ///
    /// Cost: at most 2048 jobs examined and 256 rows made under one read lock.
    #[must_use]
    pub fn jobs_after(
        &self,
        after: Option<JobId>,
        filter: &Filter,
        with_steps: bool,
    ) -> (Vec<v1::Job>, Option<JobId>) {
        let view = self.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = Vec::new();
        let mut examined = 0;
        for (id, job) in view.state.jobs.range((start, Bound::Unbounded)) {
            examined += 1;
            if filter.matches(&view, job) {
                rows.push(self.row(&view, job, with_steps));
            }
            if examined >= CHUNK_EXAMINED || rows.len() >= CHUNK_ROWS {
                return (rows, Some(*id));
            }
        }
        (rows, None)
    }

    /// The rows of jobs that are named: each id means the job and, for an array, all records of it.
    #[must_use]
    pub fn jobs_named(&self, filter: &Filter, with_steps: bool) -> Vec<v1::Job> {
        let view = self.read();
        let mut ids = BTreeSet::new();
        for id in filter.job_ids() {
            if view.state.jobs.contains_key(&id) {
                ids.insert(id);
            }
            let elements = (id, TaskIndex(0))..=(id, TaskIndex(u32::MAX));
            ids.extend(view.state.index.elements.range(elements).map(|(_, element)| *element));
        }
        ids.iter()
            .filter_map(|id| view.state.job(*id))
            .filter(|job| filter.matches(&view, job))
            .map(|job| self.row(&view, job, with_steps))
            .collect()
    }
}

/// A node that was down or drained and is so no more is silent until its executor says something.
fn note_resume(view: &mut View, record: &Record) {
    match record {
        Record::NodeAdmin { node, admin } => {
            let before = &view.state.node(*node).admin;
            let was_out = before.drain || before.down;
            if was_out && !admin.drain && !admin.down {
                view.resumed.insert(*node);
            } else {
                view.resumed.remove(node);
            }
        }
        Record::NodeRegistered { node, .. } | Record::NodeLink { node, .. } => {
            view.resumed.remove(node);
        }
        _ => {}
    }
}

/// Shows the jobs that a record changes.
pub fn changed_jobs(record: &Record, mut each: impl FnMut(JobId)) {
    match record {
        Record::Job(job) => each(job.id),
        Record::ElementSplit { array, id, .. } => {
            each(*array);
            each(*id);
        }
        Record::JobPriority { job, .. }
        | Record::JobWaits { job, .. }
        | Record::JobStarted { job, .. }
        | Record::JobLimit { job, .. }
        | Record::JobConfiguring { job, .. }
        | Record::JobSuspended { job, .. }
        | Record::JobFinishing { job, .. }
        | Record::JobEnded { job, .. }
        | Record::JobRequeued { job, .. }
        | Record::JobPurged(job)
        | Record::StepCreated { job, .. }
        | Record::StepBegun { job, .. }
        | Record::StepUnknown { job, .. }
        | Record::StepNodeEnded { job, .. }
        | Record::StepStopping { job, .. }
        | Record::StepEnded { job, .. } => each(*job),
        Record::Time(_)
        | Record::WallAhead(_)
        | Record::Owner(_)
        | Record::NextJobId(_)
        | Record::IdWraps(_)
        | Record::Restored(_)
        | Record::Stranger { .. }
        | Record::Aging(_)
        | Record::SlicesAsked { .. }
        | Record::Predicting(_)
        | Record::LastRuns(..)
        | Record::NodeDefined { .. }
        | Record::NodeAdmin { .. }
        | Record::NodeLink { .. }
        | Record::NodeRegistered { .. }
        | Record::NodeBusy { .. }
        | Record::PartitionDefined { .. }
        | Record::PartitionRemoved(_)
        | Record::Reservation(..)
        | Record::Charged(_)
        | Record::Array { .. }
        | Record::Promises { .. }
        | Record::Cluster(..)
        | Record::Account(..)
        | Record::User(..)
        | Record::Association(..)
        | Record::Qos(..)
        | Record::AccountNumbers { .. } => {}
    }
}
