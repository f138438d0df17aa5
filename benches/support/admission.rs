//! A machine that takes submissions in and starts nothing: for what measures admission.

use std::sync::Arc;

use model::id::{BodyHash, Epoch, Gid, RequestKey, Uid};
use model::request::JobRequest;
use scheduler_core::effect::{Asker, ReplyTo};
use scheduler_core::input::{Input, Submit};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::settings::{PriorityWeights, Settings};
use scheduler_core::state::State;
use scheduler_sim::grid::{Fill, Instance, NOW};

/// A machine over the grid's nodes, none of which has registered, so that jobs wait; ages count.
#[must_use]
pub fn machine(instance: &Instance) -> (Machine, Arc<Settings>) {
    let empty = Instance { jobs: Vec::new(), ..instance.clone() }.state(Fill::Empty);
    let nodes = empty.nodes.iter().map(|node| (*node.definition).clone()).collect();
    let partitions = empty.partitions.iter().flatten().map(|one| (*one.definition).clone()).collect();
    let settings = Arc::new(Settings {
        nodes,
        partitions,
        weights: PriorityWeights { age: 1000, ..PriorityWeights::default() },
        max_job_count: u32::MAX,
        max_array_size: 10_000_001,
        max_array_tasks: u32::MAX,
        ..instance.settings()
    });
    let mut machine = Machine::new(State::default());
    let mut out = Outbox::default();
    machine.handle(NOW, Input::Owned(Epoch(1)), &mut out);
    machine.handle(NOW, Input::Configure(Arc::clone(&settings)), &mut out);
    (machine, settings)
}

/// A call that submits a request; `place` is its key and where the answer goes.
#[must_use]
pub fn submit(place: u64, request: Arc<JobRequest>) -> Input {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&place.to_le_bytes());
    let asker = Asker { uid: Uid(1000), gid: Gid(1000), name: "u1000".into(), groups: Arc::from([]) };
    Input::Submit(Box::new(Submit {
        reply: ReplyTo(place),
        asker,
        key: RequestKey(key),
        request,
        script: Some(BodyHash([1; 32])),
        environment: BodyHash([2; 32]),
        alloc_sid: 0,
        test_only: false,
    }))
}
