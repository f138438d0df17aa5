//! `model::gpu` ⇄ messages: what an executor observes of its GPUs.

use model::gpu::{Gpu, GpuMode, MigInstance, MigProfile};

use super::{Error, LIST_MAX, NAME_MAX, Problem};
use crate::v1;

/// The most memory slices that a GPU can have here: a mask of them is a byte.
const SLICES_MAX: u32 = 8;

/// Processors are counted below this.
const PROCESSORS_MAX: u32 = 1 << 16;

/// Reads a list of GPUs.
///
/// # Errors
/// Too many, names that are too long, two GPUs of one index, slices beyond the eighth, ranges that are none.
pub fn inwards(from: Vec<v1::Gpu>) -> Result<Vec<Gpu>, Error> {
    length("gpus", from.len())?;
    let mut gpus = from.into_iter().map(gpu).collect::<Result<Vec<_>, _>>()?;
    gpus.sort_by_key(|gpu| gpu.index);
    if gpus.windows(2).any(|pair| pair[0].index == pair[1].index) {
        return Err(Error { field: "gpus.index", problem: Problem::Malformed });
    }
    Ok(gpus)
}

/// Writes a list of GPUs.
#[must_use]
pub fn outwards(gpus: &[Gpu]) -> Vec<v1::Gpu> {
    let profile = |profile: &MigProfile| v1::MigProfile {
        id: profile.id,
        name: profile.name.to_string(),
        compute_slices: profile.compute_slices,
        memory_slices: profile.memory_slices,
        memory_mib: profile.memory_mib,
        starts: profile.starts.clone(),
    };
    let instance = |instance: &MigInstance| v1::MigInstance {
        profile: instance.profile.to_string(),
        start: instance.start,
        size: instance.size,
        gi: instance.gi,
        ci: instance.ci,
        uuid: instance.uuid.to_string(),
    };
    let gpu = |gpu: &Gpu| v1::Gpu {
        index: gpu.index,
        uuid: gpu.uuid.to_string(),
        kind: gpu.kind.to_string(),
        product: gpu.product.to_string(),
        memory_mib: gpu.memory_mib,
        pci: gpu.pci.to_string(),
        cpu_ranges: gpu.cpu_ranges.clone(),
        core_ranges: gpu.core_ranges.clone(),
        links: gpu.links.clone(),
        minor: gpu.minor,
        mode: mode_outwards(gpu.mode).into(),
        profiles: gpu.profiles.iter().map(profile).collect(),
        instances: gpu.instances.iter().map(instance).collect(),
        fault: gpu.fault.to_string(),
    };
    gpus.iter().map(gpu).collect()
}

/// Writes a mode.
#[must_use]
pub fn mode_outwards(mode: GpuMode) -> v1::GpuMode {
    match mode {
        GpuMode::Whole => v1::GpuMode::GpuWhole,
        GpuMode::Fixed => v1::GpuMode::GpuFixed,
        GpuMode::Dynamic => v1::GpuMode::GpuDynamic,
    }
}

fn gpu(from: v1::Gpu) -> Result<Gpu, Error> {
    let mode = match v1::GpuMode::try_from(from.mode) {
        Ok(v1::GpuMode::GpuWhole) => GpuMode::Whole,
        Ok(v1::GpuMode::GpuFixed) => GpuMode::Fixed,
        Ok(v1::GpuMode::GpuDynamic) => GpuMode::Dynamic,
        Err(_) => return Err(Error { field: "gpus.mode", problem: Problem::Malformed }),
    };
    length("gpus.profiles", from.profiles.len())?;
    length("gpus.instances", from.instances.len())?;
    ranges("gpus.cpu_ranges", &from.cpu_ranges)?;
    ranges("gpus.core_ranges", &from.core_ranges)?;
    length("gpus.links", from.links.len())?;
    Ok(Gpu {
        index: from.index,
        uuid: name("gpus.uuid", from.uuid)?,
        kind: name("gpus.kind", from.kind)?,
        product: name("gpus.product", from.product)?,
        memory_mib: from.memory_mib,
        pci: name("gpus.pci", from.pci)?,
        cpu_ranges: from.cpu_ranges,
        core_ranges: from.core_ranges,
        links: from.links,
        minor: from.minor,
        mode,
        profiles: from.profiles.into_iter().map(profile).collect::<Result<_, _>>()?,
        instances: from.instances.into_iter().map(instance).collect::<Result<_, _>>()?,
        fault: name("gpus.fault", from.fault)?,
    })
}

fn profile(from: v1::MigProfile) -> Result<MigProfile, Error> {
    length("gpus.profiles.starts", from.starts.len())?;
    let fits = |start: &u32| start.saturating_add(from.memory_slices) <= SLICES_MAX;
    if from.memory_slices == 0 || !from.starts.iter().all(fits) {
        return Err(Error { field: "gpus.profiles.starts", problem: Problem::Malformed });
    }
    Ok(MigProfile {
        id: from.id,
        name: name("gpus.profiles.name", from.name)?,
        compute_slices: from.compute_slices,
        memory_slices: from.memory_slices,
        memory_mib: from.memory_mib,
        starts: from.starts,
    })
}

fn instance(from: v1::MigInstance) -> Result<MigInstance, Error> {
    if from.size == 0 || from.start.saturating_add(from.size) > SLICES_MAX {
        return Err(Error { field: "gpus.instances.start", problem: Problem::Malformed });
    }
    Ok(MigInstance {
        profile: name("gpus.instances.profile", from.profile)?,
        start: from.start,
        size: from.size,
        gi: from.gi,
        ci: from.ci,
        uuid: name("gpus.instances.uuid", from.uuid)?,
    })
}

/// First and last of each range, in order.
fn ranges(field: &'static str, ranges: &[u32]) -> Result<(), Error> {
    length(field, ranges.len())?;
    let known = ranges.len().is_multiple_of(2)
        && ranges.chunks_exact(2).all(|pair| pair[0] <= pair[1] && pair[1] < PROCESSORS_MAX);
    if known { Ok(()) } else { Err(Error { field, problem: Problem::Malformed }) }
}

fn length(field: &'static str, len: usize) -> Result<(), Error> {
    if len > LIST_MAX { Err(Error { field, problem: Problem::TooLong { max: LIST_MAX } }) } else { Ok(()) }
}

fn name(field: &'static str, text: String) -> Result<Box<str>, Error> {
    if text.len() > NAME_MAX {
        return Err(Error { field, problem: Problem::TooLong { max: NAME_MAX } });
    }
    Ok(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a100() -> Gpu {
        let profile = |id, name: &str, compute_slices, memory_slices, starts: &[u32]| MigProfile {
            id,
            name: name.into(),
            compute_slices,
            memory_slices,
            memory_mib: 4864,
            starts: starts.to_vec(),
        };
        Gpu {
            index: 1,
            uuid: "GPU-1".into(),
            kind: "a100".into(),
            product: "NVIDIA A100".into(),
            memory_mib: 40_960,
            pci: "0000:3b:00.0".into(),
            cpu_ranges: vec![0, 3, 8, 11],
            core_ranges: vec![0, 1, 4, 5],
            links: vec![4, 0],
            minor: 4,
            mode: GpuMode::Fixed,
            profiles: vec![profile(19, "1g.5gb", 1, 1, &[0, 6]), profile(9, "3g.20gb", 3, 4, &[0, 4])],
            instances: vec![MigInstance {
                profile: "3g.20gb".into(),
                start: 4,
                size: 4,
                gi: 1,
                ci: 0,
                uuid: "MIG-1".into(),
            }],
            fault: "fell off the bus".into(),
        }
    }

    #[test]
    fn what_goes_out_comes_back_in_order() {
        let other = Gpu { index: 0, ..Gpu::default() };
        let read = inwards(outwards(&[a100(), other.clone()])).unwrap();
        assert_eq!(read, [other, a100()]);
    }

    #[test]
    fn refuses_what_is_none() {
        let field = |change: fn(&mut v1::Gpu)| {
            let mut one = outwards(&[a100()]).remove(0);
            change(&mut one);
            inwards(vec![one]).unwrap_err().field
        };
        assert_eq!(field(|gpu| gpu.mode = 9), "gpus.mode");
        assert_eq!(field(|gpu| gpu.cpu_ranges = vec![1]), "gpus.cpu_ranges");
        assert_eq!(field(|gpu| gpu.core_ranges = vec![2, 1]), "gpus.core_ranges");
        assert_eq!(field(|gpu| gpu.profiles[1].starts = vec![5]), "gpus.profiles.starts");
        assert_eq!(field(|gpu| gpu.instances[0].size = 9), "gpus.instances.start");
        assert_eq!(field(|gpu| gpu.uuid = "x".repeat(NAME_MAX + 1)), "gpus.uuid");
        assert_eq!(inwards(outwards(&[a100(), a100()])).unwrap_err().field, "gpus.index");
    }
}
