//! MIG instances in the lives of runs: claimed with a run's intent, made before its start, destroyed before its end is
//! told. What blocks is done beside the agent's task.

use std::sync::Arc;

use executor_supervisor::frame::{Cause, Frame};
use executor_supervisor::outcome::{Kind, Outcome};
use proto::v1;
use tokio::sync::mpsc;

use super::{Agent, Beside, Fixed};
use crate::gpu::node::Granted;
use crate::key::Key;
use crate::record::{Mark, Record};
use crate::step::lifecycle::Event;

/// What came of looking at the GPUs.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// To be logged.
    pub records: Vec<Record>,
    /// The scheduler should know.
    pub changed: bool,
    /// Live runs whose instance is gone.
    pub lost: Vec<(Key, String)>,
}

impl Agent {
    /// Claims the slices that a launch needs; they are on disk with the run's intent.
    pub(super) fn claim(&mut self, key: Key, launch: &v1::Launch) -> Result<(), String> {
        if matches!(key.step, model::id::StepId::Hook(_)) {
            // A program of the site uses none: the job's are made for its own runs, and go with them.
            return Ok(());
        }
        let here = launch.allocation.get(launch.node_index as usize);
        let wanted = here.map_or_else(Vec::new, |here| self.fixed.gpus.wanted(here));
        let Some(slices) = self.fixed.gpus.slices().filter(|_| !wanted.is_empty()) else { return Ok(()) };
        for record in slices.claim(key, &wanted)? {
            self.logbook.add(&record, None);
        }
        Ok(())
    }

    /// Whether the run waits for instances, or has some.
    pub(super) fn has_slices(&self, key: Key) -> bool {
        self.fixed.gpus.slices().is_some_and(|slices| slices.is_user(key))
    }

    /// A run with slices has ended: its end is logged, and then told, when they are destroyed.
    pub(super) fn release(&self, key: Key, mark: Mark, then: Option<Event>) {
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::task::spawn_blocking(move || {
            let records = fixed.gpus.slices().map(|slices| slices.release(key)).unwrap_or_default();
            let stuck = fixed.gpus.slices().is_some_and(|slices| !slices.faults().is_empty());
            if stuck {
                // The scheduler must know before it hears that the place is free.
                let (changed, lost) = fixed.gpus.look();
                let _ = beside.blocking_send(Beside::Looked(Looked { records: Vec::new(), changed, lost }));
            }
            // The agent is gone only when the process ends.
            let _ = beside.blocking_send(Beside::Released(key, mark, then, records));
        });
    }

    /// Looks at the GPUs, one time at a time.
    pub(super) fn look(&mut self) {
        if self.looking || !self.fixed.gpus.is_observed() {
            return;
        }
        self.looking = true;
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::task::spawn_blocking(move || {
            let records = fixed.gpus.slices().map(crate::gpu::slices::Slices::sweep).unwrap_or_default();
            let (changed, lost) = fixed.gpus.look();
            let _ = beside.blocking_send(Beside::Looked(Looked { records, changed, lost }));
        });
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        self.looking = false;
        for record in looked.records {
            self.logbook.add(&record, None);
        }
        for (key, why) in looked.lost {
            self.doom(key, why);
        }
        if looked.changed && self.session.is_some() {
            tracing::info!("the GPUs have changed; registering again");
            self.leave();
        }
    }

    /// Ends a run that has lost its instance: the node failed it, not the user.
    pub(super) fn doom(&mut self, key: Key, why: String) {
        if self.doomed.contains_key(&key) {
            return;
        }
        tracing::error!(run = %key, why, "a run is ended");
        let note = why.clone();
        self.doomed.insert(key, why);
        let frame = Frame::Terminate { cause: Cause::NodeFail, kill_wait_ms: 0, note };
        self.happen(key, Event::Stop(frame));
    }

    /// The outcome of a run as the scheduler should see it.
    pub(super) fn judged(&mut self, key: Key, event: Event) -> Event {
        match event {
            Event::Gone(outcome) => match self.doomed.remove(&key) {
                Some(detail) => Event::Gone(Outcome { kind: Kind::Lost, detail, ..outcome }),
                None => Event::Gone(outcome),
            },
            other => other,
        }
    }
}

/// Makes what the run has claimed. Blocking.
pub(super) async fn ensure(
    fixed: &Arc<Fixed>,
    key: Key,
    beside: &mpsc::Sender<Beside>,
) -> Result<(), String> {
    let place = Arc::clone(fixed);
    let made = tokio::task::spawn_blocking(move || {
        place.gpus.slices().map_or_else(|| Ok(Vec::new()), |slices| slices.ensure(key))
    });
    let records = made.await.map_err(|error| format!("the MIG instances cannot be made: {error}"))??;
    if !records.is_empty() {
        let _ = beside.send(Beside::Noted(records)).await;
    }
    Ok(())
}

/// What a run is bound to here: all of its job's, and its own.
pub(super) struct Bound {
    pub job: Vec<Granted>,
    pub step: Vec<Granted>,
    /// The GPUs are observed through a driver.
    pub observed: bool,
}

/// Looks up what the launch was given.
///
/// # Errors
/// A sentence: something of it is not there.
pub(super) fn bound(fixed: &Fixed, key: Key, launch: &v1::Launch) -> Result<Bound, String> {
    let granted = |allocation: Option<&v1::NodeAllocation>| match allocation {
        Some(allocation) => fixed.gpus.granted(key.into(), allocation),
        None => Ok(None),
    };
    let job = granted(launch.allocation.get(launch.node_index as usize))?;
    let step = match launch.tasks.is_some() {
        true => granted(own(launch))?,
        false => job.clone(),
    };
    let observed = job.is_some() || step.is_some();
    Ok(Bound { job: job.unwrap_or_default(), step: step.unwrap_or_default(), observed })
}

/// The allocation of the run itself: its step's, or the job's.
pub(super) fn own(launch: &v1::Launch) -> Option<&v1::NodeAllocation> {
    match launch.tasks.is_some() {
        true => launch.step_nodes.get(launch.step_node_index as usize)?.allocation.as_ref(),
        false => launch.allocation.get(launch.node_index as usize),
    }
}
