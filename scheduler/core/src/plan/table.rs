//! Numbers by hash: which shapes may be a job's.
//!
//! Owns a table of hashes and numbers, open addressing with linear probing, at most half full. It is only asked for
//! numbers of a hash, never walked, so that its order does not matter; the same calls make the same table everywhere.

/// A number and its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u32,
    /// One more than the number; 0: the slot is empty.
    next: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    used: usize,
}

/// Half of the bits of a hash, which depend on all of them.
fn folded(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the other half is in it")]
    let folded = (hash ^ hash >> 32) as u32;
    folded
}

impl Table {
    /// The first number of the hash that suits. Cost: O(1), and `suits` for each number of the same hash.
    pub(super) fn find(&self, hash: u64, mut suits: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let hash = folded(hash);
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            let number = slot.next.checked_sub(1)?;
            if slot.hash == hash && suits(number) {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
    }

    /// Adds a number, below `u32::MAX`, once. Cost: O(1), amortised.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            let larger = (self.slots.len() * 2).max(16);
            self.rebuild(larger, |_| true);
        }
        self.put(Slot { hash: folded(hash), next: number + 1 });
    }

    fn put(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut place = slot.hash as usize & mask;
        while self.slots[place].next != 0 {
            place = (place + 1) & mask;
        }
        self.slots[place] = slot;
        self.used += 1;
    }

    fn rebuild(&mut self, size: usize, kept: impl Fn(u32) -> bool) {
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        self.used = 0;
        old.into_iter().filter(|slot| slot.next != 0 && kept(slot.next - 1)).for_each(|slot| self.put(slot));
    }

    /// Takes all numbers away but those that `kept` names. Cost: O(size of the table).
    pub(super) fn retain(&mut self, kept: impl Fn(u32) -> bool) {
        self.rebuild(self.slots.len(), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever comes and goes, the answers are those of a plain list.
    #[test]
    fn answers_as_a_list_does() {
        let (mut table, mut list) = (Table::default(), Vec::<(u64, u32)>::new());
        assert_eq!(table.find(0, |_| true), None);
        // Hashes of a few bits, so that many share one and others lie side by side.
        for number in 0..3000_u32 {
            let hash = u64::from(number.wrapping_mul(0x9e37_79b9) >> 22);
            table.insert(hash, number);
            list.push((hash, number));
            if number % 1000 == 999 {
                let kept = |number: u32| !number.is_multiple_of(7);
                table.retain(kept);
                list.retain(|(_, number)| kept(*number));
            }
        }
        for hash in 0..1100 {
            let mut found = Vec::new();
            let none = table.find(hash, |number| {
                found.push(number);
                false
            });
            assert_eq!(none, None);
            found.sort_unstable();
            let known = list.iter().filter(|(known, _)| *known == hash).map(|(_, number)| *number);
            assert!(known.clone().eq(found), "{hash}");
            for number in known {
                assert_eq!(table.find(hash, |one| one == number), Some(number));
            }
        }
    }
}
