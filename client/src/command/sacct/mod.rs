//! `sacct`: what jobs and steps were, from the scheduler's history.
//!
//! Owns which lines are shown and in what form; options are in `asked`, what a field holds is in `fields`.

mod asked;
mod fields;
mod parts;
mod words;

use model::hostlist;
use model::job::JobState;
use proto::v1::{Job, JobFilter, ListHistoryRequest, Step};

pub(super) use self::asked::shapes;
use self::asked::{Asked, read};
use self::fields::{Field, Row, find};
use self::parts::parts;
use super::job::{self, Selector, list};
use super::{Call, block_on, past};
use crate::api::Error;
use crate::table::print::{Column, Form};
use crate::{local, say};

/// Runs the command.
pub(crate) fn run(call: &Call) -> u8 {
    let now_ms = local::now_ms();
    match read(call, now_ms) {
        Ok(asked) => block_on(show(call, &asked, now_ms)),
        Err(status) => status,
    }
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

#[cfg(test)]
mod tests;
