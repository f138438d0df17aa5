//! Limit (a): the same messages over the same kind of stream into a plain log, and nothing else.
//!
//! A process of its own serves one method. Messages are decoded, encoded again into a buffer, written behind one
//! another into a file that was filled with zeros, and synced by one committer thread in groups; each is answered after
//! its sync. No checks, no state, no identity.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::process::Command;
use std::sync::mpsc as channel;
use std::task::{Context as Poller, Poll};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use benches::{Arguments, Workplace};
use prost::Message;
use proto::v1::{SubmitReply, SubmitRequest};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::clients::{Load, run};

const FILE_BYTES: u64 = 64 << 20;
const GROUP_MOST: usize = 4096;

/// Starts the bare server, runs 64 pipelined clients against it, answers submits/s.
pub(crate) fn measure(arguments: &Arguments, span: Duration) -> Result<f64> {
    let place = Workplace::new(1, 1, "")?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("bare-server").arg(place.socket()).arg(place.folder().join("log"));
    let mut server = place.start(command, "scheduler.log")?;
    place.wait_socket(&mut server)?;
    let load = Load { seed: arguments.seed, clients: 64, pipelined: true, span };
    Ok(run(&place.socket(), &load)?.per_second())
}

struct Item {
    message: SubmitRequest,
    synced: oneshot::Sender<u32>,
}

/// The server's process: never ends by itself.
pub(crate) fn serve(socket: &str, log: &str) -> Result<()> {
    let file = File::create(log).context("make the log")?;
    let zeros = vec![0; 1 << 20];
    for at in 0..FILE_BYTES >> 20 {
        file.write_all_at(&zeros, at << 20).context("fill the log")?;
    }
    file.sync_all().context("sync the log")?;
    let (send, receive) = channel::sync_channel::<Item>(GROUP_MOST);
    thread::spawn(move || commit(&file, &receive));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).context("listen")?;
        let served = tonic::transport::Server::builder()
            .serve_with_incoming(Bare { send }, UnixListenerStream::new(listener));
        served.await.context("serve")
    })
}

fn commit(file: &File, items: &channel::Receiver<Item>) {
    let mut buffer = Vec::new();
    let (mut offset, mut id) = (0, 0);
    while let Ok(first) = items.recv() {
        buffer.clear();
        let mut waiting = Vec::new();
        for item in std::iter::once(first).chain(items.try_iter().take(GROUP_MOST)) {
            item.message.encode_length_delimited(&mut buffer).expect("a vector grows");
            waiting.push(item.synced);
        }
        if offset + buffer.len() as u64 > FILE_BYTES {
            offset = 0;
        }
        write(file, &buffer, offset).expect("the bench's disk takes 64 MiB");
        offset += buffer.len() as u64;
        for synced in waiting {
            id += 1;
            // A client that has left is nobody to tell.
            let _ = synced.send(id);
        }
    }
}

fn write(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(buffer, offset)?;
    file.sync_data()
}

#[derive(Clone)]
struct Bare {
    send: channel::SyncSender<Item>,
}

impl NamedService for Bare {
    const NAME: &'static str = "sluice.v1.Controller";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = Handler { send: self.send.clone() };
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(handler, request).await) })
    }
}

struct Handler {
    send: channel::SyncSender<Item>,
}

type Replies = ReceiverStream<Result<SubmitReply, Status>>;

impl StreamingService<SubmitRequest> for Handler {
    type Response = SubmitReply;
    type ResponseStream = Replies;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Replies>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<SubmitRequest>>) -> Self::Future {
        let (reply, replies) = mpsc::channel(1024);
        let (order, mut in_order) = mpsc::channel::<oneshot::Receiver<u32>>(1024);
        let send = self.send.clone();
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            while let Some(Ok(message)) = messages.next().await {
                let (synced, told) = oneshot::channel();
                let mut item = Item { message, synced };
                // The committer is behind: let it work instead of blocking a worker.
                while let Err(channel::TrySendError::Full(back)) = send.try_send(item) {
                    item = back;
                    tokio::task::yield_now().await;
                }
                if order.send(told).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(told) = in_order.recv().await {
                let Ok(job_id) = told.await else { break };
                if reply.send(Ok(SubmitReply { job_id, ..Default::default() })).await.is_err() {
                    break;
                }
            }
        });
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(replies))) })
    }
}
