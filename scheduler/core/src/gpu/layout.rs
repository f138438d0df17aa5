//! Every state that a GPU can be in, numbered, with its transitions in tables made at compile time.
//!
//! A layout is a set of placements that share no memory slice: 723 of them (298 without the double-memory
//! 1g), 78 of them maximal (19). A number of 16 bits names one; adding, removing and "what still fits" are
//! one look-up each. `gpu/tests.rs` checks all of it against a search that knows only the placement list.

use super::geometry::{Occupancy, PLACEMENTS, Placement, Profile};

/// How many layouts there are.
pub const LAYOUTS: usize = 723;
const NONE: u16 = u16::MAX;

/// The state of one GPU: which instances lie where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout(u16);

struct Tables {
    /// The placements of each layout, bit `i` for `Placement::ALL[i]`.
    sets: [u32; LAYOUTS],
    taken: [u8; LAYOUTS],
    /// The layout after adding a placement, or `NONE`.
    added: [[u16; PLACEMENTS]; LAYOUTS],
    /// The layout after removing a placement, or `NONE`.
    removed: [[u16; PLACEMENTS]; LAYOUTS],
}

static TABLES: Tables = generate();

/// Enumerates the layouts, each once, by adding placements in table order only; then fills in the
/// transitions against that order through the layout without its last placement.
const fn generate() -> Tables {
    let mut tables = Tables {
        sets: [0; LAYOUTS],
        taken: [0; LAYOUTS],
        added: [[NONE; PLACEMENTS]; LAYOUTS],
        removed: [[NONE; PLACEMENTS]; LAYOUTS],
    };
    let (mut at, mut count) = (0, 1);
    while at < count {
        let mut p = (32 - tables.sets[at].leading_zeros()) as usize;
        while p < PLACEMENTS {
            let mask = Placement::ALL[p].mask();
            if tables.taken[at] & mask == 0 {
                tables.sets[count] = tables.sets[at] | 1 << p;
                tables.taken[count] = tables.taken[at] | mask;
                tables.added[at][p] = count as u16;
                tables.removed[count][p] = at as u16;
                count += 1;
            }
            p += 1;
        }
        at += 1;
    }
    assert!(count == LAYOUTS, "there are 723 layouts");
    let mut at = 1;
    while at < LAYOUTS {
        let last = (31 - tables.sets[at].leading_zeros()) as usize;
        let shorter = tables.removed[at][last] as usize;
        let mut p = 0;
        while p < last {
            if tables.taken[at] & Placement::ALL[p].mask() == 0 {
                let with = tables.added[tables.added[shorter][p] as usize][last];
                tables.added[at][p] = with;
                tables.removed[with as usize][p] = at as u16;
            }
            p += 1;
        }
        at += 1;
    }
    tables
}

impl Layout {
    /// A GPU without instances.
    pub const EMPTY: Self = Self(0);

    /// All, the empty one first, smaller sets before larger ones.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..LAYOUTS as u16).map(Self)
    }

    /// Its number, below [`LAYOUTS`].
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The layout of that number; `None` from [`LAYOUTS`] on.
    #[must_use]
    pub const fn of_number(number: u16) -> Option<Self> {
        if (number as usize) < LAYOUTS { Some(Self(number)) } else { None }
    }

    /// The layout of these instances, in any order; `None` if two overlap or one is not legal.
    pub fn of(placements: impl IntoIterator<Item = Placement>) -> Option<Self> {
        placements.into_iter().try_fold(Self::EMPTY, Self::with)
    }

    /// Its instances, by profile, then start.
    pub fn placements(self) -> impl Iterator<Item = Placement> {
        let set = TABLES.sets[usize::from(self.0)];
        Placement::ALL.into_iter().enumerate().filter(move |(i, _)| set >> i & 1 == 1).map(|(_, p)| p)
    }

    /// The memory slices that its instances take.
    #[must_use]
    pub fn occupancy(self) -> Occupancy {
        Occupancy(TABLES.taken[usize::from(self.0)])
    }

    /// With one more instance; `None` where it does not fit or is not legal.
    #[must_use]
    pub fn with(self, placement: Placement) -> Option<Self> {
        Self::some(TABLES.added[usize::from(self.0)][position(placement)?])
    }

    /// With one instance less; `None` if it is not there.
    #[must_use]
    pub fn without(self, placement: Placement) -> Option<Self> {
        Self::some(TABLES.removed[usize::from(self.0)][position(placement)?])
    }

    /// Whether nothing can be added (of the profiles given).
    #[must_use]
    pub fn is_maximal(self, profiles: &[Profile]) -> bool {
        profiles.iter().all(|&profile| self.occupancy().free_starts(profile) == 0)
    }

    /// For each profile, how many fewer of it would fit after adding the placement.
    #[must_use]
    pub fn lost(self, placement: Placement) -> [u32; 6] {
        let (before, after) = (self.occupancy(), self.occupancy().with(placement));
        Profile::ALL.map(|profile| before.room(profile) - after.room(profile))
    }

    const fn some(number: u16) -> Option<Self> {
        if number == NONE { None } else { Some(Self(number)) }
    }
}

/// The bit of a placement; `None` if the start is not legal for the profile.
fn position(placement: Placement) -> Option<usize> {
    const FIRST: [usize; 6] = [0, 7, 11, 14, 16, 17];
    let within = placement.profile.starts().iter().position(|&start| start == placement.start)?;
    Some(FIRST[placement.profile.index()] + within)
}
