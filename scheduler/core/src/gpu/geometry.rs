//! Where an instance may lie on a GPU: the placement table and what follows from it.
//!
//! Ampere, Hopper and Blackwell datacenter parts show eight memory slices and seven compute slices. An
//! instance takes an aligned run of memory slices; instances that share no memory slice never need more than
//! seven compute slices, so memory alone decides. Source: placements as NVML reports them on A100 and H100
//! (NVIDIA MIG User Guide). The same table holds for every GPU of [`Model`](super::model::Model).

use super::slice_set::SliceSet;

/// Memory slices of a GPU.
pub const MEMORY_SLICES: u32 = 8;
/// Compute slices of a GPU.
pub const COMPUTE_SLICES: u32 = 7;

/// A kind of instance, in ascending order of size; the order of every table here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// One compute slice, one memory slice.
    OneG,
    /// One compute slice with double memory.
    OneGWide,
    /// Two compute slices.
    TwoG,
    /// Three compute slices; four memory slices, not three.
    ThreeG,
    /// Four compute slices.
    FourG,
    /// The whole GPU.
    SevenG,
}

impl Profile {
    /// All, in table order.
    pub const ALL: [Self; 6] =
        [Self::OneG, Self::OneGWide, Self::TwoG, Self::ThreeG, Self::FourG, Self::SevenG];

    /// Position in [`Profile::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Compute slices it takes.
    #[must_use]
    pub const fn compute_slices(self) -> u32 {
        match self {
            Self::OneG | Self::OneGWide => 1,
            Self::TwoG => 2,
            Self::ThreeG => 3,
            Self::FourG => 4,
            Self::SevenG => 7,
        }
    }

    /// Memory slices it takes.
    #[must_use]
    pub const fn memory_slices(self) -> u32 {
        match self {
            Self::OneG => 1,
            Self::OneGWide | Self::TwoG => 2,
            Self::ThreeG | Self::FourG => 4,
            Self::SevenG => 8,
        }
    }

    /// Memory slices at which it may begin, ascending.
    #[must_use]
    pub const fn starts(self) -> &'static [u8] {
        match self {
            Self::OneG => &[0, 1, 2, 3, 4, 5, 6],
            Self::OneGWide => &[0, 2, 4, 6],
            Self::TwoG => &[0, 2, 4],
            Self::ThreeG => &[0, 4],
            Self::FourG | Self::SevenG => &[0],
        }
    }

    /// Its free starts on all GPUs of a node at once, each start as the memory slice that it begins at, where so many
    /// memory slices are free.
    ///
    /// Runs begin at starts from which they end within the GPU, so that no run reaches into the next one.
    #[must_use]
    #[inline]
    pub const fn windows(self, free: SliceSet) -> SliceSet {
        SliceSet([self.windows_of_eight(free.0[0]), self.windows_of_eight(free.0[1])])
    }

    /// The same of eight GPUs, in one word.
    const fn windows_of_eight(self, free: u64) -> u64 {
        /// The legal starts of a GPU, on each of eight.
        const LEGAL: [u64; 6] = {
            let mut legal = [0; 6];
            let mut at = 0;
            while at < PLACEMENTS {
                let Placement { profile, start } = Placement::ALL[at];
                legal[profile.index()] |= 0x0101_0101_0101_0101 << start;
                at += 1;
            }
            legal
        };
        let mut runs = free;
        let mut length = 1;
        while length < self.memory_slices() {
            runs &= runs >> length;
            length *= 2;
        }
        runs & LEGAL[self.index()]
    }

    /// The memory slices it takes when it begins at `start` (below 8), bit `i` for slice `i`.
    #[must_use]
    pub const fn mask(self, start: u8) -> u8 {
        let run = (1_u16 << self.memory_slices()) - 1;
        // Truncation cannot happen for a legal start: the run ends at slice 7 at the latest.
        (run << start) as u8
    }
}

/// A profile at a start: one thing that can be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// What.
    pub profile: Profile,
    /// First memory slice.
    pub start: u8,
}

/// How many placements there are.
pub const PLACEMENTS: usize = 18;

impl Placement {
    /// Every legal placement, by profile, then start.
    pub const ALL: [Self; PLACEMENTS] = {
        let mut all = [Self { profile: Profile::OneG, start: 0 }; PLACEMENTS];
        let (mut at, mut p) = (0, 0);
        while p < Profile::ALL.len() {
            let starts = Profile::ALL[p].starts();
            let mut s = 0;
            while s < starts.len() {
                all[at] = Self { profile: Profile::ALL[p], start: starts[s] };
                at += 1;
                s += 1;
            }
            p += 1;
        }
        assert!(at == PLACEMENTS, "the table has as many rows as it says");
        all
    };

    /// The memory slices it takes.
    #[must_use]
    pub const fn mask(self) -> u8 {
        self.profile.mask(self.start)
    }
}

/// Which memory slices of a GPU are taken: bit `i` for slice `i`. All that placing needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Occupancy(pub u8);

/// For each occupancy and profile the starts that are free, bit `i` for start `i`.
static FREE_STARTS: [[u8; 6]; 256] = {
    let mut table = [[0; 6]; 256];
    let mut taken = 0;
    while taken < 256 {
        let mut p = 0;
        while p < PLACEMENTS {
            let placement = Placement::ALL[p];
            if taken as u8 & placement.mask() == 0 {
                table[taken][placement.profile.index()] |= 1 << placement.start;
            }
            p += 1;
        }
        taken += 1;
    }
    table
};

impl Occupancy {
    /// Nothing taken.
    pub const EMPTY: Self = Self(0);

    /// How many memory slices are free, slice 7 included.
    #[must_use]
    pub const fn free_slices(self) -> u32 {
        self.0.count_zeros()
    }

    /// The starts at which `profile` fits, bit `i` for start `i`. A table look-up.
    #[must_use]
    pub fn free_starts(self, profile: Profile) -> u8 {
        FREE_STARTS[usize::from(self.0)][profile.index()]
    }

    /// How many instances of `profile` (and nothing else) could still be added.
    ///
    /// The placements of one profile never overlap each other, so this is the number of free starts.
    #[must_use]
    pub fn room(self, profile: Profile) -> u32 {
        self.free_starts(profile).count_ones()
    }

    /// With the placement's slices taken too. The caller has seen that they are free.
    #[must_use]
    pub const fn with(self, placement: Placement) -> Self {
        Self(self.0 | placement.mask())
    }

    /// With the placement's slices free again.
    #[must_use]
    pub const fn without(self, placement: Placement) -> Self {
        Self(self.0 & !placement.mask())
    }
}
