//! What a run looks like beyond its figures: by class of jobs, by week, and what was lost.

use super::TraceJob;
use super::figures::{bounded_slowdown, rank};
use super::statistics::Mean;

/// Seconds of a week.
pub const WEEK_S: i64 = 7 * 86_400;
/// Largest processors of a size class but the last, and how it is called.
const SIZES: [(u32, &str); 5] = [(1, "1"), (8, "2-8"), (32, "9-32"), (128, "33-128"), (u32::MAX, ">128")];
/// Longest run time of a class but the last, seconds, and how it is called.
const TIMES: [(i64, &str); 4] = [(600, "<=10 min"), (3600, "<=1 h"), (28_800, "<=8 h"), (i64::MAX, ">8 h")];

/// Jobs of one size and run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Processors.
    pub size: &'static str,
    /// Run time.
    pub run_time: &'static str,
    /// How many.
    pub jobs: usize,
    /// Mean wait.
    pub mean_wait_s: f64,
    /// Waits of which half and 95 % wait at most so long.
    pub wait_s: [i64; 2],
    /// Mean bounded slowdown.
    pub mean_bsld: f64,
}

/// Jobs submitted in one week of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Week {
    /// How many.
    pub jobs: usize,
    /// Their mean wait.
    pub mean_wait_s: f64,
    /// Their mean bounded slowdown.
    pub mean_bsld: f64,
    /// Processor seconds used in the week of those there were.
    pub utilization: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    /// Classes that have jobs, small and short ones first.
    pub classes: Vec<Class>,
    /// Weeks from the first submission.
    pub weeks: Vec<Week>,
    /// Jobs that started while one submitted earlier still waited.
    pub backfilled: usize,
    /// Processor seconds that were idle while jobs waited that could have used them, of all.
    /// Source: Y. Zhang and others, "An integrated approach to parallel scheduling", IEEE TPDS 14(3), 2003.
    pub lost: f64,
}

impl Measures {
    /// Of jobs in order of submission, of which the first `skip` run without being counted, with the
    /// start of each. Cost: O(jobs × log jobs).
    ///
    /// # Panics
    /// If no job is counted.
    #[must_use]
    pub fn of(jobs: &[TraceJob], starts: &[i64], procs: u32, skip: usize) -> Self {
        assert!(skip < jobs.len() && jobs.len() == starts.len(), "some job counts");
        Self {
            classes: classes(&jobs[skip..], &starts[skip..]),
            weeks: weeks(jobs, starts, procs, skip),
            backfilled: backfilled(starts, skip),
            lost: lost(jobs, starts, procs, skip),
        }
    }

    /// Mean and interval over the weeks of one of their figures. The last week is left out if it is not
    /// the only one: it is not whole.
    #[must_use]
    pub fn weekly(&self, figure: impl Fn(&Week) -> f64) -> Mean {
        let whole = self.weeks.len().saturating_sub(1).max(1).min(self.weeks.len());
        let weeks: Vec<f64> = self.weeks[..whole].iter().filter(|week| week.jobs > 0).map(figure).collect();
        Mean::of(&weeks)
    }
}

fn classes(jobs: &[TraceJob], starts: &[i64]) -> Vec<Class> {
    let mut waits: Vec<Vec<(i64, f64)>> = vec![Vec::new(); SIZES.len() * TIMES.len()];
    for (job, start) in jobs.iter().zip(starts) {
        let size = SIZES.iter().position(|(most, _)| job.procs <= *most).expect("the last takes all");
        let time = TIMES.iter().position(|(most, _)| job.run <= *most).expect("the last takes all");
        let wait = start - job.submit;
        waits[size * TIMES.len() + time].push((wait, bounded_slowdown(job, wait)));
    }
    let filled = waits.into_iter().enumerate().filter(|(_, waits)| !waits.is_empty());
    filled
        .map(|(place, mut waits)| {
            waits.sort_unstable_by_key(|(wait, _)| *wait);
            let count = waits.len() as f64;
            Class {
                size: SIZES[place / TIMES.len()].1,
                run_time: TIMES[place % TIMES.len()].1,
                jobs: waits.len(),
                mean_wait_s: waits.iter().map(|(wait, _)| *wait).sum::<i64>() as f64 / count,
                wait_s: [50, 95].map(|percent| waits[rank(waits.len(), percent)].0),
                mean_bsld: waits.iter().map(|(_, slowdown)| slowdown).sum::<f64>() / count,
            }
        })
        .collect()
}

fn weeks(jobs: &[TraceJob], starts: &[i64], procs: u32, skip: usize) -> Vec<Week> {
    let first = jobs[skip].submit;
    let week_of = |at: i64| usize::try_from((at - first) / WEEK_S).unwrap_or(0);
    let mut weeks = vec![Week::default(); week_of(jobs[jobs.len() - 1].submit) + 1];
    for (job, start) in jobs[skip..].iter().zip(&starts[skip..]) {
        let (week, wait) = (&mut weeks[week_of(job.submit)], start - job.submit);
        week.jobs += 1;
        week.mean_wait_s += wait as f64;
        week.mean_bsld += bounded_slowdown(job, wait);
    }
    for (job, &start) in jobs.iter().zip(starts) {
        let end = start + job.run;
        if end <= first {
            continue;
        }
        for (place, week) in (week_of(start)..).zip(weeks.iter_mut().skip(week_of(start))) {
            let begin = first + place as i64 * WEEK_S;
            let share = end.min(begin + WEEK_S) - start.max(begin);
            if begin >= end {
                break;
            }
            week.utilization += share.max(0) as f64 * f64::from(job.procs);
        }
    }
    for week in &mut weeks {
        let count = week.jobs.max(1) as f64;
        week.mean_wait_s /= count;
        week.mean_bsld /= count;
        week.utilization /= WEEK_S as f64 * f64::from(procs);
    }
    weeks
}

fn backfilled(starts: &[i64], skip: usize) -> usize {
    let mut latest = i64::MIN;
    let mut count = 0;
    for (place, &start) in starts.iter().enumerate() {
        count += usize::from(place >= skip && start < latest);
        latest = latest.max(start);
    }
    count
}

/// The share of the capacity that was idle while waiting jobs together asked for it.
fn lost(jobs: &[TraceJob], starts: &[i64], procs: u32, skip: usize) -> f64 {
    // When, change of what is asked for, change of what is used.
    let mut changes: Vec<(i64, i64, i64)> = Vec::with_capacity(jobs.len() * 3);
    for (job, &start) in jobs.iter().zip(starts) {
        let size = i64::from(job.procs);
        if start > job.submit {
            changes.push((job.submit, size, 0));
            changes.push((start, -size, size));
        } else {
            changes.push((start, 0, size));
        }
        changes.push((start + job.run, 0, -size));
    }
    changes.sort_unstable_by_key(|change| change.0);
    let from = jobs[skip].submit;
    let until =
        jobs[skip..].iter().zip(&starts[skip..]).map(|(job, start)| start + job.run).max().unwrap_or(from);
    let (mut asked, mut used, mut last, mut idle) = (0_i64, 0_i64, from, 0_i128);
    for (at, more_asked, more_used) in changes {
        if at > last {
            let free = (i64::from(procs) - used).max(0);
            idle += i128::from(free.min(asked)) * i128::from(at.min(until) - last).max(0);
            last = at;
        }
        asked += more_asked;
        used += more_used;
    }
    let all = i128::from(procs) * i128::from((until - from).max(1));
    idle as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: i64, submit: i64, run: i64, procs: u32) -> TraceJob {
        TraceJob { number, submit, run, procs, estimate: run, user: 0, need: 0 }
    }

    #[test]
    fn measures_a_small_run() {
        // Four processors: 1 takes three; 2 wants two and waits; 3 takes the last one out of turn.
        let jobs = [job(1, 0, 100, 3), job(2, 10, 50, 2), job(3, 20, 30, 1)];
        let starts = [0, 100, 20];
        let measures = Measures::of(&jobs, &starts, 4, 0);
        assert_eq!(measures.backfilled, 1);
        // Idle while asked for: one processor from 10 to 20 and from 50 to 100.
        assert!((measures.lost - 60.0 / (4.0 * 150.0)).abs() < 1e-12, "{}", measures.lost);
        let [week] = measures.weeks[..] else { panic!("one week") };
        assert_eq!((week.jobs, week.mean_wait_s), (3, 30.0));
        assert!((week.utilization - 430.0 / (4.0 * WEEK_S as f64)).abs() < 1e-12);
        let shown: Vec<(&str, &str, usize)> =
            measures.classes.iter().map(|class| (class.size, class.run_time, class.jobs)).collect();
        assert_eq!(shown, [("1", "<=10 min", 1), ("2-8", "<=10 min", 2)]);
        assert_eq!(measures.weekly(|week| week.mean_wait_s).mean, 30.0);
        assert_eq!(Measures::of(&jobs, &starts, 4, 2).weeks[0].jobs, 1);
    }

    #[test]
    fn usage_is_split_between_weeks() {
        let jobs = [job(1, 0, 2 * WEEK_S, 1), job(2, 2 * WEEK_S, 10, 1)];
        let weeks = Measures::of(&jobs, &[WEEK_S / 2, 5 * WEEK_S], 1, 0).weeks;
        let used: Vec<f64> = weeks.iter().map(|week| week.utilization).collect();
        assert_eq!(used, [0.5, 1.0, 0.5]);
    }
}
