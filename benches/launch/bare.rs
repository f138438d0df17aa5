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

/// Jobs per second over `span`.
pub(crate) fn measure(span: Duration) -> Result<f64> {
    let supervisor = build()?;
    let place = Workplace::new(1, 1, "")?;
    let script = place.folder().join("job");
    fs::write(&script, "#!/bin/sh\n").context("write a script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("open a script")?;
    let begin = Instant::now();
    let drivers: Vec<_> = (0..DRIVERS)
        .map(|_| {
            let (supervisor, script) = (supervisor.clone(), script.clone());
            thread::spawn(move || drive(&supervisor, &script, begin + span))
        })
        .collect();
    let mut jobs = 0;
    for driver in drivers {
        jobs += driver.join().map_err(|_| anyhow::anyhow!("a driver panicked"))??;
    }
    Ok(f64::from(jobs) / begin.elapsed().as_secs_f64())
}

fn drive(supervisor: &Path, script: &Path, end: Instant) -> Result<u32> {
    let mut jobs = 0;
    while Instant::now() < end {
        let status = Command::new(supervisor)
            .arg(script)
            .stdin(Stdio::null())
            .status()
            .context("start a supervisor")?;
        if !status.success() {
            bail!("a bare supervisor ended with {status}");
        }
        jobs += 1;
    }
    Ok(jobs)
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
