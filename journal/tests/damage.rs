//! Bytes that change by themselves: every bit flipped, tails torn at every byte, files and segments gone, other
//! formats and other logs. Either nothing that had a successor is lost, or the log is refused and left alone.

mod support;

use std::sync::Arc;

use journal::memory::{Dice, MemoryDisk, Unit};
use journal::{
    Error, Evidence, FrameReader, FrameWriter, Kind, Lineage, Log, Recovered, SegmentId, Sequence, inspect,
};
use support::*;

const SEGMENT_BYTES: u64 = 4096;

/// A log of two segments: opening, batches, and a spare. Answers the batches.
fn small_log() -> (MemoryDisk, Vec<Records>) {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk, &options(SEGMENT_BYTES)).expect("opens");
    let sizes = [20, 700, 412, 1200, 413, 8, 600];
    let batches: Vec<Records> =
        sizes.iter().zip(0..).map(|(bytes, number)| numbered(number, *bytes)).collect();
    for batch in &batches {
        append(&mut journal, batch).expect("appended");
    }
    journal.try_refill().expect("space");
    drop(journal);
    (disk.settled(), batches)
}

/// Where the frames of the log are: segment, offset, size.
fn frames_in(disk: &MemoryDisk) -> Vec<(u64, usize, usize)> {
    let disk: Arc<dyn journal::Disk> = Arc::new(disk.clone());
    let mut frames = Vec::new();
    inspect(&disk, &mut |frame| {
        let payload: u64 = frame.records().map(|record| record.len() as u64 + 4).sum();
        frames.push((frame.segment().0, frame.offset() as usize, journal::frame_bytes(payload) as usize));
        std::ops::ControlFlow::Continue(())
    })
    .expect("a sound log");
    frames
}

fn everything(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    names(disk).into_iter().map(|name| (name.clone(), disk.content(&name).expect("a file"))).collect()
}

#[test]
fn every_flipped_bit_is_refused_or_was_the_last_frame() {
    let (disk, batches) = small_log();
    let frames = frames_in(&disk);
    let (last_segment, last_offset, last_bytes) = *frames.last().expect("frames");
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for (segment_number, offset, bytes) in frames {
        let name = segment(segment_number);
        let content = disk.content(&name).expect("a segment");
        for bit in 0..bytes * 8 {
            let mut flipped = content.clone();
            flipped[offset + bit / 8] ^= 1 << (bit % 8);
            let damaged = disk.settled();
            damaged.set_content(&name, flipped);
            let before = everything(&damaged);
            match recover(&damaged, &options(SEGMENT_BYTES)) {
                Ok(recovered) => {
                    let found = recovered_batches(&recovered);
                    if found == batches {
                        harmless += 1;
                        continue;
                    }
                    assert_eq!(found, batches[..batches.len() - 1], "bit {bit} of the frame at {offset}");
                    assert_eq!((segment_number, offset), (last_segment, last_offset));
                    let torn = recovered.recovery().torn.expect("it is reported");
                    assert_eq!((torn.segment.0, torn.offset), (last_segment, last_offset as u64));
                    cut += 1;
                }
                Err(Error::Damage { segment: at, offset: place, .. }) => {
                    assert_eq!((at.0, place), (segment_number, offset as u64), "bit {bit}");
                    assert!(everything(&damaged) == before, "a refused log was touched");
                    refused += 1;
                }
                Err(other) => panic!("bit {bit} of the frame at {offset}: {other}"),
            }
        }
    }
    assert!(refused > 20_000 && cut > 4_000 && harmless > 1_000, "{refused} {cut} {harmless}");
    assert!(cut <= last_bytes * 8);
}

#[test]
fn tail_torn_at_every_byte_keeps_all_but_the_last_batch() {
    let (disk, batches) = small_log();
    let (segment_number, offset, bytes) = *frames_in(&disk).last().expect("frames");
    let name = segment(segment_number);
    let content = disk.content(&name).expect("a segment");
    let mut dice = Dice::new(7);
    for kept in 0..bytes {
        for noise in [false, true] {
            let mut torn = content.clone();
            for byte in &mut torn[offset + kept..offset + bytes] {
                *byte = if noise { dice.roll() as u8 } else { 0 };
            }
            let image = disk.settled();
            image.set_content(&name, torn);
            let recovered = recover(&image, &options(SEGMENT_BYTES)).expect("a torn tail is no damage");
            let found = recovered_batches(&recovered);
            let whole = found.len() == batches.len();
            assert_eq!(found, batches[..batches.len() - usize::from(!whole)], "{kept} bytes kept");
            assert!(!whole || kept > 96 + 600, "only padding may be missing from a whole frame");
            assert_eq!(image.unsynced(Unit::Sector), 0, "the cut is durable");
            let cut = recovered.recovery().torn;
            assert_eq!(cut.is_some(), !whole && (kept > 0 || noise), "{kept} bytes kept, {noise}: {cut:?}");
            let mut journal = recovered.start().expect("a new owner");
            append(&mut journal, &numbered(99, 1000)).expect("goes on");
            let again = recover(&image, &options(SEGMENT_BYTES)).expect("opens again");
            assert_eq!(again.recovery().torn, None, "nothing is left to cut");
        }
    }
}

#[test]
fn what_a_snapshot_covers_is_not_read_at_the_opening_and_checked_when_it_is_replayed() {
    let (disk, batches) = small_log();
    let whole = recover(&disk.settled(), &options(SEGMENT_BYTES)).expect("a sound log");
    let second = disk.content(&segment(2)).expect("two segments");
    assert!(second.iter().any(|byte| *byte != 0), "the second is in use");
    let covered = Sequence(whole.recovery().last_sequence.0 - 1);
    let damaged = disk.settled();
    let mut content = damaged.content(&segment(1)).expect("a segment");
    // In the payload of the first batch, behind the opening frame and a header.
    content[512 + 96 + 8] ^= 1;
    damaged.set_content(&segment(1), content);
    let refused = recover(&damaged.settled(), &options(SEGMENT_BYTES)).err();
    assert!(matches!(refused, Some(Error::Damage { .. })), "{refused:?}");
    let options = journal::Options { covered, ..options(SEGMENT_BYTES) };
    let recovered = recover(&damaged.settled(), &options).expect("what is damaged is not needed");
    assert_eq!(recovered.recovery(), whole.recovery());
    let behind = batches_of(collect(|visit| recovered.replay(covered.next(), visit)).expect("sound"));
    assert_eq!(behind, batches[batches.len() - 1..]);
    let all = collect(|visit| recovered.replay(Sequence(0), visit)).err();
    assert!(matches!(all, Some(Error::Damage { .. })), "{all:?}");
}

#[test]
fn a_segment_or_the_identity_gone_is_refused() {
    let (disk, _) = small_log();
    let frames = frames_in(&disk);
    let last_segment = frames.last().expect("frames").0;
    assert!(last_segment >= 2);
    let gone = |name: &str| {
        let disk = disk.settled();
        journal::Disk::remove(&disk, name).expect("removed");
        recover(&disk, &options(SEGMENT_BYTES)).map(drop).expect_err("refused").to_string()
    };
    assert!(gone("identity").contains("the identity file is missing"));
    assert_eq!(gone(&segment(2)), "segment 2 is damaged at offset 0: the segment is missing");
    // The oldest one gone is for the caller to notice, whose snapshot ends before: the log says where it begins.
    let shorter = disk.settled();
    journal::Disk::remove(&shorter, &segment(1)).expect("removed");
    let recovered = recover(&shorter, &options(SEGMENT_BYTES)).expect("opens");
    let first = recovered.recovery().first_sequence.expect("frames");
    assert!(first > Sequence(1));
    let gap = recovered.replay(Sequence(1), &mut |_| panic!("nothing is shown")).expect_err("a gap");
    assert!(matches!(gap, Error::Gap { wanted: Sequence(1), first: at } if at == first));
    // All of them gone.
    let empty = disk.settled();
    for name in names(&empty).iter().filter(|name| name.ends_with(".seg")) {
        journal::Disk::remove(&empty, name).expect("removed");
    }
    let refused = recover(&empty, &options(SEGMENT_BYTES)).map(drop).expect_err("refused");
    assert!(matches!(refused, Error::Damage { evidence: Evidence::SegmentMissing, .. }));
    // A segment that was cut short.
    let short = disk.settled();
    short.set_content(&segment(1), disk.content(&segment(1)).expect("a segment")[..777].to_vec());
    let refused = recover(&short, &options(SEGMENT_BYTES)).map(drop).expect_err("refused");
    assert!(matches!(refused, Error::Damage { evidence: Evidence::SegmentSize, .. }));
}

#[test]
fn first_frame_of_the_oldest_segment_is_never_a_torn_tail_once_others_were_removed() {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk, &options(SEGMENT_BYTES)).expect("opens");
    while journal.closed_segments().is_empty() {
        append(&mut journal, &numbered(0, 1000)).expect("appended");
    }
    let closed = journal.closed_segments();
    journal.remove_through(closed[0].last).expect("removed");
    drop(journal);
    let mut content = disk.content(&segment(2)).expect("the current segment");
    content[50] ^= 1;
    disk.set_content(&segment(2), content);
    let refused = recover(&disk, &options(SEGMENT_BYTES)).map(drop).expect_err("refused");
    assert!(matches!(
        refused,
        Error::Damage { segment: SegmentId(2), offset: 0, evidence: Evidence::FirstFrame }
    ));
}

/// Rewrites a header's bytes and its checksum, as a writer of another version would.
fn patch_header(disk: &MemoryDisk, name: &str, offset: usize, patch: impl FnOnce(&mut [u8])) {
    let mut content = disk.content(name).expect("a file");
    patch(&mut content[offset..offset + 92]);
    let checksum = crc32fast::hash(&content[offset..offset + 92]);
    content[offset + 92..offset + 96].copy_from_slice(&checksum.to_le_bytes());
    disk.set_content(name, content);
}

#[test]
fn newer_format_is_refused_by_name_and_untouched() {
    let (disk, batches) = small_log();
    let (last_segment, last_offset, _) = *frames_in(&disk).last().expect("frames");
    let newer = disk.settled();
    patch_header(&newer, &segment(last_segment), last_offset, |header| {
        header[8..12].copy_from_slice(&[7, 0, 5, 0]);
    });
    let before = everything(&newer);
    let refused = recover(&newer, &options(SEGMENT_BYTES)).map(drop).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        format!(
            "{} has journal format 7, readable from format 5 on; this version reads up to format 1",
            segment(last_segment)
        )
    );
    assert!(everything(&newer) == before, "a refused log was touched");
    // A newer writer that says that we can read it is read.
    let readable = disk.settled();
    patch_header(&readable, &segment(last_segment), last_offset, |header| {
        header[8..12].copy_from_slice(&[7, 0, 1, 0]);
    });
    let recovered = recover(&readable, &options(SEGMENT_BYTES)).expect("readable");
    assert_eq!(recovered_batches(&recovered), batches);
}

#[test]
fn whole_frames_that_do_not_belong_here_are_refused() {
    let (disk, _) = small_log();
    let frames = frames_in(&disk);
    let (last_segment, last_offset, _) = *frames.last().expect("frames");
    let patched = |patch: fn(&mut [u8])| {
        let disk = disk.settled();
        patch_header(&disk, &segment(last_segment), last_offset, patch);
        match recover(&disk, &options(SEGMENT_BYTES)).map(drop) {
            Err(Error::Damage { segment, offset, evidence }) => {
                assert_eq!((segment.0, offset as usize), (last_segment, last_offset));
                evidence
            }
            other => panic!("not refused: {other:?}"),
        }
    };
    let found = Sequence(frames.len() as u64);
    assert_eq!(patched(|header| header[16] ^= 1), Evidence::ForeignLineage);
    assert_eq!(patched(|header| header[64] ^= 1), Evidence::BrokenChain { found });
    assert_eq!(patched(|header| header[56] = 0), Evidence::BrokenChain { found });
    assert_eq!(patched(|header| header[72] = 9), Evidence::MalformedRecords { found });
    assert!(matches!(patched(|header| header[48] += 3), Evidence::LaterFrame { .. }));
}

#[test]
fn last_batch_can_be_rejected_once_and_only_if_nothing_follows() {
    let (disk, batches) = small_log();
    let mut recovered = recover(&disk, &options(SEGMENT_BYTES)).expect("opens");
    let last = recovered.recovery().last_sequence;
    recovered.reject_last().expect("a whole last batch");
    assert_eq!(recovered_batches(&recovered), batches[..batches.len() - 1]);
    assert!(recovered.recovery().torn.is_some());
    assert!(matches!(recovered.reject_last(), Err(Error::NotRejectable { .. })));
    let mut journal = recovered.start().expect("a new owner");
    assert_eq!(journal.last_sequence(), last, "the opening frame takes the number");
    append(&mut journal, &numbered(70, 30)).expect("goes on");
    journal.idle_frame().expect("idle");
    drop(journal);
    let mut recovered = recover(&disk.settled(), &options(SEGMENT_BYTES)).expect("opens again");
    assert!(matches!(recovered.reject_last(), Err(Error::NotRejectable { .. })), "an idle frame follows");
    assert_eq!(recovered_batches(&recovered).last(), Some(&numbered(70, 30)));
}

#[test]
fn frame_files_are_whole_or_refused_at_every_flipped_bit_and_every_length() {
    let disk = MemoryDisk::new();
    let lineage = Lineage([9; 16]);
    let shared: Arc<dyn journal::Disk> = Arc::new(disk.clone());
    let batches = [numbered(0, 30), numbered(1, 600), vec![], numbered(2, 8)];
    let mut writer = FrameWriter::create(shared, "snapshot-1", lineage, journal::Epoch(4)).expect("created");
    for batch in &batches {
        writer.append(&mut payload(batch)).expect("written");
    }
    assert_eq!(names(&disk), ["snapshot-1.tmp"]);
    let size = writer.finish().expect("finished");
    assert_eq!(names(&disk), ["snapshot-1"]);
    let read = |disk: &MemoryDisk, lineage| {
        let mut reader = FrameReader::open(disk, "snapshot-1", lineage)?;
        let mut found = Vec::new();
        while let Some(frame) = reader.next()? {
            assert_eq!((frame.epoch(), frame.kind()), (journal::Epoch(4), Kind::Batch));
            found.push(support::read(&frame).records);
        }
        Ok::<_, Error>(found)
    };
    assert_eq!(read(&disk, Some(lineage)).expect("whole"), batches);
    let foreign = read(&disk, Some(Lineage([8; 16]))).expect_err("another log's");
    assert_eq!(foreign.to_string(), "file snapshot-1 is damaged at offset 0: a frame of another journal");
    let content = disk.content("snapshot-1").expect("a file");
    assert_eq!(content.len() as u64, size);
    for length in 0..content.len() {
        disk.set_content("snapshot-1", content[..length].to_vec());
        read(&disk, None).expect_err("cut short");
    }
    for bit in 0..content.len() * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content("snapshot-1", flipped);
        // Only padding is not covered.
        if let Ok(found) = read(&disk, None) {
            assert_eq!(found, batches, "bit {bit}");
        }
    }
    disk.set_content("snapshot-1", [content, vec![0; 512]].concat());
    read(&disk, None).expect_err("bytes follow");
}

#[test]
fn random_damage_in_the_middle_never_loses_frames_in_silence() {
    for_seeds(1000, |seed| {
        let mut dice = Dice::new(seed);
        let (disk, batches) = small_log();
        let frames = frames_in(&disk);
        // Scrambles whole sectors of frames that have a successor; the last frame stays.
        let (segment_number, offset, bytes) = frames[dice.below(frames.len() as u64 - 1) as usize];
        let name = segment(segment_number);
        let mut content = disk.content(&name).expect("a segment");
        let sector = offset / 512 + dice.below(bytes as u64 / 512) as usize;
        let zero = dice.one_in(2);
        let before = content.clone();
        for byte in &mut content[sector * 512..(sector + 1) * 512] {
            *byte = if zero { 0 } else { dice.roll() as u8 };
        }
        let harmless = content == before;
        disk.set_content(&name, content);
        match Recovered::open(Arc::new(disk), options(SEGMENT_BYTES)) {
            Ok(recovered) => assert!(recovered_batches(&recovered) == batches, "silent loss"),
            Err(Error::Damage { .. }) => assert!(!harmless),
            Err(other) => panic!("{other}"),
        }
    });
}
