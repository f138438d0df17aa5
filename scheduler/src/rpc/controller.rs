//! The service that clients use: each method authenticates, converts and forwards.

use model::refusal::Refusal;
use proto::v1;
use proto::v1::controller_server::Controller;
use scheduler_core::effect::Answer;
use scheduler_core::input::Command;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Api, allocation, backup, body, control, diagnostics, explain, invalid, peer, priority, query, step,
    submit,
};
use crate::wire;

type Pages = ReceiverStream<Result<v1::JobPage, Status>>;

#[tonic::async_trait]
impl Controller for Api {
    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingReply>, Status> {
        Ok(Response::new(diagnostics::ping(self)))
    }

    async fn show_config(
        &self,
        _: Request<v1::ShowConfigRequest>,
    ) -> Result<Response<v1::ShowConfigReply>, Status> {
        Ok(Response::new(diagnostics::config(self)))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        submit::unary(self, asker, request.into_inner()).await.map(Response::new)
    }

    type SubmitStreamStream = submit::Replies;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        Ok(Response::new(submit::stream(self, asker, request.into_inner())))
    }

    async fn test_submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::TestSubmitReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        submit::test(self, asker, request.into_inner()).await.map(Response::new)
    }

    type ListJobsStream = Pages;

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<Self::ListJobsStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        let pages = query::jobs(self, &asker, request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(pages)))
    }

    type ListNodesStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::NodePage, Status>>>;

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<Self::ListNodesStream>, Status> {
        let pages: Vec<_> = query::nodes(self, request.into_inner()).into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(pages)))
    }

    async fn list_partitions(
        &self,
        _: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsReply>, Status> {
        Ok(Response::new(query::partitions(self)))
    }

    async fn list_reservations(
        &self,
        _: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsReply>, Status> {
        Ok(Response::new(query::reservations(self)))
    }

    async fn list_priorities(
        &self,
        request: Request<v1::ListPrioritiesRequest>,
    ) -> Result<Response<v1::ListPrioritiesReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        priority::list(self, &asker, request.into_inner()).map(Response::new)
    }

    async fn show_topology(
        &self,
        _: Request<v1::ShowTopologyRequest>,
    ) -> Result<Response<v1::ShowTopologyReply>, Status> {
        Ok(Response::new(query::topology(self)))
    }

    type ListHistoryStream = Pages;

    async fn list_history(
        &self,
        request: Request<v1::ListHistoryRequest>,
    ) -> Result<Response<Self::ListHistoryStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        let pages = query::history(self, &asker, request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(pages)))
    }

    type WatchJobsStream = Pages;

    async fn watch_jobs(
        &self,
        request: Request<v1::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        let pages = query::watch(self, &asker, request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(pages)))
    }

    async fn get_body(
        &self,
        request: Request<v1::GetBodyRequest>,
    ) -> Result<Response<v1::GetBodyReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        body::get(self, &asker, request.into_inner()).await.map(Response::new)
    }

    type BackupStream = ReceiverStream<Result<v1::BackupPiece, Status>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        Ok(Response::new(ReceiverStream::new(backup::start(self, &asker))))
    }

    async fn diagnostics(
        &self,
        request: Request<v1::DiagnosticsRequest>,
    ) -> Result<Response<v1::DiagnosticsReply>, Status> {
        if request.get_ref().reset {
            let asker = peer::asker(self.views.directory(), &request).await?;
            return Ok(Response::new(diagnostics::reset(self, &asker)));
        }
        Ok(Response::new(diagnostics::figures(self)))
    }

    async fn control(
        &self,
        request: Request<v1::ControlRequest>,
    ) -> Result<Response<v1::ControlReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        control::control(self, asker, request.into_inner()).await.map(Response::new)
    }

    async fn list_accounts(
        &self,
        request: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        Ok(Response::new(query::accounts(self, &asker)))
    }

    async fn change_accounts(
        &self,
        request: Request<v1::ChangeAccountsRequest>,
    ) -> Result<Response<v1::ChangeAccountsReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        let changes = wire::accounts::inwards(request.into_inner()).map_err(|error| invalid(&error))?;
        let refused = match self.command(asker, Command::ChangeAccounts(changes), None).await? {
            Answer::Refused(refused) => Some(wire::refused(&refused)),
            Answer::Outcomes(outcomes) => {
                outcomes.iter().find_map(|outcome| outcome.refused.as_ref()).map(wire::refused)
            }
            Answer::Done => None,
            _ => Some(proto::convert::refusal::outwards(Refusal::NotSupported, &[])),
        };
        Ok(Response::new(v1::ChangeAccountsReply { refused }))
    }

    async fn create_step(
        &self,
        request: Request<v1::CreateStepRequest>,
    ) -> Result<Response<v1::CreateStepReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        step::create(self, asker, request.into_inner()).await.map(Response::new)
    }

    type HoldAllocationStream = Pages;

    async fn hold_allocation(
        &self,
        request: Request<v1::HoldAllocationRequest>,
    ) -> Result<Response<Self::HoldAllocationStream>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        let pages = allocation::hold(self, &asker, request.into_inner())?;
        Ok(Response::new(ReceiverStream::new(pages)))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        explain::why(self, &asker, request.into_inner()).await.map(Response::new)
    }

    async fn what_if(
        &self,
        request: Request<v1::WhatIfRequest>,
    ) -> Result<Response<v1::WhatIfReply>, Status> {
        let asker = peer::asker(self.views.directory(), &request).await?;
        explain::what_if(self, asker, request.into_inner()).await.map(Response::new)
    }
}
