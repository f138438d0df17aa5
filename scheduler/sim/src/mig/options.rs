//! The options of the GPU benchmarks of `sluice-simulate`: `--mig KIND …` and `--openb FOLDER …`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use serde_json::Value;

use super::command::{Kind, Question, answer, parse_seeds};
use crate::openb;
use crate::output::print;

/// Measures how GPUs are cut into slices (MIG) by a placement policy.
#[derive(Debug, Parser)]
#[command(name = "sluice-simulate", version)]
struct Mig {
    /// What is measured.
    #[arg(long)]
    mig: KindName,
    /// How many GPUs.
    #[arg(long)]
    gpus: usize,
    /// uniform, skew-small, skew-big, bimodal, or percentages w1,w2,w3,w4,w5,w6 of 1g, double-memory 1g, 2g, 3g, 4g, 7g.
    #[arg(long)]
    mix: String,
    /// Demand over capacity (churn, queue).
    #[arg(long)]
    load: Option<f64>,
    /// The placement policy, or a bound; for queue also planner, planner-DEPTH, static.
    #[arg(long)]
    policy: String,
    /// Seeds, A-B or A [default: 1-50 for fill, 1-3 for churn and queue].
    #[arg(long, value_parser = parse_seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// Expectations on empty GPUs up to the first rejection.
    Exact,
    /// Requests onto empty GPUs until they would be full.
    Fill,
    /// Slices come and go.
    Churn,
    /// The same with a queue: who finds no room waits.
    Queue,
}

/// Measures how GPUs are shared on the openb trace.
#[derive(Debug, Parser)]
#[command(name = "sluice-simulate", version)]
struct Sharing {
    /// The folder with nodes.csv and pods-default.csv, plain or gzip.
    #[arg(long)]
    openb: PathBuf,
    /// The placement policy.
    #[arg(long)]
    policy: String,
    /// The seed of the pods drawn.
    #[arg(long)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the options ask for.
#[derive(Debug)]
enum Answer {
    /// Objects for standard output, one a line if JSON was asked for.
    Objects(Vec<Value>, bool),
    /// Help, or what is wrong with the options: clap prints it and knows the exit status.
    Usage(clap::Error),
}

/// Runs a GPU benchmark if the program's arguments name one; otherwise `None`, and nothing was done.
#[must_use]
pub fn run() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let printed = asked(&arguments)?.and_then(|answer| match answer {
        Answer::Objects(objects, json) => {
            print(&objects.iter().map(|object| lines(object, json)).collect::<String>())
        }
        Answer::Usage(error) => error.exit(),
    });
    Some(match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sluice-simulate: error: {message}");
            ExitCode::FAILURE
        }
    })
}

fn lines(object: &Value, json: bool) -> String {
    match object.as_object() {
        Some(keys) if !json => keys.iter().fold(String::new(), |lines, (key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines + &format!("{key:>22}  {text}\n")
        }),
        _ => format!("{object}\n"),
    }
}

/// The answer, or a sentence about an option's value or a file; `None` for other arguments.
fn asked(arguments: &[OsString]) -> Option<Result<Answer, String>> {
    let names = |option: &str| {
        let with_value = format!("{option}=");
        arguments
            .iter()
            .skip(1)
            .filter_map(|argument| argument.to_str())
            .any(move |argument| argument == option || argument.starts_with(&with_value))
    };
    let both = (names("--mig"), names("--openb"));
    match both {
        (false, false) => None,
        (true, true) => {
            let error =
                clap::Error::raw(ErrorKind::ArgumentConflict, "--mig and --openb are two benchmarks\n");
            Some(Ok(Answer::Usage(error)))
        }
        (true, false) => Some(match Mig::try_parse_from(arguments) {
            Ok(options) => slices(options),
            Err(error) => Ok(Answer::Usage(error)),
        }),
        (false, true) => Some(match Sharing::try_parse_from(arguments) {
            Ok(options) => sharing(&options),
            Err(error) => Ok(Answer::Usage(error)),
        }),
    }
}

fn slices(options: Mig) -> Result<Answer, String> {
    let kind = match options.mig {
        KindName::Exact => Kind::Exact,
        KindName::Fill => Kind::Fill,
        KindName::Churn => Kind::Churn,
        KindName::Queue => Kind::Queue,
    };
    let Mig { gpus, mix, load, policy, seeds, json, .. } = options;
    answer(&Question { kind, gpus, mix, load, policy, seeds }).map(|objects| Answer::Objects(objects, json))
}

fn sharing(options: &Sharing) -> Result<Answer, String> {
    let trace = openb::cluster::Openb::read(&options.openb)?;
    let object = openb::command::answer(&trace, &options.policy, options.seed)?;
    Ok(Answer::Objects(vec![object], options.json))
}
