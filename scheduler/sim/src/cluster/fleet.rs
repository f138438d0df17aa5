//! Model executors and the sessions between them and the scheduler.
//!
//! An executor keeps, across crashes, its run table (intent before start, outcomes until acknowledged,
//! tombstones). A reboot ends all processes without an outcome; a lost spool forgets the table while the
//! processes go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use executor_claims::Wanted;
use model::exit::ExitStatus;
use model::id::{BootId, SpoolId, StepId};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;

use scheduler_core::effect::{Effect, RunKey};
use scheduler_core::input::{OutcomeKind, Registration, Report, RunOutcome};
use scheduler_core::state::job::Usage;
use scheduler_core::state::node::{NodeDefinition, Observed};

use super::cards::Cards;
use super::oracle::Oracle;
use super::shell::{Site, node, node_name};
use super::{Agenda, Event, Options};

#[derive(Clone, Debug)]
pub(super) enum Life {
    Intended,
    Begun,
    /// Its slices are still to be given back.
    Ending(RunOutcome),
    Ended(RunOutcome),
    Tombstone,
}

pub(super) struct Executor {
    pub(super) boot: u64,
    spool: u64,
    /// How often it was started.
    pub(super) life: u64,
    pub(super) runs: BTreeMap<RunKey, Life>,
    pub(super) processes: BTreeSet<RunKey>,
    pub(super) session: Option<u64>,
    pub(super) up: bool,
    /// Its GPUs that are cut as jobs need it.
    pub(super) cards: Option<Cards>,
    doubtful: bool,
    last_up: i64,
    last_down: i64,
    size: Size,
}

/// How large a machine is, beside what is declared of it. CPUs and memory go when it is started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Declared,
    FewerCpus,
    LessMemory,
    More,
}

/// All executors.
pub(super) struct Fleet {
    pub(super) executors: Vec<Executor>,
    next_session: u64,
    site: Site,
}

impl Fleet {
    pub(super) fn new(options: &Options, site: Site) -> Self {
        let executor = |place| Executor {
            boot: 1,
            spool: 1,
            life: 1,
            cards: site.cuts(place).then(Cards::new),
            runs: BTreeMap::new(),
            processes: BTreeSet::new(),
            session: None,
            up: true,
            doubtful: false,
            last_up: 0,
            last_down: 0,
            size: Size::Declared,
        };
        let executors = (0..options.nodes as usize).map(executor).collect();
        Self { executors, next_session: 0, site }
    }

    /// Whether some node has GPUs that are cut.
    pub(super) fn has_slices(&self) -> bool {
        self.site.slices
    }

    /// # Errors
    /// What does not hold where an executor starts.
    pub(super) fn dial(
        &mut self,
        place: usize,
        scheduler_up: bool,
        agenda: &mut Agenda,
    ) -> Result<(), String> {
        if !std::mem::replace(&mut self.executors[place].up, true) {
            self.recover(place, agenda)?;
        }
        let executor = &mut self.executors[place];
        if executor.session.is_some() {
            return Ok(());
        }
        if !scheduler_up {
            let delay = agenda.soon(2000);
            agenda.after(delay, Event::Dial(place));
            return Ok(());
        }
        self.next_session += 1;
        executor.session = Some(self.next_session);
        let delay = agenda.soon(20);
        executor.last_up = agenda.now + delay;
        agenda.after(delay, Event::Hello(place, self.next_session));
        self.start_intended(place, agenda);
        Ok(())
    }

    /// A run that was logged and never begun may be begun now.
    fn start_intended(&mut self, place: usize, agenda: &mut Agenda) {
        let executor = &self.executors[place];
        let intended: Vec<RunKey> = executor
            .runs
            .iter()
            .filter(|(_, life)| matches!(life, Life::Intended))
            .map(|(run, _)| *run)
            .collect();
        for run in intended {
            let delay = agenda.soon(30);
            agenda.after(delay, Event::Begin(place, executor.boot, run));
        }
    }

    pub(super) fn registration(&mut self, place: usize, session: u64) -> Option<Registration> {
        let executor = &mut self.executors[place];
        if executor.session != Some(session) {
            return None;
        }
        let gpus = executor.cards.as_mut().map_or_else(Vec::new, Cards::observed);
        let runs = executor.runs.iter().filter_map(|(run, life)| Some((*run, report_of(life)?))).collect();
        let name = node_name(place);
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&executor.boot.to_le_bytes());
        let mut spool = [0; 16];
        spool[..8].copy_from_slice(&executor.spool.to_le_bytes());
        Some(Registration {
            session,
            definition: Arc::new(sized(node(place, self.site), executor.size)),
            name,
            boot: BootId(boot),
            spool: SpoolId(spool),
            runs,
            observed: Arc::new(Observed { gpus, ..Observed::default() }),
        })
    }

    /// The scheduler refuses a session: the executor tries again later.
    pub(super) fn refused(&mut self, session: u64, agenda: &mut Agenda) {
        for (place, executor) in self.executors.iter_mut().enumerate() {
            if executor.session == Some(session) {
                executor.session = None;
                let delay = agenda.soon(2000);
                agenda.after(delay, Event::Dial(place));
            }
        }
    }

    /// A command leaves for an executor; the order in a session is kept.
    pub(super) fn send(
        &mut self,
        (place, session): (usize, u64),
        effect: Effect,
        wanted: Vec<Wanted>,
        agenda: &mut Agenda,
    ) {
        let executor = &mut self.executors[place];
        let delay = agenda.soon(25);
        executor.last_down = executor.last_down.max(agenda.now + delay);
        agenda.at(executor.last_down, Event::Down(place, session, effect, wanted));
    }

    pub(super) fn say(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        let delay = agenda.soon(25);
        let executor = &mut self.executors[place];
        let report = executor.runs.get(&run).and_then(report_of);
        if let (Some(session), Some(report)) = (executor.session, report) {
            executor.last_up = executor.last_up.max(agenda.now + delay);
            agenda.at(executor.last_up, Event::Up(place, session, run, report));
        }
    }

    /// # Errors
    /// What does not hold.
    pub(super) fn command(
        &mut self,
        (place, session): (usize, u64),
        effect: &Effect,
        wanted: Vec<Wanted>,
        agenda: &mut Agenda,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        let executor = &mut self.executors[place];
        if executor.session != Some(session) {
            return Ok(());
        }
        match effect {
            Effect::Launch { run, .. } => match executor.runs.get(run) {
                None => {
                    executor.runs.insert(*run, Life::Intended);
                    let (delay, boot) = (agenda.soon(30), executor.boot);
                    if wanted.is_empty() {
                        agenda.after(delay, Event::Begin(place, boot, *run));
                    } else {
                        let cards = executor.cards.as_mut();
                        let cards =
                            cards.ok_or_else(|| format!("slices: n{place} makes none, of {run:?}"))?;
                        cards.launch(*run, wanted)?;
                        agenda.after(delay, Event::GoOn(place, executor.life, *run));
                    }
                }
                Some(Life::Tombstone) => {
                    executor.runs.insert(*run, Life::Ended(outcome(OutcomeKind::Cancelled, 15, agenda.now)));
                    self.say(place, *run, agenda);
                }
                Some(Life::Intended | Life::Begun | Life::Ending(_) | Life::Ended(_)) => {
                    self.say(place, *run, agenda);
                }
            },
            Effect::Terminate { run, .. } => match executor.runs.get(run) {
                None => {
                    executor.runs.insert(*run, Life::Tombstone);
                }
                Some(Life::Intended) => {
                    self.finish(place, *run, outcome(OutcomeKind::Cancelled, 15, agenda.now), agenda);
                }
                Some(Life::Begun) => {
                    let (delay, boot) = (agenda.soon(200), executor.boot);
                    agenda.after(delay, Event::End(place, boot, *run));
                }
                Some(Life::Ended(_)) => self.say(place, *run, agenda),
                Some(Life::Tombstone | Life::Ending(_)) => {}
            },
            Effect::Acknowledge { run, .. } => {
                if matches!(executor.runs.get(run), Some(Life::Ended(_))) {
                    executor.runs.remove(run);
                    oracle.collected(place, *run);
                }
            }
            Effect::Signal { .. }
            | Effect::Suspend { .. }
            | Effect::ChangeLimit { .. }
            | Effect::Announce { .. }
            | Effect::Hook { .. }
            | Effect::Answer(..)
            | Effect::Session { .. } => {}
        }
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        place: usize,
        boot: u64,
        run: RunKey,
        agenda: &mut Agenda,
        oracle: &mut Oracle,
    ) -> Result<bool, String> {
        let executor = &mut self.executors[place];
        let ready = executor.up && executor.boot == boot;
        if !ready || !matches!(executor.runs.get(&run), Some(Life::Intended)) {
            return Ok(false);
        }
        if let Some(cards) = &mut executor.cards {
            if !cards.is_ready(run) {
                return Ok(false);
            }
            cards.begin(run)?;
        }
        executor.runs.insert(run, Life::Begun);
        executor.processes.insert(run);
        oracle.began(place, run)?;
        // The step that only holds a place ends when it is told to.
        if run.step != StepId::Extern {
            let delay = agenda.soon(if run.step.is_work() { 20_000 } else { 2000 });
            agenda.after(delay, Event::End(place, boot, run));
        }
        self.say(place, run, agenda);
        Ok(true)
    }

    pub(super) fn end(
        &mut self,
        place: usize,
        boot: u64,
        run: RunKey,
        agenda: &mut Agenda,
        oracle: &mut Oracle,
    ) {
        let executor = &mut self.executors[place];
        if executor.boot != boot || !executor.processes.remove(&run) {
            return;
        }
        oracle.process_ended(place, run);
        if let Some(cards) = &mut executor.cards {
            cards.process_ended(run);
        }
        if let Some(Life::Begun) = executor.runs.get(&run) {
            // Nobody is here to bring back a node that a failed epilog drained.
            let code = u8::from(agenda.random.one_in(5) && run.step.is_work());
            let exit = ExitStatus { code, signal: 0 };
            let ended = RunOutcome { exit, ..outcome(OutcomeKind::Exited, 0, agenda.now) };
            self.finish(place, run, ended, agenda);
        }
    }

    pub(super) fn hang_up(&mut self, place: usize, redial: u64, agenda: &mut Agenda) {
        let executor = &mut self.executors[place];
        if let Some(session) = executor.session.take() {
            let noticed = agenda.soon(3000);
            agenda.after(noticed, Event::Gone(place, session));
        }
        let delay = agenda.soon(redial);
        agenda.after(delay, Event::Dial(place));
    }

    pub(super) fn any(&self, agenda: &mut Agenda) -> usize {
        usize::try_from(agenda.random.below(self.executors.len() as u64)).expect("places are few")
    }

    pub(super) fn scheduler_gone(&mut self, agenda: &mut Agenda) {
        for place in 0..self.executors.len() {
            if self.executors[place].session.is_some() {
                self.hang_up(place, 5000, agenda);
            }
        }
    }

    pub(super) fn break_session(&mut self, agenda: &mut Agenda) {
        let place = self.any(agenda);
        self.hang_up(place, 6000, agenda);
    }

    /// The executor dies and comes back; its processes and its table stay. Meanwhile the machine may have become another
    /// one: memory that fails is taken away while it runs.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn crash(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        let place = self.any(agenda);
        if self.site.shared && agenda.random.one_in(4) {
            let sizes = [Size::Declared, Size::LessMemory];
            self.executors[place].size = agenda.random.pick(&sizes).expect("some sizes");
        }
        self.die(place, agenda)?;
        self.hang_up(place, 8000, agenda);
        Ok(())
    }

    fn die(&mut self, place: usize, agenda: &mut Agenda) -> Result<(), String> {
        let executor = &mut self.executors[place];
        executor.up = false;
        executor.life += 1;
        executor.cards.as_mut().map_or(Ok(()), |cards| cards.crash(&mut agenda.random))
    }

    /// The node dies and comes back.
    pub(super) fn reboot(&mut self, agenda: &mut Agenda, oracle: &mut Oracle) {
        let place = self.any(agenda);
        self.reboot_node(place, self.site.shared, agenda, oracle);
    }

    /// `sizes`: it may come back as another one.
    fn reboot_node(&mut self, place: usize, sizes: bool, agenda: &mut Agenda, oracle: &mut Oracle) {
        let executor = &mut self.executors[place];
        executor.boot += 1;
        executor.life += 1;
        executor.up = false;
        if let Some(cards) = &mut executor.cards {
            cards.boot();
        }
        executor.doubtful = false;
        executor.size = Size::Declared;
        if sizes {
            let sizes = [Size::Declared, Size::Declared, Size::FewerCpus, Size::LessMemory, Size::More];
            executor.size = agenda.random.pick(&sizes).expect("some sizes");
        }
        let gone: Vec<RunKey> = std::mem::take(&mut executor.processes).into_iter().collect();
        executor.runs.retain(|_, life| matches!(life, Life::Ended(_) | Life::Tombstone));
        for run in gone {
            oracle.process_ended(place, run);
        }
        self.hang_up(place, 10_000, agenda);
    }

    /// The executor's folder is lost; its processes go on.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn lose_spool(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        let place = self.any(agenda);
        self.die(place, agenda)?;
        let executor = &mut self.executors[place];
        executor.spool += 1;
        executor.runs.clear();
        if let Some(cards) = &mut executor.cards {
            cards.lose_book();
        }
        executor.doubtful = true;
        self.hang_up(place, 5000, agenda);
        Ok(())
    }

    pub(super) fn reboot_doubtful(&mut self, agenda: &mut Agenda, oracle: &mut Oracle) {
        for place in 0..self.executors.len() {
            if self.executors[place].doubtful {
                self.reboot_node(place, false, agenda, oracle);
            }
        }
    }

    /// Every machine is again as it is declared; one that was not says so in a new session.
    pub(super) fn repair(&mut self, agenda: &mut Agenda) {
        for place in 0..self.executors.len() {
            if std::mem::replace(&mut self.executors[place].size, Size::Declared) != Size::Declared {
                self.hang_up(place, 2000, agenda);
            }
        }
    }
}

fn sized(definition: NodeDefinition, size: Size) -> NodeDefinition {
    let (cpus, memory) = (definition.cpus.0, definition.memory.0);
    let of = |cpus: u32, memory: u64| NodeDefinition {
        cpus: Cpus(cpus),
        cores_per_socket: cpus,
        memory: MemoryMib(memory),
        ..definition.clone()
    };
    match size {
        Size::Declared => definition,
        Size::FewerCpus => of(cpus / 2, memory),
        Size::LessMemory => of(cpus, memory / 2),
        Size::More => of(cpus * 2, memory * 2),
    }
}

fn report_of(life: &Life) -> Option<Report> {
    match life {
        Life::Intended | Life::Ending(_) => Some(Report::Intended),
        Life::Begun => Some(Report::Begun { at: Timestamp(0) }),
        Life::Ended(outcome) => Some(Report::Ended(Box::new(outcome.clone()))),
        Life::Tombstone => None,
    }
}

pub(super) fn outcome(kind: OutcomeKind, signal: u8, now: i64) -> RunOutcome {
    RunOutcome {
        kind,
        exit: ExitStatus { code: 0, signal },
        ended: Timestamp(now),
        detail: "".into(),
        usage: Usage::default(),
        held: "".into(),
        stop_requested: kind == OutcomeKind::Cancelled,
    }
}
