//! What can go wrong with a log. Refusals by the disk, damage and misuse by a second owner are told apart,
//! because callers do different things: wait for space, drop the machine and recover, or stop the daemon.

use std::io;

use crate::ids::{Epoch, SegmentId, Sequence};
use crate::space::Class;

/// Why an operation on a log or a frame file was not done.
///
/// After `Io` or `Superseded` from an append the log is fenced and the outcome of that append is unknown: the
/// frame may or may not be found by the next recovery. `Full`, `TooLarge` wrote nothing and fence nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{operation} of {file} failed")]
    Io {
        /// What was tried: "write", "sync", "create", …
        operation: &'static str,
        /// Name of the file inside the disk's folder.
        file: String,
        /// The answer of the operating system.
        #[source]
        source: io::Error,
    },
    /// A frame that was durable is not readable any more. Nothing was touched; the log cannot be opened.
    #[error("segment {segment} is damaged at offset {offset}: {evidence}")]
    Damage {
        /// Segment of the first frame that is not as it was written.
        segment: SegmentId,
        /// Offset of that frame in the segment, bytes.
        offset: u64,
        /// How we know that this is not a torn tail.
        evidence: Evidence,
    },
    /// A frame file (snapshot, history, identity) is not as it was written.
    #[error("file {file} is damaged at offset {offset}: {what}")]
    FileDamage {
        /// Name of the file.
        file: String,
        /// Offset of the first bad frame, bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Written by a newer version, which says that ours cannot read it. Nothing was touched.
    #[error(
        "{file} has journal format {format}, readable from format {oldest_reader} on; this version reads up to format {ours}"
    )]
    NewerFormat {
        /// Name of the file.
        file: String,
        /// Format version found.
        format: u16,
        /// The oldest format version whose readers understand it.
        oldest_reader: u16,
        /// The version of this reader.
        ours: u16,
    },
    /// Another process owns the log.
    #[error("the journal is in use by {}", holder(*.pid))]
    Locked {
        /// The holder as it wrote itself into the lock file; `None` if that could not be read.
        pid: Option<u32>,
    },
    /// A newer owner has taken over: nothing that this owner writes counts any more.
    #[error("the journal has a newer owner than epoch {ours}")]
    Superseded {
        /// The epoch of the owner that was refused.
        ours: Epoch,
    },
    /// No filled space is left for this class of frames. Nothing was written, nothing is fenced; ask again
    /// after [`SpaceHandle::try_refill`](crate::SpaceHandle::try_refill) succeeded.
    #[error("no journal space is left for {class}")]
    Full {
        /// The class that found no space.
        class: Class,
    },
    /// The frame would not fit into an empty segment.
    #[error("a frame of {bytes} bytes is larger than a segment of {limit} bytes")]
    TooLarge {
        /// Size of the frame with header and padding, bytes.
        bytes: u64,
        /// Size of a segment, bytes.
        limit: u64,
    },
    /// An earlier operation failed: this log accepts nothing any more and must be opened anew.
    #[error("the journal is fenced after an earlier failure")]
    Fenced,
    /// A replay asked for frames that were removed (or never written).
    #[error("frames from {wanted} on were asked for, but the journal begins with {first}")]
    Gap {
        /// First frame wanted.
        wanted: Sequence,
        /// First frame that is there.
        first: Sequence,
    },
    /// Only a last frame of kind batch can be rejected at recovery.
    #[error("frame {last} is not a batch at the end of the journal and cannot be rejected")]
    NotRejectable {
        /// The last frame of the log.
        last: Sequence,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, file: &str, source: io::Error) -> Self {
        Self::Io { operation, file: file.to_owned(), source }
    }

    /// Whether the disk had no space: the caller may go on and try again later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// What proves that a bad place in the log was once durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Evidence {
    /// A frame with a higher number follows, and that is written only after its predecessor was durable.
    #[error(
        "frame {expected} is not readable, but frame {found} follows in segment {segment} at offset {offset}"
    )]
    LaterFrame {
        /// Number of the frame that should be there.
        expected: Sequence,
        /// Number of the later frame.
        found: Sequence,
        /// Where the later frame is.
        segment: SegmentId,
        /// Its offset, bytes.
        offset: u64,
    },
    /// The frame is whole but does not continue the chain.
    #[error("frame {found} does not continue the chain of checksums")]
    BrokenChain {
        /// Number in the frame that was found.
        found: Sequence,
    },
    /// The frame belongs to another log.
    #[error("a frame of another journal")]
    ForeignLineage,
    /// The records of a whole frame do not fill its payload.
    #[error("frame {found} has a malformed list of records")]
    MalformedRecords {
        /// Number of the frame.
        found: Sequence,
    },
    /// A segment between others, or all of them, is gone.
    #[error("the segment is missing")]
    SegmentMissing,
    /// The oldest segment must begin with a durable frame, as its predecessors were removed.
    #[error("the first frame of the oldest segment is not readable")]
    FirstFrame,
    /// The segment's size is not one that was ever made.
    #[error("the segment has an impossible size")]
    SegmentSize,
    /// Segments hold frames, but the identity file that names their lineage is gone.
    #[error("the identity file is missing")]
    IdentityMissing,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
