//! `ControlRequest` → `Command`.

use model::array::{MAX_TASK_ID, TaskSet};
use model::id::{JobId, TaskIndex, Uid};
use model::job::JobState;
use proto::convert::id::step_id;
use proto::convert::{Error, LIST_MAX, Problem, exit};
use proto::v1;
use proto::v1::control_request::Act;
use scheduler_core::effect::Selector;
use scheduler_core::input::{Command, JobFilter};

use super::{Pairs, boxed, pairs};

/// Most jobs that one call names.
const SELECTORS_MAX: usize = 100_000;
/// Most elements of arrays that one call names one by one.
const TASKS_MAX: u32 = 1_000_000;

/// What an act is to the shell.
#[derive(Debug)]
pub enum Asked {
    /// Something for the machine.
    Command(Command),
    /// Read the configuration again; `true`: only check it.
    Reconfigure(bool),
    /// Say more or less in the log: a word or a number of Slurm's.
    SetDebug(v1::SetDebug),
    /// Stop the daemon; `true`: end all jobs first.
    Shutdown(bool),
}

/// Reads an act.
///
/// # Errors
/// A missing act, lists that are too long, texts that are none.
pub fn inwards(from: v1::ControlRequest) -> Result<Asked, Error> {
    let act = from.act.ok_or(Error { field: "act", problem: Problem::Missing })?;
    let command = match act {
        Act::Cancel(cancel) => cancel_inwards(cancel)?,
        Act::Hold(hold) => Command::Hold { jobs: selectors(hold.jobs)?, as_user: hold.user_hold },
        Act::Release(release) => Command::Release(selectors(release.jobs)?),
        Act::Requeue(requeue) => Command::Requeue {
            jobs: selectors(requeue.jobs)?,
            hold: requeue.hold,
            special_exit: requeue.special_exit,
        },
        Act::Suspend(suspend) => Command::Suspend(selectors(suspend.jobs)?),
        Act::Resume(resume) => Command::Resume(selectors(resume.jobs)?),
        Act::UpdateJob(update) => {
            Command::UpdateJob { job: one_selector(update.job)?, changes: changes(update.changes)? }
        }
        Act::UpdateNodes(update) => {
            Command::UpdateNodes { nodes: update.nodes.into(), changes: changes(update.changes)? }
        }
        Act::UpdatePartition(update) => Command::UpdatePartition {
            name: update.name.into(),
            changes: changes(update.changes)?,
            create: false,
        },
        Act::CreatePartition(create) => Command::UpdatePartition {
            name: create.name.into(),
            changes: changes(create.attributes)?,
            create: true,
        },
        Act::DeletePartition(delete) => Command::DeletePartition(delete.name.into()),
        Act::UpdateReservation(update) => Command::UpdateReservation {
            name: update.name.into(),
            changes: changes(update.changes)?,
            create: update.create,
        },
        Act::DeleteReservation(delete) => Command::DeleteReservation(delete.name.into()),
        Act::EndAllocation(end) => {
            Command::EndAllocation { job: JobId(end.job_id), exit: exit::inwards(end.exit) }
        }
        Act::Notify(notify) => {
            Command::Notify { job: one_selector(notify.job)?, text: notify.message.into() }
        }
        Act::Reconfigure(reconfigure) => return Ok(Asked::Reconfigure(reconfigure.dry_run)),
        Act::SetDebug(set) => return Ok(Asked::SetDebug(set)),
        Act::Shutdown(shutdown) => return Ok(Asked::Shutdown(shutdown.kill_jobs)),
    };
    Ok(Asked::Command(command))
}

fn cancel_inwards(cancel: v1::CancelJobs) -> Result<Command, Error> {
    let signal = match cancel.signal {
        0 => None,
        signal => Some(u8::try_from(signal).map_err(|_| out_of_range("signal"))?),
    };
    Ok(Command::Cancel {
        jobs: selectors(cancel.jobs)?,
        filter: cancel.filter.map(filter).transpose()?.unwrap_or_default(),
        signal,
        batch_only: cancel.batch_only,
        full: cancel.full,
    })
}

/// Conditions of a control call.
///
/// # Errors
/// Lists that are too long, unknown states.
pub fn filter(from: v1::JobFilter) -> Result<JobFilter, Error> {
    for list in [&from.partitions, &from.names, &from.accounts, &from.qos, &from.states] {
        too_long("filter", list.len(), LIST_MAX)?;
    }
    too_long("uids", from.uids.len(), LIST_MAX)?;
    let states: Option<Vec<JobState>> = from.states.iter().map(|text| JobState::parse(text)).collect();
    Ok(JobFilter {
        uids: from.uids.into_iter().map(Uid).collect(),
        states: states.ok_or(Error { field: "states", problem: Problem::Malformed })?,
        partitions: boxed(from.partitions),
        names: boxed(from.names),
        accounts: boxed(from.accounts),
        qos: boxed(from.qos),
    })
}

fn selectors(from: Vec<v1::JobSelector>) -> Result<Vec<Selector>, Error> {
    too_long("jobs", from.len(), SELECTORS_MAX)?;
    let mut left = TASKS_MAX;
    from.into_iter().map(|selector| selector_inwards(selector, &mut left)).collect()
}

fn one_selector(from: Option<v1::JobSelector>) -> Result<Selector, Error> {
    let selector = from.ok_or(Error { field: "job", problem: Problem::Missing })?;
    selector_inwards(selector, &mut TASKS_MAX.clone())
}

/// `left`: how many more elements the call may name.
fn selector_inwards(from: v1::JobSelector, left: &mut u32) -> Result<Selector, Error> {
    let tasks = match from.tasks.as_str() {
        "" => None,
        text => {
            let spec = model::array::ArraySpec::parse(text, MAX_TASK_ID)
                .map_err(|_| Error { field: "tasks", problem: Problem::Malformed })?;
            let set: TaskSet = spec.tasks;
            *left = left
                .checked_sub(set.len())
                .ok_or(Error { field: "tasks", problem: Problem::TooLong { max: TASKS_MAX as usize } })?;
            Some(set.iter().map(TaskIndex).collect())
        }
    };
    let step = match from.step.as_str() {
        "" => None,
        text => Some(step_id("step", text)?),
    };
    Ok(Selector { job: JobId(from.job_id), tasks, step })
}

fn changes(from: Vec<v1::KeyValue>) -> Result<Pairs, Error> {
    too_long("changes", from.len(), LIST_MAX)?;
    Ok(pairs(from))
}

fn too_long(field: &'static str, length: usize, max: usize) -> Result<(), Error> {
    if length > max { Err(Error { field, problem: Problem::TooLong { max } }) } else { Ok(()) }
}

fn out_of_range(field: &'static str) -> Error {
    Error { field, problem: Problem::OutOfRange }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(selector: v1::JobSelector) -> Result<Asked, Error> {
        let cancel = v1::CancelJobs { jobs: vec![selector], ..v1::CancelJobs::default() };
        inwards(v1::ControlRequest { act: Some(Act::Cancel(cancel)) })
    }

    #[test]
    fn reads_selectors() {
        let selector = v1::JobSelector { job_id: 7, tasks: "2-4,7".into(), step: "batch".into() };
        let Ok(Asked::Command(Command::Cancel { jobs, signal: None, .. })) = cancel(selector) else {
            panic!("a cancel");
        };
        let tasks: Vec<u32> = jobs[0].tasks.as_ref().unwrap().iter().map(|task| task.0).collect();
        assert_eq!((jobs[0].job, tasks), (JobId(7), vec![2, 3, 4, 7]));
    }

    #[test]
    fn refuses_what_is_none() {
        let bad = |tasks: &str, step: &str| {
            cancel(v1::JobSelector { job_id: 7, tasks: tasks.into(), step: step.into() }).unwrap_err().field
        };
        assert_eq!(bad("4-2", ""), "tasks");
        assert_eq!(bad("0-3999999", ""), "tasks");
        assert_eq!(bad("", "x"), "step");
        assert_eq!(inwards(v1::ControlRequest { act: None }).unwrap_err().field, "act");
    }
}
