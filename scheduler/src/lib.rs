//! The scheduler daemon: a shell around the pure machine of `scheduler-core`.
//!
//! ```text
//!  rpc ─► inbox ─► controller(Machine, Planner) ─► journal ─► releaser ─► views, answers, dispatch
//! ```
//! Handlers authenticate, convert and forward; one thread owns the machine; what it decides leaves only
//! after it is on disk. Nothing in here decides who runs, when, or where.

pub mod clock;
pub mod controller;
pub(crate) mod crash;
pub mod daemon;
pub mod directory;
pub mod dispatch;
pub mod hooks;
pub mod housekeeping;
pub mod inbox;
pub mod keys;
pub mod lease;
pub mod mail;
pub mod metrics;
pub mod offline;
pub mod privilege;
pub mod rows;
pub mod rpc;
pub mod settings;
pub mod shelf;
pub mod shutdown;
pub mod store;
pub mod views;
pub mod wire;

#[cfg(test)]
mod testing;
