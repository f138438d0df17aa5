//! Processes that tests start: daemons with their log, and the sweep that finds what they left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::poll::wait_for_some;

/// A running daemon. Dropping it kills it (SIGKILL) and reaps it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened, the program not be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let err = out.try_clone().context("share the log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Some` once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// It had not ended after `within`.
    pub fn stop(&mut self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        send(self.pid(), signal);
        wait_for_some(&format!("{} to end after {signal}", self.name), within, || self.ended())
    }

    /// The last `lines` lines of its log, for a failure's report.
    #[must_use]
    pub fn last_words(&self, lines: usize) -> String {
        let text =
            fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let ended = self.log.display();
        format!("--- {} ({ended})\n{}", self.name, all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process of ours; one that is gone is ignored.
pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("Linux process ids fit"));
    let _ = kill(pid, signal);
}

/// Kills every process that has a file open below `folder`, works in it, or was started with it in its arguments, and
/// repeats until none is left: supervisors and jobs that outlived their daemons. Never this process or its parents.
///
/// # Errors
/// Some are still there after ten seconds.
pub fn sweep(folder: &Path) -> Result<()> {
    wait_for_some(
        &format!("the last process of {} to die", folder.display()),
        Duration::from_secs(10),
        || {
            let left = users_of(folder);
            for pid in &left {
                send(*pid, Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        },
    )
}

/// Process ids that hold on to `folder`, without this process and its ancestors.
pub(crate) fn users_of(folder: &Path) -> Vec<u32> {
    let spared = ancestors();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| !spared.contains(pid) && holds(*pid, folder)).collect()
}

/// Whether a process executes this very file.
pub(crate) fn runs(pid: u32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
}

/// Whether a process of the supervisor's program is a nursery; its forks show their run instead.
pub(crate) fn is_nursery(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"--nursery")
}

/// Whether it is a supervisor that is done with a run and may get another one.
pub(crate) fn is_waiting(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"--waiting")
}

fn holds(pid: u32, folder: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if is_zombie(pid) {
        return false;
    }
    let points_in = |link: PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with(folder));
    let opened =
        fs::read_dir(process.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| points_in(fd.path())));
    let named = fs::read(process.join("cmdline")).is_ok_and(|line| {
        let text = String::from_utf8_lossy(&line).into_owned();
        text.split('\0').any(|word| Path::new(word).starts_with(folder))
    });
    opened || named || points_in(process.join("cwd")) || points_in(process.join("exe"))
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn ancestors() -> Vec<u32> {
    let mut pid = std::process::id();
    let mut all = vec![pid];
    while pid > 1 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        pid = parent.unwrap_or(1);
        all.push(pid);
    }
    all
}
