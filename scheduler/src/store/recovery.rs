//! Opening: lock, newest good snapshot, replay of the journal behind it, a check of the last frame's bodies.
//!
//! Replay and live running use the same `apply`. A record that cannot be read or does not fit stops the
//! start with its place; nothing is written before everything was read.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use journal::{Disk, Journal, Kind, Recovered, SegmentId, Sequence, segment_name};
use model::id::JobId;
use scheduler_core::state::State;
use scheduler_core::state::job::Phase;

use super::bodies::{Bodies, each_body};
use super::history::{History, RowMaker};
use super::replay::{Decoders, Raw, Replay, apply_all, pipelined};
use super::snapshot::{self, Early};
use super::{Error, Settings, layout};

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
    let names = layout::list(&**disk)?;
    // What the newest snapshot covers need not be read; where that one cannot be read, it is, and is checked then.
    let newest = names.iter().filter_map(|name| layout::snapshot_of(name)).max();
    let options = journal::Options { covered: Sequence(newest.unwrap_or(0)), ..settings.journal.clone() };
    // Nothing of it counts before the journal has said so.
    let decoders = Decoders::start()?;
    let early = newest.and_then(|sequence| Early::begin(disk, &decoders, sequence));
    let ahead = read_ahead(disk, names);
    let mut recovered = match Recovered::open(Arc::clone(disk), options) {
        Ok(recovered) => recovered,
        Err(error) => {
            early.into_iter().for_each(Early::abandon);
            return Err(error.into());
        }
    };
    for name in layout::list(&**disk)?.iter().filter(|name| layout::is_unfinished(name)) {
        layout::remove_if_there(&**disk, name)?;
    }
    let lineage = recovered.recovery().lineage;
    let (history, unreadable) = History::open(Arc::clone(disk), lineage, settings.history)?;
    let mut unreadable: Vec<String> = unreadable.iter().map(tell).collect();
    // Headers of bodies are read beside all of it; only the last frame asks for them.
    let (bodies, replayed) = std::thread::scope(|scope| {
        let bodies = scope.spawn(|| Bodies::open(Arc::clone(disk), settings.body_file_bytes));
        let replayed = replay_all((disk, &decoders), &recovered, early, (&history, maker), &mut unreadable);
        (bodies.join().unwrap_or(Err(Error::Stopped)), replayed)
    });
    // Only hints were given there.
    let _ = ahead.map(JoinHandle::join);
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
    decoders: &Decoders,
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
        match snapshot::read_by(decoders, disk, found.lineage, sequence) {
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

/// The state after the last frame, with the snapshot that it is built on: the one that was begun early if it counts.
fn replay_all<'a, 'b>(
    (disk, decoders): (&Arc<dyn Disk>, &Decoders),
    recovered: &Recovered,
    early: Option<Early>,
    (history, maker): (&'a History, &'a mut RowMaker<'b>),
    unreadable: &mut Vec<String>,
) -> Result<(Option<u64>, Replay<'a, 'b>), Error> {
    let found = recovered.recovery();
    let first = found.first_sequence.map_or(1, |first| first.0);
    let counts = |early: &Early| {
        let newest = snapshot::list(&**disk).is_ok_and(|all| all.last() == Some(&early.sequence));
        newest && early.sequence <= found.last_sequence.0 && early.sequence + 1 >= first
    };
    let mut state = None;
    match early {
        Some(early) if counts(&early) => {
            // The frames behind it are read and decoded while it is still being applied.
            let base = early.sequence;
            let lineage = found.lineage;
            let rows = &mut *maker;
            let replayed = pipelined(
                decoders,
                |send| frames_behind(base, recovered, send),
                Raw::decode,
                |pieces| match early.finish(lineage) {
                    Some(state) => apply_all(Replay::new(state, Some((history, rows))), pieces).map(Some),
                    None => Ok(None),
                },
            )?;
            if let Some(Replay { state: done, in_doubt, frames, records, .. }) = replayed {
                state = Some((base, done, in_doubt, frames, records));
            }
        }
        Some(early) => early.abandon(),
        None => {}
    }
    if let Some((base, state, in_doubt, frames, records)) = state {
        let replay = Replay { in_doubt, frames, records, ..Replay::new(state, Some((history, maker))) };
        return Ok((Some(base), replay));
    }
    let (base, state) = newest_snapshot(&**disk, decoders, recovered, unreadable)?;
    let replay = Replay::new(state, Some((history, maker)));
    let from = base.unwrap_or(0);
    let replay = pipelined(
        decoders,
        |send| frames_behind(from, recovered, send),
        Raw::decode,
        |pieces| apply_all(replay, pieces),
    )?;
    Ok((base, replay))
}

/// Sends the frames behind `base`; the last one may be given up.
fn frames_behind(base: u64, recovered: &Recovered, send: &mut super::replay::Send<'_>) -> Result<(), Error> {
    let last = recovered.recovery().last_sequence;
    // Something torn behind the last frame proves that it was durable.
    let ambiguous = recovered.recovery().torn.is_none();
    let mut file: (SegmentId, Arc<str>) = (SegmentId(0), "".into());
    recovered.replay(Sequence(base + 1), &mut |frame| {
        if file.0 != frame.segment() {
            file = (frame.segment(), segment_name(frame.segment()).into());
        }
        let in_doubt = frame.sequence() == last && frame.kind() == Kind::Batch && ambiguous;
        send(Raw::whole(&file.1, frame, in_doubt))
    })?;
    Ok(())
}

/// Asks the disk, on a thread of its own, for the files of bodies that will be read: lists, and the newest two, of which
/// one is in use and one is filled ahead. The journal and the snapshot see to theirs.
fn read_ahead(disk: &Arc<dyn Disk>, names: Vec<String>) -> Option<JoinHandle<()>> {
    let disk = Arc::clone(disk);
    let work = move || {
        let mut newest: Vec<u32> = names.iter().filter_map(|name| layout::bodies_of(name)).collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let lists = names.into_iter().filter(|name| layout::body_list_of(name).is_some());
        let newest = newest.into_iter().take(2).map(layout::bodies_name);
        for file in lists.chain(newest).filter_map(|name| disk.open(&name).ok()) {
            file.read_ahead();
        }
    };
    std::thread::Builder::new().name("ahead".to_owned()).spawn(work).ok()
}

fn jobs_without_bodies(state: &State, bodies: &Bodies) -> Vec<JobId> {
    let bodies = bodies.holding();
    let lacks = |job: &&Arc<scheduler_core::state::job::Job>| {
        let mut lacks = false;
        if !matches!(job.phase, Phase::Ended(_)) {
            each_body(job, |hash| lacks |= !bodies.contains(hash));
        }
        lacks
    };
    state.jobs.values().filter(lacks).map(|job| job.id).collect()
}
