//! Licenses over time: what running jobs leave of each name, and that less what is planned.
//!
//! The same two profiles that each node has ([`super::cluster`]), in numbers of licenses. Knows no jobs; a name
//! that the configuration does not know is never free.

use std::collections::BTreeMap;

use model::time::Timestamp;

use super::profile::{Amount, Profile};
use crate::state::job::Job;

/// How many of which license (by place) a job holds.
pub(super) type Held = Box<[(u32, u32)]>;

/// Added to every total: more in use than there is, after the configuration was lowered, is counted down from it.
const SPARE: u64 = 1 << 40;

/// Licenses over time.
#[derive(Debug, Default)]
pub(super) struct Licenses {
    totals: BTreeMap<Box<str>, u32>,
    base: Vec<Profile>,
    plan: Vec<Profile>,
}

fn amount(count: u32) -> Amount {
    Amount { memory: u64::from(count), ..Amount::default() }
}

/// What must be free so that `count` can be taken.
fn wanted(count: u32) -> Amount {
    Amount { memory: u64::from(count) + SPARE, ..Amount::default() }
}

impl Licenses {
    /// All of them unused.
    pub(super) fn of(totals: &BTreeMap<Box<str>, u32>) -> Self {
        let free = |count: &u32| Profile::new(wanted(*count));
        let base: Vec<Profile> = totals.values().map(free).collect();
        Self { totals: totals.clone(), plan: base.clone(), base }
    }

    /// Whether the configuration still says so.
    pub(super) fn are(&self, totals: &BTreeMap<Box<str>, u32>) -> bool {
        self.totals == *totals
    }

    /// What a job asks for, by place; `None`: something that does not exist.
    pub(super) fn needs(&self, job: &Job) -> Option<Held> {
        let Some(text) = job.request.rare.as_deref().and_then(|rare| rare.licenses.as_deref()) else {
            return Some(Held::default());
        };
        let place = |name: &str| self.totals.keys().position(|known| **known == *name);
        let mut held: Vec<(u32, u32)> = Vec::new();
        for (name, count) in crate::licenses::parse(text) {
            let place = u32::try_from(place(name)?).expect("licenses are counted in 32 bits");
            match held.iter_mut().find(|(known, _)| *known == place) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => held.push((place, count)),
            }
        }
        Some(held.into())
    }

    /// The same of a job that runs: what does not exist any more is not counted.
    pub(super) fn of_running(&self, job: &Job) -> Held {
        self.needs(job).unwrap_or_default()
    }

    /// A running job holds them until `end`; `planned`: the plan has it already.
    pub(super) fn hold(&mut self, held: &Held, end: i64, planned: bool) {
        for &(place, count) in held {
            self.base[place as usize].take(amount(count), i64::MIN, end);
            if !planned {
                self.plan[place as usize].take(amount(count), i64::MIN, end);
            }
        }
    }

    /// What a running job held until `end` is free.
    pub(super) fn release(&mut self, held: &Held, end: i64) {
        for &(place, count) in held {
            self.base[place as usize].give(amount(count), i64::MIN, end);
            self.plan[place as usize].give(amount(count), i64::MIN, end);
        }
    }

    /// A running job that was to end at `end` will end at `later`.
    pub(super) fn prolong(&mut self, held: &Held, end: i64, later: i64) {
        for &(place, count) in held {
            self.base[place as usize].take(amount(count), end, later);
            self.plan[place as usize].take(amount(count), end, later);
        }
    }

    /// Plans to use them in `[from, to)`.
    pub(super) fn reserve(&mut self, held: &Held, from: i64, to: i64) {
        for &(place, count) in held {
            self.plan[place as usize].take(amount(count), from, to);
        }
    }

    /// Gives such a plan up.
    pub(super) fn lift(&mut self, held: &Held, from: i64, to: i64) {
        for &(place, count) in held {
            self.plan[place as usize].give(amount(count), from, to);
        }
    }

    /// Makes every plan what running jobs leave free.
    pub(super) fn copy_base(&mut self) {
        for (plan, base) in self.plan.iter_mut().zip(&self.base) {
            plan.copy_from(base);
        }
    }

    /// Forgets what lies before `now`.
    pub(super) fn advance(&mut self, now: Timestamp) {
        for profile in self.base.iter_mut().chain(&mut self.plan) {
            profile.forget_before(now.0);
        }
    }

    /// Whether the plan leaves them free throughout `[from, to)`.
    pub(super) fn cover(&self, held: &Held, from: i64, to: i64) -> bool {
        held.iter().all(|&(place, count)| self.plan[place as usize].covers(&wanted(count), from, to))
    }

    /// Until when the plan leaves them free from `from` on; `i64::MAX`: for ever.
    pub(super) fn free_until(&self, held: &Held, from: i64) -> i64 {
        let until = |&(place, count): &(u32, u32)| self.plan[place as usize].free_until(&wanted(count), from);
        held.iter().map(until).min().unwrap_or(i64::MAX)
    }

    /// Whether running jobs alone leave them free throughout `[from, to)`.
    pub(super) fn left_by_runs(&self, held: &Held, from: i64, to: i64) -> bool {
        held.iter().all(|&(place, count)| self.base[place as usize].covers(&wanted(count), from, to))
    }

    /// The plan has it that a job that runs now ends at `planned`; it ends at `end`. `false`: what is planned does not
    /// leave them free for so long.
    pub(super) fn correct(&mut self, held: &Held, planned: i64, end: i64) -> bool {
        let free = self.cover(held, planned, end);
        for &(place, count) in held {
            self.plan[place as usize].take(amount(count), planned, end);
            self.plan[place as usize].give(amount(count), end, planned);
        }
        free
    }

    /// The first instant, at or after `from`, from which all of them stay free for `span`; `None`: never.
    ///
    /// Cost: O(steps of their profiles × licenses).
    pub(super) fn earliest(&self, held: &Held, span: i64, from: i64) -> Option<i64> {
        let mut start = from;
        loop {
            let before = start;
            for &(place, count) in held {
                start = self.plan[place as usize].earliest(&wanted(count), span, start, i64::MAX).at;
                if start == i64::MAX {
                    return None;
                }
            }
            if start == before {
                return Some(start);
            }
        }
    }
}
