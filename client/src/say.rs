//! Every sentence that several commands print, and how text leaves the process.
//!
//! Data goes to standard output, the rest to standard error. A reader that has gone (`| head`) is no error.

use std::io::Write;

use crate::api::Error;

/// Prints to standard output, as it is.
pub(crate) fn out(text: impl AsRef<[u8]>) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to be told where this fails.
    let _ = stdout.write_all(text.as_ref()).and_then(|()| stdout.flush());
}

/// Prints a line to standard error.
pub(crate) fn err(line: impl AsRef<str>) {
    let mut text = line.as_ref().to_owned();
    text.push('\n');
    // Nobody is left to be told where this fails.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// `program: error: line`.
pub(crate) fn error(program: &str, line: impl AsRef<str>) {
    err(format!("{program}: error: {}", line.as_ref()));
}

/// `program: fatal: line`.
pub(crate) fn fatal(program: &str, line: impl AsRef<str>) {
    err(format!("{program}: fatal: {}", line.as_ref()));
}

/// Slurm's words where the controller does not answer.
pub(crate) const NO_CONTACT: &str = "Unable to contact slurm controller (connect failure)";

/// Slurm's short text of what went wrong, as it stands behind a command's own words.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Unreachable { .. } | Error::Failed(_) => NO_CONTACT.to_owned(),
        Error::TimedOut => "Socket timed out on send/recv operation".to_owned(),
        Error::Refused { .. } => error.to_string(),
    }
}

/// The lines of our own that follow: which socket was tried and how to start a cluster, or what the
/// scheduler's fault was.
pub(crate) fn explain(program: &str, error: &Error) {
    match error {
        Error::Unreachable { tried, reason } => {
            err(format!("{program}: no sluice scheduler answers at {} ({reason})", tried.join(" or ")));
            err(format!(
                "{program}: \"sluice up\" starts a cluster of this machine; SLUICE_SOCKET or SLURM_CONF name another"
            ));
        }
        Error::Failed(status) => err(format!("{program}: the scheduler said: {}", status.message())),
        Error::Refused { .. } | Error::TimedOut => {}
    }
}
