//! Exact: what is placed on empty GPUs before the first rejection, as an expectation without sampling.
//!
//! Requests are independent and nothing leaves. The state is the occupancy of each GPU in order (ties go to
//! the lowest GPU, so the order matters); placing only ever adds slices, so values are found from the fullest
//! state down. A GPU has 192 reachable occupancies: three GPUs make 7 million states.

use std::collections::BTreeMap;

use scheduler_core::gpu::geometry::{Occupancy, Profile};
use scheduler_core::gpu::layout::Layout;
use scheduler_core::gpu::policy::{Policy, Rule};

use super::repack::{Counts, counts_fit};
use super::stream::Percents;

/// The largest number of GPUs: beyond, the table would not fit in memory.
pub const MOST_GPUS: usize = 3;

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A production policy that is told the mix.
    Rule(Policy),
    /// The best that any rule can do that knows the mix but not the future.
    OptimalOnline,
    /// A bound for rules that know the future too.
    RepackBound,
}

impl Judged {
    /// By name.
    ///
    /// # Errors
    /// A sentence: the name is unknown, or the policy has no exact figure.
    pub fn named(name: &str) -> Result<Self, String> {
        match (name, Policy::named(name)) {
            ("optimal-online", _) => Ok(Self::OptimalOnline),
            ("repack-bound", _) => Ok(Self::RepackBound),
            (_, Some(Policy::DemandObserved)) => Err(
                "policy \"demand-observed\" has no exact figure: what it does depends on what came before"
                    .into(),
            ),
            (_, Some(policy)) => Ok(Self::Rule(policy)),
            (_, None) => {
                let names = Policy::ALL.map(|(_, name)| name).join(", ");
                Err(format!("no policy \"{name}\" here; there are: {names}, optimal-online, repack-bound"))
            }
        }
    }
}

/// Expected requests, and memory slices, placed before the first rejection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expected {
    /// Requests.
    pub count: f64,
    /// Memory slices.
    pub memory: f64,
}

/// The expectation on `gpus` empty GPUs, at most [`MOST_GPUS`] of them except for the bound.
#[must_use]
pub fn expected(judged: Judged, gpus: usize, percents: &Percents) -> Expected {
    match judged {
        Judged::RepackBound => bound(gpus as u64, percents),
        Judged::OptimalOnline => optimum(&States::new(gpus), percents),
        Judged::Rule(Policy::Random) => random(&States::new(gpus), percents),
        Judged::Rule(policy) => of_rule(&States::new(gpus), &Rule::new(policy, &percents.mix()), percents),
    }
}

/// The joint states of the GPUs, numbered so that placing raises the number.
struct States {
    gpus: usize,
    /// Reachable occupancies of one GPU, ascending.
    single: Vec<Occupancy>,
    /// For each of them and each profile, the occupancies after each placement, as positions in `single`.
    after: Vec<[Vec<usize>; 6]>,
    /// 192 to the power of the GPU's position.
    scale: Vec<usize>,
}

impl States {
    fn new(gpus: usize) -> Self {
        assert!((1..=MOST_GPUS).contains(&gpus), "the caller has checked the number of GPUs");
        let mut single: Vec<Occupancy> = Layout::all().map(Layout::occupancy).collect();
        single.sort_unstable();
        single.dedup();
        let at = |taken: Occupancy| single.binary_search(&taken).expect("placing leads to reachable states");
        let places = |taken: Occupancy, profile: Profile| -> Vec<usize> {
            let free = |start: &&u8| taken.free_starts(profile) >> **start & 1 == 1;
            let after = |start: &u8| at(Occupancy(taken.0 | profile.mask(*start)));
            profile.starts().iter().filter(free).map(after).collect()
        };
        let after = single.iter().map(|&taken| Profile::ALL.map(|profile| places(taken, profile))).collect();
        let scale = (0..gpus).map(|gpu| single.len().pow(gpu as u32)).collect();
        Self { gpus, single, after, scale }
    }

    fn at(&self, taken: Occupancy) -> usize {
        self.single.binary_search(&taken).expect("placing leads to reachable states")
    }

    fn count(&self) -> usize {
        self.single.len().pow(self.gpus as u32)
    }

    /// Calls `value` for each joint state, the fullest first, with the states of the GPUs and the values of
    /// all fuller states; answers the value of the empty state.
    fn descend<V: Copy + Default>(&self, mut value: impl FnMut(usize, &[usize], &[V]) -> V) -> V {
        let mut values = vec![V::default(); self.count()];
        let mut digits = vec![self.single.len() - 1; self.gpus];
        for state in (0..values.len()).rev() {
            values[state] = value(state, &digits, &values);
            for digit in &mut digits {
                if *digit > 0 {
                    *digit -= 1;
                    break;
                }
                *digit = self.single.len() - 1;
            }
        }
        values[0]
    }
}

/// A request's contribution: its share of the stream times (itself + what comes after).
fn gain(percents: &Percents, profile: Profile, then: Expected) -> Expected {
    let share = f64::from(percents.weights()[profile.index()]) / 100.0;
    Expected {
        count: share * (1.0 + then.count),
        memory: share * (f64::from(profile.memory_slices()) + then.memory),
    }
}

fn sum(gains: impl Iterator<Item = Expected>) -> Expected {
    gains.fold(Expected::default(), |all, one| Expected {
        count: all.count + one.count,
        memory: all.memory + one.memory,
    })
}

fn of_rule(states: &States, rule: &Rule, percents: &Percents) -> Expected {
    let mut taken = vec![Occupancy::EMPTY; states.gpus];
    states.descend(|state, digits, values: &[Expected]| {
        taken.iter_mut().zip(digits).for_each(|(taken, &digit)| *taken = states.single[digit]);
        let one = |profile: Profile| {
            let (gpu, start) = rule.choose(&taken, profile)?;
            let after = states.at(Occupancy(taken[gpu].0 | profile.mask(start)));
            let then = values[state + (after - digits[gpu]) * states.scale[gpu]];
            Some(gain(percents, profile, then))
        };
        sum(Profile::ALL.into_iter().filter_map(one))
    })
}

fn random(states: &States, percents: &Percents) -> Expected {
    states.descend(|state, digits, values: &[Expected]| {
        let one = |profile: Profile| {
            let mut places = 0_u32;
            let mut all = Expected::default();
            for (gpu, &digit) in digits.iter().enumerate() {
                for &after in &states.after[digit][profile.index()] {
                    let then = values[state + (after - digit) * states.scale[gpu]];
                    places += 1;
                    all = sum([all, gain(percents, profile, then)].into_iter());
                }
            }
            let mean = |sum: f64| sum / f64::from(places);
            (places > 0).then(|| Expected { count: mean(all.count), memory: mean(all.memory) })
        };
        sum(Profile::ALL.into_iter().filter_map(one))
    })
}

/// The two figures have their own optima, which different choices may reach.
fn optimum(states: &States, percents: &Percents) -> Expected {
    states.descend(|state, digits, values: &[Expected]| {
        let one = |profile: Profile| {
            let options = digits.iter().enumerate().flat_map(|(gpu, &digit)| {
                let after = states.after[digit][profile.index()].iter();
                after.map(move |&after| values[state + (after - digit) * states.scale[gpu]])
            });
            let best = options
                .reduce(|a, b| Expected { count: a.count.max(b.count), memory: a.memory.max(b.memory) })?;
            Some(gain(percents, profile, best))
        };
        sum(Profile::ALL.into_iter().filter_map(one))
    })
}

/// The bound's states are counts of instances, as far as they fit.
fn bound(gpus: u64, percents: &Percents) -> Expected {
    fn value(
        counts: Counts,
        gpus: u64,
        percents: &Percents,
        known: &mut BTreeMap<Counts, Expected>,
    ) -> Expected {
        if let Some(&value) = known.get(&counts) {
            return value;
        }
        let mut all = Expected::default();
        for profile in Profile::ALL {
            let mut more = counts;
            more[profile.index()] += 1;
            if percents.weights()[profile.index()] > 0 && counts_fit(&more, gpus) {
                let then = value(more, gpus, percents, known);
                all = sum([all, gain(percents, profile, then)].into_iter());
            }
        }
        known.insert(counts, all);
        all
    }
    value([0; 6], gpus, percents, &mut BTreeMap::new())
}
