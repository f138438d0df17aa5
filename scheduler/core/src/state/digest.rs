//! One number for a whole state: two states are the same exactly where their digests are equal.
//!
//! The digest is taken over the records of a snapshot, so it sees every fact and no index.

use std::fmt::{self, Write};

use crate::state::State;

/// A 128-bit digest. Not cryptographic: it finds differences, it does not resist forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// FNV-1a with 128 bits, fed with text.
struct Fnv(u128);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013B);
        }
        Ok(())
    }
}

impl State {
    /// The digest of every fact. Cost: O(everything); for tests, tools and replays.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        self.to_records(|record| writeln!(hash, "{record:?}").expect("hashing text cannot fail"));
        Digest(hash.0)
    }
}
