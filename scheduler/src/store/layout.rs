//! Names of the files in the state folder, and how files of a fixed size are made.
//!
//! ```text
//! <state>/                 0700, files 0600
//!   lock                   held by the owner, names its process
//!   identity               lineage of all files here
//!   journal-0000000001.seg …            the journal (package journal)
//!   snapshot-00000000000000001234.frames   the state after that frame; two are kept
//!   bodies-0000000001.dat …             scripts and environments
//!   bodies-0000000001.list …            what a full one of them holds; derived
//!   history-FIRST-LAST.frames           finished jobs of those frames
//!   suspects               inputs that made the machine assert
//!   index/                 sled; may be deleted while the scheduler is down
//! ```
//! The folder is flat, so that one modelled disk, and one power cut, covers all of it.

use std::io;
use std::sync::Arc;

use journal::{Disk, DiskFile, write_zeros};

use super::Error;

/// Files with this ending are unfinished.
pub(super) const UNFINISHED: &str = ".tmp";
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

fn number<T: std::str::FromStr>(digits: &str, width: usize) -> Option<T> {
    (digits.len() >= width && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Name of the snapshot of the state after frame `sequence`.
pub(super) fn snapshot_name(sequence: u64) -> String {
    format!("snapshot-{sequence:020}.frames")
}

/// The frame of a snapshot's name.
pub(super) fn snapshot_of(name: &str) -> Option<u64> {
    number(name.strip_prefix("snapshot-")?.strip_suffix(".frames")?, 20)
}

/// Name of a body file.
pub(super) fn bodies_name(id: u32) -> String {
    format!("bodies-{id:010}.dat")
}

/// The number of a body file's name.
pub(super) fn bodies_of(name: &str) -> Option<u32> {
    number(name.strip_prefix("bodies-")?.strip_suffix(".dat")?, 10)
}

/// Name of the list of what a closed body file holds.
pub(super) fn body_list_name(id: u32) -> String {
    format!("bodies-{id:010}.list")
}

/// The number of the body file in the name of its list.
pub(super) fn body_list_of(name: &str) -> Option<u32> {
    number(name.strip_prefix("bodies-")?.strip_suffix(".list")?, 10)
}

/// Name of the history file with the jobs that frames `first` to `last` ended.
pub(super) fn history_name(first: u64, last: u64) -> String {
    format!("history-{first:020}-{last:020}.frames")
}

/// The frames of a history file's name.
pub(super) fn history_of(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_prefix("history-")?.strip_suffix(".frames")?.split_once('-')?;
    let (first, last) = (number(first, 20)?, number(last, 20)?);
    (first <= last).then_some((first, last))
}

/// Whether a name is of an unfinished file of the store (the journal removes its own).
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| {
        bodies_of(name).is_some()
            || body_list_of(name).is_some()
            || snapshot_of(name).is_some()
            || history_of(name).is_some()
    })
}

/// Whether all bytes are zero.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Makes a durable file of `bytes` zeros under its final name. On failure nothing is left behind, as far as
/// the disk allows.
pub(super) fn make_filled(disk: &dyn Disk, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, Error> {
    let unfinished = format!("{name}{UNFINISHED}");
    remove_if_there(disk, &unfinished)?;
    let made = fill(disk, &unfinished, bytes).and_then(|file| {
        disk.rename(&unfinished, name).map_err(|error| Error::io("rename", &unfinished, error))?;
        Ok(file)
    });
    let file = made.inspect_err(|_| {
        // What cannot be removed now is removed at the next opening.
        let _ = disk.remove(&unfinished);
    })?;
    disk.sync_directory().map_err(|error| {
        // It is not used: its name may be gone after a power cut.
        let _ = disk.remove(name);
        Error::io("sync the folder of", name, error)
    })?;
    Ok(file)
}

fn fill(disk: &dyn Disk, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, Error> {
    let file = disk.create(name).map_err(|error| Error::io("create", name, error))?;
    write_zeros(&*file, 0, bytes).map_err(|error| Error::io("fill", name, error))?;
    file.sync().map_err(|error| Error::io("sync", name, error))?;
    Ok(file)
}

/// Removes a file; that it is not there is no error.
pub(super) fn remove_if_there(disk: &dyn Disk, name: &str) -> Result<(), Error> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", name, error)),
        _ => Ok(()),
    }
}

/// All names in the folder.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    disk.list().map_err(|error| Error::io("list", ".", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_none_of_ours() {
        assert_eq!(snapshot_of(&snapshot_name(7)), Some(7));
        assert_eq!(snapshot_of(&snapshot_name(u64::MAX)), Some(u64::MAX));
        assert_eq!(bodies_of(&bodies_name(3)), Some(3));
        assert_eq!(body_list_of(&body_list_name(3)), Some(3));
        assert!(bodies_of(&body_list_name(3)).is_none() && body_list_of(&bodies_name(3)).is_none());
        assert_eq!(history_of(&history_name(1, 9)), Some((1, 9)));
        for name in ["snapshot-7.frames", "history-9-1.frames", &history_name(9, 1), "bodies-1.dat", "lock"] {
            assert!(snapshot_of(name).is_none() && bodies_of(name).is_none() && history_of(name).is_none());
        }
        assert!(is_unfinished(&format!("{}.tmp", bodies_name(1))));
        assert!(!is_unfinished("x.tmp") && !is_unfinished(&bodies_name(1)));
    }
}
