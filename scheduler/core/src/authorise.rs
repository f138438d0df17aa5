//! Who may do what: one table, asked in one place.

use model::id::Uid;
use model::refusal::Refusal;

use crate::effect::Asker;
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::AdminLevel;
use crate::state::job::Job;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// End or signal a job.
    Cancel,
    /// Change, hold or release a job.
    Change,
    /// Put a job back.
    Requeue,
    /// Suspend or resume a job.
    Suspend,
    /// Make steps in a job, or end its allocation.
    UseAllocation,
    /// Change nodes, partitions, accounts, the configuration.
    Administrate,
}

/// Rights of an asker over the whole cluster.
#[must_use]
pub fn level(state: &State, settings: &Settings, asker: &Asker) -> AdminLevel {
    if settings.administrators.contains(&asker.uid) {
        return AdminLevel::Administrator;
    }
    state.accounts.users.get(&*asker.name).map_or(AdminLevel::None, |user| user.admin_level)
}

/// Whether `asker` may do `act`, to `job` where it is about one; the refusal is the one Slurm gives.
pub fn may(
    state: &State,
    settings: &Settings,
    asker: &Asker,
    act: Act,
    job: Option<&Job>,
) -> Result<(), Refusal> {
    let level = level(state, settings, asker);
    let owner: Option<Uid> = job.map(|job| job.owner.uid);
    let own = owner == Some(asker.uid);
    let coordinates = job.is_some_and(|job| {
        state
            .accounts
            .users
            .get(&*asker.name)
            .is_some_and(|user| user.coordinates.iter().any(|account| **account == *job.account))
    });
    let (allowed, refusal) = match act {
        Act::Cancel | Act::Requeue => {
            (own || coordinates || level >= AdminLevel::Operator, Refusal::AccessDenied)
        }
        Act::Change => (own || coordinates || level >= AdminLevel::Operator, Refusal::UserIdMissing),
        Act::Suspend => (own || level >= AdminLevel::Operator, Refusal::AccessDenied),
        Act::UseAllocation => (own || level == AdminLevel::Administrator, Refusal::UserIdMissing),
        Act::Administrate => (level == AdminLevel::Administrator, Refusal::UserIdMissing),
    };
    if allowed { Ok(()) } else { Err(refusal) }
}
