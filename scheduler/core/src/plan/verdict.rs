//! What a pass says of waiting jobs: Slurm's reason and the planned start.
//!
//! The first job of each partition that waits for resources is told so, those behind it that others come
//! first. Owns which jobs those are; a pass says anew only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::id::JobId;
use model::reason::Reason;
use model::time::Timestamp;

use super::ledger::{Changes, Entry, Ledger, Promise};
use super::policy::OrderKey;
use super::walk::{Outcome, Walk};
use super::{Planned, Verdict, eligible, news};

/// To say something of so many jobs costs what reading one does.
const TOLD: u32 = 4;

impl Ledger {
    /// Adds the verdicts of a pass: on all jobs where everything was read anew, a part in each slice; else on those of
    /// which something else is to be said than before.
    pub(super) fn give_verdicts(&mut self, walk: &mut Walk<'_>, changes: &Changes) {
        let mut said = std::mem::take(&mut walk.said);
        let formerly = std::mem::take(&mut self.formerly);
        let promised = walk.changes.iter().filter_map(|change| self.key_of(change.job));
        let arrived = changes.arrived.iter().copied();
        if changes.anew {
            // In order, so that the first of each partition is met soon.
            self.telling = Some(Bound::Unbounded);
        } else {
            for key in promised.chain(arrived).chain(formerly.keys().copied()) {
                if self.queue.contains_key(&key) && !self.proposed.contains_key(&key.job) {
                    said.entry(key).or_insert(Outcome::Waits);
                }
            }
        }
        if changes.full {
            // What held them back may be gone. Of an array the elements that run may be what does.
            for &key in &self.held_back {
                let waits = self.queue.get(&key).is_some_and(|entry| !entry.array);
                if waits && !self.proposed.contains_key(&key.job) {
                    said.entry(key).or_insert(Outcome::Waits);
                }
            }
        }
        if walk.depth == 0 {
            // Who was not tested stands behind one that waits, whatever its nodes would break.
            self.limited
                .by_nodes
                .retain(|key| said.contains_key(key) || said.insert(*key, Outcome::Waits).is_some());
        }
        let left = self.tell(walk, &mut said);
        self.ask_limits(walk, &mut said, left);
        for (key, outcome) in &mut said {
            let Some(entry) = self.queue.get(key).copied() else { continue };
            let own = matches!(outcome, Outcome::Started | Outcome::Kept(Reason::JobArrayTaskLimit));
            if entry.bound && !own {
                // As things are at the end of the pass, whenever it was looked at.
                let limit = walk.held_back(*key, &entry);
                *outcome = limit.map_or(*outcome, Outcome::Kept);
                self.limited.blame(key, limit);
            }
            for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
                let class = &self.shapes.classes[class as usize];
                let waiting = &mut self.waiting_in[class.partition.0 as usize];
                if *outcome == Outcome::Waits && !class.hopeless {
                    waiting.insert(*key);
                } else {
                    waiting.remove(key);
                }
            }
        }
        let mut news: BTreeSet<OrderKey> = said.keys().copied().collect();
        for (first, waiting) in self.first_in.iter_mut().zip(&self.waiting_in) {
            let now_first = waiting.first().copied();
            if *first != now_first {
                news.extend(first.iter().chain(&now_first));
                *first = now_first;
            }
        }
        for key in news {
            let Some(entry) = self.queue.get(&key) else { continue };
            let reason = match said.get(&key) {
                Some(Outcome::Started) => continue,
                Some(Outcome::Kept(reason)) => {
                    // It is looked at again when that may be gone.
                    self.held_back.insert(key);
                    *reason
                }
                None if entry.array && self.held_back.contains(&key) => continue,
                known => {
                    let limit = if known.is_none() { walk.held_back(key, entry) } else { None };
                    if limit.is_some() {
                        // It is looked at again when that may be gone.
                        self.held_back.insert(key);
                    } else if self.zone_end.is_some_and(|end| key <= end) {
                        self.held_back.remove(&key);
                    }
                    limit.unwrap_or_else(|| self.reason(key, entry))
                }
            };
            let planned = self.planned_of(walk, key);
            walk.out.verdicts.push(Verdict { job: key.job, reason, planned });
        }
        let idle: Vec<JobId> = if changes.anew { self.idle().collect() } else { changes.idle.clone() };
        walk.say_idle(&idle);
    }

    /// After everything was read anew: the next of all that wait, as many as a slice may say something of.
    /// Answers of how many more a slice may say something.
    fn tell(&mut self, walk: &Walk<'_>, said: &mut BTreeMap<OrderKey, Outcome>) -> u32 {
        let mut left = news::read_within(walk.share.saturating_mul(4)).saturating_mul(TOLD);
        let Some(from) = self.telling.take() else { return left };
        for key in self.queue.range((from, Bound::Unbounded)).map(|(key, _)| *key) {
            if left == 0 {
                break;
            }
            left -= 1;
            if !self.proposed.contains_key(&key.job) {
                said.entry(key).or_insert(Outcome::Waits);
            }
            self.telling = Some(Bound::Excluded(key));
        }
        if left > 0 {
            self.telling = None;
        }
        left
    }

    /// Slurm's reason for an entry that waits for resources.
    fn reason(&self, key: OrderKey, entry: &Entry) -> Reason {
        let mut reason = None;
        let mut behind = false;
        for class in self.shapes.shapes[entry.shape as usize].classes.clone() {
            let class = &self.shapes.classes[class as usize];
            if class.hopeless {
                reason = reason.or(class.forbidden).or(Some(Reason::ReqNodeNotAvail));
                continue;
            }
            if class.demand.reservation.as_deref().is_some_and(|own| self.cluster.is_ahead(own)) {
                reason = reason.or(Some(Reason::Reservation));
                continue;
            }
            if self.cluster.is_kept(&class.demand.required, class.demand.reservation.as_deref()) {
                reason = reason.or(Some(Reason::ReqNodeNotAvail));
                continue;
            }
            behind |= self.first_in[class.partition.0 as usize] != Some(key);
            reason = Some(Reason::Resources);
        }
        match reason {
            Some(Reason::Resources) if behind => Reason::Priority,
            Some(reason) => reason,
            None => Reason::BadConstraints,
        }
    }

    fn planned_of(&self, walk: &Walk<'_>, key: OrderKey) -> Option<Planned> {
        let promise: &Promise = match self.promises.get(&key) {
            Some(list) => list.front()?,
            None => self.planned.get(&key)?,
        };
        let name = |node: u32| &*walk.state.nodes[node as usize].definition.name;
        let names: Vec<&str> = match &*promise.holds {
            // Which nodes of a pool is open until it starts: as many of the first.
            [(_, amount)] if self.cluster.is_pool() => (0..amount.cpus).map(name).collect(),
            holds => holds.iter().map(|(node, _)| name(*node)).collect(),
        };
        let nodes = model::hostlist::compress_sorted(&names).into();
        let partition = self.shapes.classes[promise.class as usize].partition;
        Some(Planned { start: Timestamp(promise.start), nodes, partition })
    }
}

impl Walk<'_> {
    /// Says what of their own holds jobs back.
    fn say_idle(&mut self, jobs: &[JobId]) {
        for id in jobs {
            let Some(job) = self.state.jobs.get(id) else { continue };
            if let Some(reason) = job.pending().and_then(|pending| eligible::own_reason(job, pending)) {
                self.out.verdicts.push(Verdict { job: *id, reason, planned: None });
            }
        }
    }
}
