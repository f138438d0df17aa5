//! Bodies: what was stored is read back, whatever happened; what was not is not there.

use std::sync::{Arc, Mutex};

use journal::memory::{Dice, Fault, MemoryDisk, Unit};
use model::id::BodyHash;
use prost::bytes::Bytes;

use super::{Bodies, hash, locked};
use crate::store::Error;

const FILE: u64 = 16 * 1024;

fn body(seed: u64, length: usize) -> (BodyHash, Bytes) {
    let mut dice = Dice::new(seed);
    let bytes: Bytes = (0..length).map(|_| dice.roll() as u8 | 1).collect();
    (hash(&bytes), bytes)
}

fn open(disk: &MemoryDisk) -> Arc<Bodies> {
    Bodies::open(Arc::new(disk.clone()), FILE).unwrap()
}

fn store(bodies: &Arc<Bodies>, list: &[(BodyHash, Bytes)]) -> Result<(), Error> {
    bodies.store(list, None)
}

#[track_caller]
fn check_has(bodies: &Bodies, list: &[(BodyHash, Bytes)]) {
    for (hash, bytes) in list {
        assert_eq!(bodies.get(hash).unwrap().as_ref(), Some(bytes));
    }
}

#[test]
fn bodies_are_stored_once_and_found_again() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list: Vec<_> =
        [0, 1, 447, 448, 449, 3000].into_iter().zip(1..).map(|(n, seed)| body(seed, n)).collect();
    store(&bodies, &list).unwrap();
    let before = disk.operations();
    store(&bodies, &list).unwrap();
    store(&bodies, &[]).unwrap();
    assert_eq!(disk.operations(), before, "what is there is not written again");
    check_has(&bodies, &list);
    assert_eq!(bodies.size().0, list.len());
    // The same body twice in one batch is one body.
    let twin = body(99, 100);
    store(&bodies, &[twin.clone(), twin.clone()]).unwrap();
    assert_eq!(bodies.size().0, list.len() + 1);
    drop(bodies);

    let again = open(&disk.settled());
    check_has(&again, &list);
    check_has(&again, &[twin]);
    assert_eq!(again.get(&hash(b"other")).unwrap(), None);
}

#[test]
fn many_batches_fill_many_files() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list: Vec<_> = (0..60).map(|seed| body(seed, 1000 + seed as usize * 50)).collect();
    for pair in list.chunks(2) {
        store(&bodies, pair).unwrap();
    }
    assert!(bodies.size().1 > 5 * FILE);
    check_has(&bodies, &list);
    drop(bodies);
    check_has(&open(&disk.settled()), &list);
}

/// After each operation, under random power cuts: all that was stored is there, and nothing false is.
#[test]
fn power_cuts_lose_nothing_stored() {
    for seed in 0..12 {
        let disk = MemoryDisk::new();
        let stored: Arc<Mutex<Vec<(BodyHash, Bytes)>>> = Arc::default();
        let cuts: Arc<Mutex<Vec<(MemoryDisk, usize)>>> = Arc::default();
        let (seen, made) = (Arc::clone(&stored), Arc::clone(&cuts));
        let mut dice = Dice::new(seed);
        disk.observe(move |disk| {
            let unit = if dice.one_in(2) { Unit::Sector } else { Unit::Page };
            let kept = locked(&seen).len();
            let cut = disk.cut_random(unit, &mut dice);
            if dice.one_in(4) {
                locked(&made).push((cut, kept));
            }
        });
        let bodies = open(&disk);
        let all: Vec<_> = (0..30).map(|at| body(seed * 1000 + at, 200 + at as usize * 97)).collect();
        for batch in all.chunks(3) {
            store(&bodies, batch).unwrap();
            locked(&stored).extend_from_slice(batch);
        }
        let stored = locked(&stored).clone();
        for (cut, kept) in locked(&cuts).drain(..) {
            let bodies = open(&cut);
            check_has(&bodies, &stored[..kept]);
            for (hash, bytes) in &all[kept..] {
                let found = bodies.get(hash).unwrap();
                assert!(found.is_none() || found.as_ref() == Some(bytes));
            }
            // It goes on: the rest is stored now, and found after another cut.
            store(&bodies, &all[kept..]).unwrap();
            let mut dice = Dice::new(seed + 77);
            check_has(&open(&cut.cut_random(Unit::Sector, &mut dice)), &all);
        }
    }
}

/// A sync that failed proves nothing: after opening anew, what is in the index is durable for sure.
#[test]
fn a_failed_sync_is_not_believed_later() {
    for seed in 0..30 {
        let disk = MemoryDisk::new();
        let bodies = open(&disk);
        let first = [body(seed, 700)];
        store(&bodies, &first).unwrap();
        let second = [body(seed + 100, 900), body(seed + 200, 100)];
        disk.inject(disk.operations() + 1, Fault::Eio, seed);
        assert!(store(&bodies, &second).is_err());
        drop(bodies);
        let again = open(&disk);
        let there: Vec<_> = second.iter().filter(|(hash, _)| again.contains(hash)).cloned().collect();
        drop(again);
        // The power goes; whatever was in the index must be there.
        let after = open(&disk.cut_prefix(Unit::Sector, 0));
        check_has(&after, &first);
        check_has(&after, &there);
    }
}

#[test]
fn promised_space_is_there_on_a_full_disk() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    bodies.try_refill().unwrap();
    store(&bodies, &[body(1, 10)]).unwrap();
    bodies.try_refill().unwrap();
    disk.set_capacity(Some(disk.used()));
    let list: Vec<_> = (2..20_u64).map(|seed| body(seed, 3000)).collect();
    let mut promised = Vec::new();
    for (_, bytes) in &list {
        match bodies.reserve(Bodies::size_on_disk(bytes.len())) {
            Ok(space) => promised.push(space),
            Err(error) => assert!(error.is_full() && !error.is_fencing()),
        }
    }
    let count = promised.len();
    assert!((2..18).contains(&count), "{count}");
    for (item, space) in list.iter().zip(promised) {
        bodies.store(std::slice::from_ref(item), Some(space)).unwrap();
    }
    check_has(&bodies, &list[..count]);
    assert!(bodies.try_refill().is_err_and(|error| error.is_full()));
    // Space comes back.
    disk.set_capacity(None);
    bodies.try_refill().unwrap();
    assert!(bodies.reserve(4000).is_ok());
}

#[test]
fn a_promise_grows_in_its_place() {
    let bodies = open(&MemoryDisk::new());
    bodies.try_refill().unwrap();
    let mut space = bodies.reserve(1000).unwrap();
    bodies.grow(&mut space, 8000).unwrap();
    assert_eq!(space.bytes(), 8000);
    assert!(matches!(bodies.grow(&mut space, FILE), Err(Error::BodyTooLarge { .. })));
    assert_eq!(space.bytes(), 8000);
    let other = bodies.reserve(8000).unwrap();
    assert!(matches!(bodies.reserve(1000), Err(Error::BodiesFull)));
    drop(other);
    assert!(bodies.reserve(1000).is_ok());
}

#[test]
fn what_nobody_wants_is_erased_and_what_is_pinned_stays() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list: Vec<_> = (0..9).map(|seed| body(seed, 1500)).collect();
    store(&bodies, &list).unwrap();
    let mut pins = bodies.pins();
    assert!(pins.add(&list[1].0));

    let mut collection = bodies.begin_collection();
    collection.keep(&list[0].0);
    // A batch that came meanwhile refers to one that the marks miss.
    let mut late = bodies.pins();
    assert!(late.add(&list[2].0));
    drop(late);
    let collected = collection.finish().unwrap();
    assert_eq!(collected.erased, 6);
    check_has(&bodies, &list[..3]);
    for (hash, bytes) in &list[3..] {
        assert!(!bodies.contains(hash));
        let content = disk.content("bodies-0000000001.dat").unwrap();
        assert!(!content.windows(64).any(|window| window == &bytes[..64]), "its bytes are gone");
    }
    drop(pins);
    // They stay gone, and can be stored again.
    let again = open(&disk.settled());
    check_has(&again, &list[..3]);
    assert_eq!(again.size().0, 3);
    store(&again, &list[3..5]).unwrap();
    check_has(&again, &list[..5]);
}

fn list_of(disk: &MemoryDisk, id: u32) -> Option<Vec<u8>> {
    disk.content(&format!("bodies-{id:010}.list"))
}

#[test]
fn a_full_file_is_opened_by_its_list() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list: Vec<_> = (0..40).map(|seed| body(seed, 1500)).collect();
    list.iter().for_each(|item| store(&bodies, std::slice::from_ref(item)).unwrap());
    bodies.write_lists().unwrap();
    drop(bodies);
    let settled = disk.settled();
    assert!(list_of(&settled, 1).is_some() && list_of(&settled, 2).is_some());
    // Headers in a listed file are not looked at: without them its bodies are there all the same.
    let blind = settled.settled();
    let mut content = blind.content("bodies-0000000001.dat").unwrap();
    content[..64].fill(0);
    blind.set_content("bodies-0000000001.dat", content);
    check_has(&open(&blind), &list);
    // A list that is damaged, cut or gone is made anew from the headers.
    let whole = list_of(&settled, 1).unwrap();
    let mut flipped = whole.clone();
    flipped[30] ^= 1;
    for bad in [Some(flipped), Some(whole[..40].to_vec()), Some(Vec::new()), None] {
        let disk = settled.settled();
        match bad {
            Some(bytes) => disk.set_content("bodies-0000000001.list", bytes),
            None => journal::Disk::remove(&disk, "bodies-0000000001.list").unwrap(),
        }
        let bodies = open(&disk);
        check_has(&bodies, &list);
        bodies.write_lists().unwrap();
        assert_eq!(list_of(&disk, 1), Some(whole.clone()));
    }
}

/// A list must never bring back what was erased: a job that asks for it would lose its body.
#[test]
fn a_list_never_names_what_is_erased() {
    for seed in 0..10 {
        let disk = MemoryDisk::new();
        let bodies = open(&disk);
        let list: Vec<_> = (0..40).map(|at| body(seed * 100 + at, 1500)).collect();
        list.iter().for_each(|item| store(&bodies, std::slice::from_ref(item)).unwrap());
        bodies.write_lists().unwrap();
        let cuts: Arc<Mutex<Vec<MemoryDisk>>> = Arc::default();
        let made = Arc::clone(&cuts);
        let mut dice = Dice::new(seed);
        disk.observe(move |disk| locked(&made).push(disk.cut_random(Unit::Sector, &mut dice)));
        let mut collection = bodies.begin_collection();
        // Enough stays that the files do.
        let kept: Vec<_> =
            list.iter().enumerate().filter(|(at, _)| at % 3 != 0).map(|(_, item)| item.clone()).collect();
        kept.iter().for_each(|(hash, _)| collection.keep(hash));
        collection.finish().unwrap();
        assert!(list_of(&disk, 1).is_some(), "made anew when the collection ends");
        check_has(&bodies, &kept);
        let mut cuts = std::mem::take(&mut *locked(&cuts));
        cuts.push(disk.settled());
        for cut in cuts {
            let after = open(&cut);
            check_has(&after, &kept);
            for (hash, bytes) in &list {
                let found = after.get(hash).unwrap();
                assert!(found.as_ref().is_none_or(|found| found == bytes));
                assert_eq!(found.is_some(), after.contains(hash));
            }
        }
    }
}

/// A file that counted as full and is the newest after a crash is appended to again: its list goes first.
#[test]
fn the_newest_file_is_not_believed_by_its_list() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    bodies.try_refill().unwrap();
    let list: Vec<_> = (0..9).map(|seed| body(seed, 1500)).collect();
    list.iter().for_each(|item| store(&bodies, std::slice::from_ref(item)).unwrap());
    // The next one fails in the next file.
    let last = body(50, 1500);
    disk.inject(disk.operations(), Fault::Eio, 1);
    assert!(store(&bodies, std::slice::from_ref(&last)).is_err());
    disk.clear_faults();
    bodies.write_lists().unwrap();
    assert!(list_of(&disk, 1).is_some());
    drop(bodies);
    let again = open(&disk.settled());
    let small = body(60, 100);
    store(&again, std::slice::from_ref(&small)).unwrap();
    check_has(&again, &list);
    check_has(&again, &[small]);
}

#[test]
fn files_with_little_in_them_are_emptied() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list: Vec<_> = (0..40).map(|seed| body(seed, 1500)).collect();
    for item in &list {
        store(&bodies, std::slice::from_ref(item)).unwrap();
    }
    let (_, before) = bodies.size();
    let mut collection = bodies.begin_collection();
    let kept = [list[0].clone(), list[39].clone()];
    kept.iter().for_each(|(hash, _)| collection.keep(hash));
    let collected = collection.finish().unwrap();
    assert_eq!(collected.erased, 38);
    assert_eq!(collected.moved, 1);
    assert!(collected.files_removed >= 3);
    assert!(bodies.size().1 < before);
    check_has(&bodies, &kept);
    check_has(&open(&disk.settled()), &kept);
}

/// Power cuts during collections: what is wanted is there, and a live header never covers erased bytes.
#[test]
fn power_cuts_during_a_collection() {
    for seed in 0..10 {
        let disk = MemoryDisk::new();
        let bodies = open(&disk);
        let list: Vec<_> = (0..24).map(|at| body(seed * 100 + at, 900)).collect();
        for pair in list.chunks(2) {
            store(&bodies, pair).unwrap();
        }
        let cuts: Arc<Mutex<Vec<MemoryDisk>>> = Arc::default();
        let made = Arc::clone(&cuts);
        let mut dice = Dice::new(seed);
        disk.observe(move |disk| locked(&made).push(disk.cut_random(Unit::Sector, &mut dice)));
        let mut collection = bodies.begin_collection();
        let kept: Vec<_> = list.iter().step_by(7).cloned().collect();
        kept.iter().for_each(|(hash, _)| collection.keep(hash));
        collection.finish().unwrap();
        check_has(&bodies, &kept);
        for cut in locked(&cuts).drain(..) {
            let after = open(&cut);
            check_has(&after, &kept);
            for (hash, _) in &list {
                assert!(after.get(hash).is_ok(), "whole or not there");
            }
        }
    }
}

#[test]
fn damage_is_told_and_never_returned() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list = [body(1, 600), body(2, 600)];
    store(&bodies, &list[..1]).unwrap();
    store(&bodies, &list[1..]).unwrap();
    drop(bodies);
    let mut content = disk.content("bodies-0000000001.dat").unwrap();
    content[100] ^= 1;
    disk.set_content("bodies-0000000001.dat", content);
    let again = open(&disk);
    assert!(matches!(again.get(&list[0].0), Err(Error::BodyDamage { offset: 0, .. })));
    check_has(&again, &list[1..]);
}

/// An error beside the committer may be the only word on the committer's own pages: it counts as its error.
#[test]
fn a_failed_sync_of_a_collection_stops_the_store() {
    let disk = MemoryDisk::new();
    let bodies = open(&disk);
    let list = [body(1, 700), body(2, 700)];
    store(&bodies, &list).unwrap();
    // The header of each of the two, then the sync.
    disk.inject(disk.operations() + 2, Fault::Eio, 1);
    assert!(bodies.begin_collection().finish().is_err());
    assert!(matches!(store(&bodies, &[body(3, 10)]), Err(Error::Stopped)));
    drop(bodies);
    disk.clear_faults();
    let again = open(&disk);
    store(&again, &[body(3, 10)]).unwrap();
    check_has(&again, &[body(3, 10)]);
}
