//! What free slices are worth to a mix, on one GPU and on two: the tables behind the policy `demand`.
//!
//! Requests come one by one, drawn from the mix. A GPU, or a pair of them, takes each where it is best for
//! what follows; a request that fits nowhere is taken elsewhere with probability `passed`, and otherwise ends
//! the game. The value of a state is the reward expected until then. Among GPUs a request of `m` memory slices
//! counts `m` to a power above one: large slices are harder to place, so room for them is worth more than its size.
//!
//! One GPU's values choose the start. Two GPUs' values settle a *duel*: would the mix rather have the request
//! on this GPU or on that one? The winner of all duels among the states present gets it, so the rule is the
//! same for two GPUs and for ten thousand. The values of a pair hold what a sum over GPUs cannot: that the
//! second half-empty GPU is worth less than the first.
//!
//! Parameters were chosen on the benchmark of `docs/architecture/gpu.md`, where their effect is listed.

use super::geometry::{Occupancy, Profile};
use super::layout::Layout;
use super::mix::Mix;

/// Chance that a request which does not fit is taken elsewhere, when a start is chosen.
const START_PASSED: f64 = 0.25;
/// The same when two GPUs are compared. Close to one: a fleet is seldom full for everyone.
const DUEL_PASSED: f64 = 0.8;
/// Values closer than this are the same: rounding must not decide.
const SAME: f64 = 1e-9;

/// Reward of a request when a start is chosen: its memory, so that a lone GPU is filled as well as can be.
fn start_reward(profile: Profile) -> f64 {
    f64::from(profile.memory_slices())
}

/// Reward of a request when GPUs are compared: memory to the power 3/2, by exact operations only.
fn duel_reward(profile: Profile) -> f64 {
    let memory = f64::from(profile.memory_slices());
    memory * memory.sqrt()
}

/// Each profile's share of the requests.
fn shares(mix: &Mix) -> [f64; 6] {
    let sum: f64 = mix.weights().iter().map(|&weight| f64::from(weight)).sum();
    mix.weights().map(|weight| f64::from(weight) / sum)
}

/// The value of each occupancy of a single GPU.
pub(super) fn single(mix: &Mix) -> [f64; 256] {
    let shares = shares(mix);
    let mut values = [0.0; 256];
    // Placing only adds slices: from the fullest state down, what follows is known.
    for taken in (0..=u8::MAX).rev() {
        let (mut gained, mut unfit) = (0.0, 0.0);
        for profile in Profile::ALL {
            let share = shares[profile.index()];
            let free = Occupancy(taken).free_starts(profile);
            let after = starts(free).map(|start| values[usize::from(taken | profile.mask(start))]);
            match after.reduce(f64::max) {
                Some(best) => gained += share * (start_reward(profile) + best),
                None => unfit += share,
            }
        }
        values[usize::from(taken)] = worth(gained, unfit, START_PASSED);
    }
    values
}

/// What a state is worth where requests gain `gained` and a share `unfit` of them finds no room.
fn worth(gained: f64, unfit: f64, passed: f64) -> f64 {
    // A state in which nothing that is asked for fits would divide by little; it is worth nothing.
    if gained == 0.0 { 0.0 } else { gained / (1.0 - passed * unfit) }
}

/// The starts whose bit is set, ascending.
fn starts(bits: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |start| bits >> start & 1 == 1)
}

/// The values of pairs of GPUs, by reachable occupancy.
struct Pairs {
    states: Vec<Occupancy>,
    /// Position of an occupancy in `states`.
    position: [usize; 256],
    values: Vec<f64>,
}

impl Pairs {
    fn new(mix: &Mix) -> Self {
        let mut states: Vec<Occupancy> = Layout::all().map(Layout::occupancy).collect();
        states.sort_unstable();
        states.dedup();
        let mut position = [usize::MAX; 256];
        states.iter().enumerate().for_each(|(at, taken)| position[usize::from(taken.0)] = at);
        let count = states.len();
        let mut pairs = Self { states, position, values: vec![0.0; count * count] };
        let after = pairs.after();
        let asked: Vec<(usize, f64, f64)> = Profile::ALL
            .iter()
            .map(|&profile| (profile.index(), shares(mix)[profile.index()], duel_reward(profile)))
            .filter(|(_, share, _)| *share > 0.0)
            .collect();
        for a in (0..count).rev() {
            for b in (a..count).rev() {
                let value = pairs.value(a, b, &asked, &after);
                pairs.values[a * count + b] = value;
                pairs.values[b * count + a] = value;
            }
        }
        pairs
    }

    /// For each state and profile, the states after each placement.
    fn after(&self) -> Vec<[Vec<usize>; 6]> {
        let of = |taken: Occupancy| {
            Profile::ALL.map(|profile| {
                let to = |start| self.position[usize::from(taken.0 | profile.mask(start))];
                starts(taken.free_starts(profile)).map(to).collect()
            })
        };
        self.states.iter().map(|&taken| of(taken)).collect()
    }

    fn value(&self, a: usize, b: usize, asked: &[(usize, f64, f64)], after: &[[Vec<usize>; 6]]) -> f64 {
        let count = self.states.len();
        let (mut gained, mut unfit) = (0.0, 0.0);
        for &(profile, share, reward) in asked {
            let on_a = after[a][profile].iter().map(|&to| self.values[to * count + b]);
            let on_b = after[b][profile].iter().map(|&to| self.values[a * count + to]);
            match on_a.chain(on_b).reduce(f64::max) {
                Some(best) => gained += share * (reward + best),
                None => unfit += share,
            }
        }
        worth(gained, unfit, DUEL_PASSED)
    }

    fn of(&self, a: u8, b: u8) -> f64 {
        self.values[self.position[usize::from(a)] * self.states.len() + self.position[usize::from(b)]]
    }
}

/// Who wins each duel: for each profile and state, the states that are preferred to it, as bits.
#[derive(Clone, Debug)]
pub(super) struct Duels(Vec<[[u64; 4]; 256]>);

impl Duels {
    /// Settles all duels, each GPU placing at the start that `start` gives for its state.
    pub(super) fn new(mix: &Mix, start: impl Fn(Profile, Occupancy) -> Option<u8>) -> Self {
        let pairs = Pairs::new(mix);
        let one = |profile: Profile| {
            let places: Vec<(Occupancy, u8)> = pairs
                .states
                .iter()
                .filter_map(|&taken| start(profile, taken).map(|start| (taken, start)))
                .collect();
            let mut winners = [[0; 4]; 256];
            for &loser in &places {
                for &winner in &places {
                    if winner.0 != loser.0 && is_preferred(&pairs, profile, winner, loser) {
                        let bit = usize::from(winner.0.0);
                        winners[usize::from(loser.0.0)][bit / 64] |= 1 << (bit % 64);
                    }
                }
            }
            winners
        };
        Self(Profile::ALL.iter().map(|&profile| one(profile)).collect())
    }

    /// The state that wins among those whose bit is set, on all of which the profile fits.
    ///
    /// Duels need not be transitive; the states meet in ascending order, and the last winner stands. Cost: a
    /// few words for each change of winner.
    pub(super) fn winner(&self, profile: Profile, present: &[u64; 4]) -> Option<Occupancy> {
        let winners = &self.0[profile.index()];
        let mut at = next_bit(present, 0)?;
        let stronger = |at: usize| {
            let among: [u64; 4] = std::array::from_fn(|word| winners[at][word] & present[word]);
            next_bit(&among, at + 1)
        };
        while let Some(next) = stronger(at) {
            at = next;
        }
        u8::try_from(at).ok().map(Occupancy)
    }
}

/// The lowest set bit at or after `from`.
pub(super) fn next_bit(words: &[u64; 4], from: usize) -> Option<usize> {
    let mut at = from / 64;
    let mut word = words.get(at)? & (u64::MAX << (from % 64));
    while word == 0 {
        at += 1;
        word = *words.get(at)?;
    }
    Some(at * 64 + word.trailing_zeros() as usize)
}

/// Whether a request is better placed on `a` than on `b`, when there are both.
fn is_preferred(pairs: &Pairs, profile: Profile, a: (Occupancy, u8), b: (Occupancy, u8)) -> bool {
    let on_a = pairs.of(a.0.0 | profile.mask(a.1), b.0.0);
    let on_b = pairs.of(a.0.0, b.0.0 | profile.mask(b.1));
    if (on_a - on_b).abs() > SAME {
        return on_a > on_b;
    }
    let key = |(taken, start): (Occupancy, u8)| (taken.free_slices(), u8::MAX - start, taken);
    key(a) < key(b)
}
