//! Every record comes back; what is no record is refused by name.

use prost::Message;
use proto::journal_v1 as w;
use scheduler_core::record::Record;

use super::{
    Entry, Error, Header, HistoryBegin, HistoryBody, HistoryRow, OLDEST_READER, VERSION, encode_record, read,
    read_record,
};
use crate::sample;

fn bytes_of(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_record(record, &mut bytes);
    bytes
}

#[test]
fn every_record_comes_back() {
    for record in sample::all() {
        let bytes = bytes_of(&record);
        assert_eq!(read_record(&bytes).unwrap(), Some(record));
    }
}

#[test]
fn encoding_appends() {
    let mut bytes = b"before".to_vec();
    encode_record(&Record::NextJobId(5), &mut bytes);
    assert_eq!(&bytes[..6], b"before");
    assert_eq!(read_record(&bytes[6..]).unwrap(), Some(Record::NextJobId(5)));
}

#[test]
fn other_entries_come_back_and_are_no_records() {
    let row = HistoryRow {
        job: proto::v1::Job { job_id: 7, ..Default::default() },
        key: model::id::RequestKey([3; 16]),
        requeued: true,
        sequence: 9,
        record: 2,
        request_digest: vec![1, 2],
        script: Some(model::id::BodyHash([8; 32])),
        environment: None,
    };
    let entries = [
        Entry::Header(Header::ours()),
        Entry::SnapshotBegin { sequence: 5 },
        Entry::SnapshotEnd { digest: [4; 32], records: 6 },
        Entry::HistoryBegin(HistoryBegin {
            first: 1,
            last: 2,
            rows: 3,
            earliest_submit_ms: -4,
            earliest_end_ms: 5,
            latest_end_ms: 6,
        }),
        Entry::HistoryRow(Box::new(row)),
        Entry::HistoryBody(HistoryBody { hash: model::id::BodyHash([8; 32]), body: b"#!/bin/sh".to_vec() }),
        Entry::Record(Record::NextJobId(1)),
    ];
    for entry in entries {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(read(&bytes).unwrap(), entry);
        match entry {
            Entry::Header(_) => assert_eq!(read_record(&bytes).unwrap(), None),
            Entry::Record(record) => assert_eq!(read_record(&bytes).unwrap(), Some(record)),
            _ => assert!(matches!(read_record(&bytes), Err(Error::UnknownKind))),
        }
    }
}

#[test]
fn what_a_newer_version_wrote_is_refused_by_name() {
    let header = |oldest_reader| {
        let mut bytes = Vec::new();
        let software = "sluice 9.9".to_owned();
        Entry::Header(Header { version: VERSION + 5, oldest_reader, software }).encode(&mut bytes);
        bytes
    };
    assert!(read(&header(OLDEST_READER)).is_ok());
    let refused = read(&header(VERSION + 1)).unwrap_err().to_string();
    assert!(refused.contains("sluice 9.9"), "{refused}");

    // An entry of a kind that does not exist yet: field 9999, a message.
    let mut unknown = Vec::new();
    prost::encoding::bytes::encode(9999, &vec![1_u8], &mut unknown);
    assert!(matches!(read(&unknown), Err(Error::UnknownKind)));
    assert!(matches!(read(&[]), Err(Error::UnknownKind)));
    assert!(matches!(read(&[0xff, 0xff]), Err(Error::Malformed(_))));
}

#[test]
fn fields_without_a_meaning_are_refused() {
    let refuse = |kind, expected: &str| {
        let bytes = w::Entry { kind: Some(kind) }.encode_to_vec();
        match read(&bytes) {
            Err(Error::Field { field }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    };
    use w::entry::Kind;
    refuse(Kind::NodeDefined(w::NodeDefined::default()), "definition");
    refuse(Kind::NodeLink(w::NodeLink::default()), "link");
    refuse(Kind::JobPriority(w::JobPriority { hold: 9, ..Default::default() }), "hold");
    refuse(Kind::StepBegun(w::StepPart::default()), "step");
    let ended = w::StepEnded {
        step: Some(w::StepId { id: Some(w::step_id::Id::Batch(true)) }),
        state: "SLEEPING".into(),
        ..Default::default()
    };
    refuse(Kind::StepEnded(ended), "state");
    let share = w::NodeShare { cpu_ranges: vec![1], ..Default::default() };
    refuse(Kind::JobStarted(w::JobStarted { allocation: vec![share], ..Default::default() }), "cpu_ranges");
    let share = w::NodeShare { cpu_ranges: vec![2, 1], ..Default::default() };
    refuse(Kind::JobStarted(w::JobStarted { allocation: vec![share], ..Default::default() }), "cpu_ranges");
}

/// No bytes make it panic: each sample, cut short or with a byte changed, is read or refused.
#[test]
fn damaged_bytes_are_read_or_refused() {
    let (mut read_anyway, mut refused) = (0, 0);
    for record in sample::all() {
        let bytes = bytes_of(&record);
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add(1);
            for damaged in [&bytes[..at], &changed] {
                match read_record(damaged) {
                    Ok(_) => read_anyway += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(read_anyway > 100 && refused > 100, "{read_anyway} read, {refused} refused");
}
