//! Snapshots: a state as the list of records that rebuilds it, in a file of the journal's format.
//!
//! First record: who wrote it; second: the frame after which the state stood so; last: number and digest of
//! the records between. A file is finished by the journal package: written, synced, renamed, made durable by
//! name, and read back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use journal::{Disk, Epoch, Frame, FrameReader, FrameWriter, Lineage, Payload};
use scheduler_codec::{Entry, Header, RecordHash, encode_record};
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::{Error, layout};

/// Records are gathered until a frame has this many bytes.
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
            failed = writer.append(&mut payload).err();
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

/// Reads the snapshot of the state after frame `sequence`.
///
/// # Errors
/// Anything that is not as it was written.
pub(super) fn read(disk: &dyn Disk, lineage: Lineage, sequence: u64) -> Result<State, Error> {
    let name = layout::snapshot_name(sequence);
    let mut reader = FrameReader::open(disk, &name, Some(lineage))?;
    let mut loading =
        Loading { state: State::default(), hash: RecordHash::default(), records: 0, ended: false };
    let mut begun = false;
    while let Some(frame) = reader.next()? {
        for (place, bytes) in frame.records().enumerate() {
            let entry = scheduler_codec::read(bytes).map_err(|source| Error::Record {
                file: name.clone(),
                offset: frame.offset(),
                record: place,
                source,
            })?;
            match entry {
                Entry::Header(_) => {}
                Entry::SnapshotBegin { sequence: found } if !begun && found == sequence => begun = true,
                Entry::Record(record) if begun && !loading.ended => {
                    loading.hash.add(bytes);
                    loading.records += 1;
                    apply_checked(&mut loading.state, &record, &name, &frame, place)?;
                }
                Entry::SnapshotEnd { digest, records } if begun => loading.end(&name, digest, records)?,
                _ => return Err(Error::Snapshot { file: name, what: "an entry out of place" }),
            }
        }
    }
    if !loading.ended {
        return Err(Error::Snapshot { file: name, what: "its end is missing" });
    }
    Ok(loading.state)
}

struct Loading {
    state: State,
    hash: RecordHash,
    records: u64,
    ended: bool,
}

impl Loading {
    fn end(&mut self, name: &str, digest: scheduler_codec::Digest, records: u64) -> Result<(), Error> {
        let hash = std::mem::take(&mut self.hash);
        if self.ended || self.records != records || hash.finish() != digest {
            let what = "its records are not those that were counted";
            return Err(Error::Snapshot { file: name.to_owned(), what });
        }
        self.ended = true;
        Ok(())
    }
}

/// Applies one record; what it asserts becomes an error that names the place.
pub(super) fn apply_checked(
    state: &mut State,
    record: &Record,
    file: &str,
    frame: &Frame<'_>,
    place: usize,
) -> Result<(), Error> {
    // After an assertion the state is given up, so its being half-changed is never seen.
    catch_unwind(AssertUnwindSafe(|| apply(state, record))).map_err(|panic| Error::Apply {
        file: file.to_owned(),
        offset: frame.offset(),
        record: place,
        assertion: message(&*panic),
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an assertion").to_owned()
}
