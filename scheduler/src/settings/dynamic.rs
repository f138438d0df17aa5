//! A cluster without files: its settings follow the nodes that register.
//!
//! The partition holds every node that has come, and the default memory for each CPU is the smallest
//! share that any node has, so that jobs run side by side everywhere.

use std::sync::Arc;

use model::id::NodeIdx;
use model::quantity::{Cpus, MemoryMib};
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::node::NodeDefinition;

/// CPUs that this process may use, by affinity and cgroup.
#[must_use]
pub fn cpus_here() -> Cpus {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Cpus(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Memory that this process may use: the machine's, or its cgroup's limit where that is less.
#[must_use]
pub fn memory_here() -> MemoryMib {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_kib(&text));
    let machine = machine.unwrap_or(1024 * 1024) / 1024;
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .map(|bytes| bytes >> 20)
        .min();
    MemoryMib(group.map_or(machine, |group| group.min(machine)).max(1))
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The settings with the nodes that the state knows.
#[must_use]
pub fn with_known(settings: &Arc<Settings>, state: &State) -> Arc<Settings> {
    if !settings.dynamic_nodes {
        return Arc::clone(settings);
    }
    let mut adapted = Settings::clone(settings);
    for node in (0..state.nodes.len() as u32).map(|place| state.node(NodeIdx(place))) {
        add(&mut adapted, &node.definition);
    }
    Arc::new(adapted)
}

/// The settings with one more node; `None` where nothing changes.
#[must_use]
pub fn with_node(settings: &Settings, node: &NodeDefinition) -> Option<Arc<Settings>> {
    if !settings.dynamic_nodes {
        return None;
    }
    let mut adapted = settings.clone();
    add(&mut adapted, node);
    (adapted != *settings).then(|| Arc::new(adapted))
}

fn add(settings: &mut Settings, node: &NodeDefinition) {
    for partition in &mut settings.partitions {
        if &*partition.nodes_text == "ALL" && !partition.nodes.contains(&node.name) {
            partition.nodes.push(node.name.clone());
        }
    }
    let share = MemoryMib(node.memory.0 / u64::from(node.cpus.0.max(1)));
    if let Some(smallest) = &mut settings.def_mem_per_cpu {
        *smallest = (*smallest).min(share.max(MemoryMib(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_machine() {
        assert_eq!(total_kib("MemFree: 1 kB\nMemTotal:  2048 kB\n"), Some(2048));
        assert!(memory_here() > MemoryMib(0) && cpus_here() > Cpus(0));
    }

    #[test]
    fn a_new_node_joins_and_shares_its_memory() {
        let settings = super::super::loaded::without_files().settings;
        let node = NodeDefinition {
            name: "n1".into(),
            hostname: "n1".into(),
            address: "n1".into(),
            port: 0,
            cpus: Cpus(4),
            boards: 1,
            sockets: 1,
            cores_per_socket: 4,
            threads_per_core: 1,
            memory: MemoryMib(8),
            tmp_disk: MemoryMib(0),
            features: Vec::new(),
            gres: Vec::new(),
            weight: 1,
            bind: true,
        };
        let adapted = with_node(&settings, &node).unwrap();
        assert_eq!(adapted.partitions[0].nodes, [Box::from("n1")]);
        assert_eq!(adapted.def_mem_per_cpu, Some(MemoryMib(2)));
        assert!(with_node(&adapted, &node).is_none());
    }
}
