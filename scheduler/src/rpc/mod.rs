//! The services on the Unix socket: authenticate, convert, forward. No decisions.
//!
//! One connection carries gRPC and plain HTTP: `/metrics`, `/livez`, `/readyz`. Who asks is what the
//! kernel says of the connection (`SO_PEERCRED`). Every message has a stated limit; bytes that are no
//! HTTP end their connection and nothing else.

pub mod agent;
pub mod allocation;
pub mod backup;
pub mod body;
pub mod control;
pub mod controller;
pub mod diagnostics;
pub mod explain;
pub mod history;
pub mod peer;
pub mod plain;
pub mod priority;
pub mod query;
pub mod server;
pub mod slurm_metrics;
pub mod socket;
pub mod step;
pub mod submit;

use std::sync::Arc;

use model::time::Timestamp;
use scheduler_core::effect::{Answer, Asker, Refused};
use scheduler_core::input::Command;
use scheduler_core::state::accounts::AdminLevel;
use tokio::sync::oneshot;
use tonic::Status;

use crate::dispatch::Dispatch;
use crate::dispatch::launch::Site;
use crate::inbox::{Body, Inbox, Item};
use crate::keys::Keys;
use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::settings::Configuration;
use crate::shelf::Shelf;
use crate::shutdown::Shutdown;
use crate::views::Views;

pub use proto::limits::{ENVIRONMENT_MAX, MESSAGE_MAX, SCRIPT_MAX};

/// What the services work with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// To the machine.
    pub inbox: Inbox,
    /// What queries see.
    pub views: Arc<Views>,
    /// Sessions of executors.
    pub dispatch: Arc<Dispatch>,
    /// Keys of jobs that have left the memory.
    pub keys: Arc<Keys>,
    /// Scripts, environments, finished jobs.
    pub shelf: Arc<Shelf>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Interactive allocations.
    pub leases: Arc<Leases>,
    /// The configuration and how to read it again.
    pub configuration: Arc<Configuration>,
    /// What launches say of the site.
    pub site: Arc<Site>,
    /// The log of this process.
    pub log: service::log::Log,
    /// How to stop.
    pub shutdown: Shutdown,
    /// When the daemon was started.
    pub started: Timestamp,
}

/// What a caller is told when the answer was lost on the way.
#[must_use]
pub fn unknown_outcome() -> Status {
    Status::unavailable("the outcome is unknown; retry with the same key")
}

/// What a caller is told when the daemon is stopping.
#[must_use]
pub fn stopping() -> Status {
    Status::unavailable("the scheduler is stopping")
}

/// A message that is not what it should be.
#[must_use]
pub fn invalid(error: &proto::convert::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

impl Api {
    /// Has the machine do something; waits until it is durable.
    ///
    /// # Errors
    /// The daemon is stopping, or the outcome is unknown.
    pub async fn command(
        &self,
        asker: Asker,
        command: Command,
        body: Option<Body>,
    ) -> Result<Answer, Status> {
        let (reply, answer) = oneshot::channel();
        let item = Item::Command { asker, command: Box::new(command), body, reply };
        self.inbox.send(item).await.map_err(|_| stopping())?;
        let answer = answer.await.map_err(|_| unknown_outcome())?;
        if matches!(answer, Answer::Refused(_)) {
            self.metrics.refused.one();
        }
        Ok(answer)
    }

    /// Rights of an asker over the whole cluster.
    #[must_use]
    pub fn level(&self, asker: &Asker) -> AdminLevel {
        let view = self.views.read();
        scheduler_core::authorise::level(&view.state, &view.settings, asker)
    }

    /// The refusal of what only administrators may do, for others.
    #[must_use]
    pub fn refuse_unless_administrator(&self, asker: &Asker) -> Option<Refused> {
        (self.level(asker) < AdminLevel::Administrator)
            .then(|| Refused::from(model::refusal::Refusal::UserIdMissing))
    }
}
