//! A state folder of every released format opens to its recorded digest. Folders are never made again: a
//! change that cannot read them is a change of format, which needs a version and a rule for older readers.
//!
//! With SLUICE_BLESS set (`cargo xtask bless`) the folder of a new format is made, and digests are recorded anew: a field
//! that the state has gained changes them, and the reviewer sees that nothing else did.

use std::path::PathBuf;
use std::sync::Arc;

use journal::memory::MemoryDisk;
use journal::{Disk, read_full_at};
use scheduler_codec::digest;

use super::world::{World, open, rows_of};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/golden")
}

/// Files of a disk in one: name, length, bytes without the zeros at the end.
fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut names = disk.list().unwrap();
    names.sort();
    let mut packed = Vec::new();
    for name in names.iter().filter(|name| *name != "lock") {
        let content = disk.content(name).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        packed.extend_from_slice(format!("{name} {} {used}\n", content.len()).as_bytes());
        packed.extend_from_slice(&content[..used]);
    }
    packed
}

fn unpack(mut packed: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    while !packed.is_empty() {
        let end = packed.iter().position(|byte| *byte == b'\n').unwrap();
        let head = std::str::from_utf8(&packed[..end]).unwrap();
        let mut words = head.split(' ');
        let name = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (length, used) = (number(), number());
        let mut content = packed[end + 1..end + 1 + used].to_vec();
        content.resize(length, 0);
        disk.set_content(name, content);
        packed = &packed[end + 1 + used..];
    }
    disk
}

fn blessing() -> bool {
    std::env::var_os("SLUICE_BLESS").is_some()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is recorded of a folder: digest of the state, and its history.
fn facts(disk: &MemoryDisk) -> String {
    let opened = open(disk.clone()).unwrap();
    let mut text = format!("state {}\nsnapshot {:?}\n", hex(&digest(&opened.state)), opened.report.snapshot);
    for (job, run) in rows_of(opened.store.history()) {
        text.push_str(&format!("row {job} {run}\n"));
    }
    opened.store.close();
    text
}

#[test]
fn every_released_format_opens_to_its_digest() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "folder") {
            let found = facts(&unpack(&std::fs::read(&path).unwrap()));
            if blessing() {
                std::fs::write(path.with_extension("facts"), &found).unwrap();
            }
            let recorded = std::fs::read_to_string(path.with_extension("facts")).unwrap();
            assert_eq!(found, recorded, "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

/// The folder of the present format is there; where it is missing it is made, once, when the format is new.
#[test]
fn the_present_format_has_a_folder() {
    let name = format!("v{}-{}", journal::FORMAT_VERSION, scheduler_codec::VERSION);
    let path = folder().join(format!("{name}.folder"));
    if path.exists() || !blessing() {
        assert!(path.exists(), "cargo xtask bless makes {}", path.display());
        return;
    }
    let disk = MemoryDisk::new();
    let mut world = World::begin(4711, &disk);
    for number in 1..=80 {
        world.step().unwrap();
        if number == 40 {
            world.store.compact_now().unwrap();
        }
    }
    world.store.close();
    let packed = pack(&disk.settled());
    std::fs::write(&path, &packed).unwrap();
    std::fs::write(path.with_extension("facts"), facts(&unpack(&packed))).unwrap();
}

#[test]
fn packing_loses_nothing() {
    let disk = MemoryDisk::new();
    World::begin(1, &disk).store.close();
    let again = unpack(&pack(&disk));
    for name in disk.list().unwrap().iter().filter(|name| *name != "lock") {
        assert_eq!(disk.content(name), again.content(name), "{name}");
    }
    let shared: Arc<dyn Disk> = Arc::new(again);
    let mut byte = [0];
    assert_eq!(read_full_at(&*shared.open("identity").unwrap(), 0, &mut byte).unwrap(), 1);
}
