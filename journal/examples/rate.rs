//! Synced appends per second, with a bare write + fdatasync of the same size into a file of the same kind beside it
//! for comparison (the disk's own limit). Build with `--release`.
//!
//! `rate FOLDER [PAYLOAD_BYTES [SECONDS [SEGMENT_MIB]]]`: uses new folders below FOLDER and removes them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Disk, FileDisk, Filler, Journal, Log, Options, Payload, frame_bytes, write_all_at};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: rate FOLDER [PAYLOAD_BYTES [SECONDS [SEGMENT_MIB]]]")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (payload_bytes, seconds, segment_mib) = (number(400)?, number(3)?, number(64)?);
    let span = Duration::from_secs(seconds);
    let root = Path::new(&folder).join(format!("rate-{}", std::process::id()));
    let outcome =
        journal_rate(&root.join("journal"), payload_bytes, span, segment_mib << 20).and_then(|log| {
            let bare = bare_rate(&root.join("bare"), frame_bytes(payload_bytes), span, segment_mib << 20)?;
            Ok((log, bare))
        });
    fs::remove_dir_all(&root)?;
    let ((log, bare), frame) = (outcome?, frame_bytes(payload_bytes));
    println!(
        "payload {payload_bytes} bytes, frame {frame} bytes, {seconds} s each, segment {segment_mib} MiB"
    );
    report("journal append", log);
    report("bare write + fdatasync", bare);
    Ok(())
}

fn report(name: &str, mut times: Vec<Duration>) {
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    let rate = times.len() as f64 / total.as_secs_f64();
    println!("{name:24} {rate:8.0}/s  p50 {} us  p99 {} us  max {} us", at(50), at(99), at(100));
}

type Times = Result<Vec<Duration>, Box<dyn std::error::Error>>;

fn journal_rate(folder: &Path, payload_bytes: u64, span: Duration, segment_bytes: u64) -> Times {
    let options = Options { segment_bytes, ..Options::default() };
    let mut journal = Journal::open(Arc::new(FileDisk::open(folder)?), options)?;
    // The steady state: a segment waits, and the next is filled when that is used.
    journal.try_refill()?;
    let _filler = Filler::spawn(journal.space_handle(), Duration::from_secs(1))?;
    let record = vec![7; payload_bytes.saturating_sub(4) as usize];
    let mut payload = Payload::new();
    timed(span, |_| {
        payload.clear();
        payload.push(&record);
        let sequence = journal.append(&mut payload, None)?;
        if sequence.0.is_multiple_of(4096) {
            journal.remove_through(sequence)?;
        }
        Ok(())
    })
}

fn bare_rate(folder: &Path, bytes: u64, span: Duration, file_bytes: u64) -> Times {
    let disk = FileDisk::open(folder)?;
    let file = disk.create("bare")?;
    let zeros = vec![0; 1 << 20];
    for offset in (0..file_bytes).step_by(zeros.len()) {
        write_all_at(&*file, offset, &zeros)?;
    }
    file.sync()?;
    let block = vec![7; bytes as usize];
    let slots = file_bytes / bytes;
    timed(span, |number| {
        write_all_at(&*file, number % slots * bytes, &block)?;
        file.sync()?;
        Ok(())
    })
}

fn timed(span: Duration, mut step: impl FnMut(u64) -> Result<(), Box<dyn std::error::Error>>) -> Times {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < span {
        let before = Instant::now();
        step(times.len() as u64)?;
        times.push(before.elapsed());
    }
    Ok(times)
}
