//! `scontrol show job` and `show step`: the long list of what a job is.

use model::job::JobState;
use model::time::Span;
use model::time::limit;
use proto::v1::{Job, JobRequest, NodeAllocation, Step};

use super::super::job;
use crate::local;
use crate::table::units::{clock, memory};

/// How much is told, and on how many lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// `-d`: the nodes' CPUs too.
    pub details: bool,
    /// `-o`: one line for each object.
    pub one_line: bool,
}

impl Style {
    /// Puts the lines of one object together, with what ends it.
    pub(super) fn join(self, lines: &[String]) -> String {
        if self.one_line {
            let words: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
            return words.join(" ") + "\n";
        }
        lines.join("\n   ") + "\n\n"
    }
}

fn null(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("(null)")
}

fn star(number: Option<u32>) -> String {
    number.map_or_else(|| "*".to_owned(), |number| number.to_string())
}

fn limit_text(ms: Option<i64>) -> String {
    match ms {
        None => "Partition_Limit".to_owned(),
        Some(ms) => limit::long((ms >= 0).then_some(Span::from_millis(ms))),
    }
}

/// One job as text, its final newline included.
pub(super) fn text(job: &Job, now_ms: i64, style: Style) -> String {
    let mut lines = head(job);
    lines.extend(times(job, now_ms, style));
    lines.extend(place(job));
    lines.extend(amounts(job, style));
    lines.extend(tail(job));
    style.join(&lines)
}

fn head(job: &Job) -> Vec<String> {
    let request = job::request(job);
    let mut first = format!("JobId={}", job.job_id);
    let mut lines = Vec::new();
    if let Some(leader) = job.het_job_id {
        first += &format!(" HetJobId={leader} HetJobOffset={}", job.het_offset.unwrap_or(0));
        lines.push(format!("HetJobIdSet={}", het_set(job, leader)));
    }
    if let Some(array) = job.array_job_id {
        first += &format!(" ArrayJobId={array}");
        if let Some(task) = job.array_task_id {
            first += &format!(" ArrayTaskId={task}");
        } else if let Some(tasks) = job::tasks(job) {
            let throttle = job.array_throttle.unwrap_or(0);
            first += &format!(" ArrayTaskId={}", tasks.text_with_throttle(throttle, Some(64)));
        }
        if let Some(throttle) = job.array_throttle.filter(|&throttle| throttle > 0) {
            first += &format!(" ArrayTaskThrottle={throttle}");
        }
    }
    first += &format!(" JobName={}", request.name);
    lines.insert(0, first);
    let user = if job.user.is_empty() { local::user_name(job.uid) } else { job.user.clone() };
    let group = if job.group.is_empty() { local::group_name(job.gid) } else { job.group.clone() };
    let label = job::rare(job).mcs_label.as_deref().unwrap_or("N/A");
    lines.push(format!("UserId={user}({}) GroupId={group}({}) MCS_label={label}", job.uid, job.gid));
    let (account, qos) = (null(Some(&job.account)), null(Some(&job.qos)));
    lines.push(format!("Priority={} Nice={} Account={account} QOS={qos}", job.priority, request.nice));
    let reason = job::reason(job).replace(' ', "_");
    let dependency = null(Some(&job.dependency));
    lines.push(format!("JobState={} Reason={reason} Dependency={dependency}", job::state_texts(job).0));
    lines
}

/// The ids of a heterogeneous job, which are consecutive.
fn het_set(job: &Job, leader: u32) -> String {
    // The set is not sent; the last component that is known is this one or one behind it.
    let last = leader + job.het_offset.unwrap_or(0).max(1);
    format!("{leader}-{last}")
}

fn times(job: &Job, now_ms: i64, style: Style) -> Vec<String> {
    let (request, rare) = (job::request(job), job::rare(job));
    let mut lines = vec![format!(
        "Requeue={} Restarts={} BatchFlag={} Reboot={} ExitCode={}",
        u8::from(job.requeue),
        job.restarts,
        u8::from(request.kind == 0),
        u8::from(rare.reboot),
        job::exit(job.exit)
    )];
    if style.details {
        lines.push(format!("DerivedExitCode={}", job::exit(job.derived_exit)));
    }
    let least = rare.time_min_ms.map_or_else(|| "N/A".to_owned(), |ms| clock(ms / 1000));
    let run = clock(job::run_ms(job, now_ms) / 1000);
    lines.push(format!("RunTime={run} TimeLimit={} TimeMin={least}", limit_text(job.time_limit_ms)));
    let submit = job::date_or(Some(job.submit_ms), "Unknown");
    lines.push(format!("SubmitTime={submit} EligibleTime={}", job::date_or(job.eligible_ms, "Unknown")));
    lines.push(format!("AccrueTime={}", job::date_or(job.accrue_ms, "Unknown")));
    let start = job::date_or(job::start_ms(job), "Unknown");
    let end = end_text(job);
    lines.push(format!("StartTime={start} EndTime={end} Deadline={}", job::date_or(rare.deadline_ms, "N/A")));
    lines.push(format!(
        "SuspendTime={} SecsPreSuspend={} LastSchedEval={} Scheduler=Main",
        job::date_or(job.suspend_ms, "None"),
        job.pre_suspend_ms.unwrap_or(0) / 1000,
        job::date_or(job.last_sched_eval_ms, "Unknown")
    ));
    lines
}

/// End, real or by the limit; a job whose start is only planned shows where its limit would end it.
fn end_text(job: &Job) -> String {
    let end = job::end_ms(job).or_else(|| {
        let limit = job.time_limit_ms.filter(|&limit| limit >= 0)?;
        Some(job::start_ms(job).filter(|_| job::state(job) == JobState::Pending)? + limit)
    });
    job::date_or(end, "Unknown")
}

fn place(job: &Job) -> Vec<String> {
    let (request, rare) = (job::request(job), job::rare(job));
    let mut lines = vec![
        format!("Partition={} AllocNode:Sid={}:{}", job.partition, request.submit_host, job.alloc_sid),
        format!(
            "ReqNodeList={} ExcNodeList={}",
            null(rare.nodelist.as_deref()),
            null(rare.exclude.as_deref())
        ),
    ];
    let mut nodes = format!("NodeList={}", job.node_list);
    if let Some(planned) = job.planned_nodes.as_deref().filter(|planned| !planned.is_empty()) {
        nodes += &format!(" SchedNodeList={planned}");
    }
    lines.push(nodes);
    if !job.batch_host.is_empty() {
        lines.push(format!("BatchHost={}", job.batch_host));
    }
    lines
}

fn node_count(job: &Job) -> String {
    let request = job::request(job);
    if job::state(job) != JobState::Pending {
        return job::nodes_text(job);
    }
    // Without a count of nodes, as many as there are tasks may be used, unless it is said how many each node takes.
    let open = request.nodes_min.is_none() && request.ntasks_per_node.is_none();
    let most = job.num_nodes_max.or(open.then_some(job.num_tasks));
    format!("{}-{}", job.num_nodes, most.unwrap_or(0).max(job.num_nodes))
}

fn amounts(job: &Job, style: Style) -> Vec<String> {
    let (request, rare) = (job::request(job), job::rare(job));
    let mut lines = vec![
        format!(
            "NumNodes={} NumCPUs={} NumTasks={} CPUs/Task={} ReqB:S:C:T=0:0:{}:{}",
            node_count(job),
            job.num_cpus,
            job.num_tasks,
            request.cpus_per_task.unwrap_or(1),
            star(rare.cores_per_socket),
            star(rare.threads_per_core)
        ),
        format!("ReqTRES={}", null(Some(&job.req_tres))),
        format!("AllocTRES={}", null(Some(&job.alloc_tres))),
    ];
    let spec = match (rare.core_spec, rare.thread_spec) {
        (_, Some(threads)) => format!("ThreadSpec={threads}"),
        (cores, None) => format!("CoreSpec={}", star(cores)),
    };
    lines.push(format!(
        "Socks/Node={} NtasksPerN:B:S:C={}:0:{}:{} {spec}",
        star(rare.sockets_per_node),
        request.ntasks_per_node.unwrap_or(0),
        star(rare.ntasks_per_socket),
        star(rare.ntasks_per_core)
    ));
    if style.details && !job.allocation.is_empty() {
        lines.push("JOB_GRES=".to_owned() + null(Some(&job_gres(&job.allocation))));
        lines.extend(node_lines(&job.allocation));
    }
    let (per_cpu, mib) = job::min_memory(job);
    lines.push(format!(
        "MinCPUsNode={} MinMemory{}={} MinTmpDiskNode={}",
        job::min_cpus(job),
        if per_cpu { "CPU" } else { "Node" },
        memory(mib, true),
        memory(rare.tmp_mib.unwrap_or(0), true)
    ));
    lines.push(format!(
        "Features={} DelayBoot={}",
        null(request.constraint.as_deref()),
        clock(rare.delay_boot_ms.unwrap_or(0) / 1000)
    ));
    if let Some(reservation) = &rare.reservation {
        lines.push(format!("Reservation={reservation}"));
    }
    lines.push(format!(
        "OverSubscribe={} Exclusive={} Contiguous={} Licenses={} LicensesAlloc={} Network={}",
        job::oversubscribe(job),
        job::exclusive(job),
        u8::from(rare.contiguous),
        null(rare.licenses.as_deref()),
        null(Some(&job.licenses).filter(|_| job::state(job) != JobState::Pending).map(String::as_str)),
        null(rare.network.as_deref())
    ));
    lines
}

fn job_gres(allocation: &[NodeAllocation]) -> String {
    let mut totals: Vec<(String, u64)> = Vec::new();
    for gres in allocation.iter().flat_map(|node| &node.gres) {
        let name =
            if gres.r#type.is_empty() { gres.name.clone() } else { format!("{}:{}", gres.name, gres.r#type) };
        match totals.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += gres.count,
            None => totals.push((name, gres.count)),
        }
    }
    let texts: Vec<String> = totals.iter().map(|(name, count)| format!("{name}:{count}")).collect();
    texts.join(",")
}

/// Nodes with the same CPUs, memory and devices stand on one line.
fn node_lines(allocation: &[NodeAllocation]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for node in allocation {
        let held =
            format!("CPU_IDs={} Mem={} GRES={}", ranges(&node.cpu_ranges), node.memory_mib, node_gres(node));
        match groups.last_mut() {
            Some((other, names)) if *other == held => names.push(&node.node),
            _ => groups.push((held, vec![&node.node])),
        }
    }
    let line =
        |(held, names): &(String, Vec<&str>)| format!("  Nodes={} {held}", model::hostlist::compress(names));
    groups.iter().map(line).collect()
}

fn ranges(pairs: &[u32]) -> String {
    let text = |pair: &[u32]| match pair {
        [first, last] if first < last => format!("{first}-{last}"),
        [first, ..] => first.to_string(),
        [] => String::new(),
    };
    pairs.chunks(2).map(text).collect::<Vec<_>>().join(",")
}

fn node_gres(node: &NodeAllocation) -> String {
    let one = |gres: &proto::v1::GresAllocation| {
        let kind = if gres.r#type.is_empty() { String::new() } else { format!(":{}", gres.r#type) };
        let indices = model::array::TaskSet::from_ids(gres.indices.iter().copied()).text(None);
        let indices = if indices.is_empty() { String::new() } else { format!("(IDX:{indices})") };
        let place = if gres.spread.is_empty() { indices } else { format!("({})", gres.spread) };
        format!("{}{kind}:{}{place}", gres.name, gres.count)
    };
    node.gres.iter().map(one).collect::<Vec<_>>().join(",")
}

fn tail(job: &Job) -> Vec<String> {
    let (request, rare) = (job::request(job), job::rare(job));
    let mut lines = vec![
        format!("Command={}", null(job::command(job).as_deref())),
        format!("SubmitLine={}", null(Some(&request.submit_line))),
        format!("WorkDir={}", request.work_dir),
    ];
    let optional = [
        ("ClusterFeatures", rare.cluster_constraint.as_deref()),
        ("Prefer", rare.prefer.as_deref()),
        ("AdminComment", Some(job.admin_comment.as_str())),
        ("Comment", rare.comment.as_deref()),
        ("Extra", rare.extra.as_deref()),
        ("Container", rare.container.as_deref()),
        ("ContainerID", rare.container_id.as_deref()),
        ("BurstBuffer", rare.burst_buffer.as_deref()),
    ];
    for (key, value) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push(format!("{key}={value}"));
        }
    }
    if request.kind == 0 {
        lines.extend(files(job, request));
    }
    lines.extend(requested_tres(job));
    if let Some(count) = rare.switches {
        let wait = rare.switches_wait_ms.map_or_else(String::new, |ms| format!("@{}", clock(ms / 1000)));
        lines.push(format!("Switches={count}{wait}"));
    }
    if rare.kill_on_invalid_dep == Some(true) {
        lines.push("KillOInInvalidDependent=Yes".to_owned());
    }
    if let Some(events) = &rare.mail_type {
        let user = rare.mail_user.clone().unwrap_or_else(|| local::user_name(job.uid));
        lines.push(format!("MailUser={user} MailType={events}"));
    }
    lines
}

fn files(job: &Job, request: &JobRequest) -> [String; 3] {
    let absolute =
        |pattern: &str| if pattern == "/dev/null" { pattern.to_owned() } else { job::expand(job, pattern) };
    [
        format!("StdErr={}", request.stderr.as_deref().map_or_else(String::new, absolute)),
        format!("StdIn={}", request.stdin.as_deref().map_or_else(|| "/dev/null".to_owned(), absolute)),
        format!("StdOut={}", absolute(&job::stdout_pattern(job))),
    ]
}

fn requested_tres(job: &Job) -> Vec<String> {
    let (request, rare) = (job::request(job), job::rare(job));
    let memory_per_gpu = match request.memory {
        Some(proto::v1::job_request::Memory::MemoryMibPerGpu(mib)) => Some(format!("gres/gpu:{mib}")),
        _ => None,
    };
    let pairs = [
        ("CpusPerTres", rare.cpus_per_gpu.map(|cpus| format!("gres/gpu:{cpus}"))),
        ("MemPerTres", memory_per_gpu),
        ("TresBind", job::tres_bind(rare)),
        ("TresPerJob", job::tres(&[&request.gpus_per_job])),
        ("TresPerNode", job::tres_per_node(job)),
        ("TresPerSocket", job::tres(&[&request.gpus_per_socket])),
        ("TresPerTask", job::tres_per_task(job)),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect()
}

/// One step as text, its final newline included.
pub(super) fn step_text(job: &Job, step: &Step, style: Style) -> String {
    let limit = step.time_limit_ms.filter(|&ms| ms >= 0).map(Span::from_millis);
    // The batch script's own step holds nothing that other steps could not use.
    let batch = step.step_id == "batch";
    let held: Vec<&str> = step.alloc_tres.split(',').filter(|item| !item.starts_with("billing=")).collect();
    let held = held.join(",");
    let tres = if batch { "(null)" } else { null(Some(&held)) };
    let lines = [
        format!(
            "StepId={}.{} UserId={} StartTime={} TimeLimit={}",
            job::id(job),
            step.step_id,
            job.uid,
            job::date_or(Some(step.start_ms), "Unknown"),
            limit::long(limit)
        ),
        format!("State={} Partition={} NodeList={}", step.state, job.partition, step.node_list),
        format!(
            "Nodes={} CPUs={} Tasks={} Name={} Network=(null)",
            step.num_nodes,
            if batch { 0 } else { step.num_cpus },
            step.num_tasks,
            step.name
        ),
        format!("TRES={tres}"),
        "ResvPorts=(null)".to_owned(),
        match batch {
            true => "CPUFreqReq=Default".to_owned(),
            false => format!("CPUFreqReq=Default Dist={}", job::distribution(step)),
        },
        format!("SubmitLine={}", null(Some(&step.submit_line))),
    ];
    style.join(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::ExitStatus;

    fn running() -> Job {
        let request = JobRequest {
            name: "nm".into(),
            work_dir: "/w".into(),
            submit_line: "sbatch -N2 --wrap sleep 30".into(),
            stdout: Some("/dev/null".into()),
            nodes_min: Some(2),
            ..JobRequest::default()
        };
        let node = |name: &str, cpus: &[u32], memory_mib| NodeAllocation {
            node: name.into(),
            cpu_ranges: cpus.to_vec(),
            memory_mib,
            ..NodeAllocation::default()
        };
        Job {
            job_id: 100_001,
            uid: 2001,
            gid: 2001,
            user: "alice".into(),
            group: "alice".into(),
            request: Some(request),
            state: "RUNNING".into(),
            priority: 500,
            account: "physics".into(),
            qos: "normal".into(),
            partition: "debug".into(),
            submit_ms: 1_000_000,
            start_ms: Some(1_000_000),
            time_limit_ms: Some(300_000),
            exit: Some(ExitStatus::default()),
            allocation: vec![node("c1", &[0, 0, 4, 4], 1000), node("c2", &[0, 0], 500)],
            node_list: "c[1-2]".into(),
            batch_host: "c1".into(),
            num_nodes: 2,
            num_cpus: 3,
            num_tasks: 3,
            req_tres: "cpu=3,mem=1500M,node=2,billing=3".into(),
            alloc_tres: "cpu=3,mem=1500M,node=2,billing=3".into(),
            requeue: true,
            min_memory_mib_per_cpu: Some(500),
            ..Job::default()
        }
    }

    #[test]
    fn a_running_job_in_full() {
        let text = text(&running(), 1_007_000, Style::default());
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.contains("Time=") || line.contains("RunTime")).collect();
        let expected = "JobId=100001 JobName=nm
   UserId=alice(2001) GroupId=alice(2001) MCS_label=N/A
   Priority=500 Nice=0 Account=physics QOS=normal
   JobState=RUNNING Reason=None Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime=00:00:07 TimeLimit=00:05:00 TimeMin=N/A
   Partition=debug AllocNode:Sid=:0
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList=c[1-2]
   BatchHost=c1
   NumNodes=2 NumCPUs=3 NumTasks=3 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   ReqTRES=cpu=3,mem=1500M,node=2,billing=3
   AllocTRES=cpu=3,mem=1500M,node=2,billing=3
   Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*
   MinCPUsNode=1 MinMemoryCPU=500M MinTmpDiskNode=0
   Features=(null) DelayBoot=00:00:00
   OverSubscribe=NO Exclusive=NO Contiguous=0 Licenses=(null) LicensesAlloc=(null) Network=(null)
   Command=(null)
   SubmitLine=sbatch -N2 --wrap sleep 30
   WorkDir=/w
   StdErr=
   StdIn=/dev/null
   StdOut=/dev/null
";
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn details_show_the_nodes_cpus() {
        let text = text(&running(), 0, Style { details: true, one_line: false });
        let expected = "   JOB_GRES=(null)
     Nodes=c1 CPU_IDs=0,4 Mem=1000 GRES=
     Nodes=c2 CPU_IDs=0 Mem=500 GRES=
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn one_line_has_every_key_once() {
        let text = text(
            &Job { array_job_id: Some(7), array_tasks: Some("1-2".into()), ..running() },
            0,
            Style { details: false, one_line: true },
        );
        assert!(text.starts_with("JobId=100001 ArrayJobId=7 ArrayTaskId=1-2 JobName=nm UserId="), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }
}
