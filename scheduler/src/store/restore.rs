//! Restoring: a state folder made anew from a backup, for a cluster that has gone on since the backup was made.
//!
//! The whole backup is checked before anything is written, and the folder appears at once, by rename. What it says is
//! changed where the lost time may contradict it: ids and run numbers that may have been used since are passed over, waiting
//! jobs are held by the administrator (they may have run since; `--release` leaves them free), a run that was ordered and
//! not confirmed is unknown and is never sent blindly. What executors then show that the state does not know is left alone
//! (`scheduler-core`, `node/stranger.rs`).

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Disk, FileDisk, write_all_at};
use model::id::RunNumber;
use prost::bytes::Bytes;
use scheduler_core::apply::apply_owned;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{Hold, Job, Phase, RunStage};

use super::backup::{Entry, Reader};
use super::bodies::{self, Bodies};
use super::{Error, compact, layout, snapshot};

/// Bodies that are stored and synced together.
const BODIES_AT_ONCE: usize = 256;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The backup.
    #[error("{} cannot be restored", path.display())]
    Backup {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The place of the state.
    #[error("there is a state in {} already\n  restore into another folder, or move that one away", .0.display())]
    Occupied(PathBuf),
    /// The folder.
    #[error("{} cannot be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error("the restored state is not sound")]
    Store(#[from] Error),
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The frame after which the state stands.
    pub sequence: u64,
    /// Jobs, whatever their phase.
    pub jobs: usize,
    /// Of these, waiting ones that are held now and were not before.
    pub held: usize,
    /// The id that is tried first for the next job.
    pub next_job_id: u32,
}

/// Makes `folder` from the backup in `path`. `release`: waiting jobs are not held.
///
/// # Errors
/// See [`Failure`]; then the folder is as it was.
pub fn restore(path: &Path, folder: &Path, release: bool) -> Result<Restored, Failure> {
    let of_backup = |source| Failure::Backup { path: path.to_owned(), source };
    check(path).map_err(of_backup)?;
    let of_folder = |source| Failure::Folder { path: folder.to_owned(), source };
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Occupied(folder.to_owned()));
    }
    let above = folder.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).create(above).map_err(of_folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = above.join(format!(".{name}.restoring"));
    // What an interrupted restore left.
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(of_folder)?;
    }
    DirBuilder::new().mode(0o700).create(&beside).map_err(of_folder)?;
    let made = fill(path, &beside, release);
    let moved = made.and_then(|restored| {
        // An empty folder may be in the way; one that is not was refused above.
        let _ = fs::remove_dir(folder);
        fs::rename(&beside, folder).and_then(|()| File::open(above)?.sync_all()).map_err(of_folder)?;
        Ok(restored)
    });
    if moved.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    moved
}

/// Reads a backup to its end: every byte is what was written.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> io::Result<()> {
    let mut reader = Reader::new(BufReader::new(File::open(path)?))?;
    loop {
        match reader.next_entry()? {
            Entry::File { name, used, .. } => {
                if !is_of_ours(&name) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{name:?} is no file of a state"),
                    ));
                }
                reader.content(used, |_, _| Ok(()))?;
            }
            Entry::Body(..) => {}
            Entry::End => return Ok(()),
        }
    }
}

/// Only names of this store are made.
fn is_of_ours(name: &str) -> bool {
    let segment = name.strip_prefix("journal-").and_then(|rest| rest.strip_suffix(".seg"));
    name == "identity"
        || segment.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        || layout::snapshot_of(name).is_some()
        || layout::history_of(name).is_some()
}

fn fill(path: &Path, beside: &Path, release: bool) -> Result<Restored, Failure> {
    let of_backup = |source| Failure::Backup { path: path.to_owned(), source };
    let of_folder = |source| Failure::Folder { path: beside.to_owned(), source };
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(beside).map_err(of_folder)?);
    let bodies = Bodies::open(Arc::clone(&disk), bodies::FILE_BYTES)?;
    let mut reader = Reader::new(BufReader::new(File::open(path).map_err(of_backup)?)).map_err(of_backup)?;
    let mut waiting = Vec::new();
    loop {
        match reader.next_entry().map_err(of_backup)? {
            Entry::File { name, size, used } => {
                let file = disk.create(&name).map_err(of_folder)?;
                reader
                    .content(used, |offset, piece| write_all_at(&*file, offset, piece))
                    .map_err(of_folder)?;
                journal::write_zeros(&*file, used, size - used)
                    .and_then(|()| file.sync())
                    .map_err(of_folder)?;
            }
            Entry::Body(hash, body) => {
                waiting.push((hash, Bytes::from(body)));
                if waiting.len() >= BODIES_AT_ONCE {
                    bodies.store(&std::mem::take(&mut waiting), None)?;
                }
            }
            Entry::End => break,
        }
    }
    bodies.store(&waiting, None)?;
    let restored = rewrite(&disk, release)?;
    disk.sync_directory().map_err(of_folder)?;
    Ok(restored)
}

/// Changes the snapshot for the time that it does not know.
fn rewrite(disk: &Arc<dyn Disk>, release: bool) -> Result<Restored, Error> {
    let lineage = compact::lineage(&**disk)?;
    let missing = || Error::Snapshot { file: ".".to_owned(), what: "there is none" };
    let sequence = snapshot::list(&**disk)?.last().copied().ok_or_else(missing)?;
    let before = snapshot::read(&**disk, lineage, sequence)?;
    let mut restored = Restored { sequence, ..Restored::default() };
    let mut after = State::default();
    before.to_records(|record| {
        let (record, more) = changed(record, release, &mut restored);
        record.into_iter().chain(more).for_each(|record| apply_owned(&mut after, record));
    });
    restored.jobs = after.jobs.len();
    restored.next_job_id = after.next_job_id;
    snapshot::write(disk, lineage, &after, sequence)?;
    Ok(restored)
}

/// A record as it stands in the restored state; a second one that follows it.
fn changed(record: Record, release: bool, restored: &mut Restored) -> (Option<Record>, Option<Record>) {
    match record {
        Record::NextJobId(id) => {
            let below = id.saturating_add(State::IDS_SKIPPED_BY_RESTORE);
            (Some(Record::NextJobId(below)), Some(Record::Restored(below)))
        }
        // Of an earlier restore.
        Record::Restored(_) | Record::Promises { .. } => (None, None),
        Record::Job(job) => (Some(Record::Job(changed_job(job, release, restored))), None),
        other => (Some(other), None),
    }
}

fn changed_job(mut job: Arc<Job>, release: bool, restored: &mut Restored) -> Arc<Job> {
    match &job.phase {
        Phase::Pending(_) => {
            let job = Arc::make_mut(&mut job);
            job.run = RunNumber(job.run.0.saturating_add(State::RUNS_SKIPPED_BY_RESTORE));
            if !release && job.hold == Hold::None {
                (job.hold, job.priority) = (Hold::Admin, 0);
                restored.held += 1;
            }
        }
        Phase::Active(_) => {
            if let Phase::Active(active) = &mut Arc::make_mut(&mut job).phase {
                let parts = active.steps.iter_mut().flat_map(|step| &mut Arc::make_mut(step).nodes);
                parts
                    .filter(|part| part.stage == RunStage::Ordered)
                    .for_each(|part| part.stage = RunStage::Unknown);
            }
        }
        Phase::Ended(_) => {}
    }
    job
}
