//! Reading frames from a file: a window over the file, the verdict on one place, and the walk along a chain.
//! Never writes. What a bad place means (torn or damaged) is decided by the callers.

use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_full_at};
use crate::error::{Error, Evidence};
use crate::frame::{Checksum, Decoded, FORMAT_VERSION, Frame, HEADER_BYTES, Header, decode, is_record_list};
use crate::ids::{Lineage, SegmentId, Sequence};

/// Bytes read at once; also the memory that a reader holds, unless a frame is larger.
const WINDOW_BYTES: u64 = 256 * 1024;

/// A stretch of a file in memory.
pub(crate) struct Window {
    name: String,
    file: Arc<dyn DiskFile>,
    size: u64,
    start: u64,
    buffer: Vec<u8>,
    /// Bytes read at once.
    ahead: u64,
    /// Whose frames are looked for; `None` while that is not known.
    lineage: Option<Lineage>,
}

/// What stands at a place of a file.
pub(crate) enum Probe<'a> {
    /// No header.
    Absent,
    /// A header, but its payload is not whole.
    Torn,
    /// A whole frame.
    Whole(Header, &'a [u8]),
}

impl Window {
    pub(crate) fn open(disk: &dyn Disk, name: &str) -> Result<Self, Error> {
        let file = disk.open(name).map_err(|error| Error::io("open", name, error))?;
        Self::over(file, name)
    }

    pub(crate) fn over(file: Arc<dyn DiskFile>, name: &str) -> Result<Self, Error> {
        let size = file.size().map_err(|error| Error::io("size", name, error))?;
        Ok(Self {
            name: name.to_owned(),
            file,
            size,
            start: 0,
            buffer: Vec::new(),
            ahead: WINDOW_BYTES,
            lineage: None,
        })
    }

    /// Reads less at once: for a look at the beginning of a file.
    pub(crate) fn read_ahead(&mut self, bytes: u64) {
        self.ahead = bytes;
    }

    /// Reads the first sector alone; what follows is read as always after [`forget`](Self::forget).
    pub(crate) fn glance(&mut self) {
        self.ahead = crate::frame::SECTOR_BYTES;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// From now on, a frame of another lineage that we could not read is no reason to refuse the file: a payload
    /// may hold anything.
    pub(crate) fn expect_lineage(&mut self, lineage: Lineage) {
        self.lineage = Some(lineage);
    }

    /// Forgets what was read, after the file was written.
    pub(crate) fn forget(&mut self) {
        self.buffer.clear();
        self.ahead = WINDOW_BYTES;
    }

    /// The `bytes` at `offset`, or `None` if the file ends before them.
    pub(crate) fn get(&mut self, offset: u64, bytes: u64) -> Result<Option<&[u8]>, Error> {
        let Some(end) = offset.checked_add(bytes).filter(|end| *end <= self.size) else { return Ok(None) };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            let wanted = bytes.max(self.ahead).min(self.size - offset);
            self.buffer.resize(wanted as usize, 0);
            let read = read_full_at(&*self.file, offset, &mut self.buffer).map_err(|error| {
                self.buffer.clear();
                Error::io("read", &self.name, error)
            })?;
            self.buffer.truncate(read);
            self.start = offset;
            if (read as u64) < bytes {
                return Ok(None);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.buffer[from..from + bytes as usize]))
    }

    /// The header at `offset`, if there is one that is whole and stands where it says.
    pub(crate) fn header(&mut self, segment: SegmentId, offset: u64) -> Result<Option<Header>, Error> {
        let Some(bytes) = self.get(offset, HEADER_BYTES as u64)? else { return Ok(None) };
        match decode(bytes) {
            Decoded::Absent => Ok(None),
            Decoded::Newer { format, oldest_reader, lineage, segment: said, offset: at } => {
                if (said, at) != (segment, offset) || self.lineage.is_some_and(|ours| ours != lineage) {
                    return Ok(None);
                }
                let file = self.name.clone();
                Err(Error::NewerFormat { file, format, oldest_reader, ours: FORMAT_VERSION })
            }
            Decoded::Header(header) => {
                Ok(Some(header).filter(|header| header.segment == segment && header.offset == offset))
            }
        }
    }

    /// What stands at `offset`.
    pub(crate) fn probe(&mut self, segment: SegmentId, offset: u64) -> Result<Probe<'_>, Error> {
        let Some(header) = self.header(segment, offset)? else { return Ok(Probe::Absent) };
        let Some(frame) = self.get(offset, header.frame_bytes())? else { return Ok(Probe::Torn) };
        let payload = &frame[HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize];
        if crc32fast::hash(payload) != header.payload_crc {
            return Ok(Probe::Torn);
        }
        Ok(Probe::Whole(header, payload))
    }
}

/// Where a chain of frames stands: what the next frame must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) sequence: Sequence,
    pub(crate) previous: Checksum,
}

impl Link {
    /// What the first frame of a log says.
    pub(crate) const FIRST: Self = Self { sequence: Sequence(1), previous: Checksum(0) };

    pub(crate) fn after(header: &Header) -> Self {
        Self { sequence: header.sequence.next(), previous: header.checksum }
    }

    pub(crate) fn fits(&self, header: &Header) -> bool {
        header.sequence == self.sequence && header.previous == self.previous
    }
}

/// The frames of one segment that is known to be whole, in order, up to a known last one.
///
/// Anything that is not as it was written is an error: a closed segment has no torn tail.
pub struct SegmentFrames {
    window: Window,
    segment: SegmentId,
    lineage: Lineage,
    offset: u64,
    link: Option<Link>,
    /// Set by the first frame if it was not known before.
    next: Sequence,
    last: Sequence,
}

impl SegmentFrames {
    pub(crate) fn new(
        window: Window,
        segment: SegmentId,
        lineage: Lineage,
        first: Sequence,
        last: Sequence,
    ) -> Self {
        Self { window, segment, lineage, offset: 0, link: None, next: first, last }
    }

    /// The segment that is read.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The next frame; `None` after the last. Not an iterator, because a frame borrows the reader's buffer.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        if self.next > self.last {
            return Ok(None);
        }
        let (segment, offset, expected) = (self.segment, self.offset, self.next);
        let damage = |evidence| Error::Damage { segment, offset, evidence };
        match self.window.probe(segment, offset)? {
            Probe::Absent | Probe::Torn => {
                Err(damage(Evidence::LaterFrame { expected, found: self.last, segment, offset }))
            }
            Probe::Whole(header, payload) => {
                if header.lineage != self.lineage {
                    return Err(damage(Evidence::ForeignLineage));
                }
                let fits = self.link.is_none_or(|link| link.fits(&header));
                if !fits || header.sequence != expected {
                    return Err(damage(Evidence::BrokenChain { found: header.sequence }));
                }
                if !is_record_list(payload, header.records) {
                    return Err(damage(Evidence::MalformedRecords { found: header.sequence }));
                }
                self.link = Some(Link::after(&header));
                self.offset += header.frame_bytes();
                self.next = expected.next();
                Ok(Some(Frame::new(header, payload)))
            }
        }
    }
}
