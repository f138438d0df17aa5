//! The MIG placement benchmark: how much of a stream of slice requests a rule accepts.
//!
//! [`exact`] computes expectations by dynamic programming, [`fill`] fills empty GPUs, [`churn`] lets slices
//! come and go, [`queue`] lets those wait that find no room, with the production planner; [`command`] is `sluice-simulate --mig`. The rules are the production ones of
//! [`scheduler_core::gpu`]; only the bounds ([`repack`], the online optimum) live here. The definitions are
//! those of `tests/traces/README.md`, whose figures the tests compare with.

pub mod bed;
pub mod churn;
pub mod command;
pub mod exact;
pub mod fill;
pub mod options;
pub mod queue;
pub mod repack;
pub mod stream;
