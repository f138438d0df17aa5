//! Reservations, as intervals in which their nodes are closed to other jobs.

use std::sync::Arc;

use model::id::NodeIdx;
use model::time::Timestamp;

use super::Cluster;
use crate::state::State;
use crate::state::reservation::Reservation;

impl Cluster {
    /// Whether there are reservations.
    pub(in crate::plan) fn is_reserved(&self) -> bool {
        !self.closures.is_empty()
    }

    /// Whether some node of a list belongs to a reservation, now or later.
    pub(in crate::plan) fn has_closures(&self, list: u32) -> bool {
        let reserved = self.closures.iter().flat_map(|(_, row)| &row.nodes);
        reserved.into_iter().any(|node| self.is_member(list, node.0))
    }

    /// Whether reservations let a job of reservation `own` (`None`: of none) run on a node in `[from, to)`.
    pub(in crate::plan) fn is_open(&self, node: u32, own: Option<&str>, from: i64, to: i64) -> bool {
        let (node, from, to) = (NodeIdx(node), Timestamp(from), Timestamp(to));
        let mine = own.map(|name| self.closure(name));
        if let Some(mine) = mine
            && !mine.is_some_and(|mine| mine.has(node) && mine.is_active(from))
        {
            return false;
        }
        let over = mine.flatten().is_some_and(|mine| mine.lies_over());
        over || self
            .closures
            .iter()
            .all(|(name, other)| own == Some(&**name) || !other.has(node) || !other.meets(from, to))
    }

    /// Until when reservations let a run go on that a node may take at `from`; `i64::MAX`: as long as it likes.
    pub(in crate::plan) fn open_until(&self, node: u32, own: Option<&str>, from: i64) -> i64 {
        if own.is_some_and(|name| self.closure(name).is_some_and(Reservation::lies_over)) {
            return i64::MAX;
        }
        let others =
            self.closures.iter().filter(|(name, row)| own != Some(&**name) && row.has(NodeIdx(node)));
        let next = others.filter_map(|(_, row)| row.occurrence(Timestamp(from))).map(|(start, _)| start.0);
        next.min().unwrap_or(i64::MAX)
    }

    fn closure(&self, name: &str) -> Option<&Reservation> {
        self.closures.iter().find(|(known, _)| **known == *name).map(|(_, row)| &**row)
    }

    /// The end of a run that starts at `from`: not beyond its reservation's.
    pub(in crate::plan) fn clip(&self, own: Option<&str>, from: i64, to: i64) -> i64 {
        let end = own.and_then(|name| self.closure(name)?.occurrence(Timestamp(from)));
        end.map_or(to, |(_, end)| to.min(end.0))
    }

    /// Whether a reservation has some of these nodes now, and lets no other job have them.
    pub(in crate::plan) fn is_kept(&self, nodes: &[NodeIdx], own: Option<&str>) -> bool {
        self.is_reserved()
            && nodes.iter().any(|node| !self.is_open(node.0, own, self.now, self.now.saturating_add(1)))
    }

    /// Whether a reservation has not begun.
    pub(in crate::plan) fn is_ahead(&self, own: &str) -> bool {
        self.closure(own).is_some_and(|row| !row.is_active(Timestamp(self.now)))
    }

    /// The first begin or end of a reservation after an instant.
    pub(in crate::plan) fn next_closure(&self, after: i64) -> Option<i64> {
        self.closures.iter().filter_map(|(_, row)| row.next_change(Timestamp(after))).map(|at| at.0).min()
    }
}

/// Reservations in the machine's time, as the wall clock is set now.
pub(super) fn closures(state: &State) -> Vec<(Box<str>, Arc<Reservation>)> {
    let own = |row: &Arc<Reservation>| {
        let (start, end) = (state.own_time(row.start), state.own_time(row.end));
        if (start, end) == (row.start, row.end) {
            return Arc::clone(row);
        }
        Arc::new(Reservation { start, end, ..(**row).clone() })
    };
    state.reservations.iter().map(|(name, row)| (name.clone(), own(row))).collect()
}
