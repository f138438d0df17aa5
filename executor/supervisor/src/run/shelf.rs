//! Starting many tasks without each of them copying, and at its exec closing, the streams of all that were started before.
//!
//! A forked child has a copy of every open file: of a thousand tasks the last one closes three thousand. So the children of a
//! large step begin with the supervisor's own table of files and take a copy of its low numbers only: there, on the
//! *shelf*, are the ends that tasks get; the supervisor's own ends are moved above it. Until a child has its copy the
//! shelf must stay as it is, so its ends are let go of in batches, when every child of the batch has said that it has.
//! A child that dies before it could say so is noticed, and nothing waits for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::libc;

use crate::child::Ends;
use crate::sys;

/// The numbers that children copy are below this one.
const SHELF: RawFd = 256;
/// A smaller step starts as fast without all this.
const TASKS_MIN: usize = 32;
/// Children whose ends are let go of together.
const BATCH: usize = 16;
/// How often it is looked whether a silent child is dead, ms.
const LOOK_MS: i32 = 20;

/// See the module comment.
pub(super) struct Shelf {
    /// A child that has its copy writes a byte.
    gate: (OwnedFd, OwnedFd),
    /// What children that have not said so may still need.
    held: Vec<(Ends, OwnedFd)>,
    unsettled: Vec<i32>,
}

impl Shelf {
    /// For a step of so many tasks; `None` where it is not worth it, or the kernel cannot.
    pub(super) fn of(tasks: usize) -> Option<Self> {
        if tasks < TASKS_MIN || !sys::can_copy_few_files() {
            return None;
        }
        let gate = sys::pipe().ok()?;
        Some(Self { gate, held: Vec::new(), unsettled: Vec::new() })
    }

    /// Moves an end that the supervisor keeps out of the way.
    pub(super) fn above(fd: OwnedFd) -> io::Result<OwnedFd> {
        sys::keep_above(fd.as_raw_fd(), SHELF)
    }

    /// Whether the next child can begin from the shelf. Where not, nobody uses it any more when this returns.
    ///
    /// One that others wait for until it has opened its files cannot: the others would have its end of that pipe too.
    pub(super) fn takes(&mut self, ends: &Ends, told: &OwnedFd) -> bool {
        let takes = ends.opening.is_none() && ends.all().chain([told]).all(|fd| fd.as_raw_fd() < SHELF);
        if !takes {
            self.settle();
        }
        takes
    }

    /// In the child: takes its copy, and says so.
    pub(super) fn leave(&self) -> io::Result<()> {
        sys::copy_files_below(SHELF)?;
        sys::write(self.gate.1.as_fd(), &[1]).map(drop)
    }

    /// In the supervisor: keeps what the child `pid` is about to copy.
    pub(super) fn hold(&mut self, pid: i32, ends: Ends, told: OwnedFd) {
        self.held.push((ends, told));
        self.unsettled.push(pid);
        if self.unsettled.len() >= BATCH {
            self.settle();
        }
    }

    /// Waits until all have their copies, and lets go.
    pub(super) fn settle(&mut self) {
        let mut waiting = self.unsettled.len();
        while waiting > 0 {
            let mut fds = [libc::pollfd { fd: self.gate.0.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
            let _ = sys::poll(&mut fds, LOOK_MS);
            if fds[0].revents != 0 {
                waiting -= sys::read(self.gate.0.as_fd(), &mut [0; BATCH]).unwrap_or(0).min(waiting);
            } else if self.unsettled.iter().filter(|pid| !sys::is_dead(**pid)).count() == 0 {
                break;
            }
        }
        self.unsettled.clear();
        self.held.clear();
    }
}
