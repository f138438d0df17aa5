//! What free slices are worth to a mix, on one GPU, on two and on three: the tables behind the policy `demand`.
//!
//! Requests come one by one, drawn from the mix. The GPUs of a game take each where it is best for
//! what follows; a request that fits nowhere is taken elsewhere with probability `passed`, and otherwise ends
//! the game. The value of a state is the reward expected until then.
//!
//! Two GPUs' values settle a *duel*: would the mix rather have the request
//! on this GPU or on that one? The winner of all duels among the states present gets it, so the rule is the
//! same for four GPUs and for ten thousand. The values of a pair hold what a sum over GPUs cannot: that the
//! second half-empty GPU is worth less than the first. Among many, a request of `m` memory slices
//! counts `m` to a power above one: large slices are harder to place, so room for them is worth more than its size.
//!
//! Three GPUs' values play the *endgame*: where no more than three GPUs have room for anything that is asked for, the
//! best start on any of them is known, and what is refused is seldom taken elsewhere. With two of the three full
//! they choose the start on a GPU that won its duels.
//!
//! Parameters were chosen on the benchmark of `docs/architecture/gpu.md`, where their effect is listed.

use super::geometry::{Occupancy, Profile};
use super::mix::Mix;
use super::outlook::{INSTANTS, Outlook};
use super::room::{CLASSES, Class, Classes};

/// How many GPUs the endgame is played on.
pub(super) const LAST: usize = 3;
/// Chance that a request which does not fit is taken elsewhere, in the endgame and when a start is chosen.
const LAST_PASSED: f64 = 1.0 / 16.0;
/// The same when two GPUs are compared. Close to one: a fleet is seldom full for everyone.
const DUEL_PASSED: f64 = 0.8;
/// Values closer than this are the same: rounding must not decide.
const SAME: f64 = 1e-9;

/// Reward of a request in the endgame: its memory, so that what is there is filled as well as can be.
fn last_reward(profile: Profile) -> f64 {
    f64::from(profile.memory_slices())
}

/// Reward of a request when GPUs are compared: memory to the power 3/2, by exact operations only.
fn duel_reward(profile: Profile) -> f64 {
    let memory = f64::from(profile.memory_slices());
    memory * memory.sqrt()
}

/// The values of `K` GPUs together, by their classes in any order.
#[derive(Clone, Debug)]
struct Game<const K: usize>(Vec<f64>);

impl<const K: usize> Game<K> {
    /// Cost: the states, `CLASSES + K - 1` over `K` of them, times some ten to forty look-ups.
    fn new(mix: &Mix, passed: f64, reward: fn(Profile) -> f64) -> Self {
        let sum: f64 = mix.weights().iter().map(|&weight| f64::from(weight)).sum();
        let asked: Vec<(Profile, f64, f64)> = Profile::ALL
            .into_iter()
            .map(|profile| (profile, f64::from(mix.weight(profile)) / sum, reward(profile)))
            .filter(|(_, share, _)| *share > 0.0)
            .collect();
        let mut game = Self(Vec::new());
        // Placing leads to a smaller number, so what follows is known.
        let mut gpus = [Class::FULL; K];
        while usize::from(gpus[0].0) < CLASSES {
            let (mut gained, mut unfit) = (0.0, 0.0);
            for &(profile, share, reward) in &asked {
                match game.best(&gpus, profile) {
                    Some(best) => gained += share * (reward + best),
                    None => unfit += share,
                }
            }
            // A state in which nothing that is asked for fits would divide by little; it is worth nothing.
            game.0.push(if gained == 0.0 { 0.0 } else { gained / (1.0 - passed * unfit) });
            next(&mut gpus);
        }
        game
    }

    /// The value after the best placement; the classes do not rise.
    fn best(&self, gpus: &[Class; K], profile: Profile) -> Option<f64> {
        let mut best = None;
        for at in (0..K).filter(|&at| at == 0 || gpus[at] != gpus[at - 1]) {
            for after in gpus[at].after(profile) {
                let mut then = *gpus;
                then[at] = after;
                let value = self.of(then);
                best = Some(best.map_or(value, |best: f64| best.max(value)));
            }
        }
        best
    }

    fn of(&self, mut gpus: [Class; K]) -> f64 {
        gpus.sort_unstable_by(|a, b| b.cmp(a));
        self.0[number(&gpus)]
    }
}

/// Number of a state whose classes do not rise, in the order of [`next`]: how many come before it.
fn number<const K: usize>(gpus: &[Class; K]) -> usize {
    // Of n things k with repetition.
    let many = |n: usize, k: usize| (0..k).fold(1, |product, i| product * (n + i) / (i + 1));
    gpus.iter().enumerate().map(|(at, class)| many(usize::from(class.0), K - at)).sum()
}

/// The next state whose classes do not rise.
fn next<const K: usize>(gpus: &mut [Class; K]) {
    let at = (0..K).rev().find(|&at| at == 0 || gpus[at] < gpus[at - 1]).unwrap_or(0);
    gpus[at].0 += 1;
    gpus[at + 1..].fill(Class::FULL);
}

/// The starts whose bit is set, the highest first.
fn starts(bits: u8) -> impl Iterator<Item = u8> {
    (0..8).rev().filter(move |start| bits >> start & 1 == 1)
}

/// What the last GPUs with room are worth together.
#[derive(Clone, Debug)]
pub(super) struct Endgame {
    values: Game<LAST>,
    /// The classes with room for something that is asked for.
    pub(super) alive: Classes,
    asked: [bool; 6],
}

impl Endgame {
    pub(super) fn new(mix: &Mix) -> Self {
        let mut alive = Classes::default();
        let asked = Profile::ALL.map(|profile| mix.weight(profile) > 0);
        let has_room =
            |class: &Class| Profile::ALL.iter().any(|&p| asked[p.index()] && !class.after(p).is_empty());
        Class::all().filter(has_room).for_each(|class| alive.insert(class));
        Self { values: Game::new(mix, LAST_PASSED, last_reward), alive, asked }
    }

    /// Whether it has a word on requests for this profile: it knows nothing of GPUs that only have room for what the
    /// mix does not hold.
    pub(super) fn knows(&self, profile: Profile) -> bool {
        self.asked[profile.index()]
    }

    /// The best place on those GPUs, which are all that have room: which one, and the start.
    pub(super) fn choose(&self, gpus: &[Occupancy], profile: Profile) -> Option<(usize, u8)> {
        let mut classes = [Class::FULL; LAST];
        classes.iter_mut().zip(gpus).for_each(|(class, &taken)| *class = Class::of(taken));
        let mut best: Option<(f64, usize, u8)> = None;
        for (gpu, taken) in gpus.iter().enumerate() {
            for start in starts(taken.free_starts(profile)) {
                let mut then = classes;
                then[gpu] = Class::of(Occupancy(taken.0 | profile.mask(start)));
                let value = self.values.of(then);
                if best.is_none_or(|(best, ..)| value > best + SAME) {
                    best = Some((value, gpu, start));
                }
            }
        }
        best.map(|(_, gpu, start)| (gpu, start))
    }
}

/// Who wins each duel: for each profile and class, the classes that are preferred to it.
#[derive(Clone, Debug)]
pub(super) struct Duels {
    winners: [[Classes; CLASSES]; 6],
    /// The classes with room.
    room: [Classes; 6],
    /// The start on the GPU that stands for each class; where values are the same it decides.
    starts: [[u8; CLASSES]; 6],
    /// What the duels were settled by, for states that change.
    pairs: Game<2>,
}

impl Duels {
    /// Settles all duels, each GPU placing at the start that `start` gives for its state.
    pub(super) fn new(mix: &Mix, start: impl Fn(Profile, Occupancy) -> Option<u8>) -> Self {
        let pairs = Game::<2>::new(mix, DUEL_PASSED, duel_reward);
        let mut duels = Self {
            winners: [[Classes::default(); CLASSES]; 6],
            room: [Classes::default(); 6],
            starts: [[0; CLASSES]; 6],
            pairs: Game(Vec::new()),
        };
        for profile in Profile::ALL {
            let places: Vec<Place> = Class::all()
                .filter_map(|class| Some(Place::new(class, profile, start(profile, class.least())?)))
                .collect();
            for loser in &places {
                duels.room[profile.index()].insert(loser.class);
                duels.starts[profile.index()][usize::from(loser.class.0)] = loser.start;
                let winners = &mut duels.winners[profile.index()][usize::from(loser.class.0)];
                let preferred = |winner: &&Place| winner.is_preferred(&pairs, loser);
                places.iter().filter(preferred).for_each(|winner| winners.insert(winner.class));
            }
        }
        duels.pairs = pairs;
        duels
    }

    /// Where a state stands in the order in which GPUs meet.
    pub(super) fn rank(taken: Occupancy) -> u8 {
        Class::of(taken).0
    }

    /// Whether a GPU is preferred to another, each with the start that it would give: at one instant after the other,
    /// in the states of then.
    pub(super) fn prefers(&self, profile: Profile, one: (&Outlook, u8), other: (&Outlook, u8)) -> bool {
        let class = |(gpu, _): (&Outlook, u8)| Class::of(gpu.taken);
        if one.0.is_steady() && other.0.is_steady() {
            return self.winners[profile.index()][usize::from(class(other).0)].contains(class(one));
        }
        let after = |(gpu, start): (&Outlook, u8), at: usize| {
            Class::of(Occupancy(gpu.later[at].0 | profile.mask(start)))
        };
        let before = |(gpu, _): (&Outlook, u8), at: usize| Class::of(gpu.later[at]);
        let gain = |at: usize| {
            self.pairs.of([after(one, at), before(other, at)])
                - self.pairs.of([before(one, at), after(other, at)])
        };
        let gain = (0..INSTANTS).map(gain).sum::<f64>() / INSTANTS as f64;
        if gain.abs() > SAME {
            return gain > 0.0;
        }
        let key = |gpu| tie(class(gpu), self.starts[profile.index()][usize::from(class(gpu).0)]);
        key(one) < key(other)
    }

    /// The class that wins among those present.
    ///
    /// Duels need not be transitive; the classes meet in order, those with the most room first, and the last winner
    /// stands. Cost: a few instructions for each change of winner.
    pub(super) fn winner(&self, profile: Profile, present: Classes) -> Option<Class> {
        let present = present.and(self.room[profile.index()]);
        let mut at = present.last()?;
        let stronger =
            |at: Class| self.winners[profile.index()][usize::from(at.0)].and(present).below(at).last();
        while let Some(next) = stronger(at) {
            at = next;
        }
        Some(at)
    }
}

/// A GPU in a duel, and what becomes of it.
struct Place {
    class: Class,
    start: u8,
    after: Class,
}

impl Place {
    fn new(class: Class, profile: Profile, start: u8) -> Self {
        let after = Class::of(Occupancy(class.least().0 | profile.mask(start)));
        Self { class, start, after }
    }

    /// Whether a request is better placed here than on `other`, when there are both.
    fn is_preferred(&self, pairs: &Game<2>, other: &Self) -> bool {
        let here = pairs.of([self.after, other.class]);
        let there = pairs.of([self.class, other.after]);
        if (here - there).abs() > SAME {
            return here > there;
        }
        tie(self.class, self.start) < tie(other.class, other.start)
    }
}

/// What decides a duel between equal values: fewer free slices, then the higher start.
fn tie(class: Class, start: u8) -> (u32, u8, Occupancy) {
    let taken = class.least();
    (taken.free_slices(), u8::MAX - start, taken)
}
