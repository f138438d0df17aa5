//! Nodes with GPUs for tests: what they declare, what a driver shows of them, and what jobs got.

use model::gpu::Gpu;
use model::gres::parse_list;
use model::id::JobId;
use model::request::JobRequest;
use model::time::Span;
use scheduler_core::allocation::GresShare;
use scheduler_core::input::Input;
use scheduler_core::settings::Settings;
use scheduler_core::state::node::{GresDefinition, NodeDefinition};

use super::{World, job, node, settings};

/// `gpu:a100:2,shard:8` as a node declares it.
pub(crate) fn kinds(text: &str) -> Vec<GresDefinition> {
    let one = |one: model::gres::GresRequest| GresDefinition {
        indexed: one.is_gpu(),
        name: one.name,
        kind: one.kind.unwrap_or_default(),
        count: one.count,
    };
    parse_list(text).unwrap().into_iter().map(one).collect()
}

/// Nodes of 32 CPUs with what the text declares and these GPUs; none: no driver shows any.
pub(crate) fn world_with(nodes: &[(&str, &str, Vec<Gpu>)], more: impl FnOnce(Settings) -> Settings) -> World {
    let definition = |(name, gres, _): &(&str, &str, Vec<Gpu>)| NodeDefinition {
        gres: kinds(gres),
        ..node(name, 32, 64_000)
    };
    let definitions: Vec<NodeDefinition> = nodes.iter().map(definition).collect();
    let mut world = World::with(more(Settings { backfill_depth: 100, ..settings(&definitions) }));
    world.keeps = true;
    for (name, _, gpus) in nodes.iter().filter(|(_, _, gpus)| !gpus.is_empty()) {
        let node = world.node(name);
        world.input(Input::GpusObserved { node, gpus: gpus.clone() });
    }
    world
}

/// `--gres=TEXT -t MINUTES`.
pub(crate) fn wants(gres: &str, minutes: i64) -> JobRequest {
    JobRequest {
        gres_per_node: parse_list(gres).unwrap(),
        time_limit: Some(Some(Span::from_mins(minutes))),
        ..job()
    }
}

/// What a running job holds of devices, on all its nodes.
pub(crate) fn shares(world: &World, id: JobId) -> Vec<GresShare> {
    let active = world.machine.state().jobs[&id].active().expect("the test asks of a running job");
    active.allocation.iter().flat_map(|share| share.gres.clone()).collect()
}
