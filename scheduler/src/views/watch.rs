//! Streams of changes: first every job that matches, then each change, until the caller leaves.
//!
//! A watcher reads rows from the view, so what it sees is durable and in order; a job that changes twice
//! between two reads is seen once, in its last state. Buffers are bounded: a watcher that falls behind the
//! news begins anew, and one whose connection takes nothing holds only its own task.

use std::sync::Arc;

use model::id::JobId;
use proto::v1;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::Status;

use super::filter::Filter;
use super::{News, Views};

/// Pages that wait for a slow caller before its task waits too.
const PAGES_MAX: usize = 4;
/// Rows of one page.
const ROWS_MAX: usize = 256;

/// What a watch sends.
pub type Pages = mpsc::Receiver<Result<v1::JobPage, Status>>;

/// Starts a watch. It ends when the caller drops the receiver.
#[must_use]
pub fn start(views: Arc<Views>, filter: Filter) -> Pages {
    let (pages, receiver) = mpsc::channel(PAGES_MAX);
    tokio::spawn(async move {
        // The caller has left: nothing is left to do.
        let _ = watch(&views, &filter, &pages).await;
    });
    receiver
}

/// The caller has left.
struct Left;

type Sender = mpsc::Sender<Result<v1::JobPage, Status>>;

async fn watch(views: &Views, filter: &Filter, pages: &Sender) -> Result<(), Left> {
    let mut news = views.subscribe();
    loop {
        send_all(views, filter, pages).await?;
        loop {
            let changed = tokio::select! {
                changed = news.recv() => changed,
                () = pages.closed() => return Err(Left),
            };
            match changed {
                Ok(changed) => send_changed(views, filter, &changed, pages).await?,
                // Missed some: what is true now is read anew.
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

async fn send_all(views: &Views, filter: &Filter, pages: &Sender) -> Result<(), Left> {
    if filter.names_jobs() {
        let jobs = views.jobs_named(filter, true);
        return send(pages, page(views, jobs, true)).await;
    }
    let mut after = None;
    loop {
        let (jobs, next) = views.jobs_after(after, filter, true);
        send(pages, page(views, jobs, next.is_none())).await?;
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn send_changed(views: &Views, filter: &Filter, changed: &News, pages: &Sender) -> Result<(), Left> {
    for ids in changed.chunks(ROWS_MAX) {
        let jobs = rows(views, filter, ids);
        if !jobs.is_empty() {
            send(pages, page(views, jobs, false)).await?;
        }
    }
    Ok(())
}

fn rows(views: &Views, filter: &Filter, ids: &[JobId]) -> Vec<v1::Job> {
    let view = views.read();
    ids.iter()
        .filter_map(|id| view.state.job(*id))
        .filter(|job| filter.matches(&view, job))
        .map(|job| views.row(&view, job, true))
        .collect()
}

fn page(views: &Views, jobs: Vec<v1::Job>, caught_up: bool) -> v1::JobPage {
    v1::JobPage { jobs, now_ms: views.wall().0, caught_up, ..v1::JobPage::default() }
}

async fn send(pages: &Sender, page: v1::JobPage) -> Result<(), Left> {
    pages.send(Ok(page)).await.map_err(|_| Left)
}
