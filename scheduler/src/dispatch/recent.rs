//! The bodies that launches used last, in memory: many jobs of a submitter share their environment, and elements of an
//! array their script, so that most launches need no thread that may wait for the disk.
//!
//! A body is named by the hash of its bytes and was checked when it was read: what is here stays right whatever becomes
//! of the store. Bounded in number and bytes, for all sessions together.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::id::BodyHash;
use prost::bytes::Bytes;

const BODIES_MAX: usize = 32;
/// Bytes of all of them.
const BYTES_MAX: usize = 1 << 20;
/// A larger one would push the others out.
const BODY_MAX: usize = BYTES_MAX / 8;

#[derive(Default)]
struct Kept {
    /// Newest use last.
    bodies: VecDeque<(BodyHash, Bytes)>,
    bytes: usize,
}

/// See the module comment.
#[derive(Default)]
pub struct Recent(Mutex<Kept>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body, if it is here. Cost: a look at each that is.
    #[must_use]
    pub fn get(&self, hash: &BodyHash) -> Option<Bytes> {
        let mut kept = self.lock();
        let place = kept.bodies.iter().rposition(|(known, _)| known == hash)?;
        let found = kept.bodies.remove(place)?;
        let bytes = found.1.clone();
        kept.bodies.push_back(found);
        Some(bytes)
    }

    /// Keeps one that was read; those that were not used for longest go.
    pub fn keep(&self, hash: BodyHash, bytes: &Bytes) {
        let mut kept = self.lock();
        if bytes.len() > BODY_MAX || kept.bodies.iter().any(|(known, _)| *known == hash) {
            return;
        }
        kept.bytes += bytes.len();
        kept.bodies.push_back((hash, bytes.clone()));
        while kept.bodies.len() > BODIES_MAX || kept.bytes > BYTES_MAX {
            let Some((_, gone)) = kept.bodies.pop_front() else { return };
            kept.bytes -= gone.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: u8, length: usize) -> (BodyHash, Bytes) {
        (BodyHash([number; 32]), Bytes::from(vec![number; length]))
    }

    #[test]
    fn what_was_used_last_stays_within_the_bounds() {
        let recent = Recent::default();
        assert_eq!(recent.get(&BodyHash([0; 32])), None);
        for number in 0..40 {
            let (hash, bytes) = body(number, 100);
            recent.keep(hash, &bytes);
            recent.keep(hash, &bytes);
            // The first one is used all along.
            assert_eq!(recent.get(&BodyHash([0; 32])).map(|bytes| bytes.len()), Some(100));
        }
        assert_eq!(recent.get(&BodyHash([5; 32])), None);
        assert_eq!(recent.get(&BodyHash([39; 32])), Some(body(39, 100).1));
        assert_eq!(recent.lock().bytes, 32 * 100);
        for number in 100..120 {
            let (hash, bytes) = body(number, BODY_MAX);
            recent.keep(hash, &bytes);
        }
        assert_eq!(recent.lock().bytes, BYTES_MAX);
        let (hash, large) = body(200, BODY_MAX + 1);
        recent.keep(hash, &large);
        assert_eq!(recent.get(&hash), None);
    }
}
