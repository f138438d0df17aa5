//! The connection to the scheduler: dial, hold the session, dial again.
//!
//! Knows nothing of runs. It hands the agent a fresh sender for each session and every message that comes
//! down; a session ends when either side ends it. Pauses between attempts grow to a limit.

use std::path::Path;
use std::time::Duration;

use proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Largest message that a scheduler may send: a script and an environment at their own limits.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Messages up that may wait for the connection.
const UP_QUEUE: usize = 8192;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// What the agent hears of its connection.
pub enum Signal {
    /// A session begins; its first message up must be the registration.
    Connected {
        /// Number of the session, growing.
        session: u64,
        /// Messages up. Dropped: the session ends.
        up: mpsc::Sender<v1::AgentUp>,
        /// Ends the session from this side.
        close: oneshot::Sender<()>,
    },
    /// A message of the session.
    Down {
        /// Which.
        session: u64,
        /// What.
        message: Box<v1::AgentDown>,
    },
    /// The session is over.
    Disconnected {
        /// Which.
        session: u64,
    },
}

/// Dials for ever. Ends when the agent does.
pub async fn run(sockets: Vec<String>, signals: mpsc::Sender<Signal>) {
    let mut pause = PAUSE_FIRST;
    let mut session = 0;
    let mut told = false;
    while !signals.is_closed() {
        if let Some(channel) = dial(&sockets, &mut told).await {
            session += 1;
            told = false;
            if hold(channel, session, &signals).await {
                pause = PAUSE_FIRST;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

async fn dial(sockets: &[String], told: &mut bool) -> Option<Channel> {
    for socket in sockets {
        if !Path::new(socket).exists() {
            continue;
        }
        let Ok(endpoint) = Endpoint::from_shared(format!("unix:{socket}")) else { continue };
        match endpoint.connect_timeout(Duration::from_secs(5)).connect().await {
            Ok(channel) => return Some(channel),
            Err(error) => tracing::debug!(%socket, %error, "cannot connect"),
        }
    }
    if !*told {
        tracing::info!(?sockets, "no scheduler answers yet; dialling on");
        *told = true;
    }
    None
}

/// One session from its first message to its end. True: the scheduler answered at least once.
async fn hold(channel: Channel, session: u64, signals: &mpsc::Sender<Signal>) -> bool {
    let mut client = v1::agent_client::AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (up, queue) = mpsc::channel(UP_QUEUE);
    let (close, mut closed) = oneshot::channel();
    if signals.send(Signal::Connected { session, up, close }).await.is_err() {
        return false;
    }
    let answered = async {
        let mut inbound = match client.session(ReceiverStream::new(queue)).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                tracing::warn!(session, code = ?status.code(), reason = status.message(), "the session was refused");
                return false;
            }
        };
        let mut answered = false;
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                _ = &mut closed => return answered,
            };
            match message {
                Ok(Some(message)) => {
                    answered = true;
                    let signal = Signal::Down { session, message: Box::new(message) };
                    if signals.send(signal).await.is_err() {
                        return answered;
                    }
                }
                Ok(None) => return answered,
                Err(status) => {
                    tracing::info!(session, reason = status.message(), "the session broke");
                    return answered;
                }
            }
        }
    }
    .await;
    // The agent is gone only when the process ends.
    let _ = signals.send(Signal::Disconnected { session }).await;
    answered
}
