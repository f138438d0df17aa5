//! Plain HTTP beside the services: figures and health, on the Unix socket and, where MetricsPort asks for it, on a port of
//! 127.0.0.1 that answers nothing else.
//!
//! No answer names a user.

use service::pages::{self, Pages};

use super::{Api, diagnostics, slurm_metrics};
use crate::rows;

impl Pages for Api {
    fn page(&self, path: &str, query: &str) -> (u16, String) {
        page(self, path, query)
    }
}

fn page(api: &Api, path: &str, query: &str) -> (u16, String) {
    match path {
        "/metrics" => {
            let mut text = api.metrics.text(diagnostics::gauges(api));
            text.push_str(&rows::gpu::metrics(&api.views.read()));
            text.push_str(&slurm_metrics::all(api));
            (200, text)
        }
        "/livez" => (200, "ok\n".to_owned()),
        "/readyz" => ready(api, query),
        _ => match path.strip_prefix("/metrics/").and_then(|name| slurm_metrics::text(api, name)) {
            Some(text) => (200, text),
            None => (404, "not found\n".to_owned()),
        },
    }
}

/// Whether work is taken, and with `verbose` by which part not.
fn ready(api: &Api, query: &str) -> (u16, String) {
    let gauges = diagnostics::gauges(api);
    let running = !api.shutdown.is_triggered();
    let queue = !api.inbox.is_crowded();
    let parts = [
        ("daemon", running, if running { "it runs" } else { "it is stopping" }.to_owned()),
        ("queue", queue, format!("{} inputs wait", gauges.queued)),
        ("journal", true, format!("{} batches stored", api.metrics.commit.count())),
        // A cluster without nodes takes jobs all the same.
        ("executors", true, format!("{} of {} nodes are connected", gauges.nodes_connected, gauges.nodes)),
    ];
    pages::ready(&parts, query)
}
