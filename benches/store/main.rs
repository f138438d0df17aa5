//! The scheduler's store alone: encoding, commits with bodies, recovery of a long queue, snapshots, a long history.
//!
//! Jobs as in the submit bench: scripts of 1 KiB, environments of 3 KiB, all distinct. On the file system of the
//! temporary folder. Recovery is measured with a warm page cache, as after a crash of the process.
//!
//! Sketch: a job's record is 0.4 KB: 100,000 of them are 40 MB to read, decode (about 1.5 us each) and apply; 200,000
//! bodies are as many header reads at 0.5 us.

mod history;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::{Arguments, Machine, Random, Report};
use model::id::{BodyHash, Gid, JobId, PartitionIdx, RequestKey, RunNumber, Uid};
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};
use prost::bytes::Bytes;
use scheduler::store::{Class, FileDisk, Opened, Settings, Store, bodies};
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::job::{ArrayRole, Bodies, Hold, Job, Limit, Owner, Pending, Phase};
use scheduler_core::state::partition::PartitionDefinition;
use scheduler_core::state::prediction::Predicted;

const SCRIPT_BYTES: usize = 1024;
const ENVIRONMENT_BYTES: usize = 3072;
/// Submissions in one frame, as under load.
const BATCH: u32 = 128;

/// A folder that goes with the bench.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Result<Folder> {
    let path = std::env::temp_dir().join(format!("sluice-bench-store-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).context("make a folder")?;
    Ok(Folder(path))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let jobs: u32 = if arguments.tiny { 2_000 } else { 100_000 };
    let place = folder("main")?;
    let machine = Machine::measure(&place.0, Duration::from_millis(if arguments.tiny { 50 } else { 1000 }))?;
    println!("store, seed {}: {}", arguments.seed, machine.line());
    let mut report = Report::new("store", arguments.seed);
    if arguments.wants("codec") {
        codec(&mut report, jobs)?;
    }
    if arguments.wants("recovery") {
        fill(&mut report, &place, &arguments, jobs)?;
        recover(&mut report, &place, jobs, "journal alone")?;
        let opened = open(&place)?;
        let begun = Instant::now();
        ensure!(opened.store.compact_now().context("make a snapshot")?, "there are closed segments");
        report.row("snapshot made by a thread", begun.elapsed().as_secs_f64() * 1e3, "ms");
        opened.store.close();
        recover(&mut report, &place, jobs, "snapshot")?;
    }
    if arguments.wants("history") {
        history::measure(&arguments, &mut report)?;
    }
    if arguments.save {
        report.save(&machine)?;
    }
    Ok(())
}

/// A job of the history, which has no bodies any more.
fn job_at(id: u32, submit: Timestamp) -> Record {
    let Record::Job(mut job) = job(id, BodyHash([1; 32]), BodyHash([2; 32])) else {
        unreachable!("it makes a job")
    };
    Arc::make_mut(&mut job).submit = submit;
    Record::Job(job)
}

fn job(id: u32, script: BodyHash, environment: BodyHash) -> Record {
    let request = JobRequest {
        name: format!("job-{id}").into(),
        work_dir: "/home/someone/project/run".into(),
        submit_host: "login1".into(),
        submit_line: format!("sbatch --time=10 --mem-per-cpu=1000 job-{id}.sh").into(),
        command: Some(format!("/home/someone/project/job-{id}.sh").into()),
        ntasks: Some(1),
        time_limit: Some(Some(Span::from_mins(10))),
        umask: 0o22,
        ..JobRequest::default()
    };
    let at = Timestamp(1_700_000_000_000 + i64::from(id));
    Record::Job(Arc::new(Job {
        id: JobId(id),
        owner: Owner { uid: Uid(1000 + id % 50), gid: Gid(1000) },
        key: RequestKey(u128::from(id).to_be_bytes()),
        request: Arc::new(request),
        bodies: Bodies { script: Some(script), environment },
        account: "physics".into(),
        qos: "normal".into(),
        association: 3,
        partitions: Arc::new([PartitionIdx(0)]),
        submit: at,
        limit: Limit::After(Span::from_mins(10)),
        memory: Some(MemoryRequest::PerCpu(model::quantity::MemoryMib(1000))),
        priority: 1000,
        hold: Hold::None,
        nice: 0,
        site_factor: 0,
        requeue: true,
        alloc_sid: 4711,
        array: ArrayRole::Single,
        run: RunNumber(0),
        restarts: 0,
        predicted: Predicted::default(),
        phase: Phase::Pending(Pending { eligible: Some(at), ..Pending::default() }),
    }))
}

fn codec(report: &mut Report, jobs: u32) -> Result<()> {
    let records: Vec<Record> = (0..jobs).map(|id| job(id, BodyHash([1; 32]), BodyHash([2; 32]))).collect();
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(records.len());
    let begun = Instant::now();
    for record in &records {
        scheduler_codec::encode_record(record, &mut bytes);
        ends.push(bytes.len());
    }
    let per_job = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6 / f64::from(jobs);
    report.row("encode a pending job", per_job(begun), "us");
    report.row("its size", bytes.len() as f64 / f64::from(jobs), "bytes");
    let begun = Instant::now();
    let mut start = 0;
    for (end, record) in ends.iter().zip(&records) {
        let read = scheduler_codec::read_record(&bytes[start..*end])?;
        ensure!(read.as_ref() == Some(record), "it comes back");
        start = *end;
    }
    report.row("decode and compare", per_job(begun), "us");
    let mut state = with_partition();
    let begun = Instant::now();
    records.iter().for_each(|record| scheduler_core::apply::apply(&mut state, record));
    report.row("apply", per_job(begun), "us");
    Ok(())
}

fn partition() -> Record {
    Record::PartitionDefined {
        partition: PartitionIdx(0),
        definition: Arc::new(PartitionDefinition::named("p")),
        changed_at_run_time: false,
    }
}

fn with_partition() -> State {
    let mut state = State::default();
    scheduler_core::apply::apply(&mut state, &partition());
    state
}

fn open(place: &Folder) -> Result<Opened> {
    let disk = Arc::new(FileDisk::open(&place.0).context("open the folder")?);
    Ok(Store::open(disk, Settings::default(), &mut |_, _| proto::v1::Job::default())?)
}

/// Stores the jobs in batches, one on its way while the next is made.
fn fill(report: &mut Report, place: &Folder, arguments: &Arguments, jobs: u32) -> Result<()> {
    let store = open(place)?.store;
    let mut random = Random(arguments.seed);
    let (done, wait) = channel();
    let mut first = store.batch();
    store.admit(&mut first, Class::Admission, 1024, &[])?;
    first.push(&partition());
    let told = done.clone();
    store.commit(first, Box::new(move |outcome| drop(told.send(outcome.map(|durable| durable.sequence)))));
    wait.recv()??;
    let mut making = Duration::ZERO;
    let begun = Instant::now();
    let mut outstanding = 0;
    for from in (0..jobs).step_by(BATCH as usize) {
        let ids = from..(from + BATCH).min(jobs);
        // The texts are the clients' work.
        let texts = Instant::now();
        let mut text = |length| Bytes::from(random.text(length));
        let made: Vec<(u32, Bytes, Bytes)> =
            ids.map(|id| (id, text(SCRIPT_BYTES), text(ENVIRONMENT_BYTES))).collect();
        making += texts.elapsed();
        let mut batch = store.batch();
        for (id, script, environment) in made {
            store.admit(&mut batch, Class::Admission, 2048, &[script.len(), environment.len()])?;
            let (script_hash, environment_hash) = (bodies::hash(&script), bodies::hash(&environment));
            batch.push(&job(id + 1, script_hash, environment_hash));
            batch.push_body(script_hash, script);
            batch.push_body(environment_hash, environment);
        }
        if outstanding == 2 {
            wait.recv()??;
            outstanding -= 1;
        }
        let told = done.clone();
        store
            .commit(batch, Box::new(move |outcome| drop(told.send(outcome.map(|durable| durable.sequence)))));
        outstanding += 1;
    }
    for _ in 0..outstanding {
        wait.recv()??;
    }
    let span = begun.elapsed().saturating_sub(making);
    report.row("jobs stored with their bodies", f64::from(jobs) / span.as_secs_f64(), "jobs/s");
    store.close();
    Ok(())
}

fn recover(report: &mut Report, place: &Folder, jobs: u32, from: &str) -> Result<()> {
    for _ in 0..2 {
        let (begun, cpu_before) = (Instant::now(), cpu_ms()?);
        let opened = open(place)?;
        let (whole, cpu) = (begun.elapsed(), cpu_ms()? - cpu_before);
        ensure!(opened.state.jobs.len() == jobs as usize, "all jobs are there");
        ensure!(opened.report.bodies == 2 * jobs as usize, "all bodies are there");
        ensure!(opened.report.snapshot.is_some() == (from == "snapshot"), "it is what is measured");
        ensure!(opened.report.jobs_without_bodies.is_empty(), "no job lacks one");
        let what = format!("recovery from {from}, {jobs} pending jobs");
        report.row(&format!("{what}, reading"), opened.report.elapsed.as_secs_f64() * 1e3, "ms");
        report.row(&format!("{what}, in all"), whole.as_secs_f64() * 1e3, "ms");
        report.row(&format!("{what}, CPU time"), cpu, "ms");
        opened.store.close();
    }
    Ok(())
}

/// CPU time of this process so far, ms; the kernel counts in steps of 10.
fn cpu_ms() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("read the process's figures")?;
    let after_name = stat.rsplit(')').next().context("they have a form")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? * 10.0)
}
