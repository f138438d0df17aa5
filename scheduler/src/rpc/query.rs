//! Queries: jobs, nodes, partitions, history, accounts. They read the views and never reach the machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::id::NodeIdx;
use model::job::JobState;
use proto::v1;
use scheduler_core::effect::Asker;
use tokio::sync::mpsc;
use tonic::Status;

use super::Api;
use crate::rows;
use crate::views::filter::Filter;
use crate::views::watch::{self, Pages};

/// Pages that wait for a slow caller.
const PAGES_MAX: usize = 4;
/// Rows of one page.
const ROWS_MAX: usize = 256;

/// The filter of a query, with what the asker may see.
///
/// # Errors
/// Lists that are too long, an unknown state.
pub fn filter(api: &Api, asker: &Asker, from: Option<v1::JobFilter>) -> Result<Filter, Status> {
    let filter = Filter::new(from.unwrap_or_default())
        .ok_or_else(|| Status::invalid_argument("field filter is malformed"))?;
    let private = api.configuration.private_jobs();
    Ok(filter.seen_by(asker, api.level(asker), private))
}

/// Lists jobs in pages.
///
/// # Errors
/// As [`filter`].
pub fn jobs(api: &Api, asker: &Asker, from: v1::ListJobsRequest) -> Result<Pages, Status> {
    let filter = filter(api, asker, from.filter)?.with_ended(from.include_ended).with_hidden(from.all);
    let views = Arc::clone(&api.views);
    let (pages, receiver) = mpsc::channel(PAGES_MAX);
    tokio::spawn(async move {
        let page = |jobs, caught_up| {
            Ok(v1::JobPage { jobs, now_ms: views.wall().0, caught_up, ..v1::JobPage::default() })
        };
        if filter.names_jobs() {
            let jobs = views.jobs_named(&filter, from.with_steps);
            // The caller has left if it cannot be told.
            let _ = pages.send(page(jobs, true)).await;
            return;
        }
        let mut after = None;
        loop {
            let (jobs, next) = views.jobs_after(after, &filter, from.with_steps);
            let last = next.is_none();
            if (last || !jobs.is_empty()) && pages.send(page(jobs, last)).await.is_err() {
                return;
            }
            if last {
                return;
            }
            after = next;
        }
    });
    Ok(receiver)
}

/// Watches jobs.
///
/// # Errors
/// As [`filter`].
pub fn watch(api: &Api, asker: &Asker, from: v1::WatchJobsRequest) -> Result<Pages, Status> {
    let filter = filter(api, asker, from.filter)?.with_ended(true).with_hidden(true);
    Ok(watch::start(Arc::clone(&api.views), filter))
}

/// Lists nodes in pages, in the order of the configuration.
#[must_use]
pub fn nodes(api: &Api, from: v1::ListNodesRequest) -> Vec<v1::NodePage> {
    let wanted: BTreeSet<&str> = from.names.iter().map(String::as_str).collect();
    let view = api.views.read();
    let suspended = rows::node::suspended_cpus(&view.state);
    let reserved = rows::reservation::nodes(&view.state, api.views.wall());
    let partitions = rows::node::partitions_by_node(&view.state);
    let no_partitions = Vec::new();
    let mut found = Vec::new();
    for (idx, node) in (0..).map(NodeIdx).zip(&view.state.nodes) {
        if node.removed || (!wanted.is_empty() && !wanted.contains(&*node.definition.name)) {
            continue;
        }
        let mut row = rows::node::row(
            node,
            &view.settings,
            suspended.get(&idx).copied().unwrap_or(0),
            partitions.get(&idx).unwrap_or(&no_partitions),
            view.vitals.get(&idx).cloned().unwrap_or_default(),
            view.resumed.contains(&idx),
            view.state.wall_ahead,
        );
        row.lacks.extend(rows::node::strangers(&view.state, idx));
        if let Some(maintenance) = reserved.get(&idx) {
            (row.reserved, row.maintenance) = (true, *maintenance);
        }
        found.push(row);
    }
    drop(view);
    let now_ms = api.views.wall().0;
    let mut pages = Vec::new();
    let mut found = found.into_iter().peekable();
    loop {
        let nodes: Vec<v1::Node> = found.by_ref().take(ROWS_MAX).collect();
        pages.push(v1::NodePage { nodes, now_ms, refused: None });
        if found.peek().is_none() {
            return pages;
        }
    }
}

/// Lists reservations by name.
#[must_use]
pub fn reservations(api: &Api) -> v1::ListReservationsReply {
    let now = api.views.wall();
    let view = api.views.read();
    let rows = view.state.reservations.iter();
    let reservations = rows.map(|(name, row)| rows::reservation::row(&view.state, name, row, now)).collect();
    v1::ListReservationsReply { reservations, now_ms: now.0 }
}

/// Lists partitions in the order of the configuration.
#[must_use]
pub fn partitions(api: &Api) -> v1::ListPartitionsReply {
    let view = api.views.read();
    let partitions = view
        .state
        .partitions
        .iter()
        .flatten()
        .map(|partition| rows::partition::row(&view.state, &view.settings, partition))
        .collect();
    v1::ListPartitionsReply { partitions, now_ms: api.views.wall().0 }
}

/// Switches or blocks, in the order of topology.conf; empty without one.
#[must_use]
pub fn topology(api: &Api) -> v1::ShowTopologyReply {
    let view = api.views.read();
    let Some(topology) = view.settings.topology.as_deref() else { return v1::ShowTopologyReply::default() };
    let blocks = topology.plugin == model::config::topology::Plugin::Block;
    let unit = |unit: &model::config::topology::Unit| v1::TopologyUnit {
        name: unit.name.to_string(),
        level: unit.level,
        link_speed: unit.link_speed,
        nodes: topology.nodes_below(unit).into_iter().map(str::to_owned).collect(),
        switches: model::hostlist::compress(
            &unit.switches.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ),
    };
    v1::ShowTopologyReply {
        units: topology.units.iter().map(unit).collect(),
        block_sizes: if blocks { topology.block_sizes.clone() } else { Vec::new() },
    }
}

/// Lists accounting data.
#[must_use]
pub fn accounts(api: &Api, asker: &Asker) -> v1::ListAccountsReply {
    let view = api.views.read();
    rows::accounts::reply(&view.state.accounts, &view.settings, &asker.name)
}

/// Lists jobs by time, live and finished ones.
///
/// # Errors
/// As [`filter`]; the history cannot be read.
pub async fn history(api: &Api, asker: &Asker, from: v1::ListHistoryRequest) -> Result<Pages, Status> {
    let only_of = (api.configuration.private_jobs()
        && api.level(asker) < scheduler_core::state::accounts::AdminLevel::Operator)
        .then_some(asker.uid.0);
    let filter = filter(api, asker, from.filter.clone())?.with_ended(true).with_hidden(true);
    let mut rows = super::history::stored(api, &from, only_of).await?;
    let kept = api.shelf.history().settings().kept;
    for mut job in live_jobs(api, &filter) {
        kept.strip(&mut job);
        if in_window(&job, from.from_ms, from.to_ms) {
            // What is in memory is newer than what the history says of the same run. A job that waits stands for its
            // next one: put back after an end, it leaves the row of that end alone.
            let waits =
                matches!(JobState::parse(&job.state), Some(JobState::Pending | JobState::SpecialExit));
            rows.add_live(&job, job.run.saturating_add(u32::from(waits)))?;
        }
    }
    rows.settle(from.duplicates);
    let (pages, receiver) = mpsc::channel(PAGES_MAX);
    let now_ms = api.views.wall().0;
    tokio::spawn(async move {
        loop {
            let page = rows.page(from.encoded, now_ms);
            let last = page.as_ref().map_or(true, |page| page.caught_up);
            // The caller has left if it cannot be told.
            if pages.send(page).await.is_err() || last {
                return;
            }
        }
    });
    Ok(receiver)
}

fn live_jobs(api: &Api, filter: &Filter) -> Vec<v1::Job> {
    if filter.names_jobs() {
        return api.views.jobs_named(filter, true);
    }
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let (jobs, next) = api.views.jobs_after(after, filter, true);
        all.extend(jobs);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Whether the job existed at some time in the window.
fn in_window(job: &v1::Job, from_ms: Option<i64>, to_ms: Option<i64>) -> bool {
    let ended = job.end_ms.filter(|_| !job.final_state.is_empty() && job.state != "COMPLETING");
    to_ms.is_none_or(|to| job.submit_ms <= to)
        && from_ms.is_none_or(|from| ended.is_none_or(|end| end >= from))
}
