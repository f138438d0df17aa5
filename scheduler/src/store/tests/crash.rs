//! Power cuts at every operation of the store: what was acknowledged is there, whole, with its bodies and rows.

use std::sync::{Arc, Mutex};

use journal::memory::{Dice, MemoryDisk, Unit};
use scheduler_codec::digest;

use super::world::{Story, World, locked, open, rows_of, seeds};

type Cuts = Arc<Mutex<Vec<(MemoryDisk, Story)>>>;

/// Keeps some of the disks that a power cut would leave, with the story at that time.
fn keep_cuts(disk: &MemoryDisk, world: &World, seed: u64, one_in: u64) -> Cuts {
    let cuts: Cuts = Arc::default();
    let (made, story) = (Arc::clone(&cuts), Arc::clone(&world.story));
    let mut dice = Dice::new(seed);
    disk.observe(move |disk| {
        if dice.one_in(one_in) {
            // What is acknowledged is read before the cut: what is later may be on the disk or not. What was handed over is
            // read behind it: a batch that comes meanwhile may be on the disk, too.
            let acknowledged = locked(&story).acknowledged;
            let unit = if dice.one_in(2) { Unit::Sector } else { Unit::Page };
            let cut = match dice.below(4) {
                0 => disk.cut_prefix(unit, dice.below(1 + disk.unsynced(unit) as u64) as usize),
                1 => disk.cut_prefix(unit, 0),
                _ => disk.cut_random(unit, &mut dice),
            };
            let story = Story { acknowledged, ..locked(&story).clone() };
            locked(&made).push((cut, story));
        }
    });
    cuts
}

fn check_cuts(cuts: &Cuts, seed: u64) -> usize {
    let cuts = std::mem::take(&mut *locked(cuts));
    for (number, (cut, story)) in cuts.iter().enumerate() {
        let opened = open(cut.clone()).unwrap_or_else(|error| panic!("seed {seed}, cut {number}: {error}"));
        story.check(&opened);
        opened.store.close();
    }
    cuts.len()
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    for seed in seeds(0, 6) {
        let disk = MemoryDisk::new();
        let mut world = World::begin(seed, &disk);
        let cuts = keep_cuts(&disk, &world, seed, 3);
        let mut before = None;
        for _ in 0..60 {
            let records = world.random.batch();
            let waiting = world.hand_over(records).unwrap();
            // One batch is on its way while the next is made.
            if let Some(before) = before.replace(waiting) {
                world.release(before).unwrap();
            }
        }
        world.release(before.unwrap()).unwrap();
        world.store.close();
        assert!(check_cuts(&cuts, seed) > 30, "seed {seed}");
    }
}

#[test]
fn power_cuts_during_compaction() {
    for seed in seeds(100, 6) {
        let disk = MemoryDisk::new();
        let mut world = World::begin(seed, &disk);
        let cuts = keep_cuts(&disk, &world, seed, 4);
        for number in 1..=60 {
            world.step().unwrap();
            if number % 15 == 0 {
                world.store.compact_now().unwrap();
            }
        }
        let story = locked(&world.story).clone();
        let frames = world.store.history().covered_through();
        assert!(frames > 10, "rows went to files");
        world.store.close();
        assert!(check_cuts(&cuts, seed) > 30, "seed {seed}");
        let opened = open(disk.settled()).unwrap();
        assert!(opened.report.snapshot.is_some());
        assert!(opened.report.frames_replayed < 40, "the rest is in the snapshot");
        story.check(&opened);
        opened.store.close();
    }
}

/// Owners come and go, each after a power cut at a random place; the story goes on.
#[test]
fn many_owners_in_a_row() {
    for seed in seeds(200, 4) {
        let mut dice = Dice::new(seed);
        let mut disk = MemoryDisk::new();
        let mut world = World::begin(seed, &disk);
        for _ in 0..12 {
            for _ in 0..1 + dice.below(8) {
                world.step().unwrap();
            }
            if dice.one_in(3) {
                world.store.compact_now().unwrap();
            }
            let records = world.random.batch();
            let waiting = world.hand_over(records).unwrap();
            let cut = disk.cut_random(Unit::Sector, &mut dice);
            drop(waiting);
            let story = locked(&world.story).clone();
            disk = cut;
            let opened = open(disk.clone()).unwrap();
            let at = story.check(&opened);
            world.resume(opened, at);
            world.own().unwrap();
        }
        world.store.close();
    }
}

#[test]
fn a_compacted_store_is_the_same_store() {
    for seed in seeds(300, 4) {
        let (plain, compacted) = (MemoryDisk::new(), MemoryDisk::new());
        for (disk, often) in [(&plain, 0), (&compacted, 7)] {
            let mut world = World::begin(seed, disk);
            for number in 1..=70 {
                world.step().unwrap();
                if often > 0 && number % often == 0 {
                    world.store.compact_now().unwrap();
                }
            }
            world.store.close();
        }
        let (one, other) = (open(plain.settled()).unwrap(), open(compacted.settled()).unwrap());
        assert_eq!(digest(&one.state), digest(&other.state));
        assert_eq!(one.state.digest(), other.state.digest());
        assert_eq!(one.report.snapshot, None);
        assert!(other.report.snapshot.is_some());
        let (rows, same) = (rows_of(one.store.history()), rows_of(other.store.history()));
        assert!(rows.len() > 10);
        assert_eq!(rows, same);
        one.store.close();
        other.store.close();
    }
}
