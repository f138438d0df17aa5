//! The output of `sacct -P`: a header line that names the fields in any order, then a line for each job. The
//! header also shows what separates them (`--delimiter`).
//!
//! Owns what the fields mean for a replay. A job waits from when it was submitted, or from when it could
//! start (Eligible) where that is later; steps are skipped; an element of an array is a job of its own.
//! Times are local times without a zone: only their differences count. Source: `man sacct`.

use std::collections::{BTreeMap, BTreeSet};

use model::gres::{self, GresRequest};
use model::quantity::MemoryMib;
use model::time::{Timestamp, limit, moment};
use model::tres::parse_mib;

use super::fault::{Fault, Faults};
use super::{Error, Need, Trace, TraceJob};

/// Elements of an array whose raw id is not in the file are numbered from here: id × this + index.
const ELEMENT_STRIDE: i64 = 1_000_000;

/// Whether a file begins like the output of `sacct -P`.
#[must_use]
pub fn is_it(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    first.is_some_and(|line| {
        line.split(|byte| !byte.is_ascii_alphanumeric())
            .any(|field| field.eq_ignore_ascii_case(b"JobID") || field.eq_ignore_ascii_case(b"JobIDRaw"))
    })
}

/// What stands between the names of a header: names are letters and digits. `None`: blanks, as without `-P`,
/// or nothing.
fn delimiter(header: &str) -> Option<&str> {
    let rest = header.trim().trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
    let end = rest.find(|letter: char| letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|between| !between.trim_matches(' ').is_empty())
}

/// Reads a trace for a machine of `procs` processors, which the output does not say.
///
/// # Errors
/// If the caller does not say how many processors there are, a field is missing without which nothing can be
/// replayed, or no line is a job.
/// Cost: O(bytes + jobs × log jobs).
pub fn parse(bytes: &[u8], procs: Option<u32>) -> Result<Trace, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().ok_or(Error::NoJobs("it is empty"))?;
    let procs = procs.ok_or(Error::NoProcessors)?;
    let delimiter = delimiter(header).ok_or(Error::NotParsable)?;
    let columns = Columns::of(header, delimiter)?;
    let mut reading = Reading {
        columns,
        delimiter,
        trace: Trace { procs, epoch: Some(0), ..Trace::default() },
        needs: BTreeMap::new(),
        users: BTreeMap::new(),
        numbers: BTreeSet::new(),
        last: i64::MIN,
    };
    for (number, line) in lines {
        match reading.line(line) {
            Ok(Some(job)) => reading.add(number, job),
            Ok(None) => reading.trace.steps += 1,
            Err(fault) => reading.trace.faults.note(fault, number),
        }
    }
    let mut trace = reading.trace;
    if trace.jobs.is_empty() && Fault::ALL.iter().all(|fault| trace.faults.lines(*fault).is_empty()) {
        return Err(Error::NoJobs("no line follows the names of the fields"));
    }
    trace.jobs.sort_by_key(|job| (job.submit, job.number));
    Ok(trace)
}

/// Where the fields are.
#[derive(Default)]
struct Columns {
    count: usize,
    places: BTreeMap<String, usize>,
}

impl Columns {
    fn of(header: &str, delimiter: &str) -> Result<Self, Error> {
        let header = header.trim();
        let names: Vec<String> = header
            .strip_suffix(delimiter)
            .unwrap_or(header)
            .split(delimiter)
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        let columns = Self {
            count: names.len(),
            // `Name%30` has its width in the header of no output, but is harmless.
            places: names.into_iter().zip(0..).collect(),
        };
        let any = |names: &[&str]| names.iter().any(|name| columns.places.contains_key(*name));
        for (needed, names) in [
            ("Submit", &["submit", "eligible"][..]),
            ("Start", &["start"]),
            ("End", &["end", "elapsed", "elapsedraw"]),
            ("NCPUS", &["ncpus", "alloccpus", "reqcpus", "alloctres", "reqtres"]),
        ] {
            if !any(names) {
                return Err(Error::NoColumn(needed));
            }
        }
        Ok(columns)
    }
}

struct Reading<'a> {
    columns: Columns,
    delimiter: &'a str,
    trace: Trace,
    needs: BTreeMap<Need, u32>,
    users: BTreeMap<Box<str>, u32>,
    numbers: BTreeSet<i64>,
    last: i64,
}

/// A line's fields by name.
struct Fields<'a> {
    columns: &'a Columns,
    values: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// The value of the first of these fields that says something.
    fn get(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| {
            let value = self.values[*self.columns.places.get(*name)?].trim();
            let nothing = matches!(value, "" | "Unknown" | "None" | "N/A" | "None assigned" | "INVALID");
            (!nothing).then_some(value)
        })
    }

    fn time(&self, name: &str) -> Option<i64> {
        let value = self.get(&[name])?;
        if value.bytes().all(|byte| byte.is_ascii_digit()) {
            return value.parse().ok();
        }
        moment::parse(value, Timestamp::ZERO, &moment::utc, moment::Sense::Past).ok().map(Timestamp::as_secs)
    }

    /// `cpu=4,mem=8G,node=2,gres/gpu:a100=8`
    fn tres(&self, key: &str) -> Option<&'a str> {
        let list = self.get(&["alloctres", "reqtres"])?;
        list.split(',').find_map(|item| item.strip_prefix(key)?.strip_prefix('='))
    }
}

/// A job as its line says.
struct LineJob {
    job: TraceJob,
    need: Need,
    user: Box<str>,
    has_limit: bool,
}

impl Reading<'_> {
    /// `None`: a step.
    fn line(&self, line: &str) -> Result<Option<LineJob>, Fault> {
        let mut values: Vec<&str> = line.split(self.delimiter).collect();
        if values.len() == self.columns.count + 1 && values.last().is_some_and(|last| last.trim().is_empty())
        {
            values.pop();
        }
        if values.len() != self.columns.count {
            return Err(Fault::NotAJob);
        }
        let fields = Fields { columns: &self.columns, values };
        let name = fields.get(&["jobid", "jobidraw"]).ok_or(Fault::NotAJob)?;
        if name.contains('.') {
            return Ok(None);
        }
        let number = match fields.get(&["jobidraw"]) {
            Some(raw) => raw.parse().map_err(|_| Fault::NotAJob)?,
            None => number(name)?,
        };
        let submit = fields.time("submit").max(fields.time("eligible")).ok_or(Fault::NoSubmit)?;
        let start = fields.time("start").ok_or(Fault::NeverStarted)?;
        let end = match fields.time("end") {
            Some(end) => end,
            None if self.columns.places.contains_key("end") => return Err(Fault::Unfinished),
            None => start.checked_add(elapsed(&fields).ok_or(Fault::Unfinished)?).ok_or(Fault::Impossible)?,
        };
        if end < start || start < submit {
            return Err(Fault::Impossible);
        }
        let procs = fields.get(&["alloccpus", "ncpus"]).filter(|count| *count != "0");
        let procs = procs.or_else(|| fields.tres("cpu")).or_else(|| fields.get(&["reqcpus"]));
        let procs: u32 = procs.and_then(|count| count.parse().ok()).ok_or(Fault::NoProcessors)?;
        let limit = limit_s(&fields);
        let (run, need) = (end - start, need(&fields));
        let estimate = limit.unwrap_or(run);
        let job = TraceJob { number, submit, run, procs, estimate, user: 0, need: 0 };
        let user = fields.get(&["user", "uid"]).unwrap_or("-").into();
        Ok(Some(LineJob { job, need, user, has_limit: limit.is_some() }))
    }

    fn add(&mut self, line: u64, read: LineJob) {
        let LineJob { mut job, need, user, has_limit } = read;
        let faults: &mut Faults = &mut self.trace.faults;
        let left_out = if job.procs == 0 {
            Some(Fault::NoProcessors)
        } else if job.procs > self.trace.procs {
            Some(Fault::TooManyProcessors)
        } else {
            (job.run == 0).then_some(Fault::NoRunTime)
        };
        if let Some(fault) = left_out {
            return faults.note(fault, line);
        }
        if job.run > job.estimate {
            faults.note(Fault::PastLimit, line);
            job.run = job.estimate;
        }
        if job.submit < self.last {
            faults.note(Fault::Unordered, line);
        }
        if !self.numbers.insert(job.number) {
            faults.note(Fault::SameNumber, line);
        }
        self.last = self.last.max(job.submit);
        self.trace.has_estimates |= has_limit;
        let users = u32::try_from(self.users.len()).expect("users are few");
        job.user = *self.users.entry(user).or_insert(users);
        if need != Need::default() {
            let needs = &mut self.trace.needs;
            job.need = *self.needs.entry(need).or_insert_with_key(|need| {
                needs.push(need.clone());
                u32::try_from(needs.len()).expect("needs are few")
            });
        }
        self.trace.jobs.push(job);
    }
}

/// `123`, `123_4`, `123+1`: a job, an element, a component. `123_[5-9]` has not started.
fn number(name: &str) -> Result<i64, Fault> {
    let parse = |text: &str| text.parse::<i64>().map_err(|_| Fault::NotAJob);
    match name.split_once(['_', '+']) {
        None => parse(name),
        Some((_, index)) if index.starts_with('[') => Err(Fault::NeverStarted),
        Some((id, index)) => {
            let first = parse(id)?.checked_mul(ELEMENT_STRIDE).ok_or(Fault::NotAJob)?;
            first.checked_add(parse(index)?).ok_or(Fault::NotAJob)
        }
    }
}

fn elapsed(fields: &Fields<'_>) -> Option<i64> {
    match fields.get(&["elapsedraw"]) {
        Some(raw) => raw.parse().ok(),
        None => limit::parse(fields.get(&["elapsed"])?).ok()?.map(model::time::Span::as_secs),
    }
}

/// Seconds of the time limit. `None`: unlimited, or the partition's, which the line does not say.
fn limit_s(fields: &Fields<'_>) -> Option<i64> {
    let seconds = match fields.get(&["timelimitraw"]) {
        Some(raw) => raw.parse::<i64>().ok()?.checked_mul(60)?,
        None => limit::parse(fields.get(&["timelimit"])?).ok()??.as_secs(),
    };
    (seconds > 0).then_some(seconds)
}

fn need(fields: &Fields<'_>) -> Need {
    let nodes = fields.get(&["nnodes", "allocnodes", "reqnodes"]).or_else(|| fields.tres("node"));
    let nodes: Option<u32> = nodes.and_then(|count| count.parse().ok()).filter(|count| *count > 0);
    let cpus = fields.get(&["alloccpus", "ncpus", "reqcpus"]).and_then(|count| count.parse().ok());
    let per_node = |whole: u64| whole.div_ceil(u64::from(nodes.unwrap_or(1)));
    let memory = fields.get(&["reqmem"]).and_then(|text| {
        // Older outputs say per what: c is a CPU, n a node; newer ones mean the whole job.
        match text.strip_suffix(['c', 'n']) {
            Some(amount) if text.ends_with('n') => parse_mib(amount),
            Some(amount) => Some(per_node(parse_mib(amount)?.checked_mul(cpus.unwrap_or(1))?)),
            None => parse_mib(text).map(per_node),
        }
    });
    let memory = memory.or_else(|| fields.tres("mem").and_then(parse_mib).map(per_node));
    let list = fields.get(&["alloctres", "reqtres"]).unwrap_or_default();
    Need {
        nodes,
        memory: memory.filter(|mib| *mib > 0).map(MemoryMib),
        gres: gres_of(list),
        partition: fields.get(&["partition"]).map(Into::into),
        priority: fields.get(&["priority"]).and_then(|number| number.parse().ok()),
    }
}

/// `gres/gpu=4,gres/gpu:a100=4`: a kind that is named with a type counts once.
fn gres_of(tres: &str) -> Vec<GresRequest> {
    let items = tres.split(',').filter_map(|item| item.strip_prefix("gres/")?.split_once('='));
    let texts: Vec<String> = items.map(|(name, count)| format!("{name}:{count}")).collect();
    let list: Vec<GresRequest> =
        texts.iter().filter_map(|text| gres::parse_list(text).ok()).flatten().collect();
    let typed = |name: &str| list.iter().any(|item| &*item.name == name && item.kind.is_some());
    list.iter().filter(|item| item.kind.is_some() || !typed(&item.name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
User|JobID|State|Submit|Start|End|Timelimit|NCPUS|NNodes|ReqTRES|Partition|Priority
ann|101|COMPLETED|2026-01-05T10:00:00|2026-01-05T10:00:10|2026-01-05T10:10:10|01:00:00|8|2|cpu=8,mem=32G,node=2,gres/gpu=4,gres/gpu:a100=4|gpu|4294
ann|101.batch|COMPLETED|2026-01-05T10:00:10|2026-01-05T10:00:10|2026-01-05T10:10:10||4|1|||
bob|102_3|FAILED|1767607199|1767607300|1767607400|UNLIMITED|1|1||cpu|1
bob|103|CANCELLED by 1000|2026-01-05T10:00:02|Unknown|2026-01-05T10:00:02|01:00:00|1|1||cpu|1
bob|104|RUNNING|2026-01-05T10:00:03|2026-01-05T10:00:03|Unknown|01:00:00|1|1||cpu|1
bob|105|COMPLETED|2026-01-05T10:00:04|2026-01-05T10:00:03|2026-01-05T11:00:03|01:00:00|1|1||cpu|1
bob|106|TIMEOUT|2026-01-05T10:00:05|2026-01-05T10:00:05|2026-01-05T10:02:35|00:02:00|1|1||cpu|1
bob|107|COMPLETED
";

    #[test]
    fn reads_jobs_and_names_what_is_wrong() {
        assert!(is_it(TEXT.as_bytes()) && !is_it(b"1 2 3\n"));
        let trace = parse(TEXT.as_bytes(), Some(8)).unwrap();
        let jobs: Vec<(i64, i64, i64, u32, i64, u32)> = trace
            .jobs
            .iter()
            .map(|job| (job.number, job.submit, job.run, job.procs, job.estimate, job.user))
            .collect();
        let ten = 1_767_607_200;
        assert_eq!(
            jobs,
            [
                (102_000_003, ten - 1, 100, 1, 100, 1),
                (101, ten, 600, 8, 3600, 0),
                (106, ten + 5, 120, 1, 120, 1),
            ]
        );
        let need = trace.need(&trace.jobs[1]).unwrap();
        assert_eq!((need.nodes, need.memory), (Some(2), Some(MemoryMib(16 << 10))));
        assert_eq!((need.partition.as_deref(), need.priority), (Some("gpu"), Some(4294)));
        assert_eq!(gres::node_text(&need.gres), "gpu:a100:4");
        assert_eq!(trace.steps, 1);
        let lines = |fault| trace.faults.lines(fault).to_vec();
        assert_eq!(lines(Fault::NeverStarted), [5]);
        assert_eq!(lines(Fault::Unfinished), [6]);
        assert_eq!(lines(Fault::Impossible), [7]);
        assert_eq!(lines(Fault::PastLimit), [8]);
        assert_eq!(lines(Fault::NotAJob), [9]);
        assert_eq!(lines(Fault::Unordered), [4]);
        assert!(trace.has_estimates);
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        let error = parse(b"JobID|Start|End|NCPUS\n1|0|1|1\n", Some(1)).unwrap_err();
        assert_eq!(error.to_string(), "an output of sacct without the field Submit");
        let empty = parse(b"JobID|Submit|Start|End|NCPUS\n", Some(1)).unwrap_err();
        assert_eq!(empty.to_string(), "not a trace: no line follows the names of the fields");
        let machine = parse(TEXT.as_bytes(), None).unwrap_err();
        assert!(machine.to_string().contains("--procs N"), "{machine}");
        let columns = b"JobID   Submit  Start  End  NCPUS\n------- ----\n1  0  0  1  1\n";
        let columns = parse(columns, Some(1)).map(|_| assert!(is_it(columns))).unwrap_err();
        assert_eq!(columns.to_string(), "an output of sacct in columns; give -P to sacct");
    }

    #[test]
    fn whatever_separates_the_fields_is_seen_in_the_header() {
        let text = "JobID|Submit|Start|Elapsed|ReqMem|NCPUS\n7|5|5|00:00:09|1G|2\n8_1|6|6|00:00:09|1G|2\n";
        let read = |text: &str| (is_it(text.as_bytes()), parse(text.as_bytes(), Some(4)).unwrap().jobs);
        let expected = read(text);
        assert_eq!((expected.0, expected.1.len()), (true, 2));
        for delimiter in [",", ";", "\t", "^^", "|\u{2192}"] {
            assert_eq!(read(&text.replace('|', delimiter)), expected, "{delimiter}");
        }
        // As -p writes it, from a system that ends lines with two letters and begins files with a mark.
        let parsable = format!("\u{feff}{}", text.replace('\n', "|\r\n"));
        let trace = super::super::parse(parsable.as_bytes(), Some(4)).unwrap();
        assert_eq!(trace.jobs, expected.1);
    }

    #[test]
    fn numbers_beyond_all_bounds_leave_the_line_out() {
        let text =
            "JobID|Submit|Start|ElapsedRaw|NCPUS\n99999999999999_1|1|1|1|1\n2|1|9|9223372036854775807|1\n";
        let trace = parse(text.as_bytes(), Some(4)).unwrap();
        assert!(trace.jobs.is_empty());
        assert_eq!(trace.faults.lines(Fault::NotAJob), [2]);
        assert_eq!(trace.faults.lines(Fault::Impossible), [3]);
    }
}
