//! The command line of `sluice simulate`: as typed, then checked.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum, value_parser};
use model::time::{Timestamp, moment};

/// What one run of a trace is asked for beside the trace, `--json` and `--plot` apart.
const ONE_RUN: [&str; 5] = ["policy", "full", "csv", "waits", "decisions"];

/// What a trace is simulated with, or shown by.
const SIMULATION: [&str; 10] =
    ["policy", "full", "csv", "waits", "decisions", "json", "plot", "layout", "warmup", "cold"];

/// Replays a recorded workload (SWF or `sacct -P`, plain or gzip) through the scheduler, in virtual time.
#[derive(Debug, Parser)]
#[command(name = "sluice simulate", bin_name = "sluice simulate", version)]
#[command(
    after_help = "GPU placement: sluice simulate --mig exact|fill|churn --help, sluice simulate --openb FOLDER --help"
)]
#[command(group = ArgGroup::new("trace").args(["file", "generate"]))]
pub struct Arguments {
    /// The trace.
    pub file: Option<PathBuf>,
    /// Makes the trace: lublin:jobs=N,procs=P,seed=S (Lublin and Feitelson, 2003).
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["file", "procs", "inputs"])]
    pub generate: Option<String>,
    /// Writes the trace as it is simulated, as SWF, and simulates nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = SIMULATION, requires = "trace")]
    pub write: Option<PathBuf>,
    /// Processors of the machine [default: the header's MaxProcs, else MaxNodes].
    #[arg(long, conflicts_with = "conf", requires = "trace", value_parser = value_parser!(u32).range(1..))]
    pub procs: Option<u32>,
    /// The slurm.conf (and gres.conf beside it) of the cluster to run on, instead of one machine of processors.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub conf: Option<PathBuf>,
    /// How jobs are ordered and backfilled [default: easy; with --conf: site, as the file says].
    #[arg(long, requires = "trace")]
    pub policy: Option<String>,
    /// What the scheduler believes: user, perfect, or factor:F for F times the run time
    /// [default: user where the trace has any, else perfect].
    #[arg(long, requires = "trace")]
    pub estimates: Option<String>,
    /// How the processors are laid out.
    #[arg(long, default_value = "one-node", conflicts_with = "conf", requires = "trace")]
    pub layout: Nodes,
    /// Only jobs submitted from then on: seconds of the trace, or a date.
    #[arg(long, value_name = "TIME", requires = "trace")]
    pub from: Option<String>,
    /// Only jobs submitted before then.
    #[arg(long, value_name = "TIME", requires = "trace")]
    pub to: Option<String>,
    /// Runs the jobs of the first SPAN (3600, 90m, 12h, 7d) without counting them.
    #[arg(long, value_name = "SPAN", requires = "trace")]
    pub warmup: Option<String>,
    /// Brings the jobs X times as fast.
    #[arg(long, value_name = "X", requires = "trace")]
    pub scale_load: Option<f64>,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
    /// With --json: also classes, weeks, what was lost and how good promises were.
    #[arg(long, requires = "json")]
    pub full: bool,
    /// Writes a line for each job to this file.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub csv: Option<PathBuf>,
    /// Writes number and wait in seconds of each job to this file.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub waits: Option<PathBuf>,
    /// Writes each start with its cause to this file.
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub decisions: Option<PathBuf>,
    /// Shows the first decision in which two files of --decisions differ.
    #[arg(long, num_args = 2, value_names = ["A", "B"], exclusive = true)]
    pub diff: Option<Vec<PathBuf>>,
    /// Compares two runs job by job: policies for the trace, or files of --csv.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ONE_RUN)]
    pub compare: Option<Vec<String>>,
    /// Replays what sluice-scheduler --record-inputs wrote.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "full", "compare"])]
    pub inputs: Option<PathBuf>,
    /// Draws the run into this folder, as SVG and PNG.
    #[arg(long, value_name = "DIR", requires = "trace")]
    pub plot: Option<PathBuf>,
    /// Makes the plan from nothing at each pass, for every policy (slow; for comparison).
    #[arg(long, requires = "trace")]
    pub cold: bool,
}

/// How processors become nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nodes {
    /// One node with all processors.
    OneNode,
    /// A node for each processor.
    Nodes,
}

/// What `--estimates` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Believed {
    /// What users asked for.
    User,
    /// The run times.
    Perfect,
    /// So many times the run times.
    Factor(f64),
}

impl Believed {
    /// Reads `user`, `perfect`, `factor:2.5`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "user" => Ok(Self::User),
            "perfect" => Ok(Self::Perfect),
            other => {
                let factor = other.strip_prefix("factor:").and_then(|factor| factor.parse().ok());
                match factor {
                    Some(factor) if (1.0..=1e6).contains(&factor) => Ok(Self::Factor(factor)),
                    _ => Err(format!("--estimates {other}: one of user, perfect, factor:F with F from 1")),
                }
            }
        }
    }
}

/// A moment of `--from` and `--to`, seconds of the trace.
///
/// # Errors
/// A sentence.
pub fn moment_of(option: &str, text: &str, epoch: Option<i64>) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let date = moment::parse(text, Timestamp::ZERO, &moment::utc, moment::Sense::Past)
        .map_err(|_| format!("{option} {text}: neither seconds of the trace nor a date"))?;
    let epoch = epoch.ok_or_else(|| {
        format!("{option} {text}: the trace does not say when it begins; give seconds of it")
    })?;
    Ok(date.as_secs() - epoch)
}

/// A span of `--warmup`, seconds.
///
/// # Errors
/// A sentence.
pub fn span_of(option: &str, text: &str) -> Result<i64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        Some(b'w') => (&text[..text.len() - 1], 7 * 86_400),
        _ => (text, 1),
    };
    let count: i64 = digits.parse().ok().filter(|count| (0..1 << 40).contains(count)).ok_or_else(|| {
        format!("{option} {text}: a span is a number of seconds, or of another unit: 90m, 12h, 7d, 2w")
    })?;
    Ok(count * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(Believed::parse("factor:2.5"), Ok(Believed::Factor(2.5)));
        assert!(Believed::parse("factor:0.5").is_err() && Believed::parse("best").is_err());
        assert_eq!(span_of("--warmup", "7d"), Ok(604_800));
        assert!(span_of("--warmup", "-1").is_err() && span_of("--warmup", "x").is_err());
        assert_eq!(moment_of("--from", "12", None), Ok(12));
        assert_eq!(moment_of("--from", "1970-01-02", Some(400)), Ok(86_000));
        assert!(moment_of("--from", "1970-01-02", None).unwrap_err().contains("does not say"));
        assert!(moment_of("--from", "soon", Some(0)).is_err());
    }
}
