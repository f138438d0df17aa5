//! How runs and jobs end: reports of executors, the last process, the end of a waiting job, timers.

use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{Hook, JobId, NodeIdx, StepId, Uid};
use model::job::JobState;
use model::reason::Reason;
use model::signal;
use model::time::Span;

use crate::effect::{Effect, RunKey};
use crate::input::{OutcomeKind, Report, RunOutcome};
use crate::job::hook::is_epilog;
use crate::limits;
use crate::machine::Call;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::state::job::{Active, Ended, Finish, Job, Phase, RequeueHow, RunStage, StopCause};

impl Call<'_> {
    /// What an executor says of a run. Reports come late, twice, and from earlier runs.
    pub(crate) fn report(&mut self, node: NodeIdx, run: RunKey, report: Report) {
        let Some(stage) = self.stage(node, run) else {
            return self.report_of_stranger(node, run, &report);
        };
        match (report, stage) {
            (Report::Intended, _) => {}
            (Report::Preparing(what), RunStage::Ordered) => self.configuring(run, Some(what)),
            (Report::Preparing(_), _) => {}
            (Report::Begun { .. }, RunStage::Ordered | RunStage::Unknown) => {
                self.emit(Record::StepBegun { job: run.job, step: run.step, node });
                self.configuring(run, None);
                self.prologs_went_on(run.job);
            }
            (Report::Begun { .. }, RunStage::Begun | RunStage::Ended) => {}
            (Report::Unknown, RunStage::Ordered | RunStage::Begun) => {
                self.emit(Record::StepUnknown { job: run.job, step: run.step, node });
            }
            (Report::Unknown, RunStage::Unknown | RunStage::Ended) => {}
            (Report::Ended(_), RunStage::Ended) => self.effect(Effect::Acknowledge { node, run }),
            (Report::Ended(outcome), RunStage::Ordered | RunStage::Begun | RunStage::Unknown) => {
                // It may have ended before its begin was told.
                self.configuring(run, None);
                if !planted::is(Bug::DropOutcome) {
                    self.run_ended(node, run, &outcome);
                }
                self.effect(Effect::Acknowledge { node, run });
            }
        }
    }

    /// A job whose batch script cannot begin yet shows what is done for it; its clock starts when it begins.
    fn configuring(&mut self, run: RunKey, what: Option<Box<str>>) {
        let active = self.job(run.job).active().expect("a run with a stage belongs to an active job");
        if run.step != StepId::Batch || active.finish.is_some() || active.configuring == what {
            return;
        }
        self.emit(Record::JobConfiguring { job: run.job, what, at: self.now });
        self.machine.arm(run.job);
    }

    /// How far the run is on the node, if it is a run that the state expects.
    pub(crate) fn stage(&self, node: NodeIdx, run: RunKey) -> Option<RunStage> {
        let job = self.state().jobs.get(&run.job).filter(|job| job.run == run.run)?;
        let steps = match &job.phase {
            Phase::Active(active) => &active.steps,
            Phase::Ended(ended) => &ended.steps,
            Phase::Pending(_) => return None,
        };
        let step = steps.iter().rev().find(|step| step.id == run.step)?;
        let part = step.nodes.iter().find(|part| part.node == node)?;
        Some(if job.ended().is_some() { RunStage::Ended } else { part.stage })
    }

    pub(crate) fn terminate_on(&mut self, node: NodeIdx, run: RunKey, cause: StopCause) {
        // A step that is cancelled by itself is killed, as in Slurm; a job's end leaves its steps time.
        // (A stranger's job may be gone.)
        let job = self.state().jobs.get(&run.job).filter(|job| job.run == run.run);
        let active = job.and_then(|job| job.active());
        let alone = cause == StopCause::Cancel && active.is_some_and(|active| active.finish.is_none());
        let kill_wait = if alone { Span::ZERO } else { self.settings().kill_wait };
        self.effect(Effect::Terminate { node, run, cause, kill_wait, note: "".into() });
    }

    fn run_ended(&mut self, node: NodeIdx, run: RunKey, outcome: &RunOutcome) {
        let (job, step) = (run.job, run.step);
        let over = self.part_over(node, run, outcome);
        match (step, outcome.kind) {
            (_, OutcomeKind::PrologFailed) => {
                self.prolog_failed(node, run, outcome);
                // The tasks of the other nodes are of no use without this one's.
                if !over && matches!(step, StepId::Number(_)) {
                    self.stop_step(job, step, StopCause::Cancel, None);
                }
            }
            (_, OutcomeKind::NodeUnable) => self.node_unable(node, run, outcome),
            (StepId::Hook(Hook::Epilog), _) => self.epilog_ended(node, outcome),
            (StepId::Batch, _) => self.batch_ended(job, outcome),
            // One node's part is lost: the others would wait for it for ever.
            (_, OutcomeKind::Lost) if !over => self.stop_step(job, step, StopCause::NodeFail, None),
            (StepId::Hook(_) | StepId::Extern | StepId::Interactive | StepId::Number(_), _) => {}
        }
        self.prologs_went_on(job);
        self.end_if_over(job);
        self.out.pass_wanted = true;
    }

    /// Records the end of a node's part, and of the step with its last; whether it was.
    pub(crate) fn part_over(&mut self, node: NodeIdx, run: RunKey, outcome: &RunOutcome) -> bool {
        let (job, step) = (run.job, run.step);
        // What a step that only holds a place was ended by is nothing that it did.
        let exit = match (step, outcome.kind) {
            (StepId::Extern, _) => ExitStatus::SUCCESS,
            (StepId::Number(_), OutcomeKind::PrologFailed) => ExitStatus::PROLOG_FAILED,
            _ => outcome.exit,
        };
        let mut usage = outcome.usage.clone();
        if let Some(figures) = &mut usage.figures {
            **figures = figures.on(node);
        }
        let held = outcome.held.clone();
        self.emit(Record::StepNodeEnded { job, step, node, exit, usage, held });
        let active = self.job(job).active().expect("a run with a stage belongs to an active job");
        let part = active.step(step).expect("the run's step exists");
        let over = part.nodes.iter().all(|part| part.stage == RunStage::Ended);
        if over {
            let (exit, state) = (part.exit, step_state(part.stop, part.exit, outcome.kind));
            self.emit(Record::StepEnded { job, step, state, exit, at: self.now });
        }
        over
    }

    fn batch_ended(&mut self, id: JobId, outcome: &RunOutcome) {
        let job = self.job(id);
        let active = job.active().expect("its batch step ran");
        let finish = match &active.finish {
            Some(decided) => Finish { exit: decided.exit.or(Some(outcome.exit)), ..decided.clone() },
            None => self.finish_of(job, outcome),
        };
        if active.finish.as_ref() != Some(&finish) {
            self.emit(Record::JobFinishing { job: id, finish });
        }
        self.stop_steps(id, StopCause::JobEnd, None);
    }

    fn finish_of(&self, job: &Job, outcome: &RunOutcome) -> Finish {
        let (state, reason, detail) = match outcome.kind {
            OutcomeKind::Exited if outcome.exit.is_success() => {
                (JobState::Completed, Reason::None, String::new())
            }
            OutcomeKind::Exited if outcome.exit.signal != 0 => {
                (JobState::Failed, Reason::RaisedSignal, signal_words(outcome.exit.signal))
            }
            OutcomeKind::Exited => (JobState::Failed, Reason::NonZeroExitCode, String::new()),
            OutcomeKind::TimeLimit => (JobState::Timeout, Reason::TimeLimit, String::new()),
            OutcomeKind::Cancelled => (JobState::Cancelled, Reason::None, String::new()),
            OutcomeKind::LaunchFailed | OutcomeKind::PrologFailed | OutcomeKind::NodeUnable => {
                (JobState::Failed, Reason::JobLaunchFailure, outcome.detail.to_string())
            }
            OutcomeKind::Lost => (JobState::NodeFail, Reason::NodeDown, outcome.detail.to_string()),
            OutcomeKind::OutOfMemory => (JobState::OutOfMemory, Reason::OutOfMemory, String::new()),
        };
        let requeue = (outcome.kind == OutcomeKind::Lost && job.requeue).then_some(RequeueHow::Eligible);
        Finish {
            state,
            exit: Some(outcome.exit),
            reason,
            detail: detail.into(),
            by: None,
            at: self.now,
            requeue,
        }
    }

    /// Ends every step of the job that still runs. An epilog goes on: it clears up after just that.
    pub(crate) fn stop_steps(&mut self, id: JobId, cause: StopCause, by: Option<Uid>) {
        let Some(active) = self.job(id).active() else { return };
        let open: Vec<StepId> =
            active.steps.iter().filter(|step| !step.is_over()).map(|step| step.id).collect();
        let open = open.into_iter().filter(|step| !is_epilog(*step));
        for step in open {
            self.stop_step(id, step, cause, by);
        }
    }

    /// Ends one step.
    pub(crate) fn stop_step(&mut self, id: JobId, step: StepId, cause: StopCause, by: Option<Uid>) {
        let job = self.job(id);
        let run = RunKey { job: id, step, run: job.run };
        let Some(part) = job.active().and_then(|active| active.step(step)) else { return };
        let nodes: Vec<NodeIdx> =
            part.nodes.iter().filter(|part| part.stage != RunStage::Ended).map(|part| part.node).collect();
        if part.stop.is_none() {
            self.emit(Record::StepStopping { job: id, step, cause, by });
        }
        if step == StepId::Hook(Hook::ControllerProlog) {
            self.effect(Effect::Hook { run, stop: true });
        }
        for node in nodes {
            self.terminate_on(node, run, cause);
        }
    }

    /// Ends the job if nothing of it runs and its end is decided.
    pub(crate) fn end_if_over(&mut self, id: JobId) {
        let Some(active) = self.job(id).active() else { return };
        if active.finish.is_none() {
            return;
        }
        if active.steps.iter().any(|step| !step.is_over()) && !planted::is(Bug::EndEarly) {
            return;
        }
        if self.run_epilogs(id) {
            return;
        }
        let active = self.job(id).active().expect("it was active above");
        let finish = active.finish.as_ref().expect("its end was decided above");
        let requeue = finish.requeue;
        let held = self.settings().dynamic_nodes.then(|| Arc::clone(&active.allocation));
        let ended = ended_of(active, finish, self.now);
        if let Some(charge) = limits::charge(self.state(), self.settings(), self.job(id), self.now) {
            self.emit(Record::Charged(Box::new(charge)));
        }
        match requeue {
            None => self.emit(Record::JobEnded { job: id, ended: Arc::new(ended) }),
            Some(how) => self.put_back(id, ended, how),
        }
        if let Some(held) = held {
            self.left(&held);
        }
        self.after_end(id);
    }

    /// What follows from every end.
    pub(crate) fn after_end(&mut self, id: JobId) {
        self.machine.arm_purge();
        self.machine.arm(id);
        self.wake_dependents(id);
        self.out.pass_wanted = true;
    }

    /// Ends a job (or all waiting elements) that never started.
    pub(crate) fn end_waiting(&mut self, id: JobId, state: JobState, reason: Reason, by: Option<Uid>) {
        let job = self.job(id);
        let pending = job.pending().expect("the caller found it waiting");
        let ended = Ended {
            state,
            exit: ExitStatus::SUCCESS,
            derived_exit: ExitStatus::SUCCESS,
            reason,
            detail: "".into(),
            by,
            eligible: pending.eligible,
            start: None,
            end: self.now,
            limit: None,
            partition: None,
            allocation: Arc::from([]),
            suspended_total: Span::ZERO,
            steps: Vec::new(),
        };
        self.emit(Record::JobEnded { job: id, ended: Arc::new(ended) });
        self.after_end(id);
    }

    /// A job's timer: it may be eligible now, past its deadline, or past its limit.
    pub(crate) fn job_timer(&mut self, id: JobId) {
        let Some(job) = self.state().jobs.get(&id) else { return };
        let late = self.machine.own_deadline(job).is_some_and(|deadline| deadline <= self.now);
        match &job.phase {
            Phase::Pending(_) if late => {
                self.end_waiting(id, JobState::Deadline, Reason::DeadLine, None);
            }
            Phase::Pending(_) => {
                self.give_switches_up(id);
                self.refresh(id);
                self.machine.arm(id);
            }
            Phase::Active(active) if active.finish.is_none() => {
                let margin = self.machine.limit_margin(job);
                let over = active.limit_end().is_some_and(|end| end.saturating_add(margin) <= self.now);
                match (late, over) {
                    (true, _) => {
                        self.end_running(id, JobState::Deadline, Reason::DeadLine, StopCause::TimeLimit)
                    }
                    (_, true) => {
                        self.end_running(id, JobState::Timeout, Reason::TimeLimit, StopCause::TimeLimit)
                    }
                    (false, false) => self.machine.arm(id),
                }
            }
            Phase::Active(_) | Phase::Ended(_) => {}
        }
    }

    /// A job that has waited long enough for few switches takes any.
    fn give_switches_up(&mut self, id: JobId) {
        let job = self.job(id);
        let late = crate::machine::switches_until(job).is_some_and(|until| until <= self.now);
        let Some((count, _)) = job.request.rare().switches.filter(|_| late) else { return };
        let mut job = job.clone();
        let mut request = (*job.request).clone();
        request.rare_mut().switches = Some((count, Some(Span::ZERO)));
        job.request = std::sync::Arc::new(request);
        self.emit(Record::Job(std::sync::Arc::new(job)));
        self.out.pass_wanted = true;
    }

    fn end_running(&mut self, id: JobId, state: JobState, reason: Reason, cause: StopCause) {
        let finish =
            Finish { state, exit: None, reason, detail: "".into(), by: None, at: self.now, requeue: None };
        self.emit(Record::JobFinishing { job: id, finish });
        self.stop_steps(id, cause, None);
        self.end_if_over(id);
    }
}

/// `9(Killed)`, as Slurm says which signal a batch script died of.
fn signal_words(number: u8) -> String {
    format!("{number}({})", signal::describe(number).replace(' ', "_"))
}

fn step_state(stop: Option<StopCause>, exit: ExitStatus, kind: OutcomeKind) -> JobState {
    match kind {
        OutcomeKind::OutOfMemory => return JobState::OutOfMemory,
        OutcomeKind::Lost => return JobState::NodeFail,
        OutcomeKind::Exited
        | OutcomeKind::TimeLimit
        | OutcomeKind::Cancelled
        | OutcomeKind::LaunchFailed
        | OutcomeKind::PrologFailed
        | OutcomeKind::NodeUnable => {}
    }
    // Slurm calls a step that died of a signal CANCELLED, whoever sent it.
    match (stop, exit) {
        (_, exit) if exit.signal != 0 => JobState::Cancelled,
        (None | Some(_), exit) if exit.is_success() => JobState::Completed,
        (Some(_), _) => JobState::Cancelled,
        (None, _) => JobState::Failed,
    }
}

pub(crate) fn ended_of(active: &Active, finish: &Finish, now: model::time::Timestamp) -> Ended {
    let suspended = match active.suspended_since {
        Some(since) => active.suspended_total.saturating_add(now.since(since)),
        None => active.suspended_total,
    };
    // Its epilogs are not its own time.
    let epilogs = active.steps.iter().filter(|step| is_epilog(step.id));
    let end = epilogs.map(|step| step.start).min().unwrap_or(now);
    Ended {
        state: finish.state,
        exit: finish.exit.unwrap_or(ExitStatus::SUCCESS),
        derived_exit: active.derived_exit,
        reason: finish.reason,
        detail: finish.detail.clone(),
        by: finish.by,
        eligible: active.eligible,
        start: Some(active.start),
        end,
        limit: active.limit,
        partition: Some(active.partition),
        allocation: Arc::clone(&active.allocation),
        suspended_total: suspended,
        steps: active.steps.clone(),
    }
}
