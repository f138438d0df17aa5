//! The scheduler's disk: the production journal and its snapshots over a modelled disk, on which anything may go wrong
//! at any operation.
//!
//! Owns when an operation is the last one of its scheduler, and what it leaves: everything (the process is killed),
//! any subset of the sectors or pages that no sync covered and any of the names (the power goes), or an error that
//! fences the log. Knows no jobs. Snapshots are made as the daemon makes them: closed segments applied to the last
//! snapshot, written beside it, two kept, older segments removed.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::memory::{Dice, Fault, MemoryDisk, Unit};
use journal::{
    Epoch, Error, FrameReader, FrameWriter, Journal, Lineage, Log, Options, Payload, Recovered, Sequence,
};
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::state::State;

use crate::random::SplitMix64;

/// Records in a frame of a snapshot.
const SNAPSHOT_FRAME: usize = 500;
/// So many segments are closed before a snapshot is due.
const SEGMENTS_CLOSED: usize = 2;

/// What the last operation of a scheduler leaves.
#[derive(Clone, Copy, Debug)]
enum End {
    /// All that was written.
    Killed,
    /// A subset of what was not synced.
    PowerCut(Unit),
}

/// Watches operations and takes the image at the last one.
struct Watch {
    /// Operations so far, over all images.
    count: u64,
    /// The one after which the scheduler ends.
    last: Option<(u64, End)>,
    dice: Dice,
    image: Option<MemoryDisk>,
}

/// What is on the disk when a scheduler opens it.
pub(super) struct Found {
    /// Everything applied.
    pub(super) state: State,
    /// The batches after the one that was last known to be durable.
    pub(super) unseen: Vec<Vec<Record>>,
    /// Number of the last frame.
    pub(super) last: u64,
}

/// The disk and, while a scheduler runs, its journal.
pub(super) struct Disk {
    disk: MemoryDisk,
    watch: Arc<Mutex<Watch>>,
    journal: Option<Journal>,
    payload: Payload,
    segment_bytes: u64,
    snapshots: Vec<u64>,
}

fn locked(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn snapshot_name(sequence: u64) -> String {
    format!("snapshot-{sequence:010}")
}

impl Disk {
    /// An empty one. A batch must fit a segment.
    pub(super) fn new(segment_bytes: u64, seed: u64) -> Self {
        let watch = Watch { count: 0, last: None, dice: Dice::new(seed), image: None };
        let disk = Self {
            disk: MemoryDisk::new(),
            watch: Arc::new(Mutex::new(watch)),
            journal: None,
            payload: Payload::new(),
            segment_bytes,
            snapshots: Vec::new(),
        };
        disk.observe();
        disk
    }

    fn observe(&self) {
        let watch = Arc::clone(&self.watch);
        self.disk.observe(move |disk| {
            let mut watch = locked(&watch);
            watch.count += 1;
            let Some((_, end)) = watch.last.filter(|(last, _)| watch.count > *last) else { return };
            watch.last = None;
            watch.image = Some(match end {
                End::Killed => disk.settled(),
                End::PowerCut(unit) => disk.cut_random(unit, &mut watch.dice),
            });
        });
    }

    /// Operations that changed something so far.
    pub(super) fn operations(&self) -> u64 {
        locked(&self.watch).count
    }

    /// The scheduler ends after `more` further operations, or one of them fails and it ends of that.
    pub(super) fn end_after(&mut self, more: u64, random: &mut SplitMix64) {
        let end = match random.below(8) {
            0 | 1 => End::Killed,
            2..=4 => End::PowerCut(Unit::Sector),
            5 | 6 => End::PowerCut(Unit::Page),
            _ => {
                let fault = if random.one_in(3) { Fault::Short } else { Fault::Eio };
                return self.disk.inject(self.disk.operations() + more, fault, random.draw());
            }
        };
        let mut watch = locked(&self.watch);
        watch.last = Some((watch.count + more, end));
    }

    /// Whether some operation is still to be the last one.
    pub(super) fn end_is_set(&self) -> bool {
        locked(&self.watch).last.is_some()
    }

    /// The scheduler ends: as after its last operation, or else now.
    pub(super) fn close(&mut self, random: &mut SplitMix64) {
        self.journal = None;
        self.disk.clear_faults();
        let mut watch = locked(&self.watch);
        watch.last = None;
        let image = watch.image.take().or_else(|| match random.below(3) {
            // The kernel has what was written.
            0 => None,
            1 => Some(self.disk.cut_random(Unit::Sector, &mut watch.dice)),
            _ => Some(self.disk.cut_random(Unit::Page, &mut watch.dice)),
        });
        drop(watch);
        if let Some(image) = image {
            self.disk = image;
            self.observe();
        }
    }

    /// Whether the scheduler has ended at an operation.
    pub(super) fn has_ended(&self) -> bool {
        locked(&self.watch).image.is_some()
    }

    fn options(&self, covered: Sequence) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            spare_segments: 1,
            essential_bytes: 1024,
            new_lineage: Some(Lineage([7; 16])),
            covered,
            ..Options::default()
        }
    }

    /// Opens what is there. `known`: the last frame that was said to be durable. `None`: the disk failed meanwhile.
    ///
    /// # Errors
    /// Something that was durable is not there, or not as it was written.
    pub(super) fn open(&mut self, known: u64) -> Result<Option<Found>, String> {
        match self.try_open(known) {
            Ok(found) => Ok(found.filter(|_| !self.has_ended())),
            // What the disk says after its last operation means nothing.
            Err(_) if self.has_ended() => Ok(None),
            Err(Error::Io { .. }) => Ok(None),
            Err(error) => Err(format!("recovery: {error}")),
        }
    }

    fn try_open(&mut self, known: u64) -> Result<Option<Found>, Error> {
        let disk: Arc<MemoryDisk> = Arc::new(self.disk.clone());
        let mut found = Found { state: State::default(), unseen: Vec::new(), last: 0 };
        let names = journal::Disk::list(&*disk).map_err(|source| Error::Io {
            operation: "list",
            file: ".".into(),
            source,
        })?;
        let number = |name: &String| name.strip_prefix("snapshot-")?.parse().ok();
        self.snapshots = names.iter().filter_map(number).collect();
        self.snapshots.sort_unstable();
        let covered = self.snapshots.last().copied().unwrap_or(0);
        load(&disk, covered, &mut found.state)?;
        let recovered = Recovered::open(disk, self.options(Sequence(covered)))?;
        recovered.replay(Sequence(covered + 1), &mut |frame| {
            let records: Vec<Record> = frame.records().map(read).collect();
            records.iter().for_each(|record| apply(&mut found.state, record));
            if frame.sequence().0 > known && !records.is_empty() {
                found.unseen.push(records);
            }
            ControlFlow::Continue(())
        })?;
        let journal = recovered.start()?;
        found.last = journal.last_sequence().0;
        self.journal = Some(journal);
        Ok(Some(found))
    }

    /// Writes a batch, which is not durable yet; `false`: it could not be written.
    pub(super) fn write(&mut self, records: &[Record]) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        if records.is_empty() {
            return true;
        }
        self.payload.clear();
        for record in records {
            self.payload.push_with(|bytes| scheduler_codec::encode_record(record, bytes));
        }
        journal.write(&mut self.payload, None).is_ok() && !self.has_ended()
    }

    /// Makes what was written durable: the number of its frame. `None`: the scheduler has ended, or the disk failed.
    pub(super) fn sync(&mut self) -> Option<u64> {
        let last = self.journal.as_mut()?.sync().ok().filter(|_| !self.has_ended())?;
        Some(last.0)
    }

    /// Beside the scheduler: fills segments, makes a snapshot where one is due. `false`: the scheduler has ended, or the
    /// disk failed.
    pub(super) fn tidy(&mut self) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let filled = journal.try_refill().is_ok() && !self.has_ended();
        filled && self.snapshot().is_ok() && !self.has_ended()
    }

    fn snapshot(&mut self) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let covered = self.snapshots.last().copied().unwrap_or(0);
        let mut closed = journal.closed_segments();
        closed.retain(|segment| segment.last.0 > covered);
        let Some(through) = closed.last().map(|segment| segment.last.0) else { return Ok(()) };
        if closed.len() < SEGMENTS_CLOSED {
            return Ok(());
        }
        let disk: Arc<dyn journal::Disk> = Arc::new(self.disk.clone());
        let mut state = State::default();
        load(&self.disk, covered, &mut state)?;
        for segment in &closed {
            let mut frames = journal.source().read(segment)?;
            while let Some(frame) = frames.next()? {
                if frame.sequence().0 > covered {
                    frame.records().for_each(|bytes| apply(&mut state, &read(bytes)));
                }
            }
        }
        let (lineage, epoch) = (journal.lineage(), Epoch(0));
        let mut writer = FrameWriter::create(disk, &snapshot_name(through), lineage, epoch)?;
        let mut records = Vec::new();
        state.to_records(|record| records.push(record));
        for part in records.chunks(SNAPSHOT_FRAME) {
            self.payload.clear();
            for record in part {
                self.payload.push_with(|bytes| scheduler_codec::encode_record(record, bytes));
            }
            writer.append(&mut self.payload)?;
        }
        writer.finish()?;
        self.snapshots.push(through);
        while self.snapshots.len() > 2 {
            let oldest = self.snapshots.remove(0);
            let removed = journal::Disk::remove(&self.disk, &snapshot_name(oldest));
            removed.map_err(|source| Error::Io {
                operation: "remove",
                file: snapshot_name(oldest),
                source,
            })?;
        }
        match self.snapshots.as_slice() {
            [older, _] => journal.remove_through(Sequence(*older)),
            _ => Ok(()),
        }
    }
}

/// Applies a snapshot, if there is one.
fn load(disk: &MemoryDisk, sequence: u64, state: &mut State) -> Result<(), Error> {
    if sequence == 0 {
        return Ok(());
    }
    let mut reader = FrameReader::open(disk, &snapshot_name(sequence), None)?;
    while let Some(frame) = reader.next()? {
        frame.records().for_each(|bytes| apply(state, &read(bytes)));
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Record {
    scheduler_codec::read_record(bytes).expect("the codec reads what it wrote").expect("a record of ours")
}
