//! Where slices may lie: no job starts on a slice that the driver's table does not have, or on a GPU that is out of service.
//!
//! The table is written down here, as NVML shows it on an H100 with 80 GB, and not derived from the core's.

use model::gpu::GpuMode;
use model::id::JobId;

use scheduler_core::allocation::{Allocation, Slice};
use scheduler_core::state::State;
use scheduler_core::state::node::Node;

/// Profile, memory slices, and where it may begin.
const TABLE: [(&str, u8, &[u8]); 6] = [
    ("1g.10gb", 1, &[0, 1, 2, 3, 4, 5, 6]),
    ("1g.20gb", 2, &[0, 2, 4, 6]),
    ("2g.20gb", 2, &[0, 2, 4]),
    ("3g.40gb", 4, &[0, 4]),
    ("4g.40gb", 4, &[0]),
    ("7g.80gb", 8, &[0]),
];

/// A job is about to start.
///
/// # Errors
/// One of its slices cannot lie where it is to be made.
pub(super) fn may_lie(state: &State, job: JobId, allocation: &Allocation) -> Result<(), String> {
    for share in allocation.iter() {
        let node = state.node(share.node);
        let cut = share.gres.iter().filter(|gres| gres.is_cut());
        for slice in cut.flat_map(|gres| &gres.slices) {
            check(node, slice).map_err(|why| {
                format!("slices: job {job} starts on {}: {slice:?} {why}", node.definition.name)
            })?;
        }
    }
    Ok(())
}

fn check(node: &Node, slice: &Slice) -> Result<(), String> {
    let row = TABLE.iter().find(|(profile, _, _)| *profile == &*slice.profile);
    let Some((_, size, starts)) = row else { return Err("is of no profile".to_owned()) };
    if slice.size != *size || !starts.contains(&slice.start) {
        return Err(format!("may have {size} memory slices from one of {starts:?}"));
    }
    let gpu = node.observed.gpus.iter().find(|gpu| gpu.index == slice.gpu);
    match gpu {
        Some(gpu) if gpu.mode == GpuMode::Dynamic && gpu.is_healthy() => Ok(()),
        Some(gpu) => Err(format!("is of a GPU that is {}: {}", gpu.mode, gpu.fault)),
        None => Err("is of a GPU that is not there".to_owned()),
    }
}
