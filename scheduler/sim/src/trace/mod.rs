//! Recorded workloads through the production scheduler, in virtual time.
//!
//! ```text
//!  swf, sacct, lublin ──► Trace ──► change ──► replay (machine and planner) ──► starts ──► figures, measure
//!                                                   └──► watchers: decisions, promises, progress
//! ```
//! [`swf`] and [`sacct`] read a trace and [`lublin`] makes one; [`change`] cuts and scales it; [`replay`]
//! runs it; [`figures`] and [`measure`] say what came of it, [`compare`] and [`difference`] what two runs
//! have apart. Semantics: whole seconds; at each instant ends, then submissions, then deadlines, then a
//! pass; equal keys in order of submission.

pub mod change;
pub mod compare;
pub mod decisions;
pub mod difference;
pub mod fault;
pub mod figures;
pub mod lublin;
pub mod measure;
pub mod promises;
pub mod replay;
pub mod sacct;
pub mod statistics;
pub mod swf;

use std::fmt;
use std::io::Read;
use std::path::Path;

use model::gres::GresRequest;
use model::quantity::MemoryMib;

use fault::Faults;

/// The largest file that is read, bytes after decompression.
pub const MOST_BYTES: u64 = 4 << 30;

/// Which run time the scheduler believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimates {
    /// What the user asked for.
    User,
    /// The run time itself.
    Perfect,
}

/// How the processors of a trace become nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One node with all of them.
    #[default]
    OneNode,
    /// A node for each.
    Nodes,
}

/// A job of a trace. Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceJob {
    /// Its number in the trace.
    pub number: i64,
    /// When it was submitted.
    pub submit: i64,
    /// How long it runs; at most the estimate.
    pub run: i64,
    /// Processors.
    pub procs: u32,
    /// How long its user said it may run; the run time where nothing was said.
    pub estimate: i64,
    /// Its user.
    pub user: u32,
    /// Place of what it needs beside processors in [`Trace::needs`], plus one; 0: nothing.
    pub need: u32,
}

/// What a job needs beside processors. It counts where the machine is that of a slurm.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Nodes.
    pub nodes: Option<u32>,
    /// On each node.
    pub memory: Option<MemoryMib>,
    /// For the whole job.
    pub gres: Vec<GresRequest>,
    /// By name.
    pub partition: Option<Box<str>>,
    /// The number that it was given.
    pub priority: Option<u32>,
}

/// A trace as read.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Jobs in order of submission, then number.
    pub jobs: Vec<TraceJob>,
    /// Processors of the machine.
    pub procs: u32,
    /// Whether any job has a limit of its user.
    pub has_estimates: bool,
    /// Second zero of the trace since the epoch, where it is known.
    pub epoch: Option<i64>,
    /// Distinct needs.
    pub needs: Vec<Need>,
    /// What is wrong with its lines.
    pub faults: Faults,
    /// Lines that are steps of jobs, which a trace of jobs has no use for.
    pub steps: u64,
}

impl Trace {
    /// What a job needs beside processors.
    #[must_use]
    pub fn need(&self, job: &TraceJob) -> Option<&Need> {
        self.needs.get((job.need as usize).checked_sub(1)?)
    }
}

/// Why a file is no trace.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read.
    Read(std::io::Error),
    /// Neither the header nor the caller says how many processors there are.
    NoProcessors,
    /// No line of it is a job: what was looked for.
    NoJobs(&'static str),
    /// An output of sacct whose fields lie in columns, cut off at their widths.
    NotParsable,
    /// A column that cannot be done without.
    NoColumn(&'static str),
    /// Larger than [`MOST_BYTES`].
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::NoProcessors => {
                f.write_str("it does not say how many processors there are; give --procs N")
            }
            Self::NoJobs(looked_for) => write!(f, "not a trace: {looked_for}"),
            Self::NotParsable => f.write_str("an output of sacct in columns; give -P to sacct"),
            Self::NoColumn(column) => write!(f, "an output of sacct without the field {column}"),
            Self::TooLarge => write!(f, "larger than {MOST_BYTES} bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads a whole file, through gzip where it begins like it.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let raw = std::fs::read(path).map_err(Error::Read)?;
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len() * 8);
    let mut decoder = flate2::read::MultiGzDecoder::new(&*raw).take(MOST_BYTES + 1);
    decoder.read_to_end(&mut bytes).map_err(Error::Read)?;
    if bytes.len() as u64 > MOST_BYTES { Err(Error::TooLarge) } else { Ok(bytes) }
}

/// Reads a trace in whichever of the two formats it is.
///
/// # Errors
/// If it is no trace.
pub fn parse(bytes: &[u8], procs: Option<u32>) -> Result<Trace, Error> {
    // A mark of byte order says nothing in UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if sacct::is_it(bytes) { sacct::parse(bytes, procs) } else { swf::parse(bytes, procs) }
}
