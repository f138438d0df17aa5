//! The numbers behind the plots.

use super::Run;

/// The most points of a line: more than a plot has columns are averaged.
const POINTS: usize = 1200;

/// A value over time since the first submission, seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    pub(super) points: Vec<(f64, f64)>,
    pub(super) until: f64,
}

/// A rectangle of the Gantt chart; times in seconds since the first submission.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) job: usize,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) low: u32,
    pub(super) high: u32,
}

/// Processors in use, percent, averaged over the width of a point.
pub(super) fn utilisation(run: &Run<'_>) -> Steps {
    let changes = run.jobs.iter().zip(run.starts).flat_map(|(job, &start)| {
        let size = f64::from(job.procs);
        [(start, size), (start + job.run, -size)]
    });
    averaged(run, changes.collect(), 100.0 / f64::from(run.procs))
}

/// Waiting jobs, averaged over the width of a point.
pub(super) fn queue_length(run: &Run<'_>) -> Steps {
    let waits = run.jobs.iter().zip(run.starts).filter(|(job, start)| **start > job.submit);
    let changes = waits.flat_map(|(job, &start)| [(job.submit, 1.0), (start, -1.0)]);
    averaged(run, changes.collect(), 1.0)
}

fn averaged(run: &Run<'_>, mut changes: Vec<(i64, f64)>, scale: f64) -> Steps {
    let first = run.jobs.iter().map(|job| job.submit).min().unwrap_or(0);
    let last = run.jobs.iter().zip(run.starts).map(|(job, start)| start + job.run).max().unwrap_or(1);
    changes.sort_by_key(|change| change.0);
    let until = (last - first).max(1) as f64;
    let width = until / POINTS as f64;
    let mut sums = vec![0.0; POINTS];
    let (mut value, mut at) = (0.0, 0.0);
    let mut add = |from: f64, to: f64, value: f64| {
        if value == 0.0 {
            return;
        }
        let place = |at: f64| ((at / width) as usize).min(POINTS - 1);
        let (first, last) = (place(from), place(to));
        for (at, sum) in (first..).zip(&mut sums[first..=last]) {
            let begin = at as f64 * width;
            *sum += value * (to.min(begin + width) - from.max(begin)).max(0.0);
        }
    };
    for (when, change) in changes {
        let when = (when - first) as f64;
        add(at, when, value);
        at = when;
        value += change;
    }
    let points =
        sums.iter().enumerate().map(|(place, sum)| ((place as f64 + 0.5) * width, sum / width * scale));
    Steps { points: points.collect(), until }
}

/// The share of values up to each value, percent; at most so many points as a plot can show.
pub(super) fn cumulated(mut values: Vec<f64>) -> Vec<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let step = count.div_ceil(POINTS).max(1);
    let place = |place: usize| (values[place], 100.0 * (place + 1) as f64 / count as f64);
    let mut points: Vec<(f64, f64)> = (0..count).step_by(step).map(place).collect();
    points.extend(count.checked_sub(1).map(place));
    points
}

/// Bars of the first jobs: each takes the lowest free processors, in pieces where they lie apart.
pub(super) fn bars(run: &Run<'_>, most: usize) -> Vec<Bar> {
    let first = run.jobs.first().map_or(0, |job| job.submit);
    let mut order: Vec<usize> = (0..run.jobs.len().min(most)).collect();
    order.sort_by_key(|place| run.starts[*place]);
    let mut free_from = vec![i64::MIN; run.procs as usize];
    let mut bars: Vec<Bar> = Vec::new();
    for job in order {
        let (start, end) = (run.starts[job], run.starts[job] + run.jobs[job].run);
        let taken = free_from.iter_mut().enumerate().filter(|(_, free)| **free <= start);
        for (place, free) in taken.take(run.jobs[job].procs as usize) {
            *free = end;
            let low = u32::try_from(place).expect("processors are counted in 32 bits");
            match bars.last_mut() {
                Some(bar) if bar.job == job && bar.high == low => bar.high += 1,
                _ => {
                    let (start, end) = ((start - first) as f64, (end - first) as f64);
                    bars.push(Bar { job, start, end, low, high: low + 1 });
                }
            }
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceJob;

    #[test]
    fn areas_are_kept() {
        let job =
            |submit, run, procs| TraceJob { number: 1, submit, run, procs, estimate: run, user: 0, need: 0 };
        let jobs = [job(100, 60, 2), job(110, 90, 4)];
        let run = Run { name: "", jobs: &jobs, starts: &[100, 160], procs: 4 };
        let mean = |steps: &Steps| steps.points.iter().map(|(_, value)| value).sum::<f64>() / POINTS as f64;
        // 2 × 60 + 4 × 90 of 4 × 150 processor seconds; one job waits 50 of 150 s.
        assert!((mean(&utilisation(&run)) - 80.0).abs() < 1e-6);
        assert!((mean(&queue_length(&run)) - 50.0 / 150.0).abs() < 1e-6);
        // No rounding puts more into a point than there is.
        let many: Vec<TraceJob> = (0..500).map(|at| job(at * 977, 613 + at, 1)).collect();
        let starts: Vec<i64> = many.iter().map(|job| job.submit).collect();
        let full = Run { name: "", jobs: &many, starts: &starts, procs: 2 };
        let most = utilisation(&full).points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        assert!(most <= 100.0 + 1e-6, "{most}");
        assert_eq!(cumulated(vec![3.0, 1.0]), [(1.0, 50.0), (3.0, 100.0), (3.0, 100.0)]);
        let bars = bars(&run, 10);
        assert_eq!(bars.len(), 2);
        assert_eq!((bars[1].low, bars[1].high, bars[1].start), (0, 4, 60.0));
    }
}
