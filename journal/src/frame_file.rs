//! Other files in the frame format: snapshots, history, the log's identity. Written once, whole or not at all.
//!
//! The frames are numbered from 1 and chained as in a log; the last one is of kind end, so that a file cut short at
//! a frame's edge is noticed. A finished file was synced, renamed, made durable by name, and read back.

use std::sync::Arc;

use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::Error;
use crate::frame::{Checksum, Frame, Header, Kind, is_record_list};
use crate::ids::{Epoch, Lineage, SegmentId, Sequence};
use crate::payload::Payload;
use crate::reader::{Link, Probe, Window};
use crate::segment::UNFINISHED;

const NO_SEGMENT: SegmentId = SegmentId(0);

/// Writes a frame file beside its final name; nothing is to be seen under that name before [`finish`](Self::finish).
///
/// Dropped unfinished, it removes what it wrote.
pub struct FrameWriter {
    disk: Arc<dyn Disk>,
    name: String,
    file: Arc<dyn DiskFile>,
    lineage: Lineage,
    epoch: Epoch,
    offset: u64,
    link: Link,
    finished: bool,
}

impl FrameWriter {
    /// Begins a file; what an earlier, unfinished attempt left is replaced. `epoch` goes into its frames.
    pub fn create(disk: Arc<dyn Disk>, name: &str, lineage: Lineage, epoch: Epoch) -> Result<Self, Error> {
        let unfinished = format!("{name}{UNFINISHED}");
        match disk.remove(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &unfinished, error));
            }
            _ => {}
        }
        let file = disk.create(&unfinished).map_err(|error| Error::io("create", &unfinished, error))?;
        let name = name.to_owned();
        Ok(Self { disk, name, file, lineage, epoch, offset: 0, link: Link::FIRST, finished: false })
    }

    /// Adds a frame with these records. Nothing is synced yet. Answers the frame's number in this file.
    pub fn append(&mut self, payload: &mut Payload) -> Result<Sequence, Error> {
        self.write(Kind::Batch, payload)
    }

    /// Makes what was written so far durable: a long file in pieces leaves the disk to others in between.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.file.sync().map_err(|error| Error::io("sync", &self.unfinished(), error))
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.offset
    }

    /// Completes the file: last frame, sync, rename, sync of the folder, reading back. Answers its size in bytes.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.write(Kind::End, &mut Payload::new())?;
        let unfinished = self.unfinished();
        self.file.sync().map_err(|error| Error::io("sync", &unfinished, error))?;
        self.disk.rename(&unfinished, &self.name).map_err(|error| Error::io("rename", &unfinished, error))?;
        self.finished = true;
        if let Err(error) = self.disk.sync_directory() {
            // The name is there and could be gone after a power cut; a later sync need not mend that.
            let _ = self.disk.remove(&self.name);
            return Err(Error::io("sync the folder of", &self.name, error));
        }
        let mut reader = FrameReader::open(&*self.disk, &self.name, Some(self.lineage))?;
        while reader.next()?.is_some() {}
        if reader.link.sequence != self.link.sequence {
            return Err(reader.damage("it is not the file that was written"));
        }
        Ok(self.offset)
    }

    fn unfinished(&self) -> String {
        format!("{}{UNFINISHED}", self.name)
    }

    fn write(&mut self, kind: Kind, payload: &mut Payload) -> Result<Sequence, Error> {
        let sequence = self.link.sequence;
        let (frame, checksum) = payload.seal(Header {
            kind,
            lineage: self.lineage,
            segment: NO_SEGMENT,
            offset: self.offset,
            sequence,
            epoch: self.epoch,
            previous: self.link.previous,
            payload_bytes: 0,
            records: 0,
            payload_crc: 0,
            checksum: Checksum::default(),
        });
        write_all_at(&*self.file, self.offset, frame)
            .map_err(|error| Error::io("write", &format!("{}{UNFINISHED}", self.name), error))?;
        self.offset += frame.len() as u64;
        self.link = Link { sequence: sequence.next(), previous: checksum };
        Ok(sequence)
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: the next attempt replaces it anyway.
            let _ = self.disk.remove(&self.unfinished());
        }
    }
}

/// Reads a frame file from its beginning. Everything that is not as it was written is an error.
pub struct FrameReader {
    window: Window,
    lineage: Option<Lineage>,
    epoch: Epoch,
    offset: u64,
    link: Link,
    ended: bool,
}

impl FrameReader {
    /// Opens a file; with `lineage`, one of another log is refused.
    pub fn open(disk: &dyn Disk, name: &str, lineage: Option<Lineage>) -> Result<Self, Error> {
        let window = Window::open(disk, name)?;
        Ok(Self { window, lineage, epoch: Epoch(0), offset: 0, link: Link::FIRST, ended: false })
    }

    /// Reads as little as it can at once: for a look at the first frames of many files.
    #[must_use]
    pub fn glancing(mut self) -> Self {
        self.window.read_ahead(crate::frame::SECTOR_BYTES);
        self
    }

    /// Asks the disk for the whole file ahead of the reading.
    pub fn read_ahead(&self) {
        self.window.file().read_ahead();
    }

    /// The next frame with records; `None` behind the last one, which was then found and is the right one.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let header = self.accept()?;
        let at = self.offset;
        self.offset += header.frame_bytes();
        self.link = Link::after(&header);
        self.lineage = Some(header.lineage);
        self.epoch = header.epoch;
        if header.kind == Kind::End {
            self.ended = true;
            if self.offset != self.window.size() {
                return Err(self.damage("bytes follow its last frame"));
            }
            return Ok(None);
        }
        match self.window.probe(NO_SEGMENT, at)? {
            Probe::Whole(header, payload) => Ok(Some(Frame::new(header, payload))),
            Probe::Absent | Probe::Torn => unreachable!("the same bytes were whole a moment ago"),
        }
    }

    /// Lineage of the file; known after the first frame if it was not given.
    #[must_use]
    pub fn lineage(&self) -> Option<Lineage> {
        self.lineage
    }

    /// Epoch in the last frame read.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn accept(&mut self) -> Result<Header, Error> {
        let verdict = match self.window.probe(NO_SEGMENT, self.offset)? {
            Probe::Absent => Err("no frame, where one should be"),
            Probe::Torn => Err("a frame whose payload is not as it was written"),
            Probe::Whole(header, payload) => {
                if self.lineage.is_some_and(|lineage| lineage != header.lineage) {
                    Err("a frame of another journal")
                } else if !self.link.fits(&header) {
                    Err("a frame that does not continue the chain")
                } else if !is_record_list(payload, header.records) {
                    Err("a malformed list of records")
                } else {
                    Ok(header)
                }
            }
        };
        verdict.map_err(|what| self.damage(what))
    }

    fn damage(&self, what: &'static str) -> Error {
        Error::FileDamage { file: self.window.name().to_owned(), offset: self.offset, what }
    }
}
