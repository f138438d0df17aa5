//! `scancel`: ending jobs and sending signals.
//!
//! Jobs that are named are sent as named. Jobs that are chosen by filters are looked up first, as Slurm does,
//! so that what is cancelled is what the user could see. A job that is not there any more is no failure.

use std::env;
use std::io::BufRead;

use model::hostlist;
use model::job::JobState;
use model::refusal::Refusal;
use model::signal;
use proto::v1::control_request::Act;
use proto::v1::{CancelJobs, Job, JobFilter, JobSelector};

use super::job::{self, Selector, list};
use super::{Call, block_on, clusters};
use crate::api::Error;
use crate::getopt::Takes::{Nothing, Value};
use crate::getopt::{self, Spec};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Account,
    AdminComment,
    Batch,
    Clusters,
    Ctld,
    Cron,
    Full,
    Help,
    Hurry,
    Interactive,
    Me,
    Name,
    NodeList,
    Partition,
    Qos,
    Quiet,
    Reservation,
    Sibling,
    Signal,
    State,
    Usage,
    User,
    Verbose,
    Version,
    WcKey,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Account, b'A', "account", Value),
    Spec::long(O::AdminComment, "admin-comment", Value),
    Spec::new(O::Batch, b'b', "batch", Nothing),
    Spec::new(O::Ctld, b'c', "ctld", Nothing),
    Spec::long(O::Cron, "cron", Nothing),
    Spec::new(O::Full, b'f', "full", Nothing),
    Spec::long(O::Help, "help", Nothing),
    Spec::new(O::Hurry, b'H', "hurry", Nothing),
    Spec::new(O::Interactive, b'i', "interactive", Nothing),
    Spec::long(O::Clusters, "cluster", Value),
    Spec::new(O::Clusters, b'M', "clusters", Value),
    Spec::long(O::Me, "me", Nothing),
    Spec::new(O::Name, b'n', "name", Value),
    Spec::long(O::Name, "jobname", Value),
    Spec::new(O::NodeList, b'w', "nodelist", Value),
    Spec::new(O::Partition, b'p', "partition", Value),
    Spec::new(O::Qos, b'q', "qos", Value),
    Spec::new(O::Quiet, b'Q', "quiet", Nothing),
    Spec::new(O::Reservation, b'R', "reservation", Value),
    Spec::long(O::Sibling, "sibling", Value),
    Spec::new(O::Signal, b's', "signal", Value),
    Spec::new(O::State, b't', "state", Value),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::new(O::User, b'u', "user", Value),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
    Spec::long(O::WcKey, "wckey", Value),
];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    jobs: Vec<(String, Selector)>,
    accounts: Vec<String>,
    names: Vec<String>,
    nodes: Vec<String>,
    partitions: Vec<String>,
    qos: Vec<String>,
    reservation: Option<String>,
    state: Option<JobState>,
    uid: Option<u32>,
    wckey: Option<String>,
    signal: u8,
    batch: bool,
    full: bool,
    hurry: bool,
    interactive: bool,
    quiet: bool,
    verbose: bool,
}

impl Asked {
    /// The filters, as Slurm names them when nothing matches.
    fn filters_text(&self) -> String {
        let state = self.state.map(|state| vec![state.to_string()]).unwrap_or_default();
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let user = self.uid.map(|uid| vec![uid.to_string()]).unwrap_or_default();
        let filters = [
            ("account", &self.accounts),
            ("job_name", &self.names),
            ("nodelist", &self.nodes),
            ("partition", &self.partitions),
            ("qos", &self.qos.iter().map(|name| name.to_lowercase()).collect()),
            ("reservation", &one(&self.reservation)),
            ("state", &state),
            ("user_id", &user),
            ("wckey", &one(&self.wckey)),
        ];
        let given = filters.into_iter().filter(|(_, values)| !values.is_empty());
        given.map(|(name, values)| format!("{name}={} ", values.join(","))).collect()
    }

    fn has_filter(&self) -> bool {
        let lists = [&self.accounts, &self.names, &self.nodes, &self.partitions, &self.qos];
        lists.iter().any(|list| !list.is_empty())
            || self.reservation.is_some()
            || self.state.is_some()
            || self.uid.is_some()
            || self.wckey.is_some()
    }
}

/// Runs the command. Its status is the number of the last refusal, mod 256.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(cancel(call, &asked)),
        Err(status) => status,
    }
}

fn read(call: &Call) -> Result<Asked, u8> {
    let words = call.split(OPTIONS)?;
    let mut asked = Asked::default();
    from_environment(call, &mut asked)?;
    for given in &words.options {
        let text = given.text();
        match given.id {
            O::Account => asked.accounts = filter(&text),
            O::Batch => asked.batch = true,
            O::Clusters => {
                clusters::check_query(call, Some(&clusters::names(&text)))?;
            }
            O::Ctld => {}
            O::Full => asked.full = true,
            O::Help => {
                say::out(HELP);
                return Err(0);
            }
            O::Usage => {
                say::out(USAGE);
                return Err(0);
            }
            O::Hurry => asked.hurry = true,
            O::Interactive => asked.interactive = true,
            O::Me => asked.uid = Some(nix::unistd::getuid().as_raw()),
            O::Name => asked.names = filter(&text),
            O::NodeList => {
                asked.nodes = hostlist::expand(&text)
                    .ok()
                    .filter(|names| !names.is_empty())
                    .unwrap_or_else(|| vec![text])
            }
            O::Partition => asked.partitions = filter(&text),
            O::Qos => asked.qos = filter(&text),
            O::Quiet => asked.quiet = true,
            O::Reservation => asked.reservation = Some(text),
            O::Signal => asked.signal = signal_of(&text)?,
            O::State => asked.state = Some(state_of(&text)?),
            O::User => asked.uid = Some(user_of(call, &text)?),
            O::Verbose => asked.verbose = true,
            O::Version => {
                say::out(super::version() + "\n");
                return Err(0);
            }
            O::WcKey => asked.wckey = Some(text),
            // Of a job's parts on other clusters: there is none here, and nothing is lost.
            O::Sibling => {}
            O::AdminComment | O::Cron => {
                let name = OPTIONS.iter().find(|spec| spec.id == given.id).map_or("", |spec| spec.long);
                say::error(&call.program, format!("--{name} is not supported by sluice yet"));
                return Err(1);
            }
        }
    }
    for word in &words.operands {
        let word = word.to_string_lossy();
        if word.is_empty() {
            say::error(&call.program, "Invalid job id ");
            return Err(1);
        }
        for item in job::split_ids(&word) {
            match Selector::parse(item) {
                Some(selector) if selector.step.as_deref().is_none_or(|step| step.parse::<u32>().is_ok()) => {
                    asked.jobs.push((item.to_owned(), selector));
                }
                _ => {
                    say::error(&call.program, format!("Invalid job id {item}"));
                    return Err(1);
                }
            }
        }
    }
    if asked.jobs.is_empty() && !asked.has_filter() {
        say::error(&call.program, "No job identification provided");
        return Err(1);
    }
    Ok(asked)
}

/// The names of a filter. An empty text is one empty name, which nothing has: it must not end everybody's jobs.
fn filter(text: &str) -> Vec<String> {
    match list(text) {
        names if names.is_empty() => vec![String::new()],
        names => names,
    }
}

fn from_environment(call: &Call, asked: &mut Asked) -> Result<(), u8> {
    let set = |name: &str| env::var(name).ok();
    let lists = |name: &str| set(name).map(|text| list(&text)).unwrap_or_default();
    asked.accounts = lists("SCANCEL_ACCOUNT");
    asked.names = lists("SCANCEL_NAME");
    asked.partitions = lists("SCANCEL_PARTITION");
    asked.qos = lists("SCANCEL_QOS");
    asked.wckey = set("SCANCEL_WCKEY");
    let yes =
        |name: &str| set(name).is_some_and(|value| !matches!(value.as_str(), "0" | "f" | "false" | "F"));
    asked.batch = yes("SCANCEL_BATCH");
    asked.full = yes("SCANCEL_FULL");
    asked.interactive = yes("SCANCEL_INTERACTIVE");
    asked.verbose = yes("SCANCEL_VERBOSE");
    if let Some(text) = set("SCANCEL_STATE") {
        asked.state = Some(state_of(&text)?);
    }
    if let Some(text) = set("SCANCEL_USER") {
        asked.uid = Some(user_of(call, &text)?);
    }
    Ok(())
}

fn signal_of(text: &str) -> Result<u8, u8> {
    signal::parse(text).ok_or_else(|| {
        say::err(format!("Unknown job signal: {text}"));
        1
    })
}

fn state_of(text: &str) -> Result<JobState, u8> {
    JobState::parse(text).ok_or_else(|| {
        say::err(format!("Invalid job state specified: {text}"));
        say::err("Valid job states are PENDING, RUNNING, and SUSPENDED");
        1
    })
}

fn user_of(call: &Call, text: &str) -> Result<u32, u8> {
    local::user_id(text).ok_or_else(|| {
        say::error(&call.program, format!("Invalid user name: {text}"));
        1
    })
}

async fn cancel(call: &Call, asked: &Asked) -> u8 {
    let client = match super::connect().await {
        Ok(client) => client,
        Err(error) => {
            say::error(&call.program, format!("slurm_kill_jobs: {}", say::reason(&error)));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    let mut status = 0;
    let targets = if asked.has_filter() || asked.interactive {
        match client.jobs(JobFilter::default(), false).await {
            Ok(jobs) => {
                if asked.interactive && tell_unknown(call, asked, &jobs) {
                    status = 1;
                }
                targets_by_filter(asked, &jobs)
            }
            Err(error) => {
                say::error(&call.program, format!("slurm_load_jobs error: {}", say::reason(&error)));
                return 1;
            }
        }
    } else {
        asked.jobs.iter().map(|(text, selector)| (text.clone(), super::scontrol::wire(selector))).collect()
    };
    if targets.is_empty() {
        if asked.verbose && asked.has_filter() {
            let filters = asked.filters_text();
            let line = format!("No active jobs match ALL job filters, including: {filters}");
            say::error(&call.program, line);
        }
        return status;
    }
    if asked.verbose {
        targets.iter().for_each(|(text, _)| say::err(verbose_line(call, asked, text)));
    }
    // Ending a job is what SIGKILL to the whole of it means.
    let ends = asked.signal == 9 && !asked.batch && !asked.full;
    let act = CancelJobs {
        jobs: targets.into_iter().map(|(_, selector)| selector).collect(),
        filter: None,
        signal: if ends { 0 } else { asked.signal.into() },
        batch_only: asked.batch,
        full: asked.full,
        hurry: asked.hurry,
    };
    // A signal that was perhaps delivered is not sent again; an end is.
    let outcomes = match ends {
        true => client.control_again(Act::Cancel(act)).await,
        false => client.control(Act::Cancel(act)).await,
    };
    match outcomes {
        Ok(outcomes) => {
            for outcome in outcomes {
                if let Some(refused) = outcome.refused {
                    let gone = outcome.object.contains('.') && is_gone(&client, &outcome.object).await;
                    let told = match gone {
                        true => Some(tell_gone(call, asked, &outcome.object)),
                        false => tell(call, asked, &outcome.object, refused.number),
                    };
                    status = told.unwrap_or(status);
                }
            }
            status
        }
        Err(error) => {
            say::error(&call.program, format!("slurm_kill_jobs: {}", say::reason(&error)));
            say::explain(&call.program, &error);
            1
        }
    }
}

fn verbose_line(call: &Call, asked: &Asked, text: &str) -> String {
    let kind = if text.contains('.') { "step" } else { "job" };
    match asked.signal {
        0 | 9 => format!("{}: Terminating {kind} {text}", call.program),
        number => format!("{}: Signal {number} to {kind} {text}", call.program),
    }
}

/// Whether the job of a step is over or never was.
async fn is_gone(client: &crate::api::Client, step: &str) -> bool {
    let Some(selector) = Selector::parse(step) else { return true };
    let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
    let jobs = client.jobs(filter, false).await.unwrap_or_default();
    !jobs.iter().any(|job| selector.select(job).is_some() && !job::state(job).is_terminal())
}

/// Tells that the job of a step is not there: with the step, where a step that a job does not have is told by its job.
fn tell_gone(call: &Call, asked: &Asked, step: &str) -> u8 {
    if !asked.quiet || asked.verbose {
        let why = Refusal::InvalidJobId.text();
        say::error(&call.program, format!("Kill job error on job step id {step}: {why}"));
    }
    1
}

/// Tells of a refusal; gives the exit status that it asks for, `None` where it is none.
fn tell(call: &Call, asked: &Asked, object: &str, number: u32) -> Option<u8> {
    let gone = [Refusal::InvalidJobId.number(), Refusal::AlreadyDone.number()].contains(&number);
    let (job_id, is_step) = match object.split_once('.') {
        Some((job_id, _)) => (job_id, true),
        None => (object, false),
    };
    if gone && !is_step && !asked.verbose {
        return None;
    }
    // An element that waited in its array leaves no record behind.
    let number = if gone && job_id.contains('_') { Refusal::InvalidJobId.number() } else { number };
    let text = Error::Refused { number, lines: Vec::new() }.to_string();
    if !asked.quiet || asked.verbose {
        let kind = if is_step { "job step id" } else { "job id" };
        say::error(&call.program, format!("Kill job error on {kind} {job_id}: {text}"));
    }
    (!gone || is_step).then_some((number % 256) as u8)
}

/// The jobs that match the filters and are not over, those of the named ones where some are named.
fn targets_by_filter(asked: &Asked, jobs: &[Job]) -> Vec<(String, JobSelector)> {
    let mut targets = Vec::new();
    for job in jobs.iter().filter(|job| matches(asked, job)) {
        let selected = if asked.jobs.is_empty() {
            let own = Selector { job_id: job.job_id, tasks: job::tasks(job), het_offset: None, step: None };
            vec![(job::id(job), own)]
        } else {
            let named = asked.jobs.iter().filter(|(_, selector)| selector.select(job).is_some());
            named.cloned().collect()
        };
        for (text, selector) in selected {
            if !asked.interactive || confirmed(&text, job) {
                targets.push((text, super::scontrol::wire(&selector)));
            }
        }
    }
    targets
}

/// Tells of the named jobs that nobody can be asked about, because they are over or never were; whether there are any.
fn tell_unknown(call: &Call, asked: &Asked, jobs: &[Job]) -> bool {
    let lives = |job: &&Job| !job::state(job).is_terminal() && job::state(job) != JobState::Completing;
    let unknown = |selector: &Selector| jobs.iter().filter(lives).all(|job| selector.select(job).is_none());
    let told = asked.jobs.iter().filter(|(_, selector)| unknown(selector));
    let lines =
        told.map(|(text, _)| format!("Kill job error on job id {text}: {}", Refusal::InvalidJobId.text()));
    lines.inspect(|line| say::error(&call.program, line)).count() > 0
}

fn matches(asked: &Asked, job: &Job) -> bool {
    let state = job::state(job);
    let (request, rare) = (job::request(job), job::rare(job));
    let any = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
    !state.is_terminal()
        && state != JobState::Completing
        && asked.state.is_none_or(|wanted| wanted == state)
        && asked.uid.is_none_or(|uid| uid == job.uid)
        && any(&asked.accounts, &job.account)
        && any(&asked.names, &request.name)
        && any(&asked.qos, &job.qos)
        && (asked.partitions.is_empty() || job.partition.split(',').any(|name| any(&asked.partitions, name)))
        && asked.reservation.as_ref().is_none_or(|name| rare.reservation.as_ref() == Some(name))
        && asked.wckey.as_ref().is_none_or(|key| rare.wckey.as_ref() == Some(key))
        && (asked.nodes.is_empty()
            || hostlist::expand(&job.node_list)
                .unwrap_or_default()
                .iter()
                .any(|node| asked.nodes.contains(node)))
}

fn confirmed(text: &str, job: &Job) -> bool {
    let (name, partition) = (&job::request(job).name, &job.partition);
    say::out(format!("Cancel job_id={text} name={name} partition={partition} [y/n]? "));
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) => line.starts_with(['y', 'Y']),
        Err(_) => false,
    }
}

const USAGE: &str = "\
Usage: scancel [-A account] [--batch] [--ctld] [--full] [--interactive] [-n job_name]
               [-p partition] [-q qos] [-Q] [-R reservation] [-s signal | integer]
               [-t PENDING | RUNNING | SUSPENDED] [-u user_name] [--usage] [-v]
               [-w hosts...] [--wckey=wckey] [job_id[_array_id][.step_id]]
";

const HELP: &str = "\
Usage: scancel [OPTIONS] [job_id[_array_id][.step_id]]
  -A, --account=account       only jobs of this account
  -b, --batch                 signal the batch shell alone
  -c, --ctld                  through the controller (always so here)
  -f, --full                  signal the batch shell and all steps
  -H, --hurry                 no epilog and no stage-out
  -i, --interactive           ask before each job
  -M, --clusters              cluster of the jobs
      --me                    only one's own jobs
  -n, --name=job_name         only jobs of this name
  -p, --partition=partition   only jobs of this partition
  -q, --qos=qos               only jobs of this QOS
  -Q, --quiet                 no word of failures
  -R, --reservation=name      only jobs of this reservation
  -s, --signal=name|integer   send this signal
  -t, --state=states          only jobs in this state: PENDING, RUNNING or SUSPENDED
  -u, --user=user             only jobs of this user
  -v, --verbose               say what is done
  -V, --version               version
  -w, --nodelist              only jobs that hold any of these nodes
      --wckey=wckey           only jobs of this workload key
";
