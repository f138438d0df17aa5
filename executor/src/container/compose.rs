//! The container part of a run's specification: Apptainer's options, what is seen inside, the environment.
//!
//! By default a container is as useful as one of plain `apptainer exec` (home, working directory, the binds of
//! apptainer.conf, the environment), with the devices that the job was granted only, and a /tmp of the job.

use std::path::Path;

use executor_supervisor::SCRIPT_FILE;
use executor_supervisor::spec::Spec;
use executor_supervisor::spec::container::{Bind, Container};
use model::id::StepId;
use proto::v1;

use super::prepare::Job;
use super::runner::Who;
use super::ways::Ways;
use super::{Containers, Prepared, Wanted, toolbox, wanted};
use crate::gpu::caps::Caps;
use crate::gpu::node::Granted;
use crate::key::Key;
use crate::launch::user::Account;

/// What the container of a run is made of.
pub struct Parts<'a> {
    /// What was asked.
    pub wanted: &'a Wanted,
    /// What is run.
    pub prepared: &'a Prepared,
    /// What works here.
    pub ways: &'a Ways,
    /// The client's folder.
    pub toolbox: &'a Path,
    /// The job's own /tmp.
    pub scratch: &'a Path,
    /// Its run folder.
    pub folder: &'a Path,
}

/// The container's description. Pure.
#[must_use]
pub fn container(parts: &Parts<'_>, key: Key, launch: &v1::Launch, who: &Who) -> Container {
    let options = &parts.wanted.options;
    let text = |path: &Path| path.display().to_string().into_bytes();
    let verb = if options.entrypoint { "run" } else { "exec" };
    let program = parts.ways.program.display().to_string();
    let mut command: Vec<String> = vec![program, "-s".to_owned(), verb.to_owned()];
    if who.uid == 0 {
        command.extend(parts.ways.root_options.iter().cloned());
    }
    command.push("--contain".to_owned());
    for (option, wanted) in [
        ("--nv", has_gpus(launch)),
        ("--fakeroot", options.remap_root),
        // The namespace alone: the program that fakes files' owners needs libraries that an image may not have.
        ("--ignore-fakeroot-command", options.remap_root),
        ("--writable-tmpfs", options.writable),
    ] {
        if wanted {
            command.push(option.to_owned());
        }
    }
    let bind = |source: &Path, target: String, read_only: bool| Bind {
        source: text(source),
        target: target.into_bytes(),
        read_only,
        asked: false,
    };
    let inside = |name: &str| format!("{}/{name}", toolbox::INSIDE);
    let mut binds = vec![bind(parts.toolbox, toolbox::INSIDE.to_owned(), true)];
    let mut environment = vec![
        format!("SLUICE_CONTAINER={}", parts.wanted.image),
        format!("SLURM_CONTAINER={}", parts.wanted.image),
        format!("APPTAINERENV_APPEND_PATH={}", inside("bin")),
    ];
    let socket = Path::new(&launch.scheduler_socket);
    if let (Some(folder), Some(name)) = (socket.parent().filter(|_| socket.is_absolute()), socket.file_name())
    {
        binds.push(bind(folder, inside("run"), true));
        environment.push(format!("SLUICE_SOCKET={}/{}", inside("run"), name.to_string_lossy()));
    }
    if let Some(runs) = parts.folder.parent() {
        binds.push(bind(runs, inside("runs"), true));
        environment.push(format!("SLUICE_RUNS={}={}", runs.display(), inside("runs")));
    }
    if key.step == StepId::Batch {
        binds.push(bind(&parts.folder.join(SCRIPT_FILE), inside(SCRIPT_FILE), true));
    }
    for mount in parts.prepared.mounts.iter().chain(&options.mounts) {
        binds.push(Bind {
            source: mount.source.as_bytes().to_vec(),
            target: mount.target.as_bytes().to_vec(),
            read_only: mount.read_only,
            asked: true,
        });
    }
    let home = if options.mount_home == Some(false) { "" } else { &who.home };
    environment.extend(parts.prepared.environment.iter().map(|entry| format!("APPTAINERENV_{entry}")));
    Container {
        command: command.into_iter().map(String::into_bytes).collect(),
        image: text(&parts.prepared.image),
        source: parts.prepared.source.as_deref().map(text).unwrap_or_default(),
        binds,
        scratch: text(parts.scratch),
        home: home.as_bytes().to_vec(),
        work_dir: options.work_dir.as_deref().unwrap_or_default().as_bytes().to_vec(),
        environment: environment.into_iter().map(String::into_bytes).collect(),
        kept: options.environment.iter().map(|name| name.as_bytes().to_vec()).collect(),
        refusal: Vec::new(),
    }
}

fn has_gpus(launch: &v1::Launch) -> bool {
    let here = launch.allocation.get(launch.node_index as usize);
    let some = |held: &v1::GresAllocation| {
        crate::gpu::node::is_of_gpus(held) && (held.count > 0 || !held.slices.is_empty())
    };
    here.is_some_and(|here| here.gres.iter().any(some))
}

/// Device files of what a run was given, as far as they are there: those that all GPUs share, the GPU's own, and the
/// capabilities of its slices (by minor).
#[must_use]
pub fn device_binds(granted: &[Granted], capabilities: &[u32]) -> Vec<Bind> {
    if granted.is_empty() {
        return Vec::new();
    }
    let shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"].map(str::to_owned);
    let mut paths = Vec::from(shared);
    paths.extend(granted.iter().map(|one| format!("/dev/nvidia{}", one.minor)));
    paths.extend(capabilities.iter().map(|minor| Caps::path(*minor)));
    paths.sort();
    paths.dedup();
    // One that is missing would keep the container from starting.
    let there = paths.into_iter().filter(|path| Path::new(path).exists());
    let bind = |path: String| Bind {
        source: path.clone().into_bytes(),
        target: path.into_bytes(),
        read_only: false,
        asked: false,
    };
    there.map(bind).collect()
}

/// A container that cannot be had: the task says why and ends.
#[must_use]
pub fn refusal(sentence: &str) -> Container {
    Container { refusal: sentence.as_bytes().to_vec(), ..Container::default() }
}

impl Containers {
    /// The container of a run; `None`: it wants none. What cannot be had comes back as a container that says why.
    /// `progress` gets a sentence now and then while an image is made ready.
    pub async fn of_run(
        &self,
        key: Key,
        launch: &v1::Launch,
        account: &Account,
        folder: &Path,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Option<Container> {
        let made = async {
            let Some(wanted) = wanted(launch)? else { return Ok(None) };
            let who = Who::new(launch.uid, launch.gid, account);
            let environment = launch.tasks.as_ref().map_or(&launch.environment, |tasks| &tasks.environment);
            let here = launch.allocation.get(launch.node_index as usize);
            let cpus = here.map_or(1, |here| here.cpus);
            let job = Job { run: key, who: &who, environment, cpus, progress };
            let prepared = self.prepare(&wanted, &job).await?;
            let (ways, toolbox) = (self.ways().await?, self.toolbox().await?);
            let scratch = self.make_scratch(key, who.uid, who.gid)?;
            let parts =
                Parts { wanted: &wanted, prepared: &prepared, ways, toolbox, scratch: &scratch, folder };
            Ok::<_, String>(Some(container(&parts, key, launch, &who)))
        };
        made.await.unwrap_or_else(|sentence| Some(refusal(&sentence)))
    }
}

/// What MPI libraries are told of containers that each have a user namespace of their own, unless the user has said it: what
/// needs rights over the other rank's process (its `/proc` folder, its memory) fails there in the middle, not at the start.
const APART: [(&str, &str); 2] =
    [("UCX_POSIX_USE_PROC_LINK", "n"), ("OMPI_MCA_btl_vader_single_copy_mechanism", "none")];

/// Lets the ranks of one node meet, each in a container of its own: they share memory through `/dev/shm`, of which
/// `--contain` gives each its own, and nothing but another `/dev` replaces that one. So such a step sees the node's
/// `/dev`, as one without a container does; what of it may be opened is the cgroup's to say.
fn let_meet(spec: &mut Spec, container: &mut Container) {
    container.binds.retain(|bind| bind.asked || !bind.target.starts_with(b"/dev/"));
    let dev = b"/dev".to_vec();
    container.binds.insert(0, Bind { source: dev.clone(), target: dev, read_only: false, asked: false });
    if spec.uid == 0 {
        return;
    }
    for (name, value) in APART {
        let set =
            |entry: &Vec<u8>| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        if !spec.environment.iter().any(set) {
            spec.environment.push(format!("{name}={value}").into_bytes());
        }
    }
}

/// Puts a run into its container.
pub fn put_into(spec: &mut Spec, mut container: Box<Container>, key: Key) {
    if spec.mpi.is_some() && container.refusal.is_empty() {
        let_meet(spec, &mut container);
    }
    if key.step == StepId::Batch
        && let Some(script) = spec.tasks.first_mut().and_then(|task| task.arguments.first_mut())
    {
        *script = format!("{}/{SCRIPT_FILE}", toolbox::INSIDE).into_bytes();
    }
    spec.container = Some(container);
}

/// A step that wants no container, started from within one: what pointed into it points outside again.
pub fn leave(spec: &mut Spec, socket: &str) {
    let inside = |entry: &Vec<u8>| {
        let names: [&[u8]; 4] =
            [b"SLUICE_CONTAINER=", b"SLUICE_RUNS=", b"SLURM_CONTAINER=", b"SLUICE_SOCKET="];
        let of_apptainer = [&b"APPTAINER_"[..], b"SINGULARITY_"].iter().any(|name| entry.starts_with(name));
        of_apptainer || names.iter().any(|name| entry.starts_with(name))
    };
    if spec.environment.iter().any(|entry| entry.starts_with(b"SLUICE_CONTAINER=")) {
        spec.environment.retain(|entry| !inside(entry));
        spec.environment.push(format!("SLUICE_SOCKET={socket}").into_bytes());
    }
}
