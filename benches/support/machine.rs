//! The machine under the numbers: what it is, how loaded, and how fast its disk syncs and its kernel starts processes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Facts and calibration, taken when a bench begins.
#[derive(Clone, Debug)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    load: String,
    /// A fixed number of steps of integer arithmetic, one after the other: what the processor does here and now.
    pub loop_ms: f64,
    /// 4 KiB appends to a zero-filled file, each followed by fdatasync.
    pub syncs_per_s: f64,
    /// `/bin/true`, one after the other.
    pub spawns_per_s: f64,
}

impl Machine {
    /// Looks and measures for `each` per figure; `folder` is on the disk that the daemons use.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn measure(folder: &Path, each: Duration) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Ok(Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            loop_ms: calibration(),
            syncs_per_s: syncs(folder, each)?,
            spawns_per_s: spawns(each)?,
        })
    }

    /// For people, one line.
    #[must_use]
    pub fn line(&self) -> String {
        self.facts().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
    }

    /// Key and value of everything.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("cpu", self.cpu.clone()),
            ("cores", self.cores.to_string()),
            ("memory_gib", self.memory_gib.to_string()),
            ("kernel", self.kernel.clone()),
            ("load_at_start", self.load.clone()),
            ("calibration_loop_ms", format!("{:.1}", self.loop_ms)),
            ("fdatasync_per_s", format!("{:.0}", self.syncs_per_s)),
            ("spawn_per_s", format!("{:.0}", self.spawns_per_s)),
        ]
        .into_iter()
    }
}

/// Milliseconds of 2^24 numbers of a generator, each made of the one before.
fn calibration() -> f64 {
    let begin = Instant::now();
    let mut random = crate::Random(1);
    let mixed = (0..1 << 24).fold(0, |mixed, _| mixed ^ random.bits());
    std::hint::black_box(mixed);
    begin.elapsed().as_secs_f64() * 1e3
}

fn syncs(folder: &Path, span: Duration) -> Result<f64> {
    let path = folder.join("calibration");
    let size = 16 << 20;
    fs::write(&path, vec![0; size]).context("fill a file")?;
    let file = File::options().write(true).open(&path).context("open a file")?;
    file.sync_all().context("sync a file")?;
    let begin = Instant::now();
    let mut count = 0u64;
    while begin.elapsed() < span {
        file.write_all_at(&[1; 4096], (count * 4096) % size as u64).context("write a file")?;
        file.sync_data().context("sync a file")?;
        count += 1;
    }
    fs::remove_file(&path).context("remove a file")?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

fn spawns(span: Duration) -> Result<f64> {
    let begin = Instant::now();
    let mut count = 0u64;
    while begin.elapsed() < span {
        Command::new("/bin/true").stdin(Stdio::null()).status().context("run /bin/true")?;
        count += 1;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
