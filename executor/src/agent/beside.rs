//! What runs beside the agent's task: starts, commands on their way, waiting for ends, collecting folders.
//!
//! Each sends what came of it back as an event; none touches the table.

use std::sync::Arc;

use executor_supervisor::frame::Frame;
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use proto::v1;

use super::{Agent, Beside, Fixed};
use crate::control;
use crate::crash::{self, Point};
use crate::host;
use crate::key::Key;
use crate::launch::{self, start};
use crate::orphans;
use crate::step::lifecycle::{self, Event};

/// Commands for one run that may wait for its supervisor.
const COMMANDS_MAX: usize = 64;

impl Agent {
    pub(super) fn start(&mut self, key: Key) {
        crash::point(Point::AfterIntent);
        let Some(launch) = self.launches.remove(&key) else {
            // Cannot be: an intent is logged only with its launch at hand.
            let outcome =
                lifecycle::never_begun(Kind::LaunchFailed, "the launch is not at hand", host::now_ms());
            return self.happen(key, Event::Gone(outcome));
        };
        self.owners.insert(key, (launch.uid, launch.gid));
        let (fixed, beside, starts) =
            (Arc::clone(&self.fixed), self.beside.clone(), Arc::clone(&self.starts));
        tokio::spawn(async move {
            let permit = starts.acquire_owned().await;
            let place = Arc::clone(&fixed);
            let started = tokio::task::spawn_blocking(move || start_supervisor(&place, key, &launch)).await;
            drop(permit);
            let event = match started {
                Ok(Ok(mut child)) => {
                    crash::point(Point::AfterSpawn);
                    let begun = Event::Started { begun_ms: host::now_ms() };
                    if beside.send(Beside::Run(key, begun)).await.is_err() {
                        return;
                    }
                    let status = child.wait().await;
                    let text = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    Event::Gone(conclude(fixed, key, text).await)
                }
                Ok(Err(detail)) => failed(detail),
                Err(_) => failed("the start panicked".to_owned()),
            };
            // The agent is gone only when the process ends.
            let _ = beside.send(Beside::Run(key, event)).await;
        });
    }

    /// Waits for the end of a supervisor that is not a child of this process.
    pub(super) fn watch(&self, key: Key) {
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            control::gone(&fixed.folder(key)).await;
            let outcome = conclude(fixed, key, "it went away".to_owned()).await;
            let _ = beside.send(Beside::Run(key, Event::Gone(outcome))).await;
        });
    }

    pub(super) fn queue(&mut self, key: Key, frame: Frame) {
        let outbox = self.outboxes.entry(key).or_default();
        if outbox.waiting.len() >= COMMANDS_MAX {
            tracing::error!(run = %key, "too many commands wait for this supervisor; one is dropped");
            return;
        }
        outbox.waiting.push_back(frame);
        self.deliver(key);
    }

    pub(super) fn deliver(&mut self, key: Key) {
        let Some(outbox) = self.outboxes.get_mut(&key) else { return };
        if outbox.busy {
            return;
        }
        let Some(frame) = outbox.waiting.pop_front() else {
            self.outboxes.remove(&key);
            return;
        };
        outbox.busy = true;
        let (folder, beside) = (self.fixed.folder(key), self.beside.clone());
        tokio::spawn(async move {
            let delivery = control::command(&folder, &frame).await;
            let _ = beside.send(Beside::Delivered(key, delivery)).await;
        });
    }

    pub(super) fn collect(&mut self, key: Key) {
        let (fixed, collects) = (Arc::clone(&self.fixed), Arc::clone(&self.collects));
        let owner = self.owners.remove(&key);
        tokio::spawn(async move {
            let _permit = collects.acquire_owned().await;
            let collect = move || {
                fixed.cgroups.leave(key);
                fixed.spares.collect(&fixed.folder(key), owner)
            };
            let removed = tokio::task::spawn_blocking(collect).await;
            match removed {
                Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(run = %key, %error, "a run folder could not be removed");
                }
                _ => {}
            }
        });
    }
}

fn failed(detail: String) -> Event {
    Event::Gone(lifecycle::never_begun(Kind::LaunchFailed, &detail, host::now_ms()))
}

/// Blocking: the folder, and the process. The error is a sentence for the user.
fn start_supervisor(fixed: &Fixed, key: Key, launch: &v1::Launch) -> Result<tokio::process::Child, String> {
    let folder = fixed.folder(key);
    let account = fixed.accounts.look_up(launch.uid, launch.gid, &launch.user);
    let groups = fixed.cgroups.enter(key, launch)?;
    let script_path = folder.join(executor_supervisor::SCRIPT_FILE);
    let spec = launch::compose(&fixed.context(), key, launch, &account, &script_path, groups, host::now_ms())
        .map_err(|error| error.to_string())?;
    let script = (key.step == model::id::StepId::Batch).then_some(&launch.script[..]);
    let lock = start::prepare(&fixed.run_root, key, &spec, script, fixed.uid == 0, &fixed.spares)
        .map_err(|error| format!("cannot make the run folder {}: {error}", folder.display()))?;
    start::spawn(&fixed.supervisor, &folder, lock)
        .map_err(|error| format!("cannot start {}: {error}", fixed.supervisor.display()))
}

/// How a run that nobody holds any more ended. What a lost supervisor left is killed first.
async fn conclude(fixed: Arc<Fixed>, key: Key, status: String) -> Outcome {
    // The usual case is one small file, read from memory: not worth another thread.
    if let start::Found::Outcome(outcome) = start::examine(&fixed.folder(key), key) {
        return outcome;
    }
    let found = tokio::task::spawn_blocking(move || conclude_now(&fixed, key, &status)).await;
    found.unwrap_or_else(|_| lifecycle::never_begun(Kind::Lost, "its end could not be read", host::now_ms()))
}

/// The same, blocking.
pub(crate) fn conclude_now(fixed: &Fixed, key: Key, status: &str) -> Outcome {
    let folder = fixed.folder(key);
    match start::examine(&folder, key) {
        start::Found::Outcome(outcome) => outcome,
        start::Found::Begun { begun_ms } => {
            tracing::warn!(run = %key, status, "a supervisor was lost");
            if let Some(spec) = start::read_spec(&folder) {
                fixed.cgroups.kill(key);
                orphans::kill_remains(key, &spec);
            }
            start::lost(begun_ms, host::now_ms())
        }
        start::Found::Nothing => {
            let detail = format!("the supervisor ended before it began: {status}");
            let outcome = lifecycle::never_begun(Kind::LaunchFailed, &detail, host::now_ms());
            Outcome { exit: Exit::default(), ..outcome }
        }
    }
}
