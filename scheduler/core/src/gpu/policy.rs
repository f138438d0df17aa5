//! How to choose among the places where an instance fits: the closed list of policies, and each one's
//! preferences as a table.
//!
//! A [`Rule`] is a policy with the mix it was told, unrolled over the 256 occupancies: for each profile the
//! best start on a GPU in that state, and which of two states is preferred. A choice on one GPU is then
//! one look-up, and a choice among many GPUs is [`Fleet`](super::fleet::Fleet)'s. A rule depends on states
//! alone: it has no memory, and does not know how many GPUs there are.

use super::geometry::{Occupancy, Profile};
use super::mix::Mix;
use super::room::{Class, Classes};
use super::value::{Duels, Endgame, LAST};

/// A placement policy. The smallest key wins; ties go to the lowest GPU, then (or before that, where "last" is
/// said) to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Lowest GPU, lowest start.
    FirstFit,
    /// Lowest GPU, highest start.
    FirstFitLast,
    /// Fewest free memory slices, lowest start.
    BestFit,
    /// Fewest free memory slices, then highest start.
    BestFitLast,
    /// Most free memory slices, lowest start.
    WorstFit,
    /// Any place where it fits, each as likely.
    Random,
    /// Smallest growth of the fragmentation score: windows partly or wholly taken, times their memory, over
    /// the profiles that the free slices would hold (arXiv 2511.18906).
    Frag,
    /// The same; then fewest free slices, then highest start.
    FragBestFit,
    /// Fewest free windows lost, weighted by the mix; then fewest free slices, then highest start.
    Windows,
    /// Smallest loss of room, weighted by mix and squared memory; then fewest free slices, then highest start.
    Capacity,
    /// Ours: the GPU that wins its duels, the start whose GPU is worth most afterwards, and of the last three GPUs the
    /// best start of all: by what the mix is expected to get out of one, two and three GPUs.
    Demand,
    /// The same, with the mix learned from arrivals ([`Observed`](super::mix::Observed)).
    DemandObserved,
}

impl Policy {
    /// All, with the names that options take.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::FirstFit, "first-fit"),
        (Self::FirstFitLast, "first-fit-last"),
        (Self::BestFit, "best-fit"),
        (Self::BestFitLast, "best-fit-last"),
        (Self::WorstFit, "worst-fit"),
        (Self::Random, "random"),
        (Self::Frag, "frag"),
        (Self::FragBestFit, "frag-bf"),
        (Self::Windows, "windows"),
        (Self::Capacity, "capacity"),
        (Self::Demand, "demand"),
        (Self::DemandObserved, "demand-observed"),
    ];

    /// The policy of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|&(policy, _)| policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }
}

/// What a state is worth to a profile: smaller is better, compared in order.
type Key = [i64; 3];

/// No start: the profile does not fit.
const NOWHERE: u8 = u8::MAX;

/// A policy with its mix, as tables.
#[derive(Clone, Debug)]
pub struct Rule {
    policy: Policy,
    /// The best start of a profile on a GPU in a state, or `NOWHERE`.
    start: [[u8; 256]; 6],
    choice: Choice,
}

/// How GPUs in different states compare.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// By a key of the state, per profile.
    Ranked(Box<[Order; 6]>),
    /// In pairs; the last ones all together.
    Duels(Box<(Duels, Endgame)>),
}

/// The states in which a profile fits, from the most to the least preferred.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The states by rank: 254 at most, since slice 7 alone is no start.
    pub(super) states: [u8; 256],
    /// The rank of each state; `NOWHERE` where the profile does not fit.
    pub(super) rank: [u8; 256],
    /// For each rank the first one that is preferred exactly as much.
    pub(super) alike: [u8; 256],
}

impl Rule {
    /// The tables of a policy. Cost: some ten microseconds; of [`Policy::Demand`] about a millisecond.
    #[must_use]
    pub fn new(policy: Policy, mix: &Mix) -> Self {
        match policy {
            Policy::Demand | Policy::DemandObserved => Self::of_values(policy, mix),
            _ => Self::of_keys(policy, mix),
        }
    }

    /// The policy it stands for.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Where to put the profile on a GPU in that state; `None` if it does not fit. One look-up.
    #[must_use]
    pub fn start(&self, taken: Occupancy, profile: Profile) -> Option<u8> {
        let start = self.start[profile.index()][usize::from(taken.0)];
        (start != NOWHERE).then_some(start)
    }

    /// Which of these GPUs to take, by position, and the start there; `None` if the profile fits on none. There are no
    /// others.
    ///
    /// [`Policy::Random`] is answered as first-fit: its caller draws. Cost: linear; for many GPUs see
    /// [`Fleet`](super::fleet::Fleet).
    #[must_use]
    pub fn choose(&self, gpus: &[Occupancy], profile: Profile) -> Option<(usize, u8)> {
        if let Choice::Duels(both) = &self.choice {
            let endgame = &both.1;
            let mut last = [(0, Occupancy(u8::MAX)); LAST];
            let alive = |(_, taken): &(usize, &Occupancy)| endgame.alive.contains(Class::of(**taken));
            let mut count = 0;
            for (gpu, &taken) in gpus.iter().enumerate().filter(alive) {
                if count == LAST {
                    return self.choose_of_many(gpus, profile);
                }
                last[count] = (gpu, taken);
                count += 1;
            }
            if endgame.knows(profile) {
                let (at, start) = endgame.choose(&last.map(|(_, taken)| taken)[..count], profile)?;
                return Some((last[at].0, start));
            }
        }
        self.choose_of_many(gpus, profile)
    }

    /// The same where there are other GPUs with room that the request cannot have.
    #[must_use]
    pub fn choose_of_many(&self, gpus: &[Occupancy], profile: Profile) -> Option<(usize, u8)> {
        let gpu = match &self.choice {
            Choice::Ranked(orders) => {
                let order = &orders[profile.index()];
                let fitting =
                    gpus.iter().enumerate().filter(|(_, taken)| self.start(**taken, profile).is_some());
                fitting.min_by_key(|(gpu, taken)| (order.first_alike(**taken), *gpu)).map(|(gpu, _)| gpu)?
            }
            Choice::Duels(both) => {
                let mut present = Classes::default();
                gpus.iter().for_each(|&taken| present.insert(Class::of(taken)));
                let winner = both.0.winner(profile, present)?;
                gpus.iter().position(|&taken| Class::of(taken) == winner)?
            }
        };
        self.start(gpus[gpu], profile).map(|start| (gpu, start))
    }

    /// Who is preferred to whom, where that is settled in pairs.
    pub(super) fn duels(&self) -> Option<&Duels> {
        match &self.choice {
            Choice::Ranked(_) => None,
            Choice::Duels(both) => Some(&both.0),
        }
    }

    pub(super) const fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Ours: all comes from values. A start is that of a GPU whose neighbours are full.
    fn of_values(policy: Policy, mix: &Mix) -> Self {
        let endgame = Endgame::new(mix);
        let start =
            |profile: Profile, taken: Occupancy| endgame.choose(&[taken], profile).map(|(_, start)| start);
        let mut starts = [[NOWHERE; 256]; 6];
        for profile in Profile::ALL {
            for taken in 0..=u8::MAX {
                let best = start(profile, Occupancy(taken));
                starts[profile.index()][usize::from(taken)] = best.unwrap_or(NOWHERE);
            }
        }
        let duels = Duels::new(mix, start);
        Self { policy, start: starts, choice: Choice::Duels(Box::new((duels, endgame))) }
    }

    fn of_keys(policy: Policy, mix: &Mix) -> Self {
        let mut starts = [[NOWHERE; 256]; 6];
        let orders = Profile::ALL.map(|profile| {
            let mut keyed: Vec<(Key, u8)> = Vec::new();
            for taken in 0..=u8::MAX {
                let free = Occupancy(taken).free_starts(profile);
                let keyed_start = |start| {
                    (key(policy, mix, profile, Occupancy(taken), start), ordinal(policy, start), start)
                };
                let best = (0..8_u8).filter(|start| free >> start & 1 == 1).map(keyed_start).min();
                if let Some((key, _, start)) = best {
                    keyed.push((key, taken));
                    starts[profile.index()][usize::from(taken)] = start;
                }
            }
            keyed.sort_unstable();
            Order::of(&keyed)
        });
        Self { policy, start: starts, choice: Choice::Ranked(Box::new(orders)) }
    }
}

impl Order {
    fn of(keyed: &[(Key, u8)]) -> Self {
        let mut order = Self { states: [0; 256], rank: [NOWHERE; 256], alike: [NOWHERE; 256] };
        let mut first = 0;
        for (rank, &(key, state)) in keyed.iter().enumerate() {
            if keyed[usize::from(first)].0 != key {
                first = u8::try_from(rank).expect("fewer than 255 states have room");
            }
            order.states[rank] = state;
            order.rank[usize::from(state)] = u8::try_from(rank).expect("fewer than 255 states have room");
            order.alike[rank] = first;
        }
        order
    }

    /// The rank of the first state that is preferred exactly as much as this one, which has room.
    fn first_alike(&self, taken: Occupancy) -> u8 {
        self.alike[usize::from(self.rank[usize::from(taken.0)])]
    }
}

/// What decides between starts of one GPU with the same key; it plays no part between GPUs.
const fn ordinal(policy: Policy, start: u8) -> u8 {
    match policy {
        Policy::FirstFitLast => 7 - start,
        _ => start,
    }
}

/// The key of one place under a policy.
fn key(policy: Policy, mix: &Mix, profile: Profile, taken: Occupancy, start: u8) -> Key {
    let after = Occupancy(taken.0 | profile.mask(start));
    let free = i64::from(taken.free_slices());
    let last = -i64::from(start);
    let lost = |weight: &dyn Fn(Profile) -> i64| -> i64 {
        let rooms = |p: Profile| i64::from(taken.room(p)) - i64::from(after.room(p));
        Profile::ALL.iter().map(|&p| weight(p) * rooms(p)).sum()
    };
    match policy {
        Policy::FirstFit | Policy::FirstFitLast | Policy::Random => [0; 3],
        // Not ranked by a key: see `of_values`.
        Policy::Demand | Policy::DemandObserved => [0; 3],
        Policy::BestFit => [free, 0, 0],
        Policy::BestFitLast => [free, last, 0],
        Policy::WorstFit => [-free, 0, 0],
        Policy::Frag => [fragmentation(after) - fragmentation(taken), 0, 0],
        Policy::FragBestFit => [fragmentation(after) - fragmentation(taken), free, last],
        Policy::Windows => [lost(&|p| i64::from(mix.weight(p))), free, last],
        Policy::Capacity => {
            let squared = |p: Profile| i64::from(p.memory_slices() * p.memory_slices());
            [lost(&|p| i64::from(mix.weight(p)) * squared(p)), free, last]
        }
    }
}

/// How cut up a state is: over the profiles that would fit if the free slices could be moved, their memory
/// times the windows that are partly or wholly taken.
fn fragmentation(taken: Occupancy) -> i64 {
    let held = |profile: Profile| {
        let blocked = profile.starts().len() as u32 - taken.room(profile);
        i64::from(profile.memory_slices() * blocked)
    };
    Profile::ALL.iter().filter(|p| p.memory_slices() <= taken.free_slices()).map(|&p| held(p)).sum()
}
