//! Leases of interactive allocations: while its client holds the stream, an allocation lives.
//!
//! A stream that breaks leaves the client a grace time to come back; then the allocation is cancelled, as
//! Slurm does with a lost `salloc` or `srun`. After a restart of the scheduler each allocation has its
//! grace time again. Batch jobs have no lease, nor have allocations that are to live on their own
//! (`salloc --no-shell`): those are submitted without a session (`alloc_sid` is 0).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::{Gid, JobId, Uid};
use model::request::Kind;
use scheduler_core::effect::{Asker, Selector};
use scheduler_core::input::{Command, JobFilter};
use scheduler_core::state::job::Job;
use tokio::sync::oneshot;

use crate::inbox::{Inbox, Item};
use crate::views::Views;

/// One allocation's lease.
#[derive(Default)]
struct Lease {
    holders: u32,
    /// Grows with each change, so that an older timer knows that it is void.
    turn: u64,
}

/// All leases. Shared.
pub struct Leases {
    table: Mutex<HashMap<JobId, Lease>>,
    inbox: Inbox,
    views: Arc<Views>,
    runtime: tokio::runtime::Handle,
}

/// Holds one lease until it is dropped.
pub struct Held {
    leases: Arc<Leases>,
    job: JobId,
}

impl Leases {
    /// No lease yet. Timers run on `runtime`.
    #[must_use]
    pub fn new(inbox: Inbox, views: Arc<Views>, runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), inbox, views, runtime })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Lease>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lease of an allocation.
    #[must_use]
    pub fn hold(self: &Arc<Self>, job: JobId) -> Held {
        let mut table = self.lock();
        let lease = table.entry(job).or_default();
        lease.holders += 1;
        lease.turn += 1;
        drop(table);
        Held { leases: Arc::clone(self), job }
    }

    /// Expects somebody to hold this allocation within the grace time.
    pub fn expect(self: &Arc<Self>, job: JobId) {
        let mut table = self.lock();
        let lease = table.entry(job).or_default();
        if lease.holders > 0 {
            return;
        }
        lease.turn += 1;
        let turn = lease.turn;
        drop(table);
        let grace = self.views.read().settings.lease_grace;
        let grace = Duration::from_millis(u64::try_from(grace.0).unwrap_or(0));
        let leases = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            leases.expire(job, turn).await;
        });
    }

    /// Expects the holders of all allocations that live: after a start.
    pub fn expect_all(self: &Arc<Self>) {
        let jobs: Vec<JobId> = {
            let view = self.views.read();
            view.state.jobs.values().filter(|job| is_leased(job)).map(|job| job.id).collect()
        };
        for job in jobs {
            self.expect(job);
        }
    }

    /// Ends the allocation, unless somebody took the lease meanwhile.
    async fn expire(&self, job: JobId, turn: u64) {
        {
            let mut table = self.lock();
            let Some(lease) = table.get(&job) else { return };
            if lease.holders > 0 || lease.turn != turn {
                return;
            }
            table.remove(&job);
        }
        let live = {
            let view = self.views.read();
            view.state.job(job).is_some_and(is_leased)
        };
        if !live {
            return;
        }
        tracing::info!(job = job.0, "nobody holds this allocation any more; it is cancelled");
        let (reply, answer) = oneshot::channel();
        let command = Command::Cancel {
            jobs: vec![Selector { job, tasks: None, step: None }],
            filter: JobFilter::default(),
            signal: None,
            batch_only: false,
            full: false,
        };
        let item = Item::Command { asker: root(), command: Box::new(command), body: None, reply };
        if self.inbox.send(item).await.is_ok() {
            // Nobody is to be told; an unknown outcome is looked at again after the next start.
            let _ = answer.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let last = {
            let mut table = self.leases.lock();
            match table.get_mut(&self.job) {
                Some(lease) => {
                    lease.holders = lease.holders.saturating_sub(1);
                    lease.holders == 0
                }
                None => false,
            }
        };
        if last {
            self.leases.expect(self.job);
        }
    }
}

/// Whether a job lives only while somebody holds it.
fn is_leased(job: &Job) -> bool {
    job.ended().is_none() && job.request.kind != Kind::Batch && job.alloc_sid != 0
}

/// The daemon itself, as an asker.
#[must_use]
pub fn root() -> Asker {
    Asker { uid: Uid(0), gid: Gid(0), name: "root".into(), groups: Arc::from([]) }
}
