//! The format on disk: one frame per batch. This file owns the layout and nothing else reads or writes its bytes.
//!
//! A frame begins at a multiple of 512 bytes and is padded with zeros to the next one, so that no sector which
//! holds a durable frame is ever written again. All numbers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "SLUICE", 0x1A, "J"
//!      8    2  format version of the writer
//!     10    2  oldest format version whose readers understand this frame
//!     12    2  kind: 1 batch, 2 idle, 3 opening, 4 end of a frame file
//!     14    2  zero
//!     16   16  lineage, random, the same in all frames of one log
//!     32    8  segment id (0 in a frame file)
//!     40    8  offset of this frame in its file, bytes
//!     48    8  sequence number
//!     56    8  epoch of the owner that wrote it
//!     64    4  checksum of the previous frame (its bytes 92..96); 0 in the first
//!     68    4  payload length, bytes, without padding
//!     72    4  number of records in the payload
//!     76    4  CRC-32 of the payload
//!     80   12  zero
//!     92    4  CRC-32 of bytes 0..92: the frame's checksum; it covers the payload through bytes 76..80
//!     96    n  payload: for each record its length (4 bytes), then its bytes
//!          …   zeros up to a multiple of 512
//! ```
//!
//! The header lies within one sector: a power cut leaves it whole or absent. A valid header therefore says what
//! its frame is, even if the payload is torn. Later format versions keep bytes 0..48 and 92..96 as they are; a
//! reader refuses a frame whose "oldest reader" is above its own version, by name and before anything else. A newer
//! writer that adds something which older readers must not skip raises "oldest reader".

use crate::ids::{Epoch, Lineage, SegmentId, Sequence};

/// Format version that this crate writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The oldest version whose readers understand what this crate writes.
pub const OLDEST_READER: u16 = 1;
/// Size of a frame's header, bytes.
pub const HEADER_BYTES: usize = 96;
/// Frames begin at multiples of this many bytes.
pub const SECTOR_BYTES: u64 = 512;

const MAGIC: [u8; 8] = *b"SLUICE\x1aJ";
const CHECKSUM_AT: usize = 92;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Records of the caller.
    Batch,
    /// Nothing: it proves that its predecessor was durable.
    Idle,
    /// Nothing: the first frame of a new owner.
    Opening,
    /// Last frame of a frame file.
    End,
    /// Written by a newer version, which says that we may skip it.
    Other(u16),
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Self::Batch => 1,
            Self::Idle => 2,
            Self::Opening => 3,
            Self::End => 4,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Batch,
            2 => Self::Idle,
            3 => Self::Opening,
            4 => Self::End,
            other => Self::Other(other),
        }
    }
}

/// Checksum of a frame; the next frame repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checksum(pub(crate) u32);

/// A frame's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) lineage: Lineage,
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    pub(crate) sequence: Sequence,
    pub(crate) epoch: Epoch,
    pub(crate) previous: Checksum,
    pub(crate) payload_bytes: u32,
    pub(crate) records: u32,
    pub(crate) payload_crc: u32,
    /// Set by decoding; computed when encoding.
    pub(crate) checksum: Checksum,
}

/// What 96 bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Zeros, or a header that is not whole.
    Absent,
    /// A whole header whose writer says that we cannot read it.
    Newer { format: u16, oldest_reader: u16, lineage: Lineage, segment: SegmentId, offset: u64 },
    /// A whole header.
    Header(Header),
}

/// Size on disk of a frame with that much payload: header, payload and padding, bytes.
#[must_use]
pub fn frame_bytes(payload_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + payload_bytes).next_multiple_of(SECTOR_BYTES)
}

impl Header {
    /// Size on disk of this frame, bytes.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.payload_bytes))
    }

    /// Writes the header into the first 96 bytes of `into` and answers the frame's checksum.
    pub(crate) fn encode(&self, into: &mut [u8]) -> Checksum {
        let into = &mut into[..HEADER_BYTES];
        into.fill(0);
        into[0..8].copy_from_slice(&MAGIC);
        into[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        into[10..12].copy_from_slice(&OLDEST_READER.to_le_bytes());
        into[12..14].copy_from_slice(&self.kind.code().to_le_bytes());
        into[16..32].copy_from_slice(&self.lineage.0);
        into[32..40].copy_from_slice(&self.segment.0.to_le_bytes());
        into[40..48].copy_from_slice(&self.offset.to_le_bytes());
        into[48..56].copy_from_slice(&self.sequence.0.to_le_bytes());
        into[56..64].copy_from_slice(&self.epoch.0.to_le_bytes());
        into[64..68].copy_from_slice(&self.previous.0.to_le_bytes());
        into[68..72].copy_from_slice(&self.payload_bytes.to_le_bytes());
        into[72..76].copy_from_slice(&self.records.to_le_bytes());
        into[76..80].copy_from_slice(&self.payload_crc.to_le_bytes());
        let checksum = crc32fast::hash(&into[..CHECKSUM_AT]);
        into[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        Checksum(checksum)
    }
}

/// Decodes the header in the first 96 bytes of `bytes`; fewer bytes are no header.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
        return Decoded::Absent;
    }
    let checksum = u32_at(bytes, CHECKSUM_AT);
    if crc32fast::hash(&bytes[..CHECKSUM_AT]) != checksum {
        return Decoded::Absent;
    }
    let (format, oldest_reader) = (u16_at(bytes, 8), u16_at(bytes, 10));
    let mut lineage = [0; 16];
    lineage.copy_from_slice(&bytes[16..32]);
    let (lineage, segment, offset) = (Lineage(lineage), SegmentId(u64_at(bytes, 32)), u64_at(bytes, 40));
    if oldest_reader > FORMAT_VERSION {
        return Decoded::Newer { format, oldest_reader, lineage, segment, offset };
    }
    Decoded::Header(Header {
        kind: Kind::from_code(u16_at(bytes, 12)),
        lineage,
        segment,
        offset,
        sequence: Sequence(u64_at(bytes, 48)),
        epoch: Epoch(u64_at(bytes, 56)),
        previous: Checksum(u32_at(bytes, 64)),
        payload_bytes: u32_at(bytes, 68),
        records: u32_at(bytes, 72),
        payload_crc: u32_at(bytes, 76),
        checksum: Checksum(checksum),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A frame that was read and found whole. It borrows the reader's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    header: Header,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn new(header: Header, payload: &'a [u8]) -> Self {
        Self { header, payload }
    }

    /// What the frame is for. Only batches have records.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.header.kind
    }

    /// Its number in the log.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.header.sequence
    }

    /// Epoch of the owner that wrote it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// The segment that holds it; 0 in a frame file.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.header.segment
    }

    /// Where it begins in its file, bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.header.offset
    }

    /// How many records it has.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.header.records as usize
    }

    /// Its records, in the order in which they were pushed.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.payload }
    }
}

/// A frame with bytes of its own: for another thread than its reader's.
#[derive(Debug)]
pub struct OwnedFrame {
    header: Header,
    payload: Vec<u8>,
}

impl Frame<'_> {
    /// The same with bytes of its own. Cost: a copy of them.
    #[must_use]
    pub fn to_owned(&self) -> OwnedFrame {
        OwnedFrame { header: self.header, payload: self.payload.to_vec() }
    }
}

impl OwnedFrame {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::new(self.header, &self.payload)
    }

    /// Its last records, for whose beginning `left` bytes are left (see [`Records::left`]).
    #[must_use]
    pub fn last_records(&self, left: usize) -> Records<'_> {
        Records { rest: &self.payload[self.payload.len() - left..] }
    }
}

impl Records<'_> {
    /// Bytes of the payload that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}

/// The records of one frame, each as the bytes that were pushed.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = split_record(self.rest)?;
        self.rest = rest;
        Some(record)
    }
}

fn split_record(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32_at(payload.get(..4)?, 0) as usize;
    payload[4..].split_at_checked(length)
}

/// Whether `payload` is exactly `records` records: checked before a frame is handed out, so that [`Records`] cannot fail.
pub(crate) fn is_record_list(mut payload: &[u8], records: u32) -> bool {
    let mut left = records;
    while left > 0 {
        let Some((_, rest)) = split_record(payload) else { return false };
        payload = rest;
        left -= 1;
    }
    payload.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Batch,
            lineage: Lineage(*b"0123456789abcdef"),
            segment: SegmentId(3),
            offset: 1024,
            sequence: Sequence(u64::from(u32::MAX) + 7),
            epoch: Epoch(9),
            previous: Checksum(0xdead_beef),
            payload_bytes: 12,
            records: 2,
            payload_crc: 77,
            checksum: Checksum(0),
        }
    }

    #[test]
    fn header_comes_back_and_every_flipped_bit_is_seen() {
        let mut bytes = [0; HEADER_BYTES];
        let checksum = header().encode(&mut bytes);
        assert_eq!(decode(&bytes), Decoded::Header(Header { checksum, ..header() }));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), Decoded::Absent, "bit {bit}");
        }
        assert_eq!(decode(&bytes[..95]), Decoded::Absent);
    }

    #[test]
    fn sizes_are_rounded_to_sectors() {
        assert_eq!(frame_bytes(0), 512);
        assert_eq!(frame_bytes(416), 512);
        assert_eq!(frame_bytes(417), 1024);
    }

    #[test]
    fn record_lists_are_exact() {
        let two = [1, 0, 0, 0, b'a', 0, 0, 0, 0];
        assert!(is_record_list(&two, 2));
        assert!(!is_record_list(&two, 1));
        assert!(!is_record_list(&two, 3));
        assert!(!is_record_list(&two[..8], 2));
        assert!(!is_record_list(&[255, 255, 255, 255, 0], 1));
        assert!(is_record_list(&[], 0));
    }
}
