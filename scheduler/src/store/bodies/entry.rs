//! The format of a body file: entries that begin at multiples of 512 bytes, zeros behind the last one.
//!
//! ```text
//! offset size
//!      0    8  magic "SLUBODY", 1
//!      8    4  1: live, 2: erased
//!     12    4  length of the body, bytes
//!     16    8  this file was durable up to here when the entry was written
//!     24   32  BLAKE3 hash of the body
//!     56    8  checksum: first bytes of the BLAKE3 hash of bytes 0..56
//!     64    n  the body, then zeros up to a multiple of 512
//! ```
//! A header lies within one sector, so it is whole or absent. A body is checked by its hash.

use model::id::BodyHash;

/// Entries begin at multiples of this many bytes.
pub(super) const ALIGN: u64 = 512;
/// Size of a header, bytes.
pub(super) const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"SLUBODY\x01";
const LIVE: u32 = 1;
const ERASED: u32 = 2;
const CHECKSUM_AT: usize = 56;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) erased: bool,
    pub(super) length: u32,
    pub(super) durable: u64,
    pub(super) hash: BodyHash,
}

/// Size of an entry with a body of `length` bytes.
pub(super) fn entry_bytes(length: u64) -> u64 {
    (HEADER_BYTES as u64 + length).next_multiple_of(ALIGN)
}

/// Address of a body.
pub(super) fn hash_of(body: &[u8]) -> BodyHash {
    BodyHash(*blake3::hash(body).as_bytes())
}

impl Header {
    pub(super) fn entry_bytes(&self) -> u64 {
        entry_bytes(u64::from(self.length))
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&if self.erased { ERASED } else { LIVE }.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.hash.0);
        let checksum = checksum(&bytes);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
        bytes
    }

    /// The header in the first bytes; `None` if there is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if bytes[..8] != MAGIC || bytes[CHECKSUM_AT..] != checksum(bytes) {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let erased = match word(8) {
            LIVE => false,
            ERASED => true,
            _ => return None,
        };
        let durable = u64::from(word(16)) | u64::from(word(20)) << 32;
        Some(Self { erased, length: word(12), durable, hash: BodyHash::try_from(&bytes[24..56]).ok()? })
    }
}

fn checksum(header: &[u8; HEADER_BYTES]) -> [u8; 8] {
    let hash = blake3::hash(&header[..CHECKSUM_AT]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_comes_back_and_every_flipped_bit_is_seen() {
        let header = Header { erased: false, length: 77, durable: 1 << 40, hash: hash_of(b"x") };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        let erased = Header { erased: true, ..header };
        assert_eq!(Header::decode(&erased.encode()), Some(erased));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..63]), None);
        assert_eq!(entry_bytes(0), 512);
        assert_eq!(entry_bytes(448), 512);
        assert_eq!(entry_bytes(449), 1024);
    }
}
