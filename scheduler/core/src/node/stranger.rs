//! Runs that an executor shows and the state does not expect.
//!
//! As a rule they are ended. After a restore from a backup they may be the work of the time that the backup does not know:
//! then they are left alone and shown, their ids are never issued, and an administrator ends them (PROTOCOL §3.4).

use model::id::{JobId, NodeIdx};

use crate::authorise::{self, Act};
use crate::effect::{Asker, Effect, RunKey};
use crate::input::Report;
use crate::machine::Call;
use crate::record::Record;
use crate::state::State;
use crate::state::job::StopCause;

/// Runs of one job that nobody expects, with their nodes. Cost: O(log strangers + answers).
pub(crate) fn of_job(state: &State, job: JobId) -> Vec<(RunKey, NodeIdx)> {
    let all = state.strangers.iter().filter(|(run, _)| run.job == job);
    all.copied().collect()
}

impl Call<'_> {
    /// A report of such a run: an outcome may be collected, a live run is ended or left alone.
    pub(crate) fn report_of_stranger(&mut self, node: NodeIdx, run: RunKey, report: &Report) {
        let known = self.state().strangers.contains(&(run, node));
        match report {
            Report::Ended(_) => {
                if known {
                    self.emit(Record::Stranger { node, run, there: false });
                }
                self.effect(Effect::Acknowledge { node, run });
            }
            Report::Intended | Report::Preparing(_) | Report::Begun { .. } | Report::Unknown if known => {}
            Report::Intended | Report::Preparing(_) | Report::Begun { .. } | Report::Unknown => {
                if self.may_be_of_lost_time(run) {
                    self.emit(Record::Stranger { node, run, there: true });
                    if run.job.0 >= self.state().next_job_id {
                        self.emit(Record::NextJobId(run.job.0.saturating_add(1)));
                    }
                } else {
                    self.terminate_on(node, run, StopCause::JobEnd);
                }
            }
        }
    }

    /// Whether it can have been started between the backup and the restore.
    fn may_be_of_lost_time(&self, run: RunKey) -> bool {
        let state = self.state();
        let Some(below) = state.restored else { return false };
        // What the state has issued itself since, it knows.
        run.job.0 < below || run.job.0 >= state.next_job_id
    }

    /// An executor that registers without showing them has them no more.
    pub(crate) fn forget_strangers(&mut self, node: NodeIdx, shown: &std::collections::BTreeSet<RunKey>) {
        let all = self.state().strangers.iter().filter(|(run, at)| *at == node && !shown.contains(run));
        for (run, node) in all.copied().collect::<Vec<_>>() {
            self.emit(Record::Stranger { node, run, there: false });
        }
    }

    /// An administrator cancels a job: its runs that nobody expects are ended with it. Answers whether there are some.
    pub(crate) fn end_strangers(&mut self, job: JobId, asker: &Asker) -> bool {
        let found = of_job(self.state(), job);
        let may = authorise::may(self.state(), self.settings(), asker, Act::Administrate, None).is_ok();
        if !may {
            return false;
        }
        for (run, node) in &found {
            self.terminate_on(*node, *run, StopCause::Cancel);
        }
        !found.is_empty()
    }
}
