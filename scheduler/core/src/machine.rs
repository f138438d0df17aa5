//! The machine: the only way in.
//!
//! ```text
//!   Input ──► handle ──► records (applied at once, stored by the shell)
//!                   └──► effects (released by the shell after the records are on disk)
//!                   └──► pass_wanted (the planner has something to do)
//! ```
//! The first input after every opening is [`Input::Owned`], the second [`Input::Configure`]. `now`
//! never decreases. Timers are derived from `State` and checked against it again when they fire, so a
//! timer too many does no harm.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::array::TaskSet;
use model::id::{Epoch, JobId, NodeIdx};
use model::time::{Span, Timestamp};

use crate::admit::Shared;
use crate::apply::apply;
use crate::effect::{Answer, Effect, Refused, ReplyTo};
use crate::input::Input;
use crate::place::ever::Able;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use crate::state::job::{Job, Phase};
use crate::state::node::Link;

/// What one call of [`Machine::handle`] brought.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What is now true; already applied. Stored before anything else of the call leaves.
    pub records: Vec<Record>,
    /// What to do then, in order.
    pub effects: Vec<Effect>,
    /// Something changed that may let a job start.
    pub pass_wanted: bool,
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The job may become eligible, or its dependency's delay is over, or its deadline has come.
    Job(JobId),
    /// The oldest ended job has been kept long enough.
    Purge,
    /// A silent node has been silent too long.
    Node(NodeIdx),
    /// Jobs whose priority has stopped growing are compared anew with those whose grows.
    Aging,
    /// A reservation begins or ends.
    Reservation,
}

/// Owns the state and decides.
#[derive(Debug)]
pub struct Machine {
    pub(crate) state: State,
    pub(crate) settings: Option<Arc<Settings>>,
    timers: BTreeSet<(Timestamp, Timer)>,
    /// Ids that only history holds, once the shell has said so: not given again.
    pub(crate) held_ids: Option<TaskSet>,
    /// No waiting job has waited for longer than since then, as far as ages count.
    pub(crate) oldest_wait: Timestamp,
    /// Requests that can run, as was found lately.
    pub(crate) able: Able,
    /// What jobs of late were given, which others share.
    pub(crate) shared: Shared,
}

impl Machine {
    /// A machine over a state: empty, or recovered.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state,
            settings: None,
            timers: BTreeSet::new(),
            held_ids: None,
            oldest_wait: Timestamp(i64::MIN),
            able: Able::default(),
            shared: Shared::default(),
        }
    }

    /// What is true.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Gives the state back.
    #[must_use]
    pub fn into_state(self) -> State {
        self.state
    }

    /// The configuration, once there is one.
    #[must_use]
    pub fn configuration(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    /// When [`Input::Deadline`] is wanted next; may be in the past. `None`: not before another input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Handles one input at `now`; what comes of it is added to `out`.
    ///
    /// Cost: see each module; nothing here is more than O(log jobs) for one job.
    ///
    /// # Panics
    /// If `now` is before an earlier one, or an input comes before the configuration: bugs of the shell.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Outbox) {
        assert!(now >= self.state.now, "time never decreases");
        let mut call = Call { machine: self, out, now };
        match input {
            Input::Owned(epoch) => call.own(epoch),
            Input::Configure(settings) => call.configure(&settings),
            Input::Submit(submit) => call.submit(*submit),
            Input::Command { reply, asker, command } => call.command(reply, &asker, *command),
            Input::Registered(registration) => call.register(*registration),
            Input::GpusObserved { node, gpus } => call.gpus_observed(node, gpus),
            Input::Disconnected { node } => call.disconnect(node),
            Input::Report { node, run, report } => call.report(node, run, report),
            Input::HookEnded { run, exit, detail } => call.hook_ended(run, exit, &detail),
            Input::IdsHeld(ids) => call.machine.held_ids = Some(*ids),
            Input::ClockSet { wall_ahead } => call.clock_set(wall_ahead),
            Input::Deadline => {}
            Input::Plan(plan) => call.carry_out(plan),
        }
        call.fire_timers();
    }

    /// Derives every timer from the state again: after recovery, and when the configuration changes.
    pub(crate) fn rebuild_timers(&mut self) {
        self.timers.clear();
        let mut timers = BTreeSet::new();
        let mut oldest = self.state.now;
        for job in self.state.jobs.values() {
            timers.extend(self.job_deadline(job).map(|at| (at, Timer::Job(job.id))));
            oldest = oldest.min(self.state.aging.waits_since(job).unwrap_or(oldest));
        }
        self.timers = timers;
        self.oldest_wait = oldest;
        self.arm_purge();
        self.arm_aging();
        self.arm_reservations(self.state.now);
        for (place, node) in (0..).zip(&self.state.nodes) {
            if let (Link::Silent { since, timed_out: false }, Some(settings)) = (node.link, &self.settings) {
                let at = since.saturating_add(settings.node_timeout);
                self.timers.insert((at, Timer::Node(NodeIdx(place))));
            }
        }
    }

    /// Sets the next timer of a job, if it has one.
    pub(crate) fn arm(&mut self, id: JobId) {
        if let Some(at) = self.state.jobs.get(&id).and_then(|job| self.job_deadline(job)) {
            self.timers.insert((at, Timer::Job(id)));
        }
    }

    fn job_deadline(&self, job: &Job) -> Option<Timestamp> {
        match &job.phase {
            Phase::Pending(pending) => {
                // A time that has passed counts too: after a crash nobody else would look at the job.
                let begin = pending.not_before.filter(|_| !planted::is(Bug::ForgetTimer));
                let delay = crate::job::dependency::next_delay(&self.state, job);
                [begin, delay, self.own_deadline(job), switches_until(job)].into_iter().flatten().min()
            }
            Phase::Active(active) if active.finish.is_none() => {
                let own = active.limit_end().map(|end| end.saturating_add(self.limit_margin(job)));
                [own, self.own_deadline(job)].into_iter().flatten().min()
            }
            Phase::Active(_) | Phase::Ended(_) => None,
        }
    }

    /// The job's `--deadline`, which is wall time, in the machine's time.
    pub(crate) fn own_deadline(&self, job: &Job) -> Option<Timestamp> {
        job.request.rare().deadline.map(|wall| self.state.own_time(wall))
    }

    /// How much later than the supervisor the scheduler ends a job that outlives its limit.
    ///
    /// Only the batch step has a supervisor that minds the job's limit; an allocation without one is
    /// ended by the scheduler, at once.
    pub(crate) fn limit_margin(&self, job: &Job) -> Span {
        let kill_wait = self.settings.as_ref().map_or(Span::ZERO, |settings| settings.kill_wait);
        if job.has_batch_step() { kill_wait.saturating_add(Span::from_secs(30)) } else { Span::ZERO }
    }

    pub(crate) fn arm_purge(&mut self) {
        if let (Some((end, _)), Some(settings)) = (self.state.index.ended.first(), &self.settings) {
            self.timers.insert((end.saturating_add(settings.min_job_age), Timer::Purge));
        }
    }

    pub(crate) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(crate) fn arm_node(&mut self, node: NodeIdx, at: Timestamp) {
        self.timers.insert((at, Timer::Node(node)));
    }
}

/// Until when a waiting job insists on its `--switches`.
pub(crate) fn switches_until(job: &Job) -> Option<Timestamp> {
    let (_, wait) = job.request.rare().switches?;
    let wait = wait.filter(|wait| *wait > Span::ZERO)?;
    Some(job.pending()?.eligible?.saturating_add(wait))
}

/// One call of `handle`: the machine, what it brings, and when.
pub(crate) struct Call<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) out: &'a mut Outbox,
    pub(crate) now: Timestamp,
}

impl Call<'_> {
    /// The state as it is now.
    pub(crate) fn state(&self) -> &State {
        &self.machine.state
    }

    /// The configuration.
    pub(crate) fn settings(&self) -> &Settings {
        self.machine.settings.as_ref().expect("the shell configures before anything else")
    }

    /// The job, which the caller knows to exist.
    pub(crate) fn job(&self, id: JobId) -> &Job {
        &self.machine.state.jobs[&id]
    }

    /// Makes a fact true and keeps it for the shell to store.
    pub(crate) fn emit(&mut self, record: Record) {
        if self.now > self.machine.state.now {
            let time = Record::Time(self.now);
            apply(&mut self.machine.state, &time);
            self.out.records.push(time);
        }
        apply(&mut self.machine.state, &record);
        if let Record::NodeDefined { .. }
        | Record::NodeRegistered { .. }
        | Record::PartitionDefined { .. }
        | Record::PartitionRemoved(_)
        | Record::SlicesAsked { .. }
        | Record::Reservation(..) = record
        {
            self.machine.able.forget();
        }
        self.out.records.push(record);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(crate) fn answer(&mut self, reply: ReplyTo, answer: Answer) {
        self.effect(Effect::Answer(reply, answer));
    }

    pub(crate) fn refuse(&mut self, reply: ReplyTo, refused: impl Into<Refused>) {
        self.answer(reply, Answer::Refused(refused.into()));
    }

    /// No session outlives its scheduler: nodes that were up are silent until they register again.
    fn own(&mut self, epoch: Epoch) {
        self.emit(Record::Owner(epoch));
        let nodes = (0..).map(NodeIdx).zip(&self.state().nodes);
        let up: Vec<NodeIdx> = nodes.filter(|(_, node)| node.link == Link::Up).map(|(idx, _)| idx).collect();
        for node in up {
            let link = Link::Silent { since: self.now, timed_out: false };
            self.emit(Record::NodeLink { node, link });
        }
    }

    fn configure(&mut self, settings: &Arc<Settings>) {
        self.machine.settings = Some(Arc::clone(settings));
        self.machine.able.forget();
        self.define_cluster(settings);
        self.define_aging(settings);
        self.machine.rebuild_timers();
        self.reprioritise();
        self.repeat_hooks();
        self.out.pass_wanted = true;
    }

    fn fire_timers(&mut self) {
        while let Some(&(at, timer)) = self.machine.timers.first() {
            if at > self.now || self.machine.settings.is_none() {
                return;
            }
            self.machine.timers.pop_first();
            match timer {
                Timer::Job(id) => self.job_timer(id),
                Timer::Purge => self.purge(),
                Timer::Node(node) => self.node_timer(node),
                Timer::Aging => self.age(),
                Timer::Reservation => self.reservation_timer(),
            }
        }
    }

    fn purge(&mut self) {
        let keep = self.settings().min_job_age;
        while let Some(&(end, id)) = self.state().index.ended.first() {
            if end.saturating_add(keep) > self.now {
                break;
            }
            self.emit(Record::JobPurged(id));
            if let Some(held) = &mut self.machine.held_ids {
                // From now on only history has it.
                held.insert(id.0);
            }
        }
        self.machine.arm_purge();
    }
}
