//! `sacct`: what jobs and steps were, from the scheduler's history.
//!
//! Owns its options, which lines are shown and in what form; what a field holds is in `fields`.

mod fields;
mod parts;
mod words;

use std::env;

use model::hostlist;
use model::job::JobState;
use model::time::Timestamp;
use model::time::moment::{self, Sense};
use proto::v1::{Job, JobFilter, ListHistoryRequest, Step};

use self::fields::{FIELDS, Field, Row, find};
use self::parts::parts;
use self::words::{
    flags, groups, moment, range, reasons, selectors, split_words, states, time_limit, unit, users,
};
use super::job::{self, Selector, list, names};
use super::{Call, block_on, clusters, past};
use crate::api::Error;
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::table::print::{Column, Form};
use crate::{local, say};

const DEFAULT: &str = "jobid,jobname,partition,account,alloccpus,state,exitcode";
const BRIEF: &str = "jobid,state,exitcode";
const LONG: &str = "jobid,jobidraw,jobname,partition,maxvmsize,maxvmsizenode,maxvmsizetask,avevmsize,maxrss,\
maxrssnode,maxrsstask,averss,maxpages,maxpagesnode,maxpagestask,avepages,mincpu,mincpunode,mincputask,avecpu,\
ntasks,alloccpus,elapsed,state,exitcode,avecpufreq,reqcpufreqmin,reqcpufreqmax,reqcpufreqgov,reqmem,\
consumedenergy,maxdiskread,maxdiskreadnode,maxdiskreadtask,avediskread,maxdiskwrite,maxdiskwritenode,\
maxdiskwritetask,avediskwrite,alloctres,tresusageinave,tresusageinmax,tresusageinmaxn,tresusageinmaxt,\
tresusageinmin,tresusageinminn,tresusageinmint,tresusageintot,tresusageoutmax,tresusageoutmaxn,\
tresusageoutmaxt,tresusageoutave,tresusageouttot";

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Account,
    AllUsers,
    Allocations,
    Array,
    Associations,
    BatchScript,
    Brief,
    Clusters,
    Completion,
    Constraints,
    Cpus,
    Delimiter,
    Duplicates,
    End,
    EnvVars,
    Expand,
    Flags,
    Format,
    Gid,
    Help,
    HelpFormat,
    Ignored,
    Jobs,
    Json,
    Long,
    Name,
    LimitLeast,
    LimitMost,
    NoHeader,
    NodeCount,
    Nodes,
    Parsable,
    Parsable2,
    Partition,
    Qos,
    Reason,
    Start,
    State,
    Truncate,
    /// Refused by this name.
    Unsupported(&'static str),
    Units,
    Usage,
    User,
    Version,
    WcKeys,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::AllUsers, b'a', "allusers", Nothing),
    Spec::new(O::Account, b'A', "accounts", Value),
    Spec::long(O::Array, "array", Nothing),
    Spec::long(O::Allocations, "allocations", Nothing),
    Spec::short(O::Allocations, b'X', Nothing),
    Spec::new(O::Brief, b'b', "brief", Nothing),
    Spec::new(O::BatchScript, b'B', "batch-script", Nothing),
    Spec::new(O::Completion, b'c', "completion", Nothing),
    Spec::new(O::Constraints, b'C', "constraints", Value),
    Spec::long(O::Delimiter, "delimiter", Value),
    Spec::new(O::Duplicates, b'D', "duplicates", Nothing),
    Spec::new(O::HelpFormat, b'e', "helpformat", Nothing),
    Spec::long(O::Help, "help-fields", Nothing),
    Spec::new(O::End, b'E', "endtime", Value),
    Spec::long(O::EnvVars, "env-vars", Nothing),
    Spec::long(O::Expand, "expand-patterns", Nothing),
    Spec::new(O::Unsupported("--file"), b'f', "file", Value),
    Spec::new(O::Flags, b'F', "flags", Value),
    Spec::new(O::Gid, b'g', "gid", Value),
    Spec::long(O::Gid, "group", Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::new(O::NodeCount, b'i', "nnodes", Value),
    Spec::new(O::Cpus, b'I', "ncpus", Value),
    Spec::new(O::Jobs, b'j', "jobs", Value),
    Spec::long(O::Json, "json", Maybe),
    Spec::new(O::LimitLeast, b'k', "timelimit-min", Value),
    Spec::new(O::LimitMost, b'K', "timelimit-max", Value),
    Spec::long(O::Ignored, "local", Nothing),
    Spec::new(O::Long, b'l', "long", Nothing),
    Spec::new(O::Ignored, b'L', "allclusters", Nothing),
    Spec::new(O::Clusters, b'M', "clusters", Value),
    Spec::long(O::Clusters, "cluster", Value),
    Spec::new(O::NoHeader, b'n', "noheader", Nothing),
    Spec::new(O::Nodes, b'N', "nodelist", Value),
    Spec::long(O::Name, "name", Value),
    Spec::long(O::Ignored, "noconvert", Nothing),
    Spec::long(O::Units, "units", Value),
    Spec::new(O::Format, b'o', "format", Value),
    Spec::long(O::Format, "fields", Value),
    Spec::new(O::Parsable, b'p', "parsable", Nothing),
    Spec::new(O::Parsable2, b'P', "parsable2", Nothing),
    Spec::new(O::Qos, b'q', "qos", Value),
    Spec::new(O::Partition, b'r', "partition", Value),
    Spec::new(O::Reason, b'R', "reason", Value),
    Spec::new(O::State, b's', "state", Value),
    Spec::new(O::Start, b'S', "starttime", Value),
    Spec::new(O::Truncate, b'T', "truncate", Nothing),
    Spec::long(O::Ignored, "federation", Nothing),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::new(O::User, b'u', "user", Value),
    Spec::long(O::User, "uid", Value),
    Spec::long(O::Ignored, "use-local-uid", Nothing),
    Spec::new(O::Ignored, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::new(O::WcKeys, b'W', "wckeys", Value),
    Spec::new(O::Associations, b'x', "associations", Value),
    Spec::long(O::Unsupported("--yaml"), "yaml", Maybe),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |id| !matches!(id, O::Unsupported(_)))
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    all_users: bool,
    accounts: Vec<String>,
    allocations: bool,
    associations: Vec<u32>,
    batch_script: bool,
    /// Texts that the constraints must all hold; an empty one: that there are none.
    constraints: Option<Vec<String>>,
    duplicates: bool,
    /// Only other clusters are asked for.
    elsewhere: bool,
    split_arrays: bool,
    env_vars: bool,
    expand: bool,
    /// Any of these flags.
    flags: Option<Vec<String>>,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    format: String,
    gids: Vec<u32>,
    header: bool,
    jobs: Vec<Selector>,
    json: bool,
    /// Numbers of allocated CPUs and nodes, each from and to.
    cpus: Option<(u32, u32)>,
    node_count: Option<(u32, u32)>,
    /// Time limits in ms, from and to; `i64::MAX` is no limit.
    limits: (Option<i64>, Option<i64>),
    names: Vec<String>,
    nodes: Vec<String>,
    /// The list of nodes is none.
    bad_nodes: bool,
    partitions: Vec<String>,
    qos: Vec<String>,
    /// Any of these reasons.
    reasons: Option<Vec<String>>,
    states: Vec<JobState>,
    truncate: bool,
    /// `--units`: that all amounts of memory are shown in.
    unit: Option<char>,
    uids: Vec<u32>,
    wckeys: Vec<String>,
    parsable: Option<bool>,
    delimiter: Option<String>,
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    let now_ms = local::now_ms();
    match read(call, now_ms) {
        Ok(asked) => block_on(show(call, &asked, now_ms)),
        Err(status) => status,
    }
}

fn read(call: &Call, now_ms: i64) -> Result<Asked, u8> {
    let words = call.split_without_hint(OPTIONS)?;
    let mut asked = Asked { header: true, ..Asked::default() };
    let mut formats: Vec<String> = Vec::new();
    for given in &words.options {
        let text = given.text();
        match given.id {
            O::AllUsers => asked.all_users = true,
            O::Account => asked.accounts.extend(names(&text)),
            O::Allocations => asked.allocations = true,
            O::Array => asked.split_arrays = true,
            O::Associations => {
                // What is no number is the association that nobody has.
                asked.associations.extend(names(&text).iter().map(|id| id.parse::<u32>().unwrap_or(0)))
            }
            O::Completion => {
                say::err("Slurm job completion is disabled");
                return Err(1);
            }
            O::Constraints => asked.constraints = Some(split_words(&text, &[',', '&'])),
            O::Expand => asked.expand = true,
            O::Flags => asked.flags = Some(flags(call, &text)?),
            O::Reason => asked.reasons = Some(reasons(call, &text)?),
            O::Cpus if text.is_empty() => {}
            O::Cpus => asked.cpus = Some(range(call, &text, "requested cpu range")?),
            O::LimitLeast => asked.limits.0 = Some(time_limit(call, &text)?),
            O::LimitMost => asked.limits.1 = Some(time_limit(call, &text)?),
            O::NodeCount if text.is_empty() => {}
            O::NodeCount => asked.node_count = Some(range(call, &text, "requested node range")?),
            O::Ignored => {}
            O::BatchScript => asked.batch_script = true,
            O::Brief => formats = vec![BRIEF.to_owned()],
            O::Clusters => {
                // Of a cluster that nobody knows there are no jobs.
                let own = clusters::name();
                asked.elsewhere = !list(&text).iter().any(|name| *name == own || name == "all");
            }
            O::Delimiter => asked.delimiter = Some(text),
            O::Duplicates => asked.duplicates = true,
            O::End | O::Start if text.is_empty() => {}
            O::End => asked.to_ms = Some(moment(&text, now_ms)?),
            O::EnvVars => asked.env_vars = true,
            O::Format => formats.push(text),
            O::Gid => asked.gids.extend(groups(call, &text)?),
            O::Help => {
                say::out(HELP);
                return Err(0);
            }
            O::HelpFormat => {
                say::out(help_format());
                return Err(0);
            }
            O::Jobs => asked.jobs.extend(selectors(call, &text)?),
            O::Json => asked.json = true,
            O::Long => formats = vec![LONG.to_owned()],
            O::Name => asked.names.extend(names(&text)),
            O::NoHeader => asked.header = false,
            O::Nodes => match hostlist::expand(&text) {
                Ok(names) if names.is_empty() => asked.nodes.push(String::new()),
                Ok(names) => asked.nodes.extend(names),
                Err(_) => asked.bad_nodes = true,
            },
            O::Parsable => asked.parsable = Some(true),
            O::Parsable2 => asked.parsable = Some(false),
            O::Partition => asked.partitions.extend(names(&text)),
            O::Qos => asked.qos.extend(names(&text)),
            O::Start => asked.from_ms = Some(moment(&text, now_ms)?),
            O::State => asked.states.extend(states(call, &text)?),
            O::Truncate => asked.truncate = true,
            O::Unsupported(name) => {
                say::error(&call.program, format!("{name} is not supported by sluice yet"));
                return Err(1);
            }
            O::Units => match unit(&text) {
                Some(unit) => asked.unit = Some(unit),
                None => {
                    say::error(
                        &call.program,
                        format!("Invalid unit type '{text}'. Possible options are 'KMGTP'"),
                    );
                    say::fatal(&call.program, "Invalid unit type");
                    return Err(1);
                }
            },
            O::Usage => {
                say::out("Usage: sacct [options]\n\tUse --help for help\n");
                return Err(0);
            }
            O::User => asked.uids.extend(users(call, &text)?),
            O::Version => {
                say::out(super::version() + "\n");
                return Err(0);
            }
            O::WcKeys => asked.wckeys.extend(list(&text)),
        }
    }
    if !words.operands.is_empty() {
        say::error(&call.program, "Unknown arguments:");
        for word in &words.operands {
            say::error(&call.program, format!(" {}", word.to_string_lossy()));
        }
        return Err(1);
    }
    asked.format = match formats.is_empty() {
        true => env::var("SACCT_FORMAT")
            .ok()
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| DEFAULT.to_owned()),
        false => formats.join(","),
    };
    window(call, &mut asked, now_ms)?;
    Ok(asked)
}

/// Slurm's default window: all time where jobs are named, now where states are, else from midnight.
fn window(call: &Call, asked: &mut Asked, now_ms: i64) -> Result<(), u8> {
    if asked.from_ms.is_none() && asked.jobs.is_empty() {
        let today = || moment::parse("midnight", Timestamp(now_ms), &local::offset_s, Sense::Past);
        asked.from_ms = match asked.states.is_empty() {
            true => today().ok().map(Timestamp::as_millis),
            false => Some(now_ms),
        };
    }
    // States are looked at in the moment that the window begins, unless its end is named.
    if !asked.states.is_empty() && asked.to_ms.is_none() {
        asked.to_ms = asked.from_ms;
    }
    if let (Some(from), Some(to)) = (asked.from_ms, asked.to_ms)
        && from > to
    {
        let (from, to) = (local::date(from), local::date(to));
        say::error(&call.program, format!("Start time ({from}) requested is after end time ({to})."));
        return Err(1);
    }
    Ok(())
}

/// The columns of `-o`. A width given with one mention of a field holds for all of them, as in Slurm.
fn columns(call: &Call, format: &str) -> Result<Vec<(&'static Field, Column)>, u8> {
    let mut columns: Vec<(&'static Field, Column)> = Vec::new();
    for item in list(format) {
        let (name, width) = match item.split_once('%') {
            Some((name, width)) => (name, width.parse::<i32>().ok()),
            None => (item.as_str(), None),
        };
        let Some(field) = find(name) else {
            say::error(&call.program, format!("Invalid field requested: \"{name}\""));
            return Err(1);
        };
        let known =
            columns.iter().find(|(other, _)| other.name == field.name).map(|(_, column)| column.width);
        let width = width.or(known).unwrap_or(field.width);
        for (other, column) in &mut columns {
            if other.name == field.name {
                column.width = width;
            }
        }
        columns.push((field, Column { name: field.name.to_owned(), width }));
    }
    Ok(columns)
}

async fn show(call: &Call, asked: &Asked, now_ms: i64) -> u8 {
    let columns = match columns(call, &asked.format) {
        Ok(columns) => columns,
        Err(status) => return status,
    };
    if let Err(status) = check_qos(call, asked).await {
        return status;
    }
    let jobs = match load(asked, parts(asked, &columns)).await {
        Ok(_) if asked.elsewhere => Vec::new(),
        Ok(jobs) => jobs,
        Err(error) => {
            say::error(&call.program, format!("Problem talking to the database: {}", say::reason(&error)));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    let jobs = select(asked, jobs, now_ms);
    if asked.batch_script || asked.env_vars {
        return bodies(call, asked, &jobs).await;
    }
    if asked.json {
        say::out(super::json::history(&jobs));
        return 0;
    }
    let form = match asked.parsable {
        None => Form::Columns,
        Some(ends) => {
            let delimiter = asked.delimiter.clone().unwrap_or_else(|| "|".to_owned());
            Form::Parsable { delimiter, ends }
        }
    };
    let (fields, columns): (Vec<&Field>, Vec<Column>) = columns.into_iter().unzip();
    let mut out = if asked.header { form.header(&columns) } else { String::new() };
    for row in rows(asked, &jobs, now_ms) {
        let values: Vec<String> = fields.iter().map(|field| (field.value)(&row)).collect();
        out.push_str(&form.line(&columns, &values));
    }
    say::out(out);
    if asked.bad_nodes {
        say::error(&call.program, "Invalid argument");
        return 1;
    }
    0
}

/// Every QOS of `-q` must exist.
async fn check_qos(call: &Call, asked: &Asked) -> Result<(), u8> {
    if asked.qos.is_empty() {
        return Ok(());
    }
    let Ok(client) = super::connect_to_ask().await else { return Ok(()) };
    let Ok(reply) = client.raw().list_accounts(proto::v1::ListAccountsRequest {}).await else {
        return Ok(());
    };
    let known: Vec<String> = reply.into_inner().qos.into_iter().map(|qos| qos.name).collect();
    let Some(bad) = asked.qos.iter().find(|name| !name.is_empty() && !known.contains(name)) else {
        return Ok(());
    };
    say::error(&call.program, format!("You gave a bad qos '{bad}'. Valid QOS's are {}", known.join(",")));
    say::fatal(&call.program, "problem processing qos list");
    Err(1)
}

async fn load(asked: &Asked, fields: Vec<u32>) -> Result<Vec<Job>, Error> {
    let own = asked.uids.is_empty() && asked.jobs.is_empty() && !asked.all_users;
    let uid = nix::unistd::getuid().as_raw();
    let uids = if own && uid != 0 { vec![uid] } else { asked.uids.clone() };
    let filter = JobFilter {
        job_ids: asked.jobs.iter().map(|selector| selector.job_id).collect(),
        uids,
        ..JobFilter::default()
    };
    let request = ListHistoryRequest {
        filter: Some(filter),
        from_ms: asked.from_ms,
        to_ms: asked.to_ms,
        duplicates: asked.duplicates,
        fields,
        ..ListHistoryRequest::default()
    };
    super::connect_to_ask().await?.list_history(request).await
}

/// A job that is ending has ended for accounting: Slurm tells its database the final state at that moment, and
/// COMPLETING is none of the states that `sacct` shows.
fn account_for(job: &mut Job) {
    if job::state(job) == JobState::Completing && !job.final_state.is_empty() {
        job.state.clone_from(&job.final_state);
    }
}

/// The jobs that match, by id, of each only the last run unless all are wanted.
fn select(asked: &Asked, mut jobs: Vec<Job>, now_ms: i64) -> Vec<Job> {
    jobs.iter_mut().for_each(account_for);
    if asked.duplicates {
        jobs.sort_by_key(|job| (job.job_id, job.run, job.end_ms.unwrap_or(i64::MAX)));
    } else {
        jobs = past::last_runs(jobs);
    }
    if !asked.jobs.is_empty() {
        let chosen = |job: &Job| asked.jobs.iter().find_map(|selector| selector.select(job));
        jobs = jobs.iter().filter_map(chosen).collect();
    }
    jobs.retain(|job| matches(asked, job, now_ms));
    if asked.split_arrays {
        jobs = jobs.into_iter().flat_map(job::split_tasks).collect();
    }
    if asked.truncate {
        for job in &mut jobs {
            job.start_ms = job.start_ms.map(|ms| ms.max(asked.from_ms.unwrap_or(ms)));
            job.end_ms = job.end_ms.map(|ms| ms.min(asked.to_ms.unwrap_or(ms)));
        }
    }
    jobs
}

/// Whether the constraints hold all of these texts; where the only one is empty, whether there are none.
fn constrained(constraint: Option<&str>, wanted: &[String]) -> bool {
    let text = constraint.unwrap_or_default().to_ascii_lowercase();
    match wanted.is_empty() {
        true => text.is_empty(),
        false => wanted.iter().all(|one| text.contains(&one.to_ascii_lowercase())),
    }
}

fn matches(asked: &Asked, job: &Job, now_ms: i64) -> bool {
    let (request, rare) = (job::request(job), job::rare(job));
    let any = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
    let ended = job.end_ms.filter(|_| job::state(job).is_terminal()).unwrap_or(i64::MAX);
    // A second of grace, because accounting counts whole seconds.
    let in_window = asked.from_ms.is_none_or(|from| ended >= from.saturating_sub(1000))
        && job.submit_ms <= asked.to_ms.unwrap_or(now_ms).saturating_add(1000);
    let within = |range: Option<(u32, u32)>, value: u32| {
        range.is_none_or(|(least, most)| (least..=most).contains(&value))
    };
    // Without a most, exactly the least is meant.
    let limit = job.time_limit_ms.map(|ms| if ms < 0 { i64::MAX } else { ms });
    let in_limits = match asked.limits {
        (None, None) => true,
        (Some(exact), None) => limit == Some(exact),
        (least, most) => {
            limit.is_some_and(|limit| limit >= least.unwrap_or(0) && most.is_none_or(|most| limit <= most))
        }
    };
    in_window
        && in_limits
        && within(asked.cpus, job.num_cpus)
        && within(asked.node_count, job.num_nodes)
        && asked.constraints.as_ref().is_none_or(|wanted| constrained(request.constraint.as_deref(), wanted))
        && asked.flags.as_ref().is_none_or(|wanted| {
            wanted.iter().any(|one| fields::flags(job).iter().any(|flag| flag.eq_ignore_ascii_case(one)))
        })
        && asked
            .reasons
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|one| fields::reason(job).eq_ignore_ascii_case(one)))
        && (asked.associations.is_empty() || asked.associations.contains(&job.association_id))
        && (asked.states.is_empty() || asked.states.contains(&job::state(job)))
        && (asked.uids.is_empty() || asked.uids.contains(&job.uid))
        && (asked.gids.is_empty() || asked.gids.contains(&job.gid))
        && any(&asked.accounts, &job.account)
        && any(&asked.names, &request.name)
        && any(&asked.qos, &job.qos)
        && any(&asked.wckeys, rare.wckey.as_deref().unwrap_or_default())
        && (asked.partitions.is_empty() || job.partition.split(',').any(|name| any(&asked.partitions, name)))
        && (asked.nodes.is_empty()
            || hostlist::expand(&job.node_list)
                .unwrap_or_default()
                .iter()
                .any(|node| asked.nodes.contains(node)))
}

/// Each job's line, then those of its steps; where steps are named, theirs alone.
fn rows<'a>(asked: &Asked, jobs: &'a [Job], now_ms: i64) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for job in jobs {
        let named: Vec<&Selector> =
            asked.jobs.iter().filter(|selector| selector.select(job).is_some()).collect();
        let whole = named.is_empty() || named.iter().any(|selector| selector.step.is_none());
        if whole {
            rows.push(Row { job, step: None, now_ms, expand: asked.expand, unit: asked.unit });
        }
        if asked.allocations {
            continue;
        }
        let mut steps: Vec<&Step> = job.steps.iter().collect();
        steps.sort_by_key(|step| match step.step_id.as_str() {
            "batch" | "interactive" => -2,
            "extern" => -1,
            number => number.parse::<i64>().unwrap_or(i64::MAX),
        });
        for step in steps {
            if whole || named.iter().any(|selector| selector.step.as_deref() == Some(step.step_id.as_str())) {
                rows.push(Row { job, step: Some(step), now_ms, expand: asked.expand, unit: asked.unit });
            }
        }
    }
    rows
}

async fn bodies(call: &Call, asked: &Asked, jobs: &[Job]) -> u8 {
    if asked.jobs.is_empty() {
        say::fatal(
            &call.program,
            match asked.env_vars {
                true => {
                    "When requesting environment variables you must also request specific jobs with the '-j' option."
                }
                false => {
                    "When requesting job scripts you must also request specific jobs with the '-j' option."
                }
            },
        );
        return 1;
    }
    let client = match super::connect_to_ask().await {
        Ok(client) => client,
        Err(error) => {
            say::explain(&call.program, &error);
            return 1;
        }
    };
    for job in jobs {
        let request = proto::v1::GetBodyRequest { job_id: job.job_id, environment: asked.env_vars };
        let body = match client.raw().get_body(request).await {
            Ok(reply) => reply.into_inner().body,
            Err(_) => continue,
        };
        let what = if asked.env_vars { "Environment used" } else { "Batch Script" };
        let mut out = format!("{what} for {}\n{}\n", job::id(job), "-".repeat(80)).into_bytes();
        match (body.is_empty(), asked.env_vars) {
            (true, _) => out.extend_from_slice(b"NONE\n"),
            (false, true) => out.extend(body.iter().map(|&byte| if byte == 0 { b'\n' } else { byte })),
            (false, false) => {
                out.extend_from_slice(&body);
                out.push(b'\n');
            }
        }
        say::out(out);
    }
    0
}

fn help_format() -> String {
    let mut out = String::new();
    for row in FIELDS.chunks(4) {
        let cells: Vec<String> = row.iter().map(|field| format!("{:<19}", field.name)).collect();
        out.push_str(&(cells.join(" ") + "\n"));
    }
    out
}

const HELP: &str = "\
sacct [<OPTION>]
     Valid <OPTION> values are:
     -a, --allusers:
                   Show all users' jobs.
     -A, --accounts:
                   Only jobs of these accounts.
     -b, --brief:
                   Job id, state and exit code only.
     -B, --batch-script:
                   The scripts of the named jobs.
     -C, --constraints:
                   Only jobs that asked for all of these features.
     -D, --duplicates:
                   Every run of a requeued job.
     --delimiter:
                   Text between values of -p and -P.
     -e, --helpformat:
                   The fields that --format knows.
     -E, --endtime:
                   Only jobs that were there before this time.
     --env-vars:
                   The environments of the named jobs.
     --expand-patterns:
                   Names of files instead of their patterns.
     -F, --flags:
                   Only jobs with any of these flags.
     -g, --gid, --group:
                   Only jobs of these groups.
     -h, --help:
                   This text.
     -i, --nnodes:
                   Only jobs on so many nodes, N or N-M.
     -I, --ncpus:
                   Only jobs with so many CPUs, N or N-M.
     -k, --timelimit-min:
                   Only jobs with this time limit, or from it on where -K is given.
     -K, --timelimit-max:
                   Only jobs with at most this time limit.
     -j, --jobs:
                   Only these jobs or steps.
     --json:
                   As JSON.
     -l, --long:
                   Many fields.
     -M, --clusters:
                   Cluster to ask.
     -n, --noheader:
                   No header lines.
     -N, --nodelist:
                   Only jobs that held any of these nodes.
     --name:
                   Only jobs of these names.
     -o, --format:
                   Fields to show, name%width, separated by commas.
     -p, --parsable:
                   Values between bars, one behind the last too.
     -P, --parsable2:
                   Values between bars.
     -q, --qos:
                   Only jobs of these QOS.
     -r, --partition:
                   Only jobs of these partitions.
     -R, --reason:
                   Only jobs that waited for any of these reasons.
     -s, --state:
                   Only jobs in these states.
     -S, --starttime:
                   Only jobs that were there after this time.
     -T, --truncate:
                   Cut times to the window.
     -u, --uid, --user:
                   Only jobs of these users.
     -V, --version:
                   Version.
     -W, --wckeys:
                   Only jobs of these workload keys.
     -x, --associations:
                   Only jobs of the associations with these numbers.
     -X, --allocations:
                   Jobs without their steps.
";

#[cfg(test)]
mod tests;
