//! The life of jobs: dependencies, start, steps, ends, and what users do to them.

pub(crate) mod cancel;
pub(crate) mod clock;
pub mod dependency;
pub(crate) mod finish;
pub(crate) mod hold;
pub(crate) mod hook;
pub(crate) mod requeue;
pub(crate) mod select;
pub mod start;
pub(crate) mod step;
pub(crate) mod suspend;
pub(crate) mod update;
