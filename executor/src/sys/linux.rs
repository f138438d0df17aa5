//! The executor's own unsafe code: one kernel or C library promise each.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

/// Takes the exclusive flock of an open file. The lock belongs to the open file, copies in other
/// processes included, and goes with the last of them; nothing here ever unlocks.
///
/// `Ok(false)`: another open file holds it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    flock(file, libc::LOCK_EX | libc::LOCK_NB)
}

/// The same, but waits for it: for a holder that is known to be going.
pub(crate) fn lock_waits(file: &File) -> io::Result<bool> {
    flock(file, libc::LOCK_EX)
}

fn flock(file: &File, operation: i32) -> io::Result<bool> {
    loop {
        // SAFETY: no pointers; the descriptor is open as long as `file` is borrowed.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(false),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// Every group of a user, the primary one included.
pub(crate) fn user_groups(name: &std::ffi::CStr, gid: u32) -> Option<Vec<u32>> {
    let mut room: libc::c_int = 64;
    loop {
        let mut groups = vec![0_u32; usize::try_from(room).ok()?];
        let before = room;
        // SAFETY: a valid C string; the buffer has room for `room` ids; gid_t is u32.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut room) };
        if result >= 0 {
            groups.truncate(usize::try_from(room).ok()?);
            return Some(groups);
        }
        // It says how many there are; a list that keeps growing is given up.
        if room <= before || room > 1 << 16 {
            return None;
        }
    }
}
