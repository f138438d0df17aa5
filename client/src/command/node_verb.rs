//! `sluice node [NAME…]`: what is known of nodes, and what they cannot enforce.

use proto::v1::Node;

use super::{Call, block_on, node};
use crate::table::units::memory;
use crate::{local, say};

/// Runs the verb: 0, 1 where nobody answers or a node is not there.
pub(crate) fn run(call: &Call) -> u8 {
    let names: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let answer = block_on(async { super::connect_to_ask().await?.list_nodes(Vec::new()).await });
    let nodes = match answer {
        Ok(nodes) => nodes,
        Err(error) => {
            say::error(&call.program, say::reason(&error));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    let mut status = 0;
    for name in &names {
        if !nodes.iter().any(|node| node.name == *name) {
            say::error(&call.program, format!("node {name} is not known"));
            status = 1;
        }
    }
    let chosen = nodes.iter().filter(|node| names.is_empty() || names.contains(&node.name));
    say::out(chosen.map(text).collect::<String>());
    status
}

fn text(node: &Node) -> String {
    let mut out = format!("{}: {}\n", node.name, node::long(node));
    let mut line = |key: &str, value: String| out.push_str(&format!("  {key:<9} {value}\n"));
    line("host", format!("{} ({} {})", node.hostname, node.os, node.architecture));
    line(
        "cpus",
        format!(
            "{} of {} in use ({} sockets, {} cores each, {} threads each)",
            node.cpus_allocated, node.cpus, node.sockets, node.cores_per_socket, node.threads_per_core
        ),
    );
    let free = node
        .memory_free_mib
        .map_or_else(String::new, |mib| format!(", {} free on the machine", memory(mib, true)));
    line(
        "memory",
        format!(
            "{} of {} promised{free}",
            memory(node.memory_allocated_mib, true),
            memory(node.memory_mib, true)
        ),
    );
    if !node.gres.is_empty() {
        line(
            "devices",
            format!(
                "{} (in use: {})",
                node.gres,
                if node.gres_used.is_empty() { "none" } else { &node.gres_used }
            ),
        );
    }
    if let Some(ms) = node.executor_start_ms {
        line("executor", format!("{} since {}", node.version, local::date(ms)));
    }
    if !node.reason.is_empty() {
        line("reason", node.reason.clone());
    }
    if !node.cgroups.is_empty() {
        line("cgroups", node.cgroups.clone());
    }
    node.attested.iter().for_each(|held| line("attested", held.clone()));
    if !node.containers.is_empty() {
        line("containers", node.containers.clone());
    }
    node.lacks.iter().for_each(|lack| line("lacks", lack.clone()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let node = Node {
            name: "n1".into(),
            state: "IDLE".into(),
            cpus: 4,
            memory_mib: 2048,
            cgroups: "v1 (cpuset)".into(),
            attested: vec!["cores outside the set are refused".into()],
            lacks: vec!["memory limits are not enforced: no cgroup can be made".into()],
            ..Node::default()
        };
        let text = text(&node);
        assert!(text.starts_with("n1: idle\n"), "{text}");
        assert!(
            text.ends_with("  lacks     memory limits are not enforced: no cgroup can be made\n"),
            "{text}"
        );
    }
}
