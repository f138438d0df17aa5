//! The service that executors dial.

use proto::v1;
use proto::v1::agent_server::Agent;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, peer};
use crate::dispatch::session::{Launches, Parts, start};

#[tonic::async_trait]
impl Agent for Api {
    type SessionStream = ReceiverStream<Result<v1::AgentDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (uid, _) = peer::credentials(&request)?;
        if !self.may_be_executor(uid) {
            return Err(Status::permission_denied(
                "only root, SlurmUser and the scheduler's own user run executors",
            ));
        }
        let parts = Parts {
            dispatch: self.dispatch.clone(),
            inbox: self.inbox.clone(),
            views: self.views.clone(),
            shelf: self.shelf.clone(),
            site: self.site.clone(),
            metrics: self.metrics.clone(),
            launches: Launches::default(),
        };
        Ok(Response::new(ReceiverStream::new(start(parts, uid, request.into_inner()))))
    }
}

impl Api {
    /// Executors get scripts and environments of everybody, so not everybody is one.
    fn may_be_executor(&self, uid: u32) -> bool {
        uid == 0
            || uid == nix::unistd::geteuid().as_raw()
            || self.views.read().settings.administrators.contains(&model::id::Uid(uid))
    }
}
