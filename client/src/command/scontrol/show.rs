//! `scontrol show ENTITY [ID]`.

use model::refusal::Refusal;
use proto::v1::{Job, JobFilter, ListJobsRequest, Node};

use super::super::job::{self, Selector};
use super::{Session, hosts, is, reservation, show_job, show_node, topology};
use crate::api::{Client, Error};
use crate::command::json;
use crate::{local, say};

/// Shows what the words ask for.
pub(super) async fn run(session: &mut Session, words: &[String]) {
    let entity = words[0].as_str();
    // "show job=7" and "show jobid=7" are as good as "show job 7".
    let (entity, joined) = match entity.split_once('=') {
        Some((entity, value)) => (entity, Some(value)),
        None => (entity, None),
    };
    let value = joined.or(words.get(1).map(String::as_str));
    if is(entity, "hostnames", 5) {
        hosts::names(session, value);
    } else if is(entity, "hostlistsorted", 9) {
        hosts::list(session, value, true);
    } else if is(entity, "hostlist", 5) {
        hosts::list(session, value, false);
    } else if is(entity, "jobs", 1) || is(entity, "jobid", 1) {
        report(session, jobs(session_value(value)), value).await;
    } else if is(entity, "nodes", 1) || is(entity, "nodename", 5) {
        nodes(session, value).await;
    } else if is(entity, "partitions", 1) || is(entity, "partitionname", 10) {
        partitions(session, value).await;
    } else if is(entity, "steps", 3) || is(entity, "stepid", 5) {
        steps(session, value).await;
    } else if is(entity, "config", 1) {
        config(session).await;
    } else if is(entity, "licenses", 3) {
        licenses(session, value).await;
    } else if is(entity, "reservations", 1) || is(entity, "reservationname", 12) {
        reservation::show(session, value).await;
    } else if is(entity, "assoc_mgr", 2) {
        associations(session, &words[1..]).await;
    } else if is(entity, "topology", 1) {
        topology::show(session, value).await;
    } else if is(entity, "burstbuffer", 2)
        || is(entity, "bbstat", 2)
        || is(entity, "federation", 3)
        || is(entity, "dwstat", 2)
    {
        // Nothing of the kind is configured, and Slurm prints nothing then.
    } else if is(entity, "aliases", 1) {
        aliases(session, value).await;
    } else if is(entity, "daemons", 1) {
        daemons(session).await;
    } else if is(entity, "slurmd", 1) {
        session.fail_with_name(format!("show {entity} is not supported by sluice yet"));
    } else {
        session.fail(format!("invalid entity:{entity} for keyword:show"));
    }
}

fn session_value(value: Option<&str>) -> Option<String> {
    value.map(str::to_owned)
}

/// Which jobs are asked for: their selectors, or all.
fn jobs(value: Option<String>) -> Result<Vec<Selector>, ()> {
    let Some(value) = value else { return Ok(Vec::new()) };
    job::split_ids(&value).into_iter().map(|item| Selector::parse(item).ok_or(())).collect()
}

/// Asks for jobs; `None` after a failure that has been told.
async fn load(
    session: &mut Session,
    selectors: &[Selector],
    with_steps: bool,
    function: &str,
) -> Option<(Vec<Job>, i64)> {
    let filter =
        JobFilter { job_ids: selectors.iter().map(|one| one.job_id).collect(), ..JobFilter::default() };
    let all = session.all || !selectors.is_empty();
    let request = ListJobsRequest { filter: Some(filter), include_ended: true, with_steps, all };
    let answer = match session.client().await {
        Ok(client) => client.list_jobs(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok((jobs, _)) if jobs.is_empty() && selectors.len() == 1 => {
            session.fail(format!("{function} {}", Refusal::InvalidJobId));
            None
        }
        Ok((mut jobs, now_ms)) => {
            jobs.sort_by_key(|job| job.job_id);
            if !selectors.is_empty() {
                let chosen = |job: &Job| selectors.iter().find_map(|selector| selector.select(job));
                jobs = jobs.iter().filter_map(chosen).collect();
            }
            Some((jobs, now_ms))
        }
        Err(error) => {
            session.fail(format!("{function} {}", say::reason(&error)));
            if !session.quiet {
                say::explain(&session.program, &error);
            }
            None
        }
    }
}

/// With `-v`: when what follows was true, and how many records it was chosen from.
pub(super) fn since(session: &Session, records: usize) {
    if session.verbose && !session.json {
        say::out(format!("last_update_time={}, records={records}\n", local::date(local::now_ms())));
    }
}

async fn report(session: &mut Session, asked: Result<Vec<Selector>, ()>, value: Option<&str>) {
    let function = "slurm_load_jobs error:";
    let Ok(selectors) = asked else {
        return session.fail(format!("scontrol_print_job error: {}", Refusal::InvalidJobId));
    };
    let Some((jobs, now_ms)) = load(session, &selectors, session.json, function).await else { return };
    since(session, jobs.len());
    if session.json {
        say::out(json::jobs(&jobs, now_ms));
    } else if let ([Selector { tasks: Some(_), .. }], [], Some(value)) = (&selectors[..], &jobs[..], value) {
        session.fail(format!("Job {value} not found"));
    } else if jobs.is_empty() && value.is_some() {
        session.fail(format!("{function} {}", Refusal::InvalidJobId));
    } else if jobs.is_empty() {
        say::out("No jobs in the system\n");
    } else {
        say::out(jobs.iter().map(|job| show_job::text(job, now_ms, session.style)).collect::<String>());
    }
}

/// All nodes; `None` after a failure that has been told.
async fn load_nodes(session: &mut Session) -> Option<Vec<Node>> {
    let answer = match session.client().await {
        Ok(client) => client.list_nodes(Vec::new()).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| session.fail_call("slurm_load_node", &error)).ok()
}

/// `aliases [HOST]`: the nodes of a host, by default this one's.
async fn aliases(session: &mut Session, host: Option<&str>) {
    let Some(nodes) = load_nodes(session).await else { return };
    let host = host.map_or_else(local::host, str::to_owned);
    let named = nodes.iter().filter(|node| node.name == host || node.hostname == host);
    let names: Vec<&str> = named.map(|node| node.name.as_str()).collect();
    match names.is_empty() {
        true => session.fail_with_name(format!("no node has the host name {host}")),
        false => say::out(names.join(" ") + "\n"),
    }
}

/// `daemons`: which of them belong on this host.
async fn daemons(session: &mut Session) {
    let answer = match session.client().await {
        Ok(client) => match client.raw().ping(proto::v1::PingRequest {}).await {
            Ok(reply) => client.list_nodes(Vec::new()).await.map(|nodes| (reply.into_inner().host, nodes)),
            Err(status) => Err(Error::Failed(status)),
        },
        Err(error) => Err(error),
    };
    let (scheduler, nodes) = match answer {
        Ok(answer) => answer,
        Err(error) => return session.fail_call("slurm_load_ctl_conf", &error),
    };
    let here = local::host();
    let executor =
        nodes.iter().any(|node| node.name == here || node.hostname == here || node.address == "127.0.0.1");
    let names = [(scheduler == here, "slurmctld"), (executor, "slurmd")];
    let here: Vec<&str> = names.iter().filter(|(is_here, _)| *is_here).map(|(_, name)| *name).collect();
    say::out(here.join(" ") + "\n");
}

async fn nodes(session: &mut Session, value: Option<&str>) {
    let Some(nodes) = load_nodes(session).await else { return };
    since(session, nodes.len());
    let Some(value) = value else {
        return match session.json {
            true => say::out(json::nodes(&nodes)),
            false => say::out(
                nodes.iter().map(|node| show_node::node_text(node, session.style)).collect::<String>(),
            ),
        };
    };
    let names = model::hostlist::expand(value).unwrap_or_else(|_| vec![value.to_owned()]);
    let mut chosen = Vec::new();
    for name in names {
        match nodes.iter().find(|node| node.name == name) {
            Some(node) => chosen.push(node.clone()),
            None => {
                session.status = 1;
                if !session.quiet {
                    say::out(format!("Node {name} not found\n"));
                }
            }
        }
    }
    match session.json {
        true => say::out(json::nodes(&chosen)),
        false => {
            say::out(chosen.iter().map(|node| show_node::node_text(node, session.style)).collect::<String>())
        }
    }
}

async fn partitions(session: &mut Session, value: Option<&str>) {
    let answer = match session.client().await {
        Ok(client) => client.list_partitions().await,
        Err(error) => Err(error),
    };
    let mut partitions = match answer {
        Ok(partitions) => partitions,
        Err(error) => return session.fail_call("slurm_load_partitions", &error),
    };
    since(session, partitions.len());
    let all = session.all;
    match value {
        Some(name) => partitions.retain(|partition| partition.name == name),
        None => partitions.retain(|partition| all || !partition.hidden),
    }
    if session.json {
        return say::out(json::partitions(&partitions));
    }
    match (partitions.is_empty(), value) {
        (true, Some(name)) => {
            session.status = 1;
            if !session.quiet {
                say::out(format!("Partition {name} not found\n"));
            }
        }
        (true, None) => say::out("No partitions in the system\n"),
        _ => say::out(
            partitions.iter().map(|one| show_node::partition_text(one, session.style)).collect::<String>(),
        ),
    }
}

async fn steps(session: &mut Session, value: Option<&str>) {
    let program = &session.program;
    let function = match value {
        Some(value) => format!("{program}: error: scontrol_print_step: slurm_get_job_steps({value}) failed:"),
        None => "slurm_get_job_steps error:".to_owned(),
    };
    let Ok(selectors) = jobs(session_value(value)) else {
        return session.fail(format!("slurm_get_job_steps error: {}", Refusal::InvalidJobId));
    };
    let Some((jobs, _)) = load(session, &selectors, true, &function).await else { return };
    let wanted = selectors.first().and_then(|selector| selector.step.as_deref());
    let mut out = String::new();
    for job in jobs.iter().filter(|job| job::is_active(job)) {
        for step in job.steps.iter().filter(|step| step.end_ms.is_none()) {
            if wanted.is_none_or(|id| id == step.step_id) {
                out.push_str(&show_job::step_text(job, step, session.style));
            }
        }
    }
    match (out.is_empty(), value) {
        (false, _) => say::out(out),
        (true, None) => say::out("No job steps in the system\n"),
        (true, Some(value)) => {
            session.status = 1;
            say::out(format!("Job step {value} not found\n"));
        }
    }
}

/// The scheduler's settings; `None` after a failure that has been told.
async fn settings(session: &mut Session) -> Option<(Client, proto::v1::ShowConfigReply)> {
    let answer = match session.client().await {
        Ok(client) => match client.raw().show_config(proto::v1::ShowConfigRequest {}).await {
            Ok(reply) => Ok((client, reply.into_inner())),
            Err(status) => Err(Error::Failed(status)),
        },
        Err(error) => Err(error),
    };
    answer.map_err(|error| session.fail_call("slurm_load_ctl_conf", &error)).ok()
}

/// `write config [FILE]`: settings, nodes and partitions as a slurm.conf, into `FILE.TIME`; without a name, beside the
/// configuration that is in use.
pub(super) async fn write_config(session: &mut Session, file: Option<&str>) {
    let Some((_, reply)) = settings(session).await else { return };
    let Some(nodes) = load_nodes(session).await else { return };
    let partitions = match session.client().await {
        Ok(client) => client.list_partitions().await,
        Err(error) => Err(error),
    };
    let partitions = match partitions {
        Ok(partitions) => partitions,
        Err(error) => return session.fail_call("slurm_load_partitions", &error),
    };
    let now = local::date(local::now_ms());
    let mut text = format!("# Configuration of this cluster, {now}\n");
    for pair in &reply.pairs {
        // What only a running scheduler knows is no setting.
        match pair.value.as_str() {
            _ if pair.key.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') => {}
            "" | "(null)" => text += &format!("#{}=\n", pair.key),
            value => text += &format!("{}={value}\n", pair.key),
        }
    }
    text += &nodes.iter().map(show_node::node_setting).collect::<String>();
    text += &partitions.iter().map(show_node::partition_setting).collect::<String>();
    let path = file.map_or_else(
        || std::env::var("SLURM_CONF").unwrap_or_else(|_| "/etc/slurm/slurm.conf".to_owned()),
        str::to_owned,
    );
    let path = format!("{path}.{now}");
    match std::fs::write(&path, text) {
        Ok(()) => say::out(format!("Slurm config saved to {path}\n")),
        Err(error) => {
            let cause = error.raw_os_error().map(|number| nix::errno::Errno::from_raw(number).desc());
            say::err(format!("Could not create file {path}: {}", cause.unwrap_or("unknown")));
        }
    }
}

async fn config(session: &mut Session) {
    let Some((client, reply)) = settings(session).await else { return };
    let mut out = format!("Configuration data as of {}\n", local::date(local::now_ms()));
    for pair in &reply.pairs {
        // Users are shown with their numbers where this machine knows them.
        let value = match (pair.key.as_str(), local::user_id(&pair.value)) {
            ("SlurmUser" | "SlurmdUser", Some(id)) => format!("{}({id})", pair.value),
            ("BOOT_TIME", _) => pair.value.parse().map_or_else(|_| pair.value.clone(), local::date),
            _ => pair.value.clone(),
        };
        out.push_str(&config_line(&pair.key, &value));
    }
    let host = match client.raw().ping(proto::v1::PingRequest {}).await {
        Ok(reply) => reply.into_inner().host,
        Err(_) => local::host(),
    };
    out.push_str(&format!("\nSlurmctld(primary) at {host} is UP\n"));
    say::out(out);
}

fn config_line(key: &str, value: &str) -> String {
    format!("{key:<23} = {value}\n")
}

/// Licenses are those of the configuration; in use is what running jobs hold.
async fn licenses(session: &mut Session, wanted: Option<&str>) {
    let Some((jobs, _)) = load(session, &[], false, "slurm_load_licenses error:").await else { return };
    let Ok(client) = session.client().await else { return };
    let configured = match client.raw().show_config(proto::v1::ShowConfigRequest {}).await {
        Ok(reply) => reply.into_inner().pairs,
        Err(status) => return session.fail_call("slurm_load_licenses", &Error::Failed(status)),
    };
    let value = configured.iter().find(|pair| pair.key == "Licenses").map(|pair| pair.value.as_str());
    let all = parse_licenses(value.filter(|value| *value != "(null)").unwrap_or_default());
    let mut out = String::new();
    let mut found = false;
    for (name, total) in all.iter().filter(|(name, _)| wanted.is_none_or(|one| one == name)) {
        found = true;
        let held = jobs
            .iter()
            .filter(|job| job::is_active(job))
            .flat_map(|job| parse_licenses(job::rare(job).licenses.as_deref().unwrap_or_default()));
        let used: u64 = held.filter(|(other, _)| other == name).map(|(_, count)| count).sum();
        let lines = [
            format!("LicenseName={name}"),
            format!(" Total={total} Used={used} Free={} Reserved=0 Remote=no", total.saturating_sub(used)),
        ];
        out.push_str(&if session.style.one_line {
            format!("{}{}\n", lines[0], lines[1])
        } else {
            format!("{}\n   {}\n", lines[0], lines[1])
        });
    }
    match (found, wanted) {
        (true, _) => say::out(out),
        (false, Some(name)) => {
            session.status = 1;
            say::error(&session.program, format!("query \"{name}\" matched zero licenses."));
        }
        (false, None) => say::out("No licenses configured in Slurm.\n"),
    }
}

fn parse_licenses(text: &str) -> Vec<(String, u64)> {
    let one = |item: &str| match item.split_once([':', '=']) {
        Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
        None => (item.to_owned(), 1),
    };
    text.split([',', ';']).filter(|item| !item.is_empty()).map(one).collect()
}

/// `show assoc_mgr`: what the scheduler holds of users, as far as it is kept.
async fn associations(session: &mut Session, words: &[String]) {
    let option = |key: &str| {
        words.iter().find_map(|word| word.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case(key)))
    };
    let flags = option("flags").map_or("", |(_, value)| value).to_ascii_lowercase();
    if !flags.split(',').any(|flag| flag == "users") {
        return session.fail_with_name("show assoc_mgr shows only flags=users in sluice so far");
    }
    let wanted = option("users").map(|(_, value)| job::list(value));
    let answer = match session.client().await {
        Ok(client) => {
            client.raw().list_accounts(proto::v1::ListAccountsRequest {}).await.map_err(Error::Failed)
        }
        Err(error) => Err(error),
    };
    let rows = match answer {
        Ok(reply) => reply.into_inner(),
        Err(error) => return session.fail_call("slurm_load_assoc_mgr_info", &error),
    };
    let mut out = "Current Association Manager state\n\nUser Records\n\n".to_owned();
    for user in
        rows.users.iter().filter(|user| wanted.as_ref().is_none_or(|names| names.contains(&user.name)))
    {
        let id = local::user_id(&user.name).map_or_else(|| "4294967294".to_owned(), |id| id.to_string());
        let level = if user.admin_level.is_empty() { "None" } else { &user.admin_level };
        let account = &user.default_account;
        out.push_str(&format!(
            "UserName={}({id}) DefAccount={account} DefWckey= AdminLevel={level}\n",
            user.name
        ));
    }
    say::out(out);
}

/// `completing`: jobs that are ending.
pub(super) async fn completing(session: &mut Session) {
    let Some((jobs, _)) = load(session, &[], false, "slurm_load_jobs error:").await else { return };
    let ending = jobs.iter().filter(|job| job::state(job) == model::job::JobState::Completing);
    let line = |job: &Job| {
        format!(
            "JobId={} EndTime={} Nodes={}\n",
            job::id(job),
            job::date_or(job.end_ms, "Unknown"),
            job.node_list
        )
    };
    say::out(ending.map(line).collect::<String>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_lines_are_aligned() {
        assert_eq!(config_line("ClusterName", "conf"), "ClusterName             = conf\n");
        assert_eq!(config_line("AccountingStorageEnforce", "none"), "AccountingStorageEnforce = none\n");
    }

    #[test]
    fn licenses_are_read() {
        assert_eq!(parse_licenses("matlab:4,ansys"), [("matlab".to_owned(), 4), ("ansys".to_owned(), 1)]);
    }
}
