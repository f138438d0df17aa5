//! A folder from which NVIDIA's dcgm-exporter takes the jobs of each GPU as labels (its HPC job mapping).
//!
//! ```text
//!  FOLDER/0      a GPU by its number: a job id a line        FOLDER/0.7    GPU instance 7 of GPU 0
//! ```
//!
//! A file is there while a job has the GPU, and replaced as a whole. What an earlier executor left of jobs that are over
//! goes at the start. That a file cannot be written is said once and stops no job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::node::Granted;
use crate::key::Key;

/// Jobs with their runs; no run where an earlier executor left the file.
type Jobs = BTreeSet<(u32, Option<Key>)>;

/// See the module comment.
pub struct JobMapping {
    folder: PathBuf,
    /// Runs by file: a job is named while one of its runs has the device.
    files: Mutex<BTreeMap<String, Jobs>>,
}

impl JobMapping {
    /// Takes the folder over: of what is in it, only jobs that live stay.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: PathBuf, lives: impl Fn(u32) -> bool) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mapping = Self { folder, files: Mutex::default() };
        for entry in fs::read_dir(&mapping.folder)?.flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let jobs = text.lines().filter_map(|line| line.trim().parse().ok()).filter(|job| lives(*job));
            // Which runs they were is not known any more: they go with the last one that is.
            let jobs: Jobs = jobs.map(|job| (job, None)).collect();
            mapping.write(&name, &jobs)?;
            mapping.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name, jobs);
        }
        Ok(mapping)
    }

    /// A run has these devices.
    pub fn enter(&self, key: Key, granted: &[Granted]) {
        for one in granted {
            let name = match &one.instance {
                Some(there) => format!("{}.{}", one.index, there.gi),
                None => one.index.to_string(),
            };
            self.change(&name, |jobs| {
                jobs.insert((key.job_id, Some(key)));
            });
        }
    }

    /// A run is over. `last`: no other run of its job is here.
    pub fn leave(&self, key: Key, last: bool) {
        let names: Vec<String> = {
            let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            files
                .iter()
                .filter(|(_, jobs)| jobs.iter().any(|(job, _)| *job == key.job_id))
                .map(|(n, _)| n.clone())
                .collect()
        };
        for name in names {
            self.change(&name, |jobs| {
                jobs.retain(|(job, run)| *job != key.job_id || !(last || *run == Some(key)));
            });
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Jobs)) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = files.entry(name.to_owned()).or_default();
        change(jobs);
        if let Err(error) = self.write(name, jobs) {
            tracing::warn!(folder = %self.folder.display(), name, %error, "a GPU's jobs cannot be told to dcgm-exporter");
        }
        if jobs.is_empty() {
            files.remove(name);
        }
    }

    fn write(&self, name: &str, jobs: &Jobs) -> io::Result<()> {
        let path = self.folder.join(name);
        if jobs.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let ids: BTreeSet<u32> = jobs.iter().map(|(job, _)| *job).collect();
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        // No name of a GPU: the exporter passes it over.
        let partial = self.folder.join(format!(".{name}.partial"));
        fs::write(&partial, text)?;
        fs::rename(partial, path)
    }
}

#[cfg(test)]
mod tests {
    use super::JobMapping;
    use crate::gpu::node::Granted;
    use crate::key::Key;
    use model::gpu::MigInstance;
    use model::id::StepId;

    #[test]
    fn jobs_are_named_while_they_have_a_gpu() {
        let folder = std::env::temp_dir().join(format!("sluice-dcgm-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0"), "4\n5\n").unwrap();
        std::fs::write(folder.join("1"), "4\n").unwrap();
        std::fs::write(folder.join("README"), "4\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let mapping = JobMapping::open(folder.clone(), |job| job == 5).unwrap();
        assert_eq!(
            (read("0").as_deref(), read("1"), read("README").as_deref()),
            (Some("5\n"), None, Some("4\n"))
        );
        let key = |job_id, step| Key { job_id, step, run: 1 };
        let gpu = |gi: Option<u32>| {
            let instance = gi.map(|gi| MigInstance { gi, ..MigInstance::default() });
            Granted { index: 0, minor: 0, uuid: String::new(), cpu_ranges: Vec::new(), instance }
        };
        let (batch, step) = (key(7, StepId::Batch), key(7, StepId::Number(0)));
        mapping.enter(batch, &[gpu(Some(7)), gpu(None)]);
        mapping.enter(step, &[gpu(Some(7))]);
        assert_eq!((read("0").as_deref(), read("0.7").as_deref()), (Some("5\n7\n"), Some("7\n")));
        mapping.leave(step, false);
        assert_eq!(read("0.7").as_deref(), Some("7\n"), "its batch script still has it");
        mapping.leave(batch, true);
        assert_eq!((read("0").as_deref(), read("0.7")), (Some("5\n"), None));
        mapping.leave(key(5, StepId::Batch), true);
        assert_eq!(read("0"), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
