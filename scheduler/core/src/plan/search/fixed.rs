//! The earliest start of a request for the same amount on each of so many nodes.
//!
//! By the earliest starts of single nodes: the answer is the first instant at which so many of them are free for so
//! long, and of these the first in the list. Most nodes are passed over by a bound from below: of the sketch where the
//! request is new, of what earlier searches found ([`Fronts`]) where it is not. What the bounds are changes which
//! profiles are read, never the answer.

use std::collections::BinaryHeap;

use super::fronts::{Fronts, Key, Row};
use super::{Holds, required};
use crate::plan::cluster::Cluster;
use crate::plan::profile::Earliest;
use crate::plan::shape::{Class, Fixed};
use crate::plan::sketch::Bounds;

/// What one search leaves for the next: memory that is used again, and what it found out.
#[derive(Debug, Default)]
pub(in crate::plan) struct Scratch {
    /// What is known of each node's own earliest start.
    starts: Vec<Earliest>,
    /// The smallest of them, as many as nodes are asked for; the largest of these is on top.
    smallest: BinaryHeap<i64>,
    fronts: Fronts,
}

impl Scratch {
    /// Forgets what was found out. Between two calls the cluster must be the same one.
    pub(in crate::plan) fn forget(&mut self) {
        self.fronts.clear();
    }

    /// Whether the next search of a class goes by what earlier ones found, and needs no bounds of the cluster's.
    pub(in crate::plan) fn knows(&self, cluster: &Cluster, class: &Class, span: i64) -> bool {
        let key = class.fixed.as_ref().and_then(|fixed| Key::of(cluster, class, fixed, span));
        key.is_some_and(|key| self.fronts.knows(cluster, &key))
    }
}

/// The earliest start at or after `from`; `None`: never.
///
/// Cost: O(nodes) comparisons, and a look into the profile of each node whose bound is not after the answer.
pub(super) fn earliest(
    cluster: &Cluster,
    class: &Class,
    fixed: &Fixed,
    span: i64,
    from: i64,
    scratch: &mut Scratch,
) -> Option<(i64, Holds)> {
    let listed;
    let nodes: &[u32] = if class.demand.required.is_empty() {
        cluster.nodes(class.list)
    } else {
        listed = required(cluster, class);
        &listed
    };
    if nodes.len() < fixed.count as usize {
        return None;
    }
    // What is known counts from the present on.
    let key = Key::of(cluster, class, fixed, span).filter(|_| from <= cluster.now());
    let Some(key) = key else {
        let single = Single { cluster, fixed, bounds: Some(cluster.bounds(&fixed.least(), span)), span };
        return single.search(nodes, from, scratch);
    };
    let Scratch { fronts, .. } = &mut *scratch;
    let from = from.max(fronts.not_before(cluster, &key));
    if from == i64::MAX {
        return None;
    }
    let found = match fronts.take(&key) {
        Some(mut row) => {
            let from = from.max(row.from);
            let single = Single { cluster, fixed, bounds: None, span };
            let found = if fixed.count == 1 {
                single.first_by(&mut row, nodes, from)
            } else {
                single.several_by(&mut row, nodes, from, scratch)
            };
            scratch.fronts.put_back(&key, row);
            found
        }
        None => {
            let single = Single { cluster, fixed, bounds: Some(cluster.bounds(&fixed.least(), span)), span };
            single.search(nodes, from, scratch)
        }
    };
    scratch.fronts.note(key, nodes.len(), found.as_ref().map_or(i64::MAX, |found| found.0));
    found
}

/// What a search for single nodes needs beside them.
#[derive(Clone, Copy)]
struct Single<'a> {
    cluster: &'a Cluster,
    fixed: &'a Fixed,
    bounds: Option<Bounds<'a>>,
    span: i64,
}

impl Single<'_> {
    /// The earliest start on a node, as far as it is not after `until`.
    #[inline]
    fn start(&self, node: u32, from: i64, until: i64) -> Earliest {
        if let Some(bounds) = &self.bounds {
            let lower = bounds.lower(node);
            if lower > until {
                return Earliest { at: lower, exact: false };
            }
        }
        match self.fixed.need(self.cluster.make(node)) {
            Some(need) => self.cluster.plan(node).earliest(need, self.span, from, until),
            None => Earliest { at: i64::MAX, exact: true },
        }
    }

    /// With no more than the cluster's bounds.
    fn search(&self, nodes: &[u32], from: i64, scratch: &mut Scratch) -> Option<(i64, Holds)> {
        if self.fixed.count == 1 {
            return self.first(nodes, from);
        }
        let Scratch { starts, smallest, .. } = scratch;
        starts.clear();
        starts.resize(nodes.len(), Earliest { at: i64::MIN, exact: false });
        self.several(nodes, from, starts, smallest)
    }

    /// What a start at an instant takes of nodes.
    fn taking(&self, at: i64, nodes: impl Iterator<Item = u32>) -> (i64, Holds) {
        let need = |node: u32| {
            *self.fixed.need(self.cluster.make(node)).expect("a node without the amount never starts")
        };
        (at, nodes.map(|node| (node, need(node))).collect())
    }

    /// The first of the nodes that start earliest.
    fn first(&self, nodes: &[u32], from: i64) -> Option<(i64, Holds)> {
        let mut best = (i64::MAX, None);
        for &node in nodes {
            let start = self.start(node, from, best.0.saturating_sub(1));
            if start.exact && start.at < best.0 {
                best = (start.at, Some(node));
                if start.at == from {
                    break;
                }
            }
        }
        let node = best.1?;
        Some(self.taking(best.0, std::iter::once(node)))
    }

    /// The same by what is known, which is brought up to date: the node with the smallest bound says how late it can
    /// get, and only nodes with bounds up to there are looked at.
    fn first_by(&self, row: &mut Row, nodes: &[u32], from: i64) -> Option<(i64, Holds)> {
        let mut best = (i64::MAX, usize::MAX);
        let look = |row: &mut Row, place: usize, best: &mut (i64, usize)| {
            let start = self.start(nodes[place], from, best.0);
            row.raise(place, start.at);
            if start.exact && (start.at, place) < *best {
                *best = (start.at, place);
            }
        };
        let guess = row.smallest();
        look(row, guess, &mut best);
        let mut place = 0;
        // Behind the best only those are better that start before it.
        while let Some(next) = row.next(place, best.0.saturating_sub(i64::from(place > best.1))) {
            if best.0 == from && next > best.1 {
                break;
            }
            if next != guess {
                look(row, next, &mut best);
            }
            place = next + 1;
        }
        (best.0 < i64::MAX).then(|| self.taking(best.0, std::iter::once(nodes[best.1])))
    }

    /// So many nodes at once. `starts`: a bound from below for each node's own start at or after `from`.
    fn several(
        &self,
        nodes: &[u32],
        from: i64,
        starts: &mut [Earliest],
        smallest: &mut BinaryHeap<i64>,
    ) -> Option<(i64, Holds)> {
        let count = self.fixed.count as usize;
        let mut bound = from;
        loop {
            // Starts of single nodes as from `bound` on: those before it do not count, however early they are.
            let mut together = 0;
            smallest.clear();
            for (start, &node) in starts.iter_mut().zip(nodes) {
                let last = if smallest.len() < count { None } else { smallest.peek().copied() };
                if start.at < bound || (start.at == bound && !start.exact) {
                    *start = self.start(node, bound, last.unwrap_or(i64::MAX));
                }
                together += usize::from(start.at == bound && start.exact);
                match last {
                    None => smallest.push(start.at),
                    Some(last) if start.at < last => {
                        *smallest.peek_mut().expect("as many as are asked for") = start.at;
                    }
                    Some(_) => {}
                }
            }
            if together >= count {
                let free = starts.iter().zip(nodes).filter(|(start, _)| start.at == bound && start.exact);
                return Some(self.taking(bound, free.take(count).map(|(_, &node)| node)));
            }
            // So many nodes must be free at once: not before the n-th of their own earliest starts.
            bound = *smallest.peek().expect("as many as are asked for");
            if bound == i64::MAX {
                return None;
            }
        }
    }

    /// The same by what is known, which is brought up to date.
    fn several_by(
        &self,
        row: &mut Row,
        nodes: &[u32],
        from: i64,
        scratch: &mut Scratch,
    ) -> Option<(i64, Holds)> {
        let Scratch { starts, smallest, .. } = scratch;
        starts.clear();
        starts.extend((0..nodes.len()).map(|place| Earliest { at: row.lower(place), exact: false }));
        let found = self.several(nodes, from, starts, smallest);
        starts.iter().enumerate().for_each(|(place, start)| row.raise(place, start.at));
        found
    }
}
