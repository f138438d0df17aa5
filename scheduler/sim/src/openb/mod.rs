//! The GPU-sharing benchmark on the openb trace: shares of GPUs and whole GPUs beside CPU and memory.
//!
//! Pods are drawn from the file and placed one by one, never leaving; the figure is how much of the GPUs is
//! allocated when the demand reaches the capacity. [`cluster`] is the state, [`fragment`] the measure of what
//! cannot be used, [`policy`] the rules, [`command`] is `sluice-simulate --openb`. Definitions:
//! `tests/traces/README.md`. Source of the measure: Weng and others, USENIX ATC 2023.

pub mod cluster;
pub mod command;
pub mod fragment;
pub mod policy;
