//! Containers: how a run that asks for an image gets one.
//!
//! ```text
//!  Launch ─► wanted? ─► prepare (ways, cache; as the submitter) ─► compose ─► spec.container ─► supervisor ─► apptainer exec
//! ```
//!
//! Preparing happens before the supervisor exists, hence before the run's clock: archives are converted, SIF
//! files unpacked where users cannot mount them, registries asked. What a submitter may read is found out with
//! their rights only, by helpers (`runner`) and by the task itself. What cannot be had ends the run with a
//! sentence that reaches its errors, `scontrol show job` and `sluice why`.

pub mod bundle;
pub mod cache;
pub mod compose;
mod prepare;
pub mod runner;
pub mod toolbox;
pub mod ways;

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::container::{self, Image, Options};
use proto::v1;
use tokio::sync::OnceCell;

use crate::key::Key;
use cache::Cache;
use ways::Ways;

pub use prepare::Prepared;

/// Where the images are that users may reach, if the state folder is closed to them.
const ELSEWHERE: &str = "/var/cache/sluice";

/// How long the /tmp of a job without a batch script is kept after its last use.
const SCRATCH_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What the executor is told about containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Apptainer's program; `None`: where a login finds it.
    pub apptainer: Option<PathBuf>,
    /// Where images and the toolbox are kept; `None`: beside the run folders.
    pub cache: Option<PathBuf>,
    /// Bytes that kept images may have.
    pub cache_bytes: u64,
    /// Below which jobs get their own /tmp (TmpFS).
    pub tmp: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { apptainer: None, cache: None, cache_bytes: 20 << 30, tmp: "/tmp".into() }
    }
}

/// What a run wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The image.
    pub image: Image,
    /// How the container differs from the default.
    pub options: Options,
}

/// The container of a launch: the step's own, else the job's.
///
/// # Errors
/// A text that is none: the client of another version, or another client.
pub fn wanted(launch: &v1::Launch) -> Result<Option<Wanted>, String> {
    let tasks =
        launch.tasks.as_ref().and_then(|tasks| Some((tasks.container.as_ref()?, &tasks.container_options)));
    let rare = launch.request.as_ref().and_then(|request| request.rare.as_ref());
    let job = || rare.and_then(|rare| Some((rare.container.as_ref()?, &rare.container_options)));
    let Some((image, options)) = tasks.or_else(job) else { return Ok(None) };
    if image == container::NONE {
        return Ok(None);
    }
    let image = Image::parse(image).map_err(|problem| format!("container image: {problem}"))?;
    let options = options.clone().map(proto::convert::request::container_inwards).transpose();
    let options = options.map_err(|error| format!("container options: {error}"))?;
    Ok(Some(Wanted { image, options: options.unwrap_or_default() }))
}

/// The containers of this node.
#[derive(Debug)]
pub struct Containers {
    settings: Settings,
    supervisor: PathBuf,
    commands: PathBuf,
    uid: u32,
    place: PathBuf,
    scratch: PathBuf,
    cache: OnceCell<Result<Cache, String>>,
    ways: OnceCell<Result<Ways, String>>,
    toolbox: OnceCell<Result<PathBuf, String>>,
    /// Whether there may be folders of jobs in `scratch`.
    scratched: AtomicBool,
    /// Digests of files that have not changed since.
    digests: Mutex<HashMap<prepare::Seen, String>>,
}

impl Containers {
    /// Touches nothing yet: a node without container jobs pays nothing.
    #[must_use]
    pub fn new(
        settings: Settings,
        supervisor: &Path,
        commands: &Path,
        run_root: &Path,
        uid: u32,
        spool_id: &[u8; 16],
    ) -> Self {
        let short: String = spool_id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let beside = run_root.parent().filter(|_| !run_root.starts_with("/run"));
        let place = match (&settings.cache, beside) {
            (Some(place), _) => place.clone(),
            (None, Some(beside)) => beside.join("containers"),
            (None, None) => Path::new(ELSEWHERE).join(&short),
        };
        let scratch = settings.tmp.join(format!("sluice-{short}"));
        Self {
            scratched: AtomicBool::new(scratch.exists()),
            scratch,
            settings,
            supervisor: supervisor.to_owned(),
            commands: commands.to_owned(),
            uid,
            place,
            cache: OnceCell::new(),
            ways: OnceCell::new(),
            toolbox: OnceCell::new(),
            digests: Mutex::default(),
        }
    }

    /// What works here; the probe runs at the first call.
    ///
    /// # Errors
    /// A sentence: what does not, and why.
    pub async fn ways(&self) -> Result<&Ways, String> {
        self.ways.get_or_init(|| self.probe()).await.as_ref().map_err(Clone::clone)
    }

    /// A sentence for `sluice node`; empty before the probe is over.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.ways.get() {
            None => String::new(),
            Some(Ok(ways)) => ways.describe(),
            Some(Err(why)) => format!("none: {why}"),
        }
    }

    async fn probe(&self) -> Result<Ways, String> {
        let named = self.settings.apptainer.as_deref();
        let Some(program) = ways::find(named) else {
            return Err(match named {
                Some(path) => format!("Apptainer is not at {}", path.display()),
                None => "Apptainer is not installed".to_owned(),
            });
        };
        let toolbox = self.toolbox().await?;
        ways::probe(&self.supervisor, program, toolbox, &self.place, self.uid).await
    }

    /// The client's folder, made at the first call.
    async fn toolbox(&self) -> Result<&Path, String> {
        let make = || async {
            let (commands, place) = (self.commands.clone(), self.place.clone());
            let made = tokio::task::spawn_blocking(move || {
                make_place(&place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
                toolbox::make(&commands, &place)
            });
            made.await.unwrap_or_else(|_| Err("the client's folder could not be made".to_owned()))
        };
        self.toolbox.get_or_init(make).await.as_ref().map(PathBuf::as_path).map_err(Clone::clone)
    }

    async fn cache(&self) -> Result<&Cache, String> {
        let open = || async {
            let failed =
                |error: io::Error| format!("cannot use {} for images: {error}", self.place.display());
            make_place(&self.place).map_err(failed)?;
            Cache::open(&self.place, self.settings.cache_bytes).map_err(failed)
        };
        self.cache.get_or_init(open).await.as_ref().map_err(Clone::clone)
    }

    /// A run that outlived an earlier executor keeps its image.
    pub async fn hold(&self, run: Key, image: &Path) {
        if let Ok(cache) = self.cache().await {
            cache.hold(run, image);
        }
    }

    /// A run is over and acknowledged: its image may be collected, and the job's /tmp where it was the batch
    /// script's. Blocking.
    pub fn release(&self, run: Key) {
        if let Some(Ok(cache)) = self.cache.get() {
            cache.release(run);
        }
        if run.step == model::id::StepId::Batch && self.scratched.load(Ordering::Relaxed) {
            let folder = self.scratch_of(run);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "a job's /tmp could not be removed");
                }
                _ => {}
            }
        }
    }

    /// The executor stops: folders that serve nobody go.
    pub fn close(&self) {
        // Not empty where jobs are left.
        let _ = fs::remove_dir(&self.scratch);
    }

    fn scratch_of(&self, run: Key) -> PathBuf {
        self.scratch.join(format!("{}.{}", run.job_id, run.run))
    }

    /// The job's own /tmp on this node, made for the user. Blocking.
    ///
    /// # Errors
    /// A sentence.
    fn make_scratch(&self, run: Key, uid: u32, gid: u32) -> Result<PathBuf, String> {
        let folder = self.scratch_of(run);
        self.scratched.store(true, Ordering::Relaxed);
        let make = || {
            make_own(&self.scratch, 0o711)?;
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if fs::symlink_metadata(&folder)?.uid() != uid {
                chown(&folder, Some(uid), Some(gid))?;
            }
            Ok(())
        };
        make().map_err(|error: io::Error| {
            format!("cannot make the job's /tmp {}: {error}", folder.display())
        })?;
        Ok(folder)
    }

    /// Removes what jobs left in their /tmp that no run here belongs to: allocations have no batch script whose
    /// end would tell. Blocking; at the start, before anything runs.
    pub fn sweep(&self, is_known: impl Fn(u32) -> bool) {
        for entry in fs::read_dir(&self.scratch).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let job = name.to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
            let age =
                entry.metadata().and_then(|facts| facts.modified()).ok().and_then(|at| at.elapsed().ok());
            if job.is_some_and(|job| !is_known(job)) && age.is_some_and(|age| age > SCRATCH_KEPT) {
                // What cannot be removed is met again by the next start.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<prepare::Seen, String>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folders that users pass through.
fn make_place(place: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o711))
}

/// A folder of ours where everybody may make folders: one that somebody else made in its place is refused.
fn make_own(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let facts = fs::symlink_metadata(folder)?;
    if !facts.is_dir() || facts.uid() != nix::unistd::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("{} is somebody else's", folder.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_own_container_wins_over_the_jobs() {
        let rare = v1::RareRequest { container: Some("/job.sif".to_owned()), ..Default::default() };
        let request = v1::JobRequest { rare: Some(rare), ..Default::default() };
        let mut launch = v1::Launch { request: Some(request), ..Default::default() };
        let image = |launch: &v1::Launch| wanted(launch).unwrap().map(|wanted| wanted.image.to_string());
        assert_eq!(image(&launch).as_deref(), Some("/job.sif"));
        launch.tasks = Some(v1::TaskLaunch::default());
        assert_eq!(image(&launch).as_deref(), Some("/job.sif"));
        launch.tasks.as_mut().unwrap().container = Some("oci:/x".to_owned());
        assert_eq!(image(&launch).as_deref(), Some("oci:/x"));
        launch.tasks.as_mut().unwrap().container = Some("none".to_owned());
        assert_eq!(image(&launch), None);
        launch.tasks.as_mut().unwrap().container = Some("what://x".to_owned());
        assert!(wanted(&launch).unwrap_err().contains("\"what:\""));
        assert_eq!(image(&v1::Launch::default()), None);
    }
}
