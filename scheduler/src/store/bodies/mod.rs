//! Scripts, environments and launch messages: stored once under the hash of their bytes, beside the journal.
//!
//! Files of a fixed size are filled with zeros ahead, so that a batch that was admitted cannot meet a full
//! disk. A batch's bodies are written and synced before its frame is; a reader gets what it asks for or an
//! error, never other bytes. What no record refers to is erased in place, and a file goes when nothing in
//! it is wanted ([`collect`]).
//!
//! In memory: 28 bytes for each body (and what a hash table adds), rebuilt at start from the lists beside full files and
//! the headers in the newest one.
//!
//! Invariants:
//! * a hash in the index stands for a body that is durable;
//! * bodies of one batch lie in one file, and only one file has unsynced entries;
//! * a body that a batch under way refers to is pinned, and never collected.

mod collect;
mod entry;
mod keyed;
mod list;
mod open;
mod space;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::{Disk, DiskFile, read_full_at, write_all_at};
use model::id::BodyHash;
use prost::bytes::Bytes;

pub(super) use collect::each_body;
pub use collect::{Collected, Collection};
pub use space::{BodyFiller, BodySpace};

use super::{Error, layout};
use entry::{HEADER_BYTES, Header, entry_bytes};

/// Size of a body file, bytes.
pub const FILE_BYTES: u64 = 32 << 20;
/// Largest body, bytes; also the most that the bodies of one batch may take.
pub const BODY_MAX: u64 = 16 << 20;

/// The first half of a hash: enough to tell bodies apart, half the memory.
type Short = [u8; 16];

fn short(hash: &BodyHash) -> Short {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.0[..16]);
    first
}

/// Address of a body: the BLAKE3 hash of its bytes.
#[must_use]
pub fn hash(body: &[u8]) -> BodyHash {
    entry::hash_of(body)
}

/// Where a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: u32,
    /// In units of 512 bytes.
    sector: u32,
    length: u32,
}

impl Place {
    fn offset(self) -> u64 {
        u64::from(self.sector) * entry::ALIGN
    }
}

struct BodyFile {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    /// End of the last entry.
    used: u64,
    /// Durable up to here.
    durable: u64,
    /// A list of what it holds stands beside it.
    listed: bool,
}

struct Inner {
    index: HashMap<Short, Place, keyed::Key>,
    /// By number; spares stand above the current one.
    files: BTreeMap<u32, BodyFile>,
    current: u32,
    outstanding: VecDeque<(u64, u64)>,
    ticket: u64,
    pins: HashMap<Short, u32>,
    /// A write beside the committer failed: nothing more is stored.
    broken: bool,
    /// What was pinned since a collection began.
    touched: Option<HashSet<Short>>,
}

/// The body files of one state folder.
pub struct Bodies {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    inner: Mutex<Inner>,
    /// Held by whoever writes entries: the committer, a collection that moves some.
    writing: Mutex<()>,
    /// Held by whoever writes lists, and by a collection as long as it erases.
    listing: Mutex<()>,
    space: space::Signal,
}

/// Bodies that a batch refers to: not collected while this lives.
///
/// Kept until the views have the records of the batch, for a collection asks the views.
pub struct Pins {
    bodies: Arc<Bodies>,
    hashes: Vec<Short>,
}

/// See [`Bodies::holding`].
pub(super) struct Holding<'a>(MutexGuard<'a, Inner>);

impl Holding<'_> {
    /// Whether there is a durable body of that hash.
    pub(super) fn contains(&self, hash: &BodyHash) -> bool {
        self.0.index.contains_key(&short(hash))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a guard is held half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bodies {
    /// Bytes that a body takes in a file.
    #[must_use]
    pub fn size_on_disk(length: usize) -> u64 {
        entry_bytes(length as u64)
    }

    /// The body of that hash; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::BodyDamage`] if it is not what was stored; the operating system's word.
    pub fn get(&self, hash: &BodyHash) -> Result<Option<Bytes>, Error> {
        let (place, file) = {
            let inner = locked(&self.inner);
            let Some(&place) = inner.index.get(&short(hash)) else { return Ok(None) };
            (place, inner.files.get(&place.file).map(|file| Arc::clone(&file.file)))
        };
        let name = layout::bodies_name(place.file);
        let damage = || Error::BodyDamage { hash: *hash, file: name.clone(), offset: place.offset() };
        let file = file.ok_or_else(damage)?;
        let body = read_body(&*file, place).map_err(|error| Error::io("read", &name, error))?;
        match body {
            Some(body) if entry::hash_of(&body) == *hash => Ok(Some(Bytes::from(body))),
            _ => Err(damage()),
        }
    }

    /// Whether there is a durable body of that hash. Cost: one lock, one look-up.
    #[must_use]
    pub fn contains(&self, hash: &BodyHash) -> bool {
        locked(&self.inner).index.contains_key(&short(hash))
    }

    /// The same for many look-ups under one lock: for as long as nothing else uses the bodies.
    pub(super) fn holding(&self) -> Holding<'_> {
        Holding(locked(&self.inner))
    }

    /// How many bodies there are, and the bytes of their files.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let inner = locked(&self.inner);
        (inner.index.len(), inner.files.values().map(|file| file.bytes).sum())
    }

    /// No pin yet.
    #[must_use]
    pub fn pins(self: &Arc<Self>) -> Pins {
        Pins { bodies: Arc::clone(self), hashes: Vec::new() }
    }

    /// Writes and syncs the bodies of one batch that are not stored yet. Runs on the committer's thread.
    ///
    /// After an error nothing is known about what was written: the store is opened anew.
    pub(super) fn store(&self, bodies: &[(BodyHash, Bytes)], held: Option<BodySpace>) -> Result<(), Error> {
        let _writing = locked(&self.writing);
        let wanted: Vec<&(BodyHash, Bytes)> = {
            let inner = locked(&self.inner);
            if inner.broken {
                return Err(Error::Stopped);
            }
            let mut seen = HashSet::new();
            let new = |(hash, _): &&(BodyHash, Bytes)| {
                !inner.index.contains_key(&short(hash)) && seen.insert(short(hash))
            };
            bodies.iter().filter(new).collect()
        };
        let bytes = wanted.iter().map(|(_, body)| entry_bytes(body.len() as u64)).sum();
        if bytes == 0 {
            return Ok(());
        }
        let id = self.take_place(bytes, held)?;
        self.append(id, &wanted)
    }

    /// Appends entries to a file that has room for them, and syncs it. The caller holds `writing`.
    fn append(&self, id: u32, bodies: &[&(BodyHash, Bytes)]) -> Result<(), Error> {
        let (file, start, durable) = {
            let inner = locked(&self.inner);
            let file = &inner.files[&id];
            (Arc::clone(&file.file), file.used, file.durable)
        };
        let mut buffer = Vec::new();
        let mut places = Vec::with_capacity(bodies.len());
        for (hash, body) in bodies {
            let offset = start + buffer.len() as u64;
            let length = u32::try_from(body.len()).expect("a body is below 16 MiB");
            buffer.extend_from_slice(&Header { erased: false, length, durable, hash: *hash }.encode());
            buffer.extend_from_slice(body);
            buffer.resize(buffer.len().next_multiple_of(entry::ALIGN as usize), 0);
            let sector = u32::try_from(offset / entry::ALIGN).expect("a file is below 2 TiB");
            places.push((short(hash), Place { file: id, sector, length }));
        }
        let name = layout::bodies_name(id);
        write_all_at(&*file, start, &buffer).map_err(|error| Error::io("write", &name, error))?;
        file.sync().map_err(|error| Error::io("sync", &name, error))?;
        let mut inner = locked(&self.inner);
        let end = start + buffer.len() as u64;
        let file = inner.files.get_mut(&id).expect("a file that is written to stays");
        file.used = end;
        file.durable = end;
        inner.index.extend(places);
        Ok(())
    }
}

impl Bodies {
    /// Pins everything that is stored now, for a backup: nothing of it is collected meanwhile. Cost: O(bodies).
    #[must_use]
    pub fn pin_all(self: &Arc<Self>) -> Pins {
        let mut inner = locked(&self.inner);
        let hashes: Vec<Short> = inner.index.keys().copied().collect();
        for hash in &hashes {
            *inner.pins.entry(*hash).or_insert(0) += 1;
        }
        Pins { bodies: Arc::clone(self), hashes }
    }
}

impl Pins {
    /// Keeps the body of that hash; answers whether it is stored already.
    pub(super) fn add(&mut self, hash: &BodyHash) -> bool {
        let short = short(hash);
        let mut inner = locked(&self.bodies.inner);
        *inner.pins.entry(short).or_insert(0) += 1;
        if let Some(touched) = &mut inner.touched {
            touched.insert(short);
        }
        self.hashes.push(short);
        inner.index.contains_key(&short)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.hashes.is_empty() {
            return;
        }
        let mut inner = locked(&self.bodies.inner);
        for hash in &self.hashes {
            if let Some(count) = inner.pins.get_mut(hash) {
                *count -= 1;
                if *count == 0 {
                    inner.pins.remove(hash);
                }
            }
        }
    }
}

/// The bytes of a body; `None` if the file ends before them.
fn read_body(file: &dyn DiskFile, place: Place) -> std::io::Result<Option<Vec<u8>>> {
    let mut body = vec![0; place.length as usize];
    let read = read_full_at(file, place.offset() + HEADER_BYTES as u64, &mut body)?;
    Ok((read == body.len()).then_some(body))
}

#[cfg(test)]
mod tests;
