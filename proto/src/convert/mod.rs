//! Conversions between the model's words and the messages, one file per noun.
//!
//! Inwards they are fallible and check sizes and counts (a message is outside input); outwards they
//! are total. They decide nothing: a value that is well formed and makes no sense passes.

pub mod exit;
pub mod gpu;
pub mod hook;
pub mod id;
pub mod refusal;
pub mod request;

use std::fmt;

/// Longest text of one field, bytes. Command lines are the longest that people really have.
pub const TEXT_MAX: usize = 1 << 20;
/// Longest name (job, account, partition, node, …), bytes.
pub const NAME_MAX: usize = 4096;
/// Most entries of a list of short things (resources, limits, nodes of a selector).
pub const LIST_MAX: usize = 4096;
/// Most arguments of a script or task.
pub const ARGUMENTS_MAX: usize = 1 << 17;

/// Why a message is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The field at fault, as the schema names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It must be there.
    Missing,
    /// It is longer, or has more entries, than this.
    TooLong {
        /// The most that is allowed.
        max: usize,
    },
    /// The number does not fit what it stands for.
    OutOfRange,
    /// The text does not follow its grammar, or holds a zero byte.
    Malformed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.problem {
            Problem::Missing => write!(f, "field {field} is missing"),
            Problem::TooLong { max } => write!(f, "field {field} is longer than {max}"),
            Problem::OutOfRange => write!(f, "field {field} is out of range"),
            Problem::Malformed => write!(f, "field {field} is malformed"),
        }
    }
}

impl std::error::Error for Error {}

/// An error of one field.
pub(crate) fn error(field: &'static str, problem: Problem) -> Error {
    Error { field, problem }
}

/// A text of at most `max` bytes without zero bytes.
pub(crate) fn text(field: &'static str, value: String, max: usize) -> Result<Box<str>, Error> {
    if value.len() > max {
        return Err(error(field, Problem::TooLong { max }));
    }
    if value.as_bytes().contains(&0) {
        return Err(error(field, Problem::Malformed));
    }
    Ok(value.into_boxed_str())
}

/// The same, where it is given.
pub(crate) fn optional_text(
    field: &'static str,
    value: Option<String>,
    max: usize,
) -> Result<Option<Box<str>>, Error> {
    value.map(|value| text(field, value, max)).transpose()
}

/// Refuses a list of more than `max` entries.
pub(crate) fn count<T>(field: &'static str, list: &[T], max: usize) -> Result<(), Error> {
    if list.len() > max {
        return Err(error(field, Problem::TooLong { max }));
    }
    Ok(())
}

/// A text outwards.
pub(crate) fn owned(value: &Option<Box<str>>) -> Option<String> {
    value.as_deref().map(str::to_owned)
}
