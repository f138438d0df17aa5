//! What a slice is called and holds on each GPU. The geometry is the same on all of them.

use super::geometry::Profile;

/// A GPU whose slices are known by name.
///
/// Planning reads names and sizes from the device; this table serves simulation, the fake NVML and checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// NVIDIA A100, 40 GB.
    A100With40,
    /// NVIDIA A100, 80 GB.
    A100With80,
    /// NVIDIA H100, 80 GB.
    H100With80,
    /// NVIDIA H200, 141 GB.
    H200,
    /// NVIDIA B200, 180 GB.
    B200,
}

/// The gigabytes in each profile's name, in table order.
type Gigabytes = [u32; 6];

impl Model {
    /// All.
    pub const ALL: [Self; 5] = [Self::A100With40, Self::A100With80, Self::H100With80, Self::H200, Self::B200];

    const fn gigabytes(self) -> Gigabytes {
        match self {
            Self::A100With40 => [5, 10, 10, 20, 20, 40],
            Self::A100With80 | Self::H100With80 => [10, 20, 20, 40, 40, 80],
            Self::H200 => [18, 35, 35, 71, 71, 141],
            Self::B200 => [23, 45, 45, 90, 90, 180],
        }
    }

    /// The gigabytes in a profile's name; what the device reports is a little less.
    #[must_use]
    pub const fn memory_gb(self, profile: Profile) -> u32 {
        self.gigabytes()[profile.index()]
    }

    /// A profile's name, as in `3g.40gb`. The name alone does not tell the model: `1g.10gb` is the double-memory
    /// 1g of an A100 with 40 GB and the plain 1g of one with 80 GB.
    #[must_use]
    pub fn name(self, profile: Profile) -> String {
        format!("{}g.{}gb", profile.compute_slices(), self.memory_gb(profile))
    }

    /// The profile of that name on this model.
    #[must_use]
    pub fn profile(self, name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|&profile| self.name(profile) == name)
    }

    /// The smallest profile with at least so much memory by name; of two alike the one with fewer compute
    /// slices.
    #[must_use]
    pub fn at_least(self, memory_gb: u32) -> Option<Profile> {
        Profile::ALL.into_iter().find(|&profile| self.memory_gb(profile) >= memory_gb)
    }
}
