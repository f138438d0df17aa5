//! Talking to supervisors over their sockets: commands with an answer, and waiting for the end of one that is not
//! this process's child.
//!
//! A supervisor that has just been started may not listen yet: connecting is tried again with growing pauses
//! for a limited time. One that is gone answers by its free lock.

use std::io;
use std::path::Path;
use std::time::Duration;

use executor_supervisor::SOCKET_FILE;
use executor_supervisor::frame::{self, Decoder, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::launch::start;

const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_LAST: Duration = Duration::from_millis(500);
/// Longest time to reach a supervisor and get its answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

async fn connect(folder: &Path) -> io::Result<UnixStream> {
    let (_open, path) = frame::short_path(&folder.join(SOCKET_FILE))?;
    UnixStream::connect(path).await
}

/// Connects as soon as the supervisor listens; `None` once nobody holds the run.
async fn reach(folder: &Path) -> Option<UnixStream> {
    let mut pause = PAUSE_FIRST;
    loop {
        match connect(folder).await {
            Ok(stream) => return Some(stream),
            // Full queue or not listening yet; gone if the lock is free.
            Err(_) if start::is_held(folder).unwrap_or(false) => {}
            Err(_) => return None,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Carried out.
    Done,
    /// The supervisor refused it.
    Refused(String),
    /// There is no supervisor any more: its outcome tells.
    Gone,
    /// It holds the run and does not answer.
    Silent,
}

/// Sends one command and waits for its answer, with a limit.
pub async fn command(folder: &Path, command: &Frame) -> Delivery {
    let exchange = async {
        let Some(mut stream) = reach(folder).await else { return Delivery::Gone };
        if stream.write_all(&command.to_bytes()).await.is_err() {
            return Delivery::Gone;
        }
        match next_frame(&mut stream).await {
            Some(Frame::Done) => Delivery::Done,
            Some(Frame::Refused { reason }) => Delivery::Refused(reason),
            Some(other) => Delivery::Refused(format!("an answer that is none: {other:?}")),
            None => Delivery::Gone,
        }
    };
    tokio::time::timeout(ANSWER_MAX, exchange).await.unwrap_or(Delivery::Silent)
}

async fn next_frame(stream: &mut UnixStream) -> Option<Frame> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 1024];
    loop {
        if let Some(frame) = decoder.next_frame().ok()? {
            return Some(frame);
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => decoder.push(&buffer[..count]),
        }
    }
}

/// Returns when nobody holds the run any more. The connection's end is the signal; the lock is the proof.
pub async fn gone(folder: &Path) {
    while let Some(mut stream) = reach(folder).await {
        let mut buffer = [0; 64];
        while matches!(stream.read(&mut buffer).await, Ok(count) if count > 0) {}
        let place = folder.to_owned();
        // Between closing its socket and its end there are instants: this wait is short.
        let waited = tokio::task::spawn_blocking(move || start::wait_released(&place)).await;
        if waited.is_err() {
            return;
        }
    }
}
