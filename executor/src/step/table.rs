//! All runs of this node, and what is told of them. Pure.

use std::collections::BTreeMap;

use executor_supervisor::account::{Account, Figure};
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use proto::v1;

use crate::key::Key;
use crate::record::{Mark, Record};
use crate::step::lifecycle::{self, Action, Event, State};

/// The runs, by job, step and run number.
#[derive(Debug, Default)]
pub struct Table {
    runs: BTreeMap<Key, State>,
}

impl Table {
    /// From what was found at the start.
    #[must_use]
    pub fn new(runs: BTreeMap<Key, State>) -> Self {
        Self { runs }
    }

    /// Applies an event; what the shell must do.
    pub fn happen(&mut self, key: Key, event: Event, now_ms: i64) -> Vec<Action> {
        let (state, actions) = lifecycle::next(self.runs.remove(&key), event, now_ms);
        if let Some(state) = state {
            self.runs.insert(key, state);
        }
        actions
    }

    /// How many runs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the run was handed to a supervisor whose mark nobody has seen yet.
    #[must_use]
    pub fn is_unmarked(&self, key: Key) -> bool {
        matches!(self.runs.get(&key), Some(State::Running { marked: false, .. }))
    }

    /// Whether the run is here in any state.
    #[must_use]
    pub fn is_known(&self, key: Key) -> bool {
        self.runs.contains_key(&key)
    }

    /// Whether a later run of the same step is here.
    #[must_use]
    pub fn is_stale(&self, key: Key) -> bool {
        let later = Key { run: u32::MAX, ..key };
        self.runs.range(key..=later).any(|(known, _)| known.run > key.run)
    }

    /// Whether no other run of the same job is here.
    #[must_use]
    pub fn is_last(&self, key: Key) -> bool {
        !self.runs.keys().any(|other| other.job_id == key.job_id && *other != key)
    }

    /// Every run, for a registration.
    #[must_use]
    pub fn entries(&self) -> Vec<v1::RunEntry> {
        self.runs
            .iter()
            .map(|(key, state)| {
                let v1::RunReport { key, stage, outcome, begun_ms, .. } = report_of(*key, state);
                v1::RunEntry { key, stage, outcome, begun_ms }
            })
            .collect()
    }

    /// What is told of a run.
    #[must_use]
    pub fn report(&self, key: Key) -> Option<v1::RunReport> {
        self.runs.get(&key).map(|state| report_of(key, state))
    }

    /// Records that make this table anew.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.runs.iter().map(|(key, state)| {
            let mark = match state {
                State::Intended { .. } | State::Starting { .. } | State::Running { .. } => Mark::Intent,
                State::Ending(outcome) | State::Ended(outcome) => Mark::Ended(outcome.clone()),
                State::Tombstone { .. } => Mark::Tombstone,
            };
            Record::Run(*key, mark)
        })
    }
}

/// A run in this state, as told. An outcome is told only when it is durable.
#[must_use]
pub fn report_of(key: Key, state: &State) -> v1::RunReport {
    let (stage, outcome, begun_ms) = match state {
        // After a crash the first three may turn out never to have begun; that a run has begun is told for good.
        State::Intended { .. }
        | State::Starting { .. }
        | State::Running { marked: false, .. }
        | State::Ending(_) => (v1::RunStage::RunIntended, None, None),
        State::Running { begun_ms, marked: true } => (v1::RunStage::RunBegun, None, Some(*begun_ms)),
        State::Ended(outcome) => {
            (v1::RunStage::RunEnded, Some(outcome_message(outcome)), Some(outcome.begun_ms))
        }
        State::Tombstone { .. } => (v1::RunStage::RunTombstone, None, None),
    };
    v1::RunReport {
        key: Some(key.message()),
        stage: stage.into(),
        outcome,
        begun_ms,
        progress: String::new(),
    }
}

/// An outcome as a message.
#[must_use]
pub fn outcome_message(outcome: &Outcome) -> v1::RunOutcome {
    let kind = match outcome.kind {
        Kind::Exited => v1::OutcomeKind::OutcomeExited,
        Kind::TimeLimit => v1::OutcomeKind::OutcomeTimeLimit,
        Kind::Cancelled => v1::OutcomeKind::OutcomeCancelled,
        Kind::LaunchFailed => v1::OutcomeKind::OutcomeLaunchFailed,
        Kind::Lost => v1::OutcomeKind::OutcomeLost,
        Kind::OutOfMemory => v1::OutcomeKind::OutcomeOutOfMemory,
        Kind::PrologFailed => v1::OutcomeKind::OutcomePrologFailed,
        Kind::NodeUnable => v1::OutcomeKind::OutcomeNodeUnable,
    };
    let status = |exit: &Exit| v1::ExitStatus { code: exit.code, signal: exit.signal };
    v1::RunOutcome {
        kind: kind.into(),
        exit: Some(status(&outcome.exit)),
        begun_ms: outcome.begun_ms,
        ended_ms: outcome.ended_ms,
        detail: outcome.detail.clone(),
        user_us: outcome.user_us,
        system_us: outcome.system_us,
        max_rss_bytes: outcome.max_rss_bytes,
        tasks: outcome.tasks.iter().map(status).collect(),
        stop_requested: outcome.stop_requested,
        figures: figures(&outcome.account),
        held: outcome.account.held.clone(),
    }
}

/// What tasks used; nothing of a run that was over before anybody looked.
fn figures(account: &Account) -> Option<v1::Figures> {
    let figure = |figure: Figure| v1::Figure {
        most: figure.most,
        task: figure.rank,
        total: figure.total,
        node: String::new(),
    };
    let [rss, virtual_memory, read, written, pages] = account.figures().map(figure);
    let least = v1::Figure {
        most: account.cpu_least_us,
        task: account.cpu_least_rank,
        total: 0,
        node: String::new(),
    };
    (account.virtual_memory.most > 0).then_some(v1::Figures {
        rss: Some(rss),
        virtual_memory: Some(virtual_memory),
        read: Some(read),
        written: Some(written),
        pages: Some(pages),
        cpu_least: Some(least),
    })
}

#[cfg(test)]
mod tests {
    use executor_supervisor::outcome::Kind;
    use model::id::StepId;
    use proto::v1::RunStage;

    use super::Table;
    use crate::key::Key;
    use crate::step::lifecycle::{Event, never_begun};

    #[test]
    fn a_later_run_makes_an_earlier_one_stale() {
        let key = |job_id, step, run| Key { job_id, step, run };
        let mut table = Table::default();
        table.happen(key(7, StepId::Batch, 3), Event::Launch, 0);
        assert!(table.is_stale(key(7, StepId::Batch, 2)));
        assert!(!table.is_stale(key(7, StepId::Batch, 3)));
        assert!(!table.is_stale(key(7, StepId::Batch, 4)));
        assert!(!table.is_stale(key(7, StepId::Number(0), 1)));
        assert!(!table.is_stale(key(6, StepId::Batch, 1)));
        assert_eq!(table.entries().len(), 1);
    }

    /// Whoever tells the scheduler that a run has begun must never find out, after a crash, that it has not: the
    /// scheduler would wait for evidence of it for good.
    #[test]
    fn a_run_has_begun_when_its_mark_was_seen_and_not_before() {
        let key = Key { job_id: 7, step: StepId::Batch, run: 1 };
        let told = |events: &[Event]| {
            let mut table = Table::default();
            for event in events {
                table.happen(key, event.clone(), 0);
            }
            table.report(key).expect("it is known").stage()
        };
        let handed = [Event::Launch, Event::IntentDurable, Event::Started { begun_ms: 3 }];
        assert_eq!(told(&handed), RunStage::RunIntended);
        let with = |last: Event| told(&[handed.as_slice(), &[last]].concat());
        assert_eq!(with(Event::Marked), RunStage::RunBegun);
        let outcome = never_begun(Kind::LaunchFailed, "", 5);
        assert_eq!(with(Event::Gone(outcome)), RunStage::RunIntended, "until it is durable");
    }
}
