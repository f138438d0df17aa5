//! Messages → the core's inputs, one file per noun. Fallible inwards: a message is outside input.
//!
//! Words of the model are converted in `proto::convert`; here are the words of the core. Nothing decides.

pub mod accounts;
pub mod agent;
pub mod control;
pub mod step;

use proto::v1;
use scheduler_core::effect::Refused;

/// A refusal outwards.
#[must_use]
pub fn refused(from: &Refused) -> v1::Refused {
    proto::convert::refusal::outwards(from.refusal, &from.lines)
}

/// Keys and values, as typed.
pub(crate) type Pairs = Vec<(Box<str>, Box<str>)>;

/// Keys and values as typed.
pub(crate) fn pairs(from: Vec<v1::KeyValue>) -> Pairs {
    from.into_iter().map(|pair| (pair.key.into(), pair.value.into())).collect()
}

/// Named values, keys in lower case.
pub(crate) fn attributes(from: Vec<v1::KeyValue>) -> scheduler_core::state::accounts::Attributes {
    from.into_iter().map(|pair| (pair.key.to_ascii_lowercase().into(), pair.value.into())).collect()
}

/// Texts.
pub(crate) fn boxed(from: Vec<String>) -> Vec<Box<str>> {
    from.into_iter().map(String::into_boxed_str).collect()
}
