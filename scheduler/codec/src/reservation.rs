//! Reservations ⇄ their message.

use std::sync::Arc;

use model::id::{NodeIdx, Uid};
use model::time::Timestamp;
use proto::journal_v1 as w;
use scheduler_core::record::Record;
use scheduler_core::state::reservation::{Repeat, Reservation};
use w::reservation::Repeat as WireRepeat;

use crate::error::Error;

pub(crate) fn out(name: &str, row: Option<&Reservation>) -> w::ReservationRow {
    w::ReservationRow { name: name.to_owned(), row: row.map(row_out) }
}

fn row_out(row: &Reservation) -> w::Reservation {
    let repeat = match row.repeat {
        Repeat::Once => WireRepeat::Once,
        Repeat::Daily => WireRepeat::Daily,
        Repeat::Weekly => WireRepeat::Weekly,
    };
    let user = |(name, uid): &(Box<str>, Uid)| w::ReservationUser { name: name.to_string(), uid: uid.0 };
    w::Reservation {
        start_ms: row.start.0,
        end_ms: row.end.0,
        repeat: repeat.into(),
        nodes: row.nodes.iter().map(|node| node.0).collect(),
        named_nodes: row.named_nodes,
        partition: row.partition.to_string(),
        users: row.users.iter().map(user).collect(),
        accounts: row.accounts.iter().map(ToString::to_string).collect(),
        maintenance: row.maintenance,
        overlap: row.overlap,
        ignore_jobs: row.ignore_jobs,
    }
}

pub(crate) fn inwards(wire: w::ReservationRow) -> Result<Record, Error> {
    let row = wire.row.map(row_in).transpose()?;
    Ok(Record::Reservation(wire.name.into(), row.map(Arc::new)))
}

fn row_in(wire: w::Reservation) -> Result<Reservation, Error> {
    let repeat = match WireRepeat::try_from(wire.repeat) {
        Ok(WireRepeat::Once) => Repeat::Once,
        Ok(WireRepeat::Daily) => Repeat::Daily,
        Ok(WireRepeat::Weekly) => Repeat::Weekly,
        Err(_) => return Err(Error::Field { field: "repeat" }),
    };
    Ok(Reservation {
        start: Timestamp(wire.start_ms),
        end: Timestamp(wire.end_ms),
        repeat,
        nodes: wire.nodes.into_iter().map(NodeIdx).collect(),
        named_nodes: wire.named_nodes,
        partition: wire.partition.into(),
        users: wire.users.into_iter().map(|user| (user.name.into(), Uid(user.uid))).collect(),
        accounts: wire.accounts.into_iter().map(Into::into).collect(),
        maintenance: wire.maintenance,
        overlap: wire.overlap,
        ignore_jobs: wire.ignore_jobs,
    })
}
