//! Acts on jobs and on the daemons: hold, release, requeue, suspend, notify, ping, shutdown, ….

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use model::config::log::Level;
use model::job::JobState;
use model::refusal::Refusal;
use proto::v1::control_request::Act;
use proto::v1::{
    ControlOutcome, HoldJobs, JobFilter, JobSelector, NotifyJob, Reconfigure, ReleaseJobs, RequeueJobs,
    ResumeJobs, SetDebug, Shutdown, SuspendJobs,
};

use super::super::job::{self, Selector};
use super::{Session, is};
use crate::api::{Client, Error};
use crate::{local, say};

/// A selector as the wire wants it.
pub(in crate::command) fn wire(selector: &Selector) -> JobSelector {
    JobSelector {
        // Components of a heterogeneous job have consecutive ids.
        job_id: selector.job_id + selector.het_offset.unwrap_or(0),
        tasks: selector.tasks.as_ref().map(|tasks| tasks.text(None)).unwrap_or_default(),
        step: selector.step.clone().unwrap_or_default(),
    }
}

/// Sends an act. `None` after a failure of the call, which has been told under the function's name.
pub(super) async fn send(session: &mut Session, function: &str, act: Act) -> Option<Vec<ControlOutcome>> {
    let answer = match session.client().await {
        Ok(client) => client.control(act).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(outcomes) => Some(outcomes),
        Err(error) => {
            session.fail_call(function, &error);
            None
        }
    }
}

/// Slurm's text of a refusal.
pub(super) fn refusal(number: u32) -> String {
    Error::Refused { number, lines: Vec::new() }.to_string()
}

/// Tells each refused object: `Invalid user id for job 7`; gives the number of the last.
fn tell(session: &mut Session, outcomes: Vec<ControlOutcome>) -> Option<u32> {
    let mut last = None;
    for outcome in outcomes {
        if let Some(refused) = outcome.refused {
            session.fail(format!("{} for job {}", refusal(refused.number), outcome.object));
            last = Some(refused.number);
        }
    }
    last
}

/// The selectors of words like `7,8 9_3`; what is none is told.
fn selectors(session: &mut Session, words: &[String]) -> Vec<Selector> {
    let mut selectors = Vec::new();
    for item in words.iter().flat_map(|word| job::split_ids(word)) {
        let item = item.split_once('=').map_or(item, |(_, value)| value);
        match Selector::parse(item) {
            Some(selector) => selectors.push(selector),
            None => session.fail(format!("{} for job {item}", Refusal::InvalidJobId)),
        }
    }
    selectors
}

/// The same for `hold` and `release`, which say it once more.
fn held_selectors(session: &mut Session, words: &[String]) -> Vec<Selector> {
    let before = std::mem::take(&mut session.status);
    let selectors = selectors(session, words);
    if session.status != 0 {
        session.fail(format!("slurm_suspend error:{}", Refusal::InvalidJobId));
    }
    session.status = session.status.max(before);
    selectors
}

/// The jobs of `JobName=a,b`, for hold and release.
async fn by_name(session: &mut Session, words: &[String]) -> Option<Vec<Selector>> {
    let (key, names) = words.first()?.split_once('=')?;
    if !is(key, "jobname", 4) && !is(key, "name", 1) {
        return None;
    }
    let filter = JobFilter {
        names: job::list(names),
        uids: vec![nix::unistd::getuid().as_raw()],
        ..JobFilter::default()
    };
    let found = match session.client().await {
        Ok(client) => client.jobs(filter.clone(), false).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(jobs) => {
            let named = jobs.iter().filter(|job| filter.names.contains(&job::request(job).name));
            Some(named.filter_map(|job| Selector::parse(&job.job_id.to_string())).collect())
        }
        Err(error) => {
            session.fail_call("slurm_load_jobs", &error);
            Some(Vec::new())
        }
    }
}

async fn chosen(session: &mut Session, words: &[String]) -> Vec<JobSelector> {
    let selectors = match by_name(session, words).await {
        Some(selectors) => selectors,
        None => held_selectors(session, words),
    };
    selectors.iter().map(wire).collect()
}

/// `hold` and `uhold`.
pub(super) async fn hold(session: &mut Session, user_hold: bool, words: &[String]) {
    let jobs = chosen(session, words).await;
    if jobs.is_empty() {
        return;
    }
    let act = Act::Hold(HoldJobs { jobs, user_hold });
    let Some(outcomes) = send(session, "slurm_hold", act).await else { return };
    if let Some(number) = tell(session, outcomes) {
        session.fail(format!("slurm_suspend error:{}", refusal(number)));
    }
}

/// `release`.
pub(super) async fn release(session: &mut Session, words: &[String]) {
    let jobs = chosen(session, words).await;
    if jobs.is_empty() {
        return;
    }
    let Some(outcomes) = send(session, "slurm_release", Act::Release(ReleaseJobs { jobs })).await else {
        return;
    };
    if let Some(number) = tell(session, outcomes) {
        session.fail(format!("slurm_suspend error:{}", refusal(number)));
    }
}

/// `requeue` and `requeuehold`, with `incomplete` or `State=SpecialExit` before the jobs.
pub(super) async fn requeue(session: &mut Session, hold: bool, words: &[String]) {
    let (mut incomplete, mut special_exit, mut rest) = (false, false, Vec::new());
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "incomplete" => incomplete = true,
            "state=specialexit" | "state=se" => special_exit = true,
            _ => rest.push(word.clone()),
        }
    }
    let jobs: Vec<JobSelector> = selectors(session, &rest).iter().map(wire).collect();
    if jobs.is_empty() {
        return;
    }
    let act = Act::Requeue(RequeueJobs { jobs, hold, special_exit, incomplete });
    if let Some(outcomes) = send(session, "slurm_requeue", act).await {
        tell(session, outcomes);
    }
}

/// `suspend` and `resume`.
pub(super) async fn suspend(session: &mut Session, suspend: bool, words: &[String]) {
    let jobs: Vec<JobSelector> = selectors(session, words).iter().map(wire).collect();
    if jobs.is_empty() {
        return;
    }
    let (function, act) = match suspend {
        true => ("slurm_suspend", Act::Suspend(SuspendJobs { jobs })),
        false => ("slurm_resume", Act::Resume(ResumeJobs { jobs })),
    };
    if let Some(mut outcomes) = send(session, function, act).await {
        // Of a job that is not there Slurm's controller answers this call with another message than it expects.
        for outcome in &mut outcomes {
            if outcome
                .refused
                .as_ref()
                .is_some_and(|refused| refused.number == Refusal::InvalidJobId.number())
            {
                session.fail(format!("Unexpected message received for job {}", outcome.object));
                outcome.refused = None;
            }
        }
        tell(session, outcomes);
    }
}

/// `top`: puts jobs before the others of the same user, partition, account and QOS, by their nice values.
pub(super) async fn top(session: &mut Session, words: &[String]) {
    let chosen = selectors(session, words);
    let found = match session.client().await {
        Ok(client) => client.jobs(JobFilter::default(), false).await,
        Err(error) => Err(error),
    };
    let jobs = match found {
        Ok(jobs) => jobs,
        Err(error) => return session.fail_call("slurm_top_job", &error),
    };
    for selector in chosen {
        let Some(own) = jobs.iter().find(|job| selector.select(job).is_some()) else {
            let administrator = nix::unistd::geteuid().is_root();
            let why = if administrator { Refusal::InvalidJobId } else { Refusal::AccessDenied };
            session.fail(format!("{why} for job {}", selector.job_id));
            continue;
        };
        let rivals = jobs.iter().filter(|job| {
            job.job_id != own.job_id
                && job::state(job) == JobState::Pending
                && (job.uid, &job.partition, &job.account, &job.qos)
                    == (own.uid, &own.partition, &own.account, &own.qos)
        });
        let highest = rivals.map(|job| job.priority).max().unwrap_or(0);
        if own.priority > highest {
            continue;
        }
        let lift = i64::from(highest - own.priority) + 1;
        let nice = i64::from(job::request(own).nice) - lift;
        let change = proto::v1::KeyValue { key: "Nice".to_owned(), value: nice.to_string() };
        let update = proto::v1::UpdateJob { job: Some(wire(&selector)), changes: vec![change] };
        let Some(outcomes) = send(session, "slurm_top_job", Act::UpdateJob(update)).await else { return };
        if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
            session.fail(format!("{} for job {}", refusal(refused.number), own.job_id));
        }
    }
}

/// `notify JOB words…`.
pub(super) async fn notify(session: &mut Session, words: &[String]) {
    let Some(selector) = Selector::parse(&words[0]) else {
        return session.fail(format!("job notify failure: {}", Refusal::InvalidJobId));
    };
    let notify = NotifyJob { job: Some(wire(&selector)), message: words[1..].join(" ") };
    let Some(outcomes) = send(session, "slurm_notify_job", Act::Notify(notify)).await else { return };
    if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
        session.fail(format!("job notify failure: {}", refusal(refused.number)));
    }
}

/// `ping`.
pub(super) async fn ping(session: &mut Session) {
    // Whether somebody answers now is the question.
    let answer = match Client::connect().await {
        Ok(client) => client.raw().ping(proto::v1::PingRequest {}).await.map_err(Error::Failed),
        Err(error) => Err(error),
    };
    match answer {
        Ok(reply) => say::out(format!("Slurmctld(primary) at {} is UP\n", reply.into_inner().host)),
        Err(error) => {
            session.status = 1;
            say::out(format!("Slurmctld(primary) at {} is DOWN\n", local::host()));
            say::explain(&session.program, &error);
        }
    }
}

/// `reconfigure`, with `dry-run` only checking.
pub(super) async fn reconfigure(session: &mut Session, words: &[String]) {
    let dry_run = session.dry_run || words.first().is_some_and(|word| word.eq_ignore_ascii_case("dry-run"));
    let act = Act::Reconfigure(Reconfigure { dry_run });
    let Some(outcomes) = daemons(session, "slurm_reconfigure", act).await else { return };
    if dry_run {
        let lines: Vec<String> = outcomes.into_iter().map(|outcome| outcome.object).collect();
        match lines.is_empty() {
            true => say::out("nothing would change\n"),
            false => lines.iter().for_each(|line| say::out(format!("{line}\n"))),
        }
    }
}

/// `setdebug LEVEL [nodes=NODES]`: how much the scheduler's log says, or that of the nodes' executors.
pub(super) async fn set_debug(session: &mut Session, words: &[String]) {
    let nodes = |word: &String| {
        let (key, nodes) = word.split_once('=')?;
        key.eq_ignore_ascii_case("nodes").then(|| nodes.to_owned())
    };
    let (level, nodes) = match words {
        [] => return session.fail("too few arguments for keyword:setdebug"),
        [level] => (level, String::new()),
        [level, second] => match nodes(second) {
            Some(nodes) if !nodes.is_empty() => (level, nodes),
            _ => return session.fail(format!("invalid argument: {second}")),
        },
        _ => return session.fail("too many arguments for keyword:setdebug"),
    };
    if Level::parse(level).is_none() {
        return session.fail(format!("invalid debug level: {level}"));
    }
    let of_nodes = !nodes.is_empty();
    let act = Act::SetDebug(SetDebug { level: level.clone(), nodes });
    let Some(outcomes) = send(session, "slurm_set_debug_level", act).await else { return };
    let refusals: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.refused.as_ref()).collect();
    if of_nodes && refusals.iter().any(|refused| !refused.lines.is_empty()) {
        refusals.iter().flat_map(|refused| &refused.lines).for_each(|line| session.fail_with_name(line));
        return session.fail("Failed to change debug level on one or more nodes.");
    }
    if outcomes.iter().any(|outcome| outcome.refused.is_some()) {
        // Slurm's controller answers this one call with the system's words.
        session.fail("slurm_set_debug_level error:Permission denied");
    }
}

/// `shutdown`.
pub(super) async fn shutdown(session: &mut Session) {
    daemons(session, "slurm_shutdown", Act::Shutdown(Shutdown { kill_jobs: false })).await;
}

/// What came of an act on the daemons; `None` where it was refused or failed, which has been told.
async fn daemons(session: &mut Session, function: &str, act: Act) -> Option<Vec<ControlOutcome>> {
    let outcomes = send(session, function, act).await?;
    let mut refusals = outcomes.iter().filter_map(|outcome| outcome.refused.clone()).peekable();
    let sound = refusals.peek().is_none();
    for refused in refusals {
        refused.lines.iter().for_each(|line| session.fail_with_name(line));
        session.fail(format!("{function} error:{}", refusal(refused.number)));
    }
    sound.then_some(outcomes)
}

/// `wait_job`: until the job holds its nodes.
pub(super) async fn wait_job(session: &mut Session, word: &str) {
    let Some(selector) = Selector::parse(word) else {
        return session.fail(format!("{} for job {word}", Refusal::InvalidJobId));
    };
    let client = match session.client().await {
        Ok(client) => client,
        Err(error) => return session.fail_call("slurm_load_job", &error),
    };
    let mut pause = Duration::from_millis(50);
    loop {
        let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
        let found = match client.jobs(filter, true).await {
            Ok(jobs) => jobs.iter().find_map(|job| selector.select(job)),
            Err(Error::Refused { .. }) => None,
            Err(error) => return session.fail_call("slurm_load_job", &error),
        };
        match found.as_ref().map(job::state) {
            Some(JobState::Running | JobState::Suspended) => {
                say::err(format!("{}: Nodes are ready for job {}", session.program, selector.job_id));
                return;
            }
            Some(JobState::Pending | JobState::Configuring) => {}
            _ => {
                session.status = 1;
                say::err(format!("{}: Problem running job {}", session.program, selector.job_id));
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// `write batch_script JOB [FILE]` and `write config [FILE]`. As in Slurm, only a wrong call is told by the exit status.
pub(super) async fn write(session: &mut Session, words: &[String]) {
    let Some((what, rest)) = words.split_first() else {
        return session.fail("too few arguments for keyword:write");
    };
    if is(what, "config", 5) {
        return super::show::write_config(session, rest.first().map(String::as_str)).await;
    }
    if !is(what, "batch_script", 5) {
        return session.fail(format!("invalid write argument:{what}"));
    }
    let Some(word) = rest.first() else { return };
    let Some(selector) = Selector::parse(word) else {
        return session.fail(format!(
            "{}: fatal: Bad job/step specified: {word}: JobID can not be zero",
            session.program
        ));
    };
    let before = session.status;
    script(session, word, &selector, rest.get(1)).await;
    session.status = before;
}

/// Writes the script of a job to a file, or to standard output for `-`.
async fn script(session: &mut Session, word: &str, selector: &Selector, file: Option<&String>) {
    let request = proto::v1::GetBodyRequest { job_id: selector.job_id, environment: false };
    let answer = match session.client().await {
        Ok(client) => client.raw().get_body(request).await.map_err(Error::Failed),
        Err(error) => Err(error),
    };
    let body = match answer {
        Ok(reply) => match reply.into_inner() {
            proto::v1::GetBodyReply { refused: Some(refused), .. } => {
                return session.fail(format!("job script retrieval failed: {}", refusal(refused.number)));
            }
            reply => reply.body,
        },
        Err(error) => {
            session.fail(format!("job script retrieval failed: {}", say::reason(&error)));
            return say::explain(&session.program, &error);
        }
    };
    let file = file.cloned().unwrap_or_else(|| format!("slurm-{word}.sh"));
    if file == "-" {
        return say::out(&body);
    }
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&file);
    match opened.and_then(|mut opened| opened.write_all(&body)) {
        Ok(()) if session.quiet => {}
        Ok(()) => say::out(format!("batch script for job {word} written to {file}\n")),
        Err(error) => session.fail(format!("failed to open file `{file}`: {error}")),
    }
}

/// `errnumstr NUMBER`.
pub(super) fn error_text(session: &mut Session, words: &[String]) {
    let Some(word) = words.first() else { return session.fail("too few arguments for keyword:errnumstr") };
    let Ok(number) = word.parse::<i32>() else {
        return session.fail("numeric arguments required for keyword:errnumstr");
    };
    let text = match u32::try_from(number).ok().and_then(Refusal::from_number) {
        Some(refusal) => refusal.text().to_owned(),
        None => match nix::errno::Errno::from_raw(number) {
            nix::errno::Errno::UnknownErrno => format!("Unknown error {number}"),
            known => known.desc().to_owned(),
        },
    };
    say::out(text + "\n");
}
