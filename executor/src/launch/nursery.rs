//! The way to the nursery: hands runs over, hears of the ends of their supervisors.
//!
//! The nursery is a process of the supervisor's program that forks supervisors, and gives those that are done with a
//! short run the next one: cheaper than starting the program for each, and this process, which is large, never forks. It is started when it is first needed and
//! again when it has ended. What was handed to one that has ended is told as lost: its supervisor may live, may have
//! ended, or may never have been there; lock and folder say which. It ends with this process; supervisors go on.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use executor_supervisor::nursery::{ARGUMENT, Fate, MESSAGE_MAX, News, Order};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, shutdown,
    socketpair,
};

use crate::key::Key;

/// How often a run is handed over, where nurseries end before they fork.
const ATTEMPTS_MAX: u32 = 3;
/// Room in the arguments of a nursery for the run folder that its forks show there.
const TITLE_BYTES: usize = 200;
/// Pause where the kernel takes no more open files on their way.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// What is heard of a run that was handed over, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its supervisor has ended, or could not be made.
    Ended(Fate),
    /// The nursery has ended; this was the run's so-manieth attempt.
    Lost(u32),
}

/// Called on a thread of the nursery's; should not block for long.
pub type Ear = Arc<dyn Fn(Key, Heard) + Send + Sync>;

/// Runs handed over and not heard of, by serial number. `None`: the nursery has ended.
type Out = Arc<Mutex<Option<HashMap<u64, (Key, u32)>>>>;

/// See the module comment.
pub struct Nursery {
    program: PathBuf,
    /// A cgroup that nurseries and their supervisors go to.
    cgroup: Option<PathBuf>,
    ear: Ear,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    now: Option<(Arc<OwnedFd>, Out)>,
    serial: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nursery {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(program: PathBuf, cgroup: Option<PathBuf>, ear: Ear) -> Self {
        Self { program, cgroup, ear, link: Mutex::default() }
    }

    /// Hands over a run: its folder and its specification, open and locked. `attempt` counts from 1. With an `owner` its
    /// supervisor may be one that has had runs of that user.
    ///
    /// # Errors
    /// No nursery can be started, or this was tried too often; no supervisor has been or will be made.
    pub fn hand(
        &self,
        key: Key,
        folder: &Path,
        spec: &impl AsRawFd,
        owner: Option<u32>,
        attempt: u32,
    ) -> io::Result<()> {
        if attempt > ATTEMPTS_MAX {
            return Err(io::Error::other("it ends before it does anything"));
        }
        let mut link = lock(&self.link);
        for _ in 0..ATTEMPTS_MAX {
            link.serial += 1;
            let serial = link.serial;
            let (socket, out) = match &link.now {
                Some((socket, out)) => (Arc::clone(socket), Arc::clone(out)),
                None => {
                    let (socket, out) = self.start()?;
                    link.now = Some((Arc::clone(&socket), Arc::clone(&out)));
                    (socket, out)
                }
            };
            let noted = lock(&out).as_mut().map(|out| out.insert(serial, (key, attempt))).is_some();
            if noted {
                let order = Order { serial, folder: folder.as_os_str().as_bytes().to_vec(), owner };
                let Err(error) = send(&socket, &order, spec) else { return Ok(()) };
                let taken_back = lock(&out).as_mut().and_then(|out| out.remove(&serial)).is_some();
                if !taken_back {
                    // It was told as lost meanwhile.
                    return Ok(());
                }
                if !matches!(error, Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) {
                    return Err(error.into());
                }
            }
            link.now = None;
        }
        Err(io::Error::other("it ends as soon as it is started"))
    }

    /// Asks the supervisor of a run that was handed over for its socket, where it has put that off. Lost, the socket
    /// comes by itself, later.
    pub fn knock(&self, key: Key) {
        let link = lock(&self.link);
        let Some((socket, out)) = &link.now else { return };
        let out = lock(out);
        let known = out.iter().flatten().find(|(_, (run, _))| *run == key);
        if let Some((serial, _)) = known {
            let bytes = Order::knock(*serial).encode();
            // Full: it is not worth waiting for.
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &[], flags, None);
        }
    }

    fn start(&self) -> io::Result<(Arc<OwnedFd>, Out)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let child = Command::new(&self.program)
            .arg(ARGUMENT)
            .arg(" ".repeat(TITLE_BYTES))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The service manager's words are for this process only.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .spawn()?;
        if let Some(cgroup) = &self.cgroup {
            // Before its first order: every supervisor is born there.
            if let Err(error) = std::fs::write(cgroup.join("cgroup.procs"), child.id().to_string()) {
                tracing::error!(cgroup = %cgroup.display(), %error, "supervisors stay in this process's own cgroup");
            }
        }
        let socket = Arc::new(ours);
        let out: Out = Arc::new(Mutex::new(Some(HashMap::new())));
        let (ear, from, noted) = (Arc::clone(&self.ear), Arc::clone(&socket), Arc::clone(&out));
        std::thread::Builder::new()
            .name("nursery".to_owned())
            .spawn(move || listen(child, &from, &noted, &ear))?;
        Ok((socket, out))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        if let Some((socket, _)) = &lock(&self.link).now {
            // It takes what was handed over before, then finds the end.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

fn send(socket: &OwnedFd, order: &Order, spec: &impl AsRawFd) -> Result<(), Errno> {
    let bytes = order.encode();
    let files = [spec.as_raw_fd()];
    loop {
        let beside = [ControlMessage::ScmRights(&files)];
        let sent =
            sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &beside, MsgFlags::MSG_NOSIGNAL, None);
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::ETOOMANYREFS) => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what the nursery says until it has ended.
fn listen(mut child: Child, socket: &OwnedFd, out: &Out, ear: &Ear) {
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let news = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            Ok(0) | Err(_) => break,
            Ok(length) => News::decode_all(&buffer[..length]),
        };
        let Ok(news) = news else { break };
        for one in news {
            let known = lock(out).as_mut().and_then(|out| out.remove(&one.serial));
            if let Some((key, _)) = known {
                ear(key, Heard::Ended(one.fate));
            }
        }
    }
    // Nothing is waited for that lives: a nursery that says nonsense is ended.
    let _ = child.kill();
    let _ = child.wait();
    let mut left: Vec<(Key, u32)> = lock(out).take().into_iter().flatten().map(|(_, run)| run).collect();
    left.sort_unstable_by_key(|(key, _)| *key);
    for (key, attempt) in left {
        ear(key, Heard::Lost(attempt));
    }
}
