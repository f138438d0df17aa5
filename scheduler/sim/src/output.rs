//! How results leave the process.

use std::io::{ErrorKind, Write};

/// Prints a result to standard output, as it is. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// A sentence, where the result is not all there: a full disk.
pub fn print(text: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}
