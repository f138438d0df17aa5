//! `scontrol update`, `create` and `delete`.
//!
//! Keys may be shortened as Slurm allows; they are sent with their full names. Moments are sent as `@` and
//! milliseconds, because only the client knows the user's time zone.

use model::refusal::Refusal;
use model::time::moment::{self, Sense};
use model::time::{Timestamp, limit};
use proto::v1::control_request::Act;
use proto::v1::{
    CreatePartition, DeletePartition, JobFilter, KeyValue, UpdateJob, UpdateNodes, UpdatePartition,
};

use super::super::job::{self, Selector};
use super::act::{refusal, send, wire};
use super::{Session, is, reservation};
use crate::api::Error;
use crate::local;

/// A key of `update JobId=…`, and the least number of letters that name it.
const JOB_KEYS: [(&str, usize); 52] = [
    ("Account", 3),
    ("AdminComment", 3),
    ("ArrayTaskThrottle", 10),
    ("BurstBuffer", 1),
    ("ClusterFeatures", 8),
    ("Clusters", 8),
    ("Comment", 3),
    ("Contiguous", 3),
    ("Conn-Type", 3),
    ("CoreSpec", 4),
    ("CPUs/Task", 4),
    ("CpusPerTask", 9),
    ("CpusPerTres", 9),
    ("Deadline", 3),
    ("DelayBoot", 5),
    ("Dependency", 3),
    ("EligibleTime", 4),
    ("EndTime", 3),
    ("ExcNodeList", 3),
    ("Extra", 3),
    ("Features", 1),
    ("Gres", 2),
    ("JobName", 4),
    ("Licenses", 1),
    ("MailType", 5),
    ("MailUser", 5),
    ("MemPerTres", 4),
    ("MinCPUsNode", 5),
    ("MinMemoryCPU", 10),
    ("MinMemoryNode", 10),
    ("MinTmpDiskNode", 5),
    ("Name", 2),
    ("Nice", 2),
    ("NodeList", 8),
    ("NumCPUs", 6),
    ("NumNodes", 6),
    ("NumTasks", 6),
    ("OverSubscribe", 5),
    ("Partition", 2),
    ("Prefer", 3),
    ("Priority", 2),
    ("QOS", 2),
    ("ReqCores", 7),
    ("ReqNodeList", 7),
    ("Requeue", 4),
    ("ReservationName", 3),
    ("Shared", 2),
    ("StartTime", 2),
    ("StdErr", 6),
    ("StdIn", 5),
    ("StdOut", 6),
    ("TimeLimit", 5),
];

/// More keys of jobs.
const MORE_JOB_KEYS: [(&str, usize); 9] = [
    ("Switches", 5),
    ("TresBind", 8),
    ("TresPerJob", 8),
    ("TresPerNode", 8),
    ("TresPerTask", 8),
    ("SiteFactor", 5),
    ("SystemComment", 3),
    ("WCKey", 1),
    ("WorkDir", 2),
];

/// What an update is of, by its first key that names an object.
enum Object {
    Job(String),
    Step(String),
    JobsNamed(String),
    Nodes(String),
    Partition(String),
    Reservation,
    Unsupported(&'static str),
}

fn pairs(words: &[String]) -> Vec<(String, String)> {
    let split = |word: &String| match word.split_once('=') {
        Some((key, value)) => (key.trim_end_matches(['+', '-']).to_owned(), value.to_owned()),
        None => (word.clone(), String::new()),
    };
    words.iter().map(split).collect()
}

fn object(pairs: &[(String, String)]) -> Option<Object> {
    let of = |word: &str, least: usize| {
        pairs.iter().find(|(key, _)| is(key, word, least)).map(|(_, value)| value.clone())
    };
    if let Some(ids) = of("JobId", 3) {
        return Some(Object::Job(ids));
    }
    if let Some(names) = of("NodeName", 3) {
        return Some(Object::Nodes(names));
    }
    if of("ReservationName", 3).is_some() {
        return Some(Object::Reservation);
    }
    if let Some(name) = of("PartitionName", 3) {
        return Some(Object::Partition(name));
    }
    if let Some(ids) = of("StepId", 4) {
        return Some(Object::Step(ids));
    }
    if of("SuspendExcNodes", 11).is_some() || of("SuspendExcParts", 11).is_some() {
        return Some(Object::Unsupported("update of suspended nodes"));
    }
    of("JobName", 4).map(Object::JobsNamed)
}

/// `update KEY=VALUE…`.
pub(super) async fn run(session: &mut Session, words: &[String]) {
    // "update job 7 …" is as good as "update job=7 …".
    let joined: Vec<String>;
    let words = match words {
        [entity, name, rest @ ..] if !entity.contains('=') && !name.contains('=') => {
            joined = std::iter::once(format!("{entity}={name}")).chain(rest.iter().cloned()).collect();
            &joined
        }
        _ => words,
    };
    let pairs = pairs(words);
    match object(&pairs) {
        Some(Object::Job(ids)) => jobs(session, &ids, &pairs).await,
        Some(Object::Step(ids)) => steps(session, &ids, &pairs).await,
        Some(Object::JobsNamed(name)) => jobs_named(session, &name, &pairs).await,
        Some(Object::Nodes(names)) => nodes(session, names, &pairs).await,
        Some(Object::Partition(name)) => partition(session, name, &pairs).await,
        Some(Object::Reservation) => reservation::update(session, words).await,
        Some(Object::Unsupported(what)) => {
            session.fail_with_name(format!("{what} is not supported by sluice yet"))
        }
        None => {
            session.fail("No valid entity in update command");
            session.fail(
                "Input line must include \"NodeName\", \"PartitionName\", \"Reservation\", \"JobId\", or \"SlurmctldDebug\"",
            );
        }
    }
}

/// The changes of a job with their full names; `None` after a complaint.
fn job_changes(session: &mut Session, pairs: &[(String, String)], skip_name: bool) -> Option<Vec<KeyValue>> {
    let mut changes = Vec::new();
    for (key, value) in pairs {
        if is(key, "JobId", 4) || skip_name && is(key, "JobName", 4) {
            continue;
        }
        if is(key, "UserID", 4) {
            // Slurm's program reads over it.
            continue;
        }
        let known = JOB_KEYS.iter().chain(&MORE_JOB_KEYS).find(|(word, least)| is(key, word, *least));
        let Some((name, _)) = known else {
            session.fail(format!("Update of this parameter is not supported: {key}={value}"));
            session.fail("Request aborted");
            return None;
        };
        let value = match *name {
            "TimeLimit" => {
                let bare = value.strip_prefix(['+', '-']).filter(|_| value != "-1").unwrap_or(value);
                if limit::parse(bare).is_err() {
                    session.fail_with_name("Invalid TimeLimit value");
                    return None;
                }
                value.clone()
            }
            "StartTime" | "EligibleTime" | "Deadline" | "EndTime" => match moment_text(value) {
                Ok(text) => text,
                Err(error) => {
                    session.fail(error.to_string());
                    return None;
                }
            },
            _ => value.clone(),
        };
        changes.push(KeyValue { key: (*name).to_owned(), value });
    }
    if changes.is_empty() {
        session.fail("No changes specified");
        return None;
    }
    Some(changes)
}

pub(super) fn moment_text(value: &str) -> Result<String, moment::Error> {
    let now = Timestamp(local::now_ms());
    let at = moment::parse(value, now, &local::offset_s, Sense::Future)?;
    Ok(format!("@{}", at.as_millis()))
}

async fn jobs(session: &mut Session, ids: &str, pairs: &[(String, String)]) {
    let mut selectors = Vec::new();
    for item in job::split_ids(ids) {
        match Selector::parse(item) {
            Some(selector) => selectors.push(selector),
            None => return session.fail(format!("{} for job {item}", Refusal::InvalidJobId)),
        }
    }
    let Some(changes) = job_changes(session, pairs, false) else { return };
    for selector in &selectors {
        update_one(session, selector, &changes).await;
    }
}

/// `update StepId=JOB[.STEP] TimeLimit=…`: one step, or all of a job.
async fn steps(session: &mut Session, ids: &str, pairs: &[(String, String)]) {
    let changed: Vec<_> = pairs.iter().filter(|(key, _)| !is(key, "StepId", 4)).collect();
    if let Some((key, value)) = changed.iter().find(|(key, _)| !is(key, "TimeLimit", 1)) {
        session.fail(format!("Update of this parameter is not supported: {key}={value}"));
        return session.fail("Request aborted");
    }
    let Some((_, value)) = changed.last() else { return session.fail("No changes specified") };
    if limit::parse(value).is_err() {
        return session.fail_with_name("Invalid TimeLimit value");
    }
    let changes = vec![KeyValue { key: "TimeLimit".to_owned(), value: value.clone() }];
    let invalid = format!("slurm_update error: {}", Refusal::InvalidJobId);
    let Some(selector) = Selector::parse(ids) else { return session.fail(invalid) };
    let mut named = vec![selector.clone()];
    if selector.step.is_none() {
        let filter = JobFilter { job_ids: vec![selector.job_id], ..JobFilter::default() };
        let request = proto::v1::ListJobsRequest {
            filter: Some(filter),
            include_ended: false,
            with_steps: true,
            all: true,
        };
        let found = match session.client().await {
            Ok(client) => client.list_jobs(request).await,
            Err(error) => Err(error),
        };
        let jobs = match found {
            Ok((jobs, _)) => jobs,
            Err(Error::Refused { .. }) => Vec::new(),
            Err(error) => return session.fail_call("slurm_load_jobs", &error),
        };
        let jobs = jobs.iter().filter(|job| selector.select(job).is_some());
        let live = jobs.flat_map(|job| job.steps.iter().filter(|step| step.end_ms.is_none()));
        named = live.map(|step| Selector { step: Some(step.step_id.clone()), ..selector.clone() }).collect();
        if named.is_empty() {
            return session.fail(invalid);
        }
    }
    for one in named {
        let update = UpdateJob { job: Some(wire(&one)), changes: changes.clone() };
        object_update(session, Act::UpdateJob(update)).await;
    }
}

async fn update_one(session: &mut Session, selector: &Selector, changes: &[KeyValue]) {
    let update = UpdateJob { job: Some(wire(selector)), changes: changes.to_vec() };
    let Some(outcomes) = send(session, "slurm_update", Act::UpdateJob(update)).await else { return };
    for outcome in outcomes {
        if let Some(refused) = outcome.refused {
            refused.lines.iter().for_each(|line| session.fail_with_name(line));
            session.fail(match outcome.object.split_once('_') {
                Some((array, task)) => format!("{array}_[{task}]: {}", refusal(refused.number)),
                None => format!("{} for job {}", refusal(refused.number), outcome.object),
            });
        }
    }
}

/// All of the user's waiting or running jobs of a name.
async fn jobs_named(session: &mut Session, name: &str, pairs: &[(String, String)]) {
    let Some(changes) = job_changes(session, pairs, true) else { return };
    let filter = JobFilter {
        names: vec![name.to_owned()],
        uids: vec![nix::unistd::getuid().as_raw()],
        ..JobFilter::default()
    };
    let found = match session.client().await {
        Ok(client) => client.jobs(filter, false).await,
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return session.fail_call("slurm_load_jobs", &error),
    };
    let ids: Vec<u32> =
        found.iter().filter(|job| job::request(job).name == name).map(|job| job.job_id).collect();
    if ids.is_empty() {
        return session.fail(format!("No jobs with name {name}"));
    }
    for id in ids {
        if let Some(selector) = Selector::parse(&id.to_string()) {
            update_one(session, &selector, &changes).await;
        }
    }
}

/// States that a node can be given.
const NODE_STATES: [&str; 13] = [
    "CANCEL_REBOOT",
    "DOWN",
    "DRAIN",
    "FAIL",
    "FUTURE",
    "IDLE",
    "NORESP",
    "POWER_DOWN",
    "POWER_DOWN_ASAP",
    "POWER_DOWN_FORCE",
    "POWER_UP",
    "RESUME",
    "UNDRAIN",
];

async fn nodes(session: &mut Session, nodes: String, pairs: &[(String, String)]) {
    const KEYS: [(&str, usize); 13] = [
        ("ActiveFeatures", 3),
        ("AvailableFeatures", 3),
        ("Comment", 3),
        ("CpuBind", 7),
        ("Extra", 3),
        ("Features", 1),
        ("Gres", 1),
        ("NodeAddr", 5),
        ("NodeHostname", 5),
        ("Reason", 1),
        ("ResumeAfter", 10),
        ("State", 1),
        ("Weight", 1),
    ];
    let mut changes = Vec::new();
    for (key, value) in pairs.iter().filter(|(key, _)| !is(key, "NodeName", 3)) {
        let Some((name, _)) = KEYS.iter().find(|(word, least)| is(key, word, *least)) else {
            session.fail(format!("Update of this parameter is not supported: {key}={value}"));
            session.fail("Request aborted");
            return;
        };
        let mut value = value.clone();
        if *name == "State" {
            let typed = value.clone();
            value.make_ascii_uppercase();
            let Some(state) = NODE_STATES.iter().find(|state| state.starts_with(&value)) else {
                session.fail(format!("Invalid input: {key}={typed}"));
                session.fail("Request aborted");
                session.fail("Valid states are: NoResp DRAIN FAIL FUTURE RESUME POWER_DOWN POWER_UP UNDRAIN");
                session.fail("Not all states are valid given a node's prior state");
                return;
            };
            value = (*state).to_owned();
        }
        changes.push(KeyValue { key: (*name).to_owned(), value });
    }
    let value_of =
        |key: &str| changes.iter().find(|change| change.key == key).map(|change| change.value.as_str());
    let needs_reason = matches!(value_of("State"), Some("DOWN" | "DRAIN" | "FAIL"));
    if needs_reason && value_of("Reason").is_none_or(str::is_empty) {
        session.fail("You must specify a reason when DOWNING or DRAINING a node. Request denied");
        return;
    }
    if changes.is_empty() {
        return session.fail("No changes specified");
    }
    object_update(session, Act::UpdateNodes(UpdateNodes { nodes, changes })).await;
}

async fn object_update(session: &mut Session, act: Act) {
    let Some(outcomes) = send(session, "slurm_update", act).await else { return };
    if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
        refused.lines.iter().for_each(|line| session.fail_with_name(line));
        session.fail(format!("slurm_update error: {}", refusal(refused.number)));
    }
}

/// The attributes of a partition with full names; `None` after a complaint.
fn partition_changes(session: &mut Session, pairs: &[(String, String)]) -> Option<Vec<KeyValue>> {
    const KEYS: [(&str, usize); 36] = [
        ("AllocNodes", 6),
        ("AllowAccounts", 7),
        ("AllowGroups", 6),
        ("AllowQos", 6),
        ("Alternate", 3),
        ("CpuBind", 7),
        ("Default", 7),
        ("DefaultTime", 8),
        ("DefMemPerCPU", 10),
        ("DefMemPerNode", 10),
        ("DenyAccounts", 5),
        ("DenyQos", 5),
        ("DisableRootJobs", 8),
        ("ExclusiveUser", 3),
        ("GraceTime", 5),
        ("Hidden", 1),
        ("JobDefaults", 3),
        ("LLN", 3),
        ("MaxCPUsPerNode", 11),
        ("MaxCPUsPerSocket", 11),
        ("MaxMemPerCPU", 10),
        ("MaxMemPerNode", 10),
        ("MaxNodes", 4),
        ("MaxTime", 4),
        ("MinNodes", 2),
        ("Nodes", 1),
        ("OverSubscribe", 5),
        ("OverTimeLimit", 5),
        ("PreemptMode", 3),
        ("Priority", 8),
        ("PriorityJobFactor", 9),
        ("PriorityTier", 9),
        ("QoS", 2),
        ("ReqResv", 1),
        ("RootOnly", 1),
        ("TRESBillingWeights", 1),
    ];
    let mut changes = Vec::new();
    for (key, value) in pairs.iter().filter(|(key, _)| !is(key, "PartitionName", 3)) {
        if is(key, "State", 2) {
            const STATES: [&str; 4] = ["INACTIVE", "DOWN", "UP", "DRAIN"];
            let upper = value.to_ascii_uppercase();
            let Some(state) = STATES.iter().find(|state| !upper.is_empty() && state.starts_with(&upper))
            else {
                session.fail_with_name(format!("Invalid input: {key}={value}"));
                session.fail_with_name("Acceptable State values are UP, DOWN, DRAIN and INACTIVE");
                return None;
            };
            changes.push(KeyValue { key: "State".to_owned(), value: (*state).to_owned() });
            continue;
        }
        let Some((name, _)) = KEYS.iter().find(|(word, least)| is(key, word, *least)) else {
            session.fail(format!("Update of this parameter is not supported: {key}={value}"));
            session.fail("Request aborted");
            return None;
        };
        if matches!(*name, "MaxTime" | "DefaultTime")
            && !value.eq_ignore_ascii_case("NONE")
            && limit::parse(value).is_err()
        {
            session.fail_with_name(format!("Invalid input {key}={value}"));
            return None;
        }
        changes.push(KeyValue { key: (*name).to_owned(), value: value.clone() });
    }
    Some(changes)
}

async fn partition(session: &mut Session, name: String, pairs: &[(String, String)]) {
    let Some(changes) = partition_changes(session, pairs) else { return };
    if changes.is_empty() {
        return session.fail("No changes specified");
    }
    object_update(session, Act::UpdatePartition(UpdatePartition { name, changes })).await;
}

/// `create PartitionName=… …`.
pub(super) async fn create(session: &mut Session, words: &[String]) {
    let pairs = pairs(words);
    let named = |word: &str, least| {
        pairs.iter().find(|(key, _)| is(key, word, least)).map(|(_, value)| value.clone())
    };
    if words[0].get(..3).is_some_and(|head| head.eq_ignore_ascii_case("res")) {
        reservation::create(session, words).await;
    } else if let Some(name) = named("PartitionName", 3) {
        let Some(attributes) = partition_changes(session, &pairs) else { return };
        let act = Act::CreatePartition(CreatePartition { name, attributes });
        let Some(outcomes) = send(session, "slurm_create_partition", act).await else { return };
        if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
            refused.lines.iter().for_each(|line| session.fail_with_name(line));
            session.fail(format!("Error creating the partition: {}", refusal(refused.number)));
        }
    } else if named("NodeName", 3).is_some() {
        session.fail_with_name("create NodeName is not supported by sluice yet");
    } else {
        session.fail_with_name(format!("Invalid creation entity: {}", words[0]));
    }
}

/// `delete PartitionName=NAME`, or `delete PartitionName NAME`.
pub(super) async fn delete(session: &mut Session, words: &[String]) {
    let (key, value) = match (words[0].split_once('='), words.get(1)) {
        (Some(pair), _) => pair,
        (None, Some(value)) => (words[0].as_str(), value.as_str()),
        (None, None) => {
            return session
                .fail_with_name("Proper format is 'delete <ENTITY>=<ID>' or 'delete <ENTITY> <ID>'");
        }
    };
    if is(key, "PartitionName", 1) {
        let act = Act::DeletePartition(DeletePartition { name: value.to_owned() });
        let Some(outcomes) = send(session, "slurm_delete_partition", act).await else { return };
        if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
            session.fail(format!("delete_partition {}: {}", words[0], refusal(refused.number)));
        }
    } else if is(key, "ReservationName", 1) {
        reservation::delete(session, &words[0], value).await;
    } else if is(key, "NodeName", 1) {
        session.fail_with_name("delete NodeName is not supported by sluice yet");
    } else {
        session.fail(format!("Invalid deletion entity: {}", words[0]));
    }
}
