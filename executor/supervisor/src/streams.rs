//! Bounded buffers between the tasks' pipes and the client.
//!
//! Output: what was read from a pipe and is not acknowledged, at most `OUTPUT_WINDOW` bytes a stream; a full
//! buffer is not read into, which blocks its task. Input: one stream for all tasks that take input, kept
//! until the slowest of them has taken it. Neither knows about connections; `sent` is where the
//! present client stands.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use executor_supervisor::frame::{ALL_RANKS, Frame, OUTPUT_CHUNK, OUTPUT_WINDOW, Position, Stream, WINDOW};

use crate::sys;

/// One output stream of one task.
pub(crate) struct Output {
    rank: u32,
    stream: Stream,
    /// `None` after the end.
    fd: Option<OwnedFd>,
    /// It has no descriptor: its bytes are pushed, until it is finished.
    pushed: bool,
    /// Offset of the buffer's first byte: all before is acknowledged.
    base: u64,
    buffer: VecDeque<u8>,
    sent: u64,
    close_sent: bool,
    close_acknowledged: bool,
    /// Bytes at the buffer's end that watchers were not shown.
    unshown: usize,
    end_shown: bool,
}

impl Output {
    pub(crate) fn new(rank: u32, stream: Stream, fd: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(fd.as_fd())?;
        Ok(Self { rank, stream, fd: Some(fd), pushed: false, ..Self::exchange() })
    }

    /// The exchange stream of a server in this process.
    pub(crate) fn exchange() -> Self {
        Self {
            rank: ALL_RANKS,
            stream: Stream::Exchange,
            fd: None,
            pushed: true,
            base: 0,
            buffer: VecDeque::new(),
            sent: 0,
            close_sent: false,
            close_acknowledged: false,
            unshown: 0,
            end_shown: false,
        }
    }

    /// Adds bytes of an exchange stream. Who pushes keeps them few: a part of a fence at a time.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Lets go of the descriptor: nothing more is read.
    pub(crate) fn hang_up(&mut self) {
        self.fd = None;
    }

    fn has_ended(&self) -> bool {
        self.fd.is_none() && !self.pushed
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
    // By itself: its buffer must not be part of the frame that every supervisor's main loop touches.
    #[inline(never)]
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
                self.unshown += count;
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
        self.pushed = false;
        while self.fd.is_some() && self.buffer.len() < OUTPUT_WINDOW {
            if self.fill() {
                self.fd = None;
            }
        }
    }

    /// All was read and acknowledged, its end too.
    pub(crate) fn is_delivered(&self) -> bool {
        self.has_ended() && self.buffer.is_empty() && self.close_acknowledged
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

    /// Frames of the bytes from this place in the buffer on.
    fn frames_from(&self, mut start: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while start < self.buffer.len() {
            let bytes = self.copy(start, OUTPUT_CHUNK);
            let position = self.position(self.base + start as u64);
            start += bytes.len();
            frames.push(Frame::Data { position, bytes });
        }
        frames
    }

    /// What watchers were not shown yet. Must be asked for before any of it can be acknowledged.
    fn show(&mut self) -> Vec<Frame> {
        if self.stream == Stream::Exchange {
            return Vec::new();
        }
        let count = std::mem::take(&mut self.unshown).min(self.buffer.len());
        let mut frames = self.frames_from(self.buffer.len() - count);
        if self.has_ended() && !self.end_shown {
            self.end_shown = true;
            frames.push(Frame::Close { position: self.position(self.end()) });
        }
        frames
    }

    /// What is kept, for a watcher that comes now.
    fn kept(&self) -> Vec<Frame> {
        if self.stream == Stream::Exchange {
            return Vec::new();
        }
        let mut frames = self.frames_from(0);
        if self.end_shown {
            frames.push(Frame::Close { position: self.position(self.end()) });
        }
        frames
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
        if self.has_ended() && !self.close_sent {
            self.close_sent = true;
            return Some(Frame::Close { position: self.position(self.end()) });
        }
        None
    }
}

/// A task that takes input.
struct Taker {
    rank: u32,
    fd: OwnedFd,
    offset: u64,
    terminal: bool,
}

/// The step's input on this node, or what comes in of its exchange.
pub(crate) struct Input {
    stream: Stream,
    base: u64,
    buffer: VecDeque<u8>,
    closed: bool,
    takers: Vec<Taker>,
    acknowledged: u64,
}

impl Input {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, base: 0, buffer: VecDeque::new(), closed: false, takers: Vec::new(), acknowledged: 0 }
    }

    pub(crate) fn add(&mut self, rank: u32, fd: OwnedFd, terminal: bool) -> io::Result<()> {
        sys::set_nonblocking(fd.as_fd())?;
        self.takers.push(Taker { rank, fd, offset: 0, terminal });
        Ok(())
    }

    /// Input of somebody else for the tasks that take this one; of one rank where it is named.
    pub(crate) fn beside(&self, rank: u32) -> io::Result<Self> {
        let mut other = Self::new(self.stream);
        for taker in self.takers.iter().filter(|taker| rank == ALL_RANKS || taker.rank == rank) {
            let fd = sys::keep(taker.fd.as_raw_fd())?;
            other.takers.push(Taker { rank: taker.rank, fd, offset: 0, terminal: taker.terminal });
        }
        Ok(other)
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
        let position = Position { rank: ALL_RANKS, stream: self.stream, offset: self.base };
        Some(Frame::Ack { position })
    }
}

/// Every stream of the step on this node.
pub(crate) struct Streams {
    /// The first is the exchange's, where there is one.
    pub(crate) outputs: Vec<Output>,
    pub(crate) input: Input,
    /// What comes in of the exchange, where there is one.
    pub(crate) exchange: Option<Input>,
    /// The terminal, for its size.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { outputs: Vec::new(), input: Input::new(Stream::Input), exchange: None, terminal: None }
    }

    /// A client takes over where it says.
    pub(crate) fn rewind(&mut self, received: &[Position]) {
        for output in &mut self.outputs {
            let known = received.iter().find(|at| at.rank == output.rank && at.stream == output.stream);
            output.rewind(known.map_or(0, |at| at.offset));
        }
        self.input.acknowledged = u64::MAX;
        if let Some(exchange) = &mut self.exchange {
            exchange.acknowledged = u64::MAX;
        }
    }

    pub(crate) fn acknowledge(&mut self, at: Position) {
        let found =
            self.outputs.iter_mut().find(|output| output.rank == at.rank && output.stream == at.stream);
        if let Some(output) = found {
            output.acknowledge(at.offset);
        }
    }

    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        let frame = self.outputs.iter_mut().find_map(Output::next_frame);
        frame
            .or_else(|| self.input.next_frame())
            .or_else(|| self.exchange.as_mut().and_then(Input::next_frame))
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.outputs.iter().all(Output::is_delivered)
    }

    /// Nothing more will be read of any output.
    pub(crate) fn has_ended(&self) -> bool {
        self.outputs.iter().all(Output::has_ended)
    }

    /// What is kept, for a watcher that comes now; it must be shown what the others were not before.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Frame> {
        self.outputs.iter().flat_map(Output::kept)
    }

    /// Nobody watches.
    pub(crate) fn show_nobody(&mut self) {
        for output in &mut self.outputs {
            output.unshown = 0;
            output.end_shown = output.has_ended();
        }
    }

    /// What watchers were not shown yet.
    pub(crate) fn show(&mut self) -> Vec<Frame> {
        self.outputs.iter_mut().flat_map(Output::show).collect()
    }
}
