//! The daemon's own program makes snapshots as a child process, on a real folder.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use model::id::PartitionIdx;
use scheduler::store::compact::Maker;
use scheduler::store::{Class, Error, FileDisk, Opened, Settings, Store};
use scheduler_core::record::Record;
use scheduler_core::state::partition::PartitionDefinition;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-scheduler");

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        // Of an earlier process with the same number.
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn open(&self, program: &str) -> Result<Opened, Error> {
        let mut settings = Settings::default();
        settings.journal.segment_bytes = 64 * 1024;
        settings.journal.essential_bytes = 4096;
        settings.body_file_bytes = 64 * 1024;
        settings.compaction.maker = Maker::Child { program: program.into(), state: self.0.clone() };
        let disk = Arc::new(FileDisk::open(&self.0).unwrap());
        Store::open(disk, settings, &mut |_, _| proto::v1::Job::default())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn commit(store: &Store, records: &[Record]) {
    let mut batch = store.batch();
    store.admit(&mut batch, Class::Admission, 4096, &[]).unwrap();
    records.iter().for_each(|record| batch.push(record));
    let (done, wait) = channel();
    store.commit(batch, Box::new(move |outcome| done.send(outcome.map(|durable| durable.sequence)).unwrap()));
    store.history().observed(wait.recv().unwrap().unwrap());
}

fn define(number: u32) -> Record {
    let name = format!("p{number}");
    Record::PartitionDefined {
        partition: PartitionIdx(number),
        definition: Arc::new(PartitionDefinition::named(&name)),
        changed_at_run_time: false,
    }
}

#[test]
fn a_child_makes_the_snapshot_and_the_next_start_takes_it() {
    let folder = Folder::new("compact-child");
    let opened = folder.open(PROGRAM).unwrap();
    (0..20).for_each(|number| commit(&opened.store, &[define(number)]));
    assert!(opened.store.compact_now().unwrap());
    commit(&opened.store, &[define(20)]);
    opened.store.close();

    let again = folder.open(PROGRAM).unwrap();
    assert!(again.report.snapshot.is_some());
    assert_eq!(again.state.partitions.len(), 21);
    assert_eq!(again.report.records_replayed, 1);
    again.store.close();
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    assert_eq!(std::fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_child_that_cannot_is_told_and_harms_nothing() {
    let folder = Folder::new("compact-fails");
    let opened = folder.open("/bin/false").unwrap();
    commit(&opened.store, &[define(0)]);
    assert!(matches!(opened.store.compact_now(), Err(Error::Compaction(_))));
    commit(&opened.store, &[define(1)]);
    opened.store.close();
    let again = folder.open("/no/such/program").unwrap();
    assert_eq!((again.report.snapshot, again.state.partitions.len()), (None, 2));
    assert!(matches!(again.store.compact_now(), Err(Error::Io { operation: "run", .. })));
    again.store.close();
}

#[test]
fn the_command_says_what_it_wants() {
    let output = Command::new(PROGRAM).args(["compact", "--state", "/nonexistent"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("usage: compact --state FOLDER"), "{said}");
}
