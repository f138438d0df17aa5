//! What the nodes of a step tell each other through the step's client: the exchange stream.
//!
//! Supervisors know no network. A step's `srun` holds a connection to each of them, so it is where the parts of a
//! fence meet: every node sends one [`Message::Part`], and when all have, every node gets one [`Message::Whole`]. A fence of N
//! tasks on M nodes is thus 2·M messages, of which each carries the bytes of its part, or of all parts.
//!
//! The messages travel as bytes of `Stream::Exchange` ([`crate::frame`]), in both directions: acknowledged, within a
//! window, and sent again after a broken connection like any other stream. Their bytes are the business of who
//! serves the tasks (`pmi`, or a helper program); the client puts them together unread.

use crate::wire::{Error, Reader, Writer};

/// Longest message; a longer one is refused by whoever reads it.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One message. Nodes are places in the step's list of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the client: this node's part of a fence.
    Part {
        /// Which fence, in the words of those who take part.
        fence: Vec<u8>,
        /// Who takes part; empty: every node of the step.
        nodes: Vec<u32>,
        /// What it puts into it.
        bytes: Vec<u8>,
    },
    /// From the client: the parts of all who took part, in the order of the nodes.
    Whole {
        /// As in the parts.
        fence: Vec<u8>,
        /// One for each node.
        parts: Vec<Vec<u8>>,
    },
    /// To the client: a task of this node has left and will not take part in a fence again. Said once.
    Left,
    /// To the client: the step is to be ended.
    Abort {
        /// Who wants it and why, for the user.
        text: String,
    },
    /// A question. To the client: for this node; from the client: of that one.
    Ask {
        /// The other node.
        node: u32,
        /// Returned with the answer.
        ticket: u64,
        /// The question.
        bytes: Vec<u8>,
    },
    /// Its answer. To the client: for this node; from the client: of that one.
    Answer {
        /// The other node.
        node: u32,
        /// Of the question.
        ticket: u64,
        /// The answer.
        bytes: Vec<u8>,
    },
}

impl Message {
    /// Appends the message, its length first, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut fields = Writer(out);
        match self {
            Self::Part { fence, nodes, bytes } => {
                fields.u8(1);
                fields.bytes(fence);
                fields.list(nodes, |out, node| out.u32(*node));
                fields.bytes(bytes);
            }
            Self::Whole { fence, parts } => {
                fields.u8(2);
                fields.bytes(fence);
                fields.list(parts, |out, part| out.bytes(part));
            }
            Self::Left => fields.u8(3),
            Self::Abort { text } => {
                fields.u8(4);
                fields.bytes(text.as_bytes());
            }
            Self::Ask { node, ticket, bytes } | Self::Answer { node, ticket, bytes } => {
                fields.u8(if matches!(self, Self::Ask { .. }) { 5 } else { 6 });
                fields.u32(*node);
                fields.u64(*ticket);
                fields.bytes(bytes);
            }
        }
        let length =
            u32::try_from(out.len() - start - 4).expect("what a node may say is far less than 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The message as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }

    fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader(body);
        let message = match fields.u8("kind")? {
            1 => Self::Part {
                fence: fields.bytes("fence")?,
                nodes: fields.list("nodes", |fields| fields.u32("node"))?,
                bytes: fields.bytes("part")?,
            },
            2 => Self::Whole {
                fence: fields.bytes("fence")?,
                parts: fields.list("parts", |fields| fields.bytes("part"))?,
            },
            3 => Self::Left,
            4 => Self::Abort { text: fields.text("reason")? },
            kind @ (5 | 6) => {
                let (node, ticket) = (fields.u32("node")?, fields.u64("ticket")?);
                let bytes = fields.bytes("bytes")?;
                match kind {
                    5 => Self::Ask { node, ticket, bytes },
                    _ => Self::Answer { node, ticket, bytes },
                }
            }
            _ => return Err(Error::Value { what: "kind" }),
        };
        fields.end("message")?;
        Ok(message)
    }
}

/// Takes messages out of bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The bytes are no messages; the stream is of no further use.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Error::Long(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Message::decode(body)?;
        self.buffer.drain(..4 + length);
        Ok(Some(message))
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Key-value pairs as the bytes of a part.
#[must_use]
pub fn encode_pairs(pairs: &[Pair]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer(&mut bytes).list(pairs, |out, (key, value)| {
        out.bytes(key);
        out.bytes(value);
    });
    bytes
}

/// Reads the bytes of a part that holds pairs.
///
/// # Errors
/// They are none.
pub fn decode_pairs(bytes: &[u8]) -> Result<Vec<Pair>, Error> {
    let mut fields = Reader(bytes);
    let pairs = fields.list("pairs", |fields| Ok((fields.bytes("key")?, fields.bytes("value")?)))?;
    fields.end("pairs")?;
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::{Decoder, MESSAGE_BYTES_MAX, Message, decode_pairs, encode_pairs};

    fn all() -> Vec<Message> {
        vec![
            Message::Part { fence: vec![1], nodes: vec![0, 2], bytes: vec![7; 300] },
            Message::Whole { fence: vec![1], parts: vec![Vec::new(), vec![9]] },
            Message::Left,
            Message::Abort { text: "rank 3: why".to_owned() },
            Message::Ask { node: 1, ticket: u64::MAX, bytes: vec![1] },
            Message::Answer { node: 0, ticket: 5, bytes: Vec::new() },
        ]
    }

    #[test]
    fn messages_read_back_however_they_are_cut() {
        let mut bytes = Vec::new();
        all().iter().for_each(|message| message.encode(&mut bytes));
        for step in [1, 3, 64, bytes.len()] {
            let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(message) = decoder.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, all(), "pieces of {step}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_le_bytes());
        assert!(decoder.next_message().is_err());
        for message in all() {
            let bytes = message.to_bytes();
            for cut in 4..bytes.len() {
                assert!(Message::decode(&bytes[4..cut]).is_err(), "{message:?} cut at {cut}");
            }
        }
        assert!(Message::decode(&[99]).is_err());
        let pairs = vec![(b"k".to_vec(), b"v=1 2".to_vec()), (Vec::new(), Vec::new())];
        assert_eq!(decode_pairs(&encode_pairs(&pairs)), Ok(pairs));
        assert!(decode_pairs(&[1, 0, 0, 0]).is_err());
    }
}
