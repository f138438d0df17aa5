//! Capability nodes of MIG: the device files that let a process into one instance and no other.
//!
//! Every possible capability has a fixed minor in `/proc/driver/nvidia-caps/mig-minors`; the major is in
//! `/proc/devices`. The driver makes no device files: they are made here for what is granted, where they are missing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The capabilities of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    root: PathBuf,
    major: u32,
    minors: BTreeMap<String, u32>,
}

const FOLDER: &str = "dev/nvidia-caps";

impl Caps {
    /// Reads them below `root`; `None` where the driver has none.
    #[must_use]
    pub fn read(root: &Path) -> Option<Self> {
        let devices = std::fs::read_to_string(root.join("proc/devices")).ok()?;
        let minors = std::fs::read_to_string(root.join("proc/driver/nvidia-caps/mig-minors")).ok()?;
        Self::parse(root, &devices, &minors)
    }

    fn parse(root: &Path, devices: &str, minors: &str) -> Option<Self> {
        let of_caps = |line: &str| line.trim().strip_suffix(" nvidia-caps")?.trim().parse().ok();
        let major = devices.lines().find_map(of_caps)?;
        let entry = |line: &str| {
            let (name, minor) = line.trim().rsplit_once(' ')?;
            Some((name.to_owned(), minor.parse().ok()?))
        };
        Some(Self { root: root.to_owned(), major, minors: minors.lines().filter_map(entry).collect() })
    }

    /// The major of all of them.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Those of the GPUs with these minors, and the two that concern all: what must be closed.
    #[must_use]
    pub fn all(&self, gpus: &[u32]) -> Vec<u32> {
        let concerns = |name: &str| match name.strip_prefix("gpu").and_then(|rest| rest.split_once('/')) {
            Some((gpu, _)) => gpu.parse().is_ok_and(|gpu| gpus.contains(&gpu)),
            None => true,
        };
        self.minors.iter().filter(|(name, _)| concerns(name)).map(|(_, minor)| *minor).collect()
    }

    /// Of a GPU instance and its compute instance, by the GPU's minor.
    #[must_use]
    pub fn of_instance(&self, gpu: u32, gi: u32, ci: u32) -> Vec<u32> {
        let names = [format!("gpu{gpu}/gi{gi}/access"), format!("gpu{gpu}/gi{gi}/ci{ci}/access")];
        names.iter().filter_map(|name| self.minors.get(name).copied()).collect()
    }

    /// Makes the device files of these minors, below the root that they were read from, where they are missing.
    ///
    /// # Errors
    /// The file system, or no right to make device files.
    pub fn make_nodes(&self, minors: &[u32]) -> io::Result<()> {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let folder = self.root.join(FOLDER);
        for minor in minors {
            let path = folder.join(format!("nvidia-cap{minor}"));
            if path.exists() {
                continue;
            }
            std::fs::create_dir_all(&folder)?;
            let device = makedev(u64::from(self.major), u64::from(*minor));
            // As the driver's own tool makes them: to be read by all whom the cgroup lets.
            match mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o444), device) {
                Err(error) if error != nix::errno::Errno::EEXIST => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The path of a capability's device file.
    #[must_use]
    pub fn path(minor: u32) -> String {
        format!("/{FOLDER}/nvidia-cap{minor}")
    }
}

#[cfg(test)]
mod tests {
    use super::Caps;
    use std::path::Path;

    #[test]
    fn capabilities_are_found_by_name() {
        let devices = "Character devices:\n195 nvidia\n237 nvidia-caps\n\nBlock devices:\n8 sd\n";
        let minors = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu1/gi1/access 147\n";
        let caps = Caps::parse(Path::new("/"), devices, minors).unwrap();
        assert_eq!(caps.major(), 237);
        assert_eq!(caps.of_instance(0, 1, 0), [12, 13]);
        assert_eq!(caps.of_instance(0, 2, 0), [0; 0]);
        let mut all = caps.all(&[0]);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 12, 13]);
        assert_eq!(Caps::parse(Path::new("/"), "195 nvidia\n", minors), None);
    }
}
