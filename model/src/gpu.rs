//! GPUs as an executor observes them: identity, mode, the slices that they can be cut into.
//!
//! Owns the words that executor, scheduler and client share, and the names of profiles. Knows no driver and
//! no placement rule. Source: NVIDIA MIG User Guide (profiles, placements) and NVML's structures.

use std::fmt;

/// How a GPU is given to jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuMode {
    /// As a whole: MIG is off.
    #[default]
    Whole,
    /// By the instances that exist on it; nobody makes or removes any.
    Fixed,
    /// By instances that are made for a run and removed after it.
    Dynamic,
}

/// A kind of instance that a GPU offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigProfile {
    /// The driver's number, by which an instance is made.
    pub id: u32,
    /// `3g.20gb`.
    pub name: Box<str>,
    /// Compute slices that it takes.
    pub compute_slices: u32,
    /// Memory slices that it takes: the length of its run.
    pub memory_slices: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Memory slices at which it may begin, ascending.
    pub starts: Vec<u32>,
}

/// An instance that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigInstance {
    /// Name of its profile.
    pub profile: Box<str>,
    /// First memory slice.
    pub start: u32,
    /// Memory slices that it takes.
    pub size: u32,
    /// Number of the GPU instance.
    pub gi: u32,
    /// Number of the compute instance.
    pub ci: u32,
    /// `MIG-…`; another one each time it is made.
    pub uuid: Box<str>,
}

/// So many GPUs of a node, the first ones, can be cut as jobs need it: their memory slices are planned as two words of bits.
pub const DYNAMIC_GPUS_MAX: u32 = 16;

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpu {
    /// Its place in PCI bus order, from 0.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: Box<str>,
    /// Slurm's type (`a100`); empty: none.
    pub kind: Box<str>,
    /// The maker's name for it (`NVIDIA A100-SXM4-40GB`).
    pub product: Box<str>,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// PCI bus id.
    pub pci: Box<str>,
    /// CPUs near it, by the kernel's numbers, as first and last of each range.
    pub cpu_ranges: Vec<u32>,
    /// Cores near it, as the node counts them (`Cores=` of gres.conf), as first and last of each range; empty: all, or
    /// not known.
    pub core_ranges: Vec<u32>,
    /// NVLinks to each GPU by its index (`Links=` of gres.conf), 0 to itself; empty: none.
    pub links: Vec<u32>,
    /// Minor number of its device node.
    pub minor: u32,
    /// How it is given to jobs.
    pub mode: GpuMode,
    /// What it can be cut into; empty without MIG.
    pub profiles: Vec<MigProfile>,
    /// What exists on it.
    pub instances: Vec<MigInstance>,
    /// Why it is out of service; empty: it works.
    pub fault: Box<str>,
}

impl Gpu {
    /// Whether it works.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.fault.is_empty()
    }
}

/// The words of a mode: `whole`, `fixed`, `dynamic`.
impl fmt::Display for GpuMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
        })
    }
}

/// The gigabytes in the name of a profile: 20 of `3g.20gb`, `a100_3g.20gb` and `1g.20gb+me`; `None`: it is the
/// name of no profile.
#[must_use]
pub fn profile_gigabytes(name: &str) -> Option<u32> {
    let bare = name.rsplit('_').next().unwrap_or(name);
    let bare = bare.split_once('+').map_or(bare, |(bare, _)| bare);
    let (compute, memory) = bare.split_once("g.")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let memory = memory.strip_suffix("gb")?;
    (is_number(compute) && is_number(memory)).then(|| memory.parse().ok())?
}

/// The gigabytes of a request for any slice of at least so much memory: 20 of `20gb+`.
#[must_use]
pub fn least_gigabytes(kind: &str) -> Option<u32> {
    let digits = kind.strip_suffix("gb+")?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_profiles() {
        for (name, expected) in [
            ("3g.20gb", Some(20)),
            ("a100_3g.20gb", Some(20)),
            ("nvidia_h100_80gb_hbm3_4g.40gb", Some(40)),
            ("1g.5gb+me", Some(5)),
            ("a100", None),
            ("3g.20", None),
            ("g.20gb", None),
            ("3g.gb", None),
            ("", None),
        ] {
            assert_eq!(profile_gigabytes(name), expected, "{name}");
        }
        assert_eq!(
            [least_gigabytes("20gb+"), least_gigabytes("gb+"), least_gigabytes("20gb")],
            [Some(20), None, None]
        );
    }
}
