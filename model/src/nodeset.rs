//! A set of nodes as bits. Pure set arithmetic; knows nothing about nodes but their index.
//!
//! The words vector never ends in a zero word, so equal sets are equal values whatever was added and
//! taken on the way.

use crate::id::NodeIdx;

/// Nodes by index, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeSet {
    words: Vec<u64>,
}

const BITS: usize = u64::BITS as usize;

fn place(node: NodeIdx) -> (usize, u64) {
    (node.0 as usize / BITS, 1 << (node.0 as usize % BITS))
}

impl NodeSet {
    /// No node.
    #[must_use]
    pub const fn new() -> NodeSet {
        NodeSet { words: Vec::new() }
    }

    /// The first `count` indices.
    #[must_use]
    pub fn first_indices(count: u32) -> NodeSet {
        (0..count).map(NodeIdx).collect()
    }

    /// One node.
    #[must_use]
    pub fn single(node: NodeIdx) -> NodeSet {
        let mut set = NodeSet::new();
        set.insert(node);
        set
    }

    /// Adds a node; false if it was there. Cost: O(1) amortised.
    pub fn insert(&mut self, node: NodeIdx) -> bool {
        let (word, bit) = place(node);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a node out; false if it was not there.
    pub fn remove(&mut self, node: NodeIdx) -> bool {
        let (word, bit) = place(node);
        let had = self.contains(node);
        if had {
            self.words[word] &= !bit;
            self.trim();
        }
        had
    }

    /// True if the node is in the set. Cost: O(1).
    #[must_use]
    pub fn contains(&self, node: NodeIdx) -> bool {
        let (word, bit) = place(node);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many nodes. Cost: O(size of the cluster / 64).
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// True without a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Takes every node out and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    /// The lowest index.
    #[must_use]
    pub fn first(&self) -> Option<NodeIdx> {
        self.iter().next()
    }

    /// Every index, ascending.
    pub fn iter(&self) -> impl Iterator<Item = NodeIdx> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros();
                left &= left - 1;
                Some(NodeIdx((at * BITS) as u32 + bit))
            })
        })
    }

    /// The lowest `count` nodes, or `None` where there are fewer.
    #[must_use]
    pub fn first_n(&self, count: u32) -> Option<NodeSet> {
        let set: NodeSet = self.iter().take(count as usize).collect();
        (set.count() == count).then_some(set)
    }

    /// Adds every node of the other set.
    pub fn union_with(&mut self, other: &NodeSet) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// Keeps only the nodes of both sets.
    pub fn intersect_with(&mut self, other: &NodeSet) {
        self.words.truncate(other.words.len());
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= theirs;
        }
        self.trim();
    }

    /// Takes out every node of the other set.
    pub fn subtract(&mut self, other: &NodeSet) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= !theirs;
        }
        self.trim();
    }

    /// The nodes of either set.
    #[must_use]
    pub fn union(&self, other: &NodeSet) -> NodeSet {
        let mut set = self.clone();
        set.union_with(other);
        set
    }

    /// The nodes of both sets.
    #[must_use]
    pub fn intersection(&self, other: &NodeSet) -> NodeSet {
        let mut set = self.clone();
        set.intersect_with(other);
        set
    }

    /// The nodes of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &NodeSet) -> NodeSet {
        let mut set = self.clone();
        set.subtract(other);
        set
    }

    /// True if no node is in both.
    #[must_use]
    pub fn is_disjoint(&self, other: &NodeSet) -> bool {
        self.words.iter().zip(&other.words).all(|(mine, theirs)| mine & theirs == 0)
    }

    /// True if every node is in the other set too.
    #[must_use]
    pub fn is_subset(&self, other: &NodeSet) -> bool {
        self.words.len() <= other.words.len()
            && self.words.iter().zip(&other.words).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// How many nodes are in both, without making the set.
    #[must_use]
    pub fn count_common(&self, other: &NodeSet) -> u32 {
        self.words.iter().zip(&other.words).map(|(mine, theirs)| (mine & theirs).count_ones()).sum()
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

impl FromIterator<NodeIdx> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeIdx>>(nodes: I) -> NodeSet {
        let mut set = NodeSet::new();
        set.extend(nodes);
        set
    }
}

impl Extend<NodeIdx> for NodeSet {
    fn extend<I: IntoIterator<Item = NodeIdx>>(&mut self, nodes: I) {
        nodes.into_iter().for_each(|node| {
            self.insert(node);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_as_a_plain_set() {
        let mut seed = 3_u32;
        let mut next = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..100 {
            let mut make = || -> BTreeSet<u32> {
                let below = next(300) + 1;
                (0..next(60)).map(|_| next(below)).collect()
            };
            let (left, right) = (make(), make());
            let set = |plain: &BTreeSet<u32>| plain.iter().copied().map(NodeIdx).collect::<NodeSet>();
            let (a, b) = (set(&left), set(&right));
            assert_eq!(a.union(&b), set(&left.union(&right).copied().collect()));
            assert_eq!(a.intersection(&b), set(&left.intersection(&right).copied().collect()));
            assert_eq!(a.difference(&b), set(&left.difference(&right).copied().collect()));
            assert_eq!(a.is_disjoint(&b), left.is_disjoint(&right));
            assert_eq!(a.is_subset(&b), left.is_subset(&right));
            assert_eq!(a.count() as usize, left.len());
            assert_eq!(a.count_common(&b) as usize, left.intersection(&right).count());
            assert!(a.iter().map(|node| node.0).eq(left.iter().copied()));
            let mut gone = a.clone();
            left.iter().for_each(|&node| assert!(gone.remove(NodeIdx(node))));
            assert_eq!(gone, NodeSet::new());
        }
    }

    #[test]
    fn first_n() {
        let set: NodeSet = [3, 70, 200].into_iter().map(NodeIdx).collect();
        assert_eq!(set.first_n(2), Some([3, 70].into_iter().map(NodeIdx).collect()));
        assert_eq!(set.first_n(4), None);
        assert_eq!(set.first(), Some(NodeIdx(3)));
        assert_eq!(NodeSet::first_indices(65).count(), 65);
    }
}
