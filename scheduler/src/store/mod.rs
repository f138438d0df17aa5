//! The daemon's durable store: recovery, commits, bodies, snapshots, history, indexes.
//!
//! See `docs/architecture/storage.md`. Plain threads and files; nothing here waits on a runtime.

pub mod bodies;
mod error;
pub mod history;
pub mod index;
mod layout;
mod snapshot;

pub use error::Error;
