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
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $len]);

        // The order of the bytes, sixteen of them compared as one number: keys are searched for with each input.
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                let first = |one: &Self| one.0.first_chunk::<16>().map(|part| u128::from_be_bytes(*part));
                let last = |one: &Self| one.0.last_chunk::<16>().map(|part| u128::from_be_bytes(*part));
                let order = first(self).cmp(&first(other));
                if $len == 16 { order } else { order.then_with(|| last(self).cmp(&last(other))) }
            }
        }
        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        const _: () = assert!($len == 16 || $len == 32, "its ends are compared");

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
    /// The step that `PrologFlags=Contain` makes on every node of a job: it lives as long as the job.
    Extern,
    /// One of the site's programs around a job. Slurm has no step for it, and none is shown.
    Hook(Hook),
}

/// A program of the site that the cluster runs for a job as a whole. Source: `man slurm.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// `Prolog`, on every node, at the allocation already (`PrologFlags=Alloc`).
    Prolog,
    /// `Epilog`, on every node.
    Epilog,
    /// `PrologSlurmctld`, beside the scheduler.
    ControllerProlog,
    /// `EpilogSlurmctld`, beside the scheduler.
    ControllerEpilog,
}

impl Hook {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Prolog, Self::Epilog, Self::ControllerProlog, Self::ControllerEpilog];

    /// Its name in run keys and on disk; also Slurm's `SLURM_SCRIPT_CONTEXT`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Prolog => "prolog_slurmd",
            Self::Epilog => "epilog_slurmd",
            Self::ControllerProlog => "prolog_slurmctld",
            Self::ControllerEpilog => "epilog_slurmctld",
        }
    }
}

impl StepId {
    /// The step of that text, as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "batch" => Some(Self::Batch),
            "interactive" => Some(Self::Interactive),
            "extern" => Some(Self::Extern),
            other => match Hook::ALL.into_iter().find(|hook| hook.text() == other) {
                Some(hook) => Some(Self::Hook(hook)),
                None => other.parse().ok().map(Self::Number),
            },
        }
    }

    /// Whether it runs what the user asked for: neither one of the site's programs nor their container.
    #[must_use]
    pub const fn is_work(self) -> bool {
        match self {
            Self::Batch | Self::Interactive | Self::Number(_) => true,
            Self::Extern | Self::Hook(_) => false,
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Interactive => f.write_str("interactive"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Extern => f.write_str("extern"),
            Self::Hook(hook) => f.write_str(hook.text()),
        }
    }
}
