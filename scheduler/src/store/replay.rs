//! Applying stored records: one thread reads and decodes, this one's partner applies, in order.
//!
//! Live running and recovery use the same `apply`; what it asserts becomes an error that names the place.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use journal::Frame;
use model::id::BodyHash;
use scheduler_core::apply::apply_owned;
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::Error;
use super::bodies::{Bodies, each_body};
use super::history::{History, RecordPlace, RowMaker};

/// Pieces that wait to be applied.
const WAITING_MAX: usize = 32;

/// Records of one frame, decoded.
pub(super) struct Piece {
    file: Arc<str>,
    offset: u64,
    sequence: u64,
    /// With the place in the frame.
    pub(super) records: Vec<(usize, Record)>,
    /// The last one, which is given up if it refers to a body that is not there.
    pub(super) in_doubt: bool,
}

impl Piece {
    pub(super) fn new(file: &Arc<str>, offset: u64, sequence: u64) -> Self {
        Self { file: Arc::clone(file), offset, sequence, records: Vec::new(), in_doubt: false }
    }

    /// A frame of the journal.
    pub(super) fn decode(frame: &Frame<'_>, file: &Arc<str>) -> Result<Self, Error> {
        let mut piece = Self::new(file, frame.offset(), frame.sequence().0);
        piece.records.reserve(frame.record_count());
        for (place, bytes) in frame.records().enumerate() {
            let record = scheduler_codec::read_record(bytes).map_err(|source| Error::Record {
                file: file.to_string(),
                offset: frame.offset(),
                record: place,
                source,
            })?;
            piece.records.extend(record.map(|record| (place, record)));
        }
        Ok(piece)
    }
}

/// A state to which records are applied, with the rows of jobs that end on the way.
pub(super) struct Replay<'a, 'b> {
    pub(super) state: State,
    rows: Option<(&'a History, &'a mut RowMaker<'b>)>,
    in_doubt: Option<Piece>,
    pub(super) frames: u64,
    pub(super) records: u64,
}

impl<'a, 'b> Replay<'a, 'b> {
    pub(super) fn new(state: State, rows: Option<(&'a History, &'a mut RowMaker<'b>)>) -> Self {
        Self { state, rows, in_doubt: None, frames: 0, records: 0 }
    }

    /// Applies the piece in doubt, if there is one, unless it refers to a body that is not there; answers whether
    /// everything is applied now.
    pub(super) fn settle(&mut self, bodies: &Bodies) -> Result<bool, Error> {
        let Some(piece) = self.in_doubt.take() else { return Ok(true) };
        if self.refers_to_missing(&piece, bodies) {
            return Ok(false);
        }
        self.apply(Piece { in_doubt: false, ..piece }).map(|()| true)
    }

    fn apply(&mut self, piece: Piece) -> Result<(), Error> {
        assert!(self.in_doubt.is_none(), "nothing follows the piece in doubt");
        if piece.in_doubt {
            self.in_doubt = Some(piece);
            return Ok(());
        }
        let Piece { file, offset, sequence, records, .. } = piece;
        self.frames += 1;
        self.records += records.len() as u64;
        for (number, (place, record)) in (0..).zip(records) {
            if let Some((history, maker)) = &mut self.rows {
                history.observe(&self.state, RecordPlace { sequence, record: number }, &record, &mut **maker);
            }
            // After an assertion the state is given up, so its being half-changed is never seen.
            let state = &mut self.state;
            let applied = catch_unwind(AssertUnwindSafe(|| apply_owned(state, record)));
            applied.map_err(|panic| Error::Apply {
                file: file.to_string(),
                offset,
                record: place,
                assertion: message(&*panic),
            })?;
        }
        Ok(())
    }

    /// Whether the records bring a job or step with a body that is not there.
    fn refers_to_missing(&self, piece: &Piece, bodies: &Bodies) -> bool {
        let missing = |hash: &BodyHash| !bodies.contains(hash);
        piece.records.iter().any(|(_, record)| match record {
            // A job that was there before has lost its body by damage, which does not make this frame a torn one.
            Record::Job(job) if self.state.job(job.id).is_none() => {
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
}

/// Runs `source` on this thread, which sends pieces, and applies them on another; both must succeed.
pub(super) fn pipelined<'a, 'b, T>(
    replay: Replay<'a, 'b>,
    source: impl FnOnce(&mut dyn FnMut(Piece) -> ControlFlow<()>) -> Result<T, Error>,
) -> Result<(Replay<'a, 'b>, T), Error> {
    let (sender, pieces) = sync_channel(WAITING_MAX);
    std::thread::scope(|scope| {
        let applying = scope.spawn(move || apply_all(replay, &pieces));
        // A partner that is gone has met an error, which is the one to tell.
        let sent = source(&mut |piece| match sender.send(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        drop(sender);
        let applied = applying.join().unwrap_or(Err(Error::Stopped));
        // An error of the source comes later in the journal than one of what was sent before.
        let replay = applied?;
        Ok((replay, sent?))
    })
}

fn apply_all<'a, 'b>(mut replay: Replay<'a, 'b>, pieces: &Receiver<Piece>) -> Result<Replay<'a, 'b>, Error> {
    while let Ok(piece) = pieces.recv() {
        replay.apply(piece)?;
    }
    Ok(replay)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an assertion").to_owned()
}
