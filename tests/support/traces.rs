//! What executors leave on the machine that are killed and never started again: empty cgroup directories, and run
//! folders below `/run/sluice`. Owns finding and removing those of one cluster; never touches another's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use executor::cgroup;

use crate::poll::wait_for;

/// How long the last processes may take to leave their cgroups after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of cgroup directories and run folders that executors of one cluster have had.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    groups: BTreeSet<String>,
    folders: BTreeSet<PathBuf>,
}

impl Traces {
    /// Notes what the executor of `node` uses, whose state is in this folder, as long as its spool is there.
    pub(crate) fn note(&mut self, node: &str, state: &Path) {
        let place = state.join(format!("executor-{node}"));
        let id = fs::read(place.join("spool/spool-id")).ok();
        self.groups.extend(id.map(|id| cgroup::name_of(node, &id)));
        let elsewhere = fs::read_to_string(place.join("runs-at")).ok();
        self.folders.extend(elsewhere.map(|text| PathBuf::from(text.trim_end())));
    }

    /// Removes all of it, once its processes have gone; answers what is left.
    pub(crate) fn remove(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        // What is left is the answer; the wait's own words are not needed.
        let _ = wait_for("the cgroups of killed executors to empty", PATIENCE, || {
            left = self.groups.iter().flat_map(|name| cgroup::remove_named(name)).collect();
            // A job that has left the cluster's folder was not found by the sweep of its processes.
            left.iter().for_each(|folder| cgroup::kill(folder, Duration::ZERO));
            left.is_empty()
        });
        for folder in &self.folders {
            let _ = fs::remove_dir_all(folder);
        }
        left.extend(self.folders.iter().filter(|folder| folder.exists()).cloned());
        left
    }
}
