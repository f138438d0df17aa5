//! The `SLURM_*` variables of batch scripts and steps, as Slurm 26.05 sets them.
//!
//! Pure. Starts from what the client sent, byte for byte, and sets over it what only the scheduler and the
//! node know. Variables that exist only where an option was given are not touched where it was not: the
//! submitter's own value stays, as in Slurm. Source: the goldens of `env`, `srun`, `array` and `gres`.

use executor_supervisor::spec::Spec;
use model::binding::Binding;
use model::gpu_bind::GpuBind;
use model::gres;
use model::id::{JobId, StepId};
use model::quantity::runs;
use model::time::Timestamp;
use proto::convert::request::gres_list_inwards;
use proto::v1;

use super::Context;
use super::user::Account;
use crate::gpu::bind::Visible;

/// An environment: entries `NAME=value`, one for each name, in order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    entries: Vec<Vec<u8>>,
}

impl Environment {
    /// From entries that each end in a zero byte. Those without `=` are dropped, as nothing can read them.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let entries = bytes.split(|byte| *byte == 0).filter(|entry| entry.contains(&b'='));
        Self { entries: entries.map(<[u8]>::to_vec).collect() }
    }

    /// The entries.
    #[must_use]
    pub fn into_entries(self) -> Vec<Vec<u8>> {
        self.entries
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = name.as_bytes();
        self.entries
            .iter()
            .position(|entry| entry.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"=")))
    }

    /// Whether the name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Sets over what is there.
    pub fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        let entry = format!("{name}={value}").into_bytes();
        match self.find(name) {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
    }

    /// Sets where it is missing.
    pub fn set_default(&mut self, name: &str, value: impl std::fmt::Display) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    /// Sets where there is a value.
    fn set_some<T: std::fmt::Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets where the text is not empty.
    fn set_text(&mut self, name: &str, value: &str) {
        self.set_some(name, Some(value).filter(|value| !value.is_empty()));
    }

    fn remove(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.entries.remove(at);
        }
    }

    /// Takes a variable out, and answers its value.
    pub(super) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let mut entry = self.entries.remove(self.find(name)?);
        Some(entry.split_off(name.len() + 1))
    }
}

const DEVICE_NAMES: [&str; 4] =
    ["CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"];

/// What NVIDIA's container tools read: UUIDs. Not one of Slurm's variables.
const OF_DRIVER: &str = "NVIDIA_VISIBLE_DEVICES";

/// The whole environment of a batch script but for its own pid.
#[must_use]
pub fn of_batch(context: &Context<'_>, launch: &v1::Launch, account: &Account) -> Environment {
    let mut environment = Environment::read(&launch.environment);
    let rare = launch.request.as_ref().and_then(|request| request.rare.as_ref());
    if rare.is_some_and(|rare| rare.get_user_env) {
        login(&mut environment, context, account);
    }
    of_job(&mut environment, context, launch);
    let here = launch.allocation.get(launch.node_index as usize);
    environment.set("SLURM_CPUS_ON_NODE", here.map_or(1, |here| here.cpus));
    environment.set("SLURM_NODELIST", &launch.node_list);
    environment.set("SLURM_NNODES", launch.allocation.len());
    environment.set("SLURM_TASKS_PER_NODE", runs(launch.allocation.iter().map(|node| node.tasks)));
    environment.set("SLURM_NODEID", launch.node_index);
    for name in ["SLURM_GTIDS", "SLURM_LOCALID", "SLURM_PROCID"] {
        environment.set(name, 0);
    }
    // Slurm's number for the batch step.
    environment.set("SLURM_STEPID", "-5");
    environment.set("SLURM_STEP_ID", "-5");
    environment.set_default("SLURM_PRIO_PROCESS", 0);
    devices(&mut environment, "SLURM_JOB_GPUS", context.gpus);
    environment.set("ENVIRONMENT", "BATCH");
    environment.set("HOSTNAME", context.hostname);
    environment.set_default("TMPDIR", "/tmp");
    if let Some(socket) = context.socket {
        environment.set_default("SLUICE_SOCKET", socket);
    }
    for (name, value) in [
        ("HYDRA_BOOTSTRAP", "slurm"),
        ("HYDRA_LAUNCHER_EXTRA_ARGS", "--external-launcher"),
        ("I_MPI_HYDRA_BOOTSTRAP", "slurm"),
        ("I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", "--external-launcher"),
        ("OMPI_MCA_plm_slurm_args", "--external-launcher"),
        ("PRTE_MCA_plm_slurm_args", "--external-launcher"),
    ] {
        environment.set(name, value);
    }
    environment
}

/// What every task of a step shares; [`of_task`] gives the rest.
#[must_use]
pub fn of_step(
    context: &Context<'_>,
    launch: &v1::Launch,
    tasks: &v1::TaskLaunch,
    step: StepId,
) -> Environment {
    let mut environment = Environment::read(&tasks.environment);
    of_job(&mut environment, context, launch);
    let asked = launch.step.clone().unwrap_or_default();
    let nodes = &launch.step_nodes;
    let names: Vec<&str> =
        nodes.iter().filter_map(|node| node.allocation.as_ref()).map(|node| node.node.as_str()).collect();
    let list = model::hostlist::compress(&names);
    let task_count: usize = nodes.iter().map(|node| node.ranks.len()).sum();
    let per_node = runs(nodes.iter().map(|node| u32::try_from(node.ranks.len()).unwrap_or(u32::MAX)));
    let here = nodes.get(launch.step_node_index as usize);
    let held = here.and_then(|here| here.allocation.as_ref());
    environment.set("SLURM_CPUS_ON_NODE", held.map_or(1, |held| held.cpus));
    environment.set("SLURM_NODEID", launch.step_node_index);
    for (name, value) in [("SLURM_NODELIST", &list), ("SLURM_STEP_NODELIST", &list)] {
        environment.set(name, value);
    }
    for name in ["SLURM_NNODES", "SLURM_STEP_NUM_NODES"] {
        environment.set(name, nodes.len());
    }
    for name in ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS"] {
        environment.set(name, task_count);
    }
    for name in ["SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"] {
        environment.set(name, &per_node);
    }
    for name in ["SLURM_STEPID", "SLURM_STEP_ID"] {
        environment.set(name, step);
    }
    // The scheduler fills in 1 where nothing was asked; who asks for 1 has it in the client's environment.
    environment.set_some("SLURM_CPUS_PER_TASK", asked.cpus_per_task.filter(|cpus| *cpus > 1));
    environment.set_some("SLURM_NTASKS_PER_NODE", asked.ntasks_per_node);
    environment.set_some("SLURM_MEM_PER_CPU", asked.memory_mib_per_cpu);
    environment.set_some("SLURM_MEM_PER_NODE", asked.memory_mib_per_node);
    let in_batch = launch.request.as_ref().is_some_and(|request| request.kind() == v1::Kind::Batch);
    if let Some(distribution) = &asked.distribution {
        environment.set("SLURM_DISTRIBUTION", distribution);
    } else if in_batch {
        environment
            .set_default("SLURM_DISTRIBUTION", if task_count <= nodes.len() { "cyclic" } else { "block" });
    }
    let gids: Vec<String> =
        here.map_or_else(Vec::new, |here| here.ranks.iter().map(u32::to_string).collect());
    environment.set("SLURM_GTIDS", gids.join(","));
    if let Some(binding) = tasks.cpu_bind.as_deref().and_then(Binding::parse) {
        for (name, value) in binding.variables() {
            environment.set(name, value);
        }
    }
    environment.set_some("SLURM_MPI_TYPE", tasks.mpi.as_ref());
    environment.set_text("SLURM_JOB_GROUP", &launch.group);
    environment.set_default("SLURM_UMASK", format!("{:04o}", tasks.umask));
    environment.set("SLURMD_DEBUG", 2);
    environment.set("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1");
    environment.set_default("SLURM_SRUN_COMM_HOST", "127.0.0.1");
    // Streams run over a Unix socket here; the ports exist for programs that look whether srun started them.
    environment.set_default("SLURM_SRUN_COMM_PORT", 0);
    environment.set_default("SLURM_STEP_LAUNCHER_PORT", 0);
    environment.set_default("SLURM_PRIO_PROCESS", 0);
    if context.gpus.count() == 0 {
        let names = ["SLURM_GPUS_ON_NODE", "SLURM_SHARDS_ON_NODE", "SLURM_STEP_GPUS", OF_DRIVER];
        for name in DEVICE_NAMES.into_iter().chain(names) {
            environment.remove(name);
        }
    }
    devices(&mut environment, "SLURM_STEP_GPUS", context.gpus);
    environment
}

/// What differs between the tasks of a step on one node. `local` is the place among them. GPUs: [`bind_gpus`].
#[must_use]
pub fn of_task(local: usize, rank: u32) -> Vec<Vec<u8>> {
    let mut own = Environment::default();
    own.set("SLURM_PROCID", rank);
    own.set("SLURM_LOCALID", local);
    own.into_entries()
}

/// Tells each task of its own GPUs, as srun says (`--gpu-bind`, or what `--gpus-per-task` implies). After processors
/// are bound.
pub fn bind_gpus(spec: &mut Spec, launch: &v1::Launch, gpus: &Visible, constrained: bool) {
    let asked = launch.tasks.as_ref().and_then(|tasks| tasks.gpu_bind.as_deref()).and_then(GpuBind::parse);
    let Some(bind) = asked else { return };
    for (local, task) in spec.tasks.iter_mut().enumerate() {
        let Some((mine, said)) = gpus.of_task(&bind, local, &task.cpus, constrained) else { continue };
        let mut own = Environment { entries: std::mem::take(&mut task.environment) };
        name_devices(&mut own, &mine);
        task.environment = own.into_entries();
        // Before the line of the processors, of which the task says the rest.
        let line = std::mem::take(&mut task.announce);
        task.announce = said.map_or_else(Vec::new, String::into_bytes);
        task.announce.extend(line);
    }
}

/// What batch scripts and steps have in common.
fn of_job(environment: &mut Environment, context: &Context<'_>, launch: &v1::Launch) {
    let request = launch.request.clone().unwrap_or_default();
    let rare = request.rare.clone().unwrap_or_default();
    let job_id = launch.key.as_ref().map_or(0, |key| key.job_id);
    environment.set("SLURMD_NODENAME", context.node);
    environment.set("SLURM_CLUSTER_NAME", &launch.cluster);
    environment.set_text("SLURM_CONF", &launch.slurm_conf);
    for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
        environment.set(name, job_id);
    }
    environment.set_text("SLURM_JOB_ACCOUNT", &launch.account);
    environment.set_text("SLURM_JOB_QOS", &launch.qos);
    environment.set("SLURM_JOB_PARTITION", &launch.partition);
    environment.set("SLURM_JOB_NAME", &request.name);
    environment.set("SLURM_JOB_UID", launch.uid);
    environment.set("SLURM_JOB_GID", launch.gid);
    environment.set_text("SLURM_JOB_USER", &launch.user);
    environment.set("SLURM_JOB_NODELIST", &launch.node_list);
    environment.set("SLURM_JOB_NUM_NODES", launch.allocation.len());
    environment.set("SLURM_JOB_CPUS_PER_NODE", runs(launch.allocation.iter().map(|node| node.cpus)));
    environment.set("SLURM_JOB_START_TIME", launch.start_ms.div_euclid(1000));
    environment.set_some("SLURM_JOB_END_TIME", launch.end_ms.map(|end| end.div_euclid(1000)));
    let sluid = model::sluid::text(JobId(job_id), Timestamp(launch.submit_ms));
    environment.set("SLURM_JOB_SLUID", sluid);
    let (exclusive, oversubscribe) = match request.sharing() {
        v1::Sharing::Exclusive => ("YES", "NO"),
        v1::Sharing::User => ("USER", "NO"),
        v1::Sharing::Mcs => ("MCS", "NO"),
        v1::Sharing::Topo => ("TOPO", "NO"),
        v1::Sharing::Oversubscribe => ("NO", "YES"),
        v1::Sharing::Default if launch.exclusive => ("YES", "NO"),
        v1::Sharing::Default => ("NO", "NO"),
    };
    // srun's own allocations do not say how they share.
    if request.kind() == v1::Kind::Batch {
        environment.set("SLURM_JOB_EXCLUSIVE", exclusive);
        environment.set("SLURM_JOB_OVERSUBSCRIBE", oversubscribe);
    }
    environment.set_text("SLURM_JOB_LICENSES", &launch.licenses);
    environment.set_text("SLURM_JOB_RESERVATION", &launch.reservation);
    environment.set("SLURM_OOM_KILL_STEP", 0);
    let (address, pattern) = match launch.topology_addr.as_str() {
        "" => (context.node, "node"),
        address => (address, launch.topology_pattern.as_str()),
    };
    environment.set("SLURM_TOPOLOGY_ADDR", address);
    environment.set("SLURM_TOPOLOGY_ADDR_PATTERN", pattern);
    environment.set_default("SLURM_SUBMIT_DIR", &request.work_dir);
    environment.set_default("SLURM_SUBMIT_HOST", &request.submit_host);
    if request.kind() == v1::Kind::Batch {
        of_options(environment, launch, &request, &rare);
    }
    environment.set_some("SLURM_ARRAY_JOB_ID", launch.array_job_id);
    environment.set_some("SLURM_ARRAY_TASK_ID", launch.array_task_id);
    environment.set_some("SLURM_ARRAY_TASK_MIN", launch.array_task_min);
    environment.set_some("SLURM_ARRAY_TASK_MAX", launch.array_task_max);
    environment.set_some("SLURM_ARRAY_TASK_STEP", launch.array_task_step);
    environment.set_some("SLURM_ARRAY_TASK_COUNT", launch.array_task_count);
    environment.set_some("SLURM_RESTART_COUNT", Some(launch.restarts).filter(|count| *count > 0));
}

/// Variables that are there because an option was.
fn of_options(
    environment: &mut Environment,
    launch: &v1::Launch,
    request: &v1::JobRequest,
    rare: &v1::RareRequest,
) {
    let counted =
        request.ntasks.is_some() || request.ntasks_per_node.is_some() || rare.ntasks_per_gpu.is_some();
    if counted {
        environment.set("SLURM_NTASKS", launch.num_tasks);
        environment.set("SLURM_NPROCS", launch.num_tasks);
    }
    environment.set_some("SLURM_NTASKS_PER_NODE", request.ntasks_per_node);
    environment.set_some("SLURM_NTASKS_PER_GPU", rare.ntasks_per_gpu);
    environment.set_some("SLURM_NTASKS_PER_SOCKET", rare.ntasks_per_socket);
    environment.set_some("SLURM_NTASKS_PER_CORE", rare.ntasks_per_core);
    environment.set_some("SLURM_CPUS_PER_TASK", request.cpus_per_task);
    environment.set_some("SLURM_CPUS_PER_GPU", rare.cpus_per_gpu);
    if let Some(v1::job_request::Memory::MemoryMibPerGpu(mib)) = request.memory {
        environment.set("SLURM_MEM_PER_GPU", mib);
    }
    let gpus = gres_list_inwards("gpus_per_task", request.gpus_per_task.clone()).unwrap_or_default();
    environment.set_some("SLURM_TRES_PER_TASK", gres::per_task_text(request.cpus_per_task, &gpus));
    environment.set_text("SLURM_GPUS_PER_TASK", &gres_list(&request.gpus_per_task));
    environment.set_some("SLURM_MEM_PER_CPU", launch.memory_mib_per_cpu.filter(|mib| *mib > 0));
    environment.set_some("SLURM_MEM_PER_NODE", launch.memory_mib_per_node.filter(|mib| *mib > 0));
    environment.set_some("SLURM_DISTRIBUTION", rare.distribution.as_ref());
    environment.set_some("SLURM_GPU_BIND", rare.gpu_bind.as_ref());
    environment.set_some("SLURM_TRES_BIND", rare.tres_bind.as_ref());
    environment.set_text("SLURM_GPUS", &gres_list(&request.gpus_per_job));
    environment.set_text("SLURM_GPUS_PER_NODE", &gres_list(&request.gpus_per_node));
    environment.set_text("SLURM_GPUS_PER_SOCKET", &gres_list(&request.gpus_per_socket));
}

/// `2`, `a100:2`, joined by commas.
fn gres_list(list: &[v1::Gres]) -> String {
    let texts: Vec<String> = list
        .iter()
        .map(|gres| {
            if gres.r#type.is_empty() {
                gres.count.to_string()
            } else {
                format!("{}:{}", gres.r#type, gres.count)
            }
        })
        .collect();
    texts.join(",")
}

/// What a login would give, where the submitter wanted nothing of their own passed on.
fn login(environment: &mut Environment, context: &Context<'_>, account: &Account) {
    environment.set_default("HOME", &account.home);
    environment.set_default("USER", &account.name);
    environment.set_default("LOGNAME", &account.name);
    environment.set_default("SHELL", &account.shell);
    let path = if account.groups.first() == Some(&0) {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
    };
    // A login finds the commands of the workload manager, wherever they are installed.
    let missing = !path.split(':').any(|folder| folder == context.commands);
    let own = if missing && !context.commands.is_empty() {
        format!(":{}", context.commands)
    } else {
        String::new()
    };
    environment.set_default("PATH", format!("{path}{own}"));
}

fn devices(environment: &mut Environment, list_name: &str, gpus: &Visible) {
    if gpus.count() == 0 {
        return;
    }
    name_devices(environment, gpus);
    environment.set(list_name, gpus.global());
    environment.set("SLURM_GPUS_ON_NODE", gpus.count());
    if gpus.shards() > 0 {
        environment.set("SLURM_SHARDS_ON_NODE", gpus.shards());
    }
}

/// The variables that programs read.
fn name_devices(environment: &mut Environment, gpus: &Visible) {
    let names = gpus.names();
    for name in DEVICE_NAMES {
        environment.set(name, &names);
    }
    environment.set_some(OF_DRIVER, gpus.uuids());
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
