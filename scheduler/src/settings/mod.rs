//! The configuration of the daemon: found, read, checked as a whole, put in force as a whole.
//!
//! Owns what is in force and where it came from. Files are read here and parsed by `model::config`; what
//! decisions need becomes [`Settings`](scheduler_core::settings::Settings) in [`loaded`].

pub mod dynamic;
pub mod loaded;
pub mod place;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use model::config::SlurmConf;
use model::config::gres::GresConf;
use model::config::log::LogConf;
use model::config::own::{self, OwnConf};
use model::config::report;
use model::config::topology::Topology;
use scheduler_core::settings::{Settings, conf};

use crate::store::history;
use crate::{hooks, mail};

/// A configuration that was read and found sound.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What decisions need.
    pub settings: Arc<Settings>,
    /// Names and values of `scontrol show config`.
    pub shown: Vec<(String, String)>,
    /// PrivateData, in lower case.
    pub private_data: Vec<Box<str>>,
    /// StateSaveLocation of a given file.
    pub state_save_location: Option<PathBuf>,
    /// How mail leaves.
    pub mail: mail::Settings,
    /// User and group of SlurmUser, where the file names one that this machine knows.
    pub slurm_user: Option<(u32, u32)>,
    /// Port of 127.0.0.1 for figures and health.
    pub metrics_port: Option<u16>,
    /// Where the log goes and how much is said.
    pub log: LogConf,
    /// The state may be on a network file system.
    pub network_accepted: bool,
    /// What history keeps of a job, and how long.
    pub history: history::Settings,
    /// Programs around jobs.
    pub hooks: hooks::Settings,
    /// What the administrator should know, with file and line.
    pub notices: Vec<String>,
}

/// Where the configuration comes from, and what of it is in force.
pub struct Configuration {
    source: Option<PathBuf>,
    in_force: RwLock<Loaded>,
}

impl Configuration {
    /// Reads the file that is named, or makes the configuration of this machine where none is.
    ///
    /// # Errors
    /// Every error of the files, with file and line.
    pub fn load(source: Option<PathBuf>) -> Result<Self, Vec<String>> {
        let loaded = load(source.as_deref())?;
        Ok(Self { source, in_force: RwLock::new(loaded) })
    }

    /// The same from settings that are given: tests and benches.
    #[must_use]
    pub fn fixed(settings: Settings) -> Self {
        let loaded = Loaded {
            settings: Arc::new(settings),
            shown: Vec::new(),
            private_data: Vec::new(),
            state_save_location: None,
            mail: mail::Settings { program: "/bin/mail".into(), domain: None, user: None },
            slurm_user: None,
            metrics_port: None,
            log: LogConf::default(),
            network_accepted: false,
            history: history::Settings::default(),
            hooks: hooks::Settings::default(),
            notices: Vec::new(),
        };
        Self { source: None, in_force: RwLock::new(loaded) }
    }

    /// The file, where there is one.
    #[must_use]
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Reads the files again and changes nothing.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read_again(&self) -> Result<Loaded, Vec<String>> {
        match &self.source {
            Some(path) => load(Some(path)),
            // Without files there is nothing to read: what is in force is what would be made.
            None => Ok(self.current()),
        }
    }

    /// The machine has it: from now on it is shown.
    pub fn put_in_force(&self, loaded: Loaded) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Loaded {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names and values of `scontrol show config`.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).shown.clone()
    }

    /// How mail leaves.
    #[must_use]
    pub fn mail(&self) -> mail::Settings {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).mail.clone()
    }

    /// Programs around jobs.
    #[must_use]
    pub fn hooks(&self) -> hooks::Settings {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).hooks.clone()
    }

    /// Whether users see only their own jobs.
    #[must_use]
    pub fn private_jobs(&self) -> bool {
        let loaded = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        loaded.private_data.iter().any(|word| &**word == "jobs" || &**word == "all")
    }
}

/// Reads slurm.conf and the gres.conf beside it.
fn load(path: Option<&Path>) -> Result<Loaded, Vec<String>> {
    let Some(path) = path else { return Ok(loaded::without_files()) };
    let text = read_file(path).map_err(|error| vec![error])?;
    let conf = SlurmConf::parse(&text, path, &mut |included: &Path| read_file(included))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let gres = load_gres(path)?;
    let own = load_own(path)?;
    refuse_unacknowledged(&conf, path, &own)?;
    let topology = Topology::beside(&conf, path, &mut |included: &Path| read_file(included))?;
    let mut loaded = loaded::loaded(&conf, &gres, path)?;
    loaded.metrics_port = own.metrics_port;
    let settings = Arc::make_mut(&mut loaded.settings);
    settings.defragment = own.defragment;
    settings.policy.prediction = conf::prediction(&own);
    settings.slice_create = own.mig_create.unwrap_or(settings.slice_create);
    settings.slice_destroy = own.mig_destroy.unwrap_or(settings.slice_destroy);
    loaded.network_accepted = own.state_on_network;
    loaded.history.keep = own.history_keep.unwrap_or(loaded.history.keep);
    loaded.history.max_bytes = own.history_max_bytes.unwrap_or(loaded.history.max_bytes);
    if let Some(topology) = topology {
        loaded.notices.extend(topology.notices.iter().map(ToString::to_string));
        Arc::make_mut(&mut loaded.settings).topology = Some(Arc::new(topology));
    }
    Ok(loaded)
}

/// sluice.conf beside slurm.conf.
fn load_own(slurm_conf: &Path) -> Result<OwnConf, Vec<String>> {
    let path = slurm_conf.with_file_name(own::FILE_NAME);
    if !path.exists() {
        return Ok(OwnConf::default());
    }
    let text = read_file(&path).map_err(|error| vec![error])?;
    OwnConf::parse(&text, &path, &mut |included: &Path| read_file(included))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// A key that enforces something and is not supported stops the start, unless the administrator says that he knows.
fn refuse_unacknowledged(conf: &SlurmConf, slurm_conf: &Path, own: &OwnConf) -> Result<(), Vec<String>> {
    let mut open: Vec<(String, &str)> = Vec::new();
    for key in report::enforcing(conf) {
        let value = conf.settings.text(key).unwrap_or_default();
        let place = conf.settings.place(key).map(|place| format!("{place}: ")).unwrap_or_default();
        open.push((format!("{place}{key}={value} is not supported"), key));
    }
    let plugstack = slurm_conf.with_file_name("plugstack.conf");
    let default = conf.settings.text("PlugStackConfig").is_none();
    if default && read_file(&plugstack).is_ok_and(|text| report::loads_plugins(&text)) {
        open.push((format!("{}: SPANK plugins are not supported", plugstack.display()), "PlugStackConfig"));
    }
    open.retain(|(_, key)| !own.acknowledged.contains(key));
    if open.is_empty() {
        return Ok(());
    }
    let file = slurm_conf.with_file_name(own::FILE_NAME);
    let lines = open.into_iter().map(|(what, key)| {
        format!(
            "{what}, and it enforces something that would be missing\n  \
             to start without it, put Acknowledge={key} into {}",
            file.display()
        )
    });
    Err(lines.collect())
}

fn load_gres(slurm_conf: &Path) -> Result<GresConf, Vec<String>> {
    let path = slurm_conf.with_file_name("gres.conf");
    if !path.exists() {
        return Ok(GresConf::default());
    }
    let text = read_file(&path).map_err(|error| vec![error])?;
    GresConf::parse(&text, &path, &mut |included: &Path| read_file(included))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn read_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "name a file that is there (--conf, SLURM_CONF)",
            std::io::ErrorKind::PermissionDenied => "let the scheduler's user read it",
            _ => return format!("cannot read {}: {error}", path.display()),
        };
        format!("cannot read {}: {error}\n  {remedy}", path.display())
    })
}
