//! A job's lasting identifier as Slurm prints it: `s` and thirteen base-32 digits.
//!
//! Made from the time of submission and the job id, so that every part of the system prints the same one
//! without storing it.

use crate::id::JobId;
use crate::time::Timestamp;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The text of the job that was submitted at that moment.
#[must_use]
pub fn text(job: JobId, submitted: Timestamp) -> String {
    let time = u64::try_from(submitted.as_millis()).unwrap_or(0) & ((1 << 42) - 1);
    let number = time << 20 | u64::from(job.0) & 0xf_ffff;
    let digits = (0..13).rev().map(|at| char::from(DIGITS[(number >> (at * 5) & 31) as usize]));
    std::iter::once('s').chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_a_digit_and_differs_by_job() {
        let first = text(JobId(100_001), Timestamp(1_795_000_000_000));
        assert_eq!(first.len(), 14);
        assert!(first.as_bytes()[1].is_ascii_digit(), "{first}");
        assert_ne!(first, text(JobId(100_002), Timestamp(1_795_000_000_000)));
    }
}
