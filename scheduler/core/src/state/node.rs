//! A node: what it is declared to have, what its executor says, what is in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::gpu::Gpu;
use model::id::{BootId, SpoolId, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;

use crate::allocation::Slice;
use crate::gpu::inventory::Inventory;
use crate::gpu::shards::{Lanes, Shards};
use crate::gpu::slice_set::SliceSet;

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GresDefinition {
    /// `gpu`.
    pub name: Box<str>,
    /// `a100`; empty where the kind has no type.
    pub kind: Box<str>,
    /// How many.
    pub count: u64,
    /// Whether each one has an index of its own (device files), or they are only counted.
    pub indexed: bool,
}

/// What a node is declared to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDefinition {
    /// NodeName.
    pub name: Box<str>,
    /// NodeHostname.
    pub hostname: Box<str>,
    /// NodeAddr.
    pub address: Box<str>,
    /// Port.
    pub port: u32,
    /// Schedulable hardware threads.
    pub cpus: Cpus,
    /// Boards.
    pub boards: u32,
    /// Sockets in all.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores_per_socket: u32,
    /// Threads of each core.
    pub threads_per_core: u32,
    /// RealMemory.
    pub memory: MemoryMib,
    /// TmpDisk.
    pub tmp_disk: MemoryMib,
    /// Features, in order.
    pub features: Vec<Box<str>>,
    /// Generic resources, in order.
    pub gres: Vec<GresDefinition>,
    /// Lower is preferred.
    pub weight: u32,
    /// CPU ids exist and are bound (false: CPUs are only counted).
    pub bind: bool,
}

/// What the administrator set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// No new jobs.
    pub drain: bool,
    /// Not to be used.
    pub down: bool,
    /// Set by RESUME: shown as not responding until the executor reports.
    pub resume_pending: bool,
    /// The node has less than is declared, as its executor says: it is out of service, and RESUME is refused.
    pub invalid: bool,
    /// Why.
    pub reason: Box<str>,
    /// Who gave the reason.
    pub reason_uid: Option<Uid>,
    /// When.
    pub reason_at: Option<Timestamp>,
}

/// Whether the executor is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Has never registered with this state.
    #[default]
    Never,
    /// Has a session.
    Up,
    /// Had one.
    Silent {
        /// Since when.
        since: Timestamp,
        /// NodeTimeout has passed: shown DOWN.
        timed_out: bool,
    },
}

/// Who the executor said it is when it last registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The kernel's boot id.
    pub boot: BootId,
    /// The spool's id.
    pub spool: SpoolId,
}

/// How large a machine is, as its executor says, whatever is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Hardware threads.
    pub cpus: Cpus,
    /// Sockets in all.
    pub sockets: u32,
    /// Cores of each.
    pub cores_per_socket: u32,
    /// Threads of each core.
    pub threads_per_core: u32,
    /// Memory.
    pub memory: MemoryMib,
    /// Space for temporary files.
    pub tmp_disk: MemoryMib,
    /// GPUs: those that a driver shows, or whose device files exist where gres.conf names some, or as declared. `None`: a record
    /// of a time when they were not counted.
    pub gpus: Option<u64>,
}

/// What the executor observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Operating system line.
    pub os: Box<str>,
    /// Machine architecture.
    pub architecture: Box<str>,
    /// Version of the executor.
    pub version: Box<str>,
    /// When the machine was booted.
    pub boot_at: Option<Timestamp>,
    /// When the executor was started.
    pub start_at: Option<Timestamp>,
    /// Folder of run folders on the node.
    pub run_folder: Box<str>,
    /// User that the executor runs as.
    pub uid: Option<Uid>,
    /// What the node cannot enforce, a sentence each.
    pub lacks: Vec<Box<str>>,
    /// What holds jobs to their shares, in a few words.
    pub cgroups: Box<str>,
    /// What a probe at the executor's start was held to, a sentence each.
    pub attested: Vec<Box<str>>,
    /// Its GPUs as the driver shows them, in order of index; empty: not observed through a driver.
    pub gpus: Vec<Gpu>,
    /// How large it is; the machine takes it from the registration. `None`: registered with a version that kept none.
    pub hardware: Option<Hardware>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is declared to have.
    pub definition: Arc<NodeDefinition>,
    /// The configuration no longer names it; it takes no new jobs.
    pub removed: bool,
    /// What the administrator set.
    pub admin: Admin,
    /// Whether the executor is there.
    pub link: Link,
    /// Who it said it is.
    pub incarnation: Option<Incarnation>,
    /// What it observed.
    pub observed: Arc<Observed>,
    /// When its last job ended.
    pub last_busy: Option<Timestamp>,
    /// What its GPUs offer, where they are observed. Derived from definition and observation.
    pub inventory: Option<Arc<Inventory>>,
    /// Its GPUs that jobs may share in parts; `None`: there are none. Derived like the inventory.
    pub shards: Option<Arc<Shards>>,
    /// What jobs hold of it. Derived.
    pub used: Used,
}

/// What jobs hold of a node. Derived from allocations by `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// CPUs, as jobs hold them: one that several hold counts for each.
    pub cpus: Cpus,
    /// Which CPUs, as bits; empty where CPUs are only counted.
    pub cpu_bits: Vec<u64>,
    /// Which CPUs have a second, third … holder (OverSubscribe): layer above layer, as many as are needed. A CPU
    /// that several hold is in all layers up to its number of holders.
    pub cpu_layers: Vec<Vec<u64>>,
    /// Jobs of those below that let others beside them on their CPUs.
    pub sharing: u32,
    /// Memory.
    pub memory: MemoryMib,
    /// By kind of generic resource: how many.
    pub gres: Vec<u64>,
    /// By kind: which ones, as bits.
    pub gres_bits: Vec<Vec<u64>>,
    /// Slices that were made on dynamic GPUs, by GPU and first memory slice.
    pub cuts: BTreeMap<(u32, u8), Slice>,
    /// Shards that jobs hold, by index of the GPU.
    pub shards: BTreeMap<u32, u64>,
    /// Jobs.
    pub jobs: u32,
    /// Jobs that are ending.
    pub completing: u32,
}

impl Used {
    /// Nothing is held any more; the tables keep their sizes.
    pub fn clear(&mut self) {
        self.cpus = Cpus::ZERO;
        self.memory = MemoryMib::ZERO;
        self.cpu_bits.fill(0);
        self.cpu_layers.clear();
        self.sharing = 0;
        self.gres.fill(0);
        self.gres_bits.iter_mut().for_each(|bits| bits.fill(0));
        self.cuts.clear();
        self.shards.clear();
        self.jobs = 0;
        self.completing = 0;
    }
}

impl Node {
    /// Whether a new job may start on it.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.link == Link::Up && !self.removed && !self.admin.drain && !self.admin.down
    }

    /// What it offers: its definition, less the devices that are out of service.
    #[must_use]
    pub fn offer(&self) -> &NodeDefinition {
        self.inventory.as_deref().map_or(&*self.definition, |inventory| &*inventory.offered)
    }

    /// Memory slices of dynamic GPUs that no job holds.
    #[must_use]
    pub fn free_slices(&self) -> SliceSet {
        let Some(inventory) = &self.inventory else { return SliceSet::EMPTY };
        self.used.cuts.values().fold(inventory.slices, |free, slice| free & !slice.bits())
    }

    /// What of each GPU that may be shared no job holds: nothing where a job has the whole of it.
    #[must_use]
    pub fn free_shards(&self) -> Lanes {
        let Some(shards) = &self.shards else { return Lanes::default() };
        let mut free = Lanes::default();
        for (lane, gpu) in shards.gpus.iter().enumerate() {
            let bits = self.used.gres_bits.get(gpu.kind).and_then(|bits| bits.get(gpu.unit as usize / 64));
            let whole = bits.is_some_and(|word| word >> (gpu.unit % 64) & 1 == 1);
            let held = self.used.shards.get(&gpu.index).copied().unwrap_or(0);
            let left = u64::from(gpu.count).saturating_sub(if whole { u64::MAX } else { held });
            free = free.plus(Lanes::one(lane, u8::try_from(left).unwrap_or(u8::MAX)));
        }
        free
    }

    /// CPUs that no job holds.
    #[must_use]
    pub fn free_cpus(&self) -> Cpus {
        self.definition.cpus.saturating_sub(self.busy_cpus())
    }

    /// CPUs that some job holds, each once. Cost: O(CPUs / 64) where jobs share them, else O(1).
    #[must_use]
    pub fn busy_cpus(&self) -> Cpus {
        if self.used.sharing == 0 {
            return self.used.cpus;
        }
        if !self.definition.bind {
            return self.used.cpus.min(self.definition.cpus);
        }
        Cpus(self.used.cpu_bits.iter().map(|word| word.count_ones()).sum())
    }

    /// Memory that no job holds.
    #[must_use]
    pub fn free_memory(&self) -> MemoryMib {
        self.definition.memory.saturating_sub(self.used.memory)
    }
}
