//! The site's programs around a job on this node: Prolog before its first run, Epilog after its last, HealthCheckProgram
//! now and then.
//!
//! Owns which jobs' prologs have passed (a file each beside the spool, so that another executor does not run one again).
//! A prolog runs beside the agent, through the supervisor's `--site`; an executor that dies takes it along, the run that
//! waited for it has not begun, and both are begun again. An epilog is a run like any other, with a supervisor of its
//! own: it outlives the executor and its outcome is told exactly once. As root (as the executor's user, where that is
//! not root), without limits, from `/`. What a program says is in the log if it fails, as in slurmd's: the last of it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use executor_supervisor::spec::Spec;
use model::config::{HealthCheck, SlurmConf};
use model::glob;
use model::id::{Hook, StepId};
use model::time::Span;
use proto::convert::hook::variables;
use proto::v1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{OnceCell, OwnedMutexGuard};

use crate::container::runner::{self, Who};
use crate::key::Key;

/// What the programs are.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Prolog: a path or a pattern.
    pub prolog: Option<Box<str>>,
    /// Epilog.
    pub epilog: Option<Box<str>>,
    /// How long a prolog may take; `None`: as long as it likes.
    pub prolog_timeout: Option<Span>,
    /// How long an epilog may take.
    pub epilog_timeout: Option<Span>,
    /// PrologFlags=Serial: one at a time.
    pub serial: bool,
    /// HealthCheckProgram.
    pub health: Option<HealthCheck>,
}

impl Settings {
    /// From slurm.conf.
    #[must_use]
    pub fn of(conf: &SlurmConf) -> Self {
        let programs = &conf.programs;
        Self {
            prolog: programs.prolog.clone(),
            epilog: programs.epilog.clone(),
            prolog_timeout: programs.prolog_timeout,
            epilog_timeout: programs.epilog_timeout,
            serial: programs.prolog_flags.iter().any(|flag| **flag == *"serial"),
            health: programs.health_check.clone(),
        }
    }
}

/// Bytes of what a program said that are kept: the last ones.
const SAID_MAX: usize = 4096;
/// How long words are waited for that a program had said before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A job's run: its id and number.
type Job = (u32, u32);
type Passed = Arc<OnceCell<Result<(), String>>>;

/// See the module comment.
pub struct Hooks {
    settings: Settings,
    supervisor: PathBuf,
    uid: u32,
    /// Where it is kept whose prologs have passed.
    marks: PathBuf,
    passed: Mutex<HashMap<Job, Passed>>,
    /// Of PrologFlags=Serial.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Epilogs that have the turn.
    turns: Mutex<HashMap<Key, OwnedMutexGuard<()>>>,
    checking: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hooks {
    /// `place` is the executor's own folder, `uid` its user.
    #[must_use]
    pub fn new(settings: Settings, supervisor: &Path, place: &Path, uid: u32) -> Self {
        Self {
            settings,
            supervisor: supervisor.to_owned(),
            uid,
            marks: place.join("prologs"),
            passed: Mutex::default(),
            turn: Arc::default(),
            turns: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
        }
    }

    /// Whether something comes before a run, so that its start must wait for [`before`](Self::before).
    #[must_use]
    pub fn concern(&self, key: Key) -> bool {
        self.settings.prolog.is_some() || matches!(key.step, StepId::Hook(_))
    }

    /// Whether the run is done when what comes before it is: there is nothing to start.
    #[must_use]
    pub fn is_all(&self, key: Key) -> bool {
        match key.step {
            StepId::Hook(Hook::Epilog) => self.settings.epilog.is_none(),
            StepId::Hook(_) => true,
            StepId::Batch | StepId::Interactive | StepId::Number(_) | StepId::Extern => false,
        }
    }

    /// Does what comes before a run: the job's prolog before its first; an epilog's turn.
    ///
    /// # Errors
    /// A sentence: the prolog failed, now or before an earlier run of the job.
    pub async fn before(&self, key: Key, launch: &v1::Launch, node: &str) -> Result<(), String> {
        if key.step == StepId::Hook(Hook::Epilog) {
            self.forget(key);
            if self.settings.serial {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                lock(&self.turns).insert(key, turn);
            }
            return Ok(());
        }
        let Some(prolog) = &self.settings.prolog else { return Ok(()) };
        let job = (key.job_id, key.run);
        let cell = Arc::clone(lock(&self.passed).entry(job).or_default());
        let outcome = cell.get_or_init(|| self.prolog(prolog, key, launch, node)).await;
        outcome.clone()
    }

    async fn prolog(&self, pattern: &str, key: Key, launch: &v1::Launch, node: &str) -> Result<(), String> {
        let mark = self.mark(key);
        if mark.exists() {
            return Ok(());
        }
        let _turn = match self.settings.serial {
            true => Some(self.turn.lock().await),
            false => None,
        };
        let found = variables(launch, Hook::Prolog, node);
        let environment = found.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let outcome = self.run_all("Prolog", pattern, environment, self.settings.prolog_timeout).await;
        match &outcome {
            Ok(()) => {
                let kept = fs::create_dir_all(&self.marks).and_then(|()| fs::write(&mark, []));
                if let Err(error) = kept {
                    // The job goes on; another executor would run the prolog again.
                    tracing::warn!(mark = %mark.display(), %error, "cannot keep that a prolog has passed");
                }
            }
            Err(why) => tracing::error!(run = %key, "{why}"),
        }
        outcome
    }

    fn mark(&self, key: Key) -> PathBuf {
        self.marks.join(format!("{}.{}", key.job_id, key.run))
    }

    /// The job is over here: its prolog is nobody's affair any more.
    fn forget(&self, key: Key) {
        lock(&self.passed).remove(&(key.job_id, key.run));
        match fs::remove_file(self.mark(key)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(run = %key, %error, "what is kept of a prolog cannot be removed");
            }
            _ => {}
        }
    }

    /// A run has ended: an epilog gives its turn back.
    pub fn ended(&self, key: Key) {
        lock(&self.turns).remove(&key);
    }

    /// How an epilog is run.
    ///
    /// # Errors
    /// A sentence: its pattern names no program.
    pub fn epilog(&self, key: Key, launch: &v1::Launch, node: &str) -> Result<Spec, String> {
        let pattern = self.settings.epilog.as_deref().unwrap_or_default();
        let programs = glob::expand(pattern, &mut names_in);
        let arguments = match programs.len() {
            0 => return Err(format!("Epilog={pattern} names no program")),
            1 => programs,
            // In turn, to the first that fails.
            _ => {
                let script = "for program; do \"$program\" || exit; done";
                ["/bin/sh", "-c", script, "sh"].map(str::to_owned).into_iter().chain(programs).collect()
            }
        };
        let found = variables(launch, Hook::Epilog, node);
        let environment = found.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let limit = self.settings.epilog_timeout;
        Ok(Spec {
            job_id: key.job_id,
            step: key.step.to_string(),
            run: key.run,
            node: node.to_owned(),
            limit_ms: limit.map(|limit| limit.0.max(0).unsigned_abs()),
            kill_wait_ms: 0,
            ..runner::specification(&self.who(), arguments, environment)
        })
    }

    fn who(&self) -> Who {
        let gid = nix::unistd::getegid().as_raw();
        Who { uid: self.uid, gid, groups: vec![gid], home: String::new() }
    }

    async fn run_all(
        &self,
        what: &str,
        pattern: &str,
        environment: Vec<String>,
        limit: Option<Span>,
    ) -> Result<(), String> {
        let programs = glob::expand(pattern, &mut names_in);
        if programs.is_empty() {
            return Err(format!("{what}={pattern} names no program"));
        }
        let all = async {
            for program in programs {
                let (status, said) = self.run(&program, environment.clone()).await?;
                if status != 0 {
                    let failed = format!("{what} {program} failed with exit status {status}");
                    tracing::error!(program, status, output = said, "{failed}");
                    return Err(failed);
                }
            }
            Ok(())
        };
        let limit = limit.map_or(Duration::from_secs(u64::from(u32::MAX)), |limit| {
            Duration::from_millis(limit.0.max(0).unsigned_abs())
        });
        // Dropping it closes the helper's input, and that ends what runs.
        let over = || Err(format!("{what} took longer than {} s and was killed", limit.as_secs()));
        tokio::time::timeout(limit, all).await.unwrap_or_else(|_| over())
    }

    /// Runs a program to its end; its exit status, or 128 and its signal, and the end of what it said.
    async fn run(&self, program: &str, environment: Vec<String>) -> Result<(i32, String), String> {
        let failed = |error: std::io::Error| format!("cannot run {}: {error}", self.supervisor.display());
        let mut child = Command::new(&self.supervisor)
            .arg("--site")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_clear()
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        let bytes = runner::specification(&self.who(), vec![program.to_owned()], environment).encode();
        let length = u32::try_from(bytes.len()).map_err(|_| "a specification that is too long")?;
        stdin.write_all(&length.to_le_bytes()).await.map_err(failed)?;
        stdin.write_all(&bytes).await.map_err(failed)?;
        let said = Said::default();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let hears = async {
            tokio::join!(said.hear(output), said.hear(errors));
        };
        tokio::pin!(hears);
        // Whoever hears nothing any more waits for the end, and the other way round.
        let status = tokio::select! {
            () = &mut hears => child.wait().await,
            status = child.wait() => {
                // What it left running may hold its output open.
                let _ = tokio::time::timeout(LAST_WORDS, &mut hears).await;
                status
            }
        };
        let status = status.map_err(failed)?;
        // Open until here: its end would have ended the program.
        drop(stdin);
        Ok((status.code().unwrap_or(-1), said.text()))
    }

    /// Runs HealthCheckProgram, unless it runs already. What it finds it says itself (`scontrol update`).
    pub async fn check_health(&self, node: &str, conf: &str) {
        let Some(health) = &self.settings.health else { return };
        let Ok(_alone) = self.checking.try_lock() else { return };
        let mut environment = vec![format!("SLURMD_NODENAME={node}")];
        if !conf.is_empty() {
            environment.push(format!("SLURM_CONF={conf}"));
        }
        let limit = Some(health.timeout);
        if let Err(why) = self.run_all("HealthCheckProgram", &health.program, environment, limit).await {
            tracing::error!(node, "{why}");
        }
    }
}

/// The end of what a program says, both of its streams as they come.
#[derive(Default)]
struct Said(Mutex<Vec<u8>>);

impl Said {
    async fn hear(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let mut kept = lock(&self.0);
            kept.extend_from_slice(&buffer[..count]);
            let surplus = kept.len().saturating_sub(SAID_MAX);
            kept.drain(..surplus);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).trim_end().to_owned()
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
