//! How priorities grow with age, so that the passing of time re-sorts nothing.
//!
//! A waiting job's age factor grows by the same amount each second for all jobs, until PriorityMaxAge is
//! reached. Two growing jobs therefore keep their order for ever, and each is ranked by where its line
//! crosses a fixed instant (`base`). A job that no longer grows (full age, or a priority that was set) falls
//! behind the growing ones steadily; it is ranked by where it stood at `at`, which moves on by a record,
//! every PriorityCalcPeriod at most, and only where both sorts of jobs wait.

use model::time::{Span, Timestamp};

use super::job::{Hold, Job, Phase};

/// Ranks are in sixteenths of a priority point, so that ages less than a point apart still order.
const PER_POINT: i128 = 16;
/// Ranks fit in 48 bits, so that a tier and a rank make one number.
const RANK_BITS: u32 = 48;
const MIDDLE: i128 = 1 << (RANK_BITS - 1);

/// What a priority gains by waiting, and the instant at which full-grown jobs were last compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aging {
    /// PriorityWeightAge; zero where the formula is not used.
    pub weight: u32,
    /// Age at which the whole weight is gained.
    pub max_age: Span,
    /// Age counts from the submission (ACCRUE_ALWAYS), not from when the job became eligible.
    pub from_submit: bool,
    /// Where the lines of growing jobs are compared.
    pub base: Timestamp,
    /// When full-grown jobs were last compared with growing ones.
    pub at: Timestamp,
}

impl Aging {
    /// Since when a job gains age; `None`: it does not (held back, or its priority was set).
    #[must_use]
    pub fn since(&self, job: &Job) -> Option<Timestamp> {
        if self.weight == 0 || job.request.rare().priority.is_some() {
            return None;
        }
        if self.from_submit {
            return Some(job.submit);
        }
        match &job.phase {
            Phase::Pending(pending) => pending.eligible,
            Phase::Active(active) => active.eligible,
            Phase::Ended(ended) => ended.eligible,
        }
    }

    /// Since when a waiting job gains age; the beginning of time if its priority was set, which never grows.
    /// `None`: it does not wait, or its place among the others does not change for now.
    #[must_use]
    pub(crate) fn waits_since(&self, job: &Job) -> Option<Timestamp> {
        job.pending()?;
        if self.weight == 0 {
            return None;
        }
        let fixed = job.hold == Hold::None && job.request.rare().priority.is_some();
        self.since(job).or(fixed.then_some(Timestamp(i64::MIN)))
    }

    /// The age factor at an instant, from 0 to 1: of a job that started, as it was then.
    #[must_use]
    pub fn factor(&self, job: &Job, now: Timestamp) -> f64 {
        let Some(since) = self.since(job) else { return 0.0 };
        let until = match &job.phase {
            Phase::Pending(_) => now,
            Phase::Active(active) => active.start,
            Phase::Ended(ended) => ended.start.unwrap_or(ended.end),
        };
        let age = until.since(since).as_millis().max(0);
        // Milliseconds of any age are below 2^53.
        if self.max_age.as_millis() <= age { 1.0 } else { age as f64 / self.max_age.as_millis() as f64 }
    }

    /// The priority with what age adds: what users are shown. Held jobs keep 0.
    #[must_use]
    pub fn shown(&self, job: &Job, now: Timestamp) -> u32 {
        if job.priority == 0 || self.weight == 0 {
            return job.priority;
        }
        // In range after the minimum, so that the cast is exact but for the fraction.
        (f64::from(job.priority) + self.factor(job, now) * f64::from(self.weight)).min(f64::from(u32::MAX))
            as u32
    }

    /// Whether the job's priority has stopped growing at `at`, or never grew.
    #[must_use]
    pub fn is_full(&self, job: &Job) -> bool {
        self.since(job).is_none_or(|since| since.saturating_add(self.max_age) <= self.at)
    }

    /// Falls as the priority grows; below 2^48.
    pub(super) fn rank(&self, job: &Job) -> u64 {
        let own = i128::from(job.priority) * PER_POINT;
        let gained = |span: Span| {
            let full = i128::from(self.weight) * PER_POINT;
            match i128::from(self.max_age.as_millis()) {
                0 => 0,
                age => full * i128::from(span.as_millis()) / age,
            }
        };
        let order = match (self.weight, self.since(job)) {
            (0, _) => own,
            (_, Some(since)) if !self.is_full(job) => own + gained(self.base.since(since)),
            (weight, since) => {
                let full = since.map_or(0, |_| i128::from(weight) * PER_POINT);
                own + full - gained(self.at.since(self.base))
            }
        };
        let rank = MIDDLE - order.clamp(1 - MIDDLE, MIDDLE);
        u64::try_from(rank).expect("the order was clamped to 47 bits and a sign")
    }
}
