//! `sluice-simulate`: a recorded workload through the production scheduler, in virtual time.
//!
//! What `sluice simulate` runs. Data on standard output, everything else on standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use scheduler_core::plan::policy::{Policy, Prediction};
use scheduler_sim::trace::figures::Figures;
use scheduler_sim::trace::replay::{self, Options, Planning};
use scheduler_sim::trace::swf::{Trace, read_bytes};
use scheduler_sim::trace::{Estimates, Layout};
use serde_json::json;

/// Replays a recorded workload (SWF, plain or gzip) through the scheduler.
#[derive(Debug, Parser)]
#[command(name = "sluice-simulate", version)]
#[command(
    after_help = "GPU placement: sluice-simulate --mig exact|fill|churn --help, sluice-simulate --openb FOLDER --help"
)]
struct Arguments {
    /// The trace.
    file: PathBuf,
    /// Processors of the machine [default: the header's MaxProcs, else MaxNodes].
    #[arg(long)]
    procs: Option<u32>,
    /// How jobs are ordered and backfilled.
    #[arg(long, default_value = "easy")]
    policy: String,
    /// What the scheduler believes [default: user where the trace has any, else perfect].
    #[arg(long)]
    estimates: Option<Believed>,
    /// How the processors are laid out.
    #[arg(long, default_value = "one-node")]
    layout: Nodes,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a line for each job to this file: number and wait in seconds.
    #[arg(long)]
    waits: Option<PathBuf>,
    /// Make the plan from nothing at each pass (slow; for comparison).
    #[arg(long)]
    cold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Believed {
    /// What users asked for.
    User,
    /// The run times.
    Perfect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Nodes {
    /// One node with all processors.
    OneNode,
    /// A node for each processor.
    Nodes,
}

fn main() -> ExitCode {
    // The GPU benchmarks, --mig and --openb, have options of their own.
    if let Some(status) = scheduler_sim::mig::options::run() {
        return status;
    }
    let arguments = Arguments::parse();
    match simulate(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sluice-simulate: error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(arguments: &Arguments) -> Result<(), String> {
    let file = arguments.file.display();
    let policy = Policy::named(&arguments.policy).ok_or_else(|| {
        format!("no policy \"{}\"; there are: {}", arguments.policy, Policy::NAMES.join(", "))
    })?;
    let bytes = read_bytes(&arguments.file).map_err(|error| format!("{file}: {error}"))?;
    let trace = Trace::parse(&bytes, arguments.procs).map_err(|error| format!("{file}: {error}"))?;
    drop(bytes);
    report_lines(&trace, &arguments.file);
    let estimates = match (arguments.estimates, trace.has_estimates) {
        (Some(Believed::User), false) => return Err(format!("{file}: no job has a time limit of its user")),
        (Some(Believed::Perfect), _) | (None, false) => Estimates::Perfect,
        (Some(Believed::User) | None, true) => Estimates::User,
    };
    if trace.jobs.is_empty() {
        return Err(format!("{file}: no job is left after the filter"));
    }
    let layout = match arguments.layout {
        Nodes::OneNode => Layout::OneNode,
        Nodes::Nodes => Layout::Nodes,
    };
    if arguments.cold && (policy.keep || policy.prediction != Prediction::None) {
        return Err(format!("--cold forgets the promises or run times that {} builds on", arguments.policy));
    }
    let planning = if arguments.cold { Planning::Anew } else { Planning::Following };
    let options = Options { procs: trace.procs, policy, estimates, layout, planning };
    let starts = replay::run(&trace.jobs, options);
    let figures = Figures::of(&trace.jobs, &starts, trace.procs);
    if let Some(path) = &arguments.waits {
        write_waits(path, &trace, &starts).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print_figures(arguments, &trace, estimates, &figures);
    Ok(())
}

fn report_lines(trace: &Trace, file: &std::path::Path) {
    if trace.bad_lines.is_empty() {
        return;
    }
    let shown: Vec<String> = trace.bad_lines.iter().take(10).map(ToString::to_string).collect();
    let more = if trace.bad_lines.len() > shown.len() { ", …" } else { "" };
    let count = trace.bad_lines.len();
    eprintln!(
        "sluice-simulate: warning: {}: {count} lines are no jobs and were left out: {}{more}",
        file.display(),
        shown.join(", ")
    );
}

fn write_waits(path: &std::path::Path, trace: &Trace, starts: &[i64]) -> std::io::Result<()> {
    let line = |(job, start): (&scheduler_sim::trace::swf::TraceJob, &i64)| {
        format!("{} {}\n", job.number, start - job.submit)
    };
    std::fs::write(path, trace.jobs.iter().zip(starts).map(line).collect::<String>())
}

fn print_figures(arguments: &Arguments, trace: &Trace, estimates: Estimates, figures: &Figures) {
    let name = arguments.file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = name.strip_suffix(".swf").unwrap_or(name);
    let estimates = match estimates {
        Estimates::User => "user",
        Estimates::Perfect => "perfect",
    };
    let object = json!({
        "trace": name,
        "procs": trace.procs,
        "policy": arguments.policy,
        "estimates": estimates,
        "jobs": figures.jobs,
        "makespan_s": figures.makespan_s,
        "utilization": figures.utilization,
        "mean_wait_s": figures.mean_wait_s,
        "median_wait_s": figures.wait_s[0],
        "p95_wait_s": figures.wait_s[1],
        "p99_wait_s": figures.wait_s[2],
        "max_wait_s": figures.max_wait_s,
        "mean_bsld": figures.mean_bsld,
        "p95_bsld": figures.p95_bsld,
        "max_bsld": figures.max_bsld,
        "waited_frac": figures.waited_frac,
        "sum_wait_s": figures.sum_wait_s,
        "waits_sha256": figures.waits_sha256,
    });
    if arguments.json {
        println!("{object}");
        return;
    }
    let object = object.as_object().expect("an object was made");
    for (key, value) in object {
        println!("{key:>14}  {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
}
