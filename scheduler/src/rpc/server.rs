//! One connection, three services: the paths decide between clients, executors and plain HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::v1::agent_server::AgentServer;
use proto::v1::controller_server::ControllerServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;

use super::{Api, MESSAGE_MAX};

/// Largest message of an executor: a registration that shows a million runs.
const AGENT_MESSAGE_MAX: usize = 256 << 20;
/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 1024;
/// What a stream may send ahead, bytes: enough for a pipeline of submissions.
const STREAM_WINDOW: u32 = 512 << 10;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Serves until the daemon stops; open streams are then given a moment to end.
///
/// # Errors
/// The listener failed.
pub async fn serve(api: Api, listener: UnixListener) -> Result<(), tonic::transport::Error> {
    let stop = api.shutdown.clone();
    let router = Router {
        controller: ControllerServer::new(api.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(usize::MAX),
        agent: AgentServer::new(api.clone())
            .max_decoding_message_size(AGENT_MESSAGE_MAX)
            .max_encoding_message_size(usize::MAX),
        api,
    };
    Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .serve_with_incoming_shutdown(router, UnixListenerStream::new(listener), async move {
            stop.wait().await;
        })
        .await
}

/// Sends each request to its service.
#[derive(Clone)]
struct Router {
    controller: ControllerServer<Api>,
    agent: AgentServer<Api>,
    api: Api,
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Router {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Each request is a task of its own; the queue behind holds them back.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        if service == <ControllerServer<Api> as NamedService>::NAME {
            return self.controller.call(request);
        }
        if service == <AgentServer<Api> as NamedService>::NAME {
            return self.agent.call(request);
        }
        let response = service::pages::answer(&self.api, &request);
        Box::pin(async move { Ok(response) })
    }
}
