//! GPUs as a request meets them over time, and the rule's choice among such GPUs.
//!
//! The tables of a [`Rule`] compare states. A slice that ends soon beside one that ends late is not the state that
//! is seen now: what a placement does to a GPU is done to everything that the GPU will be while the request runs. So the
//! duel of two GPUs is held at some instants of the run, in the states of then, and what they are worth is added up.
//! Where nothing changes that is the very duel of the tables, and the choice is that of [`Rule::choose`], the endgame
//! included (a test holds the planner to it).
//!
//! Knows instants and states; how they come about is the planner's affair.

use super::geometry::{Occupancy, Profile};
use super::policy::Rule;
use super::slice_set::SliceSet;
use super::value::Duels;

/// At so many instants of a run the states are compared, the first of them its start.
pub const INSTANTS: usize = 4;

/// The instants of a run in `[from, to)`, evenly spread.
#[must_use]
pub fn instants(from: i64, to: i64) -> [i64; INSTANTS] {
    let quarter = to.saturating_sub(from) / INSTANTS as i64;
    std::array::from_fn(|place| from + quarter * place as i64)
}

/// A GPU over the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What is taken at some time of the run: where the request cannot be.
    pub taken: Occupancy,
    /// What is taken at each instant.
    pub later: [Occupancy; INSTANTS],
}

impl Outlook {
    /// Of a GPU on which nothing begins or ends.
    #[must_use]
    pub const fn steady(taken: Occupancy) -> Self {
        Self { taken, later: [taken; INSTANTS] }
    }

    /// Whether nothing is seen to begin or end on it.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.later == [self.taken; INSTANTS]
    }
}

/// The free memory slices of a node over the time of a run.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    /// Free throughout.
    pub window: SliceSet,
    /// Free at each instant.
    pub later: [SliceSet; INSTANTS],
}

impl Slices {
    /// Those of one GPU.
    #[must_use]
    pub fn of(&self, gpu: u32) -> Outlook {
        let taken = |free: SliceSet| Occupancy(!free.on(gpu));
        Outlook { taken: taken(self.window), later: self.later.map(taken) }
    }
}

impl Rule {
    /// As [`Rule::choose`], of GPUs over time: there are no others.
    #[must_use]
    pub fn choose_over_time(&self, gpus: &[Outlook], profile: Profile) -> Option<(usize, u8)> {
        if gpus.iter().all(Outlook::is_steady) {
            let taken: Vec<Occupancy> = gpus.iter().map(|gpu| gpu.taken).collect();
            return self.choose(&taken, profile);
        }
        self.choose_of_many_over_time(gpus, profile)
    }

    /// The same where there are other GPUs, or something ends on one of them. A rule that does not hold duels looks at
    /// what is free throughout. Cost: that of N log N duels' look-ups.
    #[must_use]
    pub fn choose_of_many_over_time(&self, gpus: &[Outlook], profile: Profile) -> Option<(usize, u8)> {
        let Some(duels) = self.duels() else {
            let taken: Vec<Occupancy> = gpus.iter().map(|gpu| gpu.taken).collect();
            return self.choose_of_many(&taken, profile);
        };
        let starts = |gpu: &Outlook| self.start(gpu.taken, profile);
        let mut fitting: Vec<(usize, u8)> =
            gpus.iter().enumerate().filter_map(|(place, gpu)| Some((place, starts(gpu)?))).collect();
        // They meet in the order of the tables: those with the most room first, and the last winner stands.
        fitting.sort_by_key(|&(place, _)| (std::cmp::Reverse(Duels::rank(gpus[place].taken)), place));
        let beats = |best: (usize, u8), next: (usize, u8)| {
            let [best_gpu, next_gpu] = [best, next].map(|(place, start)| (&gpus[place], start));
            if duels.prefers(profile, next_gpu, best_gpu) { next } else { best }
        };
        fitting.into_iter().reduce(beats)
    }
}
