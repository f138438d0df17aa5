//! Space before state: how much of the log's disk space is already filled with zeros, who may use it, and the
//! making of further segments.
//!
//! A [`Reservation`] promises that a frame of a given size will go into filled space. Frames are placed in order:
//! into the rest of the current segment if they fit, else at the start of the next filled one. That rule is
//! monotone (a smaller or a dropped frame never makes the following ones end later), so placing the outstanding
//! reservations in their order gives a true lower bound of what is left. It holds if frames are written in the
//! order of their reservations.
//!
//! Three lines: admission must leave the essential reserve, essential frames must leave what restarts need (a
//! daemon that comes up on a full disk writes one opening frame), restarts may use all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::frame::{SECTOR_BYTES, frame_bytes};
use crate::ids::SegmentId;
use crate::segment;

/// Who asks for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// New work: refused first.
    Admission,
    /// Ends, cancels and node reports: running jobs must be able to finish on a full disk.
    Essential,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admission => "new work",
            Self::Essential => "essential records",
        })
    }
}

/// What is left, at the moment of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Whether at least a small batch of new work would be accepted.
    pub admission: bool,
    /// Whether at least a small essential batch would be accepted.
    pub essential: bool,
    /// Filled bytes behind all outstanding reservations.
    pub left_bytes: u64,
    /// Filled segments that wait for use.
    pub spares: usize,
    /// Whether as many segments are filled as were asked for; if not, a refill is due.
    pub complete: bool,
}

/// A filled segment that no frame is in yet.
pub(crate) struct Spare {
    pub(crate) id: SegmentId,
    pub(crate) bytes: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

#[derive(Default)]
struct Ledger {
    /// Filled bytes in the current segment behind the last frame written.
    rest: u64,
    spares: VecDeque<Spare>,
    /// Reservations not yet used, oldest first: ticket and frame size.
    outstanding: VecDeque<(u64, u64)>,
    ticket: u64,
    next_id: SegmentId,
}

impl Ledger {
    /// Filled bytes left after placing a frame in front of, and one behind, all outstanding reservations.
    fn left_after(&self, front: Option<u64>, back: Option<u64>) -> Option<u64> {
        let mut rest = self.rest;
        let mut spares = self.spares.iter().map(|spare| spare.bytes);
        let reserved = self.outstanding.iter().map(|(_, bytes)| *bytes);
        for bytes in front.into_iter().chain(reserved).chain(back) {
            while bytes > rest {
                rest = spares.next()?;
            }
            rest -= bytes;
        }
        Some(rest + spares.sum::<u64>())
    }
}

pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spares_wanted: usize,
    essential_bytes: u64,
    restart_bytes: u64,
    ledger: Mutex<Ledger>,
    /// Held while a segment is made, so that there is one maker.
    making: Mutex<()>,
    changed: Condvar,
    fenced: AtomicBool,
}

/// Where the next frame goes.
pub(crate) enum Place {
    /// Behind the last one.
    Here,
    /// At the start of this segment, which is taken from the spares.
    Next(Spare),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a guard is held half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        spares_wanted: usize,
        essential_bytes: u64,
    ) -> Self {
        let restart_bytes = (segment_bytes / 16).clamp(SECTOR_BYTES, 16 * SECTOR_BYTES);
        Self {
            disk,
            segment_bytes,
            spares_wanted,
            essential_bytes,
            restart_bytes,
            ledger: Mutex::default(),
            making: Mutex::default(),
            changed: Condvar::new(),
            fenced: AtomicBool::new(false),
        }
    }

    /// Size of segments made from now on, which bounds the size of a frame, bytes.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn begin(&self, rest: u64, spares: Vec<Spare>, next_id: SegmentId) {
        let mut ledger = locked(&self.ledger);
        ledger.rest = rest;
        ledger.spares = spares.into();
        ledger.next_id = next_id;
    }

    pub(crate) fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// Finds the place for a frame of `bytes` and takes it. `held` is used up. Without a reservation a batch counts
    /// as essential and must not push outstanding reservations out; `restart` frames may use all space.
    pub(crate) fn place(&self, bytes: u64, held: Option<Reservation>, restart: bool) -> Result<Place, Error> {
        let mut ledger = locked(&self.ledger);
        if let Some(held) = &held {
            assert!(std::ptr::eq(&*held.shared, self), "a reservation is used in the log that gave it");
            ledger.outstanding.retain(|(ticket, _)| *ticket != held.ticket);
        }
        let promised = held.as_ref().is_some_and(|held| held.bytes >= bytes);
        let leave = if promised || restart { 0 } else { self.restart_bytes };
        if ledger.left_after(Some(bytes), None).is_none_or(|left| left < leave) {
            return Err(Error::Full { class: Class::Essential });
        }
        let mut taken = None;
        if bytes > ledger.rest {
            let spare = ledger.spares.pop_front().expect("room was found a moment ago");
            // A segment that is skipped would look like the end of the log.
            assert!(bytes <= spare.bytes, "every filled segment holds the largest frame");
            ledger.rest = spare.bytes;
            taken = Some(spare);
        }
        ledger.rest -= bytes;
        self.changed.notify_all();
        Ok(taken.map_or(Place::Here, Place::Next))
    }

    /// Gives up the rest of the current segment if a filled one waits and no reservation needs the rest.
    pub(crate) fn abandon_rest(&self) -> bool {
        let mut ledger = locked(&self.ledger);
        let rest = std::mem::take(&mut ledger.rest);
        let possible = ledger.left_after(None, None).is_some_and(|left| left >= self.restart_bytes);
        if !possible || ledger.spares.is_empty() {
            ledger.rest = rest;
            return false;
        }
        true
    }

    fn space(&self) -> Space {
        let ledger = locked(&self.ledger);
        let left = ledger.left_after(None, Some(SECTOR_BYTES));
        let above = |reserve| !self.is_fenced() && left.is_some_and(|left| left >= reserve);
        Space {
            admission: above(self.restart_bytes + self.essential_bytes),
            essential: above(self.restart_bytes),
            left_bytes: ledger.left_after(None, None).unwrap_or(0),
            spares: ledger.spares.len(),
            complete: ledger.spares.len() >= self.spares_wanted,
        }
    }

    /// Makes segments until as many wait as were asked for. Answers at once if they do.
    pub(crate) fn refill(&self) -> Result<(), Error> {
        while self.make_one(|waiting| waiting < self.spares_wanted)? {}
        Ok(())
    }

    /// Makes a segment if fewer than `at_most` wait, whatever was asked for. Answers whether it did.
    pub(crate) fn refill_below(&self, at_most: usize) -> Result<bool, Error> {
        self.make_one(|waiting| waiting < at_most)
    }

    /// Makes one segment if `wanted` says so of the number that wait. One maker at a time.
    fn make_one(&self, wanted: impl Fn(usize) -> bool) -> Result<bool, Error> {
        let _one_maker = locked(&self.making);
        let id = {
            let ledger = locked(&self.ledger);
            if !wanted(ledger.spares.len()) {
                return Ok(false);
            }
            ledger.next_id
        };
        if self.is_fenced() {
            return Err(Error::Fenced);
        }
        let file = segment::make(&*self.disk, id, self.segment_bytes)?;
        let mut ledger = locked(&self.ledger);
        ledger.next_id = id.next();
        ledger.spares.push_back(Spare { id, bytes: self.segment_bytes, file });
        self.changed.notify_all();
        Ok(true)
    }

    /// Waits until a segment is wanted, the log is fenced or `stop` is set. `pause` bounds the wait even if one is
    /// wanted already (a refill has just failed).
    pub(crate) fn wait_wanted(&self, stop: &AtomicBool, pause: Option<Duration>) {
        let ledger = locked(&self.ledger);
        let ended = || stop.load(Ordering::SeqCst) || self.is_fenced();
        match pause {
            Some(pause) => {
                drop(self.changed.wait_timeout_while(ledger, pause, |_| !ended()));
            }
            None => {
                let full = |ledger: &mut Ledger| ledger.spares.len() >= self.spares_wanted;
                drop(self.changed.wait_while(ledger, |ledger| full(ledger) && !ended()));
            }
        }
    }

    /// Wakes a thread in [`wait_wanted`](Self::wait_wanted).
    pub(crate) fn wake(&self) {
        // Under the lock, or a waiter between its test and its sleep would miss it.
        let _ledger = locked(&self.ledger);
        self.changed.notify_all();
    }
}

/// The log's space, seen from any thread: reservations, questions, refills.
#[derive(Clone)]
pub struct SpaceHandle {
    pub(crate) shared: Arc<Shared>,
}

impl SpaceHandle {
    /// Reserves filled space for one frame with up to `payload_bytes` of payload (records and their lengths).
    ///
    /// Dropping the reservation gives the space back. Frames must be written in the order of their reservations.
    /// Fails with `Full` if the class has no space left, `TooLarge` if no segment could hold the frame, `Fenced`.
    /// Cost: O(outstanding reservations), one uncontended lock.
    pub fn reserve(&self, class: Class, payload_bytes: u64) -> Result<Reservation, Error> {
        let shared = &self.shared;
        let bytes = frame_bytes(payload_bytes);
        if bytes > shared.segment_bytes || payload_bytes > u64::from(u32::MAX) {
            return Err(Error::TooLarge { bytes, limit: shared.segment_bytes });
        }
        if shared.is_fenced() {
            return Err(Error::Fenced);
        }
        let reserve = match class {
            Class::Admission => shared.restart_bytes + shared.essential_bytes,
            Class::Essential => shared.restart_bytes,
        };
        let mut ledger = locked(&shared.ledger);
        if ledger.left_after(None, Some(bytes)).is_none_or(|left| left < reserve) {
            return Err(Error::Full { class });
        }
        ledger.ticket += 1;
        let ticket = ledger.ticket;
        ledger.outstanding.push_back((ticket, bytes));
        Ok(Reservation { shared: Arc::clone(shared), ticket, bytes })
    }

    /// What is left now.
    #[must_use]
    pub fn space(&self) -> Space {
        self.shared.space()
    }

    /// Fills one segment here and now, beyond those that were asked for if need be, up to twice as many: for a frame that
    /// finds them spoken for. Cost and failures as of [`try_refill`](Self::try_refill).
    pub fn fill_one_more(&self) -> Result<(), Error> {
        self.shared.refill_below(2 * self.shared.spares_wanted.max(1)).map(drop)
    }

    /// A number that grows with each segment that is made.
    #[must_use]
    pub fn made(&self) -> u64 {
        locked(&self.shared.ledger).next_id.0
    }

    /// Fills further segments until as many wait as were asked for; the way back after a full disk. Safe from any
    /// thread, does nothing if all are there. Cost: writing and syncing a segment, so not on a thread in a hurry.
    ///
    /// Fails with `Io` ([`Error::is_full`] tells a full disk), which fences nothing, or with `Fenced`.
    pub fn try_refill(&self) -> Result<Space, Error> {
        self.shared.refill()?;
        Ok(self.space())
    }
}

impl fmt::Debug for SpaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.space().fmt(f)
    }
}

/// Filled space for one frame; hand it to the append, or drop it to give it back.
pub struct Reservation {
    shared: Arc<Shared>,
    ticket: u64,
    bytes: u64,
}

impl Reservation {
    /// Size of the frame that it is for, with header and padding, bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        locked(&self.shared.ledger).outstanding.retain(|(ticket, _)| *ticket != self.ticket);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} bytes)", self.bytes)
    }
}
