//! Bounded buffers between the tasks' pipes and the client.
//!
//! Output: what was read from a pipe and is not acknowledged, at most `OUTPUT_WINDOW` bytes a stream; a full
//! buffer is not read into, which blocks its task. Input: one stream for all tasks that take input, kept
//! until the slowest of them has taken it. Neither knows about connections; `sent` is where the
//! present client stands.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use executor_supervisor::frame::{ALL_RANKS, Frame, OUTPUT_CHUNK, OUTPUT_WINDOW, Position, Stream, WINDOW};

use crate::sys;

/// One output stream of one task.
pub(crate) struct Output {
    rank: u32,
    stream: Stream,
    /// `None` after the end.
    fd: Option<OwnedFd>,
    /// Offset of the buffer's first byte: all before is acknowledged.
    base: u64,
    buffer: VecDeque<u8>,
    sent: u64,
    close_sent: bool,
    close_acknowledged: bool,
}

impl Output {
    pub(crate) fn new(rank: u32, stream: Stream, fd: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(fd.as_fd())?;
        Ok(Self {
            rank,
            stream,
            fd: Some(fd),
            base: 0,
            buffer: VecDeque::new(),
            sent: 0,
            close_sent: false,
            close_acknowledged: false,
        })
    }

    fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    fn position(&self, offset: u64) -> Position {
        Position { rank: self.rank, stream: self.stream, offset }
    }

    /// The descriptor, while there is room for what it may say.
    pub(crate) fn wants(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| self.buffer.len() < OUTPUT_WINDOW)
    }

    /// Reads what is there. True: nothing more is in the pipe now, or will ever be.
    pub(crate) fn fill(&mut self) -> bool {
        let Some(fd) = &self.fd else { return true };
        let mut bytes = [0_u8; OUTPUT_CHUNK];
        let room = OUTPUT_CHUNK.min(OUTPUT_WINDOW - self.buffer.len());
        if room == 0 {
            return false;
        }
        match sys::read(fd.as_fd(), &mut bytes[..room]) {
            Ok(0) => self.fd = None,
            Ok(count) => {
                self.buffer.extend(&bytes[..count]);
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            // A terminal whose last user is gone says EIO.
            Err(_) => self.fd = None,
        }
        true
    }

    /// Takes the rest once no process of the step is left. Somebody outside may hold the pipe open for
    /// ever (a descriptor can be passed on); what the step wrote is in it already.
    pub(crate) fn finish(&mut self) {
        while self.fd.is_some() && self.buffer.len() < OUTPUT_WINDOW {
            if self.fill() {
                self.fd = None;
            }
        }
    }

    /// All was read and acknowledged, its end too.
    pub(crate) fn is_delivered(&self) -> bool {
        self.fd.is_none() && self.buffer.is_empty() && self.close_acknowledged
    }

    /// A client that has `offset` bytes takes over.
    fn rewind(&mut self, offset: u64) {
        self.acknowledge(offset);
        self.sent = self.base.max(offset).min(self.end());
        self.close_sent = false;
    }

    fn acknowledge(&mut self, offset: u64) {
        let gone = offset.saturating_sub(self.base).min(self.buffer.len() as u64);
        self.buffer.drain(..usize::try_from(gone).expect("at most the buffer's length"));
        self.base += gone;
        if self.close_sent && self.base == self.end() && offset >= self.end() {
            self.close_acknowledged = true;
        }
    }

    /// At most so many bytes of the buffer from a place on. In pieces: byte by byte it would be most of the work.
    fn copy(&self, start: usize, most: usize) -> Vec<u8> {
        let end = self.buffer.len().min(start + most);
        let (front, back) = self.buffer.as_slices();
        let cut = |slice: &[u8], before: usize| {
            let (from, to) = (start.saturating_sub(before), end.saturating_sub(before));
            from.min(slice.len())..to.min(slice.len())
        };
        let mut bytes = Vec::with_capacity(end - start);
        bytes.extend_from_slice(&front[cut(front, 0)]);
        bytes.extend_from_slice(&back[cut(back, front.len())]);
        bytes
    }

    /// The next frame for the client, if there is one.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        if self.sent < self.end() {
            let start = usize::try_from(self.sent - self.base).expect("within the buffer");
            let bytes = self.copy(start, OUTPUT_CHUNK);
            let position = self.position(self.sent);
            self.sent += bytes.len() as u64;
            return Some(Frame::Data { position, bytes });
        }
        if self.fd.is_none() && !self.close_sent {
            self.close_sent = true;
            return Some(Frame::Close { position: self.position(self.end()) });
        }
        None
    }
}

/// A task that takes input.
struct Taker {
    fd: OwnedFd,
    offset: u64,
    terminal: bool,
}

/// The step's input on this node.
#[derive(Default)]
pub(crate) struct Input {
    base: u64,
    buffer: VecDeque<u8>,
    closed: bool,
    takers: Vec<Taker>,
    acknowledged: u64,
}

impl Input {
    pub(crate) fn add(&mut self, fd: OwnedFd, terminal: bool) -> io::Result<()> {
        sys::set_nonblocking(fd.as_fd())?;
        self.takers.push(Taker { fd, offset: 0, terminal });
        Ok(())
    }

    /// Bytes that have arrived in all.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// Takes bytes of a client. False: it broke the rules.
    pub(crate) fn push(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let end = self.end();
        if offset > end {
            return false;
        }
        // What is there already was sent again after a reconnect.
        let known = usize::try_from(end - offset).unwrap_or(usize::MAX).min(bytes.len());
        let new = &bytes[known..];
        if self.buffer.len() + new.len() > WINDOW {
            return false;
        }
        if !self.closed {
            self.buffer.extend(new);
        }
        self.feed();
        true
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.feed();
    }

    /// Descriptors that have something to take.
    pub(crate) fn wanting(&self) -> impl Iterator<Item = &OwnedFd> {
        let end = self.end();
        self.takers.iter().filter(move |taker| taker.offset < end).map(|taker| &taker.fd)
    }

    /// Writes what the tasks take now; drops what all have.
    pub(crate) fn feed(&mut self) {
        let (base, end, closed) = (self.base, self.end(), self.closed);
        let bytes = self.buffer.make_contiguous();
        self.takers.retain_mut(|taker| {
            while taker.offset < end {
                let start = usize::try_from(taker.offset - base).expect("within the buffer");
                match sys::write(taker.fd.as_fd(), &bytes[start..]) {
                    Ok(count) => taker.offset += count as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The task has closed its input, or is gone.
                    Err(_) => return false,
                }
            }
            if closed && taker.terminal {
                // End of file, as a person types it.
                let _ = sys::write(taker.fd.as_fd(), b"\x04");
            }
            !closed
        });
        let slowest = self.takers.iter().map(|taker| taker.offset).min().unwrap_or(end);
        self.buffer.drain(..usize::try_from(slowest - base).expect("within the buffer"));
        self.base = slowest;
    }

    /// How far the client may count its input as taken, where that is news.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        if self.acknowledged == self.base {
            return None;
        }
        self.acknowledged = self.base;
        let position = Position { rank: ALL_RANKS, stream: Stream::Input, offset: self.base };
        Some(Frame::Ack { position })
    }
}

/// Every stream of the step on this node.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) outputs: Vec<Output>,
    pub(crate) input: Input,
    /// The terminal, for its size.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Streams {
    /// A client takes over where it says.
    pub(crate) fn rewind(&mut self, received: &[Position]) {
        for output in &mut self.outputs {
            let known = received.iter().find(|at| at.rank == output.rank && at.stream == output.stream);
            output.rewind(known.map_or(0, |at| at.offset));
        }
        self.input.acknowledged = u64::MAX;
    }

    pub(crate) fn acknowledge(&mut self, at: Position) {
        let found =
            self.outputs.iter_mut().find(|output| output.rank == at.rank && output.stream == at.stream);
        if let Some(output) = found {
            output.acknowledge(at.offset);
        }
    }

    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        self.outputs.iter_mut().find_map(Output::next_frame).or_else(|| self.input.next_frame())
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.outputs.iter().all(Output::is_delivered)
    }
}
