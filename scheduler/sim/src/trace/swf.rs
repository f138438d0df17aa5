//! Standard Workload Format, version 2.2: eighteen numbers a line, header lines with `;`.
//!
//! Owns the reading and the filter: jobs without processors or run time go, a job is killed at its
//! limit. What is no job line is counted by line number, never used. Source: the archive's description
//! of the format (D. Feitelson and others).

use std::fmt;
use std::io::Read;

/// The largest file that is read, bytes after decompression.
pub const MOST_BYTES: u64 = 4 << 30;

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
    /// Lines that are no job, by number from 1.
    pub bad_lines: Vec<u64>,
    /// Jobs that the filter dropped.
    pub dropped: u64,
    /// Jobs that ran past their limit.
    pub cut: u64,
}

/// Why a file is no trace.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read.
    Read(std::io::Error),
    /// Neither the header nor the caller says how many processors there are.
    NoProcessors,
    /// No line of it is a job.
    NoJobs,
    /// Larger than [`MOST_BYTES`].
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::NoProcessors => f.write_str("no MaxProcs or MaxNodes in its header; give --procs N"),
            Self::NoJobs => f.write_str("not a trace: no line has the 18 numbers of a job"),
            Self::TooLarge => write!(f, "larger than {MOST_BYTES} bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads a whole file, through gzip where it begins like it.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_bytes(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    let raw = std::fs::read(path).map_err(Error::Read)?;
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len() * 5);
    let mut decoder = flate2::read::MultiGzDecoder::new(&*raw).take(MOST_BYTES + 1);
    decoder.read_to_end(&mut bytes).map_err(Error::Read)?;
    if bytes.len() as u64 > MOST_BYTES { Err(Error::TooLarge) } else { Ok(bytes) }
}

impl Trace {
    /// Reads a trace for a machine of `procs` processors (`None`: the header's MaxProcs, else MaxNodes).
    ///
    /// # Errors
    /// If it is no trace.
    /// Cost: O(bytes + jobs × log jobs).
    pub fn parse(bytes: &[u8], procs: Option<u32>) -> Result<Self, Error> {
        let mut trace = Self { jobs: Vec::with_capacity(bytes.len() / 64), ..Self::default() };
        let mut lines = 0;
        let mut rows = Vec::with_capacity(bytes.len() / 64);
        let (mut max_procs, mut max_nodes) = (None, None);
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            match line.first() {
                None => {}
                Some(b';') => {
                    max_procs = max_procs.or_else(|| header(line, "MaxProcs"));
                    max_nodes = max_nodes.or_else(|| header(line, "MaxNodes"));
                }
                Some(_) => match columns(line) {
                    Some(row) => {
                        lines += 1;
                        rows.push(row);
                    }
                    None => trace.bad_lines.push(number),
                },
            }
        }
        if lines == 0 {
            return Err(Error::NoJobs);
        }
        trace.procs =
            procs.or(max_procs).or(max_nodes).filter(|procs| *procs > 0).ok_or(Error::NoProcessors)?;
        for row in rows {
            trace.add(&row);
        }
        trace.jobs.sort_by_key(|job| (job.submit, job.number));
        Ok(trace)
    }

    /// The filter, in its order.
    fn add(&mut self, row: &[i64; 18]) {
        let [number, submit, run, user] = [row[0], row[1], row[3], row[11]];
        let procs = if row[7] > 0 { row[7] } else { row[4] };
        if procs <= 0 || procs > i64::from(self.procs) || run <= 0 || submit < 0 {
            self.dropped += 1;
            return;
        }
        let procs = u32::try_from(procs).expect("it is at most the machine's");
        self.has_estimates |= row[8] > 0;
        let estimate = if row[8] > 0 { row[8] } else { run };
        self.cut += u64::from(run > estimate);
        let user = u32::try_from(user).unwrap_or(u32::MAX - 1);
        self.jobs.push(TraceJob { number, submit, run: run.min(estimate), procs, estimate, user });
    }
}

/// `; MaxProcs: 100`
fn header(line: &[u8], key: &str) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.trim_start_matches([';', ' ']).strip_prefix(key)?.trim_start().strip_prefix(':')?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The eighteen numbers of a line; fractions are cut off. `None`: it has not got them.
fn columns(line: &[u8]) -> Option<[i64; 18]> {
    let mut row = [-1; 18];
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for column in &mut row {
        *column = number(words.next()?)?;
    }
    Some(row)
}

fn number(word: &[u8]) -> Option<i64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || whole > 15 {
        return None;
    }
    let value = digits[..whole].iter().fold(0_i64, |value, byte| value * 10 + i64::from(byte - b'0'));
    match &digits[whole..] {
        [] => {}
        [b'.', fraction @ ..] if fraction.iter().all(u8::is_ascii_digit) => {}
        // Exponents and the like are rare enough for the general reader.
        _ => {
            let value: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
            return (value.abs() < 1e15).then_some(value.trunc() as i64);
        }
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters_and_counts() {
        let text = "; MaxNodes: 8\n; MaxProcs: 4\n\
            2 10 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n\
            1 10 -1 50.9 2 -1 -1 -1 9 -1 1 7 1 1 1 1 -1 -1\n\
            3 11 -1 5 9 -1 -1 9 9 -1 1 7 1 1 1 1 -1 -1\n\
            4 12 -1 0 1 -1 -1 1 9 -1 1 7 1 1 1 1 -1 -1\n\
            5 9 -1 5 1 -1 -1 1 -1 -1 1 7 1 1 1 1 -1 -1\n\
            6 13 nonsense\n\n";
        let trace = Trace::parse(text.as_bytes(), None).unwrap();
        assert_eq!((trace.procs, trace.dropped, trace.cut), (4, 2, 1));
        assert_eq!(trace.bad_lines, [8]);
        let numbers: Vec<(i64, i64, i64)> =
            trace.jobs.iter().map(|job| (job.number, job.run, job.estimate)).collect();
        assert_eq!(numbers, [(5, 5, 5), (1, 9, 9), (2, 5, 9)]);
        assert!(trace.has_estimates);
    }

    #[test]
    fn refuses_what_is_no_trace() {
        assert!(matches!(Trace::parse(b"hello\nworld\n", Some(4)), Err(Error::NoJobs)));
        let no_header = b"1 0 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n";
        assert!(matches!(Trace::parse(no_header, None), Err(Error::NoProcessors)));
        assert_eq!(Trace::parse(no_header, Some(2)).unwrap().jobs.len(), 1);
    }
}
