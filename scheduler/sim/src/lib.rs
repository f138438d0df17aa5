//! The scheduler without a cluster: the production machine, records and planner, driven by virtual
//! time.
//!
//! [`trace`] replays recorded workloads to the second. [`mig`] and [`openb`] measure how GPUs are shared. [`cluster`] is for correctness: a whole cluster in which everything goes wrong, judged by oracles.
//! Nothing here reads a clock or shares state; a seed is a history.

pub mod cluster;
pub mod grid;
pub mod inputs;
pub mod mig;
pub mod openb;
pub mod output;
pub mod plot;
pub mod random;
pub mod simulate;
pub mod steady;
pub mod trace;

/// How many seeds a test tries: `SLUICE_SEEDS`, else `usual`.
#[must_use]
pub fn seeds(usual: u64) -> u64 {
    std::env::var("SLUICE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
