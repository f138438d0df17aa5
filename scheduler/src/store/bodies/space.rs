//! Space before state, for bodies: what is filled, what is promised, and the thread that fills more.
//!
//! The bodies of a batch are placed as one piece: behind the last entry of the current file, or at the start
//! of the next filled one. Placing the outstanding promises in their order gives a true lower bound of what
//! is left, as in the journal's own ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::{BODY_MAX, Bodies, BodyFile, Inner, locked};
use crate::store::{Error, layout};

/// Filled files that wait for use.
const SPARES: usize = 1;

#[derive(Default)]
pub(super) struct Signal {
    changed: Condvar,
    /// Only for the condition variable.
    gate: Mutex<()>,
}

/// Filled space that was promised to one batch; dropped, it is given back.
pub struct BodySpace {
    bodies: Arc<Bodies>,
    ticket: u64,
    bytes: u64,
}

impl BodySpace {
    /// How much was promised.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for BodySpace {
    fn drop(&mut self) {
        locked(&self.bodies.inner).outstanding.retain(|(ticket, _)| *ticket != self.ticket);
    }
}

impl Inner {
    fn spares(&self) -> usize {
        self.files.range(self.current + 1..).count()
    }

    /// Whether a piece of `last` bytes still finds room behind all outstanding ones (the one of `besides` left out).
    fn has_room(&self, besides: Option<u64>, last: u64) -> bool {
        let promised = self.outstanding.iter().filter(|(ticket, _)| Some(*ticket) != besides);
        self.holds(promised.map(|(_, bytes)| *bytes).chain([last]))
    }

    /// Whether all outstanding pieces still find room behind one of `first` bytes.
    fn has_room_before(&self, first: u64) -> bool {
        self.holds([first].into_iter().chain(self.outstanding.iter().map(|(_, bytes)| *bytes)))
    }

    fn holds(&self, pieces: impl Iterator<Item = u64>) -> bool {
        let mut files = self.files.range(self.current..).map(|(_, file)| file.bytes - file.used);
        let mut rest = files.next().unwrap_or(0);
        for bytes in pieces {
            while bytes > rest {
                match files.next() {
                    Some(next) => rest = next,
                    None => return false,
                }
            }
            rest -= bytes;
        }
        true
    }
}

impl Bodies {
    /// Promises filled space for the bodies of one batch, `bytes` in all ([`Bodies::size_on_disk`] of each).
    ///
    /// # Errors
    /// [`Error::BodiesFull`], [`Error::BodyTooLarge`]; nothing was changed.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<BodySpace, Error> {
        let max = BODY_MAX.min(self.file_bytes / 2);
        if bytes > max {
            return Err(Error::BodyTooLarge { bytes, max });
        }
        let mut inner = locked(&self.inner);
        if !inner.has_room(None, bytes) {
            return Err(Error::BodiesFull);
        }
        inner.ticket += 1;
        let ticket = inner.ticket;
        inner.outstanding.push_back((ticket, bytes));
        Ok(BodySpace { bodies: Arc::clone(self), ticket, bytes })
    }

    /// Makes a promise larger, in its place.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve); the promise stays as it was.
    pub fn grow(&self, held: &mut BodySpace, bytes: u64) -> Result<(), Error> {
        let max = BODY_MAX.min(self.file_bytes / 2);
        if bytes > max {
            return Err(Error::BodyTooLarge { bytes, max });
        }
        let mut inner = locked(&self.inner);
        // Only the newest promise grows, so it stands last.
        if !inner.has_room(Some(held.ticket), bytes) {
            return Err(Error::BodiesFull);
        }
        if let Some(entry) = inner.outstanding.iter_mut().find(|(ticket, _)| *ticket == held.ticket) {
            entry.1 = bytes;
        }
        held.bytes = bytes;
        Ok(())
    }

    /// The file in which a piece of `bytes` goes now; it becomes the current one. `held` is used up.
    pub(super) fn take_place(&self, bytes: u64, held: Option<BodySpace>) -> Result<u32, Error> {
        drop(held);
        let taken = {
            let mut inner = locked(&self.inner);
            let fits = |inner: &Inner| {
                let current = inner.current;
                let found = inner.files.range(current..).find(|(_, file)| file.bytes - file.used >= bytes);
                found.map(|(id, _)| *id)
            };
            let id = fits(&inner);
            if let Some(id) = id {
                inner.current = id;
            }
            id
        };
        self.space.changed.notify_all();
        match taken {
            Some(id) => Ok(id),
            None => {
                // Nothing was promised (a restart, a move): it is made here and now.
                let id = self.make_file()?;
                locked(&self.inner).current = id;
                Ok(id)
            }
        }
    }

    /// The file for a piece that nobody promised, so that every promise still finds its room. The caller holds
    /// `writing`.
    pub(super) fn place_beside(&self, bytes: u64) -> Result<u32, Error> {
        while !locked(&self.inner).has_room_before(bytes) {
            self.make_file()?;
        }
        self.take_place(bytes, None)
    }

    /// Fills files until enough wait; the way back after a full disk. Safe from any thread.
    ///
    /// # Errors
    /// The operating system's word; nothing is harmed.
    pub fn try_refill(&self) -> Result<(), Error> {
        // One maker at a time; the gate also orders this against the filler's wait.
        let _gate = locked(&self.space.gate);
        while self.wants_file() {
            self.make_file_in_gate()?;
        }
        Ok(())
    }

    /// A number that grows with each file that is made.
    pub(in crate::store) fn made(&self) -> u64 {
        locked(&self.inner).files.keys().next_back().map_or(0, |id| u64::from(*id))
    }

    /// Fills one file more, whatever waits.
    pub(in crate::store) fn make_file(&self) -> Result<u32, Error> {
        let _gate = locked(&self.space.gate);
        self.make_file_in_gate()
    }

    fn make_file_in_gate(&self) -> Result<u32, Error> {
        let id = locked(&self.inner).files.keys().next_back().map_or(1, |id| id + 1);
        let file = layout::make_filled(&*self.disk, &layout::bodies_name(id), self.file_bytes)?;
        let file = BodyFile { file, bytes: self.file_bytes, used: 0, durable: 0, listed: false };
        locked(&self.inner).files.insert(id, file);
        Ok(id)
    }

    fn wants_file(&self) -> bool {
        locked(&self.inner).spares() < SPARES
    }
}

/// The thread that keeps a filled file ready, and tries again every `pause` while the disk is full.
pub struct BodyFiller {
    bodies: Arc<Bodies>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BodyFiller {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn spawn(bodies: Arc<Bodies>, pause: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, filled) = (Arc::clone(&stop), Arc::clone(&bodies));
        let thread =
            Builder::new().name("bodies-fill".to_owned()).spawn(move || fill_all(&filled, &seen, pause))?;
        Ok(Self { bodies, stop, thread: Some(thread) })
    }
}

impl Drop for BodyFiller {
    fn drop(&mut self) {
        {
            // Under the gate, or a thread between its test and its sleep would miss it.
            let _gate = locked(&self.bodies.space.gate);
            self.stop.store(true, Ordering::SeqCst);
            self.bodies.space.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

fn fill_all(bodies: &Bodies, stop: &AtomicBool, pause: Duration) {
    let stopped = || stop.load(Ordering::SeqCst);
    while !stopped() {
        // Space first: admissions wait for it. A list that cannot be written is tried again after the pause.
        let failed = bodies.wants_file() && bodies.try_refill().is_err()
            || bodies.wants_lists() && bodies.write_lists().is_err();
        let gate = locked(&bodies.space.gate);
        if stopped() {
            return;
        }
        // A missed wake-up costs one pause: the committer does not take the gate.
        if failed || !bodies.wants_file() {
            drop(bodies.space.changed.wait_timeout(gate, pause));
        }
    }
}
