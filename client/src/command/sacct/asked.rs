//! What `sacct` is asked for: its options, its environment and its help.

use std::env;

use model::hostlist;
use model::job::JobState;
use model::time::Timestamp;
use model::time::moment::{self, Sense};

use super::fields::FIELDS;
use super::words::{
    flags, groups, moment, range, reasons, selectors, split_words, states, time_limit, unit, users,
};
use crate::command::job::{Selector, list, names};
use crate::command::{Call, clusters};
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{local, say};

pub(super) const DEFAULT: &str = "jobid,jobname,partition,account,alloccpus,state,exitcode";
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
pub(crate) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |id| !matches!(id, O::Unsupported(_)))
}

/// What was asked for.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) all_users: bool,
    pub(super) accounts: Vec<String>,
    pub(super) allocations: bool,
    pub(super) associations: Vec<u32>,
    pub(super) batch_script: bool,
    /// Texts that the constraints must all hold; an empty one: that there are none.
    pub(super) constraints: Option<Vec<String>>,
    pub(super) duplicates: bool,
    /// Only other clusters are asked for.
    pub(super) elsewhere: bool,
    pub(super) split_arrays: bool,
    pub(super) env_vars: bool,
    pub(super) expand: bool,
    /// Any of these flags.
    pub(super) flags: Option<Vec<String>>,
    pub(super) from_ms: Option<i64>,
    pub(super) to_ms: Option<i64>,
    pub(super) format: String,
    pub(super) gids: Vec<u32>,
    pub(super) header: bool,
    pub(super) jobs: Vec<Selector>,
    pub(super) json: bool,
    /// Numbers of allocated CPUs and nodes, each from and to.
    pub(super) cpus: Option<(u32, u32)>,
    pub(super) node_count: Option<(u32, u32)>,
    /// Time limits in ms, from and to; `i64::MAX` is no limit.
    pub(super) limits: (Option<i64>, Option<i64>),
    pub(super) names: Vec<String>,
    pub(super) nodes: Vec<String>,
    /// The list of nodes is none.
    pub(super) bad_nodes: bool,
    pub(super) partitions: Vec<String>,
    pub(super) qos: Vec<String>,
    /// Any of these reasons.
    pub(super) reasons: Option<Vec<String>>,
    pub(super) states: Vec<JobState>,
    pub(super) truncate: bool,
    /// `--units`: that all amounts of memory are shown in.
    pub(super) unit: Option<char>,
    pub(super) uids: Vec<u32>,
    pub(super) wckeys: Vec<String>,
    pub(super) parsable: Option<bool>,
    pub(super) delimiter: Option<String>,
}

/// Reads what the command line and the environment ask for at this time.
pub(super) fn read(call: &Call, now_ms: i64) -> Result<Asked, u8> {
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
                say::out(crate::command::version() + "\n");
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
