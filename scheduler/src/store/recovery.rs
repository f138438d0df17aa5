//! Opening: lock, newest good snapshot, replay of the journal behind it, a check of the last frame's bodies.
//!
//! Replay and live running use the same `apply`. A record that cannot be read or does not fit stops the
//! start with its place; nothing is written before everything was read.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Disk, Frame, Journal, Kind, Recovered, Sequence, segment_name};
use model::id::{BodyHash, JobId};
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::Phase;

use super::bodies::{Bodies, each_body};
use super::history::{History, RecordPlace, RowMaker};
use super::{Error, Settings, layout, snapshot};

/// What was found at the opening.
#[derive(Debug)]
pub struct Report {
    /// What the journal found: frames, lineage, torn tail.
    pub journal: journal::Recovery,
    /// Frame of the snapshot that was taken; `None`: the journal alone.
    pub snapshot: Option<u64>,
    /// Frames behind the snapshot.
    pub frames_replayed: u64,
    /// Their records.
    pub records_replayed: u64,
    /// The last frame was given up, since a body that it refers to is missing: it was never acknowledged.
    pub last_frame_rejected: bool,
    /// Number of bodies.
    pub bodies: usize,
    /// Jobs that wait or run and whose script or environment is gone: damage.
    pub jobs_without_bodies: Vec<JobId>,
    /// Files that could not be read and were not needed.
    pub unreadable: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// A recovered store, without its threads.
pub(super) struct Found {
    pub(super) state: State,
    pub(super) journal: Journal,
    pub(super) bodies: Arc<Bodies>,
    pub(super) history: Arc<History>,
    pub(super) report: Report,
}

/// Applies frames to a state, making the rows of jobs that end on the way.
pub(super) struct Replay<'a, 'b> {
    pub(super) state: State,
    pub(super) rows: Option<(&'a History, &'a mut RowMaker<'b>)>,
    pub(super) frames: u64,
    pub(super) records: u64,
}

impl Replay<'_, '_> {
    /// Applies the records of a frame, decoded before.
    fn apply(&mut self, frame: &Frame<'_>, file: &str, records: &[(usize, Record)]) -> Result<(), Error> {
        let sequence = frame.sequence().0;
        for (number, (place, record)) in (0..).zip(records) {
            if let Some((history, maker)) = &mut self.rows {
                history.observe(&self.state, RecordPlace { sequence, record: number }, record, &mut **maker);
            }
            snapshot::apply_checked(&mut self.state, record, file, frame, *place)?;
        }
        self.frames += 1;
        self.records += records.len() as u64;
        Ok(())
    }

    /// Decodes and applies a frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let file = segment_name(frame.segment());
        let records = decode(frame, &file)?;
        self.apply(frame, &file, &records)
    }
}

/// The records of a frame with their places.
fn decode(frame: &Frame<'_>, file: &str) -> Result<Vec<(usize, Record)>, Error> {
    let mut records = Vec::with_capacity(frame.record_count());
    for (place, bytes) in frame.records().enumerate() {
        let record = scheduler_codec::read_record(bytes).map_err(|source| Error::Record {
            file: file.to_owned(),
            offset: frame.offset(),
            record: place,
            source,
        })?;
        records.extend(record.map(|record| (place, record)));
    }
    Ok(records)
}

/// Opens the state folder and becomes its owner.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    settings: &Settings,
    maker: &mut RowMaker<'_>,
) -> Result<Found, Error> {
    // Only for the report.
    let begun = Instant::now();
    let mut recovered = Recovered::open(Arc::clone(disk), settings.journal.clone())?;
    for name in layout::list(&**disk)?.iter().filter(|name| layout::is_unfinished(name)) {
        layout::remove_if_there(&**disk, name)?;
    }
    let lineage = recovered.recovery().lineage;
    let bodies = Bodies::open(Arc::clone(disk), settings.body_file_bytes)?;
    let (history, unreadable) = History::open(Arc::clone(disk), lineage, settings.history)?;
    let mut unreadable: Vec<String> = unreadable.iter().map(tell).collect();
    let (base, state) = newest_snapshot(&**disk, &recovered, &mut unreadable)?;
    let mut replay = Replay { state, rows: Some((&history, maker)), frames: 0, records: 0 };
    let rejected = replay_behind(base.unwrap_or(0), &recovered, &bodies, &mut replay)?;
    let Replay { state, frames, records, .. } = replay;
    if rejected {
        recovered.reject_last()?;
    }
    let journal_report = recovered.recovery().clone();
    history.observed(journal_report.last_sequence.0);
    let report = Report {
        snapshot: base,
        frames_replayed: frames,
        records_replayed: records,
        last_frame_rejected: rejected,
        bodies: bodies.size().0,
        jobs_without_bodies: jobs_without_bodies(&state, &bodies),
        unreadable,
        journal: journal_report,
        elapsed: begun.elapsed(),
    };
    let journal = recovered.start()?;
    Ok(Found { state, journal, bodies, history: Arc::new(history), report })
}

fn tell(error: &Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The newest snapshot that can be read, with its frame; an empty state where the journal is whole without one.
fn newest_snapshot(
    disk: &dyn Disk,
    recovered: &Recovered,
    unreadable: &mut Vec<String>,
) -> Result<(Option<u64>, State), Error> {
    let found = recovered.recovery();
    let first = found.first_sequence.map_or(1, |first| first.0);
    let snapshots = snapshot::list(disk)?;
    for sequence in snapshots.iter().rev().copied() {
        if sequence > found.last_sequence.0 {
            unreadable.push(format!("{}: its frame is not in the journal", layout::snapshot_name(sequence)));
            continue;
        }
        if sequence + 1 < first {
            break;
        }
        match snapshot::read(disk, found.lineage, sequence) {
            Ok(state) => return Ok((Some(sequence), state)),
            // What a newer version wrote, and what does not fit, is not skipped: an older snapshot would be no better.
            Err(error @ (Error::Record { .. } | Error::Apply { .. })) => return Err(error),
            Err(error @ Error::Journal(journal::Error::NewerFormat { .. })) => return Err(error),
            Err(error) => unreadable.push(tell(&error)),
        }
    }
    // Frames that are in snapshots alone are not lost without a word.
    if first > 1 || snapshots.last().is_some_and(|newest| *newest > found.last_sequence.0) {
        return Err(Error::NoSnapshot { first, tried: snapshots.len() });
    }
    Ok((None, State::default()))
}

/// Replays the frames behind `base`; answers whether the last one must be given up.
fn replay_behind(
    base: u64,
    recovered: &Recovered,
    bodies: &Bodies,
    replay: &mut Replay<'_, '_>,
) -> Result<bool, Error> {
    let last = recovered.recovery().last_sequence;
    // Something torn behind the last frame proves that it was durable.
    let ambiguous = recovered.recovery().torn.is_none();
    let mut outcome = Ok(false);
    recovered.replay(Sequence(base + 1), &mut |frame| {
        let file = segment_name(frame.segment());
        outcome = decode(frame, &file).and_then(|records| {
            let is_last = frame.sequence() == last && frame.kind() == Kind::Batch && ambiguous;
            if is_last && refers_to_missing(&replay.state, &records, bodies) {
                return Ok(true);
            }
            replay.apply(frame, &file, &records).map(|()| false)
        });
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

/// Whether the records bring a job or step with a body that is not there.
fn refers_to_missing(before: &State, records: &[(usize, Record)], bodies: &Bodies) -> bool {
    let missing = |hash: &BodyHash| !bodies.contains(hash);
    records.iter().any(|(_, record)| match record {
        // A job that was there before has lost its body by damage, which does not make this frame a torn one.
        Record::Job(job) if before.job(job.id).is_none() => {
            let mut lacks = false;
            each_body(job, |hash| lacks |= missing(hash));
            lacks
        }
        Record::StepCreated { step, .. } => {
            step.spec.as_ref().and_then(|spec| spec.launch.as_ref()).is_some_and(missing)
        }
        _ => false,
    })
}

fn jobs_without_bodies(state: &State, bodies: &Bodies) -> Vec<JobId> {
    let lacks = |job: &&scheduler_core::state::job::Job| {
        let mut lacks = false;
        if !matches!(job.phase, Phase::Ended(_)) {
            each_body(job, |hash| lacks |= !bodies.contains(hash));
        }
        lacks
    };
    state.jobs.values().filter(lacks).map(|job| job.id).collect()
}
