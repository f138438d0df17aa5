//! The step's directories in version 1 hierarchies, and what the kernel counts for the step in either version.
//!
//! The executor decides paths and values; here they are made, joined, read and removed, nothing else. Without
//! directories every function returns at once: a node without cgroups pays nothing.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use executor_supervisor::spec::{Group, Setting};
use nix::libc;

use crate::sys;

/// The kernel lets go of a directory an instant after its last process was waited for.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

struct Joined {
    path: PathBuf,
    own: bool,
    /// `cgroup.procs`, open for writing: a child needs one call to join.
    procs: OwnedFd,
}

/// See the module comment.
#[derive(Default)]
pub(crate) struct Groups {
    joined: Vec<Joined>,
}

impl Groups {
    /// Makes the step's own directories and writes their values.
    ///
    /// # Errors
    /// A sentence: what was to limit the step could not be set up. What was made is removed.
    pub(crate) fn make(groups: &[Group]) -> Result<Self, String> {
        let mut made = Self::default();
        for group in groups {
            let path = Path::new(std::ffi::OsStr::from_bytes(&group.path)).to_owned();
            match enter(&path, group) {
                Ok(procs) => made.joined.push(Joined { path, own: group.own, procs }),
                Err(sentence) => {
                    if group.own {
                        remove(&path);
                    }
                    made.remove();
                    return Err(sentence);
                }
            }
        }
        Ok(made)
    }

    /// Puts the calling process into all of them.
    pub(crate) fn join(&self) -> Result<(), String> {
        for group in &self.joined {
            sys::write(group.procs.as_fd(), b"0")
                .map_err(|error| format!("cannot enter {}: {error}", group.path.display()))?;
        }
        Ok(())
    }

    /// Removes the step's own, which must be empty.
    pub(crate) fn remove(&self) {
        self.joined.iter().filter(|group| group.own).for_each(|group| remove(&group.path));
    }

    /// Stops or lets go on by the freezer; false where the step has none.
    pub(crate) fn freeze(&self, stop: bool) -> bool {
        let state: &[u8] = if stop { b"FROZEN" } else { b"THAWED" };
        let mut files =
            self.joined.iter().filter(|group| group.own).map(|group| group.path.join("freezer.state"));
        files.any(|file| file.exists() && fs::write(file, state).is_ok())
    }

    /// One directory of the step's own, to find its processes by.
    pub(crate) fn own(&self) -> Option<&Path> {
        self.joined.iter().find(|group| group.own).map(|group| &*group.path)
    }
}

fn enter(path: &Path, group: &Group) -> Result<OwnedFd, String> {
    if group.own {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    apply(path, &group.settings)?;
    let procs = path.join("cgroup.procs");
    let name = std::ffi::CString::new(procs.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    sys::open(&name, libc::O_WRONLY, 0).map_err(|error| format!("cannot open {}: {error}", procs.display()))
}

/// Writes values into the files of a directory.
pub(crate) fn apply(path: &Path, settings: &[Setting]) -> Result<(), String> {
    for setting in settings {
        let file = path.join(std::ffi::OsStr::from_bytes(&setting.file));
        fs::write(&file, &setting.value).map_err(|error| {
            let value = String::from_utf8_lossy(&setting.value);
            format!("cannot write {value} to {}: {error}", file.display())
        })?;
    }
    Ok(())
}

/// Removes an empty directory, within a moment. One that cannot be removed is left to the executor's next start.
pub(crate) fn remove(path: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(REMOVE_PAUSE),
            _ => return,
        }
    }
}

/// Where a step's memory is counted.
pub(crate) struct Memory {
    pub(crate) path: PathBuf,
    /// By version 2's files.
    pub(crate) unified: bool,
}

impl Memory {
    /// Processes that the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        field(&self.path.join(file), "oom_kill ").unwrap_or(0)
    }
}

/// What counts the CPU time of a cgroup2 directory.
pub(crate) fn cpu_counter(cgroup: &Path) -> Option<File> {
    File::open(cgroup.join("cpu.stat")).ok()
}

/// User and system time of everything that ever was in the counter's directory, µs.
pub(crate) fn cpu_times(counter: &File) -> Option<(u64, u64)> {
    // Both are among the first lines.
    let mut buffer = [0; 512];
    let count = counter.read_at(&mut buffer, 0).ok()?;
    let text = String::from_utf8_lossy(&buffer[..count]);
    Some((number(&text, "user_usec ")?, number(&text, "system_usec ")?))
}

fn field(file: &Path, name: &str) -> Option<u64> {
    number(&fs::read_to_string(file).ok()?, name)
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
