//! Limit (b): the static bare supervisor, started again and again by two drivers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::Workplace;

const DRIVERS: usize = 2;

/// Our directories in version 1 hierarchies and in the cgroup2 tree; removed with this.
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes them below this process's own; `None` where there are no such hierarchies or no right to them.
    pub(crate) fn make() -> Result<Option<Self>> {
        let own = fs::read_to_string("/proc/self/cgroup").context("read this process's cgroups")?;
        let mut made = Self(Vec::new());
        for (controller, mount) in [("cpu", "cpu"), ("memory", "memory"), ("pids", "pids"), ("", "unified")] {
            let place = own.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                names.split(',').any(|name| name == controller).then_some(path)
            });
            let above = Path::new("/sys/fs/cgroup").join(mount);
            let path = above
                .join(place.unwrap_or_default().trim_start_matches('/'))
                .join(format!("sluice-bare-{}", std::process::id()));
            if fs::create_dir(&path).is_err() {
                return Ok(None);
            }
            made.0.push(path);
        }
        Ok(Some(made))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Jobs per second over `span`; each in fresh cgroups where that is wanted.
pub(crate) fn measure(span: Duration, groups: Option<&Groups>) -> Result<f64> {
    let supervisor = build()?;
    let place = Workplace::new(1, 1, "")?;
    let script = place.folder().join("job");
    fs::write(&script, "#!/bin/sh\n").context("write a script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("open a script")?;
    let begin = Instant::now();
    let drivers: Vec<_> = (0..DRIVERS)
        .map(|driver| {
            let (supervisor, script) = (supervisor.clone(), script.clone());
            let groups = groups.map_or_else(Vec::new, |groups| groups.0.clone());
            thread::spawn(move || drive(driver, &supervisor, &script, &groups, begin + span))
        })
        .collect();
    let mut jobs = 0;
    for driver in drivers {
        jobs += driver.join().map_err(|_| anyhow::anyhow!("a driver panicked"))??;
    }
    Ok(f64::from(jobs) / begin.elapsed().as_secs_f64())
}

fn drive(driver: usize, supervisor: &Path, script: &Path, groups: &[PathBuf], end: Instant) -> Result<u32> {
    let mut jobs = 0;
    while Instant::now() < end {
        let own: Vec<PathBuf> = groups.iter().map(|group| group.join(format!("{driver}-{jobs}"))).collect();
        let status = Command::new(supervisor)
            .arg(script)
            .args(&own)
            .stdin(Stdio::null())
            .status()
            .context("start a supervisor")?;
        if !status.success() {
            bail!("a bare supervisor ended with {status}");
        }
        for path in own {
            remove(&path)?;
        }
        jobs += 1;
    }
    Ok(jobs)
}

/// Within a moment: the kernel lets go of a directory an instant after its last process.
fn remove(path: &Path) -> Result<()> {
    let begin = Instant::now();
    while let Err(error) = fs::remove_dir(path) {
        if begin.elapsed() > Duration::from_secs(1) {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        thread::yield_now();
    }
    Ok(())
}

/// Builds the one file statically, without this package's dependencies.
fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("bare");
    fs::create_dir_all(&folder).context("make a folder")?;
    let out = folder.join("bare-supervisor");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static"]);
    rustc.arg(root.join("benches/launch/bare_supervisor.rs")).arg("-o").arg(&out);
    let ran = rustc.output().context("run rustc")?;
    if !ran.status.success() {
        bail!("rustc: {}", String::from_utf8_lossy(&ran.stderr));
    }
    Ok(out)
}
