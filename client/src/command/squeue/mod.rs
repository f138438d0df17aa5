//! `squeue`: the jobs that wait and run.
//!
//! Owns its options and environment, which jobs are shown, and in what order; what a column holds is in
//! `fields`. Splitting arrays (`-r`, `-j 7_3`) happens here, because the scheduler keeps one record for all.

mod fields;
mod sort;
mod steps;
mod verbose;

use std::env;
use std::time::Duration;

use model::hostlist;
use model::job::JobState;
use proto::v1::{Job, JobFilter, ListJobsRequest};

use self::fields::{FIELDS, Row};
use super::job::{self, Selector, list};
use super::{Call, block_on, clusters};
use crate::api::{Client, Error};
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{local, say, table};

const DEFAULT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";
const ONLY_STATE: &str = "%.18i %.2t";
/// Every word that `-t` knows, in Slurm's order.
const STATES: &str = "pending,running,suspended,completed,cancelled,failed,timeout,node_fail,preempted,boot_fail,deadline,\
out_of_memory,completing,configuring,expediting,resizing,resv_del_hold,requeued,requeue_fed,requeue_hold,revoked,signaling,\
special_exit,stage_out,stopped";
const START: &str = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R";

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
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// Which states are shown.
enum States {
    /// Those of jobs that have not ended.
    Live,
    All,
    Only(Vec<JobState>),
}

/// What was asked for.
struct Asked {
    all: bool,
    split_arrays: bool,
    /// `-o`, or `-O` where it came later.
    format: Option<String>,
    names: Option<String>,
    iterate: Option<u64>,
    jobs: Option<Vec<Selector>>,
    steps: Option<Vec<Selector>>,
    long: bool,
    header: bool,
    convert: bool,
    expand: bool,
    start: bool,
    json: bool,
    by_partition: bool,
    clusters: Option<Vec<String>>,
    users: Option<Vec<u32>>,
    states: States,
    names_of_jobs: Option<Vec<String>>,
    accounts: Option<Vec<String>>,
    partitions: Option<Vec<String>>,
    qos: Option<Vec<String>>,
    licenses: Option<Vec<String>>,
    reservations: Option<Vec<String>>,
    nodes: Option<String>,
    sort: Option<String>,
    /// Only running jobs whose run time in ms is at least, and at most, this.
    running: (Option<i64>, Option<i64>),
    only_state: bool,
    told: verbose::Told,
}

/// Runs the command; its exit status is 0 except for options that cannot be read and failed questions.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(show(call, &asked)),
        Err(status) => status,
    }
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

fn read(call: &Call) -> Result<Asked, u8> {
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
            O::Version => return said(&(super::version() + "\n")),
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

fn said<T>(text: &str) -> Result<T, u8> {
    say::out(text);
    Err(0)
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

async fn show(call: &Call, asked: &Asked) -> u8 {
    let cluster = match clusters::check_query(call, asked.clusters.as_deref()) {
        Ok(cluster) => cluster,
        Err(status) => return status,
    };
    if asked.told.verbose > 0 {
        say::out(verbose::text(asked));
    }
    loop {
        if asked.iterate.is_some() || asked.long && asked.header || asked.told.verbose > 0 {
            say::out(local::ctime(local::now_ms()) + "\n");
        }
        if let Some(cluster) = cluster.as_ref().filter(|_| asked.header) {
            say::out(format!("CLUSTER: {cluster}\n"));
        }
        if let Err(error) = show_once(call, asked).await {
            match error {
                Failure::Said => {}
                Failure::Question(error) => {
                    say::err(format!("slurm_load_jobs error: {}", say::reason(&error)));
                    say::explain(&call.program, &error);
                }
            }
            if asked.iterate.is_none() {
                return 1;
            }
        }
        match asked.iterate {
            Some(seconds) => {
                say::out("\n");
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            None => return 0,
        }
    }
}

/// Why nothing was shown.
enum Failure {
    /// The complaint has been printed.
    Said,
    Question(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Question(error)
    }
}

async fn show_once(call: &Call, asked: &Asked) -> Result<(), Failure> {
    let client = super::connect_to_ask().await?;
    let nodes = match &asked.nodes {
        Some(text) => Some(node_names(call, &client, text).await?),
        None => None,
    };
    let job_ids = asked.jobs.iter().flatten().map(|selector| selector.job_id).collect();
    // Named jobs are told apart from those that are not there, whatever their state.
    let states = match (&asked.states, &asked.jobs) {
        (States::Only(states), None) => states.iter().map(|state| state.long().to_owned()).collect(),
        _ => Vec::new(),
    };
    let uids = asked.users.clone().unwrap_or_default();
    let filter = JobFilter { job_ids, uids, states, ..JobFilter::default() };
    let request = ListJobsRequest {
        filter: Some(filter),
        include_ended: asked.jobs.is_some() || !matches!(asked.states, States::Live),
        with_steps: asked.steps.is_some() || asked.json,
        all: asked.all || asked.jobs.is_some(),
    };
    let (jobs, now_ms) = client.list_jobs(request).await?;
    if asked.told.verbose > 0 && !asked.json {
        say::out(format!("last_update_time={} records={}\n", now_ms / 1000, jobs.len()));
    }
    let jobs = match asked.jobs.as_deref() {
        Some([one]) if !asked.only_state && !jobs.iter().any(|job| one.select(job).is_some()) => {
            let number = model::refusal::Refusal::InvalidJobId.number();
            return Err(Error::Refused { number, lines: Vec::new() }.into());
        }
        _ => jobs,
    };
    let jobs: Vec<Job> =
        select_ids(asked, jobs).into_iter().filter(|job| matches(asked, nodes.as_deref(), job)).collect();
    if asked.json {
        say::out(super::json::jobs(&jobs, now_ms));
    } else if let Some(wanted) = &asked.steps {
        show_steps(call, asked, steps::rows(jobs, now_ms, wanted));
    } else if let Some(key) = bad_sort_key(asked) {
        // Slurm has printed the header when it sorts.
        show_jobs(call, asked, Vec::new(), now_ms);
        say::error(&call.program, format!("Invalid sort specification: {key}"));
        return Err(Failure::Said);
    } else {
        show_jobs(call, asked, jobs, now_ms);
    }
    Ok(())
}

fn show_jobs(call: &Call, asked: &Asked, jobs: Vec<Job>, now_ms: i64) {
    let (text, invalid) = jobs_text(asked, jobs, now_ms);
    complain(call, "Invalid job format specification", &invalid);
    say::out(text);
}

/// The last letter of `--sort` that is no key: Slurm sorts by the last one first.
fn bad_sort_key(asked: &Asked) -> Option<char> {
    let known = |c: &char| matches!(c, ',' | '+' | '-' | '#') || sort::KEYS.contains(*c);
    asked.sort.as_deref()?.chars().rev().find(|c| !known(c))
}

/// The lines of the jobs, and the columns that cannot be printed.
fn jobs_text(asked: &Asked, jobs: Vec<Job>, now_ms: i64) -> (String, Vec<String>) {
    let jobs = if asked.only_state { jobs.into_iter().map(bare).collect() } else { jobs };
    let jobs = if asked.by_partition { jobs.into_iter().flat_map(by_partition).collect() } else { jobs };
    let row_of = |job| Row { job, now_ms, convert: asked.convert, expand: asked.expand };
    let mut rows: Vec<Row> = jobs.into_iter().map(row_of).collect();
    let default = if asked.start { sort::BY_START } else { sort::DEFAULT };
    sort::sort(&mut rows, asked.sort.as_deref().unwrap_or(default));
    // An array has its place as a whole.
    if asked.split_arrays {
        rows = rows.into_iter().flat_map(|row| job::split_tasks(row.job).into_iter().map(row_of)).collect();
    }
    let format = match (&asked.format, &asked.names) {
        (None, Some(names)) => table::parse_names(names, &FIELDS),
        (Some(format), _) => table::parse_letters(format, &FIELDS),
        (None, None) if asked.only_state => table::parse_letters(ONLY_STATE, &FIELDS),
        (None, None) if asked.start => table::parse_letters(START, &FIELDS),
        (None, None) => table::parse_letters(if asked.long { LONG } else { DEFAULT }, &FIELDS),
    };
    let mut out = String::new();
    if asked.header {
        out.push_str(&table::header(&format.columns));
        out.push('\n');
    }
    for row in &rows {
        out.push_str(&table::line(&format.columns, row));
        out.push('\n');
    }
    (out, format.invalid)
}

/// What `--only-job-state` tells of a job: its ids and its state.
fn bare(job: Job) -> Job {
    let request = proto::v1::JobRequest { name: "(null)".to_owned(), ..Default::default() };
    Job {
        job_id: job.job_id,
        array_job_id: job.array_job_id,
        array_task_id: job.array_task_id,
        array_tasks: job.array_tasks,
        array_throttle: job.array_throttle,
        het_job_id: job.het_job_id,
        het_offset: job.het_offset,
        state: job.state,
        request: Some(request),
        ..Job::default()
    }
}

/// `-P`: a waiting job once for each partition that it may run in.
fn by_partition(job: Job) -> Vec<Job> {
    if job::state(&job) != JobState::Pending {
        return vec![job];
    }
    list(&job.partition).into_iter().map(|partition| Job { partition, ..job.clone() }).collect()
}

fn show_steps(call: &Call, asked: &Asked, rows: Vec<steps::Row>) {
    let format = match (&asked.format, &asked.names) {
        (None, Some(names)) => table::parse_names(names, &steps::FIELDS),
        (format, _) => table::parse_letters(format.as_deref().unwrap_or(steps::DEFAULT), &steps::FIELDS),
    };
    complain(call, "Invalid job step format specification", &format.invalid);
    say::out(steps::print(&rows, &format, asked.header));
}

fn complain(call: &Call, sentence: &str, invalid: &[String]) {
    invalid.iter().for_each(|what| say::error(&call.program, format!("{sentence}: {what}")));
}

async fn node_names(call: &Call, client: &Client, text: &str) -> Result<Vec<String>, Failure> {
    let Ok(names) = hostlist::expand(text) else {
        say::error(&call.program, format!("'{text}' invalid entry for --nodelist"));
        return Err(Failure::Said);
    };
    let known = client.list_nodes(Vec::new()).await?;
    match names.iter().find(|name| !known.iter().any(|node| node.name == **name)) {
        Some(unknown) => {
            say::error(&call.program, format!("Invalid node name {unknown}"));
            Err(Failure::Said)
        }
        None => Ok(names),
    }
}

/// The jobs of `-j`, arrays cut to the elements that are named; all where there is no `-j`.
fn select_ids(asked: &Asked, jobs: Vec<Job>) -> Vec<Job> {
    let Some(selectors) = &asked.jobs else { return jobs };
    let mut selected = Vec::new();
    for job in &jobs {
        let parts: Vec<Job> = selectors.iter().filter_map(|selector| selector.select(job)).collect();
        let whole = parts.iter().find(|part| part.array_tasks == job.array_tasks);
        match (whole, job::tasks(job)) {
            (Some(whole), _) => selected.push(whole.clone()),
            (None, Some(_)) if !parts.is_empty() => selected.push(join(job, &parts)),
            _ => {}
        }
    }
    selected
}

/// One record of all elements that the selectors of one array chose.
fn join(job: &Job, parts: &[Job]) -> Job {
    let mut ids: Vec<u32> = Vec::new();
    for part in parts {
        ids.extend(part.array_task_id);
        ids.extend(job::tasks(part).iter().flat_map(|tasks| tasks.iter().collect::<Vec<_>>()));
    }
    ids.sort_unstable();
    ids.dedup();
    match ids.as_slice() {
        [task] => Job { array_task_id: Some(*task), array_tasks: None, ..job.clone() },
        _ => {
            let text = model::array::TaskSet::from_ids(ids).text(None);
            Job { array_tasks: Some(text), array_throttle: None, ..job.clone() }
        }
    }
}

fn matches(asked: &Asked, nodes: Option<&[String]>, job: &Job) -> bool {
    let state = job::state(job);
    let in_state = match &asked.states {
        States::All => true,
        States::Live => !state.is_terminal(),
        States::Only(states) => states.contains(&state),
    };
    let among = |wanted: &Option<Vec<String>>, value: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == value))
    };
    let any_of = |wanted: &Option<Vec<String>>, values: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| values.split(',').any(|value| wanted.iter().any(|one| one == value)))
    };
    let licenses = job::rare(job).licenses.as_deref().unwrap_or_default();
    let bare_licenses: Vec<&str> = licenses.split(',').filter_map(|one| one.split(':').next()).collect();
    let ran = || job::run_ms(job, local::now_ms());
    let running = match asked.running {
        (None, None) => true,
        (over, under) => {
            state == JobState::Running
                && over.is_none_or(|least| ran() > least)
                && under.is_none_or(|most| ran() < most)
        }
    };
    in_state
        && running
        && asked.users.as_ref().is_none_or(|users| users.contains(&job.uid))
        && among(&asked.names_of_jobs, &job::request(job).name)
        && among(&asked.accounts, &job.account)
        && among(&asked.qos, &job.qos)
        && any_of(&asked.partitions, &job.partition)
        && any_of(&asked.licenses, &bare_licenses.join(","))
        && among(&asked.reservations, job::rare(job).reservation.as_deref().unwrap_or_default())
        && nodes.is_none_or(|names| {
            let held = hostlist::expand(&job.node_list).unwrap_or_default();
            held.iter().any(|node| names.contains(node))
        })
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

#[cfg(test)]
mod tests;
