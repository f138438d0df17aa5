//! `CreateStepRequest` → `StepRequest`, and the answer outwards.

use model::id::{BodyHash, RequestKey};
use model::quantity::MemoryMib;
use model::time::Span;
use proto::convert::Error;
use proto::convert::request::gres_list_inwards;
use proto::v1;
use scheduler_core::input::StepRequest;

/// Reads what is asked for a step. `launch` is the address of the encoded TaskLaunch.
///
/// # Errors
/// Lists that are too long.
pub fn inwards(
    from: v1::StepRequest,
    key: Option<RequestKey>,
    launch: Option<BodyHash>,
) -> Result<StepRequest, Error> {
    let nodes = match (from.nodes_min, from.nodes_max) {
        (Some(min), max) => Some((min, max)),
        (None, Some(max)) => Some((1, Some(max))),
        (None, None) => None,
    };
    let text = |value: Option<String>| value.map(String::into_boxed_str);
    Ok(StepRequest {
        key,
        name: from.name.into(),
        ntasks: from.ntasks,
        nodes,
        cpus_per_task: from.cpus_per_task,
        ntasks_per_node: from.ntasks_per_node,
        memory_per_node: from.memory_mib_per_node.map(MemoryMib),
        memory_per_cpu: from.memory_mib_per_cpu.map(MemoryMib),
        nodelist: text(from.nodelist),
        exclude: text(from.exclude),
        gres_per_node: gres_list_inwards("gres_per_node", from.gres_per_node)?,
        gres_none: from.gres_none,
        gpus_per_job: gres_list_inwards("gpus_per_job", from.gpus_per_job)?,
        gpus_per_task: gres_list_inwards("gpus_per_task", from.gpus_per_task)?,
        exclusive: from.exclusive,
        exact: from.exact,
        overlap: from.overlap,
        overcommit: from.overcommit,
        whole: from.whole,
        relative: from.relative,
        limit: from.time_limit_ms.filter(|ms| *ms >= 0).map(Span),
        distribution: text(from.distribution),
        work_dir: from.work_dir.into(),
        submit_line: from.submit_line.into(),
        launch,
    })
}
