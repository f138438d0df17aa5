//! Plain HTTP for people and their tools: pages of text, by GET and HEAD only.
//!
//! Only questions: nothing that comes in here changes anything.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Ready;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Error, Server};

/// Requests of one connection at a time.
const STREAMS_MAX: u32 = 16;
/// Time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Who has the pages.
pub trait Pages: Clone + Send + Sync + 'static {
    /// Status and text for a path and what follows its question mark.
    fn page(&self, path: &str, query: &str) -> (u16, String);
}

/// Serves the pages, and nothing else, on a port until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve_port(
    pages: impl Pages,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let incoming = TcpListenerStream::new(listener);
    server().serve_with_incoming_shutdown(Answering(pages), incoming, stop).await
}

/// The same on a Unix socket.
///
/// # Errors
/// The listener failed.
pub async fn serve_socket(
    pages: impl Pages,
    listener: UnixListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let incoming = UnixListenerStream::new(listener);
    server().serve_with_incoming_shutdown(Answering(pages), incoming, stop).await
}

fn server() -> Server {
    Server::builder().accept_http1(true).max_concurrent_streams(STREAMS_MAX).timeout(ANSWER_WITHIN)
}

/// A listener on a port of 127.0.0.1: no other machine reaches it, and there is no authentication on it.
///
/// # Errors
/// The port is taken, or may not be had.
pub fn listen_port(port: u16) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[derive(Clone)]
struct Answering<P>(P);

impl<P: Pages> Service<http::Request<Body>> for Answering<P> {
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
pub fn answer(pages: &impl Pages, request: &http::Request<Body>) -> http::Response<Body> {
    let (status, text) = match *request.method() {
        http::Method::GET | http::Method::HEAD => {
            pages.page(request.uri().path(), request.uri().query().unwrap_or_default())
        }
        _ => (405, "only questions are answered here\n".to_owned()),
    };
    http::Response::builder()
        .status(status)
        .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        .body(Body::new(text))
        .expect("a status, a header and a text make a response")
}

/// A part of a daemon: its name, whether it is sound, what there is to say.
pub type Part = (&'static str, bool, String);

/// The page `/readyz`: 200 where every part is sound, else 503 with what is not; `?verbose` has a line for each part.
#[must_use]
pub fn ready(parts: &[Part], query: &str) -> (u16, String) {
    let sound = parts.iter().all(|(_, sound, _)| *sound);
    let status = if sound { 200 } else { 503 };
    if !query.split('&').any(|word| word == "verbose") {
        let failed: Vec<&str> =
            parts.iter().filter(|(_, sound, _)| !sound).map(|(_, _, words)| &**words).collect();
        return (status, if sound { "ok\n".to_owned() } else { failed.join(", ") + "\n" });
    }
    let mut text = String::new();
    for (name, sound, words) in parts {
        let _ = writeln!(text, "[{}] {name}: {words}", if *sound { '+' } else { '-' });
    }
    text.push_str(if sound { "ready\n" } else { "not ready\n" });
    (status, text)
}

#[cfg(test)]
mod tests {
    use super::ready;

    #[test]
    fn what_is_not_sound_is_named() {
        let mut parts = [("a", true, "it runs".to_owned()), ("b", true, "3 wait".to_owned())];
        assert_eq!(ready(&parts, ""), (200, "ok\n".to_owned()));
        parts[1].1 = false;
        assert_eq!(ready(&parts, ""), (503, "3 wait\n".to_owned()));
        let verbose = "[+] a: it runs\n[-] b: 3 wait\nnot ready\n";
        assert_eq!(ready(&parts, "x&verbose"), (503, verbose.to_owned()));
    }
}
