//! A model of the daemon's shell: batches, one of them under way to the disk, effects after the sync.
//!
//! It may end at any operation of its disk ([`Disk`]), between two effects of a batch, and at any other time.

use std::collections::BTreeMap;
use std::sync::Arc;

use executor_claims::Wanted;
use model::exit::ExitStatus;
use model::id::{Epoch, JobId, NodeIdx, RequestKey, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::time::{Span, Timestamp};

use scheduler_core::effect::{Answer, Effect, RunKey};
use scheduler_core::input::{Input, Registration, Report};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::Planner;
use scheduler_core::plan::policy::{Policy, Prediction};
use scheduler_core::record::Record;
use scheduler_core::settings::{Enforce, Hooks, Settings};
use scheduler_core::state::node::{GresDefinition, NodeDefinition};
use scheduler_core::state::partition::PartitionDefinition;

use super::administrator::{self, Act};
use super::cards;
use super::clients::Clients;
use super::disk::{Disk, Found};
use super::fleet::Fleet;
use super::{Agenda, Ends, Event, Options};

/// Licenses of the cluster.
pub(super) const LICENSES: [(&str, u32); 2] = [("matlab", 3), ("vasp", 1)];
/// Types of GPUs of each node, and how many.
const GPUS: [(&str, u64); 2] = [("a", 2), ("b", 1)];
/// Those of the first node where GPUs are shared: more than one word of bytes can tell.
const MANY_GPUS: [(&str, u64); 2] = [("a", 8), ("b", 1)];
/// A pass that takes more slices than this does not end.
const SLICES: u32 = 100_000;
/// Shards of each.
const SHARDS: u64 = 2;

struct Running {
    machine: Machine,
    planner: Planner,
    next: Outbox,
    under_way: Option<(Vec<Record>, Vec<Effect>)>,
    sessions: BTreeMap<u64, usize>,
    /// The controller's view: the nodes of sessions, and each node's present one, from when the machine took it.
    node_of: BTreeMap<u64, NodeIdx>,
    current: BTreeMap<NodeIdx, u64>,
    /// When the planner wants to be called at the latest.
    wake: Option<Timestamp>,
    /// Why jobs wait, as the planner said last.
    reasons: BTreeMap<JobId, Reason>,
    /// The dispatcher's view: where a node's commands go, from when that it was taken is on disk.
    session_of: BTreeMap<NodeIdx, u64>,
}

impl Running {
    fn handle(&mut self, now: Timestamp, input: Input) {
        let (before, effects) = (self.next.records.len(), self.next.effects.len());
        self.machine.handle(now, input, &mut self.next);
        for record in &self.next.records[before..] {
            self.planner.observe(record);
        }
        for effect in &self.next.effects[effects..] {
            if let Effect::Session { session, node: Some(node), .. } = effect {
                self.node_of.insert(*session, *node);
                self.current.insert(*node, *session);
            }
        }
    }
}

/// The scheduler: its disk survives, the rest does not.
pub(super) struct Shell {
    settings: Arc<Settings>,
    /// As they were at the beginning, and will be in the end.
    usual: Arc<Settings>,
    disk: Disk,
    running: Option<Running>,
    incarnation: u64,
    /// The last frame that was said to be durable.
    known: u64,
    /// It ended by itself since somebody asked.
    ended: bool,
    /// A pass had no end.
    endless: bool,
    /// Until then it ends at some operation of its disk, soon after each start; ms.
    ends_until: i64,
    /// Jobs by the key of the call that made them, as history has them: the daemon answers a repeated call from there
    /// when the job has left the state.
    past: BTreeMap<RequestKey, JobId>,
    /// How far the wall clock is ahead of the agenda's, which goes evenly; the daemon looks at it now and then.
    wall_ahead: Span,
}

impl Shell {
    pub(super) fn new(options: &Options, seed: u64, ends_until: i64) -> Self {
        let names: Vec<Box<str>> = (0..options.nodes as usize).map(node_name).collect();
        let site = Site::of(seed, options);
        let nodes: Vec<NodeDefinition> = (0..names.len()).map(|place| node(place, site)).collect();
        let half = names[..names.len().div_ceil(2)].to_vec();
        let main =
            PartitionDefinition { nodes: names, is_default: true, ..PartitionDefinition::named("main") };
        let second = PartitionDefinition { nodes: half, ..PartitionDefinition::named("second") };
        let usual = Settings::named("sim");
        // In some histories most jobs are behind the protected ones.
        let few = [None, None, Some(3), Some(1)][(seed >> 6 & 3) as usize];
        let depth = few.filter(|_| options.administrator).unwrap_or(usual.backfill_depth);
        let prediction = if seed % 3 == 1 { Prediction::Avg2 } else { Prediction::None };
        let settings = Settings {
            nodes,
            policy: Policy { prediction, ..Policy::default() },
            partitions: vec![main, second],
            administrators: vec![Uid(0)],
            enforce: Enforce { limits: options.administrator, ..Enforce::default() },
            backfill_depth: depth,
            def_mem_per_cpu: Some(MemoryMib(100)),
            requeue_delay: Span::from_secs(5),
            min_job_age: Span::from_secs(30),
            node_timeout: Span::from_secs(4),
            licenses: LICENSES.iter().map(|(name, total)| ((*name).into(), *total)).collect(),
            hooks: hooks_of(seed),
            ..usual
        };
        let settings = Arc::new(settings);
        let segment_bytes = 16 * 1024 + 2 * 1024 * u64::from(options.nodes) + 256 * u64::from(options.jobs);
        Self {
            usual: Arc::clone(&settings),
            settings,
            disk: Disk::new(segment_bytes, seed),
            running: None,
            incarnation: 0,
            known: 0,
            ended: false,
            endless: false,
            ends_until: if options.ends == Ends::Anywhere { ends_until } else { 0 },
            past: BTreeMap::new(),
            wall_ahead: Span::ZERO,
        }
    }

    /// Lets it end after so many further operations of its disk.
    pub(super) fn end_after(&mut self, operations: u64, agenda: &mut Agenda) {
        self.disk.end_after(operations, &mut agenda.random);
    }

    /// Operations of its disk so far.
    pub(super) fn operations(&self) -> u64 {
        self.disk.operations()
    }

    /// Whether it has ended by itself since this was last asked.
    pub(super) fn has_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts: everything comes from the disk. `None`: it ended again before it was up.
    ///
    /// # Errors
    /// The disk does not hold what was durable.
    pub(super) fn open(&mut self, agenda: &mut Agenda) -> Result<Option<Found>, String> {
        if agenda.now < self.ends_until && !self.disk.end_is_set() {
            let operations = agenda.random.below(40);
            self.disk.end_after(operations, &mut agenda.random);
        }
        let Some(found) = self.disk.open(self.known)? else {
            self.die(agenda);
            return Ok(None);
        };
        self.known = found.last;
        found.unseen.iter().flatten().for_each(|record| note_call(&mut self.past, record));
        self.incarnation += 1;
        let epoch = Epoch(self.incarnation);
        self.running = Some(Running {
            machine: Machine::new(found.state.clone()),
            // Slices, so that crashes and inputs come between them.
            planner: Planner::following().in_slices_of(40).reading(3),
            next: Outbox::default(),
            under_way: None,
            sessions: BTreeMap::new(),
            node_of: BTreeMap::new(),
            current: BTreeMap::new(),
            wake: None,
            reasons: BTreeMap::new(),
            session_of: BTreeMap::new(),
        });
        self.take(Some(Input::Owned(epoch)), agenda);
        self.take(Some(Input::Configure(Arc::clone(&self.settings))), agenda);
        self.take(Some(Input::ClockSet { wall_ahead: self.wall_ahead }), agenda);
        if self.incarnation == 1 && self.settings.enforce.limits {
            administrator::restored().into_iter().for_each(|input| self.take(Some(input), agenda));
        }
        Ok(Some(found))
    }

    /// The administrator changes something.
    pub(super) fn administer(&mut self, agenda: &mut Agenda) {
        match administrator::act(&self.settings, &mut agenda.random) {
            Act::Say(input) => self.take(Some(input), agenda),
            Act::Configure(settings) => self.configure(settings, agenda),
        }
    }

    /// The administrator makes everything as it was; a scheduler that is down does not hear all of it.
    pub(super) fn restore(&mut self, agenda: &mut Agenda) {
        self.configure(Arc::clone(&self.usual), agenda);
        administrator::restored().into_iter().for_each(|input| self.take(Some(input), agenda));
    }

    /// The configuration is another one, which a scheduler that runs reads.
    fn configure(&mut self, settings: Arc<Settings>, agenda: &mut Agenda) {
        self.settings = settings;
        self.take(Some(Input::Configure(Arc::clone(&self.settings))), agenda);
    }

    /// The administrator cancels the jobs that wait for another configuration of their partitions.
    pub(super) fn cancel_hopeless(&mut self, agenda: &mut Agenda) {
        let Some(running) = &self.running else { return };
        let waits = |id: &JobId| running.machine.state().job(*id).is_some_and(|job| job.pending().is_some());
        let never = running.reasons.iter().filter(|(_, reason)| **reason == Reason::PartitionConfig);
        let jobs: Vec<JobId> = never.map(|(id, _)| *id).filter(waits).collect();
        if !jobs.is_empty() {
            self.take(Some(administrator::cancelled(jobs)), agenda);
        }
    }

    /// The administrator brings back the nodes that had less than is declared for a while.
    pub(super) fn resume_short(&mut self, agenda: &mut Agenda) {
        let Some(running) = &self.running else { return };
        let nodes = running.machine.state().nodes.iter();
        let whole = nodes.filter(|node| node.admin.drain && !node.admin.invalid);
        let names: Vec<&str> = whole.map(|node| &*node.definition.name).collect();
        if !names.is_empty() {
            let input = administrator::resumed(&names.join(","));
            self.take(Some(input), agenda);
        }
    }

    /// # Errors
    /// A pass that never ends.
    pub(super) fn planned(&self) -> Result<(), String> {
        if self.endless {
            Err(format!("liveness: a pass does not end after {SLICES} slices"))
        } else {
            Ok(())
        }
    }

    /// Somebody sets the wall clock; a scheduler that runs notices.
    pub(super) fn set_clock(&mut self, ahead_ms: i64, agenda: &mut Agenda) {
        self.wall_ahead = Span(ahead_ms);
        self.take(Some(Input::ClockSet { wall_ahead: self.wall_ahead }), agenda);
    }

    pub(super) fn wall_ahead(&self) -> i64 {
        self.wall_ahead.0
    }

    /// Is killed, or the power goes. The batch under way is on disk or is not; what was not under way is gone.
    pub(super) fn crash(&mut self, agenda: &mut Agenda) {
        if self.running.is_some() {
            self.die(agenda);
        }
    }

    fn die(&mut self, agenda: &mut Agenda) {
        self.running = None;
        self.disk.close(&mut agenda.random);
        self.ended = true;
        let delay = agenda.soon(4000);
        agenda.after(delay, Event::Restart);
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
        let mut slices = 0;
        while wanted {
            slices += 1;
            if slices > SLICES {
                self.endless = true;
                break;
            }
            let pass = running.planner.pass(running.machine.state(), &self.settings, now);
            running.reasons.extend(pass.verdicts.iter().map(|verdict| (verdict.job, verdict.reason)));
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
        running.next.pass_wanted = batch.pass_wanted;
        if !self.disk.write(&batch.records) {
            return self.die(agenda);
        }
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
        let Some(last) = self.disk.sync() else {
            self.die(agenda);
            return None;
        };
        self.known = last;
        batch.0.iter().for_each(|record| note_call(&mut self.past, record));
        self.write(agenda);
        Some(batch)
    }

    /// What happens beside it: segments are filled, snapshots made.
    pub(super) fn tidy(&mut self, agenda: &mut Agenda) {
        if self.running.is_some() && !self.disk.tidy() {
            self.die(agenda);
        }
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
        let Some(running) = &self.running else { return };
        let node = running.node_of.get(&session).filter(|node| running.current.get(*node) == Some(&session));
        if let Some(&node) = node {
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
        }
        if running.current.get(&node) == Some(&session) {
            running.current.remove(&node);
            self.take(Some(Input::Disconnected { node }), agenda);
        }
    }

    /// Lets one effect out; `wanted`: the slices that a launch asks for.
    pub(super) fn release(
        &mut self,
        effect: Effect,
        wanted: Vec<Wanted>,
        clients: &mut Clients,
        fleet: &mut Fleet,
        agenda: &mut Agenda,
    ) {
        let Some(running) = &mut self.running else { return };
        let node = match &effect {
            Effect::Answer(reply, _) if *reply == administrator::REPLY => return,
            Effect::Answer(reply, answer) => return clients.answer(*reply, answer.clone(), agenda),
            Effect::Session { session, node, .. } => {
                match node {
                    Some(node) if running.sessions.contains_key(session) => {
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
            fleet.send((place, *session), effect, wanted, agenda);
        }
    }
}

fn note_call(past: &mut BTreeMap<RequestKey, JobId>, record: &Record) {
    if let Record::Job(job) = record {
        past.entry(job.key).or_insert(job.array_id().unwrap_or(job.id));
    }
}

pub(super) fn node_name(place: usize) -> Box<str> {
    format!("n{place}").into()
}

/// What differs between the clusters of histories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// GPUs may be shared, and machines come back with other sizes.
    pub(super) shared: bool,
    /// Some nodes have GPUs that are cut as jobs need it.
    pub(super) slices: bool,
}

impl Site {
    pub(super) fn of(seed: u64, options: &Options) -> Self {
        Self { shared: options.administrator, slices: cards::offered(seed, options) }
    }

    /// Whether the node has GPUs that are cut.
    pub(super) fn cuts(self, place: usize) -> bool {
        self.slices && cards::has(place)
    }
}

pub(super) fn node(place: usize, site: Site) -> NodeDefinition {
    let name = node_name(place);
    NodeDefinition {
        name: name.clone(),
        hostname: name.clone(),
        address: name,
        port: 0,
        cpus: Cpus(4),
        boards: 1,
        sockets: 1,
        cores_per_socket: 4,
        threads_per_core: 1,
        memory: MemoryMib(4000),
        tmp_disk: MemoryMib(0),
        features: Vec::new(),
        gres: devices(place, site),
        weight: 1,
        bind: true,
    }
}

fn devices(place: usize, site: Site) -> Vec<GresDefinition> {
    let kinds = if site.shared && place == 0 { MANY_GPUS } else { GPUS };
    let count = kinds.iter().map(|(_, count)| count).sum();
    let kinds = kinds.iter().map(|(kind, count)| gpus(kind, *count));
    let cut = site.cuts(place).then(cards::declared).into_iter().flatten();
    kinds.chain(cut).chain(site.shared.then(|| shards(count))).collect()
}

fn gpus(kind: &str, count: u64) -> GresDefinition {
    GresDefinition { name: "gpu".into(), kind: kind.into(), count, indexed: true }
}

fn shards(gpus: u64) -> GresDefinition {
    GresDefinition { name: "shard".into(), kind: "".into(), count: SHARDS * gpus, indexed: false }
}

/// Half of the histories are of sites with programs around jobs.
fn hooks_of(seed: u64) -> Hooks {
    let bit = |at: u32| seed >> at & 1 == 1;
    let some = Hooks {
        controller_prolog: bit(1),
        controller_epilog: bit(2),
        nodes: true,
        allocation: bit(3),
        contain: bit(4),
        defer_batch: bit(5),
        ..Hooks::default()
    };
    if bit(0) { some } else { Hooks::default() }
}
