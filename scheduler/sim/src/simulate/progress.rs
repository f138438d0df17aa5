//! A line on the terminal that says how far a replay is.
//!
//! Drawn anew for each percent, so that no clock is needed; nothing is drawn where standard error is no terminal.

use std::io::{IsTerminal, Write};

/// How wide the bar is, letters.
const WIDTH: usize = 40;

/// A progress bar on standard error.
#[derive(Debug)]
pub struct Progress {
    of: usize,
    shown: usize,
}

impl Progress {
    /// A bar for so many jobs. `None`: nobody would see it.
    #[must_use]
    pub fn new(of: usize) -> Option<Self> {
        // Not `then_some`: a bar that is made and dropped wipes the line, also in a file.
        std::io::stderr().is_terminal().then(|| Self { of: of.max(1), shown: usize::MAX })
    }

    /// So many are done.
    pub fn reach(&mut self, done: usize) {
        let percent = done * 100 / self.of;
        if percent != self.shown {
            self.shown = percent;
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stderr().write_all(bar(percent, done, self.of).as_bytes());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

fn bar(percent: usize, done: usize, of: usize) -> String {
    let full = percent.min(100) * WIDTH / 100;
    format!("\r[{}{}] {percent:3} %  {done} of {of} jobs", "#".repeat(full), "-".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows() {
        assert!(bar(0, 0, 7).contains("[----"));
        assert!(bar(50, 3, 7).ends_with(&format!(
            "{}{}]  50 %  3 of 7 jobs",
            "#".repeat(20),
            "-".repeat(20)
        )));
    }
}
