//! Rows of history without building them: the fields that queries look at.
//!
//! A row has some sixty fields, most of them texts; a query of a day looks at ten thousand rows for six of them and hands
//! the rest on as it is. Nothing here allocates. The numbers of the fields are those of `journal.proto` and `types.proto`;
//! a test holds both together.
//!
//! Texts are bytes here: whoever builds the row finds out whether they are UTF-8.

use model::id::{RequestKey, Uid};
use model::time::Timestamp;

use proto::wire::{Value, each};

use crate::call::Call;
use crate::error::{Error, need};

/// Number of an entry's field that is a row of history.
const ENTRY_ROW: u32 = 4;

/// What queries look at in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGlance<'a> {
    /// The job as an encoded `v1.Job`.
    pub bytes: &'a [u8],
    /// Number of the job.
    pub job: u32,
    /// Number of its array.
    pub array: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Which run it was.
    pub run: u32,
    /// When it was submitted, ms.
    pub submit_ms: i64,
    /// When it started, ms.
    pub start_ms: Option<i64>,
    /// CPUs that it held.
    pub cpus: u32,
    /// When it ended, ms; when it was submitted, if it never had an end.
    pub end_ms: i64,
    /// State, in Slurm's long word.
    pub state: &'a [u8],
    /// Account.
    pub account: &'a [u8],
    /// QOS.
    pub qos: &'a [u8],
    /// Partition of the run, or those asked for, with commas.
    pub partition: &'a [u8],
    /// Name of the job.
    pub name: &'a [u8],
    /// Key of the call that made it.
    pub key: RequestKey,
    /// It went back to the queue.
    pub requeued: bool,
}

impl RowGlance<'_> {
    /// The call that made the job, with the job's end.
    #[must_use]
    pub fn call(&self) -> Call {
        Call { uid: Uid(self.uid), key: self.key, end: Timestamp(self.end_ms) }
    }
}

/// What queries look at in the bytes of an entry; `None` if the entry is no row. Cost: the fields are passed over.
///
/// # Errors
/// Bytes that are no entry; a row without its job or key.
pub fn glance(entry: &[u8]) -> Result<Option<RowGlance<'_>>, Error> {
    let mut row = None;
    each(entry, |number, value| {
        if let (ENTRY_ROW, Value::Bytes(bytes)) = (number, value) {
            row = Some(bytes);
        }
    })?;
    let Some(row) = row else { return Ok(None) };
    let (mut job, mut key, mut requeued) = (None, None, false);
    each(row, |number, value| match (number, value) {
        (1, Value::Bytes(bytes)) => job = Some(bytes),
        (2, Value::Bytes(bytes)) => key = <[u8; 16]>::try_from(bytes).ok(),
        (3, Value::Number(value)) => requeued = value != 0,
        _ => {}
    })?;
    let bytes = need("job", job)?;
    let mut row = of_job(bytes)?;
    (row.key, row.requeued) = (RequestKey(need("key", key)?), requeued);
    Ok(Some(row))
}

/// The same of an encoded job alone: it has no key, and is not requeued.
fn of_job(bytes: &[u8]) -> Result<RowGlance<'_>, Error> {
    let mut row = RowGlance {
        bytes,
        job: 0,
        array: None,
        uid: 0,
        run: 0,
        submit_ms: 0,
        start_ms: None,
        cpus: 0,
        end_ms: 0,
        state: &[],
        account: &[],
        qos: &[],
        partition: &[],
        name: &[],
        key: RequestKey([0; 16]),
        requeued: false,
    };
    let (mut end_ms, mut request) = (None, None);
    each(bytes, |number, value| match (number, value) {
        // A number is as wide as its field; what is wider was never written.
        (1, Value::Number(value)) => row.job = value as u32,
        (2, Value::Number(value)) => row.array = Some(value as u32),
        (6, Value::Number(value)) => row.uid = value as u32,
        (10, Value::Bytes(value)) => request = Some(value),
        (11, Value::Bytes(value)) => row.state = value,
        (14, Value::Number(value)) => row.run = value as u32,
        (17, Value::Bytes(value)) => row.account = value,
        (18, Value::Bytes(value)) => row.qos = value,
        (19, Value::Bytes(value)) => row.partition = value,
        (20, Value::Number(value)) => row.submit_ms = value as i64,
        (23, Value::Number(value)) => row.start_ms = Some(value as i64),
        (24, Value::Number(value)) => end_ms = Some(value as i64),
        (38, Value::Number(value)) => row.cpus = value as u32,
        _ => {}
    })?;
    row.end_ms = end_ms.unwrap_or(row.submit_ms);
    if let Some(request) = request {
        each(request, |number, value| {
            if let (2, Value::Bytes(value)) = (number, value) {
                row.name = value;
            }
        })?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{Entry, Header, HistoryRow};

    fn job(end_ms: Option<i64>) -> proto::v1::Job {
        proto::v1::Job {
            job_id: 7,
            array_job_id: Some(3),
            uid: 1234,
            run: 2,
            submit_ms: -55,
            start_ms: Some(-9),
            num_cpus: 12,
            end_ms,
            state: "FAILED".to_owned(),
            account: "a".to_owned(),
            qos: "q".to_owned(),
            partition: "p,r".to_owned(),
            node_list: "n[1-300]".repeat(30),
            request: Some(proto::v1::JobRequest { name: "nä".to_owned(), ..Default::default() }),
            steps: vec![proto::v1::Step { name: "s".to_owned(), ..Default::default() }],
            ..Default::default()
        }
    }

    fn entry(job: proto::v1::Job, requeued: bool) -> Vec<u8> {
        let row = HistoryRow {
            job,
            key: RequestKey([9; 16]),
            requeued,
            sequence: 3,
            record: 4,
            request_digest: vec![1; 32],
            script: None,
            environment: None,
        };
        let mut bytes = Vec::new();
        Entry::HistoryRow(Box::new(row)).encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_glance_sees_what_the_whole_row_says() {
        for (end_ms, requeued) in [(Some(1_700_000_000_000), true), (Some(0), false), (None, false)] {
            let (job, bytes) = (job(end_ms), entry(job(end_ms), requeued));
            let encoded = job.encode_to_vec();
            let expected = RowGlance {
                bytes: &encoded,
                job: 7,
                array: Some(3),
                uid: 1234,
                run: 2,
                submit_ms: -55,
                start_ms: Some(-9),
                cpus: 12,
                end_ms: end_ms.unwrap_or(-55),
                state: b"FAILED",
                account: b"a",
                qos: b"q",
                partition: b"p,r",
                name: "nä".as_bytes(),
                key: RequestKey([9; 16]),
                requeued,
            };
            assert_eq!(glance(&bytes).unwrap(), Some(expected));
            let call =
                Call { uid: Uid(1234), key: RequestKey([9; 16]), end: Timestamp(end_ms.unwrap_or(-55)) };
            assert_eq!(expected.call(), call);
            // No cut is taken for a row, and none is read beyond.
            for end in 1..bytes.len() {
                assert!(glance(&bytes[..end]).is_err(), "{end} bytes");
            }
        }
        let mut bytes = Vec::new();
        Entry::Header(Header::ours()).encode(&mut bytes);
        assert_eq!(glance(&bytes).unwrap(), None);
        assert!(glance(&entry(proto::v1::Job::default(), false)).unwrap().is_some_and(|row| row.job == 0));
    }
}
