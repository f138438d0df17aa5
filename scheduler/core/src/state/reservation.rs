//! A reservation: nodes that belong to named users or accounts for a time, once or again and again.
//!
//! Owns the arithmetic of when and for whom. Times are wall times, as users write them. Whether somebody may make
//! one is [`crate::reservation`]'s; the planner takes its interval out of the future.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::{NodeIdx, Uid};
use model::time::{Span, Timestamp};

use super::State;

/// How often it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    #[default]
    Once,
    /// Every 24 hours.
    Daily,
    /// Every seven days.
    Weekly,
}

impl Repeat {
    /// Time from one start to the next.
    #[must_use]
    pub fn period(self) -> Option<Span> {
        match self {
            Self::Once => None,
            Self::Daily => Some(Span::from_mins(24 * 60)),
            Self::Weekly => Some(Span::from_mins(7 * 24 * 60)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Next start, or the present one's.
    pub start: Timestamp,
    /// End of the same.
    pub end: Timestamp,
    /// How often.
    pub repeat: Repeat,
    /// Its nodes, ascending.
    pub nodes: Vec<NodeIdx>,
    /// The nodes were named, not counted.
    pub named_nodes: bool,
    /// The partition that was named with it; empty: none.
    pub partition: Box<str>,
    /// Users who may use it, by name; empty: any of its accounts.
    pub users: Vec<(Box<str>, Uid)>,
    /// Accounts whose jobs may use it; empty: any of its users.
    pub accounts: Vec<Box<str>>,
    /// For maintenance: its nodes are shown so, and it may lie over others.
    pub maintenance: bool,
    /// It may lie over others.
    pub overlap: bool,
    /// Jobs that run when it was made did not matter.
    pub ignore_jobs: bool,
}

/// All of them, by name.
pub type Reservations = BTreeMap<Box<str>, Arc<Reservation>>;

impl Reservation {
    /// Whether it is in force now.
    #[must_use]
    pub fn is_active(&self, wall: Timestamp) -> bool {
        self.meets(wall, wall.saturating_add(Span(1)))
    }

    /// Whether it is in force at some time in `[from, to)`; repeated ones from their next start on.
    #[must_use]
    pub fn meets(&self, from: Timestamp, to: Timestamp) -> bool {
        if from >= to || to <= self.start {
            return false;
        }
        match self.occurrence(from) {
            Some((start, _)) => start < to,
            None => false,
        }
    }

    /// The first occurrence that ends after `at`; `None`: it is over.
    #[must_use]
    pub fn occurrence(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        if at < self.end {
            return Some((self.start, self.end));
        }
        let period = self.repeat.period()?.0;
        let behind = at.0.saturating_sub(self.end.0);
        let times = behind.div_euclid(period).saturating_add(1);
        let later = Span(times.saturating_mul(period));
        Some((self.start.saturating_add(later), self.end.saturating_add(later)))
    }

    /// The first start or end after `at`; `None`: it is over.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let (start, end) = self.occurrence(at)?;
        Some(if start > at { start } else { end })
    }

    /// Whether jobs of the user under the account may use it. Source: `man scontrol`: of users and accounts, both
    /// count where both are given.
    #[must_use]
    pub fn lets_in(&self, uid: Uid, account: &str) -> bool {
        let user = self.users.is_empty() || self.users.iter().any(|(_, known)| *known == uid);
        user && (self.accounts.is_empty() || self.accounts.iter().any(|known| **known == *account))
    }

    /// Whether a node belongs to it.
    #[must_use]
    pub fn has(&self, node: NodeIdx) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// Whether it does not mind others on its nodes at the same time, nor they it.
    #[must_use]
    pub fn lies_over(&self) -> bool {
        self.maintenance || self.overlap
    }
}

impl State {
    /// Whether reservations let a job of reservation `own` (`None`: of none) run on a node in `[from, to)` of the
    /// machine's time. Cost: O(reservations × log nodes).
    #[must_use]
    pub fn is_open(&self, node: NodeIdx, own: Option<&str>, from: Timestamp, to: Timestamp) -> bool {
        let (from, to) = (self.wall_time(from), self.wall_time(to));
        let mine = own.map(|name| self.reservations.get(name));
        if let Some(mine) = mine
            && !mine.is_some_and(|mine| mine.has(node) && mine.is_active(from))
        {
            return false;
        }
        let over = mine.flatten().is_some_and(|mine| mine.lies_over());
        over || self
            .reservations
            .iter()
            .all(|(name, other)| own == Some(&**name) || !other.has(node) || !other.meets(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(minutes * 60)
    }

    #[test]
    fn a_daily_one_comes_again() {
        let daily =
            Reservation { start: at(60), end: at(90), repeat: Repeat::Daily, ..Reservation::default() };
        let day = 24 * 60;
        for (from, to, meets) in
            [(0, 60, false), (0, 61, true), (89, 90, true), (90, 91, false), (90, day + 60, false)]
        {
            assert_eq!(daily.meets(at(from), at(to)), meets, "{from}-{to}");
        }
        assert!(daily.meets(at(90), at(day + 61)));
        assert!(daily.is_active(at(7 * day + 60)) && !daily.is_active(at(7 * day + 90)));
        assert_eq!(daily.next_change(at(60)), Some(at(90)));
        assert_eq!(daily.next_change(at(90)), Some(at(day + 60)));
        let once = Reservation { repeat: Repeat::Once, ..daily };
        assert_eq!(once.next_change(at(90)), None);
        assert!(!once.meets(at(90), at(100 * day)));
    }
}
