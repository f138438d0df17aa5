//! A run's folder and its supervisor's process.
//!
//! ```text
//!  RUN_ROOT/JOB.STEP.RUN/   spec (0600, locked by the supervisor)  slurm_script (0700, the submitter's)
//!                           begun  outcome  socket                 (made by the supervisor)
//! ```
//!
//! The lock of `spec` is taken here and handed on with the open file as the supervisor's standard input: from
//! then on a free lock means that nobody runs it. Blocking; called off the agent's task.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use executor_supervisor::outcome::{Kind, Outcome};
use executor_supervisor::spec::Spec;
use executor_supervisor::{BEGUN_FILE, OUTCOME_FILE, SCRIPT_FILE, SPEC_FILE};

use crate::step::lifecycle::never_begun;
use crate::sys;

/// Makes the folder anew, writes script and specification, and takes the run's lock.
///
/// # Errors
/// The disk; nothing was started.
pub fn prepare(folder: &Path, spec: &Spec, script: Option<&[u8]>, chown: bool) -> io::Result<File> {
    make_folder(folder)?;
    if let Some(script) = script {
        let path = folder.join(SCRIPT_FILE);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
        file.write_all(script)?;
        if chown {
            fchown(&file, Some(spec.uid), Some(spec.gid))?;
        }
    }
    let path = folder.join(SPEC_FILE);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&spec.encode())?;
    file.rewind()?;
    if !sys::try_lock(&file)? {
        return Err(io::Error::other("the run is locked by another process"));
    }
    Ok(file)
}

/// A folder that users can pass through and not list. What an earlier attempt left is removed: it began nothing.
fn make_folder(folder: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o711).create(folder);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(folder)?;
            make()
        }
        result => result,
    }
}

/// Starts the supervisor, which owns the lock from here on. Must be called within the runtime.
///
/// # Errors
/// It could not be executed; nothing was started.
pub fn spawn(supervisor: &Path, folder: &Path, lock: File) -> io::Result<tokio::process::Child> {
    tokio::process::Command::new(supervisor)
        .arg(folder)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Whether a supervisor holds the run.
///
/// # Errors
/// The specification cannot be opened for another reason than not being there.
pub fn is_held(folder: &Path) -> io::Result<bool> {
    match File::open(folder.join(SPEC_FILE)) {
        Ok(file) => sys::try_lock(&file).map(|free| !free),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until nobody holds the run. Blocking; for a supervisor whose socket was seen to close.
pub fn wait_released(folder: &Path) {
    if let Ok(file) = File::open(folder.join(SPEC_FILE)) {
        // An error means that the file system is gone; what is known of the run is decided without it.
        let _ = sys::lock_waits(&file);
    }
}

/// What is known of a run that nobody holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It ended.
    Outcome(Outcome),
    /// It began, and its supervisor did not live to say how it ended.
    Begun {
        /// When, ms since 1970.
        begun_ms: i64,
    },
    /// It never began.
    Nothing,
}

/// Looks into the folder of a run that nobody holds.
#[must_use]
pub fn examine(folder: &Path) -> Found {
    if let Ok(bytes) = fs::read(folder.join(OUTCOME_FILE))
        && let Ok(outcome) = Outcome::decode(&bytes)
    {
        return Found::Outcome(outcome);
    }
    match fs::metadata(folder.join(BEGUN_FILE)) {
        Ok(facts) => {
            let at = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let begun_ms = at.map_or(0, |at| i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
            Found::Begun { begun_ms }
        }
        Err(_) => Found::Nothing,
    }
}

/// The specification that is in the folder; `None` where it is not there or not whole.
#[must_use]
pub fn read_spec(folder: &Path) -> Option<Spec> {
    Spec::decode(&fs::read(folder.join(SPEC_FILE)).ok()?).ok()
}

/// The outcome of a run whose supervisor was lost.
#[must_use]
pub fn lost(begun_ms: i64, now_ms: i64) -> Outcome {
    Outcome { begun_ms, ..never_begun(Kind::Lost, "the supervisor was lost", now_ms) }
}
