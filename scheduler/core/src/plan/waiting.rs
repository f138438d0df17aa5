//! Entries that wait in one class, in the order in which candidates are tested, each with how long it runs.
//!
//! Owns the question of the tests: which is the first from a place on that is shorter than what is known to
//! fail. A class of jobs that differ in their limits alone may hold thousands; they lie in short blocks, each
//! with the least time in it, so that a block without a short enough entry is passed over in one step.

use super::family::Candidate;

/// The most entries of a block.
const BLOCK: usize = 32;

/// An entry and how long it runs, milliseconds.
type Timed = (Candidate, i64);

#[derive(Debug)]
struct Block {
    /// The least time of its entries.
    least: i64,
    /// In order; empty only where nothing waits at all, and the block stays for the next that does.
    entries: Vec<Timed>,
}

impl Block {
    fn of(entries: Vec<Timed>) -> Self {
        let mut block = Self { least: i64::MAX, entries };
        block.weigh();
        block
    }

    fn weigh(&mut self) {
        self.least = self.entries.iter().map(|(_, span)| *span).min().unwrap_or(i64::MAX);
    }

    /// Whether all of its entries come before a candidate; an empty one has a place for any.
    fn is_before(&self, candidate: &Candidate) -> bool {
        self.entries.last().is_some_and(|(last, _)| last < candidate)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Block>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|block| block.entries.is_empty())
    }

    /// The first candidate.
    pub(super) fn front(&self) -> Option<&Candidate> {
        self.0.first()?.entries.first().map(|(candidate, _)| candidate)
    }

    /// The least time of all; `i64::MAX` if nothing waits. Cost: O(blocks).
    pub(super) fn least(&self) -> i64 {
        self.0.iter().map(|block| block.least).min().unwrap_or(i64::MAX)
    }

    pub(super) fn contains(&self, candidate: &Candidate) -> bool {
        let block = self.0.get(self.block(candidate));
        block.is_some_and(|block| block.entries.binary_search_by_key(candidate, |one| one.0).is_ok())
    }

    /// Place of the block that would hold a candidate.
    fn block(&self, candidate: &Candidate) -> usize {
        self.0.partition_point(|block| block.is_before(candidate))
    }

    /// Takes an entry in, once. Cost: O(1) at the end, else O(log blocks + BLOCK), and O(blocks) for a new block.
    pub(super) fn insert(&mut self, candidate: Candidate, span: i64) {
        let mut place = match self.0.last() {
            None => {
                // Most classes hold one entry: no room for more.
                self.0.reserve_exact(1);
                return self.0.push(Block { least: span, entries: vec![(candidate, span)] });
            }
            Some(block) if block.is_before(&candidate) => self.0.len() - 1,
            Some(_) => self.block(&candidate),
        };
        let Err(mut at) = self.0[place].entries.binary_search_by_key(&candidate, |one| one.0) else { return };
        if self.0[place].entries.len() == BLOCK {
            if at == BLOCK {
                // Nothing comes between, as a rule: full blocks stay full.
                return self.0.insert(place + 1, Block { least: span, entries: vec![(candidate, span)] });
            }
            let behind = self.0[place].entries.split_off(BLOCK / 2);
            self.0[place].weigh();
            self.0.insert(place + 1, Block::of(behind));
            if at > BLOCK / 2 {
                (place, at) = (place + 1, at - BLOCK / 2);
            }
        }
        let block = &mut self.0[place];
        block.entries.insert(at, (candidate, span));
        block.least = block.least.min(span);
    }

    /// Takes an entry away, if it is there. Cost: O(log blocks + BLOCK), and O(blocks) where a block goes.
    pub(super) fn remove(&mut self, candidate: &Candidate) {
        let first = self.front() == Some(candidate);
        let place = if first { 0 } else { self.block(candidate) };
        let several = self.0.len() > 1;
        let Some(block) = self.0.get_mut(place) else { return };
        let Ok(at) = block.entries.binary_search_by_key(candidate, |one| one.0) else { return };
        let (_, span) = block.entries.remove(at);
        if block.entries.is_empty() && several {
            self.0.remove(place);
        } else if span == block.least {
            block.weigh();
        }
    }

    /// The first candidate after `after` (`None`: of all) that runs shorter than `bound` (`None`: however long).
    /// Cost: O(log blocks + blocks that are passed over + BLOCK).
    pub(super) fn next(&self, after: Option<&Candidate>, bound: Option<i64>) -> Option<&Candidate> {
        let place = after.map_or(0, |after| self.block(after));
        let short = |span: i64| bound.is_none_or(|bound| span < bound);
        let suits = |one: &&Timed| short(one.1) && after.is_none_or(|after| one.0 > *after);
        let mut blocks = self.0[place..].iter().filter(|block| short(block.least));
        blocks.find_map(|block| block.entries.iter().find(suits)).map(|(candidate, _)| candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy::{Order, OrderKey};
    use crate::state::QueueKey;
    use model::id::JobId;
    use model::time::Timestamp;

    fn key(number: u64) -> OrderKey {
        let submit = Timestamp(i64::try_from(number).unwrap());
        let queue = QueueKey { tier_rank: 0, priority_rank: 0, submit, job: JobId(number as u32) };
        Order::Fcfs.key(queue, None, 1)
    }

    /// Whatever comes and goes, the answers are those of a plain list.
    #[test]
    fn answers_as_a_list_does() {
        let mut seed = 3_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for round in 0..60 {
            let (mut waiting, mut list) = (Waiting::default(), Vec::<Timed>::new());
            let range = [4, 40, 400][round % 3];
            for step in 0..600_u64 {
                let number = if round % 2 == 0 { step } else { below(range) };
                let candidate = (below(1 + round as u64 % 4), key(number));
                let span = below(50) as i64;
                match below(3) {
                    0 | 1 if list.iter().all(|one| one.0 != candidate) => {
                        waiting.insert(candidate, span);
                        list.push((candidate, span));
                        list.sort_unstable();
                    }
                    _ if !list.is_empty() => {
                        let gone = list.remove(below(list.len() as u64) as usize);
                        waiting.remove(&gone.0);
                        assert!(!waiting.contains(&gone.0));
                    }
                    _ => waiting.remove(&candidate),
                }
                assert_eq!(waiting.front(), list.first().map(|one| &one.0));
                assert_eq!(waiting.is_empty(), list.is_empty());
                let least = list.iter().map(|one| one.1).min().unwrap_or(i64::MAX);
                assert_eq!(waiting.least(), least);
                assert_eq!(waiting.contains(&candidate), list.iter().any(|one| one.0 == candidate));
                let after = (below(4) > 0).then_some(candidate);
                let bound = (below(4) > 0).then_some(below(50) as i64);
                let slow = list.iter().find(|one| {
                    bound.is_none_or(|bound| one.1 < bound) && after.is_none_or(|after| one.0 > after)
                });
                assert_eq!(waiting.next(after.as_ref(), bound), slow.map(|one| &one.0));
            }
        }
    }
}
