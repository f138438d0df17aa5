//! Opens (recovers) a journal that `append_forever` wrote and prints the highest number, all before it being there.
//! Exits with 1 if the journal is refused, and with 2 if a number or a byte is wrong or a number below
//! LEAST is missing.
//!
//! `verify FOLDER [LEAST]`

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use journal::{FileDisk, Frame, Kind, Options, Recovered, Sequence};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        eprintln!("usage: verify FOLDER [LEAST]");
        return ExitCode::FAILURE;
    };
    let least = arguments.next().map_or(Ok(0), |text| text.parse::<u64>());
    let Ok(least) = least else {
        eprintln!("verify: error: LEAST is not a number");
        return ExitCode::FAILURE;
    };
    match check(&folder) {
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("verify: error: {error}{cause}");
            ExitCode::FAILURE
        }
        Ok(Err(wrong)) => {
            eprintln!("verify: error: {wrong}");
            ExitCode::from(2)
        }
        Ok(Ok(highest)) if highest < least => {
            eprintln!("verify: error: {least} was acknowledged, but the journal ends with {highest}");
            ExitCode::from(2)
        }
        Ok(Ok(highest)) => {
            println!("{highest}");
            ExitCode::SUCCESS
        }
    }
}

fn check(folder: &str) -> Result<Result<u64, String>, Box<dyn std::error::Error>> {
    let recovered = Recovered::open(Arc::new(FileDisk::open(folder)?), Options::default())?;
    if let Some(torn) = recovered.recovery().torn {
        eprintln!("verify: {} bytes cut in segment {} at offset {}", torn.bytes, torn.segment, torn.offset);
    }
    let mut highest = Ok(0);
    recovered.replay(Sequence(0), &mut |frame| {
        if frame.kind() != Kind::Batch {
            return ControlFlow::Continue(());
        }
        match (&highest, number_of(frame)) {
            (Ok(before), Some(number)) if number == before + 1 => {
                highest = Ok(number);
                ControlFlow::Continue(())
            }
            (before, found) => {
                highest = Err(format!("frame {} holds {found:?} behind {before:?}", frame.sequence()));
                ControlFlow::Break(())
            }
        }
    })?;
    Ok(highest)
}

/// The batch's number, if its bytes are those that `append_forever` writes.
fn number_of(frame: &Frame<'_>) -> Option<u64> {
    let mut records = frame.records();
    let number = u64::from_le_bytes(records.next()?.try_into().ok()?);
    let filling = records.next()?;
    let sound = filling.len() as u64 == number.wrapping_mul(2_654_435_761) % 9000
        && filling.iter().all(|byte| *byte == number as u8)
        && records.next().is_none();
    sound.then_some(number)
}
