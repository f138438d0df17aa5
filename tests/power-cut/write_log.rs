//! The write log of a disk, in the format of the kernel's dm-log-writes target, and its replay.
//!
//! One sector of header, then entries: a sector with (sector, sectors, flags, data length), little endian, and the
//! data behind it. Source: the kernel's documentation of log-writes. qemu updates the header's count only now and
//! then, so the entries are walked until the file ends.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tests::Random;

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Where it is written to.
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its header is in the log.
    offset: u64,
}

/// All complete entries of a log.
pub(crate) struct WriteLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A moment at which the power goes: before entry `point`.
pub(crate) struct Cut {
    /// Entries below this are on the disk: a flush that had ended covered them.
    pub(crate) durable_until: usize,
}

impl Cut {
    pub(crate) fn at(log: &WriteLog, point: usize) -> Self {
        let flush = log.entries[..point].iter().rposition(|entry| entry.flags & FLUSH != 0);
        Self { durable_until: flush.map_or(0, |at| at + 1) }
    }
}

impl WriteLog {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(std::fs::read(path).with_context(|| format!("read {}", path.display()))?)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let word = |at: u64| {
            let at = usize::try_from(at).ok()?;
            bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
        };
        // qemu writes the header with the first flush: in a log without one it is zero.
        if !matches!(word(0), Some(MAGIC | 0)) {
            bail!("not a write log");
        }
        let mut entries = Vec::new();
        let mut offset = SECTOR;
        while let (Some(sector), Some(sectors), Some(flags)) =
            (word(offset), word(offset + 8), word(offset + 16))
        {
            let stored = if flags & DISCARD == 0 { sectors * SECTOR } else { 0 };
            let end = offset + SECTOR + stored;
            // An entry of zeros or one that is cut short: where logging was when qemu died.
            if (sectors == 0 && flags == 0) || end > bytes.len() as u64 {
                break;
            }
            entries.push(Entry { sector, sectors, flags, offset });
            offset = end;
        }
        Ok(Self { bytes, entries })
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Where entry `index` begins in the log: what stood before it when it was written.
    pub(crate) fn offset(&self, index: usize) -> u64 {
        self.entries[index].offset
    }

    /// The first entry at or behind an offset of the log.
    pub(crate) fn entry_at(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// Writes entries to an image in order.
    pub(crate) fn apply(&self, image: &Path, range: Range<usize>) -> Result<()> {
        let file = open(image)?;
        for entry in range.filter_map(|index| self.entries.get(index)) {
            self.write(&file, entry, 0..entry.sectors)?;
        }
        Ok(())
    }

    /// Writes a random subset of entries: each is kept, dropped, or kept in part by units of a sector. Answers how
    /// many units were dropped. A write through the cache (FUA) is always kept.
    pub(crate) fn apply_subset(&self, image: &Path, range: Range<usize>, random: &mut Random) -> Result<u64> {
        let file = open(image)?;
        let mut dropped = 0;
        for entry in &self.entries[range] {
            let fate = if entry.flags & FUA != 0 { 0 } else { random.below(3) };
            match fate {
                0 => self.write(&file, entry, 0..entry.sectors)?,
                1 => dropped += entry.sectors,
                _ => {
                    for unit in 0..entry.sectors {
                        if random.below(2) == 0 {
                            self.write(&file, entry, unit..unit + 1)?;
                        } else {
                            dropped += 1;
                        }
                    }
                }
            }
        }
        Ok(dropped)
    }

    fn write(&self, file: &File, entry: &Entry, units: Range<u64>) -> Result<()> {
        let to = (entry.sector + units.start) * SECTOR;
        let length = usize::try_from((units.end - units.start) * SECTOR).context("a write's length")?;
        if entry.flags & DISCARD != 0 {
            return file.write_all_at(&vec![0; length], to).context("write to the image");
        }
        let from =
            usize::try_from(entry.offset + SECTOR + units.start * SECTOR).context("a write's offset")?;
        file.write_all_at(&self.bytes[from..from + length], to).context("write to the image")
    }
}

fn open(image: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(image).with_context(|| format!("open {}", image.display()))
}

#[cfg(test)]
mod tests_of_the_log {
    use super::*;

    fn log(entries: &[(u64, u64, u64)], cut_short: usize) -> WriteLog {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        for (sector, sectors, flags) in entries {
            let mut head = vec![0; 512];
            for (at, word) in [sector, sectors, flags].into_iter().enumerate() {
                head[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
            bytes.extend(head);
            bytes.extend(vec![*sector as u8 + 1; usize::try_from(sectors * SECTOR).unwrap()]);
        }
        bytes.truncate(bytes.len() - cut_short);
        WriteLog::parse(bytes).unwrap()
    }

    #[test]
    fn what_a_flush_covered_is_durable() {
        let log = log(&[(0, 1, 0), (1, 1, 0), (0, 0, FLUSH), (2, 1, 0), (3, 1, 0)], 0);
        assert_eq!(log.entries(), 5);
        assert_eq!(Cut::at(&log, 2).durable_until, 0);
        assert_eq!(Cut::at(&log, 3).durable_until, 3);
        assert_eq!(Cut::at(&log, 5).durable_until, 3);
        assert_eq!(log.entry_at(513), 1);
    }

    #[test]
    fn an_entry_that_is_cut_short_is_none() {
        assert_eq!(log(&[(0, 1, 0), (1, 2, 0)], 1).entries(), 1);
        assert!(WriteLog::parse(vec![1; 1024]).is_err());
    }

    #[test]
    fn a_subset_keeps_through_writes_and_drops_some() {
        let log = log(&[(0, 4, FUA), (8, 64, 0), (80, 64, 0), (150, 64, 0), (220, 36, 0)], 0);
        let path = std::env::temp_dir().join(format!("write-log-{}", std::process::id()));
        std::fs::write(&path, vec![0; 512 * 256]).unwrap();
        let dropped = log.apply_subset(&path, 0..5, &mut Random::new(3)).unwrap();
        let image = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(image[..4 * 512].iter().all(|byte| *byte == 1));
        let zero_units = image.chunks(512).skip(8).filter(|unit| unit.iter().all(|byte| *byte == 0)).count();
        assert!(dropped > 0 && zero_units as u64 >= dropped, "{dropped} {zero_units}");
    }
}
