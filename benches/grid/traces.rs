//! Whole traces: the simulator's process on a recorded one, a generated one, and the list of references.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use benches::{Arguments, Counting, Report, Stopwatch, Taken};
use scheduler_core::plan::policy::Policy;
use scheduler_sim::trace::figures::Figures;
use scheduler_sim::trace::lublin::Recipe;
use scheduler_sim::trace::replay::{self, Options, Planning};
use scheduler_sim::trace::{self, Estimates, Layout, Trace};

/// So much faster than the model's own arrivals the generated trace comes.
const LOAD: f64 = 1.014;
/// So many jobs of 300,000, from the middle of the trace on, come at the instant of the first of them: the model's own
/// queue is some 200 jobs long on average but hardly ever longer than 700.
const BURST: usize = 3340;

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traces")
}

/// The parts `ctc`, `generated` and `reference`.
pub(crate) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if arguments.wants("ctc") {
        whole_process(report, if arguments.tiny { 1 } else { 5 })?;
    }
    if arguments.wants("generated") {
        generated(report, arguments.seed, if arguments.tiny { 2000 } else { 300_000 })?;
    }
    if arguments.wants("reference") {
        references(report, arguments.tiny)?;
    }
    Ok(())
}

/// `sluice-simulate` beside this bench, from exec to exit.
fn whole_process(report: &mut Report, repeats: usize) -> Result<()> {
    let exe = std::env::current_exe().context("find this program")?;
    let deps = exe.parent().context("this program's folder")?;
    let binary = deps.parent().context("the profile's folder")?.join("sluice-simulate");
    ensure!(binary.is_file(), "{} is not built with this profile", binary.display());
    let rows = rows()?;
    let expected = rows.iter().find(|row| {
        (&row["trace"], &row["policy"], &row["estimates"])
            == (&"ctc-sp2".into(), &"easy".into(), &"user".into())
    });
    let expected = &expected.context("the reference has the row")?["waits_sha256"];
    let mut times = Vec::new();
    for _ in 0..repeats {
        let watch = Stopwatch::begin_children()?;
        let out = Command::new(&binary)
            .arg(traces().join("ctc-sp2.swf.gz"))
            .args(["--policy", "easy", "--json"])
            .stderr(Stdio::null())
            .output()
            .context("run sluice-simulate")?;
        times.push(watch.taken()?);
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).context("read what it says")?;
        ensure!(said["waits_sha256"] == *expected, "the schedule is the reference's");
    }
    let median = Taken::median(times);
    report.row("simulate ctc-sp2, EASY, whole process", median.wall_ms, "ms");
    report.row("simulate ctc-sp2, EASY, whole process, CPU", median.cpu_ms, "ms");
    Ok(())
}

/// A generated trace on 80,640 processors.
fn generated(report: &mut Report, seed: u64, jobs: usize) -> Result<()> {
    let mut trace = Recipe { jobs, procs: 80_640, seed, two_kinds: false }.make();
    trace::change::scale_load(&mut trace, LOAD);
    let (middle, burst) = (jobs / 2, BURST * jobs / 300_000);
    let at = trace.jobs[middle].submit;
    trace.jobs[middle..middle + burst].iter_mut().for_each(|job| job.submit = at);
    let before = Counting::allocations();
    let watch = Stopwatch::begin()?;
    let (starts, _) = replayed(&trace, "easy", "perfect")?;
    let taken = watch.taken()?;
    let asked = (Counting::allocations() - before) as f64 / jobs as f64;
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for (job, &start) in trace.jobs.iter().zip(&starts) {
        changes.extend([(job.submit, 1), (start, -1)]);
    }
    changes.sort_unstable();
    let (mut queued, mut peak) = (0, 0);
    for (_, change) in changes {
        queued += change;
        peak = peak.max(queued);
    }
    let waits: i64 = trace.jobs.iter().zip(&starts).map(|(job, start)| start - job.submit).sum();
    let last = trace.jobs.iter().zip(&starts).map(|(job, start)| start + job.run).max().unwrap_or(1);
    println!("    queued on average {:.0}, at peak {peak}", waits as f64 / last as f64);
    report.row(&format!("{jobs} generated jobs on 80640 processors, EASY"), taken.wall_ms, "ms");
    report.row(&format!("{jobs} generated jobs on 80640 processors, EASY, CPU"), taken.cpu_ms, "ms");
    report.row(&format!("{jobs} generated jobs: allocations for each"), asked, "");
    Ok(())
}

fn rows() -> Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(traces().join("expected/reference.jsonl")).context("the reference")?;
    text.lines().map(|line| serde_json::from_str(line).context("a row of the reference")).collect()
}

fn replayed(trace: &Trace, policy: &str, estimates: &str) -> Result<(Vec<i64>, u32)> {
    let estimates = match estimates {
        "user" => Estimates::User,
        _ => Estimates::Perfect,
    };
    let policy = Policy::named(policy).with_context(|| format!("a policy {policy}"))?;
    let (layout, planning) = (Layout::OneNode, Planning::Following);
    let options = Options { procs: trace.procs, policy, estimates, layout, planning };
    Ok((replay::run(&trace.jobs, options), trace.procs))
}

/// Every row of the list, one after the other, each with reading its trace.
fn references(report: &mut Report, tiny: bool) -> Result<()> {
    let rows = rows()?;
    let wanted = |row: &&serde_json::Value| !tiny || (row["trace"] == "kth-sp2" && row["policy"] == "easy");
    let (mut spent, mut count) = (Taken::default(), 0);
    for row in rows.iter().filter(wanted) {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let watch = Stopwatch::begin()?;
        let path = traces().join(format!("{}.swf.gz", word("trace")));
        let bytes = trace::read_bytes(&path).with_context(|| path.display().to_string())?;
        let trace = trace::parse(&bytes, None).with_context(|| path.display().to_string())?;
        let (starts, procs) = replayed(&trace, word("policy"), word("estimates"))?;
        let figures = Figures::of(&trace.jobs, &starts, procs);
        spent = spent.plus(watch.taken()?);
        count += 1;
        ensure!(figures.waits_sha256 == word("waits_sha256"), "{row}: the schedule is the reference's");
    }
    report.row(&format!("{count} rows of the reference"), spent.wall_ms / 1e3, "s");
    report.row(&format!("{count} rows of the reference, CPU"), spent.cpu_ms / 1e3, "s");
    Ok(())
}
