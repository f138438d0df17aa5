//! One connection on the step's socket: bytes in and out, and who is at the other end.
//!
//! Knows nothing of what frames mean. A peer that sends rubbish, or that does not read while more than a
//! stated amount waits for it, loses its connection and nothing else happens.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use executor_supervisor::frame::{Decoder, Frame};

use crate::streams::Input;
use crate::sys;

/// Bytes that may wait for the peer before streams stop being sent.
const BACKLOG: usize = 128 * 1024;

/// Bytes of answers that may wait for a peer that does not read; then it loses its connection.
const ANSWERS_MAX: usize = 256 * 1024;

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Has not attached; may send control frames as its uid allows.
    Visitor,
    /// Gets the streams.
    Client {
        /// Numbered events it was sent.
        events_sent: usize,
        /// It was told that all is said.
        ended_sent: bool,
    },
    /// Gets what the streams say from now on, as long as it reads.
    Watcher {
        /// Numbered events it was sent.
        events_sent: usize,
        /// It was told that all is said.
        ended_sent: bool,
    },
}

/// A connection.
pub(crate) struct Session {
    stream: UnixStream,
    pub(crate) uid: u32,
    pub(crate) role: Role,
    /// Input that a watcher gives.
    pub(crate) input: Option<Box<Input>>,
    decoder: Decoder,
    out: Vec<u8>,
    written: usize,
    /// To be closed once the last bytes are out.
    pub(crate) closing: bool,
    pub(crate) gone: bool,
}

impl Session {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let uid = sys::peer_uid(stream.as_fd())?;
        Ok(Self {
            stream,
            uid,
            role: Role::Visitor,
            input: None,
            decoder: Decoder::default(),
            out: Vec::new(),
            written: 0,
            closing: false,
            gone: false,
        })
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        self.written < self.out.len()
    }

    /// May be sent more of a stream.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.written < BACKLOG
    }

    /// A watcher may be sent more; what has no room is left out.
    pub(crate) fn has_room_to_watch(&self) -> bool {
        self.out.len() - self.written < ANSWERS_MAX / 2
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.out);
        self.gone |= self.out.len() - self.written > ANSWERS_MAX;
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self) {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => self.gone = true,
                Ok(count) => {
                    self.written += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
            return;
        }
        self.out.clear();
        self.written = 0;
        if self.closing {
            self.gone = true;
        }
    }

    /// Reads one buffer full of what has arrived and hands out its frames.
    // By itself, for its buffer: as `Output::fill`.
    #[inline(never)]
    pub(crate) fn receive(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut buffer = [0_u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(count) => {
                self.decoder.push(&buffer[..count]);
                loop {
                    match self.decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(_) => {
                            self.gone = true;
                            break;
                        }
                    }
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        frames
    }
}
