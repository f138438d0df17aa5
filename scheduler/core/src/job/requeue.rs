//! Back to the queue: at a user's word, after a lost run, after an end.

use model::id::JobId;
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;

use crate::authorise::{self, Act};
use crate::effect::{Asker, Refused};
use crate::machine::Call;
use crate::priority;
use crate::record::Record;
use crate::state::job::{Ended, Finish, Hold, Pending, Phase, RequeueHow, StopCause};

impl Call<'_> {
    /// `scontrol requeue`, `requeuehold`.
    pub(crate) fn requeue(&mut self, id: JobId, asker: &Asker, how: RequeueHow) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Requeue, Some(job))?;
        if !job.has_batch_step() || !job.requeue {
            return Err(Refusal::Disabled.into());
        }
        match &job.phase {
            Phase::Pending(_) => Err(Refusal::JobPending.into()),
            Phase::Active(active) if active.finish.is_some() => Err(Refusal::TransitionState.into()),
            Phase::Active(_) => {
                let finish = Finish {
                    state: JobState::Requeued,
                    exit: None,
                    reason: Reason::None,
                    detail: "".into(),
                    by: Some(asker.uid),
                    at: self.now,
                    requeue: Some(how),
                };
                self.emit(Record::JobFinishing { job: id, finish });
                self.stop_steps(id, StopCause::Requeue, Some(asker.uid));
                self.end_if_over(id);
                Ok(())
            }
            Phase::Ended(ended) => {
                let again = Ended { end: self.now, ..(**ended).clone() };
                self.put_back(id, again, how);
                self.after_end(id);
                Ok(())
            }
        }
    }

    /// The run that ended goes to history; the job waits again.
    pub(crate) fn put_back(&mut self, id: JobId, ended: Ended, how: RequeueHow) {
        let settings = self.settings();
        let job = self.job(id);
        let (hold, kept_reason) = match how {
            RequeueHow::Eligible => (job.hold, None),
            RequeueHow::HeldUser => (Hold::User, Some(Reason::RequeuedHeld)),
            RequeueHow::HeldAdmin => (Hold::Admin, Some(Reason::RequeuedHeld)),
            RequeueHow::LaunchFailed => (Hold::User, Some(Reason::LaunchFailedRequeuedHeld)),
            RequeueHow::SpecialExit => (Hold::User, Some(Reason::SpecialExit)),
        };
        let pending = Pending {
            not_before: Some(self.now.saturating_add(settings.requeue_delay)),
            kept_reason,
            ..Pending::default()
        };
        let priority = if hold == Hold::None { priority::priority(self.state(), settings, job) } else { 0 };
        self.emit(Record::JobRequeued {
            job: id,
            ended: std::sync::Arc::new(ended),
            pending,
            priority,
            hold,
        });
        self.machine.arm(id);
    }
}
