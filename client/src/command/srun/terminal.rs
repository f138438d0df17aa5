//! The user's terminal for `--pty`: its size, and raw mode while the step has it.

use nix::sys::termios::{self, SetArg, Termios};

/// Rows and columns from the environment of the shell, 24 by 80 where it does not say.
///
/// The kernel's own answer needs an ioctl that has no safe form here; shells keep LINES and COLUMNS, and a
/// program inside may ask again.
pub(super) fn size() -> (u16, u16) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match stty_size() {
        Some(size) => size,
        None => (number("LINES").unwrap_or(24), number("COLUMNS").unwrap_or(80)),
    }
}

/// What `stty size` says of our terminal.
fn stty_size() -> Option<(u16, u16)> {
    let output =
        std::process::Command::new("stty").arg("size").stdin(std::process::Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

/// Raw mode of standard input, until this is dropped.
pub(in crate::command) struct Raw(Option<Termios>);

impl Raw {
    /// Switches to raw mode; nothing happens where standard input is no terminal.
    pub(in crate::command) fn enter() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = termios::tcgetattr(&stdin) else { return Self(None) };
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        match termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that has gone needs no mode.
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}
