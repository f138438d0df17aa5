//! Cores that are kept for jobs with GPUs (`RestrictedCoresPerGPU` of a node in slurm.conf).
//!
//! Owns which CPUs of a node are kept with which GPU, and which of them a job has no access to. Derived from the settings and
//! from what is known of where GPUs lie each time it is asked for; no state.
//!
//! * Each GPU keeps the lowest of the cores near it that no GPU before it keeps, as many as there are; a GPU that lies nowhere
//!   in particular keeps none.
//! * A job has access to what its own GPUs keep (of a slice or of shards: what their GPU keeps), and to all that nobody keeps.
//!   One that has its nodes for itself has all their GPUs.
//!
//! Source: `man slurm.conf` (RestrictedCoresPerGPU).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::assign::Bits;
use super::demand::{Demand, Share};
use super::near::Near;
use crate::allocation::{CpuIds, GresShare, NodeShare};
use crate::settings::Settings;
use crate::state::node::Node;

/// The CPUs that a GPU keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Of {
    /// Place of its kind in the definition, and its place in that kind.
    unit: (u32, u32),
    /// Its index on the node.
    gpu: u32,
    cpus: Vec<u32>,
}

/// What the GPUs of a node keep, and how many cores each would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept(Vec<Of>, u32);

/// How many CPUs of a node a job could have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Those that nobody keeps.
    open: u32,
    /// The most that a GPU keeps.
    each: u32,
    gpus: u64,
}

impl Reach {
    /// With so many GPUs, slices or shards.
    pub(crate) fn with(self, gpus: u64) -> u32 {
        let gpus = u32::try_from(gpus.min(self.gpus)).unwrap_or(u32::MAX);
        self.open.saturating_add(self.each.saturating_mul(gpus))
    }
}

impl Kept {
    /// `None`: no core of the node is kept, or its CPUs are only counted.
    pub(crate) fn of(settings: &Settings, node: &Node) -> Option<Self> {
        let definition = &*node.definition;
        let known = settings.kept_cores.binary_search_by(|one| one.node.cmp(&definition.name)).ok()?;
        let each = settings.kept_cores[known].per_gpu;
        let near = Near::known(settings, node).filter(|_| definition.bind)?;
        let threads = definition.threads_per_core.max(1);
        let (mut taken, mut all) = (BTreeSet::<u32>::new(), Vec::<Of>::new());
        let mut next = 0;
        for (kind, gres) in (0..).zip(&definition.gres).filter(|(_, gres)| &*gres.name == "gpu") {
            let lies = near.units(definition, kind);
            for unit in 0..u32::try_from(gres.count).unwrap_or(u32::MAX).min(1024) {
                let shown = node.inventory.as_deref().and_then(|one| one.units.get(kind as usize));
                let gpu = shown.map_or(Some(next), |units| Some(units.get(unit as usize)?.slice.gpu));
                next += 1;
                let Some(gpu) = gpu.filter(|gpu| all.iter().all(|of| of.gpu != *gpu)) else { continue };
                let ranges = lies.get(unit as usize).map_or(&[][..], |lies| lies.cores());
                let cores = ranges.chunks_exact(2).flat_map(|pair| pair[0]..=pair[1]);
                let own: Vec<u32> = cores.filter(|core| !taken.contains(core)).take(each as usize).collect();
                taken.extend(own.iter().copied());
                let cpus = own.iter().flat_map(|core| core * threads..(core + 1) * threads);
                let cpus = cpus.filter(|cpu| *cpu < definition.cpus.0).collect();
                all.push(Of { unit: (kind, unit), gpu, cpus });
            }
        }
        (!taken.is_empty()).then_some(Self(all, each))
    }

    /// The same for a job that has to do with it.
    pub(crate) fn from(settings: &Settings, demand: &Demand, node: &Node) -> Option<Self> {
        let matters = demand.keeps && demand.share != Share::Whole;
        matters.then(|| Self::of(settings, node)).flatten()
    }

    /// How many CPUs a job could have of so many.
    pub(crate) fn reach(&self, cpus: u32) -> Reach {
        let counts = || self.0.iter().map(|of| u32::try_from(of.cpus.len()).unwrap_or(u32::MAX));
        let open = cpus.saturating_sub(counts().sum());
        Reach { open, each: counts().max().unwrap_or(0), gpus: self.0.len() as u64 }
    }

    /// Whether a share has nothing of what is kept for others.
    pub(crate) fn leaves(&self, share: &NodeShare) -> bool {
        let closed = self.with_others(&Bits::default(), &share.gres);
        share.cpu_ids.iter().all(|cpu| closed.is_free(cpu))
    }

    /// `used`, and what GPUs keep of which a job with these devices has no part.
    pub(crate) fn with_others(&self, used: &Bits, gres: &[GresShare]) -> Bits {
        let mut bits = used.clone();
        for of in &self.0 {
            let has = |share: &GresShare| match share.slices.as_slice() {
                [] => share.kind == of.unit.0 && share.indices.contains(of.unit.1),
                slices => slices.iter().any(|slice| slice.gpu == of.gpu),
            };
            if !gres.iter().any(has) {
                of.cpus.iter().for_each(|cpu| bits.take(*cpu));
            }
        }
        bits
    }
}

/// What a node keeps for jobs with GPUs, as scontrol shows it: `2(0-3,6-9)`; empty: nothing. Cost: O(GPUs × their cores).
#[must_use]
pub fn kept_cores_text(settings: &Settings, node: &Node) -> String {
    let Some(kept) = Kept::of(settings, node) else { return String::new() };
    let threads = node.definition.threads_per_core.max(1);
    let cores: BTreeSet<u32> = kept.0.iter().flat_map(|of| &of.cpus).map(|cpu| cpu / threads).collect();
    let ranges = cores.into_iter().map(|core| (core, core)).collect();
    format!("{}({})", kept.1, CpuIds::from_ranges(ranges).text())
}

/// `used`, and what the job has no access to; nothing is kept: the same.
pub(crate) fn closed<'a>(kept: Option<&Kept>, used: &'a Bits, gres: &[GresShare]) -> Cow<'a, Bits> {
    kept.map_or(Cow::Borrowed(used), |kept| Cow::Owned(kept.with_others(used, gres)))
}
