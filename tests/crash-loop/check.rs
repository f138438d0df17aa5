//! What must hold after the loop, from three witnesses: sbatch's answers, the jobs' own record, accounting.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use tests::Cluster;

use crate::submit::{Submitted, record};

/// The account of a loop.
pub(crate) struct Found {
    acknowledged: usize,
    unanswered: usize,
    rows: usize,
    runs: usize,
    lost_outcomes: usize,
    /// Everything that must not be.
    pub(crate) wrong: Vec<String>,
}

impl Found {
    pub(crate) fn line(&self) -> String {
        format!(
            "{} acknowledged, {} unanswered, {} in accounting, {} runs began, {} ended as lost, {} wrong",
            self.acknowledged,
            self.unanswered,
            self.rows,
            self.runs,
            self.lost_outcomes,
            self.wrong.len()
        )
    }
}

/// What one job wrote, per (id, run).
#[derive(Default)]
struct Written {
    begun: u64,
    ended: u64,
}

/// A row of accounting.
struct Row {
    number: Option<u64>,
    state: String,
    exit: String,
}

/// Compares the witnesses. At most `may_be_lost` jobs may have an outcome that is not their own: supervisors were
/// killed, and runs of a lost spool were given up.
pub(crate) fn check(cluster: &Cluster, submitted: &Submitted, may_be_lost: u64) -> Result<Found> {
    let rows = rows(cluster)?;
    let mut wrong = Vec::new();
    let (runs, numbers_of_id) = written(cluster, &mut wrong)?;

    let mut issued = BTreeSet::new();
    for (number, submit) in submitted {
        let Some(id) = &submit.id else { continue };
        if !issued.insert(id) {
            wrong.push(format!("id {id} was issued twice"));
        }
        match rows.get(id) {
            None => {
                wrong.push(format!("job {id} (number {number}) was acknowledged and is not in accounting"))
            }
            Some(row) if row.number != Some(*number) => wrong.push(format!("id {id} is another job's")),
            Some(_) => {}
        }
    }
    let mut ids_of_number: BTreeMap<u64, Vec<&String>> = BTreeMap::new();
    for (id, row) in &rows {
        match row.number {
            Some(number) if submitted.contains_key(&number) => {
                ids_of_number.entry(number).or_default().push(id)
            }
            _ => wrong.push(format!("job {id} was never submitted")),
        }
    }
    for (number, ids) in ids_of_number.iter().filter(|(_, ids)| ids.len() > 1) {
        wrong.push(format!("one submit (number {number}) became jobs {ids:?}"));
    }
    for (id, numbers) in numbers_of_id.iter().filter(|(_, numbers)| numbers.len() > 1) {
        wrong.push(format!("id {id} ran as {numbers:?}"));
    }
    for ((id, run), seen) in &runs {
        if seen.begun > 1 || seen.ended > 1 {
            wrong.push(format!(
                "job {id} run {run} began {} times and ended {} times",
                seen.begun, seen.ended
            ));
        }
        if !rows.contains_key(id) {
            wrong.push(format!("job {id} ran and is not in accounting"));
        }
    }
    let lost = outcomes(&rows, submitted, &runs, &mut wrong);
    if lost.len() as u64 > may_be_lost {
        wrong.push(format!(
            "{} jobs lost their outcome, and at most {may_be_lost} may have: {lost:?}",
            lost.len()
        ));
    }
    let acknowledged = submitted.values().filter(|submit| submit.id.is_some()).count();
    let unanswered = submitted.len() - acknowledged;
    Ok(Found {
        acknowledged,
        unanswered,
        rows: rows.len(),
        runs: runs.len(),
        lost_outcomes: lost.len(),
        wrong,
    })
}

/// Checks each job's state against what it wrote; answers those whose outcome is not their own.
fn outcomes<'a>(
    rows: &'a BTreeMap<String, Row>,
    submitted: &Submitted,
    runs: &BTreeMap<(String, u64), Written>,
    wrong: &mut Vec<String>,
) -> Vec<&'a String> {
    let mut lost = Vec::new();
    for (id, row) in rows {
        let Some(submit) = row.number.and_then(|number| submitted.get(&number)) else { continue };
        let (state, exit) = if submit.exit == 0 {
            ("COMPLETED", "0:0".to_owned())
        } else {
            ("FAILED", format!("{}:0", submit.exit))
        };
        let of_job = runs.range((id.clone(), 0)..=(id.clone(), u64::MAX));
        let ended: u64 = of_job.map(|(_, seen)| seen.ended).sum();
        if row.state == state && row.exit == exit {
            if ended == 0 {
                wrong.push(format!("job {id} is {state} {exit} but never wrote its end"));
            }
        } else if row.state == "NODE_FAIL" || (row.state == "FAILED" && row.exit != exit) {
            lost.push(id);
        } else {
            wrong.push(format!("job {id} should be {state} {exit} and is {} {}", row.state, row.exit));
        }
    }
    lost
}

fn rows(cluster: &Cluster) -> Result<BTreeMap<String, Row>> {
    let text =
        cluster.ok("sacct", &["-nPX", "-a", "-S", "now-1day", "-o", "JobID,JobName,State,ExitCode"])?;
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [id, name, state, exit] = fields.as_slice() else { anyhow::bail!("sacct printed {line:?}") };
        let number = name.strip_prefix('m').and_then(|number| number.parse().ok());
        rows.insert((*id).to_owned(), Row { number, state: (*state).to_owned(), exit: (*exit).to_owned() });
    }
    Ok(rows)
}

type Runs = BTreeMap<(String, u64), Written>;

/// The jobs' own record: runs by (id, run), and the numbers that ran under each id.
fn written(cluster: &Cluster, wrong: &mut Vec<String>) -> Result<(Runs, BTreeMap<String, BTreeSet<u64>>)> {
    let text = fs::read_to_string(record(cluster)).context("read the jobs' record")?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    let mut runs: Runs = BTreeMap::new();
    let mut numbers_of_id: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [what, number, id, run, at] = fields.as_slice() else {
            wrong.push(format!("a job wrote {line:?}"));
            continue;
        };
        let (Ok(number), Ok(run)) = (number.parse(), run.parse()) else {
            wrong.push(format!("a job wrote {line:?}"));
            continue;
        };
        if *at != boot.trim() {
            wrong.push(format!("a job wrote of another boot: {line:?}"));
        }
        let seen = runs.entry(((*id).to_owned(), run)).or_default();
        match *what {
            "begin" => seen.begun += 1,
            _ => seen.ended += 1,
        }
        numbers_of_id.entry((*id).to_owned()).or_default().insert(number);
    }
    Ok((runs, numbers_of_id))
}
