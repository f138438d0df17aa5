//! `bpf(2)`, for device programs of cgroups only: load, attach, count.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of the directories above keep their say.
const ALLOW_MULTI: u32 = 2;

/// The front of `union bpf_attr` for `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// For `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// # Safety
/// `T` is a prefix of the attributes of `command`; every address in it is valid for what the kernel does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let size = libc::c_uint::try_from(std::mem::size_of::<T>()).expect("a small struct");
    // SAFETY: the struct is valid for reads and writes of the size that is passed; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

/// Hands a device program to the kernel, which checks it.
///
/// # Errors
/// It is refused, or no right to load programs.
pub(crate) fn load_device_program(code: &[u64]) -> io::Result<OwnedFd> {
    let license = c"MIT";
    let mut load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"sluice_devices\0\0",
        interface: 0,
        attach_type: ATTACH_CGROUP_DEVICE,
    };
    // SAFETY: the instructions and the licence are valid for reads while the call lasts; on success the result is a new
    // descriptor owned by nobody else.
    unsafe { bpf(PROG_LOAD, &mut load).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Attaches it to a cgroup's directory. It stays there when the descriptor is closed.
///
/// # Errors
/// No version 2 directory, or no right.
pub(crate) fn attach_device_program(directory: BorrowedFd<'_>, program: &OwnedFd) -> io::Result<()> {
    let mut attach = Attach {
        target: number(directory),
        program: number(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: no addresses.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// How many device programs are attached to the directory itself.
///
/// # Errors
/// No version 2 directory, or no right.
pub(crate) fn count_device_programs(directory: BorrowedFd<'_>) -> io::Result<u32> {
    let mut query = Query {
        target: number(directory),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: 0,
        count: 0,
        padding: 0,
    };
    // SAFETY: the address is null with room for none: only the count is filled in.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    Ok(query.count)
}
