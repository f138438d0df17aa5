//! Integer amounts with their unit. Arithmetic that can overflow is checked or saturates by name.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// The difference, or zero where `other` is the larger.
            #[must_use]
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// This amount `times` over, or the largest amount where that is too much.
            #[must_use]
            pub fn saturating_mul(self, times: $inner) -> Self {
                Self(self.0.saturating_mul(times))
            }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.checked_add(other.0).expect("an amount of a cluster fits its type"))
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.checked_sub(other.0).expect("no more is given back than was taken"))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, |sum, amount| sum + amount)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

quantity! {
    /// Processors as the scheduler counts them: hardware threads (Slurm's CPUs).
    Cpus(u32)
}
quantity! {
    /// Memory in MiB (what Slurm writes as `M`).
    MemoryMib(u64)
}

/// Counts of one node after the other in Slurm's short form: `8(x2),4`.
#[must_use]
pub fn runs(counts: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for count in counts {
        match runs.last_mut() {
            Some((same, times)) if *same == count => *times += 1,
            _ => runs.push((count, 1)),
        }
    }
    let text = |&(count, times): &(u32, u32)| match times {
        1 => count.to_string(),
        _ => format!("{count}(x{times})"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_folded() {
        assert_eq!(runs([8, 8, 4]), "8(x2),4");
        assert_eq!(runs([1]), "1");
    }
}
