//! The reusable buffer in which a caller collects the records of one batch. The header's room is in front, so
//! that a frame leaves in one write and no byte is copied.

use crate::frame::{Checksum, HEADER_BYTES, Header, SECTOR_BYTES, frame_bytes};

/// Bytes that a record costs beyond its own.
pub const RECORD_OVERHEAD_BYTES: u64 = 4;

/// The records of one batch, in order. Keep it and [`clear`](Self::clear) it: the memory is used again.
#[derive(Debug)]
pub struct Payload {
    /// Room for the header, then the payload, then possibly the padding of an earlier seal.
    bytes: Vec<u8>,
    /// Where the payload ends in `bytes`.
    end: usize,
    records: u32,
}

impl Default for Payload {
    fn default() -> Self {
        Self::new()
    }
}

impl Payload {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], end: HEADER_BYTES, records: 0 }
    }

    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.end = HEADER_BYTES;
        self.records = 0;
    }

    /// Adds one record.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(record));
    }

    /// Adds one record that `write` appends to the buffer it is given, without a copy. `write` must only append:
    /// what stands before belongs to the records pushed earlier.
    ///
    /// # Panics
    /// If `write` shortened the buffer, or if the payload grew beyond 4 GiB.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(&[0; RECORD_OVERHEAD_BYTES as usize]);
        let start = self.bytes.len();
        write(&mut self.bytes);
        let length = self.bytes.len().checked_sub(start).expect("a record writer only appends");
        let length = u32::try_from(length).expect("a record is below 4 GiB");
        self.bytes[start - 4..start].copy_from_slice(&length.to_le_bytes());
        self.end = self.bytes.len();
        self.records += 1;
    }

    /// Number of records.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records as usize
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Size of the payload with the length of each record, bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        (self.end - HEADER_BYTES) as u64
    }

    /// Size of the frame on disk, bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes())
    }

    /// Completes the frame in place: header in front, zeros behind. `header` needs no sizes and checksums.
    pub(crate) fn seal(&mut self, header: Header) -> (&[u8], Checksum) {
        let payload = &self.bytes[HEADER_BYTES..self.end];
        let header = Header {
            payload_bytes: u32::try_from(payload.len()).expect("a payload is below 4 GiB"),
            records: self.records,
            payload_crc: crc32fast::hash(payload),
            ..header
        };
        let size = self.end.next_multiple_of(SECTOR_BYTES as usize);
        self.bytes.truncate(self.end);
        self.bytes.resize(size, 0);
        let checksum = header.encode(&mut self.bytes);
        (&self.bytes, checksum)
    }
}
