//! Where the daemon reads its configuration, listens, and keeps its state.
//!
//! The rule for the socket is `model::place`, which executors and clients follow too. The scheduler's
//! files stand in a folder `scheduler` of the state folder, beside those of executors.

use std::path::{Path, PathBuf};

use model::place::{DEFAULT_CONF, Place};

/// What the environment says; read once, in `main`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `SLUICE_SOCKET`.
    pub socket: Option<String>,
    /// `SLURM_CONF`.
    pub slurm_conf: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<String>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<String>,
    /// `HOME`.
    pub home: Option<String>,
    /// Effective user.
    pub uid: u32,
}

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn read() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            socket: set("SLUICE_SOCKET"),
            slurm_conf: set("SLURM_CONF"),
            runtime_dir: set("XDG_RUNTIME_DIR"),
            state_home: set("XDG_STATE_HOME"),
            home: set("HOME"),
            uid: nix::unistd::geteuid().as_raw(),
        }
    }

    /// The configuration file: the one that is named, `SLURM_CONF`, or the usual one where it is there.
    #[must_use]
    pub fn conf(&self, named: Option<&Path>) -> Option<PathBuf> {
        named
            .map(Path::to_owned)
            .or_else(|| self.slurm_conf.as_ref().map(PathBuf::from))
            .or_else(|| Some(PathBuf::from(DEFAULT_CONF)).filter(|path| path.exists()))
    }

    /// The socket. `cluster` is the configuration's, where there is one.
    #[must_use]
    pub fn socket(&self, cluster: Option<&str>) -> PathBuf {
        let place = Place {
            socket: self.socket.as_deref(),
            cluster,
            uid: self.uid,
            runtime_dir: self.runtime_dir.as_deref(),
        };
        place.listen().into()
    }

    /// The folder of the scheduler's state.
    #[must_use]
    pub fn state(&self, named: Option<&Path>, state_save_location: Option<&Path>) -> PathBuf {
        let base = named
            .map(Path::to_owned)
            .or_else(|| state_save_location.map(|folder| folder.join("sluice")))
            .unwrap_or_else(|| self.default_state());
        base.join("scheduler")
    }

    fn default_state(&self) -> PathBuf {
        if self.uid == 0 {
            return "/var/lib/sluice".into();
        }
        match (&self.state_home, &self.home) {
            (Some(state), _) => Path::new(state).join("sluice"),
            (None, Some(home)) => Path::new(home).join(".local/state/sluice"),
            (None, None) => format!("/tmp/sluice-{}", self.uid).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_given_counts() {
        let user = Environment { uid: 5, home: Some("/h".into()), ..Environment::default() };
        assert_eq!(user.state(None, None), Path::new("/h/.local/state/sluice/scheduler"));
        let other = Environment { state_home: Some("/s".into()), ..user.clone() };
        assert_eq!(other.state(None, None), Path::new("/s/sluice/scheduler"));
        assert_eq!(user.state(Some(Path::new("/n")), Some(Path::new("/c"))), Path::new("/n/scheduler"));
        assert_eq!(user.state(None, Some(Path::new("/c"))), Path::new("/c/sluice/scheduler"));
        let root = Environment::default();
        assert_eq!(root.state(None, None), Path::new("/var/lib/sluice/scheduler"));
        assert_eq!(root.socket(Some("c")), Path::new("/run/sluice/c/scheduler.sock"));
        assert_eq!(root.conf(Some(Path::new("/x"))), Some(PathBuf::from("/x")));
    }
}
