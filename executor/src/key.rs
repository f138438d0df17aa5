//! Which run: job, step, and which start of the job.

use std::fmt;

use model::id::StepId;
use proto::v1;

/// Names a run on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The job.
    pub job_id: u32,
    /// Its step.
    pub step: StepId,
    /// Which start of the job.
    pub run: u32,
}

impl Key {
    /// From a message; `None` where the step is no step.
    #[must_use]
    pub fn read(message: &v1::RunKey) -> Option<Self> {
        Some(Self { job_id: message.job_id, step: StepId::parse(&message.step_id)?, run: message.run })
    }

    /// As a message.
    #[must_use]
    pub fn message(self) -> v1::RunKey {
        v1::RunKey { job_id: self.job_id, step_id: self.step.to_string(), run: self.run }
    }

    /// Name of the run's folder.
    #[must_use]
    pub fn folder(self) -> String {
        executor_supervisor::run_folder_name(self.job_id, &self.step.to_string(), self.run)
    }

    /// From the name of a run's folder.
    #[must_use]
    pub fn from_folder(name: &str) -> Option<Self> {
        let (job_id, step, run) = executor_supervisor::parse_run_folder_name(name)?;
        Some(Self { job_id, step: StepId::parse(&step)?, run })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} run {}", self.job_id, self.step, self.run)
    }
}
