//! Churn: slices come and go, a rejected request is lost.

use scheduler_core::gpu::geometry::{MEMORY_SLICES, Profile};

use super::stream::{Contender, Percents, Place, Placer, below};
use crate::random::SplitMix64;

/// Steps of a run, one request each.
pub const STEPS: usize = 20_000;
/// The first step that counts.
pub const COUNTED_FROM: usize = 5_000;

/// What one seed gave: ratios from [`COUNTED_FROM`] on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Accepted share of the requests.
    pub accept: f64,
    /// Accepted share of the requested memory.
    pub mem_accept: f64,
    /// Mean share of the memory slices that were taken.
    pub mem_used: f64,
    /// Accepted share of the 7g requests; NaN if there was none.
    pub accept_7g: f64,
}

/// Upper end of the uniform durations, in steps, so that the demand is `load` times the memory.
#[must_use]
pub fn longest(gpus: usize, percents: &Percents, load: f64) -> u64 {
    let memory = f64::from(MEMORY_SLICES) * gpus as f64;
    let steps = 2.0 * load * memory / percents.mean_memory() - 1.0;
    // Half to even, as the reference rounds. At least one step, or there is nothing to draw.
    (steps.round_ties_even() as u64).max(1)
}

/// One run.
#[must_use]
pub fn run(contender: Contender, gpus: usize, percents: &Percents, load: f64, seed: u64) -> Outcome {
    let longest = longest(gpus, percents, load);
    let mut placer = Placer::new(contender, gpus, percents, seed);
    let mut source = SplitMix64(seed);
    let mut leaving: Vec<Vec<Place>> = vec![Vec::new(); STEPS + 1];
    let (mut asked, mut accepted) = ([0_u64; 6], [0_u64; 6]);
    let (mut taken, mut taken_sum) = (0_u64, 0_u64);
    for step in 0..STEPS {
        for place in std::mem::take(&mut leaving[step]) {
            taken -= u64::from(place.1.profile.memory_slices());
            placer.leave(place);
        }
        let profile = percents.draw(&mut source);
        let stays = 1 + below(&mut source, longest);
        let place = placer.place(profile);
        if let Some(place) = place {
            taken += u64::from(profile.memory_slices());
            let end = usize::try_from(stays).map_or(STEPS, |stays| (step + stays).min(STEPS));
            leaving[end].push(place);
        }
        if step >= COUNTED_FROM {
            asked[profile.index()] += 1;
            accepted[profile.index()] += u64::from(place.is_some());
            taken_sum += taken;
        }
    }
    let memory = |counts: &[u64; 6]| -> u64 {
        Profile::ALL.iter().map(|p| counts[p.index()] * u64::from(p.memory_slices())).sum()
    };
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    let seven = Profile::SevenG.index();
    Outcome {
        accept: share(accepted.iter().sum(), asked.iter().sum()),
        mem_accept: share(memory(&accepted), memory(&asked)),
        mem_used: share(taken_sum, (STEPS - COUNTED_FROM) as u64 * u64::from(MEMORY_SLICES) * gpus as u64),
        accept_7g: share(accepted[seven], asked[seven]),
    }
}
