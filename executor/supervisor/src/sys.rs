//! The supervisor's system calls: the only unsafe code of this package.
//!
//! Each function is one kernel promise with a safe face. Nothing here keeps state. The process is
//! single-threaded all its life, which is what makes a plain fork followed by ordinary code sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// What [`fork_into`] returns, once in each process.
pub(crate) enum Forked {
    Child,
    Parent(i32),
}

/// What [`reap`] found.
pub(crate) enum Reaped {
    /// A child is gone.
    Child { pid: i32, status: Status, user_us: u64, system_us: u64, max_rss_bytes: u64 },
    /// There are children, all alive.
    Alive,
    /// There is no child, hence (as a subreaper) no descendant.
    Empty,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Code(u32),
    Signal(u32),
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Processors that an affinity can name.
pub(crate) const CPUS_MAX: u32 = 1024;

/// Binds this process to processors; those that its cpuset has not do not count.
pub(crate) fn set_affinity(cpus: &[u32]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    for cpu in cpus.iter().filter(|cpu| **cpu < CPUS_MAX) {
        // SAFETY: the set is zeroed plain data of 1024 bits and the number is below that.
        unsafe { libc::CPU_SET(*cpu as usize, set.assume_init_mut()) };
    }
    // SAFETY: the set is valid for reads of the size that is passed.
    check(unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set.as_ptr()) })
        .map(drop)
}

/// The processors that this process may run on.
pub(crate) fn affinity() -> Vec<u32> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is valid for writes of the size that is passed; zeroed it is valid too.
    let set = unsafe {
        libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the number is below the set's 1024 bits.
    (0..CPUS_MAX).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu as usize, &set) }).collect()
}

/// The system's words for an error number, without Rust's "(os error N)".
pub(crate) fn error_text(errno: i32) -> String {
    // SAFETY: strerror returns a valid C string for every number; single-threaded, so its buffer is
    // not overwritten before it is copied.
    unsafe { CStr::from_ptr(libc::strerror(errno)) }.to_string_lossy().into_owned()
}

/// Forks; the child starts inside `cgroup` (an open cgroup2 directory) where one is given.
pub(crate) fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    fork_with(0, cgroup)
}

/// The same, and the child has this process's own table of files, no copy: what either opens or closes is so for both, until
/// the child calls [`copy_files_below`], which has to be the first thing that it does.
pub(crate) fn fork_sharing_files(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    fork_with(u64::from(libc::CLONE_FILES.unsigned_abs()), cgroup)
}

/// Ends the sharing of a table of files: the caller gets a copy of the numbers below `least`.
pub(crate) fn copy_files_below(least: RawFd) -> io::Result<()> {
    close_range(least.unsigned_abs(), libc::CLOSE_RANGE_UNSHARE)
}

/// Whether the kernel can do that (5.9), and no filter is in the way.
pub(crate) fn can_copy_few_files() -> bool {
    // The one number that no file has: nothing is closed.
    close_range(u32::MAX, libc::CLOSE_RANGE_UNSHARE).is_ok()
}

fn close_range(first: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: no pointers. The descriptors are closed in a table of this process's own, and their owners never use them
    // again (see `copy_files_below`), or there are none (see `can_copy_few_files`).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a child is dead; it is not taken away.
pub(crate) fn is_dead(pid: i32) -> bool {
    let mut facts = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the struct is valid for writes; zeroed it is valid too, and stays so where the child is alive.
    unsafe {
        let result = libc::waitid(libc::P_PID, pid.unsigned_abs(), facts.as_mut_ptr(), flags);
        result < 0 || facts.assume_init().si_pid() == pid
    }
}

fn fork_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // struct clone_args of version 2: eleven 64-bit fields, the last is the cgroup's fd.
    let mut arguments = [0_u64; 11];
    arguments[0] = flags;
    arguments[4] = libc::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        arguments[0] |= CLONE_INTO_CGROUP;
        arguments[10] = u64::try_from(directory.as_raw_fd()).expect("an open fd is not negative");
    }
    // Not the library's fork, which writes into pages that parent and child would share.
    // SAFETY: the array outlives the call and has the size that is passed; with no stack given the child goes on
    // on a copy of this one, as after fork; single-threaded, so it may run any code.
    let mut pid =
        unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), std::mem::size_of_val(&arguments)) };
    if pid < 0 {
        let error = io::Error::last_os_error();
        if flags != 0 || cgroup.is_some() || error.raw_os_error() != Some(libc::ENOSYS) {
            return Err(error);
        }
        // A filter that does not know the call.
        // SAFETY: single-threaded, so the child may run any code.
        pid = i64::from(check(unsafe { libc::fork() })?);
    }
    match i32::try_from(pid).expect("a pid fits i32") {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// Takes one dead child away, never waits.
pub(crate) fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes; rusage is plain data, valid when zeroed.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if pid < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(Reaped::Empty),
            _ => Err(error),
        };
    }
    if pid == 0 {
        return Ok(Reaped::Alive);
    }
    // SAFETY: zeroed and then filled by the kernel.
    let usage = unsafe { usage.assume_init() };
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    let status = if libc::WIFSIGNALED(status) {
        Status::Signal(libc::WTERMSIG(status).unsigned_abs())
    } else {
        Status::Code(libc::WEXITSTATUS(status).unsigned_abs())
    };
    Ok(Reaped::Child {
        pid,
        status,
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

/// Waits for one child of this process; its exit code, or 128 and the signal. For a child that started it.
pub(crate) fn wait_for(pid: i32) -> u32 {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is valid for writes.
        let result = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if result >= 0 {
            break;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 1;
        }
    }
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status).unsigned_abs()
    } else {
        libc::WEXITSTATUS(status).unsigned_abs()
    }
}

/// Orphans of this process's descendants become its children.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// A session and process group of its own; fails harmlessly for a group leader.
pub(crate) fn new_session() {
    // SAFETY: no pointers.
    unsafe { libc::setsid() };
}

/// A process group of its own.
pub(crate) fn new_group() {
    // SAFETY: no pointers.
    unsafe { libc::setpgid(0, 0) };
}

/// What would end or stop a supervisor: it goes when its step is over.
const IGNORED: [libc::c_int; 6] =
    [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGTSTP];

/// Asks a supervisor to make its socket now.
pub(crate) const KNOCK: libc::c_int = libc::SIGUSR1;

/// SIGCHLD and [`KNOCK`] are read from the returned descriptor; what would end or stop the supervisor is ignored, everything else
/// is as a process begins; all are blocked. Forks keep all of it, the descriptor included.
pub(crate) fn take_signals() -> io::Result<OwnedFd> {
    for signal in 1..=64 {
        let disposition = if IGNORED.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: both are valid dispositions; KILL and STOP are refused by the kernel, harmlessly.
        unsafe { libc::signal(signal, disposition) };
    }
    let mut every = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: each set is initialised before use; all pointers are to them.
    unsafe {
        // All of them: what is sent to a child that has not yet given them back has to wait for it to do so.
        libc::sigfillset(every.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, every.as_ptr(), std::ptr::null_mut());
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::sigaddset(set.as_mut_ptr(), KNOCK);
    }
    // SAFETY: the set is initialised; the result is a new descriptor owned by nobody else.
    unsafe {
        let fd = check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Default dispositions and an empty mask, for a child that is about to exec: what [`take_signals`] changed.
pub(crate) fn give_signals_back() {
    for signal in IGNORED {
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: initialised by sigemptyset before use.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Empties a signal descriptor: each signal is there once or not at all. Whether [`KNOCK`] was.
pub(crate) fn drain(fd: BorrowedFd<'_>) -> bool {
    const ENTRY: usize = std::mem::size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0_u8; 2 * ENTRY];
    // Nothing there is as good.
    let count = read(fd, &mut buffer).unwrap_or(0);
    // An entry begins with the signal's number, of four bytes.
    buffer[..count].chunks_exact(ENTRY).any(|entry| entry.starts_with(&KNOCK.to_ne_bytes()))
}

/// Takes one message with at most one open file beside it, close-on-exec. No bytes: the other end is gone. With `wait` it
/// waits for one.
pub(crate) fn receive_file(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Room for a header and one descriptor, aligned as a header must be.
    let mut beside = [0_u64; 4];
    // SAFETY: msghdr is plain data, valid when zeroed.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = beside.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of_val(&beside);
    let count = loop {
        // SAFETY: the message's pointers are to live buffers of the lengths that it gives.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match usize::try_from(count).map_err(|_| io::Error::last_os_error()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    // SAFETY: the kernel has filled the control buffer, whose length it noted; a header that is there is whole,
    // and a descriptor in it is new and owned by nobody else.
    let file = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let is_file = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS;
        is_file.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned()))
    };
    Ok((count, file))
}

/// Sends one message, with an open file beside it where there is one.
pub(crate) fn send_file(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // Room for a header and one descriptor, aligned as a header must be.
    let mut beside = [0_u64; 4];
    // SAFETY: msghdr is plain data, valid when zeroed.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(file) = file {
        let length = u32::try_from(std::mem::size_of::<libc::c_int>()).expect("small");
        message.msg_control = beside.as_mut_ptr().cast();
        // SAFETY: no pointers.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as usize;
        // SAFETY: the control buffer has room for the one header and its descriptor, and is aligned for it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(file.as_raw_fd());
        }
    }
    loop {
        // SAFETY: the message's pointers are to live buffers of the lengths that it gives; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent).map_err(|_| io::Error::last_os_error()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Closes descriptors in a process that was just forked and does not run their owners' code: those are forgotten, not
/// dropped.
pub(crate) fn close_copies(copies: impl Iterator<Item = RawFd>) {
    for copy in copies {
        // SAFETY: no pointers. It is a number of this process's own table, and nobody uses it again.
        unsafe { libc::close(copy) };
    }
}

/// Where `ps` reads this process's arguments from.
pub(crate) struct Title {
    begin: *mut u8,
    length: usize,
}

impl Title {
    /// Asks the kernel. Where it does not say, titles stay as they are.
    pub(crate) fn find() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields 48 and 49, counted from behind the name, which is field 2.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(45);
        let mut address = || fields.next().and_then(|field| field.parse::<usize>().ok()).unwrap_or(0);
        let (begin, end) = (address(), address());
        let length = if begin == 0 { 0 } else { end.saturating_sub(begin) };
        Self { begin: std::ptr::with_exposed_provenance_mut(begin), length }
    }

    /// Shows the program's name and `argument`, as far as there is room. Nothing may read the arguments afterwards.
    pub(crate) fn set(&self, argument: &[u8]) {
        let name = b"sluice-supervisor\0";
        if self.length < name.len() + 1 {
            return;
        }
        let shown = argument.len().min(self.length - name.len() - 1);
        // SAFETY: the region is this process's own argument strings, writable and of this length, which nobody
        // borrows: they are copied where they are read, at the begin.
        unsafe {
            std::ptr::write_bytes(self.begin, 0, self.length);
            std::ptr::copy_nonoverlapping(name.as_ptr(), self.begin, name.len());
            std::ptr::copy_nonoverlapping(argument.as_ptr(), self.begin.add(name.len()), shown);
        }
    }
}

pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for writes of its length.
    let count = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are valid for reads of their length.
    let count = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends a signal to a process, or to a group where negative. A process that is gone is no failure.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, signal) };
}

/// Becomes the user, for good. Groups first, user last.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: no pointers.
    let (euid, egid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if euid != 0 && euid == uid && egid == gid {
        return Ok(());
    }
    // SAFETY: the slice is valid for its length; gid_t is u32.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: no pointers, cannot fail.
    unsafe { libc::geteuid() }
}

/// Answers the mask of before.
pub(crate) fn set_umask(mask: u32) -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::umask(mask & 0o777) }
}

/// Sets a soft limit; raises the hard limit to it where allowed, else stays below it and answers the kernel's refusal.
pub(crate) fn set_limit(resource: u32, soft: u64) -> io::Result<()> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for writes; an unknown resource is refused.
    check(unsafe { libc::getrlimit(resource, &raw mut old) })?;
    if old.rlim_cur == soft {
        return Ok(());
    }
    let wanted = libc::rlimit { rlim_cur: soft, rlim_max: old.rlim_max.max(soft) };
    // SAFETY: the struct is valid for reads.
    check(unsafe { libc::setrlimit(resource, &raw const wanted) }).map(drop).inspect_err(|_| {
        let less = libc::rlimit { rlim_cur: soft.min(old.rlim_max), rlim_max: old.rlim_max };
        // SAFETY: the struct is valid for reads. Refused: the limit stays as it is.
        unsafe { libc::setrlimit(resource, &raw const less) };
    })
}

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for writes, then for reads. Refused: the limit stays as it is.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

pub(crate) fn change_dir(path: &CStr) -> io::Result<()> {
    // SAFETY: a valid C string.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

pub(crate) fn make_dir(path: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: a valid C string.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop)
}

/// Opens with close-on-exec.
pub(crate) fn open(path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: a valid C string; the result is a new descriptor owned by nobody else.
    unsafe {
        let fd = check(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A pipe: (read end, write end), close-on-exec. The supervisor's own end is made non-blocking by it.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: the array has room for two; on success both are new and owned by nobody else.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// A pair of connected stream sockets, close-on-exec.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_STREAM)
}

/// The same that keep messages apart.
pub(crate) fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_SEQPACKET)
}

fn pair(kind: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for two; on success both are new and owned by nobody else.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Keeps a descriptor open over exec, for the program that is executed next; its number.
pub(crate) fn hand_on(fd: OwnedFd) -> io::Result<RawFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })?;
    Ok(std::os::fd::IntoRawFd::into_raw_fd(fd))
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}

/// A copy with close-on-exec and a number of at least 3.
pub(crate) fn keep(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor owned by nobody else.
    unsafe {
        let copy = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Puts `fd` in the place `target` (0, 1 or 2), without close-on-exec.
pub(crate) fn place(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: no pointers. What was open at `target` is one of the standard streams, which no Rust
    // object owns.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }).map(drop)
}

/// A copy with close-on-exec and a number of at least `least`.
pub(crate) fn keep_above(fd: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor owned by nobody else.
    unsafe {
        let copy = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Puts `fd` in the place `target`, without close-on-exec. For a forked child that is about to exec: whatever was open
/// there is gone, and whoever owned it must not use it again.
pub(crate) fn put_at(fd: OwnedFd, target: RawFd) -> io::Result<()> {
    // SAFETY: no pointers. The child executes another program next; no owner of what was at `target` runs again.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) }).map(drop)
}

/// Makes `target` (2) what standard output is.
pub(crate) fn share_output(target: RawFd) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::dup2(1, target) }).map(drop)
}

/// Takes the exclusive flock of an open file; false where another open file holds it.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Replaces the program. Returns only on failure.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: valid C strings in null-terminated arrays that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, without running anything of the parent's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Microseconds of a clock tick, and bytes of a page.
pub(crate) fn units() -> (u64, u64) {
    // SAFETY: no pointers.
    let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
    let positive = |value: libc::c_long, otherwise| {
        u64::try_from(value).ok().filter(|value| *value > 0).unwrap_or(otherwise)
    };
    (1_000_000 / positive(ticks, 100), positive(page, 4096))
}

pub(crate) fn own_pid() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getpid() }
}

pub(crate) fn parent_pid() -> i32 {
    // SAFETY: cannot fail.
    unsafe { libc::getppid() }
}

/// Waits for one of `fds` or for `timeout_ms` (negative: for ever). Interrupted counts as nothing seen.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<()> {
    let count = libc::nfds_t::try_from(fds.len()).expect("a list of descriptors is short");
    // SAFETY: the slice is valid for reads and writes of its length.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), count, timeout_ms) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Uid of the process at the other end of a Unix socket, as the kernel noted it.
pub(crate) fn peer_uid(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(std::mem::size_of::<libc::ucred>()).expect("small");
    // SAFETY: the struct is valid for writes of the length that is passed.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    })?;
    Ok(peer.uid)
}

/// A pseudo terminal of the given size: (controlling side, the task's side).
pub(crate) fn open_pty(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: the result is a new descriptor owned by nobody else.
    let controller = unsafe {
        OwnedFd::from_raw_fd(check(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?)
    };
    // SAFETY: no pointers.
    check(unsafe { libc::grantpt(controller.as_raw_fd()) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::unlockpt(controller.as_raw_fd()) })?;
    let mut name = [0_u8; 64];
    // SAFETY: the buffer is valid for writes of the length that is passed.
    let result = unsafe { libc::ptsname_r(controller.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let task = open(name, libc::O_RDWR | libc::O_NOCTTY, 0)?;
    set_window(std::os::fd::AsFd::as_fd(&controller), rows, columns);
    Ok((controller, task))
}

/// Gives the terminal to the user, as login programs do; a failure leaves it usable through its open end.
pub(crate) fn own_terminal(fd: BorrowedFd<'_>, uid: u32) {
    // SAFETY: no pointers. Group u32::MAX: unchanged.
    unsafe { libc::fchown(fd.as_raw_fd(), uid, u32::MAX) };
}

pub(crate) fn set_window(fd: BorrowedFd<'_>, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the struct is valid for reads.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// Makes the terminal the controlling one of this (new) session.
pub(crate) fn take_terminal(fd: BorrowedFd<'_>) {
    // SAFETY: no pointers.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) };
}

/// The present moment, ms since 1970.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `2026-01-31T12:00:00` in the machine's zone.
pub(crate) fn local_time_text(now_ms: i64) -> String {
    let seconds: libc::time_t = now_ms.div_euclid(1000);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid; tm is valid when zeroed, so a failure leaves plain data.
    let parts = unsafe {
        libc::localtime_r(&raw const seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}
