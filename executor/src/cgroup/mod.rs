//! What holds a step to what it was given, and what its processes are gathered in.
//!
//! Behind [`Limits`] are three back ends: `v1` (controllers by cgroups-rs, a cgroup2 directory for tracking), `v2` (a
//! delegated subtree, device programs of our own) and `none` (tracking at most). Which one is chosen at the start, by
//! what the machine has and what the configuration asks for; it says what it cannot do. The job's directories are made
//! here before its first step and removed after its last; a step's directories are its supervisor's, which stays outside
//! of them. What a killed executor left is removed by its next start.

pub mod attest;
pub mod device;
mod lent;
pub mod place;
pub mod policy;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use executor_supervisor::spec::{Group, Measure, Reading, Setting, Spec};
use model::binding::Binding;
use model::id::StepId;
use proto::v1 as wire;

use crate::key::Key;
use place::Places;
use policy::{Machine, Plugin, Policy, Share};

/// How long killing may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a step's supervisor puts its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepGroups {
    /// See `Spec::cgroup`.
    pub cgroup: Vec<u8>,
    /// See `Spec::cgroup_lent`.
    pub cgroup_lent: bool,
    /// See `Spec::cgroup_holds`.
    pub cgroup_holds: bool,
    /// See `Spec::cgroup_settings`.
    pub cgroup_settings: Vec<Setting>,
    /// See `Spec::cgroups_v1`.
    pub cgroups_v1: Vec<Group>,
    /// See `Spec::memory_group`.
    pub memory_group: Vec<u8>,
    /// See `Spec::readings`.
    pub readings: Vec<Reading>,
    /// See `Spec::told`.
    pub told: String,
}

/// Minors of the MIG capabilities that go with a launch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities<'a> {
    /// Of all that the job holds here.
    pub job: &'a [u32],
    /// Of what the step holds.
    pub step: &'a [u32],
}

/// A back end. Errors are sentences: the step is not started.
pub trait Limits: Send + Sync {
    /// What it is, in a few words, for people.
    fn describe(&self) -> String;
    /// Whether it limits anything.
    fn holds(&self) -> bool;
    /// Whether it keeps devices from jobs.
    fn filters_devices(&self) -> bool {
        false
    }
    /// What it cannot enforce, a sentence each, for the node's facts.
    fn lacks(&self) -> Vec<String>;
    /// Makes the job's directories with its limits, or changes these.
    ///
    /// # Errors
    /// The kernel refused.
    fn open_job(&self, job: &str, share: &Share) -> Result<(), String>;
    /// Removes the job's directories, which have no step any more.
    fn close_job(&self, job: &str);
    /// The directories of a step (`run` is the name of its run's folder). `whole` is the job's share.
    ///
    /// # Errors
    /// The kernel refused.
    fn step(
        &self,
        job: &str,
        step: &str,
        run: &str,
        whole: &Share,
        share: &Share,
    ) -> Result<StepGroups, String>;
    /// Where runs are tracked, beside what limits them.
    fn tracking(&self) -> Option<&Base> {
        None
    }
    /// Removes what is empty of ours, but for what `keep` says of a directory's name.
    fn sweep(&self, keep: &dyn Fn(&str) -> bool);
    /// Where supervisors go that must outlive this process's own directory; `None`: they stay in that.
    fn supervisors(&self) -> Option<PathBuf> {
        None
    }
    /// Removes what is empty of ours, our own directory too.
    fn remove(&self);
    /// Kills and removes what a lost supervisor left of a step.
    fn kill(&self, job: &str, step: &str);
}

/// Limits nothing, and says so; tracks where it can.
struct NoLimits {
    tracking: Option<Base>,
    lacks: Vec<String>,
}

impl NoLimits {
    fn make(name: &str, policy: &Policy, why: &str) -> Self {
        let mut lacks: Vec<String> = [
            "memory limits are not enforced",
            "jobs are not bound to their CPUs",
            "jobs can open devices that they were not given",
        ]
        .map(|what| format!("{what}: {why}"))
        .into();
        let tracking = match policy.plugin {
            Plugin::Disabled => Err("CgroupPlugin=disabled".to_owned()),
            _ => Base::make(name),
        };
        if let Err(why) = &tracking {
            lacks.push(format!("{why}: processes are tracked by descent"));
        }
        Self { tracking: tracking.ok(), lacks }
    }
}

impl Limits for NoLimits {
    fn describe(&self) -> String {
        if self.tracking.is_some() { "none, cgroup2 for tracking" } else { "none" }.to_owned()
    }

    fn holds(&self) -> bool {
        false
    }

    fn lacks(&self) -> Vec<String> {
        self.lacks.clone()
    }

    fn open_job(&self, _: &str, _: &Share) -> Result<(), String> {
        Ok(())
    }

    fn close_job(&self, _: &str) {}

    fn step(&self, _: &str, _: &str, run: &str, _: &Share, _: &Share) -> Result<StepGroups, String> {
        let cgroup = self.tracking.as_ref().map_or_else(Vec::new, |base| base.of_run(run));
        let cgroup_lent = !cgroup.is_empty();
        Ok(StepGroups { cgroup, cgroup_lent, ..StepGroups::default() })
    }

    fn tracking(&self) -> Option<&Base> {
        self.tracking.as_ref()
    }

    fn sweep(&self, _: &dyn Fn(&str) -> bool) {}

    fn remove(&self) {
        if let Some(tracking) = &self.tracking {
            tracking.remove_if_empty();
        }
    }

    fn kill(&self, _: &str, _: &str) {}
}

/// The folder below which each run has a cgroup2 directory of its own.
#[derive(Debug)]
pub struct Base {
    path: PathBuf,
    lent: lent::Lent,
}

impl Base {
    /// Makes (or finds again) the folder `name` below this process's own cgroup.
    ///
    /// # Errors
    /// No cgroup2 file system, or no right to make a directory in it: a sentence for the node's facts.
    pub fn make(name: &str) -> Result<Self, String> {
        let (own, _) = Places::read()?.unified().ok_or("no cgroup2 file system is mounted")?;
        let path = own.join(name);
        place::make(&path)
            .map_err(|error| format!("no cgroup can be made below {}: {error}", own.display()))?;
        let lent = lent::Lent::new(path.clone());
        Ok(Self { path, lent })
    }

    /// The directory of one run, to be made by its supervisor where it is not there.
    #[must_use]
    pub fn of_run(&self, folder_name: &str) -> Vec<u8> {
        use std::os::unix::ffi::OsStringExt;
        self.lent.lend(folder_name).into_os_string().into_vec()
    }

    /// Removes what an earlier executor left empty, but for `in_use`.
    fn sweep(&self, in_use: &[PathBuf]) {
        let found = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in found.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            if !in_use.contains(&path) {
                place::sweep(&path, &|_| false);
            }
        }
    }

    /// Removes the folder if no run is left in it.
    pub fn remove_if_empty(&self) {
        place::sweep(&self.path, &|_| false);
    }
}

struct OpenJob {
    share: Share,
    steps: BTreeSet<StepId>,
}

/// The chosen back end, and the jobs whose directories exist.
pub struct Cgroups {
    limits: Box<dyn Limits>,
    policy: Policy,
    machine: Machine,
    jobs: Mutex<BTreeMap<(u32, u32), OpenJob>>,
}

impl Cgroups {
    /// Chooses by policy and machine. `name` is that of our directories; `root` a version 2 directory that was prepared
    /// for us.
    #[must_use]
    pub fn choose(policy: Policy, machine: Machine, name: &str, root: Option<&Path>) -> Self {
        let limits = choose(&policy, name, root);
        Self { limits, policy, machine, jobs: Mutex::default() }
    }

    /// Without any cgroup: nothing is limited, nothing is tracked by the kernel.
    #[must_use]
    pub fn none() -> Self {
        let limits = Box::new(NoLimits { tracking: None, lacks: Vec::new() });
        let policy = Policy::off();
        Self { limits, policy, machine: Machine::default(), jobs: Mutex::default() }
    }

    /// The back end, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.limits.describe()
    }

    /// See [`Limits::lacks`].
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        self.limits.lacks()
    }

    /// Whether a job can open the devices only that it was given: it sees them from 0 on.
    #[must_use]
    pub fn constrain_devices(&self) -> bool {
        self.policy.devices && self.limits.filters_devices()
    }

    /// What a probe is to be held to; `None` where nothing is limited.
    fn probe_share(&self) -> Option<Share> {
        (self.policy.limits() && self.limits.holds()).then(|| attest::share(self))
    }

    /// Makes what a step with this share, the only one of its job, needs.
    fn enter_share(&self, key: Key, share: &Share) -> Result<StepGroups, String> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = job_name(key);
        self.limits.open_job(&job, share)?;
        let steps = BTreeSet::from([key.step]);
        jobs.insert((key.job_id, key.run), OpenJob { share: share.clone(), steps });
        drop(jobs);
        self.limits.step(&job, &step_name(key), &key.folder(), share, share)
    }

    /// Makes what the step of a launch needs; where its processes go.
    ///
    /// # Errors
    /// A limit cannot be set: a sentence; the step must not be started.
    pub fn enter(
        &self,
        key: Key,
        launch: &wire::Launch,
        open: Capabilities<'_>,
    ) -> Result<StepGroups, String> {
        let (job, step) = (job_name(key), step_name(key));
        let of = |allocation: Option<&wire::NodeAllocation>, open: &[u32]| {
            let share = |allocation| self.policy.share(allocation, &self.machine, open);
            allocation.map_or_else(Share::default, share)
        };
        if !self.policy.limits() {
            return self.limits.step(&job, &step, &key.folder(), &Share::default(), &Share::default());
        }
        let whole = of(launch.allocation.get(launch.node_index as usize), open.job);
        let share = match key.step {
            StepId::Batch | StepId::Extern | StepId::Hook(_) => whole.clone(),
            StepId::Interactive | StepId::Number(_) => {
                let here = launch.step_nodes.get(launch.step_node_index as usize);
                let share = of(here.and_then(|node| node.allocation.as_ref()), open.step);
                // What the step does not say is the job's.
                Share {
                    cpus: share.cpus.or_else(|| whole.cpus.clone()),
                    quota: share.quota.or(whole.quota),
                    memory: share.memory.or(whole.memory),
                    ..share
                }
            }
        };
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key.job_id, key.run);
        if jobs.get(&place).is_none_or(|open| open.share != whole) {
            self.limits.open_job(&job, &whole)?;
        }
        let open =
            jobs.entry(place).or_insert_with(|| OpenJob { share: whole.clone(), steps: BTreeSet::new() });
        open.share.clone_from(&whole);
        open.steps.insert(key.step);
        drop(jobs);
        self.limits.step(&job, &step, &key.folder(), &whole, &share)
    }

    /// Binds the step's tasks to processors, where the launch and the configuration say so (`--cpu-bind`).
    pub fn bind(&self, spec: &mut Spec, launch: &wire::Launch, node: &str) {
        let text = launch.tasks.as_ref().and_then(|tasks| tasks.cpu_bind.as_deref());
        let Some(binding) = text.filter(|_| self.policy.affinity).and_then(Binding::parse) else { return };
        let here = launch.step_nodes.get(launch.step_node_index as usize);
        let ranges = here.and_then(|here| here.allocation.as_ref()).map(|held| &*held.cpu_ranges);
        let cpus = ranges.and_then(|ranges| policy::kernel_cpus(ranges, &self.machine.cpus));
        // Processors that are only declared: those of the machine.
        let cpus = cpus.unwrap_or_else(crate::host::usable_cpus);
        let count = spec.tasks.len();
        for (local, task) in spec.tasks.iter_mut().enumerate() {
            let bound = binding.bound(node, task.rank, local, count, &cpus, &crate::host::part_of);
            (task.cpus, task.announce) = (bound.cpus, bound.announce);
        }
    }

    /// The step is over: the job's directories go with its last one. Blocking.
    pub fn leave(&self, key: Key) {
        if !self.policy.limits() {
            return;
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key.job_id, key.run);
        let Some(open) = jobs.get_mut(&place) else { return };
        open.steps.remove(&key.step);
        if open.steps.is_empty() {
            jobs.remove(&place);
            self.limits.close_job(&job_name(key));
        }
    }

    /// The run was acknowledged and nothing of it is left; with `again` its tracking directory may serve another. Blocking.
    pub fn give_back(&self, key: Key, again: bool) {
        if let Some(base) = self.limits.tracking() {
            base.lent.back(&key.folder(), again);
        }
    }

    /// After a start: takes the directories of these runs as they are, and removes what is empty of others. `in_use` are
    /// their tracking directories.
    pub fn retake(&self, held: &[Key], in_use: &[PathBuf]) {
        if let Some(base) = self.limits.tracking() {
            base.sweep(in_use);
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for key in held.iter().filter(|_| self.policy.limits()) {
            let open = jobs
                .entry((key.job_id, key.run))
                .or_insert_with(|| OpenJob { share: Share::default(), steps: BTreeSet::new() });
            open.steps.insert(key.step);
        }
        let kept: BTreeSet<String> = held.iter().map(|key| job_name(*key)).collect();
        self.limits.sweep(&|name| kept.contains(name));
    }

    /// Kills what a lost supervisor left in the step's directories. Blocking.
    pub fn kill(&self, key: Key) {
        self.limits.kill(&job_name(key), &step_name(key));
    }

    /// See [`Limits::supervisors`].
    #[must_use]
    pub fn supervisors(&self) -> Option<PathBuf> {
        self.limits.supervisors()
    }

    /// Removes what is empty.
    pub fn remove(&self) {
        self.limits.remove();
    }
}

/// One value to read back.
fn reading(dir: &Path, file: &str, what: &str, expected: String, measure: Measure) -> Reading {
    use std::os::unix::ffi::OsStrExt;
    let path = dir.join(file).as_os_str().as_bytes().to_vec();
    Reading { what: what.to_owned(), path, expected: expected.into_bytes(), measure }
}

fn job_name(key: Key) -> String {
    format!("job_{}.{}", key.job_id, key.run)
}

fn step_name(key: Key) -> String {
    format!("step_{}", key.step)
}

fn choose(policy: &Policy, name: &str, root: Option<&Path>) -> Box<dyn Limits> {
    if policy.plugin == Plugin::Disabled || !policy.limits() {
        let why = if policy.limits() { "CgroupPlugin=disabled" } else { policy.source };
        return Box::new(NoLimits::make(name, policy, why));
    }
    let places = match Places::read() {
        Ok(places) => places,
        Err(why) => return Box::new(NoLimits::make(name, policy, &why)),
    };
    let mut whys = Vec::new();
    // A hybrid machine has its controllers in version 1; a version 2 tree without any is for tracking.
    if policy.plugin != Plugin::V1 {
        match v2::V2::make(&places, root, name, policy) {
            Ok(found) if found.holds() && (policy.plugin == Plugin::V2 || found.has_controllers()) => {
                return Box::new(found);
            }
            Ok(found) => {
                whys.extend(found.whys());
                found.remove();
            }
            Err(why) => whys.push(why),
        }
    }
    if policy.plugin != Plugin::V2 {
        match v1::V1::make(&places, name, policy) {
            Some(found) => return Box::new(found),
            None => whys.push("no version 1 controller can be used".to_owned()),
        }
    }
    Box::new(NoLimits::make(name, policy, &whys.join("; ")))
}

/// Removes what is empty of the directories of this name below this process's own, in every hierarchy: what an executor
/// leaves that is killed and never started again. Answers those that are still there.
#[must_use]
pub fn remove_named(name: &str) -> Vec<PathBuf> {
    let Ok(places) = Places::read() else { return Vec::new() };
    let controllers = ["cpuset", "cpu", "memory", "pids", "devices", "freezer"];
    let own = controllers.iter().filter_map(|controller| places.of_controller(controller));
    let folders = own.chain(places.unified().map(|(own, _)| own)).map(|folder| folder.join(name));
    let swept = folders.inspect(|folder| place::sweep(folder, &|_| false));
    swept.filter(|folder| folder.exists()).collect()
}

/// Moves this process into a directory `hold` below its own, so that its own, which was delegated to it, has no processes
/// and can be given to executors (`SLUICE_CGROUP`). Answers that.
///
/// # Errors
/// No version 2 hierarchy, or no right to it: a sentence.
pub fn hold() -> Result<PathBuf, String> {
    let (own, mount) = Places::read()?.unified().ok_or("no cgroup2 file system is mounted")?;
    if own == mount {
        return Err(format!("{} is the whole hierarchy, not a service's part of it", own.display()));
    }
    let leaf = own.join("hold");
    place::make(&leaf)
        .and_then(|()| fs::write(leaf.join("cgroup.procs"), "0"))
        .map_err(|error| format!("{}: {error}", leaf.display()))?;
    Ok(own)
}

/// The name of an executor's directories: of its node and its spool.
#[must_use]
pub fn name_of(node: &str, spool_id: &[u8]) -> String {
    format!("sluice-{node}-{}", mark_of(spool_id))
}

/// What no other executor's things are named by: the front of its spool's id.
#[must_use]
pub fn mark_of(spool_id: &[u8]) -> String {
    spool_id.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Kills everything in a directory and removes it. Blocking, at most `patience`.
pub fn kill(path: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    while path.exists() {
        if fs::write(path.join("cgroup.kill"), "1").is_err() {
            kill_members(path);
        }
        place::sweep(path, &|_| false);
        if Instant::now() > deadline {
            tracing::error!(path = %path.display(), "processes in this cgroup do not die");
            return;
        }
        if path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Version 1: one by one. What is frozen dies when it may go on.
fn kill_members(path: &Path) {
    use nix::sys::signal::{Signal, kill};
    let state = path.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        // Gone already is as good.
        let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
}
