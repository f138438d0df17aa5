//! Inputs that made the machine assert: told by their digest, kept beside the journal.
//!
//! An input is refused once it has made the machine assert twice: the first time may have been the state's
//! fault. The list is short and bounded; the oldest entry goes.

use std::fmt::Write as _;
use std::sync::Arc;

use journal::{Disk, read_full_at, write_all_at};
use scheduler_core::input::Input;

use super::Error;
use super::layout::{UNFINISHED, remove_if_there};

const NAME: &str = "suspects";
/// An input that asserted so often is refused.
const REFUSED_AT: u32 = 2;
/// Most inputs that are remembered.
const ENTRIES_MAX: usize = 64;

/// What tells an input again: who asks what, without the number of the caller or session.
pub type Digest = [u8; 32];

/// Inputs that made the machine assert.
pub struct Suspects {
    disk: Arc<dyn Disk>,
    entries: Vec<(Digest, u32)>,
}

/// The digest of an input. Cost: its text form is made.
#[must_use]
pub fn digest(input: &Input) -> Digest {
    let text = match input {
        Input::Submit(submit) => format!("submit {:?} {:?} {:?}", submit.asker, submit.key, submit.request),
        Input::Command { asker, command, .. } => format!("command {asker:?} {command:?}"),
        Input::Registered(registration) => {
            format!("registered {} {:?} {:?}", registration.name, registration.spool, registration.runs)
        }
        Input::Owned(_)
        | Input::Configure(_)
        | Input::Disconnected { .. }
        | Input::Report { .. }
        | Input::Deadline
        | Input::Plan(_) => format!("{input:?}"),
    };
    *blake3::hash(text.as_bytes()).as_bytes()
}

impl Suspects {
    /// Reads the list; one that cannot be read counts as empty.
    ///
    /// # Errors
    /// The operating system's word.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { disk, entries: Vec::new() });
            }
            Err(error) => return Err(Error::io("open", NAME, error)),
        };
        let mut bytes = vec![0; ENTRIES_MAX * 80];
        let read = read_full_at(&*file, 0, &mut bytes).map_err(|error| Error::io("read", NAME, error))?;
        let text = String::from_utf8_lossy(&bytes[..read]);
        let entries = text.lines().filter_map(parse).take(ENTRIES_MAX).collect();
        Ok(Self { disk, entries })
    }

    /// Whether nothing is suspect: then no input need be digested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an input is to be refused.
    #[must_use]
    pub fn refuses(&self, digest: &Digest) -> bool {
        self.entries.iter().any(|(known, count)| known == digest && *count >= REFUSED_AT)
    }

    /// Notes durably that an input made the machine assert; answers how often it has.
    ///
    /// # Errors
    /// The operating system's word; then it is noted in memory alone.
    pub fn note(&mut self, digest: Digest) -> Result<u32, Error> {
        let before = self.entries.iter().position(|(known, _)| *known == digest);
        let count = before.map_or(0, |at| self.entries.remove(at).1) + 1;
        self.entries.push((digest, count));
        if self.entries.len() > ENTRIES_MAX {
            self.entries.remove(0);
        }
        self.write().map(|()| count)
    }

    fn write(&self) -> Result<(), Error> {
        let mut text = String::new();
        for (digest, count) in &self.entries {
            digest.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string has room"));
            writeln!(text, " {count}").expect("a string has room");
        }
        let unfinished = format!("{NAME}{UNFINISHED}");
        remove_if_there(&*self.disk, &unfinished)?;
        let failed = |operation| move |error| Error::io(operation, NAME, error);
        let file = self.disk.create(&unfinished).map_err(failed("create"))?;
        write_all_at(&*file, 0, text.as_bytes()).map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        self.disk.rename(&unfinished, NAME).map_err(failed("rename"))?;
        self.disk.sync_directory().map_err(failed("sync the folder of"))
    }
}

fn parse(line: &str) -> Option<(Digest, u32)> {
    let (hex, count) = line.split_once(' ')?;
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    Some((Digest::try_from(bytes).ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use journal::memory::MemoryDisk;

    use super::*;

    #[test]
    fn the_second_time_is_once_too_often() {
        let disk = MemoryDisk::new();
        let open = |disk: &MemoryDisk| Suspects::open(Arc::new(disk.clone())).unwrap();
        let mut suspects = open(&disk);
        assert!(suspects.is_empty());
        let one = digest(&Input::Deadline);
        assert_eq!(suspects.note(one).unwrap(), 1);
        assert!(!suspects.refuses(&one));
        let mut again = open(&disk.settled());
        assert!(!again.is_empty() && !again.refuses(&one));
        assert_eq!(again.note(one).unwrap(), 2);
        assert!(again.refuses(&one));
        assert!(!again.refuses(&digest(&Input::Owned(model::id::Epoch(1)))));
    }

    #[test]
    fn the_list_is_bounded_and_survives() {
        let disk = MemoryDisk::new();
        let mut suspects = Suspects::open(Arc::new(disk.clone())).unwrap();
        for number in 0..ENTRIES_MAX as u8 + 9 {
            suspects.note([number; 32]).unwrap();
        }
        let read = Suspects::open(Arc::new(disk.settled())).unwrap();
        assert_eq!(read.entries, suspects.entries);
        assert_eq!(read.entries.len(), ENTRIES_MAX);
        disk.set_content(NAME, b"zz\n\xff\xff 1\n".to_vec());
        assert!(Suspects::open(Arc::new(disk)).unwrap().is_empty());
    }
}
