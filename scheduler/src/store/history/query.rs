//! What a query of history asks, and whether a row is meant.

use std::collections::BTreeSet;

use proto::v1;
use scheduler_codec::RowGlance;

/// Conditions; empty sets mean "any".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Job ids and ids of arrays.
    pub job_ids: BTreeSet<u32>,
    /// Owners.
    pub uids: BTreeSet<u32>,
    /// States, in Slurm's long words.
    pub states: BTreeSet<String>,
    /// Partitions of the run, or asked for.
    pub partitions: BTreeSet<String>,
    /// Job names.
    pub names: BTreeSet<String>,
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// QOS.
    pub qos: BTreeSet<String>,
    /// Jobs that existed at or after this time, ms.
    pub from_ms: Option<i64>,
    /// Jobs that existed at or before this time, ms.
    pub to_ms: Option<i64>,
    /// Runs that ended in a requeue are meant too.
    pub duplicates: bool,
}

impl Query {
    /// Whether a job that was submitted and ended then existed in the window.
    #[must_use]
    pub(in crate::store) fn in_window(&self, submit_ms: i64, end_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| end_ms >= from) && self.to_ms.is_none_or(|to| submit_ms <= to)
    }

    /// Whether its number, or its array's, is meant.
    pub(super) fn means_job(&self, job: u32, array: Option<u32>) -> bool {
        self.job_ids.is_empty()
            || self.job_ids.contains(&job)
            || array.is_some_and(|array| self.job_ids.contains(&array))
    }

    /// Whether a row is meant. Cost: nothing is built.
    #[must_use]
    pub fn matches(&self, row: &RowGlance<'_>) -> bool {
        let any = |set: &BTreeSet<String>, word: &[u8]| {
            set.is_empty() || str::from_utf8(word).is_ok_and(|word| set.contains(word))
        };
        (self.duplicates || !row.requeued)
            && self.in_window(row.submit_ms, row.end_ms)
            && self.means_job(row.job, row.array)
            && (self.uids.is_empty() || self.uids.contains(&row.uid))
            && any(&self.states, row.state)
            && any(&self.names, row.name)
            && any(&self.accounts, row.account)
            && any(&self.qos, row.qos)
            && (self.partitions.is_empty()
                || row.partition.split(|byte| *byte == b',').any(|name| any(&self.partitions, name)))
    }
}

/// When a finished job ended.
pub(super) fn end_of(job: &v1::Job) -> i64 {
    job.end_ms.unwrap_or(job.submit_ms)
}
