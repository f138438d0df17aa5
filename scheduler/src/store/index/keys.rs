//! Keys of the index. One tree; the first byte says which index. Numbers are big-endian, so that order of
//! bytes is order of numbers; every key ends with the place of its row.

use model::id::{RequestKey, Uid};
use proto::v1;
use scheduler_codec::HistoryRow;

use crate::store::history::file::RowPlace;

const FILE: u8 = b'F';
const JOB: u8 = b'J';
const USER: u8 = b'U';
const ACCOUNT: u8 = b'C';
const END: u8 = b'E';
const KEY: u8 = b'K';
const USAGE: u8 = b'H';
const HOUR_MS: i64 = 3_600_000;

fn time(ms: i64) -> [u8; 8] {
    // Times before 1970 come first.
    ((ms as u64) ^ (1 << 63)).to_be_bytes()
}

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The mark of a file whose rows are all in the index.
pub(super) fn file(first: u64) -> Vec<u8> {
    join(FILE, &[&first.to_be_bytes()])
}

/// Begin of all marks.
pub(super) fn files() -> Vec<u8> {
    vec![FILE]
}

/// The file of a mark.
pub(super) fn file_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// Begin of the keys of a job or array.
pub(super) fn job(id: u32) -> Vec<u8> {
    join(JOB, &[&id.to_be_bytes()])
}

/// Keys that are looked at in a row.
pub(super) struct Range {
    /// From this one on,
    pub(super) start: Vec<u8>,
    /// as long as they begin so,
    prefix: Vec<u8>,
    /// and are not above this one, as far as that goes.
    last: Vec<u8>,
}

impl Range {
    /// All keys that begin so.
    pub(super) fn all_of(prefix: Vec<u8>) -> Self {
        Self { start: prefix.clone(), last: prefix.clone(), prefix }
    }

    /// Those of rows that ended from `from` to `latest`, both included.
    fn of_time(prefix: Vec<u8>, from: Option<i64>, latest: i64) -> Self {
        let with = |at: i64| [&prefix[..], &time(at)].concat();
        Self { start: from.map_or_else(|| prefix.clone(), with), last: with(latest), prefix }
    }

    /// Whether a key is still one of them.
    pub(super) fn goes_on(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && key[..key.len().min(self.last.len())] <= self.last[..]
    }
}

/// Keys of a user's rows that ended from `from`, or ever, to `latest`.
pub(super) fn user(uid: u32, from: Option<i64>, latest: i64) -> Range {
    Range::of_time(join(USER, &[&uid.to_be_bytes()]), from, latest)
}

/// The same for an account.
pub(super) fn account(name: &str, from: Option<i64>, latest: i64) -> Range {
    Range::of_time(join(ACCOUNT, &[name.as_bytes(), &[0]]), from, latest)
}

/// The same for all rows.
pub(super) fn ended(from: i64, latest: i64) -> Range {
    Range::of_time(vec![END], Some(from), latest)
}

/// Begin of the keys of what a call made.
pub(super) fn call(uid: Uid, key: RequestKey) -> Vec<u8> {
    join(KEY, &[&uid.0.to_be_bytes(), &key.0])
}

/// All keys of a row, each to be given the row's length.
pub(super) fn of_row(row: &HistoryRow, place: RowPlace) -> Vec<Vec<u8>> {
    let job_row = &row.job;
    let at: Vec<u8> = [place.file.to_be_bytes(), place.offset.to_be_bytes()].concat();
    let end = time(job_row.end_ms.unwrap_or(job_row.submit_ms));
    let uid = job_row.uid.to_be_bytes();
    let mut keys = vec![
        join(JOB, &[&job_row.job_id.to_be_bytes(), &at]),
        join(USER, &[&uid, &end, &at]),
        join(ACCOUNT, &[job_row.account.as_bytes(), &[0], &end, &at]),
        join(END, &[&end, &at]),
        join(KEY, &[&uid, &row.key.0, &at]),
    ];
    if let Some(array) = job_row.array_job_id.filter(|array| *array != job_row.job_id) {
        keys.push(join(JOB, &[&array.to_be_bytes(), &at]));
    }
    keys
}

/// The place of a row, from its key and value.
pub(super) fn place(key: &[u8], value: &[u8]) -> Option<RowPlace> {
    let at = key.get(key.len().checked_sub(16)?..)?;
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    let length = u32::from_be_bytes(value.try_into().ok()?);
    Some(RowPlace { file: number(&at[..8])?, offset: number(&at[8..])?, length })
}

/// Usage rows: CPU milliseconds held in each hour, by account and user.
pub(super) fn usage_of(row: &v1::Job, mut each: impl FnMut(Vec<u8>, u64)) {
    let (Some(start), Some(end)) = (row.start_ms, row.end_ms) else { return };
    let mut from = start;
    while from < end {
        let hour = from.div_euclid(HOUR_MS);
        let until = ((hour + 1) * HOUR_MS).min(end);
        let cpu_ms = (until - from).unsigned_abs().saturating_mul(u64::from(row.num_cpus));
        each(join(USAGE, &[&time(hour), row.account.as_bytes(), &[0], &row.uid.to_be_bytes()]), cpu_ms);
        from = until;
    }
}

/// Begin of the usage rows of the hour that holds a time.
pub(super) fn usage_from(ms: i64) -> Vec<u8> {
    join(USAGE, &[&time(ms.div_euclid(HOUR_MS))])
}

/// Hour (its begin, ms), account and user of a usage row.
pub(super) fn usage_key(key: &[u8]) -> Option<(i64, String, u32)> {
    let rest = key.strip_prefix(&[USAGE])?;
    let (hour, rest) = rest.split_at_checked(8)?;
    let hour = (u64::from_be_bytes(hour.try_into().ok()?) ^ (1 << 63)) as i64;
    let (account, uid) = rest.split_at_checked(rest.len().checked_sub(5)?)?;
    let account = std::str::from_utf8(account).ok()?.to_owned();
    let uid = u32::from_be_bytes(uid[1..].try_into().ok()?);
    Some((hour.saturating_mul(HOUR_MS), account, uid))
}
