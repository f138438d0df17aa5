//! The protected jobs: the first of the queue, as many as the depth says, whose planned start no job
//! behind them may delay.
//!
//! Planned anew, all of them get their earliest start at each pass, in the order of the queue. Kept, a
//! promise stands as the state says it, and a pass does only what is left to do, in the order of the queue:
//! * a promise that is due starts;
//! * a job without a promise gets one. Promises behind it are lifted first and laid again after it, so that
//!   a job of higher priority takes their place where it needs it, and only there;
//! * where time was given back, jobs are tested for starting now, and a little later ([`Policy::sweep_after`])
//!   each promise moves as early as can be, one after the other (a sweep).
//!
//! A plan that something unforeseen was taken from is laid anew: promises that do not fit are given up with
//! their cause ([`Ledger::relay`]). All of it follows from the state and the time, so that a planner made
//! anew does the same.
//!
//! [`Policy::sweep_after`]: super::policy::Policy::sweep_after

use std::collections::VecDeque;
use std::ops::Bound;

use model::reason::Reason;
use model::time::Timestamp;

use super::cluster::Touched;
use super::ledger::{Changes, Entry, Ledger, Promise};
use super::policy::OrderKey;
use super::walk::{Outcome, Walk};
use crate::state::job::Job;
use crate::state::promise::Cause;

/// The most elements of one array that have a planned start.
const ELEMENTS_PLANNED: u32 = 1000;

/// Entries of the zone that are collected at a time.
const COLLECTED: usize = 4096;

impl Ledger {
    /// Plans the protected jobs anew, or only those that arrived where the plan still stands.
    pub(super) fn replan_zone(&mut self, walk: &mut Walk<'_>, changes: &Changes) -> bool {
        // What a limit alone kept from starting may have no room behind what arrived, and be protected then.
        let last = self.last_protected.max(self.limited.by_nodes.last().copied());
        let behind = last.is_none_or(|last| changes.arrived.iter().all(|key| *key > last));
        if !changes.full && behind {
            let mut sorted = Vec::new();
            let arrived = match &changes.arrived[..] {
                // The rule, without a list of its own.
                one @ ([] | [_]) => one,
                more => {
                    sorted.extend_from_slice(more);
                    sorted.sort_unstable();
                    sorted.dedup();
                    &sorted
                }
            };
            if self.protected < walk.depth {
                // All that waited is in the zone, but it may end among what arrived.
                self.zone_end = self.last_protected;
            }
            for &key in arrived {
                if self.protected >= walk.depth {
                    break;
                }
                if let Some(entry) = self.queue.get(&key).copied() {
                    self.protect(walk, key, &entry);
                }
            }
            if self.protected < walk.depth {
                self.zone_end = self.queue.keys().next_back().copied();
            }
            walk.zone_end = self.zone_end;
            return true;
        }
        self.cluster.forget_plans();
        self.licenses.copy_base();
        self.last_protected = None;
        self.zone_end = None;
        self.protected = 0;
        self.formerly.append(&mut self.planned);
        let mut collected = std::mem::take(&mut self.collected);
        // One is protected as a rule, after the few that start.
        let mut size = if walk.depth == 1 { 2 } else { COLLECTED };
        while self.protected < walk.depth {
            let from = self.zone_end.map_or(Bound::Unbounded, Bound::Excluded);
            collected.clear();
            let entries = self.queue.range((from, Bound::Unbounded)).map(|(key, entry)| (*key, *entry));
            collected.extend(entries.take(size));
            if collected.is_empty() {
                break;
            }
            for (key, entry) in &collected {
                self.protect(walk, *key, entry);
                if self.protected >= walk.depth {
                    break;
                }
            }
            size = (size * 8).min(COLLECTED);
        }
        self.collected = collected;
        walk.zone_end = self.zone_end;
        true
    }

    /// Starts what can start now of an entry and gives the rest its earliest start.
    fn protect(&mut self, walk: &mut Walk<'_>, key: OrderKey, entry: &Entry) {
        self.zone_end = self.zone_end.max(Some(key));
        let (outcome, left) = self.start_all(walk, key, entry, true);
        walk.say(key, outcome);
        if !outcome.is_planned() || entry.hopeless {
            return;
        }
        for _ in 0..left.min(ELEMENTS_PLANNED).min(walk.depth - self.protected) {
            let Some(promise) = self.earliest(walk, key, entry) else { break };
            self.reserve(&promise, true);
            self.protected += 1;
            self.last_protected = self.last_protected.max(Some(key));
            if walk.verdicts {
                self.planned.entry(key).or_insert(promise);
            }
        }
    }

    /// Whether nothing is to be done with kept promises: nothing was left after the last pass, nothing has happened
    /// since, and nothing falls due. What follows from the passing of time alone stays as it was.
    pub(super) fn rests(&mut self, walk: &mut Walk<'_>, changes: &Changes) -> bool {
        let sweep = walk.given_back.is_some_and(|since| {
            let due = since.saturating_add(self.policy().sweep_after).0 <= walk.now;
            due || !self.cluster.touched_ahead.is_empty()
        });
        let rests = self.settled == Some(walk.depth)
            && !(changes.read
                || changes.full
                || sweep
                || self.cluster.is_overlaid()
                || self.cluster.is_reserved())
            && self.next_due > walk.now;
        if rests {
            walk.zone_end = self.zone_end;
        }
        rests
    }

    /// Does what is left to do of kept promises; `false`: the budget ended before the end of the zone.
    pub(super) fn keep_zone(&mut self, walk: &mut Walk<'_>) -> bool {
        if self.cluster.is_overlaid() {
            self.relay(walk);
        }
        self.drop_of_idle(walk);
        let due = walk
            .given_back
            .is_some_and(|since| since.saturating_add(self.policy().sweep_after).0 <= walk.now);
        if due && self.swept_to.is_none() {
            self.swept_to = Some(OrderKey::FIRST);
            self.worked_off.clear();
            self.owed.clear();
            walk.given_back = None;
            self.cluster.touched_ahead.clear();
        }
        std::mem::swap(&mut self.owed, &mut self.owed_before);
        self.owed.clear();
        let mut zone = Zone {
            sweeping: self.swept_to,
            testing: false,
            held: 0,
            lifted: false,
            end: None,
            through: false,
            todo: std::mem::take(&mut self.todo),
        };
        let whole = loop {
            let first = zone.end.is_none();
            zone.testing |= walk.given_back.is_some() && !self.cluster.touched_ahead.is_empty();
            self.collect(walk, &mut zone);
            if first {
                // What these tests and what follows them set free is for the next ones.
                self.cluster.since_ahead.clear();
                if zone.testing {
                    self.cluster.touched_ahead.clear();
                }
            }
            if zone.todo.is_empty() {
                break true;
            }
            if !self.work_off(walk, &mut zone) {
                // Who lost its turn by that has it in a later slice, like those that no slice looked at yet.
                let owed = &self.owed;
                self.worked_off.retain(|key| !owed.contains(key));
                break false;
            }
            // All that was lifted is laid again.
            zone.lifted = false;
            let through = self.promises.range(..=zone.end.expect("entries were collected"));
            zone.held = through.map(|(_, list)| elements(list)).sum();
            if zone.through || zone.held >= walk.depth {
                break true;
            }
        };
        if whole {
            self.swept_to = None;
            self.worked_off.clear();
            self.owed.clear();
            for (job, cause) in std::mem::take(&mut self.displaced) {
                // As many as are protected are ahead of it.
                if let Some(key) = self.key_of(job) {
                    self.promise(walk, key, VecDeque::new(), cause);
                }
            }
            self.trim(walk);
        }
        zone.todo.clear();
        self.todo = zone.todo;
        walk.zone_end = zone.end;
        self.zone_end = zone.end;
        self.settled = whole.then_some(walk.depth);
        self.protected = self.promises.values().map(elements).sum();
        whole
    }

    /// Collects what is to be done from where the zone ends so far, up to the depth.
    fn collect(&mut self, walk: &Walk<'_>, zone: &mut Zone) {
        let mut owed = std::mem::take(&mut self.owed);
        zone.todo.clear();
        let first = zone.end.is_none();
        let from = zone.end.map_or(Bound::Unbounded, Bound::Excluded);
        zone.through = true;
        let mut promised = self.promises.range((from, Bound::Unbounded)).peekable();
        for (key, entry) in self.queue.range((from, Bound::Unbounded)) {
            if zone.held >= walk.depth {
                zone.through = false;
                break;
            }
            zone.end = Some(*key);
            let room = walk.depth - zone.held;
            if promised.peek().is_none_or(|(other, _)| *other != key) {
                let started = !entry.array && self.proposed.contains_key(&key.job);
                let looked_at = self.worked_off.contains(key);
                // No start was found for it then; what became free since is for it before it is for those behind.
                let freed = || first && might_start(self, &self.cluster.since_ahead, entry);
                if !entry.hopeless && !started && (!looked_at || freed()) {
                    if looked_at {
                        owed.insert(*key);
                    }
                    zone.held += 1;
                    zone.todo.push((*key, room));
                }
                continue;
            }
            let (_, list) = promised.next().expect("it was peeked");
            zone.held += elements(list);
            let due = list.front().is_some_and(|first| first.start <= walk.now);
            let sweep = zone.sweeping.is_some_and(|to| *key > to);
            let other = entry.array && {
                let want = self.elements_left(walk, *key, entry).min(ELEMENTS_PLANNED).min(room);
                want != elements(list)
            };
            // What became free since the last slice is for those first that came before it, each once.
            let freed = self.owed_before.contains(key)
                || zone.testing && might_start(self, &self.cluster.touched_ahead, entry);
            if freed {
                owed.insert(*key);
            }
            let wanted = due || sweep || other || freed;
            if (freed && first) || (wanted && !self.worked_off.contains(key)) {
                zone.todo.push((*key, room));
            }
        }
        self.owed = owed;
    }

    /// Does what was collected, in order; `false`: the budget ended before.
    fn work_off(&mut self, walk: &mut Walk<'_>, zone: &mut Zone) -> bool {
        let mut place = 0;
        let mut whole = true;
        let mut granted = false;
        let mut after = None;
        while let Some((key, room)) = self.next_to_do(walk, zone, &mut place, after) {
            after = Some(key);
            let Some(entry) = self.queue.get(&key).copied() else { continue };
            // The place in the map stays until it is known whether there is a promise again.
            let mut list = self.promises.get_mut(&key).map(std::mem::take);
            if zone.lifted
                && let Some(promises) = list.take()
            {
                list = self.lay_again(walk, key, promises);
            }
            let again = self.worked_off.contains(&key);
            if whole && !again && !std::mem::replace(&mut granted, true) {
                walk.budget = walk.budget.max(walk.share);
            }
            // Who is looked at again has its turn in this slice, whatever that costs, and the slice gets on behind it.
            if walk.budget == 0 && !(again && whole) {
                if std::mem::replace(&mut whole, false) {
                    self.owed.drop_before(&key);
                }
                self.put_back(key, list);
                if !zone.lifted {
                    return false;
                }
                // What was lifted is laid again in any case; who lost a place by that comes in the next slice.
                if self.displaced.contains_key(&key.job) {
                    self.worked_off.remove(&key);
                }
                continue;
            }
            match list {
                Some(list) => self.kept(walk, zone, key, &entry, (list, room)),
                None => self.newcomer(walk, zone, (key, place), &entry, room),
            }
            self.put_back(key, None);
            self.worked_off.insert(key);
            if whole && self.swept_to.is_some() {
                self.swept_to = self.swept_to.max(Some(key));
            }
        }
        whole
    }

    /// What is to be done next: the next that was collected, or before it a promise that could use what those before set
    /// free, by moving or by starting elsewhere.
    fn next_to_do(
        &self,
        walk: &Walk<'_>,
        zone: &mut Zone,
        place: &mut usize,
        after: Option<OrderKey>,
    ) -> Option<(OrderKey, u32)> {
        let next = zone.todo.get(*place).copied();
        // Else all behind are to be looked at anyway.
        let some = walk.given_back.is_some() && zone.sweeping.is_none() && !zone.lifted;
        let touched = &self.cluster.touched_ahead;
        if some
            && !touched.is_empty()
            && let Some(after) = after
        {
            let until = next
                .map_or(zone.end.map_or(Bound::Unbounded, Bound::Included), |(key, _)| Bound::Excluded(key));
            let mut between = self.promises.range((Bound::Excluded(after), until));
            let uses =
                |key: &OrderKey| self.queue.get(key).is_some_and(|one| might_start(self, touched, one));
            if let Some((key, list)) = between.find(|(key, list)| !list.is_empty() && uses(key)) {
                zone.testing = true;
                return Some((*key, elements(list)));
            }
        }
        *place += usize::from(next.is_some());
        next
    }

    /// Promises of an entry that stay as they are; without any, its place goes if it is empty.
    fn put_back(&mut self, key: OrderKey, list: Option<VecDeque<Promise>>) {
        if let Some(place) = self.promises.get_mut(&key) {
            if let Some(list) = list {
                *place = list;
            }
            if place.is_empty() {
                self.promises.remove(&key);
            }
        } else if let Some(list) = list {
            self.promises.insert(key, list);
        }
    }

    /// Lays lifted promises again where they were; gives them up if what is ahead took the place.
    fn lay_again(
        &mut self,
        walk: &Walk<'_>,
        key: OrderKey,
        promises: VecDeque<Promise>,
    ) -> Option<VecDeque<Promise>> {
        for (place, promise) in promises.iter().enumerate() {
            if !self.fits(walk, promise) {
                promises.iter().take(place).for_each(|laid| self.unreserve(laid));
                promises.iter().skip(place).for_each(|lifted| self.touch(lifted));
                self.displaced.insert(key.job, Cause::HigherPriority);
                return None;
            }
            self.reserve(promise, false);
        }
        Some(promises)
    }

    fn fits(&self, walk: &Walk<'_>, promise: &Promise) -> bool {
        let from = promise.start.max(walk.now);
        let licensed = promise.end <= from || self.licenses.cover(&promise.licenses, from, promise.end);
        licensed
            && promise.holds.iter().all(|(node, amount)| {
                promise.end <= from || self.cluster.plan(*node).covers(amount, from, promise.end)
            })
    }

    /// An entry with promises: due, tested for starting now, swept, or with elements to add or drop.
    fn kept(
        &mut self,
        walk: &mut Walk<'_>,
        zone: &Zone,
        key: OrderKey,
        entry: &Entry,
        (mut list, room): (VecDeque<Promise>, u32),
    ) {
        let sweep = zone.sweeping.is_some_and(|to| key > to);
        let test = zone.testing || self.owed.contains(&key);
        let before = list.len();
        let mut cause = None;
        let mut kept = VecDeque::new();
        let mut left = self.elements_left(walk, key, entry);
        while elements(&list) > left.min(room) {
            let last = list.pop_back().expect("it is longer than a number");
            self.unreserve(&last);
            cause = Some(Cause::JobChanged);
        }
        while let Some(old) = list.pop_front() {
            let due = old.start <= walk.now;
            if !(due || sweep || test) {
                list.push_front(old);
                break;
            }
            self.lift(&old);
            if walk.held_back(key, entry).is_none() && self.start_now(walk, key, entry, false, false) {
                self.touch(&old);
                left -= 1;
                cause = cause.or(Some(Cause::GivenBack));
                continue;
            }
            if !due && !sweep {
                self.reserve(&old, false);
                list.push_front(old);
                break;
            }
            let Some(new) = self.earliest(walk, key, entry) else {
                self.touch(&old);
                cause = Some(Cause::NotPlanned);
                continue;
            };
            self.reserve(&new, false);
            if new != old {
                self.touch(&old);
                cause = Some(match new.start.cmp(&old.start) {
                    std::cmp::Ordering::Greater if old.start < walk.now => Cause::Clock,
                    std::cmp::Ordering::Greater => Cause::NotPlanned,
                    // What another element of it lost stays the cause.
                    std::cmp::Ordering::Less | std::cmp::Ordering::Equal => cause.unwrap_or(Cause::GivenBack),
                });
            }
            kept.push_back(new);
        }
        if kept.is_empty() {
            kept = list;
        } else {
            kept.append(&mut list);
        }
        while elements(&kept) < left.min(room).min(ELEMENTS_PLANNED) && entry.array {
            let Some(new) = self.earliest(walk, key, entry) else { break };
            self.reserve(&new, false);
            kept.push_back(new);
            cause = cause.or(Some(Cause::Made));
        }
        kept.make_contiguous().sort_by_key(|promise| promise.start);
        let outcome = match left {
            0 => walk.started(key, entry),
            _ => walk.held_back(key, entry).map_or(Outcome::Waits, Outcome::Kept),
        };
        if outcome == Outcome::Started {
            self.leave(key, entry);
        }
        // A job that starts whole takes its promise along.
        let starts = kept.is_empty() && left == 0 && before > 0;
        match cause {
            Some(cause) if !starts || entry.array => {
                walk.say(key, outcome);
                self.promise(walk, key, kept, cause);
            }
            _ => {
                if starts {
                    walk.say(key, outcome);
                } else {
                    self.promises.insert(key, kept);
                }
            }
        }
    }

    /// An entry without a promise: starts, or gets one, before all that is behind it.
    fn newcomer(
        &mut self,
        walk: &mut Walk<'_>,
        zone: &mut Zone,
        (key, next): (OrderKey, usize),
        entry: &Entry,
        room: u32,
    ) {
        let free = walk.held_back(key, entry).is_none_or(|reason| reason == Reason::Licenses);
        if !zone.lifted && free && self.elements_left(walk, key, entry) > 0 {
            self.lift_behind(zone, key, next);
        }
        let (outcome, left) = self.start_all(walk, key, entry, false);
        walk.say(key, outcome);
        let mut list = VecDeque::new();
        if outcome.is_planned() {
            for _ in 0..left.min(room).min(ELEMENTS_PLANNED) {
                let Some(promise) = self.earliest(walk, key, entry) else { break };
                self.reserve(&promise, false);
                list.push_back(promise);
            }
            list.make_contiguous().sort_by_key(|promise| promise.start);
        }
        let displaced = self.displaced.remove(&key.job);
        let whole_start = outcome == Outcome::Started && !entry.array;
        if !list.is_empty() || (displaced.is_some() && !whole_start) {
            self.promise(walk, key, list, displaced.unwrap_or(Cause::Made));
        }
    }

    /// Lifts every promise behind an entry, and puts their jobs among what is to be done.
    fn lift_behind(&mut self, zone: &mut Zone, key: OrderKey, next: usize) {
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        if self.promises.range(behind).next().is_none() {
            return;
        }
        zone.lifted = true;
        for (&other, list) in self.promises.range(behind) {
            for promise in list {
                for &(node, amount) in &promise.holds {
                    self.cluster.lift(node, amount, promise.start, promise.end);
                }
                self.licenses.lift(&promise.licenses, promise.start, promise.end);
            }
            zone.todo.push((other, elements(list)));
        }
        let rest = &mut zone.todo[next..];
        rest.sort_by_key(|(key, room)| (*key, u32::MAX - room));
        zone.todo.dedup_by_key(|(key, _)| *key);
    }

    /// Promises beyond the depth go, last ones first.
    fn trim(&mut self, walk: &mut Walk<'_>) {
        let mut held = 0_u32;
        let over = self.promises.iter().find(|(_, list)| {
            held = held.saturating_add(elements(list));
            held > walk.depth
        });
        let Some((&first, _)) = over else { return };
        let gone = self.promises.split_off(&first);
        let mut left = walk.depth - self.promises.values().map(elements).sum::<u32>();
        for (key, mut list) in gone {
            while elements(&list) > left {
                let last = list.pop_back().expect("it is longer than a number");
                self.unreserve(&last);
            }
            left -= elements(&list);
            self.promise(walk, key, list, Cause::HigherPriority);
        }
    }

    /// Jobs that have a promise and are held back by something of their own lose it.
    fn drop_of_idle(&mut self, walk: &mut Walk<'_>) {
        let kept = &walk.state.promises.by_job;
        if kept.len() == self.promises.len() + self.displaced.len() {
            return;
        }
        for &job in kept.keys() {
            if self.key_of(job).is_none() {
                let promises = Vec::new();
                let change = crate::state::promise::PromiseChange { job, promises, cause: Cause::JobChanged };
                walk.changes.push(change);
                walk.given_back.get_or_insert(Timestamp(walk.now));
            }
        }
    }

    /// Takes a promise out of the plan for a moment.
    pub(super) fn lift(&mut self, promise: &Promise) {
        for &(node, amount) in &promise.holds {
            self.cluster.lift(node, amount, promise.start, promise.end);
        }
        self.licenses.lift(&promise.licenses, promise.start, promise.end);
    }

    /// What a lifted promise held is free now.
    fn touch(&mut self, promise: &Promise) {
        promise.holds.iter().for_each(|(node, _)| self.cluster.touch(*node));
    }

    /// Lays the plan anew: what running jobs leave, less every promise of the state that still fits.
    ///
    /// Cost: O(steps of the nodes that were planned on + promises × nodes).
    pub(super) fn relay(&mut self, walk: &mut Walk<'_>) {
        self.cluster.copy_base();
        self.licenses.copy_base();
        self.cluster.touch_all();
        self.promises.clear();
        self.displaced.clear();
        let kept = &walk.state.promises.by_job;
        let mut keys: Vec<OrderKey> = kept.keys().filter_map(|job| self.key_of(*job)).collect();
        keys.sort_unstable();
        for key in keys {
            let entry = self.queue[&key];
            let mut list = VecDeque::new();
            let mut lost = None;
            for promise in kept[&key.job].iter() {
                let class = self.class_in(&entry, promise.partition);
                let licenses = self.licenses.needs(&walk.state.jobs[&key.job]);
                let known = class.zip(licenses);
                let known = known.map(|(class, licenses)| Promise::from_kept(promise, class, licenses));
                match known.ok_or(Cause::Configuration).and_then(|known| self.sound(walk, known)) {
                    Ok(known) => {
                        self.reserve(&known, false);
                        list.push_back(known);
                    }
                    Err(cause) => lost = lost.or(Some(cause)),
                }
            }
            if let Some(cause) = lost {
                list.iter().for_each(|laid| self.unreserve(laid));
                self.displaced.insert(key.job, cause);
            } else {
                self.promises.insert(key, list);
            }
        }
    }

    /// Whether a promise of the state can be kept; else why not.
    fn sound(&self, walk: &Walk<'_>, promise: Promise) -> Result<Promise, Cause> {
        let class = &self.shapes.classes[promise.class as usize];
        if class.forbidden.is_some() {
            return Err(Cause::Configuration);
        }
        let from = promise.start.max(walk.now);
        if promise.end > from && !self.licenses.cover(&promise.licenses, from, promise.end) {
            let names = |one: &Promise| {
                one.licenses.iter().any(|(name, _)| promise.licenses.iter().any(|(own, _)| own == name))
            };
            if self.licenses.left_by_runs(&promise.licenses, from, promise.end)
                && self.is_promised(from, promise.end, names)
            {
                return Err(Cause::HigherPriority);
            }
            return Err(taken_by(walk, |job| job.request.rare().licenses.is_some()));
        }
        for (node, amount) in &promise.holds {
            if !self.cluster.is_available(*node) {
                return Err(Cause::NodeLost);
            }
            let own = class.demand.reservation.as_deref();
            if promise.end > from && !self.cluster.is_open(*node, own, from, promise.end) {
                return Err(Cause::Reservation);
            }
            let needed = class.fixed.as_ref().map(|fixed| fixed.need(self.cluster.make(*node)));
            let changed = !self.cluster.is_member(class.list, *node) || !self.cluster.offers(*node, amount);
            if changed || needed.is_some_and(|need| need != Some(amount)) {
                return Err(Cause::Configuration);
            }
            if promise.end > from && !self.cluster.plan(*node).covers(amount, from, promise.end) {
                // Promises that were laid before it: an earlier slice gave the place away, and was not through yet.
                let holds = |one: &Promise| one.holds.iter().any(|(other, _)| other == node);
                if self.cluster.base(*node).covers(amount, from, promise.end)
                    && self.is_promised(from, promise.end, holds)
                {
                    return Err(Cause::HigherPriority);
                }
                return Err(taken_by(walk, |job| self.is_on(job, *node)));
            }
        }
        Ok(promise)
    }

    /// Whether a promise that is laid already holds such a thing at some time in `[from, to)`.
    fn is_promised(&self, from: i64, to: i64, holds: impl Fn(&Promise) -> bool) -> bool {
        let mut laid = self.promises.values().flatten();
        laid.any(|one| one.start < to && one.end > from && holds(one))
    }

    /// Whether a running job is in the way of promises on a node.
    fn is_on(&self, job: &Job, node: u32) -> bool {
        let shares = job.active().into_iter().flat_map(|active| active.allocation.iter());
        self.cluster.is_pool() || shares.into_iter().any(|share| share.node.0 == node)
    }
}

/// Whether one of these nodes, on which something became free, is of use to an entry.
pub(super) fn might_start(ledger: &Ledger, touched: &Touched, entry: &Entry) -> bool {
    if touched.is_empty() {
        return false;
    }
    // A license may have become free with nodes of no use.
    let mut classes = ledger.shapes.shapes[entry.shape as usize].classes.clone();
    touched.is_all() || entry.licensed || classes.any(|class| might_use(ledger, touched, class))
}

/// Whether one of these nodes is of use to entries of a class.
pub(super) fn might_use(ledger: &Ledger, touched: &Touched, class: u32) -> bool {
    let cluster = &ledger.cluster;
    let class = &ledger.shapes.classes[class as usize];
    let enough = |node: u32| {
        let need = class.fixed.as_ref().map(|fixed| fixed.need(cluster.make(node)));
        need.is_none_or(|need| need.is_some_and(|need| cluster.floor(node).covers(need)))
    };
    touched.is_all()
        || touched.nodes().iter().any(|&node| cluster.is_member(class.list, node) && enough(node))
}

/// Why there is less than a promise counted on: a running job that holds some of it goes on, or not.
fn taken_by(walk: &Walk<'_>, holds: impl Fn(&Job) -> bool) -> Cause {
    let prediction = walk.settings.policy.prediction;
    let outlived = walk.state.index.running.iter().map(|id| &walk.state.jobs[id]).any(|job| {
        let active = job.active().expect("the index holds running jobs");
        let ends = [active.limit_end(), active.believed_end(prediction.of(job))];
        ends.into_iter().flatten().any(|end| end.0 <= walk.now) && holds(job)
    });
    if outlived { Cause::Outlived } else { Cause::LimitRaised }
}

/// What a pass over kept promises carries along.
struct Zone {
    /// Promises behind this place are moved as early as can be.
    sweeping: Option<OrderKey>,
    /// Jobs with promises are tested for starting now.
    testing: bool,
    /// Elements that are protected up to the end of the zone.
    held: u32,
    /// Promises behind the present entry are not in the plan.
    lifted: bool,
    /// The last entry of the zone so far.
    end: Option<OrderKey>,
    /// No entry is behind it.
    through: bool,
    /// What is to be done, with the elements that may be protected from there on.
    todo: Vec<(OrderKey, u32)>,
}

fn elements(list: &VecDeque<Promise>) -> u32 {
    u32::try_from(list.len()).expect("the depth is counted in 32 bits")
}
