//! Opening the body files: lists of full ones are read, headers of the others are scanned, what may not be durable is
//! settled or cut.
//!
//! Only the newest file that is in use can hold entries whose sync is not known to have succeeded: those from
//! its durable mark on. They are checked by their hash, written once more (a failed sync may have dropped
//! them from the kernel's memory of what is dirty) and synced; the first that is not whole ends the file.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use journal::{Disk, DiskFile, read_full_at, write_all_at};

use super::entry::{self, HEADER_BYTES, Header};
use super::space::Signal;
use super::{Bodies, BodyFile, Inner, Place, Short, list, read_body, short};
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
    /// The caller owns the journal in the same folder. Cost: a list for each full file; one small read for each body of
    /// the newest file, and of files that have lost their list.
    ///
    /// # Errors
    /// The operating system's word.
    pub fn open(disk: Arc<dyn Disk>, file_bytes: u64) -> Result<Arc<Self>, Error> {
        let names = layout::list(&*disk)?;
        let mut ids: Vec<u32> = names.iter().filter_map(|name| layout::bodies_of(name)).collect();
        ids.sort_unstable();
        let mut lists: BTreeSet<u32> = names.iter().filter_map(|name| layout::body_list_of(name)).collect();
        let mut kept = BTreeMap::new();
        let mut index = HashMap::default();
        // The newest in use is found first: more is appended to it, so what a list says of it may be old.
        let mut in_use = None;
        for id in ids.into_iter().rev() {
            let list = match in_use {
                Some(_) if lists.remove(&id) => list::read(&*disk, id)?,
                _ => None,
            };
            let name = layout::bodies_name(id);
            let file = disk.open(&name).map_err(|error| Error::io("open", &name, error))?;
            let bytes = file.size().map_err(|error| Error::io("size", &name, error))?;
            let listed = list.is_some();
            let (end, entries) = match list {
                Some(list) => (list.end, list.entries),
                None => {
                    let mut scanned = scan(&file, id, bytes)?;
                    if in_use.is_none() && scanned.end > 0 {
                        settle(&mut scanned)?;
                    } else if in_use.is_none() {
                        clear_behind(&*file, &name, 0, bytes)?;
                    }
                    (scanned.end, scanned.live().collect())
                }
            };
            if in_use.is_none() && end > 0 {
                in_use = Some(id);
            }
            index.reserve(entries.len());
            for (hash, place) in entries.into_iter().rev() {
                // From the newest on: where a body was moved, its new place counts.
                index.entry(hash).or_insert(place);
            }
            kept.insert(id, BodyFile { file, bytes, used: end, durable: end, listed });
        }
        remove_lists(&*disk, &lists)?;
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
        let inner = Mutex::new(inner);
        let (writing, listing) = (Mutex::new(()), Mutex::new(()));
        Ok(Arc::new(Self { disk, file_bytes, inner, writing, listing, space: Signal::default() }))
    }
}

/// Removes lists that may be old, durably: before anything is appended to their files.
fn remove_lists(disk: &dyn Disk, ids: &BTreeSet<u32>) -> Result<(), Error> {
    for id in ids {
        layout::remove_if_there(disk, &layout::body_list_name(*id))?;
    }
    if ids.is_empty() {
        return Ok(());
    }
    disk.sync_directory().map_err(|error| Error::io("sync the folder of", "lists of bodies", error))
}

/// Reads the headers of a file, in large pieces: what stands between them is mostly less than a page.
fn scan(file: &Arc<dyn DiskFile>, id: u32, bytes: u64) -> Result<Scanned, Error> {
    let name = layout::bodies_name(id);
    let mut scanned = Scanned { id, file: Arc::clone(file), bytes, entries: Vec::new(), end: 0, durable: 0 };
    let mut buffer = vec![0; CHUNK];
    let (mut start, mut read) = (0, 0);
    while scanned.end < bytes {
        let at = scanned.end;
        if read == 0 || at + HEADER_BYTES as u64 > start + read as u64 {
            // An empty file is told by its first sector.
            let wanted = if at == 0 { entry::ALIGN as usize } else { CHUNK };
            read = read_full_at(&**file, at, &mut buffer[..wanted])
                .map_err(|error| Error::io("read", &name, error))?;
            start = at;
        }
        let from = usize::try_from(at - start).expect("it is within the buffer");
        let Some(found) = Header::decode(&buffer[from.min(read)..read]) else { break };
        if at + found.entry_bytes() > bytes {
            break;
        }
        scanned.durable = scanned.durable.max(found.durable);
        scanned.entries.push((at, found));
        scanned.end += found.entry_bytes();
    }
    Ok(scanned)
}

impl Scanned {
    /// What is not erased, with its place.
    fn live(&self) -> impl Iterator<Item = (Short, Place)> {
        self.entries.iter().filter(|(_, header)| !header.erased).map(|(offset, header)| {
            let sector = u32::try_from(offset / entry::ALIGN).expect("a file is below 2 TiB");
            (short(&header.hash), Place { file: self.id, sector, length: header.length })
        })
    }
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
        if !layout::is_blank(&buffer[..read]) {
            journal::write_zeros(file, offset, read as u64)
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
