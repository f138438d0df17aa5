//! scancel: end jobs and steps, or send them a signal.

use std::sync::Arc;

use model::id::{JobId, NodeIdx, StepId};
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;

use crate::authorise::{self, Act};
use crate::effect::{Asker, Effect, Outcome, Refused, RunKey, Selector};
use crate::input::JobFilter;
use crate::job::select;
use crate::machine::Call;
use crate::record::Record;
use crate::state::job::{Active, Finish, Hold, Phase, RunStage, StopCause};

const KILL: u8 = 9;
const CONT: u8 = 18;
const STOP: u8 = 19;

/// A signal and whom it reaches.
#[derive(Clone, Copy)]
pub(crate) struct Signal {
    pub(crate) number: u8,
    /// The batch shell alone.
    pub(crate) batch_only: bool,
    /// The batch shell too.
    pub(crate) full: bool,
}

impl Call<'_> {
    /// Ends or signals what is named, or what the filter matches where nothing is named.
    pub(crate) fn cancel(
        &mut self,
        jobs: &[Selector],
        filter: &JobFilter,
        signal: Option<Signal>,
        asker: &Asker,
    ) -> Vec<Outcome> {
        let every: Vec<Selector>;
        let (named, jobs) = if jobs.is_empty() {
            let live = self.state().jobs.values().filter(|job| {
                job.ended().is_none()
                    && select::matches(self.state(), job, filter)
                    && authorise::may(self.state(), self.settings(), asker, Act::Cancel, Some(job)).is_ok()
            });
            every = live.map(|job| Selector { job: job.id, tasks: None, step: None }).collect();
            (false, &every[..])
        } else {
            (true, jobs)
        };
        let mut outcomes = Vec::with_capacity(jobs.len());
        for selector in jobs {
            let whole = signal.is_none_or(|signal| signal.number == KILL) && selector.step.is_none();
            let strangers = named && whole && self.end_strangers(selector.job, asker);
            if strangers && select::records(self.state(), selector.job).is_empty() {
                outcomes.push(Outcome { object: selector.text(), refused: None });
                continue;
            }
            let outcome = match selector.step {
                Some(step) => self.for_each(selector, |call, id| call.cancel_step(id, step, signal, asker)),
                None if !named => {
                    let refused = self.cancel_job(selector.job, signal, asker).err();
                    Outcome { object: selector.text(), refused }
                }
                None => self.for_each(selector, |call, id| {
                    if select::matches(call.state(), call.job(id), filter) {
                        call.cancel_job(id, signal, asker)
                    } else {
                        Ok(())
                    }
                }),
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    fn cancel_job(&mut self, id: JobId, signal: Option<Signal>, asker: &Asker) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let Some(job) = state.jobs.get(&id) else { return Ok(()) };
        authorise::may(state, settings, asker, Act::Cancel, Some(job))?;
        let whole = signal.is_none_or(|signal| signal.number == KILL && !signal.batch_only);
        match &job.phase {
            Phase::Ended(_) => Err(Refusal::AlreadyDone.into()),
            Phase::Pending(_) if whole => {
                let reason = match job.hold {
                    Hold::None => Reason::None,
                    Hold::User => Reason::JobHeldUser,
                    Hold::Admin => Reason::JobHeldAdmin,
                };
                self.end_waiting(id, JobState::Cancelled, reason, Some(asker.uid));
                Ok(())
            }
            Phase::Pending(_) => Err(Refusal::JobPending.into()),
            Phase::Active(active) if whole => {
                if active.finish.as_ref().is_some_and(|finish| finish.requeue.is_none()) {
                    return Ok(());
                }
                let finish = Finish {
                    state: JobState::Cancelled,
                    exit: None,
                    reason: Reason::None,
                    detail: "".into(),
                    by: Some(asker.uid),
                    at: self.now,
                    requeue: None,
                };
                self.emit(Record::JobFinishing { job: id, finish });
                // It is the job that somebody ended: its steps name nobody, as in Slurm.
                self.stop_steps(id, StopCause::Cancel, None);
                self.end_if_over(id);
                Ok(())
            }
            Phase::Active(active) => {
                let signal = signal.expect("a cancel without a signal is a whole one");
                let whom = |step: StepId| {
                    step.is_work() && (step != StepId::Batch || signal.batch_only || signal.full)
                };
                let reached = parts(active, whom);
                let run = job.run;
                for (node, step) in reached {
                    if signal.batch_only && step != StepId::Batch {
                        continue;
                    }
                    self.send(node, RunKey { job: id, step, run }, signal);
                }
                self.note_stop(id, signal.number);
                Ok(())
            }
        }
    }

    /// A job that was sent SIGSTOP is shown as stopped until it is sent SIGCONT.
    fn note_stop(&mut self, id: JobId, number: u8) {
        let stopped = match number {
            STOP => true,
            CONT => false,
            _ => return,
        };
        let mut job = (**self.state().jobs.get(&id).expect("a signalled job exists")).clone();
        let Phase::Active(active) = &mut job.phase else { return };
        if active.stopped != stopped && active.finish.is_none() {
            active.stopped = stopped;
            self.emit(Record::Job(Arc::new(job)));
        }
    }

    fn cancel_step(
        &mut self,
        id: JobId,
        step: StepId,
        signal: Option<Signal>,
        asker: &Asker,
    ) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Cancel, Some(job))?;
        let Some(active) = job.active() else {
            // A waiting job has no steps, and nothing is to be done to them.
            return if job.ended().is_none() { Ok(()) } else { Err(Refusal::AlreadyDone.into()) };
        };
        match active.step(step) {
            _ if matches!(step, StepId::Hook(_)) => return Err(Refusal::InvalidJobId.into()),
            None => return Err(Refusal::InvalidJobId.into()),
            Some(step) if step.is_over() => return Err(Refusal::AlreadyDone.into()),
            Some(_) => {}
        }
        let run = job.run;
        match signal {
            None => self.stop_step(id, step, StopCause::Cancel, Some(asker.uid)),
            Some(signal) => {
                for (node, step) in parts(active, |other| other == step) {
                    self.send(node, RunKey { job: id, step, run }, signal);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, node: NodeIdx, run: RunKey, signal: Signal) {
        let Signal { number, batch_only, full } = signal;
        self.effect(Effect::Signal { node, run, signal: number, batch_only, full });
    }
}

/// The live parts of the steps that `wanted` picks.
fn parts(active: &Active, wanted: impl Fn(StepId) -> bool) -> Vec<(NodeIdx, StepId)> {
    let steps = active.steps.iter().filter(|step| wanted(step.id));
    steps
        .flat_map(|step| {
            let live = step.nodes.iter().filter(|part| part.stage != RunStage::Ended);
            live.map(|part| (part.node, step.id))
        })
        .collect()
}
