//! Which record is which message. Both matches name every variant, so that a new one does not compile
//! until it has its message.

use std::sync::Arc;

use model::id::{Epoch, JobId, NodeIdx, PartitionIdx, RunNumber, TaskIndex};
use model::time::{Span, Timestamp};
use proto::journal_v1 as w;
use scheduler_core::effect::RunKey;
use scheduler_core::gpu::mix::Observed;
use scheduler_core::record::Record;
use scheduler_core::state::ArraySummary;
use scheduler_core::state::aging::Aging;
use w::entry::Kind;

use crate::allocation::{allocation_in, allocation_out, exit_out, state_out};
use crate::error::{Error, need};
use crate::job::{
    ended_in, ended_out, finish_in, finish_out, hold_in, hold_out, job_in, job_out, limit_in, limit_out,
    pending_in, pending_out,
};
use crate::{accounts, node, partition, prediction, promise, reservation, step};

/// The message of a record.
pub(crate) fn outwards(record: &Record) -> Kind {
    match record {
        Record::Time(at) => Kind::TimeMs(at.0),
        Record::Owner(epoch) => Kind::Owner(epoch.0),
        Record::NextJobId(id) => Kind::NextJobId(*id),
        Record::IdWraps(times) => Kind::IdWraps(*times),
        Record::Restored(below) => Kind::Restored(*below),
        Record::Stranger { node, run, there } => Kind::Stranger(w::Stranger {
            node: node.0,
            job: run.job.0,
            step: Some(step::id_out(run.step)),
            run: run.run.0,
            there: *there,
        }),
        Record::WallAhead(span) => Kind::WallAheadMs(span.0),

        Record::NodeDefined { node, definition, removed } => {
            Kind::NodeDefined(node::defined_out(*node, definition, *removed))
        }
        Record::NodeAdmin { node, admin } => Kind::NodeAdmin(node::admin_out(*node, admin)),
        Record::NodeLink { node, link } => Kind::NodeLink(node::link_out(*node, *link)),
        Record::NodeRegistered { node, incarnation, observed } => {
            Kind::NodeRegistered(node::registered_out(*node, incarnation, observed))
        }
        Record::NodeBusy { node, at } => Kind::NodeBusy(w::NodeBusy { node: node.0, at_ms: at.0 }),

        Record::PartitionDefined { partition, definition, changed_at_run_time } => {
            Kind::PartitionDefined(partition::defined_out(*partition, definition, *changed_at_run_time))
        }
        Record::PartitionRemoved(idx) => Kind::PartitionRemoved(idx.0),
        Record::Charged(charge) => Kind::Charged(accounts::charge_out(charge)),
        Record::Reservation(name, row) => Kind::Reservation(reservation::out(name, row.as_deref())),

        Record::Job(job) => Kind::Job(Box::new(job_out(job))),
        Record::Array { array, summary } => Kind::Array(w::Array {
            array: array.0,
            total: summary.total,
            ended: summary.ended,
            failed: summary.failed,
            unstarted: summary.unstarted,
            running: summary.running,
            records: summary.records,
        }),
        Record::ElementSplit { array, index, id } => {
            Kind::ElementSplit(w::ElementSplit { array: array.0, index: index.0, id: id.0 })
        }
        Record::JobPriority { job, priority, hold } => {
            Kind::JobPriority(w::JobPriority { job: job.0, priority: *priority, hold: hold_out(*hold) })
        }
        Record::JobWaits { job, pending } => {
            Kind::JobWaits(w::JobWaits { job: job.0, pending: Some(pending_out(pending)) })
        }
        Record::JobStarted { job, run, partition, allocation, start, limit } => {
            Kind::JobStarted(w::JobStarted {
                job: job.0,
                run: run.0,
                partition: partition.0,
                allocation: allocation_out(allocation),
                start_ms: start.0,
                limit_ms: limit.map(|span| span.0),
            })
        }
        Record::JobLimit { job, limit, running } => Kind::JobLimit(w::JobLimit {
            job: job.0,
            limit: limit_out(*limit),
            running_ms: running.map(|span| span.0),
        }),
        Record::JobConfiguring { job, what, at } => Kind::JobConfiguring(w::JobConfiguring {
            job: job.0,
            what: what.as_deref().map(str::to_owned),
            at_ms: at.0,
        }),
        Record::JobSuspended { job, suspended, at } => {
            Kind::JobSuspended(w::JobSuspended { job: job.0, suspended: *suspended, at_ms: at.0 })
        }
        Record::JobFinishing { job, finish } => {
            Kind::JobFinishing(w::JobFinishing { job: job.0, finish: Some(finish_out(finish)) })
        }
        Record::JobEnded { job, ended } => {
            Kind::JobEnded(w::JobEnded { job: job.0, ended: Some(ended_out(ended)) })
        }
        Record::JobRequeued { job, ended, pending, priority, hold } => Kind::JobRequeued(w::JobRequeued {
            job: job.0,
            ended: Some(ended_out(ended)),
            pending: Some(pending_out(pending)),
            priority: *priority,
            hold: hold_out(*hold),
        }),
        Record::JobPurged(job) => Kind::JobPurged(job.0),
        Record::Promises { changes, given_back } => Kind::Promises(promise::out(changes, *given_back)),

        Record::StepCreated { job, step } => {
            Kind::StepCreated(w::StepCreated { job: job.0, step: Some(step::step_out(step)) })
        }
        Record::StepBegun { job, step, node } => Kind::StepBegun(step::part_out(*job, *step, *node)),
        Record::StepUnknown { job, step, node } => Kind::StepUnknown(step::part_out(*job, *step, *node)),
        Record::StepNodeEnded { job, step, node, exit, usage, held } => {
            Kind::StepNodeEnded(w::StepNodeEnded {
                job: job.0,
                step: Some(step::id_out(*step)),
                node: node.0,
                exit: Some(exit_out(*exit)),
                usage: step::usage_out(usage),
                held: held.to_string(),
            })
        }
        Record::StepStopping { job, step, cause, by } => {
            Kind::StepStopping(step::stopping_out(*job, *step, *cause, *by))
        }
        Record::StepEnded { job, step, state, exit, at } => Kind::StepEnded(w::StepEnded {
            job: job.0,
            step: Some(step::id_out(*step)),
            state: state_out(*state),
            exit: Some(exit_out(*exit)),
            at_ms: at.0,
        }),

        Record::Cluster(name, row) => Kind::Cluster(accounts::cluster_out(name, row.as_ref())),
        Record::Account(name, row) => Kind::Account(accounts::account_out(name, row.as_deref())),
        Record::User(name, row) => Kind::User(accounts::user_out(name, row.as_deref())),
        Record::Association(key, row) => Kind::Association(accounts::association_out(key, row.as_deref())),
        Record::Qos(name, row) => Kind::Qos(accounts::qos_out(name, row.as_deref())),
        Record::AccountNumbers { association, qos } => {
            Kind::AccountNumbers(w::AccountNumbers { association: *association, qos: *qos })
        }
        Record::Predicting(made) => Kind::Predicting(prediction::predicting_out(*made)),
        Record::LastRuns(user, runs) => Kind::LastRuns(prediction::runs_out(*user, *runs)),
        Record::SlicesAsked { asked, told } => {
            let (counts, until_fresh) = asked.parts();
            Kind::SlicesAsked(w::SlicesAsked { counts: counts.to_vec(), until_fresh, told: told.to_vec() })
        }
        Record::Aging(aging) => Kind::Aging(w::Aging {
            weight: aging.weight,
            max_age_ms: aging.max_age.0,
            from_submit: aging.from_submit,
            base_ms: aging.base.0,
            at_ms: aging.at.0,
        }),
    }
}

/// The record of a message; `None` for an entry that is not a record.
pub(crate) fn inwards(kind: Kind) -> Result<Option<Record>, Error> {
    Ok(Some(match kind {
        Kind::Header(_)
        | Kind::SnapshotBegin(_)
        | Kind::SnapshotEnd(_)
        | Kind::HistoryBegin(_)
        | Kind::HistoryRow(_)
        | Kind::HistoryBody(_) => return Ok(None),

        Kind::TimeMs(ms) => Record::Time(Timestamp(ms)),
        Kind::Owner(epoch) => Record::Owner(Epoch(epoch)),
        Kind::NextJobId(id) => Record::NextJobId(id),
        Kind::IdWraps(times) => Record::IdWraps(times),
        Kind::Restored(below) => Record::Restored(below),
        Kind::Stranger(wire) => Record::Stranger {
            node: NodeIdx(wire.node),
            run: RunKey { job: JobId(wire.job), step: step::id_in(wire.step)?, run: RunNumber(wire.run) },
            there: wire.there,
        },
        Kind::WallAheadMs(ms) => Record::WallAhead(Span(ms)),

        Kind::NodeDefined(wire) => node::defined_in(wire)?,
        Kind::NodeAdmin(wire) => node::admin_in(wire),
        Kind::NodeLink(wire) => node::link_in(wire)?,
        Kind::NodeRegistered(wire) => node::registered_in(wire)?,
        Kind::NodeBusy(wire) => Record::NodeBusy { node: NodeIdx(wire.node), at: Timestamp(wire.at_ms) },

        Kind::PartitionDefined(wire) => partition::defined_in(wire)?,
        Kind::PartitionRemoved(idx) => Record::PartitionRemoved(PartitionIdx(idx)),
        Kind::Charged(wire) => accounts::charge_in(wire),
        Kind::Reservation(wire) => reservation::inwards(wire)?,

        Kind::Job(wire) => Record::Job(Arc::new(job_in(*wire)?)),
        Kind::Array(wire) => Record::Array {
            array: JobId(wire.array),
            summary: ArraySummary {
                total: wire.total,
                ended: wire.ended,
                failed: wire.failed,
                unstarted: wire.unstarted,
                running: wire.running,
                records: wire.records,
            },
        },
        Kind::ElementSplit(wire) => Record::ElementSplit {
            array: JobId(wire.array),
            index: TaskIndex(wire.index),
            id: JobId(wire.id),
        },
        Kind::JobPriority(wire) => {
            Record::JobPriority { job: JobId(wire.job), priority: wire.priority, hold: hold_in(wire.hold)? }
        }
        Kind::JobWaits(wire) => Record::JobWaits { job: JobId(wire.job), pending: pending_in(wire.pending)? },
        Kind::JobStarted(wire) => Record::JobStarted {
            job: JobId(wire.job),
            run: RunNumber(wire.run),
            partition: PartitionIdx(wire.partition),
            allocation: allocation_in(wire.allocation)?,
            start: Timestamp(wire.start_ms),
            limit: wire.limit_ms.map(Span),
        },
        Kind::JobLimit(wire) => Record::JobLimit {
            job: JobId(wire.job),
            limit: limit_in(wire.limit)?,
            running: wire.running_ms.map(Span),
        },
        Kind::JobConfiguring(wire) => Record::JobConfiguring {
            job: JobId(wire.job),
            what: wire.what.map(String::into_boxed_str),
            at: Timestamp(wire.at_ms),
        },
        Kind::JobSuspended(wire) => Record::JobSuspended {
            job: JobId(wire.job),
            suspended: wire.suspended,
            at: Timestamp(wire.at_ms),
        },
        Kind::JobFinishing(wire) => {
            Record::JobFinishing { job: JobId(wire.job), finish: finish_in(need("finish", wire.finish)?)? }
        }
        Kind::JobEnded(wire) => {
            Record::JobEnded { job: JobId(wire.job), ended: Arc::new(ended_in(wire.ended)?) }
        }
        Kind::JobRequeued(wire) => Record::JobRequeued {
            job: JobId(wire.job),
            ended: Arc::new(ended_in(wire.ended)?),
            pending: pending_in(wire.pending)?,
            priority: wire.priority,
            hold: hold_in(wire.hold)?,
        },
        Kind::JobPurged(job) => Record::JobPurged(JobId(job)),
        Kind::Promises(wire) => promise::inwards(wire)?,

        Kind::StepCreated(wire) => step::created_in(wire)?,
        Kind::StepBegun(wire) => {
            let (job, step, node) = step::part_in(wire)?;
            Record::StepBegun { job, step, node }
        }
        Kind::StepUnknown(wire) => {
            let (job, step, node) = step::part_in(wire)?;
            Record::StepUnknown { job, step, node }
        }
        Kind::StepNodeEnded(wire) => step::node_ended_in(wire)?,
        Kind::StepStopping(wire) => step::stopping_in(wire)?,
        Kind::StepEnded(wire) => step::ended_in(wire)?,

        Kind::Cluster(wire) => accounts::cluster_in(wire),
        Kind::Account(wire) => accounts::account_in(wire),
        Kind::User(wire) => accounts::user_in(wire)?,
        Kind::Association(wire) => accounts::association_in(wire),
        Kind::Qos(wire) => accounts::qos_in(wire),
        Kind::SlicesAsked(wire) => {
            let six = |list: Vec<u32>| <[u32; 6]>::try_from(list).ok();
            let asked = six(wire.counts).and_then(|counts| Observed::of_parts(counts, wire.until_fresh));
            Record::SlicesAsked {
                asked: need("slices_asked.counts", asked)?,
                told: need("slices_asked.told", six(wire.told))?,
            }
        }
        Kind::Predicting(wire) => prediction::predicting_in(wire)?,
        Kind::LastRuns(wire) => prediction::runs_in(wire),
        Kind::Aging(wire) => Record::Aging(Aging {
            weight: wire.weight,
            max_age: Span(wire.max_age_ms),
            from_submit: wire.from_submit,
            base: Timestamp(wire.base_ms),
            at: Timestamp(wire.at_ms),
        }),
        Kind::AccountNumbers(wire) => Record::AccountNumbers { association: wire.association, qos: wire.qos },
    }))
}
