//! All processes of the step: by a cgroup2 directory where one can be made, else by descent.
//!
//! The supervisor is a subreaper outside the directory, so "no child left" always means "no process
//! left" and needs no search. A search happens only to signal. A process that was moved out of the
//! directory is still a descendant and is found too.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::sys;

/// The step's processes.
pub(crate) struct Tree {
    cgroup: Option<(OwnedFd, PathBuf)>,
}

impl Tree {
    /// Makes the cgroup at `path`; an empty path, or a failure, means none. The failure is told.
    pub(crate) fn make(path: &[u8]) -> (Self, Option<io::Error>) {
        if path.is_empty() {
            return (Self { cgroup: None }, None);
        }
        match open_cgroup(path) {
            Ok(cgroup) => (Self { cgroup: Some(cgroup) }, None),
            Err(error) => (Self { cgroup: None }, Some(error)),
        }
    }

    /// Where children are to be started.
    pub(crate) fn cgroup(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(|(fd, _)| fd.as_fd())
    }

    /// Forgets the cgroup: the kernel would not start a child in it.
    pub(crate) fn give_cgroup_up(&mut self) {
        self.remove();
        self.cgroup = None;
    }

    /// Sends a signal to every process but `helpers`, the supervisor's own.
    pub(crate) fn signal(&self, signal: i32, helpers: &[i32]) {
        for pid in self.pids() {
            if !helpers.contains(&pid) {
                sys::kill(pid, signal);
            }
        }
    }

    /// Kills everything that is there now but `helpers`. What forks meanwhile is met by the next call.
    pub(crate) fn kill(&self, helpers: &[i32]) {
        if let Some((_, path)) = &self.cgroup {
            let _ = std::fs::write(path.join("cgroup.kill"), "1");
        }
        for pid in descendants() {
            if !helpers.contains(&pid) {
                sys::kill(pid, libc::SIGKILL);
            }
        }
    }

    /// Stops or continues everything.
    pub(crate) fn freeze(&self, stop: bool, helpers: &[i32]) {
        if let Some((_, path)) = &self.cgroup {
            let text = if stop { "1" } else { "0" };
            if std::fs::write(path.join("cgroup.freeze"), text).is_ok() {
                return;
            }
        }
        // Twice: a process may have forked during the first search.
        for _ in 0..2 {
            self.signal(if stop { libc::SIGSTOP } else { libc::SIGCONT }, helpers);
        }
    }

    /// Removes the empty cgroup.
    pub(crate) fn remove(&self) {
        if let Some((_, path)) = &self.cgroup {
            remove_below(path);
        }
    }

    fn pids(&self) -> Vec<i32> {
        let mut pids = descendants();
        if let Some((_, path)) = &self.cgroup {
            collect_members(path, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

fn open_cgroup(path: &[u8]) -> io::Result<(OwnedFd, PathBuf)> {
    use std::os::unix::ffi::OsStrExt;
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = CString::new(path).map_err(|_| invalid())?;
    match sys::make_dir(&name, 0o755) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let fd = sys::open(&name, libc::O_DIRECTORY | libc::O_RDONLY, 0)?;
    Ok((fd, Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()))
}

fn collect_members(path: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(path.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    each_folder(path, |folder| collect_members(folder, pids));
}

fn remove_below(path: &Path) {
    each_folder(path, remove_below);
    let _ = std::fs::remove_dir(path);
}

fn each_folder(path: &Path, mut act: impl FnMut(&Path)) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            act(&entry.path());
        }
    }
}

/// Every descendant of this process, from one pass over `/proc`.
fn descendants() -> Vec<i32> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![sys::own_pid()];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, above)| *above == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Field 4 of `stat`; the name in field 2 may hold anything, so it is counted from the last bracket.
fn parent_of(pid: i32) -> Option<i32> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(text.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie counts: it may be a leader whose threads live on.
    fields.next();
    fields.next()?.parse().ok()
}
