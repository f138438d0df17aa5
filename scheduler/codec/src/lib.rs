//! The core's records ⇄ the messages of `journal.proto`.
//!
//! Total outwards, fallible inwards: bytes on disk are checked like any other outside input, and what
//! this version does not know is refused by name, never skipped. Decides nothing, reads and writes no
//! file. What was encoded decodes to an equal value (a test holds a sample of every variant).
//!
//! The controller's inputs are written for replays by [`input`], in a form that only the version that
//! wrote it reads.

mod accounts;
mod allocation;
mod call;
mod entry;
mod error;
mod glance;
pub mod input;
mod job;
mod node;
mod partition;
mod prediction;
mod promise;
mod record;
mod reservation;
#[cfg(test)]
mod sample;
mod step;

pub use call::{Call, holds_body};
pub use entry::{Entry, Header, HistoryBegin, HistoryBody, HistoryRow, encode_record, read, read_record};
pub use error::Error;
pub use glance::{RowGlance, glance};

use scheduler_core::state::State;

/// Version of the records that this code writes. It grows with each addition to `journal.proto`.
pub const VERSION: u32 = 3;

/// The oldest version whose readers understand what this code writes. Raised to [`VERSION`] by every
/// addition that such a reader must not miss, which is nearly every one.
pub const OLDEST_READER: u32 = 2;

/// What tells two states apart: a BLAKE3 hash.
pub type Digest = [u8; 32];

/// The canonical digest of a state: over the encoded records that rebuild it.
///
/// Stays the same when fields with a default are added to the vocabulary, so that it can be recorded
/// with a journal of a released version. Cost: O(everything).
#[must_use]
pub fn digest(state: &State) -> Digest {
    let mut hash = RecordHash::default();
    let mut bytes = Vec::new();
    state.to_records(|record| {
        bytes.clear();
        encode_record(&record, &mut bytes);
        hash.add(&bytes);
    });
    hash.finish()
}

/// The digest of a list of encoded records, one by one.
#[derive(Debug, Default)]
pub struct RecordHash(blake3::Hasher);

impl RecordHash {
    /// Adds one encoded record.
    pub fn add(&mut self, record: &[u8]) {
        // The length in front, so that no two lists run into the same bytes.
        self.0.update(&(record.len() as u64).to_le_bytes());
        self.0.update(record);
    }

    /// The digest of what was added.
    #[must_use]
    pub fn finish(&self) -> Digest {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests;
