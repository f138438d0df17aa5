//! Rows of reservations, and which nodes they have now.

use std::collections::BTreeMap;

use model::hostlist;
use model::id::NodeIdx;
use model::time::Timestamp;
use proto::v1;
use scheduler_core::state::State;
use scheduler_core::state::reservation::{Repeat, Reservation};

/// Slurm's words for what is said of a reservation, in its order.
fn flags(row: &Reservation) -> String {
    let said = [
        ("MAINT", row.maintenance),
        ("OVERLAP", row.overlap),
        ("IGNORE_JOBS", row.ignore_jobs),
        ("DAILY", row.repeat == Repeat::Daily),
        ("WEEKLY", row.repeat == Repeat::Weekly),
        ("SPEC_NODES", row.named_nodes),
    ];
    let words: Vec<&str> = said.iter().filter(|(_, is)| *is).map(|(word, _)| *word).collect();
    words.join(",")
}

/// The row of one. `now`: wall time.
#[must_use]
pub fn row(state: &State, name: &str, row: &Reservation, now: Timestamp) -> v1::Reservation {
    let definitions = || row.nodes.iter().map(|node| &state.node(*node).definition);
    let names: Vec<&str> = definitions().map(|node| &*node.name).collect();
    v1::Reservation {
        name: name.to_owned(),
        start_ms: row.start.0,
        end_ms: row.end.0,
        active: row.is_active(now),
        nodes: hostlist::compress_sorted(&names),
        node_count: u32::try_from(names.len()).unwrap_or(u32::MAX),
        core_count: definitions().map(|node| node.sockets.saturating_mul(node.cores_per_socket)).sum(),
        cpu_count: definitions().map(|node| node.cpus.0).sum(),
        partition: row.partition.to_string(),
        users: row.users.iter().map(|(user, _)| user.to_string()).collect(),
        accounts: row.accounts.iter().map(ToString::to_string).collect(),
        flags: flags(row),
    }
}

/// Nodes of reservations that are in force at a wall time; `true`: for maintenance.
#[must_use]
pub fn nodes(state: &State, now: Timestamp) -> BTreeMap<NodeIdx, bool> {
    let mut found = BTreeMap::new();
    for row in state.reservations.values().filter(|row| row.is_active(now)) {
        for node in &row.nodes {
            *found.entry(*node).or_insert(false) |= row.maintenance;
        }
    }
    found
}
