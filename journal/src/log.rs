//! The trait behind which the durable log stands, so that a replicated one can take its place.

use std::ops::ControlFlow;

use crate::error::Error;
use crate::frame::Frame;
use crate::ids::{Epoch, Sequence};
use crate::payload::Payload;
use crate::space::Reservation;

/// A log with one writer: batches in order, durable or refused.
pub trait Log: Send {
    /// Epoch of this owner.
    fn epoch(&self) -> Epoch;

    /// Number of the last durable frame.
    fn last_sequence(&self) -> Sequence;

    /// Stores a batch; `Ok` means durable and still the owner. `Full` and `TooLarge` stored nothing; after any other
    /// failure the outcome is unknown and the log is fenced.
    fn append(&mut self, payload: &mut Payload, held: Option<Reservation>) -> Result<Sequence, Error>;

    /// Stores an empty frame behind a batch, which proves the batch durable; does nothing behind another frame.
    fn idle_frame(&mut self) -> Result<Sequence, Error>;

    /// Shows all durable frames from number `from` on, in order, until `visit` breaks; `Sequence(0)` means all that
    /// are there. Fails with `Gap` if `from` was removed.
    fn replay(
        &self,
        from: Sequence,
        visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>;

    /// Drops frames that nobody needs any more, up to and including `through`, as far as whole segments allow.
    fn remove_through(&mut self, through: Sequence) -> Result<(), Error>;

    /// Accepts nothing from now on: an owner that must not go on.
    fn fence(&mut self);
}
