//! Where the processes of steps are gathered: a cgroup2 directory for tracking and killing.
//!
//! Only that for now; limits on resources will be further implementations of [`Limits`]. Where no directory
//! can be made the node says so, and supervisors track by descent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What holds a step to what it was given. One implementation for each kind of hierarchy.
pub trait Limits: Send + Sync {
    /// What it cannot enforce, a sentence each, for the node's facts.
    fn lacks(&self) -> Vec<String>;
}

/// Limits nothing, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLimits;

impl Limits for NoLimits {
    fn lacks(&self) -> Vec<String> {
        vec![
            "memory limits are not enforced".to_owned(),
            "jobs are not bound to their CPUs".to_owned(),
            "jobs can open devices that they were not given".to_owned(),
        ]
    }
}

/// The folder below which each run gets a cgroup2 directory of its own.
#[derive(Clone, Debug)]
pub struct Base {
    path: PathBuf,
}

impl Base {
    /// Makes (or finds again) the folder `name` below this process's own cgroup.
    ///
    /// # Errors
    /// No cgroup2 file system, or no right to make a directory in it: a sentence for the node's facts.
    pub fn make(name: &str) -> Result<Self, String> {
        let mount = mount_point(&read("/proc/self/mountinfo")?)
            .ok_or_else(|| "no cgroup2 file system is mounted".to_owned())?;
        let own = own_cgroup(&read("/proc/self/cgroup")?).unwrap_or_else(|| "/".to_owned());
        // A cgroup namespace can show a path that is not below the mount point; the mount's top is then ours.
        let below = mount.join(own.trim_start_matches('/'));
        let parent = if below.join("cgroup.procs").exists() { below } else { mount };
        let path = parent.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(format!("no cgroup can be made below {}: {error}", parent.display()))
            }
            _ => Ok(Self { path }),
        }
    }

    /// The directory of one run, to be made by its supervisor.
    #[must_use]
    pub fn of_run(&self, folder_name: &str) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        self.path.join(folder_name).as_os_str().as_bytes().to_vec()
    }

    /// Removes the folder if no run is left in it.
    pub fn remove_if_empty(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Kills everything in a run's directory and removes it. Blocking, at most `patience`.
pub fn kill(path: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    while path.exists() {
        let _ = fs::write(path.join("cgroup.kill"), "1");
        remove_below(path);
        if Instant::now() > deadline {
            tracing::error!(path = %path.display(), "processes in this cgroup do not die");
            return;
        }
        if path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// First mount of type cgroup2.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        rest.starts_with("cgroup2 ").then_some(())?;
        fields.split(' ').nth(4).map(PathBuf::from)
    })
}

/// The path of the process in the v2 hierarchy.
fn own_cgroup(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{mount_point, own_cgroup};
    use std::path::PathBuf;

    #[test]
    fn finds_mount_and_place() {
        let text = "31 30 0:27 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n\
                    32 31 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
        assert_eq!(own_cgroup("2:cpu:/a\n0::/b/c\n").as_deref(), Some("/b/c"));
    }
}
