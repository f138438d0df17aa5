//! What can go wrong with the store.

use std::io;

use model::id::BodyHash;

/// Why an operation on the store was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal, or a file of its format.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The operating system refused a file operation.
    #[error("{operation} of {file} failed")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        file: String,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// A record that this version cannot read.
    #[error("{file}, offset {offset}, record {record} cannot be read")]
    Record {
        /// The file.
        file: String,
        /// Offset of its frame, bytes.
        offset: u64,
        /// Its place in the frame, from 0.
        record: usize,
        /// Why.
        #[source]
        source: scheduler_codec::Error,
    },
    /// A record that does not fit the state before it: a bug, or a journal that was edited.
    #[error("{file}, offset {offset}, record {record} does not fit the state before it: {assertion}")]
    Apply {
        /// The file.
        file: String,
        /// Offset of its frame, bytes.
        offset: u64,
        /// Its place in the frame, from 0.
        record: usize,
        /// What was asserted.
        assertion: String,
    },
    /// The journal begins after the newest snapshot that can be read.
    #[error(
        "the journal begins with frame {first}, but no snapshot covers the frames before it ({tried} tried)"
    )]
    NoSnapshot {
        /// The journal's first frame.
        first: u64,
        /// How many snapshots were tried.
        tried: usize,
    },
    /// A snapshot whose records are not what was written.
    #[error("snapshot {file} is not what was written: {what}")]
    Snapshot {
        /// The file.
        file: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A body that was stored cannot be read.
    #[error("body {hash} cannot be read from {file}, offset {offset}")]
    BodyDamage {
        /// Its address.
        hash: BodyHash,
        /// The file.
        file: String,
        /// Offset, bytes.
        offset: u64,
    },
    /// A body is larger than any may be.
    #[error("a body of {bytes} bytes is larger than {max}")]
    BodyTooLarge {
        /// Its size.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// No filled space is left for bodies; nothing was stored.
    #[error("no space is left for scripts and environments")]
    BodiesFull,
    /// The index over history.
    #[error("the index: {0}")]
    Index(#[from] sled::Error),
    /// The program that makes snapshots did not do it.
    #[error("making a snapshot failed: {0}")]
    Compaction(String),
    /// An earlier failure stopped the store; it must be opened anew.
    #[error("the store is stopped after an earlier failure")]
    Stopped,
}

impl Error {
    pub(super) fn io(operation: &'static str, file: impl Into<String>, source: io::Error) -> Self {
        Self::Io { operation, file: file.into(), source }
    }

    /// Whether the disk had no space: nothing is lost, and it may be tried again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_full(),
            Self::BodiesFull => true,
            Self::Io { source, .. } => is_full(source),
            Self::Index(sled::Error::Io(source)) => is_full(source),
            _ => false,
        }
    }

    /// Whether nothing more may be released: the outcome of what was given last is not known.
    ///
    /// The controller drops its machine and opens the store anew.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        !matches!(
            self,
            Self::Journal(journal::Error::Full { .. } | journal::Error::TooLarge { .. })
                | Self::BodiesFull
                | Self::BodyTooLarge { .. }
        )
    }
}

fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
