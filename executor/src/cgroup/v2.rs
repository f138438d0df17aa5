//! Version 2: one delegated subtree, no systemd and no D-Bus, also inside a container.
//!
//! ```text
//!  OWN/sluice-NODE-SPOOL/                     controllers are handed down from here
//!  OWN/sluice-NODE-SPOOL/daemon/              this process, where OWN is no root (no inner processes)
//!  OWN/sluice-NODE-SPOOL/supervisors/         supervisors, where OWN was named and is not this process's own (SLUICE_CGROUP)
//!  OWN/sluice-NODE-SPOOL/job_7.1/             the job's limits and its device program
//!  OWN/sluice-NODE-SPOOL/job_7.1/step_0/      the step's processes; its own limits where they are less
//! ```
//!
//! A directory with processes cannot hand controllers to its children. So this process moves to a leaf of its own; a
//! container's whole tree moves with it (its top has no one else's processes), anything else is left where it is and
//! the node says what it lacks.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use executor_supervisor::spec::{Measure, Reading, Setting};

use super::place::{self, Places};
use super::policy::{Closed, Device, Memory, Policy, Share};
use super::{Limits, StepGroups, device};

const PERIOD_US: u64 = 100_000;
/// Where this process goes.
const DAEMON: &str = "daemon";
/// Where supervisors go, outside the unit that a service manager stops together with this process.
const SUPERVISORS: &str = "supervisors";

/// See the module comment.
pub(super) struct V2 {
    base: PathBuf,
    /// The directory was named, and is another than this process's own.
    elsewhere: bool,
    controllers: Vec<&'static str>,
    devices: bool,
    lacks: Vec<String>,
}

impl V2 {
    /// Makes our subtree with the controllers that the policy wants; `None`, with a sentence for the log, where not
    /// even a directory can be made. `root`: a directory that was prepared for us, instead of our own.
    ///
    /// # Errors
    /// No version 2 hierarchy, or no right to it.
    pub(super) fn make(
        places: &Places,
        root: Option<&Path>,
        name: &str,
        policy: &Policy,
    ) -> Result<Self, String> {
        let (own, mount) = places.unified().ok_or("no cgroup2 file system is mounted")?;
        let elsewhere = root.is_some_and(|root| root != own);
        let own = root.map_or(own, Path::to_owned);
        let base = own.join(name);
        place::make(&base)
            .map_err(|error| format!("no cgroup can be made below {}: {error}", own.display()))?;
        let mut found = Self { base, elsewhere, controllers: Vec::new(), devices: false, lacks: Vec::new() };
        let wanted = [
            ("cpuset", policy.cores, "jobs are not bound to their CPUs"),
            ("cpu", policy.cores, "CPU time is not limited"),
            ("memory", policy.ram || policy.swap, "memory limits are not enforced"),
            ("pids", policy.pids.is_some(), "the number of a job's processes is not limited"),
        ];
        for (controller, on, otherwise) in wanted {
            if !on {
                continue;
            }
            match found.hand_down(&own, &mount, controller) {
                Ok(()) => found.controllers.push(controller),
                Err(why) => found.lacks.push(format!("{otherwise}: {why}")),
            }
        }
        if policy.devices {
            match device::probe(&found.base) {
                Ok(()) => found.devices = true,
                Err(why) => {
                    found.lacks.push(format!("jobs can open devices that they were not given: {why}"))
                }
            }
        }
        if found.controllers.contains(&"memory")
            && policy.swap
            && !found.base.join("memory.swap.max").exists()
        {
            found.lacks.push("swap is not limited: this kernel does not count it".to_owned());
        }
        Ok(found)
    }

    /// Why it lacks what it lacks, each reason once.
    #[must_use]
    pub(super) fn whys(&self) -> Vec<String> {
        let reasons = self.lacks.iter().map(|lack| lack.split_once(": ").map_or(&**lack, |(_, why)| why));
        let distinct: std::collections::BTreeSet<&str> = reasons.collect();
        distinct.into_iter().map(str::to_owned).collect()
    }

    /// Whether it has any controller: a tree without them is a hybrid machine's.
    #[must_use]
    pub(super) fn has_controllers(&self) -> bool {
        !self.controllers.is_empty()
    }

    /// Enables a controller from `own` to the jobs.
    fn hand_down(&self, own: &Path, mount: &Path, controller: &str) -> Result<(), String> {
        let has = |path: &Path, file: &str| {
            fs::read_to_string(path.join(file))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
        };
        if !has(own, "cgroup.controllers") {
            return Err(format!("the {controller} controller is not available in {}", own.display()));
        }
        if !has(own, "cgroup.subtree_control") {
            // The true root may have processes; only it has no type.
            if own.join("cgroup.type").exists() {
                self.clear(own, own == mount)?;
            }
            enable(own, controller)?;
        }
        enable(&self.base, controller)
    }

    /// Moves what may be moved out of `own`.
    fn clear(&self, own: &Path, everything: bool) -> Result<(), String> {
        let leaf = self.base.join(DAEMON);
        place::make(&leaf).map_err(|error| format!("{}: {error}", leaf.display()))?;
        let text = fs::read_to_string(own.join("cgroup.procs")).map_err(|error| error.to_string())?;
        let me = std::process::id();
        for pid in text.lines().filter_map(|line| line.parse::<u32>().ok()) {
            if pid != me && !everything {
                return Err(format!("process {pid} is in {}, which is not ours alone", own.display()));
            }
            // One that has ended since is gone from it, too.
            let _ = fs::write(leaf.join("cgroup.procs"), pid.to_string());
        }
        Ok(())
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    /// What of a share is written, for a directory at `dir`.
    fn settings(&self, share: &Share, dir: &Path) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |file: &str, value: String| {
            settings.push(Setting { file: file.as_bytes().to_vec(), value: value.into_bytes() });
        };
        if let (Some(cpus), true) = (&share.cpus, self.has("cpuset")) {
            add("cpuset.cpus", cpus.clone());
        }
        if let (Some(cpus), true) = (share.quota, self.has("cpu")) {
            add("cpu.max", format!("{} {PERIOD_US}", u64::from(cpus) * PERIOD_US));
        }
        if let (Some(Memory { hard, soft, swap }), true) = (share.memory, self.has("memory")) {
            if let Some(hard) = hard {
                add("memory.max", hard.to_string());
            }
            if let Some(soft) = soft {
                add("memory.high", soft.to_string());
            }
            // Absent where the kernel does not count swap: the node says so.
            if let Some(swap) = swap.filter(|_| dir.join("memory.swap.max").exists()) {
                add("memory.swap.max", swap.to_string());
            }
        }
        if let (Some(pids), true) = (share.pids, self.has("pids")) {
            add("pids.max", pids.to_string());
        }
        settings
    }

    /// What a step is read back by, each where it was written: in the step's directory where it has less than the job.
    /// Processors are read in the step's, where they come from all directories above it.
    fn readings(&self, job: &Path, step: &Path, whole: &Share, share: &Share) -> (Vec<Reading>, String) {
        let mut readings = Vec::new();
        let mut add = |less: bool, file: &str, what: &str, expected: String, measure| {
            readings.push(super::reading(if less { step } else { job }, file, what, expected, measure));
        };
        if let (Some(cpus), true) = (&share.cpus, self.has("cpuset")) {
            add(true, "cpuset.cpus.effective", "cpus", cpus.clone(), Measure::Processors);
        }
        if let (Some(cpus), true) = (share.quota, self.has("cpu")) {
            let expected = format!("{} {PERIOD_US}", u64::from(cpus) * PERIOD_US);
            add(share.quota != whole.quota, "cpu.max", "CPU quota in µs", expected, Measure::Exact);
        }
        if let (Some(Memory { hard, swap, .. }), true) = (share.memory, self.has("memory")) {
            let less = share.memory != whole.memory;
            if let Some(hard) = hard {
                add(less, "memory.max", "memory", hard.to_string(), Measure::Bytes);
            }
            if let Some(swap) = swap.filter(|_| self.base.join("memory.swap.max").exists()) {
                add(less, "memory.swap.max", "swap", swap.to_string(), Measure::Bytes);
            }
        }
        if let (Some(pids), true) = (share.pids, self.has("pids")) {
            add(false, "pids.max", "processes", pids.to_string(), Measure::Exact);
        }
        let told = match (share.filters() && self.devices).then(|| device::attached(job)).flatten() {
            Some(count) => format!("devices {count} program attached"),
            None => String::new(),
        };
        (readings, told)
    }

    fn deny(&self, dir: &Path, denied: &[Device], closed: Option<&Closed>) -> Result<(), String> {
        if (denied.is_empty() && closed.is_none()) || !self.devices {
            return Ok(());
        }
        let open: std::io::Result<OwnedFd> = fs::File::open(dir).map(Into::into);
        open.and_then(|open| device::deny(open.as_fd(), denied, closed))
            .map_err(|error| format!("the device program of {}: {error}", dir.display()))?;
        // The kernel's word for it.
        match device::attached(dir) {
            Some(0) => Err(format!("no device program is attached to {}", dir.display())),
            _ => Ok(()),
        }
    }
}

impl Limits for V2 {
    fn describe(&self) -> String {
        let devices = if self.devices { " devices" } else { "" };
        format!("v2 ({}{devices})", self.controllers.join(" "))
    }

    fn holds(&self) -> bool {
        self.has_controllers() || self.devices
    }

    fn filters_devices(&self) -> bool {
        self.devices
    }

    fn lacks(&self) -> Vec<String> {
        self.lacks.clone()
    }

    fn open_job(&self, job: &str, share: &Share) -> Result<(), String> {
        let dir = self.base.join(job);
        let new = !dir.exists();
        place::make(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        for setting in self.settings(share, &dir) {
            let file = dir.join(std::ffi::OsStr::from_bytes(&setting.file));
            fs::write(&file, &setting.value).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        if new {
            for controller in &self.controllers {
                enable(&dir, controller)?;
            }
            self.deny(&dir, &share.denied, share.closed.as_ref())?;
        }
        Ok(())
    }

    fn close_job(&self, job: &str) {
        // Another step may be in it: then the last one does it.
        let _ = fs::remove_dir(self.base.join(job));
    }

    fn step(
        &self,
        job: &str,
        step: &str,
        _: &str,
        whole: &Share,
        share: &Share,
    ) -> Result<StepGroups, String> {
        let dir = self.base.join(job).join(step);
        let less = Share {
            cpus: share.cpus.clone().filter(|_| share.cpus != whole.cpus),
            quota: share.quota.filter(|_| share.quota != whole.quota),
            memory: share.memory.filter(|_| share.memory != whole.memory),
            pids: None,
            denied: share.denied_beyond(whole),
            closed: None,
        };
        if !less.denied.is_empty() {
            place::make(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
            self.deny(&dir, &less.denied, None)?;
        }
        let path = dir.as_os_str().as_bytes().to_vec();
        // The base has the files that every step's directory will have.
        let cgroup_settings = self.settings(&less, &self.base);
        let memory_group = if self.has("memory") { path.clone() } else { Vec::new() };
        let (readings, told) = self.readings(&self.base.join(job), &dir, whole, share);
        Ok(StepGroups {
            // It limits: a step begins with a new one.
            cgroup_lent: false,
            readings,
            told,
            cgroup: path,
            cgroup_holds: self.holds(),
            cgroup_settings,
            cgroups_v1: Vec::new(),
            memory_group,
        })
    }

    fn sweep(&self, keep: &dyn Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name.to_str().is_some_and(|name| name == DAEMON || name == SUPERVISORS || keep(name));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !kept {
                place::sweep(&entry.path(), keep);
            }
        }
    }

    fn supervisors(&self) -> Option<PathBuf> {
        let leaf = self.base.join(SUPERVISORS);
        if !self.elsewhere {
            return None;
        }
        if let Err(error) = place::make(&leaf) {
            tracing::error!(path = %leaf.display(), %error, "supervisors stay in this process's own cgroup");
            return None;
        }
        Some(leaf)
    }

    fn remove(&self) {
        self.sweep(&|_| false);
        // Ours again where we came from, if that is still possible; then nothing of us is left.
        let _ = fs::remove_dir(self.base.join(SUPERVISORS));
        let leaf = self.base.join(DAEMON);
        if leaf.exists() {
            return;
        }
        let _ = fs::remove_dir(&self.base);
    }

    fn kill(&self, job: &str, step: &str) {
        super::kill(&self.base.join(job).join(step), super::PATIENCE);
    }
}

fn enable(dir: &Path, controller: &str) -> Result<(), String> {
    let file = dir.join("cgroup.subtree_control");
    fs::write(&file, format!("+{controller}")).map_err(|error| format!("{}: {error}", file.display()))
}
