//! From srun's options to the step that is asked for and what its tasks run.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use model::binding::Binding;
use model::gpu_bind::GpuBind;
use model::gres::GresRequest;
use model::request::{JobRequest, MemoryRequest};
use prost::bytes::Bytes;
use proto::convert::request as convert;
use proto::v1::{OpenMode, RankProgram, StepRequest, TaskLaunch};

use super::super::job;
use super::output::{Place, differs_by_task, place};
use super::{multi_prog, terminal};
use crate::api::Key;
use crate::connect;
use crate::option::{self, Component, Parsed, Source};

/// Where the tasks' input comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// srun's own, for all tasks or for one.
    Own(Option<u32>),
    Nothing,
    /// A file that srun reads.
    File(PathBuf),
    /// A pattern that the supervisors expand.
    Supervisor(String),
}

/// What is settled before there is a step.
pub(super) struct Plan {
    arguments: Vec<Bytes>,
    programs: Vec<RankProgram>,
    pub input: Input,
    stdout: Option<String>,
    stderr: Option<String>,
    pub work_dir: PathBuf,
    /// One bad exit ends the other tasks: asked for, the site's rule (KillOnBadExit), or because tasks of PMIx would wait for
    /// one that has gone, as in Slurm.
    pub kill_on_bad_exit: bool,
    /// Seconds from the first task's end to that of all; 0: for ever (`--wait`, WaitTime).
    pub wait_seconds: u32,
}

/// Looks up the program and the files that srun itself reads. `Err` is a sentence.
pub(super) fn plan(parsed: &Parsed) -> Result<Plan, String> {
    let component = parsed.first();
    let (request, manner) = (&component.request, &component.manner);
    if let Some(text) = manner.cpu_bind.as_deref().filter(|text| !text.is_empty())
        && Binding::parse(text).is_none()
    {
        return Err(format!("--cpu-bind={text} is not supported by sluice, or malformed"));
    }
    let work_dir = PathBuf::from(&*request.work_dir);
    let (mut arguments, mut programs) = (Vec::new(), Vec::new());
    if manner.multi_prog {
        let file = component.command.first().cloned().unwrap_or_default();
        let name = file.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file)
            .map_err(|_| format!("Could not open multi_prog config file {name}"))?;
        let nodes = request.nodes.map_or(1, |(least, _)| least);
        let tasks = request.ntasks.or(request.ntasks_per_node.map(|each| each * nodes)).unwrap_or(nodes);
        programs = multi_prog::read(&text, &name, tasks)?;
    } else {
        let mut words = component.command.iter();
        let program = words.next().cloned().unwrap_or_default();
        arguments.push(Bytes::from(find_program(&program).into_vec()));
        arguments.extend(words.map(|word| Bytes::copy_from_slice(word.as_bytes())));
    }
    let site = |key: &str| connect::conf_value(key);
    let flag = |text: String| matches!(text.to_ascii_lowercase().as_str(), "1" | "yes" | "true");
    let by_pmix =
        || manner.mpi.clone().or_else(|| site("MpiDefault")).is_some_and(|kind| kind.ends_with("pmix"));
    let kill_on_bad_exit = manner.kill_on_bad_exit;
    Ok(Plan {
        kill_on_bad_exit: kill_on_bad_exit
            .unwrap_or_else(|| site("KillOnBadExit").is_some_and(flag) || by_pmix()),
        wait_seconds: manner.wait_seconds.or_else(|| site("WaitTime")?.parse().ok()).unwrap_or(0),
        arguments,
        programs,
        input: input(request.files.stdin.as_deref(), &work_dir),
        stdout: request.files.stdout.as_deref().map(str::to_owned),
        stderr: request.files.stderr.as_deref().map(str::to_owned),
        work_dir,
    })
}

fn input(pattern: Option<&str>, work_dir: &Path) -> Input {
    match pattern {
        None | Some("all") => Input::Own(None),
        Some("none" | "/dev/null") => Input::Nothing,
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_or(Input::Nothing, |rank| Input::Own(Some(rank)))
        }
        Some(pattern) if differs_by_task(pattern) => Input::Supervisor(pattern.to_owned()),
        Some(pattern) => Input::File(work_dir.join(pattern)),
    }
}

impl Plan {
    /// The program and its arguments, as typed but for the program's path.
    pub(super) fn words(&self) -> impl Iterator<Item = &OsStr> {
        self.arguments.iter().map(|word| OsStr::from_bytes(word))
    }

    /// Where output and errors go, patterns expanded for the job and step.
    pub(super) fn places(&self, job_id: u32, step_id: &str, name: &str) -> (Place, Option<Place>) {
        let expand = |pattern: &str| expand(pattern, job_id, step_id, name);
        let output = place(self.stdout.as_deref(), &self.work_dir, expand);
        let error = self.stderr.as_deref().map(|pattern| place(Some(pattern), &self.work_dir, expand));
        (output, error)
    }

    /// What the supervisors are told.
    pub(super) fn launch(&self, parsed: &Parsed) -> TaskLaunch {
        let component = parsed.first();
        let (request, manner) = (&component.request, &component.manner);
        // Files of srun's own are streams for the supervisors.
        let of_supervisor = |pattern: &Option<String>| {
            let pattern = pattern.as_deref()?;
            (differs_by_task(pattern) || matches!(pattern, "none" | "/dev/null")).then(|| pattern.to_owned())
        };
        let (stdin, stdin_rank) = match &self.input {
            Input::Own(None) | Input::File(_) => (None, None),
            Input::Own(Some(rank)) => (None, Some(i32::try_from(*rank).unwrap_or(-1))),
            Input::Nothing => (None, Some(-1)),
            Input::Supervisor(pattern) => (Some(pattern.clone()), None),
        };
        let (rows, columns) = if manner.pty { terminal::size() } else { (0, 0) };
        TaskLaunch {
            arguments: self.arguments.clone(),
            programs: self.programs.clone(),
            environment: Bytes::from(option::block(&parsed.environment)),
            work_dir: request.work_dir.to_string(),
            umask: u32::from(request.umask),
            stdout: of_supervisor(&self.stdout),
            stderr: of_supervisor(&self.stderr),
            stdin,
            open_mode: convert::open_mode_outwards(request.files.open_mode) as i32,
            stdin_rank,
            pty: manner.pty,
            pty_rows: u32::from(rows),
            pty_columns: u32::from(columns),
            kill_on_bad_exit: self.kill_on_bad_exit,
            cookie: Key::random().bytes(),
            task_prolog: manner.task_prolog.clone(),
            task_epilog: manner.task_epilog.clone(),
            label: manner.label,
            unbuffered: manner.unbuffered,
            gpu_bind: gpu_bind(request, &Devices::of(component).per_task),
            cpu_bind: manner.cpu_bind.clone().filter(|text| !text.is_empty()),
            container: request.rare().container.as_deref().map(str::to_owned),
            mpi: manner.mpi.clone(),
            container_options: request.rare().container_options.as_deref().map(convert::container_outwards),
        }
    }
}

/// How tasks are bound to GPUs: `--gpu-bind`, or what `--tres-bind` says of GPUs, or what `--gpus-per-task` implies.
fn gpu_bind(request: &JobRequest, per_task: &[GresRequest]) -> Option<String> {
    let rare = request.rare();
    let of_tres = || GpuBind::of_tres(rare.tres_bind.as_deref()?).ok().flatten();
    let asked = rare.gpu_bind.as_deref().map(str::to_owned).or_else(of_tres);
    let each = per_task.iter().filter(|gres| gres.is_gpu()).map(|gres| gres.count).sum();
    GpuBind::with_each(asked.as_deref(), each)
}

/// The devices that a step asks for; nothing asked for: all of its job's.
struct Devices {
    per_node: Vec<GresRequest>,
    per_step: Vec<GresRequest>,
    per_task: Vec<GresRequest>,
}

impl Devices {
    /// Within a job its environment repeats what the job asked for. Of that only the devices of each task count: they bind. What
    /// the command line says of GPUs stands alone. An allocation of srun's own has been asked for with all of it.
    fn of(component: &Component) -> Self {
        let request = &component.request;
        let typed = |long: &str| component.given.get(long) == Some(&Source::CommandLine);
        let has_gpus = |list: &[GresRequest]| list.iter().any(GresRequest::is_gpu);
        let tasks_typed = typed("gpus-per-task")
            || typed("tres-per-task")
                && component.values.get("tres-per-task").is_some_and(|text| text.contains("gpu"));
        let others_typed = ["gpus", "gpus-per-node", "gpus-per-socket"].into_iter().any(typed)
            || typed("gres") && (request.gres_per_node.is_empty() || has_gpus(&request.gres_per_node));
        let per_task = match others_typed && !tasks_typed {
            true => Vec::new(),
            false => request.gpus_per_task.clone(),
        };
        if component.manner.jobid.is_none() {
            return Self { per_node: Vec::new(), per_step: Vec::new(), per_task };
        }
        let list = |long: &str, list: &[GresRequest]| if typed(long) { list.to_vec() } else { Vec::new() };
        let sockets = u64::from(request.rare().sockets_per_node.unwrap_or(1).max(1));
        let mut per_socket = list("gpus-per-socket", &request.gpus_per_socket);
        per_socket.iter_mut().for_each(|gres| gres.count = gres.count.saturating_mul(sockets));
        let per_node =
            [request.gres_per_node.clone(), list("gpus-per-node", &request.gpus_per_node), per_socket];
        Self { per_node: per_node.concat(), per_step: list("gpus", &request.gpus_per_job), per_task }
    }
}

/// Whether files are continued.
pub(super) fn appends(launch_mode: Option<model::request::OpenMode>) -> bool {
    convert::open_mode_outwards(launch_mode) == OpenMode::Append
}

/// The step as the options ask for it.
pub(super) fn step(parsed: &Parsed) -> StepRequest {
    let component = parsed.first();
    let (request, manner, rare) = (&component.request, &component.manner, component.request.rare());
    let inside = manner.jobid.is_some();
    let (per_node, per_cpu) = match request.memory {
        Some(MemoryRequest::PerNode(mib)) => (Some(mib.0), None),
        Some(MemoryRequest::PerCpu(mib)) => (None, Some(mib.0)),
        Some(MemoryRequest::PerGpu(_)) | None => (None, None),
    };
    // An allocation of srun's own has been asked for with these already.
    let only_inside = |text: &Option<Box<str>>| text.as_deref().filter(|_| inside).map(str::to_owned);
    let by_user = |long: &str| component.given.get(long) == Some(&Source::CommandLine);
    let devices = Devices::of(component);
    StepRequest {
        name: request.name.to_string(),
        ntasks: request.ntasks,
        nodes_min: request.nodes.map(|(least, _)| least),
        nodes_max: request.nodes.and_then(|(_, most)| most),
        cpus_per_task: request.cpus_per_task,
        ntasks_per_node: request.ntasks_per_node,
        memory_mib_per_node: per_node.filter(|&mib| inside && mib > 0),
        memory_mib_per_cpu: per_cpu.filter(|_| inside),
        // With `-m arbitrary` the list gives each rank its node, in order.
        nodelist: match manner.hostfile.as_slice() {
            [] => only_inside(&rare.nodelist),
            hosts => Some(hosts.join(",")),
        },
        exclude: only_inside(&rare.exclude),
        gres_per_node: convert::gres_list_outwards(&devices.per_node),
        gres_none: component.has("gres") && request.gres_per_node.is_empty(),
        exclusive: inside && manner.exclusive,
        exact: inside && (manner.exact || manner.exclusive),
        overlap: manner.overlap,
        overcommit: rare.overcommit,
        time_limit_ms: request.time_limit.filter(|_| inside && by_user("time")).map(convert::limit_outwards),
        distribution: rare.distribution.as_deref().map(str::to_owned),
        work_dir: request.work_dir.to_string(),
        submit_line: request.submit_line.to_string(),
        immediate_s: rare.immediate,
        gpus_per_job: convert::gres_list_outwards(&devices.per_step),
        gpus_per_task: convert::gres_list_outwards(&devices.per_task),
        relative: manner.relative,
        whole: manner.whole,
    }
}

/// The program as the supervisors are told: absolute where it is named by a path or lies in the working
/// directory, else as typed, to be looked for in the PATH that the task has.
fn find_program(program: &OsStr) -> OsString {
    if Path::new(program).is_absolute() {
        return program.to_owned();
    }
    // Joined as text, so that "./x" stays visible in complaints, as Slurm shows it.
    let mut joined = std::env::current_dir().unwrap_or_default().into_os_string();
    joined.push("/");
    joined.push(program);
    let named_by_path = program.as_bytes().contains(&b'/');
    if named_by_path || is_executable(Path::new(&joined)).unwrap_or(false) {
        return joined;
    }
    program.to_owned()
}

fn is_executable(path: &Path) -> io::Result<bool> {
    let found = path.metadata()?;
    Ok(found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A pattern of srun's own files: those letters that are the same for all tasks.
fn expand(pattern: &str, job_id: u32, step_id: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.extend(rest.next()),
            '%' => {
                let mut width = String::new();
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    width.push(digit);
                }
                let pad = width.parse::<usize>().unwrap_or(0).min(10);
                let value = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
                match rest.next() {
                    Some('%') => out.push('%'),
                    Some('j') => out.push_str(&format!("{job_id:0pad$}")),
                    Some('J') => out.push_str(&format!("{job_id}.{step_id}")),
                    Some('s') => out.push_str(step_id),
                    Some('A') => {
                        out.push_str(&value("SLURM_ARRAY_JOB_ID").unwrap_or_else(|| job_id.to_string()))
                    }
                    Some('a') => {
                        out.push_str(&value("SLURM_ARRAY_TASK_ID").unwrap_or_else(|| "4294967294".to_owned()))
                    }
                    Some('u') => out.push_str(&crate::local::user_name(nix::unistd::getuid().as_raw())),
                    Some('x') => out.push_str(&value("SLURM_JOB_NAME").unwrap_or_else(|| name.to_owned())),
                    other => {
                        out.push('%');
                        out.push_str(&width);
                        out.extend(other);
                    }
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// Names of the nodes of a step, from what the scheduler answered.
pub(super) fn node_names(reply: &proto::v1::CreateStepReply) -> Vec<String> {
    let name = |node: &proto::v1::StepNode| {
        node.allocation.as_ref().map(|held| held.node.clone()).unwrap_or_default()
    };
    reply.nodes.iter().map(name).collect()
}

/// The step's id with its job's.
pub(super) fn step_name(job_id: u32, step_id: &str) -> String {
    let job = proto::v1::Job { job_id, ..proto::v1::Job::default() };
    format!("{}.{step_id}", job::id(&job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        assert_eq!(find_program(OsStr::new("/tmp")), "/tmp");
        assert!(find_program(OsStr::new("./x")).to_string_lossy().ends_with("/./x"));
        assert_eq!(find_program(OsStr::new("no-such-program")), "no-such-program");
        assert_eq!(find_program(OsStr::new("sh")), "sh");
    }

    #[test]
    fn tasks_are_bound_as_either_option_says() {
        let mut request = JobRequest::default();
        assert_eq!(gpu_bind(&request, &[]), None);
        request.rare_mut().tres_bind = Some("gres/gpu:verbose,map:1,0".into());
        assert_eq!(gpu_bind(&request, &[]).as_deref(), Some("verbose,map_gpu:1,0"));
        request.rare_mut().gpu_bind = Some("none".into());
        assert_eq!(gpu_bind(&request, &[]).as_deref(), Some("none"), "the option for GPUs is the nearer one");
    }

    /// The devices of a step with these options, each `source` a letter: c(ommand line) or e(nvironment).
    fn devices(inside: bool, options: &[(&'static str, char, &str)]) -> [String; 3] {
        let mut component = Component::default();
        component.manner.jobid = inside.then_some(7);
        for &(long, source, text) in options {
            let source = if source == 'c' { Source::CommandLine } else { Source::Environment };
            component.given.insert(long, source);
            component.values.insert(long, text.to_owned());
            let gpus = model::gres::parse_gpus(text).unwrap_or_default();
            match long {
                "gres" => component.request.gres_per_node = model::gres::parse_list(text).unwrap(),
                "gpus" => component.request.gpus_per_job = gpus,
                "gpus-per-node" => component.request.gpus_per_node = gpus,
                "gpus-per-socket" => component.request.gpus_per_socket = gpus,
                "gpus-per-task" => component.request.gpus_per_task = gpus,
                _ => {}
            }
        }
        let Devices { per_node, per_step, per_task } = Devices::of(&component);
        [per_node, per_step, per_task].map(|list| model::gres::node_text(&list))
    }

    #[test]
    fn what_srun_is_told_of_gpus_stands_before_what_its_job_was_told() {
        let of_job = [("gpus", 'e', "4"), ("gpus-per-task", 'e', "2"), ("gpus-per-node", 'e', "3")];
        let with = |option| devices(true, &[&of_job[..], &[option]].concat());
        assert_eq!(devices(true, &of_job), ["", "", "gpu:2"]);
        assert_eq!(with(("gpus", 'c', "1")), ["", "gpu:1", ""]);
        assert_eq!(with(("gpus-per-node", 'c', "a100:1")), ["gpu:a100:1", "", ""]);
        assert_eq!(with(("gpus-per-socket", 'c', "1")), ["gpu:1", "", ""]);
        assert_eq!(with(("gpus-per-task", 'c', "1")), ["", "", "gpu:1"]);
        assert_eq!(with(("gres", 'c', "gpu:1")), ["gpu:1", "", ""]);
        assert_eq!(with(("gres", 'c', "none")), ["", "", ""]);
        assert_eq!(with(("gres", 'c', "nic:1")), ["nic:1", "", "gpu:2"], "that says nothing of GPUs");
        assert_eq!(with(("tres-per-task", 'c', "cpu:1")), ["", "", "gpu:2"], "nor does that");
        // An allocation of its own was asked for with all of it.
        let own = [("gpus", 'c', "4"), ("gpus-per-task", 'c', "2"), ("gres", 'c', "nic:1")];
        assert_eq!(devices(false, &own), ["", "", "gpu:2"]);
    }

    #[test]
    fn patterns_and_inputs() {
        assert_eq!(expand("p-%J-%s-%3j-%q", 7, "1", "n"), "p-7.1-1-007-%q");
        assert_eq!(input(Some("1"), Path::new("/w")), Input::Own(Some(1)));
        assert_eq!(input(Some("in"), Path::new("/w")), Input::File("/w/in".into()));
        assert_eq!(input(Some("none"), Path::new("/w")), Input::Nothing);
    }
}
