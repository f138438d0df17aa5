//! The GPUs of this node: what a driver shows, MIG instances made and destroyed, what a job is bound to.
//!
//! ```text
//!  nvml (libnvidia-ml.so.1) ─► Driver ─► inventory (against gres.conf) ─► facts of the node
//!                                 │
//!                                 ├─► instances: one driver call at a time for each GPU
//!                                 └─► vitals, fatal errors (XID)
//! ```
//!
//! GPUs are counted by PCI bus order from 0 and never by minor. Ids of profiles and places are the driver's and are
//! read from it. What fails concerns one GPU wherever that is possible: the rest of the node works.

pub mod bind;
pub mod caps;
pub mod dcgm;
pub mod inventory;
pub mod node;
pub mod nvml;
pub mod procfs;
pub mod slices;

use std::fmt;

pub use executor_claims::{Instance, Profile};

/// A GPU as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// `GPU-…`.
    pub uuid: String,
    /// As the driver names it: `NVIDIA A100-SXM4-40GB`.
    pub product: String,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Bus address: `00000000:18:00.0`.
    pub pci: String,
    /// Of `/dev/nvidiaN`.
    pub minor: u32,
    /// The kernel's numbers of the processors near it; empty: not known.
    pub cpus: Vec<u32>,
    /// NVLinks to each GPU, in the order of observation; empty: none.
    pub links: Vec<u32>,
    /// MIG mode is on.
    pub mig: bool,
    /// How it can be cut, in the driver's order; empty without MIG.
    pub profiles: Vec<Profile>,
    /// What it is cut into.
    pub instances: Vec<Instance>,
}

/// One of the driver's GPUs: observed, or why it could not be.
pub type Observed = Result<Gpu, Fault>;

/// How a GPU does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Percent of the last sample period in which a kernel ran; `None` where the driver does not say (MIG mode).
    pub utilisation: Option<u32>,
    /// Memory in use, MiB.
    pub memory_used_mib: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// NVML's reasons for lower clocks, as bits.
    pub throttle: Option<u64>,
}

/// A driver's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call, by the header's name.
    pub call: &'static str,
    /// NVML's code; 0 where there is none.
    pub code: u32,
    /// In words.
    pub text: String,
}

/// NVML's codes that decide something here.
pub mod code {
    /// Not with this device, or not in this mode.
    pub const NOT_SUPPORTED: u32 = 3;
    /// No such instance.
    pub const NOT_FOUND: u32 = 6;
    /// The library lacks the function.
    pub const FUNCTION_NOT_FOUND: u32 = 13;
    /// The device fell off the bus.
    pub const GPU_IS_LOST: u32 = 15;
    /// Something still uses it.
    pub const IN_USE: u32 = 19;
    /// No room; also the answer for a place that is taken.
    pub const INSUFFICIENT_RESOURCES: u32 = 23;
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.call, self.text)
    }
}

impl std::error::Error for Fault {}

/// What is asked of a driver. GPUs are numbered by PCI bus order; calls block, some for seconds, and are never made
/// twice at a time for one GPU by [`instances`].
pub trait Driver: Send + Sync {
    /// Its version, for people.
    fn version(&self) -> String;
    /// Every GPU, by PCI bus order.
    ///
    /// # Errors
    /// The driver answers nothing at all.
    fn observe(&self) -> Result<Vec<Observed>, Fault>;
    /// What the GPU is cut into now.
    ///
    /// # Errors
    /// The driver's.
    fn instances(&self, gpu: usize) -> Result<Vec<Instance>, Fault>;
    /// Makes a GPU instance at a place, with one compute instance that takes all of it. What was made is taken back
    /// where the second part fails.
    ///
    /// # Errors
    /// The driver's; the place is as it was, unless the text says otherwise.
    fn create(&self, gpu: usize, profile: &Profile, start: u32) -> Result<Instance, Fault>;
    /// Destroys an instance with its compute instances. One that is not there, or not the same one any more, is left
    /// alone: that is no error.
    ///
    /// # Errors
    /// The driver's ([`code::IN_USE`] while a process holds it).
    fn destroy(&self, gpu: usize, instance: &Instance) -> Result<(), Fault>;
    /// How a GPU does.
    ///
    /// # Errors
    /// It is lost.
    fn vitals(&self, gpu: usize) -> Result<Vitals, Fault>;
    /// Memory that is used of an instance, MiB.
    ///
    /// # Errors
    /// The driver's.
    fn instance_memory_used_mib(&self, gpu: usize, instance: &Instance) -> Result<u64, Fault>;
    /// Critical errors (XID) since the last call: GPU and number.
    fn errors(&self) -> Vec<(usize, u64)>;
}

impl Gpu {
    /// Profile of that id.
    #[must_use]
    pub fn profile(&self, id: u32) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// Profile of that name.
    #[must_use]
    pub fn profile_named(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }
}
