//! `sdiag`: figures of the scheduler.
//!
//! Prints Slurm's sections with what is counted here, and ours (the journal's commits) behind them. Slurm's
//! figures of parts that this scheduler does not have are left out, not shown as zero.

use proto::v1::{DiagnosticsRequest, KeyValue};
use serde_json::{Map, Value, json};

use super::{Call, block_on, clusters, json};
use crate::api::Error;
use crate::getopt::Takes::{self, Maybe, Nothing};
use crate::getopt::{self, Spec};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    All,
    Cluster,
    Help,
    Json,
    Reset,
    Sort,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::All, b'a', "all", Nothing),
    Spec::new(O::Cluster, b'M', "cluster", Takes::Value),
    Spec::long(O::Cluster, "clusters", Takes::Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::long(O::Help, "usage", Nothing),
    Spec::new(O::Sort, b'i', "sort-by-id", Nothing),
    Spec::long(O::Json, "json", Maybe),
    Spec::new(O::Reset, b'r', "reset", Nothing),
    Spec::new(O::Sort, b't', "sort-by-time", Nothing),
    Spec::new(O::Sort, b'T', "sort-by-time2", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    let words = match call.split(OPTIONS) {
        Ok(words) => words,
        Err(status) => return status,
    };
    let mut as_json = false;
    let mut reset = false;
    for given in &words.options {
        match given.id {
            O::All | O::Sort => {}
            O::Cluster => {
                if let Err(status) = clusters::check_query(call, Some(&clusters::names(&given.text()))) {
                    return status;
                }
            }
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Json => as_json = true,
            O::Reset => reset = true,
            O::Version => {
                say::out(super::version() + "\n");
                return 0;
            }
        }
    }
    let answer = block_on(async {
        let request = DiagnosticsRequest { reset };
        super::connect_to_ask().await?.raw().diagnostics(request).await.map_err(Error::Failed)
    });
    match answer {
        Ok(reply) if reply.get_ref().refused.is_some() => {
            say::err("slurm_reset_statistics: Access/permission denied");
            255
        }
        Ok(_) if reset => {
            say::out("Reset scheduling statistics\n");
            0
        }
        Ok(reply) => {
            let figures = reply.into_inner().figures;
            say::out(if as_json { document(&figures) } else { text(&figures) });
            0
        }
        Err(error) => {
            say::err(format!("slurm_get_statistics: {}", say::reason(&error)));
            say::explain(&call.program, &error);
            1
        }
    }
}

fn find<'a>(figures: &'a [KeyValue], key: &str) -> Option<&'a str> {
    figures.iter().find(|figure| figure.key == key).map(|figure| figure.value.as_str())
}

/// Lines of the figures that are there, values in one column, at least where the longest key ends.
fn lines(figures: &[KeyValue], keys: &[&str], indent: &str, least: usize) -> String {
    let width = keys.iter().map(|key| key.len() + 1).max().unwrap_or(0).max(least);
    let line = |key: &&str| {
        let name = format!("{key}:");
        find(figures, key).map(|value| format!("{indent}{name:<width$} {value}\n"))
    };
    keys.iter().filter_map(line).collect()
}

fn moment(figures: &[KeyValue], key: &str) -> String {
    let seconds = find(figures, key).and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
    format!("{} ({seconds})", local::ctime(seconds * 1000))
}

const SERVER: [&str; 3] = ["Server thread count", "Agent queue size", "DBD Agent queue size"];
const JOBS: [&str; 5] = ["Jobs submitted", "Jobs started", "Jobs completed", "Jobs canceled", "Jobs failed"];
const NOW: [&str; 2] = ["Jobs pending", "Jobs running"];
/// Slurm's column of values in its upper sections.
const COLUMN: usize = 15;
const PASSES: [&str; 5] = ["Last cycle", "Max cycle", "Total cycles", "Mean cycle", "Last queue length"];
const OWN: [&str; 5] = ["Commits", "Mean commit", "Max commit", "Mean submit", "Max submit"];

fn text(figures: &[KeyValue]) -> String {
    let rule = "*".repeat(55);
    let mut out = format!("{rule}\nsdiag output at {}\n", moment(figures, "Time"));
    out += &format!("Data since      {}\n{rule}\n", moment(figures, "Data since"));
    out += &lines(figures, &SERVER, "", 0);
    out += &format!("\n{}", lines(figures, &JOBS, "", COLUMN));
    out += &format!(
        "\nJob states ts:  {}\n{}",
        moment(figures, "Job states ts"),
        lines(figures, &NOW, "", COLUMN)
    );
    out += &format!("\nMain schedule statistics (microseconds):\n{}", lines(figures, &PASSES, "\t", 0));
    out += "\nBackfilling stats\n\tpart of the main schedule's passes\n";
    out += &format!("\nJournal and submissions (microseconds):\n{}", lines(figures, &OWN, "\t", 0));
    out += "\nRemote Procedure Call statistics by message type\n";
    out += "\nRemote Procedure Call statistics by user\n";
    out + "\nPending RPC statistics\n\tNo pending RPCs\n"
}

/// Slurm's names in its JSON, and ours.
const NAMES: [(&str, &str); 16] = [
    ("Server thread count", "server_thread_count"),
    ("Agent queue size", "agent_queue_size"),
    ("Jobs submitted", "jobs_submitted"),
    ("Jobs started", "jobs_started"),
    ("Jobs completed", "jobs_completed"),
    ("Jobs canceled", "jobs_canceled"),
    ("Jobs failed", "jobs_failed"),
    ("Jobs pending", "jobs_pending"),
    ("Jobs running", "jobs_running"),
    ("Last cycle", "schedule_cycle_last"),
    ("Max cycle", "schedule_cycle_max"),
    ("Total cycles", "schedule_cycle_total"),
    ("Mean cycle", "schedule_cycle_mean"),
    ("Last queue length", "schedule_queue_length"),
    ("Commits", "commits"),
    ("Mean submit", "submit_mean"),
];

fn document(figures: &[KeyValue]) -> String {
    let mut statistics = Map::new();
    for (key, name) in NAMES {
        if let Some(number) = find(figures, key).and_then(|value| value.parse::<u64>().ok()) {
            statistics.insert(name.to_owned(), Value::from(number));
        }
    }
    // Backfill has no turn of its own here that could be going on.
    statistics.insert("bf_active".to_owned(), json!(false));
    json::document(vec![("statistics", Value::Object(statistics))])
}

const HELP: &str = "\
Usage: sdiag [OPTIONS]
  -a, --all        all statistics
  -M, --cluster    cluster to ask
  -r, --reset      count from now on; for operators and administrators
      --json       as JSON
  -V, --version    version
  -h, --help       this text
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_their_sections() {
        let figure = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
        let figures = [figure("Jobs submitted", "7"), figure("Time", "0"), figure("Mean cycle", "12")];
        let text = text(&figures);
        assert!(text.contains("sdiag output at "), "{text}");
        assert!(text.contains("\nJobs submitted: 7\n"), "{text}");
        assert!(text.contains("\tMean cycle:        12\n"), "{text}");
        assert!(!text.contains("Max cycle"), "{text}");
        let document: Value = serde_json::from_str(&document(&figures)).unwrap();
        assert_eq!(document["statistics"]["jobs_submitted"], json!(7));
    }
}
