//! Jobs that write down what happened to them, submitted from a few threads all through the loop.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::{Cluster, Random, wait_for};

const THREADS: u64 = 2;
/// What sbatch says when the scheduler's disk is full.
const FULL: &str = "no space left to store a job";
/// No more than this many jobs ahead of what the jobs themselves wrote, so that the end comes soon after the loop's.
const AHEAD: u64 = 60;

/// One call of sbatch.
#[derive(Clone, Debug)]
pub(crate) struct Submit {
    /// The id that sbatch printed; `None` if it did not succeed: the job may exist, once.
    pub(crate) id: Option<String>,
    /// The exit code that the job will have.
    pub(crate) exit: u64,
}

/// All calls by the number that each job carries in its name and arguments.
pub(crate) type Submitted = BTreeMap<u64, Submit>;

pub(crate) struct Submitter {
    threads: Vec<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    submitted: Mutex<Submitted>,
    acknowledged: AtomicU64,
    refused_full: AtomicU64,
    begun: Mutex<Begun>,
}

/// How many jobs have written that they began: the record is read on from where it was read last, so that a look
/// costs the same however long the loop has run.
struct Begun {
    record: PathBuf,
    read: u64,
    /// The piece of a line that was not whole at the last look.
    rest: Vec<u8>,
    count: u64,
}

impl Begun {
    fn look(&mut self) -> u64 {
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.record)?;
            file.seek(SeekFrom::Start(self.read))?;
            let length = file.read_to_end(&mut self.rest)?;
            self.read += length as u64;
            Ok(())
        };
        // Not there or not readable: what was seen before still counts.
        let _ = read();
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = self.rest.drain(..whole).collect::<Vec<u8>>();
        let begun = lines.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"begin")).count();
        self.count += begun as u64;
        self.count
    }
}

/// Where the jobs of a cluster write.
pub(crate) fn record(cluster: &Cluster) -> PathBuf {
    cluster.jobs().join("record")
}

impl Submitter {
    pub(crate) fn start(cluster: &Cluster, seed: u64) -> Result<Self> {
        let script = cluster.jobs().join("job.sh");
        let record = record(cluster);
        fs::write(&record, "").context("make the jobs' record")?;
        let text = format!(
            "#!/bin/sh\n# number, exit code, seconds\n\
             line() {{ echo \"$1 $2 $SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}} $(cat /proc/sys/kernel/random/boot_id)\" >> {}; }}\n\
             line begin $1\nsleep $3\nline end $1\nexit $2\n",
            record.display()
        );
        fs::write(&script, text).context("write the job")?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            next: AtomicU64::new(1),
            submitted: Mutex::new(BTreeMap::new()),
            acknowledged: AtomicU64::new(0),
            refused_full: AtomicU64::new(0),
            begun: Mutex::new(Begun { record, read: 0, rest: Vec::new(), count: 0 }),
        });
        let threads = (0..THREADS)
            .map(|at| {
                let shared = Arc::clone(&shared);
                let random = Random::new(seed ^ (at + 1));
                let template = cluster.command("sbatch");
                let script = script.clone();
                thread::spawn(move || shared.submit(random, &template, &script))
            })
            .collect();
        Ok(Self { threads, shared })
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// How many submits were refused because the scheduler's disk is full.
    pub(crate) fn refused_full(&self) -> u64 {
        self.shared.refused_full.load(Ordering::Relaxed)
    }

    /// Reports a thread that gave up.
    pub(crate) fn failed(&mut self) -> Result<()> {
        if let Some(at) = self.threads.iter().position(JoinHandle::is_finished) {
            self.threads.remove(at).join().map_err(|_| anyhow::anyhow!("a submitting thread panicked"))??;
            bail!("a submitting thread ended early");
        }
        Ok(())
    }

    pub(crate) fn stop(self) -> Result<Submitted> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a submitting thread panicked"))??;
        }
        Ok(self.shared.submitted.lock().expect("no holder of this lock panics").clone())
    }
}

impl Shared {
    fn submit(&self, mut random: Random, template: &Command, script: &Path) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let exit = [0, 0, 0, 1, 7, 130][usize::try_from(random.below(6)).expect("below six")];
            let work = ["0", "0.1", "0.3", "1"][usize::try_from(random.below(4)).expect("below four")];
            let mut command = Command::new(template.get_program());
            for (name, value) in template.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            // Half may be run again when their supervisor is lost; the other half must then have failed.
            let requeue = if random.below(2) == 0 { "--requeue" } else { "--no-requeue" };
            command
                .args(["--parsable", requeue, "-n1", "-o", "/dev/null", "-J"])
                .arg(format!("m{number}"))
                .arg(script);
            command.args([number.to_string(), exit.to_string(), work.to_owned()]);
            command.current_dir(template.get_current_dir().context("a cluster's command has a folder")?);
            let out = command.stdin(Stdio::null()).output().context("run sbatch")?;
            let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            let id = out.status.success().then(|| said.split(';').next().unwrap_or_default().to_owned());
            if id.as_ref().is_some_and(|id| id.parse::<u32>().is_err()) {
                bail!("sbatch succeeded and printed {said:?}");
            }
            if id.is_some() {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            } else if String::from_utf8_lossy(&out.stderr).contains(FULL) {
                self.refused_full.fetch_add(1, Ordering::Relaxed);
            }
            self.submitted.lock().expect("no holder of this lock panics").insert(number, Submit { id, exit });
            self.wait_for_jobs()?;
        }
        Ok(())
    }

    /// Waits while too many acknowledged jobs have not written anything.
    fn wait_for_jobs(&self) -> Result<()> {
        wait_for("acknowledged jobs to begin", Duration::from_secs(120), || {
            let begun = self.begun.lock().expect("no holder of this lock panics").look();
            self.acknowledged.load(Ordering::Relaxed) < begun + AHEAD || self.stop.load(Ordering::Relaxed)
        })
    }
}
