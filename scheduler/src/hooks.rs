//! PrologSlurmctld and EpilogSlurmctld: the site's programs beside the scheduler, before and after a job.
//!
//! Owns the programs that run now. They run beside the write path: the machine asks for one when what it says is
//! durable, and hears of its end as an input. A program of an earlier scheduler is nobody's: the next one runs it again.
//! As SlurmUser, in a process group of their own, which is killed when the time is over or the job is not wanted any more.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::exit::ExitStatus;
use model::glob;
use model::id::{Hook, NodeIdx, StepId};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use proto::convert::hook::variables;
use scheduler_core::effect::RunKey;
use scheduler_core::state::node::{Link, Node};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::dispatch::launch::{Site, of_job};
use crate::dispatch::{Dispatch, Order};
use crate::inbox::{Inbox, Item};
use crate::settings::Configuration;
use crate::shutdown::Shutdown;
use crate::views::Views;

/// Programs that run at a time; others wait, as the jobs do whose programs they are.
const RUNNING_MAX: usize = 128;

/// What is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// PrologSlurmctld: a path or a pattern.
    pub prolog: Option<Box<str>>,
    /// EpilogSlurmctld.
    pub epilog: Option<Box<str>>,
    /// How long a prolog may take; `None`: as long as it likes.
    pub prolog_timeout: Option<Duration>,
    /// How long an epilog may take.
    pub epilog_timeout: Option<Duration>,
    /// HealthCheckProgram: how often, and on nodes in which state.
    pub health: Option<(Duration, Box<str>)>,
    /// SlurmUser and its group, where the daemon is root and that is another.
    pub user: Option<(u32, u32)>,
}

/// See the module comment.
pub struct Hooks {
    runtime: Handle,
    inbox: Inbox,
    views: Arc<Views>,
    site: Arc<Site>,
    configuration: Arc<Configuration>,
    running: Arc<Mutex<BTreeMap<RunKey, oneshot::Sender<()>>>>,
    places: Arc<Semaphore>,
}

impl Hooks {
    /// For programs that are asked for from outside of the runtime.
    #[must_use]
    pub fn new(
        runtime: Handle,
        inbox: Inbox,
        views: Arc<Views>,
        site: Arc<Site>,
        configuration: Arc<Configuration>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(RUNNING_MAX));
        Self { runtime, inbox, views, site, configuration, running: Arc::default(), places }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunKey, oneshot::Sender<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program of a run, unless it runs already, or ends it.
    pub fn order(&self, run: RunKey, stop: bool) {
        let StepId::Hook(hook) = run.step else { return };
        let mut running = self.lock();
        if stop && running.remove(&run).is_some() {
            // Its task hears that its handle is gone, kills it, and says that it has ended.
            return;
        }
        if running.contains_key(&run) {
            return;
        }
        let (stop_handle, stopped) = oneshot::channel();
        if stop {
            drop(stop_handle);
        } else {
            running.insert(run, stop_handle);
        }
        drop(running);
        let settings = self.configuration.hooks();
        let (pattern, limit) = match hook {
            Hook::ControllerProlog => (settings.prolog, settings.prolog_timeout),
            Hook::ControllerEpilog => (settings.epilog, settings.epilog_timeout),
            Hook::Prolog | Hook::Epilog => (None, None),
        };
        let launch = of_job(&self.views, &self.site, run);
        let found = launch.map(|launch| variables(&launch, hook, "")).unwrap_or_default();
        let (inbox, table, places) =
            (self.inbox.clone(), Arc::clone(&self.running), Arc::clone(&self.places));
        self.runtime.spawn(async move {
            let ended = match pattern {
                None => Ok(ExitStatus::SUCCESS),
                Some(pattern) => {
                    let _place = places.acquire().await;
                    let user = settings.user;
                    run_all(&pattern, &found, user, limit, stopped).await
                }
            };
            let (exit, detail) = match ended {
                Ok(exit) => (exit, String::new()),
                Err(why) => (ExitStatus { code: 1, signal: 0 }, why),
            };
            if !exit.is_success() {
                let (job, code, signal) = (run.job.0, exit.code, exit.signal);
                tracing::error!(
                    job,
                    hook = hook.text(),
                    code,
                    signal,
                    detail,
                    "a program of the site failed"
                );
            }
            table.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
            // The controller is gone only when the daemon stops: the next one runs it again.
            let _ = inbox.send(Item::HookEnded { run, exit, detail: detail.into() }).await;
        });
    }
}

/// Runs what the pattern names, one after the other, to the first that fails.
async fn run_all(
    pattern: &str,
    variables: &[(&'static str, String)],
    user: Option<(u32, u32)>,
    limit: Option<Duration>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<ExitStatus, String> {
    let programs = glob::expand(pattern, &mut names_in);
    if programs.is_empty() {
        return Err(format!("no program is {pattern}"));
    }
    let over = tokio::time::sleep(limit.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    tokio::pin!(over);
    for program in programs {
        if !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return Err("the job has ended".to_owned());
        }
        let mut command = Command::new(&program);
        command.env_clear().envs(variables.iter().map(|(name, value)| (*name, value))).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.kill_on_drop(true);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let failed = tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|error| format!("{program}: {error}"))?;
                let exit = ExitStatus {
                    code: status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(0),
                    signal: status.signal().and_then(|signal| u8::try_from(signal).ok()).unwrap_or(0),
                };
                if exit.is_success() {
                    continue;
                }
                return Ok(exit);
            }
            () = &mut over => format!("{program} took too long and was killed"),
            _ = &mut stopped => format!("{program} was killed, as the job has ended"),
        };
        if let Some(group) = group {
            // It may have ended in this very moment.
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = child.wait().await;
        return Err(failed);
    }
    Ok(ExitStatus::SUCCESS)
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Has HealthCheckProgram run on the nodes that HealthCheckNodeState names, each HealthCheckInterval.
pub async fn check_health(
    configuration: Arc<Configuration>,
    views: Arc<Views>,
    dispatch: Arc<Dispatch>,
    shutdown: Shutdown,
) {
    let mut last = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.wait() => return,
        }
        let Some((interval, states)) = configuration.hooks().health else { continue };
        if last.elapsed() < interval {
            continue;
        }
        last = tokio::time::Instant::now();
        let view = views.read();
        let nodes = (0..).map(NodeIdx).zip(&view.state.nodes);
        let due: Vec<NodeIdx> =
            nodes.filter(|(_, node)| is_checked(node, &states)).map(|(place, _)| place).collect();
        drop(view);
        for node in due {
            // One without a session is down, and looked at when it comes back.
            let _ = dispatch.ask(node, Order::CheckHealth);
        }
    }
}

/// Whether a node is in one of the states; those that do not answer never are. Source: `man slurm.conf`.
fn is_checked(node: &Node, states: &str) -> bool {
    let idle = node.used.jobs == 0;
    let full = !idle && node.free_cpus().0 == 0;
    let state = |word: &str| match word {
        "alloc" => full,
        "idle" => idle,
        "mixed" => !idle && !full,
        "nondrained_idle" => idle && !node.admin.drain,
        // All at a time is as good as one after the other for a program that minds its own node.
        "any" | "cycle" => true,
        _ => false,
    };
    let words: Vec<&str> = states.split(',').map(str::trim).collect();
    let only_cycle = words == ["cycle"];
    let named = words.iter().any(|word| (*word != "cycle" || only_cycle) && state(word));
    node.link == Link::Up && !node.removed && named
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scripts(folder: &std::path::Path, texts: &[(&str, &str)]) -> String {
        for (name, text) in texts {
            let path = folder.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        format!("{}/*", folder.display())
    }

    #[tokio::test]
    async fn programs_run_in_turn_to_the_first_that_fails() {
        let folder = nix::unistd::mkdtemp("/tmp/sluice-hooks-XXXXXX").unwrap();
        let out = folder.join(".out");
        let say = |word: &str| format!("echo {word} $X >> {}", out.display());
        let texts = [("1", say("one")), ("2", format!("{}; exit 3", say("two"))), ("3", say("three"))];
        let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let pattern = scripts(&folder, &texts);
        let (_stop, stopped) = oneshot::channel();
        let ended = run_all(&pattern, &[("X", "y".to_owned())], None, None, stopped).await;
        assert_eq!(ended, Ok(ExitStatus { code: 3, signal: 0 }));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "one y\ntwo y\n");
        let (_stop, stopped) = oneshot::channel();
        assert!(run_all("/nowhere/*", &[], None, None, stopped).await.unwrap_err().contains("/nowhere/*"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn one_that_takes_too_long_or_is_not_wanted_is_killed() {
        let folder = nix::unistd::mkdtemp("/tmp/sluice-hooks-XXXXXX").unwrap();
        let pattern = scripts(&folder, &[("1", "exec /bin/sleep 1000")]);
        let (stop, stopped) = oneshot::channel();
        let limit = Some(Duration::from_millis(50));
        let ended = run_all(&pattern, &[], None, limit, stopped).await;
        assert!(ended.unwrap_err().contains("too long"));
        drop(stop);
        let (stop, stopped) = oneshot::channel();
        drop(stop);
        let ended = run_all(&pattern, &[], None, None, stopped).await;
        assert!(ended.unwrap_err().contains("the job has ended"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
