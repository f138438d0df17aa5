//! Little-endian, length-prefixed fields: the one encoding of all three formats.
//!
//! A reader never trusts a length: each is checked against what is left before anything is reserved.

use std::fmt;

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It ends in the middle of a field.
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// Not this format at all.
    Magic,
    /// A version that this program does not know.
    Version(u16),
    /// A value outside its range.
    Value {
        /// What was being read.
        what: &'static str,
    },
    /// The checksum does not agree with the bytes.
    Checksum,
    /// Longer than a frame may be.
    Long(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { what } => write!(f, "ends in the middle of {what}"),
            Self::Magic => f.write_str("does not begin as this format does"),
            Self::Version(version) => write!(f, "has version {version}, which this program does not know"),
            Self::Value { what } => write!(f, "has an impossible {what}"),
            Self::Checksum => f.write_str("does not agree with its checksum"),
            Self::Long(length) => write!(f, "announces a frame of {length} bytes, more than is allowed"),
        }
    }
}

impl std::error::Error for Error {}

/// Appends fields.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("a field is smaller than 4 GiB: requests are limited"));
        self.0.extend_from_slice(value);
    }
    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).expect("a list is shorter than 2^32: requests are limited"));
        items.iter().for_each(|item| each(self, item));
    }
    pub(crate) fn option<T>(&mut self, value: Option<&T>, each: impl FnOnce(&mut Self, &T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
    }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Error::Short { what })?;
        self.0 = rest;
        Ok(front)
    }
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        self.take(N, what).map(|bytes| bytes.try_into().expect("take gives the length that was asked for"))
    }
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array::<1>(what).map(|[byte]| byte)
    }
    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, Error> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Value { what }),
        }
    }
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }
    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Error> {
        self.array(what).map(i64::from_le_bytes)
    }
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Vec<u8>, Error> {
        let length = self.u32(what)? as usize;
        let bytes = self.take(length, what)?;
        // With room for the zero byte that some of them get, which else were a copy of each.
        let mut own = Vec::with_capacity(length + 1);
        own.extend_from_slice(bytes);
        Ok(own)
    }
    pub(crate) fn text(&mut self, what: &'static str) -> Result<String, Error> {
        String::from_utf8(self.bytes(what)?).map_err(|_| Error::Value { what })
    }
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut each: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let count = self.u32(what)? as usize;
        // Each item takes at least a byte: a count beyond what is left is a lie.
        if count > self.0.len() {
            return Err(Error::Short { what });
        }
        (0..count).map(|_| each(self)).collect()
    }
    pub(crate) fn option<T>(
        &mut self,
        what: &'static str,
        each: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.bool(what)? { each(self).map(Some) } else { Ok(None) }
    }
    pub(crate) fn end(self, what: &'static str) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Value { what }) }
    }
}

/// FNV-1a, 64 bits: tells a torn or scribbled file from a whole one; no defence against malice.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
