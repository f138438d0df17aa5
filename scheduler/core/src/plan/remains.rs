//! What the planner knew before it read everything anew, on its way back to the allocator.
//!
//! Owns nothing that anybody reads. To free what a hundred thousand distinct requests held takes tens of milliseconds,
//! longer than a slice of a pass may: each pass frees a little.

use std::collections::BTreeMap;

use super::ledger::Entry;
use super::policy::OrderKey;
use super::shape::Shapes;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remains(Vec<(Shapes, BTreeMap<OrderKey, Entry>)>);

impl Remains {
    /// Keeps what is not needed any more. Cost: O(1).
    pub(super) fn take(&mut self, shapes: Shapes, queue: BTreeMap<OrderKey, Entry>) {
        self.0.push((shapes, queue));
    }

    /// Frees up to so many pieces of each kind. Cost: O(pieces).
    pub(super) fn lessen(&mut self, pieces: usize) {
        if let Some((shapes, queue)) = self.0.last_mut() {
            let entries = (0..pieces).map_while(|_| queue.pop_first()).count();
            if !shapes.lessen(pieces) && entries < pieces {
                self.0.pop();
            }
        }
    }
}
