//! The nursery: gives each run that the executor hands over to a supervisor, and tells when that one is done with it.
//!
//! Forking this small process costs a fraction of starting the program anew, and a supervisor that has just ended a
//! short batch script costs less still: it says so, and for a second gets the next run of the same user (`line`).
//! The nursery reads no specification, so that nothing of one user's run is in the memory of another's supervisor; it
//! touches no run folder and decides nothing. The locked file of a run is open here only from its arrival until it is
//! handed on: killed in between, it takes the file and so the lock with it, and the run never began. It ends with its
//! executor, and supervisors that have no run end with it; the others go on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use executor_supervisor::nursery::{Fate, MESSAGE_MAX, NEWS_MAX, News, Order};
use nix::libc;

use crate::line::{self, Line};
use crate::sys::{self, Forked, Reaped, Status};

/// How long a supervisor without a run is kept.
const IDLE: Duration = Duration::from_secs(1);
/// Supervisors without a run that are kept.
const IDLE_MAX: usize = 64;

/// What a supervisor begins with.
pub(crate) struct Handed {
    /// The run's folder.
    pub(crate) folder: OsString,
    /// Its specification, locked.
    pub(crate) lock: OwnedFd,
}

/// A supervisor with a run.
struct Busy {
    pid: i32,
    owner: Option<u32>,
    /// How it is given runs, where it has said that it can have more than its first one.
    orders: Option<OwnedFd>,
}

/// A supervisor that waits for one.
struct Idle {
    pid: i32,
    owner: u32,
    orders: OwnedFd,
    since: Instant,
}

/// Both tables are not given back in a fork: that would copy the pages that they lie in.
struct Brood {
    /// The executor.
    socket: OwnedFd,
    /// Where supervisors say that they are done with a run, and the end that they get.
    done: OwnedFd,
    says: OwnedFd,
    /// By the serial number of the run.
    busy: ManuallyDrop<HashMap<u64, Busy>>,
    /// Who came last is at the end, and goes first.
    idle: ManuallyDrop<Vec<Idle>>,
    title: sys::Title,
    buffer: ManuallyDrop<Vec<u8>>,
}

/// Returns in every supervisor with its first run and the line for further ones, and in the nursery itself, without,
/// when the executor is gone.
///
/// # Errors
/// The socket is none, or broke.
pub(crate) fn serve(socket: OwnedFd, signals: &OwnedFd) -> io::Result<Option<(Handed, Line)>> {
    let (done, says) = sys::message_pair()?;
    let mut brood = Brood {
        socket,
        done,
        says,
        busy: ManuallyDrop::default(),
        idle: ManuallyDrop::default(),
        title: sys::Title::find(),
        buffer: ManuallyDrop::new(vec![0; MESSAGE_MAX]),
    };
    loop {
        let entry = |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut fds = [entry(&brood.socket), entry(signals), entry(&brood.done)];
        sys::poll(&mut fds, brood.timeout_ms())?;
        let [ordered, signalled, done] = fds.map(|fd| fd.revents != 0);
        let mut news = if done { brood.hear() } else { Vec::new() };
        if signalled {
            sys::drain(signals.as_fd());
            brood.reap(&mut news);
        }
        if !tell(&brood.socket, &news) {
            return Ok(None);
        }
        brood.send_away();
        if !ordered {
            continue;
        }
        let (length, lock) = sys::receive_file(brood.socket.as_fd(), &mut brood.buffer, true)?;
        if length == 0 {
            return Ok(None);
        }
        let (order, lock) = match (Order::decode(&brood.buffer[..length]), lock) {
            (Ok(order), Some(lock)) if !order.is_knock() => (order, lock),
            (Ok(order), None) if order.is_knock() => {
                // Only children that were not waited for are listed: the number is still theirs.
                let known = brood.busy.get(&order.serial);
                known.into_iter().for_each(|busy| sys::kill(busy.pid, sys::KNOCK));
                continue;
            }
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        if brood.give(&order, length, &lock) {
            continue;
        }
        match sys::fork_into(None) {
            Ok(Forked::Child) => {
                brood.title.set(&order.folder);
                let handed = Handed { folder: OsString::from_vec(order.folder), lock };
                return Ok(Some((handed, brood.leave(order.serial))));
            }
            Ok(Forked::Parent(pid)) => {
                brood.busy.insert(order.serial, Busy { pid, owner: order.owner, orders: None });
            }
            Err(error) => {
                let fate = Fate::NotForked(error.raw_os_error().unwrap_or(0));
                if !tell(&brood.socket, &[News { serial: order.serial, fate }]) {
                    return Ok(None);
                }
            }
        }
    }
}

impl Brood {
    /// Until a supervisor has waited for long enough.
    fn timeout_ms(&self) -> i32 {
        let Some(first) = self.idle.first() else { return -1 };
        let left = IDLE.saturating_sub(first.since.elapsed());
        // Rounded up, so that the time is over on waking.
        i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
    }

    /// Lets those go that have waited for long enough: their line ends.
    fn send_away(&mut self) {
        let over = self.idle.iter().take_while(|idle| idle.since.elapsed() >= IDLE).count();
        self.idle.drain(..over);
    }

    /// Gives a run, whose order is in the buffer, to a supervisor that has had runs of the same user. False: there is none.
    fn give(&mut self, order: &Order, length: usize, lock: &OwnedFd) -> bool {
        let Some(owner) = order.owner else { return false };
        while let Some(at) = self.idle.iter().rposition(|idle| idle.owner == owner) {
            let Idle { pid, orders, .. } = self.idle.remove(at);
            // One that has just ended takes nothing. One that ends before it has taken this lets go of the lock by that,
            // and what it did not begin is told by its end.
            if sys::send_file(orders.as_fd(), &self.buffer[..length], Some(lock.as_fd())).is_ok() {
                self.busy.insert(order.serial, Busy { pid, owner: Some(owner), orders: Some(orders) });
                return true;
            }
        }
        false
    }

    /// Who is done with a run.
    fn hear(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok((length @ 1.., orders)) = sys::receive_file(self.done.as_fd(), &mut self.buffer, false) {
            let Some(serial) = line::serial(&self.buffer[..length]) else { continue };
            // One whose end was seen first was told of.
            let Some(busy) = self.busy.remove(&serial) else { continue };
            news.push(News { serial, fate: Fate::Exited(0) });
            if let (Some(orders), Some(owner)) = (orders.or(busy.orders), busy.owner)
                && self.idle.len() < IDLE_MAX
            {
                self.idle.push(Idle { pid: busy.pid, owner, orders, since: Instant::now() });
            }
        }
        news
    }

    /// Takes the dead away.
    fn reap(&mut self, news: &mut Vec<News>) {
        while let Ok(Reaped::Child { pid, status, .. }) = sys::reap() {
            self.idle.retain(|idle| idle.pid != pid);
            let serial = self.busy.iter().find(|(_, busy)| busy.pid == pid).map(|(serial, _)| *serial);
            // One that waited for a run is missed by nobody.
            let Some(serial) = serial else { continue };
            self.busy.remove(&serial);
            let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
            let fate = match status {
                Status::Code(code) => Fate::Exited(number(code)),
                Status::Signal(signal) => Fate::Killed(number(signal)),
            };
            news.push(News { serial, fate });
        }
    }

    /// What a fork keeps of it. The ends of other supervisors' lines must not: those wait for them to be closed.
    fn leave(self, serial: u64) -> Line {
        let others = self.busy.values().filter_map(|busy| busy.orders.as_ref());
        let others = others.chain(self.idle.iter().map(|idle| &idle.orders));
        sys::close_copies(others.map(AsRawFd::as_raw_fd));
        Line::new(self.says, serial, self.title, ManuallyDrop::into_inner(self.buffer))
    }
}

/// False: the executor is gone.
fn tell(socket: &OwnedFd, news: &[News]) -> bool {
    news.chunks(NEWS_MAX).all(|some| {
        let mut bytes = Vec::new();
        some.iter().for_each(|one| one.encode(&mut bytes));
        sys::write(socket.as_fd(), &bytes).is_ok()
    })
}
