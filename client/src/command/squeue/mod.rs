//! `squeue`: the jobs that wait and run.
//!
//! Owns which jobs are shown, and in what order; options and environment are in `asked`, what a column holds is in
//! `fields`. Splitting arrays (`-r`, `-j 7_3`) happens here, because the scheduler keeps one record for all.

mod asked;
mod fields;
mod sort;
mod steps;
mod verbose;

use model::hostlist;
use model::job::JobState;
use proto::v1::{Job, JobFilter, ListJobsRequest};

pub(super) use self::asked::shapes;
use self::asked::{Asked, States, read};
use self::fields::{FIELDS, Row};
use super::job::{self, list};
use super::{Call, block_on, clusters, iterate};
use crate::api::{Client, Error};
use crate::{local, say, table};

const DEFAULT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";
const ONLY_STATE: &str = "%.18i %.2t";
const START: &str = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R";

/// Runs the command; its exit status is 0 except for options that cannot be read and failed questions.
pub(crate) fn run(call: &Call) -> u8 {
    match read(call) {
        Ok(asked) => block_on(show(call, &asked)),
        Err(status) => status,
    }
}

async fn show(call: &Call, asked: &Asked) -> u8 {
    let cluster = match clusters::check_query(call, asked.clusters.as_deref()) {
        Ok(cluster) => cluster,
        Err(status) => return status,
    };
    if asked.told.verbose > 0 {
        say::out(verbose::text(asked));
    }
    iterate(asked.iterate, async || {
        if asked.iterate.is_some() || asked.long && asked.header || asked.told.verbose > 0 {
            say::out(local::ctime(local::now_ms()) + "\n");
        }
        if let Some(cluster) = cluster.as_ref().filter(|_| asked.header) {
            say::out(format!("CLUSTER: {cluster}\n"));
        }
        let shown = show_once(call, asked).await;
        if let Err(Failure::Question(error)) = &shown {
            say::err(format!("slurm_load_jobs error: {}", say::reason(error)));
            say::explain(&call.program, error);
        }
        shown.is_ok()
    })
    .await
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

#[cfg(test)]
mod tests;
