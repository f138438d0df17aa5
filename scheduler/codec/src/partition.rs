//! Partitions.

use std::sync::Arc;

use model::id::PartitionIdx;
use model::quantity::MemoryMib;
use model::time::Span;
use proto::journal_v1 as w;
use scheduler_core::record::Record;
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};
use w::partition_definition as wire;

use crate::allocation::{words_in, words_out};
use crate::error::{Error, need};

pub(crate) fn defined_out(
    partition: PartitionIdx,
    definition: &PartitionDefinition,
    changed_at_run_time: bool,
) -> w::PartitionDefined {
    w::PartitionDefined {
        partition: partition.0,
        definition: Some(definition_out(definition)),
        changed_at_run_time,
    }
}

fn definition_out(from: &PartitionDefinition) -> w::PartitionDefinition {
    let state = match from.state {
        PartitionState::Up => wire::State::Up,
        PartitionState::Down => wire::State::Down,
        PartitionState::Drain => wire::State::Drain,
        PartitionState::Inactive => wire::State::Inactive,
    };
    let (oversubscribe, oversubscribe_jobs) = match from.oversubscribe {
        OverSubscribe::No => (wire::OverSubscribe::No, 0),
        OverSubscribe::Exclusive => (wire::OverSubscribe::Exclusive, 0),
        OverSubscribe::Yes(jobs) => (wire::OverSubscribe::Yes, jobs),
        OverSubscribe::Force(jobs) => (wire::OverSubscribe::Force, jobs),
    };
    let preempt_mode = match from.preempt_mode {
        PreemptMode::Off => wire::PreemptMode::Off,
        PreemptMode::Requeue => wire::PreemptMode::Requeue,
        PreemptMode::Cancel => wire::PreemptMode::Cancel,
        PreemptMode::Suspend => wire::PreemptMode::Suspend,
    };
    let pair =
        |(key, value): &(Box<str>, Box<str>)| w::Pair { key: key.to_string(), value: value.to_string() };
    w::PartitionDefinition {
        name: from.name.to_string(),
        nodes: words_out(&from.nodes),
        nodes_text: from.nodes_text.to_string(),
        is_default: from.is_default,
        hidden: from.hidden,
        state: state.into(),
        max_time_ms: from.max_time.map(|span| span.0),
        default_time_ms: from.default_time.map(|span| span.0),
        min_nodes: from.min_nodes,
        max_nodes: from.max_nodes,
        max_cpus_per_node: from.max_cpus_per_node,
        priority_tier: from.priority_tier,
        priority_job_factor: from.priority_job_factor,
        oversubscribe: oversubscribe.into(),
        oversubscribe_jobs,
        preempt_mode: preempt_mode.into(),
        grace_ms: from.grace.0,
        allow_accounts: words_out(&from.allow_accounts),
        deny_accounts: words_out(&from.deny_accounts),
        allow_groups: words_out(&from.allow_groups),
        allow_qos: words_out(&from.allow_qos),
        deny_qos: words_out(&from.deny_qos),
        root_only: from.root_only,
        disable_root_jobs: from.disable_root_jobs,
        def_mem_per_cpu_mib: from.def_mem_per_cpu.map(|amount| amount.0),
        def_mem_per_node_mib: from.def_mem_per_node.map(|amount| amount.0),
        max_mem_per_cpu_mib: from.max_mem_per_cpu.map(|amount| amount.0),
        max_mem_per_node_mib: from.max_mem_per_node.map(|amount| amount.0),
        shown: from.shown.iter().map(pair).collect(),
    }
}

pub(crate) fn defined_in(from: w::PartitionDefined) -> Result<Record, Error> {
    let definition = definition_in(need("definition", from.definition)?)?;
    Ok(Record::PartitionDefined {
        partition: PartitionIdx(from.partition),
        definition: Arc::new(definition),
        changed_at_run_time: from.changed_at_run_time,
    })
}

fn definition_in(from: w::PartitionDefinition) -> Result<PartitionDefinition, Error> {
    let unknown = |field| Err(Error::Field { field });
    let state = match wire::State::try_from(from.state) {
        Ok(wire::State::Up) => PartitionState::Up,
        Ok(wire::State::Down) => PartitionState::Down,
        Ok(wire::State::Drain) => PartitionState::Drain,
        Ok(wire::State::Inactive) => PartitionState::Inactive,
        Ok(wire::State::Newer) | Err(_) => return unknown("state"),
    };
    let oversubscribe = match wire::OverSubscribe::try_from(from.oversubscribe) {
        Ok(wire::OverSubscribe::No) => OverSubscribe::No,
        Ok(wire::OverSubscribe::Exclusive) => OverSubscribe::Exclusive,
        Ok(wire::OverSubscribe::Yes) => OverSubscribe::Yes(from.oversubscribe_jobs),
        Ok(wire::OverSubscribe::Force) => OverSubscribe::Force(from.oversubscribe_jobs),
        Ok(wire::OverSubscribe::OversubscribeNewer) | Err(_) => return unknown("oversubscribe"),
    };
    let preempt_mode = match wire::PreemptMode::try_from(from.preempt_mode) {
        Ok(wire::PreemptMode::Off) => PreemptMode::Off,
        Ok(wire::PreemptMode::Requeue) => PreemptMode::Requeue,
        Ok(wire::PreemptMode::Cancel) => PreemptMode::Cancel,
        Ok(wire::PreemptMode::Suspend) => PreemptMode::Suspend,
        Ok(wire::PreemptMode::PreemptNewer) | Err(_) => return unknown("preempt_mode"),
    };
    Ok(PartitionDefinition {
        name: from.name.into(),
        nodes: words_in(from.nodes),
        nodes_text: from.nodes_text.into(),
        is_default: from.is_default,
        hidden: from.hidden,
        state,
        max_time: from.max_time_ms.map(Span),
        default_time: from.default_time_ms.map(Span),
        min_nodes: from.min_nodes,
        max_nodes: from.max_nodes,
        max_cpus_per_node: from.max_cpus_per_node,
        priority_tier: from.priority_tier,
        priority_job_factor: from.priority_job_factor,
        oversubscribe,
        preempt_mode,
        grace: Span(from.grace_ms),
        allow_accounts: words_in(from.allow_accounts),
        deny_accounts: words_in(from.deny_accounts),
        allow_groups: words_in(from.allow_groups),
        allow_qos: words_in(from.allow_qos),
        deny_qos: words_in(from.deny_qos),
        root_only: from.root_only,
        disable_root_jobs: from.disable_root_jobs,
        def_mem_per_cpu: from.def_mem_per_cpu_mib.map(MemoryMib),
        def_mem_per_node: from.def_mem_per_node_mib.map(MemoryMib),
        max_mem_per_cpu: from.max_mem_per_cpu_mib.map(MemoryMib),
        max_mem_per_node: from.max_mem_per_node_mib.map(MemoryMib),
        shown: from.shown.into_iter().map(|pair| (pair.key.into(), pair.value.into())).collect(),
    })
}
