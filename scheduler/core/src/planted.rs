//! Bugs to plant: a check that the simulation's oracles would see them (`cargo xtask soak --bugs`).
//!
//! Without the feature `planted-bugs`, which no product is built with, [`is`] is always false and costs
//! nothing. One bug at a time is planted, for the whole process.

/// A bug. Each was made by somebody, here or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A run that is not known after a lost spool is launched again.
    LaunchUnknown = 1,
    /// A repeated call makes a second job.
    ForgetKey,
    /// A dependency that failed counts as met.
    MeetFailed,
    /// A job is over when its end is decided, not when its processes are gone.
    EndEarly,
    /// An outcome is acknowledged and not recorded.
    DropOutcome,
    /// A requeued job's wait has no timer.
    ForgetTimer,
    /// The next id is not stored.
    ForgetId,
    /// A job on several CPUs of a node is counted with one less there.
    CountCpuLess,
    /// Devices of a job that ends are given back twice.
    FreeGresTwice,
    /// A job with several of a license is counted with one less.
    CountLicenseLess,
    /// A submission is acknowledged and not recorded.
    DropSubmit,
    /// The last of several promises that a pass makes is recorded as none.
    ForgetPromise,
    /// A promise that moves later is recorded as one that moves earlier.
    MoveSilently,
    /// Jobs behind the promised ones are tested for this instant only, not until their end.
    OverlookPromises,
    /// Of jobs of the same priority the last submitted comes first.
    LastComesFirst,
    /// A run that was begun counts as lost when its node was silent.
    LoseSilent,
    /// A node that registers with less than is declared is used.
    TakeShort,
    /// A slice of several memory slices is counted with one less.
    CountSliceLess,
    /// An executor that starts forgets what an earlier one claimed for slices.
    ForgetClaims,
    /// A run's end is told before its slices are destroyed.
    TellEndFirst,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 20] = [
        Self::LaunchUnknown,
        Self::ForgetKey,
        Self::MeetFailed,
        Self::EndEarly,
        Self::DropOutcome,
        Self::ForgetTimer,
        Self::ForgetId,
        Self::CountCpuLess,
        Self::FreeGresTwice,
        Self::CountLicenseLess,
        Self::DropSubmit,
        Self::ForgetPromise,
        Self::MoveSilently,
        Self::OverlookPromises,
        Self::LastComesFirst,
        Self::LoseSilent,
        Self::TakeShort,
        Self::CountSliceLess,
        Self::ForgetClaims,
        Self::TellEndFirst,
    ];
}

#[cfg(feature = "planted-bugs")]
mod ground {
    use std::sync::atomic::{AtomicU8, Ordering};

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug, or takes it out again.
    pub fn plant(bug: Option<super::Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
    }

    /// Whether it is planted.
    pub fn is(bug: super::Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod ground {
    /// Never: nothing is planted in a product.
    #[must_use]
    pub const fn is(_: super::Bug) -> bool {
        false
    }
}

pub use ground::is;
#[cfg(feature = "planted-bugs")]
pub use ground::plant;
