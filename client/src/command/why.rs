//! `sluice why JOB`: why a job waits, who holds what it needs, when it starts, and what would start it now.
//!
//! Prints what the scheduler found; judges nothing.

use model::job::JobState;
use model::refusal::Refusal;
use proto::v1::{
    self, ExplainReply, ExplainRequest, Explanation, HeldTo, Job, JobFilter, ListJobsRequest, Outlook,
    SingleChange, Step, Witness,
};
use serde_json::{Value, json};

use super::json::outlook as outlook_value;
use super::{Call, block_on, job, past, supervisor};
use crate::api::{Client, Error};
use crate::getopt::Takes::Nothing;
use crate::getopt::{self, Spec};
use crate::table::units::{clock, elapsed, memory};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Help,
    Json,
}

const OPTIONS: &[Spec<O>] =
    &[Spec::new(O::Help, b'h', "help", Nothing), Spec::long(O::Json, "json", Nothing)];

/// How its options are written.
pub(super) fn shapes() -> Vec<getopt::Shape> {
    getopt::shapes(OPTIONS, |_| true)
}

/// Nodes of a step that are asked what holds it.
const NODES_ASKED: usize = 4;
/// Changes that are shown; the rest stands in `--json`.
const CHANGES_SHOWN: usize = 6;

const HELP: &str = "\
Usage: sluice why JOB [--json]

Says why a job waits: the constraint that binds, the nodes by what rules them out, the
jobs that hold what it needs and until when, its planned start, what moving smaller slices
out of its way would save and cost, and the single changes of its request that would start it now. Of a job that has ended: what ended it, what it
used of what it asked for, where its output is and its last lines, as far as the asker
may read them. JOB is 12, or 12_3 for an element of an array.
";

/// Runs the verb: 0, 1 for a job that is not there or no answer, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let Ok(words) = call.split(OPTIONS) else { return 2 };
    if words.options.iter().any(|given| given.id == O::Help) {
        say::out(HELP);
        return 0;
    }
    let as_json = words.options.iter().any(|given| given.id == O::Json);
    let [word] = &words.operands[..] else {
        say::err(HELP.trim_end());
        return 2;
    };
    let text = word.to_string_lossy();
    let Some(request) = request(&text) else { return unknown(call) };
    let answer =
        block_on(async { Ok(super::connect_to_ask().await?.raw().explain(request).await?.into_inner()) });
    let mut reply: ExplainReply = match answer {
        Ok(reply) => reply,
        Err(error) => return failed(call, &error),
    };
    if let Some(refused) = reply.refused.take()
        && refused.number != Refusal::InvalidJobId.number()
    {
        return failed(call, &refused.into());
    }
    // One that has ended is told with its steps, also where it left the scheduler's memory.
    let over = reply.job.as_ref().is_none_or(|job| !job::is_active(job) && reply.waiting.is_none());
    if over && let Some(selector) = job::Selector::parse(&text) {
        match block_on(past::find(&selector)) {
            Ok(jobs) => reply.job = jobs.into_iter().next_back().or(reply.job),
            Err(error) => return failed(call, &error),
        }
        reply.now_ms = reply.now_ms.max(local::now_ms());
    }
    if let Some(job) = reply.job.as_mut().filter(|job| job::is_active(job) && job.start_ms.is_some()) {
        // What cannot be asked, or may not be by this user, is not said.
        job.steps = block_on(running(job.job_id)).unwrap_or_default();
    }
    let Some(job) = &reply.job else { return unknown(call) };
    say::out(if as_json { document(job, &reply) } else { text_of(job, &reply, text.contains('_')) });
    0
}

/// The steps of a job that runs, each with what its supervisors say that it is held to.
async fn running(job_id: u32) -> Result<Vec<Step>, Error> {
    let filter = JobFilter { job_ids: vec![job_id], ..JobFilter::default() };
    let request = ListJobsRequest { filter: Some(filter), include_ended: true, with_steps: true, all: true };
    let (jobs, _) = super::connect_to_ask().await?.list_jobs(request).await?;
    let mut steps: Vec<Step> = jobs.into_iter().flat_map(|job| job.steps).collect();
    for step in steps.iter_mut().filter(|step| step.end_ms.is_none()) {
        let names = step.allocation.iter().map(|share| share.node.clone());
        for (node, socket) in names.zip(&step.sockets).take(NODES_ASKED) {
            let said = supervisor::ask(socket).await.ok().and_then(|said| said.account);
            let text = said.map(|account| account.held).filter(|text| !text.is_empty());
            if let Some(text) = text.filter(|text| step.held.iter().all(|known| known.text != *text)) {
                step.held.push(HeldTo { node, text });
            }
        }
    }
    Ok(steps)
}

/// What is said of a job, in lines.
pub(super) async fn lines(client: &Client, job_id: u32, task: Option<u32>) -> Result<Vec<String>, Error> {
    let reply = client.raw().explain(ExplainRequest { job_id, task }).await?.into_inner();
    match (&reply.refused, &reply.job) {
        (None, Some(job)) => Ok(text_of(job, &reply, task.is_some()).lines().map(str::to_owned).collect()),
        (Some(refused), _) => Err(refused.clone().into()),
        (None, None) => Ok(Vec::new()),
    }
}

/// The job, or the element of an array, that a word means.
fn request(text: &str) -> Option<ExplainRequest> {
    let selector = job::Selector::parse(text).filter(|selector| selector.step.is_none())?;
    let task = match &selector.tasks {
        None => None,
        Some(tasks) if tasks.len() == 1 => tasks.first(),
        Some(_) => return None,
    };
    Some(ExplainRequest { job_id: selector.job_id, task })
}

fn unknown(call: &Call) -> u8 {
    say::error(&call.program, Refusal::InvalidJobId.text());
    1
}

/// Tells a failure: the lines of a refusal, its text, what else helps.
pub(super) fn failed(call: &Call, error: &Error) -> u8 {
    if let Error::Refused { lines, .. } = error {
        lines.iter().for_each(|line| say::error(&call.program, line));
    }
    say::error(&call.program, say::reason(error));
    say::explain(&call.program, error);
    1
}

/// A moment with how far it is from now: `2026-11-25T23:50:00 (in 12:03)`.
pub(super) fn when(ms: i64, now_ms: i64) -> String {
    let away = (ms - now_ms).div_euclid(1000);
    match away {
        0 => format!("{} (now)", local::date(ms)),
        1.. => format!("{} (in {})", local::date(ms), elapsed(away)),
        _ => format!("{} ({} ago)", local::date(ms), elapsed(-away)),
    }
}

fn text_of(job: &Job, reply: &ExplainReply, one_element: bool) -> String {
    let name = &job::request(job).name;
    let head = format!("job {} \"{name}\" of {}", job::id(job), job.user);
    match &reply.waiting {
        Some(waiting) => waits(&head, job, waiting, reply.now_ms, one_element),
        None => past_or_present(&head, job, reply.now_ms),
    }
}

/// A job that runs or has ended, or that started while it was asked about.
fn past_or_present(head: &str, job: &Job, now_ms: i64) -> String {
    let state = job::state(job);
    let on = if job.node_list.is_empty() { String::new() } else { format!(" on {}", job.node_list) };
    let reason = job::reason(job);
    let because = if reason == "None" { String::new() } else { format!("  reason    {reason}\n") };
    match state {
        JobState::Pending => format!("{head} waits\n{because}"),
        JobState::Completing => {
            format!("{head} is ending{on}: its processes are being cleared up\n{because}") + &evidence(job)
        }
        state if job::is_active(job) => {
            let started = job.start_ms.map(|at| when(at, now_ms)).unwrap_or_default();
            let end = match job::end_ms(job) {
                Some(end) => format!("  it ends at the latest {}\n", when(end, now_ms)),
                None => "  it has no time limit\n".to_owned(),
            };
            let text = format!("{head} is {}{on} in {} since {started}\n", state.long(), job.partition);
            let held =
                past::held(job).into_iter().map(|text| format!("  held to   {text}\n")).collect::<String>();
            text + &end + &because + &held + &evidence(job)
        }
        state => {
            let ended = job.end_ms.map(|at| when(at, now_ms)).unwrap_or_default();
            let exit = job::exit(job.exit);
            let head = format!("{head} has ended: {}, exit code {exit}, {ended}\n", state.long());
            head + &past::text(job, now_ms)
        }
    }
}

/// What a run waits for of which nobody knows what became of it.
fn evidence(job: &Job) -> String {
    let (nodes, what) = match job.reason_detail.split_once(':') {
        Some(("RunUnknownOn", nodes)) => (
            nodes,
            "the executor has come back without its spool, so nobody knows whether the job runs there",
        ),
        Some(("NotResponding", nodes)) => (nodes, "the executor is not heard of; the job may well run on"),
        _ => return String::new(),
    };
    format!(
        "  waits     for evidence from {nodes}: {what}\n  \
           it is neither given up nor run again before the executor or a new boot of the node tells, or an\n  \
           administrator confirms that nothing of it runs there:\n    \
             scontrol update NodeName={nodes} State=DOWN Reason=confirmed\n"
    )
}

fn waits(head: &str, job: &Job, waiting: &Explanation, now_ms: i64, one_element: bool) -> String {
    let reason = if waiting.reason == "None" { String::new() } else { format!(" ({})", waiting.reason) };
    let mut out = format!("{head} waits{reason}: {}\n", sentence(job, waiting, now_ms));
    if one_element && job.array_task_id.is_none() {
        out.push_str("  what follows is said of all elements that wait\n");
    }
    out.push_str(&format!("  asks for  {}\n", asks_for(job)));
    for term in &waiting.dependencies {
        out.push_str(&format!("  depends   {}\n", dependency(term, now_ms)));
    }
    for one in &waiting.licenses {
        let free = one.total.saturating_sub(one.used);
        out.push_str(&format!(
            "  license   {}: {} asked for, {free} of {} free\n",
            one.name, one.wanted, one.total
        ));
    }
    // Where something of the job itself binds, nodes matter only if they would be short then.
    let own = ["hold", "begin", "dependency", "licenses", "throttle"].contains(&waiting.binding.as_str());
    if !own || waiting.lifted.as_ref().is_some_and(|outlook| !outlook.now) {
        waiting.partitions.iter().for_each(|partition| out.push_str(&partition_text(partition)));
    }
    witnesses(&mut out, waiting, now_ms);
    out.push_str(&format!("  queue     {}\n", place(waiting)));
    out.push_str(&format!("  planned   {}\n", planned(waiting, now_ms)));
    if let Some(moves) = &waiting.moves {
        out.push_str(&format!("  moves     {}\n", moves.words));
    }
    changes(&mut out, job, waiting);
    out
}

/// What binds, with the times that the scheduler leaves to us.
fn sentence(job: &Job, waiting: &Explanation, now_ms: i64) -> String {
    match (waiting.binding.as_str(), job::request(job).begin_ms.or(job.eligible_ms)) {
        ("begin", Some(at)) if at > now_ms => format!("it begins not before {}", when(at, now_ms)),
        _ => waiting.words.clone(),
    }
}

fn asks_for(job: &Job) -> String {
    let count = |count: u32, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let nodes = match job.num_nodes_max {
        Some(most) if most > job.num_nodes => format!("{}-{most} nodes", job.num_nodes),
        Some(_) | None => count(job.num_nodes, "node"),
    };
    let mut parts = vec![nodes, count(job.num_tasks, "task"), count(job.num_cpus, "CPU")];
    let (per_cpu, mib) = job::min_memory(job);
    if mib > 0 {
        parts.push(format!("{} a {}", memory(mib, true), if per_cpu { "CPU" } else { "node" }));
    }
    parts.extend(job::tres_per_node(job).map(|text| format!("{text} a node")));
    let request = job::request(job);
    parts.extend(job::tres(&[&request.gpus_per_task]).map(|text| format!("{text} a task")));
    parts.extend(job::tres(&[&request.gpus_per_job]));
    if job.exclusive {
        parts.push("whole nodes".to_owned());
    }
    parts.extend(request.constraint.as_ref().map(|text| format!("features {text}")));
    parts.push(match job.time_limit_ms {
        Some(ms) if ms >= 0 => format!("limit {}", clock(ms / 1000)),
        Some(_) => "no time limit".to_owned(),
        None => "the partition's time limit".to_owned(),
    });
    parts.join(", ")
}

fn dependency(term: &v1::DependencyStanding, now_ms: i64) -> String {
    let state = match (term.state.as_str(), term.job_id) {
        (_, 0) => String::new(),
        ("", _) => ", that job is not known any more".to_owned(),
        (state, _) => format!(", that job is {state}"),
    };
    let until = term.expected_ms.map(|at| format!(" and ends at the latest {}", when(at, now_ms)));
    format!("{} is {}{state}{}", term.term, term.standing, until.unwrap_or_default())
}

fn partition_text(partition: &v1::PartitionStanding) -> String {
    let mut out = format!(
        "  partition {}: of {} node{} it needs {}\n",
        partition.partition,
        partition.nodes,
        if partition.nodes == 1 { "" } else { "s" },
        partition.wanted
    );
    if let Some(forbids) = &partition.forbids {
        out.push_str(&format!("            {forbids}\n"));
    }
    let width = partition.causes.iter().map(|cause| cause.words.len()).max().unwrap_or(0);
    for cause in &partition.causes {
        out.push_str(&format!("            {:>3} {:<width$}  {}\n", cause.count, cause.words, cause.nodes));
    }
    out
}

fn witnesses(out: &mut String, waiting: &Explanation, now_ms: i64) {
    for (place, one) in waiting.witnesses.iter().enumerate() {
        let key = match (place, one.role.as_str()) {
            (0, "promised" | "starts") => "promised",
            (0, _) => "held by",
            _ => "",
        };
        out.push_str(&format!("  {key:<9} {}\n", witness(one, now_ms)));
    }
    if waiting.witnesses_more > 0 {
        out.push_str(&format!("            and {} more\n", waiting.witnesses_more));
    }
}

fn witness(one: &Witness, now_ms: i64) -> String {
    let who = if one.job_id == 0 {
        "a job of another user".to_owned()
    } else {
        format!("job {} of {}", one.id, one.user)
    };
    let mut held = Vec::new();
    if one.cpus > 0 {
        held.push(format!("{} CPU{}", one.cpus, if one.cpus == 1 { "" } else { "s" }));
    }
    if one.memory_mib > 0 {
        held.push(memory(one.memory_mib, true));
    }
    if !one.others.is_empty() {
        held.push(one.others.clone());
    }
    let held = if held.is_empty() { String::new() } else { format!(": {}", held.join(", ")) };
    let on = if one.nodes.is_empty() { String::new() } else { format!(" on {}", one.nodes) };
    match (one.role.as_str(), one.start_ms, one.until_ms) {
        ("starts", _, _) => format!("{who}: starts in this pass{on}"),
        ("promised", Some(start), until) => {
            let until = until.map(|until| format!(" until {}", local::date(until))).unwrap_or_default();
            format!("{who}: to start {}{on}{until}", when(start, now_ms))
        }
        (_, _, Some(until)) if until <= now_ms => {
            format!("{who}{held}{on}, over its time since {}", local::date(until))
        }
        (_, _, Some(until)) => format!("{who}{held}{on} until {}", when(until, now_ms)),
        (_, _, None) => format!("{who}{held}{on}, without a time limit"),
    }
}

fn place(waiting: &Explanation) -> String {
    let behind = waiting.queued.saturating_sub(waiting.ahead + 1);
    match waiting.ahead {
        0 => format!("first in order, {behind} behind it"),
        ahead => format!("{ahead} ahead of it, {behind} behind it"),
    }
}

/// `2026-11-25T23:50:00 (in 12:03) on n1 in main`.
fn outlook(outlook: &Outlook, now_ms: i64) -> Option<String> {
    let on = format!(" on {} in {}", outlook.nodes, outlook.partition);
    match outlook.start_ms {
        _ if outlook.now => Some(format!("in the next pass{on}")),
        Some(at) => Some(format!("{}{on}", when(at, now_ms))),
        None => None,
    }
}

fn planned(waiting: &Explanation, now_ms: i64) -> String {
    let text = |of: &Option<Outlook>| of.as_ref().and_then(|of| outlook(of, now_ms));
    if let Some(text) = text(&waiting.outlook) {
        return text;
    }
    let without = match waiting.binding.as_str() {
        "hold" => "if it were released now",
        "begin" => "if its begin time had come",
        "dependency" => "if it depended on nothing",
        _ => return "no start is known".to_owned(),
    };
    match text(&waiting.lifted) {
        Some(text) => format!("no start is known; {without}: {text}"),
        None => format!("no start is known, nor would be {without}"),
    }
}

fn changes(out: &mut String, job: &Job, waiting: &Explanation) {
    if waiting.binding == "nothing" {
        return;
    }
    let requests = format!("{} request{} tried", waiting.tried, if waiting.tried == 1 { "" } else { "s" });
    if waiting.changes.is_empty() {
        out.push_str(&format!(
            "  change    no single change of the request would start it now ({requests})\n"
        ));
    }
    for (place, change) in waiting.changes.iter().take(CHANGES_SHOWN).enumerate() {
        let key = if place == 0 { "change" } else { "" };
        out.push_str(&format!("  {key:<9} {}\n", change_text(change)));
    }
    let more = waiting.changes.len().saturating_sub(CHANGES_SHOWN);
    if more > 0 {
        out.push_str(&format!("            and {more} more (--json shows all)\n"));
    }
    if waiting.gave_up {
        out.push_str("            the queue is long: not every change was tried\n");
    }
    if let Some(hint) = waiting.changes.first().and_then(|change| hint(job, waiting, change)) {
        out.push_str(&format!("  hint      {hint}\n"));
    }
}

/// `--time=00:30:00 instead of 02:00:00 would start it now on n7`.
fn change_text(change: &SingleChange) -> String {
    let on = format!("would start it now on {} in {}", change.nodes, change.partition);
    match (change.option.as_str(), change.to.as_str()) {
        ("--hold", _) => format!("releasing it {on}"),
        ("--begin", _) => format!("an earlier --begin {on}"),
        ("--exclusive" | "--contiguous", "") => format!("leaving out {} {on}", change.option),
        (option, "") => format!("leaving out {option}={} {on}", change.from),
        (option, to) => format!("{option}={to} instead of {} {on}", change.from),
    }
}

/// The command that makes the smallest change.
fn hint(job: &Job, waiting: &Explanation, change: &SingleChange) -> Option<String> {
    let id = job.array_job_id.filter(|_| job.array_task_id.is_none()).unwrap_or(job.job_id);
    if waiting.binding == "hold" {
        return Some(format!("scontrol release {id}"));
    }
    (!change.update.is_empty()).then(|| format!("scontrol update JobId={id} {}", change.update))
}

fn seconds(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| Value::from(ms / 1000))
}

/// All of it, times in seconds since 1970.
fn document(job: &Job, reply: &ExplainReply) -> String {
    let waiting = reply.waiting.as_ref().map_or(Value::Null, waiting_value);
    let ended = crate::api::has_ended(job);
    let value = json!({
        "job_id": job.job_id,
        "id": job::id(job),
        "name": job::request(job).name,
        "user": job.user,
        "partition": job.partition,
        "state": job.state,
        "reason": if job.reason.is_empty() { "None" } else { &job.reason },
        "priority": job.priority,
        "now": reply.now_ms / 1000,
        "submit": job.submit_ms / 1000,
        "start": seconds(if reply.waiting.is_some() { None } else { job.start_ms }),
        "end": seconds(if reply.waiting.is_some() { None } else { job::end_ms(job) }),
        "nodes": job.node_list,
        "exit": if ended { Value::from(job::exit(job.exit)) } else { Value::Null },
        "waiting": waiting,
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

fn waiting_value(waiting: &Explanation) -> Value {
    let dependencies = waiting.dependencies.iter().map(|term| {
        json!({
            "term": term.term, "standing": term.standing, "job_id": term.job_id,
            "state": term.state, "ends": seconds(term.expected_ms),
        })
    });
    let licenses = waiting
        .licenses
        .iter()
        .map(|one| json!({"name": one.name, "wanted": one.wanted, "used": one.used, "total": one.total}));
    let partitions = waiting.partitions.iter().map(|partition| {
        let causes = partition.causes.iter().map(|cause| {
            json!({
                "count": cause.count, "cause": cause.words, "nodes": cause.nodes, "usable": cause.usable,
            })
        });
        json!({
            "partition": partition.partition, "nodes": partition.nodes, "wanted": partition.wanted,
            "forbids": partition.forbids, "causes": causes.collect::<Vec<_>>(),
        })
    });
    let witnesses = waiting.witnesses.iter().map(|one| {
        json!({
            "job_id": one.job_id, "id": one.id, "user": one.user, "role": one.role, "nodes": one.nodes,
            "cpus": one.cpus, "memory_mib": one.memory_mib, "others": one.others,
            "start": seconds(one.start_ms), "until": seconds(one.until_ms),
        })
    });
    let changes = waiting.changes.iter().map(|change| {
        json!({
            "option": change.option, "from": change.from, "to": change.to, "update": change.update,
            "nodes": change.nodes, "partition": change.partition,
        })
    });
    json!({
        "reason": waiting.reason,
        "binding": waiting.binding,
        "words": waiting.words,
        "ahead": waiting.ahead,
        "queued": waiting.queued,
        "dependencies": dependencies.collect::<Vec<_>>(),
        "licenses": licenses.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
        "witnesses": witnesses.collect::<Vec<_>>(),
        "witnesses_more": waiting.witnesses_more,
        "outlook": outlook_value(waiting.outlook.as_ref()),
        "lifted": outlook_value(waiting.lifted.as_ref()),
        "changes": changes.collect::<Vec<_>>(),
        "tried": waiting.tried,
        "gave_up": waiting.gave_up,
        "moves": waiting.moves.as_ref().map(|moves| json!({
            "verdict": moves.verdict, "words": moves.words, "enabled": moves.enabled,
            "job_ids": moves.job_ids, "gain": moves.gain, "cost": moves.cost,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_name_a_job() {
        let plain = |job_id, task| Some(ExplainRequest { job_id, task });
        let table = [("12", plain(12, None)), ("12_3", plain(12, Some(3))), ("12_[3]", plain(12, Some(3)))];
        table.iter().for_each(|(text, expected)| assert_eq!(request(text), *expected, "{text}"));
        ["", "x", "12_[1-3]", "12.0", "-1", "0"]
            .iter()
            .for_each(|text| assert_eq!(request(text), None, "{text}"));
    }

    #[test]
    fn what_is_said_of_a_waiting_job() {
        let row = Job {
            job_id: 7,
            user: "alice".into(),
            state: "PENDING".into(),
            num_nodes: 1,
            num_tasks: 1,
            num_cpus: 4,
            time_limit_ms: Some(7_200_000),
            request: Some(v1::JobRequest { name: "train".into(), ..Default::default() }),
            ..Default::default()
        };
        let waiting = Explanation {
            reason: "Resources".into(),
            binding: "nodes".into(),
            words: "too few nodes have what it needs".into(),
            partitions: vec![v1::PartitionStanding {
                partition: "main".into(),
                nodes: 3,
                wanted: 1,
                forbids: None,
                causes: vec![
                    v1::NodeCause { words: "is drained".into(), count: 1, nodes: "n1".into(), usable: false },
                    v1::NodeCause {
                        words: "have too few free CPUs".into(),
                        count: 2,
                        nodes: "n[2-3]".into(),
                        usable: false,
                    },
                ],
            }],
            witnesses: vec![Witness {
                job_id: 4,
                id: "4".into(),
                user: "bob".into(),
                role: "runs".into(),
                nodes: "n2".into(),
                cpus: 4,
                ..Default::default()
            }],
            queued: 1,
            outlook: Some(Outlook::default()),
            changes: vec![SingleChange {
                option: "--time".into(),
                from: "02:00:00".into(),
                to: "00:30:00".into(),
                update: "TimeLimit=00:30:00".into(),
                nodes: "n2".into(),
                partition: "main".into(),
            }],
            tried: 9,
            ..Default::default()
        };
        let reply = ExplainReply { waiting: Some(waiting), job: Some(row.clone()), ..Default::default() };
        let expected = "\
job 7 \"train\" of alice waits (Resources): too few nodes have what it needs
  asks for  1 node, 1 task, 4 CPUs, limit 02:00:00
  partition main: of 3 nodes it needs 1
              1 is drained              n1
              2 have too few free CPUs  n[2-3]
  held by   job 4 of bob: 4 CPUs on n2, without a time limit
  queue     first in order, 0 behind it
  planned   no start is known
  change    --time=00:30:00 instead of 02:00:00 would start it now on n2 in main
  hint      scontrol update JobId=7 TimeLimit=00:30:00
";
        assert_eq!(text_of(&row, &reply, false), expected);
        let value: Value = serde_json::from_str(&document(&row, &reply)).unwrap();
        assert_eq!(value["waiting"]["changes"][0]["to"], "00:30:00");
        assert_eq!(value["waiting"]["outlook"]["start"], Value::Null);
    }
}
