//! What is asked for: the share of each profile among the requests, told or learned.

use super::geometry::Profile;

/// Relative weight of each profile among the requests, in table order. At least one is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u32; 6]);

impl Mix {
    /// All profiles alike.
    pub const EVEN: Self = Self([1; 6]);

    /// `None` if every weight is zero.
    #[must_use]
    pub fn new(weights: [u32; 6]) -> Option<Self> {
        weights.iter().any(|&weight| weight > 0).then_some(Self(weights))
    }

    /// The weight of a profile.
    #[must_use]
    pub const fn weight(&self, profile: Profile) -> u32 {
        self.0[profile.index()]
    }

    /// All weights, in table order.
    #[must_use]
    pub const fn weights(&self) -> [u32; 6] {
        self.0
    }
}

/// The mix as seen so far, from arrivals alone (placed or not).
///
/// Starts as if a few requests of each profile had been seen, and halves all counts now and then, so that
/// it follows a queue whose wishes change. Learning says when the mix has changed enough to be worth new tables:
/// after each eighth more arrivals, and then every [`Observed::FORGET`] / 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    counts: [u32; 6],
    until_fresh: u32,
}

impl Observed {
    /// Half of what was seen is forgotten when the sum of the counts reaches this.
    pub const FORGET: u32 = 16_384;
    const PRIOR: u32 = 2;

    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [Self::PRIOR; 6], until_fresh: 1 }
    }

    /// The counts, and how many arrivals are left until the mix is worth reading again.
    #[must_use]
    pub const fn parts(&self) -> ([u32; 6], u32) {
        (self.counts, self.until_fresh)
    }

    /// What [`Self::parts`] said; `None` if no counting ends there.
    #[must_use]
    pub fn of_parts(counts: [u32; 6], until_fresh: u32) -> Option<Self> {
        let counted = counts.iter().all(|&count| (1..=Self::FORGET).contains(&count));
        (counted && until_fresh > 0).then_some(Self { counts, until_fresh })
    }

    /// Counts an arrival; true when the mix is worth reading again.
    pub fn saw(&mut self, profile: Profile) -> bool {
        self.counts[profile.index()] += 1;
        let sum: u32 = self.counts.iter().sum();
        if sum >= Self::FORGET {
            self.counts = self.counts.map(|count| count.div_ceil(2));
        }
        self.until_fresh -= 1;
        if self.until_fresh > 0 {
            return false;
        }
        self.until_fresh = (sum / 8).max(1);
        true
    }

    /// The mix as far as it is known.
    #[must_use]
    pub const fn mix(&self) -> Mix {
        Mix(self.counts)
    }
}

impl Default for Observed {
    fn default() -> Self {
        Self::new()
    }
}
