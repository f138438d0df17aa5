//! The supervisor of limit (b): starts a script, waits for it, ends with its code. No records, no user.
//!
//! Further arguments are cgroup directories: it makes them, limits what each can limit, and enters them before it
//! starts the script. Whoever started it removes them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(script) = arguments.next() else { return ExitCode::from(2) };
    for group in arguments {
        if enter(Path::new(&group)).is_err() {
            return ExitCode::from(3);
        }
    }
    let mut command = Command::new(script);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)),
        Err(_) => ExitCode::from(127),
    }
}

fn enter(group: &Path) -> std::io::Result<()> {
    fs::create_dir(group)?;
    for (file, value) in
        [("cpu.cfs_quota_us", "100000"), ("memory.limit_in_bytes", "31457280"), ("pids.max", "16000")]
    {
        let controller = file.split('.').next().unwrap_or_default();
        if group.components().any(|part| part.as_os_str() == controller) {
            fs::write(group.join(file), value)?;
        }
    }
    fs::write(group.join("cgroup.procs"), "0")
}
