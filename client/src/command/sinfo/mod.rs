//! `sinfo`: partitions and nodes.
//!
//! Owns its options, which nodes are shown, and how they are grouped into lines: nodes of a partition stand
//! together as long as no asked column tells them apart.

mod fields;
mod verbose;

use std::env;

use model::hostlist;
use proto::v1::{Node, Partition};

use self::fields::{FIELDS, Grouping, Row, grouping, names_partition};
use super::job::list;
use super::{Call, block_on, clusters, iterate, node, said, scontrol};
use crate::api::Error;
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::getopt::{self, Spec};
use crate::table::{self, Format};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    All,
    Clusters,
    Dead,
    Exact,
    Future,
    Format,
    FormatNames,
    Help,
    HelpLetters,
    HelpNames,
    Hide,
    Ignored,
    Iterate,
    Json,
    Long,
    NoConvert,
    NoHeader,
    NodeMode,
    Nodes,
    Partition,
    Reasons,
    Reservations,
    Responding,
    Sort,
    States,
    Summary,
    Usage,
    Verbose,
    Version,
    Yaml,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::All, b'a', "all", Nothing),
    Spec::new(O::Dead, b'd', "dead", Nothing),
    Spec::new(O::Exact, b'e', "exact", Nothing),
    Spec::new(O::Future, b'F', "future", Nothing),
    Spec::new(O::NoHeader, b'h', "noheader", Nothing),
    Spec::new(O::Iterate, b'i', "iterate", Value),
    Spec::long(O::Json, "json", Maybe),
    Spec::long(O::Ignored, "local", Nothing),
    Spec::long(O::Ignored, "federation", Nothing),
    Spec::new(O::Long, b'l', "long", Nothing),
    Spec::long(O::Clusters, "cluster", Value),
    Spec::new(O::Clusters, b'M', "clusters", Value),
    Spec::new(O::Nodes, b'n', "nodes", Value),
    Spec::long(O::NoConvert, "noconvert", Nothing),
    Spec::new(O::NodeMode, b'N', "Node", Nothing),
    Spec::new(O::Format, b'o', "format", Value),
    Spec::new(O::FormatNames, b'O', "Format", Value),
    Spec::new(O::Partition, b'p', "partition", Value),
    Spec::new(O::Responding, b'r', "responding", Nothing),
    Spec::new(O::Reasons, b'R', "list-reasons", Nothing),
    Spec::new(O::Summary, b's', "summarize", Nothing),
    Spec::new(O::Sort, b'S', "sort", Value),
    Spec::new(O::States, b't', "states", Value),
    Spec::new(O::Reservations, b'T', "reservation", Nothing),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::long(O::Help, "help", Nothing),
    Spec::long(O::Hide, "hide", Nothing),
    Spec::long(O::HelpLetters, "helpformat", Nothing),
    Spec::long(O::HelpNames, "helpFormat", Nothing),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::long(O::Yaml, "yaml", Maybe),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    all: bool,
    dead: bool,
    responding: bool,
    exact: bool,
    no_header: bool,
    iterate: Option<u64>,
    json: bool,
    long: bool,
    clusters: Option<Vec<String>>,
    nodes: Option<Vec<String>>,
    node_mode: bool,
    format: Option<String>,
    names: Option<String>,
    partitions: Option<Vec<String>>,
    reasons: bool,
    reservations: bool,
    summary: bool,
    sort: Option<String>,
    states: Option<Vec<String>>,
    /// How often `-v` was given.
    verbose: u32,
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(show(call, &asked)),
        Err(status) => status,
    }
}

fn read(call: &Call) -> Result<Asked, u8> {
    let set = |name: &str| env::var(name).ok();
    let mut asked = Asked {
        all: set("SINFO_ALL").is_some(),
        format: set("SINFO_FORMAT"),
        names: set("SINFO_FORMAT2"),
        partitions: set("SINFO_PARTITION").map(|text| list(&text)),
        sort: set("SINFO_SORT"),
        clusters: set("SLURM_CLUSTERS").map(|text| clusters::names(&text)),
        ..Asked::default()
    };
    let conflict = |all: &str, partition: &str| {
        let both =
            format!("Conflicting options, {all} and {partition}, specified. Please choose one or the other.");
        say::error(&call.program, both);
        Err(1)
    };
    if asked.all && asked.partitions.is_some() {
        return conflict("SINFO_ALL", "SINFO_PARTITION");
    }
    let words = call.split(OPTIONS)?;
    let given = |id: O| words.options.iter().any(|given| given.id == id);
    if given(O::All) && given(O::Partition) {
        return conflict("-a", "-p");
    }
    if given(O::All) {
        asked.partitions = None;
    }
    for given in &words.options {
        let text = given.text();
        match given.id {
            O::All => asked.all = true,
            O::Clusters => asked.clusters = Some(clusters::names(&text)),
            O::Dead => asked.dead = true,
            O::Exact => asked.exact = true,
            O::Future | O::Ignored | O::NoConvert => {}
            O::Format => (asked.format, asked.names) = (Some(text), None),
            O::FormatNames => (asked.format, asked.names) = (None, Some(text)),
            O::Help => return said(HELP),
            O::HelpLetters => return said(&table::help_letters(LETTERS, &FIELDS)),
            O::HelpNames => return said(&table::help_names(NAMES, &FIELDS)),
            O::Usage => return said(USAGE),
            O::Hide => asked.all = false,
            O::Iterate => match text.parse::<u64>() {
                Ok(seconds) if seconds > 0 => asked.iterate = Some(seconds),
                _ => {
                    say::error(&call.program, format!("Error: invalid entry for --iterate={text}"));
                    return Err(1);
                }
            },
            O::Json => asked.json = true,
            O::Long => asked.long = true,
            O::NoHeader => asked.no_header = true,
            O::NodeMode => asked.node_mode = true,
            O::Nodes => match hostlist::expand(&text) {
                Ok(names) => asked.nodes = Some(names),
                Err(_) => {
                    say::error(&call.program, format!("'{text}' invalid entry for --nodes"));
                    return Err(1);
                }
            },
            O::Partition => (asked.partitions, asked.all) = (Some(list(&text)), true),
            O::Reasons => asked.reasons = true,
            O::Reservations => asked.reservations = true,
            O::Responding => asked.responding = true,
            O::Sort => asked.sort = Some(text),
            O::States => asked.states = states(call, &text)?,
            O::Summary => asked.summary = true,
            O::Verbose => asked.verbose += 1,
            O::Version => return said(&(super::version() + "\n")),
            O::Yaml => {
                say::error(&call.program, "--yaml is not supported by sluice yet");
                return Err(1);
            }
        }
    }
    Ok(asked)
}

/// A word of `-t`, with what it matches.
type StateWord = (&'static str, fn(&Node) -> bool);

/// What `-t` is said to take, in Slurm's order. Those that are not in [`STATES`] no node here is ever in.
const KNOWN_STATES: &str = "unknown,down,idle,allocated,mixed,future,drain,drained,draining,no_respond,reserved,planned,\
blocked,cloud,completing,powering_down,powered_down,power_down,powering_up,power_up,inval,fail,maint,reboot,reboot^,external,\
dynamic_future,dynamic_norm";

/// Words of `-t`.
const STATES: [StateWord; 31] = [
    ("alloc", |n| n.state == "ALLOCATED" && !n.drain),
    ("allocated", |n| n.state == "ALLOCATED" && !n.drain),
    ("comp", |n| n.completing),
    ("completing", |n| n.completing),
    ("down", |n| n.state == "DOWN"),
    ("drain", |n| n.drain),
    ("drained", node::is_drained),
    ("drng", |n| n.drain && node::is_in_use(n)),
    ("draining", |n| n.drain && node::is_in_use(n)),
    ("fail", |n| n.fail),
    ("failing", |n| n.fail && node::is_in_use(n)),
    ("futr", |n| n.state == "FUTURE"),
    ("future", |n| n.state == "FUTURE"),
    ("idle", |n| n.state == "IDLE" && !n.drain && !n.completing),
    ("inval", |n| n.invalid),
    ("maint", |n| n.maintenance),
    ("mix", |n| n.state == "MIXED" && !n.drain),
    ("mixed", |n| n.state == "MIXED" && !n.drain),
    ("no_respond", |n| n.not_responding),
    ("not_responding", |n| n.not_responding),
    ("npc", |_| false),
    ("perfctrs", |_| false),
    ("planned", |n| n.planned),
    ("power_down", |n| n.power_down),
    ("powered_down", |n| n.power_down),
    ("power_up", |_| false),
    ("powering_down", |_| false),
    ("reboot", |_| false),
    ("reserved", |n| n.reserved),
    ("resv", |n| n.reserved),
    ("unk", |n| n.state == "UNKNOWN"),
];

fn states(call: &Call, text: &str) -> Result<Option<Vec<String>>, u8> {
    let mut known = Vec::new();
    for word in text.split([',', '&']).filter(|word| !word.is_empty()) {
        let lower = word.trim_start_matches('~').to_ascii_lowercase();
        if lower == "all" {
            return Ok(None);
        }
        if !STATES.iter().any(|(name, _)| *name == lower)
            && !KNOWN_STATES.split(',').any(|known| known == lower)
        {
            say::error(&call.program, format!("Bad state string: \"{word}\""));
            say::error(&call.program, format!("valid states: {KNOWN_STATES}"));
            return Err(1);
        }
    }
    known.extend(list(&text.to_ascii_lowercase()));
    Ok(Some(known))
}

async fn show(call: &Call, asked: &Asked) -> u8 {
    let cluster = match clusters::check_query(call, asked.clusters.as_deref()) {
        Ok(cluster) => cluster,
        Err(status) => return status,
    };
    iterate(asked.iterate, async || {
        if (asked.iterate.is_some() || asked.long && !asked.no_header) && asked.verbose == 0 {
            say::out(local::ctime(local::now_ms()) + "\n");
        }
        if let Some(cluster) = cluster.as_ref().filter(|_| !asked.no_header) {
            say::out(format!("CLUSTER: {cluster}\n"));
        }
        let shown = show_once(call, asked).await;
        if let Err(error) = &shown {
            say::err(format!("slurm_load_partitions: {}", say::reason(error)));
            say::explain(&call.program, error);
        }
        shown.is_ok()
    })
    .await
}

/// The table of `-T`. Source: golden `sinfo/reservation-list`.
fn reservations(rows: &[proto::v1::Reservation], no_header: bool) -> String {
    if rows.is_empty() {
        return "No reservations in the system\n".to_owned();
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(9);
    let line = |name: &str, state: &str, start: &str, end: &str, duration: &str, nodes: &str| {
        format!("{name:<width$}  {state:>8}  {start:>19}  {end:>19}  {duration:>11}  {nodes}\n")
    };
    let mut out = String::new();
    if !no_header {
        out += &line("RESV_NAME", "STATE", "START_TIME", "END_TIME", "DURATION", "NODELIST");
    }
    for row in rows {
        let (start, end) = (local::date(row.start_ms), local::date(row.end_ms));
        let state = scontrol::reservation_state(row);
        out += &line(&row.name, state, &start, &end, &scontrol::reservation_duration(row), &row.nodes);
    }
    out
}

async fn show_once(call: &Call, asked: &Asked) -> Result<(), Error> {
    let client = super::connect_to_ask().await?;
    let partitions = client.list_partitions().await?;
    if asked.reservations {
        say::out(reservations(&client.list_reservations().await?, asked.no_header));
        return Ok(());
    }
    let nodes = client.list_nodes(Vec::new()).await?;
    let longest = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0).max(9);
    let node_width = longest(&mut nodes.iter().map(|node| node.name.len()));
    let partition_width =
        longest(&mut partitions.iter().map(|one| one.name.len() + usize::from(one.is_default)));
    let partitions = partitions.into_iter().filter(|one| match &asked.partitions {
        Some(names) => names.contains(&one.name),
        None => asked.all || !one.hidden,
    });
    let partitions: Vec<Partition> = partitions.collect();
    if asked.json {
        say::out(super::json::sinfo(&partitions, &nodes));
        return Ok(());
    }
    let format = match (&asked.format, &asked.names) {
        (None, Some(names)) => table::parse_names(names, &FIELDS),
        (Some(format), _) => table::parse_letters(format, &FIELDS),
        (None, None) => table::parse_letters(&default_format(asked, node_width, partition_width), &FIELDS),
    };
    if asked.verbose > 0 {
        say::out(verbose::text(asked, &format, &default_format(asked, node_width, partition_width)));
        say::out(local::ctime(local::now_ms()) + "\n");
    }
    for what in &format.invalid {
        match asked.names {
            Some(_) => say::error(&call.program, format!("Invalid job format specification: {what}")),
            None => say::err(format!("Invalid node format specification: {what}")),
        }
    }
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| is_wanted(asked, node)).collect();
    let mut rows = group(asked, &partitions, &nodes, &format);
    sort(&mut rows, asked.sort.as_deref().unwrap_or(if asked.node_mode { "N,#P" } else { "#P,-t" }));
    let mut out = String::new();
    if !asked.no_header {
        out.push_str(&(table::header(&format.columns) + "\n"));
    }
    rows.iter().for_each(|row| out.push_str(&(table::line(&format.columns, row) + "\n")));
    say::out(out);
    Ok(())
}

fn default_format(asked: &Asked, node_width: usize, partition_width: usize) -> String {
    let (n, p) = (node_width, partition_width);
    match asked {
        Asked { summary: true, .. } => format!("%{p}P %.5a %.10l %.16F %N"),
        Asked { node_mode: true, long: true, .. } => {
            format!("%{n}N %.6D %.{p}P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E")
        }
        Asked { node_mode: true, .. } => format!("%{n}N %.6D %.{p}P %6t"),
        Asked { reasons: true, long: true, .. } => "%20E %12U %19H %6t %N".to_owned(),
        Asked { reasons: true, .. } => "%20E %9u %19H %N".to_owned(),
        Asked { long: true, .. } => format!("%{p}P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %.11i %N"),
        _ => format!("%{p}P %.5a %.10l %.6D %.6t %N"),
    }
}

fn is_wanted(asked: &Asked, node: &Node) -> bool {
    // "drain&idle" is both, "~drain" is not.
    let holds = |word: &str| {
        let bare = word.trim_start_matches('~');
        let bare = if bare == "unknown" { "unk" } else { bare };
        STATES.iter().any(|(name, holds)| *name == bare && holds(node)) != word.starts_with('~')
    };
    let in_state = |wanted: &String| wanted.split('&').all(holds);
    asked.nodes.as_ref().is_none_or(|names| names.contains(&node.name))
        && (!asked.dead || node.not_responding)
        && (!asked.responding || !node.not_responding)
        && (!asked.reasons || !node.reason.is_empty())
        && asked.states.as_ref().is_none_or(|states| states.iter().any(in_state))
}

/// Puts nodes together that no splitting column tells apart, partition by partition.
fn group(asked: &Asked, partitions: &[Partition], nodes: &[Node], format: &Format<Row>) -> Vec<Row> {
    let columns: Vec<_> = format.columns.iter().filter_map(|column| column.field()).collect();
    let with_partition = columns.iter().any(|field| names_partition(field.letter));
    let splitting: Vec<_> = columns
        .into_iter()
        .filter(|field| match grouping(field.letter) {
            Grouping::Sums => false,
            Grouping::Splits => true,
            Grouping::SplitsExact => asked.exact || asked.node_mode,
        })
        .collect();
    let key = |row: &Row| splitting.iter().map(|field| (field.value)(row, 0)).collect::<Vec<_>>();
    let mut rows: Vec<(Vec<String>, Row)> = Vec::new();
    for (partition_at, partition) in partitions.iter().enumerate() {
        let mut found = false;
        for node in nodes.iter().filter(|node| partition.node_names.contains(&node.name)) {
            found = true;
            let row = Row { partition: partition.clone(), partition_at, nodes: vec![node.clone()] };
            let mut key = key(&row);
            if asked.node_mode {
                key.push(node.name.clone());
            }
            match rows.iter_mut().find(|(other, _)| *other == key) {
                Some((_, other)) if other.nodes.iter().any(|one| one.name == node.name) => {}
                Some((_, other)) => other.nodes.push(node.clone()),
                None => rows.push((key, row)),
            }
        }
        if !found && with_partition && !asked.node_mode && !asked.reasons {
            let row = Row { partition: partition.clone(), partition_at, nodes: Vec::new() };
            rows.push((key(&row), row));
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

fn sort(rows: &mut [Row], keys: &str) {
    let (mut parsed, mut reverse, mut by_place) = (Vec::new(), false, false);
    for c in keys.chars() {
        match c {
            ',' | '+' => (reverse, by_place) = (false, false),
            '-' => reverse = true,
            '#' => by_place = true,
            _ => parsed.push((c, std::mem::take(&mut reverse), std::mem::take(&mut by_place))),
        }
    }
    for (letter, reverse, by_place) in parsed.into_iter().rev() {
        let name = |row: &Row| row.nodes.first().map(|node| node.name.clone()).unwrap_or_default();
        rows.sort_by(|a, b| {
            let order = match letter {
                'P' | 'R' if by_place => a.partition_at.cmp(&b.partition_at),
                'P' | 'R' => a.partition.name.cmp(&b.partition.name),
                't' | 'T' => a.nodes.first().map(node::order).cmp(&b.nodes.first().map(node::order)),
                'N' | 'n' => node::compare_names(&name(a), &name(b)),
                'D' => a.nodes.len().cmp(&b.nodes.len()),
                _ => match FIELDS.iter().find(|field| field.letter == letter) {
                    Some(field) => (field.value)(a, 0).cmp(&(field.value)(b, 0)),
                    None => std::cmp::Ordering::Equal,
                },
            };
            if reverse { order.reverse() } else { order }
        });
    }
}

/// The columns by letter, in the order of `--helpformat`.
const LETTERS: &str = "SaVYcOCLdfbeGGgBmoAFnNDhPRMIpEirsXztTZlHuUvw";

/// The columns by name, in the order of `--helpFormat`.
const NAMES: &str = "\
AllocMem AllocNodes Available Cluster Comment Cores CPUs CPUsLoad CPUsState DefaultTime Disk Extra \
Features features_act FreeMem Gres GresUsed Groups MaxCPUsPerNode Memory NodeAddr NodeAI NodeAIOT \
NodeHost NodeList Nodes OverSubscribe Partition PartitionName Port PreemptMode PriorityJobFactor \
PriorityTier Reason Reservation Root Size Sockets SocketCoreThread StateCompact StateComplete \
StateLong Threads Time TimeStamp User UserLong Version Weight";

const USAGE: &str = "\
Usage: sinfo [-adehlNrRsTvV] [-i seconds] [-M clusters] [-n nodes] [-o format | -O names]
             [-p partitions] [-S keys] [-t states] [--hide] [--json] [--help]
";

const HELP: &str = "\
Usage: sinfo [OPTIONS]
  -a, --all                  also show hidden partitions
  -d, --dead                 only nodes that do not answer
  -e, --exact                do not put nodes of different sizes together
  -h, --noheader             no header line
  -i, --iterate=seconds      show again after so many seconds
  -l, --long                 long report
  -M, --clusters=names       cluster to ask
  -n, --nodes=NODES          only these nodes
  -N, --Node                 one line for each node
  -o, --format=format        columns by letter
  -O, --Format=format        columns by name
  -p, --partition=PARTITION  only these partitions
  -r, --responding           only nodes that answer
  -R, --list-reasons         why nodes are down or drained
  -s, --summarize            state summary only
  -S, --sort=fields          order, by letters of --format
  -t, --states=node_state    only nodes in these states
  -T, --reservation          reservations
      --json                 as JSON
  -V, --version              version
";

#[cfg(test)]
mod tests;
