//! `model::request::JobRequest` ⇄ `v1::JobRequest`.
//!
//! Grammars (dependency, array) travel as their text; what comes back is the same value.

use model::array::{ArraySpec, MAX_TASK_ID};
use model::container;
use model::depend::Dependency;
use model::gres::GresRequest;
use model::quantity::MemoryMib;
use model::request::{Files, JobRequest, Kind, MemoryRequest, OpenMode, Rare, Sharing, WarnSignal};
use model::time::{Span, Timestamp};

use super::{
    ARGUMENTS_MAX, Error, LIST_MAX, NAME_MAX, Problem, TEXT_MAX, count, error, optional_text, owned, text,
};
use crate::v1;

/// Reads a request. Cost: O(size of the message).
///
/// # Errors
/// A text that is too long or holds a zero byte, a list with too many entries, an unknown
/// enumeration value, a dependency or array text that is none.
pub fn inwards(from: v1::JobRequest) -> Result<JobRequest, Error> {
    count("arguments", &from.arguments, ARGUMENTS_MAX)?;
    let kind = match from.kind() {
        v1::Kind::Batch => Kind::Batch,
        v1::Kind::Allocation => Kind::Allocation,
        v1::Kind::Step => Kind::Step,
    };
    let sharing = match from.sharing() {
        v1::Sharing::Default => Sharing::Default,
        v1::Sharing::Exclusive => Sharing::Exclusive,
        v1::Sharing::User => Sharing::User,
        v1::Sharing::Mcs => Sharing::Mcs,
        v1::Sharing::Topo => Sharing::Topo,
        v1::Sharing::Oversubscribe => Sharing::Oversubscribe,
    };
    let open_mode = open_mode_inwards(from.open_mode);
    let nodes = match (from.nodes_min, from.nodes_max) {
        (Some(min), max) => Some((min, max)),
        (None, Some(max)) => Some((1, Some(max))),
        (None, None) => None,
    };
    let memory = from.memory.map(|memory| match memory {
        v1::job_request::Memory::MemoryMibPerNode(mib) => MemoryRequest::PerNode(MemoryMib(mib)),
        v1::job_request::Memory::MemoryMibPerCpu(mib) => MemoryRequest::PerCpu(MemoryMib(mib)),
        v1::job_request::Memory::MemoryMibPerGpu(mib) => MemoryRequest::PerGpu(MemoryMib(mib)),
    });
    let malformed = |field| error(field, Problem::Malformed);
    let dependency = Dependency::parse(&from.dependency).map_err(|_| malformed("dependency"))?;
    let array = match from.array.as_str() {
        "" => None,
        text => Some(ArraySpec::parse(text, MAX_TASK_ID).map_err(|_| malformed("array"))?),
    };
    Ok(JobRequest {
        kind,
        name: text("name", from.name, NAME_MAX)?,
        account: optional_text("account", from.account, NAME_MAX)?,
        qos: optional_text("qos", from.qos, NAME_MAX)?,
        partition: optional_text("partition", from.partition, NAME_MAX)?,
        work_dir: text("work_dir", from.work_dir, TEXT_MAX)?,
        submit_host: text("submit_host", from.submit_host, NAME_MAX)?,
        submit_line: text("submit_line", from.submit_line, TEXT_MAX)?,
        command: optional_text("command", from.command, TEXT_MAX)?,
        arguments: from
            .arguments
            .into_iter()
            .map(|argument| text("arguments", argument, TEXT_MAX))
            .collect::<Result<_, _>>()?,
        files: Files {
            stdin: optional_text("stdin", from.stdin, TEXT_MAX)?,
            stdout: optional_text("stdout", from.stdout, TEXT_MAX)?,
            stderr: optional_text("stderr", from.stderr, TEXT_MAX)?,
            open_mode,
        },
        nodes,
        ntasks: from.ntasks,
        cpus_per_task: from.cpus_per_task,
        ntasks_per_node: from.ntasks_per_node,
        memory,
        gres_per_node: gres_list_inwards("gres_per_node", from.gres_per_node)?,
        gpus_per_job: gres_list_inwards("gpus_per_job", from.gpus_per_job)?,
        gpus_per_node: gres_list_inwards("gpus_per_node", from.gpus_per_node)?,
        gpus_per_task: gres_list_inwards("gpus_per_task", from.gpus_per_task)?,
        gpus_per_socket: gres_list_inwards("gpus_per_socket", from.gpus_per_socket)?,
        constraint: optional_text("constraint", from.constraint, NAME_MAX)?,
        sharing,
        time_limit: from.time_limit_ms.map(limit_inwards),
        begin: from.begin_ms.map(Timestamp),
        nice: from.nice,
        hold: from.hold,
        requeue: from.requeue,
        umask: (from.umask & 0o7777) as u16,
        dependency,
        array,
        rare: from.rare.map(|rare| rare_inwards(rare).map(Box::new)).transpose()?,
    })
}

/// Writes a request.
#[must_use]
pub fn outwards(from: &JobRequest) -> v1::JobRequest {
    let kind = match from.kind {
        Kind::Batch => v1::Kind::Batch,
        Kind::Allocation => v1::Kind::Allocation,
        Kind::Step => v1::Kind::Step,
    };
    let sharing = match from.sharing {
        Sharing::Default => v1::Sharing::Default,
        Sharing::Exclusive => v1::Sharing::Exclusive,
        Sharing::User => v1::Sharing::User,
        Sharing::Mcs => v1::Sharing::Mcs,
        Sharing::Topo => v1::Sharing::Topo,
        Sharing::Oversubscribe => v1::Sharing::Oversubscribe,
    };
    v1::JobRequest {
        kind: kind.into(),
        name: from.name.to_string(),
        account: owned(&from.account),
        qos: owned(&from.qos),
        partition: owned(&from.partition),
        work_dir: from.work_dir.to_string(),
        submit_host: from.submit_host.to_string(),
        submit_line: from.submit_line.to_string(),
        command: owned(&from.command),
        arguments: from.arguments.iter().map(ToString::to_string).collect(),
        stdin: owned(&from.files.stdin),
        stdout: owned(&from.files.stdout),
        stderr: owned(&from.files.stderr),
        open_mode: open_mode_outwards(from.files.open_mode).into(),
        nodes_min: from.nodes.map(|(min, _)| min),
        nodes_max: from.nodes.and_then(|(_, max)| max),
        ntasks: from.ntasks,
        cpus_per_task: from.cpus_per_task,
        ntasks_per_node: from.ntasks_per_node,
        memory: from.memory.map(|memory| match memory {
            MemoryRequest::PerNode(mib) => v1::job_request::Memory::MemoryMibPerNode(mib.0),
            MemoryRequest::PerCpu(mib) => v1::job_request::Memory::MemoryMibPerCpu(mib.0),
            MemoryRequest::PerGpu(mib) => v1::job_request::Memory::MemoryMibPerGpu(mib.0),
        }),
        gres_per_node: gres_list_outwards(&from.gres_per_node),
        gpus_per_job: gres_list_outwards(&from.gpus_per_job),
        gpus_per_node: gres_list_outwards(&from.gpus_per_node),
        gpus_per_task: gres_list_outwards(&from.gpus_per_task),
        gpus_per_socket: gres_list_outwards(&from.gpus_per_socket),
        constraint: owned(&from.constraint),
        sharing: sharing.into(),
        time_limit_ms: from.time_limit.map(limit_outwards),
        begin_ms: from.begin.map(|begin| begin.0),
        nice: from.nice,
        hold: from.hold,
        requeue: from.requeue,
        umask: u32::from(from.umask),
        dependency: if from.dependency.is_empty() { String::new() } else { from.dependency.to_string() },
        array: from.array.as_ref().map(ArraySpec::compact).unwrap_or_default(),
        rare: from.rare.as_deref().map(rare_outwards),
    }
}

/// A limit: negative is UNLIMITED.
#[must_use]
pub fn limit_inwards(ms: i64) -> Option<Span> {
    (ms >= 0).then_some(Span(ms))
}

/// A limit: UNLIMITED is negative.
#[must_use]
pub fn limit_outwards(limit: Option<Span>) -> i64 {
    limit.map_or(-1, |span| span.0.max(0))
}

/// `--open-mode`; an unknown value is the site's default.
#[must_use]
pub fn open_mode_inwards(mode: i32) -> Option<OpenMode> {
    match v1::OpenMode::try_from(mode) {
        Ok(v1::OpenMode::Truncate) => Some(OpenMode::Truncate),
        Ok(v1::OpenMode::Append) => Some(OpenMode::Append),
        Ok(v1::OpenMode::Site) | Err(_) => None,
    }
}

/// `--open-mode`.
#[must_use]
pub fn open_mode_outwards(mode: Option<OpenMode>) -> v1::OpenMode {
    match mode {
        None => v1::OpenMode::Site,
        Some(OpenMode::Truncate) => v1::OpenMode::Truncate,
        Some(OpenMode::Append) => v1::OpenMode::Append,
    }
}

/// Asked resources.
///
/// # Errors
/// More than [`LIST_MAX`] of them, or a name that is too long.
pub fn gres_list_inwards(field: &'static str, list: Vec<v1::Gres>) -> Result<Vec<GresRequest>, Error> {
    count(field, &list, LIST_MAX)?;
    list.into_iter()
        .map(|gres| {
            Ok(GresRequest {
                name: text(field, gres.name, NAME_MAX)?,
                kind: if gres.r#type.is_empty() { None } else { Some(text(field, gres.r#type, NAME_MAX)?) },
                count: gres.count,
            })
        })
        .collect()
}

/// Asked resources.
#[must_use]
pub fn gres_list_outwards(list: &[GresRequest]) -> Vec<v1::Gres> {
    let one = |gres: &GresRequest| v1::Gres {
        name: gres.name.to_string(),
        r#type: gres.kind.as_deref().unwrap_or_default().to_owned(),
        count: gres.count,
    };
    list.iter().map(one).collect()
}

fn rare_inwards(from: v1::RareRequest) -> Result<Rare, Error> {
    count("rlimits", &from.rlimits, LIST_MAX)?;
    let name = |field, value| optional_text(field, value, TEXT_MAX);
    let warn_signal = from.warn_signal.map(warn_signal_inwards).transpose()?;
    Ok(Rare {
        comment: name("comment", from.comment)?,
        wckey: name("wckey", from.wckey)?,
        reservation: name("reservation", from.reservation)?,
        licenses: name("licenses", from.licenses)?,
        prefer: name("prefer", from.prefer)?,
        cluster_constraint: name("cluster_constraint", from.cluster_constraint)?,
        nodelist: name("nodelist", from.nodelist)?,
        exclude: name("exclude", from.exclude)?,
        gpu_bind: name("gpu_bind", from.gpu_bind)?,
        tres_per_task: name("tres_per_task", from.tres_per_task)?,
        tres_bind: name("tres_bind", from.tres_bind)?,
        gres_flags: name("gres_flags", from.gres_flags)?,
        distribution: name("distribution", from.distribution)?,
        hint: name("hint", from.hint)?,
        network: name("network", from.network)?,
        burst_buffer: name("burst_buffer", from.burst_buffer)?,
        mcs_label: name("mcs_label", from.mcs_label)?,
        mail_type: name("mail_type", from.mail_type)?,
        mail_user: name("mail_user", from.mail_user)?,
        container: name("container", from.container)?,
        container_id: name("container_id", from.container_id)?,
        container_options: from.container_options.map(container_inwards).transpose()?.map(Box::new),
        extra: name("extra", from.extra)?,
        profile: name("profile", from.profile)?,
        acctg_freq: name("acctg_freq", from.acctg_freq)?,
        resv_ports: from.resv_ports,
        switches: from.switches.map(|switches| (switches, from.switches_wait_ms.map(Span))),
        core_spec: from.core_spec,
        thread_spec: from.thread_spec,
        tmp_mib: from.tmp_mib.map(MemoryMib),
        sockets_per_node: from.sockets_per_node,
        cores_per_socket: from.cores_per_socket,
        threads_per_core: from.threads_per_core,
        ntasks_per_socket: from.ntasks_per_socket,
        ntasks_per_core: from.ntasks_per_core,
        ntasks_per_gpu: from.ntasks_per_gpu,
        min_cpus_per_node: from.min_cpus_per_node,
        cpus_per_gpu: from.cpus_per_gpu,
        deadline: from.deadline_ms.map(Timestamp),
        delay_boot: from.delay_boot_ms.map(Span),
        time_min: from.time_min_ms.map(Span),
        warn_signal,
        priority: from.priority,
        contiguous: from.contiguous,
        spread_job: from.spread_job,
        use_min_nodes: from.use_min_nodes,
        segment: from.segment,
        overcommit: from.overcommit,
        no_kill: from.no_kill,
        reboot: from.reboot,
        kill_on_invalid_dep: from.kill_on_invalid_dep,
        get_user_env: from.get_user_env,
        immediate: from.immediate_s,
        rlimits: from
            .rlimits
            .into_iter()
            .map(|limit| Ok((text("rlimits", limit.name, NAME_MAX)?, limit.value)))
            .collect::<Result<_, Error>>()?,
    })
}

/// Reads how a container differs from the default.
///
/// # Errors
/// A text that is too long, or too many of them.
pub fn container_inwards(from: v1::ContainerOptions) -> Result<container::Options, Error> {
    count("container mounts", &from.mounts, LIST_MAX)?;
    count("container environment", &from.environment, LIST_MAX)?;
    let mount = |mount: v1::ContainerMount| {
        Ok(container::Mount {
            source: text("container mounts", mount.source, TEXT_MAX)?,
            target: text("container mounts", mount.target, TEXT_MAX)?,
            read_only: mount.read_only,
        })
    };
    let name = |name| text("container environment", name, NAME_MAX);
    Ok(container::Options {
        mounts: from.mounts.into_iter().map(mount).collect::<Result<_, Error>>()?,
        work_dir: optional_text("container work_dir", from.work_dir, TEXT_MAX)?,
        environment: from.environment.into_iter().map(name).collect::<Result<_, Error>>()?,
        mount_home: from.mount_home,
        remap_root: from.remap_root,
        writable: from.writable,
        entrypoint: from.entrypoint,
    })
}

/// Says how a container differs from the default.
#[must_use]
pub fn container_outwards(from: &container::Options) -> v1::ContainerOptions {
    let mount = |mount: &container::Mount| v1::ContainerMount {
        source: mount.source.to_string(),
        target: mount.target.to_string(),
        read_only: mount.read_only,
    };
    v1::ContainerOptions {
        mounts: from.mounts.iter().map(mount).collect(),
        work_dir: owned(&from.work_dir),
        environment: from.environment.iter().map(ToString::to_string).collect(),
        mount_home: from.mount_home,
        remap_root: from.remap_root,
        writable: from.writable,
        entrypoint: from.entrypoint,
    }
}

fn warn_signal_inwards(from: v1::WarnSignal) -> Result<WarnSignal, Error> {
    let signal = u8::try_from(from.signal).map_err(|_| error("warn_signal", Problem::OutOfRange))?;
    Ok(WarnSignal {
        signal,
        before: Span(from.before_ms),
        batch_only: from.batch_only,
        reservation: from.reservation,
    })
}

fn rare_outwards(from: &Rare) -> v1::RareRequest {
    v1::RareRequest {
        comment: owned(&from.comment),
        wckey: owned(&from.wckey),
        reservation: owned(&from.reservation),
        licenses: owned(&from.licenses),
        prefer: owned(&from.prefer),
        cluster_constraint: owned(&from.cluster_constraint),
        nodelist: owned(&from.nodelist),
        exclude: owned(&from.exclude),
        gpu_bind: owned(&from.gpu_bind),
        tres_per_task: owned(&from.tres_per_task),
        tres_bind: owned(&from.tres_bind),
        gres_flags: owned(&from.gres_flags),
        distribution: owned(&from.distribution),
        hint: owned(&from.hint),
        network: owned(&from.network),
        burst_buffer: owned(&from.burst_buffer),
        mcs_label: owned(&from.mcs_label),
        mail_type: owned(&from.mail_type),
        mail_user: owned(&from.mail_user),
        container: owned(&from.container),
        container_id: owned(&from.container_id),
        container_options: from.container_options.as_deref().map(container_outwards),
        extra: owned(&from.extra),
        profile: owned(&from.profile),
        acctg_freq: owned(&from.acctg_freq),
        resv_ports: from.resv_ports,
        switches: from.switches.map(|(switches, _)| switches),
        switches_wait_ms: from.switches.and_then(|(_, wait)| wait).map(|wait| wait.0),
        core_spec: from.core_spec,
        thread_spec: from.thread_spec,
        tmp_mib: from.tmp_mib.map(|tmp| tmp.0),
        sockets_per_node: from.sockets_per_node,
        cores_per_socket: from.cores_per_socket,
        threads_per_core: from.threads_per_core,
        ntasks_per_socket: from.ntasks_per_socket,
        ntasks_per_core: from.ntasks_per_core,
        ntasks_per_gpu: from.ntasks_per_gpu,
        min_cpus_per_node: from.min_cpus_per_node,
        cpus_per_gpu: from.cpus_per_gpu,
        deadline_ms: from.deadline.map(|deadline| deadline.0),
        delay_boot_ms: from.delay_boot.map(|delay| delay.0),
        time_min_ms: from.time_min.map(|min| min.0),
        warn_signal: from.warn_signal.map(|warn| v1::WarnSignal {
            signal: u32::from(warn.signal),
            before_ms: warn.before.0,
            batch_only: warn.batch_only,
            reservation: warn.reservation,
        }),
        priority: from.priority,
        contiguous: from.contiguous,
        spread_job: from.spread_job,
        use_min_nodes: from.use_min_nodes,
        segment: from.segment,
        overcommit: from.overcommit,
        no_kill: from.no_kill,
        reboot: from.reboot,
        kill_on_invalid_dep: from.kill_on_invalid_dep,
        get_user_env: from.get_user_env,
        immediate_s: from.immediate,
        rlimits: from
            .rlimits
            .iter()
            .map(|(name, value)| v1::Rlimit { name: name.to_string(), value: *value })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &JobRequest) {
        assert_eq!(inwards(outwards(request)).as_ref(), Ok(request));
    }

    #[test]
    fn what_goes_out_comes_back() {
        check(&JobRequest::default());
        let mut request = JobRequest {
            kind: Kind::Step,
            name: "n".into(),
            partition: Some("a,b".into()),
            command: Some("/bin/x".into()),
            arguments: vec!["".into(), "a b".into()],
            files: Files {
                stdout: Some("%j.out".into()),
                open_mode: Some(OpenMode::Append),
                ..Files::default()
            },
            nodes: Some((2, Some(4))),
            memory: Some(MemoryRequest::PerGpu(MemoryMib(5))),
            gpus_per_node: model::gres::parse_gpus("a100:2,1").unwrap(),
            sharing: Sharing::Mcs,
            time_limit: Some(None),
            nice: -5,
            requeue: Some(false),
            umask: 0o22,
            dependency: Dependency::parse("afterok:1?after:2+3").unwrap(),
            ..JobRequest::default()
        };
        check(&request);
        request.rare_mut().rlimits = vec![("NOFILE".into(), 7)];
        request.rare_mut().container_options = Some(Box::new(container::Options {
            mounts: container::parse_mounts("/a:/b:ro,/c").unwrap(),
            work_dir: Some("/w".into()),
            environment: vec!["PATH".into()],
            mount_home: Some(false),
            writable: true,
            ..container::Options::default()
        }));
        request.rare_mut().switches = Some((1, Some(Span(9))));
        request.rare_mut().warn_signal =
            Some(WarnSignal { signal: 10, before: Span(60_000), batch_only: true, reservation: false });
        check(&request);
        for text in ["0-31%4", "1,3-7:2", "5", "5-5:3", "1-3,10-20:5,40-60:2%1", "0-7,8-9:1"] {
            request.array = Some(ArraySpec::parse(text, 1000).unwrap());
            check(&request);
        }
    }

    #[test]
    fn limits_hold() {
        let problem = |request| inwards(request).unwrap_err();
        let long = v1::JobRequest { name: "x".repeat(NAME_MAX + 1), ..v1::JobRequest::default() };
        assert_eq!(problem(long), error("name", Problem::TooLong { max: NAME_MAX }));
        let zero = v1::JobRequest { work_dir: "/a\0b".into(), ..v1::JobRequest::default() };
        assert_eq!(problem(zero), error("work_dir", Problem::Malformed));
        let array = v1::JobRequest { array: "5-1".into(), ..v1::JobRequest::default() };
        assert_eq!(problem(array), error("array", Problem::Malformed));
        let many =
            v1::JobRequest { gpus_per_job: vec![v1::Gres::default(); LIST_MAX + 1], ..Default::default() };
        assert_eq!(problem(many), error("gpus_per_job", Problem::TooLong { max: LIST_MAX }));
    }
}
