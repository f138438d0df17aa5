//! Tracking directories that serve one run after the other, while there are runs.
//!
//! Making and removing a cgroup2 directory takes a tenth of the CPU of a short job's supervisor, half of it spinning on the
//! parent's lock, and there is more to do for the kernel's own threads. So a directory that a run has left as it was made
//! is given to the next one. What makes that safe:
//!
//! * It limits nothing and no controller is in it: what it holds is who is in it, whether that is frozen, and CPU time so
//!   far, which the next supervisor subtracts.
//! * It comes back when the run was acknowledged and its folder is gone: nobody kills or freezes by that run's word any more.
//!   A run whose supervisor was lost had its directory killed and removed before.
//! * It is looked at, not trusted: without processes, directories, a freeze, another type or controllers for below. Else it
//!   is removed.
//! * It was never killed: a kernel since 6.14 kills whatever is cloned into a directory that `cgroup.kill` was once written
//!   in. That cannot be read, so the supervisor that wrote it removes the directory, and nothing is left to lend.
//! * Names are numbers that no directory has had since the start, or that the start found.
//!
//! When the last run is over all of them go: an idle node has none.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::place;

/// How their names begin.
const PREFIX: &str = "run_";
const FREE_MAX: usize = 128;

#[derive(Debug, Default)]
struct Held {
    /// Whose they are, by the name of the run's folder.
    out: BTreeMap<String, PathBuf>,
    free: Vec<PathBuf>,
    made: u64,
}

/// See the module comment.
#[derive(Debug)]
pub(super) struct Lent {
    base: PathBuf,
    held: Mutex<Held>,
}

impl Lent {
    /// Directories below `base`; those that are there are somebody's.
    pub(super) fn new(base: PathBuf) -> Self {
        let number = |name: &str| name.strip_prefix(PREFIX)?.parse::<u64>().ok();
        let found = fs::read_dir(&base).into_iter().flatten().flatten();
        let made = found.filter_map(|entry| number(entry.file_name().to_str()?)).max().unwrap_or(0);
        Self { base, held: Mutex::new(Held { made, ..Held::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory for a run: one that is there, or a name for one that its supervisor makes.
    pub(super) fn lend(&self, run: &str) -> PathBuf {
        let mut held = self.lock();
        let path = held.free.pop().unwrap_or_else(|| {
            held.made += 1;
            self.base.join(format!("{PREFIX}{}", held.made))
        });
        held.out.insert(run.to_owned(), path.clone());
        path
    }

    /// The run is over; with `again` its directory may serve the next one. Blocking.
    pub(super) fn back(&self, run: &str, again: bool) {
        // Until it was looked at nobody gets it, and others are not removed for want of runs.
        let Some(path) = self.lock().out.get(run).cloned() else { return };
        let keep = again && is_as_new(&path);
        let mut held = self.lock();
        held.out.remove(run);
        let mut gone = Vec::new();
        if keep && held.free.len() < FREE_MAX {
            held.free.push(path);
        } else {
            gone.push(path);
        }
        if held.out.is_empty() {
            gone.append(&mut held.free);
        }
        drop(held);
        gone.iter().for_each(|path| place::sweep(path, &|_| false));
    }
}

/// Whether a directory is as it was when it was made, but for the CPU time that it has counted. Cost: a look at it and
/// three files; opening one is dear.
fn is_as_new(path: &Path) -> bool {
    let has = |file: &str, line: &str| front(&path.join(file)).lines().any(|found| found == line);
    let events = front(&path.join("cgroup.events"));
    // One without processes is frozen as soon as that is asked for.
    ["populated 0", "frozen 0"].iter().all(|line| events.lines().any(|found| found == *line))
        && is_childless(path)
        && has("cgroup.type", "domain")
        && front(&path.join("cgroup.subtree_control")).trim().is_empty()
}

/// Whether there is no directory in it: each is a link to it by its `..`, beside its own two.
fn is_childless(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|facts| facts.nlink() == 2)
}

/// What a file of the kernel's begins with, in one read; nothing of one that is not there.
fn front(path: &Path) -> String {
    let mut buffer = [0; 512];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut buffer));
    String::from_utf8_lossy(&buffer[..read.unwrap_or(0)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Lent;

    /// Looks like one to `is_as_new`.
    fn make(path: &Path, frozen: &str) {
        fs::create_dir(path).unwrap();
        for (file, text) in [
            ("cgroup.events", &*format!("populated 0\nfrozen {frozen}\n")),
            ("cgroup.type", "domain\n"),
            ("cgroup.subtree_control", "\n"),
        ] {
            fs::write(path.join(file), text).unwrap();
        }
    }

    #[test]
    fn what_is_as_new_serves_the_next_run_and_nothing_else_does() {
        let base = std::env::temp_dir().join(format!("sluice-lent-{}", std::process::id()));
        fs::create_dir_all(base.join("run_41")).unwrap();
        let lent = Lent::new(base.clone());
        let (first, other) = (lent.lend("1.batch.1"), lent.lend("2.batch.1"));
        assert_eq!((&first, &other), (&base.join("run_42"), &base.join("run_43")), "41 is somebody's");
        make(&first, "0");
        lent.back("1.batch.1", true);
        assert_eq!(lent.lend("3.batch.1"), first);
        lent.back("3.batch.1", false);
        assert_eq!(lent.lend("4.batch.1"), base.join("run_44"), "one that came back badly is not used again");
        make(&base.join("run_44"), "1");
        lent.back("4.batch.1", true);
        assert_eq!(lent.lend("5.batch.1"), base.join("run_45"), "nor is a frozen one");
        make(&base.join("run_45"), "0");
        fs::create_dir(base.join("run_45/own")).unwrap();
        lent.back("5.batch.1", true);
        assert!(lent.lock().free.is_empty(), "nor is one with directories of the job's");
        // Never made, and of a run that is not known.
        lent.lend("5.batch.2");
        lent.back("5.batch.2", true);
        lent.back("6.batch.1", true);
        make(&other, "0");
        assert_eq!(lent.lend("7.batch.1"), base.join("run_47"));
        lent.back("2.batch.1", true);
        assert_eq!(lent.lock().free, [other]);
        lent.back("7.batch.1", true);
        assert!(lent.lock().free.is_empty(), "nobody runs");
        fs::remove_dir_all(base).unwrap();
    }
}
