//! The additive multifactor priority: its factors, their weights, and what changes them.
//!
//! Owns the formula. The part of it that does not change with time is what a job's record holds; what age
//! adds is [`crate::state::aging`]'s, so that the passing of time changes no record. Source: `man
//! slurm.conf` (PriorityWeight*, PriorityFlags), the multifactor guide, measured behaviour.

use model::id::{JobId, PartitionIdx};
use model::time::{Span, Timestamp};

use crate::job::start::limit_of_run;
use crate::machine::{Call, Machine, Timer};
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::{Accounts, AssociationKey};
use crate::state::aging::Aging;
use crate::state::job::{Hold, Job};
use crate::tally::Tally;

/// Where a single job's numbers start where no formula is used: Slurm counts down from here.
const FIRST_BASIC: u32 = 4_294_901_759;

/// The factors of a job's priority, not yet multiplied by their weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Factors {
    /// Time in the queue over PriorityMaxAge, at most 1.
    pub age: f64,
    /// The association's own priority against the largest of all.
    pub assoc: f64,
    /// What the account has used against its share. Nothing is charged yet: 0.
    pub fairshare: f64,
    /// Size of the job.
    pub job_size: f64,
    /// The partition's factor against the largest of all partitions.
    pub partition: f64,
    /// The QOS's priority against the largest of all.
    pub qos: f64,
    /// Each weighted TRES: its name, and what the job asks for over what the partition has.
    pub tres: Vec<(Box<str>, f64)>,
    /// Added by the site.
    pub site: i32,
    /// Taken away.
    pub nice: i32,
}

impl Factors {
    /// The weighted sum without age, in whole points: at least 1, since 0 means held.
    #[must_use]
    pub fn at_rest(&self, settings: &Settings) -> u32 {
        let weights = &settings.weights;
        let tres: f64 = self
            .tres
            .iter()
            .zip(&settings.tres_weights)
            .map(|((_, factor), (_, weight))| factor * f64::from(*weight))
            .sum();
        let sum = self.assoc * f64::from(weights.assoc)
            + self.fairshare * f64::from(weights.fairshare)
            + self.job_size * f64::from(weights.job_size)
            + self.partition * f64::from(weights.partition)
            + self.qos * f64::from(weights.qos)
            + tres
            + f64::from(self.site)
            - f64::from(self.nice);
        // In range after the clamp, so that the cast is exact but for the fraction.
        sum.clamp(1.0, f64::from(u32::MAX)) as u32
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The factors of a job at an instant.
///
/// Factors whose weight is zero and whose computation costs more than a look-up are left at 0.
/// Cost: O(partitions + QOS + associations with a priority), and O(nodes) where size or TRES count.
#[must_use]
pub fn factors(state: &State, settings: &Settings, job: &Job, now: Timestamp) -> Factors {
    let weights = &settings.weights;
    let rules = &settings.priority_rules;
    Factors {
        age: state.aging.factor(job, now),
        assoc: if weights.assoc == 0 { 0.0 } else { assoc(&state.accounts, settings, job) },
        fairshare: 0.0,
        job_size: if weights.job_size == 0 { 0.0 } else { job_size(state, settings, job) },
        partition: partition(state, rules.raw_partition, job),
        qos: qos(&state.accounts, rules.raw_qos, job),
        tres: tres(state, settings, job),
        site: job.site_factor,
        nice: job.nice,
    }
}

fn partition(state: &State, raw: bool, job: &Job) -> f64 {
    let factor = |idx: PartitionIdx| {
        state.partition(idx).map_or(0, |partition| partition.definition.priority_job_factor)
    };
    let own = match job.active() {
        Some(active) => factor(active.partition),
        None => job.partitions.iter().map(|&idx| factor(idx)).max().unwrap_or(0),
    };
    let all = state.partitions.iter().flatten().map(|partition| partition.definition.priority_job_factor);
    if raw { f64::from(own) } else { share(f64::from(own), f64::from(all.max().unwrap_or(0))) }
}

/// A number among attributes; absent or no number: 0.
fn priority_of(attributes: &crate::state::accounts::Attributes) -> f64 {
    let number = attributes.get("priority").and_then(|text| text.parse::<u32>().ok());
    f64::from(number.unwrap_or(0))
}

fn qos(accounts: &Accounts, raw: bool, job: &Job) -> f64 {
    let own = accounts.qos.get(&*job.qos).map_or(0.0, |qos| priority_of(&qos.attributes));
    let all = accounts.qos.values().map(|qos| priority_of(&qos.attributes));
    if raw { own } else { share(own, all.fold(0.0, f64::max)) }
}

/// The priority of the job's association, or of the nearest account above that has one.
fn assoc(accounts: &Accounts, settings: &Settings, job: &Job) -> f64 {
    let row = accounts.associations.iter().find(|(_, row)| row.id == job.association);
    let own = row.map_or(0.0, |(key, row)| match priority_of(&row.attributes) {
        number if number > 0.0 => number,
        _ => {
            let above = AssociationKey { user: "".into(), ..key.clone() };
            accounts.associations.get(&above).map_or(0.0, |row| priority_of(&row.attributes))
        }
    });
    let all = accounts.associations.values().map(|row| priority_of(&row.attributes));
    if settings.priority_rules.raw_assoc { own } else { share(own, all.fold(0.0, f64::max)) }
}

/// Larger jobs first, or smaller ones, or those with many CPUs for a short time.
fn job_size(state: &State, settings: &Settings, job: &Job) -> f64 {
    let nodes = state.nodes.iter().filter(|node| !node.removed);
    let (mut node_count, mut cluster_cpus) = (0_u32, 0_u32);
    for node in nodes {
        node_count += 1;
        cluster_cpus = cluster_cpus.saturating_add(node.definition.cpus.0);
    }
    let (node_count, cluster_cpus) = (f64::from(node_count), f64::from(cluster_cpus));
    let asked = Tally::of_request(job);
    // Counts of nodes and CPUs are below 2^53.
    let (cpus, nodes) = (asked.cpus as f64, asked.nodes as f64);
    let rules = &settings.priority_rules;
    let size = if rules.relative_to_time {
        let minutes = job
            .partitions
            .first()
            .and_then(|&idx| limit_of_run(job, state.partition(idx)?))
            .map_or(f64::from(u32::MAX), |limit| limit.as_mins().max(1) as f64);
        let most = (nodes * share(cluster_cpus, node_count)).max(cpus);
        let size = share(most / minutes, cluster_cpus);
        if rules.favor_small { 1.0 - size } else { size }
    } else if rules.favor_small {
        let of_nodes = share(node_count - nodes, node_count);
        let of_cpus = share(cluster_cpus - cpus, cluster_cpus);
        f64::midpoint(of_nodes, of_cpus)
    } else {
        f64::midpoint(share(nodes, node_count), share(cpus, cluster_cpus))
    };
    size.clamp(0.0, 1.0)
}

fn tres(state: &State, settings: &Settings, job: &Job) -> Vec<(Box<str>, f64)> {
    if settings.tres_weights.is_empty() {
        return Vec::new();
    }
    let asked = match job.active() {
        Some(active) => Tally::of_allocation(state, &active.allocation),
        None => Tally::of_request(job),
    };
    let partition = job.partitions.first().and_then(|&idx| state.partition(idx));
    let has = partition.map(|partition| Tally::of_nodes(state, &partition.nodes)).unwrap_or_default();
    let factor = |name: &str| {
        let (asked, has) = (asked.amount(name) as f64, has.amount(name) as f64);
        if settings.priority_rules.raw_tres { asked } else { share(asked, has).min(1.0) }
    };
    settings.tres_weights.iter().map(|(name, _)| (name.clone(), factor(name))).collect()
}

/// The priority of a waiting job that nobody holds, without what age adds.
///
/// An explicit `--priority` counts as it is. Without the formula (PriorityType=priority/basic) jobs
/// count down in the order of their ids, less their nice. Cost: that of [`factors`].
#[must_use]
pub fn priority(state: &State, settings: &Settings, job: &Job) -> u32 {
    if let Some(given) = job.request.rare().priority {
        return given;
    }
    if !settings.multifactor {
        let before = job.id.0.saturating_sub(settings.first_job_id);
        let basic = i64::from(FIRST_BASIC) - i64::from(before) - i64::from(job.nice);
        return u32::try_from(basic.clamp(1, i64::from(u32::MAX))).expect("the number was clamped");
    }
    let now = factors(state, settings, job, state.now).at_rest(settings);
    if settings.priority_rules.increase_only { now.max(job.priority) } else { now }
}

impl Machine {
    /// Sets the timer of the next comparison of full-grown and growing jobs, where ages count.
    pub(crate) fn arm_aging(&mut self) {
        let Some(settings) = &self.settings else { return };
        if self.state.aging.weight > 0 {
            let period = settings.priority_calc_period.max(Span::from_secs(1));
            let at = self.state.aging.at.max(self.state.now).saturating_add(period);
            self.set_timer(at, Timer::Aging);
        }
    }
}

impl Call<'_> {
    /// Makes the growth of priorities what the configuration says.
    pub(crate) fn define_aging(&mut self, settings: &Settings) {
        let known = self.state().aging;
        let weight = if settings.multifactor { settings.weights.age } else { 0 };
        let wanted = Aging {
            weight,
            max_age: settings.priority_max_age,
            from_submit: settings.priority_rules.accrue_always,
            ..known
        };
        let plain = weight == 0 && known.weight == 0;
        if wanted != known && !plain {
            self.emit(Record::Aging(Aging { base: self.now, at: self.now, ..wanted }));
        }
    }

    /// Compares full-grown jobs with growing ones anew, where both wait.
    ///
    /// Cost: O(waiting jobs) where some job is old enough, else O(1).
    pub(crate) fn age(&mut self) {
        let aging = self.state().aging;
        let next = Aging { at: self.now, ..aging };
        let (mut full, mut growing) = (false, false);
        if self.machine.oldest_wait.saturating_add(aging.max_age) <= self.now {
            let mut oldest = self.now;
            for key in &self.state().index.queue {
                let job = &self.state().jobs[&key.job];
                // A job that has grown to the full since the last turn is compared once more as growing.
                growing |= !aging.is_full(job);
                match aging.since(job) {
                    Some(since) if !next.is_full(job) => oldest = oldest.min(since),
                    Some(_) => full = true,
                    None => full |= job.hold == Hold::None && job.request.rare().priority.is_some(),
                }
            }
            // A full-grown or fixed job is compared at every turn from now on.
            self.machine.oldest_wait = if full { Timestamp(i64::MIN) } else { oldest };
        }
        if full && growing {
            self.emit(Record::Aging(next));
            self.out.pass_wanted = true;
        }
        let period = self.settings().priority_calc_period.max(Span::from_secs(1));
        let at = self.now.saturating_add(period);
        self.machine.set_timer(at, Timer::Aging);
    }

    /// Gives every waiting job that nobody holds the priority that the formula gives it now: after a change
    /// of weights, partitions, QOS or associations. Cost: O(waiting jobs × [`factors`]).
    pub(crate) fn reprioritise(&mut self) {
        if !self.settings().multifactor {
            return;
        }
        let ids: Vec<JobId> = self.state().index.queue.iter().map(|key| key.job).collect();
        for id in ids {
            let job = self.job(id);
            if job.hold != Hold::None {
                continue;
            }
            let priority = priority(self.state(), self.settings(), job);
            if priority != job.priority {
                self.emit(Record::JobPriority { job: id, priority, hold: Hold::None });
                self.out.pass_wanted = true;
            }
        }
    }
}
