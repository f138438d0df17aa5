//! The jobs behind the protected ones: tested for starting now, in the order of candidates.
//!
//! Nothing is walked: what became free since the last tests is held against families of requests, what of
//! them could use it against their classes, and only entries of classes that pass are tested. Invariant,
//! which the tests of every pass keep: no entry of a class that has not been touched can start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use model::reason::Reason;

use super::cluster::Touched;
use super::family::{Candidate, Families, Member};
use super::ledger::{Changes, Entry, Ledger};
use super::policy::OrderKey;
use super::profile::Amount;
use super::walk::{Outcome, Walk};
use super::zone::might_use;

/// More entries than these are not tested again for what they are told alone.
const FEW: usize = 128;

impl Ledger {
    /// Tests what could start now.
    pub(super) fn rest(&mut self, walk: &mut Walk<'_>, changes: &Changes) {
        self.cluster.sort_touched();
        let since = std::mem::take(&mut self.cluster.since);
        if self.candidates.is_empty() {
            let touched = std::mem::take(&mut self.cluster.touched);
            self.warm(walk, &touched);
            self.cluster.touched = touched;
        } else {
            // The tests of a slice before go on: only what became free since is new to the classes that are through with
            // theirs. All that was touched would warm them again in each slice, and those after them had no turn.
            self.go_back(&since);
            self.warm(walk, &since);
            if self.cluster.touched.is_all() {
                // Which nodes these are is not known any more: all of them are tried.
                for Reverse((_, class)) in &self.candidates {
                    self.shapes.families.members[*class as usize].full = true;
                }
            }
        }
        self.cluster.since = since;
        self.cluster.since.clear();
        self.put_off(changes, !walk.out.plan.starts.is_empty());
        let mut last = None;
        while let Some(Reverse((candidate, class))) = self.candidates.pop() {
            // Whoever is both the next of its class and one that limits held back is there twice, and once is enough: else
            // there would be more of each that follows.
            if last.replace((candidate, class)) == Some((candidate, class)) {
                continue;
            }
            let key = candidate.1;
            let Some(entry) = self.queue.get(&key).copied() else {
                self.next(walk, class, Some(&candidate), None);
                continue;
            };
            if walk.budget == 0 {
                self.candidates.push(Reverse((candidate, class)));
                break;
            }
            let behind = walk.zone_end.is_none_or(|end| key > end);
            let waits = self.shapes.families.members[class as usize].waiting.contains(&candidate);
            if !behind || !waits {
                self.next(walk, class, Some(&candidate), None);
                continue;
            }
            walk.out.counts.tested += 1;
            let outcome = self.test(walk, key, &entry);
            walk.say(key, outcome);
            match outcome {
                Outcome::Started => {
                    self.leave(key, &entry);
                    self.next(walk, class, Some(&candidate), None);
                }
                Outcome::Kept(_) => {
                    self.held_back.insert(key);
                    self.next(walk, class, Some(&candidate), None);
                }
                Outcome::Waits => {
                    self.held_back.remove(&key);
                    // Another user's job may be let onto a node that is kept from this one.
                    let span = self.span(&entry, class);
                    let failed = (!walk.board.has_owners()).then_some(span);
                    self.next(walk, class, Some(&candidate), failed);
                }
            }
        }
        if self.candidates.is_empty() {
            self.cluster.touched.clear();
        }
    }

    /// What became free since the slice before is for the first of a class that could use it, not for the one at which
    /// that slice stopped.
    fn go_back(&mut self, since: &Touched) {
        if !since.is_empty() {
            let mut candidates = std::mem::take(&mut self.candidates).into_vec();
            for Reverse((candidate, class)) in &mut candidates {
                let first = self.shapes.families.members[*class as usize].waiting.front();
                if let Some(first) = first.filter(|first| *first < candidate)
                    && might_use(self, since, *class)
                {
                    *candidate = *first;
                }
            }
            candidates.sort_unstable();
            candidates.dedup();
            self.candidates = candidates.into();
        }
    }

    /// What arrived is among the candidates, as far as it is not known that it cannot start; and where something starts,
    /// what may have less room by that than a limit would leave it.
    pub(super) fn put_off(&mut self, changes: &Changes, starts: bool) {
        // What ended may have been what held a job back.
        let freed = changes.full.then_some(&self.held_back);
        let few = self.limited.by_nodes.len() <= FEW;
        let started = few && !changes.full && (starts || !changes.arrived.is_empty());
        let others = started.then_some(&self.limited.by_nodes);
        for key in changes.arrived.iter().chain(freed.into_iter().chain(others).flatten()) {
            let Some(entry) = self.queue.get(key).copied() else { continue };
            for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
                if self.shapes.classes[class as usize].hopeless {
                    continue;
                }
                let span = self.span(&entry, class);
                let member = &mut self.shapes.families.members[class as usize];
                if self.owners > 0
                    || entry.bound
                    || entry.array
                    || member.tested.is_none_or(|tested| span < tested)
                {
                    // It may come before the entry of its class that is next.
                    member.full = true;
                    member.hot = true;
                    self.candidates.push(Reverse(((entry.rank, *key), class)));
                }
            }
        }
    }

    /// Finds the classes that could use what became free.
    fn warm(&mut self, walk: &Walk<'_>, touched: &Touched) {
        if touched.is_empty() {
            return;
        }
        let Self { shapes, cluster, candidates, .. } = self;
        let Families { members, families: all, active, alone, .. } = &mut shapes.families;
        if touched.is_all() {
            for &(_, number) in &*active {
                let family = &all[number as usize];
                cluster.look(family.list);
                let fits = cluster.most(family.list).covers(&family.least);
                for &class in &family.active {
                    if fits {
                        members[class as usize].full = true;
                        heat(candidates, members, class);
                    } else {
                        members[class as usize].tested = Some(0);
                    }
                }
            }
        } else {
            let nodes = touched.nodes();
            let floor = |node: &u32| *cluster.floor(*node);
            let most = match nodes {
                [one] => floor(one),
                several => several.iter().map(floor).reduce(Amount::greatest).unwrap_or_default(),
            };
            let few = active.partition_point(|(cpus, _)| *cpus <= most.cpus);
            for &(_, number) in &active[..few] {
                let family = &all[number as usize];
                if !most.covers(&family.least) {
                    continue;
                }
                let covers = |node: u32| nodes.len() == 1 || cluster.floor(node).covers(&family.least);
                let fits = |node: &&u32| cluster.is_member(family.list, **node) && covers(**node);
                let until = |node: &u32| cluster.plan(*node).free_until(&family.least, walk.now);
                let Some(longest) = nodes.iter().filter(fits).map(until).max() else { continue };
                for &class in &family.active {
                    let span = members[class as usize].waiting.least();
                    if walk.now.saturating_add(span) <= longest {
                        heat(candidates, members, class);
                    } else if let Some(tested) = &mut members[class as usize].tested {
                        // Of what is shorter than all that wait nothing is known any more.
                        *tested = span.max(*tested);
                    }
                }
            }
        }
        for &class in &*alone {
            members[class as usize].full = true;
            heat(candidates, members, class);
        }
    }

    /// The next candidate of a class. `failed`: what runs so long or longer cannot start. With none left the
    /// class is done.
    fn next(&mut self, walk: &Walk<'_>, class: u32, after: Option<&Candidate>, failed: Option<i64>) {
        let known = self.shapes.classes[class as usize].failed;
        let known = (known.0 == self.pass && !walk.board.has_owners()).then_some(known.1);
        let bound = known.into_iter().chain(failed).min();
        // In the order of the queue the protected ones are passed over at once.
        let zone = walk.zone_end.map(|end| (0, end));
        let waiting = &self.shapes.families.members[class as usize].waiting;
        let next = waiting.next(after.into_iter().chain(&zone).max(), bound).copied();
        if let Some(next) = next {
            self.candidates.push(Reverse((next, class)));
            return;
        }
        let known = self.shapes.classes[class as usize].failed;
        let member = &mut self.shapes.families.members[class as usize];
        member.hot = false;
        member.full = false;
        let failed = known.0 == self.pass && self.owners == 0;
        member.tested = failed.then_some(known.1);
    }

    /// Tests an entry for starting now.
    fn test(&mut self, walk: &mut Walk<'_>, key: OrderKey, entry: &Entry) -> Outcome {
        let mut left = self.elements_left(walk, key, entry);
        if left == 0 {
            return Outcome::Kept(Reason::JobArrayTaskLimit);
        }
        while left > 0 {
            if let Some(reason) = walk.held_back(key, entry) {
                return Outcome::Kept(reason);
            }
            if !self.start_now(walk, key, entry, true, true) {
                self.limited.tested(key, walk.limit);
                return walk.limit.take().map_or(Outcome::Waits, Outcome::Kept);
            }
            left -= 1;
        }
        walk.started(key, entry)
    }
}

/// Puts the first candidate of a class among those that are tested.
fn heat(candidates: &mut BinaryHeap<Reverse<(Candidate, u32)>>, members: &mut [Member], class: u32) {
    let member = &mut members[class as usize];
    if let Some(&first) = member.waiting.front()
        && !std::mem::replace(&mut member.hot, true)
    {
        candidates.push(Reverse((first, class)));
    }
}
