//! GPUs that are cut into slices (MIG): what fits where, and where to put it.
//!
//! [`geometry`] knows the legal placements, [`layout`] every state a GPU can be in, [`model`] what a slice is
//! called and holds on each GPU, [`inventory`] what the GPUs of a
//! node offer, [`policy`] how to choose among placements, [`outlook`] the same over time, [`fleet`] finds the chosen one
//! among many GPUs, [`mix`] is what the queue asks for. Nothing here touches a device or knows what time it is.
//!
//! Invariants: a GPU's memory slices belong to one instance at most; counting free slices decides nothing,
//! because a legal start matters as much as the number of slices.

pub mod fleet;
pub mod geometry;
pub mod inventory;
pub mod layout;
pub mod mix;
pub mod model;
pub mod outlook;
pub mod policy;
mod room;
pub mod shards;
pub mod slice_set;
mod value;

#[cfg(test)]
mod quality;
#[cfg(test)]
mod tests;
