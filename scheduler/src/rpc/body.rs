//! Scripts and environments, for their owner and administrators only: of the jobs in the state, and of those that
//! history keeps them of.

use model::id::{BodyHash, JobId, Uid};
use model::refusal::Refusal;
use proto::v1;
use scheduler_core::effect::Asker;
use scheduler_core::state::accounts::AdminLevel;
use tonic::Status;

use super::Api;

/// A job's script or environment.
///
/// # Errors
/// The store's word. A job that is not there, or of others, is a refusal.
pub async fn get(api: &Api, asker: &Asker, from: v1::GetBodyRequest) -> Result<v1::GetBodyReply, Status> {
    let found = find(api, JobId(from.job_id), from.environment);
    let Some((owner, hash)) = found else { return stored(api, asker, from).await };
    if owner != asker.uid && api.level(asker) < AdminLevel::Administrator {
        return Ok(refuse(Refusal::AccessDenied));
    }
    let Some(hash) = hash else { return Ok(refuse(Refusal::JobScriptUnavailable)) };
    let bodies = api.shelf.bodies();
    let body = tokio::task::spawn_blocking(move || bodies.get(&hash))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(error.to_string()))?;
    match body {
        Some(body) => Ok(v1::GetBodyReply { body, refused: None }),
        None => Ok(refuse(Refusal::JobScriptUnavailable)),
    }
}

/// The same of a job that only history knows.
async fn stored(api: &Api, asker: &Asker, from: v1::GetBodyRequest) -> Result<v1::GetBodyReply, Status> {
    let (history, bodies) = (api.shelf.history(), api.shelf.bodies());
    let look = move || history.body(JobId(from.job_id), from.environment, &bodies);
    let found = tokio::task::spawn_blocking(look)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(format!("the history cannot be read: {error}")))?;
    let Some((owner, body)) = found else { return Ok(refuse(Refusal::InvalidJobId)) };
    if owner != asker.uid && api.level(asker) < AdminLevel::Administrator {
        return Ok(refuse(Refusal::AccessDenied));
    }
    match body {
        Some(body) => Ok(v1::GetBodyReply { body: body.into(), refused: None }),
        None => Ok(refuse(Refusal::JobScriptUnavailable)),
    }
}

/// The owner, and the body that is asked for; an ended job keeps its bodies while it is in memory.
fn find(api: &Api, job: JobId, environment: bool) -> Option<(Uid, Option<BodyHash>)> {
    let view = api.views.read();
    let job = view.state.job(job)?;
    let hash = if environment { Some(job.bodies.environment) } else { job.bodies.script };
    Some((job.owner.uid, hash))
}

fn refuse(refusal: Refusal) -> v1::GetBodyReply {
    let refused = Some(proto::convert::refusal::outwards(refusal, &[]));
    v1::GetBodyReply { refused, ..v1::GetBodyReply::default() }
}
