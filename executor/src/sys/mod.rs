//! System calls of the executor. The unsafe ones stand in `linux` and `bpf`.

mod bpf;
mod linux;

pub(crate) use bpf::{attach_device_program, count_device_programs, load_device_program};
pub(crate) use linux::{lock_waits, try_lock, user_groups};
