//! Frames on a step's Unix socket, between its supervisor and a client or an executor.
//!
//! A frame is a length (u32, little-endian, of what follows), a kind (u8) and its fields. Nobody's
//! word is taken for who they are: the supervisor asks the kernel (`SO_PEERCRED`).
//!
//! ```text
//!  client                                   supervisor
//!  Attach{cookie, received…}  ───────────►
//!                             ◄───────────  Welcome{ranks, input offset}
//!  Data{INPUT…} Close         ───────────►  Ack{INPUT}: may send WINDOW bytes beyond it
//!  Ack{OUTPUT|ERROR}          ◄───────────  Data{OUTPUT|ERROR…} Close, Note, Exited
//!  Signal, Window, Terminate  ───────────►
//!  Data{EXCHANGE…} Ack        ◄─────────►  Data{EXCHANGE…} Ack: what the nodes tell each other
//!  Leave                      ◄───────────  Ended: every task's Exited was sent, every stream is acknowledged
//! ```
//!
//! Offsets count the bytes of one stream of one rank from its start. What is not acknowledged is kept
//! (at most [`WINDOW`] bytes of input and [`OUTPUT_WINDOW`] of an output; a full stream blocks its own task and nobody else), so that a
//! client that comes back says what it has and misses nothing. `Exited` and `Note` are sent again to a
//! client that comes back: they carry a number, and a client drops what it has seen.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::outcome::Exit;
use crate::wire::{Reader, Writer};

pub use crate::wire::Error;

/// Version of the frames, said by whoever speaks first.
pub const VERSION: u16 = 1;
/// Unacknowledged bytes of a step's input that either side keeps.
pub const WINDOW: usize = 64 * 1024;
/// Bytes of input in one frame.
pub const CHUNK: usize = 16 * 1024;
/// Unacknowledged bytes of one output that a supervisor keeps; memory is taken as they come.
pub const OUTPUT_WINDOW: usize = 256 * 1024;
/// Bytes of an output in one frame: what a pipe holds.
pub const OUTPUT_CHUNK: usize = 64 * 1024;
/// Longest frame without its length; a longer one ends the connection.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// The rank of the step's one input stream, which the supervisor hands to the tasks that take input, and of its exchange.
pub const ALL_RANKS: u32 = u32::MAX;
/// How the note begins that tells an srun of its step's end by somebody else: Slurm's srun says it itself, once, and does not
/// call such a step "Force Terminated" later. `sattach` does not show it.
pub const ABORTED: &str = "srun: Job step aborted: ";

/// The whole of that note, for a step that is killed after so long: srun allows two seconds more, as Slurm's does.
#[must_use]
pub fn aborted(kill_wait_ms: u64) -> String {
    format!("{ABORTED}Waiting up to {} seconds for job step to finish.", kill_wait_ms.div_ceil(1000) + 2)
}

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// What the nodes of the step tell each other ([`crate::exchange`]), in both directions.
    Exchange,
}

/// Why a step is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its user or an administrator.
    Cancel,
    /// Its time limit, expired elsewhere.
    TimeLimit,
    /// The job goes back to the queue.
    Requeue,
    /// Makes room.
    Preemption,
    /// Another node of the job failed.
    NodeFail,
    /// A task of the step ended badly, and one bad end is to end all.
    TaskFailure,
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Slurm's default: all processes of a step made by srun, none of a batch script's.
    Steps,
    /// The batch script's (or first task's) own process only.
    First,
    /// All processes.
    Full,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Rank, or [`ALL_RANKS`] for input.
    pub rank: u32,
    /// Which stream.
    pub stream: Stream,
    /// Bytes from its start.
    pub offset: u64,
}

/// What is said on a step's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields' names and types say it; offsets and ranks as in the module comment"
)]
pub enum Frame {
    /// First frame of a client: wants the streams from these positions on (those not named: from 0).
    Attach { version: u16, cookie: Vec<u8>, received: Vec<Position> },
    /// Answer to `Attach`: the ranks on this node, and how much input has arrived.
    Welcome { version: u16, ranks: Vec<u32>, input_offset: u64 },
    /// The asker may not, or it makes no sense now. For `Attach` the connection ends.
    Refused { reason: String },
    /// Bytes of a stream.
    Data { position: Position, bytes: Vec<u8> },
    /// The stream ends at this position.
    Close { position: Position },
    /// All before this position has arrived for good.
    Ack { position: Position },
    /// The terminal has another size.
    Window { rows: u16, columns: u16 },
    /// Send a signal.
    Signal { signal: u32, scope: Scope },
    /// TERM (with CONT), wait, KILL. An empty note: the supervisor's own words for the cause.
    Terminate { cause: Cause, kill_wait_ms: u64, note: String },
    /// Stop all processes; the time limit stands still.
    Suspend,
    /// Let them go on.
    Resume,
    /// A changed time limit, counted from the begin of the run.
    Limit { limit_ms: Option<u64> },
    /// Write a line into the job's output.
    Announce { text: String },
    /// A control frame was carried out.
    Done,
    /// A task ended. `number` counts from 1 over `Exited` and `Note`.
    Exited { number: u32, rank: u32, exit: Exit },
    /// A line for the user that is no task's output.
    Note { number: u32, text: String },
    /// All is said.
    Ended,
    /// The client has it all and goes.
    Leave,
    /// What does the step use now?
    AskUsage,
    /// The answer.
    Usage(Usage),
    /// First frame of who looks on (`sattach`): the job's owner or root wants all that is said from now on, and may give input
    /// to one rank, to all ([`ALL_RANKS`]) or to none. Answered by `Welcome`; nothing is acknowledged, and what it
    /// does not read in time is left out, which the offsets show.
    Watch { version: u16, input: Option<u32> },
    /// What did each of the tasks use, and what is the step held to? An older supervisor hangs up.
    AskAccount,
    /// The answer.
    Account(Box<Account>),
}

/// What a step's processes on one node use at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User CPU time of all that ever ran, µs.
    pub user_us: u64,
    /// System CPU time, µs.
    pub system_us: u64,
    /// Resident memory of all processes together, bytes.
    pub rss_bytes: u64,
    /// The most that was seen of it, bytes.
    pub max_rss_bytes: u64,
    /// Address space of all processes together, bytes.
    pub virtual_bytes: u64,
    /// Read from storage by the processes that live, bytes.
    pub read_bytes: u64,
    /// Written to storage by the processes that live, bytes.
    pub written_bytes: u64,
    /// The processes.
    pub pids: Vec<u32>,
}

impl Stream {
    fn number(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Error => 2,
            Self::Exchange => 3,
        }
    }
    fn read(fields: &mut Reader<'_>) -> Result<Self, Error> {
        match fields.u8("stream")? {
            0 => Ok(Self::Input),
            1 => Ok(Self::Output),
            2 => Ok(Self::Error),
            3 => Ok(Self::Exchange),
            _ => Err(Error::Value { what: "stream" }),
        }
    }
}

fn put_position(out: &mut Writer<'_>, position: &Position) {
    out.u32(position.rank);
    out.u8(position.stream.number());
    out.u64(position.offset);
}

fn get_position(fields: &mut Reader<'_>) -> Result<Position, Error> {
    Ok(Position { rank: fields.u32("rank")?, stream: Stream::read(fields)?, offset: fields.u64("offset")? })
}

fn put_usage(out: &mut Writer<'_>, usage: &Usage) {
    out.u64(usage.user_us);
    out.u64(usage.system_us);
    out.u64(usage.rss_bytes);
    out.u64(usage.max_rss_bytes);
    out.u64(usage.virtual_bytes);
    out.u64(usage.read_bytes);
    out.u64(usage.written_bytes);
    out.list(&usage.pids, |out, pid| out.u32(*pid));
}

fn get_usage(fields: &mut Reader<'_>) -> Result<Usage, Error> {
    Ok(Usage {
        user_us: fields.u64("user time")?,
        system_us: fields.u64("system time")?,
        rss_bytes: fields.u64("resident size")?,
        max_rss_bytes: fields.u64("resident size")?,
        virtual_bytes: fields.u64("address space")?,
        read_bytes: fields.u64("bytes read")?,
        written_bytes: fields.u64("bytes written")?,
        pids: fields.list("processes", |fields| fields.u32("process"))?,
    })
}

impl Frame {
    /// Appends the frame, its length first, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.put(&mut Writer(out));
        let length = u32::try_from(out.len() - start - 4).expect("a frame is far smaller than 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The frame as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }

    fn put(&self, out: &mut Writer<'_>) {
        match self {
            Self::Attach { version, cookie, received } => {
                out.u8(1);
                out.u16(*version);
                out.bytes(cookie);
                out.list(received, put_position);
            }
            Self::Welcome { version, ranks, input_offset } => {
                out.u8(2);
                out.u16(*version);
                out.list(ranks, |out, rank| out.u32(*rank));
                out.u64(*input_offset);
            }
            Self::Refused { reason } => {
                out.u8(3);
                out.bytes(reason.as_bytes());
            }
            Self::Data { position, bytes } => {
                out.u8(4);
                put_position(out, position);
                out.bytes(bytes);
            }
            Self::Close { position } => {
                out.u8(5);
                put_position(out, position);
            }
            Self::Ack { position } => {
                out.u8(6);
                put_position(out, position);
            }
            Self::Window { rows, columns } => {
                out.u8(7);
                out.u16(*rows);
                out.u16(*columns);
            }
            Self::Signal { signal, scope } => {
                out.u8(8);
                out.u32(*signal);
                out.u8(match scope {
                    Scope::Steps => 0,
                    Scope::First => 1,
                    Scope::Full => 2,
                });
            }
            Self::Terminate { cause, kill_wait_ms, note } => {
                out.u8(9);
                out.u8(match cause {
                    Cause::Cancel => 0,
                    Cause::TimeLimit => 1,
                    Cause::Requeue => 2,
                    Cause::Preemption => 3,
                    Cause::NodeFail => 4,
                    Cause::TaskFailure => 5,
                });
                out.u64(*kill_wait_ms);
                out.bytes(note.as_bytes());
            }
            Self::Suspend => out.u8(10),
            Self::Resume => out.u8(11),
            Self::Limit { limit_ms } => {
                out.u8(12);
                out.option(limit_ms.as_ref(), |out, limit| out.u64(*limit));
            }
            Self::Announce { text } => {
                out.u8(13);
                out.bytes(text.as_bytes());
            }
            Self::Done => out.u8(14),
            Self::Exited { number, rank, exit } => {
                out.u8(15);
                out.u32(*number);
                out.u32(*rank);
                out.u32(exit.code);
                out.u32(exit.signal);
            }
            Self::Note { number, text } => {
                out.u8(16);
                out.u32(*number);
                out.bytes(text.as_bytes());
            }
            Self::Ended => out.u8(17),
            Self::Leave => out.u8(18),
            Self::AskUsage => out.u8(19),
            Self::Usage(usage) => {
                out.u8(20);
                put_usage(out, usage);
            }
            Self::Watch { version, input } => {
                out.u8(21);
                out.u16(*version);
                out.option(input.as_ref(), |out, rank| out.u32(*rank));
            }
            Self::AskAccount => out.u8(22),
            Self::Account(account) => {
                out.u8(23);
                account.put(out);
            }
        }
    }

    /// Reads a frame from what follows its length.
    ///
    /// # Errors
    /// Unknown kind, torn fields, bytes left over.
    pub fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader(body);
        let frame = match fields.u8("kind")? {
            1 => Self::Attach {
                version: fields.u16("version")?,
                cookie: fields.bytes("cookie")?,
                received: fields.list("positions", get_position)?,
            },
            2 => Self::Welcome {
                version: fields.u16("version")?,
                ranks: fields.list("ranks", |fields| fields.u32("rank"))?,
                input_offset: fields.u64("offset")?,
            },
            3 => Self::Refused { reason: fields.text("reason")? },
            4 => Self::Data { position: get_position(&mut fields)?, bytes: fields.bytes("data")? },
            5 => Self::Close { position: get_position(&mut fields)? },
            6 => Self::Ack { position: get_position(&mut fields)? },
            7 => Self::Window { rows: fields.u16("rows")?, columns: fields.u16("columns")? },
            8 => Self::Signal {
                signal: fields.u32("signal")?,
                scope: match fields.u8("scope")? {
                    0 => Scope::Steps,
                    1 => Scope::First,
                    2 => Scope::Full,
                    _ => return Err(Error::Value { what: "scope" }),
                },
            },
            9 => Self::Terminate {
                cause: match fields.u8("cause")? {
                    0 => Cause::Cancel,
                    1 => Cause::TimeLimit,
                    2 => Cause::Requeue,
                    3 => Cause::Preemption,
                    4 => Cause::NodeFail,
                    5 => Cause::TaskFailure,
                    _ => return Err(Error::Value { what: "cause" }),
                },
                kill_wait_ms: fields.u64("kill wait")?,
                note: fields.text("note")?,
            },
            10 => Self::Suspend,
            11 => Self::Resume,
            12 => Self::Limit { limit_ms: fields.option("limit", |fields| fields.u64("limit"))? },
            13 => Self::Announce { text: fields.text("text")? },
            14 => Self::Done,
            15 => Self::Exited {
                number: fields.u32("number")?,
                rank: fields.u32("rank")?,
                exit: Exit { code: fields.u32("code")?, signal: fields.u32("signal")? },
            },
            16 => Self::Note { number: fields.u32("number")?, text: fields.text("text")? },
            17 => Self::Ended,
            18 => Self::Leave,
            19 => Self::AskUsage,
            20 => Self::Usage(get_usage(&mut fields)?),
            21 => Self::Watch {
                version: fields.u16("version")?,
                input: fields.option("input", |fields| fields.u32("rank"))?,
            },
            22 => Self::AskAccount,
            23 => Self::Account(Box::new(Account::get(&mut fields)?)),
            _ => return Err(Error::Value { what: "kind" }),
        };
        fields.end("frame")?;
        Ok(frame)
    }
}

/// Takes frames out of bytes as they arrive. Holds at most one frame beyond what is pushed at once.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The bytes are no frames; the connection is of no further use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let rest = &self.buffer[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Error::Long(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(body)?;
        self.taken += 4 + length;
        Ok(Some(frame))
    }
}

/// A path to the same socket that fits `sun_path` (107 bytes), and the open folder that it goes through,
/// which must stay open until the connection stands.
///
/// # Errors
/// The socket's folder cannot be opened.
pub fn short_path(socket: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if socket.as_os_str().len() <= 107 {
        return Ok((None, socket.to_owned()));
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = open_folder(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((Some(folder), path))
}

/// Opens a folder for passing through only (`O_PATH`): run folders can be entered, not listed.
fn open_folder(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    const O_PATH: i32 = 0o10_000_000;
    std::fs::OpenOptions::new().read(true).custom_flags(O_PATH).open(folder)
}

/// Connects to a step's socket, whatever the length of its path. Blocking.
///
/// # Errors
/// As [`UnixStream::connect`].
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (_folder, path) = short_path(socket)?;
    UnixStream::connect(path)
}

#[cfg(test)]
mod tests {
    use super::{ALL_RANKS, Cause, Decoder, FRAME_BYTES_MAX, Frame, Position, Scope, Stream, Usage, VERSION};
    use crate::account::Account;
    use crate::outcome::Exit;

    fn all() -> Vec<Frame> {
        let position = Position { rank: 3, stream: Stream::Error, offset: 1 << 40 };
        vec![
            Frame::Attach { version: VERSION, cookie: vec![0, 255], received: vec![position] },
            Frame::Welcome { version: VERSION, ranks: vec![0, 2], input_offset: 9 },
            Frame::Refused { reason: "no".to_owned() },
            Frame::Data { position, bytes: vec![0; 300] },
            Frame::Close { position },
            Frame::Ack { position: Position { rank: ALL_RANKS, stream: Stream::Input, offset: 0 } },
            Frame::Window { rows: 1, columns: 2 },
            Frame::Signal { signal: 10, scope: Scope::First },
            Frame::Terminate { cause: Cause::Preemption, kill_wait_ms: 7, note: "x".to_owned() },
            Frame::Suspend,
            Frame::Resume,
            Frame::Limit { limit_ms: Some(3) },
            Frame::Limit { limit_ms: None },
            Frame::Announce { text: "hé".to_owned() },
            Frame::Done,
            Frame::Exited { number: 1, rank: 2, exit: Exit { code: 3, signal: 0 } },
            Frame::Note { number: 2, text: String::new() },
            Frame::Ended,
            Frame::Leave,
            Frame::AskUsage,
            Frame::Usage(Usage { user_us: 1, max_rss_bytes: u64::MAX, pids: vec![3, 9], ..Usage::default() }),
            Frame::Watch { version: VERSION, input: Some(ALL_RANKS) },
            Frame::AskAccount,
            Frame::Account(Box::new(Account { held: "pids 7".to_owned(), ..Account::default() })),
        ]
    }

    #[test]
    fn frames_read_back_however_they_are_cut() {
        let mut bytes = Vec::new();
        all().iter().for_each(|frame| frame.encode(&mut bytes));
        for step in [1, 3, 7, 64, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, all(), "pieces of {step}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes());
        assert!(decoder.next_frame().is_err());
        for frame in all() {
            let bytes = frame.to_bytes();
            for cut in 4..bytes.len() {
                assert!(Frame::decode(&bytes[4..cut]).is_err(), "{frame:?} cut at {cut}");
            }
        }
        assert!(Frame::decode(&[99]).is_err());
    }
}
