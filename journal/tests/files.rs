//! The same log in a real folder: round trips, locks, modes, closed segments read beside the owner, the committer.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use journal::{
    Batch, Class, Committer, Disk, Epoch, Error, FileDisk, Filler, FrameReader, FrameWriter, Journal, Kind,
    Log, NotTaken, Options, Payload, Sequence, Settings, inspect,
};
use support::*;

/// A folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-journal-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(FileDisk::open(&self.0).expect("a folder"))
    }

    fn open(&self) -> Result<Journal, Error> {
        Journal::open(self.disk(), options(16384))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn round_trips() {
    let folder = Folder::new("round");
    let mut stored = Vec::new();
    for round in 0..4 {
        let mut journal = folder.open().expect("opens");
        assert_eq!(journal.recovery().created, round == 0);
        assert_eq!(journal_batches(&journal), stored);
        for number in 0..20 {
            let batch = numbered(round * 100 + number, 50 * number as usize);
            append(&mut journal, &batch).expect("stored");
            stored.push(batch);
        }
    }
    assert_eq!(mode(&folder.0), 0o700);
    for entry in fs::read_dir(&folder.0).expect("a folder") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
}

#[test]
fn a_second_owner_is_refused_by_pid_and_may_come_later() {
    let folder = Folder::new("lock");
    let mut first = folder.open().expect("opens");
    let refused = folder.open().map(drop).expect_err("refused");
    assert!(matches!(refused, Error::Locked { pid } if pid == Some(std::process::id())));
    assert_eq!(refused.to_string(), format!("the journal is in use by process {}", std::process::id()));
    // Tools may look on meanwhile.
    append(&mut first, &numbered(1, 30)).expect("stored");
    let seen = inspect(&folder.disk(), &mut |_| std::ops::ControlFlow::Continue(())).expect("readable");
    assert_eq!((seen.last_sequence, seen.epoch), (Sequence(2), Epoch(1)));
    // Somebody removes the lock file: the next owner can lock a new one, and the first notices.
    fs::remove_file(folder.0.join("lock")).expect("removed");
    let refused = append(&mut first, &numbered(2, 30)).expect_err("refused");
    assert!(matches!(refused, Error::Superseded { ours: Epoch(1) }));
    drop(first);
    let mut second = folder.open().expect("opens");
    assert_eq!(journal_batches(&second), [numbered(1, 30)]);
    // The same between write and sync: whoever cannot be sure to be the owner acknowledges nothing.
    second.write(&mut payload(&numbered(3, 30)), None).expect("written");
    fs::remove_file(folder.0.join("lock")).expect("removed");
    assert!(matches!(second.sync(), Err(Error::Superseded { ours: Epoch(2) })));
    assert!(matches!(second.sync(), Err(Error::Fenced)));
}

#[test]
fn closed_segments_are_read_beside_the_owner_and_removed_after_a_snapshot() {
    let folder = Folder::new("closed");
    let mut journal = folder.open().expect("opens");
    for number in 0..200 {
        append(&mut journal, &numbered(number, 700)).expect("stored");
    }
    let closed = journal.closed_segments();
    assert!(closed.len() > 5);
    assert!(closed.windows(2).all(|pair| pair[0].last.next() == pair[1].first));
    let (source, lineage, disk) = (journal.source(), journal.lineage(), folder.disk());
    let covered = closed.clone();
    let maker = std::thread::spawn(move || {
        let writer = FrameWriter::create(Arc::clone(&disk), "snapshot-1", lineage, Epoch(1));
        let mut writer = writer.expect("created");
        let mut payload = Payload::new();
        for segment in &covered {
            let mut frames = source.read(segment).expect("readable");
            while let Some(frame) = frames.next().expect("whole") {
                payload.clear();
                frame.records().for_each(|record| payload.push(record));
                writer.append(&mut payload).expect("written");
            }
        }
        writer.finish().expect("finished")
    });
    for number in 200..220 {
        append(&mut journal, &numbered(number, 700)).expect("stored meanwhile");
    }
    assert!(maker.join().expect("made") > 100_000);
    let through = closed.last().expect("closed").last;
    journal.remove_through(through).expect("removed");
    assert_eq!(journal.closed_segments().first().map(|segment| segment.first), Some(through.next()));
    let mut found = Vec::new();
    let mut reader = FrameReader::open(&*folder.disk(), "snapshot-1", Some(lineage)).expect("a snapshot");
    while let Some(frame) = reader.next().expect("whole") {
        found.push(read(&frame).records);
    }
    drop(journal);
    let journal = folder.open().expect("opens");
    let rest = collect(|visit| journal.replay(through.next(), visit)).expect("readable");
    found.retain(|records| !records.is_empty());
    found.extend(batches_of(rest));
    let expected: Vec<Records> = (0..220).map(|number| numbered(number, 700)).collect();
    assert!(found == expected, "snapshot and rest are the whole");
}

#[test]
fn closing_a_segment_makes_its_frames_ready_for_a_snapshot() {
    let folder = Folder::new("close");
    let mut journal = folder.open().expect("opens");
    append(&mut journal, &numbered(1, 30)).expect("stored");
    assert!(!journal.close_segment(), "no filled segment waits");
    journal.try_refill().expect("space");
    assert!(journal.close_segment());
    journal.write(&mut payload(&numbered(2, 30)), None).expect("written");
    // A power cut could still take the new frame: until it is durable, the old segment holds the last one.
    assert_eq!(journal.closed_segments(), [], "not before the next frame is durable");
    journal.remove_through(Sequence(u64::MAX)).expect("nothing to do");
    assert!(folder.0.join(segment(1)).exists());
    journal.sync().expect("stored");
    assert_eq!(journal.closed_segments().len(), 1);
    drop(journal);
    assert_eq!(journal_batches(&folder.open().expect("opens")), [numbered(1, 30), numbered(2, 30)]);
}

#[test]
fn committer_stores_in_order_and_answers_each_once() {
    let folder = Folder::new("commit");
    let journal = folder.open().expect("opens");
    let space = journal.space_handle();
    let filler = Filler::spawn(space.clone(), Duration::from_millis(5)).expect("a thread");
    let settings = Settings { queue: 2, idle_after: Some(Duration::from_millis(1)) };
    let committer = Committer::spawn(journal, settings).expect("a thread");
    let (tell, told) = channel();
    let mut spare_payloads = vec![Payload::new(), Payload::new()];
    for number in 0..150u64 {
        let mut batch_payload = spare_payloads.pop().unwrap_or_default();
        batch_payload.clear();
        batch_payload.push(&numbered(number, 500)[0]);
        // The filler may be a little behind.
        let deadline = Instant::now() + Duration::from_secs(20);
        let held = loop {
            match space.reserve(Class::Admission, batch_payload.payload_bytes()) {
                Ok(held) => break held,
                Err(Error::Full { .. }) if Instant::now() < deadline => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        };
        let (tell, bodies) = (tell.clone(), folder.0.join("bodies"));
        let batch = Batch {
            payload: batch_payload,
            held: Some(held),
            before: Some(Box::new(move || fs::write(bodies, number.to_string()))),
            done: Box::new(move |outcome, payload| {
                tell.send((number, outcome, payload)).expect("the test listens");
            }),
        };
        assert!(committer.submit(batch).is_ok());
    }
    let mut last = Sequence(0);
    for number in 0..150 {
        let (answered, outcome, _) = told.recv().expect("an answer");
        assert_eq!(answered, number);
        let sequence = outcome.expect("stored");
        assert!(sequence > last);
        last = sequence;
    }
    assert_eq!(fs::read_to_string(folder.0.join("bodies")).expect("there"), "149");
    // Left alone, it writes an idle frame behind the last batch.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (tell, told) = channel();
        assert!(committer.run(move |journal| tell.send(journal.last_sequence()).expect("the test listens")));
        if told.recv().expect("an answer") == last.next() {
            break;
        }
        assert!(Instant::now() < deadline, "no idle frame");
        std::thread::yield_now();
    }
    drop(filler);
    let journal = committer.stop().expect("it has not panicked");
    let frames = collect(|visit| journal.replay(Sequence(0), visit)).expect("readable");
    assert_eq!(frames.last().map(|frame| frame.kind), Some(Kind::Idle));
    let expected: Vec<Records> = (0..150).map(|number| numbered(number, 500)).collect();
    assert_eq!(batches_of(frames), expected);
}

#[test]
fn committer_stores_nothing_behind_a_failure() {
    let folder = Folder::new("failure");
    let committer = Committer::spawn(folder.open().expect("opens"), Settings { queue: 8, idle_after: None })
        .expect("a thread");
    let (tell, told) = channel();
    for number in 0..3u64 {
        let tell = tell.clone();
        let batch = Batch {
            payload: payload(&numbered(number, 40)),
            held: None,
            before: (number == 1).then(|| {
                let fail: journal::Before = Box::new(|| Err(std::io::ErrorKind::StorageFull.into()));
                fail
            }),
            done: Box::new(move |outcome, _| tell.send(outcome).expect("the test listens")),
        };
        match committer.try_submit(batch) {
            Ok(()) => {}
            Err(NotTaken::Busy(_)) => panic!("there is room for eight"),
            Err(NotTaken::Stopped(_)) => panic!("it runs"),
        }
    }
    assert_eq!(told.recv().expect("an answer").expect("stored"), Sequence(2));
    assert!(told.recv().expect("an answer").expect_err("its body is missing").is_full());
    assert!(matches!(told.recv().expect("an answer"), Err(Error::Fenced)));
    drop(committer);
    let recovered = folder.open().expect("opens");
    assert_eq!(journal_batches(&recovered), [numbered(0, 40)]);
}

#[test]
fn default_options_make_large_segments() {
    let folder = Folder::new("large");
    let small = Options { segment_bytes: 1 << 20, ..Options::default() };
    let mut journal = Journal::open(folder.disk(), small).expect("opens");
    append(&mut journal, &[vec![7; 900_000]]).expect("a large batch");
    append(&mut journal, &[vec![8; 900_000]]).expect("a large batch");
    assert_eq!(fs::metadata(folder.0.join(segment(2))).expect("there").len(), 1 << 20);
    assert!(folder.disk().free_bytes().expect("known") > 0);
    assert_eq!(Options::default().segment_bytes, 64 << 20);
}
