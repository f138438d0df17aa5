//! Opening a log: lock, read, judge, cut a torn tail; and, as a second step, the fresh epoch.
//!
//! Nothing is written before the whole log was read and found sound. The two steps are apart because the caller may
//! know that the last batch is torn although its frame is whole (a body that it refers to did not reach the disk).

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::disk::{Disk, LockError, Ownership, write_all_at};
use crate::error::{Error, Evidence};
use crate::frame::{Frame, SECTOR_BYTES};
use crate::frame_file::{FrameReader, FrameWriter};
use crate::ids::{Epoch, Lineage, SegmentId, Sequence};
use crate::journal::{Journal, replay_segments};
use crate::payload::Payload;
use crate::scan::{Scan, find_segments, holds_frames, scan};
use crate::segment::{self, UNFINISHED, segment_of, write_zeros};

const IDENTITY: &str = "identity";
const SEGMENT_BYTES_LEAST: u64 = 4 * SECTOR_BYTES;
const SEGMENT_BYTES_MOST: u64 = 1 << 30;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of segments made from now on, bytes; rounded up to sectors, at least 2,048, at most 1 GiB. It bounds the
    /// size of a frame.
    pub segment_bytes: u64,
    /// How many filled segments wait for use, beyond the current one.
    pub spare_segments: usize,
    /// Filled bytes that only essential frames may use.
    pub essential_bytes: u64,
    /// Which epoch the new owner takes.
    pub claim: Claim,
    /// Lineage of a log that does not exist yet; `None`: random.
    pub new_lineage: Option<Lineage>,
    /// The caller knows what the frames up to this one say (a snapshot): older segments are known by their first header
    /// and not read when the log is opened. What [`Recovered::replay`] shows of them is checked then.
    pub covered: Sequence,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            spare_segments: 1,
            essential_bytes: 8 << 20,
            claim: Claim::Next,
            new_lineage: None,
            covered: Sequence(0),
        }
    }
}

/// The epoch of a new owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One above the highest in the log.
    Next,
    /// The same, but not below this one (a restored log, whose executors have seen more).
    AtLeast(Epoch),
    /// Exactly this one, given by a lease; refused as superseded unless it is above the highest in the log.
    Exactly(Epoch),
}

/// What was found when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The log did not exist.
    pub created: bool,
    /// The lineage of the log's files.
    pub lineage: Lineage,
    /// Number of whole frames.
    pub frames: u64,
    /// The oldest frame; `None` in a log without frames.
    pub first_sequence: Option<Sequence>,
    /// The last frame; 0 in a log without frames.
    pub last_sequence: Sequence,
    /// The highest epoch found; 0 in a log without frames.
    pub epoch: Epoch,
    /// What was cut off: a frame that was not durable when the power went, or none.
    pub torn: Option<Torn>,
}

/// A torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Segment with the first byte cut.
    pub segment: SegmentId,
    /// Offset of that byte, a multiple of 512.
    pub offset: u64,
    /// Bytes from the first to the last that was not zero.
    pub bytes: u64,
}

/// A log that was read, found sound, locked and cut, but that has no new owner yet.
pub struct Recovered {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) ownership: Box<dyn Ownership>,
    pub(crate) scan: Scan,
    pub(crate) recovery: Recovery,
}

/// Reads a log without locking or touching it and shows its frames: for tools beside a running owner (whose last frame
/// may be seen half-written, and then counts as torn).
pub fn inspect(
    disk: &Arc<dyn Disk>,
    visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
) -> Result<Recovery, Error> {
    let names = list(&**disk)?;
    let lineage = read_identity(&**disk, &names)?.ok_or(Error::Damage {
        segment: SegmentId(1),
        offset: 0,
        evidence: Evidence::IdentityMissing,
    })?;
    let scan = scan(find_segments(&**disk)?, lineage, Sequence(0))?;
    let recovery = report(&scan, lineage, false);
    replay_segments(disk, lineage, frames_of(&scan), Sequence(0), visit)?;
    Ok(recovery)
}

impl Recovered {
    /// Locks and reads the log in `disk`, makes it if there is none, cuts a torn tail.
    ///
    /// Fails with `Locked`, `Damage` or `NewerFormat` without touching anything, or with `Io`.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error> {
        let mut options = options;
        options.segment_bytes = options
            .segment_bytes
            .next_multiple_of(SECTOR_BYTES)
            .clamp(SEGMENT_BYTES_LEAST, SEGMENT_BYTES_MOST);
        let ownership = disk.lock().map_err(|error| match error {
            LockError::Held { pid } => Error::Locked { pid },
            LockError::Io(source) => Error::io("lock", "lock", source),
        })?;
        let names = list(&*disk)?;
        let (lineage, created) = match read_identity(&*disk, &names)? {
            Some(lineage) => (lineage, false),
            None => (create(&disk, &options)?, true),
        };
        let scan = scan(find_segments(&*disk)?, lineage, options.covered)?;
        for name in names.iter().filter(|name| is_unfinished(name)) {
            match disk.remove(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", name, error));
                }
                _ => {}
            }
        }
        let recovery = report(&scan, lineage, created);
        let mut recovered = Self { disk, options, ownership, scan, recovery };
        recovered.cut()?;
        Ok(recovered)
    }

    /// What was found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Shows all frames from number `from` on (`Sequence(0)`: all that are there), until `visit` breaks.
    pub fn replay(
        &self,
        from: Sequence,
        visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        replay_segments(&self.disk, self.recovery.lineage, frames_of(&self.scan), from, visit)
    }

    /// Cuts off the last frame, a whole batch that refers to something which did not become durable. Possible only
    /// if nothing follows it, and once: its predecessor was durable.
    pub fn reject_last(&mut self) -> Result<(), Error> {
        let last = self.scan.last();
        let Some(tail) = self.scan.tail.filter(|_| self.scan.is_batch_last()) else {
            return Err(Error::NotRejectable { last });
        };
        if self.recovery.torn.is_some() {
            // Something torn behind it proves that it was durable.
            return Err(Error::NotRejectable { last });
        }
        let bytes = tail.header.frame_bytes();
        let found = &mut self.scan.segments[tail.segment];
        found.junk = Some(tail.header.offset..tail.header.offset + bytes);
        let torn = Torn { segment: found.id, offset: tail.header.offset, bytes };
        self.cut()?;
        self.scan = scan(find_segments(&*self.disk)?, self.recovery.lineage, self.options.covered)?;
        self.recovery = Recovery { torn: Some(torn), ..report(&self.scan, self.recovery.lineage, false) };
        Ok(())
    }

    /// Becomes the owner: makes the last frame durable once more, then writes an opening frame with a fresh epoch.
    pub fn start(mut self) -> Result<Journal, Error> {
        let seen = self.scan.epoch();
        let epoch = match self.options.claim {
            Claim::Next => seen.next(),
            Claim::AtLeast(epoch) => epoch.max(seen.next()),
            Claim::Exactly(epoch) if epoch > seen => epoch,
            Claim::Exactly(ours) => return Err(Error::Superseded { ours }),
        };
        self.settle_last()?;
        Journal::begin(self, epoch)
    }

    /// Writes zeros over everything behind the end of the chain, durably.
    fn cut(&mut self) -> Result<(), Error> {
        for found in &mut self.scan.segments {
            let Some(junk) = found.junk.take() else { continue };
            let file = found.window.file();
            write_zeros(&**file, junk.start, junk.end - junk.start)
                .and_then(|()| file.sync())
                .map_err(|error| Error::io("cut the tail of", found.window.name(), error))?;
            found.window.forget();
        }
        Ok(())
    }

    /// The last frame was read, but perhaps from the kernel's cache: its owner may have been killed before the sync,
    /// or the sync may have failed. Writing it anew makes its pages dirty again, so that this sync is a true one.
    fn settle_last(&mut self) -> Result<(), Error> {
        let Some(tail) = self.scan.tail else { return Ok(()) };
        let window = &mut self.scan.segments[tail.segment].window;
        let (file, name) = (Arc::clone(window.file()), window.name().to_owned());
        if let Some(frame) = window.get(tail.header.offset, tail.header.frame_bytes())? {
            write_all_at(&*file, tail.header.offset, frame)
                .and_then(|()| file.sync())
                .map_err(|error| Error::io("settle the last frame of", &name, error))?;
        }
        Ok(())
    }
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    disk.list().map_err(|error| Error::io("list", ".", error))
}

fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| name == IDENTITY || segment_of(name).is_some())
}

fn frames_of(scan: &Scan) -> Vec<(SegmentId, Sequence, Sequence)> {
    let frames = |found: &crate::scan::Found| found.frames.map(|(first, last)| (found.id, first, last));
    scan.segments.iter().filter_map(frames).collect()
}

fn report(scan: &Scan, lineage: Lineage, created: bool) -> Recovery {
    let junk = |found: &crate::scan::Found| found.junk.clone().map(|junk| (found.id, junk));
    let torn = scan.segments.iter().filter_map(junk).fold(None, |torn: Option<Torn>, (segment, junk)| {
        let bytes = junk.end - junk.start;
        Some(match torn {
            None => Torn { segment, offset: junk.start, bytes },
            Some(torn) => Torn { bytes: torn.bytes + bytes, ..torn },
        })
    });
    Recovery {
        created,
        lineage,
        frames: scan.frames,
        first_sequence: scan.first,
        last_sequence: scan.last(),
        epoch: scan.epoch(),
        torn,
    }
}

/// The lineage in the identity file; `None` if there is no such file.
fn read_identity(disk: &dyn Disk, names: &[String]) -> Result<Option<Lineage>, Error> {
    if !names.iter().any(|name| name == IDENTITY) {
        return Ok(None);
    }
    let mut reader = FrameReader::open(disk, IDENTITY, None)?;
    while reader.next()?.is_some() {}
    Ok(reader.lineage())
}

/// Makes a new log: the first segment, then the identity. The identity exists only if the segment is durable, so
/// that an identity without segments is known to be a loss.
fn create(disk: &Arc<dyn Disk>, options: &Options) -> Result<Lineage, Error> {
    let mut found = find_segments(&**disk)?;
    if found.first().is_some_and(|found| found.id != SegmentId(1)) || holds_frames(&mut found)? {
        let evidence = Evidence::IdentityMissing;
        return Err(Error::Damage { segment: found[0].id, offset: 0, evidence });
    }
    // Made anew even if it is there: an earlier attempt may have stopped before its name was durable.
    segment::make(&**disk, SegmentId(1), options.segment_bytes)?;
    let lineage = match options.new_lineage {
        Some(lineage) => lineage,
        None => Lineage::random().map_err(|error| Error::io("read", "/dev/urandom", error))?,
    };
    let mut writer = FrameWriter::create(Arc::clone(disk), IDENTITY, lineage, Epoch(0))?;
    writer.append(&mut Payload::new())?;
    writer.finish()?;
    Ok(lineage)
}
