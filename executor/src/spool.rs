//! The executor's state on disk: who it is, what it started, and where the run folders are.
//!
//! ```text
//!  STATE/executor-NODE/  spool/ (0700: journal, lock, id)   run/ (0711: a folder for each run)   runs-at
//! ```
//!
//! The journal's lock is the spool's: a second executor is refused with the pid of the first. The spool id is
//! random and made with the spool; it and the journal are lost together or not at all. If users cannot pass
//! through to `STATE` (a 0700 folder above it), run folders go below `/run/sluice` instead and `runs-at` says so.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use executor_supervisor::outcome::Outcome;
use journal::ground::{self, Unfit, Wanted};
use journal::{FileDisk, Journal, Kind, Log, Options, Sequence};

use crate::key::Key;
use crate::launch::spares::SPARE_PREFIX;
use crate::record::{self, Mark, Record};

const ID_FILE: &str = "spool-id";
const RUNS_AT: &str = "runs-at";
/// Where run folders go that users could not reach in the state folder; only root uses it.
const ELSEWHERE: &str = "/run/sluice";
/// Small: a record is about a hundred bytes, and several executors may share a disk.
const SEGMENT_BYTES: u64 = 2 << 20;
const ESSENTIAL_BYTES: u64 = 512 << 10;

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// It has an owner.
    #[error("another executor{} owns {}", owner(*pid), path.display())]
    Owned {
        /// Its pid, where it is known.
        pid: Option<u32>,
        /// The spool.
        path: PathBuf,
    },
    /// Its disk.
    #[error("the file system of {} is full\n  make room there; what is stored is whole", path.display())]
    Full {
        /// The spool.
        path: PathBuf,
        /// What could not be done.
        #[source]
        source: journal::Error,
    },
    /// The journal.
    #[error("the journal in {} cannot be used", path.display())]
    Journal {
        /// The spool.
        path: PathBuf,
        /// Why.
        #[source]
        source: journal::Error,
    },
    /// A record.
    #[error("the journal in {} cannot be read", path.display())]
    Record {
        /// The spool.
        path: PathBuf,
        /// Why.
        #[source]
        source: record::Error,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// What the journal knows of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was about to be started; whether it was is in its folder.
    Intended,
    /// It ended, and that was perhaps not acknowledged.
    Ended(Outcome),
    /// It must not be started.
    Tombstone,
}

/// What was on disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Highest scheduler epoch seen.
    pub epoch: u64,
    /// Boot id of the kernel under which the last records were written; `None` in a new spool.
    pub boot: Option<[u8; 16]>,
    /// The runs.
    pub runs: BTreeMap<Key, Known>,
    /// Places that are claimed for MIG instances: for whom, of which profile, and what was made.
    pub slices: executor_claims::Book,
}

impl Memory {
    /// Takes one record, in the order of the journal.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Epoch(epoch) => self.epoch = self.epoch.max(epoch),
            Record::Boot(boot) => self.boot = Some(boot),
            Record::Checkpoint => *self = Self::default(),
            Record::Run(key, Mark::Intent) => {
                self.runs.insert(key, Known::Intended);
            }
            Record::Run(key, Mark::Ended(outcome)) => {
                self.runs.insert(key, Known::Ended(outcome));
            }
            Record::Run(key, Mark::Tombstone) => {
                self.runs.insert(key, Known::Tombstone);
            }
            Record::Run(key, Mark::Gone) => {
                self.runs.remove(&key);
            }
            Record::Slice(place, note) => executor_claims::enter(&mut self.slices, (place, note)),
        }
    }
}

/// An opened spool.
pub struct Spool {
    /// The executor's own folder.
    pub place: PathBuf,
    /// Where run folders are.
    pub run_root: PathBuf,
    /// Its random name.
    pub id: [u8; 16],
    /// The journal, locked.
    pub journal: Journal,
    /// What it holds.
    pub memory: Memory,
}

fn fault(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

/// Looks at the place of one node's spool before anything is made; answers what the administrator should know.
///
/// # Errors
/// It must not be used; the sentence says what mends it.
pub fn survey(state: &Path, node: &str, network_accepted: bool) -> Result<Vec<String>, Unfit> {
    let spool = state.join(format!("executor-{node}")).join("spool");
    ground::survey(&spool, Wanted { room: 2 * SEGMENT_BYTES, network_accepted })
}

/// Opens the state of one node's executor, making what is missing.
///
/// # Errors
/// See [`Error`]; nothing of another owner is touched.
pub fn open(state: &Path, node: &str) -> Result<Spool, Error> {
    let place = state.join(format!("executor-{node}"));
    make_folders(&place).map_err(fault("make", &place))?;
    let spool = place.join("spool");
    make_folder(&spool, 0o700).map_err(fault("make", &spool))?;
    let disk = FileDisk::open(&spool).map_err(fault("open", &spool))?;
    let options =
        Options { segment_bytes: SEGMENT_BYTES, essential_bytes: ESSENTIAL_BYTES, ..Options::default() };
    let journal = Journal::open(Arc::new(disk), options).map_err(|error| match error {
        journal::Error::Locked { pid } => Error::Owned { pid, path: spool.clone() },
        source if source.is_full() => Error::Full { path: spool.clone(), source },
        source => Error::Journal { path: spool.clone(), source },
    })?;
    let id = spool_id(&spool, journal.recovery().created)?;
    let memory = read_memory(&journal, &spool)?;
    let run_root = run_root(&place, &id)?;
    Ok(Spool { place, run_root, id, journal, memory })
}

/// Folders that others can pass through, as deep as is missing; the last one is 0711.
fn make_folders(place: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(place)?;
    make_folder(place, 0o711)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Reads the id; makes one where the journal is new: a spool that lost its journal is another spool.
fn spool_id(spool: &Path, created: bool) -> Result<[u8; 16], Error> {
    let path = spool.join(ID_FILE);
    if !created
        && let Ok(bytes) = fs::read(&path)
        && let Ok(id) = bytes.try_into()
    {
        return Ok(id);
    }
    let mut id = [0; 16];
    let random = Path::new("/dev/urandom");
    fs::File::open(random).and_then(|mut file| file.read_exact(&mut id)).map_err(fault("read", random))?;
    let partial = spool.join("spool-id.partial");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&id)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        fs::File::open(spool)?.sync_all()
    };
    write().map_err(fault("write", &path))?;
    Ok(id)
}

fn read_memory(journal: &Journal, spool: &Path) -> Result<Memory, Error> {
    let mut memory = Memory::default();
    let mut failure = None;
    journal
        .replay(Sequence(0), &mut |frame| {
            if frame.kind() != Kind::Batch {
                return ControlFlow::Continue(());
            }
            for bytes in frame.records() {
                match Record::decode(bytes) {
                    Ok(record) => memory.apply(record),
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })
        .map_err(|source| Error::Journal { path: spool.to_owned(), source })?;
    match failure {
        Some(source) => Err(Error::Record { path: spool.to_owned(), source }),
        None => Ok(memory),
    }
}

/// Where run folders go: beside the spool, or where users can reach them. Decided once, with the spool.
fn run_root(place: &Path, id: &[u8; 16]) -> Result<PathBuf, Error> {
    let note = place.join(RUNS_AT);
    if let Ok(text) = fs::read_to_string(&note) {
        let root = PathBuf::from(text.trim_end());
        make_folders(&root).map_err(fault("make", &root))?;
        return Ok(root);
    }
    let beside = place.join("run");
    make_folder(&beside, 0o711).map_err(fault("make", &beside))?;
    let root = nix::unistd::geteuid().is_root();
    let Some(shut) = shut_above(&beside).filter(|_| root) else { return Ok(beside) };
    let short: String = id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let elsewhere = Path::new(ELSEWHERE).join(format!("runs-{short}"));
    tracing::warn!(
        folder = %shut.display(),
        run_folders = %elsewhere.display(),
        "users cannot pass through this folder; run folders are kept elsewhere"
    );
    make_folders(&elsewhere).map_err(fault("make", &elsewhere))?;
    fs::write(&note, format!("{}\n", elsewhere.display())).map_err(fault("write", &note))?;
    Ok(elsewhere)
}

/// Takes the place of the run folders away where nothing runs and it is not in the state folder; [`open`] makes it again.
pub fn leave(run_root: &Path) {
    if !run_root.starts_with(ELSEWHERE) {
        return;
    }
    for spare in fs::read_dir(run_root).into_iter().flatten().flatten() {
        if spare.file_name().as_encoded_bytes().starts_with(SPARE_PREFIX.as_bytes()) {
            let _ = fs::remove_dir_all(spare.path());
        }
    }
    // Refused by the kernel while a run's folder is in it, which is meant.
    let _ = fs::remove_dir(run_root);
}

/// The first folder on the way that others cannot pass through.
fn shut_above(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    path.ancestors()
        .find(|folder| fs::metadata(folder).is_ok_and(|facts| facts.mode() & 0o001 == 0))
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Error, Known, Memory, open};
    use crate::key::Key;
    use crate::record::{Mark, Record};
    use journal::{Log, Payload};
    use model::id::StepId;

    #[test]
    fn checkpoints_replace_what_was_before() {
        let key = |job_id| Key { job_id, step: StepId::Batch, run: 1 };
        let mut memory = Memory::default();
        for record in [
            Record::Epoch(9),
            Record::Run(key(1), Mark::Intent),
            Record::Checkpoint,
            Record::Epoch(4),
            Record::Run(key(2), Mark::Tombstone),
            Record::Run(key(3), Mark::Intent),
            Record::Run(key(3), Mark::Gone),
        ] {
            memory.apply(record);
        }
        assert_eq!(memory.epoch, 4);
        assert_eq!(memory.runs.into_iter().collect::<Vec<_>>(), vec![(key(2), Known::Tombstone)]);
    }

    #[test]
    fn a_spool_has_one_owner_and_keeps_its_name() {
        let place = std::env::temp_dir().join(format!("sluice-spool-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let mut first = open(&place, "n1").unwrap();
        assert!(
            matches!(open(&place, "n1"), Err(Error::Owned { pid: Some(pid), .. }) if pid == std::process::id())
        );
        let second = open(&place, "n2").unwrap();
        assert_ne!(first.id, second.id);
        let mut payload = Payload::new();
        payload.push_with(|out| Record::Epoch(3).encode(out));
        first.journal.append(&mut payload, None).unwrap();
        let id = first.id;
        drop(first);
        let again = open(&place, "n1").unwrap();
        assert_eq!((again.id, again.memory.epoch), (id, 3));
        drop((again, second));
        std::fs::remove_dir_all(&place).unwrap();
    }
}
