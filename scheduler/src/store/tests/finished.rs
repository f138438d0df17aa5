//! History as a whole: queries with and without the index, its loss, keys, purging.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::Disk;
use journal::memory::MemoryDisk;
use model::id::{JobId, RequestKey, Uid};
use model::time::{Span, Timestamp};

use super::world::{World, open, rows_of};
use crate::store::history::{self, History, Query};
use crate::store::index::Index;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        // Of an earlier process with the same number.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn wait_idle(index: &Index) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !index.standing().0 {
        assert!(Instant::now() < deadline, "{:?}", index.standing());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn answer(history: &History, query: &Query) -> Vec<(u32, u32, Option<i64>)> {
    let mut rows = Vec::new();
    history
        .query(query, &mut |row| {
            rows.push((row.job.job_id, row.job.run, row.job.end_ms));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn queries(history: &History) -> Vec<Query> {
    let all = answer(history, &Query { duplicates: true, ..Query::default() });
    let jobs: Vec<u32> = all.iter().map(|row| row.0).collect();
    let middle = all[all.len() / 2].2;
    let base = Query { duplicates: true, ..Query::default() };
    let text = |word: &str| BTreeSet::from([word.to_owned()]);
    vec![
        base.clone(),
        Query::default(),
        Query { job_ids: jobs.iter().step_by(5).copied().collect(), ..base.clone() },
        Query { job_ids: [999_999].into(), ..base.clone() },
        Query { uids: [1000].into(), ..base.clone() },
        Query { uids: [1001, 1002].into(), from_ms: middle, ..base.clone() },
        Query { accounts: text("even"), ..base.clone() },
        Query { accounts: text("odd"), from_ms: middle, ..base.clone() },
        Query { states: text("REQUEUED"), ..base.clone() },
        Query { names: text("job3"), partitions: text("p"), ..base.clone() },
        Query { partitions: text("other"), ..base.clone() },
        Query { qos: text("none"), ..base.clone() },
        Query { from_ms: middle, ..base.clone() },
        Query { to_ms: middle, ..base.clone() },
        Query { from_ms: middle, to_ms: middle, ..base },
    ]
}

/// A store with several history files and some rows in memory.
fn filled(seed: u64, disk: &MemoryDisk) -> World {
    let mut world = World::begin(seed, disk);
    for number in 1..=150 {
        world.step().unwrap();
        if number % 30 == 0 && number < 150 {
            world.store.compact_now().unwrap();
        }
    }
    let (recent, _, files, _) = world.store.history().size();
    assert!(recent > 3 && files >= 3, "{recent} rows in memory, {files} files");
    world
}

fn index(folder: &Folder, history: &History, disk: &MemoryDisk) -> Arc<Index> {
    let lineage = crate::store::compact::lineage(disk).unwrap();
    let index = Index::spawn(folder.0.join("index"), Arc::new(disk.clone()), lineage).unwrap();
    history.set_index(Some(Arc::clone(&index)));
    wait_idle(&index);
    index
}

#[test]
fn the_index_answers_as_the_files_do_and_can_be_lost() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("index"));
    let world = filled(21, &disk);
    let history = Arc::clone(world.store.history());
    let queries = queries(&history);
    let plain: Vec<_> = queries.iter().map(|query| answer(&history, query)).collect();
    assert!(plain.iter().filter(|rows| !rows.is_empty()).count() > 8);
    assert!(plain[3].is_empty());

    let first = index(&folder, &history, &disk);
    let indexed: Vec<_> = queries.iter().map(|query| answer(&history, query)).collect();
    assert_eq!(indexed, plain);
    let dump = first.dump();
    assert!(dump.len() > 20, "{} entries", dump.len());
    let usage = first.usage(i64::MIN, i64::MAX).unwrap();
    assert!(!usage.is_empty() && usage.iter().all(|row| row.cpu_ms > 0));
    history.set_index(None);
    drop(first);

    // Opened again, it has everything; deleted, it is made again and is the same.
    let again = index(&folder, &history, &disk);
    assert_eq!(again.dump(), dump);
    history.set_index(None);
    drop(again);
    std::fs::remove_dir_all(folder.0.join("index")).unwrap();
    let rebuilt = index(&folder, &history, &disk);
    assert_eq!(rebuilt.dump(), dump);
    assert_eq!(rebuilt.usage(i64::MIN, i64::MAX).unwrap(), usage);
    // A file that comes now is indexed too.
    world.store.compact_now().unwrap();
    wait_idle(&rebuilt);
    assert!(rebuilt.dump().len() > dump.len());
    let after: Vec<_> = queries.iter().map(|query| answer(&history, query)).collect();
    assert_eq!(after, plain);
    history.set_index(None);
    drop(rebuilt);
    world.store.close();
}

/// Windows between all times that rows have, against a filter over all rows that knows neither files nor blocks.
#[test]
fn every_window_has_its_rows() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("windows"));
    let world = filled(27, &disk);
    let history = Arc::clone(world.store.history());
    let opened = index(&folder, &history, &disk);
    let mut all = Vec::new();
    let everything = Query { duplicates: true, ..Query::default() };
    let mut each = |row: scheduler_codec::HistoryRow| {
        all.push(row.job);
        ControlFlow::Continue(())
    };
    history.query(&everything, &mut each).unwrap();
    let end = |job: &proto::v1::Job| job.end_ms.unwrap_or(job.submit_ms);
    let mut times: Vec<i64> = all.iter().flat_map(|job| [job.submit_ms, end(job)]).step_by(5).collect();
    times.sort_unstable();
    times.dedup();
    let (mut asked, mut found) = (0, 0);
    for (at, from) in times.iter().enumerate() {
        for to in &times[at..] {
            for (from, to) in [(*from, *to), (from + 1, to - 1)] {
                let uids = BTreeSet::from_iter((asked % 3 == 0).then_some(1000 + asked / 3 % 3));
                let naive: Vec<_> = all
                    .iter()
                    .filter(|job| end(job) >= from && job.submit_ms <= to)
                    .filter(|job| uids.is_empty() || uids.contains(&job.uid))
                    .map(|job| (job.job_id, job.run, job.end_ms))
                    .collect();
                let query = Query { from_ms: Some(from), to_ms: Some(to), uids, ..everything.clone() };
                assert_eq!(answer(&history, &query), naive, "{query:?}");
                (asked, found) = (asked + 1, found + naive.len());
            }
        }
    }
    assert!(asked > 100 && found > 500, "{found} rows of {asked} windows");
    history.set_index(None);
    drop(opened);
    world.store.close();
}

#[test]
fn a_database_that_is_no_database_is_made_anew() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("nodb"));
    let world = filled(22, &disk);
    let history = Arc::clone(world.store.history());
    let first = index(&folder, &history, &disk);
    let dump = first.dump();
    history.set_index(None);
    drop(first);
    for entry in std::fs::read_dir(folder.0.join("index/v2")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::write(path, [7; 5000]).unwrap();
        }
    }
    let again = index(&folder, &history, &disk);
    assert_eq!(again.dump(), dump);
    history.set_index(None);
    drop(again);
    world.store.close();
}

#[test]
fn keys_are_known_for_a_day_after_the_end() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("keys"));
    let world = filled(23, &disk);
    let history = Arc::clone(world.store.history());
    let all = answer(&history, &Query { duplicates: true, ..Query::default() });
    let now = Timestamp(all.iter().filter_map(|row| row.2).max().unwrap());
    let key = |job: u32| RequestKey(u128::from(job).to_be_bytes());
    let single: Vec<_> = all.iter().filter(|row| history.holds_job(JobId(row.0)).unwrap()).collect();
    assert_eq!(single.len(), all.len());
    let check = |when: &str| {
        let mut found = 0;
        for (job, ..) in &all {
            let Some(row) = history.find_key(Uid(1000 + job % 3), key(*job), now).unwrap() else { continue };
            assert_eq!(row.key, key(*job), "{when}");
            assert_eq!(row.request_digest.len(), 32);
            found += 1;
        }
        found
    };
    let found = check("without the index");
    assert!(found > 5);
    let opened = index(&folder, &history, &disk);
    assert_eq!(check("with the index"), found);
    let later = now.saturating_add(history::KEY_KEPT).saturating_add(Span(1));
    assert!(history.find_key(Uid(1000 + all[0].0 % 3), key(all[0].0), later).unwrap().is_none());
    assert!(history.find_key(Uid(7), key(all[0].0), now).unwrap().is_none());
    history.set_index(None);
    drop(opened);
    world.store.close();
}

#[test]
fn old_files_go_and_the_index_with_them() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("purge"));
    let world = filled(24, &disk);
    world.store.close();
    let lineage = crate::store::compact::lineage(&disk).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let keep =
        history::Settings { keep: Span::from_secs(60), max_bytes: 1 << 40, ..history::Settings::default() };
    let (history, unreadable) = History::open(Arc::clone(&shared), lineage, keep).unwrap();
    assert!(unreadable.is_empty());
    let history = Arc::new(history);
    let opened = index(&folder, &history, &disk);
    let before = rows_of(&history);
    assert_eq!(history.purge(Timestamp(0)).unwrap(), 0, "nothing is old");
    let purged = history.purge(Timestamp(i64::MAX)).unwrap();
    assert!(purged >= 2);
    let (_, _, files, _) = history.size();
    assert_eq!(files, 1, "the newest says how far history reaches");
    wait_idle(&opened);
    let after = rows_of(&history);
    assert!(!after.is_empty() && before.ends_with(&after));
    let dump = opened.dump();
    history.set_index(None);
    drop(opened);
    // The index is what it would be if the old files had never been.
    std::fs::remove_dir_all(folder.0.join("index")).unwrap();
    let rebuilt = index(&folder, &history, &disk);
    assert_eq!(rebuilt.dump(), dump);
    history.set_index(None);
}

#[test]
fn too_many_bytes_go_from_the_oldest_on() {
    let disk = MemoryDisk::new();
    filled(25, &disk).store.close();
    let lineage = crate::store::compact::lineage(&disk).unwrap();
    let (probe, _) = History::open(Arc::new(disk.clone()), lineage, history::Settings::default()).unwrap();
    let (_, _, files, bytes) = probe.size();
    let keep = history::Settings { max_bytes: bytes - 1, ..history::Settings::default() };
    let (history, _) = History::open(Arc::new(disk.clone()), lineage, keep).unwrap();
    assert_eq!(history.purge(Timestamp(0)).unwrap(), 1);
    assert_eq!(history.size().2, files - 1);
    let opened = open(disk.settled()).unwrap();
    assert_eq!(opened.store.history().size().2, files - 1);
    opened.store.close();
}

/// A history file that cannot be read is told and does not stop the start; its jobs are not made again.
#[test]
fn a_damaged_history_file_is_told() {
    let disk = MemoryDisk::new();
    filled(26, &disk).store.close();
    let settled = disk.settled();
    let mut names = settled.list().unwrap();
    names.sort();
    let name = names.iter().rfind(|name| name.starts_with("history-")).unwrap();
    settled.set_content(name, b"damage".to_vec());
    let opened = open(settled.settled()).unwrap();
    assert_eq!(opened.report.unreadable.len(), 1);
    let whole = open(disk.settled()).unwrap();
    let (some, all) = (rows_of(opened.store.history()), rows_of(whole.store.history()));
    assert!(some.len() < all.len() && !some.is_empty());
    opened.store.close();
    whole.store.close();
}

/// Whether a row is in memory or in a file, with an index or without, and after its job and its bodies are gone.
#[test]
fn bodies_that_history_keeps_outlive_their_jobs() {
    let (disk, folder) = (MemoryDisk::new(), Folder::new("kept-bodies"));
    let world = filled(23, &disk);
    let (history, bodies) = (Arc::clone(world.store.history()), Arc::clone(world.store.bodies()));
    let wanted = history.wanted_bodies();
    assert!(!wanted.is_empty(), "rows in memory name bodies");
    let mut collection = bodies.begin_collection();
    wanted.iter().for_each(|hash| collection.keep(hash));
    assert!(collection.finish().unwrap().erased > 0, "those of rows in files are not kept for them");
    let mut last = std::collections::BTreeMap::new();
    let everything = Query { duplicates: true, ..Query::default() };
    let mut each = |row: scheduler_codec::HistoryRow| {
        last.insert(row.job.job_id, row);
        ControlFlow::Continue(())
    };
    history.query(&everything, &mut each).unwrap();
    let look = |when: &str| {
        let mut scripts = 0;
        for (job, row) in &last {
            for (environment, hash) in [(false, row.script), (true, row.environment)] {
                let (uid, body) = history.body(JobId(*job), environment, &bodies).unwrap().unwrap();
                assert_eq!(uid, Uid(row.job.uid));
                assert_eq!(body.map(|body| crate::store::bodies::hash(&body)), hash, "job {job}, {when}");
                scripts += usize::from(hash.is_some() && !environment);
            }
        }
        assert!(scripts > 10, "{scripts} scripts, {when}");
    };
    look("by files");
    let index = index(&folder, &history, &disk);
    look("by index");
    drop(index);
    assert_eq!(history.body(JobId(999_999), false, &bodies).unwrap(), None);
}
