//! A million finished jobs: what they take of disk and memory, and `sacct` of a day, a user and a job among them.
//!
//! The jobs do not run: their records (submission, start, end, purge) go through the store as a daemon's do, ten thousand a
//! day, and history, snapshots and index are made of them by the store. Then the real daemon is started on the folder, and
//! `sacct` is run as users run it, its own start included. `SLUICE_HISTORY_JOBS` sets another number of jobs: there are as
//! many in a day, and fewer days.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use benches::{Arguments, Report, Spread, Workplace};
use model::exit::ExitStatus;
use model::id::{JobId, NodeIdx, PartitionIdx, RunNumber};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::time::{Span, Timestamp};
use scheduler::controller::keeper::history_row;
use scheduler::directory::Directory;
use scheduler::settings::Configuration;
use scheduler::store::history::RecordPlace;
use scheduler::store::{Class, FileDisk, Opened, Settings, Store};
use scheduler_core::allocation::{Allocation, CpuIds, NodeShare};
use scheduler_core::apply::apply;
use scheduler_core::record::Record;
use scheduler_core::state::job::Ended;

/// Jobs whose records are in one frame.
const BATCH: u32 = 128;
const JOBS_A_DAY: u32 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// An index that is not made by then never will be.
const INDEX_WITHIN: Duration = Duration::from_secs(1800);

/// What a run of `sacct` is asked, by the run's number.
type Words<'a> = &'a dyn Fn(i64) -> Result<Vec<String>>;

/// All rows of this file.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let jobs = match std::env::var("SLUICE_HISTORY_JOBS") {
        Ok(text) => text.parse().with_context(|| format!("SLUICE_HISTORY_JOBS={text} is no number"))?,
        Err(_) => 1_000_000,
    };
    let (jobs, a_day): (u32, u32) = if arguments.tiny { (3_000, 100) } else { (jobs, JOBS_A_DAY.min(jobs)) };
    let days = i64::from(jobs / a_day);
    let place = Workplace::new(1, 64, "")?;
    // The daemon itself defines its node and partition.
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    report.row("resident memory without any job", scheduler.resident()? as f64 / 1e6, "MB");
    // What it has defined is stored when it ends in order.
    scheduler.stop();
    let first_ms = now_ms()? - (days + 1) * DAY_MS;
    fill(&place, report, (jobs, a_day), first_ms)?;
    let what = format!("{jobs} finished jobs");
    let state = place.state();
    report.row(&format!("{what}, disk in all"), size(&state, "")? as f64 / 1e6, "MB");
    for part in ["history-", "index", "journal-", "snapshot-", "bodies-"] {
        let label = format!("{what}, of it {}", part.trim_end_matches('-'));
        report.row(&label, size(&state, part)? as f64 / 1e6, "MB");
    }
    let mut scheduler = place.scheduler()?;
    place.wait_socket(&mut scheduler)?;
    report.row(&format!("{what}, resident memory after the start"), scheduler.resident()? as f64 / 1e6, "MB");
    let runs = if arguments.tiny { 1 } else { 9 };
    let day_of = |run: i64| first_ms + (days / 2 + run) % days * DAY_MS;
    let window = |from: i64, to: i64| -> Result<Vec<String>> {
        Ok(vec!["-S".to_owned(), local(from)?, "-E".to_owned(), local(to)?])
    };
    let of_day = |run: i64| window(day_of(run), day_of(run) + DAY_MS - 1);
    // Among the jobs of fifty users, each job's number tells whose it is.
    let (a_users, an_hours) = (a_day as usize / 50, a_day as usize / 24);
    let all = |mut words: Vec<String>| {
        words.push("-a".to_owned());
        words
    };
    let users = |mut words: Vec<String>| {
        words.extend(["-u".to_owned(), "1007".to_owned()]);
        words
    };
    let cases: [(&str, usize, Words<'_>); 4] = [
        ("a day", a_day as usize, &|run| Ok(all(of_day(run)?))),
        ("a user's day", a_users, &|run| Ok(users(of_day(run)?))),
        ("a job", 1, &|run| Ok(vec!["-j".to_owned(), (i64::from(jobs) / 2 + run).to_string()])),
        ("the newest hour", an_hours, &|_| {
            let end = first_ms + days * DAY_MS;
            Ok(all(window(end - DAY_MS / 24, end)?))
        }),
    ];
    for (name, expected, words) in cases {
        let (mut spans, mut lines) = (Vec::new(), 0);
        for run in 0..runs {
            let mut command = place.command("sacct");
            command.args(["-X", "-n", "-P", "-o", "JobID,User,State,Elapsed"]).args(words(run)?);
            let begin = Instant::now();
            let out = command.output().context("run sacct")?;
            spans.push(begin.elapsed());
            ensure!(out.status.success(), "sacct: {}", String::from_utf8_lossy(&out.stderr));
            lines = out.stdout.split(|byte| *byte == b'\n').count() - 1;
            // Jobs that ran over an end of the window belong to it too.
            let most = expected + 2 + (expected / 10).max(a_day as usize / 100);
            ensure!((expected..=most).contains(&lines), "sacct of {name} shows {lines} jobs of {expected}");
        }
        report.spread(&format!("sacct of {name} ({lines} jobs) among {what}"), Spread::of(spans));
    }
    report.row(&format!("{what}, resident memory after it"), scheduler.resident()? as f64 / 1e6, "MB");
    scheduler.kill();
    Ok(())
}

/// Puts the jobs into the history, and waits until they are in the index.
fn fill(place: &Workplace, report: &mut Report, (jobs, a_day): (u32, u32), first_ms: i64) -> Result<()> {
    let directory = Directory::default();
    let configuration = Configuration::load(Some(place.folder().join("slurm.conf")))
        .map_err(|errors| anyhow::anyhow!(errors.join("\n")))?;
    let conf = Arc::clone(&configuration.current().settings);
    let disk = Arc::new(FileDisk::open(place.state()).context("open the state")?);
    let settings = Settings { index: Some(place.state().join("index")), ..Settings::default() };
    let mut maker = |state: &_, job: &_| history_row(state, &conf, &directory, job);
    let Opened { mut state, store, .. } = Store::open(disk, settings, &mut maker)?;
    let begin = Instant::now();
    let step_ms = DAY_MS / i64::from(a_day);
    let history = Arc::clone(store.history());
    for from in (1..=jobs).step_by(BATCH as usize) {
        let ids = from..=jobs.min(from + BATCH - 1);
        let mut records = Vec::with_capacity(5 * BATCH as usize);
        for id in ids.clone() {
            records.extend(life(id, Timestamp(first_ms + i64::from(id - 1) * step_ms)));
        }
        // As the last record, so that no frame ends with a job whose bodies are not there.
        records.push(Record::NextJobId(ids.end() + 1));
        let mut batch = store.batch();
        store.admit(&mut batch, Class::Admission, u64::from(BATCH) * 4096, &[])?;
        records.iter().for_each(|record| batch.push(record));
        let (done, wait) = sync_channel(1);
        let told = move |outcome: std::result::Result<scheduler::store::Committed, _>| {
            drop(done.send(outcome.map(|durable| durable.sequence)));
        };
        store.commit(batch, Box::new(told));
        let sequence = wait.recv().context("a batch")??;
        for (number, record) in (0..).zip(&records) {
            history.observe(&state, RecordPlace { sequence, record: number }, record, &mut maker);
            apply(&mut state, record);
        }
        history.observed(sequence);
    }
    store.compact_now().context("make a snapshot")?;
    let span = begin.elapsed().as_secs_f64();
    report.row("finished jobs put into the history", f64::from(jobs) / span, "jobs/s");
    let begin = Instant::now();
    let index = store.open_index()?.context("an index is wanted")?;
    while !index.standing().0 {
        ensure!(begin.elapsed() < INDEX_WITHIN, "the index is not made: {:?}", index.standing());
        thread::sleep(Duration::from_millis(20));
    }
    report.row("index of them made", begin.elapsed().as_secs_f64(), "s");
    drop(index);
    store.close();
    Ok(())
}

/// The records of a job that waits ten seconds and runs for ten minutes.
fn life(id: u32, submit: Timestamp) -> [Record; 4] {
    let (start, end) =
        (submit.saturating_add(Span::from_secs(10)), submit.saturating_add(Span::from_secs(610)));
    let allocation: Allocation = Arc::new([NodeShare {
        node: NodeIdx(0),
        cpus: Cpus(1),
        cpu_ids: CpuIds::default(),
        memory: MemoryMib(1),
        gres: Vec::new(),
        shared: false,
        tasks: 1,
    }]);
    let ended = Ended {
        state: JobState::Completed,
        exit: ExitStatus::SUCCESS,
        derived_exit: ExitStatus::SUCCESS,
        reason: Reason::None,
        detail: "".into(),
        by: None,
        eligible: Some(submit),
        start: Some(start),
        end,
        limit: Some(Span::from_mins(60)),
        partition: Some(PartitionIdx(0)),
        allocation: Arc::clone(&allocation),
        suspended_total: Span::ZERO,
        steps: Vec::new(),
    };
    [
        crate::job_at(id, submit),
        Record::JobStarted {
            job: JobId(id),
            run: RunNumber(1),
            partition: PartitionIdx(0),
            allocation,
            start,
            limit: Some(Span::from_mins(60)),
        },
        Record::JobEnded { job: JobId(id), ended: Arc::new(ended) },
        Record::JobPurged(JobId(id)),
    ]
}

fn now_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    i64::try_from(since.as_millis()).context("the clock")
}

/// As sacct reads it.
fn local(ms: i64) -> Result<String> {
    let out = Command::new("date").args(["-d", &format!("@{}", ms / 1000), "+%Y-%m-%dT%H:%M:%S"]).output();
    Ok(String::from_utf8(out.context("run date")?.stdout).context("a date")?.trim().to_owned())
}

/// Bytes that a folder's files take on the disk: those whose names begin so, and folders whole.
fn size(folder: &Path, begins: &str) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.context("list a folder")?;
        if !entry.file_name().to_string_lossy().starts_with(begins) {
            continue;
        }
        let facts = entry.metadata().context("look at a file")?;
        bytes += if facts.is_dir() { size(&entry.path(), "")? } else { facts.blocks() * 512 };
    }
    Ok(bytes)
}
