//! One newtype for each identity, so that no bare integer crosses a function boundary.
//!
//! Ids are compared and ordered by their number; printing is Slurm's text. Nothing here allocates.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A job's number, as users see it. An array's record and each started element have one of their own.
    JobId(u32)
}
number! {
    /// Counts the starts of one job; with the job id it names a run. The first run is 1.
    RunNumber(u32)
}
number! {
    /// A node's place in the tables of one cluster state. No decision depends on its value.
    NodeIdx(u32)
}
number! {
    /// A partition's place in the tables of one cluster state.
    PartitionIdx(u32)
}
number! {
    /// Index of an array element, as given to `--array`.
    TaskIndex(u32)
}
number! {
    /// A user of the operating system.
    Uid(u32)
}
number! {
    /// A group of the operating system.
    Gid(u32)
}
number! {
    /// Number of a scheduler's ownership of its journal; grows with each take-over.
    Epoch(u64)
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident[$len:literal]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }
    };
}

opaque! {
    /// The kernel's boot id: another value means that no process of before is left.
    BootId[16]
}
opaque! {
    /// Random name of an executor's spool, made with the spool.
    SpoolId[16]
}
opaque! {
    /// Random key of a call that creates something; a repeated call carries the same one.
    RequestKey[16]
}
opaque! {
    /// Address of a body (script or environment): the BLAKE3 hash of its bytes.
    BodyHash[32]
}

/// Which step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepId {
    /// The batch script's step, on the first node of the allocation.
    Batch,
    /// The interactive step that Slurm shows for `salloc` with a shell on the node.
    Interactive,
    /// A step made by `srun`, numbered from 0 within its job.
    Number(u32),
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Interactive => f.write_str("interactive"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
