//! What an executor says of itself: counters, the pages `/metrics`, `/livez` and `/readyz`.
//!
//! The agent counts; whoever asks reads. No page names a user or a job.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use executor_supervisor::outcome::{Kind, Outcome};
use service::figures::{self, Counter, Histogram};
use service::pages::{self, Pages};
use tokio::net::UnixListener;

/// Name of the socket in the executor's own folder.
pub const SOCKET_NAME: &str = "http.sock";
/// The kernel's limit for the path of a socket, without its end.
const SOCKET_PATH_MAX: usize = 107;

/// An executor's figures.
#[derive(Debug, Default)]
pub struct Figures {
    /// Runs that were started, or tried to.
    pub launches: Counter,
    /// Runs that ended, whatever the kind.
    pub ended: Counter,
    /// Of those, the ones that could not be started.
    pub launch_failures: Counter,
    /// Of those, the ones whose supervisor was lost.
    pub lost: Counter,
    /// Of those, the ones that took too much memory.
    pub out_of_memory: Counter,
    /// Sessions with a scheduler.
    pub sessions: Counter,
    /// From the order to start a run to its supervisor.
    pub start: Histogram,
    /// A scheduler has welcomed this executor.
    connected: AtomicBool,
    runs: AtomicU64,
}

impl Figures {
    /// Counts an end. True: the run could not be started, or not as it was asked for, and its detail says why.
    pub fn end(&self, outcome: &Outcome) -> bool {
        self.ended.one();
        match outcome.kind {
            Kind::Lost => self.lost.one(),
            Kind::OutOfMemory => self.out_of_memory.one(),
            Kind::LaunchFailed
            | Kind::PrologFailed
            | Kind::NodeUnable
            | Kind::Exited
            | Kind::TimeLimit
            | Kind::Cancelled => {}
        }
        let failed = match outcome.kind {
            Kind::LaunchFailed | Kind::PrologFailed | Kind::NodeUnable => true,
            // A program that cannot be executed, an output file that cannot be opened: an end with a code, as in Slurm.
            Kind::Exited => !outcome.detail.is_empty(),
            Kind::Lost | Kind::OutOfMemory | Kind::TimeLimit | Kind::Cancelled => false,
        };
        if failed {
            self.launch_failures.one();
        }
        failed
    }

    /// Whether a scheduler has this executor.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// How many runs are known.
    pub fn set_runs(&self, runs: usize) {
        self.runs.store(runs as u64, Ordering::Relaxed);
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(4096);
        let mut counter = |name: &str, help: &str, value: &Counter| {
            figures::counter(&mut out, name, help, value.get());
        };
        counter("sluice_executor_launches_total", "Runs that were to be started.", &self.launches);
        counter("sluice_executor_runs_ended_total", "Runs that ended.", &self.ended);
        counter(
            "sluice_executor_launch_failures_total",
            "Runs that could not be started.",
            &self.launch_failures,
        );
        counter("sluice_executor_runs_lost_total", "Runs whose supervisor was lost.", &self.lost);
        counter(
            "sluice_executor_out_of_memory_total",
            "Runs ended for using too much memory.",
            &self.out_of_memory,
        );
        counter("sluice_executor_sessions_total", "Connections to a scheduler.", &self.sessions);
        let mut gauge = |name: &str, help: &str, value: u64| {
            figures::gauge(&mut out, name, help, value);
        };
        let connected = u64::from(self.connected.load(Ordering::Relaxed));
        gauge("sluice_executor_connected", "Whether a scheduler has this executor.", connected);
        gauge("sluice_executor_runs", "Runs that are known here.", self.runs.load(Ordering::Relaxed));
        self.start.show("sluice_executor_start_seconds", "From the order to a run's supervisor.", &mut out);
        figures::process(&mut out);
        out
    }
}

/// What answers on the socket and the port.
#[derive(Clone)]
pub struct Answers {
    /// The figures.
    pub figures: Arc<Figures>,
    /// What holds runs to their shares, for people.
    pub cgroups: Arc<str>,
}

impl Pages for Answers {
    fn page(&self, path: &str, query: &str) -> (u16, String) {
        match path {
            "/metrics" => (200, self.figures.text()),
            "/livez" => (200, "ok\n".to_owned()),
            "/readyz" => self.ready(query),
            _ => (404, "not found\n".to_owned()),
        }
    }
}

impl Answers {
    fn ready(&self, query: &str) -> (u16, String) {
        let connected = self.figures.connected.load(Ordering::Relaxed);
        let scheduler = if connected { "it has this node" } else { "no scheduler has this node" };
        let parts = [
            ("daemon", true, "it runs".to_owned()),
            ("scheduler", connected, scheduler.to_owned()),
            ("runs", true, format!("{} are known", self.figures.runs.load(Ordering::Relaxed))),
            // A node without limits takes jobs all the same, and says so.
            ("cgroups", true, self.cgroups.to_string()),
        ];
        pages::ready(&parts, query)
    }
}

/// Listens in the executor's own folder, whose lock is held: what is left of an earlier one is replaced.
///
/// # Errors
/// The path is too long for a socket, or the disk.
pub fn listen(folder: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let path = folder.join(SOCKET_NAME);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let why = format!("its path has {length} bytes, the kernel takes {SOCKET_PATH_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Counts only: who may pass through the folder may ask.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok((listener, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_without_a_scheduler_is_not_ready() {
        let figures = Arc::new(Figures::default());
        let answers = Answers { figures: Arc::clone(&figures), cgroups: "none".into() };
        assert_eq!(answers.page("/readyz", ""), (503, "no scheduler has this node\n".to_owned()));
        figures.set_connected(true);
        assert_eq!(answers.page("/readyz", "").0, 200);
        assert!(answers.page("/readyz", "verbose").1.contains("[+] cgroups: none"));
        assert!(figures.end(&crate::step::lifecycle::never_begun(Kind::LaunchFailed, "no room", 1)));
        let text = answers.page("/metrics", "").1;
        for line in [
            "sluice_executor_launch_failures_total 1",
            "sluice_executor_runs_ended_total 1",
            "sluice_executor_connected 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert_eq!(answers.page("/metrics/jobs", "").0, 404);
    }

    #[test]
    fn a_path_that_is_too_long_is_named() {
        let folder = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert!(listen(&folder).unwrap_err().to_string().contains("its path has 131 bytes"));
    }
}
