//! Mail about jobs that asked for it (`--mail-type`): MailProg is run for each durable event, beside everything else.
//!
//! Owns the sentences and the queue. Never waited for: a letter that does not fit into the queue, and a MailProg that
//! is missing or hangs, are told in the log and change nothing for the job. What is sent was durable before. After a
//! crash a letter may be missing, as in Slurm; none is sent twice.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use model::exit::ExitStatus;
use model::job::JobState;
use model::reason::Reason;
use model::time::{Span, limit};
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{Ended, Job};

use crate::directory::Directory;
use crate::settings::Configuration;

/// Letters that wait.
const QUEUE: usize = 1024;
/// Programs that run at a time.
const RUNNING_MAX: usize = 4;
/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at programs that run.
const PAUSE: Duration = Duration::from_millis(50);

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// MailProg.
    pub program: PathBuf,
    /// MailDomain: what is put behind a receiver that names no host.
    pub domain: Option<Box<str>>,
    /// SlurmUser and its group, where the daemon is root and that is another.
    pub user: Option<(u32, u32)>,
}

/// One letter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter {
    to: Box<str>,
    subject: String,
    /// What the program finds in its environment beside the job's number.
    variables: Vec<(&'static str, String)>,
}

/// The way to the thread that runs MailProg.
pub struct Mailer {
    letters: SyncSender<Letter>,
    directory: Arc<Directory>,
}

impl Mailer {
    /// Starts the thread; it ends with its last handle.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(configuration: Arc<Configuration>, directory: Arc<Directory>) -> std::io::Result<Self> {
        let (letters, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("mail".to_owned())
            .spawn(move || send_all(&queue, &configuration))?;
        Ok(Self { letters, directory })
    }

    /// Looks at a durable record, with the state before it. Cost: nothing for records that no letter tells of.
    pub fn observe(&self, before: &State, record: &Record) {
        let (id, event) = match record {
            Record::JobStarted { job, .. } => (*job, Event::Began),
            Record::JobEnded { job, ended } => (*job, Event::Ended(ended)),
            Record::JobRequeued { job, .. } => (*job, Event::Requeued),
            _ => return,
        };
        let Some(job) = before.job(id) else { return };
        let Some(wanted) = job.request.rare().mail_type.as_deref() else { return };
        for (subject, state) in subjects(before, job, wanted, &event) {
            let user = self.directory.user(job.owner.uid).to_string();
            let to = job.request.rare().mail_user.clone().unwrap_or_else(|| user.as_str().into());
            let variables = vec![
                ("SLURM_JOB_ID", job.id.to_string()),
                ("SLURM_JOB_NAME", job.request.name.to_string()),
                ("SLURM_JOB_USER", user),
                ("SLURM_JOB_STATE", state),
                ("SLURM_JOB_MAIL_TYPE", event.word().to_owned()),
            ];
            match self.letters.try_send(Letter { to, subject, variables }) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(letter)) => {
                    tracing::warn!(job = id.0, to = %letter.to, "too much mail waits: this letter is dropped");
                }
            }
        }
    }
}

/// What a letter tells.
enum Event<'a> {
    Began,
    Ended(&'a Ended),
    Requeued,
}

impl Event<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Began => "Began",
            Self::Ended(_) => "Ended",
            Self::Requeued => "Requeued",
        }
    }
}

/// Subjects, with the job's state, of the letters that are due. Source: `man sbatch` (--mail-type), and what Slurm's
/// controller writes.
fn subjects(state: &State, job: &Job, wanted: &str, event: &Event<'_>) -> Vec<(String, String)> {
    let wants = |kind: &str| wanted.split(',').any(|word| word == kind);
    let array = job.array_id().filter(|_| !wants("ARRAY_TASKS"));
    let summary = array.and_then(|array| state.arrays.get(&array));
    let name = &job.request.name;
    let head = match (array, job.array_id()) {
        (Some(array), _) => format!("Slurm Array Summary Job_id={array}_* ({array}) Name={name}"),
        (None, Some(array)) => format!("Slurm Array Task Job_id={array} ({}) Name={name}", job.id),
        (None, None) => format!("Slurm Job_id={} Name={name}", job.id),
    };
    let mut letters = Vec::new();
    match event {
        Event::Began => {
            // An array as a whole begins with its first element.
            let first = summary.is_none_or(|summary| summary.running == 0 && summary.ended == 0);
            if wants("BEGIN") && first {
                let queued = clock(state.now.since(job.submit));
                letters.push((format!("{head} Began, Queued time {queued}"), "RUNNING".to_owned()));
            }
        }
        Event::Requeued => {
            if wants("REQUEUE") {
                letters.push((format!("{head} Requeued"), "PENDING".to_owned()));
            }
        }
        Event::Ended(ended) => {
            // An array as a whole ends with its last element.
            if summary.is_some_and(|summary| summary.ended + 1 < summary.total) {
                return letters;
            }
            let word = ended.state.long().to_owned();
            if ended.reason == Reason::DependencyNeverSatisfied {
                if wants("INVALID_DEPEND") {
                    letters.push((format!("{head} Invalid dependency"), word));
                }
                return letters;
            }
            let others_failed = summary.is_some_and(|summary| summary.failed > 0);
            let good = matches!(ended.state, JobState::Completed | JobState::Cancelled) && !others_failed;
            let run = ended.start.map_or(Span::ZERO, |start| ended.end.since(start));
            let tail = format!(", Run time {}, {}", clock(run), outcome(ended, others_failed));
            if ended.state == JobState::Timeout && wants("TIME_LIMIT") {
                letters.push((format!("{head} Reached time limit, Run time {}", clock(run)), word.clone()));
            }
            if !good && wants("FAIL") {
                letters.push((format!("{head} Failed{tail}"), word.clone()));
            }
            if wants("END") {
                letters.push((format!("{head} Ended{tail}"), word));
            }
        }
    }
    letters
}

fn clock(span: Span) -> String {
    limit::long(Some(Span(span.0.max(0))))
}

fn outcome(ended: &Ended, others_failed: bool) -> String {
    let state = if others_failed { "Mixed" } else { ended.state.long() };
    match ended.exit {
        ExitStatus { code, signal: 0 } => format!("{state}, ExitCode {code}"),
        ExitStatus { signal, .. } => format!("{state}, TermSig {signal}"),
    }
}

/// Runs the programs, a few at a time, until the last handle has gone.
fn send_all(queue: &Receiver<Letter>, configuration: &Configuration) {
    let mut running: Vec<(Child, Instant, Box<str>)> = Vec::new();
    loop {
        let next = if running.is_empty() {
            queue.recv().ok()
        } else if running.len() < RUNNING_MAX {
            match queue.recv_timeout(PAUSE) {
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    running.retain_mut(still_runs);
                    continue;
                }
                Ok(letter) => Some(letter),
            }
        } else {
            std::thread::sleep(PAUSE);
            running.retain_mut(still_runs);
            continue;
        };
        let Some(letter) = next else { return };
        match send(&letter, &configuration.mail()) {
            Ok(child) => running.push((child, Instant::now(), letter.to)),
            Err(why) => tracing::warn!(to = %letter.to, "no mail is sent ({}): {why}", letter.subject),
        }
        running.retain_mut(still_runs);
    }
}

/// Whether a program runs on; says how it failed. One that takes too long is killed.
fn still_runs((child, since, to): &mut (Child, Instant, Box<str>)) -> bool {
    match child.try_wait() {
        Ok(None) if since.elapsed() < PATIENCE => true,
        Ok(None) => {
            tracing::warn!(%to, "the mail program does not end and is killed");
            // It may have ended in this very moment.
            let _ = child.kill();
            let _ = child.wait();
            false
        }
        Ok(Some(status)) => {
            if !status.success() {
                tracing::warn!(%to, %status, "the mail program failed");
            }
            false
        }
        Err(_) => false,
    }
}

fn send(letter: &Letter, settings: &Settings) -> Result<Child, String> {
    let program = &settings.program;
    let to = match &settings.domain {
        Some(domain) if !letter.to.contains('@') => format!("{}@{domain}", letter.to),
        _ => letter.to.to_string(),
    };
    // A receiver is one word of the command and never an option of it.
    if to.starts_with('-') {
        return Err(format!("{to:?} is no receiver"));
    }
    let mut command = Command::new(program);
    command
        .args(["-s", &letter.subject, &to])
        .envs(letter.variables.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Some((uid, gid)) = settings.user {
        command.uid(uid).gid(gid);
    }
    command.spawn().map_err(|error| format!("{}: {error}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_never_an_option_and_a_missing_program_is_named() {
        let settings =
            Settings { program: "/nowhere/mail".into(), domain: Some("here.org".into()), user: None };
        let letter = |to: &str| Letter { to: to.into(), subject: "s".into(), variables: Vec::new() };
        assert!(send(&letter("-f"), &settings).unwrap_err().contains("no receiver"));
        assert!(send(&letter("me"), &settings).unwrap_err().contains("/nowhere/mail"));
    }

    #[test]
    fn run_times_are_slurms() {
        assert_eq!(clock(Span::from_secs(61)), "00:01:01");
        assert_eq!(clock(Span::from_secs(-1)), "00:00:00");
        assert_eq!(clock(Span::from_secs(90_061)), "1-01:01:01");
    }
}
