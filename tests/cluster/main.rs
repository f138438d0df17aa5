//! Whole clusters of real processes: a scheduler, executors, jobs as a user would run them.
//!
//! One file per promise. Each test has a cluster of its own in a temporary folder; all run side by side.

mod abuse;
mod backup;
mod hooks;
mod input;
mod install;
mod life;
mod limits;
mod logs;
mod mail;
mod monitoring;
mod pid_one;
mod prometheus;
mod reattach;
mod reboot;
mod record;
mod restart;
mod secret;
mod signal;
mod size;
mod start;
mod steps;
mod survival;

use std::time::Duration;

/// Long enough for anything that a test waits for, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
