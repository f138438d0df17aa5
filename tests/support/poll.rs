//! Waiting for something to become true, with a deadline and a name.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Polls until `seen` answers `Some`, and returns that.
///
/// # Errors
/// After `within`: `what` was waited for in vain.
pub fn wait_for_some<T>(what: &str, within: Duration, mut seen: impl FnMut() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = seen() {
            return Ok(found);
        }
        if begin.elapsed() > within {
            bail!("waited {} s in vain for {what}", within.as_secs());
        }
        thread::sleep(PAUSE);
    }
}

/// Polls until `seen` answers true.
///
/// # Errors
/// After `within`: `what` was waited for in vain.
pub fn wait_for(what: &str, within: Duration, mut seen: impl FnMut() -> bool) -> Result<()> {
    wait_for_some(what, within, || seen().then_some(()))
}
