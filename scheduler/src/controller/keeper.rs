//! The controller's side of the store: opening the folder, space for inputs, inputs that must not be tried again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Claim, Disk};
use model::id::Epoch;
use model::time::Timestamp;
use scheduler_core::effect::ReplyTo;
use scheduler_core::input::Input;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::Job;

use crate::directory::Directory;
use crate::rows::job::{Context, row};
use crate::store::compact::{self, Maker};
use crate::store::{self, Class, Error, FileDisk, Opened, Store};

/// Most bytes of records in one batch; a larger one waits for the disk before it takes more.
const RECORDS_MAX: u64 = 1 << 20;
/// Crashes after which an input is not tried again.
const CRASHES_MAX: u32 = 2;
/// Name of the file that lists inputs that made the machine assert.
const SUSPECTS: &str = "suspects";

/// Where the state is and how it is kept.
#[derive(Clone)]
pub struct Keeping {
    /// The folder, 0700.
    pub folder: PathBuf,
    /// The program that makes snapshots (`PROGRAM compact …`); `None`: a thread of this process.
    pub compactor: Option<PathBuf>,
    /// Bytes of journal behind the newest snapshot that make another one due; `None`: the default, 64 MiB.
    pub snapshot_after: Option<u64>,
    /// Another disk than the folder: tests. Sizes of files are small then.
    pub disk: Option<Arc<dyn Disk>>,
}

/// The row of a finished job, for the history.
#[must_use]
pub fn history_row(state: &State, settings: &Settings, directory: &Directory, job: &Job) -> proto::v1::Job {
    let context = Context {
        state,
        settings,
        verdict: None,
        change: 0,
        user: &directory.user(job.owner.uid),
        group: &directory.group(job.owner.gid),
        with_steps: true,
        now: Timestamp::ZERO,
    };
    row(job, &context)
}

/// Opens the folder and becomes its owner, with an epoch of at least `at_least`.
///
/// # Errors
/// As [`Store::open`]; the folder cannot be made.
pub fn open(
    keeping: &Keeping,
    at_least: Epoch,
    (settings, history): (&Settings, store::history::Settings),
    directory: &Directory,
) -> Result<Opened, Error> {
    let folder = &keeping.folder;
    let failed = |operation: &'static str| {
        move |source| Error::Io { operation, file: folder.display().to_string(), source }
    };
    if !folder.is_dir() {
        if let Some(above) = folder.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(above)
                .map_err(failed("make the folder above"))?;
        }
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(failed("make"))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed("close to others"))?;
    let mut store_settings = store::Settings { history, ..store::Settings::default() };
    let disk: Arc<dyn Disk> = match &keeping.disk {
        Some(disk) => {
            store_settings.journal.segment_bytes = 1 << 20;
            store_settings.journal.essential_bytes = 256 << 10;
            store_settings.body_file_bytes = 1 << 20;
            Arc::clone(disk)
        }
        None => {
            store_settings.index = Some(folder.join("index"));
            Arc::new(FileDisk::open(folder).map_err(failed("open"))?)
        }
    };
    if let Some(bytes) = keeping.snapshot_after {
        store_settings.compaction.after_bytes = bytes;
        // Only closed segments are compacted; each is at most half of what is waited for.
        let journal = &mut store_settings.journal;
        journal.segment_bytes = journal.segment_bytes.min(bytes / 2);
        journal.essential_bytes = journal.essential_bytes.min(bytes / 4);
    }
    if at_least > Epoch(0) {
        store_settings.journal.claim = Claim::AtLeast(journal::Epoch(at_least.0));
    }
    if let Some(program) = &keeping.compactor {
        store_settings.compaction = compact::Settings {
            maker: Maker::Child { program: program.clone(), state: folder.clone() },
            ..store_settings.compaction
        };
    }
    Store::open(disk, store_settings, &mut |state, job| history_row(state, settings, directory, job))
}

/// What became of a wish for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is there.
    Yes,
    /// Not in this batch; in the next one, perhaps.
    NextBatch,
    /// The disk is full.
    Full,
    /// The journal takes nothing any more.
    Fenced,
}

/// Promises space for one input.
pub(super) fn admit(
    store: &Store,
    batch: &mut store::Batch,
    class: Class,
    record_bytes: u64,
    bodies: &[usize],
) -> Room {
    if !batch.is_empty() && batch.bytes() + record_bytes > RECORDS_MAX {
        return Room::NextBatch;
    }
    match store.admit(batch, class, record_bytes, bodies) {
        Ok(()) => Room::Yes,
        Err(error)
            if error.is_full()
                || matches!(
                    error,
                    Error::BodyTooLarge { .. } | Error::Journal(journal::Error::TooLarge { .. })
                ) =>
        {
            // A frame of its own needs less in one piece than what this batch has become.
            if batch.is_empty() { Room::Full } else { Room::NextBatch }
        }
        Err(_) => Room::Fenced,
    }
}

/// Inputs that made the machine assert, by digest, with how often they did.
pub(super) struct Suspects {
    path: PathBuf,
    known: BTreeMap<String, u32>,
}

impl Suspects {
    /// Reads the list; what is no digest is ignored.
    pub(super) fn read(folder: &Path) -> Self {
        let path = folder.join(SUSPECTS);
        let mut known = BTreeMap::new();
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            *known.entry(line.trim().to_owned()).or_insert(0) += 1;
        }
        Self { path, known }
    }

    /// Whether an input asserted too often. Cost: nothing while the list is empty.
    pub(super) fn holds(&self, input: &Input) -> bool {
        !self.known.is_empty()
            && may_be_refused(input)
            && self.known.get(&digest(input)).is_some_and(|crashes| *crashes >= CRASHES_MAX)
    }

    /// Notes an input that asserted; best effort, since the process ends.
    pub(super) fn note(&self, input: &Input) {
        let line = format!("{}\n", digest(input));
        let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        if let Ok(mut file) = file {
            let _ = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        }
    }
}

/// Without these the daemon can go on; without its configuration it cannot.
fn may_be_refused(input: &Input) -> bool {
    matches!(
        input,
        Input::Submit(_)
            | Input::Command { .. }
            | Input::Registered(_)
            | Input::Report { .. }
            | Input::Plan(_)
    )
}

/// The digest of an input, apart from the handles that differ from try to try.
fn digest(input: &Input) -> String {
    let mut input = input.clone();
    match &mut input {
        Input::Submit(submit) => submit.reply = ReplyTo(0),
        Input::Command { reply, .. } => *reply = ReplyTo(0),
        Input::Registered(registration) => registration.session = 0,
        _ => {}
    }
    blake3::hash(format!("{input:?}").as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::NodeIdx;
    use scheduler_core::effect::RunKey;
    use scheduler_core::input::Report;

    #[test]
    fn an_input_is_refused_after_its_second_crash() {
        let folder = std::env::temp_dir().join(format!("sluice-suspects-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let run =
            RunKey { job: model::id::JobId(1), step: model::id::StepId::Batch, run: model::id::RunNumber(1) };
        let input = Input::Report { node: NodeIdx(0), run, report: Report::Unknown };
        for crashes in 0..3 {
            let suspects = Suspects::read(&folder);
            assert_eq!(suspects.holds(&input), crashes >= CRASHES_MAX, "{crashes}");
            assert!(!suspects.holds(&Input::Deadline));
            suspects.note(&input);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
