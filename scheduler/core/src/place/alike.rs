//! Which requests are the same to placement: nothing that it reads of them differs.
//!
//! Owns the list of those fields, and of time what lets a run be shorter than its limit. A field that placement begins to read belongs here too.

use std::hash::Hash;

use model::request::{JobRequest, Rare};

use crate::job::start::least_limit;

/// Whether two requests ask for the same of nodes, but for limits, partitions and memory after defaults.
pub(crate) fn same_placement(one: &JobRequest, other: &JobRequest) -> bool {
    one.nodes == other.nodes
        && one.ntasks == other.ntasks
        && one.cpus_per_task == other.cpus_per_task
        && one.ntasks_per_node == other.ntasks_per_node
        && one.sharing == other.sharing
        && one.constraint == other.constraint
        && same(&one.gres_per_node, &other.gres_per_node)
        && same(&one.gpus_per_job, &other.gpus_per_job)
        && same(&one.gpus_per_node, &other.gpus_per_node)
        && same(&one.gpus_per_task, &other.gpus_per_task)
        && same(&one.gpus_per_socket, &other.gpus_per_socket)
        && match (&one.rare, &other.rare) {
            (None, None) => true,
            _ => rare_key(one.rare()) == rare_key(other.rare()),
        }
}

/// Whether two lists are equal; those of most requests are empty, which the library's test finds out by a call.
#[inline]
fn same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// What placement reads of the rare fields, and how far a run may be shortened.
pub(crate) fn rare_key(rare: &Rare) -> impl PartialEq + Hash + '_ {
    (
        least_limit(rare),
        (&rare.nodelist, &rare.exclude, &rare.tres_per_task, &rare.distribution, &rare.hint),
        (rare.tmp_mib, rare.sockets_per_node, rare.cores_per_socket, rare.threads_per_core),
        (rare.ntasks_per_socket, rare.ntasks_per_core, rare.ntasks_per_gpu, rare.min_cpus_per_node),
        (
            (rare.cpus_per_gpu, &rare.gres_flags),
            (rare.contiguous, rare.use_min_nodes),
            rare.spread_job,
            (rare.overcommit, &rare.reservation, rare.segment),
            rare.switches.map(|(n, wait)| (n, wait.map(|wait| wait.0))),
        ),
    )
}
