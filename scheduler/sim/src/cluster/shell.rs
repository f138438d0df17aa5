//! A model of the daemon's shell: batches, one of them under way to the disk, effects after the sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{Epoch, JobId, NodeIdx, RequestKey};
use model::quantity::{Cpus, MemoryMib};
use model::time::{Span, Timestamp};

use scheduler_core::apply::apply;
use scheduler_core::effect::{Answer, Effect, RunKey};
use scheduler_core::input::{Input, Registration, Report};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::{Hooks, Settings};
use scheduler_core::state::State;
use scheduler_core::state::node::NodeDefinition;
use scheduler_core::state::partition::PartitionDefinition;

use super::clients::Clients;
use super::fleet::Fleet;
use super::{Agenda, Event};

struct Running {
    machine: Machine,
    planner: Planner,
    next: Outbox,
    under_way: Option<(Vec<Record>, Vec<Effect>)>,
    sessions: BTreeMap<u64, usize>,
    node_of: BTreeMap<u64, NodeIdx>,
    /// When the planner wants to be called at the latest.
    wake: Option<Timestamp>,
    session_of: BTreeMap<NodeIdx, u64>,
}

impl Running {
    fn handle(&mut self, now: Timestamp, input: Input) {
        let before = self.next.records.len();
        self.machine.handle(now, input, &mut self.next);
        for record in &self.next.records[before..] {
            self.planner.observe(record);
        }
    }
}

/// The scheduler: its disk survives, the rest does not.
pub(super) struct Shell {
    settings: Arc<Settings>,
    disk: Vec<Vec<u8>>,
    running: Option<Running>,
    recovered: State,
    incarnation: u64,
    /// Jobs by the key of the call that made them, as history has them: the daemon answers a repeated call from there
    /// when the job has left the state.
    past: BTreeMap<RequestKey, JobId>,
    /// How far the wall clock is ahead of the agenda's, which goes evenly; the daemon looks at it now and then.
    wall_ahead: Span,
}

impl Shell {
    pub(super) fn new(nodes: u32, hooks: Hooks) -> Self {
        let nodes: Vec<NodeDefinition> = (0..nodes).map(|place| node(&node_name(place as usize))).collect();
        let names: Vec<Box<str>> = nodes.iter().map(|node| node.name.clone()).collect();
        let main =
            PartitionDefinition { nodes: names, is_default: true, ..PartitionDefinition::named("main") };
        let settings = Settings {
            nodes,
            partitions: vec![main],
            def_mem_per_cpu: Some(MemoryMib(100)),
            requeue_delay: Span::from_secs(5),
            min_job_age: Span::from_secs(30),
            node_timeout: Span::from_secs(20),
            hooks,
            ..Settings::named("sim")
        };
        Self {
            settings: Arc::new(settings),
            disk: Vec::new(),
            running: None,
            recovered: State::default(),
            incarnation: 0,
            past: BTreeMap::new(),
            wall_ahead: Span::ZERO,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// What the last opening found on the disk.
    pub(super) fn recovered(&self) -> &State {
        &self.recovered
    }

    /// Starts: everything comes from the disk.
    pub(super) fn open(&mut self, agenda: &mut Agenda) {
        let mut state = State::default();
        for frame in &self.disk {
            for record in decode(frame) {
                note_call(&mut self.past, &record);
                apply(&mut state, &record);
            }
        }
        self.recovered = state.clone();
        self.incarnation += 1;
        let epoch = Epoch(self.incarnation);
        self.running = Some(Running {
            machine: Machine::new(state),
            // Slices, so that crashes and inputs come between them.
            planner: Planner::following().in_slices_of(40),
            next: Outbox::default(),
            under_way: None,
            sessions: BTreeMap::new(),
            node_of: BTreeMap::new(),
            wake: None,
            session_of: BTreeMap::new(),
        });
        self.take(Some(Input::Owned(epoch)), agenda);
        self.take(Some(Input::Configure(Arc::clone(&self.settings))), agenda);
        self.take(Some(Input::ClockSet { wall_ahead: self.wall_ahead }), agenda);
    }

    /// Somebody sets the wall clock; a scheduler that runs notices.
    pub(super) fn set_clock(&mut self, ahead_ms: i64, agenda: &mut Agenda) {
        self.wall_ahead = Span(ahead_ms);
        self.take(Some(Input::ClockSet { wall_ahead: self.wall_ahead }), agenda);
    }

    pub(super) fn wall_ahead(&self) -> i64 {
        self.wall_ahead.0
    }

    /// Dies. The batch under way is on disk or is not; what was not under way is gone.
    pub(super) fn crash(&mut self, agenda: &mut Agenda) -> bool {
        let Some(running) = self.running.take() else { return false };
        if let Some((records, _)) = running.under_way
            && agenda.random.one_in(2)
        {
            self.disk.push(encode(&records));
        }
        let delay = agenda.soon(4000);
        agenda.after(delay, Event::Restart);
        true
    }

    pub(super) fn take(&mut self, input: Option<Input>, agenda: &mut Agenda) {
        let (Some(running), Some(input)) = (&mut self.running, input) else { return };
        let now = Timestamp(agenda.now).max(running.machine.state().now);
        if let Input::Submit(submit) = &input
            && let Some(job) = self.past.get(&submit.key)
            && !running.machine.state().index.keys.contains_key(&(submit.asker.uid, submit.key))
        {
            let answer = Answer::Submitted { job: *job, warnings: Vec::new() };
            running.next.effects.push(Effect::Answer(submit.reply, answer));
            return self.write(agenda);
        }
        running.handle(now, input);
        let woken = running.wake.is_some_and(|at| at <= now);
        let mut wanted = std::mem::take(&mut running.next.pass_wanted) || woken;
        while wanted {
            let pass = running.planner.pass(running.machine.state(), &self.settings, now);
            running.wake = pass.wake;
            let idle = pass.plan.is_empty();
            if !idle {
                running.handle(now, Input::Plan(pass.plan));
            }
            let again = std::mem::take(&mut running.next.pass_wanted) && !idle;
            // Now and then what is left waits for the next input.
            wanted = again || (pass.more && !agenda.random.one_in(8));
            running.next.pass_wanted = pass.more && !wanted;
        }
        if let Some(at) = running.wake {
            agenda.at(at.0.max(agenda.now + 1), Event::Deadline);
        }
        if running.next.pass_wanted {
            agenda.after(1, Event::Deadline);
        }
        if let Some(at) = running.machine.next_deadline() {
            agenda.at(at.0.max(agenda.now + 1), Event::Deadline);
        }
        self.write(agenda);
    }

    /// Sends the next batch on its way, if none is.
    fn write(&mut self, agenda: &mut Agenda) {
        let Some(running) = &mut self.running else { return };
        let idle = running.next.records.is_empty() && running.next.effects.is_empty();
        if running.under_way.is_some() || idle {
            return;
        }
        let batch = std::mem::take(&mut running.next);
        running.under_way = Some((batch.records, batch.effects));
        let delay = agenda.soon(8);
        agenda.after(delay, Event::Synced(self.incarnation));
    }

    /// The batch is on disk: what it said may be known now.
    pub(super) fn synced(
        &mut self,
        incarnation: u64,
        agenda: &mut Agenda,
    ) -> Option<(Vec<Record>, Vec<Effect>)> {
        if incarnation != self.incarnation {
            return None;
        }
        let batch = self.running.as_mut()?.under_way.take()?;
        self.disk.push(encode(&batch.0));
        batch.0.iter().for_each(|record| note_call(&mut self.past, record));
        self.write(agenda);
        Some(batch)
    }

    pub(super) fn deadline(&mut self, agenda: &mut Agenda) {
        let due = self.running.as_ref().is_some_and(|running| {
            let at = running.machine.next_deadline().into_iter().chain(running.wake).min();
            running.next.pass_wanted || at.is_some_and(|at| at.0 <= agenda.now)
        });
        if due {
            self.take(Some(Input::Deadline), agenda);
        }
    }

    pub(super) fn register(&mut self, place: usize, registration: Registration, agenda: &mut Agenda) {
        if let Some(running) = &mut self.running {
            running.sessions.insert(registration.session, place);
            self.take(Some(Input::Registered(Box::new(registration))), agenda);
        }
    }

    pub(super) fn report(
        &mut self,
        _place: usize,
        session: u64,
        run: RunKey,
        report: Report,
        agenda: &mut Agenda,
    ) {
        let node = self.running.as_ref().and_then(|running| running.node_of.get(&session).copied());
        if let Some(node) = node {
            self.take(Some(Input::Report { node, run, report }), agenda);
        }
    }

    /// A program beside the scheduler has ended; one of an earlier scheduler is nobody's.
    pub(super) fn hook_ends(&mut self, run: RunKey, incarnation: u64, agenda: &mut Agenda) {
        if incarnation == self.incarnation {
            let exit = ExitStatus { code: u8::from(agenda.random.one_in(8)), signal: 0 };
            self.take(Some(Input::HookEnded { run, exit, detail: "".into() }), agenda);
        }
    }

    pub(super) fn gone(&mut self, _place: usize, session: u64, agenda: &mut Agenda) {
        let Some(running) = &mut self.running else { return };
        running.sessions.remove(&session);
        let Some(node) = running.node_of.remove(&session) else { return };
        if running.session_of.get(&node) == Some(&session) {
            running.session_of.remove(&node);
            self.take(Some(Input::Disconnected { node }), agenda);
        }
    }

    /// Lets one effect out.
    pub(super) fn release(
        &mut self,
        effect: Effect,
        clients: &mut Clients,
        fleet: &mut Fleet,
        agenda: &mut Agenda,
    ) {
        let Some(running) = &mut self.running else { return };
        let node = match &effect {
            Effect::Answer(reply, answer) => return clients.answer(*reply, answer.clone(), agenda),
            Effect::Session { session, node, .. } => {
                match node {
                    Some(node) if running.sessions.contains_key(session) => {
                        running.node_of.insert(*session, *node);
                        running.session_of.insert(*node, *session);
                    }
                    Some(_) => {}
                    None => fleet.refused(*session, agenda),
                }
                return;
            }
            Effect::Hook { run, stop } => {
                let delay = agenda.soon(if *stop { 50 } else { 3000 });
                return agenda.after(delay, Event::HookEnds(*run, self.incarnation));
            }
            Effect::Launch { node, .. }
            | Effect::Terminate { node, .. }
            | Effect::Signal { node, .. }
            | Effect::Suspend { node, .. }
            | Effect::ChangeLimit { node, .. }
            | Effect::Acknowledge { node, .. }
            | Effect::Announce { node, .. } => *node,
        };
        if let Some(session) = running.session_of.get(&node) {
            let place = running.sessions[session];
            fleet.send(place, *session, effect, agenda);
        }
    }
}

fn note_call(past: &mut BTreeMap<RequestKey, JobId>, record: &Record) {
    if let Record::Job(job) = record {
        past.entry(job.key).or_insert(job.array_id().unwrap_or(job.id));
    }
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut frame = Vec::new();
    for record in records {
        let mut bytes = Vec::new();
        scheduler_codec::encode_record(record, &mut bytes);
        let length = u32::try_from(bytes.len()).expect("a record is small");
        frame.extend(length.to_le_bytes());
        frame.extend(bytes);
    }
    frame
}

fn decode(mut frame: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((length, rest)) = frame.split_first_chunk::<4>() {
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        let record = scheduler_codec::read_record(bytes).expect("the codec reads what it wrote");
        records.extend(record);
        frame = rest;
    }
    records
}

pub(super) fn node_name(place: usize) -> Box<str> {
    format!("n{place}").into()
}

pub(super) fn node(name: &str) -> NodeDefinition {
    NodeDefinition {
        name: name.into(),
        hostname: name.into(),
        address: name.into(),
        port: 0,
        cpus: Cpus(4),
        boards: 1,
        sockets: 1,
        cores_per_socket: 4,
        threads_per_core: 1,
        memory: MemoryMib(4000),
        tmp_disk: MemoryMib(0),
        features: Vec::new(),
        gres: Vec::new(),
        weight: 1,
        bind: true,
    }
}
