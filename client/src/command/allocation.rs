//! Interactive allocations, for `srun` and `salloc`: asking for one, keeping its lease, giving it back.
//!
//! The lease is the stream of the job's changes: while it is read, the allocation lives. When the scheduler
//! restarts, the stream is opened again within the grace time.

use std::time::Duration;

use model::job::JobState;
use model::refusal::Refusal;
use proto::v1::control_request::Act;
use proto::v1::{EndAllocation, ExitStatus, HoldAllocationRequest, Job, JobPage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt;

use super::{job, submit};
use crate::api::{Client, Error, has_ended};
use crate::option::{Parsed, Program};
use crate::say;

/// How long a lost scheduler is looked for.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);

/// A job whose lease is held, and what is known of it.
pub(super) struct Held {
    pub client: Client,
    pub job_id: u32,
    /// The job as last seen; `None` until the first page.
    changes: watch::Receiver<Option<Job>>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Held {
    /// Takes the lease of a job.
    pub(super) fn take(client: Client, job_id: u32) -> Self {
        let (sender, changes) = watch::channel(None);
        let keeper = tokio::spawn(keep(client.clone(), job_id, sender));
        Self { client, job_id, changes, keeper }
    }

    /// The job as last seen.
    pub(super) fn job(&self) -> Option<Job> {
        self.changes.borrow().clone()
    }

    /// Waits until `wanted` holds of the job; `None` where it can no longer be followed.
    pub(super) async fn wait(&mut self, wanted: impl Fn(&Job) -> bool) -> Option<Job> {
        let found = self.changes.wait_for(|job| job.as_ref().is_some_and(&wanted)).await;
        found.ok().and_then(|job| job.clone())
    }

    /// Goes away from an allocation that needs nobody to hold it.
    pub(super) fn leave(self) {
        self.keeper.abort();
    }

    /// Tells the scheduler that the command is over, so that the allocation ends with its status.
    pub(super) async fn end(self, exit: ExitStatus) {
        let act = Act::EndAllocation(EndAllocation { job_id: self.job_id, exit: Some(exit) });
        // One that has ended already is no failure; where nobody answers for long, the lease runs out.
        let _ = self.client.with_patience(RETURN_PATIENCE).control_again(act).await;
        self.keeper.abort();
    }
}

async fn keep(client: Client, job_id: u32, sender: watch::Sender<Option<Job>>) {
    let mut lost_at: Option<Instant> = None;
    loop {
        let stream = client.raw().hold_allocation(HoldAllocationRequest { job_id }).await;
        if let Ok(stream) = stream {
            let mut pages = stream.into_inner();
            while let Some(Ok(JobPage { jobs, refused, .. })) = pages.next().await {
                lost_at = None;
                if refused.is_some() {
                    return;
                }
                for job in jobs.into_iter().filter(|job| job.job_id == job_id) {
                    let over = has_ended(&job);
                    if sender.send(Some(job)).is_err() || over {
                        return;
                    }
                }
            }
        }
        if lost_at.get_or_insert_with(Instant::now).elapsed() > RETURN_PATIENCE {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Asks for an allocation and waits until it is there. `Err` is the exit status; all is said.
///
/// `note` prints a line unless the user asked for quiet.
pub(super) async fn ask(program: Program, parsed: &Parsed) -> Result<Held, u8> {
    let client = match super::connect().await {
        Ok(client) => client,
        Err(error) => return Err(submit::refused(program, &error)),
    };
    let reply = match client.submit_message(submit::message(parsed)).await {
        Ok(reply) => reply,
        Err(error) => return Err(submit::refused(program, &error)),
    };
    reply.warnings.iter().for_each(|line| say::err(format!("{}: {line}", program.name())));
    if let Some(refused) = reply.refused {
        return Err(submit::refused(program, &refused.into()));
    }
    if parsed.first().manner.verbose > 0 {
        say::err(format!("{}: JobId={} returned by the controller", program.name(), reply.job_id));
    }
    let held = Held::take(client, reply.job_id);
    wait_until_granted(program, parsed, held).await
}

/// Why the partition will not start a job as it stands: said before it waits, as Slurm does.
fn beyond_partition(job: &Job) -> Option<Refusal> {
    let reason = ["PartitionConfig", "PartitionNodeLimit"].contains(&job.reason.as_str());
    reason.then_some(Refusal::PartitionConfigUnavailable)
}

/// What a started or ended job is to its client.
fn is_settled(job: &Job) -> bool {
    job::is_active(job) || has_ended(job)
}

async fn wait_until_granted(program: Program, parsed: &Parsed, mut held: Held) -> Result<Held, u8> {
    let note = |text: String| {
        if !parsed.first().manner.quiet {
            say::err(format!("{}: {text}", program.name()));
        }
    };
    let id = held.job_id;
    let immediate = parsed.first().request.rare().immediate;
    // A grant that comes at once is not announced; Slurm's first pass takes about as long.
    let soon = Instant::now() + Duration::from_millis(1500);
    let mut interrupt = super::interrupt();
    let mut found = tokio::select! {
        found = timeout_at(soon, held.wait(is_settled)) => found,
        () = interrupt.recv() => return Err(give_up(program, held).await),
    };
    if found.is_err() && immediate.is_none() {
        if let Some(refusal) = held.job().as_ref().and_then(beyond_partition) {
            note(refusal.to_string());
        }
        if program == Program::Salloc {
            note(format!("Pending job allocation {id}"));
        }
        note(format!("job {id} queued and waiting for resources"));
    }
    let waited = found.is_err();
    if let (true, Some(seconds)) = (waited, immediate) {
        let until = soon + Duration::from_secs(u64::from(seconds));
        found = timeout_at(until, held.wait(is_settled)).await;
        if found.is_err() {
            cancel(&held).await;
            say::error(program.name(), "Unable to allocate resources: Requested nodes are busy");
            return Err(1);
        }
    } else if waited {
        found = Ok(tokio::select! {
            job = held.wait(is_settled) => job,
            () = interrupt.recv() => return Err(give_up(program, held).await),
        });
    }
    match found.ok().flatten() {
        Some(job) if job::is_active(&job) => {
            if waited && immediate.is_none() {
                note(format!("job {id} has been allocated resources"));
            }
            Ok(held)
        }
        Some(_) => {
            say::err(format!("{}: Force Terminated job {id}", program.name()));
            Err(1)
        }
        None => {
            say::error(program.name(), format!("Unable to allocate resources: {}", say::NO_CONTACT));
            Err(1)
        }
    }
}

/// Waits until what the site runs before the job (PrologSlurmctld) is over. `None`: the job ended meanwhile, which is
/// said.
pub(super) async fn configured(program: Program, quiet: bool, held: &mut Held) -> Option<Job> {
    let settled = |job: &Job| has_ended(job) || job::state(job) != JobState::Configuring;
    let waits = held.job().is_some_and(|job| !settled(&job));
    if waits && !quiet && program == Program::Salloc {
        say::err(format!("{}: Waiting for resource configuration", program.name()));
    }
    let job = held.wait(settled).await?;
    if job.reason_detail.is_empty() || !has_ended(&job) && job::state(&job) != JobState::Completing {
        return Some(job).filter(|job| !has_ended(job));
    }
    say::err(format!("{}: PrologSlurmctld failed, job killed", program.name()));
    None
}

async fn cancel(held: &Held) {
    // Where it cannot be cancelled now, its lease runs out.
    let _: Result<(), Error> = held.client.cancel(held.job_id).await;
}

async fn give_up(program: Program, held: Held) -> u8 {
    cancel(&held).await;
    if program == Program::Salloc {
        say::err(format!("{}: Job aborted due to signal", program.name()));
    }
    say::err(format!("{}: Job allocation {} has been revoked.", program.name(), held.job_id));
    1
}
