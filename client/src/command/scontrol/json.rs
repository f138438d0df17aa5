//! `scontrol show … --json`, in the shape of Slurm's data parser.

use proto::v1::{Job, Node, Partition};

/// Jobs.
pub(super) fn jobs(jobs: &[Job], now_ms: i64) -> String {
    let _ = (jobs, now_ms);
    String::new()
}

/// Nodes.
pub(super) fn nodes(nodes: &[Node]) -> String {
    let _ = nodes;
    String::new()
}

/// Partitions.
pub(super) fn partitions(partitions: &[Partition]) -> String {
    let _ = partitions;
    String::new()
}
