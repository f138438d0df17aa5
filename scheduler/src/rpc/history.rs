//! Finished jobs, from the history beside the journal.
//!
//! Rows stay as they are stored, encoded, from the file to the answer; where the caller wants some of their fields, those
//! are copied. Only an answer of built jobs builds them, a page at a time.

use std::ops::ControlFlow;

use model::job::JobState;
use prost::Message;
use prost::bytes::Bytes;
use proto::v1;
use proto::wire::{Fields, Malformed, pick};
use tonic::Status;

use super::Api;
use crate::store::history::Query;

/// Most rows of one answer.
const ROWS_MAX: usize = 1_000_000;
/// Bytes that are gathered in one piece of memory.
const CHUNK_BYTES: usize = 256 << 10;
/// Most rows of a page of built jobs, and of encoded ones.
const BUILT_MAX: usize = 256;
const ENCODED_MAX: usize = 4096;
/// Bytes of a page of encoded jobs, as far as rows are smaller.
const PAGE_BYTES: usize = 64 << 10;

/// A row of the answer: the run's job and number, and where its bytes are.
struct Row {
    job: u32,
    run: u32,
    chunk: u32,
    begin: u32,
    end: u32,
}

/// Encoded jobs of an answer.
pub struct Rows {
    fields: Fields,
    rows: Vec<Row>,
    full: Vec<Bytes>,
    open: Vec<u8>,
    /// Rows that are in pages already.
    sent: usize,
}

impl Rows {
    fn new(fields: Fields) -> Self {
        Self { fields, rows: Vec::new(), full: Vec::new(), open: Vec::new(), sent: 0 }
    }

    fn add(&mut self, (job, run): (u32, u32), encoded: &[u8]) -> Result<(), Malformed> {
        let begin = self.open.len();
        pick(encoded, self.fields, &mut self.open)?;
        let number = |length: usize| u32::try_from(length).expect("a row is below 4 GiB");
        let (chunk, end) = (number(self.full.len()), self.open.len());
        self.rows.push(Row { job, run, chunk, begin: number(begin), end: number(end) });
        if end >= CHUNK_BYTES {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        Ok(())
    }

    /// Adds a job that is in memory; of equal runs the one that came last counts.
    ///
    /// # Errors
    /// None that a job can cause.
    pub fn add_live(&mut self, job: &v1::Job, run: u32) -> Result<(), Status> {
        self.add((job.job_id, run), &job.encode_to_vec()).map_err(|error| unreadable(&error))
    }

    /// Puts them in order; of each run the row that came last stays, and of each job the last run unless all are wanted.
    pub fn settle(&mut self, every_run: bool) {
        self.full.push(std::mem::take(&mut self.open).into());
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|row| (row.job, row.run));
        for row in rows {
            match self.rows.last_mut() {
                Some(last) if last.job == row.job && (last.run == row.run || !every_run) => *last = row,
                _ => self.rows.push(row),
            }
        }
    }

    /// The next page; the last one says so.
    ///
    /// # Errors
    /// A stored row that is no job.
    pub fn page(&mut self, encoded: bool, now_ms: i64) -> Result<v1::JobPage, Status> {
        let mut page = v1::JobPage { now_ms, ..v1::JobPage::default() };
        let most = if encoded { ENCODED_MAX } else { BUILT_MAX };
        let mut bytes = 0;
        for row in self.rows[self.sent..].iter().take(most) {
            let job = self.full[row.chunk as usize].slice(row.begin as usize..row.end as usize);
            bytes += job.len();
            if encoded {
                page.encoded.push(job);
            } else {
                page.jobs.push(v1::Job::decode(job).map_err(|error| unreadable(&error))?);
            }
            self.sent += 1;
            if encoded && bytes >= PAGE_BYTES {
                break;
            }
        }
        page.caught_up = self.sent == self.rows.len();
        Ok(page)
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("the history cannot be read: {error}"))
}

/// The rows that a query means, of one user alone where that is said; reads files away from the runtime's threads.
///
/// # Errors
/// The history cannot be read; more rows are meant than one answer holds.
pub async fn stored(api: &Api, from: &v1::ListHistoryRequest, only_of: Option<u32>) -> Result<Rows, Status> {
    let query = query(from)?;
    let history = api.shelf.history();
    let fields = Fields::new(if from.encoded { &from.fields } else { &[] });
    let read = tokio::task::spawn_blocking(move || {
        let (mut rows, mut damage) = (Rows::new(fields), None);
        let outcome = history.scan(&query, &mut |found| {
            let row = &found.row;
            if only_of.is_some_and(|uid| uid != row.uid) {
                return ControlFlow::Continue(());
            }
            damage = rows.add((row.job, row.run), row.bytes).err();
            match damage.is_some() || rows.rows.len() > ROWS_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match damage {
            Some(error) => Err(unreadable(&error)),
            None => outcome.map(|()| rows).map_err(|error| unreadable(&error)),
        }
    });
    let rows = read.await.map_err(|error| Status::internal(error.to_string()))??;
    if rows.rows.len() > ROWS_MAX {
        return Err(Status::resource_exhausted(format!(
            "more than {ROWS_MAX} jobs match; name a shorter time or fewer jobs"
        )));
    }
    Ok(rows)
}

fn query(from: &v1::ListHistoryRequest) -> Result<Query, Status> {
    let filter = from.filter.clone().unwrap_or_default();
    let state = |text: &String| JobState::parse(text).map(|state| state.long().to_owned());
    let states: Option<_> = filter.states.iter().map(state).collect();
    Ok(Query {
        job_ids: filter.job_ids.into_iter().collect(),
        uids: filter.uids.into_iter().collect(),
        states: states.ok_or_else(|| Status::invalid_argument("field states is malformed"))?,
        partitions: filter.partitions.into_iter().collect(),
        names: filter.names.into_iter().collect(),
        accounts: filter.accounts.into_iter().collect(),
        qos: filter.qos.into_iter().collect(),
        from_ms: from.from_ms,
        to_ms: from.to_ms,
        duplicates: from.duplicates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(job_id: u32, run: u32, account: &str) -> v1::Job {
        let account = account.to_owned();
        v1::Job { job_id, run, account, state: "COMPLETED".to_owned(), ..v1::Job::default() }
    }

    /// The jobs of all pages, decoded where they are bytes.
    fn all(mut rows: Rows, encoded: bool) -> (Vec<v1::Job>, usize) {
        let (mut jobs, mut pages) = (Vec::new(), 0);
        loop {
            let page = rows.page(encoded, 5).unwrap();
            assert_eq!((page.now_ms, page.jobs.is_empty() || page.encoded.is_empty()), (5, true));
            jobs.extend(page.jobs);
            jobs.extend(page.encoded.into_iter().map(|job| v1::Job::decode(job).unwrap()));
            pages += 1;
            if page.caught_up {
                return (jobs, pages);
            }
        }
    }

    #[test]
    fn the_last_row_of_a_run_stays_and_pages_have_all() {
        for (encoded, every_run) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut rows = Rows::new(Fields::new(&[]));
            let long = "x".repeat(1000);
            for id in (1..=2000).rev() {
                rows.add((id, 1), &job(id, 1, "old").encode_to_vec()).unwrap();
                rows.add((id, 1), &job(id, 1, &long).encode_to_vec()).unwrap();
            }
            rows.add_live(&job(7, 1, "waits"), 2).unwrap();
            rows.settle(every_run);
            let (jobs, pages) = all(rows, encoded);
            let mut expected: Vec<v1::Job> = (1..=2000).map(|id| job(id, 1, &long)).collect();
            match every_run {
                true => expected.insert(7, job(7, 1, "waits")),
                false => expected[6] = job(7, 1, "waits"),
            }
            assert_eq!(jobs, expected);
            assert!(pages >= 8, "{pages} pages");
        }
        let mut none = Rows::new(Fields::new(&[]));
        none.settle(false);
        assert_eq!(all(none, true), (Vec::new(), 1));
    }

    #[test]
    fn only_fields_that_are_asked_for_are_sent() {
        let mut rows = Rows::new(Fields::new(&[1, 17]));
        rows.add((9, 3), &job(9, 3, "a").encode_to_vec()).unwrap();
        rows.settle(true);
        let expected = v1::Job { job_id: 9, account: "a".to_owned(), ..v1::Job::default() };
        assert_eq!(all(rows, true), (vec![expected], 1));
    }
}
