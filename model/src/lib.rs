//! model.
pub mod time;
