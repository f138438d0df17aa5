//! What has to be done now and then beside the controller: bodies that nothing refers to go, and old history goes.

use std::sync::Arc;
use std::time::Duration;

use model::id::JobId;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::shelf::Shelf;
use crate::shutdown::Shutdown;
use crate::store::Error;
use crate::store::bodies::Collected;
use crate::views::Views;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(30);
/// Looks between two purges of history: an hour.
const PURGE_EVERY: u32 = 120;
/// Jobs marked under one read lock.
const CHUNK: usize = 4096;

/// What housekeeping works with.
pub struct Parts {
    /// The store's parts.
    pub shelf: Arc<Shelf>,
    /// What refers to bodies.
    pub views: Arc<Views>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The daemon's clock.
    pub clock: Clock,
}

/// Keeps house until the daemon stops.
pub async fn run(parts: Parts, stop: Shutdown) {
    let parts = Arc::new(parts);
    let mut purged_before = None;
    for look in 0_u32.. {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.wait() => return,
        }
        // What is purged after this look is collected after the next one.
        let purged = parts.metrics.purged.get();
        let collect = purged_before != Some(purged);
        purged_before = Some(purged);
        let purge = look % PURGE_EVERY == 0;
        let working = Arc::clone(&parts);
        let done = tokio::task::spawn_blocking(move || work(&working, collect, purge)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("housekeeping is tried again later: {error}"),
            Err(error) => tracing::error!("housekeeping failed: {error}"),
        }
    }
}

fn work(parts: &Parts, collect: bool, purge: bool) -> Result<(), Error> {
    if collect {
        let collected = collect_bodies(&parts.shelf, &parts.views)?;
        if collected.erased > 0 {
            tracing::debug!(erased = collected.erased, files = collected.files_removed, "bodies collected");
        }
    }
    if purge {
        parts.shelf.history().purge(parts.clock.now())?;
    }
    Ok(())
}

/// Erases the bodies that no job of the views refers to.
///
/// The jobs are marked in chunks: those that come meanwhile are kept by the collection itself, since their
/// batches refer to their bodies after it began.
///
/// # Errors
/// The store's word; what is left is collected the next time.
pub fn collect_bodies(shelf: &Shelf, views: &Views) -> Result<Collected, Error> {
    let mut collection = shelf.bodies().begin_collection();
    let mut next = Some(JobId(0));
    while let Some(from) = next {
        let view = views.read();
        let mut jobs = view.state.jobs.range(from..);
        for (_, job) in jobs.by_ref().take(CHUNK) {
            collection.keep_job(job);
        }
        next = jobs.next().map(|(id, _)| *id);
    }
    // After the jobs: one that left the views meanwhile has its row.
    shelf.history().wanted_bodies().iter().for_each(|hash| collection.keep(hash));
    collection.finish()
}
