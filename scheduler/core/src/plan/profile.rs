//! What will be free on one node from now on: a step function of time.
//!
//! Owns the arithmetic of amounts over time and nothing else: who holds what, and why, is the
//! planner's. Source: the list of A. Mu'alem and D. Feitelson, IEEE TPDS 12(6), 2001, with several
//! resources at each step.

mod cell;

use self::cell::{Cell, Plain};
use crate::gpu::geometry::Profile as GpuProfile;
use crate::gpu::outlook::{Slices, instants};
use crate::gpu::shards::Lanes;
use crate::gpu::slice_set::SliceSet;
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
    /// Memory slices of dynamic GPUs.
    pub(crate) slices: SliceSet,
    /// Shards of the GPUs that jobs may share; all of a GPU's are free, or taken, where it is whole.
    pub(crate) shards: Lanes,
}

impl Amount {
    /// Whether `need` can be taken of it.
    #[inline]
    pub(crate) fn covers(&self, need: &Self) -> bool {
        // No branch for each kind: most requests fail by the first two, or not at all.
        self.cpus >= need.cpus
            && self.memory >= need.memory
            && self.slices.covers(need.slices)
            && self.shards.covers(need.shards)
            && self.gres.iter().zip(&need.gres).fold(true, |all, (have, want)| all & (have >= want))
    }

    /// The CPUs, if there is nothing else.
    #[inline]
    fn only_cpus(&self) -> Option<u32> {
        let rest = u64::from(self.gres.iter().fold(0, |all, one| all | one)) | self.memory;
        (rest == 0 && self.slices.is_empty() && self.shards.is_empty()).then_some(self.cpus)
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
            shards: self.shards.least(other.shards),
        }
    }

    /// The larger of each.
    #[inline]
    pub(crate) fn greatest(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = (*one).max(other));
        Self {
            cpus: self.cpus.max(other.cpus),
            gres,
            memory: self.memory.max(other.memory),
            slices: self.slices | other.slices,
            shards: self.shards.greatest(other.shards),
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
            shards: self.shards.plus(other.shards),
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
            shards: self.shards.minus(other.shards),
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
            reach: None,
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
struct Step<C> {
    at: i64,
    free: C,
}

/// Steps in order of time; the first covers all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<C>(Vec<Step<C>>);

/// Free amounts over time, milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile(Kept);

/// Where there is nothing but CPUs (a pool, one machine of processors), steps are a quarter as long and their
/// arithmetic is that of one number; on ordinary nodes they are less than half as long.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Cpus(Line<u32>),
    Plain(Line<Plain>),
    All(Line<Amount>),
}

impl Profile {
    /// So much is free for ever.
    pub(crate) fn new(free: Amount) -> Self {
        let at = i64::MIN;
        Self(match (free.only_cpus(), Plain::of(&free)) {
            (Some(free), _) => Kept::Cpus(Line(vec![Step { at, free }])),
            (None, Some(free)) => Kept::Plain(Line(vec![Step { at, free }])),
            (None, None) => Kept::All(Line(vec![Step { at, free }])),
        })
    }

    /// Makes this a copy of another without new memory where it fits.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Kept::Cpus(to), Kept::Cpus(from)) => to.0.clone_from(&from.0),
            (Kept::Plain(to), Kept::Plain(from)) => to.0.clone_from(&from.0),
            (Kept::All(to), Kept::All(from)) => to.0.clone_from(&from.0),
            (to, from) => *to = from.clone(),
        }
    }

    /// How many steps.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Kept::Cpus(line) => line.0.len(),
            Kept::Plain(line) => line.0.len(),
            Kept::All(line) => line.0.len(),
        }
    }

    /// Forgets what lies before `now`. Cost: O(steps) once a step has passed, else O(1).
    pub(crate) fn forget_before(&mut self, now: i64) {
        match &mut self.0 {
            Kept::Cpus(line) => line.forget_before(now),
            Kept::Plain(line) => line.forget_before(now),
            Kept::All(line) => line.forget_before(now),
        }
    }

    /// Free at one instant, and until when that stays so.
    pub(crate) fn at_until(&self, at: i64) -> (Amount, i64) {
        match &self.0 {
            Kept::Cpus(line) => line.at_until(at),
            Kept::Plain(line) => line.at_until(at),
            Kept::All(line) => line.at_until(at),
        }
    }

    /// Free throughout `[from, to)`. Cost: O(log steps + steps in the window).
    pub(crate) fn over(&self, from: i64, to: i64) -> Amount {
        match &self.0 {
            Kept::Cpus(line) => line.over(from, to).whole(),
            Kept::Plain(line) => line.over(from, to).whole(),
            Kept::All(line) => line.over(from, to),
        }
    }

    /// Whether `need` is free throughout `[from, to)`.
    pub(crate) fn covers(&self, need: &Amount, from: i64, to: i64) -> bool {
        match &self.0 {
            Kept::Cpus(line) => need.only_cpus().is_some_and(|need| line.covers(&need, from, to)),
            Kept::Plain(line) => Plain::of(need).is_some_and(|need| line.covers(&need, from, to)),
            Kept::All(line) => line.covers(need, from, to),
        }
    }

    /// First instant, at or after `from`, from which `need` stays free for all of `span`; `i64::MAX`: never.
    /// Whoever does not care for answers after `until` gets one at once: some instant after `until`, at which
    /// or after which the first one lies.
    ///
    /// Answers are `from` or an instant where the profile changes.
    /// Cost: O(log steps + steps up to the end of the answer's window, or to `until`).
    pub(crate) fn earliest(&self, need: &Amount, span: i64, from: i64, until: i64) -> Earliest {
        let found = match &self.0 {
            Kept::Cpus(line) => need.only_cpus().map(|need| line.earliest(&need, span, from, until)),
            Kept::Plain(line) => Plain::of(need).map(|need| line.earliest(&need, span, from, until)),
            Kept::All(line) => Some(line.earliest(need, span, from, until)),
        };
        found.unwrap_or(Earliest { at: i64::MAX, exact: true })
    }

    /// First instant from which, for all of `span`, `need` stays free and beside it one start of a GPU profile among
    /// the memory slices of `gpus`. Answers and `until` as for [`Self::earliest`].
    ///
    /// Cost: O(log steps + steps) where slices only become free, O(steps²) at worst.
    pub(crate) fn earliest_cut(
        &self,
        need: (&Amount, GpuProfile, SliceSet),
        span: i64,
        from: i64,
        until: i64,
    ) -> Earliest {
        match &self.0 {
            // There is nothing to cut.
            Kept::Cpus(_) | Kept::Plain(_) => Earliest { at: i64::MAX, exact: true },
            Kept::All(line) => line.earliest_cut(need, span, from, until),
        }
    }

    /// Whether `holds` is true of the free memory slices at each instant of `[from, to)` at which they may change.
    pub(crate) fn slices_all(&self, from: i64, to: i64, holds: impl Fn(i64, SliceSet) -> bool) -> bool {
        match &self.0 {
            // A node with slices is not kept so.
            Kept::Cpus(_) | Kept::Plain(_) => holds(from, SliceSet::EMPTY),
            Kept::All(line) => line.slices_all(from, to, holds),
        }
    }

    /// What of the memory slices is free in `[from, to)`. Cost: O(log steps) for each instant, and the steps between.
    pub(crate) fn slices_ahead(&self, from: i64, to: i64) -> Slices {
        let at = |instant: i64| self.over(instant, instant.saturating_add(1)).slices;
        Slices { window: self.over(from, to).slices, later: instants(from, to).map(at) }
    }

    /// The memory slices that nothing takes from `from` on. Cost: O(log steps + steps).
    pub(crate) fn slices_ever_free(&self, from: i64) -> SliceSet {
        match &self.0 {
            Kept::Cpus(_) | Kept::Plain(_) => SliceSet::EMPTY,
            Kept::All(line) => line.slices_ever_free(from),
        }
    }

    /// What stays free for `span` from `now` on, and from each later instant at which the profile changes, in order.
    /// Cost: O(steps × steps in the span).
    pub(crate) fn windows(&self, now: i64, span: i64, see: impl FnMut(i64, &Amount)) {
        match &self.0 {
            Kept::Cpus(line) => line.windows(now, span, see),
            Kept::Plain(line) => line.windows(now, span, see),
            Kept::All(line) => line.windows(now, span, see),
        }
    }

    /// Until when `need` stays free from `from` on; `from` itself if it is not free even then, `i64::MAX`:
    /// for ever. Cost: O(log steps + steps of the answer).
    pub(crate) fn free_until(&self, need: &Amount, from: i64) -> i64 {
        let until = match &self.0 {
            Kept::Cpus(line) => need.only_cpus().map(|need| line.free_until(&need, from)),
            Kept::Plain(line) => Plain::of(need).map(|need| line.free_until(&need, from)),
            Kept::All(line) => Some(line.free_until(need, from)),
        };
        until.unwrap_or(from)
    }

    /// The first instant after `from` at which the profile changes.
    pub(crate) fn next_change(&self, from: i64) -> Option<i64> {
        match &self.0 {
            Kept::Cpus(line) => line.next_change(from),
            Kept::Plain(line) => line.next_change(from),
            Kept::All(line) => line.next_change(from),
        }
    }

    /// Takes an amount in `[from, to)`. Cost: O(steps).
    pub(crate) fn take(&mut self, amount: Amount, from: i64, to: i64) {
        match &mut self.0 {
            // What a machine has not got stays nothing.
            Kept::Cpus(line) => line.change(from, to, |free| free.minus(amount.cpus)),
            Kept::Plain(line) => {
                let amount = Plain::at_most(&amount);
                line.change(from, to, |free| free.minus(amount));
            }
            Kept::All(line) => line.change(from, to, |free| free.minus(amount)),
        }
    }

    /// Gives an amount back in `[from, to)`. Cost: O(steps).
    pub(crate) fn give(&mut self, amount: Amount, from: i64, to: i64) {
        let wider = match &self.0 {
            Kept::Cpus(line) if amount.only_cpus().is_none() => Some(line.whole()),
            Kept::Plain(line) => {
                let told = Plain::of(&amount)
                    .is_some_and(|amount| line.0.iter().all(|step| step.free.has_room(amount)));
                (!told).then(|| line.whole())
            }
            Kept::Cpus(_) | Kept::All(_) => None,
        };
        if let Some(line) = wider {
            self.0 = Kept::All(line);
        }
        match &mut self.0 {
            Kept::Cpus(line) => line.change(from, to, |free| free.plus(amount.cpus)),
            Kept::Plain(line) => {
                let amount = Plain::at_most(&amount);
                line.change(from, to, |free| free.plus(amount));
            }
            Kept::All(line) => line.change(from, to, |free| free.plus(amount)),
        }
    }
}

impl<C: Cell> Line<C> {
    /// The same in whole amounts.
    fn whole(&self) -> Line<Amount> {
        Line(self.0.iter().map(|step| Step { at: step.at, free: step.free.whole() }).collect())
    }

    fn forget_before(&mut self, now: i64) {
        let passed = self.0.iter().skip(1).take_while(|step| step.at <= now).count();
        if passed > 0 {
            self.0.drain(..passed);
            self.0[0].at = i64::MIN;
        }
    }

    /// Place of the step that holds at an instant.
    fn place(&self, at: i64) -> usize {
        // The first steps are asked for most.
        if self.0.len() < 2 || at < self.0[1].at {
            return 0;
        }
        self.0.partition_point(|step| step.at <= at) - 1
    }

    fn at_until(&self, at: i64) -> (Amount, i64) {
        let place = self.place(at);
        (self.0[place].free.whole(), self.0.get(place + 1).map_or(i64::MAX, |step| step.at))
    }

    fn over(&self, from: i64, to: i64) -> C {
        let first = self.place(from);
        let mut least = self.0[first].free;
        for step in self.0[first + 1..].iter().take_while(|step| step.at < to) {
            least = least.least(step.free);
        }
        least
    }

    fn covers(&self, need: &C, from: i64, to: i64) -> bool {
        let first = self.place(from);
        self.0[first].free.covers(need)
            && self.0[first + 1..].iter().take_while(|step| step.at < to).all(|step| step.free.covers(need))
    }

    fn earliest(&self, need: &C, span: i64, from: i64, until: i64) -> Earliest {
        let mut start = from;
        let mut steps = self.0[self.place(from)..].iter().peekable();
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

    fn windows(&self, now: i64, span: i64, mut see: impl FnMut(i64, &Amount)) {
        let steps = &self.0[self.place(now)..];
        for (place, step) in steps.iter().enumerate() {
            let at = step.at.max(now);
            let end = at.saturating_add(span);
            let within = steps[place + 1..].iter().take_while(|later| later.at < end);
            see(at, &within.fold(step.free, |least, later| least.least(later.free)).whole());
        }
    }

    fn free_until(&self, need: &C, from: i64) -> i64 {
        let first = self.place(from);
        if !self.0[first].free.covers(need) {
            return from;
        }
        let short = self.0[first + 1..].iter().find(|step| !step.free.covers(need));
        short.map_or(i64::MAX, |step| step.at)
    }

    fn next_change(&self, from: i64) -> Option<i64> {
        self.0.get(self.place(from) + 1).map(|step| step.at)
    }

    fn change(&mut self, from: i64, to: i64, change: impl Fn(C) -> C) {
        if from >= to {
            return;
        }
        let first = self.split(from);
        let end = if to == i64::MAX { self.0.len() } else { self.split(to) };
        for step in &mut self.0[first..end] {
            step.free = change(step.free);
        }
        self.join(end);
        self.join(first);
    }

    /// Makes a step begin at `at`; answers its place.
    fn split(&mut self, at: i64) -> usize {
        let place = self.place(at);
        if self.0[place].at == at {
            return place;
        }
        let free = self.0[place].free;
        self.0.insert(place + 1, Step { at, free });
        place + 1
    }

    /// Removes the step at a place if nothing changes there.
    fn join(&mut self, place: usize) {
        if place > 0 && place < self.0.len() && self.0[place].free == self.0[place - 1].free {
            self.0.remove(place);
        }
    }
}

impl Line<Amount> {
    fn earliest_cut(
        &self,
        (need, shape, gpus): (&Amount, GpuProfile, SliceSet),
        span: i64,
        from: i64,
        until: i64,
    ) -> Earliest {
        let steps = &self.0[self.place(from)..];
        let mut first = 0;
        'starts: while let Some(step) = steps.get(first) {
            let at = step.at.max(from);
            if at > until {
                return Earliest { at, exact: false };
            }
            let end = at.saturating_add(span);
            let mut starts = SliceSet::ALL;
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
                starts = starts & shape.windows(step.free.slices & gpus);
                if starts.is_empty() {
                    first += 1;
                    continue 'starts;
                }
            }
            return Earliest { at, exact: true };
        }
        Earliest { at: i64::MAX, exact: true }
    }

    fn slices_all(&self, from: i64, to: i64, holds: impl Fn(i64, SliceSet) -> bool) -> bool {
        let steps = self.0[self.place(from)..].iter().enumerate();
        let mut within = steps.take_while(|(place, step)| *place == 0 || step.at < to);
        within.all(|(_, step)| holds(step.at.max(from), step.free.slices))
    }

    fn slices_ever_free(&self, from: i64) -> SliceSet {
        self.0[self.place(from)..].iter().fold(SliceSet::ALL, |all, step| all & step.free.slices)
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
            let Kept::Cpus(line) = &profile.0 else { panic!("there is nothing but CPUs: {profile:?}") };
            assert!(line.0.windows(2).all(|pair| pair[0].free != pair[1].free), "{profile:?}");
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

    #[test]
    fn cpus_alone_are_kept_as_whole_amounts_are() {
        let mut seed = 5_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        let whole = |free: &Profile| match &free.0 {
            Kept::Cpus(line) => line.0.iter().map(|step| (step.at, step.free.whole())).collect(),
            Kept::Plain(line) => line.0.iter().map(|step| (step.at, step.free.whole())).collect(),
            Kept::All(line) => line.0.iter().map(|step| (step.at, step.free)).collect::<Vec<_>>(),
        };
        for round in 0..500 {
            let mut plain = Profile::new(cpus(64));
            let mut all = Profile(Kept::All(Line(vec![Step { at: i64::MIN, free: cpus(64) }])));
            for _ in 0..12 {
                let memory = u64::from(round % 3 == 0 && below(4) == 0) * 7;
                let amount = Amount { memory, ..cpus(below(30) as u32) };
                let (from, to) = (below(50) as i64, below(90) as i64);
                let give = below(3) == 0;
                for profile in [&mut plain, &mut all] {
                    if give { profile.give(amount, from, to) } else { profile.take(amount, from, to) }
                }
                assert_eq!(whole(&plain), whole(&all));
                let (need, span, at) =
                    (Amount { memory, ..cpus(below(40) as u32) }, below(30) as i64, below(60) as i64);
                assert_eq!(plain.covers(&need, at, at + span), all.covers(&need, at, at + span));
                assert_eq!(plain.free_until(&need, at), all.free_until(&need, at));
                let (one, other) = (plain.earliest(&need, span, at, 40), all.earliest(&need, span, at, 40));
                // Where there is no memory at all, never is known at once.
                assert!(
                    one == other || (memory > 0 && one.at == i64::MAX && !other.exact),
                    "{one:?} {other:?}"
                );
                assert_eq!(plain.over(at, at + span), all.over(at, at + span));
                assert_eq!((plain.len(), plain.next_change(at)), (all.len(), all.next_change(at)));
            }
        }
    }

    #[test]
    fn ordinary_nodes_are_kept_as_whole_amounts_are() {
        let mut seed = 3_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        let mut short = 0_u32;
        for round in 0..600 {
            // Some come near to what can be told in short, and some of those go beyond it.
            let large = round % 4 == 0;
            let memory = if large { u64::from(u32::MAX) - 50 } else { 500 };
            let total = Amount { memory, gres: [8, 0, 1, 0, 0, 0], ..cpus(64) };
            let mut plain = Profile::new(total);
            assert!(matches!(plain.0, Kept::Plain(_)), "{plain:?}");
            let mut all = Profile(Kept::All(Line(vec![Step { at: i64::MIN, free: total }])));
            for _ in 0..12 {
                let gres = [below(5) as u32, 0, below(2) as u32, 0, 0, u32::from(below(40) == 0)];
                let slices = SliceSet::of(below(16) as u32, u8::from(below(60) == 0));
                let amount = Amount { memory: below(300), gres, slices, ..cpus(below(30) as u32) };
                let (from, to) = (below(50) as i64, below(90) as i64);
                let give = below(3) == 0;
                for profile in [&mut plain, &mut all] {
                    if give { profile.give(amount, from, to) } else { profile.take(amount, from, to) }
                }
                let Kept::All(line) = &all.0 else { panic!("it stays what it is: {all:?}") };
                match &plain.0 {
                    Kept::Cpus(_) => panic!("it has memory: {plain:?}"),
                    Kept::Plain(kept) => assert_eq!(&kept.whole(), line),
                    Kept::All(kept) => assert_eq!(kept, line),
                }
                let gres = [below(9) as u32, 0, below(3) as u32, 0, 0, u32::from(below(9) == 0)];
                let need = Amount { memory: below(400), gres, ..cpus(below(60) as u32) };
                let (span, at) = (below(30) as i64, below(60) as i64);
                assert_eq!(plain.covers(&need, at, at + span), all.covers(&need, at, at + span));
                assert_eq!(plain.free_until(&need, at), all.free_until(&need, at));
                assert_eq!(plain.over(at, at + span), all.over(at, at + span));
                assert_eq!(plain.at_until(at), all.at_until(at));
                let (one, other) = (plain.earliest(&need, span, at, 40), all.earliest(&need, span, at, 40));
                assert!(one == other || (one.at == i64::MAX && !other.exact), "{one:?} {other:?}");
            }
            short += u32::from(matches!(plain.0, Kept::Plain(_)));
        }
        assert!((100..500).contains(&short), "both kinds were met: {short}");
    }
}
