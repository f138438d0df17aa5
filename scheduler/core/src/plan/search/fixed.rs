//! The earliest start of a request for the same amount on each of so many nodes.
//!
//! By the earliest starts of single nodes: the answer is the first instant at which so many of them are free for so
//! long, and of these the first in the list. Most nodes are passed over by a bound from below: of the sketch where the
//! request is new, of what earlier searches found ([`Fronts`]) where it is not. What the bounds are changes which
//! profiles are read, never the answer.

use super::fronts::{Fronts, Key, Row};
use super::{Holds, required};
use crate::plan::cluster::Cluster;
use crate::plan::profile::Earliest;
use crate::plan::shape::{Class, Fixed};
use crate::plan::sketch::Bounds;

/// What one search leaves for the next: memory that is used again, and what it found out.
#[derive(Debug, Default)]
pub(in crate::plan) struct Scratch {
    fronts: Fronts,
    /// The row of a search whose findings are not kept.
    row: Row,
    /// Starts in the second that is looked at, milliseconds.
    near: Vec<i64>,
    /// Places of the nodes that are free together.
    chosen: Vec<usize>,
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
    let single = Single { cluster, fixed, bounds: cluster.bounds(&fixed.least(), span), span };
    // What is known counts from the present on.
    let key = Key::of(cluster, class, fixed, span).filter(|_| from <= cluster.now());
    let Some(key) = key else {
        if fixed.count == 1 {
            return single.first(nodes, from);
        }
        let mut row = std::mem::take(&mut scratch.row);
        single.draw(&mut row, nodes, from);
        let found = single.several_by(&mut row, nodes, from, scratch);
        scratch.row = row;
        return found;
    };
    let mut from = from.max(scratch.fronts.not_before(cluster, &key));
    if from == i64::MAX {
        return None;
    }
    let known = scratch.fronts.take(&key);
    let keeps = known.is_some() || scratch.fronts.has_room(&key, nodes.len());
    let mut row = match known {
        Some(row) => {
            from = from.max(row.from);
            row
        }
        None => {
            let mut row = if keeps { Row::default() } else { std::mem::take(&mut scratch.row) };
            single.draw(&mut row, nodes, from);
            row
        }
    };
    let found = if fixed.count == 1 {
        single.first_by(&mut row, nodes, from)
    } else {
        single.several_by(&mut row, nodes, from, scratch)
    };
    let at = found.as_ref().map_or(i64::MAX, |found| found.0);
    scratch.fronts.note(&key, at);
    row.from = at;
    if keeps {
        scratch.fronts.put(key, row);
    } else {
        scratch.row = row;
    }
    found
}

/// What a search for single nodes needs beside them.
#[derive(Clone, Copy)]
struct Single<'a> {
    cluster: &'a Cluster,
    fixed: &'a Fixed,
    bounds: Bounds<'a>,
    span: i64,
}

impl Single<'_> {
    /// The earliest start on a node, as far as it is not after `until`.
    #[inline]
    fn start(&self, node: u32, from: i64, until: i64) -> Earliest {
        match self.fixed.need(self.cluster.make(node)) {
            Some(need) => self.cluster.plan(node).earliest(need, self.span, from, until),
            None => Earliest { at: i64::MAX, exact: true },
        }
    }

    /// Makes a row of the cluster's bounds.
    fn draw(&self, row: &mut Row, nodes: &[u32], from: i64) {
        row.begin(from, nodes.iter().map(|&node| self.bounds.lower(node)));
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
            let until = best.0.saturating_sub(1);
            if self.bounds.lower(node) > until {
                continue;
            }
            let start = self.start(node, from, until);
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

    /// So many nodes at once by what is known, which is brought up to date. At each instant that could be the answer
    /// the nodes whose bounds are not after it are looked at, in order, until enough of them are free from then on.
    fn several_by(
        &self,
        row: &mut Row,
        nodes: &[u32],
        from: i64,
        scratch: &mut Scratch,
    ) -> Option<(i64, Holds)> {
        let count = self.fixed.count as usize;
        let Scratch { near, chosen, .. } = scratch;
        let mut bound = from;
        while bound < i64::MAX {
            near.clear();
            chosen.clear();
            let mut place = 0;
            while let Some(next) = row.next(place, bound) {
                let at = self.start(nodes[next], bound, i64::MAX).at;
                row.raise(next, at);
                if row.is_near(at, bound) {
                    near.push(at);
                }
                if at == bound {
                    chosen.push(next);
                    if chosen.len() == count {
                        return Some(self.taking(bound, chosen.iter().map(|&place| nodes[place])));
                    }
                }
                place = next + 1;
            }
            // So many nodes must be free at once: not before the n-th of their own earliest starts. Rows tell
            // seconds; within one all starts have just been looked at.
            bound = if near.len() < count { row.nth(count) } else { *near.select_nth_unstable(count - 1).1 };
        }
        None
    }
}
