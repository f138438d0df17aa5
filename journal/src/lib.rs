//! The durable log of Sluice's daemons: frames, segments, recovery, group commit. It knows bytes, no records.
//!
//! ```text
//!            Payload (records)          Reservation
//!                  │                         │
//!  Committer ──► Journal: write, sync ◄── SpaceHandle ◄── Filler
//!                  │                         │
//!                  ▼                         ▼
//!            journal-0000000001.seg  …  filled spares      FrameWriter ─► snapshots, history
//!                  └────────── Disk ─────────┘                                │
//!                      FileDisk  MemoryDisk ◄─────────────────────────────────┘
//! ```
//!
//! What it keeps (see `docs/architecture/storage.md`):
//! * a batch that was acknowledged is found by every later opening, whole and in order, whatever happened;
//! * a batch that was not acknowledged is found whole or not at all, and only as the last one;
//! * loss of a durable frame that has a successor is refused as damage, never cut off in silence;
//! * after a failed write or sync nothing is written or synced any more;
//! * a new owner takes a higher epoch, and an older one is refused.

mod committer;
pub mod crash;
mod disk;
mod error;
mod file_disk;
mod frame;
mod frame_file;
pub mod ground;
mod ids;
mod journal;
mod log;
pub mod memory;
mod pace;
mod payload;
mod reader;
mod recovery;
mod scan;
mod segment;
mod space;

pub use committer::{Batch, Before, Committer, Done, Filler, NotTaken, Settings, Stopped};
pub use disk::{Disk, DiskFile, LockError, Ownership, read_full_at, write_all_at};
pub use error::{Error, Evidence};
pub use file_disk::FileDisk;
pub use frame::{
    FORMAT_VERSION, Frame, HEADER_BYTES, Kind, OLDEST_READER, OwnedFrame, Records, SECTOR_BYTES, frame_bytes,
};
pub use frame_file::{FrameReader, FrameWriter};
pub use ids::{Epoch, Lineage, SegmentId, Sequence};
pub use journal::{ClosedSegment, Journal, SegmentSource};
pub use log::Log;
pub use pace::Pace;
pub use payload::{Payload, RECORD_OVERHEAD_BYTES};
pub use reader::SegmentFrames;
pub use recovery::{Claim, Options, Recovered, Recovery, Torn, inspect};
pub use segment::{segment_name, write_zeros};
pub use space::{Class, Reservation, Space, SpaceHandle};
