//! The run's socket, and when it is made.
//!
//! A client of an interactive step is on its way before the step is: its socket is there before the first task. Nobody
//! speaks to a batch script in its first instants, and most that end within them are never spoken to: their socket is made
//! when they have lasted for [`WAIT`], or at once when the executor, which has something to tell them, lets the nursery
//! knock. (A new inode is the dearest call of a short job on some file systems.) Whoever connects earlier finds no
//! socket and a held lock, as between fork and bind, and tries again. Only the socket is here; who is let in is
//! `run::serve`'s.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use executor_supervisor::SOCKET_FILE;
use executor_supervisor::spec::Spec;

use crate::session::Session;
use crate::sys;

/// How long a batch script lasts before its socket is there.
const WAIT: Duration = Duration::from_secs(1);
/// Pause before a socket that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module comment.
pub(crate) struct Door {
    listener: Option<UnixListener>,
    due: Option<Instant>,
}

impl Door {
    /// Whether nobody is expected at once.
    pub(crate) fn can_wait(spec: &Spec) -> bool {
        spec.is_batch() && spec.cookie.is_empty()
    }

    /// Made now.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { listener: Some(listen()?), due: None })
    }

    /// Made when it is due.
    pub(crate) fn later() -> Self {
        Self { listener: None, due: Instant::now().checked_add(WAIT) }
    }

    /// Makes it due now, where it is not there.
    pub(crate) fn hurry(&mut self) {
        self.due = self.due.map(|due| due.min(Instant::now()));
    }

    /// When [`keep`](Self::keep) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes the socket where it is due. The error of a try that failed: the next one follows.
    pub(crate) fn keep(&mut self, now: Instant) -> io::Result<()> {
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        match listen() {
            Ok(listener) => *self = Self { listener: Some(listener), due: None },
            Err(error) => {
                self.due = now.checked_add(AGAIN);
                return Err(error);
            }
        }
        Ok(())
    }

    /// For `poll`, which passes over -1.
    pub(crate) fn raw(&self) -> i32 {
        self.listener.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Whether there has been no socket.
    pub(crate) fn was_never_open(&self) -> bool {
        self.listener.is_none()
    }

    /// Takes a connection that waits.
    pub(crate) fn admit(&self) -> Option<Session> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        Session::new(stream).ok()
    }
}

fn listen() -> io::Result<UnixListener> {
    match fs::remove_file(SOCKET_FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Anybody may connect; who they are is asked of the kernel. (Changing the mode later costs more than all else.)
    let before = sys::set_umask(0o111);
    let listener = UnixListener::bind(SOCKET_FILE);
    sys::set_umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::{Door, WAIT};
    use std::time::Instant;

    #[test]
    fn a_knock_makes_it_due_and_only_where_it_was_put_off() {
        let before = Instant::now();
        let mut door = Door::later();
        assert!(door.due().is_some_and(|due| due >= before + WAIT));
        assert!(door.keep(before).is_ok() && door.raw() == -1, "not due yet");
        door.hurry();
        assert!(door.due().is_some_and(|due| due <= Instant::now()));
        let mut none = Door { listener: None, due: None };
        none.hurry();
        assert_eq!(none.due(), None);
    }
}
