//! The pure state machine of the scheduler: who runs when and where, who may do what, why someone
//! waits.
//!
//! [`Machine::handle`](machine::Machine::handle) turns an [`Input`](input::Input) (what happened) into
//! [`Record`](record::Record)s (what is now true) and [`Effect`](effect::Effect)s (what the shell must
//! do). State changes only in [`apply`], one record at a time; live running and recovery use the same
//! code. Time, seeds and configuration arrive as arguments. No I/O, clock, thread, lock or serialisation.

pub mod admit;
pub mod allocation;
pub mod apply;
pub mod authorise;
mod command;
mod configure;
pub mod effect;
pub mod gpu;
pub mod input;
pub mod job;
pub mod licenses;
pub mod limits;
pub mod machine;
mod node;
pub mod place;
pub mod plan;
pub mod planted;
pub mod priority;
pub mod record;
mod reservation;
pub mod settings;
pub mod state;
pub mod tally;
