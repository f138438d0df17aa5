//! The outcome file: how a run ended, written once by its supervisor.
//!
//! It appears by rename, so a reader sees nothing or all of it; the checksum and the run's name in it tell
//! what a power cut left (run folders are used again: a file may hold an earlier run's outcome). Making it
//! durable is the executor's part: it records the outcome in its own journal before it reports, and what a
//! power cut took counts as lost.

use crate::account::Account;
use crate::wire::{Error, Reader, Writer, checksum};

const MAGIC: &[u8; 4] = b"SLOU";
/// Version 1 had no account.
const VERSION: u16 = 2;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its tasks ended.
    Exited,
    /// The time limit ended it.
    TimeLimit,
    /// A cancel, requeue or preemption ended it.
    Cancelled,
    /// A task could not be started; `detail` says path and error.
    LaunchFailed,
    /// The supervisor was lost (written by the executor only).
    Lost,
    /// Ended for using too much memory.
    OutOfMemory,
    /// Not started, as the site's prolog failed (written by the executor only).
    PrologFailed,
    /// Not started, as the node's own disk takes nothing (written by the executor only).
    NodeUnable,
}

/// What a process left: its exit code, or the signal that ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, 0 where a signal ended it.
    pub code: u32,
    /// Signal, 0 where it exited.
    pub signal: u32,
}

impl Exit {
    /// Slurm's order of badness: any exit code is worse than any signal, as in a raw wait status.
    #[must_use]
    pub fn badness(self) -> u32 {
        (self.code << 8) | self.signal
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub kind: Kind,
    /// Of the batch script, or the worst of the tasks.
    pub exit: Exit,
    /// When the first task was started, ms since 1970.
    pub begun_ms: i64,
    /// When the last process was gone, ms since 1970.
    pub ended_ms: i64,
    /// User CPU time of all processes, µs.
    pub user_us: u64,
    /// System CPU time of all processes, µs.
    pub system_us: u64,
    /// Largest resident size of one process, bytes.
    pub max_rss_bytes: u64,
    /// A stop was asked for before the tasks had ended on their own.
    pub stop_requested: bool,
    /// Per task, in local order.
    pub tasks: Vec<Exit>,
    /// A sentence where something could not be done; else empty.
    pub detail: String,
    /// What tasks used of each thing, and what the step was held to.
    pub account: Box<Account>,
}

impl Outcome {
    /// The bytes of the file. `run` is the name of the run's folder.
    #[must_use]
    pub fn encode(&self, run: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + self.detail.len() + 8 * self.tasks.len());
        bytes.extend_from_slice(MAGIC);
        let mut out = Writer(&mut bytes);
        out.u16(VERSION);
        out.bytes(run.as_bytes());
        out.u8(match self.kind {
            Kind::Exited => 0,
            Kind::TimeLimit => 1,
            Kind::Cancelled => 2,
            Kind::LaunchFailed => 3,
            Kind::Lost => 4,
            Kind::OutOfMemory => 5,
            Kind::PrologFailed => 6,
            Kind::NodeUnable => 7,
        });
        put_exit(&mut out, &self.exit);
        out.i64(self.begun_ms);
        out.i64(self.ended_ms);
        out.u64(self.user_us);
        out.u64(self.system_us);
        out.u64(self.max_rss_bytes);
        out.bool(self.stop_requested);
        out.list(&self.tasks, put_exit);
        out.bytes(self.detail.as_bytes());
        self.account.put(&mut out);
        let sum = checksum(out.0);
        out.u64(sum);
        bytes
    }

    /// Reads the bytes of a file that must be of this run.
    ///
    /// # Errors
    /// Torn, damaged, of another run, or of a version that is not known.
    pub fn decode(bytes: &[u8], run: &str) -> Result<Self, Error> {
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Error::Short { what: "outcome" })?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(Error::Checksum);
        }
        let mut fields = Reader(body);
        if fields.take(4, "outcome")? != MAGIC {
            return Err(Error::Magic);
        }
        let version = fields.u16("version")?;
        if !(1..=VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        if fields.text("run")? != run {
            return Err(Error::Value { what: "run" });
        }
        let outcome = Self {
            kind: match fields.u8("kind")? {
                0 => Kind::Exited,
                1 => Kind::TimeLimit,
                2 => Kind::Cancelled,
                3 => Kind::LaunchFailed,
                4 => Kind::Lost,
                5 => Kind::OutOfMemory,
                6 => Kind::PrologFailed,
                7 => Kind::NodeUnable,
                _ => return Err(Error::Value { what: "kind" }),
            },
            exit: get_exit(&mut fields)?,
            begun_ms: fields.i64("begin")?,
            ended_ms: fields.i64("end")?,
            user_us: fields.u64("user time")?,
            system_us: fields.u64("system time")?,
            max_rss_bytes: fields.u64("resident size")?,
            stop_requested: fields.bool("stop")?,
            tasks: fields.list("tasks", get_exit)?,
            detail: fields.text("detail")?,
            account: if version > 1 { Box::new(Account::get(&mut fields)?) } else { Box::default() },
        };
        fields.end("outcome")?;
        Ok(outcome)
    }
}

fn put_exit(out: &mut Writer<'_>, exit: &Exit) {
    out.u32(exit.code);
    out.u32(exit.signal);
}

fn get_exit(fields: &mut Reader<'_>) -> Result<Exit, Error> {
    Ok(Exit { code: fields.u32("exit code")?, signal: fields.u32("signal")? })
}

#[cfg(test)]
mod tests {
    use super::{Exit, Kind, Outcome};
    use crate::account::{Account, Figure};

    fn sample() -> Outcome {
        Outcome {
            kind: Kind::TimeLimit,
            exit: Exit { code: 0, signal: 15 },
            begun_ms: -5,
            ended_ms: i64::MAX,
            user_us: 1,
            system_us: 2,
            max_rss_bytes: 3,
            stop_requested: true,
            tasks: vec![Exit { code: 4, signal: 0 }, Exit { code: 0, signal: 9 }],
            detail: "naïve".to_owned(),
            account: Box::new(Account {
                rss: Figure { most: 9, rank: 1, total: 12 },
                cpu_least_us: 4,
                cpu_least_rank: 7,
                held: "cpus 0-1".to_owned(),
                ..Account::default()
            }),
        }
    }

    #[test]
    fn reads_back_and_refuses_every_damage() {
        let bytes = sample().encode("7.0.1");
        assert_eq!(Outcome::decode(&bytes, "7.0.1"), Ok(sample()));
        assert!(Outcome::decode(&bytes, "7.0.2").is_err());
        for cut in 0..bytes.len() {
            assert!(Outcome::decode(&bytes[..cut], "7.0.1").is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(Outcome::decode(&flipped, "7.0.1").is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn an_outcome_of_the_first_version_is_read() {
        let mut bytes = Outcome { account: Box::default(), ..sample() }.encode("7.0.1");
        bytes.truncate(bytes.len() - 8);
        let mut account = Vec::new();
        Account::default().put(&mut crate::wire::Writer(&mut account));
        bytes.truncate(bytes.len() - account.len());
        bytes[4] = 1;
        let sum = crate::wire::checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let read = Outcome::decode(&bytes, "7.0.1");
        assert_eq!(read, Ok(Outcome { account: Box::default(), ..sample() }));
    }

    #[test]
    fn a_code_is_worse_than_a_signal() {
        assert!(Exit { code: 1, signal: 0 }.badness() > Exit { code: 0, signal: 64 }.badness());
    }
}
