//! The scheduler of a replay begins: at first with nothing, and where it ends within the trace, with its journal.

use std::sync::Arc;

use model::id::{BootId, Epoch, SpoolId};
use scheduler_core::apply::apply_owned;
use scheduler_core::input::{Input, Registration, Report};
use scheduler_core::machine::Machine;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::node::Observed;

use super::{Planning, Replay, Watch};

/// Encoded records, from the first on.
#[derive(Default)]
pub(super) struct Journal(Vec<Vec<u8>>);

impl Journal {
    pub(super) fn add(&mut self, record: &Record) {
        let mut bytes = Vec::new();
        scheduler_codec::encode_record(record, &mut bytes);
        self.0.push(bytes);
    }

    /// The state that follows from it.
    fn replay(&self) -> State {
        let mut state = State::default();
        for bytes in &self.0 {
            let record = scheduler_codec::read_record(bytes).expect("what was written is read");
            apply_owned(&mut state, record.expect("only records were written"));
        }
        state
    }
}

/// A planner that knows nothing yet.
pub(super) fn planner(planning: Planning, verdicts: bool) -> Planner {
    let planner = match planning {
        Planning::Anew => Planner::new(),
        Planning::Following | Planning::Both | Planning::Restarting => Planner::following(),
    };
    if verdicts { planner } else { planner.without_verdicts() }
}

impl<W: Watch> Replay<'_, W> {
    /// A scheduler owns the state, and all executors register with the runs that they have.
    pub(super) fn begin(&mut self) {
        let epoch = Epoch(self.machine.state().epoch.0 + 1);
        self.handle(Input::Owned(epoch));
        self.handle(Input::Configure(Arc::clone(&self.settings)));
        for definition in self.settings.nodes.clone() {
            let node = self.machine.state().node_named(&definition.name);
            let alive = self.ends.iter().map(|end| self.runs[end.0.2 as usize]);
            let here = alive.filter(|(at, _)| Some(*at) == node);
            let runs = here.map(|(_, run)| (run, Report::Begun { at: self.now })).collect();
            self.handle(Input::Registered(Box::new(Registration {
                session: 0,
                name: definition.name.clone(),
                boot: BootId([1; 16]),
                spool: SpoolId([1; 16]),
                runs,
                observed: Arc::new(Observed { gpus: self.gpus.to_vec(), ..Observed::default() }),
                definition: Arc::new(definition),
            })));
        }
    }

    /// The scheduler ends, where a journal is kept, and another begins with that.
    pub(super) fn restart(&mut self) {
        let Some(journal) = &self.journal else { return };
        let state = journal.replay();
        assert_eq!(state.digest(), self.machine.state().digest(), "the journal has all of the state");
        self.machine = Machine::new(state);
        self.planner = planner(self.options.planning, self.watch.wants_verdicts());
        self.begin();
    }
}
