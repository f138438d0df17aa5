//! What a step's supervisor shares with the executor that starts it and the client that watches it.
//!
//! Owns four byte formats: the launch specification (`spec`), the outcome file (`outcome`), the
//! frames on the step's Unix socket (`frame`) and what the nodes of a step exchange over them (`exchange`). Standard library only; nothing here starts a process
//! or decides anything. Each format carries a version; a reader refuses a version it does not know.
//! The messages between an executor and its nursery (`nursery`) need none: both are of one build.
//!
//! The names of the files in a run folder are part of that contract and stand here.

pub mod account;
pub mod exchange;
pub mod frame;
pub mod nursery;
pub mod outcome;
pub mod spec;
mod wire;

pub use wire::Error;

/// The launch specification. Whoever holds an flock on this very file is the run's supervisor:
/// a free lock means that none exists, or ever will without a new launch.
pub const SPEC_FILE: &str = "spec";
/// An empty or old file that waits to become the mark; a folder that is used for the first time has none.
pub const BLANK_FILE: &str = "blank";
/// Exit status of a supervisor that could not write a file of its run, and began nothing.
pub const CANNOT_WRITE: i32 = 6;
/// The mark: exists from the moment before the first child is made until it becomes the outcome.
pub const BEGUN_FILE: &str = "begun";
/// How the run ended: the mark, written and renamed.
pub const OUTCOME_FILE: &str = "outcome";
/// The step's Unix socket.
pub const SOCKET_FILE: &str = "socket";
/// The batch script, as Slurm names it.
pub const SCRIPT_FILE: &str = "slurm_script";

/// The step that is the site's epilog on a node. (A prolog has no run folder.)
pub const EPILOG_STEP: &str = "epilog_slurmd";

/// Name of a run's folder: `JOB.STEP.RUN`.
#[must_use]
pub fn run_folder_name(job_id: u32, step: &str, run: u32) -> String {
    format!("{job_id}.{step}.{run}")
}

/// Reads a folder name made by [`run_folder_name`]; `None` for any other name.
#[must_use]
pub fn parse_run_folder_name(name: &str) -> Option<(u32, String, u32)> {
    let mut parts = name.split('.');
    let job_id = parts.next()?.parse().ok()?;
    let step = parts.next()?;
    let run = parts.next()?.parse().ok()?;
    let named = ["batch", "interactive", "extern", EPILOG_STEP].contains(&step);
    let known = named || step.parse::<u32>().is_ok();
    (known && parts.next().is_none()).then(|| (job_id, step.to_owned(), run))
}

#[cfg(test)]
mod tests {
    use super::{EPILOG_STEP, parse_run_folder_name, run_folder_name};

    #[test]
    fn folder_names_read_back() {
        for (job, step, run) in
            [(1, "batch", 0), (u32::MAX, "17", 3), (7, "interactive", u32::MAX), (7, EPILOG_STEP, 2)]
        {
            let name = run_folder_name(job, step, run);
            assert_eq!(parse_run_folder_name(&name), Some((job, step.to_owned(), run)));
        }
        for wrong in ["", "1", "1.batch", "1.batch.2.3", "x.batch.1", "1.-1.1", "1.tmp.1"] {
            assert_eq!(parse_run_folder_name(wrong), None, "{wrong}");
        }
    }
}
