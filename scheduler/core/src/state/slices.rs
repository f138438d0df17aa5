//! What the queue asks of GPUs that are cut: counts of requests by profile, and the placement rule made of them.
//!
//! Owns the mix, learned from arrivals alone (placed or not). The counts are facts with a record of their own; the
//! rule follows from the mix as it was when it was last read, so that every reader of the same state places alike.

use std::sync::Arc;

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
    /// Derived from `told`.
    rule: Option<Arc<Rule>>,
}

impl Slices {
    /// The rule by which starts are chosen; `None`: nobody asked for a slice yet.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        self.rule.as_deref()
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_rule(&self) -> Option<&Arc<Rule>> {
        self.rule.as_ref()
    }

    /// Takes a record's facts. Cost: about a millisecond where the weights are others.
    pub(crate) fn set(&mut self, asked: Observed, told: [u32; 6]) {
        self.asked = asked;
        if self.told != told {
            self.told = told;
            self.rule = Mix::new(told).map(|mix| Arc::new(Rule::new(Policy::DemandObserved, &mix)));
        }
    }
}
