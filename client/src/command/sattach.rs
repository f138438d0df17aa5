//! `sattach`: looks on at a step that runs, and may give it input.
//!
//! The scheduler says where the step's supervisors listen; they let its owner and root look on. What the step said before is
//! not shown, but for what its srun has not taken yet. srun stays the client: it alone is waited for, and a watcher that
//! does not read in time is told how much it has missed.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use executor_supervisor::frame::{
    self, ABORTED, ALL_RANKS, CHUNK, Decoder, Frame, Position, Stream, VERSION, WINDOW,
};
use executor_supervisor::outcome::Exit;
use model::refusal::Refusal;
use proto::v1::{Job, JobFilter, ListJobsRequest, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::job::Selector;
use super::srun::output::{Output, Place};
use super::srun::report::Report;
use super::srun::terminal::Raw;
use super::{Call, block_on};
use crate::attach::as_seen_here;
use crate::getopt::Spec;
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::say;

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    ErrorFilter,
    Help,
    InputFilter,
    Label,
    Layout,
    OutputFilter,
    Pty,
    Quiet,
    Usage,
    Verbose,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::long(O::ErrorFilter, "error-filter", Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::InputFilter, "input-filter", Value),
    Spec::new(O::Label, b'l', "label", Nothing),
    Spec::long(O::Layout, "layout", Nothing),
    Spec::long(O::OutputFilter, "output-filter", Value),
    Spec::long(O::Pty, "pty", Maybe),
    Spec::new(O::Quiet, b'Q', "quiet", Nothing),
    Spec::new(O::Usage, b'u', "usage", Nothing),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
];

const USAGE: &str = "Usage: sattach [options] <jobid.stepid>\n";

struct Asked {
    selector: Selector,
    layout: bool,
    label: bool,
    pty: bool,
    quiet: bool,
    /// Of input, output and errors: `None`: all ranks; a number: that one's.
    filters: [Option<u32>; 3],
}

/// Runs the command; its exit status is the highest of the tasks'.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(attach(call, &asked)),
        Err(status) => status,
    }
}

fn read(call: &Call) -> Result<Asked, u8> {
    let words = call.split(OPTIONS)?;
    let (mut layout, mut label, mut pty, mut quiet) = (false, false, false, false);
    let mut filters = [None; 3];
    for given in &words.options {
        let filter = || match given.text().parse::<u32>() {
            Ok(rank) => Ok(Some(rank)),
            Err(_) if given.text().eq_ignore_ascii_case("all") => Ok(None),
            Err(_) => {
                say::error(&call.program, format!("\"{}\" is not a task number", given.text()));
                Err(1)
            }
        };
        match given.id {
            O::InputFilter => filters[0] = filter()?,
            O::OutputFilter => filters[1] = filter()?,
            O::ErrorFilter => filters[2] = filter()?,
            O::Label => label = true,
            O::Layout => layout = true,
            O::Pty => pty = true,
            O::Quiet => quiet = true,
            O::Verbose => {}
            O::Usage => {
                say::out(USAGE);
                return Err(0);
            }
            O::Help => {
                say::out(HELP);
                return Err(0);
            }
            O::Version => {
                say::out(super::version() + "\n");
                return Err(0);
            }
        }
    }
    let [word] = words.operands.as_slice() else {
        say::error(&call.program, "too many parameters");
        say::out(USAGE);
        return Err(1);
    };
    let text = word.to_string_lossy();
    let selector = Selector::parse(&text).ok_or_else(|| {
        say::fatal(&call.program, format!("Bad job/step specified: {text}: JobID can not be zero"));
        1
    })?;
    if pty && filters != [None; 3] {
        say::error(
            &call.program,
            "--pty is not compatible with --input-filter, --output-filter, --error-filter",
        );
        return Err(1);
    }
    Ok(Asked { selector, layout, label, pty, quiet, filters })
}

async fn attach(call: &Call, asked: &Asked) -> u8 {
    let (job, step) = match find(call, &asked.selector).await {
        Ok(found) => found,
        Err(status) => return status,
    };
    let input = match asked.filters[0] {
        _ if asked.layout => None,
        None => Some(ALL_RANKS),
        rank => rank,
    };
    let mut nodes = Vec::new();
    for socket in &step.sockets {
        match Watched::open(socket, input).await {
            Ok(node) => nodes.push(node),
            Err(error) => {
                say::error(
                    &call.program,
                    format!("Could not attach to step {}.{}: {error}", job.job_id, step.step_id),
                );
                return 1;
            }
        }
    }
    if asked.layout {
        say::out(layout(&step, &nodes));
        return 0;
    }
    match follow(call, asked, &step, nodes).await {
        Ok(status) => status,
        Err(error) => {
            say::error(&call.program, super::os_text(&error));
            1
        }
    }
}

/// The step, if it runs.
async fn find(call: &Call, selector: &Selector) -> Result<(Job, Step), u8> {
    let refuse = |text: String| {
        say::error(&call.program, format!("Could not get job step info: {text}"));
        1
    };
    let client = super::connect().await.map_err(|error| {
        let status = refuse(say::reason(&error));
        say::explain(&call.program, &error);
        status
    })?;
    let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
    let request = ListJobsRequest { filter: Some(filter), include_ended: true, with_steps: true, all: true };
    let (jobs, _) = client.list_jobs(request).await.map_err(|error| refuse(say::reason(&error)))?;
    let job = jobs.iter().find_map(|job| selector.select(job));
    let job = job.ok_or_else(|| refuse(Refusal::InvalidJobId.to_string()))?;
    let runs = |step: &&Step| step.end_ms.is_none() && !step.sockets.is_empty();
    let step = match &selector.step {
        Some(name) => job.steps.iter().find(|step| step.step_id == *name && runs(step)),
        None => {
            say::error(
                &call.program,
                format!("No step of job {} is named; say {}.STEP", selector.job_id, selector.job_id),
            );
            return Err(1);
        }
    };
    let step = step.cloned().ok_or_else(|| refuse(Refusal::InvalidJobId.to_string()))?;
    Ok((job, step))
}

/// Slurm's text: which ranks are where.
fn layout(step: &Step, nodes: &[Watched]) -> String {
    let mut text = format!(
        "Job step layout:\n\t{} tasks, {} nodes ({})\n\n",
        step.num_tasks, step.num_nodes, step.node_list
    );
    for (at, (held, node)) in step.allocation.iter().zip(nodes).enumerate() {
        let ranks: Vec<String> = node.ranks.iter().map(u32::to_string).collect();
        text += &format!("\tNode {at} ({}), {} task(s): {}\n", held.node, ranks.len(), ranks.join(" "));
    }
    text
}

/// A node that lets us look on.
struct Watched {
    ranks: Vec<u32>,
    stream: UnixStream,
    decoder: Decoder,
}

impl Watched {
    async fn open(socket: &str, input: Option<u32>) -> io::Result<Self> {
        let path: PathBuf = as_seen_here(socket);
        let (_open, short) = frame::short_path(&path)?;
        let mut stream = UnixStream::connect(short).await?;
        stream.write_all(&Frame::Watch { version: VERSION, input }.to_bytes()).await?;
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            match decoder.next_frame().map_err(io::Error::other)? {
                Some(Frame::Welcome { ranks, .. }) => return Ok(Self { ranks, stream, decoder }),
                Some(Frame::Refused { reason }) => return Err(io::Error::other(reason)),
                Some(_) => return Err(io::Error::other("an answer that is none")),
                None => {}
            }
            match stream.read(&mut buffer).await? {
                0 => return Err(io::Error::other("it is ending, or this user may not attach")),
                count => decoder.push(&buffer[..count]),
            }
        }
    }
}

/// What the nodes say, and what was missed of it.
struct Course {
    output: Output,
    report: Report,
    positions: BTreeMap<(u32, Stream), u64>,
    missed: BTreeMap<u32, u64>,
}

async fn follow(call: &Call, asked: &Asked, step: &Step, nodes: Vec<Watched>) -> io::Result<u8> {
    let [_, out, err] = asked.filters;
    let (out, err) = (Place::Terminal(out), Some(Place::Terminal(err)));
    let mut course = Course {
        output: Output::open(out, err, false, asked.label && !asked.pty, step.num_tasks)?,
        report: Report::default(),
        positions: BTreeMap::new(),
        missed: BTreeMap::new(),
    };
    let raw = asked.pty.then(Raw::enter);
    let (sender, mut events) = mpsc::channel::<(usize, Option<Frame>)>(64);
    let mut inputs = Vec::new();
    for (at, node) in nodes.into_iter().enumerate() {
        let (read, write) = node.stream.into_split();
        let (acknowledged, window) = tokio::sync::watch::channel(0_u64);
        inputs.push((write, window));
        let sender = sender.clone();
        let mut decoder = node.decoder;
        tokio::spawn(async move {
            let mut read = read;
            let mut buffer = vec![0; CHUNK];
            loop {
                match decoder.next_frame() {
                    Ok(Some(Frame::Ack { position })) => drop(acknowledged.send(position.offset)),
                    Ok(Some(frame)) => {
                        if sender.send((at, Some(frame))).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => match read.read(&mut buffer).await {
                        Ok(0) | Err(_) => break,
                        Ok(count) => decoder.push(&buffer[..count]),
                    },
                    Err(_) => break,
                }
            }
            // An owner that has gone wants nothing more.
            let _ = sender.send((at, None)).await;
        });
    }
    drop(sender);
    tokio::spawn(feed(inputs));
    let mut open = step.sockets.len();
    while open > 0 {
        let Some((node, frame)) = events.recv().await else { break };
        match frame {
            Some(Frame::Ended) | None => open -= 1,
            Some(frame) => course.take(node, frame)?,
        }
    }
    drop(raw);
    for (rank, bytes) in &course.missed {
        say::error(
            &call.program,
            format!("task {rank}: {bytes} bytes were not read in time and are left out"),
        );
    }
    if !asked.quiet {
        let names: Vec<String> = step.allocation.iter().map(|held| held.node.clone()).collect();
        course.report.tell(&names).iter().for_each(|line| line.say(&call.program));
    }
    Ok(course.report.status())
}

impl Course {
    fn take(&mut self, node: usize, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Data { position: Position { rank, stream, offset }, bytes } => {
                let next = self.positions.insert((rank, stream), offset + bytes.len() as u64);
                if let Some(next) = next.filter(|next| *next < offset) {
                    *self.missed.entry(rank).or_default() += offset - next;
                }
                self.output.write(rank, stream, &bytes)?;
            }
            Frame::Close { position } => self.output.close(position.rank, position.stream)?,
            Frame::Exited { rank, exit: Exit { code, signal }, .. } => {
                self.report.add(node, rank, Exit { code, signal });
            }
            Frame::Note { text, .. } if text.starts_with(ABORTED) => {}
            Frame::Note { text, .. } => say::err(text),
            _ => {}
        }
        Ok(())
    }
}

/// Standard input for all nodes, no more than each has promised to take.
async fn feed(mut nodes: Vec<(OwnedWriteHalf, tokio::sync::watch::Receiver<u64>)>) {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    // A thread of its own, because a read of a terminal cannot be taken back; it goes with the process.
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count) = io::stdin().read(&mut buffer) {
            if count == 0 || sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let position = |offset| Position { rank: ALL_RANKS, stream: Stream::Input, offset };
    let mut offset = 0;
    while let Some(bytes) = pieces.recv().await {
        let end = offset + bytes.len() as u64;
        for (write, window) in &mut nodes {
            // One that has ended takes nothing more.
            let _ = window.wait_for(|taken| end <= taken + WINDOW as u64).await;
            let frame = Frame::Data { position: position(offset), bytes: bytes.clone() };
            let _ = write.write_all(&frame.to_bytes()).await;
        }
        offset = end;
    }
    for (write, _) in &mut nodes {
        let _ = write.write_all(&Frame::Close { position: position(offset) }.to_bytes()).await;
    }
    // The connections stay open for what the nodes say.
    std::future::pending::<()>().await;
}

const HELP: &str = "\
Usage: sattach [options] <jobid.stepid>
      --error-filter=TASK   show the errors of this task only (default: all)
  -h, --help                print this and exit
      --input-filter=TASK   give standard input to this task only (default: all)
  -l, --label               put the task's number before each line
      --layout              print where the tasks are, and exit
      --output-filter=TASK  show the output of this task only (default: all)
      --pty                 the step has a pseudo terminal: pass keys on as they are
  -Q, --quiet               say nothing of tasks that fail
  -u, --usage               print a short usage and exit
  -V, --version             print the version and exit
  -v, --verbose             say more
";

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked, u8> {
        let argv = words.iter().map(|word| (*word).into()).collect();
        read(&Call { program: "sattach".to_owned(), argv })
    }

    #[test]
    fn options_are_read() {
        let found =
            asked(&["-l", "--output-filter=1", "--input-filter", "0", "7.2"]).unwrap_or_else(|_| panic!());
        assert_eq!((found.selector.job_id, found.selector.step.as_deref()), (7, Some("2")));
        assert_eq!((found.label, found.filters), (true, [Some(0), Some(1), None]));
        for wrong in [
            &[][..],
            &["7.0", "8.0"],
            &["abc"],
            &["--pty", "--error-filter=1", "7.0"],
            &["--output-filter=x", "7.0"],
        ] {
            assert_eq!(asked(wrong).err(), Some(1), "{wrong:?}");
        }
    }
}
