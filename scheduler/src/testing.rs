//! Values for the tests of this package.

use std::collections::BTreeMap;

use model::quantity::MemoryMib;
use model::time::Span;
use scheduler_core::settings::{Enforce, PriorityWeights, Settings};

/// A configuration without nodes and partitions.
pub(crate) fn settings() -> Settings {
    Settings {
        cluster: "test".into(),
        nodes: Vec::new(),
        partitions: Vec::new(),
        dynamic_nodes: true,
        administrators: Vec::new(),
        kill_wait: Span::from_secs(2),
        min_job_age: Span::from_secs(300),
        first_job_id: 1,
        max_job_id: 0x03ff_0000,
        max_job_count: 10_000,
        max_array_size: 1001,
        requeue_default: true,
        requeue_delay: Span::from_secs(1),
        def_mem_per_cpu: Some(MemoryMib(1)),
        def_mem_per_node: None,
        licenses: BTreeMap::new(),
        enforce: Enforce::default(),
        weights: PriorityWeights::default(),
        priority_max_age: Span::from_mins(7 * 24 * 60),
        multifactor: false,
        node_timeout: Span::from_secs(300),
        requeue_without_evidence: false,
        return_to_service: 2,
        enforce_partition_limits: false,
        kill_invalid_dependency: false,
        whole_cores: true,
        track_memory: true,
        backfill_depth: 100,
        tres: Vec::new(),
        lease_grace: Span::from_secs(10),
    }
}
