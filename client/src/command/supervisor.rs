//! Asks the supervisors of running steps what these use and what holds them.
//!
//! A supervisor answers the job's owner and administrators; the kernel tells it who asks. Shared by `sstat` and
//! `sluice why`.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use executor_supervisor::account::Account;
use executor_supervisor::frame::{self, Decoder, Frame, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest wait for one supervisor.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the socket of a script that has just begun, and the pause between two looks.
const SOCKET_MAX: Duration = Duration::from_secs(2);
const SOCKET_PAUSE: Duration = Duration::from_millis(50);

/// What one of them said.
#[derive(Default)]
pub(super) struct Said {
    /// What its processes use now.
    pub usage: Option<Usage>,
    /// What its tasks came to, and what they are held to; an older supervisor does not say.
    pub account: Option<Account>,
}

/// Asks one, by its socket.
///
/// # Errors
/// A few words: it did not answer, or this user may not ask.
pub(super) async fn ask(socket: &str) -> Result<Said, String> {
    match tokio::time::timeout(ANSWER_MAX, exchange(socket)).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Connects; a batch script's socket may come a moment after the script, while its folder is there at once.
async fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        let (_open, short) = frame::short_path(path)?;
        match UnixStream::connect(short).await {
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && begin.elapsed() < SOCKET_MAX
                    && path.parent().is_some_and(Path::exists) =>
            {
                tokio::time::sleep(SOCKET_PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn exchange(socket: &str) -> std::io::Result<Said> {
    let mut stream = connect(Path::new(socket)).await?;
    let questions = [Frame::AskUsage.to_bytes(), Frame::AskAccount.to_bytes()].concat();
    stream.write_all(&questions).await?;
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    let mut said = Said::default();
    loop {
        match decoder.next_frame().map_err(std::io::Error::other)? {
            Some(Frame::Usage(usage)) => said.usage = Some(usage),
            Some(Frame::Account(account)) => {
                said.account = Some(*account);
                return Ok(said);
            }
            Some(Frame::Refused { reason }) if said.usage.is_none() => {
                return Err(std::io::Error::other(reason));
            }
            Some(Frame::Refused { .. }) => return Ok(said),
            Some(_) => return Err(std::io::Error::other("an answer that is none")),
            None => match stream.read(&mut buffer).await? {
                0 if said.usage.is_some() => return Ok(said),
                0 => return Err(std::io::Error::other("it is ending, or this user may not ask")),
                count => decoder.push(&buffer[..count]),
            },
        }
    }
}
