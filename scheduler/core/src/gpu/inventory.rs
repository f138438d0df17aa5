//! What the GPUs of one node offer: what it declares, held against what its executor observed.
//!
//! Owns the step from declared kinds (`gpu:a100:2`, `gpu:3g.20gb:2`) to units that lie somewhere, and the list of
//! dynamic GPUs with the profiles that they can be cut into. Derived from a node's definition and observation by
//! [`crate::apply`], and only where GPUs are observed through a driver. Decides nothing.
//!
//! * A kind that is the name of a profile counts the instances of fixed GPUs; each declared one is a unit.
//! * Any other kind counts GPUs: whole ones are units; a dynamic one is out of service as a unit and is cut.
//! * What is declared and not there, or has a fault, is out of service alone.

use std::sync::Arc;

use model::gpu::{Gpu, GpuMode, MigProfile, least_gigabytes, profile_gigabytes};

use super::geometry::{MEMORY_SLICES, Occupancy, Profile};
use super::slice_set::SliceSet;
use crate::allocation::Slice;
use crate::state::node::NodeDefinition;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The definition with what is in service of each kind as its count, and slices under their full names.
    pub offered: Arc<NodeDefinition>,
    /// By kind of the definition: where each unit lies. Empty for what is no GPU.
    pub units: Vec<Vec<Unit>>,
    /// GPUs that are cut as jobs need it, by index.
    pub dynamic: Vec<Dynamic>,
    /// Their memory slices.
    pub slices: SliceSet,
}

/// One declared device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Where it lies.
    pub slice: Slice,
    /// Jobs may have it.
    pub in_service: bool,
    /// Its GPU is cut, whether it works or not.
    pub cut: bool,
    /// Cores near it, as first and last of each range; empty: all.
    pub cores: Box<[u32]>,
    /// Links to each unit of its kind; empty: none.
    pub links: Box<[u32]>,
}

/// A GPU that is cut as jobs need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// Its index on the node, below [`Slice::GPUS_MAX`].
    pub index: u32,
    /// Its kind in the definition.
    pub kind: u32,
    /// What it can be cut into, smallest first.
    pub offers: Vec<Offer>,
    /// Cores near it, as first and last of each range; empty: all.
    pub cores: Box<[u32]>,
}

/// A profile of a dynamic GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `a100_3g.20gb`.
    pub label: Box<str>,
    /// `3g.20gb`.
    pub name: Box<str>,
    /// Memory slices.
    pub size: u8,
    /// Where it may begin, bit `i` for memory slice `i`.
    pub starts: u8,
    /// What the rules call it, where they know its shape.
    pub class: Option<Profile>,
}

/// Whether a type that is asked for names a type that there is.
///
/// Equal; the bare profile of a slice that is named with its GPU (`3g.20gb` of `a100_3g.20gb`); or `20gb+`, any slice
/// with so many gigabytes in its name.
#[must_use]
pub fn kind_answers(wanted: &str, kind: &str) -> bool {
    if wanted == kind {
        return true;
    }
    let Some(gigabytes) = profile_gigabytes(kind) else { return false };
    let bare = kind.rsplit('_').next().unwrap_or(kind);
    wanted == bare || least_gigabytes(wanted).is_some_and(|least| gigabytes >= least)
}

/// Whether a type that is asked for is a slice.
#[must_use]
pub fn is_slice(kind: &str) -> bool {
    profile_gigabytes(kind).is_some() || least_gigabytes(kind).is_some()
}

impl Inventory {
    /// `None`: nothing is observed through a driver, or no GPU is declared.
    #[must_use]
    pub fn of(definition: &NodeDefinition, gpus: &[Gpu]) -> Option<Self> {
        if gpus.is_empty() || !definition.gres.iter().any(|gres| &*gres.name == "gpu") {
            return None;
        }
        let mut offered = definition.clone();
        let mut inventory = Self {
            offered: Arc::new(definition.clone()),
            units: Vec::new(),
            dynamic: Vec::new(),
            slices: SliceSet::EMPTY,
        };
        for (kind, gres) in definition.gres.iter().enumerate() {
            if &*gres.name != "gpu" {
                inventory.units.push(Vec::new());
                continue;
            }
            let mut units = if profile_gigabytes(&gres.kind).is_some() {
                fixed_units(&gres.kind, gpus, &mut offered.gres[kind].kind)
            } else {
                inventory.count_gpus(kind, &gres.kind, gres.count, gpus)
            };
            units.truncate(usize::try_from(gres.count).unwrap_or(usize::MAX));
            link(&mut units, gpus);
            offered.gres[kind].count = units.iter().filter(|unit| unit.in_service).count() as u64;
            inventory.units.push(units);
        }
        inventory.dynamic.sort_by_key(|gpu| gpu.index);
        inventory.dynamic.dedup_by_key(|gpu| gpu.index);
        inventory.slices = SliceSet::union(inventory.dynamic.iter().map(Dynamic::bits));
        inventory.offered = Arc::new(offered);
        Some(inventory)
    }

    /// GPUs of a kind: units, and what of them is dynamic.
    fn count_gpus(&mut self, place: usize, kind: &str, count: u64, gpus: &[Gpu]) -> Vec<Unit> {
        let named = |gpu: &&Gpu| {
            // One that never answered may be of any kind: it is there, and gives nothing.
            let unknown = gpu.kind.is_empty() && !gpu.is_healthy();
            let same = kind.is_empty() || unknown || gpu.kind.eq_ignore_ascii_case(kind);
            gpu.mode != GpuMode::Fixed && same
        };
        let mut units = Vec::new();
        for gpu in gpus.iter().filter(named).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            let dynamic = gpu.mode == GpuMode::Dynamic;
            let slice = Slice { gpu: gpu.index, profile: "".into(), start: 0, size: 0 };
            let in_service = gpu.is_healthy() && !dynamic;
            units.push(Unit::new(slice, in_service, gpu));
            if dynamic && gpu.is_healthy() && gpu.index < Slice::GPUS_MAX {
                let kind = u32::try_from(place).expect("a node has few kinds");
                let cores = gpu.core_ranges.as_slice().into();
                self.dynamic.push(Dynamic { index: gpu.index, kind, offers: offers(gpu), cores });
            }
        }
        units
    }

    /// Whether a dynamic GPU can be cut into what is asked for.
    #[must_use]
    pub fn cuts(&self, wanted: &str) -> bool {
        self.dynamic.iter().any(|gpu| gpu.offers.iter().any(|offer| kind_answers(wanted, &offer.label)))
    }

    /// What a dynamic GPU calls a request: the smallest profile that answers it, as the rules know it.
    #[must_use]
    pub fn class_of(&self, wanted: &str) -> Option<Profile> {
        let offers = self.dynamic.iter().flat_map(|gpu| &gpu.offers);
        offers.filter(|offer| kind_answers(wanted, &offer.label)).find_map(|offer| offer.class)
    }

    /// Whether the unit of a kind may be given to a job; kinds that are no GPU know no such units.
    #[must_use]
    pub fn in_service(&self, kind: usize, index: u32) -> bool {
        match self.units.get(kind) {
            Some(units) if &*self.offered.gres[kind].name == "gpu" => {
                units.get(index as usize).is_some_and(|unit| unit.in_service)
            }
            Some(_) | None => true,
        }
    }

    /// Whether something is known of where some device lies.
    #[must_use]
    pub fn tells_places(&self) -> bool {
        self.units.iter().flatten().any(Unit::lies_somewhere)
            || self.dynamic.iter().any(|gpu| !gpu.cores.is_empty())
    }

    /// Where the units of a kind lie, in the order of the indices.
    pub fn places(&self, kind: usize, indices: impl Iterator<Item = u32>) -> Vec<Slice> {
        let units = self.units.get(kind).map_or(&[][..], Vec::as_slice);
        indices.filter_map(|index| units.get(index as usize)).map(|unit| unit.slice.clone()).collect()
    }

    /// What is declared and not there, as Slurm's reason for taking such a node out of service; `None`: all is there.
    ///
    /// A GPU with a fault is there.
    #[must_use]
    pub fn missing(&self, definition: &NodeDefinition) -> Option<String> {
        let short = |(gres, units): &(&crate::state::node::GresDefinition, &Vec<Unit>)| {
            &*gres.name == "gpu" && (units.len() as u64) < gres.count
        };
        let (gres, units) = definition.gres.iter().zip(&self.units).find(short)?;
        Some(format!(
            "gres/{} count reported lower than configured ({} < {})",
            gres.name,
            units.len(),
            gres.count
        ))
    }
}

impl Unit {
    fn new(slice: Slice, in_service: bool, gpu: &Gpu) -> Self {
        let cut = slice.size > 0 || gpu.mode == GpuMode::Dynamic;
        Self { slice, in_service, cut, cores: gpu.core_ranges.as_slice().into(), links: Box::default() }
    }

    /// Whether something is known of where it lies.
    #[must_use]
    pub fn lies_somewhere(&self) -> bool {
        !(self.cores.is_empty() && self.links.is_empty())
    }
}

/// Writes how whole GPUs of a kind are linked: the driver counts by GPU. Slices of different GPUs are never linked.
fn link(units: &mut [Unit], gpus: &[Gpu]) {
    let indices: Vec<usize> = units.iter().map(|unit| unit.slice.gpu as usize).collect();
    for unit in units.iter_mut().filter(|unit| unit.slice.size == 0) {
        let Some(gpu) = gpus.iter().find(|gpu| gpu.index == unit.slice.gpu && !gpu.links.is_empty()) else {
            continue;
        };
        unit.links = indices.iter().map(|index| gpu.links.get(*index).copied().unwrap_or(0)).collect();
    }
}

impl Dynamic {
    /// All its memory slices.
    #[must_use]
    pub fn bits(&self) -> SliceSet {
        let last = |offer: &Offer| u32::from(offer.size) + (7 - offer.starts.leading_zeros().min(7));
        let slices = self.offers.iter().map(last).max().unwrap_or(0).min(MEMORY_SLICES);
        SliceSet::of(self.index, u8::MAX.checked_shr(MEMORY_SLICES - slices).unwrap_or(0))
    }

    /// What of it is taken where so much is free on the node; slices that it has not got count as taken.
    #[must_use]
    pub fn taken(&self, free: SliceSet) -> Occupancy {
        Occupancy(!free.on(self.index))
    }
}

impl Offer {
    /// Where it may begin on a GPU in a state, bit `i` for memory slice `i`.
    #[must_use]
    pub fn free_starts(&self, taken: Occupancy) -> u8 {
        let run = (1_u16 << self.size) - 1;
        let free = |start: &u8| self.starts >> start & 1 == 1 && u16::from(taken.0) & (run << start) == 0;
        (0..8_u8).filter(free).fold(0, |all, start| all | 1 << start)
    }
}

/// The profiles that are made for jobs. Those with a suffix (`+me`, `+gfx`) are not: how many of them a GPU can have
/// is no matter of memory slices.
fn offers(gpu: &Gpu) -> Vec<Offer> {
    let plain = gpu.profiles.iter().filter(|profile| !profile.name.contains(['+', '-']));
    let mut offers: Vec<(u32, Offer)> = plain.filter_map(|profile| offer(gpu, profile)).collect();
    offers.sort_by_key(|(compute, offer)| (offer.size, *compute));
    offers.into_iter().map(|(_, offer)| offer).collect()
}

fn offer(gpu: &Gpu, profile: &MigProfile) -> Option<(u32, Offer)> {
    let size = u8::try_from(profile.memory_slices).ok().filter(|size| (1..=8).contains(size))?;
    let starts =
        profile.starts.iter().filter(|start| **start < MEMORY_SLICES).fold(0_u8, |all, s| all | 1 << s);
    let same = |class: &Profile| {
        class.compute_slices() == profile.compute_slices && class.memory_slices() == profile.memory_slices
    };
    let class = Profile::ALL.into_iter().find(same);
    let label = label(gpu, &profile.name);
    Some((profile.compute_slices, Offer { label, name: profile.name.clone(), size, starts, class }))
}

fn label(gpu: &Gpu, profile: &str) -> Box<str> {
    if gpu.kind.is_empty() { profile.into() } else { format!("{}_{profile}", gpu.kind).into() }
}

/// The instances of fixed GPUs that a kind names. `full` becomes the name with the GPU's type, where all have one.
fn fixed_units(kind: &str, gpus: &[Gpu], full: &mut Box<str>) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut labels: Vec<Box<str>> = Vec::new();
    for gpu in gpus.iter().filter(|gpu| gpu.mode == GpuMode::Fixed) {
        let mut instances: Vec<_> =
            gpu.instances.iter().filter(|one| kind_answers(kind, &label(gpu, &one.profile))).collect();
        instances.sort_by_key(|one| one.start);
        for one in instances {
            let byte = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
            let (start, size) = (byte(one.start), byte(one.size));
            let slice = Slice { gpu: gpu.index, profile: one.profile.clone(), start, size };
            units.push(Unit::new(slice, gpu.is_healthy(), gpu));
            labels.push(label(gpu, &one.profile));
        }
    }
    if let Some(first) = labels.first()
        && labels.iter().all(|label| label == first)
    {
        *full = first.clone();
    }
    units
}
