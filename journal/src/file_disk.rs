//! The disk of the daemons: a folder of the file system. Files are 0600, the folder 0700.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::disk::{Disk, DiskFile, LockError, Ownership};

const LOCK_NAME: &str = "lock";

/// A folder on a local file system.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    directory: File,
}

impl FileDisk {
    /// Opens `root`, making it (and the folders above it) where it is missing. A new folder is made durable in its parent.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        if !root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
            if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let directory = File::open(&root)?;
        Ok(Self { root, directory })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/'), "a disk is one flat folder: {name}");
        self.root.join(name)
    }
}

impl Disk for FileDisk {
    fn lock(&self) -> Result<Box<dyn Ownership>, LockError> {
        let path = self.path(LOCK_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(LockError::Io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                let text = format!("{}\n", std::process::id());
                lock.set_len(0)
                    .and_then(|()| lock.write_all_at(text.as_bytes(), 0))
                    .map_err(LockError::Io)?;
                Ok(Box::new(FileOwnership { path, lock }))
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // A holder that cannot be named is still a holder.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Err(LockError::Held { pid })
            }
            Err((_, errno)) => Err(LockError::Io(errno.into())),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(name))?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenFile(OpenOptions::new().read(true).write(true).open(self.path(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = nix::sys::statvfs::statvfs(&self.root)?;
        Ok(status.blocks_available() * status.fragment_size())
    }
}

struct OpenFile(File);

impl DiskFile for OpenFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_ahead(&self) {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        // It only begins to read: waits for no more than a place in the disk's queue.
        let _ = posix_fadvise(&self.0, 0, 0, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

struct FileOwnership {
    path: PathBuf,
    lock: Flock<File>,
}

impl Ownership for FileOwnership {
    /// The kernel keeps the lock; what can still go wrong is that somebody replaced the lock file, so that
    /// another process could lock the new one. One `stat` and one `fstat`.
    fn is_current(&self) -> io::Result<bool> {
        let ours = self.lock.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok(named.ino() == ours.ino() && named.dev() == ours.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
