//! `sluice simulate`: hands over to `sluice-simulate` beside this program.
//!
//! The simulator is the scheduler's own core, of which this package knows nothing.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::say;

/// Becomes the simulator; returns only where it cannot be started.
pub(super) fn run(words: Vec<OsString>) -> u8 {
    let beside = match std::env::current_exe() {
        Ok(own) => own.with_file_name("sluice-simulate"),
        Err(error) => {
            say::error("sluice", format!("cannot find this program's own file: {error}"));
            return 1;
        }
    };
    let error = Command::new(&beside).args(words).exec();
    say::error("sluice", format!("cannot start {}: {error}", beside.display()));
    1
}
