//! Full disks, reservations, and the way back.

mod support;

use std::sync::Arc;

use journal::memory::{Dice, MemoryDisk};
use journal::{Class, Disk, Error, Log, Options, frame_bytes};
use support::*;

fn full(class: Class, answer: Result<impl Sized, Error>) {
    match answer.map(drop) {
        Err(Error::Full { class: found }) => assert_eq!(found, class),
        other => panic!("not full: {other:?}"),
    }
}

#[test]
fn admission_stops_first_then_essential_and_both_come_back() {
    let disk = MemoryDisk::new();
    let options = Options { essential_bytes: 2048, ..options(8192) };
    let mut journal = open(&disk, &options).expect("opens");
    journal.try_refill().expect("one spare");
    let filled = disk.used();
    disk.set_capacity(Some(filled));
    let space = journal.space_handle();
    assert!(space.space().admission && space.space().complete);
    let mut stored = Vec::new();
    let mut number = 0..;
    let mut next = || numbered(number.next().expect("endless"), 1000);
    // New work until the essential reserve is reached.
    loop {
        let batch = next();
        let held = match space.reserve(Class::Admission, 1004) {
            Ok(held) => held,
            Err(error) => break full(Class::Admission, Err::<(), _>(error)),
        };
        journal.append(&mut payload(&batch), Some(held)).expect("reserved space is there");
        stored.push(batch);
    }
    // A large batch finds none; small ones go on a little longer.
    while let Ok(held) = space.reserve(Class::Admission, 100) {
        let batch = numbered(55, 96);
        journal.append(&mut payload(&batch), Some(held)).expect("reserved space is there");
        stored.push(batch);
    }
    assert!(!space.space().admission && space.space().essential);
    assert!(space.try_refill().expect_err("the disk is full").is_full());
    // Running jobs end.
    let held = space.reserve(Class::Essential, 1004).expect("the essential reserve");
    let batch = next();
    journal.append(&mut payload(&batch), Some(held)).expect("reserved space is there");
    stored.push(batch);
    full(Class::Admission, space.reserve(Class::Admission, 10));
    while let Ok(held) = space.reserve(Class::Essential, 100) {
        let batch = numbered(77, 96);
        journal.append(&mut payload(&batch), Some(held)).expect("reserved space is there");
        stored.push(batch);
    }
    full(Class::Essential, space.reserve(Class::Essential, 100));
    full(Class::Essential, append(&mut journal, &next()));
    assert!(!space.space().essential);
    // Nothing is fenced, nothing is lost, and a restart on the full disk works.
    assert_eq!(journal_batches(&journal), stored);
    drop(journal);
    let mut journal = open(&disk, &options).expect("a restart on a full disk");
    assert_eq!(journal_batches(&journal), stored);
    full(Class::Essential, append(&mut journal, &next()));
    // Space returns.
    disk.set_capacity(None);
    assert!(journal.try_refill().expect("space").admission);
    let held = journal.space_handle().reserve(Class::Admission, 1004).expect("admission again");
    let batch = next();
    journal.append(&mut payload(&batch), Some(held)).expect("stored");
    stored.push(batch);
    assert_eq!(journal_batches(&journal), stored);
}

#[test]
fn removing_closed_segments_makes_room() {
    let disk = MemoryDisk::new();
    let options = options(4096);
    let mut journal = open(&disk, &options).expect("opens");
    for number in 0..8 {
        append(&mut journal, &numbered(number, 1000)).expect("stored");
    }
    disk.set_capacity(Some(disk.used()));
    let mut last = journal.last_sequence();
    while let Ok(sequence) = append(&mut journal, &numbered(9, 1000)) {
        last = sequence;
    }
    assert!(journal.try_refill().expect_err("full").is_full());
    journal.remove_through(last).expect("removed");
    assert_eq!(journal.closed_segments(), []);
    assert!(journal.try_refill().expect("room").admission);
    append(&mut journal, &numbered(10, 1000)).expect("stored");
    assert!(disk.free_bytes().expect("known") > 0);
}

#[test]
fn reservations_are_kept_whatever_comes_between() {
    for_seeds(2000, |seed| {
        let mut dice = Dice::new(seed);
        let disk = MemoryDisk::new();
        let options = Options {
            essential_bytes: 512 * dice.below(6),
            spare_segments: dice.below(3) as usize,
            ..options(512 * (4 + dice.below(12)))
        };
        let mut journal = open(&disk, &options).expect("opens");
        journal.try_refill().expect("spares");
        // From now on nothing can be made: every frame must go into what is filled.
        disk.set_capacity(Some(disk.used()));
        let space = journal.space_handle();
        let mut held = std::collections::VecDeque::new();
        for _ in 0..60 {
            match dice.below(8) {
                0..4 => {
                    let class = if dice.one_in(2) { Class::Admission } else { Class::Essential };
                    let bytes = dice.below(options.segment_bytes - 96);
                    match space.reserve(class, bytes) {
                        Ok(one) => {
                            assert_eq!(one.frame_bytes(), frame_bytes(bytes));
                            held.push_back((one, bytes));
                        }
                        Err(error) => full(class, Err::<(), _>(error)),
                    }
                }
                4 => {
                    // Dropped ones give their space back.
                    let at = dice.below(held.len() as u64 + 1) as usize;
                    held.remove(at);
                }
                5 => match journal.idle_frame() {
                    Ok(_) | Err(Error::Full { .. }) => {}
                    Err(other) => panic!("{other}"),
                },
                6 => match append(&mut journal, &numbered(0, dice.below(600) as usize)) {
                    Ok(_) | Err(Error::Full { .. } | Error::TooLarge { .. }) => {}
                    Err(other) => panic!("{other}"),
                },
                _ => {
                    if let Some((one, bytes)) = held.pop_front() {
                        // As large as reserved, or smaller.
                        let bytes = bytes - if dice.one_in(2) { 0 } else { dice.below(bytes + 1) };
                        let records: Records =
                            if bytes < 4 { vec![] } else { vec![vec![7; bytes as usize - 4]] };
                        journal.append(&mut payload(&records), Some(one)).expect("reserved space is there");
                    }
                }
            }
            if dice.one_in(20) {
                journal.close_segment();
            }
        }
        while let Some((one, bytes)) = held.pop_front() {
            let records: Records = if bytes < 4 { vec![] } else { vec![vec![7; bytes as usize - 4]] };
            journal.append(&mut payload(&records), Some(one)).expect("reserved space is there");
        }
    });
}

#[test]
fn an_opening_frame_in_between_takes_nothing_from_reservations() {
    let disk = MemoryDisk::new();
    let options = Options { spare_segments: 0, ..options(8192) };
    let mut journal = open(&disk, &options).expect("opens");
    disk.set_capacity(Some(disk.used()));
    let space = journal.space_handle();
    let held: Vec<_> = std::iter::from_fn(|| space.reserve(Class::Essential, 900).ok()).collect();
    assert!(held.len() > 3);
    // It uses what is kept for restarts, so that less than that is left behind the reservations.
    journal.raise_epoch(journal::Epoch(9)).expect("restarts may use all");
    for held in held {
        journal.append(&mut payload(&numbered(1, 896)), Some(held)).expect("reserved space is there");
    }
    full(Class::Essential, append(&mut journal, &numbered(2, 8)));
}

#[test]
fn too_large_is_refused_and_fences_nothing() {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk, &options(4096)).expect("opens");
    let largest = 4096 - 96 - 4;
    let refused = append(&mut journal, &[vec![1; largest + 1]]).expect_err("refused");
    assert!(matches!(refused, Error::TooLarge { bytes: 4608, limit: 4096 }));
    assert!(matches!(
        journal.space_handle().reserve(Class::Essential, 4001),
        Err(Error::TooLarge { bytes: 4608, limit: 4096 })
    ));
    append(&mut journal, &[vec![1; largest]]).expect("the largest frame");
    append(&mut journal, &numbered(1, 10)).expect("goes on");
}

#[test]
fn other_segment_sizes_are_taken_over() {
    let disk = MemoryDisk::new();
    let mut stored = Vec::new();
    for (round, bytes) in [4096, 16384, 2048, 8192].into_iter().enumerate() {
        let options = Options { spare_segments: 2, ..options(bytes) };
        let mut journal = open(&disk, &options).expect("opens");
        journal.try_refill().expect("spares");
        for number in 0..4 {
            let batch = numbered(round as u64 * 10 + number, bytes as usize - 100 - 4);
            append(&mut journal, &batch).expect("the largest frame of this size");
            stored.push(batch);
        }
        journal.try_refill().expect("spares");
        drop(journal);
        let recovered = recover(&disk.settled(), &options).expect("opens");
        assert_eq!(recovered_batches(&recovered), stored);
    }
}

#[test]
fn two_threads_may_refill_at_once() {
    let disk = MemoryDisk::new();
    let options = Options { spare_segments: 5, ..options(2048) };
    let mut journal = open(&disk, &options).expect("opens");
    let spaces: Vec<_> = (0..4).map(|_| journal.space_handle()).collect();
    std::thread::scope(|scope| {
        for space in &spaces {
            scope.spawn(|| space.try_refill().expect("spares"));
        }
        for number in 0..20 {
            append(&mut journal, &numbered(number, 900)).expect("stored");
        }
    });
    journal.try_refill().expect("spares");
    assert_eq!(journal.space().spares, 5);
    drop(journal);
    let journal = open(&disk.settled(), &options).expect("opens");
    assert_eq!(journal_batches(&journal).len(), 20);
    assert_eq!(journal.space().spares, 5, "filled segments are used after a restart");
    let _: Arc<dyn Disk> = Arc::new(disk);
}
