//! Failures that the process survives: errors of the disk, a full disk, damage, missing bodies, other owners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::Class;
use journal::memory::{Dice, Fault, MemoryDisk, Unit};
use model::id::BodyHash;
use prost::bytes::Bytes;
use scheduler_codec::digest;
use scheduler_core::state::State;

use super::world::{World, locked, open, row, seeds, settings};
use crate::store::{Error, Store, layout};

/// Polls until something is so.
#[track_caller]
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// An error of the disk fences the store; opened anew in the same process, it has all that was acknowledged.
#[test]
fn a_fenced_store_is_recovered_in_process() {
    for seed in seeds(0, 25) {
        let disk = MemoryDisk::new();
        let mut world = World::begin(seed, &disk);
        let mut dice = Dice::new(seed);
        for _ in 0..4 {
            disk.inject(disk.operations() + dice.below(25), Fault::Eio, dice.roll());
            let failed = (0..40).find_map(|_| world.step().err());
            if let Some(error) = failed.filter(Error::is_fencing) {
                let next = world.step().unwrap_err();
                assert!(next.is_fencing(), "seed {seed}: {error}, then {next}");
            }
            disk.clear_faults();
            let story = locked(&world.story).clone();
            // The owner goes before the next one comes.
            let placeholder = open(MemoryDisk::new()).unwrap().store;
            std::mem::replace(&mut world.store, placeholder).close();
            let opened = open(disk.handle()).unwrap();
            let at = story.check(&opened);
            std::mem::replace(&mut world.store, open(MemoryDisk::new()).unwrap().store).close();
            world.resume(opened, at);
            world.own().unwrap();
        }
        world.store.close();
        // What was believed is durable.
        let story = locked(&world.story).clone();
        let opened = open(disk.cut_prefix(Unit::Sector, 0)).unwrap();
        story.check(&opened);
        opened.store.close();
    }
}

#[test]
fn a_full_disk_stops_admission_and_nothing_else() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(1, &disk);
    for _ in 0..5 {
        world.step().unwrap();
    }
    wait_until("space is filled ahead", || world.store.space().complete);
    disk.set_capacity(Some(disk.used()));
    let refused = (0..2000).find_map(|_| {
        let (before, next) = (world.random.state.clone(), world.random.batch());
        world.commit(next).err().inspect(|_| world.random.state = before)
    });
    let refused = refused.expect("the disk gets full");
    assert!(refused.is_full() && !refused.is_fencing(), "{refused}");
    // Ends are still stored, from the second reserve.
    let mut batch = world.store.batch();
    world.store.admit(&mut batch, Class::Essential, 512, &[]).unwrap();
    drop(batch);
    // A restart on the full disk comes up.
    let story = locked(&world.story).clone();
    let placeholder = open(MemoryDisk::new()).unwrap().store;
    std::mem::replace(&mut world.store, placeholder).close();
    let opened = open(disk.handle()).unwrap();
    let at = story.check(&opened);
    assert_eq!(at, story.acknowledged);
    // Space comes back, and admission with it, by itself.
    disk.set_capacity(None);
    let admitted = || {
        let mut batch = opened.store.batch();
        opened.store.admit(&mut batch, Class::Admission, 8192, &[3000]).is_ok()
    };
    wait_until("admission comes back", admitted);
    opened.store.close();
    world.store.close();
}

#[test]
fn space_that_is_spoken_for_is_no_full_disk() {
    let disk = MemoryDisk::new();
    let world = World::begin(2, &disk);
    wait_until("space is filled ahead", || world.store.space().complete);
    let spares = world.store.space().spares;
    let batches: Vec<_> = (0..spares + 2).map(|_| world.store.batch()).collect();
    let held = batches.into_iter().map(|mut batch| {
        // Most of a segment each: they need one more than the current one and those that wait.
        world.store.admit(&mut batch, Class::Admission, 10_000, &[]).map(|()| batch)
    });
    let held = held.collect::<Result<Vec<_>, _>>().unwrap();
    assert!(world.store.space().spares > spares);
    drop(held);
    world.store.close();
}

#[test]
fn a_last_frame_whose_body_is_missing_is_given_up() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(5, &disk);
    for _ in 0..10 {
        world.step().unwrap();
    }
    world.store.close();
    // A frame that refers to a body which nobody stored, as if the disk had lied about its sync.
    let mut opened = open(disk.settled()).unwrap();
    let before = digest(&opened.state);
    let mut job = (**opened.state.jobs.values().next().unwrap()).clone();
    (job.id, job.bodies.environment) = (model::id::JobId(9999), BodyHash([9; 32]));
    let record = scheduler_core::record::Record::Job(Arc::new(job));
    let lying = MemoryDisk::new();
    copy(&disk, &lying);
    std::mem::replace(&mut opened.store, open(lying.clone()).unwrap().store).close();
    let mut batch = opened.store.batch();
    batch.push(&record);
    let (done, wait) = std::sync::mpsc::channel();
    // No idle frame follows: the power goes at once.
    opened.store.commit(batch, Box::new(move |outcome| drop(done.send((outcome.is_ok(), lying.settled())))));
    let (stored, cut) = wait.recv().unwrap();
    assert!(stored);
    opened.store.close();
    let again = open(cut.clone()).unwrap();
    assert!(again.report.last_frame_rejected);
    assert_eq!(digest(&again.state), before);
    again.store.close();
    // And it stays given up.
    let third = open(cut.settled()).unwrap();
    assert!(!third.report.last_frame_rejected);
    assert_eq!(digest(&third.state), before);
    third.store.close();
}

fn copy(from: &MemoryDisk, to: &MemoryDisk) {
    use journal::Disk;
    for name in from.list().unwrap() {
        to.set_content(&name, from.content(&name).unwrap());
    }
}

#[test]
fn bodies_lost_later_are_told_by_job() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(6, &disk);
    for _ in 0..20 {
        world.step().unwrap();
    }
    let digest_before = digest(&world.random.state);
    world.store.close();
    let name = layout::bodies_name(1);
    let length = disk.content(&name).unwrap().len();
    disk.set_content(&name, vec![0; length]);
    let opened = open(disk.settled()).unwrap();
    assert_eq!(digest(&opened.state), digest_before, "no frame is given up for damage");
    assert!(!opened.report.jobs_without_bodies.is_empty());
    opened.store.close();
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_one_before() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(7, &disk);
    for number in 1..=60 {
        world.step().unwrap();
        if number % 20 == 0 {
            world.store.compact_now().unwrap();
        }
    }
    let story = locked(&world.story).clone();
    world.store.close();
    let settled = disk.settled();
    let snapshots = crate::store::snapshot::list(&settled).unwrap();
    assert_eq!(snapshots.len(), 2, "two are kept");
    let newest = layout::snapshot_name(snapshots[1]);
    let mut content = settled.content(&newest).unwrap();
    content[700] ^= 1;
    settled.set_content(&newest, content);
    let opened = open(settled.settled()).unwrap();
    assert_eq!(opened.report.snapshot, Some(snapshots[0]));
    assert_eq!(opened.report.unreadable.len(), 1);
    assert_eq!(story.check(&opened), story.acknowledged);
    opened.store.close();
    // With both gone the journal alone is not enough, and nothing pretends that it is.
    for sequence in snapshots {
        settled.set_content(&layout::snapshot_name(sequence), b"damage".to_vec());
    }
    let refused = open(settled.settled()).err().expect("it is refused");
    assert!(matches!(refused, Error::NoSnapshot { .. }), "{refused}");
}

#[test]
fn a_second_owner_is_refused_and_an_old_one_stores_nothing() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(8, &disk);
    world.step().unwrap();
    // The modelled disk lets a new owner take over, as a lease would.
    let opened = open(disk.handle()).unwrap();
    assert!(opened.store.epoch() > world.store.epoch());
    let error = world.step().unwrap_err();
    assert!(error.is_fencing(), "{error}");
    opened.store.close();
    world.store.close();
}

#[test]
fn a_record_that_does_not_fit_stops_the_start_by_its_place() {
    let disk = MemoryDisk::new();
    let opened = open(disk.clone()).unwrap();
    let mut batch = opened.store.batch();
    batch.push(&scheduler_core::record::Record::JobPurged(model::id::JobId(5)));
    let (done, wait) = std::sync::mpsc::channel();
    opened.store.commit(batch, Box::new(move |outcome| done.send(outcome.is_ok()).unwrap()));
    assert!(wait.recv().unwrap());
    opened.store.close();
    match Store::open(Arc::new(disk.settled()), settings(), &mut row) {
        Err(Error::Apply { file, record: 1, assertion, .. }) => {
            assert_eq!(file, "journal-0000000001.seg");
            assert!(assertion.contains("exists"), "{assertion}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Nobody asks for snapshots: they come with the journal's growth, and old segments and snapshots go.
#[test]
fn snapshots_come_by_themselves() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(10, &disk);
    let mut settings = settings();
    settings.compaction.after_bytes = 48 * 1024;
    let placeholder = open(MemoryDisk::new()).unwrap().store;
    std::mem::replace(&mut world.store, placeholder).close();
    let opened = Store::open(Arc::new(disk.handle()), settings, &mut row).unwrap();
    let at = locked(&world.story).acknowledged;
    world.resume(opened, at);
    world.own().unwrap();
    let names = |start: &str| {
        let names = journal::Disk::list(&disk).unwrap();
        names.into_iter().filter(|name| name.starts_with(start)).collect::<Vec<_>>()
    };
    let first = names("journal-").into_iter().min();
    wait_until("old segments go", || {
        world.step().unwrap();
        names("journal-").into_iter().min() > first
    });
    assert_eq!(names("snapshot-").iter().filter(|name| name.ends_with(".frames")).count(), 2);
    let story = locked(&world.story).clone();
    world.store.close();
    let opened = open(disk.settled()).unwrap();
    assert!(opened.report.snapshot.is_some());
    assert_eq!(story.check(&opened), story.acknowledged);
    opened.store.close();
}

/// Bodies leave the disk when no job refers to them any more, and those of jobs stay.
#[test]
fn bodies_are_collected_beside_the_controller() {
    let disk = MemoryDisk::new();
    let mut world = World::begin(9, &disk);
    for _ in 0..40 {
        world.step().unwrap();
    }
    let orphan: Bytes = vec![200; 5000].into();
    let hash = crate::store::bodies::hash(&orphan);
    let mut batch = world.store.batch();
    world.store.admit(&mut batch, Class::Admission, 100, &[orphan.len()]).unwrap();
    batch.push(&scheduler_core::record::Record::NextJobId(10_000));
    batch.push_body(hash, orphan);
    let (done, wait) = std::sync::mpsc::channel();
    world.store.commit(batch, Box::new(move |outcome| drop(done.send(outcome))));
    let Ok(committed) = wait.recv().unwrap() else { panic!("it is durable") };
    let collect = |state: &State| {
        let mut collection = world.store.bodies().begin_collection();
        collection.keep_state(state);
        collection.finish().unwrap()
    };
    collect(&world.random.state);
    assert!(world.store.bodies().contains(&hash), "a batch that the views do not have yet pins it");
    drop(committed);
    assert!(collect(&world.random.state).erased >= 1);
    assert!(!world.store.bodies().contains(&hash));
    super::world::check_bodies(&world.random.state, &world.store);
    world.store.close();
}
