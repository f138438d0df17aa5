//! What an executor does for runs with slices: makes them before the run begins, gives them back before its end is told.
//!
//! ```text
//!  Intended ─make, one driver call after the other─► begins ─► its processes end
//!     │ stopped, or a call fails                                   │
//!     └──────────────────────► Ending ◄────────────────────────────┘
//!                                │ each place: the last user gone: destroy
//!                                └─► Ended, and told
//! ```

use std::collections::btree_map::Entry;

use executor_claims::Wanted;
use model::id::{NodeIdx, StepId};

use scheduler_core::effect::RunKey;
use scheduler_core::input::{OutcomeKind, RunOutcome};
use scheduler_core::planted::{self, Bug};
use scheduler_core::state::State;

use super::cards::{Call, Came, Cards, gpu_of};
use super::fleet::{Fleet, Life, outcome};
use super::{Agenda, Event};

/// How often an executor looks at its GPUs, ms.
const LOOKS_MS: i64 = 10_000;

/// The slices that a launch asks for; `None`: the run is not to be started any more.
pub(super) fn wanted(state: &State, node: NodeIdx, run: RunKey) -> Option<Vec<Wanted>> {
    let job = state.jobs.get(&run.job).filter(|job| job.run == run.run)?;
    let active = job.active()?;
    active.step(run.step)?;
    if matches!(run.step, StepId::Hook(_)) {
        return Some(Vec::new());
    }
    let here = active.allocation.iter().filter(|share| share.node == node).flat_map(|share| &share.gres);
    let slices = here.filter(|gres| gres.is_cut()).flat_map(|gres| &gres.slices);
    let one = |slice: &scheduler_core::allocation::Slice| Wanted {
        gpu: slice.gpu,
        profile: slice.profile.to_string(),
        start: u32::from(slice.start),
    };
    Some(slices.map(one).collect())
}

impl Fleet {
    fn cards(&mut self, place: usize) -> &mut Cards {
        self.executors[place].cards.as_mut().expect("a run with slices is of a node with dynamic GPUs")
    }

    /// An executor looks at its GPUs from now on.
    pub(super) fn look_soon(&self, place: usize, agenda: &mut Agenda) {
        if self.executors[place].cards.is_some() {
            agenda.after(LOOKS_MS, Event::Look(place, self.executors[place].life));
        }
    }

    /// A run goes on: making what it waits for, or giving back what it had.
    pub(super) fn go_on(&mut self, place: usize, life: u64, run: RunKey, agenda: &mut Agenda) {
        let executor = &self.executors[place];
        if executor.life != life || !executor.up {
            return;
        }
        if matches!(executor.runs.get(&run), Some(Life::Intended)) {
            self.make_next(place, run, agenda);
        } else if self.cards(place).leaving.contains_key(&run) {
            self.give_back_next(place, run, agenda);
        }
    }

    fn make_next(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        let (boot, life) = (self.executors[place].boot, self.executors[place].life);
        let cards = self.cards(place);
        for spot in cards.claims.places(run) {
            let gpu = gpu_of(&spot);
            if cards.calls.contains_key(&gpu) {
                let delay = agenda.soon(50);
                return agenda.after(delay, Event::GoOn(place, life, run));
            }
            if let Some(order) = cards.claims.to_make(&spot).expect("the profiles stay") {
                cards.calls.insert(gpu, Call::Create { run, order });
                let delay = agenda.soon(2000);
                return agenda.after(delay, Event::Driver(place, life, gpu));
            }
        }
        let delay = agenda.soon(30);
        agenda.after(delay, Event::Begin(place, boot, run));
    }

    fn give_back_next(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        let life = self.executors[place].life;
        let cards = self.cards(place);
        if cards.is_giving_back(run) {
            return;
        }
        while let Some(spot) = cards.leaving.get_mut(&run).and_then(|left| left.front().cloned()) {
            cards.claims.leave(run, &spot);
            let gpu = gpu_of(&spot);
            if cards.calls.contains_key(&gpu) {
                let delay = agenda.soon(50);
                return agenda.after(delay, Event::GoOn(place, life, run));
            }
            cards.leaving.get_mut(&run).and_then(std::collections::VecDeque::pop_front);
            match cards.claims.to_free(&spot).map(|idle| idle.made) {
                None => {}
                Some(None) => cards.freed(&spot),
                Some(Some(made)) => {
                    cards.calls.insert(gpu, Call::Destroy { next: Some(run), place: spot, made });
                    let delay = agenda.soon(1000);
                    return agenda.after(delay, Event::Driver(place, life, gpu));
                }
            }
        }
        cards.forget(run);
        // The scheduler must know of a GPU at fault before it hears that the place is free.
        if !cards.is_told() {
            self.hang_up(place, 500, agenda);
        }
        self.tell_end(place, run, agenda);
    }

    /// The end of a run is durable, and is told.
    fn tell_end(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        if let Some(life) = self.executors[place].runs.get_mut(&run)
            && let Life::Ending(outcome) = life
        {
            *life = Life::Ended(outcome.clone());
            self.say(place, run, agenda);
        }
    }

    /// A run is over: what it had of slices is given back first.
    pub(super) fn finish(&mut self, place: usize, run: RunKey, outcome: RunOutcome, agenda: &mut Agenda) {
        let executor = &mut self.executors[place];
        let Some(cards) = executor.cards.as_mut().filter(|cards| cards.is_user(run)) else {
            executor.runs.insert(run, Life::Ended(outcome));
            return self.say(place, run, agenda);
        };
        let outcome = match cards.doomed.contains(&run) {
            true => RunOutcome { kind: OutcomeKind::Lost, ..outcome },
            false => outcome,
        };
        executor.runs.insert(run, Life::Ending(outcome));
        if !executor.up {
            // The next executor finds what it left.
            return;
        }
        cards.leaving.insert(run, cards.claims.places(run).into());
        if planted::is(Bug::TellEndFirst) {
            self.tell_end(place, run, agenda);
        }
        let life = self.executors[place].life;
        agenda.after(1, Event::GoOn(place, life, run));
    }

    /// A driver call comes to its end.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn driver(
        &mut self,
        place: usize,
        life: u64,
        gpu: u32,
        agenda: &mut Agenda,
    ) -> Result<(), String> {
        if self.executors[place].life != life {
            return Ok(());
        }
        match self.cards(place).done(gpu, &mut agenda.random)? {
            Came::Noting => {
                let delay = agenda.soon(20);
                agenda.after(delay, Event::Driver(place, life, gpu));
            }
            Came::GoesOn(run) => agenda.after(1, Event::GoOn(place, life, run)),
            Came::Failed(run) => {
                if matches!(self.executors[place].runs.get(&run), Some(Life::Intended)) {
                    self.finish(place, run, outcome(OutcomeKind::LaunchFailed, 0, agenda.now), agenda);
                }
            }
            Came::Nothing => {}
        }
        Ok(())
    }

    /// An executor looks at its GPUs: tries again to destroy what nobody uses, ends runs whose instance is gone, and tells
    /// what has changed.
    pub(super) fn look(&mut self, place: usize, life: u64, agenda: &mut Agenda) {
        let executor = &self.executors[place];
        if executor.life != life || !executor.up {
            return;
        }
        let cards = self.cards(place);
        for spot in cards.claims.idle() {
            let gpu = gpu_of(&spot);
            let Some(made) = cards.claims.to_free(&spot).and_then(|idle| idle.made) else { continue };
            if let Entry::Vacant(turn) = cards.calls.entry(gpu) {
                turn.insert(Call::Destroy { next: None, place: spot, made });
                let delay = agenda.soon(1000);
                agenda.after(delay, Event::Driver(place, life, gpu));
            }
        }
        for run in self.cards(place).missing() {
            self.doom(place, run, agenda);
        }
        if !self.cards(place).is_told() && self.executors[place].session.is_some() {
            self.hang_up(place, 500, agenda);
        }
        self.look_soon(place, agenda);
    }

    /// Ends a run that has lost its instance: the node failed it.
    fn doom(&mut self, place: usize, run: RunKey, agenda: &mut Agenda) {
        let boot = self.executors[place].boot;
        match self.executors[place].runs.get(&run) {
            Some(Life::Begun) => {
                self.cards(place).doomed.insert(run);
                let delay = agenda.soon(200);
                agenda.after(delay, Event::End(place, boot, run));
            }
            Some(Life::Intended) => {
                self.finish(place, run, outcome(OutcomeKind::Lost, 9, agenda.now), agenda);
            }
            _ => {}
        }
    }

    /// An executor starts: it takes over what an earlier one claimed.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn recover(&mut self, place: usize, agenda: &mut Agenda) -> Result<(), String> {
        let executor = &mut self.executors[place];
        let Some(cards) = &mut executor.cards else { return Ok(()) };
        // A run that waited for its slices never began: the scheduler launches it again.
        let waits = |run: &RunKey, life: &Life| matches!(life, Life::Intended) && cards.is_user(*run);
        let never: Vec<RunKey> =
            executor.runs.iter().filter(|(run, life)| waits(run, life)).map(|(run, _)| *run).collect();
        never.iter().for_each(|run| drop(executor.runs.remove(run)));
        // Programs of the site use no instance.
        let users = executor.processes.iter().filter(|run| !matches!(run.step, StepId::Hook(_)));
        let lost = cards.recover(executor.boot, &users.copied().collect(), &mut agenda.random)?;
        let ending = executor.runs.iter().filter(|(_, life)| matches!(life, Life::Ending(_)));
        let ending: Vec<RunKey> = ending.map(|(run, _)| *run).collect();
        for run in ending {
            self.tell_end(place, run, agenda);
        }
        for run in lost {
            self.doom(place, run, agenda);
        }
        self.look_soon(place, agenda);
        Ok(())
    }

    /// Somebody removes an instance of some node by hand.
    pub(super) fn remove_slice(&mut self, agenda: &mut Agenda) {
        let place = self.any(agenda);
        if let Some(cards) = &mut self.executors[place].cards {
            cards.remove_one(&mut agenda.random);
        }
    }

    /// How many instances were made so far.
    pub(super) fn slices_made(&self) -> u32 {
        self.executors.iter().filter_map(|executor| executor.cards.as_ref()).map(|cards| cards.made).sum()
    }

    /// Instances, or claims, that are left although every job has ended; `None`: nothing.
    pub(super) fn left_over(&self) -> Option<String> {
        let left = |(place, executor): (usize, &super::fleet::Executor)| {
            Some(format!("n{place}: {}", executor.cards.as_ref()?.left_over()?))
        };
        self.executors.iter().enumerate().find_map(left)
    }
}
