//! Snapshots: a state as the list of records that rebuilds it, in a file of the journal's format.
//!
//! First record: who wrote it; second: the frame after which the state stood so; last: number and digest of
//! the records between. A file is finished by the journal package: written, synced, renamed, made durable by
//! name, and read back.

use std::sync::Arc;

use journal::{Disk, Epoch, FrameReader, FrameWriter, Lineage, Payload};
use scheduler_codec::{Entry, Header, RecordHash, encode_record};
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::replay::{Piece, Replay, pipelined};
use super::{Error, layout};

/// Records are gathered until a frame has this many bytes. Each is synced on its own: one sync of the whole file would
/// keep the journal's syncs waiting behind tens of megabytes.
const FRAME_BYTES: u64 = 1 << 20;

/// Frames of the snapshots in a folder, ascending.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let mut found: Vec<u64> =
        layout::list(disk)?.iter().filter_map(|name| layout::snapshot_of(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Writes the snapshot of the state after frame `sequence`; answers the file's size in bytes.
///
/// Cost: O(everything); the records are made one at a time.
pub(super) fn write(
    disk: &Arc<dyn Disk>,
    lineage: Lineage,
    state: &State,
    sequence: u64,
) -> Result<u64, Error> {
    let name = layout::snapshot_name(sequence);
    let mut writer = FrameWriter::create(Arc::clone(disk), &name, lineage, Epoch(state.epoch.0))?;
    let mut payload = Payload::new();
    payload.push_with(|bytes| Entry::Header(Header::ours()).encode(bytes));
    payload.push_with(|bytes| Entry::SnapshotBegin { sequence }.encode(bytes));
    let mut hash = RecordHash::default();
    let mut records = 0;
    let mut failed = None;
    state.to_records(|record| {
        if failed.is_some() {
            return;
        }
        payload.push_with(|bytes| {
            let start = bytes.len();
            encode_record(&record, bytes);
            hash.add(&bytes[start..]);
        });
        records += 1;
        if payload.payload_bytes() >= FRAME_BYTES {
            failed = writer.append(&mut payload).and_then(|_| writer.sync()).err();
            payload.clear();
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    payload.push_with(|bytes| Entry::SnapshotEnd { digest: hash.finish(), records }.encode(bytes));
    writer.append(&mut payload)?;
    Ok(writer.finish()?)
}

/// Reads the snapshot of the state after frame `sequence`; one thread decodes, another applies.
///
/// # Errors
/// Anything that is not as it was written.
pub(super) fn read(disk: &dyn Disk, lineage: Lineage, sequence: u64) -> Result<State, Error> {
    let name: Arc<str> = layout::snapshot_name(sequence).into();
    let mut reader = FrameReader::open(disk, &name, Some(lineage))?;
    let replay = Replay::new(State::default(), None);
    let (replay, ()) = pipelined(replay, |send| {
        let mut loading = Loading { name: Arc::clone(&name), sequence, ..Loading::default() };
        while let Some(frame) = reader.next()? {
            let mut piece = Piece::new(&name, frame.offset(), 0);
            for (place, bytes) in frame.records().enumerate() {
                let entry = scheduler_codec::read(bytes).map_err(|source| Error::Record {
                    file: name.to_string(),
                    offset: frame.offset(),
                    record: place,
                    source,
                })?;
                if let Some(record) = loading.take(entry, bytes)? {
                    piece.records.push((place, record));
                }
            }
            if send(piece).is_break() {
                return Ok(());
            }
        }
        loading.ended.then_some(()).ok_or_else(|| loading.wrong("its end is missing"))
    })?;
    Ok(replay.state)
}

/// How far the reading of a snapshot is.
#[derive(Default)]
struct Loading {
    name: Arc<str>,
    sequence: u64,
    begun: bool,
    hash: RecordHash,
    records: u64,
    ended: bool,
}

impl Loading {
    /// Takes one entry in its order; answers the record, if it is one.
    fn take(&mut self, entry: Entry, bytes: &[u8]) -> Result<Option<Record>, Error> {
        match entry {
            Entry::Header(_) => {}
            Entry::SnapshotBegin { sequence } if !self.begun && sequence == self.sequence => {
                self.begun = true
            }
            Entry::Record(record) if self.begun && !self.ended => {
                self.hash.add(bytes);
                self.records += 1;
                return Ok(Some(record));
            }
            Entry::SnapshotEnd { digest, records } if self.begun && !self.ended => {
                if self.records != records || std::mem::take(&mut self.hash).finish() != digest {
                    return Err(self.wrong("its records are not those that were counted"));
                }
                self.ended = true;
            }
            _ => return Err(self.wrong("an entry out of place")),
        }
        Ok(None)
    }

    fn wrong(&self, what: &'static str) -> Error {
        Error::Snapshot { file: self.name.to_string(), what }
    }
}
