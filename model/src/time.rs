//! Moments, lengths of time, and the texts in which Slurm reads and writes them.
//!
//! Owns `Timestamp` and `Span`, the parsers of `--time` and `--begin` style texts, and the printed
//! forms of both. Never reads a clock or a time-zone file: the present moment and the zone are
//! arguments. All arithmetic saturates, so a moment or a length is always a valid value.

pub mod limit;
pub mod moment;

/// A moment: milliseconds since 1970-01-01T00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A length of time in milliseconds; may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

impl Timestamp {
    /// The epoch, also Slurm's "no time".
    pub const ZERO: Timestamp = Timestamp(0);
    /// A moment after every real one.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// From whole seconds since the epoch; saturates.
    pub const fn from_secs(secs: i64) -> Timestamp {
        Timestamp(secs.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// True for the "no time" value.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The moment `span` later; saturates.
    pub const fn saturating_add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }

    /// The moment `span` earlier; saturates.
    pub const fn saturating_sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }

    /// The moment `span` later, or `None` past the end of time.
    pub const fn checked_add(self, span: Span) -> Option<Timestamp> {
        match self.0.checked_add(span.0) {
            Some(ms) => Some(Timestamp(ms)),
            None => None,
        }
    }

    /// How long after `earlier` this is; negative when it is before; saturates.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Longer than every real length.
    pub const MAX: Span = Span(i64::MAX);

    /// From milliseconds.
    pub const fn from_millis(ms: i64) -> Span {
        Span(ms)
    }

    /// From whole seconds; saturates.
    pub const fn from_secs(secs: i64) -> Span {
        Span(secs.saturating_mul(1000))
    }

    /// From whole minutes; saturates.
    pub const fn from_mins(mins: i64) -> Span {
        Span(mins.saturating_mul(60_000))
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole minutes, rounded down.
    pub const fn as_mins(self) -> i64 {
        self.0.div_euclid(60_000)
    }

    /// Whole minutes, rounded up: how Slurm stores a limit given with seconds.
    pub const fn as_mins_ceil(self) -> i64 {
        self.as_mins() + (self.0.rem_euclid(60_000) != 0) as i64
    }

    /// The sum; saturates.
    pub const fn saturating_add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }

    /// The difference; saturates.
    pub const fn saturating_sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }

    /// This length `times` over; saturates.
    pub const fn saturating_mul(self, times: i64) -> Span {
        Span(self.0.saturating_mul(times))
    }

    /// The sum, or `None` past the range.
    pub const fn checked_add(self, other: Span) -> Option<Span> {
        match self.0.checked_add(other.0) {
            Some(ms) => Some(Span(ms)),
            None => None,
        }
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl std::ops::Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        self.saturating_add(span)
    }
}

impl std::ops::Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        self.saturating_sub(span)
    }
}

impl std::ops::Sub for Timestamp {
    type Output = Span;
    fn sub(self, earlier: Timestamp) -> Span {
        self.since(earlier)
    }
}

impl std::ops::Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        self.saturating_add(other)
    }
}

impl std::ops::Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        self.saturating_sub(other)
    }
}

impl std::ops::AddAssign for Span {
    fn add_assign(&mut self, other: Span) {
        *self = self.saturating_add(other);
    }
}

impl std::ops::AddAssign<Span> for Timestamp {
    fn add_assign(&mut self, span: Span) {
        *self = self.saturating_add(span);
    }
}
