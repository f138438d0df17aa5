//! A store with a random controller over it, and views that see what is durable.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use journal::memory::MemoryDisk;
use journal::{Class, Disk};
use model::time::Span;
use proto::v1;
use scheduler_codec::{Digest, digest};
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Job};

use super::random::Random;
use crate::store::bodies::each_body;
use crate::store::history::{History, Kept, Query, RecordPlace};
use crate::store::{Committed, Error, Opened, Settings, Store, compact, history};

/// A short row: what the tests compare.
pub(super) fn row(_: &State, job: &Job) -> v1::Job {
    let ended = job.ended().expect("rows are made of ended jobs");
    let array = match &job.array {
        ArrayRole::Single => None,
        ArrayRole::Waiting(_) => Some(job.id.0),
        ArrayRole::Element { array, .. } => Some(array.0),
    };
    v1::Job {
        job_id: job.id.0,
        array_job_id: array,
        run: job.run.0,
        uid: job.owner.uid.0,
        account: job.account.to_string(),
        state: ended.state.long().to_owned(),
        submit_ms: job.submit.0,
        start_ms: ended.start.map(|at| at.0),
        end_ms: Some(ended.end.0),
        num_cpus: 2,
        partition: "p".to_owned(),
        request: Some(proto::convert::request::outwards(&job.request)),
        ..v1::Job::default()
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        journal: journal::Options {
            segment_bytes: 16 * 1024,
            spare_segments: 2,
            essential_bytes: 4096,
            ..journal::Options::default()
        },
        body_file_bytes: 16 * 1024,
        compaction: compact::Settings { after_bytes: 1 << 40, ..compact::Settings::default() },
        history: history::Settings {
            keep: Span::from_secs(1 << 30),
            max_bytes: 1 << 40,
            kept: Kept { script: true, environment: true, ..Kept::default() },
        },
        ..Settings::default()
    }
}

pub(super) fn open(disk: impl Disk + 'static) -> Result<Opened, Error> {
    Store::open(Arc::new(disk), settings(), &mut row)
}

/// Job and run of every row, in order.
pub(super) fn rows_of(history: &History) -> Vec<(u32, u32)> {
    let mut rows = Vec::new();
    let query = Query { duplicates: true, ..Query::default() };
    let each = &mut |row: scheduler_codec::HistoryRow| {
        rows.push((row.job.job_id, row.job.run));
        ControlFlow::Continue(())
    };
    history.query(&query, each).unwrap();
    rows
}

/// Every body that a state refers to is there.
#[track_caller]
pub(super) fn check_bodies(state: &State, store: &Store) {
    for job in state.jobs.values() {
        each_body(job, |hash| assert!(store.bodies().get(hash).unwrap().is_some(), "job {}", job.id));
    }
}

/// What was true after each batch, by number of batches.
#[derive(Clone, Default)]
pub(super) struct Story {
    pub(super) digests: Vec<Digest>,
    pub(super) rows: Vec<Vec<(u32, u32)>>,
    /// Batches handed over, and batches acknowledged.
    pub(super) handed: usize,
    pub(super) acknowledged: usize,
}

impl Story {
    /// A recovered store shows one of the states between what was acknowledged and what was handed over; which.
    #[track_caller]
    pub(super) fn check(&self, opened: &Opened) -> usize {
        let found = digest(&opened.state);
        let at = (self.acknowledged..=self.handed).find(|at| self.digests[*at] == found);
        let at = at.unwrap_or_else(|| {
            let other = self.digests.iter().position(|digest| *digest == found);
            panic!("state {other:?} is none of {}..={}", self.acknowledged, self.handed);
        });
        check_bodies(&opened.state, &opened.store);
        assert_eq!(rows_of(opened.store.history()), self.rows[at], "the history of state {at}");
        at
    }
}

type Waiting = (Receiver<Result<Committed, Error>>, Vec<Record>);

/// One owner of the store.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) store: Store,
    pub(super) story: Arc<Mutex<Story>>,
    view: State,
    rows: Vec<(u32, u32)>,
    runs: BTreeMap<u32, u32>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// The first owner of an empty folder.
    pub(super) fn begin(seed: u64, disk: &MemoryDisk) -> Self {
        let story =
            Story { digests: vec![digest(&State::default())], rows: vec![Vec::new()], ..Story::default() };
        let opened = open(disk.clone()).unwrap();
        let mut world = Self {
            random: Random::new(seed),
            store: opened.store,
            story: Arc::new(Mutex::new(story)),
            view: State::default(),
            rows: Vec::new(),
            runs: BTreeMap::new(),
        };
        world.own().unwrap();
        world
    }

    /// A later owner, over what was recovered.
    pub(super) fn resume(&mut self, opened: Opened, at: usize) {
        {
            let mut story = locked(&self.story);
            story.digests.truncate(at + 1);
            story.rows.truncate(at + 1);
            (story.handed, story.acknowledged) = (at, at);
            self.rows.clone_from(&story.rows[at]);
        }
        self.runs = opened.state.jobs.values().map(|job| (job.id.0, job.run.0)).collect();
        self.view = opened.state.clone();
        self.random.state = opened.state;
        self.store = opened.store;
    }

    pub(super) fn own(&mut self) -> Result<(), Error> {
        let records = self.random.own(self.store.epoch());
        self.commit(records)
    }

    /// Stores one random batch and shows it to the views.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let records = self.random.batch();
        self.commit(records)
    }

    pub(super) fn commit(&mut self, records: Vec<Record>) -> Result<(), Error> {
        let waiting = self.hand_over(records)?;
        self.release(waiting)
    }

    /// Hands over a batch without waiting for it.
    pub(super) fn hand_over(&mut self, records: Vec<Record>) -> Result<Waiting, Error> {
        let mut batch = self.store.batch();
        let bodies = std::mem::take(&mut self.random.bodies);
        let lengths: Vec<usize> = bodies.iter().map(|(_, body)| body.len()).collect();
        self.store.admit(&mut batch, Class::Admission, 6000, &lengths)?;
        for record in &records {
            batch.push(record);
            self.note_row(record);
        }
        bodies.into_iter().for_each(|(hash, body)| batch.push_body(hash, body));
        {
            let mut story = locked(&self.story);
            story.digests.push(digest(&self.random.state));
            story.rows.push(self.rows.clone());
            story.handed += 1;
        }
        let (done, wait) = channel();
        self.store.commit(batch, Box::new(move |outcome| drop(done.send(outcome))));
        Ok((wait, records))
    }

    fn note_row(&mut self, record: &Record) {
        let job = match record {
            Record::JobStarted { job, run, .. } => {
                self.runs.insert(job.0, run.0);
                return;
            }
            Record::JobEnded { job, .. } | Record::JobRequeued { job, .. } => *job,
            _ => return,
        };
        self.rows.push((job.0, self.runs[&job.0]));
    }

    /// Waits until a batch is durable, then shows it to the views.
    pub(super) fn release(&mut self, (wait, records): Waiting) -> Result<(), Error> {
        let committed = wait.recv().expect("an outcome always comes")?;
        locked(&self.story).acknowledged += 1;
        let history = self.store.history();
        for (record, fact) in (0..).zip(&records) {
            let at = RecordPlace { sequence: committed.sequence, record };
            history.observe(&self.view, at, fact, &mut row);
            apply(&mut self.view, fact);
        }
        history.observed(committed.sequence);
        Ok(())
    }
}

/// The seeds of a test: some from `first` on; `SLUICE_SEEDS` sets how many, `SLUICE_FIRST_SEED` repeats from one.
pub(super) fn seeds(first: u64, usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SLUICE_FIRST_SEED").unwrap_or(first);
    first..first + number("SLUICE_SEEDS").unwrap_or(usual)
}
