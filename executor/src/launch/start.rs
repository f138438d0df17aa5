//! A run's folder and its lock.
//!
//! ```text
//!  RUN_ROOT/JOB.STEP.RUN/   spec (0600, locked by the supervisor)  slurm_script (0700, the submitter's)
//!                           blank → begun → outcome, socket        (the supervisor's doing)
//!  RUN_ROOT/.spare-N/       the same files of a run that is over, for the next run of the same user
//! ```
//!
//! The lock of `spec` is taken here and handed on with the open file, through the nursery, to the run's supervisor:
//! from then on a free lock means that nobody runs it. A folder is whole before it gets the run's name. Blocking;
//! called off the agent's task.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::process::Stdio;

use executor_supervisor::outcome::{Kind, Outcome};
use executor_supervisor::spec::Spec;
use executor_supervisor::{BEGUN_FILE, OUTCOME_FILE, SCRIPT_FILE, SPEC_FILE};

use super::spares::Spares;
use crate::key::Key;
use crate::step::lifecycle::never_begun;
use crate::sys;

/// Makes the run's folder with script and specification, and takes the run's lock.
///
/// # Errors
/// The disk; nothing was started.
pub fn prepare(
    run_root: &Path,
    key: Key,
    spec: &Spec,
    script: Option<&[u8]>,
    chown: bool,
    spares: &Spares,
) -> io::Result<File> {
    let folder = run_root.join(key.folder());
    // What an earlier attempt left began nothing: recovery has looked.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(spare) = spares.take(spec.uid, spec.gid) {
        match fill(&spare, spec, script, chown) {
            Ok(lock) => {
                fs::rename(&spare, &folder)?;
                return Ok(lock);
            }
            Err(error) => {
                tracing::debug!(%error, "a spare run folder is not usable");
                let _ = fs::remove_dir_all(&spare);
            }
        }
    }
    DirBuilder::new().mode(0o711).create(&folder)?;
    fill(&folder, spec, script, chown)
}

/// Writes the files of a folder, new or spare.
fn fill(folder: &Path, spec: &Spec, script: Option<&[u8]>, chown: bool) -> io::Result<File> {
    let open = |name: &str, mode: u32| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .open(folder.join(name))
    };
    if let Some(script) = script {
        let mut file = open(SCRIPT_FILE, 0o700)?;
        file.write_all(script)?;
        let facts = file.metadata()?;
        if facts.len() != script.len() as u64 {
            file.set_len(script.len() as u64)?;
        }
        if chown && (facts.uid(), facts.gid()) != (spec.uid, spec.gid) {
            fchown(&file, Some(spec.uid), Some(spec.gid))?;
        }
        // Its owner may have changed that.
        if facts.permissions().mode() & 0o7777 != 0o700 {
            file.set_permissions(Permissions::from_mode(0o700))?;
        }
    }
    let mut file = open(SPEC_FILE, 0o600)?;
    if !sys::try_lock(&file)? {
        return Err(io::Error::other("the run is locked by another process"));
    }
    let bytes = spec.encode();
    file.write_all(&bytes)?;
    if file.metadata()?.len() != bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    file.rewind()?;
    Ok(file)
}

/// Takes the lock of a run whose folder is there and that never began.
///
/// # Errors
/// Somebody has it, or the folder is not whole.
pub fn reopen(folder: &Path) -> io::Result<File> {
    let file = File::open(folder.join(SPEC_FILE))?;
    if !sys::try_lock(&file)? {
        return Err(io::Error::other("the run is locked by another process"));
    }
    Ok(file)
}

/// Starts a supervisor's program for this one run, without a nursery; it owns the lock from here on. Must be called
/// within the runtime.
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
pub fn examine(folder: &Path, key: Key) -> Found {
    if let Ok(bytes) = fs::read(folder.join(OUTCOME_FILE))
        && let Ok(outcome) = Outcome::decode(&bytes, &key.folder())
    {
        return Found::Outcome(outcome);
    }
    match fs::metadata(folder.join(BEGUN_FILE)) {
        Ok(facts) => {
            // It got its name then, whatever its age.
            let begun_ms = facts.ctime() * 1000 + facts.ctime_nsec() / 1_000_000;
            Found::Begun { begun_ms }
        }
        Err(_) => Found::Nothing,
    }
}

/// Whether the run in this folder has begun, which nothing takes back.
#[must_use]
pub fn is_marked(folder: &Path) -> bool {
    // One becomes the other by a rename: in this order one of them is found.
    [BEGUN_FILE, OUTCOME_FILE].into_iter().any(|name| folder.join(name).exists())
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
