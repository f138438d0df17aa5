//! The daemon's durable store: recovery, commits, bodies, snapshots, history, indexes.
//!
//! ```text
//!  controller ─► Batch ─► committer ─► journal ─► done ─► views ─► History::observe
//!                  │          └► Bodies (written and synced before the frame)
//!                  └ space was promised before the machine handled the input
//!  beside it: fillers (space), compactor (snapshots, history files, old segments), index (sled)
//! ```
//! Plain threads and files; nothing here waits on a runtime, decides, or knows what a job is beyond its
//! bodies and its end. See `docs/architecture/storage.md`; names of files: `layout.rs`.
//!
//! After an error of a commit the store is dead: the controller drops it with its machine ([`Store::close`])
//! and opens it anew in the same process.

pub mod backup;
pub mod bodies;
mod commit;
pub mod compact;
mod error;
mod full;
pub mod history;
pub mod index;
mod layout;
mod recovery;
mod replay;
pub mod restore;
pub mod show;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use journal::{Committer, Disk, Epoch, Filler, Journal, Lineage, Log, Space, SpaceHandle};
use scheduler_core::state::State;

use bodies::{Bodies, BodyFiller};
use compact::Compactor;
use full::FullMark;
use history::{History, RowMaker};
use index::Index;

pub use commit::{Batch, Committed, Done};
pub use error::Error;
pub use journal::{Class, FileDisk};
pub use recovery::Report;

/// How often a filler tries again on a full disk.
const FILL_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How the store is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The journal's own.
    pub journal: journal::Options,
    /// Size of body files made from now on, bytes.
    pub body_file_bytes: u64,
    /// Snapshots.
    pub compaction: compact::Settings,
    /// History.
    pub history: history::Settings,
    /// Folder of the index; `None`: history is queried without one.
    pub index: Option<PathBuf>,
    /// How long no batch has to come until an empty frame proves the last one durable.
    pub idle_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let journal = journal::Options { segment_bytes: 32 << 20, ..journal::Options::default() };
        Self {
            journal,
            body_file_bytes: bodies::FILE_BYTES,
            compaction: compact::Settings::default(),
            history: history::Settings::default(),
            index: None,
            idle_after: Duration::from_millis(20),
        }
    }
}

/// What the threads of a store share.
struct Shared {
    /// No batch of this owner says yet who wrote it.
    header_due: AtomicBool,
    /// Whether the disk was full for a segment of the journal, and for a body file.
    full: [FullMark; 2],
}

/// A store in use. One owner; other threads hold the parts that [`Store::bodies`] and [`Store::history`] give.
pub struct Store {
    // In the order in which they end.
    compactor: Compactor,
    committer: Arc<Committer<Journal>>,
    fillers: (Filler, BodyFiller),
    disk: Arc<dyn Disk>,
    bodies: Arc<Bodies>,
    history: Arc<History>,
    space: SpaceHandle,
    pool: commit::Pool,
    shared: Arc<Shared>,
    index: Option<PathBuf>,
    epoch: Epoch,
    lineage: Lineage,
}

/// A store that was opened.
pub struct Opened {
    /// What is true; the first input of the machine over it is `Owned` with the store's epoch.
    pub state: State,
    /// The store.
    pub store: Store,
    /// What was found.
    pub report: Report,
}

impl Store {
    /// Opens the state folder: recovers, becomes its owner, starts the threads.
    ///
    /// `maker` makes the rows of jobs that ended since history was last written.
    /// Cost: the newest snapshot and the journal behind it are read.
    ///
    /// # Errors
    /// Another owner, damage, a newer format: nothing was touched. The operating system's word.
    pub fn open(disk: Arc<dyn Disk>, settings: Settings, maker: &mut RowMaker<'_>) -> Result<Opened, Error> {
        let found = recovery::open(&disk, &settings, maker)?;
        let recovery::Found { state, journal, bodies, history, report } = found;
        let (epoch, lineage, space) = (journal.epoch(), journal.lineage(), journal.space_handle());
        let thread = |error| Error::io("start the threads of", "store", error);
        let committing = journal::Settings { queue: 1, idle_after: Some(settings.idle_after) };
        let committer = Arc::new(Committer::spawn(journal, committing).map_err(thread)?);
        let fillers = (
            Filler::spawn(space.clone(), FILL_AGAIN_AFTER).map_err(thread)?,
            BodyFiller::spawn(Arc::clone(&bodies), FILL_AGAIN_AFTER).map_err(thread)?,
        );
        let compactor = Compactor::spawn(
            settings.compaction,
            Arc::clone(&disk),
            Arc::clone(&committer),
            Arc::clone(&history),
            Arc::clone(&bodies),
        )?;
        let store = Self {
            compactor,
            committer,
            fillers,
            disk,
            bodies,
            history,
            space,
            pool: commit::Pool::default(),
            shared: Arc::new(Shared {
                header_due: AtomicBool::new(true),
                full: [FullMark::default(), FullMark::default()],
            }),
            index: settings.index,
            epoch,
            lineage,
        };
        Ok(Opened { state, store, report })
    }

    /// Epoch of this owner.
    #[must_use]
    pub fn epoch(&self) -> model::id::Epoch {
        model::id::Epoch(self.epoch.0)
    }

    /// Scripts and environments, for any thread.
    #[must_use]
    pub fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// Finished jobs, for any thread.
    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Images of the state, for backups.
    #[must_use]
    pub fn images(&self) -> compact::Images {
        self.compactor.images()
    }

    /// What space the journal has.
    #[must_use]
    pub fn space(&self) -> Space {
        self.space.space()
    }

    /// Opens the index in its own thread. To be called when the scheduler answers.
    ///
    /// # Errors
    /// The operating system gives no thread. What goes wrong later is told by [`Index::standing`].
    pub fn open_index(&self) -> Result<Option<Arc<Index>>, Error> {
        let Some(folder) = &self.index else { return Ok(None) };
        let index = Index::spawn(folder.clone(), Arc::clone(&self.disk), self.lineage)?;
        self.history.set_index(Some(Arc::clone(&index)));
        Ok(Some(index))
    }

    /// Makes a snapshot of everything up to the present segment now, and waits for it; answers whether there
    /// was something to do. For orderly ends, tools and tests.
    ///
    /// # Errors
    /// Anything that cannot be read or written.
    pub fn compact_now(&self) -> Result<bool, Error> {
        self.compactor.compact_now()
    }

    /// How much journal is behind the newest snapshot, and how large that is. Waits for a snapshot that is
    /// being made.
    ///
    /// # Errors
    /// The store is dead; the folder cannot be listed.
    pub fn behind_snapshot(&self) -> Result<compact::Behind, Error> {
        self.compactor.behind()
    }

    /// Ends the threads; what was handed over is finished. The folder may be opened anew then.
    pub fn close(self) {
        self.history.set_index(None);
        let Self { compactor, committer, fillers, .. } = self;
        drop(compactor);
        drop(fillers);
        drop(committer);
    }
}

#[cfg(test)]
mod tests;
