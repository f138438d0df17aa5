//! The node's GPUs as the agent has them: the driver's session, what was last told, what a run is bound to.
//!
//! Blocking where it says so. What the scheduler is told is the inventory; a change of it is told by registering again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::config::NodeConf;
use model::config::gres::{AutoDetect, GresConf};
use model::config::own::OwnConf;
use model::gpu::{Gpu, GpuMode, MigInstance};
use proto::v1;

use super::caps::Caps;
use super::inventory::{self, Inventory, Processors};
use super::nvml::{LIBRARY, Library};
use super::procfs::Files;
use super::slices::{Owner, Slices, Wanted};
use super::{Driver, Vitals};
use crate::cgroup::policy::Device;
use crate::key::Key;

/// Major of `/dev/nvidiaN`; the driver has it registered.
const MAJOR: u32 = 195;

/// Critical errors that are a program's fault and leave the GPU as it was: exceptions of an engine, a page fault, a
/// stopped or preempted channel, a video processor's exception, a fault of a context. All others take the GPU out of
/// service. Source: NVIDIA's catalogue of XIDs, and its device plugin for Kubernetes.
const XID_OF_PROGRAMS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Said wherever the library is not NVIDIA's.
pub const PRETENDED: &str = "the GPUs of this node are pretended (fake NVML): nothing computes on them";

/// A GPU or a slice that a run is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The GPU's place in PCI bus order.
    pub index: u32,
    /// Of its device file.
    pub minor: u32,
    /// Its UUID.
    pub uuid: String,
    /// Processors near it: first and last of each range.
    pub cpu_ranges: Vec<u32>,
    /// The slice; `None`: the whole GPU.
    pub instance: Option<MigInstance>,
}

/// Whether a resource is of GPUs: whole ones, slices, or shards of whole ones.
#[must_use]
pub fn is_of_gpus(gres: &v1::GresAllocation) -> bool {
    matches!(gres.name.as_str(), "gpu" | "shard")
}

/// Where GPUs are looked for.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The library to load instead of the system's.
    pub library: Option<OsString>,
    /// The folder that holds the driver's `proc` and `dev`: `/`, but for tests.
    pub root: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self { library: None, root: "/".into() }
    }
}

/// What does not change while the executor runs.
struct Setting {
    driver: Arc<dyn Driver>,
    node: Option<NodeConf>,
    conf: Option<GresConf>,
    own: OwnConf,
    processors: Processors,
    slices: Slices,
    caps: Option<Caps>,
    pretended: bool,
}

/// See the module comment.
#[derive(Default)]
pub struct Gpus {
    setting: Option<Setting>,
    shown: Mutex<Inventory>,
    /// Critical errors that were heard of.
    fatal: Mutex<BTreeMap<u32, u64>>,
    vitals: Mutex<Vec<v1::GpuVitals>>,
    /// A sentence where GPUs are wanted and no driver is there, or they are not looked for.
    missing: Option<String>,
    /// GPUs are wanted from a driver that is not there.
    sought: bool,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This machine's processors, counted as the node counts them: a configuration says how many threads a core has.
fn processors(node: Option<&NodeConf>) -> Processors {
    let threads = || crate::host::observe().threads_per_core;
    let numbers = crate::host::usable_cpus();
    Processors { numbers, threads: node.map_or_else(threads, |node| node.threads_per_core) }
}

impl Gpus {
    /// Looks for the node's GPUs as the configuration says. Blocking.
    #[must_use]
    pub fn open(
        configured: bool,
        node: Option<&NodeConf>,
        (conf, own): (Option<&GresConf>, &OwnConf),
        sources: &Sources,
    ) -> Self {
        let auto = node.map_or(AutoDetect::Unsaid, |node| inventory::auto_detect(&node.name, conf));
        let wanted = match auto {
            // Without a configuration what is there is offered, and that nothing is there is no news.
            AutoDetect::Unsaid => !configured,
            AutoDetect::Nvml | AutoDetect::Nvidia | AutoDetect::Full => true,
            AutoDetect::Off => false,
            AutoDetect::Other(other) => {
                return Self { missing: Some(other.sentence().to_owned()), ..Self::default() };
            }
        };
        if !wanted {
            return Self::default();
        }
        let library = sources.library.clone().unwrap_or_else(|| LIBRARY.into());
        let driver: Arc<dyn Driver> = match Library::load(&library) {
            Ok(loaded) => Arc::new(loaded),
            Err(_) if !configured => return Self::default(),
            Err(why) => match Files::read(&sources.root).ok().filter(|_| auto != AutoDetect::Nvml) {
                Some(files) => Arc::new(files),
                None => {
                    let missing = Some(format!("no GPU can be offered: {why}"));
                    let node = node.into_iter().flat_map(|node| &node.gres).filter(|gres| gres.is_gpu());
                    let none = |gres: &model::gres::GresRequest| v1::Gres {
                        name: "gpu".to_owned(),
                        r#type: gres.kind.as_deref().unwrap_or_default().to_owned(),
                        count: 0,
                    };
                    let shown = Inventory { gres: node.map(none).collect(), ..Inventory::default() };
                    return Self { missing, sought: true, shown: Mutex::new(shown), ..Self::default() };
                }
            },
        };
        Self::with(driver, node.cloned(), (conf.cloned(), own.clone()), Caps::read(&sources.root))
    }

    /// With a driver. Blocking.
    #[must_use]
    pub fn with(
        driver: Arc<dyn Driver>,
        node: Option<NodeConf>,
        (conf, own): (Option<GresConf>, OwnConf),
        caps: Option<Caps>,
    ) -> Self {
        let observed = driver.observe();
        let all = observed.as_deref().unwrap_or_default();
        let processors = processors(node.as_ref());
        let first =
            inventory::compare(node.as_ref(), (conf.as_ref(), &own), &processors, all, &[], &|_| None);
        let dynamic = first.gpus.iter().filter(|gpu| gpu.mode == GpuMode::Dynamic).filter_map(|gpu| {
            let seen = all.get(gpu.index as usize)?.as_ref().ok()?;
            Some((gpu.index, seen.uuid.clone(), seen.profiles.clone()))
        });
        let slices = Slices::new(Arc::clone(&driver), dynamic);
        let pretended = driver.version().contains("fake");
        let setting = Setting { driver, node, conf, own, processors, slices, caps, pretended };
        let mut shown = setting.compare(all, &[], &BTreeMap::new());
        if let Err(fault) = &observed {
            shown.lacks.push(format!("the GPUs cannot be observed: {fault}"));
        }
        let gpus = Self { setting: Some(setting), shown: Mutex::new(shown), ..Self::default() };
        tracing::info!(
            driver = gpus.version().unwrap_or_default(),
            gpus = locked(&gpus.shown).gpus.len(),
            "GPUs"
        );
        gpus
    }

    /// The driver's version; `None` without one.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.setting.as_ref().map(|setting| setting.driver.version())
    }

    /// Whether GPUs are looked for through a driver: device files that are only named count for nothing then.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.setting.is_some() || self.sought
    }

    /// Writes what is known into the node's facts.
    pub fn tell(&self, facts: &mut v1::NodeFacts) {
        let shown = locked(&self.shown);
        facts.gres.extend(shown.gres.iter().cloned());
        facts.lacks.extend(self.missing.iter().chain(&shown.lacks).cloned());
        facts.gpus = proto::convert::gpu::outwards(&shown.gpus);
    }

    /// What was last observed.
    #[must_use]
    pub fn shown(&self) -> Vec<Gpu> {
        locked(&self.shown).gpus.clone()
    }

    /// Observes again; whether anything is to be told, and the live runs whose instance is gone. Blocking.
    pub fn look(&self) -> (bool, Vec<(Key, String)>) {
        let Some(setting) = &self.setting else { return (false, Vec::new()) };
        for (gpu, xid) in setting.driver.errors() {
            let gpu = u32::try_from(gpu).unwrap_or(u32::MAX);
            tracing::error!(gpu, xid, "a GPU reports a critical error");
            if !XID_OF_PROGRAMS.contains(&xid) {
                locked(&self.fatal).insert(gpu, xid);
            }
        }
        let Ok(observed) = setting.driver.observe() else {
            // The library answers nothing at all: every GPU is out of service until it does.
            return (self.all_silent(), Vec::new());
        };
        let before = self.shown();
        let found = setting.compare(&observed, &before, &locked(&self.fatal));
        let uuids = |gpu: &super::Gpu| gpu.instances.iter().map(|there| there.uuid.clone()).collect();
        let there = observed.iter().flatten().map(|gpu| (gpu.uuid.clone(), uuids(gpu))).collect();
        let missing = setting.slices.missing(&there);
        *locked(&self.vitals) =
            observed.iter().enumerate().filter_map(|(at, gpu)| setting.vitals(at, gpu)).collect();
        let mut shown = locked(&self.shown);
        let changed = *shown != found;
        for lack in found.lacks.iter().filter(|lack| !shown.lacks.contains(lack)) {
            tracing::warn!("{lack}");
        }
        *shown = found;
        (changed, missing)
    }

    fn all_silent(&self) -> bool {
        let mut shown = locked(&self.shown);
        let before = shown.clone();
        for gpu in &mut shown.gpus {
            gpu.fault = "the driver does not answer".into();
        }
        *shown != before
    }

    /// The dynamic slices of an allocation.
    #[must_use]
    pub fn wanted(&self, allocation: &v1::NodeAllocation) -> Vec<Wanted> {
        let shown = locked(&self.shown);
        let dynamic =
            |index: u32| shown.gpus.iter().any(|gpu| gpu.index == index && gpu.mode == GpuMode::Dynamic);
        let slices = allocation.gres.iter().filter(|gres| is_of_gpus(gres)).flat_map(|gres| &gres.slices);
        slices
            .filter(|slice| !slice.profile.is_empty() && dynamic(slice.gpu))
            .map(|slice| Wanted { gpu: slice.gpu, profile: slice.profile.clone(), start: slice.start })
            .collect()
    }

    /// The life of instances; `None` without a driver.
    #[must_use]
    pub fn slices(&self) -> Option<&Slices> {
        self.setting.as_ref().map(|setting| &setting.slices)
    }

    /// What an allocation on this node means, by GPU and start; `None`: its GPUs are not observed.
    ///
    /// # Errors
    /// A sentence: something of it is not there.
    pub fn granted(
        &self,
        owner: Owner,
        allocation: &v1::NodeAllocation,
    ) -> Result<Option<Vec<Granted>>, String> {
        let Some(setting) = &self.setting else { return Ok(None) };
        let shown = locked(&self.shown);
        let mut found = Vec::new();
        for gres in allocation.gres.iter().filter(|gres| is_of_gpus(gres)) {
            let whole = |index: &u32| v1::Slice { gpu: *index, ..v1::Slice::default() };
            let slices: Vec<v1::Slice> = match gres.slices.is_empty() {
                true => gres.indices.iter().map(whole).collect(),
                false => gres.slices.clone(),
            };
            for slice in slices {
                let gpu = shown.gpus.iter().find(|gpu| gpu.index == slice.gpu);
                let gpu = gpu.ok_or_else(|| format!("this node has no GPU {}", slice.gpu))?;
                let instance = match (slice.profile.is_empty(), gpu.mode) {
                    (true, _) => None,
                    (false, GpuMode::Dynamic) => setting.made(owner, gpu, &slice),
                    (false, _) => gpu.instances.iter().find(|there| there.start == slice.start).cloned(),
                };
                if instance.is_none() && !slice.profile.is_empty() {
                    return Err(format!("GPU {} has no {} at {}", slice.gpu, slice.profile, slice.start));
                }
                found.push(Granted {
                    index: gpu.index,
                    minor: gpu.minor,
                    uuid: gpu.uuid.to_string(),
                    cpu_ranges: gpu.cpu_ranges.clone(),
                    instance,
                });
            }
        }
        found.sort_by_key(|one| (one.index, one.instance.as_ref().map(|there| there.start)));
        Ok(Some(found))
    }

    /// Device files of all GPUs, by index.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let of = |gpu: &Gpu| {
            use std::os::unix::fs::MetadataExt;
            let path = format!("/dev/nvidia{}", gpu.minor);
            let major = std::fs::metadata(path)
                .map_or(MAJOR, |facts| u32::try_from(nix::sys::stat::major(facts.rdev())).unwrap_or(MAJOR));
            Device { gres: "gpu".into(), index: gpu.index, block: false, major, minor: gpu.minor }
        };
        locked(&self.shown).gpus.iter().filter(|gpu| !gpu.uuid.is_empty()).map(of).collect()
    }

    /// The capabilities of MIG, where there are any: their major, and all that concern this node's GPUs.
    #[must_use]
    pub fn capabilities(&self) -> Option<(u32, Vec<u32>)> {
        let caps = self.setting.as_ref()?.caps.as_ref()?;
        let minors: Vec<u32> = locked(&self.shown).gpus.iter().map(|gpu| gpu.minor).collect();
        Some((caps.major(), caps.all(&minors)))
    }

    /// Minors of the capabilities of what is granted; their device files are made where they are missing. Blocking.
    ///
    /// # Errors
    /// A sentence: a device file cannot be made.
    pub fn open_capabilities(&self, granted: &[Granted]) -> Result<Vec<u32>, String> {
        let Some(caps) = self.setting.as_ref().and_then(|setting| setting.caps.as_ref()) else {
            return Ok(Vec::new());
        };
        let of = |one: &Granted| {
            one.instance
                .as_ref()
                .map_or_else(Vec::new, |there| caps.of_instance(one.minor, there.gi, there.ci))
        };
        let minors: Vec<u32> = granted.iter().flat_map(of).collect();
        caps.make_nodes(&minors)
            .map_err(|error| format!("the device files of MIG capabilities cannot be made: {error}"))?;
        Ok(minors)
    }

    /// How each GPU did when it was last looked at.
    #[must_use]
    pub fn vitals(&self) -> Vec<v1::GpuVitals> {
        locked(&self.vitals).clone()
    }
}

impl Setting {
    fn vitals(&self, at: usize, gpu: &super::Observed) -> Option<v1::GpuVitals> {
        let gpu = gpu.as_ref().ok()?;
        let Vitals { utilisation, memory_used_mib, temperature, throttle } = self.driver.vitals(at).ok()?;
        let slice = |there: &super::Instance| {
            let memory_used_mib = self.driver.instance_memory_used_mib(at, there).ok()?;
            Some(v1::SliceVitals { start: there.start, memory_used_mib, uuid: there.uuid.clone() })
        };
        Some(v1::GpuVitals {
            index: u32::try_from(at).ok()?,
            utilisation,
            memory_used_mib,
            temperature,
            throttle,
            slices: gpu.instances.iter().filter_map(slice).collect(),
        })
    }

    fn compare(&self, observed: &[super::Observed], before: &[Gpu], fatal: &BTreeMap<u32, u64>) -> Inventory {
        let stuck = self.slices.faults();
        let judge = |gpu: &Gpu| match (fatal.get(&gpu.index), stuck.get(&gpu.index)) {
            (Some(xid), _) => Some(format!("it reported the critical error XID {xid}")),
            (None, Some(why)) => Some(why.clone()),
            (None, None) => self.foreign(gpu),
        };
        let conf = (self.conf.as_ref(), &self.own);
        let mut found =
            inventory::compare(self.node.as_ref(), conf, &self.processors, observed, before, &judge);
        // They come and go with runs, and are no fact about the node.
        for gpu in found.gpus.iter_mut().filter(|gpu| gpu.mode == GpuMode::Dynamic) {
            gpu.instances.clear();
        }
        if self.pretended {
            found.lacks.push(PRETENDED.to_owned());
        }
        found
    }

    /// Why a dynamic GPU cannot be planned with: what others made on it is not touched, and may be in the way.
    fn foreign(&self, gpu: &Gpu) -> Option<String> {
        let foreign = |there: &&MigInstance| !self.slices.is_claimed(&gpu.uuid, there.start);
        let uuids: Vec<&str> = match gpu.mode {
            GpuMode::Dynamic => gpu.instances.iter().filter(foreign).map(|there| &*there.uuid).collect(),
            GpuMode::Whole | GpuMode::Fixed => Vec::new(),
        };
        let list = uuids.join(", ");
        (!uuids.is_empty())
            .then(|| format!("it is dynamic, and has instances that somebody else made: {list}"))
    }

    fn made(&self, owner: Owner, gpu: &Gpu, slice: &v1::Slice) -> Option<MigInstance> {
        let made = self.slices.instance(owner, gpu.index, slice.start)?;
        Some(MigInstance {
            profile: slice.profile.as_str().into(),
            start: made.start,
            size: made.size,
            gi: made.gi,
            ci: made.ci?,
            uuid: made.uuid.into(),
        })
    }
}
