//! What the planner knew before it read everything anew, on its way back to the allocator.
//!
//! Owns nothing that anybody reads. To free what a hundred thousand distinct requests held takes tens of milliseconds,
//! longer than a slice of a pass may: each pass frees a little.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Entry;
use super::policy::OrderKey;
use super::shape::Shapes;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remains(Vec<Knowledge>);

/// What was known at one time.
#[derive(Debug)]
struct Knowledge {
    shapes: Shapes,
    queue: BTreeMap<OrderKey, Entry>,
    waiting: Vec<BTreeSet<OrderKey>>,
}

impl Remains {
    /// Keeps what is not needed any more. Cost: O(1).
    pub(super) fn take(
        &mut self,
        shapes: Shapes,
        queue: BTreeMap<OrderKey, Entry>,
        waiting: Vec<BTreeSet<OrderKey>>,
    ) {
        self.0.push(Knowledge { shapes, queue, waiting });
    }

    /// Frees up to so many pieces of each kind. Cost: O(pieces).
    pub(super) fn lessen(&mut self, pieces: usize) {
        let Some(Knowledge { shapes, queue, waiting }) = self.0.last_mut() else { return };
        let mut freed = (0..pieces).map_while(|_| queue.pop_first()).count();
        if let Some(of_partition) = waiting.last_mut() {
            freed = freed.max((0..pieces).map_while(|_| of_partition.pop_first()).count());
            if of_partition.is_empty() {
                waiting.pop();
            }
        }
        if !shapes.lessen(pieces) && waiting.is_empty() && freed < pieces {
            self.0.pop();
        }
    }
}
