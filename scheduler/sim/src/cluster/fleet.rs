//! Model executors and the sessions between them and the scheduler.
//!
//! An executor keeps, across crashes, its run table (intent before start, outcomes until acknowledged,
//! tombstones). A reboot ends all processes without an outcome; a lost spool forgets the table while the
//! processes go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::exit::ExitStatus;
use model::id::{BootId, SpoolId, StepId};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;

use scheduler_core::effect::{Effect, RunKey};
use scheduler_core::input::{OutcomeKind, Registration, Report, RunOutcome};
use scheduler_core::state::job::Usage;
use scheduler_core::state::node::{NodeDefinition, Observed};

use super::oracle::Oracle;
use super::shell::{node, node_name};
use super::{Agenda, Event, Options};

#[derive(Clone, Debug)]
enum Life {
    Intended,
    Begun,
    Ended(RunOutcome),
    Tombstone,
}

struct Executor {
    boot: u64,
    spool: u64,
    runs: BTreeMap<RunKey, Life>,
    processes: BTreeSet<RunKey>,
    session: Option<u64>,
    up: bool,
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
    executors: Vec<Executor>,
    next_session: u64,
    /// Their GPUs may be shared, and machines come back with other sizes.
    shared: bool,
}

impl Fleet {
    pub(super) fn new(options: &Options) -> Self {
        let executor = || Executor {
            boot: 1,
            spool: 1,
            runs: BTreeMap::new(),
            processes: BTreeSet::new(),
            session: None,
            up: true,
            doubtful: false,
            last_up: 0,
            last_down: 0,
            size: Size::Declared,
        };
        let executors = (0..options.nodes).map(|_| executor()).collect();
        Self { executors, next_session: 0, shared: options.administrator }
    }

    pub(super) fn dial(&mut self, place: usize, scheduler_up: bool, agenda: &mut Agenda) {
        let executor = &mut self.executors[place];
        executor.up = true;
        if executor.session.is_some() {
            return;
        }
        if !scheduler_up {
            let delay = agenda.soon(2000);
            return agenda.after(delay, Event::Dial(place));
        }
        self.next_session += 1;
        executor.session = Some(self.next_session);
        let delay = agenda.soon(20);
        executor.last_up = agenda.now + delay;
        agenda.after(delay, Event::Hello(place, self.next_session));
        self.start_intended(place, agenda);
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
        let executor = &self.executors[place];
        if executor.session != Some(session) {
            return None;
        }
        let runs = executor.runs.iter().filter_map(|(run, life)| Some((*run, report_of(life)?))).collect();
        let name = node_name(place);
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&executor.boot.to_le_bytes());
        let mut spool = [0; 16];
        spool[..8].copy_from_slice(&executor.spool.to_le_bytes());
        Some(Registration {
            session,
            definition: Arc::new(sized(node(&name, self.shared), executor.size)),
            name,
            boot: BootId(boot),
            spool: SpoolId(spool),
            runs,
            observed: Arc::new(Observed::default()),
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
    pub(super) fn send(&mut self, place: usize, session: u64, effect: Effect, agenda: &mut Agenda) {
        let executor = &mut self.executors[place];
        let delay = agenda.soon(25);
        executor.last_down = executor.last_down.max(agenda.now + delay);
        agenda.at(executor.last_down, Event::Down(place, session, effect));
    }

    fn say(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        let delay = agenda.soon(25);
        let executor = &mut self.executors[place];
        let report = executor.runs.get(&run).and_then(report_of);
        if let (Some(session), Some(report)) = (executor.session, report) {
            executor.last_up = executor.last_up.max(agenda.now + delay);
            agenda.at(executor.last_up, Event::Up(place, session, run, report));
        }
    }

    pub(super) fn command(
        &mut self,
        place: usize,
        session: u64,
        effect: &Effect,
        agenda: &mut Agenda,
        oracle: &mut Oracle,
    ) {
        let executor = &mut self.executors[place];
        if executor.session != Some(session) {
            return;
        }
        match effect {
            Effect::Launch { run, .. } => match executor.runs.get(run) {
                None => {
                    executor.runs.insert(*run, Life::Intended);
                    let (delay, boot) = (agenda.soon(30), executor.boot);
                    agenda.after(delay, Event::Begin(place, boot, *run));
                }
                Some(Life::Tombstone) => {
                    executor.runs.insert(*run, Life::Ended(outcome(OutcomeKind::Cancelled, 15, agenda.now)));
                    self.say(place, *run, agenda);
                }
                Some(Life::Intended | Life::Begun | Life::Ended(_)) => self.say(place, *run, agenda),
            },
            Effect::Terminate { run, .. } => match executor.runs.get(run) {
                None => {
                    executor.runs.insert(*run, Life::Tombstone);
                }
                Some(Life::Intended) => {
                    executor.runs.insert(*run, Life::Ended(outcome(OutcomeKind::Cancelled, 15, agenda.now)));
                    self.say(place, *run, agenda);
                }
                Some(Life::Begun) => {
                    let (delay, boot) = (agenda.soon(200), executor.boot);
                    agenda.after(delay, Event::End(place, boot, *run));
                }
                Some(Life::Ended(_)) => self.say(place, *run, agenda),
                Some(Life::Tombstone) => {}
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
        if let Some(life @ Life::Begun) = executor.runs.get_mut(&run) {
            // Nobody is here to bring back a node that a failed epilog drained.
            let code = u8::from(agenda.random.one_in(5) && run.step.is_work());
            *life = Life::Ended(RunOutcome {
                exit: ExitStatus { code, signal: 0 },
                ..outcome(OutcomeKind::Exited, 0, agenda.now)
            });
            self.say(place, run, agenda);
        }
    }

    fn hang_up(&mut self, place: usize, redial: u64, agenda: &mut Agenda) {
        let executor = &mut self.executors[place];
        if let Some(session) = executor.session.take() {
            let noticed = agenda.soon(3000);
            agenda.after(noticed, Event::Gone(place, session));
        }
        let delay = agenda.soon(redial);
        agenda.after(delay, Event::Dial(place));
    }

    fn any(&self, agenda: &mut Agenda) -> usize {
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
    pub(super) fn crash(&mut self, agenda: &mut Agenda) {
        let place = self.any(agenda);
        if self.shared && agenda.random.one_in(4) {
            let sizes = [Size::Declared, Size::LessMemory];
            self.executors[place].size = agenda.random.pick(&sizes).expect("some sizes");
        }
        self.executors[place].up = false;
        self.hang_up(place, 8000, agenda);
    }

    /// The node dies and comes back.
    pub(super) fn reboot(&mut self, agenda: &mut Agenda, oracle: &mut Oracle) {
        let place = self.any(agenda);
        self.reboot_node(place, self.shared, agenda, oracle);
    }

    /// `sizes`: it may come back as another one.
    fn reboot_node(&mut self, place: usize, sizes: bool, agenda: &mut Agenda, oracle: &mut Oracle) {
        let executor = &mut self.executors[place];
        executor.boot += 1;
        executor.up = false;
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
    pub(super) fn lose_spool(&mut self, agenda: &mut Agenda) {
        let place = self.any(agenda);
        let executor = &mut self.executors[place];
        executor.spool += 1;
        executor.runs.clear();
        executor.up = false;
        executor.doubtful = true;
        self.hang_up(place, 5000, agenda);
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
        Life::Intended => Some(Report::Intended),
        Life::Begun => Some(Report::Begun { at: Timestamp(0) }),
        Life::Ended(outcome) => Some(Report::Ended(Box::new(outcome.clone()))),
        Life::Tombstone => None,
    }
}

fn outcome(kind: OutcomeKind, signal: u8, now: i64) -> RunOutcome {
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
