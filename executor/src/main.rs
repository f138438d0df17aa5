//! `sluice-executor`: runs the jobs of one node. See `--help`.
//!
//! SIGTERM and SIGINT end it; its jobs go on, and the next executor on the same state takes them back. SIGUSR2 opens its
//! log file again.

use std::process::ExitCode;

use executor::settings::{self, Arguments, Command, Variables};
use model::config::log::Level;
use service::log::Log;
use service::notify::Manager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

fn main() -> ExitCode {
    let arguments = match settings::parse(std::env::args().skip(1)) {
        Ok(Command::Run(arguments)) => arguments,
        Ok(Command::HoldCgroup) => {
            return match hold_cgroup() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("sluice-executor: error: {error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        Ok(Command::Help) => {
            print!("{}", settings::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("sluice-executor {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(sentence) => {
            eprintln!(
                "sluice-executor: error: {sentence}\nTry \"sluice-executor --help\" for more information"
            );
            return ExitCode::from(2);
        }
    };
    let log = Log::start(TARGETS, arguments.json, arguments.verbose.then_some(Level::Debug));
    match start(arguments, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-executor: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ours, among all that speaks in the log.
const TARGETS: &[&str] = &["executor", "sluice_executor", "service"];

fn start(arguments: Arguments, log: Log) -> anyhow::Result<()> {
    // One thread for agent and connection: a message wakes nobody else. What blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let variables = Variables::read(|name| std::env::var(name).ok());
    let ended = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut rotated = signal(SignalKind::user_defined2())?;
        let reopened = log.clone();
        tokio::spawn(async move {
            while rotated.recv().await.is_some() {
                reopened.reopen();
            }
        });
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping; jobs go on");
            let _ = stop.send(());
        });
        executor::daemon::run(arguments, variables, log, stopped).await
    });
    // What still runs beside (removals, look-ups) is not waited for.
    runtime.shutdown_background();
    ended
}

/// Keeps a delegated cgroup in being, until SIGTERM.
fn hold_cgroup() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let held = executor::cgroup::hold().map_err(anyhow::Error::msg)?;
        Manager::of_environment().ready(&format!("SLUICE_CGROUP={}", held.display()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
