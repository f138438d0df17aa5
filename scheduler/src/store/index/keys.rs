//! Keys of the index. One tree; the first byte says what an entry is. Numbers are big-endian, so that order of
//! bytes is order of numbers.

use scheduler_codec::RowGlance;

const FILE: u8 = b'F';
const BLOCK: u8 = b'B';
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

/// Begin of the keys of a file's blocks.
pub(super) fn blocks(file: u64) -> Vec<u8> {
    join(BLOCK, &[&file.to_be_bytes()])
}

/// A block of a file, by its place there.
pub(super) fn block(file: u64, offset: u64) -> Vec<u8> {
    join(BLOCK, &[&file.to_be_bytes(), &offset.to_be_bytes()])
}

/// Usage rows: CPU milliseconds held in each hour, by account and user.
pub(super) fn usage_of(row: &RowGlance<'_>, mut each: impl FnMut(Vec<u8>, u64)) {
    // A run that never had an end has its submission there, and no start.
    let Some(mut from) = row.start_ms else { return };
    let end = row.end_ms;
    while from < end {
        let hour = from.div_euclid(HOUR_MS);
        let until = ((hour + 1) * HOUR_MS).min(end);
        let cpu_ms = (until - from).unsigned_abs().saturating_mul(u64::from(row.cpus));
        each(join(USAGE, &[&time(hour), row.account, &[0], &row.uid.to_be_bytes()]), cpu_ms);
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
