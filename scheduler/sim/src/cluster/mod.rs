//! A whole cluster in one thread: the production machine and planner, a model of its shell and disk,
//! model executors, clients, and a network that delays and breaks. Seeded: one number is one history.
//!
//! What is modelled, not run: the shell's group commit (a batch is durable some time after it was
//! handled, its effects leave after that), sessions (ordered while they last, what is under way is lost
//! when they break), executors (intent before start, outcomes kept until acknowledged, tombstones).
//! The journal and its snapshots are the production ones, on a modelled disk.
//! What goes wrong: the scheduler ends at an operation of its disk (killed, by a power cut that leaves any part of what
//! was not synced, by an error of the disk), between two effects of a batch, at any time; executor crashes, reboots,
//! lost spools, broken sessions, lost answers and repeated calls, cancels at any time, a wall clock that is set by hours,
//! an administrator who changes partitions, nodes and limits ([`administrator`]), machines that come back larger or smaller.
//! A third of the histories have GPUs that are cut as jobs need it ([`cards`], [`slices`]): calls of the driver that take
//! time and fail, executors that die in the middle of one, instances that somebody removes.
//! After every durable batch [`oracle`] checks what must always hold.

mod administrator;
mod cards;
mod clients;
mod disk;
mod fleet;
pub mod oracle;
mod shell;
mod slices;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use executor_claims::Wanted;
use scheduler_core::effect::{Effect, RunKey};
use scheduler_core::input::Report;

use crate::random::SplitMix64;
use clients::Clients;
use fleet::Fleet;
use oracle::Oracle;
use shell::{LICENSES, Shell, Site};

/// At which operations of its disk the scheduler ends, beside the times at which it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// At some, soon after each start.
    Anywhere,
    /// After so many operations, once.
    After(u64),
    /// At none.
    Never,
}

/// What a run of the simulation is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes.
    pub nodes: u32,
    /// Jobs that clients submit.
    pub jobs: u32,
    /// Virtual time during which things go wrong, ms.
    pub faults_ms: i64,
    /// Ends of the scheduler at operations of its disk.
    pub ends: Ends,
    /// An administrator changes partitions, nodes and limits meanwhile, and jobs ask for what that concerns.
    pub administrator: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 4, jobs: 40, faults_ms: 120_000, ends: Ends::Anywhere, administrator: true }
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Jobs that were acknowledged.
    pub acknowledged: u32,
    /// Runs that were started on executors.
    pub runs: u32,
    /// Scheduler crashes.
    pub crashes: u32,
    /// Operations of its disk.
    pub operations: u64,
    /// Executor crashes, reboots and lost spools.
    pub node_faults: u32,
    /// Instances that executors made of their GPUs.
    pub slices: u32,
    /// How often the wall clock was set.
    pub clock_sets: u32,
    /// How often an administrator changed something.
    pub changes: u32,
    /// Batches that became durable.
    pub batches: u32,
    /// Digest of the last durable state.
    pub digest: u128,
}

/// For so long after the last fault the administrator makes everything as it was: now and then a scheduler is down.
const RESTORES_MS: i64 = 60_000;

/// After that, so often, those jobs are cancelled that no partition can run as it is.
const CLEANS_MS: i64 = 600_000;

/// A history of more events than this, and so many for each node and each job, does not end.
const EVENTS: u64 = 1_000_000;
const EVENTS_EACH: u64 = 20_000;

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A client (re)sends its call.
    Call(usize),
    /// The scheduler gets a call.
    CallArrives(usize),
    /// A client gets its answer.
    AnswerArrives(usize, scheduler_core::effect::Answer),
    /// The scheduler's batch is on disk.
    Synced(u64),
    /// The scheduler wants to be called.
    Deadline,
    /// The scheduler comes back.
    Restart,
    /// An executor dials.
    Dial(usize),
    /// The scheduler learns of a session's first message.
    Hello(usize, u64),
    /// A message of an executor arrives.
    Up(usize, u64, RunKey, Report),
    /// A command arrives at an executor.
    Down(usize, u64, Effect, Vec<Wanted>),
    /// The scheduler notices that a session is gone.
    Gone(usize, u64),
    /// A program beside the scheduler (of that incarnation) ends.
    HookEnds(RunKey, u64),
    /// A run's processes start.
    Begin(usize, u64, RunKey),
    /// A run's processes end.
    End(usize, u64, RunKey),
    /// An executor, as it was started then, goes on with a run that has slices.
    GoOn(usize, u64, RunKey),
    /// A driver call of an executor comes to its end, on that GPU.
    Driver(usize, u64, u32),
    /// An executor looks at its GPUs.
    Look(usize, u64),
    /// The administrator changes something.
    Administer,
    /// Something goes wrong.
    Fault,
}

struct Scheduled {
    at: i64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Time and what is to come.
pub(crate) struct Agenda {
    pub(crate) now: i64,
    pub(crate) random: SplitMix64,
    sequence: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
}

impl Agenda {
    pub(crate) fn after(&mut self, delay: i64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: i64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Scheduled { at: at.max(self.now), sequence: self.sequence, event }));
    }

    /// A delay below `most` ms, at least one.
    pub(crate) fn soon(&mut self, most: u64) -> i64 {
        1 + i64::try_from(self.random.below(most)).expect("delays are small")
    }

    fn next(&mut self) -> Option<Event> {
        let Reverse(next) = self.events.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

struct World {
    agenda: Agenda,
    shell: Shell,
    fleet: Fleet,
    clients: Clients,
    oracle: Oracle,
    quiet_from: i64,
    options: Options,
    /// Faults are so much more frequent than one in three seconds.
    haste: u64,
    seen: Seen,
}

/// Runs one history.
///
/// # Errors
/// The first property that did not hold, with the virtual time; `seed` and `options` reproduce it.
pub fn run(seed: u64, options: Options) -> Result<Seen, String> {
    let start = 1_000_000_000;
    let agenda = Agenda { now: start, random: SplitMix64(seed), sequence: 0, events: BinaryHeap::new() };
    let quiet_from = start + options.faults_ms;
    let site = Site::of(seed, &options);
    let mut world = World {
        agenda,
        shell: Shell::new(&options, seed, quiet_from),
        fleet: Fleet::new(&options, site),
        clients: Clients::new(&options, site.slices),
        oracle: Oracle::new(&LICENSES, options.nodes),
        quiet_from,
        options,
        haste: 1 + u64::from(options.nodes) / 200,
        seen: Seen::default(),
    };
    let outcome = world.begin(options).and_then(|()| world.turn());
    outcome.map_err(|fault| format!("seed {seed}, {} ms: {fault}", world.agenda.now - start))?;
    world.seen.operations = world.shell.operations();
    world.seen.slices = world.fleet.slices_made();
    world.seen.digest = world.oracle.state().digest().0;
    Ok(world.seen)
}

/// Runs one history; an assertion of the core is a fault like any other.
///
/// # Errors
/// As [`run`], or what was asserted.
pub fn judged(seed: u64, options: Options) -> Result<Seen, String> {
    std::panic::catch_unwind(|| run(seed, options)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
        Err(format!("seed {seed}: assertion: {said}"))
    })
}

impl World {
    fn begin(&mut self, options: Options) -> Result<(), String> {
        if let Ends::After(operations) = options.ends {
            self.shell.end_after(operations, &mut self.agenda);
        }
        self.restart()?;
        for place in 0..options.nodes as usize {
            let delay = self.agenda.soon(50);
            self.agenda.after(delay, Event::Dial(place));
            self.fleet.look_soon(place, &mut self.agenda);
        }
        let span = u64::try_from(options.faults_ms).expect("a span is positive");
        for client in 0..options.jobs as usize {
            let delay = self.agenda.soon(span);
            self.agenda.after(delay, Event::Call(client));
        }
        self.agenda.after(500, Event::Fault);
        if options.administrator {
            self.agenda.after(1500, Event::Administer);
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        if let Some(found) = self.shell.open(&mut self.agenda)? {
            self.oracle.reopened(&found.state, &found.unseen)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let give_up = self.quiet_from + 50_000_000;
        let most = EVENTS + EVENTS_EACH * u64::from(self.options.nodes + self.options.jobs);
        let mut events = 0;
        while let Some(event) = self.agenda.next() {
            self.happen(event)?;
            self.shell.planned()?;
            events += 1;
            if events > most {
                return Err(format!("liveness: after {events} events: {}", self.oracle.unfinished()));
            }
            if self.shell.has_ended() {
                self.seen.crashes += 1;
                self.fleet.scheduler_gone(&mut self.agenda);
            }
            let quiet = self.agenda.now > self.quiet_from;
            let over = quiet && self.clients.all_answered() && self.oracle.all_ended();
            let left = self.fleet.left_over().filter(|_| over || self.agenda.now > give_up);
            if over && left.is_none() {
                return Ok(());
            }
            if self.agenda.now > give_up {
                if let Some(left) = left.filter(|_| over) {
                    return Err(format!("slices: every job has ended, and on {left}"));
                }
                return Err(format!("liveness: jobs that never end: {}", self.oracle.unfinished()));
            }
        }
        Err(format!("liveness: nothing is to come, but jobs are left: {}", self.oracle.unfinished()))
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let Self { agenda, shell, fleet, clients, oracle, .. } = self;
        match event {
            Event::Call(client) => clients.call(client, shell.wall_ahead(), agenda),
            Event::CallArrives(client) => shell.take(clients.input(client), agenda),
            Event::AnswerArrives(client, answer) => {
                if clients.answered(client, &answer, agenda, oracle)? {
                    self.seen.acknowledged += 1;
                }
            }
            Event::Synced(incarnation) => {
                if let Some((records, effects)) = shell.synced(incarnation, agenda) {
                    self.seen.batches += 1;
                    oracle.durable(&records)?;
                    let hasty = agenda.now < self.quiet_from && agenda.random.one_in(200);
                    for effect in effects {
                        if hasty && agenda.random.one_in(3) {
                            // Some effects have left, and the others never will.
                            shell.crash(agenda);
                            break;
                        }
                        let wanted = match &effect {
                            Effect::Launch { node, run } => slices::wanted(oracle.state(), *node, *run),
                            _ => Some(Vec::new()),
                        };
                        if let Some(wanted) = wanted {
                            shell.release(effect, wanted, clients, fleet, agenda);
                        }
                    }
                    if agenda.random.one_in(4) {
                        shell.tidy(agenda);
                    }
                }
            }
            Event::Deadline => shell.deadline(agenda),
            Event::Restart => self.restart()?,
            Event::Dial(place) => fleet.dial(place, shell.is_up(), agenda)?,
            Event::Hello(place, session) => {
                if let Some(registration) = fleet.registration(place, session) {
                    shell.register(place, registration, agenda);
                }
            }
            Event::Up(place, session, run, report) => shell.report(place, session, run, report, agenda),
            Event::Down(place, session, effect, wanted) => {
                fleet.command((place, session), &effect, wanted, agenda, oracle)?;
            }
            Event::GoOn(place, life, run) => fleet.go_on(place, life, run, agenda),
            Event::Driver(place, life, gpu) => fleet.driver(place, life, gpu, agenda)?,
            Event::Look(place, life) => fleet.look(place, life, agenda),
            Event::HookEnds(run, incarnation) => shell.hook_ends(run, incarnation, agenda),
            Event::Gone(place, session) => shell.gone(place, session, agenda),
            Event::Begin(place, boot, run) => {
                if fleet.begin(place, boot, run, agenda, oracle)? {
                    self.seen.runs += 1;
                }
            }
            Event::End(place, boot, run) => fleet.end(place, boot, run, agenda, oracle),
            Event::Fault => self.fault()?,
            Event::Administer => self.administer(),
        }
        Ok(())
    }

    fn administer(&mut self) {
        let Self { agenda, shell, fleet, seen, quiet_from, .. } = self;
        if agenda.now <= *quiet_from {
            seen.changes += 1;
            shell.administer(agenda);
            let delay = agenda.soon(8000 / self.haste);
            return agenda.after(delay, Event::Administer);
        }
        if agenda.now < *quiet_from + RESTORES_MS {
            fleet.repair(agenda);
            shell.restore(agenda);
            return agenda.after(10_000, Event::Administer);
        }
        shell.resume_short(agenda);
        shell.cancel_hopeless(agenda);
        agenda.after(CLEANS_MS, Event::Administer);
    }

    fn fault(&mut self) -> Result<(), String> {
        let Self { agenda, shell, fleet, seen, .. } = self;
        if agenda.now > self.quiet_from {
            // A lost spool leaves its node's runs unknown until something proves that they are gone.
            fleet.reboot_doubtful(agenda, &mut self.oracle);
            return Ok(());
        }
        if fleet.has_slices() && agenda.random.one_in(8) {
            fleet.remove_slice(agenda);
        }
        match agenda.random.below(11) {
            0..=2 => shell.crash(agenda),
            3..=5 => fleet.break_session(agenda),
            6 | 7 => {
                seen.node_faults += 1;
                fleet.crash(agenda)?;
            }
            8 => {
                seen.node_faults += 1;
                fleet.reboot(agenda, &mut self.oracle);
            }
            9 => {
                seen.node_faults += 1;
                fleet.lose_spool(agenda)?;
            }
            _ => {
                seen.clock_sets += 1;
                // Up to three hours ahead or behind.
                let to =
                    i64::try_from(agenda.random.below(21_600_000)).expect("hours are small") - 10_800_000;
                shell.set_clock(to, agenda);
            }
        }
        let delay = agenda.soon(3000 / self.haste);
        agenda.after(delay, Event::Fault);
        if agenda.now + delay > self.quiet_from {
            agenda.after(delay + 1, Event::Fault);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_clusters_keep_their_promises() {
        let seeds = crate::seeds(60);
        let mut total = Seen::default();
        for seed in 0..seeds {
            let seen = run(seed, Options::default()).unwrap_or_else(|fault| panic!("{fault}"));
            total.acknowledged += seen.acknowledged;
            total.runs += seen.runs;
            total.crashes += seen.crashes;
            total.node_faults += seen.node_faults;
            total.slices += seen.slices;
            total.clock_sets += seen.clock_sets;
            total.changes += seen.changes;
        }
        println!("{seeds} seeds: {total:?}");
        assert!(
            total.crashes > 0
                && total.node_faults > 0
                && total.slices > 0
                && total.clock_sets > 0
                && total.runs > 0
                && total.changes > 0,
            "nothing was tried"
        );
    }

    /// Where a slice, or an oracle, was once wrong. A change of what is simulated makes other histories of these.
    #[test]
    fn histories_that_once_failed() {
        for seed in [653, 976, 201_347, 300_498, 301_775, 412_183, 416_085, 416_335] {
            run(seed, Options::default()).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_history() {
        let options = Options::default();
        assert_eq!(run(3, options), run(3, options));
    }

    #[test]
    fn the_scheduler_may_end_at_every_operation_of_its_disk() {
        let options = Options { nodes: 2, jobs: 4, faults_ms: 5000, ends: Ends::Never, ..Options::default() };
        for seed in 0..crate::seeds(2) {
            let whole = run(seed, options).unwrap_or_else(|fault| panic!("{fault}"));
            assert!(whole.operations > 20, "few operations: {whole:?}");
            for operations in 0..whole.operations {
                let options = Options { ends: Ends::After(operations), ..options };
                run(seed, options).unwrap_or_else(|fault| panic!("after operation {operations}: {fault}"));
            }
        }
    }

    #[test]
    fn a_thousand_executors_keep_their_promises() {
        let options = Options { nodes: 1000, jobs: 100, faults_ms: 5000, ..Options::default() };
        let seen = run(1, options).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(seen.acknowledged > 50 && seen.runs > 50 && seen.crashes > 0, "little was tried: {seen:?}");
    }
}
