//! The nursery: forks a supervisor for each run that the executor hands over, and tells of their ends.
//!
//! Forking this small process costs a fraction of starting the program anew. It reads no specification, so that
//! nothing of one run is in the memory of another's supervisor; it touches no run folder and decides nothing. The
//! locked file of a run is open here only from its arrival until the fork: killed in between, it takes the file
//! and so the lock with it, and the run never began. It ends with its executor; its supervisors go on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use executor_supervisor::nursery::{Fate, MESSAGE_MAX, NEWS_MAX, News, Order};
use nix::libc;

use crate::sys::{self, Forked, Reaped, Status};

/// What a forked supervisor begins with.
pub(crate) struct Handed {
    /// The run's folder.
    pub(crate) folder: OsString,
    /// Its specification, locked.
    pub(crate) lock: OwnedFd,
}

/// Returns in every supervisor with its run, and in the nursery itself, without one, when the executor is gone.
///
/// # Errors
/// The socket is none, or broke.
pub(crate) fn serve(socket: OwnedFd, signals: &OwnedFd) -> io::Result<Option<Handed>> {
    let title = sys::Title::find();
    // Not given back in a fork: that would copy the pages that they lie in.
    let mut serials: ManuallyDrop<HashMap<i32, u64>> = ManuallyDrop::default();
    let mut buffer = ManuallyDrop::new(vec![0; MESSAGE_MAX]);
    loop {
        let mut fds = [socket.as_raw_fd(), signals.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        sys::poll(&mut fds, -1)?;
        if fds[1].revents != 0 {
            sys::drain(signals.as_fd());
            if !tell(&socket, &reaped(&mut serials)) {
                return Ok(None);
            }
        }
        if fds[0].revents == 0 {
            continue;
        }
        let (length, lock) = sys::receive_file(socket.as_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let (order, lock) = match (Order::decode(&buffer[..length]), lock) {
            (Ok(order), Some(lock)) if !order.is_knock() => (order, lock),
            (Ok(order), None) if order.is_knock() => {
                // Only children that were not waited for are listed: the number is still theirs.
                let known = serials.iter().find(|(_, serial)| **serial == order.serial);
                known.into_iter().for_each(|(pid, _)| sys::kill(*pid, sys::KNOCK));
                continue;
            }
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        match sys::fork_into(None) {
            Ok(Forked::Child) => {
                title.set(&order.folder);
                return Ok(Some(Handed { folder: OsString::from_vec(order.folder), lock }));
            }
            Ok(Forked::Parent(pid)) => {
                serials.insert(pid, order.serial);
            }
            Err(error) => {
                let fate = Fate::NotForked(error.raw_os_error().unwrap_or(0));
                if !tell(&socket, &[News { serial: order.serial, fate }]) {
                    return Ok(None);
                }
            }
        }
    }
}

/// Takes the dead away.
fn reaped(serials: &mut HashMap<i32, u64>) -> Vec<News> {
    let mut news = Vec::new();
    while let Ok(Reaped::Child { pid, status, .. }) = sys::reap() {
        let Some(serial) = serials.remove(&pid) else { continue };
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let fate = match status {
            Status::Code(code) => Fate::Exited(number(code)),
            Status::Signal(signal) => Fate::Killed(number(signal)),
        };
        news.push(News { serial, fate });
    }
    news
}

/// False: the executor is gone.
fn tell(socket: &OwnedFd, news: &[News]) -> bool {
    news.chunks(NEWS_MAX).all(|some| {
        let mut bytes = Vec::new();
        some.iter().for_each(|one| one.encode(&mut bytes));
        sys::write(socket.as_fd(), &bytes).is_ok()
    })
}
