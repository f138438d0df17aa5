//! Promised starts ⇄ their messages.

use std::sync::Arc;

use model::id::{JobId, NodeIdx, PartitionIdx};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;
use proto::journal_v1 as w;
use scheduler_core::gpu::shards::Lanes;
use scheduler_core::gpu::slice_set::SliceSet;
use scheduler_core::record::Record;
use scheduler_core::state::promise::{Cause, Held, PLANNED_KINDS, Promise, PromiseChange};
use w::promise_change::Cause as WireCause;

use crate::error::Error;

pub(crate) fn out(changes: &[PromiseChange], given_back: Option<Timestamp>) -> w::Promises {
    w::Promises {
        changes: changes.iter().map(change_out).collect(),
        given_back_ms: given_back.map(|since| since.0),
    }
}

pub(crate) fn inwards(wire: w::Promises) -> Result<Record, Error> {
    let changes = wire.changes.into_iter().map(change_in).collect::<Result<_, _>>()?;
    Ok(Record::Promises { changes, given_back: wire.given_back_ms.map(Timestamp) })
}

fn change_out(change: &PromiseChange) -> w::PromiseChange {
    let cause = match change.cause {
        Cause::Made => WireCause::Made,
        Cause::GivenBack => WireCause::GivenBack,
        Cause::NodeLost => WireCause::NodeLost,
        Cause::LimitRaised => WireCause::LimitRaised,
        Cause::HigherPriority => WireCause::HigherPriority,
        Cause::Reservation => WireCause::Reservation,
        Cause::Configuration => WireCause::Configuration,
        Cause::Clock => WireCause::Clock,
        Cause::Outlived => WireCause::Outlived,
        Cause::NotPlanned => WireCause::NotPlanned,
        Cause::JobChanged => WireCause::JobChanged,
    };
    w::PromiseChange {
        job: change.job.0,
        promises: change.promises.iter().map(promise_out).collect(),
        cause: cause.into(),
    }
}

fn change_in(wire: w::PromiseChange) -> Result<PromiseChange, Error> {
    let cause = match WireCause::try_from(wire.cause) {
        Ok(WireCause::Made) => Cause::Made,
        Ok(WireCause::GivenBack) => Cause::GivenBack,
        Ok(WireCause::NodeLost) => Cause::NodeLost,
        Ok(WireCause::LimitRaised) => Cause::LimitRaised,
        Ok(WireCause::HigherPriority) => Cause::HigherPriority,
        Ok(WireCause::Reservation) => Cause::Reservation,
        Ok(WireCause::Configuration) => Cause::Configuration,
        Ok(WireCause::Clock) => Cause::Clock,
        Ok(WireCause::Outlived) => Cause::Outlived,
        Ok(WireCause::NotPlanned) => Cause::NotPlanned,
        Ok(WireCause::JobChanged) => Cause::JobChanged,
        Ok(WireCause::Newer) | Err(_) => return Err(Error::Field { field: "cause" }),
    };
    let promises = wire.promises.into_iter().map(promise_in).collect::<Result<_, _>>()?;
    Ok(PromiseChange { job: JobId(wire.job), promises, cause })
}

fn promise_out(promise: &Promise) -> w::Promise {
    w::Promise {
        start_ms: promise.start.0,
        end_ms: promise.end.0,
        partition: promise.partition.0,
        holds: promise.holds.iter().map(held_out).collect(),
    }
}

fn promise_in(wire: w::Promise) -> Result<Promise, Error> {
    let holds: Vec<Held> = wire.holds.iter().map(held_in).collect::<Result<_, _>>()?;
    Ok(Promise {
        start: Timestamp(wire.start_ms),
        end: Timestamp(wire.end_ms),
        partition: PartitionIdx(wire.partition),
        holds: Arc::from(holds),
    })
}

fn held_out(held: &Held) -> w::Held {
    let used = held.gres.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
    w::Held {
        node: held.node.0,
        cpus: held.cpus.0,
        memory_mib: held.memory.0,
        gres: held.gres[..used].to_vec(),
        slices: held.slices.0[0],
        shards: held.shards.0[0],
        more_slices: held.slices.0[1],
        more_shards: held.shards.0[1],
    }
}

fn held_in(wire: &w::Held) -> Result<Held, Error> {
    let mut gres = [0; PLANNED_KINDS];
    gres.get_mut(..wire.gres.len()).ok_or(Error::Field { field: "gres" })?.copy_from_slice(&wire.gres);
    let (cpus, memory) = (Cpus(wire.cpus), MemoryMib(wire.memory_mib));
    let slices = SliceSet([wire.slices, wire.more_slices]);
    let shards = Lanes([wire.shards, wire.more_shards]);
    Ok(Held { node: NodeIdx(wire.node), cpus, memory, gres, slices, shards })
}
