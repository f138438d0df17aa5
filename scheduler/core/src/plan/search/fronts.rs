//! What earlier searches found out of when nodes could take a request, for the next search of the same request.
//!
//! Owns two things, both bounds from below. Answers: a request that asks for at least what one was answered for cannot
//! start before it, on the same list of nodes. Rows: for one request, an instant for each node of its list before which
//! the node cannot take it, as seen from the last answer on. Both hold because between two searches things are only
//! taken, and time passes; once something is given back anywhere ([`Cluster::gave`]) all of it is forgotten. Rows are
//! for the many searches of one pass over a long queue. A request gets one when it is searched for a second time, or
//! at once while there is much room;
//! memory is bounded ([`MOST_BYTES`]), and nothing is kept when a pass has done all there was to do.

use std::collections::{BTreeMap, BinaryHeap};

use crate::plan::cluster::Cluster;
use crate::plan::profile::{Amount, KINDS};
use crate::plan::shape::{Class, Fixed};

/// Lists of fewer nodes are searched from the start each time.
const FEWEST: usize = 8;
/// Most requests that are told apart; when there are more, all are forgotten.
const MOST_ROWS: usize = 16_384;
/// Most memory of all rows together; when more is needed, all are forgotten.
const MOST_BYTES: usize = 96 << 20;
/// Most answers that are kept of one list.
const MOST_ANSWERS: usize = 128;

/// All that the earliest start of a request depends on, but for the plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    list: u32,
    count: u32,
    span: i64,
    makes: u64,
    cpus: u32,
    memory: u64,
    gres: [u32; KINDS],
}

impl Key {
    /// The key of a request; `None`: such requests are not remembered.
    pub(super) fn of(cluster: &Cluster, class: &Class, fixed: &Fixed, span: i64) -> Option<Self> {
        let (makes, Amount { cpus, gres, memory, slices, shards }) = fixed.everywhere()?;
        let plain = slices.is_empty() && shards.is_empty() && class.demand.required.is_empty();
        let known = plain && cluster.nodes(class.list).len() >= FEWEST;
        known.then_some(Self { list: class.list, count: fixed.count, span, makes, cpus, memory, gres })
    }

    /// Whether a start of this one is a start of the other too, on the same nodes.
    fn covers(&self, other: &Self) -> bool {
        self.count >= other.count
            && self.span >= other.span
            && self.cpus >= other.cpus
            && self.memory >= other.memory
            && self.makes & !other.makes == 0
            && self.gres.iter().zip(&other.gres).fold(true, |all, (mine, its)| all & (mine >= its))
    }
}

/// So many bounds are compared at a time.
const WIDTH: usize = 32;

/// Whole seconds from `base` to `at`, rounded down; what lies before is 0, and beyond what can be told the last instant
/// that can.
#[inline]
fn seconds(base: i64, at: i64) -> i32 {
    match at {
        i64::MAX => i32::MAX,
        at => i32::try_from(at.saturating_sub(base).max(0) / 1000).unwrap_or(i32::MAX).min(i32::MAX - 1),
    }
}

/// Bounds of the starts on the nodes of a list, by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Zero of the instants, milliseconds.
    base: i64,
    /// The last answer: what the row says is about starts from there on.
    pub(super) from: i64,
    /// Whole seconds since then, rounded down; `i32::MAX`: never.
    instants: Vec<i32>,
}

impl Row {
    /// Begins anew with a bound for each node of a list.
    pub(super) fn begin(&mut self, from: i64, bounds: impl Iterator<Item = i64>) {
        self.base = from - from.rem_euclid(1000);
        self.from = from;
        self.instants.clear();
        let base = self.base;
        self.instants.extend(bounds.map(|at| seconds(base, at)));
    }

    /// The `n`-th smallest of the bounds, milliseconds; `i64::MAX`: so many never start.
    pub(super) fn nth(&self, n: usize) -> i64 {
        let mut smallest = BinaryHeap::with_capacity(n);
        let mut last = i32::MAX;
        for chunk in self.instants.chunks(WIDTH) {
            if !chunk.iter().fold(false, |any, &one| any | (one < last)) {
                continue;
            }
            for &one in chunk.iter().filter(|one| **one < i32::MAX) {
                if smallest.len() < n {
                    smallest.push(one);
                } else if let Some(mut top) = smallest.peek_mut()
                    && one < *top
                {
                    *top = one;
                }
                if smallest.len() == n {
                    last = smallest.peek().copied().unwrap_or(last);
                }
            }
        }
        if smallest.len() < n { i64::MAX } else { self.base + 1000 * i64::from(last) }
    }

    /// Whether a row says the same of two instants.
    pub(super) fn is_near(&self, one: i64, other: i64) -> bool {
        seconds(self.base, one) == seconds(self.base, other)
    }

    /// Notes that there is none before `at`.
    #[inline]
    pub(super) fn raise(&mut self, place: usize, at: i64) {
        let known = &mut self.instants[place];
        *known = seconds(self.base, at).max(*known);
    }

    /// The first of the places with the smallest bound.
    pub(super) fn smallest(&self) -> usize {
        let least = self.instants.iter().copied().min().unwrap_or_default();
        self.instants.iter().position(|&one| one == least).unwrap_or_default()
    }

    /// The first place from `from` on whose bound is not after `until`.
    pub(super) fn next(&self, from: usize, until: i64) -> Option<usize> {
        let limit = seconds(self.base, until.min(i64::MAX - 1));
        let mut place = from;
        for chunk in self.instants[from.min(self.instants.len())..].chunks(WIDTH) {
            if chunk.iter().fold(false, |any, &one| any | (one <= limit)) {
                return chunk.iter().position(|&one| one <= limit).map(|within| place + within);
            }
            place += chunk.len();
        }
        None
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    /// What the cluster said when all this was found.
    gave: u64,
    /// `None`: of a request that was searched for once.
    rows: BTreeMap<Key, Option<Row>>,
    bytes: usize,
    /// Requests of a list and their earliest starts.
    answers: BTreeMap<u32, Vec<(Key, i64)>>,
}

impl Fronts {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        // After most passes there is nothing.
        if !self.rows.is_empty() || !self.answers.is_empty() {
            self.rows.clear();
            self.answers.clear();
            self.bytes = 0;
        }
    }

    /// Whether there is a row of a request.
    pub(super) fn knows(&self, cluster: &Cluster, key: &Key) -> bool {
        self.gave == cluster.gave() && self.rows.get(key).is_some_and(Option::is_some)
    }

    /// A start of the request is not before this.
    pub(super) fn not_before(&mut self, cluster: &Cluster, key: &Key) -> i64 {
        if self.gave != cluster.gave() {
            self.clear();
            self.gave = cluster.gave();
        }
        let answers = self.answers.get(&key.list).map_or(&[][..], Vec::as_slice);
        let covered = answers.iter().filter(|(other, _)| key.covers(other));
        covered.map(|(_, at)| *at).max().unwrap_or(i64::MIN)
    }

    /// The row of a request, until it is put back.
    pub(super) fn take(&mut self, key: &Key) -> Option<Row> {
        self.rows.get_mut(key)?.take()
    }

    /// Whether the row of a request that has none is worth its memory: there is much left, or it is not the first
    /// search for it.
    pub(super) fn has_room(&mut self, key: &Key, nodes: usize) -> bool {
        let bytes = self.bytes + nodes * size_of::<i32>();
        if self.rows.contains_key(key) || bytes <= MOST_BYTES / 2 {
            if bytes > MOST_BYTES {
                self.rows.clear();
                self.bytes = 0;
            }
            self.bytes += nodes * size_of::<i32>();
            return true;
        }
        if self.rows.len() == MOST_ROWS {
            self.rows.clear();
            self.bytes = 0;
        }
        self.rows.insert(key.clone(), None);
        false
    }

    /// Keeps a row that was taken, or that there is room for.
    pub(super) fn put(&mut self, key: Key, row: Row) {
        self.rows.insert(key, Some(row));
    }

    /// Notes the answer to a request.
    pub(super) fn note(&mut self, key: &Key, at: i64) {
        let answers = self.answers.entry(key.list).or_default();
        // What says no more than this goes.
        answers.retain(|(other, then)| !(other.covers(key) && *then <= at));
        if answers.len() == MOST_ANSWERS {
            answers.remove(0);
        }
        answers.push((key.clone(), at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(count: u32, span: i64, cpus: u32) -> Key {
        Key { list: 3, count, span, makes: 0b11, cpus, memory: 10, gres: [0; KINDS] }
    }

    /// Numbers that look random.
    fn numbers(seed: u64) -> impl FnMut(i64) -> i64 {
        let mut random = seed;
        move |below| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(random >> 33).expect("31 bits are left") % below
        }
    }

    /// Whole seconds, as a row keeps them: what a plain list of instants says.
    fn told(at: i64, from: i64) -> i64 {
        let base = from - from.rem_euclid(1000);
        if at == i64::MAX { at } else { base + (at - base).max(0) / 1000 * 1000 }
    }

    #[test]
    fn a_row_answers_as_a_list_of_instants_does() {
        for seed in 0..200 {
            let mut below = numbers(seed);
            let from = below(10_000_000);
            let nodes = usize::try_from(1 + below(100)).unwrap();
            let at = |below: &mut dyn FnMut(i64) -> i64| {
                if below(5) == 0 { i64::MAX } else { from - 5000 + below(40_000) }
            };
            let mut list: Vec<i64> = (0..nodes).map(|_| at(&mut below)).collect();
            let mut row = Row::default();
            row.begin(from, list.iter().copied());
            for _ in 0..20 {
                let (place, later) = (usize::try_from(below(100)).unwrap() % nodes, at(&mut below));
                row.raise(place, later);
                list[place] = list[place].max(later);
                let kept: Vec<i64> = list.iter().map(|&at| told(at, from)).collect();
                let mut sorted = kept.clone();
                sorted.sort_unstable();
                for n in 1..=nodes + 1 {
                    assert_eq!(row.nth(n), sorted.get(n - 1).copied().unwrap_or(i64::MAX), "seed {seed}");
                }
                assert_eq!(kept[row.smallest()], sorted[0], "seed {seed}");
                assert!(kept[..row.smallest()].iter().all(|&at| at > sorted[0]), "seed {seed}");
                let (start, until) = (usize::try_from(below(100)).unwrap(), from + below(40_000));
                let next = (start..nodes).find(|&place| kept[place] <= told(until, from));
                assert_eq!(row.next(start, until), next, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_asks_for_more_starts_no_earlier_than_what_asks_for_less() {
        let cluster = Cluster::default();
        let mut fronts = Fronts::default();
        assert_eq!(fronts.not_before(&cluster, &key(1, 10, 1)), i64::MIN);
        fronts.note(&key(2, 10, 4), 500);
        for (larger, bound) in [
            (key(2, 10, 4), 500),
            (key(3, 20, 8), 500),
            (key(1, 10, 4), i64::MIN),
            (key(2, 9, 4), i64::MIN),
            (key(2, 10, 3), i64::MIN),
            // It would be as large, but may run on nodes that the other may not.
            (Key { makes: 0b111, ..key(2, 10, 4) }, i64::MIN),
            (Key { makes: 0b01, ..key(2, 10, 4) }, 500),
            (Key { list: 4, ..key(2, 10, 4) }, i64::MIN),
        ] {
            assert_eq!(fronts.not_before(&cluster, &larger), bound, "{larger:?}");
        }
        // A smaller request with a later answer says all that this one said, and more.
        fronts.note(&key(1, 10, 1), 900);
        assert_eq!(fronts.answers[&3].len(), 1);
        assert_eq!(fronts.not_before(&cluster, &key(2, 10, 4)), 900);
    }

    #[test]
    fn answers_and_rows_are_bounded() {
        let mut fronts = Fronts::default();
        for at in 0..1000_u32 {
            // Larger ones start earlier: none says what another says.
            fronts.note(&key(1000 - at, i64::from(at), 1), i64::from(at));
        }
        assert_eq!(fronts.answers[&3].len(), MOST_ANSWERS);
        // While there is much room the first search has a row; then the second one has.
        let half = MOST_BYTES / size_of::<i32>() / 2;
        assert!(fronts.has_room(&key(1, 1, 1), half));
        fronts.put(key(1, 1, 1), Row::default());
        assert!(!fronts.has_room(&key(2, 1, 1), 1));
        assert!(fronts.take(&key(2, 1, 1)).is_none());
        assert!(fronts.has_room(&key(2, 1, 1), 1));
        // More than there may be: all are forgotten.
        fronts.rows.insert(key(3, 1, 1), None);
        assert!(fronts.has_room(&key(3, 1, 1), half));
        assert!(fronts.take(&key(1, 1, 1)).is_none() && fronts.bytes == half * size_of::<i32>());
    }
}
