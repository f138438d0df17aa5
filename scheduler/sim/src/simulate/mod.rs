//! `sluice simulate`: reads or makes a trace, replays it, shows what came of it.
//!
//! Data on standard output, everything else on standard error. Owns no semantics: those are [`crate::trace`]'s.

pub mod options;
pub mod progress;
pub mod show;
mod site;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use model::id::JobId;
use scheduler_core::plan::Pass;
use scheduler_core::plan::policy::Policy;
use scheduler_core::settings::Settings;
use serde_json::json;

use crate::inputs;
use crate::output::print;
use crate::plot;
use crate::trace::compare::{self, Paired, Run};
use crate::trace::decisions::{self, Decisions};
use crate::trace::fault::sentence;
use crate::trace::figures::Figures;
use crate::trace::lublin::Recipe;
use crate::trace::measure::Measures;
use crate::trace::promises::{Accuracy, Promises};
use crate::trace::replay::{self, Options, Outcome, Planning, Scene, Watch};
use crate::trace::{Estimates, Layout, Trace, TraceJob, change, difference, read_bytes, swf};
use options::{Arguments, Believed, Nodes, moment_of, span_of};
use progress::Progress;

/// A finished run and what is known of it.
pub struct Ran {
    /// Name of the trace.
    pub name: String,
    /// Processors.
    pub procs: u32,
    /// Name of the policy.
    pub policy: String,
    /// What was believed, as typed.
    pub estimates: String,
    /// The jobs that count.
    pub jobs: Vec<TraceJob>,
    /// Their starts.
    pub starts: Vec<i64>,
    /// Their figures.
    pub figures: Figures,
    /// More of them, where it was asked for.
    pub measures: Option<Measures>,
    /// How good promises were, where it was asked for.
    pub accuracy: Option<Accuracy>,
}

/// Runs the command with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(status) => status,
        Err(message) => {
            eprintln!("sluice simulate: error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some([a, b]) = arguments.diff.as_deref() {
        return diff(a, b);
    }
    if let Some([a, b]) = arguments.compare.as_deref()
        && arguments.file.is_none()
        && arguments.generate.is_none()
    {
        return compare_files(arguments, a, b);
    }
    if let Some(path) = &arguments.inputs {
        return replay_inputs(arguments, path);
    }
    let workload = Workload::load(arguments)?;
    if let Some(path) = &arguments.write {
        return write_trace(arguments, &workload, path);
    }
    if let Some([a, b]) = arguments.compare.as_deref() {
        return compare_policies(arguments, &workload, [a, b]);
    }
    let policy =
        arguments.policy.as_deref().unwrap_or(if arguments.conf.is_some() { "site" } else { "easy" });
    let ran = replay(arguments, &workload, policy, arguments.decisions.as_deref())?;
    if let Some(path) = &arguments.waits {
        let line = |(job, start): (&TraceJob, &i64)| format!("{} {}\n", job.number, start - job.submit);
        write_file(path, &ran.jobs.iter().zip(&ran.starts).map(line).collect::<String>())?;
    }
    if let Some(path) = &arguments.csv {
        write_file(path, &compare::csv(&ran.jobs, &ran.starts))?;
    }
    if let Some(folder) = &arguments.plot {
        draw(folder, &[&ran])?;
    }
    match (arguments.json, arguments.full) {
        (true, false) => print(&format!("{}\n", show::figures(&ran)))?,
        (true, true) => print(&format!("{}\n", show::full(&ran)))?,
        (false, _) => print(&show::table(&ran))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What is replayed: the trace, cut and scaled, and the cluster.
struct Workload {
    name: String,
    trace: Trace,
    /// The cluster of a slurm.conf.
    site: Option<Settings>,
    believed: Believed,
    estimates: Estimates,
    /// So many jobs run without being counted.
    skip: usize,
}

impl Workload {
    fn load(arguments: &Arguments) -> Result<Self, String> {
        let site = arguments.conf.as_deref().map(site::settings).transpose()?;
        let (name, mut trace) = read(arguments, site.is_some())?;
        let epoch = trace.epoch;
        let moment = |option: &str, text: &Option<String>| {
            text.as_ref().map(|text| moment_of(option, text, epoch)).transpose()
        };
        let (from, to) = (moment("--from", &arguments.from)?, moment("--to", &arguments.to)?);
        if from.is_some() || to.is_some() {
            change::cut(&mut trace, from, to);
        }
        if let Some(factor) = arguments.scale_load {
            if !(1e-6..=1e6).contains(&factor) {
                return Err(format!("--scale-load {factor}: a factor between 0.000001 and 1000000"));
            }
            change::scale_load(&mut trace, factor);
        }
        if trace.jobs.is_empty() {
            return Err(format!("{name}: no job is left after the filter"));
        }
        let believed = match (&arguments.estimates, trace.has_estimates) {
            (Some(text), has) => match Believed::parse(text)? {
                Believed::User if !has => return Err(format!("{name}: no job has a time limit of its user")),
                believed => believed,
            },
            (None, true) => Believed::User,
            (None, false) => Believed::Perfect,
        };
        if let Believed::Factor(factor) = believed {
            change::estimate_by(&mut trace, factor);
        }
        if change::horizon(&trace.jobs) > change::MAX_HORIZON {
            let max = change::MAX_HORIZON;
            return Err(format!("{name}: its jobs could take more than {max} seconds, one after the other"));
        }
        let estimates = if believed == Believed::Perfect { Estimates::Perfect } else { Estimates::User };
        let warmup = arguments.warmup.as_deref().map(|text| span_of("--warmup", text)).transpose()?;
        let skip = warmup.map_or(0, |warmup| change::warmed_up(&trace.jobs, warmup));
        if skip == trace.jobs.len() {
            return Err(format!("{name}: no job is submitted after the warm-up"));
        }
        Ok(Self { name, trace, site, believed, estimates, skip })
    }
}

/// The trace of the command line and its name.
fn read(arguments: &Arguments, site: bool) -> Result<(String, Trace), String> {
    if let Some(model) = &arguments.generate {
        return Ok((model.replace(':', "-").replace(['=', ','], "_"), Recipe::parse(model)?.make()));
    }
    let Some(path) = &arguments.file else {
        return Err("no trace is named; give a file or --generate lublin:jobs=N,procs=P".to_owned());
    };
    let file = path.display();
    let bytes = read_bytes(path).map_err(|error| format!("{file}: {error}"))?;
    let any_size = site.then_some(u32::MAX);
    let trace = crate::trace::parse(&bytes, arguments.procs.or(any_size))
        .map_err(|error| format!("{file}: {error}"))?;
    for (fault, sentence) in trace.faults.sentences() {
        let level = if fault.is_used() { "note" } else { "warning" };
        eprintln!("sluice simulate: {level}: {file}: {sentence}");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Ok((name.strip_suffix(".swf").unwrap_or(name).to_owned(), trace))
}

/// Those who look on, as far as they were asked to.
#[derive(Default)]
struct Watchers {
    progress: Option<Progress>,
    promises: Option<Promises>,
    decisions: Option<Decisions<BufWriter<File>>>,
}

impl Watch for Watchers {
    fn wants_verdicts(&self) -> bool {
        self.promises.is_some() || self.decisions.is_some()
    }

    fn reached(&mut self, submitted: usize) {
        if let Some(progress) = &mut self.progress {
            progress.reach(submitted);
        }
    }

    fn planned(&mut self, scene: &Scene<'_>, pass: &Pass) {
        if let Some(promises) = &mut self.promises {
            promises.planned(scene, pass);
        }
        if let Some(decisions) = &mut self.decisions {
            decisions.planned(scene, pass);
        }
    }

    fn started(&mut self, scene: &Scene<'_>, job: JobId) {
        if let Some(promises) = &mut self.promises {
            promises.started(scene, job);
        }
        if let Some(decisions) = &mut self.decisions {
            decisions.started(scene, job);
        }
    }

    fn ended(&mut self, scene: &Scene<'_>, job: JobId) {
        if let Some(decisions) = &mut self.decisions {
            decisions.ended(scene, job);
        }
    }
}

/// Replays a workload by one policy.
fn replay(
    arguments: &Arguments,
    workload: &Workload,
    policy_name: &str,
    decisions_to: Option<&Path>,
) -> Result<Ran, String> {
    let policy = policy_of(policy_name, workload.site.as_ref())?;
    let planning = if arguments.cold { Planning::Anew } else { Planning::Following };
    let layout = match arguments.layout {
        Nodes::OneNode => Layout::OneNode,
        Nodes::Nodes => Layout::Nodes,
    };
    let trace = &workload.trace;
    let procs = workload.site.as_ref().map_or(trace.procs, site::cpus);
    let estimates = match workload.believed {
        Believed::User => "user".to_owned(),
        Believed::Perfect => "perfect".to_owned(),
        Believed::Factor(factor) => format!("factor:{factor}"),
    };
    let options = Options { procs, policy, estimates: workload.estimates, layout, planning };
    let wants_more = !arguments.json || arguments.full;
    let header = json!({
        decisions::MARK: 1, "trace": workload.name, "procs": procs, "policy": policy_name, "estimates": estimates,
    });
    let open = |path: &Path| {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(Decisions::new(BufWriter::new(file), policy, procs, &header))
    };
    let mut watchers = Watchers {
        progress: Progress::new(trace.jobs.len()),
        promises: (wants_more && policy.depth != Some(0)).then(Promises::default),
        decisions: decisions_to.map(open).transpose()?,
    };
    let outcome = match &workload.site {
        Some(site) => replay::run_on_cluster(trace, site.clone(), options, &mut watchers),
        None if watchers.progress.is_none() && !watchers.wants_verdicts() => {
            Outcome { starts: replay::run(&trace.jobs, options), refused: Vec::new() }
        }
        None => {
            Outcome { starts: replay::run_watched(&trace.jobs, options, &mut watchers), refused: Vec::new() }
        }
    };
    let Watchers { promises, decisions, progress } = watchers;
    drop(progress);
    if let (Some(decisions), Some(path)) = (decisions, decisions_to) {
        let (counts, _) = decisions.finish().map_err(|error| format!("{}: {error}", path.display()))?;
        let counts: Vec<String> =
            counts.iter().map(|(cause, count)| format!("{count} {}", cause.name())).collect();
        eprintln!("sluice simulate: note: {}: {}", path.display(), counts.join(", "));
    }
    let (jobs, starts, skip) = counted(workload, outcome)?;
    let figures = Figures::of(&jobs[skip..], &starts[skip..], procs);
    let measures = wants_more.then(|| Measures::of(&jobs, &starts, procs, skip));
    Ok(Ran {
        name: workload.name.clone(),
        procs,
        policy: policy_name.to_owned(),
        estimates,
        jobs: jobs[skip..].to_vec(),
        starts: starts[skip..].to_vec(),
        figures,
        measures,
        accuracy: promises.map(|promises| promises.accuracy()),
    })
}

fn policy_of(name: &str, site: Option<&Settings>) -> Result<Policy, String> {
    let own = site.filter(|_| name == "site").map(|site| site.policy);
    let known = Policy::named(name).or(own);
    known.ok_or_else(|| {
        let with_site = if site.is_some() { ", site" } else { "" };
        format!("no policy \"{name}\"; there are: {}{with_site}", Policy::NAMES.join(", "))
    })
}

/// The jobs that ran, their starts, and how many of the first do not count; the others are named.
fn counted(workload: &Workload, outcome: Outcome) -> Result<(Vec<TraceJob>, Vec<i64>, usize), String> {
    let jobs = &workload.trace.jobs;
    if outcome.refused.is_empty() {
        return Ok((jobs.clone(), outcome.starts, workload.skip));
    }
    let mut by_reason: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (place, reason) in &outcome.refused {
        by_reason.entry(reason).or_default().push(jobs[*place].number);
    }
    for (reason, numbers) in by_reason {
        let said = format!("left out: the cluster does not take it: {reason}");
        eprintln!("sluice simulate: warning: {}", sentence("job", &numbers, &said));
    }
    let ran = |place: &usize| outcome.starts[*place] >= 0;
    let places: Vec<usize> = (0..jobs.len()).filter(ran).collect();
    let skip = places.partition_point(|place| *place < workload.skip);
    if skip == places.len() {
        return Err("no job fits the cluster".to_owned());
    }
    let kept = places.iter().map(|place| jobs[*place]).collect();
    Ok((kept, places.iter().map(|place| outcome.starts[*place]).collect(), skip))
}

/// Draws runs into a folder.
fn draw(folder: &Path, runs: &[&Ran]) -> Result<(), String> {
    let run = |ran: &&'_ Ran| (format!("{}, {}", ran.name, ran.policy), ran.procs);
    let names: Vec<(String, u32)> = runs.iter().map(run).collect();
    let runs: Vec<plot::Run<'_>> = runs
        .iter()
        .zip(&names)
        .map(|(ran, (name, procs))| plot::Run { name, jobs: &ran.jobs, starts: &ran.starts, procs: *procs })
        .collect();
    let drawn = plot::draw(folder, &runs)?;
    eprintln!("sluice simulate: note: {}: {}", folder.display(), drawn.join(" "));
    Ok(())
}

fn write_trace(arguments: &Arguments, workload: &Workload, path: &Path) -> Result<ExitCode, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut notes = vec![format!("written by sluice simulate from {}", workload.name)];
    notes.extend(arguments.generate.as_ref().map(|model| format!("model {model}")));
    let mut file = BufWriter::new(File::create(path).map_err(wrong)?);
    swf::write(&workload.trace, &notes, &mut file).map_err(wrong)?;
    std::io::Write::flush(&mut file).map_err(wrong)?;
    Ok(ExitCode::SUCCESS)
}

/// 0: every decision is the same; 1: the first that differs was shown.
fn diff(a: &Path, b: &Path) -> Result<ExitCode, String> {
    let names = [a.display().to_string(), b.display().to_string()];
    let open = |path: &Path| {
        File::open(path).map(BufReader::new).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (common, report) = difference::first((&names[0], open(a)?), (&names[1], open(b)?))?;
    match report {
        None => {
            print(&format!("all {common} decisions are the same\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(report) => {
            print(&report.to_string())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// 0: the same decisions; 1: they differ.
fn replay_inputs(arguments: &Arguments, path: &Path) -> Result<ExitCode, String> {
    let file = path.display();
    let bytes = read_bytes(path).map_err(|error| format!("{file}: {error}"))?;
    let replayed = inputs::replay(&bytes).map_err(|error| format!("{file}: {error}"))?;
    if arguments.json {
        let object = json!({
            "inputs": replayed.inputs, "owners": replayed.owners, "open": replayed.open,
            "submits": replayed.submits, "plans": replayed.plans, "starts": replayed.starts,
            "same_plans": replayed.same_plans, "same_states": replayed.same_states,
            "digest": replayed.digest, "difference": replayed.difference,
        });
        print(&format!("{object}\n"))?;
    } else {
        print(&replayed.text())?;
    }
    Ok(if replayed.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare_files(arguments: &Arguments, a: &str, b: &str) -> Result<ExitCode, String> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(name).map_err(|error| {
            format!("{name}: {error} (without a trace, --compare takes two files that --csv wrote)")
        })?;
        Run::parse_csv(name, &text)
    };
    compare_runs(arguments, &read(a)?, &read(b)?)
}

fn compare_policies(
    arguments: &Arguments,
    workload: &Workload,
    names: [&String; 2],
) -> Result<ExitCode, String> {
    let mut runs = Vec::new();
    for name in names {
        runs.push(replay(arguments, workload, name, None)?);
    }
    if let Some(folder) = &arguments.plot {
        draw(folder, &[&runs[0], &runs[1]])?;
    }
    let [first, second] = [&runs[0], &runs[1]].map(|ran| Run::of(&ran.policy, &ran.jobs, &ran.starts));
    compare_runs(arguments, &first, &second)
}

fn compare_runs(arguments: &Arguments, first: &Run, second: &Run) -> Result<ExitCode, String> {
    let paired = Paired::of(first, second)
        .ok_or_else(|| format!("{} and {} have no job in common", first.name, second.name))?;
    if arguments.json {
        print(&format!("{}\n", show::paired_json(&paired, &first.name, &second.name)))?;
    } else {
        print(&show::paired(&paired, &first.name, &second.name))?;
    }
    Ok(ExitCode::SUCCESS)
}
