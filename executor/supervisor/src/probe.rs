//! `sluice-supervisor --probe`: what a process inside limits can do beyond them, tried and told.
//!
//! Started by the executor through an ordinary run whose cgroups have the shape of every job's. It opens a device that it
//! was denied, asks for every core, and then takes memory until it is killed. What it prints before is the finding.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use nix::libc;

use crate::sys;

/// Taken in all; the executor's limit is far below.
const MEMORY: usize = 256 << 20;
const PAGE: usize = 4096;

/// Tries everything; does not come back where memory is limited.
pub(crate) fn run() -> ExitCode {
    let device = match File::open("/dev/full") {
        Ok(_) => "open".to_owned(),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => "refused".to_owned(),
        Err(error) => error.to_string(),
    };
    let all: Vec<u32> = (0..sys::CPUS_MAX).collect();
    // Refused where none of ours is among them, which cannot be.
    let _ = sys::set_affinity(&all);
    let cores: Vec<String> = sys::affinity().iter().map(u32::to_string).collect();
    let told = format!("device {device}\ncores {}\n", cores.join(","));
    if io::stdout().write_all(told.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
        return ExitCode::FAILURE;
    }
    let mut memory = vec![0_u8; MEMORY];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    // Kept to here, and read: it must not be optimized away.
    println!("memory {}", std::hint::black_box(&memory).len());
    ExitCode::SUCCESS
}
