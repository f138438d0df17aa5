//! A state as the list of records that rebuilds it: what a snapshot holds.

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};
use model::time::Span;

use crate::gpu::mix::Observed;
use crate::plan::policy::Prediction;
use crate::record::Record;
use crate::state::State;
use crate::state::aging::Aging;
use crate::state::node::Node;
use crate::state::promise::{Cause, PromiseChange};

/// Jobs whose promises are in one record of a snapshot.
const PROMISES_A_RECORD: usize = 256;

impl State {
    /// Hands out the records that make an empty state equal to this one, in the order in which they
    /// must be applied. Cost: O(everything); jobs are cloned one at a time.
    pub fn to_records(&self, mut each: impl FnMut(Record)) {
        each(Record::Time(self.now));
        each(Record::Owner(self.epoch));
        each(Record::NextJobId(self.next_job_id));
        if self.id_wraps > 0 {
            each(Record::IdWraps(self.id_wraps));
        }
        if let Some(below) = self.restored {
            each(Record::Restored(below));
        }
        if self.aging != Aging::default() {
            each(Record::Aging(self.aging));
        }
        if self.predictions.made != Prediction::None {
            each(Record::Predicting(self.predictions.made));
        }
        for (&user, &runs) in &self.predictions.runs {
            each(Record::LastRuns(user, runs));
        }
        if self.slices.asked != Observed::default() {
            let slices = &self.slices;
            each(Record::SlicesAsked { asked: slices.asked.clone(), told: slices.told });
        }
        if self.wall_ahead != Span::ZERO {
            each(Record::WallAhead(self.wall_ahead));
        }
        for (place, node) in (0..).zip(&self.nodes) {
            node_records(NodeIdx(place), node, &mut each);
        }
        for &(run, node) in &self.strangers {
            each(Record::Stranger { node, run, there: true });
        }
        self.partition_records(&mut each);
        for (name, row) in &self.reservations {
            each(Record::Reservation(name.clone(), Some(Arc::clone(row))));
        }
        self.account_records(&mut each);
        for charge in self.spending.as_charges() {
            each(Record::Charged(Box::new(charge)));
        }
        for job in self.jobs.values() {
            each(Record::Job(Arc::clone(job)));
        }
        for (&array, &summary) in &self.arrays {
            each(Record::Array { array, summary });
        }
        self.promise_records(&mut each);
    }

    fn promise_records(&self, each: &mut impl FnMut(Record)) {
        let given_back = self.promises.given_back;
        let mut changes = Vec::new();
        for (&job, promises) in &self.promises.by_job {
            changes.push(PromiseChange { job, promises: promises.to_vec(), cause: Cause::Made });
            if changes.len() == PROMISES_A_RECORD {
                each(Record::Promises { changes: std::mem::take(&mut changes), given_back });
            }
        }
        if !changes.is_empty() {
            each(Record::Promises { changes, given_back });
        }
    }

    fn partition_records(&self, each: &mut impl FnMut(Record)) {
        for (place, partition) in (0..).zip(&self.partitions) {
            let partition_idx = PartitionIdx(place);
            match partition {
                Some(partition) => each(Record::PartitionDefined {
                    partition: partition_idx,
                    definition: Arc::clone(&partition.definition),
                    changed_at_run_time: partition.changed_at_run_time,
                }),
                None => {
                    // A place that was given up stays given up: define it as anything, then remove it.
                    each(Record::PartitionDefined {
                        partition: partition_idx,
                        definition: Arc::new(super::partition::PartitionDefinition::named("")),
                        changed_at_run_time: false,
                    });
                    each(Record::PartitionRemoved(partition_idx));
                }
            }
        }
    }

    fn account_records(&self, each: &mut impl FnMut(Record)) {
        let accounts = &self.accounts;
        for (name, row) in &accounts.clusters {
            each(Record::Cluster(name.clone(), Some(row.clone())));
        }
        for (name, row) in &accounts.accounts {
            each(Record::Account(name.clone(), Some(Box::new(row.clone()))));
        }
        for (name, row) in &accounts.users {
            each(Record::User(name.clone(), Some(Box::new(row.clone()))));
        }
        for (key, row) in &accounts.associations {
            each(Record::Association(Box::new(key.clone()), Some(Box::new(row.clone()))));
        }
        for (name, row) in &accounts.qos {
            each(Record::Qos(name.clone(), Some(Box::new(row.clone()))));
        }
        each(Record::AccountNumbers { association: accounts.next_association, qos: accounts.next_qos });
    }
}

fn node_records(node: NodeIdx, state: &Node, each: &mut impl FnMut(Record)) {
    each(Record::NodeDefined { node, definition: Arc::clone(&state.definition), removed: state.removed });
    each(Record::NodeAdmin { node, admin: state.admin.clone() });
    each(Record::NodeLink { node, link: state.link });
    if let Some(incarnation) = state.incarnation {
        each(Record::NodeRegistered { node, incarnation, observed: Arc::clone(&state.observed) });
    }
    if let Some(at) = state.last_busy {
        each(Record::NodeBusy { node, at });
    }
}
