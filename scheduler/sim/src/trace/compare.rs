//! Two runs of the same jobs, job by job.
//!
//! Waits of neighbouring jobs depend on each other, so that a job is no independent observation: the
//! interval is over the differences of weekly means.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::TraceJob;
use super::figures::bounded_slowdown;
use super::measure::WEEK_S;
use super::statistics::Mean;

/// First line of a file with a line for each job.
pub const CSV_HEADER: &str = "job,user,submit_s,start_s,end_s,wait_s,run_s,limit_s,procs,bounded_slowdown";

/// What a comparison needs of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Seconds of the trace.
    pub submit: i64,
    /// Seconds.
    pub wait: i64,
    /// Bounded slowdown.
    pub slowdown: f64,
}

/// A run by job number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// How it is called.
    pub name: String,
    /// Its jobs.
    pub rows: BTreeMap<i64, Row>,
}

/// What the second run does otherwise than the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Jobs that both have.
    pub jobs: usize,
    /// Jobs that one of them has.
    pub alone: usize,
    /// Mean waits, seconds.
    pub wait_s: [f64; 2],
    /// Mean bounded slowdowns.
    pub slowdown: [f64; 2],
    /// Weekly difference of the waits, second less first.
    pub wait_more_s: Mean,
    /// The same of the bounded slowdown.
    pub slowdown_more: Mean,
    /// Jobs that wait less, as long, longer in the second.
    pub shorter_same_longer: [usize; 3],
}

impl Run {
    /// Of a replay.
    #[must_use]
    pub fn of(name: &str, jobs: &[TraceJob], starts: &[i64]) -> Self {
        let row = |(job, start): (&TraceJob, &i64)| {
            let wait = start - job.submit;
            (job.number, Row { submit: job.submit, wait, slowdown: bounded_slowdown(job, wait) })
        };
        Self { name: name.to_owned(), rows: jobs.iter().zip(starts).map(row).collect() }
    }

    /// Reads what `--csv` wrote.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse_csv(name: &str, text: &str) -> Result<Self, String> {
        let mut lines = (1..).zip(text.lines());
        let header = lines.next().map(|(_, line)| line);
        if header != Some(CSV_HEADER) {
            return Err(format!("{name}: no file that sluice simulate --csv wrote"));
        }
        let mut run = Self { name: name.to_owned(), rows: BTreeMap::new() };
        for (number, line) in lines {
            let words: Vec<&str> = line.split(',').collect();
            let row = || {
                let integer = |place: usize| words.get(place)?.parse::<i64>().ok();
                let slowdown = words.get(9)?.parse().ok()?;
                Some((integer(0)?, Row { submit: integer(2)?, wait: integer(5)?, slowdown }))
            };
            let (job, row) = row().ok_or_else(|| format!("{name}:{number}: not the ten fields of a job"))?;
            run.rows.insert(job, row);
        }
        Ok(run)
    }
}

/// A line of the file for each job.
#[must_use]
pub fn csv(jobs: &[TraceJob], starts: &[i64]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(64 * (jobs.len() + 1));
    text.push_str(CSV_HEADER);
    text.push('\n');
    for (job, start) in jobs.iter().zip(starts) {
        let TraceJob { number, submit, run, procs, estimate, user, .. } = *job;
        let (end, wait) = (start + run, start - submit);
        let slowdown = bounded_slowdown(job, wait);
        writeln!(text, "{number},{user},{submit},{start},{end},{wait},{run},{estimate},{procs},{slowdown}")
            .expect("writing to a string cannot fail");
    }
    text
}

impl Paired {
    /// Compares two runs. Cost: O(jobs). `None`: they have no job in common.
    #[must_use]
    pub fn of(first: &Run, second: &Run) -> Option<Self> {
        let both: Vec<(Row, Row)> =
            first.rows.iter().filter_map(|(job, row)| Some((*row, *second.rows.get(job)?))).collect();
        let begin = both.iter().map(|(row, _)| row.submit).min()?;
        let count = both.len() as f64;
        let mean = |figure: &dyn Fn(&(Row, Row)) -> f64| both.iter().map(figure).sum::<f64>() / count;
        let weekly = |figure: &dyn Fn(&(Row, Row)) -> f64| {
            let mut weeks: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
            for pair in &both {
                let week = weeks.entry((pair.0.submit - begin) / WEEK_S).or_default();
                *week = (week.0 + figure(pair), week.1 + 1.0);
            }
            Mean::of(&weeks.values().map(|(sum, count)| sum / count).collect::<Vec<_>>())
        };
        let mut order = [0; 3];
        for (one, other) in &both {
            order[match other.wait.cmp(&one.wait) {
                Ordering::Less => 0,
                Ordering::Equal => 1,
                Ordering::Greater => 2,
            }] += 1;
        }
        Some(Self {
            jobs: both.len(),
            alone: first.rows.len() + second.rows.len() - 2 * both.len(),
            wait_s: [mean(&|pair| pair.0.wait as f64), mean(&|pair| pair.1.wait as f64)],
            slowdown: [mean(&|pair| pair.0.slowdown), mean(&|pair| pair.1.slowdown)],
            wait_more_s: weekly(&|pair| (pair.1.wait - pair.0.wait) as f64),
            slowdown_more: weekly(&|pair| pair.1.slowdown - pair.0.slowdown),
            shorter_same_longer: order,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_pairs() {
        let job =
            |number, submit| TraceJob { number, submit, run: 20, procs: 1, estimate: 30, user: 0, need: 0 };
        let jobs = [job(1, 0), job(2, 10), job(3, WEEK_S + 5)];
        let first = Run::of("a", &jobs, &[0, 30, WEEK_S + 5]);
        let read = Run::parse_csv("a", &csv(&jobs, &[0, 30, WEEK_S + 5])).unwrap();
        assert_eq!(read, first);
        let second = Run::of("b", &jobs, &[0, 10, WEEK_S + 45]);
        let paired = Paired::of(&first, &second).unwrap();
        assert_eq!((paired.jobs, paired.alone, paired.shorter_same_longer), (3, 0, [1, 1, 1]));
        // -10 in the first week on average, +40 in the second.
        assert_eq!((paired.wait_more_s.mean, paired.wait_more_s.count), (15.0, 2));
        assert!(Paired::of(&first, &Run::default()).is_none());
        assert!(Run::parse_csv("x", "job\n").unwrap_err().contains("no file"));
        assert!(Run::parse_csv("x", &format!("{CSV_HEADER}\n1,2\n")).unwrap_err().starts_with("x:2:"));
    }
}
