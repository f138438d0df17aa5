//! Version 1 controllers for limits (cgroups-rs), a cgroup2 directory for tracking and killing where one is mounted.
//!
//! ```text
//!  MOUNT/OWN/sluice-NODE-SPOOL/job_7.1/            cpuset, cpu, pids, devices, memory: the job's limits
//!  MOUNT/OWN/sluice-NODE-SPOOL/job_7.1/step_0/     memory (but for batch scripts), others where it has less than the job
//!  CGROUP2/OWN/sluice-NODE-SPOOL/run_3/            tracking
//! ```
//!
//! The job's directories are made here, the step's by its supervisor. Only controllers that a job's share asks for are
//! touched: an unlimited job costs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::devices::{DevicePermissions, DeviceType, DevicesController};
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Controller, MaxValue};
use executor_supervisor::spec::{Group, Measure, Reading, Setting};

use super::place::{self, Places};
use super::policy::{Closed, Device, Memory, Policy, Share};
use super::{Base, Limits, StepGroups};

/// Microseconds in which a quota is counted: what a new directory has.
const PERIOD_US: u64 = 100_000;

/// The directory name of a batch script's step, where it has one.
const BATCH: &str = "step_batch";

/// See the module comment.
pub(super) struct V1 {
    /// Our directory in each hierarchy.
    bases: BTreeMap<&'static str, PathBuf>,
    tracking: Option<Base>,
    /// Memory nodes of our cpuset.
    mems: String,
    swap_counted: bool,
    swappiness: Option<u8>,
    lacks: Vec<String>,
}

impl V1 {
    /// Makes our directory in each hierarchy that the policy wants; `None` where there is none of them.
    #[must_use]
    pub(super) fn make(places: &Places, name: &str, policy: &Policy) -> Option<Self> {
        let wanted = [
            ("cpuset", policy.cores, "jobs are not bound to their CPUs"),
            ("cpu", policy.cores, "CPU time is not limited"),
            ("memory", policy.ram || policy.swap, "memory limits are not enforced"),
            ("pids", policy.pids.is_some(), "the number of a job's processes is not limited"),
            ("devices", policy.devices, "jobs can open devices that they were not given"),
        ];
        let mut found = Self {
            bases: BTreeMap::new(),
            tracking: None,
            mems: String::new(),
            swap_counted: false,
            swappiness: policy.swappiness(),
            lacks: Vec::new(),
        };
        for (controller, on, otherwise) in wanted {
            if !on {
                continue;
            }
            match base(places, controller, name) {
                Ok(path) => drop(found.bases.insert(controller, path)),
                Err(why) => found.lacks.push(format!("{otherwise}: {why}")),
            }
        }
        if let Some(path) = found.bases.get("cpuset") {
            match fill_cpuset(path) {
                Ok(mems) => found.mems = mems,
                Err(why) => {
                    found.lacks.push(format!("jobs are not bound to their CPUs: {why}"));
                    found.bases.remove("cpuset");
                }
            }
        }
        found.swap_counted =
            found.bases.get("memory").is_some_and(|path| path.join("memory.memsw.limit_in_bytes").exists());
        if policy.swap && found.bases.contains_key("memory") && !found.swap_counted {
            found.lacks.push("swap is not limited: this kernel does not count it".to_owned());
        }
        match Base::make(name) {
            Ok(tracking) => found.tracking = Some(tracking),
            Err(why) => {
                // The freezer suspends and finds, where nothing else does.
                if let Ok(path) = base(places, "freezer", name) {
                    found.bases.insert("freezer", path);
                }
                found.lacks.push(format!("{why}: processes are tracked by descent"));
            }
        }
        (!found.bases.is_empty()).then_some(found)
    }

    fn dir(&self, controller: &str, job: &str) -> Option<PathBuf> {
        self.bases.get(controller).map(|base| base.join(job))
    }

    fn open_cpu(&self, job: &str, share: &Share) -> Result<(), String> {
        if let (Some(cpus), Some(dir)) = (&share.cpus, self.dir("cpuset", job)) {
            let cpuset = CpuSetController::new(dir, false);
            cpuset.create();
            cpuset.set_mems(&self.mems).map_err(words)?;
            cpuset.set_cpus(cpus).map_err(words)?;
        }
        if let (Some(cpus), Some(dir)) = (share.quota, self.dir("cpu", job)) {
            let cpu = CpuController::new(dir, false);
            cpu.create();
            // The period is the kernel's own of every new directory, and nobody here changes it.
            cpu.set_cfs_quota_and_period(Some(quota(cpus)), None).map_err(words)?;
        }
        Ok(())
    }

    fn open_memory(&self, job: &str, memory: Memory) -> Result<(), String> {
        let Some(dir) = self.dir("memory", job) else { return Ok(()) };
        let again = dir.exists();
        let controller = MemController::new(dir, false);
        controller.create();
        if again && self.swap_counted {
            // Both together must never be less than one alone, on the way neither.
            controller.set_memswap_limit(-1).map_err(words)?;
        }
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        if let Some(hard) = memory.hard {
            controller.set_limit(signed(hard)).map_err(words)?;
        }
        if let Some(soft) = memory.soft {
            controller.set_soft_limit(signed(soft)).map_err(words)?;
        }
        if let (Some(both), true) = (both(memory), self.swap_counted) {
            controller.set_memswap_limit(signed(both)).map_err(words)?;
        }
        if let Some(swappiness) = self.swappiness {
            controller.set_swappiness(u64::from(swappiness)).map_err(words)?;
        }
        Ok(())
    }

    fn open_devices(&self, job: &str, share: &Share) -> Result<(), String> {
        let Some(dir) = self.dir("devices", job).filter(|_| share.filters()) else { return Ok(()) };
        let controller = DevicesController::new(dir);
        controller.create();
        // Version 1 knows no hole in what is denied: each minor by itself.
        let shut = share.closed.as_ref().map(Closed::denied).unwrap_or_default();
        for device in share.denied.iter().chain(&shut) {
            let kind = if device.block { DeviceType::Block } else { DeviceType::Char };
            controller
                .deny_device(
                    kind,
                    i64::from(device.major),
                    i64::from(device.minor),
                    &DevicePermissions::all(),
                )
                .map_err(words)?;
        }
        Ok(())
    }
}

impl Limits for V1 {
    fn describe(&self) -> String {
        let names: Vec<&str> = self.bases.keys().copied().collect();
        let tracking = if self.tracking.is_some() { ", cgroup2 for tracking" } else { "" };
        format!("v1 ({}){tracking}", names.join(" "))
    }

    fn holds(&self) -> bool {
        true
    }

    fn filters_devices(&self) -> bool {
        self.bases.contains_key("devices")
    }

    fn lacks(&self) -> Vec<String> {
        self.lacks.clone()
    }

    fn open_job(&self, job: &str, share: &Share) -> Result<(), String> {
        self.open_cpu(job, share)?;
        if let Some(memory) = share.memory {
            self.open_memory(job, memory)?;
        }
        if let (Some(pids), Some(dir)) = (share.pids, self.dir("pids", job)) {
            let controller = PidController::new(dir, false);
            controller.create();
            controller
                .set_pid_max(MaxValue::Value(i64::try_from(pids).unwrap_or(i64::MAX)))
                .map_err(words)?;
        }
        if let Some(dir) = self.dir("freezer", job) {
            place::make(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        }
        self.open_devices(job, share)
    }

    fn close_job(&self, job: &str) {
        for base in self.bases.values() {
            // Absent where the share asked for none.
            let _ = fs::remove_dir(base.join(job));
        }
    }

    fn step(
        &self,
        job: &str,
        step: &str,
        run: &str,
        whole: &Share,
        share: &Share,
    ) -> Result<StepGroups, String> {
        let mut groups = StepGroups {
            cgroup: self.tracking.as_ref().map_or_else(Vec::new, |base| base.of_run(run)),
            cgroup_lent: self.tracking.is_some(),
            ..StepGroups::default()
        };
        let mut add = |controller: &str, settings: Option<Vec<Setting>>| {
            let dir = self.dir(controller, job)?;
            let own = settings.is_some();
            let path = if own { dir.join(step) } else { dir };
            let bytes = path.as_os_str().as_bytes().to_vec();
            groups.cgroups_v1.push(Group {
                path: bytes.clone(),
                own,
                settings: settings.unwrap_or_default(),
            });
            Some(bytes)
        };
        if let Some(cpus) = &share.cpus {
            let less = share.cpus != whole.cpus;
            let settings = || vec![setting("cpuset.mems", &self.mems), setting("cpuset.cpus", cpus)];
            add("cpuset", less.then(settings));
        }
        if let Some(cpus) = share.quota {
            let less = share.quota != whole.quota;
            add("cpu", less.then(|| vec![setting("cpu.cfs_quota_us", &quota(cpus).to_string())]));
        }
        let memory = share.memory.or(whole.memory);
        // What is killed is counted in the directory that it is in, and not above: a batch script, which has all that the
        // job has, needs none of its own, as long as other steps have theirs and its processes are tracked elsewhere.
        let own = step != BATCH || self.tracking.is_none();
        let settings = |memory| own.then(|| self.memory_settings(memory, whole));
        let counted = memory.and_then(|memory| add("memory", settings(memory)));
        if share.pids.is_some() {
            add("pids", None);
        }
        if share.filters() {
            let further: Vec<Setting> = share
                .denied_beyond(whole)
                .iter()
                .map(|device| setting("devices.deny", &rule(device)))
                .collect();
            if !whole.filters() {
                let dir = self.dir("devices", job);
                dir.map_or(Ok(()), |dir| place::make(&dir))
                    .map_err(|error| format!("no directory for the devices of {job}: {error}"))?;
            }
            add("devices", (!further.is_empty()).then_some(further));
        }
        add("freezer", Some(Vec::new()));
        groups.memory_group = counted.unwrap_or_default();
        (groups.readings, groups.told) = self.readings(job, step, whole, share);
        Ok(groups)
    }

    fn tracking(&self) -> Option<&Base> {
        self.tracking.as_ref()
    }

    fn sweep(&self, keep: &dyn Fn(&str) -> bool) {
        for base in self.bases.values() {
            place::sweep(base, keep);
            // It is needed again at once; what it held of values is in its children.
            let _ = place::make(base);
        }
        if let Some(path) = self.bases.get("cpuset")
            && let Err(why) = fill_cpuset(path)
        {
            tracing::error!(why, "the cpuset of this node cannot be set up again");
        }
    }

    fn remove(&self) {
        self.bases.values().for_each(|base| place::sweep(base, &|_| false));
        if let Some(tracking) = &self.tracking {
            tracking.remove_if_empty();
        }
    }

    fn kill(&self, job: &str, step: &str) {
        for base in self.bases.values() {
            super::kill(&base.join(job).join(step), super::PATIENCE);
        }
    }
}

impl V1 {
    /// What a step is read back by, each where it was written: in the step's directory where it has less than the job.
    fn readings(&self, job: &str, step: &str, whole: &Share, share: &Share) -> (Vec<Reading>, String) {
        let mut readings = Vec::new();
        let mut add = |controller: &str, less: bool, file: &str, what: &str, expected: String, measure| {
            let Some(dir) = self.dir(controller, job) else { return };
            let dir = if less { dir.join(step) } else { dir };
            readings.push(super::reading(&dir, file, what, expected, measure));
        };
        if let Some(cpus) = &share.cpus {
            let less = share.cpus != whole.cpus;
            add("cpuset", less, "cpuset.effective_cpus", "cpus", cpus.clone(), Measure::Processors);
        }
        if let Some(cpus) = share.quota {
            let less = share.quota != whole.quota;
            add("cpu", less, "cpu.cfs_quota_us", "CPU quota in µs", quota(cpus).to_string(), Measure::Exact);
        }
        if let Some(memory) = share.memory.or(whole.memory) {
            let less = whole.memory != Some(memory);
            if let Some(hard) = memory.hard {
                add("memory", less, "memory.limit_in_bytes", "memory", hard.to_string(), Measure::Bytes);
            }
            if let (Some(both), true) = (both(memory), self.swap_counted) {
                let file = "memory.memsw.limit_in_bytes";
                add("memory", less, file, "memory with swap", both.to_string(), Measure::Bytes);
            }
        }
        if let Some(pids) = share.pids {
            add("pids", false, "pids.max", "processes", pids.to_string(), Measure::Exact);
        }
        // The list of a directory that denies some only says that all is allowed: the kernel does not tell them.
        let denied = share.denied.len() + share.closed.as_ref().map_or(0, |closed| closed.denied().len());
        let told = match self.filters_devices() && denied > 0 {
            true => format!("devices {denied} denied (not shown by this kernel)"),
            false => String::new(),
        };
        (readings, told)
    }

    /// Of a step's own directory: its values where they are less than the job's.
    fn memory_settings(&self, memory: Memory, whole: &Share) -> Vec<Setting> {
        if whole.memory == Some(memory) {
            return Vec::new();
        }
        let mut settings = Vec::new();
        if let Some(hard) = memory.hard {
            settings.push(setting("memory.limit_in_bytes", &hard.to_string()));
        }
        if let (Some(both), true) = (both(memory), self.swap_counted) {
            settings.push(setting("memory.memsw.limit_in_bytes", &both.to_string()));
        }
        settings
    }
}

fn both(memory: Memory) -> Option<u64> {
    Some(memory.hard?.saturating_add(memory.swap?))
}

fn quota(cpus: u32) -> i64 {
    i64::from(cpus) * i64::try_from(PERIOD_US).unwrap_or(i64::MAX)
}

fn rule(device: &Device) -> String {
    let kind = if device.block { 'b' } else { 'c' };
    format!("{kind} {}:{} rwm", device.major, device.minor)
}

fn setting(file: &str, value: &str) -> Setting {
    Setting { file: file.as_bytes().to_vec(), value: value.as_bytes().to_vec() }
}

fn words(error: cgroups_rs::error::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Our directory in the hierarchy of a controller, below this process's own.
fn base(places: &Places, controller: &str, name: &str) -> Result<PathBuf, String> {
    let own = places
        .of_controller(controller)
        .ok_or_else(|| format!("the {controller} controller is not mounted"))?;
    let path = own.join(name);
    place::make(&path).map_err(|error| format!("no cgroup can be made below {}: {error}", own.display()))?;
    Ok(path)
}

/// A new cpuset is empty: it gets what its parent has. The memory nodes.
fn fill_cpuset(path: &Path) -> Result<String, String> {
    let parent = path.parent().unwrap_or(path);
    let copy = |file: &str| {
        let text = fs::read_to_string(parent.join(file)).map_err(|error| format!("{file}: {error}"))?;
        fs::write(path.join(file), text.trim()).map_err(|error| format!("{file}: {error}"))?;
        Ok::<_, String>(text.trim().to_owned())
    };
    copy("cpuset.cpus")?;
    copy("cpuset.mems")
}
