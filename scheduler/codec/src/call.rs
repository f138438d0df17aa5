//! Calls whose jobs have ended, and which body an entry of a history file is.

use model::id::{BodyHash, RequestKey, Uid};
use model::time::Timestamp;
use prost::Message;

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
    use crate::{Entry, Header, HistoryBody};

    #[test]
    fn a_body_is_known_by_its_hash() {
        let mut bytes = Vec::new();
        Entry::Header(Header::ours()).encode(&mut bytes);
        assert!(!holds_body(&bytes, &BodyHash([0; 32])));
        let hash = BodyHash([6; 32]);
        bytes.clear();
        Entry::HistoryBody(HistoryBody { hash, body: b"x".to_vec() }).encode(&mut bytes);
        assert!(holds_body(&bytes, &hash) && !holds_body(&bytes, &BodyHash([7; 32])));
    }
}
