//! What a lost supervisor left behind: found and killed.
//!
//! By the run's cgroup where it has one. Without one its processes have become init's children, and what
//! still tells them apart is the environment that they were started with. A process that has forged it is
//! not found; the node says that it has no cgroup.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use executor_supervisor::spec::Spec;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup;
use crate::key::Key;

/// Together they name one run of one job: another cluster of this machine may use the same names and numbers,
/// but not for a job that was submitted in the same millisecond.
const MARKS: [&[u8]; 6] = [
    b"SLURM_JOB_ID=",
    b"SLURM_STEP_ID=",
    b"SLURMD_NODENAME=",
    b"SLURM_CLUSTER_NAME=",
    b"SLURM_JOB_SLUID=",
    b"SLURM_JOB_START_TIME=",
];
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills what is left of a run that nobody holds. Blocking.
pub fn kill_remains(key: Key, spec: &Spec) {
    use std::os::unix::ffi::OsStrExt;
    if !spec.cgroup.is_empty() {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&spec.cgroup));
        if path.exists() {
            cgroup::kill(&path, PATIENCE);
        }
    }
    let marks = marks(spec);
    // Again until a search finds nothing: a process may have forked while the others were being killed.
    for _ in 0..200 {
        let found = search(&marks, spec.uid);
        if found.is_empty() {
            return;
        }
        tracing::warn!(run = %key, count = found.len(), "killing what a lost supervisor left");
        for pid in found {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::error!(run = %key, "processes of this run do not die");
}

/// The entries that only this run's processes were started with.
fn marks(spec: &Spec) -> Vec<Vec<u8>> {
    let wanted = |entry: &&Vec<u8>| MARKS.iter().any(|name| entry.starts_with(name));
    spec.environment.iter().filter(wanted).cloned().collect()
}

fn search(marks: &[Vec<u8>], uid: u32) -> Vec<i32> {
    if marks.len() < MARKS.len() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let path = entry.path();
            (fs::metadata(&path).ok()?.uid() == uid && carries(&path, marks)).then_some(pid)
        })
        .collect()
}

fn carries(process: &Path, marks: &[Vec<u8>]) -> bool {
    let Ok(environment) = fs::read(process.join("environ")) else { return false };
    let has = |mark: &Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_slice());
    marks.iter().all(has)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use executor_supervisor::spec::Spec;
    use model::id::StepId;

    use super::{MARKS, kill_remains};
    use crate::key::Key;

    #[test]
    fn without_a_cgroup_the_environment_tells_what_is_left() {
        let own = std::process::id();
        let environment: Vec<String> =
            MARKS.iter().map(|name| format!("{}{own}", String::from_utf8_lossy(name))).collect();
        let start = |entries: &[String]| {
            let pairs = entries.iter().filter_map(|entry| entry.split_once('='));
            Command::new("sleep").arg("1000").env_clear().envs(pairs).spawn().unwrap()
        };
        let mut left = start(&environment);
        // Another run of the same job: all but one are the same.
        let mut other = environment.clone();
        other[1] = "SLURM_STEP_ID=another".to_owned();
        let mut stranger = start(&other);
        let spec = Spec {
            job_id: 7,
            step: "0".to_owned(),
            run: 1,
            node: "n1".to_owned(),
            uid: nix::unistd::geteuid().as_raw(),
            gid: 0,
            environment: environment.into_iter().map(String::into_bytes).collect(),
            ..Spec::default()
        };
        // It ends when nothing is found any more: what was killed has to be taken away meanwhile.
        let killed = std::thread::spawn(move || left.wait().unwrap());
        kill_remains(Key { job_id: 7, step: StepId::Number(0), run: 1 }, &spec);
        assert!(stranger.try_wait().unwrap().is_none(), "another run's process is left alone");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(killed.join().unwrap().signal(), Some(9));
    }
}
