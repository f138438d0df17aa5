//! Applying stored records: one thread reads, some decode, one applies, in order.
//!
//! Live running and recovery use the same `apply`; what it asserts becomes an error that names the place.

use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use journal::{Frame, OwnedFrame};
use model::id::BodyHash;
use scheduler_core::apply::apply_owned;
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::Error;
use super::bodies::{Bodies, each_body};
use super::history::{History, RecordPlace, RowMaker};

/// Frames that wait to be applied, decoded or not. A frame is at most a few megabytes, as a rule some tens of kilobytes.
const WAITING_MAX: usize = 32;
/// More threads that decode would wait for the one that applies.
const DECODERS_MAX: usize = 4;

/// A frame as it was read, or some of its records, with its file's name.
pub(super) struct Raw {
    file: Arc<str>,
    frame: Arc<OwnedFrame>,
    /// Which of its records,
    part: Range<usize>,
    /// and how much of the frame is left where they begin.
    left: usize,
    /// See [`Piece::in_doubt`].
    in_doubt: bool,
}

/// Records of one frame, decoded.
pub(super) struct Piece {
    file: Arc<str>,
    offset: u64,
    sequence: u64,
    /// With the place in the frame.
    pub(super) records: Vec<(usize, Record)>,
    /// The last one, which is given up if it refers to a body that is not there.
    in_doubt: bool,
}

impl Raw {
    /// A frame with all of its records.
    pub(super) fn whole(file: &Arc<str>, frame: &Frame<'_>, in_doubt: bool) -> Self {
        let (part, left) = (0..frame.record_count(), frame.records().left());
        Self { file: Arc::clone(file), frame: Arc::new(frame.to_owned()), part, left, in_doubt }
    }

    /// The same in parts of at most so many records: none keeps one thread busy for long.
    pub(super) fn in_parts(self, records: usize) -> Vec<Self> {
        let mut walk = self.frame.last_records(self.left);
        let mut parts = Vec::with_capacity(self.part.len() / records + 1);
        for first in self.part.clone().step_by(records) {
            let part = first..self.part.end.min(first + records);
            let (left, count) = (walk.left(), part.len());
            let (file, frame) = (Arc::clone(&self.file), Arc::clone(&self.frame));
            parts.push(Self { file, frame, part, left, in_doubt: self.in_doubt });
            walk.nth(count - 1);
        }
        parts
    }

    /// The records, each with its place in the frame.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.part.clone().zip(self.frame.last_records(self.left))
    }

    /// What an error of this record says.
    pub(super) fn unreadable(&self, record: usize, source: scheduler_codec::Error) -> Error {
        Error::Record { file: self.file.to_string(), offset: self.frame.frame().offset(), record, source }
    }

    /// A piece for the records.
    pub(super) fn piece(&self) -> Piece {
        let frame = self.frame.frame();
        Piece {
            file: Arc::clone(&self.file),
            offset: frame.offset(),
            sequence: frame.sequence().0,
            records: Vec::with_capacity(self.part.len()),
            in_doubt: self.in_doubt,
        }
    }

    /// The records of a frame of the journal.
    pub(super) fn decode(self) -> Result<Piece, Error> {
        let mut piece = self.piece();
        for (place, bytes) in self.records() {
            let record =
                scheduler_codec::read_record(bytes).map_err(|source| self.unreadable(place, source))?;
            piece.records.extend(record.map(|record| (place, record)));
        }
        Ok(piece)
    }
}

/// A state to which records are applied, with the rows of jobs that end on the way.
pub(super) struct Replay<'a, 'b> {
    pub(super) state: State,
    pub(super) rows: Option<(&'a History, &'a mut RowMaker<'b>)>,
    pub(super) in_doubt: Option<Piece>,
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

    pub(super) fn apply(&mut self, piece: Piece) -> Result<(), Error> {
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

/// Hands a frame to the threads that decode; `Break`: an error has ended the work.
pub(super) type Send<'a> = dyn FnMut(Raw) -> ControlFlow<()> + 'a;

type Task = Box<dyn FnOnce() + std::marker::Send>;

/// The threads that decode. They end when the last handle is gone.
///
/// One set for all of a recovery: what one thread has allocated is used again by that thread alone, and of the jobs of a
/// snapshot many are replaced by the journal's.
#[derive(Clone)]
pub(super) struct Decoders {
    work: SyncSender<Task>,
}

impl Decoders {
    /// Starts them.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn start() -> Result<Self, Error> {
        let (work, waiting) = sync_channel::<Task>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(DECODERS_MAX);
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            let run = move || {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(task) = next else { break };
                    task();
                }
            };
            std::thread::Builder::new()
                .name("decode".to_owned())
                .spawn(run)
                .map_err(|error| Error::io("start the threads of", "recovery", error))?;
        }
        Ok(Self { work })
    }
}

/// Runs `source` on this thread, which sends frames; has them decoded, and applied on another thread, in the order in
/// which they were sent. All must succeed; of several errors the one that is first in the files is told.
pub(super) fn pipelined<P: std::marker::Send + 'static, A: std::marker::Send>(
    decoders: &Decoders,
    source: impl FnOnce(&mut Send<'_>) -> Result<(), Error>,
    decode: fn(Raw) -> Result<P, Error>,
    apply: impl FnOnce(&mut dyn Iterator<Item = Result<P, Error>>) -> Result<A, Error> + std::marker::Send,
) -> Result<A, Error> {
    // Each frame has a place in the order, into which whoever decodes it puts what came of it.
    let (order, places) = sync_channel::<Receiver<Result<P, Error>>>(WAITING_MAX);
    std::thread::scope(|scope| {
        let applying = scope.spawn(move || {
            // A decoder that panicked has let go of its place.
            let mut decoded = places.into_iter().map(|place| place.recv().unwrap_or(Err(Error::Stopped)));
            apply(&mut decoded)
        });
        let sent = source(&mut |raw| {
            let (slot, place) = sync_channel(1);
            let task = move || {
                // Whoever applies may have given up.
                let _ = slot.send(decode(raw));
            };
            // A partner that is gone has met an error, which is the one to tell.
            match order.send(place).is_ok() && decoders.work.send(Box::new(task)).is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        drop(order);
        let applied = applying.join().unwrap_or(Err(Error::Stopped))?;
        // An error of the source comes later in the files than one of what was sent before.
        sent.map(|()| applied)
    })
}

/// The usual end of [`pipelined`].
pub(super) fn apply_all<'a, 'b>(
    mut replay: Replay<'a, 'b>,
    pieces: &mut dyn Iterator<Item = Result<Piece, Error>>,
) -> Result<Replay<'a, 'b>, Error> {
    for piece in pieces {
        replay.apply(piece?)?;
    }
    Ok(replay)
}

fn message(panic: &(dyn std::any::Any + std::marker::Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an assertion").to_owned()
}
