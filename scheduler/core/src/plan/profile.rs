//! What will be free on one node from now on: a step function of time.
//!
//! Owns the arithmetic of amounts over time and nothing else: who holds what, and why, is the
//! planner's. Source: the list of A. Mu'alem and D. Feitelson, IEEE TPDS 12(6), 2001, with several
//! resources at each step.

use crate::gpu::geometry::Profile as GpuProfile;
use crate::place::fit::Free;

/// The most kinds of devices of a node that are planned with; further ones count as not there.
pub(crate) const KINDS: usize = crate::state::promise::PLANNED_KINDS;

/// Amounts on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// CPUs.
    pub(crate) cpus: u32,
    /// Devices by kind.
    pub(crate) gres: [u32; KINDS],
    /// Memory, MiB.
    pub(crate) memory: u64,
    /// Memory slices of dynamic GPUs: eight bits for each GPU, the first one lowest. Which ones matters, so they are
    /// a set: what is free over some time are those that are free at each instant of it.
    pub(crate) slices: u64,
}

impl Amount {
    /// Whether `need` can be taken of it.
    #[inline]
    pub(crate) fn covers(&self, need: &Self) -> bool {
        // No branch for each kind: most requests fail by the first two, or not at all.
        self.cpus >= need.cpus
            && self.memory >= need.memory
            && need.slices & !self.slices == 0
            && self.gres.iter().zip(&need.gres).fold(true, |all, (have, want)| all & (have >= want))
    }

    /// The smaller of each.
    pub(crate) fn least(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = (*one).min(other));
        Self {
            cpus: self.cpus.min(other.cpus),
            gres,
            memory: self.memory.min(other.memory),
            slices: self.slices & other.slices,
        }
    }

    /// The larger of each.
    pub(crate) fn greatest(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = (*one).max(other));
        Self {
            cpus: self.cpus.max(other.cpus),
            gres,
            memory: self.memory.max(other.memory),
            slices: self.slices | other.slices,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = one.saturating_add(other));
        Self {
            cpus: self.cpus.saturating_add(other.cpus),
            gres,
            memory: self.memory.saturating_add(other.memory),
            slices: self.slices | other.slices,
        }
    }

    /// What is left after taking `other`; a node that was made smaller under its jobs has nothing left.
    pub(crate) fn minus(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = one.saturating_sub(other));
        Self {
            cpus: self.cpus.saturating_sub(other.cpus),
            gres,
            memory: self.memory.saturating_sub(other.memory),
            slices: self.slices & !other.slices,
        }
    }

    /// As placement sees it where nobody shares CPUs; `gres` is scratch space for the counts.
    pub(crate) fn as_free(self, gres: &mut [u64; KINDS], kinds: usize, all_cpus: u32) -> Free<'_> {
        gres.iter_mut().zip(self.gres).for_each(|(to, from)| *to = u64::from(from));
        Free {
            sockets: &[],
            slices: self.slices,
            inventory: None,
            rule: None,
            cpus: self.cpus,
            memory: self.memory,
            gres: &gres[..kinds.min(KINDS)],
            idle: self.cpus == all_cpus,
        }
    }
}

/// When something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Earliest {
    /// The instant; `i64::MAX`: never.
    pub(crate) at: i64,
    /// It fits then; else it does not before.
    pub(crate) exact: bool,
}

/// From `at` on, until the next step, so much is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    at: i64,
    free: Amount,
}

/// Free amounts over time, milliseconds. Steps are in order of time; the first covers all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    steps: Vec<Step>,
}

impl Profile {
    /// So much is free for ever.
    pub(crate) fn new(free: Amount) -> Self {
        Self { steps: vec![Step { at: i64::MIN, free }] }
    }

    /// Makes this a copy of another without new memory where it fits.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.steps.clone_from(&other.steps);
    }

    /// How many steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Forgets what lies before `now`. Cost: O(steps) once a step has passed, else O(1).
    pub(crate) fn forget_before(&mut self, now: i64) {
        let passed = self.steps.iter().skip(1).take_while(|step| step.at <= now).count();
        if passed > 0 {
            self.steps.drain(..passed);
            self.steps[0].at = i64::MIN;
        }
    }

    /// Place of the step that holds at an instant.
    fn place(&self, at: i64) -> usize {
        // The first steps are asked for most.
        if self.steps.len() < 2 || at < self.steps[1].at {
            return 0;
        }
        self.steps.partition_point(|step| step.at <= at) - 1
    }

    /// Free at one instant, and until when that stays so.
    pub(crate) fn at_until(&self, at: i64) -> (Amount, i64) {
        let place = self.place(at);
        (self.steps[place].free, self.steps.get(place + 1).map_or(i64::MAX, |step| step.at))
    }

    /// Free throughout `[from, to)`. Cost: O(log steps + steps in the window).
    pub(crate) fn over(&self, from: i64, to: i64) -> Amount {
        let first = self.place(from);
        let mut least = self.steps[first].free;
        for step in self.steps[first + 1..].iter().take_while(|step| step.at < to) {
            least = least.least(step.free);
        }
        least
    }

    /// Whether `need` is free throughout `[from, to)`.
    pub(crate) fn covers(&self, need: &Amount, from: i64, to: i64) -> bool {
        let first = self.place(from);
        self.steps[first].free.covers(need)
            && self.steps[first + 1..]
                .iter()
                .take_while(|step| step.at < to)
                .all(|step| step.free.covers(need))
    }

    /// First instant, at or after `from`, from which `need` stays free for all of `span`; `i64::MAX`: never.
    /// Whoever does not care for answers after `until` gets one at once: some instant after `until`, at which
    /// or after which the first one lies.
    ///
    /// Answers are `from` or an instant where the profile changes.
    /// Cost: O(log steps + steps up to the end of the answer's window, or to `until`).
    pub(crate) fn earliest(&self, need: &Amount, span: i64, from: i64, until: i64) -> Earliest {
        let mut start = from;
        let mut steps = self.steps[self.place(from)..].iter().peekable();
        while let Some(step) = steps.next() {
            if step.free.covers(need) {
                match steps.peek() {
                    Some(next) if next.at < start.saturating_add(span) => {}
                    _ => return Earliest { at: start, exact: true },
                }
            } else {
                start = steps.peek().map_or(i64::MAX, |next| next.at);
                if start > until {
                    return Earliest { at: start, exact: false };
                }
            }
        }
        Earliest { at: i64::MAX, exact: true }
    }

    /// First instant from which, for all of `span`, `need` stays free and beside it one start of a GPU profile among
    /// the memory slices of `gpus`. Answers and `until` as for [`Self::earliest`].
    ///
    /// Cost: O(log steps + steps) where slices only become free, O(steps²) at worst.
    pub(crate) fn earliest_cut(
        &self,
        (need, shape, gpus): (&Amount, GpuProfile, u64),
        span: i64,
        from: i64,
        until: i64,
    ) -> Earliest {
        let steps = &self.steps[self.place(from)..];
        let mut first = 0;
        'starts: while let Some(step) = steps.get(first) {
            let at = step.at.max(from);
            if at > until {
                return Earliest { at, exact: false };
            }
            let end = at.saturating_add(span);
            let mut starts = u64::MAX;
            for (place, step) in steps.iter().enumerate().skip(first) {
                if place > first && step.at >= end {
                    break;
                }
                if !step.free.covers(need) {
                    // No window that holds this step will do.
                    first = place + 1;
                    continue 'starts;
                }
                // The starts free throughout are those free at each instant.
                starts &= shape.windows(step.free.slices & gpus);
                if starts == 0 {
                    first += 1;
                    continue 'starts;
                }
            }
            return Earliest { at, exact: true };
        }
        Earliest { at: i64::MAX, exact: true }
    }

    /// Whether `holds` is true of the free memory slices at each instant of `[from, to)` at which they may change.
    pub(crate) fn slices_all(&self, from: i64, to: i64, holds: impl Fn(i64, u64) -> bool) -> bool {
        let steps = self.steps[self.place(from)..].iter().enumerate();
        let mut within = steps.take_while(|(place, step)| *place == 0 || step.at < to);
        within.all(|(_, step)| holds(step.at.max(from), step.free.slices))
    }

    /// The memory slices that nothing takes from `from` on. Cost: O(log steps + steps).
    pub(crate) fn slices_ever_free(&self, from: i64) -> u64 {
        self.steps[self.place(from)..].iter().fold(u64::MAX, |all, step| all & step.free.slices)
    }

    /// What stays free for `span` from `now` on, and from each later instant at which the profile changes, in order.
    /// Cost: O(steps × steps in the span).
    pub(crate) fn windows(&self, now: i64, span: i64, mut see: impl FnMut(i64, &Amount)) {
        let steps = &self.steps[self.place(now)..];
        for (place, step) in steps.iter().enumerate() {
            let at = step.at.max(now);
            let end = at.saturating_add(span);
            let within = steps[place + 1..].iter().take_while(|later| later.at < end);
            see(at, &within.fold(step.free, |least, later| least.least(later.free)));
        }
    }

    /// Until when `need` stays free from `from` on; `from` itself if it is not free even then, `i64::MAX`:
    /// for ever. Cost: O(log steps + steps of the answer).
    pub(crate) fn free_until(&self, need: &Amount, from: i64) -> i64 {
        let first = self.place(from);
        if !self.steps[first].free.covers(need) {
            return from;
        }
        let short = self.steps[first + 1..].iter().find(|step| !step.free.covers(need));
        short.map_or(i64::MAX, |step| step.at)
    }

    /// The first instant after `from` at which the profile changes.
    pub(crate) fn next_change(&self, from: i64) -> Option<i64> {
        self.steps.get(self.place(from) + 1).map(|step| step.at)
    }

    /// Takes an amount in `[from, to)`. Cost: O(steps).
    pub(crate) fn take(&mut self, amount: Amount, from: i64, to: i64) {
        self.change(from, to, |free| free.minus(amount));
    }

    /// Gives an amount back in `[from, to)`. Cost: O(steps).
    pub(crate) fn give(&mut self, amount: Amount, from: i64, to: i64) {
        self.change(from, to, |free| free.plus(amount));
    }

    fn change(&mut self, from: i64, to: i64, change: impl Fn(Amount) -> Amount) {
        if from >= to {
            return;
        }
        let first = self.split(from);
        let end = if to == i64::MAX { self.steps.len() } else { self.split(to) };
        for step in &mut self.steps[first..end] {
            step.free = change(step.free);
        }
        self.join(end);
        self.join(first);
    }

    /// Makes a step begin at `at`; answers its place.
    fn split(&mut self, at: i64) -> usize {
        let place = self.place(at);
        if self.steps[place].at == at {
            return place;
        }
        let free = self.steps[place].free;
        self.steps.insert(place + 1, Step { at, free });
        place + 1
    }

    /// Removes the step at a place if nothing changes there.
    fn join(&mut self, place: usize) {
        if place > 0 && place < self.steps.len() && self.steps[place].free == self.steps[place - 1].free {
            self.steps.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(cpus: u32) -> Amount {
        Amount { cpus, ..Amount::default() }
    }

    /// The same by counting every instant.
    fn slow_earliest(free: &[u32], need: u32, span: usize, from: usize) -> Option<usize> {
        let last = *free.last().unwrap();
        let at = |instant: usize| free.get(instant).copied().unwrap_or(last);
        (from..free.len() + 1).find(|&start| (start..start + span.max(1)).all(|instant| at(instant) >= need))
    }

    #[test]
    fn agrees_with_counting() {
        let mut seed = 7_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for _ in 0..2000 {
            let mut profile = Profile::new(cpus(8));
            let mut free = vec![8_u32; 40];
            for _ in 0..below(9) {
                let (from, len, amount) = (below(30) as usize, 1 + below(9) as usize, 1 + below(3) as u32);
                let to = (from + len).min(39);
                if (from..to).all(|instant| free[instant] >= amount) {
                    profile.take(cpus(amount), from as i64, to as i64);
                    (from..to).for_each(|instant| free[instant] -= amount);
                }
            }
            assert!(profile.steps.windows(2).all(|pair| pair[0].free != pair[1].free), "{profile:?}");
            for need in 1..=9 {
                let (span, from) = (1 + below(8) as usize, below(20) as usize);
                let expected = slow_earliest(&free, need, span, from).map_or(i64::MAX, |at| at as i64);
                let (need_now, span_now, from_now) = (cpus(need), span as i64, from as i64);
                let whole = profile.earliest(&need_now, span_now, from_now, i64::MAX);
                assert_eq!(whole, Earliest { at: expected, exact: true }, "{profile:?}");
                let until = from as i64 + below(20) as i64;
                let cut = profile.earliest(&need_now, span_now, from_now, until);
                if cut.exact {
                    assert_eq!(cut.at, expected, "{profile:?}");
                } else {
                    assert!(until < cut.at && cut.at <= expected, "{profile:?}");
                }
                let least = (from..from + span).map(|instant| free.get(instant).copied().unwrap_or(8)).min();
                assert_eq!(profile.over(from as i64, (from + span) as i64), cpus(least.unwrap()));
            }
            let now = below(20) as i64;
            let before = profile.clone();
            profile.forget_before(now);
            assert_eq!(profile.over(now, now + 9), before.over(now, now + 9));
        }
    }
}
