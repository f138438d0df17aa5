//! Power cuts on the modelled disk: after each operation of random histories, the prefixes and random subsets of
//! what was not synced. Whatever is left must open, hold all that was acknowledged, and nothing invented.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use journal::memory::{Dice, Fault, MemoryDisk, Unit};
use journal::{Error, Journal, Log, Options, Recovered, Sequence};
use support::*;

/// What the callers of the log know.
#[derive(Default)]
struct Known {
    /// Batches acknowledged, oldest first.
    acknowledged: Vec<Records>,
    /// The batch that is on its way or whose outcome is unknown.
    in_flight: Option<Records>,
    /// How many of the oldest may have been removed: all their records are in a snapshot.
    removable: usize,
}

impl Known {
    /// Checks `found` against what is known; answers whether the batch in flight was found.
    fn check(&self, found: &[Records]) -> bool {
        let Some(number) = found.first().map(number_of) else {
            assert!(self.acknowledged.len() <= self.removable, "all batches are lost");
            return false;
        };
        let first = number as usize;
        assert!(first <= self.removable, "batches from {} to {first} are lost", self.removable);
        let certain = &self.acknowledged[first.min(self.acknowledged.len())..];
        assert!(found.len() >= certain.len(), "{} of {} batches", found.len(), certain.len());
        assert!(found[..certain.len()] == *certain, "batches differ from what was acknowledged");
        match &found[certain.len()..] {
            [] => false,
            [one] => {
                assert!(Some(one) == self.in_flight.as_ref(), "an invented batch");
                true
            }
            more => panic!("{} batches that nobody acknowledged", more.len()),
        }
    }
}

fn number_of(records: &Records) -> u64 {
    u64::from_le_bytes(records[0][..8].try_into().expect("a numbered batch"))
}

/// The image must open; what it holds is checked; and sometimes it must be possible to go on from it.
fn check_image(image: &MemoryDisk, options: &Options, known: &Known, dice: &mut Dice) {
    if dice.one_in(8) {
        // The power goes again, during recovery.
        let last = Arc::new(Mutex::new(None));
        let (seen, unit, mut inner) = (Arc::clone(&last), unit(dice), dice.clone());
        image.observe(move |disk| {
            if inner.one_in(3) {
                *seen.lock().unwrap() = Some(disk.cut_random(unit, &mut inner));
            }
        });
        open(image, options).expect("an image opens");
        let again = last.lock().unwrap().take();
        if let Some(again) = again {
            check_plain(&again, options, known, dice);
        }
        return;
    }
    check_plain(image, options, known, dice);
}

fn check_plain(image: &MemoryDisk, options: &Options, known: &Known, dice: &mut Dice) {
    let twin = dice.one_in(3).then(|| image.settled());
    let recovered = recover(image, options).unwrap_or_else(|error| panic!("refused: {error}"));
    let found = recovered_batches(&recovered);
    known.check(&found);
    if let Some(twin) = twin {
        check_covered(&twin, options, &recovered, dice);
    }
    if dice.one_in(8) {
        let before = recovered.recovery().clone();
        let mut journal = recovered.start().expect("a new owner");
        assert!(journal.epoch() > before.epoch);
        assert_eq!(journal.last_sequence(), before.last_sequence.next());
        let more = numbered(u64::MAX, 700);
        append(&mut journal, &more).expect("one more batch");
        drop(journal);
        let again = recover(&image.settled(), options).expect("opens again");
        assert_eq!(again.recovery().torn, None);
        let mut expected = found;
        expected.push(more);
        assert!(recovered_batches(&again) == expected);
    }
}

/// A caller with a snapshot sees the same log, although less of it is read.
fn check_covered(twin: &MemoryDisk, options: &Options, plain: &Recovered, dice: &mut Dice) {
    let covered = Sequence(dice.below(plain.recovery().last_sequence.0 + 1));
    let options = Options { covered, ..options.clone() };
    let recovered = recover(twin, &options).unwrap_or_else(|error| panic!("refused with {covered}: {error}"));
    assert_eq!(recovered.recovery(), plain.recovery(), "covered up to {covered}");
    for from in [Sequence(0), covered.next()] {
        let frames = |recovered: &Recovered| collect(|visit| recovered.replay(from, visit));
        match (frames(&recovered), frames(plain)) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
            (Err(Error::Gap { .. }), Err(Error::Gap { .. })) => {}
            (ours, theirs) => panic!("{:?} and {:?} differ", ours.err(), theirs.err()),
        }
    }
}

fn unit(dice: &mut Dice) -> Unit {
    if dice.one_in(2) { Unit::Sector } else { Unit::Page }
}

/// After an operation: prefixes and random subsets of what is not synced, at one granularity.
fn cut_everywhere(disk: &MemoryDisk, options: &Options, known: &Known, dice: &mut Dice) {
    let unit = unit(dice);
    let unsynced = disk.unsynced(unit);
    let thorough = dice.one_in(4);
    for kept in 0..=unsynced {
        if thorough || kept == 0 || dice.one_in(6) {
            check_image(&disk.cut_prefix(unit, kept), options, known, dice);
        }
    }
    if unsynced > 1 {
        for _ in 0..if thorough { 4 } else { 1 } {
            check_image(&disk.cut_random(unit, dice), options, known, dice);
        }
    }
}

/// A random history: batches, idle frames, closed and removed segments, owners that follow one another.
struct History {
    disk: MemoryDisk,
    options: Options,
    known: Arc<Mutex<Known>>,
    dice: Dice,
    /// Sequence number of each acknowledged batch.
    sequences: Vec<Sequence>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut options = options([2048, 4096, 8192, 12288][dice.below(4) as usize]);
        options.spare_segments = dice.below(3) as usize;
        options.essential_bytes = 512;
        Self { disk: MemoryDisk::new(), options, known: Arc::default(), dice, sequences: Vec::new() }
    }

    fn step(&mut self, journal: &mut Journal) -> Result<(), Error> {
        match self.dice.below(12) {
            0 => journal.idle_frame().map(drop),
            1 => {
                journal.close_segment();
                Ok(())
            }
            2 => self.remove_some(journal),
            3 => match journal.try_refill() {
                Err(error) if error.is_full() => Ok(()),
                other => other.map(drop),
            },
            _ => self.append_one(journal),
        }
    }

    fn append_one(&mut self, journal: &mut Journal) -> Result<(), Error> {
        let number = self.sequences.len() as u64;
        let most = (self.options.segment_bytes - 200).min(3000);
        let batch = random_batch(&mut self.dice, number, most);
        self.known.lock().unwrap().in_flight = Some(batch.clone());
        match append(journal, &batch) {
            Ok(sequence) => {
                let mut known = self.known.lock().unwrap();
                known.in_flight = None;
                known.acknowledged.push(batch);
                self.sequences.push(sequence);
                Ok(())
            }
            Err(error) => {
                if matches!(error, Error::Full { .. } | Error::TooLarge { .. }) {
                    self.known.lock().unwrap().in_flight = None;
                }
                Err(error)
            }
        }
    }

    fn remove_some(&mut self, journal: &mut Journal) -> Result<(), Error> {
        if self.sequences.is_empty() {
            return Ok(());
        }
        let through = self.dice.below(self.sequences.len() as u64) as usize;
        let mut known = self.known.lock().unwrap();
        known.removable = known.removable.max(through + 1);
        drop(known);
        journal.remove_through(self.sequences[through])
    }
}

/// The harness would be worthless if it looked at nothing: counts what was tried.
static IMAGES: AtomicU64 = AtomicU64::new(0);

#[test]
fn power_cut_after_each_operation_of_random_histories() {
    for_seeds(2500, |seed| {
        let mut history = History::new(seed);
        let (known, options) = (Arc::clone(&history.known), history.options.clone());
        let mut dice = Dice::new(seed ^ 0xface);
        history.disk.observe(move |disk| {
            IMAGES.fetch_add(1, Ordering::Relaxed);
            cut_everywhere(disk, &options, &known.lock().unwrap(), &mut dice);
        });
        for _ in 0..1 + history.dice.below(2) {
            let mut journal = open(&history.disk, &history.options).expect("opens");
            for _ in 0..history.dice.below(8) {
                history.step(&mut journal).expect("nothing fails here");
            }
        }
    });
    assert!(IMAGES.load(Ordering::Relaxed) > seeds(2500) * 5);
}

#[test]
fn faults_fence_and_lose_nothing() {
    let fenced = AtomicU64::new(0);
    for_seeds(3000, |seed| {
        let mut history = History::new(seed);
        let mut journal = open(&history.disk, &history.options).expect("opens");
        for _ in 0..history.dice.below(6) {
            history.step(&mut journal).expect("nothing fails yet");
        }
        let fault = [Fault::Eio, Fault::Eio, Fault::Short, Fault::NoSpace][history.dice.below(4) as usize];
        let at = history.disk.operations() + history.dice.below(8);
        history.disk.inject(at, fault, seed);
        let mut failed = None;
        for _ in 0..12 {
            if let Err(error) = history.step(&mut journal) {
                failed = Some(error);
                break;
            }
        }
        if fault == Fault::Short {
            assert!(failed.is_none(), "a short write is gone on with: {failed:?}");
        }
        if failed.is_some_and(|error| !matches!(error, Error::Full { .. })) {
            let by_append = history.known.lock().unwrap().in_flight.is_some();
            fenced.fetch_add(u64::from(is_fenced(&mut journal, by_append)), Ordering::Relaxed);
        }
        drop(journal);
        history.disk.clear_faults();
        let known = history.known.lock().unwrap();
        // A power cut right after the failure …
        cut_everywhere(&history.disk, &history.options, &known, &mut history.dice.clone());
        // … and without one: the next owner in the same machine, which reads what the kernel's cache shows.
        let recovered = recover(&history.disk, &history.options).expect("opens in the same process");
        let found = recovered_batches(&recovered);
        let in_flight_found = known.check(&found);
        let mut journal = recovered.start().expect("a new owner");
        let mut after =
            Known { acknowledged: known.acknowledged.clone(), in_flight: None, removable: known.removable };
        if in_flight_found {
            after.acknowledged.extend(known.in_flight.clone());
        }
        // What it has shown is durable by now, whatever the failed sync has dropped.
        cut_everywhere(&history.disk, &history.options, &after, &mut history.dice.clone());
        let more = numbered(after.acknowledged.len() as u64, 900);
        append(&mut journal, &more).expect("goes on");
        after.acknowledged.push(more);
        cut_everywhere(&history.disk, &history.options, &after, &mut history.dice.clone());
    });
    assert!(fenced.load(Ordering::Relaxed) > seeds(3000) / 20, "too few faults hit the log");
}

/// A failed append or sync fences the log for good; a failed filling or removal need not.
fn is_fenced(journal: &mut Journal, by_append: bool) -> bool {
    let fenced = matches!(journal.sync(), Err(Error::Fenced));
    assert!(fenced || !by_append, "after a failed append the log must be fenced");
    if fenced {
        let answer = append(journal, &numbered(0, 8));
        assert!(matches!(answer, Err(Error::Fenced)), "a fenced log has answered {answer:?}");
        assert!(matches!(journal.idle_frame(), Err(Error::Fenced)));
        assert!(matches!(journal.try_refill(), Err(Error::Fenced)) || journal.space().complete);
        assert!(!journal.space().essential);
    }
    fenced
}

#[test]
fn faults_during_creation_and_recovery_can_be_tried_again() {
    for_seeds(1500, |seed| {
        let mut history = History::new(seed);
        // How much was there before the opening that goes wrong: nothing, or a log, or one with a torn tail.
        if !history.dice.one_in(3) {
            let mut journal = open(&history.disk, &history.options).expect("opens");
            for _ in 0..history.dice.below(5) {
                history.step(&mut journal).expect("nothing fails here");
            }
            if history.dice.one_in(2) {
                let batch = numbered(history.sequences.len() as u64, 1500);
                journal.write(&mut payload(&batch), None).expect("written");
                history.known.lock().unwrap().in_flight = Some(batch);
                let unit = unit(&mut history.dice);
                history.disk = history.disk.cut_random(unit, &mut history.dice);
            }
        }
        let fault = [Fault::Eio, Fault::Eio, Fault::NoSpace][history.dice.below(3) as usize];
        history.disk.inject(history.disk.operations() + history.dice.below(16), fault, seed);
        let known = history.known.lock().unwrap();
        drop(open(&history.disk, &history.options));
        history.disk.clear_faults();
        cut_everywhere(&history.disk, &history.options, &known, &mut history.dice.clone());
        let recovered = recover(&history.disk, &history.options).expect("the second attempt");
        let mut after = Known { removable: known.removable, ..Known::default() };
        after.acknowledged.clone_from(&known.acknowledged);
        if known.check(&recovered_batches(&recovered)) {
            after.acknowledged.extend(known.in_flight.clone());
        }
        let mut journal = recovered.start().expect("a new owner");
        let more = numbered(after.acknowledged.len() as u64, 900);
        append(&mut journal, &more).expect("goes on");
        after.acknowledged.push(more);
        cut_everywhere(&history.disk, &history.options, &after, &mut history.dice.clone());
    });
}
