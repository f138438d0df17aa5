//! What runs beside the agent's task: starts, commands on their way, waiting for ends, collecting folders.
//!
//! Each sends what came of it back as an event; none touches the table.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use executor_supervisor::frame::Frame;
use executor_supervisor::nursery::Fate;
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use executor_supervisor::spec::Spec;
use executor_supervisor::spec::container::Container;
use executor_supervisor::spec::mpi::remove_folders;
use model::id::{Hook, StepId};
use proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::hands::{Hands, Work};
use super::{Agent, Beside, Fixed};
use crate::cgroup::Capabilities;
use crate::container;
use crate::control;
use crate::crash::{self, Point};
use crate::gpu::bind::Visible;
use crate::host;
use crate::key::Key;
use crate::launch::nursery::{Heard, Nursery};
use crate::launch::{self, start};
use crate::orphans;
use crate::step::lifecycle::{self, Event};

/// Commands for one run that may wait for its supervisor.
const COMMANDS_MAX: usize = 64;

/// The threads that start runs and clear up after them, with the nursery that they hand runs to.
pub(super) fn hands(fixed: &Arc<Fixed>, beside: &mpsc::Sender<Beside>) -> std::io::Result<Hands> {
    let (place, heard) = (Arc::clone(fixed), beside.clone());
    let ear = move |key, news| {
        // The agent is gone only when the process ends.
        let _ = heard.blocking_send(match news {
            Heard::Lost(attempts) => Beside::Orphaned(key, attempts),
            Heard::Ended(fate) => ended(&place, key, fate),
        });
    };
    let nursery = Nursery::new(fixed.supervisor.clone(), fixed.cgroups.supervisors(), Arc::new(ear));
    let (place, said) = (Arc::clone(fixed), beside.clone());
    Hands::start(move |work| {
        let (key, started) = match work {
            Work::Start(key, launch, container) => {
                (key, start_supervisor(&place, &nursery, key, &launch, container))
            }
            Work::Again(key, attempt) => (key, hand_again(&place, &nursery, key, attempt)),
            Work::Knock(key) => return nursery.knock(key),
            Work::Collect(key, owner, last) => return collect(&place, key, owner, last),
        };
        let event = match started {
            Ok(()) => {
                crash::point(Point::AfterSpawn);
                Event::Started { begun_ms: host::now_ms() }
            }
            Err(Trouble::Launch(detail)) => failed(&detail),
            Err(Trouble::Node(detail)) => {
                tracing::error!(run = %key, detail, "nothing can be started on this node");
                Event::Gone(lifecycle::never_begun(Kind::NodeUnable, &detail, host::now_ms()))
            }
        };
        let _ = said.blocking_send(Beside::Run(key, event));
    })
}

/// Why a supervisor was not started.
enum Trouble {
    /// What this launch asks for.
    Launch(String),
    /// The node's own disk: no launch would do better.
    Node(String),
}

impl From<String> for Trouble {
    fn from(detail: String) -> Self {
        Self::Launch(detail)
    }
}

/// Whether it is the disk that refuses, whatever was asked of it.
fn is_disks(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    const EIO: i32 = nix::errno::Errno::EIO as i32;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
        || error.raw_os_error() == Some(EIO)
}

/// What a supervisor left behind. The usual case is one small file, read from memory.
fn ended(fixed: &Fixed, key: Key, fate: Fate) -> Beside {
    if let Fate::NotForked(errno) = fate {
        let error = std::io::Error::from_raw_os_error(errno);
        return Beside::Run(key, failed(&format!("cannot fork a supervisor: {error}")));
    }
    match start::examine(&fixed.folder(key), key) {
        start::Found::Outcome(outcome) => Beside::Run(key, Event::Gone(outcome)),
        start::Found::Nothing if fate == Fate::Exited(executor_supervisor::CANNOT_WRITE) => {
            let detail = format!("a file of the run cannot be written in {}", fixed.run_root.display());
            tracing::error!(run = %key, detail, "nothing can be started on this node");
            Beside::Run(key, Event::Gone(lifecycle::never_begun(Kind::NodeUnable, &detail, host::now_ms())))
        }
        _ => Beside::Unclear(key, format!("{fate:?}")),
    }
}

impl Agent {
    pub(super) fn start(&mut self, key: Key) {
        crash::point(Point::AfterIntent);
        let Some(launch) = self.launches.remove(&key) else {
            // Cannot be: an intent is logged only with its launch at hand.
            return self.happen(key, failed("the launch is not at hand"));
        };
        self.owners.insert(key, (launch.uid, launch.gid));
        let (slices, asks) = (self.has_slices(key), asks_for_container(&launch));
        if !slices && !asks && !self.fixed.hooks.concern(key) {
            return self.hands.push(Work::Start(key, launch, None));
        }
        let (stop, mut stopped) = oneshot::channel();
        self.preparing.insert(key, stop);
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            let gone = |kind, detail: &str| {
                Beside::Run(key, Event::Gone(lifecycle::never_begun(kind, detail, host::now_ms())))
            };
            // A stop does not end a prolog: what it had begun would stay half done.
            let passed = fixed.hooks.before(key, &launch, &fixed.node).await;
            let made = async {
                if slices {
                    super::slices::ensure(&fixed, key, &beside).await?;
                }
                Ok::<_, String>(if asks { prepare(&fixed, key, &launch, &beside).await } else { None })
            };
            let next = match passed {
                Err(why) => gone(Kind::PrologFailed, &why),
                Ok(()) if fixed.hooks.is_all(key) => gone(Kind::Exited, ""),
                // A conversion may take minutes: others start meanwhile, and a stop ends it.
                Ok(()) => tokio::select! {
                    biased;
                    Ok(()) = &mut stopped => gone(Kind::Cancelled, ""),
                    made = made => match made {
                        Err(detail) => Beside::Run(key, failed(&detail)),
                        Ok(container) => Beside::Ready(key, launch, container.map(Box::new)),
                    },
                },
            };
            let _ = beside.send(next).await;
        });
    }

    /// Finds out how a run ended whose supervisor wrote no outcome.
    pub(super) fn conclude(&self, key: Key, status: String) {
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            let outcome = conclude(fixed, key, status).await;
            let _ = beside.send(Beside::Run(key, Event::Gone(outcome))).await;
        });
    }

    /// A run that the nursery left: its supervisor is waited for, or it is handed over again.
    pub(super) fn adopt(&mut self, key: Key, attempts: u32) {
        tracing::warn!(run = %key, attempts, "the nursery has ended; looking for the run's supervisor");
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            let next = outlived(&fixed, key, attempts, "it was lost with the nursery").await;
            let _ = beside.send(next).await;
        });
    }

    /// Waits for the end of a supervisor that is not a child of this process. The lock of a run can be held by an order
    /// that an earlier executor's nursery never read: such a run has not begun, and is handed over again.
    pub(super) fn watch(&self, key: Key) {
        let (fixed, beside) = (Arc::clone(&self.fixed), self.beside.clone());
        tokio::spawn(async move {
            if let Some(container) = start::read_spec(&fixed.folder(key)).and_then(|spec| spec.container) {
                let image = OsString::from_vec(container.image);
                fixed.containers.hold(key, Path::new(&image)).await;
            }
            let next = outlived(&fixed, key, 0, "it went away").await;
            let _ = beside.send(next).await;
        });
    }

    pub(super) fn queue(&mut self, key: Key, frame: Frame) {
        let outbox = self.outboxes.entry(key).or_default();
        if outbox.waiting.len() >= COMMANDS_MAX {
            tracing::error!(run = %key, "too many commands wait for this supervisor; one is dropped");
            return;
        }
        outbox.waiting.push_back(frame);
        if key.step == StepId::Batch {
            self.hands.push(Work::Knock(key));
        }
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
        let owner = self.owners.remove(&key);
        let last = self.runs.is_last(key);
        self.hands.push(Work::Collect(key, owner, last));
    }
}

fn failed(detail: &str) -> Event {
    Event::Gone(lifecycle::never_begun(Kind::LaunchFailed, detail, host::now_ms()))
}

fn collect(fixed: &Fixed, key: Key, owner: Option<(u32, u32)>, last: bool) {
    if let Some(mapping) = &fixed.job_mapping {
        mapping.leave(key, last);
    }
    fixed.cgroups.leave(key);
    fixed.containers.release(key);
    let collected = fixed.spares.collect(&fixed.folder(key), owner);
    // Not before no folder names it.
    fixed.cgroups.give_back(key, collected.is_ok());
    match collected {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(run = %key, %error, "a run folder could not be removed");
        }
        _ => {}
    }
}

fn asks_for_container(launch: &v1::Launch) -> bool {
    let rare = launch.request.as_ref().and_then(|request| request.rare.as_ref());
    rare.is_some_and(|rare| rare.container.is_some())
        || launch.tasks.as_ref().is_some_and(|tasks| tasks.container.is_some())
}

/// The run's container, made ready; what is done for it meanwhile is told.
async fn prepare(
    fixed: &Arc<Fixed>,
    key: Key,
    launch: &v1::Launch,
    beside: &mpsc::Sender<Beside>,
) -> Option<Container> {
    let place = Arc::clone(fixed);
    let (uid, gid, user) = (launch.uid, launch.gid, launch.user.clone());
    let account = tokio::task::spawn_blocking(move || place.accounts.look_up(uid, gid, &user)).await.ok()?;
    // One that is lost to a full queue is followed by others.
    let progress = |text: &str| drop(beside.try_send(Beside::Progress(key, text.to_owned())));
    fixed.containers.of_run(key, launch, &account, &fixed.folder(key), &progress).await
}

/// The folder, and the process. The error is a sentence for the user.
fn start_supervisor(
    fixed: &Fixed,
    nursery: &Nursery,
    key: Key,
    launch: &v1::Launch,
    container: Option<Box<Container>>,
) -> Result<(), Trouble> {
    let folder = fixed.folder(key);
    if key.step == StepId::Hook(Hook::Epilog) {
        let spec = fixed.hooks.epilog(key, launch, &fixed.node)?;
        return start_in(fixed, nursery, key, &spec, None);
    }
    let account = fixed.accounts.look_up(launch.uid, launch.gid, &launch.user);
    let bound = super::slices::bound(fixed, key, launch)?;
    if let Some(mapping) = &fixed.job_mapping {
        mapping.enter(key, &bound.step);
    }
    let constrained = fixed.cgroups.constrain_devices();
    let visible = match (bound.observed, super::slices::own(launch)) {
        (true, own) => {
            let all = Visible::observed(&bound.step, constrained);
            own.map_or(all.clone(), |own| all.of(own))
        }
        (false, Some(own)) => Visible::declared(own, constrained),
        (false, None) => Visible::default(),
    };
    let (job, step) = (fixed.gpus.open_capabilities(&bound.job)?, fixed.gpus.open_capabilities(&bound.step)?);
    let groups = fixed.cgroups.enter(key, launch, Capabilities { job: &job, step: &step })?;
    let script_path = folder.join(executor_supervisor::SCRIPT_FILE);
    let mut spec = launch::compose(
        &fixed.context(&visible),
        key,
        launch,
        &account,
        &script_path,
        groups,
        host::now_ms(),
    )
    .map_err(|error| error.to_string())?;
    fixed.cgroups.bind(&mut spec, launch, &fixed.node);
    launch::environment::bind_gpus(&mut spec, launch, &visible, constrained);
    match container {
        Some(mut container) => {
            container.binds.extend(container::compose::device_binds(&bound.step, &step));
            container::compose::put_into(&mut spec, container, key);
        }
        None if launch.tasks.as_ref().is_some_and(|tasks| tasks.container.is_some()) => {
            container::compose::leave(&mut spec, &launch.scheduler_socket);
        }
        None => {}
    }
    let script = (key.step == StepId::Batch).then_some(&launch.script[..]);
    start_in(fixed, nursery, key, &spec, script)
}

fn start_in(
    fixed: &Fixed,
    nursery: &Nursery,
    key: Key,
    spec: &Spec,
    script: Option<&[u8]>,
) -> Result<(), Trouble> {
    let folder = fixed.folder(key);
    let lock = start::prepare(&fixed.run_root, key, spec, script, fixed.uid == 0, &fixed.spares);
    let lock = lock.map_err(|error| {
        let detail = format!("cannot make the run folder {}: {error}", folder.display());
        if is_disks(&error) { Trouble::Node(detail) } else { Trouble::Launch(detail) }
    })?;
    let handed = nursery.hand(key, &folder, &lock, Some(spec.uid), 1);
    Ok(handed.map_err(|error| format!("cannot start {}: {error}", fixed.supervisor.display()))?)
}

/// The same for a run whose folder is there.
fn hand_again(fixed: &Fixed, nursery: &Nursery, key: Key, attempt: u32) -> Result<(), Trouble> {
    let folder = fixed.folder(key);
    let handed = start::reopen(&folder).and_then(|lock| nursery.hand(key, &folder, &lock, None, attempt));
    Ok(handed.map_err(|error| format!("cannot start {}: {error}", fixed.supervisor.display()))?)
}

/// Waits until nobody holds the run, then says what is to be done: it is over, or has not begun after so many attempts.
async fn outlived(fixed: &Arc<Fixed>, key: Key, attempts: u32, status: &str) -> Beside {
    let folder = fixed.folder(key);
    control::gone(&folder).await;
    match tokio::task::spawn_blocking(move || start::examine(&folder, key)).await {
        Ok(start::Found::Nothing) => Beside::Unbegun(key, attempts),
        Ok(start::Found::Outcome(outcome)) => Beside::Run(key, Event::Gone(outcome)),
        Ok(start::Found::Begun { .. }) | Err(_) => Beside::Unclear(key, status.to_owned()),
    }
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
                if let Some(mpi) = &spec.mpi {
                    remove_folders(&mpi.folder, &|_| false);
                }
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
