//! Memory slices among those of all GPUs of one node.
//!
//! Owns the set and its arithmetic, and nothing else: eight bits for each of the first sixteen GPUs, two words in all.
//! Which slices matters, so that what is free over some time is what is free at each instant of it: an intersection.
//! A set of nothing costs two comparisons, which is what a node without dynamic GPUs pays.

use std::ops::{BitAnd, BitOr, Not};

/// See the module. The GPU of the lowest index stands in the lowest byte of the first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceSet(pub [u64; 2]);

impl SliceSet {
    /// GPUs whose slices can be told: those of lower indices.
    pub const GPUS: u32 = model::gpu::DYNAMIC_GPUS_MAX;

    /// None.
    pub const EMPTY: Self = Self([0; 2]);

    /// All that can be told.
    pub const ALL: Self = Self([u64::MAX; 2]);

    /// Slices of one GPU, bit `i` for memory slice `i`; none of a GPU that cannot be told.
    #[must_use]
    pub const fn of(gpu: u32, slices: u8) -> Self {
        let mut words = [0; 2];
        if gpu < Self::GPUS {
            words[(gpu / 8) as usize] = (slices as u64) << (8 * (gpu % 8));
        }
        Self(words)
    }

    /// Those of one GPU, bit `i` for memory slice `i`.
    #[must_use]
    #[inline]
    pub fn on(self, gpu: u32) -> u8 {
        let word = self.0.get((gpu / 8) as usize).copied().unwrap_or(0);
        #[allow(clippy::cast_possible_truncation, reason = "the low byte is meant")]
        let slices = (word >> (8 * (gpu % 8))) as u8;
        slices
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0[0] | self.0[1] == 0
    }

    /// Whether all of the other are among these.
    #[must_use]
    #[inline]
    pub fn covers(self, other: Self) -> bool {
        (other & !self).is_empty()
    }

    /// Whether some are in both.
    #[must_use]
    #[inline]
    pub fn meets(self, other: Self) -> bool {
        !(self & other).is_empty()
    }

    /// The union of some.
    #[must_use]
    pub fn union(sets: impl IntoIterator<Item = Self>) -> Self {
        sets.into_iter().fold(Self::EMPTY, |all, one| all | one)
    }

    /// GPUs with some, ascending.
    pub fn gpus(self) -> impl Iterator<Item = u32> {
        (0..Self::GPUS).filter(move |gpu| self.on(*gpu) != 0)
    }
}

const _: () = assert!(SliceSet::GPUS == 16, "two words hold eight bits for each");

impl BitAnd for SliceSet {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }
}

impl BitOr for SliceSet {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }
}

impl Not for SliceSet {
    type Output = Self;

    #[inline]
    fn not(self) -> Self {
        Self([!self.0[0], !self.0[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gpu_has_its_own_byte() {
        for gpu in 0..SliceSet::GPUS {
            let set = SliceSet::of(gpu, 0b1001_0001);
            assert!(
                (0..SliceSet::GPUS).all(|other| set.on(other) == if other == gpu { 0b1001_0001 } else { 0 })
            );
            assert_eq!(set.gpus().collect::<Vec<_>>(), [gpu]);
            assert!(SliceSet::ALL.covers(set) && !(!set).meets(set) && !set.is_empty());
            assert!(set.covers(SliceSet::of(gpu, 1)) && !set.covers(SliceSet::of(gpu, 2)));
        }
        let beyond = SliceSet::of(SliceSet::GPUS, 0xff);
        assert!(beyond.is_empty() && SliceSet::ALL.on(SliceSet::GPUS) == 0, "a further GPU has none");
        assert_eq!(SliceSet::union((0..SliceSet::GPUS).map(|gpu| SliceSet::of(gpu, 0xff))), SliceSet::ALL);
    }
}
