//! Slurm's configuration files: texts → typed values, with the line at fault where one is wrong.
//!
//! Reading files is the caller's. A key that no release knows, or a wrong value, is an [`Error`] and the
//! whole configuration is refused; a key that Slurm knows and Sluice does not honour is a [`Notice`].
//! A default never stands in silently for a value that was given.

pub mod cgroup;
mod entities;
pub mod gres;
pub mod keys;
pub mod lex;
pub mod log;
mod node;
pub mod own;
mod partition;
pub mod report;
pub mod scheduler;
mod settings;
mod show;
mod slurm;
mod sort;
mod terms;
#[cfg(test)]
mod tests;
pub mod topology;
mod values;

pub use lex::{Place, Reader};
pub use node::{NodeConf, NodeStateConf};
pub use partition::{NodeSetConf, Oversubscribe, PartitionConf, PartitionState};
pub use settings::Settings;
pub use slurm::SlurmConf;
pub use terms::{
    ControllerHost, Enforce, EnforcePartLimits, HealthCheck, JobDefaults, MemoryLimit, PreemptMode,
    PreemptType, Priority, ProgramConf, SelectResource, SelectType, UsageReset,
};

/// Something that stops the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Error {}

/// Something to tell the administrator that does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Where.
    pub place: Place,
    /// What it is.
    pub message: String,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
