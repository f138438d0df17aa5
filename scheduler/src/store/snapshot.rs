//! Snapshots: a state as the list of records that rebuilds it, in a file of the journal's format.
//!
//! First record: who wrote it; second: the frame after which the state stood so; last: number and digest of
//! the records between. A file is finished by the journal package: written, synced, renamed, made durable by
//! name, and read back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use journal::{Disk, Epoch, FrameReader, FrameWriter, Lineage, Payload};
use scheduler_codec::{Entry, Header, RecordHash, encode_record};
use scheduler_core::record::Record;
use scheduler_core::state::State;

use super::replay::{Decoders, Raw, Replay, pipelined};
use super::{Error, layout};

/// Records are gathered until a frame has this many bytes. Each is synced on its own: one sync of the whole file would
/// keep the journal's syncs waiting behind tens of megabytes.
const FRAME_BYTES: u64 = 1 << 20;
/// Records that one thread decodes in a row.
const PART_RECORDS: usize = 256;

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

/// Reads the snapshot of the state after frame `sequence`; some threads decode, another applies.
///
/// # Errors
/// Anything that is not as it was written.
pub(super) fn read(disk: &dyn Disk, lineage: Lineage, sequence: u64) -> Result<State, Error> {
    read_by(&Decoders::start()?, disk, lineage, sequence)
}

/// The same with decoders that are there.
///
/// # Errors
/// As [`read`].
pub(super) fn read_by(
    decoders: &Decoders,
    disk: &dyn Disk,
    lineage: Lineage,
    sequence: u64,
) -> Result<State, Error> {
    let mut reader = FrameReader::open(disk, &layout::snapshot_name(sequence), Some(lineage))?;
    load(&mut reader, decoders, sequence, &AtomicBool::new(false))
}

/// Reads a snapshot to its end, unless `abandoned` is set meanwhile.
fn load(
    reader: &mut FrameReader,
    decoders: &Decoders,
    sequence: u64,
    abandoned: &AtomicBool,
) -> Result<State, Error> {
    let name: Arc<str> = layout::snapshot_name(sequence).into();
    let source = |send: &mut super::replay::Send<'_>| {
        while let Some(frame) = reader.next()? {
            for part in Raw::whole(&name, &frame, false).in_parts(PART_RECORDS) {
                if abandoned.load(Ordering::Relaxed) || send(part).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let apply = |decoded: &mut dyn Iterator<Item = Result<(Raw, Vec<Entry>), Error>>| {
        let mut replay = Replay::new(State::default(), None);
        let mut loading = Loading { name: Arc::clone(&name), sequence, ..Loading::default() };
        for part in decoded {
            let (raw, entries) = part?;
            let mut piece = raw.piece();
            for (entry, (place, bytes)) in entries.into_iter().zip(raw.records()) {
                piece.records.extend(loading.take(entry, bytes)?.map(|record| (place, record)));
            }
            replay.apply(piece)?;
        }
        // Where the file ended too early, or the work was given up, that is so too.
        loading.ended.then_some(replay.state).ok_or_else(|| loading.wrong("its end is missing"))
    };
    pipelined(decoders, source, entries, apply)
}

/// The entries of a part of a snapshot.
fn entries(raw: Raw) -> Result<(Raw, Vec<Entry>), Error> {
    let entries = raw
        .records()
        .map(|(place, bytes)| scheduler_codec::read(bytes).map_err(|source| raw.unreadable(place, source)));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    Ok((raw, entries))
}

/// A snapshot that is read on a thread of its own while the journal, which has to say whether it counts, is looked at.
pub(super) struct Early {
    pub(super) sequence: u64,
    abandoned: Arc<AtomicBool>,
    thread: JoinHandle<Result<(State, Option<Lineage>), Error>>,
}

impl Early {
    /// Begins to read; `None`: there is no thread for it.
    pub(super) fn begin(disk: &Arc<dyn Disk>, decoders: &Decoders, sequence: u64) -> Option<Self> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let (disk, decoders, given_up) = (Arc::clone(disk), decoders.clone(), Arc::clone(&abandoned));
        let work = move || {
            let mut reader = FrameReader::open(&*disk, &layout::snapshot_name(sequence), None)?;
            reader.read_ahead();
            let state = load(&mut reader, &decoders, sequence, &given_up)?;
            Ok((state, reader.lineage()))
        };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(work).ok()?;
        Some(Self { sequence, abandoned, thread })
    }

    /// The state, if it could be read and belongs to this lineage. What else there is to say of the file, who reads it
    /// as its owner finds out.
    pub(super) fn finish(self, lineage: Lineage) -> Option<State> {
        let (state, found) = self.thread.join().ok()?.ok()?;
        (found == Some(lineage)).then_some(state)
    }

    /// Stops reading and waits for its end.
    pub(super) fn abandon(self) {
        self.abandoned.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
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
