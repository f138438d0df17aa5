//! The supervisor of limit (b): starts a script, waits for it, ends with its code. No records, no cgroup, no user.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let Some(script) = std::env::args_os().nth(1) else { return ExitCode::from(2) };
    let mut command = Command::new(script);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)),
        Err(_) => ExitCode::from(127),
    }
}
