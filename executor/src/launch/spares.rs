//! Run folders of runs that are over, kept for the next run of the same user.
//!
//! On ext4 a new inode costs most of a millisecond while many were deleted in the last seconds, more than all
//! else that the executor does for a short job. So folders and files are used again: renamed and overwritten. A
//! script belongs to its submitter, who may still hold it open: a folder goes to the same user and group only.
//! Spare folders have names that are no run's; a start removes those of before. A specification holds a job's
//! environment, tokens included: it is written over when its folder becomes a spare.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use executor_supervisor::{BLANK_FILE, OUTCOME_FILE, SOCKET_FILE, SPEC_FILE};

/// How the names of spare folders begin.
pub const SPARE_PREFIX: &str = ".spare-";
const SPARES_PER_USER: usize = 64;
const SPARES_MAX: usize = 256;

#[derive(Debug, Default)]
struct Pool {
    by_user: HashMap<(u32, u32), Vec<PathBuf>>,
    count: usize,
    made: u64,
}

/// See the module comment.
#[derive(Debug, Default)]
pub struct Spares {
    pool: Mutex<Pool>,
}

impl Spares {
    /// A folder whose files are this user's to be overwritten.
    #[must_use]
    pub fn take(&self, uid: u32, gid: u32) -> Option<PathBuf> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = pool.by_user.get_mut(&(uid, gid))?.pop()?;
        pool.count -= 1;
        Some(spare)
    }

    /// A name for one more, if there is room.
    fn name(&self, uid: u32, gid: u32) -> Option<String> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let own = pool.by_user.get(&(uid, gid)).map_or(0, Vec::len);
        if own >= SPARES_PER_USER || pool.count >= SPARES_MAX {
            return None;
        }
        pool.made += 1;
        Some(format!("{SPARE_PREFIX}{}", pool.made))
    }

    fn put(&self, uid: u32, gid: u32, spare: PathBuf) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.count += 1;
        pool.by_user.entry((uid, gid)).or_default().push(spare);
    }

    /// Takes the folder of a run that is over and was acknowledged: kept, or removed. Blocking.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn collect(&self, folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        if let Some((uid, gid)) = owner
            && let Some(name) = self.name(uid, gid)
        {
            let spare = folder.with_file_name(name);
            if clean(folder).and_then(|()| fs::rename(folder, &spare)).is_ok() {
                self.put(uid, gid, spare);
                return Ok(());
            }
        }
        fs::remove_dir_all(folder)
    }
}

/// Leaves what a run overwrites. A run without an outcome is not worth it.
fn clean(folder: &Path) -> io::Result<()> {
    forget(&folder.join(SPEC_FILE))?;
    fs::rename(folder.join(OUTCOME_FILE), folder.join(BLANK_FILE))?;
    match fs::remove_file(folder.join(SOCKET_FILE)) {
        // A script that was over at once had none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Writes nothing over all that a file holds. Its length stays, and so its place on the disk: a file that is cut and grows
/// again costs the file system more than all of this. Cost: four system calls, about 10 µs.
fn forget(file: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    const BLANK: [u8; 16 << 10] = [0; 16 << 10];
    let mut left = length;
    while left > 0 {
        let count = left.min(BLANK.len());
        file.write_all(&BLANK[..count])?;
        left -= count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_folder_remembers_nothing_of_its_last_run() {
        let place = std::env::temp_dir().join(format!("sluice-spares-{}", std::process::id()));
        let folder = place.join("7.batch.1");
        fs::create_dir_all(&folder).unwrap();
        let spec = ["TOKEN=secret;"; 3000].concat();
        fs::write(folder.join(SPEC_FILE), &spec).unwrap();
        fs::write(folder.join(OUTCOME_FILE), "outcome").unwrap();
        let spares = Spares::default();
        spares.collect(&folder, Some((1, 2))).unwrap();
        assert!(spares.take(2, 1).is_none(), "nobody else's");
        let spare = spares.take(1, 2).unwrap();
        assert_eq!(fs::read(spare.join(SPEC_FILE)).unwrap(), vec![0; spec.len()]);
        fs::remove_dir_all(&place).unwrap();
    }
}
