//! Opening: lock, newest good snapshot, replay of the journal behind it, a check of the last frame's bodies.
//!
//! Replay and live running use the same `apply`. A record that cannot be read or does not fit stops the
//! start with its place; nothing is written before everything was read.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Disk, Journal, Kind, Recovered, SegmentId, Sequence, segment_name};
use model::id::JobId;
use scheduler_core::state::State;
use scheduler_core::state::job::Phase;

use super::bodies::{Bodies, each_body};
use super::history::{History, RowMaker};
use super::replay::{Piece, Replay, pipelined};
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

/// Opens the state folder and becomes its owner.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    settings: &Settings,
    maker: &mut RowMaker<'_>,
) -> Result<Found, Error> {
    // Only for the report.
    let begun = Instant::now();
    // What the newest snapshot covers need not be read; where that one cannot be read, it is, and is checked then.
    let covered = Sequence(snapshot::list(&**disk)?.last().copied().unwrap_or(0));
    let options = journal::Options { covered, ..settings.journal.clone() };
    let mut recovered = Recovered::open(Arc::clone(disk), options)?;
    for name in layout::list(&**disk)?.iter().filter(|name| layout::is_unfinished(name)) {
        layout::remove_if_there(&**disk, name)?;
    }
    let lineage = recovered.recovery().lineage;
    let (history, unreadable) = History::open(Arc::clone(disk), lineage, settings.history)?;
    let mut unreadable: Vec<String> = unreadable.iter().map(tell).collect();
    // Headers of bodies are read beside all of it; only the last frame asks for them.
    let (bodies, replayed) = std::thread::scope(|scope| {
        let bodies = scope.spawn(|| Bodies::open(Arc::clone(disk), settings.body_file_bytes));
        let replayed = newest_snapshot(&**disk, &recovered, &mut unreadable).and_then(|(base, state)| {
            let replay = Replay::new(state, Some((&history, maker)));
            Ok((base, replay_behind(base.unwrap_or(0), &recovered, replay)?))
        });
        (bodies.join().unwrap_or(Err(Error::Stopped)), replayed)
    });
    let (bodies, (base, mut replay)) = (bodies?, replayed?);
    let given_up = !replay.settle(&bodies)?;
    let Replay { state, frames, records, .. } = replay;
    if given_up {
        recovered.reject_last()?;
    }
    let journal_report = recovered.recovery().clone();
    history.observed(journal_report.last_sequence.0);
    let report = Report {
        snapshot: base,
        frames_replayed: frames,
        records_replayed: records,
        last_frame_rejected: given_up,
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

/// Replays the frames behind `base`; the last one may be given up.
fn replay_behind<'a, 'b>(
    base: u64,
    recovered: &Recovered,
    replay: Replay<'a, 'b>,
) -> Result<Replay<'a, 'b>, Error> {
    let last = recovered.recovery().last_sequence;
    // Something torn behind the last frame proves that it was durable.
    let ambiguous = recovered.recovery().torn.is_none();
    let (replay, ()) = pipelined(replay, |send| {
        let mut file: (SegmentId, Arc<str>) = (SegmentId(0), "".into());
        let mut failed = None;
        recovered.replay(Sequence(base + 1), &mut |frame| {
            if file.0 != frame.segment() {
                file = (frame.segment(), segment_name(frame.segment()).into());
            }
            match Piece::decode(frame, &file.1) {
                Ok(mut piece) => {
                    piece.in_doubt = frame.sequence() == last && frame.kind() == Kind::Batch && ambiguous;
                    send(piece)
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    })?;
    Ok(replay)
}

fn jobs_without_bodies(state: &State, bodies: &Bodies) -> Vec<JobId> {
    let lacks = |job: &&Arc<scheduler_core::state::job::Job>| {
        let mut lacks = false;
        if !matches!(job.phase, Phase::Ended(_)) {
            each_body(job, |hash| lacks |= !bodies.contains(hash));
        }
        lacks
    };
    state.jobs.values().filter(lacks).map(|job| job.id).collect()
}
