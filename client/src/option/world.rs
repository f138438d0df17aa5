//! What the options' meaning depends on besides the words: environment, folder, time, files, the user.
//!
//! Everything comes in through here, so that parsing is a function and its tests need no machine.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use model::time::Timestamp;

/// Files as a command sees them.
pub(crate) trait Files {
    /// The whole of a file; a directory reads as empty, as `read` into Slurm's buffer does.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The whole of standard input.
    fn stdin(&self) -> io::Result<Vec<u8>>;
    /// True where something is there, readable or not.
    fn exists(&self, path: &Path) -> bool;
}

/// The surroundings of a command.
pub(crate) struct World<'a> {
    /// Environment, in order.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Now.
    pub now: Timestamp,
    /// Seconds that local time is ahead of UTC at a moment.
    pub zone: &'a dyn Fn(i64) -> i32,
    /// Who runs the command.
    pub uid: u32,
    /// Name of that user.
    pub user: String,
    /// Short name of this host.
    pub host: String,
    /// File creation mask.
    pub umask: u16,
    /// Soft limits by name, without `RLIMIT_`.
    pub rlimits: Vec<(Box<str>, u64)>,
    /// Whether jobs may ask for cores or threads that are set apart for the system (`AllowSpecResourcesUsage`).
    pub spec_usage: bool,
    /// Files.
    pub files: &'a dyn Files,
}

impl World<'_> {
    /// The last value of a variable, as text.
    pub(crate) fn var(&self, name: &str) -> Option<String> {
        let value = self.env.iter().rev().find(|(known, _)| known == OsStr::new(name))?;
        Some(value.1.to_string_lossy().into_owned())
    }
}

/// The machine's own files.
pub(crate) struct RealFiles;

impl Files for RealFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.is_dir() { Ok(Vec::new()) } else { std::fs::read(path) }
    }

    fn stdin(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes)?;
        Ok(bytes)
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }
}

/// The real surroundings of this process.
pub(crate) fn real() -> World<'static> {
    let uid = nix::unistd::getuid().as_raw();
    World {
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        now: Timestamp(crate::local::now_ms()),
        zone: &crate::local::offset_s,
        uid,
        user: crate::local::user_name(uid),
        host: crate::local::host(),
        umask: umask(),
        rlimits: rlimits(),
        spec_usage: crate::connect::conf_value("AllowSpecResourcesUsage")
            .is_some_and(|text| model::config::keys::parse_flag(&text) == Some(true)),
        files: &RealFiles,
    }
}

/// Read from the kernel's status file, because the system call would change it for every thread.
pub(crate) fn umask() -> u16 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u16::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

fn rlimits() -> Vec<(Box<str>, u64)> {
    use nix::sys::resource::{Resource, getrlimit};
    [
        ("CPU", Resource::RLIMIT_CPU),
        ("FSIZE", Resource::RLIMIT_FSIZE),
        ("DATA", Resource::RLIMIT_DATA),
        ("STACK", Resource::RLIMIT_STACK),
        ("CORE", Resource::RLIMIT_CORE),
        ("RSS", Resource::RLIMIT_RSS),
        ("NPROC", Resource::RLIMIT_NPROC),
        ("NOFILE", Resource::RLIMIT_NOFILE),
        ("MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("AS", Resource::RLIMIT_AS),
    ]
    .into_iter()
    .filter_map(|(name, resource)| getrlimit(resource).ok().map(|(soft, _)| (name.into(), soft)))
    .collect()
}
