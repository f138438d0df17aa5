//! Standard Workload Format, version 2.2: eighteen numbers a line, header lines with `;`.
//!
//! Owns the reading, the filter and the writing: jobs without processors or run time go, a job is killed
//! at its limit. What is no job line is counted by line number, never used. Source: the archive's
//! description of the format (D. Feitelson and others).

use std::io::Write;

use super::fault::{Fault, Faults};
use super::{Error, Trace, TraceJob};

/// The columns that a simulation reads.
#[derive(Clone, Copy)]
struct Row {
    line: u64,
    number: i64,
    submit: i64,
    run: i64,
    procs: i64,
    estimate: i64,
    user: i64,
}

/// Reads a trace for a machine of `procs` processors (`None`: the header's MaxProcs, else MaxNodes).
///
/// # Errors
/// If it is no trace.
/// Cost: O(bytes), and O(jobs × log jobs) where they are not in order.
pub fn parse(bytes: &[u8], procs: Option<u32>) -> Result<Trace, Error> {
    let mut trace = Trace::default();
    let mut rows = Vec::with_capacity(bytes.len() / 48);
    let (mut max_procs, mut max_nodes) = (None, None);
    let mut text = Cursor { bytes, at: 0 };
    let mut line = 0;
    while text.at < bytes.len() {
        line += 1;
        text.skip_blanks();
        match text.byte() {
            b'\n' => {}
            0 if text.at >= bytes.len() => {}
            b';' => {
                let header_line = text.rest_of_line();
                max_procs = max_procs.or_else(|| header(header_line, "MaxProcs"));
                max_nodes = max_nodes.or_else(|| header(header_line, "MaxNodes"));
                trace.epoch = trace.epoch.or_else(|| header(header_line, "UnixStartTime"));
            }
            _ => match text.row(line) {
                Some(row) => rows.push(row),
                None => trace.faults.note(Fault::NotAJob, line),
            },
        }
        text.next_line();
    }
    if rows.is_empty() {
        return Err(Error::NoJobs("no line has the 18 numbers of a job"));
    }
    trace.procs = procs.or(max_procs).or(max_nodes).filter(|procs| *procs > 0).ok_or(Error::NoProcessors)?;
    trace.jobs.reserve_exact(rows.len());
    for row in &rows {
        add(&mut trace, row);
    }
    note_order(&rows, &mut trace.faults);
    let key = |job: &TraceJob| (job.submit, job.number);
    if !trace.jobs.is_sorted_by_key(key) {
        trace.jobs.sort_by_key(key);
    }
    Ok(trace)
}

/// The filter, in its order.
fn add(trace: &mut Trace, row: &Row) {
    let Row { line, number, submit, run, procs, estimate, user } = *row;
    let fault = if procs <= 0 {
        Some(Fault::NoProcessors)
    } else if procs > i64::from(trace.procs) {
        Some(Fault::TooManyProcessors)
    } else if run <= 0 {
        Some(Fault::NoRunTime)
    } else {
        (submit < 0).then_some(Fault::NoSubmit)
    };
    if let Some(fault) = fault {
        return trace.faults.note(fault, line);
    }
    let procs = u32::try_from(procs).expect("it is at most the machine's");
    trace.has_estimates |= estimate > 0;
    let estimate = if estimate > 0 { estimate } else { run };
    if run > estimate {
        trace.faults.note(Fault::PastLimit, line);
    }
    let user = u32::try_from(user).unwrap_or(u32::MAX - 1);
    trace.jobs.push(TraceJob { number, submit, run: run.min(estimate), procs, estimate, user, need: 0 });
}

/// Notes lines out of order and numbers that come twice.
fn note_order(rows: &[Row], faults: &mut Faults) {
    let mut last = (i64::MIN, i64::MIN);
    let mut rising = true;
    for row in rows {
        if row.submit >= 0 && row.submit < last.0 {
            faults.note(Fault::Unordered, row.line);
        }
        rising &= row.number > last.1;
        last = (last.0.max(row.submit), row.number);
    }
    if !rising {
        let mut numbers: Vec<(i64, u64)> = rows.iter().map(|row| (row.number, row.line)).collect();
        numbers.sort_unstable();
        let twice = numbers.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1);
        let mut lines: Vec<u64> = twice.collect();
        lines.sort_unstable();
        lines.into_iter().for_each(|line| faults.note(Fault::SameNumber, line));
    }
}

/// `; MaxProcs: 100`
fn header<T: std::str::FromStr>(line: &[u8], key: &str) -> Option<T> {
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.trim_start_matches([';', ' ', '\t']).strip_prefix(key)?.trim_start().strip_prefix(':')?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A place in the text. Lines end with a line feed, or with the text.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The byte here; zero at the end.
    fn byte(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.byte(), b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    fn rest_of_line(&self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        &rest[..end]
    }

    fn next_line(&mut self) {
        self.at += self.rest_of_line().len() + 1;
    }

    /// The eighteen numbers of a line. `None`: it has not got them.
    fn row(&mut self, line: u64) -> Option<Row> {
        let mut columns = [0; 18];
        for column in &mut columns {
            *column = self.number()?;
        }
        let [number, submit, _, run, allocated, _, _, requested, estimate, _, _, user, ..] = columns;
        let procs = if requested > 0 { requested } else { allocated };
        Some(Row { line, number, submit, run, procs, estimate, user })
    }

    /// The next number of the line; a fraction is cut off.
    #[inline]
    fn number(&mut self) -> Option<i64> {
        // In local variables: eighteen numbers a line are most of a trace's reading.
        let bytes = self.bytes;
        let here = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let mut at = self.at;
        let mut byte = here(at);
        while matches!(byte, b' ' | b'\t' | b'\r') {
            at += 1;
            byte = here(at);
        }
        // Most columns are not known.
        if let Some(&[b'-', b'1', b' ' | b'\t' | b'\n']) = bytes.get(at..at + 3) {
            self.at = at + 2;
            return Some(-1);
        }
        let begin = at;
        let negative = byte == b'-';
        if negative {
            at += 1;
            byte = here(at);
        }
        let digits = at;
        let mut value = 0_i64;
        while byte.is_ascii_digit() && at - digits < 16 {
            value = value * 10 + i64::from(byte - b'0');
            at += 1;
            byte = here(at);
        }
        let whole = at - digits;
        self.at = at;
        if whole == 0 || whole > 15 {
            return None;
        }
        if byte == b'.' {
            at += 1;
            while here(at).is_ascii_digit() {
                at += 1;
            }
            self.at = at;
            byte = here(at);
        }
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0) {
            return self.general(begin);
        }
        Some(if negative { -value } else { value })
    }

    /// Exponents and the like are rare enough for the general reader.
    fn general(&mut self, begin: usize) -> Option<i64> {
        let rest = &self.bytes[begin..];
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        self.at = begin + end;
        let value: f64 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        (value.abs() < 1e15).then_some(value.trunc() as i64)
    }
}

/// Writes jobs as a trace with a header; `notes` become header lines.
///
/// # Errors
/// If it cannot be written.
pub fn write(trace: &Trace, notes: &[String], to: &mut impl Write) -> std::io::Result<()> {
    writeln!(to, "; Version: 2.2")?;
    for note in notes {
        writeln!(to, "; Note: {note}")?;
    }
    let jobs = trace.jobs.len();
    writeln!(to, "; MaxJobs: {jobs}\n; MaxRecords: {jobs}\n; MaxProcs: {}", trace.procs)?;
    if let Some(epoch) = trace.epoch {
        writeln!(to, "; UnixStartTime: {epoch}")?;
    }
    for job in &trace.jobs {
        let TraceJob { number, submit, run, procs, estimate, user, .. } = *job;
        let estimate = if trace.has_estimates { estimate } else { -1 };
        let user = if user == u32::MAX - 1 { -1 } else { i64::from(user) };
        writeln!(
            to,
            "{number} {submit} -1 {run} {procs} -1 -1 {procs} {estimate} -1 1 {user} -1 -1 -1 -1 -1 -1"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters_and_counts() {
        let text = "; MaxNodes: 8\n; MaxProcs: 4\n; UnixStartTime: 848\n\
            2 10 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n\
            1 10 -1 50.9 2 -1 -1 -1 9 -1 1 7 1 1 1 1 -1 -1\r\n\
            3 11 -1 5 9 -1 -1 9 9 -1 1 7 1 1 1 1 -1 -1\n\
            4 12 -1 0 1 -1 -1 1 9 -1 1 7 1 1 1 1 -1 -1\n\
            \t5 9 -1 5e0 1 -1 -1 1 -1 -1 1 7 1 1 1 1 -1 -1\n\
            6 13 nonsense\n\n6 13 -1 5\n\
            1 14 -1 5 1 -1 -1 1 9 -1 1 7 1 1 1 1 -1 -1";
        let trace = parse(text.as_bytes(), None).unwrap();
        assert_eq!((trace.procs, trace.epoch), (4, Some(848)));
        let found: Vec<(Fault, &[u64])> = Fault::ALL
            .into_iter()
            .map(|fault| (fault, trace.faults.lines(fault)))
            .filter(|(_, lines)| !lines.is_empty())
            .collect();
        let expected: [(Fault, &[u64]); 6] = [
            (Fault::NotAJob, &[9, 11]),
            (Fault::TooManyProcessors, &[6]),
            (Fault::NoRunTime, &[7]),
            (Fault::SameNumber, &[12]),
            (Fault::Unordered, &[8]),
            (Fault::PastLimit, &[5]),
        ];
        assert_eq!(found, expected);
        let numbers: Vec<(i64, i64, i64)> =
            trace.jobs.iter().map(|job| (job.number, job.run, job.estimate)).collect();
        assert_eq!(numbers, [(5, 5, 5), (1, 9, 9), (2, 5, 9), (1, 5, 9)]);
        assert!(trace.has_estimates);
    }

    #[test]
    fn what_was_written_reads_the_same() {
        let text = "; MaxProcs: 4\n1 10 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n\
            2 12 -1 5 1 -1 -1 -1 60 -1 1 -1 1 1 1 1 -1 -1\n";
        let trace = parse(text.as_bytes(), None).unwrap();
        let mut written = Vec::new();
        write(&trace, &["two jobs".to_owned()], &mut written).unwrap();
        let again = parse(&written, None).unwrap();
        assert_eq!((again.jobs, again.procs), (trace.jobs, 4));
    }

    #[test]
    fn refuses_what_is_no_trace() {
        assert!(matches!(parse(b"hello\nworld\n", Some(4)), Err(Error::NoJobs(_))));
        assert!(matches!(parse(b"", Some(4)), Err(Error::NoJobs(_))));
        let no_header = b"1 0 -1 5 2 -1 -1 2 9 -1 1 7 1 1 1 1 -1 -1\n";
        assert!(matches!(parse(no_header, None), Err(Error::NoProcessors)));
        assert_eq!(parse(no_header, Some(2)).unwrap().jobs.len(), 1);
    }
}
