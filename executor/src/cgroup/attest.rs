//! The proof at the start: a process in cgroups of the same shape tries what a job must not be able to do.
//!
//! It goes the way of every step (specification, supervisor, back end), so what holds it holds a job. What was held is
//! told of the node; what was not stands among what the node lacks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use executor_supervisor::outcome::Kind;
use executor_supervisor::spec::{Spec, Stdio, Task};
use model::id::StepId;

use super::policy::{Device, Memory, Share};
use super::{Cgroups, StepGroups};
use crate::key::Key;
use crate::launch::spares::{SPARE_PREFIX, Spares};
use crate::launch::start::{self, Found};

const MEMORY: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// `/dev/full`: everyone has it, nobody needs it.
const FULL: (u32, u32) = (1, 7);
const KILLED: u32 = 9;
/// A kernel since 6.14 does that where `cgroup.kill` was written in this process's own directory at any time before.
const DOOMED: &str = "what starts in a cgroup of this node is killed at once; jobs will be too: start the executor in a \
                      cgroup that was never killed (cgroup.kill)";
/// No job's number.
const KEY: Key = Key { job_id: 0, step: StepId::Batch, run: 0 };

/// What came of it, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attested {
    /// It was held to this.
    pub held: Vec<String>,
    /// It was not held to this although it should have been.
    pub failed: Vec<String>,
}

/// Runs the probe. Must be called within the runtime; takes some ten milliseconds, and nothing where nothing is limited.
pub async fn attest(cgroups: &Cgroups, supervisor: &Path, run_root: &Path) -> Attested {
    let Some(share) = cgroups.probe_share() else { return Attested::default() };
    // Below a name that no run has, and that the next start removes whatever happens.
    let place = run_root.join(format!("{SPARE_PREFIX}probe"));
    let folder = place.join(KEY.folder());
    let told = match cgroups.enter_share(KEY, &share) {
        Ok(groups) => run(groups, supervisor, &place, &folder).await,
        Err(why) => Err(why),
    };
    cgroups.leave(KEY);
    cgroups.give_back(KEY, false);
    let _ = fs::remove_dir_all(&place);
    match told {
        Ok((text, kind)) => judge(&share, &text, kind),
        Err(why) => Attested {
            held: Vec::new(),
            failed: vec![format!("the probe of the limits could not run: {why}")],
        },
    }
}

async fn run(
    groups: StepGroups,
    supervisor: &Path,
    place: &Path,
    folder: &Path,
) -> Result<(String, Kind), String> {
    use std::os::unix::ffi::OsStrExt;
    let words = |error: std::io::Error| error.to_string();
    let out = folder.join("said");
    let spec = spec(groups, supervisor.as_os_str().as_bytes(), out.as_os_str().as_bytes());
    fs::create_dir_all(place).map_err(words)?;
    let lock = start::prepare(place, KEY, &spec, None, false, &Spares::default()).map_err(words)?;
    let mut child = start::spawn(supervisor, folder, lock).map_err(words)?;
    let waited = tokio::time::timeout(PATIENCE, child.wait()).await;
    waited.map_err(|_| "it did not end".to_owned())?.map_err(words)?;
    match start::examine(folder, KEY) {
        Found::Outcome(outcome) if outcome.kind == Kind::LaunchFailed => Err(outcome.detail),
        Found::Outcome(outcome) if outcome.exit.signal == KILLED && !out.exists() => Err(DOOMED.to_owned()),
        Found::Outcome(outcome) => Ok((fs::read_to_string(&out).map_err(words)?, outcome.kind)),
        Found::Begun { .. } | Found::Nothing => Err("its supervisor left no outcome".to_owned()),
    }
}

fn judge(share: &Share, text: &str, kind: Kind) -> Attested {
    let mut attested = Attested::default();
    let said = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("nothing");
    let mut add = |held: bool, yes: String, no: String| match held {
        true => attested.held.push(yes),
        false => attested.failed.push(no),
    };
    if !share.denied.is_empty() {
        let device = said("device ");
        let no = format!("a probe could open a device that it was denied ({device})");
        add(device == "refused", "a denied device is refused".to_owned(), no);
    }
    if let Some(cpus) = &share.cpus {
        let cores = said("cores ");
        let no = format!("a probe bound to core {cpus} could run on {cores}");
        add(cores == cpus, "cores outside the set are refused".to_owned(), no);
    }
    if share.memory.is_some() {
        let no = "a probe could take more memory than its limit".to_owned();
        add(kind == Kind::OutOfMemory, "memory beyond the limit is out of memory".to_owned(), no);
    }
    attested
}

/// What the probe is held to, of what the policy asks for.
pub(super) fn share(cgroups: &Cgroups) -> Share {
    let policy = &cgroups.policy;
    let (major, minor) = FULL;
    let full = Device { gres: "probe".into(), index: 0, block: false, major, minor };
    let lacking = cgroups.lacks();
    // What the node says that it lacks is not tried again.
    let can = |what: &str| !lacking.iter().any(|lack| lack.starts_with(what));
    let cpus = cgroups.machine.cpus.first().filter(|_| cgroups.machine.cpus.len() > 1);
    let swap = policy.swap.then_some(0);
    Share {
        cpus: cpus.filter(|_| policy.cores && can("jobs are not bound")).map(u32::to_string),
        quota: None,
        memory: (policy.ram && can("memory limits")).then_some(Memory {
            hard: Some(MEMORY),
            soft: None,
            swap,
        }),
        pids: policy.pids,
        denied: if policy.devices && can("jobs can open devices") { vec![full] } else { Vec::new() },
        closed: None,
    }
}

fn spec(groups: StepGroups, supervisor: &[u8], out: &[u8]) -> Spec {
    let task = Task {
        rank: 0,
        arguments: vec![supervisor.to_vec(), b"--probe".to_vec()],
        environment: Vec::new(),
        cpus: Vec::new(),
        announce: Vec::new(),
        stdin: Stdio::Null,
        stdout: Stdio::File { path: out.to_vec(), truncate: true },
        stderr: Stdio::Null,
    };
    Spec {
        job_id: KEY.job_id,
        step: KEY.step.to_string(),
        run: KEY.run,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        work_dir: b"/".to_vec(),
        umask: 0o077,
        cgroup: groups.cgroup,
        cgroup_holds: groups.cgroup_holds,
        cgroup_settings: groups.cgroup_settings,
        cgroups_v1: groups.cgroups_v1,
        memory_group: groups.memory_group,
        tasks: vec![task],
        limit_ms: Some(10_000),
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Attested, judge};
    use crate::cgroup::policy::{Device, Memory, Share};
    use executor_supervisor::outcome::Kind;

    #[test]
    fn what_escapes_is_said() {
        let device = Device { gres: "probe".into(), index: 0, block: false, major: 1, minor: 7 };
        let share = Share {
            cpus: Some("0".to_owned()),
            memory: Some(Memory::default()),
            denied: vec![device],
            ..Share::default()
        };
        let good = judge(&share, "device refused\ncores 0\n", Kind::OutOfMemory);
        assert_eq!((good.held.len(), good.failed.len()), (3, 0));
        let bad = judge(&share, "device open\ncores 0,1\nmemory 268435456\n", Kind::Exited);
        assert_eq!((bad.held.len(), bad.failed.len()), (0, 3), "{bad:?}");
        assert_eq!(judge(&Share::default(), "", Kind::Exited), Attested::default());
    }
}
