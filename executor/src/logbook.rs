//! The journal seen from the agent: marks are collected, written as one batch, and what waits for them comes back
//! when the batch is durable.
//!
//! One batch is on its way at a time; what is added meanwhile is the next one (group commit). From time to time
//! a batch ends with a checkpoint, after which older segments are let go. A failed write is the end: nothing may
//! be started or reported on the strength of it, and the process must be started anew to know what is on disk.

use std::time::{Duration, Instant};

use journal::{
    Batch, Class, Committer, Filler, Journal, Log, Pace, Payload, Sequence, Settings, SpaceHandle,
};
use tokio::sync::mpsc;

use crate::key::Key;
use crate::record::{Mark, Record};
use crate::step::lifecycle::Event;

/// Bytes of records after which a checkpoint is due.
const CHECKPOINT_AFTER: u64 = 512 << 10;
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// A batch came back.
pub struct Committed {
    result: Result<Sequence, String>,
    payload: Payload,
}

/// See the module comment.
pub struct Logbook {
    committer: Committer<Journal>,
    space: SpaceHandle,
    /// Keeps filled segments ready as long as it lives.
    _filler: Filler,
    next: Payload,
    /// Something in it is waited for, or must not be forgotten.
    urgent: bool,
    pace: Pace,
    spare: Option<Payload>,
    waiting: Vec<(Key, Event)>,
    on_its_way: Option<Vec<(Key, Event)>>,
    checkpoint_on_its_way: bool,
    since_checkpoint: u64,
    sender: mpsc::Sender<Committed>,
}

impl Logbook {
    /// Starts the journal's threads. Batches come back through the receiver.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn start(journal: Journal) -> std::io::Result<(Self, mpsc::Receiver<Committed>)> {
        let space = journal.space_handle();
        let filler = Filler::spawn(space.clone(), FULL_DISK_PAUSE)?;
        let settings = Settings { queue: 2, ..Settings::default() };
        let committer = Committer::spawn(journal, settings)?;
        // One batch at a time: one place is enough.
        let (sender, receiver) = mpsc::channel(1);
        let logbook = Self {
            committer,
            space,
            _filler: filler,
            next: Payload::new(),
            urgent: false,
            pace: Pace::default(),
            spare: None,
            waiting: Vec::new(),
            on_its_way: None,
            checkpoint_on_its_way: false,
            // A start writes a checkpoint soon: the replay of the next start is short.
            since_checkpoint: CHECKPOINT_AFTER,
            sender,
        };
        Ok((logbook, receiver))
    }

    /// Whether new runs may be logged: a second reserve stays for the ends of those that run.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.space.space().admission
    }

    /// Adds a record to the next batch; the event comes back when it is durable.
    pub fn add(&mut self, record: &Record, then: Option<(Key, Event)>) {
        self.next.push_with(|out| record.encode(out));
        self.waiting.extend(then);
        // That a run is forgotten may itself be forgotten: its end is told and acknowledged once more.
        self.urgent |= !matches!(record, Record::Run(_, Mark::Gone));
    }

    /// When the next batch may leave, if it is held back for company: flush again then.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        let held = self.urgent && self.on_its_way.is_none() && !self.next.is_empty();
        self.pace.until().filter(|until| held && *until > Instant::now())
    }

    /// Lets the next flush take what could wait for further records.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// A checkpoint should be added before the next batch leaves.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.urgent
            && self.on_its_way.is_none()
            && self.since_checkpoint + self.next.payload_bytes() > CHECKPOINT_AFTER
    }

    /// Adds a checkpoint: `state` is everything that must be known after the records of this batch.
    pub fn checkpoint(&mut self, state: impl Iterator<Item = Record>) {
        self.next.push_with(|out| Record::Checkpoint.encode(out));
        for record in state {
            self.next.push_with(|out| record.encode(out));
        }
        self.checkpoint_on_its_way = true;
        self.since_checkpoint = 0;
    }

    /// Sends the next batch off if none is on its way. True: something is left that nothing else will send off (it
    /// can wait, or there is no space): try again later, with [`hurry`](Self::hurry).
    pub fn flush(&mut self) -> bool {
        if self.on_its_way.is_some() || self.next.is_empty() {
            return false;
        }
        if !self.urgent {
            return true;
        }
        if self.held_until().is_some() {
            return false;
        }
        let held = match self.space.reserve(Class::Essential, self.next.payload_bytes()) {
            Ok(held) => held,
            Err(journal::Error::Full { .. }) => return true,
            Err(error) => return self.broken(&error.to_string()),
        };
        let payload = std::mem::replace(&mut self.next, self.spare.take().unwrap_or_default());
        self.urgent = false;
        self.pace.note(Instant::now(), self.waiting.len());
        self.since_checkpoint += payload.payload_bytes();
        self.on_its_way = Some(std::mem::take(&mut self.waiting));
        let sender = self.sender.clone();
        let done = Box::new(move |result: Result<Sequence, journal::Error>, payload| {
            let result = result.map_err(|error| error.to_string());
            // The agent is gone only when the process ends.
            let _ = sender.try_send(Committed { result, payload });
        });
        let batch = Batch { payload, held: Some(held), before: None, done };
        if self.committer.submit(batch).is_err() {
            return self.broken("its thread has ended");
        }
        false
    }

    fn broken(&self, why: &str) -> bool {
        let _ = self.sender.try_send(Committed { result: Err(why.to_owned()), payload: Payload::new() });
        false
    }

    /// Takes a batch that came back: what waited for it.
    ///
    /// # Errors
    /// It may or may not be on disk, and nothing more will be: the process must end.
    pub fn committed(&mut self, committed: Committed) -> Result<Vec<(Key, Event)>, String> {
        let sequence = committed.result?;
        let mut payload = committed.payload;
        payload.clear();
        self.spare = Some(payload);
        if std::mem::take(&mut self.checkpoint_on_its_way) {
            let before = Sequence(sequence.0.saturating_sub(1));
            self.committer.run(move |journal| {
                journal.close_segment();
                if let Err(error) = journal.remove_through(before) {
                    tracing::warn!(%error, "old journal segments could not be removed");
                }
            });
        }
        Ok(self.on_its_way.take().unwrap_or_default())
    }

    /// Nothing waits and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.on_its_way.is_none() && self.next.is_empty()
    }
}
