//! Hold and release.

use model::id::JobId;
use model::refusal::Refusal;

use crate::authorise::{self, Act};
use crate::effect::{Asker, Refused};
use crate::machine::Call;
use crate::node::stranger;
use crate::priority;
use crate::record::Record;
use crate::state::accounts::AdminLevel;
use crate::state::job::{Hold, Pending, Phase};

impl Call<'_> {
    /// Holds a job. A running job is held for its next run only.
    pub(crate) fn hold(&mut self, id: JobId, asker: &Asker, as_user: bool) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Change, Some(job))?;
        let own = job.owner.uid == asker.uid;
        let administrates = authorise::level(state, settings, asker) >= AdminLevel::Operator;
        let hold = match (own, administrates, as_user) {
            (_, true, false) if !own || asker.uid.0 == 0 => Hold::Admin,
            _ => Hold::User,
        };
        let priority = match &job.phase {
            Phase::Pending(_) => 0,
            Phase::Active(_) => job.priority,
            Phase::Ended(_) => return Err(Refusal::AlreadyDone.into()),
        };
        self.emit(Record::JobPriority { job: id, priority, hold });
        self.refresh(id);
        Ok(())
    }

    /// Lets a held job go. One that is not held is taken as done.
    pub(crate) fn release(&mut self, id: JobId, asker: &Asker) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Change, Some(job))?;
        if job.ended().is_some() {
            return Err(Refusal::AlreadyDone.into());
        }
        let administrates = authorise::level(state, settings, asker) >= AdminLevel::Operator;
        if job.hold == Hold::Admin && !administrates {
            return Err(Refusal::AccessDenied.into());
        }
        if job.hold == Hold::None {
            return Ok(());
        }
        if let [(run, node), ..] = stranger::of_job(state, id)[..] {
            let name = &state.node(node).definition.name;
            let line = format!(
                "run {} of the job goes on on node {name}; cancel it, or wait for its end",
                run.run.0
            );
            return Err(Refused { refusal: Refusal::TransitionState, lines: vec![line.into()] });
        }
        let priority = priority::priority(state, settings, job);
        let kept = job.pending().filter(|pending| pending.kept_reason.is_some()).cloned();
        self.emit(Record::JobPriority { job: id, priority, hold: Hold::None });
        if let Some(pending) = kept {
            self.emit(Record::JobWaits { job: id, pending: Pending { kept_reason: None, ..pending } });
        }
        self.refresh(id);
        self.machine.arm(id);
        self.out.pass_wanted = true;
        Ok(())
    }
}
