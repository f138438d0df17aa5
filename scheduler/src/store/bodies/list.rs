//! What a closed body file holds, in a small file beside it: so that opening reads one list and not a header for each
//! body.
//!
//! ```text
//! offset size
//!      0    8  magic "SLULIST", 1
//!      8    4  number of the body file
//!     12    4  number of entries
//!     16    8  end of the last entry in the body file
//!     24 24*n  entries: first half of the hash, sector, length (4 bytes each)
//!      …   32  BLAKE3 hash of everything before
//! ```
//! A list is derived: missing or damaged, it is made anew from the headers. It is never wrong: it is written when nothing
//! more is appended to its file, and it goes, durably, before anything in its file is erased.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use journal::{Disk, read_full_at, write_all_at};

use super::{Bodies, Inner, Place, Short, layout, locked};
use crate::store::Error;

const MAGIC: [u8; 8] = *b"SLULIST\x01";
const HEAD_BYTES: usize = 24;
const ENTRY_BYTES: usize = 24;
const HASH_BYTES: usize = 32;
/// A list that says it is larger is not read: a file of 2 GiB full of the smallest bodies.
const LIST_MAX: u64 = 128 << 20;

/// A list that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    /// End of the last entry in the body file.
    pub(super) end: u64,
    /// The bodies that are wanted.
    pub(super) entries: Vec<(Short, Place)>,
}

impl List {
    fn encode(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES + HASH_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&id.to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("a file has fewer entries than sectors");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        for (hash, place) in &self.entries {
            bytes.extend_from_slice(hash);
            bytes.extend_from_slice(&place.sector.to_le_bytes());
            bytes.extend_from_slice(&place.length.to_le_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// The list in these bytes; `None` if they are not what was written for that file.
    fn decode(bytes: &[u8], id: u32) -> Option<Self> {
        let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
        let (head, entries) = content.split_at_checked(HEAD_BYTES)?;
        let word = |bytes: &[u8], at: usize| {
            bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes)
        };
        let count = word(head, 12)? as usize;
        let sound = head[..8] == MAGIC
            && word(head, 8)? == id
            && entries.len() == count.checked_mul(ENTRY_BYTES)?
            && blake3::hash(content).as_bytes() == hash;
        if !sound {
            return None;
        }
        let end = u64::from(word(head, 16)?) | u64::from(word(head, 20)?) << 32;
        let entry = |bytes: &[u8]| {
            let short = Short::try_from(&bytes[..16]).ok()?;
            Some((short, Place { file: id, sector: word(bytes, 16)?, length: word(bytes, 20)? }))
        };
        let entries = entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>()?;
        Some(Self { end, entries })
    }
}

/// The list of a body file; `None` if there is none that can be used.
///
/// # Errors
/// The operating system's word, other than that it is not there.
pub(super) fn read(disk: &dyn Disk, id: u32) -> Result<Option<List>, Error> {
    let name = layout::body_list_name(id);
    let failed = |error| Error::io("read", &name, error);
    let file = disk.open(&name).map_err(failed)?;
    let size = file.size().map_err(failed)?;
    if size > LIST_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).expect("below 128 MiB")];
    let read = read_full_at(&*file, 0, &mut bytes).map_err(failed)?;
    Ok(List::decode(&bytes[..read], id))
}

fn write(disk: &dyn Disk, id: u32, list: &List) -> Result<(), Error> {
    let name = layout::body_list_name(id);
    let unfinished = format!("{name}{}", layout::UNFINISHED);
    layout::remove_if_there(disk, &unfinished)?;
    let written = disk.create(&unfinished).and_then(|file| {
        write_all_at(&*file, 0, &list.encode(id))?;
        file.sync()?;
        disk.rename(&unfinished, &name)
    });
    written.map_err(|error| {
        // What cannot be removed now is removed at the next opening.
        let _ = disk.remove(&unfinished);
        Error::io("write", &name, error)
    })
}

impl Inner {
    /// Files to which nothing more is appended and that have no list.
    fn unlisted(&self) -> impl Iterator<Item = u32> {
        let closed = self.files.range(..self.current);
        closed.filter(|(_, file)| file.used > 0 && !file.listed).map(|(id, _)| *id)
    }
}

impl Bodies {
    /// Whether a closed file has no list yet.
    pub(super) fn wants_lists(&self) -> bool {
        locked(&self.inner).unlisted().next().is_some()
    }

    /// Writes the lists of closed files that have none, unless a collection is under way, which does so when it ends.
    /// Not having them costs time at the next start and nothing else.
    ///
    /// # Errors
    /// The operating system's word.
    pub(super) fn write_lists(&self) -> Result<(), Error> {
        match self.listing.try_lock() {
            Ok(_listing) => self.write_lists_in_turn(),
            Err(std::sync::TryLockError::WouldBlock) => Ok(()),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                let _listing = PoisonError::into_inner(poisoned);
                self.write_lists_in_turn()
            }
        }
    }

    /// The caller holds `listing`: nothing is erased meanwhile, so what the index says stays true.
    pub(super) fn write_lists_in_turn(&self) -> Result<(), Error> {
        let mut lists: BTreeMap<u32, List> = BTreeMap::new();
        {
            let inner = locked(&self.inner);
            for id in inner.unlisted() {
                lists.insert(id, List { end: inner.files[&id].used, entries: Vec::new() });
            }
            if lists.is_empty() {
                return Ok(());
            }
            // In any order: they are sorted below.
            inner.index.iter().for_each(|(hash, place)| {
                if let Some(list) = lists.get_mut(&place.file) {
                    list.entries.push((*hash, *place));
                }
            });
        }
        for (id, list) in &mut lists {
            list.entries.sort_unstable_by_key(|(_, place)| place.sector);
            write(&*self.disk, *id, list)?;
        }
        let failed = |error| Error::io("sync the folder of", "lists of bodies", error);
        self.disk.sync_directory().map_err(failed)?;
        let mut inner = locked(&self.inner);
        for id in lists.keys() {
            if let Some(file) = inner.files.get_mut(id) {
                file.listed = true;
            }
        }
        Ok(())
    }

    /// Takes the lists of these files away, durably, before anything in the files is erased. The caller holds `listing`.
    pub(super) fn remove_lists(&self, ids: impl Iterator<Item = u32>) -> Result<(), Error> {
        let mut removed = false;
        for id in ids {
            let listed = {
                let mut inner = locked(&self.inner);
                inner.files.get_mut(&id).is_some_and(|file| std::mem::take(&mut file.listed))
            };
            if listed {
                layout::remove_if_there(&*self.disk, &layout::body_list_name(id))?;
                removed = true;
            }
        }
        if removed {
            let failed = |error| Error::io("sync the folder of", "lists of bodies", error);
            self.disk.sync_directory().map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_every_flipped_bit_is_seen() {
        let place = |sector| Place { file: 7, sector, length: 1000 + sector };
        let list = List { end: 1 << 33, entries: vec![([1; 16], place(0)), ([2; 16], place(9))] };
        let bytes = list.encode(7);
        assert_eq!(List::decode(&bytes, 7), Some(list));
        assert_eq!(List::decode(&bytes, 8), None, "of another file");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(List::decode(&flipped, 7), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(List::decode(&bytes[..cut], 7), None, "cut at {cut}");
        }
    }
}
