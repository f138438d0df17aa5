//! Batches on their way to the disk: what one call of the controller stores, with the space promised before.
//!
//! Records are encoded straight into the journal's buffer. Bodies are written and synced by the committer's
//! thread before the frame; while it waits for the disk, the controller fills the next batch.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use journal::{Class, Payload, Reservation};
use model::id::BodyHash;
use prost::bytes::Bytes;
use scheduler_codec::{Entry, Header, encode_record};
use scheduler_core::record::Record;

use super::bodies::{Bodies, BodySpace, Pins};
use super::{Error, Store};

/// A batch holds at least this much promised space, so that few promises are made.
const SPACE_STEP_BYTES: u64 = 64 << 10;

/// The outcome of a batch that is durable. Keep it until the views have its records.
pub struct Committed {
    /// Number of its frame.
    pub sequence: u64,
    /// Keeps its bodies from being collected.
    pub pins: Pins,
}

/// Called on the committer's thread, once. Must not block.
pub type Done = Box<dyn FnOnce(Result<Committed, Error>) + Send>;

/// Buffers for further use.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Payload>>>);

impl Pool {
    fn take(&self) -> Payload {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut payload = pool.pop().unwrap_or_default();
        payload.clear();
        payload
    }

    fn give(&self, payload: Payload) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < 4 {
            pool.push(payload);
        }
    }
}

/// What is stored together, or not at all.
pub struct Batch {
    payload: Payload,
    held: Option<Reservation>,
    held_bytes: u64,
    bodies: Vec<(BodyHash, Bytes)>,
    body_space: Option<BodySpace>,
    body_bytes: u64,
    pins: Pins,
    records: usize,
    has_header: bool,
}

impl Batch {
    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of its frame so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.payload.payload_bytes()
    }

    /// Adds a record. Cost: its size, no copy.
    pub fn push(&mut self, record: &Record) {
        self.payload.push_with(|bytes| encode_record(record, bytes));
        self.records += 1;
    }

    /// Adds a body that a record of this batch refers to, unless it is stored already. Its space was promised
    /// by [`Store::admit`].
    pub fn push_body(&mut self, hash: BodyHash, body: Bytes) {
        if !self.pins.add(&hash) {
            self.bodies.push((hash, body));
        }
    }
}

impl Store {
    /// An empty batch. One is filled at a time; they are committed in the order in which they are made.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let mut payload = self.pool.take();
        let has_header = self.shared.header_due.load(Ordering::Relaxed);
        if has_header {
            payload.push_with(|bytes| Entry::Header(Header::ours()).encode(bytes));
        }
        Batch {
            payload,
            held: None,
            held_bytes: 0,
            bodies: Vec::new(),
            body_space: None,
            body_bytes: 0,
            pins: self.bodies.pins(),
            records: 0,
            has_header,
        }
    }

    /// Promises space for a further input of a batch, before the machine handles it: `record_bytes` bounds the
    /// encoded records that it may bring, `bodies` are the lengths of its bodies.
    ///
    /// # Errors
    /// A full disk ([`Error::is_full`]): the input is refused, nothing was changed. `TooLarge`, which a batch of its
    /// own may still hold. [`Error::is_fencing`]: the store must be opened anew.
    pub fn admit(
        &self,
        batch: &mut Batch,
        class: Class,
        record_bytes: u64,
        bodies: &[usize],
    ) -> Result<(), Error> {
        let further: u64 = bodies.iter().map(|length| Bodies::size_on_disk(*length)).sum();
        if further > 0 {
            let wanted = batch.body_bytes + further;
            let held = &mut batch.body_space;
            let [_, full] = &self.shared.full;
            let made = || self.bodies.made();
            full.promise(made, || self.hold_bodies(held, wanted), || self.bodies.make_file().map(|_| ()))?;
        }
        // A record has four bytes of its own; a step of records is rounded up generously.
        let wanted = batch.payload.payload_bytes() + record_bytes + 1024;
        if wanted > batch.held_bytes {
            let step = wanted.next_multiple_of(SPACE_STEP_BYTES);
            let hold = || {
                self.hold(batch, class, step).or_else(|error| {
                    // Less may still be had than the round amount.
                    if error.is_fencing() { Err(error) } else { self.hold(batch, class, wanted) }
                })
            };
            let [full, _] = &self.shared.full;
            full.promise(|| self.space.made(), hold, || Ok(self.space.fill_one_more()?))?;
        }
        batch.body_bytes += further;
        Ok(())
    }

    fn hold_bodies(&self, held: &mut Option<BodySpace>, wanted: u64) -> Result<(), Error> {
        match held {
            Some(space) if wanted <= space.bytes() => Ok(()),
            Some(space) => self.bodies.grow(space, wanted),
            None => {
                *held = Some(self.bodies.reserve(wanted)?);
                Ok(())
            }
        }
    }

    fn hold(&self, batch: &mut Batch, class: Class, bytes: u64) -> Result<(), Error> {
        // The old promise goes first: it is part of the new one. Nobody else asks for space in between, and what
        // was promised is promised again if there is not more.
        let before = batch.held.take();
        drop(before);
        match self.space.reserve(class, bytes) {
            Ok(held) => {
                batch.held = Some(held);
                batch.held_bytes = bytes;
                Ok(())
            }
            Err(error) => {
                if batch.held_bytes > 0 {
                    batch.held = self.space.reserve(Class::Essential, batch.held_bytes).ok();
                }
                Err(error.into())
            }
        }
    }

    /// Stores a batch; `done` is called when it is durable, or when that is not known any more. Blocks while one
    /// batch is being synced and another waits.
    ///
    /// After an error nothing more is stored or released: the machine and the store are dropped and opened anew.
    pub fn commit(&self, batch: Batch, done: Done) {
        let Batch { payload, held, bodies, body_space, pins, has_header, .. } = batch;
        let store = Arc::clone(&self.bodies);
        let before: Option<journal::Before> = if bodies.is_empty() {
            None
        } else {
            Some(Box::new(move || store.store(&bodies, body_space).map_err(std::io::Error::other)))
        };
        let (pool, shared) = (self.pool.clone(), Arc::clone(&self.shared));
        let poke = self.compactor.poke_handle();
        let bytes = payload.frame_bytes();
        let done: journal::Done = Box::new(move |outcome, payload| {
            pool.give(payload);
            done(outcome.map_err(Error::from).map(|sequence| {
                if has_header {
                    shared.header_due.store(false, Ordering::Relaxed);
                }
                poke.committed(sequence.0, bytes);
                Committed { sequence: sequence.0, pins }
            }));
        });
        let batch = journal::Batch { payload, held, before, done };
        if let Err(journal::Stopped(batch)) = self.committer.submit(batch) {
            (batch.done)(Err(journal::Error::Fenced), batch.payload);
        }
    }
}
