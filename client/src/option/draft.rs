//! What the options of one component have said so far, and how it becomes a request.

use std::collections::BTreeMap;

use model::refusal::Refusal;
use model::request::{JobRequest, Kind, MemoryRequest};
use model::time::Timestamp;

use super::{Program, Stop};

/// Where an option was given; later ones win over earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A line of the script.
    Directive,
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

/// What the options say that is no part of the request: how the command itself behaves, and what a step
/// of srun is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// `-v`, counted.
    pub verbose: u32,
    /// `-Q`.
    pub quiet: bool,
    /// `--parsable`.
    pub parsable: bool,
    /// `--test-only`.
    pub test_only: bool,
    /// `sbatch --wait`.
    pub wait: bool,
    /// `--wait-all-nodes`.
    pub wait_all_nodes: Option<bool>,
    /// `--clusters`.
    pub clusters: Option<String>,
    /// `salloc --no-shell`.
    pub no_shell: bool,
    /// `salloc --bell` and `--no-bell`.
    pub bell: Option<bool>,
    /// `salloc --kill-command`: the signal.
    pub kill_command: Option<u8>,
    /// `--export`, as typed.
    pub export: Option<String>,
    /// `--export-file`, as typed.
    pub export_file: Option<String>,
    /// `--wrap`.
    pub wrap: Option<String>,
    /// `--ignore-pbs`.
    pub ignore_pbs: bool,
    /// `--nodefile`.
    pub nodefile: Option<String>,
    /// `--propagate`: names of limits, in capitals.
    pub propagate: Option<String>,
    /// `srun --jobid`.
    pub jobid: Option<u32>,
    /// `srun --label`.
    pub label: bool,
    /// `srun --unbuffered`.
    pub unbuffered: bool,
    /// `srun --kill-on-bad-exit`.
    pub kill_on_bad_exit: Option<bool>,
    /// `srun --wait`: seconds.
    pub wait_seconds: Option<u32>,
    /// `srun --multi-prog`.
    pub multi_prog: bool,
    /// `srun --het-group`, as typed.
    pub het_group: Option<String>,
    /// `srun --mpi`.
    pub mpi: Option<String>,
    /// `srun --ignore-signals`: numbers of those that are not passed on to the tasks.
    pub ignored_signals: Vec<i32>,
    /// `srun --cpu-bind`, as typed.
    pub cpu_bind: Option<String>,
    /// `srun --exact`.
    pub exact: bool,
    /// `srun --exclusive` as given to a step.
    pub exclusive: bool,
    /// `srun --overlap`.
    pub overlap: bool,
    /// `srun --whole`.
    pub whole: bool,
    /// `srun --relative`.
    pub relative: Option<u32>,
    /// `srun --pty`.
    pub pty: bool,
    /// `srun --prolog`.
    pub prolog: Option<String>,
    /// `srun --epilog`.
    pub epilog: Option<String>,
    /// `srun --task-prolog`.
    pub task_prolog: Option<String>,
    /// `srun --task-epilog`.
    pub task_epilog: Option<String>,
    /// `srun --quit-on-interrupt`.
    pub quit_on_interrupt: bool,
    /// `srun --disable-status`.
    pub disable_status: bool,
    /// `srun --preserve-env`.
    pub preserve_env: bool,
    /// `srun --interactive`: salloc's own step.
    pub interactive: bool,
    /// `srun --wait-for-children`.
    pub wait_for_children: bool,
    /// What `-B` makes of a node: so many tasks where no other word says how many.
    pub tasks_per_node: Option<u32>,
    /// `--chdir` was given.
    pub chdir: Option<String>,
    /// Hosts in the order of `SLURM_HOSTFILE` with `-m arbitrary`, repeats kept.
    pub hostfile: Vec<String>,
}

/// What one component has been told.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'w> {
    /// What it asks for.
    pub request: JobRequest,
    /// How the command behaves.
    pub manner: Manner,
    /// Time and zone for texts like `now+1hour`.
    pub now: Timestamp,
    /// Seconds that local time is ahead of UTC.
    pub zone: ZoneRef<'w>,
    /// Which program.
    pub program: Program,
    /// Who runs it.
    pub uid: u32,
    /// Memory as each source gave it: `mem`, `mem-per-cpu`, `mem-per-gpu`.
    pub memory: BTreeMap<(Source, &'static str), MemoryRequest>,
    /// The source of each option that was given, by its long name.
    pub given: BTreeMap<&'static str, Source>,
    /// The value of each of them as it was given last; empty without one.
    pub values: BTreeMap<&'static str, String>,
    /// Where the option that is being set stands.
    pub source: Source,
}

/// A zone that can be shown in debug output.
#[derive(Clone, Copy)]
pub(crate) struct ZoneRef<'w>(pub &'w dyn Fn(i64) -> i32);

impl std::fmt::Debug for ZoneRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("zone")
    }
}

impl<'w> Draft<'w> {
    pub(crate) fn new(program: Program, world: &super::World<'w>) -> Draft<'w> {
        let kind = match program {
            Program::Sbatch => Kind::Batch,
            Program::Salloc => Kind::Allocation,
            Program::Srun => Kind::Step,
        };
        Draft {
            request: JobRequest { kind, ..JobRequest::default() },
            manner: Manner::default(),
            now: world.now,
            zone: ZoneRef(world.zone),
            program,
            uid: world.uid,
            memory: BTreeMap::new(),
            given: BTreeMap::new(),
            values: BTreeMap::new(),
            source: Source::Directive,
        }
    }

    /// True if the option was given anywhere.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.given.contains_key(long)
    }

    /// Chooses the memory of the strongest source; two kinds from one source are fatal.
    fn settle_memory(&mut self) -> Result<(), Stop> {
        let Some(strongest) = self.memory.keys().map(|(source, _)| *source).max() else { return Ok(()) };
        let mut of_source = self.memory.iter().filter(|((source, _), _)| *source == strongest);
        let chosen = of_source.next().map(|(_, memory)| *memory);
        if of_source.next().is_some() {
            let line = "--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.";
            return Err(Stop::fatal(self.program, line));
        }
        self.request.memory = chosen;
        Ok(())
    }

    /// A hint gives way to what says the same in numbers; with `-v` that is told.
    fn settle_hint(&mut self) -> Option<String> {
        const NUMBERS: [&str; 5] = [
            "ntasks-per-core",
            "cores-per-socket",
            "threads-per-core",
            "sockets-per-node",
            "extra-node-info",
        ];
        if !self.has("hint") || !NUMBERS.iter().any(|long| self.has(long)) {
            return None;
        }
        let threads = self.values.get("threads-per-core").and_then(|text| text.parse().ok());
        let by_hint = !self.has("threads-per-core") && !self.has("extra-node-info");
        let rare = self.request.rare_mut();
        rare.hint = None;
        if by_hint || threads.is_some() {
            rare.threads_per_core = threads;
        }
        (self.manner.verbose > 0).then(|| {
            format!(
                "{}: Following options are mutually exclusive with --hint: --ntasks-per-core, --cores-per-socket, \
                 --threads-per-core, --sockets-per-node, -B and --cpu-bind (other than --cpu-bind=verbose). Ignoring \
                 --hint.",
                self.program.name()
            )
        })
    }

    /// Planes that leave a node without a task.
    fn check_plane(&self) -> Result<(), Stop> {
        let levels = self.request.rare().distribution.as_deref().unwrap_or_default();
        let plane =
            levels.strip_prefix("plane=").and_then(|size| size.split(',').next()?.parse::<u32>().ok());
        let (Some(plane), Some(tasks), Some((nodes, _))) = (plane, self.request.ntasks, self.request.nodes)
        else {
            return Ok(());
        };
        if tasks > nodes && u64::from(nodes - 1) * u64::from(plane) >= u64::from(tasks) {
            let line = "Too few processes for the requested {plane,node} distribution".to_owned();
            return Err(Stop::errors(self.program, vec![line], 1));
        }
        Ok(())
    }

    /// Checks what concerns several options. Gives the warnings to print.
    pub(crate) fn settle(&mut self) -> Result<Vec<String>, Stop> {
        self.settle_memory()?;
        let mut warnings = Vec::new();
        warnings.extend(self.settle_hint());
        if let (Some(each), None, None) =
            (self.manner.tasks_per_node, self.request.ntasks, self.request.ntasks_per_node)
        {
            let nodes = self.request.nodes.map_or(1, |(least, _)| least);
            self.request.ntasks = Some(each.saturating_mul(nodes));
        }
        self.check_plane()?;
        if let (Some(tasks), Some((least, most))) = (self.request.ntasks, self.request.nodes)
            && tasks < least
        {
            warnings.push(format!(
                "{}: warning: can't run {tasks} processes on {least} nodes, setting nnodes to {tasks}",
                self.program.name()
            ));
            self.request.nodes = Some((tasks, most.map(|most| most.min(tasks))));
        }
        Ok(warnings)
    }

    /// A refusal that the scheduler would give, found before asking it.
    pub(crate) fn refused(&self, refusal: Refusal) -> Stop {
        Stop::refused(self.program, refusal)
    }
}
