//! Opening the body files: headers are scanned, what may not be durable is settled or cut.
//!
//! Only the newest file that is in use can hold entries whose sync is not known to have succeeded: those from
//! its durable mark on. They are checked by their hash, written once more (a failed sync may have dropped
//! them from the kernel's memory of what is dirty) and synced; the first that is not whole ends the file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use journal::{Disk, DiskFile, read_full_at, write_all_at};

use super::entry::{self, HEADER_BYTES, Header};
use super::space::Signal;
use super::{Bodies, BodyFile, Inner, Place, read_body, short};
use crate::store::{Error, layout};

const CHUNK: usize = 256 * 1024;

struct Scanned {
    id: u32,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    entries: Vec<(u64, Header)>,
    /// Offset behind the last entry.
    end: u64,
    durable: u64,
}

impl Bodies {
    /// Opens the body files in a folder, or begins with none. `file_bytes` is the size of files made from now on.
    ///
    /// The caller owns the journal in the same folder. Cost: one small read for each body.
    ///
    /// # Errors
    /// The operating system's word.
    pub fn open(disk: Arc<dyn Disk>, file_bytes: u64) -> Result<Arc<Self>, Error> {
        let mut ids: Vec<u32> =
            layout::list(&*disk)?.iter().filter_map(|name| layout::bodies_of(name)).collect();
        ids.sort_unstable();
        let mut files = ids.into_iter().map(|id| scan(&*disk, id)).collect::<Result<Vec<_>, _>>()?;
        let newest = files.iter().rposition(|file| file.end > 0);
        if let Some(newest) = newest {
            settle(&mut files[newest])?;
        }
        for spare in &mut files[newest.map_or(0, |newest| newest + 1)..] {
            clear_behind(&*spare.file, &layout::bodies_name(spare.id), 0, spare.bytes)?;
        }
        let mut index = HashMap::new();
        let mut kept = BTreeMap::new();
        for file in files {
            for (offset, header) in file.entries.iter().filter(|(_, header)| !header.erased) {
                let sector = u32::try_from(offset / entry::ALIGN).expect("a file is below 2 TiB");
                index.insert(short(&header.hash), Place { file: file.id, sector, length: header.length });
            }
            let (used, durable) = (file.end, file.end);
            kept.insert(file.id, BodyFile { file: file.file, bytes: file.bytes, used, durable });
        }
        let in_use = kept.iter().filter(|(_, file)| file.used > 0).map(|(id, _)| *id).next_back();
        let current = in_use.or_else(|| kept.keys().next().copied()).unwrap_or(0);
        let inner = Inner {
            index,
            files: kept,
            current,
            outstanding: VecDeque::new(),
            ticket: 0,
            pins: HashMap::new(),
            broken: false,
            touched: None,
        };
        let (inner, writing) = (Mutex::new(inner), Mutex::new(()));
        Ok(Arc::new(Self { disk, file_bytes, inner, writing, space: Signal::default() }))
    }
}

fn scan(disk: &dyn Disk, id: u32) -> Result<Scanned, Error> {
    let name = layout::bodies_name(id);
    let file = disk.open(&name).map_err(|error| Error::io("open", &name, error))?;
    let bytes = file.size().map_err(|error| Error::io("size", &name, error))?;
    let mut scanned = Scanned { id, file, bytes, entries: Vec::new(), end: 0, durable: 0 };
    let mut header = [0; HEADER_BYTES];
    while scanned.end < bytes {
        let read = read_full_at(&*scanned.file, scanned.end, &mut header)
            .map_err(|error| Error::io("read", &name, error))?;
        let Some(found) = Header::decode(&header[..read]) else { break };
        if scanned.end + found.entry_bytes() > bytes {
            break;
        }
        scanned.durable = scanned.durable.max(found.durable);
        scanned.entries.push((scanned.end, found));
        scanned.end += found.entry_bytes();
    }
    Ok(scanned)
}

/// Checks and writes anew what may not be durable, and clears what is behind it.
fn settle(file: &mut Scanned) -> Result<(), Error> {
    let name = layout::bodies_name(file.id);
    let doubtful = file.entries.iter().position(|(offset, _)| *offset >= file.durable);
    let mut kept = doubtful.unwrap_or(file.entries.len());
    let mut rewritten = false;
    for (offset, header) in &file.entries[kept..] {
        let sector = u32::try_from(offset / entry::ALIGN).expect("a file is below 2 TiB");
        let place = Place { file: file.id, sector, length: header.length };
        let body = read_body(&*file.file, place).map_err(|error| Error::io("read", &name, error))?;
        let Some(body) = body.filter(|body| header.erased || entry::hash_of(body) == header.hash) else {
            break;
        };
        write_entry(&*file.file, *offset, header, &body)
            .map_err(|error| Error::io("settle", &name, error))?;
        rewritten = true;
        kept += 1;
    }
    file.entries.truncate(kept);
    file.end = file.entries.last().map_or(0, |(offset, header)| offset + header.entry_bytes());
    let cleared = clear_behind(&*file.file, &name, file.end, file.bytes)?;
    if rewritten && !cleared {
        file.file.sync().map_err(|error| Error::io("sync", &name, error))?;
    }
    Ok(())
}

pub(super) fn write_entry(file: &dyn DiskFile, offset: u64, header: &Header, body: &[u8]) -> io::Result<()> {
    let mut buffer = header.encode().to_vec();
    buffer.extend_from_slice(body);
    buffer.resize(buffer.len().next_multiple_of(entry::ALIGN as usize), 0);
    write_all_at(file, offset, &buffer)
}

/// Makes everything from `start` on zero, durably; answers whether there was something to do.
fn clear_behind(file: &dyn DiskFile, name: &str, start: u64, end: u64) -> Result<bool, Error> {
    let mut buffer = vec![0; CHUNK];
    let (mut offset, mut cleared) = (start, false);
    while offset < end {
        let wanted = (end - offset).min(CHUNK as u64);
        let read = read_full_at(file, offset, &mut buffer[..wanted as usize])
            .map_err(|error| Error::io("read", name, error))?;
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            layout::write_zeros(file, offset, read as u64)
                .map_err(|error| Error::io("clear", name, error))?;
            cleared = true;
        }
        offset += read as u64;
    }
    if cleared {
        file.sync().map_err(|error| Error::io("sync", name, error))?;
    }
    Ok(cleared)
}
