//! A stand-in for NVIDIA's management library, for tests and the demo: no GPU is touched.
//!
//! It exports the functions of `libnvidia-ml.so.1` that we call and answers from a text file, so that what was
//! made outlives the process and can be read and changed by hand ([`state`]). [`card`] holds the GPUs it knows,
//! [`state`] the file, [`device`] what a call does, [`exports`] the C functions.
//!
//! The file is named by `SLUICE_FAKE_NVML`. Without it every call answers as if no driver were loaded, so that
//! the library cannot pass for real by accident.

pub mod card;
pub mod device;
pub mod exports;
pub mod state;
