//! The stream that keeps an interactive allocation alive and tells what becomes of it.

use std::sync::Arc;

use model::id::JobId;
use model::refusal::Refusal;
use proto::v1;
use scheduler_core::authorise::{Act, may};
use scheduler_core::effect::Asker;
use tokio::sync::mpsc;
use tonic::Status;

use super::Api;
use crate::lease::Held;
use crate::views::filter::Filter;
use crate::views::watch::{self, Pages};

/// Pages that wait for a slow caller.
const PAGES_MAX: usize = 4;

/// Holds the lease of a job while the caller listens; ends behind the page that shows its end.
///
/// # Errors
/// None; a job that is not there, or of others, is a refusal in the first page.
pub fn hold(api: &Api, asker: &Asker, from: v1::HoldAllocationRequest) -> Result<Pages, Status> {
    let (pages, receiver) = mpsc::channel(PAGES_MAX);
    let job = JobId(from.job_id);
    let allowed = {
        let view = api.views.read();
        match view.state.job(job) {
            None => Err(Refusal::InvalidJobId),
            Some(known) => may(&view.state, &view.settings, asker, Act::UseAllocation, Some(known)),
        }
    };
    if let Err(refusal) = allowed {
        let refused = Some(proto::convert::refusal::outwards(refusal, &[]));
        let page = v1::JobPage { refused, now_ms: api.views.wall().0, ..v1::JobPage::default() };
        // The channel is new and has room.
        let _ = pages.try_send(Ok(page));
        return Ok(receiver);
    }
    let filter = v1::JobFilter { job_ids: vec![job.0], ..v1::JobFilter::default() };
    let filter = Filter::new(filter)
        .ok_or_else(|| Status::internal("a filter of one job is valid"))?
        .with_ended(true)
        .with_hidden(true);
    let changes = watch::start(Arc::clone(&api.views), filter);
    tokio::spawn(forward(changes, pages, job, api.leases.hold(job)));
    Ok(receiver)
}

/// The lease is given up when this ends, and that is when the caller has left or the job has ended.
async fn forward(
    mut changes: Pages,
    pages: mpsc::Sender<Result<v1::JobPage, Status>>,
    job: JobId,
    _held: Held,
) {
    loop {
        let page = tokio::select! {
            page = changes.recv() => page,
            () = pages.closed() => return,
        };
        let Some(page) = page else { return };
        let ended = page.as_ref().is_ok_and(|page| {
            let is_over = |row: &v1::Job| {
                row.job_id == job.0 && !row.final_state.is_empty() && row.state == row.final_state
            };
            page.jobs.iter().any(is_over)
        });
        if pages.send(page).await.is_err() || ended {
            return;
        }
    }
}
