//! What benches share: daemons in a temporary folder, the machine they run on, statistics, result files.
//!
//! A bench prints a table and, with `--save`, leaves `results/DATE-NAME.json` with machine, seed, commit and command.
//! With `--tiny` it does the same work in a second: that is how the tests run it.

pub mod admission;

mod allocator;
mod arguments;
mod daemons;
mod figures;
mod machine;
mod stopwatch;

pub use allocator::Counting;
pub use arguments::Arguments;
pub use daemons::{Daemon, Workplace, children_of, cpu_of};
pub use figures::{Report, Spread};
pub use machine::Machine;
pub use stopwatch::{Stopwatch, Taken};

/// A repeatable stream of numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// So many letters and digits.
    pub fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
        let mut text = String::with_capacity(length + 10);
        while text.len() < length {
            let mut bits = self.bits();
            for _ in 0..10 {
                text.push(char::from(LETTERS[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
        text.truncate(length);
        text
    }
}
