//! Nodes: their executors come and go, administrators change them.

pub(crate) mod register;
pub(crate) mod size;
pub(crate) mod stranger;
pub(crate) mod update;
