//! What a start takes of each node, and which nodes are chosen: lists that have one entry as a rule.
//!
//! Most jobs run on one node, and every start and every planned start has such lists: one entry lies in its place, and
//! only more of them ask for memory.

use std::ops::Deref;

use super::profile::Amount;

/// Entries in order; never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Few<T> {
    /// One.
    One(T),
    /// Another number.
    Many(Vec<T>),
}

/// What is taken of each node, by place.
pub(super) type Holds = Few<(u32, Amount)>;

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(many: Vec<T>) -> Self {
        Self::Many(many)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut entries = entries.into_iter();
        match (entries.next(), entries.next()) {
            (Some(one), None) => Self::One(one),
            (None, _) => Self::Many(Vec::new()),
            (Some(one), Some(other)) => Self::Many([one, other].into_iter().chain(entries).collect()),
        }
    }
}
