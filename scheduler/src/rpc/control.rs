//! Acts on jobs, nodes and partitions; reconfigure and shutdown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::config::log::Level;
use model::job::JobState;
use model::refusal::Refusal;
use proto::v1;
use scheduler_core::effect::{Answer, Asker, Outcome, Refused};
use scheduler_core::input::{Command, JobFilter};
use tonic::Status;

use super::{Api, invalid, stopping, unknown_outcome};
use crate::dispatch::Order;
use crate::inbox::Item;
use crate::lease::root;
use crate::settings::Loaded;
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
        Asked::SetDebug(set) => Ok(set_debug(api, &asker, &set)),
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
        let lines = differences(&api.configuration.current(), &read);
        return Ok(reply(
            lines.into_iter().map(|line| Outcome { object: line.into(), refused: None }).collect(),
        ));
    }
    let (sender, in_force) = tokio::sync::oneshot::channel();
    let settings = read.settings.clone();
    api.inbox.send(Item::Configure { settings, reply: sender }).await.map_err(|_| stopping())?;
    in_force.await.map_err(|_| unknown_outcome())?;
    api.log.configure(&read.log, None);
    api.shelf.history().set_settings(read.history);
    api.configuration.put_in_force(read);
    Ok(reply(Vec::new()))
}

/// Says more or less in the log until the configuration is read again, or the log is opened again.
fn set_debug(api: &Api, asker: &Asker, set: &v1::SetDebug) -> v1::ControlReply {
    if let Some(refused) = api.refuse_unless_administrator(asker) {
        return refuse(refused);
    }
    let Some((level, word)) = Level::parse(&set.level) else {
        let lines = vec![format!("{:?} is no level of a log", set.level).into()];
        return refuse(Refused { refusal: Refusal::Unspecified, lines });
    };
    if !set.nodes.is_empty() {
        return set_debug_of_nodes(api, &set.nodes, word);
    }
    api.log.set_level(level, word);
    tracing::info!(by = %asker.name, "the log's level is {word}");
    reply(Vec::new())
}

/// The same for the executors of these nodes that have a session; each other node is refused by name.
fn set_debug_of_nodes(api: &Api, nodes: &str, word: &'static str) -> v1::ControlReply {
    let refused = |line: String| Refused { refusal: Refusal::InvalidNodeName, lines: vec![line.into()] };
    let names = match model::hostlist::expand(nodes) {
        Ok(names) => names,
        Err(error) => return refuse(refused(error.to_string())),
    };
    let told = |name: String| {
        let node = api.views.read().state.node_named(&name);
        let refused = match node {
            None => Some(refused(format!("there is no node {name}"))),
            Some(node) if api.dispatch.ask(node, Order::LogLevel(word)) => None,
            Some(_) => Some(refused(format!("node {name} has no executor at the moment"))),
        };
        Outcome { object: name.into(), refused }
    };
    reply(names.into_iter().map(told).collect())
}

/// Keys that a running scheduler does not change; what stands in the file counts at the next start.
const AT_START: [&str; 4] = ["ClusterName", "MetricsPort", "SlurmUser", "StateSaveLocation"];

/// What another configuration would change, a line for each key, node and partition.
fn differences(now: &Loaded, next: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let mut compare = |what: &str, before: Option<String>, after: Option<String>| {
        if before == after {
            return;
        }
        let shown = |value: Option<String>| value.unwrap_or_else(|| "(not there)".to_owned());
        let late = if AT_START.contains(&what) { " (at the next start)" } else { "" };
        lines.push(format!("{what}: {} -> {}{late}", shown(before), shown(after)));
    };
    let value = |loaded: &Loaded, key: &str| {
        loaded.shown.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    let keys: BTreeSet<&str> = now.shown.iter().chain(&next.shown).map(|(key, _)| key.as_str()).collect();
    for key in keys {
        compare(key, value(now, key), value(next, key));
    }
    let port = |loaded: &Loaded| loaded.metrics_port.map(|port| port.to_string());
    compare("MetricsPort", port(now), port(next));
    let nodes = |loaded: &Loaded| -> BTreeMap<String, String> {
        let nodes = loaded.settings.nodes.iter();
        nodes.map(|node| (format!("node {}", node.name), digest_of(&format!("{node:?}")))).collect()
    };
    let partitions = |loaded: &Loaded| -> BTreeMap<String, String> {
        let partitions = loaded.settings.partitions.iter();
        partitions.map(|one| (format!("partition {}", one.name), digest_of(&format!("{one:?}")))).collect()
    };
    for (before, after) in [(nodes(now), nodes(next)), (partitions(now), partitions(next))] {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            match (before.get(name), after.get(name)) {
                (Some(_), None) => lines.push(format!("{name}: goes")),
                (None, Some(_)) => lines.push(format!("{name}: comes")),
                (Some(before), Some(after)) if before != after => lines.push(format!("{name}: changes")),
                _ => {}
            }
        }
    }
    lines
}

fn digest_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// SIGHUP: as an administrator's `reconfigure`, told in the log.
pub async fn reconfigure_on_signal(api: &Api) {
    match reconfigure(api, &root_asker(api), false).await {
        Ok(reply) => {
            let refused = reply.outcomes.into_iter().find_map(|outcome| outcome.refused);
            match refused {
                Some(refused) => {
                    for line in refused.lines {
                        tracing::error!("the configuration is refused, the one in force stays: {line}");
                    }
                }
                None => tracing::info!("SIGHUP: the configuration was read again and is in force"),
            }
        }
        Err(status) => tracing::error!("SIGHUP: {}", status.message()),
    }
}

/// Whoever may signal the daemon administrates it.
fn root_asker(api: &Api) -> Asker {
    let administrators = api.views.read().settings.administrators.clone();
    administrators.first().map_or_else(root, |uid| Asker { uid: *uid, ..root() })
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
