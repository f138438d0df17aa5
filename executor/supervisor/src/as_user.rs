//! Runs one program as a user, for an executor that must not fork: conversions of images, and looks at files
//! that only the submitter may read.
//!
//! Standard input carries a specification (its length first, four bytes) and then stays open: its end means that
//! nobody waits any more (the executor gave up, or is gone), and everything that was started is killed. Output
//! and errors are passed through. The exit status is the program's, or 128 and its signal; 125: it could not be
//! started.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use executor_supervisor::spec::Spec;
use nix::libc;

use crate::child::{c_string, c_strings, words};
use crate::sys::{self, Forked, Reaped, Status};
use crate::tree::Tree;

/// The argument that asks for this.
pub(crate) const OPTION: &str = "--as-user";
/// The same for a program of the site's: what it leaves behind when it has ended (a daemon, say) is meant to stay.
pub(crate) const SITE_OPTION: &str = "--site";
const NOT_STARTED: u8 = 125;
/// A specification is a few kilobytes; more is no specification.
const LENGTH_MAX: u32 = 1 << 20;

pub(crate) fn main(may_leave: bool) -> ExitCode {
    match run(may_leave) {
        Ok(status) => ExitCode::from(status),
        Err(sentence) => {
            eprintln!("sluice-supervisor: error: {sentence}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn run(may_leave: bool) -> Result<u8, String> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 4];
    stdin.read_exact(&mut length).map_err(|error| words(&error))?;
    let length = u32::from_le_bytes(length);
    if length > LENGTH_MAX {
        return Err(format!("a specification of {length} bytes"));
    }
    let mut bytes = Vec::new();
    (&mut stdin).take(u64::from(length)).read_to_end(&mut bytes).map_err(|error| words(&error))?;
    let spec = Spec::decode(&bytes).map_err(|error| format!("specification {error}"))?;
    sys::new_session();
    sys::become_subreaper().map_err(|error| words(&error))?;
    let signals = sys::take_signals().map_err(|error| words(&error))?;
    let child = match sys::fork_into(None).map_err(|error| words(&error))? {
        Forked::Child => become_program(&spec),
        Forked::Parent(pid) => pid,
    };
    let tree = Tree::default();
    let mut status = NOT_STARTED;
    let mut wanted = true;
    loop {
        let input = if wanted { stdin.as_fd().as_raw_fd() } else { -1 };
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [entry(signals.as_raw_fd()), entry(input)];
        // A process may have forked while the others were killed: again until none is left.
        let pause = if wanted { -1 } else { 50 };
        sys::poll(&mut fds, pause).map_err(|error| words(&error))?;
        if fds[0].revents != 0 {
            sys::drain(signals.as_fd());
        }
        if fds[1].revents != 0 {
            wanted = false;
        }
        if !wanted {
            tree.kill(&[]);
        }
        loop {
            match sys::reap() {
                Ok(Reaped::Child { pid, status: ended, .. }) if pid == child => {
                    status = match ended {
                        Status::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
                        Status::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
                    };
                    if may_leave && wanted {
                        return Ok(status);
                    }
                    // What it left behind serves nobody.
                    wanted = false;
                    tree.kill(&[]);
                }
                Ok(Reaped::Child { .. }) => {}
                Ok(Reaped::Alive) => break,
                Ok(Reaped::Empty) | Err(_) => return Ok(status),
            }
        }
    }
}

/// Becomes the user, then the program.
fn become_program(spec: &Spec) -> ! {
    let failed = |sentence: String| -> ! {
        eprintln!("{sentence}");
        sys::exit_now(i32::from(NOT_STARTED))
    };
    sys::give_signals_back();
    if let Err(error) = sys::become_user(spec.uid, spec.gid, &spec.groups) {
        failed(format!("cannot become user {}: {}", spec.uid, words(&error)));
    }
    sys::set_umask(spec.umask);
    let Some(task) = spec.tasks.first() else { failed("no program".to_owned()) };
    let strings = || {
        let null = sys::open(c"/dev/null", libc::O_RDONLY, 0).map_err(|error| words(&error))?;
        sys::place(null.as_fd(), 0).map_err(|error| words(&error))?;
        sys::change_dir(&c_string(&spec.work_dir)?).map_err(|error| words(&error))?;
        let program = task.arguments.first().ok_or("no program")?;
        Ok::<_, String>((c_string(program)?, c_strings(&task.arguments)?, c_strings(&spec.environment)?))
    };
    match strings() {
        Ok((program, arguments, environment)) => {
            let error = sys::execute(&program, &arguments, &environment);
            failed(format!("{}: {}", program.to_string_lossy(), words(&error)))
        }
        Err(sentence) => failed(sentence),
    }
}
