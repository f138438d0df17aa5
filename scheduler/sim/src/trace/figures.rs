//! What came of a replayed trace, in numbers: waits, bounded slowdown, utilisation, and the hash that
//! identifies a whole schedule.

use sha2::{Digest, Sha256};

use super::TraceJob;

/// Runs shorter than this count as so long in the bounded slowdown, seconds.
const SHORT_RUN_S: i64 = 10;

/// Figures of one run. Times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Jobs.
    pub jobs: usize,
    /// Last end less first submission.
    pub makespan_s: i64,
    /// Processor seconds used of those there were.
    pub utilization: f64,
    /// Mean wait.
    pub mean_wait_s: f64,
    /// Waits of which half, 95 % and 99 % of the jobs wait at most so long.
    pub wait_s: [i64; 3],
    /// Longest wait.
    pub max_wait_s: i64,
    /// Mean bounded slowdown.
    pub mean_bsld: f64,
    /// Bounded slowdown that 95 % of the jobs stay at or below.
    pub p95_bsld: f64,
    /// Largest bounded slowdown.
    pub max_bsld: f64,
    /// Share of the jobs that waited at all.
    pub waited_frac: f64,
    /// Sum of the waits.
    pub sum_wait_s: i64,
    /// SHA-256 of the lines `number wait` in order of submission.
    pub waits_sha256: String,
}

impl Figures {
    /// Figures of jobs, in order of submission, with the start of each. Cost: O(jobs × log jobs).
    ///
    /// # Panics
    /// If there is no job, or not one start for each.
    #[must_use]
    pub fn of(jobs: &[TraceJob], starts: &[i64], procs: u32) -> Self {
        assert!(!jobs.is_empty() && jobs.len() == starts.len(), "each job has a start");
        let waits: Vec<i64> = jobs.iter().zip(starts).map(|(job, start)| start - job.submit).collect();
        let mut slowdowns: Vec<f64> =
            jobs.iter().zip(&waits).map(|(job, wait)| bounded_slowdown(job, *wait)).collect();
        let first = jobs.iter().map(|job| job.submit).min().unwrap_or(0);
        let last = jobs.iter().zip(starts).map(|(job, start)| start + job.run).max().unwrap_or(0);
        let area: i128 = jobs.iter().map(|job| i128::from(job.run) * i128::from(job.procs)).sum();
        let count = jobs.len() as f64;
        let sum_wait_s: i64 = waits.iter().sum();
        let mean_bsld = exact_sum(&slowdowns) / count;
        slowdowns.sort_by(f64::total_cmp);
        let mut sorted = waits.clone();
        sorted.sort_unstable();
        let makespan_s = last - first;
        Self {
            jobs: jobs.len(),
            makespan_s,
            utilization: area as f64 / (f64::from(procs) * makespan_s as f64),
            mean_wait_s: sum_wait_s as f64 / count,
            wait_s: [50, 95, 99].map(|percent| sorted[rank(sorted.len(), percent)]),
            max_wait_s: sorted[sorted.len() - 1],
            mean_bsld,
            p95_bsld: slowdowns[rank(slowdowns.len(), 95)],
            max_bsld: slowdowns[slowdowns.len() - 1],
            waited_frac: waits.iter().filter(|wait| **wait > 0).count() as f64 / count,
            sum_wait_s,
            waits_sha256: hash(jobs, &waits),
        }
    }
}

/// How many times as long as it ran a job took, at least 1; short runs count as ten seconds.
#[must_use]
pub fn bounded_slowdown(job: &TraceJob, wait: i64) -> f64 {
    ((wait + job.run) as f64 / job.run.max(SHORT_RUN_S) as f64).max(1.0)
}

/// Place of the ceil(q n)-th smallest.
pub(super) fn rank(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).max(1) - 1
}

fn hash(jobs: &[TraceJob], waits: &[i64]) -> String {
    use std::fmt::Write;
    let mut text = Vec::with_capacity(jobs.len() * 14);
    for (job, wait) in jobs.iter().zip(waits) {
        push_number(job.number, &mut text);
        text.push(b' ');
        push_number(*wait, &mut text);
        text.push(b'\n');
    }
    Sha256::digest(&text).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

/// Adds the decimal text of a number. The general formatter takes longer than the hash.
fn push_number(number: i64, text: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(&digits[at..]);
}

/// The sum, rounded once. Source: J. Shewchuk, "Adaptive precision floating-point arithmetic", 1997.
fn exact_sum(numbers: &[f64]) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for &number in numbers {
        let mut carry = number;
        let mut kept = 0;
        for place in 0..partials.len() {
            let (large, small) = if carry.abs() < partials[place].abs() {
                (partials[place], carry)
            } else {
                (carry, partials[place])
            };
            let sum = large + small;
            let error = small - (sum - large);
            if error != 0.0 {
                partials[kept] = error;
                kept += 1;
            }
            carry = sum;
        }
        partials.truncate(kept);
        partials.push(carry);
    }
    partials.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_formatter_has_them() {
        for number in [0, 7, -1, 10, 907, i64::MAX, i64::MIN] {
            let mut text = Vec::new();
            push_number(number, &mut text);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }

    #[test]
    fn sums_and_ranks() {
        assert_eq!(exact_sum(&[1e16, 1.0, -1e16, 1.0]), 2.0);
        assert_eq!([1, 2, 19, 20, 21, 100].map(|count| rank(count, 95)), [0, 1, 18, 18, 19, 94]);
        assert_eq!([1, 2, 3, 4].map(|count| rank(count, 50)), [0, 0, 1, 1]);
    }
}
