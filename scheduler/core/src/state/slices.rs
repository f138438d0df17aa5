//! What the queue asks of GPUs that are cut: counts of requests by profile, and the placement rule made of them.
//!
//! Owns the mix, learned from arrivals alone (placed or not). The counts are facts with a record of their own; the
//! rule follows from the mix as it was when it was last read, so that every reader of the same state places alike.

use std::sync::{Arc, OnceLock};

use crate::gpu::mix::{Mix, Observed};
use crate::gpu::policy::{Policy, Rule};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    /// What was asked for so far.
    pub asked: Observed,
    /// The weights by which starts are chosen: those of `asked` when it was last worth reading; zeros: nothing was
    /// asked for yet.
    pub told: [u32; 6],
    /// Derived from `told` when somebody first places by it: a state that is only read, or on its way through a recovery,
    /// needs none.
    rule: OnceLock<Option<Arc<Rule>>>,
}

impl Slices {
    /// The rule by which starts are chosen; `None`: nobody asked for a slice yet. Cost: about a millisecond after the
    /// weights became others.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        self.shared_rule().map(|rule| &**rule)
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_rule(&self) -> Option<&Arc<Rule>> {
        let made = || Mix::new(self.told).map(|mix| Arc::new(Rule::new(Policy::DemandObserved, &mix)));
        self.rule.get_or_init(made).as_ref()
    }

    /// Takes a record's facts.
    pub(crate) fn set(&mut self, asked: Observed, told: [u32; 6]) {
        self.asked = asked;
        if self.told != told {
            self.told = told;
            self.rule = OnceLock::new();
        }
    }
}
