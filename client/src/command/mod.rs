//! The commands, one file or folder each, chosen by the name that the program is called by.
//!
//! A command reads its words, asks the scheduler, prints, and gives an exit status. It keeps nothing.

mod clusters;
mod job;
mod node;
mod sacct;
mod sacctmgr;
mod sbatch;
mod scancel;
mod scontrol;
mod sinfo;
mod squeue;
mod submit;

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use crate::api::{Client, Error};
use crate::getopt::{self, Spec, Words};
use crate::say;

/// How a command was called.
pub(crate) struct Call {
    /// The name before its messages.
    pub program: String,
    /// The words behind it.
    pub argv: Vec<OsString>,
}

impl Call {
    /// Splits the words, or prints getopt's complaint and Slurm's hint, and gives the exit status.
    pub(crate) fn split<I: Copy + PartialEq>(&self, specs: &[Spec<I>]) -> Result<Words<I>, u8> {
        getopt::split(&self.program, specs, true, &self.argv).map_err(|line| {
            say::err(line);
            say::err(format!("Try \"{} --help\" for more information", self.program));
            1
        })
    }
}

/// Runs a command's asynchronous part on this thread.
pub(crate) fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread can wait for sockets and timers");
    runtime.block_on(work)
}

/// Connects, for a single question.
pub(crate) async fn connect() -> Result<Client, Error> {
    Client::connect().await
}

/// The version that `-V` prints: ours behind the release whose texts are printed.
pub(crate) fn version() -> String {
    format!("slurm {COMPATIBLE}-sluice-{}", env!("CARGO_PKG_VERSION"))
}

/// The release of Slurm whose texts and behaviour are the reference.
pub(crate) const COMPATIBLE: &str = "26.05.5";

/// Commands of Slurm that are not built yet, and refused by name.
const NOT_BUILT: [&str; 9] =
    ["sstat", "sattach", "sbcast", "strigger", "scrontab", "sreport", "sackd", "scrun", "sview"];

/// Runs the command that the process is called by.
#[must_use]
pub fn main() -> ExitCode {
    let mut argv = std::env::args_os();
    let typed = argv.next().unwrap_or_default().to_string_lossy().into_owned();
    let name =
        Path::new(&typed).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let argv: Vec<OsString> = argv.collect();
    ExitCode::from(dispatch(&name, argv))
}

fn dispatch(name: &str, argv: Vec<OsString>) -> u8 {
    let call = Call { program: name.to_owned(), argv };
    match name {
        "sacct" => sacct::run(&call),
        "sacctmgr" => sacctmgr::run(&call),
        "sbatch" => sbatch::run(&call),
        "scancel" => scancel::run(&call),
        "scontrol" => scontrol::run(&call),
        "sinfo" => sinfo::run(&call),
        "squeue" => squeue::run(&call),
        _ if NOT_BUILT.contains(&name) => {
            say::error(name, format!("{name} is not supported by sluice yet"));
            1
        }
        _ => 1,
    }
}
