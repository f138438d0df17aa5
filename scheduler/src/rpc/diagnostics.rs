//! What the daemon says of itself: `ping`, `show config`, `sdiag`, `/metrics`.

use proto::v1;
use scheduler_core::effect::Asker;

use super::Api;
use crate::metrics::Gauges;
use crate::wire;

/// The daemon's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Liveness and the facts that clients print.
#[must_use]
pub fn ping(api: &Api) -> v1::PingReply {
    let (cluster, epoch) = {
        let view = api.views.read();
        (view.settings.cluster.to_string(), view.state.epoch.0)
    };
    v1::PingReply {
        cluster,
        host: host(),
        version: VERSION.to_owned(),
        pid: std::process::id(),
        boot_ms: api.started.0,
        epoch,
    }
}

/// Short name of this host.
#[must_use]
pub fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.unwrap_or_else(|| "localhost".to_owned());
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The lines of `scontrol show config`.
#[must_use]
pub fn config(api: &Api) -> v1::ShowConfigReply {
    let mut shown = api.configuration.shown();
    if let Some(word) = api.log.word()
        && let Some((_, value)) = shown.iter_mut().find(|(key, _)| key == "SlurmctldDebug")
    {
        word.clone_into(value);
    }
    let next = api.views.read().state.next_job_id;
    let conf = Some(api.site.conf.to_string()).filter(|path| !path.is_empty());
    for (key, value) in [
        ("BOOT_TIME", api.started.0.to_string()),
        ("HASH_VAL", "Match".to_owned()),
        ("NEXT_JOB_ID", next.to_string()),
        ("SLURM_CONF", conf.unwrap_or_else(|| "(null)".to_owned())),
        ("SLURM_VERSION", VERSION.to_owned()),
    ] {
        let before = |(other, _): &(String, String)| other.to_ascii_lowercase() < key.to_ascii_lowercase();
        let at = shown.iter().rposition(before).map_or(0, |at| at + 1);
        shown.insert(at, (key.to_owned(), value));
    }
    let pairs = shown.into_iter().map(|(key, value)| v1::KeyValue { key, value }).collect();
    v1::ShowConfigReply { pairs, path: api.site.conf.to_string() }
}

/// What is true now.
#[must_use]
pub fn gauges(api: &Api) -> Gauges {
    let view = api.views.read();
    let index = &view.state.index;
    let mut nodes_by_cgroups = [0; 3];
    for node in view.state.nodes.iter().filter(|node| !node.removed && node.incarnation.is_some()) {
        let kind = ["v1", "v2"].iter().position(|kind| node.observed.cgroups.starts_with(kind));
        nodes_by_cgroups[kind.unwrap_or(2)] += 1;
    }
    Gauges {
        nodes_by_cgroups,
        pending: index.queue.len(),
        running: index.running.len(),
        ended: index.ended.len(),
        nodes: view.state.nodes.iter().filter(|node| !node.removed).count(),
        nodes_connected: api.dispatch.connected(),
        queued: api.inbox.len(),
    }
}

/// Figures in sdiag's words, and ours behind them.
#[must_use]
pub fn figures(api: &Api) -> v1::DiagnosticsReply {
    let gauges = gauges(api);
    let metrics = &api.metrics;
    let now_s = api.views.wall().as_secs();
    let queue_depth = gauges.pending.to_string();
    let since = metrics.since();
    let [submitted, started, completed, cancelled, failed] = since.counts.map(|count| count.to_string());
    let figures = [
        ("Server thread count", "1".to_owned()),
        ("Agent queue size", gauges.queued.to_string()),
        // Accounting is the scheduler's own: nothing waits for a database daemon.
        ("DBD Agent queue size", "0".to_owned()),
        ("Jobs submitted", submitted),
        ("Jobs started", started),
        ("Jobs completed", completed),
        ("Jobs canceled", cancelled),
        ("Jobs failed", failed),
        ("Jobs pending", gauges.pending.to_string()),
        ("Jobs running", gauges.running.to_string()),
        ("Job states ts", now_s.to_string()),
        ("Last cycle", metrics.pass.last_us().to_string()),
        ("Max cycle", metrics.pass.max_us().to_string()),
        ("Total cycles", since.pass.count.to_string()),
        ("Mean cycle", since.pass.mean_us().to_string()),
        ("Last queue length", queue_depth),
        ("Data since", since.at_s.unwrap_or_else(|| api.started.as_secs()).to_string()),
        ("Time", now_s.to_string()),
        ("Commits", since.commit.count.to_string()),
        ("Mean commit", since.commit.mean_us().to_string()),
        ("Max commit", metrics.commit.max_us().to_string()),
        ("Mean submit", since.submit.mean_us().to_string()),
        ("Max submit", metrics.submit.max_us().to_string()),
    ];
    let figures =
        figures.into_iter().map(|(key, value)| v1::KeyValue { key: key.to_owned(), value }).collect();
    v1::DiagnosticsReply { figures, refused: None }
}

/// Has `sdiag` count from now on, for who may.
#[must_use]
pub fn reset(api: &Api, asker: &Asker) -> v1::DiagnosticsReply {
    if let Some(refused) = api.refuse_unless_administrator(asker) {
        return v1::DiagnosticsReply { figures: Vec::new(), refused: Some(wire::refused(&refused)) };
    }
    api.metrics.count_anew(api.views.wall().as_secs());
    v1::DiagnosticsReply::default()
}
