//! All processes of the step: by a cgroup2 directory where one can be made, else by descent.
//!
//! Directories of version 1 hierarchies hold it to its limits and help to find it (`groups`).
//!
//! The supervisor is a subreaper outside the directory, so "no child left" always means "no process
//! left" and needs no search. A search happens only to signal. A process that was moved out of the
//! directory is still a descendant and is found too.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use executor_supervisor::frame::Usage;
use executor_supervisor::spec::Spec;
use nix::libc;

use crate::groups::{self, Groups, Memory};
use crate::sys::Forked;
use crate::{readback, sys};

/// The step's processes.
#[derive(Default)]
pub(crate) struct Tree {
    cgroup: Option<(OwnedFd, PathBuf)>,
    /// The directory was lent by the executor whose nursery this is the child of.
    lent_by: Option<i32>,
    /// What counts the CPU time there, open: opening it costs more than reading it. Where it was there before.
    counter: Option<File>,
    /// CPU time that was counted there before, user and system, µs.
    before: (u64, u64),
    /// Something was to be killed, and `cgroup.kill` was written there. A kernel since 6.14 then kills whatever is cloned into the directory from outside,
    /// for as long as it exists (it compares how often that was done there and where the parent is).
    killed: Cell<bool>,
    groups: Groups,
    memory: Option<Memory>,
}

/// What came of making a tree.
pub(crate) struct Made {
    pub(crate) tree: Tree,
    /// Something that it does without.
    pub(crate) detail: String,
    /// The step may not be started: a limit could not be set.
    pub(crate) fatal: Option<String>,
    /// What the kernel holds it to, in words.
    pub(crate) held: String,
}

impl Tree {
    /// Makes the step's directories. Without the one that only tracks, it goes by descent; without a limit it
    /// is not to be started.
    pub(crate) fn make(spec: &Spec) -> Made {
        let mut made =
            Made { tree: Self::default(), detail: String::new(), fatal: None, held: String::new() };
        if !spec.cgroup.is_empty() {
            match open_cgroup(&spec.cgroup) {
                Ok((fd, path, found)) => {
                    made.tree.lent_by = spec.cgroup_lent.then(sys::parent_pid);
                    if spec.cgroup_lent && found {
                        made.tree.counter = groups::cpu_counter(&path);
                        let before = made.tree.counter.as_ref().and_then(groups::cpu_times);
                        made.tree.before = before.unwrap_or_default();
                    }
                    made.fatal = groups::apply(&path, &spec.cgroup_settings).err();
                    made.tree.cgroup = Some((fd, path));
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(&spec.cgroup);
                    made.detail = format!("no cgroup {name}: {error}");
                    made.fatal = spec.cgroup_holds.then(|| made.detail.clone());
                }
            }
        }
        if made.fatal.is_none() && !spec.cgroups_v1.is_empty() {
            match Groups::make(&spec.cgroups_v1) {
                Ok(groups) => made.tree.groups = groups,
                Err(sentence) => made.fatal = Some(sentence),
            }
        }
        if !spec.memory_group.is_empty() {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(&spec.memory_group)).to_owned();
            made.tree.memory = Some(Memory { path, unified: spec.cgroup_holds });
        }
        if made.fatal.is_none() {
            match readback::read_back(&spec.readings, &spec.told) {
                Ok(held) => made.held = held,
                Err(sentence) => made.fatal = Some(sentence),
            }
        }
        made
    }

    /// Puts the calling process where the limits are.
    pub(crate) fn join(&self) -> Result<(), String> {
        self.groups.join()
    }

    /// Processes that the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.memory.as_ref().map_or(0, Memory::oom_kills)
    }

    /// User and system time of all processes, µs, where the kernel counts it.
    pub(crate) fn cpu_times(&self) -> Option<(u64, u64)> {
        let path = &self.cgroup.as_ref()?.1;
        let (user_us, system_us) = match &self.counter {
            Some(counter) => groups::cpu_times(counter)?,
            None => groups::cpu_times(&groups::cpu_counter(path)?)?,
        };
        Some((user_us.saturating_sub(self.before.0), system_us.saturating_sub(self.before.1)))
    }

    /// Whether something was to be killed there.
    pub(crate) fn was_killed(&self) -> bool {
        self.killed.get()
    }

    /// Whether there is a directory to start children in.
    pub(crate) fn has_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }

    /// Forks; the child is in the step's cgroup before it goes on. With `sharing` it has this process's table of files, see
    /// [`sys::fork_sharing_files`].
    pub(crate) fn fork(&self, sharing: bool) -> io::Result<Forked> {
        let fork = if sharing { sys::fork_sharing_files } else { sys::fork_into };
        let Some((directory, path)) = &self.cgroup else { return fork(None) };
        if !self.killed.get() {
            return fork(Some(directory.as_fd()));
        }
        let forked = fork(None)?;
        if matches!(forked, Forked::Child) && std::fs::write(path.join("cgroup.procs"), "0").is_err() {
            sys::exit_now(1);
        }
        Ok(forked)
    }

    /// Forgets the cgroup: the kernel would not start a child in it.
    pub(crate) fn give_cgroup_up(&mut self) {
        if let Some((_, path)) = self.cgroup.take() {
            remove_below(&path);
        }
    }

    /// What the living processes use, `helpers` left out; CPU time of their dead children that they waited for too.
    pub(crate) fn usage(&self, helpers: &[i32]) -> Usage {
        let mut usage = Usage::default();
        for pid in self.pids().into_iter().filter(|pid| !helpers.contains(pid)) {
            usage.pids.extend(u32::try_from(pid));
            let Some(process) = look_at(pid) else { continue };
            usage.user_us += process.user_us;
            usage.system_us += process.system_us;
            usage.virtual_bytes += process.virtual_bytes;
            usage.rss_bytes += process.rss_bytes;
            usage.read_bytes += process.read_bytes;
            usage.written_bytes += process.written_bytes;
        }
        usage
    }

    /// Each living process, `helpers` left out. Costs a look at each of them and at none of anybody else's; one that is
    /// being started or is ending meanwhile may be missed.
    pub(crate) fn look(&self, helpers: &[i32]) -> Vec<Process> {
        let mut pids = Vec::new();
        match self.cgroup.as_ref().map(|(_, path)| &**path).or(self.groups.own()) {
            Some(path) => collect_members(path, &mut pids),
            None => pids = offspring(),
        }
        pids.into_iter().filter(|pid| !helpers.contains(pid)).filter_map(look_at).collect()
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
        self.killed.set(true);
        if let Some((_, path)) = &self.cgroup {
            let _ = std::fs::write(path.join("cgroup.kill"), "1");
        } else {
            // A frozen process dies only when it may go on.
            self.groups.freeze(false);
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
        } else if self.groups.freeze(stop) {
            return;
        }
        // Twice: a process may have forked during the first search.
        for _ in 0..2 {
            self.signal(if stop { libc::SIGSTOP } else { libc::SIGCONT }, helpers);
        }
    }

    /// Removes the step's empty directories. One that was lent goes back as it is, unless it was killed: the executor looks
    /// at it, but cannot see that. Whether the executor lives is told by the nursery, which ends with it.
    pub(crate) fn remove(&self) {
        let lives = self.lent_by.is_some_and(|nursery| nursery == sys::parent_pid());
        let goes_back = lives && !self.killed.get();
        if let (Some((_, path)), false) = (&self.cgroup, goes_back) {
            remove_below(path);
        }
        self.groups.remove();
    }

    fn pids(&self) -> Vec<i32> {
        let mut pids = descendants();
        if let Some(path) = self.cgroup.as_ref().map(|(_, path)| &**path).or(self.groups.own()) {
            collect_members(path, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// And whether it was there.
fn open_cgroup(path: &[u8]) -> io::Result<(OwnedFd, PathBuf, bool)> {
    use std::os::unix::ffi::OsStrExt;
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = CString::new(path).map_err(|_| invalid())?;
    let open = || sys::open(&name, libc::O_DIRECTORY | libc::O_RDONLY, 0);
    let (fd, found) = match open() {
        Ok(fd) => (fd, true),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {
            sys::make_dir(&name, 0o755)?;
            (open()?, false)
        }
    };
    Ok((fd, Path::new(std::ffi::OsStr::from_bytes(path)).to_owned(), found))
}

fn collect_members(path: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(path.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    each_folder(path, |folder| collect_members(folder, pids));
}

fn remove_below(path: &Path) {
    // The common case first: the step made no directories of its own.
    if let Err(error) = std::fs::remove_dir(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        each_folder(path, remove_below);
        groups::remove(path);
    }
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

/// The same by asking each process for its children, which costs nothing for processes of others; for looking only, since
/// a child of a process that ends meanwhile is not seen.
fn offspring() -> Vec<i32> {
    let mut found = vec![sys::own_pid()];
    let mut at = 0;
    while at < found.len() {
        let threads = format!("/proc/{}/task", found[at]);
        for thread in std::fs::read_dir(&threads).into_iter().flatten().flatten() {
            match std::fs::read_to_string(thread.path().join("children")) {
                Ok(text) => {
                    found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()))
                }
                // A kernel without that file.
                Err(error) if at == 0 && error.kind() == io::ErrorKind::NotFound => return descendants(),
                Err(_) => {}
            }
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// What one process uses, with what its dead children that it waited for used of CPU time.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    /// Page faults that needed storage.
    pub(crate) pages: u64,
}

/// `None` where it has gone.
fn look_at(pid: i32) -> Option<Process> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(&text[end + 1..]).into_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first field behind the name is number 3.
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (tick_us, page) = sys::units();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let of = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(Process {
        pid,
        parent: fields.get(1).and_then(|text| text.parse().ok()).unwrap_or(0),
        user_us: (field(14) + field(16)) * tick_us,
        system_us: (field(15) + field(17)) * tick_us,
        virtual_bytes: field(23),
        rss_bytes: field(24) * page,
        read_bytes: of("read_bytes:").unwrap_or(0),
        written_bytes: of("write_bytes:").unwrap_or(0),
        pages: field(12) + field(13),
    })
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

/// Whether any process has this one for its parent.
pub(crate) fn has_child(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    match text {
        Ok(children) => !children.trim().is_empty(),
        // A kernel without that file.
        Err(_) => descendants().iter().any(|found| parent_of(*found) == Some(pid)),
    }
}
