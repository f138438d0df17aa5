//! Requests and who places them: the random source, the mixes, and a contender with its GPUs.

use scheduler_core::gpu::fleet::Fleet;
use scheduler_core::gpu::geometry::{Placement, Profile};
use scheduler_core::gpu::mix::{Mix, Observed};
use scheduler_core::gpu::policy::{Policy, Rule};

use super::repack::{Counts, counts_fit};
use crate::random::SplitMix64;

/// The benchmark's own way to a number below `n`: the upper half of a draw, scaled.
pub fn below(source: &mut SplitMix64, n: u64) -> u64 {
    ((source.draw() >> 32) * n) >> 32
}

/// The seed of the second generator, which only the policy `random` uses.
#[must_use]
pub const fn second_seed(seed: u64) -> u64 {
    seed.wrapping_add(1_000_003)
}

/// A request mix in percent, in the order of [`Profile::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percents([u32; 6]);

impl Percents {
    const NAMED: [(&'static str, [u32; 6]); 4] = [
        ("uniform", [20, 16, 16, 16, 16, 16]),
        ("skew-small", [30, 25, 20, 10, 10, 5]),
        ("skew-big", [5, 10, 10, 20, 25, 30]),
        ("bimodal", [30, 15, 5, 5, 15, 30]),
    ];

    /// A mix by name, or six percentages that sum to 100.
    ///
    /// # Errors
    /// A sentence that names the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, weights)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*weights));
        }
        let names = || Self::NAMED.map(|(name, _)| name).join(", ");
        let weights: Vec<u32> =
            text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>().ok_or_else(|| {
                format!("mix \"{text}\" is neither one of {} nor six numbers w1,w2,w3,w4,w5,w6", names())
            })?;
        let count = weights.len();
        let weights: [u32; 6] =
            weights.try_into().map_err(|_| format!("mix \"{text}\" has {count} weights instead of 6"))?;
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if sum != 100 {
            return Err(format!("mix \"{text}\" sums to {sum} instead of 100 percent"));
        }
        Ok(Self(weights))
    }

    /// The percentages.
    #[must_use]
    pub const fn weights(&self) -> [u32; 6] {
        self.0
    }

    /// As the core's rules take it.
    ///
    /// # Panics
    /// Never: percentages sum to 100.
    #[must_use]
    pub fn mix(&self) -> Mix {
        Mix::new(self.0).expect("percentages sum to 100")
    }

    /// Mean memory slices of a request.
    #[must_use]
    pub fn mean_memory(&self) -> f64 {
        let sum: u32 = Profile::ALL.iter().map(|p| self.0[p.index()] * p.memory_slices()).sum();
        f64::from(sum) / 100.0
    }

    /// Draws a profile.
    pub fn draw(&self, source: &mut SplitMix64) -> Profile {
        let mut x = u32::try_from(below(source, 100)).expect("below 100");
        for profile in Profile::ALL {
            let weight = self.0[profile.index()];
            if x < weight {
                return profile;
            }
            x -= weight;
        }
        unreachable!("percentages sum to 100")
    }
}

/// Who takes part in the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A production policy.
    Rule(Policy),
    /// The bound that only free migration reaches.
    Repack,
}

impl Contender {
    /// By name.
    ///
    /// # Errors
    /// A sentence with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        if name == "repack" {
            return Ok(Self::Repack);
        }
        Policy::named(name).map(Self::Rule).ok_or_else(|| {
            let names = Policy::ALL.map(|(_, name)| name).join(", ");
            format!("no policy \"{name}\" here; there are: {names}, repack")
        })
    }
}

/// A contender with its GPUs and what it has learned.
#[derive(Debug)]
pub struct Placer {
    hands: Hands,
}

#[derive(Debug)]
enum Hands {
    Rule { fleet: Box<Fleet>, policy: Policy, source: SplitMix64, observed: Observed },
    Repack { counts: Counts, gpus: u64 },
}

/// Where an accepted request lies: GPU and placement; a bound only counts, with GPU 0 and start 0.
pub type Place = (usize, Placement);

impl Placer {
    /// A contender before empty GPUs.
    #[must_use]
    pub fn new(contender: Contender, gpus: usize, percents: &Percents, seed: u64) -> Self {
        let mix = percents.mix();
        let hands = match contender {
            Contender::Repack => Hands::Repack { counts: [0; 6], gpus: gpus as u64 },
            Contender::Rule(policy) => {
                let observed = Observed::new();
                let told = if policy == Policy::DemandObserved { observed.mix() } else { mix };
                let fleet = Box::new(Fleet::new(gpus, Rule::new(policy, &told)));
                Hands::Rule { fleet, policy, source: SplitMix64(second_seed(seed)), observed }
            }
        };
        Self { hands }
    }

    /// Places a request, or rejects it with `None`.
    pub fn place(&mut self, profile: Profile) -> Option<Place> {
        if let Hands::Rule { fleet, policy: policy @ Policy::DemandObserved, observed, .. } = &mut self.hands
            && observed.saw(profile)
        {
            fleet.set_rule(Rule::new(*policy, &observed.mix()));
        }
        self.place_again(profile)
    }

    /// Places a request that is no arrival: it was rejected before, and waited.
    pub fn place_again(&mut self, profile: Profile) -> Option<Place> {
        match &mut self.hands {
            Hands::Repack { counts, gpus } => {
                let mut more = *counts;
                more[profile.index()] += 1;
                counts_fit(&more, *gpus).then(|| *counts = more)?;
                Some((0, Placement { profile, start: 0 }))
            }
            Hands::Rule { fleet, policy, source, .. } => {
                let (gpu, start) = if *policy == Policy::Random {
                    let places = fleet.places(profile);
                    let index = (places > 0).then(|| below(source, places))?;
                    fleet.place(profile, index)?
                } else {
                    fleet.choose(profile)?
                };
                let placement = Placement { profile, start };
                fleet.add(gpu, placement);
                Some((gpu, placement))
            }
        }
    }

    /// A placed request leaves.
    pub fn leave(&mut self, (gpu, placement): Place) {
        match &mut self.hands {
            Hands::Repack { counts, .. } => counts[placement.profile.index()] -= 1,
            Hands::Rule { fleet, .. } => fleet.remove(gpu, placement),
        }
    }

    /// GPUs that are not empty; `None` for a bound, which places nothing.
    #[must_use]
    pub fn gpus_used(&self) -> Option<usize> {
        match &self.hands {
            Hands::Repack { .. } => None,
            Hands::Rule { fleet, .. } => Some(fleet.taken().iter().filter(|taken| taken.0 != 0).count()),
        }
    }
}
