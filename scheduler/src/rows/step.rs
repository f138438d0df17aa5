//! Rows of steps.

use model::id::StepId;
use proto::convert::exit;
use proto::v1;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::{Figure, Figures, Job, Step};

use scheduler_core::allocation::NodeShare;
use scheduler_core::effect::RunKey;

use super::{allocation, node_list, tres};
use crate::dispatch::launch::run_folder_name;

/// The row of one step of `job`, which runs (or ran) in the partition of that name.
#[must_use]
pub fn row(state: &State, settings: &Settings, job: &Job, step: &Step, partition: &str) -> v1::Step {
    let spec = step.spec.as_deref();
    let name = match (step.id, spec) {
        (StepId::Batch, _) => "batch".to_owned(),
        (StepId::Interactive, _) => "interactive".to_owned(),
        (StepId::Number(_), Some(spec)) => spec.name.to_string(),
        (StepId::Extern, _) => "extern".to_owned(),
        (StepId::Number(_) | StepId::Hook(_), _) => String::new(),
    };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    v1::Step {
        step_id: step.id.to_string(),
        name,
        state: step.state.long().to_owned(),
        start_ms: state.wall_time(step.start).0,
        end_ms: step.end.map(|end| state.wall_time(end).0),
        exit: Some(exit::outwards(step.exit)),
        allocation: allocation(state, &step.allocation),
        node_list: node_list(state, &step.allocation),
        num_nodes: step.allocation.len() as u32,
        num_cpus: step.allocation.iter().map(|share| share.cpus.0).sum(),
        num_tasks: spec.map_or(1, |spec| spec.tasks),
        time_limit_ms: spec.and_then(|spec| spec.limit).map(|limit| limit.0),
        alloc_tres: tres::of_allocation(state, &step.allocation, settings),
        partition: partition.to_owned(),
        ended_by_uid: step.by.map(|by| by.0),
        user_us: step.usage.user_us,
        system_us: step.usage.system_us,
        max_rss_bytes: step.usage.max_rss,
        uid: job.owner.uid.0,
        job_id: job.id.0,
        distribution: text(spec.and_then(|spec| spec.distribution.as_deref())),
        submit_line: text(spec.map(|spec| &*spec.submit_line)),
        work_dir: text(spec.map(|spec| &*spec.work_dir)),
        container: String::new(),
        sockets: sockets(state, job, step),
        figures: step.usage.figures.as_deref().map(|found| figures(state, found)),
        held: step
            .held
            .iter()
            .map(|(node, text)| v1::HeldTo {
                node: state.node(*node).definition.name.to_string(),
                text: text.to_string(),
            })
            .collect(),
    }
}

fn figures(state: &State, figures: &Figures) -> v1::Figures {
    let figure = |figure: Figure| {
        Some(v1::Figure {
            most: figure.most,
            task: figure.task,
            node: state.node(figure.node).definition.name.to_string(),
            total: figure.total,
        })
    };
    v1::Figures {
        rss: figure(figures.rss),
        virtual_memory: figure(figures.virtual_memory),
        read: figure(figures.read),
        written: figure(figures.written),
        pages: figure(figures.pages),
        cpu_least: figure(figures.cpu_least),
    }
}

/// Where the supervisors of a running step listen on their nodes.
fn sockets(state: &State, job: &Job, step: &Step) -> Vec<String> {
    if step.end.is_some() {
        return Vec::new();
    }
    let name = run_folder_name(RunKey { job: job.id, step: step.id, run: job.run });
    let folder = |share: &NodeShare| &state.node(share.node).observed.run_folder;
    step.allocation.iter().map(|share| format!("{}/{name}/socket", folder(share))).collect()
}
