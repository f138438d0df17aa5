//! A map from job ids, in order of the ids, that finds a job without a search.
//!
//! Ids are given one after the other, so that jobs lie in leaves of 64 neighbours, leaves in branches of 64, branches in
//! a list: three loads whatever is there, where a B-tree takes a search, and a wrongly guessed branch, at each level.
//! Every input, record and plan finds jobs dozens of times. Owns where things lie and nothing else; what lies there
//! in which order is the same as in a B-tree. Memory: 16 bytes for each id of a leaf in use, beside the value's own.

use std::fmt;
use std::ops::{Bound, Index, RangeBounds};

use model::id::JobId;

/// Leaves of a branch, and ids of a leaf.
const WIDTH: usize = 64;
/// Bits of an id that say which of them.
const BITS: u32 = WIDTH.trailing_zeros();

#[derive(Clone)]
struct Leaf<V> {
    used: u32,
    slots: [Option<(JobId, V)>; WIDTH],
}

#[derive(Clone)]
struct Branch<V> {
    used: u32,
    leaves: [Option<Box<Leaf<V>>>; WIDTH],
}

/// See the module.
#[derive(Clone)]
pub struct ById<V> {
    branches: Vec<Option<Box<Branch<V>>>>,
    len: usize,
}

/// Places in the list, in a branch and in a leaf.
fn places(id: JobId) -> (usize, usize, usize) {
    let (id, low) = (id.0 as usize, WIDTH - 1);
    (id >> (2 * BITS), id >> BITS & low, id & low)
}

impl<V> Default for ById<V> {
    fn default() -> Self {
        Self { branches: Vec::new(), len: 0 }
    }
}

impl<V> ById<V> {
    /// How many ids have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of an id. Cost: O(1).
    #[must_use]
    #[inline]
    pub fn get(&self, id: &JobId) -> Option<&V> {
        let (branch, leaf, slot) = places(*id);
        let branch = self.branches.get(branch)?.as_deref()?;
        branch.leaves[leaf].as_deref()?.slots[slot].as_ref().map(|(_, value)| value)
    }

    /// The value of an id, to be changed. Cost: O(1).
    #[inline]
    pub fn get_mut(&mut self, id: &JobId) -> Option<&mut V> {
        let (branch, leaf, slot) = places(*id);
        let branch = self.branches.get_mut(branch)?.as_deref_mut()?;
        branch.leaves[leaf].as_deref_mut()?.slots[slot].as_mut().map(|(_, value)| value)
    }

    /// Whether an id has a value. Cost: O(1).
    #[must_use]
    pub fn contains_key(&self, id: &JobId) -> bool {
        self.get(id).is_some()
    }

    /// Gives an id a value; answers the one before. Cost: O(1), amortised over ids that are given in order.
    pub fn insert(&mut self, id: JobId, value: V) -> Option<V> {
        let (branch, leaf, slot) = places(id);
        if branch >= self.branches.len() {
            self.branches.resize_with(branch + 1, || None);
        }
        let branch = self.branches[branch].get_or_insert_with(|| {
            let leaves = std::array::from_fn(|_| None);
            Box::new(Branch { used: 0, leaves })
        });
        let place = &mut branch.leaves[leaf];
        branch.used += u32::from(place.is_none());
        let leaf = place.get_or_insert_with(|| {
            let slots = std::array::from_fn(|_| None);
            Box::new(Leaf { used: 0, slots })
        });
        let before = leaf.slots[slot].replace((id, value));
        leaf.used += u32::from(before.is_none());
        self.len += usize::from(before.is_none());
        before.map(|(_, value)| value)
    }

    /// Takes the value of an id away. Cost: O(1).
    pub fn remove(&mut self, id: &JobId) -> Option<V> {
        let (place, leaf_place, slot) = places(*id);
        let branch = self.branches.get_mut(place)?.as_deref_mut()?;
        let leaf = branch.leaves[leaf_place].as_deref_mut()?;
        let (_, value) = leaf.slots[slot].take()?;
        leaf.used -= 1;
        self.len -= 1;
        if leaf.used == 0 {
            branch.leaves[leaf_place] = None;
            branch.used -= 1;
            if branch.used == 0 {
                self.branches[place] = None;
            }
        }
        Some(value)
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ids and values in order. Cost: O(leaves in use × their width) for all.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&JobId, &V)> + Clone {
        self.range(..)
    }

    /// Ids in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &JobId> + Clone {
        self.iter().map(|(id, _)| id)
    }

    /// Values in order of their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// Ids of a range and their values, in order.
    pub fn range(
        &self,
        range: impl RangeBounds<JobId>,
    ) -> impl DoubleEndedIterator<Item = (&JobId, &V)> + Clone {
        let first = match range.start_bound() {
            Bound::Included(id) => u64::from(id.0),
            Bound::Excluded(id) => u64::from(id.0) + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(id) => u64::from(id.0) + 1,
            Bound::Excluded(id) => u64::from(id.0),
            Bound::Unbounded => u64::MAX,
        };
        let from = self.branches.len().min(first as usize >> (2 * BITS));
        let to = self.branches.len().min((end >> (2 * BITS)) as usize + 1).max(from);
        let leaves =
            self.branches[from..to].iter().flatten().flat_map(|branch| branch.leaves.iter().flatten());
        let slots = leaves.flat_map(|leaf| leaf.slots.iter().flatten());
        let within = move |id: &JobId| (first..end).contains(&u64::from(id.0));
        slots.filter(move |(id, _)| within(id)).map(|(id, value)| (id, value))
    }
}

impl<V> Index<&JobId> for ById<V> {
    type Output = V;

    #[inline]
    fn index(&self, id: &JobId) -> &V {
        self.get(id).expect("the job exists")
    }
}

impl<V: fmt::Debug> fmt::Debug for ById<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V: PartialEq> PartialEq for ById<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for ById<V> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Whatever comes and goes, it answers as a B-tree does.
    #[test]
    fn answers_as_a_b_tree_does() {
        let mut seed = 11_u64;
        let mut below = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for spread in [1, 7, 100, 5000] {
            let (mut map, mut tree) = (ById::default(), BTreeMap::new());
            for step in 0..2000 {
                let id = JobId(u32::try_from(below(300) * spread).unwrap());
                if below(5) < 3 {
                    assert_eq!(map.insert(id, step), tree.insert(id, step));
                } else {
                    assert_eq!(map.remove(&id), tree.remove(&id));
                }
                assert_eq!((map.len(), map.is_empty()), (tree.len(), tree.is_empty()));
                assert_eq!((map.get(&id), map.contains_key(&id)), (tree.get(&id), tree.contains_key(&id)));
                if step % 50 == 0 {
                    assert!(map.iter().eq(tree.iter()) && map.keys().rev().eq(tree.keys().rev()));
                    let other = JobId(u32::try_from(below(300) * spread).unwrap());
                    let (low, high) = (id.min(other), id.max(other));
                    assert!(map.range(low..high).eq(tree.range(low..high)));
                    assert!(map.range(low..=high).rev().eq(tree.range(low..=high).rev()));
                    let after = (Bound::Excluded(low), Bound::Unbounded);
                    assert!(map.range(after).eq(tree.range(after)));
                    let copy = map.clone();
                    assert_eq!(copy, map);
                    assert_eq!(format!("{copy:?}"), format!("{tree:?}"));
                }
            }
            tree.keys().for_each(|id| assert!(map.remove(id).is_some()));
            assert!(map.is_empty() && map.branches.iter().all(Option::is_none));
        }
    }
}
