//! The log of a daemon: one destination (a file, else standard error) and one level, both changed while it runs.
//!
//! Set up once, before anything is read, on standard error at `info`; told later what the configuration wants. A file
//! that cannot be opened is said on standard error, which then stays the destination, as in Slurm. Lines that cannot be
//! written are lost: nothing waits for a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::config::log::{Level, LogConf, TimeFormat};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Who may read a log file: its owner, and its group.
const MODE: u32 = 0o640;

/// The log of this process. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    /// What is ours, among all that libraries say.
    targets: &'static [&'static str],
    filter: Option<reload::Handle<Targets, Registry>>,
    out: Out,
    times: Arc<AtomicU8>,
    levels: Mutex<Levels>,
}

#[derive(Default)]
struct Levels {
    now: Level,
    /// What the configuration, or else the command line, names.
    configured: Level,
    /// Never less than this: what the command line asks for.
    least: Option<Level>,
    /// Slurm's word for the present one, where it is not the configuration's.
    word: Option<&'static str>,
}

/// Where lines go.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Place>>);

#[derive(Default)]
struct Place {
    path: Option<PathBuf>,
    file: Option<File>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Write for Out {
    /// A line comes as one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut lock(&self.0).file {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Out {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The instant at the head of a line.
#[derive(Clone)]
struct Clock(Arc<AtomicU8>);

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let format = TimeFormat::ALL[usize::from(self.0.load(Ordering::Relaxed)) % TimeFormat::ALL.len()];
        out.write_str(&stamp(format, Timestamp::now(), zone()))
    }
}

fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system)
}

fn stamp(format: TimeFormat, now: Timestamp, zone: &TimeZone) -> String {
    let pattern = match format {
        TimeFormat::Utc => return format!("{now:.6}"),
        TimeFormat::Iso8601 => "%Y-%m-%dT%H:%M:%S",
        TimeFormat::Iso8601Ms => "%Y-%m-%dT%H:%M:%S%.3f",
        TimeFormat::Rfc3339 => "%Y-%m-%dT%H:%M:%S%:z",
        TimeFormat::Rfc5424Ms => "%Y-%m-%dT%H:%M:%S%.3f%:z",
        TimeFormat::Short => "%b %d %H:%M:%S",
    };
    now.to_zoned(zone.clone()).strftime(pattern).to_string()
}

impl Log {
    /// Sets the log up on standard error. Call it once; `targets`: the crates whose `info` and below counts (of all
    /// others only warnings); `least`: what the command line asks for, below which no configuration goes.
    #[must_use]
    pub fn start(targets: &'static [&'static str], json: bool, least: Option<Level>) -> Self {
        let level = least.unwrap_or_default();
        let out = Out::default();
        let times: Arc<AtomicU8> = Arc::default();
        let (filter, handle) = reload::Layer::new(wanted(targets, level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(out.clone())
            .with_timer(Clock(Arc::clone(&times)))
            .with_target(false);
        let set = if json {
            tracing_subscriber::registry().with(lines.json().with_filter(filter)).try_init()
        } else {
            tracing_subscriber::registry().with(lines.with_ansi(false).with_filter(filter)).try_init()
        };
        // Set twice, as in a test that starts two daemons: the first one stays, and this one steers nothing.
        let filter = set.is_ok().then_some(handle);
        let levels = Mutex::new(Levels { now: level, configured: level, least, word: None });
        Self(Arc::new(Shared { targets, filter, out, times, levels }))
    }

    /// One that steers nothing: daemons within tests and benches.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new(Shared {
            targets: &[],
            filter: None,
            out: Out::default(),
            times: Arc::default(),
            levels: Mutex::default(),
        }))
    }

    /// Puts the configuration's log in force. A file is opened anew where it is another one; `owner`: to whom it is
    /// given where this process made it as root.
    pub fn configure(&self, conf: &LogConf, owner: Option<(u32, u32)>) {
        self.0.times.store(conf.times as u8, Ordering::Relaxed);
        lock(&self.0.levels).configured = conf.level;
        self.set(None);
        let path = conf.file.as_ref().map(PathBuf::from);
        if lock(&self.0.out.0).path != path {
            self.open(path, owner);
        }
    }

    /// Opens the file again, after something has moved it away, and goes back to the configuration's level (SIGUSR2).
    pub fn reopen(&self) {
        self.set(None);
        let path = lock(&self.0.out.0).path.clone();
        self.open(path, None);
    }

    /// Slurm's word for the level in force, where that is not the configuration's.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        lock(&self.0.levels).word
    }

    /// Sets the level, with Slurm's word for it, until it is configured again.
    pub fn set_level(&self, level: Level, word: &'static str) {
        self.set(Some((level, word)));
    }

    fn set(&self, asked: Option<(Level, &'static str)>) {
        let level = {
            let mut levels = lock(&self.0.levels);
            let usual = levels.least.map_or(levels.configured, |least| levels.configured.max(least));
            levels.now = asked.map_or(usual, |(level, _)| level);
            levels.word = asked.map(|(_, word)| word);
            levels.now
        };
        if let Some(filter) = &self.0.filter {
            // Fails only when the subscriber is gone, at the end.
            let _ = filter.reload(wanted(self.0.targets, level));
        }
    }

    fn open(&self, path: Option<PathBuf>, owner: Option<(u32, u32)>) {
        let opened = path.as_deref().map(|path| open(path, owner)).transpose();
        // Said while standard error is still, or again, where lines go.
        let file = opened.unwrap_or_else(|error| {
            lock(&self.0.out.0).file = None;
            let path = path.as_deref().unwrap_or(Path::new("")).display().to_string();
            tracing::error!(path, %error, "the log file cannot be opened; standard error is the log");
            None
        });
        let told = path.as_ref().filter(|_| file.is_some()).map(|path| path.display().to_string());
        *lock(&self.0.out.0) = Place { path, file };
        if let Some(path) = told {
            tracing::info!(path, "the log is in this file");
        }
    }
}

fn open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    if let Some((uid, gid)) = owner {
        // A file that cannot be given away can be written all the same.
        let _ = fchown(&file, Some(uid), Some(gid));
    }
    Ok(file)
}

/// What libraries say below a warning helps nobody who runs a cluster.
fn wanted(targets: &[&str], level: Level) -> Targets {
    let own = match level {
        Level::Quiet => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let others = own.min(LevelFilter::WARN);
    Targets::new().with_default(others).with_targets(targets.iter().map(|target| (*target, own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_look_as_they_are_asked_for() {
        let now: Timestamp = "2026-03-01T12:00:07.123456Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (format, expected) in [
            (TimeFormat::Utc, "2026-03-01T12:00:07.123456Z"),
            (TimeFormat::Iso8601, "2026-03-01T13:00:07"),
            (TimeFormat::Iso8601Ms, "2026-03-01T13:00:07.123"),
            (TimeFormat::Rfc3339, "2026-03-01T13:00:07+01:00"),
            (TimeFormat::Rfc5424Ms, "2026-03-01T13:00:07.123+01:00"),
            (TimeFormat::Short, "Mar 01 13:00:07"),
        ] {
            assert_eq!(stamp(format, now, &zone), expected, "{format:?}");
        }
    }

    #[test]
    fn a_file_is_opened_changed_and_opened_again() {
        let folder = std::env::temp_dir().join(format!("sluice-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let log = Log::start(&["service"], false, None);
        let mut conf = LogConf { file: Some(path.display().to_string()), ..LogConf::default() };
        log.configure(&conf, None);
        tracing::info!("one");
        tracing::debug!("not this");
        std::fs::rename(&path, &moved).unwrap();
        log.set_level(Level::Debug, "debug");
        assert_eq!(log.word(), Some("debug"));
        tracing::debug!("two");
        log.reopen();
        assert_eq!(log.word(), None);
        tracing::info!("three");
        tracing::debug!("nor this");
        let (first, second) = (read(&moved), read(&path));
        assert!(first.contains(" one\n") && first.contains("DEBUG") && first.contains(" two\n"), "{first}");
        assert!(second.contains(" three\n") && !second.contains(" two\n"), "{second}");
        assert!(!first.contains("not this") && !second.contains("nor this"), "{first}{second}");
        // A file that cannot be opened changes nothing for the daemon.
        conf.file = Some(folder.join("no/such/folder/log").display().to_string());
        log.configure(&conf, None);
        tracing::info!("to standard error");
        assert!(!read(&path).contains("to standard error"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
