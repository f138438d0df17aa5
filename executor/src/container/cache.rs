//! Images that were converted or unpacked on this node, kept for the next job of the same user.
//!
//! ```text
//!  PLACE/images/UID/ENTRY (the user's, 0700 above)   PLACE/used/UID.ENTRY (its size; its mtime is the last use)
//! ```
//!
//! An entry is named by the digest of what it was made from. It is made with the submitter's rights and therefore
//! never run for anybody else: who made it could have put anything into it. Entries of runs that are known are
//! not collected. Blocking, but for the locks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::key::Key;

/// See the module comment.
#[derive(Debug)]
pub struct Cache {
    place: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One lock for each entry that is being made.
    making: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// What runs use.
    in_use: HashMap<Key, String>,
    /// Names of folders that are being made or removed.
    made: u64,
}

/// A user's entry, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub uid: u32,
    /// The digest, and what makes it differ.
    pub name: String,
}

impl Entry {
    fn id(&self) -> String {
        format!("{}.{}", self.uid, self.name)
    }
}

impl Cache {
    /// A cache below `place`, made where it is missing; what an earlier executor left half made is removed.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn open(place: &Path, limit_bytes: u64) -> io::Result<Self> {
        for name in ["images", "used"] {
            fs::create_dir_all(place.join(name))?;
        }
        // Users pass through, and see nothing.
        fs::set_permissions(place.join("images"), fs::Permissions::from_mode(0o711))?;
        let cache = Self { place: place.to_owned(), limit_bytes, state: Mutex::default() };
        for user in fs::read_dir(place.join("images"))? {
            for entry in fs::read_dir(user?.path())?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(".new-") {
                    remove(&entry.path());
                }
            }
        }
        Ok(cache)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a user's entries are, made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder_of(&self, uid: u32, gid: u32) -> io::Result<PathBuf> {
        let folder = self.place.join("images").join(uid.to_string());
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if fs::metadata(&folder)?.uid() != uid {
            chown(&folder, Some(uid), Some(gid))?;
        }
        Ok(folder)
    }

    /// Where the entry is, whether it was made or not.
    #[must_use]
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.place.join("images").join(entry.uid.to_string()).join(&entry.name)
    }

    /// A name for an entry that is being made, in its user's folder.
    #[must_use]
    pub fn unfinished(&self, entry: &Entry) -> PathBuf {
        let mut state = self.state();
        state.made += 1;
        let name = format!(".new-{}-{}", std::process::id(), state.made);
        self.place.join("images").join(entry.uid.to_string()).join(name)
    }

    /// The lock under which an entry is made.
    #[must_use]
    pub fn lock(&self, entry: &Entry) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state();
        state.making.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(state.making.entry(entry.id()).or_default())
    }

    /// Whether it is there; notes its use for `run`.
    pub fn take(&self, run: Key, entry: &Entry) -> bool {
        self.state().in_use.insert(run, entry.id());
        let there = self.path(entry).exists();
        if there {
            let used = File::options().write(true).open(self.place.join("used").join(entry.id()));
            // Nothing but the order of collection is lost.
            let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
        }
        there
    }

    /// The run is over.
    pub fn release(&self, run: Key) {
        self.state().in_use.remove(&run);
    }

    /// A run that an earlier executor started uses the image at `path`.
    pub fn hold(&self, run: Key, path: &Path) {
        let Ok(rest) = path.strip_prefix(self.place.join("images")) else { return };
        let mut parts = rest.components().map(|part| part.as_os_str().to_string_lossy());
        if let (Some(uid), Some(name)) = (parts.next(), parts.next()) {
            self.state().in_use.insert(run, format!("{uid}.{name}"));
        }
    }

    /// Takes what was made at `from` for the entry, then makes room. Gives its size.
    ///
    /// # Errors
    /// The disk.
    pub fn put(&self, entry: &Entry, from: &Path) -> io::Result<u64> {
        let path = self.path(entry);
        if path.exists() {
            remove(&path);
        }
        fs::rename(from, &path)?;
        let size = size_of(&path);
        fs::write(self.place.join("used").join(entry.id()), format!("{size}\n"))?;
        self.make_room();
        Ok(size)
    }

    /// Notes the size of what a user's Apptainer keeps for itself, then makes room.
    pub fn note_own(&self, entry: &Entry) {
        let size = size_of(&self.path(entry));
        if let Err(error) = fs::write(self.place.join("used").join(entry.id()), format!("{size}\n")) {
            tracing::warn!(%error, "the size of a user's image cache could not be noted");
        }
        self.make_room();
    }

    /// Removes entries that no known run uses, the longest unused first, until the rest is within the limit.
    pub fn make_room(&self) {
        let used = self.place.join("used");
        let mut entries: Vec<(SystemTime, u64, String)> = Vec::new();
        for file in fs::read_dir(&used).into_iter().flatten().flatten() {
            let size = fs::read_to_string(file.path()).ok().and_then(|text| text.trim().parse().ok());
            let last = file.metadata().and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if let Ok(name) = file.file_name().into_string() {
                entries.push((last, size.unwrap_or(0), name));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, id) in entries {
            if total <= self.limit_bytes {
                return;
            }
            let state = self.state();
            if state.in_use.values().any(|used| *used == id) || state.making.contains_key(&id) {
                continue;
            }
            drop(state);
            let Some((uid, name)) = id.split_once('.') else { continue };
            tracing::info!(entry = id, bytes = size, "an image is removed from the cache");
            remove(&self.place.join("images").join(uid).join(name));
            let _ = fs::remove_file(used.join(&id));
            total = total.saturating_sub(size);
        }
    }
}

/// Bytes on disk, nothing followed.
fn size_of(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    let own = facts.blocks() * 512;
    if !facts.is_dir() {
        return own;
    }
    own + fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum::<u64>()
}

/// Removes a tree. An ordinary user's executor opens folders that the image closes to their owner; root need
/// not, and must not: it would change modes by names that the user can give to something else.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path).or_else(|error| {
            if nix::unistd::geteuid().is_root() {
                return Err(error);
            }
            open_folders(path);
            fs::remove_dir_all(path)
        }),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "an image could not be removed");
    }
}

fn open_folders(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::StepId;

    fn run(job_id: u32) -> Key {
        Key { job_id, step: StepId::Batch, run: 1 }
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_runs_stays() {
        let place = std::env::temp_dir().join(format!("sluice-cache-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        let cache = Cache::open(&place, 300 << 10).unwrap();
        let entry = |name: &str| Entry { uid, name: name.to_owned() };
        let folder = cache.folder_of(uid, gid).unwrap();
        for (age, name) in [(40, "a"), (30, "b"), (20, "c")] {
            let new = cache.unfinished(&entry(name));
            fs::create_dir(&new).unwrap();
            fs::write(new.join("file"), vec![1_u8; 80 << 10]).unwrap();
            assert!(cache.put(&entry(name), &new).unwrap() >= 80 << 10);
            let used = File::options().write(true).open(place.join("used").join(entry(name).id())).unwrap();
            used.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        assert!(cache.take(run(1), &entry("a")), "it is there");
        assert!(!cache.take(run(2), &entry("z")), "it was never made");
        let new = cache.unfinished(&entry("d"));
        fs::write(&new, vec![1_u8; 80 << 10]).unwrap();
        cache.put(&entry("d"), &new).unwrap();
        let there = |name: &str| folder.join(name).exists();
        assert_eq!(["a", "b", "c", "d"].map(there), [true, false, true, true], "b was unused for longest");
        cache.hold(run(3), &folder.join("c"));
        cache.release(run(1));
        let new = cache.unfinished(&entry("e"));
        fs::write(&new, vec![1_u8; 200 << 10]).unwrap();
        cache.put(&entry("e"), &new).unwrap();
        assert_eq!(["a", "c", "d"].map(there), [false, true, false], "c is held");
        fs::write(folder.join(".new-0-1"), "").unwrap();
        drop(Cache::open(&place, 1).unwrap());
        assert!(!there(".new-0-1"));
        fs::remove_dir_all(&place).unwrap();
    }
}
