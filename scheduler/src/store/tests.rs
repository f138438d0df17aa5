//! The store as a whole, on a modelled disk: power cuts, failures, full disks, damage, compaction.

mod crash;
mod faults;
mod finished;
mod golden;
mod random;
mod world;
