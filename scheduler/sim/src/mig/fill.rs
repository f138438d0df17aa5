//! Fill: requests onto empty GPUs until they would pass the memory; a rejected request is lost.

use scheduler_core::gpu::geometry::MEMORY_SLICES;

use super::stream::{Contender, Percents, Placer};
use crate::random::SplitMix64;

/// What one seed gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Requests placed.
    pub accepted: u64,
    /// Memory slices requested.
    pub mem_requested: u64,
    /// Memory slices placed.
    pub mem_accepted: u64,
    /// Requests placed before the first rejection; all that were placed if there was none.
    pub first_reject_count: u64,
    /// Memory slices placed before it.
    pub first_reject_mem: u64,
    /// GPUs not empty at the end; `None` for a bound.
    pub gpus_used: Option<usize>,
}

/// One run.
#[must_use]
pub fn run(contender: Contender, gpus: usize, percents: &Percents, seed: u64) -> Outcome {
    let memory = u64::from(MEMORY_SLICES) * gpus as u64;
    let mut placer = Placer::new(contender, gpus, percents, seed);
    let mut source = SplitMix64(seed);
    let mut first_reject = None;
    let (mut requests, mut accepted, mut mem_requested, mut mem_accepted) = (0, 0, 0, 0);
    loop {
        let profile = percents.draw(&mut source);
        let slices = u64::from(profile.memory_slices());
        if mem_requested + slices > memory {
            break;
        }
        requests += 1;
        mem_requested += slices;
        if placer.place(profile).is_some() {
            accepted += 1;
            mem_accepted += slices;
        } else {
            first_reject.get_or_insert((accepted, mem_accepted));
        }
    }
    let (first_reject_count, first_reject_mem) = first_reject.unwrap_or((accepted, mem_accepted));
    let gpus_used = placer.gpus_used();
    Outcome {
        requests,
        accepted,
        mem_requested,
        mem_accepted,
        first_reject_count,
        first_reject_mem,
        gpus_used,
    }
}
