//! The log in segment files. One owner, one thread; it writes a frame, syncs it, and only then writes the next.
//!
//! Invariants:
//! * frame n+1 is written only after frame n is durable (asserted);
//! * after a failed write or sync nothing more is written or synced: the log is fenced;
//! * a frame goes into space that was filled and synced before;
//! * a segment is removed only while a later one holds a durable frame.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Ownership, write_all_at};
use crate::error::Error;
use crate::frame::{Checksum, Frame, Header, Kind};
use crate::ids::{Epoch, Lineage, SegmentId, Sequence};
use crate::log::Log;
use crate::payload::Payload;
use crate::reader::{Link, SegmentFrames, Window};
use crate::recovery::{Options, Recovered, Recovery};
use crate::segment::{UNFINISHED, segment_name};
use crate::space::{Place, Reservation, Shared, Space, SpaceHandle, Spare};

struct Segment {
    id: SegmentId,
    bytes: u64,
    file: Arc<dyn DiskFile>,
    /// First and last durable frame.
    frames: Option<(Sequence, Sequence)>,
}

/// The durable log of one daemon.
pub struct Journal {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    ownership: Box<dyn Ownership>,
    recovery: Recovery,
    epoch: Epoch,
    /// Oldest first; the last is the current one.
    segments: Vec<Segment>,
    /// End of the last frame in the current segment.
    offset: u64,
    link: Link,
    last_kind: Option<Kind>,
    /// The frame that was written and not yet synced.
    unsynced: Option<Header>,
    /// For frames without records.
    empty: Payload,
}

/// A segment that gets no further frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Its number.
    pub id: SegmentId,
    /// Its first frame.
    pub first: Sequence,
    /// Its last frame.
    pub last: Sequence,
    /// Size of the file, bytes.
    pub bytes: u64,
}

/// Reads closed segments from any thread, beside the owner of the log.
#[derive(Clone)]
pub struct SegmentSource {
    disk: Arc<dyn Disk>,
    lineage: Lineage,
}

impl SegmentSource {
    /// Reads closed segments of that lineage without owning the log: for a helper process, which was told what is closed.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, lineage: Lineage) -> Self {
        Self { disk, lineage }
    }

    /// The frames of `segment`, in order. A segment that is removed meanwhile stays readable through the answer.
    pub fn read(&self, segment: &ClosedSegment) -> Result<SegmentFrames, Error> {
        frames(&self.disk, self.lineage, segment.id, segment.first, segment.last)
    }
}

impl Journal {
    /// Recovers and starts in one step, for callers that never reject a last batch.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Error> {
        Recovered::open(disk, options)?.start()
    }

    pub(crate) fn begin(recovered: Recovered, epoch: Epoch) -> Result<Self, Error> {
        let Recovered { disk, options, ownership, scan, recovery } = recovered;
        let (end, offset) = scan.end;
        let last_kind = scan.tail.map(|tail| tail.header.kind);
        let link = scan.link;
        let mut segments: Vec<Segment> = scan.segments.into_iter().map(Segment::found).collect();
        let mut spares = segments.split_off(end + 1);
        drop_small_spares(&*disk, &mut spares, options.segment_bytes)?;
        settle_names(&*disk, &spares)?;
        let current = &segments[end];
        let next_id = spares.last().unwrap_or(current).id.next();
        let rest = current.bytes - offset;
        let spares: Vec<Spare> = spares.into_iter().map(Segment::into_spare).collect();
        let shared = Shared::new(
            Arc::clone(&disk),
            options.segment_bytes,
            options.spare_segments,
            options.essential_bytes,
        );
        shared.begin(rest, spares, next_id);
        let mut journal = Self {
            disk,
            shared: Arc::new(shared),
            ownership,
            recovery,
            epoch,
            segments,
            offset,
            link,
            last_kind,
            unsynced: None,
            empty: Payload::new(),
        };
        journal.append_empty(Kind::Opening)?;
        Ok(journal)
    }

    /// What was found when the log was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Lineage of the log's files.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.recovery.lineage
    }

    /// The log's space, for any thread.
    #[must_use]
    pub fn space_handle(&self) -> SpaceHandle {
        SpaceHandle { shared: Arc::clone(&self.shared) }
    }

    /// What space is left.
    #[must_use]
    pub fn space(&self) -> Space {
        self.space_handle().space()
    }

    /// Fills further segments; see [`SpaceHandle::try_refill`].
    pub fn try_refill(&self) -> Result<Space, Error> {
        self.space_handle().try_refill()
    }

    /// Writes a batch as the next frame; it is not durable before [`sync`](Self::sync). `held` is used up.
    ///
    /// Without a reservation the frame counts as essential; if no filled segment is left one is made here and now.
    /// `Full` and `TooLarge` wrote nothing; every other failure fences the log.
    ///
    /// # Panics
    /// If the frame before was not synced: that would make a torn tail look like damage.
    pub fn write(&mut self, payload: &mut Payload, held: Option<Reservation>) -> Result<Sequence, Error> {
        self.write_frame(Kind::Batch, payload, held)
    }

    /// Makes the frame that was written durable; does nothing if there is none. One fdatasync. A failure fences.
    pub fn sync(&mut self) -> Result<Sequence, Error> {
        self.check_fence()?;
        let Some(header) = self.unsynced.take() else { return Ok(self.last_sequence()) };
        if header.kind == Kind::Batch {
            crate::crash::point("before-sync");
        }
        let segment = self.segments.last_mut().expect("there is always a current segment");
        if let Err(error) = segment.file.sync() {
            return Err(self.failed("sync", error));
        }
        // Only an owner may say "durable": a successor would have read the log before this frame was in it.
        self.check_ownership()?;
        let segment = self.segments.last_mut().expect("there is always a current segment");
        let first = segment.frames.map_or(header.sequence, |(first, _)| first);
        segment.frames = Some((first, header.sequence));
        self.link = Link::after(&header);
        self.last_kind = Some(header.kind);
        Ok(header.sequence)
    }

    /// Takes an epoch of at least `at_least` (a restored scheduler, whose executors have seen more) and stores it.
    pub fn raise_epoch(&mut self, at_least: Epoch) -> Result<Epoch, Error> {
        if at_least > self.epoch {
            let before = std::mem::replace(&mut self.epoch, at_least);
            self.append_empty(Kind::Opening).inspect_err(|_| self.epoch = before)?;
        }
        Ok(self.epoch)
    }

    /// Lets the next frame begin a new segment, so that all frames so far are in closed ones once it is durable.
    /// Answers whether that is possible now (a filled segment waits, and reservations leave it).
    pub fn close_segment(&mut self) -> bool {
        self.shared.abandon_rest()
    }

    /// Bytes of the frames in the segment that is written to.
    #[must_use]
    pub fn current_bytes(&self) -> u64 {
        self.offset
    }

    /// Segments that get no further frames, oldest first.
    #[must_use]
    pub fn closed_segments(&self) -> Vec<ClosedSegment> {
        // While the first frame of a segment is not durable, the one before may still be the last.
        let durable = self.segments.iter().rposition(|segment| segment.frames.is_some()).unwrap_or(0);
        let closed = |segment: &Segment| {
            let (first, last) = segment.frames?;
            Some(ClosedSegment { id: segment.id, first, last, bytes: segment.bytes })
        };
        self.segments[..durable].iter().filter_map(closed).collect()
    }

    /// Reads closed segments from any thread.
    #[must_use]
    pub fn source(&self) -> SegmentSource {
        SegmentSource { disk: Arc::clone(&self.disk), lineage: self.lineage() }
    }

    fn check_fence(&self) -> Result<(), Error> {
        if self.shared.is_fenced() { Err(Error::Fenced) } else { Ok(()) }
    }

    fn check_ownership(&mut self) -> Result<(), Error> {
        match self.ownership.is_current() {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.shared.fence();
                Err(Error::Superseded { ours: self.epoch })
            }
            Err(error) => {
                self.shared.fence();
                Err(Error::io("check the owner of", "lock", error))
            }
        }
    }

    /// Fences the log after a failed operation and names the reason.
    fn failed(&mut self, operation: &'static str, error: std::io::Error) -> Error {
        self.shared.fence();
        if matches!(self.ownership.is_current(), Ok(false)) {
            return Error::Superseded { ours: self.epoch };
        }
        let segment = self.segments.last().map_or(SegmentId(0), |segment| segment.id);
        Error::io(operation, &segment_name(segment), error)
    }

    fn append_empty(&mut self, kind: Kind) -> Result<Sequence, Error> {
        let mut empty = std::mem::take(&mut self.empty);
        let written = self.write_frame(kind, &mut empty, None);
        self.empty = empty;
        written?;
        self.sync()
    }

    fn write_frame(
        &mut self,
        kind: Kind,
        payload: &mut Payload,
        held: Option<Reservation>,
    ) -> Result<Sequence, Error> {
        self.check_fence()?;
        assert!(self.unsynced.is_none(), "a frame is written only after the one before is durable");
        self.check_ownership()?;
        self.take_place(payload.frame_bytes(), held, kind == Kind::Opening)?;
        let segment = self.segments.last().expect("there is always a current segment");
        let header = Header {
            kind,
            lineage: self.recovery.lineage,
            segment: segment.id,
            offset: self.offset,
            sequence: self.link.sequence,
            epoch: self.epoch,
            previous: self.link.previous,
            payload_bytes: u32::try_from(payload.payload_bytes()).expect("a segment is below 4 GiB"),
            records: 0,
            payload_crc: 0,
            checksum: Checksum::default(),
        };
        let (frame, checksum) = payload.seal(header);
        if let Err(error) = write_all_at(&*segment.file, self.offset, frame) {
            return Err(self.failed("write", error));
        }
        self.offset += frame.len() as u64;
        self.unsynced = Some(Header { checksum, ..header });
        Ok(header.sequence)
    }

    /// Moves to the place of a frame of `bytes`, into the next segment if need be.
    fn take_place(&mut self, bytes: u64, held: Option<Reservation>, restart: bool) -> Result<(), Error> {
        let limit = self.shared.segment_bytes();
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let mut place = self.shared.place(bytes, held, restart);
        // The filler may be late, or there is none. One segment for the frame, one for what must be left behind it.
        for at_most in 1..=2 {
            let Err(full @ Error::Full { .. }) = place else { break };
            if let Err(cause) = self.shared.refill_below(at_most) {
                self.check_fence()?;
                // Who opens the log learns what the disk said; later the filler tells it.
                return Err(if restart { cause } else { full });
            }
            place = self.shared.place(bytes, None, restart);
        }
        let place = place?;
        if let Place::Next(Spare { id, bytes, file }) = place {
            self.segments.push(Segment { id, bytes, file, frames: None });
            self.offset = 0;
        }
        Ok(())
    }
}

impl Log for Journal {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn last_sequence(&self) -> Sequence {
        Sequence(self.link.sequence.0 - 1)
    }

    fn append(&mut self, payload: &mut Payload, held: Option<Reservation>) -> Result<Sequence, Error> {
        self.write(payload, held)?;
        self.sync()
    }

    fn idle_frame(&mut self) -> Result<Sequence, Error> {
        self.check_fence()?;
        if self.last_kind == Some(Kind::Batch) {
            return self.append_empty(Kind::Idle);
        }
        Ok(self.last_sequence())
    }

    fn replay(
        &self,
        from: Sequence,
        visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let frames = |segment: &Segment| segment.frames.map(|(first, last)| (segment.id, first, last));
        let segments = self.segments.iter().filter_map(frames).collect();
        replay_segments(&self.disk, self.lineage(), segments, from, visit)
    }

    fn remove_through(&mut self, through: Sequence) -> Result<(), Error> {
        self.check_fence()?;
        self.check_ownership()?;
        for closed in self.closed_segments() {
            if closed.last > through {
                break;
            }
            let name = segment_name(closed.id);
            self.disk.remove(&name).map_err(|error| Error::io("remove", &name, error))?;
            let removed = self.segments.remove(0);
            assert_eq!(removed.id, closed.id, "the oldest segment is the oldest closed one");
            // One at a time: were two removals under way, a power cut could undo the first alone and leave a gap.
            self.disk.sync_directory().map_err(|error| {
                self.shared.fence();
                Error::io("sync the folder of", &name, error)
            })?;
        }
        self.shared.wake();
        Ok(())
    }

    fn fence(&mut self) {
        self.shared.fence();
    }
}

impl Segment {
    fn found(found: crate::scan::Found) -> Self {
        let (bytes, file) = (found.window.size(), Arc::clone(found.window.file()));
        Self { id: found.id, bytes, file, frames: found.frames }
    }

    fn into_spare(self) -> Spare {
        Spare { id: self.id, bytes: self.bytes, file: self.file }
    }
}

/// Removes filled segments from the first on that is smaller than segments shall be now: a frame that is too large
/// for one would have to skip it. Last one first, so that no gap can show.
fn drop_small_spares(disk: &dyn Disk, spares: &mut Vec<Segment>, bytes: u64) -> Result<(), Error> {
    let Some(small) = spares.iter().position(|spare| spare.bytes < bytes) else { return Ok(()) };
    for spare in spares.drain(small..).rev() {
        let name = segment_name(spare.id);
        disk.remove(&name).map_err(|error| Error::io("remove", &name, error))?;
        disk.sync_directory().map_err(|error| Error::io("sync the folder of", &name, error))?;
    }
    Ok(())
}

/// Makes the names of filled segments durable once more: the owner before may have been told that the folder could not
/// be synced, and then another sync alone proves nothing. Last one first and back again, so that no gap can show.
fn settle_names(disk: &dyn Disk, spares: &[Segment]) -> Result<(), Error> {
    let rename = |from: &str, to: &str| {
        disk.rename(from, to).map_err(|error| Error::io("rename", from, error))?;
        disk.sync_directory().map_err(|error| Error::io("sync the folder of", to, error))
    };
    let name = |spare: &Segment| segment_name(spare.id);
    let aside = |spare: &Segment| format!("{}{UNFINISHED}", segment_name(spare.id));
    for spare in spares.iter().rev() {
        rename(&name(spare), &aside(spare))?;
    }
    for spare in spares {
        rename(&aside(spare), &name(spare))?;
    }
    Ok(())
}

fn frames(
    disk: &Arc<dyn Disk>,
    lineage: Lineage,
    id: SegmentId,
    first: Sequence,
    last: Sequence,
) -> Result<SegmentFrames, Error> {
    let mut window = Window::open(&**disk, &segment_name(id))?;
    window.expect_lineage(lineage);
    Ok(SegmentFrames::new(window, id, lineage, first, last))
}

/// Shows the frames of `segments`, each given with its first and last frame, from `from` on.
pub(crate) fn replay_segments(
    disk: &Arc<dyn Disk>,
    lineage: Lineage,
    segments: Vec<(SegmentId, Sequence, Sequence)>,
    from: Sequence,
    visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    if let Some((_, first, _)) = segments.first()
        && from != Sequence(0)
        && from < *first
    {
        return Err(Error::Gap { wanted: from, first: *first });
    }
    for (id, first, last) in segments {
        if last < from {
            continue;
        }
        let mut frames = frames(disk, lineage, id, first, last)?;
        while let Some(frame) = frames.next()? {
            if frame.sequence() >= from && visit(&frame).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
