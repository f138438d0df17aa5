//! Encoded messages without building them: their fields in order, and copies of chosen ones.
//!
//! Owns the reading of protobuf's wire form as far as stored rows need it; knows no message. Texts are bytes here: whoever
//! builds the message finds out whether they are UTF-8.

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("bytes that are no message")
    }
}

impl std::error::Error for Malformed {}

/// Numbers of fields of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u128);

impl Fields {
    /// Those numbers; none means all. Numbers above 127 are of no message here.
    #[must_use]
    pub fn new(numbers: &[u32]) -> Self {
        let known = numbers.iter().filter(|number| **number < 128);
        match numbers {
            [] => Self(u128::MAX),
            _ => Self(known.fold(0, |set, number| set | 1 << number)),
        }
    }

    /// Whether every field is meant.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.0 == u128::MAX
    }

    fn holds(self, number: u32) -> bool {
        self.is_all() || (number < 128 && self.0 >> number & 1 == 1)
    }
}

/// Appends the fields of an encoded message that are meant, as they stand in it.
///
/// # Errors
/// Bytes that are no message.
pub fn pick(message: &[u8], fields: Fields, to: &mut Vec<u8>) -> Result<(), Malformed> {
    if fields.is_all() {
        to.extend_from_slice(message);
        return Ok(());
    }
    let mut rest = message;
    while !rest.is_empty() {
        let before = rest;
        let (number, _) = field(&mut rest)?;
        if fields.holds(number) {
            to.extend_from_slice(&before[..before.len() - rest.len()]);
        }
    }
    Ok(())
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, or a truth value.
    Number(u64),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Of a fixed width: no field that is looked at.
    Fixed,
}

/// Shows every field, in order.
///
/// # Errors
/// Bytes that are no message; fields before that were shown.
pub fn each<'a>(mut message: &'a [u8], mut see: impl FnMut(u32, Value<'a>)) -> Result<(), Malformed> {
    while !message.is_empty() {
        let (number, value) = field(&mut message)?;
        see(number, value);
    }
    Ok(())
}

/// The field that a message begins with, taken off it.
#[inline]
fn field<'a>(message: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let key = number(message)?;
    let value = match key & 7 {
        0 => Value::Number(number(message)?),
        1 => take(message, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = number(message)?;
            Value::Bytes(take(message, length)?)
        }
        5 => take(message, 4).map(|_| Value::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok((u32::try_from(key >> 3).map_err(|_| Malformed)?, value))
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (taken, rest) = message.split_at_checked(length).ok_or(Malformed)?;
    *message = rest;
    Ok(taken)
}

/// A number of seven bits a byte, the lowest first.
#[inline]
fn number(message: &mut &[u8]) -> Result<u64, Malformed> {
    // Nearly all are of one byte.
    if let [byte @ ..0x80, rest @ ..] = *message {
        *message = rest;
        return Ok(u64::from(*byte));
    }
    long_number(message)
}

fn long_number(message: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for (at, &byte) in message.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *message = &message[at + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::v1::{Job, Step};

    #[test]
    fn picked_fields_are_those_of_the_message() {
        let steps = vec![Step { name: "s".to_owned(), ..Step::default() }; 3];
        let job =
            Job { job_id: 7, end_ms: Some(-5), node_list: "n[1-300]".repeat(30), steps, ..Job::default() };
        let encoded = job.encode_to_vec();
        let picked = |numbers: &[u32]| {
            let mut bytes = vec![];
            pick(&encoded, Fields::new(numbers), &mut bytes).unwrap();
            Job::decode(bytes.as_slice()).unwrap()
        };
        assert_eq!(picked(&[]), job);
        let some = Job { job_id: 7, end_ms: Some(-5), steps: job.steps.clone(), ..Job::default() };
        assert_eq!(picked(&[50, 24, 1, 300]), some);
        assert_eq!(picked(&[300]), Job::default());
        assert_eq!(pick(&encoded[..encoded.len() - 1], Fields::new(&[1]), &mut Vec::new()), Err(Malformed));
    }

    #[test]
    fn bytes_that_are_no_message_are_told() {
        // A number without an end, one that is too long, a length beyond the end, a group, half a number of fixed width.
        let broken: [&[u8]; 5] = [&[8, 0x80], &[0x88; 12], &[18, 5, 1], &[11], &[13, 1, 2]];
        for bytes in broken {
            assert_eq!(each(bytes, |_, _| {}), Err(Malformed), "{bytes:?}");
        }
        let mut seen = Vec::new();
        each(&[8, 0x96, 1, 18, 1, 7, 13, 1, 2, 3, 4], |number, value| seen.push((number, value))).unwrap();
        assert_eq!(seen, [(1, Value::Number(150)), (2, Value::Bytes(&[7])), (1, Value::Fixed)]);
    }
}
