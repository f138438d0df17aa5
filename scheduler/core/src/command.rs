//! Commands of users and administrators: checked, carried out, answered.

use model::exit::ExitStatus;
use model::id::{JobId, StepId};
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;

use crate::authorise::{self, Act};
use crate::effect::{Answer, Asker, Effect, Outcome, Refused, ReplyTo, RunKey, Selector};
use crate::input::{AccountChange, Command};
use crate::job::cancel::Signal;
use crate::machine::Call;
use crate::record::Record;
use crate::state::accounts::{AssociationKey, User};
use crate::state::job::{Finish, Phase, RequeueHow, RunStage, StopCause};

impl Call<'_> {
    /// Carries a command out and answers it.
    pub(crate) fn command(&mut self, reply: ReplyTo, asker: &Asker, command: Command) {
        let outcomes = match command {
            Command::Cancel { jobs, filter, signal, batch_only, full } => {
                let signal = signal.map(|number| Signal { number, batch_only, full });
                self.cancel(&jobs, &filter, signal, asker)
            }
            Command::Hold { jobs, as_user } => self.each(&jobs, |call, id| call.hold(id, asker, as_user)),
            Command::Release(jobs) => self.each(&jobs, |call, id| call.release(id, asker)),
            Command::Requeue { jobs, hold, special_exit } => {
                let how = match (special_exit, hold) {
                    (true, _) => RequeueHow::SpecialExit,
                    (false, true) => RequeueHow::HeldUser,
                    (false, false) => RequeueHow::Eligible,
                };
                self.each(&jobs, |call, id| call.requeue(id, asker, how))
            }
            Command::Suspend(jobs) => self.each(&jobs, |call, id| call.suspend(id, asker, true)),
            Command::Resume(jobs) => self.each(&jobs, |call, id| call.suspend(id, asker, false)),
            Command::UpdateJob { job, .. } if self.names_nothing(&job) => {
                vec![Outcome { object: job.text(), refused: Some(Refusal::InvalidJobId.into()) }]
            }
            Command::UpdateJob { job, changes } if job.step.is_some() => {
                let step = job.step.expect("it was looked at");
                self.each(&[job], |call, id| call.update_step(id, step, &changes, asker))
            }
            Command::UpdateJob { job, changes } => {
                self.each(&[job], |call, id| call.update_job(id, &changes, asker))
            }
            Command::Notify { job, text } => self.each(&[job], |call, id| call.notify(id, &text, asker)),
            Command::EndAllocation { job, exit } => {
                let refused = self.end_allocation(job, exit, asker).err();
                vec![Outcome { object: job.to_string().into(), refused }]
            }
            Command::CreateStep { job, step } => return self.create_step(reply, job, &step, asker),
            Command::UpdateNodes { nodes, changes } => {
                self.administrate(asker, &nodes.clone(), |call| call.update_nodes(&nodes, &changes, asker))
            }
            Command::UpdatePartition { name, changes, create } => {
                self.administrate(asker, &name.clone(), |call| call.update_partition(&name, &changes, create))
            }
            Command::DeletePartition(name) => {
                self.administrate(asker, &name.clone(), |call| call.delete_partition(&name))
            }
            Command::UpdateReservation { name, changes, create } => {
                self.update_reservation(&name, &changes, create, asker)
            }
            Command::DeleteReservation(name) => self.delete_reservation(&name, asker),
            Command::ChangeAccounts(changes) => {
                let own = changes.iter().all(|change| self.is_own_default_account(change, asker));
                let done = match own {
                    true => self.change_accounts(changes),
                    false => {
                        let done = self.administrate(asker, "", |call| call.change_accounts(changes));
                        done.into_iter().next().and_then(|outcome| outcome.refused).map_or(Ok(()), Err)
                    }
                };
                match done {
                    Err(refused) => return self.refuse(reply, refused),
                    Ok(()) => return self.answer(reply, Answer::Done),
                }
            }
        };
        self.answer(reply, Answer::Outcomes(outcomes));
    }

    fn each(
        &mut self,
        selectors: &[Selector],
        mut act: impl FnMut(&mut Self, JobId) -> Result<(), Refused>,
    ) -> Vec<Outcome> {
        selectors.iter().map(|selector| self.for_each(selector, &mut act)).collect()
    }

    fn administrate(
        &mut self,
        asker: &Asker,
        object: &str,
        act: impl FnOnce(&mut Self) -> Result<(), Refused>,
    ) -> Vec<Outcome> {
        let allowed = authorise::may(self.state(), self.settings(), asker, Act::Administrate, None);
        let refused = allowed.map_err(Refused::from).and_then(|()| act(self)).err();
        vec![Outcome { object: object.into(), refused }]
    }

    /// The command of `salloc` or the step of `srun` is over: so is the allocation.
    fn end_allocation(&mut self, id: JobId, exit: ExitStatus, asker: &Asker) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = state.jobs.get(&id).ok_or(Refused::from(Refusal::InvalidJobId))?;
        authorise::may(state, settings, asker, Act::UseAllocation, Some(job))?;
        match &job.phase {
            Phase::Pending(_) => {
                self.end_waiting(id, JobState::Cancelled, Reason::None, Some(asker.uid));
                return Ok(());
            }
            Phase::Ended(_) => return Err(Refusal::AlreadyDone.into()),
            Phase::Active(active) if active.finish.is_some() => return Ok(()),
            Phase::Active(_) => {}
        }
        let (state, reason) = match exit.is_success() {
            true => (JobState::Completed, Reason::None),
            false => (JobState::Failed, Reason::NonZeroExitCode),
        };
        let finish = Finish {
            state,
            exit: Some(exit),
            reason,
            detail: "".into(),
            by: None,
            at: self.now,
            requeue: None,
        };
        self.emit(Record::JobFinishing { job: id, finish });
        self.stop_steps(id, StopCause::JobEnd, None);
        self.end_if_over(id);
        Ok(())
    }

    fn notify(&mut self, id: JobId, text: &str, asker: &Asker) -> Result<(), Refused> {
        let (state, settings) = (self.state(), self.settings());
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Change, Some(job))?;
        let Some(active) = job.active() else { return Err(Refusal::JobNotRunning.into()) };
        let live: Vec<_> = active
            .steps
            .iter()
            .filter(|step| step.id == StepId::Batch)
            .flat_map(|step| step.nodes.iter().map(move |part| (step.id, part)))
            .filter(|(_, part)| part.stage != RunStage::Ended)
            .map(|(step, part)| (part.node, RunKey { job: id, step, run: job.run }))
            .collect();
        for (node, run) in live {
            self.effect(Effect::Announce { node, run, text: text.into() });
        }
        Ok(())
    }

    /// Whether a change is only that the asker's own jobs are charged to another account of theirs, which
    /// Slurm lets everybody do.
    fn is_own_default_account(&self, change: &AccountChange, asker: &Asker) -> bool {
        let AccountChange::User(name, Some(new)) = change else { return false };
        let accounts = &self.state().accounts;
        let Some(old) = accounts.users.get(name).filter(|_| **name == *asker.name) else { return false };
        let unchanged = User { default_account: new.default_account.clone(), ..old.clone() };
        let has = |key: &AssociationKey| key.user == *name && key.account == new.default_account;
        *new == unchanged && accounts.associations.keys().any(has)
    }

    /// Puts or deletes rows of accounting data; numbers are given here.
    fn change_accounts(&mut self, changes: Vec<AccountChange>) -> Result<(), Refused> {
        for change in changes {
            match change {
                AccountChange::Cluster(name, row) => self.emit(Record::Cluster(name, row)),
                AccountChange::Account(name, row) => self.emit(Record::Account(name, row.map(Box::new))),
                AccountChange::User(name, row) => self.emit(Record::User(name, row.map(Box::new))),
                AccountChange::Association(key, row) => {
                    let accounts = &self.state().accounts;
                    let known = accounts.associations.get(&key).map(|known| known.id);
                    let row = row.map(|mut row| {
                        row.id = known.unwrap_or(accounts.next_association.max(1));
                        Box::new(row)
                    });
                    self.emit(Record::Association(Box::new(key), row));
                }
                AccountChange::Qos(name, row) => {
                    let accounts = &self.state().accounts;
                    let known = accounts.qos.get(&name).map(|known| known.id);
                    let row = row.map(|mut row| {
                        row.id = known.unwrap_or(accounts.next_qos.max(1));
                        Box::new(row)
                    });
                    self.emit(Record::Qos(name, row));
                }
            }
        }
        self.reprioritise();
        self.out.pass_wanted = true;
        Ok(())
    }
}
