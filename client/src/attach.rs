//! A client's connections to the supervisors of its step: streams, signals, the tasks' ends.
//!
//! One task for each node speaks the frames of `executor_supervisor::frame` and keeps its place in every
//! stream, so that a broken connection is made again and nothing is lost or printed twice. What comes in is
//! told to the owner through one bounded queue; a frame is acknowledged when the owner has taken it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use executor_supervisor::frame::{
    self, ALL_RANKS, CHUNK, Decoder, Frame, OUTPUT_CHUNK, Position, Stream, VERSION, WINDOW,
};
use executor_supervisor::outcome::Exit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Events that wait for the owner.
const EVENTS: usize = 64;
/// Orders that wait for one connection.
const ORDERS: usize = 8;
/// Tries to come back to a supervisor that was there before it counts as lost.
const RETURNS: u32 = 50;
/// Bytes read at once: two full frames of output.
const READ: usize = 2 * OUTPUT_CHUNK;
/// Pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// What a node's supervisor said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The supervisor answers: the tasks of its node are started.
    Attached { node: usize },
    /// Bytes of a task's stream, in order.
    Data { rank: u32, stream: Stream, bytes: Vec<u8> },
    /// A task's stream has ended.
    Close { rank: u32, stream: Stream },
    /// A task has ended.
    Exited { node: usize, rank: u32, exit: Exit },
    /// A line for the user.
    Note { text: String },
    /// Bytes of what a node tells the others.
    Exchange { node: usize, bytes: Vec<u8> },
    /// All is said.
    Ended { node: usize },
    /// The supervisor cannot be reached, or refuses; why.
    Lost { node: usize, reason: String },
}

/// Input for the tasks.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// These bytes.
    Input(Vec<u8>),
    /// No more comes.
    CloseInput,
}

/// What else the owner wants of a supervisor.
#[derive(Clone, Debug)]
enum Command {
    /// To be sent as it is: a signal, an end, a window's size.
    Send(Frame),
    /// Bytes of the exchange.
    Exchange(Vec<u8>),
}

/// The connections of one step.
pub(crate) struct Step {
    pub events: mpsc::Receiver<Event>,
    nodes: Vec<Handle>,
}

/// The ways to one connection. Commands have a way of their own: they must get through where the tasks take no input,
/// and whoever takes the events may not wait for a connection that waits for them. Its length needs no limit: a
/// person's signals, and one answer to each thing that the node has asked.
#[derive(Clone)]
struct Handle {
    input: mpsc::Sender<Order>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Step {
    /// Connects to the sockets, by node, showing the cookie.
    pub(crate) fn attach(sockets: Vec<PathBuf>, cookie: &[u8]) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut nodes = Vec::new();
        for (node, socket) in sockets.into_iter().enumerate() {
            let (input, orders) = mpsc::channel(ORDERS);
            let (commands, receiver) = mpsc::unbounded_channel();
            let line = Line {
                node,
                socket,
                cookie: cookie.to_vec(),
                events: sender.clone(),
                orders,
                commands: receiver,
                received: BTreeMap::new(),
                numbered: 0,
                welcomed: false,
                input: Input::new(Stream::Input),
                exchange: Input::new(Stream::Exchange),
            };
            tokio::spawn(line.run());
            nodes.push(Handle { input, commands });
        }
        Self { events, nodes }
    }

    /// A handle to send orders to all nodes.
    pub(crate) fn orders(&self) -> Orders {
        Orders { nodes: self.nodes.clone() }
    }
}

/// Sends orders to the nodes of a step. A connection that is over wants nothing more.
#[derive(Clone)]
pub(crate) struct Orders {
    nodes: Vec<Handle>,
}

impl Orders {
    /// Input for all nodes. Waits where one has more than it can take.
    pub(crate) async fn input(&self, order: &Order) {
        for node in &self.nodes {
            let _ = node.input.send(order.clone()).await;
        }
    }

    /// A frame for all nodes, as it is.
    pub(crate) fn send(&self, frame: &Frame) {
        for node in &self.nodes {
            let _ = node.commands.send(Command::Send(frame.clone()));
        }
    }

    /// Bytes of the exchange for one node.
    pub(crate) fn exchange(&self, node: usize, bytes: Vec<u8>) {
        if let Some(node) = self.nodes.get(node) {
            let _ = node.commands.send(Command::Exchange(bytes));
        }
    }
}

/// Bytes for a supervisor, of the tasks' input or of the exchange, that it has not acknowledged yet.
struct Input {
    stream: Stream,
    /// Offset of the first byte that is kept.
    start: u64,
    kept: VecDeque<u8>,
    /// Offset up to which bytes were sent on this connection.
    sent: u64,
    closed: bool,
    close_sent: bool,
}

impl Input {
    fn new(stream: Stream) -> Self {
        Self { stream, start: 0, kept: VecDeque::new(), sent: 0, closed: false, close_sent: false }
    }

    /// A connection begins: what was not acknowledged is sent again.
    fn rewind(&mut self) {
        (self.sent, self.close_sent) = (self.start, false);
    }

    fn end(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    fn has_room(&self) -> bool {
        !self.closed && self.kept.len() < WINDOW
    }

    fn acknowledge(&mut self, offset: u64) {
        let gone = offset.clamp(self.start, self.end()) - self.start;
        self.kept.drain(..gone as usize);
        self.start += gone;
        self.sent = self.sent.max(self.start);
    }

    /// The frames that are due: no more than the supervisor has promised to take.
    fn frames(&mut self) -> Vec<Frame> {
        let stream = self.stream;
        let position = |offset| Position { rank: ALL_RANKS, stream, offset };
        let mut frames = Vec::new();
        let until = self.end().min(self.start + WINDOW as u64);
        while self.sent < until {
            let from = (self.sent - self.start) as usize;
            let count = CHUNK.min((until - self.sent) as usize);
            let bytes: Vec<u8> = self.kept.range(from..from + count).copied().collect();
            let offset = self.sent;
            self.sent += bytes.len() as u64;
            frames.push(Frame::Data { position: position(offset), bytes });
        }
        if self.closed && !self.close_sent && self.sent == self.end() {
            self.close_sent = true;
            frames.push(Frame::Close { position: position(self.end()) });
        }
        frames
    }
}

/// One node's connection.
struct Line {
    node: usize,
    socket: PathBuf,
    cookie: Vec<u8>,
    events: mpsc::Sender<Event>,
    orders: mpsc::Receiver<Order>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// How much of each stream the owner has.
    received: BTreeMap<(u32, Stream), u64>,
    /// The last numbered event that the owner has.
    numbered: u32,
    /// The owner knows that the supervisor answered.
    welcomed: bool,
    input: Input,
    exchange: Input,
}

/// How a connection ended.
enum Over {
    /// All is said.
    Done,
    Broken(String),
    Refused(String),
}

impl Line {
    async fn run(mut self) {
        let (mut tries, mut was_there) = (0, false);
        loop {
            let over = match self.connect().await {
                Ok(stream) => {
                    (was_there, tries) = (true, 0);
                    self.speak(stream).await
                }
                Err(error) => Over::Broken(error.to_string()),
            };
            let event = match over {
                Over::Done => Event::Ended { node: self.node },
                Over::Refused(reason) => Event::Lost { node: self.node, reason },
                Over::Broken(reason) if was_there && tries >= RETURNS => {
                    Event::Lost { node: self.node, reason }
                }
                Over::Broken(_) => {
                    // The supervisor may not be there yet; the owner sees from the job whether it will be.
                    if self.events.is_closed() {
                        return;
                    }
                    tries += 1;
                    sleep(PAUSE).await;
                    continue;
                }
            };
            // An owner that has gone wants nothing more.
            let _ = self.events.send(event).await;
            return;
        }
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let (_folder, path) = frame::short_path(&self.socket)?;
        UnixStream::connect(path).await
    }

    async fn speak(&mut self, mut stream: UnixStream) -> Over {
        let received = self.received.iter();
        let received = received.map(|(&(rank, stream), &offset)| Position { rank, stream, offset }).collect();
        let attach = Frame::Attach { version: VERSION, cookie: self.cookie.clone(), received };
        if let Err(error) = stream.write_all(&attach.to_bytes()).await {
            return Over::Broken(error.to_string());
        }
        let (mut read, mut write) = stream.split();
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ];
        let (mut welcome, mut orders_over, mut commands_over) = (false, false, false);
        loop {
            let wants_orders = welcome && !orders_over && self.input.has_room();
            tokio::select! {
                count = read.read(&mut buffer) => match count {
                    Ok(0) => return Over::Broken("the supervisor closed the connection".to_owned()),
                    Ok(count) => decoder.push(&buffer[..count]),
                    Err(error) => return Over::Broken(error.to_string()),
                },
                command = self.commands.recv(), if welcome && !commands_over => match command {
                    Some(Command::Send(frame)) => {
                        if let Err(error) = write.write_all(&frame.to_bytes()).await {
                            return Over::Broken(error.to_string());
                        }
                    }
                    Some(Command::Exchange(bytes)) => self.exchange.kept.extend(bytes),
                    None => commands_over = true,
                },
                order = self.orders.recv(), if wants_orders => match order {
                    Some(Order::Input(bytes)) => self.input.kept.extend(bytes),
                    Some(Order::CloseInput) => self.input.closed = true,
                    None => orders_over = true,
                },
            }
            loop {
                match decoder.next_frame() {
                    Ok(None) => break,
                    Err(error) => return Over::Broken(error.to_string()),
                    Ok(Some(Frame::Welcome { input_offset, .. })) => {
                        welcome = true;
                        if !std::mem::replace(&mut self.welcomed, true)
                            && self.events.send(Event::Attached { node: self.node }).await.is_err()
                        {
                            return Over::Refused("the client has gone".to_owned());
                        }
                        self.input.acknowledge(input_offset);
                        self.input.rewind();
                        self.exchange.rewind();
                    }
                    Ok(Some(Frame::Refused { reason })) => return Over::Refused(reason),
                    Ok(Some(Frame::Ended)) => {
                        // All is here; a supervisor that does not hear it waits a while and goes.
                        let _ = write.write_all(&Frame::Leave.to_bytes()).await;
                        return Over::Done;
                    }
                    Ok(Some(frame)) => {
                        let Some(answer) = self.take(frame).await else {
                            return Over::Refused("the client has gone".to_owned());
                        };
                        if let Some(answer) = answer
                            && let Err(error) = write.write_all(&answer.to_bytes()).await
                        {
                            return Over::Broken(error.to_string());
                        }
                    }
                }
            }
            if welcome {
                for frame in self.exchange.frames().into_iter().chain(self.input.frames()) {
                    if let Err(error) = write.write_all(&frame.to_bytes()).await {
                        return Over::Broken(error.to_string());
                    }
                }
            }
        }
    }

    /// Hands a frame to the owner and gives the answer; `None` where the owner has gone.
    async fn take(&mut self, frame: Frame) -> Option<Option<Frame>> {
        match frame {
            Frame::Data { position, bytes } => {
                let key = (position.rank, position.stream);
                let have = self.received.get(&key).copied().unwrap_or(0);
                let end = position.offset + bytes.len() as u64;
                // What came before a broken connection may come again.
                if end > have {
                    let skip = usize::try_from(have.saturating_sub(position.offset)).unwrap_or(usize::MAX);
                    let bytes = match skip {
                        0 => bytes,
                        _ => bytes.get(skip..).unwrap_or_default().to_vec(),
                    };
                    let event = match position.stream {
                        Stream::Exchange => Event::Exchange { node: self.node, bytes },
                        stream => Event::Data { rank: position.rank, stream, bytes },
                    };
                    self.events.send(event).await.ok()?;
                    self.received.insert(key, end);
                }
                Some(Some(Frame::Ack { position: Position { offset: end.max(have), ..position } }))
            }
            Frame::Close { position } if position.stream == Stream::Exchange => {
                Some(Some(Frame::Ack { position }))
            }
            Frame::Close { position } => {
                let event = Event::Close { rank: position.rank, stream: position.stream };
                self.events.send(event).await.ok()?;
                Some(Some(Frame::Ack { position }))
            }
            Frame::Ack { position } => {
                match position.stream {
                    Stream::Exchange => self.exchange.acknowledge(position.offset),
                    _ => self.input.acknowledge(position.offset),
                }
                Some(None)
            }
            Frame::Exited { number, rank, exit } if number > self.numbered => {
                self.numbered = number;
                self.events.send(Event::Exited { node: self.node, rank, exit }).await.ok()?;
                Some(None)
            }
            Frame::Note { number, text } if number > self.numbered => {
                self.numbered = number;
                self.events.send(Event::Note { text }).await.ok()?;
                Some(None)
            }
            _ => Some(None),
        }
    }
}

/// A step's socket where this process sees it: in a container the node's run folders are elsewhere, and
/// `SLUICE_RUNS=OUTSIDE=INSIDE` says where.
pub(crate) fn as_seen_here(socket: &str) -> PathBuf {
    let moved = |text: String| {
        let (outside, inside) = text.rsplit_once('=')?;
        let rest = socket.strip_prefix(outside).filter(|rest| rest.starts_with('/'))?;
        Some(PathBuf::from(format!("{inside}{rest}")))
    };
    let there = std::env::var("SLUICE_RUNS").ok().and_then(moved);
    there.unwrap_or_else(|| PathBuf::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener as Listener;

    /// Input that comes in odd pieces stays within the window, and its end comes after it.
    #[test]
    fn no_more_is_sent_than_may_be() {
        let mut input = Input::new(Stream::Input);
        input.kept.extend(vec![7; WINDOW + 5]);
        input.closed = true;
        let sizes = |frames: Vec<Frame>| -> Vec<Option<usize>> {
            let size = |frame: &Frame| match frame {
                Frame::Data { bytes, .. } => Some(bytes.len()),
                _ => None,
            };
            frames.iter().map(size).collect()
        };
        assert_eq!(sizes(input.frames()), [Some(CHUNK); 4]);
        assert_eq!(sizes(input.frames()), []);
        input.acknowledge(2);
        assert_eq!(sizes(input.frames()), [Some(2)]);
        input.rewind();
        assert_eq!(sizes(input.frames()), [Some(CHUNK); 4]);
        input.acknowledge(WINDOW as u64);
        assert_eq!(sizes(input.frames()), [Some(3), None]);
    }

    /// A supervisor that breaks the connection once and then says the rest, the last bytes twice.
    #[test]
    fn a_broken_connection_loses_and_repeats_nothing() {
        let folder = std::env::temp_dir().join(format!("sluice-attach-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("s");
        let listener = Listener::bind(&socket).unwrap();
        let supervisor = std::thread::spawn(move || {
            let output = |offset, text: &str| Frame::Data {
                position: Position { rank: 0, stream: Stream::Output, offset },
                bytes: text.as_bytes().to_vec(),
            };
            let welcome = Frame::Welcome { version: VERSION, ranks: vec![0], input_offset: 0 };
            let send = |stream: &mut std::os::unix::net::UnixStream, frames: &[Frame]| {
                frames.iter().for_each(|frame| {
                    use std::io::Write;
                    stream.write_all(&frame.to_bytes()).unwrap();
                });
            };
            let (mut first, _) = listener.accept().unwrap();
            send(&mut first, &[welcome.clone(), output(0, "one ")]);
            // The client acknowledges what it has before the connection breaks.
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            let mut buffer = [0; 1024];
            while !seen.iter().any(|frame| matches!(frame, Frame::Ack { .. })) {
                let count = std::io::Read::read(&mut first, &mut buffer).unwrap();
                decoder.push(&buffer[..count]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            drop(first);
            let (mut second, _) = listener.accept().unwrap();
            let exit = Frame::Exited { number: 1, rank: 0, exit: Exit { code: 3, signal: 0 } };
            send(&mut second, &[welcome, output(0, "one two"), exit.clone(), exit, Frame::Ended]);
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut second, &mut rest).unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let events = runtime.block_on(async {
            let mut step = Step::attach(vec![socket.clone()], b"c");
            let mut events = Vec::new();
            while let Some(event) = step.events.recv().await {
                let last = matches!(event, Event::Ended { .. });
                events.push(event);
                if last {
                    break;
                }
            }
            events
        });
        supervisor.join().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let data =
            |text: &str| Event::Data { rank: 0, stream: Stream::Output, bytes: text.as_bytes().to_vec() };
        let exited = Event::Exited { node: 0, rank: 0, exit: Exit { code: 3, signal: 0 } };
        assert_eq!(
            events,
            [Event::Attached { node: 0 }, data("one "), data("two"), exited, Event::Ended { node: 0 }]
        );
    }
}
