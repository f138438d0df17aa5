//! Answers as JSON, in the shape of Slurm's data parser: keys, nesting, and numbers that may be unset.
//!
//! Environments never stand in it. What this system does not know has the value that Slurm shows for nothing.

use model::job::JobState;
use proto::v1::{ExitStatus, Job, Node, Outlook, Partition, Step};
use serde_json::{Map, Value, json};

use super::{COMPATIBLE, clusters, job, node};
use crate::local;

/// A number that may be unset or unlimited.
fn number(value: Option<u64>) -> Value {
    json!({"set": value.is_some(), "infinite": false, "number": value.unwrap_or(0)})
}

fn infinite() -> Value {
    json!({"set": true, "infinite": true, "number": 0})
}

fn seconds(ms: Option<i64>) -> Value {
    number(ms.filter(|&ms| ms > 0).and_then(|ms| u64::try_from(ms / 1000).ok()))
}

fn plain_seconds(ms: Option<i64>) -> i64 {
    ms.unwrap_or(0).max(0) / 1000
}

/// Minutes of a limit.
fn minutes(ms: Option<i64>) -> Value {
    match ms {
        None => number(None),
        Some(ms) if ms < 0 => infinite(),
        Some(ms) => number(u64::try_from(ms / 60_000).ok()),
    }
}

/// The state, and what is said beside it.
fn states(job: &Job) -> Vec<&'static str> {
    let stopped = (job::state(job) == JobState::Running && job.stopped).then_some("STOPPED");
    std::iter::once(job::state(job).long()).chain(stopped).collect()
}

fn text(value: Option<&str>) -> Value {
    Value::from(value.unwrap_or_default())
}

/// The outer object: the answer, then what every answer has.
pub(crate) fn document(answer: Vec<(&str, Value)>) -> String {
    let mut object = Map::new();
    for (key, value) in answer {
        object.insert(key.to_owned(), value);
    }
    let version: Vec<&str> = COMPATIBLE.split('.').collect();
    let part = |at: usize| version.get(at).copied().unwrap_or("0");
    let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let uid = nix::unistd::getuid().as_raw();
    object.insert(
        "meta".to_owned(),
        json!({
            "plugin": {"type": "", "name": "", "data_parser": "", "accounting_storage": ""},
            "client": {
                "source": "", "user": local::user_name(uid),
                "group": local::group_name(nix::unistd::getgid().as_raw()),
            },
            "command": command,
            "slurm": {
                "version": {"major": part(0), "micro": part(2), "minor": part(1)},
                "release": COMPATIBLE, "cluster": clusters::name(),
            },
        }),
    );
    object.insert("errors".to_owned(), json!([]));
    object.insert("warnings".to_owned(), json!([]));
    let mut out = serde_json::to_string_pretty(&Value::Object(object)).unwrap_or_default();
    out.push('\n');
    out
}

fn exit_code(status: Option<ExitStatus>, ended: bool) -> Value {
    let status = status.unwrap_or_default();
    let word = match (ended, status.code, status.signal) {
        (false, _, _) => "PENDING",
        (_, _, 1..) => "SIGNALED",
        (_, 0, 0) => "SUCCESS",
        _ => "ERROR",
    };
    let signal = (status.signal > 0).then(|| u64::from(status.signal));
    let name = u8::try_from(status.signal).ok().filter(|&number| number > 0).map(model::signal::name);
    json!({
        "status": [word],
        "return_code": number(Some(status.code.into())),
        "signal": {"id": number(signal), "name": name.unwrap_or_default()},
    })
}

/// Jobs, for squeue and `scontrol show job`.
pub(crate) fn jobs(jobs: &[Job], now_ms: i64) -> String {
    let list: Vec<Value> = jobs.iter().map(live_job).collect();
    document(vec![
        ("jobs", Value::from(list)),
        ("last_backfill", number(Some(0))),
        ("last_update", seconds(Some(now_ms))),
    ])
}

fn live_job(job: &Job) -> Value {
    let mut object = Map::new();
    for part in [identity(job), moments(job), amounts(job), wishes(job), files(job)] {
        if let Value::Object(part) = part {
            object.extend(part);
        }
    }
    Value::Object(object)
}

fn identity(job: &Job) -> Value {
    let (request, rare) = (job::request(job), job::rare(job));
    let ended = job::state(job).is_terminal();
    json!({
        "account": job.account, "admin_comment": job.admin_comment, "allocating_node": request.submit_host,
        "array_job_id": number(Some(job.array_job_id.unwrap_or(0).into())),
        "array_task_id": number(job.array_task_id.map(u64::from)),
        "array_max_tasks": number(Some(job.array_throttle.unwrap_or(0).into())),
        "array_task_string": job.array_tasks.clone().unwrap_or_default(),
        "association_id": job.association_id, "batch_features": "", "batch_flag": request.kind == 0,
        "batch_host": job.batch_host, "cluster": job.cluster, "command": job::command(job).unwrap_or_default(),
        "comment": text(rare.comment.as_deref()), "container": text(rare.container.as_deref()),
        "container_id": text(rare.container_id.as_deref()), "cron": "", "derived_exit_code": exit_code(job.derived_exit, ended),
        "exit_code": exit_code(job.exit, ended), "extra": text(rare.extra.as_deref()), "failed_node": "",
        "federation_origin": "", "federation_siblings_active": "", "federation_siblings_viable": "",
        "flags": [], "group_id": job.gid, "group_name": job.group,
        "het_job_id": number(Some(job.het_job_id.unwrap_or(0).into())), "het_job_id_set": "",
        "het_job_offset": number(Some(job.het_offset.unwrap_or(0).into())),
        "hold": job.hold, "job_id": job.job_id, "job_state": states(job),
        "mcs_label": text(rare.mcs_label.as_deref()), "name": request.name, "partition": job.partition,
        "priority": number(Some(job.priority.into())), "priority_by_partition": [], "qos": job.qos,
        "restart_cnt": job.restarts, "resv_name": text(rare.reservation.as_deref()),
        "selinux_context": "", "sluid": job::sluid(job), "state_description": job.reason_detail,
        "state_reason": if job.reason.is_empty() { "None" } else { &job.reason },
        "submit_line": request.submit_line, "system_comment": "", "user_id": job.uid, "user_name": job.user,
        "wckey": text(rare.wckey.as_deref()),
    })
}

fn moments(job: &Job) -> Value {
    let rare = job::rare(job);
    json!({
        "accrue_time": seconds(job.accrue_ms), "deadline": seconds(rare.deadline_ms),
        "delay_boot": seconds(rare.delay_boot_ms), "eligible_time": seconds(job.eligible_ms),
        "end_time": seconds(job::end_ms(job)), "last_sched_evaluation": seconds(job.last_sched_eval_ms),
        "maximum_switch_wait_time": plain_seconds(rare.switches_wait_ms), "preempt_time": number(Some(0)),
        "preemptable_time": number(Some(0)), "pre_sus_time": seconds(job.pre_suspend_ms),
        "resize_time": number(Some(0)), "start_time": seconds(job::start_ms(job)),
        "submit_time": seconds(Some(job.submit_ms)), "suspend_time": seconds(job.suspend_ms),
        "time_limit": minutes(job.time_limit_ms), "time_minimum": minutes(rare.time_min_ms),
    })
}

fn amounts(job: &Job) -> Value {
    let (request, rare) = (job::request(job), job::rare(job));
    let u64s = |value: Option<u32>| number(value.map(u64::from));
    let (per_cpu, mib) = job::min_memory(job);
    json!({
        "billable_tres": number(None), "core_spec": rare.core_spec, "cores_per_socket": u64s(rare.cores_per_socket),
        "cpus": number(Some(job.num_cpus.into())), "cpus_per_task": u64s(request.cpus_per_task),
        "cpus_per_tres": "", "cpu_frequency_minimum": number(None), "cpu_frequency_maximum": number(None),
        "cpu_frequency_governor": number(None), "gres_detail": [], "job_resources": resources(job),
        "max_cpus": number(Some(0)), "max_nodes": number(Some(job.num_nodes_max.unwrap_or(0).into())),
        "memory_per_cpu": number(Some(mib).filter(|_| per_cpu)),
        "memory_per_node": number(Some(mib).filter(|_| !per_cpu)), "memory_per_tres": "",
        "minimum_cpus_per_node": number(Some(job::min_cpus(job).into())),
        "minimum_tmp_disk_per_node": number(Some(rare.tmp_mib.unwrap_or(0))),
        "node_count": number(Some(job.num_nodes.into())), "nodes": job.node_list, "segment_size": number(None),
        "sockets_per_board": 0, "sockets_per_node": u64s(rare.sockets_per_node),
        "tasks": number(Some(job.num_tasks.into())), "tasks_per_board": number(None),
        "tasks_per_core": u64s(rare.ntasks_per_core), "tasks_per_node": u64s(request.ntasks_per_node),
        "tasks_per_socket": u64s(rare.ntasks_per_socket), "tasks_per_tres": number(None),
        "thread_spec": rare.thread_spec, "threads_per_core": u64s(rare.threads_per_core),
        "tres_alloc_str": job.alloc_tres, "tres_bind": text(job::tres_bind(rare).as_deref()), "tres_freq": "",
        "tres_per_job": job::tres(&[&request.gpus_per_job]).unwrap_or_default(),
        "tres_per_node": job::tres_per_node(job).unwrap_or_default(),
        "tres_per_socket": job::tres(&[&request.gpus_per_socket]).unwrap_or_default(),
        "tres_per_task": job::tres_per_task(job).unwrap_or_default(), "tres_req_str": job.req_tres,
    })
}

/// What the job holds, node by node.
fn resources(job: &Job) -> Value {
    if job.allocation.is_empty() {
        return json!({});
    }
    let node = |(index, held): (usize, &proto::v1::NodeAllocation)| {
        json!({
            "index": index, "name": held.node, "cpus": {"count": held.cpus, "used": held.cpus},
            "memory": {"used": held.memory_mib, "allocated": held.memory_mib},
        })
    };
    let nodes: Vec<Value> = job.allocation.iter().enumerate().map(node).collect();
    json!({
        "select_type": ["CPU", "MEMORY"], "cpus": job.num_cpus, "threads_per_core": number(None),
        "nodes": {"count": nodes.len(), "select_type": ["AVAILABLE"], "list": job.node_list, "whole": job.exclusive, "allocation": nodes},
    })
}

fn wishes(job: &Job) -> Value {
    let (request, rare) = (job::request(job), job::rare(job));
    let mail: Vec<&str> =
        rare.mail_type.as_deref().unwrap_or_default().split(',').filter(|one| !one.is_empty()).collect();
    json!({
        "burst_buffer": text(rare.burst_buffer.as_deref()), "burst_buffer_state": "",
        "cluster_features": text(rare.cluster_constraint.as_deref()), "contiguous": rare.contiguous,
        "dependency": job.dependency, "excluded_nodes": text(rare.exclude.as_deref()),
        "features": text(request.constraint.as_deref()), "licenses": text(rare.licenses.as_deref()),
        "licenses_allocated": if job::is_active(job) { job.licenses.as_str() } else { "" },
        "mail_type": mail, "mail_user": text(rare.mail_user.as_deref()), "network": text(rare.network.as_deref()),
        "nice": request.nice, "prefer": text(rare.prefer.as_deref()),
        "profile": [rare.profile.as_deref().unwrap_or("NOT_SET")], "reboot": rare.reboot,
        "required_nodes": text(rare.nodelist.as_deref()), "required_switches": rare.switches.unwrap_or(0),
        "requeue": job.requeue, "scheduled_nodes": text(job.planned_nodes.as_deref()),
        "shared": if job.exclusive { json!(["none"]) } else { json!([]) },
    })
}

fn files(job: &Job) -> Value {
    let request = job::request(job);
    let output = job::stdout_pattern(job);
    let error = request.stderr.clone().unwrap_or_else(|| output.clone());
    let input = request.stdin.clone().unwrap_or_else(|| "/dev/null".to_owned());
    json!({
        "current_working_directory": request.work_dir,
        "standard_error": error, "standard_input": input, "standard_output": output,
        "stderr_expanded": job::expand(job, &error), "stdin_expanded": job::expand(job, &input),
        "stdout_expanded": job::expand(job, &output),
    })
}

/// Nodes, for `scontrol show node`.
pub(crate) fn nodes(nodes: &[Node]) -> String {
    let list: Vec<Value> = nodes.iter().map(node_object).collect();
    document(vec![("nodes", Value::from(list)), ("last_update", seconds(Some(local::now_ms())))])
}

fn node_object(node: &Node) -> Value {
    let flags = node::flags(node, "+");
    let states: Vec<&str> = flags.split('+').collect();
    json!({
        "architecture": node.architecture, "burstbuffer_network_address": "", "boards": node.boards.max(1),
        "boot_time": seconds(node.boot_ms), "cert_flags": [], "cluster_name": "", "comment": node.comment,
        "cores": node.cores_per_socket, "cpu_binding": 0, "cpu_load": node.load.map(|load| (load * 100.0) as u64),
        "free_mem": number(node.memory_free_mib), "cpus": node.cpus, "effective_cpus": node.cpus,
        "specialized_cpus": "", "energy": {}, "extra": node.extra, "features": node.features,
        "active_features": node.features, "gpu_spec": "", "gres": node.gres, "gres_drained": "N/A",
        "gres_used": node.gres_used, "instance_id": "", "instance_type": "", "last_busy": seconds(node.last_busy_ms),
        "mcs_label": "", "specialized_memory": node.memory_spec_mib, "name": node.name,
        "next_state_after_reboot": ["INVALID"], "address": node.address, "hostname": node.hostname, "state": states,
        "operating_system": node.os, "owner": "", "partitions": node.partitions, "port": node.port,
        "real_memory": node.memory_mib, "res_cores_per_gpu": 0, "reason": node.reason,
        "reason_changed_at": seconds(node.reason_ms),
        "reason_set_by_user": node.reason_uid.map(local::user_name).unwrap_or_default(), "reservation": "",
        "resume_after": number(Some(0)), "slurmd_start_time": seconds(node.executor_start_ms),
        "sockets": node.sockets, "specialized_cores": node.core_spec, "suspend_time": number(Some(0)),
        "threads": node.threads_per_core, "temporary_disk": node.tmp_disk_mib, "tls_cert_last_renewal": number(None),
        "topology": "", "weight": node.weight, "tres": node.cfg_tres, "tres_used": node.alloc_tres,
        "alloc_memory": node.memory_allocated_mib, "alloc_cpus": node.cpus_allocated,
        "alloc_idle_cpus": node.cpus.saturating_sub(node.cpus_allocated), "version": node.version,
    })
}

/// Partitions, for `scontrol show partition`.
pub(crate) fn partitions(partitions: &[Partition]) -> String {
    let list: Vec<Value> = partitions.iter().map(partition_object).collect();
    document(vec![("partitions", Value::from(list)), ("last_update", seconds(Some(local::now_ms())))])
}

fn partition_object(partition: &Partition) -> Value {
    let most = |value: Option<u32>| value.map_or_else(infinite, |value| number(Some(value.into())));
    let all = |list: &str| if list.eq_ignore_ascii_case("all") { String::new() } else { list.to_owned() };
    let mut flags = Vec::new();
    if partition.is_default {
        flags.push("DEFAULT");
    }
    if partition.hidden {
        flags.push("HIDDEN");
    }
    json!({
        "nodes": {"allowed_allocation": "", "configured": partition.nodes, "total": partition.total_nodes},
        "accounts": {"allowed": all(&partition.allow_accounts), "deny": ""},
        "groups": {"allowed": all(&partition.allow_groups)},
        "qos": {"allowed": all(&partition.allow_qos), "deny": "", "assigned": ""},
        "alternate": "", "tres": {"billing_weights": "", "configured": partition.tres}, "cluster": "",
        "select_type": [], "cpus": {"task_binding": 0, "total": partition.total_cpus},
        "defaults": {
            "memory_per_cpu": partition.def_mem_per_cpu_mib.unwrap_or(0),
            "partition_memory_per_cpu": number(partition.def_mem_per_cpu_mib),
            "partition_memory_per_node": number(partition.def_mem_per_node_mib),
            "time": minutes(partition.default_time_ms), "job": "",
        },
        "flags": flags, "grace_time": partition.grace_s,
        "maximums": {
            "cpus_per_node": most(partition.max_cpus_per_node), "cpus_per_socket": infinite(),
            "memory_per_cpu": partition.max_mem_per_cpu_mib.unwrap_or(0),
            "partition_memory_per_cpu": number(partition.max_mem_per_cpu_mib),
            "partition_memory_per_node": number(partition.max_mem_per_node_mib),
            "nodes": most(partition.max_nodes), "shares": 1, "oversubscribe": {"jobs": 1, "flags": []},
            "time": minutes(Some(partition.max_time_ms)), "over_time_limit": number(None),
        },
        "minimums": {"nodes": partition.min_nodes}, "name": partition.name, "node_sets": "",
        "preempt_mode": [partition.preempt_mode],
        "priority": {"job_factor": partition.priority_job_factor, "tier": partition.priority_tier},
        "timeouts": {"resume": number(None), "suspend": number(None)},
        "partition": {"state": [partition.state]}, "suspend_time": number(None), "topology": "",
    })
}

/// Jobs of the history, for sacct.
pub(crate) fn history(jobs: &[Job]) -> String {
    let list: Vec<Value> = jobs.iter().map(past_job).collect();
    document(vec![("jobs", Value::from(list))])
}

/// TRES text as a list of objects.
fn tres(text: &str) -> Value {
    let one = |item: &str| {
        let (name, count) = item.split_once('=')?;
        let (kind, name) = name.split_once('/').unwrap_or((name, ""));
        let count =
            model::tres::parse_mib(count).filter(|_| kind == "mem").or(count.parse().ok()).unwrap_or(0);
        Some(json!({"type": kind, "name": name, "id": 0, "count": count}))
    };
    Value::from(text.split(',').filter_map(one).collect::<Vec<Value>>())
}

fn state_words(state: JobState) -> Value {
    json!([state.long()])
}

fn past_job(job: &Job) -> Value {
    let (request, rare) = (job::request(job), job::rare(job));
    let ended = job::state(job).is_terminal();
    let killer = job.ended_by_uid.map(local::user_name).unwrap_or_default();
    let elapsed = plain_seconds(job.end_ms) - plain_seconds(job.start_ms);
    let cpu_us = |of: fn(&Step) -> u64| job.steps.iter().map(of).sum::<u64>();
    let time = |us: u64| json!({"seconds": us / 1_000_000, "microseconds": us % 1_000_000});
    let output = job::stdout_pattern(job);
    let error = request.stderr.clone().unwrap_or_default();
    let input = request.stdin.clone().unwrap_or_else(|| "/dev/null".to_owned());
    let mut object = json!({
        "account": job.account, "comment": {"administrator": job.admin_comment, "job": text(rare.comment.as_deref()), "system": ""},
        "allocation_nodes": job.allocation.len(),
        "array": {
            "job_id": job.array_job_id.unwrap_or(0), "limits": {"max": {"running": {"tasks": job.array_throttle.unwrap_or(0)}}},
            "task_id": number(job.array_task_id.map(u64::from)), "task": job.array_tasks.clone().unwrap_or_default(),
        },
        "association": {"account": job.account, "cluster": job.cluster, "partition": "", "user": job.user, "id": job.association_id},
        "block": "", "cluster": job.cluster, "constraints": text(request.constraint.as_deref()),
        "container": text(rare.container.as_deref()), "derived_exit_code": exit_code(job.derived_exit, ended),
        "exclusive": [], "exit_code": exit_code(job.exit, ended), "extra": text(rare.extra.as_deref()),
        "failed_node": "", "flags": ["STARTED_ON_SCHEDULE"], "group": job.group,
        "het": {"job_id": job.het_job_id.unwrap_or(0), "job_offset": number(job.het_offset.map(u64::from))},
        "hold": if job.hold { "USER" } else { "NONE" }, "job_id": job.job_id, "kill_request_user": killer,
        "licenses": text(rare.licenses.as_deref()),
        "mcs": {"label": text(rare.mcs_label.as_deref())}, "name": request.name, "nodes": job.node_list,
        "original_sluid": "", "oversubscribe": [], "partition": job.partition,
        "priority": number(Some(job.priority.into())), "qos": job.qos, "qosreq": request.qos.clone().unwrap_or_default(),
        "required": {
            "CPUs": job.num_cpus, "memory_per_cpu": number(job.min_memory_mib_per_cpu),
            "memory_per_node": number(job.min_memory_mib_per_node),
        },
        "reservation": {"id": 0, "name": text(rare.reservation.as_deref()), "requested": ""},
        "restart_cnt": job.restarts, "script": "", "segment_size": 0, "sluid": job::sluid(job),
    });
    let rest = json!({
        "state": {"current": state_words(job::state(job)), "reason": if job.reason.is_empty() { "None" } else { &job.reason }},
        "stderr": error, "stderr_expanded": if error.is_empty() { String::new() } else { job::expand(job, &error) },
        "stdin": input, "stdin_expanded": job::expand(job, &input), "stdout": output, "stdout_expanded": job::expand(job, &output),
        "steps": job.steps.iter().map(|step| past_step(job, step)).collect::<Vec<Value>>(),
        "submit_line": request.submit_line,
        "time": {
            "elapsed": elapsed.max(0), "eligible": plain_seconds(job.eligible_ms), "end": plain_seconds(job.end_ms),
            "planned": seconds(Some(job.start_ms.unwrap_or(job.submit_ms) - job.submit_ms)),
            "start": plain_seconds(job.start_ms), "submission": job.submit_ms / 1000,
            "suspended": job.suspended_total_ms / 1000, "system": time(cpu_us(|step| step.system_us)),
            "limit": minutes(job.time_limit_ms),
            "total": time(cpu_us(|step| step.system_us + step.user_us)), "user": time(cpu_us(|step| step.user_us)),
        },
        "tres": {"allocated": tres(&job.alloc_tres), "requested": tres(&job.req_tres)},
        "used_gres": "", "user": job.user,
        "wckey": {"wckey": text(rare.wckey.as_deref()), "flags": []}, "working_directory": request.work_dir,
    });
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}

fn past_step(job: &Job, step: &Step) -> Value {
    let time = |us: u64| json!({"seconds": us / 1_000_000, "microseconds": us % 1_000_000});
    let state = JobState::parse(&step.state).unwrap_or(JobState::Running);
    let names: Vec<&str> = step.allocation.iter().map(|held| held.node.as_str()).collect();
    let elapsed = step.end_ms.map_or(0, |end| (end - step.start_ms) / 1000);
    json!({
        "time": {
            "elapsed": elapsed, "end": seconds(step.end_ms), "start": seconds(Some(step.start_ms)), "suspended": 0,
            "system": time(step.system_us), "total": time(step.system_us + step.user_us), "user": time(step.user_us),
            "limit": minutes(step.time_limit_ms),
        },
        "exit_code": exit_code(step.exit, step.end_ms.is_some()),
        "nodes": {"count": step.num_nodes, "range": step.node_list, "list": names},
        "tasks": {"count": step.num_tasks}, "CPU": {"requested_frequency": {"min": number(None), "max": number(None)}, "governor": "0"},
        "kill_request_user": step.ended_by_uid.map(local::user_name).unwrap_or_default(),
        "state": state_words(state), "statistics": {"CPU": {"actual_frequency": 0}, "energy": {"consumed": number(None)}},
        "step": {
            "id": {"job_id": job.job_id, "step_het_component": number(None), "step_id": step.step_id, "sluid": job::sluid(job)},
            "name": step.name, "stderr": "", "stdin": "", "stdout": "",
        },
        "submit_line": step.submit_line, "task": {"distribution": step.distribution},
        "tres": {"requested": {"max": [], "min": [], "average": [], "total": []},
            "consumed": {"max": [], "min": [], "average": [], "total": []}, "allocated": tres(&step.alloc_tres)},
    })
}

/// Partitions with their nodes by state, for sinfo.
pub(crate) fn sinfo(partitions: &[Partition], nodes: &[Node]) -> String {
    let mut list = Vec::new();
    for partition in partitions {
        let mut states: Vec<(String, Vec<&Node>)> = Vec::new();
        for node in nodes.iter().filter(|node| partition.node_names.contains(&node.name)) {
            let flags = node::flags(node, "+");
            match states.iter_mut().find(|(known, _)| *known == flags) {
                Some((_, group)) => group.push(node),
                None => states.push((flags, vec![node])),
            }
        }
        list.extend(states.iter().map(|(flags, group)| sinfo_row(partition, flags, group)));
    }
    document(vec![("sinfo", Value::from(list))])
}

fn sinfo_row(partition: &Partition, flags: &str, group: &[&Node]) -> Value {
    let names: Vec<&str> = group.iter().map(|node| node.name.as_str()).collect();
    let sum = |of: fn(&Node) -> u32| group.iter().map(|node| of(node)).sum::<u32>();
    let range = |of: fn(&Node) -> u64| {
        let numbers = || group.iter().map(|node| of(node));
        json!({"minimum": numbers().min().unwrap_or(0), "maximum": numbers().max().unwrap_or(0)})
    };
    let (used, total) = (sum(|node| node.cpus_allocated), sum(|node| node.cpus));
    let features = group.first().map(|node| node.features.join(",")).unwrap_or_default();
    let in_use = group.iter().filter(|node| node::is_in_use(node)).count();
    let mut cpus = range(|node| node.cpus.into());
    cpus["allocated"] = json!(used);
    cpus["idle"] = json!(total - used);
    cpus["other"] = json!(0);
    cpus["total"] = json!(total);
    json!({
        "port": group.first().map_or(0, |node| node.port),
        "node": {"state": flags.split('+').collect::<Vec<_>>()},
        "nodes": {
            "allocated": in_use, "idle": group.len() - in_use, "other": 0, "total": group.len(),
            "hostnames": names, "addresses": group.iter().map(|node| node.address.as_str()).collect::<Vec<_>>(), "nodes": names,
        },
        "cpus": cpus, "sockets": range(|node| node.sockets.into()), "cores": range(|node| node.cores_per_socket.into()),
        "threads": range(|node| node.threads_per_core.into()), "disk": range(|node| node.tmp_disk_mib),
        "memory": range(|node| node.memory_mib), "weight": range(|node| node.weight.into()),
        "features": {"total": features, "active": features},
        "gres": {"total": group.first().map_or("", |node| node.gres.as_str()), "used": group.first().map_or("", |node| node.gres_used.as_str())},
        "cluster": "", "comment": "", "extra": "",
        "reason": {"description": group.first().map_or("", |node| node.reason.as_str()), "time": seconds(group.first().and_then(|node| node.reason_ms)), "user": ""},
        "reservation": "", "partition": partition_object(partition),
    })
}

/// Where and when a waiting job would start; times in seconds since 1970.
pub(super) fn outlook(outlook: Option<&Outlook>) -> Value {
    let Some(outlook) = outlook else { return Value::Null };
    json!({
        "now": outlook.now,
        "start": outlook.start_ms.map(|ms| ms / 1000),
        "nodes": outlook.nodes,
        "partition": outlook.partition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_job_has_slurms_shape() {
        let job = Job { job_id: 7, state: "PENDING".into(), time_limit_ms: Some(300_000), ..Job::default() };
        let document: Value = serde_json::from_str(&jobs(&[job], 1)).unwrap();
        assert_eq!(keys(&document), ["errors", "jobs", "last_backfill", "last_update", "meta", "warnings"]);
        let job = &document["jobs"][0];
        assert!(keys(job).len() > 100, "{}", keys(job).len());
        assert_eq!(job["time_limit"], json!({"set": true, "infinite": false, "number": 5}));
        assert_eq!(job["job_state"], json!(["PENDING"]));
    }

    #[test]
    fn an_ended_job_has_a_status() {
        let job = Job { state: "COMPLETED".into(), steps: vec![Step::default()], ..Job::default() };
        let document: Value = serde_json::from_str(&history(&[job])).unwrap();
        let job = &document["jobs"][0];
        assert_eq!(job["exit_code"]["status"], json!(["SUCCESS"]));
        let expected = [
            "CPU",
            "exit_code",
            "kill_request_user",
            "nodes",
            "state",
            "statistics",
            "step",
            "submit_line",
            "task",
            "tasks",
            "time",
            "tres",
        ];
        assert_eq!(keys(&job["steps"][0]), expected);
    }
}
