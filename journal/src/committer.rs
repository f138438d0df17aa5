//! The thread that owns a log and does its waiting: one write and one fdatasync per batch, while the caller prepares
//! the next one. Beside it a filler keeps filled segments ready. Neither decides anything.
//!
//! After the first failure of any kind the log is fenced, because later batches were made in the belief that the
//! earlier one is stored; all further batches are answered `Fenced`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::error::Error;
use crate::ids::Sequence;
use crate::log::Log;
use crate::payload::Payload;
use crate::space::{Reservation, SpaceHandle};

/// Called on the committer's thread, exactly once, with the outcome and the payload for further use.
pub type Done = Box<dyn FnOnce(Result<Sequence, Error>, Payload) + Send>;
/// Called on the committer's thread before the frame is written.
pub type Before = Box<dyn FnOnce() -> io::Result<()> + Send>;
type Task<L> = Box<dyn FnOnce(&mut L) + Send>;

/// One batch on its way to the disk.
pub struct Batch {
    /// Its records.
    pub payload: Payload,
    /// The space that was reserved for it.
    pub held: Option<Reservation>,
    /// Makes durable what the batch refers to (bodies). A failure, a full disk included, fences the log.
    pub before: Option<Before>,
    /// Gets the outcome. Must not block and must not panic.
    pub done: Done,
}

/// How a committer runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Batches that may wait; a submitter beyond blocks.
    pub queue: usize,
    /// How long no batch has to come until an idle frame is written behind the last one; `None`: never on its own.
    pub idle_after: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { queue: 4, idle_after: Some(Duration::from_millis(20)) }
    }
}

enum Command<L> {
    Batch(Batch),
    Run(Task<L>),
    Stop,
}

/// The committer was stopped or has died; the batch comes back, its `done` was not called.
pub struct Stopped(pub Batch);

/// Why a batch was not taken at once.
pub enum NotTaken {
    /// As many batches wait as may.
    Busy(Batch),
    /// The committer is gone.
    Stopped(Batch),
}

/// Handle of the committer's thread; dropped, it lets the thread finish what was submitted and waits for it.
pub struct Committer<L: Log + 'static> {
    commands: SyncSender<Command<L>>,
    thread: Option<JoinHandle<L>>,
}

impl<L: Log + 'static> Committer<L> {
    /// Starts the thread.
    pub fn spawn(log: L, settings: Settings) -> io::Result<Self> {
        let (commands, inbox) = sync_channel(settings.queue);
        let thread = Builder::new()
            .name("journal-commit".to_owned())
            .spawn(move || commit_all(log, &inbox, settings.idle_after))?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Hands over a batch; blocks while the queue is full.
    pub fn submit(&self, batch: Batch) -> Result<(), Stopped> {
        self.commands.send(Command::Batch(batch)).map_err(|refused| match refused.0 {
            Command::Batch(batch) => Stopped(batch),
            Command::Run(_) | Command::Stop => unreachable!("a batch was sent"),
        })
    }

    /// Hands over a batch if there is room, without blocking.
    pub fn try_submit(&self, batch: Batch) -> Result<(), NotTaken> {
        self.commands.try_send(Command::Batch(batch)).map_err(|refused| match refused {
            TrySendError::Full(Command::Batch(batch)) => NotTaken::Busy(batch),
            TrySendError::Disconnected(Command::Batch(batch)) => NotTaken::Stopped(batch),
            _ => unreachable!("a batch was sent"),
        })
    }

    /// Runs `task` on the log behind everything submitted so far: removing segments, listing closed ones, raising
    /// the epoch. Answers `false`, without running it, if the committer is gone.
    pub fn run(&self, task: impl FnOnce(&mut L) + Send + 'static) -> bool {
        self.commands.send(Command::Run(Box::new(task))).is_ok()
    }

    /// Finishes what was submitted, ends the thread and gives the log back; `None` if the thread had panicked.
    pub fn stop(mut self) -> Option<L> {
        self.join()
    }

    fn join(&mut self) -> Option<L> {
        let thread = self.thread.take()?;
        // If it cannot be told, it has ended already.
        let _ = self.commands.send(Command::Stop);
        thread.join().ok()
    }
}

impl<L: Log + 'static> Drop for Committer<L> {
    fn drop(&mut self) {
        self.join();
    }
}

fn commit_all<L: Log>(mut log: L, inbox: &Receiver<Command<L>>, idle_after: Option<Duration>) -> L {
    let mut idle_due = false;
    loop {
        let command = match idle_after.filter(|_| idle_due) {
            Some(pause) => match inbox.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {
                    idle_due = false;
                    // Full: the last batch stays ambiguous for longer. Any other failure has fenced the log, and the
                    // next batch will tell.
                    let _ = log.idle_frame();
                    continue;
                }
                Ok(command) => command,
                Err(RecvTimeoutError::Disconnected) => return log,
            },
            None => match inbox.recv() {
                Ok(command) => command,
                Err(_) => return log,
            },
        };
        match command {
            Command::Batch(batch) => {
                idle_due = true;
                commit(&mut log, batch);
            }
            Command::Run(task) => task(&mut log),
            Command::Stop => return log,
        }
    }
}

fn commit<L: Log>(log: &mut L, batch: Batch) {
    let Batch { mut payload, held, before, done } = batch;
    let prepared = before.map_or(Ok(()), |before| before());
    let outcome = match prepared {
        Ok(()) => log.append(&mut payload, held),
        Err(error) => Err(Error::io("store what a batch refers to", "bodies", error)),
    };
    if outcome.is_err() {
        log.fence();
    }
    done(outcome, payload);
}

/// Keeps filled segments ready, and tries again every `pause` while the disk is full. Dropped, it ends.
pub struct Filler {
    space: SpaceHandle,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filler {
    /// Starts the thread.
    pub fn spawn(space: SpaceHandle, pause: Duration) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, handle) = (Arc::clone(&stop), space.clone());
        let thread =
            Builder::new().name("journal-fill".to_owned()).spawn(move || fill_all(&handle, &seen, pause))?;
        Ok(Self { space, stop, thread: Some(thread) })
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.space.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

fn fill_all(space: &SpaceHandle, stop: &AtomicBool, pause: Duration) {
    let mut wait = None;
    loop {
        space.shared.wait_wanted(stop, wait);
        if stop.load(Ordering::SeqCst) || space.shared.is_fenced() {
            return;
        }
        // A failure shows in `space()`; a full disk is tried again.
        wait = space.try_refill().is_err().then_some(pause);
    }
}
