//! What the calls do, on a [`State`] in memory: no pointers, no files.

use crate::card::{PROFILES, Profile};
use crate::state::{ComputeInstance, Gpu, GpuInstance, State};

/// Codes of `nvmlReturn_t`.
pub mod code {
    /// Done.
    pub const SUCCESS: u32 = 0;
    /// `nvmlInit` was not called.
    pub const UNINITIALIZED: u32 = 1;
    /// An argument makes no sense.
    pub const INVALID_ARGUMENT: u32 = 2;
    /// The device cannot do this.
    pub const NOT_SUPPORTED: u32 = 3;
    /// Nothing there.
    pub const NOT_FOUND: u32 = 6;
    /// The caller's buffer is too small.
    pub const INSUFFICIENT_SIZE: u32 = 7;
    /// No driver.
    pub const DRIVER_NOT_LOADED: u32 = 9;
    /// Nothing happened in the time.
    pub const TIMEOUT: u32 = 10;
    /// The device fell off the bus.
    pub const GPU_IS_LOST: u32 = 15;
    /// Something still uses it.
    pub const IN_USE: u32 = 19;
    /// No room: also the answer for a placement that is taken.
    pub const INSUFFICIENT_RESOURCES: u32 = 23;
    /// Anything else.
    pub const UNKNOWN: u32 = 999;
}

/// A result with NVML's code.
pub type Answer<T> = Result<T, u32>;

/// What a handle of the caller stands for. Handles of instances carry the serial number, so that one from
/// before a re-creation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// A GPU by index.
    Gpu(usize),
    /// A GPU instance by serial number.
    GpuInstance(u32),
    /// A compute instance by serial number.
    ComputeInstance(u32),
    /// The MIG device of a compute instance, by its serial number.
    Mig(u32),
}

impl Handle {
    /// As a number that is never zero.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Gpu(index) => (index << 4) | 1,
            Self::GpuInstance(serial) => ((serial as usize) << 4) | 2,
            Self::ComputeInstance(serial) => ((serial as usize) << 4) | 3,
            Self::Mig(serial) => ((serial as usize) << 4) | 4,
        }
    }

    /// Back; `None` for a number that is no handle.
    #[must_use]
    pub fn of(number: usize) -> Option<Self> {
        let serial = u32::try_from(number >> 4).ok()?;
        match number & 15 {
            1 => Some(Self::Gpu(number >> 4)),
            2 => Some(Self::GpuInstance(serial)),
            3 => Some(Self::ComputeInstance(serial)),
            4 => Some(Self::Mig(serial)),
            _ => None,
        }
    }
}

/// A UUID that follows from a kind and two numbers.
fn uuid(kind: &str, card: u32, number: usize) -> String {
    format!("{kind}-{card:08x}-fa4e-4e00-8000-{number:012x}")
}

impl State {
    /// The GPU of an index.
    ///
    /// # Errors
    /// There is no such GPU, or it is lost.
    pub fn gpu(&self, index: usize) -> Answer<&Gpu> {
        match self.gpus.get(index) {
            Some(gpu) if gpu.lost => Err(code::GPU_IS_LOST),
            Some(gpu) => Ok(gpu),
            None => Err(code::INVALID_ARGUMENT),
        }
    }

    /// The same, if it can do MIG.
    ///
    /// # Errors
    /// As [`State::gpu`], or the card knows no MIG.
    pub fn mig_gpu(&self, index: usize) -> Answer<&Gpu> {
        let gpu = self.gpu(index)?;
        if gpu.card.sizes.is_some() { Ok(gpu) } else { Err(code::NOT_SUPPORTED) }
    }

    /// The UUID of a GPU.
    ///
    /// # Errors
    /// As [`State::gpu`].
    pub fn gpu_uuid(&self, index: usize) -> Answer<String> {
        Ok(uuid("GPU", self.gpu(index)?.card.pci_device, index + 1))
    }

    /// The UUID of a MIG device.
    #[must_use]
    pub fn mig_uuid(&self, ci: &ComputeInstance) -> String {
        uuid("MIG", self.gpus[ci.gpu].card.pci_device, ci.serial as usize)
    }

    /// The device minor of a GPU: against PCI order, so that nobody takes one for the other.
    #[must_use]
    pub fn minor(&self, index: usize) -> u32 {
        (self.gpus.len() - 1 - index) as u32
    }

    /// The NUMA node of a GPU: the first half on node 0, the rest on node 1.
    #[must_use]
    pub fn numa(&self, index: usize) -> u32 {
        (index * 2 / self.gpus.len()) as u32
    }

    /// The CPUs near a GPU, as bits: 16 for each NUMA node, if the file does not say otherwise.
    #[must_use]
    pub fn cpus(&self, index: usize) -> u64 {
        self.gpus[index].cpus.unwrap_or(0xffff << (16 * self.numa(index)))
    }

    /// Where each NVLink of a GPU leads: another GPU, or `None` for a switch.
    #[must_use]
    pub fn nvlinks(&self, index: usize) -> Vec<Option<usize>> {
        let mut found = Vec::new();
        for &(one, other, count) in &self.links {
            let far = if one == index { Some(other) } else { (other == index).then_some(one) };
            found.extend(far.into_iter().flat_map(|far| (0..count).map(move |_| Some(far))));
        }
        if !self.links.is_empty() {
            return found;
        }
        let (card, count) = (self.gpus[index].card, self.gpus.len());
        let others = || (0..count).filter(|other| *other != index && self.gpus[*other].card.key == card.key);
        match others().count() as u32 {
            0 => Vec::new(),
            peers @ 1..=3 => {
                others().flat_map(|other| (0..card.nvlinks / peers).map(move |_| Some(other))).collect()
            }
            _ => vec![None; card.nvlinks as usize],
        }
    }

    /// Switches MIG mode.
    ///
    /// # Errors
    /// The card knows no MIG, or instances exist.
    pub fn set_mig(&mut self, index: usize, on: bool) -> Answer<()> {
        self.mig_gpu(index)?;
        if self.gpu_instances.iter().any(|gi| gi.gpu == index) {
            return Err(code::IN_USE);
        }
        self.gpus[index].mig = on;
        Ok(())
    }

    /// Memory slices of a GPU that are taken, bit by slice.
    fn taken(&self, index: usize) -> u32 {
        let of =
            |gi: &GpuInstance| Profile::of_id(gi.profile).map_or(0, |p| ((1 << p.memory) - 1) << gi.start);
        self.gpu_instances.iter().filter(|gi| gi.gpu == index).map(of).fold(0, |all, mask| all | mask)
    }

    /// The starts at which the profile could be made now.
    ///
    /// # Errors
    /// The GPU cannot do MIG or has it off, or there is no such profile.
    pub fn free_starts(&self, index: usize, profile: u32) -> Answer<Vec<u32>> {
        if !self.mig_gpu(index)?.mig {
            return Err(code::NOT_SUPPORTED);
        }
        let profile = Profile::of_id(profile).ok_or(code::INVALID_ARGUMENT)?;
        let media =
            |gi: &&GpuInstance| gi.gpu == index && Profile::of_id(gi.profile).is_some_and(|p| p.media);
        if profile.media && self.gpu_instances.iter().any(|gi| media(&gi)) {
            return Ok(Vec::new());
        }
        let taken = self.taken(index);
        let is_free = |start: &u32| taken & (((1 << profile.memory) - 1) << start) == 0;
        Ok(profile.starts.iter().copied().filter(is_free).collect())
    }

    /// Makes a GPU instance, at `start` or where the driver likes: the highest free start.
    ///
    /// # Errors
    /// As [`State::free_starts`]; the start is not legal or taken.
    pub fn create_gpu_instance(
        &mut self,
        index: usize,
        profile: u32,
        at: Option<(u32, u32)>,
    ) -> Answer<GpuInstance> {
        let free = self.free_starts(index, profile)?;
        let kind = Profile::of_id(profile).ok_or(code::INVALID_ARGUMENT)?;
        let start = match at {
            Some((start, size)) if kind.memory != size || !kind.starts.contains(&start) => {
                return Err(code::INVALID_ARGUMENT);
            }
            Some((start, _)) => free.contains(&start).then_some(start),
            None => free.last().copied(),
        };
        let start = start.ok_or(code::INSUFFICIENT_RESOURCES)?;
        self.serial += 1;
        let made = GpuInstance { gpu: index, profile, start, serial: self.serial };
        self.gpu_instances.push(made);
        self.gpu_instances.sort_by_key(|gi| (gi.gpu, Self::instance_id(gi)));
        Ok(made)
    }

    /// The id of a GPU instance.
    #[must_use]
    pub fn instance_id(gi: &GpuInstance) -> u32 {
        Profile::of_id(gi.profile).map_or(0, |profile| profile.instance_id(gi.start))
    }

    /// The GPU instance of a serial number.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn gpu_instance(&self, serial: u32) -> Answer<GpuInstance> {
        let found = self.gpu_instances.iter().find(|gi| gi.serial == serial).copied();
        let found = found.ok_or(code::INVALID_ARGUMENT)?;
        self.gpu(found.gpu).map(|_| found)
    }

    /// The compute instance of a serial number.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn compute_instance(&self, serial: u32) -> Answer<ComputeInstance> {
        let found = self.compute_instances.iter().find(|ci| ci.serial == serial).copied();
        let found = found.ok_or(code::INVALID_ARGUMENT)?;
        self.gpu(found.gpu).map(|_| found)
    }

    /// The compute instances of a GPU instance.
    #[must_use]
    pub fn compute_instances_of(&self, gi: &GpuInstance) -> Vec<ComputeInstance> {
        let parent = Self::instance_id(gi);
        let of = |ci: &&ComputeInstance| ci.gpu == gi.gpu && ci.parent == parent;
        self.compute_instances.iter().filter(of).copied().collect()
    }

    /// The GPU instance of a compute instance.
    ///
    /// # Errors
    /// The file names one without the other.
    pub fn parent(&self, ci: &ComputeInstance) -> Answer<GpuInstance> {
        let of = |gi: &&GpuInstance| gi.gpu == ci.gpu && Self::instance_id(gi) == ci.parent;
        self.gpu_instances.iter().find(of).copied().ok_or(code::UNKNOWN)
    }

    /// Removes a GPU instance.
    ///
    /// # Errors
    /// It has compute instances, or is not there any more.
    pub fn destroy_gpu_instance(&mut self, serial: u32) -> Answer<()> {
        let gi = self.gpu_instance(serial)?;
        if !self.compute_instances_of(&gi).is_empty() {
            return Err(code::IN_USE);
        }
        self.gpu_instances.retain(|other| other.serial != serial);
        Ok(())
    }

    /// Compute slices of a profile of compute instances, whose id is its query number.
    #[must_use]
    pub const fn compute_slices(profile: u32) -> Option<u32> {
        match profile {
            0 => Some(1),
            1 => Some(2),
            2 => Some(3),
            3 => Some(4),
            4 => Some(7),
            _ => None,
        }
    }

    /// Makes a compute instance in a GPU instance.
    ///
    /// # Errors
    /// There is no such profile, or too few compute slices are left.
    pub fn create_compute_instance(&mut self, serial: u32, profile: u32) -> Answer<ComputeInstance> {
        let gi = self.gpu_instance(serial)?;
        let slices = Self::compute_slices(profile).ok_or(code::INVALID_ARGUMENT)?;
        let held = Profile::of_id(gi.profile).map_or(0, |profile| profile.compute);
        if slices > held {
            return Err(code::NOT_SUPPORTED);
        }
        let others = self.compute_instances_of(&gi);
        if others.iter().map(|ci| ci.slices).sum::<u32>() + slices > held {
            return Err(code::INSUFFICIENT_RESOURCES);
        }
        let id = (0..).find(|id| others.iter().all(|ci| ci.id != *id)).ok_or(code::UNKNOWN)?;
        self.serial += 1;
        let made =
            ComputeInstance { gpu: gi.gpu, parent: Self::instance_id(&gi), id, slices, serial: self.serial };
        self.compute_instances.push(made);
        self.compute_instances.sort_by_key(|ci| (ci.gpu, ci.parent, ci.id));
        Ok(made)
    }

    /// Removes a compute instance.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn destroy_compute_instance(&mut self, serial: u32) -> Answer<()> {
        self.compute_instance(serial)?;
        self.compute_instances.retain(|ci| ci.serial != serial);
        Ok(())
    }

    /// The MIG devices of a GPU: one for each compute instance.
    ///
    /// # Errors
    /// As [`State::mig_gpu`].
    pub fn mig_devices(&self, index: usize) -> Answer<Vec<ComputeInstance>> {
        self.mig_gpu(index)?;
        Ok(self.compute_instances.iter().filter(|ci| ci.gpu == index).copied().collect())
    }

    /// Memory in MiB and multiprocessors of a GPU instance.
    ///
    /// # Errors
    /// As [`State::mig_gpu`].
    pub fn instance_size(&self, gi: &GpuInstance) -> Answer<(u64, u32)> {
        let profile = PROFILES.iter().find(|profile| profile.id == gi.profile).ok_or(code::UNKNOWN)?;
        self.mig_gpu(gi.gpu)?.card.size(profile).ok_or(code::NOT_SUPPORTED)
    }
}
