//! `sstat`: what running steps use now, asked of their supervisors.
//!
//! Owns its options and fields. The scheduler says which steps run and where they listen; the figures come from there, and
//! only to the job's owner and administrators. What is not measured has an empty value, as in Slurm without its plugin.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use executor_supervisor::frame::{self, Decoder, Frame, Usage};
use proto::v1::{Job, JobFilter, ListJobsRequest, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::job::{self, Selector, list};
use super::{Call, block_on};
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::say;
use crate::table::print::{Column, Form};
use crate::table::units::clock;

/// Longest wait for one supervisor.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the socket of a script that has just begun, and the pause between two looks.
const SOCKET_MAX: Duration = Duration::from_secs(2);
const SOCKET_PAUSE: Duration = Duration::from_millis(50);

const DEFAULT: &str = "JobID,MaxVMSize,MaxVMSizeNode,MaxVMSizeTask,AveVMSize,MaxRSS,MaxRSSNode,MaxRSSTask,AveRSS,MaxPages,\
MaxPagesNode,MaxPagesTask,AvePages,MinCPU,MinCPUNode,MinCPUTask,AveCPU,NTasks,AveCPUFreq,ReqCPUFreqMin,ReqCPUFreqMax,\
ReqCPUFreqGov,ConsumedEnergy,MaxDiskRead,MaxDiskReadNode,MaxDiskReadTask,AveDiskRead,MaxDiskWrite,MaxDiskWriteNode,\
MaxDiskWriteTask,AveDiskWrite,TRESUsageInAve,TRESUsageInMax,TRESUsageInMaxNode,TRESUsageInMaxTask,TRESUsageInMin,\
TRESUsageInMinNode,TRESUsageInMinTask,TRESUsageInTot,TRESUsageOutAve,TRESUsageOutMax,TRESUsageOutMaxNode,\
TRESUsageOutMaxTask,TRESUsageOutMin,TRESUsageOutMinNode,TRESUsageOutMinTask,TRESUsageOutTot";

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    AllSteps,
    Format,
    Help,
    HelpFormat,
    Jobs,
    NoConvert,
    NoHeader,
    Parsable,
    Parsable2,
    Pids,
    Usage,
    Verbose,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::AllSteps, b'a', "allsteps", Nothing),
    Spec::new(O::HelpFormat, b'e', "helpformat", Nothing),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::new(O::Pids, b'i', "pidformat", Nothing),
    Spec::new(O::Jobs, b'j', "jobs", Value),
    Spec::new(O::NoHeader, b'n', "noheader", Nothing),
    Spec::long(O::NoConvert, "noconvert", Nothing),
    Spec::new(O::Format, b'o', "format", Value),
    Spec::new(O::Parsable, b'p', "parsable", Nothing),
    Spec::new(O::Parsable2, b'P', "parsable2", Nothing),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

struct Asked {
    all_steps: bool,
    exact: bool,
    header: bool,
    format: String,
    form: Form,
    jobs: Vec<Selector>,
}

/// A step and what its nodes said, in the step's order; `None`: a node did not answer.
struct Row {
    job: Job,
    step: Step,
    usage: Vec<Option<Usage>>,
    exact: bool,
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call).and_then(|asked| Ok((columns(call, &asked.format)?, asked))) {
        Ok((columns, asked)) => block_on(show(call, &asked, &columns)),
        Err(status) => status,
    }
}

fn read(call: &Call) -> Result<Asked, u8> {
    let words = call.split(OPTIONS)?;
    let mut asked = Asked {
        all_steps: false,
        exact: false,
        header: true,
        format: DEFAULT.to_owned(),
        form: Form::Columns,
        jobs: Vec::new(),
    };
    let mut ids = words.operands.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    for given in &words.options {
        let bars = |ends| Form::Parsable { delimiter: "|".to_owned(), ends };
        match given.id {
            O::AllSteps => asked.all_steps = true,
            O::Format => asked.format = given.text(),
            O::Help => {
                say::out(HELP);
                return Err(0);
            }
            O::HelpFormat => {
                say::out(help_format());
                return Err(0);
            }
            O::Jobs => ids.push(given.text()),
            O::NoConvert => asked.exact = true,
            O::NoHeader => asked.header = false,
            O::Parsable => asked.form = bars(true),
            O::Parsable2 => asked.form = bars(false),
            O::Pids => asked.format = "JobID,Nodelist,Pids".to_owned(),
            O::Usage => {
                say::out("Usage: sstat [options] -j <job(.stepid)>\n\tUse --help for help\n");
                return Err(0);
            }
            O::Verbose => {}
            O::Version => {
                say::out(super::version() + "\n");
                return Err(0);
            }
        }
    }
    for item in ids.iter().flat_map(|text| job::split_ids(text)) {
        let selector = Selector::parse(item).ok_or_else(|| {
            say::fatal(&call.program, format!("Bad job/step specified: {item}"));
            1
        })?;
        asked.jobs.push(selector);
    }
    if asked.jobs.is_empty() {
        say::error(&call.program, "You didn't give me any jobs to stat.");
        return Err(1);
    }
    Ok(asked)
}

async fn show(call: &Call, asked: &Asked, columns: &[(&'static Field, Column)]) -> u8 {
    let client = match super::connect().await {
        Ok(client) => client,
        Err(error) => {
            say::error(&call.program, say::reason(&error));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    let heads: Vec<Column> = columns.iter().map(|(_, column)| column.clone()).collect();
    if asked.header {
        say::out(asked.form.header(&heads));
    }
    for selector in &asked.jobs {
        let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
        let request =
            ListJobsRequest { filter: Some(filter), include_ended: true, with_steps: true, all: true };
        let jobs = client.list_jobs(request).await.map(|(jobs, _)| jobs).unwrap_or_default();
        let Some(job) = jobs.iter().find_map(|job| selector.select(job)) else {
            say::error(&call.program, format!("couldn't get steps for JobId={}", selector.job_id));
            continue;
        };
        let steps = wanted(&job, selector, asked.all_steps);
        if steps.is_empty() {
            say::error(&call.program, format!("No steps running for JobId={}", selector.job_id));
        }
        for step in steps {
            let mut usage = Vec::new();
            for socket in &step.sockets {
                usage.push(ask(call, socket).await);
            }
            let row = Row { job: job.clone(), step, usage, exact: asked.exact };
            let values: Vec<String> = columns.iter().map(|(field, _)| (field.value)(&row)).collect();
            say::out(asked.form.line(&heads, &values));
        }
    }
    0
}

/// The running steps that are meant: the one named, all, or else the first that srun made (the batch step where there is
/// none).
fn wanted(job: &Job, selector: &Selector, all: bool) -> Vec<Step> {
    let running = || job.steps.iter().filter(|step| step.end_ms.is_none() && !step.sockets.is_empty());
    match &selector.step {
        Some(name) => running().filter(|step| step.step_id == *name).cloned().collect(),
        None if all => running().cloned().collect(),
        None => {
            let number = |step: &&Step| step.step_id.parse::<u32>().unwrap_or(u32::MAX);
            running().min_by_key(number).cloned().into_iter().collect()
        }
    }
}

/// Connects; a batch script's socket may come a moment after the script, while its folder is there at once.
async fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        let (_open, short) = frame::short_path(path)?;
        match UnixStream::connect(short).await {
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && begin.elapsed() < SOCKET_MAX
                    && path.parent().is_some_and(Path::exists) =>
            {
                tokio::time::sleep(SOCKET_PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn ask(call: &Call, socket: &str) -> Option<Usage> {
    let exchange = async {
        let mut stream = connect(&PathBuf::from(socket)).await?;
        stream.write_all(&Frame::AskUsage.to_bytes()).await?;
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        loop {
            match decoder.next_frame().map_err(std::io::Error::other)? {
                Some(Frame::Usage(usage)) => return Ok(usage),
                Some(Frame::Refused { reason }) => return Err(std::io::Error::other(reason)),
                Some(_) => return Err(std::io::Error::other("an answer that is none")),
                None => {}
            }
            match stream.read(&mut buffer).await? {
                0 => return Err(std::io::Error::other("it is ending, or this user may not ask")),
                count => decoder.push(&buffer[..count]),
            }
        }
    };
    match tokio::time::timeout(ANSWER_MAX, exchange).await {
        Ok(Ok(usage)) => Some(usage),
        Ok(Err(error)) => {
            say::error(&call.program, format!("{socket}: {error}"));
            None
        }
        Err(_) => {
            say::error(&call.program, format!("{socket}: no answer"));
            None
        }
    }
}

struct Field {
    name: &'static str,
    width: i32,
    value: fn(&Row) -> String,
}

impl Row {
    fn answered(&self) -> impl Iterator<Item = (&str, Usage)> {
        let names = self.step.allocation.iter().map(|share| share.node.as_str());
        names.zip(&self.usage).filter_map(|(name, usage)| Some((name, usage.clone()?)))
    }

    fn tasks(&self) -> u64 {
        u64::from(self.step.num_tasks.max(1))
    }

    fn bytes(&self, bytes: u64) -> String {
        match bytes {
            0 => "0".to_owned(),
            _ if self.exact || bytes < 10 << 20 => format!("{}K", bytes / 1024),
            _ => format!("{}M", bytes >> 20),
        }
    }

    /// The node with the most, and how much.
    fn most(&self, of: fn(&Usage) -> u64) -> Option<(String, u64)> {
        self.answered().map(|(name, usage)| (name.to_owned(), of(&usage))).max_by_key(|(_, most)| *most)
    }

    fn most_text(&self, of: fn(&Usage) -> u64) -> String {
        self.most(of).map_or_else(String::new, |(_, most)| self.bytes(most))
    }

    fn most_node(&self, of: fn(&Usage) -> u64) -> String {
        self.most(of).map(|(name, _)| name).unwrap_or_default()
    }

    fn cpu_us(&self) -> u64 {
        self.answered().map(|(_, usage)| usage.user_us + usage.system_us).sum()
    }

    fn average(&self, of: fn(&Usage) -> u64) -> String {
        if self.answered().next().is_none() {
            return String::new();
        }
        self.bytes(self.answered().map(|(_, usage)| of(&usage)).sum::<u64>() / self.tasks())
    }
}

fn time(us: u64) -> String {
    clock(i64::try_from(us / 1_000_000).unwrap_or(i64::MAX))
}

fn least_cpu(row: &Row) -> Option<(String, u64)> {
    row.answered()
        .map(|(name, usage)| (name.to_owned(), usage.user_us + usage.system_us))
        .min_by_key(|(_, us)| *us)
}

const fn field(name: &'static str, width: i32, value: fn(&Row) -> String) -> Field {
    Field { name, width, value }
}

/// What nothing here measures.
const fn blank(name: &'static str, width: i32) -> Field {
    field(name, width, |_| String::new())
}

/// In Slurm's order.
static FIELDS: [Field; 52] = [
    field("AllocTRES", 10, |row| row.step.alloc_tres.clone()),
    field("AveCPU", 10, |row| time(row.cpu_us() / row.tasks())),
    blank("AveCPUFreq", 10),
    field("AveDiskRead", 12, |row| row.average(|usage| usage.read_bytes)),
    field("AveDiskWrite", 12, |row| row.average(|usage| usage.written_bytes)),
    blank("AvePages", 10),
    field("AveRSS", 10, |row| row.average(|usage| usage.rss_bytes)),
    field("AveVMSize", 10, |row| row.average(|usage| usage.virtual_bytes)),
    blank("ConsumedEnergy", 14),
    blank("ConsumedEnergyRaw", 17),
    field("JobID", -12, |row| format!("{}.{}", job::id(&row.job), row.step.step_id)),
    field("MaxDiskRead", 12, |row| row.most_text(|usage| usage.read_bytes)),
    field("MaxDiskReadNode", 15, |row| row.most_node(|usage| usage.read_bytes)),
    blank("MaxDiskReadTask", 15),
    field("MaxDiskWrite", 12, |row| row.most_text(|usage| usage.written_bytes)),
    field("MaxDiskWriteNode", 16, |row| row.most_node(|usage| usage.written_bytes)),
    blank("MaxDiskWriteTask", 16),
    blank("MaxPages", 8),
    blank("MaxPagesNode", 12),
    blank("MaxPagesTask", 14),
    field("MaxRSS", 10, |row| row.most_text(|usage| usage.max_rss_bytes)),
    field("MaxRSSNode", 10, |row| row.most_node(|usage| usage.max_rss_bytes)),
    field("MaxRSSTask", 10, |row| row.answered().next().map_or_else(String::new, |_| "0".to_owned())),
    field("MaxVMSize", 10, |row| row.most_text(|usage| usage.virtual_bytes)),
    field("MaxVMSizeNode", 14, |row| row.most_node(|usage| usage.virtual_bytes)),
    blank("MaxVMSizeTask", 14),
    field("MinCPU", 10, |row| least_cpu(row).map_or_else(String::new, |(_, us)| time(us))),
    field("MinCPUNode", 10, |row| least_cpu(row).map(|(name, _)| name).unwrap_or_default()),
    blank("MinCPUTask", 10),
    field("Nodelist", 20, |row| row.step.node_list.clone()),
    field("NTasks", 8, |row| row.step.num_tasks.to_string()),
    field("Pids", 20, |row| {
        let pids = row.answered().flat_map(|(_, usage)| usage.pids);
        pids.map(|pid| pid.to_string()).collect::<Vec<_>>().join(",")
    }),
    blank("ReqCPUFreq", 10),
    blank("ReqCPUFreqMin", 13),
    blank("ReqCPUFreqMax", 13),
    blank("ReqCPUFreqGov", 13),
    blank("SLUID", 15),
    blank("TRESUsageInAve", 14),
    blank("TRESUsageInMax", 14),
    blank("TRESUsageInMaxNode", 18),
    blank("TRESUsageInMaxTask", 18),
    blank("TRESUsageInMin", 14),
    blank("TRESUsageInMinNode", 18),
    blank("TRESUsageInMinTask", 18),
    blank("TRESUsageInTot", 14),
    blank("TRESUsageOutAve", 15),
    blank("TRESUsageOutMax", 15),
    blank("TRESUsageOutMaxNode", 19),
    blank("TRESUsageOutMaxTask", 19),
    blank("TRESUsageOutMin", 15),
    blank("TRESUsageOutMinNode", 19),
    blank("TRESUsageOutMinTask", 19),
];
/// The last one, alone on its line.
static TOTAL: Field = blank("TRESUsageOutTot", 15);

fn fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain([&TOTAL])
}

fn columns(call: &Call, format: &str) -> Result<Vec<(&'static Field, Column)>, u8> {
    let mut columns = Vec::new();
    for item in list(format) {
        let (name, width) = match item.split_once('%') {
            Some((name, width)) => (name, width.parse::<i32>().ok()),
            None => (item.as_str(), None),
        };
        let begins = |field: &&Field| {
            field.name.len() >= name.len() && field.name[..name.len()].eq_ignore_ascii_case(name)
        };
        let Some(field) = fields().find(begins) else {
            say::error(&call.program, format!("Invalid field requested: \"{name}\""));
            return Err(1);
        };
        let width = width.unwrap_or(field.width);
        columns.push((field, Column { name: field.name.to_owned(), width }));
    }
    Ok(columns)
}

/// Four names a line, in columns.
fn help_format() -> String {
    let names: Vec<&str> = fields().map(|field| field.name).collect();
    let lines = names.chunks(4).map(|names| {
        let cells: String = names.iter().map(|name| format!("{name:<20}")).collect();
        cells.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

const HELP: &str = "\
sstat [<OPTION>] -j <job(.stepid)>
    Valid <OPTION> values are:
     -a, --allsteps:
                   Print all steps for the given job(s) when no step is
                   specified.
     -e, --helpformat:
                   Print a list of fields that can be specified with the
                   '--format' option
     -h, --help:   Print this description of use.
     -i, --pidformat:
                   Predefined format to list the pids running for each job step.
                   (JobId,Nodes,Pids)
     -j, --jobs:
                   Format is <job(.step)>. Stat this job step
                   or comma-separated list of job steps. This option is
                   required.
     -n, --noheader:
                   No header will be added to the beginning of output.
     --noconvert:  Don't convert units from their original type.
     -o, --format:
                   Comma separated list of fields.
     -p, --parsable:
                   output will be '|' delimited with a '|' at the end
     -P, --parsable2:
                   output will be '|' delimited without a '|' at the end
     --usage:      Display brief usage message.
     -v, --verbose:
                   Primarily for debugging purposes, report the state of various
                   variables during processing.
     -V, --version: Print version.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let usage = |us, rss| Usage { user_us: us, max_rss_bytes: rss, pids: vec![7, 8], ..Usage::default() };
        let share = |node: &str| proto::v1::NodeAllocation { node: node.to_owned(), ..Default::default() };
        let step = Step {
            step_id: "0".to_owned(),
            num_tasks: 2,
            allocation: vec![share("c1"), share("c2")],
            ..Step::default()
        };
        let job = Job { job_id: 5, ..Job::default() };
        Row {
            job,
            step,
            usage: vec![Some(usage(3_000_000, 1 << 20)), Some(usage(5_000_000, 64 << 20))],
            exact: false,
        }
    }

    #[test]
    fn figures_of_two_nodes_are_put_together() {
        let value = |name: &str| (fields().find(|field| field.name == name).unwrap().value)(&row());
        let shown =
            ["JobID", "NTasks", "AveCPU", "MinCPU", "MinCPUNode", "MaxRSS", "MaxRSSNode", "Pids"].map(value);
        assert_eq!(shown, ["5.0", "2", "00:00:04", "00:00:03", "c1", "64M", "c2", "7,8,7,8"]);
    }

    #[test]
    fn the_first_step_is_meant_unless_all_are() {
        let step =
            |id: &str| Step { step_id: id.to_owned(), sockets: vec!["s".to_owned()], ..Step::default() };
        let job = Job { job_id: 5, steps: vec![step("batch"), step("0"), step("1")], ..Job::default() };
        let ids = |text: &str, all| {
            let steps = wanted(&job, &Selector::parse(text).unwrap(), all);
            steps.into_iter().map(|step| step.step_id).collect::<Vec<_>>()
        };
        assert_eq!(ids("5", false), ["0"]);
        assert_eq!(ids("5", true), ["batch", "0", "1"]);
        assert_eq!(ids("5.batch", false), ["batch"]);
        assert_eq!(ids("5.9", false), Vec::<String>::new());
    }
}
