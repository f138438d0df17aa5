//! How an executor hands runs to its nursery, and what it hears back.
//!
//! A nursery is a supervisor's program that supervises nothing: it gives each run that it is handed to a supervisor, one
//! that it forks or one that has just ended a run of the same user, and says when it is over. The two talk over one
//! `SOCK_SEQPACKET` pair. An order carries the run's specification, open and locked, beside its bytes; news of several
//! ends share a message.

use crate::wire::{Error, Reader, Writer};

/// The argument that makes the supervisor's program a nursery; its standard input is then the socket.
pub const ARGUMENT: &str = "--nursery";
/// Longest message in either direction.
pub const MESSAGE_MAX: usize = 8192;
/// Pieces of news that fit into one message.
pub const NEWS_MAX: usize = MESSAGE_MAX / NEWS_BYTES;
const NEWS_BYTES: usize = 13;

/// One run to be supervised. Its specification travels beside it as an open file. Without one, and with no folder, it is
/// about a run that was handed over before: see [`knock`](Self::knock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Names the run in the news about it.
    pub serial: u64,
    /// Its folder.
    pub folder: Vec<u8>,
    /// Whose it is: a supervisor that has had runs of this user may have it. `None`: one that has had none.
    pub owner: Option<u32>,
}

impl Order {
    /// Asks for the supervisor of an earlier order to make its socket now, where it has put that off.
    #[must_use]
    pub fn knock(serial: u64) -> Self {
        Self { serial, folder: Vec::new(), owner: None }
    }

    /// Whether it is such a message.
    #[must_use]
    pub fn is_knock(&self) -> bool {
        self.folder.is_empty()
    }

    /// The bytes of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.folder.len());
        let mut out = Writer(&mut bytes);
        out.u64(self.serial);
        out.bytes(&self.folder);
        out.option(self.owner.as_ref(), |out, owner| out.u32(*owner));
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no order.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader(bytes);
        let (serial, folder) = (fields.u64("serial")?, fields.bytes("folder")?);
        let order = Self { serial, folder, owner: fields.option("owner", |fields| fields.u32("owner"))? };
        fields.end("order")?;
        Ok(order)
    }
}

/// What became of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It could not be forked, with this error number.
    NotForked(i32),
    /// It ended with this exit code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

/// One piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Of its order.
    pub serial: u64,
    /// What became of its supervisor.
    pub fate: Fate,
}

impl News {
    /// Appends its bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut out = Writer(bytes);
        let (kind, value) = match self.fate {
            Fate::NotForked(errno) => (0, errno),
            Fate::Exited(code) => (1, code),
            Fate::Killed(signal) => (2, signal),
        };
        out.u8(kind);
        out.u64(self.serial);
        out.u32(value.cast_unsigned());
    }

    /// Reads a message of several.
    ///
    /// # Errors
    /// It is no such message.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        let mut fields = Reader(bytes);
        let mut all = Vec::with_capacity(bytes.len() / NEWS_BYTES);
        while !fields.0.is_empty() {
            let kind = fields.u8("kind")?;
            let serial = fields.u64("serial")?;
            let value = fields.u32("value")?.cast_signed();
            let fate = match kind {
                0 => Fate::NotForked(value),
                1 => Fate::Exited(value),
                2 => Fate::Killed(value),
                _ => return Err(Error::Value { what: "kind" }),
            };
            all.push(Self { serial, fate });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, News, Order};

    #[test]
    fn messages_read_back_and_cuts_are_refused() {
        let order = Order { serial: u64::MAX, folder: b"/run/\xff 7.batch.1".to_vec(), owner: Some(1000) };
        let bytes = order.encode();
        assert_eq!(Order::decode(&bytes), Ok(order));
        assert!(
            Order::decode(&Order::knock(7).encode()).is_ok_and(|knock| knock.is_knock() && knock.serial == 7)
        );
        for cut in 0..bytes.len() {
            assert!(Order::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let news = [Fate::NotForked(11), Fate::Exited(0), Fate::Killed(9)]
            .map(|fate| News { serial: 1 << 40, fate })
            .to_vec();
        let mut bytes = Vec::new();
        news.iter().for_each(|one| one.encode(&mut bytes));
        assert_eq!(bytes.len(), 3 * super::NEWS_BYTES);
        assert_eq!(News::decode_all(&bytes), Ok(news));
        assert!(News::decode_all(&bytes[..bytes.len() - 1]).is_err());
        assert!(News::decode_all(&[9; super::NEWS_BYTES]).is_err());
    }
}
