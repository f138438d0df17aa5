//! One writer: locks, epochs, and an old owner that goes on writing after its successor took over.

mod support;

use journal::memory::{Dice, MemoryDisk};
use journal::{Claim, Epoch, Error, Journal, Kind, Log, Options, Sequence};
use support::*;

#[test]
fn each_owner_takes_a_higher_epoch_and_writes_it() {
    let disk = MemoryDisk::new();
    for owner in 1..5 {
        let mut journal = open(&disk, &options(4096)).expect("opens");
        assert_eq!(journal.epoch(), Epoch(owner));
        append(&mut journal, &numbered(owner, 20)).expect("stored");
    }
    let journal = open(&disk, &options(4096)).expect("opens");
    let frames = collect(|visit| journal.replay(Sequence(0), visit)).expect("readable");
    let openings: Vec<u64> =
        frames.iter().filter(|frame| frame.kind == Kind::Opening).map(|frame| frame.epoch.0).collect();
    assert_eq!(openings, [1, 2, 3, 4, 5]);
}

#[test]
fn claimed_epochs() {
    let disk = MemoryDisk::new();
    let claim = |claim| Options { claim, ..options(4096) };
    assert_eq!(open(&disk, &claim(Claim::AtLeast(Epoch(40)))).expect("opens").epoch(), Epoch(40));
    assert_eq!(open(&disk, &claim(Claim::AtLeast(Epoch(7)))).expect("opens").epoch(), Epoch(41));
    assert_eq!(open(&disk, &claim(Claim::Exactly(Epoch(50)))).expect("opens").epoch(), Epoch(50));
    for stale in [1, 49, 50] {
        let refused = open(&disk, &claim(Claim::Exactly(Epoch(stale)))).map(drop).expect_err("refused");
        assert!(matches!(refused, Error::Superseded { ours } if ours == Epoch(stale)), "{refused}");
    }
    let mut journal = open(&disk, &options(4096)).expect("opens");
    assert_eq!(journal.raise_epoch(Epoch(90)).expect("raised"), Epoch(90));
    assert_eq!(journal.raise_epoch(Epoch(60)).expect("kept"), Epoch(90));
    append(&mut journal, &numbered(1, 20)).expect("stored");
    assert_eq!(open(&disk, &options(4096)).expect("opens").epoch(), Epoch(91));
}

#[test]
fn an_old_owner_that_goes_on_is_refused_and_harms_nothing() {
    for_seeds(1000, |seed| {
        let mut dice = Dice::new(seed);
        let disk = MemoryDisk::new();
        let options = options(4096);
        let mut stored = Vec::new();
        let mut old = open(&disk, &options).expect("opens");
        for number in 0..dice.below(6) {
            let batch = numbered(number, dice.below(900) as usize);
            append(&mut old, &batch).expect("stored");
            stored.push(batch);
        }
        // Its last batch may be written but not synced when the successor comes.
        let mut maybe = None;
        if dice.one_in(2) {
            let batch = numbered(100, dice.below(900) as usize);
            old.write(&mut payload(&batch), None).expect("written");
            maybe = Some(batch);
        }
        let mut new = open(&disk.handle(), &options).expect("the successor opens");
        assert!(new.epoch() > old.epoch());
        let found = journal_batches(&new);
        stored.extend(maybe.clone());
        assert_eq!(found, stored, "the successor sees all that was written");
        let refused = if maybe.is_some() { old.sync().map(drop) } else { append_to(&mut old).map(drop) };
        assert!(matches!(refused, Err(Error::Superseded { ours: Epoch(1) })), "{refused:?}");
        for _ in 0..3 {
            let number = dice.below(1000);
            let batch = numbered(number, dice.below(900) as usize);
            append(&mut new, &batch).expect("stored");
            stored.push(batch);
            // The old one tries everything, in vain.
            assert!(matches!(append_to(&mut old), Err(Error::Fenced)));
            assert!(matches!(old.idle_frame(), Err(Error::Fenced)));
            assert!(matches!(old.raise_epoch(Epoch(99)), Err(Error::Fenced)));
            assert!(old.remove_through(Sequence(u64::MAX)).is_err());
            assert!(old.try_refill().is_err() || old.space().complete);
        }
        drop(new);
        let last = open(&disk.handle(), &options).expect("opens");
        assert_eq!(journal_batches(&last), stored);
    });
}

fn append_to(journal: &mut Journal) -> Result<Sequence, Error> {
    append(journal, &numbered(666, 700))
}

#[test]
#[should_panic(expected = "only after the one before is durable")]
fn a_second_frame_before_the_sync_is_a_bug() {
    let mut journal = open(&MemoryDisk::new(), &options(4096)).expect("opens");
    journal.write(&mut payload(&numbered(1, 20)), None).expect("written");
    let _ = journal.write(&mut payload(&numbered(2, 20)), None);
}

#[test]
fn idle_frames_follow_batches_only() {
    let mut journal = open(&MemoryDisk::new(), &options(4096)).expect("opens");
    assert_eq!(journal.idle_frame().expect("nothing to do"), Sequence(1));
    append(&mut journal, &numbered(1, 20)).expect("stored");
    assert_eq!(journal.idle_frame().expect("written"), Sequence(3));
    assert_eq!(journal.idle_frame().expect("nothing to do"), Sequence(3));
    assert_eq!(journal.sync().expect("nothing to do"), Sequence(3));
    let kinds: Vec<Kind> = collect(|visit| journal.replay(Sequence(0), visit))
        .expect("readable")
        .iter()
        .map(|frame| frame.kind)
        .collect();
    assert_eq!(kinds, [Kind::Opening, Kind::Batch, Kind::Idle]);
}
