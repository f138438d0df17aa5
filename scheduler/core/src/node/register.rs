//! What happens when an executor connects or leaves: the reconciliation table of PROTOCOL §3.
//!
//! | the state expects the run; the executor shows | then |
//! |---|---|
//! | run absent, same boot, same spool | launch again |
//! | run absent, new boot | lost; requeue as the job allows |
//! | run absent, same boot, new spool | unknown: nothing is sent, the job waits for evidence |
//! | run present, not expected | end it; after a restore it is left alone (`stranger`) |
//! | outcome present | record, acknowledge |

use std::sync::Arc;

use model::exit::ExitStatus;
use model::gpu::Gpu;
use model::id::{JobId, NodeIdx, StepId};

use crate::effect::{Effect, RunKey};
use crate::input::{OutcomeKind, Registration, Report, RunOutcome};
use crate::machine::Call;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::state::job::{Active, RunStage, StopCause, Usage};
use crate::state::node::{Admin, Hardware, Incarnation, Link, Observed};

impl Call<'_> {
    /// An executor's first message of a session.
    pub(crate) fn register(&mut self, registration: Registration) {
        let Registration { session, name, boot, spool, runs, observed, definition } = registration;
        let dynamic_nodes = self.settings().dynamic_nodes;
        let known = self.state().node_named(&name).filter(|idx| !self.state().node(*idx).removed);
        let node = match known {
            Some(idx) => idx,
            None if dynamic_nodes => self.define_node(&definition),
            None => {
                let refused = Some(format!("node {name} is not in the configuration").into());
                return self.effect(Effect::Session { session, node: None, refused });
            }
        };
        if dynamic_nodes {
            self.take_size(node, &definition);
        }
        let before = self.state().node(node).incarnation;
        let occupied = self.state().node(node).link == Link::Up
            && before.is_some_and(|before| before.boot == boot && before.spool != spool);
        if occupied {
            let refused = Some(format!("node {name} is connected with another spool").into());
            return self.effect(Effect::Session { session, node: None, refused });
        }
        let incarnation = Incarnation { boot, spool };
        let hardware = Some(Hardware::of(&definition));
        let observed = Arc::new(Observed { hardware, ..(*observed).clone() });
        if before != Some(incarnation) || self.state().node(node).observed != observed {
            self.emit(Record::NodeRegistered { node, incarnation, observed });
        }
        if self.state().node(node).link != Link::Up {
            self.emit(Record::NodeLink { node, link: Link::Up });
        }
        self.back_in_service(node);
        self.judge_size(node);
        self.effect(Effect::Session { session, node: Some(node), refused: None });
        self.reconcile(node, before, incarnation, runs);
        self.out.pass_wanted = true;
    }

    /// The executor looked at its GPUs again, while its session goes on.
    pub(crate) fn gpus_observed(&mut self, node: NodeIdx, gpus: Vec<Gpu>) {
        let known = self.state().node(node);
        let Some(incarnation) = known.incarnation.filter(|_| known.observed.gpus != gpus) else { return };
        let observed = Observed { gpus, ..(*known.observed).clone() };
        self.emit(Record::NodeRegistered { node, incarnation, observed: observed.into() });
        self.judge_size(node);
        self.out.pass_wanted = true;
    }

    /// A node that RESUME waits for, or that ReturnToService brings back, is used again.
    fn back_in_service(&mut self, node: NodeIdx) {
        let admin = &self.state().node(node).admin;
        if admin.resume_pending {
            let admin = Admin { resume_pending: false, ..admin.clone() };
            self.emit(Record::NodeAdmin { node, admin });
        }
    }

    fn reconcile(
        &mut self,
        node: NodeIdx,
        before: Option<Incarnation>,
        now: Incarnation,
        runs: Vec<(RunKey, Report)>,
    ) {
        let shown: std::collections::BTreeSet<RunKey> = runs.iter().map(|(run, _)| *run).collect();
        // Before the reports: an epilog that follows from one is launched in this session, and nothing is to be
        // concluded from its absence.
        let expected = self.expected(node);
        for (run, report) in runs {
            self.report(node, run, report);
            self.repeat_orders(node, run);
        }
        self.forget_strangers(node, &shown);
        for run in expected {
            if shown.contains(&run) || self.stage(node, run).is_none_or(|stage| stage == RunStage::Ended) {
                continue;
            }
            let same_boot = before.is_none_or(|before| before.boot == now.boot);
            let same_spool = before.is_none_or(|before| before.spool == now.spool);
            match (same_boot, same_spool) {
                // Once a spool was lost, what it had held stays unknown, however often it reconnects.
                (true, true)
                    if self.stage(node, run) == Some(RunStage::Ordered)
                        || planted::is(Bug::LaunchUnknown) =>
                {
                    self.launch_again(node, run);
                }
                (true, true | false) => self.report(node, run, Report::Unknown),
                (false, _) => self.lost(node, run, "the node was started anew"),
            }
        }
    }

    /// Runs that the state expects to be alive on the node.
    fn expected(&self, node: NodeIdx) -> Vec<RunKey> {
        let running = self.state().index.running.iter();
        running
            .flat_map(|id| {
                let job = self.job(*id);
                let active = job.active().expect("the index holds active jobs");
                let open = active.steps.iter().filter(move |step| {
                    step.nodes.iter().any(|part| part.node == node && part.stage != RunStage::Ended)
                });
                open.map(|step| RunKey { job: job.id, step: step.id, run: job.run })
            })
            .collect()
    }

    /// What was ordered while the executor could not be reached is ordered again.
    fn repeat_orders(&mut self, node: NodeIdx, run: RunKey) {
        if self.stage(node, run).is_none_or(|stage| stage == RunStage::Ended) {
            return;
        }
        let active = self.job(run.job).active().expect("a live run belongs to an active job");
        let step = active.step(run.step).expect("a live run has a step");
        let (stop, suspended, limit) = (step.stop, active.suspended_since.is_some(), active.limit);
        let batch = step.id == StepId::Batch;
        if let Some(cause) = stop {
            return self.terminate_on(node, run, cause);
        }
        if batch {
            self.effect(Effect::ChangeLimit { node, run, limit });
        }
        if !run.step.is_work() {
            return;
        }
        self.effect(Effect::Suspend { node, run, suspend: suspended });
    }

    fn launch_again(&mut self, node: NodeIdx, run: RunKey) {
        let active = self.job(run.job).active().expect("an expected run belongs to an active job");
        let step = active.step(run.step).expect("an expected run has a step");
        match step.stop {
            // It was never there and is not wanted any more: a tombstone is left, the run is over.
            Some(cause) => {
                self.terminate_on(node, run, cause);
                self.over_unstarted(node, run);
            }
            None => self.effect(Effect::Launch { node, run }),
        }
    }

    fn over_unstarted(&mut self, node: NodeIdx, run: RunKey) {
        let outcome = outcome(OutcomeKind::Cancelled, self.now, "");
        self.report(node, run, Report::Ended(Box::new(outcome)));
    }

    /// There is evidence that the run is gone without an outcome.
    pub(crate) fn lost(&mut self, node: NodeIdx, run: RunKey, why: &str) {
        let outcome = outcome(OutcomeKind::Lost, self.now, why);
        if self.stage(node, run).is_some() {
            self.node_lost_for(run.job, node, &outcome);
        }
    }

    /// One node of a job is lost: the job ends (or goes back), whatever its other nodes do.
    fn node_lost_for(&mut self, id: JobId, node: NodeIdx, outcome: &RunOutcome) {
        let job = self.job(id);
        let run = job.run;
        let Some(active) = job.active() else { return };
        if active.finish.is_none() {
            let finish = crate::state::job::Finish {
                state: model::job::JobState::NodeFail,
                // Nobody knows what it would have said; Slurm counts a lost node as a failure.
                exit: Some(ExitStatus { code: 1, signal: 0 }),
                reason: model::reason::Reason::NodeDown,
                detail: outcome.detail.clone(),
                by: None,
                at: self.now,
                requeue: (job.requeue && job.has_batch_step())
                    .then_some(crate::state::job::RequeueHow::Eligible),
            };
            self.emit(Record::JobFinishing { job: id, finish });
        }
        let here = open_steps(self.job(id).active().expect("it is active until its last run ends"), node);
        for step in here {
            let run = RunKey { job: id, step, run };
            match step {
                // A node that is gone has nothing to clear up, and nothing to be drained for.
                StepId::Hook(_) => drop(self.part_over(node, run, outcome)),
                _ => self.report(node, run, Report::Ended(Box::new(outcome.clone()))),
            }
        }
        self.stop_steps(id, StopCause::NodeFail, None);
        if self.state().jobs.contains_key(&id) {
            self.end_if_over(id);
        }
    }

    /// A session ended: nothing is concluded from silence but that the node is silent.
    pub(crate) fn disconnect(&mut self, node: NodeIdx) {
        if self.state().node(node).link != Link::Up {
            return;
        }
        self.emit(Record::NodeLink { node, link: Link::Silent { since: self.now, timed_out: false } });
        let at = self.now.saturating_add(self.settings().node_timeout);
        self.machine.arm_node(node, at);
        self.out.pass_wanted = true;
    }

    /// NodeTimeout after a session ended.
    pub(crate) fn node_timer(&mut self, node: NodeIdx) {
        let (patience, requeue) = (self.settings().node_timeout, self.settings().requeue_without_evidence);
        let Link::Silent { since, timed_out: false } = self.state().node(node).link else { return };
        if since.saturating_add(patience) > self.now {
            return;
        }
        self.emit(Record::NodeLink { node, link: Link::Silent { since, timed_out: true } });
        if requeue || planted::is(Bug::LoseSilent) {
            self.all_lost(node, "the node does not answer");
        }
        self.out.pass_wanted = true;
    }

    /// Every run on the node is taken for lost: an administrator, a fence or a setting says so.
    pub(crate) fn all_lost(&mut self, node: NodeIdx, why: &str) {
        for run in self.expected(node) {
            self.lost(node, run, why);
        }
        let holders: Vec<JobId> = self
            .state()
            .index
            .running
            .iter()
            .copied()
            .filter(|id| {
                let active = self.job(*id).active().expect("the index holds active jobs");
                active.allocation.iter().any(|share| share.node == node)
            })
            .collect();
        for id in holders {
            self.node_lost_for(id, node, &outcome(OutcomeKind::Lost, self.now, why));
        }
    }
}

fn open_steps(active: &Active, node: NodeIdx) -> Vec<model::id::StepId> {
    let open = active
        .steps
        .iter()
        .filter(|step| step.nodes.iter().any(|part| part.node == node && part.stage != RunStage::Ended));
    open.map(|step| step.id).collect()
}

fn outcome(kind: OutcomeKind, now: model::time::Timestamp, detail: &str) -> RunOutcome {
    RunOutcome {
        kind,
        exit: ExitStatus::from_signal(9),
        ended: now,
        detail: detail.into(),
        usage: Usage::default(),
        held: "".into(),
        stop_requested: kind == OutcomeKind::Cancelled,
    }
}
