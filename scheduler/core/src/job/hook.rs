//! The site's programs around a job: which runs when, and what follows from its failure.
//!
//! ```text
//!  start ─► PrologSlurmctld ─► [Prolog on every node] ─► batch script, steps ─► all over
//!            (CONFIGURING)      (PrologFlags=Alloc)                               │
//!                                            end or requeue ◄─ all ended ◄─ Epilog on every node, EpilogSlurmctld
//! ```
//! Each is a step of the job in the state, never shown as one: how far it is on which node is durable like any run, and
//! is reconciled like any run. Without `PrologFlags=Alloc` a node's prolog is its executor's affair: it comes before the
//! first run there. A program beside the scheduler that a crash interrupted is run again.
//! Source of the consequences: `man slurm.conf` and Slurm's guide to prologs and epilogs.

use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{Hook, JobId, NodeIdx, StepId};
use model::job::JobState;
use model::reason::Reason;

use crate::allocation::Allocation;
use crate::effect::{Effect, RunKey};
use crate::input::{OutcomeKind, RunOutcome};
use crate::machine::Call;
use crate::record::Record;
use crate::state::job::{Finish, RequeueHow, RunStage, Step, StepNode, StopCause, Usage};
use crate::state::node::{Admin, Link, Node};

/// What a job shows beside its state while PrologSlurmctld runs: nothing, as in Slurm.
const PROLOG_RUNS: &str = "";

/// Whether the step is a program that clears up after a job.
pub(crate) fn is_epilog(step: StepId) -> bool {
    matches!(step, StepId::Hook(Hook::Epilog | Hook::ControllerEpilog))
}

impl Call<'_> {
    /// The job holds its nodes: what comes first on them?
    pub(crate) fn begin(&mut self, id: JobId) {
        if !self.settings().hooks.controller_prolog {
            return self.begin_on_nodes(id);
        }
        self.emit(Record::JobConfiguring { job: id, what: Some(PROLOG_RUNS.into()), at: self.now });
        self.run_beside(id, Hook::ControllerProlog);
    }

    fn begin_on_nodes(&mut self, id: JobId) {
        let hooks = self.settings().hooks;
        let everywhere = match (hooks.contain, hooks.allocation) {
            (true, _) => Some(StepId::Extern),
            (false, true) => Some(StepId::Hook(Hook::Prolog)),
            (false, false) => None,
        };
        if let Some(step) = everywhere {
            let all = Arc::clone(&self.job(id).active().expect("it has just started").allocation);
            self.run_on(id, step, all);
        }
        if self.job(id).has_batch_step() && !(hooks.defer_batch && everywhere.is_some()) {
            self.start_batch_step(id);
        }
    }

    fn start_batch_step(&mut self, id: JobId) {
        let allocation = &self.job(id).active().expect("a started job is active").allocation;
        let first = match &**allocation {
            [_] => Arc::clone(allocation),
            more => Arc::from(&more[..1]),
        };
        self.run_on(id, StepId::Batch, first);
    }

    /// A node's prolog is done, or a batch script that waited for all of them may be due (DeferBatch).
    pub(crate) fn prologs_went_on(&mut self, id: JobId) {
        let job = self.job(id);
        let Some(active) = job.active() else { return };
        let begun = active.step(StepId::Batch).is_some() || active.finish.is_some();
        let waits_for =
            active.steps.iter().find(|step| matches!(step.id, StepId::Extern | StepId::Hook(Hook::Prolog)));
        let Some(step) = waits_for.filter(|_| !begun && job.has_batch_step()) else { return };
        // The step that stays is there once its prolog has run; the one that is the prolog ends with it.
        let done = |part: &StepNode| match part.stage {
            RunStage::Ended => true,
            RunStage::Begun => step.id == StepId::Extern,
            RunStage::Ordered | RunStage::Unknown => false,
        };
        if step.nodes.iter().all(done) {
            self.start_batch_step(id);
        }
    }

    /// A program beside the scheduler has ended. Late words of an earlier run are dropped.
    pub(crate) fn hook_ended(&mut self, run: RunKey, exit: ExitStatus, detail: &str) {
        let (id, step) = (run.job, run.step);
        let Some(job) = self.state().jobs.get(&id).filter(|job| job.run == run.run) else { return };
        let Some(active) = job.active() else { return };
        if active.step(step).is_none_or(Step::is_over) {
            return;
        }
        let state = if exit.is_success() { JobState::Completed } else { JobState::Failed };
        let decided = active.finish.is_some();
        self.emit(Record::StepEnded { job: id, step, state, exit, at: self.now });
        if step == StepId::Hook(Hook::ControllerProlog) && !decided {
            if exit.is_success() {
                self.emit(Record::JobConfiguring { job: id, what: None, at: self.now });
                self.begin_on_nodes(id);
                self.machine.arm(id);
            } else {
                let detail = if detail.is_empty() { "PrologSlurmctld failed" } else { detail };
                self.give_up(id, RequeueHow::Eligible, Reason::None, detail);
            }
        }
        self.end_if_over(id);
        self.out.pass_wanted = true;
    }

    /// What runs beside the scheduler is asked for again: by a new owner, which knows of no program that still runs.
    pub(crate) fn repeat_hooks(&mut self) {
        let mut wanted = Vec::new();
        for id in &self.state().index.running {
            let job = self.job(*id);
            let steps = job.active().into_iter().flat_map(|active| &active.steps);
            let open = steps.filter(|step| !step.is_over() && step.nodes.is_empty());
            wanted.extend(open.map(|step| {
                let run = RunKey { job: *id, step: step.id, run: job.run };
                Effect::Hook { run, stop: step.stop.is_some() }
            }));
        }
        wanted.into_iter().for_each(|effect| self.effect(effect));
    }

    /// A run was not started, as its node's prolog failed: the node is drained; a batch job that needed it goes back to
    /// the queue, another ends.
    pub(crate) fn prolog_failed(&mut self, node: NodeIdx, run: RunKey, outcome: &RunOutcome) {
        self.drain(node, "Prolog error");
        // A step alone fails alone: its job may do without it.
        if matches!(run.step, StepId::Number(_) | StepId::Interactive) {
            return;
        }
        let (how, reason) = match self.settings().hooks.hold_failed {
            true => (RequeueHow::LaunchFailed, Reason::LaunchFailedRequeuedHeld),
            false => (RequeueHow::Eligible, Reason::None),
        };
        self.give_up(run.job, how, reason, &outcome.detail);
    }

    /// A run was not started, as its node cannot start anything: the node is drained, in Slurm's words, so that it takes
    /// no further jobs to their end. A batch job goes back to the queue whatever it says of requeueing, since nothing of
    /// it has run; a step alone fails alone.
    pub(crate) fn node_unable(&mut self, node: NodeIdx, run: RunKey, outcome: &RunOutcome) {
        self.drain(node, "batch job complete failure");
        let job = self.job(run.job);
        if run.step != StepId::Batch || job.active().is_none_or(|active| active.finish.is_some()) {
            return;
        }
        let finish = Finish {
            state: JobState::Requeued,
            exit: None,
            reason: Reason::NodeDown,
            detail: outcome.detail.clone(),
            by: None,
            at: self.now,
            requeue: Some(RequeueHow::Eligible),
        };
        self.emit(Record::JobFinishing { job: run.job, finish });
        self.stop_steps(run.job, StopCause::JobEnd, None);
    }

    /// A node's epilog has ended; where it failed, the node is drained.
    pub(crate) fn epilog_ended(&mut self, node: NodeIdx, outcome: &RunOutcome) {
        if outcome.kind != OutcomeKind::Exited || !outcome.exit.is_success() {
            self.drain(node, "Epilog error");
        }
    }

    /// The run is given up before it began: back to the queue if the job may be requeued, else cancelled.
    fn give_up(&mut self, id: JobId, how: RequeueHow, reason: Reason, detail: &str) {
        let job = self.job(id);
        if job.active().is_none_or(|active| active.finish.is_some()) {
            return;
        }
        let requeue = (job.has_batch_step() && job.requeue).then_some(how);
        let state = if requeue.is_some() { JobState::Requeued } else { JobState::Cancelled };
        let by = self.settings().administrators.last().copied();
        let (at, detail) = (self.now, detail.into());
        let finish = Finish { state, exit: None, reason, detail, by, at, requeue };
        self.emit(Record::JobFinishing { job: id, finish });
        self.stop_steps(id, StopCause::JobEnd, None);
    }

    /// Makes the epilogs of a job whose work is over, once; whether one has yet to end.
    pub(crate) fn run_epilogs(&mut self, id: JobId) -> bool {
        let hooks = self.settings().hooks;
        let active = self.job(id).active().expect("its work has just ended");
        let there = |hook| active.step(StepId::Hook(hook)).is_some();
        let nodes = hooks.nodes && !there(Hook::Epilog);
        let beside = hooks.controller_epilog && !there(Hook::ControllerEpilog);
        if !nodes && !beside {
            return false;
        }
        let reached = active.allocation.iter().filter(|share| may_clear_up(self.state().node(share.node)));
        let reached: Allocation = reached.cloned().collect();
        let mut open = false;
        if nodes && !reached.is_empty() {
            self.run_on(id, StepId::Hook(Hook::Epilog), reached);
            open = true;
        }
        if beside {
            self.run_beside(id, Hook::ControllerEpilog);
            open = true;
        }
        open
    }

    /// Makes a step of the cluster's own on these nodes of the job.
    fn run_on(&mut self, id: JobId, step: StepId, allocation: Allocation) {
        let nodes: Vec<NodeIdx> = allocation.iter().map(|share| share.node).collect();
        self.make_step(id, step, allocation);
        let run = self.job(id).run;
        for node in nodes {
            self.effect(Effect::Launch { node, run: RunKey { job: id, step, run } });
        }
    }

    fn run_beside(&mut self, id: JobId, hook: Hook) {
        let step = StepId::Hook(hook);
        self.make_step(id, step, Arc::from([]));
        let run = RunKey { job: id, step, run: self.job(id).run };
        self.effect(Effect::Hook { run, stop: false });
    }

    fn make_step(&mut self, id: JobId, step: StepId, allocation: Allocation) {
        let part = |node| StepNode { node, stage: RunStage::Ordered };
        let step = Step {
            id: step,
            spec: None,
            start: self.now,
            nodes: allocation.iter().map(|share| part(share.node)).collect(),
            allocation,
            end: None,
            state: JobState::Running,
            exit: ExitStatus::SUCCESS,
            by: None,
            stop: None,
            usage: Usage::default(),
            held: Vec::new(),
        };
        self.emit(Record::StepCreated { job: id, step: Arc::new(step) });
    }

    /// No new jobs for the node; one that is out of service already keeps its reason. SlurmUser is who says so.
    pub(crate) fn drain(&mut self, node: NodeIdx, reason: &str) {
        let admin = &self.state().node(node).admin;
        if admin.drain || admin.down {
            return;
        }
        let by = self.settings().administrators.last().copied();
        let admin = Admin {
            drain: true,
            reason: reason.into(),
            reason_uid: by,
            reason_at: Some(self.now),
            ..admin.clone()
        };
        self.emit(Record::NodeAdmin { node, admin });
        self.out.pass_wanted = true;
    }
}

/// Whether it makes sense to wait for an epilog there: a node that is lost has nothing to clear up.
fn may_clear_up(node: &Node) -> bool {
    let lost = matches!(node.link, Link::Silent { timed_out: true, .. });
    !node.admin.down && !node.removed && !lost
}
