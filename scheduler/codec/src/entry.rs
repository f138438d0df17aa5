//! What stands in a frame: records of the core, and what the store itself writes around them.

use model::id::BodyHash;
use prost::Message;
use proto::journal_v1 as w;
use proto::v1;
use scheduler_core::record::Record;
use w::entry::Kind;

use crate::error::{Error, need};
use crate::{Digest, OLDEST_READER, VERSION, allocation, record};

/// Who wrote what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the records.
    pub version: u32,
    /// The oldest version whose readers understand them.
    pub oldest_reader: u32,
    /// Name and version of the program.
    pub software: String,
}

/// A finished run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryRow {
    /// The job as queries show it.
    pub job: v1::Job,
    /// Key of the call that made it.
    pub key: model::id::RequestKey,
    /// It went back to the queue.
    pub requeued: bool,
    /// Frame of the record that ended it.
    pub sequence: u64,
    /// Place of that record in its frame.
    pub record: u32,
    /// Digest of what was asked; empty where it is not known.
    pub request_digest: Vec<u8>,
    /// The job's script, where its file keeps it.
    pub script: Option<BodyHash>,
    /// The same of the environment.
    pub environment: Option<BodyHash>,
}

/// A script or environment in a history file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryBody {
    /// Its hash.
    pub hash: BodyHash,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What a history file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBegin {
    /// The first frame whose ended jobs it has.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Number of rows.
    pub rows: u64,
    /// Earliest submission of a job in it, ms.
    pub earliest_submit_ms: i64,
    /// Earliest end, ms.
    pub earliest_end_ms: i64,
    /// Latest end, ms.
    pub latest_end_ms: i64,
}

/// One entry of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// First record of each owner and of each file.
    Header(Header),
    /// A snapshot begins: the state after the frame `sequence`.
    SnapshotBegin {
        /// Number of the frame.
        sequence: u64,
    },
    /// A snapshot ends.
    SnapshotEnd {
        /// Digest of its records.
        digest: Digest,
        /// How many there are.
        records: u64,
    },
    /// A history file begins.
    HistoryBegin(HistoryBegin),
    /// A row of a history file.
    HistoryRow(Box<HistoryRow>),
    /// A body of a history file.
    HistoryBody(HistoryBody),
    /// A record of the core.
    Record(Record),
}

/// Adds the bytes of a record to `into`. Cost: O(size of the record).
pub fn encode_record(from: &Record, into: &mut Vec<u8>) {
    append(record::outwards(from), into);
}

fn append(kind: Kind, into: &mut Vec<u8>) {
    w::Entry { kind: Some(kind) }.encode(into).expect("a vector has room");
}

impl Header {
    /// The header of what this code writes.
    #[must_use]
    pub fn ours() -> Self {
        let software = concat!("sluice ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { version: VERSION, oldest_reader: OLDEST_READER, software }
    }

    /// Whether this code understands what follows.
    ///
    /// # Errors
    /// [`Error::Newer`].
    pub fn check(&self) -> Result<(), Error> {
        if self.oldest_reader > VERSION {
            let Self { version, oldest_reader, software } = self.clone();
            return Err(Error::Newer { software, version, oldest_reader, ours: VERSION });
        }
        Ok(())
    }
}

impl Entry {
    /// Adds the entry's bytes to `into`.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let kind = match self {
            Self::Header(header) => Kind::Header(w::Header {
                version: header.version,
                oldest_reader: header.oldest_reader,
                software: header.software.clone(),
            }),
            Self::SnapshotBegin { sequence } => Kind::SnapshotBegin(w::SnapshotBegin { sequence: *sequence }),
            Self::SnapshotEnd { digest, records } => {
                Kind::SnapshotEnd(w::SnapshotEnd { digest: digest.to_vec(), records: *records })
            }
            Self::HistoryBegin(begin) => Kind::HistoryBegin(w::HistoryBegin {
                first: begin.first,
                last: begin.last,
                rows: begin.rows,
                earliest_submit_ms: begin.earliest_submit_ms,
                earliest_end_ms: begin.earliest_end_ms,
                latest_end_ms: begin.latest_end_ms,
            }),
            Self::HistoryRow(row) => Kind::HistoryRow(w::HistoryRow {
                job: Some(row.job.clone()),
                key: row.key.0.to_vec(),
                requeued: row.requeued,
                sequence: row.sequence,
                record: row.record,
                request_digest: row.request_digest.clone(),
                script: row.script.map(|hash| hash.0.to_vec()).unwrap_or_default(),
                environment: row.environment.map(|hash| hash.0.to_vec()).unwrap_or_default(),
            }),
            Self::HistoryBody(HistoryBody { hash, body }) => {
                Kind::HistoryBody(w::HistoryBody { hash: hash.0.to_vec(), body: body.clone() })
            }
            Self::Record(record) => record::outwards(record),
        };
        append(kind, into);
    }
}

/// Reads one entry. A header that says that we cannot read what follows is an error.
///
/// # Errors
/// Bytes that are no entry, entries that this version does not know, fields without a meaning.
pub fn read(bytes: &[u8]) -> Result<Entry, Error> {
    let kind = w::Entry::decode(bytes)?.kind.ok_or(Error::UnknownKind)?;
    Ok(match kind {
        Kind::Header(header) => {
            let header = Header {
                version: header.version,
                oldest_reader: header.oldest_reader,
                software: header.software,
            };
            header.check()?;
            Entry::Header(header)
        }
        Kind::SnapshotBegin(begin) => Entry::SnapshotBegin { sequence: begin.sequence },
        Kind::SnapshotEnd(end) => Entry::SnapshotEnd {
            digest: need("digest", Digest::try_from(end.digest.as_slice()).ok())?,
            records: end.records,
        },
        Kind::HistoryBegin(begin) => Entry::HistoryBegin(HistoryBegin {
            first: begin.first,
            last: begin.last,
            rows: begin.rows,
            earliest_submit_ms: begin.earliest_submit_ms,
            earliest_end_ms: begin.earliest_end_ms,
            latest_end_ms: begin.latest_end_ms,
        }),
        Kind::HistoryRow(row) => Entry::HistoryRow(Box::new(HistoryRow {
            job: need("job", row.job)?,
            key: need("key", allocation::key_in(&row.key)?)?,
            requeued: row.requeued,
            sequence: row.sequence,
            record: row.record,
            request_digest: row.request_digest,
            script: body_hash(&row.script)?,
            environment: body_hash(&row.environment)?,
        })),
        Kind::HistoryBody(body) => {
            Entry::HistoryBody(HistoryBody { hash: need("hash", body_hash(&body.hash)?)?, body: body.body })
        }
        kind => Entry::Record(need("record", record::inwards(kind)?)?),
    })
}

/// A hash; nothing for no bytes.
fn body_hash(bytes: &[u8]) -> Result<Option<BodyHash>, Error> {
    match bytes {
        [] => Ok(None),
        bytes => need("hash", bytes.try_into().ok().map(BodyHash)).map(Some),
    }
}

/// Reads one entry of a journal: a record of the core, or `None` for a header.
///
/// # Errors
/// As [`read`]; also an entry that belongs into other files.
pub fn read_record(bytes: &[u8]) -> Result<Option<Record>, Error> {
    match read(bytes)? {
        Entry::Record(record) => Ok(Some(record)),
        Entry::Header(_) => Ok(None),
        Entry::SnapshotBegin { .. }
        | Entry::SnapshotEnd { .. }
        | Entry::HistoryBegin(_)
        | Entry::HistoryRow(_)
        | Entry::HistoryBody(_) => Err(Error::UnknownKind),
    }
}
