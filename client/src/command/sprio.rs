//! `sprio`: what the priorities of waiting jobs are made of.
//!
//! Owns its options, columns and order; the factors and their weights come from the scheduler. Factors whose
//! weight is zero are left out unless `-l` asks for all.

use std::cmp::Ordering;
use std::env;

use proto::v1::{JobFilter, ListPrioritiesReply, ListPrioritiesRequest, PriorityFactors, PriorityRow};

use super::job::list;
use super::{Call, block_on, clusters, said};
use crate::api::Error;
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::table::{self, Field};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Clusters,
    Federation,
    Format,
    Help,
    HelpFormat,
    Jobs,
    Long,
    NoHeader,
    Norm,
    Partition,
    Sort,
    Usage,
    User,
    Verbose,
    Version,
    Weights,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::NoHeader, b'h', "noheader", Nothing),
    Spec::new(O::Jobs, b'j', "jobs", Value),
    Spec::new(O::Long, b'l', "long", Nothing),
    Spec::new(O::Clusters, b'M', "cluster", Value),
    Spec::long(O::Clusters, "clusters", Value),
    Spec::new(O::Norm, b'n', "norm", Nothing),
    Spec::new(O::Format, b'o', "format", Value),
    Spec::new(O::Partition, b'p', "partition", Value),
    Spec::new(O::Sort, b'S', "sort", Value),
    Spec::new(O::User, b'u', "user", Value),
    Spec::long(O::User, "users", Value),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::new(O::Weights, b'w', "weights", Nothing),
    // One cluster is served: its jobs are the federation's, the local and the sibling ones.
    Spec::long(O::Federation, "federation", Nothing),
    Spec::long(O::Federation, "local", Nothing),
    Spec::long(O::Federation, "sibling", Nothing),
    Spec::long(O::Help, "help", Nothing),
    Spec::long(O::HelpFormat, "helpformat", Nothing),
    Spec::long(O::Usage, "usage", Nothing),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    header: bool,
    jobs: Option<Vec<u32>>,
    long: bool,
    clusters: Option<Vec<String>>,
    normalized: bool,
    format: Option<String>,
    partitions: Vec<String>,
    sort: Option<String>,
    users: Option<Vec<u32>>,
    weights: bool,
}

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(show(call, &asked)),
        Err(status) => status,
    }
}

fn read(call: &Call) -> Result<Asked, u8> {
    let words = call.split(OPTIONS)?;
    let mut asked = Asked {
        header: true,
        format: env::var("SPRIO_FORMAT").ok(),
        clusters: env::var("SLURM_CLUSTERS").ok().map(|text| clusters::names(&text)),
        ..Asked::default()
    };
    for given in &words.options {
        let text = given.text();
        match given.id {
            O::Clusters => asked.clusters = Some(clusters::names(&text)),
            O::Federation | O::Verbose => {}
            O::Format => asked.format = Some(text),
            O::Help => return said(HELP),
            O::HelpFormat => return said(&table::help_letters(LETTERS, FIELDS)),
            O::Usage => return said(USAGE),
            O::Jobs => asked.jobs = Some(jobs(call, &text)?),
            O::Long => asked.long = true,
            O::NoHeader => asked.header = false,
            O::Norm => asked.normalized = true,
            O::Partition => asked.partitions = list(&text),
            O::Sort => asked.sort = Some(text),
            O::User => asked.users = Some(users(call, &text)),
            O::Version => return said(&(super::version() + "\n")),
            O::Weights => asked.weights = true,
        }
    }
    if let Some(stray) = words.operands.first() {
        say::error(&call.program, format!("Unrecognized option: {}", stray.to_string_lossy()));
        say::err(USAGE.trim_end());
        return Err(1);
    }
    Ok(asked)
}

fn jobs(call: &Call, text: &str) -> Result<Vec<u32>, u8> {
    list(text)
        .iter()
        .map(|word| match word.parse() {
            Ok(id) if id > 0 => Ok(id),
            _ => {
                say::error(&call.program, format!("Invalid job id: {word}"));
                Err(1)
            }
        })
        .collect()
}

fn users(call: &Call, text: &str) -> Vec<u32> {
    let read = |name: &String| {
        let id = local::user_id(name);
        if id.is_none() {
            say::error(&call.program, format!("Invalid user: {name}\n"));
        }
        id
    };
    list(text).iter().filter_map(read).collect()
}

async fn show(call: &Call, asked: &Asked) -> u8 {
    let cluster = match clusters::check_query(call, asked.clusters.as_deref()) {
        Ok(cluster) => cluster,
        Err(status) => return status,
    };
    let reply = match ask(asked).await {
        Ok(reply) => reply,
        Err(error) => {
            say::err(format!("Couldn't get priority factors from controller: {}", say::reason(&error)));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    if let Some(cluster) = cluster {
        say::out(format!("CLUSTER: {cluster}\n"));
    }
    print(asked, reply)
}

async fn ask(asked: &Asked) -> Result<ListPrioritiesReply, Error> {
    let filter = JobFilter {
        job_ids: asked.jobs.clone().unwrap_or_default(),
        uids: asked.users.clone().unwrap_or_default(),
        partitions: asked.partitions.clone(),
        ..JobFilter::default()
    };
    let request = ListPrioritiesRequest { filter: Some(filter) };
    let reply = super::connect().await?.raw().list_priorities(request).await.map_err(Error::Failed)?;
    Ok(reply.into_inner())
}

fn print(asked: &Asked, reply: ListPrioritiesReply) -> u8 {
    if !reply.multifactor {
        say::err("You are not running a supported priority plugin\n(priority/basic).");
        say::err("Only 'priority/multifactor' is supported.");
        return 1;
    }
    let format = asked.format.clone().unwrap_or_else(|| default_format(asked, &reply));
    let columns = table::parse_letters(&format, FIELDS);
    for letter in &columns.invalid {
        say::err(format!("Invalid job format specification: {letter}"));
    }
    let ListPrioritiesReply { rows, weights, tres_weights, cluster, .. } = reply;
    let weights = weights.unwrap_or_default();
    let wanted = |row: &PriorityRow| asked.partitions.is_empty() || asked.partitions.contains(&row.partition);
    let rows = rows.into_iter().filter(wanted);
    let tres: Vec<f64> = tres_weights.iter().map(|one| one.value).collect();
    let mut lines: Vec<Line> = rows
        .map(|row| Line { row, weights, tres: tres.clone(), cluster: cluster.clone(), of_weights: false })
        .collect();
    if asked.weights {
        let row = PriorityRow { tres: tres_weights, ..PriorityRow::default() };
        lines = vec![Line { row, weights, tres, cluster, of_weights: true }];
    } else if asked.jobs.is_some() && lines.is_empty() {
        say::out("Unable to find jobs matching user/id(s) specified\n");
        return 0;
    }
    sort(&mut lines, asked.sort.as_deref().unwrap_or_default());
    if asked.header {
        say::out(table::header(&columns.columns) + "\n");
    }
    for line in &lines {
        say::out(table::line(&columns.columns, line) + "\n");
    }
    0
}

/// The columns where none are asked for: those whose weight is not zero, or all.
fn default_format(asked: &Asked, reply: &ListPrioritiesReply) -> String {
    let weights = reply.weights.unwrap_or_default();
    let tres = !reply.tres_weights.is_empty();
    let user = if asked.users.is_some() { " %.8u" } else { "" };
    if asked.long {
        let all = if asked.normalized {
            "%.15i %9r %.8u %.10o %10y %10a %10b %10f %10j %10p %10n %10q %20t"
        } else {
            "%.15i %9r %.8u %.10o %.10Y %.10S %.10A %.10B %.10F %.10J %.10P %.10n %.10Q %.11N %.20T"
        };
        return all.to_owned();
    }
    let (first, letters): (&str, [(f64, &str); 6]) = if asked.normalized {
        (
            " %10y",
            [
                (weights.age, " %10a"),
                (weights.assoc, " %10b"),
                (weights.fairshare, " %10f"),
                (weights.job_size, " %10j"),
                (weights.partition, " %10p"),
                (weights.qos, " %10q"),
            ],
        )
    } else {
        (
            " %.10Y %.10S",
            [
                (weights.age, " %.10A"),
                (weights.assoc, " %.10B"),
                (weights.fairshare, " %.10F"),
                (weights.job_size, " %.10J"),
                (weights.partition, " %.10P"),
                (weights.qos, " %.10Q"),
            ],
        )
    };
    let used: String = letters.iter().filter(|(weight, _)| *weight > 0.0).map(|(_, text)| *text).collect();
    let tres = match (tres, asked.normalized) {
        (false, _) => "",
        (true, true) => " %20t",
        (true, false) => " %.20T",
    };
    format!("%.15i %9r{user}{first}{used}{tres}")
}

/// A line: a job in a partition, or the weights.
struct Line {
    row: PriorityRow,
    weights: PriorityFactors,
    tres: Vec<f64>,
    cluster: String,
    of_weights: bool,
}

impl Line {
    fn factors(&self) -> PriorityFactors {
        self.row.factors.unwrap_or_default()
    }

    fn weighted(&self, factor: fn(&PriorityFactors) -> f64) -> f64 {
        let weight = factor(&self.weights);
        if self.of_weights { weight } else { factor(&self.factors()) * weight }
    }

    fn points(&self, factor: fn(&PriorityFactors) -> f64) -> String {
        format!("{:.0}", self.weighted(factor))
    }

    /// A factor as it is; for the weights, the weight.
    fn plain(&self, factor: fn(&PriorityFactors) -> f64) -> String {
        if self.of_weights { self.points(factor) } else { format!("{:.7}", factor(&self.factors())) }
    }

    fn text(&self, text: &str) -> String {
        if self.of_weights { String::new() } else { text.to_owned() }
    }

    /// `cpu=0.5,mem=0.1`, or in points.
    fn tres(&self, points: bool) -> String {
        let one = |(at, tres): (usize, &proto::v1::PriorityTres)| {
            let weight = self.tres.get(at).copied().unwrap_or(0.0);
            let value = match (self.of_weights, points) {
                (true, _) => format!("{weight:.0}"),
                (false, true) => format!("{:.0}", tres.value * weight),
                (false, false) => format!("{:.2}", tres.value),
            };
            format!("{}={value}", tres.name)
        };
        self.row.tres.iter().enumerate().map(one).collect::<Vec<_>>().join(",")
    }
}

macro_rules! field {
    ($letter:literal, $header:literal, $value:expr) => {
        Field { letter: $letter, name: "", header: $header, value: $value }
    };
}

#[rustfmt::skip]
static FIELDS: &[Field<Line>] = &[
    field!('a', "AGE", |line, _| line.plain(|of| of.age)),
    field!('A', "AGE", |line, _| line.points(|of| of.age)),
    field!('b', "ASSOC", |line, _| line.plain(|of| of.assoc)),
    field!('B', "ASSOC", |line, _| line.points(|of| of.assoc)),
    field!('c', "CLUSTER", |line, _| line.text(&line.cluster)),
    field!('f', "FAIRSHARE", |line, _| line.plain(|of| of.fairshare)),
    field!('F', "FAIRSHARE", |line, _| line.points(|of| of.fairshare)),
    field!('i', "JOBID", |line, _| if line.of_weights { "Weights".to_owned() } else { line.row.job_id.to_string() }),
    field!('j', "JOBSIZE", |line, _| line.plain(|of| of.job_size)),
    field!('J', "JOBSIZE", |line, _| line.points(|of| of.job_size)),
    field!('n', "QOSNAME", |line, _| line.text(&line.row.qos)),
    field!('N', "NICE", |line, _| if line.of_weights { String::new() } else { line.row.nice.to_string() }),
    field!('o', "ACCOUNT", |line, _| line.text(&line.row.account)),
    field!('p', "PARTITION", |line, _| line.plain(|of| of.partition)),
    field!('P', "PARTITION", |line, _| line.points(|of| of.partition)),
    field!('q', "QOS", |line, _| line.plain(|of| of.qos)),
    field!('Q', "QOS", |line, _| line.points(|of| of.qos)),
    field!('r', "PARTITION", |line, _| line.text(&line.row.partition)),
    field!('S', "SITE", |line, _| if line.of_weights { "1".to_owned() } else { line.row.site.to_string() }),
    field!('t', "TRES", |line, _| line.tres(false)),
    field!('T', "TRES", |line, _| line.tres(true)),
    field!('u', "USER", |line, _| line.text(&line.row.user)),
    field!('y', "PRIORITY", |line, _| {
        if line.of_weights { String::new() } else { format!("{:16.14}", f64::from(line.row.priority) / f64::from(u32::MAX)) }
    }),
    field!('Y', "PRIORITY", |line, _| if line.of_weights { String::new() } else { line.row.priority.to_string() }),
];

/// Sorts by the keys of `-S`; the letter is that of `-o`, `-` before it turns it round.
fn sort(lines: &mut [Line], keys: &str) {
    let (mut parsed, mut reverse) = (Vec::new(), false);
    for key in keys.chars() {
        match key {
            ',' | '+' => reverse = false,
            '-' => reverse = true,
            letter => parsed.push((std::mem::take(&mut reverse), letter)),
        }
    }
    for &(reverse, letter) in parsed.iter().rev() {
        lines.sort_by(|a, b| {
            let order = compare(letter, a, b);
            if reverse { order.reverse() } else { order }
        });
    }
}

fn compare(letter: char, a: &Line, b: &Line) -> Ordering {
    let by = |factor: fn(&PriorityFactors) -> f64| a.weighted(factor).total_cmp(&b.weighted(factor));
    match letter.to_ascii_lowercase() {
        'a' => by(|of| of.age),
        'b' => by(|of| of.assoc),
        'f' => by(|of| of.fairshare),
        'i' => a.row.job_id.cmp(&b.row.job_id),
        'j' => by(|of| of.job_size),
        'p' => by(|of| of.partition),
        'q' => by(|of| of.qos),
        's' => a.row.site.cmp(&b.row.site),
        'y' => a.row.priority.cmp(&b.row.priority),
        _ if letter == 'N' => a.row.nice.cmp(&b.row.nice),
        _ => match FIELDS.iter().find(|field| field.letter == letter) {
            Some(field) => (field.value)(a, 0).cmp(&(field.value)(b, 0)),
            None => Ordering::Equal,
        },
    }
}

/// The columns by letter, in the order of `--helpformat`.
const LETTERS: &str = "aAbBcfFijJnNopPrSqQsuyYtT";

const USAGE: &str = "\
Usage: sprio [-hlnvVw] [-j jobs] [-M cluster] [-o format] [-p partitions] [-S keys] [-u users]
";

const HELP: &str = "\
Usage: sprio [OPTIONS]
  -h, --noheader          no header line
  -j, --jobs=ID,…         these jobs
  -l, --long              all factors
  -M, --cluster=NAME      this cluster
  -n, --norm              factors between 0 and 1 instead of points
  -o, --format=FORMAT     these columns: % [.][width] and a letter
  -p, --partition=NAME,…  jobs of these partitions
  -S, --sort=KEYS         in this order: letters of the columns, - before one turns it round
  -u, --user=NAME,…       jobs of these users
  -w, --weights           the weights of the factors
  -v, --verbose           accepted
  -V, --version           version
      --help              this text
";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(job_id: u32, partition: f64, nice: i32) -> Line {
        let factors = PriorityFactors { partition, qos: 1.0, ..PriorityFactors::default() };
        let weights = PriorityFactors { partition: 1000.0, qos: 10_000.0, ..PriorityFactors::default() };
        let row = PriorityRow {
            job_id,
            partition: "debug".into(),
            priority: 10_500,
            factors: Some(factors),
            nice,
            ..PriorityRow::default()
        };
        Line { row, weights, tres: Vec::new(), cluster: "c".into(), of_weights: false }
    }

    fn check(format: &str, line: &Line, header: &str, expected: &str) {
        let read = table::parse_letters(format, FIELDS);
        assert_eq!(table::header(&read.columns), header);
        assert_eq!(table::line(&read.columns, line), expected);
    }

    #[test]
    fn columns_hold_points_or_factors() {
        let one = line(7, 0.5, 0);
        check(
            "%.5i %9r %.8Y %.6P %.6Q",
            &one,
            "JOBID PARTITION PRIORITY PARTIT    QOS",
            "    7 debug        10500    500  10000",
        );
        check("%10y %10p", &one, "PRIORITY   PARTITION ", "0.00000244 0.5000000 ");
        let weights = Line { of_weights: true, ..line(0, 0.0, 0) };
        check("%.8i %5r %.4S %.6P", &weights, "   JOBID PARTI SITE PARTIT", " Weights          1   1000");
    }

    #[test]
    fn the_format_follows_the_weights() {
        let weights = PriorityFactors { age: 1.0, qos: 2.0, ..PriorityFactors::default() };
        let reply = ListPrioritiesReply { weights: Some(weights), ..ListPrioritiesReply::default() };
        let mut asked = Asked::default();
        assert_eq!(default_format(&asked, &reply), "%.15i %9r %.10Y %.10S %.10A %.10Q");
        asked.users = Some(vec![1]);
        asked.normalized = true;
        assert_eq!(default_format(&asked, &reply), "%.15i %9r %.8u %10y %10a %10q");
    }

    #[test]
    fn keys_sort_in_turn() {
        let mut lines = vec![line(3, 0.5, 1), line(1, 1.0, 1), line(2, 0.5, 0)];
        sort(&mut lines, "-P,i");
        let ids: Vec<u32> = lines.iter().map(|line| line.row.job_id).collect();
        assert_eq!(ids, [1, 2, 3]);
        sort(&mut lines, "N");
        assert_eq!(lines[0].row.job_id, 2);
    }
}
