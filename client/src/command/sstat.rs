//! `sstat`: what running steps use now, asked of their supervisors.
//!
//! Owns its options and fields. The scheduler says which steps run and where they listen; the figures come from there, and
//! only to the job's owner and administrators. What is not measured has an empty value, as in Slurm without its plugin.

use executor_supervisor::account::{Account, Figure};
use executor_supervisor::frame::Usage;
use proto::v1::{Job, JobFilter, ListJobsRequest, Step};

use super::job::{self, Selector, list};
use super::{Call, block_on, supervisor};
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::say;
use crate::table::print::{Column, Form};
use crate::table::units::clock;

const DEFAULT: &str = "JobID,AllocTRES,MaxVMSize,MaxVMSizeNode,MaxVMSizeTask,AveVMSize,MaxRSS,MaxRSSNode,MaxRSSTask,AveRSS,MaxPages,\
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
    accounts: Vec<Option<Account>>,
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
    let words = call.split_without_hint(OPTIONS)?;
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
        asked.jobs.push(job::selector(&call.program, item)?);
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
            let (mut usage, mut accounts) = (Vec::new(), Vec::new());
            for socket in &step.sockets {
                let said = supervisor::ask(socket).await;
                if let Err(why) = &said {
                    say::error(&call.program, format!("{socket}: {why}"));
                }
                let said = said.unwrap_or_default();
                usage.push(said.usage);
                accounts.push(said.account);
            }
            let row = Row { job: job.clone(), step, usage, accounts, exact: asked.exact };
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

    /// Of one thing over all nodes: the node, the task and its amount, and what all tasks came to.
    fn figure(&self, of: fn(&Account) -> Figure) -> Option<(&str, Figure)> {
        let names = self.step.allocation.iter().map(|share| share.node.as_str());
        let said =
            names.zip(&self.accounts).filter_map(|(name, account)| Some((name, of(account.as_ref()?))));
        said.reduce(|(name, one), (other, two)| {
            let total = one.total.saturating_add(two.total);
            let (name, larger) = if two.most > one.most { (other, two) } else { (name, one) };
            (name, Figure { total, ..larger })
        })
    }

    fn task_text(&self, of: fn(&Account) -> Figure) -> String {
        self.figure(of).map_or_else(String::new, |(_, figure)| figure.rank.to_string())
    }

    fn figure_text(&self, of: fn(&Account) -> Figure) -> String {
        self.figure(of).map_or_else(String::new, |(_, figure)| self.bytes(figure.most))
    }

    fn figure_node(&self, of: fn(&Account) -> Figure) -> String {
        self.figure(of).map_or_else(String::new, |(name, _)| name.to_owned())
    }

    fn figure_average(&self, of: fn(&Account) -> Figure) -> String {
        self.figure(of).map_or_else(String::new, |(_, figure)| self.bytes(figure.total / self.tasks()))
    }

    fn cpu_us(&self) -> u64 {
        self.answered().map(|(_, usage)| usage.user_us + usage.system_us).sum()
    }
}

fn time(us: u64) -> String {
    clock(i64::try_from(us / 1_000_000).unwrap_or(i64::MAX))
}

/// The node and rank of the task with the least CPU time, and that.
fn least_cpu(row: &Row) -> Option<(String, u32, u64)> {
    let names = row.step.allocation.iter().map(|share| share.node.as_str());
    let said = names.zip(&row.accounts).filter_map(|(name, account)| {
        account.as_ref().map(|account| (name.to_owned(), account.cpu_least_rank, account.cpu_least_us))
    });
    said.min_by_key(|(_, _, us)| *us)
}

fn count(figure: u64) -> String {
    figure.to_string()
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
    field("AveDiskRead", 12, |row| row.figure_average(|account| account.read)),
    field("AveDiskWrite", 12, |row| row.figure_average(|account| account.written)),
    field("AvePages", 10, |row| {
        row.figure(|account| account.pages)
            .map_or_else(String::new, |(_, pages)| count(pages.total / row.tasks()))
    }),
    field("AveRSS", 10, |row| row.figure_average(|account| account.rss)),
    field("AveVMSize", 10, |row| row.figure_average(|account| account.virtual_memory)),
    blank("ConsumedEnergy", 14),
    blank("ConsumedEnergyRaw", 17),
    field("JobID", -12, |row| format!("{}.{}", job::id(&row.job), row.step.step_id)),
    field("MaxDiskRead", 12, |row| row.figure_text(|account| account.read)),
    field("MaxDiskReadNode", 15, |row| row.figure_node(|account| account.read)),
    field("MaxDiskReadTask", 15, |row| row.task_text(|account| account.read)),
    field("MaxDiskWrite", 12, |row| row.figure_text(|account| account.written)),
    field("MaxDiskWriteNode", 16, |row| row.figure_node(|account| account.written)),
    field("MaxDiskWriteTask", 16, |row| row.task_text(|account| account.written)),
    field("MaxPages", 8, |row| {
        row.figure(|account| account.pages).map_or_else(String::new, |(_, pages)| count(pages.most))
    }),
    field("MaxPagesNode", 12, |row| row.figure_node(|account| account.pages)),
    field("MaxPagesTask", 14, |row| row.task_text(|account| account.pages)),
    field("MaxRSS", 10, |row| row.figure_text(|account| account.rss)),
    field("MaxRSSNode", 10, |row| row.figure_node(|account| account.rss)),
    field("MaxRSSTask", 10, |row| row.task_text(|account| account.rss)),
    field("MaxVMSize", 10, |row| row.figure_text(|account| account.virtual_memory)),
    field("MaxVMSizeNode", 14, |row| row.figure_node(|account| account.virtual_memory)),
    field("MaxVMSizeTask", 14, |row| row.task_text(|account| account.virtual_memory)),
    field("MinCPU", 10, |row| least_cpu(row).map_or_else(String::new, |(_, _, us)| time(us))),
    field("MinCPUNode", 10, |row| least_cpu(row).map(|(name, _, _)| name).unwrap_or_default()),
    field("MinCPUTask", 10, |row| least_cpu(row).map_or_else(String::new, |(_, task, _)| task.to_string())),
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
    blank("SLUID", 14),
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
        cells + "\n"
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
        let usage = |us| Usage { user_us: us, pids: vec![7, 8], ..Usage::default() };
        let account = |us, rss, rank| Account {
            rss: Figure { most: rss, rank, total: rss },
            cpu_least_us: us,
            cpu_least_rank: rank,
            ..Account::default()
        };
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
            usage: vec![Some(usage(3_000_000)), Some(usage(5_000_000))],
            accounts: vec![Some(account(3_000_000, 1 << 20, 0)), Some(account(5_000_000, 64 << 20, 1))],
            exact: false,
        }
    }

    #[test]
    fn figures_of_two_nodes_are_put_together() {
        let value = |name: &str| (fields().find(|field| field.name == name).unwrap().value)(&row());
        let shown = ["JobID", "NTasks", "AveCPU", "MinCPU", "MinCPUNode", "MinCPUTask"].map(value);
        assert_eq!(shown, ["5.0", "2", "00:00:04", "00:00:03", "c1", "0"]);
        let shown = ["MaxRSS", "MaxRSSNode", "MaxRSSTask", "AveRSS", "Pids"].map(value);
        assert_eq!(shown, ["64M", "c2", "1", "32M", "7,8,7,8"]);
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
