//! Once, by strace: no acknowledgement is written to its socket before the sync of the frame that holds its job.
//!
//! The scheduler runs under strace while 64 clients submit. Afterwards the journal says in which frame, at which place of
//! which segment, each job is; strace's log says when that place was written, when a sync that began behind that write
//! returned, and when the answer with the job's number went into a socket. Nothing here believes the scheduler.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use benches::{Arguments, Report, Workplace};
use prost::Message;
use proto::v1::SubmitReply;
use scheduler::store::FileDisk;
use scheduler_core::record::Record;

use crate::clients::{Load, run};

/// A system call that returned: its lines in strace's log.
#[derive(Debug)]
struct Call {
    name: String,
    /// As printed between the parentheses.
    arguments: String,
    result: i64,
    begun: usize,
    ended: usize,
}

/// Runs the scheduler under strace, 64 clients against it, and compares. Fails at the first answer that came too early.
pub(crate) fn check(arguments: &Arguments, report: &mut Report) -> Result<()> {
    check_itself()?;
    let place = Workplace::new(1, 64, "")?;
    let log = place.folder().join("strace.log");
    let mut traced = place.wrapped_scheduler(&[
        "strace".as_ref(),
        "-f".as_ref(),
        "-y".as_ref(),
        "-xx".as_ref(),
        "-s".as_ref(),
        "1048576".as_ref(),
        "-e".as_ref(),
        "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg".as_ref(),
        "-o".as_ref(),
        log.as_os_str(),
    ])?;
    place.wait_socket(&mut traced).context("a scheduler under strace (apt-get install strace)")?;
    let span = Duration::from_millis(if arguments.tiny { 300 } else { 3000 });
    let load = Load { seed: arguments.seed, clients: 64, pipelined: false, span };
    let done = run(&place.socket(), &load);
    // Strace writes its last lines when the scheduler has gone.
    traced.terminate()?;
    let done = done?;
    let text = fs::read_to_string(&log).context("read strace's log")?;
    let calls = parse(&text)?;
    let frames = frames_of_jobs(&place)?;
    let durable = durable_at(&calls)?;
    let answers = answers(&calls)?;
    let mut checked = 0;
    for (job, answered) in &answers {
        let frame =
            frames.get(job).with_context(|| format!("job {job} was acknowledged and is in no frame"))?;
        let durable = durable.get(frame).with_context(|| format!("{frame:?} was never synced"))?;
        ensure!(
            durable < answered,
            "job {job}: answered in line {answered}, its frame durable in line {durable}"
        );
        checked += 1;
    }
    ensure!(checked == done.jobs(), "{checked} answers were seen, {} jobs were acknowledged", done.jobs());
    report.row("acknowledgements written after the sync of their frame", checked as f64, "of as many");
    report.row(
        "frames they were in",
        frames.values().collect::<std::collections::BTreeSet<_>>().len() as f64,
        "frames",
    );
    Ok(())
}

/// Where a frame is: name of the segment, offset.
type Place = (String, u64);

/// The frame of each job, as the journal's own reader finds it.
fn frames_of_jobs(place: &Workplace) -> Result<HashMap<u32, Place>> {
    let disk: Arc<dyn journal::Disk> = Arc::new(FileDisk::open(place.state()).context("open the state")?);
    let mut frames = HashMap::new();
    let mut failed = None;
    journal::inspect(&disk, &mut |frame| {
        for bytes in frame.records() {
            match scheduler_codec::read_record(bytes) {
                Ok(Some(Record::Job(job))) => {
                    frames
                        .entry(job.id.0)
                        .or_insert_with(|| (journal::segment_name(frame.segment()), frame.offset()));
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(frames), |error| Err(error.into()))
}

/// The calls of a log, in the order in which they returned. Strace stops a thread at each; a call that is interrupted
/// by another thread's stands in two lines.
fn parse(text: &str) -> Result<Vec<Call>> {
    let mut open: HashMap<&str, (usize, String, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let Some((thread, rest)) = content.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        let (begun, name, arguments) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, tail) = resumed.split_once(" resumed>").context("a resumed call")?;
                let Some((begun, name, mut arguments)) = open.remove(thread) else { continue };
                arguments.push_str(tail);
                (begun, name, arguments)
            }
            None => {
                let Some((name, arguments)) = rest.split_once('(') else { continue };
                if let Some(cut) = arguments.strip_suffix("<unfinished ...>") {
                    open.insert(thread, (line, name.to_owned(), cut.to_owned()));
                    continue;
                }
                (line, name.to_owned(), arguments.to_owned())
            }
        };
        // Strace pads: `) = 0`, `)          = 0`.
        let Some((arguments, result)) = arguments.rsplit_once("= ") else { continue };
        let Some(arguments) = arguments.trim_end().strip_suffix(')') else { continue };
        let result = result.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        calls.push(Call { name, arguments: arguments.to_owned(), result, begun, ended: line });
    }
    Ok(calls)
}

/// The path behind a call's descriptor, as `-y` prints it: `12</path>`, with `-xx` byte by byte.
fn path_of(call: &Call) -> Option<String> {
    let (_, rest) = call.arguments.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    if !path.contains("\\x") {
        return Some(path.to_owned());
    }
    let byte = |hex: &str| u8::from_str_radix(hex, 16).ok();
    let bytes: Option<Vec<u8>> = path.split("\\x").skip(1).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

/// The line in which each frame was durable: a sync that began after the write had returned has returned.
fn durable_at(calls: &[Call]) -> Result<BTreeMap<Place, usize>> {
    let mut waiting: HashMap<String, Vec<(u64, usize)>> = HashMap::new();
    let mut durable = BTreeMap::new();
    for call in calls {
        let Some(path) = path_of(call) else { continue };
        let Some(name) = path.rsplit('/').next().filter(|name| name.starts_with("journal-")) else {
            continue;
        };
        match call.name.as_str() {
            "pwrite64" => {
                let offset =
                    call.arguments.rsplit_once(", ").and_then(|(_, offset)| offset.trim().parse().ok());
                let offset: u64 = offset.with_context(|| format!("an offset in {}", call.arguments.len()))?;
                waiting.entry(name.to_owned()).or_default().push((offset, call.ended));
            }
            "fdatasync" | "fsync" => {
                ensure!(call.result == 0, "a sync of {name} failed");
                let list = waiting.entry(name.to_owned()).or_default();
                list.retain(|(offset, written)| {
                    let covered = *written < call.begun;
                    if covered {
                        // The first sync counts: a frame's place is written once.
                        durable.entry((name.to_owned(), *offset)).or_insert(call.ended);
                    }
                    !covered
                });
            }
            _ => {}
        }
    }
    Ok(durable)
}

/// For each job that was acknowledged, the line in which its answer began to be written.
fn answers(calls: &[Call]) -> Result<BTreeMap<u32, usize>> {
    // Bytes of each connection with the line that wrote each piece.
    let mut connections: BTreeMap<String, Vec<(usize, Vec<u8>)>> = BTreeMap::new();
    for call in calls {
        let is_socket =
            path_of(call).is_some_and(|path| path.starts_with("socket:") || path.starts_with("UNIX"));
        if !is_socket
            || call.result <= 0
            || !matches!(call.name.as_str(), "write" | "writev" | "sendto" | "sendmsg")
        {
            continue;
        }
        let mut bytes = quoted_bytes(&call.arguments)?;
        let written = usize::try_from(call.result).context("bytes written")?;
        ensure!(bytes.len() >= written, "strace shows {} of {written} bytes", bytes.len());
        bytes.truncate(written);
        let path = path_of(call).unwrap_or_default();
        connections.entry(path).or_default().push((call.begun, bytes));
    }
    let mut answers = BTreeMap::new();
    for pieces in connections.values() {
        for (line, message) in messages(pieces) {
            if let Ok(reply) = SubmitReply::decode(message.as_slice())
                && reply.job_id != 0
                && answers.insert(reply.job_id, line).is_some()
            {
                bail!("job {} was acknowledged twice", reply.job_id);
            }
        }
    }
    Ok(answers)
}

/// Every byte that `-xx` prints in quotes, in order.
fn quoted_bytes(arguments: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for quoted in arguments.split('"').skip(1).step_by(2) {
        for hex in quoted.split("\\x").skip(1) {
            bytes.push(u8::from_str_radix(hex, 16).with_context(|| format!("a byte: {hex}"))?);
        }
    }
    Ok(bytes)
}

/// The gRPC messages that a server wrote to one connection: the DATA frames of HTTP/2, put together by stream. With the
/// line that wrote the first byte of the frame that completed it.
fn messages(pieces: &[(usize, Vec<u8>)]) -> Vec<(usize, Vec<u8>)> {
    const HEAD: usize = 9;
    let all: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut starts = Vec::new();
    let mut at = 0;
    for (line, bytes) in pieces {
        starts.push((at, *line));
        at += bytes.len();
    }
    let line_at =
        |at: usize| starts.iter().rev().find(|(start, _)| *start <= at).map_or(0, |(_, line)| *line);
    let mut streams: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEAD <= all.len() {
        let head = &all[at..at + HEAD];
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let end = (at + HEAD + length).min(all.len());
        if head[3] == 0 {
            let data = streams.entry(stream).or_default();
            data.extend_from_slice(&all[at + HEAD..end]);
            while data.len() >= 5 {
                let size = u32::from_be_bytes([data[1], data[2], data[3], data[4]]) as usize;
                if data.len() < 5 + size {
                    break;
                }
                found.push((line_at(at), data[5..5 + size].to_vec()));
                data.drain(..5 + size);
            }
        }
        at = end;
    }
    found
}

/// What this check must find in a log: the first answer came too early, the second did not.
const SAMPLE: &str = r#"10 pwrite64(5<\x2f\x73\x2f\x6a\x6f\x75\x72\x6e\x61\x6c\x2d\x30\x30\x30\x30\x30\x30\x30\x30\x30\x31\x2e\x73\x65\x67>, "\x01", 1, 512) = 1
10 fdatasync(5</s/journal-0000000001.seg> <unfinished ...>
11 sendto(9<UNIX-STREAM:[1->2]>, "\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x07", 16, 0, NULL, 0) = 16
10 <... fdatasync resumed>)              = 0
11 sendto(9<UNIX-STREAM:[1->2]>, "\x00\x00\x07\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x02\x08\x08", 16, 0, NULL, 0) = 16
"#;

/// A check that cannot fail shows nothing.
fn check_itself() -> Result<()> {
    let calls = parse(SAMPLE)?;
    let durable = durable_at(&calls)?;
    ensure!(durable.get(&("journal-0000000001.seg".to_owned(), 512)) == Some(&3), "the sync is seen");
    ensure!(answers(&calls)? == [(7, 2), (8, 4)].into(), "both answers are seen, one before the sync");
    Ok(())
}
