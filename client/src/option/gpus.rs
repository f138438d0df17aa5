//! What the GPU options say together: some exclude each other, counts must fit, and from two of them follows a third.
//!
//! Only for whole jobs: a step takes from what its job has. Texts and order are Slurm's, since scripts search for them.

use model::gres::{self, GresRequest};
use model::refusal::Refusal;

use super::draft::Draft;
use super::{Program, Stop};

/// Checks the counts against each other, and derives the number of tasks from two of them.
///
/// # Errors
/// The words to print and the exit status, where the options contradict each other.
pub(super) fn settle(draft: &mut Draft<'_>, inside_job: bool) -> Result<(), Stop> {
    let program = draft.program;
    if program == Program::Srun && inside_job {
        return Ok(());
    }
    exclusions(draft)?;
    let invalid = |line: String| Stop::errors(program, vec![line, Refusal::InvalidGres.text().to_owned()], 1);
    let counts = Counts::of(draft);
    counts.whole_and_part().map_err(|line| invalid(line.to_owned()))?;
    let request = &mut draft.request;
    if counts.job > 0 && counts.node > 0 {
        let nodes = u32::try_from(counts.job / counts.node).unwrap_or(u32::MAX);
        if request.nodes.is_some_and(|(least, _)| least > nodes) {
            return Err(invalid("Failed to validate job spec, --gpus < -N".to_owned()));
        }
    } else if counts.job > 0 && request.nodes.is_some_and(|(least, _)| u64::from(least) > counts.job) {
        return Err(invalid("Failed to validate job spec, --gpus < -N".to_owned()));
    }
    if counts.job > 0 && counts.task > 0 {
        let tasks = u32::try_from(counts.job / counts.task).unwrap_or(u32::MAX);
        if *request.ntasks.get_or_insert(tasks) != tasks {
            let line = "Failed to validate job spec. Based on --gpus and --gpus-per-task number of requested tasks \
                        differ from -n/--ntasks.";
            return Err(invalid(line.to_owned()));
        }
    }
    let counted = request.ntasks.is_some() || request.nodes.is_some();
    if counts.task > 0 && counts.job == 0 && !counted {
        let line = "Failed to validate job spec. --gpus-per-task or --tres-per-task used without either --gpus or \
                    -n/--ntasks is not allowed.";
        return Err(invalid(line.to_owned()));
    }
    Ok(())
}

/// How many GPUs are asked for, by what.
struct Counts {
    job: u64,
    node: u64,
    socket: u64,
    task: u64,
    sockets: Option<u32>,
}

impl Counts {
    fn of(draft: &Draft<'_>) -> Self {
        let request = &draft.request;
        Counts {
            job: sum(&request.gpus_per_job),
            node: sum(&request.gpus_per_node) + sum(&request.gres_per_node),
            socket: sum(&request.gpus_per_socket),
            task: sum(&request.gpus_per_task),
            sockets: request.rare().sockets_per_node,
        }
    }

    /// A whole must be at least its parts, and a multiple of them.
    fn whole_and_part(&self) -> Result<(), &'static str> {
        let less = |whole: u64, part: u64| whole > 0 && part > 0 && whole < part;
        let odd = |whole: u64, part: u64| whole > 0 && part > 0 && !whole.is_multiple_of(part);
        if self.socket > 0 && self.sockets.is_none() {
            return Err("--gpus-per-socket option requires --sockets-per-node specification");
        }
        if less(self.job, self.node) || less(self.job, self.socket) {
            return Err("Failed to ensure --gpus >= --gres=gpu/--gpus-per-node >= --gpus-per-socket");
        }
        if less(self.job, self.task) || less(self.node, self.socket) {
            return Err("Failed to ensure --gpus >= --gpus-per-task");
        }
        if odd(self.job, self.node) {
            return Err("Failed to validate job spec, --gpus is not multiple of --gres=gpu/--gpus-per-node");
        }
        if odd(self.job, self.task) {
            return Err("Failed to validate job spec, --gpus not multiple of --gpus-per-task");
        }
        Ok(())
    }

    fn any(&self) -> bool {
        self.job + self.node + self.socket + self.task > 0
    }
}

fn sum(list: &[GresRequest]) -> u64 {
    list.iter().filter(|gres| gres.is_gpu()).map(|gres| gres.count).sum()
}

/// What each task is given, as the environment names it: `cpu=2,gres/gpu:a100=1`.
pub(crate) fn tres_per_task(request: &model::request::JobRequest) -> Option<String> {
    gres::per_task_text(request.cpus_per_task, &request.gpus_per_task)
}

/// Options of which only one may be given.
fn exclusions(draft: &Draft<'_>) -> Result<(), Stop> {
    let (program, request) = (draft.program, &draft.request);
    let gpus_of_nodes = request.gres_per_node.iter().filter(|gres| gres.is_gpu() && gres.count > 0);
    let lists = [
        (!request.gpus_per_node.is_empty() && gpus_of_nodes.clone().next().is_some())
            .then_some("--gpus-per-node and --gres=gpu are mutually exclusive."),
        (!request.gpus_per_task.is_empty() && request.rare().ntasks_per_gpu.is_some()).then_some(
            "--gpus-per-task is mutually exclusive with --ntasks-per-gpu and SLURM_NTASKS_PER_GPU",
        ),
        (draft.has("cpus-per-task") && request.rare().cpus_per_gpu.is_some())
            .then_some("--cpus-per-task, --tres-per-task=cpu:#, and --cpus-per-gpu are mutually exclusive"),
    ];
    if let Some(line) = lists.into_iter().flatten().next() {
        return Err(Stop::fatal(program, line));
    }
    let (mut typed, mut untyped) = (false, false);
    gpus_of_nodes.for_each(|gres| if gres.kind.is_some() { typed = true } else { untyped = true });
    if typed && untyped {
        let line = "Invalid GRES specification (with and without type identification)".to_owned();
        return Err(Stop::errors(program, vec![line], 1));
    }
    Ok(())
}

/// Amounts per GPU need GPUs. Memory must have been settled.
///
/// # Errors
/// The words to print and the exit status.
pub(super) fn needs(draft: &Draft<'_>, inside_job: bool) -> Result<(), Stop> {
    let program = draft.program;
    if program == Program::Srun && inside_job || Counts::of(draft).any() {
        return Ok(());
    }
    lacks(draft).map_or(Ok(()), |line| {
        Err(Stop::errors(program, vec![line, Refusal::InvalidGres.text().to_owned()], 1))
    })
}

fn lacks(draft: &Draft<'_>) -> Option<String> {
    let (request, rare) = (&draft.request, draft.request.rare());
    if let Some(cpus) = rare.cpus_per_gpu {
        return Some(format!("Requested cpus_per_tres=gres/gpu:{cpus} but did not request any GPU."));
    }
    if let Some(model::request::MemoryRequest::PerGpu(mib)) = request.memory {
        return Some(format!("Requested mem_per_tres=gres/gpu:{} but did not request any GPU.", mib.0));
    }
    (rare.ntasks_per_gpu.is_some() && request.ntasks.is_none() && request.nodes.is_none()).then(|| {
        "gres_job_state_validate: --ntasks-per-tres needs either a GRES GPU specification or a node/ntask \
         specification"
            .to_owned()
    })
}
