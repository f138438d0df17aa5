//! System calls of the executor. The unsafe ones stand in `linux`.

mod linux;

pub(crate) use linux::{lock_waits, try_lock, user_groups};
