//! State ← record: the only place where state changes. It decides nothing.
//!
//! A record that does not fit the state is a bug (or a damaged journal): it asserts, which stops
//! recovery with the segment and offset. Each record keeps [`crate::state::Index`] and the nodes'
//! [`crate::state::node::Used`] in step with the facts.

mod job;
mod usage;

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};

use crate::gpu::inventory::Inventory;
use crate::gpu::shards::Shards;
use crate::record::Record;
use crate::state::State;
use crate::state::accounts::Accounts;
use crate::state::aging::Aging;
use crate::state::node::{Admin, Link, Node, NodeDefinition, Observed, Used};
use crate::state::partition::{Partition, PartitionDefinition};

/// Makes one fact true whose record nobody needs afterwards: a job is moved in, not copied. See [`apply`].
///
/// # Panics
/// If the record does not fit the state.
pub fn apply_owned(state: &mut State, record: Record) {
    match record {
        Record::Job(job) => job::put(state, job),
        other => apply(state, &other),
    }
}

/// Makes one fact true.
///
/// Cost: O(log jobs) for job records, and O(nodes of the allocation) where resources change hands;
/// O(jobs × log jobs) for a partition that changes its tier.
///
/// # Panics
/// If the record does not fit the state.
pub fn apply(state: &mut State, record: &Record) {
    match record {
        Record::Time(now) => {
            assert!(*now >= state.now, "time never decreases");
            state.now = *now;
        }
        Record::Owner(epoch) => {
            assert!(*epoch >= state.epoch, "an owner's epoch never decreases");
            state.epoch = *epoch;
        }
        Record::NextJobId(id) => {
            state.id_wraps += u32::from(*id < state.next_job_id);
            state.next_job_id = *id;
        }
        Record::IdWraps(times) => state.id_wraps = *times,
        Record::Restored(below) => state.restored = Some(*below),
        Record::Stranger { node, run, there: true } => {
            assert!((node.0 as usize) < state.nodes.len(), "a stranger's node is known");
            state.strangers.insert((*run, *node));
        }
        Record::Stranger { node, run, there: false } => {
            state.strangers.remove(&(*run, *node));
        }
        Record::Aging(aging) => age(state, *aging),
        Record::Predicting(made) => state.predictions.make(*made),
        Record::LastRuns(user, runs) => {
            state.predictions.runs.insert(*user, *runs);
        }
        Record::SlicesAsked { asked, told } => state.slices.set(asked.clone(), *told),
        Record::WallAhead(span) => state.wall_ahead = *span,
        Record::NodeDefined { .. }
        | Record::NodeAdmin { .. }
        | Record::NodeLink { .. }
        | Record::NodeRegistered { .. }
        | Record::NodeBusy { .. } => apply_node(state, record),
        Record::PartitionDefined { partition, definition, changed_at_run_time } => {
            define_partition(state, *partition, definition, *changed_at_run_time);
        }
        Record::PartitionRemoved(idx) => {
            let old = state.partitions[idx.0 as usize].take().expect("a partition is removed once");
            state.index.partition_by_name.remove(&old.definition.name);
        }
        Record::Charged(charge) => state.spending.charge(charge),
        Record::Reservation(name, row) => {
            match row {
                Some(row) => state.reservations.insert(name.clone(), Arc::clone(row)),
                None => state.reservations.remove(name),
            };
            state.promises.give_back(state.now);
        }
        Record::Promises { changes, given_back } => {
            for change in changes {
                let waits = state.jobs.get(&change.job).is_some_and(|job| job.pending().is_some());
                assert!(waits, "promises are made to waiting jobs");
            }
            state.promises.change(changes, *given_back);
        }
        Record::Cluster(..)
        | Record::Account(..)
        | Record::User(..)
        | Record::Association(..)
        | Record::Qos(..)
        | Record::AccountNumbers { .. } => apply_accounts(&mut state.accounts, record),
        Record::Job(_)
        | Record::Array { .. }
        | Record::ElementSplit { .. }
        | Record::JobPriority { .. }
        | Record::JobWaits { .. }
        | Record::JobStarted { .. }
        | Record::JobLimit { .. }
        | Record::JobConfiguring { .. }
        | Record::JobSuspended { .. }
        | Record::JobFinishing { .. }
        | Record::JobEnded { .. }
        | Record::JobRequeued { .. }
        | Record::JobPurged(_)
        | Record::StepCreated { .. }
        | Record::StepBegun { .. }
        | Record::StepUnknown { .. }
        | Record::StepNodeEnded { .. }
        | Record::StepStopping { .. }
        | Record::StepEnded { .. } => job::apply_job(state, record),
    }
}

/// The queue in the order of other ages. Cost: O(waiting jobs), and their sorting as far as they move.
fn age(state: &mut State, aging: Aging) {
    state.aging = aging;
    let before: Vec<_> = state.index.queue.iter().copied().collect();
    for old in before {
        let new = state.queue_key(&state.jobs[&old.job]);
        if new != old {
            state.index.queue.remove(&old);
            state.index.queue.insert(new);
        }
    }
}

fn apply_node(state: &mut State, record: &Record) {
    let serving = |state: &State, node: &NodeIdx| {
        state.nodes.get(node.0 as usize).is_some_and(|node| node.is_available())
    };
    let (Record::NodeDefined { node, .. }
    | Record::NodeAdmin { node, .. }
    | Record::NodeLink { node, .. }
    | Record::NodeRegistered { node, .. }
    | Record::NodeBusy { node, .. }) = record
    else {
        unreachable!("only node records come here");
    };
    let before = serving(state, node);
    change_node(state, record);
    let offers = matches!(record, Record::NodeDefined { .. } | Record::NodeRegistered { .. });
    if serving(state, node) && (!before || offers) {
        state.promises.give_back(state.now);
    }
}

fn change_node(state: &mut State, record: &Record) {
    match record {
        Record::NodeDefined { node, definition, removed } => define_node(state, *node, definition, *removed),
        Record::NodeAdmin { node, admin } => node_mut(state, *node).admin = admin.clone(),
        Record::NodeLink { node, link } => node_mut(state, *node).link = *link,
        Record::NodeRegistered { node, incarnation, observed } => {
            let node = node_mut(state, *node);
            node.incarnation = Some(*incarnation);
            node.observed = Arc::clone(observed);
            take_stock(node);
        }
        Record::NodeBusy { node, at } => node_mut(state, *node).last_busy = Some(*at),
        _ => unreachable!("only node records come here"),
    }
}

fn node_mut(state: &mut State, idx: NodeIdx) -> &mut Node {
    &mut state.nodes[idx.0 as usize]
}

fn define_node(state: &mut State, idx: NodeIdx, definition: &Arc<NodeDefinition>, removed: bool) {
    let place = idx.0 as usize;
    assert!(place <= state.nodes.len(), "places of nodes are given in order");
    if place == state.nodes.len() {
        let earlier = state.index.node_by_name.insert(definition.name.clone(), idx);
        assert!(earlier.is_none(), "a node name has one place");
        state.nodes.push(Node {
            definition: Arc::clone(definition),
            removed,
            admin: Admin::default(),
            link: Link::Never,
            incarnation: None,
            observed: Arc::new(Observed::default()),
            last_busy: None,
            inventory: None,
            shards: None,
            used: Used::default(),
        });
    } else {
        let node = &mut state.nodes[place];
        assert_eq!(node.definition.name, definition.name, "a place keeps its node name");
        node.definition = Arc::clone(definition);
        node.removed = removed;
    }
    take_stock(&mut state.nodes[place]);
    usage::resize(&mut state.nodes[place]);
    let name = &definition.name;
    let partitions = &mut state.partitions;
    for partition in partitions.iter_mut().flatten() {
        if partition.definition.nodes.contains(name) && !partition.nodes.contains(&idx) {
            partition.nodes = nodes_of(&state.index.node_by_name, &partition.definition);
        }
    }
}

/// What the GPUs of a node offer follows from what it declares and what was observed.
pub(crate) fn take_stock(node: &mut Node) {
    let inventory = Inventory::of(&node.definition, &node.observed.gpus);
    if node.inventory.as_deref() != inventory.as_ref() {
        node.inventory = inventory.map(Arc::new);
    }
    let shards = Shards::of(&node.definition, node.inventory.as_deref());
    if node.shards.as_deref() != shards.as_ref() {
        node.shards = shards.map(Arc::new);
    }
}

fn nodes_of(
    by_name: &std::collections::BTreeMap<Box<str>, NodeIdx>,
    definition: &PartitionDefinition,
) -> Arc<[NodeIdx]> {
    let mut nodes: Vec<NodeIdx> =
        definition.nodes.iter().filter_map(|name| by_name.get(name).copied()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into()
}

fn define_partition(
    state: &mut State,
    idx: PartitionIdx,
    definition: &Arc<PartitionDefinition>,
    changed_at_run_time: bool,
) {
    let place = idx.0 as usize;
    assert!(place <= state.partitions.len(), "places of partitions are given in order");
    if place == state.partitions.len() {
        state.partitions.push(None);
    }
    let old_tier = state.partition(idx).map(|old| old.definition.priority_tier);
    let requeue: Vec<_> = match old_tier {
        Some(tier) if tier != definition.priority_tier => state.index.queue.iter().copied().collect(),
        _ => Vec::new(),
    };
    let nodes = nodes_of(&state.index.node_by_name, definition);
    state.index.partition_by_name.insert(definition.name.clone(), idx);
    state.partitions[place] =
        Some(Partition { definition: Arc::clone(definition), nodes, changed_at_run_time });
    state.promises.give_back(state.now);
    for old in requeue {
        state.index.queue.remove(&old);
        let new = state.queue_key(&state.jobs[&old.job]);
        state.index.queue.insert(new);
    }
}

fn apply_accounts(accounts: &mut Accounts, record: &Record) {
    fn put<K: Ord + Clone, V: Clone>(rows: &mut std::collections::BTreeMap<K, V>, key: &K, row: Option<&V>) {
        match row {
            Some(row) => {
                rows.insert(key.clone(), row.clone());
            }
            None => {
                rows.remove(key);
            }
        }
    }
    match record {
        Record::Cluster(name, row) => put(&mut accounts.clusters, name, row.as_ref()),
        Record::Account(name, row) => put(&mut accounts.accounts, name, row.as_deref()),
        Record::User(name, row) => put(&mut accounts.users, name, row.as_deref()),
        Record::Association(key, row) => {
            if let Some(row) = row {
                accounts.next_association = accounts.next_association.max(row.id + 1);
            }
            put(&mut accounts.associations, key, row.as_deref());
        }
        Record::Qos(name, row) => {
            if let Some(row) = row {
                accounts.next_qos = accounts.next_qos.max(row.id + 1);
            }
            put(&mut accounts.qos, name, row.as_deref());
        }
        Record::AccountNumbers { association, qos } => {
            accounts.next_association = *association;
            accounts.next_qos = *qos;
        }
        _ => unreachable!("only accounting records come here"),
    }
}
