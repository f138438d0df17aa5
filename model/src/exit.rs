//! Exit statuses as Slurm keeps and prints them: `code:signal`.
//!
//! Owns the value and its text; never decides what a status means for a job.

use std::fmt;

/// How a process, step or job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitStatus {
    /// What it passed to `exit`; 0 where a signal ended it.
    pub code: u8,
    /// The signal that ended it; 0 where it ended by itself.
    pub signal: u8,
}

impl ExitStatus {
    /// Ended by itself with success.
    pub const SUCCESS: ExitStatus = ExitStatus { code: 0, signal: 0 };
    /// A step that was not started since its node's prolog failed. There is no such signal; Slurm shows it all the same
    /// (`0:54`), and its srun ends with 182 (recorded from 26.05).
    pub const PROLOG_FAILED: ExitStatus = ExitStatus { code: 0, signal: 54 };

    /// Ended by itself; only the low eight bits count, as the kernel has it.
    #[must_use]
    pub const fn from_code(code: i32) -> ExitStatus {
        ExitStatus { code: (code & 0xff) as u8, signal: 0 }
    }

    /// Ended by a signal.
    #[must_use]
    pub const fn from_signal(signal: u8) -> ExitStatus {
        ExitStatus { code: 0, signal }
    }

    /// From the status word of `wait(2)`.
    #[must_use]
    pub const fn from_wait(status: i32) -> ExitStatus {
        ExitStatus { code: ((status >> 8) & 0xff) as u8, signal: (status & 0x7f) as u8 }
    }

    /// The status word of `wait(2)`, which Slurm's JSON and sorting use.
    #[must_use]
    pub const fn to_wait(self) -> i32 {
        ((self.code as i32) << 8) | self.signal as i32
    }

    /// True where it ended by itself with code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.code == 0 && self.signal == 0
    }

    /// What a shell, and srun, report: the code, or 128 and the signal.
    #[must_use]
    pub const fn shell_code(self) -> i32 {
        if self.signal != 0 { 128 + self.signal as i32 } else { self.code as i32 }
    }

    /// Reads `44:0`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<ExitStatus> {
        let (code, signal) = text.split_once(':')?;
        Some(ExitStatus { code: code.parse().ok()?, signal: signal.parse().ok()? })
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.code, self.signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (status, text, shell) in [
            (ExitStatus::from_code(300), "44:0", 44),
            (ExitStatus::from_signal(9), "0:9", 137),
            (ExitStatus::from_wait(7 << 8), "7:0", 7),
            (ExitStatus::from_wait(15), "0:15", 143),
            (ExitStatus::SUCCESS, "0:0", 0),
        ] {
            assert_eq!(status.to_string(), text);
            assert_eq!(status.shell_code(), shell);
            assert_eq!(ExitStatus::parse(text), Some(status));
            assert_eq!(ExitStatus::from_wait(status.to_wait()), status);
        }
        assert_eq!(ExitStatus::parse("x"), None);
    }
}
