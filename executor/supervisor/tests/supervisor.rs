//! The supervisor's program, run as an executor runs it: real processes, files and sockets.

#[path = "supervisor/account.rs"]
mod account;
#[path = "supervisor/begin.rs"]
mod begin;
#[path = "supervisor/ends.rs"]
mod ends;
#[path = "supervisor/guard.rs"]
mod guard;
#[path = "supervisor/launch.rs"]
mod launch;
#[path = "supervisor/nursery.rs"]
mod nursery;
#[path = "supervisor/streams.rs"]
mod streams;
mod support;
#[path = "supervisor/tasks.rs"]
mod tasks;

use executor_supervisor::outcome::Exit;

fn code(code: u32) -> Exit {
    Exit { code, signal: 0 }
}

fn signal(signal: u32) -> Exit {
    Exit { code: 0, signal }
}
