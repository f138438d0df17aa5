//! Run limits of QOS and associations: which of them a job would break, and Slurm's reason for it.
//!
//! Owns what counts against whom: a job counts for its QOS (and its partition's), for its user and account
//! within that QOS, and for its association and all above. Limits stand in the attributes as sacctmgr
//! writes them. Of the job's QOS and its partition's, the partition's limit comes first unless the job's has
//! the flag OverPartQOS; a limit that the QOS sets hides the association's of the same kind. Source: the
//! resource limits guide, measured behaviour (goldens `limits/*`). Minutes of use are
//! looked at in [`minutes`].

use std::collections::BTreeMap;

use model::id::Uid;
use model::reason::Reason;
use model::time::Span;
use model::tres::Tres;

use crate::settings::Settings;
use crate::state::accounts::{Accounts, Association, AssociationKey, Attributes, Qos};
use crate::state::job::Job;
use crate::state::partition::Partition;
use crate::state::spent::Spent;
use crate::state::{State, Submitter};
use crate::tally::Tally;

mod minutes;
mod words;

pub use minutes::{charge, passes_with_time};

use words::Of;

/// What jobs of one scope hold.
#[derive(Clone, Debug, Default)]
struct Held {
    jobs: u64,
    tally: Tally,
    /// TRES × seconds that these jobs may still run.
    left_s: Tally,
    /// What these runs have used so far.
    used: Spent,
}

impl Held {
    fn add(&mut self, tally: &Tally) {
        self.jobs += 1;
        self.tally.add(tally);
    }
}

/// What running jobs hold, by whom it counts for.
#[derive(Clone, Debug, Default)]
pub struct Charged {
    associations: BTreeMap<u32, Held>,
    qos: BTreeMap<Box<str>, Held>,
    qos_user: BTreeMap<(Box<str>, Uid), Held>,
    qos_account: BTreeMap<(Box<str>, Box<str>), Held>,
}

/// A job as it would run: what its limits are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The job.
    pub job: &'a Job,
    /// The partition it would run in.
    pub partition: &'a Partition,
    /// What it would hold.
    pub tally: &'a Tally,
    /// Limit of the run; `None`: unlimited.
    pub limit: Option<Span>,
}

impl Charged {
    /// What the running jobs of a state hold, and how long still, as of the state's last record. Cost: O(nodes of all running jobs).
    #[must_use]
    pub fn of(state: &State, settings: &Settings) -> Self {
        let mut usage = Self::default();
        for id in &state.index.running {
            let job = &state.jobs[id];
            let active = job.active().expect("the index holds running jobs");
            let Some(partition) = state.partition(active.partition) else { continue };
            let tally = Tally::of_allocation(state, &active.allocation);
            let ran = minutes::ran(active, state.now);
            let factor = minutes::factor(&state.accounts, job);
            let used = Spent { wall_s: ran.saturating_mul(factor) / 1000, tres_s: tally.times(ran, factor) };
            let left = active.limit.map(|limit| limit.as_secs().unsigned_abs().saturating_sub(ran));
            usage.count(state, settings, (job, partition), &tally, left, &used);
        }
        usage
    }

    /// A job starts.
    pub fn add(&mut self, state: &State, settings: &Settings, started: &Candidate<'_>) {
        let &Candidate { job, partition, tally, limit } = started;
        let limit = limit.map(|limit| limit.as_secs().unsigned_abs());
        self.count(state, settings, (job, partition), tally, limit, &Spent::default());
    }

    fn count(
        &mut self,
        state: &State,
        settings: &Settings,
        (job, partition): (&Job, &Partition),
        tally: &Tally,
        left_s: Option<u64>,
        used: &Spent,
    ) {
        let left_s = tally.times(left_s.unwrap_or(minutes::FOR_EVER), minutes::factor(&state.accounts, job));
        let count = |held: &mut Held| {
            held.add(tally);
            held.left_s.add(&left_s);
            held.used.add(used.wall_s, &used.tres_s);
        };
        for (_, row) in chain(&state.accounts, settings, job) {
            count(self.associations.entry(row.id).or_default());
        }
        let own = state.accounts.qos.contains_key(&*job.qos).then_some(&*job.qos);
        let of_partition = partition_qos(partition).filter(|name| Some(*name) != own);
        for name in own.into_iter().chain(of_partition) {
            count(self.qos.entry(name.into()).or_default());
            self.qos_user.entry((name.into(), job.owner.uid)).or_default().add(tally);
            self.qos_account.entry((name.into(), (&*job.account).into())).or_default().add(tally);
        }
    }

    /// The limit that the candidate would break; `None`: it may run. Cost: O(its limits × log scopes).
    #[must_use]
    pub fn broken(&self, state: &State, settings: &Settings, candidate: &Candidate<'_>) -> Option<Reason> {
        let chain = chain(&state.accounts, settings, candidate.job);
        let qos = qos_in_order(&state.accounts, candidate.job, candidate.partition);
        self.counts_of_qos(&qos, candidate)
            .or_else(|| self.counts_of_associations(&chain, &qos, candidate))
            .or_else(|| self.amounts_of_qos(&qos, candidate))
            .or_else(|| self.amounts_of_associations(&chain, &qos, candidate))
            .or_else(|| self.minutes_of_qos(state, &qos, candidate))
            .or_else(|| self.minutes_of_associations(state, &chain, &qos, candidate))
    }

    fn counts_of_qos(&self, qos: &[(&str, &Qos)], candidate: &Candidate<'_>) -> Option<Reason> {
        let (job, none) = (candidate.job, Held::default());
        let reached = |key: &str, held: &dyn Fn(&str) -> u64| {
            first(qos, key, number).is_some_and(|(name, most)| held(name) >= most)
        };
        let of_all = |name: &str| self.qos.get(name).unwrap_or(&none).jobs;
        let of_account = |name: &str| {
            let key = (name.into(), (&*job.account).into());
            self.qos_account.get(&key).unwrap_or(&none).jobs
        };
        let of_user = |name: &str| self.qos_user.get(&(name.into(), job.owner.uid)).unwrap_or(&none).jobs;
        if reached("grpjobs", &of_all) {
            return Some(Reason::QOSGrpJobsLimit);
        }
        if reached("maxjobsperaccount", &of_account) {
            return Some(Reason::MaxJobsPerAccount);
        }
        if reached("maxjobsperuser", &of_user) {
            return Some(Reason::QOSMaxJobsPerUserLimit);
        }
        let longest = first(qos, "maxwall", number);
        longest
            .is_some_and(|(_, most)| is_longer(candidate.limit, most))
            .then_some(Reason::QOSMaxWallDurationPerJobLimit)
    }

    fn counts_of_associations(
        &self,
        chain: &[(&AssociationKey, &Association)],
        qos: &[(&str, &Qos)],
        candidate: &Candidate<'_>,
    ) -> Option<Reason> {
        let jobs = |row: &Association| self.associations.get(&row.id).map_or(0, |held| held.jobs);
        let hidden = |key: &str| first(qos, key, number).is_some();
        if !hidden("grpjobs") {
            let full = |(_, row): &&(&AssociationKey, &Association)| {
                number(&row.attributes, "grpjobs").is_some_and(|most| jobs(row) >= most)
            };
            if chain.iter().any(|one| full(&one)) {
                return Some(Reason::AssocGrpJobsLimit);
            }
        }
        let inherited = |key: &str| chain.iter().find_map(|(_, row)| number(&row.attributes, key));
        let own = chain.first()?.1;
        if !hidden("maxjobsperuser") && inherited("maxjobs").is_some_and(|most| jobs(own) >= most) {
            return Some(Reason::AssocMaxJobsLimit);
        }
        let too_long = inherited("maxwall").is_some_and(|most| is_longer(candidate.limit, most));
        (!hidden("maxwall") && too_long).then_some(Reason::AssocMaxWallDurationPerJobLimit)
    }

    fn amounts_of_qos(&self, qos: &[(&str, &Qos)], candidate: &Candidate<'_>) -> Option<Reason> {
        let (job, tally) = (candidate.job, candidate.tally);
        let none = Held::default();
        let over = |key: &str, of: Of, held: &dyn Fn(&str) -> Tally| {
            let (name, most) = first(qos, key, tres)?;
            over(&most, &held(name), tally, of)
        };
        let of_all = |name: &str| self.qos.get(name).unwrap_or(&none).tally.clone();
        let of_account = |name: &str| {
            let key = (name.into(), (&*job.account).into());
            self.qos_account.get(&key).unwrap_or(&none).tally.clone()
        };
        let of_user =
            |name: &str| self.qos_user.get(&(name.into(), job.owner.uid)).unwrap_or(&none).tally.clone();
        let nothing = |_: &str| Tally::default();
        over("grptres", Of::QosGroup, &of_all)
            .or_else(|| over("maxtresperjob", Of::QosJob, &nothing))
            .or_else(|| {
                let (_, most) = first(qos, "maxtrespernode", tres)?;
                over_per_node(&most, tally, Of::QosNode)
            })
            .or_else(|| over("maxtresperaccount", Of::QosAccount, &of_account))
            .or_else(|| over("maxtresperuser", Of::QosUser, &of_user))
            .or_else(|| {
                let (_, least) = first(qos, "mintresperjob", tres)?;
                let short = |(name, amount): &&(String, u64)| tally.amount(name) < *amount;
                least.iter().find(short).map(|(name, _)| words::reason(Of::QosLeast, name))
            })
    }

    fn amounts_of_associations(
        &self,
        chain: &[(&AssociationKey, &Association)],
        qos: &[(&str, &Qos)],
        candidate: &Candidate<'_>,
    ) -> Option<Reason> {
        let tally = candidate.tally;
        // What the QOS sets of the same kind hides the association's, TRES by TRES.
        let visible = |row: &Association, key: &str| {
            let mut most = tres(&row.attributes, key)?;
            let hiding = first(qos, key, tres).map(|(_, most)| most).unwrap_or_default();
            most.retain(|(name, _)| !hiding.iter().any(|(other, _)| other == name));
            Some(most)
        };
        for (_, row) in chain {
            let held = self.associations.get(&row.id).map(|held| held.tally.clone()).unwrap_or_default();
            let broken = visible(row, "grptres").and_then(|most| over(&most, &held, tally, Of::AssocGroup));
            if broken.is_some() {
                return broken;
            }
        }
        let inherited = |key: &str| chain.iter().find_map(|(_, row)| visible(row, key));
        let per_job = inherited("maxtresperjob");
        per_job.and_then(|most| over(&most, &Tally::default(), tally, Of::AssocJob)).or_else(|| {
            inherited("maxtrespernode").and_then(|most| over_per_node(&most, tally, Of::AssocNode))
        })
    }
}

/// Whether run limits of some QOS or association may concern the job. Cost: O(levels of accounts).
#[must_use]
pub fn concern(state: &State, settings: &Settings, job: &Job) -> bool {
    if !settings.enforce.limits {
        return false;
    }
    let accounts = &state.accounts;
    let has = |attributes: &Attributes| {
        attributes.iter().any(|(key, value)| {
            !value.is_empty()
                && (key.starts_with("grp") || key.starts_with("max") || key.starts_with("mintres"))
        })
    };
    let of_partitions = job.partitions.iter().filter_map(|&idx| partition_qos(state.partition(idx)?));
    let names = std::iter::once(&*job.qos).chain(of_partitions);
    names.filter_map(|name| accounts.qos.get(name)).any(|qos| has(&qos.attributes))
        || chain(accounts, settings, job).iter().any(|(_, row)| has(&row.attributes))
}

/// Whether the job's QOS, or its partition's, refuses at submission what breaks its limits (DenyOnLimit).
#[must_use]
pub fn denies(state: &State, job: &Job, partition: &Partition) -> bool {
    qos_in_order(&state.accounts, job, partition).iter().any(|(_, qos)| has_flag(qos, "DenyOnLimit"))
}

/// The limit of numbers of submitted jobs that so many more elements would break. Cost: O(users × QOS).
#[must_use]
pub fn too_many(
    state: &State,
    settings: &Settings,
    job: &Job,
    partition: &Partition,
    more: u32,
) -> Option<Reason> {
    let held = |counts: &dyn Fn(&Submitter) -> bool| -> u64 {
        let submitted = state.index.submitted.iter().filter(|(key, _)| counts(key));
        submitted.map(|(_, count)| u64::from(*count)).sum()
    };
    let accounts = &state.accounts;
    let qos = qos_in_order(accounts, job, partition);
    let full = |most: u64, held: u64| held.saturating_add(u64::from(more)) > most;
    let chain = chain(accounts, settings, job);
    let account_of = |id: u32| {
        let found = accounts.associations.iter().find(|(_, row)| row.id == id);
        found.map(|(key, _)| &*key.account)
    };
    if let Some((name, most)) = first(&qos, "grpsubmitjobs", number)
        && full(most, held(&|key| *key.qos == *name))
    {
        return Some(Reason::QOSGrpSubmitJobsLimit);
    }
    if let Some((name, most)) = first(&qos, "maxsubmitjobsperaccount", number)
        && full(most, held(&|key| *key.qos == *name && account_of(key.association) == Some(&*job.account)))
    {
        return Some(Reason::MaxSubmitJobsPerAccount);
    }
    if let Some((name, most)) = first(&qos, "maxsubmitjobsperuser", number)
        && full(most, held(&|key| *key.qos == *name && key.user == job.owner.uid))
    {
        return Some(Reason::QOSMaxSubmitJobPerUserLimit);
    }
    if first(&qos, "grpsubmitjobs", number).is_none() {
        for (level, row) in &chain {
            let below = |id: u32| {
                accounts.associations.iter().any(|(key, other)| {
                    other.id == id && links(accounts, key, other).iter().any(|(_, above)| above.id == row.id)
                })
            };
            if let Some(most) = number(&row.attributes, "grpsubmitjobs")
                && full(
                    most,
                    held(&|key| {
                        key.association == row.id || (level.user.is_empty() && below(key.association))
                    }),
                )
            {
                return Some(Reason::AssocGrpSubmitJobsLimit);
            }
        }
    }
    let own = chain.first()?.1;
    let most = chain.iter().find_map(|(_, row)| number(&row.attributes, "maxsubmitjobs"))?;
    let hidden = first(&qos, "maxsubmitjobsperuser", number).is_some();
    (!hidden && full(most, held(&|key| key.association == own.id))).then_some(Reason::AssocMaxSubmitJobLimit)
}

/// The association of a job and those above it, its own first.
fn chain<'a>(
    accounts: &'a Accounts,
    settings: &Settings,
    job: &Job,
) -> Vec<(&'a AssociationKey, &'a Association)> {
    if job.association == 0 {
        return Vec::new();
    }
    let of = |row: &&Association| row.id == job.association;
    // By its name where the user is known by it: the number alone would be searched for.
    let first = AssociationKey {
        cluster: settings.cluster.clone(),
        account: (&*job.account).into(),
        ..AssociationKey::default()
    };
    let mut in_account =
        accounts.associations.range(first..).take_while(|(key, _)| *key.account == *job.account);
    match in_account.find(|(_, row)| of(row)) {
        Some((key, row)) => links(accounts, key, row),
        None => Vec::new(),
    }
}

/// An association and those above it.
fn links<'a>(
    accounts: &'a Accounts,
    key: &'a AssociationKey,
    row: &'a Association,
) -> Vec<(&'a AssociationKey, &'a Association)> {
    let mut links = vec![(key, row)];
    let mut account = if key.user.is_empty() { row.parent.clone() } else { key.account.clone() };
    // An account tree is shallow; a loop in it cannot be made through ChangeAccounts, and ends here.
    for _ in 0..64 {
        let above = AssociationKey { cluster: key.cluster.clone(), account, ..AssociationKey::default() };
        let Some((key, row)) = accounts.associations.get_key_value(&above) else { break };
        links.push((key, row));
        if row.parent.is_empty() {
            break;
        }
        account = row.parent.clone();
    }
    links
}

/// `QOS=` of a partition.
fn partition_qos(partition: &Partition) -> Option<&str> {
    let shown = partition.definition.shown.iter();
    shown.filter(|(key, _)| &**key == "QOS").map(|(_, value)| &**value).find(|value| !value.is_empty())
}

fn has_flag(qos: &Qos, flag: &str) -> bool {
    let flags = qos.attributes.get("flags").map_or("", |flags| flags);
    flags.split(',').any(|word| word.eq_ignore_ascii_case(flag))
}

/// The QOS whose limits count for a job, the first in charge.
fn qos_in_order<'a>(accounts: &'a Accounts, job: &Job, partition: &Partition) -> Vec<(&'a str, &'a Qos)> {
    let find = |name: &str| accounts.qos.get_key_value(name).map(|(name, qos)| (&**name, qos));
    let own = find(&job.qos);
    let of_partition =
        partition_qos(partition).and_then(find).filter(|(name, _)| own.is_none_or(|own| own.0 != *name));
    let over = own.is_some_and(|(_, qos)| has_flag(qos, "OverPartQOS"));
    let order = if over { [own, of_partition] } else { [of_partition, own] };
    order.into_iter().flatten().collect()
}

/// The first QOS that sets a limit, and the limit.
fn first<'a, T>(
    qos: &[(&'a str, &'a Qos)],
    key: &str,
    read: impl Fn(&Attributes, &str) -> Option<T>,
) -> Option<(&'a str, T)> {
    qos.iter().find_map(|(name, qos)| Some((*name, read(&qos.attributes, key)?)))
}

fn number(attributes: &Attributes, key: &str) -> Option<u64> {
    attributes.get(key)?.parse().ok()
}

/// Amounts of a limit by name; memory in MiB.
fn tres(attributes: &Attributes, key: &str) -> Option<Vec<(String, u64)>> {
    let text = attributes.get(key).filter(|text| !text.is_empty())?;
    let read = Tres::parse(text).ok()?;
    Some(read.items.iter().map(|(kind, amount)| (kind.to_string(), *amount)).collect())
}

/// Whether a run of that limit is longer than so many minutes.
fn is_longer(limit: Option<Span>, minutes: u64) -> bool {
    let most = Span::from_mins(i64::try_from(minutes).unwrap_or(i64::MAX / 60_000));
    limit.is_none_or(|limit| limit > most)
}

/// The reason for the first amount that would be over its limit.
fn over(most: &[(String, u64)], held: &Tally, more: &Tally, of: Of) -> Option<Reason> {
    let broken = |(name, most): &&(String, u64)| held.amount(name).saturating_add(more.amount(name)) > *most;
    most.iter().find(broken).map(|(name, _)| words::reason(of, name))
}

/// The same for the amounts on one node, of a job that is spread evenly.
fn over_per_node(most: &[(String, u64)], tally: &Tally, of: Of) -> Option<Reason> {
    let broken = |(name, most): &&(String, u64)| tally.amount(name).div_ceil(tally.nodes.max(1)) > *most;
    most.iter().find(broken).map(|(name, _)| words::reason(of, name))
}
