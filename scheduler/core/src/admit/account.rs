//! Which account, QOS and association a job is charged to, and the limits that refuse at submission.

use std::borrow::Cow;
use std::sync::Arc;

use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use model::time::Span;

use super::Shared;
use crate::effect::{Asker, Refused};
use crate::job::start::limit_of_run;
use crate::limits;
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::{Accounts, Association, AssociationKey};
use crate::state::job::{Job, Limit};
use crate::tally::Tally;

/// What a job is charged to.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    /// Account; empty where accounting knows the user not.
    pub(crate) account: Arc<str>,
    /// QOS; empty where there is none.
    pub(crate) qos: Arc<str>,
    /// Number of the association; 0: none.
    pub(crate) association: u32,
    /// Longest run that the QOS allows: the limit of a job that gives none.
    max_wall: Option<Span>,
}

impl Charge {
    pub(super) fn limit(&self, request: &JobRequest) -> Limit {
        match (request.time_limit, self.max_wall) {
            (Some(Some(limit)), _) => Limit::After(limit),
            (Some(None), _) => Limit::Unlimited,
            (None, Some(limit)) => Limit::After(limit),
            (None, None) => Limit::Partition,
        }
    }
}

/// Finds the association of a request. Names are compared in lower case, as Slurm keeps them. What it answers is
/// shared with earlier jobs where they were given the same.
pub(crate) fn charge(
    state: &State,
    settings: &Settings,
    asker: &Asker,
    request: &JobRequest,
    shared: &Shared,
) -> Result<Charge, Refused> {
    let accounts = &state.accounts;
    let wanted = match request.account.as_deref() {
        Some(named) => Cow::Owned(named.to_lowercase()),
        None => {
            let user = accounts.users.get(&*asker.name);
            Cow::Borrowed(user.map_or("", |user| &*user.default_account))
        }
    };
    let found = association(accounts, settings, &wanted, &asker.name);
    let Some((key, row)) = found else {
        if settings.enforce.associations {
            return Err(Refusal::InvalidAccount.into());
        }
        let qos = request.qos.as_deref().unwrap_or("normal");
        let (account, qos) = (shared.text(&wanted), shared.text(qos));
        return Ok(Charge { account, qos, association: 0, max_wall: None });
    };
    let allowed = inherited(accounts, key, row, "qos");
    let allowed: Vec<&str> = allowed.map_or(vec!["normal"], |list| list.split(',').collect());
    let default = inherited(accounts, key, row, "defaultqos");
    let wanted_qos =
        request.qos.as_deref().map(str::to_lowercase).or_else(|| default.map(str::to_owned)).unwrap_or_else(
            || {
                let first =
                    if allowed.contains(&"normal") { Some("normal") } else { allowed.first().copied() };
                first.unwrap_or("normal").to_owned()
            },
        );
    let exists = accounts.qos.contains_key(&*wanted_qos);
    if settings.enforce.qos && (!exists || !allowed.contains(&&*wanted_qos)) {
        return Err(Refusal::InvalidQos.into());
    }
    let max_wall = accounts.qos.get(&*wanted_qos).and_then(|qos| minutes(qos.attributes.get("maxwall")?));
    Ok(Charge {
        account: shared.text(&key.account),
        qos: shared.text(&wanted_qos),
        association: row.id,
        max_wall: max_wall.filter(|_| settings.enforce.limits),
    })
}

fn minutes(text: &str) -> Option<Span> {
    text.parse().ok().map(Span::from_mins)
}

fn association<'a>(
    accounts: &'a Accounts,
    settings: &Settings,
    account: &str,
    user: &str,
) -> Option<(&'a AssociationKey, &'a Association)> {
    accounts.association([&settings.cluster, account, user, ""])
}

/// An attribute of an association, or of the nearest account above it that has one.
fn inherited<'a>(
    accounts: &'a Accounts,
    key: &AssociationKey,
    row: &'a Association,
    attribute: &str,
) -> Option<&'a str> {
    if let Some(value) = row.attributes.get(attribute).filter(|value| !value.is_empty()) {
        return Some(value);
    }
    let mut account = key.account.clone();
    // An account tree is shallow; a loop in it cannot be made through ChangeAccounts, and ends here.
    for _ in 0..64 {
        let above = AssociationKey { account: account.clone(), user: "".into(), ..key.clone() };
        let row = accounts.associations.get(&above)?;
        if let Some(value) = row.attributes.get(attribute).filter(|value| !value.is_empty()) {
            return Some(value);
        }
        if row.parent.is_empty() {
            return None;
        }
        account = row.parent.clone();
    }
    None
}

/// Limits that refuse a job when it is submitted: numbers of jobs, and whatever DenyOnLimit makes a refusal.
pub(super) fn check_limits(state: &State, settings: &Settings, job: &Job) -> Result<(), Refused> {
    if !settings.enforce.limits {
        return Ok(());
    }
    let refuse = |reason: Reason| {
        Err(Refused { refusal: Refusal::AccountingPolicy, lines: vec![reason.text().into()] })
    };
    let Some((_, partition)) = crate::place::demand::partitions(state, job).next() else { return Ok(()) };
    if let Some(reason) = limits::too_many(state, settings, job, partition, job.elements()) {
        return refuse(reason);
    }
    if limits::denies(state, job, partition) {
        let (tally, limit) = (Tally::of_request(job), limit_of_run(job, partition));
        let candidate = limits::Candidate { job, partition, tally: &tally, limit };
        // Against what the job alone would hold: what others hold makes it wait.
        if let Some(reason) = limits::Charged::default().broken(state, settings, &candidate) {
            return refuse(reason);
        }
    }
    Ok(())
}
