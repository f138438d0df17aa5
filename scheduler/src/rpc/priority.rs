//! What the priorities of waiting jobs are made of: `sprio`. Reads the view; decides nothing.

use std::sync::Arc;

use model::id::PartitionIdx;
use proto::v1;
use scheduler_core::effect::Asker;
use scheduler_core::plan::whatif::shown_id;
use scheduler_core::priority::{Factors, factors};
use scheduler_core::state::job::{Hold, Job};
use tonic::Status;

use super::{Api, query};
use crate::views::View;

/// The factors of every waiting job that is eligible and not held, one row for each partition it names.
///
/// # Errors
/// As [`query::filter`].
/// Cost: O(waiting jobs × partitions).
pub fn list(
    api: &Api,
    asker: &Asker,
    from: v1::ListPrioritiesRequest,
) -> Result<v1::ListPrioritiesReply, Status> {
    let filter = query::filter(api, asker, from.filter)?.with_hidden(true);
    let view = api.views.read();
    let mut jobs: Vec<&Job> = view
        .state
        .index
        .queue
        .iter()
        .filter_map(|key| view.state.job(key.job))
        .filter(|job| job.hold == Hold::None && filter.matches(&view, job))
        .filter(|job| job.pending().is_some_and(|pending| pending.not_before.is_none()))
        .collect();
    jobs.sort_unstable_by_key(|job| job.id);
    let rows = jobs.iter().flat_map(|job| rows(api, &view, job)).collect();
    let settings = &view.settings;
    let weights = &settings.weights;
    Ok(v1::ListPrioritiesReply {
        rows,
        weights: Some(v1::PriorityFactors {
            age: f64::from(weights.age),
            assoc: f64::from(weights.assoc),
            fairshare: f64::from(weights.fairshare),
            job_size: f64::from(weights.job_size),
            partition: f64::from(weights.partition),
            qos: f64::from(weights.qos),
        }),
        tres_weights: settings
            .tres_weights
            .iter()
            .map(|(name, weight)| v1::PriorityTres { name: name.to_string(), value: f64::from(*weight) })
            .collect(),
        cluster: settings.cluster.to_string(),
        multifactor: settings.multifactor,
    })
}

/// A row for each partition of the job, with that partition's factor.
fn rows(api: &Api, view: &View, job: &Job) -> Vec<v1::PriorityRow> {
    let now = api.views.now();
    let user = api.views.directory().user(job.owner.uid);
    let in_partition = |idx: PartitionIdx| {
        // The factor of this one alone.
        let job = Job { partitions: Arc::new([idx]), ..job.clone() };
        let factors = factors(&view.state, &view.settings, &job, now);
        let name = view.state.partition(idx).map(|partition| partition.definition.name.to_string());
        row(view, &job, &factors, name.unwrap_or_default(), &user, now)
    };
    job.partitions.iter().map(|&idx| in_partition(idx)).collect()
}

fn row(
    view: &View,
    job: &Job,
    factors: &Factors,
    partition: String,
    user: &str,
    now: model::time::Timestamp,
) -> v1::PriorityRow {
    let set_directly = job.request.rare().priority.is_some();
    let shown = if set_directly || !view.settings.multifactor {
        job.clone()
    } else {
        Job { priority: factors.at_rest(&view.settings), ..job.clone() }
    };
    v1::PriorityRow {
        job_id: job.id.0,
        id: shown_id(job).into(),
        user: user.to_owned(),
        account: job.account.to_string(),
        partition,
        qos: job.qos.to_string(),
        priority: view.state.aging.shown(&shown, now),
        factors: Some(v1::PriorityFactors {
            age: factors.age,
            assoc: factors.assoc,
            fairshare: factors.fairshare,
            job_size: factors.job_size,
            partition: factors.partition,
            qos: factors.qos,
        })
        .filter(|_| !set_directly),
        tres: factors
            .tres
            .iter()
            .map(|(name, value)| v1::PriorityTres { name: name.to_string(), value: *value })
            .collect(),
        site: factors.site,
        nice: factors.nice,
        set_directly,
    }
}
