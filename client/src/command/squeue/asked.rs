//! What `squeue` is asked for: its options, its environment and its help.

use std::env;

use model::job::JobState;

use super::fields::FIELDS;
use super::verbose;
use crate::command::job::{self, Selector, list};
use crate::command::{Call, clusters, said, version};
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{local, say, table};

/// Every word that `-t` knows, in Slurm's order.
const STATES: &str = "pending,running,suspended,completed,cancelled,failed,timeout,node_fail,preempted,boot_fail,deadline,\
out_of_memory,completing,configuring,expediting,resizing,resv_del_hold,requeued,requeue_fed,requeue_hold,revoked,signaling,\
special_exit,stage_out,stopped";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Option_ {
    All,
    Account,
    Array,
    Clusters,
    ExpandPatterns,
    Format,
    FormatNames,
    Help,
    HelpLetters,
    HelpNames,
    Hide,
    Iterate,
    Jobs,
    Json,
    Licenses,
    Local,
    Long,
    Me,
    Name,
    NoConvert,
    NoHeader,
    NodeList,
    OnlyState,
    Partition,
    Priority,
    Qos,
    Reservation,
    RunningOver,
    RunningUnder,
    Sort,
    Start,
    States,
    Steps,
    Usage,
    User,
    Verbose,
    Version,
    Yaml,
}

use Option_ as O;

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Account, b'A', "account", Value),
    Spec::long(O::Account, "accounts", Value),
    Spec::new(O::All, b'a', "all", Nothing),
    Spec::new(O::Array, b'r', "array", Nothing),
    Spec::new(O::Format, b'o', "format", Value),
    Spec::new(O::FormatNames, b'O', "Format", Value),
    Spec::long(O::Help, "help", Nothing),
    Spec::long(O::HelpLetters, "helpformat", Nothing),
    Spec::long(O::HelpNames, "helpFormat", Nothing),
    Spec::long(O::Hide, "hide", Nothing),
    Spec::new(O::Iterate, b'i', "iterate", Value),
    Spec::new(O::Jobs, b'j', "jobs", Maybe),
    Spec::long(O::Json, "json", Maybe),
    Spec::new(O::Licenses, b'L', "licenses", Value),
    Spec::long(O::Local, "local", Nothing),
    Spec::new(O::Long, b'l', "long", Nothing),
    Spec::new(O::Clusters, b'M', "clusters", Value),
    Spec::long(O::Clusters, "cluster", Value),
    Spec::long(O::Me, "me", Nothing),
    Spec::new(O::Name, b'n', "name", Value),
    Spec::long(O::NoConvert, "noconvert", Nothing),
    Spec::new(O::NoHeader, b'h', "noheader", Nothing),
    Spec::new(O::NodeList, b'w', "nodelist", Value),
    Spec::long(O::NodeList, "nodes", Value),
    Spec::long(O::OnlyState, "only-job-state", Nothing),
    Spec::new(O::Partition, b'p', "partition", Value),
    Spec::long(O::Partition, "partitions", Value),
    Spec::new(O::Priority, b'P', "priority", Nothing),
    Spec::new(O::Qos, b'q', "qos", Value),
    Spec::new(O::Reservation, b'R', "reservation", Value),
    Spec::long(O::RunningOver, "running-over", Value),
    Spec::long(O::RunningUnder, "running-under", Value),
    Spec::new(O::Sort, b'S', "sort", Value),
    Spec::long(O::Start, "start", Nothing),
    Spec::new(O::Steps, b's', "steps", Maybe),
    Spec::new(O::States, b't', "states", Value),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::new(O::User, b'u', "user", Value),
    Spec::long(O::User, "users", Value),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::long(O::ExpandPatterns, "expand-patterns", Nothing),
    Spec::long(O::Yaml, "yaml", Maybe),
];

/// How its options are written.
pub(crate) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// Which states are shown.
pub(super) enum States {
    /// Those of jobs that have not ended.
    Live,
    All,
    Only(Vec<JobState>),
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) all: bool,
    pub(super) split_arrays: bool,
    /// `-o`, or `-O` where it came later.
    pub(super) format: Option<String>,
    pub(super) names: Option<String>,
    pub(super) iterate: Option<u64>,
    pub(super) jobs: Option<Vec<Selector>>,
    pub(super) steps: Option<Vec<Selector>>,
    pub(super) long: bool,
    pub(super) header: bool,
    pub(super) convert: bool,
    pub(super) expand: bool,
    pub(super) start: bool,
    pub(super) json: bool,
    pub(super) by_partition: bool,
    pub(super) clusters: Option<Vec<String>>,
    pub(super) users: Option<Vec<u32>>,
    pub(super) states: States,
    pub(super) names_of_jobs: Option<Vec<String>>,
    pub(super) accounts: Option<Vec<String>>,
    pub(super) partitions: Option<Vec<String>>,
    pub(super) qos: Option<Vec<String>>,
    pub(super) licenses: Option<Vec<String>>,
    pub(super) reservations: Option<Vec<String>>,
    pub(super) nodes: Option<String>,
    pub(super) sort: Option<String>,
    /// Only running jobs whose run time in ms is at least, and at most, this.
    pub(super) running: (Option<i64>, Option<i64>),
    pub(super) only_state: bool,
    pub(super) told: verbose::Told,
}

fn from_environment() -> Asked {
    let set = |name: &str| env::var(name).ok();
    let lists = |name: &str| set(name).map(|text| list(&text));
    Asked {
        all: set("SQUEUE_ALL").is_some(),
        split_arrays: set("SQUEUE_ARRAY").is_some(),
        format: set("SQUEUE_FORMAT"),
        names: set("SQUEUE_FORMAT2"),
        iterate: None,
        jobs: None,
        steps: None,
        long: false,
        header: true,
        convert: true,
        expand: false,
        start: false,
        json: false,
        by_partition: set("SQUEUE_PRIORITY").is_some(),
        clusters: set("SQUEUE_CLUSTERS").or_else(|| set("SLURM_CLUSTERS")).map(|text| clusters::names(&text)),
        users: None,
        states: States::Live,
        names_of_jobs: lists("SQUEUE_NAMES"),
        accounts: lists("SQUEUE_ACCOUNT"),
        partitions: lists("SQUEUE_PARTITION"),
        qos: lists("SQUEUE_QOS"),
        licenses: lists("SQUEUE_LICENSES"),
        reservations: None,
        nodes: None,
        sort: set("SQUEUE_SORT"),
        running: (None, None),
        only_state: false,
        told: verbose::Told::default(),
    }
}

/// Reads what the command line and the environment ask for.
pub(super) fn read(call: &Call) -> Result<Asked, u8> {
    let words = call.split(OPTIONS)?;
    let mut asked = from_environment();
    if let Ok(text) = env::var("SQUEUE_USERS") {
        asked.users = Some(users(call, &text));
        asked.told.users = Some(text);
    }
    if let Ok(text) = env::var("SQUEUE_STATES") {
        asked.states = states(call, &text)?;
        asked.told.states = Some(text);
    }
    let mut operands = words.operands.iter();
    let mut or_next = |given: Option<String>| match given {
        Some(text) if !text.is_empty() => Some(text),
        _ => operands.next().map(|word| word.to_string_lossy().into_owned()).or(given),
    };
    let (mut given_jobs, mut given_steps) = (None, None);
    for given in &words.options {
        let text = given.text();
        match given.id {
            O::All => asked.all = true,
            O::Account => asked.accounts = Some(list(&text)),
            O::Array => asked.split_arrays = true,
            O::Clusters => asked.clusters = Some(clusters::names(&text)),
            O::ExpandPatterns => asked.expand = true,
            O::Format => (asked.format, asked.names) = (Some(text), None),
            O::FormatNames => (asked.format, asked.names) = (None, Some(text)),
            O::Hide => asked.all = false,
            O::Help => return said(HELP),
            O::HelpLetters => return said(&table::help_letters(LETTERS, &FIELDS)),
            O::HelpNames => return said(&table::help_names(NAMES, &FIELDS)),
            O::Usage => return said(USAGE),
            O::Version => return said(&(version() + "\n")),
            O::Iterate => match text.parse::<u64>() {
                Ok(seconds) if seconds > 0 => asked.iterate = Some(seconds),
                _ => {
                    say::error(&call.program, format!("--iterate={text}\n"));
                    return Err(1);
                }
            },
            O::Jobs => given_jobs = Some(given.value.as_ref().map(|_| text)),
            O::Steps => given_steps = Some(given.value.as_ref().map(|_| text)),
            O::Json => asked.json = true,
            O::Yaml => {
                say::error(&call.program, "--yaml is not supported by sluice yet");
                return Err(1);
            }
            O::OnlyState => asked.only_state = true,
            O::RunningOver => asked.running.0 = Some(run_time(call, &text)?),
            O::RunningUnder => asked.running.1 = Some(run_time(call, &text)?),
            O::Licenses => asked.licenses = Some(list(&text)),
            O::Local => asked.told.local = true,
            O::Verbose => asked.told.verbose += 1,
            O::Long => asked.long = true,
            O::Me => asked.users = Some(vec![nix::unistd::getuid().as_raw()]),
            O::Name => asked.names_of_jobs = Some(list(&text)),
            O::NoConvert => asked.convert = false,
            O::NoHeader => asked.header = false,
            O::NodeList => asked.nodes = Some(text),
            O::Partition => asked.partitions = Some(list(&text)),
            O::Priority => asked.by_partition = true,
            O::Qos => asked.qos = Some(list(&text)),
            O::Reservation => asked.reservations = Some(list(&text)),
            O::Sort => asked.sort = Some(text),
            O::Start => asked.start = true,
            O::States => {
                asked.states = states(call, &text)?;
                asked.told.states = Some(text);
            }
            O::User => {
                asked.users = Some(users(call, &text));
                asked.told.users = Some(text);
            }
        }
    }
    // "-j" and "-s" take their list joined; a list behind a blank is an operand, as getopt sees it.
    if let Some(given) = given_jobs {
        let text = or_next(given);
        // A list of none is none, and not all.
        asked.jobs = text.as_deref().map(|text| selectors(call, text)).transpose()?;
        let text = text.unwrap_or_default();
        asked.told.jobs = Some(text);
    }
    if let Some(text) = given_steps {
        let text = or_next(text).unwrap_or_default();
        asked.steps = Some(step_selectors(call, &text)?);
        asked.told.steps = Some(text);
    }
    if let Some(stray) = operands.next() {
        say::error(&call.program, format!("Unrecognized option: {}", stray.to_string_lossy()));
        say::out(USAGE);
        return Err(1);
    }
    if asked.only_state {
        only_state_alone(call, &asked)?;
    }
    if asked.start && matches!(asked.states, States::Live) {
        asked.states = States::Only(vec![JobState::Pending]);
    }
    Ok(asked)
}

/// `--only-job-state` goes with a choice by id and state, and with nothing that needs more of a job to be known.
fn only_state_alone(call: &Call, asked: &Asked) -> Result<(), u8> {
    let lists = [
        &asked.names_of_jobs,
        &asked.accounts,
        &asked.partitions,
        &asked.qos,
        &asked.licenses,
        &asked.reservations,
    ];
    let more = lists.into_iter().any(Option::is_some)
        || asked.users.is_some()
        || asked.nodes.is_some()
        || asked.steps.is_some()
        || asked.start
        || asked.running != (None, None);
    if !more {
        return Ok(());
    }
    say::err(format!(
        "{}: fatal: Option --only-job-state only works alone, with -j (--jobs) and/or -t (--states) parameters, \
         parameters for cluster/federation selection, and the printing options.",
        call.program
    ));
    Err(1)
}

/// A run time of `--running-over` and its kin, in ms; without a unit, minutes.
fn run_time(call: &Call, text: &str) -> Result<i64, u8> {
    match model::time::limit::parse(text) {
        Ok(span) => Ok(span.map_or(i64::MAX, model::time::Span::as_millis)),
        Err(_) => {
            say::err(format!("{}: fatal: Invalid time limit specification", call.program));
            Err(1)
        }
    }
}

/// The steps of `-s`: each names its job and the step.
fn step_selectors(call: &Call, text: &str) -> Result<Vec<Selector>, u8> {
    let mut selectors = Vec::new();
    for item in job::split_ids(text) {
        let said = match Selector::parse(item) {
            Some(selector) if selector.step.is_some() => {
                selectors.push(selector);
                continue;
            }
            None if item.contains('.') => item.to_owned(),
            Some(_) | None => format!("{item}.??"),
        };
        say::error(&call.program, format!("Invalid job_step id: {said}"));
        return Err(1);
    }
    Ok(selectors)
}

fn selectors(call: &Call, text: &str) -> Result<Vec<Selector>, u8> {
    let mut selectors = Vec::new();
    for item in job::split_ids(text) {
        match Selector::parse(item) {
            Some(selector) => selectors.push(selector),
            None => {
                say::error(&call.program, format!("Invalid job id: {item}"));
                return Err(1);
            }
        }
    }
    Ok(selectors)
}

fn users(call: &Call, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    for name in list(text) {
        match local::user_id(&name) {
            Some(id) => ids.push(id),
            None => say::error(&call.program, format!("Invalid user: {name}\n")),
        }
    }
    ids
}

fn states(call: &Call, text: &str) -> Result<States, u8> {
    let mut states = Vec::new();
    for name in list(text) {
        if name.eq_ignore_ascii_case("all") {
            return Ok(States::All);
        }
        match JobState::parse(&name) {
            Some(state) => states.push(state),
            // A state that no job of this system is ever in.
            None if STATES.split(',').any(|known| known.eq_ignore_ascii_case(&name)) => {}
            None => {
                say::error(&call.program, format!("Invalid job state specified: {name}"));
                say::error(&call.program, format!("Valid job states include: {STATES}\n"));
                return Err(1);
            }
        }
    }
    Ok(States::Only(states))
}

/// The columns by letter, in the order of `--helpformat`.
const LETTERS: &str = "aFKBokOIXEexfGgiAWcmdjyNCDhPpQqrRnvYzsHSTtVJLlMUuwZ";

/// The columns by name, in the order of `--helpFormat`.
const NAMES: &str = "\
Account AccrueTime admin_comment AllocNodes AllocSID ArrayJobId ArrayTaskId AssocId BatchFlag \
BatchHost BoardsPerNode BurstBuffer BurstBufferState Cluster ClusterFeature Command Comment \
Container ContainerId ContainerType Contiguous Cores CoreSpec CPUsPerTask cpus-per-task cpus-per-tres CronJob Deadline DelayBoot Dependency DerivedEC EligibleTime EndTime ExcNodes Exclusive \
exit_code Feature GroupId GroupName HetJobId HetJobIdSet HetJobOffset JobArrayId JobId LastSchedEval \
Licenses LicensesAlloc MaxCPUs MaxNodes mem-per-tres MCSLabel MinCPUs MinMemory MinTime MinTmpDisk \
Name Network Nice NodeList NTPerCore NTPerNode NTPerSocket NTPerBoard NumCPUs NumNodes NumTasks \
Origin OriginRaw OverSubscribe Partition PendingTime PreemptTime Prefer Priority PriorityLong \
Profile QOS Reason ReasonList Reboot ReqNodes ReqSwitch Requeue Reservation ResizeTime RestartCnt \
SchedNodes SCT SegmentSize SiblingsActive SiblingsActiveRaw SiblingsViable SiblingsViableRaw SLUID \
Sockets SPerBoard StartTime State StateCompact StdErr StdIn StdOut SubmitTime system_comment Threads \
TimeLeft TimeLimit TimeUsed tres-alloc tres-bind tres-freq tres-per-job tres-per-socket tres-per-task UserId UserName Wait4Switch WCKey WorkDir";

const USAGE: &str = "\
Usage: squeue [-ahlrvV] [--me] [-A accounts] [-i seconds] [-j jobs] [-L licenses]
              [-M clusters] [-n names] [-o format | -O names] [-p partitions] [-P]
              [-q qos] [-R reservations] [--running-over time] [--running-under time]
              [-S keys] [-s steps] [--start] [-t states] [-u users] [-w nodes]
              [--expand-patterns] [--only-job-state] [--json] [--help]
";

const HELP: &str = "\
Usage: squeue [OPTIONS]
  -A, --account=account(s)        comma separated list of accounts to view
  -a, --all                       also show jobs of hidden partitions
  -h, --noheader                  no header line
  -i, --iterate=seconds           show again after so many seconds
  -j, --job(s)=job(s)             comma separated list of jobs or array elements
  -L, --licenses=(license names)  comma separated list of licenses
  -l, --long                      long report
  -M, --clusters=cluster_name     cluster to ask
      --me                        only one's own jobs
  -n, --name=job_name(s)          comma separated list of job names
  -o, --format=format             columns by letter
  -O, --Format=format             columns by name
  -p, --partition=partition(s)    comma separated list of partitions
  -q, --qos=qos(s)                comma separated list of QOS
  -R, --reservation=name          reservation
  -r, --array                     one line for each array element
      --running-over=time         jobs that have run longer
      --running-under=time        jobs that have run less long
  -S, --sort=fields               order, by letters of --format
  -s, --steps=step(s)             steps instead of jobs
      --start                     expected start of waiting jobs
  -t, --states=states             comma separated list of states, or all
  -u, --user=user_name(s)         comma separated list of users
  -w, --nodelist=hostlist         jobs that hold any of these nodes
      --json                      as JSON
      --helpformat                the letters of --format
      --helpFormat                the names of --Format
      --usage                     the options in short
  -V, --version                   version
";
