//! sled over the history files: bounds and filters of blocks of their rows; usage by hour.
//!
//! Only what can be made again from the files stands here; the folder may be deleted while the scheduler is
//! down. Opened by its own thread, after the scheduler answers; until a file is in the index, queries read
//! all of it. The mark of a file is written after its blocks, and then sled's files are synced (its own flush was
//! measured not to survive a power cut): a mark that is there proves the blocks. All blocks are in memory too:
//! about five bytes for each row of history.
//!
//! One thread writes. On a full disk, or after any other error of sled, the database is dropped and opened
//! again later: sled never recovers in place.

pub(super) mod blocks;
mod keys;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use blocks::{Block, Maker};
use journal::{Disk, Lineage};

use super::Error;
use super::history::file::{self, FileFacts};
use crate::crash::{self, Point};

/// Memory that sled may use for its cache, bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// Rows of a block. The files of tests are small, and are to have many blocks.
const BLOCK_ROWS: u32 = if cfg!(test) { 3 } else { blocks::ROWS };
/// Blocks that are added to the index at once.
const CHUNK_BLOCKS: usize = 64;
/// Folder of the database; another layout of the keys gets another name.
const DATABASE: &str = "v2";
/// How long after a failure the database is opened again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

enum Command {
    Begin(Vec<FileFacts>),
    Add(FileFacts),
    Remove(FileFacts, Sender<()>),
    Stop,
}

/// Blocks of the files whose rows are all in the index, by the first frame of the file.
pub(super) type Indexed = Arc<BTreeMap<u64, Arc<[Block]>>>;

/// What queries see of the index.
#[derive(Default)]
struct Shown {
    tree: Option<sled::Db>,
    files: Indexed,
    /// Why it is closed, if an error closed it.
    trouble: Option<String>,
    /// Everything asked for so far is done.
    idle: bool,
}

/// Handle of the index; dropped, it closes the database in order.
pub struct Index {
    commands: Sender<Command>,
    shown: Arc<Mutex<Shown>>,
    thread: Option<JoinHandle<()>>,
}

/// Usage of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Begin of the hour, ms.
    pub hour_ms: i64,
    /// Account.
    pub account: String,
    /// User.
    pub uid: u32,
    /// Allocated CPU time, ms.
    pub cpu_ms: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    /// Starts the thread, which opens the database in `folder` and waits for files.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn spawn(folder: PathBuf, disk: Arc<dyn Disk>, lineage: Lineage) -> Result<Arc<Self>, Error> {
        let (commands, inbox) = channel();
        let shown = Arc::new(Mutex::new(Shown::default()));
        let worker = Worker { folder, disk, lineage, shown: Arc::clone(&shown), files: BTreeMap::new() };
        let thread = Builder::new()
            .name("index".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| Error::io("start the thread of", "index", error))?;
        Ok(Arc::new(Self { commands, shown, thread: Some(thread) }))
    }

    fn send(&self, command: Command) {
        locked(&self.shown).idle = false;
        // A thread that is gone leaves the files unindexed: they are read instead.
        let _ = self.commands.send(command);
    }

    pub(super) fn begin(&self, files: Vec<FileFacts>) {
        self.send(Command::Begin(files));
    }

    pub(super) fn add(&self, file: FileFacts) {
        self.send(Command::Add(file));
    }

    /// Takes the rows of a file out, and waits for it: the file goes next.
    pub(super) fn remove(&self, file: FileFacts) {
        Arc::make_mut(&mut locked(&self.shown).files).remove(&file.begin.first);
        let (done, wait) = channel();
        self.send(Command::Remove(file, done));
        // Its bytes are read for this. Answered, or the thread is gone.
        let _ = wait.recv();
    }

    /// Whether every file given so far is in the index; and what is wrong, if something is.
    #[must_use]
    pub fn standing(&self) -> (bool, Option<String>) {
        let shown = locked(&self.shown);
        (shown.idle && shown.tree.is_some(), shown.trouble.clone())
    }

    /// The blocks of every file that is in it; nothing while the index is closed.
    pub(super) fn indexed(&self) -> Indexed {
        Arc::clone(&locked(&self.shown).files)
    }

    fn tree(&self) -> Option<sled::Db> {
        locked(&self.shown).tree.clone()
    }

    /// Usage of the hours in a window, ordered by hour, account and user; `None` while not every file is indexed.
    #[must_use]
    pub fn usage(&self, from_ms: i64, to_ms: i64) -> Option<Vec<UsageRow>> {
        if !self.standing().0 {
            return None;
        }
        let tree = self.tree()?;
        let mut rows = Vec::new();
        for found in tree.range(keys::usage_from(from_ms)..) {
            let (key, value) = found.ok()?;
            let Some((hour_ms, account, uid)) = keys::usage_key(&key).filter(|(hour, ..)| *hour < to_ms)
            else {
                break;
            };
            let cpu_ms = u64::from_be_bytes(value.as_ref().try_into().ok()?);
            rows.push(UsageRow { hour_ms, account, uid, cpu_ms });
        }
        Some(rows)
    }

    /// Everything in the index, for comparing two.
    #[cfg(test)]
    pub(super) fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let tree = self.tree().expect("the index is open");
        tree.iter().map(|pair| pair.expect("it can be read")).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // What it could not do is done anew after the next start.
            let _ = thread.join();
        }
    }
}

struct Worker {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    lineage: Lineage,
    shown: Arc<Mutex<Shown>>,
    /// What there is to be indexed.
    files: BTreeMap<u64, FileFacts>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Command>) {
        let mut wait = None;
        loop {
            let command = match wait {
                None => inbox.recv().ok(),
                Some(pause) => match inbox.recv_timeout(pause) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => {
                        wait = self.work().err().map(|_| RETRY_AFTER);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => None,
                },
            };
            let mut answer = None;
            let removed = match command {
                None | Some(Command::Stop) => return self.close(),
                Some(Command::Begin(files)) => {
                    self.files = files.into_iter().map(|file| (file.begin.first, file)).collect();
                    None
                }
                Some(Command::Add(file)) => {
                    self.files.insert(file.begin.first, file);
                    None
                }
                Some(Command::Remove(file, done)) => {
                    self.files.remove(&file.begin.first);
                    answer = Some(done);
                    Some(file)
                }
            };
            let done = removed.map_or(Ok(()), |file| self.take_out(&file)).and_then(|()| self.work());
            wait = done.err().map(|_| RETRY_AFTER);
            // Nobody may wait any more.
            let _ = answer.map(|answer| answer.send(()));
        }
    }

    /// Opens the database where it is closed, and adds what is missing.
    fn work(&mut self) -> Result<(), Error> {
        // sled asserts on some damaged files: that is one more error here.
        let done = catch_unwind(AssertUnwindSafe(|| self.catch_up()))
            .unwrap_or_else(|_| Err(Error::Index(sled::Error::ReportableBug("it asserted".to_owned()))));
        if let Err(error) = &done {
            let mut shown = locked(&self.shown);
            *shown = Shown { trouble: Some(error.to_string()), ..Shown::default() };
        }
        done
    }

    fn catch_up(&mut self) -> Result<(), Error> {
        let tree = match locked(&self.shown).tree.clone() {
            Some(tree) => tree,
            None => self.open()?,
        };
        crash::point(Point::IndexOpen);
        let mut indexed = self.read(&tree)?;
        self.show(&tree, &indexed, false);
        let missing: Vec<FileFacts> =
            self.files.values().filter(|file| !indexed.contains_key(&file.begin.first)).copied().collect();
        for file in missing {
            match self.put_in(&tree, &file) {
                Ok(blocks) => drop(Arc::make_mut(&mut indexed).insert(file.begin.first, blocks)),
                Err(error @ Error::Index(_)) => return Err(error),
                // A file that cannot be read is not in the index; queries will say so.
                Err(_) => continue,
            }
            self.show(&tree, &indexed, false);
        }
        self.show(&tree, &indexed, true);
        Ok(())
    }

    /// The blocks that the database has of files that there are; those that were read before are not read again.
    fn read(&self, tree: &sled::Db) -> Result<Indexed, Error> {
        let known = Arc::clone(&locked(&self.shown).files);
        let mut indexed = BTreeMap::new();
        for found in tree.scan_prefix(keys::files()) {
            let Some(file) = keys::file_of(&found?.0).filter(|file| self.files.contains_key(file)) else {
                continue;
            };
            if let Some(blocks) = known.get(&file) {
                indexed.insert(file, Arc::clone(blocks));
                continue;
            }
            let mut blocks = Vec::new();
            for found in tree.scan_prefix(keys::blocks(file)) {
                let damage = || sled::Error::ReportableBug("a block that is none".to_owned());
                blocks.push(Block::decode(&found?.1).ok_or_else(damage)?);
            }
            indexed.insert(file, blocks.into());
        }
        Ok(Arc::new(indexed))
    }

    fn show(&self, tree: &sled::Db, indexed: &Indexed, idle: bool) {
        let shown = Shown { tree: Some(tree.clone()), files: Arc::clone(indexed), trouble: None, idle };
        *locked(&self.shown) = shown;
    }

    /// Opens the database; one that cannot be read is made anew.
    fn open(&self) -> Result<sled::Db, Error> {
        make_folder(&self.folder)?;
        remove_others(&self.folder)?;
        match open_database(&self.folder) {
            Ok(tree) => Ok(tree),
            Err(error @ sled::Error::Io(_)) => Err(error.into()),
            Err(_) => {
                remove_folder(&self.folder)?;
                make_folder(&self.folder)?;
                Ok(open_database(&self.folder)?)
            }
        }
    }

    fn settle(&self, tree: &sled::Db) -> Result<(), Error> {
        tree.flush()?;
        sync_all(&self.folder).map_err(|error| Error::io("sync", self.folder.display().to_string(), error))
    }

    /// Adds the blocks of a file, and its mark last. May be repeated.
    fn put_in(&self, tree: &sled::Db, facts: &FileFacts) -> Result<Arc<[Block]>, Error> {
        let mut usage: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut maker = Maker::new(BLOCK_ROWS);
        let _ = file::each_row(&*self.disk, self.lineage, facts, &mut |place, _, row| {
            maker.add(place, row);
            keys::usage_of(row, |key, cpu_ms| *usage.entry(key).or_insert(0) += cpu_ms);
            ControlFlow::Continue(())
        })?;
        let blocks = maker.finish();
        for some in blocks.chunks(CHUNK_BLOCKS) {
            let mut batch = sled::Batch::default();
            for block in some {
                batch.insert(keys::block(facts.begin.first, block.offset), block.encode());
            }
            tree.apply_batch(batch)?;
        }
        let mut pending = sled::Batch::default();
        for (key, cpu_ms) in usage {
            let before =
                tree.get(&key)?.and_then(|value| Some(u64::from_be_bytes(value.as_ref().try_into().ok()?)));
            pending.insert(key, &before.unwrap_or(0).saturating_add(cpu_ms).to_be_bytes());
        }
        // The mark and the usage are one batch: usage is counted once.
        pending.insert(keys::file(facts.begin.first), &facts.begin.last.to_be_bytes());
        tree.apply_batch(pending)?;
        self.settle(tree)?;
        Ok(blocks.into())
    }

    /// Takes the rows of a purged file out. If its bytes are gone already, the index is made anew.
    fn take_out(&mut self, facts: &FileFacts) -> Result<(), Error> {
        let Some(tree) = locked(&self.shown).tree.clone() else { return Ok(()) };
        if tree.get(keys::file(facts.begin.first))?.is_none() {
            return Ok(());
        }
        let mut removal = sled::Batch::default();
        let mut usage: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for found in tree.scan_prefix(keys::blocks(facts.begin.first)).keys() {
            removal.remove(found?);
        }
        let read = file::each_row(&*self.disk, self.lineage, facts, &mut |_, _, row| {
            keys::usage_of(row, |key, cpu_ms| *usage.entry(key).or_insert(0) += cpu_ms);
            ControlFlow::Continue(())
        });
        if read.is_err() {
            *locked(&self.shown) = Shown::default();
            drop(tree);
            return remove_folder(&self.folder);
        }
        for (key, cpu_ms) in usage {
            let before =
                tree.get(&key)?.and_then(|value| Some(u64::from_be_bytes(value.as_ref().try_into().ok()?)));
            match before.unwrap_or(0).saturating_sub(cpu_ms) {
                0 => removal.remove(key),
                left => removal.insert(key, &left.to_be_bytes()),
            }
        }
        removal.remove(keys::file(facts.begin.first));
        tree.apply_batch(removal)?;
        self.settle(&tree)
    }

    /// Closes the database; what was not settled is done anew after the next start.
    fn close(self) {
        drop(std::mem::take(&mut *locked(&self.shown)));
    }
}

fn open_database(folder: &Path) -> sled::Result<sled::Db> {
    sled::Config::new().path(folder.join(DATABASE)).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
}

/// fdatasync of every file of the database: sled's own flush does not do it.
fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder.join(DATABASE))? {
        let path = entry?.path();
        if path.is_file() {
            std::fs::File::open(path)?.sync_all()?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Error::io("create", folder.display().to_string(), error))
}

/// Databases of other layouts: what earlier versions made.
fn remove_others(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("list", folder.display().to_string(), error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != DATABASE && entry.path().is_dir() {
            remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", folder.display().to_string(), error))
        }
        _ => Ok(()),
    }
}
