//! Backups: everything that a state folder needs to be made anew, in one stream, taken beside the running controller.
//!
//! ```text
//!  magic, 16 bytes │ entries: kind, fields │ end: number of entries, BLAKE3 of all before
//! ```
//! Numbers are little endian. A *file* of the folder has its name, its size and its bytes without the zeros at their end; a
//! *body* (script, environment) its bytes, whose hash is its name. What is in it: identity, the newest snapshot, the closed
//! segment that ends with the snapshot's frame, history up to it, and the bodies that its jobs refer to. The snapshot is made
//! for the backup, so that it has all that was acknowledged when it was asked for. Environments may hold tokens: a backup is
//! as secret as the folder.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use journal::{DiskFile, FrameReader, read_full_at};
use model::id::BodyHash;
use scheduler_core::record::Record;

use super::bodies::{Bodies, each_body, hash};
use super::compact::{Image, Images};
use super::{Error, layout};

/// First bytes of every backup; the digit is the version.
pub const MAGIC: &[u8; 16] = b"SLUICE-BACKUP-1\n";
/// Bytes that are read and handed on at once.
const PIECE_BYTES: usize = 256 << 10;
/// A name is shorter.
const NAME_MAX: u16 = 256;
/// A body is smaller.
const BODY_MAX: u32 = 1 << 30;

const FILE: u8 = 1;
const BODY: u8 = 2;
const END: u8 = 3;

/// Takes the pieces of a backup, in order.
pub type Sink<'a> = dyn FnMut(Vec<u8>) -> Result<(), Error> + 'a;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The frame up to which everything is in it.
    pub sequence: u64,
    /// Files and bodies.
    pub entries: u64,
    /// Bytes in all.
    pub bytes: u64,
}

struct Writer<'a, 'b> {
    sink: &'a mut Sink<'b>,
    digest: blake3::Hasher,
    summary: Summary,
}

impl Writer<'_, '_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.digest.update(&bytes);
        self.summary.bytes += bytes.len() as u64;
        (self.sink)(bytes)
    }

    fn file(&mut self, name: &str, file: &dyn DiskFile) -> Result<(), Error> {
        let failed = |error| Error::io("read", name, error);
        let size = file.size().map_err(failed)?;
        let used = used_bytes(file, size).map_err(failed)?;
        let mut head = vec![FILE];
        head.extend_from_slice(&(name.len() as u16).to_le_bytes());
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&size.to_le_bytes());
        head.extend_from_slice(&used.to_le_bytes());
        self.put(head)?;
        let mut offset = 0;
        while offset < used {
            let mut piece = vec![0; PIECE_BYTES.min((used - offset) as usize)];
            let read = read_full_at(file, offset, &mut piece).map_err(failed)?;
            if read < piece.len() {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            offset += read as u64;
            self.put(piece)?;
        }
        self.summary.entries += 1;
        Ok(())
    }

    fn body(&mut self, body: &[u8]) -> Result<(), Error> {
        let mut entry = vec![BODY];
        entry.extend_from_slice(&(body.len() as u32).to_le_bytes());
        entry.extend_from_slice(body);
        self.summary.entries += 1;
        self.put(entry)
    }
}

/// Bytes up to the last that is not zero. Cost: reads from the end until there is one.
fn used_bytes(file: &dyn DiskFile, size: u64) -> io::Result<u64> {
    let mut end = size;
    let mut piece = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(piece.len() as u64);
        let part = &mut piece[..(end - start) as usize];
        let read = read_full_at(file, start, part)?;
        if let Some(last) = part[..read].iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Writes a backup of everything that is durable when it begins. Blocking; nobody waits for it.
///
/// # Errors
/// Anything that cannot be read; what `sink` says.
pub fn write(images: &Images, bodies: &Arc<Bodies>, sink: &mut Sink<'_>) -> Result<Summary, Error> {
    // A job may end, and its bodies go, between its snapshot and their copy.
    let pins = bodies.pin_all();
    let image = images.take()?;
    let mut writer = Writer { sink, digest: blake3::Hasher::new(), summary: Summary::default() };
    writer.summary.sequence = image.sequence;
    writer.put(MAGIC.to_vec())?;
    for (name, file) in &image.files {
        writer.file(name, &**file)?;
    }
    for wanted in bodies_of(&image)? {
        // One that is missing was missing before: the scheduler has said so at its start.
        if let Some(body) = bodies.get(&wanted)? {
            writer.body(&body)?;
        }
    }
    drop(pins);
    let mut end = vec![END];
    end.extend_from_slice(&writer.summary.entries.to_le_bytes());
    writer.put(end)?;
    let digest = writer.digest.finalize();
    writer.summary.bytes += 32;
    (writer.sink)(digest.as_bytes().to_vec())?;
    Ok(writer.summary)
}

/// What the jobs of an image's snapshot refer to.
fn bodies_of(image: &Image) -> Result<BTreeSet<BodyHash>, Error> {
    let name = layout::snapshot_name(image.sequence);
    let disk = Opened(image);
    let mut reader = FrameReader::open(&disk, &name, Some(image.lineage))?;
    let mut wanted = BTreeSet::new();
    while let Some(frame) = reader.next()? {
        for (place, bytes) in frame.records().enumerate() {
            let entry = scheduler_codec::read(bytes).map_err(|source| Error::Record {
                file: name.clone(),
                offset: frame.offset(),
                record: place,
                source,
            })?;
            if let scheduler_codec::Entry::Record(Record::Job(job)) = entry {
                each_body(&job, |hash| {
                    wanted.insert(*hash);
                });
            }
        }
    }
    Ok(wanted)
}

/// The opened files of an image as a disk that is only read.
struct Opened<'a>(&'a Image);

impl journal::Disk for Opened<'_> {
    fn lock(&self) -> Result<Box<dyn journal::Ownership>, journal::LockError> {
        Err(journal::LockError::Io(io::ErrorKind::Unsupported.into()))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.files.iter().map(|(name, _)| name.clone()).collect())
    }
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.0.files.iter().find(|(known, _)| known == name);
        found.map(|(_, file)| Arc::clone(file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// One entry of a backup that is read.
pub enum Entry {
    /// A file: its name, its size, how many of its first bytes follow.
    File {
        /// Its name.
        name: String,
        /// Its size.
        size: u64,
        /// Bytes that follow in the stream; zeros behind them.
        used: u64,
    },
    /// A body and its hash.
    Body(BodyHash, Vec<u8>),
    /// The last one.
    End,
}

/// Reads a backup from its beginning; everything but the content of files comes through here.
pub struct Reader<R> {
    from: R,
    digest: blake3::Hasher,
    entries: u64,
}

/// Why a file is no backup, in words for whoever wants to restore it.
fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> Reader<R> {
    /// Reads the first bytes.
    ///
    /// # Errors
    /// It is no backup, or one of a newer version.
    pub fn new(from: R) -> io::Result<Self> {
        let mut reader = Self { from, digest: blake3::Hasher::new(), entries: 0 };
        let mut magic = [0; MAGIC.len()];
        reader.take(&mut magic)?;
        if magic == *MAGIC {
            return Ok(reader);
        }
        match magic.strip_prefix(b"SLUICE-BACKUP-") {
            Some(_) => Err(wrong("it is a backup of a newer version")),
            None => Err(wrong("it is no backup")),
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// There are not so many; the operating system's word.
    pub fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => wrong("it ends too early"),
            _ => error,
        })?;
        self.digest.update(bytes);
        Ok(())
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    /// The next entry. The content of a file must be taken before the one after it.
    ///
    /// # Errors
    /// Bytes that are none, a wrong count or checksum at the end; the operating system's word.
    pub fn next_entry(&mut self) -> io::Result<Entry> {
        match self.number::<1>()? {
            [FILE] => {
                let length = u16::from_le_bytes(self.number()?);
                if length > NAME_MAX {
                    return Err(wrong("a name is too long"));
                }
                let mut name = vec![0; usize::from(length)];
                self.take(&mut name)?;
                let name = String::from_utf8(name).map_err(|_| wrong("a name is no text"))?;
                let (size, used) = (u64::from_le_bytes(self.number()?), u64::from_le_bytes(self.number()?));
                if used > size {
                    return Err(wrong("a file is longer than its size"));
                }
                self.entries += 1;
                Ok(Entry::File { name, size, used })
            }
            [BODY] => {
                let length = u32::from_le_bytes(self.number()?);
                if length > BODY_MAX {
                    return Err(wrong("a script or environment is too long"));
                }
                let mut body = vec![0; length as usize];
                self.take(&mut body)?;
                self.entries += 1;
                Ok(Entry::Body(hash(&body), body))
            }
            [END] => {
                let count = u64::from_le_bytes(self.number()?);
                let expected = self.digest.finalize();
                let mut found = [0; 32];
                self.from.read_exact(&mut found).map_err(|_| wrong("its checksum is missing"))?;
                if count != self.entries || found != *expected.as_bytes() {
                    return Err(wrong("its checksum is not that of its content"));
                }
                if self.from.read(&mut [0])? > 0 {
                    return Err(wrong("bytes follow its end"));
                }
                Ok(Entry::End)
            }
            _ => Err(wrong("an entry of no known kind")),
        }
    }

    /// Hands the `used` bytes of a file on in pieces.
    ///
    /// # Errors
    /// As [`take`](Self::take); what `each` says.
    pub fn content(
        &mut self,
        used: u64,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < used {
            let part = &mut piece[..PIECE_BYTES.min((used - offset) as usize)];
            self.take(part)?;
            each(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}
