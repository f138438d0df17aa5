//! Steps of jobs.

use std::sync::Arc;

use model::id::{Hook, JobId, NodeIdx, StepId, Uid};
use model::time::{Span, Timestamp};
use proto::journal_v1 as w;
use scheduler_core::record::Record;
use scheduler_core::state::job::{Figure, Figures, RunStage, Step, StepNode, StepSpec, StopCause, Usage};

use crate::allocation::{
    allocation_in, allocation_out, exit_in, exit_out, hash_in, hash_out, key_in, key_out, state_in, state_out,
};
use crate::error::{Error, need};

pub(crate) fn id_out(id: StepId) -> w::StepId {
    use w::step_id::Id;
    let id = match id {
        StepId::Batch => Id::Batch(true),
        StepId::Interactive => Id::Interactive(true),
        StepId::Number(number) => Id::Number(number),
        StepId::Extern => Id::Extern(true),
        StepId::Hook(hook) => Id::Hook(hook.text().to_owned()),
    };
    w::StepId { id: Some(id) }
}

pub(crate) fn id_in(wire: Option<w::StepId>) -> Result<StepId, Error> {
    use w::step_id::Id;
    Ok(match need("step", wire.and_then(|wire| wire.id))? {
        Id::Batch(_) => StepId::Batch,
        Id::Interactive(_) => StepId::Interactive,
        Id::Number(number) => StepId::Number(number),
        Id::Extern(_) => StepId::Extern,
        Id::Hook(text) => {
            let hook = Hook::ALL.into_iter().find(|hook| hook.text() == text);
            StepId::Hook(hook.ok_or(Error::Field { field: "hook" })?)
        }
    })
}

fn cause_out(cause: StopCause) -> w::StopCause {
    match cause {
        StopCause::Cancel => w::StopCause::StopCancel,
        StopCause::TimeLimit => w::StopCause::StopTimeLimit,
        StopCause::Requeue => w::StopCause::StopRequeue,
        StopCause::Preemption => w::StopCause::StopPreemption,
        StopCause::NodeFail => w::StopCause::StopNodeFail,
        StopCause::JobEnd => w::StopCause::StopJobEnd,
    }
}

fn cause_in(wire: i32) -> Result<Option<StopCause>, Error> {
    Ok(match w::StopCause::try_from(wire) {
        Ok(w::StopCause::StopNone) => None,
        Ok(w::StopCause::StopCancel) => Some(StopCause::Cancel),
        Ok(w::StopCause::StopTimeLimit) => Some(StopCause::TimeLimit),
        Ok(w::StopCause::StopRequeue) => Some(StopCause::Requeue),
        Ok(w::StopCause::StopPreemption) => Some(StopCause::Preemption),
        Ok(w::StopCause::StopNodeFail) => Some(StopCause::NodeFail),
        Ok(w::StopCause::StopJobEnd) => Some(StopCause::JobEnd),
        Err(_) => return Err(Error::Field { field: "stop" }),
    })
}

/// Nothing used is not written.
pub(crate) fn usage_out(usage: &Usage) -> Option<w::Usage> {
    let Usage { user_us, system_us, max_rss, figures } = usage;
    (*usage != Usage::default()).then(|| w::Usage {
        user_us: *user_us,
        system_us: *system_us,
        max_rss: *max_rss,
        figures: figures.as_deref().map_or_else(Vec::new, figures_out),
    })
}

fn figures_out(figures: &Figures) -> Vec<w::Figure> {
    let Figures { rss, virtual_memory, read, written, pages, cpu_least } = figures;
    let figure = |f: &Figure| w::Figure { most: f.most, task: f.task, node: f.node.0, total: f.total };
    [rss, virtual_memory, read, written, pages, cpu_least].map(figure).into()
}

fn figures_in(wire: &[w::Figure]) -> Result<Option<Box<Figures>>, Error> {
    let figure = |f: &w::Figure| Figure { most: f.most, task: f.task, node: NodeIdx(f.node), total: f.total };
    match wire {
        [] => Ok(None),
        [rss, virtual_memory, read, written, pages, cpu_least] => Ok(Some(Box::new(Figures {
            rss: figure(rss),
            virtual_memory: figure(virtual_memory),
            read: figure(read),
            written: figure(written),
            pages: figure(pages),
            cpu_least: figure(cpu_least),
        }))),
        _ => Err(Error::Field { field: "figures" }),
    }
}

fn usage_in(wire: Option<w::Usage>) -> Result<Usage, Error> {
    let wire = wire.unwrap_or_default();
    let figures = figures_in(&wire.figures)?;
    Ok(Usage { user_us: wire.user_us, system_us: wire.system_us, max_rss: wire.max_rss, figures })
}

fn spec_out(spec: &StepSpec) -> w::StepSpec {
    w::StepSpec {
        name: spec.name.to_string(),
        tasks: spec.tasks,
        cpus_per_task: spec.cpus_per_task,
        overlap: spec.overlap,
        limit_ms: spec.limit.map(|span| span.0),
        distribution: spec.distribution.as_ref().map(ToString::to_string),
        work_dir: spec.work_dir.to_string(),
        submit_line: spec.submit_line.to_string(),
        launch: hash_out(spec.launch),
        key: key_out(spec.key),
        ranks: spec.ranks.iter().map(|ranks| w::Ranks { ranks: ranks.clone() }).collect(),
    }
}

fn spec_in(wire: w::StepSpec) -> Result<StepSpec, Error> {
    Ok(StepSpec {
        name: wire.name.into(),
        tasks: wire.tasks,
        cpus_per_task: wire.cpus_per_task,
        overlap: wire.overlap,
        limit: wire.limit_ms.map(Span),
        distribution: wire.distribution.map(String::into_boxed_str),
        work_dir: wire.work_dir.into(),
        submit_line: wire.submit_line.into(),
        launch: hash_in("launch", &wire.launch)?,
        key: key_in(&wire.key)?,
        ranks: wire.ranks.into_iter().map(|ranks| ranks.ranks).collect(),
    })
}

pub(crate) fn step_out(step: &Step) -> w::Step {
    use w::step_node::Stage;
    let node = |part: &StepNode| w::StepNode {
        node: part.node.0,
        stage: match part.stage {
            RunStage::Ordered => Stage::Ordered,
            RunStage::Begun => Stage::Begun,
            RunStage::Ended => Stage::Ended,
            RunStage::Unknown => Stage::Unknown,
        }
        .into(),
    };
    w::Step {
        id: Some(id_out(step.id)),
        spec: step.spec.as_deref().map(spec_out),
        start_ms: step.start.0,
        allocation: allocation_out(&step.allocation),
        nodes: step.nodes.iter().map(node).collect(),
        end_ms: step.end.map(|end| end.0),
        state: state_out(step.state),
        exit: Some(exit_out(step.exit)),
        by: step.by.map(|uid| uid.0),
        stop: step.stop.map_or(w::StopCause::StopNone, cause_out).into(),
        usage: usage_out(&step.usage),
        held: step
            .held
            .iter()
            .map(|(node, text)| w::HeldTo { node: node.0, text: text.to_string() })
            .collect(),
    }
}

pub(crate) fn step_in(wire: w::Step) -> Result<Step, Error> {
    use w::step_node::Stage;
    let node = |part: w::StepNode| {
        let stage = match Stage::try_from(part.stage) {
            Ok(Stage::Ordered) => RunStage::Ordered,
            Ok(Stage::Begun) => RunStage::Begun,
            Ok(Stage::Ended) => RunStage::Ended,
            Ok(Stage::Unknown) => RunStage::Unknown,
            Ok(Stage::Newer) | Err(_) => return Err(Error::Field { field: "stage" }),
        };
        Ok(StepNode { node: NodeIdx(part.node), stage })
    };
    Ok(Step {
        id: id_in(wire.id)?,
        spec: wire.spec.map(|spec| spec_in(spec).map(Arc::new)).transpose()?,
        start: Timestamp(wire.start_ms),
        allocation: allocation_in(wire.allocation)?,
        nodes: wire.nodes.into_iter().map(node).collect::<Result<_, Error>>()?,
        end: wire.end_ms.map(Timestamp),
        state: state_in(&wire.state)?,
        exit: exit_in(wire.exit)?,
        by: wire.by.map(Uid),
        stop: cause_in(wire.stop)?,
        usage: usage_in(wire.usage)?,
        held: wire.held.into_iter().map(|held| (NodeIdx(held.node), held.text.into())).collect(),
    })
}

pub(crate) fn created_in(wire: w::StepCreated) -> Result<Record, Error> {
    let step = step_in(need("step", wire.step)?)?;
    Ok(Record::StepCreated { job: JobId(wire.job), step: Arc::new(step) })
}

pub(crate) fn part_out(job: JobId, step: StepId, node: NodeIdx) -> w::StepPart {
    w::StepPart { job: job.0, step: Some(id_out(step)), node: node.0 }
}

/// Job, step and node of a part.
pub(crate) fn part_in(wire: w::StepPart) -> Result<(JobId, StepId, NodeIdx), Error> {
    Ok((JobId(wire.job), id_in(wire.step)?, NodeIdx(wire.node)))
}

pub(crate) fn node_ended_in(wire: w::StepNodeEnded) -> Result<Record, Error> {
    Ok(Record::StepNodeEnded {
        job: JobId(wire.job),
        step: id_in(wire.step)?,
        node: NodeIdx(wire.node),
        exit: exit_in(wire.exit)?,
        usage: usage_in(wire.usage)?,
        held: wire.held.into(),
    })
}

pub(crate) fn stopping_out(job: JobId, step: StepId, cause: StopCause, by: Option<Uid>) -> w::StepStopping {
    w::StepStopping {
        job: job.0,
        step: Some(id_out(step)),
        cause: cause_out(cause).into(),
        by: by.map(|uid| uid.0),
    }
}

pub(crate) fn stopping_in(wire: w::StepStopping) -> Result<Record, Error> {
    Ok(Record::StepStopping {
        job: JobId(wire.job),
        step: id_in(wire.step)?,
        cause: need("cause", cause_in(wire.cause)?)?,
        by: wire.by.map(Uid),
    })
}

pub(crate) fn ended_in(wire: w::StepEnded) -> Result<Record, Error> {
    Ok(Record::StepEnded {
        job: JobId(wire.job),
        step: id_in(wire.step)?,
        state: state_in(&wire.state)?,
        exit: exit_in(wire.exit)?,
        at: Timestamp(wire.at_ms),
    })
}
