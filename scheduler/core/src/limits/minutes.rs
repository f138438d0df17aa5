//! Limits in minutes of use: GrpTRESMins, GrpTRESRunMins, MaxTRESMinsPerJob and GrpWall of QOS and associations.
//!
//! What ended runs used stands in [`crate::state::spent`], what running ones used so far is added to it, each times
//! its QOS's UsageFactor. Nothing decays (PriorityDecayHalfLife is not looked at), and a job that runs is not ended
//! when a sum is reached: no other starts. Source: the resource limits guide; acct_policy.

use model::reason::Reason;
use model::time::Timestamp;

use super::words::{self, Of};
use super::{Candidate, Charged, chain, first, number, partition_qos, tres};
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::{Accounts, Association, AssociationKey, Attributes, Qos};
use crate::state::job::{Active, Job};
use crate::state::spent::{Charge, Spent};
use crate::tally::Tally;

/// Seconds that stand for no limit.
pub(super) const FOR_EVER: u64 = u64::MAX / 1_000_000_000;

/// The UsageFactor of a job's QOS, in thousandths.
pub(super) fn factor(accounts: &Accounts, job: &Job) -> u64 {
    let text = accounts.qos.get(&*job.qos).and_then(|qos| qos.attributes.get("usagefactor"));
    let factor =
        text.and_then(|text| text.parse::<f64>().ok()).filter(|factor| *factor >= 0.0).unwrap_or(1.0);
    // A float that is too large becomes the largest number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is rounded and not negative"
    )]
    let thousandths = (factor * 1000.0).round() as u64;
    thousandths
}

/// Seconds that a run has taken, suspension left out.
pub(super) fn ran(active: &Active, now: Timestamp) -> u64 {
    let stopped = active.suspended_since.map_or(0, |since| now.since(since).as_secs());
    let all = now.since(active.start).as_secs() - active.suspended_total.as_secs() - stopped;
    all.max(0).unsigned_abs()
}

/// What the run of a job that ends at `now` is charged for; `None`: it has no association, and no QOS of it
/// counts minutes.
#[must_use]
pub fn charge(state: &State, settings: &Settings, job: &Job, now: Timestamp) -> Option<Charge> {
    let active = job.active()?;
    let accounts = &state.accounts;
    if job.association == 0 && accounts.qos.is_empty() {
        return None;
    }
    let partition = state.partition(active.partition).and_then(partition_qos);
    let names = [Some(&*job.qos), partition.filter(|name| **name != *job.qos)];
    let all_qos = || names.into_iter().flatten().filter_map(|name| accounts.qos.get(name));
    let counts = |qos: &Qos| -> bool {
        ["grptresmins", "grpwall"]
            .iter()
            .any(|key| qos.attributes.get(*key).is_some_and(|limit| !limit.is_empty()))
    };
    if job.association == 0 && !all_qos().any(counts) {
        return None;
    }
    let (seconds, factor) = (ran(active, now), factor(accounts, job));
    let tally = Tally::of_allocation(state, &active.allocation);
    Some(Charge {
        associations: chain(accounts, settings, job).iter().map(|(_, row)| row.id).collect(),
        qos: all_qos().map(|qos| qos.id).collect(),
        wall_s: seconds.saturating_mul(factor) / 1000,
        tres_s: tally.times(seconds, factor),
    })
}

/// Whether a limit gives way while running jobs go on: what they may still use becomes less.
#[must_use]
pub fn passes_with_time(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::QOSGrpCPURunMinutesLimit
            | Reason::QOSGrpMemoryRunMinutes
            | Reason::QOSGrpNodeRunMinutes
            | Reason::QOSGrpBillingRunMinutes
            | Reason::QOSGrpGRESRunMinutes
            | Reason::AssocGrpCPURunMinutesLimit
            | Reason::AssocGrpMemRunMinutes
            | Reason::AssocGrpNodeRunMinutes
            | Reason::AssocGrpBillingRunMinutes
            | Reason::AssocGrpGRESRunMinutes
    )
}

/// The first limit in minutes that would be broken: sums that are reached, what jobs may still use, and what one
/// job may.
struct Minutes<'a> {
    /// What was used.
    used: Tally,
    wall_s: u64,
    /// What jobs may still use, the candidate apart.
    left: Tally,
    candidate: &'a Tally,
    /// What the candidate may use.
    wanted: &'a Tally,
}

impl Minutes<'_> {
    fn broken(
        &self,
        limits: [Option<Vec<(String, u64)>>; 3],
        wall: Option<u64>,
        of: [Of; 3],
        wall_reason: Reason,
    ) -> Option<Reason> {
        let [sums, running, one] = limits;
        let find = |limits: Option<Vec<(String, u64)>>, of: Of, over: &dyn Fn(&str, u64) -> bool| {
            let found = limits?.into_iter().find(|(name, most)| over(name, most.saturating_mul(60)))?;
            Some(words::reason(of, &found.0))
        };
        // What the job does not use cannot hold it back.
        let concerns = |name: &str| self.candidate.amount(name) > 0;
        find(sums, of[0], &|name, most| concerns(name) && self.used.amount(name) >= most)
            .or_else(|| wall.filter(|most| self.wall_s >= most.saturating_mul(60)).map(|_| wall_reason))
            .or_else(|| {
                find(running, of[1], &|name, most| {
                    let all = self.left.amount(name).saturating_add(self.wanted.amount(name));
                    concerns(name) && all > most
                })
            })
            .or_else(|| find(one, of[2], &|name, most| self.wanted.amount(name) > most))
    }
}

impl Charged {
    pub(super) fn minutes_of_qos(
        &self,
        state: &State,
        qos: &[(&str, &Qos)],
        candidate: &Candidate<'_>,
    ) -> Option<Reason> {
        const KEYS: [&str; 3] = ["grptresmins", "grptresrunmins", "maxtresmins"];
        let limited = |attributes: &Attributes| {
            KEYS.iter().chain(&["grpwall"]).any(|key| attributes.contains_key(*key))
        };
        if !qos.iter().any(|(_, qos)| limited(&qos.attributes)) {
            return None;
        }
        let wanted = wanted(state, candidate);
        // Each QOS is asked alone: of two that limit the same, the first in charge.
        let asked = |key: &str| first(qos, key, tres);
        qos.iter().find_map(|(name, row)| {
            let own = |key: &str| asked(key).filter(|(of, _)| of == name).map(|(_, most)| most);
            let wall = first(qos, "grpwall", number).filter(|(of, _)| of == name).map(|(_, most)| most);
            let held = self.qos.get(*name).cloned().unwrap_or_default();
            let spent = state.spending.qos.get(&row.id).cloned().unwrap_or_default();
            let minutes = together(&spent, &held.used, held.left_s, candidate, &wanted);
            let of = [Of::QosMinutes, Of::QosRunMinutes, Of::QosJobMinutes];
            minutes.broken(KEYS.map(own), wall, of, Reason::QOSGrpWallLimit)
        })
    }

    pub(super) fn minutes_of_associations(
        &self,
        state: &State,
        chain: &[(&AssociationKey, &Association)],
        qos: &[(&str, &Qos)],
        candidate: &Candidate<'_>,
    ) -> Option<Reason> {
        const KEYS: [&str; 3] = ["grptresmins", "grptresrunmins", "maxtresmins"];
        let limited =
            |row: &Association| KEYS.iter().chain(&["grpwall"]).any(|key| row.attributes.contains_key(*key));
        if !chain.iter().any(|(_, row)| limited(row)) {
            return None;
        }
        let wanted = wanted(state, candidate);
        // What the QOS sets of the same kind hides the association's, TRES by TRES.
        let visible = |row: &Association, key: &str| {
            let mut most = tres(&row.attributes, key)?;
            let hiding = first(qos, key, tres).map(|(_, most)| most).unwrap_or_default();
            most.retain(|(name, _)| !hiding.iter().any(|(other, _)| other == name));
            Some(most)
        };
        let one_job = chain.iter().find_map(|(_, row)| visible(row, "maxtresmins"));
        let wall_hidden = first(qos, "grpwall", number).is_some();
        chain.iter().enumerate().find_map(|(level, (_, row))| {
            let held = self.associations.get(&row.id).cloned().unwrap_or_default();
            let spent = state.spending.associations.get(&row.id).cloned().unwrap_or_default();
            let minutes = together(&spent, &held.used, held.left_s, candidate, &wanted);
            let wall = number(&row.attributes, "grpwall").filter(|_| !wall_hidden);
            let of = [Of::AssocMinutes, Of::AssocRunMinutes, Of::AssocJobMinutes];
            let one_job = one_job.clone().filter(|_| level == 0);
            let limits = [visible(row, KEYS[0]), visible(row, KEYS[1]), one_job];
            minutes.broken(limits, wall, of, Reason::AssocGrpWallLimit)
        })
    }
}

/// TRES × seconds that the candidate may use.
fn wanted(state: &State, candidate: &Candidate<'_>) -> Tally {
    let seconds = candidate.limit.map_or(FOR_EVER, |limit| limit.as_secs().unsigned_abs());
    candidate.tally.times(seconds, factor(&state.accounts, candidate.job))
}

fn together<'a>(
    spent: &Spent,
    running: &Spent,
    left: Tally,
    candidate: &Candidate<'a>,
    wanted: &'a Tally,
) -> Minutes<'a> {
    let mut used = spent.tres_s.clone();
    used.add(&running.tres_s);
    let wall_s = spent.wall_s.saturating_add(running.wall_s);
    Minutes { used, wall_s, left, candidate: candidate.tally, wanted }
}
