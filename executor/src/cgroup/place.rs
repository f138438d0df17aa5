//! Where hierarchies are mounted and where this process is in them. Reads text; decides nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Mounts and places of this process.
#[derive(Clone, Debug, Default)]
pub struct Places {
    mountinfo: String,
    own: String,
}

impl Places {
    /// Of this process.
    ///
    /// # Errors
    /// `/proc` cannot be read: a sentence.
    pub fn read() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        Ok(Self { mountinfo: read("/proc/self/mountinfo")?, own: read("/proc/self/cgroup")? })
    }

    /// This process's directory in the version 2 hierarchy, and where that is mounted.
    #[must_use]
    pub fn unified(&self) -> Option<(PathBuf, PathBuf)> {
        let mount = unified_mount(&self.mountinfo)?;
        let own = self.own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        Some((below(&mount, own), mount))
    }

    /// This process's directory in the version 1 hierarchy of a controller.
    #[must_use]
    pub fn of_controller(&self, controller: &str) -> Option<PathBuf> {
        let mount = controller_mount(&self.mountinfo, controller)?;
        let own = self.own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let names = parts.next()?;
            names.split(',').any(|name| name == controller).then(|| parts.next())?
        });
        Some(below(&mount, own.unwrap_or("/")))
    }
}

/// A cgroup namespace, or a bind mount, can show a path that is not below the mount point; its top is then ours.
fn below(mount: &Path, own: &str) -> PathBuf {
    let path = mount.join(own.trim_start_matches('/'));
    if path.join("cgroup.procs").exists() { path } else { mount.to_owned() }
}

/// First mount of type cgroup2.
fn unified_mount(mountinfo: &str) -> Option<PathBuf> {
    mounts(mountinfo).find_map(|(point, rest)| rest.starts_with("cgroup2 ").then(|| point.into()))
}

/// The version 1 mount whose options name the controller.
fn controller_mount(mountinfo: &str, controller: &str) -> Option<PathBuf> {
    mounts(mountinfo).find_map(|(point, rest)| {
        let options = rest.strip_prefix("cgroup ")?.split(' ').nth(1)?;
        options.split(',').any(|option| option == controller).then(|| point.into())
    })
}

/// Mount points, and type, source and options of each.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (&str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        Some((fields.split(' ').nth(4)?, rest))
    })
}

/// Makes a directory that may be there already.
pub(super) fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes what is empty at and below a directory; keeps those whose names `keep` says.
pub(super) fn sweep(path: &Path, keep: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.to_str().is_some_and(keep) {
            sweep(&entry.path(), keep);
        }
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::{controller_mount, unified_mount};
    use std::path::PathBuf;

    const TEXT: &str = "31 30 0:27 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n\
                        33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                        32 31 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";

    #[test]
    fn finds_mounts_by_what_they_carry() {
        assert_eq!(unified_mount(TEXT), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(unified_mount("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
        let found = Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(
            (controller_mount(TEXT, "cpu"), controller_mount(TEXT, "cpuacct")),
            (found.clone(), found)
        );
        assert_eq!(controller_mount(TEXT, "memory"), None);
    }
}
