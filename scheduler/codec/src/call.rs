//! A glance at a row of history: whose call made the job, and when it ended. The rest of the row, which is nearly all of
//! it, is passed over and not built: a start looks at every row of a day.
//!
//! The numbers of the fields are those of `journal.proto` and `types.proto`; a test holds both together.

use model::id::{BodyHash, RequestKey, Uid};
use model::time::Timestamp;
use prost::Message;

use crate::error::{Error, need};

/// The call that made a job, with the job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub uid: Uid,
    /// The call's key.
    pub key: RequestKey,
    /// When the job ended; when it was submitted, if it never had an end.
    pub end: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct EntryGlance {
    #[prost(message, optional, tag = "4")]
    history_row: Option<RowGlance>,
}

#[derive(Clone, PartialEq, Message)]
struct RowGlance {
    #[prost(message, optional, tag = "1")]
    job: Option<JobGlance>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct JobGlance {
    #[prost(uint32, tag = "6")]
    uid: u32,
    #[prost(int64, tag = "20")]
    submit_ms: i64,
    #[prost(int64, optional, tag = "24")]
    end_ms: Option<i64>,
}

/// The call in the bytes of an entry; `None` if the entry is no row. Cost: the bytes are walked, little is built.
///
/// # Errors
/// Bytes that are no entry; a row without its job or key.
pub fn read_call(bytes: &[u8]) -> Result<Option<Call>, Error> {
    let Some(row) = EntryGlance::decode(bytes)?.history_row else { return Ok(None) };
    let job = need("job", row.job)?;
    let key = need("key", <[u8; 16]>::try_from(row.key.as_slice()).ok())?;
    let end = Timestamp(job.end_ms.unwrap_or(job.submit_ms));
    Ok(Some(Call { uid: Uid(job.uid), key: RequestKey(key), end }))
}

#[derive(Clone, PartialEq, Message)]
struct BodyEntryGlance {
    #[prost(message, optional, tag = "6")]
    history_body: Option<BodyGlance>,
}

#[derive(Clone, PartialEq, Message)]
struct BodyGlance {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
}

/// Whether the bytes of an entry are the body of that hash. Cost: they are passed over, nothing is built.
#[must_use]
pub fn holds_body(bytes: &[u8], hash: &BodyHash) -> bool {
    BodyEntryGlance::decode(bytes)
        .is_ok_and(|entry| entry.history_body.is_some_and(|body| body.hash == hash.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Header, HistoryBody, HistoryRow};

    #[test]
    fn a_glance_sees_what_the_whole_row_says() {
        for end_ms in [Some(1_700_000_000_000), Some(0), None] {
            let job = proto::v1::Job {
                job_id: 7,
                uid: 1234,
                submit_ms: 55,
                end_ms,
                account: "a".to_owned(),
                request: Some(proto::v1::JobRequest { name: "n".to_owned(), ..Default::default() }),
                ..Default::default()
            };
            let key = RequestKey([9; 16]);
            let row = HistoryRow {
                job,
                key,
                requeued: true,
                sequence: 3,
                record: 4,
                request_digest: vec![1; 32],
                script: None,
                environment: Some(BodyHash([5; 32])),
            };
            let mut bytes = Vec::new();
            Entry::HistoryRow(Box::new(row)).encode(&mut bytes);
            let end = Timestamp(end_ms.unwrap_or(55));
            assert_eq!(read_call(&bytes).unwrap(), Some(Call { uid: Uid(1234), key, end }));
            assert!(read_call(&bytes[..bytes.len() - 40]).is_err());
        }
        let mut bytes = Vec::new();
        Entry::Header(Header::ours()).encode(&mut bytes);
        assert_eq!(read_call(&bytes).unwrap(), None);
        assert!(!holds_body(&bytes, &BodyHash([0; 32])));
        let hash = BodyHash([6; 32]);
        bytes.clear();
        Entry::HistoryBody(HistoryBody { hash, body: b"x".to_vec() }).encode(&mut bytes);
        assert_eq!(read_call(&bytes).unwrap(), None);
        assert!(holds_body(&bytes, &hash) && !holds_body(&bytes, &BodyHash([7; 32])));
    }
}
