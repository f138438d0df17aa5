//! Snapshots beside the controller: closed segments are applied to the last snapshot, by a child process where
//! there is one, so that its memory is its own; then old snapshots and segments go.
//!
//! Policy: when the journal behind the newest snapshot has at least `after_bytes`, and as many bytes as that snapshot
//! (but eight times `after_bytes` is always enough). So each byte is rewritten a bounded number of times, and a restart
//! reads one snapshot and a bounded piece of journal. The segment under way is closed for it, not waited for.
//!
//! Order: rows of history durable, snapshot durable and read back, then the older snapshots beyond two go, then
//! the segments that the older of the two covers. Each step may be repeated.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use journal::{
    ClosedSegment, Committer, Disk, DiskFile, FileDisk, FrameReader, Journal, Lineage, Log, Payload,
    SegmentId, SegmentSource, Sequence, segment_name,
};
use scheduler_codec::{Entry, Header};
use scheduler_core::state::State;

use super::bodies::Bodies;
use super::history::History;
use super::replay::{Decoders, Raw, Replay, apply_all, pipelined};
use super::{Error, layout, snapshot};
use crate::crash::{self, Point};

/// The journal grows by so much, at most, before anybody looks whether a snapshot is due.
const LOOK_EVERY_BYTES: u64 = 1 << 20;
/// How long after a look that came too early, because the views were behind, there is another.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long after a failure nothing is tried: on a full disk each try takes space for a while.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How much the child stands back when CPUs are short.
const NICENESS: i32 = 10;

/// Who makes snapshots.
#[derive(Clone, Debug)]
pub enum Maker {
    /// A thread of this process (tests, small clusters).
    InProcess,
    /// `PROGRAM compact --state FOLDER …`, see [`command`].
    Child {
        /// The scheduler's own program.
        program: PathBuf,
        /// The state folder.
        state: PathBuf,
    },
}

/// When and by whom snapshots are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who.
    pub maker: Maker,
    /// Bytes of journal behind the newest snapshot that make a new one due. Default: 32 MiB.
    pub after_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { maker: Maker::InProcess, after_bytes: 32 << 20 }
    }
}

impl Settings {
    /// How much journal behind a snapshot of that size makes a new one due.
    #[must_use]
    pub fn due_bytes(&self, newest_bytes: u64) -> u64 {
        newest_bytes.clamp(self.after_bytes, self.after_bytes.saturating_mul(8))
    }
}

/// A snapshot to be made: the state after the last frame of these closed segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Oldest first.
    pub segments: Vec<ClosedSegment>,
}

impl Task {
    /// Arguments of [`command`].
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.segments
            .iter()
            .map(|segment| format!("{}:{}:{}:{}", segment.id, segment.first, segment.last, segment.bytes))
            .collect()
    }

    fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let one = |text: String| {
            let mut numbers = text.split(':').map(|number| number.parse::<u64>().ok());
            let mut next = || numbers.next().flatten();
            let (id, first, last, bytes) = (next()?, next()?, next()?, next()?);
            let (first, last) = (Sequence(first), Sequence(last));
            Some(ClosedSegment { id: SegmentId(id), first, last, bytes })
        };
        let segments: Vec<ClosedSegment> = arguments.map(one).collect::<Option<_>>()?;
        (!segments.is_empty()).then_some(Self { segments })
    }

    fn through(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.last.0)
    }
}

/// `compact --state FOLDER [--parent PID] SEGMENT…`: what the child does, with the arguments behind `compact`.
///
/// # Errors
/// Arguments that are none; anything that cannot be read or written.
pub fn command(arguments: impl Iterator<Item = String>) -> Result<(), Error> {
    let usage = || {
        let text = "usage: compact --state FOLDER [--parent PID] SEGMENT:FIRST:LAST:BYTES…";
        Error::Compaction(text.to_owned())
    };
    let mut arguments = arguments.peekable();
    if arguments.next().as_deref() != Some("--state") {
        return Err(usage());
    }
    let folder = arguments.next().ok_or_else(usage)?;
    let mut parent = None;
    if arguments.next_if(|word| word == "--parent").is_some() {
        parent = Some(arguments.next().and_then(|pid| pid.parse::<u32>().ok()).ok_or_else(usage)?);
    }
    let task = Task::parse(arguments).ok_or_else(usage)?;
    // Whoever submits meanwhile comes first. Without the right to be nice it is made all the same.
    let _ = rustix::process::nice(NICENESS);
    // A child whose scheduler has gone must not write into the folder of the next one.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|errno| Error::io("set the death signal of", "compact", errno.into()))?;
    // It may have gone before its death could be told.
    if parent.is_some_and(|parent| std::os::unix::process::parent_id() != parent) {
        return Err(Error::Stopped);
    }
    let disk: Arc<dyn Disk> =
        Arc::new(FileDisk::open(&folder).map_err(|error| Error::io("open", &folder, error))?);
    make(&disk, &task).map(|_| ())
}

/// Makes the snapshot of a task; answers its size in bytes. Needs no lock: closed segments do not change.
///
/// # Errors
/// Anything that cannot be read or written.
pub fn make(disk: &Arc<dyn Disk>, task: &Task) -> Result<u64, Error> {
    let lineage = lineage(&**disk)?;
    let first = task.segments.first().map_or(1, |segment| segment.first.0);
    let mut snapshots = snapshot::list(&**disk)?;
    snapshots.retain(|sequence| *sequence <= task.through());
    let decoders = Decoders::start()?;
    let mut base = (0, None);
    for sequence in snapshots.into_iter().rev() {
        if let Ok(state) = snapshot::read_by(&decoders, &**disk, lineage, sequence) {
            base = (sequence, Some(state));
            break;
        }
    }
    let (base, state) = base;
    if base + 1 < first {
        return Err(Error::NoSnapshot { first, tried: 1 });
    }
    let source = SegmentSource::new(Arc::clone(disk), lineage);
    let frames = |send: &mut super::replay::Send<'_>| {
        for segment in task.segments.iter().filter(|segment| segment.last.0 > base) {
            let file: Arc<str> = segment_name(segment.id).into();
            let mut frames = source.read(segment)?;
            while let Some(frame) = frames.next()? {
                if frame.sequence().0 <= base {
                    continue;
                }
                if send(Raw::whole(&file, &frame, false)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let replay = Replay::new(state.unwrap_or_default(), None);
    let replay = pipelined(&decoders, frames, Raw::decode, |pieces| apply_all(replay, pieces))?;
    let bytes = snapshot::write(disk, lineage, &replay.state, task.through())?;
    let expected = scheduler_codec::digest(&replay.state);
    // One state at a time: memory is what this process was made for.
    drop(replay);
    let read_back: State = snapshot::read_by(&decoders, &**disk, lineage, task.through())?;
    if scheduler_codec::digest(&read_back) != expected {
        let file = layout::snapshot_name(task.through());
        layout::remove_if_there(&**disk, &file)?;
        return Err(Error::Snapshot { file, what: "read back, it is another state" });
    }
    Ok(bytes)
}

pub(super) fn lineage(disk: &dyn Disk) -> Result<Lineage, Error> {
    let mut reader = FrameReader::open(disk, "identity", None)?;
    while reader.next()?.is_some() {}
    reader.lineage().ok_or_else(|| Error::Compaction("the journal has no identity".to_owned()))
}

/// How far the next snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Bytes of journal behind the newest snapshot: what a restart reads beside it.
    pub bytes: u64,
    /// Size of that snapshot, bytes; 0: there is none.
    pub newest_bytes: u64,
}

/// The files that stand for the state after a frame: identity, the segment that ends with it, the snapshot, and history up
/// to it. Opened, so that what goes meanwhile can still be read.
pub struct Image {
    /// The frame.
    pub sequence: u64,
    /// Lineage of them all.
    pub lineage: Lineage,
    /// Name and content.
    pub files: Vec<(String, Arc<dyn DiskFile>)>,
}

/// Asks for images of the state from any thread.
#[derive(Clone)]
pub struct Images(SyncSender<Ask>);

impl Images {
    /// An image of everything that is durable now. Waits for a snapshot that is being made, and for its own.
    ///
    /// # Errors
    /// Anything that cannot be read or written; the store is stopped.
    pub fn take(&self) -> Result<Image, Error> {
        let (answer, wait) = sync_channel(1);
        self.0.send(Ask::Image(answer)).map_err(|_| Error::Stopped)?;
        wait.recv().map_err(|_| Error::Stopped)?
    }
}

/// Tries until the views have seen every frame of an image, and the pause between them.
const IMAGE_TRIES: u32 = 500;
const IMAGE_PAUSE: Duration = Duration::from_millis(10);

enum Ask {
    Look,
    /// Make one now, of all closed segments; the answer says whether there was something to do.
    Now(SyncSender<Result<bool, Error>>),
    /// How far the next one is.
    Behind(SyncSender<Result<Behind, Error>>),
    /// A snapshot of now, with the files that stand for it.
    Image(SyncSender<Result<Image, Error>>),
    Stop,
}

/// Tells the thread that the journal has grown.
#[derive(Clone)]
pub(super) struct Poke {
    asks: SyncSender<Ask>,
    grown: Arc<AtomicU64>,
    look_every: u64,
    /// Number of the last batch that is durable.
    last_batch: Arc<AtomicU64>,
}

impl Poke {
    pub(super) fn committed(&self, sequence: u64, bytes: u64) {
        self.last_batch.store(sequence, Ordering::SeqCst);
        let grown = self.grown.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A look that is asked for already does for this one too.
        if grown >= self.look_every && self.asks.try_send(Ask::Look).is_ok() {
            self.grown.store(0, Ordering::Relaxed);
        }
    }
}

/// The thread that makes snapshots; dropped, it ends (and its child with it).
pub(super) struct Compactor {
    poke: Poke,
    child: Arc<Mutex<Option<std::process::Child>>>,
    stopped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    settings: Settings,
    disk: Arc<dyn Disk>,
    committer: Arc<Committer<Journal>>,
    history: Arc<History>,
    bodies: Arc<Bodies>,
    child: Arc<Mutex<Option<std::process::Child>>>,
    stopped: Arc<AtomicU64>,
    last_batch: Arc<AtomicU64>,
}

impl Compactor {
    pub(super) fn spawn(
        settings: Settings,
        disk: Arc<dyn Disk>,
        committer: Arc<Committer<Journal>>,
        history: Arc<History>,
        bodies: Arc<Bodies>,
    ) -> Result<Self, Error> {
        let (asks, inbox) = sync_channel(2);
        let look_every = LOOK_EVERY_BYTES.min(settings.after_bytes / 8);
        let (child, stopped) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
        let last_batch = Arc::new(AtomicU64::new(history.observed_through()));
        let worker = Worker {
            settings,
            disk,
            committer,
            history,
            bodies,
            child: Arc::clone(&child),
            stopped: Arc::clone(&stopped),
            last_batch: Arc::clone(&last_batch),
        };
        let thread = Builder::new()
            .name("compact".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| Error::io("start the thread of", "compact", error))?;
        let poke = Poke { asks, grown: Arc::default(), look_every, last_batch };
        Ok(Self { poke, child, stopped, thread: Some(thread) })
    }

    pub(super) fn poke_handle(&self) -> Poke {
        self.poke.clone()
    }

    pub(super) fn images(&self) -> Images {
        Images(self.poke.asks.clone())
    }

    /// Makes a snapshot of all closed segments now, and waits for it.
    pub(super) fn compact_now(&self) -> Result<bool, Error> {
        let (answer, wait) = sync_channel(1);
        self.poke.asks.send(Ask::Now(answer)).map_err(|_| Error::Stopped)?;
        wait.recv().map_err(|_| Error::Stopped)?
    }
}

impl Compactor {
    /// How far the next snapshot is; waits for one that is being made.
    pub(super) fn behind(&self) -> Result<Behind, Error> {
        let (answer, wait) = sync_channel(1);
        self.poke.asks.send(Ask::Behind(answer)).map_err(|_| Error::Stopped)?;
        wait.recv().map_err(|_| Error::Stopped)?
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stopped.store(1, Ordering::SeqCst);
        if let Some(child) = &mut *self.child.lock().unwrap_or_else(PoisonError::into_inner) {
            // It may have ended already.
            let _ = child.kill();
        }
        let _ = self.poke.asks.send(Ask::Stop);
        if let Some(thread) = self.thread.take() {
            // What it did not finish is begun anew after the next start.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(self, inbox: &Receiver<Ask>) {
        // When to look without being asked, and until when not to look at all.
        let (mut wait, mut rests_until) = (None, None);
        loop {
            let ask = match wait {
                None => inbox.recv().unwrap_or(Ask::Stop),
                Some(pause) => match inbox.recv_timeout(pause) {
                    Ok(ask) => ask,
                    Err(RecvTimeoutError::Timeout) => Ask::Look,
                    Err(RecvTimeoutError::Disconnected) => Ask::Stop,
                },
            };
            let now = Instant::now();
            match ask {
                Ask::Stop => return,
                Ask::Now(answer) => {
                    // The asker may have gone.
                    let _ = answer.send(self.compact(true).map(|done| done == Look::Done));
                }
                Ask::Behind(answer) => drop(answer.send(self.behind())),
                Ask::Image(answer) => drop(answer.send(self.image())),
                Ask::Look => {
                    if let Some(left) =
                        rests_until.and_then(|until: Instant| until.checked_duration_since(now))
                    {
                        wait = Some(left);
                        continue;
                    }
                    let looked = self.compact(false);
                    wait = match &looked {
                        Ok(Look::Done | Look::NotDue) => None,
                        Ok(Look::TooEarly) => Some(LOOK_AGAIN_AFTER),
                        Err(_) => Some(REST_AFTER_FAILURE),
                    };
                    rests_until = looked.is_err().then(|| now + REST_AFTER_FAILURE);
                    if let Err(error) = looked
                        && self.stopped.load(Ordering::SeqCst) == 0
                    {
                        tracing::warn!(%error, "no snapshot was made; the journal keeps growing");
                    }
                }
            }
        }
    }

    /// On the committer's thread, behind what was committed so far.
    fn ask_log<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, wait) = channel();
        let run = move |log: &mut Journal| {
            let _ = answer.send(task(log));
        };
        if !self.committer.run(run) {
            return Err(Error::Stopped);
        }
        wait.recv().map_err(|_| Error::Stopped)
    }

    /// How much journal is behind the newest snapshot, and how much makes a new one due.
    fn behind(&self) -> Result<Behind, Error> {
        let (segments, current) = self.ask_log(|log| (log.closed_segments(), log.current_bytes()))?;
        let newest = snapshot::list(&*self.disk)?.last().copied().unwrap_or(0);
        let closed = segments.iter().filter(|segment| segment.last.0 > newest).map(|segment| segment.bytes);
        let size = self.disk.open(&layout::snapshot_name(newest)).and_then(|file| file.size());
        Ok(Behind { bytes: closed.sum::<u64>() + current, newest_bytes: size.unwrap_or(0) })
    }

    /// Closes the segment under way, if it can be; answers the closed ones. On the committer's thread, so only an order
    /// that is waited for may fill space first: commits wait meanwhile.
    fn close_segment(&self, now: bool) -> Result<Vec<ClosedSegment>, Error> {
        let closed = self.ask_log(move |log| {
            // Closing needs a filled segment to go on in; without space the closed ones alone are taken.
            let may = log.current_bytes() > 0 && (!now || log.try_refill().is_ok());
            if may && log.close_segment() {
                // A segment is closed when a frame of the next one is durable.
                let mut header = Payload::new();
                header.push_with(|bytes| Entry::Header(Header::ours()).encode(bytes));
                log.append(&mut header, None)?;
            }
            Ok::<_, journal::Error>(log.closed_segments())
        })?;
        Ok(closed?)
    }

    fn compact(&self, now: bool) -> Result<Look, Error> {
        let behind = self.behind()?;
        if !now && behind.bytes < self.settings.due_bytes(behind.newest_bytes) {
            return Ok(Look::NotDue);
        }
        let segments = self.close_segment(now)?;
        let newest = snapshot::list(&*self.disk)?.last().copied().unwrap_or(0);
        if segments.last().is_none_or(|last| last.last.0 <= newest) {
            return Ok(Look::NotDue);
        }
        let task = Task { segments };
        let through = task.through();
        // Frames without records are never shown to the views: what counts is the last batch. Its outcome was told
        // before the log answered above, so this one is not older than any frame of the task.
        let last_batch = self.last_batch.load(Ordering::SeqCst);
        if self.history.observed_through() < last_batch.min(through) {
            return Ok(Look::TooEarly);
        }
        self.history.observed(through);
        let rows = self.history.flush(through, &self.bodies)?;
        match &self.settings.maker {
            Maker::InProcess => {
                make(&self.disk, &task)?;
            }
            Maker::Child { program, state } => self.make_in_child(program, state, &task)?,
        }
        crash::point(Point::SnapshotMade);
        self.clean_up()?;
        tracing::info!(frame = through, rows, "snapshot made");
        Ok(Look::Done)
    }

    /// A snapshot of now, and its files opened.
    fn image(&self) -> Result<Image, Error> {
        let mut tries = 0;
        // The views follow the disk by an instant.
        while self.compact(true)? == Look::TooEarly {
            tries += 1;
            if tries > IMAGE_TRIES || self.stopped.load(Ordering::SeqCst) != 0 {
                return Err(Error::Compaction("queries do not see what is on disk".to_owned()));
            }
            std::thread::sleep(IMAGE_PAUSE);
        }
        let none = || Error::Compaction("there is no snapshot yet".to_owned());
        let sequence = snapshot::list(&*self.disk)?.last().copied().ok_or_else(none)?;
        let closed = self.ask_log(|log| log.closed_segments())?;
        let last = closed.iter().find(|segment| segment.last.0 == sequence).ok_or_else(none)?;
        let mut names = vec!["identity".to_owned(), segment_name(last.id), layout::snapshot_name(sequence)];
        let history = layout::list(&*self.disk)?;
        names.extend(
            history
                .into_iter()
                .filter(|name| layout::history_of(name).is_some_and(|(_, last)| last <= sequence)),
        );
        let open = |name: String| {
            let file = self.disk.open(&name).map_err(|error| Error::io("open", &name, error))?;
            Ok((name, file))
        };
        let files = names.into_iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Image { sequence, lineage: lineage(&*self.disk)?, files })
    }

    fn make_in_child(&self, program: &PathBuf, state: &PathBuf, task: &Task) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::io("run", program.display().to_string(), error);
        let mut command = Command::new(program);
        let parent = std::process::id().to_string();
        command.arg("compact").arg("--state").arg(state).args(["--parent", &parent]).args(task.arguments());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let stderr = {
            let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            if self.stopped.load(Ordering::SeqCst) != 0 {
                return Err(Error::Stopped);
            }
            let child = slot.insert(command.spawn().map_err(failed)?);
            child.stderr.take()
        };
        crash::point(Point::SnapshotBegun);
        let said = stderr.map(std::io::read_to_string).transpose().map_err(failed)?.unwrap_or_default();
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let status = child.map(|mut child| child.wait()).transpose().map_err(failed)?;
        match status {
            Some(status) if status.success() => Ok(()),
            _ => Err(Error::Compaction(said.trim().to_owned())),
        }
    }

    /// Removes snapshots beyond the two newest, then the segments that the older of the two covers.
    fn clean_up(&self) -> Result<(), Error> {
        let mut snapshots = snapshot::list(&*self.disk)?;
        let kept = snapshots.split_off(snapshots.len().saturating_sub(2));
        for sequence in snapshots {
            layout::remove_if_there(&*self.disk, &layout::snapshot_name(sequence))?;
        }
        if let [older, _] = kept[..] {
            self.ask_log(move |log| log.remove_through(Sequence(older)))??;
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Look {
    Done,
    NotDue,
    /// The views have not seen all frames yet.
    TooEarly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back() {
        let segment = |id: u64| ClosedSegment {
            id: SegmentId(id),
            first: Sequence(id * 10),
            last: Sequence(id * 10 + 9),
            bytes: 4096,
        };
        let task = Task { segments: vec![segment(1), segment(2)] };
        assert_eq!(Task::parse(task.arguments().into_iter()), Some(task));
        for bad in ["", "1:2:3", "1:2:3:x"] {
            assert_eq!(Task::parse([bad.to_owned()].into_iter()), None);
        }
        assert_eq!(Task::parse(std::iter::empty()), None);
    }
}
