//! The commands, one file or folder each, chosen by the name that the program is called by.
//!
//! A command reads its words, asks the scheduler, prints, and gives an exit status. It keeps nothing.

mod allocation;
mod backup;
mod clusters;
mod completion;
mod config;
mod gpus;
mod job;
mod json;
mod man;
mod node;
mod node_verb;
mod overview;
mod past;
mod prompt;
mod sacct;
mod sacctmgr;
mod salloc;
mod sattach;
mod sbatch;
mod sbcast;
mod scancel;
mod scontrol;
mod sdiag;
mod seff;
mod simulate;
mod sinfo;
mod sprio;
mod squeue;
mod srun;
mod sstat;
mod submit;
mod supervisor;
mod top;
mod up;
mod validate;
mod whatif;
mod why;

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::{Client, Error};
use crate::getopt::{self, Spec, Words};
use crate::{connect, say};

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

    /// The same for the programs that give no hint.
    pub(crate) fn split_without_hint<I: Copy + PartialEq>(&self, specs: &[Spec<I>]) -> Result<Words<I>, u8> {
        getopt::split(&self.program, specs, true, &self.argv).map_err(|line| {
            say::err(line);
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

/// Shows something once, or again and again after so many seconds. The exit status: that of what was shown last, where
/// it is not shown again.
async fn iterate(seconds: Option<u64>, mut shows: impl AsyncFnMut() -> bool) -> u8 {
    loop {
        let shown = shows().await;
        let Some(seconds) = seconds else { return u8::from(!shown) };
        say::out("\n");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Answers an option such as `--help`, which is the end of a command.
fn said<T>(text: &str) -> Result<T, u8> {
    say::out(text);
    Err(0)
}

/// How long a question waits for a scheduler that is being restarted; `MessageTimeout` where that is less.
const QUESTION_PATIENCE: Duration = Duration::from_secs(4);

/// Connects, to have something done: tries for `MessageTimeout`, as Slurm's commands do.
pub(crate) async fn connect() -> Result<Client, Error> {
    Client::connect_within(connect::message_timeout()).await
}

/// Connects, for a question whose asker would rather know soon that nobody answers.
pub(crate) async fn connect_to_ask() -> Result<Client, Error> {
    Client::connect_within(connect::message_timeout().min(QUESTION_PATIENCE)).await
}

/// Ctrl-C, from now on told here instead of ending the process.
pub(crate) struct Interrupt(Option<Signal>);

impl Interrupt {
    /// Waits for the next one; for ever where signals cannot be waited for.
    pub(crate) async fn recv(&mut self) {
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Takes Ctrl-C.
pub(crate) fn interrupt() -> Interrupt {
    Interrupt(signal(SignalKind::interrupt()).ok())
}

/// The system's words for an error, without its number.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// What `-V` prints: the release whose texts are printed, in the form that programs look for, and whose it is.
pub(crate) fn version() -> String {
    format!("slurm {COMPATIBLE}-sluice")
}

/// The release of Slurm whose texts and behaviour are the reference.
pub(crate) const COMPATIBLE: &str = "26.05.5";

/// Commands of Slurm that are not built yet, and refused by name.
const NOT_BUILT: [&str; 7] = ["sshare", "strigger", "scrontab", "sreport", "sackd", "scrun", "sview"];

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
    if name == "sluice" {
        return verb(argv);
    }
    let call = Call { program: name.to_owned(), argv };
    match name {
        "sacct" => sacct::run(&call),
        "sacctmgr" => sacctmgr::run(&call),
        "salloc" => salloc::run(&call),
        "sattach" => sattach::run(&call),
        "sbatch" => sbatch::run(&call),
        "sbcast" => sbcast::run(&call),
        "scancel" => scancel::run(&call),
        "scontrol" => scontrol::run(&call),
        "sdiag" => sdiag::run(&call),
        "seff" => seff::run(&call),
        "sinfo" => sinfo::run(&call),
        "sprio" => sprio::run(&call),
        "sstat" => sstat::run(&call),
        "squeue" => squeue::run(&call),
        "srun" => srun::run(&call),
        _ if NOT_BUILT.contains(&name) => {
            say::error(name, format!("{name} is not supported by sluice yet"));
            1
        }
        _ => {
            say::error("sluice", format!("this program is called by an unknown name: {name}"));
            say::err("sluice: \"sluice help\" lists the commands");
            2
        }
    }
}

/// `sluice [--conf FILE] VERB …`.
fn verb(argv: Vec<OsString>) -> u8 {
    let mut words = argv.into_iter();
    let mut word = words.next();
    while let Some(option) = word.as_ref().map(|word| word.to_string_lossy().into_owned()) {
        let conf = match option.strip_prefix("--conf=") {
            Some(path) => OsString::from(path),
            None if option == "--conf" => match words.next() {
                Some(path) => path,
                None => {
                    say::err("sluice: option '--conf' requires an argument");
                    return 2;
                }
            },
            None => break,
        };
        connect::name_conf(Path::new(&conf));
        word = words.next();
    }
    let Some(word) = word else { return overview::run() };
    let rest: Vec<OsString> = words.collect();
    let call = |program: &str, argv| Call { program: program.to_owned(), argv };
    match &*word.to_string_lossy() {
        "help" | "--help" | "-h" => {
            say::out(HELP);
            0
        }
        "version" | "--version" | "-V" => {
            say::out(format!("sluice {} (texts of slurm {COMPATIBLE})\n", env!("CARGO_PKG_VERSION")));
            0
        }
        "completion" => completion::run(&call("sluice", rest)),
        "man" => man::run(&call("sluice", rest)),
        "complete" => {
            // The words of a line are no options of ours.
            let words =
                rest.split_first().filter(|(first, _)| *first == "--").map_or(&rest[..], |(_, words)| words);
            completion::complete(&call("sluice", words.to_vec()))
        }
        "top" => top::run(&call("sluice", rest)),
        "up" => up::run(&call("sluice", rest)),
        "node" => node_verb::run(&call("sluice", rest)),
        "why" => why::run(&call("sluice", rest)),
        "whatif" => whatif::run(&call("sluice", rest)),
        "simulate" => simulate::run(rest),
        "config" => config::run(&call("sluice", rest)),
        "backup" => backup::run(&call("sluice", rest)),
        verb @ ("restore" | "journal") => backup::hand_over(verb, rest),
        "gpus" => gpus::run(&call("sluice", rest)),
        "validate" => validate::run(&call("sluice", rest)),
        command if command.starts_with('s') && command != "sluice" => dispatch(command, rest),
        other => {
            say::error("sluice", format!("unknown verb \"{other}\""));
            say::err("sluice: \"sluice help\" lists the verbs");
            2
        }
    }
}

const HELP: &str = "\
Usage: sluice [--conf slurm.conf] [VERB …]

Without a verb it says what runs, what is yours, and what to do next.

  up            run a cluster in the foreground: scheduler and executors
  node [NAME]   what is known of a node, and what it cannot enforce
  gpus [NODE]   every GPU's slices, who has them, and until when
  why JOB       why a job waits and what would start it now, or what became of it
  top           nodes, queue and own jobs on a screen, with keys
  whatif …      whose start moves if something were otherwise
  config check  what is made of every key of a slurm.conf
  backup FILE   the running scheduler's state in one file
  restore FILE  a state made of such a file, where there is none
  journal …     what stands in the scheduler's journal: check, show
  validate …    a job on each GPU or slice: does it see that device, and no other?
  simulate …    a recorded workload through the scheduler, in virtual time
  completion …  what bash, zsh or fish need to complete our commands
  man NAME      a command's manual page; --into DIR: all of them
  version       versions
  help          this text

and Slurm's commands, by their own names or behind sluice:
  sbatch srun salloc squeue scancel sinfo scontrol sacct sacctmgr sdiag sprio sstat seff
";
