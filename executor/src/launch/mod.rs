//! From a launch message to a run's folder: what is run, as whom, with which environment and files.
//!
//! `compose` is pure but for the user database; `start` touches the disk and starts the supervisor. Files of
//! the job are only named here: they are opened by the task itself, with the submitter's rights.

pub mod environment;
pub mod mpi;
pub mod nursery;
pub mod pattern;
pub mod rlimits;
pub mod spares;
pub mod start;
pub mod user;

use std::path::Path;

use executor_supervisor::spec::{Spec, Stdio, Task, Warning};
use model::id::StepId;
use proto::v1;

use crate::cgroup::StepGroups;
use crate::gpu::bind::Visible;
use crate::key::Key;
use pattern::Names;
use user::Account;

/// What the node adds to every launch.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The node's name in the cluster.
    pub node: &'a str,
    /// What no other executor's things are named by (see `cgroup::mark_of`).
    pub mark: &'a str,
    /// What the machine calls itself.
    pub hostname: &'a str,
    /// Folder of srun and the other commands; empty: not known.
    pub commands: &'a str,
    /// The scheduler's socket, where commands in a job could not find it by themselves.
    pub socket: Option<&'a str>,
    /// The site's own task prolog and epilog.
    pub task_prolog: Option<&'a str>,
    /// See `task_prolog`.
    pub task_epilog: Option<&'a str>,
    /// Output files are appended to where the submitter does not say (JobFileAppend).
    pub append: bool,
    /// The submitter's resource limits that jobs get.
    pub propagated: rlimits::Propagated,
    /// How long a step lives without its client, ms.
    pub client_grace_ms: u64,
    /// Time between two looks at what tasks use (JobAcctGatherFrequency), ms; 0: none.
    pub sample_ms: u64,
    /// The GPUs of this run.
    pub gpus: &'a Visible,
    /// What serves MPI tasks where srun was asked for nothing (MpiDefault).
    pub mpi_default: mpi::Kind,
    /// The program that serves tasks by PMIx; `None`: it is not here.
    pub pmix: Option<&'a Path>,
}

/// Why a launch makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field that must be there is not.
    #[error("the launch has no {0}")]
    Missing(&'static str),
    /// `--mpi` names what this node has not.
    #[error("{0}")]
    Mpi(String),
    /// Something to start is not said for this rank.
    #[error("no program is given for rank {0}")]
    NoProgram(u32),
}

/// The specification of the run. `script` is where its batch script will be; `groups` where its processes are put.
///
/// # Errors
/// The message is incomplete.
pub fn compose(
    context: &Context<'_>,
    key: Key,
    launch: &v1::Launch,
    account: &Account,
    script: &Path,
    groups: StepGroups,
    now_ms: i64,
) -> Result<Spec, Refused> {
    let request = launch.request.as_ref().ok_or(Refused::Missing("request"))?;
    let rare = request.rare.clone().unwrap_or_default();
    let limit_ms = u64::try_from(launch.time_limit_ms).ok();
    let mut spec = Spec {
        job_id: key.job_id,
        step: key.step.to_string(),
        run: key.run,
        node: context.node.to_owned(),
        uid: launch.uid,
        gid: launch.gid,
        groups: account.groups.clone(),
        work_dir: request.work_dir.clone().into_bytes(),
        umask: request.umask,
        rlimits: Vec::new(),
        cgroup: groups.cgroup,
        cgroup_lent: groups.cgroup_lent,
        cgroup_holds: groups.cgroup_holds,
        cgroup_settings: groups.cgroup_settings,
        cgroups_v1: groups.cgroups_v1,
        memory_group: groups.memory_group,
        readings: groups.readings,
        told: groups.told,
        sample_ms: rare.acctg_freq.as_deref().and_then(sample_ms).unwrap_or(context.sample_ms),
        environment: Vec::new(),
        tasks: Vec::new(),
        limit_ms,
        kill_wait_ms: u64::from(launch.kill_wait_ms),
        warning: None,
        cookie: Vec::new(),
        client_grace_ms: context.client_grace_ms,
        window: (0, 0),
        kill_on_bad_exit: false,
        task_prologs: context.task_prolog.into_iter().map(|path| path.as_bytes().to_vec()).collect(),
        task_epilogs: context.task_epilog.into_iter().map(|path| path.as_bytes().to_vec()).collect(),
        container: None,
        mpi: None,
    };
    let warning = rare.warn_signal.filter(|warn| warn.signal > 0);
    if key.step == StepId::Batch {
        let names = names(context, key, launch, account, launch.node_index, 0);
        let mut environment = environment::of_batch(context, launch, account);
        spec.rlimits = rlimits::take(&mut environment, &rare.rlimits, context.propagated);
        spec.environment = environment.into_entries();
        spec.tasks = vec![batch_task(context, request, &names, script)];
        // Without `B:` the signal is for the steps; the batch script gets none.
        spec.warning = warning.filter(|warn| warn.batch_only).and_then(|warn| {
            let after_ms = limit_ms?.saturating_sub(u64::try_from(warn.before_ms).ok()?);
            Some(Warning { signal: warn.signal, after_ms, first_process_only: true })
        });
        return Ok(spec);
    }
    if key.step == StepId::Extern {
        spec.task_prologs.clear();
        spec.task_epilogs.clear();
        spec.limit_ms = None;
        spec.work_dir = b"/".to_vec();
        spec.tasks = vec![place_holder()];
        return Ok(spec);
    }
    let tasks = launch.tasks.as_ref().ok_or(Refused::Missing("tasks"))?;
    let here = launch.step_nodes.get(launch.step_node_index as usize).ok_or(Refused::Missing("step node"))?;
    if !tasks.work_dir.is_empty() {
        spec.work_dir = tasks.work_dir.clone().into_bytes();
    }
    spec.umask = tasks.umask;
    spec.cookie = tasks.cookie.to_vec();
    spec.kill_on_bad_exit = tasks.kill_on_bad_exit;
    spec.window = (small(tasks.pty_rows), small(tasks.pty_columns));
    spec.task_prologs.extend(tasks.task_prolog.iter().map(|path| path.as_bytes().to_vec()));
    spec.task_epilogs.extend(tasks.task_epilog.iter().map(|path| path.as_bytes().to_vec()));
    let mut environment = environment::of_step(context, launch, tasks, key.step);
    spec.rlimits = rlimits::take(&mut environment, &rare.rlimits, context.propagated);
    spec.environment = environment.into_entries();
    spec.warning = warning.filter(|warn| !warn.batch_only).and_then(|warn| {
        let at = launch.end_ms?.checked_sub(warn.before_ms)?;
        let after_ms = u64::try_from(at.checked_sub(now_ms)?).ok()?;
        Some(Warning { signal: warn.signal, after_ms, first_process_only: false })
    });
    spec.mpi = mpi::of_step(context, key, launch, tasks)?.map(Box::new);
    let mut truncated = Vec::new();
    for (local, rank) in here.ranks.iter().enumerate() {
        let names = names(context, key, launch, account, launch.step_node_index, *rank);
        let mut task = step_task(context, tasks, &names, &spec.work_dir)?;
        task.environment = environment::of_task(local, *rank);
        // A file that several tasks share is emptied by the first of them only.
        for stdio in [&mut task.stdout, &mut task.stderr] {
            if let Stdio::File { path, truncate } = stdio
                && *truncate
            {
                *truncate = !truncated.contains(path);
                truncated.push(path.clone());
            }
        }
        spec.tasks.push(task);
    }
    Ok(spec)
}

/// What the step of `PrologFlags=Contain` runs, as Slurm's does: nothing, for as long as can be said.
fn place_holder() -> Task {
    Task {
        rank: 0,
        arguments: [&b"/bin/sleep"[..], b"2147483647"].map(<[u8]>::to_vec).into(),
        environment: Vec::new(),
        cpus: Vec::new(),
        announce: Vec::new(),
        stdin: Stdio::Null,
        stdout: Stdio::Null,
        stderr: Stdio::Null,
    }
}

/// What `--acctg-freq` or JobAcctGatherFrequency says of tasks: `30`, or `task=30,energy=0`; `None`: nothing.
#[must_use]
pub fn sample_ms(text: &str) -> Option<u64> {
    let of_tasks = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("task") => value.trim().parse::<u64>().ok(),
        Some(_) => None,
        None => part.trim().parse().ok(),
    };
    let seconds = text.split(',').find_map(of_tasks)?;
    Some(seconds.saturating_mul(1000))
}

fn small(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn names<'a>(
    context: &Context<'a>,
    key: Key,
    launch: &'a v1::Launch,
    account: &'a Account,
    node_index: u32,
    rank: u32,
) -> Names<'a> {
    Names {
        job_id: key.job_id,
        array_job_id: launch.array_job_id,
        array_task_id: launch.array_task_id,
        step: key.step,
        node: context.node,
        node_index,
        rank,
        user: if launch.user.is_empty() { &account.name } else { &launch.user },
        job_name: launch.request.as_ref().map_or("", |request| &request.name),
    }
}

fn batch_task(context: &Context<'_>, request: &v1::JobRequest, names: &Names<'_>, script: &Path) -> Task {
    use std::os::unix::ffi::OsStrExt;
    let work_dir = request.work_dir.as_bytes();
    let truncate = truncates(context, request.open_mode());
    let file = |pattern: &str, truncate: bool| named_file(pattern, names, work_dir, truncate);
    let stdin = request.stdin.as_deref().map_or(Stdio::Null, |pattern| file(pattern, false));
    let stdout = match request.stdout.as_deref() {
        Some(pattern) => file(pattern, truncate),
        None => file(names.default_output(), truncate),
    };
    let stderr = request.stderr.as_deref().map_or(Stdio::Output, |pattern| file(pattern, truncate));
    let stderr = if stderr == stdout { Stdio::Output } else { stderr };
    let arguments = std::iter::once(script.as_os_str().as_bytes().to_vec())
        .chain(request.arguments.iter().map(|argument| argument.clone().into_bytes()))
        .collect();
    Task {
        rank: 0,
        arguments,
        environment: Vec::new(),
        cpus: Vec::new(),
        announce: Vec::new(),
        stdin,
        stdout,
        stderr,
    }
}

fn step_task(
    context: &Context<'_>,
    tasks: &v1::TaskLaunch,
    names: &Names<'_>,
    work_dir: &[u8],
) -> Result<Task, Refused> {
    let rank = names.rank;
    let arguments = match tasks.programs.is_empty() {
        true => &tasks.arguments,
        false => {
            let own = tasks.programs.iter().find(|program| program.rank == rank);
            &own.ok_or(Refused::NoProgram(rank))?.arguments
        }
    };
    if arguments.is_empty() {
        return Err(Refused::NoProgram(rank));
    }
    let task = |stdin, stdout, stderr| Task {
        rank,
        arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
        environment: Vec::new(),
        cpus: Vec::new(),
        announce: Vec::new(),
        stdin,
        stdout,
        stderr,
    };
    if tasks.pty {
        // The terminal is rank 0's; the others have none of the streams, as in Slurm.
        return Ok(match rank {
            0 => task(Stdio::Pty, Stdio::Pty, Stdio::Pty),
            _ => task(Stdio::Null, Stdio::Null, Stdio::Null),
        });
    }
    let truncate = truncates(context, tasks.open_mode());
    let stdin = match (&tasks.stdin, tasks.stdin_rank) {
        (Some(pattern), _) => named_file(pattern, names, work_dir, false),
        (None, None) => Stdio::Stream,
        (None, Some(only)) if u32::try_from(only) == Ok(rank) => Stdio::Stream,
        (None, Some(_)) => Stdio::Null,
    };
    let output = |pattern: &Option<String>| match pattern {
        Some(pattern) => named_file(pattern, names, work_dir, truncate),
        None => Stdio::Stream,
    };
    let (stdout, stderr) = (output(&tasks.stdout), output(&tasks.stderr));
    // Where only output has a file, Slurm's errors follow it.
    let stderr = match (&tasks.stdout, &tasks.stderr) {
        (Some(_), None) => Stdio::Output,
        _ if stderr == stdout && stdout != Stdio::Stream => Stdio::Output,
        _ => stderr,
    };
    Ok(task(stdin, stdout, stderr))
}

fn truncates(context: &Context<'_>, mode: v1::OpenMode) -> bool {
    match mode {
        v1::OpenMode::Truncate => true,
        v1::OpenMode::Append => false,
        v1::OpenMode::Site => !context.append,
    }
}

/// The file of a pattern, absolute; `none` and `/dev/null` are nothing.
fn named_file(pattern: &str, names: &Names<'_>, work_dir: &[u8], truncate: bool) -> Stdio {
    if matches!(pattern, "none" | "/dev/null") {
        return Stdio::Null;
    }
    let name = names.expand(pattern).into_bytes();
    let path = if name.starts_with(b"/") { name } else { [work_dir, b"/", &name].concat() };
    Stdio::File { path, truncate }
}

#[cfg(test)]
mod tests;
