//! Acts on jobs, nodes and partitions; reconfigure and shutdown.

use std::time::Duration;

use model::job::JobState;
use model::refusal::Refusal;
use proto::v1;
use scheduler_core::effect::{Answer, Asker, Outcome, Refused};
use scheduler_core::input::{Command, JobFilter};
use tonic::Status;

use super::{Api, invalid, stopping, unknown_outcome};
use crate::inbox::Item;
use crate::lease::root;
use crate::wire;
use crate::wire::control::Asked;

/// How long a shutdown that ends the jobs waits for their ends.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Does one act.
///
/// # Errors
/// A message that is none, the daemon is stopping, the outcome is unknown.
pub async fn control(api: &Api, asker: Asker, from: v1::ControlRequest) -> Result<v1::ControlReply, Status> {
    match wire::control::inwards(from).map_err(|error| invalid(&error))? {
        Asked::Command(mut command) => {
            if let Command::UpdateReservation { changes, .. } = &mut command
                && !with_user_numbers(changes).await?
            {
                return Ok(refuse(Refusal::Unspecified.into()));
            }
            let answer = api.command(asker, command, None).await?;
            outcomes(answer).map(reply)
        }
        Asked::Reconfigure(dry_run) => reconfigure(api, &asker, dry_run).await,
        Asked::Shutdown(kill_jobs) => shutdown(api, &asker, kill_jobs).await,
    }
}

/// Puts the number beside the name of each user of a reservation (`alice:2001`); `false`: somebody is unknown.
async fn with_user_numbers(changes: &mut [(Box<str>, Box<str>)]) -> Result<bool, Status> {
    for (key, value) in changes {
        if !key.eq_ignore_ascii_case("users") {
            continue;
        }
        let names = value.to_string();
        // A directory on the network may be asked.
        let found = tokio::task::spawn_blocking(move || {
            let number = |name: &str| {
                let user = nix::unistd::User::from_name(name).ok().flatten()?;
                Some(format!("{}:{}", user.name, user.uid))
            };
            names.split(',').filter(|name| !name.is_empty()).map(number).collect::<Option<Vec<String>>>()
        });
        match found.await.map_err(|error| Status::internal(error.to_string()))? {
            Some(users) => *value = users.join(",").into(),
            None => return Ok(false),
        }
    }
    Ok(true)
}

fn outcomes(answer: Answer) -> Result<Vec<Outcome>, Status> {
    match answer {
        Answer::Outcomes(outcomes) => Ok(outcomes),
        Answer::Refused(refused) => Ok(vec![Outcome { object: "".into(), refused: Some(refused) }]),
        Answer::Done => Ok(Vec::new()),
        other => Err(Status::internal(format!("an act was answered with {}", super::submit::name(&other)))),
    }
}

fn reply(outcomes: Vec<Outcome>) -> v1::ControlReply {
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| v1::ControlOutcome {
            object: outcome.object.into(),
            refused: outcome.refused.as_ref().map(wire::refused),
        })
        .collect();
    v1::ControlReply { outcomes }
}

fn refuse(refused: Refused) -> v1::ControlReply {
    reply(vec![Outcome { object: "".into(), refused: Some(refused) }])
}

/// Checks the configuration, and unless it is only that, puts it in force whole.
async fn reconfigure(api: &Api, asker: &Asker, dry_run: bool) -> Result<v1::ControlReply, Status> {
    if let Some(refused) = api.refuse_unless_administrator(asker) {
        return Ok(refuse(refused));
    }
    let configuration = api.configuration.clone();
    let read = tokio::task::spawn_blocking(move || configuration.read_again())
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let read = match read {
        Ok(read) => read,
        Err(errors) => {
            let lines = errors.iter().map(|error| error.as_str().into()).collect();
            return Ok(refuse(Refused { refusal: Refusal::NotSupported, lines }));
        }
    };
    if dry_run {
        return Ok(reply(Vec::new()));
    }
    let (sender, in_force) = tokio::sync::oneshot::channel();
    let settings = read.settings.clone();
    api.inbox.send(Item::Configure { settings, reply: sender }).await.map_err(|_| stopping())?;
    in_force.await.map_err(|_| unknown_outcome())?;
    api.configuration.put_in_force(read);
    Ok(reply(Vec::new()))
}

async fn shutdown(api: &Api, asker: &Asker, kill_jobs: bool) -> Result<v1::ControlReply, Status> {
    if let Some(refused) = api.refuse_unless_administrator(asker) {
        return Ok(refuse(refused));
    }
    if kill_jobs {
        end_all_jobs(api).await?;
    }
    tracing::info!(by = %asker.name, "told to shut down");
    let stop = api.shutdown.clone();
    tokio::spawn(async move {
        // After the answer has left.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.trigger();
    });
    Ok(reply(Vec::new()))
}

/// Cancels everything and waits until nothing runs, for a minute at most.
async fn end_all_jobs(api: &Api) -> Result<(), Status> {
    let mut news = api.views.subscribe();
    let states = vec![JobState::Pending, JobState::Configuring, JobState::Running, JobState::Suspended];
    let command = Command::Cancel {
        jobs: Vec::new(),
        filter: JobFilter { states, ..JobFilter::default() },
        signal: None,
        batch_only: false,
        full: false,
    };
    api.command(root(), command, None).await?;
    let none_runs = async {
        while !api.views.read().state.index.running.is_empty() {
            // News that were missed are news too.
            let _ = news.recv().await;
        }
    };
    if tokio::time::timeout(ENDS_WITHIN, none_runs).await.is_err() {
        tracing::warn!("jobs still run after {} s; stopping all the same", ENDS_WITHIN.as_secs());
    }
    Ok(())
}
