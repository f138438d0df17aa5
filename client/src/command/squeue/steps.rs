//! `squeue -s`: the steps of running jobs.

use model::job::JobState;
use proto::v1::{Job, Step};

use super::super::job;
use crate::local;
use crate::table::units::elapsed;
use crate::table::{self, Field, field};

/// Columns where none are asked for.
pub(super) const DEFAULT: &str = "%.15i %.8j %.9P %.8u %.9M %N";

/// A step with its job.
pub(super) struct Row {
    job: Job,
    step: Step,
    now_ms: i64,
}

/// What can be printed of a step.
pub(super) static FIELDS: [Field<Row>; 17] = [
    field('a', "arrayjobid", "ARRAY_JOB_ID", |row, _| {
        row.job.array_job_id.unwrap_or(row.job.job_id).to_string()
    }),
    field('A', "numtasks", "TASKS", |row, _| row.step.num_tasks.to_string()),
    field('b', "tres-per-node", "TRES_PER_NODE", |_, _| "N/A".to_owned()),
    field('C', "numcpus", "CPUS", |row, _| row.step.num_cpus.to_string()),
    field('i', "stepid", "STEPID", |row, _| step_id(&row.job, &row.step)),
    field('j', "stepname", "NAME", |row, _| row.step.name.clone()),
    field('K', "arraytaskid", "ARRAY_TASK_ID", |row, _| job::task_id(&row.job)),
    field('l', "timelimit", "TIME_LIMIT", |row, _| match row.step.time_limit_ms {
        Some(limit) if limit >= 0 => elapsed(limit / 1000),
        _ => "UNLIMITED".to_owned(),
    }),
    field('L', "jobid", "JOBID", |row, _| row.job.job_id.to_string()),
    field('M', "timeused", "TIME", |row, _| elapsed((row.now_ms - row.step.start_ms) / 1000)),
    field('N', "nodes", "NODELIST", |row, _| row.step.node_list.clone()),
    field('P', "partition", "PARTITION", |row, _| row.job.partition.clone()),
    field('S', "starttime", "START_TIME", |row, _| job::date_or(Some(row.step.start_ms), "N/A")),
    field('u', "username", "USER", |row, _| local::user_name(row.job.uid)),
    field('U', "userid", "USER", |row, _| row.job.uid.to_string()),
    field('\0', "stepstate", "STATE", |row, _| row.step.state.clone()),
    field('\0', "cluster", "CLUSTER", |row, _| row.job.cluster.clone()),
];

fn step_id(job: &Job, step: &Step) -> String {
    let task = job.array_task_id.map_or_else(|| job.job_id.to_string(), |_| job::id(job));
    format!("{task}.{}", step.step_id)
}

/// The running steps of the jobs, by partition and then in the order of their ids, batch last.
pub(super) fn rows(jobs: Vec<Job>, now_ms: i64, wanted: &[job::Selector]) -> Vec<Row> {
    let mut rows = Vec::new();
    for job in
        jobs.into_iter().filter(|job| matches!(job::state(job), JobState::Running | JobState::Suspended))
    {
        for step in &job.steps {
            let live =
                matches!(JobState::parse(&step.state), Some(JobState::Running | JobState::Suspended) | None);
            let chosen = wanted.is_empty()
                || wanted.iter().any(|one| {
                    one.select(&job).is_some() && one.step.as_ref().is_none_or(|id| *id == step.step_id)
                });
            if live && step.end_ms.is_none() && chosen {
                rows.push(Row { job: job.clone(), step: step.clone(), now_ms });
            }
        }
    }
    rows.sort_by_key(|row| {
        let number = row.step.step_id.parse::<u32>().unwrap_or(u32::MAX);
        (row.job.partition.clone(), row.job.job_id, number)
    });
    rows
}

/// The lines, header included unless it is not wanted.
pub(super) fn print(rows: &[Row], format: &table::Format<Row>, header: bool) -> String {
    let mut out = String::new();
    if header {
        out.push_str(&table::header(&format.columns));
        out.push('\n');
    }
    for row in rows {
        out.push_str(&table::line(&format.columns, row));
        out.push('\n');
    }
    out
}
