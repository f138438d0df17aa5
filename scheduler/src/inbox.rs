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
    /// A session looked at its node's GPUs again.
    Gpus {
        /// The session.
        session: u64,
        /// All of them.
        gpus: Vec<model::gpu::Gpu>,
    },
    /// A program beside the scheduler has ended.
    HookEnded {
        /// The run that it was for.
        run: RunKey,
        /// Its status.
        exit: model::exit::ExitStatus,
        /// Why it failed, where the status does not say.
        detail: Box<str>,
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
    /// Whether it may wait a little for others of its kind: nobody waits for an answer.
    fn is_patient(&self) -> bool {
        matches!(self, Self::Report { .. })
    }

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
    /// How many of them are not patient.
    pressing: usize,
    /// The controller waits, and patient items need not wake it.
    lazy: bool,
    /// The committer (or the releaser) has got further since the controller last looked.
    progress: bool,
    /// The controller waits for that.
    awaits_progress: bool,
    /// See [`Inbox::alarm`].
    alarm: bool,
    stopped: bool,
}

/// What ends a wait for items, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// At this instant, whatever is there.
    pub until: Option<Instant>,
    /// Items that nobody waits for do not end it before this instant.
    pub patience: Option<Instant>,
    /// A batch that got further ends it.
    pub for_progress: bool,
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
        let patient = item.is_patient();
        queue.items.push_back(item);
        queue.pressing += usize::from(!patient);
        let wakes = match patient {
            true => queue.items.len() == 1 && !queue.lazy,
            false => queue.pressing == 1,
        };
        drop(queue);
        if wakes {
            self.0.filled.notify_one();
        }
        Ok(())
    }

    /// Says that a batch got further.
    pub fn progress(&self) {
        let mut queue = self.lock();
        queue.progress = true;
        let wakes = queue.awaits_progress;
        drop(queue);
        if wakes {
            self.0.filled.notify_one();
        }
    }

    /// Says that something failed: whoever takes items has to look, whatever it waits for.
    pub fn alarm(&self) {
        self.lock().alarm = true;
        self.0.filled.notify_one();
    }

    /// Takes up to `most` items, waiting until there is one (unless none is wanted) or something else ends the wait.
    ///
    /// Answers whether items are left behind those taken.
    pub fn take(&self, into: &mut Vec<Item>, most: usize, wait: Wait) -> bool {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let patience = wait.patience.filter(|at| *at > now);
            let pressing = queue.pressing > 0 || (patience.is_none() && !queue.items.is_empty());
            let past = wait.until.is_some_and(|at| at <= now);
            if (pressing && most > 0) || (queue.progress && wait.for_progress) || queue.alarm || past {
                break;
            }
            // Nothing that is there may be forgotten: what need not wake is looked at when patience ends.
            let until = [wait.until, patience.filter(|_| most > 0)].into_iter().flatten().min();
            (queue.lazy, queue.awaits_progress) = (patience.is_some(), wait.for_progress);
            queue = match until {
                None => self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(now);
                    self.0.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            (queue.lazy, queue.awaits_progress) = (false, false);
        }
        queue.alarm = false;
        queue.progress = false;
        let count = queue.items.len().min(most);
        let before = into.len();
        into.extend(queue.items.drain(..count));
        let taken = &into[before..];
        queue.pressing -= taken.iter().filter(|item| !item.is_patient()).count();
        let more = !queue.items.is_empty();
        drop(queue);
        self.0.places.add_permits(count);
        let kib: usize = taken.iter().map(|item| item.kib() as usize).sum();
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

    /// Whether callers have to wait for a place, or nothing is taken any more.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.0.places.is_closed() || self.0.places.available_permits() == 0
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
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn keeps_order_and_tells_of_progress() {
        let inbox = Inbox::default();
        for session in 0..3 {
            inbox.send(Item::SessionEnded { session }).await.unwrap();
        }
        let mut items = Vec::new();
        assert!(inbox.take(&mut items, 2, Wait::default()));
        assert!(!inbox.take(&mut items, 2, Wait::default()));
        let sessions: Vec<u64> = items
            .iter()
            .map(|item| match item {
                Item::SessionEnded { session } => *session,
                _ => u64::MAX,
            })
            .collect();
        assert_eq!(sessions, [0, 1, 2]);
        inbox.progress();
        assert!(!inbox.take(&mut items, 2, Wait { for_progress: true, ..Wait::default() }));
        assert_eq!(items.len(), 3);
        assert!(!inbox.take(&mut items, 2, Wait { until: Some(Instant::now()), ..Wait::default() }));
    }

    #[tokio::test]
    async fn reports_wait_for_company_and_nothing_else_does() {
        let inbox = Inbox::default();
        let report = || Item::Report {
            session: 1,
            run: RunKey {
                job: model::id::JobId(1),
                step: model::id::StepId::Batch,
                run: model::id::RunNumber(1),
            },
            report: Report::Unknown,
        };
        let minute = Duration::from_secs(60);
        let mut items = Vec::new();
        // Patience ends by time …
        inbox.send(report()).await.unwrap();
        let begun = Instant::now();
        let patience = Some(begun + Duration::from_millis(5));
        inbox.take(&mut items, 9, Wait { patience, ..Wait::default() });
        assert_eq!(items.len(), 1);
        assert!(begun.elapsed() >= Duration::from_millis(5));
        // … or by something that does not wait, which may come while the controller sleeps.
        items.clear();
        inbox.send(report()).await.unwrap();
        let other = inbox.clone();
        let waiting = std::thread::spawn(move || {
            let patience = Some(Instant::now() + minute);
            other.take(&mut items, 9, Wait { patience, ..Wait::default() });
            items.len()
        });
        while !inbox.lock().lazy {
            std::thread::yield_now();
        }
        inbox.send(Item::SessionEnded { session: 1 }).await.unwrap();
        assert_eq!(waiting.join().unwrap(), 2);
        // An alarm ends every wait.
        inbox.alarm();
        let mut items = Vec::new();
        inbox.take(&mut items, 0, Wait { until: Some(Instant::now() + minute), ..Wait::default() });
        assert!(items.is_empty());
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
