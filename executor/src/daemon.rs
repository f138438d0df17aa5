//! From settings to a running executor: configuration, spool, recovery, agent, uplink.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use journal::Journal;
use model::config::SlurmConf;
use model::config::log::LogConf;
use model::place::DEFAULT_CONF;
use proto::v1;
use service::log::Log;
use service::notify::Manager;
use service::pages;
use tokio::sync::{mpsc, oneshot};

use crate::agent::{Agent, Fixed};
use crate::cgroup::policy::{Machine, Policy};
use crate::cgroup::{self, Cgroups, attest};
use crate::container::{self, Containers};
use crate::figures::{self, Answers, Figures};
use crate::files::Files;
use crate::gpu::dcgm::JobMapping;
use crate::gpu::node::{Gpus, Sources};
use crate::hooks::{self, Hooks};
use crate::host;
use crate::launch::mpi;
use crate::launch::rlimits::Propagated;
use crate::launch::spares::Spares;
use crate::launch::user::Accounts;
use crate::logbook::Logbook;
use crate::recover::recover;
use crate::settings::{self, Arguments, Identity, Variables};
use crate::spool::{self, Spool};
use crate::uplink;

/// Messages from the scheduler that may wait for the agent.
const SIGNAL_QUEUE: usize = 1024;
/// Most bytes of a socket's path.
const SOCKET_PATH_MAX: usize = 107;
/// How long a step lives without its client.
const CLIENT_GRACE_MS: u64 = 60_000;

/// Runs an executor until `stop` is told.
///
/// # Errors
/// It could not start, or its journal failed. Jobs go on in any case.
pub async fn run(
    arguments: Arguments,
    variables: Variables,
    log: Log,
    stop: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let uid = nix::unistd::geteuid().as_raw();
    let hostname = host::hostname();
    let conf_path = settings::conf_path(&arguments, &variables, Path::new(DEFAULT_CONF).exists());
    let files = Files::read(conf_path.as_deref())?;
    let identity = settings::identify(&arguments, &variables, files.named(), uid, &hostname)
        .map_err(|why| anyhow!(why))?;
    if let Some(conf) = files.conf() {
        log.configure(&LogConf::of_executor(conf, &identity.node, &hostname), None);
    }
    for notice in files.cgroup.iter().flat_map(|conf| &conf.notices) {
        tracing::warn!("{}: {}", notice.place, notice.message);
    }
    let supervisor = supervisor_path(&arguments)?;
    // Files of ours are closed to others where that is not said otherwise.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    check_sockets(&identity.sockets)?;
    for line in spool::survey(&identity.state, &identity.node, files.own.state_on_network)? {
        tracing::warn!(node = identity.node, "{line}");
    }
    let spool = spool::open(&identity.state, &identity.node)?;
    let (cgroups, mut facts, gpus) = facts(&arguments, &variables, &identity, &files, &spool.id)?;
    attest(&cgroups, &supervisor, &identity, &spool, &mut facts).await;
    let answers = Answers { figures: Arc::new(Figures::default()), cgroups: cgroups.describe().into() };
    let port = arguments.metrics_port.or(files.own.executor_metrics_port);
    let socket = answer(&answers, &spool.place, port)?;
    let lives = |job: u32| spool.memory.runs.keys().any(|key| key.job_id == job);
    let job_mapping = job_mapping(&arguments, lives)?;
    let commands = own_folder();
    let asked = container_settings(&arguments, &variables, files.conf(), &identity.node, &hostname);
    let containers =
        Containers::new(asked, &supervisor, Path::new(&commands), &spool.run_root, uid, &spool.id);
    let pmix = Some(supervisor.with_file_name("sluice-pmix")).filter(|program| program.is_file());
    let conf = files.conf();
    let hooks = Hooks::new(conf.map(hooks::Settings::of).unwrap_or_default(), &supervisor, &spool.place, uid);
    let fixed = Arc::new(Fixed {
        node: identity.node,
        mark: cgroup::mark_of(&spool.id),
        hostname: hostname.split('.').next().unwrap_or(&hostname).to_owned(),
        commands,
        socket: variables.socket,
        run_root: spool.run_root,
        log,
        supervisor,
        uid,
        cgroups,
        task_prolog: conf.and_then(|conf| conf.programs.task_prolog.as_deref().map(str::to_owned)),
        task_epilog: conf.and_then(|conf| conf.programs.task_epilog.as_deref().map(str::to_owned)),
        append: conf.is_some_and(|conf| conf.job_file_append),
        propagated: conf.map_or(Propagated::ALL, |conf| {
            Propagated::of(&conf.propagate_limits, &conf.propagate_limits_except)
        }),
        client_grace_ms: CLIENT_GRACE_MS,
        sample_ms: sample_ms(conf),
        mpi_default: conf.and_then(|conf| mpi::Kind::parse(&conf.mpi_default)).unwrap_or_default(),
        pmix,
        boot_id: host::boot_id().context("cannot read the kernel's boot id")?,
        spool_id: spool.id,
        facts,
        accounts: Accounts::default(),
        spares: Spares::default(),
        containers,
        gpus,
        job_mapping,
        hooks,
        figures: answers.figures,
        conf: files.path(),
    });
    let kept = (spool.memory, spool.journal);
    let ended = serve(fixed, kept, identity.sockets, variables.lazy_probe, stop).await;
    if let Some(socket) = socket {
        // The next one replaces it, if it stays.
        let _ = fs::remove_file(socket);
    }
    ended
}

/// Takes back what runs, and serves the scheduler until `stop` is told.
async fn serve(
    fixed: Arc<Fixed>,
    (memory, journal): (spool::Memory, Journal),
    sockets: Vec<String>,
    lazy_probe: bool,
    stop: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    fixed.hooks.check_health(&fixed.node, &fixed.conf).await;
    let run_root = fixed.run_root.clone();
    let recovering = Arc::clone(&fixed);
    let beginning = tokio::task::spawn_blocking(move || recover(&recovering, memory))
        .await?
        .with_context(|| format!("cannot read the run folders in {}", run_root.display()))?;
    let known = beginning.runs.keys().map(|key| key.job_id).collect();
    let probing = tokio::spawn(look_at_containers(Arc::clone(&fixed), known, lazy_probe));
    let (logbook, committed) = Logbook::start(journal).context("cannot start the journal's threads")?;
    let (signals_in, signals) = mpsc::channel(SIGNAL_QUEUE);
    let (agent, ears) = Agent::new(fixed, beginning, logbook, committed, signals)
        .context("cannot start the threads that start runs")?;
    let dialling = tokio::spawn(uplink::run(sockets, signals_in));
    let manager = Manager::of_environment();
    manager.ready("jobs are taken back; dialling the scheduler");
    let watched = manager.alive_every().map(|every| tokio::spawn(watched(manager.clone(), every)));
    let ended = agent.run(ears, stop).await;
    manager.stopping();
    if let Some(watched) = watched {
        watched.abort();
    }
    dialling.abort();
    probing.abort();
    spool::leave(&run_root);
    ended.map_err(|why| anyhow!(why))
}

/// Removes what containers of jobs that are gone have left, and finds out how containers are run here.
async fn look_at_containers(fixed: Arc<Fixed>, known: BTreeSet<u32>, lazy: bool) {
    fixed.containers.sweep(|job| known.contains(&job));
    if lazy {
        return;
    }
    match fixed.containers.ways().await {
        Ok(ways) => tracing::info!("containers: {}", ways.describe()),
        Err(why) => tracing::info!("containers cannot be run here: {why}"),
    }
}

fn check_sockets(sockets: &[String]) -> anyhow::Result<()> {
    let Some(long) = sockets.iter().find(|path| path.len() > SOCKET_PATH_MAX) else { return Ok(()) };
    Err(anyhow!(
        "the socket's path has {} letters and the kernel takes {SOCKET_PATH_MAX}: {long}\n  \
         name a shorter one: SLUICE_SOCKET, or a shorter ClusterName",
        long.len()
    ))
}

/// Tries what the kernel holds of the limits, and notes it among what is told of the node.
async fn attest(
    cgroups: &Cgroups,
    supervisor: &Path,
    identity: &Identity,
    spool: &Spool,
    facts: &mut v1::NodeFacts,
) {
    let attested = attest::attest(cgroups, supervisor, &spool.run_root).await;
    for sentence in attested.failed {
        tracing::error!(node = identity.node, "{sentence}");
        facts.lacks.push(sentence);
    }
    tracing::info!(
        attested = attested.held.join(", "),
        cgroups = cgroups.describe(),
        node = identity.node,
        state = %identity.state.display(),
        run_folders = %spool.run_root.display(),
        runs = spool.memory.runs.len(),
        "executor starts"
    );
    facts.cgroups = cgroups.describe();
    facts.attested = attested.held;
}

fn container_settings(
    arguments: &Arguments,
    variables: &Variables,
    conf: Option<&SlurmConf>,
    node: &str,
    hostname: &str,
) -> container::Settings {
    let tmp = conf.map_or("/tmp", |conf| &*conf.tmp_fs).replace("%n", node).replace("%h", hostname);
    let usual = container::Settings::default();
    container::Settings {
        apptainer: arguments.apptainer.clone().or_else(|| variables.apptainer.clone().map(PathBuf::from)),
        cache: arguments.container_cache.clone(),
        cache_bytes: arguments
            .container_cache_mib
            .map_or(usual.cache_bytes, |mib| mib.saturating_mul(1 << 20)),
        tmp: tmp.into(),
    }
}

fn job_mapping(arguments: &Arguments, lives: impl Fn(u32) -> bool) -> anyhow::Result<Option<JobMapping>> {
    let Some(folder) = &arguments.job_mapping else { return Ok(None) };
    let mapping = JobMapping::open(folder.clone(), lives);
    mapping.with_context(|| format!("cannot use {} for dcgm-exporter", folder.display())).map(Some)
}

/// Says that the executor is alive, from the thread that the agent runs on.
async fn watched(manager: Manager, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        manager.alive();
    }
}

/// Answers for figures and health: on a socket in the executor's folder, where that can be, and on a port that is asked for.
fn answer(answers: &Answers, folder: &Path, port: Option<u16>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(port) = port {
        let listener = pages::listen_port(port)
            .with_context(|| format!("port {port} of 127.0.0.1, for figures, cannot be listened on"))?;
        tokio::spawn(pages::serve_port(answers.clone(), listener, std::future::pending()));
    }
    match figures::listen(folder) {
        Ok((listener, path)) => {
            tokio::spawn(pages::serve_socket(answers.clone(), listener, std::future::pending()));
            Ok(Some(path))
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "there is no socket for figures and health");
            Ok(None)
        }
    }
}

fn facts(
    arguments: &Arguments,
    variables: &Variables,
    identity: &Identity,
    files: &Files,
    spool_id: &[u8; 16],
) -> anyhow::Result<(Cgroups, v1::NodeFacts, Gpus)> {
    let mut facts = host::observe();
    let (conf, gres_conf) = (files.conf(), files.gres.as_ref());
    let sources = Sources {
        library: variables.nvml.clone().map(Into::into),
        root: variables.nvidia_root.clone().map_or_else(|| "/".into(), Into::into),
    };
    let gpus = Gpus::open(conf.is_some(), identity.declared.as_ref(), (gres_conf, &files.own), &sources);
    let mut machine = Machine::default();
    if let (Some(conf), Some(node)) = (conf, &identity.declared) {
        let mut node = node.clone();
        let observed = gpus.is_observed();
        if observed {
            node.gres.retain(|gres| !gres.is_gpu());
        }
        let (gres, lacks) = host::gres::inventory(&node, gres_conf, Path::new("/"));
        facts.gres = gres;
        facts.lacks.extend(lacks);
        machine.devices =
            gres_conf.map_or_else(Vec::new, |conf| host::gres::devices(&node, conf, Path::new("/")));
        machine.devices.retain(|device| !observed || &*device.gres != "gpu");
        if arguments.node.is_some() || conf.config_overrides {
            facts.declared = true;
            facts.cpus = node.cpus.0;
            facts.boards = node.boards;
            facts.sockets = node.sockets;
            facts.cores_per_socket = node.cores_per_socket;
            facts.threads_per_core = node.threads_per_core;
            facts.memory_mib = node.real_memory.0;
            facts.tmp_disk_mib = node.tmp_disk.0;
        }
    }
    machine.devices.extend(gpus.devices());
    machine.capabilities = gpus.capabilities();
    machine.memory = facts.memory_mib << 20;
    machine.cpus =
        Some(host::usable_cpus()).filter(|cpus| cpus.len() == facts.cpus as usize).unwrap_or_default();
    let pids = match variables.job_pids.as_deref().map(str::parse::<u64>) {
        None => host::pids_total() / 2,
        Some(Ok(pids)) => pids,
        Some(Err(_)) => return Err(anyhow!("SLUICE_JOB_PIDS is no number")),
    };
    let policy = Policy::of(conf, files.cgroup.as_ref(), pids);
    let root = variables.cgroup.as_deref().map(Path::new);
    let cgroups = Cgroups::choose(policy, machine, &cgroup::name_of(&identity.node, spool_id), root);
    facts.lacks.extend(cgroups.lacks());
    for sentence in &facts.lacks {
        tracing::warn!(node = identity.node, "{sentence}");
    }
    Ok((cgroups, facts, gpus))
}

/// How often tasks are looked at: as JobAcctGatherFrequency says where there is a plugin that looks, each half minute
/// without a configuration.
fn sample_ms(conf: Option<&SlurmConf>) -> u64 {
    const DEFAULT: &str = "30";
    let frequency = conf.and_then(|conf| conf.settings.text("JobAcctGatherFrequency")).unwrap_or(DEFAULT);
    let plugin = conf.map(|conf| conf.settings.text("JobAcctGatherType").unwrap_or("jobacct_gather/none"));
    match plugin {
        Some("jobacct_gather/none") => 0,
        _ => crate::launch::sample_ms(frequency).unwrap_or(30_000),
    }
}

/// The commands are installed beside the daemons.
fn own_folder() -> String {
    let folder = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    folder.map_or_else(String::new, |folder| folder.display().to_string())
}

fn supervisor_path(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let path = match &arguments.supervisor {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("sluice-supervisor"),
    };
    let found = fs::canonicalize(&path);
    found.with_context(|| format!("cannot find the supervisor's program {}", path.display()))
}
