//! What the tests share: small options, numbered batches, reading everything back, seeds.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ops::ControlFlow;
use std::sync::Arc;

use journal::memory::{Dice, MemoryDisk};
use journal::{
    Disk, Epoch, Error, Frame, Journal, Kind, Lineage, Log, Options, Payload, Recovered, Sequence,
};

pub(crate) type Records = Vec<Vec<u8>>;

/// Tiny segments, a fixed lineage.
pub(crate) fn options(segment_bytes: u64) -> Options {
    Options {
        segment_bytes,
        spare_segments: 1,
        essential_bytes: 1024,
        new_lineage: Some(Lineage(*b"tests only, 16 b")),
        ..Options::default()
    }
}

pub(crate) fn open(disk: &MemoryDisk, options: &Options) -> Result<Journal, Error> {
    Journal::open(Arc::new(disk.clone()), options.clone())
}

pub(crate) fn recover(disk: &MemoryDisk, options: &Options) -> Result<Recovered, Error> {
    Recovered::open(Arc::new(disk.clone()), options.clone())
}

pub(crate) fn payload(records: &[Vec<u8>]) -> Payload {
    let mut payload = Payload::new();
    for record in records {
        payload.push(record);
    }
    payload
}

pub(crate) fn append(journal: &mut Journal, records: &[Vec<u8>]) -> Result<Sequence, Error> {
    journal.append(&mut payload(records), None)
}

/// One record that says which batch it is, padded to `bytes`.
pub(crate) fn numbered(number: u64, bytes: usize) -> Records {
    let mut record = number.to_le_bytes().to_vec();
    record.resize(bytes.max(8), (number % 251) as u8);
    vec![record]
}

/// A few random records, the first of which says which batch it is.
pub(crate) fn random_batch(dice: &mut Dice, number: u64, most_bytes: u64) -> Records {
    let mut records = numbered(number, 8);
    let mut left = dice.below(most_bytes);
    while left > 0 && !dice.one_in(6) {
        let bytes = dice.below(left) + 1;
        left -= bytes;
        records.push((0..bytes).map(|_| dice.roll() as u8).collect());
    }
    records
}

/// A batch as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) sequence: Sequence,
    pub(crate) epoch: Epoch,
    pub(crate) kind: Kind,
    pub(crate) records: Records,
}

pub(crate) fn read(frame: &Frame<'_>) -> Read {
    let records: Records = frame.records().map(<[u8]>::to_vec).collect();
    assert_eq!(records.len(), frame.record_count());
    Read { sequence: frame.sequence(), epoch: frame.epoch(), kind: frame.kind(), records }
}

type Visit<'a> = &'a mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>;

/// All frames that `replay` shows.
pub(crate) fn collect(replay: impl FnOnce(Visit<'_>) -> Result<(), Error>) -> Result<Vec<Read>, Error> {
    let mut frames: Vec<Read> = Vec::new();
    replay(&mut |frame| {
        if let Some(before) = frames.last() {
            assert_eq!(frame.sequence(), before.sequence.next(), "frames are shown in order");
            assert!(frame.epoch() >= before.epoch, "epochs never fall");
        }
        frames.push(read(frame));
        ControlFlow::Continue(())
    })?;
    Ok(frames)
}

pub(crate) fn batches_of(frames: Vec<Read>) -> Vec<Records> {
    frames.into_iter().filter(|frame| frame.kind == Kind::Batch).map(|frame| frame.records).collect()
}

pub(crate) fn recovered_batches(recovered: &Recovered) -> Vec<Records> {
    batches_of(
        collect(|visit| recovered.replay(Sequence(0), visit)).expect("what was found sound is readable"),
    )
}

pub(crate) fn journal_batches(journal: &Journal) -> Vec<Records> {
    batches_of(collect(|visit| journal.replay(Sequence(0), visit)).expect("an open log is readable"))
}

/// How many seeds to try: `SLUICE_SEEDS`, or `default`.
pub(crate) fn seeds(default: u64) -> u64 {
    std::env::var("SLUICE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `check` for many seeds (the first is `SLUICE_FIRST_SEED`, else 0) on all cores; a failure names its seed.
pub(crate) fn for_seeds(default: u64, check: impl Fn(u64) + Sync) {
    let first: u64 = std::env::var("SLUICE_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let count = seeds(default);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let check = &check;
            scope.spawn(move || {
                for seed in (first + worker..first + count).step_by(workers as usize) {
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
                    if let Err(panic) = outcome {
                        eprintln!(
                            "failed with seed {seed}: SLUICE_FIRST_SEED={seed} SLUICE_SEEDS=1 repeats it"
                        );
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// A name of a segment of the tests.
pub(crate) fn segment(number: u64) -> String {
    journal::segment_name(journal::SegmentId(number))
}

pub(crate) fn names(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list().expect("a list");
    names.sort();
    names
}
