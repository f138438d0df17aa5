//! How a supervisor that is done with a run gets the next one.
//!
//! A fork, and the pages that parent and child copy from each other after it, are half of what a supervisor costs a
//! job that does nothing. So one whose run left nothing behind (see `Run::is_plain`) does not end: it tells the nursery
//! that it is done, and waits. It is given runs of the same user only, has let go of the last one's lock, folder and cgroup
//! before it says so, and ends when the nursery does, when the nursery lets go of it, or after [`RUNS_MAX`] runs.
//!
//! The words: the serial number of the run that is over, to the socket that all share; beside the first one the far end of
//! a socket of its own, on which it gets orders as the nursery gets them from the executor.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use executor_supervisor::nursery::Order;

use crate::brood::Handed;
use crate::sys;

/// Runs that one process has: whatever it might gather does not grow without end.
const RUNS_MAX: u32 = 200;
/// What `ps` shows in place of a run's folder.
const WAITING: &[u8] = b"--waiting";

/// See the module comment.
pub(crate) struct Line {
    says: OwnedFd,
    orders: Option<OwnedFd>,
    /// Of the run that it has.
    serial: u64,
    runs: u32,
    title: sys::Title,
    buffer: Vec<u8>,
}

impl Line {
    /// For the process that has the run `serial`. `buffer` is as long as messages are.
    pub(crate) fn new(says: OwnedFd, serial: u64, title: sys::Title, buffer: Vec<u8>) -> Self {
        Self { says, orders: None, serial, runs: 1, title, buffer }
    }

    /// Says that the run is over and waits for the next one. `None`: there will be none, this process is to end.
    pub(crate) fn next(&mut self) -> Option<Handed> {
        if self.runs >= RUNS_MAX {
            return None;
        }
        self.runs += 1;
        self.title.set(WAITING);
        // Nothing of the last run is held, not even where it was.
        sys::change_dir(c"/").ok()?;
        self.report().ok()?;
        let orders = self.orders.as_ref()?;
        let (length, lock) = sys::receive_file(orders.as_fd(), &mut self.buffer, true).ok()?;
        let order = Order::decode(&self.buffer[..length]).ok()?;
        self.title.set(&order.folder);
        self.serial = order.serial;
        Some(Handed { folder: OsString::from_vec(order.folder), lock: lock? })
    }

    fn report(&mut self) -> io::Result<()> {
        let word = self.serial.to_le_bytes();
        if self.orders.is_some() {
            return sys::send_file(self.says.as_fd(), &word, None);
        }
        let (ours, theirs) = sys::message_pair()?;
        sys::send_file(self.says.as_fd(), &word, Some(theirs.as_fd()))?;
        self.orders = Some(ours);
        Ok(())
    }
}

/// Reads what a supervisor says.
pub(crate) fn serial(word: &[u8]) -> Option<u64> {
    word.try_into().ok().map(u64::from_le_bytes)
}
