//! Seeded randomness: SplitMix64, the same numbers on every machine.

/// A generator; its whole state is one number.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        u64::try_from((u128::from(self.draw()) * u128::from(n)) >> 64).expect("below a 64-bit number")
    }

    /// True once in `n` draws.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the list; `None` if there is none.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let place = (!list.is_empty()).then(|| self.below(list.len() as u64))?;
        list.get(usize::try_from(place).ok()?).copied()
    }
}
