//! `srun`: a step, in an allocation that is there or in one of its own.
//!
//! Asks for the allocation and the step, then serves the step's streams until its tasks have ended. The
//! tasks are the supervisors'; this process only carries bytes and signals, and may come back to them after a
//! broken connection.

mod exchange;
mod hook;
mod multi_prog;
pub(super) mod output;
pub(super) mod report;
mod request;
mod serve;
pub(super) mod terminal;

use std::time::Duration;

use model::refusal::Refusal;
use proto::v1::{CreateStepReply, CreateStepRequest, ExitStatus};

use super::allocation::{self, Held};
use super::{Call, block_on, submit};
use crate::api::{Client, Error, Key, has_ended};
use crate::option::{Parsed, Program};
use crate::say;

const PROGRAM: Program = Program::Srun;

/// Runs the command; its exit status is the highest of the tasks', 128 and the signal where one ended a task.
pub(crate) fn run(call: &Call) -> u8 {
    let parsed = match submit::read_for_this_cluster(PROGRAM, call) {
        Ok(parsed) => parsed,
        Err(status) => return status,
    };
    let manner = &parsed.first().manner;
    if parsed.components.len() > 1 || manner.het_group.as_deref().is_some_and(|groups| groups != "0") {
        say::error(PROGRAM.name(), "steps of several components are not supported by sluice yet");
        return 1;
    }
    if manner.test_only {
        return block_on(submit::test_only(PROGRAM, &parsed));
    }
    block_on(start(&parsed))
}

async fn start(parsed: &Parsed) -> u8 {
    let plan = match request::plan(parsed) {
        Ok(plan) => plan,
        Err(line) => {
            say::error(PROGRAM.name(), line);
            return 1;
        }
    };
    match parsed.first().manner.jobid {
        Some(job_id) => {
            let client = match confirm(job_id, parsed).await {
                Ok(client) => client,
                Err(status) => return status,
            };
            run_step(parsed, &plan, &client, job_id).await.0
        }
        None => {
            if parsed.first().manner.relative.is_some() {
                say::fatal(PROGRAM.name(), "--relative option invalid for job allocation request");
                return 1;
            }
            let held = match allocation::ask(PROGRAM, parsed).await {
                Ok(held) => held,
                Err(status) => return status,
            };
            in_own_allocation(parsed, &plan, held).await
        }
    }
}

async fn in_own_allocation(parsed: &Parsed, plan: &request::Plan, mut held: Held) -> u8 {
    let Some(job) = held.job() else { return 1 };
    if allocation::configured(PROGRAM, parsed.first().manner.quiet, &mut held).await.is_none() {
        say::error(PROGRAM.name(), format!("Nodes {} are still not ready", job.node_list));
        say::error(PROGRAM.name(), "Something is wrong with the boot of the nodes.");
        return 1;
    }
    if parsed.first().manner.verbose > 0 {
        say::err(format!("srun: Nodes {} are ready for job", job.node_list));
    }
    let (client, job_id) = (held.client.clone(), held.job_id);
    let (status, exit) = run_step(parsed, plan, &client, job_id).await;
    held.end(exit).await;
    status
}

/// Checks that the job is there, runs, and has as many nodes as the step asks for.
async fn confirm(job_id: u32, parsed: &Parsed) -> Result<Client, u8> {
    let refuse = |text: String| {
        say::error(PROGRAM.name(), format!("Unable to confirm allocation for job {job_id}: {text}"));
        say::err(format!(
            "{}: Check SLURM_JOB_ID environment variable. Expired or invalid job {job_id}",
            PROGRAM.name()
        ));
        1
    };
    let client = super::connect().await.map_err(|error| {
        let status = refuse(say::reason(&error));
        say::explain(PROGRAM.name(), &error);
        status
    })?;
    match client.job(job_id).await {
        Ok(Some(job)) if !has_ended(&job) => match parsed.first().request.nodes {
            Some((least, _)) if parsed.first().has("nodes") && least > job.num_nodes => {
                let text = format!("Only allocated {} nodes asked for {least}", job.num_nodes);
                say::error(PROGRAM.name(), text);
                Err(1)
            }
            _ => Ok(client),
        },
        Ok(Some(_)) => Err(refuse(Refusal::AlreadyDone.to_string())),
        Ok(None) => Err(refuse(Refusal::InvalidJobId.to_string())),
        Err(error) => Err(refuse(say::reason(&error))),
    }
}

/// Makes the step and serves it: srun's status, and what the job is to be told.
async fn run_step(parsed: &Parsed, plan: &request::Plan, client: &Client, job_id: u32) -> (u8, ExitStatus) {
    let failed = (1, ExitStatus { code: 1, signal: 0 });
    let launch = plan.launch(parsed);
    let cookie = launch.cookie.clone();
    let create = CreateStepRequest {
        key: Key::random().bytes(),
        job_id,
        step: Some(request::step(parsed)),
        launch: Some(launch),
    };
    let reply = match create_step(parsed, client, create).await {
        Ok(reply) => reply,
        Err(error) => {
            if let Error::Refused { lines, .. } = &error {
                lines.iter().for_each(|line| say::error(PROGRAM.name(), line));
            }
            let text = say::reason(&error);
            say::error(PROGRAM.name(), format!("Unable to create step for job {job_id}: {text}"));
            say::explain(PROGRAM.name(), &error);
            return failed;
        }
    };
    if parsed.first().manner.verbose > 0 {
        report::launching(parsed, job_id, &reply).iter().for_each(|line| say::err(format!("srun: {line}")));
    }
    let step = serve::Served { parsed, plan, client, job_id, reply: &reply, cookie: &cookie };
    hook::run(hook::When::Before, parsed, plan, job_id, &reply).await;
    let served = step.serve().await;
    hook::run(hook::When::After, parsed, plan, job_id, &reply).await;
    match served {
        Ok((status, exit)) => (status, ExitStatus { code: exit.code, signal: exit.signal }),
        Err(error) => {
            say::error(PROGRAM.name(), super::os_text(&error));
            failed
        }
    }
}

/// Asks for the step until it is made; the key makes a repeated call harmless.
async fn create_step(
    parsed: &Parsed,
    client: &Client,
    create: CreateStepRequest,
) -> Result<CreateStepReply, Error> {
    let immediate = parsed.first().request.rare().immediate.is_some();
    let (mut waited, mut pause) = (false, Duration::from_millis(50));
    let mut failures = 0;
    loop {
        match client.raw().create_step(create.clone()).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                failures = 0;
                match reply.refused {
                    Some(refused) => return Err(refused.into()),
                    None if reply.wait && immediate => {
                        let number = Refusal::NodesBusy.number();
                        return Err(Error::Refused { number, lines: Vec::new() });
                    }
                    None if reply.wait => waited = true,
                    None => {
                        if waited {
                            let id = format!("{}.{}", create.job_id, reply.step_id);
                            say::err(format!("{}: Step created for StepId={id}", PROGRAM.name()));
                        }
                        return Ok(reply);
                    }
                }
            }
            Err(status) if failures > 60 => return Err(Error::Failed(status)),
            Err(_) => failures += 1,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
