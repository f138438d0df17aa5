//! The releaser: what is durable goes into the views, then answers and effects leave, in order.
//!
//! A thread of its own, so that the committer is free for the next frame. After the first batch that was
//! not stored nothing more is released: callers learn that the outcome is unknown by their dropped handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use scheduler_core::effect::Effect;
use scheduler_core::state::State;
use scheduler_core::state::job::Job;

use super::batch::{Batch, Release};
use super::keeper::history_row;
use crate::crash::{self, Point};
use crate::dispatch::Dispatch;
use crate::hooks::Hooks;
use crate::inbox::Inbox;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use crate::store::Committed;
use crate::store::history::{History, RecordPlace};
use crate::views::Views;

/// A batch and what became of it: `None` if it had no record, `Err` says why it is not stored.
pub(super) type Outcome = (Batch, Result<Option<Committed>, String>);

/// How far batches are. Shared by controller, committer and releaser.
#[derive(Default)]
pub(super) struct Progress {
    /// Batches given to the committer and not yet durable.
    pub unsynced: AtomicUsize,
    /// Batches not yet released.
    pub unreleased: AtomicUsize,
    /// A batch was not stored: nothing more may be.
    pub fenced: AtomicBool,
}

/// Where what is durable goes.
#[derive(Clone)]
pub(super) struct Outlets {
    pub views: Arc<Views>,
    pub history: Arc<History>,
    pub dispatch: Arc<Dispatch>,
    pub mailer: Arc<Mailer>,
    pub hooks: Arc<Hooks>,
    pub metrics: Arc<Metrics>,
}

/// The thread, and the way to it. Bounded by the controller, which counts what is not released.
pub(super) struct Releaser {
    batches: Option<Sender<Outcome>>,
    thread: Option<JoinHandle<Option<String>>>,
}

impl Releaser {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn spawn(outlets: Outlets, inbox: Inbox, progress: Arc<Progress>) -> std::io::Result<Self> {
        let (batches, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("release".to_owned())
            .spawn(move || run(&receiver, &outlets, &inbox, &progress))?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// The way to it.
    ///
    /// # Panics
    /// After [`stop`](Self::stop).
    #[must_use]
    pub(super) fn sender(&self) -> Sender<Outcome> {
        self.batches.clone().expect("the releaser runs until it is stopped")
    }

    /// Lets it release what it has and ends it. Answers why a batch was not stored, if one was not.
    pub(super) fn stop(&mut self) -> Option<String> {
        self.batches = None;
        self.thread.take()?.join().unwrap_or_else(|_| Some("the releaser panicked".to_owned()))
    }
}

impl Drop for Releaser {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(batches: &Receiver<Outcome>, outlets: &Outlets, inbox: &Inbox, progress: &Progress) -> Option<String> {
    let mut fault = None;
    while let Ok((batch, outcome)) = batches.recv() {
        match outcome {
            Ok(committed) if fault.is_none() => release(batch, committed, outlets),
            Ok(_) => {}
            Err(error) => {
                progress.fenced.store(true, Ordering::SeqCst);
                fault.get_or_insert(error);
                inbox.alarm();
            }
        }
        progress.unreleased.fetch_sub(1, Ordering::SeqCst);
        inbox.progress();
    }
    fault
}

fn release(batch: Batch, committed: Option<Committed>, outlets: &Outlets) {
    let Outlets { views, history, dispatch, mailer, hooks, metrics } = outlets;
    let Batch { update, releases } = batch;
    metrics.records.add(update.records.len() as u64);
    match committed {
        None => views.update(update, |_, _, _| {}),
        // Its pins are held until the views have its records.
        Some(Committed { sequence, pins: _pins }) => {
            crash::point(Point::AfterSync);
            let directory = views.directory();
            views.update(update, |view, record, place| {
                let at = RecordPlace { sequence, record: place };
                let mut maker = |state: &State, job: &Job| history_row(state, &view.settings, directory, job);
                history.observe(&view.state, at, record, &mut maker);
                mailer.observe(&view.state, record);
            });
            history.observed(sequence);
            crash::point(Point::AfterViews);
        }
    }
    for one in releases {
        match one {
            // A caller that has left needs no answer.
            Release::Answer(reply, answer) => drop(reply.send(answer)),
            Release::Effect(Effect::Hook { run, stop }) => hooks.order(run, stop),
            Release::Effect(effect) => {
                crash::point(Point::BeforeEffect);
                dispatch.release(effect);
            }
            Release::Configured(reply) => drop(reply.send(())),
        }
    }
}
