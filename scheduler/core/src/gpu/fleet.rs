//! Many GPUs and one rule: which GPU, which start, in a time that does not grow with their number.
//!
//! GPUs lie in buckets by occupancy, each bucket a bit set with a summary; per profile a bit map says which
//! buckets are not empty, in the rule's order of preference. A choice is "first bit of the map, first bit of
//! the bucket", or the winner of the duels among the classes that have a GPU; a change moves one GPU between two buckets.

use std::sync::Arc;

use super::geometry::{Occupancy, Placement, Profile};
use super::policy::{Choice, Order, Rule};
use super::room::{CLASSES, Class, Classes};
use super::value::{Duels, Endgame, LAST};

/// GPUs with their occupancy, arranged for one rule.
#[derive(Clone, Debug)]
pub struct Fleet {
    rule: Arc<Rule>,
    taken: Vec<Occupancy>,
    buckets: Vec<Bucket>,
    /// A bit for each state that has a GPU.
    states: [u64; 4],
    /// How many GPUs are in each class of states.
    counts: [u32; CLASSES],
    /// The classes that have one.
    classes: Classes,
    /// Where the rule ranks states, per profile: a bit for each state with room that has a GPU, by rank.
    present: [[u64; 4]; 6],
}

/// The GPUs in one state.
#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Empty until the first GPU comes.
    words: Vec<u64>,
    /// Bit `i` is set where `words[i]` is not zero.
    summary: Vec<u64>,
    len: usize,
}

impl Bucket {
    fn insert(&mut self, gpu: usize, gpus: usize) {
        if self.words.is_empty() {
            self.words = vec![0; gpus.div_ceil(64)];
            self.summary = vec![0; self.words.len().div_ceil(64)];
        }
        self.words[gpu / 64] |= 1 << (gpu % 64);
        self.summary[gpu / 4096] |= 1 << (gpu / 64 % 64);
        self.len += 1;
    }

    fn remove(&mut self, gpu: usize) {
        self.words[gpu / 64] &= !(1 << (gpu % 64));
        if self.words[gpu / 64] == 0 {
            self.summary[gpu / 4096] &= !(1 << (gpu / 64 % 64));
        }
        self.len -= 1;
    }

    /// The first GPU from `from` on. Cost: that of [`Self::first`], unless many follow in one word.
    fn next(&self, from: usize) -> Option<usize> {
        let rest = self.words.get(from / 64)? >> (from % 64);
        if rest != 0 {
            return Some(from + rest.trailing_zeros() as usize);
        }
        let after = from / 64 + 1;
        let mut summary = self.summary.get(after / 64)? & (u64::MAX << (after % 64));
        let mut at = after / 64;
        while summary == 0 {
            at += 1;
            summary = *self.summary.get(at)?;
        }
        let word = at * 64 + summary.trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    /// Its GPUs, ascending.
    fn all(&self) -> impl Iterator<Item = usize> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let gpu = self.next(from)?;
            from = gpu + 1;
            Some(gpu)
        })
    }

    fn first(&self) -> Option<usize> {
        let (at, &summary) = self.summary.iter().enumerate().find(|(_, word)| **word != 0)?;
        let word = at * 64 + summary.trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }
}

impl Fleet {
    /// `gpus` empty GPUs.
    #[must_use]
    pub fn new(gpus: usize, rule: impl Into<Arc<Rule>>) -> Self {
        let taken = vec![Occupancy::EMPTY; gpus];
        let mut buckets = vec![Bucket::default(); 256];
        for gpu in 0..gpus {
            buckets[0].insert(gpu, gpus);
        }
        let mut fleet = Self {
            rule: rule.into(),
            taken,
            buckets,
            states: [0; 4],
            counts: [0; CLASSES],
            classes: Classes::default(),
            present: [[0; 4]; 6],
        };
        let empty = Class::of(Occupancy::EMPTY);
        fleet.counts[usize::from(empty.0)] = u32::try_from(gpus).expect("GPUs are counted in 32 bits");
        if gpus > 0 {
            fleet.classes.insert(empty);
        }
        fleet.derive_present();
        fleet
    }

    /// How many GPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether there is no GPU.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The rule that it is arranged for.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The occupancy of each GPU.
    #[must_use]
    pub fn taken(&self) -> &[Occupancy] {
        &self.taken
    }

    /// Goes on with another rule. Cost: that of the 256 states, not of the GPUs.
    pub fn set_rule(&mut self, rule: impl Into<Arc<Rule>>) {
        self.rule = rule.into();
        self.derive_present();
    }

    /// The place that the rule prefers; `None` if the profile fits nowhere. Changes nothing.
    ///
    /// [`Policy::Random`](super::policy::Policy::Random) is answered as first-fit: its caller draws a number
    /// below [`Fleet::places`] and asks [`Fleet::place`].
    #[must_use]
    pub fn choose(&self, profile: Profile) -> Option<(usize, u8)> {
        let gpu = match self.rule.choice() {
            Choice::Ranked(orders) => {
                self.first_ranked(&orders[profile.index()], &self.present[profile.index()])
            }
            Choice::Duels(both) => {
                if both.1.knows(profile)
                    && let Some(last) = self.last(&both.1)
                {
                    return self.choose_last(&both.1, &last, profile);
                }
                self.first_in(both.0.winner(profile, self.classes)?)
            }
        }?;
        self.rule.start(self.taken[gpu], profile).map(|start| (gpu, start))
    }

    /// The GPUs that have room for anything that is asked for; `None`: too many for an endgame.
    fn last(&self, endgame: &Endgame) -> Option<Vec<usize>> {
        let alive = self.classes.and(endgame.alive);
        let mut count = 0;
        for class in alive {
            count += self.counts[usize::from(class.0)] as usize;
            if count > LAST {
                return None;
            }
        }
        let mut last: Vec<usize> = alive
            .flat_map(|class| self.states_of(class))
            .flat_map(|state| self.buckets[state].all())
            .collect();
        last.sort_unstable();
        Some(last)
    }

    fn choose_last(&self, endgame: &Endgame, gpus: &[usize], profile: Profile) -> Option<(usize, u8)> {
        let mut taken = [Occupancy(u8::MAX); LAST];
        taken.iter_mut().zip(gpus).for_each(|(taken, &gpu)| *taken = self.taken[gpu]);
        let (at, start) = endgame.choose(&taken[..gpus.len()], profile)?;
        Some((gpus[at], start))
    }

    /// The states of a class that have a GPU, ascending.
    fn states_of(&self, class: Class) -> impl Iterator<Item = usize> {
        let words: [u64; 4] = std::array::from_fn(|word| self.states[word] & class.members()[word]);
        let mut at = 0;
        std::iter::from_fn(move || {
            let state = next_bit(&words, at)?;
            at = state + 1;
            Some(state)
        })
    }

    /// The lowest GPU of a class.
    fn first_in(&self, class: Class) -> Option<usize> {
        self.states_of(class).filter_map(|state| self.buckets[state].first()).min()
    }

    /// The lowest GPU of the best rank that has one.
    fn first_ranked(&self, order: &Order, present: &[u64; 4]) -> Option<usize> {
        let best = next_bit(present, 0)?;
        let first = |rank: usize| self.buckets[usize::from(order.states[rank])].first();
        let mut gpu = first(best)?;
        // States that are preferred alike lie side by side, and the lowest GPU of all of them wins.
        let mut rank = best;
        while let Some(next) = next_bit(present, rank + 1) {
            if order.alike[next] != order.alike[best] {
                break;
            }
            gpu = first(next).map_or(gpu, |other| other.min(gpu));
            rank = next;
        }
        Some(gpu)
    }

    /// The `most` GPUs that the rule prefers as some of many (see [`Rule::choose_of_many`]), the best first, among
    /// those whose bit is set in `eligible` (64 to a word) and that `fits` accepts.
    ///
    /// Cost: a pass over the words of each state that has a GPU, and a call of `fits` for each GPU that
    /// would have been preferred to the last one of the answer.
    #[must_use]
    pub fn best_among(
        &self,
        profile: Profile,
        eligible: &[u64],
        most: usize,
        mut fits: impl FnMut(usize) -> bool,
    ) -> Vec<usize> {
        let mut best = Vec::with_capacity(most);
        let into = (&mut best, most);
        match self.rule.choice() {
            Choice::Ranked(orders) => {
                self.ranked_among(&orders[profile.index()], profile, eligible, &mut fits, into);
            }
            Choice::Duels(both) => self.duel_among(&both.0, profile, eligible, &mut fits, into),
        }
        best
    }

    /// The GPUs with room for anything that is asked for, among those whose bit is set in `eligible` and that `fits`
    /// accepts; `None`: too many for an endgame, or the rule knows none for this profile.
    #[must_use]
    pub fn last_among(
        &self,
        profile: Profile,
        eligible: &[u64],
        mut fits: impl FnMut(usize) -> bool,
    ) -> Option<Vec<usize>> {
        let Choice::Duels(both) = self.rule.choice() else { return None };
        let endgame = &both.1;
        if !endgame.knows(profile) {
            return None;
        }
        let mut last = Vec::with_capacity(LAST + 1);
        for class in self.classes.and(endgame.alive) {
            let states: Vec<u8> = self.narrow_states_of(class);
            self.all_of(&states, eligible, &mut fits, (&mut last, LAST + 1));
        }
        last.sort_unstable();
        (last.len() <= LAST).then_some(last)
    }

    fn ranked_among(
        &self,
        order: &Order,
        profile: Profile,
        eligible: &[u64],
        fits: &mut impl FnMut(usize) -> bool,
        (best, most): (&mut Vec<usize>, usize),
    ) {
        let mut after = 0;
        while let Some(rank) = next_bit(&self.present[profile.index()], after) {
            let mut last = rank;
            while order.alike[last + 1] == order.alike[rank] {
                last += 1;
            }
            after = last + 1;
            self.all_of(&order.states[rank..=last], eligible, fits, (best, most));
            if best.len() == most {
                break;
            }
        }
    }

    fn duel_among(
        &self,
        duels: &Duels,
        profile: Profile,
        eligible: &[u64],
        fits: &mut impl FnMut(usize) -> bool,
        (best, most): (&mut Vec<usize>, usize),
    ) {
        let mut present = Classes::default();
        let has_some = |state: usize| {
            let mut words = self.buckets[state].words.iter().zip(eligible);
            words.any(|(bucket, allowed)| bucket & allowed != 0)
        };
        for class in self.classes.filter(|class| !class.after(profile).is_empty()) {
            if self.states_of(class).any(has_some) {
                present.insert(class);
            }
        }
        while let Some(winner) = duels.winner(profile, present) {
            self.all_of(&self.narrow_states_of(winner), eligible, fits, (best, most));
            if best.len() == most {
                break;
            }
            present.remove(winner);
        }
    }

    /// As [`Self::states_of`], to be gone through more than once.
    fn narrow_states_of(&self, class: Class) -> Vec<u8> {
        #[allow(clippy::cast_possible_truncation, reason = "a state is below 256")]
        let states = self.states_of(class).map(|state| state as u8).collect();
        states
    }

    /// Adds the GPUs in any of the states that are eligible and fit, ascending, until there are `most`.
    fn all_of(
        &self,
        states: &[u8],
        eligible: &[u64],
        fits: &mut impl FnMut(usize) -> bool,
        (found, most): (&mut Vec<usize>, usize),
    ) {
        for (at, &allowed) in eligible.iter().enumerate().filter(|(_, word)| **word != 0) {
            let word = |state: &u8| self.buckets[usize::from(*state)].words.get(at).copied().unwrap_or(0);
            let mut candidates = states.iter().map(word).fold(0, |all, word| all | word) & allowed;
            while candidates != 0 {
                let gpu = at * 64 + candidates.trailing_zeros() as usize;
                if found.len() == most {
                    return;
                }
                if fits(gpu) {
                    found.push(gpu);
                }
                candidates &= candidates - 1;
            }
        }
    }

    /// How many places there are for the profile, over all GPUs.
    #[must_use]
    pub fn places(&self, profile: Profile) -> u64 {
        let at = |state: u8| {
            u64::from(Occupancy(state).room(profile)) * self.buckets[usize::from(state)].len as u64
        };
        (0..=u8::MAX).map(at).sum()
    }

    /// Place number `index` of [`Fleet::places`], in order of GPU, then start. Cost: the number of GPUs.
    #[must_use]
    pub fn place(&self, profile: Profile, mut index: u64) -> Option<(usize, u8)> {
        for (gpu, taken) in self.taken.iter().enumerate() {
            let room = u64::from(taken.room(profile));
            if index < room {
                let free = taken.free_starts(profile);
                let mut starts = (0..8).filter(|start| free >> start & 1 == 1);
                return starts.nth(usize::try_from(index).ok()?).map(|start| (gpu, start));
            }
            index -= room;
        }
        None
    }

    /// Takes the placement's slices, which are free, on a GPU.
    pub fn add(&mut self, gpu: usize, placement: Placement) {
        debug_assert!(self.taken[gpu].0 & placement.mask() == 0, "slices are given once");
        self.move_to(gpu, self.taken[gpu].with(placement));
    }

    /// Frees the placement's slices.
    pub fn remove(&mut self, gpu: usize, placement: Placement) {
        debug_assert!(self.taken[gpu].0 & placement.mask() == placement.mask(), "slices are freed once");
        self.move_to(gpu, self.taken[gpu].without(placement));
    }

    /// A GPU is in that state now. Cost: two buckets, as for [`Fleet::add`]; nothing where it was in it.
    pub fn set(&mut self, gpu: usize, taken: Occupancy) {
        if self.taken[gpu] != taken {
            self.move_to(gpu, taken);
        }
    }

    fn move_to(&mut self, gpu: usize, taken: Occupancy) {
        let gpus = self.taken.len();
        let before = std::mem::replace(&mut self.taken[gpu], taken);
        let bucket = &mut self.buckets[usize::from(before.0)];
        bucket.remove(gpu);
        if bucket.len == 0 {
            self.mark(before, false);
        }
        let bucket = &mut self.buckets[usize::from(taken.0)];
        bucket.insert(gpu, gpus);
        if bucket.len == 1 {
            self.mark(taken, true);
        }
        let (before, after) = (Class::of(before), Class::of(taken));
        let count = &mut self.counts[usize::from(before.0)];
        *count -= 1;
        if *count == 0 {
            self.classes.remove(before);
        }
        self.counts[usize::from(after.0)] += 1;
        self.classes.insert(after);
    }

    /// A state has GPUs now, or none.
    fn mark(&mut self, state: Occupancy, present: bool) {
        let set = |words: &mut [u64; 4], bit: usize| {
            let word = &mut words[bit / 64];
            *word = *word & !(1 << (bit % 64)) | u64::from(present) << (bit % 64);
        };
        set(&mut self.states, usize::from(state.0));
        if let Choice::Ranked(orders) = self.rule.choice() {
            for profile in Profile::ALL.into_iter().filter(|&profile| state.free_starts(profile) != 0) {
                let rank = orders[profile.index()].rank[usize::from(state.0)];
                set(&mut self.present[profile.index()], usize::from(rank));
            }
        }
    }

    fn derive_present(&mut self) {
        self.present = [[0; 4]; 6];
        for state in 0..=u8::MAX {
            if self.buckets[usize::from(state)].len > 0 {
                self.mark(Occupancy(state), true);
            }
        }
    }
}

/// The lowest set bit at or after `from`.
fn next_bit(words: &[u64; 4], from: usize) -> Option<usize> {
    let mut at = from / 64;
    let mut word = words.get(at)? & (u64::MAX << (from % 64));
    while word == 0 {
        at += 1;
        word = *words.get(at)?;
    }
    Some(at * 64 + word.trailing_zeros() as usize)
}
