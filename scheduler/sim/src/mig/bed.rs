//! A cluster of dynamic GPUs at work, for whoever measures single passes: the production machine and a planner that
//! follows its records, driven one input at a time.
//!
//! Owns the clock, which stands still unless somebody moves it, and the runs that were launched; they begin at once
//! and end when they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::gpu::Gpu;
use model::gres::GresRequest;
use model::id::{BodyHash, BootId, Epoch, Gid, JobId, NodeIdx, RequestKey, SpoolId, Uid};
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};
use scheduler_core::effect::{Answer, Asker, Effect, ReplyTo, RunKey, Selector};
use scheduler_core::gpu::geometry::Profile;
use scheduler_core::gpu::model::Model;
use scheduler_core::input::{Command, Input, OutcomeKind, Registration, Report, RunOutcome, Submit};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::policy::{Order, Policy};
use scheduler_core::plan::{Pass, Planner};
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::Usage;
use scheduler_core::state::node::Observed;

use super::queue;

/// See the module.
pub struct Bed {
    machine: Machine,
    settings: Arc<Settings>,
    planner: Planner,
    out: Outbox,
    now: Timestamp,
    submitted: Option<JobId>,
    runs: BTreeMap<JobId, (NodeIdx, RunKey)>,
    replies: u64,
}

impl Bed {
    /// Nodes of eight empty GPUs; the first `depth` jobs of the queue have a start that is kept.
    #[must_use]
    pub fn new(gpus: usize, depth: u32) -> Self {
        let policy = Policy { order: Order::Fcfs, depth: Some(depth), ..Policy::default() };
        let settings = Arc::new(Settings {
            max_job_count: u32::MAX,
            first_job_id: 1,
            max_job_id: u32::MAX - 1,
            min_job_age: Span::ZERO,
            track_memory: true,
            policy,
            ..queue::cluster(gpus)
        });
        let mut bed = Self {
            machine: Machine::new(State::default()),
            settings: Arc::clone(&settings),
            planner: Planner::following().without_verdicts(),
            out: Outbox::default(),
            now: Timestamp::ZERO,
            submitted: None,
            runs: BTreeMap::new(),
            replies: 0,
        };
        bed.handle(Input::Owned(Epoch(1)));
        bed.handle(Input::Configure(Arc::clone(&settings)));
        let observed: Vec<Gpu> = (0..8).map(queue::gpu).collect();
        let observed = Arc::new(Observed { gpus: observed, ..Observed::default() });
        for definition in &settings.nodes {
            bed.handle(Input::Registered(Box::new(Registration {
                session: 0,
                name: definition.name.clone(),
                boot: BootId([1; 16]),
                spool: SpoolId([1; 16]),
                runs: Vec::new(),
                observed: Arc::clone(&observed),
                definition: Arc::new(definition.clone()),
            })));
        }
        bed
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.now, input, &mut self.out);
        for record in self.out.records.drain(..) {
            self.planner.observe(&record);
        }
        for effect in std::mem::take(&mut self.out.effects) {
            match effect {
                Effect::Answer(_, Answer::Submitted { job, .. }) => self.submitted = Some(job),
                Effect::Launch { node, run } => {
                    self.runs.insert(run.job, (node, run));
                    self.handle(Input::Report { node, run, report: Report::Begun { at: self.now } });
                }
                _ => {}
            }
        }
    }

    fn reply(&mut self) -> ReplyTo {
        self.replies += 1;
        ReplyTo(self.replies)
    }

    /// Submits a job for one slice, with CPUs and memory beside it, for so many seconds. No pass is made.
    ///
    /// # Panics
    /// If it is refused: a bug.
    pub fn submit(&mut self, profile: Profile, limit_s: i64) -> JobId {
        let kind = Model::A100With40.name(profile);
        let request = JobRequest {
            name: "bed".into(),
            work_dir: "/".into(),
            ntasks: Some(1),
            time_limit: Some(Some(Span::from_secs(limit_s))),
            memory: Some(MemoryRequest::PerNode(MemoryMib(1024))),
            gres_per_node: vec![GresRequest { name: "gpu".into(), kind: Some(kind.into()), count: 1 }],
            ..JobRequest::default()
        };
        let reply = self.reply();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&reply.0.to_le_bytes());
        self.handle(Input::Submit(Box::new(Submit {
            reply,
            asker: asker(),
            key: RequestKey(key),
            request: Arc::new(request),
            script: Some(BodyHash([0; 32])),
            environment: BodyHash([0; 32]),
            alloc_sid: 0,
            test_only: false,
        })));
        self.submitted.take().expect("a job for one slice is accepted")
    }

    /// What a pass proposes now; nothing of it is done.
    pub fn look(&mut self) -> Pass {
        self.planner.pass(self.machine.state(), &self.settings, self.now)
    }

    /// Does what a pass proposed; answers how many jobs start.
    pub fn carry_out(&mut self, pass: Pass) -> usize {
        let starts = pass.plan.starts.len();
        if starts > 0 || pass.plan.promises.is_some() {
            self.handle(Input::Plan(pass.plan));
        }
        starts
    }

    /// A job that runs ends, or one that waits is cancelled. No pass is made.
    pub fn end(&mut self, job: JobId) {
        let Some((node, run)) = self.runs.remove(&job) else {
            let reply = self.reply();
            let jobs = vec![Selector { job, tasks: None, step: None }];
            let command = Command::Cancel {
                jobs,
                filter: Default::default(),
                signal: None,
                batch_only: false,
                full: false,
            };
            return self.handle(Input::Command { reply, asker: asker(), command: Box::new(command) });
        };
        let outcome = RunOutcome {
            kind: OutcomeKind::Exited,
            exit: ExitStatus::SUCCESS,
            ended: self.now,
            detail: "".into(),
            usage: Usage::default(),
            stop_requested: false,
            held: "".into(),
        };
        self.handle(Input::Report { node, run, report: Report::Ended(Box::new(outcome)) });
    }

    /// What is true.
    #[must_use]
    pub fn state(&self) -> &State {
        self.machine.state()
    }
}

fn asker() -> Asker {
    Asker { uid: Uid(1000), gid: Gid(1000), name: "bed".into(), groups: Arc::from([]) }
}
