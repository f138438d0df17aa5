//! Small disks for the states of daemons, so that they can be filled up: tmpfs in a mount namespace of this process.
//!
//! The namespace ends with the loop and what it started, and the mount with it, whatever happens. Needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tests::Cluster;

/// Room for a scheduler's journal and two body files of 32 MiB, snapshots, history and index.
pub(crate) const FOR_SCHEDULER: &str = "size=160m,mode=0755";
/// Room for an executor's journal and the run folders of all jobs that run at once.
pub(crate) const FOR_EXECUTOR: &str = "size=32m,mode=0755";

/// The mounted disk. Drop it after the cluster.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

/// Gives this process mounts of its own. Must be called while it has one thread.
pub(crate) fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace (needs root)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keep mounts to ourselves")
}

impl SmallDisk {
    /// Mounts it.
    pub(crate) fn mount(size: &str) -> Result<Self> {
        let folder = nix::unistd::mkdtemp("/tmp/sluice-disk-XXXXXX").context("make a mount point")?;
        let disk = Self { folder };
        mount(Some("sluice-crash-loop"), &disk.folder, Some("tmpfs"), MsFlags::empty(), Some(size))
            .context("mount a tmpfs")?;
        Ok(disk)
    }

    /// Lets the scheduler (`scheduler`) or a node's executor of a cluster that was not started yet keep its state here.
    pub(crate) fn give_to(&self, cluster: &Cluster, name: &str) -> Result<()> {
        let state = cluster.state(name);
        fs::create_dir_all(state.parent().context("a state has a folder above")?)
            .context("make the states' folder")?;
        fs::create_dir(self.folder.join(name)).context("make the state folder")?;
        symlink(self.folder.join(name), &state).context("link the state folder")
    }

    /// Writes a file until nothing fits any more; the space comes back when the answer is dropped.
    pub(crate) fn fill(&self) -> Result<Filler> {
        let path = self.folder.join("filler");
        let mut file = File::create(&path).context("make the filler")?;
        let filler = Filler { path };
        for size in [1 << 20, 64 << 10, 4 << 10] {
            let zeros = vec![0; size];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill the disk"),
                }
            }
        }
        Ok(filler)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left goes with the namespace.
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What takes the space.
pub(crate) struct Filler {
    path: PathBuf,
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
