//! What keeps a supervisor alive where its job uses up the machine, and what the job's processes get in its place.
//!
//! As slurmd does for its step daemon: the supervisor's `oom_score_adj` is -1000 (or `SLURMSTEPD_OOM_ADJ` of the
//! executor's environment), so that the kernel kills what uses the memory; the job's processes get back what the
//! executor has. Its soft limit of open files is raised to the hard one. Lowering the score needs CAP_SYS_RESOURCE;
//! refused, all stays as it is. Set once, before the first fork: forks inherit both.

use std::fs;
use std::sync::OnceLock;

use crate::sys;

const FILE: &str = "/proc/self/oom_score_adj";
/// Never killed.
const PROTECTED: i32 = -1000;

/// The score of before, where it was changed.
static BEFORE: OnceLock<i32> = OnceLock::new();

/// Protects this process and what it forks.
pub(crate) fn raise() {
    sys::raise_open_files();
    let wanted = std::env::var("SLURMSTEPD_OOM_ADJ").ok().and_then(|text| text.trim().parse().ok());
    let wanted = wanted.unwrap_or(PROTECTED);
    let Some(before) = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok()) else {
        return;
    };
    if before != wanted && fs::write(FILE, wanted.to_string()).is_ok() {
        // Called once.
        let _ = BEFORE.set(before);
    }
}

/// Gives a child what this process began with. Before it becomes the user.
///
/// # Errors
/// A sentence: it would be as well protected as the supervisor.
pub(crate) fn lower() -> Result<(), String> {
    let Some(before) = BEFORE.get() else { return Ok(()) };
    fs::write(FILE, before.to_string()).map_err(|error| format!("cannot write {before} to {FILE}: {error}"))
}
