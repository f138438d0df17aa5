//! Segment files: their names, and how one is made so that it can be written without any change of metadata.
//!
//! A segment is filled with zeros under a temporary name, synced, renamed, and its name made durable, before any
//! frame is in it. Files are never used again for another segment, so old frames cannot show.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::Error;
use crate::ids::SegmentId;

/// Files with this ending are unfinished and removed at the next opening.
pub(crate) const UNFINISHED: &str = ".tmp";
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// While a segment is filled, so much is written between two syncs: a frame that is synced meanwhile waits behind no
/// more than that.
const FILL_STEP_BYTES: u64 = 2 * 1024 * 1024;

/// Name of a segment's file.
#[must_use]
pub fn segment_name(id: SegmentId) -> String {
    format!("journal-{:010}.seg", id.0)
}

/// The segment that a file name stands for; `None` for every other file.
pub(crate) fn segment_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".seg")?;
    let id = SegmentId(digits.parse().ok()?);
    (segment_name(id) == name).then_some(id)
}

/// Makes a filled segment. On failure no half-filled file is left behind, as far as the disk allows.
///
/// A segment whose name could not be made durable is not used: it must be made anew, which replaces it and gives
/// it a name that a later sync of the folder is about.
pub(crate) fn make(disk: &dyn Disk, id: SegmentId, bytes: u64) -> Result<Arc<dyn DiskFile>, Error> {
    let name = segment_name(id);
    let unfinished = format!("{name}{UNFINISHED}");
    let made = fill(disk, &unfinished, bytes).and_then(|file| {
        disk.rename(&unfinished, &name).map_err(|error| Error::io("rename", &unfinished, error))?;
        Ok(file)
    });
    let file = made.inspect_err(|_| {
        // Space that is taken by half a segment helps nobody. What cannot be removed is removed at the next opening.
        let _ = disk.remove(&unfinished);
    })?;
    disk.sync_directory().map_err(|error| Error::io("sync the folder of", &name, error))?;
    Ok(file)
}

fn fill(disk: &dyn Disk, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, Error> {
    match disk.remove(name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("remove", name, error)),
    }
    let file = disk.create(name).map_err(|error| Error::io("create", name, error))?;
    let mut offset = 0;
    while offset < bytes {
        let chunk = (bytes - offset).min(ZEROS.len() as u64);
        write_all_at(&*file, offset, &ZEROS[..chunk as usize])
            .map_err(|error| Error::io("fill", name, error))?;
        offset += chunk;
        if offset % FILL_STEP_BYTES == 0 {
            file.sync().map_err(|error| Error::io("sync", name, error))?;
        }
    }
    file.sync().map_err(|error| Error::io("sync", name, error))?;
    Ok(file)
}

/// Overwrites `bytes` from `offset` on with zeros; not synced.
pub fn write_zeros(file: &dyn DiskFile, mut offset: u64, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let chunk = bytes.min(ZEROS.len() as u64);
        write_all_at(file, offset, &ZEROS[..chunk as usize])?;
        offset += chunk;
        bytes -= chunk;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_none_of_ours() {
        assert_eq!(segment_name(SegmentId(7)), "journal-0000000007.seg");
        assert_eq!(segment_of("journal-0000000007.seg"), Some(SegmentId(7)));
        assert_eq!(segment_of(&segment_name(SegmentId(u64::MAX))), Some(SegmentId(u64::MAX)));
        for name in ["journal-7.seg", "journal-0000000007.seg.tmp", "journal-+000000007.seg", "identity"] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }
}
