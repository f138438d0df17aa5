//! Finding the scheduler's socket and connecting to it.
//!
//! Owns the look-ups (environment, configuration file) around the pure rule in [`model::place`]. Never starts
//! a daemon. Waits for one only where one was: a socket file at which nobody answers is what a scheduler leaves that
//! was killed or is restarted; where there is no file at all, nobody is expected.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use model::place::{self, DEFAULT_CONF, Place, cluster_name};
use tonic::transport::{Channel, Endpoint};

/// What the scheduler may send before it is told that it was read, bytes: a long listing does not wait for each 64 KiB.
const ANSWER_WINDOW: u32 = 4 << 20;

/// What `sluice --conf FILE` named; it counts before the environment.
static NAMED: OnceLock<PathBuf> = OnceLock::new();

/// Takes this configuration instead of the environment's. Only the first call counts.
pub(crate) fn name_conf(path: &Path) {
    // A second name is the command line's mistake; the first one stands.
    let _ = NAMED.set(path.to_owned());
}

/// What [`name_conf`] named.
pub(crate) fn named_conf() -> Option<&'static Path> {
    NAMED.get().map(PathBuf::as_path)
}

/// The configuration that this process would read: the named one, `SLURM_CONF`, else Slurm's own place if a
/// file is there.
pub(crate) fn conf_path() -> Option<PathBuf> {
    if let Some(named) = NAMED.get() {
        return Some(named.clone());
    }
    match env::var_os("SLURM_CONF") {
        Some(path) if !path.is_empty() => Some(path.into()),
        _ => Some(PathBuf::from(DEFAULT_CONF)).filter(|path| path.exists()),
    }
}

/// The cluster's name from that configuration, `None` where there is none.
pub(crate) fn conf_cluster() -> Option<String> {
    let text = std::fs::read(conf_path()?).ok()?;
    cluster_name(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// How long Slurm's commands try to reach the scheduler: `MessageTimeout` of the configuration, 10 s without.
pub(crate) fn message_timeout() -> Duration {
    static FOUND: OnceLock<Duration> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let text = conf_path().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let seconds = place::message_timeout(&String::from_utf8_lossy(&text));
        Duration::from_secs(seconds.unwrap_or(10))
    })
}

/// The value of a key in the configuration, as written; `None` where it is not set, or there is no configuration.
pub(crate) fn conf_value(key: &str) -> Option<String> {
    let text = std::fs::read(conf_path()?).ok()?;
    place::value_of(&String::from_utf8_lossy(&text), key).map(str::to_owned)
}

/// Whether a scheduler has listened at one of the sockets.
pub(crate) fn was_there(sockets: &[String]) -> bool {
    sockets.iter().any(|socket| Path::new(socket).exists())
}

/// The sockets that a client of this process tries, in order.
///
/// The first of: `SLUICE_SOCKET`; the cluster of `SLURM_CONF`; of `/etc/slurm/slurm.conf`; the default.
/// A user's client tries the user's own cluster of that name first, then root's.
#[must_use]
pub fn candidates() -> Vec<String> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let socket = set("SLUICE_SOCKET");
    let cluster = if socket.is_some() { None } else { conf_cluster() };
    let runtime_dir = set("XDG_RUNTIME_DIR");
    let place = Place {
        socket: socket.as_deref(),
        cluster: cluster.as_deref(),
        uid: nix::unistd::geteuid().as_raw(),
        runtime_dir: runtime_dir.as_deref(),
    };
    place.candidates()
}

/// Connects to the first of `sockets` that answers. `Err` holds what the last one said.
pub(crate) async fn dial(sockets: &[String]) -> Result<Channel, String> {
    let mut said = String::from("no socket to try");
    for socket in sockets {
        let endpoint = match Endpoint::from_shared(format!("unix://{socket}")) {
            Ok(endpoint) => endpoint
                .initial_stream_window_size(ANSWER_WINDOW)
                .initial_connection_window_size(ANSWER_WINDOW),
            Err(error) => {
                said = error.to_string();
                continue;
            }
        };
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => said = innermost(&error),
        }
    }
    Err(said)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
