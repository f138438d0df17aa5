//! Programs run as the submitter, through the supervisor's `--as-user`: the executor itself never forks.
//!
//! Dropping the future ends the program and all it started: the helper watches its standard input, which closes
//! with this process too. Output is bounded; it is shown, never interpreted beyond what the caller reads in it.

use std::path::Path;
use std::process::Stdio;

use executor_supervisor::spec::{Spec, Stdio as Stream, Task};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::launch::user::Account;

/// Kept of what a program says.
const OUTPUT_MAX: usize = 64 << 10;

/// Whose rights a program has.
#[derive(Clone, Debug)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Every group.
    pub groups: Vec<u32>,
    /// Home folder, which may not exist here.
    pub home: String,
}

impl Who {
    /// A user of this node.
    #[must_use]
    pub fn new(uid: u32, gid: u32, account: &Account) -> Self {
        Self { uid, gid, groups: account.groups.clone(), home: account.home.clone() }
    }
}

/// How a program ended and what it said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Exit status; 128 and more: a signal.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Errors, whole lines.
    pub stderr: String,
}

impl Ran {
    /// What it complained about: its last line, or the last that says FATAL or ERROR.
    #[must_use]
    pub fn complaint(&self) -> String {
        let lines = || self.stderr.lines().rev().map(str::trim).filter(|line| !line.is_empty());
        let strong = lines().find(|line| line.starts_with("FATAL") || line.starts_with("ERROR"));
        let line = strong.or_else(|| lines().next()).unwrap_or("it said nothing");
        let words = line.trim_start_matches("FATAL:").trim_start_matches("ERROR:").trim();
        format!("{words} (exit status {})", self.status)
    }
}

/// Runs a program to its end. `progress` gets each line that it writes to its errors.
///
/// # Errors
/// A sentence: the helper could not be run.
pub async fn run(
    supervisor: &Path,
    who: &Who,
    arguments: Vec<String>,
    environment: Vec<String>,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Ran, String> {
    let failed = |error: std::io::Error| format!("cannot run {}: {error}", supervisor.display());
    let mut child = Command::new(supervisor)
        .arg("--as-user")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let stderr = child.stderr.take().ok_or("no standard error")?;
    let bytes = specification(who, arguments, environment).encode();
    let length = u32::try_from(bytes.len()).map_err(|_| "a specification that is too long")?;
    stdin.write_all(&length.to_le_bytes()).await.map_err(failed)?;
    stdin.write_all(&bytes).await.map_err(failed)?;
    let (stdout, stderr) = tokio::join!(read(stdout, &|_| {}), read(stderr, progress));
    let status = child.wait().await.map_err(failed)?;
    // Open until here: its end would have ended the program.
    drop(stdin);
    Ok(Ran { status: status.code().unwrap_or(-1), stdout, stderr })
}

/// Reads to the end; keeps the first part.
async fn read(pipe: impl tokio::io::AsyncRead + Unpin, progress: &(dyn Fn(&str) + Send + Sync)) -> String {
    let mut lines = BufReader::new(pipe);
    let mut text = String::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return text,
            Ok(_) => {}
        }
        let shown = String::from_utf8_lossy(&line);
        progress(shown.trim_end());
        if text.len() + shown.len() <= OUTPUT_MAX {
            text.push_str(&shown);
        }
    }
}

pub(crate) fn specification(who: &Who, arguments: Vec<String>, environment: Vec<String>) -> Spec {
    let bytes = |list: Vec<String>| list.into_iter().map(String::into_bytes).collect();
    Spec {
        job_id: 0,
        step: "0".to_owned(),
        run: 0,
        uid: who.uid,
        gid: who.gid,
        groups: who.groups.clone(),
        work_dir: b"/".to_vec(),
        umask: 0o022,
        environment: bytes(environment),
        tasks: vec![Task {
            rank: 0,
            arguments: bytes(arguments),
            environment: Vec::new(),
            cpus: Vec::new(),
            announce: Vec::new(),
            stdin: Stream::Null,
            stdout: Stream::Null,
            stderr: Stream::Null,
        }],
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::Ran;

    #[test]
    fn the_strongest_line_is_the_complaint() {
        let ran = |stderr: &str| Ran { status: 255, stdout: String::new(), stderr: stderr.to_owned() };
        let text = "INFO:    Starting build...\nFATAL:   no such image\n\nINFO:    bye\n";
        assert_eq!(ran(text).complaint(), "no such image (exit status 255)");
        assert_eq!(ran("a\nb\n").complaint(), "b (exit status 255)");
        assert_eq!(ran("").complaint(), "it said nothing (exit status 255)");
    }
}
