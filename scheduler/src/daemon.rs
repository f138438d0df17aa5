//! The daemon as a value: started, waited for, stopped. `main`, tests and benches use this same one.
//!
//! Order of a start: configuration, the state's owner, views, controller, socket. Whoever connects finds
//! a recovered state. Order of a stop: no new connections, sessions told, the last batch stored and
//! released, the socket removed, unless another scheduler is expected there. Jobs go on.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use journal::ground::{self, Wanted};
use model::id::Epoch;
use model::time::{Span, Timestamp};
use service::log::Log;
use service::pages;
use tokio::net::{TcpListener, UnixListener};

use crate::clock::{self, Clock};
use crate::controller::keeper::{self, Keeping};
use crate::controller::recorder::Recorder;
use crate::controller::{self, Parts};
use crate::crash::{self, Point};
use crate::directory::Directory;
use crate::dispatch::launch::Site;
use crate::hooks::{Hooks, check_health};
use crate::housekeeping;
use crate::inbox::{Inbox, Item};
use crate::keys::Keys;
use crate::lease::Leases;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use crate::rpc;
use crate::rpc::socket::{self, Bound};
use crate::rpc::{Api, server};
use crate::settings::{Configuration, Loaded, dynamic};
use crate::shelf::Shelf;
use crate::shutdown::Shutdown;
use crate::store::{self, Report};
use crate::views::Views;

/// How long open connections have to end when the daemon stops.
const CONNECTIONS_END_WITHIN: Duration = Duration::from_secs(1);

/// What a daemon is started with.
pub struct Options {
    /// The configuration, read and checked.
    pub configuration: Configuration,
    /// Folder of the state.
    pub state: PathBuf,
    /// Where to listen.
    pub socket: PathBuf,
    /// The program that makes snapshots (`PROGRAM compact …`); `None`: a thread of this process.
    pub compactor: Option<PathBuf>,
    /// Bytes of journal behind the newest snapshot that make another one due; `None`: the default.
    pub snapshot_after: Option<u64>,
    /// Another disk than the folder: tests.
    pub disk: Option<Arc<dyn journal::Disk>>,
    /// Where the machine's inputs are recorded for replays.
    pub record_inputs: Option<PathBuf>,
    /// The log of this process, which the configuration steers.
    pub log: Log,
    /// Milliseconds that are added to the system's wall clock: tests set the clock with it.
    pub clock_skew: Option<&'static AtomicI64>,
}

/// Room without which a new state cannot begin, bytes.
const ROOM_TO_BEGIN: u64 = 8 << 20;
/// 2025-01-01, ms: no release of this program is older.
const OLDEST_CLOCK: Timestamp = Timestamp(1_735_689_600_000);
/// The wall clock may be so far behind the state without a word: it was set, or the machine slept.
const CLOCK_BEHIND: Span = Span::from_secs(24 * 60 * 60);

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of the state.
    #[error(transparent)]
    Ground(#[from] ground::Unfit),
    /// The disk of the state.
    #[error(
        "the file system of {folder} is full\n  make room there; what is stored is whole, and nothing of it was lost"
    )]
    Full {
        /// The folder of the state.
        folder: PathBuf,
        /// What could not be done.
        #[source]
        source: Box<store::Error>,
    },
    /// The wall clock.
    #[error(
        "the clock of this machine is wrong: it says {} s since 1970, which is before this program was made\n  \
         set it (date -s, or time synchronisation), then start again", wall.0 / 1000
    )]
    Clock {
        /// What it says.
        wall: Timestamp,
    },
    /// The state.
    #[error("the state in {folder} cannot be opened")]
    State {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<store::Error>,
    },
    /// The socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// The port of 127.0.0.1 for figures.
    #[error("MetricsPort={port} of 127.0.0.1 cannot be listened on")]
    MetricsPort {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The recording of inputs.
    #[error("inputs cannot be recorded to {path}")]
    Recording {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Threads.
    #[error("the system gives no thread")]
    Thread(#[source] std::io::Error),
}

/// A running daemon.
pub struct Daemon {
    api: Api,
    socket: PathBuf,
    bound: Option<Bound>,
    controller: Option<JoinHandle<std::io::Result<()>>>,
    server: tokio::task::JoinHandle<()>,
    keep_socket: Arc<AtomicBool>,
}

/// Says what was found at the opening.
fn tell(report: &Report) {
    tracing::info!(
        frames = report.frames_replayed,
        records = report.records_replayed,
        snapshot = report.snapshot,
        bodies = report.bodies,
        elapsed_ms = report.elapsed.as_millis() as u64,
        "the state is recovered"
    );
    if report.last_frame_rejected || report.journal.torn.is_some() {
        tracing::warn!("the last batch was torn by a crash; it was never acknowledged, and is cut off");
    }
    for file in &report.unreadable {
        tracing::warn!("not needed and not readable: {file}");
    }
    for job in &report.jobs_without_bodies {
        tracing::error!(job = job.0, "the job's script or environment is gone");
    }
}

/// Reads the keys of before this start beside everything else.
fn load_keys(keys: &Arc<Keys>, shelf: &Arc<Shelf>, clock: Clock) {
    let (keys, shelf) = (Arc::clone(keys), Arc::clone(shelf));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = keys.load(&shelf.history(), clock.now()) {
            tracing::error!("calls of before this start may not be recognised: {error}");
        }
    });
}

/// Only this machine can reach it: there is no authentication on it.
fn listen_for_figures(port: u16) -> Result<TcpListener, Error> {
    pages::listen_port(port).map_err(|source| Error::MetricsPort { port, source })
}

fn record(path: PathBuf) -> Result<Recorder, Error> {
    Recorder::create(&path).map_err(|source| Error::Recording { path, source })
}

/// Socket, clock and folder: whether a scheduler can be here. What the wall clock says.
fn check_ground(options: &Options) -> Result<Timestamp, Error> {
    socket::check(&options.socket)?;
    let wall = clock::wall_with(options.clock_skew);
    if wall < OLDEST_CLOCK {
        return Err(Error::Clock { wall });
    }
    if options.disk.is_none() {
        let network_accepted = options.configuration.current().network_accepted;
        for line in ground::survey(&options.state, Wanted { room: ROOM_TO_BEGIN, network_accepted })? {
            tracing::warn!("{line}");
        }
    }
    Ok(wall)
}

fn warn_of_clock(behind: Span) {
    if behind > CLOCK_BEHIND {
        tracing::warn!(
            hours = behind.0 / 3_600_000,
            "the clock of this machine is behind what the state saw last; jobs keep their limits, but dates will be wrong"
        );
    }
}

/// What is done beside the machine: old things are removed, and nodes asked how they are.
fn look_after(api: &Api, clock: Clock) {
    let house = housekeeping::Parts {
        shelf: Arc::clone(&api.shelf),
        views: Arc::clone(&api.views),
        metrics: Arc::clone(&api.metrics),
        clock,
    };
    tokio::spawn(housekeeping::run(house, api.shutdown.clone()));
    let (checked, told) = (Arc::clone(&api.configuration), Arc::clone(&api.dispatch));
    tokio::spawn(check_health(checked, Arc::clone(&api.views), told, api.shutdown.clone()));
}

/// What the controller works with.
fn parts(api: &Api, keeping: Keeping, clock: Clock, recorder: Option<Recorder>) -> Result<Parts, Error> {
    let mailer = Mailer::spawn(Arc::clone(&api.configuration), Arc::clone(api.views.directory()));
    let hooks = Hooks::new(
        tokio::runtime::Handle::current(),
        api.inbox.clone(),
        Arc::clone(&api.views),
        Arc::clone(&api.site),
        Arc::clone(&api.configuration),
    );
    Ok(Parts {
        keeping,
        shelf: Arc::clone(&api.shelf),
        keys: Arc::clone(&api.keys),
        inbox: api.inbox.clone(),
        views: Arc::clone(&api.views),
        dispatch: Arc::clone(&api.dispatch),
        mailer: Arc::new(mailer.map_err(Error::Thread)?),
        hooks: Arc::new(hooks),
        metrics: Arc::clone(&api.metrics),
        configuration: Arc::clone(&api.configuration),
        clock,
        recorder,
    })
}

/// Answers on the socket, and on the port for figures where there is one.
fn serve(api: &Api, listener: UnixListener, figures: Option<TcpListener>) -> tokio::task::JoinHandle<()> {
    if let Some(listener) = figures {
        let (serving, stop) = (api.clone(), api.shutdown.clone());
        tokio::spawn(async move {
            let stop = async move { stop.wait().await };
            if let Err(error) = pages::serve_port(serving, listener, stop).await {
                tracing::error!("the port for figures failed: {error:?}");
            }
        });
    }
    let serving = api.clone();
    tokio::spawn(async move {
        if let Err(error) = server::serve(serving, listener).await {
            tracing::error!("the socket failed: {error:?}");
        }
    })
}

impl Daemon {
    /// Starts a daemon within the present runtime.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left behind.
    pub fn start(options: Options) -> Result<Self, Error> {
        // First what can refuse the start without having made anything.
        let wall = check_ground(&options)?;
        let Options { configuration, state: folder, socket, clock_skew, log, .. } = options;
        let recorder = options.record_inputs.map(record).transpose()?;
        let configuration = Arc::new(configuration);
        let directory = Arc::new(Directory::default());
        let keeping = Keeping {
            folder,
            compactor: options.compactor,
            snapshot_after: options.snapshot_after,
            disk: options.disk,
        };
        let Loaded { settings, history, metrics_port, .. } = configuration.current();
        let opened =
            keeper::open(&keeping, Epoch(0), (&settings, history), &directory).map_err(|source| {
                let (full, folder, source) = (source.is_full(), keeping.folder.clone(), Box::new(source));
                if full { Error::Full { folder, source } } else { Error::State { folder, source } }
            })?;
        crash::point(Point::Recovered);
        let store::Opened { state, store, report: found } = opened;
        let clock = Clock::of(&keeping.folder, state.now, clock_skew);
        warn_of_clock(state.now.saturating_add(state.wall_ahead).since(wall));
        tell(&found);
        let settings = dynamic::with_known(&settings, &state);
        let views = Arc::new(Views::new(state, settings, directory, clock));
        let figures = metrics_port.map(listen_for_figures).transpose()?;
        let (listener, bound) = socket::listen(&socket)?;
        let inbox = Inbox::default();
        let shelf = Arc::new(Shelf::new(&store));
        let keys = Arc::new(Keys::default());
        load_keys(&keys, &shelf, clock);
        let conf = configuration.source().map(|path| path.display().to_string()).unwrap_or_default();
        let api = Api {
            leases: Leases::new(inbox.clone(), Arc::clone(&views), tokio::runtime::Handle::current()),
            inbox,
            views,
            dispatch: Arc::default(),
            keys,
            shelf,
            metrics: Arc::default(),
            configuration,
            site: Arc::new(Site { socket: socket.display().to_string().into(), conf: conf.into() }),
            log,
            shutdown: Shutdown::default(),
            started: clock::wall(),
        };
        look_after(&api, clock);
        let parts = parts(&api, keeping, clock, recorder)?;
        let controller = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || controller::run(&parts, store))
            .map_err(Error::Thread)?;
        api.leases.expect_all();
        let server = serve(&api, listener, figures);
        let keep_socket = Arc::default();
        Ok(Self { api, socket, bound: Some(bound), controller: Some(controller), server, keep_socket })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Reads the configuration again and puts it in force whole, as `scontrol reconfigure` does; the log says what came of it.
    pub fn reconfigurer(&self) -> impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
        let api = self.api.clone();
        move || {
            let api = api.clone();
            Box::pin(async move { rpc::control::reconfigure_on_signal(&api).await })
        }
    }

    /// Whether the machine gets on: it has handled something since the last question, or nothing waits. Ask at intervals
    /// that are longer than any single input takes.
    pub fn pulse(&self) -> impl FnMut() -> bool + Send + 'static {
        let (inbox, metrics) = (self.api.inbox.clone(), Arc::clone(&self.api.metrics));
        let mut before = None;
        move || {
            let now = metrics.inputs.get();
            let stuck = before.replace(now) == Some(now) && !inbox.is_empty();
            !stuck
        }
    }

    /// How to tell it to stop.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.api.shutdown.clone()
    }

    /// Set, the socket file stays when the daemon stops: clients that find it know that a scheduler was here and wait
    /// for the next one.
    #[must_use]
    pub fn keep_socket(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.keep_socket)
    }

    /// What queries see, for tests and benches.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.api.views
    }

    /// Figures, for tests and benches.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.api.metrics
    }

    /// Waits until it is told to stop, and stops.
    pub async fn run(mut self) {
        self.api.shutdown.wait().await;
        self.stop().await;
    }

    /// Stops now.
    pub async fn stop(&mut self) {
        self.api.shutdown.trigger();
        self.api.dispatch.end_all("the scheduler is stopping");
        // Fails only when the controller has ended already.
        let _ = self.api.inbox.send_now(Item::Stop);
        if tokio::time::timeout(CONNECTIONS_END_WITHIN, &mut self.server).await.is_err() {
            self.server.abort();
        }
        if let Some(controller) = self.controller.take() {
            let ended = tokio::task::spawn_blocking(move || controller.join()).await;
            match ended {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::error!("the controller failed: {error}"),
                Ok(Err(_)) | Err(_) => tracing::error!("the controller panicked"),
            }
        }
        if let Some(bound) = self.bound.take()
            && self.keep_socket.load(Ordering::SeqCst)
        {
            bound.leave();
        }
    }
}
