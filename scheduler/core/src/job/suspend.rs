//! Suspend and resume. A suspended job keeps its resources here.

use model::id::{JobId, NodeIdx};
use model::refusal::Refusal;

use crate::authorise::{self, Act};
use crate::effect::{Asker, Effect, Refused, RunKey};
use crate::machine::Call;
use crate::record::Record;
use crate::state::job::{Phase, RunStage};

impl Call<'_> {
    /// Stops (`suspend`) or continues a running job.
    pub(crate) fn suspend(&mut self, id: JobId, asker: &Asker, suspend: bool) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Suspend, Some(job))?;
        let active = match &job.phase {
            Phase::Pending(_) => return Err(Refusal::JobPending.into()),
            Phase::Ended(_) => return Err(Refusal::AlreadyDone.into()),
            Phase::Active(active) if active.finish.is_some() => return Err(Refusal::AlreadyDone.into()),
            Phase::Active(active) => active,
        };
        match (active.suspended_since.is_some(), suspend) {
            (true, true) => return Ok(()),
            (false, false) => return Err(Refusal::JobNotSuspended.into()),
            (true, false) | (false, true) => {}
        }
        let run = job.run;
        let parts: Vec<(NodeIdx, RunKey)> = active
            .steps
            .iter()
            .filter(|step| step.id.is_work())
            .flat_map(|step| {
                let key = RunKey { job: id, step: step.id, run };
                let live = step.nodes.iter().filter(|part| part.stage != RunStage::Ended);
                live.map(move |part| (part.node, key))
            })
            .collect();
        self.emit(Record::JobSuspended { job: id, suspended: suspend, at: self.now });
        for (node, run) in parts {
            self.effect(Effect::Suspend { node, run, suspend });
        }
        self.machine.arm(id);
        Ok(())
    }
}
