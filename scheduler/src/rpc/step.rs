//! Steps of `srun`.

use model::id::{JobId, StepId};
use prost::Message;
use proto::convert::id::request_key;
use proto::v1;
use scheduler_core::effect::{Answer, Asker, RunKey};
use scheduler_core::input::Command;
use tonic::Status;

use super::{Api, invalid};
use crate::dispatch::launch::step_nodes;
use crate::inbox::Body;
use crate::wire;

/// Makes a step in a job.
///
/// # Errors
/// A message that is none, the daemon is stopping, the outcome is unknown.
pub async fn create(
    api: &Api,
    asker: Asker,
    from: v1::CreateStepRequest,
) -> Result<v1::CreateStepReply, Status> {
    let key = request_key("key", &from.key).map_err(|error| invalid(&error))?;
    let step = from.step.ok_or_else(|| Status::invalid_argument("field step is missing"))?;
    let body = from.launch.map(|launch| Body::new(launch.encode_to_vec().into()));
    let launch = body.as_ref().map(|body| body.hash);
    let step = wire::step::inwards(step, Some(key), launch).map_err(|error| invalid(&error))?;
    let job = JobId(from.job_id);
    let command = Command::CreateStep { job, step: Box::new(step) };
    match api.command(asker, command, body).await? {
        Answer::StepCreated { step, allocation, ranks, run } => {
            let key = RunKey { job, step, run };
            let view = api.views.read();
            let nodes = step_nodes(&view, &allocation, &ranks, key);
            Ok(v1::CreateStepReply { step_id: text(step), nodes, ..v1::CreateStepReply::default() })
        }
        Answer::StepMustWait => Ok(v1::CreateStepReply { wait: true, ..v1::CreateStepReply::default() }),
        Answer::Refused(refused) => {
            let refused = Some(wire::refused(&refused));
            Ok(v1::CreateStepReply { refused, ..v1::CreateStepReply::default() })
        }
        other => Err(Status::internal(format!("a step was answered with {}", super::submit::name(&other)))),
    }
}

fn text(step: StepId) -> String {
    step.to_string()
}
