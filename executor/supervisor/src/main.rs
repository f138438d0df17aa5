//! `sluice-supervisor RUN_FOLDER`: parent of one step's processes; outlives the executor.
//!
//! Started with the run's specification, locked, as standard input, or forked by an executor's nursery
//! (`sluice-supervisor --nursery`, see `brood`) that was handed the same open file. The lock belongs to that
//! open file, which this process keeps until the run is over: a free lock tells that it has no supervisor. The mark
//! `begun` is there before the first child is made; the outcome appears by rename before the lock is let go.
//! It ignores signals that end daemons and stays outside the cgroup that it makes for its step.
//!
//! `--probe` in place of the folder: see `probe`.
//! `sluice-supervisor --as-user` (`--site`): runs one program as a user, for the executor (`as_user.rs`).
//!
//! Exit status: 0 after an outcome was written; 2 wrong use; 3 another supervisor holds the run; 4 the
//! specification cannot be read; 5 the run began before; 6 a file of the run cannot be written.

mod as_user;
mod brood;
mod child;
mod door;
mod groups;
mod guard;
mod inside;
mod line;
mod pmi;
mod probe;
mod readback;
mod run;
mod session;
mod streams;
mod sys;
mod tree;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use executor_supervisor::nursery;
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use executor_supervisor::spec::Spec;
use executor_supervisor::{BEGUN_FILE, BLANK_FILE, OUTCOME_FILE, SOCKET_FILE};

use crate::brood::Handed;
use crate::door::Door;
use crate::run::Run;
use crate::tree::{Made, Tree};

fn main() -> ExitCode {
    let Some(argument) = std::env::args_os().nth(1) else {
        eprintln!("sluice-supervisor: error: usage: sluice-supervisor RUN_FOLDER < RUN_FOLDER/spec");
        return ExitCode::from(2);
    };
    if argument == "--probe" {
        return probe::run();
    }
    if argument == as_user::OPTION || argument == as_user::SITE_OPTION {
        return as_user::main(argument == as_user::SITE_OPTION);
    }
    let ended = if argument == nursery::ARGUMENT { brood() } else { alone(&argument) };
    match ended {
        // Nothing is left to be cleaned up: what the library does at an end costs a short job more than it should.
        Ok(()) => sys::exit_now(0),
        Err((status, sentence)) => {
            eprintln!("sluice-supervisor: error: {}: {sentence}", argument.display());
            ExitCode::from(status)
        }
    }
}

/// Started for one run.
fn alone(folder: &OsStr) -> Result<(), (u8, String)> {
    let lock = sys::keep(0).map_err(|error| (2, error.to_string()))?;
    guard::raise();
    quiet_input().map_err(|error| (6, format!("/dev/null: {error}")))?;
    let signals = sys::take_signals().map_err(|error| (6, format!("signals: {error}")))?;
    supervise(folder, lock, &signals).map(drop)
}

/// Started as a nursery, and what its forks do.
fn brood() -> Result<(), (u8, String)> {
    let failed = |error: io::Error| (6, format!("nursery: {error}"));
    let socket = sys::keep(0).map_err(failed)?;
    // Its forks inherit it.
    guard::raise();
    quiet_input().map_err(failed)?;
    // A signal for the executor's terminal is not for it.
    sys::new_session();
    let signals = sys::take_signals().map_err(failed)?;
    let Some((handed, mut line)) = brood::serve(socket, &signals).map_err(failed)? else { return Ok(()) };
    let mut next = Some(handed);
    while let Some(Handed { folder, lock }) = next {
        let again = supervise(&folder, lock, &signals)?;
        next = if again { line.next() } else { None };
    }
    Ok(())
}

/// From the lock of a run to its outcome. True: nothing of it is left here, this process may have another one.
fn supervise(folder: &OsStr, lock: OwnedFd, signals: &OwnedFd) -> Result<bool, (u8, String)> {
    // Relative names from here on: the socket's path must be short.
    std::env::set_current_dir(folder).map_err(|error| (2, error.to_string()))?;
    if !sys::try_lock(lock.as_fd()) {
        return Err((3, "another supervisor holds this run".to_owned()));
    }
    let spec = read_spec(&lock).map_err(|sentence| (4, sentence))?;
    if fs::exists(OUTCOME_FILE).unwrap_or(true) {
        return Err((5, "this run has ended".to_owned()));
    }
    sys::new_session();
    let failed = |what: &'static str| move |error: io::Error| (6, format!("{what}: {error}"));
    sys::become_subreaper().map_err(failed("subreaper"))?;
    let door =
        if Door::can_wait(&spec) { Door::later() } else { Door::open().map_err(failed(SOCKET_FILE))? };
    let Made { tree, detail, fatal, held } = Tree::make(&spec);
    if let Err(error) = mark_begun() {
        tree.remove();
        let status = if error.kind() == io::ErrorKind::AlreadyExists { 5 } else { 6 };
        return Err((status, format!("{BEGUN_FILE}: {error}")));
    }
    let name = executor_supervisor::run_folder_name(spec.job_id, &spec.step, spec.run);
    let (outcome, plain) = if spec.tasks.is_empty() {
        tree.remove();
        (Outcome { kind: Kind::LaunchFailed, detail: "nothing to start".to_owned(), ..nothing() }, false)
    } else if let Some(detail) = fatal {
        tree.remove();
        (Outcome { kind: Kind::LaunchFailed, detail, ..nothing() }, false)
    } else {
        Run::new(spec, tree, (detail, held), door).go(signals)
    };
    write_outcome(&outcome.encode(&name)).map_err(failed(OUTCOME_FILE))?;
    drop(lock);
    Ok(plain)
}

fn nothing() -> Outcome {
    let now = sys::now_ms();
    Outcome {
        kind: Kind::Exited,
        exit: Exit::default(),
        begun_ms: now,
        ended_ms: now,
        user_us: 0,
        system_us: 0,
        max_rss_bytes: 0,
        stop_requested: false,
        tasks: Vec::new(),
        detail: String::new(),
        account: Box::default(),
    }
}

/// Standard input becomes `/dev/null`: the locked file must not reach a child by accident.
fn quiet_input() -> io::Result<()> {
    let null = fs::File::open("/dev/null")?;
    sys::place(null.as_fd(), 0)
}

fn read_spec(lock: &OwnedFd) -> Result<Spec, String> {
    let file = lock.try_clone().map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    fs::File::from(file).read_to_end(&mut bytes).map_err(|error| format!("specification: {error}"))?;
    Spec::decode(&bytes).map_err(|error| format!("specification {error}"))
}

/// From here on the run has begun. It need not reach the disk: what it tells (kill what is left) matters
/// only while the kernel that runs the processes does, and that kernel keeps the file.
fn mark_begun() -> io::Result<()> {
    if fs::exists(BEGUN_FILE)? {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    // A file that is there already: making one is the dearest call of a short job on some file systems.
    match fs::rename(BLANK_FILE, BEGUN_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(BEGUN_FILE)?;
            // Room for the outcome: it must be written on a disk that has become full, too. Without it nothing begins.
            file.write_all(&[0; 4096]).inspect_err(|_| {
                let _ = fs::remove_file(BEGUN_FILE);
            })
        }
        result => result,
    }
}

/// Appears whole, by rename.
fn write_outcome(bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(BEGUN_FILE)?;
    file.write_all(bytes)?;
    // Most are as long as the one that the file held before.
    if file.metadata()?.len() != bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    drop(file);
    fs::rename(BEGUN_FILE, OUTCOME_FILE)
}
