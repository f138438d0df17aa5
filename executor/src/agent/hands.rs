//! The threads that do what blocks for each run: make its folder and hand it over, and clear up after it.
//!
//! A few for all runs, in the order in which work comes: a folder that is cleared serves the next start.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use executor_supervisor::spec::container::Container;
use proto::v1;

use crate::key::Key;

/// More only fight for the processors.
const HANDS: usize = 2;

/// Something to do.
pub(super) enum Work {
    /// A run is to be started, in a container where it wants one.
    Start(Key, Box<v1::Launch>, Option<Box<Container>>),
    /// Its folder is there; it is handed over for the so-manieth time.
    Again(Key, u32),
    /// Something is to be told to its supervisor, which may have put its socket off.
    Knock(Key),
    /// It is over; its submitter's ids, where this process started it, and whether no other run of its job is here.
    Collect(Key, Option<(u32, u32)>, bool),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// The queue. Dropped: what waits is still done, then the threads end.
pub(super) struct Hands(Arc<Shared>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.waiting.pop_front() {
                return Some(work);
            }
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Hands {
    /// Starts the threads; `act` does the work.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(act: impl Fn(Work) + Send + Sync + 'static) -> std::io::Result<Self> {
        let (shared, act) = (Arc::new(Shared::default()), Arc::new(act));
        let hands = Self(Arc::clone(&shared));
        for _ in 0..HANDS {
            let (shared, act) = (Arc::clone(&shared), Arc::clone(&act));
            std::thread::Builder::new().name("runs".to_owned()).spawn(move || {
                while let Some(work) = shared.next() {
                    act(work);
                }
            })?;
        }
        Ok(hands)
    }

    /// Puts work behind the other work.
    pub(super) fn push(&self, work: Work) {
        self.0.lock().waiting.push_back(work);
        self.0.filled.notify_one();
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
    }
}
