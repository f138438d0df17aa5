//! The node daemon of Sluice: a shell around a small pure step machine.
//!
//! ```text
//!  scheduler ◄── uplink ◄──► agent ──► logbook (journal)
//!                              │ asks step::lifecycle (pure)
//!                              ├──► launch ──► sluice-supervisor ──► job
//!                              └──► control ──► (its socket)
//! ```
//!
//! It starts nothing that is not in its journal and reports no end that is not; it may die at any instant. Its
//! supervisors outlive it. It never decides who runs: the scheduler does.

pub mod agent;
pub mod cgroup;
pub mod container;
pub mod control;
mod crash;
pub mod daemon;
pub mod figures;
mod files;
pub mod gpu;
pub mod hooks;
pub mod host;
pub mod key;
pub mod launch;
pub mod logbook;
pub mod orphans;
pub mod record;
pub mod recover;
pub mod settings;
pub mod spool;
pub mod step;
mod sys;
pub mod uplink;
