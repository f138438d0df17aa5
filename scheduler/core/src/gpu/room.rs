//! What the free slices of a GPU amount to: classes of occupancies in which the same requests can follow.
//!
//! Two occupancies are in one class if each profile leads from both to the same classes: halves of a pair of slices
//! may be swapped, and what no profile can use counts for nothing. The 192 occupancies that occur make 27 classes,
//! so that what two or three GPUs are worth together is a small table ([`value`](super::value)).
//!
//! Invariant: placing leads to a class of a smaller number, and class 0 has no room at all.

use super::geometry::{Occupancy, Placement, Profile};

/// How many classes there are.
pub(super) const CLASSES: usize = 27;

struct Tables {
    of: [u8; 256],
    /// The lowest occupancy of each class.
    least: [u8; CLASSES],
    /// For each class and profile the classes that placing leads to, as bits.
    after: [[u32; 6]; CLASSES],
    /// The occupancies of each class, as bits.
    members: [[u64; 4]; CLASSES],
}

static TABLES: Tables = generate();

/// Whether it occurs: slice 7 is never taken without slice 6.
const fn occurs(taken: usize) -> bool {
    taken & 0x80 == 0 || taken & 0x40 != 0
}

/// From the fullest occupancy down: where placing leads is known, and tells the class.
const fn generate() -> Tables {
    let mut tables =
        Tables { of: [0; 256], least: [0; CLASSES], after: [[0; 6]; CLASSES], members: [[0; 4]; CLASSES] };
    let (mut count, mut down) = (0, 256);
    while down > 0 {
        down -= 1;
        if !occurs(down) {
            continue;
        }
        let mut after = [0_u32; 6];
        let mut p = 0;
        while p < Placement::ALL.len() {
            let placement = Placement::ALL[p];
            if down as u8 & placement.mask() == 0 {
                let to = tables.of[down | placement.mask() as usize];
                after[placement.profile.index()] |= 1 << to;
            }
            p += 1;
        }
        let mut class = 0;
        while class < count && !same(&tables.after[class], &after) {
            class += 1;
        }
        if class == count {
            tables.after[class] = after;
            count += 1;
        }
        tables.of[down] = class as u8;
        tables.least[class] = down as u8;
        tables.members[class][down / 64] |= 1 << (down % 64);
    }
    assert!(count == CLASSES, "there are 27 classes");
    let mut taken = 0;
    while taken < 256 {
        if !occurs(taken) {
            // Nobody makes it; as if the slice that is cut off were taken.
            tables.of[taken] = tables.of[taken | 0x40];
            tables.members[tables.of[taken] as usize][taken / 64] |= 1 << (taken % 64);
        }
        taken += 1;
    }
    tables
}

const fn same(one: &[u32; 6], other: &[u32; 6]) -> bool {
    let mut p = 0;
    while p < 6 {
        if one[p] != other[p] {
            return false;
        }
        p += 1;
    }
    true
}

/// A class of occupancies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Class(pub(super) u8);

impl Class {
    /// No room for anything.
    pub(super) const FULL: Self = Self(0);

    /// That of an occupancy.
    pub(super) const fn of(taken: Occupancy) -> Self {
        Self(TABLES.of[taken.0 as usize])
    }

    /// All, those with the least room first.
    pub(super) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    /// Its lowest occupancy, which stands for the others.
    pub(super) const fn least(self) -> Occupancy {
        Occupancy(TABLES.least[self.0 as usize])
    }

    /// Its occupancies, one bit for each of the 256.
    pub(super) fn members(self) -> &'static [u64; 4] {
        &TABLES.members[usize::from(self.0)]
    }

    /// The classes that placing an instance leads to.
    pub(super) fn after(self, profile: Profile) -> Classes {
        Classes(TABLES.after[usize::from(self.0)][profile.index()])
    }
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(pub(super) u32);

impl Classes {
    pub(super) const fn insert(&mut self, class: Class) {
        self.0 |= 1 << class.0;
    }

    pub(super) const fn remove(&mut self, class: Class) {
        self.0 &= !(1 << class.0);
    }

    pub(super) const fn contains(self, class: Class) -> bool {
        self.0 >> class.0 & 1 == 1
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The one with the most room.
    pub(super) const fn last(self) -> Option<Class> {
        if self.0 == 0 { None } else { Some(Class(31 - self.0.leading_zeros() as u8)) }
    }

    /// Those with a smaller number than `class`.
    pub(super) const fn below(self, class: Class) -> Self {
        Self(self.0 & ((1 << class.0) - 1))
    }
}

impl Iterator for Classes {
    type Item = Class;

    /// The smallest number first.
    fn next(&mut self) -> Option<Class> {
        let first = (self.0 != 0).then(|| Class(self.0.trailing_zeros() as u8))?;
        self.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_all_that_the_requests_to_come_can_tell() {
        for taken in (0..=u8::MAX).filter(|taken| occurs(usize::from(*taken))) {
            let class = Class::of(Occupancy(taken));
            assert!(class.members()[usize::from(taken / 64)] >> (taken % 64) & 1 == 1);
            for profile in Profile::ALL {
                let free = Occupancy(taken).free_starts(profile);
                let mut after = Classes::default();
                for start in (0..8).filter(|start| free >> start & 1 == 1) {
                    after.insert(Class::of(Occupancy(taken | profile.mask(start))));
                }
                assert_eq!(after, class.after(profile), "{taken:08b} {profile:?}");
                assert!(after.into_iter().all(|to| to < class), "placing leads down");
            }
        }
        // No two classes are the same to every request.
        for one in Class::all() {
            for other in Class::all().filter(|other| *other != one) {
                assert!(Profile::ALL.iter().any(|&p| one.after(p) != other.after(p)), "{one:?} {other:?}");
            }
        }
        assert_eq!(Class::of(Occupancy(0xff)), Class::FULL);
        assert_eq!(Class::of(Occupancy::EMPTY), Class(CLASSES as u8 - 1));
    }
}
