//! The few file operations that a log needs, as a trait, so that power cuts can be modelled.
//!
//! A disk is one flat folder: names have no slash. The trait never retries, never buffers and decides nothing.
//!
//! What a disk promises: bytes written are durable once [`DiskFile::sync`] has answered `Ok`; until then any subset
//! of their 512-byte units may survive a power cut. Names made, changed or removed are durable once
//! [`Disk::sync_directory`] has answered `Ok`. After a failed sync nothing is known about what was written, and a
//! second sync proves nothing (the kernel may have dropped the pages).

use std::io;
use std::sync::Arc;

/// A folder with files. Handles are shared between threads: the owner of the log, a filler, snapshot makers.
pub trait Disk: Send + Sync {
    /// Makes the caller the only writer of the log in this folder.
    ///
    /// Contract: once this has answered `Ok`, writes by an earlier owner are impossible or fail.
    fn lock(&self) -> Result<Box<dyn Ownership>, LockError>;
    /// Names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; `AlreadyExists` if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name; readers that have the file open keep their data.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that could still be written to new files, for reports only (others may take them).
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file; positioned reads and writes only.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes some of `bytes` at `offset` and says how many; may write less than asked.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes everything written so far durable, the size included (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// All of it will be read soon, in order: a hint, which may do nothing and never fails.
    fn read_ahead(&self) {}
}

/// The right to write; given back when dropped.
pub trait Ownership: Send {
    /// Whether this owner still is the one. Cheap: asked around every append.
    fn is_current(&self) -> io::Result<bool>;
}

/// Why a folder could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else holds it.
    Held {
        /// The holder's process id, if the lock file tells.
        pid: Option<u32>,
    },
    /// The lock file could not be made or locked.
    Io(io::Error),
}

/// Writes all of `bytes`, going on after short writes.
pub fn write_all_at(file: &dyn DiskFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset` on; answers how many bytes there were before the end of the file.
pub fn read_full_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(offset + done as u64, &mut buffer[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
