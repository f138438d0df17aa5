//! What the executor's own journal holds, and its bytes.
//!
//! A record is a version byte, a kind and fixed fields. A record of a kind that is not known stops the
//! start: it was written by a newer executor, and guessing could start a job twice.

use executor_supervisor::outcome::Outcome;
use model::id::{Hook, StepId};

use crate::gpu::Instance;
use crate::gpu::slices::{Note, Owner, Place};
use crate::key::Key;

const VERSION: u8 = 1;

/// What is made durable about one run.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// It is about to be started.
    Intent,
    /// It ended like this.
    Ended(Outcome),
    /// It was stopped before it was seen.
    Tombstone,
    /// Nothing needs to be known of it any more.
    Gone,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The highest scheduler epoch that was seen.
    Epoch(u64),
    /// The kernel under which the records that follow were written.
    Boot([u8; 16]),
    /// Of a run.
    Run(Key, Mark),
    /// All before this is summed up by what follows.
    Checkpoint,
    /// Of a place for a MIG instance.
    Slice(Place, Note),
}

/// Why a record was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version, or a kind that is not known.
    #[error("a record was written by another version of the executor (version {version}, kind {kind})")]
    Unknown {
        /// Its version byte.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// Fields that make no sense.
    #[error("a record of kind {kind} is malformed")]
    Malformed {
        /// Its kind.
        kind: u8,
    },
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Epoch(epoch) => {
                out.push(1);
                out.extend_from_slice(&epoch.to_le_bytes());
            }
            Self::Boot(id) => {
                out.push(2);
                out.extend_from_slice(id);
            }
            Self::Checkpoint => out.push(3),
            Self::Slice(place, note) => encode_slice(place, note, out),
            Self::Run(key, mark) => {
                out.push(match mark {
                    Mark::Intent => 16,
                    Mark::Ended(_) => 17,
                    Mark::Tombstone => 18,
                    Mark::Gone => 19,
                });
                out.extend_from_slice(&key.job_id.to_le_bytes());
                out.extend_from_slice(&key.run.to_le_bytes());
                let (kind, number) = match key.step {
                    StepId::Batch => (0_u8, 0),
                    StepId::Interactive => (1, 0),
                    StepId::Number(number) => (2, number),
                    StepId::Extern => (3, 0),
                    StepId::Hook(Hook::Prolog) => (4, 0),
                    StepId::Hook(Hook::Epilog) => (4, 1),
                    StepId::Hook(Hook::ControllerProlog) => (4, 2),
                    StepId::Hook(Hook::ControllerEpilog) => (4, 3),
                };
                out.push(kind);
                out.extend_from_slice(&number.to_le_bytes());
                if let Mark::Ended(outcome) = mark {
                    out.extend_from_slice(&outcome.encode(&key.folder()));
                }
            }
        }
    }

    /// Reads the bytes of one record.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let [version, kind, rest @ ..] = bytes else { return Err(Error::Malformed { kind: 0 }) };
        let (version, kind) = (*version, *kind);
        if version != VERSION {
            return Err(Error::Unknown { version, kind });
        }
        let malformed = || Error::Malformed { kind };
        match kind {
            1 => Ok(Self::Epoch(u64::from_le_bytes(rest.try_into().map_err(|_| malformed())?))),
            2 => Ok(Self::Boot(rest.try_into().map_err(|_| malformed())?)),
            3 => Ok(Self::Checkpoint),
            16..=19 => {
                let (fixed, rest) = rest.split_first_chunk::<13>().ok_or_else(malformed)?;
                let number =
                    |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
                let step = match fixed[8] {
                    0 => StepId::Batch,
                    1 => StepId::Interactive,
                    2 => StepId::Number(number(9)),
                    3 => StepId::Extern,
                    4 => match number(9) {
                        0 => StepId::Hook(Hook::Prolog),
                        1 => StepId::Hook(Hook::Epilog),
                        2 => StepId::Hook(Hook::ControllerProlog),
                        3 => StepId::Hook(Hook::ControllerEpilog),
                        _ => return Err(malformed()),
                    },
                    _ => return Err(malformed()),
                };
                let key = Key { job_id: number(0), step, run: number(4) };
                let mark = match kind {
                    16 => Mark::Intent,
                    17 => Mark::Ended(Outcome::decode(rest, &key.folder()).map_err(|_| malformed())?),
                    18 => Mark::Tombstone,
                    _ => Mark::Gone,
                };
                Ok(Self::Run(key, mark))
            }
            32..=34 => decode_slice(kind, rest).ok_or_else(malformed),
            _ => Err(Error::Unknown { version, kind }),
        }
    }
}

fn encode_slice(place: &Place, note: &Note, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        let length = u8::try_from(text.len()).expect("a UUID of the driver has at most 96 bytes");
        out.push(length);
        out.extend_from_slice(text.as_bytes());
    };
    out.push(match note {
        Note::Claimed(..) => 32,
        Note::Made(..) => 33,
        Note::Free => 34,
    });
    text(&place.gpu, out);
    let mut numbers = vec![place.start];
    match note {
        Note::Free => {}
        Note::Claimed(owner, profile) => numbers.extend([owner.job_id, owner.run, *profile]),
        Note::Made(owner, made) => {
            // No compute instance: a number that none has.
            let ci = made.ci.unwrap_or(u32::MAX);
            numbers.extend([owner.job_id, owner.run, made.profile, made.start, made.size, made.gi, ci]);
        }
    }
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    if let Note::Made(_, made) = note {
        text(&made.uuid, out);
    }
}

fn decode_slice(kind: u8, bytes: &[u8]) -> Option<Record> {
    let mut rest = bytes;
    fn text(rest: &mut &[u8]) -> Option<String> {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        *rest = after;
        String::from_utf8(text.to_vec()).ok()
    }
    fn number(rest: &mut &[u8]) -> Option<u32> {
        let (number, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        Some(u32::from_le_bytes(*number))
    }
    let place = Place { gpu: text(&mut rest)?, start: number(&mut rest)? };
    let note = if kind == 34 {
        Note::Free
    } else {
        let owner = Owner { job_id: number(&mut rest)?, run: number(&mut rest)? };
        let profile = number(&mut rest)?;
        if kind == 32 {
            Note::Claimed(owner, profile)
        } else {
            let (start, size) = (number(&mut rest)?, number(&mut rest)?);
            let (gi, ci) = (number(&mut rest)?, number(&mut rest)?);
            let ci = Some(ci).filter(|ci| *ci != u32::MAX);
            Note::Made(owner, Instance { profile, start, size, gi, ci, uuid: text(&mut rest)? })
        }
    };
    rest.is_empty().then_some(Record::Slice(place, note))
}

#[cfg(test)]
mod tests {
    use super::{Error, Mark, Record};
    use crate::gpu::Instance;
    use crate::gpu::slices::{Note, Owner, Place};
    use crate::key::Key;
    use crate::step::lifecycle::never_begun;
    use executor_supervisor::outcome::Kind;
    use model::id::{Hook, StepId};

    #[test]
    fn records_read_back() {
        let place = Place { gpu: "GPU-1".to_owned(), start: 4 };
        let owner = Owner { job_id: 7, run: 2 };
        let uuid = "MIG-2".to_owned();
        let made = Instance { profile: 9, start: 4, size: 4, gi: 2, ci: Some(0), uuid };
        let key = |step| Key { job_id: 7, step, run: 3 };
        for record in [
            Record::Epoch(u64::MAX),
            Record::Boot([9; 16]),
            Record::Checkpoint,
            Record::Run(key(StepId::Batch), Mark::Intent),
            Record::Run(key(StepId::Number(4)), Mark::Ended(never_begun(Kind::Lost, "why", 4))),
            Record::Run(key(StepId::Interactive), Mark::Tombstone),
            Record::Run(key(StepId::Number(0)), Mark::Gone),
            Record::Slice(place.clone(), Note::Claimed(owner, 9)),
            Record::Slice(place.clone(), Note::Made(owner, made)),
            Record::Slice(place, Note::Free),
            Record::Run(key(StepId::Extern), Mark::Intent),
            Record::Run(key(StepId::Hook(Hook::Prolog)), Mark::Intent),
            Record::Run(key(StepId::Hook(Hook::Epilog)), Mark::Gone),
        ] {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Ok(record));
        }
        assert_eq!(Record::decode(&[2, 1]), Err(Error::Unknown { version: 2, kind: 1 }));
        assert_eq!(Record::decode(&[1, 77]), Err(Error::Unknown { version: 1, kind: 77 }));
        assert_eq!(Record::decode(&[1, 1, 0]), Err(Error::Malformed { kind: 1 }));
        assert_eq!(Record::decode(&[1, 34, 9, 65]), Err(Error::Malformed { kind: 34 }));
    }
}
