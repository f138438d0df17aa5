//! Finished jobs, from the history beside the journal.

use std::ops::ControlFlow;

use model::job::JobState;
use proto::v1;
use tonic::Status;

use super::Api;
use crate::store::history::Query;

/// Most rows of one answer.
const ROWS_MAX: usize = 1_000_000;

/// The rows that a query means; reads files away from the runtime's threads.
///
/// # Errors
/// The history cannot be read; more rows are meant than one answer holds.
pub async fn stored(api: &Api, from: &v1::ListHistoryRequest) -> Result<Vec<v1::Job>, Status> {
    let query = query(from)?;
    let history = api.shelf.history();
    let read = tokio::task::spawn_blocking(move || {
        let mut rows = Vec::new();
        let outcome = history.query(&query, &mut |row| {
            rows.push(row.job);
            if rows.len() > ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        outcome.map(|()| rows)
    });
    let rows = read
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(format!("the history cannot be read: {error}")))?;
    if rows.len() > ROWS_MAX {
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
