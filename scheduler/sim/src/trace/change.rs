//! What is changed of a trace before it runs: a part of it, its load, its estimates.

use super::{Trace, TraceJob};

/// Keeps the jobs that are submitted from `from` on and before `to`, seconds of the trace.
pub fn cut(trace: &mut Trace, from: Option<i64>, to: Option<i64>) {
    let keeps =
        |job: &TraceJob| from.is_none_or(|from| job.submit >= from) && to.is_none_or(|to| job.submit < to);
    trace.jobs.retain(keeps);
}

/// Brings jobs `factor` times as fast: the times between submissions are divided, rounded down.
///
/// # Panics
/// If the factor is not positive.
pub fn scale_load(trace: &mut Trace, factor: f64) {
    assert!(factor > 0.0, "a load is positive");
    let first = trace.jobs.first().map_or(0, |job| job.submit);
    for job in &mut trace.jobs {
        // Spans of traces are far below 2^53, so that they are exact in a double.
        job.submit = first + ((job.submit - first) as f64 / factor).floor() as i64;
    }
    trace.jobs.sort_by_key(|job| (job.submit, job.number));
}

/// Gives every job a limit of `factor` times its run time, rounded up.
///
/// # Panics
/// If the factor is below 1: a job would end before it is done.
pub fn estimate_by(trace: &mut Trace, factor: f64) {
    assert!(factor >= 1.0, "a limit is at least the run time");
    for job in &mut trace.jobs {
        job.estimate = (job.run as f64 * factor).ceil() as i64;
    }
    trace.has_estimates = true;
}

/// Seconds that a replay can count: times are milliseconds in 64 bits, and half of that is left for sums.
pub const MAX_HORIZON: i128 = (i64::MAX / 2000) as i128;

/// The last second that a plan for these jobs can name: all of them one after the other, behind the last submission.
#[must_use]
pub fn horizon(jobs: &[TraceJob]) -> i128 {
    let longest = |job: &TraceJob| i128::from(job.run.max(job.estimate));
    let last = jobs.iter().map(|job| i128::from(job.submit)).max().unwrap_or(0);
    last + jobs.iter().map(longest).sum::<i128>()
}

/// How many jobs are submitted in the first `warmup` seconds: they run, but are not counted.
#[must_use]
pub fn warmed_up(jobs: &[TraceJob], warmup: i64) -> usize {
    let first = jobs.first().map_or(0, |job| job.submit);
    jobs.partition_point(|job| job.submit < first + warmup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let job =
            |number, submit| TraceJob { number, submit, run: 7, procs: 1, estimate: 9, user: 1, need: 0 };
        Trace { jobs: vec![job(1, 10), job(2, 13), job(3, 40)], procs: 1, ..Trace::default() }
    }

    #[test]
    fn cuts_scales_and_estimates() {
        let mut trace = trace();
        scale_load(&mut trace, 1.5);
        assert_eq!(trace.jobs.iter().map(|job| job.submit).collect::<Vec<_>>(), [10, 12, 30]);
        estimate_by(&mut trace, 1.5);
        assert!(trace.has_estimates && trace.jobs.iter().all(|job| job.estimate == 11));
        assert_eq!(warmed_up(&trace.jobs, 20), 2);
        cut(&mut trace, Some(12), Some(30));
        assert_eq!(trace.jobs.len(), 1);
    }
}
