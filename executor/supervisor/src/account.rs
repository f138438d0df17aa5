//! What a step's tasks used of each thing on one node, and what the kernel held the step to.
//!
//! A figure says the most that one task came to, which task that was, and what all tasks came to together: what Slurm's
//! accounting shows as MaxRSS, MaxRSSTask and AveRSS. Part of the outcome file and of a frame; bytes only.

use crate::wire::{Error, Reader, Writer};

/// Of one thing that tasks use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    /// The most that one task came to.
    pub most: u64,
    /// The rank of that task.
    pub rank: u32,
    /// What each task came to, summed.
    pub total: u64,
}

/// See the module comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Resident memory of a task and its descendants, bytes.
    pub rss: Figure,
    /// Their address space, bytes.
    pub virtual_memory: Figure,
    /// Read from storage, bytes.
    pub read: Figure,
    /// Written to storage, bytes.
    pub written: Figure,
    /// Page faults that needed storage.
    pub pages: Figure,
    /// The least CPU time that one task took, µs, and which.
    pub cpu_least_us: u64,
    /// See `cpu_least_us`.
    pub cpu_least_rank: u32,
    /// What the kernel said of the step's limits after they were set, in words; empty: nothing is limited.
    pub held: String,
}

impl Account {
    /// The five figures in their order on the wire.
    #[must_use]
    pub fn figures(&self) -> [Figure; 5] {
        [self.rss, self.virtual_memory, self.read, self.written, self.pages]
    }

    pub(crate) fn put(&self, out: &mut Writer<'_>) {
        for figure in self.figures() {
            out.u64(figure.most);
            out.u32(figure.rank);
            out.u64(figure.total);
        }
        out.u64(self.cpu_least_us);
        out.u32(self.cpu_least_rank);
        out.bytes(self.held.as_bytes());
    }

    pub(crate) fn get(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let mut figure = || {
            let (most, rank) = (fields.u64("figure")?, fields.u32("rank")?);
            Ok::<_, Error>(Figure { most, rank, total: fields.u64("figure")? })
        };
        Ok(Self {
            rss: figure()?,
            virtual_memory: figure()?,
            read: figure()?,
            written: figure()?,
            pages: figure()?,
            cpu_least_us: fields.u64("CPU time")?,
            cpu_least_rank: fields.u32("rank")?,
            held: fields.text("limits")?,
        })
    }
}
