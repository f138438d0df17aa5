//! What one step of a profile holds: whole amounts, amounts in short, or CPUs alone.
//!
//! Owns their arithmetic, which is the same for all three as far as each can tell an amount.

use super::{Amount, KINDS};

/// What a step of a profile says is free: whole amounts, or CPUs alone.
pub(super) trait Cell: Copy + PartialEq {
    fn covers(&self, need: &Self) -> bool;
    fn least(self, other: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn whole(self) -> Amount;
}

impl Cell for Amount {
    fn covers(&self, need: &Self) -> bool {
        Self::covers(self, need)
    }
    fn least(self, other: Self) -> Self {
        Self::least(self, other)
    }
    fn plus(self, other: Self) -> Self {
        Self::plus(self, other)
    }
    fn minus(self, other: Self) -> Self {
        Self::minus(self, other)
    }
    fn whole(self) -> Amount {
        self
    }
}

/// An amount in a quarter of the memory, of a node with nothing that is rare: no slices, no shards, few kinds of devices.
/// What a search over many nodes costs is the memory that it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plain {
    cpus: u32,
    /// MiB.
    memory: u32,
    gres: [u16; PLAIN_KINDS],
}

/// Kinds of devices of such a node.
const PLAIN_KINDS: usize = 4;

impl Plain {
    /// The same amount; `None`: there is more to it.
    #[inline]
    pub(super) fn of(amount: &Amount) -> Option<Self> {
        let rest = amount.gres[PLAIN_KINDS..].iter().fold(0, |all, one| all | one);
        let told = rest == 0 && amount.slices.is_empty() && amount.shards.is_empty();
        let most = amount.gres.iter().fold(0, |most, one| *one.max(&most));
        let fits = amount.memory <= u64::from(u32::MAX) && most <= u32::from(u16::MAX);
        (told && fits).then(|| Self::at_most(amount))
    }

    /// As much of an amount as can be told.
    pub(super) fn at_most(amount: &Amount) -> Self {
        let mut gres = [0; PLAIN_KINDS];
        gres.iter_mut().zip(amount.gres).for_each(|(to, from)| *to = u16::try_from(from).unwrap_or(u16::MAX));
        Self { cpus: amount.cpus, memory: u32::try_from(amount.memory).unwrap_or(u32::MAX), gres }
    }

    /// Whether the sum can be told.
    pub(super) fn has_room(self, other: Self) -> bool {
        self.memory.checked_add(other.memory).is_some()
            && self.gres.iter().zip(other.gres).all(|(one, other)| one.checked_add(other).is_some())
    }
}

impl Cell for Plain {
    #[inline]
    fn covers(&self, need: &Self) -> bool {
        (self.cpus >= need.cpus)
            & (self.memory >= need.memory)
            & self.gres.iter().zip(&need.gres).fold(true, |all, (have, want)| all & (have >= want))
    }
    fn least(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = (*one).min(other));
        Self { cpus: self.cpus.min(other.cpus), memory: self.memory.min(other.memory), gres }
    }
    fn plus(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = one.saturating_add(other));
        let (cpus, memory) = (self.cpus.saturating_add(other.cpus), self.memory.saturating_add(other.memory));
        Self { cpus, memory, gres }
    }
    fn minus(self, other: Self) -> Self {
        let mut gres = self.gres;
        gres.iter_mut().zip(other.gres).for_each(|(one, other)| *one = one.saturating_sub(other));
        let (cpus, memory) = (self.cpus.saturating_sub(other.cpus), self.memory.saturating_sub(other.memory));
        Self { cpus, memory, gres }
    }
    fn whole(self) -> Amount {
        let mut gres = [0; KINDS];
        gres.iter_mut().zip(self.gres).for_each(|(to, from)| *to = u32::from(from));
        Amount { cpus: self.cpus, gres, memory: u64::from(self.memory), ..Amount::default() }
    }
}

impl Cell for u32 {
    fn covers(&self, need: &Self) -> bool {
        self >= need
    }
    fn least(self, other: Self) -> Self {
        self.min(other)
    }
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
    fn minus(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
    fn whole(self) -> Amount {
        Amount { cpus: self, ..Amount::default() }
    }
}
