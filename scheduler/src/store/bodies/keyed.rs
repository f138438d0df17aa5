//! Hashing of what is a hash already: the index of bodies is asked a few hundred thousand times when a scheduler starts.
//!
//! Keyed, since users choose the bodies: nobody can find many that meet in one place of the table.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes [`Keyed`] hashers with one random key.
#[derive(Clone)]
pub(super) struct Key(u64, u64);

impl Default for Key {
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        // Odd, so that no bit of what it multiplies is lost.
        Self(random(), random() | 1)
    }
}

impl BuildHasher for Key {
    type Hasher = Keyed;

    fn build_hasher(&self) -> Keyed {
        Keyed { state: self.0, factor: self.1 }
    }
}

/// Folds words into one by multiplications with the key.
pub(super) struct Keyed {
    state: u64,
    factor: u64,
}

impl Keyed {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // All keys have one length.
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts_and_each_table_has_its_key() {
        let (one, other) = (Key::default(), Key::default());
        let bytes = [7u8; 16];
        for at in 0..16 {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_ne!(one.hash_one(bytes), one.hash_one(changed), "byte {at}");
        }
        assert_eq!(one.hash_one(bytes), one.clone().hash_one(bytes));
        assert_ne!(one.hash_one(bytes), other.hash_one(bytes));
    }
}
