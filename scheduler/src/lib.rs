//! The scheduler daemon: a shell around the pure machine of `scheduler-core`.
//!
//! ```text
//!  rpc ─► inbox ─► controller(Machine, Planner) ─► journal ─► releaser ─► views, answers, dispatch
//! ```
//! Handlers authenticate, convert and forward; one thread owns the machine; what it decides leaves only
//! after it is on disk. Nothing in here decides who runs, when, or where.

pub mod clock;
pub mod directory;
pub mod inbox;
pub mod rows;
pub mod views;

#[cfg(test)]
mod testing;
