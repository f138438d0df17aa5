//! Promises of space where the fillers may be late, and what is known of a full disk meanwhile.
//!
//! Filling here and now costs the caller time, so it is not repeated on a disk that has just been full. That it was is
//! known until a file is made: the fillers try again and again, and when one of them had space, so may whoever needs it
//! next. (Known for longer, it would refuse work on a disk with space, whenever the fillers are late.)

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// How many files had been made when making one more found no space.
pub(super) struct FullMark(AtomicU64);

impl Default for FullMark {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl FullMark {
    /// What `promise` answers; where it finds the space used up, `fill` makes more first, unless that has failed since a
    /// file was made. `made` is a number that grows with each file made.
    pub(super) fn promise(
        &self,
        made: impl Fn() -> u64,
        mut promise: impl FnMut() -> Result<(), Error>,
        fill: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let full = match promise() {
            Err(error) if error.is_full() => error,
            outcome => return outcome,
        };
        if self.0.load(Ordering::Relaxed) == made() {
            return Err(full);
        }
        match fill() {
            Ok(()) => promise(),
            Err(_) => {
                // Whatever the reason, there is no space; where filling has fenced the journal, the next wish says so.
                self.0.store(made(), Ordering::Relaxed);
                Err(full)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Error, FullMark};

    #[test]
    fn a_full_disk_is_known_until_somebody_has_made_a_file() {
        let (made, tries, disk_is_full) = (Cell::new(7), Cell::new(0), Cell::new(true));
        let mark = FullMark::default();
        let ask = || {
            let fill = || {
                tries.set(tries.get() + 1);
                if disk_is_full.get() {
                    return Err(Error::BodiesFull);
                }
                made.set(made.get() + 1);
                Ok(())
            };
            let filled = made.get();
            let promise = || if made.get() > filled { Ok(()) } else { Err(Error::BodiesFull) };
            mark.promise(|| made.get(), promise, fill).is_ok()
        };
        assert!(!ask() && !ask(), "full");
        assert_eq!(tries.get(), 1, "it is not tried again and again");
        disk_is_full.set(false);
        assert!(!ask(), "nobody knows of the space yet");
        made.set(made.get() + 1);
        assert!(ask(), "a filler found space, and was late for the next one");
        assert_eq!(tries.get(), 2);
    }
}
