//! Every option of sbatch, salloc and srun of Slurm 22.05 to 26.05: spelling, environment, effect.
//!
//! One row an option, in alphabetical order, which is the order in which getopt names candidates. An
//! option that is not supported is refused by name; none is swallowed.

use model::gres;
use model::refusal::Refusal;
use model::request::{MemoryRequest, OpenMode, Sharing, WarnSignal};
use model::time::{Span, Timestamp, limit, moment};

use super::container;
use super::draft::Draft;
use super::read::{self, Bad, Outcome, natural, positive};
use crate::getopt::Takes;

/// Which programs have an option.
pub(crate) const SBATCH: u8 = 1;
/// See [`SBATCH`].
pub(crate) const SALLOC: u8 = 2;
/// See [`SBATCH`].
pub(crate) const SRUN: u8 = 4;
const ALL: u8 = SBATCH | SALLOC | SRUN;
const BOTH: u8 = SBATCH | SRUN;
const WAITING: u8 = SALLOC | SRUN;

/// What an option does.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// Sets something.
    Set(fn(&mut Draft<'_>, &str) -> Outcome),
    /// The same, where the value may be missing.
    SetMaybe(fn(&mut Draft<'_>, Option<&str>) -> Outcome),
    /// Prints a text and ends: `--help`, `--usage`, `--version`.
    Stop(Printed),
    /// Is refused by name.
    Refuse,
}

/// What an option prints that ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// All options.
    Help,
    /// A summary.
    Usage,
    /// The version.
    Version,
}

/// One option.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Letter, 0 where it has none.
    pub short: u8,
    /// Name.
    pub long: &'static str,
    /// Whether a value follows.
    pub takes: Takes,
    /// Programs that have it.
    pub on: u8,
    /// Name in the environment behind the program's prefix; empty where it has none; with `=` before it
    /// only srun reads it.
    pub env: &'static str,
    /// What it does.
    pub effect: Effect,
}

/// An option with a value.
const fn value(
    short: u8,
    long: &'static str,
    on: u8,
    env: &'static str,
    set: fn(&mut Draft<'_>, &str) -> Outcome,
) -> Row {
    Row { short, long, takes: Takes::Value, on, env, effect: Effect::Set(set) }
}

/// An option whose value may be missing.
const fn maybe(
    short: u8,
    long: &'static str,
    on: u8,
    env: &'static str,
    set: fn(&mut Draft<'_>, Option<&str>) -> Outcome,
) -> Row {
    Row { short, long, takes: Takes::Maybe, on, env, effect: Effect::SetMaybe(set) }
}

/// An option without a value.
const fn flag(
    short: u8,
    long: &'static str,
    on: u8,
    env: &'static str,
    set: fn(&mut Draft<'_>, &str) -> Outcome,
) -> Row {
    Row { short, long, takes: Takes::Nothing, on, env, effect: Effect::Set(set) }
}

/// An option that is refused.
const fn refuse(short: u8, long: &'static str, takes: Takes, on: u8, env: &'static str) -> Row {
    Row { short, long, takes, on, env, effect: Effect::Refuse }
}

const fn stop(short: u8, long: &'static str, printed: Printed) -> Row {
    Row { short, long, takes: Takes::Nothing, on: ALL, env: "", effect: Effect::Stop(printed) }
}

/// Sets fields of the draft that are texts.
macro_rules! text {
    ($($field:ident).+) => { |draft, text| { draft.$($field).+ = Some(text.into()); Ok(()) } };
}
/// Sets rare fields that are texts.
macro_rules! rare {
    ($field:ident) => {
        |draft, text| {
            draft.request.rare_mut().$field = Some(text.into());
            Ok(())
        }
    };
}
/// The same, where an empty text says nothing.
macro_rules! rare_unless_empty {
    ($field:ident) => {
        |draft, text| {
            draft.request.rare_mut().$field = (!text.is_empty()).then(|| text.into());
            Ok(())
        }
    };
}
/// Sets rare fields that are whole numbers from 1.
macro_rules! rare_count {
    ($field:ident) => {
        |draft, text| {
            draft.request.rare_mut().$field = Some(positive(text)?);
            Ok(())
        }
    };
}
/// Sets fields that are yes.
macro_rules! yes {
    ($($field:ident).+) => { |draft, _| { draft.$($field).+ = true; Ok(()) } };
}
/// Sets rare fields that are yes.
macro_rules! rare_yes {
    ($field:ident) => {
        |draft, _| {
            draft.request.rare_mut().$field = true;
            Ok(())
        }
    };
}
/// Sets lists of GPUs.
macro_rules! gpus {
    ($field:ident) => {
        |draft, text| {
            draft.request.$field = gpu_list(text)?;
            Ok(())
        }
    };
}

/// Options that are stored with the job and shown, and change nothing else: what they steer in Slurm is not built, or
/// does not exist without a plugin. The reference (`cargo xtask bless`) lists them apart.
#[cfg_attr(not(test), expect(dead_code, reason = "read by the generator of the reference and by tests"))]
pub(crate) const STORED: &[&str] = &[
    "acctg-freq",
    "bb",
    "comment",
    "container",
    "container-id",
    "core-spec",
    "delay-boot",
    "extra",
    "gres-flags",
    "mcs-label",
    "network",
    "no-kill",
    "prefer",
    "resv-ports",
    "thread-spec",
    "use-min-nodes",
    "wait-all-nodes",
    "wckey",
];

/// The table.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    refuse(0, "accel-bind", Takes::Value, SRUN, ""),
    value(b'A', "account", ALL, "ACCOUNT", text!(request.account)),
    value(0, "acctg-freq", ALL, "ACCTG_FREQ", |draft, text| {
        read::acctg_freq(text)?;
        draft.request.rare_mut().acctg_freq = (!text.is_empty()).then(|| text.into());
        Ok(())
    }),
    value(b'a', "array", SBATCH, "ARRAY_INX", array),
    refuse(0, "async", Takes::Nothing, SRUN, ""),
    refuse(0, "batch", Takes::Value, SBATCH, "BATCH"),
    value(0, "bb", ALL, "BURST_BUFFER", rare!(burst_buffer)),
    refuse(0, "bbf", Takes::Value, ALL, ""),
    refuse(0, "bcast", Takes::Maybe, SRUN, "BCAST"),
    refuse(0, "bcast-exclude", Takes::Value, SRUN, "BCAST_EXCLUDE"),
    value(b'b', "begin", ALL, "", |draft, text| { draft.request.begin = Some(when(draft, text)?); Ok(()) }),
    flag(0, "bell", SALLOC, "BELL", |draft, _| { draft.manner.bell = Some(true); Ok(()) }),
    value(b'D', "chdir", ALL, "=WORKING_DIR", text!(manner.chdir)),
    value(0, "cluster", ALL, "", text!(manner.clusters)),
    // Chooses among the clusters of a federation: of one cluster it is kept and shown, as in Slurm.
    value(0, "cluster-constraint", ALL, "CLUSTER_CONSTRAINT", rare!(cluster_constraint)),
    value(b'M', "clusters", ALL, "CLUSTERS", text!(manner.clusters)),
    value(0, "comment", ALL, "", rare!(comment)),
    refuse(0, "compress", Takes::Maybe, SRUN, "COMPRESS"),
    refuse(0, "consolidate-segments", Takes::Nothing, ALL, ""),
    value(b'C', "constraint", ALL, "CONSTRAINT", text!(request.constraint)),
    value(0, "container", ALL, "CONTAINER", container::image),
    flag(0, "container-entrypoint", ALL, "CONTAINER_ENTRYPOINT", |draft, _| { container::options(draft).entrypoint = true; Ok(()) }),
    refuse(0, "container-entrypoint-log", Takes::Nothing, ALL, "CONTAINER_ENTRYPOINT_LOG"),
    value(0, "container-env", ALL, "CONTAINER_ENV", container::environment),
    value(0, "container-id", ALL, "CONTAINER_ID", rare!(container_id)),
    value(0, "container-image", ALL, "CONTAINER_IMAGE", container::pyxis_image),
    flag(0, "container-mount-home", ALL, "CONTAINER_MOUNT_HOME", |draft, _| { container::options(draft).mount_home = Some(true); Ok(()) }),
    value(0, "container-mounts", ALL, "CONTAINER_MOUNTS", container::mounts),
    refuse(0, "container-name", Takes::Value, ALL, "CONTAINER_NAME"),
    flag(0, "container-readonly", ALL, "CONTAINER_READONLY", |draft, _| { container::options(draft).writable = false; Ok(()) }),
    flag(0, "container-remap-root", ALL, "CONTAINER_REMAP_ROOT", |draft, _| { container::options(draft).remap_root = true; Ok(()) }),
    refuse(0, "container-save", Takes::Value, ALL, "CONTAINER_SAVE"),
    refuse(0, "container-type", Takes::Value, ALL, "CONTAINER_TYPE"),
    value(0, "container-workdir", ALL, "CONTAINER_WORKDIR", container::work_dir),
    flag(0, "container-writable", ALL, "CONTAINER_WRITABLE", |draft, _| { container::options(draft).writable = true; Ok(()) }),
    flag(0, "contiguous", ALL, "", rare_yes!(contiguous)),
    value(b'S', "core-spec", ALL, "CORE_SPEC", |draft, text| {
        draft.request.rare_mut().core_spec = Some(natural(text)?);
        Ok(())
    }),
    value(0, "cores-per-socket", ALL, "", rare_count!(cores_per_socket)),
    value(0, "cpu-bind", SRUN, "CPU_BIND", text!(manner.cpu_bind)),
    refuse(0, "cpu-freq", Takes::Value, ALL, "CPU_FREQ_REQ"),
    value(0, "cpus-per-gpu", ALL, "CPUS_PER_GPU", rare_count!(cpus_per_gpu)),
    value(b'c', "cpus-per-task", ALL, "", |draft, text| { draft.request.cpus_per_task = Some(positive(text)?); Ok(()) }),
    value(0, "deadline", ALL, "", |draft, text| {
        draft.request.rare_mut().deadline = Some(when(draft, text)?);
        Ok(())
    }),
    refuse(0, "debugger-test", Takes::Nothing, SRUN, ""),
    value(0, "delay-boot", ALL, "DELAY_BOOT", |draft, text| {
        draft.request.rare_mut().delay_boot = limit::parse(text).map_err(|_| Bad::Invalid)?;
        Ok(())
    }),
    value(b'd', "dependency", ALL, "=DEPENDENCY", |draft, text| {
        draft.request.dependency =
            model::depend::Dependency::parse(text).map_err(|_| Bad::Refused(Refusal::InvalidDependency))?;
        Ok(())
    }),
    flag(b'X', "disable-status", SRUN, "DISABLE_STATUS", yes!(manner.disable_status)),
    value(b'm', "distribution", ALL, "DISTRIBUTION", |draft, text| {
        read::distribution(text)?;
        draft.request.rare_mut().distribution = Some(text.into());
        Ok(())
    }),
    value(0, "epilog", SRUN, "EPILOG", text!(manner.epilog)),
    value(b'e', "error", BOTH, "ERROR", text!(request.files.stderr)),
    flag(0, "exact", SRUN, "EXACT", yes!(manner.exact)),
    value(b'x', "exclude", ALL, "", rare!(exclude)),
    maybe(0, "exclusive", ALL, "EXCLUSIVE", exclusive),
    value(0, "export", BOTH, "EXPORT", text!(manner.export)),
    value(0, "export-file", SBATCH, "", text!(manner.export_file)),
    flag(0, "external-launcher", SRUN, "", |draft, _| {
        // Beside all other steps, with all that the job has on each node; the launcher's own protocol serves its tasks.
        (draft.manner.overlap, draft.manner.whole) = (true, true);
        draft.manner.mpi = Some("none".to_owned());
        Ok(())
    }),
    value(0, "extra", ALL, "", rare!(extra)),
    value(b'B', "extra-node-info", ALL, "", |draft, text| {
        let [sockets, cores, threads] = read::sockets_cores_threads(text)?;
        let rare = draft.request.rare_mut();
        (rare.sockets_per_node, rare.cores_per_socket, rare.threads_per_core) = (sockets, cores, threads);
        draft.manner.tasks_per_node = Some([sockets, cores, threads].iter().flatten().product());
        Ok(())
    }),
    flag(0, "get-user-env", SBATCH | SALLOC, "GET_USER_ENV", |draft, _| {
        draft.request.rare_mut().get_user_env = true;
        Ok(())
    }),
    value(0, "gid", SBATCH | SALLOC, "", |draft, _| only_root(draft, "gid")),
    value(0, "gpu-bind", ALL, "GPU_BIND", gpu_bind),
    refuse(0, "gpu-freq", Takes::Value, ALL, "GPU_FREQ"),
    value(b'G', "gpus", ALL, "GPUS", gpus!(gpus_per_job)),
    value(0, "gpus-per-node", ALL, "GPUS_PER_NODE", gpus!(gpus_per_node)),
    value(0, "gpus-per-socket", ALL, "GPUS_PER_SOCKET", gpus!(gpus_per_socket)),
    value(0, "gpus-per-task", ALL, "GPUS_PER_TASK", gpus!(gpus_per_task)),
    value(0, "gres", ALL, "GRES", gres_per_node),
    value(0, "gres-flags", ALL, "GRES_FLAGS", gres_flags),
    stop(b'h', "help", Printed::Help),
    value(0, "het-group", SRUN, "HET_GROUP", text!(manner.het_group)),
    value(0, "hint", ALL, "HINT", hint),
    flag(b'H', "hold", ALL, "", yes!(request.hold)),
    flag(0, "ignore-pbs", SBATCH, "IGNORE_PBS", yes!(manner.ignore_pbs)),
    value(0, "ignore-signals", SRUN, "", |draft, text| {
        for name in text.split(',') {
            let signal = model::signal::parse(name)
                .ok_or_else(|| Bad::Said(format!("Invalid signal name or number: {name}")))?;
            draft.manner.ignored_signals.push(i32::from(signal));
        }
        Ok(())
    }),
    maybe(b'I', "immediate", WAITING, "IMMEDIATE", |draft, text| {
        draft.request.rare_mut().immediate = Some(natural(text.unwrap_or("1"))?);
        Ok(())
    }),
    value(b'i', "input", BOTH, "INPUT", text!(request.files.stdin)),
    flag(0, "interactive", SRUN, "", yes!(manner.interactive)),
    value(b'J', "job-name", ALL, "JOB_NAME", |draft, text| { draft.request.name = text.into(); Ok(()) }),
    value(0, "jobid", SRUN, "JOB_ID", |draft, text| { draft.manner.jobid = Some(positive(text)?); Ok(()) }),
    maybe(b'K', "kill-command", SALLOC, "KILL_CMD", |draft, text| {
        draft.manner.kill_command = Some(model::signal::parse(text.unwrap_or("TERM")).ok_or(Bad::Invalid)?);
        Ok(())
    }),
    maybe(b'K', "kill-on-bad-exit", SRUN, "KILL_BAD_EXIT", |draft, text| {
        draft.manner.kill_on_bad_exit = Some(natural(text.filter(|text| !text.is_empty()).unwrap_or("1"))? > 0);
        Ok(())
    }),
    value(0, "kill-on-invalid-dep", SBATCH, "", |draft, text| {
        draft.request.rare_mut().kill_on_invalid_dep = Some(read::yes_no(text)?);
        Ok(())
    }),
    flag(b'l', "label", SRUN, "LABELIO", yes!(manner.label)),
    value(b'L', "licenses", ALL, "", rare!(licenses)),
    value(0, "mail-type", ALL, "", |draft, text| {
        draft.request.rare_mut().mail_type = read::mail_type(text)?.map(String::into_boxed_str);
        Ok(())
    }),
    value(0, "mail-user", ALL, "", rare!(mail_user)),
    value(0, "mcs-label", ALL, "", rare!(mcs_label)),
    value(0, "mem", ALL, "MEM_PER_NODE", |draft, text| memory(draft, "mem", MemoryRequest::PerNode(read::mib(text)?))),
    value(0, "mem-bind", ALL, "MEM_BIND", |_, text| read::mem_bind(text)),
    value(0, "mem-per-cpu", ALL, "MEM_PER_CPU", |draft, text| {
        memory(draft, "mem-per-cpu", MemoryRequest::PerCpu(read::mib(text)?))
    }),
    value(0, "mem-per-gpu", ALL, "MEM_PER_GPU", |draft, text| {
        memory(draft, "mem-per-gpu", MemoryRequest::PerGpu(read::mib(text)?))
    }),
    refuse(0, "mincores", Takes::Value, ALL, ""),
    value(0, "mincpus", ALL, "", rare_count!(min_cpus_per_node)),
    refuse(0, "minsockets", Takes::Value, ALL, ""),
    refuse(0, "minthreads", Takes::Value, ALL, ""),
    value(0, "mpi", SRUN, "MPI_TYPE", mpi),
    refuse(0, "msg-timeout", Takes::Value, SRUN, ""),
    flag(0, "multi-prog", SRUN, "SRUN_MULTI", yes!(manner.multi_prog)),
    value(0, "network", ALL, "NETWORK", rare!(network)),
    maybe(0, "nice", ALL, "", nice),
    refuse(b'Z', "no-allocate", Takes::Nothing, SRUN, ""),
    flag(0, "no-bell", SALLOC, "NO_BELL", |draft, _| { draft.manner.bell = Some(false); Ok(()) }),
    flag(0, "no-container-entrypoint", ALL, "", |draft, _| { container::options(draft).entrypoint = false; Ok(()) }),
    flag(0, "no-container-mount-home", ALL, "", |draft, _| { container::options(draft).mount_home = Some(false); Ok(()) }),
    flag(0, "no-container-remap-root", ALL, "", |draft, _| { container::options(draft).remap_root = false; Ok(()) }),
    maybe(b'k', "no-kill", ALL, "NO_KILL", |draft, text| {
        draft.request.rare_mut().no_kill = match text.map(str::to_ascii_lowercase).as_deref() {
            Some("off" | "no") => false,
            None | Some("" | "1" | "yes" | "set") => true,
            Some(_) => return Err(Bad::Invalid),
        };
        Ok(())
    }),
    flag(0, "no-requeue", SBATCH, "NO_REQUEUE", |draft, _| { draft.request.requeue = Some(false); Ok(()) }),
    flag(0, "no-shell", SALLOC, "", yes!(manner.no_shell)),
    value(b'F', "nodefile", ALL, "", text!(manner.nodefile)),
    value(b'w', "nodelist", ALL, "", rare!(nodelist)),
    value(b'N', "nodes", ALL, "", |draft, text| { draft.request.nodes = read::nodes(text)?; Ok(()) }),
    value(b'n', "ntasks", ALL, "", |draft, text| { draft.request.ntasks = Some(positive(text)?); Ok(()) }),
    value(0, "ntasks-per-core", ALL, "", rare_count!(ntasks_per_core)),
    value(0, "ntasks-per-gpu", ALL, "", rare_count!(ntasks_per_gpu)),
    value(0, "ntasks-per-node", ALL, "", |draft, text| {
        draft.request.ntasks_per_node = Some(positive(text)?);
        Ok(())
    }),
    value(0, "ntasks-per-socket", ALL, "", rare_count!(ntasks_per_socket)),
    // Jobs are told 0, which is how steps are treated; another treatment is not built.
    maybe(0, "oom-kill-step", ALL, "OOM_KILL_STEP", |_, text| match text {
        Some("0") => Ok(()),
        _ => Err(Bad::Unsupported("--oom-kill-step".to_owned())),
    }),
    value(0, "open-mode", BOTH, "OPEN_MODE", |draft, text| {
        draft.request.files.open_mode = Some(match text.as_bytes().first().map(u8::to_ascii_lowercase) {
            Some(b'a') => OpenMode::Append,
            Some(b't') => OpenMode::Truncate,
            _ => return Err(Bad::Invalid),
        });
        Ok(())
    }),
    value(b'o', "output", BOTH, "OUTPUT", text!(request.files.stdout)),
    flag(b'O', "overcommit", ALL, "OVERCOMMIT", rare_yes!(overcommit)),
    flag(0, "overlap", SRUN, "OVERLAP", yes!(manner.overlap)),
    flag(b's', "oversubscribe", ALL, "", |draft, _| { draft.request.sharing = Sharing::Oversubscribe; Ok(()) }),
    flag(0, "parsable", SBATCH, "", yes!(manner.parsable)),
    value(b'p', "partition", ALL, "PARTITION", text!(request.partition)),
    value(0, "prefer", ALL, "", rare_unless_empty!(prefer)),
    flag(b'E', "preserve-env", SRUN, "", yes!(manner.preserve_env)),
    value(0, "priority", ALL, "", priority),
    value(0, "profile", ALL, "PROFILE", |draft, text| match text.to_ascii_lowercase().as_str() {
        "none" => { draft.request.rare_mut().profile = Some("none".into()); Ok(()) }
        _ if text.split(',').all(|word| ["energy", "task", "lustre", "network", "all"].contains(&word.to_ascii_lowercase().as_str())) =>
            Err(Bad::Unsupported(format!("--profile={text}"))),
        _ => Err(Bad::Said(format!("invalid --profile={text} option"))),
    }),
    value(0, "prolog", SRUN, "PROLOG", text!(manner.prolog)),
    maybe(0, "propagate", BOTH, "", |draft, text| {
        draft.manner.propagate = Some(propagate(text.unwrap_or("ALL"))?);
        Ok(())
    }),
    maybe(0, "pty", SRUN, "", |draft, text| match text {
        None | Some("") => { draft.manner.pty = true; Ok(()) }
        Some(text) => Err(Bad::Unsupported(format!("--pty={text}"))),
    }),
    value(b'q', "qos", ALL, "QOS", text!(request.qos)),
    flag(b'Q', "quiet", ALL, "", yes!(manner.quiet)),
    flag(0, "quit-on-interrupt", SRUN, "", yes!(manner.quit_on_interrupt)),
    refuse(0, "reboot", Takes::Nothing, ALL, ""),
    value(b'r', "relative", SRUN, "", |draft, text| { draft.manner.relative = Some(natural(text)?); Ok(()) }),
    flag(0, "requeue", SBATCH, "REQUEUE", |draft, _| { draft.request.requeue = Some(true); Ok(()) }),
    value(0, "reservation", ALL, "RESERVATION", rare_unless_empty!(reservation)),
    maybe(0, "resv-ports", SRUN, "RESV_PORTS", |draft, text| {
        draft.request.rare_mut().resv_ports = Some(natural(text.unwrap_or("0"))?);
        Ok(())
    }),
    value(0, "segment", ALL, "SEGMENT_SIZE", |draft, text| {
        draft.request.rare_mut().segment = Some(positive(text).map_err(|_| Bad::Invalid)?);
        Ok(())
    }),
    refuse(0, "send-libs", Takes::Maybe, SRUN, "SEND_LIBS"),
    flag(0, "share", ALL, "", |draft, _| { draft.request.sharing = Sharing::Oversubscribe; Ok(()) }),
    value(0, "signal", ALL, "SIGNAL", |draft, text| {
        let warning = model::signal::parse_warning(text).ok_or(Bad::Invalid)?;
        draft.request.rare_mut().warn_signal = Some(WarnSignal {
            signal: warning.signal,
            before: Span::from_secs(i64::from(warning.before_seconds)),
            batch_only: warning.batch_only,
            reservation: warning.reservation,
        });
        Ok(())
    }),
    refuse(0, "slurmd-debug", Takes::Value, SRUN, ""),
    value(0, "sockets-per-node", ALL, "", rare_count!(sockets_per_node)),
    flag(0, "spread-job", ALL, "SPREAD_JOB", rare_yes!(spread_job)),
    refuse(0, "spread-segments", Takes::Nothing, ALL, ""),
    refuse(0, "stepmgr", Takes::Nothing, ALL, ""),
    value(0, "switches", ALL, "REQ_SWITCH", |draft, text| {
        draft.request.rare_mut().switches = Some(read::switches(text)?);
        Ok(())
    }),
    value(0, "task-epilog", SRUN, "TASK_EPILOG", text!(manner.task_epilog)),
    value(0, "task-prolog", SRUN, "TASK_PROLOG", text!(manner.task_prolog)),
    value(0, "tasks-per-node", ALL, "", |draft, text| {
        draft.request.ntasks_per_node = Some(positive(text)?);
        Ok(())
    }),
    flag(0, "test-only", BOTH, "", yes!(manner.test_only)),
    value(0, "thread-spec", ALL, "THREAD_SPEC", |draft, text| {
        draft.request.rare_mut().thread_spec = Some(natural(text)?);
        Ok(())
    }),
    // How many threads srun starts for its messages: it has no such threads here, and nothing is lost.
    value(b'T', "threads", SRUN, "THREADS", |_, text| positive(text).map(|_| ())),
    value(0, "threads-per-core", ALL, "THREADS_PER_CORE", rare_count!(threads_per_core)),
    value(b't', "time", ALL, "TIMELIMIT", |draft, text| {
        let span = limit::parse_minutes(text).map_err(|_| Bad::Invalid)?;
        draft.request.time_limit = Some(span.filter(|&span| span > Span::ZERO));
        Ok(())
    }),
    value(0, "time-min", ALL, "", |draft, text| {
        draft.request.rare_mut().time_min = limit::parse_minutes(text).map_err(|_| Bad::Invalid)?;
        Ok(())
    }),
    value(0, "tmp", ALL, "", |draft, text| { draft.request.rare_mut().tmp_mib = Some(read::mib(text)?); Ok(()) }),
    refuse(0, "topology", Takes::Value, ALL, ""),
    // The shape of the tree by which messages reach nodes: there is none here, and nothing is lost.
    value(0, "treewidth", SRUN, "", |_, text| natural(text).map(|_| ())),
    value(0, "tres-bind", ALL, "TRES_BIND", tres_bind),
    value(0, "tres-per-task", ALL, "TRES_PER_TASK", tres_per_task),
    value(0, "uid", SBATCH | SALLOC, "", |draft, _| only_root(draft, "uid")),
    flag(b'u', "unbuffered", SRUN, "UNBUFFEREDIO", yes!(manner.unbuffered)),
    stop(0, "usage", Printed::Usage),
    flag(0, "use-min-nodes", ALL, "USE_MIN_NODES", rare_yes!(use_min_nodes)),
    flag(b'v', "verbose", ALL, "", |draft, _| { draft.manner.verbose += 1; Ok(()) }),
    stop(b'V', "version", Printed::Version),
    flag(b'W', "wait", SBATCH, "WAIT", yes!(manner.wait)),
    value(b'W', "wait", SRUN, "WAIT", |draft, text| { draft.manner.wait_seconds = Some(natural(text)?); Ok(()) }),
    value(0, "wait-all-nodes", SBATCH | SALLOC, "WAIT_ALL_NODES", |draft, text| {
        draft.manner.wait_all_nodes = Some(match natural(text)? { 0 => false, 1 => true, _ => return Err(Bad::Invalid) });
        Ok(())
    }),
    flag(0, "wait-for-children", SRUN, "", yes!(manner.wait_for_children)),
    value(0, "wckey", ALL, "WCKEY", rare!(wckey)),
    flag(0, "whole", SRUN, "WHOLE", yes!(manner.whole)),
    value(0, "wrap", SBATCH, "", text!(manner.wrap)),
    refuse(0, "x11", Takes::Maybe, ALL, ""),
];

/// Variables whose names do not follow the pattern: programs, variable, option.
pub(crate) const OTHER_VARIABLES: &[(u8, &str, &str)] = &[
    (SBATCH | SALLOC, "SLURM_CLUSTERS", "clusters"),
    (SBATCH | SALLOC, "SLURM_HINT", "hint"),
    (SRUN, "SLURM_NPROCS", "ntasks"),
    (SRUN, "SLURM_NTASKS", "ntasks"),
    (SRUN, "SLURM_JOB_NUM_NODES", "nodes"),
    (SRUN, "SLURM_NTASKS_PER_NODE", "ntasks-per-node"),
    (SRUN, "SLURM_NTASKS_PER_SOCKET", "ntasks-per-socket"),
    (SRUN, "SLURM_NTASKS_PER_CORE", "ntasks-per-core"),
    (SRUN, "SLURM_NTASKS_PER_GPU", "ntasks-per-gpu"),
    (SRUN, "SRUN_CPUS_PER_TASK", "cpus-per-task"),
    (SRUN, "SLURM_STDOUTMODE", "output"),
    (SRUN, "SLURM_STDERRMODE", "error"),
    (SRUN, "SLURM_STDINMODE", "input"),
    (SRUN, "SLURM_EXPORT_ENV", "export"),
    (SRUN, "SRUN_EXPORT_ENV", "export"),
    (SRUN, "SLURM_STEP_GRES", "gres"),
    (SRUN, "SRUN_CONTAINER", "container"),
    (SRUN, "SRUN_CONTAINER_ID", "container-id"),
    (SRUN, "SRUN_CONTAINER_IMAGE", "container-image"),
    (SRUN, "SRUN_TASK_EPILOG", "task-epilog"),
    (SRUN, "SRUN_TASK_PROLOG", "task-prolog"),
];

/// Variables that srun would read by the pattern, but does not: they are set inside jobs with another
/// meaning, or are no option of srun's environment.
pub(crate) const NOT_READ_BY_SRUN: &[&str] = &[
    "SLURM_EXPORT",
    "SLURM_INPUT",
    "SLURM_OUTPUT",
    "SLURM_ERROR",
    "SLURM_HET_GROUP",
    "SLURM_CONTAINER",
    "SLURM_CONTAINER_ID",
];

/// The row of an option of that program.
pub(crate) fn find(program: u8, long: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.long == long && row.on & program != 0)
}

fn array(draft: &mut Draft<'_>, text: &str) -> Outcome {
    // An empty text is no array; the scheduler knows the highest id that is allowed.
    draft.request.array = match text {
        "" => None,
        text => Some(
            model::array::ArraySpec::parse(text, model::array::MAX_TASK_ID)
                .map_err(|_| Bad::Refused(Refusal::InvalidArray))?,
        ),
    };
    Ok(())
}

fn when(draft: &Draft<'_>, text: &str) -> Result<Timestamp, Bad> {
    if text.is_empty() {
        return Err(Bad::Invalid);
    }
    moment::parse(text, draft.now, draft.zone.0, moment::Sense::Future)
        .map_err(|error| Bad::Line(error.to_string()))
}

fn memory(draft: &mut Draft<'_>, long: &'static str, memory: MemoryRequest) -> Outcome {
    draft.memory.insert((draft.source, long), memory);
    Ok(())
}

fn exclusive(draft: &mut Draft<'_>, text: Option<&str>) -> Outcome {
    draft.request.sharing = match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "1" | "yes") => Sharing::Exclusive,
        Some("user") => Sharing::User,
        Some("mcs") => Sharing::Mcs,
        Some("topo") => Sharing::Topo,
        Some(_) => return Err(Bad::Invalid),
    };
    draft.manner.exclusive = draft.request.sharing == Sharing::Exclusive;
    Ok(())
}

fn only_root(draft: &Draft<'_>, option: &str) -> Outcome {
    if draft.uid == 0 {
        Err(Bad::Unsupported(format!("--{option}")))
    } else {
        Err(Bad::Said(format!("--{option} only permitted by root user")))
    }
}

fn gpu_list(text: &str) -> Result<Vec<gres::GresRequest>, Bad> {
    gres::parse_gpus(text).map_err(|error| not_gres(&error))
}

/// How a list of resources is refused: what could be one of another cluster goes on to the scheduler's words.
fn not_gres(error: &gres::Error) -> Bad {
    if error.malformed {
        return Bad::Lines(vec!["Invalid Trackable RESource (TRES) specification".to_owned()]);
    }
    Bad::Refused(Refusal::InvalidGres)
}

fn gres_per_node(draft: &mut Draft<'_>, text: &str) -> Outcome {
    if matches!(text, "help" | "list") {
        return Err(Bad::Print("Valid gres options are:\ngpu[[:type]:count]\n".to_owned()));
    }
    draft.request.gres_per_node = gres::parse_list(text).map_err(|error| not_gres(&error))?;
    Ok(())
}

fn gpu_bind(draft: &mut Draft<'_>, text: &str) -> Outcome {
    if model::gpu_bind::GpuBind::parse(text).is_none() {
        return Err(Bad::Said(format!("Invalid --gpu-bind argument: {text}")));
    }
    draft.request.rare_mut().gpu_bind = Some(text.into());
    Ok(())
}

fn tres_bind(draft: &mut Draft<'_>, text: &str) -> Outcome {
    if model::gpu_bind::GpuBind::of_tres(text).is_err() {
        return Err(Bad::Invalid);
    }
    draft.request.rare_mut().tres_bind = Some(text.into());
    Ok(())
}

fn gres_flags(draft: &mut Draft<'_>, text: &str) -> Outcome {
    const KNOWN: [&str; 5] = [
        "allow-task-sharing",
        "disable-binding",
        "enforce-binding",
        "multiple-tasks-per-sharing",
        "one-task-per-sharing",
    ];
    if !text.split(',').all(|word| KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word))) {
        return Err(Bad::Invalid);
    }
    draft.request.rare_mut().gres_flags = Some(text.into());
    Ok(())
}

fn hint(draft: &mut Draft<'_>, text: &str) -> Outcome {
    const KNOWN: [&str; 4] = ["compute_bound", "memory_bound", "multithread", "nomultithread"];
    if text == "help" {
        let lines = [
            "Application hint options:",
            "    --hint=             Bind tasks according to application hints",
            "        compute_bound   use all cores in each socket",
            "        memory_bound    use only one core in each socket",
            "        [no]multithread [don't] use extra threads with in-core multi-threading",
            "        help            show this help message",
        ];
        return Err(Bad::Print(lines.map(|line| format!("{line}\n")).concat()));
    }
    if !text.split(',').all(|word| KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word))) {
        return Err(Bad::Lines(vec![format!("unrecognized --hint argument \"{text}\", see --hint=help")]));
    }
    draft.request.rare_mut().hint = Some(text.into());
    if text.split(',').any(|word| word.eq_ignore_ascii_case("nomultithread")) {
        draft.request.rare_mut().threads_per_core = Some(1);
    }
    Ok(())
}

fn mpi(draft: &mut Draft<'_>, text: &str) -> Outcome {
    match text {
        "none" | "pmi2" => {
            draft.manner.mpi = Some(text.to_owned());
            Ok(())
        }
        "pmix" if pmix_is_here() => {
            draft.manner.mpi = Some(text.to_owned());
            Ok(())
        }
        "list" => {
            let pmix = if pmix_is_here() { "\tpmix\n" } else { "" };
            Err(Bad::Print(format!("MPI plugin types are...\n\tnone\n\tpmi2\n{pmix}")))
        }
        other => Err(Bad::Lines(vec![
            format!("MPI: Cannot create context for mpi/{other}"),
            "MPI: Unable to load any plugin".to_owned(),
            format!("Invalid MPI type '{other}', --mpi=list for acceptable types"),
        ])),
    }
}

/// Whether the program that serves tasks by PMIx lies beside this one.
fn pmix_is_here() -> bool {
    std::env::current_exe().is_ok_and(|own| own.with_file_name("sluice-pmix").is_file())
}

/// `cpu=2,gres/gpu:a100:1`: CPUs and GPUs have options of their own, which these stand for.
fn tres_per_task(draft: &mut Draft<'_>, text: &str) -> Outcome {
    let (mut others, mut all_gpus) = (Vec::new(), Vec::new());
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        if let Some(count) = piece.strip_prefix("cpu=").or_else(|| piece.strip_prefix("cpu:")) {
            draft.request.cpus_per_task = Some(positive(count).map_err(|_| Bad::Invalid)?);
        } else if let Some(rest) = piece.strip_prefix("gres/gpu").or_else(|| piece.strip_prefix("gres:gpu")) {
            let gpus = rest.trim_start_matches([':', '=']).replace('=', ":");
            let gpus = if gpus.is_empty() { "1" } else { &gpus };
            all_gpus.extend(gpu_list(gpus)?);
        } else if piece.starts_with("gres/") || piece.starts_with("license/") {
            others.push(piece);
        } else {
            return Err(Bad::Invalid);
        }
    }
    if !all_gpus.is_empty() {
        draft.request.gpus_per_task = all_gpus;
    }
    if !others.is_empty() {
        draft.request.rare_mut().tres_per_task = Some(others.join(",").into());
    }
    Ok(())
}

fn nice(draft: &mut Draft<'_>, text: Option<&str>) -> Outcome {
    let Some(text) = text else {
        draft.request.nice = 100;
        return Ok(());
    };
    /// Slurm keeps the value beside an offset of 2^31.
    const MOST: i64 = (1 << 31) - 3;
    if text.is_empty() {
        draft.request.nice = 100;
        return Ok(());
    }
    let nice = read::leading_number(text);
    if nice.abs() > MOST {
        return Err(Bad::Said(format!("Invalid --nice value, out of range (+/- {MOST})")));
    }
    draft.request.nice = i32::try_from(nice).map_err(|_| Bad::Invalid)?;
    Ok(())
}

fn priority(draft: &mut Draft<'_>, text: &str) -> Outcome {
    const HIGHEST: u32 = u32::MAX - 2;
    let priority = if text.eq_ignore_ascii_case("TOP") {
        HIGHEST
    } else {
        match read::leading_number(text) {
            ..=-1 => return Err(Bad::Said("Priority must be >= 0".to_owned())),
            number => u32::try_from(number)
                .ok()
                .filter(|&number| number <= HIGHEST)
                .ok_or_else(|| Bad::Said(format!("Priority must be < {}", HIGHEST + 1)))?,
        }
    };
    draft.request.rare_mut().priority = Some(priority);
    Ok(())
}

/// Names of limits, in capitals and without `RLIMIT_`.
fn propagate(text: &str) -> Result<String, Bad> {
    const KNOWN: [&str; 12] =
        ["ALL", "NONE", "AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK"];
    let upper = text.to_ascii_uppercase();
    let words: Vec<&str> =
        upper.split(',').map(|word| word.strip_prefix("RLIMIT_").unwrap_or(word)).collect();
    match words.iter().find(|word| !KNOWN.contains(word)) {
        None => Ok(words.join(",")),
        Some(word) => Err(Bad::Lines(vec![
            format!("Bad rlimit name: {word}"),
            format!("--propagate={text} is not valid."),
        ])),
    }
}
