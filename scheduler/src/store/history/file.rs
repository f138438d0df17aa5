//! One history file: the rows of the jobs that a range of frames ended, in the journal's format; behind them the scripts
//! and environments that they refer to, each once, where these are kept.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use journal::{Disk, Epoch, FrameReader, FrameWriter, HEADER_BYTES, Lineage, Payload, RECORD_OVERHEAD_BYTES};
use model::id::BodyHash;
use scheduler_codec::{Call, Entry, Header, HistoryBegin, HistoryBody, RowGlance};

use super::Recent;
use crate::crash::{self, Point};
use crate::store::{Error, layout};

/// Rows are gathered until a frame has this many bytes.
const FRAME_BYTES: u64 = 256 << 10;

/// Where the bytes of a row stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// First frame of the file's range, which names the file with its last.
    pub(crate) file: u64,
    /// Offset of the row's bytes in the file.
    pub(crate) offset: u64,
    /// Their number.
    pub(crate) length: u32,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) begin: HistoryBegin,
    pub(crate) bytes: u64,
}

impl FileFacts {
    pub(crate) fn name(&self) -> String {
        layout::history_name(self.begin.first, self.begin.last)
    }
}

/// Gives a body; `None` where it is not there any more.
pub(super) type BodyOf<'a> = dyn Fn(&BodyHash) -> Result<Option<Vec<u8>>, Error> + 'a;

/// Writes the file of frames `first` to `last`. There is at least one row.
pub(super) fn write(
    disk: &Arc<dyn Disk>,
    lineage: Lineage,
    (first, last): (u64, u64),
    rows: &[Recent],
    body_of: &BodyOf<'_>,
) -> Result<FileFacts, Error> {
    let name = layout::history_name(first, last);
    let begin = HistoryBegin {
        first,
        last,
        rows: rows.len() as u64,
        earliest_submit_ms: rows.iter().map(|row| row.submit_ms).min().unwrap_or(0),
        earliest_end_ms: rows.iter().map(|row| row.end_ms).min().unwrap_or(0),
        latest_end_ms: rows.iter().map(|row| row.end_ms).max().unwrap_or(0),
    };
    let mut writer = FrameWriter::create(Arc::clone(disk), &name, lineage, Epoch(0))?;
    let mut payload = Payload::new();
    payload.push_with(|bytes| Entry::Header(Header::ours()).encode(bytes));
    payload.push_with(|bytes| Entry::HistoryBegin(begin).encode(bytes));
    // The first frame is all that is read at start, so it is small.
    writer.append(&mut payload)?;
    payload.clear();
    for row in rows {
        payload.push(&row.bytes);
        if payload.payload_bytes() >= FRAME_BYTES {
            writer.append(&mut payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        writer.append(&mut payload)?;
        payload.clear();
    }
    let wanted: BTreeSet<BodyHash> = rows.iter().flat_map(|row| row.bodies).flatten().collect();
    for hash in wanted {
        let Some(body) = body_of(&hash)? else { continue };
        payload.push_with(|bytes| Entry::HistoryBody(HistoryBody { hash, body }).encode(bytes));
        if payload.payload_bytes() >= FRAME_BYTES {
            writer.append(&mut payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        writer.append(&mut payload)?;
    }
    crash::point(Point::HistoryWrite);
    let bytes = writer.finish()?;
    Ok(FileFacts { begin, bytes })
}

/// What a file's first frame says.
pub(crate) fn facts(disk: &dyn Disk, lineage: Lineage, name: &str) -> Result<FileFacts, Error> {
    let bytes =
        disk.open(name).and_then(|file| file.size()).map_err(|error| Error::io("open", name, error))?;
    let mut reader = FrameReader::open(disk, name, Some(lineage))?.glancing();
    let damage = |what| Error::Snapshot { file: name.to_owned(), what };
    let frame = reader.next()?.ok_or_else(|| damage("it has no frame"))?;
    for (place, record) in frame.records().enumerate() {
        let source = scheduler_codec::read(record);
        let offset = frame.offset();
        let entry = source.map_err(|source| Error::Record {
            file: name.to_owned(),
            offset,
            record: place,
            source,
        })?;
        if let Entry::HistoryBegin(begin) = entry {
            return Ok(FileFacts { begin, bytes });
        }
    }
    Err(damage("it does not say what it holds"))
}

/// Sees a row: its place, its bytes, what queries look at in them.
pub(crate) type Visit<'a> = dyn FnMut(RowPlace, &[u8], &RowGlance<'_>) -> ControlFlow<()> + 'a;

/// Shows who made the job of every row and when it ended.
pub(super) fn each_call(
    disk: &dyn Disk,
    lineage: Lineage,
    facts: &FileFacts,
    visit: &mut dyn FnMut(Call),
) -> Result<(), Error> {
    let _ = each_row(disk, lineage, facts, &mut |_, _, row| {
        visit(row.call());
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// A body that rows of the file refer to. Cost: the file is read, no row is built.
pub(super) fn body(
    disk: &dyn Disk,
    lineage: Lineage,
    facts: &FileFacts,
    hash: &BodyHash,
) -> Result<Option<Vec<u8>>, Error> {
    let name = facts.name();
    let mut reader = FrameReader::open(disk, &name, Some(lineage))?;
    while let Some(frame) = reader.next()? {
        let Some((at, bytes)) =
            frame.records().enumerate().find(|(_, bytes)| scheduler_codec::holds_body(bytes, hash))
        else {
            continue;
        };
        let entry = scheduler_codec::read(bytes).map_err(|source| Error::Record {
            file: name.clone(),
            offset: frame.offset(),
            record: at,
            source,
        })?;
        if let Entry::HistoryBody(found) = entry {
            return Ok(Some(found.body));
        }
    }
    Ok(None)
}

/// Shows every row with its place, in order, until `visit` breaks. No row is built.
pub(crate) fn each_row(
    disk: &dyn Disk,
    lineage: Lineage,
    facts: &FileFacts,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Error> {
    let name = facts.name();
    let mut reader = FrameReader::open(disk, &name, Some(lineage))?;
    // Behind the last row there are only bodies.
    let mut left = facts.begin.rows;
    while let Some(frame) = reader.next()?.filter(|_| left > 0) {
        let mut offset = frame.offset() + HEADER_BYTES as u64;
        for (at, bytes) in frame.records().enumerate() {
            offset += RECORD_OVERHEAD_BYTES;
            let row = scheduler_codec::glance(bytes).map_err(|source| Error::Record {
                file: name.clone(),
                offset: frame.offset(),
                record: at,
                source,
            })?;
            let length = u32::try_from(bytes.len()).expect("a record is below 4 GiB");
            if let Some(row) = row {
                left = left.saturating_sub(1);
                let place = RowPlace { file: facts.begin.first, offset, length };
                if visit(place, bytes, &row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            offset += u64::from(length);
        }
    }
    Ok(ControlFlow::Continue(()))
}
