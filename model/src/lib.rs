//! The words that every part of Sluice shares: identities, amounts, times, the small grammars of
//! Slurm's command lines and configuration, and what a submitter asks for.
//!
//! Pure: no I/O, no clock, no serialisation, no other package. Nothing here decides who runs.

pub mod array;
pub mod binding;
pub mod config;
pub mod container;
pub mod depend;
pub mod exit;
pub mod glob;
pub mod gpu;
pub mod gpu_bind;
pub mod gres;
pub mod hostlist;
pub mod id;
pub mod job;
pub mod nodeset;
pub mod place;
pub mod quantity;
pub mod reason;
pub mod refusal;
pub mod request;
pub mod signal;
pub mod sluid;
pub mod time;
pub mod tres;
