//! A machine with a planner and executors that do what they are told, for tests: no I/O, its own time.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod gpus;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{BodyHash, BootId, Epoch, Gid, JobId, NodeIdx, RequestKey, SpoolId, StepId, Uid};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::request::JobRequest;
use model::time::{Span, Timestamp};

use scheduler_core::apply::apply;
use scheduler_core::effect::{Answer, Asker, Effect, Outcome, ReplyTo, RunKey, Selector};
use scheduler_core::input::{Command, Input, OutcomeKind, Registration, Report, RunOutcome, Submit};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::Usage;
use scheduler_core::state::node::{NodeDefinition, Observed};
use scheduler_core::state::partition::PartitionDefinition;

pub(crate) const ALICE: Uid = Uid(2001);
pub(crate) const BOB: Uid = Uid(2002);
pub(crate) const ROOT: Uid = Uid(0);

/// What an executor of the world knows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Begun,
    Stopping,
}

pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now: Timestamp,
    pub(crate) records: Vec<Record>,
    pub(crate) answers: BTreeMap<ReplyTo, Answer>,
    pub(crate) launched: Vec<(NodeIdx, RunKey)>,
    pub(crate) alive: BTreeMap<(NodeIdx, RunKey), Life>,
    pub(crate) reasons: BTreeMap<JobId, Reason>,
    /// Launches get lost on the way.
    pub(crate) deaf: bool,
    /// Promises that a pass proposes are recorded even where nothing starts.
    pub(crate) keeps: bool,
    planner: Planner,
    next_reply: u64,
    next_key: u8,
}

pub(crate) fn node(name: &str, cpus: u32, memory: u64) -> NodeDefinition {
    NodeDefinition {
        name: name.into(),
        hostname: name.into(),
        address: name.into(),
        port: 6818,
        cpus: Cpus(cpus),
        boards: 1,
        sockets: 1,
        cores_per_socket: cpus,
        threads_per_core: 1,
        memory: MemoryMib(memory),
        tmp_disk: MemoryMib(0),
        features: Vec::new(),
        gres: Vec::new(),
        weight: 1,
        bind: true,
    }
}

pub(crate) fn settings(nodes: &[NodeDefinition]) -> Settings {
    let names: Vec<Box<str>> = nodes.iter().map(|node| node.name.clone()).collect();
    let main = PartitionDefinition {
        nodes_text: names.join(",").into(),
        nodes: names,
        is_default: true,
        ..PartitionDefinition::named("main")
    };
    Settings {
        nodes: nodes.to_vec(),
        partitions: vec![main],
        def_mem_per_cpu: Some(MemoryMib(100)),
        licenses: BTreeMap::from([("matlab".into(), 2)]),
        multifactor: false,
        ..Settings::named("world")
    }
}

impl World {
    /// `count` nodes of `cpus` CPUs and 4000 MiB, their executors connected.
    pub(crate) fn new(count: u32, cpus: u32) -> Self {
        let nodes: Vec<NodeDefinition> = (1..=count).map(|n| node(&format!("n{n}"), cpus, 4000)).collect();
        Self::with(settings(&nodes))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let names: Vec<Box<str>> = settings.nodes.iter().map(|node| node.name.clone()).collect();
        let mut world = Self {
            machine: Machine::new(State::default()),
            now: Timestamp::from_secs(1_000_000),
            records: Vec::new(),
            answers: BTreeMap::new(),
            launched: Vec::new(),
            alive: BTreeMap::new(),
            reasons: BTreeMap::new(),
            deaf: false,
            keeps: false,
            planner: Planner::new(),
            next_reply: 0,
            next_key: 0,
        };
        world.input(Input::Owned(Epoch(1)));
        world.input(Input::Configure(Arc::new(settings)));
        for name in names {
            world.register(&name, 1, 1, Vec::new());
        }
        world
    }

    pub(crate) fn register(&mut self, name: &str, boot: u8, spool: u8, runs: Vec<(RunKey, Report)>) {
        let known = self.machine.state().node_named(name).map(|node| self.machine.state().node(node));
        let definition =
            known.map_or_else(|| Arc::new(node(name, 4, 4000)), |node| Arc::clone(&node.definition));
        self.register_as((*definition).clone(), boot, spool, runs);
    }

    /// The same, of a machine that is described so.
    pub(crate) fn register_as(
        &mut self,
        definition: NodeDefinition,
        boot: u8,
        spool: u8,
        runs: Vec<(RunKey, Report)>,
    ) {
        self.input(Input::Registered(Box::new(Registration {
            session: 1,
            name: definition.name.clone(),
            boot: BootId([boot; 16]),
            spool: SpoolId([spool; 16]),
            runs,
            observed: Arc::new(Observed::default()),
            definition: Arc::new(definition),
        })));
    }

    pub(crate) fn node(&self, name: &str) -> NodeIdx {
        self.machine.state().node_named(name).expect("the test names a node")
    }

    /// One input and everything that follows at this instant; then every invariant is checked.
    pub(crate) fn input(&mut self, input: Input) {
        self.handle(input);
        let faults = self.machine.state().check();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    fn handle(&mut self, input: Input) {
        let mut out = Outbox::default();
        self.machine.handle(self.now, input, &mut out);
        self.records.append(&mut out.records);
        for effect in out.effects {
            self.carry_out(effect);
        }
        if out.pass_wanted {
            self.pass();
        }
    }

    fn pass(&mut self) {
        let Some(settings) = self.machine.configuration().cloned() else { return };
        let pass = self.planner.pass(self.machine.state(), &settings, self.now);
        self.reasons = pass.verdicts.iter().map(|verdict| (verdict.job, verdict.reason)).collect();
        let other = pass.plan.promises.is_some() || pass.plan.defragment.is_some();
        if !pass.plan.starts.is_empty() || (self.keeps && other) {
            self.handle(Input::Plan(pass.plan));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer(reply, answer) => {
                self.answers.insert(reply, answer);
            }
            Effect::Launch { node, run } => {
                self.launched.push((node, run));
                if self.deaf {
                    return;
                }
                self.alive.insert((node, run), Life::Begun);
                self.handle(Input::Report { node, run, report: Report::Begun { at: self.now } });
            }
            Effect::Terminate { node, run, .. } => {
                if let Some(life) = self.alive.get_mut(&(node, run)) {
                    *life = Life::Stopping;
                }
            }
            Effect::Acknowledge { node, run } => {
                self.alive.remove(&(node, run));
            }
            Effect::Signal { .. }
            | Effect::Suspend { .. }
            | Effect::ChangeLimit { .. }
            | Effect::Announce { .. }
            | Effect::Hook { .. }
            | Effect::Session { .. } => {}
        }
    }

    pub(crate) fn submit(&mut self, request: JobRequest) -> JobId {
        match self.try_submit(ALICE, request) {
            Answer::Submitted { job, .. } => job,
            other => panic!("refused: {other:?}"),
        }
    }

    pub(crate) fn try_submit(&mut self, uid: Uid, request: JobRequest) -> Answer {
        self.next_key = self.next_key.wrapping_add(1);
        let mut key = [self.next_key; 16];
        key[..8].copy_from_slice(&self.next_reply.to_le_bytes());
        self.submit_with_key(uid, RequestKey(key), request)
    }

    pub(crate) fn submit_with_key(&mut self, uid: Uid, key: RequestKey, request: JobRequest) -> Answer {
        let reply = self.reply();
        self.input(Input::Submit(Box::new(Submit {
            reply,
            asker: asker(uid),
            key,
            request: Arc::new(request),
            script: Some(BodyHash([1; 32])),
            environment: BodyHash([2; 32]),
            alloc_sid: 1,
            test_only: false,
        })));
        self.answers.remove(&reply).expect("a submission is answered")
    }

    fn reply(&mut self) -> ReplyTo {
        self.next_reply += 1;
        ReplyTo(self.next_reply)
    }

    pub(crate) fn command(&mut self, uid: Uid, command: Command) -> Answer {
        let reply = self.reply();
        self.input(Input::Command { reply, asker: asker(uid), command: Box::new(command) });
        self.answers.remove(&reply).expect("a command is answered")
    }

    pub(crate) fn outcomes(&mut self, uid: Uid, command: Command) -> Vec<Outcome> {
        match self.command(uid, command) {
            Answer::Outcomes(outcomes) => outcomes,
            other => panic!("not outcomes: {other:?}"),
        }
    }

    pub(crate) fn cancel(&mut self, uid: Uid, job: JobId) -> Vec<Outcome> {
        let jobs = vec![whole(job)];
        let filter = Default::default();
        self.outcomes(uid, Command::Cancel { jobs, filter, signal: None, batch_only: false, full: false })
    }

    /// Ends the batch step of a running job as its executor would.
    pub(crate) fn exit(&mut self, job: JobId, code: i32) {
        self.end(job, OutcomeKind::Exited, ExitStatus::from_code(code));
    }

    pub(crate) fn end(&mut self, job: JobId, kind: OutcomeKind, exit: ExitStatus) {
        let run = self.machine.state().jobs[&job].run;
        let key = RunKey { job, step: StepId::Batch, run };
        let (node, _) = *self.alive.keys().find(|(_, run)| *run == key).expect("the job has a live run");
        self.report(node, key, kind, exit);
    }

    pub(crate) fn report(&mut self, node: NodeIdx, run: RunKey, kind: OutcomeKind, exit: ExitStatus) {
        self.alive.remove(&(node, run));
        let outcome = outcome(kind, exit, self.now);
        self.input(Input::Report { node, run, report: Report::Ended(Box::new(outcome)) });
    }

    /// Every run that was told to stop does so.
    pub(crate) fn settle(&mut self) {
        while let Some((&(node, run), _)) = self.alive.iter().find(|(_, life)| **life == Life::Stopping) {
            self.report(node, run, OutcomeKind::Cancelled, ExitStatus::from_signal(15));
        }
    }

    pub(crate) fn wait(&mut self, span: Span) {
        let until = self.now.saturating_add(span);
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.input(Input::Deadline);
        }
        self.now = until;
    }

    pub(crate) fn state_of(&self, job: JobId) -> JobState {
        self.machine.state().jobs[&job].state()
    }

    pub(crate) fn nodes_of(&self, job: JobId) -> String {
        let active = self.machine.state().jobs[&job].active().expect("the test asks of a running job");
        self.machine.state().node_names(&active.allocation)
    }

    /// The state that the records rebuild.
    pub(crate) fn replayed(&self) -> State {
        let mut state = State::default();
        for record in &self.records {
            apply(&mut state, record);
        }
        state
    }
}

pub(crate) fn outcome(kind: OutcomeKind, exit: ExitStatus, ended: Timestamp) -> RunOutcome {
    RunOutcome {
        kind,
        exit,
        ended,
        detail: "".into(),
        usage: Usage::default(),
        stop_requested: false,
        held: "".into(),
    }
}

pub(crate) fn asker(uid: Uid) -> Asker {
    let name = match uid {
        ROOT => "root",
        ALICE => "alice",
        BOB => "bob",
        _ => "somebody",
    };
    Asker { uid, gid: Gid(uid.0), name: name.into(), groups: Arc::from([Box::from(name)]) }
}

pub(crate) fn whole(job: JobId) -> Selector {
    Selector { job, tasks: None, step: None }
}

/// A batch job of one task.
pub(crate) fn job() -> JobRequest {
    JobRequest { name: "job".into(), work_dir: "/".into(), ..JobRequest::default() }
}

pub(crate) fn after(text: &str) -> JobRequest {
    let dependency = model::depend::Dependency::parse(text).expect("the test writes a dependency");
    JobRequest { dependency, ..job() }
}

pub(crate) fn array(text: &str) -> JobRequest {
    let spec = model::array::ArraySpec::parse(text, 1_000_000).expect("the test writes an array");
    JobRequest { array: Some(spec), ..job() }
}
