//! Finished jobs: each ended run as a row, made when its record is durable and kept for long.
//!
//! ```text
//!  durable records ─► observe ─► recent rows (memory) ─► flush ─► history file ─► index
//!                                     └──────────── query ────────────┴─────────────┘
//! ```
//! A row is made from the record that ends a run and the state just before it. Rows of frames that no
//! history file covers are in memory, and come back from the journal at recovery; a segment is removed only
//! after the rows of its frames are in a durable file. Queries work without the index, by reading files.
//!
//! Invariants: the rows of frame f are in a file if f ≤ `covered`, else in memory; never in both.

pub(crate) mod file;
mod query;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::{Disk, DiskFile, Lineage, RECORD_OVERHEAD_BYTES, read_full_at};
use model::array::TaskSet;
use model::id::{BodyHash, JobId, RequestKey, Uid};
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use prost::Message;
use proto::v1;
use scheduler_codec::{Call, Entry, HistoryRow, RowGlance};
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{Bodies, Job, Phase};

pub use query::Query;

use super::bodies::Bodies as Store;
use super::index::Index;
use super::index::blocks::{Block, Wanted};
use super::{Error, layout};
use file::{FileFacts, RowPlace};
use query::end_of;

/// Makes the row of a job as queries show it, steps included; the job is in its last phase.
pub type RowMaker<'a> = dyn FnMut(&State, &Job) -> v1::Job + Send + 'a;

/// Whose a job is, and a body of it, where that is kept.
pub type OwnedBody = (Uid, Option<Vec<u8>>);

/// How long a call's key is known after its job has ended.
pub const KEY_KEPT: Span = Span::from_secs(24 * 60 * 60);

/// Bytes between two blocks that are read with them rather than passed over: a frame's end is among them.
const GAP_BYTES: u64 = 8 << 10;
/// Bytes of one read, unless one block has more.
const READ_BYTES: u64 = 1 << 20;

/// What is kept of a job beside what always is (AccountingStoreFlags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// `job_comment`: the comment.
    pub comment: bool,
    /// `job_extra`: the text of `--extra`.
    pub extra: bool,
    /// `job_script`: the script of a batch job.
    pub script: bool,
    /// `job_env`: the environment of a batch job.
    pub environment: bool,
}

impl Kept {
    /// By the words of AccountingStoreFlags, in lower case.
    #[must_use]
    pub fn of<T: AsRef<str>>(words: &[T]) -> Self {
        let has = |word: &str| words.iter().any(|other| other.as_ref() == word);
        Self {
            comment: has("job_comment"),
            extra: has("job_extra"),
            script: has("job_script"),
            environment: has("job_env"),
        }
    }

    /// Takes what is not kept out of a row.
    pub fn strip(self, row: &mut v1::Job) {
        let Some(rare) = row.request.as_mut().and_then(|request| request.rare.as_mut()) else { return };
        if !self.comment {
            rare.comment = None;
        }
        if !self.extra {
            rare.extra = None;
        }
    }
}

/// What is kept in history, and how long. Files go whole, the oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Rows of jobs that ended longer ago may go. Default: 366 days.
    pub keep: Span,
    /// Most bytes of all files together; beyond, the oldest go even if they are young. Default: 16 GiB.
    pub max_bytes: u64,
    /// What is kept of a job. Default: only what always is.
    pub kept: Kept,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep: Span::from_secs(366 * 24 * 60 * 60), max_bytes: 16 << 30, kept: Kept::default() }
    }
}

/// A row that a query means.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// First frame of its file's range; 0 for one that is in memory.
    file: u64,
    /// The bytes of the entry.
    entry: &'a [u8],
    /// What queries look at in them.
    pub row: RowGlance<'a>,
}

/// The place of a record in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// Its frame.
    pub sequence: u64,
    /// Which record of the core in that frame, from 0.
    pub record: u32,
}

/// A row that is not in a file yet.
#[derive(Clone, Debug)]
struct Recent {
    job: u32,
    array: Option<u32>,
    uid: u32,
    submit_ms: i64,
    end_ms: i64,
    key: RequestKey,
    sequence: u64,
    bytes: Arc<[u8]>,
    /// What its file will hold too.
    bodies: [Option<BodyHash>; 2],
}

#[derive(Debug, Default)]
struct Inner {
    recent: VecDeque<Recent>,
    /// By their first frame.
    files: BTreeMap<u64, FileFacts>,
    covered: u64,
    observed: u64,
}

/// Finished jobs.
pub struct History {
    disk: Arc<dyn Disk>,
    lineage: Lineage,
    settings: Mutex<Settings>,
    inner: Mutex<Inner>,
    /// Held by whoever writes or removes a file.
    writing: Mutex<()>,
    index: Mutex<Option<Arc<Index>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tells two requests under one key apart: a hash of all that was asked, bodies included.
#[must_use]
pub fn request_digest(request: &JobRequest, bodies: &Bodies) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(&proto::convert::request::outwards(request).encode_to_vec());
    hash.update(&bodies.script.map_or([0; 32], |script| script.0));
    hash.update(&bodies.environment.0);
    *hash.finalize().as_bytes()
}

/// The run that a record ends, as a job in its last phase, and whether it goes back to the queue.
fn ended_run(before: &State, record: &Record) -> Option<(Job, bool)> {
    let (id, ended, requeued) = match record {
        Record::JobEnded { job, ended } => (*job, ended, false),
        // An ended job that is requeued has its row already.
        Record::JobRequeued { job, ended, .. } if before.job(*job)?.ended().is_none() => (*job, ended, true),
        _ => return None,
    };
    let job = before.job(id)?;
    Some((Job { phase: Phase::Ended(ended.clone()), ..job.clone() }, requeued))
}

impl History {
    /// Finds the history files in a folder. Files that cannot be read are left alone and named in the answer.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn open(
        disk: Arc<dyn Disk>,
        lineage: Lineage,
        settings: Settings,
    ) -> Result<(Self, Vec<Error>), Error> {
        let mut inner = Inner::default();
        let mut unreadable = Vec::new();
        for name in layout::list(&*disk)? {
            let Some((_, last)) = layout::history_of(&name) else { continue };
            // Even the rows of a file that cannot be read are not made again: nobody knows which they were, and
            // the frames that held them may be gone.
            inner.covered = inner.covered.max(last);
            match file::facts(&*disk, lineage, &name) {
                Ok(facts) => {
                    inner.files.insert(facts.begin.first, facts);
                }
                Err(error) => unreadable.push(error),
            }
        }
        inner.observed = inner.covered;
        let (inner, writing, index) = (Mutex::new(inner), Mutex::new(()), Mutex::new(None));
        let settings = Mutex::new(settings);
        Ok((Self { disk, lineage, settings, inner, writing, index }, unreadable))
    }

    /// These are in force from now on; what is in files stays as it is until it is purged.
    pub fn set_settings(&self, settings: Settings) {
        *locked(&self.settings) = settings;
    }

    /// What is in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        *locked(&self.settings)
    }

    /// Makes the row of the run that a durable record ends, if it ends one. To be called with the state just
    /// before the record, for every record in order; rows that a file covers are not made again.
    pub fn observe(&self, before: &State, at: RecordPlace, record: &Record, maker: &mut RowMaker<'_>) {
        // Most records end nothing, and cost nothing here.
        let Some((job, requeued)) = ended_run(before, record) else { return };
        if at.sequence <= locked(&self.inner).covered {
            return;
        }
        let kept = self.settings().kept;
        let mut shown = maker(before, &job);
        kept.strip(&mut shown);
        let script = job.bodies.script.filter(|_| kept.script);
        let environment = (kept.environment && job.bodies.script.is_some()).then_some(job.bodies.environment);
        let row = HistoryRow {
            job: shown,
            key: job.key,
            requeued,
            sequence: at.sequence,
            record: at.record,
            request_digest: request_digest(&job.request, &job.bodies).to_vec(),
            script,
            environment,
        };
        let (array, uid, submit_ms, end_ms) =
            (row.job.array_job_id, row.job.uid, row.job.submit_ms, end_of(&row.job));
        let mut bytes = Vec::new();
        Entry::HistoryRow(Box::new(row)).encode(&mut bytes);
        let recent = Recent {
            job: job.id.0,
            array,
            uid,
            submit_ms,
            end_ms,
            key: job.key,
            sequence: at.sequence,
            bytes: bytes.into(),
            bodies: [script, environment],
        };
        locked(&self.inner).recent.push_back(recent);
    }

    /// Says that all records up to this frame were observed.
    pub fn observed(&self, sequence: u64) {
        let mut inner = locked(&self.inner);
        inner.observed = inner.observed.max(sequence);
    }

    /// The last frame whose records were all observed.
    #[must_use]
    pub fn observed_through(&self) -> u64 {
        locked(&self.inner).observed
    }

    /// The last frame whose rows are in files.
    #[must_use]
    pub fn covered_through(&self) -> u64 {
        locked(&self.inner).covered
    }

    /// How many rows are in memory, their bytes, how many files there are, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64, usize, u64) {
        let inner = locked(&self.inner);
        let recent = inner.recent.iter().map(|row| row.bytes.len() as u64).sum();
        let files = inner.files.values().map(|file| file.bytes).sum();
        (inner.recent.len(), recent, inner.files.len(), files)
    }

    /// The bodies that rows in memory refer to: they must not go before the rows are in a file.
    #[must_use]
    pub fn wanted_bodies(&self) -> Vec<BodyHash> {
        locked(&self.inner).recent.iter().flat_map(|row| row.bodies).flatten().collect()
    }

    /// Moves the rows of frames up to `through` from memory to a file, with copies of the bodies that are kept. Answers
    /// how many.
    ///
    /// # Errors
    /// The operating system's word, a full disk included; then the rows stay in memory.
    ///
    /// # Panics
    /// If frames up to there were not observed yet.
    pub fn flush(&self, through: u64, bodies: &Store) -> Result<usize, Error> {
        let _writing = locked(&self.writing);
        let (first, rows) = {
            let inner = locked(&self.inner);
            assert!(inner.observed >= through, "rows are flushed after their records were observed");
            let rows: Vec<Recent> =
                inner.recent.iter().take_while(|row| row.sequence <= through).cloned().collect();
            (inner.covered + 1, rows)
        };
        if rows.is_empty() || first > through {
            return Ok(0);
        }
        let body_of = |hash: &BodyHash| match bodies.get(hash) {
            Ok(body) => Ok(body.map(|body| body.to_vec())),
            // One body that cannot be read keeps no row from its file.
            Err(Error::BodyDamage { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let facts = file::write(&self.disk, self.lineage, (first, through), &rows, &body_of)?;
        let mut inner = locked(&self.inner);
        inner.recent.drain(..rows.len());
        inner.covered = through;
        inner.files.insert(first, facts);
        drop(inner);
        if let Some(index) = self.index() {
            index.add(facts);
        }
        Ok(rows.len())
    }

    /// Removes files that are too old or too many. Answers how many.
    ///
    /// # Errors
    /// The operating system's word.
    pub fn purge(&self, now: Timestamp) -> Result<usize, Error> {
        let _writing = locked(&self.writing);
        let Settings { keep, max_bytes, .. } = self.settings();
        let oldest = now.saturating_sub(keep);
        let mut removed = 0;
        loop {
            let victim = {
                let inner = locked(&self.inner);
                let total: u64 = inner.files.values().map(|file| file.bytes).sum();
                let first = inner.files.values().next().copied();
                // The newest file says how far history reaches: it stays.
                first.filter(|file| {
                    inner.files.len() > 1 && (file.begin.latest_end_ms < oldest.0 || total > max_bytes)
                })
            };
            let Some(victim) = victim else { return Ok(removed) };
            if let Some(index) = self.index() {
                index.remove(victim);
            }
            locked(&self.inner).files.remove(&victim.begin.first);
            layout::remove_if_there(&*self.disk, &victim.name())?;
            removed += 1;
        }
    }

    /// Gives history its index; it gets the files that are there now. `None` takes it away.
    pub fn set_index(&self, index: Option<Arc<Index>>) {
        // No file comes or goes meanwhile.
        let _writing = locked(&self.writing);
        if let Some(index) = &index {
            index.begin(locked(&self.inner).files.values().copied().collect());
        }
        *locked(&self.index) = index;
    }

    fn index(&self) -> Option<Arc<Index>> {
        locked(&self.index).clone()
    }

    /// Shows the rows that a query means, each once, older files first, until `visit` breaks. See [`scan`](Self::scan).
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn query(
        &self,
        query: &Query,
        visit: &mut dyn FnMut(HistoryRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut damage = None;
        let mut each = |found: Found<'_>| match read_row(found.entry) {
            Ok(row) => visit(row),
            Err(error) => {
                damage = Some(error);
                ControlFlow::Break(())
            }
        };
        self.scan(query, &mut each)?;
        damage.map_or(Ok(()), Err)
    }

    /// The same without building the rows.
    ///
    /// Cost: by index, the blocks in which such rows may be are read, with one read for neighbours, and a microsecond goes
    /// for each of their rows; without, every file that overlaps the window is read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn scan(
        &self,
        query: &Query,
        visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let means = |row: &Recent| {
            query.means_job(row.job, row.array)
                && query.in_window(row.submit_ms, row.end_ms)
                && (query.uids.is_empty() || query.uids.contains(&row.uid))
        };
        let (files, recent) = self.look(means);
        let mut matching = |found: Found<'_>| {
            if query.matches(&found.row) { visit(found) } else { ControlFlow::Continue(()) }
        };
        if self.read_files(&files, &Wanted::new(query), &mut matching)?.is_break() {
            return Ok(());
        }
        for entry in recent {
            if matching(Found { file: 0, entry: &entry, row: glance(&entry)? }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The files, and the recent rows that are meant, as they are at one moment.
    fn look(&self, means: impl Fn(&Recent) -> bool) -> (BTreeMap<u64, FileFacts>, Vec<Arc<[u8]>>) {
        let inner = locked(&self.inner);
        let recent = inner.recent.iter().filter(|row| means(row)).map(|row| Arc::clone(&row.bytes));
        (inner.files.clone(), recent.collect())
    }

    /// Shows all rows that are wanted, and others, of files that overlap the query's window.
    fn read_files(
        &self,
        files: &BTreeMap<u64, FileFacts>,
        wanted: &Wanted<'_>,
        visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let indexed = self.index().map(|index| index.indexed()).unwrap_or_default();
        let mut buffer = Vec::new();
        for (first, facts) in files {
            if !wanted.query().in_window(facts.begin.earliest_submit_ms, facts.begin.latest_end_ms) {
                continue;
            }
            let gone_on = match indexed.get(first) {
                Some(blocks) => {
                    let blocks: Vec<&Block> = blocks.iter().filter(|block| wanted.may_be_in(block)).collect();
                    self.read_blocks(facts, &blocks, &mut buffer, visit)?
                }
                None => self.read_file(facts, visit)?,
            };
            if gone_on.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read_file(
        &self,
        facts: &FileFacts,
        visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut each = |place: RowPlace, entry: &[u8], row: &RowGlance<'_>| {
            visit(Found { file: place.file, entry, row: *row })
        };
        match file::each_row(&*self.disk, self.lineage, facts, &mut each) {
            // It was purged meanwhile.
            Err(Error::Journal(journal::Error::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(ControlFlow::Continue(()))
            }
            outcome => outcome,
        }
    }

    fn read_blocks(
        &self,
        facts: &FileFacts,
        blocks: &[&Block],
        buffer: &mut Vec<u8>,
        visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        // Its file may be gone.
        let Some(file) = (if blocks.is_empty() { None } else { self.open_file(facts)? }) else {
            return Ok(ControlFlow::Continue(()));
        };
        let mut left = blocks;
        while let Some(first) = left.first() {
            let near = neighbours(left);
            let end = near.last().map_or(first.offset, |last| last.offset + u64::from(last.bytes));
            // At most READ_BYTES, or one block.
            buffer.resize((end - first.offset) as usize, 0);
            read_full_at(&*file, first.offset, buffer)
                .map_err(|error| Error::io("read", facts.name(), error))?;
            for block in near {
                let mut rest = &buffer[(block.offset - first.offset) as usize..];
                for _ in 0..block.rows {
                    let entry = take_record(&mut rest).ok_or_else(|| damage("a row that is cut"))?;
                    let found = Found { file: facts.begin.first, entry, row: glance(entry)? };
                    if visit(found).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            left = &left[near.len()..];
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A history file; `None` if it was purged meanwhile.
    fn open_file(&self, facts: &FileFacts) -> Result<Option<Arc<dyn DiskFile>>, Error> {
        let name = facts.name();
        match self.disk.open(&name) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &name, error)),
        }
    }

    /// The last run of the job that a call made, if it ended less than [`KEY_KEPT`] ago.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn find_key(&self, uid: Uid, key: RequestKey, now: Timestamp) -> Result<Option<HistoryRow>, Error> {
        let oldest = now.saturating_sub(KEY_KEPT).0;
        let (files, recent) = self.look(|row| row.uid == uid.0 && row.key == key && row.end_ms >= oldest);
        if let Some(bytes) = recent.last() {
            return read_row(bytes).map(Some);
        }
        let query = Query { from_ms: Some(oldest), duplicates: true, ..Query::default() };
        let mut found: Option<Vec<u8>> = None;
        let wanted = Wanted::new(&query).of_call(uid, key);
        let _ = self.read_files(&files, &wanted, &mut |Found { entry, row, .. }| {
            if row.uid == uid.0 && row.key == key && row.end_ms >= oldest {
                found = Some(entry.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        found.map(|entry| read_row(&entry)).transpose()
    }

    /// Whose the job is, and the script (or environment) of its last run, where that is kept; `None`: no such job.
    ///
    /// Cost: by index, the rows of the job and one pass over a file; without, every file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn body(&self, job: JobId, environment: bool, bodies: &Store) -> Result<Option<OwnedBody>, Error> {
        let hash_of = |row: &HistoryRow| if environment { row.environment } else { row.script };
        let (files, recent) = self.look(|row| row.job == job.0);
        if let Some(bytes) = recent.last() {
            let row = read_row(bytes)?;
            let body = hash_of(&row).map(|hash| bodies.get(&hash)).transpose()?.flatten();
            return Ok(Some((Uid(row.job.uid), body.map(|body| body.to_vec()))));
        }
        let query = Query { job_ids: [job.0].into(), duplicates: true, ..Query::default() };
        let mut last: Option<(u64, u32, Vec<u8>)> = None;
        let _ = self.read_files(&files, &Wanted::new(&query), &mut |Found { file, entry, row }| {
            let later = last.as_ref().is_none_or(|(_, run, _)| *run <= row.run);
            if row.job == job.0 && later {
                last = Some((file, row.run, entry.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        let Some((file, _, entry)) = last else { return Ok(None) };
        let row = read_row(&entry)?;
        let body = match (hash_of(&row), files.get(&file)) {
            (Some(hash), Some(facts)) => file::body(&*self.disk, self.lineage, facts, &hash)?,
            _ => None,
        };
        Ok(Some((Uid(row.job.uid), body)))
    }

    /// Shows the calls whose jobs ended at `from` or later: those in files, then those in memory. Cost: a glance at every
    /// row of the files that reach so far.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn calls_since(&self, from: Timestamp, visit: &mut dyn FnMut(Call)) -> Result<(), Error> {
        let (files, recent) = {
            let inner = locked(&self.inner);
            let young = |file: &&FileFacts| file.begin.latest_end_ms >= from.0;
            let files: Vec<FileFacts> = inner.files.values().filter(young).copied().collect();
            let call = |row: &Recent| Call { uid: Uid(row.uid), key: row.key, end: Timestamp(row.end_ms) };
            (files, inner.recent.iter().map(call).collect::<Vec<Call>>())
        };
        let mut since = |call: Call| {
            if call.end >= from {
                visit(call);
            }
        };
        for facts in &files {
            match file::each_call(&*self.disk, self.lineage, facts, &mut since) {
                // It was purged meanwhile.
                Err(Error::Journal(journal::Error::Io { source, .. }))
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        recent.into_iter().for_each(since);
        Ok(())
    }

    /// The numbers of all jobs and arrays that history holds. Cost: every row is read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn job_ids(&self) -> Result<TaskSet, Error> {
        let mut ids = BTreeSet::new();
        let everything = Query { duplicates: true, ..Query::default() };
        self.scan(&everything, &mut |found| {
            ids.insert(found.row.job);
            ids.extend(found.row.array);
            ControlFlow::Continue(())
        })?;
        Ok(TaskSet::from_ids(ids))
    }

    /// Whether history holds a job, or array, of that number.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn holds_job(&self, job: JobId) -> Result<bool, Error> {
        let query = Query { job_ids: [job.0].into(), duplicates: true, ..Query::default() };
        let mut holds = false;
        self.scan(&query, &mut |_| {
            holds = true;
            ControlFlow::Break(())
        })?;
        Ok(holds)
    }
}

/// The first blocks of a list, in order, that are read at once.
fn neighbours<'a, 'b>(blocks: &'a [&'b Block]) -> &'a [&'b Block] {
    let mut end = None;
    let near = blocks.iter().take_while(|block| {
        let next = block.offset + u64::from(block.bytes);
        let near =
            end.is_none_or(|end| block.offset - end <= GAP_BYTES && next - blocks[0].offset <= READ_BYTES);
        end = Some(next);
        near
    });
    &blocks[..near.count()]
}

/// The record that stands first, taken off.
fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<{ RECORD_OVERHEAD_BYTES as usize }>()?;
    let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(record)
}

fn damage(what: &'static str) -> Error {
    Error::Snapshot { file: "history".to_owned(), what }
}

fn glance(bytes: &[u8]) -> Result<RowGlance<'_>, Error> {
    match scheduler_codec::glance(bytes) {
        Ok(Some(row)) => Ok(row),
        Ok(None) => Err(damage("an entry that is no row")),
        Err(_) => Err(damage("a row that cannot be read")),
    }
}

fn read_row(bytes: &[u8]) -> Result<HistoryRow, Error> {
    match scheduler_codec::read(bytes) {
        Ok(Entry::HistoryRow(row)) => Ok(*row),
        Ok(_) => Err(damage("an entry that is no row")),
        Err(_) => Err(damage("a row that cannot be read")),
    }
}
