//! Appends numbered batches to a journal in a folder and prints each number once it is durable. For power-cut tests:
//! what was printed must be found by `verify`.
//!
//! `append_forever FOLDER [SEGMENT_BYTES [COUNT]]`

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use journal::{FileDisk, Journal, Kind, Log, Options, Payload, Sequence};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("append_forever: error: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: append_forever FOLDER [SEGMENT_BYTES [COUNT]]")?;
    let segment_bytes = arguments.next().map_or(Ok(1 << 20), |text| text.parse())?;
    let count: u64 = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
    let options = Options { segment_bytes, essential_bytes: segment_bytes / 8, ..Options::default() };
    let mut journal = Journal::open(Arc::new(FileDisk::open(folder)?), options)?;
    let mut next = 1;
    journal.replay(Sequence(0), &mut |frame| {
        if frame.kind() == Kind::Batch {
            let number = frame.records().next().and_then(|record| record.get(..8)?.try_into().ok());
            next = number.map_or(next, |bytes| u64::from_le_bytes(bytes) + 1);
        }
        ControlFlow::Continue(())
    })?;
    let mut payload = Payload::new();
    let stdout = io::stdout();
    for number in next..next.saturating_add(count) {
        payload.clear();
        payload.push(&number.to_le_bytes());
        // Sizes from none to several pages, so that batches end everywhere in a page.
        payload.push(&vec![number as u8; (number.wrapping_mul(2_654_435_761) % 9000) as usize]);
        journal.append(&mut payload, None)?;
        if number % 64 == 0 {
            journal.idle_frame()?;
        }
        writeln!(stdout.lock(), "{number}")?;
    }
    Ok(())
}
