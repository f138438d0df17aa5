//! The controller's queue: bounded by count and by bytes of bodies, with reply handles.
//!
//! Senders wait when it is full; the controller never waits for them. Answers come through one-shot
//! handles: a handle that is dropped says "outcome unknown, retry with the same key". The queue also
//! carries the committer's word that a batch is on disk, so that the controller waits in one place.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::id::{BodyHash, Epoch};
use prost::bytes::Bytes;
use scheduler_core::effect::{Answer, RunKey};
use scheduler_core::input::{Command, Registration, Report, Submit};
use scheduler_core::settings::Settings;
use tokio::sync::{Semaphore, oneshot};

/// Most items that wait.
const ITEMS_MAX: usize = 4096;
/// Most KiB of bodies that wait.
const KIB_MAX: usize = 128 * 1024;

/// A script or environment on its way to the store.
#[derive(Clone, Debug)]
pub struct Body {
    /// BLAKE3 of the bytes.
    pub hash: BodyHash,
    /// The bytes.
    pub bytes: Bytes,
}

impl Body {
    /// Addresses the bytes. Cost: hashing them.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { hash: BodyHash(*blake3::hash(&bytes).as_bytes()), bytes }
    }
}

/// Gets the answer, or is dropped: then the outcome is unknown.
pub type Reply = oneshot::Sender<Answer>;

/// Something for the machine.
pub enum Item {
    /// A submission; `reply` of the input is filled in by the controller.
    Submit {
        /// The input.
        submit: Box<Submit>,
        /// Its bodies.
        bodies: Vec<Body>,
        /// Who waits.
        reply: Reply,
    },
    /// A command.
    Command {
        /// Who asks.
        asker: scheduler_core::effect::Asker,
        /// What.
        command: Box<Command>,
        /// A body that the command refers to.
        body: Option<Body>,
        /// Who waits.
        reply: Reply,
    },
    /// An executor's first message.
    Registered(Box<Registration>),
    /// A session's word on a run. Dropped if the session is not the node's present one.
    Report {
        /// The session.
        session: u64,
        /// The run.
        run: RunKey,
        /// What became of it.
        report: Report,
    },
    /// A session is over.
    SessionEnded {
        /// The session.
        session: u64,
    },
    /// A new configuration, checked.
    Configure {
        /// The configuration.
        settings: Arc<Settings>,
        /// Told when it is in force.
        reply: oneshot::Sender<()>,
    },
    /// An executor has seen a higher epoch than this owner's.
    EpochSeen(Epoch),
    /// Store what is there and stop.
    Stop,
}

impl Item {
    fn kib(&self) -> u32 {
        let bytes = match self {
            Self::Submit { bodies, .. } => bodies.iter().map(|body| body.bytes.len()).sum(),
            Self::Command { body, .. } => body.as_ref().map_or(0, |body| body.bytes.len()),
            _ => 0,
        };
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).min(KIB_MAX as u32)
    }
}

/// The controller is gone: the daemon is stopping.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped;

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// The committer (or the releaser) has got further since the controller last looked.
    progress: bool,
    stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    places: Semaphore,
    kib: Semaphore,
}

/// A handle of the queue; cheap to clone.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

impl Default for Inbox {
    fn default() -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            places: Semaphore::new(ITEMS_MAX),
            kib: Semaphore::new(KIB_MAX),
        }))
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item behind the others; waits while the queue is full.
    pub async fn send(&self, item: Item) -> Result<(), Stopped> {
        let kib = item.kib();
        if kib > 0 {
            self.0.kib.acquire_many(kib).await.map_err(|_| Stopped)?.forget();
        }
        self.0.places.acquire().await.map_err(|_| Stopped)?.forget();
        self.push(item)
    }

    /// The same for the daemon's own few items, beyond the bound and without waiting.
    pub fn send_now(&self, item: Item) -> Result<(), Stopped> {
        self.push(item)
    }

    fn push(&self, item: Item) -> Result<(), Stopped> {
        let mut queue = self.lock();
        if queue.stopped {
            return Err(Stopped);
        }
        queue.items.push_back(item);
        let first = queue.items.len() == 1;
        drop(queue);
        if first {
            self.0.filled.notify_one();
        }
        Ok(())
    }

    /// Says that a batch got further.
    pub fn progress(&self) {
        self.lock().progress = true;
        self.0.filled.notify_one();
    }

    /// Takes up to `most` items, waiting until there is one (unless none is wanted), a batch got further, or
    /// `until` has come.
    ///
    /// Answers whether items are left behind those taken.
    pub fn take(&self, into: &mut Vec<Item>, most: usize, until: Option<Instant>) -> bool {
        let mut queue = self.lock();
        while (queue.items.is_empty() || most == 0) && !queue.progress {
            queue = match until {
                None => self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) =
                        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                    else {
                        break;
                    };
                    self.0.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        queue.progress = false;
        let count = queue.items.len().min(most);
        into.extend(queue.items.drain(..count));
        let more = !queue.items.is_empty();
        drop(queue);
        self.0.places.add_permits(count);
        let kib: usize = into.iter().map(|item| item.kib() as usize).sum();
        self.0.kib.add_permits(kib);
        more
    }

    /// Waits for [`Item::Stop`], which may stand behind others, for at most `pause`.
    #[must_use]
    pub fn wait_for_stop(&self, pause: std::time::Duration) -> bool {
        let until = Instant::now() + pause;
        let mut queue = self.lock();
        loop {
            if queue.items.iter().any(|item| matches!(item, Item::Stop)) {
                return true;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return false;
            };
            queue = self.0.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Refuses everything from now on; what waits is dropped, so that its callers are told.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.stopped = true;
        let left = std::mem::take(&mut queue.items);
        drop(queue);
        drop(left);
        self.0.places.close();
        self.0.kib.close();
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_order_and_tells_of_progress() {
        let inbox = Inbox::default();
        for session in 0..3 {
            inbox.send(Item::SessionEnded { session }).await.unwrap();
        }
        let mut items = Vec::new();
        assert!(inbox.take(&mut items, 2, None));
        assert!(!inbox.take(&mut items, 2, None));
        let sessions: Vec<u64> = items
            .iter()
            .map(|item| match item {
                Item::SessionEnded { session } => *session,
                _ => u64::MAX,
            })
            .collect();
        assert_eq!(sessions, [0, 1, 2]);
        inbox.progress();
        assert!(!inbox.take(&mut items, 2, None));
        assert_eq!(items.len(), 3);
        assert!(!inbox.take(&mut items, 2, Some(Instant::now())));
    }

    #[tokio::test]
    async fn a_closed_queue_tells_those_who_wait() {
        let inbox = Inbox::default();
        let (reply, answer) = oneshot::channel();
        let settings = Arc::new(crate::testing::settings());
        inbox.send(Item::Configure { settings, reply }).await.unwrap();
        inbox.close();
        assert!(answer.await.is_err());
        assert_eq!(inbox.send(Item::Stop).await, Err(Stopped));
    }
}
