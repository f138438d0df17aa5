//! Plain HTTP beside the services: figures and health, on the Unix socket and, where MetricsPort asks for it, on a port of
//! 127.0.0.1 that answers nothing else.
//!
//! Only questions: nothing that comes in here changes anything, and no answer names a user.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Ready;
use std::task::{Context, Poll};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Server;

use super::{Api, diagnostics, slurm_metrics};
use crate::rows;

/// Requests of one connection at a time on the port.
const STREAMS_MAX: u32 = 16;

/// Serves figures and health on a listener, and nothing else, until the daemon stops.
///
/// # Errors
/// The listener failed.
pub async fn serve(api: Api, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let stop = api.shutdown.clone();
    Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(STREAMS_MAX)
        .timeout(std::time::Duration::from_secs(10))
        .serve_with_incoming_shutdown(Plain(api), TcpListenerStream::new(listener), async move {
            stop.wait().await;
        })
        .await
}

#[derive(Clone)]
struct Plain(Api);

impl Service<http::Request<Body>> for Plain {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        std::future::ready(Ok(answer(&self.0, &request)))
    }
}

/// Answers one request.
#[must_use]
pub fn answer(api: &Api, request: &http::Request<Body>) -> http::Response<Body> {
    let (status, text) = match *request.method() {
        http::Method::GET | http::Method::HEAD => page(api, request.uri()),
        _ => (405, "only questions are answered here\n".to_owned()),
    };
    http::Response::builder()
        .status(status)
        .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        .body(Body::new(text))
        .expect("a status, a header and a text make a response")
}

fn page(api: &Api, uri: &http::Uri) -> (u16, String) {
    let path = uri.path();
    match path {
        "/metrics" => {
            let mut text = api.metrics.text(diagnostics::gauges(api));
            text.push_str(&rows::gpu::metrics(&api.views.read()));
            text.push_str(&slurm_metrics::all(api));
            (200, text)
        }
        "/livez" => (200, "ok\n".to_owned()),
        "/readyz" => {
            ready(api, uri.query().is_some_and(|query| query.split('&').any(|word| word == "verbose")))
        }
        _ => match path.strip_prefix("/metrics/").and_then(|name| slurm_metrics::text(api, name)) {
            Some(text) => (200, text),
            None => (404, "not found\n".to_owned()),
        },
    }
}

/// Whether work is taken, and with `verbose` by which part not.
fn ready(api: &Api, verbose: bool) -> (u16, String) {
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
    let sound = parts.iter().all(|(_, sound, _)| *sound);
    let status = if sound { 200 } else { 503 };
    if !verbose {
        let failed: Vec<&str> =
            parts.iter().filter(|(_, sound, _)| !sound).map(|(_, _, words)| &**words).collect();
        return (status, if sound { "ok\n".to_owned() } else { failed.join(", ") + "\n" });
    }
    let mut text = String::new();
    for (name, sound, words) in parts {
        let _ = writeln!(text, "[{}] {name}: {words}", if sound { '+' } else { '-' });
    }
    text.push_str(if sound { "ready\n" } else { "not ready\n" });
    (status, text)
}
